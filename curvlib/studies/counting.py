"""How many labels are wrong, and how many of the first k suspects are?

Known wrong labels are planted and ranked (``suspects.planted_runs``). Where they end up
says how many of the labels that were given are wrong.
"""

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd

RECIPE = 1


@dataclass(frozen=True, kw_only=True, eq=False)
class Estimate:
    """How many labels are wrong, and what share of the first k suspects is.

    Attributes:
        wrong: Number of wrong labels among the N samples, if errors are random.
        low: Low end of its 90% interval, which spans ``confident`` too.
        high: High end.
        confident: The count of confident learning, which sees systematic errors, too.
        planted: Labels that were planted.
        recall_at_wrong: Share of the planted labels among the first ``wrong`` suspects.
        hard_share: Share of wrong labels that are like the planted of the hard kind.
        curve: One row per rank: rank, precision, low, high.
    """

    wrong: float
    low: float
    high: float
    planted: int
    recall_at_wrong: float
    hard_share: float
    confident: int
    curve: pd.DataFrame


def estimate(
    runs: list[tuple[np.ndarray, ...]],
    *,
    confident: int | None = None,
    level: float = 0.9,
    num_resamples: int = 200,
    seed: int = 0,
) -> Estimate:
    """How many labels are wrong, from where planted ones end up in a ranking.

    A share π of the labels is wrong. If wrong labels score as planted ones do, then of
    all samples above a threshold at least π times the planted share above it are
    wrong; so π is at most the ratio of the two shares, at any threshold. The estimate
    is the ratio at the threshold where its upper confidence bound is lowest: best bin
    estimation of Garg et al. (2021), *Mixture Proportion Estimation and PU Learning*.

    This counts wrong labels that are as easy to see as planted ones. Of systematic
    errors, such as those of people who confuse two classes, it counts a part only: on
    5,000 images of CIFAR-10 163 of 469 human errors, and 86 of 499 pair flips. The
    count of confident learning misses fewer there (396 and 645), and counts too many
    elsewhere. It misses some of the planted labels, and may miss the same share of the
    wrong ones. So the intervals span the estimate, that count, and the count over the
    share of planted labels that it finds, half of them of either kind.

    Planted labels are of two kinds, any class and the likeliest other class. They are
    weighted so that among the most suspicious samples the label given is the
    runner-up of the prediction as often as it is in the data.

    Args:
        runs: One or more rankings of the same samples, each with other planted labels:
            the score [N], high is suspect; the kind [N], as ``plant`` returns it; how
            many classes are more probable than the label, [N]; and, where it is known,
            what confident learning takes for wrong, bool [N].
        confident: As ``confident_count`` returns it; None: left aside.
        level: Of the interval, in (0, 1).
        num_resamples: Of the bootstrap, over samples and planted labels.
        seed: Of the bootstrap.
    """
    rng = np.random.default_rng([seed, 78])
    # Not averaged over runs: a mean is less extreme than the scores of planted labels.
    count = len(runs[0][0])
    owner, others, second = (
        np.concatenate(parts)
        for parts in zip(
            *(
                (np.flatnonzero(k == 0), s[k == 0], p[k == 0] == 1)
                for s, k, p, *_ in runs
            ),
            strict=True,
        )
    )
    order = np.argsort(-others, kind="stable")
    owner, others, second = owner[order], others[order], second[order]
    planted, kind, runner_up = (
        np.concatenate(parts)
        for parts in zip(
            *((s[k > 0], k[k > 0], p[k > 0] == 1) for s, k, p, *_ in runs), strict=True
        )
    )
    shown = np.unique(np.geomspace(1, count, 400).astype(int))
    counts, curves, hard_shares = [], [], []
    for number in range(num_resamples + 1):
        times = np.ones(count)
        some = np.arange(len(planted))
        if number:
            times = np.bincount(rng.integers(0, count, count), minlength=count)
            some = rng.integers(0, len(planted), len(planted))
        some = some[np.argsort(-planted[some], kind="stable")]
        of_others = times[owner] / times[owner].sum()
        hard = _hard_share(
            others, of_others, second, planted[some], kind[some], runner_up[some]
        )
        sizes = [max((kind[some] == k).sum(), 1) for k in (1, 2)]
        weight = np.where(kind[some] == 2, hard / sizes[1], (1 - hard) / sizes[0])
        weight = weight / weight.sum()
        rate = _share_of_wrong(others, of_others, planted[some], weight, count)
        counts.append(rate * count)
        hard_shares.append(hard)
        curves.append(_precision(others, planted[some], weight, rate, count, shown))
    counts, curves = np.array(counts), np.array(curves)
    tail = (1 - level) / 2
    low, high = np.quantile(counts[1:], [tail, 1 - tail])
    ends = np.quantile(curves[1:], [tail, 1 - tail], axis=0)
    if confident is not None:
        most = confident / _found_by_confident(runs)
        low, high = min(low, confident), max(high, most)
        fewer, more = (
            np.minimum(curves[0] * number / max(counts[0], 1), 1)
            for number in (confident, most)
        )
        ends = np.minimum(ends[0], fewer), np.maximum(ends[1], more)
    last = round(counts[0] / count * len(others))
    threshold = others[min(max(last, 1), len(others)) - 1]
    return Estimate(
        wrong=float(counts[0]),
        low=float(min(low, counts[0])),
        high=float(max(high, counts[0])),
        planted=len(planted),
        recall_at_wrong=float((planted >= threshold).mean()),
        hard_share=float(hard_shares[0]),
        confident=-1 if confident is None else confident,
        curve=pd.DataFrame(
            {
                "rank": shown,
                "precision": curves[0],
                "low": np.minimum(ends[0], curves[0]),
                "high": np.maximum(ends[1], curves[0]),
            }
        ),
    )


