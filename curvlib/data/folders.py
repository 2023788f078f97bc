"""Photographs in class folders: an index of the files, and pixels read when needed.

ImageNet does not fit into memory, and a folder of a million files holds some that are
broken. So each folder is looked through once, every file decoded, and what was found is
kept in an *index file*, which also fixes the order of the samples. After that, images
are decoded when they are asked for, by worker processes, and memory stays flat.
"""

import csv
import hashlib
import os
import warnings
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import torch
from filelock import FileLock
from PIL import Image, UnidentifiedImageError
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.datasets import ImageFolder
from torchvision.datasets.folder import IMG_EXTENSIONS, pil_loader
from torchvision.transforms import v2

from curvlib.data import progress
from curvlib.data.seeding import seeded
from curvlib.trace import write_atomically

SMALLEST = 8  # pixels on a side: less is no picture of anything
LARGEST = 100_000_000  # pixels: a file of a few kB can ask for terabytes
LONGEST = 20  # times as long as wide: the short side is what is resized
POLICIES = ("stop", "skip")
COLUMNS = ("index", "path", "class", "status", "remark", "bytes", "crc32")
WHOLE = slice(None)
RESIZED = 256 / 224  # shorter side before the centre is cut out, as usual on ImageNet
PICTURES = (".gif", ".jfif", ".heic", ".heif", ".avif", ".jp2")  # not torchvision's
# Kept as they are, but worth knowing: mode of the file, and what becomes of it.
REMARKS = {
    "L": "grey, read as RGB",
    "1": "black and white, read as RGB",
    "LA": "grey with transparency, read as RGB",
    "P": "palette, read as RGB",
    "CMYK": "CMYK, read as RGB",
    "YCbCr": "YCbCr, read as RGB",
    "RGBA": "transparency, which is dropped",
}


class BrokenFileError(OSError):
    """A file that could be read when its folder was indexed, and no longer can."""


def index_of(folder: str | Path, *, workers: int | None = None) -> pd.DataFrame:
    """Read the index of a folder of class folders; make it if there is none.

    The index is a CSV file beside the folder, ``curvlib-<name>.csv``, or in
    ``default_root()`` where that place cannot be written to. Each file has
    one row, in order of class and name; a row's number is the sample's index for good.
    To make it every file is decoded once. It is the report of what is broken, too.

    Args:
        folder: Such as ``imagenet/train``, with one folder a class.
        workers: Processes that decode; None: one a core.

    Returns:
        One row a file: ``index``; ``path`` relative to the folder; ``class``;
        ``status``, one of ``used``, ``broken`` and ``ignored`` (no image by its name);
        ``remark``, what is wrong or unusual, or empty; ``bytes``; ``crc32`` of the
        content, hexadecimal.

    Raises:
        FileNotFoundError: If there is no such folder, no class folder or no file in it.
        ValueError: If the index is damaged, or files were added, taken away or changed
            in size since it was made.
    """
    folder = Path(folder)
    listed = _listing(folder)
    if not listed:
        raise FileNotFoundError(f"the class folders in {folder} hold no files")
    file = index_file(folder)
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        # Of the processes of a run, one makes it, and the others find it made.
        with FileLock(file.with_name(f".{file.name}.lock")):
            if not file.exists():
                table = _examine_all(folder, listed, workers or usable_cores())
                text = table.to_csv(index=False, quoting=csv.QUOTE_NONNUMERIC)
                write_atomically(file, text.encode())
    try:
        table = pd.read_csv(
            file,
            dtype={"path": str, "class": str, "remark": str, "crc32": str},
            keep_default_na=False,
        )
        if tuple(table.columns) != COLUMNS or len(table) == 0:
            raise ValueError(f"its columns are {', '.join(table.columns)}")
    except ValueError as error:
        raise ValueError(
            f"{file} is no index of images ({error}); delete it to make it again"
        ) from error
    _refuse_changes(file, table, listed)
    return table


def summary(index: pd.DataFrame) -> str:
    """Say how many files are used, what is unusual, and why others are broken."""
    counts = index["status"].value_counts()
    lines = [
        f"{len(index)} files in {index['class'].nunique()} class folders: "
        + ", ".join(f"{counts.get(s, 0)} {s}" for s in ("used", "broken", "ignored"))
    ]
    broken = index[index["status"] == "broken"]
    lines += [
        f"  broken: {path!r}: {remark}"
        for path, remark in zip(broken["path"], broken["remark"], strict=True)
    ]
    for status in ("ignored", "used"):
        rows = index[(index["status"] == status) & (index["remark"] != "")]
        for remark, some in rows.groupby("remark", sort=False):
            more = f" and {len(some) - 1} more" if len(some) > 1 else ""
            lines.append(f"  {status}: {remark}: {some['path'].iloc[0]!r}{more}")
    return "\n".join(lines)


