import numpy as np
import pandas as pd
import pytest
from PIL import Image

from curvlib.studies import own_data as study
from tests.test_study_calibration import short  # noqa: F401  heads that take a second

SMALL = {"num_train": 150, "features": "pixels", "plant": 0.1, "num_planted": 15}


def test_with_the_truth_the_pictures_show_what_was_missed_and_checked(tmp_path):
    made = study.measure(
        **SMALL, noise="symmetric", noise_rate=0.1, num_shown=4, runs=str(tmp_path)
    ).tables
    counts, suspects = made["counts"].iloc[0], made["suspects.parquet"]
    assert counts["known"] and counts["wrong"] == 15 == counts["looked"]
    assert suspects["rank"].tolist() == list(range(1, 151))
    shown = made["shown"].merge(suspects, on="index")
    wrong = shown["label"] != shown["original_label"]
    assert (shown["role"] == "suspect").sum() == 4
    assert wrong[shown["role"] == "missed"].all()
    assert (shown["rank"][shown["role"] == "missed"] > 15).all()
    assert not wrong[shown["role"] == "needless"].any()
    assert (shown["rank"][shown["role"] == "needless"] <= 15).all()
    assert made["images"].shape == (len(made["shown"]), 8, 8, 1)
    assert made["images"].dtype == np.uint8
    assert "truth" in made["curve"]


def test_without_the_truth_only_suspects_are_shown(tmp_path):
    made = study.measure(**SMALL, num_shown=4, runs=str(tmp_path)).tables
    assert set(made["shown"]["role"]) == {"suspect"}
    assert np.isnan(made["counts"]["wrong"].iloc[0])
    assert not made["counts"]["known"].iloc[0] and "truth" not in made["curve"]


def test_photographs_are_named_by_path_and_shown_small(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    for label, name in enumerate(("red ones", "blue")):
        folder = tmp_path / "mine" / name
        folder.mkdir(parents=True)
        for number in range(30):
            colour = np.array([200, 40, 40] if label else [40, 40, 200])
            pixels = (colour + rng.integers(-30, 30, (100, 100, 3))).clip(0, 255)
            Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{number}.png")
    made = study.measure(
        **SMALL | {"num_train": None},
        dataset=str(tmp_path / "mine"),
        image_size=96,
        num_shown=3,
        runs=str(tmp_path),
    ).tables
    assert made["images"].shape[1:] == (study.SIDE, study.SIDE, 3)
    for path in made["shown"]["path"]:
        assert (tmp_path / "mine" / path).is_file()


def ranking() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "index": [10, 11, 12, 13],
            "rank": [2, 1, 4, 3],
            "label": [0, 1, 0, 0],
            "original_label": [1, 0, 0, 0],
            "suggested": [1, 0, 1, 1],
        }
    )


def test_what_a_person_finds_by_length_of_the_list():
    counts = pd.DataFrame({"wrong": [2.0]})
    found = study.found_and_missed(ranking(), counts)
    assert found["looked at"].tolist() == [1, 2, 4]
    assert found["found"].tolist() == [1, 2, 2]
    assert found["checked for nothing"].tolist() == [0, 0, 2]
    assert found["precision"].tolist() == [1, 1, 0.5]


def test_pairs_count_given_and_suggested():
    found = study.pairs(ranking(), ["cat", "dog"], looked=3)
    assert found.to_numpy().tolist() == [["cat", "dog", 2], ["dog", "cat", 1]]


@pytest.mark.parametrize("looked", [1, 2])
def test_the_least_suspicious_wrong_labels_are_shown_first_among_those_missed(looked):
    table = ranking().assign(rank=[2, 3, 4, 1])
    wrong = np.array([True, True, False, False])
    shown = study.chosen(table, wrong, looked=looked, count=5)
    missed = shown["index"][shown["role"] == "missed"].tolist()
    assert missed == ([11, 10] if looked == 1 else [11])
    assert shown["index"][shown["role"] == "needless"].tolist() == [13]
