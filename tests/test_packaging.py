"""What surrounds the code says the same thing everywhere, and the commands are true."""

import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import version
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from curvlib.__main__ import parser
from curvlib.book import catalogue, cleanup, parameters

ROOT = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT = PYPROJECT["project"]
CONDA_NAMES = {"pytorch": "torch", "matplotlib-base": "matplotlib"}
CONDA_NAMES |= {"seaborn-base": "seaborn"}


def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def requirements(*extras: str) -> dict[str, Requirement]:
    lines = list(PROJECT["dependencies"])
    for extra in extras:
        lines += PROJECT["optional-dependencies"][extra]
    found = map(Requirement, lines)
    return {canonicalize_name(requirement.name): requirement for requirement in found}


def constraints() -> dict[str, str]:
    lines = [x for x in text("constraints.txt").splitlines() if x and x[0] != "#"]
    return {canonicalize_name(n): v for n, v in (line.split("==") for line in lines)}


def blocks(name: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text(name), re.DOTALL)


def commands(name: str) -> list[list[str]]:
    lines = "\n".join(blocks(name, "bash")).replace("\\\n", " ").splitlines()
    return [words for words in (shlex.split(x, comments=True) for x in lines) if words]


# ------------------------------------------------------------------- dependencies


def test_the_conda_environment_asks_for_what_pyproject_asks_for():
    environment = yaml.safe_load(text("environment.yml"))
    assert environment["channels"] == ["conda-forge", "nodefaults"]
    conda = []
    for line in environment["dependencies"]:
        if isinstance(line, str) and line != "pip":
            requirement = Requirement(line)
            name = CONDA_NAMES.get(requirement.name, requirement.name)
            conda.append((name, requirement.specifier))
    expected = {name: r.specifier for name, r in requirements().items()}
    expected["python"] = Requirement(f"x{PROJECT['requires-python']}").specifier
    assert dict(conda) == expected
    assert len(conda) == len(expected)


def test_the_pip_part_of_the_conda_environment_pins_the_book_as_pyproject_does():
    (pip,) = [
        entry["pip"]
        for entry in yaml.safe_load(text("environment.yml"))["dependencies"]
        if isinstance(entry, dict)
    ]
    pinned = {
        str(requirement)
        for requirement in requirements("book").values()
        if str(requirement.specifier).startswith("==")
    }
    assert pip[0] == "-e .[dev]"
    assert set(pip[1:]) == pinned


def test_every_requirement_has_an_exact_version_that_satisfies_it():
    exact = constraints()
    for name, requirement in requirements("book", "test").items():
        assert requirement.specifier.contains(exact[name]), name


def test_the_exact_versions_install_on_any_platform():
    for name, pin in constraints().items():
        assert Version(pin).local is None, f"{name}=={pin} names one build"
        assert not re.match("nvidia-|cuda-|triton|curvlib", name), name


def test_the_tests_run_with_the_exact_versions():
    if not (Path(sys.prefix) / ".installed").exists():
        pytest.skip("this environment was not made by make: its versions are its own")
    exact = constraints()
    for name in requirements("book", "test"):
        assert Version(version(name)).public == exact[name], name


def test_the_default_python_is_a_supported_one():
    default = text(".python-version").strip()
    assert Requirement(f"x{PROJECT['requires-python']}").specifier.contains(default)


def test_pre_commit_runs_the_tools_that_the_project_pins():
    hooks = yaml.safe_load(text(".pre-commit-config.yaml"))["repos"]
    (ruff,) = [repo for repo in hooks if "ruff" in repo["repo"]]
    assert ruff["rev"] == f"v{constraints()['ruff']}"
    (jupytext,) = [
        hook for repo in hooks for hook in repo["hooks"] if hook["id"] == "jupytext"
    ]
    assert jupytext["additional_dependencies"] == [
        f"jupytext=={constraints()['jupytext']}"
    ]


# ------------------------------------------------------------- citation, workflows


def test_the_citation_names_the_paper_as_the_bibliography_does():
    citation = yaml.safe_load(text("CITATION.cff"))
    assert citation["version"] == PROJECT["version"]
    assert citation["license"] == PROJECT["license"]
    paper = citation["preferred-citation"]
    (entry,) = re.findall(
        r"@inproceedings\{garg2024,\n(.*?)\n\}", text("book/references.bib"), re.DOTALL
    )
    fields = dict(re.findall(r"(\w+) = \{(.*)\}", entry))
    names = [f"{a['family-names']}, {a['given-names']}" for a in paper["authors"]]
    assert " and ".join(names) == fields["author"]
    assert paper["title"] == fields["title"]
    assert str(paper["year"]) == fields["year"]
    assert str(paper["volume"]) == fields["volume"]
    assert paper["collection-title"] == fields["booktitle"]
    assert paper["url"] == fields["url"]
    assert paper["identifiers"][0]["value"] == f"arXiv:{fields['eprint']}"


