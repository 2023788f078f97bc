import hashlib
import os
import pickle
import struct
import zipfile
from dataclasses import replace
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import torch
import torchvision.datasets
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2

from curvlib import data
from curvlib.data import (
    Images,
    augment,
    folders,
    load,
    normalise,
    with_planted_duplicates,
    with_symmetric_noise,
)


def some(count: int = 20, classes: int = 4, seed: int = 0, **changes) -> Images:
    rng = np.random.default_rng(seed)
    fields = {
        "images": rng.integers(0, 256, (count, 3, 5, 3), dtype=np.uint8),
        "labels": rng.integers(0, classes, count),
        "index": 100 + 2 * rng.permutation(count),
        "classes": tuple("abcdefghij"[:classes]),
        "name": "some",
    }
    return Images(**fields | changes)


def test_images_fill_in_what_is_left_out():
    images = some()
    assert len(images) == 20
    np.testing.assert_array_equal(images.original_labels, images.labels)
    np.testing.assert_array_equal(images.source, images.index)
    assert not images.mislabelled.any()
    assert images.labels.dtype == images.index.dtype == np.int64


def test_mislabelled_is_where_the_labels_differ():
    images = some(3, labels=[0, 1, 2], original_labels=[0, 3, 2])
    assert images.mislabelled.tolist() == [False, True, False]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": np.zeros((20, 3, 5, 3))}, "must be uint8 .*got float64 of shape"),
        ({"images": np.zeros((20, 3, 5), np.uint8)}, r"got uint8 .*\[20, 3, 5\]"),
        ({"images": np.zeros((20, 3, 5, 4), np.uint8)}, r"C = 1 or 3.*\[20, 3, 5, 4\]"),
        ({"images": np.zeros((0, 3, 5, 3), np.uint8)}, "no images; at least one"),
        ({"labels": np.zeros(19, int)}, r"labels must .*20 images, got int64 .*\[19\]"),
        ({"labels": np.zeros((20, 1), int)}, r"labels must .* of shape \[20, 1\]"),
        ({"labels": np.zeros(20)}, "labels must hold one integer .*got float64"),
        ({"labels": [True] * 20}, "labels must hold one integer .*got bool"),
        ({"labels": np.full(20, 4), "index": range(20)}, r"\[0, 4\).*sample 0 has 4"),
        ({"labels": [0] * 19 + [-1], "index": range(20)}, "sample 19 has -1"),
        ({"original_labels": np.full(20, 9)}, "original_labels must lie in"),
        ({"original_labels": [0]}, "original_labels must hold one integer"),
        ({"source": [0.0] * 20}, "source must hold one integer"),
        ({"index": [1] * 3 + list(range(2, 19))}, "but 1 occurs 3 times"),
        ({"index": range(19)}, "index must hold one integer"),
    ],
)  # fmt: skip
def test_images_that_cannot_be_right_are_refused(changes, message):
    with pytest.raises(ValueError, match=f"^some: .*{message}"):
        some(**changes)


def test_select_takes_a_mask_or_positions_and_keeps_every_field_together():
    images = with_planted_duplicates(some(), 3, seed=0)
    mask = images.source != images.index
    by_mask, by_position = images.select(mask), images.select(np.flatnonzero(mask))
    for chosen in (by_mask, by_position):
        for field in ("images", "labels", "index", "original_labels", "source"):
            np.testing.assert_array_equal(
                getattr(chosen, field), getattr(images, field)[mask]
            )
        assert chosen.classes == images.classes
    assert images.select(np.array([5, 2])).index.tolist() == [
        images.index[5],
        images.index[2],
    ]
    with pytest.raises(ValueError, match="no images"):
        images.select(np.zeros(len(images), bool))


def test_the_checksum_changes_with_each_thing_that_is_trained_on():
    images = some()
    pixel, label, order = (
        images.images.copy(),
        images.labels.copy(),
        images.index.copy(),
    )
    pixel[-1, -1, -1, -1] ^= 1
    label[3] = (label[3] + 1) % 4
    order[[0, 1]] = order[[1, 0]]
    changed = [
        some(images=pixel),
        some(labels=label),
        some(index=order),
        replace(images, classes=tuple("wxyz")),
        some(images=images.images.reshape(20, 5, 3, 3)),
        images.select(np.arange(19)),
        with_symmetric_noise(images, 0.05, seed=0),
    ]
    assert some().checksum == images.checksum
    assert len({c.checksum for c in changed} | {images.checksum}) == 1 + len(changed)


def test_the_tensor_has_channels_first():
    images = some()
    assert images.tensor().shape == (20, 3, 3, 5)
    assert images.tensor()[7, 2, 1, 4] == images.images[7, 1, 4, 2]


def test_statistics_are_those_of_numpy():
    images = some()
    mean, std = images.statistics()
    pixels = images.images / 255
    np.testing.assert_allclose(mean, pixels.mean((0, 1, 2)), rtol=1e-12)
    np.testing.assert_allclose(std, pixels.std((0, 1, 2)), rtol=1e-9)


@pytest.mark.parametrize("value", [0, 77, 255])
@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
def test_a_channel_without_contrast_is_refused(value):
    pixels = some().images.copy()
    pixels[..., 1] = value
    with pytest.raises(ValueError, match="channel 1 has the same value in every pixel"):
        some(images=pixels).statistics()


