"""The pages of the book: which there are, which are out of date, how one is made.

`experiments.yml` names every page: profile, page, notebook, parameters. Papermill
executes the notebook into a folder of its own; only a page that is whole and clean then
takes its place in the book, together with its tables and a `manifest.json` that holds
all it was made from. What is out of date is read off these manifests alone: content
hashes, no file times, so that a fresh clone knows as much as the machine that ran it.
"""

import contextlib
import csv
import functools
import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

from curvlib.book import source
from curvlib.book.source import PageError
from curvlib.runs import provenance

DEFAULT_PROFILE = "digits"  # the only one that runs without being asked for by name
DATA = (".csv", ".parquet", ".html")  # what a page offers for download
COMPARED = {"notebook_hash", "title", "parameters", "code", "files", "seconds"}
ENTRY_KEYS = {"notebook", "title", "parameters", "minutes"}


@dataclass(frozen=True, kw_only=True)
class Page:
    """One page of the book: a notebook with parameters, in a profile."""

    profile: str
    page: str
    notebook: str  # relative to root, as all paths in manifests are
    parameters: dict[str, Any] = field(default_factory=dict)
    title: str | None = None  # in place of the notebook's own
    minutes: float | None = None  # a guess, until it has run
    root: Path = Path()

    @property
    def name(self) -> str:
        """Profile and page, such as ``digits/gallery``."""
        return f"{self.profile}/{self.page}"

    @property
    def file(self) -> Path:
        """The executed notebook, as the book shows it."""
        return self.root / "book" / "pages" / self.profile / f"{self.page}.ipynb"

    @property
    def results(self) -> Path:
        """The folder of its tables, figure data and manifest."""
        return self.root / "results" / self.profile / self.page

    @property
    def manifest(self) -> dict | None:
        """What the page on disk was made from; None if it was never made."""
        try:
            made = json.loads((self.results / "manifest.json").read_text("utf-8"))
        except (FileNotFoundError, ValueError):
            return None
        return made if made.keys() >= COMPARED else None


def load_pages(file: Path | str = "experiments.yml") -> dict[str, Page]:
    """Read the list of all pages, in its order, by name (``digits/gallery``).

    Paths are relative to the folder of `file`.

    Raises:
        PageError: If a key is unknown or stands twice, a notebook is missing, or a
            value has the wrong form; all such faults of the list at once.
    """
    file = Path(file)
    pages, faults = {}, []
    for profile, entries in _load_yaml(file).items():
        if not isinstance(entries, dict):
            faults.append(f"{profile} must hold pages by name, got {entries!r}")
            continue
        for name, entry in entries.items():
            try:
                page = _page(file.parent, str(profile), str(name), entry)
            except PageError as error:
                faults.append(f"{profile}/{name}: {error}")
            else:
                pages[page.name] = page
    if faults:
        raise PageError(f"{file.name}:\n  " + "\n  ".join(faults))
    return pages


def _page(root: Path, profile: str, name: str, entry: Any) -> Page:
    if not isinstance(entry, dict) or not isinstance(entry.get("parameters", {}), dict):
        raise PageError("a page is a mapping, and so are its parameters")
    if unknown := sorted(set(entry) - ENTRY_KEYS):
        raise PageError(
            f"unknown key {', '.join(unknown)}; a page has "
            f"{', '.join(sorted(ENTRY_KEYS))}"
        )
    if not all(part.replace("_", "").isalnum() for part in (profile, name)):
        raise PageError("profile and page are named with letters, digits and _")
    notebook = f"notebooks/{entry.get('notebook', name)}.ipynb"
    if not (root / notebook).exists():
        raise PageError(f"there is no {notebook}")
    minutes = entry.get("minutes")
    if minutes is not None and not isinstance(minutes, int | float):
        raise PageError(f"minutes must be a number, got {minutes!r}")
    return Page(
        profile=profile,
        page=name,
        notebook=notebook,
        parameters=entry.get("parameters", {}),
        title=entry.get("title"),
        minutes=minutes,
        root=root,
    )


def _load_yaml(file: Path) -> dict:
    import yaml

    class Loader(yaml.SafeLoader):
        """YAML as usual, but a key that stands twice is an error, not a choice."""

        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
            keys = [key.value for key, _ in node.value if key.value != "<<"]
            if twice := sorted({key for key in keys if keys.count(key) > 1}):
                raise PageError(
                    f"{file.name}, line {node.start_mark.line + 1}: "
                    f"{', '.join(twice)} stands twice"
                )
            return super().construct_mapping(node, deep)

    try:
        content = yaml.load(file.read_text(encoding="utf-8"), Loader)
    except FileNotFoundError as error:
        raise PageError(f"there is no {file.name} here") from error
    except yaml.YAMLError as error:
        raise PageError(f"{file.name} is not YAML: {error}") from error
    if not isinstance(content, dict):
        raise PageError(f"{file.name} must hold profiles, each with pages by name")
    return content


