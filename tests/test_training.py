import json
import math
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import FrozenInstanceError, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from test_folders import place  # noqa: F401, a fixture
from torch.fx.experimental.optimization import fuse

from curvlib import data, scores
from curvlib.curvature import input_curvature
from curvlib.runs import networks, provenance, scoring, training
from curvlib.runs.devices import best_device
from curvlib.runs.scoring import score
from curvlib.runs.settings import TrainConfig
from curvlib.runs.training import fit, prepare, run_name, splits_of, trained_model
from curvlib.trace import COLUMNS, Trace

QUICK = TrainConfig(
    model="mlp", width=32, num_train=64, epochs=3, batch_size=32, num_probes=2
)
# Everything that has a state or a file: momentum, batch norm, augmentation, held-out.
WHOLE = TrainConfig(
    model="slim_resnet",
    width=8,
    num_train=64,
    num_heldout=16,
    noise_rate=0.1,
    augment=True,
    epochs=4,
    batch_size=32,
    num_probes=2,
)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Nets this small gain nothing from a second, and lose much on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")  # for the processes started here
        yield
    torch.set_num_threads(before)


def parquet(trace: Trace) -> dict[str, bytes]:
    files = sorted(trace.folder.rglob("*.parquet"))
    return {str(f.relative_to(trace.folder)): f.read_bytes() for f in files}


@pytest.fixture(scope="module")
def quick(tmp_path_factory) -> Trace:
    return fit(QUICK, runs=tmp_path_factory.mktemp("quick"))


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Trace:
    return fit(WHOLE, runs=tmp_path_factory.mktemp("whole"))


# The config


@pytest.mark.parametrize(
    ("field", "value", "meaning"),
    [
        ("image_size", 7, "at least 8"),
        ("broken_files", "mend", "one of .*skip.*"),
        ("num_train", 1, "at least 2"),
        ("num_heldout", -1, "0 or more"),
        ("noise_rate", 1.0, r"a fraction in \[0, 1\)"),
        ("noise_rate", -0.1, r"a fraction in \[0, 1\)"),
        ("noise_rate", math.nan, r"a fraction in \[0, 1\)"),
        ("planted_duplicates", -1, "0 or more"),
        ("model", "resnet50", "one of .*resnet18.*"),
        ("width", 0, "positive"),
        ("activation", "sin", "one of .*softplus.*"),
        ("epochs", 0, "positive"),
        ("lr", 0.0, "positive and finite"),
        ("lr", math.inf, "positive and finite"),
        ("lr", math.nan, "positive and finite"),
        ("momentum", 1.0, r"in \[0, 1\)"),
        ("weight_decay", -1e-4, "0 or more"),
        ("weight_decay", math.nan, "0 or more"),
        ("batch_size", 1, "at least 2"),
        ("schedule", "triangle", "one of .*cosine.*"),
        ("warmup", 1.0, r"a fraction in \[0, 1\)"),
        ("warmup", -0.1, r"a fraction in \[0, 1\)"),
        ("augment_epochs", 0, "at least 1"),
        ("shift", -1, "0 or more"),
        ("precision", "float16", "one of .*bfloat16.*"),
        ("seed", -1, "0 or more"),
        ("num_probes", 0, "at least 1"),
        ("step", 0.0, "positive and finite"),
        ("step", math.nan, "positive and finite"),
        ("score_every", 0, "at least 1"),
    ],
)
def test_a_value_out_of_range_is_refused_by_name(field, value, meaning):
    with pytest.raises(ValueError, match=f"{field} must be {meaning}, got "):
        TrainConfig(**{field: value})


@pytest.mark.parametrize("field", list(TrainConfig.model_fields))
def test_a_value_of_another_type_is_refused_by_name(field):
    # Not even True for 1: in a file of settings it would be a slip.
    wrong = (
        1
        if field
        in (
            "augment",
            "nesterov",
            "score_original_labels",
            "dataset",
            "broken_files",
            "model",
            "activation",
            "schedule",
        )
        else True
    )
    for value in (
        wrong,
        [1],
        None if field not in ("num_train", "image_size", "augment_epochs") else "all",
    ):
        with pytest.raises(TypeError, match=f"{field} must be .*, got "):
            TrainConfig(**{field: value})
    if type(getattr(QUICK, field)) is int:
        with pytest.raises(TypeError, match=f"{field} must be int.*, got 2.0"):
            TrainConfig(**{field: 2.0})


def test_an_unknown_setting_is_refused_and_none_can_be_changed():
    with pytest.raises(TypeError, match="learning_rate"):
        TrainConfig(learning_rate=0.1)
    with pytest.raises(TypeError, match="positional"):
        TrainConfig("digits")
    with pytest.raises(FrozenInstanceError):
        QUICK.lr = 0.2


def test_all_faults_are_named_in_one_error():
    with pytest.raises(ValueError) as caught:
        TrainConfig(lr=0.0, epochs=2.0, modle="mlp", width=4, noise="human_worse",
                    noise_rate=0.2)  # fmt: skip
    assert str(caught.value) == (
        "5 settings are wrong: noise_rate must be 0 with noise 'human_worse', whose "
        "share of wrong labels is fixed, got 0.2; "
        "width must be at least 8 for slim_resnet, got 4; "
        "epochs must be int, got 2.0; lr must be positive and finite, got 0.0; "
        "TrainConfig has no setting 'modle'; did you mean model?"
    )
    with pytest.raises(TypeError, match="2 settings are wrong: epochs must be int"):
        TrainConfig(epochs=2.0, modle="mlp")  # only types and names
    with pytest.raises(TypeError, match="no setting 'x'; it has dataset, image_size, "):
        TrainConfig(x=1)


def test_numbers_of_numpy_are_numbers():
    config = TrainConfig(
        epochs=np.int64(3), lr=np.float32(0.5), augment=np.bool_(True), dataset="a/b/"
    )
    same = TrainConfig(epochs=3, lr=0.5, augment=True, dataset="a/b")
    assert config == same and hash(config) == hash(same)
    assert {type(v) for v in (config.epochs, config.lr, config.augment)} == {
        int, float, bool
    }  # fmt: skip
    with pytest.raises(TypeError, match=r"epochs must be int, got array\(\[3\]\)"):
        TrainConfig(epochs=np.array([3]))


