"""Buttons that open a page elsewhere, and the cell that installs the project there."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from curvlib.book import catalogue, cleanup, launch

ROOT = Path(__file__).parents[1]
URL = "https://github.com/owner/name"
NOTEBOOK = "notebooks/gallery.ipynb"

# What a reader does in Colab: run the first cell, then the notebook's own.
READER = """\
import json, sys
from IPython.core.interactiveshell import InteractiveShell
import matplotlib
matplotlib.use("agg")
shell = InteractiveShell.instance()
for cell in json.load(open(sys.argv[1])):
    shell.run_cell(cell, store_history=True).raise_error()
import curvlib
print(curvlib.__file__)
"""


def write_config(root: Path, url: str) -> Path:
    text = (ROOT / "_config.yml").read_text(encoding="utf-8")
    changed = text.replace('\n  url: ""\n', f'\n  url: "{url}"\n')
    assert changed != text or not url
    (root / "_config.yml").write_text(changed, encoding="utf-8")
    return root


def buttons(root: Path) -> dict:
    options = {"launch_buttons": {"colab_url": "https://colab.example"}}
    config = SimpleNamespace(html_theme_options=options)
    launch.set_buttons(SimpleNamespace(srcdir=str(root)), config)
    return options


def test_without_an_address_there_are_no_buttons_and_no_cell(tmp_path):
    write_config(tmp_path, "")
    assert launch.repository(tmp_path) is None
    assert launch.bootstrap(tmp_path) == ""
    off = {"launch_buttons": {}}
    off |= {"use_repository_button": False, "use_issues_button": False}
    assert buttons(tmp_path) == off


def test_one_address_turns_on_all_buttons_and_the_cell(tmp_path):
    write_config(tmp_path, f"{URL}.git/")
    found = launch.repository(tmp_path)
    assert found.address("a/b.py") == f"{URL}/blob/main/a/b.py"
    assert f'"{URL}"' in launch.bootstrap(tmp_path)
    on = buttons(tmp_path)
    assert on["use_repository_button"] and on["use_issues_button"]
    assert on["launch_buttons"]["colab_url"]


def test_the_buttons_open_the_executed_page_which_is_in_the_repository(tmp_path):
    from sphinx_book_theme.header_buttons.launch import add_launch_buttons

    told = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
    page = next(iter(catalogue.load(ROOT / "experiments.yml").pages.values()))
    name = page.file.relative_to(ROOT).with_suffix("").as_posix()
    options = {"launch_buttons": told["launch_buttons"], "repository_url": URL}
    options["repository_branch"] = told["repository"]["branch"]
    app = SimpleNamespace(
        config={"html_theme_options": options},
        env=SimpleNamespace(
            doc2path=lambda _: f"{name}.ipynb", metadata={name: {"kernelspec": {}}}
        ),
    )
    context = {"pagename": name, "header_buttons": [], "github_repo": "name"}
    context |= {"github_url": "https://github.com", "github_user": "owner"}
    context |= {"sourcename": f"{name}.ipynb", "page_source_suffix": ".ipynb"}
    add_launch_buttons(app, name, "page.html", context, None)
    (group,) = context["header_buttons"]
    assert {button["text"]: button["url"] for button in group["buttons"]} == {
        "Binder": "https://mybinder.org/v2/gh/owner/name/main"
        f"?urlpath=lab/tree/{name}.ipynb",
        "Colab": "https://colab.research.google.com/github/owner/name/blob/main/"
        f"{name}.ipynb",
    }


def test_binder_asks_for_what_drawing_needs_and_not_for_torch():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    asked = project["project"]["dependencies"]
    asked = [*asked, *project["project"]["optional-dependencies"]["book"]]
    lines = (ROOT / ".binder/requirements.txt").read_text("utf-8").splitlines()
    light = [line for line in lines if not line.startswith("#")]
    assert light == [line for line in asked if not line.startswith("torch")]
    default = (ROOT / ".python-version").read_text("utf-8").strip()
    assert (ROOT / ".binder/runtime.txt").read_text("utf-8") == f"python-{default}\n"
    assert os.access(ROOT / ".binder/postBuild", os.X_OK)


def test_the_cell_does_nothing_where_the_project_is_installed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(launch.bootstrap(write_config(tmp_path, URL)), {})
    assert Path.cwd() == tmp_path
    assert [file.name for file in tmp_path.iterdir()] == ["_config.yml"]


def test_the_cell_installs_the_project_and_the_page_draws_without_torch(tmp_path):
    if shutil.which("git") is None:
        pytest.skip("no git: the cell clones the project with it")
    pages = catalogue.load(ROOT / "experiments.yml").pages.values()
    known = [
        name
        for page in pages
        if page.notebook == NOTEBOOK
        for name in page.records
        if (ROOT / "results" / name / "record.json").exists()
    ]
    if not known:
        pytest.skip(f"no record for {NOTEBOOK} is there")
    source = tmp_path / "source"
    source.mkdir()
    kept = ["pyproject.toml", "README.md", "LICENSE", "experiments.yml", "curvlib"]
    for name in (*kept, "notebooks", f"results/{known[0]}"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        copy(ROOT / name, source / name)
    write_config(source, str(source))
    who = ["-c", "user.name=x", "-c", "user.email=x@example.org"]
    for words in (["init", "-qb", "main"], ["add", "."], [*who, "commit", "-qm", "x"]):
        subprocess.run(["git", *words], cwd=source, check=True)

    # A new environment: pip and what curvlib needs are there, curvlib and torch not.
    empty, blocked = tmp_path / "empty", tmp_path / "blocked"
    for folder in (empty, blocked):
        folder.mkdir()
    (blocked / "torch.py").write_text("raise ImportError('no torch here')")
    venv = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
    (site,) = venv.glob("lib/python*/site-packages")
    (site / "others.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    offline = {"PIP_NO_INDEX": "1", "PIP_NO_DEPS": "1"}
    offline |= {"PIP_NO_BUILD_ISOLATION": "false", "PYTHONPATH": str(blocked)}
    offline |= {"PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    ours = ("CURVLIB", "PIP_", "PYTHON")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(ours)}

    cells = cleanup.read(ROOT / NOTEBOOK)["cells"]
    code = [
        c["source"]
        for c in cells
        if c["cell_type"] == "code" and "solution" not in c["metadata"].get("tags", [])
    ]
    first = next(n for n, source in enumerate(code) if "results =" in source)
    code.insert(first + 1, f"# Parameters\nrecords = {known[:1]!r}")
    (tmp_path / "cells.json").write_text(json.dumps([launch.bootstrap(source), *code]))
    done = subprocess.run(
        [venv / "bin" / "python", "-c", READER, tmp_path / "cells.json"],
        cwd=empty,
        env=environment | offline,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1].startswith(str(empty / "curvlib-project"))