def choose(
    pages: dict[str, Page], names: Iterable[str], profile: str | None
) -> list[Page]:
    """Pages by name, ``digits/gallery`` or, within `profile`, ``gallery``.

    Without names: every page of `profile`, else of digits.

    Raises:
        PageError: If there is no such page or profile; lists those there are.
    """
    profiles = list(dict.fromkeys(page.profile for page in pages.values()))
    if profile is not None and profile not in profiles:
        raise PageError(f"no profile {profile!r}; there are {', '.join(profiles)}")
    prefix = f"{profile or DEFAULT_PROFILE}/"
    names = [name if "/" in name else prefix + name for name in names]
    if unknown := [name for name in names if name not in pages]:
        raise PageError(
            f"no page {', '.join(unknown)}; there are:\n  " + "\n  ".join(pages)
        )
    if not names:
        names = [name for name in pages if name.startswith(prefix)]
    return [pages[name] for name in dict.fromkeys(names)]


# ---------------------------------------------------------------- what is stale


def why_stale(page: Page) -> list[str]:
    """Reasons to run a page again; none if it is what it would be made now.

    Compares the manifest beside its results with the notebook, its parameters, the
    library code that the notebook needs, and the files that were made.
    """
    made = page.manifest
    if made is None:
        return ["never run"]
    notebook = source.read(page.root / page.notebook)
    reasons = []
    if made["notebook_hash"] != source.content_hash(notebook):
        reasons.append("notebook changed")
    if made["title"] != page.title:
        reasons.append("title changed")
    for name in sorted(page.parameters.keys() | made["parameters"].keys()):
        then, now = (
            repr(source[name]) if name in source else "default"
            for source in (made["parameters"], page.parameters)
        )
        if then != now:
            reasons.append(f"parameter {name}: {then} -> {now}")
    code = _code_fingerprints(page, notebook)
    for module in sorted(code):
        if module not in made["code"]:
            reasons.append(f"curvlib/{module}.py is new to it")
        elif made["code"][module] != code[module]:
            reasons.append(f"curvlib/{module}.py changed")
    then, now = made.get("reads", {}), _reads(page)
    reasons += [
        f"{name} changed"
        for name in sorted(then.keys() | now.keys())
        if then.get(name) != now.get(name)
    ]
    for name, content in made["files"].items():
        file = page.root / name
        if not file.exists():
            reasons.append(f"{name} missing")
        elif _hash(file.read_bytes()) != content:
            reasons.append(f"{name} changed")
    return reasons


def _reads(page: Page) -> dict[str, str]:
    """Content of the tables that a page takes from other pages, by file.

    A parameter `pages` names those pages.
    """
    folders = [
        page.root / "results" / name for name in page.parameters.get("pages", [])
    ]
    return {
        _relative(file, page.root): _hash(file.read_bytes())
        for folder in folders
        for file in sorted(folder.glob("*.csv"))
    }


def _code_fingerprints(page: Page, notebook: dict) -> dict[str, str]:
    try:
        modules = provenance.dependencies(source.code(notebook))
    except SyntaxError as error:
        raise PageError(f"{page.notebook} is not Python: {error}") from error
    except KeyError as error:
        raise PageError(
            f"{page.notebook} imports {error}, which curvlib does not have"
        ) from error
    return {
        module: _fingerprint(module, (provenance.LIBRARY / f"{module}.py").read_bytes())
        for module in sorted(modules)
    }


@functools.cache
def _fingerprint(module: str, content: bytes) -> str:
    # The content is only the cache's key: pages share modules, and parsing is slow.
    return provenance.fingerprint([module])


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


# ---------------------------------------------------------------- making one page


def check(page: Page) -> dict[str, Any]:
    """Find faults that show before anything runs; return the typed parameters.

    Raises:
        PageError: If the notebook lacks what a page needs, or a parameter is unknown
            or has another type.
    """
    try:
        notebook = source.read(page.root / page.notebook)
        source.check_source(notebook)
        _code_fingerprints(page, notebook)
        return source.checked(source.parameters(notebook), page.parameters)
    except PageError as error:
        raise PageError(f"{page.name}: {error}") from error


