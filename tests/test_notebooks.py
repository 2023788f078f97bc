"""Every notebook: like its .py twin, short, open, and runs when small."""

import ast
import json
from pathlib import Path

import jupytext
import numpy as np
import papermill
import pytest
from sklearn.datasets import load_digits

from curvlib.book import cleanup, parameters
from curvlib.book.artwork import MIME

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
NAMES = [file.stem for file in NOTEBOOKS]
FROM_RECORDS = ("mislabel_summary",)  # measure nothing themselves
DISPLAY = {"records", "results"}
HIDDEN = {"hide-input", "remove-cell", "remove-input"}

# What makes a notebook quick. Those are passed on that the notebook knows.
SMALL = {
    "dataset": "digits",
    "model": "mlp",
    "width": 16,
    "num_train": 200,
    "num_images": 200,
    "num_heldout": 50,
    "epochs": 3,
    "score_every": 1,
    "num_probes": 2,
    "noise_rates": [0.1],
    "seeds": [0, 1],
    "second_epochs": 1,
    "num_models": 40,
    "num_test": 100,
    "n_jobs": 1,
    "num_unseen": 50,
    "num_timed": 64,
    "repeats": 1,
    "num_top": 20,
    "shares": [0.2],
    "planted_duplicates": 25,
    "features": "pixels",
    "noises": ["symmetric"],
    "plant": 0.1,
    "num_planted": 20,
    "num_resamples": 20,
    "released": "released.npz",  # see the fixture of that name
}


@pytest.fixture(autouse=True)
def released(tmp_path_factory, monkeypatch):
    """A file in the form of the released memorization scores, for the digits."""
    folder = tmp_path_factory.mktemp("data")
    labels = load_digits().target
    values = np.random.default_rng(0).uniform(size=len(labels))
    np.savez(folder / "released.npz", tr_mem=values, tr_labels=labels)
    monkeypatch.setenv("CURVLIB_DATA", str(folder))
    return folder / "released.npz"


def small_parameters(known: dict) -> dict:
    """Those of ``SMALL`` that a notebook knows."""
    small = {name: value for name, value in SMALL.items() if name in known}
    if "features" in known and known["features"].default is None:
        del small["features"]  # a network on pixels, which is what to test here
    return small


every_notebook = pytest.mark.parametrize("file", NOTEBOOKS, ids=NAMES)


def code_cells(file: Path) -> list[dict]:
    """Cells of code but for the parameters."""
    return [
        cell
        for cell in cleanup.read(file)["cells"]
        if cell["cell_type"] == "code"
        and "parameters" not in cell["metadata"].get("tags", [])
    ]


def lines_of(cells: list[dict]) -> int:
    lines = "\n".join(cell["source"] for cell in cells).splitlines()
    return sum(1 for x in lines if x.strip() and not x.strip().startswith("#"))


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
    for cell in cleanup.read(file)["cells"]:
        if cell["cell_type"] == "code":
            assert cell["outputs"] == []
            assert cell["execution_count"] is None


@every_notebook
def test_every_parameter_has_a_type_and_a_meaning(file):
    for parameter in parameters.parameters(cleanup.read(file)).values():
        assert parameter.type not in ("", "None", "NoneType"), parameter.name
        assert len(parameter.meaning) > 3, f"{parameter.name} needs a comment"


@every_notebook
def test_a_notebook_keeps_what_a_page_needs(file):
    cleanup.check_source(cleanup.read(file))
    assert parameters.parameters(cleanup.read(file)).keys() >= DISPLAY


@every_notebook
def test_a_notebook_has_the_parameters_and_defaults_of_its_study(file):
    if file.stem in FROM_RECORDS:
        return
    own = parameters.parameters(cleanup.read(file))
    for name, parameter in parameters.parameters_of_study(file.stem).items():
        assert name in own, f"{file.stem}.measure has {name}, the notebook has not"
        assert own[name].default == parameter.default, name


@every_notebook
def test_a_notebook_is_short_and_shows_its_code(file):
    cells = code_cells(file)
    hidden = [c for c in cells if HIDDEN & set(c["metadata"].get("tags", []))]
    assert lines_of(cells) <= 130
    assert lines_of(hidden) <= 0.4 * lines_of(cells)


@every_notebook
def test_no_text_of_a_notebook_is_assembled(file):
    """Numbers go through page.tell, claims through page.claim; no text is composed."""
    tree = ast.parse("\n".join(cell["source"] for cell in code_cells(file)))
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            assert called != "glue"
            if called == "page.claim":
                text = node.args[0]
                assert isinstance(text, ast.Constant), "a claim is a fixed sentence"
            if called == "page.tell":
                for given in node.keywords:
                    composed = [
                        x for x in ast.walk(given.value) if isinstance(x, ast.IfExp)
                    ]
                    assert not composed, f"{given.arg} is composed with if"