@given(
    count=st.integers(2, 60),
    classes=st.integers(2, 10),
    rate=st.floats(0, 1),
    seed=st.integers(0, 99),
)
@settings(max_examples=60, deadline=None)
def test_noise_replaces_an_exact_share_by_other_classes(count, classes, rate, seed):
    images = some(count, classes)
    expected = round(rate * count)
    if rate > 0 and expected == 0:
        with pytest.raises(ValueError, match="changes no label; raise it to"):
            with_symmetric_noise(images, rate, seed=seed)
        return
    noisy = with_symmetric_noise(images, rate, seed=seed)
    assert noisy.mislabelled.sum() == expected
    np.testing.assert_array_equal(noisy.original_labels, images.labels)
    np.testing.assert_array_equal(noisy.images, images.images)
    np.testing.assert_array_equal(noisy.index, images.index)
    assert len(images.labels) == count and not images.mislabelled.any()


def test_the_wrong_labels_of_a_low_rate_are_among_those_of_a_higher_one():
    images = some(200)
    low, high = (with_symmetric_noise(images, r, seed=1) for r in (0.05, 0.2))
    assert (high.mislabelled[low.mislabelled]).all()
    wrong = low.mislabelled
    np.testing.assert_array_equal(low.labels[wrong], high.labels[wrong])


def test_one_seed_repeats_its_noise_and_another_chooses_others():
    images = some(200)
    first, again, other = (with_symmetric_noise(images, 0.2, seed=s) for s in (1, 1, 2))
    np.testing.assert_array_equal(first.labels, again.labels)
    assert (first.mislabelled != other.mislabelled).any()


def test_wrong_labels_are_uniform_over_the_other_classes():
    count, classes = 6000, 5
    images = some(count, classes, labels=np.arange(count) % classes)
    noisy = with_symmetric_noise(images, 1.0, seed=3)
    table = np.zeros((classes, classes))
    np.add.at(table, (noisy.original_labels, noisy.labels), 1)
    assert (table.diagonal() == 0).all()
    expected = count / classes / (classes - 1)
    off = table[~np.eye(classes, dtype=bool)]
    # 20 cells, 5 row sums given: 15 degrees of freedom.
    assert ((off - expected) ** 2 / expected).sum() < chi2.ppf(0.999, 15)


def gappy(count: int = 300) -> Images:
    """Samples of three of 27 classes: 24 are named, and no sample has them."""
    labels = np.array([0, 2, 26])[np.random.default_rng(1).integers(0, 3, count)]
    names = tuple(f"class {k}" for k in range(27))
    return replace(some(count, labels=labels % 2), labels=labels, classes=names,
                   original_labels=None)  # fmt: skip


def test_no_wrong_label_is_of_a_class_without_samples():
    images = gappy()
    noisy = with_symmetric_noise(images, 0.9, seed=0)
    assert noisy.mislabelled.sum() == 270
    assert set(noisy.labels) == {0, 2, 26}
    # Each of the two other classes is as likely: 270 draws.
    higher = (noisy.labels > noisy.original_labels)[noisy.original_labels == 2].sum()
    count = noisy.mislabelled[noisy.original_labels == 2].sum()
    assert abs(higher - count / 2) < 4 * (count / 4) ** 0.5
    flipped = data.with_pair_flip(images, 1.0, seed=0)
    following = {0: 2, 2: 26, 26: 0}
    assert flipped.labels.tolist() == [following[k] for k in images.labels.tolist()]
    planted = with_planted_duplicates(images, 200, seed=0)
    assert set(planted.labels) == {0, 2, 26} and planted.mislabelled.sum() == 200
    both = with_planted_duplicates(noisy, 30, seed=0)
    assert set(both.labels) == {0, 2, 26} and both.mislabelled[300:].all()


def test_a_part_of_the_data_gets_the_classes_of_that_part_as_wrong_labels():
    part = some(200, 10).select(np.arange(200))
    part = part.select(part.labels < 3)
    noisy = with_symmetric_noise(part, 0.5, seed=0)
    assert set(noisy.labels) == {0, 1, 2} and len(noisy.classes) == 10


def test_where_all_samples_have_one_class_the_others_that_are_named_will_do():
    images = some(20, labels=[1] * 20)
    noisy = with_symmetric_noise(images, 0.5, seed=0)
    assert noisy.mislabelled.sum() == 10
    assert set(data.with_pair_flip(images, 1.0, seed=0).labels) == {2}


@pytest.mark.parametrize("classes", [2, 4, 10])
def test_where_every_class_has_samples_the_draws_are_what_they_were(classes):
    # Published numbers rest on them.
    images = some(300, classes, labels=np.arange(300) % classes)
    rng = np.random.default_rng(5)
    chosen = rng.permutation(300)[:60]
    shift = rng.integers(1, classes, size=300)
    expected = images.labels.copy()
    expected[chosen] = ((images.labels + shift) % classes)[chosen]
    noisy = with_symmetric_noise(images, 0.2, seed=5)
    np.testing.assert_array_equal(noisy.labels, expected)
    flipped = data.with_pair_flip(images, 0.2, seed=5)
    expected = images.labels.copy()
    expected[chosen] = (images.labels[chosen] + 1) % classes
    np.testing.assert_array_equal(flipped.labels, expected)


@pytest.mark.parametrize("rate", [-0.1, 1.1, float("nan")])
def test_a_rate_that_is_no_fraction_is_refused(rate):
    with pytest.raises(ValueError, match=r"rate is a fraction in \[0, 1\], got"):
        with_symmetric_noise(some(), rate, seed=0)


def test_noise_on_noise_is_refused():
    noisy = with_symmetric_noise(some(), 0.2, seed=0)
    with pytest.raises(ValueError, match="4 labels are wrong already"):
        with_symmetric_noise(noisy, 0.2, seed=1)


def test_one_class_has_no_wrong_label():
    images = some(classes=1)
    with pytest.raises(ValueError, match="one class has no wrong label"):
        with_symmetric_noise(images, 0.5, seed=0)
    with pytest.raises(ValueError, match="one class has no wrong label"):
        with_planted_duplicates(images, 2, seed=0)


