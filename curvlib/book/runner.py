"""Bringing pages up to date: measure what was asked for, draw what can be drawn.

Measuring takes minutes or hours, and happens only for records that were named (those of
digits count as named). Drawing takes seconds and needs records alone. Two tasks run at
a time; measurements outside digits run alone, with all cores.
"""

import contextlib
import multiprocessing
import os
import shutil
import sys
import time
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any, TextIO

from curvlib.book import catalogue, drawing, records
from curvlib.book.catalogue import DEFAULT_PROFILE, Catalogue, Measurement, Page
from curvlib.book.drawing import duration
from curvlib.book.parameters import PageError

AT_ONCE = 2
NEWS = "CURVLIB_PROGRESS"  # environment variable: file that long work reports to


def state(page: Page, known: Catalogue) -> tuple[str, list[str]]:
    """State of a page, and why.

    Returns:
        ``"current"``, ``"to be drawn"`` or ``"to be measured"``, and the reasons. A
        page is to be measured if one of the records that it shows is out of date, or
        none exists; it still shows its last records. Records that were never measured
        are left out of a page, and are no reason.
    """
    if not page.measured:
        return "to be measured", ["never measured"]
    reasons = [
        f"{name}: {why}" if len(page.measured) > 1 else why
        for name in page.measured
        for why in known.measurements[name].why()
    ]
    if reasons:
        return "to be measured", reasons
    reasons = drawing.why_draw(page)
    return ("to be drawn", reasons) if reasons else ("current", [])


def bring_up_to_date(
    known: Catalogue,
    wanted: Collection[Measurement],
    pages: Collection[Page],
    *,
    force: bool = False,
    at_once: int = AT_ONCE,
    stream: TextIO | None = None,
) -> int:
    """Measure what is out of date and may be measured; draw what is out of date.

    What fails does not stop the rest; Ctrl-C does, and keeps what is done.

    Args:
        known: The catalogue.
        wanted: Records that may be measured.
        pages: Pages to draw, in this order, from those of their records that exist.
        force: Measure and draw what is current, too.
        at_once: Tasks at a time.
        stream: Where the news goes; stdout if None.

    Returns:
        An exit status: 0 if all went well, 1 if something failed, 130 after Ctrl-C.

    Raises:
        PageError: If there is a fault that shows before anything runs.
    """
    console = _Console(stream or sys.stdout)
    faults, old = [], []
    asked = {record.name: record for record in wanted}
    shown = [known.measurements[name] for page in pages for name in page.measured]
    for name, record in ({record.name: record for record in shown} | asked).items():
        try:
            old += [record] if record.why() else []
        except PageError as error:
            faults.append(f"{name}: {error}")
    measured = [r for r in asked.values() if force or r in old]
    waiting = [record.name for record in old if record.name not in asked]
    again = {record.name for record in measured}
    drawn = [
        page
        for page in pages
        if again & set(page.records)
        or (page.measured and (force or drawing.why_draw(page)))
    ]
    for page in drawn:
        try:
            drawing.check(page)
        except PageError as error:
            faults.append(str(error))
    if faults:
        raise PageError("\n".join([*faults, "nothing was run"]))
    if current := [p for p in pages if p.measured and p not in drawn]:
        hint = "" if drawn or measured else "; --force makes them again"
        console.line(f"{len(current)} of {len(pages)} pages are current{hint}")
    if empty := [p.name for p in pages if not p.measured and p not in drawn]:
        console.line(f"without any record, and left out: {', '.join(empty)}")
    if waiting:
        console.line(
            f"{_count(waiting, 'record')} to be measured, on request only: "
            f"{', '.join(waiting)}"
        )
    if not measured and not drawn:
        return 0
    began = time.monotonic()
    total = sum(record.seconds() for record in measured)
    if measured:
        console.line(
            f"measuring {_count(measured, 'record')}, about "
            f"{duration(max(total / at_once, max(r.seconds() for r in measured)))}; "
            f"drawing {_count(drawn, 'page')}"
        )
    else:
        console.line(f"nothing to measure; drawing {_count(drawn, 'page')}")
    work = _Work(known.root, measured, drawn, at_once, console)
    try:
        work.run()
    except KeyboardInterrupt:
        work.stop()
        kept = ", ".join(work.done) or "nothing yet"
        console.line(f"\nStopped. Finished and kept: {kept}.")
        console.line("The same command goes on from here.")
        return 130
    if work.failed:
        console.line(f"{len(work.failed)} failed: {', '.join(work.failed)}")
        return 1
    console.line(
        f"{_count(measured, 'record')} measured, {_count(drawn, 'page')} drawn in "
        f"{duration(time.monotonic() - began)}"
    )
    return 0


