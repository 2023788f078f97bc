"""The paper's claims at a glance: gathered from the pages, never typed."""

import json
import re
from pathlib import Path

import pytest

from curvlib.book import claims
from curvlib.studies import published

ROOT = Path(__file__).parents[1]
PAGES = ROOT / "book" / "pages"


def mark(name: str, verdicts: dict, **others) -> dict:
    about = {"name": name, "text": "Some text.", "verdicts": verdicts}
    return about | {"ours": {}, "published": "", "tolerance": ""} | others


def drawn(folder: Path, page: str, *marks: dict) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{page}.json").write_text(json.dumps({"claims": list(marks)}))


@pytest.fixture
def pages(tmp_path):
    folder = tmp_path / "book" / "pages"
    drawn(
        folder,
        "mislabel_summary",
        mark(
            "high-auroc",
            {"digits": True, "CIFAR-10": True, "MNIST": False},
            ours={"digits": "AUROC .98 | {x}", "CIFAR-10": ".95"},
            tolerance="above .9",
        ),
        mark("of-this-page-alone", {"digits": True}),
    )
    drawn(folder, "cost", mark("one-network-against-thousands", {"": True}))
    drawn(folder, "dynamics", mark("rise-peak-fall", {"digits": None}))
    return folder


def test_every_claim_of_the_paper_is_judged_by_a_drawn_page():
    assert claims.missing(claims.gathered(PAGES)) == []


def test_the_files_of_the_book_are_what_the_pages_say_now():
    for name, content in claims.contents(claims.gathered(PAGES)).items():
        assert (PAGES / name).read_bytes() == content, (
            f"{name} is older than the pages: `curvlib book --draw-only` writes it"
        )


def test_the_names_are_those_of_the_papers_claims_and_occur_once():
    names = [claim.name for claim in published.claims()]
    assert len(set(names)) == len(names) == 8
    assert all(re.fullmatch("[a-z]+(-[a-z]+)+", name) for name in names)


def test_a_published_value_says_who_measured_it():
    for claim in published.claims():
        if re.search(r"\d\.\d", claim.published):
            assert "re-run by Ravikumar" in claim.published, claim.name


def test_verdicts_are_counted_by_data_set_and_a_claim_without_one_is_missing(pages):
    rows = {row.claim.name: row for row in claims.gathered(pages)}
    row = rows["high-auroc"]
    assert row.counts == {True: 2, None: 0, False: 1} and row.overall is True
    assert row.page == "mislabel_summary" and row.tolerance == "above .9"
    assert rows["rise-peak-fall"].overall is None
    assert "beats-other-scores" in claims.missing(rows.values())
    assert "high-auroc" not in claims.missing(rows.values())


def test_where_two_pages_judge_a_data_set_the_page_of_the_claim_counts(pages):
    drawn(pages, "a_page", mark("high-auroc", {"pairs": True, "digits": False}))
    (row,) = (r for r in claims.gathered(pages) if r.claim.name == "high-auroc")
    assert row.verdicts["digits"] is True and row.verdicts["pairs"] is True
    assert row.page == "mislabel_summary"


def test_the_table_shows_values_rules_and_commands_as_text(pages):
    text = claims.table(claims.gathered(pages))
    assert "✓ holds on digits: AUROC .98 \\| \\{x\\}" in text
    assert "✗ does not hold on MNIST" in text and "above .9" in text
    assert "`curvlib run mislabel_summary`" in text
    assert text.count("* - ") == 1 + len(published.claims())
    assert text.count("not judged yet") == text.count("none yet") == 5


def test_the_glance_counts_what_the_bars_show(pages):
    text = claims.glance(claims.gathered(pages))
    assert text.startswith("**2 of 3 claims of the paper hold in most")
    assert "0 fail in most settings, and 1 stays undecided" in text
    assert "✓ holds in 2 of 3 settings, ✗ does not hold in 1" in text
    assert "beats-other" not in text


def test_files_are_written_once_and_again_when_a_page_changes(pages, tmp_path):
    assert len(claims.write(tmp_path)) == 3
    assert claims.write(tmp_path) == []
    drawn(pages, "cost", mark("one-network-against-thousands", {"": False}))
    assert {file.name for file in claims.write(tmp_path)} == {
        claims.CHART,
        claims.GLANCE,
        claims.TABLE,
    }


def test_without_a_drawn_page_nothing_is_written(tmp_path):
    (tmp_path / "book" / "pages").mkdir(parents=True)
    assert claims.write(tmp_path) == []
