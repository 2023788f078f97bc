import io
import json
import re
from xml.etree import ElementTree

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from curvlib.book import artwork, figures
from curvlib.book.palette import COLOURS, VARIABLES

RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def no_figure_left_open():
    plt.switch_backend("agg")
    yield
    plt.close("all")


def two_lines():
    _, ax = plt.subplots(layout="constrained")
    ax.plot([1, 2], [3, 4], color=COLOURS[0], label="up")
    ax.plot([1, 2], [4, 3], color=COLOURS[1], label="down")
    ax.set(xlabel="epoch", title="Two")
    ax.legend()
    return ax.figure


def cloud(count):
    _, ax = plt.subplots()
    ax.scatter(*RNG.normal(size=(2, count)), color=COLOURS[0])
    return ax.figure


def page(*cells):
    return json.dumps({"cells": list(cells), "nbformat": 4}).encode()


def code(source="draw()", *, figures=(), name=None, alt="A line.", tags=()):
    figure = {"caption": "A claim."} | ({"name": name} if name else {})
    mystnb = {"figure": figure, "image": {"alt": alt}}
    output = {
        "output_type": "display_data",
        "metadata": {"needs_background": "light"},
        "data": {artwork.MIME: {"figures": list(figures)}, "text/plain": "<Figure>"},
    }
    return {
        "cell_type": "code",
        "source": source,
        "metadata": {"mystnb": mystnb} | ({"tags": list(tags)} if tags else {}),
        "outputs": [output] if figures else [],
    }


def test_a_drawing_is_the_same_text_each_time_and_has_no_date():
    first = artwork.svg(two_lines())
    assert artwork.svg(two_lines()) == first
    assert "<dc:date>" not in first and "matplotlib v" not in first.lower()
    ElementTree.fromstring(first)


def test_a_drawing_has_no_background_and_its_letters_are_text():
    drawing = artwork.svg(two_lines())
    assert not re.search(r"fill: #ffffff(?!; opacity)", drawing.split("legend")[0])
    words = "".join(ElementTree.fromstring(drawing).itertext())
    assert all(word in words for word in ("epoch", "Two", "up", "down"))


def test_in_a_page_every_colour_of_the_palette_is_that_of_the_page():
    shown = artwork.in_page(artwork.svg(two_lines()), "Two lines.")
    for k in (1, 2):
        assert f"stroke: var(--figure-{k}, {COLOURS[k - 1]})" in shown
    assert "stroke: currentColor" in shown
    for colour in VARIABLES:
        assert not re.search(rf": {colour}[;\"]", shown)


def test_two_drawings_of_a_page_share_no_id():
    shown = [artwork.in_page(artwork.svg(f), "") for f in (two_lines(), cloud(20))]
    first, second = (set(re.findall(r'\sid="([^"]+)"', text)) for text in shown)
    assert first and second and not first & second
    for text, ids in zip(shown, (first, second), strict=True):
        used = set(re.findall(r'href="#([^"]+)"|url\(#([^)]+)\)', text))
        assert {a or b for a, b in used} <= ids


def test_the_alternative_text_is_escaped_and_named():
    shown = artwork.in_page(artwork.svg(two_lines()), 'a "b" < c')
    assert 'role="img" aria-label="a &quot;b&quot; &lt; c"' in shown


def test_many_points_become_one_picture_within_the_drawing():
    few, many = (artwork.svg(cloud(count)) for count in (100, 20_000))
    assert "<image" not in few
    assert many.count("<image") == 1 and len(many) < 400_000
    shown = artwork.in_page(many, "")
    assert '<image class="ink"' in shown


def test_photographs_keep_their_colours_in_a_dark_page():
    photos = RNG.integers(0, 256, (3, 8, 8, 3)).astype(np.uint8)
    shown = artwork.in_page(artwork.svg(figures.gallery(photos)), "")
    assert shown.count("<image") == 3 and 'class="ink"' not in shown


def test_the_data_of_a_figure_are_its_points_by_panel_and_series():
    found = artwork.data(two_lines())
    assert found.to_dict("list") == {
        "panel": ["Two"] * 4,
        "series": ["up", "up", "down", "down"],
        "x": [1, 2, 1, 2],
        "y": [3, 4, 4, 3],
    }


