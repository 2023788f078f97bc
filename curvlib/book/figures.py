"""Figures: arrays in, matplotlib axes out, nothing computed that a table would need.

Made to be read at the width of a page (700 pixels), in light and in dark, and without
telling colours apart: groups differ in line or marker as well. At most ``NAMED`` lines
have a name; the others are grey. Scores appear under the names that ``SCORES`` gives
them. The same arguments give the same bytes. Keep the result, as in
``ax = epoch_band(...)``: a notebook would otherwise show the figure twice.
"""

import functools
import html
import math
import os
import re
import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, LinearSegmentedColormap, LogNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.textpath import TextPath
from sklearn.isotonic import isotonic_regression

from curvlib.book import artwork
from curvlib.book.palette import COLOURS, GREY, GRID, PAPER
from curvlib.scores import SCORES

SPELLED = {  # words that have capitals
    "auroc": "AUROC",
    "aum": "AUM",
    "el2n": "EL2N",
    "gelu": "GELU",
    "pearson": "Pearson",
    "relu": "ReLU",
    "spearman": "Spearman",
}
_LOWER = re.compile(rf"\b({'|'.join(SPELLED)})\b")
COUNTS = ("images", "samples", "files", "used", "trained_on")  # columns of counts
LINES = ("-", "--", "-.", ":")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
NAMED = 6  # lines of a figure that have a name and a colour
ROWS = 6  # of a table that are in sight; a click shows the others
TWO_CLASSES = LinearSegmentedColormap.from_list(  # of the labels 0 and 1
    "two classes", [COLOURS[1], PAPER, COLOURS[0]]
)
WIDTH = 7.0  # inches, the page at 100 dots an inch
STYLE = {  # of every figure of the book
    "figure.dpi": 100,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
}


def set_style() -> None:
    """Set the style of all figures of this process; for the book, draw them as SVG."""
    plt.rcParams.update(STYLE)
    if "CURVLIB_PAGE_FILES" in os.environ:
        artwork.show_as_svg()


_WITHIN = re.compile(
    rf"\b({'|'.join(sorted((n for n in SCORES if '_' in n), key=len, reverse=True))})\b"
)


def words(text: object) -> str:
    """A name as readers see it: scores by their label, no underscores.

    Example:
        >>> words("curvature_norm"), words("shuffled curvature_norm"), words("by_hand")
        ('mean curvature (norm)', 'shuffled mean curvature (norm)', 'by hand')
        >>> words("pearson"), words("aum + el2n"), words("relu")
        ('Pearson', 'AUM + EL2N', 'ReLU')
        >>> words("notes_1.csv")  # a file keeps its name
        'notes_1.csv'
    """
    text = str(text)
    if text in SCORES:
        return SCORES[text].label
    text = _WITHIN.sub(lambda match: SCORES[match[1]].label, text)
    if re.search(r"[/.]\S", text):
        return text
    text = text.replace("_", " ")
    return _LOWER.sub(lambda match: SPELLED[match[0]], text)


def listed(values: pd.Series) -> str:
    """Values beside the words of their names: "cumulative loss 0.712, random 0.001"."""
    return ", ".join(f"{words(name)} {value:.3f}" for name, value in values.items())


