import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from curvlib import scores
from curvlib.data import Images
from curvlib.metrics import auroc
from curvlib.runs import head
from curvlib.runs.features import Features
from curvlib.runs.head import HeadConfig, Vectors
from curvlib.trace import COLUMNS, Trace

LINEAR = HeadConfig(hidden=0, epochs=12, lr=0.01)
SMALL = HeadConfig(hidden=32, epochs=4, lr=0.02)


def clusters(count=300, classes=3, wrong=15, seed=0, dimension=8, **more) -> Vectors:
    """Gaussian clusters far apart, some labels wrong; the scales differ by feature."""
    rng = np.random.default_rng(seed)
    truth = np.arange(count) % classes
    centres = 3 * rng.standard_normal((classes, dimension))
    x = centres[truth] + rng.standard_normal((count, dimension))
    given = truth.copy()
    given[:wrong] = (truth[:wrong] + 1) % classes
    return Vectors(
        features=(x * np.geomspace(0.1, 10, dimension) + 5).astype(np.float16),
        labels=given,
        original_labels=truth,
        index=100 + rng.permutation(count),
        classes=tuple("abcdefghij"[:classes]),
        name="clusters",
        **more,
    )


def wrong(vectors: Vectors) -> np.ndarray:
    return vectors.labels != vectors.original_labels


def in_order(vectors: Vectors, values: np.ndarray) -> np.ndarray:
    """From the order of the index, a trace's, to that of the vectors."""
    return values[np.argsort(np.argsort(vectors.index))]


def test_statistics_scale_each_feature_to_mean_0_and_deviation_1():
    vectors = clusters()
    mean, std = head.statistics(vectors, chunk=7)
    x = next(vectors.reader("cpu")([torch.arange(len(vectors))]))
    scaled = head.normalise(x, mean, std)[:, :, 0, 0]
    torch.testing.assert_close(scaled.mean(0), torch.zeros(8), atol=1e-4, rtol=0)
    torch.testing.assert_close(
        scaled.std(0, correction=0), torch.ones(8), atol=1e-4, rtol=0
    )


def test_a_constant_feature_stays_finite():
    vectors = clusters()
    features = vectors.features.copy()
    features[:, 3] = 7
    scaled = head.statistics(replace(vectors, features=features))
    assert scaled[1][3] == 1 / 255
    x = next(replace(vectors, features=features).reader("cpu")([torch.arange(4)]))
    assert head.normalise(x, *scaled)[:, 3].abs().max() < 1e-3


def test_the_trace_of_a_head_is_an_ordinary_trace_that_finds_wrong_labels(tmp_path):
    vectors = clusters()
    trace = head.fit_head(SMALL, vectors, runs=tmp_path)
    assert Trace.open(trace.folder).epochs.tolist() == [1, 2, 3, 4]
    assert trace.read("loss").shape == (4, 300)
    table = scores.suspicion(scores.compute(trace))
    truth = trace.samples()["label"] != trace.samples()["original_label"]
    for name, least in (
        ("cumulative_loss", 0.98),
        ("aum", 0.98),
        ("el2n", 0.98),
        ("curvature_norm", 0.6),  # in four epochs the head memorises little
    ):
        assert auroc(table[name].to_numpy(), truth.to_numpy()) > least, name
    assert list(trace.log()["epoch"]) == [1, 2, 3, 4]


def test_a_finished_head_is_read_and_other_labels_make_another_run(tmp_path):
    vectors = clusters()
    told = []
    for _ in range(2):
        trace = head.fit_head(SMALL, vectors, runs=tmp_path, on_epoch=told.append)
    assert told == [1, 2, 3, 4]
    other = head.fit_head(
        SMALL, vectors.relabelled(vectors.original_labels), runs=tmp_path
    )
    assert other.folder != trace.folder


class Stopped(Exception):
    pass


@pytest.mark.parametrize("moment", ["batch", "trained", "scored"])
def test_a_stopped_head_goes_on_to_the_same_bytes(tmp_path, monkeypatch, moment):
    vectors = clusters()
    whole = head.fit_head(SMALL, vectors, runs=tmp_path / "whole")
    monkeypatch.setattr(head, "SAVE_SECONDS", 0.0)  # after every batch
    calls = {"batch": 0, "trained": 0, "scored": 0}

    def stops(kind, function, at):
        def run(*args, **kwargs):
            calls[kind] += 1
            if moment == kind and calls[kind] == at:
                raise Stopped
            return function(*args, **kwargs)

        return run

    with monkeypatch.context() as patch:
        patch.setattr(head, "normalise", stops("batch", head.normalise, 13))
        patch.setattr(head, "score", stops("trained", head.score, 2))
        patch.setattr(Trace, "write", stops("scored", Trace.write, 3))
        with pytest.raises(Stopped):
            head.fit_head(SMALL, vectors, runs=tmp_path / "stopped")
    again = head.fit_head(SMALL, vectors, runs=tmp_path / "stopped")
    for path in sorted((whole.folder / "train").iterdir()):
        assert path.read_bytes() == (again.folder / "train" / path.name).read_bytes()


def test_scoring_in_slabs_is_scoring_at_once(tmp_path, monkeypatch):
    vectors = clusters()
    whole = head.fit_head(SMALL, vectors, runs=tmp_path / "whole")
    monkeypatch.setattr(head, "SLAB", 70)
    slabs = head.fit_head(SMALL, vectors, runs=tmp_path / "slabs")
    for name in COLUMNS:
        np.testing.assert_allclose(
            slabs.read(name), whole.read(name), rtol=2e-3, atol=1e-5, err_msg=name
        )
    assert not list(slabs.folder.glob("slab-*"))


