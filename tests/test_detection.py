import numpy as np
import pandas as pd
import pytest
from scipy.stats import ttest_rel

from curvlib import data, metrics, scores
from curvlib.runs import halves, scoring, training
from curvlib.runs.settings import TrainConfig
from curvlib.studies import costs, detection, statistics

RNG = np.random.default_rng(0)
WRONG = np.arange(100) < 20
TABLE = pd.DataFrame({"good": WRONG + RNG.normal(0, 0.6, 100), "bad": RNG.random(100)})


def test_every_measure_is_that_of_metrics():
    found = detection.measure(TABLE, WRONG, num_resamples=50).set_index("score")
    assert list(found) == list(detection.MEASURES)
    for name in TABLE:
        score = TABLE[name].to_numpy()
        row = found.loc[name]
        assert row["auroc"] == metrics.auroc(score, WRONG)
        assert row["average_precision"] == metrics.average_precision(score, WRONG)
        assert row["fpr_at_95_tpr"] == metrics.fpr_at_95_tpr(score, WRONG)
        flagged = np.argsort(-score)[:20]
        missed = WRONG.sum() - WRONG[flagged].sum()
        assert row["false_negative_rate"] == pytest.approx(missed / 20)
        assert row["low"] <= row["auroc"] <= row["high"]


def test_paired_difference_is_students_within_seeds():
    a, b = np.array([0.9, 0.8, 0.85]), np.array([0.8, 0.72, 0.73])
    frame = pd.DataFrame(
        {"score": ["a"] * 3 + ["b"] * 3, "seed": [0, 1, 2] * 2, "auroc": [*a, *b]}
    )
    row = detection.paired_difference(frame, "b").loc["a"]
    interval = ttest_rel(a, b).confidence_interval()
    assert row["difference"] == pytest.approx((a - b).mean())
    assert (row["low"], row["high"]) == pytest.approx(tuple(interval))
    assert detection.paired_difference(frame, "b").loc["b", "difference"] == 0
    one = detection.paired_difference(frame[frame["seed"] == 0], "b").loc["a"]
    assert np.isnan(one["low"]) and one["difference"] == pytest.approx(0.1)
    with pytest.raises(ValueError, match="no rows for 'c'"):
        detection.paired_difference(frame, "c")
    with pytest.raises(ValueError, match="'b' lacks a seed"):
        detection.paired_difference(frame[:5], "b")


def test_rank_average_of_a_score_with_itself_orders_as_it_does():
    twice = detection.rank_average(TABLE[["good"]].assign(again=TABLE["good"] * 3))
    np.testing.assert_array_equal(np.argsort(twice), np.argsort(TABLE["good"]))


def test_logistic_reads_no_sample_that_it_was_fitted_on():
    noise = pd.DataFrame({f"n{i}": RNG.random(300) for i in range(3)})
    truth = RNG.random(300) < 0.3
    assert 0.35 < metrics.auroc(detection.logistic(noise, truth), truth) < 0.65
    both = detection.logistic(TABLE, WRONG)
    assert metrics.auroc(both, WRONG) > 0.7  # good alone has about 0.85
    np.testing.assert_array_equal(both, detection.logistic(TABLE, WRONG))


def test_what_fools_a_score_comes_worst_first():
    score = np.array([5.0, 4.0, 3.0, 2.0, 1.0])
    wrong = np.array([False, True, False, True, True])
    alarms, misses = detection.suspicious_and_missed(score, wrong, 2)
    assert alarms.tolist() == [0, 2]
    assert misses.tolist() == [4, 3]


def test_equal_scores_come_in_random_order_and_the_worst_first_all_the_same():
    wrong = np.arange(200) % 2 == 0
    score = np.where(np.arange(200) < 3, 2.0, 1.0)
    alarms, misses = detection.suspicious_and_missed(score, wrong, 20)
    assert alarms[0] == 1 and wrong[misses].all() and not wrong[alarms].any()
    assert (np.diff(alarms[1:]) < 0).any() and (np.diff(misses) < 0).any()
    assert not {0, 2} & set(misses)  # suspected more than the others
    again, _ = detection.suspicious_and_missed(score, wrong, 20)
    other, _ = detection.suspicious_and_missed(score, wrong, 20, seed=1)
    np.testing.assert_array_equal(again, alarms)
    assert (other != alarms).any()


def test_trainings_count_the_scored_epochs_only():
    frame = pd.DataFrame(
        {"score": ["all", "last"], "trainings": [3.0, 1.2], "epochs": [10, 1]}
    )
    trainings = detection.cost_in_trainings(frame, epochs=10, scored_epochs=5)
    assert trainings["all"] == pytest.approx(2)  # half of what scoring all would add
    assert trainings["last"] == pytest.approx(1.2)


