"""Exact duplicates: every one, no other, whatever the split or the order."""

import os
from pathlib import Path

import numpy as np
import pytest

from curvlib import data, duplicates
from curvlib.data import Images, load, with_planted_duplicates


def images(pixels, labels, index=None, classes=("a", "b", "c")):
    pixels = np.array(pixels, np.uint8).reshape(len(pixels), 1, 1, 1)
    index = np.arange(len(pixels)) if index is None else index
    return Images(images=pixels, labels=labels, index=index, classes=classes)


def test_groups_hold_all_twins_and_say_whether_they_disagree():
    found = duplicates.exact(images([7, 1, 7, 2, 1, 7], [0, 1, 0, 2, 2, 0]))
    assert found.to_numpy().tolist() == [
        [0, 0, 0, 0, False],
        [0, 0, 2, 0, False],
        [0, 0, 5, 0, False],
        [1, 0, 1, 1, True],
        [1, 0, 4, 2, True],
    ]


def test_twins_are_found_between_splits_too():
    train, test = images([3, 4], [0, 1]), images([9, 4], [0, 2], index=[50, 51])
    found = duplicates.exact(train, test)
    assert found[["split", "index", "label"]].to_numpy().tolist() == [
        [0, 1, 1],
        [1, 51, 2],
    ]
    assert found["conflict"].all()


def test_images_without_twins_give_an_empty_table():
    found = duplicates.exact(images([1, 2, 3], [0, 1, 2]))
    assert found.empty
    assert list(found) == ["group", "split", "index", "label", "conflict"]


def test_one_pixel_off_is_no_duplicate():
    assert duplicates.exact(images([100, 101], [0, 1])).empty


def test_every_planted_copy_is_found_and_nothing_else():
    digits = load("digits")
    assert duplicates.exact(digits).empty
    planted = with_planted_duplicates(digits, 30, seed=0)
    found = duplicates.exact(planted)
    assert found["conflict"].all()
    assert found["group"].nunique() == 30
    copies = planted.index[planted.index != planted.source]
    assert set(copies) <= set(found["index"])


@pytest.mark.parametrize(("given", "match"), [((), "no images"), (("x",), "classes")])
def test_what_cannot_be_compared_is_refused(given, match):
    splits = [images([1], [0]), images([1], [0], classes=given)] if given else []
    with pytest.raises(ValueError, match=match):
        duplicates.exact(*splits)


def test_real_photographs_stand_twice_under_different_labels():
    root = os.environ.get("CURVLIB_DATA")
    if not root or not (Path(root) / "cifar-100-python").exists():
        pytest.skip("CIFAR-100 does not lie in $CURVLIB_DATA")
    train = data.load("cifar100", root)
    found = duplicates.exact(train)
    assert found["conflict"].any()
    for _, group in found.groupby("group"):
        pixels = train.images[group["index"]]
        assert (pixels == pixels[0]).all()
