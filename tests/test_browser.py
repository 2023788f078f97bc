"""The book as its readers see it: in a browser, from a folder, without a network."""

import re

import pandas as pd
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect
from test_book import ROOT, toc

from curvlib.scores import FROM_TRACE, SCORES

WIDE, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}


class Reader:
    """Opens pages, and notes what no reader should meet."""

    def __init__(self, browser, html, **context):
        self.html = html
        self.page = browser.new_context(**context).new_page()
        self.faults = []
        self.page.on("request", self._request)
        self.page.on("requestfailed", lambda r: self.faults.append(f"failed: {r.url}"))
        self.page.on("console", self._console)
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))

    def _request(self, request):
        if not request.url.startswith(("file:", "data:", "blob:")):
            self.faults.append(f"asked for {request.url}")

    def _console(self, message):
        if message.type == "error":
            self.faults.append(message.text)

    def open(self, name):
        self.page.goto((self.html / f"{name}.html").as_uri())
        self.page.wait_for_function(
            "document.readyState === 'complete'"
            " && (!window.MathJax || MathJax.startup.promise)"
        )
        self.page.evaluate("window.MathJax && MathJax.startup.promise")
        return self.page


@pytest.fixture
def read(browser, html):
    readers = []

    def reader(**context):
        readers.append(Reader(browser, html, **context))
        return readers[-1]

    yield reader
    for each in readers:
        each.page.context.close()


def barriers(page) -> list[str]:
    """What axe-core finds that keeps readers out: serious and critical findings."""
    found = Axe().run(page).response["violations"]
    return [
        f"{rule['id']}: {node['html'][:200]}"
        for rule in found
        if rule["impact"] in ("serious", "critical")
        for node in rule["nodes"]
    ]


@pytest.mark.parametrize("name", toc())
def test_a_page_is_whole_in_light_in_dark_and_on_a_phone(read, name):
    for scheme, viewport in (("light", WIDE), ("dark", WIDE), ("light", PHONE)):
        reader = read(color_scheme=scheme, viewport=viewport)
        page = reader.open(name)
        assert reader.faults == []
        assert page.evaluate("document.documentElement.dataset.theme") == scheme
        width = page.evaluate(
            "Math.max(document.documentElement.scrollWidth,"
            " document.querySelector('article').getBoundingClientRect().right)"
        )
        assert width <= viewport["width"], f"{width} px wide"
        formulas = page.locator("article .math").count()
        assert page.locator("article mjx-container").count() >= formulas
        assert page.locator("mjx-merror").count() == 0
        assert barriers(page) == []


def test_formulas_are_drawn_and_not_shown_as_tex(read):
    page = read().open("book/method")
    assert page.locator("mjx-container").count() > 20
    assert "\\operatorname" not in page.locator("article").inner_text()
    fonts = "[...document.fonts].filter(f => f.status === 'loaded').map(f => f.family)"
    assert any("MJX" in family for family in page.evaluate(fonts))


def test_the_dark_page_is_dark(read):
    page = read(color_scheme="dark").open("book/intro")
    color = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert max(int(x) for x in color[color.index("(") + 1 : -1].split(",")[:3]) < 80


def test_a_figure_opens_large_by_click_or_key_and_escape_closes_it(read):
    page = read(viewport=WIDE).open("book/pages/gallery")
    figure = page.locator("svg.artwork:visible").first
    dialog = page.locator("dialog.lightbox")
    figure.click()
    expect(dialog).to_be_visible()
    large = dialog.locator("svg")
    assert large.get_attribute("aria-label") == figure.get_attribute("aria-label")
    assert large.bounding_box()["width"] >= figure.bounding_box()["width"]
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    page.get_by_role("button", name="Enlarge the figure").first.focus()
    page.keyboard.press("Enter")
    expect(dialog).to_be_visible()
    dialog.get_by_role("button", name="Close").press("Enter")
    expect(dialog).to_be_hidden()


