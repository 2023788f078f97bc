"""Records: what was measured, kept as tables, and all that says how it was made.

A record is a folder, ``results/<profile>/<name>``::

    record.json    study, parameters, recipes, checksums of the data, versions,
                   hardware, seconds, seeds, commit
    *.csv, ...     the tables of the study

A record is identified by its parameters, the checksums of its data, and the recipe
numbers of the parts that made it. Pages are drawn from records alone.
"""

import copy
import io
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from curvlib.book.parameters import (
    PageError,
    Parameter,
    checked,
    parameters_of_study,
    parts_of_study,
)
from curvlib.files import short_hash
from curvlib.runs.provenance import recipes
from curvlib.studies import NEUTRAL

if TYPE_CHECKING:
    from curvlib.studies import Measured, Table

DATASETS = {  # as people write them
    "digits": "digits",
    "cifar10": "CIFAR-10",
    "cifar100": "CIFAR-100",
    "mnist": "MNIST",
    "fashion_mnist": "Fashion-MNIST",
    "imagenet10": "ten ImageNet classes",
    "imagenet": "ImageNet",
}
SEEDS = ("seed", "seeds")  # parameters in which records that are joined may differ
# Where and how fast to work; no number depends on them.
OF_THE_MACHINE = ("runs", "n_jobs")
NEEDED = {"study", "parameters", "recipes", "data", "seconds", "tables"}


class Record(Mapping):
    """A record that is there: its tables by name, each read when it is asked for.

    Attributes:
        folder: Where it lies.
        made: The content of ``record.json``.
        parameters: What was measured, by name: ``record.parameters.dataset``.
    """

    def __init__(self, folder: Path, made: dict[str, Any]):
        self.folder = folder
        self.made = made
        self.parameters = SimpleNamespace(**made["parameters"])
        self._read: dict[str, Table] = {}

    @classmethod
    def open(cls, folder: str | Path) -> "Record":
        """Open a record.

        Raises:
            PageError: If there is none in the folder, or it is damaged.
        """
        folder = Path(folder)
        made = described(folder)
        if made is None:
            raise PageError(
                f"there is no record in {folder}: `curvlib run "
                f"{folder.parent.name}/{folder.name}` measures it"
            )
        return cls(folder, made)

    @staticmethod
    def joined(shown: "Sequence[Record]") -> "Record":
        """One record out of several that differ only in their seeds.

        Args:
            shown: At least one. A table with a column ``seed``, and ``runs``, are put
                together, in this order; every other table comes from the first record.

        Raises:
            PageError: If they differ in anything else, or share a seed.
        """
        return shown[0] if len(shown) == 1 else _Joined(shown)

    def __getitem__(self, name: str) -> "Table":
        """A table: a data frame, an array, or the bytes of any other file."""
        if name not in self._read:
            self._read[name] = self._load(name)
        table = self._read[name]
        return table.copy() if hasattr(table, "copy") else table

    def _load(self, name: str) -> "Table":
        file = self.files().get(name)
        if file is None:
            raise KeyError(
                f"{self.folder} has no table {name!r}; it has {', '.join(self.files())}"
            )
        import numpy as np
        import pandas as pd

        try:
            content = file.read_bytes()
            if file.suffix == ".csv":
                return pd.read_csv(io.BytesIO(content))
            if file.suffix == ".parquet":
                return pd.read_parquet(io.BytesIO(content))
            if file.suffix == ".npz":
                return np.load(io.BytesIO(content), allow_pickle=False)["array"]
        except Exception as error:  # of pandas, pyarrow, zipfile or numpy
            raise PageError(f"{file} is damaged or missing: {error}") from error
        return content

    def files(self) -> dict[str, Path]:
        """Files of the tables, by name of the table."""
        return {
            name.removesuffix(".csv").removesuffix(".npz"): self.folder / name
            for name in self.made["tables"]
        }

    def __iter__(self) -> Iterator[str]:
        return iter(self.files())

    def __len__(self) -> int:
        return len(self.made["tables"])


class _Joined(Record):
    """Several records as one: what ``Record.joined`` gives."""

    def __init__(self, shown: Sequence[Record]):
        first, *others = shown
        for other in others:
            _check_only_seeds_differ(first, other)
        made = copy.deepcopy(first.made)
        together = [seed for record in shown for seed in _seeds_of(record)]
        if len(set(together)) < len(together):
            folders = ", ".join(str(record.folder) for record in shown)
            raise PageError(f"{folders} share one of the seeds {together}")
        if together:
            name = "seeds" if made["parameters"].get("seeds") else "seed"
            made["parameters"][name] = together
        super().__init__(first.folder, made)
        self._shown = shown

    def _load(self, name: str) -> "Table":
        import pandas as pd

        tables = [record[name] for record in self._shown[:1]]
        if isinstance(tables[0], pd.DataFrame) and (
            name == "runs" or "seed" in tables[0]
        ):
            tables += [record[name] for record in self._shown[1:]]
            return pd.concat(tables, ignore_index=True)
        return tables[0]