def test_a_changed_config_is_checked_and_leaves_the_first_as_it_was():
    other = QUICK.changed(lr=1, epochs=5)
    assert (other.lr, other.epochs, QUICK.lr, QUICK.epochs) == (1.0, 5, 0.1, 3)
    assert other.changed(lr=0.1, epochs=3) == QUICK
    assert TrainConfig(**QUICK.as_dict()) == QUICK
    with pytest.raises(ValueError, match="lr must be positive and finite, got -1"):
        QUICK.changed(lr=-1)
    assert str(QUICK) == repr(QUICK) and eval(repr(QUICK)) == QUICK


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"nesterov": True, "momentum": 0.0},
            "nesterov must be False with mom",
        ),
        ({"augment_epochs": 2}, "augment_epochs must be None without augment"),
        ({"shift": 2}, "shift must be 4 without augment"),
        (
            {"augment": True, "augment_epochs": 4},
            "augment_epochs must be at most epochs, which is 3, got 4",
        ),
        ({"restart": 0.5}, "restart must be 0 unless augment_epochs is below epochs"),
        (
            {"augment": True, "augment_epochs": 3, "restart": 0.5},
            "restart must be 0 unless augment_epochs is below epochs, got 0.5",
        ),
    ],
)
def test_settings_that_would_have_no_effect_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        QUICK.changed(**changes)


def test_every_setting_is_described_in_a_sentence():
    for name, field in TrainConfig.model_fields.items():
        assert field.description.endswith(".") and field.description[0].isupper()
        assert f"{name}: {field.description.split()[0]}" in TrainConfig.__doc__


def name_of(config: TrainConfig) -> str:
    return run_name(config, splits_of(config, *prepare(config)))


def named(config: TrainConfig) -> str:
    """By its settings alone: of data that may not be here."""
    return run_name(config, {})


def test_the_name_of_a_run_is_of_values_not_of_their_spelling():
    assert named(TrainConfig(lr=1)) == named(TrainConfig(lr=1.0))
    assert named(TrainConfig(lr=0.10)) == named(TrainConfig())
    assert named(TrainConfig()).startswith("digits-slim_resnet-")
    mine = TrainConfig(dataset="some/where/mine.npz")
    assert named(mine).startswith("mine-slim")


def test_the_name_of_a_run_differs_for_every_setting():
    changed = {
        "dataset": "mnist", "image_size": 9, "broken_files": "skip", "num_train": 9,
        "num_heldout": 9, "noise_rate": 0.5,
        "planted_duplicates": 9, "model": "resnet18", "width": 9, "activation": "tanh",
        "epochs": 9, "lr": 0.5, "momentum": 0.5, "weight_decay": 0.5, "batch_size": 9,
        "schedule": "cosine", "augment": True, "precision": "bfloat16", "seed": 9,
        "num_probes": 9, "step": 0.5, "score_every": 9, "noise": "pair",
        "score_original_labels": True, "nesterov": True, "warmup": 0.5,
    }  # fmt: skip
    of_augmentation = {"augment_epochs": 9, "shift": 9}
    every = TrainConfig().as_dict().keys()
    assert every == changed.keys() | of_augmentation.keys() | {"restart"}
    names = {named(TrainConfig(**{field: value})) for field, value in changed.items()}
    names |= {
        named(TrainConfig(augment=True, **{field: value}))
        for field, value in of_augmentation.items()
    }
    names.add(named(TrainConfig(augment=True, augment_epochs=9, restart=0.5)))
    assert len(names | {named(TrainConfig())}) == 1 + len(every)


EARLIER = (  # the settings that there were when runs began to be named by recipes
    "dataset", "image_size", "broken_files", "num_train", "num_heldout", "noise",
    "noise_rate", "planted_duplicates", "model", "width", "activation", "epochs", "lr",
    "momentum", "weight_decay", "batch_size", "schedule", "augment", "precision",
    "seed", "num_probes", "step", "score_every", "score_original_labels",
)  # fmt: skip


def test_a_later_setting_changes_no_name_while_it_is_neutral():
    for config in (TrainConfig(), TrainConfig(augment=True, dataset="cifar10")):
        values = {name: getattr(config, name) for name in EARLIER}
        digest = provenance.digest(values, {}, training.PARTS)
        assert named(config).endswith(f"-{digest}")
    later = set(TrainConfig.model_fields) - set(EARLIER)
    assert later == TrainConfig.neutral().keys()


def test_a_run_from_before_a_setting_existed_is_read(tmp_path, monkeypatch):
    before = fit(QUICK, runs=tmp_path)
    path = before.folder / "config.json"
    config = json.loads(path.read_text())
    assert config.pop("warmup") == 0.0
    path.write_text(json.dumps(config))
    monkeypatch.setattr(training, "_train", lambda *a: pytest.fail("trained again"))
    again = fit(QUICK, runs=tmp_path)
    np.testing.assert_array_equal(again.read("loss"), before.read("loss"))
    # With another value it is another run, even in that folder by another's hand.
    other = QUICK.changed(warmup=0.5)
    before.folder.rename(tmp_path / name_of(other))
    with pytest.raises(ValueError, match=r"warmup: None there, 0\.5 requested"):
        fit(other, runs=tmp_path)


@pytest.mark.parametrize("part", ["data", "networks", "training", "scoring"])
def test_the_name_of_a_run_differs_for_another_recipe(part, monkeypatch):
    before, recipe = name_of(QUICK), provenance.recipe
    raised = lambda name: recipe(name) + (name == part)  # noqa: E731
    monkeypatch.setattr(provenance, "recipe", raised)
    assert name_of(QUICK) != before


def test_the_name_of_a_run_differs_for_other_data():
    train, _ = prepare(QUICK)
    other = train.select(np.arange(len(train) - 1))
    assert run_name(QUICK, {"train": train}) != run_name(QUICK, {"train": other})


def test_the_name_of_a_run_is_blind_to_recipes_it_does_not_depend_on(monkeypatch):
    before, recipe = name_of(QUICK), provenance.recipe
    raised = lambda name: recipe(name) + (name in ("ensembles", "halves"))  # noqa: E731
    monkeypatch.setattr(provenance, "recipe", raised)
    assert name_of(QUICK) == before


# The samples


