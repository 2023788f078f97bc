import io
import json
import shlex
import shutil

import pytest
from filelock import FileLock
from toy_book import (
    FIGURE,
    PARAMETERS,
    PNG,
    ROOT,
    book,
    code,
    made_book,
    markdown,
    notebook,
    write_notebook,
    write_project,
)

from curvlib.book import pages, source
from curvlib.book.source import PageError
from curvlib.runs import provenance

__all__ = ["book", "made_book"]  # fixtures


def load(root):
    return pages.load_pages(root / "experiments.yml")


def page_text(root, name):
    return load(root)[name].file.read_text(encoding="utf-8")


def cells_of(root, name):
    return source.read(load(root)[name].file)["cells"]


def run(root, *names, force=False):
    stream = io.StringIO()
    chosen = pages.choose(load(root), names, None)
    return pages.run_pages(chosen, force=force, stream=stream), stream.getvalue()


# ------------------------------------------------------------------ a page as made


def test_the_page_opens_with_its_question_then_says_how_it_was_made(made_book):
    title, about = cells_of(made_book, "digits/toy")[:2]
    assert title["source"].startswith("# What does a toy show?")
    assert about["source"] == "```{include} /results/digits/toy/about.md\n```"
    text = (made_book / "results/digits/toy/about.md").read_text()
    assert text.startswith(":::{dropdown} `curvlib run digits/toy` · ")
    assert "| `n` | **`5`** | `3` | rows of the table |" in text
    assert "| `seeds` | `[0, 1]` | `[0, 1]` | one run each |" in text
    assert "curvlib run digits/toy --force" in text
    assert "papermill notebooks/toy.ipynb out.ipynb -p n 5\n" in text
    assert "Seeds: `seeds = [0, 1]`" in text


def test_a_title_of_experiments_yml_takes_the_place_of_the_notebooks_own(made_book):
    source = cells_of(made_book, "digits/other")[0]["source"]
    assert source.startswith("# What else?\n\nSee")


def test_parameter_cells_are_hidden_and_show_where_the_results_went(made_book):
    tagged = [
        cell
        for cell in cells_of(made_book, "digits/toy")
        if "remove-cell" in cell["metadata"].get("tags", [])
    ]
    assert [cell["source"] for cell in tagged] == [
        PARAMETERS,
        '# Parameters\nn = 5\nresults = "results/digits/toy"\n',
    ]


def test_the_page_shows_nothing_of_the_machine_or_the_moment(made_book):
    text = page_text(made_book, "digits/toy")
    printed = next(
        output["text"]
        for cell in cells_of(made_book, "digits/toy")
        for output in cell.get("outputs", [])
        if output["output_type"] == "stream"
    )
    assert printed.startswith("written to results/digits/toy <object object at 0x...>")
    for trace in (str(made_book), "scratch/.", "ipykernel", "iopub", "UserWarning"):
        assert trace not in text
    assert '"papermill"' not in text
    log = made_book / "runs/logs/digits/toy.txt"
    assert "UserWarning: not for readers" in log.read_text()


def test_progress_goes_to_the_console_and_not_into_the_page(tmp_path):
    write_project(tmp_path)
    news = []
    pages.run_page(load(tmp_path)["digits/toy"], progress=news.append)
    assert news == ["row 5 of 5"]
    assert "row 5 of 5" not in page_text(tmp_path, "digits/toy")


def test_labels_carry_page_and_profile_wherever_they_stand(made_book):
    cells = cells_of(made_book, "digits/toy")
    assert "{numref}`digits-toy-fig-dot`" in cells[0]["source"]
    figure = next(cell for cell in cells if "mystnb" in cell["metadata"])
    assert figure["metadata"]["mystnb"] == {
        "figure": {
            "caption": "It is {glue:text}`share:.2f` black",  # the book resolves it
            "name": "digits-toy-fig-dot",
        },
        "image": {"alt": "A dot, 98.8% black"},
    }
    assert "[the dot](#digits-toy-fig-dot)" in cells[-2]["source"]
    assert cells[-1]["source"] == (
        "## Data of this page\n\n- {download}`rows.csv </results/digits/toy/rows.csv>`"
    )


