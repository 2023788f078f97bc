from functools import partial
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curvlib.metrics import auroc, average_precision, fpr_at_95_tpr, precision_at_k
from curvlib.studies.statistics import (
    agreement,
    bootstrap_interval,
    enrichment,
    expected_calibration_error,
    null_scores,
)

few = settings(max_examples=50, deadline=None)
METRICS = [auroc, average_precision, fpr_at_95_tpr, partial(precision_at_k, k=2)]
NAMES = ["auroc", "average_precision", "fpr_at_95_tpr", "precision_at_k"]
each_metric = pytest.mark.parametrize("metric", METRICS, ids=NAMES)


def bools(text):
    return np.array([character == "+" for character in text])


@st.composite
def problems(draw):
    """Few distinct scores, so that ties are common, and one of each kind at least."""
    kinds = st.lists(st.integers(0, 3), min_size=1, max_size=5)
    positives, negatives = draw(kinds), draw(kinds)
    truth = np.repeat([True, False], [len(positives), len(negatives)])
    return np.array(positives + negatives), truth


def test_auroc_counts_the_pairs_in_the_right_order():
    # Pairs: 3>2, 3>0, 1<2, 1>0.
    assert auroc(np.array([3, 1, 2, 0]), bools("++--")) == 0.75


@given(problems())
@few
def test_auroc_is_the_share_of_pairs_with_half_for_equal_scores(problem):
    score, positive = problem
    difference = score[positive][:, None] - score[~positive][None, :]
    pairs = np.mean(0.5 * (np.sign(difference) + 1))
    np.testing.assert_allclose(auroc(score, positive), pairs)


def test_average_precision_averages_the_precision_at_each_positive():
    # Sorted + - + -: precision 1 at the first positive, 2/3 at the second.
    value = average_precision(np.array([4, 3, 2, 1]), bools("+-+-"))
    np.testing.assert_allclose(value, (1 + 2 / 3) / 2)


def test_average_precision_of_a_constant_is_the_share_of_positives():
    assert average_precision(np.zeros(4), bools("+---")) == 0.25


def test_fpr_at_95_tpr_needs_all_of_ten_positives_and_nineteen_of_twenty():
    # The lowest positive stands below every negative, the others above.
    for num_positives, expected in [(10, 1.0), (19, 1.0), (20, 0.0), (21, 0.0)]:
        score = np.r_[-1, np.full(num_positives - 1, 2), np.zeros(5)]
        positive = np.arange(len(score)) < num_positives
        assert fpr_at_95_tpr(score, positive) == expected


def test_fpr_at_95_tpr_counts_the_negatives_at_the_threshold():
    assert fpr_at_95_tpr(np.array([2, 3, 2, 1, 0]), bools("+----")) == 0.5


@given(problems())
@few
def test_fpr_at_95_tpr_is_the_least_over_all_thresholds_that_reach_it(problem):
    score, positive = problem
    reached = [
        np.mean(score[~positive] >= t)
        for t in np.unique(score)
        if np.mean(score[positive] >= t) >= 0.95
    ]
    assert fpr_at_95_tpr(score, positive) == min(reached)


def test_precision_at_k_counts_the_positives_at_the_top():
    score, positive = np.array([5, 1, 4, 3, 2]), bools("+-+-+")
    values = [precision_at_k(score, positive, k) for k in (1, 2, 3, 4, 5)]
    np.testing.assert_allclose(values, [1, 1, 2 / 3, 3 / 4, 3 / 5])


def test_precision_at_k_of_a_constant_is_the_share_of_positives():
    # A stable argsort would give 1.0 or 0.0, whichever kind comes first.
    assert precision_at_k(np.zeros(4), bools("+---"), 1) == 0.25
    assert precision_at_k(np.zeros(4), bools("+---"), 3) == 0.25


