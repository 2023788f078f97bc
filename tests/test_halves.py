from dataclasses import replace

import numpy as np
import pytest
import torch

from curvlib import data, metrics
from curvlib.curvature import input_curvature
from curvlib.runs import halves, provenance, scoring, training
from curvlib.runs.settings import TrainConfig
from curvlib.trace import Trace

CONFIG = TrainConfig(num_train=240, model="mlp", width=32, epochs=6, noise_rate=0.1)


@pytest.fixture(scope="module")
def images():
    return training.prepare(CONFIG)[0]


def test_self_confidence_by_hand():
    p = np.array([[0.7, 0.2, 0.1], [0.1, 0.1, 0.8]])
    score = halves.confident_learning(p, np.array([1, 2]))
    np.testing.assert_allclose(score, [0.8, 0.2])


@pytest.mark.parametrize(
    ("p", "labels", "message"),
    [
        ([[0.5, 0.5]], [0, 1], r"\(1, 2\) and \(2,\)"),
        ([[0.5, 0.4]], [0], "sum to 1"),
        ([[1.5, -0.5]], [0], "at least 0"),
    ],
)
def test_confident_learning_refuses_what_is_no_distribution(p, labels, message):
    with pytest.raises(ValueError, match=message):
        halves.confident_learning(np.array(p), np.array(labels))


def test_second_split_forgetting_by_hand():
    right = np.array(
        [
            # never learned, lost at once, lost and found, lost at the end, kept
            [0, 1, 1, 1, 1],
            [0, 0, 0, 1, 1],
            [0, 0, 1, 1, 1],
            [0, 0, 1, 0, 1],
        ],
        dtype=bool,
    )
    assert halves.second_split_forgetting(right).tolist() == [0, 1, 4, 3, 4]


def test_second_split_forgetting_refuses_numbers_and_a_single_state():
    with pytest.raises(ValueError, match="must be bool"):
        halves.second_split_forgetting(np.ones((3, 2)))
    with pytest.raises(ValueError, match=r"E at least 1, got bool of shape \(1, 2\)"):
        halves.second_split_forgetting(np.ones((1, 2), dtype=bool))


def test_halves_hold_half_of_each_label_and_every_sample_once():
    labels = np.repeat([0, 1, 2], [10, 7, 2])
    half = halves._split(labels, seed=3)
    for label, count in ((0, 10), (1, 7), (2, 2)):
        assert abs(2 * half[labels == label].sum() - count) <= 1
    assert (halves._split(labels, seed=4) != half).any()
    with pytest.raises(ValueError, match="label 1 occurs once"):
        halves._split(np.array([0, 0, 1]), seed=0)


def test_probabilities_come_from_the_network_that_never_saw_the_sample(
    images, tmp_path
):
    found = halves.train_on_halves(CONFIG, images, second_epochs=2, runs=tmp_path)
    assert found.probabilities.shape == (240, 10)
    assert found.correct.shape == (3, 240)
    # The same by hand: train on half 0, look at half 1.
    seen = found.half == 0
    scaling = images.statistics()
    *_, model = training.passes(CONFIG, images.select(seen), scaling=scaling)
    by_hand = scoring.probabilities(model, images.select(~seen), scaling=scaling)
    np.testing.assert_allclose(found.probabilities[~seen], by_hand, atol=1e-6)
    own = scoring.probabilities(model, images.select(seen), scaling=scaling)
    right = own.argmax(1) == images.labels[seen]
    np.testing.assert_array_equal(found.correct[0, seen], right)


def test_a_finished_half_is_read_and_a_damaged_one_is_named(
    images, tmp_path, monkeypatch
):
    first = halves.train_on_halves(CONFIG, images, second_epochs=2, runs=tmp_path)
    (folder,) = tmp_path.glob("halves-digits-*")
    (folder / "half_1.npz").unlink()  # as if killed between the halves
    calls = []
    passes = training.passes
    monkeypatch.setattr(
        training, "passes", lambda *a, **k: calls.append(1) or passes(*a, **k)
    )
    again = halves.train_on_halves(CONFIG, images, second_epochs=2, runs=tmp_path)
    assert len(calls) == 2  # one half, two stages
    np.testing.assert_array_equal(again.probabilities, first.probabilities)
    np.testing.assert_array_equal(again.correct, first.correct)
    (folder / "half_0.npz").write_bytes(b"no zip")
    with pytest.raises(ValueError, match=r"half_0\.npz is damaged"):
        halves.train_on_halves(CONFIG, images, second_epochs=2, runs=tmp_path)


def test_other_labels_are_another_training_on_halves(images, tmp_path):
    halves.train_on_halves(CONFIG, images, second_epochs=1, runs=tmp_path)
    clean = replace(images, labels=images.original_labels)
    halves.train_on_halves(CONFIG, clean, second_epochs=1, runs=tmp_path)
    assert len(list(tmp_path.glob("halves-*"))) == 2
    with pytest.raises(ValueError, match="second_epochs must be at least 1"):
        halves.train_on_halves(CONFIG, images, second_epochs=0, runs=tmp_path)


