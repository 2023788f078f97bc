import numpy as np
import pandas as pd
import pytest

from curvlib.runs import features, training
from curvlib.studies import removal

SMALL = {
    "num_images": 240,
    "num_unseen": 80,
    "imbalance": 3.0,
    "shares": [0.1, 0.2],
    "seeds": [0, 1],
    "model": "mlp",
    "width": 16,
    "epochs": 3,
    "batch_size": 16,
}
WAYS = ["curvature_norm", "cumulative_loss", "random", removal.MATCHED]


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    runs = tmp_path_factory.mktemp("runs")
    return runs, removal.measure(**SMALL, runs=str(runs)).tables


def test_every_way_removes_the_same_number_and_the_rest_is_trained_on(measured):
    _, tables = measured
    accuracy, removed = tables["accuracy"], tables["removed"]
    total = tables["classes"]["trained_on"].sum()
    assert set(accuracy["score"]) == {"nothing", *WAYS}
    for share in SMALL["shares"]:
        counts = removed.loc[removed["share"] == share, "images"]
        assert set(counts) == {round(share * total)}
        left = accuracy.loc[accuracy["share"] == share, "trained_on"]
        assert set(left) == {total - round(share * total)}
    assert len(accuracy) == 2 * 3 * (1 + len(WAYS) * 2)
    assert accuracy["accuracy"].between(0, 1).all()


def test_the_control_removes_as_many_of_rare_classes_as_curvature_does(measured):
    removed = measured[1]["removed"].set_index(["score", "seed", "share"])["rare"]
    pd.testing.assert_series_equal(removed["curvature_norm"], removed[removal.MATCHED])


def test_classes_get_rarer_and_the_last_ones_count_as_rare(measured):
    classes = measured[1]["classes"]
    assert classes["trained_on"].iloc[-1] < classes["trained_on"].iloc[0] / 2
    assert classes["rare"].sum() == 3
    sizes = classes["trained_on"]
    assert sizes[classes["rare"]].max() <= sizes[~classes["rare"]].min()
    assert classes["unseen"].sum() == SMALL["num_unseen"]


def test_no_unseen_image_is_trained_on_and_scores_come_from_other_seeds(measured):
    runs, tables = measured
    data = removal._split({**SMALL, "dataset": "digits", "features": None})
    assert not set(data.train.index) & set(data.unseen.index)
    traces = [removal_trace(folder) for folder in runs.glob("digits-mlp-*")]
    assert {t.config["seed"] for t in traces} == {100, 101}
    assert set(tables["top"]["index"]) <= set(data.train.index)


def removal_trace(folder):
    from curvlib.trace import Trace

    return Trace.open(folder)


def test_what_was_trained_is_kept_and_gives_the_same_tables(measured, monkeypatch):
    runs, tables = measured

    def never(*_, **__):
        raise AssertionError("trained again")

    monkeypatch.setattr(training, "passes", never)
    again = removal.measure(**SMALL, runs=str(runs)).tables
    pd.testing.assert_frame_equal(again["accuracy"], tables["accuracy"])


def test_heads_on_feature_vectors_leave_the_same_tables(tmp_path, monkeypatch):
    def vectors(images, name, *, size=None):
        assert (name, size) == ("lite0", 96)
        flat = images.images[:].reshape(len(images), -1).astype(np.float16)
        return features.Features(
            vectors=flat, name=name, size=size, checksum="x", seconds=0.0, file=tmp_path
        )

    monkeypatch.setattr(features, "extract", vectors)
    given = SMALL | {"shares": [0.2], "lr": 0.01, "step": 0.01, "epochs": 10}
    found = removal.measure(
        **given, features="lite0", feature_size=96, runs=str(tmp_path)
    )
    whole = found.tables["accuracy"].query("score == 'nothing' and group == 'all'")
    assert whole["accuracy"].min() > 0.6
    assert found.tables["images"].shape[1:] == (8, 8, 1)
    assert len(found.runs) == 2


def test_the_farthest_of_each_class_are_atypical():
    inputs = np.array([[0.0], [0.0], [1.0], [9.0], [2.0], [3.0], [50.0]])
    labels = np.array([0, 0, 0, 0, 0, 0, 1])
    found = removal.farthest(
        inputs, labels, np.array([0, 1, 6]), np.array([2, 3, 4, 5, 6])
    )
    assert found.tolist() == [False, True, False, False, True]  # a fifth, at least one


def test_a_matched_choice_has_the_same_classes():
    labels = np.array([0, 0, 0, 0, 1, 1, 1, 2])
    found = removal.matched(labels, np.array([0, 1, 7]), seed=3)
    assert len(set(found)) == 3 and sorted(labels[found]) == [0, 0, 2]


def rows(**accuracies) -> pd.DataFrame:
    """Accuracies of two seeds by way, everywhere 10% removed, all groups alike."""
    return pd.DataFrame(
        [
            {
                "seed": seed,
                "score": score,
                "share": 0.0 if score == "nothing" else 0.1,
                "group": group,
                "images": 10,
                "accuracy": value
                - (0.1 if group == "rare classes" else 0) * (score != "nothing"),
                "trained_on": 90,
            }
            for score, values in accuracies.items()
            for seed, value in enumerate(values)
            for group in removal.GROUPS
        ]
    )


def test_losses_are_counted_within_a_seed_and_judged_by_their_interval():
    table = rows(nothing=[0.9, 0.8], curvature_norm=[0.6, 0.49], random=[0.9, 0.8])
    lost = removal.lost(table).query("group == 'all'").set_index(["score", "seed"])
    assert lost.loc[("curvature_norm", 0), "lost"] == pytest.approx(0.3)
    assert lost.loc[("random", 1), "lost"] == pytest.approx(0)
    verdict = removal.costs_more(table, "curvature_norm")
    assert verdict.holds is True and verdict.ours.startswith("+30.5 points")
    assert removal.costs_more(table, "random", than="curvature_norm").holds is False
    assert removal.falls_on_the_rare(table, "curvature_norm").ours == (
        "40.5 points lost on rare classes, 30.5 on all"
    )
    one = table[table["seed"] == 0]
    assert removal.costs_more(one, "curvature_norm").holds is None


def test_the_page_has_its_numbers_and_its_lines(measured):
    told = removal.headline(measured[1])
    assert told["share"] == 0.2 and told["num_seeds"] == 2
    assert 0 < told["rare_expected"] < 0.3
    curves = removal.curves(measured[1]["accuracy"])
    assert set(curves["way"]) == set(removal.WAYS.values()) - {
        "highest squared curvature"
    }
    assert (curves.groupby(["way", "group"])["removed (%)"].min() == 0).all()
    table = removal.in_words(removal.by_share(measured[1]["accuracy"], "all"))
    assert table.columns.tolist() == ["way", "0%", "10%", "20%"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"shares": [1.5]}, "shares must lie between 0 and 1"),
        ({"seeds": []}, "at least one seed"),
        ({"removed_by": ["beauty"]}, "must hold scores, got .'beauty'"),
        ({"removed_by": []}, "must name at least one score"),
        ({"num_unseen": 240}, "num_unseen must lie between"),
        ({"imbalance": 0.5}, "imbalance must be at least 1"),
        ({"imbalance": 1000.0}, "no sample of class 5 is left"),
    ],
)
def test_what_makes_no_sense_is_refused(given, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        removal.measure(**SMALL | given, runs=str(tmp_path))