@given(problems().filter(lambda problem: len(problem[0]) <= 5), st.data())
@few
def test_precision_at_k_is_the_mean_over_all_ways_to_break_ties(problem, data):
    score, positive = problem
    k = data.draw(st.integers(1, len(score)))
    ways = []
    for order in map(list, permutations(range(len(score)))):
        top = np.argsort(-score[order], kind="stable")[:k]
        ways.append(positive[order][top].mean())
    np.testing.assert_allclose(precision_at_k(score, positive, k), np.mean(ways))


@each_metric
@given(problem=problems(), data=st.data())
@few
def test_no_metric_depends_on_order_or_on_the_scale_of_the_score(metric, problem, data):
    score, positive = problem
    order = np.array(data.draw(st.permutations(range(len(score)))))
    value = metric(score, positive)
    np.testing.assert_allclose(metric(score[order], positive[order]), value)
    np.testing.assert_allclose(metric(np.exp(3.0 * score), positive), value)


def test_bootstrap_interval_of_a_mean_is_four_standard_errors_wide():
    # A metric whose bootstrap distribution is known: the mean of the positives' scores
    # has standard deviation sigma / sqrt(n), and is near normal for n = 400.
    score = np.random.default_rng(0).normal(size=800)
    positive = np.arange(800) < 400
    low, high = bootstrap_interval(
        lambda s, p: s[p].mean(), score, positive, num_resamples=4000
    )
    mean, error = score[:400].mean(), score[:400].std() / 20
    # A 2.5 % quantile of 4000 normal draws has standard error 0.042 sigma.
    np.testing.assert_allclose(
        [low, high], mean + error * 1.96 * np.array([-1, 1]), atol=4 * 0.042 * error
    )


def test_bootstrap_resamples_hold_as_many_of_both_kinds_as_the_data():
    counts = set()

    def metric(score, positive):
        counts.add((int(positive.sum()), int((~positive).sum())))
        assert set(score[positive]) <= {0, 1, 2}  # positives are drawn from positives
        assert set(score[~positive]) <= {3, 4}
        return 0.0

    bootstrap_interval(metric, np.arange(5), bools("+++--"), num_resamples=50)
    assert counts == {(3, 2)}


def test_bootstrap_interval_is_the_same_for_the_same_seed_and_another_for_another():
    score = np.random.default_rng(0).normal(size=60)
    positive = np.arange(60) % 3 == 0
    once, again, other = (
        bootstrap_interval(auroc, score, positive, num_resamples=50, seed=seed)
        for seed in (1, 1, 2)
    )
    assert once == again != other


def test_bootstrap_interval_widens_with_its_level_and_holds_the_value():
    score = np.random.default_rng(0).normal(size=60)
    positive = np.arange(60) % 3 == 0
    (low50, high50), (low95, high95) = (
        bootstrap_interval(auroc, score, positive, num_resamples=200, level=level)
        for level in (0.5, 0.95)
    )
    assert low95 < low50 < auroc(score, positive) < high50 < high95


def test_bootstrap_interval_of_a_perfect_score_is_a_point():
    score = np.array([3.0, 2.0, 1.0, 0.0])
    assert bootstrap_interval(auroc, score, bools("++--"), num_resamples=20) == (1, 1)


ALL = [*METRICS, partial(bootstrap_interval, auroc)]
every_function = pytest.mark.parametrize("function", ALL, ids=[*NAMES, "bootstrap"])


@every_function
def test_scores_that_are_not_finite_are_refused_by_position(function):
    with pytest.raises(ValueError, match=r"finite, got nan at position 1 \(first of 2"):
        function(np.array([0.0, np.nan, np.inf]), bools("+--"))


@every_function
def test_one_kind_alone_is_refused(function):
    with pytest.raises(ValueError, match="got 0 positives of 3 samples"):
        function(np.arange(3), bools("---"))
    with pytest.raises(ValueError, match="got 3 positives of 3 samples"):
        function(np.arange(3), bools("+++"))


