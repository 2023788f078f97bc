"""When does curvature find wrong labels?

A tenth of the labels is wrong, and we know which. We train on few and on many images,
with and without augmentation, and ask two things of each run: how many unseen images
does the network get right, and how well does each score find the wrong labels? Single
runs are then followed epoch by epoch.

In place of a network on pixels, a small head can be trained on feature vectors of a
pretrained network; curvature is then taken around the feature vector.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd
from scipy.special import expit, logit
from scipy.stats import rankdata, spearmanr

from curvlib import metrics, scores
from curvlib.studies import Measured, checksums, config_of, published

if TYPE_CHECKING:
    from curvlib.runs.settings import TrainConfig
    from curvlib.trace import Trace

RECIPE = 1
PARTS = ("data", "features", "head", "networks", "scoring", "training")
FIELDS = {  # scores that average a column of the trace over epochs
    "curvature_norm": "mean_hvp_norm",
    "curvature_square": "squared_frobenius_norm",
    "cumulative_loss": "loss",
    "aum": "margin",
}
OF_AUGMENTATION = ("augment_epochs", "restart", "shift")  # settings without use else
ALONE, SO_FAR, ONWARD = "this epoch alone", "epochs up to this", "epochs from this on"
VALUES, RANKS = "values", "ranks"
UNSEEN, LEARNED = "right on unseen", "wrong labels learned"
ENDS = (0.6, 0.8)  # accuracies on unseen images: few, and many, are right
RULE = "the mean error of the curve, over settings that it has not seen, is smaller"

GOAL_RULE = (
    "the network with most unseen images right; undecided unless it gets 80% of them "
    "right and learned 95% of the wrong labels"
)


def measure(
    *,
    dataset: str = "digits",
    image_size: int | None = None,
    num_train: int | None = None,
    num_heldout: int = 300,
    sizes: list[int] | None = None,
    augmented: list[bool] = [False],  # noqa: B006
    noise_rate: float = 0.1,
    seeds: list[int] = [0],  # noqa: B006
    features: str | None = None,
    feature_size: int | None = None,
    hidden: int = 512,
    model: str = "slim_resnet",
    width: int = 16,
    epochs: int = 20,
    lr: float = 0.1,
    batch_size: int = 64,
    schedule: str = "cosine",
    weight_decay: float = 0.0,
    more_settings: dict | None = None,
    precision: str = "float32",
    num_probes: int = 2,
    step: float = 0.001,
    score_every: int = 1,
    runs: str = "runs",
) -> Measured:
    """Train in each setting, and count what each score finds.

    Args: as in the notebook of this name.

    Returns:
        A *run* is named by the columns images (trained on), augmented and seed.

        - ``points``: for each run and score the columns auroc, right on unseen (after
          the last epoch) and wrong labels learned.
        - ``along``: for each run, epoch and score of ``FIELDS`` the column auroc, with
          epochs (``ALONE``, ``SO_FAR`` or ``ONWARD``) and averaged (``VALUES`` or
          ``RANKS``).
        - ``course``: for each run and epoch right on unseen (of heads: after the last
          epoch only), wrong labels learned, other labels learned.
        - ``hard``: as ``hard_images``, for each run.

    Raises:
        ValueError: If there are no held-out images, or no wrong labels.
    """
    asked = locals()
    if num_heldout < 1 or not 0 < noise_rate < 1:
        raise ValueError(
            "this study needs held-out images and wrong labels, got num_heldout = "
            f"{num_heldout} and noise_rate = {noise_rate}"
        )
    # Imported here: a page is drawn without PyTorch.
    from curvlib.studies import costs

    tables: dict[str, list[pd.DataFrame]] = {
        name: [] for name in ("points", "along", "course", "hard")
    }
    traces = []
    for run in (_networks if features is None else _heads)(asked):
        course = run.course()
        last = course.iloc[-1]
        found = {
            "points": aurocs(run.trace, run.wrong).assign(**last[[UNSEEN, LEARNED]]),
            "along": along(run.trace, run.wrong),
            "course": course,
            "hard": hard_images(run.trace, run.wrong, run.before_memorising(asked)),
        }
        for name, table in found.items():
            tables[name].append(table.assign(**run.key))
        traces.append(run.trace)
    return Measured(
        {name: pd.concat(parts, ignore_index=True) for name, parts in tables.items()},
        data=checksums(dataset, image_size=image_size),
        runs=None if features else costs.of_runs(traces),
    )


class _Run(NamedTuple):
    key: dict  # images, augmented, seed
    trace: "Trace"
    unseen: np.ndarray  # accuracy on unseen images at each scored epoch; NaN: unknown

    @property
    def wrong(self) -> np.ndarray:
        """Whether the label given is wrong, bool [N], in index order."""
        samples = self.trace.samples("train")
        return (samples["label"] != samples["original_label"]).to_numpy()

    def course(self) -> pd.DataFrame:
        right, wrong = self.trace.read("correct"), self.wrong
        return pd.DataFrame(
            {
                "epoch": self.trace.epochs,
                UNSEEN: self.unseen,
                LEARNED: right[:, wrong].mean(1),
                "other labels learned": right[:, ~wrong].mean(1),
            }
        )

    def before_memorising(self, asked: Mapping) -> int:
        """Place of the last augmented epoch, or else of the best on unseen images."""
        ends = (asked["more_settings"] or {}).get("augment_epochs")
        if self.key["augmented"] and ends:
            return int(np.flatnonzero(self.trace.epochs <= ends)[-1])
        # A head generalises from the first epoch on; its other accuracies are unknown.
        return 0 if np.isnan(self.unseen).any() else int(np.argmax(self.unseen))


def configs(asked: Mapping) -> "list[TrainConfig]":
    """Settings of the networks of ``measure``, from its parameters."""
    found = []
    for size, augment, seed in product(
        asked["sizes"] or [asked["num_train"]], asked["augmented"], asked["seeds"]
    ):
        more = dict(asked["more_settings"] or {})
        if not augment:
            more = {n: v for n, v in more.items() if n not in OF_AUGMENTATION}
        found.append(
            config_of(
                {n: v for n, v in asked.items() if n != "num_train"}
                | {"more_settings": more},
                num_train=size,
                augment=augment,
                seed=seed,
                score_original_labels=True,  # the same run as in ``mislabelled``
            )
        )
    return found


def _networks(asked: Mapping) -> Iterator[_Run]:
    from curvlib.runs import training

    for config in configs(asked):
        images, heldout = training.prepare(config)
        trace = training.fit(config, images, heldout, runs=asked["runs"])
        unseen = trace.read("correct", "heldout").mean(1)
        key = {"augmented": config.augment, "seed": config.seed}
        yield _Run({"images": len(images)} | key, trace, unseen)


def _heads(asked: Mapping) -> Iterator[_Run]:
    from curvlib.runs import features, head, training

    for seed in asked["seeds"]:
        config = config_of(
            {n: asked[n] for n in ("dataset", "image_size", "num_train", "noise_rate")},
            seed=seed,
        )
        images, _ = training.prepare(config)
        found = features.extract(images, asked["features"], size=asked["feature_size"])
        vectors = head.Vectors.of(found, images)
        # The seed alone would draw the samples with wrong labels once more.
        order = np.random.default_rng([seed, len(vectors)]).permutation(len(vectors))
        unseen = vectors.select(np.sort(order[: asked["num_heldout"]]))
        unseen = unseen.relabelled(unseen.original_labels)
        rest = order[asked["num_heldout"] :]
        for size in asked["sizes"] or [len(rest)]:
            train = vectors.select(np.sort(rest[:size]))
            names = head.HeadConfig.__dataclass_fields__.keys() & asked.keys()
            config = head.HeadConfig(**{n: asked[n] for n in names}, seed=seed)
            trace = head.fit_head(config, train, runs=asked["runs"])
            accuracy = np.full(len(trace.epochs), np.nan)
            accuracy[-1] = head.right(trace, unseen, head.statistics(train)).mean()
            key = {"images": len(train), "augmented": False, "seed": seed}
            yield _Run(key, trace, accuracy)


# ------------------------------------------------------------------ tables of one run


def aurocs(trace: "Trace", wrong: np.ndarray) -> pd.DataFrame:
    """AUROC of every score that a trace gives: columns score, auroc.

    Args:
        trace: A run.
        wrong: Which labels are wrong, bool [N], in index order.
    """
    table = scores.suspicion(scores.compute(trace)).drop(columns=["index", "label"])
    found = {name: metrics.auroc(table[name].to_numpy(), wrong) for name in table}
    return pd.DataFrame({"score": list(found), "auroc": list(found.values())})


def suspicious(trace: "Trace", score: str) -> np.ndarray:
    """What a score of ``FIELDS`` averages, [E, N], high where suspect."""
    return trace.read(FIELDS[score]).astype(np.float64) * scores.SCORES[score].sign


def along(trace: "Trace", wrong: np.ndarray) -> pd.DataFrame:
    """AUROC of averages over parts of a run, of values and of ranks.

    Before ranks are averaged, each epoch's values are replaced by their ranks, so that
    all epochs have the same weight.

    Args:
        trace: A run.
        wrong: Which labels are wrong, bool [N], in index order.

    Returns:
        Columns epoch, score, epochs (``ALONE``, ``SO_FAR`` or ``ONWARD``), averaged
        (``VALUES`` or ``RANKS``), auroc.
    """
    rows = []
    for score in FIELDS:
        values = suspicious(trace, score)
        for averaged, table in ((VALUES, values), (RANKS, rankdata(values, axis=1))):
            for which, summed in (
                (ALONE, table),
                (SO_FAR, np.cumsum(table, 0)),
                (ONWARD, np.cumsum(table[::-1], 0)[::-1]),
            ):
                if which == ALONE and averaged == RANKS:
                    continue  # the same order
                rows += [
                    [epoch, score, which, averaged, metrics.auroc(sums, wrong)]
                    for epoch, sums in zip(trace.epochs, summed, strict=True)
                ]
    columns = ["epoch", "score", "epochs", "averaged", "auroc"]
    return pd.DataFrame(rows, columns=columns)


def hard_images(trace: "Trace", wrong: np.ndarray, place: int) -> pd.DataFrame:
    """Are images with right labels ranked high because they are hard?

    An image with a right label is *hard* if the network did not give that label before
    it began to memorise.

    Args:
        trace: A run.
        wrong: Which labels are wrong, bool [N], in index order.
        place: Of the scored epoch that ends before memorising begins, from 0.

    Returns:
        For each score of ``FIELDS``: epoch; hard (share of the images with a right
        label); hard among false alarms (the same share among those that are flagged,
        as many as there are wrong labels); auroc against all images with right labels,
        against the easy ones and against the hard ones (NaN if there are none).
    """
    right = trace.read("correct")[place]
    groups = {"auroc": ~wrong, "easy": ~wrong & right, "hard": ~wrong & ~right}
    rows = []
    for score in FIELDS:
        values = suspicious(trace, score).mean(0)
        flagged = np.argsort(-values, kind="stable")[: wrong.sum()]
        alarms = flagged[~wrong[flagged]]
        row = {
            "score": score,
            "epoch": trace.epochs[place],
            "share hard": (~right[~wrong]).mean(),
            "hard among false alarms": (~right[alarms]).mean()
            if len(alarms)
            else np.nan,
        }
        for name, group in groups.items():
            kept = wrong | group
            row[name] = (
                metrics.auroc(values[kept], wrong[kept]) if group.any() else np.nan
            )
        rows.append(row)
    return pd.DataFrame(rows).rename(
        columns={"easy": "auroc against easy", "hard": "auroc against hard"}
    )


# ------------------------------------------------------------------ many settings


def points_of(shown: Mapping[str, Mapping]) -> pd.DataFrame:
    """AUROC and accuracy on unseen images of every setting, means over seeds.

    Args:
        shown: Records by label, of this study or of ``mislabelled``. Planted duplicates
            are left out: no network can be right on both copies.

    Returns:
        A row for each setting and score: setting (the label), dataset, kind
        ("network" or "head on pretrained features"), noise, images, augmented,
        noise_rate, score, auroc, right on unseen, wrong labels learned, seeds.
    """
    parts = []
    for label, record in shown.items():
        made = record.parameters
        if record.made["study"] == "regime":
            head = getattr(made, "features", None) is not None
            part = record["points"].assign(
                kind="head on pretrained features" if head else "network",
                noise="symmetric",
                noise_rate=made.noise_rate,
            )
        elif made.planted_duplicates:
            continue
        else:
            keys = ["noise_rate", "seed"]
            fitted = record["fitted"]
            learned = fitted[[*keys, UNSEEN, LEARNED]]
            part = (
                record["metrics"]
                .merge(learned, on=keys)
                .assign(
                    kind="network",
                    noise=made.noise,
                    images=fitted["samples"].iloc[0],
                    augmented=made.augment,
                )
            )
            shares = fitted.set_index(keys)["share wrong"]
            part["noise_rate"] = shares.loc[
                map(tuple, part[keys].to_numpy())
            ].to_numpy()
        parts.append(part.assign(setting=label, dataset=made.dataset))
    kept = ["setting", "dataset", "kind", "noise", "images", "augmented", "noise_rate"]
    means = pd.concat(parts, ignore_index=True).groupby([*kept, "score"], sort=False)
    found = means[["auroc", UNSEEN, LEARNED]].mean()
    return found.assign(seeds=means["seed"].nunique()).reset_index()


def of_score(points: pd.DataFrame, score: str) -> pd.DataFrame:
    """Settings of networks that memorised replaced labels, for one score.

    Heads are apart: their curvature is taken around another input. So are networks that
    learned fewer than half of the wrong labels, which ``unlearned`` lists.

    Args:
        points: Result of ``points_of``.
        score: Name.
    """
    chosen = (points["noise"] == "symmetric") & (points["kind"] == "network")
    chosen &= points[LEARNED] >= 0.5
    return points[chosen & (points["score"] == score)]


def unlearned(points: pd.DataFrame) -> pd.DataFrame:
    """The settings of networks that learned fewer than half of the wrong labels.

    Args:
        points: Result of ``points_of``.

    Returns:
        As ``heads`` returns it.
    """
    return _wide(points[(points["kind"] == "network") & (points[LEARNED] < 0.5)])


def dependence(points: pd.DataFrame) -> pd.DataFrame:
    """Which scores depend most on accuracy on unseen images?

    Args:
        points: Result of ``points_of``, of which ``of_score`` counts.

    Returns:
        A row for each score that every setting has: few and many (mean AUROC of the
        settings with at most ``ENDS[0]``, and at least ``ENDS[1]``, of the unseen
        images right; NaN if there are none), gain (the difference), spearman (with the
        accuracy, over settings; NaN for fewer than three) and settings. The largest
        gain comes first.
    """
    parts = {name: of_score(points, name) for name in points["score"].unique()}
    most = max(len(part) for part in parts.values())
    rows = {}
    for score, part in parts.items():
        if len(part) < most:
            continue
        accuracy, auroc = part[UNSEEN], part["auroc"]
        few, many = auroc[accuracy <= ENDS[0]].mean(), auroc[accuracy >= ENDS[1]].mean()
        enough = len(part) > 2 and auroc.nunique() > 1 and accuracy.nunique() > 1
        rows[score] = {
            "few": few,
            "many": many,
            "gain": many - few,
            "spearman": spearmanr(accuracy, auroc).statistic if enough else np.nan,
            "settings": len(part),
        }
    table = pd.DataFrame.from_dict(rows, orient="index").rename_axis("score")
    return table.sort_values("gain", ascending=False, kind="stable").reset_index()


def curve(accuracy: Sequence[float], auroc: Sequence[float], at: Sequence[float]):
    """AUROC predicted from accuracy, by a straight line between their logits.

    Args:
        accuracy: On unseen images, of settings, in (0, 1).
        auroc: Of the same settings.
        at: Accuracies to predict at.

    Example:
        >>> curve([0.5, 0.9], [0.7, 0.95], at=[0.5, 0.9]).round(2)
        array([0.7 , 0.95])
    """
    small = 1e-3  # an AUROC of 1 has no logit
    x, y, new = (logit(np.clip(v, small, 1 - small)) for v in (accuracy, auroc, at))
    return expit(np.polyval(np.polyfit(x, y, 1), new))


def left_out(points: pd.DataFrame, score: str) -> pd.DataFrame:
    """How well is AUROC predicted for a data set that the curve has not seen?

    Args:
        points: Result of ``points_of``, of which ``of_score`` counts.
        score: Name.

    Returns:
        A row for each data set whose settings were left out: dataset, settings, curve
        and mean (mean absolute errors of ``curve`` and of the mean AUROC, both of the
        settings of all other data sets). No rows for fewer than three data sets.
    """
    part = of_score(points, score)
    rows = []
    for dataset in part["dataset"].unique() if part["dataset"].nunique() > 2 else ():
        held, rest = part[part["dataset"] == dataset], part[part["dataset"] != dataset]
        guess = curve(rest[UNSEEN], rest["auroc"], held[UNSEEN])
        rows.append(
            {
                "dataset": dataset,
                "settings": len(held),
                "curve": np.abs(guess - held["auroc"]).mean(),
                "mean": np.abs(rest["auroc"].mean() - held["auroc"]).mean(),
            }
        )
    return pd.DataFrame(rows, columns=["dataset", "settings", "curve", "mean"])


def helps(errors: pd.DataFrame) -> bool:
    """Whether the curve has the smaller mean error: see ``RULE``; False for no rows."""
    return average_of(errors, "curve") < average_of(errors, "mean")


def fitted_curve(points: pd.DataFrame, score: str, at: np.ndarray) -> np.ndarray:
    """``curve``, fitted to all settings with replaced labels."""
    part = of_score(points, score)
    return curve(part[UNSEEN], part["auroc"], at)


def at_least(value: float, least: float) -> bool | None:
    """Whether a value is as large as it has to be; None if it is not known."""
    return None if np.isnan(value) else bool(value >= least)


def average_of(errors: pd.DataFrame, column: str) -> float:
    """Mean over settings of an error of ``left_out``; NaN if there are no rows."""
    if errors.empty:
        return float("nan")
    return float(np.average(errors[column], weights=errors["settings"]))


def from_published(score: str = "curvature_norm", rate: float = 0.1) -> pd.DataFrame:
    """Published AUROCs of a score; their accuracy on unseen images is not reported.

    Args:
        score: Name.
        rate: Share of labels replaced.

    Returns:
        Rows of ``published.auroc_symmetric_noise``.
    """
    known = published.auroc_symmetric_noise()
    return known[(known["score"] == score) & (known["noise_rate"] == rate)]


# ------------------------------------------------------------------ single runs


RUN = ["images", "augmented", "seed"]


def longest(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of the runs on most images, without augmentation if there are such."""
    most = table[table["images"] == table["images"].max()]
    return most[most["augmented"] == most["augmented"].min()]


