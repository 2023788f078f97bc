"""One HTML file to decide about suspects in, with nothing else running.

The file holds everything: the first suspects with thumbnails, images of the suggested
class that look like them, duplicates, and plots. A reader marks labels as wrong or
right, and the page writes ``decisions.csv``. ``page.html``, ``style.css`` and
``script.js`` beside this module are its parts, with gaps such as ``@@DATA@@``:

- DATA: JSON. ``items`` are columns, one entry per image; the first ``listed`` images
  are suspects in the order of their rank, and others follow that are only shown beside
  them. Numbers of images in ``nearest``, ``examples`` and ``groups`` are places in
  these columns.
- SHEETS: pictures in WebP, base64, each of ``across`` by ``across`` thumbnails. Image i
  stands on sheet ``i // across**2``.
- LEAD, FACTS, PLOTS, NEXT: HTML and SVG that are drawn here and need no script.
"""

import base64
import csv
import io
import json
import math
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from curvlib.book.report import drawing

if TYPE_CHECKING:
    from curvlib.data import Images

HERE = Path(__file__).parent
LIMIT = 15_000_000  # bytes of the file
LISTED = 2000  # suspects in the page, at most; suspects.csv has all of them
NEAREST = 4  # images of the suggested class that are shown beside a suspect
EXAMPLES = 5  # images of each class, the least suspect
MOST_EXAMPLES = 600  # of all classes
MOST_GROUPS = 100  # of duplicates
ACROSS = 10  # thumbnails in a row of a sheet
# Side in pixels, never enlarged, and WebP quality, from good to recognisable.
STEPS = (
    *((112, quality) for quality in (85, 70, 55, 40)),
    *((96, quality) for quality in (60, 45, 30)),
    *((64, quality) for quality in (50, 30)),
    *((48, quality) for quality in (30, 15)),
    (32, 10),
)
NEEDED = ("index", "label", "suggested_label", "rank", "rank_in_class", "consensus")
ABOUT = {*NEEDED, "path", "consensus_error"}  # columns that are no scores

Thumbnails = Callable[[Sequence[int]], np.ndarray]


class Written(NamedTuple):
    """How a report turned out."""

    size: int  # bytes of the file
    side: int  # pixels of a thumbnail
    quality: int  # of WebP, 0 to 100
    listed: int  # suspects in the page
    images: int  # thumbnails in the page


def write_for(folder: Path, images: "Images", *, limit: int = LIMIT) -> Written:
    """Write ``report.html`` into a folder that ``curvlib suspects`` has filled.

    Args:
        folder: With ``suspects.csv``, ``nearest.csv``, ``duplicates.csv`` and
            ``run.json``.
        images: That were ranked.
        limit: Bytes that the file may have.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: As for ``write``.
    """
    from curvlib.data.folders import usable_cores

    place = {int(index): row for row, index in enumerate(images.index)}
    suspects = read_table(folder / "suspects.csv")
    strange = [i for i in suspects["index"] if i not in place]
    if strange:
        raise ValueError(
            f"{folder} is about other images than {images.name}, which have no index "
            f"{strange[0]}"
        )

    def thumbnails(some: Sequence[int]) -> np.ndarray:
        parts = np.array_split([place[i] for i in some], min(usable_cores(), len(some)))
        with ThreadPoolExecutor(len(parts)) as pool:  # photographs are decoded
            return np.concatenate(list(pool.map(images.images.__getitem__, parts)))

    run = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    return write(
        folder / "report.html",
        suspects,
        thumbnails=thumbnails,
        nearest=read_table(folder / "nearest.csv"),
        duplicates=read_table(folder / "duplicates.csv"),
        run=run,
        limit=limit,
    )


def read_table(file: Path) -> pd.DataFrame:
    """Read a CSV of a report; names stay text, even ``nan`` or ``007``."""
    with file.open(encoding="utf-8", errors="surrogateescape", newline="") as stream:
        names, *rows = csv.reader(stream)
    # As objects: other text of pandas holds no bytes of a file's name that are no text.
    columns = zip(*rows, strict=True) if rows else [()] * len(names)
    table = pd.DataFrame(
        {
            name: pd.Series(values, dtype=object)
            for name, values in zip(names, columns, strict=True)
        }
    )
    for name in table.columns:
        if name.endswith(("label", "path")):
            continue
        if name in ("exact", "conflict"):
            table[name] = table[name] == "True"
        else:
            table[name] = pd.to_numeric(table[name])
    return table