def test_the_table_of_costs_is_what_it_reads():
    timing = pd.DataFrame(
        {
            "what": ["training", "logits", "input gradient", "curvature, n = 1"],
            "over_training": [1.0, 0.3, 0.8, 1.6],
        }
    )
    trainings = detection.cost_in_trainings(
        costs.of_scores(timing, epochs=4, num_probes=1), epochs=4, scored_epochs=4
    )
    assert trainings["cumulative_loss"] == pytest.approx(1.3)
    assert trainings["curvature_square"] == pytest.approx(2.6)
    assert trainings["curvature_last"] == pytest.approx(1.4)


CONFIG = TrainConfig(
    num_train=200,
    model="mlp",
    width=64,
    epochs=40,
    lr=0.05,
    batch_size=16,
    schedule="cosine",
    noise_rate=0.1,
    score_original_labels=True,
)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    images, _ = training.prepare(CONFIG)
    runs = tmp_path_factory.mktemp("runs")
    return images, training.fit(CONFIG, images, runs=runs)


def test_labels_at_scoring_are_those_trained_on(run):
    images, trace = run
    np.testing.assert_array_equal(trace.labels, images.labels)
    scaling = trace.info["mean"], trace.info["std"]
    p = scoring.probabilities(training.trained_model(trace), images, scaling=scaling)
    given = p[np.arange(len(p)), images.labels]
    true = p[np.arange(len(p)), images.original_labels]
    np.testing.assert_allclose(trace.read("probability")[-1], given, atol=1e-5)
    # Else this test could not tell one label from the other.
    assert np.abs(given - true)[images.mislabelled].min() > 0.01


def test_the_slip_changes_the_wrong_labels_and_nothing_else(run):
    images, trace = run
    slip = detection.UnderOriginalLabels(trace)
    wrong = images.mislabelled
    np.testing.assert_array_equal(
        slip.samples()["label"].to_numpy(), images.original_labels
    )
    for column in ("loss", "mean_hvp_norm", "correct"):
        kept, other = trace.read(column), slip.read(column)
        np.testing.assert_array_equal(kept[:, ~wrong], other[:, ~wrong])
        assert (kept[:, wrong] != other[:, wrong]).any()
    # At the end the wrong labels are fitted, so that the true ones surprise.
    assert (
        slip.read("loss")[-1, wrong].mean() > 2 * trace.read("loss")[-1, wrong].mean()
    )
    table = scores.compute(slip)
    assert table["label"].tolist() == images.original_labels.tolist()


def test_a_run_without_original_labels_says_how_to_get_them(tmp_path):
    trace = training.fit(
        TrainConfig(num_train=60, model="mlp", epochs=1), runs=tmp_path
    )
    with pytest.raises(FileNotFoundError, match="set score_original_labels"):
        detection.UnderOriginalLabels(trace)


def test_wrong_labels_that_are_trivial_to_find_are_found_by_all_that_should(tmp_path):
    """Two classes of one picture each in noise, and a few labels swapped.

    The noise is what a label can be learned by heart from: without it, and before it is
    learned, curvature cannot tell a wrong label from a right one (AUROC 0.52).
    """
    rng = np.random.default_rng(1)
    pictures = np.full((2, 8, 8, 1), 60.0)
    pictures[0, :4], pictures[1, 4:] = 180, 180
    classes = np.arange(120) % 2
    pixels = pictures[classes] + rng.normal(0, 60, (120, 8, 8, 1))
    images = data.Images(
        images=np.clip(pixels, 0, 255).round().astype(np.uint8),
        labels=classes,
        index=np.arange(120),
        classes=("upper", "lower"),
    )
    images = data.with_symmetric_noise(images, 0.05, seed=0)
    wrong = images.mislabelled
    config = TrainConfig(
        dataset="digits",
        model="mlp",
        width=64,
        epochs=40,
        lr=0.05,
        batch_size=16,
        schedule="cosine",
    )
    trace = training.fit(config, images, runs=tmp_path)
    assert trace.read("correct")[-1].all()
    table = scores.suspicion(scores.compute(trace))
    two = halves.train_on_halves(config, images, second_epochs=3, runs=tmp_path)
    table["confident_learning"] = halves.confident_learning(
        two.probabilities, images.labels
    )
    sensible = [
        "curvature_square",
        "curvature_norm",
        "curvature_last",
        "cumulative_loss",
        "cumulative_gradient",
        "aum",
        "aum_softmax",
        "el2n",
        "grand",
        "in_confidence_mean",
        "learning_time",
        "confident_learning",
    ]
    found = {name: metrics.auroc(table[name].to_numpy(), wrong) for name in sensible}
    assert min(found.values()) > 0.99, found
    low, high = statistics.auroc_interval(table["random"].to_numpy(), wrong)
    assert low < 0.5 < high
