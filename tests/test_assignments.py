"""Assignments: one source each, solutions that pass, students' versions that do not."""

import re
import time

import jupytext
import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest

from curvlib.book import assignments, cleanup
from curvlib.book.parameters import PageError

ROOT = __import__("pathlib").Path(__file__).parents[1]
SOURCES = assignments.sources(ROOT)
NAMES = [file.stem for file in SOURCES]
SECONDS = 180  # of computing, at most, for an assignment on one core
every_assignment = pytest.mark.parametrize("name", NAMES)

# What students get wrong, and what the check then says: assignment, cell, what the
# solution has, what a student writes, words of the message.
MISTAKES = [
    ("1_curvature", "gradient", 'reduction="sum"', "", "too small by the batch size"),
    ("1_curvature", "gradient", '"sum"', '"none"', "needs one number, the sum"),
    ("1_curvature", "gradient", ".requires_grad_()", "", "requires a gradient"),
    (
        "1_curvature",
        "gradient",
        "x)[0]",
        "x)",
        "not tuple: torch.autograd.grad returns",
    ),
    (
        "1_curvature",
        "gradient",
        "return torch.autograd.grad(loss, x)[0]",
        "loss.backward()",
        "return a tensor, not NoneType",
    ),
    ("1_curvature", "product", " / h", "", "divide it by h"),
    ("1_curvature", "product", "h * v", "h * v / v.norm()", "has length 1"),
    (
        "1_curvature",
        "curvature",
        ".square().sum(2)",
        ".norm(dim=2)",
        "square before you",
    ),
    (
        "1_curvature",
        "curvature",
        "square().sum(2).mean(0)",
        "mean(0).square().sum(1)",
        "signs cancel",
    ),
    (
        "1_curvature",
        "labels",
        ".square().sum()",
        ".diagonal().sum()",
        "sum the squares",
    ),
    (
        "2_wrong_labels",
        "margin",
        "np.where(own, -np.inf, logits)",
        "logits",
        "Leave it out before",
    ),
    ("2_wrong_labels", "scores", "-margin", "margin", "change its sign"),
    ("2_wrong_labels", "scores", "loss.sum(0)", "loss", "Reduce over the epochs"),
    ("2_wrong_labels", "count", "-score", "score", "from high to low"),
    ("2_wrong_labels", "count", " + 0.5 * (bad == good)", "", "counts one half"),
    ("3_memorization", "memorization", "(~inside & correct)", "correct", "image 0"),
    ("3_memorization", "error", "np.sqrt(variance)", "variance", "root of their sum"),
    ("3_memorization", "count", "-score", "score", "from high to low"),
    ("3_memorization", "influence", "- without", "+ without", "training image 0"),
    ("3_memorization", "halves", "second[top]", "np.sort(second)[-k:]", "same pairs"),
    ("4_claims", "cosine", " * np.linalg.norm(b)", "", "divide by both lengths"),
    ("4_claims", "null", "rng.permutation(b)", "b", "shuffle anew"),
    ("4_claims", "by-epoch", "-log_prob", "log_prob", "*minus* the log-probability"),
    ("4_claims", "paired", " / np.sqrt(len(difference))", "", "root of the"),
]


class Notebook:
    """Runs a notebook's code cells one after another in this process."""

    def __init__(self, notebook: dict):
        self.cells = [c for c in notebook["cells"] if c["cell_type"] == "code"]
        self.names: dict = {}

    def run(self, cell: dict, source: str | None = None) -> Exception | None:
        """Run a cell; return what it raised."""
        code = cell["source"] if source is None else source
        try:
            exec(
                compile(
                    code,
                    cell["metadata"].get("nbgrader", {}).get("grade_id", "-"),
                    "exec",
                ),
                self.names,
            )
        except Exception as error:
            return error
        finally:
            plt.close("all")
        return None

    def cell(self, grade_id: str) -> dict:
        (found,) = (c for c in self.cells if grading(c).get("grade_id") == grade_id)
        return found


