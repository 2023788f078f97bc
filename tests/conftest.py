import os
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock

ROOT = Path(__file__).parents[1]
JUPYTER_BOOK = "from jupyter_book.cli.main import main; main()"


@pytest.fixture(scope="session")
def html(request, tmp_path_factory) -> Path:
    """The book, rendered from the tree; the digits pages are made if they are not."""
    capture = request.config.pluginmanager.getplugin("capturemanager")
    # Files of tests run side by side: the second waits, and finds the pages made.
    (ROOT / "runs").mkdir(exist_ok=True)
    one_by_one = FileLock(ROOT / "runs" / ".tests.lock")
    with one_by_one, capture.global_and_fixture_disabled():  # silence looks hung
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
