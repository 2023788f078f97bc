"""Agreement with released memorization: known answers, and the tables as a whole."""

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_digits

from curvlib.runs.settings import TrainConfig
from curvlib.runs.training import prepare
from curvlib.scores import FROM_TRACE
from curvlib.studies import agreement, feldman_zhang, statistics
from curvlib.trace import Trace

SMALL = {
    "dataset": "digits",
    "released": "released.npz",
    "num_train": 200,
    "num_heldout": 50,
    "model": "mlp",
    "width": 16,
    "epochs": 3,
    "num_top": 20,
}
N = 100
REFERENCE = np.linspace(0, 1, N)


@pytest.fixture(autouse=True)
def released(tmp_path, monkeypatch):
    """Files in the form of the released scores, for the digits."""
    rng = np.random.default_rng(0)
    labels = load_digits().target
    values = rng.uniform(size=len(labels))
    np.savez(tmp_path / "released.npz", tr_mem=values, tr_labels=labels)
    np.savez(tmp_path / "c.npz", scores=1 - values, labels=labels)
    monkeypatch.setenv("CURVLIB_DATA", str(tmp_path))
    monkeypatch.setenv("CURVLIB_PROGRESS", str(tmp_path / "progress"))
    return tmp_path / "released.npz"


def mean_scores(**given):
    rng = np.random.default_rng(0)
    columns = {name: rng.uniform(0.1, 1, N) for name in FROM_TRACE}
    return pd.DataFrame(columns | given)


def runs(**given):
    return {seed: mean_scores(**given) for seed in (0, 1)}


# ---------------------------------------------------------------------- as a whole


def test_memorization_in_another_order_stops_before_anything_is_trained(
    released, tmp_path
):
    arrays = dict(np.load(released))
    np.savez(released, **arrays | {"tr_labels": arrays["tr_labels"][::-1]})
    with pytest.raises(ValueError, match="in another order, or of another data set"):
        feldman_zhang.measure(**SMALL, runs=str(tmp_path / "runs"))
    assert not (tmp_path / "runs").exists()


def test_a_score_that_is_the_reference_agrees_with_it_in_full(released, tmp_path):
    folder = tmp_path / "runs"
    given = SMALL | {"seeds": [0], "runs": str(folder)}
    feldman_zhang.measure(**given)  # a run to take scores from
    (run,) = folder.iterdir()
    loss = Trace.open(run).read("loss").astype(float).sum(0)
    arrays = dict(np.load(released))
    images, _ = prepare(TrainConfig(num_train=200))
    arrays["tr_mem"][images.index] = loss
    np.savez(released, **arrays)
    table = feldman_zhang.measure(**given).tables["agreement"]
    row = table[table["score"] == "cumulative_loss"].iloc[0]
    values = row[["spearman", "pearson", "cosine", "top_overlap"]]
    np.testing.assert_allclose(values.to_numpy(float), 1, rtol=1e-6)
    constant = table[table["score"] == "constant"].iloc[0]
    assert np.isnan(constant["spearman"])
    assert constant["top_overlap"] == pytest.approx(20 / 200)


def test_networks_stand_side_by_side_with_what_they_get_right(tmp_path):
    given = SMALL | {"seeds": [0], "runs": str(tmp_path / "runs")}
    shown = {
        "many": feldman_zhang.measure(**given | {"num_heldout": 100}).tables,
        "unknown": feldman_zhang.measure(**given | {"num_heldout": 0}).tables,
    }
    found = feldman_zhang.networks(shown)
    (run,) = (tmp_path / "runs").glob("*/heldout")
    right = Trace.open(run.parent).read("correct", "heldout").mean(1).max()
    assert found.loc["many", "unseen"] == pytest.approx(right)
    assert np.isnan(found.loc["unknown", "unseen"])
    assert found["seeds"].tolist() == [1, 1]
    epochs = shown["many"]["epochs"].query(
        "score == 'curvature_norm' and kind == @feldman_zhang.ALONE"
    )
    assert found.loc["many", "epoch"] == epochs["spearman"].max()
    assert feldman_zhang.beside(found, "norm", "loss")["many"] == (
        f"{found.loc['many', 'norm']:.3f} against {found.loc['many', 'loss']:.3f}"
    )