def test_each_figure_has_its_drawing_its_data_and_its_code(read, html):
    page = read(viewport=WIDE).open("book/pages/feldman_zhang")
    links = page.locator(".figure-links").first
    folder = page.url.rsplit("/", 1)[0]
    for name, start in (("SVG", "<?xml"), ("data", "score,")):
        href = links.get_by_role("link", name=name).first.get_attribute("href")
        file = html / "book" / "pages" / href
        assert file.read_text("utf-8").startswith(start), (folder, href)
    links.get_by_role("link", name="code").click()
    anchor = page.locator(page.url[page.url.index("#") :])
    assert anchor.count() == 1


def test_a_tab_is_chosen_in_every_group_and_a_figure_links_to_what_is_in_sight(read):
    reader = read(viewport=WIDE)
    page = reader.open("book/pages/mislabelled")
    groups = page.locator("fieldset.data-tabs")
    label = groups.nth(2).locator("> label").nth(3)
    name = label.inner_text()
    label.scroll_into_view_if_needed()
    before = label.bounding_box()["y"]
    label.click()
    assert label.bounding_box()["y"] == pytest.approx(before, abs=2)
    with_it = groups.filter(has=page.get_by_text(name, exact=True))
    chosen = with_it.locator("> input:checked + label").all_inner_texts()
    assert len(chosen) > 4 and set(chosen) == {name}
    links = page.locator(".figure-links [data-tab]:visible")
    tabs = links.evaluate_all("all => all.map(link => link.dataset.tab)")
    assert len(tabs) > 2 and set(tabs) == {name}
    assert reader.faults == []


def test_a_long_table_shows_six_rows_and_the_others_on_request(read):
    page = read(viewport=WIDE).open("book/pages/mislabel_summary")
    box = page.locator(".table-box:has(details):visible").first
    rows, more = box.locator("tbody tr:visible"), box.locator("summary")
    expect(rows).to_have_count(6)
    total = int(re.search(r"all (\d+) rows", more.inner_text())[1])
    more.press("Enter")
    expect(rows).to_have_count(total)


def test_a_wide_table_is_scrolled_by_keys_and_no_value_is_cut_or_broken(read):
    page = read(viewport=PHONE).open("book/pages/mislabel_summary")
    table = page.locator(".wide-table[tabindex='0']:visible").first
    table.focus()
    page.keyboard.press("End")
    page.keyboard.press("ArrowRight")
    page.wait_for_function("box => box.scrollLeft > 0", arg=table.element_handle())
    breaks = table.locator("td.number").evaluate_all(
        "cells => cells.map(cell => getComputedStyle(cell).whiteSpace)"
    )
    assert set(breaks) == {"nowrap"}


@pytest.mark.parametrize("viewport", [WIDE, PHONE], ids=["wide", "phone"])
def test_the_class_chosen_in_the_gallery_is_the_one_shown(read, viewport):
    reader = read(viewport=viewport, color_scheme="dark")
    page = reader.open("book/pages/gallery")
    box = page.locator(".by-class-0")  # of digits, the first tab
    shown = box.locator("section:visible")
    expect(shown).to_have_count(1)
    assert shown.get_attribute("data-class") == "0"
    box.get_by_label("Class").select_option(label="7")
    expect(shown).to_have_count(1)
    assert shown.get_attribute("data-class") == "7"
    assert shown.locator("li").count() == 20
    names = shown.locator("i").evaluate_all("all => all.map(i => i.ariaLabel)")
    assert {name.split(", ")[1] for name in names} == {"7"}
    box.get_by_label("Class").press("ArrowDown")  # without a mouse
    expect(shown).to_have_attribute("data-class", "8")
    picture = shown.locator("i").first
    assert picture.get_attribute("aria-label").startswith("image ")
    width = page.evaluate(  # of the picture behind all, if the browser can read it
        """async image => {
            const url = getComputedStyle(image).backgroundImage;
            const whole = new Image();
            whole.src = url.slice(5, -2);
            await whole.decode();
            return whole.naturalWidth;
        }""",
        picture.element_handle(),
    )
    assert width > 8
    assert reader.faults == []


