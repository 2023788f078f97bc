"""Photographs in files: how they are decoded, an index of them, pixels on demand.

ImageNet does not fit into memory, and among a million files some are broken. So each
data set in files is examined once: every file is decoded, and the findings are kept in
an *index file*, which also fixes the order of the samples. After that, worker processes
decode images when they are needed, and memory use does not grow.

An image is what a viewer shows. ``shown`` makes an RGB picture of 8 bits of each file:

===================  ===================================================================
In the file          In the picture
===================  ===================================================================
transparency         Composited onto white. A picture that then shows nothing, such as a
                     white drawing on a transparent background, is refused as broken.
EXIF orientation     Turned upright.
grey, black/white,   Converted to RGB; no value changes its meaning.
palette
CMYK, YCbCr          Converted to RGB by Pillow's formula. Colour profiles are ignored,
                     as by torchvision.
16 bits a channel    RGB keeps the upper 8 bits. Grey is refused as broken: which value
                     is white differs from camera to camera.
float, 32 bits, LAB  Refused as broken: which value is white is unknown.
several frames       The first frame, page or picture.
===================  ===================================================================

Training and scoring see the centre of the picture. Duplicates are found on the whole
picture. For exact ones, the column ``pixels`` of the index is a digest of it at full
size, together with all that decoding drops: transparency, lower bits, further frames.
For near ones, transparent parts are grey, so that white strokes on them count.
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
from torchvision.transforms import v2

from curvlib.data import files, progress
from curvlib.data.files import Listing, class_names, list_csv, list_folder
from curvlib.data.seeding import seeded
from curvlib.files import write_atomically

__all__ = [
    "BrokenFileError",
    "Photographs",
    "Reader",
    "class_names",
    "default_root",
    "index_file",
    "index_of",
    "shown",
    "summary",
    "usable_cores",
]

# Raise it when the pixels that a file decodes to change. Part of the checksum.
DECODING = 2
SMALLEST = 8  # pixels on a side: less is no picture of anything
LARGEST = 100_000_000  # pixels: a file of a few kB can ask for terabytes
LONGEST = 20  # times as long as wide: the short side is what is resized
POLICIES = ("stop", "skip")
# One row per file. "pixels" came with DECODING 2; an index without it is made again.
COLUMNS = ("index", "path", "class", "status", "remark", "bytes", "crc32", "pixels")
FIRST_COLUMNS = COLUMNS[:-1]
WHOLE = slice(None)
RESIZED = 256 / 224  # shorter side before the centre is cut out, as usual on ImageNet
THUMBNAIL = 64  # pixels on a side of the whole pictures that duplicates compares
# Modes of Pillow that are read, and what to say of those that are unusual.
REMARKS = {
    "L": "grey, read as RGB",
    "1": "black and white, read as RGB",
    "LA": "grey, read as RGB",
    "La": "grey, read as RGB",
    "P": "palette, read as RGB",
    "PA": "palette, read as RGB",
    "CMYK": "CMYK, read as RGB",
    "YCbCr": "YCbCr, read as RGB",
}
MODES = ("RGB", "RGBA", "RGBa", *REMARKS)
TRANSPARENT = ("LA", "PA", "RGBA", "RGBa", "La")
INTO_RGB = ("CMYK", "YCbCr")  # different values can become the same RGB
ORIENTATION = 0x0112  # the tag of EXIF
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class BrokenFileError(OSError):
    """A file that could be read when its folder was indexed, and no longer can."""


# ----------------------------------------------------------------- what a viewer shows


def shown(image: Image.Image) -> Image.Image:
    """Decode a picture as a viewer shows it, to 8-bit RGB; see the module's table.

    Args:
        image: An image from ``PIL.Image.open``, with one of the modes ``MODES``.

    Returns:
        A picture of mode RGB; its sides are swapped where EXIF says so.

    Raises:
        OSError: If the file is damaged; Pillow raises other errors, too.
    """
    return _decoded(image)[0]


def _decoded(
    image: Image.Image, background: str = "white"
) -> tuple[Image.Image, Image.Image | None]:
    """The picture that a viewer shows, and its transparency, or None if it has none."""
    image.load()  # Pillow turns TIFF here, and then no longer says that it is turned
    turn = _turn(image)
    if turn is not None:
        image = image.transpose(turn)
    if image.mode == "La":
        image = image.convert("LA")
    if image.mode not in TRANSPARENT and "transparency" not in image.info:
        return image.convert("RGB"), None
    image = image.convert("RGBA")
    alpha = image.getchannel("A")
    if alpha.getextrema()[0] == 255:
        return image.convert("RGB"), None
    behind = Image.new("RGBA", image.size, background)
    return Image.alpha_composite(behind, image).convert("RGB"), alpha


def _turn(image: Image.Image) -> Image.Transpose | None:
    """The turn that brings an image upright, by its EXIF; None if none is needed."""
    try:
        return TURNS.get(image.getexif().get(ORIENTATION, 1))
    except Exception:  # viewers ignore damaged EXIF, too
        return None


def _digest(
    picture: Image.Image, alpha: Image.Image | None, dropped: bytes = b""
) -> str:
    """A checksum of a picture and of everything that decoding drops.

    Args:
        picture: Of mode RGB.
        alpha: Its transparency, if any.
        dropped: The content of the file, if decoding drops more than that.
    """
    digest = hashlib.blake2b(repr(picture.size).encode(), digest_size=8)
    for part in (picture.tobytes(), b"" if alpha is None else alpha.tobytes(), dropped):
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()


# --------------------------------------------------------------------------- the index


def index_of(source: str | Path, *, workers: int | None = None) -> pd.DataFrame:
    """Read the index of images in class folders or in a CSV; create it if needed.

    The index also reports which files are broken. To make it, every file is decoded
    once. It is a CSV file beside its source, ``curvlib-<name>.csv``, or a file in
    ``default_root()`` if that folder is read-only.

    In class folders, the order is that of classes and names, and the row of a file
    stays the index of its sample: if files are added, removed or changed, the index is
    refused. For a CSV file, the index is the row of that file, from 0: if the CSV
    changes, the index follows.

    Args:
        source: A folder such as ``imagenet/train``, with one folder a class; or a CSV
            file with the columns ``path`` and ``label``.
        workers: Processes that decode; None: one a core.

    Returns:
        One row for each file: ``index``; ``path`` relative to the folder, or to that of
        the CSV; ``class``; ``status``, one of ``used``, ``broken`` and ``ignored`` (no
        part of the data); ``remark``, what is wrong or unusual, or empty; ``bytes``;
        ``crc32`` of the content, hexadecimal; ``pixels``, a digest of the whole
        picture, hexadecimal. Files that a system or a tool left behind, or that lie in
        no class folder, come last. The index file leaves them out: they come and go.

    Raises:
        FileNotFoundError: If there is no such folder, no class folder or no file in it;
            or no such CSV, or no file that it names.
        ValueError: If the index is damaged, files in class folders were added, taken
            away or changed in size since it was made, or the CSV is refused (see
            ``curvlib.data.files.list_csv``).
    """
    source = Path(source)
    from_csv = not source.is_dir() and source.suffix.lower() == ".csv"
    listing = list_csv(source) if from_csv else list_folder(source)
    if not listing.files:
        raise FileNotFoundError(f"the class folders in {source} hold no files")
    file = index_file(source)
    table = _read_index(file, listing, from_csv)
    if table is None:
        file.parent.mkdir(parents=True, exist_ok=True)
        # Of the processes of a run, one makes it, and the others find it made.
        with FileLock(file.with_name(f".{file.name}.lock")):
            table = _read_index(file, listing, from_csv)
            if table is None:
                made = _examine_all(listing, workers or usable_cores(), from_csv)
                text = made.to_csv(index=False, quoting=csv.QUOTE_NONNUMERIC)
                write_atomically(file, text.encode())
                table = _read_index(file, listing, from_csv)
    return _with_extras(table, listing)


def _read_index(file: Path, listing: Listing, from_csv: bool) -> pd.DataFrame | None:
    """What is in an index file, or None if it has yet to be made, or made again."""
    if not file.exists():
        return None
    text = ("path", "class", "remark", "crc32", "pixels")
    try:
        table = pd.read_csv(file, dtype=dict.fromkeys(text, str), keep_default_na=False)
        if tuple(table.columns) not in (COLUMNS, FIRST_COLUMNS) or len(table) == 0:
            raise ValueError(f"its columns are {', '.join(table.columns)}")
    except ValueError as error:
        raise ValueError(
            f"{file} is no index of images ({error}); delete it to make it again"
        ) from error
    if from_csv:
        now = [(path, size) for path, (_, size) in listing.files.items()]
        then = list(zip(table["path"], table["bytes"], strict=True))
        if tuple(table.columns) != COLUMNS or now != then:
            return None
        # Labels are corrected without a change of the files.
        return table.assign(**{"class": [c for c, _ in listing.files.values()]})
    _refuse_changes(file, table, listing)
    return table if tuple(table.columns) == COLUMNS else None


def _with_extras(table: pd.DataFrame, listing: Listing) -> pd.DataFrame:
    if not listing.extras:
        return table
    remarks, sizes = zip(*listing.extras.values(), strict=True)
    extras = pd.DataFrame(
        {
            "index": len(table) + np.arange(len(listing.extras)),
            "path": list(listing.extras),
            "class": "",
            "status": "ignored",
            "remark": remarks,
            "bytes": sizes,
            "crc32": "",
            "pixels": "",
        }
    )
    return pd.concat([table, extras], ignore_index=True)


def summary(index: pd.DataFrame) -> str:
    """Describe how many files are used, unusual or broken, and why.

    Args:
        index: Result of ``index_of``.

    Returns:
        Lines of text: the counts, one line for each broken file, and one for each
        other remark, with the number of files that have it.
    """
    counts = index["status"].value_counts()
    rows = index[index["class"] != ""]
    in_folders = all(
        path.startswith(f"{name}/")
        for path, name in zip(rows["path"], rows["class"], strict=True)
    )
    kind = "class folders" if in_folders else "classes"  # of a CSV
    lines = [
        f"{len(index)} files in {rows['class'].nunique()} {kind}: "
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
            many = f"{len(some)} files, such as " if len(some) > 1 else ""
            lines.append(f"  {status}: {remark}: {many}{some['path'].iloc[0]!r}")
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


def index_file(source: str | Path) -> Path:
    """Path of the index of a folder or a CSV file, whether it exists or not."""
    source = Path(source).resolve()
    beside = source.with_name(f"curvlib-{source.name}.csv")
    if beside.exists() or os.access(source.parent, os.W_OK):
        return beside
    place = hashlib.sha256(str(source).encode()).hexdigest()[:10]
    return default_root() / "indices" / f"{source.parent.name}-{place}-{beside.name}"


def _refuse_changes(file: Path, table: pd.DataFrame, listing: Listing) -> None:
    # An index of an earlier version may hold what tools left behind; not a change.
    indexed = {
        path: size
        for path, size in zip(table["path"], table["bytes"], strict=True)
        if not files.leftover(path.split("/", 1)[-1])
    }
    there = {name: size for name, (_, size) in listing.files.items()}
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


def _examine_all(listing: Listing, workers: int, any_name: bool) -> pd.DataFrame:
    names = list(listing.files)
    parts = [names[i : i + 500] for i in range(0, len(names), 500)]
    if len(parts) < 4:
        workers = 1  # starting processes would take longer
    rows: list[tuple[str, str, str, str]] = []
    work = joblib.Parallel(n_jobs=workers, return_as="generator")
    some = joblib.delayed(_examine_some)
    jobs = (some(listing.base, part, any_name) for part in parts)
    for part in work(jobs):
        rows += part
        if len(rows) >= 10_000 and len(rows) % 10_000 < 500:
            progress.report(f"looked through {len(rows)} of {len(names)} files")
    status, remark, checksum, pixels = zip(*rows, strict=True)
    return pd.DataFrame(
        {
            "index": np.arange(len(names)),
            "path": names,
            "class": [label for label, _ in listing.files.values()],
            "status": status,
            "remark": remark,
            "bytes": [size for _, size in listing.files.values()],
            "crc32": checksum,
            "pixels": pixels,
        }
    )


def _examine_some(
    folder: Path, names: list[str], any_name: bool
) -> list[tuple[str, str, str, str]]:
    return [_examine(folder / name, any_name) for name in names]


def _examine(path: Path, any_name: bool = False) -> tuple[str, str, str, str]:
    """Status, remark, checksum and digest of one file; never raises an error.

    Any name will do for a file that a CSV names: its content tells what it is.
    """
    try:
        if path.exists() and not path.is_file():
            # To read it might wait for ever.
            return "broken", "cannot be read (no regular file)", "", ""
        content = path.read_bytes()
    except FileNotFoundError as error:
        escaped = "\\x" in path.name
        reason = "its name is not UTF-8: rename it" if escaped else error.strerror
        return "broken", f"cannot be read ({reason})", "", ""
    except OSError as error:
        return "broken", f"cannot be read ({error.strerror})", "", ""
    checksum = f"{zlib.crc32(content):08x}"
    if files.is_other_picture(path.name):
        return "broken", f"{path.suffix} is not read; convert it", checksum, ""
    if not any_name and not files.is_image(path.name):
        return "ignored", "no image by its name", checksum, ""
    if not content:
        return "broken", "empty file", checksum, ""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # judged below, by our own limit
            with Image.open(path) as image:
                remark = _unusable(image)
                if remark:
                    return "broken", remark, checksum, ""
                channel = image.mode in TRANSPARENT
                remarks, lossy = _unusual(image, path)
                # Pillow forgets the turn of TIFF once it is decoded; that of PNG must
                # not be asked for before, as this decodes and hides what is damaged.
                turned = image.format == "TIFF" and _turn(image) is not None
                picture, alpha = _decoded(image)  # all of it is decoded here
                if turned or _turn(image) is not None:
                    remarks.append("turned by EXIF, read upright")
                if alpha is not None and _shows_nothing(picture, alpha):
                    remark = "shows nothing on white; put it on another background"
                    return "broken", remark, checksum, ""
                if alpha is not None:
                    remarks.append("transparency, shown on white")
                elif channel:
                    remarks.append("a transparency channel, fully opaque")
                pixels = _digest(picture, alpha, content if lossy else b"")
    except UnidentifiedImageError:
        return "broken", "no image by its content", checksum, ""
    except Image.DecompressionBombError:
        return "broken", f"too large: over {LARGEST:,} pixels", checksum, ""
    except Exception as error:  # decoders raise whatever a broken file leads them to
        reason = " ".join(str(error).split())
        kind = "truncated" if "truncated" in reason else "damaged"
        reason = reason or type(error).__name__
        return "broken", f"{kind} ({reason})", checksum, ""
    return "used", "; ".join(remarks), checksum, pixels


def _shows_nothing(picture: Image.Image, alpha: Image.Image) -> bool:
    """Whether a picture has one colour only because its transparent parts are white."""
    low, high = alpha.getextrema()
    one_colour = all(least == most for least, most in picture.getextrema())
    return one_colour and (low < high or high == 0)


def _unusable(image: Image.Image) -> str:
    """Why an image that can be opened cannot be used, by its header; or nothing."""
    width, height = image.size
    if width * height > LARGEST:
        return f"too large: over {LARGEST:,} pixels"
    if min(width, height) < SMALLEST:
        return f"too small: {width} × {height}, under {SMALLEST} on a side"
    if max(width, height) > LONGEST * min(width, height):
        return f"too long: {width} × {height}, over {LONGEST} times as long as wide"
    if image.mode not in MODES:
        # Converting these to 8 bits clips them, mostly to a white image.
        return f"pixels of type {image.mode}, not of 8 bits; convert it to 8-bit RGB"
    return ""


def _unusual(image: Image.Image, path: Path) -> tuple[list[str], bool]:
    """Remarks on a file that can be used, and whether decoding it drops something."""
    remarks = [REMARKS[image.mode]] if image.mode in REMARKS else []
    lossy = image.mode in INTO_RGB
    if any(";16" in str(tile.args) for tile in image.tile):
        remarks.append("16 bits a channel, the upper 8 read")
        lossy = True
    if getattr(image, "n_frames", 1) > 1:
        animated = image.format in ("WEBP", "PNG", "GIF")
        remarks.append(
            "animated, first frame read" if animated else "several pages, first read"
        )
        lossy = True
    usual = Image.registered_extensions().get(path.suffix.lower())
    if image.format != usual and {image.format, usual} != {"JPEG", "MPO"}:
        remarks.append(f"{image.format} by its content, not by its name")
    return remarks, lossy


# -------------------------------------------------------------------------- the pixels


class Photographs:
    """Images in files, used like an array and decoded when needed.

    They take the place of the array in ``curvlib.data.Images``. The shorter side is
    resized to 256/224 of the size, and the centre is cut out, as usual on ImageNet.
    They are indexed as an array is: ``photographs[3]``, ``photographs[mask]``,
    ``photographs[:, ::-1]``. Each time, the images asked for are decoded.

    Args:
        folder: The folder that the names are relative to.
        names: Paths of the files, bytes, shape [N].
        checksums: CRC-32 of the content of each file, uint32, shape [N].
        size: Pixels on a side.
        workers: Processes that decode for a reader; None: one a core, at most 8.
        digests: Digests of the whole pictures, as in the index, bytes, shape [N]; made
            from the files if left out.
        upside_down: Whether the pictures are turned upside down.
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
        *,
        digests: np.ndarray | None = None,
        upside_down: bool = False,
    ):
        self.folder = folder
        # Arrays of bytes, not lists: a million objects would be copied into every
        # worker, bit by bit, as their reference counts change.
        self.names = names
        self._checksums = checksums
        self._size = size
        self._workers = workers
        self._digests = digests
        self._upside_down = upside_down
        self._thumbnails: np.ndarray | None = None

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """As of an array: ``(N, size, size, 3)``."""
        return len(self.names), self._size, self._size, 3

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, key: Any) -> np.ndarray:
        """Decode some: uint8, of the shape that an array would give for the key."""
        if key is Ellipsis:
            key = WHOLE
        if isinstance(key, tuple):
            if not key:
                return self[WHOLE]
            if key[0] is Ellipsis or key[0] is None:
                return self[WHOLE][key]
            rows, rest = key[0], key[1:]
            if isinstance(rows, int | np.integer):
                return self[rows][rest]
            if isinstance(rows, slice):
                return self[rows][(WHOLE, *rest)]
            return self[WHOLE][key]  # rows that are matched with those of other axes
        decoded = _Files(self)
        if isinstance(key, int | np.integer):
            return decoded[int(key), None].permute(1, 2, 0).numpy()
        found = [decoded[int(i), None] for i in np.arange(len(self))[key]]
        if not found:
            return np.zeros((0, *self.shape[1:]), np.uint8)
        return torch.stack(found).permute(0, 2, 3, 1).contiguous().numpy()

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        """All of them, decoded, for functions of numpy."""
        return self[WHOLE].astype(dtype or self.dtype, copy=False)

    def select(self, rows: Any) -> "Photographs":
        """Some of them, still in their files."""
        some = self._with(
            names=self.names[rows],
            checksums=self._checksums[rows],
            digests=None if self._digests is None else self._digests[rows],
        )
        if self._thumbnails is not None:
            some._thumbnails = self._thumbnails[rows]
        return some

    def turned(self) -> "Photographs":
        """The same pictures turned upside down, still in their files."""
        turned = self._with(upside_down=not self._upside_down)
        if self._thumbnails is not None:
            turned._thumbnails = self._thumbnails[:, ::-1]
        return turned

    @classmethod
    def joined(cls, parts: Sequence["Photographs"]) -> "Photographs":
        """Photographs of several folders as one, still in their files, of one size."""
        names = [os.fsencode(path) for part in parts for path in part.paths]
        known = all(part._digests is not None for part in parts)
        one = cls(
            Path(os.sep),
            np.array(names),
            np.concatenate([part._checksums for part in parts]),
            parts[0]._size,
            parts[0]._workers,
            digests=np.concatenate([p._digests for p in parts]) if known else None,
            upside_down=parts[0]._upside_down,
        )
        if all(part._thumbnails is not None for part in parts):
            one._thumbnails = np.concatenate([part._thumbnails for part in parts])
        return one

    def _with(self, **changes: Any) -> "Photographs":
        fields = {
            "folder": self.folder,
            "names": self.names,
            "checksums": self._checksums,
            "size": self._size,
            "workers": self._workers,
            "digests": self._digests,
            "upside_down": self._upside_down,
        }
        return Photographs(**fields | changes)

    @property
    def paths(self) -> list[str]:
        """Where each file is: absolute paths."""
        folder = os.path.abspath(os.fsencode(self.folder))
        return [os.fsdecode(os.path.join(folder, name)) for name in self.names]

    @property
    def checksum(self) -> bytes:
        """Changes with any file's name or content, the size, and the decoding."""
        digest = hashlib.sha256(f"{self._size} {DECODING}".encode())
        digest.update(self.names.tobytes() + self._checksums.tobytes())
        if self._upside_down:
            digest.update(b"upside down")
        return digest.digest()

    @property
    def digests(self) -> np.ndarray:
        """Digests of the whole pictures, bytes, shape [N]: equal for equal pictures.

        Nothing is cut off, and what decoding drops counts, so that two drawings that
        differ in their transparency alone have different digests.
        """
        if self._digests is None:
            found = [_examine(Path(path), True) for path in self.paths]
            for path, (status, remark, _, _) in zip(self.paths, found, strict=True):
                if status != "used":
                    raise BrokenFileError(f"{path} cannot be used: {remark}")
            self._digests = np.array([digest.encode() for *_, digest in found])
        return self._digests

    def thumbnails(self) -> np.ndarray:
        """The whole pictures with ``THUMBNAIL`` pixels a side, squeezed, not cropped.

        What is transparent is grey. They are decoded once and then kept, 12 kB each.

        Returns:
            uint8, shape [N, THUMBNAIL, THUMBNAIL, 3].
        """
        if self._thumbnails is None:
            few = len(self) < 200  # starting processes would take longer
            workers = 0 if few else self._processes()
            read = Reader(_Files(self, whole=True), workers, _CPU)
            parts = []
            for part in read(torch.arange(len(self)).split(500)):
                parts.append(part.permute(0, 2, 3, 1).numpy())
                if len(parts) % 20 == 0:
                    progress.report(f"read {len(parts) * 500} of {len(self)} pictures")
            self._thumbnails = np.concatenate(parts)
        return self._thumbnails

    def reader(self, device: torch.device) -> "Reader":
        """Start workers that decode batch after batch, until the reader is deleted."""
        return Reader(_Files(self), self._processes(), device)

    def _processes(self) -> int:
        return min(usable_cores() if self._workers is None else self._workers, 8)


