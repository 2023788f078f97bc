import numpy as np
import pandas as pd
import pytest

from curvlib import metrics
from curvlib.runs.head import Vectors
from curvlib.studies import wrong_label_tool_tables as tables
from curvlib.studies import wrong_label_tools as study
from tests.test_head import clusters, wrong
from tests.test_study_calibration import short  # noqa: F401  heads that take a second

SMALL = {"num_train": 150, "features": "pixels", "num_resamples": 20}


@pytest.fixture
def made(tmp_path):
    return study.measure(**SMALL, seeds=[0, 1], runs=str(tmp_path)).tables


def test_every_tool_meets_the_same_samples_once_a_seed(made):
    found = made["scores"]
    assert found["seed"].value_counts().nunique() == 1
    names = set(found["score"])
    assert set(study.COMPARED) <= names
    assert {"cleanlab", "cleanlab_margin", "cleanlab_adjusted"} <= names
    assert found["auroc"].between(0, 1).all() and (found["error"] > 0).all()
    of_cleanlab = found[found["score"] == "cleanlab"]
    assert (of_cleanlab["difference"] == 0).all()
    assert found["seconds"].notna()[found["score"] == "consensus"].all()
    assert made["cases"]["wrong"].tolist() == [15, 15]
    assert made["tools"].set_index("tool").loc["cleanlab", "version"]


def test_a_measurement_goes_on_from_what_was_kept(tmp_path, made):
    again = study.measure(**SMALL, seeds=[0, 1], runs=str(tmp_path)).tables
    pd.testing.assert_frame_equal(made["scores"], again["scores"])


def test_without_cleanlab_its_rows_are_missing_and_nothing_is_claimed(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(study, "find_spec", lambda _: None)
    made = study.measure(**SMALL, seeds=[0], runs=str(tmp_path)).tables
    assert not made["scores"]["score"].str.startswith("cleanlab").any()
    assert made["tools"]["version"].tolist() == ["", ""]
    assert study.verdict(made["scores"]) is None
    found = tables.by_data({"digits": made["scores"]})
    assert tables.verdicts({"digits": made["scores"]}) == (
        {"digits": None},
        {"digits": None},
    )
    assert tables.differences(found) == {}
    assert "cleanlab" in tables.gains(found)


def test_cleanlab_of_our_head_is_our_out_of_fold_probability():
    """cleanlab's default score reads nothing but the probability of the label given."""
    from cleanlab.rank import get_label_quality_scores

    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.ones(4), 50)
    labels = rng.integers(0, 4, 50)
    labels[:4] = range(4)
    quality = get_label_quality_scores(labels, p)
    np.testing.assert_allclose(quality, p[np.arange(50), labels])


def test_cleanlab_finds_wrong_labels_in_clusters():
    vectors = clusters(count=200, wrong=10)
    for score in study.cleanlab_scores(vectors, seed=0).values():
        assert metrics.auroc(-score, wrong(vectors)) > 0.95


def test_cleanlabs_classifier_is_regularised_where_features_are_many(monkeypatch):
    rng = np.random.default_rng(0)
    truth = np.arange(300) % 2
    x = rng.standard_normal((300, 100))
    x[:, :10] += truth[:, None] - 0.5  # the rest is noise
    vectors = Vectors(
        features=100 * x + 7,  # scales do not matter
        labels=np.where(np.arange(300) < 30, 1 - truth, truth),
        original_labels=truth,
        index=np.arange(300),
        classes=("a", "b"),
    )

    def found() -> float:
        quality = study.cleanlab_scores(vectors, seed=0)["cleanlab"]
        return metrics.auroc(-quality, wrong(vectors))

    chosen = found()
    monkeypatch.setattr(study, "STRENGTHS", (1.0,))
    assert chosen > found() + 0.02


def test_the_bootstrap_of_the_auroc_is_that_of_drawn_samples():
    rng = np.random.default_rng(0)
    score = rng.integers(0, 5, 40).astype(float)
    positive = np.arange(40) < 10
    times = rng.integers(0, 3, 40)
    drawn = np.repeat(np.arange(40), times)
    expected = metrics.auroc(score[drawn], positive[drawn])
    (found,) = study._aurocs(score, positive, [(times[positive], times[~positive])])
    assert found == pytest.approx(expected)


def scores(difference: float, error: float, difference_error: float) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "seed": [0, 0],
            "score": ["consensus", "cleanlab"],
            "auroc": [0.9 + difference, 0.9],
            "error": [error, error],
            "precision_at_wrong": [0.8, 0.7],
            "difference": [difference, 0.0],
            "difference_error": [difference_error, 0.0],
            "seconds": [60.0, 30.0],
        }
    )


def test_what_counts_as_at_least_as_good_and_as_better():
    assert study.verdict(scores(0.02, 0.01, 0.01)) == (True, True)
    assert study.verdict(scores(0.005, 0.01, 0.01)) == (True, False)
    assert study.verdict(scores(-0.005, 0.01, 0.01)) == (True, False)
    assert study.verdict(scores(-0.02, 0.01, 0.01)) == (False, False)


def test_one_row_a_set_of_labels_and_minutes_at_the_end():
    found = tables.by_data({"a": scores(0.02, 0.01, 0.01), "b": scores(0, 0.01, 0.01)})
    table = tables.wide(found, ("consensus", "cleanlab", "random"))
    assert table.columns.tolist() == ["labels", "our default order", "cleanlab"]
    assert table["labels"].tolist() == ["a", "b", tables.MINUTES]
    assert table["our default order"].tolist() == [
        "0.920 ± 0.010",
        "0.900 ± 0.010",
        "1.0",
    ]
    assert tables.ahead(found, "consensus", "cleanlab") == {"a": True, "b": False}


def test_networks_on_pixels_come_from_their_records(tmp_path):
    assert tables.on_pixels(tmp_path)["data"].tolist() == ["not run"]
    (tmp_path / "mislabelled").mkdir()
    pd.DataFrame(
        {
            "score": ["curvature_norm", "cumulative_loss", "curvature_norm", "random"],
            "noise_rate": [0.1, 0.1, 0.2, 0.1],
            "auroc": [0.7, 0.8, 0.9, 0.99],
        }
    ).to_csv(tmp_path / "mislabelled/metrics.csv")
    pd.DataFrame({"train_seconds": [60.0], "score_seconds": [30.0]}).to_csv(
        tmp_path / "mislabelled/runs.csv"
    )
    (row,) = tables.on_pixels(tmp_path).to_dict("records")
    assert row["best score"] == "cumulative loss" and row["its AUROC"] == "0.800"
    assert row["minutes for one network"] == "1.5"
