import numpy as np
import pandas as pd
import pytest

from curvlib.studies import toy
from curvlib.studies import what_is_curvature as study

SMALL = {"num_per_class": 8, "steps": 40, "snapshots": 4, "width": 8, "seeds": [3, 4]}


@pytest.fixture(scope="module")
def tables():
    return study.measure(**SMALL).tables


def test_the_points_are_those_of_the_first_seed_with_their_wrong_labels(tables):
    x, y, wrong = toy.two_classes(8, wrong_share=0.3, seed=3)
    np.testing.assert_array_equal(tables["points"][["x", "y"]], x)
    np.testing.assert_array_equal(tables["points"]["label"], y)
    np.testing.assert_array_equal(tables["points"]["wrong"], wrong)


def test_the_map_holds_probabilities_and_losses_of_both_labels(tables):
    chance, loss = tables["chance"], tables["loss"]
    assert chance.shape == loss.shape == (2, study.SIDE, study.SIDE)
    np.testing.assert_allclose(np.exp(-loss).sum(0), 1, rtol=1e-5)
    np.testing.assert_allclose(np.exp(-loss[1]), chance[1], rtol=1e-4, atol=1e-6)
    across, up = study.plane(tables["map"])
    points = tables["points"]
    assert across.min() == pytest.approx(points["x"].min() - 0.7)
    assert up.max() == pytest.approx(points["y"].max() + 0.7)


def test_estimates_are_near_the_exact_value_of_a_smooth_network(tables):
    assert len(tables["estimates"]) == 4 * 16
    assert study.relative_error(tables["estimates"]).median() < 0.5


def test_the_error_is_that_of_means_over_snapshots():
    table = pd.DataFrame(
        {"point": [0, 0, 1, 1], "exact": [1.0, 3, 2, 2], "estimate": [2.0, 4, 1, 1]}
    )
    assert study.relative_error(table).tolist() == [0.5, 0.5]


def test_every_seed_has_every_score(tables):
    found = tables["auroc"].pivot(index="seed", columns="score", values="auroc")
    assert found.shape == (2, 4) and found.notna().all(axis=None)