def test_the_data_of_bars_bands_steps_and_grids_are_theirs():
    _, (left, right) = plt.subplots(1, 2)
    left.stairs([5, 6], [0, 1, 2], label="steps")
    left.fill_between([0, 1], [1, 2], [3, 4], label="band")
    left.barh([0], [7], label="bar")
    left.errorbar([9], [8], yerr=[1], capsize=3, label="dot")
    right.pcolormesh([0, 1, 2], [0, 1], np.array([[1.0, 2.0]]))
    right.axvline(0.5)
    found = artwork.data(left.figure)
    columns = ["series", "x", "y", "low", "high", "value"]
    rows = [[v for v in row if v == v] for row in found[columns].values]
    assert sorted(rows, key=str) == sorted(
        [
            ["steps", 5, 0, 1],
            ["steps", 6, 1, 2],
            ["band", 0, 1, 3],
            ["band", 1, 2, 4],
            ["bar", 0.4, 0, 7],
            ["dot", 9, 8],
            ["", 0, 0, 1],
            ["", 1, 0, 2],
        ],
        key=str,
    )


def test_a_figure_can_carry_its_own_table():
    figure = two_lines()
    setattr(figure, artwork.DATA, pd.DataFrame({"image": [7]}))
    assert artwork.bundle(figure)["csv"] == "image\n7\n"


def test_a_placed_figure_is_in_the_page_with_links_to_drawing_data_and_code():
    drawn = artwork.bundle(two_lines())
    content, files = artwork.place(
        page(code(figures=[drawn], name="toy-fig-a")), "/book/pages/toy"
    )
    anchor, cell, links = json.loads(content)["cells"]
    assert files == {
        "fig-a.svg": drawn["svg"].encode(),
        "fig-a.csv": drawn["csv"].encode(),
    }
    (output,) = cell["outputs"]
    assert output["metadata"] == {} and artwork.MIME not in output["data"]
    assert 'aria-label="A line."' in output["data"]["text/html"]
    assert anchor["source"] == '<span id="code-fig-a"></span>'
    assert "{download}`SVG </book/pages/toy/fig-a.svg>`" in links["source"]
    assert "{download}`data </book/pages/toy/fig-a.csv>`" in links["source"]
    assert '<a href="#code-fig-a">code</a>' in links["source"]


def test_figures_of_tabs_have_a_link_each_and_the_cell_keeps_its_html():
    drawn = [artwork.bundle(two_lines(), label) for label in ("digits", "MNIST")]
    cell = code(figures=drawn, name="toy-fig-b", tags=["remove-input"])
    cell["outputs"][0]["data"]["text/html"] = "<div>tabs</div>"
    content, files = artwork.place(page(cell), "/toy")
    cell, links = json.loads(content)["cells"]
    assert sorted(files) == [
        f"fig-b-{k}.{kind}" for k in (1, 2) for kind in ("csv", "svg")
    ]
    assert cell["outputs"][0]["data"]["text/html"] == "<div>tabs</div>"
    assert "digits: {download}`SVG" in links["source"]
    assert "MNIST: {download}`SVG" in links["source"]
    assert "code" not in links["source"]  # the page does not show it


@pytest.mark.parametrize(("lines", "folds"), [(25, False), (26, True)])
def test_code_longer_than_a_screen_is_folded(lines, folds):
    cell = code("\n".join(["x = 1"] * lines))
    (cell,) = json.loads(artwork.place(page(cell), "")[0])["cells"]
    assert ("hide-input" in cell["metadata"].get("tags", [])) == folds
    if folds:
        options = cell["metadata"]["mystnb"]
        assert options["code_prompt_show"] == "Show the code (26 lines)"


def test_a_notebook_that_runs_for_the_book_shows_its_figures_as_drawings():
    from IPython.core.interactiveshell import InteractiveShell

    shell = InteractiveShell.instance()
    try:
        artwork.show_as_svg()
        shown, _ = shell.display_formatter.format(two_lines())
    finally:
        shell.display_formatter.mimebundle_formatter.pop(plt.Figure)
        InteractiveShell.clear_instance()
    assert set(shown) == {artwork.MIME, "text/plain"}
    (figure,) = shown[artwork.MIME]["figures"]
    assert figure["svg"].rstrip().endswith("</svg>")
    assert pd.read_csv(io.StringIO(figure["csv"]))["y"].tolist() == [3, 4, 4, 3]
