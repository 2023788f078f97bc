"""Tables of the page that compares tools: records in, data frames in words out.

No truth is needed here, no PyTorch, and no data set.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from curvlib.scores import SCORES
from curvlib.studies.wrong_label_tools import (
    CLEANLAB,
    HEAD,
    ORDER,
    mean_table,
    verdict,
)

MINUTES = "minutes of one core, mean"
WORDS = {
    ORDER: "our default order",
    CLEANLAB: "cleanlab",
    "cleanlab_margin": "cleanlab, margin",
    "cleanlab_adjusted": "cleanlab, adjusted by class",
    HEAD: "cleanlab with our head",
    "neighbour_ratio": "ratio of distances",
    "neighbour_agreement": "votes of neighbours",
    "predicted_agreement": "agreement over epochs",
    "random": "random numbers",
}
SHORT = {  # in tables with a column for each tool
    "aum_softmax": "AUM",
    "cumulative_loss": "loss, summed",
    "final_loss": "loss at the end",
    "curvature_norm": "curvature",
}
IN_TABLE = (
    ORDER,
    CLEANLAB,
    HEAD,
    "neighbour_ratio",
    "neighbour_agreement",
    "aum_softmax",
    "curvature_norm",
)
LOSS_AND_AGREEMENT = (
    "final_loss",
    "cumulative_loss",
    "predicted_agreement",
    "neighbour_agreement",
)
PIXELS = {  # records of networks trained on pixels
    "mislabelled": "CIFAR-10, 10% symmetric",
    "mislabelled_pair": "CIFAR-10, 10% pair flips",
    "mislabelled_aggre": "CIFAR-10, people's majority",
    "mislabelled_worse": "CIFAR-10, people's worst",
    "mislabelled_cifar100_human": "CIFAR-100, people",
    "mislabelled_fashion_mnist": "Fashion-MNIST, 10% symmetric",
    "mislabelled_regime_cifar10_s0": "CIFAR-10, 10% symmetric, generalising network",
}
FORMATS = dict.fromkeys(
    ["AUROC", "average precision", "precision", "standard error"], "{:.3f}"
) | {"minutes": "{:.1f}"}


def words(score: str) -> str:
    """The name of a score or tool as readers see it."""
    if score in WORDS:
        return WORDS[score]
    return SCORES[score].label if score in SCORES else score.replace("_", " ")


def by_data(found: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Means over seeds of all records: one row for each set of labels and score.

    Args:
        found: The table ``scores`` of each record, by label.

    Returns:
        Columns data, score, tool (its name in words) and the numbers of
        ``wrong_label_tools.mean_table``.
    """
    rows = [mean_table(table).assign(data=label) for label, table in found.items()]
    table = pd.concat(rows, ignore_index=True)
    return table.assign(tool=[words(score) for score in table["score"]])