def test_the_manifest_holds_all_the_page_was_made_from(made_book):
    made = load(made_book)["digits/toy"].manifest
    assert made["parameters"] == {"n": 5}
    assert "metrics" in made["code"] and "progress" not in made["code"]
    assert made["seconds"] > 0.1 and made["peak_memory_gib"] > 0.01
    assert made["versions"]["torch"] and made["hardware"]["cores"]
    assert sorted(made["files"]) == [
        "book/pages/digits/toy.ipynb",
        "results/digits/toy/about.md",
        "results/digits/toy/rows.csv",
    ]


def test_the_kernel_is_this_python_whatever_the_user_installed(made_book, monkeypatch):
    from jupyter_client.kernelspec import KernelSpecManager

    # The pages of made_book were made beside this kernel, which ends at once.
    kernel = next(made_book.parent.glob("jupyter*"))
    monkeypatch.setenv("JUPYTER_PATH", str(kernel))
    assert KernelSpecManager().get_kernel_spec("python3").argv == ["false"]
    assert load(made_book)["digits/toy"].manifest is not None


def test_a_rerun_gives_the_same_bytes(book):
    before = page_text(book, "digits/toy")
    status, output = run(book, "digits/toy", force=True)
    assert (status, page_text(book, "digits/toy")) == (0, before)
    assert "[1/1] digits/toy made in" in output


# ----------------------------------------------------------------------- staleness


def test_a_clone_of_the_book_is_current_and_runs_nothing(book, monkeypatch):
    monkeypatch.setattr(pages, "run_page", None)  # to call it would fail
    assert run(book) == (0, "2 of 2 pages are current; --force makes them again\n")


def test_without_names_only_digits_is_chosen(book):
    assert [page.name for page in pages.choose(load(book), [], None)] == [
        "digits/toy",
        "digits/other",
    ]
    assert pages.why_stale(load(book)["cpu/toy"]) == ["never run"]


def edit(file, old, new):
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


def test_a_page_that_reads_other_pages_is_stale_when_they_changed(book):
    source = notebook(code("from pathlib import Path\nPath(results, 'a.csv').touch()"))
    source["cells"][1]["source"] = (
        'pages = ["digits/toy"]  # those that are read\n'
        'results = "results/scratch/sum"  # folder for tables'
    )
    source["cells"][0]["source"] = "# Sum?"
    (book / "notebooks" / "sum.ipynb").write_text(json.dumps(source))
    listed = book / "experiments.yml"
    listed.write_text(listed.read_text().replace(
        "digits:\n", "digits:\n  sum: {parameters: {pages: [digits/toy]}}\n", 1
    ))  # fmt: skip
    assert run(book, "sum")[0] == 0
    assert pages.why_stale(load(book)["digits/sum"]) == []
    edit(book / "results/digits/toy/rows.csv", "row", "raw")
    assert pages.why_stale(load(book)["digits/sum"]) == [
        "results/digits/toy/rows.csv changed"
    ]
    # Made again in one go with the page that it reads, in whatever state it was.
    edit(book / "results/digits/toy/rows.csv", "raw", "row")
    edit(book / "notebooks/toy.ipynb", "answer", "reply")
    assert pages.why_stale(load(book)["digits/sum"]) == []
    text = run(book, "toy", "sum")[1]
    assert "2 pages made" in text


@pytest.mark.parametrize(
    ("file", "old", "new", "reasons"),
    [
        ("experiments.yml", "n: 5", "n: 6", ["parameter n: 5 -> 6"]),
        ("experiments.yml", "{n: 5}", "{}", ["parameter n: 5 -> default"]),
        ("experiments.yml", "n: 5", "n: 5.0", ["parameter n: 5 -> 5.0"]),
        ("experiments.yml", "{parameters", "{title: T, parameters", ["title changed"]),
        ("notebooks/toy.ipynb", "answer", "reply", ["notebook changed"]),
        ("notebooks/toy.ipynb", "fig-dot", "fig-spot", ["notebook changed"]),
        ("notebooks/toy.ipynb", '"id": "m', '"id": "z', []),
        (
            "results/digits/toy/rows.csv",
            "row",
            "raw",
            ["results/digits/toy/rows.csv changed"],
        ),
        (
            "book/pages/digits/toy.ipynb",
            "toy",
            "joy",
            ["book/pages/digits/toy.ipynb changed"],
        ),
    ],
)
def test_a_change_is_named_as_the_reason(book, file, old, new, reasons):
    edit(book / file, old, new)
    assert pages.why_stale(load(book)["digits/toy"]) == reasons
    assert pages.why_stale(load(book)["digits/other"]) == []


