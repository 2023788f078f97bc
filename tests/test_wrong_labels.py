"""Tables and claims of the pages about wrong labels, from tables written by hand."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import ttest_rel

from curvlib.studies import published
from curvlib.studies import wrong_label_claims as judge
from curvlib.studies import wrong_label_tables as read
from curvlib.studies.mislabelled import SETS

SCORES = {  # mean AUROC of a record, and what the leak makes of it
    "curvature_square": (0.7, 0.9),
    "curvature_norm": (0.72, 0.95),
    "curvature_last": (0.6, 0.8),
    "curvature_peak": (0.65, 0.85),
    "cumulative_loss": (0.9, 0.99),
    "in_confidence_last": (0.61, 0.97),
    "in_confidence_max_last": (0.61, 0.61),
    "final_loss": (0.61, 0.97),
    "random": (0.5, 0.5),
}


def metrics_of(scores, rates=(0.02, 0.1), seeds=(0, 1, 2), spread=0.01):
    """A table ``metrics``: each seed moves all scores, and each score a little."""
    rows = [
        {
            "score": name,
            "auroc": mean + 0.02 * (seed - 1) + spread * (seed - 1) * place / 100,
            "average_precision": 0.3,
            "fpr_at_95_tpr": 0.4,
            "false_negative_rate": 0.5,
            "low": mean - 0.05,
            "high": mean + 0.05,
            "noise_rate": rate,
            "seed": seed,
        }
        for rate in rates
        for seed in seeds
        for place, (name, mean) in enumerate(scores.items())
    ]
    return pd.DataFrame(rows)


def fitted_of(rates=(0.02, 0.1), seeds=(0, 1, 2), **settings):
    rows = [
        {
            "noise_rate": rate,
            "seed": seed,
            "samples": 1000,
            "wrong labels": round(1000 * (rate or 0.1)),
            "share wrong": rate or 0.1,
            "wrong labels learned": 0.97 + 0.01 * seed,
            "other labels learned": 1.0,
            "right on unseen": 0.5 + 0.1 * seed,
            "wrong never forgotten": 0.2,
            "dataset": "cifar10",
            "noise": "symmetric",
            "planted_duplicates": 0,
            "model": "mlp",
        }
        | settings
        for rate in rates
        for seed in seeds
    ]
    return pd.DataFrame(rows)


def record_of(scores=None, rates=(0.02, 0.1), seeds=(0, 1, 2), **settings):
    """Tables of a record as ``mislabelled.measure`` returns them."""
    given = {name: pair[0] for name, pair in (scores or SCORES).items()}
    true = {name: pair[1] for name, pair in (scores or SCORES).items()}
    combined = pd.DataFrame(
        [
            {"scores": name, "how": how, "auroc": 0.8 + 0.001 * place, "seed": seed}
            for place, name in enumerate(SETS)
            for how in ("rank average", "logistic")
            for seed in seeds
        ]
    )
    names = [*given, "aum", "el2n"]
    cost = pd.DataFrame(
        {"score": names, "trainings": 1.5, "seconds": np.arange(len(names)) + 10.0}
    )
    leaked = metrics_of(true, rates, seeds).drop(columns=["low", "high"])
    return {
        "metrics": metrics_of(given, rates, seeds),
        "leaked": leaked,
        "fitted": fitted_of(rates, seeds, **settings),
        "combined": combined,
        "cost": cost,
    }


RECORD = record_of()
FOUND, FITTED = RECORD["metrics"], RECORD["fitted"]
MAIN = read.at_main(FOUND)


# ---------------------------------------------------------------- tables of a record


def test_the_main_share_is_a_tenth_or_else_the_largest():
    assert set(MAIN["noise_rate"]) == {0.1}
    assert set(read.at_main(metrics_of({"aum": 0.7}, (0.01, 0.2)))["noise_rate"]) == {
        0.2
    }


def test_a_score_that_only_repeats_another_takes_no_place():
    ranked = read.ranked(MAIN)
    assert ranked.index[:3].tolist() == [
        "cumulative_loss",
        "curvature_norm",
        "curvature_square",
    ]
    assert not {"random", "final_loss"} & set(ranked.index)


def test_the_headline_says_what_the_tables_say():
    told = read.headline(FOUND)
    assert told["best"] == "cumulative loss" and told["auroc_best"] == "0.900 ± 0.020"
    assert (told["rank_square"], told["num_scores"]) == (3, 7)


def test_several_sets_are_summed_up_by_their_ends():
    swapped = FOUND.replace(
        {"score": {"cumulative_loss": "random", "random": "cumulative_loss"}}
    )
    told = read.overall([{"metrics": FOUND}, {"metrics": swapped}])
    assert (told["num_sets"], told["loss_ahead"]) == (2, 1)
    ends = [told[f"loss_{end}"] for end in ("low", "high")]
    assert ends == pytest.approx([0.5, 0.9], abs=0.02)
    assert told["square_low"] == told["square_high"] == pytest.approx(0.7)


def test_what_was_learned_is_a_mean_over_seeds_for_each_share():
    table = read.what_was_learned(FITTED)
    assert table["wrong labels"].tolist() == [20, 100]
    assert table["wrong labels learned"].tolist() == pytest.approx([0.98, 0.98])
    assert table["right on unseen"].tolist() == pytest.approx([0.6, 0.6])


def test_shares_are_columns_and_a_score_that_was_not_run_is_empty():
    found = FOUND[~((FOUND["score"] == "curvature_last") & (FOUND["noise_rate"] < 0.1))]
    table = read.by_share(found, FITTED).set_index("score")
    assert list(table) == ["2%", "10%"]
    assert table["2%"].isna().tolist() == [n == "curvature_last" for n in table.index]
    assert table["10%"]["curvature_square"] == "0.700 ± 0.020"
    assert table.index.tolist() == list(SCORES)


def test_columns_keep_the_order_of_the_shares_measured():
    found = metrics_of({"aum": 0.7}, (0.2, 0.05))
    assert list(read.by_share(found, fitted_of((0.2, 0.05))))[1:] == ["20%", "5%"]


def test_random_comes_last_even_if_a_score_was_not_run_at_the_first_share():
    late = metrics_of({"curvature_square": 0.7, "random": 0.5}, (0.02,))
    found = pd.concat([late, metrics_of({"aum": 0.7, "random": 0.5}, (0.1,))])
    table = read.by_share(found, FITTED)
    assert table["score"].tolist() == ["aum", "curvature_square", "random"]


def test_a_table_for_checking_holds_differences_within_a_seed():
    table = read.for_checking(MAIN, RECORD["cost"]).set_index("score")
    a, b = (
        MAIN[MAIN["score"] == name]["auroc"].to_numpy()
        for name in ("cumulative_loss", "curvature_square")
    )
    low, high = ttest_rel(a, b).confidence_interval()
    expected = f"{(a - b).mean():+.3f} ({low:+.3f} to {high:+.3f})"
    assert table["difference"]["cumulative_loss"] == expected
    assert table["interval"]["curvature_square"] == "0.650 to 0.750"
    assert table["false_negative_rate"]["random"] == "0.500 ± 0.000"
    assert table["seconds"]["curvature_norm"] == 11
    one_seed = MAIN[MAIN["seed"] == 0]
    table = read.for_checking(one_seed, RECORD["cost"]).set_index("score")
    assert table["difference"]["curvature_last"] == "-0.100 (one seed)"


def test_the_leak_is_compared_with_published_values_where_there_are_some():
    table = read.leak(FOUND, RECORD["leaked"], FITTED).set_index("score")
    assert table["change"]["curvature_norm"] == pytest.approx(0.23)
    known = published.auroc_symmetric_noise().set_index(
        ["dataset", "score", "noise_rate"]
    )["auroc"]
    expected = known["cifar10", "curvature_norm", 0.1]
    assert table["published"]["curvature_norm"] == expected
    assert table["nearer"]["curvature_norm"]
    assert np.isnan(table["published"]["curvature_last"])
    assert not table["nearer"]["curvature_last"]
    moved = read.moved(table.reset_index())["score"].tolist()
    assert "in_confidence_max_last" not in moved and "random" not in moved
    assert len(moved) == len(SCORES) - 2


@pytest.mark.parametrize(
    "settings", [{"noise": "pair"}, {"planted_duplicates": 9}, {"dataset": "digits"}]
)
def test_other_labels_than_the_published_ones_are_compared_with_nothing(settings):
    assert read.published_beside(FOUND, fitted_of(**settings)).empty
    table = read.leak(FOUND, RECORD["leaked"], fitted_of(**settings))
    assert table["published"].isna().all()


def test_published_values_stand_beside_ours_at_each_share():
    table = read.published_beside(FOUND, FITTED)
    assert set(table["noise_rate"]) == {0.02, 0.1}
    shown = read.published_by_share(table).set_index("score")
    assert list(shown) == [
        "published, 2%",
        "here, 2%",
        "published, 10%",
        "here, 10%",
    ]
    assert shown["here, 10%"]["curvature_norm"] == "0.720 ± 0.020"
    assert shown["published, 10%"]["curvature_norm"] == "0.9819 ± 0.0006"
    assert shown["published, 10%"]["cumulative_loss"] == "0.9869"  # no spread known


def test_gains_are_differences_within_a_seed_and_a_way_to_combine():
    combined = RECORD["combined"].copy()
    joined = combined["scores"] == "aum + curvature"
    combined.loc[joined, "auroc"] += 0.05
    table = read.gains(combined).set_index(["scores", "how", "seed"])["gain"]
    assert len(table) == 3 * 2 * 3
    assert table["aum", "logistic", 1] == pytest.approx(0.051)
    assert table["cumulative loss", "rank average", 2] == pytest.approx(0.001)


def test_a_combination_costs_what_its_dearest_member_costs():
    cost = RECORD["cost"].set_index("score")
    cost.loc["curvature_norm", "trainings"] = 2.5
    table = read.combinations(RECORD["combined"], cost.reset_index())
    trainings = table.set_index("scores")["trainings"]
    assert trainings["aum"] == 1.5 and trainings["aum + curvature"] == 2.5
    assert table["scores"].tolist() == list(SETS)
    assert table["logistic"].iloc[0] == "0.800 ± 0.000"


def test_planted_duplicates_stand_beside_published_values_for_both_copies():
    planted = pd.DataFrame(
        {
            "score": ["curvature_norm", "aum"] * 2,
            "seed": [0, 0, 1, 1],
            "both copies": [0.9, 0.8, 0.92, 0.8],
            "only the wrong one": [0.7, 0.6, 0.7, 0.6],
        }
    )
    table = read.planted_beside(planted, fitted_of()).set_index("score")
    assert table["both copies"]["curvature_norm"] == "0.910 ± 0.014"
    assert (
        table["published"]["curvature_norm"] == published.PLANTED["curvature_norm"][0]
    )
    assert np.isnan(table["published"]["aum"])


KEPT = pd.DataFrame(
    {
        "seed": [0] * 4 + [1] * 4,
        "index": [0, 1, 2, 9] * 2,
        "in_confidence_max_last": [0.5, 0.1, 0.1, 0.3] + [0.9] * 4,
    }
)
COPIES = pd.DataFrame({"seed": [0, 1], "index": [9, 9], "source": [0, 2]})


def test_how_sure_the_network_is_of_planted_images_is_read_off_the_first_seed():
    planted, others = read.largest_probability(KEPT, COPIES)
    assert planted == pytest.approx(0.6) and others == pytest.approx(0.9)
    tables = {"scores.parquet": KEPT, "copies": COPIES}
    assert judge.less_sure_of_planted(tables).holds is True
    surer = KEPT.assign(in_confidence_max_last=[0.1, 0.4, 0.4, 0.1] * 2)
    assert judge.less_sure_of_planted(tables | {"scores.parquet": surer}).holds is False
    assert judge.less_sure_of_planted({}).holds is None


def test_the_table_of_all_numbers_sorts_by_what_it_shows():
    values, texts = read.all_numbers(RECORD)
    assert values.index.equals(texts.index) and list(values) == list(texts)
    assert values.index.tolist() == list(SCORES)
    for name in ("AUROC, 10%", "average precision", "AUROC with the leak"):
        for value, text in zip(values[name], texts[name], strict=True):
            assert f"{value:.3f}" == text.split()[0]
    assert not any("copies" in name for name in values)
    planted = pd.DataFrame(
        {
            "score": list(SCORES),
            "seed": 0,
            "both copies": 0.8,
            "only the wrong one": 0.7,
        }
    )
    values, texts = read.all_numbers(RECORD | {"planted": planted})
    assert set(values["AUROC, only the wrong one"]) == {0.7}
    assert set(texts["AUROC, both copies"]) == {"0.800 (one seed)"}


def test_a_score_without_a_leak_has_an_empty_cell():
    leaked = RECORD["leaked"]
    leaked = leaked[leaked["score"] != "curvature_last"]
    values, texts = read.all_numbers(RECORD | {"leaked": leaked})
    assert np.isnan(values["AUROC with the leak"]["curvature_last"])
    assert pd.isna(texts["AUROC with the leak"]["curvature_last"])


# ------------------------------------------------------------------- claims of a record


def test_a_record_is_judged_claim_by_claim():
    tables = record_of()
    tables["scores.parquet"], tables["copies"] = KEPT, COPIES
    found = {name: claim["holds"] for name, claim in judge.of_record(tables).items()}
    assert found == {
        "memorised": True,
        "chance": True,
        "average": True,
        "peak": True,
        "loss": True,
        "top": False,
        "random": True,
        "leak": True,
        "nearer": True,
        "adds": False,
        "planted": True,
        "published": False,
    }


def test_the_opposite_numbers_turn_every_claim_round():
    # Nearly the same before and after the leak, and above what was published.
    turned = {
        "curvature_square": (0.5, 0.4),
        "curvature_norm": (0.985, 0.9),
        "curvature_last": (0.6, 0.5),
        "curvature_peak": (0.65, 0.6),
        "cumulative_loss": (0.4, 0.3),
        "random": (0.8, 0.8),
    }
    tables = record_of(turned, **{"wrong labels learned": 0.5})
    tables["metrics"]["false_negative_rate"] = 0.05
    tables["combined"]["auroc"] += tables["combined"]["scores"].eq("aum + curvature")
    surer = KEPT.assign(in_confidence_max_last=[0.1, 0.4, 0.4, 0.1] * 2)
    tables["scores.parquet"], tables["copies"] = surer, COPIES
    found = {name: claim["holds"] for name, claim in judge.of_record(tables).items()}
    assert found == {
        "memorised": False,
        "chance": False,
        "average": False,
        "peak": False,
        "loss": False,
        "top": True,
        "random": False,
        "leak": False,
        "nearer": False,
        "adds": True,
        "planted": False,
        "published": True,
    }


def test_one_seed_and_no_published_value_leave_claims_undecided():
    tables = record_of(seeds=(0,), dataset="digits")
    found = {name: claim["holds"] for name, claim in judge.of_record(tables).items()}
    undecided = {name for name, holds in found.items() if holds is None}
    assert undecided == {
        "average",
        "peak",
        "loss",
        "nearer",
        "planted",
        "published",
    }


def test_a_score_that_was_not_run_beats_nothing():
    verdict = judge.beats(MAIN, "curvature_square", "confident_learning")
    assert verdict.holds is None and verdict.ours == "not run"


# -------------------------------------------------------- claims of several records


RECORDS = {
    "cpu/one": RECORD,
    "cpu/two": record_of(
        {"curvature_square": (0.6, 0.7), "curvature_last": (0.75, 0.8)}
        | {"random": (0.51, 0.51)},
        rates=(0.1,),
        noise="pair",
    ),
}
PLANTED = record_of(rates=(0.0,), planted_duplicates=9, dataset="fashion_mnist")
PLANTED["planted"] = pd.DataFrame(
    {
        "score": ["curvature_square"] * 3 + ["in_confidence_max_last"] * 3,
        "seed": [0, 1, 2] * 2,
        "both copies": [0.9, 0.91, 0.92, 0.7, 0.72, 0.73],
        "only the wrong one": [0.5] * 6,
    }
)


def test_settings_are_named_by_data_kind_and_share():
    all_of = judge.together(RECORDS | {"cpu/three": PLANTED})
    assert list(dict.fromkeys(all_of.found["cell"])) == [
        "cifar10, symmetric, 2",
        "cifar10, symmetric, 10",
        "cifar10, pair flip, 10",
        "fashion-mnist, planted duplicates, 10",
    ]
    assert set(all_of.planted["cell"]) == {"fashion_mnist"}
    assert all_of.planted["auroc"].max() == 0.92
    assert judge.together(RECORDS).planted.empty
    table = judge.settings(all_of.fitted)
    assert table["kind"].tolist()[-2:] == ["pair flip", "planted duplicates"]
    assert table["learned"].tolist() == pytest.approx([0.97] * 4)
    assert table["unseen"].tolist() == pytest.approx([0.6] * 4)
    assert table["seeds"].tolist() == [3] * 4


def test_no_records_and_records_of_another_study_are_refused():
    with pytest.raises(ValueError, match="name at least one of mislabelled"):
        judge.together({})
    with pytest.raises(KeyError, match="metrics"):
        judge.together({"cpu/other": {"fitted": FITTED}})


def test_random_comes_last_and_a_missing_score_is_empty():
    mean, sd = judge.aurocs(judge.together(RECORDS).found)
    assert mean.index[-1] == "random" and list(mean) == list(sd)
    assert mean["cifar10, symmetric, 10"]["curvature_last"] == pytest.approx(0.6)
    assert np.isnan(mean["cifar10, pair flip, 10"]["cumulative_loss"])
    values, texts = judge.whole_table(mean, sd)
    assert texts["cifar10, pair flip, 10"]["cumulative_loss"] == "not run"
    assert texts["cifar10, symmetric, 10"]["curvature_square"] == "0.700 ± 0.020"
    assert values.index.equals(texts.index) and list(values) == list(texts)
    one, _ = judge.aurocs(judge.together({"a": record_of(seeds=(0,))}).found)
    _, texts = judge.whole_table(one, one * np.nan)
    assert texts["cifar10, symmetric, 2"]["curvature_square"] == "0.680"


def test_ranks_are_taken_where_every_score_was_run():
    mean, _ = judge.aurocs(judge.together(RECORDS).found)
    ranks, number = judge.mean_ranks(mean)
    assert number == 2  # not the pair flips
    assert ranks["cumulative_loss"] == 1 and ranks["curvature_square"] == 3
    assert not {"random", "final_loss"} & set(ranks.index)
    ranks, number = judge.mean_ranks(mean.drop(columns=list(mean)[:2]))
    assert number == 1 and ranks["curvature_last"] == 1  # no setting has them all


def test_a_claim_about_most_settings_counts_settings():
    found = judge.together(RECORDS).found
    verdict = judge.beats_in_most(found, "curvature_square", "curvature_last")
    assert verdict.holds is True  # in two of three
    assert "above zero in 2, below in 1, undecided in 0 of 3 settings" in verdict.ours
    assert "+0.017 on average (-0.150 to +0.100)" in verdict.ours
    assert (
        judge.beats_in_most(found, "curvature_last", "curvature_square").holds is False
    )
    none = judge.beats_in_most(found, "curvature_square", "confident_learning")
    assert none.holds is None and none.ours == "not run"


def test_a_claim_about_one_of_two_settings_is_undecided():
    found = judge.together(RECORDS).found
    two = found[found["noise_rate"] == 0.1]
    assert judge.beats_in_most(two, "curvature_square", "curvature_last").holds is None


def test_chance_and_the_top_are_judged_by_setting():
    found = judge.together(RECORDS).found
    assert judge.better_than_chance(found, "curvature_square").holds is True
    assert judge.better_than_chance(found, "random").holds is False
    assert judge.at_the_top(found, "curvature_square").holds is False
    few = found.assign(false_negative_rate=0.05)
    assert judge.at_the_top(few, "curvature_square").holds is True


def test_the_summary_of_records_is_judged_claim_by_claim():
    all_of = judge.together(RECORDS | {"cpu/three": PLANTED})
    claims = judge.of_settings(all_of, "curvature_square")
    assert {name: claim["holds"] for name, claim in claims.items()} == {
        "chance": True,
        "top": False,
        "average": True,
        "peak": True,
        "in_confidence": True,
        "confident_learning": None,
        "second_split": None,
        "planted": True,
        "loss": True,
        "published": False,
    }
    assert claims["second_split"]["ours"] == "not run"
    reached = SCORES | {"curvature_norm": (0.98, 0.99)}
    claims = judge.of_settings(
        judge.together({"a": record_of(reached)}), "curvature_square"
    )
    assert claims["published"]["holds"] is True and claims["planted"]["holds"] is None
    other = judge.together({"a": record_of(dataset="digits")})
    assert judge.of_settings(other, "curvature_norm")["published"]["holds"] is None


def test_second_split_forgetting_says_how_much_was_never_forgotten():
    scores = SCORES | {"second_split_forgetting": (0.6, 0.6)}
    all_of = judge.together({"a": record_of(scores)})
    ours = judge.of_settings(all_of, "curvature_square")["second_split"]["ours"]
    assert "20% of the wrong labels are not forgotten" in ours


def test_the_slip_is_held_against_every_published_value():
    all_of = judge.together(RECORDS)
    table = judge.slip(all_of.found, all_of.leaked)
    # Scores that look at the label, at both shares; in-confidence does not.
    assert sorted(table["score"]) == ["cumulative_loss"] * 2 + ["curvature_norm"] * 2
    row = table[(table["score"] == "curvature_norm") & (table["noise_rate"] == 0.1)]
    assert row["given"].item() == pytest.approx(0.72)
    assert row["true"].item() == pytest.approx(0.95)
    assert judge.nearer_with_the_slip(table).holds is True
    turned = table.rename(columns={"given": "true", "true": "given"})
    assert judge.nearer_with_the_slip(turned).holds is False
    assert judge.nearer_with_the_slip(table[:0]).holds is None


def test_a_draw_that_two_settings_share_counts_once():
    found = judge.together(RECORDS).found
    assert judge.chance_intervals(found) == (6, 6)  # three seeds, two different means
    missed = found.assign(low=0.6)
    assert judge.chance_intervals(missed) == (0, 6)


def test_the_figure_shows_the_record_with_most_shares_and_whole_lines_only():
    found = judge.together(RECORDS).found
    part = found[~((found["score"] == "aum") & (found["noise_rate"] < 0.1))]
    shown = judge.most_shares(part)
    assert set(shown["record"]) == {"cpu/one"}
    lines = shown.groupby("score")["noise_rate"].nunique()
    assert set(lines) == {2} and "aum" not in lines


# ------------------------------------------------------ verdicts record by record


class Shown(dict):
    """Tables of a record that knows its study, as ``records.Record`` does."""

    made = {"study": "mislabelled"}  # noqa: RUF012


def test_an_auroc_is_high_from_its_mean_and_comes_with_the_scale_of_its_networks():
    low = judge.high(RECORD, "curvature_norm")
    assert low.holds is False
    assert low.ours == (
        "AUROC 0.720 ± 0.020, 1,000 images, 3 seeds, 60% right on unseen images"
    )
    assert judge.high(RECORD, "cumulative_loss").holds is True
    unknown = record_of(seeds=(0,), **{"right on unseen": np.nan})
    assert judge.high(unknown, "random").ours.endswith("1,000 images, 1 seed")


def test_a_score_outperforms_others_only_if_it_beats_every_one_of_them():
    scores = {
        "curvature_norm": (0.8, 0.8),
        "in_confidence_max_last": (0.6, 0.6),
        "aum": (0.7, 0.7),
        "random": (0.5, 0.5),
    }
    assert judge.beats_existing(record_of(scores), "curvature_norm").holds is True
    behind = judge.beats_existing(record_of(scores | {"el2n": (0.9, 0.9)}), "aum")
    assert behind.holds is False and "behind error norm (EL2N)" in behind.ours
    one = judge.beats_existing(record_of(scores, seeds=(0,)), "curvature_norm")
    assert one.holds is None and one.ours.startswith("undecided ")


def test_published_values_are_reached_or_not_or_unknown():
    assert judge.as_high_as_published(RECORD, "curvature_norm").holds is False
    good = record_of(SCORES | {"curvature_norm": (0.985, 0.99)})
    verdict = judge.as_high_as_published(good, "curvature_norm")
    assert verdict.holds is True
    assert verdict.ours.startswith("0.985 here and 0.982 published at 10%")
    other = record_of(dataset="digits")
    assert judge.as_high_as_published(other, "curvature_norm").holds is None


def test_honest_labels_are_close_if_both_curvature_and_loss_are():
    assert judge.honest_is_close(RECORD).holds is False
    near = SCORES | {"curvature_norm": (0.975, 0.99), "cumulative_loss": (0.98, 1.0)}
    verdict = judge.honest_is_close(record_of(near))
    assert verdict.holds is True
    assert "cumulative loss 0.980 (0.987 published, 1.000 with the leak)" in (
        verdict.ours
    )
    assert judge.honest_is_close(record_of(noise="pair")).holds is None


def test_verdicts_are_given_by_label_and_only_symmetric_noise_is_the_papers():
    shown = {"one": RECORD, "pairs": record_of(noise="pair"), "copies": PLANTED}
    assert [judge.is_symmetric(tables) for tables in shown.values()] == [1, 0, 0]
    found = judge.by_record(shown, judge.high, "cumulative_loss")
    assert found["holds"] == {"one": True, "pairs": True, "copies": True}
    assert found["ours"].keys() == shown.keys() and "at least 0.9" in found["tolerance"]
    average = judge.by_record({"one": RECORD}, judge.named("average"))
    assert average["holds"] == {"one": True}
    assert judge.by_record({}, judge.high, "aum") == {
        "holds": {},
        "ours": {},
        "tolerance": "",
    }


def test_every_auroc_stands_beside_the_accuracy_of_its_networks():
    better = record_of(**{"right on unseen": 0.9})
    settings = judge.by_setting({"one": RECORD, "better": better})
    assert settings["setting"].unique().tolist() == [
        "one, 2%",
        "one, 10%",
        "better, 2%",
        "better, 10%",
    ]
    assert set(judge.at_main_share(settings)["setting"]) == {
        "one, 10%",
        "better, 10%",
    }
    table = judge.short_table(settings)
    assert table["setting"].tolist()[:2] == ["better, 2%", "better, 10%"]
    assert table["right on unseen images"].tolist() == pytest.approx(
        [0.9] * 2 + [0.6] * 2
    )
    assert table["cumulative loss"].tolist() == ["0.900 ± 0.020"] * 4
    told = judge.summary(settings, "curvature_norm")
    assert told["num_settings"] == 2 and told["loss_ahead"] == 2
    assert told["best"] == pytest.approx(0.72)


def test_what_a_practitioner_would_do_stands_beside_scores_of_a_head():
    tools = {
        "scores": pd.DataFrame(
            {
                "seed": [0, 1] * 2,
                "score": ["out_of_fold_probability"] * 2 + ["curvature_norm"] * 2,
                "auroc": [0.96, 0.98, 0.9, 0.92],
            }
        ),
        "cases": pd.DataFrame({"seed": [0, 1], "accuracy": [0.8, 0.9]}),
    }
    row = judge.in_practice({"CIFAR-10": tools}).iloc[0]
    assert row["out-of-fold probability"] == "0.970 ± 0.014"
    assert row["right on unseen images"] == pytest.approx(0.85)
    assert row["cumulative loss of a head"] is None
    assert judge.in_practice({}).empty
    assert list(judge.of_study({"a": Shown(), "b": Shown()}, "mislabelled")) == [
        "a",
        "b",
    ]
    assert judge.of_study({"a": Shown()}, "wrong_label_tools") == {}
