import json

import pytest
from toy_book import EXPERIMENTS, GIVEN, ROOT, write_project

from curvlib.book import catalogue, drawing, parameters, records
from curvlib.book.parameters import PageError


def load(root):
    return catalogue.load(root / "experiments.yml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "records: {digits: {toy: {params: {}}}}\npages: {}",
            "records digits/toy: unknown key params; a record has study, minutes, par",
        ),
        (
            "records: {}\npages: {digits: {toy: {note: x}}}",
            "pages digits/toy: unknown key note; a page has notebook, title, records",
        ),
        (
            "records: {}\npages: {digits: {joy: {}}}",
            "pages digits/joy: there is no notebooks/joy.ipynb",
        ),
        (
            "records: {}\npages: {digits: {toy: {}}}",
            "pages digits/toy: no record digits/toy; there are",
        ),
        ("records: {digits: {toy: {}, toy: {}}}", "line 1: toy occurs twice"),
        (
            "records: {digits: {toy: {parameters: {n: 1, n: 2}}}}",
            "line 1: n occurs twice",
        ),
        (
            "records: {digits: {toy: {parameters: [n]}}}\npages: {}",
            "records digits/toy: parameters must be a valid dictionary, got ['n']",
        ),
        (
            "records: {digits: {toy: {minutes: soon}}}\npages: {}",
            "records digits/toy: minutes must be a valid number, got 'soon'",
        ),
        (
            "records: {digits: toy}\npages: {}",
            "records digits must be a valid dictionary, got 'toy'",
        ),
        ("records: {a b: {toy: {}}}\npages: {}", "made of letters, digits and _"),
        ("records: {}", "pages is missing"),
        ("digits: {}", "unknown key digits; expected records and pages"),
        ("- digits", "must hold records and pages"),
        ("a: [", "is not YAML"),
        (
            "records: {}\npages: {cpu: {toy: {records: x}}}",
            "pages cpu/toy: records must be a valid list, got 'x'",
        ),
    ],
)
def test_a_fault_in_the_catalogue_is_named(tmp_path, text, message):
    write_project(tmp_path)
    (tmp_path / "experiments.yml").write_text(text)
    with pytest.raises(PageError) as error:
        load(tmp_path)
    assert message in str(error.value)


def test_all_faults_of_the_catalogue_are_named_at_once(tmp_path):
    write_project(tmp_path)
    (tmp_path / "experiments.yml").write_text(
        "records: {digits: {a: {x: 1}, b: {minutes: -1}}}\npages: {}"
    )
    with pytest.raises(PageError) as error:
        load(tmp_path)
    assert "digits/a: unknown key x" in str(error.value)
    assert "digits/b: minutes must be greater than or equal to 0" in str(error.value)


def test_records_can_share_parameters_and_change_some(tmp_path):
    write_project(tmp_path)
    known = load(tmp_path)
    assert known.measurements["digits/other"].parameters == GIVEN | {"epochs": 2}
    assert known.pages["digits/other"].records == ("digits/other",)
    assert "anchors" not in EXPERIMENTS


def test_names_that_yaml_reads_as_numbers_are_text(tmp_path):
    write_project(tmp_path)
    text = EXPERIMENTS.replace("  cpu:\n    toy: {study", "  cpu:\n    2024: {study")
    text = text.replace("  cpu:\n    toy: {}", "  cpu:\n    2024: {notebook: toy}")
    (tmp_path / "experiments.yml").write_text(text)
    assert "cpu/2024" in load(tmp_path).pages


def test_a_record_is_expected_to_take_what_it_took_or_what_its_training_did(tmp_path):
    write_project(tmp_path)
    toy, other, cpu = load(tmp_path).measurements.values()
    assert cpu.seconds() == 90 * 60, "never measured: as its author thought"
    assert toy.seconds() == 90, "its training took longer: it read finished runs"
    file = tmp_path / "results/digits/toy/record.json"
    made = json.loads(file.read_text())
    file.write_text(json.dumps(made | {"seconds": 100.0}))
    assert toy.seconds() == 100
    (tmp_path / "results/digits/other/record.json").unlink()
    assert other.seconds() == 120


def test_without_names_only_digits_is_chosen(tmp_path):
    write_project(tmp_path)
    chosen = load(tmp_path).choose([], None)
    assert [page.name for page in chosen] == ["digits/toy", "digits/other"]


# ------------------------------------------------------------------ this very book

KNOWN = load(ROOT)


@pytest.mark.parametrize("name", KNOWN.measurements)
def test_every_record_of_this_book_has_a_study_and_right_parameters(name):
    record = KNOWN.measurements[name]
    records.complete(record.study, record.parameters)
    parameters.parts_of_study(record.study)


@pytest.mark.parametrize("name", KNOWN.pages)
def test_every_page_of_this_book_has_what_it_needs(name):
    drawing.check(KNOWN.pages[name])


@pytest.mark.parametrize("name", [n for n in KNOWN.pages if n.startswith("cpu/")])
def test_every_cpu_page_that_is_committed_is_drawn_from_its_records(name):
    page = KNOWN.pages[name]
    if page.drawn is None:
        pytest.skip(f"{name} waits for its record")
    assert drawing.missing_records(page) == []
    for record in page.records:
        folder = ROOT / "results" / record
        assert page.drawn["records"][record] == records.content_hash(folder)
