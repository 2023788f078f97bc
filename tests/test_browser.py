"""The book as its readers see it: in a browser, from a folder, without a network."""

import shutil

import pytest
from playwright.sync_api import expect, sync_playwright
from test_book import toc

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
WIDE, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
# Jupyter Book 1 writes the script of its live-code button twice, used or not.
KNOWN_ERROR = "Identifier 'THEBE_JS_URL' has already been declared"


@pytest.fixture(scope="module")
def browser():
    executable = next(filter(None, map(shutil.which, BROWSERS)), None)
    if executable is None:
        pytest.skip("no Chromium: install it, on Debian with `apt install chromium`")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=executable,
            args=["--no-sandbox"],  # containers have none
        )
        yield browser
        browser.close()


class Reader:
    """Opens pages, and notes what no reader should meet."""

    def __init__(self, browser, html, **context):
        self.html = html
        self.page = browser.new_context(**context).new_page()
        self.faults = []
        self.page.on("request", self._request)
        self.page.on("requestfailed", lambda r: self.faults.append(f"failed: {r.url}"))
        self.page.on("console", self._console)
        self.page.on("pageerror", lambda error: self._error(str(error)))

    def _request(self, request):
        if not request.url.startswith(("file:", "data:", "blob:")):
            self.faults.append(f"asked for {request.url}")

    def _console(self, message):
        if message.type == "error":
            self._error(message.text)

    def _error(self, text):
        if text != KNOWN_ERROR:
            self.faults.append(text)

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


def test_a_figure_opens_large_by_click_or_enter_and_escape_closes_it(read):
    page = read().open("book/pages/digits/gallery")
    figure = page.locator("img.zoomable").first
    dialog = page.locator("dialog.lightbox")
    figure.click()
    expect(dialog).to_be_visible()
    large = dialog.locator("img")
    assert large.get_attribute("src") == figure.evaluate("image => image.src")
    assert large.get_attribute("alt") == figure.get_attribute("alt")
    assert large.bounding_box()["width"] >= figure.bounding_box()["width"]
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    figure.focus()
    page.keyboard.press("Enter")
    expect(dialog).to_be_visible()
    page.mouse.click(5, 5)
    expect(dialog).to_be_hidden()


@pytest.mark.parametrize("viewport", [WIDE, PHONE], ids=["wide", "phone"])
def test_the_class_chosen_in_the_gallery_is_the_one_shown(read, viewport):
    reader = read(viewport=viewport, color_scheme="dark")
    page = reader.open("book/pages/digits/gallery")
    box = page.locator(".by-class")
    shown = box.locator("section:visible")
    expect(shown).to_have_count(1)
    assert shown.get_attribute("data-class") == "0"
    box.get_by_label("Class").select_option(label="7")
    expect(shown).to_have_count(1)
    assert shown.get_attribute("data-class") == "7"
    assert shown.locator("li").count() == 20
    labels = [text.split("\n")[1] for text in shown.locator("li").all_inner_texts()]
    assert set(labels) == {"7"}
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
    result = reader.page.locator("#search-results a").first
    result.wait_for(timeout=10_000)
    assert "book/method.html" in result.get_attribute("href")
    assert reader.faults == []
