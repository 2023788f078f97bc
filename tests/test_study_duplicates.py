"""The study of duplicates: what it finds, where scores rank it, what the page shows."""

import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_digits

from curvlib.book import records
from curvlib.data import Images
from curvlib.data import duplicates as found
from curvlib.runs.settings import TrainConfig
from curvlib.runs.training import prepare
from curvlib.scores import FROM_TRACE
from curvlib.studies import duplicates

SMALL = {"model": "mlp", "num_train": 200, "epochs": 3, "seeds": [0]}


def images(pixels, labels, index=None, classes=("a_b", "c", "d")):
    """One pixel for each image."""
    pixels = np.array(pixels, np.uint8).reshape(len(pixels), 1, 1, 1)
    index = np.arange(len(pixels)) if index is None else index
    return Images(images=pixels, labels=labels, index=index, classes=classes)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("study")


def recorded(folder, name, **given):
    """Measure, and read the tables back from their files as a page does."""
    parameters = records.complete("duplicates", given | {"runs": str(folder / "runs")})
    return records.measure(folder / name, "duplicates", parameters, root=folder)


@pytest.fixture(scope="module")
def planted(folder):
    return recorded(folder, "planted", **SMALL, planted_duplicates=25)


@pytest.fixture(scope="module")
def nothing(folder):
    """The digits have no exact duplicates."""
    given = SMALL | {"seeds": [0, 1], "planted_duplicates": 0}
    return recorded(folder, "nothing", **given)


def test_every_planted_duplicate_is_listed_with_both_indices(planted):
    config = TrainConfig(num_train=200, planted_duplicates=25, seed=0)
    train, _ = prepare(config)
    copies = train.source != train.index
    pairs = [f"{a}, {b}" for a, b in zip(train.source, train.index, strict=True)]
    listed = duplicates.conflicts(planted["exact"])
    assert sorted(listed["images"]) == sorted(np.array(pairs)[copies])
    wins = planted["wins"]
    assert len(wins) == 25
    assert (wins["p_first"] + wins["p_second"] < 1 + 1e-6).all()


def test_scores_are_asked_for_both_images_of_every_planted_pair(planted):
    enriched = planted["enrichment"]
    assert set(enriched["score"]) == set(FROM_TRACE)
    assert set(enriched["images"]) == {50} and set(enriched["set"]) == {
        "exact duplicates"
    }
    assert list(enriched["top"].unique()) == [1, 4, 22]  # of 225
    assert (enriched["found"] <= enriched["top"]).all()
    placed = planted["places"]
    assert len(placed) == 40
    assert placed["place_curvature_norm"].is_monotonic_decreasing
    assert [c for c in placed if c.startswith("place_")] == [
        f"place_{s}" for s in FROM_TRACE
    ]


def test_released_memorization_is_one_more_score(folder, tmp_path, monkeypatch):
    from sklearn.datasets import load_digits

    labels = load_digits().target
    values = np.random.default_rng(0).uniform(size=len(labels))
    np.savez(tmp_path / "released.npz", tr_mem=values, tr_labels=labels)
    monkeypatch.setenv("CURVLIB_DATA", str(tmp_path))
    given = SMALL | {"planted_duplicates": 25, "released": "released.npz"}
    record = recorded(folder, "released", **given)
    assert set(record["enrichment"]["score"]) == {*FROM_TRACE, "memorization"}
    # A planted copy has the memorization of its original, so both have one place.
    placed = record["places"].set_index("index")["place_memorization"]
    pairs = record["wins"][["first", "second"]].to_numpy()
    both = [pair for pair in pairs if set(pair) <= set(placed.index)]
    assert both
    for first, second in both:
        assert placed[first] == placed[second]


def test_the_pixels_of_the_page_are_those_of_its_images(planted):
    train, _ = prepare(TrainConfig(num_train=200, planted_duplicates=25, seed=0))
    position = {index: i for i, index in enumerate(train.index)}
    shown, pixels = planted["shown"], planted["images"]
    assert len(pixels) == len(shown) > 40
    assert not shown.duplicated().any()
    for (split, index), image in zip(shown.to_numpy(), pixels, strict=True):
        if split == "train":
            np.testing.assert_array_equal(image, train.images[position[index]])


def test_the_curves_end_where_the_table_of_wins_ends(planted):
    curves, wins = planted["curves"], planted["wins"]
    assert curves["pair"].nunique() == duplicates.NUM_CURVES
    assert list(curves["epoch"].unique()) == [1, 2, 3]
    ends = curves[curves["epoch"] == 3].set_index("index")["probability"]
    for row in wins.head(duplicates.NUM_CURVES).itertuples():
        assert (ends[row.first], ends[row.second]) == (row.p_first, row.p_second)