def grading(cell: dict) -> dict:
    return cell["metadata"].get("nbgrader", {})


def is_check(cell: dict) -> bool:
    return bool(grading(cell).get("grade") and grading(cell).get("locked"))


def source(name: str) -> dict:
    return cleanup.read(ROOT / assignments.FOLDER / f"{name}.ipynb")


@pytest.fixture(scope="module")
def solved() -> dict[str, Notebook]:
    """Every source, run once; and in `seconds` what that took of one core."""
    done = {}
    with mpl.rc_context({"backend": "Agg"}), pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT / assignments.FOLDER)
        for name in NAMES:
            began = time.process_time()
            notebook = Notebook(source(name))
            notebook.faults = [
                (grading(cell).get("grade_id"), error)
                for cell in notebook.cells
                if (error := notebook.run(cell))
            ]
            notebook.seconds = time.process_time() - began
            done[name] = notebook
    return done


def test_there_are_four_assignments_and_each_has_a_twin():
    assert len(NAMES) == 4
    twins = sorted(f.stem for f in (ROOT / assignments.FOLDER).glob("*.py"))
    assert twins == NAMES


@every_assignment
def test_an_assignment_and_its_twin_agree_and_have_no_output(name):
    file = ROOT / assignments.FOLDER / f"{name}.ipynb"

    def essence(notebook):
        return [
            (cell.cell_type, cell.source, cell.metadata.get("nbgrader", {}))
            for cell in notebook.cells
        ]

    ours = jupytext.read(file)
    assert essence(ours) == essence(jupytext.read(file.with_suffix(".py")))
    for cell in ours.cells:
        assert cell.get("outputs", []) == []


@every_assignment
def test_every_task_has_one_check_with_points(name):
    ids = [grading(c)["grade_id"] for c in source(name)["cells"] if grading(c)]
    assert len(ids) == len(set(ids))
    cells = {
        i: c
        for i in ids
        for c in source(name)["cells"]
        if grading(c) and grading(c)["grade_id"] == i
    }
    checks = [i for i in ids if is_check(cells[i])]
    tasks = [
        i
        for i, c in cells.items()
        if grading(c)["solution"] and c["cell_type"] == "code"
    ]
    assert checks == [f"{task}-check" for task in tasks]
    graded = [c for c in cells.values() if grading(c)["grade"]]
    assert all(grading(c)["points"] > 0 for c in graded)
    written = [c for c in graded if c["cell_type"] == "markdown"]
    assert written, "nothing to explain"


@every_assignment
def test_the_student_version_in_git_is_what_the_source_gives(name):
    file = ROOT / assignments.FOLDER / f"{name}.ipynb"
    kept = ROOT / assignments.FOLDER / "student" / f"{name}.ipynb"
    assert kept.read_text("utf-8") == assignments.student_text(file), (
        "run `python -m curvlib.book.assignments`"
    )


@every_assignment
def test_the_student_version_shows_no_solution(name):
    text = assignments.student_text(ROOT / assignments.FOLDER / f"{name}.ipynb")
    assert "BEGIN" not in text and "END SOLUTION" not in text
    for cell in source(name)["cells"]:
        for region in (assignments.SOLUTION, assignments.HIDDEN):
            for taken in region.finditer(cell["source"] + "\n"):
                lines = [
                    x.strip() for x in taken[0].splitlines() if len(x.strip()) > 25
                ]
                assert not [x for x in lines[1:-1] if x in text]


@every_assignment
def test_solutions_pass_every_check_in_time(name, solved):
    assert solved[name].faults == []
    assert solved[name].seconds < SECONDS


@every_assignment
def test_an_untouched_student_version_fails_every_check(name, monkeypatch):
    monkeypatch.chdir(ROOT / assignments.FOLDER / "student")
    notebook = Notebook(assignments.student_version(source(name)))
    raised = {}
    with mpl.rc_context({"backend": "Agg"}):
        for cell in notebook.cells:
            error = notebook.run(cell)
            if is_check(cell):
                raised[grading(cell)["grade_id"]] = type(error)
            elif not grading(cell) and error:  # needs a function that is not yet there
                assert isinstance(error, NotImplementedError | NameError), error
    assert raised and set(raised.values()) == {NotImplementedError}, raised