def test_prepare_gives_noisy_labels_copies_and_clean_held_out_samples():
    config = WHOLE.changed(
        num_train=100, noise_rate=0.2, planted_duplicates=10, num_heldout=30
    )
    train, heldout = prepare(config)
    assert len(train) == 110 and len(heldout) == 30
    assert train.mislabelled[:100].sum() == 20 and train.mislabelled[100:].all()
    assert not heldout.mislabelled.any()
    first = data.load("digits").index[:100]
    np.testing.assert_array_equal(train.index[:100], first)
    assert not np.isin(heldout.index, first).any()
    # Nor is a copy's index that of an image which was not taken.
    assert not np.isin(train.index[100:], data.load("digits").index).any()
    again, _ = prepare(config)
    other, _ = prepare(config.changed(seed=1))
    assert train.checksum == again.checksum != other.checksum
    assert prepare(config.changed(num_heldout=0))[1] is None


def test_more_samples_than_there_are_are_refused():
    with pytest.raises(
        ValueError, match="num_train = 5000, but digits has 1438 images"
    ):
        prepare(QUICK.changed(num_train=5000))
    with pytest.raises(
        ValueError, match="num_heldout = 400, but digits has 359 images"
    ):
        prepare(QUICK.changed(num_heldout=400))


# The run


@pytest.mark.parametrize(
    ("model", "width", "precision"),
    [
        ("mlp", 32, "float32"),
        ("slim_resnet", 8, "float32"),
        ("strided_resnet", 16, "bfloat16"),
    ],
)
def test_a_network_learns_the_digits_and_leaves_a_trace(
    tmp_path, model, width, precision
):
    config = TrainConfig(
        model=model,
        width=width,
        precision=precision,
        num_train=200,
        num_heldout=100,
        epochs=12,
        batch_size=32,
        num_probes=1,
        score_every=4,
    )
    trace = fit(config, runs=tmp_path)
    assert trace.folder == tmp_path / name_of(config)
    assert trace.config == config.as_dict()
    assert trace.epochs.tolist() == [4, 8, 12]
    for name in COLUMNS:
        assert trace.read(name).shape == (3, 200)
        assert trace.read(name, "heldout").shape == (3, 100)
        if name != "standard_error":  # NaN for one probe
            assert np.isfinite(trace.read(name)).all()
    loss, correct = trace.read("loss").mean(1), trace.read("correct").mean(1)
    assert loss[2] < loss[0] and correct[2] > 0.9
    assert trace.read("correct", "heldout")[2].mean() > 0.7
    assert (trace.read("squared_frobenius_norm") > 0).all()
    log = trace.log()
    assert log["epoch"].tolist() == list(range(1, 13))
    assert log["train_accuracy"].iloc[-1] > 0.9
    assert (log["score_seconds"][log["epoch"] % 4 == 0] > 0).all()


def test_bfloat16_is_for_training_alone_and_resumes_with_the_same_bytes(
    tmp_path, monkeypatch
):
    config = QUICK.changed(model="slim_resnet", width=8, precision="bfloat16")
    kinds = []

    def seen(model, x, y, **options):
        kinds.append((x.dtype, torch.is_autocast_enabled("cpu")))
        assert all(p.dtype == torch.float32 for p in model.parameters())
        return input_curvature(model, x, y, **options)

    monkeypatch.setattr(scoring, "input_curvature", seen)
    whole = fit(config, runs=tmp_path / "whole")
    assert set(kinds) == {(torch.float32, False)}
    other = fit(config.changed(precision="float32"), runs=tmp_path / "other")
    assert not np.array_equal(whole.read("loss"), other.read("loss"))

    def stop(epoch, model):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(config, runs=tmp_path / "broken", on_epoch=stop)
    resumed = fit(config, runs=tmp_path / "broken")
    for field in COLUMNS:
        np.testing.assert_array_equal(resumed.read(field), whole.read(field))


def test_the_last_epoch_is_scored_whatever_score_every_says(tmp_path):
    trace = fit(QUICK.changed(epochs=5, score_every=3), runs=tmp_path)
    assert trace.epochs.tolist() == [3, 5]


def test_the_run_says_what_it_was_made_with(quick):
    info = Trace.open(quick.folder).info
    train, _ = prepare(QUICK)
    assert (info["mean"], info["std"]) == train.statistics()
    assert info["checksums"] == {"train": train.checksum}
    assert info["classes"] == list("0123456789") and info["input_shape"] == [1, 8, 8]
    assert torch.__version__.startswith(info["versions"]["torch"].split("+")[0])
    assert info["hardware"]["device"] == best_device()
    assert info["recipes"] == provenance.recipes(training.PARTS)


def by_hand(trace: Trace, images: data.Images, labels: np.ndarray, epoch: int):
    """Curvature of the network as it was trained, nothing folded, in one batch."""
    x = data.normalise(images.tensor(), trace.info["mean"], trace.info["std"])
    model = trained_model(trace)
    model.register_forward_hook(lambda *_: None)  # with hooks, a model is used as it is
    return input_curvature(
        model,
        x,
        torch.from_numpy(labels),
        num_probes=trace.config["num_probes"],
        step=trace.config["step"],
        generator=scoring.stream(trace.config["seed"], epoch, "probes"),
    )


def test_samples_are_scored_clean_and_with_the_labels_they_were_trained_on(whole):
    train, _ = prepare(WHOLE)
    assert train.mislabelled.any()
    np.testing.assert_array_equal(whole.labels, train.labels)
    given = by_hand(whole, train, train.labels, 4).loss.numpy()
    np.testing.assert_allclose(whole.read("loss")[-1], given, rtol=1e-3, atol=1e-5)
    original = by_hand(whole, train, train.original_labels, 4).loss.numpy()
    wrong = train.mislabelled
    assert (abs(whole.read("loss")[-1] - original)[wrong] > 0.05).any()


def test_wrong_labels_are_fitted_when_trained_long_enough(tmp_path):
    config = QUICK.changed(
        noise_rate=0.25, epochs=80, score_every=80, schedule="constant", width=64
    )
    trace = fit(config, runs=tmp_path)
    assert trace.read("correct")[-1].all()  # all labels given, the 16 wrong ones too
    assert trace.log()["train_accuracy"].iloc[-1] == 1


def test_every_column_is_that_of_the_network_with_batch_norm_not_folded(tmp_path):
    # A smooth network and a longer step: float32 then leaves five digits or so.
    config = WHOLE.changed(activation="softplus", step=0.03, epochs=2)
    trace = fit(config, runs=tmp_path)
    for split, images in zip(("train", "heldout"), prepare(config), strict=True):
        expected = by_hand(trace, images, images.labels, 2)
        for name in (
            "loss",
            "gradient_norm",
            "mean_hvp_norm",
            "squared_frobenius_norm",
        ):
            np.testing.assert_allclose(
                trace.read(name, split)[-1],
                getattr(expected, name),
                rtol=1e-2,
                atol=1e-4,
            )


