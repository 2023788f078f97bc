"""Plots of a report as inline SVG: text, lines and areas that the style sheet colours.

Every function returns a ``<figure>``. A plot is as wide as the page allows.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np

WIDTH, HEIGHT = 420, 230
LEFT, RIGHT, TOP, BOTTOM = 44, 12, 22, 40
BINS = 40


def precision(curve: Mapping[str, Sequence[float]], wrong: float | None) -> str:
    """Expected share of wrong labels among the first k suspects, with its interval.

    Args:
        curve: rank, ascending from 1; precision, low and high in [0, 1].
        wrong: Estimated number of wrong labels, marked; None: not marked.
    """
    ranks = np.array(curve["rank"], float)
    last = max(ranks.max(), 2)

    def x(rank: float) -> float:
        return _across(math.log(max(rank, 1)) / math.log(last))

    def points(name: str) -> list[tuple[float, float]]:
        return [(x(r), _up(v)) for r, v in zip(ranks, curve[name], strict=True)]

    band = points("high") + points("low")[::-1]
    powers = [10.0**k for k in range(int(math.log10(last)) + 1)]
    ticks = [(x(power), f"{power:,.0f}") for power in powers]
    parts = [
        *_frame("rank of the suspect (logarithmic)", ticks),
        *(_y_tick(_up(v), f"{100 * v:.0f}%") for v in (0, 0.25, 0.5, 0.75, 1)),
        f'<path class="band" d="{_path(band)}Z"/>',
        f'<path class="line" d="{_path(points("precision"))}"/>',
    ]
    if wrong is not None and 1 <= wrong <= last:
        parts.append(_mark(x(wrong), f"{wrong:,.0f}"))
    note = (
        "Expected share of wrong labels among the first suspects, with its 90% "
        "interval. The dashed line marks the estimated number of wrong labels."
    )
    return _figure("precision", parts, note)


def distribution(consensus: np.ndarray, wrong: float | None) -> str:
    """How many images have which suspicion.

    Args:
        consensus: Of all samples, high is suspect; values that are not finite are left
            out.
        wrong: Estimated number of wrong labels; the suspicion above which as many
            images lie is marked. None: not marked.
    """
    values = consensus[np.isfinite(consensus)]
    if not len(values):
        return ""
    low, high = values.min(), values.max()
    if low == high:
        low, high = low - 0.5, high + 0.5
    counts, edges = np.histogram(values, BINS, (low, high))
    most = counts.max()

    def x(value: float) -> float:
        return _across((value - low) / (high - low))

    bars = "".join(
        f"M{x(a):.1f},{_up(0):.1f}V{_up(n / most):.1f}H{x(b):.1f}V{_up(0):.1f}Z"
        for n, a, b in zip(counts, edges, edges[1:], strict=False)
        if n
    )
    values_shown = [low + (high - low) * k / 4 for k in range(5)]
    ticks = [(x(value), f"{value:.2g}") for value in values_shown]
    parts = [
        *_frame("suspicion (consensus of the scores)", ticks),
        *(_y_tick(_up(k / 2), f"{most * k / 2:,.4g}") for k in range(3)),
        f'<path class="bars" d="{bars}"/>',
    ]
    note = f"Suspicion of all {len(values):,} images."
    if wrong is not None and 1 <= wrong <= len(values):
        threshold = np.sort(values)[::-1][round(wrong) - 1]
        parts.append(_mark(x(threshold), f"{wrong:,.0f} above"))
        note += " As many images lie above the dashed line as labels seem to be wrong."
    return _figure("distribution", parts, note)


def _across(share: float) -> float:
    return LEFT + share * (WIDTH - LEFT - RIGHT)


def _up(share: float) -> float:
    return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)


def _path(points: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{x:.1f},{y:.1f}" for x, y in points)


def _frame(name: str, ticks: Sequence[tuple[float, str]]) -> list[str]:
    """The x axis."""
    base = _up(0)
    found = [f'<path class="axis" d="M{LEFT},{base}H{WIDTH - RIGHT}"/>']
    for x, text in ticks:
        found.append(
            f'<text x="{x:.1f}" y="{base + 15}" text-anchor="middle">{text}</text>'
        )
    middle = (LEFT + WIDTH - RIGHT) / 2
    found.append(
        f'<text x="{middle}" y="{HEIGHT - 6}" text-anchor="middle">{name}</text>'
    )
    return found


def _y_tick(y: float, text: str) -> str:
    return (
        f'<path class="grid" d="M{LEFT},{y:.1f}H{WIDTH - RIGHT}"/>'
        f'<text x="{LEFT - 5}" y="{y + 4:.1f}" text-anchor="end">{text}</text>'
    )


def _mark(x: float, text: str) -> str:
    """A dashed line with a word on the side where there is room."""
    left = x > WIDTH * 0.7
    return (
        f'<path class="mark" d="M{x:.1f},{TOP - 18}V{_up(0):.1f}"/>'
        f'<text x="{x + (-5 if left else 5):.1f}" y="{TOP - 8}" '
        f'text-anchor="{"end" if left else "start"}">{text}</text>'
    )


def _figure(name: str, parts: Sequence[str], note: str) -> str:
    return (
        f'<figure id="{name}"><svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{note}">{"".join(parts)}</svg>'
        f"<figcaption>{note}</figcaption></figure>\n"
    )