def _seeds_of(record: Record) -> list[int]:
    """Of its parameters; ``seed`` counts only where ``seeds`` is not given."""
    given = (record.made["parameters"].get(name) for name in ("seeds", "seed"))
    value = next((value for value in given if value is not None), [])
    return value if isinstance(value, list) else [value]


def _check_only_seeds_differ(one: Record, other: Record) -> None:
    def essence(record: Record) -> dict:
        parameters = record.made["parameters"].items()
        kept = {name: value for name, value in parameters if name not in SEEDS}
        return kept | {"study": record.made["study"]}

    a, b = essence(one), essence(other)
    names = sorted(n for n in a.keys() | b.keys() if a.get(n) != b.get(n))
    if names:
        raise PageError(
            f"{one.folder} and {other.folder} have the same label but differ in "
            f"{', '.join(names)}: give each its own label in experiments.yml"
        )


def default_label(study: str, parameters: Mapping[str, Any]) -> str:
    """What readers see of a record that has no label: the name of its data set.

    Example:
        >>> default_label("gallery", {"dataset": "cifar10"})
        'CIFAR-10'
        >>> default_label("gallery", {"dataset": "photos/my_folder"})
        'my_folder'
    """
    dataset = parameters.get("dataset")
    if dataset is None:
        try:
            dataset = parameters_of_study(study)["dataset"].default
        except (PageError, KeyError):  # no such study, or one without a data set
            return study.replace("_", " ")
    return DATASETS.get(dataset, Path(dataset).name)


