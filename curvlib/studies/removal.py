"""Which training images does accuracy depend on?

Feldman and Zhang (2020) removed the most memorised images from the training set, and
accuracy on unseen images fell by more than after removing as many at random. They
needed thousands of networks to find these images. Here one network's scores choose
them. The training set has a long tail on purpose: the last class has few images.

The networks that are trained again never chose what was removed: their seeds differ
from those of the networks that gave the scores.
"""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd

from curvlib import scores
from curvlib.studies import Measured, checksums, config_of, detection, statistics
from curvlib.studies.wrong_label_claims import BY_INTERVAL, Verdict

if TYPE_CHECKING:
    from curvlib.data import Images
    from curvlib.runs.head import HeadConfig, Vectors
    from curvlib.runs.settings import TrainConfig
    from curvlib.trace import Trace

RECIPE = 1
PARTS = ("data", "networks", "training", "features", "head", "scoring")
OTHER_SEEDS = 100  # added to a seed for the network that gives the scores
NUM_TOP = 24  # images kept that have the highest curvature, first seed
RARE = 0.3  # share of the classes, those with fewest images, that count as rare
MATCHED = "random, same classes"  # as many of each class as the first score removes
FAR = 0.2  # share of a class's unseen images, the farthest, that count as atypical
GROUPS = ("all", "rare classes", "atypical images")  # of unseen images


def measure(
    *,
    dataset: str = "digits",
    num_images: int | None = None,
    num_unseen: int = 600,
    imbalance: float = 4.0,
    features: str | None = None,
    feature_size: int | None = None,
    removed_by: list[str] = ["curvature_norm", "cumulative_loss", "random"],  # noqa: B006
    shares: list[float] = [0.05, 0.1, 0.2],  # noqa: B006
    seeds: list[int] = [0, 1, 2],  # noqa: B006
    model: str = "slim_resnet",
    width: int = 16,
    epochs: int = 10,
    lr: float = 0.1,
    batch_size: int = 64,
    schedule: str = "cosine",
    weight_decay: float = 0.0,
    augment: bool = False,
    precision: str = "float32",
    num_probes: int = 2,
    step: float = 0.001,
    score_every: int = 1,
    more_settings: dict | None = None,
    runs: str = "runs",
) -> Measured:
    """Remove images, train again with the same settings, and count what is lost.

    Args: as in the notebook of this name.

    Returns:
        - ``accuracy``: seed, score (that chose what to remove, ``MATCHED``, or
          ``nothing``), share (removed), group (of ``GROUPS``), images (unseen ones in
          the group), accuracy, trained_on (number of images).
        - ``removed``: seed, score, share, images, rare (share of the removed images
          that are of rare classes).
        - ``classes``: class, trained_on, unseen, rare.
        - ``top`` and ``images``: index, label and curvature of the images with the
          highest curvature, first seed, and their uint8 pixels [n, H, W, C].

    Raises:
        ValueError: If a share, the imbalance or the number of unseen images is out of
            range, or a score is unknown.
    """
    asked = locals()
    from curvlib.studies import costs  # imports torch, which drawing does without

    _check(shares, removed_by, seeds)
    data = _split(asked)
    rows, removed, traces = [], [], []
    for seed in seeds:
        trace = _scored(data, asked, seed + OTHER_SEEDS)
        table = scores.suspicion(scores.compute(trace, seed=seed))
        table = table.set_index("index").loc[data.train.index]
        traces.append(trace)
        gone = {
            (name, share): highest(table[name].to_numpy(), share)
            for name in removed_by
            for share in shares
        }
        for share in shares:
            first = gone[removed_by[0], share]
            gone[MATCHED, share] = matched(data.train.labels, first, seed=seed)
        for (name, share), rows_gone in gone.items():
            removed.append(
                {
                    "seed": seed,
                    "score": name,
                    "share": share,
                    "images": len(rows_gone),
                    "rare": data.rare[data.train.labels[rows_gone]].mean(),
                }
            )
        everything = np.arange(len(data.train))
        gone = {("nothing", 0.0): everything[:0]} | gone
        for (name, share), rows_gone in gone.items():
            left = np.setdiff1d(everything, rows_gone)
            right = _predicted(data, left, asked, seed) == data.unseen.labels
            for group, chosen in data.groups.items():
                rows.append(
                    {
                        "seed": seed,
                        "score": name,
                        "share": share,
                        "group": group,
                        "images": int(chosen.sum()),
                        "accuracy": right[chosen].mean(),
                        "trained_on": len(left),
                    }
                )
        if seed == seeds[0]:
            curvature = table["curvature_norm"].to_numpy()
    top = np.argsort(-curvature, kind="stable")[:NUM_TOP]
    count = len(data.train.classes)
    classes = {
        "class": data.train.classes,
        "trained_on": np.bincount(data.train.labels, minlength=count),
        "unseen": np.bincount(data.unseen.labels, minlength=count),
        "rare": data.rare,
    }
    shown = {
        "index": data.train.index[top],
        "label": data.train.labels[top],
        "curvature": curvature[top],
    }
    return Measured(
        tables={
            "accuracy": pd.DataFrame(rows),
            "removed": pd.DataFrame(removed),
            "classes": pd.DataFrame(classes),
            "top": pd.DataFrame(shown),
            "images": data.pixels.select(top).images[:],
        },
        data=checksums(dataset),
        runs=costs.of_runs(traces),
    )