def test_planted_duplicates_are_copies_under_a_wrong_label_that_know_their_source():
    images = some(50)
    planted = with_planted_duplicates(images, 12, seed=0)
    assert len(planted) == 62
    first, copies = planted.select(np.arange(50)), planted.select(np.arange(50, 62))
    assert first.checksum == images.checksum
    assert copies.index.tolist() == list(range(199, 211))  # after 198, the largest
    assert len(set(copies.source)) == 12
    where = [images.index.tolist().index(i) for i in copies.source]
    np.testing.assert_array_equal(copies.images, images.images[where])
    np.testing.assert_array_equal(copies.original_labels, images.labels[where])
    assert (copies.labels != images.labels[where]).all()
    assert copies.mislabelled.all()


def test_copies_of_a_part_of_the_data_can_keep_off_the_indices_of_the_rest():
    images = some(50)
    planted = with_planted_duplicates(images, 3, seed=0, first_index=1000)
    assert planted.index[50:].tolist() == [1000, 1001, 1002]
    assert (planted.source[50:] < 199).all()
    with pytest.raises(ValueError, match="first_index must be at least 199, got 198"):
        with_planted_duplicates(images, 3, seed=0, first_index=198)


LARGEST = np.iinfo(np.int64).max


def test_an_index_may_be_as_large_as_a_number_and_no_larger():
    images = some(4, index=[10**13, 5, LARGEST - 2, 0])
    noisy = with_symmetric_noise(images, 0.5, seed=0)
    np.testing.assert_array_equal(noisy.index, images.index)
    planted = with_planted_duplicates(images, 2, seed=0)
    assert planted.index[4:].tolist() == [LARGEST - 1, LARGEST]
    with pytest.raises(ValueError, match="no room for 3 copies from index 9223"):
        with_planted_duplicates(images, 3, seed=0)
    with pytest.raises(ValueError, match=r"index must fit into int64, .* 184467440737"):
        some(4, index=np.array([0, 1, 2, 2**64 - 1], np.uint64))


@pytest.mark.parametrize(
    ("labels", "advice"),
    [
        (np.zeros((20, 1), int), r"flatten them with .ravel\(\)"),
        (np.eye(4)[np.arange(20) % 4], r"of one-hot rows take .argmax\(1\)"),
    ],
)
def test_labels_of_another_form_say_how_to_convert_them(labels, advice):
    with pytest.raises(ValueError, match=advice):
        some(labels=labels)


def test_planted_duplicates_repeat_with_their_seed_and_none_changes_nothing():
    images = some(50)
    first, again, other = (
        with_planted_duplicates(images, 9, seed=s) for s in (1, 1, 2)
    )
    assert first.checksum == again.checksum != other.checksum
    assert with_planted_duplicates(images, 0, seed=0).checksum == images.checksum


def test_noise_and_duplicates_of_one_seed_choose_samples_independently():
    images = some(1000)
    noisy = with_symmetric_noise(images, 0.1, seed=0)
    planted = with_planted_duplicates(images, 100, seed=0)
    both = np.isin(planted.source[1000:], images.index[noisy.mislabelled]).sum()
    assert both < 10 + 4 * 3  # of 100, 10 by chance, with a deviation of 3


def test_a_sample_with_a_wrong_label_is_never_the_source_of_a_duplicate():
    # With one seed for both, the copies once were exactly of the noisy samples.
    noisy = with_symmetric_noise(some(100), 0.3, seed=5)
    planted = with_planted_duplicates(noisy, 70, seed=5)
    copies = planted.select(planted.source != planted.index)
    assert not np.isin(copies.source, noisy.index[noisy.mislabelled]).any()
    assert copies.mislabelled.all()
    with pytest.raises(ValueError, match=r"between 0 and the 70 samples .* got 71"):
        with_planted_duplicates(noisy, 71, seed=5)


@pytest.mark.parametrize("count", [-1, 21])
def test_more_duplicates_than_samples_are_refused(count):
    with pytest.raises(ValueError, match=f"between 0 and the 20 samples.* got {count}"):
        with_planted_duplicates(some(), count, seed=0)


def test_the_digits_split_is_disjoint_whole_and_stable():
    train, test = load("digits"), load("digits", split="test")
    assert (len(train), len(test)) == (1438, 359)
    assert sorted([*train.index, *test.index]) == list(range(1797))
    assert train.images.shape == (1438, 8, 8, 1)
    assert train.images.max() == 255 and train.images.min() == 0
    assert train.classes == tuple("0123456789")
    assert train.index[:5].tolist() == [0, 1, 2, 3, 5]
    assert train.labels[:5].tolist() == [0, 1, 2, 3, 5]
    found = hashlib.sha256(test.labels.tobytes()).hexdigest()[:8]
    assert found == "5b60d960"
    assert np.bincount(test.labels).min() > 20  # every class is held out


def save(path: Path, **arrays) -> Path:
    np.savez(path, **arrays)
    return path


def four(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (4, *shape), dtype=np.uint8)


def test_an_npz_of_grey_images_gets_a_channel_and_numbers_for_classes(tmp_path):
    save(
        tmp_path / "grey.npz",
        train_images=four(6, 5),
        train_labels=np.array([0, 1, 0, 1], np.uint8),
        test_images=four(6, 5)[:2],
        test_labels=np.array([2, 0]),
    )
    train, test = load("grey", tmp_path), load("grey", tmp_path, split="test")
    assert train.images.shape == (4, 6, 5, 1)
    np.testing.assert_array_equal(train.images[..., 0], four(6, 5))
    assert test.labels.tolist() == [2, 0]
    # Of both splits, so that both have as many logits.
    assert train.classes == test.classes == ("0", "1", "2")
    assert train.index.tolist() == [0, 1, 2, 3]
    assert train.name == "grey"


