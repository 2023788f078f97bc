"""The pages for teachers: one spelling for each term, and what is linked is there."""

import re
from pathlib import Path

from curvlib.book import assignments
from curvlib.scores import SCORES

ROOT = Path(__file__).parents[1]
BOOK = ROOT / "book"


def glossary() -> dict[str, str]:
    """Terms and what is said about them; several terms may share a definition."""
    text = (BOOK / "glossary.md").read_text("utf-8")
    body = re.search(r"```\{glossary\}\n(.*?)\n```", text, re.DOTALL)[1]
    found = {}
    for entry in body.split("\n\n"):
        lines = entry.splitlines()
        terms = [line for line in lines if not line.startswith(" ")]
        meaning = " ".join(line.strip() for line in lines if line.startswith("  "))
        assert terms and meaning, entry
        for term in terms:
            assert term not in found, term
            found[term] = meaning
    return found


def test_terms_are_in_alphabetical_order():
    first = [re.sub(r"\W", " ", t).lower() for t in glossary() if not t.isupper()]
    assert first == sorted(first)


def test_every_score_is_in_the_glossary_and_no_other():
    text = " ".join(glossary().values())
    assert set(re.findall(r"(?<!\})`([a-z]\w*)`", text)) == set(SCORES)


def test_terms_that_are_referred_to_exist():
    terms = set(glossary())
    for meaning in glossary().values():
        for reference in re.findall(r"\{term\}`(?:[^`<]*<)?([^`>]+)>?`", meaning):
            assert reference in terms, reference


def test_every_assignment_and_its_data_can_be_downloaded():
    text = (BOOK / "assignments.md").read_text("utf-8")
    linked = {
        (BOOK / path).resolve()
        for path in re.findall(r"\{download\}`\w+[^<]*<(.*?)>`", text)
    }
    folder = ROOT / assignments.FOLDER
    sources = assignments.sources(ROOT)
    expected = {*sources, *(folder / "student" / f.name for f in sources)}
    expected |= set((folder / "data").glob("*"))
    assert linked == expected
    assert all(file.exists() for file in linked)


def test_pages_for_teachers_are_in_the_table_of_contents_and_link_pages_that_exist():
    toc = (ROOT / "_toc.yml").read_text("utf-8")
    for name in ("teach", "assignments", "glossary"):
        assert f"book/{name}\n" in toc
        text = (BOOK / f"{name}.md").read_text("utf-8")
        for page in re.findall(r"\]\(pages/(\w+)\.ipynb\)", text):
            assert (ROOT / "notebooks" / f"{page}.ipynb").exists(), page


def test_minutes_of_students_are_called_estimates():
    for name in ("teach", "assignments"):
        assert "estimates" in (BOOK / f"{name}.md").read_text("utf-8")
    for source in assignments.sources(ROOT):
        (minutes,) = re.findall(
            r"About (\d+) minutes \(an estimate\)", source.read_text("utf-8")
        )
        assert 45 <= int(minutes) <= 90
