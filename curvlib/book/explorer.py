"""One HTML file to look at every image and all its scores, with nothing else running.

Everything is in the file: BokehJS, the scores, and the images as one sprite. So it can
be opened from a folder, sent by mail, and be read in ten years. What a reader can do
with it is written in ``explorer_page``.
"""

import base64
import io
import json
import re
import zlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from curvlib.book.explorer_page import TEMPLATE
from curvlib.data import Images
from curvlib.scores import SCORES
from curvlib.trace import write_atomically

if TYPE_CHECKING:
    import pandas as pd

LIMIT = 8_000_000  # bytes of the file
# Side in pixels (never enlarged; None: as it is) and WebP quality (None: lossless),
# from good to what is just enough to see what an image shows.
SPRITES = (
    *((None, quality) for quality in (None, 80, 50, 30)),
    *((24, quality) for quality in (50, 30, 20, 15, 10)),
    *((20, quality) for quality in (20, 10)),
    *((16, quality) for quality in (30, 20, 10)),
)
SIDE = 16383  # pixels: WebP has no larger images


class Written(NamedTuple):
    """How an explorer turned out."""

    size: int  # bytes of the file
    side: int  # pixels of an image in it
    quality: int | None  # of WebP, 0 to 100; None: lossless
    scores: tuple[str, ...]  # its columns, in their order


def write(
    path: Path,
    images: Images,
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
    known = {name: score.sign for name, score in SCORES.items()} | dict(signs or {})
    names = [n for n in frame.columns if n not in ("index", "label", "class", "random")]
    _check(images, frame, names, known)
    columns = [
        _planes(images.index.astype(">u4")),
        _planes(images.labels.astype(">u4")),
    ]
    columns += [_planes(_rounded(frame[name].to_numpy())) for name in names]
    meta = {
        "name": images.name,
        "count": len(images),
        "classes": images.classes,
        "scores": names,
        "signs": [known[name] for name in names],
    }
    parts = {
        "BOKEH": _bokeh(),
        "PLOT": _plot(),
        "COLUMNS": _packed(b"".join(columns)),
    }
    room = limit - sum(map(len, parts.values()))
    few = images.images[:: max(1, len(images) // 1000)]
    size = 0
    for step in SPRITES:
        guess = _sprite(few, *step)
        if guess is None:
            continue
        # Many images take long: what will hardly fit is not tried. Base64: 4 for 3.
        expected = len(guess[0]) / len(few) * len(images) * 4 / 3
        if expected > 1.2 * room and step != SPRITES[-1]:
            continue
        found = _sprite(images.images, *step)
        if found is None:
            continue
        sprite, side, across = found
        page = _filled(
            parts
            | {
                "META": _json(meta | {"side": side, "across": across}),
                "SPRITE": base64.b64encode(sprite).decode(),
            }
        ).encode()
        size = len(page)
        if size <= limit:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, page)
            return Written(size, side, step[1], tuple(names))
    raise ValueError(
        f"an explorer of {len(images)} images and {len(names)} scores would have "
        f"{size:,} bytes with the coarsest images, more than the limit of {limit:,}; "
        "give it fewer images (Images.select) or fewer columns, or raise the limit"
    )


def _check(
    images: Images, frame: "pd.DataFrame", names: list[str], known: Mapping[str, int]
) -> None:
    if "index" not in frame or not np.array_equal(frame["index"], images.index):
        raise ValueError(
            f"the frame needs a column 'index' equal to that of the {len(images)} "
            f"images, in their order; got {len(frame)} rows of {list(frame.columns)}"
        )
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
                f"{images.index[bad.argmax()]} has {values[bad.argmax()]}"
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
    return re.sub(r"@@([A-Z]+)@@", lambda match: parts[match[1]], TEMPLATE)


# ---------------------------------------------------------------- images to a sprite


def _sprite(
    images: np.ndarray, side: int | None, quality: int | None
) -> tuple[bytes, int, int] | None:
    """WebP of all images in a square grid, its step in pixels, and images across it.

    None if this step of ``SPRITES`` would enlarge images, or WebP cannot hold it.
    """
    from PIL import Image

    count, height, width, channels = images.shape
    native = max(height, width)
    if side is not None and side >= native:
        return None
    factor = 1.0 if side is None else side / native
    side = native if side is None else side
    across = int(np.ceil(np.sqrt(count)))
    if across * side > SIDE:
        return None
    new = max(1, round(width * factor)), max(1, round(height * factor))
    left, top = (side - new[0]) // 2, (side - new[1]) // 2
    grid = np.zeros((across * side, across * side, channels), np.uint8)
    for place, pixels in enumerate(images):
        if factor != 1.0:
            small = Image.fromarray(pixels.squeeze()).resize(new, Image.Resampling.BOX)
            pixels = np.asarray(small).reshape(new[1], new[0], channels)
        y, x = (side * k for k in divmod(place, across))
        grid[y + top : y + top + new[1], x + left : x + left + new[0]] = pixels
    options = {"lossless": True} if quality is None else {"quality": quality}
    file = io.BytesIO()
    Image.fromarray(grid.repeat(3, 2) if channels == 1 else grid).save(
        file, "WEBP", method=4, **options
    )
    return file.getvalue(), side, across


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
