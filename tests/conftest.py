import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
JUPYTER_BOOK = "from jupyter_book.cli.main import main; main()"


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(items):
    """Keep a file in one process, and all that reads the book, where there are many."""
    for item in items:
        of_the_book = "html" in getattr(item, "fixturenames", ())
        group = "book" if of_the_book else item.path.name
        item.add_marker(pytest.mark.xdist_group(group))


@pytest.fixture(scope="session")
def html(request, tmp_path_factory) -> Path:
    """The book, rendered from the tree; the digits pages are made if they are not."""
    capture = request.config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled():  # minutes without a word look hung
        made = subprocess.run(
            [sys.executable, "-m", "curvlib", "run", "--profile", "digits"], cwd=ROOT
        )
    assert made.returncode == 0, "curvlib run --profile digits failed, see above"
    out = tmp_path_factory.mktemp("book")
    flags = ["--path-output", str(out), "-W", "-n", "--keep-going", "--quiet"]
    built = subprocess.run(
        [sys.executable, "-c", JUPYTER_BOOK, "build", ".", *flags],
        cwd=ROOT,
        env=os.environ | {"NO_COLOR": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert built.returncode == 0, built.stdout
    return out / "_build" / "html"