def test_the_search_finds_a_word(read, html):
    reader = read()
    reader.page.goto((html / "search.html").as_uri() + "?q=Rademacher")
    for name in ("method", "glossary"):
        found = reader.page.locator(f'#search-results a[href*="book/{name}.html"]')
        found.first.wait_for(timeout=10_000)
    assert reader.faults == []


EXPLORER = "book/pages/explorer"
DIGITS = '.explorer iframe[title$="digits"]'  # one of the page's explorers
# Of the mean brightness of a canvas, 0 to 255.
BRIGHTNESS = """canvas => {
    const {width, height} = canvas;
    const {data} = canvas.getContext("2d").getImageData(0, 0, width, height);
    return data.filter((_, k) => k % 4 === 0).reduce((a, b) => a + b) / width / height;
}"""


@pytest.fixture
def explorer(read):
    """The frame of the digits explorer in its page, ready; and the page's reader."""
    reader = read(viewport=WIDE)
    page = reader.open(EXPLORER)
    page.locator(DIGITS).scroll_into_view_if_needed()
    frame = page.frame_locator(DIGITS)
    frame.locator("html[data-ready]").wait_for(timeout=60_000)
    return frame, reader


@pytest.fixture(scope="module")
def scored(html) -> pd.DataFrame:
    file = ROOT / "results" / "digits" / "explorer" / "scores.parquet"
    return pd.read_parquet(file).drop(columns="random").set_index("index")


def drawn(frame, name):
    """Columns of one of the plot's sources: rest, chosen or marked."""
    return frame.locator("body").evaluate(
        """(_, name) => Object.fromEntries(Object.entries(
            Bokeh.documents[0].get_model_by_name(name).data_source.data
        ).map(([key, values]) => [key, Array.from(values)]))""",
        name,
    )


def rows(frame):
    """Texts of the table's body, a list a row, the image left out."""
    return frame.locator("#table tbody").evaluate(
        "body => [...body.rows].map(r => [...r.cells].slice(1).map(c => c.innerText))"
    )


def test_the_explorer_draws_every_image_by_the_scores_that_a_reader_chooses(
    explorer, scored
):
    frame, reader = explorer
    names = {SCORES[name].label for name in FROM_TRACE if name != "random"}
    assert set(frame.locator("#x option").all_inner_texts()) == names
    assert not any(drawn(frame, "rest")["x"])  # ten classes: all have their colour
    assert len(set(drawn(frame, "chosen")["colour"])) == 10
    frame.locator("#x").select_option(SCORES["learning_time"].label)
    frame.locator("#y").select_option(SCORES["aum"].label)
    log = frame.locator("#logy")
    assert log.is_disabled() == bool((scored["aum"] < 0).any())
    if log.is_checked():
        log.uncheck()
    points = drawn(frame, "chosen")
    assert len(points["x"]) == len(scored)
    assert points["x"] == pytest.approx(list(scored["learning_time"]), rel=1e-4)
    assert points["y"] == pytest.approx(list(scored["aum"]), rel=1e-4, abs=1e-6)
    frame.locator("summary").click()
    frame.locator("#none").click()
    assert len(drawn(frame, "rest")["x"]) == len(scored)
    frame.locator("#classes").get_by_label("3", exact=True).check()
    of_three = scored[scored["class"] == "3"]
    assert drawn(frame, "chosen")["y"] == pytest.approx(list(of_three["aum"]), rel=1e-4)
    assert reader.faults == []


def test_zeros_stand_apart_on_a_logarithmic_axis(explorer, scored):
    frame, reader = explorer
    frame.locator("#x").select_option(SCORES["forgetting_events"].label)
    frame.locator("#logx").check()
    zeros = int((scored["forgetting_events"] == 0).sum())
    note = frame.locator("#note")
    expect(note).to_contain_text(f"{zeros:,} images with forgetting events 0 are left")
    positions = drawn(frame, "chosen")["x"]
    assert positions.count(min(positions)) == zeros > 0
    assert reader.faults == []


