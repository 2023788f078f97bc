"""Curvature during training: known answers, and the tables of a small measurement."""

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_digits

from curvlib import metrics
from curvlib.book import records
from curvlib.runs.training import fit, prepare
from curvlib.studies import config_of, dynamics

SMALL = {
    "num_train": 200,
    "num_heldout": 50,
    "model": "mlp",
    "width": 16,
    "epochs": 3,
}


@pytest.fixture(autouse=True)
def quiet(tmp_path, monkeypatch):
    monkeypatch.setenv("CURVLIB_PROGRESS", str(tmp_path / "progress"))


@pytest.fixture
def released(tmp_path):
    """A file in the form of the released memorization scores, for the digits."""
    labels = load_digits().target
    values = np.random.default_rng(0).uniform(size=len(labels))
    np.savez(tmp_path / "released.npz", tr_mem=values, tr_labels=labels)
    return tmp_path / "released.npz"


def measure(folder, **given):
    return dynamics.measure(**SMALL | given, runs=str(folder / "runs"))


# --------------------------------------------------------------- what is measured


def test_the_tables_are_those_of_the_trace(tmp_path):
    measured = measure(tmp_path, seeds=[0, 1], other_weight_decay=0.01)
    tables = measured.tables
    config = config_of(records.complete("dynamics", SMALL), seed=0)
    images, heldout = prepare(config)
    trace = fit(config, images, heldout, runs=tmp_path / "runs")  # read, not trained
    assert len(list((tmp_path / "runs").glob("digits-*"))) == 3
    assert len(measured.runs) == 3

    wrong = images.mislabelled
    groups = tables["groups"].set_index("group")["samples"]
    assert dict(groups) == {
        "clean": 200 - wrong.sum(),
        "mislabelled": wrong.sum(),
        "held-out": 50,
    }
    curvature = trace.read("squared_frobenius_norm").astype(np.float64)
    right = trace.read("correct")
    part = tables["courses"].query("group == 'mislabelled'")
    np.testing.assert_array_equal(part["epoch"], [1, 2, 3])
    np.testing.assert_allclose(part["mean"], curvature[:, wrong].mean(1))
    np.testing.assert_allclose(
        part["median"], np.median(curvature[:, wrong], axis=1), rtol=1e-6
    )
    np.testing.assert_allclose(part["accuracy"], right[:, wrong].mean(1))

    values = tables["averaging"].set_index(["seed", "score", "epoch"])["value"]
    assert len(values) == 2 * 2 * 3
    assert set(tables["averaging"]["measure"]) == {"AUROC for mislabelled samples"}
    assert values[0, "this epoch alone", 2] == metrics.auroc(curvature[1], wrong)
    assert values[0, "mean so far", 2] == metrics.auroc(curvature[:2].mean(0), wrong)
    assert values[0, "mean so far", 1] == values[0, "this epoch alone", 1]

    both = tables["weight-decay-values"]
    assert list(both["weight_decay"]) == [0.0, 0.01]
    assert both["value"][0] == pytest.approx(values[0, "mean so far", 3])
    first = tables["weight-decay"].query("weight_decay == 0 and split == 'train'")
    np.testing.assert_allclose(first["curvature"], curvature.mean(1))

    calibration = tables["calibration"].query("seed == 0")
    loss = trace.read("loss", "heldout")
    np.testing.assert_allclose(calibration["nll"], loss.mean(1), rtol=1e-6)
    peak = dynamics.at(tables["stops"], dynamics.PEAK)["epoch"][0]
    assert peak == trace.epochs[curvature.mean(1).argmax()]
    shares = tables["shares"].iloc[0]
    own = curvature.mean(1)[-1] / curvature.mean(1).max()
    assert shares["lowest"] <= own <= shares["highest"]


@pytest.mark.parametrize(
    ("changes", "measure_name"),
    [
        ({"seeds": [0, 1], "score_every": 2}, "Spearman correlation with other seeds"),
        ({"seeds": [0], "other_weight_decay": 0.01}, None),
        ({"seeds": [0], "released": True}, "Spearman correlation with memorization"),
    ],
    ids=["two seeds, every other epoch", "one seed, another weight decay", "released"],
)
def test_without_wrong_labels_no_table_speaks_of_them(
    changes, measure_name, tmp_path, released
):
    given = changes | ({"released": str(released)} if "released" in changes else {})
    tables = measure(tmp_path, noise_rate=0.0, **given).tables
    assert list(tables["groups"]["group"]) == ["training set", "held-out"]
    assert set(tables["courses"]["group"]) == {"training set", "held-out"}
    assert dynamics.learned_late(dynamics.learned(tables["courses"])) is None
    assert set(tables["averaging"]["measure"]) == {measure_name} - {None}
    assert tables["averaging"].empty == (measure_name is None)
    assert tables["weight-decay"].empty == ("other_weight_decay" not in changes)
    assert tables["weight-decay-values"].empty  # nothing judges the second run
    every = changes.get("score_every", 1)
    expected = [e for e in (1, 2, 3) if e % every == 0 or e == 3]
    assert sorted(set(tables["calibration"]["epoch"])) == expected


