"""Finding wrong labels: every measure of every score, combinations, and a leak.

A table of scores has one row per sample and one column per score, high where suspect,
as ``scores.suspicion`` makes it.
"""

import numpy as np
import pandas as pd
from scipy.stats import rankdata, t
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from curvlib import metrics
from curvlib.studies import statistics
from curvlib.trace import Trace

MEASURES = (
    "auroc",
    "average_precision",
    "fpr_at_95_tpr",
    "false_negative_rate",
    "low",
    "high",
)


def measure(
    table: pd.DataFrame, wrong: np.ndarray, *, num_resamples: int = 200
) -> pd.DataFrame:
    """How well each score finds the samples with a wrong label.

    Args:
        table: One column per score, high is suspect, N rows.
        wrong: The truth, bool [N].
        num_resamples: Number of bootstrap samples.

    Returns:
        One row per score, in the order of the columns: score; auroc;
        average_precision; fpr_at_95_tpr; false_negative_rate, the share of wrong labels
        that are missed when as many samples are flagged as there are wrong labels; low
        and high, the 95% bootstrap interval of the AUROC over samples.

    Raises:
        ValueError: As for every metric.
    """
    k = int(np.count_nonzero(wrong))
    rows = []
    for name in table.columns:
        score = table[name].to_numpy()
        low, high = statistics.auroc_interval(score, wrong, num_resamples=num_resamples)
        rows.append(
            {
                "score": name,
                "auroc": metrics.auroc(score, wrong),
                "average_precision": metrics.average_precision(score, wrong),
                "fpr_at_95_tpr": metrics.fpr_at_95_tpr(score, wrong),
                "false_negative_rate": 1 - metrics.precision_at_k(score, wrong, k),
                "low": low,
                "high": high,
            }
        )
    return pd.DataFrame(rows, columns=["score", *MEASURES])


def paired_difference(
    found: pd.DataFrame, reference: str, *, value: str = "auroc"
) -> pd.DataFrame:
    """How much better than one score the others are, seed by seed.

    Seeds differ in their wrong labels and in their network, which moves all scores
    together: differences within a seed say more than two means beside each other.

    Args:
        found: One row per score and seed, with columns score, seed and the measure's.
        reference: The score that the others are compared with.
        value: Column of the measure.

    Returns:
        Indexed by score, in the order met: difference, the mean over seeds of score
        minus reference; low and high, Student's 95% interval for it (NaN for one
        seed); seeds, their number.

    Raises:
        ValueError: If the reference is absent, or a seed of a score is not among its.
    """
    wide = found.pivot(index="seed", columns="score", values=value)
    if reference not in wide:
        raise ValueError(f"no rows for {reference!r}; there are {sorted(wide.columns)}")
    if wide[reference].isna().any():
        raise ValueError(f"{reference!r} lacks a seed that another score has")
    rows = {}
    for name in dict.fromkeys(found["score"]):
        change = (wide[name] - wide[reference]).dropna()
        n = len(change)
        half = (
            t.ppf(0.975, n - 1) * change.std(ddof=1) / np.sqrt(n) if n > 1 else np.nan
        )
        mean = change.mean()
        rows[name] = (mean, mean - half, mean + half, n)
    columns = ["difference", "low", "high", "seeds"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns)


def rank_average(table: pd.DataFrame) -> np.ndarray:
    """Mean of the ranks that a sample has by each score.

    Args:
        table: One column per score, high is suspect. Equal values share a mean rank.

    Returns:
        Mean ranks, shape [N], from 1 to N; high is suspect.

    Example:
        >>> rank_average(pd.DataFrame({"a": [1.0, 2.0, 3.0], "b": [0.1, 0.9, 0.5]}))
        array([1. , 2.5, 2.5])
    """
    return np.mean([rankdata(table[name]) for name in table.columns], axis=0)