def _check(shares: Sequence[float], removed_by: Sequence[str], seeds: Sequence[int]):
    if not seeds:
        raise ValueError("seeds must hold at least one seed, got none")
    if not removed_by:
        raise ValueError("removed_by must name at least one score, got none")
    if not shares or not all(0 < share < 1 for share in shares):
        raise ValueError(f"shares must lie between 0 and 1, got {list(shares)}")
    if unknown := [name for name in removed_by if name not in scores.SCORES]:
        raise ValueError(
            f"removed_by must hold scores, got {unknown}; there are "
            f"{', '.join(scores.SCORES)}"
        )


class _Data(NamedTuple):
    """What is trained on and what is never seen, as pixels or as feature vectors."""

    train: "Images | Vectors"
    unseen: "Images | Vectors"
    pixels: "Images"  # of the training images
    groups: dict[str, np.ndarray]  # by name, bool: which unseen images belong
    rare: np.ndarray  # bool, by class


def _split(asked: Mapping) -> _Data:
    from curvlib.data import load
    from curvlib.runs import training

    whole = training.first(load(asked["dataset"]), asked["num_images"], "num_images")
    count, unseen = len(whole), asked["num_unseen"]
    if not 0 < unseen < count:
        raise ValueError(
            f"num_unseen must lie between 0 and the {count} images, got {unseen}"
        )
    order = np.random.default_rng(0).permutation(count)  # one split for all seeds
    left_out, rest = np.sort(order[:unseen]), np.sort(order[unseen:])
    chosen = rest[long_tail(whole.labels[rest], len(whole.classes), asked["imbalance"])]
    samples = whole
    if asked["features"]:
        from curvlib.runs.features import extract
        from curvlib.runs.head import Vectors

        found = extract(whole, asked["features"], size=asked["feature_size"])
        samples = Vectors.of(found, whole)
        inputs = np.asarray(found.vectors, dtype=np.float32)
        inputs = inputs / np.where(inputs.std(0) > 1e-6, inputs.std(0), 1)
    else:
        inputs = whole.images[:].reshape(count, -1) / np.float32(255)
    far = farthest(inputs, whole.labels, rest, left_out)
    sizes = np.bincount(whole.labels[chosen], minlength=len(whole.classes))
    rare = fewest(sizes)
    groups = (np.ones(unseen, bool), rare[whole.labels[left_out]], far)
    return _Data(
        samples.select(chosen),
        samples.select(left_out),
        whole.select(chosen),
        dict(zip(GROUPS, groups, strict=True)),
        rare,
    )