def usable_cores() -> int:
    """Cores that this process may use, shared among the processes of a run."""
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # not on every system
        cores = os.cpu_count() or 1
    return max(1, cores // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


def default_root() -> Path:
    """The folder of the data sets: ``$CURVLIB_DATA``, else a cache folder."""
    if found := os.environ.get("CURVLIB_DATA"):
        return Path(found)
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "curvlib"


def index_file(folder: str | Path) -> Path:
    """Where the index of a folder is, or would be made."""
    folder = Path(folder).resolve()
    beside = folder.with_name(f"curvlib-{folder.name}.csv")
    if beside.exists() or os.access(folder.parent, os.W_OK):
        return beside
    place = hashlib.sha256(str(folder).encode()).hexdigest()[:10]
    return default_root() / "indices" / f"{folder.parent.name}-{place}-{beside.name}"


class _Classes(ImageFolder):
    """torchvision's, without the folders that systems leave behind."""

    def find_classes(self, directory: str) -> tuple[list[str], dict[str, int]]:
        names = class_names(directory)
        if not names:
            raise FileNotFoundError
        return names, {name: i for i, name in enumerate(names)}

    @staticmethod
    def make_dataset(directory, class_to_idx, **_) -> list[tuple[str, int]]:
        """Every file and its class; torchvision's own goes round a loop of links."""
        return [
            (os.path.join(below, name), label)
            for one_class, label in class_to_idx.items()
            for below, names in sorted(_walk(os.path.join(directory, one_class)))
            for name in names
        ]


def _walk(folder: str) -> Iterator[tuple[str, list[str]]]:
    """Folders and their files, through links but never back to a folder further up."""
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


def class_names(folder: str | Path) -> list[str]:
    """Names of the class folders in a folder, in order; hidden ones are none."""
    with os.scandir(folder) as entries:
        return sorted(
            entry.name
            for entry in entries
            if entry.is_dir() and not entry.name.startswith((".", "__MACOSX"))
        )


def _listing(folder: Path) -> dict[str, tuple[str, int]]:
    """Class and bytes of every file below the class folders, in order, by path."""
    if not folder.is_dir():
        raise FileNotFoundError(
            f"there is no folder {folder}; it should hold one folder of images a class"
        )
    try:
        # Every file, whatever its name; the order is torchvision's.
        found = _Classes(folder, is_valid_file=lambda _: True, allow_empty=True)
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"{folder} holds no folders; each class needs one, with its images in it"
        ) from error
    listed = {}
    for path, label in found.samples:
        name = os.path.relpath(path, folder).replace(os.sep, "/")
        # Names are bytes to the system, and need not be UTF-8: such are shown escaped.
        name = os.fsencode(name).decode(errors="backslashreplace")
        try:
            size = os.stat(path).st_size
        except OSError:
            size = -1  # a link that leads nowhere
        listed[name] = found.classes[label], size
    empty = set(found.classes) - {label for label, _ in listed.values()}
    if listed and empty:
        raise ValueError(
            f"{folder / min(empty)} holds no file, or none that may be read; each "
            "class needs an image: remove the folder, or fill it"
        )
    return listed


def _refuse_changes(file: Path, table: pd.DataFrame, listed: dict) -> None:
    indexed = dict(zip(table["path"], table["bytes"], strict=True))
    there = {name: size for name, (_, size) in listed.items()}
    if indexed == there:
        return
    changes = [
        (f"{len(names)} {what}, such as {min(names)!r}")
        for what, names in (
            ("new", there.keys() - indexed.keys()),
            ("gone", indexed.keys() - there.keys()),
            (
                "of another size",
                {n for n in there.keys() & indexed.keys() if there[n] != indexed[n]},
            ),
        )
        if names
    ]
    raise ValueError(
        f"the files are no longer those of {file}: {'; '.join(changes)}. Put them "
        "back, or delete that file to index the folder anew: samples then get new "
        "indices, and earlier runs are of other data"
    )