def test_without_duplicates_all_tables_are_empty_and_the_page_can_be_drawn(nothing):
    assert len(nothing["exact"]) == len(nothing["wins"]) == len(nothing["curves"]) == 0
    assert len(duplicates.conflicts(nothing["exact"])) == 0
    scored = duplicates.by_score(nothing["enrichment"]).set_index("score")
    numbers = duplicates.numbers(nothing, nothing.parameters)
    counted = ("num_conflicts", "num_within", "near_conflicts", "num_twins", "found")
    assert [numbers[name] for name in counted] == [0] * 5
    assert len(scored) == len(nothing["places"]) == 0
    assert duplicates.finds_fewer(scored, "aum") is None
    assert duplicates.found_by(scored, "aum") == ""
    summary = duplicates.learned(nothing["wins"]).iloc[0]
    assert summary["pairs"] == summary["same"] == 0 and np.isnan(summary["turns"])
    assert list(nothing["wrong-elsewhere"]["seed"]) == [0, 1]


def test_numbers_count_what_the_tables_hold(planted):
    numbers = duplicates.numbers(planted, planted.parameters)
    assert numbers["num_images"] == 225 and numbers["num_test"] == 359
    assert numbers["num_conflicts"] == numbers["num_within"] == 25
    assert numbers["num_measured"] == 3
    assert numbers["num_twins"] == 50 and numbers["top"] == 22
    assert numbers["near_train"] >= 25  # the exact ones are near, too


def test_groups_are_counted_within_and_across_the_splits():
    train = images([7, 1, 7, 2, 1, 3], [0, 1, 0, 2, 2, 0])
    test = images([3, 9, 2], [1, 0, 2])
    exact = duplicates.exact_groups(train, test)
    assert exact.to_numpy().tolist() == [
        [0, "train", 0, "a b"],
        [0, "train", 2, "a b"],
        [1, "train", 1, "c"],
        [1, "train", 4, "d"],
        [2, "train", 3, "d"],
        [2, "test", 2, "d"],
        [3, "train", 5, "a b"],
        [3, "test", 0, "c"],
    ]
    listed = duplicates.conflicts(exact)
    assert listed.to_numpy().tolist() == [["1, 4", "c / d"]]
    assert list(duplicates.exact_pairs(exact)["index"]) == [1, 4]
    assert duplicates.conflict_mask(train).tolist() == [0, 1, 0, 0, 1, 0]
    assert duplicates.conflict_pairs(train) == [(1, 4)]
    pairs = pd.DataFrame(columns=PAIRS)
    tables = {"exact": exact, "near-pairs": pairs, "enrichment": ENRICHED.iloc[:0]}
    tables["splits"] = pd.DataFrame({"split": ["train", "test"], "images": [6, 3]})
    tables["wrong-elsewhere"] = pd.DataFrame({"seed": [0, 1], "images": [2, 3]})
    made = SimpleNamespace(
        epochs=5,
        score_every=2,
        planted_duplicates=0,
        seeds=[0, 1],
        wanted_precision=0.9,
    )
    numbers = duplicates.numbers(tables, made)
    assert numbers["num_within"] == 2 and numbers["num_conflicts"] == 1
    assert numbers["num_across"] == 2 and numbers["num_across_conflicts"] == 1
    assert numbers["num_measured"] == 6  # epochs 2, 4 and 5 of two runs
    assert numbers["wrong_elsewhere"] == 2.5


def test_a_pair_that_is_no_pair_of_the_first_two_labels_is_left_out():
    assert duplicates.conflict_pairs(images([1, 1, 1], [0, 0, 1])) == []


PAIRS = ["similarity", "conflict", "space", "asked", "exact", "first_split"]
PAIRS += ["second_split", "first_index", "second_index", "first_class", "second_class"]
NEAR = pd.DataFrame(
    [
        [0.9, False, "pixels", "any labels", False, "train", "test", 5, 1, "c", "c"],
        [0.8, True, "pixels", "any labels", True, "train", "train", 2, 7, "c", "d"],
        [
            0.8,
            True,
            "pixels",
            "different labels",
            True,
            "train",
            "train",
            2,
            7,
            "c",
            "d",
        ],
        [0.9, False, "network", "any labels", False, "train", "test", 5, 1, "c", "c"],
        [0.95, False, "network", "any labels", False, "test", "test", 1, 3, "c", "c"],
        [0.9, True, "network", "any labels", False, "train", "test", 5, 0, "c", "d"],
    ],
    columns=PAIRS,
)


def test_a_pair_that_both_spaces_find_counts_once_and_the_most_alike_is_first():
    once = duplicates.each_once(NEAR, "any labels")
    assert once[["first_index", "second_index"]].to_numpy().tolist() == [
        [1, 3],
        [5, 0],
        [5, 1],
        [2, 7],
    ]
    assert len(duplicates.within(once, "train", "test")) == 2
    assert duplicates.in_pairs(np.arange(8), NEAR).nonzero()[0].tolist() == [2, 7]


