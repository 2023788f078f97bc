"""The study of photographs in class folders."""

import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from curvlib.book import records
from curvlib.data import Images
from curvlib.scores import FROM_TRACE
from curvlib.studies import imagenet

SMALL = {"model": "mlp", "epochs": 3, "num_timed": 2, "seeds": [0], "paper_size": 8}


def recorded(folder, **given):
    """Measure, and read the tables back from their files as a page does."""
    parameters = records.complete("imagenet", given | {"runs": str(folder / "runs")})
    return records.measure(folder / "record", "imagenet", parameters, root=folder)


@pytest.fixture(scope="module")
def in_folders(tmp_path_factory):
    # No val/, no names, one file that is broken: what a user's own folder looks like.
    folder = tmp_path_factory.mktemp("folders")
    digits = load_digits()
    for i in range(120):
        place = folder / "mine" / "train" / f"class {digits.target[i] % 3}"
        place.mkdir(parents=True, exist_ok=True)
        pixels = (digits.images[i] * 15).astype(np.uint8).repeat(4, 0).repeat(4, 1)
        Image.fromarray(pixels).save(place / f"{i}.png")
    (place / "broken.png").write_bytes(b"")
    dataset = str(folder / "mine")
    given = SMALL | {"dataset": dataset, "image_size": 16, "broken_files": "skip"}
    return recorded(folder, **given)


@pytest.fixture(scope="module")
def in_memory(tmp_path_factory):
    given = SMALL | {"num_train": 200, "num_heldout": 50, "seeds": [0, 1]}
    return recorded(tmp_path_factory.mktemp("memory"), **given)


def test_a_folder_of_class_folders_is_enough(in_folders):
    scores = in_folders["scores.parquet"]
    assert len(scores) == 120
    assert scores["label"].nunique() == 3
    named = [n for n in FROM_TRACE if n != "random"]
    assert list(scores) == ["seed", "index", "path", "label", *named]
    assert list(in_folders["classes"]["class"]) == ["class 0", "class 1", "class 2"]
    counts = imagenet.files_by_status(in_folders["files"]).iloc[0]
    assert counts.to_dict() == {
        "files": 121,
        "used": 120,
        "unusual": 120,  # grey
        "broken": 1,
        "ignored": 0,
    }
    assert in_folders["sizes"]["decode_seconds"].iloc[0] > 0
    assert in_folders["images"].shape[1:] == (16, 16, 3)


def test_one_seed_without_held_out_images_leaves_the_rest_undecided(in_folders):
    table, moved = in_folders["scores.parquet"], in_folders["dynamics"]
    assert imagenet.agreements_of_seeds(table) == []
    assert imagenet.unseen(moved) == imagenet.course(moved, "heldout") == {}
    assert imagenet.as_text("{left:.0%}", imagenet.unseen(moved)) == ""
    assert imagenet.ranking(table)["error"].isna().all()
    assert set(in_folders["beside"]["reference"]) == {"curvature_norm"}


def test_images_in_memory_need_no_folder(in_memory):
    assert len(in_memory["files"]) == 0
    assert imagenet.files_by_status(in_memory["files"]).iloc[0].to_list() == [0] * 5
    assert np.isnan(in_memory["sizes"]["decode_seconds"].iloc[0])
    scores = in_memory["scores.parquet"]
    assert "path" not in scores and len(scores) == 2 * 200
    moved = in_memory["dynamics"]
    assert list(moved["split"].unique()) == ["train", "heldout"] and len(moved) == 6
    assert len(imagenet.agreements_of_seeds(scores)) == 1
    at_end = scores["learning_time"].le(3).groupby(scores["seed"]).mean()  # of 3 epochs
    accuracy = moved.query("split == 'train' and epoch == 3")["accuracy"].item()
    assert accuracy == pytest.approx(at_end.mean())


def test_every_image_that_the_page_shows_is_kept_with_its_index(in_memory):
    from curvlib import data

    digits = data.load("digits")
    ranked = imagenet.ranking(in_memory["scores.parquet"])
    shown = in_memory["shown"]["index"].to_numpy()
    wanted = [imagenet.ends_of_classes(ranked, 8), *imagenet.at_ends(ranked, 8)]
    assert set(ranked["index"].to_numpy()[np.concatenate(wanted)]) <= set(shown)
    pairs = in_memory["near-pairs"].head(imagenet.NUM_PAIRS)
    assert set(pairs["first_index"]) | set(pairs["second_index"]) <= set(shown)
    rows = np.searchsorted(digits.index, shown)
    np.testing.assert_array_equal(in_memory["images"], digits.images[rows])


def test_numbers_count_what_the_tables_hold(in_memory):
    names = imagenet.named(in_memory["classes"]["class"], None)
    told = imagenet.numbers(in_memory, in_memory.parameters, names)
    assert told["num_samples"] == 200 and told["num_classes"] == 10
    assert (told["height"], told["width"]) == (8, 8)
    assert told["num_top"] == 32 and 0 <= told["in_every_seed"] <= 32
    assert told["peak_epoch"] == in_memory["peak"]["epoch"].iloc[0]
    runs = in_memory["runs"]
    assert told["train_seconds"] == runs["train_seconds"].sum() / 6
    operations = in_memory["scale"].set_index("what")["total_flop"]
    assert told["score_share"] == operations["scoring"] / operations["training"]


