"""How does curvature move during training, and why average over it?

We follow groups of samples through training, compare the score of single epochs with
the mean over epochs, and measure calibration at the peak of curvature and at the end.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from curvlib import metrics
from curvlib.studies import Measured, checksums, config_of, statistics

if TYPE_CHECKING:
    from curvlib.trace import Trace

RECIPE = 1
PARTS = ("data", "networks", "training", "scoring")
SQUARE = "squared_frobenius_norm"  # the curvature of this page, a column of a trace
TRAINED, CLEAN, WRONG, HELDOUT = "training set", "clean", "mislabelled", "held-out"
GROUPS = (TRAINED, CLEAN, WRONG, HELDOUT)
ALONE, SO_FAR = "this epoch alone", "mean so far"
LOWEST_LOSS, PEAK, END = "lowest held-out loss", "highest curvature", "the end"
QUANTILES = {"q05": 0.05, "q25": 0.25, "median": 0.5, "q75": 0.75, "q95": 0.95}
FINDS = "AUROC for mislabelled samples"
MEMORIZATION = "Spearman correlation with memorization"
OTHER_SEEDS = "Spearman correlation with other seeds"
CHANCE = {FINDS: 0.5, MEMORIZATION: 0.0, OTHER_SEEDS: 0.0}  # of a random score
NUM_DRAWN = 20  # calibrated networks drawn for the ECE that chance gives
NOT_MEASURED = "–"  # in a text, as in a table
# Columns of the tables that may have no rows
OF_AVERAGING = ("seed", "epoch", "score", "measure", "value")
OF_DECAY = ("weight_decay", "split", "epoch", "curvature", "accuracy")
OF_DECAY_VALUES = ("weight_decay", "measure", "value")


def measure(
    *,
    dataset: str = "digits",
    num_train: int | None = None,
    num_heldout: int = 300,
    noise_rate: float = 0.1,
    released: str | None = None,
    seeds: list[int] = [0, 1, 2],  # noqa: B006
    model: str = "slim_resnet",
    width: int = 16,
    epochs: int = 30,
    lr: float = 0.1,
    batch_size: int = 64,
    schedule: str = "cosine",
    weight_decay: float = 0.0,
    other_weight_decay: float | None = None,
    augment: bool = False,
    more_settings: dict | None = None,
    precision: str = "float32",
    num_probes: int = 2,
    step: float = 0.001,
    score_every: int = 1,
    runs: str = "runs",
) -> Measured:
    """Train one network for each seed, and follow curvature from epoch to epoch.

    Args: as in the notebook of this name.

    Returns:
        ``groups``: group, samples. ``courses``, of the first seed: for each group and
        scored epoch accuracy, and mean and quantiles of tr(H²). ``shares`` (one row):
        ``lowest`` and ``highest``, over seeds, of the mean curvature of the training
        set at the end as a share of its peak. ``averaging``: seed, epoch, score
        (``ALONE`` or ``SO_FAR``), measure, value; no rows if nothing is known to judge
        a score by. ``calibration``: for each seed and scored epoch the expected
        calibration error (ece), negative log-likelihood in nats (nll) and accuracy on
        held-out images. ``stops``: the same at three epochs, with ``chance``, the ECE
        of a calibrated network. ``weight-decay`` (for each run, split and epoch: mean
        curvature, accuracy) and ``weight-decay-values`` (the score averaged over all
        scored epochs): no rows without another weight decay.

    Raises:
        ValueError: If there are no held-out images, if the two weight decays are equal,
            or if the released scores belong to other images.
        FileNotFoundError: If there is no file of released scores. Everything is raised
            before anything is trained.
    """
    asked = locals()
    if num_heldout < 1:
        raise ValueError(
            f"num_heldout must be at least 1 here, got {num_heldout}: calibration is "
            "measured on held-out images"
        )
    if other_weight_decay == weight_decay:
        raise ValueError(
            f"other_weight_decay must differ from weight_decay, got {weight_decay} for "
            "both; leave it at None to train with one"
        )
    # Here, and not at the top: torch takes seconds, and drawing a page needs none.
    from curvlib.data import released as others
    from curvlib.runs import training
    from curvlib.studies import costs

    configs = [config_of(asked, seed=seed) for seed in seeds]
    images, _ = training.prepare(configs[0])
    known = None if released is None else others.memorization(released, images)
    traces, wrong, by_decay = [], [], {}
    for config in configs:
        images, heldout = training.prepare(config)  # labels depend on the seed
        traces.append(training.fit(config, images, heldout, runs=runs))
        wrong.append(images.mislabelled)
    if other_weight_decay is not None:
        config = config_of(asked, seed=seeds[0], weight_decay=other_weight_decay)
        other = training.fit(config, *training.prepare(config), runs=runs)
        by_decay = {weight_decay: traces[0], other_weight_decay: other}

    curvature = [trace.read(SQUARE).astype(np.float64) for trace in traces]  # [E, N]
    averages = [values.mean(0) for values in curvature]
    name, judges = judged_by(wrong, known, averages)
    shares = [share_left(values.mean(1)) for values in curvature]
    tracked = groups(traces[0], wrong[0])
    parts, moments = calibrations(seeds, traces, curvature)
    return Measured(
        tables={
            "groups": pd.DataFrame(
                {
                    "group": list(tracked),
                    "samples": [right.shape[1] for _, right in tracked.values()],
                }
            ),
            "courses": courses(traces[0].epochs, tracked),
            "shares": pd.DataFrame({"lowest": [min(shares)], "highest": max(shares)}),
            "averaging": averaging(seeds, traces[0].epochs, curvature, name, judges),
            "calibration": parts,
            "stops": moments,
            "weight-decay": decayed(by_decay),
            "weight-decay-values": decay_values(by_decay, name, judges[:1]),
        },
        data=checksums(dataset),
        runs=costs.of_runs([*traces, *by_decay.values()]),
    )


# -------------------------------------------------------------- groups of samples


def groups(
    trace: "Trace", wrong: np.ndarray
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Curvature and correctness of each group of samples, epoch by epoch.

    Args:
        trace: With held-out images.
        wrong: Which training samples are mislabelled, bool [N].

    Returns:
        By group, the one that others are compared with first: tr(H²), float [E, n],
        and whether the network gives the label, bool [E, n].
    """
    masks = {CLEAN: ~wrong, WRONG: wrong} if wrong.any() else {TRAINED: ~wrong}
    curvature, right = trace.read(SQUARE), trace.read("correct")
    found = {name: (curvature[:, m], right[:, m]) for name, m in masks.items()}
    unseen = trace.read(SQUARE, "heldout"), trace.read("correct", "heldout")
    return found | {HELDOUT: unseen}


