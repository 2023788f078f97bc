"""An ensemble: the same whoever trains it, in any order, however often stopped."""

import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import joblib
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from curvlib import data
from curvlib.runs import ensembles, influence, networks
from curvlib.runs.ensembles import EnsembleConfig
from curvlib.runs.settings import TrainConfig

ROOT = Path(__file__).parents[1]
CONFIG = EnsembleConfig(
    num_models=10, width=8, epochs=2, batch_size=16, models_at_once=3, seed=5
)


@pytest.fixture(scope="module")
def digits():
    train, test = data.load("digits"), data.load("digits", split="test")
    return train.select(np.arange(60)), test.select(np.arange(30))


@pytest.fixture(scope="module")
def unbroken(digits, tmp_path_factory):
    return ensembles.train(CONFIG, *digits, runs=tmp_path_factory.mktemp("runs"))


def samples(images, test=None) -> ensembles._Samples:
    test = images.select(np.arange(1)) if test is None else test
    scaling = images.statistics()
    return ensembles._Samples(
        images.images, images.labels, test.images, test.labels, scaling, 10
    )


def assert_same(a, b):
    for name in ensembles.MASKS:
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name), name)


# ---------------------------------------------------------------- what a record is


def test_every_network_gets_so_many_samples_and_another_choice_of_them(unbroken):
    assert unbroken.inside.shape == unbroken.correct.shape == (10, 60)
    assert unbroken.correct_test.shape == (10, 30)
    assert (unbroken.inside.sum(1) == 42).all()  # 0.7 of 60
    assert len(np.unique(unbroken.inside, axis=0)) == 10
    assert unbroken.seconds > 0


def test_a_network_is_the_one_that_a_plain_loop_trains(digits):
    # Two epochs of float32 may round differently in a stack of matrices, no more.
    images, _ = digits
    number, size = 4, CONFIG.subset_size(len(images))
    found = ensembles.train_group(CONFIG, samples(images), [2, number, 9])

    plan = ensembles._Plan(CONFIG.seed, number, len(images), size)
    network = ensembles._network(CONFIG, samples(images), number)
    x = data.normalise(images.tensor(), *images.statistics())
    y = torch.from_numpy(images.labels)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    for epoch in range(2):
        order = torch.from_numpy(plan.order())
        for k, batch in enumerate(order.tensor_split(3)):  # 42 samples, 14 a step
            done = (epoch + k / 3) / 2
            optimizer.param_groups[0]["lr"] = 0.1 * (1 + np.cos(np.pi * done)) / 2
            optimizer.zero_grad()
            F.cross_entropy(network(x[batch]), y[batch]).backward()
            optimizer.step()
    inside = np.unpackbits(found["inside"][1], count=60).view(bool)
    np.testing.assert_array_equal(np.flatnonzero(inside), plan.subset)
    right = (network(x).argmax(1) == y).numpy()
    np.testing.assert_array_equal(
        np.unpackbits(found["correct"][1], count=60).view(bool), right
    )


def test_no_network_sees_a_sample_outside_its_subset(digits):
    # Other labels outside the subset must change nothing but what counts as right.
    images, test = digits
    before = ensembles.train_group(CONFIG, samples(images, test), [0])
    outside = ~np.unpackbits(before["inside"][0], count=60).view(bool)
    labels = np.where(outside, (images.labels + 1) % 10, images.labels)
    changed = samples(replace(images, labels=labels), test)
    after = ensembles.train_group(CONFIG, changed, [0])
    np.testing.assert_array_equal(after["correct_test"], before["correct_test"])
    right = [
        np.unpackbits(found["correct"][0], count=60).view(bool)[~outside]
        for found in (before, after)
    ]
    np.testing.assert_array_equal(*right)


def test_without_test_samples_there_is_nothing_to_say_of_them(digits, tmp_path):
    images, _ = digits
    found = ensembles.train(CONFIG.changed(num_models=2), images, runs=tmp_path)
    assert found.correct_test.shape == (2, 0)


