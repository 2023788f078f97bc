"""What does each score say about each image?

Every image with all of its scores, averaged over seeds, and the images themselves in
one picture, so that the page can be drawn without the data set.
"""

import io
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd

from curvlib import scores
from curvlib.studies import Measured, checksums, compact, config_of

RECIPE = 1
PARTS = ("data", "networks", "training", "scoring")
NUM_EXACT = 20_000  # samples; of more, scores are rounded
ROOM = 3_600_000  # bytes for the picture: a file that git takes
# Side in pixels (never enlarged; None: as it is) and WebP quality (None: lossless),
# from good to what is just enough to see what an image shows.
SPRITES = (
    *((None, quality) for quality in (None, 80, 50, 30)),
    *((24, quality) for quality in (50, 30, 20, 15, 10)),
    *((20, quality) for quality in (20, 10)),
    *((16, quality) for quality in (30, 20, 10)),
)
SIDE = 16383  # pixels: WebP has no larger images


def measure(
    *,
    dataset: str = "digits",
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
    released: str | None = None,
    runs: str = "runs",
) -> Measured:
    """Score every image by every score of the trace.

    Args: as in the notebook of this name.

    Returns:
        ``scores.parquet``: a row for each sample in index order: index, label, class,
        every score averaged over seeds (float32; of more than ``NUM_EXACT`` samples to
        within 0.02%), and ``memorization`` where a file of released scores is given.
        ``correlations``: Spearman's for every two scores, by seed (the mean over seeds
        is ``seed`` −1). ``classes``: names. ``sprite.webp``
        and ``sprite``: all images in one picture, and its measures.
    """
    asked = locals()
    # Imported here: a page is drawn without PyTorch.
    from curvlib.data import released as others
    from curvlib.runs import training
    from curvlib.studies import costs

    by_seed, traces = [], []
    for seed in seeds:
        config = config_of(asked, seed=seed)
        images, heldout = training.prepare(config)
        trace = training.fit(config, images, heldout, runs=runs)
        by_seed.append(scores.compute(trace).set_index(["index", "label"]))
        traces.append(trace)
    table = (sum(by_seed) / len(seeds)).reset_index()
    if released is not None:
        table["memorization"] = others.memorization(released, images)
    names = np.array(images.classes)[table["label"]]
    sprite = sprite_of(images.images[:], room=ROOM)
    measures = {"side": sprite.side, "across": sprite.across, "quality": sprite.quality}
    measures["original side"] = max(images.images.shape[1:3])
    agreements = correlations(table, dict(zip(seeds, by_seed, strict=True)))
    table = compact(table)
    if len(table) > NUM_EXACT:
        table = table.apply(_rounded)
    table.insert(2, "class", names)
    return Measured(
        tables={
            "scores.parquet": table,
            "correlations": agreements,
            "classes": pd.DataFrame({"class": images.classes}),
            "sprite": pd.DataFrame([measures]),
            "sprite.webp": sprite.webp,
        },
        data=checksums(dataset),
        runs=costs.of_runs(traces),
    )


def _rounded(column: pd.Series) -> pd.Series:
    """Float32 to 13 significant bits, so that a file of them is half as large."""
    if column.dtype != np.float32:
        return column
    fraction, exponent = np.frexp(column)
    return np.ldexp((fraction * 2**13).round(), exponent - 13).astype(np.float32)


def signs(table: pd.DataFrame) -> dict[str, int]:
    """Direction of each score of a table: +1 where high is suspect, -1 where low is."""
    known = {name: score.sign for name, score in scores.SCORES.items()}
    known["memorization"] = +1
    return {name: known[name] for name in table.columns if name in known}


def correlations(means: pd.DataFrame, by_seed: dict[int, pd.DataFrame]) -> pd.DataFrame:
    """Rank correlation of every two scores, each turned so that high is suspect.

    Args:
        means: A row for each sample, scores averaged over seeds.
        by_seed: The same for each seed alone.

    Returns:
        Columns seed (−1: of the means), first, second, spearman; a row for each pair
        in the order of the columns.
    """
    rows = []
    for seed, table in {-1: means, **by_seed}.items():
        directions = signs(table)
        turned = table[list(directions)] * pd.Series(directions)
        found = turned.rank().corr()
        names = list(directions)
        rows += [
            {"seed": seed, "first": a, "second": b, "spearman": found.loc[a, b]}
            for i, a in enumerate(names)
            for b in names[i + 1 :]
        ]
    return pd.DataFrame(rows)