def test_an_npz_of_rgb_images_may_name_its_classes_and_come_by_path(tmp_path):
    path = save(
        tmp_path / "rgb.npz",
        train_images=four(6, 5, 3),
        train_labels=np.array([0, 1, 0, 1]),
        classes=np.array(["cat", "dog", "never seen"]),
    )
    images = load(str(path))
    np.testing.assert_array_equal(images.images, four(6, 5, 3))
    assert images.classes == ("cat", "dog", "never seen")
    assert load("rgb", tmp_path).checksum == images.checksum


def test_an_npz_of_a_known_name_comes_before_anything_else(tmp_path, monkeypatch):
    save(tmp_path / "digits.npz", train_images=four(3, 3), train_labels=np.arange(4))
    assert len(load("digits", tmp_path)) == 4
    monkeypatch.setenv("CURVLIB_DATA", str(tmp_path))
    assert len(load("digits")) == 4


def test_the_cache_folder_is_used_where_no_other_is_named(tmp_path, monkeypatch):
    monkeypatch.delenv("CURVLIB_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert folders.default_root() == tmp_path / "curvlib"


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"train_images": four(3, 3)}, "lacks train_labels; it has train_images$"),
        ({"x": np.zeros(3)}, "lacks train_images and train_labels; it has x"),
        ({}, "it has nothing"),
        (
            {"train_images": four(3, 3), "train_labels": np.array(list("abcd"))},
            "bad: labels must hold one integer for each of the 4 images, got <U1",
        ),
        (
            {"train_images": four(3, 3) / 255.0, "train_labels": np.arange(4)},
            "bad: images must be uint8 .*got float64",
        ),
        (
            {"train_images": four(3, 3), "train_labels": np.arange(4) - 1},
            "bad: labels must lie in",
        ),
    ],
)
def test_an_npz_of_another_layout_is_refused(tmp_path, arrays, message):
    save(tmp_path / "bad.npz", **arrays)
    with pytest.raises(ValueError, match=message):
        load("bad", tmp_path)


def load_arrays(tmp_path, split="train", **arrays) -> Images:
    save(tmp_path / "given.npz", **arrays)
    return load("given", tmp_path, split=split)


ONE_HOT = np.eye(3, dtype=np.uint8)[[2, 0, 2, 1]]


@pytest.mark.parametrize(
    ("labels", "classes", "numbers", "names"),
    [
        (np.array([[2], [0], [2], [1]]), None, [2, 0, 2, 1], "0 1 2"),  # MedMNIST
        (np.array([[[2]], [[0]], [[2]], [[1]]]), None, [2, 0, 2, 1], "0 1 2"),
        (np.array([[2.0], [0], [2], [1]]), None, [2, 0, 2, 1], "0 1 2"),
        (np.array([2, 0, 2, 1], np.float32), None, [2, 0, 2, 1], "0 1 2"),
        (np.array([True, False, True, True]), None, [1, 0, 1, 1], "False True"),
        (ONE_HOT, None, [2, 0, 2, 1], "0 1 2"),
        (ONE_HOT.astype(np.float32), ["a", "b", "c"], [2, 0, 2, 1], "a b c"),
        (ONE_HOT.astype(bool), None, [2, 0, 2, 1], "0 1 2"),
        # A column that no sample has is a class that the file declares.
        (np.eye(3, dtype=int)[[2, 0, 2, 0]], None, [2, 0, 2, 0], "0 1 2"),
        (np.array(["dog", "cat", "dog", "cat"]), ["dog", "cat"], [0, 1, 0, 1],
         "dog cat"),
        (np.array([["dog"], ["cat"], ["dog"], ["cat"]]), ["dog", "cat", "eel"],
         [0, 1, 0, 1], "dog cat eel"),
        (np.array([b"dog", b"cat", b"dog", b"cat"]), [b"dog", b"cat"], [0, 1, 0, 1],
         "dog cat"),
        (np.array([26, 0, 2, 0]), None, [2, 0, 1, 0], "0 2 26"),
        (np.array([1, 2, 3, 2]), None, [0, 1, 2, 1], "1 2 3"),
        (np.array([10**13, 7, 10**13, 7]), None, [1, 0, 1, 0], f"7 {10**13}"),
        (np.array([2, 0, 2, 1], np.uint64), None, [2, 0, 2, 1], "0 1 2"),
    ],
)  # fmt: skip
def test_labels_of_one_meaning_are_taken(tmp_path, labels, classes, numbers, names):
    given = {} if classes is None else {"classes": np.array(classes)}
    images = load_arrays(
        tmp_path, train_images=four(3, 3), train_labels=labels, **given
    )
    assert images.labels.tolist() == numbers and images.labels.dtype == np.int64
    assert images.classes == tuple(names.split())


def test_classes_named_by_the_file_stay_even_where_labels_have_gaps(tmp_path):
    names = np.array([f"class {k}" for k in range(27)])
    labels = np.array([26, 0, 2, 0])
    images = load_arrays(
        tmp_path, train_images=four(3, 3), train_labels=labels, classes=names
    )
    assert images.labels.tolist() == labels.tolist() and len(images.classes) == 27


