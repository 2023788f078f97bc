"""What does a network memorise of photographs in class folders?

The photographs stay in their files and are decoded when they are needed. One network
is trained for each seed, by one process or by many under ``torchrun``. The study also
looks for duplicates, compares curvature with the other scores, and estimates what a run
at the scale of the paper takes.
"""

import os
import time
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy.stats import spearmanr

from curvlib.studies import Measured, checksums, compact, config_of, gallery, statistics

if TYPE_CHECKING:
    from curvlib.data import Images
    from curvlib.trace import Trace

RECIPE = 1
PARTS = ("data", "networks", "training", "scoring")
ROWS = 4  # rows of images at either end of the whole ranking
NUM_CLASSES = 50  # classes at most whose images at the ends are kept
NUM_PAIRS = 12  # pairs whose images are kept
NUM_CLOSEST = 6  # pairs kept that come closest to the threshold, if none is above it
SIDE = 112  # pixels: larger images are kept smaller
WORDS = {  # for the columns of the page's tables
    "split": "photographs",
    "curvature": "mean curvature",
    "similarity": "correlation of details",
    "conflict": "different labels",
    "first_index": "first image",
    "second_index": "second image",
    "reference": "compared with",
    "spearman": "Spearman",
    "seconds_per_sample": "seconds for an image",
    "gflop_per_sample": "10⁹ operations for an image",
    "passes": "epochs",
    "total_flop": "operations",
    "state_gib": "weights, gradients, momentum (GiB)",
    "activation_mib": "kept of an image for the backward pass (MiB)",
    "trace_gib": "trace on disk, before compression (GiB)",
    "decode_ms": "decoding an image here (ms)",
    "train": "trained on",
    "heldout": "never trained on",
}
FILES = ["index", "path", "class", "status", "remark", "bytes", "crc32"]
PAIRS = ["similarity", "conflict", "first_index", "second_index", "first_label"]
PAIRS += ["second_label", "place", "above"]


def measure(
    *,
    dataset: str = "digits",
    image_size: int | None = None,
    broken_files: str = "stop",
    num_train: int | None = None,
    num_heldout: int = 0,
    released: str | None = None,
    seeds: list[int] = [0, 1],  # noqa: B006
    model: str = "slim_resnet",
    width: int = 16,
    epochs: int = 20,
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
    num_shown: int = 8,
    paper_model: str = "resnet18",
    paper_size: int = 32,
    paper_classes: int = 10,
    paper_samples: int = 50_000,
    paper_epochs: int = 200,
    paper_score_every: int = 4,
    paper_probes: int = 10,
    num_timed: int = 16,
    runs: str = "runs",
) -> Measured:
    """Score photographs, look for duplicates, and estimate a run at scale.

    Args: as in the notebook of this name.

    Returns:
        ``scores.parquet``: a row for each seed and sample, the path of its file (of
        photographs in files) and every score of the trace. ``classes``: their names.
        ``files``: a row for each file of the folder; empty for images in memory.
        ``dynamics``: as ``dynamics``. ``peak``: as ``peak``. ``exact``: samples with
        the same pixels as another: group, index, label, conflict. ``near-pairs``: as
        ``near_pairs``. ``beside``: as ``beside``. ``scale``: as
        ``curvlib.studies.costs.at_scale``. ``sizes``: height and width of an image here
        in pixels; at scale, bytes of weights, gradients and momentum, of what is kept
        of an image for the backward pass, and of the trace; and the seconds to decode
        an image here, NaN if it is in memory. ``shown`` and ``images``: index and
        pixels of the images of the figures, at most ``SIDE`` pixels wide.
    """
    asked = locals()
    # Imported here: a page is drawn without PyTorch.
    from curvlib import scores
    from curvlib.data import duplicates, folders
    from curvlib.data import released as published
    from curvlib.runs import training
    from curvlib.studies import costs

    tables, traces = [], []
    for seed in seeds:
        config = config_of(asked, seed=seed)
        images, heldout = training.prepare(config)  # by index, as the trace is
        trace = training.fit(config, images, heldout, runs=runs)
        table = scores.compute(trace).drop(columns="random")
        table.insert(0, "seed", seed)
        traces.append(trace)
        tables.append(table)
    table = compact(pd.concat(tables, ignore_index=True))
    files, names = pd.DataFrame(columns=FILES), None
    if isinstance(images.images, folders.Photographs):
        files = folders.index_of(images.images.folder)
        names = [os.fsdecode(name) for name in images.images.names]
        table.insert(2, "path", names * len(seeds))
    known = None
    if released is not None and names is not None:
        known = published.memorization_by_name(released, names)
    elif released is not None:
        known = published.memorization(released, images)
    exact = duplicates.exact(images)
    pairs = near_pairs(images, ranking(table)["curvature"].to_numpy())
    position = pd.Series(np.arange(len(images)), index=images.index)
    shown = shown_images(table, pairs, num_shown)
    estimate, sizes = _scale(asked, images)
    return Measured(
        tables={
            "scores.parquet": table,
            "classes": pd.DataFrame({"class": images.classes}),
            "files": files,
            "dynamics": dynamics(traces, heldout=heldout is not None),
            "peak": peak(
                [trace.read("squared_frobenius_norm") for trace in traces],
                traces[0].epochs,
            ),
            "exact": exact.drop(columns="split"),
            "near-pairs": pairs,
            "beside": beside(mean_scores(table), known),
            "scale": estimate,
            "sizes": sizes,
            "shown": pd.DataFrame({"index": shown}),
            "images": shrunk(images.images[position[shown].to_numpy()]),
        },
        data=checksums(dataset, image_size=image_size, broken_files=broken_files),
        runs=costs.of_runs(traces),
    )