def courses(
    epochs: np.ndarray, tracked: Mapping[str, tuple[np.ndarray, np.ndarray]]
) -> pd.DataFrame:
    """Accuracy and curvature of each group at each scored epoch.

    Args:
        epochs: Those scored, shape [E].
        tracked: Result of ``groups``.

    Returns:
        Columns group, epoch, accuracy, mean, and the quantiles of ``QUANTILES``.
    """
    parts = []
    for name, (curvature, right) in tracked.items():
        part = {"group": name, "epoch": epochs, "accuracy": right.mean(1)}
        part["mean"] = curvature.mean(1, dtype=np.float64)
        for column, q in QUANTILES.items():
            part[column] = np.quantile(curvature, q, axis=1)
        parts.append(pd.DataFrame(part))
    return pd.concat(parts, ignore_index=True)


def share_left(curve: np.ndarray) -> float:
    """The last value of a curve as a share of its highest.

    Example:
        >>> share_left(np.array([1.0, 4.0, 2.0]))
        0.5
    """
    return float(curve[-1] / curve.max())


def stays(epochs: np.ndarray, values: np.ndarray, level: float = 0.5) -> float:
    """The first scored epoch from which on all values are at the level or above.

    Args:
        epochs: Those scored, shape [E].
        values: Shape [E].
        level: In the unit of the values.

    Returns:
        The epoch; NaN if the last value is below the level.

    Example:
        >>> stays(np.array([2, 4, 6]), np.array([0.6, 0.4, 0.5])), stays([1], [0.4])
        (6.0, nan)
    """
    epochs, values = np.asarray(epochs), np.asarray(values)
    below = np.flatnonzero(values < level)
    start = below[-1] + 1 if len(below) else 0
    return float(epochs[start]) if start < len(epochs) else np.nan