def write(
    path: Path,
    suspects: pd.DataFrame,
    *,
    thumbnails: Thumbnails,
    run: Mapping[str, Any],
    nearest: pd.DataFrame | None = None,
    duplicates: pd.DataFrame | None = None,
    listed: int = LISTED,
    limit: int = LIMIT,
) -> Written:
    """Write a report. The same arguments give the same bytes.

    Thumbnails are made smaller and coarser, step by step of ``STEPS``, until the file
    is within the limit.

    Args:
        path: The file, ending in ``.html``.
        suspects: All samples: index, path (if they are files), label, suggested_label
            (empty: none), rank from 1, rank_in_class, consensus, consensus_error (may
            be left out), and scores. Labels are names of classes.
        thumbnails: Given indices, returns these images: uint8 [B, H, W, 1 or 3].
        run: As in ``run.json``: checksum, classes, name, source and counts; estimate
            (may be None).
        nearest: Images of the suggested class that look like a suspect: index, place
            from 1, neighbour_index, neighbour_label, and neighbour_path.
        duplicates: group, index, label, similarity, exact, conflict, and path.
        listed: Suspects in the page, at most.
        limit: Bytes that the file may have.

    Raises:
        ValueError: If a column is missing, an index occurs twice, a label is no class,
            the images have another shape, or even the coarsest thumbnails do not fit.
    """
    classes = [str(name) for name in run["classes"]]
    _check(suspects, classes)
    suspects = suspects.sort_values("rank", kind="stable", ignore_index=True)
    chosen = _Chosen(suspects, classes, nearest, duplicates, listed)
    data = chosen.data() | {
        "name": str(run["name"]),
        "checksum": str(run["checksum"]),
        "classes": classes,
        "across": ACROSS,
        "wrong": (run.get("estimate") or {}).get("wrong"),
        "curve": _rounded((run.get("estimate") or {}).get("curve")),
    }
    parts = {
        "TITLE": _text(f"Suspects of {run['name']}"),
        "STYLE": (HERE / "style.css").read_text(encoding="utf-8"),
        "SCRIPT": (HERE / "script.js").read_text(encoding="utf-8"),
        "LEAD": _lead(run, suspects),
        "FACTS": _facts(run, suspects, chosen.listed),
        "PLOTS": _plots(run, suspects),
        "NEXT": _next(run),
    }
    empty = {"DATA": _json(data | {"side": 999}), "SHEETS": ""}
    room = limit - len(_filled(parts | empty).encode())
    sheets, side, quality = _sheets(chosen.order, thumbnails, room)
    parts |= {"DATA": _json(data | {"side": side}), "SHEETS": sheets}
    page = _filled(parts).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.partial")
    partial.write_bytes(page)
    partial.replace(path)
    return Written(len(page), side, quality, chosen.listed, len(chosen.order))


def _check(suspects: pd.DataFrame, classes: list[str]) -> None:
    missing = [name for name in NEEDED if name not in suspects]
    if missing:
        raise ValueError(
            f"the suspects lack the columns {missing}; they have "
            f"{list(suspects.columns)}"
        )
    if not len(suspects):
        raise ValueError("there are no suspects to report: the table has no row")
    again = suspects["index"][suspects["index"].duplicated()]
    if len(again):
        raise ValueError(f"the index {again.iloc[0]} occurs more than once")
    for column, allowed in (("label", classes), ("suggested_label", [*classes, ""])):
        unknown = set(suspects[column]) - set(allowed)
        if unknown:
            raise ValueError(
                f"{column} {min(unknown)!r} is no class of the run, which are "
                f"{classes[:10]}{'' if len(classes) <= 10 else ' and more'}"
            )


# ------------------------------------------------------------------ what is in the page


