"""Memorization measured here: known answers, and its tables from a small ensemble."""

from itertools import combinations

import numpy as np
import pandas as pd
import pytest

from curvlib import data
from curvlib.runs import ensembles, influence
from curvlib.runs.settings import TrainConfig
from curvlib.runs.training import prepare
from curvlib.scores import FROM_TRACE
from curvlib.studies import agreement, memorization

RNG = np.random.default_rng(0)
SMALL = {
    "num_train": 200,
    "num_test": 100,
    "num_models": 40,
    "n_jobs": 1,
    "seeds": [0],
    "width": 16,
    "epochs": 3,
    "num_top": 20,
}


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """A measurement with small parameters, and the folder of its runs."""
    folder = tmp_path_factory.mktemp("memorization")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CURVLIB_PROGRESS", str(folder / "progress"))
        runs = folder / "runs"
        return memorization.measure(**SMALL, runs=str(runs)), runs


@pytest.fixture
def toy_ensemble():
    """Twelve networks on thirty samples; each sample is memorised by its own share."""
    inside = RNG.random((40, 30)) < 0.5
    outside_right = RNG.random((40, 30)) < np.linspace(0, 1, 30)
    right = np.where(inside, True, outside_right)
    return ensembles.Ensemble(inside, right, RNG.random((40, 25)) < 0.5, seconds=80.0)


# ------------------------------------------------ a learner whose answer is known


@pytest.mark.parametrize("size", [1, 3, 5])
def test_exact_memorization_is_that_of_all_subsets(size):
    images, labels = RNG.normal(size=(6, 2)), np.array([0, 0, 1, 1, 0, 1])
    nearest = memorization.neighbours(images)
    exact = memorization.exact_memorization(nearest, labels, size)
    for i in range(6):
        right = []
        for subset in combinations([j for j in range(6) if j != i], size):
            distance = [np.linalg.norm(images[j] - images[i]) for j in subset]
            right.append(labels[subset[int(np.argmin(distance))]] == labels[i])
        # It is always right on an image that it was given.
        assert exact[i] == pytest.approx(1 - np.mean(right))


def test_neighbours_are_all_other_images_the_nearest_first():
    nearest = memorization.neighbours(np.array([[0.0], [1.0], [3.0]]))
    assert nearest.tolist() == [[1, 2], [0, 2], [1, 0]]


def test_the_standard_errors_of_the_known_learner_mean_what_they_say():
    images, labels = RNG.normal(size=(80, 2)), RNG.integers(0, 2, 80)
    index = np.arange(80)[::-1]
    known = memorization.nearest_neighbour(images, labels, index, 0.7, 400)
    assert list(known["index"]) == list(index)
    sure = known["standard_error"] > 0
    assert sure.sum() > 40
    assert 0.7 < memorization.error_ratio(known) < 1.4


def test_the_error_ratio_leaves_out_estimates_without_an_error():
    known = pd.DataFrame(
        {
            "exact": [0.5, 0.5, 0.0],
            "estimate": [0.7, 0.1, 0.3],
            "standard_error": [0.1, 0.1, 0.0],
        }
    )
    # Ratios of 2 and -4.
    assert memorization.error_ratio(known) == pytest.approx(np.sqrt(10))


# -------------------------------------------------------- what the ensemble tells


def test_accuracy_is_told_inside_outside_and_on_test_images():
    inside = np.array([[1, 0], [0, 1]], bool)
    correct = np.array([[1, 1], [0, 1]], bool)
    test = np.array([[1, 0, 0], [0, 1, 0]], bool)
    found = memorization.accuracy(ensembles.Ensemble(inside, correct, test, 1.0))
    assert found["accuracy"].tolist() == pytest.approx([1.0, 0.5, 2 / 6])


def test_the_distribution_counts_images_without_a_value_apart():
    table = pd.DataFrame(
        {
            "memorization": [0.0, 0.04, 0.5, np.nan],
            "standard_error": [0.0, 0.1, 0.2, np.nan],
        }
    )
    found = memorization.distribution(table).set_index("fact")["value"]
    assert found["mean memorization"] == "0.180"
    assert found["images within 0.05 of zero"] == "67%"
    assert found["images above 0.25"] == "33.3%"
    assert found["images with a standard error of 0"] == "33%"
    assert found["images in all subsets or in none"] == "1"


def test_the_half_that_tells_has_no_part_in_the_choice(toy_ensemble):
    first, second = memorization.halves(toy_ensemble)
    order = memorization.most_memorised(first, second)
    assert (np.diff(first.value[order]) <= 0).all()
    both = np.isfinite(first.value) & np.isfinite(second.value)
    assert sorted(order) == sorted(np.flatnonzero(both))
    other = toy_ensemble._replace(correct=toy_ensemble.correct.copy())
    other.correct[20:] ^= True  # only the second half differs
    again = memorization.most_memorised(*memorization.halves(other))
    np.testing.assert_array_equal(order, again)


