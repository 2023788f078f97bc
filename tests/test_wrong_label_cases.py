import numpy as np
import pytest

from curvlib import data
from curvlib.data import Images
from curvlib.studies import wrong_label_cases as study


def photos(classes, count=60) -> Images:
    rng = np.random.default_rng(0)
    return Images(
        images=rng.integers(0, 256, (count, 8, 8, 3), np.uint8),
        labels=np.arange(count) % len(classes),
        index=np.arange(count),
        classes=classes,
        name="photos",
    )


def test_pixels_are_vectors_and_the_truth_is_known_where_noise_was_put_in():
    case = study.prepare(
        dataset="digits", num_train=100, features_from="pixels", noise="symmetric"
    )
    assert case.vectors.features.shape == (100, 64)
    pixels = data.load("digits").images[:100].reshape(100, -1)
    np.testing.assert_allclose(case.vectors.features, pixels / 255, atol=1e-3)
    assert (case.vectors.labels == case.images.labels).all()
    assert case.images.mislabelled.sum() == 10 and case.known
    plain = study.prepare(dataset="digits", num_train=100, features_from="pixels")
    assert not plain.known and not plain.images.mislabelled.any()


def test_a_study_hands_over_the_parameters_that_cases_know():
    asked = {"dataset": "digits", "num_train": 100, "features": "pixels", "runs": "r"}
    asked |= {"noise": "pair", "noise_rate": 0.2, "seeds": [3]}
    case = study.of_study(asked, seed=3)
    same = study.prepare(
        dataset="digits",
        num_train=100,
        features_from="pixels",
        noise="pair",
        noise_rate=0.2,
        seed=3,
    )
    assert case.vectors.checksum == same.vectors.checksum
    assert case.images.mislabelled.sum() == 20
    assert not study.of_study(asked, noise=None).known


def test_a_file_of_vectors_is_read(tmp_path):
    vectors = np.random.default_rng(0).random((50, 3), np.float32)
    np.save(tmp_path / "v.npy", vectors)
    case = study.prepare(
        dataset="digits", num_train=50, features_from=str(tmp_path / "v.npy")
    )
    np.testing.assert_array_equal(case.vectors.features, vectors)


def test_classes_get_rarer_from_first_to_last_and_vectors_stay_in_step():
    labels = np.repeat(np.arange(5), 100)
    kept = study.imbalanced(labels, 5, rarest=0.1)
    counts = np.bincount(labels[kept])
    assert counts[0] == 100 and counts[-1] == 10
    assert (np.diff(counts) < 0).all()
    case = study.prepare(
        dataset="digits", features_from="pixels", noise="pair", rarest=0.2
    )
    pixels = case.images.images.reshape(len(case.images), -1) / 255
    found = case.vectors.features[case.vectors.rows]
    np.testing.assert_allclose(found, pixels, atol=1e-3)
    assert case.images.mislabelled.sum() == round(0.1 * len(case.images))
    with pytest.raises(ValueError, match=r"share in \(0, 1\], got 0"):
        study.imbalanced(labels, 5, rarest=0)


def test_similar_classes_change_places_and_others_stay():
    images = photos(("cat", "dog", "ship", "bird", "airplane"), 500)
    flipped = study.with_similar_flip(images, 0.4, seed=0)
    became = {
        (images.classes[a], images.classes[b])
        for a, b in zip(flipped.original_labels, flipped.labels, strict=True)
        if a != b
    }
    assert became == {("cat", "dog"), ("dog", "cat"), ("bird", "airplane")}
    for c, share in ((0, 0.4), (1, 0.4), (2, 0), (3, 0.4), (4, 0)):
        assert flipped.mislabelled[images.labels == c].mean() == share


def test_what_does_not_fit_is_said():
    with pytest.raises(ValueError, match=r"none of the classes truck, .*use the noise"):
        study.with_similar_flip(photos(("a", "b")), 0.4, seed=0)
    with pytest.raises(ValueError, match=r"noise must be one of .*, got 'evil'"):
        study.with_noise(photos(("a", "b")), "evil", 0.4, seed=0)
