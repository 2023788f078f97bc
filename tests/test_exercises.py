"""Exercises of the pages: each has a solution, and what can run is run.

`test_notebooks` executes every notebook with small parameters, solutions included;
here is checked that there is something to run.
"""

from test_notebooks import every_notebook, with_solutions

from curvlib.book import cleanup


def solutions(notebook: dict) -> list[dict]:
    return [
        cell
        for cell in notebook["cells"]
        if cleanup.SOLUTION in cell["metadata"].get("tags", [])
    ]


@every_notebook
def test_a_notebook_has_one_exercise_to_think_about_and_one_that_runs(file):
    notebook = cleanup.read(file)
    assert len(cleanup.exercises(notebook)) >= 2
    text = cleanup._text(notebook["cells"])
    assert text.count("{exercise}") == len(cleanup.exercises(notebook)), "no label"
    assert text.count(":class: dropdown") >= text.count("{exercise}"), "shown at once"
    assert "{solution} " in text, "none to think about"
    assert solutions(notebook), "none that runs"


@every_notebook
def test_a_solution_is_run_by_the_test_of_its_notebook(file, tmp_path):
    before = solutions(cleanup.read(file))
    after = solutions(cleanup.read(with_solutions(file, tmp_path)))
    assert [c["source"] for c in after] == [c["source"] for c in before]
    assert not [c for c in after if cleanup.SKIPPED in c["metadata"]["tags"]]
