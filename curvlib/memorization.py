r"""Memorization scores that others computed with thousands of models, read and checked.

Feldman and Zhang (2020) define the memorization of a training sample i as

.. math:: P[h(x_i) = y_i \mid i \in S] - P[h(x_i) = y_i \mid i \notin S]

over networks h trained on random subsets S, and released their estimates. A file is
joined to a data set by its labels, sample by sample, never by trust in its order.
"""

from pathlib import Path

import numpy as np

from curvlib.data import Images, default_root


def released(file: str | Path, images: Images) -> np.ndarray:
    """Memorization scores as Feldman and Zhang (2020) released them, of some images.

    Args:
        file: Their ``cifar100_infl_matrix.npz``, or any ``.npz`` with ``tr_mem`` and
            ``tr_labels`` for a whole training split in its original order: a path, or
            the name of a file where the data sets lie.
        images: Of that split; their original labels are compared with the file's.

    Returns:
        Memorization in [-1, 1], shape [N], in the order of the images; a planted copy
        has that of its original.

    Raises:
        FileNotFoundError: If there is no such file; says where it was looked for.
        ValueError: If it has another layout, belongs to other samples, or lacks a
            finite value for one of the images.
    """
    return _read(file, images, "tr_mem", "tr_labels")


def consistency(file: str | Path, images: Images) -> np.ndarray:
    """Consistency scores (C-scores) as Jiang et al. (2021) released them.

    The chance that a network trained without the sample gets it right, averaged over
    sizes of the training set. High is regular, where high memorization is not.

    Args:
        file: Their ``cifar100-cscores-orig-order.npz`` or ``cifar10-``..., with
            ``scores`` and ``labels``: a path, or the name of a file where the data
            sets lie.
        images: Of that split; their original labels are compared with the file's.

    Returns:
        C-scores in [0, 1], shape [N], in the order of the images.

    Raises:
        FileNotFoundError: If there is no such file; says where it was looked for.
        ValueError: As for ``released``.
    """
    return _read(file, images, "scores", "labels")


def _read(file: str | Path, images: Images, key: str, label_key: str) -> np.ndarray:
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
    if images.source.max() >= len(values):
        raise ValueError(
            f"{path} has {len(values)} samples, but {images.name} has one with index "
            f"{images.source.max()}; is it of the same split?"
        )
    other = np.flatnonzero(labels[images.source] != images.original_labels)
    if len(other):
        i = other[0]
        raise ValueError(
            f"{path} is in another order or of another data set: sample "
            f"{images.source[i]} has label {labels[images.source[i]]} there and "
            f"{images.original_labels[i]} in {images.name} (first of {len(other)} that "
            f"differ, of {len(images)})"
        )
    values = values[images.source].astype(np.float64)
    bad = np.flatnonzero(~np.isfinite(values))
    if len(bad):
        raise ValueError(
            f"{path} has no finite value for sample {images.source[bad[0]]} (first of "
            f"{len(bad)}): leave these images out with Images.select"
        )
    return values
