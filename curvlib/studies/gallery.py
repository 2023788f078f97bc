"""Which images have the lowest and the highest curvature?

No label is changed. One network is trained for each seed, and scores are averaged over
seeds; the images at both ends of the ranking are kept, to be looked at.
"""

from collections.abc import Mapping
from itertools import combinations

import numpy as np
import pandas as pd
from scipy.stats import spearmanr

from curvlib import scores
from curvlib.studies import Measured, checksums, compact, config_of
from curvlib.trace import Trace

RECIPE = 1
PARTS = ("data", "networks", "training", "scoring")
NUM_TOP = 40  # images kept at either end of the whole ranking
NUM_KEPT = 20_000  # samples of which every score is kept
KEPT = ["seed", "index", "label", "curvature_square", "curvature_square_se"]
KEPT += ["curvature_norm", "learning_time"]  # of more samples


def measure(
    *,
    dataset: str = "digits",
    image_size: int | None = None,
    broken_files: str = "stop",
    num_train: int | None = None,
    num_heldout: int = 0,
    seeds: list[int] = [0, 1, 2],  # noqa: B006
    model: str = "slim_resnet",
    width: int = 16,
    epochs: int = 30,
    lr: float = 0.1,
    batch_size: int = 64,
    schedule: str = "cosine",
    weight_decay: float = 0.0,
    augment: bool = False,
    more_settings: dict | None = None,
    precision: str = "float32",
    num_probes: int = 2,
    step: float = 0.001,
    score_every: int = 1,
    num_shown: int = 10,
    runs: str = "runs",
) -> Measured:
    """Score every image, and keep those at the ends of each class and of all.

    Args: as in the notebook of this name.

    Returns:
        ``scores.parquet``: a row for each seed and sample, every score of the trace,
        ``curvature_square_se`` and ``curvature_norm_se`` (standard error over scored
        epochs); of more than ``NUM_KEPT`` samples only the columns in ``KEPT``.
        ``epochs``: those scored. ``classes``: their names. ``shown`` and ``images``:
        index and pixels of the images at the ends.
    """
    asked = locals()
    # Imported here: a page is drawn without PyTorch.
    from curvlib.runs import training
    from curvlib.studies import costs

    tables, traces = [], []
    for seed in seeds:
        config = config_of(asked, seed=seed)
        images, heldout = training.prepare(config)
        trace = training.fit(config, images, heldout, runs=runs)
        tables.append(_table(trace, seed))
        traces.append(trace)
    table = compact(pd.concat(tables, ignore_index=True))
    if len(images) > NUM_KEPT:
        table = table[KEPT]
    shown = at_ends(table, trace.epochs, num_shown)
    chosen = images.select(shown)
    return Measured(
        tables={
            "scores.parquet": table,
            "epochs": pd.DataFrame({"epoch": trace.epochs}),
            "classes": pd.DataFrame({"class": images.classes}),
            "shown": pd.DataFrame({"index": chosen.index}),
            "images": chosen.images[:],
        },
        data=checksums(dataset, image_size=image_size, broken_files=broken_files),
        runs=costs.of_runs(traces),
    )


def _table(trace: Trace, seed: int) -> pd.DataFrame:
    table = scores.compute(trace).drop(columns="random")
    table.insert(0, "seed", seed)
    # How far the mean over epochs would move if other epochs had been scored
    for name, column in (
        ("curvature_square", "squared_frobenius_norm"),
        ("curvature_norm", "mean_hvp_norm"),
    ):
        values = trace.read(column).astype(np.float64)  # [E, N]
        spread = values.std(0, ddof=1) if len(values) > 1 else np.nan
        table[f"{name}_se"] = spread / np.sqrt(len(values))
    return table


def at_ends(table: pd.DataFrame, epochs: np.ndarray, num_shown: int) -> np.ndarray:
    """Positions of the images at the ends of each class's ranking and of the whole.

    Args:
        table: Like ``scores.parquet``.
        epochs: Those scored.
        num_shown: Images at each end of each class.

    Returns:
        Positions in index order, ascending, each once.
    """
    means = ranking(table, epochs)
    score, labels = means["curvature"].to_numpy(), means["label"].to_numpy()
    order = np.argsort(-score, kind="stable")
    found = [order[:NUM_TOP], np.argsort(score, kind="stable")[:NUM_TOP]]
    for both in ends(score, labels, num_shown).values():
        found += both
    return np.unique(np.concatenate(found))


def ranking(table: pd.DataFrame, epochs: np.ndarray) -> pd.DataFrame:
    """One row for each sample: means over seeds, and how well they are known.

    Args:
        table: Like ``scores.parquet``.
        epochs: Those scored, ascending.

    Returns:
        Columns index, label, curvature (mean of tr(H²)), learned (the epoch from which
        a sample stays correct, the one after the last if it is wrong at the end),
        ``se over epochs`` and ``se over seeds`` (NaN for one seed), in index order.
    """
    epochs = np.asarray(epochs)
    moments = np.append(epochs, epochs[-1] + 1)
    table = table.assign(learned=moments[table["learning_time"].to_numpy() - 1])
    seeds = table["seed"].nunique()
    by_sample = table.astype({"curvature_square": float}).groupby("index")
    squares = (table["curvature_square_se"].astype(float) ** 2).groupby(table["index"])
    return pd.DataFrame(
        {
            "label": by_sample["label"].first(),
            "curvature": by_sample["curvature_square"].mean(),
            "learned": by_sample["learned"].mean(),
            "se over epochs": np.sqrt(squares.sum()) / seeds,
            "se over seeds": by_sample["curvature_square"].std(ddof=1) / np.sqrt(seeds),
        }
    ).reset_index()


