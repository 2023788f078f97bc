import io
import json
import shutil
import subprocess
import sys

import pytest
from filelock import FileLock
from toy_book import (
    PARAMETERS,
    book,
    code,
    made_book,
    write_notebook,
    write_project,
    write_record,
)

from curvlib.book import catalogue, cleanup, drawing, parameters, runner
from curvlib.book.parameters import LIBRARY, PageError

__all__ = ["book", "made_book"]  # fixtures


def load(root):
    return catalogue.load(root / "experiments.yml")


def page_of(root, name="toy"):
    return load(root).pages[name]


def page_text(root, name="toy"):
    return page_of(root, name).file.read_text(encoding="utf-8")


def cells_of(root, name="toy"):
    return cleanup.read(page_of(root, name).file)["cells"]


def edit(file, old, new):
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


def update(root, *names, measure=False, **options):
    stream = io.StringIO()
    known = load(root)
    wanted, pages = known.choose(names, None)
    status = runner.bring_up_to_date(
        known, wanted if measure else [], pages, stream=stream, **options
    )
    return status, stream.getvalue()


# ------------------------------------------------------------------ a page as drawn


def test_the_page_opens_with_its_question_then_says_how_its_record_was_made(made_book):
    title, about = cells_of(made_book)[:2]
    assert title["source"].startswith("# What does a toy show?")
    text = about["source"]
    assert text.startswith(
        ":::{dropdown} `curvlib run digits/toy` · 40 s, its training"
    )
    assert "| `epochs` | **`1`** | `30` | passes over the training set |" in text
    assert "curvlib run digits/toy --force" in text
    assert "papermill notebooks/toy.ipynb out.ipynb -p num_train 60" in text
    assert "Seeds: `seeds = [0]`" in text
    assert "Measured on 1 November 2026, at commit `0123456789`" in text
    assert "Recipe numbers: data 1, networks 1, scoring 1, studies.gallery 1" in text


def test_a_title_of_the_catalogue_takes_the_place_of_the_notebooks_own(made_book):
    source = cells_of(made_book, "other")[0]["source"]
    assert source.startswith("# What else?\n\nSee")


def test_parameter_cells_are_hidden_and_name_the_records(made_book):
    tagged = [
        cell
        for cell in cells_of(made_book)
        if "remove-cell" in cell["metadata"].get("tags", [])
    ]
    assert [cell["source"] for cell in tagged] == [
        PARAMETERS,
        '# Parameters\nrecords = ["digits/toy"]\n',
    ]


def test_the_page_shows_nothing_of_the_machine_or_the_moment(made_book):
    text = page_text(made_book)
    printed = next(
        output["text"]
        for cell in cells_of(made_book)
        for output in cell.get("outputs", [])
        if output["output_type"] == "stream"
    )
    assert printed.startswith("written to . <object object at 0x...>")
    for trace in (str(made_book), "scratch/.", "ipykernel", "iopub", "not for readers"):
        assert trace not in text.replace(json.dumps(WORK_SOURCE(made_book))[1:-1], "")
    assert '"papermill"' not in text
    log = made_book / "runs/logs/toy.txt"
    assert "UserWarning: not for readers" in log.read_text()


def WORK_SOURCE(root):
    """The cell whose code says "not for readers" itself."""
    return next(c["source"] for c in cells_of(root) if "warnings.warn" in c["source"])


def test_labels_carry_the_page_wherever_they_stand(made_book):
    cells = cells_of(made_book)
    assert "{numref}`toy-fig-dot`" in cells[0]["source"]
    figure = next(cell for cell in cells if "mystnb" in cell["metadata"])
    assert figure["metadata"]["mystnb"] == {
        "figure": {
            "caption": "It is {glue:text}`share:.2f` black",  # the book resolves it
            "name": "toy-fig-dot",
        },
        "image": {"alt": "A dot, 98.8% black"},
    }
    assert "[the dot](#toy-fig-dot)" in cells[-2]["source"]


def test_the_page_offers_the_tables_of_its_record_and_its_own_files(made_book):
    assert cells_of(made_book)[-1]["source"] == (
        "## Data of this page\n\n"
        "digits (`digits/toy`): {download}`rows.csv </results/digits/toy/rows.csv>`\n\n"
        "This page: {download}`extra.html </book/pages/toy/extra.html>`"
    )
    assert (made_book / "book/pages/toy/extra.html").read_text() == ("<p>extra</p>")