def test_pairs_are_counted_by_threshold_and_split():
    thresholds = pd.DataFrame(
        {
            "space": ["pixels", "pixels", "network"],
            "asked": ["any labels", "different labels", "any labels"],
            "threshold": [0.7, 0.8, 0.9],
        }
    )
    counted = duplicates.near_summary(NEAR, thresholds)
    columns = ["pairs", "within train", "train and test", "within test"]
    assert counted[columns].to_numpy().tolist() == [
        [2, 1, 1, 0],
        [1, 1, 0, 0],
        [3, 0, 2, 1],
    ]


def test_near_pairs_are_told_by_split_index_and_class():
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 255, (60, 16, 16, 3)).astype(np.uint8)
    train = Images(
        images=pixels[:40],
        labels=np.arange(40) % 2,
        index=np.arange(100, 140),
        classes=("a", "b"),
    )
    again = np.concatenate([pixels[:2], pixels[40:]])  # twice, once under each label
    test = Images(
        images=again,
        labels=np.zeros(22, int),
        index=np.arange(22),
        classes=("a", "b"),
    )
    both = duplicates.together(train, test)
    assert len(both) == 62 and both.labels[40] == 0
    compared = found.compare(both)
    near = {("pixels", "any labels"): found.near(compared, precision=0.01)}
    tables = duplicates.near_tables(near, both, train, test)
    exact = tables["near-pairs"][tables["near-pairs"]["exact"]]
    columns = ["first_split", "first_index", "second_split", "second_index", "conflict"]
    assert sorted(exact[columns].to_numpy().tolist()) == [
        ["train", 100, "test", 0, False],
        ["train", 101, "test", 1, True],
    ]
    assert (exact["similarity"] > 0.999).all()
    assert list(exact["first_class"]) != list(exact["second_class"])
    assert list(tables["near-pairs"]) == list(tables["near-below"]) == PAIRS
    assert list(tables["thresholds"]["asked"]) == ["any labels"]


def test_places_are_shares_of_images_below():
    scored = pd.DataFrame({"a": [3.0, 1.0, 2.0], "b": [0.0, 0.0, 5.0]})
    assert duplicates.share_below(scored).to_numpy().tolist() == [
        [1, 0.25],
        [0, 0.25],
        [0.5, 1],
    ]


def test_listed_places_have_the_mean_curvature_and_its_standard_error():
    scored = pd.DataFrame({"curvature_norm": [1.0, 5.0, 3.0]})
    some = images([1, 2, 3], [0, 1, 2], index=[10, 11, 12])
    curvature = np.array([[0.0, 4.0, 3.0], [2.0, 6.0, 3.0]])
    listed = duplicates.places(scored, some, np.array([True, True, False]), curvature)
    assert listed.to_numpy().tolist() == [[11, "c", 5, 1, 1], [10, "a b", 1, 1, 0]]


def test_a_score_that_puts_all_of_a_set_on_top_finds_all_of_it():
    scored = pd.DataFrame({"good": np.arange(100.0), "bad": -np.arange(100.0)})
    sets = {"two": np.arange(100) >= 98, "none": np.zeros(100, bool)}
    enriched = duplicates.enrichment(scored, sets)
    assert list(enriched) == duplicates.FOUND
    assert set(enriched["set"]) == {"two"}
    rows = enriched.set_index(["score", "top"])
    assert list(enriched["top"].unique()) == [1, 2, 10]
    assert rows.loc[("good", 2), "found"] == 2 and rows.loc[("bad", 10), "found"] == 0
    assert rows.loc[("good", 10), "expected"] == pytest.approx(0.2)
    assert rows.loc[("good", 2), "p_value"] == pytest.approx(1 / (100 * 99 / 2))
    assert rows.loc[("good", 2), "auroc"] == 1
    assert rows.loc[("good", 2), "median_place"] == pytest.approx(98.5 / 99)


ENRICHED = pd.DataFrame(
    [
        {
            "set": name,
            "score": score,
            "images": 3,
            "median_place": place,
            "auroc": 0.5,
            "top": top,
            "found": 1.0 * count,
            "expected": 0.1,
            "p_value": 0.01,
            "seed": seed,
        }
        for name in ("exact and near duplicates", "exact duplicates")
        for score, place, count in (
            ("curvature_norm", 0.8, 2),
            ("aum", 0.9, 1),
            ("random", 0.5, 0),
        )
        for seed in ("0", "1")
        for top in (2, 5, 50)
    ]
)


