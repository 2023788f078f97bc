import numpy as np
import pandas as pd
import pytest

from curvlib.runs.head import HeadConfig
from curvlib.studies import calibration as study
from curvlib.studies import suspects

SMALL = {
    "num_train": 150,
    "features": "pixels",
    "noises": ["symmetric"],
    "noise_rates": [0.1],
    "plant": 0.1,
    "num_planted": 15,
    "num_resamples": 20,
}


@pytest.fixture(autouse=True)
def short(monkeypatch):
    """Heads that take a second; they need not be good."""
    monkeypatch.setattr(suspects, "epochs_within", lambda config, _: config)
    linear = HeadConfig(hidden=0, epochs=4, lr=0.01)
    hidden = HeadConfig(hidden=32, epochs=3, lr=0.02)
    monkeypatch.setattr(suspects, "LINEAR", linear)
    monkeypatch.setattr(suspects, "HIDDEN", hidden)


def test_the_estimate_stands_beside_the_truth(tmp_path):
    made = study.measure(**SMALL, runs=str(tmp_path)).tables
    (row,) = made["counts"].to_dict("records")
    assert row["samples"] == 150 and row["wrong"] == 15 and row["planted"] == 15
    assert row["low"] <= row["estimate"] <= row["high"]
    shares = made["precision"]
    assert shares["rank"].tolist() == sorted(set(shares["rank"]))
    assert shares["truth"].between(0, 1).all()
    assert (shares["low"] <= shares["precision"]).all()
    again = study.measure(**SMALL, runs=str(tmp_path)).tables
    pd.testing.assert_frame_equal(made["counts"], again["counts"])


def test_the_true_share_counts_the_first_suspects():
    rank = np.array([2, 1, 4, 3])
    wrong = np.array([False, True, False, True])
    curve = pd.DataFrame({"rank": [1, 2, 3, 4]})
    found = study.with_truth(curve, rank, wrong)["truth"]
    assert found.tolist() == pytest.approx([1, 1 / 2, 2 / 3, 2 / 4])


def test_ranks_are_the_nearest_below_and_occur_once():
    curve = pd.DataFrame({"rank": [1, 2, 4, 8, 60]})
    assert study.at_ranks(curve, [10, 20, 50, 100])["rank"].tolist() == [8]
    assert study.at_ranks(curve, [1, 4, 60])["rank"].tolist() == [1, 4, 60]


def test_coverage_by_kind_and_in_all():
    counts = pd.DataFrame(
        {
            "noise": ["symmetric", "symmetric", "pair"],
            "wrong": [10, 10, 10],
            "estimate": [10.0, 12.0, 5.0],
            "low": [8.0, 10.4, 3.0],
            "high": [12.0, 14.0, 7.0],
        }
    )
    precision = pd.DataFrame(
        {
            "noise": ["symmetric", "pair"],
            "rank": [10, 10],
            "truth": [0.9, 0.5],
            "precision": [0.8, 0.9],
            "low": [0.8, 0.8],
            "high": [0.9, 1.0],
        }
    )
    found = study.coverage(counts, precision).set_index("noise")
    assert found.loc["symmetric", "inside"] == 1  # 10.4 is 10 to the nearest label
    assert found.loc["pair", "inside"] == 0
    assert found.loc["all", "inside"] == pytest.approx(2 / 3)
    assert found.loc["all", "ratio"] == 1
    assert found.loc["all", "precision inside"] == 0.5
    assert found.loc["all", "error"] == pytest.approx(0.25)