def logistic(
    table: pd.DataFrame, wrong: np.ndarray, *, folds: int = 5, seed: int = 0
) -> np.ndarray:
    """Out-of-fold logistic regression of the truth on the ranks of some scores.

    It needs to know the truth, so it hints at what a combination could reach, and is
    not what somebody with unknown labels would get.

    Args:
        table: One column per score.
        wrong: The truth, bool [N], at least ``folds`` of each kind.
        folds: Number of folds.
        seed: Seed of the folds.

    Returns:
        Log-odds for each sample from a model that was fitted without it, shape [N].

    Raises:
        ValueError: If one kind has fewer than ``folds`` samples.
    """
    ranks = np.column_stack([rankdata(table[name]) for name in table.columns])
    # A rank and a power of it: what counts may sit at the end of a score's list.
    features = np.hstack([ranks / len(ranks), (ranks / len(ranks)) ** 8])
    return cross_val_predict(
        make_pipeline(StandardScaler(), LogisticRegression()),
        features,
        wrong,
        cv=StratifiedKFold(folds, shuffle=True, random_state=seed),
        method="decision_function",
    )


class UnderOriginalLabels:
    """A trace as it would be if samples were scored under their original labels.

    That is a slip, and easy to make: a scoring script that loads the data set anew has
    no wrong labels. For ``scores.compute`` it is a trace.

    Args:
        trace: A run with ``score_original_labels``.

    Raises:
        FileNotFoundError: If the run was made without it.
    """

    def __init__(self, trace: Trace):
        self._trace = trace
        index = trace.samples("original_labels")["index"]
        self._places = np.searchsorted(trace.index, index)
        self.epochs = trace.epochs

    def samples(self, split: str = "train") -> pd.DataFrame:
        """What is known of each sample, under its original label.

        Args:
            split: Of the trace; ``"train"`` is the one that makes sense.

        Returns:
            As ``Trace.samples``, in index order, N rows; label is the original one.
        """
        samples = self._trace.samples(split).copy()
        original = self._trace.samples("original_labels")["label"].to_numpy()
        samples.loc[self._places, "label"] = original
        return samples

    def read(self, column: str, split: str = "train") -> np.ndarray:
        """One column of the trace, where the label was wrong under the original one.

        Args:
            column: One of ``curvlib.trace.COLUMNS``.
            split: Of the trace, as above.

        Returns:
            Values, shape [E, N], in index order.

        Raises:
            ValueError: If there is no such column, or a file is damaged.
        """
        values = self._trace.read(column, split).copy()
        values[:, self._places] = self._trace.read(column, "original_labels")
        return values


def suspicious_and_missed(
    score: np.ndarray, wrong: np.ndarray, count: int, *, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Positions of the samples that fool a score most.

    Args:
        score: High is suspect, shape [N].
        wrong: The truth, bool [N].
        count: How many of each kind, at most.
        seed: Seed of the order of samples with equal scores. The order is random: that
            of the data set would show the same few for every score with many ties.

    Returns:
        Samples with a right label and the highest scores, the highest first; samples
        with a wrong label and the lowest scores, the lowest first.
    """
    score = np.asarray(score)
    tie = np.random.default_rng(seed).permutation(len(score))
    order = np.lexsort((tie, -score))
    return order[~wrong[order]][:count], order[wrong[order]][::-1][:count]


def cost_in_trainings(
    of_scores: pd.DataFrame, *, epochs: int, scored_epochs: int
) -> pd.Series:
    """Training and scoring that each score needs, for one run; its training alone is 1.

    Args:
        of_scores: Result of ``costs.of_scores(timing, epochs=epochs)``.
        epochs: Trained.
        scored_epochs: How many of them were scored.

    Returns:
        Trainings by score, a series indexed by its name.
    """
    added = of_scores["trainings"] - 1
    share = np.where(of_scores["epochs"] > 1, scored_epochs / epochs, 1.0)
    trainings = 1 + added * share
    return pd.Series(trainings.to_numpy(), index=of_scores["score"].to_numpy())