def test_a_claim_is_shown_with_its_mark_and_kept_beside_the_page(made_book):
    text = page_text(made_book)
    assert "<strong>✓ holds</strong> A dot is black." in text
    assert drawing.CLAIM not in text
    (claim,) = page_of(made_book).drawn["claims"]
    assert claim == {
        "name": "a-dot-is-black",
        "text": "A dot is black.",
        "verdicts": {"digits": True},
        "ours": {"digits": "0.99"},
        "published": "1 (nobody, 2020)",
        "tolerance": "",
    }


def test_the_kernel_is_this_python_whatever_the_user_installed(made_book, monkeypatch):
    from jupyter_client.kernelspec import KernelSpecManager

    # The pages of made_book were drawn beside this kernel, which ends at once.
    kernel = next(made_book.parent.glob("jupyter*"))
    monkeypatch.setenv("JUPYTER_PATH", str(kernel))
    assert KernelSpecManager().get_kernel_spec("python3").argv == ["false"]
    assert page_of(made_book).drawn is not None


def test_a_page_drawn_again_has_the_same_bytes(book):
    before = page_text(book)
    drawing.draw(page_of(book))
    assert page_text(book) == before


# ----------------------------------------------------------------------- staleness


def test_a_clone_of_the_book_is_current_and_runs_nothing(book, monkeypatch):
    monkeypatch.setattr(runner, "_Work", None)  # to call it would fail
    assert update(book) == (0, "2 of 2 pages are current; --force makes them again\n")


@pytest.mark.parametrize(
    ("file", "old", "new", "state"),
    [
        (
            "experiments.yml",
            "epochs: 2}",
            "epochs: 3}",
            ("to be measured", ["parameter epochs: 2 -> 3"]),
        ),
        (
            "experiments.yml",
            "What else?",
            "What?",
            ("to be drawn", ["title changed"]),
        ),
        (
            "experiments.yml",
            'title: "What else?"',
            'title: "What else?", parameters: {n: 4}',
            ("to be drawn", ["parameters of the page changed"]),
        ),
        (
            "notebooks/other.ipynb",
            "scores",
            "metrics",
            ("to be drawn", ["notebook changed"]),
        ),
        ("notebooks/other.ipynb", '"id": "m', '"id": "z', ("current", [])),
        (
            "results/digits/other/record.json",
            "40.0",
            "41.0",
            ("to be drawn", ["record digits/other changed"]),
        ),
        (
            "book/pages/other.ipynb",
            "toy",
            "joy",
            ("to be drawn", ["book/pages/other.ipynb changed"]),
        ),
        (
            "results/digits/other/record.json",
            '"data": 1',
            '"data": 0',
            ("to be measured", ["recipe of data: 0 -> 1"]),
        ),
    ],
)
def test_a_change_is_named_as_the_reason(book, file, old, new, state):
    edit(book / file, old, new)
    known = load(book)
    assert runner.state(known.pages["other"], known) == state
    assert runner.state(known.pages["toy"], known) == ("current", [])


def test_a_missing_table_is_to_be_measured_and_a_missing_file_drawn(book):
    (book / "book/pages/toy/extra.html").unlink()
    known = load(book)
    assert runner.state(known.pages["toy"], known) == (
        "to be drawn",
        ["book/pages/toy/extra.html missing"],
    )
    (book / "results/digits/toy/rows.csv").unlink()
    assert runner.state(known.pages["toy"], known) == (
        "to be measured",
        ["rows.csv missing"],
    )


def test_a_page_without_a_record_was_never_measured(book):
    known = load(book)
    assert runner.state(known.pages["waiting"], known) == (
        "to be measured",
        ["never measured"],
    )


def test_a_page_is_drawn_from_those_of_its_records_that_exist(book):
    assert page_of(book).records == ("digits/toy", "cpu/toy")
    assert page_of(book).measured == ("digits/toy",)
    assert page_of(book).drawn["labels"] == {"digits/toy": "digits"}
    write_record(book, "cpu/toy", share=0.5, epochs=2)
    assert drawing.why_draw(page_of(book)) == ["record cpu/toy new"]
    with pytest.raises(PageError, match="have the same label but differ in epochs"):
        drawing.draw(page_of(book))
    edit(book / "experiments.yml", "minutes: 90", "minutes: 90, label: slow digits")
    edit(book / "notebooks/toy.ipynb", "(record,) = page", "record, *_ = page")
    drawing.draw(page_of(book))
    assert page_of(book).drawn["labels"]["cpu/toy"] == "slow digits"
    about = cells_of(book)[1]["source"]
    assert about.startswith(":::{dropdown} `curvlib run toy` · drawn from 2 records")
    assert "**digits** · `curvlib run digits/toy` · 40 s, its training 90 s" in about
    assert "**slow digits** · `curvlib run cpu/toy` · 40 s" in about
    assert about.count("papermill notebooks/toy.ipynb out.ipynb -p num_train 60") == 1
    assert "`epochs = 2`" in about and "Seeds: `seeds = [0]`" in about
    assert (
        "slow digits (`cpu/toy`): {download}`rows.csv" in cells_of(book)[-1]["source"]
    )
    edit(book / "experiments.yml", "slow digits", "slower digits")
    assert drawing.why_draw(page_of(book)) == ["labels changed"]
    shutil.rmtree(book / "results/cpu")
    assert drawing.why_draw(page_of(book)) == ["record cpu/toy gone"]


