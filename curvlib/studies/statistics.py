"""What studies report beside a metric: intervals, agreement, chance, calibration."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np
from scipy.stats import hypergeom, rankdata

from curvlib import metrics

Metric = Callable[[np.ndarray, np.ndarray], float]


def span(values: Iterable[float], digits: int) -> str:
    """The lowest and the highest of some values as text; one number if both look alike.

    Args:
        values: At least one.
        digits: After the point.

    Example:
        >>> span([2.18, 2.45], 1), span([2.18, 2.21], 1)
        ('2.2 to 2.5', '2.2')
    """
    values = list(values)
    ends = dict.fromkeys(f"{edge(values):.{digits}f}" for edge in (min, max))
    return " to ".join(ends)


def mean_sd(values: np.ndarray, digits: int = 3) -> str:
    """Mean ± standard deviation (n - 1) as text; one value has no spread, and says so.

    Args:
        values: One a run or seed.
        digits: After the point.

    Returns:
        Such as ``"0.850 ± 0.071"``, in the unit of the values.

    Example:
        >>> mean_sd([0.9, 0.8]), mean_sd([0.9], digits=2)
        ('0.850 ± 0.071', '0.90 (one seed)')
    """
    values = np.asarray(values, dtype=np.float64)
    if values.size == 1:
        return f"{values.item():.{digits}f} (one seed)"
    return f"{values.mean():.{digits}f} ± {values.std(ddof=1):.{digits}f}"


def bootstrap_interval(
    metric: Metric,
    score: np.ndarray,
    positive: np.ndarray,
    *,
    num_resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> tuple[float, float]:
    """Percentile bootstrap interval of a metric over samples (Efron, 1979).

    Positives and negatives are resampled apart, so that each resample has as many of
    both as the data. The interval is for one trained network: it holds what another
    draw of samples would change, not what another seed of the training would.

    Args:
        metric: Of ``curvlib.metrics``, or any function of score and positive that does
            not depend on the order, such as ``lambda s, p: precision_at_k(s, p, 100)``.
        score: High where a positive is expected, shape [N].
        positive: The truth, shape [N], bool.
        num_resamples: Each costs one call of the metric.
        level: Share of resamples inside the interval, in (0, 1).
        seed: Seed of the resampling.

    Returns:
        The interval's low and high end.

    Raises:
        ValueError: If level or num_resamples is out of range, or as for every metric.
    """
    score, positive = metrics.checked(score, positive)
    _check_resampling(num_resamples, level)
    rng = np.random.default_rng(seed)
    kinds = score[positive], score[~positive]
    truth = np.repeat([True, False], [len(kind) for kind in kinds])
    values = [
        metric(np.concatenate([rng.choice(kind, len(kind)) for kind in kinds]), truth)
        for _ in range(num_resamples)
    ]
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def auroc_interval(
    score: np.ndarray,
    positive: np.ndarray,
    *,
    num_resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> tuple[float, float]:
    """``bootstrap_interval`` of the AUROC, without sorting each resample anew.

    Args:
        score: High where a positive is expected, shape [N].
        positive: The truth, shape [N], bool.
        num_resamples: Each counts N samples.
        level: Share of resamples inside the interval, in (0, 1).
        seed: Seed of the resampling.

    Returns:
        The interval's low and high end.

    Raises:
        ValueError: As for ``bootstrap_interval``.
    """
    score, positive = metrics.checked(score, positive)
    _check_resampling(num_resamples, level)
    rng = np.random.default_rng(seed)
    values, place = np.unique(score, return_inverse=True)
    kinds = place[positive], place[~positive]
    aurocs = []
    for _ in range(num_resamples):
        at_positive, at_negative = (
            np.bincount(rng.choice(kind, len(kind)), minlength=len(values))
            for kind in kinds
        )
        below = np.cumsum(at_negative) - at_negative / 2  # an equal score is one half
        aurocs.append(at_positive @ below / (len(kinds[0]) * len(kinds[1])))
    low, high = np.quantile(aurocs, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _check_resampling(num_resamples: int, level: float) -> None:
    if not 0 < level < 1:
        raise ValueError(f"level is a share in (0, 1), got {level}")
    if num_resamples < 1:
        raise ValueError(f"num_resamples must be at least 1, got {num_resamples}")


class Agreement(NamedTuple):
    """Four ways to say how alike two scores are; NaN where one has no spread."""

    spearman: float
    pearson: float
    cosine: float
    top_overlap: float  # share of the k highest of one among the k highest of the other


def agreement(score: np.ndarray, reference: np.ndarray, k: int) -> Agreement:
    """How well a score agrees with another, high meaning the same in both.

    A cosine does not take out the mean: non-negative vectors that have nothing to do
    with each other are alike by it. Read it beside its value for ``null_scores``.

    Args:
        score: Shape [N], finite.
        reference: Shape [N], finite.
        k: Length of the two lists that are compared, from 1 to N; where a k-th place is
            tied, the expected overlap if chance breaks the ties of each list.

    Returns:
        Spearman's rank correlation, with mean ranks for equal values; Pearson's
        correlation; cosine; overlap of the top k, as a share of k.

    Raises:
        ValueError: If the shapes differ, a value is not finite, or k is out of range.

    Example:
        >>> agreement(np.array([1, 2, 3, 4]), np.array([1, 4, 9, 16]), k=2).spearman
        1.0
    """
    score, reference = (
        np.asarray(values, dtype=np.float64) for values in (score, reference)
    )
    if score.ndim != 1 or score.shape != reference.shape:
        raise ValueError(
            "score and reference must be vectors of one length, got shapes "
            f"{score.shape} and {reference.shape}"
        )
    for name, values in (("score", score), ("reference", reference)):
        bad = np.flatnonzero(~np.isfinite(values))
        if len(bad):
            raise ValueError(
                f"{name} must be finite, got {values[bad[0]]} at position {bad[0]} "
                f"(first of {len(bad)}); drop the samples without a value"
            )
    if not 1 <= k <= len(score):
        raise ValueError(f"k must be between 1 and {len(score)} samples, got {k}")
    lists = _chance_in_top(score, k) @ _chance_in_top(reference, k)
    return Agreement(
        spearman=_pearson(rankdata(score), rankdata(reference)),
        pearson=_pearson(score, reference),
        cosine=_cosine(score, reference),
        top_overlap=float(lists / k),
    )


def _pearson(a: np.ndarray, b: np.ndarray) -> float:
    return _cosine(a - a.mean(), b - b.mean())


def _cosine(a: np.ndarray, b: np.ndarray) -> float:
    # Scaled first: a square of small values would underflow.
    a, b = (v / (np.abs(v).max() or 1) for v in (a, b))
    length = np.linalg.norm(a) * np.linalg.norm(b)
    return float(np.clip(a @ b / length, -1, 1)) if length > 0 else float("nan")


def _chance_in_top(score: np.ndarray, k: int) -> np.ndarray:
    """Probability of each sample to be among the top k, if chance breaks the ties."""
    last = np.partition(score, -k)[-k]
    above, tied = score > last, score == last
    return above + tied * ((k - above.sum()) / tied.sum())


class Enrichment(NamedTuple):
    """How many positives a list holds, and how many chance would put there."""

    found: float  # positives among the k; not whole where the k-th place is tied
    expected: float  # by chance, k times the share of positives
    p_value: float  # that chance puts as many there, or more


def enrichment(score: np.ndarray, positive: np.ndarray, k: int) -> Enrichment:
    """Positives among the k highest scores, against a list drawn by chance.

    The null is hypergeometric: k of N samples without replacement. Where the k-th place
    is tied, the expected number found is rounded down for the p-value.

    Args:
        score: High where a positive is expected, shape [N].
        positive: The truth, shape [N], bool.
        k: Length of the list, from 1 to N.

    Returns:
        The number found, that expected by chance, and the p-value.

    Raises:
        ValueError: If k is not between 1 and N, or as for every metric.

    Example:
        >>> positive = np.array([True, True, False, False])
        >>> few = enrichment(np.array([4, 3, 2, 1]), positive, k=2)  # one of six lists
        >>> few.found, few.expected, round(few.p_value, 6)
        (2.0, 1.0, 0.166667)
    """
    found = metrics.precision_at_k(score, positive, k) * k
    total, positives = len(positive), int(np.count_nonzero(positive))
    whole = int(np.floor(found + 1e-9))
    return Enrichment(
        found=found,
        expected=k * positives / total,
        p_value=float(hypergeom.sf(whole - 1, total, positives, k)),
    )


def null_scores(score: np.ndarray, *, seed: int = 0) -> dict[str, np.ndarray]:
    """Two scores that know nothing of the samples, to be compared as the score is.

    Args:
        score: Shape [N].
        seed: Seed of the shuffle.

    Returns:
        ``"constant"``, ones; ``"shuffled"``, the same values in another order.
    """
    score = np.asarray(score)
    shuffled = np.random.default_rng(seed).permutation(score)
    return {"constant": np.ones(len(score)), "shuffled": shuffled}


def expected_calibration_error(
    confidence: np.ndarray, correct: np.ndarray, *, bins: int = 15
) -> float:
    r"""How far the confidence of predictions is from their accuracy, bin by bin.

    Guo et al. (2017), with bins :math:`B_m` of equal width, ((m-1)/M, m/M]:

    .. math:: \sum_m \frac{|B_m|}{N}
        \left| \mathrm{acc}(B_m) - \mathrm{conf}(B_m) \right|

    0 is perfectly calibrated. Few samples bias it upwards: chance alone moves the
    accuracy of a bin away from its confidence.

    Args:
        confidence: Largest probability of each prediction, shape [N], in [0, 1].
        correct: Whether the prediction is right, shape [N], bool.
        bins: Their number M.

    Returns:
        Between 0 and 1.

    Raises:
        ValueError: If the shapes differ, ``correct`` is not bool, a confidence is
            outside [0, 1], or there is no bin.

    Example:
        >>> confidence = np.array([0.75, 0.75, 1.0, 1.0])  # half and all are right
        >>> expected_calibration_error(confidence, np.array([True, False, True, True]))
        0.125
    """
    confidence = np.asarray(confidence, dtype=np.float64)
    correct = np.asarray(correct)
    if confidence.ndim != 1 or confidence.shape != correct.shape or not len(correct):
        raise ValueError(
            "confidence and correct must be vectors of one length, at least 1, got "
            f"shapes {confidence.shape} and {correct.shape}"
        )
    if correct.dtype != bool:
        raise ValueError(
            f"correct must be bool, got {correct.dtype}; compare to make it so: "
            "predicted == labels"
        )
    if bins < 1:
        raise ValueError(f"bins must be at least 1, got {bins}")
    bad = np.flatnonzero(~((confidence >= 0) & (confidence <= 1)))
    if len(bad):
        raise ValueError(
            f"confidence must lie in [0, 1], got {confidence[bad[0]]} at position "
            f"{bad[0]} (first of {len(bad)}); give probabilities, not logits"
        )
    edges = np.linspace(0, 1, bins + 1)[1:-1]
    place = np.searchsorted(edges, confidence)  # an edge belongs to the bin below it
    gaps = np.bincount(place, weights=correct - confidence, minlength=bins)
    return float(np.abs(gaps).sum() / len(confidence))
