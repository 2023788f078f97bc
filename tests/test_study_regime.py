from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from curvlib import metrics
from curvlib.book import catalogue, records
from curvlib.runs import features
from curvlib.runs.settings import GENERALISE_FIRST, TrainConfig
from curvlib.runs.training import fit
from curvlib.studies import config_of, regime

ROOT = Path(__file__).parents[1]

SMALL = {
    "model": "mlp",
    "width": 16,
    "epochs": 4,
    "num_heldout": 60,
    "batch_size": 32,
    "lr": 0.05,
}
CLEAN = {"dataset": "cifar100", "num_heldout": 10000, "noise_rate": 0.0}
MORE = {"augment_epochs": 2, "restart": 0.5, "shift": 1}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return str(tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def measured(runs):
    return regime.measure(
        **SMALL,
        sizes=[100, 300],
        augmented=[False, True],
        more_settings=MORE,
        runs=runs,
    )


@pytest.fixture(scope="module")
def record(measured):
    points = measured.tables["points"].assign(**{regime.LEARNED: 1.0})
    tables = dict(measured.tables) | {"points": points}
    return Shown(tables, "regime", dataset="digits", noise_rate=0.1)


class Shown(dict):
    """Tables that look like a record."""

    def __init__(self, tables, study, **parameters):
        super().__init__(tables)
        self.made = {"study": study}
        self.parameters = SimpleNamespace(**parameters)


def trace_of(runs, **changes):
    given = SMALL | {"noise_rate": 0.1, "score_original_labels": True}
    given |= {"schedule": "cosine"} | changes
    return fit(TrainConfig(**given), runs=runs)


def test_every_setting_has_a_run_and_every_score_a_point(measured):
    points = measured.tables["points"]
    runs = points.groupby(["images", "augmented"]).size()
    assert set(runs.index) == {(n, a) for n in (100, 300) for a in (False, True)}
    assert runs.nunique() == 1 and "random" in set(points["score"])
    assert len(measured.runs) == 4


def test_numbers_are_those_of_the_run_itself(measured, runs):
    trace = trace_of(runs, num_train=300, augment=True, **MORE)
    assert trace.folder.name in set(measured.runs["run"])
    samples = trace.samples("train")
    wrong = (samples["label"] != samples["original_label"]).to_numpy()
    points = measured.tables["points"]
    point = points[(points["images"] == 300) & points["augmented"]]
    point = point.set_index("score").loc["cumulative_loss"]
    expected = metrics.auroc(trace.read("loss").astype(float).mean(0), wrong)
    assert point["auroc"] == pytest.approx(expected)
    unseen = trace.read("correct", "heldout").mean(1)
    assert point[regime.UNSEEN] == pytest.approx(unseen[-1])
    assert point[regime.LEARNED] == trace.read("correct")[-1][wrong].mean()
    course = measured.tables["course"]
    course = course[(course["images"] == 300) & course["augmented"]]
    np.testing.assert_allclose(course[regime.UNSEEN], unseen)


def test_averages_along_a_run_begin_and_end_where_they_should(measured):
    table = measured.tables["along"]
    keys = ["images", "augmented", "score"]
    at = {
        (which, averaged, epoch): rows.set_index(keys)["auroc"]
        for (which, averaged, epoch), rows in table.groupby(
            ["epochs", "averaged", "epoch"]
        )
    }
    alone, so_far, onward = regime.ALONE, regime.SO_FAR, regime.ONWARD
    values, ranks = regime.VALUES, regime.RANKS
    same = pd.testing.assert_series_equal
    same(at[alone, values, 1], at[so_far, values, 1])
    same(at[alone, values, 4], at[onward, values, 4])
    same(at[so_far, values, 4], at[onward, values, 1])
    same(at[so_far, ranks, 4], at[onward, ranks, 1])
    same(at[alone, values, 1], at[so_far, ranks, 1])  # ranks keep the order
    whole = at[so_far, values, 4].unstack("score")
    points = measured.tables["points"].set_index(keys)["auroc"].unstack("score")
    for score in regime.FIELDS:
        np.testing.assert_allclose(whole[score], points[score], atol=1e-6)


class Trace:
    """Two epochs of six samples, of which the last two have wrong labels."""

    epochs = np.array([1, 2])
    right = np.array([[1, 1, 1, 0, 0, 0], [1, 1, 1, 1, 1, 1]], bool)
    values = np.array([[1.0, 2, 3, 9, 5, 6], [1.0, 2, 3, 9, 5, 6]])

    def read(self, field):
        return self.right if field == "correct" else self.values


def test_a_hard_image_among_the_false_alarms_is_counted():
    wrong = np.array([0, 0, 0, 0, 1, 1], bool)
    table = regime.hard_images(Trace(), wrong, 0).set_index("score")
    loss = table.loc["cumulative_loss"]
    # Flagged: the hard image (9) and a wrong label (6). Against the three easy images
    # every wrong label wins, against the hard one none.
    assert loss["share hard"] == 0.25 and loss["hard among false alarms"] == 1
    assert loss["auroc against easy"] == 1 and loss["auroc against hard"] == 0
    assert loss["auroc"] == 0.75 and loss["epoch"] == 1
    easy = regime.hard_images(Trace(), wrong, 1).set_index("score")
    assert np.isnan(easy.loc["cumulative_loss", "auroc against hard"])


def test_memorising_begins_after_the_augmented_epochs_or_the_best_accuracy(record):
    hard, course = record["hard"], record["course"]
    assert set(hard[hard["augmented"]]["epoch"]) == {MORE["augment_epochs"]}
    plain = course[~course["augmented"] & (course["images"] == 300)]
    best = plain["epoch"].iloc[plain[regime.UNSEEN].argmax()]
    rows = hard[~hard["augmented"] & (hard["images"] == 300)]
    assert set(rows["epoch"]) == {best}


def test_points_of_both_studies_come_together(record):
    metrics_table = pd.DataFrame(
        {
            "noise_rate": 0.1,
            "seed": [0, 1],
            "score": "curvature_norm",
            "auroc": [0.6, 0.8],
        }
    )
    fitted = pd.DataFrame(
        {
            "noise_rate": 0.1,
            "seed": [0, 1],
            "samples": 200,
            "share wrong": 0.1,
            regime.UNSEEN: [0.4, 0.5],
            regime.LEARNED: 1.0,
        }
    )
    tables = {"metrics": metrics_table, "fitted": fitted}
    given = {"dataset": "cifar10", "noise": "pair", "augment": False}
    other = Shown(tables, "mislabelled", **given, planted_duplicates=0)
    planted = Shown(tables, "mislabelled", **given, planted_duplicates=5)
    points = regime.points_of({"digits": record, "pairs": other, "copies": planted})
    assert set(points["setting"]) == {"digits", "pairs"}
    row = points[points["setting"] == "pairs"].iloc[0]
    assert row["auroc"] == pytest.approx(0.7) and row["seeds"] == 2
    assert row[regime.UNSEEN] == pytest.approx(0.45) and row["images"] == 200
    assert len(regime.of_score(points, "curvature_norm")) == 4, "pair flips are apart"


def made_up(slope):
    """Settings of three data sets on one curve, and their points."""
    accuracy = np.array([0.3, 0.5, 0.6, 0.7, 0.85, 0.95])
    return pd.DataFrame(
        {
            "setting": list("abcdef"),
            "dataset": list("xxyyzz"),
            "kind": "network",
            "noise": "symmetric",
            "score": "curvature_norm",
            regime.UNSEEN: accuracy,
            regime.LEARNED: 1.0,
            "auroc": regime.curve([0.3, 0.95], [0.6, 0.6 + slope], accuracy),
        }
    )


def test_a_curve_predicts_a_data_set_that_it_has_not_seen():
    errors = regime.left_out(made_up(0.35), "curvature_norm")
    assert list(errors["dataset"]) == list("xyz")
    assert regime.average_of(errors, "curve") == pytest.approx(0, abs=1e-9)
    assert regime.average_of(errors, "mean") > 0.05
    assert regime.helps(errors)
    grid = np.array([0.4, 0.8])
    fitted = regime.fitted_curve(made_up(0.35), "curvature_norm", grid)
    np.testing.assert_allclose(fitted, regime.curve([0.3, 0.95], [0.6, 0.95], grid))
    two = made_up(0.35).query("dataset != 'z'")
    assert regime.left_out(two, "curvature_norm").empty
    none = regime.left_out(two, "curvature_norm")
    assert np.isnan(regime.average_of(none, "curve")) and not regime.helps(none)


def test_a_score_depends_on_generalisation_if_it_gains_from_it():
    both = pd.concat([made_up(0.35), made_up(0.01).assign(score="cumulative_loss")])
    table = regime.dependence(both)
    assert list(table["score"]) == ["curvature_norm", "cumulative_loss"]
    assert table["gain"].iloc[0] > 10 * table["gain"].iloc[1]
    assert (table["spearman"] == 1).all() and (table["settings"] == 6).all()


def test_windows_take_the_epochs_after_generalising(record):
    found = regime.windows(record).set_index("score")
    table = regime.longest(record["along"]).set_index(["score", "epochs", "averaged"])
    rows = table.loc[("aum", regime.ONWARD, regime.RANKS)].set_index("epoch")["auroc"]
    (turn,) = set(regime.longest(record["hard"])["epoch"])
    assert found.loc["aum", "late epochs, ranks"] == rows[turn]
    assert found.loc["aum", "all epochs, ranks"] == rows[1]
    alone = table.loc[("aum", regime.ALONE, regime.VALUES)]["auroc"]
    assert found.loc["aum", "best single epoch"] == alone.max()


def test_one_score_is_followed_along_the_largest_runs(record):
    found = regime.of_score_along(record)
    assert all(list(series.index) == [1, 2, 3, 4] for series in found.values())
    assert found[regime.ALONE][4] == found[regime.ONWARD][4]


def test_a_head_on_feature_vectors_is_a_setting(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)

    def extract(images, name, *, size):
        assert name == "some" and size == 8
        centres = rng.normal(size=(10, 20))
        vectors = centres[images.original_labels] + rng.normal(
            0, 0.3, (len(images), 20)
        )
        vectors = vectors.astype(np.float16)
        return SimpleNamespace(vectors=vectors, checksum="abc")

    monkeypatch.setattr(features, "extract", extract)
    tables = regime.measure(
        features="some",
        feature_size=8,
        num_train=400,
        num_heldout=100,
        sizes=[150, 300],
        hidden=64,
        epochs=30,
        score_every=10,
        lr=0.05,
        runs=str(tmp_path),
    ).tables
    points = tables["points"]
    assert set(points["images"]) == {150, 300}
    assert (points[regime.UNSEEN] > 0.9).all(), "the classes lie far apart"
    loss = points[points["score"] == "cumulative_loss"]["auroc"]
    assert (loss > 0.9).all()
    course = tables["course"]
    assert course.groupby("images")[regime.UNSEEN].count().tolist() == [1, 1]
    assert set(tables["hard"]["epoch"]) == {10}


@pytest.mark.parametrize("given", [{"num_heldout": 0}, {"noise_rate": 0.0}])
def test_it_needs_unseen_images_and_wrong_labels(given):
    with pytest.raises(ValueError, match="needs held-out images and wrong labels"):
        regime.measure(**SMALL | given)


def test_the_goal_is_asked_of_the_network_that_generalises_best(record):
    points = regime.points_of({"digits": record})
    rows = regime.goals(points, "digits", "aum")
    assert len(rows) == 4 and rows[regime.UNSEEN].is_monotonic_increasing
    assert regime.goals(points, "CIFAR-10", "aum").empty
    assert regime.goal(rows[:0], 0.5) is None
    assert regime.reached(rows[:0]) == "not measured"
    row = {"auroc": 0.9, regime.UNSEEN: 0.85, regime.LEARNED: 1.0}
    one = pd.DataFrame([row])
    assert regime.goal(one, 0.9) is True and regime.goal(one, 0.95) is False
    assert regime.goal(one.assign(**{regime.UNSEEN: 0.7}), 0.9) is None
    assert regime.goal(one.assign(**{regime.LEARNED: 0.5}), 0.9) is None
    assert regime.reached(one) == (
        "AUROC 0.900, 85.0% of the unseen images right, "
        "100.0% of the wrong labels learned"
    )
    assert regime.at_least(0.5, 0.5) and regime.at_least(np.nan, 0) is None


def test_heads_are_listed_with_their_scores(record):
    head = Shown(record, "regime", dataset="mnist", noise_rate=0.1, features="some")
    points = regime.points_of({"digits": record, "head": head})
    table = regime.heads(points)
    assert set(table["dataset"]) == {"mnist"} and len(table) == 4
    assert list(table.columns[-4:]) == list(regime.FIELDS)
    assert set(regime.of_score(points, "aum")["setting"]) == {"digits"}
    assert table[list(regime.FIELDS)].notna().all(axis=None)


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("mislabelled_regime_cifar10_s1", {"seed": 1, "score_original_labels": True}),
        ("dynamics_regime_cifar10_s0", {"score_original_labels": True}),
        ("gallery_regime_cifar100_s0", CLEAN),
        ("explorer_regime_cifar100_s0", CLEAN),
        ("feldman_zhang_regime_cifar100_s2", CLEAN | {"seed": 2}),
        ("dynamics_regime_cifar100_s0", CLEAN),
        ("duplicates_regime_cifar100_s0", CLEAN),
    ],
)
def test_records_of_the_regime_share_the_runs_of_the_recipe(name, changes):
    record = catalogue.load(ROOT / "experiments.yml").measurements[f"cpu/{name}"]
    given = records.complete(record.study, record.parameters)
    own = {"score_original_labels": True} if record.study == "mislabelled" else {}
    config = config_of(given, seed=given["seeds"][0], **own)
    expected = {"dataset": "cifar10", "num_heldout": 4000, "noise_rate": 0.1}
    assert config == GENERALISE_FIRST.changed(**expected | changes)


def test_a_run_is_followed_that_another_record_has_trained():
    known = catalogue.load(ROOT / "experiments.yml").measurements
    record = known["cpu/regime_cifar10_s0"]
    given = records.complete(record.study, record.parameters)
    (config,) = regime.configs(given)
    other = known["cpu/mislabelled_regime_cifar10_s0"]
    given = records.complete(other.study, other.parameters)
    assert config == config_of(given, seed=0, score_original_labels=True)


def test_networks_that_did_not_memorise_are_apart(record):
    points = regime.points_of({"digits": record})
    assert regime.unlearned(points).empty
    few = points["images"] == 100
    points.loc[few, regime.LEARNED] = 0.1
    assert set(regime.of_score(points, "aum")["images"]) == {300}
    assert set(regime.unlearned(points)["images"]) == {100}