def _examine_all(folder: Path, listed: dict, workers: int) -> pd.DataFrame:
    names = list(listed)
    parts = [names[i : i + 500] for i in range(0, len(names), 500)]
    if len(parts) < 4:
        workers = 1  # starting processes would take longer
    rows: list[tuple[str, str, str]] = []
    work = joblib.Parallel(n_jobs=workers, return_as="generator")
    for part in work(joblib.delayed(_examine_some)(folder, part) for part in parts):
        rows += part
        if len(rows) % 10_000 < 500:
            progress.report(f"looked through {len(rows)} of {len(names)} files")
    status, remark, checksum = zip(*rows, strict=True) if rows else ((), (), ())
    return pd.DataFrame(
        {
            "index": np.arange(len(names)),
            "path": names,
            "class": [listed[name][0] for name in names],
            "status": status,
            "remark": remark,
            "bytes": [listed[name][1] for name in names],
            "crc32": checksum,
        }
    )


def _examine_some(folder: Path, names: list[str]) -> list[tuple[str, str, str]]:
    return [_examine(folder / name) for name in names]


def _examine(path: Path) -> tuple[str, str, str]:
    """Status, remark and checksum of one file; whatever it holds, no error."""
    try:
        if path.exists() and not path.is_file():
            return "broken", "cannot be read (no regular file)", ""  # it might wait
        content = path.read_bytes()
    except FileNotFoundError as error:
        escaped = "\\x" in path.name
        reason = "its name is not UTF-8: rename it" if escaped else error.strerror
        return "broken", f"cannot be read ({reason})", ""
    except OSError as error:
        return "broken", f"cannot be read ({error.strerror})", ""
    checksum = f"{zlib.crc32(content):08x}"
    if not path.name.lower().endswith(IMG_EXTENSIONS):
        if path.suffix.lower() in PICTURES:
            return "broken", f"{path.suffix} is not read; convert it", checksum
        return "ignored", "no image by its name", checksum
    if not content:
        return "broken", "empty file", checksum
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # judged below, by our own limit
            with Image.open(path) as image:
                remark = _unusable(image)
                if remark:
                    return "broken", remark, checksum
                remarks = _unusual(image, path)
                image.convert("RGB")  # all of it is decoded here
    except UnidentifiedImageError:
        return "broken", "no image by its content", checksum
    except Image.DecompressionBombError:
        return "broken", f"too large: over {LARGEST:,} pixels", checksum
    except Exception as error:  # decoders raise whatever a broken file leads them to
        reason = " ".join(str(error).split())
        kind = "truncated" if "truncated" in reason else "damaged"
        return "broken", f"{kind} ({reason or type(error).__name__})", checksum
    return "used", "; ".join(remarks), checksum


def _unusable(image: Image.Image) -> str:
    """Why an image that can be opened cannot be used, by its header; or nothing."""
    width, height = image.size
    if width * height > LARGEST:
        return f"too large: over {LARGEST:,} pixels"
    if min(width, height) < SMALLEST:
        return f"too small: {width} × {height}, under {SMALLEST} on a side"
    if max(width, height) > LONGEST * min(width, height):
        return f"too long: {width} × {height}, over {LONGEST} times as long as wide"
    if image.mode not in ("RGB", *REMARKS):
        # Converting these to 8 bits clips them, mostly to a white image.
        return f"pixels of type {image.mode}, not of 8 bits"
    return ""


def _unusual(image: Image.Image, path: Path) -> list[str]:
    remarks = [REMARKS[image.mode]] if image.mode in REMARKS else []
    if getattr(image, "n_frames", 1) > 1:
        remarks.append("animated, first frame read")
    if image.getexif().get(0x0112, 1) != 1:
        remarks.append("turned by EXIF, read as stored")
    usual = Image.registered_extensions().get(path.suffix.lower())
    if image.format != usual and {image.format, usual} != {"JPEG", "MPO"}:
        remarks.append(f"{image.format} by its content, not by its name")
    return remarks