# --------------------------------------------------------------------- scores and ranks


def ranking(table: pd.DataFrame) -> pd.DataFrame:
    """One row for each sample: means over seeds, and how well they are known.

    Args:
        table: Like ``scores.parquet``.

    Returns:
        Columns index, label, curvature (mean of tr(H²)), error (standard error over
        seeds; NaN for one seed) and learned (the scored epoch, counted from 1, from
        which a sample stays correct, mean over seeds), in index order.
    """
    by_sample = table.astype({"curvature_square": float}).groupby("index")
    spread = by_sample["curvature_square"].std(ddof=1)
    return pd.DataFrame(
        {
            "label": by_sample["label"].first(),
            "curvature": by_sample["curvature_square"].mean(),
            "error": spread / np.sqrt(table["seed"].nunique()),
            "learned": by_sample["learning_time"].mean(),
        }
    ).reset_index()


def at_ends(ranked: pd.DataFrame, num_shown: int) -> tuple[np.ndarray, np.ndarray]:
    """Positions of the samples with the highest and with the lowest curvature of all.

    Args:
        ranked: Result of ``ranking``.
        num_shown: Images in a row of ``ROWS``.

    Returns:
        The highest, highest first, and the lowest, lowest first.
    """
    order = np.argsort(-ranked["curvature"].to_numpy(), kind="stable")
    count = ROWS * num_shown
    return order[:count], order[::-1][:count]


def ends_of_classes(ranked: pd.DataFrame, num_shown: int) -> np.ndarray:
    """Positions of the samples at both ends of each class's ranking, ascending.

    Of more than ``NUM_CLASSES`` classes, those with the highest mean curvature.

    Args:
        ranked: Result of ``ranking``.
        num_shown: Images at each end of each class.
    """
    score, label = ranked["curvature"].to_numpy(), ranked["label"].to_numpy()
    means = ranked.groupby("label")["curvature"].mean().sort_values(ascending=False)
    ends = gallery.ends(score, label, num_shown)
    kept = [side for c in means.index[:NUM_CLASSES] for side in ends[c]]
    return np.unique(np.concatenate(kept))


def in_every_seed(table: pd.DataFrame, ranked: pd.DataFrame, num_shown: int) -> int:
    """How many of the highest of all are among as many highest of each single seed.

    Args:
        table: Like ``scores.parquet``.
        ranked: Result of ``ranking``.
        num_shown: As for ``at_ends``.
    """
    top, _ = at_ends(ranked, num_shown)
    found = set(top.tolist())
    for _, one in table.groupby("seed"):
        score = one.sort_values("index")["curvature_square"].to_numpy(float)
        found &= set(np.argsort(-score, kind="stable")[: len(top)].tolist())
    return len(found)


