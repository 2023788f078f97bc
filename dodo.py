"""Tasks of doit: ``doit list --all`` names them, ``doit book`` renders the book.

Pages know themselves when they are stale (`curvlib.book.pages.why_stale`), so doit and
``curvlib run`` always agree. A page runs only when it is named: ``doit digits``,
``doit cpu:gallery_mnist``.
"""

import shutil
import subprocess
import sys
import time
from pathlib import Path

from curvlib.book import pages

DOIT_CONFIG = {
    "default_tasks": ["book"],
    "verbosity": 2,
    "backend": "json",  # reads the same whatever dbm this Python was built with
    "dep_file": ".doit.json",
}
ROOT = Path(__file__).parent
BUILD = ROOT / "book" / "_build"
HTML = BUILD / "html"
# As a module, since the scripts of a virtual environment may not be on the PATH.
JUPYTER_BOOK = [sys.executable, "-c", "from jupyter_book.cli.main import main; main()"]


def task_pages():
    """Make a page of the book."""
    for page in pages.load_pages(ROOT / "experiments.yml").values():
        yield {
            "basename": page.profile,
            "name": page.page,
            "actions": [(_make, [page])],
            "uptodate": [lambda page=page: not pages.why_stale(page)],
            "io": {"capture": False},
        }


def _make(page: pages.Page) -> bool:
    return pages.run_pages([page], force=True) == 0


def task_render():
    """Turn prose and pages into HTML; any warning is a failure."""
    sources = [ROOT / name for name in ("_config.yml", "_toc.yml")]
    for folder in ("book", "results"):  # prose shows tables of results, too
        sources += [
            file
            for file in sorted((ROOT / folder).rglob("*"))
            if file.is_file()
            and not {"_build", "scratch"} & set(file.relative_to(ROOT).parts)
        ]
    return {
        "actions": [_render],
        "file_dep": [str(file) for file in sources],
        "targets": [str(HTML / "index.html")],
        "io": {"capture": False},
    }


def _render() -> bool:
    """Render into a new folder, and put it in the old one's place if all went well."""
    started = time.monotonic()
    # Sphinx warns of a page only when it reads it, so each try begins with nothing.
    new, old = BUILD / "new", BUILD / "old"
    shutil.rmtree(new, ignore_errors=True)  # of a try that was killed
    flags = ["--path-output", str(new), "-W", "-n", "--keep-going", "--quiet"]
    done = subprocess.run(
        [*JUPYTER_BOOK, "build", ".", *flags],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode:
        shutil.rmtree(new, ignore_errors=True)
        print(done.stdout)
        if HTML.exists():
            print(f"Not rendered, see above; {HTML} is still the book before.")
        return False
    shutil.rmtree(old, ignore_errors=True)
    if HTML.exists():
        HTML.rename(old)
    (new / "_build" / "html").rename(HTML)
    for folder in (new, old):
        shutil.rmtree(folder, ignore_errors=True)
    print(f"book rendered in {pages.duration(time.monotonic() - started)}")
    return True


def task_book():
    """Render the book if anything in it changed, and say where it is."""
    return {
        "actions": [lambda: print(f"Open {HTML / 'index.html'}")],
        "task_dep": ["render"],
        "io": {"capture": False},
    }
