import os
import re
import signal
import subprocess
import sys

import psutil
import pytest
from toy_book import (
    ROOT,
    book,
    code,
    made_book,
    write_notebook,
    write_project,
)

from curvlib import __main__ as command_line
from curvlib.__main__ import main
from curvlib.runs.settings import TrainConfig
from curvlib.runs.training import fit, prepare, run_name

__all__ = ["book", "made_book"]  # fixtures


@pytest.fixture
def fresh(tmp_path, monkeypatch):
    write_project(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def command(*arguments, root, **options):
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=root,
        capture_output=True,
        text=True,
        **options,
    )


def test_list_shows_every_page_what_it_takes_its_state_and_why(
    book, monkeypatch, capsys
):
    file = book / "experiments.yml"
    file.write_text(file.read_text().replace("epochs: 2}", "epochs: 3}"))
    notebook = book / "notebooks/toy.ipynb"
    notebook.write_text(notebook.read_text().replace("The answer", "The reply"))
    monkeypatch.chdir(book / "notebooks")  # anywhere inside the project
    assert main(["list"]) == 0
    head, toy, slow, other, waiting, _ = capsys.readouterr().out.splitlines()
    assert head.split() == ["page", "measuring", "takes", "state"]
    assert toy.startswith("toy ") and "90 s" in toy
    assert toy.endswith("  to be drawn: notebook changed")
    assert slow.startswith("  cpu/toy ") and "  90 min  " in slow
    assert slow.endswith("  never measured")
    assert other.endswith("  to be measured: parameter epochs: 2 -> 3")
    assert waiting.startswith("waiting ")
    assert waiting.endswith("  –  to be measured: never measured")


def test_list_shows_other_pages_beside_one_that_cannot_be_read(
    book, monkeypatch, capsys
):
    (book / "notebooks/other.ipynb").write_text("{}")
    file = book / "experiments.yml"
    file.write_text(
        file.read_text().replace("study: gallery, minutes: 90", "study: none")
    )  # a record that does not exist: `curvlib run` says so
    (book / "results/digits/toy/record.json").write_text("{}")  # of no use
    monkeypatch.chdir(book)
    assert main(["list"]) == 0
    _, toy, _, _, other, _, cpu = capsys.readouterr().out.splitlines()
    assert toy.endswith("to be measured: never measured")
    assert "broken: " in other and "other.ipynb is not a notebook" in other
    assert cpu.startswith("  cpu/toy ") and cpu.endswith("never measured")


def test_without_papermill_the_command_says_what_to_install(book, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "papermill", None)
    monkeypatch.chdir(book)
    assert main(["open", "toy", "mine.ipynb"]) == 2
    assert "pages need `pip install curvlib[book]`" in capsys.readouterr().err


def test_list_can_show_one_profile(fresh, capsys):
    assert main(["list", "--profile", "cpu"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == [
        "page",
        "toy",
        "cpu/toy",
        "waiting",
        "cpu/toy",
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "joy"], "curvlib: no page or record joy; there are the pages\n  toy"),
        (["run", "other", "--profile", "cpu"], "page other has no record of cpu"),
        (["run", "cpu/other"], "no page or record cpu/other; there are the pages"),
        (["run", "--profile", "gpu"], "no profile 'gpu'; there are digits, cpu"),
        (["list", "--profile", "gpu"], "no profile 'gpu'; there are digits, cpu"),
        (["open", "joy", "a.ipynb"], "no page joy; there are:\n  toy\n"),
        (["open", "toy", "a.py"], "a.py must end in .ipynb"),
        (["open", "waiting", "a.ipynb"], "waiting has no record yet: `curvlib run cpu"),
    ],
)
def test_an_unknown_page_or_profile_is_answered_with_those_there_are(
    fresh, capsys, arguments, message
):
    assert main(arguments) == 2
    assert message in capsys.readouterr().err


def test_outside_a_project_the_command_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["list"]) == 2
    assert "no experiments.yml" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [[], ["list"], ["run"]])
def test_commands_with_nothing_to_run_import_nothing_heavy(made_book, arguments):
    script = (
        "import sys; from curvlib.__main__ import main; status = main(sys.argv[1:]); "
        "heavy = {'torch', 'papermill', 'pandas', 'numpy', 'nbformat'}; "
        "sys.exit(status or ', '.join(heavy & set(sys.modules)) or None)"
    )
    done = command("-c", script, *arguments, root=made_book)
    assert (done.returncode, done.stderr) == (0, "")


