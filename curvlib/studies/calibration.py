"""Can the estimated number of wrong labels and its interval be trusted?

`curvlib suspects` plants known wrong labels and looks where they end up in the ranking.
Here the truth is known, so we can compare two estimates with it: the number of wrong
labels, and the share of wrong labels among the first suspects.
"""

import io
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd

from curvlib.studies import Measured, checksums, counting
from curvlib.studies.wrong_label_tables import kind_of

RECIPE = 1
PARTS = (
    "data",
    "features",
    "head",
    "scoring",
    "studies.suspects",
    "studies.counting",
)
RANKS = (10, 20, 50, 100, 200, 500, 1000, 2000, 5000)  # whose precision is kept


def measure(
    *,
    dataset: str = "digits",
    num_train: int | None = None,
    image_size: int | None = None,
    features: str = "lite0",
    size: int | None = None,
    noises: list[str] = ["symmetric", "pair"],  # noqa: B006
    noise_rates: list[float] = [0.03, 0.1],  # noqa: B006
    seeds: list[int] = [0],  # noqa: B006
    plant: float = 0.02,
    num_planted: int = 400,
    num_resamples: int = 200,
    runs: str = "runs",
) -> Measured:
    """Estimate the number of wrong labels in many cases whose truth is known.

    Args: as in the notebook of this name.

    Returns:
        ``counts``: a row for each case: noise, noise_rate (NaN for labels that people
        gave), seed, samples, wrong, estimate, low, high, confident, planted,
        hard_share. ``precision``: a row for each case and rank: noise, noise_rate,
        seed, rank, truth, precision (estimated), low, high.
    """
    asked = locals()
    from curvlib import data  # here: a page is drawn without PyTorch
    from curvlib.studies import wrong_label_cases

    counts, curves = [], []
    for noise in noises:
        rates = [0.0] if noise in data.HUMAN else noise_rates
        for rate in rates:
            for seed in seeds:
                case = wrong_label_cases.of_study(
                    asked, noise=noise, noise_rate=rate, seed=seed
                )
                known = {
                    "noise": noise,
                    "noise_rate": np.nan if noise in data.HUMAN else rate,
                    "seed": seed,
                }
                found, table = estimated(
                    case.vectors,
                    plant=plant,
                    num_planted=num_planted,
                    seed=seed,
                    num_resamples=num_resamples,
                    runs=runs,
                )
                wrong = case.images.mislabelled
                truth = {"samples": len(wrong), "wrong": int(wrong.sum())}
                counts.append(known | truth | numbers_of(found))
                curve = with_truth(found.curve, table["rank"].to_numpy(), wrong)
                curve = at_ranks(curve, RANKS)
                curves.append(pd.DataFrame(known, index=curve.index).join(curve))
    return Measured(
        tables={
            "counts": pd.DataFrame(counts),
            "precision": pd.concat(curves, ignore_index=True),
        },
        data=checksums(dataset, image_size=image_size, broken_files="skip"),
    )


def numbers_of(found: counting.Estimate) -> dict[str, float]:
    """The numbers of an estimate, of which ``estimate`` is that of wrong labels."""
    numbers = {name: v for name, v in asdict(found).items() if name != "curve"}
    return {"estimate": numbers.pop("wrong"), **numbers}


