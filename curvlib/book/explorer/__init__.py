"""One HTML file to look at every image and all its scores, with nothing else running.

Everything is in the file: BokehJS, the scores, and the images as one sprite. So it can
be opened from a folder, sent by mail, and be read in ten years. ``page.html``,
``style.css`` and ``script.js`` beside this module are its parts, with gaps such as
``@@META@@`` in the page:

- META: JSON; name, count N, classes, scores, their labels and signs, side and across of
  the sprite, whose i-th image is in row ``i // across``.
- COLUMNS: zlib, base64; index, label and each score, four planes of N bytes each: the
  first bytes of N big-endian words, then the second ones, and so on. Indices have two
  words, the upper half first.
- SPRITE: WebP, base64. BOKEH: BokehJS, zlib, base64. PLOT: Bokeh's JSON.
"""

import base64
import html
import json
import re
import zlib
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from curvlib.scores import SCORES
from curvlib.studies.explorer import Sprite, sprite_of

if TYPE_CHECKING:
    import pandas as pd

    from curvlib.data import Images

HERE = Path(__file__).parent
LIMIT = 8_000_000  # bytes of the file


class Written(NamedTuple):
    """How an explorer turned out."""

    size: int  # bytes of the file
    side: int  # pixels of an image in it
    quality: int | None  # of WebP, 0 to 100; None: lossless
    scores: tuple[str, ...]  # its columns, in their order