def test_released_memorization_is_compared_where_it_is_known(tmp_path, monkeypatch):
    digits = load_digits()
    values = np.random.default_rng(0).uniform(size=len(digits.target))
    np.savez(tmp_path / "released.npz", tr_mem=values, tr_labels=digits.target)
    monkeypatch.setenv("CURVLIB_DATA", str(tmp_path))
    given = SMALL | {"num_train": 100, "released": "released.npz"}
    found = recorded(tmp_path, **given)["beside"]
    assert set(found["reference"]) == {"curvature_norm", "memorization"}
    assert set(found["samples"]) == {100}


TABLE = pd.DataFrame(
    {
        "seed": [0, 0, 0, 1, 1, 1],
        "index": [4, 7, 9] * 2,
        "label": [0, 1, 1] * 2,
        "curvature_square": [1.0, 5.0, 3.0, 3.0, 5.0, 9.0],
        "learning_time": [1, 2, 3, 3, 2, 1],
    }
)


def test_a_ranking_has_means_over_seeds_and_their_standard_error():
    ranked = imagenet.ranking(TABLE)
    assert ranked["index"].tolist() == [4, 7, 9] and ranked["label"].tolist() == [
        0,
        1,
        1,
    ]
    assert ranked["curvature"].tolist() == [2, 5, 6]
    np.testing.assert_allclose(ranked["error"], [1, 0, 3])
    assert ranked["learned"].tolist() == [2, 2, 2]
    assert imagenet.agreements_of_seeds(TABLE) == [pytest.approx(0.5)]


def test_the_ends_are_the_highest_and_the_lowest(monkeypatch):
    monkeypatch.setattr(imagenet, "ROWS", 1)
    ranked = imagenet.ranking(TABLE)
    top, bottom = imagenet.at_ends(ranked, 2)
    assert top.tolist() == [2, 1] and bottom.tolist() == [0, 1]
    assert imagenet.in_every_seed(TABLE, ranked, 2) == 2  # both in either seed
    assert imagenet.in_every_seed(TABLE, ranked, 1) == 0  # 9 leads, but not in seed 0
    assert imagenet.ends_of_classes(ranked, 1).tolist() == [0, 1, 2]
    monkeypatch.setattr(imagenet, "NUM_CLASSES", 1)
    assert imagenet.ends_of_classes(ranked, 1).tolist() == [1, 2]  # the higher class


def test_a_score_agrees_with_itself_and_a_constant_with_nothing():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"curvature_norm": rng.uniform(size=40)})
    known = frame["curvature_norm"].to_numpy().copy()
    known[:10] = np.nan
    found = imagenet.beside(frame, known).set_index(["score", "reference"])
    assert found.loc[("curvature_norm", "memorization"), "spearman"] == pytest.approx(1)
    assert found["samples"].to_dict()[("shuffled", "memorization")] == 30
    assert np.isnan(found.loc[("constant", "curvature_norm"), "spearman"])
    assert abs(found.loc[("shuffled", "curvature_norm"), "spearman"]) < 0.9
    assert set(imagenet.beside(frame).reset_index()["reference"]) == {"curvature_norm"}


def test_mean_scores_are_means_over_seeds_that_are_high_where_suspect():
    table = TABLE.assign(aum=[1.0, 2.0, 3.0, 3.0, 2.0, 1.0])
    frame = imagenet.mean_scores(table)
    assert frame["curvature_square"].tolist() == [2, 5, 6]
    assert frame["aum"].tolist() == [-2, -2, -2]  # a low margin is suspect


def test_a_peak_counts_runs_that_are_above_both_ends():
    rises_and_falls = np.array([[1.0, 1.0], [4.0, 6.0], [2.0, 2.0]])
    only_rises = np.array([[1.0, 1.0], [2.0, 2.0], [3.0, 3.0]])
    found = imagenet.peak([rises_and_falls, only_rises], np.array([2, 4, 6]))
    assert found.iloc[0].to_dict() == {"epoch": 4, "runs": 2, "above_both_ends": 1}


def moved(train, heldout=()):
    rows = [("train", e, c) for e, c in enumerate(train, 1)]
    rows += [("heldout", e, c) for e, c in enumerate(heldout, 1)]
    frame = pd.DataFrame(rows, columns=["split", "epoch", "curvature"])
    return frame.assign(accuracy=0.5)


def test_a_course_says_where_the_mean_is_highest_and_what_is_left():
    found = imagenet.course(moved([1.0, 8.0, 2.0]), "train")
    assert found == {"peak": 2, "inside": True, "left": 0.25, "end": 2.0}
    assert not imagenet.course(moved([1.0, 2.0, 3.0]), "train")["inside"]
    assert not imagenet.course(moved([3.0, 2.0, 1.0]), "train")["inside"]