def run_page(
    page: Page, *, progress: Callable[[str], None] = lambda text: None
) -> dict[str, Any]:
    """Execute a page's notebook and, if all went well, put the page into the book.

    Until then everything happens in a folder under ``results/scratch``; a page that
    fails leaves what was there before as it was, and its notebook, with the error in
    it, under ``runs/failed``.

    Args:
        page: The page.
        progress: Called with a line of news, now and then, from another thread.

    Returns:
        The manifest, as saved beside the results.

    Raises:
        PageError: If a cell failed (with its number), or no page can be made of it.
    """
    from filelock import FileLock, Timeout

    parameters = check(page)
    staging = page.root / "results" / "scratch" / f".{page.profile}-{page.page}"
    staging.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(f"{staging}.lock", timeout=0):
            shutil.rmtree(staging, ignore_errors=True)  # of a run that was killed
            staging.mkdir()
            try:
                return _run_in(staging, page, parameters, progress)
            finally:
                shutil.rmtree(staging, ignore_errors=True)
    except Timeout as error:
        raise PageError(f"{page.name} is being made by another process") from error


def _run_in(
    staging: Path, page: Page, parameters: dict, progress: Callable[[str], None]
) -> dict[str, Any]:
    from curvlib.runs.training import best_device  # imports torch, which takes a second

    results = _relative(page.results, page.root)
    scratch = _relative(staging / "results", page.root)
    (staging / "results").mkdir()
    notebook = source.read(page.root / page.notebook)
    code = _code_fingerprints(page, notebook)  # now: someone may edit it meanwhile
    reads = _reads(page)
    commit = _commit(page.root)
    executed = staging / "executed.ipynb"
    started = time.monotonic()
    news = (staging / "progress").resolve()
    threads = _threads(page)
    with (
        _environment(
            CURVLIB_PROGRESS=str(news),
            IPYTHONDIR=str(staging.resolve()),  # no start-up files of the user's
            **threads,
        ),
        _Watch(news, progress) as watch,
    ):
        _execute(page, notebook, parameters | {"results": scratch}, executed)
    machine = provenance.hardware(best_device())
    if threads:
        machine["threads"] = int(threads["OMP_NUM_THREADS"])
    made: dict[str, Any] = {
        "profile": page.profile,
        "page": page.page,
        "notebook": page.notebook,
        "notebook_hash": source.content_hash(notebook),
        "title": page.title,
        "parameters": page.parameters,
        "code": code,
        "reads": reads,
        "seconds": round(time.monotonic() - started, 1),
        "peak_memory_gib": round(watch.peak / 2**30, 2),
        "hardware": machine,
        "versions": provenance.versions(),
        "date": datetime.now(UTC).isoformat(timespec="minutes"),
        "commit": commit,
    }
    made["training"] = _training(staging / "results" / "runs.csv")
    about = _about(page, notebook, parameters, made)
    (staging / "results" / "about.md").write_text(about, encoding="utf-8")
    files = sorted(file for file in (staging / "results").rglob("*") if file.is_file())
    made["files"] = {
        f"{results}/{_relative(f, staging / 'results')}": _hash(f.read_bytes())
        for f in files
    }
    try:
        content = source.clean(
            source.read(executed),
            name=page.name,
            title=page.title,
            about=f"/{results}/about.md",  # from the root: that is Sphinx's source
            downloads=[f"/{name}" for name in made["files"] if name.endswith(DATA)],
            replaced={scratch: results} | _machine_paths(page.root),
        )
    except PageError as error:
        raise PageError(f"{error}\n  {_keep_failed(page, executed)}") from error
    made["files"][_relative(page.file, page.root)] = _hash(content)
    (staging / "results" / "manifest.json").write_text(
        json.dumps(made, indent=1) + "\n", encoding="utf-8"
    )
    _publish(staging, page, content)
    return made


def _threads(page: Page) -> dict[str, str]:
    """One thread for the small networks of digits, unless the user chose a number.

    A second one gains nothing there, and beside any other busy process two that wait
    for each other take several times as long.
    """
    if page.profile != DEFAULT_PROFILE or "OMP_NUM_THREADS" in os.environ:
        return {}
    return {"OMP_NUM_THREADS": "1"}


def _publish(staging: Path, page: Page, content: bytes) -> None:
    """Put results and page in their places: two renames, one after the other.

    A kill between the two leaves a manifest that does not fit the page, and the page is
    stale; a kill before leaves the old page, or a page without manifest: never run.
    """
    page.results.parent.mkdir(parents=True, exist_ok=True)
    if page.results.exists():
        page.results.rename(staging / "old")
    (staging / "results").rename(page.results)
    provenance.write_atomically(page.file, content)


