import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from curvlib import metrics
from curvlib.runs import halves
from curvlib.runs.settings import TrainConfig
from curvlib.runs.training import fit, prepare
from curvlib.scores import FROM_TRACE
from curvlib.studies import mislabelled

SMALL = {
    "model": "mlp",
    "num_train": 200,
    "num_unseen": 50,
    "epochs": 3,
    "second_epochs": 1,
    "num_timed": 64,
}
OF_TRACE = [name for name in FROM_TRACE if name not in ("random", *halves.SIGNS)]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return str(tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def by_scalars(runs):
    return mislabelled.measure(**SMALL, noise_rate=0.2, seed=3, runs=runs)


@pytest.fixture(scope="module")
def planted(runs):
    return mislabelled.measure(
        **SMALL | {"second_epochs": 0}, planted_duplicates=25, seeds=[0], runs=runs
    )


def test_one_cell_of_the_table_of_wrong_labels_is_rerun_by_scalars(by_scalars):
    found = by_scalars.tables["metrics"]
    assert set(found["noise_rate"]) == {0.2} and set(found["seed"]) == {3}
    expected = OF_TRACE + list(halves.SIGNS) + ["random"]
    assert sorted(found["score"]) == sorted(expected)
    assert found.notna().all(axis=None)  # no empty cell
    table = by_scalars.tables["scores.parquet"]
    images, _ = prepare(TrainConfig(num_train=200, noise_rate=0.2, seed=3))
    order = np.argsort(images.index)
    np.testing.assert_array_equal(table["label"], images.labels[order])
    np.testing.assert_array_equal(
        table["original_label"], images.original_labels[order]
    )
    wrong = (table["label"] != table["original_label"]).to_numpy()
    for _, row in found.iterrows():
        value = metrics.auroc(table[row["score"]].to_numpy(), wrong)
        assert row["auroc"] == pytest.approx(value, abs=1e-4)


def test_held_out_images_are_counted_at_every_scored_epoch(runs):
    given = SMALL | {"second_epochs": 0, "num_heldout": 40}
    more = {"nesterov": True, "augment_epochs": 2, "restart": 0.5, "shift": 1}
    tables = mislabelled.measure(
        **given, noise_rate=0.2, seeds=[0], augment=True, more_settings=more, runs=runs
    ).tables
    config = TrainConfig(
        **{name: given[name] for name in ("model", "num_train", "epochs")},
        **more,
        augment=True,
        batch_size=64,
        schedule="cosine",
        noise_rate=0.2,
        num_heldout=40,
        score_original_labels=True,
    )
    known = {file.name for file in Path(runs).iterdir()}
    trace = fit(config, runs=runs)
    assert trace.folder.name in known, "the study has to make the same run"
    course = tables["course"]
    assert course["epoch"].tolist() == [1, 2, 3]
    right = trace.read("correct", "heldout").mean(1)
    np.testing.assert_allclose(course["right on unseen"], right)
    assert tables["fitted"]["right on unseen"].tolist() == [right[-1]]
    learned = tables["fitted"]["wrong labels learned"].iloc[0]
    assert course["wrong labels learned"].iloc[-1] == learned


def test_of_many_samples_only_some_scores_are_kept(runs, monkeypatch):
    monkeypatch.setattr(mislabelled, "NUM_KEPT", 100)
    tables = mislabelled.measure(
        **SMALL | {"second_epochs": 0}, noise_rate=0.2, seed=3, runs=runs
    ).tables
    kept = {"seed", "index", "label", "original_label", *mislabelled.KEPT}
    assert set(tables["scores.parquet"]) == kept
    assert "course" not in tables


def test_planted_duplicates_are_counted_both_ways(planted):
    config = TrainConfig(num_train=200, planted_duplicates=25, seed=0)
    images, _ = prepare(config)
    copies = images.source != images.index
    both = copies | np.isin(images.index, images.source[copies])
    assert both.sum() == 50
    table = planted.tables["scores.parquet"]
    assert len(planted.tables["planted"]) == len(OF_TRACE) + 2  # Gauss-Newton, random
    for _, row in planted.tables["planted"].iterrows():
        score = table[row["score"]].to_numpy()
        values = metrics.auroc(score, both), metrics.auroc(score, copies)
        found = row["both copies"], row["only the wrong one"]
        assert found == pytest.approx(values, abs=1e-4)
    listed = planted.tables["copies"]
    np.testing.assert_array_equal(listed["index"], images.index[copies])
    np.testing.assert_array_equal(listed["source"], images.source[copies])


def test_every_image_that_the_page_shows_is_kept_with_its_index(by_scalars, planted):
    for measured, config in (
        (by_scalars, TrainConfig(num_train=200, noise_rate=0.2, seed=3)),
        (planted, TrainConfig(num_train=200, planted_duplicates=25, seed=0)),
    ):
        tables = measured.tables
        index, pixels = tables["shown"]["index"], tables["images"]
        wanted = {*tables["top"]["index"], *tables["fooled"]["index"]}
        assert set(index) == wanted and len(index) == len(pixels) == len(wanted)
        assert pixels.dtype == np.uint8
        images, _ = prepare(config)
        rows = pd.Index(images.index).get_indexer(index)
        np.testing.assert_array_equal(pixels, images.images[rows])
        assert list(tables["classes"]["class"]) == list(images.classes)


def test_the_highest_curvature_comes_first(by_scalars):
    table = by_scalars.tables["scores.parquet"].set_index("index")
    top = by_scalars.tables["top"]["index"]
    assert len(top) == mislabelled.NUM_TOP
    assert (np.diff(table["curvature_square"][top]) <= 0).all()
    rest = table["curvature_square"].drop(top)
    assert table["curvature_square"][top].min() >= rest.max()


def test_what_was_fitted_is_counted_on_the_labels_trained_on(by_scalars, planted):
    row = by_scalars.tables["fitted"].iloc[0]
    assert (row["samples"], row["wrong labels"]) == (200, 40)
    assert row["share wrong"] == pytest.approx(0.2)
    table = by_scalars.tables["scores.parquet"]
    wrong = table["label"] != table["original_label"]
    # Learned from the last scored epoch on, or earlier: 3 epochs were scored.
    right = table["learning_time"] <= 3
    assert row["wrong labels learned"] == pytest.approx(right[wrong].mean())
    assert row["other labels learned"] == pytest.approx(right[~wrong].mean())
    assert 0 <= row["right on unseen"] <= 1
    assert 0 <= row["wrong never forgotten"] <= 1
    assert np.isnan(planted.tables["fitted"]["wrong never forgotten"].iloc[0])


def test_without_unseen_images_no_test_split_is_needed(runs, monkeypatch):
    from curvlib import data

    load = data.load

    def no_test_split(*arguments, split="train", **more):
        assert split == "train"
        return load(*arguments, split=split, **more)

    monkeypatch.setattr(data, "load", no_test_split)
    found = mislabelled.measure(
        **SMALL | {"num_unseen": 0, "second_epochs": 0}, noise_rate=0.2, runs=runs
    )
    assert np.isnan(found.tables["fitted"]["right on unseen"].iloc[0])


def test_halves_are_trained_on_at_the_rates_asked_for_only(runs):
    found = mislabelled.measure(
        **SMALL, noise_rates=[0.1, 0.2], halves_rates=[0.1], runs=runs
    ).tables
    counts = found["metrics"].groupby("score")["noise_rate"].unique()
    assert list(counts["confident_learning"]) == [0.1]
    assert list(counts["second_split_forgetting"]) == [0.1]
    assert sorted(counts["curvature_square"]) == [0.1, 0.2]
    # All other tables are about the main rate.
    assert len(found["scores.parquet"]) == 200
    assert set(found["combined"]["seed"]) == {0}
    assert set(found["cost"]["score"]) == set(found["metrics"]["score"])
    assert found["cost"].notna().all(axis=None)


def test_the_leak_changes_no_score_that_does_not_look_at_the_label(by_scalars):
    given, true = (
        by_scalars.tables[name].set_index("score") for name in ("metrics", "leaked")
    )
    assert set(true.index) == {*OF_TRACE, "random"}
    for name in ("entropy", "in_confidence_max_last", "random"):
        assert true["auroc"][name] == given["auroc"][name]
    assert true["auroc"]["cumulative_loss"] != given["auroc"]["cumulative_loss"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"noise_rate": 0.0}, r"between 0 and 1, got \[0.0\]"),
        ({"noise_rates": [0.1, 1.0]}, r"between 0 and 1, got \[0.1, 1.0\]"),
        ({"noise_rates": []}, r"between 0 and 1, got \[\]"),
        ({"seeds": []}, "at least one seed"),
    ],
)
def test_a_study_without_wrong_labels_or_seeds_is_refused(given, message):
    with pytest.raises(ValueError, match=message):
        mislabelled.measure(**SMALL, **given)


