"""Tabs in a browser, with the book's style sheet alone: by mouse and by keys."""

import itertools
from pathlib import Path

import pytest
from playwright.sync_api import expect

from curvlib.book import tabs

STYLE = Path(__file__).parents[1] / "book" / "_static" / "curvlib.css"


@pytest.fixture
def page(browser, monkeypatch):
    """A page of a phone's width with two groups of tabs, the second of them wide."""
    shown = []
    monkeypatch.setattr(tabs, "_GROUPS", itertools.count(1))
    monkeypatch.setattr(
        "IPython.display.display", lambda data, raw: shown.append(data["text/html"])
    )
    names = ("digits", "CIFAR-10", "CIFAR-100", "MNIST", "Fashion-MNIST")
    tabs.show({name: f"<p>number {k}</p>" for k, name in enumerate(names)})
    wide = '<table style="width: 900px"><tr><td>wide</td></tr></table>'
    tabs.show({"a": wide, "b": "<p>narrow</p>"})
    page = browser.new_page(viewport={"width": 390, "height": 844})
    page.set_content(
        f'<html lang="en"><style>:root {{--pst-color-primary: #036}}'
        f"{STYLE.read_text('utf-8')}</style>"
        f"<article>{''.join(shown)}</article></html>"
    )
    yield page
    page.close()


def test_one_panel_of_each_group_shows_and_a_click_chooses_another(page):
    expect(page.locator(".tab-panel:visible")).to_have_text(["number 0", "wide"])
    page.get_by_text("CIFAR-100").click()
    expect(page.locator(".tab-panel:visible")).to_have_text(["number 2", "wide"])
    page.get_by_text("b", exact=True).click()
    expect(page.locator(".tab-panel:visible")).to_have_text(["number 2", "narrow"])


def test_the_keys_reach_the_tabs_and_show_where_they_are(page):
    page.keyboard.press("Tab")
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    expect(page.locator(".tab-panel:visible").first).to_have_text("number 3")
    chosen = page.locator("label", has_text="MNIST").first
    assert chosen.evaluate("e => getComputedStyle(e).outlineStyle") == "solid"
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    expect(page.locator(".tab-panel:visible").first).to_have_text("number 0")


def test_a_screen_reader_meets_a_group_with_a_name_and_its_choices(page):
    group = page.get_by_role("group", name="Data set").first
    assert group.get_by_role("radio").count() == 5
    expect(group.get_by_role("radio", name="digits")).to_be_checked()


def test_tabs_are_no_wider_than_a_phone_and_what_is_wide_scrolls_within(page):
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    panel = page.locator(".tab-panel:visible").nth(1)
    assert panel.evaluate("e => e.scrollWidth > e.clientWidth")


def test_panels_stand_below_all_labels(page):
    labels = page.locator("fieldset").first.locator("label")
    lowest = max(
        box["y"] + box["height"] for box in (x.bounding_box() for x in labels.all())
    )
    panel = page.locator(".tab-panel:visible").first.bounding_box()
    assert panel["y"] >= lowest - 1 and panel["width"] > 300
