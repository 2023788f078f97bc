"""Images of one class at a time: HTML that needs no kernel, network or library.

All images are in one picture, which the page of a notebook keeps. Colours and letters
are those of the page around it.
"""

import base64
import html
import io
import math
from collections.abc import Sequence

import matplotlib.image
import numpy as np

from curvlib.studies.gallery import ends

SIDE = 56  # pixels that an image is wide; ten fit into a row of the page
LOSSLESS = 500_000  # bytes of the picture; a larger one is compressed with losses

STYLE = """\
.{name} select{{font:inherit;background:Canvas;color:CanvasText;\
max-width:100%;padding:.2rem}}
.{name} p{{margin:.7rem 0 .3rem}}
.{name} ul{{display:grid;gap:.5rem .3rem;padding:0;margin:0;list-style:none;\
grid-template-columns:repeat(auto-fill,minmax({side}px,1fr))}}
.{name} li{{margin:0;font-size:.72rem;line-height:1.3;overflow-wrap:anywhere}}
.{name} i{{display:block;width:{side}px;height:{height}px;image-rendering:pixelated;\
background:url({picture}) 0 0/{width}px auto}}"""
# As an attribute: a script would have to find its own place, which not every
# notebook lets it.
CHOOSE = (
    "for(const s of this.closest('div').querySelectorAll('section'))"
    "s.hidden=s.dataset.class!==this.value"
)


def by_class(
    images: np.ndarray,
    *,
    label: np.ndarray,
    score: np.ndarray,
    index: np.ndarray,
    classes: Sequence[str],
    rank: np.ndarray | None = None,
    count: int = 10,
    what: str = "score",
    name: str = "by-class",
) -> str:
    """A list to choose a class from, and its images with the lowest and highest score.

    Args:
        images: uint8, shape [N, H, W, C] with C of 1 or 3.
        label: Numbers of classes, shape [N].
        score: Shape [N]; orders the images.
        index: Places in the data set, shape [N]; shown with a #.
        classes: Names by number.
        rank: Rank of each image in the whole data set, 1 for the highest score, shape
            [N]; None for the rank among these N.
        count: Images at each end of each class.
        what: Name of the score in the headings.
        name: Name of the style sheet's class, one for each list of a page.

    Returns:
        HTML; the same arguments give the same text.

    Raises:
        ValueError: If images are not uint8 of such a shape, something is not one for
            each image, or a label has no name.
    """
    images = np.asarray(images)
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] not in (1, 3):
        raise ValueError(
            "images must be uint8 of shape [N, H, W, C] with C of 1 or 3, got "
            f"{images.dtype} of shape {list(images.shape)}"
        )
    if rank is None:
        rank = np.empty(len(score), dtype=int)
        rank[np.argsort(-np.asarray(score), kind="stable")] = 1 + np.arange(len(score))
    each = {"label": label, "score": score, "index": index, "rank": rank}
    for key, values in each.items():
        if len(values) != len(images):
            raise ValueError(
                f"{key} must be one for each of {len(images)} images, got {len(values)}"
            )
    label, score, index, rank = map(np.asarray, each.values())
    if label.min() < 0 or label.max() >= len(classes):
        raise ValueError(
            f"labels must lie in [0, {len(classes)}), one for each of the classes, got "
            f"{label.min()} to {label.max()}"
        )
    found = ends(score, label, count)
    shown = np.unique(np.concatenate([end for both in found.values() for end in both]))
    picture, columns = _picture(images[shown])
    place = {position: number for number, position in enumerate(shown)}
    height = round(SIDE * images.shape[1] / images.shape[2])

    def item(position: int) -> str:
        y, x = divmod(place[position], columns)
        return (
            f'<li><i role="img" aria-label="image {index[position]}, '
            f'{names[label[position]]}" '
            f'style="background-position:{-x * SIDE}px {-y * height}px"></i>'
            f"rank {rank[position]:,}<br>#{index[position]}</li>"
        )

    names = [html.escape(str(c).replace("_", " ")) for c in classes]
    what = html.escape(what)
    options, sections = [], []
    for c, both in found.items():
        options.append(f'<option value="{c}">{names[c]}</option>')
        rows = [
            f"<p>{names[c]}, {end} {what} of n = {np.count_nonzero(label == c):,}, "
            f"{end} first</p>"
            f"<ul>{''.join(map(item, positions))}</ul>"
            for end, positions in zip(("lowest", "highest"), both, strict=True)
        ]
        hidden = "" if len(sections) == 0 else " hidden"
        sections.append(f'<section data-class="{c}"{hidden}>{"".join(rows)}</section>')
    style = STYLE.format(
        name=name, side=SIDE, height=height, width=columns * SIDE, picture=picture
    )
    # autocomplete: else a reloaded page keeps the choice, but not what it shows.
    return (
        f'<div class="{name}"><style>{style}</style>\n<label>Class <select '
        f'autocomplete="off" onchange="{CHOOSE}">{"".join(options)}</select></label>\n'
        + "\n".join(sections)
        + "\n</div>"
    )


def _picture(images: np.ndarray) -> tuple[str, int]:
    """All images in one, as a data URI, and how many stand in a row."""
    n, height, width = images.shape[:3]
    columns = math.ceil(math.sqrt(n))  # a square: WebP ends at 16,383 pixels
    rows = math.ceil(n / columns)
    grid = np.zeros((rows * columns, height, width, 3), np.uint8)
    grid[:n] = images
    grid = grid.reshape(rows, columns, height, width, 3).swapaxes(1, 2)
    grid = grid.reshape(rows * height, columns * width, 3)
    kind, content = "png", _encoded(grid, "png", optimize=True)
    if len(content) > LOSSLESS:
        kind, content = "webp", _encoded(grid, "webp", quality=90, method=6)
    text = base64.b64encode(content).decode()
    # The clean-up of pages takes "0x" and digits for an address in memory.
    return f"data:image/{kind};base64,{text.replace('0x', '0%78')}", columns


def _encoded(image: np.ndarray, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    if kind == "png":
        options["pnginfo"] = None  # not the version of matplotlib
    matplotlib.image.imsave(buffer, image, format=kind, pil_kwargs=options)
    return buffer.getvalue()