def test_folding_batch_norm_leaves_the_function_as_it_is(whole):
    model = trained_model(whole).double()
    train, _ = prepare(WHOLE)
    x = train.select(np.arange(8)).tensor().double() / 128 - 1
    torch.testing.assert_close(fuse(model)(x), model(x), rtol=1e-9, atol=1e-9)


def test_all_splits_meet_the_same_probes_and_each_epoch_others(tmp_path):
    train, _ = prepare(QUICK)
    some = train.select(np.arange(5, 15))
    # A learning rate of nearly nothing: only the probes differ between epochs.
    trace = fit(QUICK.changed(lr=1e-30), train, some, runs=tmp_path)
    for name in COLUMNS:
        np.testing.assert_allclose(
            trace.read(name, "heldout"), trace.read(name)[:, 5:15], rtol=0.02, atol=1e-5
        )
    loss, norm = trace.read("loss"), trace.read("mean_hvp_norm")
    np.testing.assert_array_equal(loss[0], loss[1])
    assert (norm[0] != norm[1]).mean() > 0.9


def test_scoring_in_chunks_gives_the_same_scores_and_leaves_the_mode_alone(whole):
    train, _ = prepare(WHOLE)
    for mode in (True, False):
        model = trained_model(whole).train(mode)
        before = {k: v.clone() for k, v in model.state_dict().items()}
        scaling = whole.info["mean"], whole.info["std"]
        how = {"scaling": scaling, "epoch": 4, "num_probes": 2, "step": 1e-3}
        small, large = (score(model, train, chunk=c, **how) for c in (7, 64))
        assert all(module.training == mode for module in model.modules())
        torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0)
        for name in ("loss", "gradient_norm", "probability", "el2n"):
            np.testing.assert_allclose(small[name], large[name], rtol=1e-3, atol=1e-5)


def test_scoring_more_often_changes_nothing_in_the_training(tmp_path, whole):
    rarely = fit(WHOLE.changed(score_every=3), runs=tmp_path)
    assert rarely.epochs.tolist() == [3, 4]
    torch.testing.assert_close(
        trained_model(rarely).state_dict(), trained_model(whole).state_dict(),
        rtol=0, atol=0,
    )  # fmt: skip
    np.testing.assert_array_equal(rarely.read("loss"), whole.read("loss")[2:])


def test_a_run_neither_reads_nor_moves_the_global_generators(tmp_path, whole):
    torch.manual_seed(999)
    np.random.seed(999)
    before = torch.get_rng_state()
    again = fit(WHOLE, runs=tmp_path)
    assert torch.equal(torch.get_rng_state(), before)
    assert parquet(again) == parquet(whole)


def test_another_seed_gives_another_trace(tmp_path, quick):
    other = fit(QUICK.changed(seed=1), runs=tmp_path)
    assert (other.read("loss") != quick.read("loss")).mean() > 0.9


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("step", [0.1] * 6 + [0.01] * 2 + [0.001] * 2),
        ("constant", [0.1] * 10),
        ("cosine", [0.05 * (1 + math.cos(math.pi * e / 10)) for e in range(10)]),
        ("linear", [0.1 * (1 - e / 10) for e in range(10)]),
    ],
)
def test_the_learning_rate_follows_its_schedule(tmp_path, schedule, expected):
    config = QUICK.changed(schedule=schedule, epochs=10, batch_size=64, score_every=10)
    assert fit(config, runs=tmp_path).log()["lr"].tolist() == pytest.approx(expected)


@pytest.mark.parametrize(
    ("schedule", "rest"),
    [
        ("linear", [0.1 * (1 - e / 8) for e in range(8)]),
        ("step", [0.1] * 5 + [0.01] * 2 + [0.001]),
    ],
)
def test_the_learning_rate_rises_from_0_and_the_schedule_spans_the_rest(
    tmp_path, schedule, rest
):
    config = QUICK.changed(
        schedule=schedule, warmup=0.2, epochs=10, batch_size=64, score_every=10
    )
    rates = fit(config, runs=tmp_path).log()["lr"].tolist()
    assert rates == pytest.approx([0.0, 0.05, *rest])


TWO_PARTS = TrainConfig(
    model="whitened_net", width=8, num_train=64, num_heldout=16, noise_rate=0.1,
    augment=True, augment_epochs=3, restart=0.25, shift=2, epochs=5, warmup=0.2,
    schedule="linear", lr=0.2, nesterov=True, weight_decay=1e-3, batch_size=16,
    precision="bfloat16", num_probes=1,
)  # fmt: skip


def test_each_part_of_a_restarted_run_has_the_whole_warmup_and_schedule():
    config = TWO_PARTS.changed(epochs=20, augment_epochs=12)

    def at(epochs):
        return training.learning_rate(config, epochs / 20)

    # Part one: 12 epochs, 2.4 of warm-up. Part two: 8 epochs, 1.6 of warm-up.
    assert [at(e) for e in (0, 1.2, 2.4, 7.2)] == pytest.approx([0, 0.1, 0.2, 0.1])
    assert at(12 - 1e-6) == pytest.approx(0, abs=1e-7)
    assert [at(e) for e in (12, 12.8, 13.6, 16.8)] == pytest.approx(
        [0, 0.025, 0.05, 0.025]
    )
    assert at(20 - 1e-6) == pytest.approx(0, abs=1e-7)
    whole = config.changed(restart=0.0, warmup=0.0)
    assert training.learning_rate(whole, 0.6) == pytest.approx(0.2 * 0.4)
    for schedule, end in (("constant", 0.2), ("step", 0.002)):
        other = config.changed(schedule=schedule, warmup=0.0)
        rates = [training.learning_rate(other, e / 20) for e in (0, 11.9, 12, 19.9)]
        assert rates == pytest.approx([0.2, end, 0.05, end / 4])


@pytest.fixture(scope="module")
def two_parts(tmp_path_factory) -> Trace:
    return fit(TWO_PARTS, runs=tmp_path_factory.mktemp("two-parts"))


