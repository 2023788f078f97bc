"""Four kinds of wrong labels: replaced, flipped, given by people, planted copies.

Wrong labels are drawn from classes that have samples. A subset may have classes without
samples; these are used only if all samples belong to one class.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from curvlib.data.folders import default_root
from curvlib.data.images import Images, rows_of


def first_of_classes(labels: np.ndarray, shares: Sequence[float]) -> np.ndarray:
    """Positions of the first samples of each class, ascending.

    Args:
        labels: In [0, C), shape [N].
        shares: Share of each class that stays, in [0, 1], shape [C].

    Example:
        >>> first_of_classes(np.array([1, 0, 1, 0]), [1, 0.5])
        array([0, 1, 3])
    """
    kept = []
    for label, share in enumerate(shares):
        members = np.flatnonzero(labels == label)
        kept.append(members[: round(share * len(members))])
    return np.sort(np.concatenate(kept))


def with_symmetric_noise(images: Images, rate: float, *, seed: int) -> Images:
    """Replace the labels of a share of the samples with random other classes.

    Exactly ``round(rate * N)`` labels change, each to a different class that has
    samples. With the same seed, the wrong labels at a low rate are also wrong at a
    higher rate, so you can compare rates on the same samples.

    Args:
        images: Samples with their original labels.
        rate: Share of the labels replaced, in [0, 1].
        seed: Seed for the choice of samples and of their new labels.

    Returns:
        The same samples; ``labels`` has the noise, ``original_labels`` does not.

    Raises:
        ValueError: If the rate is out of range or changes no label, if there is only
            one class, or if some labels are already wrong.
    """
    if not 0 <= rate <= 1:
        raise ValueError(f"rate is a fraction in [0, 1], got {rate!r}")
    _check_original(images)
    count = round(rate * len(images))
    if rate == 0:
        return images
    if count == 0:
        raise ValueError(
            f"rate {rate} of {len(images)} samples changes no label; raise it to "
            f"{1 / len(images):.2g} or more"
        )
    rng = np.random.default_rng(seed)
    chosen = rng.permutation(len(images))[:count]
    labels = images.labels.copy()
    labels[chosen] = _other_labels(images, rng)[chosen]
    return replace(images, labels=labels)


def with_pair_flip(images: Images, rate: float, *, seed: int) -> Images:
    """Replace the labels of a share of the samples with the next class.

    The asymmetric noise of Han et al. (2018), *Co-teaching*: class c becomes c + 1, and
    the last class becomes the first. Classes without samples are skipped. Exactly
    ``round(rate * N)`` labels change. With the same seed, ``with_symmetric_noise``
    changes the same samples.

    Args:
        images: Samples with their original labels.
        rate: Share of the labels replaced, in [0, 1].
        seed: Seed for the choice of samples.

    Returns:
        The same samples; ``labels`` has the noise and ``original_labels`` has not.

    Raises:
        ValueError: As for ``with_symmetric_noise``.
    """
    wrong = with_symmetric_noise(images, rate, seed=seed).mislabelled
    following = _shifted(images, np.ones(len(images), np.int64))
    return replace(images, labels=np.where(wrong, following, images.labels))


# Names of the human labels, and where the authors' files keep them.
HUMAN = {
    "human_aggre": ("cifar10", "aggre_label"),
    "human_worse": ("cifar10", "worse_label"),
    "human_random1": ("cifar10", "random_label1"),
    "human_random2": ("cifar10", "random_label2"),
    "human_random3": ("cifar10", "random_label3"),
    "human_noisy": ("cifar100", "noisy_label"),
}
HUMAN_FILES = {"cifar10": "CIFAR-10_human", "cifar100": "CIFAR-100_human"}
NOISES = ("symmetric", "pair", *HUMAN)


def with_human_labels(
    images: Images, noise: str, root: str | Path | None = None
) -> Images:
    """Replace the labels of CIFAR with labels that people gave (CIFAR-10N, -100N).

    Wei et al. (2022), *Learning with Noisy Labels Revisited*. ``"human_random1"`` to
    ``"human_random3"`` are the labels of three people, ``"human_aggre"`` is their
    majority, and ``"human_worse"`` is a wrong one of the three, if there is one.
    ``"human_noisy"`` is for CIFAR-100. The file is the authors' ``CIFAR-10_human.pt``
    or ``CIFAR-100_human.pt``, or an ``.npz`` of that name with the same arrays
    (``clean_label``, ``worse_label``, ...). It is joined by index, and its clean labels
    must agree with those of the images.

    Args:
        images: Samples of CIFAR-10 or CIFAR-100 with their original labels.
        noise: One of ``HUMAN``.
        root: The folder that holds the file, as for ``load``.

    Returns:
        The same samples; ``labels`` are the ones that people gave.

    Raises:
        FileNotFoundError: If there is no such file. The message says where to get it.
        ValueError: If the name is unknown or belongs to another data set, some labels
            are already wrong, or the file is damaged or belongs to other images.
    """
    if noise not in HUMAN:
        raise ValueError(f"noise must be one of {', '.join(HUMAN)}, got {noise!r}")
    dataset, key = HUMAN[noise]
    if images.name != dataset:
        raise ValueError(f"{noise} labels are those of {dataset}, got {images.name}")
    _check_original(images)
    root = Path(root) if root is not None else default_root()
    paths = [root / f"{HUMAN_FILES[dataset]}{suffix}" for suffix in (".npz", ".pt")]
    path = next((path for path in paths if path.exists()), None)
    if path is None:
        raise FileNotFoundError(
            f"{noise} needs {paths[1].name} in {root}: download it from the project "
            "page of CIFAR-N (noisylabels.com)"
        )
    arrays = _human_file(path)
    if missing := [name for name in ("clean_label", key) if name not in arrays]:
        raise ValueError(
            f"{path} lacks {' and '.join(missing)}; it has {', '.join(arrays)}"
        )
    clean, given = (np.asarray(arrays[name]) for name in ("clean_label", key))
    if (
        images.index.min() < 0
        or images.index.max() >= min(len(clean), len(given))
        or (clean[images.index] != images.original_labels).any()
    ):
        raise ValueError(
            f"{path} is of other images, or in another order: its clean labels are not "
            f"those of {images.name}"
        )
    return replace(images, labels=given[images.index])


def _human_file(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an .npz, or of a .pt that holds nothing but numpy arrays."""
    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as file:
                return {name: file[name] for name in file.files}
        rebuild = np.empty(0).__reduce__()[0]
        allowed = [
            (rebuild, "numpy.core.multiarray._reconstruct"),  # as numpy 1 wrote it
            (rebuild, "numpy._core.multiarray._reconstruct"),
            np.ndarray,
            np.dtype,
            type(np.dtype(np.int64)),
            type(np.dtype(np.int32)),
        ]
        with torch.serialization.safe_globals(allowed):
            return torch.load(path, weights_only=True)
    except Exception as error:  # zipfile, numpy or torch, by where the damage lies
        raise ValueError(
            f"{path} is damaged, or holds more than arrays of labels: {error}"
        ) from error