def test_gauss_newton_is_that_of_the_last_epoch_and_is_kept(
    images, tmp_path, monkeypatch
):
    trace = training.fit(CONFIG, images, runs=tmp_path)
    found = halves.gauss_newton(trace, images, chunk=100)
    x = data.normalise(images.tensor(), trace.info["mean"], trace.info["std"])
    expected = input_curvature(
        training.trained_model(trace).double(),
        x.double(),
        torch.from_numpy(images.labels),
        method="gauss-newton",
        num_probes=1,
    )
    np.testing.assert_allclose(found, expected.squared_frobenius_norm, rtol=1e-3)
    assert len(list(trace.folder.glob("gauss_newton_*.npy"))) == 1
    monkeypatch.setattr(halves, "input_curvature", None)  # nothing can be measured
    np.testing.assert_array_equal(halves.gauss_newton(trace, images), found)
    with pytest.raises(ValueError, match="not those that"):
        halves.gauss_newton(trace, images.select(np.arange(100)))


@pytest.mark.parametrize("part", ["networks", "scoring", "halves"])
def test_gauss_newton_of_another_recipe_is_measured_anew(
    images, tmp_path, part, monkeypatch
):
    config = CONFIG.changed(epochs=1)
    trace = training.fit(config, images, runs=tmp_path)
    first = halves.gauss_newton(trace, images)
    recipe = provenance.recipe
    raised = lambda name: recipe(name) + (name == part)  # noqa: E731
    monkeypatch.setattr(provenance, "recipe", raised)
    calls = []

    def counted(*given, **options):
        calls.append(1)
        return input_curvature(*given, **options)

    monkeypatch.setattr(halves, "input_curvature", counted)
    np.testing.assert_array_equal(halves.gauss_newton(trace, images), first)
    assert calls
    calls.clear()
    halves.gauss_newton(trace, images, top_k=3)  # another number of classes likewise
    assert calls


def test_gauss_newton_of_an_unfinished_run_is_not_that_of_the_finished_one(
    images, tmp_path
):
    def stop(epoch, model):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        training.fit(CONFIG, images, runs=tmp_path, on_epoch=stop)
    (folder,) = tmp_path.iterdir()
    early = halves.gauss_newton(Trace.open(folder), images)
    trace = training.fit(CONFIG, images, runs=tmp_path)
    late = halves.gauss_newton(trace, images)
    assert (early != late).mean() > 0.9


@pytest.mark.parametrize("part", ["data", "networks", "training", "scoring", "halves"])
def test_halves_of_another_recipe_are_trained_anew(images, tmp_path, part, monkeypatch):
    config = CONFIG.changed(epochs=1)
    halves.train_on_halves(config, images, second_epochs=1, runs=tmp_path)
    recipe = provenance.recipe
    raised = lambda name: recipe(name) + (name == part)  # noqa: E731
    monkeypatch.setattr(provenance, "recipe", raised)
    halves.train_on_halves(config, images, second_epochs=1, runs=tmp_path)
    assert len(list(tmp_path.glob("halves-*"))) == 2


@pytest.mark.parametrize(
    ("changes", "augment", "shift"),
    [
        ({}, False, 4),
        ({"augment": True, "shift": 1}, True, 1),
        ({"augment": True, "augment_epochs": 6, "shift": 1}, True, 1),
        ({"augment": True, "augment_epochs": 5, "shift": 1}, False, 4),
    ],
)
def test_the_second_stage_is_augmented_if_the_first_ended_so(
    images, tmp_path, monkeypatch, changes, augment, shift
):
    seen = []
    passes = training.passes
    monkeypatch.setattr(
        training, "passes", lambda c, *a, **k: seen.append(c) or passes(c, *a, **k)
    )
    config = CONFIG.changed(warmup=0.5, schedule="linear", nesterov=True, **changes)
    halves.train_on_halves(config, images, second_epochs=2, runs=tmp_path)
    first, second = seen[:2]
    assert first == config
    assert (second.augment, second.shift) == (augment, shift)
    assert second == config.changed(
        epochs=2, lr=0.01, schedule="constant", warmup=0.0, augment=augment,
        augment_epochs=None, shift=shift,
    )  # fmt: skip


def test_planted_wrong_labels_are_suspect_by_both(images, tmp_path):
    config = CONFIG.changed(num_train=600, epochs=10)
    images = training.prepare(config)[0]
    found = halves.train_on_halves(config, images, second_epochs=3, runs=tmp_path)
    oriented = halves.suspicion(
        {
            "confident_learning": halves.confident_learning(
                found.probabilities, images.labels
            ),
            "second_split_forgetting": halves.second_split_forgetting(found.correct),
        }
    )
    wrong = images.mislabelled
    assert metrics.auroc(oriented["confident_learning"].to_numpy(), wrong) > 0.9
    assert metrics.auroc(oriented["second_split_forgetting"].to_numpy(), wrong) > 0.6