def windows(record: Mapping) -> pd.DataFrame:
    """AUROC of averages over all epochs, and over those after generalising.

    Args:
        record: A record of this study.

    Returns:
        For each score of ``FIELDS``, of the runs of ``longest``, means over seeds: the
        best single epoch; and the average over all epochs and over those from the end
        of the augmented ones on (or of the best accuracy on unseen images), of values
        and of ranks.
    """
    table = longest(record["along"])
    turn = longest(record["hard"]).groupby("seed")["epoch"].first()
    from_turn = table["epoch"] == table["seed"].map(turn)
    whole = table["epoch"] == table["epoch"].min()
    parts = {"best single epoch": table[table["epochs"] == ALONE]}
    for words, rows in (("all epochs", whole), ("late epochs", from_turn)):
        for averaged in (VALUES, RANKS):
            kept = rows & (table["epochs"] == ONWARD) & (table["averaged"] == averaged)
            parts[f"{words}, {averaged}"] = table[kept]
    found = {
        words: part.groupby(["score", "seed"])["auroc"].max().groupby("score").mean()
        for words, part in parts.items()
    }
    return pd.DataFrame(found).loc[list(FIELDS)].rename_axis("score").reset_index()


def shares_hard(record: Mapping) -> pd.DataFrame:
    """The table ``hard`` of the runs of ``longest``, means over seeds, by score."""
    means = longest(record["hard"]).groupby("score", sort=False).mean()
    return means.drop(columns=["epoch", *RUN]).reset_index()