def test_the_log_shows_the_restart(two_parts):
    # The last of four steps of each epoch: 11/12 of part one, then 7/8 of part two.
    expected = [
        0.2 * (1 - 0.05 / 0.8),
        0.2 * (1 - (7 / 12 - 0.2) / 0.8),
        0.2 / 12 / 0.8,
    ]
    expected += [0.05 * (1 - (3 / 8 - 0.2) / 0.8), 0.05 / 8 / 0.8]
    assert two_parts.log()["lr"].tolist() == pytest.approx(expected)


def test_the_whitening_layer_is_set_from_training_images_and_never_trained(two_parts):
    train, _ = prepare(TWO_PARTS)
    expected = training.new_model(two_parts)
    x = data.normalise(train.tensor(), *train.statistics())
    networks.whiten(expected, x)
    found = trained_model(two_parts)
    assert torch.equal(found.whitening.weight, expected.whitening.weight)
    assert not torch.equal(found.head.weight, expected.head.weight)


def test_a_second_training_has_the_same_whitening_and_ends_with_the_same_bytes(
    two_parts,
):
    train, _ = prepare(TWO_PARTS)
    *_, model = training.passes(TWO_PARTS, train, scaling=train.statistics())
    torch.testing.assert_close(
        model.state_dict(), trained_model(two_parts).state_dict(), rtol=0, atol=0
    )


@pytest.mark.parametrize("steps", [2, 10, 14])  # in epochs 1, 3 and 4, of four steps
def test_killed_and_resumed_a_whitened_net_ends_with_the_bytes_of_an_unbroken_one(
    tmp_path, two_parts, steps
):
    config = json.dumps(TWO_PARTS.as_dict())
    killed = subprocess.run(
        [sys.executable, "-c", SELF_KILLED, "SGD.step", str(steps), config, tmp_path],
        capture_output=True,
        text=True,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    resumed = fit(TWO_PARTS, runs=tmp_path)
    assert parquet(resumed) == parquet(two_parts)
    models = (trained_model(t).state_dict() for t in (resumed, two_parts))
    torch.testing.assert_close(*models, rtol=0, atol=0)


RECIPE = QUICK.changed(  # everything that a later setting can change
    augment=True, augment_epochs=2, shift=1, nesterov=True, warmup=0.25,
    schedule="linear", epochs=4, weight_decay=1e-3,
)  # fmt: skip


def test_training_by_a_recipe_is_that_of_a_plain_loop(tmp_path):
    trace = fit(RECIPE, runs=tmp_path)
    train, _ = prepare(RECIPE)
    model = training.new_model(trace).train()
    optimizer = torch.optim.SGD(
        model.parameters(), lr=1, momentum=0.9, nesterov=True, weight_decay=1e-3
    )
    pixels, labels = train.tensor(), torch.from_numpy(train.labels)
    step = 0
    for epoch in (1, 2, 3, 4):
        generator = scoring.stream(0, epoch, "order")
        for batch in torch.randperm(64, generator=generator).split(32):
            x = pixels[batch]
            if epoch <= 2:
                x = data.augment(x, generator=generator, padding=1)
                assert not torch.equal(x, pixels[batch])
            # Eight steps: two of warm-up, then down to 0 over six.
            rate = 0.1 * (step / 2 if step < 2 else 1 - (step - 2) / 6)
            optimizer.param_groups[0]["lr"] = rate
            optimizer.zero_grad()
            x = data.normalise(x, *train.statistics())
            F.cross_entropy(model(x), labels[batch]).backward()
            optimizer.step()
            step += 1
    torch.testing.assert_close(
        trained_model(trace).state_dict(), model.state_dict(), rtol=1e-5, atol=1e-7
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"nesterov": False},
        {"warmup": 0.0},
        {"augment_epochs": None},
        {"augment_epochs": 1},
        {"shift": 4},
        {"schedule": "constant"},
    ],
)
def test_each_part_of_a_recipe_changes_the_training(tmp_path, changes):
    ours, theirs = (
        trained_model(fit(config, runs=tmp_path)).head.weight
        for config in (RECIPE, RECIPE.changed(**changes))
    )
    assert (ours != theirs).double().mean() > 0.9


def test_photographs_in_files_are_not_shifted(place, tmp_path):  # noqa: F811
    config = TrainConfig(
        dataset=str(place), image_size=16, augment=True, shift=2, epochs=1
    )
    message = "cropped at random sizes, not shifted, so shift must be 4, got 2"
    with pytest.raises(ValueError, match=message):
        fit(config, runs=tmp_path / "runs")
    assert not (tmp_path / "runs").exists()
    train, _ = prepare(config)
    with pytest.raises(ValueError, match=message):
        next(training.passes(config, train, scaling=train.statistics()))


def test_batches_are_of_equal_size_and_meet_every_sample_once(tmp_path, monkeypatch):
    seen = []
    normalise = data.normalise

    def spy(batch, mean, std):
        seen.append(batch)
        return normalise(batch, mean, std)

    monkeypatch.setattr(data, "normalise", spy)
    fit(QUICK.changed(num_train=65, epochs=2, score_every=2), runs=tmp_path)
    assert [len(batch) for batch in seen[:6]] == [22, 22, 21] * 2
    one, two = (torch.cat(seen[a : a + 3]).flatten(1).tolist() for a in (0, 3))
    assert one != two and sorted(one) == sorted(two)
    images = data.load("digits").select(np.arange(65)).tensor()
    assert sorted(one) == sorted(images.flatten(1).tolist())


def test_the_hook_is_called_after_each_epoch_with_the_model(tmp_path):
    calls = []

    def hook(epoch, model):
        assert (tmp_path / name_of(QUICK) / "checkpoint.pt").exists()
        calls.append((epoch, model.head.weight.detach().clone()))

    trace = fit(QUICK, runs=tmp_path, on_epoch=hook)
    assert [epoch for epoch, _ in calls] == [1, 2, 3]
    assert torch.equal(calls[-1][1], trained_model(trace).head.weight)
    assert not torch.equal(calls[0][1], calls[1][1])
    calls.clear()
    fit(QUICK, runs=tmp_path, on_epoch=hook)
    assert calls == []  # nothing was trained


def test_progress_names_the_epoch_and_goes_where_it_is_wanted(
    tmp_path, capsys, monkeypatch
):
    fit(QUICK, runs=tmp_path / "a")
    assert "digits seed 0 noise 0% epoch 3/3 loss" in capsys.readouterr().err
    monkeypatch.setenv("CURVLIB_PROGRESS", str(tmp_path / "news"))
    fit(QUICK, runs=tmp_path / "b")
    assert capsys.readouterr().err == ""
    assert (tmp_path / "news").read_text().count("epoch") == 3


