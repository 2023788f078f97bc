import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr

from curvlib import metrics
from curvlib.studies import estimator as study

SMALL = {
    "num_train": 100,
    "epochs": 3,
    "scored_epochs": [1, 2, 9],
    "model": "mlp",
    "width": 16,
    "seeds": [0, 1],
    "num_reference": 20,
}


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    runs = tmp_path_factory.mktemp("runs")
    return study.measure(**SMALL, runs=str(runs)).tables


def run(**changes) -> dict:
    """What one run leaves, two samples and two epochs, all values 1 but for changes."""
    ways, close = study.variants_of(2, 1e-3)
    one = np.ones((2, 2))
    kinds = ("square", "norm", "loss", "gradient")
    found = {f"{way}/{kind}": one.copy() for way in ways for kind in kinds}
    found |= {f"{way}/{kind}": one[0].copy() for way in close for kind in kinds}
    found |= {f"crossings/{h:g}": np.zeros((2, 2)) for h in study.STEPS}
    found["mislabelled"] = np.array([True, False])
    return found | changes


def test_the_last_epoch_is_measured_and_none_beyond_it():
    assert study.measured_epochs([1, 2, 9], 3) == [1, 2, 3]
    assert study.measured_epochs([3, 1], 3) == [1, 3]


def test_every_table_has_a_row_for_each_activation_seed_and_variant(tables):
    ways, _ = study.variants_of(2, 1e-3)
    assert len(tables["steps"]) == 3 * 2 * len(ways)
    assert len(tables["auroc"]) == 3 * 2 * (2 * len(ways) + 3)
    assert len(tables["epochs"]) == 3 * 2 * 4 * 3
    assert tables["auroc"].notna().all(axis=None)
    assert set(tables["kinks"]["seed"]) == {0, 1}
    assert len(tables["kinks"]) == 2 * len(study.NEAR) * SMALL["num_train"]


def test_on_a_relu_network_the_exact_value_ignores_the_label(tables):
    labels = tables["labels"].set_index(["activation", "score"])["largest change"]
    assert labels.loc[("relu", "exact")].max() < 1e-6
    assert labels.loc[("softplus", "exact")].min() > 1e-3


def test_where_no_unit_differs_the_difference_is_the_exact_value(tables):
    kinks = tables["kinks"].query("exact > 1e-12 and crossings == 0 and step == 1e-5")
    assert len(kinks) > 5
    off = (kinks["difference"] / kinks["exact"] - 1).abs()
    assert off.median() < 1e-3


def test_auroc_is_that_of_the_mean_over_epochs():
    squares = np.array([[1.0, 0.0], [0.0, 3.0]])  # means .5 and 1.5
    found = {("relu", 0): run(**{"h = 0.1/square": squares})}
    table = study.aurocs(found, ["h = 0.1"]).set_index("score")["auroc"]
    assert table["h = 0.1"] == metrics.auroc(np.array([0.5, 1.5]), [True, False]) == 0
    assert table["h = 0.1, norm"] == 0.5  # all equal


def test_crossings_are_counted_over_probes_samples_and_seeds():
    some = {"crossings/1": np.array([[0, 4], [0, 2]])}
    found = {("relu", 0): run(**some), ("relu", 1): run()}
    table = study.crossings(found).set_index("step")
    assert table.loc[1.0, "mean_crossings"] == 6 / 8
    assert table.loc[1.0, "none"] == 3 / 4  # samples that no probe crosses


def test_probes_are_compared_with_the_reference_in_three_ways():
    rng = np.random.default_rng(0)
    reference, tested = rng.random((2, 20, 30)), rng.random((2, 10, 30))
    found = study.by_probes({"reference": reference, "tested": tested})
    row = found[(found["kind"] == "norm") & (found["num_probes"] == 2)].iloc[0]
    some, target = tested[:, :2].mean(1), reference.mean(1)
    assert row["mean_over_epochs"] == pytest.approx(
        spearmanr(some.mean(0), target.mean(0)).statistic
    )
    own = [spearmanr(a, b).statistic for a, b in zip(some, target, strict=True)]
    assert row["own_epoch"] == pytest.approx(np.mean(own))
    assert row["own_epoch_lowest"] == pytest.approx(min(own))
    far = [spearmanr(a, target.mean(0)).statistic for a in some]
    assert row["one_epoch_best"] == pytest.approx(max(far))


def test_the_numbers_told_follow_from_the_tables(tables):
    n = study.numbers(tables)
    steps = tables["steps"].set_index(["activation", "kind", "score"])["mean"]
    growth = steps["relu", "norm", "h = 1e-5"] / steps["relu", "norm", "h = 1e-3"]
    assert n["norm_growth"] == pytest.approx(growth)
    assert n["num_epochs"] == 3 and n["num_samples"] == 100
    exact = steps["gelu", "square", study.EXACT], steps["gelu", "norm", study.EXACT]
    off = max(
        abs(steps["gelu", kind, study.named(h)] / value - 1)
        for kind, value in zip(("square", "norm"), exact, strict=True)
        for h in study.STEPS[:4]
    )
    assert n["gelu_error"] == pytest.approx(off)


def test_loss_is_best_only_if_it_beats_every_variant():
    rows = [
        {"activation": a, "score": s, "seed": 0, "auroc": v}
        for a in study.ACTIVATIONS
        for s, v in {"h": 0.7, "h, norm": 0.8, "cumulative loss": 0.9}.items()
    ]
    record = {"auroc": pd.DataFrame(rows), "steps": pd.DataFrame({"score": ["h"]})}
    assert study.loss_is_best(record)
    assert study.gain_of_norm(record).round(6).tolist() == [0.1] * 3
    record["auroc"].loc[1, "auroc"] = 0.95  # the norm with one activation
    assert not study.loss_is_best(record)
