"""Reference pages: every public name, who uses it, and how to measure it again."""

import json
from pathlib import Path

import pytest
from toy_book import book, made_book

import curvlib
from curvlib.__main__ import parser
from curvlib.book import reference

__all__ = ["book", "made_book"]  # fixtures
ROOT = Path(__file__).parents[1]


def made(directive, *arguments, root=ROOT) -> str:
    """The reStructuredText that a directive makes, without Sphinx around it."""
    bare = object.__new__(directive)
    bare.arguments, bare.root = list(arguments), root
    return "\n".join(bare.lines())


def test_a_name_is_found_where_it_is_defined():
    assert reference.home("curvlib.load") == "curvlib.data.loading.load"
    assert reference.home("curvlib.data.Images") == "curvlib.data.images.Images"
    assert reference.home("curvlib.book.Page") == "curvlib.book.page.Page"
    assert reference.home("curvlib.scores.aum") == "curvlib.scores.aum"
    assert reference.home("curvlib.scores.no_such_score") is None
    assert reference.home("numpy.load") is None


def test_every_name_of_the_package_is_listed():
    text = made(reference.Exported)
    assert [name for name in curvlib.__all__ if f"`curvlib.{name} <" not in text] == []


@pytest.mark.parametrize("layer", reference.LAYERS)
def test_every_public_name_of_a_layer_is_there(layer):
    text = made(reference.Layer, layer)
    found = reference.modules_of(layer)
    assert found
    for module in found:
        section = text.split(f".. py:module:: {module.name}\n")[1]
        section = section.split(".. py:module::")[0]
        for node in module.public:
            entry = f":: {node.name}" in section
            assert entry or f"- ``{node.name}``: " in section, (module.name, node.name)


def test_every_module_that_defines_something_public_is_in_a_layer():
    layers = [m.name for name in reference.LAYERS for m in reference.modules_of(name)]
    defining = {name for name, module in reference.modules().items() if module.public}
    assert sorted(layers) == sorted(defining - {"curvlib.__main__"})


def test_a_page_uses_what_its_notebook_and_its_study_call(book):
    cells = [
        "from curvlib import scores",
        "from curvlib.studies import gallery",
        "record = page.record(gallery.measure)",
        "scores.aum",
    ]
    code = [{"cell_type": "code", "source": x} for x in cells]
    file = book / "notebooks" / "toy.ipynb"
    file.write_text(json.dumps({"cells": code}))
    found = reference.uses(book)
    assert found.called >= {"curvlib.scores.aum", "curvlib.studies.gallery.measure"}
    assert "toy" in found.pages["curvlib.scores.aum"]
    trained = "curvlib.runs.training.fit"  # through the study
    assert "toy" in found.pages[trained] and trained not in found.called


def test_markdown_in_a_docstring_becomes_restructured_text():
    told = reference._restructured("``{glue:text}`a:.2f` `` and ``x`` of [B, *input]")
    assert told == r":literal:`{glue:text}\`a:.2f\`` and ``x`` of [B, \*input]"


def test_a_signature_has_its_annotations_and_no_self():
    text = made(reference.Layer, "runs")
    assert ".. py:function:: fit(config: TrainConfig, " in text
    assert "(self" not in text


def test_each_page_says_how_to_measure_it_again(book):
    text = made(reference.Measured, root=book)
    (claims, table) = text.split("This page </book/pages/toy>")[1].split(
        ".. list-table::"
    )[:2]
    assert "- A dot is black. (" in claims and "holds" in claims
    assert "``curvlib run digits/toy --force``" in table
    assert "- 1.5" in table  # minutes: two runs trained in 90 seconds


def test_every_command_is_explained_with_its_options():
    text = made(reference.Options, "curvlib.__main__:parser")
    for name in reference._commands(parser()):
        assert f"\n{name}\n---" in f"\n{text}"
    for option in ("--force", "--label-noise", "--checkpoints", "--noise-rate"):
        assert (f"``{option}``" in text) == (option != "--label-noise")


def test_without_torch_a_command_says_what_its_options_need(monkeypatch):
    def broken(name=None):
        if name == "train":
            raise ModuleNotFoundError("no torch", name="torch")
        return parser(name)

    monkeypatch.setattr("curvlib.__main__.parser", broken)
    text = made(reference.Options, "curvlib.__main__:parser")
    assert "Its options need torch." in text and "--checkpoints" in text


def test_the_reference_is_rendered_with_anchors_for_its_names(html):
    page = (html / "book/api/core.html").read_text(encoding="utf-8")
    for name in ("scores.aum", "metrics.auroc", "trace.Trace.open"):
        assert f'id="curvlib.{name}"' in page, name
    assert "Used in" in page
