import json

import pytest
from toy_book import FIGURE, PNG, code, markdown, notebook

from curvlib.book import cleanup
from curvlib.book.parameters import PageError


def test_the_hash_of_a_notebook_is_of_what_a_reader_sees_or_python_runs():
    def hashed(*cells):
        return cleanup.content_hash({"cells": cells, "metadata": {"editor": "x"}})

    before = hashed(markdown("# Title"), code("x = 1", tags=["hide-input"]))
    assert before == hashed(
        markdown("# Title"),  # another id
        code("x = 1", [stream("stdout", "1")], tags=["hide-input"], scrolled=True),
    )
    for title, line, tag in (
        ("# Titel", "x = 1", "hide-input"),
        ("# Title", "x = 2", "hide-input"),
        ("# Title", "x = 1", "remove-cell"),
    ):
        assert hashed(markdown(title), code(line, tags=[tag])) != before
    assert hashed(code("x = 1", tags=["hide-input"]), markdown("# Title")) != before


# ------------------------------------------------------------- notebooks not taken

EXERCISE = "```{exercise} A question\n:class: note\n:label: ex-a\nWhy?\n```\n"
START = "```{solution-start} ex-a\n:class: dropdown\n```\n"
END = "```{solution-end}\n```\n"


def test_a_solution_is_a_cell_between_its_gates():
    changed = notebook()
    changed["cells"] += [
        markdown(EXERCISE + START),
        code("1", tags=["solution", "skip-execution"]),
        markdown("So it is." + "\n" + END),
        markdown(EXERCISE.replace("ex-a", "ex-b") + "```{solution} ex-b\nSo.\n```"),
    ]
    cleanup.check_source(changed)
    assert cleanup.exercises(changed) == ["ex-a", "ex-b"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda nb: nb["metadata"].clear(), "must name the kernel python3, got None"),
        (lambda nb: nb["cells"].pop(0), "cell 1 must be Markdown and start with '# '"),
        (lambda nb: nb["cells"].pop(1), "one cell tagged parameters, this one has 0"),
        (
            lambda nb: nb["cells"][1].update(source="n = 1"),
            "parameters cell must set `results`",
        ),
        (
            lambda nb: nb["cells"].append(code("", mystnb={"figure": {"name": "f-a"}})),
            "cell 3 shows a figure without a text",
        ),
        (
            lambda nb: nb["cells"].append(markdown("(why)=\n## Why")),
            "the name why needs a hyphen, such as fig-why",
        ),
        (
            lambda nb: nb["cells"].extend([markdown("$$\nx\n$$ (eq-x)")] * 2),
            "the name eq-x is given more than once",
        ),
        (
            lambda nb: nb["cells"].append(markdown(EXERCISE)),
            "each exercise needs one solution; exercises: ex-a; solutions: none",
        ),
        (
            lambda nb: nb["cells"].extend([markdown(EXERCISE), markdown(START)]),
            "a solution-start has no solution-end",
        ),
        (
            lambda nb: nb["cells"].append(markdown(END)),
            "cell 3: solution-end has no partner",
        ),
        (
            lambda nb: nb["cells"].extend([markdown(EXERCISE + START), code("1")]),
            "cell 4: a code cell is tagged 'solution' if and only if",
        ),
        (
            lambda nb: nb["cells"].append(code("1", tags=["solution"])),
            "cell 3: a code cell is tagged 'solution' if and only if",
        ),
        (
            lambda nb: nb["cells"].append(code("1", tags=["skip-execution"])),
            "cell 3: only a solution may be 'skip-execution'",
        ),
    ],
)
def test_a_notebook_that_can_make_no_page_is_refused_before_it_runs(change, message):
    changed = notebook()
    cleanup.check_source(changed)
    change(changed)
    with pytest.raises(PageError, match=message):
        cleanup.check_source(changed)


def clean(*cells, replaced=(), **arguments):
    content = cleanup.clean(
        {**notebook(), "cells": [markdown("# Title"), *cells]},
        name="toy",
        about="How it was made.",
        downloads={},
        replaced=dict(replaced),
        **arguments,
    )
    return json.loads(content)["cells"][2:]


