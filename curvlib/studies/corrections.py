"""Decisions about suspects: read them, check them, and write corrected labels.

A *decision* says that the label of a sample is wrong, right, or unsure. Decisions are
read from a CSV with the columns ``path`` or ``index``, ``decision`` and ``label`` (the
correction of a wrong label; empty: no label fits, and the sample is left out). Two more
columns tie decisions to their data: ``given_label``, the label when the decision was
made, and ``source``, the checksum of the data.

The source never changes: the results are a new file or a copy.
"""

import csv
import io
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from curvlib.data import Images, files
from curvlib.data.folders import Photographs
from curvlib.files import write_atomically, write_parts

_FORMULA = re.compile(r"^'(?='*[=+\-@\t\r])")
DECISIONS = ("wrong", "right", "unsure")
ROWS = 20_000  # of a table, that are text at once
LEFT_OUT = -1  # in place of a corrected label: the sample has none


@dataclass(frozen=True, kw_only=True, eq=False)
class Decisions:
    """Checked decisions about the samples of one data set.

    Attributes:
        positions: Of the samples decided about, int64 [M], ascending.
        decision: One of ``DECISIONS`` for each, [M].
        label: Its label now, int64 [M]: the given one, a corrected one, or
            ``LEFT_OUT``.
    """

    positions: np.ndarray
    decision: np.ndarray
    label: np.ndarray

    def __len__(self) -> int:
        return len(self.positions)

    @property
    def settled(self) -> np.ndarray:
        """Bool [M]: whether the sample needs no further look."""
        return self.decision != "unsure"

    def counts(self) -> dict[str, int]:
        """How many are wrong, right, unsure, and how many are left out."""
        found = {name: int((self.decision == name).sum()) for name in DECISIONS}
        return found | {"left_out": int((self.label == LEFT_OUT).sum())}


def paths_of(images: Images) -> list[str] | None:
    """Path of each photograph below its folder; None for images that have no file."""
    if not isinstance(images.images, Photographs):
        return None
    return [os.fsdecode(name) for name in images.images.names]


def read_decisions(file: str | Path, images: Images) -> Decisions:
    """Read decisions and check that they are about these images.

    Args:
        file: A CSV file as in the module's description.
        images: With the labels that the decisions are about.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file has another layout, a value is unknown, or it is about
            another source; the message names the first row that is wrong.
    """
    file = Path(file)
    if not file.is_file():
        raise FileNotFoundError(f"there is no file {file} of decisions")
    table = _read_table(file)
    positions = _positions(file, table, images)
    if missing := {"decision", "label"} - set(table.columns):
        raise ValueError(
            f"{file} lacks the column {min(missing)}; it has {', '.join(table.columns)}"
        )
    if "source" in table and (table["source"] != images.checksum).any():
        raise ValueError(
            f"{file} is about another source than {images.name}: its data has the "
            f"checksum {table['source'][table['source'] != images.checksum].iloc[0]}, "
            f"this has {images.checksum}; were labels corrected already?"
        )
    if not {"source", "given_label"} & set(table.columns) and paths_of(images) is None:
        raise ValueError(
            f"{file} has neither a column source nor given_label, so that nothing says "
            "which data its indices are of; add the labels as they were given"
        )
    number = {name: i for i, name in enumerate(images.classes)}
    labels = images.labels[positions].copy()
    for row, (number_of_row, decision, label) in enumerate(
        zip(table.index, table["decision"], table["label"], strict=True)
    ):
        where = f"{file}, row {number_of_row}"
        given = images.classes[labels[row]]
        if "given_label" in table and table["given_label"].iloc[row] != given:
            raise ValueError(
                f"{where}: the label was {table['given_label'].iloc[row]!r} when the "
                f"decision was made, and is {given!r} in {images.name}: these "
                "decisions are for another source"
            )
        if decision not in DECISIONS:
            raise ValueError(
                f"{where}: the decision must be one of {', '.join(DECISIONS)}, got "
                f"{decision!r}"
            )
        if decision != "wrong":
            continue
        if label and label not in number:
            raise ValueError(
                f"{where}: unknown label {label!r}; the classes are "
                f"{', '.join(images.classes[:10])}"
                + (", ..." if len(images.classes) > 10 else "")
            )
        if label == given:
            raise ValueError(
                f"{where}: the decision is wrong, but the label stays {given!r}; give "
                "the right one, or leave it empty to leave the sample out"
            )
        labels[row] = number[label] if label else LEFT_OUT
    order = np.argsort(positions)
    return Decisions(
        positions=positions[order],
        decision=table["decision"].to_numpy(dtype=str)[order],
        label=labels[order],
    )