def agreements_of_seeds(table: pd.DataFrame) -> list[float]:
    """Spearman correlation of curvature between each two seeds; none for one seed.

    Args:
        table: Like ``scores.parquet``.
    """
    by_seed = table.pivot(index="index", columns="seed", values="curvature_square")
    return [
        float(spearmanr(by_seed[a], by_seed[b]).statistic)
        for a, b in combinations(by_seed, 2)
    ]


def mean_scores(table: pd.DataFrame) -> pd.DataFrame:
    """Scores averaged over seeds, high where suspect: a row for each sample.

    Args:
        table: Like ``scores.parquet``.

    Returns:
        One column for each score but random, in index order.
    """
    from curvlib import scores

    names = [name for name in scores.SCORES if name in table]
    means = table.astype(dict.fromkeys(names, float)).groupby("index")[names].mean()
    return scores.suspicion(means.reset_index(drop=True))


def beside(frame: pd.DataFrame, known: np.ndarray | None = None) -> pd.DataFrame:
    """How far scores rank the samples as curvature does, and as memorization does.

    Args:
        frame: One column for each score, high is suspect, N rows.
        known: Memorization of the samples, shape [N]; NaN where it is not known.

    Returns:
        One row for each score and reference (``"curvature_norm"`` or
        ``"memorization"``): score, reference, samples, spearman, pearson, cosine and
        top_overlap (of the highest twentieth). Two scores that know nothing of the
        samples, a constant and shuffled curvature, come last.
    """
    curvature = frame["curvature_norm"].to_numpy()
    columns = {name: frame[name].to_numpy() for name in frame}
    columns |= statistics.null_scores(curvature)
    references = {"curvature_norm": (curvature, np.ones(len(frame), bool))}
    if known is not None:
        references["memorization"] = (known, np.isfinite(known))
    return pd.DataFrame(
        [
            {
                "score": name,
                "reference": reference,
                "samples": int(valued.sum()),
                **statistics.agreement(
                    values[valued], wanted[valued], max(1, int(valued.sum()) // 20)
                )._asdict(),
            }
            for reference, (wanted, valued) in references.items()
            for name, values in columns.items()
        ]
    )


# ---------------------------------------------------------------- rise, peak and fall


def dynamics(traces: Sequence["Trace"], *, heldout: bool) -> pd.DataFrame:
    """Mean curvature and accuracy at each scored epoch, over samples and runs.

    Args:
        traces: One for each seed.
        heldout: Whether held-out images were scored.

    Returns:
        Columns split (``"train"`` or ``"heldout"``), epoch, curvature (mean tr(H²))
        and accuracy.
    """
    return pd.concat(
        [
            pd.DataFrame(
                {
                    "split": split,
                    "epoch": traces[0].epochs,
                    **{
                        name: np.mean(
                            [
                                trace.read(column, split).mean(1, dtype=np.float64)
                                for trace in traces
                            ],
                            axis=0,
                        )
                        for name, column in (
                            ("curvature", "squared_frobenius_norm"),
                            ("accuracy", "correct"),
                        )
                    },
                }
            )
            for split in ("train", "heldout")[: 1 + heldout]
        ],
        ignore_index=True,
    )


def peak(curvature: Sequence[np.ndarray], epochs: np.ndarray) -> pd.DataFrame:
    """Where the mean curvature of the training images peaks, and in how many runs.

    Args:
        curvature: tr(H²) of each sample at each scored epoch, [E, N] for each run.
        epochs: Scored epochs, shape [E].

    Returns:
        One row: epoch of the peak of the mean over runs, runs, and above_both_ends, the
        runs in which the mean at this epoch is higher than at the first and at the last
        scored epoch.
    """
    means = np.array([values.mean(1, dtype=np.float64) for values in curvature])
    at = int(means.mean(0).argmax())
    above = (means[:, at] > means[:, 0]) & (means[:, at] > means[:, -1])
    return pd.DataFrame(
        {"epoch": [epochs[at]], "runs": [len(means)], "above_both_ends": [above.sum()]}
    )


def course(moved: pd.DataFrame, split: str) -> dict[str, float]:
    """How the mean curvature of one split moved.

    Args:
        moved: Result of ``dynamics``.
        split: ``"train"`` or ``"heldout"``.

    Returns:
        ``peak``, the epoch of the highest mean; ``inside``, whether it is neither the
        first nor the last scored epoch; ``left``, the share of the highest mean that is
        left at the end; ``end``, the mean at the end. Empty if the split was not
        scored.
    """
    rows = moved[moved["split"] == split].reset_index(drop=True)
    if not len(rows):
        return {}
    values, at = rows["curvature"], int(rows["curvature"].argmax())
    return {
        "peak": int(rows["epoch"][at]),
        "inside": 0 < at < len(rows) - 1,
        "left": values.iloc[-1] / values[at],
        "end": values.iloc[-1],
    }


def unseen(moved: pd.DataFrame) -> dict[str, float]:
    """How the mean curvature of held-out images moved, beside that of the others.

    Args:
        moved: Result of ``dynamics``.

    Returns:
        As ``course``, and ``falls``, whether it has a peak inside and less than half of
        it is left at the end; ``higher``, whether it ends above that of the training
        images; and ``times``, how many times as high. Empty without held-out images.
    """
    ours, others = course(moved, "heldout"), course(moved, "train")
    if not ours:
        return {}
    return ours | {
        "falls": ours["inside"] and ours["left"] < 0.5,
        "higher": ours["end"] > others["end"],
        "times": ours["end"] / others["end"],
    }


def as_text(text: str, values: Mapping[str, float]) -> str:
    """A text with values in it, ``"{left:.0%} is left"``; empty if there are none."""
    return text.format_map(values) if values else ""


# ------------------------------------------------------------------------- duplicates


def near_pairs(images: "Images", score: np.ndarray) -> pd.DataFrame:
    """Photographs that are more alike than chance makes them, or the closest ones.

    Args:
        images: N images.
        score: Curvature, shape [N].

    Returns:
        One row for each pair, the most alike first: similarity (correlation of
        details), conflict (whether their labels differ), index and label of both,
        place (the share of images with less curvature than the pair's higher one) and
        above (whether the pair is above the threshold). Without a pair above it, the
        ``NUM_CLOSEST`` that come closest.
    """
    from dataclasses import replace

    from curvlib.data import duplicates

    small = replace(images, images=images.images[:])  # in memory
    found = duplicates.near(duplicates.compare(small))
    above = len(found.pairs) > 0
    pairs = found.pairs if above else found.runners_up.head(NUM_CLOSEST)
    first, second = pairs["first"].to_numpy(), pairs["second"].to_numpy()
    below = score.argsort().argsort() / (len(score) - 1)
    return pd.DataFrame(
        {
            "similarity": pairs["similarity"].to_numpy(),
            "conflict": pairs["conflict"].to_numpy(),
            "first_index": images.index[first],
            "second_index": images.index[second],
            "first_label": images.labels[first],
            "second_label": images.labels[second],
            "place": np.maximum(below[first], below[second]),
            "above": above,
        },
        columns=PAIRS,
    )


def places_of_conflicts(
    exact: pd.DataFrame, pairs: pd.DataFrame, ranked: pd.DataFrame
) -> np.ndarray:
    """Places of duplicates under different labels in the ranking by curvature.

    Args:
        exact: The table of that name.
        pairs: Result of ``near_pairs``; only those above the threshold count.
        ranked: Result of ``ranking``.

    Returns:
        One place for each near pair and for each sample of an exact group, the share
        of samples with less curvature; 1 is the top.
    """
    below = (ranked["curvature"].rank(method="first") - 1) / (len(ranked) - 1)
    below.index = ranked["index"]
    of_exact = below[exact.loc[exact["conflict"].astype(bool), "index"]]
    conflicting = pairs["conflict"].astype(bool) & pairs["above"].astype(bool)
    return np.concatenate([of_exact, pairs.loc[conflicting, "place"]]).astype(float)


# ----------------------------------------------------------------------------- at scale


def _scale(
    asked: Mapping[str, Any], images: "Images"
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The tables scale and sizes, measured on one batch of the paper's setting."""
    import torch

    from curvlib.data.folders import Photographs
    from curvlib.runs import networks
    from curvlib.runs.devices import best_device
    from curvlib.studies import costs

    on = best_device()
    size, classes = asked["paper_size"], asked["paper_classes"]
    network = networks.build(
        asked["paper_model"],
        num_classes=classes,
        input_shape=(3, size, size),
        width=64,
    ).to(on)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(asked["num_timed"], 3, size, size, generator=generator)
    y = torch.randint(classes, (asked["num_timed"],), generator=generator)
    estimate = costs.at_scale(
        network,
        x.to(on),
        y.to(on),
        samples=asked["paper_samples"],
        epochs=asked["paper_epochs"],
        scored_epochs=-(-asked["paper_epochs"] // asked["paper_score_every"]),
        num_probes=asked["paper_probes"],
    )
    started = time.perf_counter()
    decoded = images.images[np.arange(min(len(images), 64))]
    decode = (time.perf_counter() - started) / len(decoded)
    sizes = {
        "height": images.images.shape[1],
        "width": images.images.shape[2],
        "state_bytes": estimate.state_bytes,
        "activation_bytes": estimate.activation_bytes,
        "trace_bytes": estimate.trace_bytes,
        "decode_seconds": decode if isinstance(images.images, Photographs) else np.nan,
    }
    return estimate.table, pd.DataFrame([sizes])


def in_units(sizes: pd.DataFrame) -> pd.DataFrame:
    """The sizes at scale in units that people use.

    Args:
        sizes: The table of that name.

    Returns:
        Columns state_gib, activation_mib, trace_gib and decode_ms.
    """
    return pd.DataFrame(
        {
            "state_gib": sizes["state_bytes"] / 2**30,
            "activation_mib": sizes["activation_bytes"] / 2**20,
            "trace_gib": sizes["trace_bytes"] / 2**30,
            "decode_ms": sizes["decode_seconds"] * 1e3,
        }
    )


def with_assumed_rate(scale: pd.DataFrame, teraflops: float) -> pd.DataFrame:
    """The table ``scale`` with the hours at a rate that is assumed.

    Args:
        scale: The table.
        teraflops: 10¹² floating-point operations that a GPU sustains in a second.

    Returns:
        The same with a column ``hours at assumed rate``.

    Raises:
        ValueError: If the rate is not positive.
    """
    if not teraflops > 0:
        raise ValueError(f"teraflops must be positive, got {teraflops}")
    hours = scale["total_flop"] / (teraflops * 1e12) / 3600
    return scale.assign(**{"hours at assumed rate": hours})


# ------------------------------------------------------------------ what the page shows


def shown_images(
    table: pd.DataFrame, pairs: pd.DataFrame, num_shown: int
) -> np.ndarray:
    """Indices of all images of the figures, ascending, each once.

    Args:
        table: Like ``scores.parquet``.
        pairs: Result of ``near_pairs``.
        num_shown: Images at each end of each class.
    """
    ranked = ranking(table)
    index = ranked["index"].to_numpy()
    ends = [ends_of_classes(ranked, num_shown), *at_ends(ranked, num_shown)]
    both = pairs.head(NUM_PAIRS)[["first_index", "second_index"]].to_numpy(int).ravel()
    return np.unique(np.concatenate([index[np.concatenate(ends)], both]))


def shrunk(images: np.ndarray) -> np.ndarray:
    """Images of at most ``SIDE`` pixels: larger ones as means over squares of pixels.

    Args:
        images: uint8, shape [n, H, W, C].

    Returns:
        uint8, shape [n, H / f, W / f, C] with the smallest whole f that is enough.
    """
    n, height, width, channels = images.shape
    f = -(-max(height, width) // SIDE)
    if f == 1:
        return images
    cut = images[:, : height // f * f, : width // f * f]
    squares = cut.reshape(n, height // f, f, width // f, f, channels)
    return squares.mean((2, 4)).round().astype(np.uint8)


def named(classes: Sequence[str], names: Sequence[str] | None) -> np.ndarray:
    """Names of the classes for readers: those given, else those of the folders.

    Args:
        classes: Names of the folders, in their order.
        names: One for each of them, or None.

    Raises:
        ValueError: If there is not one name for each class.
    """
    if names is not None and len(names) != len(classes):
        raise ValueError(
            f"class_names must name all {len(classes)} classes, in the order of their "
            f"folders, got {len(names)} names"
        )
    return np.array([str(name) for name in (classes if names is None else names)])


def pairs_in_words(pairs: pd.DataFrame, names: np.ndarray) -> pd.DataFrame:
    """The pairs of the page with names of classes: the first ``NUM_PAIRS``.

    Args:
        pairs: Result of ``near_pairs``.
        names: Names of the classes.
    """
    labels = {n: names[pairs[n].to_numpy(int)] for n in ("first_label", "second_label")}
    return pairs.assign(**labels).drop(columns="above").head(NUM_PAIRS)


def files_by_status(files: pd.DataFrame) -> pd.DataFrame:
    """Counts of the files of a folder, in one row.

    Args:
        files: The table; empty for images in memory.

    Returns:
        Columns files, used, unusual (used, but grey or otherwise remarkable), broken
        and ignored (no image by its name).
    """
    used = files["status"] == "used"
    return pd.DataFrame(
        {
            "files": [len(files)],
            "used": [int(used.sum())],
            "unusual": [int((used & (files["remark"].fillna("") != "")).sum())],
            "broken": [int((files["status"] == "broken").sum())],
            "ignored": [int((files["status"] == "ignored").sum())],
        }
    )


def most_frequent(labels: pd.Series, names: np.ndarray) -> tuple[str, int]:
    """The class that most samples have, by name, and how many they are.

    Args:
        labels: Numbers of classes; the first to occur wins a tie.
        names: Names of the classes.
    """
    counts = pd.Series(names[labels.to_numpy(int)]).value_counts()
    return str(counts.index[0]), int(counts.iloc[0])


def numbers(
    tables: Mapping[str, Any], made: Any, names: np.ndarray
) -> dict[str, float | int | str]:
    """The numbers of the page's text, by name.

    Args:
        tables: What ``measure`` returned, or a record of it.
        made: The parameters of the measurement, as attributes.
        names: Names of the classes.
    """
    table, runs, sizes = (tables[n] for n in ("scores.parquet", "runs", "sizes"))
    ranked, seen = ranking(table), course(tables["dynamics"], "train")
    top, bottom = at_ends(ranked, made.num_shown)
    scale, pairs, exact = (tables[n] for n in ("scale", "near-pairs", "exact"))
    above = pairs[pairs["above"].astype(bool)]
    by_class = {
        f"{end}_{what}": value
        for end, rows in (("top", top), ("bottom", bottom))
        for what, value in zip(
            ("class", "count"),
            most_frequent(ranked["label"].iloc[rows], names),
            strict=True,
        )
    }
    scored = len(made.seeds) * tables["dynamics"]["epoch"].nunique()
    operations = scale.set_index("what")["total_flop"]
    return by_class | {
        "num_samples": len(ranked),
        "num_classes": len(names),
        "num_seeds": len(made.seeds),
        "height": int(sizes["height"].iloc[0]),
        "width": int(sizes["width"].iloc[0]),
        "peak_epoch": seen["peak"],
        "last_epoch": made.epochs,
        "num_timed": made.num_timed,
        "train_seconds": runs["train_seconds"].sum() / runs["epochs"].sum(),
        "score_seconds": runs["score_seconds"].sum() / scored,
        "rank_correlation": spearmanr(ranked["curvature"], ranked["learned"]).statistic,
        "num_top": len(top),
        "in_every_seed": in_every_seed(table, ranked, made.num_shown),
        "num_exact": len(exact),
        "exact_conflicts": int(exact["conflict"].astype(bool).sum()),
        "num_near": len(above),
        "near_conflicts": int(above["conflict"].astype(bool).sum()),
        "here_days": scale["hours here"].sum() / 24,
        "score_share": operations["scoring"] / operations["training"],
    }