@every_notebook
def test_a_notebook_runs_with_small_parameters_and_leaves_its_record(
    file, tmp_path, monkeypatch
):
    known = parameters.parameters(cleanup.read(file))
    small = small_parameters(known)
    # Runs and results of this test must not mix with those of the book.
    monkeypatch.setenv("CURVLIB_ROOT", str(tmp_path))
    monkeypatch.setenv("CURVLIB_PROGRESS", str(tmp_path / "progress"))
    if file.stem in FROM_RECORDS:
        one = ROOT / "notebooks" / "mislabelled.ipynb"
        run(one, tmp_path, results="results/digits/one", planted_duplicates=0)
        small = {"records": ["digits/one"]}
    parameters.checked(known, small)  # the types that the notebook gives them
    papermill.execute_notebook(
        with_solutions(file, tmp_path),
        tmp_path / "out.ipynb",
        small if "records" in small else small | {"results": "results/mine"},
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
        or MIME in output.get("data", {})  # tabs
    ]
    assert images, "a page without a figure"
    if "records" not in small:
        made = json.loads((tmp_path / "results/mine/record.json").read_text())
        assert made["study"] == file.stem and made["tables"]
    # As a page: every number of the text is told, every figure has its alt text.
    content = cleanup.clean(
        cleanup.read(tmp_path / "out.ipynb"),
        name="x",
        about="-",
        downloads={},
        replaced={},
    )
    assert b"Traceback" not in content


def with_solutions(file: Path, folder: Path) -> Path:
    """A copy of a notebook in which papermill skips no solution."""
    notebook = json.loads(file.read_text(encoding="utf-8"))
    for cell in notebook["cells"]:
        if tags := cell["metadata"].get("tags"):
            cell["metadata"]["tags"] = [tag for tag in tags if tag != cleanup.SKIPPED]
    copy = folder / file.name
    copy.write_text(json.dumps(notebook), encoding="utf-8")
    return copy


def run(file: Path, folder: Path, **given) -> None:
    """Run a notebook with small parameters in a folder of its own."""
    known = parameters.parameters(cleanup.read(file))
    small = small_parameters(known)
    papermill.execute_notebook(
        file, folder / "first.ipynb", small | given, cwd=folder, progress_bar=False
    )


def test_a_second_run_with_the_same_parameters_reads_the_record(tmp_path, monkeypatch):
    monkeypatch.setenv("CURVLIB_ROOT", str(tmp_path))
    monkeypatch.setenv("CURVLIB_PROGRESS", str(tmp_path / "progress"))
    gallery = ROOT / "notebooks" / "gallery.ipynb"
    run(gallery, tmp_path, results="results/mine")
    record = tmp_path / "results/mine/record.json"
    first = record.read_bytes()
    run(gallery, tmp_path, results="results/mine")
    assert record.read_bytes() == first
    run(gallery, tmp_path, results="results/mine", epochs=2)
    assert json.loads(record.read_text())["parameters"]["epochs"] == 2


def test_started_in_the_folder_of_the_notebooks_runs_go_to_the_project(
    tmp_path, monkeypatch
):
    monkeypatch.delenv("CURVLIB_ROOT", raising=False)
    monkeypatch.setenv("CURVLIB_PROGRESS", str(tmp_path / "progress"))
    (tmp_path / "experiments.yml").write_text("records: {}\npages: {}\n")
    inside = tmp_path / "notebooks"
    inside.mkdir()
    run(ROOT / "notebooks" / "gallery.ipynb", inside, results="results/scratch/mine")
    assert (tmp_path / "results/scratch/mine/record.json").exists()
    assert len(list((tmp_path / "runs").glob("digits-*"))) == 2
    assert sorted(f.name for f in inside.iterdir()) == ["first.ipynb"]


def test_a_notebook_draws_from_a_record_without_data_sets_or_torch(
    tmp_path, monkeypatch
):
    name = next(
        (f.parent for f in sorted(ROOT.glob("results/cpu/gallery_*/record.json"))), None
    )
    if name is None:
        pytest.skip("no record of a gallery is committed")
    monkeypatch.setenv("CURVLIB_ROOT", str(ROOT))
    monkeypatch.setenv("CURVLIB_DATA", str(tmp_path / "nothing"))
    (tmp_path / "torch.py").write_text("raise ImportError('no torch here')")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{ROOT}")
    papermill.execute_notebook(
        ROOT / "notebooks" / "gallery.ipynb",
        tmp_path / "out.ipynb",
        {"records": [f"cpu/{name.name}"]},
        cwd=tmp_path,
        progress_bar=False,
    )