def test_what_is_unknown_is_not_above():
    assert feldman_zhang.above(2, 1) is True
    assert feldman_zhang.above(1, 1) is False
    assert feldman_zhang.above(float("nan"), 1) is None


def test_two_references_that_are_one_agree_in_full(tmp_path):
    found = feldman_zhang.measure(
        **SMALL, consistency="c.npz", seeds=[0, 1], runs=str(tmp_path / "runs")
    )
    tables = found.tables
    other = agreement.of(tables["agreement"], "1 - C-score", agreement.PUBLISHED)
    np.testing.assert_allclose(other[list(agreement.MEASURES)], 1)
    both = tables["agreement-consistency"]
    np.testing.assert_allclose(both["with_irregularity"], both["with_memorization"])
    assert list(found.data) == ["train", "released", "consistency"]

    images, _ = prepare(TrainConfig(num_train=200))
    place = {index: i for i, index in enumerate(images.index)}
    rows = [place[index] for index in tables["disagreements"]["index"]]
    np.testing.assert_array_equal(tables["images"], images.images[rows])
    contrast = images.images[rows].reshape(40, -1).std(1) / 255
    np.testing.assert_allclose(tables["disagreements"]["contrast"], contrast)

    epochs = tables["epochs"]
    final = epochs[(epochs["epoch"] == 3) & (epochs["kind"] == feldman_zhang.SO_FAR)]
    for row in final.itertuples():  # the mean over all epochs is the score itself
        whole = agreement.of(tables["agreement"], row.score, agreement.SEED)
        whole = whole.loc[whole["seed"] == row.seed, "spearman"].item()
        assert row.spearman == pytest.approx(whole)

    numbers = feldman_zhang.numbers(tables)
    assert numbers["num_samples"] == "200" and numbers["num_seeds"] == "2"
    assert numbers["num_scored"] == "3"
    assert all(isinstance(value, str | float) for value in numbers.values())


# ------------------------------------------------------------------- known answers


def test_the_facts_on_the_released_scores_are_shares_of_images():
    reference = np.array([-0.1, 0.0, 0.5, 1.0])
    errors = [np.full(4, 1.0), np.full(4, 3.0)]
    found = feldman_zhang.summary(np.full(4, 8.0), errors, reference).iloc[0]
    assert found["reference_none"] == 0.5 and found["reference_all"] == 0.25
    assert found["epoch_error"] == 0.25
    assert found["reference_mean"] == pytest.approx(0.35)


def test_the_standard_error_is_over_the_first_axis():
    values = np.array([[1.0, 5.0], [3.0, 5.0]])
    np.testing.assert_allclose(feldman_zhang.standard_error(values), [1, 0])


def test_the_checksum_changes_with_values_and_order():
    found = {
        feldman_zhang.checksum(np.array(values))
        for values in ([1.0, 2.0], [2.0, 1.0], [1.0, 2.5], [1, 2])
    }
    assert len(found) == 3  # the first and the last are one


def test_without_a_file_of_c_scores_their_columns_are_empty():
    given = runs()
    scored = agreement.of_scores(given, REFERENCE, 10)
    mean = agreement.mean_of(given)
    found = feldman_zhang.with_consistency(mean, scored, None, 10)
    assert found[["with_irregularity", "top_overlap"]].isna().all(axis=None)
    assert found["with_memorization"].notna().all()
    assert len(found) == len(FROM_TRACE)


def test_histograms_count_every_image_but_those_of_no_curvature():
    norm = np.geomspace(0.1, 10, N)
    norm[:3] = 0
    found = feldman_zhang.spread(norm, REFERENCE)
    counts = found.groupby("quantity")["images"].sum()
    assert counts.to_dict() == {"memorization": N, "curvature": N - 3}
    of_curvature = found[found["quantity"] == "curvature"]
    ratio = of_curvature["high"] / of_curvature["low"]
    np.testing.assert_allclose(ratio, ratio.iloc[0])


