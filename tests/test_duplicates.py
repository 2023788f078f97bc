"""Exact duplicates: every one, no other, whatever the split or the order."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import zoom
from torch import nn

from curvlib import data
from curvlib.data import Images, duplicates, load, with_planted_duplicates


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


def photographs(count, seed=0):
    """Smooth random colour images with fine details, no two alike."""
    rng = np.random.default_rng(seed)
    coarse = zoom(rng.uniform(0, 200, (count, 4, 4, 3)), (1, 4, 4, 1), order=1)
    pixels = np.clip(coarse + rng.uniform(0, 55, (count, 16, 16, 3)), 0, 255)
    return Images(
        images=pixels.astype(np.uint8),
        labels=np.arange(count) % 3,
        index=np.arange(count),
        classes=("a", "b", "c"),
    )


def with_twins(originals, change):
    """The images, then a changed copy of the first tenth: pairs (i, N + i)."""
    tenth = len(originals) // 10
    copies = np.clip(change(originals.images[:tenth].astype(float)), 0, 255)
    return Images(
        images=np.concatenate([originals.images, copies.astype(np.uint8)]),
        labels=np.concatenate([originals.labels, originals.labels[:tenth]]),
        index=np.arange(len(originals) + tenth),
        classes=originals.classes,
    )


def near(images, describe=duplicates.pixel_descriptors, **options):
    return duplicates.near(duplicates.compare(images, describe), **options)


def test_pairs_across_labels_have_a_check_of_their_own():
    originals = photographs(900)
    twins = with_twins(originals, lambda pixels: pixels)
    labels = twins.labels.copy()
    labels[900:945] = (labels[900:945] + 1) % 3  # half of the copies
    compared = duplicates.compare(replace(twins, labels=labels, original_labels=None))
    everything = duplicates.near(compared)
    assert everything.pairs["conflict"][:90].sum() == 45
    across = duplicates.near(compared, across_labels=True)
    assert across.pairs["conflict"].all()
    first = across.pairs[["first", "second"]][:45].to_numpy().tolist()
    assert sorted(first) == [[i, 900 + i] for i in range(45)]


@pytest.mark.parametrize(
    "change",
    [
        lambda pixels: pixels,
        lambda pixels: 0.6 * pixels + 30,
        lambda pixels: pixels + np.random.default_rng(1).normal(0, 4, pixels.shape),
        lambda pixels: np.roll(pixels, (1, 2), (1, 2)),
    ],
    ids=["the same", "paler", "with noise", "shifted"],
)
def test_near_twins_come_first_and_hardly_any_others(change):
    found = near(with_twins(photographs(600), change))
    pairs = found.pairs[["first", "second"]].to_numpy().tolist()
    assert sorted(pairs[:60]) == [[i, 600 + i] for i in range(60)]
    assert len(pairs) <= 72  # some of chance, each with an image and with its copy
    assert (found.pairs["similarity"] >= found.threshold - 1e-6).all()
    assert (found.runners_up["similarity"] < found.threshold).all()


def test_images_without_near_twins_give_none():
    found = near(photographs(300))
    assert found.pairs.empty
    assert np.isnan(found.threshold)


def test_an_upside_down_data_set_has_the_same_pairs():
    twins = with_twins(photographs(300), lambda pixels: pixels)
    pairs = near(twins).pairs
    turned = near(duplicates.upside_down(twins)).pairs
    for table in (pairs, turned):
        assert (table["first"] + 300 == table["second"])[:30].all()
    assert len(pairs) == len(turned)


def test_the_precision_of_the_check_counts_one_pair_of_decoys_more():
    check = near(photographs(200)).check
    expected = 1 - (check["decoys"] + 2) / check["found"]
    np.testing.assert_allclose(check["precision"], expected)
    assert check["similarity"].is_monotonic_decreasing
    assert check["found"].iloc[-1] == 200


def test_details_do_not_see_brightness_contrast_or_a_fading_sky():
    image = photographs(1).images
    paler = (0.5 * image + 20).astype(np.uint8)
    assert duplicates.detail_correlation(image, paler)[0] > 0.99
    sky = np.linspace(0, 200, 16)[None, :, None, None] + np.zeros((1, 16, 16, 3))
    flat = duplicates.detail_correlation(sky.astype(np.uint8), image)
    assert abs(flat[0]) < 0.6
    blank = np.full((1, 16, 16, 3), 7, np.uint8)
    assert duplicates.detail_correlation(blank, blank)[0] == 0


def test_descriptors_are_unit_vectors_without_brightness_and_contrast():
    vectors = duplicates.pixel_descriptors(photographs(4))
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(vectors.mean(1), 0, atol=1e-6)
    blank = duplicates.pixel_descriptors(images([9], [0]), side=1)
    assert blank.tolist() == [[0.0]]


def test_a_network_describes_images_by_the_inputs_of_its_last_layer():
    from curvlib.runs import networks

    given = photographs(6)
    model = networks.build(
        "mlp", num_classes=3, input_shape=(3, 16, 16), width=5, seed=0
    ).eval()
    vectors = duplicates.network_descriptors(model, given, [0.5] * 3, [0.2] * 3)
    x = data.normalise(given.tensor(), [0.5] * 3, [0.2] * 3).flatten(1)
    for layer in model.hidden:
        x = layer(x).relu()
    expected = x / x.norm(dim=1, keepdim=True)
    np.testing.assert_allclose(vectors, expected.detach().numpy(), rtol=1e-5)
    with pytest.raises(ValueError, match="no linear layer"):
        duplicates.network_descriptors(nn.ReLU(), given, [0], [1])


@pytest.mark.parametrize(
    ("count", "options", "match"),
    [
        (1, {}, "a pair takes two images, got 1"),
        (5, {"precision": 0}, r"a share in \(0, 1\], got 0"),
        (5, {"describe": lambda x: np.full((len(x), 2), np.nan)}, "must be finite"),
    ],
)
def test_near_refuses_what_it_cannot_compare(count, options, match):
    with pytest.raises(ValueError, match=match):
        near(photographs(count), **options)