def learned(table: pd.DataFrame) -> pd.DataFrame:
    """When each group is learned, and how much of it at the end.

    Args:
        table: Result of ``courses``.

    Returns:
        Columns group, half (the epoch from which at least half of the group stays
        right; NaN if there is none) and accuracy (at the end).
    """
    rows = [
        {
            "group": name,
            "half": stays(part["epoch"], part["accuracy"]),
            "accuracy": part["accuracy"].iloc[-1],
        }
        for name, part in table.groupby("group", sort=False)
    ]
    return pd.DataFrame(rows)


def learned_late(table: pd.DataFrame) -> bool | None:
    """Whether half of the mislabelled samples is learned later than half of the clean.

    Args:
        table: Result of ``learned``.

    Returns:
        None if no sample is mislabelled. False if half of the clean samples is never
        learned.
    """
    half = table.set_index("group")["half"]
    if WRONG not in half:
        return None
    return bool(half[CLEAN] < (np.inf if np.isnan(half[WRONG]) else half[WRONG]))


def compared(table: pd.DataFrame, peak: int) -> pd.DataFrame:
    """Curvature of each group at the peak and at the end, beside the first group's.

    Args:
        table: Result of ``courses``.
        peak: The epoch at which mean curvature of the training set is highest.

    Returns:
        Columns group, mean (at the peak), mean_times (as a multiple of the first
        group's), median (at the end) and median_times (NaN where the first is 0).
    """
    at_peak = table[table["epoch"] == peak].set_index("group")["mean"]
    at_end = table.groupby("group", sort=False)["median"].last()
    return pd.DataFrame(
        {
            "mean": at_peak,
            "mean_times": at_peak / at_peak.iloc[0],
            "median": at_end,
            "median_times": at_end / (at_end.iloc[0] or np.nan),
        }
    ).reset_index()


# ------------------------------------------------------------------- why average


def judged_by(
    wrong: Sequence[np.ndarray],
    known: np.ndarray | None,
    averages: Sequence[np.ndarray],
) -> tuple[str, list[Callable[[np.ndarray], float]]]:
    """By what a score is judged: labels, else memorization, else the other seeds.

    Args:
        wrong: Which samples are mislabelled, bool [N], for each seed.
        known: Released memorization, shape [N], or None.
        averages: Curvature averaged over epochs, shape [N], for each seed.

    Returns:
        Name of the measure, a key of ``CHANCE``, and for each seed a function from a
        score [N] to a value. There are no functions, and the name is empty, if there is
        nothing to judge by.
    """
    from scipy.stats import spearmanr

    def labels(positive):
        return lambda score: metrics.auroc(score, positive)

    def ranks(reference):
        return lambda score: float(spearmanr(score, reference).statistic)

    if wrong[0].any():
        return FINDS, [labels(positive) for positive in wrong]
    if known is not None:
        return MEMORIZATION, [ranks(known) for _ in averages]
    if len(averages) == 1:
        return "", []
    rest = [[*averages[:k], *averages[k + 1 :]] for k in range(len(averages))]
    return OTHER_SEEDS, [ranks(np.mean(others, axis=0)) for others in rest]


def averaging(
    seeds: Sequence[int],
    epochs: np.ndarray,
    curvature: Sequence[np.ndarray],
    name: str,
    judges: Sequence[Callable[[np.ndarray], float]],
) -> pd.DataFrame:
    """How good the score of each epoch is, and the mean of all scored epochs so far.

    Args:
        seeds: One for each run.
        epochs: Those scored, shape [E].
        curvature: Of each run, shape [E, N].
        name: Name of the measure.
        judges: From a score [N] to a value, for each run; none for no rows.

    Returns:
        Columns seed, epoch, score (``ALONE`` or ``SO_FAR``), measure and value.
    """
    rows = []
    for seed, values, judge in zip(seeds, curvature, judges, strict=False):
        running = np.cumsum(values, axis=0) / np.arange(1, len(values) + 1)[:, None]
        for kind, scored in ((ALONE, values), (SO_FAR, running)):
            for epoch, score in zip(epochs, scored, strict=True):
                rows.append((seed, int(epoch), kind, name, judge(score)))
    return pd.DataFrame(rows, columns=OF_AVERAGING)