def _count(things: Collection, word: str) -> str:
    return f"{len(things)} {word}{'' if len(things) == 1 else 's'}"


class _Work:
    """Tasks in processes of their own: measurements first, pages when they can be."""

    def __init__(self, root, measured, drawn, at_once, console):
        self.done: list[str] = []
        self.failed: list[str] = []
        self._root, self._at_once, self._console = root, at_once, console
        # The longest first, so that none of them is left alone at the end.
        self._measured = sorted(measured, key=lambda record: -record.seconds())
        self._drawn = list(drawn)
        self._running: dict[Future, tuple[str, str, float]] = {}
        self._number, self._all = 0, len(measured) + len(drawn)
        self._news = _News(root, console)
        self._drawer: ProcessPoolExecutor | None = None

    def run(self) -> None:
        try:
            while self._measured or self._drawn or self._running:
                self._start()
                done, _ = wait(self._running, 0.3, return_when=FIRST_COMPLETED)
                self._news.show()
                for future in done:
                    self._finish(future)
        finally:
            if self._drawer:
                self._drawer.shutdown(wait=False, cancel_futures=True)
            self._news.close()

    def stop(self) -> None:
        """End every process that was started, and what it started."""
        import psutil

        children = psutil.Process().children(recursive=True)
        for process in children:
            with contextlib.suppress(psutil.Error):
                process.terminate()
        _, alive = psutil.wait_procs(children, timeout=3)
        for process in alive:
            with contextlib.suppress(psutil.Error):
                process.kill()

    def _start(self) -> None:
        while len(self._running) < self._at_once:
            unmeasured = {record.name for record in self._measured}
            unmeasured |= {n for kind, n, _ in self._running.values() if kind == "m"}
            ready = [p for p in self._drawn if not set(p.records) & unmeasured]
            alone = any(
                kind == "m" and not n.startswith(f"{DEFAULT_PROFILE}/")
                for kind, n, _ in self._running.values()
            )
            if alone:
                return  # it has all cores
            if self._measured and (
                not self._running or self._measured[0].profile == DEFAULT_PROFILE
            ):
                record = self._measured.pop(0)
                self._submit("m", record.name, _measure, record.profile)
            elif ready:
                self._drawn.remove(ready[0])
                self._submit("d", ready[0].name, _draw, None)
            else:
                return

    def _submit(self, kind: str, name: str, task: Callable, profile: str | None):
        self._number += 1
        verb = {"m": "measuring", "d": "drawing"}[kind]
        self._console.line(f"[{self._number}/{self._all}] {verb} {name}")
        context = multiprocessing.get_context("spawn")
        if kind == "m":
            # A process of its own, with its own threads, for each measurement.
            threads = "1" if profile == DEFAULT_PROFILE else None
            with _threads(threads):
                pool = ProcessPoolExecutor(1, context)
                news = self._news.file(name)
                future = pool.submit(task, self._root, name, str(news))
            pool.shutdown(wait=False)
        else:
            if self._drawer is None:
                with _threads("1"):
                    self._drawer = ProcessPoolExecutor(self._at_once, context)
            with _threads("1"):
                future = self._drawer.submit(task, self._root, name)
        self._running[future] = (kind, name, time.monotonic())

    def _finish(self, future: Future) -> None:
        kind, name, began = self._running.pop(future)
        try:
            future.result()
        except (PageError, BrokenProcessPool) as error:
            if isinstance(error, BrokenProcessPool):
                error = "its process died, perhaps for lack of memory"
                self._drawer = None if kind == "d" else self._drawer
            self._console.line(f"{name} FAILED: {error}")
            self.failed.append(name)
            if kind == "m":
                self._drawn = [
                    p for p in self._drawn if name not in p.records or p.measured
                ]
        else:
            self.done.append(name)
            verb = {"m": "measured", "d": "drawn"}[kind]
            took = duration(time.monotonic() - began)
            self._console.line(f"{name} {verb} in {took}")