def _found_by_confident(runs: list[tuple[np.ndarray, ...]]) -> float:
    """Share of planted labels, half of either kind, that confident learning finds."""
    if len(runs[0]) < 4:
        return 1.0
    kind, doubted = (np.concatenate([run[i] for run in runs]) for i in (1, 3))
    shares = [doubted[kind == k].mean() for k in (1, 2) if (kind == k).any()]
    return max(float(np.mean(shares)), 0.25)


def _hard_share(others, of_others, second, planted, kind, runner_up) -> float:
    """Share of the hard kind among wrong labels, from how often a label is runner-up.

    Only samples above the middle of the planted are looked at, most of which are wrong.
    """
    if len(np.unique(kind)) < 2:
        return float(kind[0] == 2)
    above = planted >= np.median(planted)
    easy, hard = (runner_up[above & (kind == k)] for k in (1, 2))
    there = others >= np.median(planted)
    mass = of_others[there].sum()
    if not (len(easy) and len(hard) and mass) or hard.mean() <= easy.mean():
        return 0.5
    found = (of_others * second)[there].sum() / mass
    share = (found - easy.mean()) / (hard.mean() - easy.mean())
    return float(np.clip(share, 0, 1))


def _precision(
    others: np.ndarray,
    planted: np.ndarray,
    weight: np.ndarray,
    rate: float,
    count: int,
    shown: np.ndarray,
) -> np.ndarray:
    """Share of wrong labels among the first k samples, for each k shown.

    Each planted label stands for its weight of all wrong ones, at its place. Suspicion
    falls with rank, so the number found is the least concave curve above these points.
    The first k samples hold k at most.
    """
    places = np.searchsorted(-others, -planted, side="right") / len(others) * count
    wrong = rate * count
    points = zip(
        [*places.clip(1), count], [*(weight.cumsum() * wrong), wrong], strict=True
    )
    hull = [(0.0, 0.0)]
    for x, y in points:
        while len(hull) > 1 and (y - hull[-2][1]) * (hull[-1][0] - hull[-2][0]) >= (
            hull[-1][1] - hull[-2][1]
        ) * (x - hull[-2][0]):
            hull.pop()
        if x > hull[-1][0]:
            hull.append((float(x), float(y)))
    x, y = np.array(hull).T
    return np.minimum(np.interp(shown, x, y) / shown, 1)


def _share_of_wrong(
    others: np.ndarray,
    of_others: np.ndarray,
    planted: np.ndarray,
    weight: np.ndarray,
    count: int,
) -> float:
    """Best bin estimate of the share of the others that score as the planted do.

    Args:
        others: Scores, falling, of all runs.
        of_others: Their weights, summing to 1.
        planted: Scores, falling, [P].
        weight: Their weights, summing to 1.
        count: Samples N.
    """
    size = 1 / np.square(weight).sum()  # as many unweighted ones
    share_p = weight.cumsum()
    above = np.searchsorted(-others, -planted, side="right")
    share_n = np.concatenate([[0.0], of_others.cumsum()])[above]
    # The bound of Dvoretzky, Kiefer and Wolfowitz, as in the paper.
    slack_p, slack_n = (math.sqrt(math.log(10) / (2 * k)) for k in (size, count))
    bound = (share_n + slack_n) / np.maximum(share_p - slack_p, 1e-9)
    # Fewer than a third of the planted say too little: chance would decide.
    bound[share_p < 1 / 3] = np.inf
    best = int(bound.argmin())
    return float(min(share_n[best] / share_p[best], 1.0))
