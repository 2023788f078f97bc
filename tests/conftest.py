import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock

ROOT = Path(__file__).parents[1]
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@pytest.fixture(scope="session")
def html(request) -> Path:
    """The rendered book, as `make book` leaves it: measured, drawn, rendered."""
    capture = request.config.pluginmanager.getplugin("capturemanager")
    # Files of tests run side by side: the second waits, and finds the book made.
    (ROOT / "runs").mkdir(exist_ok=True)
    one_by_one = FileLock(ROOT / "runs" / ".tests.lock")
    with one_by_one, capture.global_and_fixture_disabled():  # silence looks hung
        made = subprocess.run([sys.executable, "-m", "curvlib", "book"], cwd=ROOT)
    assert made.returncode == 0, "curvlib book failed, see above"
    return ROOT / "book" / "_build" / "html"


@pytest.fixture(scope="module")  # not longer: Playwright keeps an event loop running
def browser():
    """Chromium, without a window."""
    from playwright.sync_api import sync_playwright

    executable = next(filter(None, map(shutil.which, BROWSERS)), None)
    if executable is None:
        pytest.skip("no Chromium: install it, on Debian with `apt install chromium`")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=executable,
            args=["--no-sandbox"],  # containers have none
        )
        yield browser
        browser.close()
