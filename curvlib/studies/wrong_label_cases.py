"""Cases for the hunt for wrong labels: images, feature vectors, and errors we know.

Whoever has a folder of images has no truth. So we take data sets whose labels are
right, or were checked by others, and put wrong labels in: at random, always the next
class, between classes that look alike, or those that people gave.
"""

import inspect
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from curvlib import data
from curvlib.data import Images
from curvlib.data.noise import first_of_classes
from curvlib.runs import features
from curvlib.runs.features import Features
from curvlib.runs.head import Vectors

NOISES = ("symmetric", "pair", "similar", *data.HUMAN)
# Which class takes the place of which: Patrini et al. (2017), for CIFAR-10.
SIMILAR = {
    "truck": "automobile",
    "bird": "airplane",
    "deer": "horse",
    "cat": "dog",
    "dog": "cat",
}
PIXELS = "pixels"  # features without a network: small images as they are


class Case(NamedTuple):
    """A labelled data set to be checked.

    Attributes:
        images: N images with the labels given and, where it is known, the truth.
        vectors: Their feature vectors, with the same labels.
        features: What the vectors were made with.
        known: Whether the original labels are the truth.
    """

    images: Images
    vectors: Vectors
    features: Features
    known: bool


def prepare(
    *,
    dataset: str,
    num_train: int | None = None,
    image_size: int | None = None,
    features_from: str = features.DEFAULT,
    size: int | None = None,
    noise: str | None = None,
    noise_rate: float = 0.1,
    rarest: float = 1.0,
    seed: int = 0,
) -> Case:
    """Load images, look up or compute their feature vectors, and put wrong labels in.

    Args:
        dataset: As for ``curvlib.load``; broken files are skipped.
        num_train: Only the first so many images; None: all.
        image_size: Side length of photographs in folders.
        features_from: ``pixels``; or as for ``curvlib suspects --features``.
        size: Pixels on a side that the extractor sees; None: as it likes.
        noise: One of ``NOISES``; None: the labels as they are, truth unknown.
        noise_rate: Share of the labels replaced, where people did not give them.
        rarest: Images of the last class, as a share of those of the first; the classes
            between get fewer and fewer.
        seed: Seed of the wrong labels.

    Raises:
        ValueError: If the noise is unknown or does not fit the data set.
    """
    images = data.load(dataset, image_size=image_size, broken_files="skip")
    if num_train is not None and num_train < len(images):
        images = images.select(np.arange(num_train))
    found = _features(images, features_from, size)
    rows = imbalanced(images.labels, len(images.classes), rarest=rarest)
    images = with_noise(images.select(rows), noise, noise_rate, seed=seed)
    vectors = Vectors(
        features=found.vectors,
        labels=images.labels,
        index=images.index,
        classes=images.classes,
        original_labels=images.original_labels,
        name=images.name,
        origin=found.checksum,
        rows=rows,
    )
    return Case(images, vectors, found, noise is not None)


def of_study(parameters: Mapping, **changes: object) -> Case:
    """``prepare`` with the parameters of a study.

    Args:
        parameters: Such as ``locals()`` at its start; those that ``prepare`` does not
            know are ignored, and ``features`` is its ``features_from``.
        changes: Further parameters of ``prepare``, or other values.
    """
    asked = {"features_from": parameters["features"], **parameters}
    known = inspect.signature(prepare).parameters.keys() & asked.keys()
    return prepare(**({name: asked[name] for name in known} | changes))


def _features(images: Images, name: str, size: int | None) -> Features:
    if name == PIXELS:
        pixels = images.images[:].reshape(len(images), -1).astype(np.float16) / 255
        checksum = features.pixels_checksum(images)
        return Features(
            vectors=pixels,
            name=name,
            size=None,
            checksum=checksum,
            seconds=0.0,
            file=Path(),
        )
    if name.endswith((".npy", ".npz")):
        return features.from_file(name, images)
    return features.extract(images, name, size=size)


def imbalanced(labels: np.ndarray, num_classes: int, *, rarest: float) -> np.ndarray:
    """Positions of the samples that stay if classes get rarer, from first to last.

    Args:
        labels: Shape [N].
        num_classes: C.
        rarest: Share that stays of the last class, in (0, 1].

    Example:
        >>> imbalanced(np.array([0, 1, 0, 1, 1, 1]), 2, rarest=0.5)
        array([0, 1, 2, 3])
    """
    if not 0 < rarest <= 1:
        raise ValueError(f"rarest is a share in (0, 1], got {rarest}")
    last = max(num_classes - 1, 1)
    return first_of_classes(labels, [rarest ** (c / last) for c in range(num_classes)])


def with_noise(images: Images, noise: str | None, rate: float, *, seed: int) -> Images:
    """The same images with wrong labels of a kind; ``original_labels`` stay.

    Args:
        images: With their original labels.
        noise: One of ``NOISES``; None: no wrong labels.
        rate: Share of labels replaced, in [0, 1]; for ``similar``, the share among the
            classes that have a similar one.
        seed: Seed of the choice.
    """
    if noise is None:
        return images
    if noise in data.HUMAN:
        return data.with_human_labels(images, noise)
    if noise == "symmetric":
        return data.with_symmetric_noise(images, rate, seed=seed)
    if noise == "pair":
        return data.with_pair_flip(images, rate, seed=seed)
    if noise == "similar":
        return with_similar_flip(images, rate, seed=seed)
    raise ValueError(f"noise must be one of {', '.join(NOISES)}, got {noise!r}")


def with_similar_flip(images: Images, rate: float, *, seed: int) -> Images:
    """Replace the labels of a share of some classes by a class that looks alike.

    The asymmetric noise of Patrini et al. (2017), *Making Deep Neural Networks Robust
    to Label Noise*: truck becomes automobile, bird airplane, deer horse, and cat and
    dog become each other.

    Args:
        images: CIFAR-10, or other images with some of these classes.
        rate: Share of the labels of these classes, in [0, 1].
        seed: Seed of the choice.

    Raises:
        ValueError: If no class has a similar one.
    """
    number = {name: i for i, name in enumerate(images.classes)}
    pairs = {
        number[a]: number[b] for a, b in SIMILAR.items() if a in number and b in number
    }
    if not pairs:
        raise ValueError(
            f"{images.name} has none of the classes {', '.join(SIMILAR)}; use the "
            "noise pair"
        )
    rng = np.random.default_rng(seed)
    labels = images.labels.copy()
    for one, other in pairs.items():
        rows = rng.permutation(np.flatnonzero(images.original_labels == one))
        labels[rows[: round(rate * len(rows))]] = other
    return replace(images, labels=labels)