def both(row: Mapping, name: str) -> str:
    """A column of ``windows`` beside the score of the paper, as text."""
    return f"{row[name]:.3f} against {row['all epochs, values']:.3f}"


def of_score_along(
    record: Mapping, score: str = "curvature_norm"
) -> dict[str, pd.Series]:
    """AUROC of one score along the runs of ``longest``, means over seeds, by epoch.

    Args:
        record: A record of this study.
        score: One of ``FIELDS``.

    Returns:
        Series indexed by epoch: the three kinds of averages of values, by name, and
        accuracy on unseen images and the share of wrong labels learned.
    """
    table, course = longest(record["along"]), longest(record["course"])
    table = table[(table["score"] == score) & (table["averaged"] == VALUES)]
    found = {
        which: table[table["epochs"] == which].groupby("epoch")["auroc"].mean()
        for which in (ALONE, SO_FAR, ONWARD)
    }
    by_epoch = course.groupby("epoch")
    return found | {name: by_epoch[name].mean() for name in (UNSEEN, LEARNED)}


def heads(points: pd.DataFrame) -> pd.DataFrame:
    """The settings in which a head was trained on pretrained features.

    Args:
        points: Result of ``points_of``.

    Returns:
        A row for each: dataset, images, augmented, right on unseen, wrong labels
        learned, and the AUROC of each score of ``FIELDS``.
    """
    return _wide(points[points["kind"] != "network"])