def over_seeds(
    table: pd.DataFrame, column: str, by: Sequence[str] = ("epoch",)
) -> pd.DataFrame:
    """Mean and standard deviation over seeds.

    Args:
        table: A row for each seed and whatever ``by`` names.
        column: Of the values.
        by: Columns that stay.

    Returns:
        Those columns, mean and sd (n - 1; 0 for one seed).
    """
    found = table.groupby(list(by), sort=False)[column].agg(["mean", "std"])
    return found.rename(columns={"std": "sd"}).fillna({"sd": 0.0}).reset_index()


def reached(table: pd.DataFrame) -> pd.DataFrame:
    """What single epochs reach, and the mean over all scored epochs.

    Args:
        table: Result of ``averaging``.

    Returns:
        Three rows: the mean over all scored epochs, the best single epoch (by its mean
        over seeds, which nobody knows in advance), and the last epoch alone. Columns
        score, epoch, mean and text (mean ± standard deviation over seeds). NaN, and a
        dash as text, where the table has no rows.
    """
    names = ("mean of all scored epochs", "best single epoch", "last epoch alone")
    if table.empty:
        rows = [(name, np.nan, np.nan, NOT_MEASURED) for name in names]
        return pd.DataFrame(rows, columns=["score", "epoch", "mean", "text"])
    last = table["epoch"].max()
    single = table[table["score"] == ALONE].groupby("epoch")["value"].mean()
    rows = []
    chosen = ((SO_FAR, last), (ALONE, single.idxmax()), (ALONE, last))
    for name, (kind, epoch) in zip(names, chosen, strict=True):
        part = table[(table["score"] == kind) & (table["epoch"] == epoch)]["value"]
        rows.append((name, float(epoch), part.mean(), statistics.mean_sd(part)))
    return pd.DataFrame(rows, columns=["score", "epoch", "mean", "text"])


def measure_of(table: pd.DataFrame) -> str:
    """By what scores are judged, for a text.

    Args:
        table: Result of ``averaging``.
    """
    return "not judged" if table.empty else str(table["measure"].iloc[0])


def beats(table: pd.DataFrame) -> dict[str, bool | None]:
    """Whether the mean over epochs beats single epochs, in every seed.

    Args:
        table: Result of ``averaging``.

    Returns:
        ``"last"`` (against the last epoch) and ``"every"`` (against each epoch of the
        same seed), each as ``in_every_seed`` has it.
    """
    values = table.set_index(["score", "seed", "epoch"])["value"].sort_index()
    alone, so_far = (
        values[values.index.get_level_values("score") == kind].groupby("seed")
        for kind in (ALONE, SO_FAR)
    )
    end = so_far.last()
    return {
        "last": in_every_seed(end > alone.last()),
        "every": in_every_seed(end > alone.max()),
    }


def in_every_seed(holds: Sequence[bool]) -> bool | None:
    """True if something holds in every seed, False if in none, None otherwise.

    Example:
        >>> in_every_seed([True, True]), in_every_seed([True, False])
        (True, None)
        >>> in_every_seed([False]), in_every_seed([])
        (False, None)
    """
    seen = {bool(value) for value in holds}
    return seen.pop() if len(seen) == 1 else None


# ------------------------------------------------------------------ where to stop


