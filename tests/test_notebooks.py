"""Every notebook: like its .py twin, with typed parameters, and runs when small."""

import json
from pathlib import Path

import jupytext
import papermill
import pytest

from curvlib import notebooks

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
NAMES = [file.stem for file in NOTEBOOKS]

# What makes a notebook quick. Those are passed on that the notebook knows.
SMALL = {
    "dataset": "digits",
    "model": "mlp",
    "width": 16,
    "num_train": 200,
    "num_heldout": 50,
    "epochs": 3,
    "score_every": 1,
    "num_probes": 2,
    "noise_rates": [0.1],
    "seeds": [0, 1],
    "num_timed": 64,
    "repeats": 1,
}

every_notebook = pytest.mark.parametrize("file", NOTEBOOKS, ids=NAMES)


def test_there_are_notebooks_and_each_has_a_twin():
    twins = sorted(file.stem for file in (ROOT / "notebooks").glob("*.py"))
    assert twins == NAMES != []


@every_notebook
def test_a_notebook_and_its_twin_agree(file):
    def essence(notebook):
        return [
            (
                cell.cell_type,
                cell.source,
                cell.metadata.get("tags", []),
                cell.metadata.get("mystnb", {}),
            )
            for cell in notebook.cells
        ]

    twin = jupytext.read(file.with_suffix(".py"))
    assert essence(jupytext.read(file)) == essence(twin), "run jupytext --sync"


@every_notebook
def test_a_notebook_is_kept_without_output(file):
    for cell in notebooks.read(file)["cells"]:
        if cell["cell_type"] == "code":
            assert cell["outputs"] == []
            assert cell["execution_count"] is None


@every_notebook
def test_every_parameter_has_a_type_and_a_meaning(file):
    for parameter in notebooks.parameters(notebooks.read(file)).values():
        assert parameter.type not in ("", "None", "NoneType"), parameter.name
        assert len(parameter.meaning) > 3, f"{parameter.name} needs a comment"


@every_notebook
def test_a_notebook_keeps_what_a_page_needs(file):
    notebooks.check_source(notebooks.read(file))


@every_notebook
def test_a_notebook_runs_with_small_parameters_and_leaves_its_tables(
    file, tmp_path, monkeypatch
):
    known = notebooks.parameters(notebooks.read(file))
    small = {name: value for name, value in SMALL.items() if name in known}
    notebooks.checked(known, small)  # the types that the notebook gives them
    # Runs and results of this test must not mix with those of the pages.
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CURVLIB_PROGRESS", str(tmp_path / "progress"))
    papermill.execute_notebook(
        file,
        tmp_path / "out.ipynb",
        small | {"results": "results"},
        cwd=tmp_path,
        progress_bar=False,
    )
    executed = json.loads((tmp_path / "out.ipynb").read_text(encoding="utf-8"))
    code = [c for c in executed["cells"] if c["cell_type"] == "code"]
    assert all(cell["execution_count"] for cell in code)
    images = [
        output
        for cell in code
        for output in cell["outputs"]
        if "image/png" in output.get("data", {})
    ]
    assert images, "a page without a figure"
    tables = [*Path("results").rglob("*.csv"), *Path("results").rglob("*.parquet")]
    assert tables, "no table in the results folder"
