import re
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from curvlib import scores
from curvlib.scores import SCORES, compute, suspicion
from curvlib.trace import COLUMNS

few = settings(max_examples=50, deadline=None)
SHAPES = st.tuples(st.integers(1, 6), st.integers(1, 5))
NUMBERS = arrays(np.float64, SHAPES, elements=st.floats(-1e3, 1e3))
HISTORIES = arrays(bool, SHAPES)
CONTINUOUS = [n for n, s in SCORES.items() if s.fields and s.fields != ("correct",)]

# Two scored epochs (rows), three samples (columns).
TABLE = np.array([[4.0, 0.0, 1.0], [2.0, 6.0, 0.0]])
# One history a column: always right, never right, forgotten once, learned late, lost.
HISTORY = np.array(
    [
        [1, 0, 1, 0, 0],
        [1, 0, 0, 0, 1],
        [1, 0, 1, 1, 1],
        [1, 0, 1, 1, 0],
    ],
    dtype=bool,
)


class FakeTrace:
    """Three samples, two epochs of which one lies between; counts what is read."""

    epochs = np.array([1, 3])
    index = np.array([5, 8, 30])
    labels = np.array([2, 0, 1])
    heldout = pd.DataFrame({"index": [1, 2], "label": [7, 9]})

    def __init__(self, **replaced):
        fields = {field for score in SCORES.values() for field in score.fields}
        self.fields = {field: TABLE / 8 for field in fields}
        self.fields["correct"] = TABLE > 1
        self.fields |= replaced
        self.reads = []

    def samples(self, split="train"):
        train = pd.DataFrame({"index": self.index, "label": self.labels})
        return {"train": train, "heldout": self.heldout}[split]

    def read(self, field, split="train"):
        self.reads.append((field, split))
        return self.fields[field]


@pytest.mark.parametrize(
    "name",
    ["curvature_square", "curvature_norm", "aum", "aum_softmax", "el2n", "grand"],
)
def test_scores_that_are_means_over_epochs(name):
    np.testing.assert_array_equal(SCORES[name].function(TABLE), [3.0, 3.0, 0.5])


def test_entropy_is_the_mean_over_epochs():
    np.testing.assert_array_equal(scores.entropy(TABLE), [3.0, 3.0, 0.5])


def test_cumulative_loss_is_the_sum_over_epochs():
    np.testing.assert_array_equal(scores.cumulative_loss(TABLE), [6.0, 6.0, 1.0])


def test_cumulative_gradient_sums_squares_not_norms():
    np.testing.assert_array_equal(scores.cumulative_gradient(TABLE), [20.0, 36.0, 1.0])


@pytest.mark.parametrize("name", ["curvature_last", "final_loss"])
def test_scores_that_are_the_last_scored_epoch(name):
    np.testing.assert_array_equal(SCORES[name].function(TABLE), [2.0, 6.0, 0.0])


@pytest.mark.parametrize("name", ["in_confidence_last", "in_confidence_max_last"])
def test_in_confidence_is_one_minus_the_last_probability(name):
    p = np.array([[0.0, 1.0], [0.75, 0.5]])
    np.testing.assert_array_equal(SCORES[name].function(p), [0.25, 0.5])


def test_in_confidence_mean_is_one_minus_the_mean_probability():
    p = np.array([[0.0, 1.0], [0.75, 0.5]])
    np.testing.assert_array_equal(scores.in_confidence_mean(p), [0.625, 0.25])


def test_sums_of_many_float32_losses_do_not_drift():
    loss = np.full((3000, 1), 0.1, dtype=np.float32)
    expected = 3000 * float(np.float32(0.1))
    np.testing.assert_allclose(scores.cumulative_loss(loss), expected, rtol=1e-12)


def test_forgetting_events_counts_right_then_wrong_and_puts_never_learned_last():
    np.testing.assert_array_equal(scores.forgetting_events(HISTORY), [0, 4, 1, 0, 1])


def test_learning_time_is_the_first_epoch_of_the_last_unbroken_run():
    np.testing.assert_array_equal(scores.learning_time(HISTORY), [1, 5, 3, 3, 5])


def test_random_reaches_an_index_of_ten_trillion_without_a_vector_as_long():
    far = np.array([10**13, 3])
    values = scores.random(far, seed=5)
    assert values[1] == scores.random(np.arange(10), seed=5)[3]
    assert 0 <= values[0] < 1
    np.testing.assert_array_equal(scores.random(far[:1], seed=5), values[:1])
    # Beyond the border the values are those of the same stream.
    border = np.array([9_999_999, 10_000_000])
    together = scores.random(border, seed=5)
    assert together[0] == scores.random(border[:1], seed=5)[0]