def _measure(root: Path, name: str, news: str) -> None:
    os.environ[NEWS] = news
    record = catalogue.load(root / "experiments.yml").measurements[name]
    log = root / "runs" / "logs" / f"{name}-measured.txt"
    log.parent.mkdir(parents=True, exist_ok=True)
    sys.stderr = log.open("w", encoding="utf-8")  # warnings are not for the console
    parameters = records.complete(record.study, record.parameters)
    if "runs" in parameters:
        parameters["runs"] = str(root / parameters["runs"])
    try:
        records.measure(record.folder, record.study, parameters, root=root)
    except (OSError, ValueError, FloatingPointError) as error:
        raise PageError(f"{type(error).__name__}: {error}") from error


def _draw(root: Path, name: str) -> None:
    drawing.draw(catalogue.load(root / "experiments.yml").pages[name])


@contextlib.contextmanager
def _threads(count: str | None) -> Iterator[None]:
    """Threads of a process that is started now, unless the user chose a number.

    One for the small networks of digits: a second one gains nothing there, and beside
    another busy process two that wait for each other take several times as long.
    """
    chosen = "OMP_NUM_THREADS" in os.environ
    if count is None or chosen:
        yield
        return
    os.environ["OMP_NUM_THREADS"] = count
    try:
        yield
    finally:
        del os.environ["OMP_NUM_THREADS"]


class _News:
    """Files that long work reports to; new lines go to the console."""

    def __init__(self, root: Path, console: "_Console"):
        self._folder = root / "runs" / "logs" / f".news-{os.getpid()}"
        self._console, self._read = console, {}

    def file(self, name: str) -> Path:
        self._folder.mkdir(parents=True, exist_ok=True)
        file = self._folder / name.replace("/", "-")
        self._read[file] = (name, 0)
        return file

    def show(self) -> None:
        for file, (name, read) in self._read.items():
            if file.exists():
                news = file.read_text("utf-8", "replace")[read:]
                whole = news[: news.rfind("\n") + 1]
                self._read[file] = (name, read + len(whole))
                if whole.strip():
                    self._console.status(f"{name}: {whole.strip().splitlines()[-1]}")

    def close(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)


class _Console:
    """Lines that stay, and one line of status below them that does not."""

    def __init__(self, stream: TextIO):
        self._stream, self._in_place = stream, stream.isatty()
        self._last_status = 0.0

    def line(self, text: str) -> None:
        self._write(f"\r\x1b[K{text}\n" if self._in_place else f"{text}\n")
        self._last_status = 0.0

    def status(self, text: str) -> None:
        if self._in_place:
            width = shutil.get_terminal_size().columns - 5
            self._write(f"\r\x1b[K    {text[:width]}")
        elif time.monotonic() - self._last_status > 5:  # seconds: a log, not a flood
            self._last_status = time.monotonic()
            self._write(f"    {text}\n")

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()


def open_notebook(page: Page, out: Path) -> None:
    """Write a page's notebook, set to show the page's records, for Jupyter.

    Args:
        page: The page.
        out: The notebook to write; must not be there.

    Raises:
        PageError: If the file is there, is no ``.ipynb``, or the page has no record.
    """
    from papermill.parameterize import parameterize_notebook

    if out.suffix != ".ipynb":
        raise PageError(f"{out} must end in .ipynb")
    if out.exists():
        raise PageError(f"{out} is there already; give another name, or remove it")
    shown = list(page.measured)
    if not shown:
        raise PageError(
            f"{page.name} has no record yet: `curvlib run {page.records[0]}` measures "
            "one"
        )
    notebook: Any = drawing.as_node(drawing.check(page))
    for cell in notebook.cells:  # papermill expects what its own reader adds
        cell.metadata.setdefault("tags", [])
    notebook.metadata["papermill"] = {}
    ready = parameterize_notebook(notebook, page.parameters | {"records": shown})
    ready.metadata.pop("papermill", None)
    import nbformat

    out.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(ready, out)