@pytest.mark.parametrize(
    ("labels", "classes", "message"),
    [
        (np.array([[1, 0, 1], [1, 0, 0], [0, 1, 0], [0, 0, 1]]), None,
         r"got int64 of shape \[4, 3\]: multi-label.*sample 0 has 2 classes.*choose"),
        (np.array([[0, 1], [0, 0], [0, 1], [1, 0]]), None, "sample 1 has 0 classes"),
        (np.array([[0.9, 0.1], [0.5, 0.5], [0, 1], [1, 0]]), None,
         r"probabilities; choose .*labels.argmax\(1\)"),
        (np.array([[3, 1], [0, 2], [1, 1], [2, 0]]), None,
         r"several labels for each image; choose one, such as labels\[:, 0\]"),
        (ONE_HOT, ["a", "b"], "one-hot, with 3 columns, but classes names 2"),
        (np.array(["dog", "cat", "dog", "eel"]), ["dog", "cat"],
         "sample 3 has the label 'eel', which is not among the 2 classes: dog, cat$"),
        (np.array(["dog", "", "dog", "cat"]), ["dog", "cat"], "sample 1 has the label"),
        (np.array(["dog", "cat", "dog", "cat"]), ["dog", "cat", "dog"],
         "classes names one class twice"),
        (np.array(["dog", "cat", "dog", "cat"]), None,
         "add an array classes that lists them .*classes=np.unique"),
        (np.array([0, 1, np.nan, 1]), None, "sample 2 has nan; leave out images"),
        (np.array([0, 1, 0.5, 1]), None, "sample 2 has 0.5; .*measured values"),
        (np.array([0, 1, np.inf, 1]), None, "sample 2 has inf"),
        (np.array([0, 1, 2, -1]), None, "sample 3 has -1; leave out images without"),
        (np.array([0, 1, 2, 5]), ["a", "b", "c"], r"\[0, 3\).*sample 3 has 5"),
        (np.array([0, 1, 2, 2**64 - 1], np.uint64), None, "largest is 18446744073709"),
        (np.array([0, 1, 2, 3], complex), None, "got complex128"),
        (np.array([0, 1, 2, 3], "M8[s]"), None, "got datetime64"),
        (np.array([0, 1, 2]), None, r"4 images, got int64 of shape \[3\]"),
        (np.array([[0, 1, 2, 3]]), None, r"4 images, got int64 of shape \[1, 4\]"),
        (np.array(3), None, r"4 images, got int64 of shape \[\]"),
        (np.zeros((4, 2, 2), int), None, r"got int64 of shape \[4, 2, 2\]"),
        (np.arange(4), [["a", "b"], ["c", "d"]], "classes must be a list of names"),
        (np.arange(4), [], "classes must be a list of names"),
    ],
)  # fmt: skip
def test_labels_of_no_meaning_or_two_are_refused(tmp_path, labels, classes, message):
    given = {} if classes is None else {"classes": np.array(classes)}
    with pytest.raises(ValueError, match=message) as caught:
        load_arrays(tmp_path, train_images=four(3, 3), train_labels=labels, **given)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("dtype", ["int64", "int16", "uint16", "uint32", ">i4"])
def test_pixels_are_pixels_whatever_integers_hold_them(tmp_path, dtype):
    images = load_arrays(
        tmp_path, train_images=four(6, 5, 3).astype(dtype), train_labels=np.arange(4)
    )
    np.testing.assert_array_equal(images.images, four(6, 5, 3))


def test_booleans_are_black_and_white(tmp_path):
    mask = four(6, 5) > 99
    images = load_arrays(tmp_path, train_images=mask, train_labels=np.arange(4))
    np.testing.assert_array_equal(images.images[..., 0], np.where(mask, 255, 0))


@pytest.mark.parametrize("channels", [1, 3])
def test_channels_first_are_moved_to_the_end(tmp_path, channels):
    images = load_arrays(
        tmp_path, train_images=four(channels, 6, 5), train_labels=np.arange(4)
    )
    assert images.images.shape == (4, 6, 5, channels)
    np.testing.assert_array_equal(
        images.images, four(channels, 6, 5).transpose(0, 2, 3, 1)
    )


DEEP = four(6, 5).astype(np.uint16) * 257


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (four(6, 5) / 255, r"from 0 to .*if 1 is white, save np.round\(255 \*"),
        (four(6, 5) / np.float32(2), r"got float32 .*save np.round\(images\)"),
        (four(6, 5).astype(np.float16), r"got float16 .*save np.round\(images\)"),
        ((four(6, 5) - 127.0) / 60, "values from -2.*as after normalisation"),
        (four(6, 5).astype(int) - 128, "values from -1.*as after normalisation"),
        (DEEP, "got uint16 with values .*65535 for all of 16 bits"),
        (DEEP.astype(np.float32), "divide them by the value of white"),
        (four(6, 5).astype(int) // 128, "values from 0 to 1; if 1 is white"),
        (np.where(four(6, 5) > 99, 1.0, np.nan), "a value of nan in image 0; repair"),
        (np.where(four(6, 5) > 200, np.inf, 1.0), "a value of inf in image [0-3]"),
        (four(6, 5).astype(complex), "got complex128 of shape"),
        (four(6, 5).astype(str), "got <U3 of shape"),
        (np.full((4, 6, 5), 7, np.uint8), "channel 0 has the value 7 in every pixel"),
        (np.stack([four(6, 5), 0 * four(6, 5), four(6, 5)], 3), "channel 1 has the v"),
        (four(30), r"got \[4, 30\]; these are flattened: .*reshape\(-1, height"),
        (four(6, 5, 4), r"got \[4, 6, 5, 4\]; if the fourth channel is transparency"),
        (four(4, 6, 5), "if the fourth channel is transparency"),
        (four(6, 5, 2), "volumes and other channels are not images"),
        (four(6, 6, 6, 1), r"got \[4, 6, 6, 6, 1\]; volumes"),
        (four(6, 0), "no side may be 0"),
        (np.uint8(3), r"got \[\]"),
    ],
)  # fmt: skip
def test_images_of_no_meaning_or_two_are_refused(tmp_path, images, message):
    with pytest.raises(ValueError, match=f"^given: .*{message}") as caught:
        load_arrays(tmp_path, train_images=images, train_labels=np.arange(4))
    assert "\n" not in str(caught.value)


