"""Which files a data set consists of: class folders, or a CSV of paths and labels.

Operating systems and tools leave their own files beside the images: thumbnails,
settings of a file manager, checkpoints of an editor, parts of a download. ``leftover``
recognises them by their names, at any depth. They are counted, but never read as data,
and they never change the index of a sample.
"""

import codecs
import csv
import io
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from torchvision.datasets.folder import IMG_EXTENSIONS

# Folders that systems and tools make, in lower case. Hidden ones need no name here.
TOOL_FOLDERS = frozenset(
    {
        "__macosx",  # macOS, in archives
        "__pycache__",
        "@eadir",  # Synology
        "@tmp",
        "@recycle",  # QNAP
        "#recycle",
        "#snapshot",
        "$recycle.bin",  # Windows
        "recycler",
        "system volume information",
        "lost+found",  # Linux
        "network trash folder",  # macOS
        "temporary items",
    }
)
TOOL_FILES = frozenset(
    {"thumbs.db", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini", "icon\r"}
)
# Backups and locks of editors, and files that were still being written.
UNFINISHED = re.compile(
    r"~$|^~\$|^#.*#$"
    r"|\.(tmp|temp|part|partial|filepart|crdownload|download|opdownload|aria2"
    r"|swp|swo|bak|orig|lock)$",
    re.IGNORECASE,
)
# Names of the folders of each split; the first that is there counts.
SPLITS = {"train": ("train",), "test": ("val", "valid", "validation", "test")}
NOT_READ = (".gif", ".jfif", ".heic", ".heif", ".avif", ".jp2")
CSV_COLUMNS = ("path", "label")


def leftover(path: str) -> bool:
    """Whether the path of a file looks like a leftover of a system or a tool.

    Hidden files and folders count: those whose name begins with a dot.

    Args:
        path: Relative to the folder of the data set, with ``/`` between its parts.

    Example:
        >>> [leftover(p) for p in ("cat/1.jpg", "cat/._1.jpg", "cat/@eaDir/1.jpg")]
        [False, True, True]
    """
    *above, name = path.split("/")
    return (
        any(_made_by_a_tool(folder) for folder in above)
        or name.startswith(".")
        or name.lower() in TOOL_FILES
        or UNFINISHED.search(name) is not None
    )


def _made_by_a_tool(folder: str) -> bool:
    return folder.startswith(".") or folder.lower() in TOOL_FOLDERS


def class_names(folder: str | Path) -> list[str]:
    """Names of the class folders in a folder, sorted.

    Hidden folders, and those that systems and tools create, are not classes.

    Raises:
        OSError: If the folder cannot be read.
    """
    with os.scandir(folder) as entries:
        return sorted(
            entry.name
            for entry in entries
            if entry.is_dir() and not _made_by_a_tool(entry.name)
        )


def splits(place: str | Path) -> dict[str, Path]:
    """Find the folders of class folders in a folder, by split; or a CSV file.

    Args:
        place: A folder with ``train/<class>/``, and ``val/<class>/`` or
            ``test/<class>/`` for the test split; a folder of class folders, which is a
            training set without a test split; or a CSV file, likewise.

    Returns:
        The existing ones of the paths ``"train"`` and ``"test"``.

    Raises:
        FileNotFoundError: If the place has no class folders.
    """
    place = Path(place)
    if place.suffix.lower() == ".csv" and place.is_file():
        return {"train": place}
    if not place.is_dir():
        kind = "file" if place.suffix.lower() == ".csv" else "folder"
        raise FileNotFoundError(f"there is no {kind} {place}")
    found = {
        split: next((place / n for n in names if (place / n).is_dir()), None)
        for split, names in SPLITS.items()
    }
    found = {split: folder for split, folder in found.items() if folder is not None}
    names = class_names(place)
    others = set(names).difference(*SPLITS.values())
    # In {car, plane, train} "train" is a class: it holds images, and no folders.
    if found and not (others and all(_holds_images(f) for f in found.values())):
        return found
    if not names or not _some_image(place, names):
        raise FileNotFoundError(
            f"there is neither a folder train nor val in {place}, nor are there class "
            "folders with images; put the images of each class into a folder of its own"
        )
    return {"train": place}


def _holds_images(folder: Path) -> bool:
    """Whether images lie directly in a folder, and none in folders below it."""
    names = class_names(folder)
    with os.scandir(folder) as entries:
        directly = any(_picture(entry.name) for entry in entries)
    return directly and not _some_image(folder, names)


def _some_image(folder: Path, names: list[str]) -> bool:
    return any(
        _picture(file)
        for name in names
        for _, files in walk(str(folder / name))
        for file in files
    )


def _picture(name: str) -> bool:
    return (is_image(name) or is_other_picture(name)) and not leftover(name)


def is_image(name: str) -> bool:
    """Whether a file is an image by its extension, as torchvision sees it."""
    return name.lower().endswith(IMG_EXTENSIONS)


def is_other_picture(name: str) -> bool:
    """Whether a file is a picture by its extension, but of a kind that is not read."""
    return name.lower().endswith(NOT_READ)


@dataclass(frozen=True)
class Listing:
    """The files of a data set, in the order of its samples.

    Attributes:
        base: The folder that paths are relative to.
        files: Class and size in bytes by path, in order; -1 for a link that leads
            nowhere.
        extras: Remark and size in bytes of each file that is not part of the data.
    """

    base: Path
    files: dict[str, tuple[str, int]]
    extras: dict[str, tuple[str, int]]


LEFT_BEHIND = "left behind by a system or a tool, no image by its name or folder"
IN_NO_CLASS = "in no class folder"


def list_folder(folder: Path) -> Listing:
    """List every file below the class folders, in torchvision's order.

    That is the order of classes, then of folders within a class, then of names. Links
    are followed, but never round a loop.

    Raises:
        FileNotFoundError: If there is no such folder, or no class folder in it.
        ValueError: If a class folder holds no file although others do.
    """
    if not folder.is_dir():
        raise FileNotFoundError(
            f"there is no folder {folder}; it should hold a folder of images per class"
        )
    classes = class_names(folder)
    if not classes:
        raise FileNotFoundError(
            f"{folder} holds no folders; each class needs one, with its images in it"
        )
    files: dict[str, tuple[str, int]] = {}
    extras: dict[str, tuple[str, int]] = {}
    with os.scandir(folder) as entries:
        beside = sorted(e.name for e in entries if e.name not in classes)
    for name in beside:
        if (folder / name).is_dir():  # a tool's, or it were a class
            for path, size in _files_in(folder, name):
                extras[path] = LEFT_BEHIND, size
        else:
            path, size = _printable(name), _size(folder / name)
            extras[path] = LEFT_BEHIND if leftover(path) else IN_NO_CLASS, size
    empty = set(classes)
    for name in classes:
        for path, size in _files_in(folder, name):
            # The class's own name is not judged: it has been, by class_names.
            if leftover(path.split("/", 1)[1]):
                extras[path] = LEFT_BEHIND, size
            else:
                files[path] = _printable(name), size
                empty.discard(name)
    if files and empty:
        raise ValueError(
            f"{folder / min(empty)} holds no file, or none that may be read; each "
            "class needs an image: remove the folder, or fill it"
        )
    return Listing(folder, files, extras)


def _files_in(folder: Path, name: str) -> Iterator[tuple[str, int]]:
    """Path relative to the folder, and size, of every file below one folder in it."""
    for below, names in sorted(walk(str(folder / name))):
        for file in names:
            path = os.path.join(below, file)
            yield _printable(os.path.relpath(path, folder)), _size(path)


def _printable(path: str) -> str:
    # Names are bytes to the system, and need not be UTF-8: such are shown escaped.
    path = path.replace(os.sep, "/")
    return os.fsencode(path).decode(errors="backslashreplace")


def _size(path: str | Path) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return -1  # a link that leads nowhere


def walk(folder: str | Path) -> Iterator[tuple[str, list[str]]]:
    """Folders and their files, through links but never back to a folder further up.

    Args:
        folder: To begin with.

    Yields:
        A folder and the sorted names of what lies directly in it, folders left out.
    """
    folder = str(folder)
    above = {folder: _upwards(folder)}
    for below, folders, names in os.walk(folder, followlinks=True):
        yield below, sorted(names)
        known = above.pop(below)
        ways = {name: _upwards(os.path.join(below, name)) for name in folders}
        folders[:] = [name for name in folders if ways[name][0] not in known]
        for name in folders:
            above[os.path.join(below, name)] = known + ways[name]


def _upwards(folder: str) -> list[str]:
    """Where a folder really is, and all those it is in."""
    real = Path(os.path.realpath(folder))
    return [str(real), *map(str, real.parents)]


def list_csv(file: Path) -> Listing:
    """List the files in a CSV with columns ``path`` and ``label``, in its order.

    Paths are relative to the CSV, or absolute. Labels are text; spaces around them are
    dropped. Other columns are ignored. Values are separated by commas, semicolons or
    tabs.

    Raises:
        FileNotFoundError: If there is no such file, or an image that it names is
            missing.
        ValueError: If it is not UTF-8 text, lacks a column or has no rows; if a row has
            too few or too many cells, no path, no label, or the path of an earlier row.
            The message names the row; the header is row 1.
    """
    if not file.is_file():
        raise FileNotFoundError(f"there is no file {file}")
    rows = _csv_rows(file)
    base = file.parent
    files: dict[str, tuple[str, int]] = {}
    seen: dict[str, int] = {}  # row of each file, wherever links lead
    missing: list[tuple[int, str]] = []
    for number, path, label in rows:
        if not path:
            raise ValueError(f"{file}: row {number} has no path")
        if not label:
            raise ValueError(
                f"{file}: row {number} has no label ({path}); give it one, or remove "
                "the row"
            )
        path = _with_slashes(base, path)
        real = os.path.realpath(base / path)
        if real in seen:
            raise ValueError(
                f"{file}: row {number} repeats the path of row {seen[real]}: {path}; "
                "each image needs one row, with one label"
            )
        seen[real] = number
        if not os.path.isfile(real):
            missing.append((number, path))
        files[path] = label, _size(real)
    if missing:
        number, path = missing[0]
        more = f" (first of {len(missing)} that are missing)" if missing[1:] else ""
        raise FileNotFoundError(
            f"{file}: row {number}: there is no file {path} in {base.resolve()}{more}; "
            "paths are relative to the CSV file"
        )
    return Listing(base, files, {})


def _with_slashes(base: Path, path: str) -> str:
    """A path as it was given, or with slashes if it was written on Windows."""
    slashes = path.replace("\\", "/")
    there = os.path.isfile(base / slashes) and not os.path.isfile(base / path)
    return slashes if there else path


def relabelled_csv(file: Path, labels: Mapping[int, str | None], out: Path) -> bytes:
    """The content of a CSV of images with some labels replaced; all else stays.

    Args:
        file: A CSV that ``list_csv`` reads.
        labels: New labels by row, from 0; None: the row is left out.
        out: Where the content will be written. In another folder, relative paths are
            made to lead to the same files.
    """
    content = file.read_bytes()
    text, separator = csv_text(file, content)
    (_, header), *rows = _csv_cells(file, text, separator)
    path, label = _csv_columns(file, header)
    here, there = out.resolve().parent, file.resolve().parent
    # A cell with a line end of either kind is quoted under the longer one.
    ends = {"lineterminator": "\r\n" if "\r" in text else "\n"}
    written = io.StringIO(newline="")
    writer = csv.writer(written, delimiter=separator, **ends)
    writer.writerow(header)
    for row, (_, cells) in enumerate(rows):
        new = labels.get(row, cells[label])
        if new is None:
            continue
        cells[label] = new
        if here != there:
            shown = Path(_with_slashes(file.parent, cells[path].strip()))
            if not shown.is_absolute():
                cells[path] = os.path.relpath(there / shown, here)
        writer.writerow(cells)
    marked = content.startswith(codecs.BOM_UTF8)  # as Excel does
    return written.getvalue().encode("utf-8-sig" if marked else "utf-8")


def _csv_rows(file: Path) -> list[tuple[int, str, str]]:
    """Number, path and label of each row that is not empty; the header is row 1."""
    (_, header), *rows = _csv_cells(file, *csv_text(file, file.read_bytes()))
    path, label = _csv_columns(file, header)
    return [(n, cells[path].strip(), cells[label].strip()) for n, cells in rows]


def csv_text(file: Path, content: bytes, errors: str = "strict") -> tuple[str, str]:
    """The text of a CSV, and what separates its values: a comma, a semicolon or a tab.

    Args:
        file: Its name, for messages.
        content: Its bytes, UTF-8 with or without a byte order mark.
        errors: What to do with other bytes, as for ``bytes.decode``.

    Raises:
        ValueError: If it is not UTF-8 text.
    """
    try:
        text = content.decode("utf-8-sig", errors)
        if "\0" in text:
            raise UnicodeError
    except UnicodeError as error:
        raise ValueError(
            f"{file} is no text in UTF-8; save it as CSV in UTF-8"
        ) from error
    first = text.split("\n", 1)[0]
    return text, max(",;\t", key=first.count)


def _csv_cells(file: Path, text: str, separator: str) -> list[tuple[int, list[str]]]:
    """Number and cells of the header, which is row 1, and of all rows with text."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    rows: list[tuple[int, list[str]]] = []
    number = 0
    try:
        for number, cells in enumerate(reader, start=1):
            if not rows:
                _csv_columns(file, cells)
            elif not any(cell.strip() for cell in cells):
                continue
            elif len(cells) != len(rows[0][1]):
                raise ValueError(
                    f"{file}: row {number} has {len(cells)} cells, and the header has "
                    f"{len(rows[0][1])}; put values that contain {separator!r} in "
                    "double quotes"
                )
            rows.append((number, cells))
    except csv.Error as error:
        raise ValueError(
            f"{file}: row {number + 1} cannot be read ({error})"
        ) from error
    if len(rows) < 2:
        raise ValueError(f"{file} has no rows; it needs a header and one row per image")
    return rows


def _csv_columns(file: Path, cells: list[str]) -> tuple[int, int]:
    """Where the path and the label are in each row, by the header."""
    header = [cell.strip().lower() for cell in cells]
    if [header.count(column) for column in CSV_COLUMNS] != [1, 1]:
        raise ValueError(
            f"{file} needs one column path and one column label, named in its first "
            f"row; that row is: {', '.join(cells) or '(empty)'}"
        )
    path, label = (header.index(column) for column in CSV_COLUMNS)
    return path, label


def in_order(labels: list[str]) -> list[str]:
    """Sort class names: as numbers if all are whole numbers, otherwise as text.

    Example:
        >>> in_order(["10", "9", "1"]), in_order(["b", "10", "a"])
        (['1', '9', '10'], ['10', 'a', 'b'])
    """
    unique = set(labels)
    if all(re.fullmatch(r"-?[0-9]+", label) for label in unique):
        return sorted(unique, key=lambda label: (int(label), label))
    return sorted(unique)
