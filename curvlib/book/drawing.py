"""Drawing one page: execute its notebook on its records, clean it, put it in the book.

All work happens in a folder under ``results/scratch``. If a page fails, its last good
version stays, and the notebook with the error goes to ``runs/failed``. Whether a page
is out of date depends only on ``<page>.json`` beside it, which has content hashes and
no file times. So a fresh clone knows as much as the machine that drew the page.
"""

import contextlib
import functools
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from curvlib.book import cleanup, launch, records
from curvlib.book.catalogue import Page
from curvlib.book.page import FILES, ROOT
from curvlib.book.parameters import (
    LIBRARY,
    PageError,
    all_of,
    as_node,
    checked,
    papermill_command,
    parameter_table,
    parameters,
    parameters_cell,
)
from curvlib.book.records import Record
from curvlib.files import short_hash, write_atomically

DRAWS = ("book", "studies")  # folders of the library that a page's look depends on
CORE = ("scores.py", "metrics.py")
RENDERS = (  # parts of the book that run after a page is drawn, or without pages
    "assignments.py",
    "claims.py",
    "readme.py",
    "reference.py",
    "rendering.py",
    "report",
    "runner.py",
    "slides.py",
    "theme.py",
)
CLAIM = "curvlib-claim"


def why_draw(page: Page) -> list[str]:
    """Reasons to draw a page; none if it is up to date.

    Raises:
        PageError: If its notebook cannot be read.
    """
    drawn = page.drawn
    if drawn is None:
        return ["never drawn"]
    now = _drawn_from(page)
    reasons = []
    if drawn["notebook"] != now["notebook"]:
        reasons.append("notebook changed")
    if drawn["title"] != now["title"]:
        reasons.append("title changed")
    if drawn["parameters"] != now["parameters"]:
        reasons.append("parameters of the page changed")
    if drawn["library"] != now["library"]:
        reasons.append("figure code changed")
    if drawn.get("bootstrap", "") != now["bootstrap"]:
        reasons.append("address of the repository changed")
    for name in sorted(drawn["records"].keys() | now["records"].keys()):
        before, after = (drawn_from["records"].get(name) for drawn_from in (drawn, now))
        if before != after:
            what = "new" if before is None else "gone" if after is None else "changed"
            reasons.append(f"record {name} {what}")
    if drawn.get("labels") != now["labels"] and drawn["records"] == now["records"]:
        reasons.append("labels changed")
    for name, content in drawn["files"].items():
        file = page.root / name
        if not file.exists():
            reasons.append(f"{name} missing")
        elif short_hash(file.read_bytes()) != content:
            reasons.append(f"{name} changed")
    return reasons


def _drawn_from(page: Page) -> dict[str, Any]:
    notebook = cleanup.read(page.root / page.notebook)
    return {
        "notebook": cleanup.content_hash(notebook),
        "title": page.title,
        "parameters": page.parameters,
        "library": library_hash(),
        "bootstrap": launch.bootstrap(page.root),
        "records": {
            name: records.content_hash(page.root / "results" / name)
            for name in page.measured
        },
        "labels": {name: page.labels[name] for name in page.measured},
    }


@functools.cache
def library_hash() -> str:
    """Hash of the code and assets that a page's look depends on, by content."""
    files = [LIBRARY / name for name in CORE]
    for folder in DRAWS:
        files += [
            file
            for file in sorted((LIBRARY / folder).rglob("*"))
            if file.is_file()
            and "__pycache__" not in file.parts
            and file.relative_to(LIBRARY / folder).parts[0] not in RENDERS
        ]
    digest = hashlib.sha256()
    for file in files:
        name = file.relative_to(LIBRARY).as_posix()
        digest.update(f"{name}\n".encode() + file.read_bytes())
    return digest.hexdigest()[:16]


def check(page: Page) -> dict:
    """Find faults of a page's notebook before it runs; return the notebook.

    Raises:
        PageError: If the notebook lacks what a page needs.
    """
    try:
        notebook = cleanup.read(page.root / page.notebook)
        cleanup.check_source(notebook)
        checked(parameters(notebook), page.parameters)
    except PageError as error:
        raise PageError(f"{page.name}: {error}") from error
    return notebook


def draw(page: Page) -> None:
    """Draw a page and, if that succeeds, put it into the book.

    Raises:
        PageError: If none of its records exists, a cell failed (the message has its
            number), or the result is not a valid page.
    """
    from filelock import FileLock, Timeout

    notebook = check(page)
    if not page.measured:
        records_of = ", ".join(page.records)
        raise PageError(f"{page.name}: no record yet; it shows {records_of}")
    staging = page.root / "results" / "scratch" / f".{page.name}"
    staging.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(f"{staging}.lock", timeout=0):
            shutil.rmtree(staging, ignore_errors=True)  # of a drawing that was killed
            (staging / "files").mkdir(parents=True)
            try:
                _draw_in(staging, page, notebook)
            finally:
                shutil.rmtree(staging, ignore_errors=True)
    except Timeout as error:
        raise PageError(f"{page.name} is being drawn by another process") from error


