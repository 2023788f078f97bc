"""How well the scores of some runs agree with a reference, such as memorization."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from curvlib import scores
from curvlib.studies import statistics

# Values of the column "kind".
SEED = "seed"  # the score of one run
MEAN = "mean of seeds"  # the score averaged over the runs
NOTHING = "knows nothing"  # a null score
PUBLISHED = "published"  # a score that others released
MEASURES = statistics.Agreement._fields
SHUFFLED = "shuffled curvature_norm"
WORDS = {  # for the columns of ``in_words``
    "spearman": "Spearman",
    "pearson": "Pearson",
    "top_overlap": "overlap of the top",
    "mean_of_seeds": "Spearman, mean of seeds",
}


def mean_of(by_seed: Mapping[int, pd.DataFrame]) -> pd.DataFrame:
    """Scores averaged over runs.

    Args:
        by_seed: One frame for each run, with the same samples in the same order and the
            columns of ``scores.FROM_TRACE``.

    Returns:
        Those columns, a row for each of the N samples.
    """
    names = list(scores.FROM_TRACE)
    total = sum(frame[names].to_numpy(np.float64) for frame in by_seed.values())
    return pd.DataFrame(total / len(by_seed), columns=names)


def of_scores(
    by_seed: Mapping[int, pd.DataFrame],
    reference: np.ndarray,
    k: int,
    *,
    mean_of_seeds: bool = True,
) -> pd.DataFrame:
    """Agreement of every score with a reference, and of two scores that know nothing.

    Args:
        by_seed: Scores of each run by its seed, high meaning suspect in every column
            (``scores.suspicion``), a row for each of the N samples.
        reference: Shape [N], finite.
        k: Length of the lists of highest scores that are compared.
        mean_of_seeds: Whether to add rows for the scores averaged over the runs.

    Returns:
        Columns score, kind (``SEED``, ``MEAN`` or ``NOTHING``), seed (of rows of the
        kind ``SEED``), spearman, pearson, cosine and top_overlap. The two scores that
        know nothing are a constant, and the norm of curvature, averaged over the runs,
        in shuffled order.

    Raises:
        ValueError: As ``statistics.agreement`` does.
    """
    averaged = mean_of(by_seed)
    rows = []
    for name in scores.FROM_TRACE:
        for seed, frame in by_seed.items():
            values = frame[name].to_numpy()
            rows.append(row(name, SEED, values, reference, k, seed=seed))
        if mean_of_seeds:
            rows.append(row(name, MEAN, averaged[name].to_numpy(), reference, k))
    nulls = statistics.null_scores(averaged["curvature_norm"].to_numpy())
    for name, values in nulls.items():
        name = SHUFFLED if name == "shuffled" else name
        rows.append(row(name, NOTHING, values, reference, k))
    return table(rows)


def row(
    score: str,
    kind: str,
    values: np.ndarray,
    reference: np.ndarray,
    k: int,
    *,
    seed: int | None = None,
) -> dict:
    """One row of the table that ``of_scores`` returns.

    Args:
        score: Its name.
        kind: One of the kinds of this module.
        values: Values of the score, shape [N].
        reference: Shape [N].
        k: Length of the lists that are compared.
        seed: Seed of the run, for rows of the kind ``SEED``.
    """
    found = statistics.agreement(values, reference, k)
    return {"score": score, "kind": kind, "seed": seed, **found._asdict()}


def table(rows: list[dict]) -> pd.DataFrame:
    """Rows as one frame, whose seeds stay whole numbers where some are missing."""
    return pd.DataFrame(rows).astype({"seed": "Int64"})


def in_words(agreements: pd.DataFrame) -> pd.DataFrame:
    """A table for readers: curvature, its rivals, and scores that know nothing.

    Args:
        agreements: Result of ``of_scores``, with the mean of seeds.

    Returns:
        A row for each curvature score averaged over training, the cumulative loss, the
        score with the highest Spearman correlation, published scores, and those that
        know nothing. Texts, mean ± standard deviation over seeds (– where undefined):
        score, spearman, pearson, cosine, top_overlap, and mean_of_seeds, the Spearman
        correlation of the score averaged over the runs.
    """
    is_extra = agreements["kind"].isin([PUBLISHED, NOTHING])
    names = ["curvature_norm", "curvature_square", "cumulative_loss"]
    names += [ranking(agreements).index[0], "random", *agreements["score"][is_extra]]
    rows = []
    for name in dict.fromkeys(names):
        part = agreements[agreements["score"] == name]
        one = part[part["kind"] != MEAN]
        shown = {
            measure: statistics.mean_sd(one[measure])
            if len(one) > 1
            else _text(one[measure].iloc[0])
            for measure in MEASURES
        }
        averaged = part.loc[part["kind"] == MEAN, "spearman"]
        mean = _text(averaged.iloc[0] if len(averaged) else np.nan)
        rows.append({"score": name, **shown, "mean_of_seeds": mean})
    return pd.DataFrame(rows)


def _text(value: float) -> str:
    return "–" if np.isnan(value) else f"{value:.3f}"


def text(agreements: pd.DataFrame, score: str, measure: str = "spearman") -> str:
    """Mean ± standard deviation over seeds of a score's agreement.

    Args:
        agreements: Result of ``of_scores``.
        score: Its name.
        measure: One of ``MEASURES``.
    """
    return statistics.mean_sd(of(agreements, score, SEED)[measure])


def of(agreements: pd.DataFrame, score: str, kind: str) -> pd.DataFrame:
    """Rows of one score and one kind."""
    chosen = (agreements["score"] == score) & (agreements["kind"] == kind)
    return agreements[chosen]


def single_runs(agreements: pd.DataFrame) -> pd.DataFrame:
    """Rows of the scores of single runs, one for each score and seed."""
    return agreements[agreements["kind"] == SEED]


def ranking(agreements: pd.DataFrame, kind: str = SEED) -> pd.Series:
    """Scores by their Spearman correlation, the highest first, without ``random``.

    Args:
        agreements: Result of ``of_scores``.
        kind: ``SEED`` for the mean over runs of the correlation, ``MEAN`` for the
            correlation of the mean over runs.

    Returns:
        Spearman correlations, by name of the score.
    """
    rows = agreements[agreements["kind"] == kind]
    found = rows.groupby("score", sort=False)["spearman"].mean().drop("random")
    return found.sort_values(ascending=False, kind="stable")


def cosines(agreements: pd.DataFrame) -> pd.Series:
    """Cosine of the norm of curvature, and of the two scores that know nothing.

    Args:
        agreements: Result of ``of_scores``.

    Returns:
        By name of the score, curvature first; curvature as the mean over seeds.
    """
    one = agreements[agreements["kind"].isin([SEED, NOTHING])]
    means = one.groupby("score")["cosine"].mean()
    return means[["curvature_norm", "constant", SHUFFLED]]