def write(
    path: Path,
    images: "Images",
    frame: "pd.DataFrame",
    *,
    signs: Mapping[str, int] | None = None,
    limit: int = LIMIT,
) -> Written:
    """Write the explorer of some images and their scores.

    Scores keep sixteen significant bits, between four and five decimal digits, and
    ranks are made of these; sizes below 1e-38 become 0. Images are made smaller and
    coarser, step by step of ``SPRITES``, until the file is within the limit. The same
    arguments give the same bytes.

    Args:
        path: The file, ending in ``.html``.
        images: N images, with the labels given.
        frame: N rows in the order of the images: a column ``index``, and the scores.
            Columns ``label``, ``class`` and ``random`` are left out.
        signs: +1 for scores of which high is suspect, -1 where low is; those of
            ``curvlib.scores.SCORES`` are known.
        limit: Bytes that the file may have.

    Returns:
        Size of the file, and how the images are kept in it.

    Raises:
        ValueError: If the rows are not those of the images, there are fewer than two
            scores, one is not finite or has no known direction, or even the coarsest
            images do not fit.
    """
    if "index" not in frame or not np.array_equal(frame["index"], images.index):
        raise ValueError(
            f"the frame needs a column 'index' equal to that of the {len(images)} "
            f"images, in their order; got {len(frame)} rows of {list(frame.columns)}"
        )
    frame = frame.assign(label=images.labels)
    room = limit - _size_without(images.name, images.classes, frame, signs)
    sprite = sprite_of(images.images, room=room * 3 // 4)  # base64: 4 for 3
    return write_with(
        path,
        sprite,
        frame,
        name=images.name,
        classes=images.classes,
        signs=signs,
    )


def write_with(
    path: Path,
    sprite: Sprite,
    frame: "pd.DataFrame",
    *,
    name: str,
    classes: Sequence[str],
    signs: Mapping[str, int] | None = None,
) -> Written:
    """Write the explorer of scores whose images are in a sprite already.

    Args:
        path: The file, ending in ``.html``.
        sprite: N images, as ``sprite_of`` gives them.
        frame: N rows in the order of the images: columns ``index`` and ``label``, and
            the scores.
        name: Name of the data set.
        classes: Names by number.
        signs: As for ``write``.

    Returns:
        Size of the file, and how the images are kept in it.

    Raises:
        ValueError: As for ``write``.
    """
    names, meta, parts = _parts(name, classes, frame, signs)
    page = _filled(
        parts
        | {
            "META": _json(meta | {"side": sprite.side, "across": sprite.across}),
            "SPRITE": base64.b64encode(sprite.webp).decode(),
        }
    ).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.partial")
    partial.write_bytes(page)
    partial.replace(path)
    return Written(len(page), sprite.side, sprite.quality, tuple(names))


def _parts(
    name: str,
    classes: Sequence[str],
    frame: "pd.DataFrame",
    signs: Mapping[str, int] | None,
) -> tuple[list[str], dict, dict[str, str]]:
    """Names of the scores, and all of the page but for the images."""
    known = {name: score.sign for name, score in SCORES.items()} | dict(signs or {})
    names = [n for n in frame.columns if n not in ("index", "label", "class", "random")]
    _check(frame, names, known)
    index = frame["index"].to_numpy().astype(np.uint64)
    columns = [
        _planes((index >> np.uint64(32)).astype(">u4")),
        _planes((index & np.uint64(0xFFFFFFFF)).astype(">u4")),
        _planes(frame["label"].to_numpy().astype(">u4")),
    ]
    columns += [_planes(_rounded(frame[name].to_numpy())) for name in names]
    meta = {
        "name": name,
        "count": len(frame),
        "classes": list(classes),
        "scores": names,
        "labels": [
            SCORES[n].label if n in SCORES else n.replace("_", " ") for n in names
        ],
        "signs": [known[name] for name in names],
    }
    parts = {
        "STYLE": (HERE / "style.css").read_text(encoding="utf-8"),
        "SCRIPT": (HERE / "script.js").read_text(encoding="utf-8"),
        "BOKEH": _bokeh(),
        "PLOT": _plot(),
        "COLUMNS": _packed(b"".join(columns)),
    }
    return names, meta, parts


def _size_without(name, classes, frame, signs) -> int:
    """Bytes of the page but for the images."""
    _, meta, parts = _parts(name, classes, frame, signs)
    empty = {"META": _json(meta | {"side": 9999, "across": 9999}), "SPRITE": "    "}
    return len(_filled(parts | empty).encode())


def _check(frame: "pd.DataFrame", names: list[str], known: Mapping[str, int]) -> None:
    if len(names) < 2:
        raise ValueError(f"an explorer needs two scores or more, got {names}")
    unknown = [name for name in names if known.get(name) not in (1, -1)]
    if unknown:
        raise ValueError(
            f"no direction is known for {unknown}: drop them, or pass signs, +1 where "
            "high is suspect and -1 where low is"
        )
    for name in names:
        values = frame[name].to_numpy()
        bad = ~(np.abs(values.astype(float)) <= np.finfo(np.float32).max)
        if bad.any():
            raise ValueError(
                f"{name} must be finite, and within what float32 holds, but sample "
                f"{frame['index'].iloc[bad.argmax()]} has {values[bad.argmax()]}"
            )


# ------------------------------------------------------------------- numbers to text


def _rounded(values: np.ndarray) -> np.ndarray:
    """The upper three bytes of float32, rounded; big-endian uint32, the last byte 0."""
    tiny = np.finfo(np.float32).tiny
    values = np.where(np.abs(values) < tiny, 0.0, values).astype(np.float32)
    bits = values.view(np.uint32)
    rounded = (bits.astype(np.uint64) + 0x80) & 0xFFFFFF00
    infinite = (rounded & 0x7F800000) == 0x7F800000
    return np.where(infinite, bits & 0xFFFFFF00, rounded).astype(">u4")


def _planes(words: np.ndarray) -> bytes:
    """All first bytes of big-endian words, then all second ones: packs much better."""
    return words.view(np.uint8).reshape(-1, 4).T.tobytes()


def _packed(content: bytes) -> str:
    return base64.b64encode(zlib.compress(content, 9)).decode()


def _json(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return text.replace("<", "\\u003c")  # a class called </script> ends nothing


def _filled(parts: Mapping[str, str]) -> str:
    template = (HERE / "page.html").read_text(encoding="utf-8")
    return re.sub(r"@@([A-Z]+)@@", lambda match: parts[match[1]], template)


# -------------------------------------------------------------------------- the plot


@cache
def _bokeh() -> str:
    from bokeh.resources import Resources

    scripts = Resources("inline", components=["bokeh", "bokeh-gl"]).js_raw
    return _packed("\n".join(scripts).encode())


@cache
def _plot() -> str:
    """An empty scatter plot as Bokeh's JSON; the page's script fills and colours it."""
    from bokeh.embed import json_item
    from bokeh.models import (
        ColumnDataSource,
        CustomJS,
        CustomJSTickFormatter,
        Range1d,
        Span,
    )
    from bokeh.plotting import figure

    plot = figure(
        name="plot",
        height=440,
        sizing_mode="stretch_width",
        output_backend="webgl",
        x_range=Range1d(name="x_range"),
        y_range=Range1d(name="y_range"),
        tools="pan,box_zoom,wheel_zoom,reset",
        active_drag="box_zoom",
        background_fill_color=None,
        border_fill_color=None,
        outline_line_color=None,
        min_border_right=12,
    )
    plot.toolbar.logo = None
    for name, options in {
        "rest": {"line_color": None},
        "chosen": {"line_color": None, "fill_color": "colour"},
        "marked": {"fill_color": None, "line_width": 3, "size": 17},
    }.items():
        data: dict[str, list] = {"x": [], "y": []}
        data |= {"colour": []} if name == "chosen" else {}
        plot.scatter("x", "y", source=ColumnDataSource(data), name=name, **options)
    for axis, way in ((plot.xaxis, "x"), (plot.yaxis, "y")):
        axis.name = f"{way}_axis"
        code = f"return explorer.tick('{way}', tick)"
        axis.formatter = CustomJSTickFormatter(code=code)
        line = Span(
            name=f"{way}_zero",
            dimension="height" if way == "x" else "width",
            line_dash="dashed",
            visible=False,
        )
        plot.add_layout(line)
    for event in ("mousemove", "mouseleave", "tap"):
        plot.js_on_event(event, CustomJS(code=f"explorer.{event}(cb_obj)"))
    text = json.dumps(json_item(plot, "plot"))  # a model before what refers to it
    # Bokeh numbers what it makes; here by the order in which they stand in the text.
    numbers: dict[str, str] = {}
    ids = r'"(p\d+|[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})"'
    text = re.sub(
        ids, lambda m: f'"{numbers.setdefault(m[1], f"m{len(numbers)}")}"', text
    )
    return _json(json.loads(text))


def placeholder(label: str, file: str) -> str:
    """The place in a page where the book's script shows an explorer.

    Args:
        label: Label of the data set.
        file: Name of the explorer's file, which the page offers for download.

    Returns:
        HTML that points to the file where no script runs.
    """
    label, file = html.escape(label), html.escape(file)
    return (
        f'<div class="explorer" data-file="{file}" data-label="{label}">'
        f"<p>The explorer of {label} is the file <code>{file}</code>, among the data "
        "of this page. Any browser opens it.</p></div>"
    )
