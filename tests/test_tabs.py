"""Tabs: what they show, for whom, and that it is the same each time."""

import itertools
import re

import matplotlib.pyplot as plt
import pandas as pd
import pytest

from curvlib.book import artwork, figures, tabs
from curvlib.book.parameters import PageError

FRAME = pd.DataFrame({"score": ["norm"], "auroc": [0.9]})


@pytest.fixture
def shown(monkeypatch):
    """Shows tabs as in a notebook that has just started; gives the HTML."""
    pages = []
    monkeypatch.setattr("IPython.display.display", lambda data, raw: pages.append(data))
    monkeypatch.setattr(tabs, "_GROUPS", itertools.count(1))

    def show(*arguments, **options):
        tabs.show(*arguments, **options)
        return pages[-1]["text/html"]

    show.pages = pages

    return show


def figure():
    drawn, ax = plt.subplots(figsize=(4, 2))
    ax.plot([0, 1], [0, 1])
    return drawn


def test_the_first_of_several_tabs_is_chosen_and_each_has_its_label(shown):
    text = shown({"digits": "<p>a</p>", "CIFAR-10 & more": "<p>b</p>"}, caption="c < d")
    assert text.count("<fieldset") == 1 and "<legend>Data set</legend>" in text
    inputs = re.findall(
        r'<input type="radio" name="(.*?)" id="(.*?)".*?( checked)?>', text
    )
    assert inputs == [("tabs-1", "tabs-1-1", " checked"), ("tabs-1", "tabs-1-2", "")]
    labels = re.findall(r'<label for="(.*?)">(.*?)</label>', text)
    assert labels == [("tabs-1-1", "digits"), ("tabs-1-2", "CIFAR-10 &amp; more")]
    assert text.count('<p class="tab-caption">c &lt; d</p></div>') == 2
    assert text.index("<p>a</p>") < text.index("<p>b</p>")


def test_groups_of_one_page_do_not_share_a_name_or_an_id(shown):
    both = [shown({"a": "<p>1</p>", "b": "<p>2</p>"}) for _ in range(2)]
    ids = re.findall(r' id="(.*?)"', "".join(both))
    assert len(ids) == len(set(ids)) == 4
    assert 'name="tabs-1"' in both[0] and 'name="tabs-2"' in both[1]


def test_a_single_thing_is_shown_without_tabs(shown):
    text = shown({"digits": "<p>a</p>"}, caption={"digits": "one", "MNIST": "two"})
    assert text == (
        '<div class="tab-panel"><p>a</p><p class="tab-caption">one</p></div>'
    )


def test_a_figure_is_a_drawing_with_an_alt_text_and_is_not_shown_once_more(shown):
    text = shown({"digits": figure(), "MNIST": figure()}, alt='A "line".')
    assert plt.get_fignums() == []
    assert text.count("<svg class=") == 2
    assert 'aria-label="A &quot;line&quot; (digits)"' in text
    assert "line&quot; (MNIST)" in text
    kept = shown.pages[-1][artwork.MIME]["figures"]
    assert [drawn["label"] for drawn in kept] == ["digits", "MNIST"]
    assert kept[0]["csv"].splitlines()[1:] == ["1,,0,0", "1,,1,1"]


def test_the_same_contents_give_the_same_bytes(shown, monkeypatch):
    def contents():
        return {"a": figure(), "b": FRAME.style, "c": FRAME}

    first = shown(contents(), alt="A line.")
    monkeypatch.setattr(tabs, "_GROUPS", itertools.count(1))
    assert shown(contents(), alt="A line.") == first
    tables = re.findall(r'<table id="(.*?)"', first)
    assert tables == ["T_tabs-1-2"]
    assert figures.table(FRAME)._repr_html_() in first  # a plain one, as in the book


def test_an_alt_text_may_differ_between_labels_and_none_may_be_missing(shown):
    text = shown({"a": figure(), "b": figure()}, alt={"a": "One", "b": "Two"})
    assert 'label="One (a)"' in text and 'label="Two (b)"' in text
    with pytest.raises(PageError, match="the figure of b needs a text for those who"):
        shown({"a": figure(), "b": figure()}, alt={"a": "One"})
    plt.close("all")


def test_what_cannot_be_shown_is_refused(shown):
    with pytest.raises(
        PageError, match="cannot show int for a: give a figure, a table"
    ):
        shown({"a": 1})
    with pytest.raises(PageError, match="nothing to show"):
        shown({})
