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
            "records digits/toy: unknown key params; a record has study, label, min",
        ),
        (
            "records: {}\npages: {toy: {note: x}}",
            "pages toy: unknown key note; a page has notebook, title, records",
        ),
        (
            "records: {}\npages: {joy: {}}",
            "pages joy: there is no notebooks/joy.ipynb",
        ),
        (
            "records: {}\npages: {toy: {records: [digits/toy]}}",
            "pages toy: no record digits/toy; there are",
        ),
        (
            "records: {}\npages: {toy: {}}",
            "pages toy: no record is named toy; list its records",
        ),
        (
            "records: {digits: {toy: {label: ''}}}\npages: {}",
            "records digits/toy: label must be",
        ),
        (
            "records: {}\npages: {a b: {notebook: toy}}",
            "a b: names are made of letters",
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
            "records: {}\npages: {toy: {records: x}}",
            "pages toy: records must be a valid list, got 'x'",
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
    assert known.pages["other"].records == ("digits/other",)
    assert "anchors" not in EXPERIMENTS


def test_names_that_yaml_reads_as_numbers_are_text(tmp_path):
    write_project(tmp_path)
    text = EXPERIMENTS.replace("  cpu:\n    toy: {study", "  cpu:\n    2024: {study")
    text = text.replace("digits/toy, cpu/toy", "digits/toy, cpu/2024")
    text = text.replace("[cpu/toy]", "[cpu/2024]").replace("waiting:", "2025:")
    (tmp_path / "experiments.yml").write_text(text)
    assert load(tmp_path).pages["2025"].records == ("cpu/2024",)


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


@pytest.mark.parametrize(
    ("names", "profile", "records", "pages"),
    [
        ([], None, ["digits/toy", "digits/other"], ["toy", "other"]),
        ([], "cpu", ["cpu/toy"], ["toy", "waiting"]),
        (["toy"], None, ["digits/toy"], ["toy"]),
        (["toy"], "cpu", ["cpu/toy"], ["toy"]),
        (["waiting"], None, [], ["waiting"]),  # it has no record of digits
        (["cpu/toy"], None, ["cpu/toy"], ["toy", "waiting"]),
        (["other", "other"], None, ["digits/other"], ["other"]),
    ],
)
def test_a_name_is_a_page_or_a_record_and_chooses_what_is_measured_and_drawn(
    tmp_path, names, profile, records, pages
):
    write_project(tmp_path)
    chosen, drawn = load(tmp_path).choose(names, profile)
    assert [record.name for record in chosen] == records
    assert [page.name for page in drawn] == pages


def test_a_record_is_chosen_without_its_profile_where_no_page_has_its_name(tmp_path):
    write_project(tmp_path)
    (tmp_path / "experiments.yml").write_text(EXPERIMENTS.replace("other:", "more:", 1))
    text = (tmp_path / "experiments.yml").read_text()
    text = text.replace("other: {title", "other: {records: [digits/more], title")
    (tmp_path / "experiments.yml").write_text(text)
    chosen, drawn = load(tmp_path).choose(["more"], None)
    assert [record.name for record in chosen] == ["digits/more"]
    assert [page.name for page in drawn] == ["other"]


@pytest.mark.parametrize(
    ("names", "profile", "message"),
    [
        (["joy"], None, "no page or record joy; there are the pages\n  toy\n"),
        (["cpu/joy"], None, "no page or record cpu/joy; there are the pages\n  toy\n"),
        (["other"], "cpu", "page other has no record of cpu; it has digits/other"),
        ([], "gpu", "no profile 'gpu'; there are digits, cpu"),
    ],
)
def test_an_unknown_name_or_profile_is_answered_with_those_there_are(
    tmp_path, names, profile, message
):
    write_project(tmp_path)
    with pytest.raises(PageError) as error:
        load(tmp_path).choose(names, profile)
    assert message in str(error.value)


def test_a_record_has_the_label_given_or_the_name_of_its_data_set(tmp_path):
    write_project(tmp_path)
    text = EXPERIMENTS.replace("minutes: 90", 'minutes: 90, label: "digits, slow"')
    (tmp_path / "experiments.yml").write_text(text)
    known = load(tmp_path)
    labels = {"digits/toy": "digits", "cpu/toy": "digits, slow"}
    assert known.pages["toy"].labels == labels
    assert known.measurements["cpu/toy"].label == "digits, slow"


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


@pytest.mark.parametrize("name", KNOWN.pages)
def test_every_page_of_this_book_shows_digits_first_and_the_paper_last(name):
    order = ["digits", "cpu", "paper"]
    profiles = [record.split("/")[0] for record in KNOWN.pages[name].records]
    assert profiles == sorted(profiles, key=order.index)


@pytest.mark.parametrize("name", KNOWN.pages)
def test_records_of_a_page_have_a_label_each_unless_they_differ_in_seeds_alone(name):
    seen = {}
    for record in KNOWN.pages[name].records:
        asked = KNOWN.measurements[record]
        complete = records.complete(asked.study, asked.parameters)
        essence = {n: v for n, v in complete.items() if n not in records.SEEDS}
        assert seen.setdefault(asked.label, essence) == essence, asked.label


@pytest.mark.parametrize("name", KNOWN.pages)
def test_every_page_that_is_committed_is_drawn_from_its_records(name):
    page = KNOWN.pages[name]
    if page.drawn is None:
        pytest.skip(f"{name} is not drawn yet: `curvlib book` draws it")
    for record, content in page.drawn["records"].items():
        assert content == records.content_hash(ROOT / "results" / record)