def test_noise_rates_are_left_out_where_labels_are_wrong_in_another_way():
    assert mislabelled.rates_of("human_noisy", 0.1, None, 0) == [0.0]
    assert mislabelled.rates_of("symmetric", 0.1, [0.2], 5) == [0.0]
    assert mislabelled.rates_of("pair", 0.1, [0.2, 0.3], 0) == [0.2, 0.3]


def test_costs_are_counted_in_trainings():
    timing = pd.DataFrame(
        {
            "what": [
                "training",
                "logits",
                "input gradient",
                "curvature, n = 1",
                "Gauss-Newton",
            ],
            "over_training": [1.0, 0.3, 0.8, 1.6, 5.0],
        }
    )
    cost = mislabelled.trainings_of_scores(
        timing, epochs=10, scored_epochs=5, num_probes=1, second_epochs=4
    )
    assert cost["curvature_square"] == pytest.approx(1 + 1.6 * 5 / 10)
    assert cost["curvature_last"] == pytest.approx(1 + 1.6 / 10)
    assert cost["cumulative_loss"] == pytest.approx(1 + 0.3 * 5 / 10)
    assert cost["gauss_newton"] == pytest.approx(1 + 5 / 10)
    assert cost["confident_learning"] == 1
    assert cost["second_split_forgetting"] == pytest.approx(1.4)
    assert cost["random"] == 0


