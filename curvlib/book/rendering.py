"""Rendering: prose and drawn pages become HTML; any warning is a failure."""

import hashlib
import shutil
import subprocess
import sys
import time
from pathlib import Path

from curvlib.book import slides
from curvlib.book.drawing import duration
from curvlib.book.parameters import PageError

# As a module, since the scripts of a virtual environment may not be on the PATH.
JUPYTER_BOOK = [sys.executable, "-c", "from jupyter_book.cli.main import main; main()"]
FLAGS = ["-W", "-n", "--keep-going", "--quiet"]


def sources_hash(root: Path) -> str:
    """Hash of all that the rendered book depends on, by content."""
    files = [root / name for name in ("_config.yml", "_toc.yml", "experiments.yml")]
    # Prose shows tables of results, and the reference shows docstrings.
    for folder in ("book", "results", "curvlib", "notebooks"):
        files += [
            file
            for file in sorted((root / folder).rglob("*"))
            if file.is_file()
            and not {"_build", "scratch", "__pycache__"}
            & set(file.relative_to(root).parts)
        ]
    digest = hashlib.sha256()
    for file in files:
        name = file.relative_to(root).as_posix()
        digest.update(f"{name}\n".encode() + file.read_bytes())
    return digest.hexdigest()


def render(root: Path, *, force: bool = False) -> Path:
    """Render the book, if anything in it changed.

    Into a new folder, which takes the old one's place if all went well.

    Args:
        root: Root folder of the project.
        force: Render even if nothing changed.

    Returns:
        The first page.

    Raises:
        PageError: If Sphinx warned or failed; with its output.
    """
    build = root / "book" / "_build"
    html, stamp = build / "html", build / ".rendered-from"
    slides.write(root)
    now = sources_hash(root)
    if not force and html.exists() and stamp.exists() and stamp.read_text() == now:
        print("nothing in the book changed since it was rendered")
        return html / "index.html"
    began = time.monotonic()
    # Sphinx warns of a page only when it reads it, so each try begins with nothing.
    new, old = build / "new", build / "old"
    shutil.rmtree(new, ignore_errors=True)  # of a try that was killed
    done = subprocess.run(
        [*JUPYTER_BOOK, "build", ".", "--path-output", str(new), *FLAGS],
        cwd=root,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode:
        shutil.rmtree(new, ignore_errors=True)
        kept = f"; {html} is still the book before" if html.exists() else ""
        raise PageError(f"{done.stdout}\nnot rendered, see above{kept}")
    shutil.rmtree(old, ignore_errors=True)
    if html.exists():
        html.rename(old)
    (new / "_build" / "html").rename(html)
    stamp.write_text(now)
    for folder in (new, old):
        shutil.rmtree(folder, ignore_errors=True)
    print(f"book rendered in {duration(time.monotonic() - began)}")
    return html / "index.html"