def calibrations(
    seeds: Sequence[int], traces: Sequence["Trace"], curvature: Sequence[np.ndarray]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Calibration at every scored epoch, and at three epochs where one might stop.

    Args:
        seeds: One for each run.
        traces: The runs, with held-out images.
        curvature: Of the training set in each run, shape [E, N].

    Returns:
        The tables ``calibration`` and ``stops`` of ``measure``.
    """
    parts, moments = [], []
    rng = np.random.default_rng(0)
    for seed, trace, values in zip(seeds, traces, curvature, strict=True):
        sure = trace.read("max_probability", "heldout").astype(np.float64)
        hit = trace.read("correct", "heldout")
        loss = trace.read("loss", "heldout")
        part = calibration(trace.epochs, sure, hit, loss)
        part.insert(0, "seed", seed)
        parts.append(part)
        for name, row in stops(part["nll"], values.mean(1)).items():
            chance = calibrated(sure[row], rng)
            moments.append(part.iloc[[row]].assign(stop_at=name, chance=chance))
    return pd.concat(parts, ignore_index=True), pd.concat(moments, ignore_index=True)


def calibration(
    epochs: np.ndarray, sure: np.ndarray, hit: np.ndarray, loss: np.ndarray
) -> pd.DataFrame:
    """Calibration on held-out images at every scored epoch.

    Args:
        epochs: Those scored, shape [E].
        sure: Probability of the predicted class, shape [E, n].
        hit: Whether it is the label, bool [E, n].
        loss: In nats, shape [E, n].

    Returns:
        Columns epoch, ece (15 bins), nll (in nats) and accuracy.
    """
    errors = [
        statistics.expected_calibration_error(*both)
        for both in zip(sure, hit, strict=True)
    ]
    return pd.DataFrame(
        {
            "epoch": epochs,
            "ece": errors,
            "nll": loss.mean(1, dtype=np.float64),
            "accuracy": hit.mean(1),
        }
    )


def stops(nll: np.ndarray, curve: np.ndarray) -> dict[str, int]:
    """Positions of the epochs where one might stop.

    Args:
        nll: Held-out loss, shape [E].
        curve: Mean curvature of the training set, shape [E].

    Returns:
        By ``LOWEST_LOSS``, ``PEAK`` and ``END``.
    """
    return {
        LOWEST_LOSS: int(np.argmin(nll)),
        PEAK: int(np.argmax(curve)),
        END: len(curve) - 1,
    }


def calibrated(sure: np.ndarray, rng: np.random.Generator) -> float:
    """The ECE that a calibrated network gets by chance, from so few images.

    Args:
        sure: Probability of the predicted class, shape [n].
        rng: Decides which predictions of the calibrated network are right.

    Returns:
        Mean over ``NUM_DRAWN`` draws.
    """
    drawn = [
        statistics.expected_calibration_error(sure, rng.random(len(sure)) < sure)
        for _ in range(NUM_DRAWN)
    ]
    return float(np.mean(drawn))


def at(table: pd.DataFrame, stop: str) -> pd.DataFrame:
    """Rows of one stop, by seed.

    Args:
        table: As ``stops`` of ``measure``.
        stop: ``LOWEST_LOSS``, ``PEAK`` or ``END``.

    Returns:
        The other columns, with the seed as index.
    """
    return table[table["stop_at"] == stop].set_index("seed").drop(columns="stop_at")


def stops_in_words(table: pd.DataFrame) -> pd.DataFrame:
    """Mean ± standard deviation over seeds at each stop, as texts.

    Args:
        table: As ``stops`` of ``measure``.

    Returns:
        Columns stop_at, epoch, accuracy, nll, ece and chance, one row for each stop;
        the value alone where there is one seed.
    """
    digits = {"epoch": 1, "accuracy": 3, "nll": 3, "ece": 3, "chance": 3}
    rows = [
        {"stop_at": stop}
        | {
            column: statistics.mean_sd(part[column], places).removesuffix(" (one seed)")
            for column, places in digits.items()
        }
        for stop, part in table.groupby("stop_at", sort=False)
    ]
    return pd.DataFrame(rows)


def peaks_within(table: pd.DataFrame, epochs: pd.Series) -> bool | None:
    """Whether curvature is highest neither at the first scored epoch nor at the last.

    Args:
        table: As ``stops`` of ``measure``.
        epochs: Those scored.

    Returns:
        As ``in_every_seed`` has it.
    """
    peaks = at(table, PEAK)["epoch"]
    return in_every_seed((peaks > epochs.min()) & (peaks < epochs.max()))


# ------------------------------------------------------------------- weight decay


def decayed(by_decay: Mapping[float, "Trace"]) -> pd.DataFrame:
    """Mean curvature and accuracy of runs with different weight decays.

    Args:
        by_decay: The runs; none for no rows.

    Returns:
        Columns weight_decay, split (``train`` or ``heldout``), epoch, curvature (mean
        tr(H²)) and accuracy (by the label given).
    """
    parts = [
        pd.DataFrame(
            {
                "weight_decay": decay,
                "split": split,
                "epoch": run.epochs,
                "curvature": run.read(SQUARE, split).mean(1, dtype=np.float64),
                "accuracy": run.read("correct", split).mean(1),
            }
        )
        for decay, run in by_decay.items()
        for split in ("train", "heldout")
    ]
    if not parts:
        return pd.DataFrame(columns=OF_DECAY)
    return pd.concat(parts, ignore_index=True)


def decay_values(
    by_decay: Mapping[float, "Trace"],
    name: str,
    judges: Sequence[Callable[[np.ndarray], float]],
) -> pd.DataFrame:
    """How good the score averaged over epochs is, for each weight decay.

    Args:
        by_decay: Runs of one seed; none for no rows.
        name: Name of the measure.
        judges: One, for that seed, or none for no rows. The other seeds judge nothing
            here: they have one of the weight decays.

    Returns:
        Columns weight_decay, measure and value.
    """
    rows = [
        (decay, name, judge(run.read(SQUARE).mean(0, dtype=np.float64)))
        for judge in judges
        for decay, run in by_decay.items()
        if name != OTHER_SEEDS
    ]
    return pd.DataFrame(rows, columns=OF_DECAY_VALUES)


def decay_summary(table: pd.DataFrame, values: pd.DataFrame) -> pd.DataFrame:
    """One row for each weight decay.

    Args:
        table: Result of ``decayed``.
        values: Result of ``decay_values``.

    Returns:
        Columns weight_decay, peak (epoch of the highest mean curvature of the training
        set), left (share of it at the end), accuracy (held-out, at the end) and value
        (of the score averaged over epochs; NaN where it was not judged).
    """
    judged = dict(zip(values["weight_decay"], values["value"], strict=True))
    rows = []
    for decay, part in table.groupby("weight_decay", sort=False):
        curve = part[part["split"] == "train"].set_index("epoch")["curvature"]
        unseen = part[part["split"] == "heldout"]["accuracy"].iloc[-1]
        left = share_left(curve.to_numpy())
        rows.append((decay, curve.idxmax(), left, unseen, judged.get(decay, np.nan)))
    return pd.DataFrame(
        rows, columns=["weight_decay", "peak", "left", "accuracy", "value"]
    )


def runs_of(table: pd.DataFrame) -> pd.DataFrame:
    """The same table with a column ``run`` that names split and weight decay.

    Args:
        table: Result of ``decayed``.
    """
    words = table["split"].map({"train": TRAINED, "heldout": HELDOUT})
    return table.assign(run=words + ", " + table["weight_decay"].map("{:g}".format))


# ------------------------------------------------------------- several data sets


def stacked(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """The tables below each other, with a first column that names the data set.

    Args:
        tables: By label.

    Example:
        >>> one = pd.DataFrame({"epoch": [3]})
        >>> stacked({"digits": one, "MNIST": one})["data set"].tolist()
        ['digits', 'MNIST']
    """
    parts = [table.copy() for table in tables.values()]
    for label, part in zip(tables, parts, strict=True):
        part.insert(0, "data set", label)
    return pd.concat(parts, ignore_index=True)


def peak_table(records: Mapping[str, Mapping]) -> pd.DataFrame:
    """Where mean curvature peaks, and what is left of it at the end.

    Args:
        records: Records of this study, by label.

    Returns:
        Columns data set, epochs (of training), peak (its epoch in each seed, a text),
        lowest and highest (share of the peak that is left at the end, over seeds).
    """
    rows = []
    for label, record in records.items():
        left = record["shares"].iloc[0]
        rows.append(
            {
                "data set": label,
                "epochs": record.parameters.epochs,
                "peak": ", ".join(map(str, at(record["stops"], PEAK)["epoch"])),
                "lowest": left["lowest"],
                "highest": left["highest"],
            }
        )
    return pd.DataFrame(rows)


def decay_table(records: Mapping[str, Mapping]) -> pd.DataFrame:
    """The runs with two weight decays, of the data sets that have them.

    Args:
        records: Records of this study, by label.

    Returns:
        Columns data set and those of ``decay_summary``; the peak as a whole number.
    """
    found = {
        label: decay_summary(record["weight-decay"], record["weight-decay-values"])
        for label, record in records.items()
        if len(record["weight-decay"])
    }
    if not found:
        return pd.DataFrame(columns=["data set", "weight_decay"])
    return stacked(found).astype({"peak": int})