class Photographs:
    """Images of class folders, each decoded when asked for: an array that is not there.

    Stands where ``curvlib.data.Images`` has an array. The shorter side is resized to
    256/224 of the size, and the centre cut out, as usual on ImageNet.

    Attributes:
        names: Paths relative to the folder, bytes, shape [N].
        shape: ``(N, size, size, 3)``.
    """

    dtype = np.dtype(np.uint8)
    ndim = 4

    def __init__(
        self,
        folder: Path,
        names: np.ndarray,
        checksums: np.ndarray,
        size: int,
        workers: int | None = None,
    ):
        self.folder = folder
        # Arrays of bytes, not lists: a million objects would be copied into every
        # worker, bit by bit, as their reference counts change.
        self.names = names
        self._checksums = checksums
        self._size = size
        self._workers = workers

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """As of an array."""
        return len(self.names), self._size, self._size, 3

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, rows: Any) -> np.ndarray:
        """Decode some, here and now: uint8, shape [len(rows), size, size, 3]."""
        files = _Files(self)
        if isinstance(rows, int | np.integer):
            return files[int(rows), None].permute(1, 2, 0).numpy()
        found = [files[int(i), None] for i in np.arange(len(self))[rows]]
        if not found:
            return np.zeros((0, *self.shape[1:]), np.uint8)
        return torch.stack(found).permute(0, 2, 3, 1).contiguous().numpy()

    def select(self, rows: Any) -> "Photographs":
        """Some of them, still in their files."""
        return Photographs(
            self.folder,
            self.names[rows],
            self._checksums[rows],
            self._size,
            self._workers,
        )

    @property
    def checksum(self) -> bytes:
        """Changes with any file's name or content, and with the size."""
        digest = hashlib.sha256(str(self._size).encode())
        digest.update(self.names.tobytes() + self._checksums.tobytes())
        return digest.digest()

    def reader(self, device: torch.device) -> "Reader":
        """Workers that decode batch after batch, and are there until the end."""
        workers = usable_cores() if self._workers is None else self._workers
        return Reader(_Files(self), min(workers, 8), device)


class _Files(Dataset):
    """One image by its position and, for a random crop and flip of it, a seed."""

    def __init__(self, photographs: Photographs):
        self._folder = os.fsencode(photographs.folder)
        self._names = photographs.names
        size = photographs.shape[1]
        self._clean = v2.Compose(
            [v2.Resize(round(size * RESIZED)), v2.CenterCrop(size), v2.PILToTensor()]
        )
        self._augmented = v2.Compose(
            [v2.RandomResizedCrop(size), v2.RandomHorizontalFlip(), v2.PILToTensor()]
        )

    def __getitem__(self, key: tuple[int, int | None]) -> Tensor:
        position, seed = key
        path = os.fsdecode(os.path.join(self._folder, self._names[position]))
        try:
            image = pil_loader(path)
        except Exception as error:  # broken since it was indexed
            raise BrokenFileError(
                f"{path} could be read when the folder was indexed, but no longer "
                f"({error}); put it back, or delete the index to leave it out"
            ) from error
        if seed is None:
            return self._clean(image)
        with seeded((seed + position) % 2**63):
            return self._augmented(image)


class Reader:
    """Reads batches of uint8 images, shape [B, 3, size, size], onto a device.

    What comes out does not depend on the number of workers.
    """

    def __init__(self, files: _Files, workers: int, device: torch.device):
        self._device = device
        self._plan: list[list[tuple[int, int | None]]] = []
        self._loader = DataLoader(
            files,
            batch_sampler=_Plan(self._plan),
            num_workers=workers,
            persistent_workers=workers > 0,
            pin_memory=device.type == "cuda",
            generator=torch.Generator(),  # or it would draw from the global one
        )

    def __call__(
        self,
        batches: Sequence[Tensor],
        *,
        generator: torch.Generator | None = None,
        share: slice = WHOLE,
    ) -> Iterator[Tensor]:
        """Yield the images of each batch.

        Args:
            batches: Positions, one tensor a batch.
            generator: For random crops and flips; None: the images as they are.
            share: Of each batch, the part that is wanted here.
        """
        seed = None
        if generator is not None:
            seed = int(torch.randint(2**62, (), generator=generator))
        self._plan[:] = [[(i, seed) for i in b[share].tolist()] for b in batches]
        try:
            for batch in self._loader:
                yield batch.to(self._device, non_blocking=True)
        except BrokenFileError as error:  # a worker's comes with its traceback as text
            told = str(error).strip().splitlines()[-1]
            raise BrokenFileError(told.split("BrokenFileError: ")[-1]) from None


class _Plan:
    """The batches that come next; the workers stay, the plan changes."""

    def __init__(self, batches: list):
        self._batches = batches

    def __iter__(self) -> Iterator:
        return iter(list(self._batches))

    def __len__(self) -> int:
        return len(self._batches)