def test_an_index_is_found_marked_and_shown_with_all_its_numbers(explorer, scored):
    frame, reader = explorer
    index = int(scored.index[77])
    frame.locator("#index").fill(str(index))
    frame.get_by_role("button", name="Find").click()
    sample = frame.locator("#sample")
    name = scored.loc[index, "class"]
    expect(sample.locator("h2")).to_have_text(f"Image {index}, class {name}")
    shown = sample.locator("tbody").evaluate(
        "body => [...body.rows].map(r => [...r.cells].map(c => c.innerText))"
    )
    known = {SCORES[name].label: name for name in FROM_TRACE if name != "random"}
    assert [row[0] for row in shown] == list(known)
    for label, value, rank in shown:
        score = known[label]
        assert float(value) == pytest.approx(scored.loc[index, score], rel=1e-3)
        suspect = scored[score] * SCORES[score].sign
        # Sixteen bits are kept, so that a few close ones may tie.
        expected = (suspect > suspect[index]).sum() + 1
        assert int(rank.replace(",", "")) == pytest.approx(expected, abs=5)
    marked = drawn(frame, "marked")
    assert len(marked["x"]) == 1
    points = drawn(frame, "chosen")
    assert marked["x"][0] == points["x"][77] and marked["y"][0] == points["y"][77]
    from curvlib.data import load

    pixels = load("digits").images[77].mean()
    assert sample.locator("canvas").evaluate(BRIGHTNESS) == pytest.approx(pixels, abs=2)
    missing = next(i for i in range(3000) if i not in scored.index)
    frame.locator("#index").fill(str(missing))
    frame.locator("#index").press("Enter")
    expect(frame.locator("#found")).to_contain_text(
        f"No image here has index {missing}"
    )
    expect(sample.locator("h2")).to_contain_text(f"Image {index},")
    assert reader.faults == []


def test_the_table_has_the_top_sorts_them_and_keeps_to_one_class(explorer, scored):
    frame, reader = explorer
    frame.locator("#by").select_option(SCORES["aum"].label)  # of which low is suspect
    frame.locator("#k").fill("7")
    top = scored.nsmallest(7, "aum")
    assert [int(row[0]) for row in rows(frame)] == list(top.index)
    assert [row[1] for row in rows(frame)] == list(top["class"])
    frame.get_by_role("button", name="index").click()
    assert [int(row[0]) for row in rows(frame)] == sorted(top.index)
    frame.get_by_role("button", name=re.compile("^index")).click()
    assert [int(row[0]) for row in rows(frame)] == sorted(top.index, reverse=True)
    frame.locator("#within").select_option("8")
    top = scored[scored["class"] == "8"].nsmallest(7, "aum")
    assert [int(row[0]) for row in rows(frame)] == list(top.index)
    frame.locator("#end").select_option("Least")
    frame.locator("#table tbody tr").nth(2).click()
    least = scored[scored["class"] == "8"].nlargest(7, "aum")
    heading = frame.locator("#sample h2")
    expect(heading).to_have_text(f"Image {least.index[2]}, class 8")
    frame.locator("#table tbody tr").nth(3).press("Enter")
    expect(heading).to_have_text(f"Image {least.index[3]}, class 8")
    assert reader.faults == []