def test_scores_are_judged_by_exact_duplicates_and_the_shortest_list_with_room():
    scored = duplicates.by_score(ENRICHED)
    assert set(scored["set"]) == {"exact duplicates"} and set(scored["top"]) == {5}
    assert list(scored["score"]) == ["aum", "curvature_norm", "random"]
    by_name = scored.set_index("score")
    assert duplicates.finds_fewer(by_name, "aum") is True
    assert duplicates.finds_fewer(by_name, "aum", share=0.5) is False
    assert duplicates.finds_fewer(by_name, "memorization") is None
    assert duplicates.found_by(by_name, "aum", "memorization") == (
        "1 of 3 among the 5 highest, 0.1 by chance"
    )


def test_without_exact_duplicates_near_ones_judge_and_a_short_list_must_do():
    near = ENRICHED[ENRICHED["set"] != "exact duplicates"]
    scored = duplicates.by_score(near[near["top"] == 2])
    assert set(scored["set"]) == {"exact and near duplicates"}
    assert set(scored["top"]) == {2}


def test_the_main_rows_are_the_best_three_and_those_spoken_of():
    names = ["el2n", "aum", "grand", "entropy", "curvature_norm", "random"]
    scored = pd.DataFrame({"score": names})
    kept = ["el2n", "aum", "grand", "curvature_norm", "random"]
    assert list(duplicates.main_rows(scored)["score"]) == kept


def test_images_elsewhere_are_wrong_in_the_last_epoch_and_outside_the_set():
    correct = np.array([[0, 0, 0, 0], [1, 0, 0, 0]])
    assert duplicates.wrong_elsewhere(correct, np.array([0, 1, 0, 0], bool)) == 2


def test_the_lead_changes_as_often_as_the_curves_cross():
    probability = np.array([[0.9, 0.1], [0.2, 0.8], [0.3, 0.7], [0.6, 0.4]])
    some = images([5, 5], [0, 1], index=[8, 9])
    won = duplicates.wins(probability, some, [(0, 1)], seed=3)
    assert won.to_numpy().tolist() == [
        [3, 8, 9, "a b", "c", 0.6, 0.4, "a b", 2, True],
    ]
    other = duplicates.wins(probability[:2], some, [(0, 1)], seed=4)
    summary = duplicates.learned(pd.concat([won, other])).iloc[0]
    assert summary.to_dict() == pytest.approx(
        {
            "pairs": 1,
            "stronger": 0.7,
            "together": 1.0,
            "turns": 1.5,
            "first_ahead": 1,
            "same": 0,
        }
    )
    assert duplicates.learned(pd.concat([won, won])).iloc[0]["same"] == 1


def test_a_pair_is_two_neighbouring_images_marked_if_above_the_threshold():
    below = NEAR[NEAR["asked"] == "any labels"].assign(similarity=0.5)
    rows = duplicates.as_images(duplicates.at_threshold(NEAR, below))
    assert rows[["split", "index", "above"]].to_numpy().tolist() == [
        ["train", 5, True],
        ["test", 1, True],
        ["train", 2, True],
        ["train", 7, True],
        ["train", 5, False],
        ["test", 1, False],
        ["train", 2, False],
        ["train", 7, False],
    ]


def test_exact_pairs_are_left_out_of_the_near_ones_shown():
    another = NEAR.iloc[[2]].assign(exact=False, first_index=3, similarity=0.7)
    shown = duplicates.near_conflicts(pd.concat([NEAR, another]), NEAR.iloc[:0])
    assert list(shown["first_index"]) == [3] and shown["above"].all()
    nothing = duplicates.near_conflicts(NEAR, NEAR.iloc[:0])
    assert len(nothing) == 0 and len(duplicates.as_images(nothing)) == 0


def test_the_study_is_imported_without_pytorch():
    code = "import sys, curvlib.studies.duplicates; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_data_set_without_a_test_split_is_compared_with_itself_alone(tmp_path):
    digits = load_digits()
    images = np.round(digits.images * (255 / 16)).astype(np.uint8)[:150]
    images[140] = images[3]  # an exact duplicate, under another label
    file = tmp_path / "mine.npz"
    np.savez(file, train_images=images, train_labels=digits.target[:150])
    measured = duplicates.measure(
        dataset=str(file), model="mlp", width=8, epochs=2, seeds=[0], num_heldout=0,
        planted_duplicates=0, runs=str(tmp_path / "runs"),
    )  # fmt: skip
    assert measured.tables["splits"]["images"].tolist() == [150, 0]
    assert set(measured.tables["exact"]["index"]) == {3, 140}


def test_the_lowest_rank_is_that_of_the_last_image_found():
    splits = pd.DataFrame({"split": ["train", "test"], "images": [101, 9]})
    places = pd.DataFrame({"place_curvature_norm": [1.0, 0.9]})  # ranks 1 and 11
    assert duplicates.lowest_rank(places, splits) == 11
    assert duplicates.lowest_rank(places[:0], splits) is None
    many = pd.concat([places] * duplicates.NUM_PLACES)
    assert duplicates.lowest_rank(many, splits) is None