def test_tables_without_rows_are_read_from_a_record_with_their_columns(tmp_path):
    measured = measure(tmp_path, noise_rate=0.0, seeds=[0])
    parameters = records.complete("dynamics", SMALL)
    facts = {"recipes": {}, "seconds": 1.0}
    record = records.write(tmp_path / "record", "dynamics", parameters, measured, facts)
    averaging = record["averaging"]
    assert averaging.empty and list(averaging) == list(dynamics.OF_AVERAGING)
    assert list(dynamics.reached(averaging)["text"]) == ["–", "–", "–"]
    assert dynamics.beats(averaging) == {"last": None, "every": None}
    assert dynamics.measure_of(averaging) == "not judged"
    by = ("measure", "score", "epoch")
    assert dynamics.over_seeds(averaging, "value", by=by).empty
    found = dynamics.decay_summary(
        record["weight-decay"], record["weight-decay-values"]
    )
    assert found.empty and "left" in found


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_heldout": 0}, r"num_heldout must be at least 1 .* got 0"),
        (
            {"weight_decay": 0.1, "other_weight_decay": 0.1},
            r"other_weight_decay must differ from weight_decay, got 0\.1",
        ),
    ],
)
def test_what_cannot_be_compared_stops_before_anything_is_trained(
    changes, message, tmp_path
):
    with pytest.raises(ValueError, match=message):
        measure(tmp_path, **changes)
    assert not (tmp_path / "runs").exists()


def test_released_scores_of_other_images_stop_before_anything_is_trained(
    tmp_path, released
):
    arrays = dict(np.load(released))
    np.savez(released, **arrays | {"tr_labels": arrays["tr_labels"][::-1]})
    with pytest.raises(ValueError, match="label"):
        measure(tmp_path, released=str(released))
    assert not (tmp_path / "runs").exists()


# ------------------------------------------------------------------ known answers


COURSES = pd.DataFrame(
    {
        "group": ["clean"] * 3 + ["mislabelled"] * 3,
        "epoch": [2, 4, 6] * 2,
        "accuracy": [0.6, 0.9, 1.0, 0.1, 0.4, 0.8],
        "mean": [1.0, 4.0, 2.0, 2.0, 12.0, 6.0],
        "median": [1.0, 2.0, 0.5, 1.0, 3.0, 2.0],
    }
)


def test_a_group_is_learned_when_half_of_it_stays_right():
    found = dynamics.learned(COURSES).set_index("group")
    assert found["half"].to_dict() == {"clean": 2, "mislabelled": 6}
    assert found["accuracy"].to_dict() == {"clean": 1.0, "mislabelled": 0.8}


@pytest.mark.parametrize(
    ("clean", "wrong", "late"),
    [
        (2, 6, True),
        (4, 4, False),
        (6, 2, False),
        (2, np.nan, True),
        (np.nan, 6, False),
        (np.nan, np.nan, False),
    ],
)
def test_mislabelled_samples_are_late_if_the_clean_ones_are_learned_before(
    clean, wrong, late
):
    table = pd.DataFrame({"group": ["clean", "mislabelled"], "half": [clean, wrong]})
    assert dynamics.learned_late(table) is late


def test_groups_are_compared_with_the_first_at_the_peak_and_at_the_end():
    found = dynamics.compared(COURSES, peak=4)
    assert found["group"].tolist() == ["clean", "mislabelled"]
    assert found["mean_times"].tolist() == [1.0, 3.0]
    assert found["median_times"].tolist() == [1.0, 4.0]
    flat = COURSES.assign(median=0.0)
    assert dynamics.compared(flat, peak=4)["median_times"].isna().all()


def test_a_score_is_judged_by_labels_else_by_memorization_else_by_other_seeds():
    wrong, none = np.array([0, 0, 1], bool), np.zeros(3, bool)
    known = np.array([3.0, 2.0, 1.0])
    averages = [np.array([1.0, 2.0, 3.0]), known, known]
    score = np.array([0.0, 1.0, 2.0])
    name, judges = dynamics.judged_by([wrong] * 3, known, averages)
    assert name == dynamics.FINDS and [j(score) for j in judges] == [1.0] * 3
    name, judges = dynamics.judged_by([none] * 3, known, averages)
    assert name == dynamics.MEMORIZATION
    assert [j(score) for j in judges] == pytest.approx([-1.0] * 3)
    # The first seed is judged by the others, which fall; these by a mean that rises.
    averages = [np.array([10.0, 20.0, 30.0]), known, known]
    name, judges = dynamics.judged_by([none] * 3, None, averages)
    assert name == dynamics.OTHER_SEEDS
    assert [j(score) for j in judges] == pytest.approx([-1.0, 1.0, 1.0])
    assert dynamics.judged_by([none], None, averages[:1]) == ("", [])