@pytest.mark.parametrize(
    ("heldout", "falls"),
    [([1.0, 8.0, 3.0], True), ([1, 8, 5], False), ([1, 2, 8], False)],
)
def test_held_out_images_fall_if_less_than_half_of_a_peak_inside_is_left(
    heldout, falls
):
    found = imagenet.unseen(moved([1.0, 8.0, 2.0], heldout))
    assert found["falls"] == falls and found["higher"]
    assert found["times"] == heldout[-1] / 2
    text = imagenet.as_text("{times:.1f} times", found)
    assert text == f"{heldout[-1] / 2:.1f} times"


def test_near_pairs_are_those_above_the_threshold_or_else_the_closest():
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 255, (80, 16, 16, 3)).astype(np.uint8)
    pixels[40:60] = pixels[:20]
    twins = Images(
        images=pixels,
        labels=np.repeat([0, 1], 40),
        index=np.arange(100, 180),
        classes=("a", "b"),
    )
    score = np.arange(80.0)
    pairs = imagenet.near_pairs(twins, score)
    assert pairs["above"].all() and pairs["conflict"].all() and len(pairs) == 20
    assert sorted(pairs["first_index"]) == list(range(100, 120))
    assert (pairs["second_index"] == pairs["first_index"] + 40).all()
    np.testing.assert_allclose(pairs["place"], (pairs["second_index"] - 100) / 79)
    alone = imagenet.near_pairs(twins.select(np.arange(40)), score[:40])
    assert not alone["above"].any() and len(alone) == imagenet.NUM_CLOSEST
    assert list(alone) == list(pairs) == imagenet.PAIRS


def test_places_are_those_of_duplicates_under_different_labels():
    ranked = imagenet.ranking(TABLE)
    exact = pd.DataFrame({"index": [4, 7, 9], "conflict": [True, True, False]})
    pairs = pd.DataFrame(
        {
            "conflict": [True, True, False],
            "above": [True, False, True],
            "place": [0.9, 0.8, 0.7],
        }
    )
    places = imagenet.places_of_conflicts(exact, pairs, ranked)
    assert places.tolist() == [0, 0.5, 0.9]
    none = imagenet.places_of_conflicts(exact[:0], pairs[:0], ranked)
    assert len(none) == 0


def test_hours_follow_from_the_assumed_rate():
    scale = pd.DataFrame({"total_flop": [3.6e15, 7.2e15]})
    found = imagenet.with_assumed_rate(scale, 1.0)
    assert found["hours at assumed rate"].tolist() == [1, 2]
    with pytest.raises(ValueError, match="teraflops must be positive, got 0"):
        imagenet.with_assumed_rate(scale, 0)


def test_sizes_are_given_in_units_that_people_use():
    sizes = pd.DataFrame(
        [
            {
                "state_bytes": 2**30,
                "activation_bytes": 2**21,
                "trace_bytes": 2**31,
                "decode_seconds": 0.004,
            }
        ]
    )
    assert imagenet.in_units(sizes).iloc[0].to_list() == [1, 2, 2, 4]


def test_large_images_are_kept_as_means_over_squares(monkeypatch):
    monkeypatch.setattr(imagenet, "SIDE", 2)
    image = np.arange(16, dtype=np.uint8).reshape(1, 4, 4, 1)
    assert imagenet.shrunk(image)[0, ..., 0].tolist() == [[2, 4], [10, 12]]
    assert imagenet.shrunk(image[:, :2, :2]).tolist() == image[:, :2, :2].tolist()
    assert imagenet.shrunk(image[:, :3, :3]).shape == (1, 1, 1, 1)


def test_classes_are_named_all_or_not_at_all():
    assert imagenet.named(["n01", "n02"], None).tolist() == ["n01", "n02"]
    assert imagenet.named(["n01", "n02"], ["tench", "church"]).tolist() == [
        "tench",
        "church",
    ]
    with pytest.raises(ValueError, match=r"must name all 2 classes.* got 1 names"):
        imagenet.named(["n01", "n02"], ["tench"])


def test_the_most_frequent_class_is_named_and_counted():
    names = np.array(["a", "b"])
    assert imagenet.most_frequent(pd.Series([1, 0, 1]), names) == ("b", 2)


def test_pairs_are_shown_with_the_names_of_their_classes():
    pairs = pd.DataFrame({"first_label": [0], "second_label": [1], "above": [True]})
    shown = imagenet.pairs_in_words(pairs, np.array(["a", "b"]))
    assert shown.to_numpy().tolist() == [["a", "b"]]


def test_the_study_is_imported_without_pytorch():
    code = "import sys, curvlib.studies.imagenet; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_seconds_are_those_of_an_epoch_of_all_runs(in_memory):
    made = SimpleNamespace(**vars(in_memory.parameters))
    names = imagenet.named(in_memory["classes"]["class"], None)
    told = imagenet.numbers(in_memory, made, names)
    seconds = in_memory["runs"]["score_seconds"].sum()
    assert told["score_seconds"] == pytest.approx(seconds / 6)  # 3 epochs, 2 runs