def test_the_samples_that_fool_a_score_are_listed_with_their_rank():
    table = pd.DataFrame(
        {"aum": [5.0, 4.0, 3.0, 3.0, 1.0], "entropy": np.arange(5.0)}  # no METHOD
    )
    wrong = np.array([False, True, False, False, True])
    found = mislabelled.fooled_by(table, wrong, np.array([10, 11, 12, 13, 14]), count=2)
    assert set(found["score"]) == {"aum"}
    alarms, misses = (
        found[found["kind"] == kind] for kind in ("false alarm", "missed")
    )
    assert alarms["index"].iloc[0] == 10 and alarms["index"].iloc[1] in (12, 13)
    assert alarms["rank"].tolist() == [1, 3] and alarms["tied"].tolist() == [1, 2]
    assert misses["index"].tolist() == [14, 11] and misses["rank"].tolist() == [5, 2]


def test_a_combination_of_one_score_is_that_score():
    rng = np.random.default_rng(0)
    wrong = np.arange(60) < 20
    names = ("aum", "cumulative_loss", "el2n", "curvature_norm")
    table = pd.DataFrame({name: wrong + rng.normal(0, 1, 60) for name in names})
    found = mislabelled.combine(table, wrong, seed=0)
    assert set(found["scores"]) == set(mislabelled.SETS)
    alone = found.set_index(["scores", "how"])["auroc"]["aum", "rank average"]
    assert alone == pytest.approx(metrics.auroc(table["aum"].to_numpy(), wrong))
    joined = found.set_index(["scores", "how"])["auroc"]
    assert joined["aum + curvature", "rank average"] > alone  # two independent looks


def test_few_wrong_labels_are_combined_by_ranks_alone():
    wrong = np.arange(60) < 4
    names = ("aum", "cumulative_loss", "el2n", "curvature_norm")
    table = pd.DataFrame({name: np.arange(60.0) for name in names})
    found = mislabelled.combine(table, wrong, seed=0)
    assert set(found["how"]) == {"rank average"}


def test_a_copy_alone_and_a_copy_with_its_original_are_two_truths():
    index, source = np.arange(6), np.array([0, 1, 2, 3, 0, 1])
    copies, both = mislabelled.copies_and_both(index, source)
    assert copies.tolist() == [False] * 4 + [True] * 2
    assert both.tolist() == [True, True, False, False, True, True]
    table = pd.DataFrame({"aum": [0.0, 0.0, 1.0, 1.0, 2.0, 2.0]})
    row = mislabelled.planted_both_ways(table, index, source).iloc[0]
    assert row["only the wrong one"] == 1
    assert row["both copies"] == 0.5  # the copies above, the originals below


def test_drawing_needs_no_torch():
    code = (
        "import sys, curvlib.studies.wrong_label_claims; "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
