"""Which score finds wrong labels best?

Some of the training labels are wrong, and we know which. For each share of wrong labels
and each seed we train one network until it has memorised its labels. Every score ranks
the samples by the same trace, under the labels that were trained on. Two scores need a
second training, on halves of the samples.

``curvlib.studies.wrong_label_tables`` reads the tables of this study for the page.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd

from curvlib import metrics, scores
from curvlib.studies import Measured, checksums, config_of, detection

if TYPE_CHECKING:
    from curvlib.data import Images
    from curvlib.runs.settings import TrainConfig
    from curvlib.trace import Trace

RECIPE = 1
PARTS = ("data", "networks", "training", "scoring", "halves")
NUM_TOP = 40  # images kept that have the highest curvature
NUM_FOOLED = 5  # false alarms kept of each method, and as many misses
METHODS = (  # whose mistakes are kept, where they were run
    "curvature_norm",
    "curvature_last",
    "cumulative_loss",
    "cumulative_gradient",
    "aum",
    "el2n",
    "forgetting_events",
    "confident_learning",
    "second_split_forgetting",
)
NUM_KEPT = 20_000  # samples of which every score is kept
KEPT = (  # of more samples
    "curvature_square",
    "curvature_norm",
    "curvature_last",
    "cumulative_loss",
    "aum",
    "in_confidence_max_last",
)
SETS = {  # scores that are combined
    "aum": ["aum"],
    "aum + curvature": ["aum", "curvature_norm"],
    "cumulative loss": ["cumulative_loss"],
    "cumulative loss + curvature": ["cumulative_loss", "curvature_norm"],
    "aum + cumulative loss + el2n": ["aum", "cumulative_loss", "el2n"],
    "aum + cumulative loss + el2n + curvature": [
        "aum",
        "cumulative_loss",
        "el2n",
        "curvature_norm",
    ],
}


def measure(
    *,
    dataset: str = "digits",
    num_train: int | None = None,
    num_heldout: int = 0,
    num_unseen: int = 2000,
    noise: str = "symmetric",
    noise_rate: float = 0.1,
    noise_rates: list[float] | None = None,
    planted_duplicates: int = 0,
    seed: int = 0,
    seeds: list[int] | None = None,
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
    second_epochs: int = 5,
    halves_rates: list[float] | None = None,
    num_timed: int = 256,
    runs: str = "runs",
) -> Measured:
    """Train a network for each share and seed, and count what each score finds.

    Args: as in the notebook of this name.

    Returns:
        The *main* share of wrong labels is that of ``main_rate``; the *first* seed is
        the first one given. Scores are high where a sample is suspect.

        - ``metrics``: for each score, noise rate and seed the columns of
          ``detection.measure``.
        - ``leaked``: the same with wrong labels scored under the true ones, without
          the bootstrap interval.
        - ``fitted``: a row for each noise rate and seed; numbers of samples and of
          wrong labels, shares learned, accuracy on unseen images, settings.
        - ``course``, with held-out images only: for each noise rate, seed and scored
          epoch the columns right on unseen, wrong labels learned, other labels learned.
        - ``scores.parquet``: every score of every sample at the main share, by seed; of
          more than ``NUM_KEPT`` samples those in ``KEPT`` only.
        - ``cost``: trainings and seconds of one run with each score.
        - ``combined``: AUROC of each of ``SETS`` at the main share, by seed.
        - ``fooled``: the worst mistakes of ``METHODS``, first seed.
        - ``top``: index of the samples with the highest curvature, first seed.
        - ``shown`` and ``images``: index and uint8 pixels [n, H, W, C] of the images in
          ``top`` and ``fooled``; ``classes``: names.
        - ``planted`` and ``copies``, with planted duplicates only: AUROC counted both
          ways; index and source of each copy, by seed.

    Raises:
        ValueError: If a noise rate is not between 0 and 1, or there is no seed.
    """
    asked = locals()
    from curvlib.studies import costs  # imports torch, which drawing does without

    rates = rates_of(noise, noise_rate, noise_rates, planted_duplicates)
    seeds = [seed] if seeds is None else seeds
    if not seeds:
        raise ValueError("seeds must hold at least one seed, got none")
    main = main_rate(rates)
    unseen = None if num_heldout else _unseen(dataset, num_unseen)
    found, leaked, fitted, course, traces, of_main = [], [], [], [], [], {}
    for rate in rates:
        for number in seeds:
            config = config_of(
                asked, noise_rate=rate, seed=number, score_original_labels=True
            )
            on_halves = halves_rates is None or rate in halves_rates
            run = _run(config, second_epochs if on_halves else 0, runs)
            key = {"noise_rate": rate, "seed": number}
            found.append(detection.measure(run.table, run.wrong).assign(**key))
            leaked.append(_leaked(run, number).assign(**key))
            fitted.append(key | _fitted(run, config, unseen))
            if num_heldout:
                course.append(_course(run).assign(**key))
            traces.append(run.trace)
            if rate == main:
                of_main[number] = run if number == seeds[0] else run.without_pixels()
    first = of_main[seeds[0]]
    trainings, seconds = _cost(first, asked, of_main.values())
    fooled = fooled_by(first.table, first.wrong, first.samples["index"].to_numpy())
    order = np.argsort(-first.table["curvature_square"].to_numpy(), kind="stable")
    top = first.samples["index"].to_numpy()[order[:NUM_TOP]]
    shown = np.unique(np.concatenate([top, fooled["index"]]))
    rows = pd.Index(first.images.index).get_indexer(shown)
    tables = {
        "metrics": pd.concat(found, ignore_index=True),
        "leaked": pd.concat(leaked, ignore_index=True).drop(columns=["low", "high"]),
        "fitted": pd.DataFrame(fitted),
        "scores.parquet": pd.concat(
            [_scores(run, number) for number, run in of_main.items()],
            ignore_index=True,
        ),
        "cost": pd.DataFrame(
            {
                "score": trainings.index,
                "trainings": trainings.to_numpy(),
                "seconds": trainings.to_numpy() * seconds,
            }
        ),
        "combined": pd.concat(
            [
                combine(run.table, run.wrong, seed=number).assign(seed=number)
                for number, run in of_main.items()
            ],
            ignore_index=True,
        ),
        "fooled": fooled,
        "top": pd.DataFrame({"index": top}),
        "classes": pd.DataFrame({"class": first.images.classes}),
        "shown": pd.DataFrame({"index": shown}),
        "images": first.images.select(rows).images[:],
    }
    if course:
        tables["course"] = pd.concat(course, ignore_index=True)
    if planted_duplicates:
        tables["planted"] = pd.concat(
            [
                planted_both_ways(
                    run.table,
                    run.samples["index"].to_numpy(),
                    run.samples["source"].to_numpy(),
                ).assign(seed=number)
                for number, run in of_main.items()
            ],
            ignore_index=True,
        )
        tables["copies"] = pd.concat(
            [_copies(run, number) for number, run in of_main.items()],
            ignore_index=True,
        )
    return Measured(tables, data=checksums(dataset), runs=costs.of_runs(traces))


def rates_of(
    noise: str,
    noise_rate: float,
    noise_rates: Sequence[float] | None,
    planted_duplicates: int,
) -> list[float]:
    """Noise rates to train at: those given, or 0 where labels are wrong in another way.

    Args:
        noise: As in ``TrainConfig``; labels that people gave have a share of their own.
        noise_rate: Used where ``noise_rates`` is None.
        noise_rates: Several.
        planted_duplicates: Copies under a wrong label, in place of replaced labels.

    Raises:
        ValueError: If labels are to be replaced, and a rate is not between 0 and 1.

    Example:
        >>> rates_of("pair", 0.1, None, 0), rates_of("human_worse", 0.1, None, 0)
        ([0.1], [0.0])
    """
    if noise.startswith("human") or planted_duplicates:
        return [0.0]
    rates = [noise_rate] if noise_rates is None else list(noise_rates)
    if not rates or not all(0 < rate < 1 for rate in rates):
        raise ValueError(
            f"noise rates must lie between 0 and 1, got {rates}; give noise_rate or "
            "noise_rates, such as [0.05, 0.1]"
        )
    return rates


def main_rate(rates: Sequence[float]) -> float:
    """The noise rate that most tables are about: 0.1 if it is there, else the largest.

    Example:
        >>> main_rate([0.01, 0.1, 0.2]), main_rate([0.01, 0.2])
        (0.1, 0.2)
    """
    return 0.1 if 0.1 in rates else max(rates)


class _Run(NamedTuple):
    """One training run and its scores; all rows are in index order."""

    trace: "Trace"
    images: "Images | None"
    samples: pd.DataFrame  # index, label, original_label, source
    table: pd.DataFrame  # one column per score, high is suspect
    never_forgotten: float  # share of the wrong labels, after the second half

    @property
    def wrong(self) -> np.ndarray:
        """Whether the label given is wrong, bool [N]."""
        return (self.samples["label"] != self.samples["original_label"]).to_numpy()

    def without_pixels(self) -> "_Run":
        """The same without its images, of which one copy is enough."""
        return self._replace(images=None)


def _run(config: "TrainConfig", second_epochs: int, runs: str) -> _Run:
    from curvlib.runs import halves, training

    images, heldout = training.prepare(config)
    trace = training.fit(config, images, heldout, runs=runs)
    table = scores.suspicion(scores.compute(trace, seed=config.seed))
    table = table.drop(columns=["index", "label"])
    columns = {"gauss_newton": halves.gauss_newton(trace, images)}
    never_forgotten = float("nan")
    if second_epochs:
        both = halves.train_on_halves(
            config, images, second_epochs=second_epochs, runs=runs
        )
        confidence = halves.confident_learning(both.probabilities, images.labels)
        forgotten = halves.second_split_forgetting(both.correct)
        order = np.argsort(images.index)  # the trace has its samples by index
        columns |= {
            "confident_learning": confidence[order],
            "second_split_forgetting": forgotten[order],
        }
        # Still right after the last epoch on the second half.
        never_forgotten = both.correct[-1][images.mislabelled].mean()
    table = table.assign(**halves.suspicion(columns))
    table = table[[name for name in table if name != "random"] + ["random"]]
    return _Run(trace, images, trace.samples("train"), table, never_forgotten)


def _leaked(run: _Run, seed: int) -> pd.DataFrame:
    """Measures of every score if samples are scored under their true labels."""
    under_original = detection.UnderOriginalLabels(run.trace)
    table = scores.suspicion(scores.compute(under_original, seed=seed))
    table = table.drop(columns=["index", "label"])
    return detection.measure(table, run.wrong, num_resamples=1)


def _unseen(dataset: str, count: int) -> "Images | None":
    if not count:
        return None
    from curvlib.data import load

    test = load(dataset, split="test")
    return test.select(np.arange(min(count, len(test))))


def _fitted(run: _Run, config: "TrainConfig", unseen: "Images | None") -> dict:
    """What a run learned, and what it was."""
    right, wrong = run.trace.read("correct")[-1], run.wrong
    accuracy = float("nan")
    if config.num_heldout:
        accuracy = run.trace.read("correct", "heldout")[-1].mean()
    elif unseen is not None:
        from curvlib.runs import scoring, training
        from curvlib.runs.devices import best_device

        p = scoring.probabilities(
            training.trained_model(run.trace).to(best_device()),
            unseen,
            scaling=(run.trace.info["mean"], run.trace.info["std"]),
        )
        accuracy = (p.argmax(1) == unseen.labels).mean()
    return {
        "samples": len(wrong),
        "wrong labels": int(wrong.sum()),
        "share wrong": wrong.mean(),
        "wrong labels learned": right[wrong].mean(),
        "other labels learned": right[~wrong].mean(),
        "right on unseen": accuracy,
        "wrong never forgotten": run.never_forgotten,
        "dataset": run.images.name,
        "noise": config.noise,
        "planted_duplicates": config.planted_duplicates,
        "model": config.model,
    }


def _course(run: _Run) -> pd.DataFrame:
    """Accuracy at each scored epoch, on held-out images and on the labels given."""
    right, wrong = run.trace.read("correct"), run.wrong
    return pd.DataFrame(
        {
            "epoch": run.trace.epochs,
            "right on unseen": run.trace.read("correct", "heldout").mean(1),
            "wrong labels learned": right[:, wrong].mean(1),
            "other labels learned": right[:, ~wrong].mean(1),
        }
    )


def _scores(run: _Run, seed: int) -> pd.DataFrame:
    """Scores of every sample, as they are kept."""
    table = run.table if len(run.table) <= NUM_KEPT else run.table[list(KEPT)]
    # Nearly all values of confident learning are close to 1; as float32 many would tie.
    small = {name: "float32" for name in table if name != "confident_learning"}
    return table.astype(small).assign(
        seed=seed,
        index=run.samples["index"],
        label=run.samples["label"].astype("int16"),
        original_label=run.samples["original_label"].astype("int16"),
    )


def _copies(run: _Run, seed: int) -> pd.DataFrame:
    samples = run.samples[run.samples["source"] != run.samples["index"]]
    return pd.DataFrame(
        {"seed": seed, "index": samples["index"], "source": samples["source"]}
    )


def _cost(
    first: _Run, asked: Mapping, of_main: Iterable[_Run]
) -> tuple[pd.Series, float]:
    """Trainings that each score needs, and seconds of the fastest training."""
    import torch

    from curvlib.data import normalise
    from curvlib.runs import training
    from curvlib.runs.devices import best_device
    from curvlib.studies import costs

    images, info = first.images, first.trace.info
    device = best_device()
    count = min(asked["num_timed"], len(images))
    chosen = np.linspace(0, len(images) - 1, count).astype(int)
    timing = costs.measure(
        training.trained_model(first.trace).to(device),
        normalise(images.select(chosen).tensor().to(device), info["mean"], info["std"]),
        torch.from_numpy(images.labels[chosen]).to(device),
        batch_size=asked["batch_size"],
        num_probes=(asked["num_probes"],),
        step=asked["step"],
        repeats=5,
    )
    trainings = trainings_of_scores(
        timing,
        epochs=asked["epochs"],
        scored_epochs=len(first.trace.epochs),
        num_probes=asked["num_probes"],
        second_epochs=asked["second_epochs"],
    )
    # The fastest run: whatever else a machine does only ever makes one slower.
    fastest = min(run.trace.log()["train_seconds"].sum() for run in of_main)
    return trainings.reindex(first.table.columns), fastest


def trainings_of_scores(
    timing: pd.DataFrame,
    *,
    epochs: int,
    scored_epochs: int,
    num_probes: int,
    second_epochs: int,
) -> pd.Series:
    """Training and scoring of one run with each score; a training alone is 1.

    Args:
        timing: Result of ``costs.measure``.
        epochs: Of the training.
        scored_epochs: How many of them were scored.
        num_probes: Number of probes.
        second_epochs: On the second half of the samples.

    Returns:
        Trainings, by score; those of ``curvlib.runs.halves`` and random included.
    """
    from curvlib.studies import costs

    of_trace = costs.of_scores(timing, epochs=epochs, num_probes=num_probes)
    cost = detection.cost_in_trainings(
        of_trace, epochs=epochs, scored_epochs=scored_epochs
    )
    ratio = timing.groupby("what")["over_training"].median()
    cost["gauss_newton"] = 1 + ratio["Gauss-Newton"] / epochs
    cost["confident_learning"] = 1.0  # two trainings on half of the samples each
    cost["second_split_forgetting"] = 1 + second_epochs / epochs
    cost["random"] = 0.0
    return cost


def fooled_by(
    table: pd.DataFrame,
    wrong: np.ndarray,
    index: np.ndarray,
    *,
    count: int = NUM_FOOLED,
) -> pd.DataFrame:
    """The samples that fool each of ``METHODS`` most.

    Args:
        table: One column per score, high is suspect, N rows.
        wrong: The truth, bool [N].
        index: Index of the samples, int [N].
        count: False alarms of each score, and as many misses.

    Returns:
        Columns score; kind, ``"false alarm"`` (a right label that it suspects most) or
        ``"missed"`` (a wrong label that it suspects least); index; rank, 1 for the most
        suspect of all samples; tied, how many samples share that rank.
    """
    rows = []
    for name in (name for name in METHODS if name in table):
        score = table[name].to_numpy()
        ranks = pd.Series(-score).rank(method="min").astype(int).to_numpy()
        tied = np.bincount(ranks)[ranks]
        alarms, misses = detection.suspicious_and_missed(score, wrong, count)
        rows += [
            {
                "score": name,
                "kind": kind,
                "index": index[i],
                "rank": ranks[i],
                "tied": tied[i],
            }
            for kind, places in (("false alarm", alarms), ("missed", misses))
            for i in places
        ]
    return pd.DataFrame(rows)


def combine(table: pd.DataFrame, wrong: np.ndarray, *, seed: int) -> pd.DataFrame:
    """AUROC of the ``SETS`` of scores, combined in two ways.

    Args:
        table: One column per score, high is suspect, N rows.
        wrong: The truth, bool [N]. With fewer than 5 wrong labels there is no logistic
            regression.
        seed: Seed of the folds.

    Returns:
        Columns scores (a key of ``SETS``), how (``"rank average"`` or ``"logistic"``)
        and auroc.
    """
    rows = []
    for name, members in SETS.items():
        joined = {"rank average": detection.rank_average(table[members])}
        if wrong.sum() >= 5:
            joined["logistic"] = detection.logistic(table[members], wrong, seed=seed)
        rows += [
            {"scores": name, "how": how, "auroc": metrics.auroc(score, wrong)}
            for how, score in joined.items()
        ]
    return pd.DataFrame(rows)


def copies_and_both(
    index: np.ndarray, source: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Which samples are planted copies, and which are a copy or its original.

    Args:
        index: Index of the samples, int [N].
        source: Index of the original of a copy, else the sample's own, int [N].

    Returns:
        Two masks, bool [N].

    Example:
        >>> copies_and_both(np.array([0, 1, 7]), np.array([0, 1, 1]))
        (array([False, False,  True]), array([False,  True,  True]))
    """
    copies = source != index
    return copies, copies | np.isin(index, source[copies])


def planted_both_ways(
    table: pd.DataFrame, index: np.ndarray, source: np.ndarray
) -> pd.DataFrame:
    """AUROC for planted duplicates, both images counted as found, or the copy alone.

    Args:
        table: One column per score, high is suspect, N rows.
        index: As for ``copies_and_both``.
        source: Likewise.

    Returns:
        Columns score, ``both copies`` and ``only the wrong one``.
    """
    copies, both = copies_and_both(index, source)
    return pd.DataFrame(
        [
            {
                "score": name,
                "both copies": metrics.auroc(table[name].to_numpy(), both),
                "only the wrong one": metrics.auroc(table[name].to_numpy(), copies),
            }
            for name in table
        ]
    )