@pytest.mark.parametrize("file", sorted((ROOT / ".github/workflows").glob("*.yml")))
def test_a_workflow_pins_its_actions_and_calls_targets_that_exist(file):
    jobs = yaml.safe_load(file.read_text(encoding="utf-8"))["jobs"]
    steps = [step for job in jobs.values() for step in job["steps"]]
    for step in steps:
        if "uses" in step:
            assert re.fullmatch(r"[\w-]+/[\w-]+@v\d+", step["uses"])
        else:
            words = step["run"].split()
            assert words[0] == "make" and words[1] in targets()


# --------------------------------------------------------------------------- form


@pytest.mark.parametrize("check", [["check"], ["format", "--check"]])
def test_every_tracked_file_has_the_form_that_ruff_asks_for(check):
    if find_spec("ruff") is None:
        pytest.skip("no ruff: pip install curvlib[test]")
    git = ["git", "ls-files", "-z", "*.py"]
    listed = subprocess.run(git, capture_output=True, text=True, cwd=ROOT)
    if listed.returncode:
        pytest.skip("not in git, or no git: what is tracked is not known")
    files = [name for name in listed.stdout.split("\0") if (ROOT / name).is_file()]
    ruff = [sys.executable, "-m", "ruff", *check, "--force-exclude", *files]
    done = subprocess.run(ruff, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


# ---------------------------------------------------------------- what README says


def targets() -> set[str]:
    return set(re.findall(r"^(\w+):", text("Makefile"), re.MULTILINE))


def test_the_test_command_of_the_readme_is_what_ci_calls():
    (line,) = re.findall(r"^make test.*$", text(".ci/run"), re.MULTILINE)
    assert ["make", "test"] in commands("README.md")
    assert shlex.split(line)[:2] == ["make", "test"]
    assert os.access(ROOT / ".ci/run", os.X_OK)


@pytest.mark.parametrize("name", ["README.md", "book/rerun.md"])
def test_every_command_names_what_exists(name):
    known = catalogue.load(ROOT / "experiments.yml")
    for program, *words in commands(name):
        if program == "make":
            assert words[0] in targets()
        elif program in ("curvlib", "torchrun"):
            if program == "torchrun":
                words = words[words.index("curvlib") + 1 :]
            options = parser(words[0]).parse_args(words)  # exits if it cannot
            if options.command == "list":
                known.of_profile(options.profile)  # raises if it does not know it
            if options.command == "run":
                known.choose(options.names, options.profile)
            if options.command == "open":
                known.page(options.page)
        elif program == "papermill":
            (notebook,) = [x for x in words if x.startswith("notebooks/")]
            known_here = parameters.parameters(cleanup.read(ROOT / notebook))
            given = {n: ... for flag, n in pairwise(words) if flag == "-p"}
            for flag, line in pairwise(words):
                if flag == "-y":
                    lists = yaml.safe_load(line)
                    parameters.checked(known_here, lists)  # refuses names and types
                    given |= lists
            assert given.keys() <= known_here.keys()


def test_the_example_of_the_readme_runs():
    (example,) = blocks("README.md", "python")
    done = subprocess.run(
        [sys.executable, "-c", example], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    assert "tensor" in done.stdout


def test_every_file_that_the_readme_links_to_is_there():
    for link in re.findall(
        r"\]\(([^)#]+)\)", text("README.md") + text("CONTRIBUTING.md")
    ):
        assert (ROOT / link).exists(), link


# -------------------------------------------------------------- make, with no network

# Stands for Python: makes a .venv of itself, and notes what pip is asked.
FAKE_PYTHON = """#!/bin/sh
case "$*" in
  --version) echo "Python 3.11.9" ;;
  "-m venv .venv") echo venv >> log; mkdir -p .venv/bin; cp "$0" .venv/bin/python ;;
  "-m pip install"*) echo install >> log; [ ! -e broken ] || exit 1 ;;
esac
"""


@pytest.fixture
def project(tmp_path):
    if shutil.which("make") is None:
        pytest.skip("no make: install it to test the Makefile")
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    python = tmp_path / "fake-python"
    python.write_text(FAKE_PYTHON)
    python.chmod(0o755)
    return tmp_path


def make_setup(project, python="./fake-python"):
    """Run `make setup`; return its outcome and what it asked of Python since."""
    log = project / "log"
    log.write_text("")
    done = subprocess.run(
        ["make", "setup", f"PYTHON={python}"],
        cwd=project,
        capture_output=True,
        text=True,
        env={k: v for k, v in os.environ.items() if not k.startswith("MAKE")},
    )
    return done, log.read_text().split()


def test_make_installs_once_and_again_only_when_the_requirements_change(project):
    assert make_setup(project)[1] == ["venv", "install"]
    assert make_setup(project)[1] == []
    os.utime(project / "pyproject.toml")  # a new time, as after a checkout
    assert make_setup(project)[1] == []
    with (project / "constraints.txt").open("a") as file:
        file.write("example==1.0\n")
    assert make_setup(project)[1] == ["install"]
    assert make_setup(project)[1] == []


def test_make_notices_an_install_that_failed_and_starts_over(project):
    (project / "broken").touch()
    done, asked = make_setup(project)
    assert done.returncode and asked == ["venv", "install"]
    (project / "broken").unlink()
    done, asked = make_setup(project)
    assert "An earlier install was cut short" in done.stdout
    assert asked == ["venv", "install"]
    assert make_setup(project)[1] == []


def test_make_notices_that_the_environment_is_gone_or_broken(project):
    make_setup(project)
    (project / ".venv/bin/python").unlink()
    assert make_setup(project)[1] == ["venv", "install"]
    shutil.rmtree(project / ".venv")
    assert make_setup(project)[1] == ["venv", "install"]


def test_make_says_which_python_it_needs(project):
    old = project / "old-python"
    old.write_text('#!/bin/sh\n[ "$1" = --version ] && echo Python 3.9.18\nexit 1\n')
    old.chmod(0o755)
    for python, said in (("./old-python", "Python 3.9.18"), ("./none", "not found")):
        done, asked = make_setup(project, python)
        assert done.returncode and asked == []
        assert "curvlib needs Python 3.11, 3.12 or 3.13" in done.stderr
        assert said in done.stderr
        assert "make setup PYTHON=" in done.stderr
    assert not (project / ".venv").exists()


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        ('echo "3 passed in 1.0s"; echo 0 > "${2#PYTEST_STATUS=}"', 0),
        ('echo "1 failed in 1.0s"; echo 1 > "${2#PYTEST_STATUS=}"', 1),
        ('echo "no tests ran in 1.0s"; echo 5 > "${2#PYTEST_STATUS=}"', 5),
        ('echo "no set-up"; exit 2', 2),
    ],
)
def test_ci_ends_with_the_summary_and_the_exit_code_of_pytest(tmp_path, make, expected):
    (tmp_path / ".ci").mkdir()
    shutil.copy(ROOT / ".ci/run", tmp_path / ".ci")
    for name, content in (("make", make), ("chromium", "")):
        tool = tmp_path / "bin" / name
        tool.parent.mkdir(exist_ok=True)
        tool.write_text(f"#!/bin/sh\n{content}\n")
        tool.chmod(0o755)
    path = f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        [tmp_path / ".ci/run"],
        capture_output=True,
        text=True,
        env=os.environ | {"PATH": path},
    )
    assert done.returncode == expected
    assert done.stdout.splitlines()[-1] in make
    assert done.stderr == ""