def _draw_in(staging: Path, page: Page, notebook: dict) -> None:
    drawn_from = _drawn_from(page)  # now: someone may edit it meanwhile
    executed = staging / "executed.ipynb"
    with _environment(
        IPYTHONDIR=str(staging.resolve()),  # no start-up files of the user's
        **{ROOT: str(page.root.resolve()), FILES: str((staging / "files").resolve())},
    ):
        _execute(page, notebook, executed, list(drawn_from["records"]))
    shown = {
        name: Record.open(page.root / "results" / name)
        for name in drawn_from["records"]
    }
    own = sorted(f for f in (staging / "files").rglob("*") if f.is_file())
    files = _relative(page.files, page.root)
    downloads = {
        f"{page.labels[name]} (`{name}`)": [
            f"/{_relative(file, page.root)}"
            for file in record.files().values()
            if file.suffix in (".csv", ".parquet")
        ]
        for name, record in shown.items()
    }
    downloads["This page"] = [
        f"/{files}/{_relative(f, staging / 'files')}" for f in own
    ]
    result = cleanup.read(executed)
    try:
        claims = _take_claims(result)
        content = cleanup.clean(
            result,
            name=page.name,
            title=page.title,
            about=about(page, notebook, shown),
            downloads=downloads,
            bootstrap=drawn_from["bootstrap"],
            replaced={_relative(staging / "files", page.root): files}
            | _machine_paths(page.root),
        )
    except PageError as error:
        raise PageError(f"{error}\n  {_keep_failed(page, executed)}") from error
    from curvlib.book import artwork  # imports Matplotlib

    content, drawings = artwork.place(content, f"/{files}")
    contents = {page.file: content}
    contents |= {page.root / files / _relative(f, staging / "files"): f for f in own}
    contents |= {page.root / files / name: what for name, what in drawings.items()}
    kept = {
        _relative(file, page.root): short_hash(
            what if isinstance(what, bytes) else what.read_bytes()
        )
        for file, what in contents.items()
    }
    shutil.rmtree(page.files, ignore_errors=True)
    for file, what in contents.items():
        write_atomically(file, what if isinstance(what, bytes) else what.read_bytes())
    # Last: a kill before leaves a page that does not fit this, and is drawn again.
    text = json.dumps(drawn_from | {"claims": claims, "files": kept}, indent=1) + "\n"
    write_atomically(page.file.with_suffix(".json"), text.encode())


def _take_claims(notebook: dict) -> list[dict]:
    """Take the claims out of the metadata of an executed notebook's outputs."""
    claims = []
    for cell in notebook["cells"]:
        for output in cell.get("outputs", []):
            if text := output.get("metadata", {}).pop(CLAIM, None):
                claims.append(json.loads(text))
    names = [claim["name"] for claim in claims]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise PageError(f"two claims have the name {all_of(twice)}: give one another")
    return claims


def _execute(page: Page, notebook: dict, output: Path, shown: list[str]) -> None:
    import papermill
    from jupyter_client import AsyncKernelManager
    from jupyter_client.kernelspec import KernelSpecManager
    from nbclient.exceptions import DeadKernelError

    class ThisPython(AsyncKernelManager):
        """Starts the running interpreter, not the `python3` that the user installed."""

        shutdown_wait_time = 2.0  # seconds: after Ctrl-C nobody wants to wait

        def _kernel_spec_manager_default(self) -> KernelSpecManager:
            return KernelSpecManager(kernel_dirs=[])  # leaves ipykernel's own

    log = page.root / "runs" / "logs" / f"{page.name}.txt"
    log.parent.mkdir(parents=True, exist_ok=True)
    try:
        with log.open("w", encoding="utf-8") as stderr:
            papermill.execute_notebook(
                as_node(notebook),
                output,
                page.parameters | {"records": shown},
                kernel_name="python3",
                kernel_manager_class=ThisPython,
                extra_arguments=["--log-level=CRITICAL"],
                progress_bar=False,
                iopub_timeout=60,  # seconds; on a busy machine the 4 of nbclient pass
                stderr_file=stderr,
                cwd=page.root,
            )
    except papermill.PapermillExecutionError as error:
        after = error.cell_index > parameters_cell(notebook)
        number = error.cell_index + 1 - after  # papermill added a cell
        first_line = error.source.strip().splitlines()[0]
        raise PageError(
            f"cell {number} ({first_line}) failed: {error.ename}: {error.evalue}\n"
            f"  {_keep_failed(page, output)}"
        ) from error
    except DeadKernelError as error:
        raise PageError(
            "Python died in the middle of the notebook, perhaps for lack of memory\n"
            f"  {_keep_failed(page, output)}"
        ) from error


def _keep_failed(page: Page, executed: Path) -> str:
    kept = page.root / "runs" / "failed" / f"{page.name}.ipynb"
    kept.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(executed, kept)
    return f"the notebook as far as it came: {_relative(kept, page.root)}"