def test_a_score_that_is_the_reference_is_dense_on_the_diagonal():
    mean = mean_scores(curvature_norm=REFERENCE)
    counts, edges = feldman_zhang.density(mean, REFERENCE)
    assert counts.shape == (2, 35, 35) and len(edges) == 36
    assert (counts.sum((1, 2)) == N).all()
    column, row = np.nonzero(counts[0])
    assert np.abs(column - row).max() <= 1
    column, row = np.nonzero(counts[1])
    assert np.abs(column - row).max() > 10


def test_bins_of_the_reference_by_itself_rise_and_hold_their_means():
    mean = mean_scores(cumulative_loss=REFERENCE)
    bins = (
        feldman_zhang.in_bins(mean, REFERENCE)
        .groupby("score")
        .get_group("cumulative_loss")
    )
    np.testing.assert_allclose(bins["mean"], REFERENCE.reshape(20, 5).mean(1))
    np.testing.assert_allclose(bins["sd"], REFERENCE.reshape(20, 5).std(1))
    assert ((bins["low"] <= bins["mean"]) & (bins["mean"] <= bins["high"])).all()
    np.testing.assert_allclose(bins["rank"], (np.arange(20) + 0.5) / 20)


class FakeTrace:
    """Two scored epochs; the second is the reference less the first."""

    epochs = np.array([3, 6])

    def read(self, field):
        noise = np.random.default_rng(0).normal(size=N)
        return np.stack([noise, REFERENCE - noise]).astype(np.float64)


def test_the_mean_so_far_is_over_the_epochs_up_to_each():
    found = feldman_zhang.over_epochs({7: FakeTrace()}, REFERENCE, 10)
    assert set(found["seed"]) == {7} and set(found["epoch"]) == {3, 6}
    loss = found[found["score"] == "cumulative_loss"].set_index(["kind", "epoch"])
    first = [loss.loc[(kind, 3), "spearman"] for kind in set(found["kind"])]
    assert first[0] == first[1]
    assert loss.loc[(feldman_zhang.SO_FAR, 6), "spearman"] == pytest.approx(1)
    assert loss.loc[(feldman_zhang.ALONE, 6), "spearman"] < 0.9


def test_epochs_are_averaged_over_seeds_and_one_seed_has_no_band():
    rows = [(0, 0.4), (1, 0.6)]
    epochs = pd.DataFrame(rows, columns=["seed", "spearman"])
    epochs = epochs.assign(score="el2n", kind="mean so far", epoch=3)
    found = feldman_zhang.by_epoch(epochs)
    assert found["mean"].tolist() == pytest.approx([0.5])
    assert found["sd"].tolist() == pytest.approx([np.sqrt(0.02)])
    assert feldman_zhang.by_epoch(epochs[:1])["sd"].tolist() == [0]


def test_the_correction_for_noise_gives_back_the_agreement_of_the_score_itself():
    # A score that agrees at 0.8, seen through noise by each run: many samples, so that
    # the estimates are near what they estimate.
    rng = np.random.default_rng(0)
    count = 20_000
    reference = rng.normal(size=count)
    score = 0.8 * reference + 0.6 * rng.normal(size=count)
    given = {
        seed: pd.DataFrame(
            {name: rng.normal(size=count) for name in FROM_TRACE}
        ).assign(curvature_norm=score + rng.normal(size=count))
        for seed in range(2)
    }
    scored = agreement.of_scores(given, reference, 10)
    row = feldman_zhang.noise(given, scored).set_index("score").loc["curvature_norm"]
    exact = statistics.agreement(score, reference, 10).spearman
    assert row["one_seed"] < exact - 0.15
    assert row["without_noise"] == pytest.approx(exact, abs=0.03)
    # The rule tells what the mean of two runs reaches.
    two = feldman_zhang.runs_to_reach(
        row["mean_of_seeds"], row["one_seed"], row["between_seeds"]
    )
    assert two == pytest.approx(2, abs=0.1)


def test_one_run_leaves_the_noise_unknown():
    given = {0: mean_scores()}
    scored = agreement.of_scores(given, REFERENCE, 10)
    found = feldman_zhang.noise(given, scored)
    assert found[["between_seeds", "without_noise"]].isna().all(axis=None)
    shown = feldman_zhang.noise_in_words(found)
    low = shown["one_seed"] < feldman_zhang.TARGET
    assert shown.loc[low, "runs"].isna().all()
    assert np.isnan(feldman_zhang.gap_to_loss(found)["explained"])