def test_pointing_at_an_image_shows_it_and_a_click_keeps_it(explorer, scored):
    frame, reader = explorer
    frame.locator("#index").fill(str(scored.index[5]))
    frame.locator("#index").press("Enter")
    heading = frame.locator("#sample h2")
    expect(heading).to_contain_text(f"Image {scored.index[5]},")
    script = """() => {
            const model = name => Bokeh.documents[0].get_model_by_name(name);
            const {x, y} = model("marked").data_source.data;
            const view = Bokeh.index.get_one(model("plot"));
            const {left, top} = view.el.getBoundingClientRect();
            return {x: left + view.frame.x_scale.compute(x[0]),
                y: top + view.frame.y_scale.compute(y[0])};
        }"""
    where, before = frame.locator("body").evaluate(script), None
    while where != before:  # a busy machine still lays the plot out
        reader.page.wait_for_timeout(300)
        before, where = where, frame.locator("body").evaluate(script)
    outer = reader.page.locator(DIGITS).bounding_box()
    reader.page.mouse.move(outer["x"] + where["x"], outer["y"] + where["y"])
    tip = frame.locator("#tip")
    expect(tip).to_be_visible()
    terms, values = (tip.locator(tag).all_inner_texts() for tag in ("dt", "dd"))
    shown = dict(zip(terms, values, strict=True))
    found = int(shown["index"])
    assert shown["class"] == scored.loc[found, "class"]
    for score in ("cumulative_loss", "curvature_square"):
        value = float(shown[SCORES[score].label])
        assert value == pytest.approx(scored.loc[found, score], rel=1e-3)
        assert value == pytest.approx(scored.loc[scored.index[5], score], rel=0.5)
    reader.page.mouse.down()
    reader.page.mouse.up()
    expect(frame.locator("#sample h2")).to_contain_text(f"Image {found},")
    assert reader.faults == []


def test_the_explorer_is_as_dark_as_its_page_and_fits_a_phone(read):
    reader = read(viewport=PHONE, color_scheme="dark")
    page = reader.open(EXPLORER)
    page.locator(DIGITS).scroll_into_view_if_needed()
    frame = page.frame_locator(DIGITS)
    root = frame.locator("html[data-ready]")
    root.wait_for(timeout=60_000)
    expect(root).to_have_attribute("data-theme", "dark")
    page.evaluate("document.documentElement.dataset.theme = 'light'")
    expect(root).to_have_attribute("data-theme", "light")
    assert root.evaluate("html => html.scrollWidth <= html.clientWidth")
    # As high as its content, so that it needs no bar of its own.
    inside = frame.locator("body").evaluate("body => body.offsetHeight")
    height = page.locator(DIGITS).evaluate("frame => frame.offsetHeight")
    assert inside <= height <= inside + 4
    assert reader.faults == []


def test_the_explorer_opens_in_a_window_of_its_own(read):
    reader = read(viewport=WIDE)
    page = reader.open(EXPLORER)
    link = page.get_by_role(
        "link", name="Open the explorer of digits in a window of its own"
    )
    with page.context.expect_page() as opened:
        link.click()
    opened.value.locator("html[data-ready]").wait_for(timeout=60_000)
    expect(opened.value.locator("h1")).to_contain_text("digits: ")
    opened.value.locator("#table tbody tr").first.press("Enter")
    expect(opened.value.locator("#sample h2")).to_contain_text("Image ")
    assert barriers(opened.value) == []
    assert reader.faults == []


def test_the_table_of_all_scores_is_sorted_by_a_click_on_a_head(read):
    reader = read(viewport=WIDE)
    page = reader.open("book/pages/mislabel_summary")
    table = page.locator("table.sortable")
    heads = table.locator("thead th")

    def column(number):
        return table.locator(f"tbody tr > :nth-child({number + 1})").all_inner_texts()

    names = column(0)
    known = ("curvature_square", "confident_learning", "random")
    assert {SCORES[name].label for name in known} <= set(names)
    heads.nth(2).get_by_role("button").click()
    expect(heads.nth(2)).to_have_attribute("aria-sort", "descending")
    values = [float(text.split()[0]) for text in column(2) if text[0].isdigit()]
    assert values == sorted(values, reverse=True) and len(set(values)) > 3
    page.keyboard.press("Enter")  # the head has the focus
    expect(heads.nth(2)).to_have_attribute("aria-sort", "ascending")
    values = [float(text.split()[0]) for text in column(2) if text[0].isdigit()]
    assert values == sorted(values)
    heads.nth(0).get_by_role("button").click()
    assert column(0) == sorted(names, key=str.lower)
    assert reader.faults == []