def shared_top(table: pd.DataFrame, first: str, second: str) -> float:
    """Share of the most suspect tenth by one score that is in the other's tenth too."""
    turned = [table[n].to_numpy() * signs(table)[n] for n in (first, second)]
    tenth = max(1, len(table) // 10)
    tops = [set(np.argsort(-values, kind="stable")[:tenth]) for values in turned]
    return len(tops[0] & tops[1]) / tenth


class Sprite(NamedTuple):
    """All images in one picture, a square grid."""

    webp: bytes
    side: int  # pixels of an image in it
    across: int  # images in a row
    quality: int | None  # of WebP, 0 to 100; None: lossless


def sprite_of(images: np.ndarray, *, room: int) -> Sprite:
    """All images in one picture of at most `room` bytes, as good as that allows.

    Args:
        images: uint8 [N, H, W, C], or what can be indexed like such an array.
        room: Bytes.

    Raises:
        ValueError: If even the coarsest images do not fit.
    """
    few = images[:: max(1, len(images) // 1000)]
    size = 0
    for step in SPRITES:
        guess = _sprite(few, *step)
        if guess is None:
            continue
        # Many images take long: what will hardly fit is not tried.
        expected = len(guess.webp) / len(few) * len(images)
        if expected > 1.2 * room and step != SPRITES[-1]:
            continue
        found = _sprite(images, *step)
        if found is None:
            continue
        size = len(found.webp)
        if size <= room:
            return found
    raise ValueError(
        f"{len(images)} images take {size:,} bytes at their coarsest, more than the "
        f"{room:,} that the limit leaves; give fewer images (Images.select) or fewer "
        "columns, or raise the limit"
    )


def _sprite(images: np.ndarray, side: int | None, quality: int | None) -> Sprite | None:
    """All images in a square grid at one step of ``SPRITES``.

    None if this step of ``SPRITES`` would enlarge images, or WebP cannot hold it.
    """
    from PIL import Image

    count, height, width, channels = images.shape
    native = max(height, width)
    if side is not None and side >= native:
        return None
    factor = 1.0 if side is None else side / native
    side = native if side is None else side
    across = int(np.ceil(np.sqrt(count)))
    if across * side > SIDE:
        return None
    new = max(1, round(width * factor)), max(1, round(height * factor))
    left, top = (side - new[0]) // 2, (side - new[1]) // 2
    grid = np.zeros((across * side, across * side, channels), np.uint8)
    for place, pixels in enumerate(images):
        if factor != 1.0:
            small = Image.fromarray(pixels.squeeze()).resize(new, Image.Resampling.BOX)
            pixels = np.asarray(small).reshape(new[1], new[0], channels)
        y, x = (side * k for k in divmod(place, across))
        grid[y + top : y + top + new[1], x + left : x + left + new[0]] = pixels
    options = {"lossless": True} if quality is None else {"quality": quality}
    file = io.BytesIO()
    Image.fromarray(grid.repeat(3, 2) if channels == 1 else grid).save(
        file, "WEBP", method=4, **options
    )
    return Sprite(file.getvalue(), side, across, quality)


def sprite_in(record: Mapping) -> "Sprite":
    """All images of a record in one picture.

    Args:
        record: A record of this study.
    """
    measures = record["sprite"].iloc[0]
    quality = None if pd.isna(measures["quality"]) else int(measures["quality"])
    side, across = int(measures["side"]), int(measures["across"])
    return Sprite(record["sprite.webp"], side, across, quality)


def square(correlations: pd.DataFrame) -> pd.DataFrame:
    """The correlations of the means over seeds as a square, ones on the diagonal.

    Args:
        correlations: The table of ``measure``.
    """
    means = correlations[correlations["seed"] == -1]
    names = list(dict.fromkeys([*means["first"], *means["second"]]))
    half = means.pivot(index="second", columns="first", values="spearman")
    half = half.reindex(index=names, columns=names)
    return half.combine_first(half.T).loc[names, names].fillna(1.0)


def pair(correlations: pd.DataFrame, first: str, second: str) -> float:
    """The correlation of two scores, of their means over seeds.

    Args:
        correlations: The table of ``measure``.
        first: Name of a score.
        second: Name of another.
    """
    return float(square(correlations).loc[first, second])


def with_random(correlations: pd.DataFrame) -> float:
    """The largest correlation of any score with a random one, without its sign.

    Args:
        correlations: The table of ``measure``.
    """
    return float(square(correlations)["random"].drop("random").abs().max())


def extremes(correlations: pd.DataFrame, count: int = 3) -> pd.DataFrame:
    """The pairs of scores that agree most and least, random ones left out.

    Args:
        correlations: The table of ``measure``.
        count: Pairs at each end.

    Returns:
        Columns first, second, mean and std (over seeds; NaN for one seed).
    """
    of_seeds = correlations[correlations["seed"] >= 0]
    of_seeds = of_seeds[
        (of_seeds["first"] != "random") & (of_seeds["second"] != "random")
    ]
    found = of_seeds.groupby(["first", "second"])["spearman"].agg(["mean", "std"])
    found = found.sort_values("mean", ascending=False).reset_index()
    return pd.concat([found.head(count), found.tail(count)], ignore_index=True)
