r"""Memorization and influence of Feldman and Zhang (2020), from an ensemble.

They define the memorization of a training sample i as

.. math:: P[h(x_i) = y_i \mid i \in S] - P[h(x_i) = y_i \mid i \notin S]

over networks h trained on random subsets S, and its influence on a test sample j as the
same difference for j. The estimates are two masked averages of what
``curvlib.runs.ensembles`` records. ``curvlib.data.released`` reads the scores that
others released.
"""

from typing import NamedTuple

import numpy as np


class Estimate(NamedTuple):
    """A difference of two means with its standard error; NaN where it is undefined."""

    value: np.ndarray
    standard_error: np.ndarray
    undefined: int  # number of samples on which no network, or every one, was trained


def memorization(inside: np.ndarray, correct: np.ndarray) -> Estimate:
    r"""How much more often networks are right about a sample they were trained on.

    Feldman and Zhang (2020). Side 1 are the networks trained on the sample, side 0 all
    others; :math:`\hat p` is the share of the n networks of a side that are right:

    .. math::
        \hat p_1 - \hat p_0, \qquad
        \mathrm{se}^2 = \frac{\hat p_1 (1 - \hat p_1)}{n_1 - 1}
        + \frac{\hat p_0 (1 - \hat p_0)}{n_0 - 1}

    Both terms are unbiased for the variance of their mean, because networks are
    independent given the sample. If all networks of each side agree, the standard error
    is 0. This says little if they are few: the true value may differ by about 3 / n.

    Args:
        inside: Whether a network was trained on a sample, bool [M, N].
        correct: Whether it gets the sample right, bool [M, N].

    Returns:
        Values in [-1, 1] and their standard errors, float64 [N]. Both are NaN for a
        sample that is never or always inside; these samples are counted. The standard
        error is also NaN if a side has only one network.

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
    r"""How much more often networks get a test sample right if they saw a training one.

    Feldman and Zhang (2020): like ``memorization``, but of test sample j, with and
    without training sample i, for every pair. They look only at samples i of high
    memorization; selecting columns of ``inside`` does that, and saves most memory.

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
    """Difference of two shares: networks trained with a sample, and without it."""
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