def test_out_of_fold_probabilities_find_wrong_labels_and_suggest_the_right_class(
    tmp_path,
):
    vectors = clusters()
    found = head.out_of_fold(LINEAR, vectors, runs=tmp_path)
    assert auroc(found.loss, wrong(vectors)) > 0.99
    right = found.suggested == vectors.original_labels
    assert right[wrong(vectors)].mean() > 0.9
    assert (
        (found.place == 0) == (found.probability > found.suggested_probability)
    ).all()
    again = head.out_of_fold(LINEAR, vectors, runs=tmp_path)
    assert (again.probability == found.probability).all()


def test_no_head_is_asked_about_a_sample_that_it_was_trained_on(tmp_path):
    # Labels at random: what is learned says nothing about samples left out.
    rng = np.random.default_rng(0)
    vectors = clusters(wrong=0).relabelled(rng.integers(0, 3, 300))
    found = head.out_of_fold(
        replace(SMALL, epochs=30, weight_decay=0), vectors, runs=tmp_path
    )
    assert abs((found.place == 0).mean() - 1 / 3) < 4 * math.sqrt(2 / 9 / 300)


def test_of_some_folds_only_the_others_stay_unknown(tmp_path):
    vectors = clusters()
    found = head.out_of_fold(LINEAR, vectors, runs=tmp_path, only=1)
    assert np.isnan(found.probability).sum() == (found.suggested == -1).sum() == 240
    assert len(found.epochs) == 1


def test_folds_have_equal_shares_of_every_class():
    labels = np.repeat([0, 1, 2], [50, 25, 10])
    fold = head.folds_of(labels, 5, seed=3)
    for label, each in ((0, 10), (1, 5), (2, 2)):
        assert (np.bincount(fold[labels == label]) == each).all()
    assert (fold != head.folds_of(labels, 5, seed=4)).any()


def test_a_stopped_fold_goes_on_to_the_same_numbers(tmp_path, monkeypatch):
    vectors = clusters()
    whole = head.out_of_fold(LINEAR, vectors, runs=tmp_path / "whole")
    monkeypatch.setattr(head, "SAVE_SECONDS", 0.0)
    with monkeypatch.context() as patch:
        calls = []

        def stops(*args):
            calls.append(1)
            if len(calls) == 150:
                raise Stopped
            return normalise(*args)

        normalise = head.normalise
        patch.setattr(head, "normalise", stops)
        with pytest.raises(Stopped):
            head.out_of_fold(LINEAR, vectors, runs=tmp_path / "stopped")
    assert list((tmp_path / "stopped").rglob("fold-*"))
    again = head.out_of_fold(LINEAR, vectors, runs=tmp_path / "stopped")
    assert (again.probability == whole.probability).all()
    assert again.losses == whole.losses


def test_the_margin_alone_is_the_score_of_the_trace(tmp_path):
    vectors = clusters()
    trace = head.fit_head(SMALL, vectors, runs=tmp_path)
    margin = head.softmax_margin(SMALL, vectors, runs=tmp_path)
    expected = in_order(vectors, scores.compute(trace)["aum_softmax"].to_numpy())
    np.testing.assert_allclose(margin, expected, atol=1e-4)


def test_a_selection_reads_its_own_rows():
    vectors = clusters()
    chosen = vectors.select(np.array([5, 2])).select(np.array([1]))
    (x,) = chosen.reader("cpu")([torch.arange(1)])
    assert x[0, :, 0, 0].numpy().astype(np.float16).tolist() == (
        vectors.features[2].tolist()
    )
    assert chosen.index.tolist() == [vectors.index[2]]
    assert chosen.checksum != vectors.checksum


def test_vectors_take_labels_and_index_from_the_images(tmp_path):
    images = Images(
        images=np.zeros((3, 8, 8, 1), np.uint8),
        labels=[0, 1, 1],
        index=[7, 8, 9],
        classes=("a", "b"),
    )
    features = Features(
        vectors=np.eye(3, dtype=np.float16),
        name="x",
        size=None,
        checksum="abc",
        seconds=0.0,
        file=tmp_path,
    )
    vectors = Vectors.of(features, images)
    assert vectors.index.tolist() == [7, 8, 9] and vectors.classes == ("a", "b")


def test_wrong_shapes_labels_and_settings_are_refused():
    with pytest.raises(ValueError, match="labels must hold one integer for each of"):
        Vectors(
            features=np.zeros((3, 2)), labels=[0, 1], index=[0, 1, 2], classes=("a",)
        )
    with pytest.raises(ValueError, match=r"labels must lie in \[0, 2\), got 0 to 2"):
        Vectors(
            features=np.zeros((2, 2)), labels=[0, 2], index=[0, 1], classes=("a", "b")
        )
    with pytest.raises(ValueError, match="epochs must be positive, got 0"):
        HeadConfig(epochs=0)


def test_divergence_says_what_it_is(tmp_path):
    vectors = clusters()
    with pytest.raises(FloatingPointError, match="diverged in epoch 1 at lr 1e"):
        head.softmax_margin(replace(SMALL, lr=1e30), vectors, runs=tmp_path)


def test_a_damaged_checkpoint_is_named(tmp_path):
    vectors = clusters()
    trace = head.fit_head(SMALL, vectors, runs=tmp_path)
    (trace.folder / "checkpoint.pt").write_bytes(b"no")
    with pytest.raises(ValueError, match=r"checkpoint\.pt is damaged"):
        head.fit_head(SMALL, vectors, runs=tmp_path)