# -------------------------------------------------------- the same, whoever trains


def test_the_order_of_networks_and_their_company_change_nothing(digits):
    given = samples(*digits)
    together = ensembles.train_group(CONFIG, given, range(10))
    order = np.random.default_rng(0).permutation(10)
    shuffled = ensembles.train_group(CONFIG, given, order)
    alone = [ensembles.train_group(CONFIG, given, [k]) for k in range(10)]
    for name in ensembles.MASKS:
        np.testing.assert_array_equal(shuffled[name], together[name][order])
        rows = np.concatenate([found[name] for found in alone])
        np.testing.assert_array_equal(rows, together[name])


@pytest.mark.parametrize("at_once", [1, 4, 10, 50])
def test_networks_at_once_change_nothing(at_once, digits, unbroken, tmp_path):
    config = CONFIG.changed(models_at_once=at_once)
    assert_same(ensembles.train(config, *digits, runs=tmp_path), unbroken)


@pytest.mark.parametrize("backend", ["loky", "threading", "multiprocessing"])
def test_two_jobs_give_what_one_gives(backend, digits, unbroken, tmp_path):
    # multiprocessing gives nothing before it has all, as Ray's backend.
    with joblib.parallel_config(backend):
        found = ensembles.train(CONFIG, *digits, runs=tmp_path, n_jobs=2)
    assert_same(found, unbroken)


def test_a_local_dask_cluster_gives_what_one_process_gives(digits, unbroken, tmp_path):
    distributed = pytest.importorskip("dask.distributed")
    cluster = distributed.LocalCluster(
        n_workers=2,
        threads_per_worker=1,
        dashboard_address=None,
        local_directory=tmp_path,
    )
    with cluster, distributed.Client(cluster), joblib.parallel_config("dask"):
        found = ensembles.train(CONFIG, *digits, runs=tmp_path / "runs")
    assert_same(found, unbroken)


@pytest.mark.parametrize("flushed", [False, True])
def test_threads_and_tiny_numbers_are_left_as_they_were(flushed, digits):
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    torch.set_flush_denormal(flushed)
    try:
        ensembles.train_group(CONFIG, samples(*digits), [0])
        assert torch.get_num_threads() == 2
        assert (torch.full((1,), 1e-40) * 1).item() == pytest.approx(
            0 if flushed else 1e-40, rel=1e-4, abs=0
        )
    finally:
        torch.set_num_threads(before)
        torch.set_flush_denormal(False)


# --------------------------------------------------------------- stopped, gone on


KILLED = """
import sys
from dataclasses import replace
import numpy as np
from curvlib import data
from curvlib.runs import ensembles
from curvlib.runs.ensembles import EnsembleConfig

train, test = data.load("digits"), data.load("digits", split="test")
config = EnsembleConfig(
    num_models=10, width=8, epochs=2, batch_size=16, models_at_once=3, seed=5
)
ensembles.train(
    config, train.select(np.arange(60)), test.select(np.arange(30)), runs=sys.argv[1]
)
"""


def test_an_ensemble_killed_and_gone_on_with_equals_an_unbroken_one(
    digits, unbroken, tmp_path
):
    # The third group of files is where the process is shot.
    shoot = """
import os, signal
from curvlib.runs import ensembles
write = ensembles.write_atomically
def write_and_die(path, content):
    if path.name.startswith("models_000006"):
        os.kill(os.getpid(), signal.SIGKILL)
    write(path, content)
ensembles.write_atomically = write_and_die
"""
    done = subprocess.run([sys.executable, "-c", shoot + KILLED, str(tmp_path)])
    assert done.returncode == -signal.SIGKILL
    (folder,) = tmp_path.iterdir()
    kept = sorted(folder.glob("models_*.npz"))
    assert len(kept) == 2
    times = [file.stat().st_mtime_ns for file in kept]
    assert_same(ensembles.train(CONFIG, *digits, runs=tmp_path), unbroken)
    assert [file.stat().st_mtime_ns for file in kept] == times  # not trained again


