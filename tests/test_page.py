"""What a notebook calls: its records by label, and its claims."""

import json

import pandas as pd
import pytest
from toy_book import GIVEN, write_project

from curvlib.book import records
from curvlib.book.page import Page
from curvlib.book.parameters import PageError
from curvlib.studies import Measured, gallery, mislabelled


def write(root, name, study="gallery", **changed):
    """A record with a row for each of its seeds."""
    given = (GIVEN if study == "gallery" else {}) | changed
    seeds = given["seeds"]
    tables = {
        "rows": pd.DataFrame({"seed": seeds, "auroc": [s / 10 for s in seeds]}),
        "classes": pd.DataFrame({"class": [name]}),
        "scores.parquet": pd.DataFrame({"seed": seeds, "x": 1.0}),
    }
    runs = pd.DataFrame({"run": seeds, "train_seconds": 1.0, "score_seconds": 1.0})
    complete = records.complete(study, given)
    facts = {"recipes": {}, "seconds": 1.0}
    measured = Measured(tables, {}, runs)
    records.write(root / "results" / name, study, complete, measured, facts)


def page_of(root, *names):
    return Page({"records": list(names) or None, "results": "results/mine"}, root)


def catalogue(root, **labels):
    """A catalogue that only gives labels to records of digits."""
    entries = {n: {"study": "gallery", "label": text} for n, text in labels.items()}
    text = json.dumps({"records": {"digits": entries}, "pages": {}})
    (root / "experiments.yml").write_text(text)


# ------------------------------------------------------------------------- records


def test_records_come_by_label_in_the_order_of_their_names(tmp_path):
    catalogue(tmp_path, slow="digits, slow", fast="digits, fast")
    for name in ("digits/slow", "digits/fast", "cpu/photographs"):
        dataset = "cifar10" if name.startswith("cpu") else "digits"
        write(tmp_path, name, dataset=dataset)
    names = ("digits/fast", "cpu/photographs", "digits/slow")
    shown = page_of(tmp_path, *names).records(gallery.measure)
    assert list(shown) == ["digits, fast", "CIFAR-10", "digits, slow"]
    assert shown["CIFAR-10"].parameters.dataset == "cifar10"
    first = page_of(tmp_path, *names).record(gallery.measure)
    assert first.folder == tmp_path / "results/digits/fast"


def test_records_that_differ_in_their_seeds_alone_are_one(tmp_path):
    write(tmp_path, "digits/a", seeds=[0, 1])
    write(tmp_path, "digits/b", seeds=[2])
    shown = page_of(tmp_path, "digits/a", "digits/b").records(gallery.measure)
    (record,) = shown.values()
    assert record["rows"]["seed"].tolist() == [0, 1, 2]
    assert record["rows"]["auroc"].tolist() == [0.0, 0.1, 0.2]
    assert record["scores.parquet"]["seed"].tolist() == [0, 1, 2]
    assert record["runs"]["run"].tolist() == [0, 1, 2]
    assert record["classes"]["class"].tolist() == ["digits/a"], "it has no seeds"
    assert record.parameters.seeds == [0, 1, 2]
    first = records.Record.open(tmp_path / "results/digits/a")
    assert first.parameters.seeds == [0, 1] and len(first["rows"]) == 2


def test_a_single_seed_that_seeds_replace_does_not_count(tmp_path):
    for name, seeds in (("digits/a", [0]), ("digits/b", [1])):
        write(tmp_path, name, study="mislabelled", seeds=seeds)
    page = page_of(tmp_path, "digits/a", "digits/b")
    (record,) = page.records(mislabelled.measure).values()
    assert record.parameters.seeds == record["rows"]["seed"].tolist() == [0, 1]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"seeds": [2], "epochs": 2}, "have the same label but differ in epochs"),
        ({"seeds": [1, 2]}, r"share one of the seeds \[0, 1, 1, 2\]"),
    ],
)
def test_records_of_one_label_that_are_not_one_are_refused(tmp_path, changed, message):
    write(tmp_path, "digits/a", seeds=[0, 1])
    write(tmp_path, "digits/b", **changed)
    with pytest.raises(PageError, match=message):
        page_of(tmp_path, "digits/a", "digits/b").records(gallery.measure)