def test_a_planted_influence_is_found_and_each_image_is_in_one_pair(toy_ensemble):
    # Test image 7 is right just when training image 3 was given.
    toy_ensemble.correct_test[:, 7] = toy_ensemble.inside[:, 3]
    pairs, counts = memorization.influential(toy_ensemble, np.array([5, 3, 8]))
    assert (pairs["row"][0], pairs["column"][0]) == (1, 7)
    assert pairs[["first_half", "second_half"]].iloc[0].tolist() == [1, 1]
    assert pairs["row"].is_unique and pairs["column"].is_unique
    assert counts.iloc[0]["searched"] == 3 and counts.iloc[0]["pairs"] == 75
    first, second = (
        influence.influence(toy_ensemble.inside[p][:, [5, 3, 8]], right)
        for p, right in (
            (slice(20), toy_ensemble.correct_test[:20]),
            (slice(20, 40), toy_ensemble.correct_test[20:]),
        )
    )
    both = (first.value > 0.15) & (second.value > 0.15)
    assert counts.iloc[0]["both_above"] == both.sum()
    below = (first.value < -0.15) & (second.value < -0.15)
    assert counts.iloc[0]["both_below"] == below.sum()
    assert counts.iloc[0]["second_above"] == (second.value > 0.15).sum()


def test_a_gallery_of_pairs_has_training_images_above_and_test_images_below():
    pairs = pd.DataFrame(
        {
            "train_index": [4, 5, 6],
            "test_index": [7, 8, 9],
            "train_class": ["cat", "dog", "cow"],
            "test_class": ["cat", "cat", "cow"],
            "second_half": [0.5, 0.4, 0.3],
            "standard_error": [0.1, 0.2, 0.3],
        }
    )
    assert memorization.in_two_rows(pairs, 2) == {
        "captions": ["train: cat", "train: dog", "test: cat", "test: cat"],
        "index": [4, 5, 7, 8],
        "score": [0.5, 0.4, 0.5, 0.4],
        "error": [0.1, 0.2, 0.1, 0.2],
    }


def test_parts_of_an_ensemble_that_are_alike_agree_in_full(toy_ensemble):
    twice = toy_ensemble._replace(
        inside=np.tile(toy_ensemble.inside, (2, 1)),
        correct=np.tile(toy_ensemble.correct, (2, 1)),
    )
    table = memorization.convergence(twice, num_top=10)
    assert table["networks"].tolist() == memorization.sizes(40).tolist()
    np.testing.assert_allclose(table["pearson"], 1)
    np.testing.assert_allclose(table["rms_error_seen"], 0, atol=1e-12)
    assert table["mean_standard_error"].iloc[-1] < table["mean_standard_error"].iloc[0]


# ------------------------------------------------------------- a straight line?


def test_memorization_on_a_straight_line_leaves_no_residual():
    x = np.geomspace(0.01, 10, 200)
    bins, fit = memorization.straight_line(x, 0.2 + 0.05 * x)
    assert bins["images"].tolist() == [10] * 20
    fit = fit.iloc[0]
    assert fit["slope"] == pytest.approx(0.05) and fit["intercept"] == pytest.approx(
        0.2
    )
    assert fit["bins_r2"] == pytest.approx(1) and fit["images_r2"] == pytest.approx(1)
    assert fit["residual"] == pytest.approx(0, abs=1e-12)
    assert fit["log_r2"] < 0.9
    np.testing.assert_allclose(bins["line"], bins["memorization"])


def test_memorization_on_a_logarithm_bends_downwards():
    x = np.geomspace(0.01, 10, 200)
    _, fit = memorization.straight_line(x, 0.5 + 0.1 * np.log10(x))
    fit = fit.iloc[0]
    assert fit["bend"] < 0
    assert fit["log_r2"] > 0.99 > fit["bins_r2"]
    assert fit["residual"] > fit["expected"]


def test_bins_hold_the_errors_of_their_means():
    x = np.arange(40.0)
    y = np.tile([0.0, 1.0], 20) + x // 10
    bins, _ = memorization.straight_line(x, y)
    assert bins["images"].tolist() == [10] * 4
    np.testing.assert_allclose(bins["memorization"], [0.5, 1.5, 2.5, 3.5])
    sd = np.sqrt(10 / 9) / 2
    np.testing.assert_allclose(bins["sd"], sd)
    np.testing.assert_allclose(bins["standard_error"], sd / np.sqrt(10))


# ------------------------------------------------------------------ what it costs