def test_the_layout_of_medmnist_is_read_as_it_is_published(tmp_path):
    arrays = {
        "train_images": four(28, 28),
        "train_labels": np.array([[0], [3], [0], [1]], np.uint8),
        "val_images": four(28, 28)[:1],
        "val_labels": np.array([[2]], np.uint8),
        "test_images": four(28, 28)[:2],
        "test_labels": np.array([[1], [0]], np.uint8),
    }
    train = load_arrays(tmp_path, **arrays)
    test = load("given", tmp_path, split="test")
    assert train.images.shape == (4, 28, 28, 1) and train.labels.tolist() == [
        0,
        3,
        0,
        1,
    ]
    assert test.labels.tolist() == [1, 0] and len(test) == 2
    assert train.classes == test.classes == ("0", "1", "2", "3")  # 2 is in val alone
    del arrays["test_images"], arrays["test_labels"]
    save(tmp_path / "given.npz", **arrays)
    assert load("given", tmp_path, split="test").labels.tolist() == [2]


def test_one_hot_and_numbers_in_two_splits_agree_on_the_classes(tmp_path):
    train = load_arrays(
        tmp_path,
        train_images=four(6, 5),
        train_labels=np.eye(5)[[0, 1, 0, 2]],
        test_images=four(6, 5)[:2],
        test_labels=np.array([3, 0]),
    )
    test = load("given", tmp_path, split="test")
    assert train.classes == test.classes == tuple("01234")
    assert test.labels.tolist() == [3, 0]


@pytest.mark.parametrize(
    ("names", "test"),
    [
        (("x_train", "y_train", "x_test", "y_test"), True),  # Keras
        (("images", "labels"), False),
    ],
)
def test_other_names_of_arrays_are_known(tmp_path, names, test):
    arrays = [four(6, 5), np.arange(4), four(6, 5)[:2], np.arange(2)]
    train = load_arrays(tmp_path, **dict(zip(names, arrays, strict=False)))
    assert train.labels.tolist() == [0, 1, 2, 3]
    if test:
        assert len(load("given", tmp_path, split="test")) == 2
    else:
        with pytest.raises(ValueError, match="lacks test_images and test_labels; it h"):
            load("given", tmp_path, split="test")


def test_labels_of_the_other_split_that_are_withheld_do_not_matter(tmp_path):
    for withheld in (np.full(2, -1), np.array(["?", "?"]), np.array([])):
        images = load_arrays(
            tmp_path,
            train_images=four(6, 5),
            train_labels=np.array([0, 1, 0, 1]),
            test_images=four(6, 5)[:2],
            test_labels=withheld,
        )
        assert images.classes == ("0", "1")


def test_a_file_is_found_by_its_full_name_in_root(tmp_path):
    save(tmp_path / "given.npz", images=four(6, 5), labels=np.arange(4))
    assert len(load("given.npz", tmp_path)) == 4


def test_text_stored_as_objects_says_how_to_store_it(tmp_path):
    labels = np.array(["a", "b", "a", "b"], dtype=object)
    with pytest.raises(ValueError, match=r"dtype=str\), without objects"):
        load_arrays(tmp_path, train_images=four(3, 3), train_labels=labels)


def test_labels_with_gaps_train_and_score_with_noise(tmp_path):
    from curvlib import scores
    from curvlib.runs import training
    from curvlib.runs.settings import TrainConfig

    rng = np.random.default_rng(0)
    save(
        tmp_path / "gaps.npz",
        train_images=rng.integers(0, 256, (60, 8, 8), dtype=np.uint8),
        train_labels=np.array([0, 2, 26] * 20),
    )
    config = TrainConfig(
        dataset="gaps",
        model="mlp",
        width=8,
        epochs=2,
        num_probes=1,
        noise_rate=0.2,
        score_original_labels=True,
    )
    images, _ = training.prepare(config, tmp_path)
    assert images.mislabelled.sum() == 12 and images.classes == ("0", "2", "26")
    trace = training.fit(config, images, runs=tmp_path / "runs", device="cpu")
    table = scores.compute(trace)
    assert len(table) == 60 and np.isfinite(table["cumulative_loss"]).all()


def test_a_pickle_inside_an_npz_is_never_opened(tmp_path):
    class Bomb:
        def __reduce__(self):
            return Path.touch, (tmp_path / "exploded",)

    bombs = np.array([Bomb()], dtype=object)
    save(tmp_path / "bad.npz", train_images=four(3, 3), train_labels=bombs)
    with pytest.raises(
        ValueError, match=r"bad.npz is not a readable .npz file: .*pickle"
    ):
        load("bad", tmp_path)
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize("kind", ["empty", "text", "npy", "cut", "flipped"])
def test_a_damaged_npz_is_refused_by_its_name(tmp_path, kind):
    path = tmp_path / "bad.npz"
    np.savez_compressed(path, train_images=four(30, 30), train_labels=np.arange(4))
    whole = path.read_bytes()
    with zipfile.ZipFile(path) as file:
        inside = file.infolist()[0].header_offset + 200
    if kind == "npy":
        np.save(tmp_path / "array.npy", np.zeros(3))
    content = {
        "empty": b"",
        "text": b"these are not the arrays you are looking for",
        "npy": kind == "npy" and (tmp_path / "array.npy").read_bytes(),
        "cut": whole[: len(whole) // 2],
        "flipped": whole[:inside] + bytes([whole[inside] ^ 0xFF]) + whole[inside + 1 :],
    }[kind]
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"bad.npz is not a readable .npz file"):
        load("bad", tmp_path)


