"""A small book of its own for the tests of records and pages, with two profiles."""

import itertools
import json
import shutil
from pathlib import Path

import pandas as pd
import pytest

NUMBERS = itertools.count()
ROOT = Path(__file__).parents[1]
PNG = (  # one black pixel
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJ"
    "RU5ErkJggg=="
)
PARAMETERS = """\
n: int = 3  # rows of the table
seeds = [0, 1]  # one run each
epochs = 30  # passes over the training set
records: list = None  # records to show
results = "results/scratch/toy"  # folder of the record"""
WORK = """\
import warnings
from pathlib import Path
from curvlib.book import Page
from curvlib.data import progress
page = Page.begin(In)
(record,) = page.records().values()
progress.report("not for readers")
warnings.warn("not for readers")
page.tell(share=record["rows"]["share"].iloc[0])
(page.files / "extra.html").write_text("<p>extra</p>")
page.claim("A dot is black.", True, ours="0.99", published="1 (nobody, 2020)")
print("written to", Path(".").resolve(), object())"""
FIGURE = f"""\
import base64
from IPython.display import Image, display
display(Image(base64.b64decode("{PNG}")))"""
FIGURE_METADATA = {
    "mystnb": {
        "figure": {"caption": "It is {glue:text}`share:.2f` black", "name": "fig-dot"},
        "image": {"alt": "A dot, {glue:text}`share:.1%` black"},
    }
}
TABS = """\
from curvlib.book import tabs
tabs.show({"digits": "<p>first</p>", "MNIST": "<p>second</p>"})"""
TABS_METADATA = {
    "mystnb": {"figure": {"caption": "{glue:text}`share:.1f` twice", "name": "fig-two"}}
}
GIVEN = {  # a study that takes a moment
    "dataset": "digits",
    "num_train": 60,
    "epochs": 1,
    "model": "mlp",
    "width": 8,
    "seeds": [0],
    "num_shown": 2,
}
EXPERIMENTS = f"""\
records:
  digits:
    toy: {{study: gallery, parameters: &toy {json.dumps(GIVEN)}}}
    other: {{study: gallery, minutes: 2, parameters: {{<<: *toy, epochs: 2}}}}
  cpu:
    toy: {{study: gallery, minutes: 90, parameters: *toy}}
pages:
  toy: {{records: [digits/toy, cpu/toy]}}
  other: {{title: "What else?"}}
  waiting: {{notebook: toy, records: [cpu/toy]}}
"""


def markdown(source):
    return {
        "cell_type": "markdown",
        "id": f"m{next(NUMBERS)}",
        "metadata": {},
        "source": source,
    }


def code(source, outputs=(), **metadata):
    return {
        "cell_type": "code",
        "id": f"c{next(NUMBERS)}",
        "metadata": metadata,
        "source": source,
        "outputs": list(outputs),
        "execution_count": 1 if outputs else None,
    }


def notebook(*cells):
    return {
        "cells": [
            markdown("# What does a toy show?\n\nSee {numref}`fig-dot`."),
            code(PARAMETERS, tags=["parameters"]),
            *cells,
        ],
        "metadata": {
            "kernelspec": {"name": "python3", "display_name": "x", "language": "python"}
        },
        "nbformat": 4,
        "nbformat_minor": 5,
    }


def write_notebook(root, name, *cells):
    file = root / "notebooks" / f"{name}.ipynb"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(notebook(*cells)))


def write_record(root, name, share=0.98765, **parameters):
    """A record as measured with the parameters of the catalogue, but for its tables."""
    from curvlib.book import records
    from curvlib.book.parameters import parts_of_study
    from curvlib.runs.provenance import recipes
    from curvlib.studies import Measured

    complete = records.complete("gallery", GIVEN | parameters)
    tables = {"rows": pd.DataFrame({"share": [share]})}
    facts = {
        "recipes": recipes(parts_of_study("gallery")),
        "seconds": 40.0,
        "training": {"runs": 2, "seconds": 90.0},
        "commit": "0123456789abcdef",
        "date": "2026-11-01T12:00+00:00",
    }
    measured = Measured(tables, {"train": "0123456789abcdef"})
    return records.write(root / "results" / name, "gallery", complete, measured, facts)


def write_project(root):
    """A book of three pages, two with a record, none drawn."""
    write_notebook(
        root,
        "toy",
        code(WORK),
        code(FIGURE, **FIGURE_METADATA),
        code(TABS, **TABS_METADATA),
        markdown(
            "The answer is {glue:text}`share:.3f`, see [the dot](#fig-dot) and "
            "{numref}`fig-two`."
        ),
    )
    write_notebook(root, "other", code("from curvlib import scores"))
    (root / "experiments.yml").write_text(EXPERIMENTS)
    write_record(root, "digits/toy")
    write_record(root, "digits/other", epochs=2)


@pytest.fixture(scope="session")
def made_book(tmp_path_factory):
    """A book, two of its pages drawn beside a `python3` kernel that is no Python."""
    from curvlib.book import catalogue, drawing

    root = tmp_path_factory.mktemp("book")
    write_project(root)
    kernel = tmp_path_factory.mktemp("jupyter") / "kernels" / "python3" / "kernel.json"
    kernel.parent.mkdir(parents=True)
    kernel.write_text('{"argv": ["false"], "display_name": "x", "language": "python"}')
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JUPYTER_PATH", str(kernel.parents[2]))
        for name in ("toy", "other"):
            drawing.draw(catalogue.load(root / "experiments.yml").pages[name])
    return root


@pytest.fixture
def book(made_book, tmp_path):
    """A copy of that book to change, as a clone would be: every file of a new date."""
    return Path(
        shutil.copytree(made_book, tmp_path / "book", copy_function=shutil.copyfile)
    )