def described(folder: Path) -> dict[str, Any] | None:
    """The content of a folder's ``record.json``; None if there is no whole record."""
    try:
        made = json.loads((folder / "record.json").read_text("utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    return made if isinstance(made, dict) and made.keys() >= NEEDED else None


def complete(study: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """All parameters of a study: those given, checked, and the defaults of the rest.

    Raises:
        PageError: If a name is unknown or a value has another type.
    """
    known = parameters_of_study(study)
    return {p.name: p.default for p in known.values()} | checked(known, given)


def identity(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters that numbers depend on, as JSON has them."""
    kept = {n: v for n, v in parameters.items() if n not in OF_THE_MACHINE}
    return json.loads(json.dumps(kept))


def why_measure(
    folder: Path,
    study: str,
    given: Mapping[str, Any],
    data: Mapping[str, str] | None = None,
) -> list[str]:
    """Reasons to measure a record again; none if it is what would be measured now.

    Args:
        folder: Folder of the record.
        study: Name of its module in ``curvlib.studies``.
        given: Parameters that differ from the study's defaults.
        data: Checksums of the data as it is now, where that is known.

    Raises:
        PageError: If there is no such study, or a parameter is wrong.
    """
    asked = identity(complete(study, given))
    made = described(folder)
    if made is None:
        return ["never measured"]
    reasons = []
    if made["study"] != study:
        reasons.append(f"study {made['study']} -> {study}")
    later = {name: value for name, value in NEUTRAL.items() if name in asked}
    then, now = later | made["parameters"], asked
    for name in sorted(then.keys() | now.keys()):
        if then.get(name) != now.get(name):
            before, after = (
                repr(values[name]) if name in values else "absent"
                for values in (then, now)
            )
            reasons.append(f"parameter {name}: {before} -> {after}")
    for part, number in recipes(parts_of_study(study)).items():
        before = made["recipes"].get(part)
        if before != number:
            reasons.append(f"recipe of {part}: {before} -> {number}")
    for split, checksum in (data or {}).items():
        if split in made["data"] and made["data"][split] != checksum:
            reasons.append(f"data changed ({split})")
    for name in made["tables"]:
        if not (folder / name).exists():
            reasons.append(f"{name} missing")
    return reasons


def measure(
    folder: Path, study: str, parameters: Mapping[str, Any], *, root: Path
) -> Record:
    """Measure, and keep what was found as a record, whole or not at all.

    Args:
        folder: Folder of the record; replaces any earlier content.
        study: Name of its module in ``curvlib.studies``.
        parameters: All of them, as ``complete`` gives them.
        root: Root folder of the project, for its commit.
    """
    from importlib import import_module

    function = import_module(f"curvlib.studies.{study}").measure
    commit = _commit(root)  # now: someone may commit meanwhile
    numbers = recipes(parts_of_study(study))
    began = time.monotonic()
    with _Peak() as peak:
        measured = function(**parameters)
    return write(
        folder,
        study,
        parameters,
        measured,
        {
            "recipes": numbers,
            "seconds": round(time.monotonic() - began, 1),
            "peak_memory_gib": round(peak.bytes / 2**30, 2),
            "commit": commit,
        },
    )


def write(
    folder: Path,
    study: str,
    parameters: Mapping[str, Any],
    measured: "Measured",
    facts: Mapping[str, Any],
) -> Record:
    """Keep tables as a record.

    Args:
        folder: Folder of the record; replaces any earlier content.
        study: Name of its module.
        parameters: All of them.
        measured: What was found.
        facts: How it was made: recipes, seconds, and anything else to keep.
    """
    from curvlib.runs.provenance import hardware, versions

    device = measured.device
    if measured.runs is not None and len(measured.runs.get("device", ())):
        device = measured.runs["device"].iloc[0]
    tables = dict(measured.tables)
    made: dict[str, Any] = {
        "study": study,
        "parameters": identity(parameters),
        "data": dict(measured.data),
        "date": datetime.now(UTC).isoformat(timespec="minutes"),
        "hardware": hardware(device),
        "versions": versions(),
    }
    if measured.runs is not None:
        tables["runs"] = measured.runs
        seconds = measured.runs[["train_seconds", "score_seconds"]].sum().sum()
        made["training"] = {
            "runs": len(measured.runs),
            "seconds": round(float(seconds), 1),
        }
    made |= facts
    contents = dict(_file(name, table) for name, table in tables.items())
    made["tables"] = {name: short_hash(content) for name, content in contents.items()}
    folder.parent.mkdir(parents=True, exist_ok=True)
    staging = folder.with_name(f".{folder.name}.partial-{os.getpid()}")
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir()
    try:
        for name, content in contents.items():
            (staging / name).write_bytes(content)
        text = json.dumps(made, indent=1, ensure_ascii=False) + "\n"
        (staging / "record.json").write_text(text, encoding="utf-8")
        if folder.exists():
            old = folder.with_name(f".{folder.name}.old-{os.getpid()}")
            folder.rename(old)
            staging.rename(folder)
            shutil.rmtree(old)
        else:
            staging.rename(folder)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return Record.open(folder)


def _file(name: str, table: "Table") -> tuple[str, bytes]:
    """Name and content of the file that keeps a table."""
    import numpy as np

    if isinstance(table, bytes):
        return name, table
    if isinstance(table, np.ndarray):
        buffer = io.BytesIO()
        np.savez_compressed(buffer, array=table)
        return f"{name}.npz", buffer.getvalue()
    if name.endswith(".parquet"):
        return name, table.to_parquet(index=False, compression="zstd")
    return f"{name}.csv", table.to_csv(index=False, lineterminator="\n").encode()


def known_parameters(record: Record, meanings: Mapping[str, Parameter]) -> dict:
    """Parameters of a record's study, each with the meaning that its notebook gives."""
    known = parameters_of_study(record.made["study"])
    return {
        name: parameter._replace(meaning=meanings[name].meaning)
        if name in meanings
        else parameter
        for name, parameter in known.items()
        if name not in OF_THE_MACHINE
    }


def content_hash(folder: Path) -> str | None:
    """Hash of a record's description, tables included; None if there is no record."""
    file = folder / "record.json"
    return short_hash(file.read_bytes()) if file.exists() else None


def _commit(root: Path) -> str | None:
    git = ["git", "-C", str(root), "rev-parse", "HEAD"]
    try:
        done = subprocess.run(git, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None  # not in git, or no git: a downloaded archive is fine too
    return done.stdout.strip()


class _Peak:
    """Largest memory of this process and its children, looked at now and then."""

    def __init__(self):
        import threading

        self.bytes = 0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)

    def __enter__(self) -> "_Peak":
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._done.set()
        self._thread.join()

    def _follow(self) -> None:
        import contextlib

        import psutil

        own = psutil.Process()
        while True:
            total = 0
            for process in (own, *own.children(recursive=True)):
                with contextlib.suppress(psutil.Error):  # it may have ended just now
                    total += process.memory_info().rss
            self.bytes = max(self.bytes, total)
            if self._done.wait(0.5):
                return