def cases(found: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """What each record was measured on, one row per set of labels.

    Args:
        found: The table ``cases`` of each record, by label.
    """
    rows = [
        {
            "data": label,
            "images": int(table["samples"].iloc[0]),
            "classes": int(table["classes"].iloc[0]),
            "labels wrong": f"{(table['wrong'] / table['samples']).mean():.1%}",
            "head right, out of fold": f"{table['accuracy'].mean():.1%}",
            "epochs of the trace": f"{table['epochs'].mean():.0f}",
            "seeds": table["seed"].nunique(),
        }
        for label, table in found.items()
    ]
    return pd.DataFrame(rows)


def wide(
    found: pd.DataFrame,
    scores: Sequence[str],
    *,
    value: str = "auroc",
    with_error: Sequence[str] = (ORDER, CLEANLAB),
) -> pd.DataFrame:
    """One row per set of labels, one column per tool: AUROC, below it core minutes.

    Args:
        found: Result of ``by_data``.
        scores: Names of the scores, from left to right; those not there are left out.
        value: Column of ``found``.
        with_error: Scores whose AUROC is shown with its standard error.
    """
    columns = {}
    for name in scores:
        some = found[found["score"] == name].set_index("data")
        if not len(some):
            continue
        texts = some[value].map("{:.3f}".format)
        if value == "auroc" and name in with_error:
            texts += some["error"].map(" ± {:.3f}".format)
        seconds = some["seconds"].dropna()
        minutes = f"{seconds.mean() / 60:.1f}" if len(seconds) else "–"
        columns[SHORT.get(name, words(name))] = pd.concat(
            [texts, pd.Series({MINUTES: minutes})]
        )
    rows = [*found["data"].unique(), *([MINUTES] if value == "auroc" else [])]
    table = pd.DataFrame(columns).reindex(rows)
    return table.fillna("–").rename_axis("labels").reset_index()


def differences(
    found: pd.DataFrame, one: str = ORDER, other: str = CLEANLAB
) -> dict[str, str]:
    """AUROC of two scores by set of labels, as claims show it.

    Args:
        found: Result of ``by_data``.
        one: Name of a score.
        other: Of another one.
    """
    table = found.pivot(index="data", columns="score", values="auroc")
    if not {one, other} <= {*table.columns}:
        return {}
    return {
        label: f"{row[one]:.3f} against {row[other]:.3f}"
        for label, row in table.reindex(found["data"].unique()).iterrows()
    }


def gains(found: pd.DataFrame) -> pd.DataFrame:
    """What our head adds to cleanlab's AUROC, and what the rest of our order adds.

    Args:
        found: Result of ``by_data``.
    """
    table = found.pivot(index="data", columns="score", values="auroc")
    table = table.reindex(found["data"].unique())
    cleanlab = table.get(CLEANLAB, pd.Series(np.nan, index=table.index))

    def signed(values: pd.Series) -> pd.Series:
        return (values.round(3) + 0.0).map("{:+.3f}".format)  # no minus zero

    return pd.DataFrame(
        {
            "data": table.index,
            "cleanlab": cleanlab.map("{:.3f}".format),
            "gain from our head": signed(table[HEAD] - cleanlab),
            "gain from the rest": signed(table[ORDER] - table[HEAD]),
            "our default order": table[ORDER].map("{:.3f}".format),
        }
    ).reset_index(drop=True)


def verdicts(
    found: Mapping[str, pd.DataFrame],
    other: str = CLEANLAB,
    column: str = "difference",
) -> tuple[dict, dict]:
    """Whether our order is at least as good as another score, and better, by record.

    Args:
        found: The table ``scores`` of each record, by label.
        other: Name of the other score.
        column: Of the difference to it.

    Returns:
        Two dictionaries by label; None where the other is missing.
    """
    both = {n: verdict(t, other=other, column=column) for n, t in found.items()}
    at_least = {label: None if v is None else v[0] for label, v in both.items()}
    better = {label: None if v is None else v[1] for label, v in both.items()}
    return at_least, better


def ahead(found: pd.DataFrame, one: str, other: str) -> dict[str, bool]:
    """Whether one score has the higher AUROC, by set of labels.

    Args:
        found: Result of ``by_data``.
        one: Name of a score.
        other: Of another one.
    """
    table = found.pivot(index="data", columns="score", values="auroc")
    table = table.reindex(found["data"].unique())
    return {label: bool(row[one] > row[other]) for label, row in table.iterrows()}


def on_pixels(folder: Path) -> pd.DataFrame:
    """AUROC and minutes of networks trained on pixels, from records that are there.

    Args:
        folder: Folder of the records of one profile.

    Returns:
        One row per record: data, the best score, its AUROC, that of curvature, and
        minutes of training and scoring; a row that says so if there is none.
    """
    rows = []
    for name, label in PIXELS.items():
        if not (folder / name / "metrics.csv").exists():
            continue
        metrics = pd.read_csv(folder / name / "metrics.csv")
        rate = metrics["noise_rate"].unique()
        metrics = metrics[metrics["noise_rate"] == rate[np.abs(rate - 0.1).argmin()]]
        metrics = metrics[~metrics["score"].isin(["random"])]
        means = metrics.groupby("score")["auroc"].mean()
        runs = pd.read_csv(folder / name / "runs.csv")
        seconds = (runs["train_seconds"] + runs["score_seconds"]).mean()
        rows.append(
            {
                "data": label,
                "best score": words(means.idxmax()),
                "its AUROC": f"{means.max():.3f}",
                "mean curvature (norm)": f"{means['curvature_norm']:.3f}",
                "minutes for one network": f"{seconds / 60:.1f}",
            }
        )
    return pd.DataFrame(rows or [{"data": "not run"}])


def everything(found: pd.DataFrame) -> pd.DataFrame:
    """All scores of all sets of labels, the best first.

    Args:
        found: Result of ``by_data``.
    """
    table = found.sort_values(["auroc"], ascending=False, kind="stable")
    return pd.DataFrame(
        {
            "data": table["data"],
            "tool or score": table["tool"],
            "AUROC": table["auroc"],
            "standard error": table["error"],
            "average precision": table["average_precision"],
            "precision": table["precision_at_wrong"],
            "minutes": table["seconds"] / 60,
        }
    )
