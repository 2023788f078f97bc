"""How well a score finds the positives.

Every metric takes a score [N], high where a positive is expected, and a bool vector
[N]. None depends on the order of the samples, not even between equal scores.

For intervals, agreement of two scores, chance levels and calibration, see
``curvlib.studies.statistics``.
"""

import numpy as np
from sklearn.metrics import average_precision_score, roc_auc_score


def auroc(score: np.ndarray, positive: np.ndarray) -> float:
    """Probability that a random positive scores higher than a random negative.

    Area under the receiver operating characteristic; equal scores count one half. A
    random score gives 0.5 and a perfect one gives 1. Below 0.5 the order is reversed.

    Args:
        score: High where a positive is expected, shape [N], finite.
        positive: The truth, shape [N], bool, at least one of each kind.

    Returns:
        Between 0 and 1.

    Raises:
        ValueError: As for every metric here: if the shapes differ, a score is not
            finite, ``positive`` is not bool, or there is no positive or no negative.

    Example:
        >>> auroc(np.array([3, 1, 2, 0]), np.array([True, True, False, False]))
        0.75
    """
    score, positive = checked(score, positive)
    return float(roc_auc_score(positive, score))


def average_precision(score: np.ndarray, positive: np.ndarray) -> float:
    r"""Average precision: mean precision at the position of each positive.

    .. math:: \sum_n (R_n - R_{n-1}) P_n

    over the distinct values of the score, from high to low. Equal scores enter the list
    together. A random score gives about the share of positives, not one half.

    Args:
        score: High where a positive is expected, shape [N].
        positive: The truth, shape [N], bool.

    Returns:
        Between 0 and 1.

    Raises:
        ValueError: As for ``auroc``.

    Example:
        >>> average_precision(np.array([3, 1, 2]), np.array([True, True, False]))
        0.8333333333333333
    """
    score, positive = checked(score, positive)
    return float(average_precision_score(positive, score))


def fpr_at_95_tpr(score: np.ndarray, positive: np.ndarray) -> float:
    """Share of negatives flagged when the threshold flags 95% of the positives.

    The threshold is the highest that flags them. Samples at or above it are flagged, so
    equal scores are flagged together. **Low** is good; a random score gives about 0.95.

    Args:
        score: High where a positive is expected, shape [N].
        positive: The truth, shape [N], bool.

    Returns:
        Between 0 and 1.

    Raises:
        ValueError: As for ``auroc``.
    """
    score, positive = checked(score, positive)
    needed = -(-19 * np.count_nonzero(positive) // 20)  # 95%, rounded up, in integers
    threshold = np.sort(score[positive])[-needed]
    return float(np.mean(score[~positive] >= threshold))


def precision_at_k(score: np.ndarray, positive: np.ndarray, k: int) -> float:
    """Share of positives among the k samples with the highest scores.

    If samples tie at position k, this is the expected value for a random order of them.

    Args:
        score: High where a positive is expected, shape [N].
        positive: The truth, shape [N], bool.
        k: Length of the list, from 1 to N.

    Returns:
        Between 0 and 1; a random score gives the share of positives on average.

    Raises:
        ValueError: If k is not between 1 and N, or as for ``auroc``.

    Example:
        >>> positive = np.array([True, False, True, False])
        >>> precision_at_k(np.array([9, 9, 5, 5]), positive, k=1)  # one of two
        0.5
    """
    score, positive = checked(score, positive)
    if not 1 <= k <= len(score):
        raise ValueError(f"k must be between 1 and {len(score)} samples, got {k}")
    last = np.partition(score, -k)[-k]  # the score at position k
    above, tied = score > last, score == last
    places = k - np.count_nonzero(above)  # left for the tied ones
    return float((positive[above].sum() + places * positive[tied].mean()) / k)


def checked(score: np.ndarray, positive: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return a score and the truth as arrays [N], after checking them.

    Args:
        score: Shape [N].
        positive: Shape [N].

    Returns:
        The two, unchanged.

    Raises:
        ValueError: If the shapes differ, a score is not finite, ``positive`` is not
            bool, or there is no positive or no negative.
    """
    score, positive = np.asarray(score), np.asarray(positive)
    if score.ndim != 1 or score.shape != positive.shape:
        raise ValueError(
            "score and positive must be vectors of one length, got shapes "
            f"{score.shape} and {positive.shape}"
        )
    if positive.dtype != bool:
        raise ValueError(
            f"positive must be bool, got {positive.dtype}; compare to make it so: "
            "labels != original_labels"
        )
    if positive.all() or not positive.any():
        raise ValueError(
            "there must be a positive and a negative, got "
            f"{np.count_nonzero(positive)} positives of {len(positive)} samples"
        )
    bad = np.flatnonzero(~np.isfinite(score))
    if len(bad):
        raise ValueError(
            f"score must be finite, got {score[bad[0]]} at position {bad[0]} (first of "
            f"{len(bad)}); drop or mask the samples without a score"
        )
    return score, positive
