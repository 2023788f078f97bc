"""Exact duplicates: every one, no other, whatever the split or the order."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
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


def test_images_of_one_row_can_be_turned_and_compared():
    some = images([3, 4, 9], [0, 1, 2])
    turned = duplicates.upside_down(some)
    assert (turned.images == some.images).all()
    assert duplicates.pixel_descriptors(turned).shape == (3, 64)
    alike = duplicates.detail_correlation(some.images, some.images[:, ::-1])
    assert alike.tolist() == [0, 0, 0]  # one pixel has no details


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


# What is known of few pairs


def written(folder: Path, pictures, copies=()) -> Images:
    """Pictures in files of three classes, and copies of some of them, smaller."""
    for name in "abc":
        (folder / name).mkdir(parents=True)
    for k, pixels in enumerate(pictures):
        image = Image.fromarray(pixels)
        image.save(folder / "abc"[k % 3] / f"{k:03d}.png")
        if k in copies:
            small = image.resize((image.width * 2 // 3, image.height * 2 // 3))
            small.save(folder / "abc"[(k + 1) % 3] / f"{k:03d}-copy.jpg", quality=80)
    return load(str(folder), image_size=32)


def pictures(count, seed=0, size=(60, 90)):
    """Smooth random pictures with details, no two alike."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        coarse = rng.uniform(0, 255, (12, 18, 3))
        yield zoom(coarse, (size[0] / 12, size[1] / 18, 1), order=1).astype(np.uint8)


def names(images, positions) -> list[str]:
    return [images.images.names[i].decode()[2:5] for i in positions]


@pytest.mark.parametrize("copies", [5, 1])
def test_a_few_resized_copies_in_a_small_folder_are_listed(tmp_path, copies):
    images = written(tmp_path / "photos", pictures(60 - copies), range(copies))
    assert len(images) == 60
    found = near(images)
    pairs = found.pairs
    assert names(images, pairs["first"]) == names(images, pairs["second"])
    assert sorted(names(images, pairs["first"])) == [f"{k:03d}" for k in range(copies)]
    assert found.basis == "extrapolated" and pairs["conflict"].all()
    # Counting says 1 - (0 + 2) / (2 * copies), chance hardly comes that far.
    assert pairs["precision"].iloc[-1] == pytest.approx(1 - 1 / copies)
    assert (pairs["by_chance"] < 0.05).all()
    assert found.threshold == pytest.approx(pairs["similarity"].min(), abs=1e-5)
    assert (found.runners_up["similarity"] < found.threshold).all()
    across = near(images, across_labels=True)
    assert len(across.pairs) == copies


def test_without_copies_a_small_folder_lists_none_and_says_what_comes_closest(tmp_path):
    found = near(written(tmp_path / "photos", pictures(60)))
    assert found.pairs.empty and found.basis == "none" and np.isnan(found.threshold)
    assert len(found.runners_up) == duplicates.RUNNERS_UP
    assert (found.runners_up["by_chance"] > 0.1).all()


def test_too_few_images_to_extrapolate_from_are_shown_as_runners_up(tmp_path):
    images = written(tmp_path / "photos", pictures(7), [0])
    found = near(images)
    assert found.basis == "none" and found.pairs.empty
    first = found.runners_up.iloc[0]
    assert names(images, [int(first["first"]), int(first["second"])]) == ["000", "000"]
    assert np.isnan(first["by_chance"]) and first["similarity"] > 0.9


def test_enough_pairs_are_counted_as_before():
    found = near(with_twins(photographs(600), lambda pixels: pixels))
    assert found.basis == "counted"
    assert (found.pairs["precision"] >= 0).all()
    assert found.pairs["precision"].iloc[-1] >= 0.95 - 1e-9
    check = found.check
    assert check["by_chance"].is_monotonic_increasing
    beyond = check[check["decoys"] == 0]
    assert (beyond["by_chance"] < 5).all()


def test_chance_seldom_makes_a_pair_that_counts():
    # Each data set lists a chance pair with a probability of about 1 in 20.
    listed = sum(not near(photographs(60, seed)).pairs.empty for seed in range(40))
    assert listed <= 8


def test_images_smaller_than_the_shift_are_compared():
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (30, 2, 3, 1), dtype=np.uint8)
    tiny = Images(
        images=pixels, labels=[0] * 30, index=np.arange(30), classes=("a", "b")
    )
    compared = duplicates.compare(tiny)
    assert np.isfinite(compared.similarity).all()


def test_details_of_two_shapes_are_not_compared():
    with pytest.raises(ValueError, match=r"got \[1, 16, 16, 3\] and \[2, 16, 16, 3\]"):
        duplicates.detail_correlation(photographs(1).images, photographs(2).images)


# Splits as one


def test_joined_splits_keep_their_order_and_count_their_index_from_0():
    train, test = photographs(9), photographs(6, seed=1)
    both = duplicates.joined(train, test)
    assert both.index.tolist() == list(range(15))
    np.testing.assert_array_equal(both.images[9:], test.images)
    np.testing.assert_array_equal(both.labels[9:], test.labels)
    assert duplicates.joined(train).checksum == train.checksum  # no test split needed


@pytest.mark.parametrize("change", ["classes", "shape", "kind", "none"])
def test_splits_that_do_not_fit_are_not_joined(tmp_path, change):
    train = photographs(6)
    other = {
        "classes": replace(train, classes=("x", "y", "z")),
        "shape": replace(train, images=train.images[:, :8]),
        "kind": written(tmp_path / "photos", pictures(6)),
    }
    with pytest.raises(ValueError, match=r"same classes and shape|no images were"):
        duplicates.joined(*([train, other[change]] if change in other else []))


def test_pixels_in_memory_and_in_files_are_not_compared(tmp_path):
    files = written(tmp_path / "photos", pictures(6))
    memory = replace(files, images=files.images[:])
    with pytest.raises(ValueError, match="one is in memory and the other in files"):
        duplicates.exact(files, memory)