_CPU = torch.device("cpu")


class _Files(Dataset):
    """One image by its position and, for a random crop and flip of it, a seed."""

    def __init__(self, photographs: Photographs, *, whole: bool = False):
        self._folder = os.fsencode(photographs.folder)
        self._names = photographs.names
        self._upside_down = photographs._upside_down
        self._background = "grey" if whole else "white"
        size = photographs.shape[1]
        cut = [v2.Resize(round(size * RESIZED)), v2.CenterCrop(size)]
        squeezed = [v2.Resize((THUMBNAIL, THUMBNAIL))]
        self._clean = v2.Compose([*(squeezed if whole else cut), v2.PILToTensor()])
        self._augmented = v2.Compose(
            [v2.RandomResizedCrop(size), v2.RandomHorizontalFlip(), v2.PILToTensor()]
        )

    def __getitem__(self, key: tuple[int, int | None]) -> Tensor:
        position, seed = key
        path = os.fsdecode(os.path.join(self._folder, self._names[position]))
        try:
            with Image.open(path) as file:
                image, _ = _decoded(file, self._background)
        except Exception as error:  # broken since it was indexed
            raise BrokenFileError(
                f"{path} could be read when the folder was indexed, but no longer "
                f"({error}); put it back, or delete the index to leave it out"
            ) from error
        if self._upside_down:
            image = image.transpose(Image.Transpose.FLIP_TOP_BOTTOM)
        if seed is None:
            return self._clean(image)
        with seeded((seed + position) % 2**63):
            return self._augmented(image)


class Reader:
    """Reads batches of uint8 images, shape [B, 3, size, size], onto a device.

    The images do not depend on the number of workers.
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
            batches: Positions of the images, one tensor for each batch.
            generator: For random crops and flips; None: the centre crops.
            share: The part of each batch that this process needs.

        Yields:
            uint8 [B, 3, size, size], for each batch in turn.

        Raises:
            BrokenFileError: If a file can no longer be read.
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
