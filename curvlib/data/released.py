"""Scores that the authors of other papers released, joined to samples of a data set.

Files are joined to samples by file name, or by index after a check that the labels
agree. The order of a file alone is never trusted.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from curvlib.data.folders import default_root
from curvlib.data.images import Images


def memorization(file: str | Path, images: Images) -> np.ndarray:
    """Memorization scores of some images, as Feldman and Zhang (2020) released them.

    Args:
        file: Their ``cifar100_infl_matrix.npz``, or any ``.npz`` with ``tr_mem`` and
            ``tr_labels`` for a whole training split in its original order: a path, or
            the name of a file in the folder of the data sets.
        images: N samples of that split; their original labels are compared with the
            file's.

    Returns:
        Memorization in [-1, 1], float64 [N], in the order of the images; a planted copy
        has the value of its original.

    Raises:
        FileNotFoundError: If there is no such file. The message says where we looked.
        ValueError: If the file has another layout, belongs to other samples, or lacks a
            finite value for one of the images.
    """
    return _read(file, images, "tr_mem", "tr_labels")


def consistency(file: str | Path, images: Images) -> np.ndarray:
    """Consistency scores of some images, as Jiang et al. (2021) released them.

    A C-score is the probability that a network trained without the sample classifies it
    correctly, averaged over sizes of the training set. It is high for regular samples,
    for which memorization is low.

    Args:
        file: Their ``cifar100-cscores-orig-order.npz`` or ``cifar10-``..., with
            ``scores`` and ``labels``: a path, or the name of a file in the folder of
            the data sets.
        images: N samples of that split; their original labels are compared with the
            file's.

    Returns:
        C-scores in [0, 1], float64 [N], in the order of the images.

    Raises:
        FileNotFoundError: If there is no such file; says where it was looked for.
        ValueError: As for ``memorization``.
    """
    return _read(file, images, "scores", "labels")


def memorization_by_name(file: str | Path, names: Sequence[str]) -> np.ndarray:
    """Memorization scores that Feldman and Zhang (2020) released, by file name.

    Args:
        file: Their ``imagenet_index.npz``, or any ``.npz`` with ``tr_mem`` and
            ``tr_filenames``, with or without folders: a path, or the name of a file in
            the folder of the data sets.
        names: N paths or names of images, such as ``n01440764/n01440764_10026.JPEG``.
            Only the last part counts: ImageNet's file names contain the class and are
            unique.

    Returns:
        Memorization in [-1, 1], float64 [N], in the order of the names; NaN for a name
        that the file lacks.

    Raises:
        FileNotFoundError: If there is no such file; says where it was looked for.
        ValueError: If the file has another layout, has a file name twice, or has none
            of the names.
    """
    path, values, known = _columns(file, "tr_mem", "tr_filenames")
    known = [_last_part(name) for name in known]
    by_name = dict(zip(known, values.astype(np.float64), strict=True))
    if len(by_name) < len(known):
        unique, counts = np.unique(known, return_counts=True)
        raise ValueError(
            f"{path}: {unique[counts.argmax()]} occurs {counts.max()} times among its "
            "tr_filenames, so samples cannot be told apart by name"
        )
    found = np.array([by_name.get(_last_part(name), np.nan) for name in names])
    if not len(found) or np.isnan(found).all():
        first = [_last_part(name) for name in list(names)[:1]]
        raise ValueError(
            f"{path} has none of the {len(found)} names given, such as "
            f"{first[0] if first else '(none)'}; its own are like {known[0]}"
        )
    return found


def _last_part(name: str | bytes) -> str:
    text = name.decode() if isinstance(name, bytes) else str(name)
    return text.replace("\\", "/").rsplit("/", 1)[-1]


def _columns(
    file: str | Path, key: str, label_key: str
) -> tuple[Path, np.ndarray, np.ndarray]:
    """A file's path and two of its arrays: values, and what they belong to."""
    places = [Path(file), default_root() / file]
    path = next((place for place in places if place.is_file()), None)
    if path is None:
        raise FileNotFoundError(
            f"there is no file {file}, neither here nor in {default_root()}; give the "
            "path of the file that the authors released, or set $CURVLIB_DATA to the "
            "folder that holds it"
        )
    try:
        with np.load(path, allow_pickle=False) as archive:  # reads what is asked for
            names = archive.files
            missing = [name for name in (key, label_key) if name not in names]
            values, labels = (
                (None, None) if missing else (archive[key], archive[label_key])
            )
    except Exception as error:  # of zipfile, zlib or numpy, by where the damage lies
        raise ValueError(f"{path} is not a readable .npz file: {error}") from error
    if missing:
        raise ValueError(
            f"{path} lacks {' and '.join(missing)}; it has "
            f"{', '.join(names) or 'nothing'}"
        )
    if values.ndim != 1 or values.shape != labels.shape:
        raise ValueError(
            f"{path}: {key} and {label_key} must be vectors of one length, got shapes "
            f"{list(values.shape)} and {list(labels.shape)}"
        )
    return path, values, labels


def _read(file: str | Path, images: Images, key: str, label_key: str) -> np.ndarray:
    path, values, labels = _columns(file, key, label_key)
    outside = (images.source < 0) | (images.source >= len(values))
    if outside.any():
        raise ValueError(
            f"{path} has {len(values)} samples, but {images.name} has one with index "
            f"{images.source[outside][0]}; is it of the same split?"
        )
    other = np.flatnonzero(labels[images.source] != images.original_labels)
    if len(other):
        i = other[0]
        raise ValueError(
            f"{path} is in another order, or of another data set: sample "
            f"{images.source[i]} has label {labels[images.source[i]]} there and "
            f"{images.original_labels[i]} in {images.name} (first of {len(other)} that "
            f"differ, of {len(images)})"
        )
    values = values[images.source].astype(np.float64)
    bad = np.flatnonzero(~np.isfinite(values))
    if len(bad):
        raise ValueError(
            f"{path} has no finite value for sample {images.source[bad[0]]} (first of "
            f"{len(bad)}); leave these images out with Images.select"
        )
    return values
