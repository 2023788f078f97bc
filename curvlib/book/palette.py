"""Colours of the book, for light pages and for dark ones.

Six colours for lines and groups. On its own page each has a contrast of 3.2 or more
with the background, as graphics need (WCAG 2.2, 1.4.11), and any two of them, and the
grey, differ by 20 or more in CIELAB also for readers who do not see red, green or blue
(Machado, Oliveira and Fernandes, 2009). ``tests/test_palette.py`` measures both.
"""

COLOURS = ("#094278", "#e16f00", "#24a45d", "#bd6ebc", "#804204", "#0069eb")
DARK = ("#43c1ff", "#f5800d", "#00944f", "#aa68af", "#fad078", "#c3e9fe")
GREY, GREY_DARK = "#767676", "#9a9a9a"
GRID, GRID_DARK = "#e4e4e4", "#333a44"
PAPER, PAPER_DARK = "#ffffff", "#121212"  # backgrounds of a page

# What a drawing in a page has in place of each colour; the value of a variable is in
# book/_static/curvlib.css.
VARIABLES = {
    "#000000": "currentColor",
    PAPER: f"var(--figure-paper, {PAPER})",
    GREY: f"var(--figure-grey, {GREY})",
    GRID: f"var(--figure-grid, {GRID})",
} | {
    colour: f"var(--figure-{k}, {colour})" for k, colour in enumerate(COLOURS, start=1)
}