def _read_table(file: Path) -> pd.DataFrame:
    """The text in a CSV; the index is the number of each row, the header is row 1.

    Values are separated by commas, semicolons or tabs, and empty rows left out, as
    spreadsheets write them. Names of files may hold bytes that are no text.
    """
    try:
        content = file.read_bytes()
    except OSError as error:
        raise ValueError(f"{file} cannot be read: {error.strerror}") from error
    text, separator = files.csv_text(file, content, errors="surrogateescape")
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    try:
        rows = [(n, cells) for n, cells in enumerate(reader, 1) if any(cells)]
    except csv.Error as error:
        raise ValueError(f"{file} is no CSV of decisions: {error}") from error
    if not rows:
        raise ValueError(f"{file} is no CSV of decisions: it is empty")
    (_, header), *rows = rows
    for name in header:
        if header.count(name) > 1:
            raise ValueError(f"{file} has two columns {name!r}; keep one")
    for number, cells in rows:
        if len(cells) != len(header):
            raise ValueError(
                f"{file}, row {number} has {len(cells)} values, and the header has "
                f"{len(header)}; put values that contain {separator!r} in double quotes"
            )
    table = pd.DataFrame(
        [cells for _, cells in rows],
        index=[number for number, _ in rows],
        columns=pd.Index(header, dtype=object),
        dtype=object,
    )
    # The report puts ' before text that a spreadsheet would take for a formula.
    return table.map(lambda text: _FORMULA.sub("", text))


def _positions(file: Path, table: pd.DataFrame, images: Images) -> np.ndarray:
    """Where in the images each row's sample is, found by path or by index."""
    paths = paths_of(images)
    key = "path" if paths is not None and "path" in table else "index"
    if key not in table:
        wanted = "path" if paths is not None else "index"
        raise ValueError(
            f"{file} lacks the column {wanted}; it has {', '.join(table.columns)}"
        )
    if not len(table):
        raise ValueError(f"{file} holds no decision")
    names = paths if key == "path" else [str(i) for i in images.index]
    place = {name: i for i, name in enumerate(names)}
    found = [place.get(name, -1) for name in table[key]]
    for row, name, position in zip(table.index, table[key], found, strict=True):
        if position < 0:
            raise ValueError(
                f"{file}, row {row}: {images.name} has no image with the {key} "
                f"{name!r}: these decisions are for another source"
            )
    positions = np.array(found, np.int64)
    if len(np.unique(positions)) < len(positions):
        values, counts = np.unique(positions, return_counts=True)
        raise ValueError(
            f"{file} decides {counts.max()} times about the {key} "
            f"{names[values[counts > 1][0]]!r}; keep one row"
        )
    return positions


def corrected(images: Images, decisions: Decisions) -> np.ndarray:
    """Labels after the decisions, int64 [N]; ``LEFT_OUT`` where no label fits."""
    labels = images.labels.copy()
    labels[decisions.positions] = decisions.label
    return labels


def write_labels(images: Images, labels: np.ndarray, file: str | Path) -> None:
    """Write a CSV with a row for each sample that has a label.

    Columns: path (below the folder of the images) or index, and label, the name of the
    class.

    Args:
        images: N samples.
        labels: Result of ``corrected``.
        file: To write.
    """
    kept = np.flatnonzero(labels != LEFT_OUT)
    paths = paths_of(images)
    key = "index" if paths is None else "path"
    values = images.index[kept] if paths is None else [paths[i] for i in kept]
    names = [images.classes[labels[i]] for i in kept]
    write_table(file, pd.DataFrame({key: values, "label": names}))