def test_two_claims_of_one_name_are_refused(book):
    claim = "page.claim('It is so.', True)"
    begin = "from curvlib.book import Page\npage = Page.begin(In)"
    write_notebook(book, "toy", code(f"{begin}\n{claim}\n{claim}"))
    with pytest.raises(PageError, match="two claims have the name it-is-so"):
        drawing.draw(page_of(book))


def test_changed_figure_code_is_to_be_drawn_and_changed_training_is_not(
    book, tmp_path, monkeypatch
):
    library = tmp_path / "curvlib"
    shutil.copytree(parameters.LIBRARY, library)
    monkeypatch.setattr(drawing, "LIBRARY", library)
    drawing.library_hash.cache_clear()
    try:
        for unused in ("runs/training.py", "book/theme.py", "book/report/script.js"):
            with (library / unused).open("a") as file:
                file.write("\n")
            assert drawing.why_draw(page_of(book)) == []
            drawing.library_hash.cache_clear()
        with (library / "book" / "figures.py").open("a") as file:
            file.write("\nNEW = 1\n")
        assert drawing.why_draw(page_of(book)) == ["figure code changed"]
    finally:
        drawing.library_hash.cache_clear()


def test_no_code_that_draws_needs_what_only_renders():
    assert [x for x in drawing.RENDERS if not (LIBRARY / "book" / x).exists()] == []
    program = "\n".join(
        [
            "import sys",
            "from curvlib.book import explorer, figures, selector, tabs, drawing",
            f"names = {[x.removesuffix('.py') for x in drawing.RENDERS]}",
            "print(*[x for x in names if f'curvlib.book.{x}' in sys.modules])",
        ]
    )
    found = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert found.stdout.split() == []


def test_an_edited_sentence_is_drawn_and_nothing_is_measured(book, monkeypatch):
    edit(book / "notebooks/toy.ipynb", "The answer is", "The reply is")
    status, output = update(book)
    assert status == 0
    assert "nothing to measure; drawing 1 page" in output
    assert "0 records measured, 1 page drawn in" in output
    assert "The reply is" in page_text(book)


def test_a_record_that_may_not_be_measured_is_said_and_the_page_still_drawn(book):
    edit(book / "experiments.yml", "epochs: 2}", "epochs: 3}")
    edit(book / "notebooks/other.ipynb", "scores", "metrics")
    status, output = update(book)
    assert status == 0
    assert "1 record to be measured, on request only: digits/other" in output
    known = load(book)
    assert drawing.why_draw(known.pages["other"]) == []


# ------------------------------------------------------------------------ measuring


def test_what_is_out_of_date_is_measured_then_drawn(book):
    write_notebook(book, "other", code("x = 1"))
    edit(book / "experiments.yml", "epochs: 2}", "epochs: 3}")
    status, output = update(book, measure=True)
    assert status == 0, output
    assert "[1/2] measuring digits/other" in output
    assert "digits/other measured in" in output
    assert "1 record measured, 1 page drawn in" in output
    known = load(book)
    assert runner.state(known.pages["other"], known) == ("current", [])
    made = json.loads((book / "results/digits/other/record.json").read_text())
    assert made["parameters"]["epochs"] == 3 and "runs" not in made["parameters"]
    assert made["training"]["runs"] == 1 and made["peak_memory_gib"] > 0.01
    assert made["versions"]["torch"] and made["hardware"]["threads"] == 1
    assert any((book / "runs").glob("digits-mlp-*"))


def test_a_measurement_that_fails_keeps_the_good_record_and_stops_no_other(book):
    before = (book / "results/digits/toy/record.json").read_bytes()
    edit(book / "experiments.yml", '"dataset": "digits"', '"dataset": "nowhere"')
    edit(book / "notebooks/other.ipynb", "scores", "metrics")
    status, output = update(book, "toy", measure=True)
    assert status == 1
    assert "digits/toy FAILED: ValueError: unknown data set 'nowhere'" in output
    assert "1 failed: digits/toy" in output
    assert (book / "results/digits/toy/record.json").read_bytes() == before