def test_no_number_of_runs_brings_a_score_past_what_it_has_without_noise():
    assert np.isnan(feldman_zhang.runs_to_reach(0.9, 0.4, 0.4))  # at most 0.63


def test_noise_explains_the_part_of_the_gap_that_it_closes():
    noise = pd.DataFrame(
        {
            "score": ["cumulative_loss", "curvature_norm"],
            "one_seed": [0.7, 0.5],
            "between_seeds": [0.8, 0.5],
            "mean_of_seeds": [0.7, 0.6],
            "without_noise": [0.8, 0.75],
        }
    )
    found = feldman_zhang.gap_to_loss(noise)
    assert found["one_seed"] == pytest.approx(0.2)
    assert found["without_noise"] == pytest.approx(0.05)
    assert found["explained"] == pytest.approx(0.75)


def test_the_score_that_agrees_best_without_noise_opens_the_table():
    names = ["el2n", "cumulative_loss", "curvature_norm", "curvature_square"]
    noise = pd.DataFrame({"score": [*names, "cumulative_gradient", "aum"]})
    noise = noise.assign(one_seed=0.5, between_seeds=0.5)
    shown = feldman_zhang.noise_in_words(noise)
    assert shown["score"].tolist() == [*names, "cumulative_gradient"]
    expected = feldman_zhang.runs_to_reach(feldman_zhang.TARGET, 0.5, 0.5)
    np.testing.assert_allclose(shown["runs"], expected)


def test_published_values_stand_beside_ours_for_cifar100_only():
    given = runs()
    scored = agreement.of_scores(given, REFERENCE, 10)
    top = agreement.of_scores(given, REFERENCE, 10, mean_of_seeds=False)
    found = feldman_zhang.beside_published(scored, top, "cifar100").set_index("score")
    norm = found.loc["curvature_norm"]
    assert norm["published_cosine_all"] == 0.69
    assert norm["published_pearson_top"] == 0.16
    ours = agreement.of(scored, "curvature_norm", agreement.SEED)["cosine"].mean()
    assert norm["cosine_all"] == pytest.approx(ours)
    assert "el2n" not in found.index  # nobody published a value
    assert found.loc["constant", "cosine_all"] > 0.8
    other = feldman_zhang.beside_published(scored, top, "digits")
    assert other.filter(like="published").isna().all(axis=None)
    assert other["score"].tolist() == ["constant", agreement.SHUFFLED]


def test_disagreements_are_the_largest_differences_of_rank_on_either_side():
    norm = REFERENCE.copy()
    norm[[0, 99]] = norm[[99, 0]]  # the least memorised has the highest curvature
    found = feldman_zhang.disagreements(norm, np.zeros(N), REFERENCE)
    assert len(found) == 40
    curvature = found[found["group"] == "curvature"].iloc[0]
    assert curvature["position"] == 0
    assert (curvature["curvature_rank"], curvature["memorization_rank"]) == (1, 0.01)
    assert found[found["group"] == "memorization"].iloc[0]["position"] == 99


def test_the_contrast_of_an_image_is_one_half_at_most():
    pixels = np.zeros((2, 2, 2, 1), np.uint8)
    pixels[0, 0] = 255  # half black, half white
    np.testing.assert_allclose(feldman_zhang.contrasts(pixels), [0.5, 0])


def test_a_score_that_contrast_divides_agrees_once_multiplied_by_it():
    contrast = np.random.default_rng(0).uniform(0.1, 0.5, N)
    mean = mean_scores(curvature_norm=(REFERENCE + 0.1) / contrast)
    found = feldman_zhang.with_contrast(mean, REFERENCE, contrast, 10)
    norm = found.set_index("score").loc["curvature_norm"]
    assert norm["times_contrast"] == pytest.approx(1)
    assert norm["with_memorization"] < 0.95
    assert norm["with_contrast"] < -0.2
    itself = found.set_index("score").loc["memorization"]
    expected = statistics.agreement(REFERENCE, contrast, 10).spearman
    assert itself["with_contrast"] == pytest.approx(expected)
    assert np.isnan(itself["times_contrast"])