def _execute(page: Page, notebook: dict, parameters: dict, output: Path) -> None:
    import papermill
    from jupyter_client import AsyncKernelManager
    from jupyter_client.kernelspec import KernelSpecManager
    from nbclient.exceptions import DeadKernelError

    class ThisPython(AsyncKernelManager):
        """Starts this very interpreter, whatever `python3` the user has installed."""

        shutdown_wait_time = 2.0  # seconds: after Ctrl-C nobody wants to wait

        def _kernel_spec_manager_default(self) -> KernelSpecManager:
            return KernelSpecManager(kernel_dirs=[])  # leaves ipykernel's own

    log = page.root / "runs" / "logs" / page.profile / f"{page.page}.txt"
    log.parent.mkdir(parents=True, exist_ok=True)
    try:
        with log.open("w", encoding="utf-8") as stderr:
            papermill.execute_notebook(
                source.as_node(notebook),
                output,
                parameters,
                kernel_name="python3",
                kernel_manager_class=ThisPython,
                extra_arguments=["--log-level=CRITICAL"],
                progress_bar=False,
                stderr_file=stderr,
                cwd=page.root,
            )
    except papermill.PapermillExecutionError as error:
        after = error.cell_index > source.parameters_cell(notebook)
        number = error.cell_index + 1 - after  # papermill added a cell
        first_line = error.source.strip().splitlines()[0]
        raise PageError(
            f"cell {number} ({first_line}) failed: {error.ename}: {error.evalue}\n"
            f"  {_keep_failed(page, output)}"
        ) from error
    except DeadKernelError as error:
        raise PageError(
            "Python died in the middle of the notebook, for want of memory perhaps\n"
            f"  {_keep_failed(page, output)}"
        ) from error


def _keep_failed(page: Page, executed: Path) -> str:
    kept = page.root / "runs" / "failed" / page.profile / f"{page.page}.ipynb"
    kept.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(executed, kept)
    return f"the notebook as far as it came: {_relative(kept, page.root)}"


def _machine_paths(root: Path) -> dict[str, str]:
    """Paths that differ from machine to machine, and what a page shows instead."""
    shown = {f"{root.resolve()}{os.sep}": "", str(root.resolve()): "."}
    shown |= {str(Path.home()): "~"}
    return {path: text for path, text in shown.items() if len(Path(path).parts) > 1}


def _relative(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix()


def _commit(root: Path) -> str | None:
    git = ["git", "-C", str(root), "rev-parse", "HEAD"]
    try:
        done = subprocess.run(git, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None  # not in git, or no git: a downloaded archive is fine too
    return done.stdout.strip()


class _Watch:
    """Follows a running notebook: its reports of progress, its use of memory."""

    def __init__(self, file: Path, progress: Callable[[str], None]):
        self.peak = 0  # bytes, kernel and its children
        self._file, self._progress, self._read = file, progress, 0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)

    def __enter__(self) -> "_Watch":
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._done.set()
        self._thread.join()

    def _follow(self) -> None:
        while not self._done.wait(0.2):
            self.peak = max(self.peak, _memory_of_children())
            if self._file.exists():
                news = self._file.read_text("utf-8", "replace")[self._read :]
                whole = news[: news.rfind("\n") + 1]
                self._read += len(whole)
                if whole.strip():
                    self._progress(whole.strip().splitlines()[-1])


def _memory_of_children() -> int:
    import psutil

    total = 0
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):  # it may have ended just now
            total += process.memory_info().rss
    return total