def display(data, **metadata):
    return {"output_type": "display_data", "data": data, "metadata": metadata}


def stream(name, text):
    return {"output_type": "stream", "name": name, "text": text}


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        (
            [code(FIGURE, [display({"image/png": PNG})])],
            "cell 2 shows a figure without a text for those who cannot see it",
        ),
        (
            [
                code(
                    FIGURE,
                    [display({"image/png": PNG})] * 2,
                    mystnb={"figure": {"name": "f-a"}, "image": {"alt": "dots"}},
                )
            ],
            "cell 2 shows 2 figures under one name",
        ),
        (
            [
                code(
                    FIGURE,
                    [display({"text/plain": "[Text]"}), display({"image/png": PNG})],
                    mystnb={"figure": {"name": "f-a"}, "image": {"alt": "dots"}},
                )
            ],
            "cell 2 shows something beside its figure ([Text]): assign it",
        ),
        (
            [code("1 / 0", [{"output_type": "error", "ename": "E", "evalue": "bad"}])],
            "cell 2 shows an error: E: bad",
        ),
        (
            [
                code("x", [stream("stdout", "")], tags=["injected-parameters"]),
                code("y"),
            ],
            "cell 2 did not run",
        ),
        (
            [markdown("It is {glue:text}`auroc:.2f`")],
            "cell 2 shows 'auroc', which is not among the numbers glued: none",
        ),
        (
            [
                code(
                    "glue",
                    [
                        display(
                            {f"{cleanup.GLUE}text/plain": "'high'"},
                            scrapbook={"name": "level"},
                        )
                    ],
                    mystnb={"image": {"alt": "It is {glue:text}`level:.2f`"}},
                )
            ],
            "cell 2: 'high' does not fit {glue:text}`level:.2f`",
        ),
    ],
)
def test_a_result_that_is_no_page_is_refused(cells, message):
    with pytest.raises(PageError) as error:
        clean(*cells)
    assert message in str(error.value)


def test_a_hidden_figure_needs_no_alt_text():
    shown = display({"image/png": PNG})
    (cell,) = clean(code(FIGURE, [shown], tags=["remove-output"]))
    assert cell["outputs"] == [shown]


def test_outputs_do_not_tell_when_or_where_they_were_made():
    (cell,) = clean(
        code(
            "x",
            [
                stream("stderr", "Warning: /var/ipykernel_12/34.py"),
                stream("stdout", "a\n"),
                stream("stdout", "b at 0x7f00aa11\n"),
                display({cleanup.WIDGET: {}, "text/plain": "3/3 [00:01<00:00]"}),
                display({"text/html": '<th id="T_1a2b3_row0">'}),
            ],
        )
    )
    assert cell["outputs"] == [
        stream("stdout", "a\nb at 0x...\n"),
        display({"text/html": '<th id="T_cell2_row0">'}),
    ]


def test_numbers_of_numpy_are_glued_as_numbers():
    glued = display(
        {f"{cleanup.GLUE}text/plain": "np.float64(0.5)"}, scrapbook={"name": "a"}
    )
    (cell, _) = clean(code("x", [glued]), markdown("{glue:text}`a:.2f`"))
    assert cell["outputs"][0]["data"] == {f"{cleanup.GLUE}text/plain": "0.5"}


def test_only_whole_labels_get_the_prefix():
    (cell,) = clean(
        markdown("(fig-a)=\n{ref}`x <fig-a>` fig-a-b a/fig-a.csv fig-a.csv (#fig-a).")
    )
    assert cell["source"] == (
        "(toy-fig-a)=\n{ref}`x <toy-fig-a>` fig-a-b a/fig-a.csv fig-a.csv (#toy-fig-a)."
    )


def test_paths_of_the_machine_are_replaced_but_never_within_pictures():
    picture = "data:image/png;base64,AB/home/CD+/home=="
    html = f'<img src="{picture}"> /home/x and /homeless and (/home)'
    (cell,) = clean(code("x", [display({"text/html": html})]), replaced={"/home": "~"})
    assert cell["outputs"][0]["data"]["text/html"] == (
        f'<img src="{picture}"> ~/x and /homeless and (~)'
    )
