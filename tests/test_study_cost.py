import pandas as pd
import pytest

from curvlib.studies import cost, published

SMALL = {"num_timed": 64, "model": "mlp", "probes": [1, 2], "repeats": 2}


@pytest.fixture(scope="module")
def tables():
    return cost.measure(**SMALL).tables


def test_scores_without_probes_stand_once_and_those_with_them_for_each_number(tables):
    counts = tables["scores"].groupby("score")["num_probes"].nunique()
    assert counts["curvature_square"] == 2 and counts["cumulative_loss"] == 1
    assert (tables["scores"]["trainings"] > 1).all()
    assert set(tables["timing"]["repeat"]) == {1, 2}


def test_a_contestant_has_its_median_and_its_range():
    timing = pd.DataFrame(
        {
            "what": ["training"] * 3 + ["logits"] * 3,
            "seconds_per_sample": [1e-3] * 3 + [2e-4, 4e-4, 3e-4],
            "over_training": [1.0] * 3 + [0.2, 0.4, 0.3],
        }
    )
    found = cost.by_contestant(timing)
    assert found["what"].tolist() == ["training", "logits"]
    assert found.iloc[1, 1:].tolist() == pytest.approx([0.3, 0.3, 0.2, 0.4])


def test_ensembles_cost_their_models_times_the_share_they_saw(tables):
    found = cost.with_ensembles(tables["scores"]).set_index("name")["trainings"]
    models = published.MEMORIZATION_MODELS["cifar100"]
    expected = models * published.MEMORIZATION_SHARE
    assert found["memorization, CIFAR-100"] == expected
    assert found.is_monotonic_decreasing