def long_tail(labels: np.ndarray, num_classes: int, imbalance: float) -> np.ndarray:
    """Positions of a long-tailed choice of samples, the first ones of each class.

    The share kept falls from class to class by one factor (Cui et al., CVPR 2019).

    Args:
        labels: In [0, num_classes), shape [N].
        num_classes: C.
        imbalance: Share kept of the first class over that of the last; 1 keeps all.

    Raises:
        ValueError: If the imbalance is below 1, or a class loses all its samples.

    Example:
        >>> long_tail(np.array([0, 1, 0, 1, 0, 1, 0, 1]), 2, 4)
        array([0, 1, 2, 4, 6])
    """
    if not imbalance >= 1:
        raise ValueError(f"imbalance must be at least 1, got {imbalance}")
    from curvlib.data.noise import first_of_classes

    last = max(num_classes - 1, 1)
    shares = [imbalance ** (-label / last) for label in range(num_classes)]
    kept = first_of_classes(labels, shares)
    if len(empty := np.setdiff1d(labels, labels[kept])):
        raise ValueError(
            f"no sample of class {empty[0]} is left at imbalance {imbalance}; take a "
            "smaller one"
        )
    return kept


def fewest(sizes: np.ndarray) -> np.ndarray:
    """Whether a class is among the ``RARE`` share with the fewest training images.

    Args:
        sizes: Training images of each class, shape [C].

    Example:
        >>> fewest(np.array([9, 3, 8, 7]))
        array([False,  True, False, False])
    """
    rare = np.zeros(len(sizes), bool)
    rare[np.argsort(sizes, kind="stable")[: max(round(RARE * len(sizes)), 1)]] = True
    return rare


def farthest(
    inputs: np.ndarray, labels: np.ndarray, known: np.ndarray, asked: np.ndarray
) -> np.ndarray:
    """Which samples are among the ``FAR`` share of their class farthest from its mean.

    No network has a say in this, so no score has either.

    Args:
        inputs: Inputs of all samples, shape [N, D].
        labels: Shape [N].
        known: Positions of the samples whose class means are taken.
        asked: Positions of the samples asked about, shape [M].

    Returns:
        Bool [M].
    """
    found = np.zeros(len(asked), bool)
    for label in np.unique(labels[asked]):
        members = np.flatnonzero(labels[asked] == label)
        mean = inputs[known[labels[known] == label]].mean(0)
        distance = np.linalg.norm(inputs[asked[members]] - mean, axis=1)
        count = max(round(FAR * len(members)), 1)
        found[members[np.argsort(-distance, kind="stable")[:count]]] = True
    return found


def highest(score: np.ndarray, share: float) -> np.ndarray:
    """Positions of the share of samples with the highest score, the highest first.

    Example:
        >>> highest(np.array([0.1, 0.9, 0.5, 0.7]), 0.5)
        array([1, 3])
    """
    return np.argsort(-score, kind="stable")[: round(share * len(score))]


def matched(labels: np.ndarray, gone: np.ndarray, *, seed: int) -> np.ndarray:
    """Random positions, as many of each class as are given.

    Whoever removes rare classes loses rare classes; this control tells that from the
    choice of images within a class.

    Args:
        labels: Labels of all samples, shape [N].
        gone: Positions that something else chose, shape [n].
        seed: Seed of the choice.

    Returns:
        Positions, shape [n], ascending.
    """
    rng = np.random.default_rng(seed)
    found = [
        rng.choice(np.flatnonzero(labels == label), count, replace=False)
        for label, count in zip(
            *np.unique(labels[gone], return_counts=True), strict=True
        )
    ]
    return np.sort(np.concatenate(found))


def _scored(data: _Data, asked: Mapping, seed: int) -> "Trace":
    """The run whose scores choose what is removed."""
    if asked["features"]:
        from curvlib.runs.head import fit_head

        return fit_head(_head(asked, seed), data.train, runs=asked["runs"])
    from curvlib.runs.training import fit

    return fit(config_of(asked, seed=seed), data.train, runs=asked["runs"])


def _head(asked: Mapping, seed: int) -> "HeadConfig":
    from curvlib.runs.head import HeadConfig

    named = ("epochs", "lr", "weight_decay", "batch_size", "score_every", "num_probes")
    given = {name: asked[name] for name in (*named, "step")}
    return HeadConfig(hidden=asked["width"], seed=seed, **given)