@pytest.mark.parametrize("works", [True, False])
def test_ci_installs_a_browser_and_goes_on_if_it_cannot(tmp_path, works):
    (tmp_path / ".ci").mkdir()
    shutil.copy(ROOT / ".ci/run", tmp_path / ".ci")
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("bash", "sh", "cat", "dirname", "env", "mktemp", "rm"):
        (tools / name).symlink_to(shutil.which(name))
    fakes = {
        "id": "echo 0",
        "apt-get": f'echo "$*" >> asked; exit {0 if works else 1}',
        "make": 'echo "3 passed in 1.0s"; echo 0 > "${2#PYTEST_STATUS=}"',
    }
    for name, content in fakes.items():
        (tools / name).write_text(f"#!/bin/sh\n{content}\n")
        (tools / name).chmod(0o755)
    done = subprocess.run(
        [tmp_path / ".ci/run"], capture_output=True, text=True, env={"PATH": str(tools)}
    )
    asked = (tmp_path / "asked").read_text().splitlines()
    assert asked[0].startswith("update")
    assert len(asked) == 1 + works and asked[-1].endswith(
        "chromium" if works else "-qq"
    )
    assert ("browser tests will be skipped" in done.stderr) is not works
    assert done.returncode == 0
    assert done.stdout == "3 passed in 1.0s\n"