def test_the_table_knows_everything_about_every_score():
    labels = [score.label for score in SCORES.values()]
    assert all(labels) and len(set(labels)) == len(labels)
    assert not any("_" in label for label in labels)  # words, not column names
    measured_by = {
        "gradient_norm": "input gradient",
        "mean_hvp_norm": "curvature",
        "squared_frobenius_norm": "curvature",
    }
    for name, score in SCORES.items():
        assert score.sign in (+1, -1), name
        assert set(score.fields) <= COLUMNS.keys(), name
        for field in score.fields:
            assert score.needs == measured_by.get(field, "logits"), name
    without = {name for name, score in SCORES.items() if score.function is None}
    assert without == set(SCORES) - set(scores.FROM_TRACE)


def test_scores_that_a_trace_alone_does_not_give_are_rows_but_not_computed():
    others = [name for name in SCORES if name not in scores.FROM_TRACE]
    assert others == ["confident_learning", "second_split_forgetting", "gauss_newton"]
    assert not set(others) & set(compute(FakeTrace()))
    frame = pd.DataFrame({name: [1.0, 2.0] for name in others})
    turned = suspicion(frame)
    assert turned["second_split_forgetting"].tolist() == [-1, -2]
    assert turned["gauss_newton"].tolist() == [1, 2]


def test_every_source_is_in_the_bibliography_of_the_book():
    bibliography = Path(__file__).parents[1] / "book" / "references.bib"
    keys = re.findall(r"^@\w+\{(\w+),", bibliography.read_text(encoding="utf-8"), re.M)
    assert {score.source for score in SCORES.values() if score.source} <= set(keys)