def _predicted(data: _Data, left: np.ndarray, asked: Mapping, seed: int) -> np.ndarray:
    """Classes that a network trained on some of the images gives to the unseen ones.

    A training that is done is kept, so that a study that was stopped goes on after it.
    """
    from curvlib.files import write_atomically
    from curvlib.runs import provenance, scoring

    train = data.train.select(left)
    if asked["features"]:
        from dataclasses import asdict

        settings: dict = asdict(_head(asked, seed))
    else:
        settings = config_of(asked, seed=seed).identity()
    parts = [part for part in PARTS if not part.startswith("studies")]
    sums = {"train": train.checksum, "unseen": data.unseen.checksum}
    digest = provenance.digest(settings, sums, parts)
    file = Path(asked["runs"]) / f"{data.train.name}-unseen-{digest}.npy"
    if file.exists():
        return np.load(file)
    if asked["features"]:
        model, scaling = _trained_head(_head(asked, seed), train)
    else:
        model, scaling = _trained_network(config_of(asked, seed=seed), train)
    p = scoring.probabilities(model, data.unseen, scaling=scaling)
    buffer = io.BytesIO()
    np.save(buffer, p.argmax(1))
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(file, buffer.getvalue())
    return p.argmax(1)


def _trained_network(config: "TrainConfig", train: "Images") -> tuple:
    from curvlib.runs.training import passes

    scaling = train.statistics()
    *_, model = passes(config, train, scaling=scaling)
    return model, scaling


def _trained_head(config: "HeadConfig", train: "Vectors") -> tuple:
    from curvlib.runs.head import Training, statistics

    scaling = statistics(train)
    training = Training(config, train, scaling)
    for _ in range(config.epochs):
        training.train_epoch()
    return training.model, scaling


# What the page shows.


def lost(accuracy: pd.DataFrame) -> pd.DataFrame:
    """Accuracy lost by each removal, seed by seed.

    Args:
        accuracy: The table of that name.

    Returns:
        Rows of the removals, with lost: accuracy of the network of the same seed that
        was trained on everything, minus that of this one.
    """
    whole = accuracy[accuracy["score"] == "nothing"]
    whole = whole.set_index(["seed", "group"])["accuracy"]
    rows = accuracy[accuracy["score"] != "nothing"]
    before = whole.loc[pd.MultiIndex.from_frame(rows[["seed", "group"]])].to_numpy()
    return rows.assign(lost=before - rows["accuracy"])


def _largest_share(rows: pd.DataFrame) -> pd.DataFrame:
    return rows[rows["share"] == rows["share"].max()]


def by_share(accuracy: pd.DataFrame, group: str) -> pd.DataFrame:
    """Accuracy on a group of unseen images in %, mean ± standard deviation over seeds.

    Args:
        accuracy: The table of that name.
        group: One of ``GROUPS``.

    Returns:
        A row for each score, a column of text for each share, such as ``10%``.
    """
    rows = accuracy[accuracy["group"] == group].copy()
    rows["accuracy"] *= 100
    grouped = rows.groupby(["score", "share"], sort=False)["accuracy"]
    table = grouped.agg(lambda values: statistics.mean_sd(values, digits=1)).unstack()
    whole = table.loc["nothing", 0.0]
    table = table.drop(index="nothing", columns=0.0)
    table.columns = [f"{100 * share:.3g}%" for share in table.columns]
    table.insert(0, "0%", whole)
    return table.reset_index()


def costs_more(
    accuracy: pd.DataFrame, score: str, *, than: str = "random", group: str = "all"
) -> Verdict:
    """Whether one way to remove the largest share costs more accuracy than another.

    Args:
        accuracy: The table of that name.
        score: The score that chose what to remove.
        than: Likewise.
        group: A group of unseen images.

    Returns:
        Undecided if there is one seed only, or the interval holds zero.
    """
    change = lost(accuracy)
    rows = change[
        (change["group"] == group) & (change["share"] == change["share"].max())
    ]
    row = detection.paired_difference(rows, than, value="lost").loc[score]
    spread = (
        "one seed"
        if np.isnan(row["low"])
        else f"{100 * row['low']:+.1f} to {100 * row['high']:+.1f}"
    )
    return Verdict(
        True if row["low"] > 0 else False if row["high"] < 0 else None,
        f"{100 * row['difference']:+.1f} points more lost ({spread})",
        BY_INTERVAL,
    )