# ------------------------------------------------------------------------ failures


def test_a_failed_page_keeps_the_good_one_and_stops_no_other(book):
    before = page_text(book)
    broken = [code("x = 1"), code("half = 1\nraise ValueError('no luck')")]
    write_notebook(book, "toy", *broken)
    edit(book / "notebooks/other.ipynb", "scores", "metrics")

    status, output = update(book)

    assert status == 1
    assert "toy FAILED: cell 4 (half = 1) failed: ValueError: no luck" in output
    assert "the notebook as far as it came: runs/failed/toy.ipynb" in output
    assert "no luck" in (book / "runs/failed/toy.ipynb").read_text()
    assert "1 failed: toy" in output
    assert page_text(book) == before
    assert drawing.why_draw(page_of(book, "other")) == []
    assert {f.suffix for f in (book / "results/scratch").iterdir()} == {".lock"}


def test_a_kernel_that_dies_is_a_failed_page(tmp_path):
    write_project(tmp_path)
    write_notebook(tmp_path, "other", code("import os\nos._exit(1)"))
    with pytest.raises(PageError, match="Python died in the middle of the notebook"):
        drawing.draw(page_of(tmp_path, "other"))
    assert (tmp_path / "runs/failed/other.ipynb").exists()
    assert not (tmp_path / "book").exists()


def test_a_kill_while_files_are_put_in_place_leaves_a_page_that_is_drawn_again(
    book, monkeypatch
):
    write_record(book, "digits/toy", share=0.5)

    original = drawing.write_atomically

    def killed(path, content):
        if path.suffix == ".json":
            raise KeyboardInterrupt
        original(path, content)

    with monkeypatch.context() as patch:
        patch.setattr(drawing, "write_atomically", killed)
        with pytest.raises(KeyboardInterrupt):
            drawing.draw(page_of(book))
    reasons = drawing.why_draw(page_of(book))
    assert "record digits/toy changed" in reasons
    assert "book/pages/toy.ipynb changed" in reasons
    assert update(book)[0] == 0
    assert drawing.why_draw(page_of(book)) == []


def test_one_page_is_not_drawn_twice_at_once(book):
    with (
        FileLock(book / "results/scratch/.toy.lock"),
        pytest.raises(PageError, match="toy is being drawn by another process"),
    ):
        drawing.draw(page_of(book))


def test_a_page_without_its_record_is_refused(book):
    with pytest.raises(PageError, match="waiting: no record yet; it shows cpu/toy"):
        drawing.draw(page_of(book, "waiting"))


def test_wrong_parameters_are_refused_before_anything_runs(book, monkeypatch):
    edit(book / "experiments.yml", "epochs: 2}", "epochs: five, rows: 5}")
    edit(book / "notebooks/toy.ipynb", '"name": "python3"', '"name": "R"')
    edit(book / "notebooks/toy.ipynb", "The answer is", "The reply is")
    monkeypatch.setattr(runner, "_Work", None)  # to call it would fail
    with pytest.raises(PageError) as error:
        update(book, measure=True)
    text = str(error.value)
    assert "digits/other: parameter epochs must be int, got 'five', str" in text
    assert "unknown parameter 'rows'; expected dataset, image_size" in text
    assert "toy: the notebook must name the kernel python3, got R" in text
    assert text.endswith("nothing was run")


# ------------------------------------------------------------------ opening a page


def test_a_page_opens_as_a_notebook_that_draws_from_its_records(book, tmp_path):
    import papermill

    out = tmp_path / "mine.ipynb"
    runner.open_notebook(page_of(book), out)
    executed = tmp_path / "executed.ipynb"
    papermill.execute_notebook(out, executed, cwd=book, progress_bar=False)
    text = executed.read_text()
    assert "✓ holds" in text  # the claim
    assert "<td>share</td><td>0.987" in text  # numbers of the text are listed
    with pytest.raises(PageError, match="is there already"):
        runner.open_notebook(page_of(book), out)
    with pytest.raises(PageError, match=r"must end in \.ipynb"):
        runner.open_notebook(page_of(book), tmp_path / "mine.txt")
    with pytest.raises(PageError, match="waiting has no record yet: `curvlib run cpu/"):
        runner.open_notebook(page_of(book, "waiting"), tmp_path / "other.ipynb")