def test_a_missing_result_is_named_as_the_reason(book):
    (book / "results/digits/toy/rows.csv").unlink()
    assert pages.why_stale(load(book)["digits/toy"]) == [
        "results/digits/toy/rows.csv missing"
    ]


def stale_after(edit_library, book, tmp_path, monkeypatch):
    library = tmp_path / "curvlib"
    shutil.copytree(provenance.LIBRARY, library)
    monkeypatch.setattr(provenance, "LIBRARY", library)
    edit_library(library)
    return {
        name: pages.why_stale(page)
        for name, page in load(book).items()
        if name.startswith("digits/")
    }


def test_an_edited_module_makes_exactly_its_dependents_stale(
    book, tmp_path, monkeypatch
):
    def edit_library(library):
        with (library / "metrics.py").open("a") as file:
            file.write("\nNEW = 1\n")

    assert stale_after(edit_library, book, tmp_path, monkeypatch) == {
        "digits/toy": ["curvlib/metrics.py changed"],
        "digits/other": [],
    }


def test_code_edited_during_a_run_is_not_taken_for_the_code_that_ran(
    book, tmp_path, monkeypatch
):
    def edit_while_running(page, source, parameters, output):
        with (provenance.LIBRARY / "metrics.py").open("a") as file:
            file.write("\nNEW = 1\n")
        cells = [markdown("# Title"), code("x = 1", [stream("stdout", "x")])]
        output.write_text(json.dumps({**source, "cells": cells}))

    monkeypatch.setattr(pages, "_execute", edit_while_running)
    library = tmp_path / "curvlib"
    shutil.copytree(provenance.LIBRARY, library)
    monkeypatch.setattr(provenance, "LIBRARY", library)
    page = load(book)["digits/toy"]
    pages.run_page(page)
    assert pages.why_stale(page) == ["curvlib/metrics.py changed"]


def test_comments_and_progress_make_nothing_stale(book, tmp_path, monkeypatch):
    def edit_library(library):
        with (library / "metrics.py").open("a") as file:
            file.write("\n# better said\n")
        (library / "progress.py").write_text("def report(text): pass\n")

    stale = stale_after(edit_library, book, tmp_path, monkeypatch)
    assert stale == {"digits/toy": [], "digits/other": []}


@pytest.mark.parametrize(
    "source",
    [
        "import curvlib.metrics",
        "from curvlib.metrics import auroc",
        "import curvlib\ncurvlib.metrics.auroc",
    ],
)
def test_every_way_to_import_a_module_is_a_dependency(source):
    assert "metrics" in provenance.dependencies(source)


# ------------------------------------------------------------------------ failures


def test_a_failed_page_keeps_the_good_one_and_stops_no_other(book):
    before = page_text(book, "digits/toy")
    manifest = load(book)["digits/toy"].manifest
    broken = [code("x = 1"), code("half = 1\nraise ValueError('no luck')")]
    write_notebook(book, "toy", *broken)
    shutil.rmtree(book / "results/digits/other")

    status, output = run(book)

    assert status == 1
    assert "[1/2] digits/toy FAILED: cell 4 (half = 1) failed: ValueError: no luck" in (
        output
    )
    assert "the notebook as far as it came: runs/failed/digits/toy.ipynb" in output
    assert "no luck" in (book / "runs/failed/digits/toy.ipynb").read_text()
    assert "1 of 2 failed: digits/toy" in output
    assert page_text(book, "digits/toy") == before
    assert load(book)["digits/toy"].manifest == manifest
    assert pages.why_stale(load(book)["digits/other"]) == []
    assert [f.suffix for f in (book / "results/scratch").iterdir()] == [".lock"] * 2