@every_function
def test_unequal_lengths_are_refused(function):
    with pytest.raises(ValueError, match=r"one length, got shapes \(2,\) and \(3,\)"):
        function(np.arange(2), bools("+--"))


@every_function
def test_a_truth_that_is_not_bool_is_refused(function):
    with pytest.raises(ValueError, match="positive must be bool, got int64"):
        function(np.arange(3), np.array([1, 0, 0]))


@pytest.mark.parametrize("k", [0, -1, 4])
def test_a_list_longer_than_the_data_or_empty_is_refused(k):
    with pytest.raises(ValueError, match=f"between 1 and 3 samples, got {k}"):
        precision_at_k(np.arange(3), bools("+--"), k)


@pytest.mark.parametrize("level", [0, 1, 95])
def test_a_level_that_is_no_share_is_refused(level):
    with pytest.raises(ValueError, match=rf"share in \(0, 1\), got {level}"):
        bootstrap_interval(auroc, np.arange(3), bools("+--"), level=level)


def test_no_resample_at_all_is_refused():
    with pytest.raises(ValueError, match="at least 1, got 0"):
        bootstrap_interval(auroc, np.arange(3), bools("+--"), num_resamples=0)


def test_agreement_of_a_rising_function_is_full_in_ranks_only():
    score = np.arange(1.0, 6.0)
    found = agreement(score, score**2, k=2)
    assert found.spearman == pytest.approx(1)
    # Sums over 1..5: xy 225, x 15, y 55, xx 55, yy 979.
    assert found.pearson == pytest.approx((225 - 15 * 55 / 5) / (10 * 374) ** 0.5)
    assert found.cosine == pytest.approx(225 / (55 * 979) ** 0.5)
    assert found.top_overlap == 1


def test_agreement_turns_its_sign_with_the_score():
    score, reference = np.array([1.0, 2, 3, 4]), np.array([1.0, 3, 2, 4])
    there, back = agreement(score, reference, k=1), agreement(-score, reference, k=1)
    assert there[:3] == pytest.approx([-value for value in back[:3]])
    assert (there.top_overlap, back.top_overlap) == (1, 0)


def test_agreement_with_equal_values_does_not_depend_on_the_order():
    score, reference = np.array([1.0, 1, 1, 0]), np.array([3.0, 2, 1, 0])
    expected = agreement(score, reference, k=1)
    assert expected.top_overlap == pytest.approx(1 / 3)  # one of three equals
    for order in permutations(range(4)):
        order = list(order)
        found = agreement(score[order], reference[order], k=1)
        assert found == pytest.approx(expected)


@given(st.lists(st.integers(0, 4), min_size=3, max_size=12), st.randoms())
@few
def test_agreement_is_that_of_scipy(values, chance):
    from scipy import stats

    other = [chance.randint(0, 4) for _ in values]
    found = agreement(np.array(values), np.array(other), k=1)
    if len(set(values)) > 1 and len(set(other)) > 1:
        assert found.spearman == pytest.approx(stats.spearmanr(values, other).statistic)
        assert found.pearson == pytest.approx(stats.pearsonr(values, other).statistic)
    else:
        assert np.isnan([found.spearman, found.pearson]).all()


def test_a_constant_has_a_high_cosine_and_no_correlation():
    reference = np.random.default_rng(0).uniform(0.5, 1, 1000)
    nulls = null_scores(reference)
    constant = agreement(nulls["constant"], reference, k=100)
    assert np.isnan([constant.spearman, constant.pearson]).all()
    assert constant.cosine > 0.95
    assert constant.top_overlap == pytest.approx(0.1)
    shuffled = agreement(nulls["shuffled"], reference, k=100)
    assert abs(shuffled.spearman) < 0.1
    assert shuffled.cosine > 0.9


def test_agreement_of_tiny_values_does_not_underflow():
    score = np.array([1.0, 2, 4]) * 1e-200
    assert agreement(score, score, k=1) == pytest.approx((1, 1, 1, 1))