class _Chosen:
    """The images of a page: which they are, and which belong to which.

    Attributes:
        order: Index of each image, suspects first.
        listed: How many of them are suspects.
    """

    def __init__(self, suspects, classes, nearest, duplicates, listed):
        self._suspects = suspects
        self._number = {name: i for i, name in enumerate(classes)}
        self.listed = min(listed, len(suspects))
        self.order = [int(i) for i in suspects["index"].head(self.listed)]
        self._place = {index: i for i, index in enumerate(self.order)}
        self._shown_as: dict[int, tuple[str, str]] = {}  # of images that have no rank
        key = "path" if "path" in suspects else "index"
        self.key = key
        self._groups = self._add_duplicates(duplicates, key)
        self._nearest = self._add_nearest(nearest, f"neighbour_{key}")
        self._examples = self._add_examples(classes)

    def _add(self, index: int, key: Any, label: str) -> int:
        """Place of an image in the page, which it gets if it has none."""
        index = int(index)
        if index not in self._place:
            self._place[index] = len(self.order)
            self.order.append(index)
            self._shown_as[index] = (str(key), str(label))
        return self._place[index]

    def _add_duplicates(self, table, key: str) -> list[dict]:
        found = []
        if table is None or not len(table):
            return found
        for number, (_, rows) in enumerate(table.groupby("group", sort=True)):
            if number == MOST_GROUPS:
                break
            values = zip(rows["index"], rows[key], rows["label"], strict=True)
            found.append(
                {
                    "items": [self._add(*each) for each in values],
                    "similarity": round(float(rows["similarity"].min()), 3),
                    "exact": bool(rows["exact"].all()),
                    "conflict": bool(rows["conflict"].any()),
                }
            )
        return found

    def _add_nearest(self, table, key: str) -> list[list[int]]:
        found: list[list[int]] = [[] for _ in range(self.listed)]
        if table is None or not len(table):
            return found
        table = table[table["place"] <= NEAREST].sort_values("place", kind="stable")
        wanted = {index: i for i, index in enumerate(self.order[: self.listed])}
        columns = ("index", "neighbour_index", key, "neighbour_label")
        rows = [
            (wanted[int(index)], other, name, label)
            for index, other, name, label in zip(
                *(table[column] for column in columns), strict=True
            )
            if int(index) in wanted
        ]
        for i, *other in sorted(rows, key=lambda row: row[0]):
            found[i].append(self._add(*other))
        return found

    def _add_examples(self, classes: list[str]) -> list[list[int]]:
        """The least suspect images of each class."""
        each = min(EXAMPLES, MOST_EXAMPLES // len(classes))
        last = self._suspects[::-1].groupby("label", sort=False).head(each)
        found: list[list[int]] = [[] for _ in classes]
        for index, key, label in zip(
            last["index"], last[self.key], last["label"], strict=True
        ):
            found[self._number[label]].append(self._add(index, key, label))
        return found

    def data(self) -> dict:
        """What the page's script reads."""
        rows = self._suspects.set_index("index", drop=False).reindex(self.order)
        ranked = rows["rank"].notna().to_numpy()
        names = [n for n in self._suspects if n not in ABOUT]
        scores = {n: rows[n] for n in names if pd.api.types.is_numeric_dtype(rows[n])}
        shown = [self._shown_as.get(index, ("", "")) for index in self.order]

        def either(column: str, number: int) -> list[str]:
            return [
                str(value) if known else other[number]
                for value, known, other in zip(rows[column], ranked, shown, strict=True)
            ]

        keys, labels = either(self.key, 0), either("label", 1)
        if self.key == "index":
            keys = [str(index) for index in self.order]
        suggested = [
            self._number.get(name, -1) if known else -1
            for name, known in zip(rows["suggested_label"], ranked, strict=True)
        ]
        items = {
            "key": keys,
            "label": [self._number[name] for name in labels],
            "suggested": suggested,
            "rank": _numbers(rows["rank"]),
            "place": _numbers(rows["rank_in_class"]),
            "consensus": _numbers(rows["consensus"]),
        }
        if "consensus_error" in rows:
            items["error"] = _numbers(rows["consensus_error"])
        sizes = self._suspects["label"].value_counts()
        return {
            "key": self.key,
            "count": len(self._suspects),
            "listed": self.listed,
            "sizes": [int(sizes.get(name, 0)) for name in self._number],
            "items": items,
            "scores": {name: _numbers(values) for name, values in scores.items()},
            "nearest": self._nearest,
            "examples": self._examples,
            "groups": self._groups,
        }


def _numbers(values: pd.Series) -> list[float | int | None]:
    """Four digits of each; None where there is no finite number."""
    found: list[float | int | None] = []
    for value in values.to_numpy(float):
        if not math.isfinite(value):
            found.append(None)
        elif value == int(value):
            found.append(int(value))
        else:
            found.append(float(f"{value:.4g}"))
    return found


# --------------------------------------------------------------------------- thumbnails


def _sheets(
    order: Sequence[int], thumbnails: Thumbnails, room: int
) -> tuple[str, int, int]:
    """All thumbnails as elements of the page, as good as there is room for."""
    small, largest = [], STEPS[0][0]
    for start in range(0, len(order), ACROSS**2):
        part = order[start : start + ACROSS**2]
        pixels = np.asarray(thumbnails(part))
        good = pixels.ndim == 4 and pixels.shape[3] in (1, 3)
        if not (good and len(pixels) == len(part) and pixels.dtype == np.uint8):
            raise ValueError(
                f"thumbnails must be uint8 [{len(part)}, H, W, 1 or 3], got "
                f"{pixels.dtype} {list(pixels.shape)}"
            )
        side = min(largest, max(pixels.shape[1:3]))
        small.append(np.stack([_fitted(image, side) for image in pixels]))
    native, size = max(part.shape[1] for part in small), 0
    steps = dict.fromkeys((min(side, native), quality) for side, quality in STEPS)
    for side, quality in steps:
        # Many images take long: what will hardly fit is not tried.
        some = small[:: max(1, len(small) // 4)]
        expected = sum(len(_sheet(part, side, quality)) for part in some)
        expected *= 4 / 3 * len(small) / len(some)
        if expected > 1.2 * room and (side, quality) != list(steps)[-1]:
            continue
        text = "\n".join(_sheet(part, side, quality) for part in small)
        size = len(text)
        if size <= room:
            return text, side, quality
    raise ValueError(
        f"{len(order)} thumbnails take {size:,} bytes at their coarsest, more than the "
        f"{max(room, 0):,} that the limit leaves; list fewer suspects, or raise the "
        "limit"
    )


def _fitted(image: np.ndarray, side: int) -> np.ndarray:
    """An image within a square, the rest of it grey: uint8 [side, side, 3]."""
    from PIL import Image

    if image.shape[2] == 1:
        image = image.repeat(3, 2)
    height, width = image.shape[:2]
    factor = min(side / max(height, width), 1)
    new = max(1, round(width * factor)), max(1, round(height * factor))
    if new != (width, height):
        small = Image.fromarray(image).resize(new, Image.Resampling.LANCZOS)
        image = np.asarray(small)
    square = np.full((side, side, 3), 128, np.uint8)
    left, top = (side - new[0]) // 2, (side - new[1]) // 2
    square[top : top + new[1], left : left + new[0]] = image
    return square


def _sheet(images: np.ndarray, side: int, quality: int) -> str:
    """One sheet as an element of the page."""
    from PIL import Image

    grid = np.zeros((ACROSS * side, ACROSS * side, 3), np.uint8)
    for place, image in enumerate(images):
        y, x = (side * k for k in divmod(place, ACROSS))
        if image.shape[0] != side:
            image = _fitted(image, side)
        grid[y : y + side, x : x + side] = image
    file = io.BytesIO()
    Image.fromarray(grid).save(file, "WEBP", quality=quality, method=4)
    text = base64.b64encode(file.getvalue()).decode()
    return f'<script type="text/plain" class="sheet">{text}</script>'


# ----------------------------------------------------------------------- facts in words


def _lead(run: Mapping[str, Any], suspects: pd.DataFrame) -> str:
    """What the run found, in a sentence or two."""
    estimate = run.get("estimate")
    if not estimate:
        return (
            "How many labels are wrong was not estimated. To estimate it, run "
            "<code>curvlib suspects</code> with <code>--plant 0.02</code> and more "
            "<code>--minutes</code>."
        )
    wrong, low, high = (estimate[name] for name in ("wrong", "low", "high"))
    share = 100 * wrong / len(suspects)
    text = (
        f"<strong>About {wrong:,.0f} of {len(suspects):,} labels are wrong</strong> "
        f"({share:.1f}%; 90% interval {low:,.0f} to {high:,.0f})."
    )
    recall = estimate.get("recall_at_wrong")
    if wrong >= 1 and recall is not None:
        text += (
            f" If you look at the first {wrong:,.0f} suspects, you find about "
            f"{100 * recall:.0f}% of the wrong labels."
        )
    return text


def _facts(run: Mapping[str, Any], suspects: pd.DataFrame, listed: int) -> str:
    """What the estimate is made from, in sentences and a small table."""
    count, estimate, lines = len(suspects), run.get("estimate"), []
    if estimate:
        lines.append(
            f"The estimate comes from {estimate['planted']:,} wrong labels that were "
            "planted in further runs. It counts wrong labels that are as easy to see "
            "as planted ones. People confuse images that look alike, and the estimate "
            "counts only a part of such errors. Read it as a lower bound there."
        )
    lines.append(
        f"The source is <code>{_text(run['source'])}</code>: {count:,} ranked images "
        f"of {len(run['classes'])} classes."
    )
    if listed < count:
        lines[-1] += (
            f" This page lists the {listed:,} most suspect ones; "
            "<code>suspects.csv</code> has all of them."
        )
    order = run.get("order") or {}
    if order.get("scores"):
        names = ", ".join(f"<code>{_text(n)}</code>" for n in order["scores"])
        lines.append(f"Suspects are ordered by {names}: {_text(order['how'])}.")
    table = _precisions(estimate["curve"]) if estimate else ""
    return f"<div>{_paragraphs(lines)}</div>\n{table}"


def _rounded(curve: Mapping[str, Sequence[float]] | None) -> dict | None:
    """The curve of the estimate with the digits that the page needs."""
    if curve is None:
        return None
    return {
        name: [round(float(value), 4) for value in curve[name]]
        for name in ("rank", "precision", "low", "high")
    }


def _paragraphs(lines: Sequence[str]) -> str:
    return "\n".join(f"<p>{line}</p>" for line in lines)


def _precisions(curve: Mapping[str, Sequence[float]]) -> str:
    """Expected precision at a few round ranks."""
    last = max(curve["rank"])
    ranks = [rank for rank in (10, 20, 50, 100, 200, 500, 1000, 2000) if rank <= last]
    rows = []
    for rank in ranks:
        share, low, high = (
            100 * np.interp(rank, curve["rank"], curve[name])
            for name in ("precision", "low", "high")
        )
        wrong = f"{rank * share / 100:.0f}"
        cells = (f"{rank:,}", wrong, f"{share:.0f}%", f"{low:.0f} to {high:.0f}%")
        rows.append("<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
    if not rows:
        return ""
    return (
        '<table class="numbers"><thead><tr><th scope="col">first</th>'
        '<th scope="col">wrong, expected</th><th scope="col">share</th>'
        '<th scope="col">90% interval</th></tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table>"
    )


def _plots(run: Mapping[str, Any], suspects: pd.DataFrame) -> str:
    estimate = run.get("estimate")
    wrong = estimate["wrong"] if estimate else None
    found = drawing.distribution(suspects["consensus"].to_numpy(float), wrong)
    if estimate:
        found = drawing.precision(estimate["curve"], wrong) + found
    return found


def _next(run: Mapping[str, Any]) -> str:
    """The commands to go on with."""
    source = _text(shlex.quote(str(run["source"])))
    commands = (
        (
            "Write corrected labels. The source is never changed.",
            f"curvlib apply decisions.csv {source} --out labels.csv",
        ),
        (
            "Rank what is left again, with your decisions taken into account.",
            f"curvlib suspects {source} --decisions decisions.csv --out second-report",
        ),
    )
    items = "".join(
        f"<li>{text}<pre><code>{line}</code></pre></li>" for text, line in commands
    )
    if run.get("folder"):
        items += (
            "<li>For a folder, <code>--move</code> copies it to <code>--out</code> "
            "with every file in the folder of its new class.</li>"
        )
    return (
        "<ol><li>Decide above, and press “Export decisions.csv”. The browser keeps "
        "your decisions, but only the file is safe. An image that you leave open "
        f"keeps its label.</li>{items}</ol>"
    )


# ------------------------------------------------------------------------------ writing


def _text(value: object) -> str:
    """Text for HTML; bytes of a file's name that are no text become question marks."""
    return escape(str(value).encode("utf-8", "replace").decode())


def _json(value: object) -> str:
    """JSON that ends no element and can be encoded, whatever is in it."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    text = text.replace("<", "\\u003c")
    return re.sub("[\ud800-\udfff]", lambda m: f"\\u{ord(m[0]):04x}", text)


def _filled(parts: Mapping[str, str]) -> str:
    template = (HERE / "page.html").read_text(encoding="utf-8")
    return re.sub(r"@@([A-Z]+)@@", lambda match: parts[match[1]], template)