def test_a_kernel_that_dies_is_a_failed_page(tmp_path):
    write_project(tmp_path)
    write_notebook(tmp_path, "other", code("import os\nos._exit(1)"))
    with pytest.raises(PageError, match="Python died in the middle of the notebook"):
        pages.run_page(load(tmp_path)["digits/other"])
    assert (tmp_path / "runs/failed/digits/other.ipynb").exists()
    assert not (tmp_path / "book").exists()


def test_a_kill_between_the_two_moves_leaves_a_stale_page_that_a_rerun_repairs(
    book, monkeypatch
):
    edit(book / "experiments.yml", "n: 5", "n: 6")

    def killed(path, content):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(provenance, "write_atomically", killed)
        assert run(book, "digits/toy")[0] == 130
    page = load(book)["digits/toy"]
    assert pages.why_stale(page) == ["book/pages/digits/toy.ipynb changed"]
    assert run(book)[0] == 0
    assert pages.why_stale(page) == []


def test_one_page_is_not_made_twice_at_once(book):
    with (
        FileLock(book / "results/scratch/.digits-toy.lock"),
        pytest.raises(PageError, match="digits/toy is being made by another process"),
    ):
        pages.run_page(load(book)["digits/toy"])


def test_a_wrong_parameter_is_refused_before_any_page_runs(book, monkeypatch):
    edit(book / "experiments.yml", "n: 5", "n: five, rows: 5")
    edit(book / "experiments.yml", "What else?", "What?")
    monkeypatch.setattr(pages, "run_page", None)  # to call it would fail
    with pytest.raises(PageError) as error:
        run(book)
    assert str(error.value) == (
        "digits/toy: parameter n must be int, got 'five', str; unknown parameter "
        "'rows'; this notebook has n, seeds\nnothing was run"
    )


# ---------------------------------------------------------------------- parameters

KNOWN = source.parameters(
    {
        **notebook(),
        "cells": [
            code(
                "count: int = None  # None: all\n"
                "rate = 0.1  # share\n"
                "word = 'digits'\n"
                "flag = True\n"
                "rates = [0.1, 0.2]\n"
                "maybe: Optional[float] = 0.5\n"
                "anything = None\n"
                'results = "results/scratch/x"',
                tags=["parameters"],
            )
        ],
    }
)


def test_parameters_have_type_default_and_meaning():
    assert KNOWN["count"] == ("count", "Optional[int]", None, "None: all")
    assert KNOWN["rate"] == ("rate", "float", 0.1, "share")
    assert KNOWN["rates"].type == "list[float]"


@pytest.mark.parametrize(
    ("given", "got"),
    [
        ({"count": None}, None),
        ({"count": 3}, 3),
        ({"rate": 1}, 1.0),
        ({"rates": [1, 0.5]}, [1.0, 0.5]),
        ({"maybe": None}, None),
        ({"anything": "x"}, "x"),
        ({"flag": False}, False),
    ],
)
def test_a_value_gets_the_type_of_its_parameter(given, got):
    (value,) = source.checked(KNOWN, given).values()
    assert (value, type(value)) == (got, type(got))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"count": True}, r"count must be Optional\[int\], got True, bool"),
        ({"count": 3.0}, r"count must be Optional\[int\], got 3.0, float"),
        ({"rate": None}, "rate must be float, got None"),
        ({"rate": True}, "rate must be float, got True"),
        ({"rate": "1e-4"}, "write it with a point, such as 1.0e-4"),
        ({"word": 3}, "word must be str, got 3, int"),
        ({"flag": 1}, "flag must be bool, got 1, int"),
        ({"rates": 0.1}, r"rates must be list\[float\], got 0.1, float"),
        ({"rates": ["a"]}, r"rates must be list\[float\], got \['a'\], list"),
        ({"ratio": 1}, "unknown parameter 'ratio'; this notebook has count, rate"),
        ({"results": "x"}, "results is set by the runner"),
    ],
)
def test_a_wrong_value_is_refused(given, message):
    with pytest.raises(PageError, match=message):
        source.checked(KNOWN, given)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("h = 0.1  # such as h=1e-3", "papermill cannot read the parameter h"),
        ("h: int | None = 1", "papermill cannot read the parameter h"),
        (
            "h = 1 / 255",
            "the default of parameter h must be a plain value, got 1 / 255",
        ),
    ],
)
def test_a_parameters_cell_that_is_not_plain_is_refused(line, message):
    cell = code(f"{line}\nresults = ''", tags=["parameters"])
    with pytest.raises(PageError, match=message):
        source.parameters({**notebook(), "cells": [cell]})