def test_ctrl_c_keeps_the_finished_pages_and_leaves_no_process(fresh):
    write_notebook(fresh, "other", code("import time\ntime.sleep(60)"))
    running = subprocess.Popen(
        [sys.executable, "-m", "curvlib", "run"],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
        # A shell that starts the tests in its background lets them ignore Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        lines = []
        while "toy drawn in" not in (lines[-1] if lines else ""):
            lines.append(running.stdout.readline())
            assert lines[-1], lines
        children = psutil.Process(running.pid).children(recursive=True)
        assert children
        running.send_signal(signal.SIGINT)
        rest, _ = running.communicate(timeout=40)
    finally:
        running.kill()

    assert lines[0] == "nothing to measure; drawing 2 pages\n"
    assert "Stopped. Finished and kept: toy." in rest
    assert running.returncode == 130
    left = [child for child in children if child.is_running()]
    # Orphans that have ended may wait for somebody to ask for their exit status.
    assert all(child.status() == psutil.STATUS_ZOMBIE for child in left)
    assert main(["list", "--profile", "digits"]) == 0
    assert (fresh / "book/pages/toy.ipynb").exists()
    assert not (fresh / "book/pages/other.ipynb").exists()


def test_book_draws_and_renders_once_and_keeps_the_last_good_book(book):
    (book / "_config.yml").write_text(
        "title: Toy\nonly_build_toc_files: true\n"
        "execute: {execute_notebooks: 'off'}\n"
        "sphinx: {config: {numfig: true}}\n"
    )
    (book / "_toc.yml").write_text(
        "format: jb-book\nroot: book/intro\n"
        "chapters: [{file: book/pages/toy}, {file: book/pages/other}]\n"
    )
    intro = book / "book" / "intro.md"
    intro.write_text("# Toy\n\n{numref}`toy-fig-dot`\n")
    html = book / "book" / "_build" / "html"

    def curvlib_book():
        return command("-m", "curvlib", "book", root=book)

    # The other page shows the reference of the toy notebook, but has no such figure.
    first = curvlib_book()
    assert first.returncode == 2, "a reference to nothing is a warning, so a failure"
    assert "undefined label: 'fig-dot'" in first.stderr

    other = book / "notebooks/other.ipynb"
    other.write_text(other.read_text().replace("{numref}`fig-dot`", "nothing"))
    second = curvlib_book()
    assert (second.returncode, second.stderr) == (0, "")
    assert "nothing to measure; drawing 1 page" in second.stdout
    assert "without any record, and left out: waiting" in second.stdout
    assert "book rendered in" in second.stdout
    assert f"Open {html / 'index.html'}\n" in second.stdout
    assert "All of it took" in second.stdout
    toy = (html / "book/pages/toy.html").read_text()
    assert "--force" in toy and "<td><p>passes over the training set</p></td>" in toy
    assert 'alt="A dot, 98.8% black"' in toy
    assert '<span class="caption-text">It is <span class="pasted-text">0.99' in toy
    assert '<a class="reference download internal" download=""' in toy
    assert toy.count('<div class="cell docutils') == 3, "parameter cells are hidden"
    assert '<span class="std std-numref">Fig. 2</span>' in toy, "tabs are a figure"
    assert (
        '<span class="caption-text"><span class="pasted-text">1.0</span> twice' in toy
    )
    places = [
        toy.index(x) for x in ("<fieldset class=", "<p>first</p>", "<p>second</p>")
    ]
    assert places == sorted(places)
    assert "tag_parameters" not in toy

    rendered = {f: f.stat().st_mtime_ns for f in html.rglob("*") if f.is_file()}
    third = curvlib_book()
    assert "2 of 3 pages are current" in third.stdout
    assert "nothing in the book changed since it was rendered" in third.stdout
    assert f"Open {html / 'index.html'}\n" in third.stdout

    good = intro.read_text()
    intro.write_text(f"{good}\n{{numref}}`fig-none`\n")
    for _ in range(2):  # no second try may pass over the warning
        fourth = curvlib_book()
        assert fourth.returncode == 2 and "undefined label: 'fig-none'" in fourth.stderr
        assert f"{html} is still the book before" in fourth.stderr
    assert {f: f.stat().st_mtime_ns for f in html.rglob("*") if f.is_file()} == rendered

    table = book / "results" / "pilot" / "fit.csv"  # of no page, shown by prose
    table.parent.mkdir()
    table.write_text("width\n16\n")
    intro.write_text(
        f"{good}\n```{{csv-table}}\n:file: ../results/pilot/fit.csv\n```\n"
    )
    assert curvlib_book().returncode == 0
    table.write_text("width\n3217\n")
    fifth = curvlib_book()
    assert "book rendered in" in fifth.stdout
    assert "3217" in (html / "book/intro.html").read_text()
    assert {f.name for f in html.parent.iterdir()} == {"html", ".rendered-from"}


# Training without a notebook


QUICK = [
    "--model=mlp", "--width=8", "--num-train=60", "--epochs=2", "--num-probes=1",
    "--device=cpu",
]  # fmt: skip


def test_train_leaves_the_trace_that_a_notebook_with_these_settings_reads(
    tmp_path, capsys
):
    config = TrainConfig(
        model="mlp", width=8, num_train=60, epochs=2, num_probes=1, augment=True
    )
    assert main(["train", *QUICK, "--augment", f"--runs={tmp_path}"]) == 0
    said = capsys.readouterr()
    assert said.out == f"{tmp_path / run_name(config, {'train': prepare(config)[0]})}\n"
    assert "epoch 2/2" in said.err
    before = {f: f.stat().st_mtime_ns for f in tmp_path.rglob("epoch_*.parquet")}
    assert len(before) == 2
    fit(config, runs=tmp_path, device="cpu")
    assert {
        f: f.stat().st_mtime_ns for f in tmp_path.rglob("epoch_*.parquet")
    } == before


def test_every_setting_of_a_run_is_an_option_with_its_default(monkeypatch):
    seen = []
    monkeypatch.setattr(command_line, "_train", lambda options: seen.append(options))
    main(["train"])
    for name, field in TrainConfig.model_fields.items():
        assert getattr(seen[0], name) == field.default


def help_of(command: str, capsys) -> dict[str, str]:
    """What the help of a command says of each option, in one line."""
    with pytest.raises(SystemExit):
        main([command, "--help"])
    entries = re.split(r"\n  --", capsys.readouterr().out)[1:]
    return {e.split()[0].rstrip(","): " ".join(e.split()) for e in entries}


def test_the_help_of_train_explains_every_option_with_default_and_values(capsys):
    told = help_of("train", capsys)
    for name, field in TrainConfig.model_fields.items():
        entry = told.pop(name.replace("_", "-"))
        assert field.description.split(" None:")[0] in entry
        if isinstance(field.default, bool):
            assert "(default: off)" in entry
        elif field.default is not None:
            assert entry.endswith(f"default: {field.default})")
        else:
            assert "if left out, " in entry
    assert told.keys() == {"root", "runs", "device"}
    told = help_of("train", capsys)
    assert "(one of step, cosine, linear, constant; default: step)" in told["schedule"]
    assert "(a fraction in [0, 1); default: 0.0)" in told["noise-rate"]
    assert "(at least 8)" in told["image-size"]
    assert "one of symmetric, pair, human_aggre, " in told["noise"]


def test_the_help_of_score_explains_every_option(capsys):
    told = help_of("score", capsys)
    assert {"checkpoints", "dataset", "model", "mean", "std"} <= told.keys()
    for name in ("checkpoints", "dataset", "model"):
        assert told[name].endswith("required)")
    for entry in told.values():
        assert re.search(r" [A-Z][^.]* .*\.", entry), entry
    assert told["width"].endswith("default: 64)")
    assert told["num-probes"].endswith("default: 10)")


@pytest.mark.parametrize(
    "code",
    [
        "import curvlib",
        "from curvlib.__main__ import main; main([])",
        "from curvlib.__main__ import parser; parser().format_help()",
        "from curvlib.runs import options",  # a base for settings of pages, too
    ],
)
def test_what_trains_nothing_does_not_import_torch(code, tmp_path):
    script = f"import sys; {code}; sys.exit('torch' in sys.modules or None)"
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    done = command("-c", script, root=tmp_path, env=os.environ | {"PYTHONPATH": path})
    assert (done.returncode, done.stderr) == (0, "")


def test_train_names_all_faults_of_its_options_in_one_line(tmp_path, capsys):
    wrong = ["--epochs=0", "--noise=loud", "--shift=2"]
    assert main(["train", *QUICK, *wrong, f"--runs={tmp_path / 'runs'}"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("curvlib: 3 settings are wrong: noise must be one of symm")
    assert "; epochs must be positive, got 0; shift must be 4 without aug" in line
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--model=resnet19"], "model must be one of"),
        (["--epochs=0"], "epochs must be positive, got 0"),
        (["--dataset=nothing"], "unknown data set 'nothing'"),
        (["--num-train=99999"], "num_train = 99999, but digits has 1438 images"),
        (["--lr=1e30"], "training diverged at epoch 1"),
    ],
)
def test_train_answers_what_its_user_can_put_right_in_one_line(
    options, message, tmp_path, capsys
):
    assert main(["train", *QUICK, *options, f"--runs={tmp_path}"]) == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line.startswith("curvlib: ") and message in line


def test_an_option_of_another_type_is_refused(capsys):
    with pytest.raises(SystemExit):
        main(["train", "--epochs=many"])
    assert "--epochs: invalid int value: 'many'" in capsys.readouterr().err
