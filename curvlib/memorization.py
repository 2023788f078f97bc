r"""Memorization and influence of Feldman and Zhang (2020): estimated, or read.

They define the memorization of a training sample i as

.. math:: P[h(x_i) = y_i \mid i \in S] - P[h(x_i) = y_i \mid i \notin S]

over networks h trained on random subsets S, and its influence on a test sample j as the
same difference for j. Here are the estimates, two masked averages of what
``curvlib.ensembles`` records, and readers of what others released: such a file is
joined to a data set by its labels or file names, never by trust in its order.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from curvlib.data import Images, default_root


class Estimate(NamedTuple):
    """A difference of two means, and how well it is known; NaN where it is not."""

    value: np.ndarray
    standard_error: np.ndarray
    undefined: int  # samples that no network was trained on, or all were


def memorization(inside: np.ndarray, correct: np.ndarray) -> Estimate:
    r"""How much more often networks get a sample right that were trained on it.

    Feldman and Zhang (2020), with :math:`\hat p` the share of the n networks on one
    side that are right, side 1 trained on the sample and side 0 not:

    .. math::
        \hat p_1 - \hat p_0, \qquad
        \mathrm{se}^2 = \frac{\hat p_1 (1 - \hat p_1)}{n_1 - 1}
        + \frac{\hat p_0 (1 - \hat p_0)}{n_0 - 1}

    Both terms are unbiased for the variance of their mean, as networks are independent
    given the sample. Where all networks of both sides agree the standard error is 0,
    which says little if they are few: the truth may be some 3 / n away.

    Args:
        inside: Whether a network was trained on a sample, bool [M, N].
        correct: Whether it gets the sample right, bool [M, N].

    Returns:
        Values in [-1, 1] and their standard errors, float64 [N]. Both are NaN for a
        sample that is never or always inside, which is counted; the standard error
        also where a side has one network.

    Raises:
        ValueError: If the two are not bool of one shape [M, N].

    Example:
        >>> inside = np.array([[1, 1], [1, 1], [0, 1], [0, 1]], dtype=bool)  # M=4, N=2
        >>> correct = np.array([[1, 1], [1, 0], [1, 1], [0, 1]], dtype=bool)
        >>> memorization(inside, correct)  # 2/2 - 1/2, and a sample never held out
        Estimate(value=array([0.5, nan]), standard_error=array([0.5, nan]), undefined=1)
    """
    inside, correct = _masks(inside=inside, correct=correct)
    if inside.shape != correct.shape:
        raise ValueError(
            "inside and correct must have one shape [M, N], a row for each network, "
            f"got {list(inside.shape)} and {list(correct.shape)}"
        )
    trained = inside.sum(0)
    right_inside = (inside & correct).sum(0)
    return _difference(
        trained,
        right_inside,
        len(inside) - trained,
        correct.sum(0) - right_inside,
        np.float64,
    )


def influence(inside: np.ndarray, correct_test: np.ndarray) -> Estimate:
    r"""How much more often networks get a test sample right for having one of training.

    Feldman and Zhang (2020): as ``memorization``, but of test sample j with and without
    training sample i, for every pair. They look at samples i of high memorization
    only; a choice of columns of ``inside`` does that, and saves most of the memory.

    Args:
        inside: Whether a network was trained on a sample, bool [M, N].
        correct_test: Whether it gets a test sample right, bool [M, N_test].

    Returns:
        Values in [-1, 1] and their standard errors, by the formula of ``memorization``,
        float32 [N, N_test]; NaN rows for samples never or always inside, which are
        counted.

    Raises:
        ValueError: If the two are not bool, or of different numbers of networks.

    Example:
        >>> inside = np.array([[1], [1], [0], [0]], dtype=bool)  # M=4, N=1
        >>> right = np.array([[1, 0], [1, 1], [0, 1], [0, 0]], dtype=bool)  # N_test=2
        >>> influence(inside, right).value.tolist()  # 2/2 - 0/2, and 1/2 - 1/2
        [[1.0, 0.0]]
    """
    inside, correct_test = _masks(inside=inside, correct_test=correct_test)
    if len(inside) != len(correct_test):
        raise ValueError(
            "inside and correct_test must be of the same M networks, got shapes "
            f"{list(inside.shape)} and {list(correct_test.shape)}"
        )
    # Counts, as a product of matrices: exact in float32 up to 2^24 networks.
    right_inside = inside.T.astype(np.float32) @ correct_test.astype(np.float32)
    trained = inside.sum(0)[:, None]
    return _difference(
        trained,
        right_inside,
        len(inside) - trained,
        correct_test.sum(0, dtype=np.float32) - right_inside,
        np.float32,
    )


def _masks(**named: np.ndarray) -> list[np.ndarray]:
    for name, mask in named.items():
        mask = np.asarray(mask)
        if mask.dtype != bool or mask.ndim != 2:
            raise ValueError(
                f"{name} must be a bool array of two axes, networks by samples, got "
                f"{mask.dtype} of shape {list(mask.shape)}"
            )
    return [np.asarray(mask) for mask in named.values()]


def _difference(n1, right1, n0, right0, dtype) -> Estimate:
    """Of two shares of networks, those with a sample and those without."""
    with np.errstate(invalid="ignore", divide="ignore"):
        n1, n0 = (
            np.where(n > 0, n, np.nan).astype(dtype) for n in (n1, n0)
        )  # an empty side has no share
        p1, p0 = right1 / n1, right0 / n0
        variance = p1 * (1 - p1) / (n1 - 1) + p0 * (1 - p0) / (n0 - 1)
        known = (n1 > 1) & (n0 > 1)
        standard_error = np.where(known, np.sqrt(variance), dtype(np.nan))
    undefined = int(np.isnan(n1 + n0).sum())
    return Estimate(p1 - p0, standard_error, undefined)


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


def released_by_name(file: str | Path, names: Sequence[str]) -> np.ndarray:
    """Memorization scores that Feldman and Zhang (2020) released, by file name.

    Args:
        file: Their ``imagenet_index.npz``, or any ``.npz`` with ``tr_mem`` and
            ``tr_filenames``, with or without folders: a path, or the name of a file
            where the data sets lie.
        names: N paths or names of images, such as
            ``n01440764/n01440764_10026.JPEG``; the last part is what counts, for
            ImageNet's file names say the class and are unique.

    Returns:
        Memorization in [-1, 1], float64 [N], in the order of the names; NaN for a name
        that the file does not have.

    Raises:
        FileNotFoundError: If there is no such file; says where it was looked for.
        ValueError: If it has another layout, a file name occurs twice in it, or none of
            the names is in it.
    """
    path, values, known = _columns(file, "tr_mem", "tr_filenames")
    known = [_last_part(name) for name in known]
    by_name = dict(zip(known, values.astype(np.float64), strict=True))
    if len(by_name) < len(known):
        unique, counts = np.unique(known, return_counts=True)
        raise ValueError(
            f"{path}: {unique[counts.argmax()]} occurs {counts.max()} times among its "
            "tr_filenames, so that names do not tell its samples apart"
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
