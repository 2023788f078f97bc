"""Assignments: their sources, and the student versions that are made from them.

A source is a notebook in ``notebooks/assignments`` in the format of nbgrader (Jupyter's
tool for teachers). A cell to be solved has its solution between ``### BEGIN SOLUTION``
and ``### END SOLUTION``. A cell that checks it is locked and has points. Checks that
students must not see are between ``### BEGIN HIDDEN TESTS`` and
``### END HIDDEN TESTS``. So ``nbgrader generate_assignment`` and ``autograde`` work on
the sources. nbgrader needs a Jupyter server and a database, which readers of this book
do not need. So this module makes the student versions itself::

    python -m curvlib.book.assignments   # writes notebooks/assignments/student/*.ipynb
"""

import copy
import json
import re
from pathlib import Path

from curvlib.book import cleanup
from curvlib.book.parameters import KERNEL, PageError

FOLDER = Path("notebooks") / "assignments"
CODE_STUB = (
    '# YOUR CODE HERE\n{indent}raise NotImplementedError("write this function first")'
)
TEXT_STUB = "YOUR ANSWER HERE"
_REGION = r"^(?P<indent>[ \t]*)### BEGIN {0}\n.*?^[ \t]*### END {0}[ \t]*\n?"
SOLUTION = re.compile(_REGION.format("SOLUTION"), re.MULTILINE | re.DOTALL)
HIDDEN = re.compile(_REGION.format("HIDDEN TESTS"), re.MULTILINE | re.DOTALL)


def student_version(source: dict) -> dict:
    """Make the notebook for students: no solutions, no hidden checks, no outputs.

    Args:
        source: The assignment, as ``cleanup.read`` reads it.

    Raises:
        PageError: If a cell to be solved has no solution, or another cell has one.
    """
    notebook = copy.deepcopy(source)
    for number, cell in enumerate(notebook["cells"], 1):
        grading = cell["metadata"].get("nbgrader", {})
        stub = CODE_STUB if cell["cell_type"] == "code" else TEXT_STUB
        text, count = SOLUTION.subn(
            lambda m, stub=stub: m["indent"] + stub.format(indent=m["indent"]) + "\n",
            cell["source"] + "\n",
        )
        if bool(count) != bool(grading.get("solution")):
            raise PageError(
                f"cell {number}: a cell is marked as solution in its nbgrader metadata "
                "if and only if it has ### BEGIN SOLUTION and ### END SOLUTION"
            )
        cell["source"] = HIDDEN.sub("", text).rstrip("\n")
        cell["metadata"] = {"nbgrader": grading} if grading else {}
        cell["id"] = grading.get("grade_id", f"c{number:03}")
        if cell["cell_type"] == "code":
            cell["outputs"], cell["execution_count"] = [], None
    notebook["metadata"] = {"kernelspec": KERNEL}
    notebook["nbformat"], notebook["nbformat_minor"] = 4, 5
    return notebook


def sources(root: Path) -> list[Path]:
    """The assignments, in their order."""
    return sorted((root / FOLDER).glob("*.ipynb"))


def student_text(source: Path) -> str:
    """The student version of a source, as the text of its file."""
    notebook = student_version(cleanup.read(source))
    for cell in notebook["cells"]:  # a line each, as Jupyter writes them
        cell["source"] = cell["source"].splitlines(keepends=True)
    return json.dumps(notebook, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def write(root: Path) -> list[Path]:
    """Write the student version of every assignment; return the files."""
    folder = root / FOLDER / "student"
    folder.mkdir(exist_ok=True)
    written = []
    for source in sources(root):
        file = folder / source.name
        file.write_text(student_text(source), encoding="utf-8")
        written.append(file)
    return written


if __name__ == "__main__":
    for file in write(Path.cwd()):
        print(file)