def write_csv(source: Path, images: Images, labels: np.ndarray, file: Path) -> None:
    """Write the CSV that images were loaded from, with the corrected labels.

    Its other columns and rows stay as they are, and so do rows of broken files. Samples
    that are left out have no row. The file can be loaded where it is written.

    Args:
        source: The CSV.
        images: N samples, loaded from it.
        labels: As ``corrected`` returns them.
        file: To write.
    """
    changed = np.flatnonzero(labels != images.labels)
    names = [None if c == LEFT_OUT else images.classes[c] for c in labels[changed]]
    rows = dict(zip(images.index[changed].tolist(), names, strict=True))
    write_atomically(file, files.relabelled_csv(source, rows, file))


def write_npz(
    images: Images, labels: np.ndarray, file: str | Path, test: Images | None = None
) -> None:
    """Write an ``.npz`` that ``curvlib.load`` reads, with the corrected labels.

    Raises:
        ValueError: If the images are photographs in files.
    """
    if isinstance(images.images, Photographs):
        raise ValueError(
            f"{images.name} is photographs in files; write its labels to a .csv, or "
            "give --move to copy the folder"
        )
    kept = labels != LEFT_OUT
    arrays = {
        "train_images": images.images[kept],
        "train_labels": labels[kept],
        "classes": np.array(images.classes),
    }
    if test is not None:
        arrays |= {"test_images": test.images, "test_labels": test.labels}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    write_atomically(Path(file), buffer.getvalue())


def moves(images: Images, labels: np.ndarray) -> pd.DataFrame:
    """What to move for class folders to say the corrected labels.

    Returns:
        One row per file: from, and to, both below the folder of the images; to is empty
        for a file that is left out. No two files get one name.
    """
    paths = paths_of(images)
    if paths is None:
        raise ValueError(f"{images.name} has no files that could be moved")
    taken, rows = set(paths), []
    for i in np.flatnonzero(labels != images.labels):
        there, target = Path(paths[i]), ""
        if labels[i] != LEFT_OUT:
            # Deeper folders are kept, so that a name says where a file came from.
            inner = Path(*there.parts[1:])
            wanted = Path(images.classes[labels[i]]) / inner
            number = 1
            while (target := wanted.as_posix()) in taken:
                number += 1
                wanted = wanted.with_name(f"{inner.stem}-{number}{inner.suffix}")
            taken.add(target)
        rows.append({"from": paths[i], "to": target})
    return pd.DataFrame(rows, columns=["from", "to"])


def copy_moved(source: Path, images: Images, table: pd.DataFrame, out: Path) -> None:
    """Copy a folder, with files moved as a table says; the source stays as it is.

    The copy appears under its name when it is whole.

    Args:
        source: The folder that was loaded, with or without ``train/``.
        images: Loaded from it.
        table: Result of ``moves``.
        out: The copy; must not exist.
    """
    inside = Path(images.images.folder).resolve().relative_to(source.resolve())
    partial = out.with_name(f".{out.name}.partial-{os.getpid()}")
    try:
        for below, names in files.walk(source):
            there = partial / os.path.relpath(below, source)
            there.mkdir(parents=True)
            for name in names:
                if not _an_index(name) and os.path.isfile(os.path.join(below, name)):
                    shutil.copy2(os.path.join(below, name), there / name)
        folder = partial / inside
        for start, target in zip(table["from"], table["to"], strict=True):
            if not target:
                (folder / start).unlink()
                continue
            (folder / target).parent.mkdir(parents=True, exist_ok=True)
            os.replace(folder / start, folder / target)
        os.replace(partial, out)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def _an_index(name: str) -> bool:
    return name.startswith("curvlib-") and name.endswith(".csv")


def write_table(file: str | Path, table: pd.DataFrame) -> None:
    """Write a CSV whole or not at all; any text in it can be read back."""
    how = {"index": False, "quoting": csv.QUOTE_MINIMAL, "lineterminator": "\n"}
    parts = (
        table.iloc[start : start + ROWS].to_csv(header=not start, **how)
        for start in range(0, max(len(table), 1), ROWS)
    )
    write_parts(Path(file), (part.encode("utf-8", "surrogateescape") for part in parts))