def test_more_networks_are_added_to_those_there_are(digits, unbroken, tmp_path):
    first = ensembles.train(CONFIG.changed(num_models=6), *digits, runs=tmp_path)
    (folder,) = tmp_path.iterdir()
    kept = {file: file.stat().st_mtime_ns for file in folder.glob("models_*.npz")}
    more = ensembles.train(CONFIG, *digits, runs=tmp_path)
    assert {file: file.stat().st_mtime_ns for file in kept} == kept
    assert_same(more, unbroken)
    np.testing.assert_array_equal(more.correct[:6], first.correct)


def test_other_data_or_settings_have_a_folder_of_their_own(digits):
    images, test = digits
    names = {
        ensembles.run_name(CONFIG, images, test),
        ensembles.run_name(CONFIG, images),
        ensembles.run_name(CONFIG, images.select(np.arange(59)), test),
        ensembles.run_name(CONFIG.changed(seed=6), images, test),
        ensembles.run_name(CONFIG.changed(ratio=0.5), images, test),
    }
    assert len(names) == 5
    more = CONFIG.changed(num_models=1000)
    assert ensembles.run_name(more, images, test) in names


def test_a_damaged_file_is_named(digits, tmp_path):
    ensembles.train(CONFIG, *digits, runs=tmp_path)
    (folder,) = tmp_path.iterdir()
    file = folder / "models_000003_000006.npz"
    file.write_bytes(file.read_bytes()[:50])
    with pytest.raises(ValueError, match=r"models_000003_000006\.npz is damaged"):
        ensembles.train(CONFIG, *digits, runs=tmp_path)


# ------------------------------------------------------------------------ refusals


@pytest.mark.parametrize(
    ("changes", "error", "match"),
    [
        ({"num_models": 0}, ValueError, "num_models must be at least 1, got 0"),
        ({"num_models": 2.0}, TypeError, "num_models must be int"),
        ({"models_at_once": 0}, ValueError, "models_at_once must be at least 1"),
        ({"ratio": 1.0}, ValueError, r"ratio must be a share in \(0, 1\).*got 1.0"),
        ({"epochs": 0}, ValueError, "epochs must be positive, got 0"),
        ({"model": "vgg"}, ValueError, "model must be one of"),
    ],
)
def test_settings_out_of_range_are_refused(changes, error, match):
    with pytest.raises(error, match=match):
        EnsembleConfig(**changes)


def test_all_faults_of_an_ensembles_settings_are_named_in_one_error():
    with pytest.raises(ValueError) as caught:
        EnsembleConfig(ratio=0, epochs=1.5, models=3, model="slim_resnet", width=4)
    assert str(caught.value) == (
        "4 settings are wrong: ratio must be a share in (0, 1), so that some samples "
        "are left out, got 0; width must be at least 8 for slim_resnet, got 4; epochs "
        "must be int, got 1.5; EnsembleConfig has no setting 'models'; did you mean "
        "model?"
    )
    for field in EnsembleConfig.model_fields.values():
        assert field.description.endswith(".")