def test_the_hash_of_a_notebook_is_of_what_a_reader_sees_or_python_runs():
    def hashed(*cells):
        return source.content_hash({"cells": cells, "metadata": {"editor": "x"}})

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


def test_the_table_of_parameters_shows_in_bold_what_is_not_the_default():
    known = {
        p.name: p
        for p in (
            source.Parameter("n", "int", 3, "rows"),
            source.Parameter("same", "int", 3, "given, but the default"),
            source.Parameter("word", "str", "", "a | b"),
            source.Parameter("results", "str", "results/scratch/x", "folder"),
        )
    }
    table = source.parameter_table(known, {"n": 5, "same": 3}, "results/digits/x")
    assert table.splitlines()[2:] == [
        "| `n` | **`5`** | `3` | rows |",
        "| `same` | `3` | `3` | given, but the default |",
        '| `word` | `""` | `""` | a \\| b |',
        "| `results` | `results/digits/x` | `results/scratch/x` | folder |",
    ]


def test_the_papermill_command_gives_papermill_the_same_values():
    from papermill.cli import _resolve_type
    from yaml import safe_load

    values = {"a": 1e-05, "b": True, "c": "a b", "d": [1e-05], "e": None, "f": "None"}
    words = shlex.split(source.papermill_command("x.ipynb", values))[3:]
    got = {}
    while words:
        if words[0] == "-p":
            got[words[1]], words = _resolve_type(words[2]), words[3:]
        else:
            got |= safe_load(words[1])
            words = words[2:]
    assert got == values


# ------------------------------------------------------------- notebooks not taken


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
    ],
)
def test_a_notebook_that_can_make_no_page_is_refused_before_it_runs(change, message):
    changed = notebook()
    source.check_source(changed)
    change(changed)
    with pytest.raises(PageError, match=message):
        source.check_source(changed)


def clean(*cells, **arguments):
    content = source.clean(
        {**notebook(), "cells": [markdown("# Title"), *cells]},
        name="digits/toy",
        about="about.md",
        downloads=[],
        replaced={},
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
                            {f"{source.GLUE}text/plain": "'high'"},
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
                display({source.WIDGET: {}, "text/plain": "3/3 [00:01<00:00]"}),
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
        {f"{source.GLUE}text/plain": "np.float64(0.5)"}, scrapbook={"name": "a"}
    )
    (cell, _) = clean(code("x", [glued]), markdown("{glue:text}`a:.2f`"))
    assert cell["outputs"][0]["data"] == {f"{source.GLUE}text/plain": "0.5"}


def test_only_whole_labels_get_the_prefix():
    (cell,) = clean(
        markdown("(fig-a)=\n{ref}`x <fig-a>` fig-a-b a/fig-a.csv fig-a.csv (#fig-a).")
    )
    assert cell["source"] == (
        "(digits-toy-fig-a)=\n"
        "{ref}`x <digits-toy-fig-a>` fig-a-b a/fig-a.csv fig-a.csv (#digits-toy-fig-a)."
    )