def _wide(part: pd.DataFrame) -> pd.DataFrame:
    keys = ["dataset", "images", "augmented", UNSEEN, LEARNED]
    wide = part.pivot_table(index=keys, columns="score", values="auroc", sort=False)
    return wide.reindex(columns=list(FIELDS)).reset_index()


def goals(points: pd.DataFrame, dataset: str, score: str) -> pd.DataFrame:
    """Settings of networks on one data set with a tenth of the labels replaced.

    Args:
        points: Result of ``points_of``.
        dataset: As in the points.
        score: Name.

    Returns:
        Rows of ``points_of``, the most unseen images right last.
    """
    part = of_score(points, score)
    part = part[part["dataset"] == dataset]
    return part[np.isclose(part["noise_rate"], 0.1)].sort_values(UNSEEN)


def goal(rows: pd.DataFrame, least: float) -> bool | None:
    """Whether the last row of ``goals`` reaches an AUROC; None by ``GOAL_RULE``."""
    if rows.empty or rows.iloc[-1][UNSEEN] < ENDS[1] or rows.iloc[-1][LEARNED] < 0.95:
        return None
    return bool(rows.iloc[-1]["auroc"] >= least)


def reached(rows: pd.DataFrame) -> str:
    """What the last row of ``goals`` reached, as text."""
    if rows.empty:
        return "not measured"
    last = rows.iloc[-1]
    return (
        f"AUROC {last['auroc']:.3f}, {last[UNSEEN]:.1%} of the unseen images right, "
        f"{last[LEARNED]:.1%} of the wrong labels learned"
    )