def test_a_network_with_batch_norm_is_refused(digits, tmp_path):
    config = CONFIG.changed(model="slim_resnet")
    with pytest.raises(ValueError, match=r"slim_resnet has buffers.*use 'mlp'"):
        ensembles.train(config, *digits, runs=tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_ratio_that_leaves_nothing_out_is_refused(digits, tmp_path):
    config = CONFIG.changed(ratio=0.999)
    with pytest.raises(ValueError, match=r"0\.999 of 60 samples is 60"):
        ensembles.train(config, *digits, runs=tmp_path)


def test_test_samples_of_other_classes_are_refused(digits, tmp_path):
    images, test = digits
    other = replace(test, classes=[f"digit {k}" for k in range(10)])
    with pytest.raises(ValueError, match="must be of the same classes"):
        ensembles.train(CONFIG, images, other, runs=tmp_path)


def test_a_network_that_diverges_is_named(digits):
    config = CONFIG.changed(lr=1e30)
    with pytest.raises(
        FloatingPointError, match=r"network 7 .*diverged.*try lr 1e\+29"
    ):
        ensembles.train_group(config, samples(*digits), [7])


def test_one_network_of_the_kind_is_trained_by_the_same_settings():
    config = EnsembleConfig(width=8, lr=1, seed=3).training(dataset="mnist", seed=4)
    expected = TrainConfig(
        dataset="mnist",
        model="mlp",
        width=8,
        epochs=20,
        lr=1.0,
        batch_size=64,
        schedule="cosine",
        seed=4,
    )
    assert config == expected


# ----------------------------------------------------- against a brute-force answer


def leave_one_out(images, config, repeats):
    """Memorization as it is defined, by a plain loop; counts of right, each [N].

    For every sample: networks on a random subset with it, and the same subset with
    another sample in its place. Other seeds, no stacking, nothing shared with curvlib's
    ensembles but the kind of network.
    """
    rng = np.random.default_rng(2024)
    x = data.normalise(images.tensor(), *images.statistics())
    y = torch.from_numpy(images.labels)
    size = round(config.ratio * len(x))
    right = np.zeros((2, len(x)))
    for i in range(len(x)):
        others = np.delete(np.arange(len(x)), i)
        for _ in range(repeats):
            chosen = rng.choice(others, size, replace=False)
            for side, subset in enumerate((chosen, np.append(chosen[:-1], i))):
                network = networks.build(
                    "mlp",
                    num_classes=10,
                    input_shape=x.shape[1:],
                    width=config.width,
                    seed=int(rng.integers(2**31)),
                )
                optimizer = torch.optim.SGD(
                    network.parameters(), lr=config.lr, momentum=config.momentum
                )
                for _ in range(config.epochs):  # of one batch: the whole subset
                    loss = F.cross_entropy(network(x[subset]), y[subset])
                    optimizer.zero_grad()
                    loss.backward()
                    optimizer.step()
                with torch.no_grad():
                    right[side, i] += network(x[[i]]).argmax(1).item() == y[i].item()
    return right


def test_estimates_are_within_three_standard_errors_of_leaving_each_sample_out():
    images = data.load("digits").select(np.arange(40))
    images = data.with_symmetric_noise(images, 0.2, seed=0)  # 8 to learn by heart
    config = EnsembleConfig(
        num_models=1000,
        width=16,
        epochs=20,
        lr=0.2,
        batch_size=40,
        schedule="constant",
        models_at_once=200,
    )
    found = [
        ensembles.train_group(config, samples(images), range(k, k + 200))
        for k in range(0, 1000, 200)
    ]
    inside, correct = (
        np.concatenate([np.unpackbits(f[name], axis=1, count=40) for f in found]) > 0
        for name in ("inside", "correct")
    )
    ours = influence.memorization(inside, correct)
    assert ours.undefined == 0

    repeats = 20
    right = leave_one_out(images, config, repeats)
    truth = (right[1] - right[0]) / repeats
    # The variance of both, from what they say together of each side's probability.
    variance = 0.0
    for mask, theirs in ((~inside, right[0]), (inside, right[1])):
        n, k = mask.sum(0), (mask & correct).sum(0)
        p = (k + theirs) / (n + repeats)
        variance = variance + p * (1 - p) * (1 / n + 1 / repeats)
    apart = np.abs(ours.value - truth) / np.sqrt(variance)
    assert apart.max() < 3
    # Errors of the size that is claimed: the mean square of z is 1 +- 0.22 of 40.
    assert 0.5 < np.mean(apart**2) < 1.6
    # And there is something to find: it takes having seen a wrong label to give it.
    wrong = images.mislabelled
    assert ours.value[wrong].min() > ours.value[~wrong].mean() > 0