def falls_on_the_rare(accuracy: pd.DataFrame, score: str) -> Verdict:
    """Whether removing the largest share costs rare classes more than all images.

    Args:
        accuracy: The table of that name.
        score: The score that chose what to remove.

    Returns:
        Undecided if there is one seed only, or the interval holds zero.
    """
    change = lost(accuracy)
    rows = change[
        (change["score"] == score) & (change["share"] == change["share"].max())
    ]
    rows = rows.drop(columns="score").rename(columns={"group": "score"})
    row = detection.paired_difference(rows, "all", value="lost").loc["rare classes"]
    lost_on = rows.groupby("score")["lost"].mean()
    return Verdict(
        True if row["low"] > 0 else False if row["high"] < 0 else None,
        f"{100 * lost_on['rare classes']:.1f} points lost on rare classes, "
        f"{100 * lost_on['all']:.1f} on all",
        BY_INTERVAL,
    )


WAYS = {  # to choose what is removed, in words
    "curvature_norm": "highest curvature",
    "curvature_square": "highest squared curvature",
    "cumulative_loss": "highest cumulative loss",
    "random": "at random",
    MATCHED: "at random, same classes",
}


def in_words(rows: pd.DataFrame) -> pd.DataFrame:
    """The same rows with the column ``way``, what was removed in words, for ``score``.

    Args:
        rows: Of a table with a column score, or of ``by_share``.
    """
    way = rows["score"].map(lambda name: WAYS.get(name, name.replace("_", " ")))
    rows = rows.drop(columns="score")
    rows.insert(0, "way", way)
    return rows


def curves(accuracy: pd.DataFrame) -> pd.DataFrame:
    """Accuracy in % by way, share and group, to be drawn.

    Args:
        accuracy: The table of that name.

    Returns:
        Columns way, group, ``removed (%)``, ``accuracy (%)`` (mean over seeds) and sd
        (over seeds; 0 for one seed). Every way begins at no removal.
    """
    whole = accuracy[accuracy["score"] == "nothing"]
    others = accuracy[accuracy["score"] != "nothing"]
    ways = list(dict.fromkeys(others["score"]))
    rows = pd.concat([*(whole.assign(score=way) for way in ways), others])
    rows["accuracy (%)"] = 100 * rows["accuracy"]
    rows["removed (%)"] = 100 * rows["share"]
    keys = ["score", "group", "removed (%)"]
    found = rows.groupby(keys, sort=False)["accuracy (%)"].agg(["mean", "std"])
    found = found.rename(columns={"mean": "accuracy (%)", "std": "sd"}).fillna(0)
    return in_words(found.reset_index())


def headline(tables: Mapping) -> dict:
    """The numbers that the page opens with, for ``page.tell``.

    Args:
        tables: Tables of one record.

    Returns:
        share, the largest that was removed; num_seeds, num_train, num_unseen; points of
        accuracy lost by removing that share: by_curvature, by_loss, by_random,
        by_matched, and rare_curvature and rare_matched for rare classes; rare_removed
        and rare_expected, the share of rare classes among the removed images and among
        all.
    """
    accuracy, classes = tables["accuracy"], tables["classes"]
    change = _largest_share(lost(accuracy))
    points = 100 * change.groupby(["group", "score"])["lost"].mean()
    removed = _largest_share(tables["removed"]).groupby("score")["rare"].mean()
    sizes = classes.groupby("rare")["trained_on"].sum()
    return {
        "share": float(change["share"].iloc[0]),
        "num_seeds": accuracy["seed"].nunique(),
        "num_train": int(accuracy["trained_on"].max()),
        "num_unseen": int(accuracy["images"].max()),
        "by_curvature": points["all", "curvature_norm"],
        "by_loss": points["all", "cumulative_loss"],
        "by_random": points["all", "random"],
        "by_matched": points["all", MATCHED],
        "rare_curvature": points["rare classes", "curvature_norm"],
        "rare_matched": points["rare classes", MATCHED],
        "rare_removed": removed["curvature_norm"],
        "rare_expected": sizes[True] / sizes.sum(),
    }