def averaging_of(alone: dict, so_far: dict) -> pd.DataFrame:
    """A table of averaging from values by seed."""
    rows = [
        (seed, epoch, kind, dynamics.FINDS, value)
        for kind, values in ((dynamics.ALONE, alone), (dynamics.SO_FAR, so_far))
        for seed, of_seed in values.items()
        for epoch, value in enumerate(of_seed, start=1)
    ]
    return pd.DataFrame(rows, columns=dynamics.OF_AVERAGING)


def test_the_mean_over_epochs_stands_beside_the_best_and_the_last_epoch():
    table = averaging_of(
        {0: [0.6, 0.8, 0.5], 1: [0.6, 0.6, 0.7]},
        {0: [0.6, 0.7, 0.75], 1: [0.6, 0.6, 0.65]},
    )
    found = dynamics.reached(table)
    assert found["epoch"].tolist() == [3, 2, 3]
    assert found["mean"].tolist() == pytest.approx([0.7, 0.7, 0.6])
    assert found["text"][0] == "0.700 ± 0.071"
    # In seed 1 the last epoch alone is better.
    assert dynamics.beats(table) == {"last": None, "every": False}


def test_values_over_seeds_have_a_spread_of_zero_for_one_seed():
    table = pd.DataFrame({"seed": [0, 1, 0], "epoch": [1, 1, 2], "x": [1.0, 3.0, 5.0]})
    found = dynamics.over_seeds(table, "x")
    assert found["epoch"].tolist() == [1, 2]
    assert found["mean"].tolist() == [2.0, 5.0]
    assert found["sd"].tolist() == pytest.approx([np.sqrt(2), 0.0])


def test_one_stops_at_the_lowest_loss_at_the_peak_and_at_the_end():
    found = dynamics.stops(np.array([3.0, 1.0, 2.0, 4.0]), np.array([1, 2, 5, 3]))
    assert found == {
        "lowest held-out loss": 1,
        "highest curvature": 2,
        "the end": 3,
    }


@pytest.mark.parametrize(
    ("peaks", "within"), [([4, 4], True), ([2, 6], False), ([4, 6], None)]
)
def test_curvature_rises_and_falls_if_its_peak_is_inside(peaks, within):
    table = pd.DataFrame(
        {"seed": [0, 1], "epoch": peaks, "stop_at": ["highest curvature"] * 2}
    )
    assert dynamics.peaks_within(table, pd.Series([2, 4, 6])) is within


def test_chance_gives_a_calibrated_network_an_error_that_falls_with_its_images():
    few, many = (
        dynamics.calibrated(np.full(n, 0.7), np.random.default_rng(0))
        for n in (25, 2500)
    )
    # One bin: mean |error| of a share is sqrt(2 / pi) times its standard deviation;
    # the mean of 20 draws is within four standard errors of that.
    for n, found in ((25, few), (2500, many)):
        sd = np.sqrt(0.7 * 0.3 / n)
        expected = np.sqrt(2 / np.pi) * sd
        error = sd * np.sqrt(1 - 2 / np.pi) / np.sqrt(dynamics.NUM_DRAWN)
        assert abs(found - expected) < 4 * error


def test_stops_in_words_have_a_spread_where_there_are_seeds():
    row = {"epoch": 3, "accuracy": 0.5, "nll": 1.0, "ece": 0.1, "chance": 0.01}
    one = pd.DataFrame([{"seed": 0, "stop_at": "the end"} | row])
    assert dynamics.stops_in_words(one)["ece"].tolist() == ["0.100"]
    other = one.assign(seed=1, ece=0.3)
    found = dynamics.stops_in_words(pd.concat([one, other]))
    assert found["ece"].tolist() == ["0.200 ± 0.141"]
    assert found["epoch"].tolist() == ["3.0 ± 0.0"]


def test_weight_decays_are_summarised_by_their_peaks():
    table = pd.DataFrame(
        {
            "weight_decay": [0.0] * 4 + [0.1] * 4,
            "split": (["train"] * 2 + ["heldout"] * 2) * 2,
            "epoch": [1, 2] * 4,
            "curvature": [4.0, 1.0, 9.0, 9.0, 1.0, 2.0, 9.0, 9.0],
            "accuracy": [1.0, 1.0, 0.5, 0.6, 1.0, 1.0, 0.5, 0.7],
        }
    )
    values = pd.DataFrame(
        [(0.0, "m", 0.9), (0.1, "m", 0.8)], columns=dynamics.OF_DECAY_VALUES
    )
    found = dynamics.decay_summary(table, values)
    assert found["peak"].tolist() == [1, 2]
    assert found["left"].tolist() == [0.25, 1.0]
    assert found["accuracy"].tolist() == [0.6, 0.7]
    assert found["value"].tolist() == [0.9, 0.8]
    assert dynamics.decay_summary(table, values.iloc[:0])["value"].isna().all()
    assert list(dict.fromkeys(dynamics.runs_of(table)["run"])) == [
        "training set, 0",
        "held-out, 0",
        "training set, 0.1",
        "held-out, 0.1",
    ]