def estimated(
    vectors,
    *,
    plant: float,
    num_planted: int,
    seed: int,
    num_resamples: int = 200,
    runs: str | Path,
):
    """Rank samples, plant wrong labels, and estimate, without using the truth.

    Args:
        vectors: N samples with the labels given.
        plant: Share of the labels that are replaced in one run.
        num_planted: Labels that are replaced in all, over several runs.
        seed: Seed of heads, folds and planted labels.
        num_resamples: Number of bootstrap samples.
        runs: Folder of all runs, from which a stopped measurement continues.

    Returns:
        The ``counting.Estimate``, and the table of ``suspects.rank``.
    """
    from curvlib.runs import provenance
    from curvlib.studies import suspects
    from curvlib.trace import write_atomically

    ranked = suspects.rank(vectors, runs=runs, seed=seed)
    parts = ("features", "head", "scoring", "studies.suspects")
    digest = provenance.digest(
        {"seed": seed, "plant": plant, "num_planted": num_planted},
        {"train": vectors.checksum},
        parts,
    )
    file = Path(runs) / f"{vectors.name}-planted-{digest}.npz"
    if not file.exists():
        planted = suspects.planted_runs(
            ranked, vectors, share=plant, planted=num_planted, runs=runs, seed=seed
        )
        buffer = io.BytesIO()
        np.savez(buffer, *(array for run in planted for array in run))
        write_atomically(file, buffer.getvalue())
    with np.load(file) as kept:
        arrays = [kept[name] for name in kept.files]
    found = counting.estimate(
        [tuple(arrays[i : i + 4]) for i in range(0, len(arrays), 4)],
        confident=suspects.confident_count(ranked.table),
        num_resamples=num_resamples,
        seed=seed,
    )
    return found, ranked.table


def with_truth(curve: pd.DataFrame, rank: np.ndarray, wrong: np.ndarray):
    """The curve of an estimate, with the true share among the first suspects.

    Args:
        curve: Of ``counting.Estimate``.
        rank: Rank of each sample, from 1, [N].
        wrong: The truth, bool [N].

    Returns:
        The curve with a column ``truth``.
    """
    found = np.cumsum(wrong[np.argsort(rank)])
    shown = curve["rank"].to_numpy()
    return curve.assign(truth=found[shown - 1] / shown)


def at_ranks(curve: pd.DataFrame, ranks) -> pd.DataFrame:
    """The rows of a curve nearest below some ranks, each once."""
    shown = curve["rank"].to_numpy()
    wanted = [r for r in ranks if r <= shown[-1]]
    rows = np.unique(np.searchsorted(shown, wanted, side="right") - 1)
    return curve.iloc[rows].reset_index(drop=True)


# ----------------------------------------------------------------- what the page says


def inside(table: pd.DataFrame, truth: str) -> pd.Series:
    """Whether the truth lies in the interval, for each row.

    Args:
        table: With columns low and high.
        truth: Column of the truth: ``wrong`` of counts, ``truth`` of precision.
    """
    # An interval ends at whole labels: half a label more or less is no miss.
    slack = 0.5 if truth == "wrong" else 0.5 / table["rank"]
    return (table["low"] - slack <= table[truth]) & (
        table[truth] <= table["high"] + slack
    )


def in_words(table: pd.DataFrame) -> pd.DataFrame:
    """The same table with the kinds of wrong labels in words."""
    return table.assign(noise=table["noise"].map(kind_of))


def coverage(counts: pd.DataFrame, precision: pd.DataFrame) -> pd.DataFrame:
    """How often the truth lies in the intervals, by kind of wrong labels.

    Args:
        counts: A record's table, or those of several records.
        precision: Likewise.

    Returns:
        One row per kind and one for all: noise, cases, inside (share of the cases whose
        number is), ratio (median of estimate over truth), precision inside (share of
        ranks whose precision is), error (mean absolute, of the precision).
    """
    rows = []
    kinds = [*counts["noise"].unique(), None]
    for kind in kinds:
        some = counts if kind is None else counts[counts["noise"] == kind]
        shares = precision if kind is None else precision[precision["noise"] == kind]
        rows.append(
            {
                "noise": "all" if kind is None else kind,
                "cases": len(some),
                "inside": inside(some, "wrong").mean(),
                "ratio": (some["estimate"] / some["wrong"]).median(),
                "precision inside": inside(shares, "truth").mean(),
                "error": (shares["precision"] - shares["truth"]).abs().mean(),
            }
        )
    return pd.DataFrame(rows)
