"""Slides: made from pages, and open in a browser without a network."""

import ast
import json
import shutil
from pathlib import Path

import pytest
from test_browser import Reader
from toy_book import code, markdown, notebook

from curvlib.book import cleanup, slides
from curvlib.book.parameters import PageError

ROOT = Path(__file__).parents[1]
STATIC = ROOT / "book" / "_static"
DRAWING = '<svg xmlns="http://www.w3.org/2000/svg" width="9pt" height="9pt"></svg>'
SOURCE = """\
# A talk
First.

---

## Second, $x_1$ and $x_2$
![A dot](toy/fig-dot)
{{toy.share:.1%}} of it is $y > 0$.

{.ask}
Why?
"""


@pytest.fixture
def pages(tmp_path) -> Path:
    told = {
        "output_type": "display_data",
        "data": {f"{cleanup.GLUE}text/plain": "0.25"},
        "metadata": {"scrapbook": {"name": "share", "mime_prefix": cleanup.GLUE}},
    }
    (tmp_path / "pages" / "toy").mkdir(parents=True)
    (tmp_path / "pages" / "toy" / "fig-dot.svg").write_text(DRAWING)
    page = notebook(markdown("text"), code("tell()", [told]))
    (tmp_path / "pages" / "toy.ipynb").write_text(json.dumps(page))
    return tmp_path / "pages"


def test_slides_hold_the_figures_and_numbers_of_pages(pages):
    made = slides.slides(SOURCE, pages)
    assert made.count("<section>") == 2
    assert "<title>A talk</title>" in made
    assert "25.0% of it" in made
    assert 'alt="A dot" src="data:image/svg+xml;base64,' in made
    assert r"\(x_1\)" in made and r"\(y &gt; 0\)" in made
    assert '<p class="ask">Why?</p>' in made


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("toy/fig-dot", "toy/fig-line", "no figure fig-line of page toy"),
        ("toy.share", "toy.part", "page toy tells no part"),
        ("toy.share", "other.share", "page other was never drawn"),
    ],
)
def test_what_a_page_lacks_is_named(pages, old, new, message):
    with pytest.raises(PageError, match=message):
        slides.slides(SOURCE.replace(old, new), pages)


def test_of_a_figure_in_tabs_the_first_is_shown(pages):
    file = pages / "toy" / "fig-dot.svg"
    file.rename(file.with_stem("fig-dot-1"))
    assert "data:image/svg+xml" in slides.slides(SOURCE, pages)


@pytest.mark.parametrize("source", sorted((ROOT / "book" / "slides").glob("*.md")))
def test_slides_name_figures_and_numbers_that_their_pages_have(source):
    text = source.read_text("utf-8")
    figures, numbers = slides.FIGURE.findall(text), slides.NUMBER.findall(text)
    assert figures and numbers
    for _, page, name in figures:
        cells = cleanup.read(ROOT / "notebooks" / f"{page}.ipynb")["cells"]
        options = [c["metadata"].get("mystnb", {}).get("figure", {}) for c in cells]
        assert name in [o.get("name") for o in options], f"{page} has no {name}"
    for page, key, _ in numbers:
        cells = cleanup.read(ROOT / "notebooks" / f"{page}.ipynb")["cells"]
        lines = "\n".join(c["source"] for c in cells if c["cell_type"] == "code")
        told = {
            given.arg
            for node in ast.walk(ast.parse(lines))
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "page.tell"
            for given in node.keywords
        }
        assert key in told, f"{page} tells no {key}"


def test_reveal_is_small_and_has_its_licence_beside_it():
    folder = STATIC / "reveal"
    assert "MIT" in (folder / "reveal.js").read_text("utf-8")[:300]
    assert "Permission is hereby granted" in (folder / "LICENSE").read_text("utf-8")
    assert sum(file.stat().st_size for file in folder.iterdir()) < 1e6


def test_slides_open_offline_and_move_on_by_key(pages, tmp_path, browser):
    for name in ("reveal", "mathjax"):
        shutil.copytree(STATIC / name, tmp_path / name)
    shutil.copy(STATIC / "slides.css", tmp_path)
    (tmp_path / "talk.html").write_text(slides.slides(SOURCE, pages), encoding="utf-8")
    opens(Reader(browser, tmp_path, viewport={"width": 1280, "height": 800}), "talk")


def test_the_lesson_opens_offline(html, browser):
    reader = Reader(browser, html, viewport={"width": 1280, "height": 800})
    page = opens(reader, "_static/slides-lesson")
    count = page.evaluate("Reveal.getTotalSlides()")
    for number in range(count):  # nothing is cut off at the bottom
        page.evaluate("number => Reveal.slide(number, 0, 99)", number)
        high = page.evaluate("Reveal.getCurrentSlide().scrollHeight")
        assert high <= page.evaluate("Reveal.getConfig().height"), number
    assert reader.faults == []


def opens(reader: Reader, name: str):
    page = reader.open(name)
    page.wait_for_function("Reveal.isReady()")
    title = page.locator("h1")
    assert title.is_visible()
    page.keyboard.press("ArrowRight")
    page.wait_for_function("Reveal.getIndices().h === 1")
    assert page.locator("section.present h2").is_visible()
    assert page.locator("mjx-container").count() > 0
    loaded = "img => img.complete && img.naturalWidth > 0"
    assert all(image.evaluate(loaded) for image in page.locator("img").all())
    assert reader.faults == []
    return page