def by_dataset(
    data: Mapping[str, Any],
    draw: Callable[..., Any],
    *,
    columns: int = 2,
    height: float = 2.6,
    share: str = "xy",
) -> Figure:
    """A panel for each data set, with one legend for all of them.

    Args:
        data: By the name of the data set: what ``draw`` takes.
        draw: Draws one data set, called as ``draw(data[name], ax=ax)``; for example
            ``lambda table, ax: figures.lines(table, "epoch", "accuracy", by="group",
            ax=ax)``.
        columns: Panels side by side.
        height: Height of a panel, in inches.
        share: Axes that all panels have in common: ``"x"``, ``"y"``, ``"xy"``, ``""``.

    Raises:
        ValueError: If there is no data set.
    """
    if not data:
        raise ValueError("by_dataset needs at least one data set, got none")
    columns = min(columns, len(data))
    rows = -(-len(data) // columns)
    figure, grid = plt.subplots(
        rows,
        columns,
        figsize=(WIDTH, height * rows + 0.5),
        layout="constrained",
        sharex="x" in share,
        sharey="y" in share,
        squeeze=False,
    )
    entries = {}
    for place, (ax, (name, value)) in enumerate(
        zip(grid.flat, data.items(), strict=False)
    ):
        draw(value, ax=_axes(ax))
        ax.set_title(words(name))
        if len(data) > 1 and (legend := ax.get_legend()):
            entries.setdefault("", legend.get_title().get_text())
            legend.remove()
        for line, label in zip(*ax.get_legend_handles_labels(), strict=True):
            # The number of samples differs from panel to panel.
            entries.setdefault(re.sub(r", n = [\d,]+.*$", "", label), line)
        if place % columns and ax.get_ylabel() == grid[0, 0].get_ylabel():
            ax.set_ylabel("")
        if place + columns < len(data) and "x" in share:
            ax.set_xlabel("")
    for ax in grid.flat[len(data) :]:
        ax.axis("off")
    title = entries.pop("", None)
    if len(data) > 1 and entries:
        figure.legend(
            entries.values(),
            entries.keys(),
            loc="outside lower center",
            ncols=3,
            fontsize=9,
            title=title,
        )
    return figure


def gallery(
    images: np.ndarray,
    captions: Sequence[str] | None = None,
    *,
    label: Sequence | None = None,
    score: Sequence[float] | None = None,
    error: Sequence[float] | None = None,
    index: Sequence[int] | None = None,
    rank: Sequence[int] | None = None,
    rows: Sequence[str] = (),
    columns: int = 10,
    marked: np.ndarray | None = None,
    marked_as: str = "mislabelled",
    sign: str = "≠",
    title: str | None = None,
    nothing: str | None = None,
) -> Figure:
    """Show images in rows, in the order given, with what is known of each below it.

    Args:
        images: uint8, shape [n, H, W, C] with C of 1 or 3, or [n, H, W].
        captions: A text for each image; label, rank, score, index follow, a line each.
        label: Class names or numbers, length n.
        score: Shown to three digits, length n.
        error: Of each score, shown with it as ``plus_minus`` does, length n.
        index: Places in the data set, shown with a #, length n.
        rank: Places in a ranking, 1 for the first, length n.
        rows: What a row of images has in common, such as a method, one text for each
            row, shown once above it.
        columns: Images in a row.
        marked: bool [n]; these get a frame and a sign, explained at the bottom.
        marked_as: What the sign means.
        sign: One character.
        title: Above all rows.
        nothing: Shown in place of images if there are none; None refuses none.

    Returns:
        A figure as wide as the page.

    Raises:
        ValueError: If images are not uint8 of such a shape, or something is not one for
            each image.
    """
    if nothing is not None and not len(images):
        return note(nothing)
    images = _checked_images(images)
    n, height, width = images.shape[:3]
    if columns < 1:
        raise ValueError(f"columns must be at least 1, got {columns}")
    if marked is not None and np.asarray(marked).dtype != bool:
        raise ValueError(f"marked must be bool, got {np.asarray(marked).dtype}")
    lines = {
        "captions": captions,
        "label": label,
        "rank": rank,
        "score": score,
        "index": index,
    }
    for name, values in (lines | {"error": error, "marked": marked}).items():
        if values is not None and len(values) != n:
            raise ValueError(
                f"{name} must be one for each of {n} images, got {len(values)}"
            )
    if rows and len(rows) != -(-n // columns):
        raise ValueError(
            f"rows must be one for each of {-(-n // columns)} rows, got {len(rows)}"
        )
    known = {name: list(v) for name, v in lines.items() if v is not None}
    if error is not None and score is None:
        raise ValueError("error is that of the score: give score too")
    if error is not None:
        lines["score"] = [plus_minus(*both) for both in zip(score, error, strict=True)]

    # The canvas is laid out in inches, from the top left corner.
    cell = WIDTH / columns
    side, line = 0.91 * cell, 0.145  # the image's width; a line of 8-point text
    tall = side * height / width
    texts = _caption_texts(n, lines, points=72 * (cell - 0.03))
    head = 0.26 if rows else 0.0
    row = (
        head
        + tall
        + line * (max(text.count("\n") + bool(text) for text in texts) + 0.7)
    )
    top = (0.35 if title else 0.05) + head
    any_marked = marked is not None and np.any(marked)
    bottom = 0.3 if any_marked else 0.05
    total = top - head + row * -(-n // columns) + bottom

    dpi = 150
    figure = plt.figure(figsize=(WIDTH, total), dpi=dpi, facecolor="white")
    if known:
        setattr(figure, artwork.DATA, pd.DataFrame(known))
    ax = figure.add_axes((0, 0, 1, 1))
    ax.axis("off")
    enlarged = side * dpi >= width
    for i, image in enumerate(images):
        x, y = i % columns * cell + (cell - side) / 2, top + i // columns * row
        ax.imshow(
            image,
            extent=(x, x + side, y + tall, y),
            interpolation="none" if enlarged else "hanning",
        )
        for k, text in enumerate(texts[i].splitlines()):  # each in the middle, any font
            below = y + tall + 0.04 + k * line
            ax.text(x + side / 2, below, text, size=8, ha="center", va="top")
        if marked is not None and marked[i]:
            frame = Rectangle((x, y), side, tall, fill=False, ec=COLOURS[1], lw=2.5)
            ax.add_patch(frame)
            _sign(ax, x, y, sign)
    for k, text in enumerate(rows):
        y = top + k * row - 0.06
        ax.text((cell - side) / 2, y, words(text), size=9, weight="bold", va="bottom")
    if any_marked:
        _sign(ax, (cell - side) / 2, total - 0.22, sign)
        ax.text(0.3, total - 0.13, marked_as, size=9, va="center")
    if title:
        ax.text(WIDTH / 2, 0.06, title, size=11, ha="center", va="top")
    ax.set(xlim=(0, WIDTH), ylim=(total, 0), aspect="auto")
    return figure


def two_ends(
    rows: Mapping[str, tuple[np.ndarray, np.ndarray]], *, names: tuple[str, str]
) -> Figure:
    """Images of both ends of a ranking, a row for each data set.

    Args:
        rows: By label: images of the left and of the right end, the most extreme first,
            uint8 [n, H, W, C]. The left end starts at the left edge, the right end at
            the right edge.
        names: Names of the two ends.

    Returns:
        A figure as wide as the page.
    """
    count = max(len(end) for ends in rows.values() for end in ends)
    gap, line = 0.35, 0.3  # inches: between the ends, and for a row's label
    side = (WIDTH - gap) / (2 * count)
    total = line + len(rows) * (side + line)
    figure = plt.figure(figsize=(WIDTH, total), dpi=150)
    ax = figure.add_axes((0, 0, 1, 1))
    ax.axis("off")
    for name, x, where in zip(names, (0, WIDTH), ("left", "right"), strict=True):
        ax.text(x, 0.08, name, size=10, weight="bold", ha=where, va="top")
    for number, (label, ends) in enumerate(rows.items()):
        y = line + number * (side + line)
        ax.text(0, y + line - 0.06, label, size=9, ha="left", va="bottom")
        y += line
        for end, images in enumerate(ends):
            for i, image in enumerate(_checked_images(images)):
                x = i * side if end == 0 else WIDTH - (i + 1) * side
                extent = (x + 0.02, x + side - 0.02, y + side - 0.04, y)
                # Not "nearest", which makes one picture of all images. A dark page
                # takes such a picture for data, and inverts it.
                ax.imshow(image, extent=extent, interpolation="none")
    ax.set(xlim=(0, WIDTH), ylim=(total, 0), aspect="auto")
    return figure


def plus_minus(value: float, error: float) -> str:
    """A value and its error: two digits of the error, and as many of the value.

    Args:
        value: Finite.
        error: At least 0; 0 or NaN, where none is known, leaves the value alone.

    Example:
        >>> plus_minus(0.12345, 0.02), plus_minus(1234.5, 67.8)
        ('0.123 ± 0.020', '1234 ± 68')
        >>> plus_minus(1.234e-07, 2e-08), plus_minus(0.12345, float("nan"))
        ('1.23e-07 ± 2e-08', '0.123')
    """
    if not error > 0:
        return f"{value:.3g}"
    places = max(0, 1 - math.floor(math.log10(error)))
    if places > 5 or abs(value) >= 1e5:
        return f"{value:.3g} ± {error:.2g}"
    return f"{value:.{places}f} ± {error:.{places}f}"


def distributions(
    score: np.ndarray,
    groups: Mapping[str, np.ndarray],
    *,
    log: bool = True,
    bins: int = 40,
    xlabel: str = "score",
    log_shares: bool | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Histograms of a score by group, each as a share of its own group.

    With ``log`` the zeros, which confident samples underflow to, are in the leftmost
    bin and are counted in the legend.

    Args:
        score: One value per sample, shape [N].
        groups: Name to bool mask [N], as in ``{"clean": ~wrong, "wrong": wrong}``.
        log: Whether the axis of the score is logarithmic.
        bins: Number of bins between the smallest and the largest score of all groups.
        xlabel: Name and unit of the score.
        log_shares: Whether the axis of the shares is logarithmic; None for where one
            bin would squeeze the others: it is eight times the third tallest.
        ax: Where to draw; a new figure if None.

    Raises:
        ValueError: If a score is not finite, a group is empty or no bool mask, or
            ``log`` is asked for scores that are negative or all zero.
    """
    score = np.asarray(score, dtype=np.float64)
    _check_finite("score", score)
    for name, mask in groups.items():
        mask = np.asarray(mask)
        if mask.dtype != bool or mask.shape != score.shape:
            raise ValueError(
                f"group {name!r} must be a bool mask of shape {score.shape}, got "
                f"{mask.dtype} of shape {mask.shape}"
            )
        if not mask.any():
            raise ValueError(f"group {name!r} is empty; leave it out")
    if log and (score.min() < 0 or score.max() == 0):
        raise ValueError(
            f"a logarithmic axis needs scores of at least 0, and one above; got "
            f"{score.min():.3g} to {score.max():.3g}; use log=False"
        )
    shown = np.maximum(score, score[score > 0].min()) if log else score
    spaced = np.geomspace if log else np.linspace
    low, high = shown.min(), shown.max()
    if low == high:  # all alike: one bin around the value
        low, high, bins = (low / 2, high * 2, 1) if log else (low - 0.5, high + 0.5, 1)
    edges = spaced(low, high, bins + 1)
    edges[[0, -1]] = low, high  # geomspace may miss the ends by a rounding error

    ax = _axes(ax)
    tallest = []
    for k, (name, mask) in enumerate(groups.items()):
        zeros = np.count_nonzero(score[mask] == 0) if log else 0
        counts, _ = np.histogram(shown[mask], edges)
        tallest += list(counts / mask.sum())
        ax.stairs(
            counts / mask.sum(),
            edges,
            color=COLOURS[k % len(COLOURS)],
            linestyle=LINES[k % len(LINES)],
            linewidth=1.8,
            label=f"{words(name)}, n = {mask.sum():,}"
            + (f" ({zeros:,} at zero)" if zeros else ""),
        )
    if log:
        ax.set_xscale("log")
    ax.set(xlabel=xlabel, ylabel="share of the group", ylim=(0, None))
    third = np.sort(tallest)[-3:][0]
    if log_shares or (log_shares is None and max(tallest) > 8 * third > 0):
        ax.set_yscale("log")
    ax.legend(frameon=False, fontsize=9)
    return ax


def epoch_band(
    epochs: np.ndarray,
    values: np.ndarray | Mapping[str, np.ndarray],
    *,
    quantiles: tuple[float, float] = (0.25, 0.75),
    log: bool = False,
    ylabel: str = "value",
    ax: Axes | None = None,
) -> Axes:
    """Median over samples against the epoch, in a band between two quantiles.

    Args:
        epochs: Numbers of the scored epochs, shape [E].
        values: Shape [E, n], or several groups by name, each with its own n, as in
            ``{"clean": loss[:, ~wrong], "mislabelled": loss[:, wrong]}``.
        quantiles: Low and high end of the band.
        log: Whether the axis of the values is logarithmic.
        ylabel: Name and unit of the values.
        ax: Where to draw; a new figure if None. Groups drawn before keep their colours.

    Raises:
        ValueError: If a group is not [E, n], is empty, or is not finite, or the
            quantiles are not two shares in rising order.
    """
    epochs = np.asarray(epochs)
    low, high = quantiles
    if not 0 <= low < high <= 1:
        raise ValueError(f"quantiles must be 0 <= low < high <= 1, got {quantiles}")
    series = values if isinstance(values, Mapping) else {"": values}
    for name, group in series.items():
        shape = np.shape(group)
        if len(shape) != 2 or shape[0] != len(epochs) or shape[1] == 0:
            raise ValueError(
                f"group {name!r} must have shape [{len(epochs)}, n], a row for each "
                f"epoch and at least one sample, got {list(shape)}"
            )
        _check_finite(f"group {name!r}", np.asarray(group))

    ax = _axes(ax)
    first = len(ax.get_lines())
    for k, (name, group) in enumerate(series.items(), start=first):
        lower, median, upper = np.quantile(group, [low, 0.5, high], axis=1)
        colour = COLOURS[k % len(COLOURS)]
        n = np.shape(group)[1]
        ax.plot(
            epochs,
            median,
            color=colour,
            linestyle=LINES[k % len(LINES)],
            marker=MARKERS[k % len(MARKERS)] if len(epochs) <= 30 else None,
            markersize=4,
            linewidth=1.8,
            label=f"{words(name)}, n = {n:,}" if name else f"n = {n:,}",
        )
        ax.fill_between(epochs, lower, upper, color=colour, alpha=0.2, linewidth=0)
    if log:
        ax.set_yscale("log")
    ax.set(xlabel="epoch", ylabel=ylabel)
    ax.xaxis.get_major_locator().set_params(integer=True)
    ax.legend(
        frameon=False,
        fontsize=9,
        title=f"median; band: {100 * low:g} to {100 * high:g}%",
    )
    return ax


def score_dots(
    frame: pd.DataFrame,
    *,
    value: str = "auroc",
    xlabel: str = "AUROC",
    chance: float | None = 0.5,
    ax: Axes | None = None,
) -> Axes:
    """Mean and standard deviation of a metric by score, the best on top.

    The row named random is drawn hollow and grey: whatever is near it found nothing.

    Args:
        frame: One row per score and seed, with a column ``score`` and the metric's.
        value: Column of the metric.
        xlabel: Name of the metric; the number of seeds is added.
        chance: Value of knowing nothing, drawn as a line; None for no line.
        ax: Where to draw; a new figure if None.

    Raises:
        ValueError: If a column is missing or the metric is not finite.
    """
    _check_columns(frame, "score", value)
    rows = _mean_and_sd(frame, ["score"], value).sort_values("mean", kind="stable")
    alone = ax is None
    ax = _axes(ax, height=0.9 + 0.26 * len(rows))
    if chance is not None:
        ax.axvline(chance, color=GREY, linestyle=":", linewidth=1.2)
    for y, (name, mean, sd) in enumerate(rows[["score", "mean", "sd"]].values):
        known = name != "random"
        colour = COLOURS[0] if known else GREY
        ax.errorbar(
            mean,
            y,
            xerr=sd,
            fmt="o" if known else "D",
            color=colour,
            markerfacecolor=colour if known else "white",
            markersize=6,
            capsize=3,
        )
        ax.annotate(
            f"{mean:.3f}",
            (mean + sd, y),
            xytext=(7, 0),
            textcoords="offset points",
            size=8,
            va="center",
            color=colour,
        )
    ax.set_yticks(range(len(rows)), rows["score"].map(words), fontsize=9)
    if alone:
        setattr(ax.figure, artwork.DATA, rows[["score", "mean", "sd"]].iloc[::-1])
    ax.set_ylim(-0.7, len(rows) - 0.3)
    ax.set_xlabel(_with_seeds(xlabel, rows))
    ax.margins(x=0.12)  # room for the numbers
    ax.grid(axis="y", visible=False)
    return ax


def auroc_by_noise(
    frame: pd.DataFrame,
    *,
    value: str = "auroc",
    ylabel: str = "AUROC",
    highlight: Sequence[str] = (),
    ax: Axes | None = None,
) -> Axes:
    """A metric against the share of wrong labels, a line a score, a band of one sd.

    Args:
        frame: One row per score, noise rate and seed, with columns ``score``,
            ``noise_rate`` (a fraction) and the metric's.
        value: Column of the metric.
        ylabel: Name of the metric; the number of seeds is added.
        highlight: Scores with a colour and a name, ``NAMED`` at most; the others are
            thin and grey. If empty, the best ones and the random score.
        ax: Where to draw; a new figure if None.

    Raises:
        ValueError: If a column is missing, the metric is not finite, a highlighted
            score is not in the frame, or there are too many of them.
    """
    _check_columns(frame, "score", "noise_rate", value)
    rows = _mean_and_sd(frame, ["score", "noise_rate"], value)
    names = list(dict.fromkeys(frame["score"]))
    missing = [name for name in highlight if name not in names]
    if missing:
        raise ValueError(f"no rows for {missing} to highlight; there are {names}")
    named = list(highlight) or _important(rows)
    if len(named) > NAMED:
        raise ValueError(f"highlight at most {NAMED} scores, got {len(named)}")
    coloured = [n for n in named if n != "random"]

    ax = _axes(ax, height=4.6)
    ends = {}
    for name in names:
        line = rows[rows["score"] == name].sort_values("noise_rate")
        x, mean, sd = (line[c].to_numpy() for c in ("noise_rate", "mean", "sd"))
        bold = name in coloured
        k = coloured.index(name) if bold else 0
        colour = COLOURS[k % len(COLOURS)] if bold else GREY
        ax.plot(
            x,
            mean,
            color=colour,
            # Colours repeat after six scores, markers after seven, lines after four.
            linestyle=LINES[k % len(LINES)] if bold else "-",
            marker=MARKERS[k % len(MARKERS)] if bold else "D" * (name == "random"),
            markerfacecolor="white" if name == "random" else colour,
            markersize=5,
            linewidth=1.8 if bold else 0.9,
            alpha=1 if name in named else 0.55,
        )
        if bold:
            ax.fill_between(x, mean - sd, mean + sd, color=colour, alpha=0.15, lw=0)
        if name in named:
            ends[words(name)] = (x[-1], mean[-1], colour)
    if others := len(names) - len(named):
        note = f"grey: {others} other score{'s' * (others > 1)}"
        ax.set_title(note, size=9, color=GREY, loc="right")
    rates = np.sort(rows["noise_rate"].unique())
    ax.set_xticks(rates, [f"{rate:.3g}" for rate in 100 * rates])
    ax.set(xlabel="wrong labels, %", ylabel=_with_seeds(ylabel, rows))
    _label_ends(ax, ends)
    return ax


def _important(rows: pd.DataFrame) -> list[str]:
    """The scores to name: all if there are few, else the best and the random one."""
    best = rows.groupby("score", sort=False)["mean"].mean()
    if len(best) <= NAMED:
        return list(best.index)
    null = [name for name in best.index if name == "random"]
    best = best.drop(null).sort_values(ascending=False, kind="stable")
    return [*best.index[: NAMED - len(null)], *null]


def sortable_table(values: pd.DataFrame, texts: pd.DataFrame, *, caption: str):
    """A wide table whose heads sort it: scrolls by itself, keeps its first column.

    Args:
        values: Numbers to sort by, NaN where there is none; the index names the rows.
        texts: What is shown, of the same rows and columns; a part after ``±`` is small.
            The first ``ROWS`` rows are in sight, a click shows the others.
        caption: Above the table; that a click sorts is added.

    Returns:
        IPython's HTML, which notebooks show.

    Raises:
        ValueError: If rows or columns of the two frames differ.
    """
    from IPython.display import HTML

    if not (values.index.equals(texts.index) and values.columns.equals(texts.columns)):
        raise ValueError(
            "values and texts need the same rows and columns, got "
            f"{list(values.columns)} and {list(texts.columns)}"
        )
    heads = [values.index.name or "", *values.columns]
    rows = []
    for i, name in enumerate(values.index):
        cells = [f'<th scope="row">{html.escape(words(name))}</th>']
        for value, text in zip(values.iloc[i], texts.iloc[i], strict=True):
            shown = "–" if pd.isna(text) else html.escape(str(text))
            main, sign, spread = shown.partition(" ±")
            small = f" <small>±{spread}</small>" if sign else ""
            cells.append(f'<td class="number" data-value="{value}">{main}{small}</td>')
        rows.append(f"<tr>{''.join(cells)}</tr>")
    numbers = [False] + [True] * values.shape[1]
    caption = f"{caption} Click a head to sort.".strip()
    return HTML(_table_html(heads, rows, numbers, "sortable", caption))


def _table_html(
    heads: Sequence,
    rows: Sequence[str],
    numbers: Sequence[bool],
    kind: str,
    caption: str,
) -> str:
    """A table that scrolls by itself; the book shows its first rows until a click."""
    names = [html.escape(words(head)) for head in heads]
    right = [f'<th scope="col"{" class=number" * k}>' for k in numbers]
    head = "".join(f"{tag}{name}</th>" for tag, name in zip(right, names, strict=True))
    above = f'<p class="table-caption">{html.escape(caption)}</p>' if caption else ""
    more = (
        '<details class="more-rows" hidden><summary>Show all '
        f"{len(rows)} rows</summary></details>"
        if len(rows) > ROWS
        else ""
    )
    return (
        f'<div class="table-box">{above}<div class="wide-table" role="group" '
        f'aria-label="Table of {", ".join(names[:3])}"><table class="dataframe {kind}">'
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
        f"</div>{more}</div>"
    )


def note(text: str) -> Figure:
    """A figure that holds one line of text, where there is nothing to draw."""
    figure, ax = plt.subplots(figsize=(WIDTH, 0.6), facecolor="white")
    ax.text(0.5, 0.5, text, ha="center", va="center")
    ax.axis("off")
    return figure


def side_by_side(
    frame: pd.DataFrame,
    x: str,
    columns: Mapping[str, str],
    *,
    by: str,
    log: Sequence[str] = (),
) -> Figure:
    """Columns of a table in a panel each, with a line for each group.

    Args:
        frame: One row for each group and value of x.
        x: Column of the horizontal axis.
        columns: Name of each column that is drawn, and its label.
        by: Column that names the groups, in their order.
        log: Columns with a logarithmic axis.

    Raises:
        ValueError: If a column is missing, or a value is not finite.
    """
    for column in columns:
        _check_columns(frame, x, by, column)
    figure, axes = plt.subplots(
        1,
        len(columns),
        figsize=(WIDTH, 2.8),
        layout="constrained",
        facecolor="white",
        squeeze=False,
    )
    for ax, (column, label) in zip(axes[0], columns.items(), strict=True):
        for k, (name, group) in enumerate(frame.groupby(by, sort=False)):
            style = {"color": COLOURS[k % len(COLOURS)], "ls": LINES[k % len(LINES)]}
            marker = MARKERS[k % len(MARKERS)] if len(group) <= 30 else None
            ax.plot(
                group[x],
                group[column],
                ms=4,
                marker=marker,
                label=words(name),
                **style,
            )
        _axes(ax).set(
            xlabel=x, ylabel=label, yscale="log" if column in log else "linear"
        )
    lines = axes[0, 0].get_lines()
    figure.legend(handles=lines, loc="outside lower center", ncols=4, fontsize=9)
    return figure


def precision_check(check: pd.DataFrame, thresholds: pd.DataFrame) -> Figure:
    """How many images and how many decoys find a neighbour, and the precision of it.

    Args:
        check: One row for each similarity: space (of the neighbours), asked (for which
            pairs), similarity, found and decoys (images and decoys with a neighbour at
            least so alike), precision.
        thresholds: One row for each space and asked, with the threshold; NaN for none.

    Returns:
        A column for each value of asked: counts above, precision below, thresholds
        dotted. A space without a check has its threshold alone.
    """
    kinds, spaces = (list(dict.fromkeys(thresholds[c])) for c in ("asked", "space"))
    figure, axes = plt.subplots(
        2,
        len(kinds),
        figsize=(WIDTH, 4.4),
        layout="constrained",
        facecolor="white",
        sharex=True,
        squeeze=False,
    )
    for (upper, lower), asked in zip(axes.T, kinds, strict=True):
        _axes(upper).set(title=asked, yscale="log")
        _axes(lower).set(xlabel="correlation of details", xlim=(0, 1), ylim=(0, 1.02))
        for k, space in enumerate(spaces):
            colour = COLOURS[k % len(COLOURS)]
            rows = check[(check["space"] == space) & (check["asked"] == asked)]
            if len(rows):
                x = rows["similarity"]
                decoys = rows["decoys"].replace(0, np.nan)  # no place on a log axis
                upside_down = f"{space}, upside down"
                upper.plot(x, rows["found"], "-", color=colour, label=space)
                upper.plot(x, decoys, ":", color=colour, label=upside_down)
                lower.plot(x, rows["precision"], LINES[k], color=colour)
            here = (thresholds["space"] == space) & (thresholds["asked"] == asked)
            for threshold in thresholds.loc[here, "threshold"].dropna():
                lower.axvline(
                    threshold, color=colour, ls=":", lw=1, label=f"threshold, {space}"
                )
    axes[0, 0].set(ylabel="images")
    axes[1, 0].set(ylabel="precision")
    known = [ax.get_legend_handles_labels() for ax in axes.flat]
    lines = {label: line for both in known for line, label in zip(*both, strict=True)}
    figure.legend(
        lines.values(), lines.keys(), loc="outside lower center", ncols=3, fontsize=8
    )
    return figure


def place_map(places: pd.DataFrame, *, nothing: str = "no images") -> Figure:
    """Where rankings put some images: a row for each score, a dot for each image.

    The axis is logarithmic, since good rankings put all of them near the top.

    Args:
        places: Shares in [0, 1], 1 for the top; a row for each image, a column for each
            score.
        nothing: Shown if there are no rows.
    """
    if not len(places):
        return note(nothing)
    above = (100 * (1 - places)).clip(lower=0.01)  # percent of all images
    order = above.median().sort_values(kind="stable", ascending=False).index
    figure, ax = plt.subplots(
        figsize=(WIDTH, 0.9 + 0.26 * len(order)), layout="constrained"
    )
    _axes(ax).set_xscale("log")
    for y, name in enumerate(order):
        colour = GREY if name == "random" else COLOURS[0]
        heights = np.full(len(above), float(y))
        ax.plot(above[name], heights, "o", ms=5, color=colour, alpha=0.45, mew=0)
        ax.plot(above[name].median(), y, "|", ms=13, mew=2.5, color=COLOURS[1])
    ax.set_yticks(range(len(order)), [words(name) for name in order], fontsize=9)
    ax.set_xlabel("images ranked above, % of all; bar: median")
    ax.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    ax.grid(axis="y", visible=False)
    setattr(figure, artwork.DATA, places.reset_index(names="image"))
    return figure


def pair_curves(curves: pd.DataFrame, *, nothing: str = "no such pairs") -> Figure:
    """Probabilities of the two labels of each pair, epoch by epoch, a panel for each.

    Args:
        curves: Columns pair, index (of the image), class, epoch and probability; two
            images for each pair, the first of them blue, the second orange and dashed.
        nothing: Shown if there are no rows.
    """
    pairs = list(curves.groupby("pair", sort=False))
    if not pairs:
        return note(nothing)
    rows = -(-len(pairs) // 3)
    figure, axes = plt.subplots(
        rows,
        3,
        figsize=(WIDTH, 0.6 + 1.4 * rows),
        layout="constrained",
        facecolor="white",
        sharex=True,
        sharey=True,
        squeeze=False,
    )
    for ax, (_, pair) in zip(axes.flat, pairs, strict=False):
        sides = list(pair.groupby("index", sort=False))
        for k, (_, side) in enumerate(sides):
            alone = MARKERS[k] if len(side) == 1 else None  # a line needs two epochs
            style = {"color": COLOURS[k], "linestyle": LINES[k], "marker": alone}
            ax.plot(side["epoch"], side["probability"], **style)
        names = [str(side["class"].iloc[0]) for _, side in sides]
        ax.set_title(" / ".join(names), size=8)
        ax.set(ylim=(0, 1.02))
        ax.xaxis.get_major_locator().set_params(integer=True)
    for ax in axes.flat[len(pairs) :]:
        ax.axis("off")
    figure.supxlabel("epoch", size=9)
    figure.supylabel("probability", size=9)
    return figure


def _label_ends(ax: Axes, ends: Mapping[str, tuple[float, float, str]]) -> None:
    """Names at the right of their lines, moved apart where they would overlap."""
    low, high = ax.get_ylim()
    names = sorted(ends, key=lambda name: ends[name][1])
    y = np.array([(ends[name][1] - low) / (high - low) for name in names])
    # The nearest places at least a gap apart and inside the axes, by least squares.
    gap = 11 / (ax.bbox.height * 72 / ax.figure.dpi)  # a line of 8 points, in axes
    steps = gap * np.arange(len(y))
    y = isotonic_regression(y - steps, y_min=0, y_max=max(1 - steps[-1], 0)) + steps
    for name, place in zip(names, y, strict=True):
        x, mean, colour = ends[name]
        ax.annotate(
            name,
            (x, mean),
            xytext=(1.03, place),
            textcoords="axes fraction",
            color=colour if colour == GREY else "black",  # pale text is hard to read
            size=8,
            va="center",
            annotation_clip=False,
            arrowprops={
                "arrowstyle": "-",
                "color": colour,
                "linewidth": 0.5,
                "relpos": (0, 0.5),  # reach the name from its left
                "shrinkA": 0,
            },
        )


def _sign(ax: Axes, x: float, y: float, sign: str) -> None:
    box = {"boxstyle": "square,pad=0.12", "facecolor": COLOURS[1], "edgecolor": "none"}
    ax.text(x + 0.02, y + 0.02, sign, size=9, color="white", bbox=box, va="top")


def _checked_images(images: np.ndarray) -> np.ndarray:
    """RGB images [n, H, W, 3]."""
    images = np.asarray(images)
    if images.dtype != np.uint8:
        raise ValueError(f"images must be uint8 in 0..255, got {images.dtype}")
    if images.ndim == 3:
        images = images[..., None]
    if images.ndim != 4 or images.shape[3] not in (1, 3) or images.size == 0:
        raise ValueError(
            "images must have shape [n, H, W, C], n at least 1 and C of 1 or 3, got "
            f"{list(images.shape)}"
        )
    return np.broadcast_to(images, (*images.shape[:3], 3))


def _caption_texts(n: int, lines: dict, *, points: float) -> list[str]:
    formats = {
        "captions": str,
        "label": lambda label: str(label).replace("_", " "),
        "rank": lambda rank: f"rank {rank:,}",
        "score": lambda s: s if isinstance(s, str) else _short(s),
        "index": lambda index: f"#{index}",
    }
    texts = []
    for i in range(n):
        given = [formats[k](lines[k][i]) for k in formats if lines[k] is not None]
        wrapped = [_wrap(line, points) for text in given for line in text.splitlines()]
        texts.append("\n".join(wrapped))
    return texts


def _short(value: float) -> str:
    """Three digits, and no exponent that would break a line of a caption."""
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e6 else f"{value:.3g}"


@functools.cache
def _width(line: str) -> float:
    """Width of a line of 8 points, in points."""
    return TextPath((0, 0), line, size=8).get_extents().width


@functools.cache  # the same names stand below many images
def _wrap(text: str, points: float) -> str:
    """Break a text of 8 points into lines no wider than so many points."""
    for characters in range(len(text), 1, -1):
        lines = textwrap.wrap(text, characters)
        if any(_inside_number(text, lines)):
            return text
        if max(map(_width, lines), default=0) <= points:
            return "\n".join(lines)
    return text


def _inside_number(text: str, lines: Sequence[str]) -> list[bool]:
    """Whether each line ends, or begins, in the middle of a number."""
    numbers = re.findall(r"[\d.,]*\d(?:e[+-]\d+)?", text)
    return [number not in " ".join(lines) for number in numbers]


def _axes(ax: Axes | None, *, height: float = 4.0) -> Axes:
    if ax is None:
        _, ax = plt.subplots(
            figsize=(WIDTH, height), facecolor="white", layout="constrained"
        )
    ax.set_facecolor("white")
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(color=GRID, linewidth=0.8)
    ax.set_axisbelow(True)
    return ax


def _mean_and_sd(frame: pd.DataFrame, by: list[str], value: str) -> pd.DataFrame:
    groups = frame.groupby(by, sort=False)[value]
    rows = groups.agg(["mean", "std", "count"]).reset_index()
    return rows.assign(sd=rows["std"].fillna(0.0))  # one seed: no whisker


def _with_seeds(name: str, rows: pd.DataFrame) -> str:
    low, high = rows["count"].min(), rows["count"].max()
    seeds = f"{low}" if low == high else f"{low} to {high}"
    return f"{name}, mean ± sd of {seeds} seeds" if high > 1 else f"{name}, one seed"


def _check_columns(frame: pd.DataFrame, *columns: str) -> None:
    missing = [column for column in columns if column not in frame.columns]
    if missing or frame.empty:
        raise ValueError(
            f"the frame needs rows and the columns {list(columns)}, got {len(frame)} "
            f"rows of {list(frame.columns)}"
        )
    _check_finite(columns[-1], frame[columns[-1]].to_numpy())


def _check_finite(name: str, values: np.ndarray) -> None:
    if not np.isfinite(values).all():
        raise ValueError(
            f"{name} must be finite, got {values[~np.isfinite(values)][0]} among "
            f"{values.size} values"
        )


_NUMBER = ' class="number"'


class Table:
    """A table as HTML, which notebooks and tabs show."""

    def __init__(self, text: str):
        self._text = text

    def _repr_html_(self) -> str:
        return self._text


def table(
    frame: pd.DataFrame,
    *,
    formats: Mapping[str, str] | None = None,
    missing: str = "–",
    caption: str = "",
    **names: str,
) -> Table:
    """A table for readers: words in place of names, no index, few digits.

    The first ``ROWS`` rows are in sight, a click shows the others. Names of scores
    become their labels. Numbers, and a value with its spread, never break.

    Args:
        frame: A row for each line.
        formats: Of columns, such as ``{"auroc": "{:.3f}"}``. Other floats of a column
            get the decimals that show three digits of the largest.
        missing: Shown for NaN.
        caption: Above the table.
        **names: Words for column names, such as ``auroc="AUROC"``.
    """
    formats = dict(formats or {})
    columns = {}
    for name in frame.columns:
        given = formats.get(name, _usual_format(frame[name]))
        columns[name] = [_cell(value, given, missing) for value in frame[name]]
    is_number = {
        name: all(text == missing or _is_number(text) for text in texts)
        for name, texts in columns.items()
    }
    rows = []
    for i in range(len(frame)):
        cells = [
            f"<td{_NUMBER * is_number[name]}>{html.escape(texts[i])}</td>"
            for name, texts in columns.items()
        ]
        rows.append(f"<tr>{''.join(cells)}</tr>")
    heads = [names.get(str(name), words(name)) for name in frame.columns]
    return Table(_table_html(heads, rows, list(is_number.values()), "", caption))


def _usual_format(column: pd.Series) -> str | None:
    """Of a column without a format: one number of decimals; counts in thousands."""
    if column.dtype.kind in "iu" and column.name in COUNTS:
        return "{:,}"
    if column.dtype.kind != "f":
        return None
    sizes = column.abs()
    sizes = sizes[np.isfinite(sizes) & (sizes > 0)]
    if sizes.empty:
        return "{:.0f}"
    if sizes.max() > 1000 * sizes.min():  # no number of decimals suits all
        return "{:.3g}"
    places = 2 - math.floor(math.log10(sizes.max()))
    return f"{{:,.{max(places, 3 if sizes.max() <= 1 else 0)}f}}"


def _cell(value: Any, given: Any, missing: str) -> str:
    if pd.api.types.is_scalar(value) and pd.isna(value):
        return missing
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if given is None:
        return words(value) if isinstance(value, str) else str(value)
    return given(value) if callable(given) else given.format(value)


def _is_number(text: str) -> bool:
    return bool(re.fullmatch(r"[-−+<>]?[\d.,]+(e[-+]?\d+)?( ?%)?( ± \S+)?|[–-]?", text))


def panels(count: int = 2, *, height: float = 3.0, **options) -> tuple[Figure, list]:
    """Axes side by side, as wide as the page together.

    Args:
        count: Number of axes.
        height: Height of the figure, in inches.
        **options: As for ``matplotlib.pyplot.subplots``, such as ``sharey=True``.

    Returns:
        The figure and its axes.
    """
    figure, axes = plt.subplots(
        1,
        count,
        figsize=(WIDTH, height),
        layout="constrained",
        facecolor="white",
        squeeze=False,
        **options,
    )
    return figure, [_axes(ax) for ax in axes[0]]


def lines(
    frame: pd.DataFrame,
    x: str,
    y: str | Sequence[str],
    *,
    by: str | None = None,
    band: str | tuple[str, str] | None = None,
    error: str | None = None,
    joined: bool = True,
    log: str = "",
    xlabel: str | None = None,
    ylabel: str | None = None,
    highlight: Sequence[str] = (),
    looks: Sequence[str] = (),
    ax: Axes | None = None,
) -> Axes:
    """One line for each group of a table, in its own colour, dash and marker.

    Where there are more than ``NAMED``, the others are grey and have one name together.

    Args:
        frame: One row for each point; the order of the rows is kept.
        x: Column of the horizontal axis.
        y: Column of the vertical axis, or several, a line for each.
        by: Column that names the groups, in their order; None for one line.
        band: Column of the half width of a band around the line, or the two columns of
            its ends.
        error: Column of the half length of error bars.
        joined: Whether to join the points.
        log: Axes that are logarithmic: ``"x"``, ``"y"`` or ``"xy"``.
        xlabel: Name and unit; None for the name of the column.
        ylabel: The same.
        highlight: Groups with a colour and a name; the first ``NAMED`` if empty.
        looks: All groups of several panels, so that each looks the same in all of them.
        ax: Where to draw; a new figure if None. Lines drawn before keep their colours.

    Raises:
        ValueError: If a column is missing, or a value is not finite.
    """
    several = [] if isinstance(y, str) else list(y)
    ends = [band] if isinstance(band, str) else list(band or ())
    for column in (*ends, error, x, *(several or [y])):
        if column is not None:
            _check_columns(frame, column)
    if several:
        frame = frame.melt(x, several, var_name="_line", value_name="value")
        by, y = "_line", "value"
    ax = _axes(ax)
    first = len(ax.get_lines())
    groups = {"": frame} if by is None else dict(list(frame.groupby(by, sort=False)))
    named = list(highlight) or list(groups)[:NAMED]
    if len(named) > NAMED or not set(named) <= set(groups):
        raise ValueError(
            f"highlight at most {NAMED} of {list(groups)}, got {list(highlight)}"
        )
    others = [name for name in groups if name not in named]
    for name in others:
        label = f"{len(others)} others" if name == others[0] else None
        part = groups[name]
        ax.plot(part[x], part[y], color=GREY, lw=0.8, alpha=0.6, label=label, zorder=1)
    for k, name in enumerate(named, start=first):
        part = groups[name]
        k = list(looks).index(name) if name in looks else k
        colour = COLOURS[k % len(COLOURS)]
        ax.errorbar(
            part[x],
            part[y],
            yerr=None if error is None else part[error],
            color=colour,
            linestyle=LINES[k % len(LINES)] if joined else "none",
            marker=MARKERS[k % len(MARKERS)] if len(part) <= 30 or not joined else None,
            markersize=4,
            linewidth=1.5,
            elinewidth=0.9,
            label=words(name),
        )
        if ends:
            low, high = (
                (part[ends[0]], part[ends[1]])
                if len(ends) == 2
                else (part[y] - part[ends[0]], part[y] + part[ends[0]])
            )
            ax.fill_between(part[x], low, high, color=colour, alpha=0.2, linewidth=0)
    if "x" in log:
        ax.set_xscale("log")
    if "y" in log:
        ax.set_yscale("log")
    linear = ax.get_xscale() == "linear"
    if linear and frame[x].dtype.kind in "iu":  # whole numbers, such as epochs
        ax.xaxis.get_major_locator().set_params(integer=True)
    ax.set(xlabel=xlabel or words(x), ylabel=ylabel or words(y))
    if by is not None:
        ax.legend(frameon=False, fontsize=9)
    return ax


def auroc_by_setting(settings: pd.DataFrame, scores: Mapping[str, str]) -> Axes:
    """AUROC of a few scores, a row for each setting, the best networks first.

    Args:
        settings: One row for each setting, seed and score, with columns setting,
            score, auroc and unseen, the accuracy on unseen images.
        scores: Labels of the scores to draw, by name.

    Raises:
        ValueError: If a column is missing, or no score is there.
    """
    _check_columns(settings, "setting", "score", "unseen", "auroc")
    few = settings[settings["score"].isin(scores)]
    if few.empty:
        raise ValueError(f"no rows for {list(scores)}")
    unseen = few.groupby("setting", sort=False)["unseen"].mean()
    unseen = unseen.sort_values(kind="stable", na_position="first")
    places = {name: place for place, name in enumerate(unseen.index)}
    ax = _axes(None, height=1.4 + 0.3 * len(places))
    for k, (name, label) in enumerate(scores.items()):
        rows = _mean_and_sd(few[few["score"] == name], ["setting"], "auroc")
        y = rows["setting"].map(places) + 0.12 * (k - (len(scores) - 1) / 2)
        ax.errorbar(
            rows["mean"],
            y,
            xerr=rows["sd"],
            color=COLOURS[k % len(COLOURS)],
            marker=MARKERS[k % len(MARKERS)],
            linestyle="none",
            markersize=5,
            elinewidth=0.9,
            label=label,
        )
    heads = [
        name if np.isnan(value) else f"{name}\n{value:.0%} right on unseen images"
        for name, value in unseen.items()
    ]
    ax.set_yticks(list(places.values()), heads, size=8)
    ax.axvline(0.5, color=GREY, linewidth=0.8)
    ax.set_xlabel("AUROC, mean and standard deviation over seeds")
    ax.figure.legend(loc="outside upper center", ncols=3, frameon=False, fontsize=9)
    return ax


def by_group(curves: pd.DataFrame) -> Figure:
    """Accuracy after images were removed, a panel for each group of unseen images.

    Args:
        curves: Result of ``curvlib.studies.removal.curves``.

    Returns:
        The figure.

    Raises:
        ValueError: If a column is missing, or a value is not finite.
    """
    _check_columns(curves, "way", "group", "sd", "removed (%)", "accuracy (%)")
    groups = list(dict.fromkeys(curves["group"]))
    figure, axes = panels(len(groups), height=3.4)
    for ax, group in zip(axes, groups, strict=True):
        rows = curves[curves["group"] == group]
        options = {"by": "way", "band": "sd", "xlabel": "images removed (%)"}
        lines(rows, "removed (%)", "accuracy (%)", **options, ax=ax)
        ax.set_title("all classes" if group == "all" else group, size=10)
        ax.get_legend().remove()
    axes[0].set_ylabel("accuracy on unseen images (%)")
    for ax in axes[1:]:
        ax.set_ylabel("")
    handles, names = axes[0].get_legend_handles_labels()
    figure.legend(
        handles, names, loc="outside lower center", ncols=2, frameon=False, fontsize=9
    )
    return figure


def expected_precision(curve: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """Share of wrong labels among the first suspects, as estimated and as it is.

    Args:
        curve: Columns rank, precision, low and high; and truth, where it is known.
        ax: Where to draw; a new figure if None.

    Raises:
        ValueError: If a column is missing, or a value is not finite.
    """
    ax = lines(
        curve.assign(line="estimate, 90% interval"),
        "rank",
        "precision",
        by="line",
        band=("low", "high"),
        log="x",
        ax=ax,
    )
    if "truth" in curve:
        known = curve.assign(line="truth")
        lines(known, "rank", "truth", by="line", log="x", ax=ax)
    ax.set(xlabel="suspects looked at", ylabel="share of wrong labels", ylim=(0, 1.03))
    return ax


def against_truth(
    counts: pd.DataFrame, *, by: str = "data", ax: Axes | None = None
) -> Axes:
    """Estimated against true numbers of wrong labels, with intervals, on log axes.

    Args:
        counts: Columns wrong (the truth), estimate, low and high.
        by: Column that names the groups, each in its own colour and marker.
        ax: Where to draw; a new figure if None.

    Raises:
        ValueError: If a column is missing, or a value is not finite.
    """
    for column in (by, "estimate", "low", "high", "wrong"):
        if column != by:
            _check_columns(counts, column)
    ax = _axes(ax, height=4.8)
    ends = counts[["wrong", "low", "high"]].clip(lower=1)
    low, high = ends.min(axis=None) / 1.5, ends.max(axis=None) * 1.5
    ax.plot([low, high], [low, high], color=GREY, linestyle=":", linewidth=1.2)
    for k, (name, some) in enumerate(counts.groupby(by, sort=False)):
        middle = some["estimate"].clip(lower=1)
        around = [
            middle - some["low"].clip(lower=1),
            some["high"].clip(lower=1) - middle,
        ]
        ax.errorbar(
            some["wrong"],
            middle,
            yerr=np.maximum(np.array(around), 0),
            fmt=MARKERS[k % len(MARKERS)],
            color=COLOURS[k % len(COLOURS)],
            markersize=5,
            capsize=2,
            elinewidth=0.9,
            label=str(name),
        )
    ax.set(xscale="log", yscale="log", xlim=(low, high), ylim=(low, high))
    ax.set(xlabel="labels that are wrong", ylabel="estimate with its 90% interval")
    ax.legend(frameon=False, fontsize=9)
    return ax


def density(
    counts: np.ndarray,
    x_edges: np.ndarray,
    y_edges: np.ndarray,
    *,
    xlabel: str = "",
    ylabel: str = "",
    top: float | None = None,
    bar: str | None = "samples",
    ax: Axes | None = None,
) -> Axes:
    """Numbers of samples in the cells of a grid; darker cells hold more (log scale).

    Args:
        counts: Shape [X, Y].
        x_edges: Edges of the cells, shape [X + 1].
        y_edges: Shape [Y + 1].
        xlabel: Name and unit of the horizontal axis.
        ylabel: The same.
        top: Number that is drawn darkest, so that figures can share a scale; None for
            the largest.
        bar: Label of the colour bar; None for no bar.
        ax: Where to draw; a new figure if None.

    Raises:
        ValueError: If the shapes do not fit, or no sample is counted.
    """
    counts = np.asarray(counts)
    if counts.shape != (len(x_edges) - 1, len(y_edges) - 1):
        raise ValueError(
            f"counts must have shape {[len(x_edges) - 1, len(y_edges) - 1]}, one cell "
            f"between each two edges, got {list(counts.shape)}"
        )
    if not counts.max() > 0:
        raise ValueError("counts must hold at least one sample, got none")
    ax = _axes(ax)
    ax.grid(visible=False)
    scale = LogNorm(vmin=0.5, vmax=top or counts.max())  # so that one sample is seen
    shown = np.ma.masked_equal(counts.T, 0)
    cells = ax.pcolormesh(x_edges, y_edges, shown, cmap="Blues", norm=scale)
    if bar is not None:
        ax.figure.colorbar(cells, ax=ax, label=bar)
    ax.set(xlabel=xlabel, ylabel=ylabel)
    return ax


def densities(
    cells: Mapping[str, np.ndarray],
    x_edges: np.ndarray,
    y_edges: np.ndarray,
    *,
    ylabel: str,
) -> Figure:
    """``density`` side by side, with one scale of colours.

    Args:
        cells: By the label of the horizontal axis: counts of images, shape [X, Y].
        x_edges: Of the cells, shape [X + 1].
        y_edges: Shape [Y + 1].
        ylabel: Name and unit of the vertical axis.
    """
    figure, axes = panels(len(cells), height=3.2, sharey=True)
    top = max(np.max(counts) for counts in cells.values())
    for ax, (xlabel, counts) in zip(axes, cells.items(), strict=True):
        bar = "images" if ax is axes[-1] else None
        density(counts, x_edges, y_edges, top=top, bar=bar, ax=ax)
        ax.set_xlabel(words(xlabel))
    axes[0].set_ylabel(ylabel)
    return figure


def histograms(frame: pd.DataFrame, by: str, *, log: Sequence[str] = ()) -> Figure:
    """Histograms side by side, from numbers of images in bins.

    Args:
        frame: A row for each bin: low and high (its ends), images, and the column
            ``by``.
        by: Column that names the panel.
        log: Names of the panels whose horizontal axis is logarithmic.

    Raises:
        ValueError: If a column is missing.
    """
    _check_columns(frame, by, "low", "high", "images")
    parts = list(frame.groupby(by, sort=False))
    figure, axes = panels(len(parts), height=2.6)
    for ax, (name, part), colour in zip(axes, parts, COLOURS, strict=False):
        edges = [*part["low"], part["high"].iloc[-1]]
        ax.stairs(part["images"], edges, fill=True, color=colour)
        ax.set(xlabel=words(name), ylabel="images")
        if name in log:
            ax.set_xscale("log")
    return figure


def dots(
    frame: pd.DataFrame,
    *,
    group: str,
    order: Sequence[str],
    value: str = "auroc",
    error: str | None = None,
    xlabel: str = "AUROC",
    chance: float | None = 0.5,
    legend_above: bool = False,
    ax: Axes | None = None,
) -> Axes:
    """Mean and standard deviation of a metric by score and group, side by side.

    Args:
        frame: One row for each score, group and seed, with a column ``score``.
        group: Column that names the groups, each in its own colour and marker.
        order: Names of the scores, from top to bottom.
        value: Column of the metric.
        error: Column of its error, for one row per score and group; None: the standard
            deviation over seeds.
        xlabel: Name of the metric.
        chance: Value of knowing nothing, drawn as a line; None for no line.
        legend_above: Whether the legend is above the axes, or in their lower left.
        ax: Where to draw; a new figure if None.

    Raises:
        ValueError: If a column is missing, or a score of the order has no row.
    """
    _check_columns(frame, "score", group, value)
    if absent := [name for name in order if name not in set(frame["score"])]:
        raise ValueError(f"no row for the scores {', '.join(absent)}")
    ax = _axes(ax, height=0.9 + 0.26 * len(order))
    if chance is not None:
        ax.axvline(chance, color=GREY, linestyle=":", linewidth=1.2)
    groups = list(dict.fromkeys(frame[group]))
    place = np.arange(len(order))[::-1]
    for k, name in enumerate(groups):
        values = frame[frame[group] == name].groupby("score")[value]
        found = values.agg(["mean", "std"]).reindex(order)
        if error is not None:
            some = frame[frame[group] == name].set_index("score")
            found["std"] = some[error].reindex(order)
        ax.errorbar(
            found["mean"],
            place + 0.4 * ((len(groups) - 1) / 2 - k) / max(1, len(groups) - 1),
            xerr=found["std"].fillna(0),
            fmt=MARKERS[k % len(MARKERS)],
            color=COLOURS[k % len(COLOURS)],
            markersize=5,
            capsize=2,
            label=words(name),
        )
    ax.set_yticks(place, [words(name) for name in order], fontsize=9)
    ax.set_xlabel(xlabel)
    ax.grid(axis="y", visible=False)
    where = {"loc": "lower left"}
    if legend_above:
        where = {"loc": "lower center", "bbox_to_anchor": (0.4, 1)}
        where["ncols"] = min(len(groups), 3)
    ax.legend(frameon=False, fontsize=9, **where)
    return ax


def against_accuracy(
    points: pd.DataFrame,
    shown: Sequence[str],
    *,
    accuracy: str = "right on unseen",
    reference: Mapping[str, Sequence[float]] | None = None,
    curves: Mapping[str, tuple[np.ndarray, np.ndarray]] | None = None,
) -> Figure:
    """AUROC of some scores against accuracy on unseen images, one panel for each score.

    A colour and a marker stand for a data set. Heads on pretrained features are hollow.
    Small crosses: labels that are wrong in another way than at random. Small dots:
    networks that learned fewer than half of the wrong labels.

    Args:
        points: A row for each setting and score: dataset, kind, noise, score, auroc,
            wrong labels learned and the accuracy.
        shown: Names of scores, in the order of the panels.
        accuracy: Column of the accuracy, from 0 to 1.
        reference: For some scores values whose accuracy is not known; they are marked
            at the right edge.
        curves: For some scores a line: accuracies and AUROCs.

    Raises:
        ValueError: If a column is missing.
    """
    learned = "wrong labels learned"
    needed = ("dataset", "kind", "noise", "score", "auroc", learned, accuracy)
    _check_columns(points, *needed)
    rows = math.ceil(len(shown) / 2)
    figure, axes = plt.subplots(
        rows,
        2,
        figsize=(WIDTH, 0.5 + 2.6 * rows),
        layout="constrained",
        sharex=True,
        sharey=True,
        squeeze=False,
    )
    datasets = list(dict.fromkeys(points["dataset"]))
    for ax, score in zip(axes.flat, shown, strict=False):
        _axes(ax).set_title(words(score))
        ax.axhline(0.5, color=GREY, linestyle=":", linewidth=1.2)
        for k, dataset in enumerate(datasets):
            part = points[(points["dataset"] == dataset) & (points["score"] == score)]
            colour, marker = COLOURS[k % len(COLOURS)], MARKERS[k % len(MARKERS)]
            random = part["noise"] == "symmetric"
            head, known = part["kind"] != "network", part[learned] >= 0.5
            for chosen, look in (
                (random & ~head & known, {"marker": marker, "markersize": 6}),
                (random & ~head & ~known, {"marker": ".", "markersize": 5}),
                (random & head, {"marker": marker, "markerfacecolor": "white"}),
                (~random, {"marker": "x", "markersize": 5}),
            ):
                some = part[chosen]
                ax.plot(some[accuracy], some["auroc"], color=colour, ls="none", **look)
            if score == shown[0]:
                ax.plot([], [], color=colour, ls="none", marker=marker, label=dataset)
        for value in (reference or {}).get(score, ()):
            ax.plot(1.02, value, color="black", marker="<", clip_on=False)
        if score in (curves or {}):
            ax.plot(*curves[score], color=GREY, linewidth=1.2)
    for ax in axes.flat[len(shown) :]:
        ax.set_axis_off()
    for ax in axes[-1]:
        ax.set_xlabel("accuracy on unseen images")
    for ax in axes[:, 0]:
        ax.set_ylabel("AUROC")
    axes[0, 0].set(xlim=(0, 1.02), ylim=(0.4, 1.02))
    figure.legend(loc="outside lower center", ncols=4, fontsize=9)
    return figure


def along_run(
    found: Mapping[str, pd.Series], *, shares: Sequence[str], turn: float | None = None
) -> Figure:
    """Shares of a run by epoch above, and AUROC by epoch below.

    Args:
        found: Series by name, indexed by epoch.
        shares: Names of those that are drawn above; all others are AUROCs.
        turn: An epoch to mark, such as the end of augmentation.
    """
    figure, axes = plt.subplots(
        2, 1, figsize=(WIDTH, 4.8), layout="constrained", sharex=True
    )
    for ax, names, ylabel in (
        (axes[0], shares, "share of the images"),
        (axes[1], [name for name in found if name not in shares], "AUROC"),
    ):
        _axes(ax).set_ylabel(ylabel)
        for k, name in enumerate(names):
            ax.plot(
                found[name].index,
                found[name],
                color=COLOURS[k],
                linestyle=LINES[k],
                marker=MARKERS[k],
                markersize=4,
                label=name,
            )
        if turn is not None:
            ax.axvline(turn, color=GREY, linestyle=":", linewidth=1.2)
        ax.legend(fontsize=9)
    axes[1].set_xlabel("epoch")
    axes[1].xaxis.get_major_locator().set_params(integer=True)
    return figure


def plane(
    corners: pd.DataFrame,
    values: np.ndarray,
    *,
    levels: np.ndarray,
    label: str | None = None,
    cmap: str | Colormap = "viridis",
    boundary: float | None = None,
    ax: Axes | None = None,
) -> Axes:
    """A map of values over the plane.

    Args:
        corners: Columns ``low`` and ``high``, a row for each coordinate.
        values: Shape [side, side], over an even grid between the corners.
        levels: Where one colour ends and the next begins.
        label: Label of the colour bar; None for no bar.
        cmap: Matplotlib's colours, or ``TWO_CLASSES`` for a probability of class 1.
        boundary: Value at which to draw a black line; None for none.
        ax: Where to draw; a new figure if None.
    """
    ax = _axes(ax)
    across, up = (
        np.linspace(*ends, len(values)) for ends in corners[["low", "high"]].to_numpy()
    )
    shown = ax.contourf(across, up, values, levels=levels, cmap=cmap, alpha=0.75)
    if boundary is not None:
        ax.contour(across, up, values, levels=[boundary], colors="black", linewidths=1)
    if label is not None:
        ax.figure.colorbar(shown, ax=ax, label=label)
    ax.grid(visible=False)
    ax.set(xticks=[], yticks=[], aspect="equal")
    return ax


def points(frame: pd.DataFrame, *, area: np.ndarray | float = 34.0, ax: Axes) -> Axes:
    """Points in the plane in the colour of their label; a wrong label gets a ≠.

    Args:
        frame: Columns ``x``, ``y``, ``label`` (0 or 1) and ``wrong`` (bool).
        area: Of the discs, in square points; one for each point, or one for all.
        ax: Where to draw.
    """
    colours = [COLOURS[1 - label] for label in frame["label"]]
    ax.scatter(
        frame["x"], frame["y"], s=area, color=colours, edgecolor="white", zorder=3
    )
    for place in frame.loc[frame["wrong"], ["x", "y"]].to_numpy():
        ax.annotate("≠", place, (4, 4), textcoords="offset points", weight="bold")
    return ax


def ranked(
    values: pd.Series, groups: Mapping[str, np.ndarray], *, ylabel: str, ax: Axes
) -> Axes:
    """Values from the highest to the lowest, each group in its colour and marker.

    Args:
        values: One a sample, positive.
        groups: Name to bool mask of the samples, as for :func:`distributions`.
        ylabel: Name of the values.
        ax: Where to draw.
    """
    order = np.argsort(-values.to_numpy(), kind="stable")
    for k, (name, mask) in enumerate(groups.items()):
        place = np.flatnonzero(np.asarray(mask)[order])
        look = {"color": COLOURS[k], "marker": MARKERS[k], "s": 22, "label": name}
        ax.scatter(place + 1, values.to_numpy()[order][place], **look)
    ax.set(yscale="log", xlabel="rank", ylabel=ylabel)
    ax.legend(frameon=False, fontsize=9)
    return ax