def ends(
    score: np.ndarray, label: np.ndarray, count: int
) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """The samples at both ends of each class's ranking.

    Args:
        score: Shape [N].
        label: Numbers of classes, shape [N].
        count: Samples at each end; a class that has fewer gives all.

    Returns:
        For each class that has a sample the positions with the lowest scores, lowest
        first, and with the highest, highest first; equal scores in order of position.

    Raises:
        ValueError: If count is not positive, or the shapes differ.

    Example:
        >>> found = ends(np.array([3.0, 1.0, 2.0]), np.array([0, 0, 0]), count=2)
        >>> [positions.tolist() for positions in found[0]]
        [[1, 2], [0, 2]]
    """
    score, label = np.asarray(score), np.asarray(label)
    if score.ndim != 1 or score.shape != label.shape:
        raise ValueError(
            "score and label must be vectors of one length, got shapes "
            f"{score.shape} and {label.shape}"
        )
    if count < 1:
        raise ValueError(f"count must be at least 1, got {count}")
    rising, falling = (np.argsort(s, kind="stable") for s in (score, -score))
    return {
        int(c): tuple(order[label[order] == c][:count] for order in (rising, falling))
        for c in np.unique(label)
    }


class View:
    """A record of this study, as a page looks at it.

    Attributes:
        ranking: Result of the function of that name.
        score: Curvature of each image, shape [N], in the order of ``ranking``.
        names: Class of each image, shape [N].
        classes: Names of the classes, by number.
        num_shown: Images kept at each end of each class.
    """

    def __init__(self, record: Mapping):
        self._table = record["scores.parquet"]
        self.ranking = ranking(self._table, record["epochs"]["epoch"])
        self.score = self.ranking["curvature"].to_numpy()
        self.classes = record["classes"]["class"].astype(str).to_numpy()
        self.names = self.classes[self.ranking["label"]]
        self.num_shown = record.parameters.num_shown
        self._pixels = record["images"]
        self._kept = {index: i for i, index in enumerate(record["shown"]["index"])}

    def pixels(self, positions: np.ndarray) -> np.ndarray:
        """Images at positions of the ranking, uint8 [n, H, W, C].

        Raises:
            KeyError: If the record kept no pixels of one of them.
        """
        indices = self.ranking["index"].iloc[positions]
        return self._pixels[[self._kept[index] for index in indices]]

    def extreme(self, *, highest: bool, count: int = NUM_TOP) -> np.ndarray:
        """Positions of the highest or lowest curvature, the most extreme first."""
        order = np.argsort(-self.score if highest else self.score, kind="stable")
        return order[: min(count, NUM_TOP)]

    def at_ends_of_classes(self) -> dict[str, np.ndarray]:
        """What ``curvlib.book.selector.by_class`` takes: the images that were kept."""
        kept = np.flatnonzero(self.ranking["index"].isin(list(self._kept)))
        return {
            "images": self.pixels(kept),
            "label": self.ranking["label"].to_numpy()[kept],
            "score": self.score[kept],
            "index": self.ranking["index"].to_numpy()[kept],
            "classes": self.classes,
        }

    def halves(self) -> dict[str, np.ndarray]:
        """Masks, bool [N]: learned up to the median epoch, and later."""
        early = (self.ranking["learned"] <= self.ranking["learned"].median()).to_numpy()
        both = {"learned early": early, "learned later": ~early}
        return {name: mask for name, mask in both.items() if mask.any()}

    def agreements(self) -> list[float]:
        """Spearman correlation of every two seeds; none with one seed."""
        by_seed = self._table.pivot(
            index="index", columns="seed", values="curvature_square"
        )
        return [
            float(spearmanr(by_seed[a], by_seed[b]).statistic)
            for a, b in combinations(by_seed, 2)
        ]

    def learned_at_ends(self) -> tuple[float, float]:
        """Median epoch learned of the lowest and the highest images of each class."""
        by_class = ends(self.score, self.ranking["label"].to_numpy(), self.num_shown)
        low, high = (
            self.ranking["learned"].iloc[
                np.concatenate([s[i] for s in by_class.values()])
            ]
            for i in (0, 1)
        )
        return float(low.median()), float(high.median())


def summary(views: Mapping[str, View]) -> pd.DataFrame:
    """One row for each data set: how unequal curvature is, and what it agrees with.

    Args:
        views: By label.

    Returns:
        Columns data set, images, seeds, share (of the sum of curvature that the tenth
        with the highest holds), correlation (Spearman, of curvature and the epoch
        learned), seeds agree (lowest Spearman correlation of two seeds; NaN for one).
    """
    rows = []
    for label, view in views.items():
        falling = np.sort(view.score)[::-1]
        rows.append(
            {
                "data set": label,
                "images": len(falling),
                "seeds": int(view._table["seed"].nunique()),
                "share": falling[: len(falling) // 10].sum() / falling.sum(),
                "correlation": spearmanr(view.score, view.ranking["learned"]).statistic,
                "seeds agree": min(view.agreements(), default=np.nan),
            }
        )
    return pd.DataFrame(rows)