@pytest.mark.parametrize(
    ("score", "reference", "k", "match"),
    [
        ([1, 2], [1, 2, 3], 1, "one length"),
        ([1, np.nan], [1, 2], 1, "score must be finite"),
        ([1, 2], [1, np.inf], 1, "reference must be finite"),
        ([1, 2], [1, 2], 3, "k must be between 1 and 2"),
    ],
)
def test_agreement_refuses_what_it_cannot_compare(score, reference, k, match):
    with pytest.raises(ValueError, match=match):
        agreement(np.array(score), np.array(reference), k)


def test_enrichment_is_the_share_of_lists_that_hold_as_many():
    # Of the 10 pairs out of 5 samples, 1 has both positives and 6 have one.
    both = enrichment(np.array([5, 4, 3, 2, 1]), bools("++---"), k=2)
    assert both == pytest.approx((2, 0.8, 0.1))
    one = enrichment(np.array([5, 4, 3, 2, 1]), bools("+--+-"), k=2)
    assert one == pytest.approx((1, 0.8, 0.7))


def test_enrichment_of_a_constant_is_that_of_chance():
    found = enrichment(np.zeros(10), bools("++++------"), k=5)
    assert found.found == found.expected == 2
    assert found.p_value > 0.5


def test_calibration_error_weighs_the_gap_of_each_bin_by_its_samples():
    # (0.5, 1] holds three, right 1/3 of the time at 0.9; [0, 0.5] one, right at 0.5.
    confidence, correct = np.array([0.9, 0.9, 0.9, 0.5]), bools("+--+")
    error = expected_calibration_error(confidence, correct, bins=2)
    assert error == pytest.approx(3 / 4 * (0.9 - 1 / 3) + 1 / 4 * (1 - 0.5))
    # In one bin over- and underconfidence cancel out.
    error = expected_calibration_error(confidence, correct, bins=1)
    assert error == pytest.approx(3.2 / 4 - 2 / 4)


def test_calibration_error_of_certainty_is_the_share_of_errors():
    assert expected_calibration_error(np.ones(4), bools("+++-")) == 0.25
    assert expected_calibration_error(np.zeros(4), bools("----")) == 0


def test_an_edge_belongs_to_the_bin_below_it():
    # 1/3 and 0.2 share the bin [0, 1/3], so that their gaps cancel out.
    confidence = np.array([1 / 3, 0.2])
    error = expected_calibration_error(confidence, bools("+-"), bins=3)
    assert error == pytest.approx((2 / 3 - 0.2) / 2)
    confidence = np.array([np.nextafter(1 / 3, 1), 0.2])
    error = expected_calibration_error(confidence, bools("+-"), bins=3)
    assert error == pytest.approx((2 / 3 + 0.2) / 2)


def test_calibration_error_of_true_probabilities_is_small():
    rng = np.random.default_rng(0)
    confidence = rng.uniform(size=100_000).astype(np.float32)
    correct = rng.uniform(size=100_000) < confidence
    assert expected_calibration_error(confidence, correct) < 0.01
    assert expected_calibration_error(confidence, ~correct) > 0.3


@pytest.mark.parametrize(
    ("confidence", "correct", "bins", "match"),
    [
        ([0.5, 0.5], bools("+"), 15, "one length"),
        ([], bools(""), 15, "at least 1"),
        ([0.5], np.array([1]), 15, "correct must be bool, got int64"),
        ([0.5, 1.5], bools("+-"), 15, r"got 1.5 at position 1 .* not logits"),
        ([np.nan], bools("+"), 15, "got nan at position 0"),
        ([0.5], bools("+"), 0, "bins must be at least 1, got 0"),
    ],
)
def test_calibration_error_refuses_what_has_none(confidence, correct, bins, match):
    with pytest.raises(ValueError, match=match):
        expected_calibration_error(np.array(confidence), correct, bins=bins)