def test_a_record_that_does_not_exist_is_named_with_the_command_that_measures_it(
    tmp_path,
):
    with pytest.raises(PageError, match=r"`curvlib run cpu/none` measures it"):
        page_of(tmp_path, "cpu/none").records(gallery.measure)


def test_a_page_that_measures_nothing_says_what_to_name(tmp_path):
    with pytest.raises(PageError, match=r"shows records and measures nothing; name"):
        page_of(tmp_path).records()


def test_without_names_the_record_of_the_parameters_has_the_label_of_its_data(tmp_path):
    complete = records.complete("gallery", GIVEN)
    page = Page(complete | {"records": None, "results": "results/mine"}, tmp_path)
    shown = page.records(gallery.measure)
    assert list(shown) == ["digits"]
    assert shown["digits"].folder == tmp_path / "results/mine"
    again = page.records(gallery.measure)["digits"]
    assert again.made == shown["digits"].made, "read, not measured again"


# -------------------------------------------------------------------------- claims


@pytest.fixture
def claimed(tmp_path, monkeypatch):
    """What a claim displays: HTML, and what is kept."""
    write_project(tmp_path)
    shown = []
    monkeypatch.setattr(
        "IPython.display.display",
        lambda data, raw, metadata: shown.append(
            (data["text/html"], json.loads(metadata["curvlib-claim"]))
        ),
    )
    page = page_of(tmp_path, "digits/toy")
    page.records()

    def claim(*arguments, **options):
        page.claim(*arguments, **options)
        return shown[-1]

    return claim


def test_a_claim_about_the_one_record_has_its_label(claimed):
    text, kept = claimed("A < B.", True, ours="1 & 2", published="3", tolerance="eye")
    assert text == (
        '<p class="claim" id="claim-a-b" data-holds="holds"><strong>✓ holds</strong> '
        "A &lt; B. <small>(here: 1 &amp; 2; published: 3; decided by: eye)</small></p>"
    )
    assert kept == {
        "name": "a-b",
        "text": "A < B.",
        "verdicts": {"digits": True},
        "ours": {"digits": "1 & 2"},
        "published": "3",
        "tolerance": "eye",
    }


def test_a_claim_has_a_verdict_for_each_data_set(claimed):
    verdicts = {"digits": True, "CIFAR-10": False, "MNIST": None}
    text, kept = claimed(
        "It peaks.", verdicts, ours={"digits": ".9", "CIFAR-10": ".4"}, name="peak"
    )
    assert text == (
        '<div class="claim" id="claim-peak"><p>It peaks.</p><ul>'
        '<li data-holds="holds"><strong>✓ holds</strong> digits '
        "<small>(.9)</small></li>"
        '<li data-holds="does not hold"><strong>✗ does not hold</strong> CIFAR-10 '
        "<small>(.4)</small></li>"
        '<li data-holds="undecided"><strong>? undecided</strong> MNIST</li></ul></div>'
    )
    assert kept["name"] == "peak" and kept["verdicts"] == verdicts
    assert kept["ours"] == {"digits": ".9", "CIFAR-10": ".4"}


def test_a_claim_about_which_no_data_set_says_anything_is_undecided(claimed):
    text, kept = claimed("It peaks.", {})
    assert 'data-holds="undecided"' in text
    assert kept["verdicts"] == {"digits": None}


def test_values_of_a_claim_without_a_verdict_are_refused(claimed):
    with pytest.raises(PageError, match="give both by the same labels"):
        claimed("It peaks.", {"digits": True}, ours={"MNIST": "1"})