def _machine_paths(root: Path) -> dict[str, str]:
    """Paths that differ between machines, and what a page shows instead."""
    shown = {f"{root.resolve()}{os.sep}": "", str(root.resolve()): "."}
    shown |= {str(Path.home()): "~"}
    return {path: text for path, text in shown.items() if len(Path(path).parts) > 1}


def _relative(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix()


@contextlib.contextmanager
def _environment(**variables: str) -> Iterator[None]:
    """Set environment variables for the kernel, then restore them."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


# ---------------------------------------------------------------- what a page says


def about(page: Page, notebook: dict, shown: Mapping[str, Record]) -> str:
    """Markdown below a page's title: how its records were made, how to repeat it.

    Args:
        page: The page.
        notebook: What it is drawn with.
        shown: Its records that exist, by name.
    """
    known = parameters(notebook)
    if len(shown) == 1:
        ((name, record),) = shown.items()
        made = record.made
        head = f"`curvlib run {name}` · {took(made)} · {machine(made)}"
        body = [
            parameter_table(
                records.known_parameters(record, known), made["parameters"]
            ),
            "Bold: not the default. To measure it again, with curvlib or with "
            "papermill alone:",
            "```bash\n"
            f"curvlib run {name} --force\n"
            f"{papermill_command(page.notebook, _not_default(record))}\n"
            "```",
            _made_by(made),
        ]
    else:
        head = f"`curvlib run {page.name}` · drawn from {len(shown)} records"
        body = [_record(page.labels[name], name, r) for name, r in shown.items()]
        first = next(iter(shown.values()))
        body.append(
            "Add `--force` to measure a record again. The first of them with papermill "
            f"alone:\n\n```bash\n"
            f"{papermill_command(page.notebook, _not_default(first))}\n```"
        )
    text = "\n\n".join([f":::{{dropdown}} {head}\n:class-container: run-facts", *body])
    return f"{text}\n:::\n"


def _record(label: str, name: str, record: Record) -> str:
    """One of several records: its command, its parameters, how it was made."""
    made = record.made
    given = records.identity(_not_default(record))
    values = ", ".join(f"`{parameter} = {value}`" for parameter, value in given.items())
    return (
        f"**{label}** · `curvlib run {name}` · {took(made)} · {machine(made)}\n\n"
        f"Parameters other than the defaults: {values or 'none'}. {_made_by(made)}"
    )


def _not_default(record: Record) -> dict[str, Any]:
    known = records.parameters_of_study(record.made["study"])
    return {
        name: value
        for name, value in record.made["parameters"].items()
        if name not in known or value != known[name].default
    }


def took(made: dict) -> str:
    """Time that a record took, its training included."""
    training = made.get("training")
    text = duration(made["seconds"])
    if training and training["seconds"] > made["seconds"]:
        text += f", its training {duration(training['seconds'])}"
    return text


def machine(made: dict) -> str:
    """Processor or GPU that a record was measured on."""
    hardware = made["hardware"]
    processor = hardware["processor"].replace("(R)", "").replace("(TM)", "")
    return hardware.get("gpu") or f"{processor}, {hardware['cores']} cores"


def _recipes(made: dict) -> str:
    return ", ".join(f"{part} {number}" for part, number in made["recipes"].items())


def _made_by(made: dict) -> str:
    when = datetime.fromisoformat(made["date"])
    versions = dict(made["versions"])
    python = versions.pop("python")
    hardware = made["hardware"]
    seeds = {
        n: v for n, v in made["parameters"].items() if "seed" in n and v is not None
    }
    seed_text = ", ".join(f"`{name} = {value}`" for name, value in seeds.items())
    training = made.get("training")
    sentences = [
        f"Training and scoring of {training['runs']} run{'s' * (training['runs'] > 1)} "
        f"took {duration(training['seconds'])}; records that need the same runs share "
        "them."
        if training
        else "",
        f"Seeds: {seed_text}." if seeds else "Nothing here is random.",
        f"Measured on {when.day} {when:%B %Y}"
        + (f", at commit `{made['commit'][:10]}`" if made.get("commit") else "")
        + f", on {hardware['device']} with {hardware['threads']} threads and "
        f"{hardware['memory_gib']} GiB of memory"
        + (
            f" (at most {made['peak_memory_gib']:.1f} GiB used)"
            if made.get("peak_memory_gib")
            else ""
        )
        + ".",
        f"Recipe numbers: {_recipes(made)}.",
        f"Python {python}, {', '.join(f'{n} {v}' for n, v in versions.items())}.",
        made.get("note", ""),
    ]
    return " ".join(sentence for sentence in sentences if sentence)


def duration(seconds: float) -> str:
    """Write a time as people do.

    Example:
        >>> duration(0.4), duration(75), duration(600), duration(9000)
        ('1 s', '75 s', '10 min', '2.5 h')
    """
    if seconds < 100:
        return f"{max(1, round(seconds))} s"
    if seconds < 100 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