def test_the_fewest_networks_that_agree_as_well_as_one_run():
    rows = [
        ("ensemble", 5, 10.0, 5.0, 0.4, 0.2, 0.1),
        ("ensemble", 8, 16.0, 8.0, 0.6, 0.6, 0.3),
        ("curvature_norm", 1, 12.0, 6.0, 0.5, 0.1, 0.9),
        ("curvature_norm", 2, 24.0, 12.0, 0.9, 0.9, 0.9),
        ("cumulative_loss", 1, 2.0, 1.0, 0.3, 0.3, 0.3),
    ]
    columns = ["what", "count", "seconds", "trainings"]
    spent = pd.DataFrame(rows, columns=[*columns, "spearman", "pearson", "top_overlap"])
    found = memorization.as_good_as_one_run(spent).set_index(["score", "measure"])
    norm = found.loc["curvature_norm"]
    assert norm.loc["spearman", ["networks", "ensemble_seconds"]].tolist() == [8, 16]
    assert norm.loc["pearson", ["networks", "ensemble_seconds"]].tolist() == [5, 10]
    assert norm.loc["top_overlap", ["networks", "ensemble_seconds"]].isna().all()
    assert norm["cheaper"].tolist() == [True, False, True]
    assert norm["fewer_trainings"].tolist() == [True, False, True]
    assert found.loc["cumulative_loss", "cheaper"].all()


def test_the_cost_of_a_run_counts_scoring_for_curvature_only(toy_ensemble):
    rng = np.random.default_rng(1)
    by_seed = {
        seed: pd.DataFrame({name: rng.random(30) for name in FROM_TRACE})
        for seed in (0, 1)
    }
    spent = pd.DataFrame(
        {"train_seconds": [2.0, 2.0], "score_seconds": [4.0, 6.0], "threads": [1, 1]}
    )
    found = memorization.cost(toy_ensemble, by_seed, spent, num_top=5)
    runs = found[found["what"] != "ensemble"].set_index(["what", "count"])
    assert runs["seconds"].to_dict() == {
        ("curvature_norm", 1): 6,
        ("curvature_norm", 2): 14,
        ("cumulative_loss", 1): 2,
        ("cumulative_loss", 2): 4,
    }
    assert runs.loc[("cumulative_loss", 2), "trainings"] == 2
    ensemble = found[found["what"] == "ensemble"]
    np.testing.assert_allclose(ensemble["seconds"], 2.0 * ensemble["count"])


# ---------------------------------------------------------------------- as a whole


def test_memorization_in_the_tables_is_that_of_the_ensemble(measured):
    found, runs = measured
    images, _ = prepare(TrainConfig(num_train=200))
    config = ensembles.EnsembleConfig(num_models=40, width=16, epochs=3)
    test = data.load("digits", split="test").select(np.arange(100))
    before = sorted(runs.iterdir())
    ensemble = ensembles.train(config, images, test, runs=runs)  # read, not trained
    assert sorted(runs.iterdir()) == before
    expected = influence.memorization(ensemble.inside, ensemble.correct)
    table = found.tables["memorization"]
    np.testing.assert_allclose(table["memorization"], expected.value, rtol=1e-5)
    np.testing.assert_allclose(
        table["standard_error"], expected.standard_error, rtol=1e-5
    )
    # An estimate is held against networks that it was not made of.
    cost = found.tables["cost"]
    of_ensemble = cost[cost["what"] == "ensemble"]
    assert of_ensemble["count"].max() == 20
    assert of_ensemble["spearman"].max() < 0.999


def test_the_images_kept_are_those_of_the_tables(measured):
    tables = measured[0].tables
    images, _ = prepare(TrainConfig(num_train=200))
    test = data.load("digits", split="test")
    top = tables["most-memorised"]
    place = {index: i for i, index in enumerate(images.index)}
    expected = images.images[[place[index] for index in top["index"]]]
    np.testing.assert_array_equal(tables["memorised-images"], expected)
    pairs, pixels = tables["influential-pairs"], tables["influential-images"]
    assert pixels.dtype == np.uint8 and 1 <= len(pixels) <= 7
    tests = {index: i for i, index in enumerate(test.index)}
    for row, (train_image, test_image) in zip(pairs.itertuples(), pixels, strict=False):
        np.testing.assert_array_equal(
            train_image, images.images[place[row.train_index]]
        )
        np.testing.assert_array_equal(test_image, test.images[tests[row.test_index]])


def test_every_score_and_two_that_know_nothing_are_in_the_agreement(measured):
    scored = measured[0].tables["agreement"]
    assert set(scored["score"]) == {*FROM_TRACE, "constant", agreement.SHUFFLED}
    assert list(measured[0].data) == ["train", "test"]
    assert len(measured[0].runs) == 1


def test_the_numbers_of_the_text_are_those_of_the_tables(measured):
    tables = measured[0].tables
    numbers = memorization.numbers(tables)
    assert numbers["num_samples"] == "200" and numbers["num_models"] == "40"
    assert numbers["subset_size"] == "140" and numbers["half"] == "20"
    outside = 40 - tables["memorization"]["networks_inside"].max()
    assert numbers["smallest"] == pytest.approx(3 / outside)
    mean = tables["most-memorised"]["second_half"].mean()
    assert numbers["top_second"] == pytest.approx(mean)
    assert all(isinstance(value, str | float) for value in numbers.values())