# The columns


def test_columns_of_logits_are_those_computed_in_the_head():
    # p = (1/2, 1/4, 1/4) under each of the three labels.
    logits = torch.tensor([[0.5, 0.25, 0.25]], dtype=torch.float64).log().repeat(3, 1)
    got = scoring._of_logits(logits, torch.tensor([0, 1, 2]))
    ln2, close = math.log(2), {"rtol": 1e-12}
    np.testing.assert_allclose(got["margin"], [ln2, -ln2, -ln2], **close)
    np.testing.assert_allclose(got["probability"], [0.5, 0.25, 0.25], **close)
    np.testing.assert_allclose(got["max_probability"], [0.5] * 3, **close)
    np.testing.assert_allclose(got["softmax_margin"], [0.25, -0.25, -0.25], **close)
    np.testing.assert_allclose(got["entropy"], [1.5 * ln2] * 3, **close)
    assert got["correct"].tolist() == [True, False, False]
    squares = [0.25 + 2 / 16, 0.25 + 9 / 16 + 1 / 16, 0.25 + 1 / 16 + 9 / 16]
    np.testing.assert_allclose(got["el2n"], np.sqrt(squares), **close)


def test_columns_of_logits_agree_with_numpy_and_stay_finite_for_sure_networks():
    rng = np.random.default_rng(0)
    z, y = rng.normal(size=(50, 7)) * 3, rng.integers(0, 7, 50)
    p = np.exp(z) / np.exp(z).sum(1, keepdims=True)
    got = scoring._of_logits(torch.from_numpy(z), torch.from_numpy(y))
    rows = np.arange(50)
    others = np.where(np.eye(7, dtype=bool)[y], -np.inf, z)
    np.testing.assert_allclose(got["margin"], z[rows, y] - others.max(1))
    np.testing.assert_allclose(got["probability"], p[rows, y])
    np.testing.assert_allclose(got["entropy"], -(p * np.log(p)).sum(1))
    np.testing.assert_allclose(got["el2n"], np.linalg.norm(p - np.eye(7)[y], axis=1))
    np.testing.assert_array_equal(got["correct"], z.argmax(1) == y)
    sure = torch.tensor([[0.0, 1e4], [1e4, 0.0]])
    for values in scoring._of_logits(sure, torch.tensor([0, 0])).values():
        assert values.isfinite().all()


# Read, not trained again; refused; resumed


def test_a_finished_run_is_read_not_trained_again(quick, monkeypatch):
    before = parquet(quick)
    monkeypatch.setattr(training, "_train", lambda *a: pytest.fail("trained again"))
    again = fit(QUICK, runs=quick.folder.parent)
    np.testing.assert_array_equal(again.read("loss"), quick.read("loss"))
    assert again.info == quick.info and parquet(again) == before


def test_other_labels_under_the_same_config_are_another_run(quick, tmp_path):
    train, _ = prepare(QUICK)
    noisy = data.with_symmetric_noise(train, 0.1, seed=5)
    other = fit(QUICK, noisy, runs=tmp_path)
    assert other.folder.name != quick.folder.name
    np.testing.assert_array_equal(other.labels, noisy.labels)
    # Even in that folder, by another's hand, they are not taken for the same run.
    other.folder.rename(tmp_path / quick.folder.name)
    with pytest.raises(ValueError, match="holds a run on other images or labels"):
        fit(QUICK, train, runs=tmp_path)


def test_held_out_samples_alone_or_of_other_classes_are_refused(tmp_path):
    train, _ = prepare(QUICK)
    with pytest.raises(ValueError, match="no training samples: give both, or set num_"):
        fit(QUICK, heldout=train, runs=tmp_path)
    eleven = replace(train, classes=(*train.classes, "ten"))
    with pytest.raises(ValueError, match=r"have the same classes, got .*'ten'\)"):
        fit(QUICK, train, eleven, runs=tmp_path)
    assert not any(tmp_path.iterdir())


def test_a_damaged_checkpoint_is_refused_by_its_name(tmp_path):
    trace = fit(QUICK.changed(epochs=1), runs=tmp_path)
    path = trace.folder / "checkpoint.pt"
    path.write_bytes(path.read_bytes()[:500])
    for act in (
        lambda: fit(QUICK.changed(epochs=1), runs=tmp_path),
        lambda: trained_model(trace),
    ):
        with pytest.raises(ValueError, match=r"checkpoint.pt is damaged .*train again"):
            act()


def test_a_run_without_a_finished_epoch_has_no_trained_model(tmp_path):
    train, _ = prepare(QUICK)
    trace = Trace.create(
        tmp_path, config=QUICK.as_dict(), info={}, splits={"train": train}
    )
    with pytest.raises(FileNotFoundError, match="has no finished epoch yet"):
        trained_model(trace)


def test_a_loss_that_is_not_finite_stops_with_epoch_batch_and_advice(tmp_path):
    with pytest.raises(FloatingPointError) as caught:
        fit(WHOLE.changed(lr=1e30), runs=tmp_path)
    message = str(caught.value)
    assert "epoch 1, batch 2 of 2: the loss became nan" in message
    assert "lr 1e+30 and momentum 0.9; try lr 1e+29" in message


def test_weights_broken_by_the_last_step_of_an_epoch_stop_it_likewise(tmp_path):
    config = WHOLE.changed(lr=1e30, batch_size=64)  # one step an epoch
    with pytest.raises(
        FloatingPointError, match=r"epoch 1: the model.*; try lr 1e\+29"
    ):
        fit(config, runs=tmp_path)


def test_a_run_that_stopped_keeps_its_epochs_and_can_go_on(tmp_path, whole):
    def spoil(epoch, model):
        if epoch == 2:
            model.head.weight.data.fill_(math.inf)

    with pytest.raises(
        FloatingPointError, match="epoch 3, batch 1 of 2: the loss beca"
    ):
        fit(WHOLE, runs=tmp_path, on_epoch=spoil)
    stopped = Trace.open(tmp_path / name_of(WHOLE))
    assert stopped.epochs.tolist() == [1, 2]
    np.testing.assert_array_equal(stopped.read("loss"), whole.read("loss")[:2])
    assert stopped.log()["epoch"].tolist() == [1, 2]
    assert parquet(fit(WHOLE, runs=tmp_path)) == parquet(whole)