def test_an_unknown_name_or_split_is_refused_with_what_is_known(tmp_path):
    with pytest.raises(
        ValueError, match=r"unknown data set 'cifar': .*cifar10, cifar100"
    ):
        load("cifar", tmp_path)
    with pytest.raises(
        ValueError, match="split must be 'train' or 'test', got 'valid'"
    ):
        load("digits", split="valid")


def cifar10_folder(root: Path, monkeypatch) -> None:
    """Two images a file, in the layout of the real files, checksums included."""
    kind, sums = torchvision.datasets.CIFAR10, {}
    folder = root / kind.base_folder
    folder.mkdir(parents=True)

    def dump(name: str, content: dict) -> None:
        (folder / name).write_bytes(pickle.dumps(content))
        sums[name] = hashlib.md5((folder / name).read_bytes()).hexdigest()

    files = [name for name, _ in kind.train_list + kind.test_list]
    for number, name in enumerate(files):
        rows = np.full((2, 3072), number, np.uint8)
        rows[:, 1024:2048] += 100  # green
        dump(name, {"data": rows, "labels": [number, 9 - number]})
    dump("batches.meta", {"label_names": list("abcdefghij")})
    for field in ("train_list", "test_list"):
        listed = [[name, sums[name]] for name, _ in getattr(kind, field)]
        monkeypatch.setattr(kind, field, listed)
    monkeypatch.setattr(kind, "meta", kind.meta | {"md5": sums["batches.meta"]})


def test_what_torchvision_saved_is_read_in_its_order(tmp_path, monkeypatch):
    cifar10_folder(tmp_path, monkeypatch)
    train, test = load("cifar10", tmp_path), load("cifar10", tmp_path, split="test")
    assert train.images.shape == (10, 32, 32, 3)
    assert train.labels.tolist() == [0, 9, 1, 8, 2, 7, 3, 6, 4, 5]
    assert train.index.tolist() == list(range(10))
    assert train.images[2, 0, 0].tolist() == [1, 101, 1]
    assert train.classes == tuple("abcdefghij") and train.name == "cifar10"
    assert test.labels.tolist() == [5, 4]


def test_grey_images_that_torchvision_saved_get_a_channel(tmp_path):
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    pixels = four(28, 28)
    for split in ("train", "t10k"):
        head = struct.pack(">IIII", 0x803, 4, 28, 28)
        (raw / f"{split}-images-idx3-ubyte").write_bytes(head + pixels.tobytes())
        head = struct.pack(">II", 0x801, 4)
        (raw / f"{split}-labels-idx1-ubyte").write_bytes(head + bytes([7, 1, 0, 9]))
    images = load("mnist", tmp_path)
    np.testing.assert_array_equal(images.images, pixels[..., None])
    assert images.labels.tolist() == [7, 1, 0, 9]


@pytest.mark.parametrize("error", [URLError("no route"), RuntimeError("not whole")])
def test_without_data_and_network_the_message_says_where_data_may_lie(
    tmp_path, monkeypatch, error
):
    def fail(self):
        raise error

    monkeypatch.setattr(torchvision.datasets.CIFAR100, "download", fail)
    with pytest.raises(FileNotFoundError) as caught:
        load("cifar100", tmp_path)
    message = str(caught.value)
    assert str(tmp_path) in message and str(error) in message
    assert "CURVLIB_DATA" in message and "cifar100.npz" in message


def folder_of(name: str) -> bool:
    return Path(os.environ.get("CURVLIB_DATA", "none"), name).exists()


@pytest.mark.skipif(
    not folder_of("cifar-10-batches-py"), reason="no CIFAR-10 in $CURVLIB_DATA"
)
def test_the_real_cifar10_is_in_the_order_of_its_authors():
    train, test = load("cifar10"), load("cifar10", split="test")
    assert (len(train), len(test)) == (50_000, 10_000)
    assert train.classes[:2] == ("airplane", "automobile")
    assert [train.classes[label] for label in train.labels[:3]] == [
        "frog",
        "truck",
        "truck",
    ]
    assert train.images[0, 0, 0].tolist() == [59, 62, 63]
    mean, std = train.statistics()
    np.testing.assert_allclose(mean, [0.4914, 0.4822, 0.4465], atol=5e-5)
    np.testing.assert_allclose(std, [0.2470, 0.2435, 0.2616], atol=5e-5)


def batch_of(size=64, channels=3, height=6, width=5) -> torch.Tensor:
    shape = (size, channels, height, width)
    generator = torch.Generator().manual_seed(0)
    return torch.randint(1, 256, shape, generator=generator, dtype=torch.uint8)


def test_every_augmented_image_is_a_slice_of_the_padded_one_or_its_mirror():
    batch = batch_of()
    generator = torch.Generator().manual_seed(1)
    got = augment(batch, generator=generator, padding=2)
    assert got.shape == batch.shape and got.dtype == torch.uint8
    padded = torch.nn.functional.pad(batch, [2] * 4)
    places = set()
    for image, whole in zip(got, padded, strict=True):
        found = [
            (top, left, flip)
            for top in range(5)
            for left in range(5)
            for flip in (False, True)
            for crop in [whole[:, top : top + 6, left : left + 5]]
            if torch.equal(image, crop.flip(2) if flip else crop)
        ]
        assert len(found) == 1
        places.update(found)
    assert (
        {top for top, _, _ in places}
        == {left for _, left, _ in places}
        == set(range(5))
    )
    assert {flip for _, _, flip in places} == {False, True}


def test_without_padding_an_image_is_itself_or_its_mirror_about_equally_often():
    batch = batch_of(400)
    got = augment(batch, generator=torch.Generator().manual_seed(0), padding=0)
    same = (got == batch).flatten(1).all(1)
    mirrored = (got == batch.flip(3)).flatten(1).all(1)
    assert (same ^ mirrored).all()
    assert abs(same.double().mean() - 0.5) < 4 * 0.5 / 400**0.5


