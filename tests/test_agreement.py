"""Agreement of scores with a reference: tables over seeds, nulls, and their words."""

import numpy as np
import pandas as pd
import pytest

from curvlib.scores import FROM_TRACE
from curvlib.studies import agreement

N = 50
REFERENCE = np.linspace(0, 1, N)


def frame(seed, **given):
    """Random scores of one run; some may be given."""
    rng = np.random.default_rng(seed)
    columns = {name: rng.uniform(0.1, 1, N) for name in FROM_TRACE}
    return pd.DataFrame({"index": np.arange(N), "label": 0} | columns | given)


def runs(**given):
    return {0: frame(0, **given), 3: frame(3, **given)}


def test_a_score_that_is_the_reference_agrees_in_full_and_a_constant_has_no_rank():
    table = agreement.of_scores(runs(cumulative_loss=REFERENCE), REFERENCE, 10)
    full = table[table["score"] == "cumulative_loss"]
    assert list(full["kind"]) == [agreement.SEED, agreement.SEED, agreement.MEAN]
    assert list(full["seed"].dropna()) == [0, 3]
    np.testing.assert_allclose(full[list(agreement.MEASURES)], 1)
    constant = agreement.of(table, "constant", agreement.NOTHING).iloc[0]
    assert np.isnan(constant["spearman"]) and np.isnan(constant["pearson"])
    assert constant["top_overlap"] == pytest.approx(10 / N)


def test_the_mean_of_seeds_is_the_agreement_of_the_averaged_score():
    noise = np.random.default_rng(1).normal(size=N)
    given = {
        0: frame(0, el2n=REFERENCE + noise),
        1: frame(1, el2n=REFERENCE - noise),
    }
    table = agreement.of_scores(given, REFERENCE, 10)
    row = agreement.of(table, "el2n", agreement.MEAN).iloc[0]
    assert row["spearman"] == pytest.approx(1)
    alone = agreement.of(table, "el2n", agreement.SEED)["spearman"]
    assert alone.abs().max() < 0.9


def test_runs_are_averaged_by_position_and_not_by_the_index_of_their_frames():
    given = runs()
    given[3].index += 1000
    mean = agreement.mean_of(given)
    expected = (given[0]["aum"].to_numpy() + given[3]["aum"].to_numpy()) / 2
    np.testing.assert_array_equal(mean["aum"], expected)


def test_rows_without_the_mean_of_seeds_can_be_asked_for():
    table = agreement.of_scores(runs(), REFERENCE, 10, mean_of_seeds=False)
    assert set(table["kind"]) == {agreement.SEED, agreement.NOTHING}


def test_kinds_and_seeds_survive_a_csv_file(tmp_path):
    table = agreement.of_scores(runs(), REFERENCE, 10)
    table.to_csv(tmp_path / "table.csv", index=False)
    again = pd.read_csv(tmp_path / "table.csv")
    assert list(again["kind"]) == list(table["kind"])
    assert list(again["seed"].dropna()) == list(table["seed"].dropna())


def test_the_table_for_readers_has_curvature_its_rivals_and_what_knows_nothing():
    table = agreement.of_scores(runs(aum=REFERENCE), REFERENCE, 10)
    shown = agreement.in_words(table).set_index("score")
    assert list(shown.index) == [
        "curvature_norm",
        "curvature_square",
        "cumulative_loss",
        "aum",  # the best
        "random",
        "constant",
        agreement.SHUFFLED,
    ]
    assert shown.loc["aum", "spearman"] == "1.000 ± 0.000"
    assert shown.loc["aum", "mean_of_seeds"] == "1.000"
    assert shown.loc["constant", "spearman"] == "–"
    assert shown.loc["constant", "top_overlap"] == "0.200"
    assert set(agreement.WORDS) < set(shown.reset_index())


def test_the_ranking_leaves_random_out_and_puts_the_best_first():
    table = agreement.of_scores(runs(grand=REFERENCE), REFERENCE, 10)
    for kind in (agreement.SEED, agreement.MEAN):
        ranking = agreement.ranking(table, kind)
        assert ranking.index[0] == "grand"
        assert "random" not in ranking
        assert len(ranking) == len(FROM_TRACE) - 1
        assert ranking.is_monotonic_decreasing


def test_the_cosine_of_curvature_stands_beside_its_null_values():
    table = agreement.of_scores(runs(curvature_norm=REFERENCE), REFERENCE, 10)
    cosines = agreement.cosines(table)
    assert list(cosines.index) == ["curvature_norm", "constant", agreement.SHUFFLED]
    assert cosines["curvature_norm"] == pytest.approx(1)
    # Of 0, 1/49, ..., 1 with ones: mean over root mean square.
    expected = REFERENCE.mean() / np.sqrt(np.mean(REFERENCE**2))
    assert cosines["constant"] == pytest.approx(expected)
    assert cosines[agreement.SHUFFLED] < 0.9


def test_the_text_of_an_agreement_is_mean_and_deviation_over_seeds():
    given = {0: frame(0, el2n=REFERENCE), 1: frame(1, el2n=-REFERENCE)}
    table = agreement.of_scores(given, REFERENCE, 10)
    assert agreement.text(table, "el2n") == "0.000 ± 1.414"