@pytest.mark.parametrize(
    ("name", "task", "right", "mistaken", "message"),
    MISTAKES,
    ids=[f"{name}-{task}-{k}" for k, (name, task, *_) in enumerate(MISTAKES)],
)
def test_a_check_tells_what_is_wrong(
    name, task, right, mistaken, message, solved, monkeypatch
):
    monkeypatch.chdir(ROOT / assignments.FOLDER)
    notebook = solved[name]
    cell = notebook.cell(task)
    assert right in cell["source"], "the solution changed; change the mistake too"
    before = dict(notebook.names)
    try:
        changed = cell["source"].replace(right, mistaken)
        assert notebook.run(cell, changed) is None
        error = notebook.run(notebook.cell(f"{task}-check"))
    finally:
        notebook.names.clear()
        notebook.names.update(before)
    assert isinstance(error, AssertionError), error
    assert message in str(error)


# ------------------------------------------------------------------- the generator


def cell(text, *, kind="code", **grade):
    graded = {"nbgrader": grade} if grade else {}
    return {"cell_type": kind, "metadata": graded, "source": text}


@every_assignment
def test_the_text_names_the_points_that_the_cells_give(name):
    cells = source(name)["cells"]
    given = [c["metadata"].get("nbgrader", {}).get("points") for c in cells]
    text = "\n".join(c["source"] for c in cells if c["cell_type"] == "markdown")
    named = [int(n) for n in re.findall(r"\((\d+) points?[);]", text)]
    assert sorted(named) == sorted(p for p in given if p)


def test_a_solution_becomes_a_stub_of_its_indentation():
    text = "def f():\n    ### BEGIN SOLUTION\n    return 1\n    ### END SOLUTION"
    made = assignments.student_version(
        {"cells": [cell(text, grade_id="f", solution=True)]}
    )
    (changed,) = made["cells"]
    stub = f"    {assignments.CODE_STUB.format(indent='    ')}"
    assert changed["source"] == f"def f():\n{stub}"
    assert changed["id"] == "f"


def test_a_hidden_test_and_a_written_answer_are_taken_out():
    hidden = "assert a\n### BEGIN HIDDEN TESTS\nassert b\n### END HIDDEN TESTS"
    answer = "### BEGIN SOLUTION\nBecause.\n### END SOLUTION"
    cells = [
        cell(hidden, grade_id="t", solution=False),
        cell(answer, kind="markdown", grade_id="w", solution=True),
    ]
    made = assignments.student_version({"cells": cells})
    assert [c["source"] for c in made["cells"]] == ["assert a", "YOUR ANSWER HERE"]


@pytest.mark.parametrize(
    "bad",
    [
        cell("x = 1", grade_id="a", solution=True),
        cell("### BEGIN SOLUTION\nx = 1\n### END SOLUTION"),
    ],
)
def test_a_solution_that_would_reach_students_is_refused(bad):
    with pytest.raises(PageError, match="cell 1: a cell is marked as solution"):
        assignments.student_version({"cells": [bad]})


# ------------------------------------------------------------------------- the data


def test_the_data_of_the_assignments_are_small_and_whole():
    files = sorted((ROOT / assignments.FOLDER / "data").glob("*"))
    assert [f.name for f in files] == ["cifar10_features.npz", "ensemble.npz"]
    sizes = {f.name: f.stat().st_size / 1e6 for f in files}
    assert sizes["cifar10_features.npz"] < 3 and sizes["ensemble.npz"] < 1
    with np.load(files[0]) as table:
        assert len(table["features"]) == len(table["labels"]) > int(table["num_train"])
        assert table["features"].dtype == np.int8
    with np.load(files[1]) as record:
        assert (record["labels"] != record["original_labels"]).mean() == 0.05