def test_augmentation_repeats_with_the_state_of_its_generator():
    batch = batch_of()
    generator = torch.Generator().manual_seed(3)
    first, second = (augment(batch, generator=generator) for _ in range(2))
    again = augment(batch, generator=torch.Generator().manual_seed(3))
    assert torch.equal(first, again) and not torch.equal(first, second)


def test_normalised_images_have_mean_zero_and_deviation_one_in_each_channel():
    images = load("digits").select(np.arange(100))
    for chosen in (images, some(100)):
        x = normalise(chosen.tensor(), *chosen.statistics())
        assert x.dtype == torch.float32
        x = x.double()
        zero, one = torch.zeros(x.shape[1]).double(), torch.ones(x.shape[1]).double()
        torch.testing.assert_close(x.mean((0, 2, 3)), zero, rtol=0, atol=1e-6)
        torch.testing.assert_close(
            x.std((0, 2, 3), correction=0), one, rtol=1e-6, atol=0
        )


def test_normalising_is_the_formula_of_the_paper_pixel_by_pixel():
    batch = batch_of()
    mean, std = [0.5, 0.25, 0.1], [0.2, 0.3, 0.4]
    columns = [torch.tensor(v).double()[:, None, None] for v in (mean, std)]
    expected = (batch.double() / 255 - columns[0]) / columns[1]
    torch.testing.assert_close(
        normalise(batch, mean, std).double(), expected, rtol=1e-5, atol=1e-5
    )


# ---------------------------------------------------------------- other wrong labels


def cifar10(count=20):
    rng = np.random.default_rng(0)
    return Images(
        images=rng.integers(0, 256, (count, 4, 4, 3), dtype=np.uint8),
        labels=np.arange(count) % 10,
        index=np.arange(count),
        classes=tuple("abcdefghij"),
        name="cifar10",
    )


def test_a_pair_flip_goes_to_the_next_class_for_the_samples_of_symmetric_noise():
    images = cifar10(50)
    flipped = data.with_pair_flip(images, 0.2, seed=3)
    wrong = flipped.mislabelled
    assert wrong.sum() == 10
    np.testing.assert_array_equal(
        wrong, data.with_symmetric_noise(images, 0.2, seed=3).mislabelled
    )
    np.testing.assert_array_equal(
        flipped.labels[wrong], (images.labels[wrong] + 1) % 10
    )
    np.testing.assert_array_equal(flipped.original_labels, images.labels)


def human_arrays(images):
    worse = (images.labels + (np.arange(len(images)) % 3 == 0)) % 10
    return {"clean_label": images.labels, "worse_label": worse}


def save_human(path, arrays):
    if path.suffix == ".npz":
        np.savez(path, **arrays)
    else:
        torch.save(arrays, path)  # as the authors did: numpy arrays inside


@pytest.mark.parametrize("suffix", [".npz", ".pt"])
def test_human_labels_are_joined_by_index(tmp_path, suffix):
    images = cifar10()
    arrays = human_arrays(images)
    save_human(tmp_path / f"CIFAR-10_human{suffix}", arrays)
    some = images.select(np.array([12, 3, 7, 5]))
    given = data.with_human_labels(some, "human_worse", tmp_path)
    np.testing.assert_array_equal(given.labels, arrays["worse_label"][[12, 3, 7, 5]])
    np.testing.assert_array_equal(given.mislabelled, [True, True, False, False])


def test_human_labels_in_another_order_are_refused(tmp_path):
    images = cifar10()
    arrays = {k: v[::-1] for k, v in human_arrays(images).items()}
    save_human(tmp_path / "CIFAR-10_human.npz", arrays)
    with pytest.raises(ValueError, match="in another order"):
        data.with_human_labels(images, "human_worse", tmp_path)


@pytest.mark.parametrize("index", [-1, 10**13])
def test_human_labels_are_never_those_of_another_index(tmp_path, index):
    images = cifar10()
    save_human(tmp_path / "CIFAR-10_human.npz", human_arrays(images))
    odd = replace(images, index=[*range(19), index], source=None)
    with pytest.raises(ValueError, match="is of other images"):
        data.with_human_labels(odd, "human_worse", tmp_path)


def test_human_labels_that_cannot_be_had_say_why(tmp_path):
    images = cifar10()
    with pytest.raises(
        FileNotFoundError, match=r"CIFAR-10_human\.pt in .* download it"
    ):
        data.with_human_labels(images, "human_worse", tmp_path)
    with pytest.raises(ValueError, match="noise must be one of human_aggre"):
        data.with_human_labels(images, "human", tmp_path)
    with pytest.raises(ValueError, match="human_noisy labels are those of cifar100"):
        data.with_human_labels(images, "human_noisy", tmp_path)
    wrong = data.with_symmetric_noise(images, 0.1, seed=0)
    with pytest.raises(ValueError, match="wrong already"):
        data.with_human_labels(wrong, "human_worse", tmp_path)
    save_human(tmp_path / "CIFAR-10_human.npz", human_arrays(images))
    with pytest.raises(ValueError, match="lacks aggre_label; it has clean_label"):
        data.with_human_labels(images, "human_aggre", tmp_path)


class Payload:
    def __reduce__(self):
        import os

        return os.mkdir, ("made-by-a-pickle",)


def test_a_human_file_that_holds_code_is_refused_and_not_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"clean_label": Payload()}, tmp_path / "CIFAR-10_human.pt")
    with pytest.raises(ValueError, match="holds more than arrays of labels"):
        data.with_human_labels(cifar10(), "human_worse", tmp_path)
    assert not (tmp_path / "made-by-a-pickle").exists()