def with_planted_duplicates(
    images: Images, count: int, *, seed: int, first_index: int | None = None
) -> Images:
    """Append copies of some samples, each with a wrong label.

    A copy's ``source`` is the index of its original. Its wrong label is drawn uniformly
    from the other classes that have samples.

    Args:
        images: Samples; those that are already mislabelled are never copied.
        count: Number of samples to copy.
        seed: Seed for the choice of samples and of wrong labels.
        first_index: Index of the first copy; by default the largest index plus one. If
            the samples are part of a data set, choose one that none of its samples has.

    Returns:
        N + count samples: the given ones, then the copies.

    Raises:
        ValueError: If count is negative or larger than the number of samples whose
            label is right, there is only one class, or first_index is not larger than
            every index or leaves no room for the copies.
    """
    right = np.flatnonzero(~images.mislabelled)
    if not 0 <= count <= len(right):
        raise ValueError(
            f"count must lie between 0 and the {len(right)} samples whose label is "
            f"right, got {count!r}"
        )
    if count == 0:
        return images
    rng = np.random.default_rng([seed, 1])  # not the stream of the symmetric noise
    chosen = rng.permutation(right)[:count]
    wrong = _other_labels(images, rng)[chosen]
    free = int(images.index.max()) + 1
    if first_index is not None and first_index < free:
        raise ValueError(
            f"first_index must be at least {free}, got {first_index}: the indices "
            "before it are those of samples"
        )
    begin = free if first_index is None else first_index
    if begin + count - 1 > np.iinfo(np.int64).max:
        raise ValueError(
            f"{images.name}: no room for {count} copies from index {begin} on; the "
            f"largest index is {np.iinfo(np.int64).max}"
        )
    index = begin + np.arange(count)

    def join(a, b):
        return np.concatenate([a, b])

    return replace(
        images,
        images=rows_of(images.images, join(np.arange(len(images)), chosen)),
        labels=join(images.labels, wrong),
        index=join(images.index, index),
        original_labels=join(images.original_labels, images.original_labels[chosen]),
        source=join(images.source, images.index[chosen]),
    )


def _check_original(images: Images) -> None:
    if images.mislabelled.any():
        raise ValueError(
            f"{images.name}: {images.mislabelled.sum()} labels are wrong already; "
            "start from the original ones"
        )


def _other_labels(images: Images, rng: np.random.Generator) -> np.ndarray:
    """A random class for every sample, different from the original, shape [N]."""
    count = len(_possible(images))
    if count < 2:
        raise ValueError(f"{images.name}: one class has no wrong label; two are needed")
    return _shifted(images, rng.integers(1, count, size=len(images)))


def _shifted(images: Images, shift: np.ndarray) -> np.ndarray:
    """The possible class that is `shift` steps after the original one."""
    possible = _possible(images)
    place = np.searchsorted(possible, images.original_labels)
    return possible[(place + shift) % len(possible)]


def _possible(images: Images) -> np.ndarray:
    """Classes for wrong labels: those with samples, or all if only one has samples."""
    occupied = np.unique(images.original_labels)
    return occupied if len(occupied) > 1 else np.arange(len(images.classes))