@contextlib.contextmanager
def _environment(**variables: str) -> Iterator[None]:
    """Set environment variables that the kernel inherits, then put them back."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def _training(file: Path) -> dict[str, float] | None:
    """Number and seconds of the training runs that a page read, of its ``runs.csv``."""
    if not file.exists():
        return None
    with file.open(encoding="utf-8", newline="") as lines:
        runs = list(csv.DictReader(lines))
    seconds = sum(float(r["train_seconds"]) + float(r["score_seconds"]) for r in runs)
    return {"runs": len(runs), "seconds": round(seconds, 1)}


def _about(page: Page, notebook: dict, parameters: dict, made: dict) -> str:
    """What stands below a page's title: how it was made, and how to make it again."""
    known = source.parameters(notebook)
    values = {name: parameter.default for name, parameter in known.items()} | parameters
    seeds = {name: value for name, value in values.items() if "seed" in name}
    machine, versions = made["hardware"], dict(made["versions"])
    processor = machine["processor"].replace("(R)", "").replace("(TM)", "")
    device = machine.get("gpu") or f"{processor}, {machine['cores']} cores"
    table = source.parameter_table(
        known, parameters, _relative(page.results, page.root)
    )
    command = f"curvlib run {page.name}"
    python = versions.pop("python")
    when = datetime.fromisoformat(made["date"])
    seed_text = ", ".join(f"`{name} = {value}`" for name, value in seeds.items())
    training = share = ""
    if made["training"]:
        number, seconds = made["training"]["runs"], made["training"]["seconds"]
        share = f", its training {duration(seconds)}"
        training = (
            f"Training and scoring of its {number} run{'s' * (number > 1)} took "
            f"{duration(seconds)} when they were made; pages that need the same runs "
            "share them, and a finished run is read. "
        )
    commit = f", at commit `{made['commit'][:10]}`" if made["commit"] else ""
    return f"""\
:::{{dropdown}} `{command}` · {duration(made["seconds"])}{share} · \
{made["peak_memory_gib"]:.1f} GiB · {device}
:class-container: run-facts
{table}

Bold: not the notebook's default. To run it again, with curvlib or with papermill alone:

```bash
{command} --force
{source.papermill_command(page.notebook, parameters)}
```

{training}Seeds: {seed_text or "none; nothing here is random"}. \
Made on {when.day} {when:%B %Y}{commit}, on {machine["device"]} \
with {machine["threads"]} threads and {machine["memory_gib"]} GiB of memory; \
Python {python}, \
{", ".join(f"{name} {version}" for name, version in versions.items())}.
:::
"""


def duration(seconds: float) -> str:
    """Say a time as people do.

    Example:
        >>> duration(0.4), duration(75), duration(600), duration(9000)
        ('1 s', '75 s', '10 min', '2.5 h')
    """
    if seconds < 100:
        return f"{max(1, round(seconds))} s"
    if seconds < 100 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


# ---------------------------------------------------------------- making many pages


def run_pages(
    pages: list[Page], *, force: bool = False, stream: TextIO | None = None
) -> int:
    """Make every stale page of a list, and say how far it is.

    A page that fails does not stop the others; Ctrl-C does, and keeps what is done.

    Args:
        pages: The pages, in this order.
        force: Make the current ones too.
        stream: Where the news goes; stdout if None.

    Returns:
        An exit status: 0 if all went well, 1 if a page failed, 130 after Ctrl-C.

    Raises:
        PageError: If a page to be made has a fault that shows before it runs. None of
            the pages has run then.
    """
    console = _Console(stream or sys.stdout)
    waiting = [page for page in pages if force or why_stale(page)]
    # What reads other pages' tables is stale once these are made again.
    again = {page.name for page in waiting}
    waiting = [
        page
        for page in pages
        if page in waiting or again & set(page.parameters.get("pages", []))
    ]
    if current := len(pages) - len(waiting):
        hint = "" if waiting else "; --force makes them again"
        console.line(f"{current} of {len(pages)} pages are current{hint}")
    if not waiting:
        return 0
    faults = []
    for page in waiting:
        try:
            check(page)
        except PageError as error:
            faults.append(str(error))
    if faults:
        raise PageError("\n".join([*faults, "nothing was run"]))
    done, failed = [], []
    started = time.monotonic()
    for number, page in enumerate(waiting, 1):
        left = sum(map(expected_seconds, waiting[number - 1 :]))
        label = f"[{number}/{len(waiting)}] {page.name}"
        console.line(f"{label} ...  about {duration(left)} left in all")
        try:
            made = run_page(page, progress=console.status)
        except PageError as error:
            failed.append(page.name)
            console.line(f"{label} FAILED: {error}")
        except KeyboardInterrupt:
            kept = ", ".join(done) or "no page yet"
            console.line(f"\nStopped in {page.name}. Finished and kept: {kept}.")
            console.line("The same command goes on from here.")
            return 130
        else:
            done.append(page.name)
            console.line(f"{label} made in {duration(made['seconds'])}")
    total = duration(time.monotonic() - started)
    if failed:
        console.line(f"{len(failed)} of {len(waiting)} failed: {', '.join(failed)}")
        return 1
    console.line(f"{len(done)} page{'s' * (len(done) > 1)} made in {total}")
    return 0


def expected_seconds(page: Page) -> float:
    """How long a page should take, its training included.

    As last time, when its runs may have been read, or as they took when they were made;
    else as its author thought.
    """
    made = page.manifest
    if made is None:
        return 60 * (page.minutes or 1)
    return max(made["seconds"], (made.get("training") or {"seconds": 0})["seconds"])


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