# ------------------------------------------------------------------ experiments.yml


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("digits: {toy: {params: {}}}", "digits/toy: unknown key params; a page has"),
        ("digits: {joy: {}}", "digits/joy: there is no notebooks/joy.ipynb"),
        ("digits: {toy: {}, toy: {}}", "line 1: toy stands twice"),
        ("digits: {toy: {parameters: {n: 1, n: 2}}}", "line 1: n stands twice"),
        ("digits: {toy: {parameters: [n]}}", "a page is a mapping"),
        ("digits: {toy: {minutes: soon}}", "minutes must be a number, got 'soon'"),
        ("digits: toy", "digits must hold pages by name, got 'toy'"),
        ("digits: {a b: {notebook: toy}}", "named with letters, digits and _"),
        ("- digits", "must hold profiles"),
        ("a: [", "is not YAML"),
    ],
)
def test_a_fault_in_experiments_yml_is_named(tmp_path, text, message):
    write_project(tmp_path)
    (tmp_path / "experiments.yml").write_text(text)
    with pytest.raises(PageError) as error:
        load(tmp_path)
    assert message in str(error.value)


def test_pages_can_share_parameters_and_change_some(tmp_path):
    write_project(tmp_path)
    (tmp_path / "experiments.yml").write_text(
        "digits:\n"
        "  toy: {parameters: &shared {n: 1, seeds: [0]}}\n"
        "  other: {parameters: {<<: *shared, n: 2}}\n"
    )
    assert load(tmp_path)["digits/other"].parameters == {"n": 2, "seeds": [0]}


def test_every_page_of_this_book_has_what_it_needs():
    for page in load(ROOT).values():
        pages.check(page)


def test_a_page_is_expected_to_take_what_it_took_or_what_its_training_did(tmp_path):
    write_project(tmp_path)
    (toy, other, cpu) = load(tmp_path).values()
    assert pages.expected_seconds(cpu) == 90 * 60, "never made: as its author thought"
    assert pages.expected_seconds(other) == 60, "a minute, if nobody thought"
    made = dict.fromkeys(pages.COMPARED) | {"seconds": 40.0}
    toy.results.mkdir(parents=True)
    for training, expected in (
        (None, 40.0),  # it trains nothing
        ({"runs": 2, "seconds": 30.0}, 40.0),  # it trained, in its own time
        ({"runs": 2, "seconds": 900.0}, 900.0),  # it read what was trained before
    ):
        manifest = json.dumps(made | {"training": training})
        (toy.results / "manifest.json").write_text(manifest)
        assert pages.expected_seconds(toy) == expected


def test_a_page_says_what_its_training_took(tmp_path):
    runs = tmp_path / "runs.csv"
    assert pages._training(runs) is None
    runs.write_text("run,train_seconds,score_seconds\na,60.0,30.5\nb,10,0\n")
    assert pages._training(runs) == {"runs": 2, "seconds": 100.5}


PARAMETERS_CELL = """\
rates = [0.1]  # shares
seeds = [0]  # runs
results = "results/scratch/x"  # folder
"""


@pytest.mark.parametrize(
    ("injected", "message"),
    [
        ("sedes = [1]", r"unknown parameter 'sedes'; this notebook has rates, seeds"),
        ("seeds = 3", r"parameter seeds must be list\[int\], got 3, int"),
        ("seeds = []", r"parameter seeds must be list\[int\], got \[\], list"),
        ('rates = "[0.1]"', r"parameter rates must be list\[float\]"),
    ],
)
def test_under_plain_papermill_a_notebook_refuses_by_itself(injected, message):
    with pytest.raises(PageError, match=message):
        source.check_parameters(["", PARAMETERS_CELL, f"# Parameters\n{injected}\n"])


def test_good_parameters_a_folder_of_one_s_own_and_none_at_all_are_accepted():
    good = '# Parameters\nseeds = [1, 2]\nresults = "elsewhere"\n'
    source.check_parameters(["", PARAMETERS_CELL, good])
    source.check_parameters(["", PARAMETERS_CELL, "import math"])


def test_digits_take_one_thread_unless_the_user_says_otherwise(monkeypatch):
    digits = pages.Page(profile="digits", page="a", notebook="notebooks/a.ipynb")
    cpu = pages.Page(profile="cpu", page="a", notebook="notebooks/a.ipynb")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert pages._threads(digits) == {"OMP_NUM_THREADS": "1"}
    assert pages._threads(cpu) == {}
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert pages._threads(digits) == {}
