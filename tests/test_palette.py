"""The palette's promises, measured: contrast, and colours that differ for everyone."""

import re
from pathlib import Path

import numpy as np
import pytest

from curvlib.book import palette

CSS = Path(__file__).parents[1] / "book" / "_static" / "curvlib.css"
# Linear RGB as readers see it who lack one kind of cone; Machado, Oliveira and
# Fernandes (2009), severity 1.
EYES = {
    "all cones": np.eye(3),
    "no red": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "no green": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "no blue": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}
THEMES = {
    "light": (palette.COLOURS, palette.GREY, palette.PAPER),
    "dark": (palette.DARK, palette.GREY_DARK, palette.PAPER_DARK),
}


def linear(colour):
    c = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)


def contrast(one, other):
    lights = sorted(float(linear(c) @ [0.2126, 0.7152, 0.0722]) for c in (one, other))
    return (lights[1] + 0.05) / (lights[0] + 0.05)


def cielab(rgb):
    to_xyz = [
        [0.4124564, 0.3575761, 0.1804375],
        [0.2126729, 0.7151522, 0.0721750],
        [0.0193339, 0.1191920, 0.9503041],
    ]
    x = np.clip(rgb, 0, 1) @ np.transpose(to_xyz) / [0.95047, 1, 1.08883]
    f = np.where(x > 0.008856, np.cbrt(x), 7.787 * x + 16 / 116)
    return np.stack(
        [
            116 * f[:, 1] - 16,
            500 * (f[:, 0] - f[:, 1]),
            200 * (f[:, 1] - f[:, 2]),
        ],
        axis=1,
    )


def test_contrast_is_what_it_is_known_to_be():
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("theme", THEMES)
def test_every_colour_stands_out_from_the_page(theme):
    colours, grey, paper = THEMES[theme]
    assert min(contrast(colour, paper) for colour in colours) >= 3.2
    assert contrast(grey, paper) >= 4.5  # it is also the colour of small texts


@pytest.mark.parametrize("eyes", EYES)
@pytest.mark.parametrize("theme", THEMES)
def test_any_two_colours_differ_for_every_reader(theme, eyes):
    colours, grey, _ = THEMES[theme]
    seen = cielab(
        np.array([linear(c) for c in (*colours, grey)]) @ np.transpose(EYES[eyes])
    )
    apart = np.linalg.norm(seen[:, None] - seen[None], axis=2)
    assert apart[~np.eye(len(seen), dtype=bool)].min() >= 20


@pytest.mark.parametrize("theme", THEMES)
def test_the_style_sheet_has_the_same_colours(theme):
    colours, grey, paper = THEMES[theme]
    grid = {"light": palette.GRID, "dark": palette.GRID_DARK}[theme]
    expected = {f"figure-{k}": colour for k, colour in enumerate(colours, start=1)}
    expected |= {"figure-grey": grey, "figure-paper": paper, "figure-grid": grid}
    block = re.search(
        rf'html\[data-theme="{theme}"\] {{(.*?)}}', CSS.read_text("utf-8"), re.DOTALL
    )[1]
    assert dict(re.findall(r"--([\w-]+): (#\w{6});", block)) == expected
