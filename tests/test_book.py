"""The rendered book: complete, whole without a network, and like its sources."""

import csv
import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import yaml

from curvlib.book import catalogue, cleanup, parameters
from curvlib.scores import FROM_TRACE, SCORES

ROOT = Path(__file__).parents[1]
LOADED = {"script": "src", "img": "src", "source": "src", "iframe": "src"}
TEXT = {".html", ".ipynb", ".md", ".txt", ".js", ".css", ".svg", ".csv", ".json"}


class Outline(HTMLParser):
    """Ids, links, images, and whatever a browser loads by itself."""

    def __init__(self, text: str):
        super().__init__()
        self.ids, self.links, self.loaded, self.images = set(), [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.ids |= {given[key] for key in ("id", "name") if given.get(key)}
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        if tag == "img":
            self.images.append(given)
        if given.get(LOADED.get(tag)):
            self.loaded.append(given[LOADED[tag]])
        if tag == "link" and "href" in given:
            passive = {"next", "prev", "search", "index", "canonical"}
            where = self.links if given.get("rel") in passive else self.loaded
            where.append(given["href"])


@pytest.fixture(scope="module")
def outlines(html) -> dict[Path, Outline]:
    # The theme leaves two templates of its own in _static.
    files = [f for f in html.rglob("*.html") if "_static" not in f.parts]
    return {f.resolve(): Outline(f.read_text(encoding="utf-8")) for f in files}


def toc() -> list[str]:
    content = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    chapters = [entry for part in content["parts"] for entry in part["chapters"]]
    entries = [e for entry in chapters for e in (entry, *entry.get("sections", []))]
    return [content["root"], *(entry["file"] for entry in entries)]


def page_files() -> list[Path]:
    return [ROOT / f"{name}.ipynb" for name in toc() if name.startswith("book/pages/")]


def test_the_table_of_contents_has_every_page_that_has_a_record_and_no_other():
    known = catalogue.load(ROOT / "experiments.yml").pages.values()
    expected = {page.file.stem for page in known if page.measured}
    named = {file.stem for file in page_files()}
    assert expected - named == set(), "pages that _toc.yml lacks"
    assert named - expected == set(), "entries of _toc.yml without a measured record"


OTHER_NETWORKS = (  # studies of heads on features, or of networks that generalise
    "calibration",
    "own_data",
    "regime",
    "removal",
    "wrong_label_tools",
)
ENDS = (".md", ".rst", ".ipynb")  # prose, reference pages, drawn pages


def test_every_entry_of_the_table_of_contents_has_its_file():
    missing = [
        name
        for name in toc()
        if not any((ROOT / f"{name}{end}").exists() for end in ENDS)
    ]
    assert missing == [], "write the prose; `curvlib book --draw-only` draws pages"


def test_every_entry_of_the_table_of_contents_is_rendered(html):
    assert [name for name in toc() if not (html / f"{name}.html").exists()] == []


def test_every_code_cell_of_every_page_ran_without_an_error(html):
    for file in page_files():
        notebook = json.loads(file.read_text(encoding="utf-8"))
        assert not notebook["metadata"].get("papermill", {}).get("exception"), file
        code = [
            c for c in notebook["cells"] if c["cell_type"] == "code" and c["source"]
        ]
        assert code, f"{file} has no code"
        for cell in code:
            never_run = {cleanup.SKIPPED, cleanup.BOOTSTRAP}
            skipped = never_run & set(cell["metadata"].get("tags", []))
            assert cell["execution_count"] or skipped, (file, cell["source"])
            errors = [o for o in cell["outputs"] if o["output_type"] == "error"]
            assert not errors, (file, errors)


def test_no_link_anchor_or_download_is_broken(outlines):
    broken, checked = [], 0
    for file, outline in outlines.items():
        for link in outline.links + outline.loaded:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            checked += 1
            path = unquote(parts.path)
            target = (file.parent / path).resolve() if path else file
            anchor = unquote(parts.fragment)
            if not target.is_file():
                broken.append(f"{file.name}: no {link}")
            elif anchor and target in outlines and anchor not in outlines[target].ids:
                broken.append(f"{file.name}: no anchor {link}")
    assert checked > 100
    assert broken == []


def test_every_page_of_an_experiment_offers_its_data(html):
    for file in page_files():
        page = html / file.relative_to(ROOT).with_suffix(".html")
        links = Outline(page.read_text(encoding="utf-8")).links
        assert any(re.search(r"_downloads/.*\.(csv|parquet)$", x) for x in links), page


def test_nothing_is_loaded_from_elsewhere(html, outlines):
    def is_elsewhere(url: str) -> bool:
        return urlsplit(url).scheme in ("http", "https") or url.startswith("//")

    found = [
        (file.name, url)
        for file, outline in outlines.items()
        for url in outline.loaded
        if is_elsewhere(url)
    ]
    for sheet in html.rglob("*.css"):
        text = sheet.read_text(encoding="utf-8")
        urls = re.findall(r"""(?:url\(|@import)\s*["']?([^"')\s]+)""", text)
        found += [(sheet.name, url) for url in urls if is_elsewhere(url)]
    assert found == []


def test_every_image_has_an_alt_text_that_is_no_path(outlines):
    images = [(f.name, i) for f, outline in outlines.items() for i in outline.images]
    assert len(images) > len(page_files())
    for file, image in images:
        alt = (image.get("alt") or "").strip()
        assert alt, (file, image)
        is_path = re.search(r"\.(png|svg|jpe?g)$", alt) or re.fullmatch(r"\S*/\S*", alt)
        assert not is_path, (file, alt)


def test_no_path_of_the_machine_that_built_it_is_shown(html):
    paths = {f"{ROOT}/", f"{Path.home()}/", f"{html.parents[1]}/"}
    for file in text_files(html):
        text = file.read_text(encoding="utf-8")
        assert not [path for path in paths if path in text], file.relative_to(html)


def text_files(html: Path) -> Iterator[Path]:
    for file in html.rglob("*"):
        if file.suffix in TEXT and "mathjax" not in file.parts:
            yield file


def test_the_method_page_lists_every_score_in_order_with_its_direction_and_source():
    text = (ROOT / "book" / "method.md").read_text(encoding="utf-8")
    table = text.split("| score | formula |")[1]
    rows = re.findall(r"^\| `(\w+)` \|.*\| (high|low) \|(.*)\|$", table, re.MULTILINE)
    assert [row[0] for row in rows] == list(FROM_TRACE)
    for name, direction, cited_by in rows:
        assert direction == {1: "high", -1: "low"}[SCORES[name].sign], name
        cited = re.findall(r"\{cite:t\}`(\w+)`", cited_by)
        assert cited == [SCORES[name].source] * bool(SCORES[name].source), name


def test_the_photographs_are_run_with_a_setting_that_learns_wrong_labels():
    pilot = ROOT / "results" / "pilot" / "fit.csv"
    if not pilot.exists():
        pytest.skip("no results/pilot/fit.csv: `python benchmarks/pilot.py` makes it")
    with pilot.open(encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines))
    enough = [row for row in rows if float(row["wrong_labels_learned"]) >= 0.98]
    assert enough, rows
    for record in catalogue.load(ROOT / "experiments.yml").measurements.values():
        known = parameters.parameters_of_study(record.study)
        values = {name: parameter.default for name, parameter in known.items()}
        values |= record.parameters
        # The pilot was run on the first images of CIFAR-10, with wrong labels, for
        # networks that memorise: without augmentation, and not on pretrained features.
        others = values.get("augment") or record.study in OTHER_NETWORKS
        whole = values.get("num_train", 0) is None
        if values.get("dataset") != "cifar10" or whole or others:
            continue
        assert {"model", "width", "batch_size", "epochs"} <= set(values), record.name
        # What only times a network has no schedule.
        keys = ("model", "width", "batch_size", "schedule", "epochs")
        used = {key: str(values[key]) for key in keys if key in values}
        assert any(used.items() <= row.items() for row in enough), record.name


def test_every_source_of_a_score_is_in_the_bibliography():
    bibliography = (ROOT / "book" / "references.bib").read_text(encoding="utf-8")
    keys = set(re.findall(r"^@\w+\{(\w+),", bibliography, re.MULTILINE))
    assert {score.source for score in SCORES.values()} - {""} <= keys