SELF_KILLED = """
import json, os, signal, sys
from unittest.mock import patch
import torch
from curvlib.runs import scoring, training

target, moment, config, runs = sys.argv[1:]
home, _, name = target.rpartition(".")
owner = {"SGD": torch.optim.SGD, "scoring": scoring, "os": os}[home]
original, calls = getattr(owner, name), 0

def killed(*arguments, **options):
    global calls
    calls += 1
    if calls == int(moment):
        os.kill(os.getpid(), signal.SIGKILL)
    return original(*arguments, **options)

with patch.object(owner, name, killed):
    training.fit(training.TrainConfig(**json.loads(config)), runs=runs)
"""


@pytest.mark.parametrize(
    ("target", "moment", "epochs_scored"),
    [
        # Two batches and two splits an epoch. Four files at the start, then four an
        # epoch: train, heldout, log, checkpoint.
        pytest.param("os.fsync", 2, 0, id="before the run was described"),
        pytest.param("SGD.step", 2, 0, id="in training, before any epoch"),
        pytest.param("SGD.step", 6, 2, id="in training, epoch 3"),
        pytest.param("scoring.input_curvature", 5, 2, id="in scoring, epoch 3"),
        pytest.param("os.fsync", 4 + 9, 2, id="in writing the train split, epoch 3"),
        pytest.param("scoring.input_curvature", 6, 3, id="between splits, epoch 3"),
        pytest.param("os.replace", 4 + 16, 4, id="after the last log"),
    ],
)  # fmt: skip
def test_killed_and_resumed_a_run_ends_with_the_bytes_of_an_unbroken_one(
    tmp_path, whole, target, moment, epochs_scored
):
    config = json.dumps(WHOLE.as_dict())
    command = [sys.executable, "-c", SELF_KILLED, target, str(moment), config, tmp_path]
    killed = subprocess.run(command, capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    left = Trace(tmp_path / name_of(WHOLE), {}, {})
    assert len(left.epochs) == epochs_scored
    resumed = fit(WHOLE, runs=tmp_path)
    assert parquet(resumed) == parquet(whole)
    assert not list(resumed.folder.rglob("*.partial-*"))
    without_seconds = ["epoch", "lr", "train_loss", "train_accuracy"]
    ours, theirs = (t.log()[without_seconds] for t in (resumed, whole))
    assert ours.equals(theirs)
    models = (trained_model(t).state_dict() for t in (resumed, whole))
    torch.testing.assert_close(*models, rtol=0, atol=0)


KILLED_AT_RANDOM = """
import json, os, random, signal, sys
from pathlib import Path
import torch
from curvlib.runs import networks, training
from curvlib.runs.settings import TrainConfig

torch.set_num_threads(1)
config, runs = TrainConfig(**json.loads(sys.argv[1])), Path(sys.argv[2])
# Once, since it takes long the first time: every child has it from the start.
samples = training.prepare(config)
networks.fold_batch_norm(
    networks.build(config.model, num_classes=2, input_shape=(1, 8, 8), width=8)
)
library = str(Path(training.__file__).parents[1])

def trained(folder, moment):
    # In a child process, which kills itself at one of the calls that the library makes,
    # of functions in Python or in C; gives its status, and how many calls there were.
    if child := os.fork():
        status = os.waitpid(child, 0)[1]
        return status, int(Path(f"{folder}.calls").read_text()) if not status else None
    calls = 0
    def tick(frame, event, _):
        nonlocal calls
        calls += frame.f_code.co_filename.startswith(library)
        if calls == moment:
            os.kill(os.getpid(), signal.SIGKILL)
    sys.setprofile(tick)
    training.fit(config, *samples, runs=folder, device="cpu")
    sys.setprofile(None)
    Path(f"{folder}.calls").write_text(str(calls))
    os._exit(0)

status, calls = trained(runs / "whole", None)
assert status == 0
random.seed(json.loads(sys.argv[3]))
for number in range(20):
    folder, moment = runs / f"case_{number:02d}", random.randint(1, calls)
    assert trained(folder, moment)[0] == signal.SIGKILL
    if number % 2:  # and once more, unless it is finished before
        assert trained(folder, random.randint(1, calls))[0] in (0, signal.SIGKILL)
    assert trained(folder, None)[0] == 0
"""
# Everything that a resumed run could repeat wrongly: batch norm, momentum, order,
# crops, warm-up, and epochs that are trained but not scored.
KILLED = WHOLE.changed(
    augment_epochs=3, shift=2, nesterov=True, warmup=0.25, schedule="linear", epochs=5,
    score_every=2, num_probes=1, lr=0.3,
)  # fmt: skip


def test_killed_at_20_random_moments_a_run_ends_with_the_scores_of_an_unbroken_one(
    tmp_path,
):
    config = json.dumps(KILLED.as_dict())
    done = subprocess.run(
        [sys.executable, "-c", KILLED_AT_RANDOM, config, str(tmp_path), "17"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    name = name_of(KILLED)
    whole = Trace.open(tmp_path / "whole" / name)
    assert whole.epochs.tolist() == [2, 4, 5]
    table = scores.compute(whole)
    assert table["forgetting_events"].nunique() > 1  # or equal ones would say little
    assert table["learning_time"].nunique() > 1
    cases = sorted(tmp_path.glob("case_*/"))
    assert len(cases) == 20
    for case in cases:
        resumed = Trace.open(case / name)
        pd.testing.assert_frame_equal(scores.compute(resumed), table, check_exact=True)
        assert parquet(resumed) == parquet(whole)
        assert resumed.log()["epoch"].tolist() == [1, 2, 3, 4, 5]


WAITS_AFTER_EPOCH_1 = """
import json, sys, time
from pathlib import Path
from curvlib.runs import training

config, runs = json.loads(sys.argv[1]), Path(sys.argv[2])

def hook(epoch, model):
    if epoch == 1:
        (runs / "started").touch()
        while not (runs / "go").exists():
            time.sleep(0.05)

training.fit(training.TrainConfig(**config), runs=runs, on_epoch=hook)
"""


def test_two_processes_that_need_one_run_train_it_once(tmp_path, quick, monkeypatch):
    command = [sys.executable, "-c", WAITS_AFTER_EPOCH_1, json.dumps(QUICK.as_dict())]
    first = subprocess.Popen([*command, tmp_path], stderr=subprocess.PIPE, text=True)
    try:
        while not (tmp_path / "started").exists():
            assert first.poll() is None, first.stderr.read()
            time.sleep(0.05)
        monkeypatch.setattr(training, "_train", lambda *a: pytest.fail("trained twice"))
        train, _ = prepare(QUICK)
        release = threading.Timer(1, (tmp_path / "go").touch)
        release.start()
        trace = fit(QUICK, train, runs=tmp_path)  # waits for the other, then reads
        release.join()
        assert first.wait(timeout=60) == 0
    finally:
        first.kill()
        first.stderr.close()
    assert trace.epochs.tolist() == [1, 2, 3]
    assert parquet(trace) == parquet(quick)


@pytest.mark.skipif(
    not Path(os.environ.get("CURVLIB_DATA", "none"), "cifar-10-batches-py").exists(),
    reason="no CIFAR-10 in $CURVLIB_DATA",
)
def test_photographs_are_trained_on_and_scored(tmp_path):
    config = WHOLE.changed(
        dataset="cifar10", num_train=32, epochs=1, noise_rate=0.25, num_heldout=8
    )
    trace = fit(config, runs=tmp_path)
    assert trace.info["input_shape"] == [3, 32, 32]
    assert trace.read("mean_hvp_norm").shape == (1, 32)
    assert np.isfinite(trace.read("squared_frobenius_norm")).all()
    assert trace.read("loss", "heldout").shape == (1, 8)


# What is missing or moved


def test_a_missing_epoch_of_a_finished_run_is_refused_by_its_name(tmp_path):
    trace = fit(QUICK, runs=tmp_path)
    trace._path("train", 2).unlink()
    with pytest.raises(ValueError, match=r"epoch_0002\.parquet is missing"):
        trace.read("loss")


def test_a_missing_last_epoch_is_noticed_by_the_log(tmp_path):
    trace = fit(QUICK, runs=tmp_path)
    trace._path("train", 3).unlink()
    with pytest.raises(ValueError, match=r"epoch_0003\.parquet is missing"):
        trace.read("loss")


def test_a_run_without_its_checkpoint_is_not_trained_over(tmp_path):
    trace = fit(QUICK, runs=tmp_path)
    (trace.folder / "checkpoint.pt").unlink()
    with pytest.raises(ValueError, match=r"has 3 epochs but no checkpoint\.pt"):
        fit(QUICK, runs=tmp_path)
    assert len(trace.epochs) == 3


def test_an_unfinished_run_is_not_gone_on_with_under_another_torch(tmp_path):
    def stop(epoch, model):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(QUICK, runs=tmp_path, on_epoch=stop)
    path = tmp_path / name_of(QUICK) / "run.json"
    info = json.loads(path.read_text())
    info["versions"]["torch"] = "1.0"
    path.write_text(json.dumps(info))
    with pytest.raises(ValueError, match=r"began with torch 1\.0 and is not finished"):
        fit(QUICK, runs=tmp_path)


# ------------------------------------------------------------- labels, halves


def test_original_labels_are_scored_as_a_split_of_the_wrong_ones_only(tmp_path):
    config = QUICK.changed(noise_rate=0.2, score_original_labels=True)
    trace = fit(config, runs=tmp_path)
    train, _ = prepare(config)
    wrong = train.select(train.mislabelled)
    samples = trace.samples("original_labels")
    assert samples["index"].tolist() == wrong.index.tolist()
    assert samples["label"].tolist() == wrong.original_labels.tolist()
    x = data.normalise(wrong.tensor(), trace.info["mean"], trace.info["std"])
    y = torch.from_numpy(wrong.original_labels)
    with torch.no_grad():
        loss = F.cross_entropy(trained_model(trace)(x), y, reduction="none")
    np.testing.assert_allclose(
        trace.read("loss", "original_labels")[-1], loss, rtol=1e-3, atol=1e-5
    )
    # Training and the other numbers are the same without it.
    plain = fit(config.changed(score_original_labels=False), runs=tmp_path)
    np.testing.assert_array_equal(plain.read("loss"), trace.read("loss"))
    with pytest.raises(FileNotFoundError, match="set score_original_labels"):
        plain.read("loss", "original_labels")


def test_a_width_that_makes_torch_crash_is_refused():
    with pytest.raises(ValueError, match="at least 8 for slim_resnet, got 7"):
        WHOLE.changed(width=7)
    with pytest.raises(ValueError, match="at least 8 for whitened_net, got 7"):
        WHOLE.changed(model="whitened_net", width=7)
    assert WHOLE.changed(model="mlp", width=7).width == 7


def test_human_labels_have_no_rate():
    with pytest.raises(
        ValueError, match="noise_rate must be 0 with noise 'human_worse'"
    ):
        TrainConfig(noise="human_worse", noise_rate=0.1)
    with pytest.raises(ValueError, match="noise must be one of"):
        TrainConfig(noise="random")


def test_the_last_layers_gradient_is_that_of_autograd(tmp_path):
    trace = fit(QUICK, runs=tmp_path)
    train, _ = prepare(QUICK)
    model = trained_model(trace).double()
    x = data.normalise(train.tensor(), trace.info["mean"], trace.info["std"]).double()
    got = trace.read("last_layer_gradient")[-1]
    for i in range(5):
        loss = F.cross_entropy(model(x[i : i + 1]), torch.tensor([train.labels[i]]))
        parts = torch.autograd.grad(loss, list(model.head.parameters()))
        norm = torch.cat([p.flatten() for p in parts]).norm()
        assert got[i] == pytest.approx(norm.item(), rel=1e-3, abs=1e-6)


def test_passes_train_as_fit_does(tmp_path):
    trace = fit(QUICK, runs=tmp_path)
    train, _ = prepare(QUICK)
    scaling = train.statistics()
    models_seen = list(training.passes(QUICK, train, scaling=scaling))
    assert len(models_seen) == QUICK.epochs
    torch.testing.assert_close(
        models_seen[-1].state_dict(), trained_model(trace).state_dict(), rtol=0, atol=0
    )
    p = scoring.probabilities(models_seen[-1], train, scaling=scaling, chunk=7)
    given = p[np.arange(len(train)), train.labels]
    np.testing.assert_allclose(given, trace.read("probability")[-1], atol=1e-5)