@given(HISTORIES)
@few
def test_never_learned_samples_have_more_forgetting_events_than_any_other(correct):
    events = scores.forgetting_events(correct)
    never = ~correct.any(0)
    assert (events[never] == len(correct)).all()
    assert (events[~never] <= len(correct) // 2).all()


@given(HISTORIES)
@few
def test_counting_scores_agree_with_a_slow_walk_through_each_history(correct):
    for i, history in enumerate(correct.T.tolist()):
        pairs = list(pairwise(history))
        events = pairs.count((True, False)) if any(history) else len(history)
        time = len(history) + 1
        while time > 1 and history[time - 2]:
            time -= 1
        assert scores.forgetting_events(correct)[i] == events
        assert scores.learning_time(correct)[i] == time


@pytest.mark.parametrize("name", ["forgetting_events", "learning_time"])
def test_counting_scores_read_zeros_and_ones_as_they_read_bools(name):
    function = SCORES[name].function
    np.testing.assert_array_equal(
        function(HISTORY), function(HISTORY.astype(np.float32))
    )
    assert function(HISTORY).dtype == np.int64


# The peak's epoch is that of all samples together.
@pytest.mark.parametrize("name", [n for n in CONTINUOUS if n != "curvature_peak"])
@given(values=NUMBERS, data=st.data())
@few
def test_a_score_depends_on_its_own_sample_alone(name, values, data):
    order = np.array(data.draw(st.permutations(range(values.shape[1]))))
    function = SCORES[name].function
    np.testing.assert_array_equal(function(values[:, order]), function(values)[order])
    np.testing.assert_array_equal(function(values[:, :1]), function(values)[:1])


@pytest.mark.parametrize("name", CONTINUOUS)
def test_a_score_leaves_its_input_as_it_was(name):
    table = TABLE.copy()
    SCORES[name].function(table)
    np.testing.assert_array_equal(table, TABLE)


def test_random_depends_on_seed_and_index_only():
    many = scores.random(np.arange(1000), seed=3)
    np.testing.assert_array_equal(
        scores.random(np.array([900, 2]), seed=3), many[[900, 2]]
    )
    assert not np.isclose(many, scores.random(np.arange(1000), seed=4)).any()


def test_random_jumps_to_a_far_index_and_gives_what_its_stream_has_there():
    index = np.array([3, 10_000_000, 0, 2_000_001, 3, 2_000_000])
    stream = np.random.default_rng(5).random(10_000_001)
    np.testing.assert_array_equal(scores.random(index, seed=5), stream[index])
    # The whole stream would take 73 TiB.
    far = scores.random(np.array([10**13, 4, 2**63 - 1]), seed=5)
    assert far[1] == stream[4] and (far >= 0).all() and (far < 1).all()
    again = scores.random(np.array([2**63 - 1, 10**13]), seed=5)
    np.testing.assert_array_equal(again, far[[2, 0]])


def test_random_is_uniform_within_four_standard_errors():
    values = scores.random(np.arange(10_000))
    assert values.min() >= 0 and values.max() < 1
    assert abs(values.mean() - 0.5) < 4 * np.sqrt(1 / 12 / 10_000)
    # Var of the sample variance of U(0, 1): (mu4 - sigma^4) / N = 1/180 / N
    assert abs(values.var() - 1 / 12) < 4 * np.sqrt(1 / 180 / 10_000)


def test_compute_reads_each_field_once():
    trace = FakeTrace()
    compute(trace)
    fields = [field for field, _ in trace.reads]
    assert sorted(fields) == sorted(set(fields))
    assert set(fields) == {f for score in SCORES.values() for f in score.fields}


def test_compute_gives_index_label_and_every_score_in_order():
    frame = compute(FakeTrace())
    assert list(frame.columns) == ["index", "label", *scores.FROM_TRACE]
    np.testing.assert_array_equal(frame["index"], [5, 8, 30])
    np.testing.assert_array_equal(frame["label"], [2, 0, 1])
    np.testing.assert_array_equal(frame["cumulative_loss"], [0.75, 0.75, 0.125])
    np.testing.assert_array_equal(frame["in_confidence_last"], [0.75, 0.25, 1.0])
    np.testing.assert_array_equal(frame["learning_time"], [1, 2, 3])


def test_compute_passes_its_seed_to_the_random_score():
    expected = scores.random(FakeTrace.index, seed=7)
    np.testing.assert_array_equal(compute(FakeTrace(), seed=7)["random"], expected)


def test_compute_takes_index_and_labels_of_held_out_samples_from_their_own_record():
    trace = FakeTrace()
    trace.fields = {f: v[:, :2] for f, v in trace.fields.items()}
    frame = compute(trace, "heldout")
    assert frame["index"].tolist() == [1, 2]
    assert frame["label"].tolist() == [7, 9]
    assert {split for _, split in trace.reads} == {"heldout"}


def test_compute_refuses_a_field_of_another_shape():
    with pytest.raises(ValueError, match=r"'loss' .* must have shape \(2, 3\)"):
        compute(FakeTrace(loss=TABLE[:1]))


def test_suspicion_turns_the_margins_and_nothing_else():
    frame = compute(FakeTrace())
    turned = suspicion(frame)
    margins = ["aum", "aum_softmax"]
    np.testing.assert_array_equal(turned[margins], -frame[margins])
    pd.testing.assert_frame_equal(
        turned.drop(columns=margins), frame.drop(columns=margins)
    )


def test_every_score_ranks_a_mislabelled_sample_above_a_clean_one_by_suspicion():
    # Column 0 is fitted from the start, column 1 never is: all signs must agree.
    clean_then_wrong = {field: [0.0, 1.0] for field in FakeTrace().fields}
    clean_then_wrong |= {"softmax_margin": [1.0, -1.0]}
    clean_then_wrong |= {"margin": [5.0, -5.0], "correct": [True, False]}
    clean_then_wrong |= {"probability": [1.0, 0.0], "max_probability": [1.0, 0.5]}
    trace = FakeTrace(
        **{
            field: np.array([[clean, 0.9 * wrong], [clean, wrong]], type(clean))
            for field, (clean, wrong) in clean_then_wrong.items()
        }
    )
    trace.index, trace.labels = np.array([0, 1]), np.array([0, 0])
    ranked = suspicion(compute(trace)).drop(columns=["index", "label", "random"])
    not_above = ranked.columns[~(ranked.loc[1] > ranked.loc[0])].tolist()
    assert not_above == [], "turn the sign of these, or keep them out of SCORES"


def test_suspicion_refuses_a_column_whose_direction_it_does_not_know():
    frame = compute(FakeTrace()).assign(mislabelled=True)
    with pytest.raises(ValueError, match=r"direction is known for \['mislabelled'\]"):
        suspicion(frame)


@pytest.mark.parametrize("name", [n for n in scores.FROM_TRACE if n != "random"])
def test_every_score_refuses_what_is_not_epochs_by_samples(name):
    function = SCORES[name].function
    with pytest.raises(ValueError, match=r"epochs × samples.* got shape \(3,\)"):
        function(np.zeros(3))
    with pytest.raises(ValueError, match=r"at least one of each, got shape \(0, 3\)"):
        function(np.zeros((0, 3)))
    with pytest.raises(ValueError, match=r"got shape \(2, 0\)"):
        function(np.zeros((2, 0)))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", [n for n in scores.FROM_TRACE if n != "random"])
def test_every_score_says_where_a_value_is_not_finite(name, bad):
    values = np.zeros((2, 3))
    values[1, 2] = bad
    message = f"{SCORES[name].fields[0]} must be finite, got {bad} at row 1, column 2"
    with pytest.raises(ValueError, match=message):
        SCORES[name].function(values)


def test_counting_scores_refuse_probabilities():
    with pytest.raises(ValueError, match=r"correct must be bool.* got 0\.5"):
        scores.learning_time(np.full((2, 2), 0.5))


def test_random_refuses_what_is_no_index():
    with pytest.raises(ValueError, match=r"a vector of integers, got float64"):
        scores.random(np.array([0.5]))
    with pytest.raises(ValueError, match=r"got int64 of shape \(2, 2\)"):
        scores.random(np.zeros((2, 2), dtype=int))
    with pytest.raises(ValueError, match="counts from 0, got -1"):
        scores.random(np.array([3, -1]))
