"""A small book of its own for the tests of pages, with two profiles."""

import itertools
import json
import shutil
from pathlib import Path

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
results = "results/scratch/toy"  # folder for tables"""
WORK = """\
import warnings
from pathlib import Path
from myst_nb import glue
from curvlib import metrics
from curvlib.data import progress
progress.report(f"row {n} of {n}")
Path(results, "rows.csv").write_text("row" + chr(10) * n)
warnings.warn("not for readers")
glue("share", 0.98765, display=False)
print("written to", Path(results).resolve(), object())"""
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


def write_project(root):
    """A book of three pages, of which two are small."""
    write_notebook(
        root,
        "toy",
        code(WORK),
        code(FIGURE, **FIGURE_METADATA),
        markdown("The answer is {glue:text}`share:.3f`, see [the dot](#fig-dot)."),
    )
    write_notebook(root, "other", code("from curvlib import scores"))
    (root / "experiments.yml").write_text(
        "digits:\n"
        "  toy: {parameters: {n: 5}}\n"
        '  other: {title: "What else?"}\n'
        "cpu:\n"
        "  toy: {minutes: 90}\n"
    )


@pytest.fixture(scope="session")
def made_book(tmp_path_factory):
    """A book, its digits pages made beside a `python3` kernel that is no Python."""
    from curvlib.book import pages

    root = tmp_path_factory.mktemp("book")
    write_project(root)
    kernel = tmp_path_factory.mktemp("jupyter") / "kernels" / "python3" / "kernel.json"
    kernel.parent.mkdir(parents=True)
    kernel.write_text('{"argv": ["false"], "display_name": "x", "language": "python"}')
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JUPYTER_PATH", str(kernel.parents[2]))
        known = pages.load_pages(root / "experiments.yml")
        assert pages.run_pages(pages.choose(known, [], None)) == 0
    return root


@pytest.fixture
def book(made_book, tmp_path):
    """A copy of that book to change, as a clone would be: every file of a new date."""
    return Path(
        shutil.copytree(made_book, tmp_path / "book", copy_function=shutil.copyfile)
    )
