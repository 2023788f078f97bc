"""Figures as the book shows them: drawings in the page's colours, and their data.

While the book is drawn, a figure leaves its SVG and a table of its data in the
notebook's output. ``place`` then puts the drawing into the page, where it takes its
colours and its font from the page, light or dark, and adds links to the two files and
to the code. Photographs do not change. An artist with too many points for a drawing
becomes a picture within it.
"""

import copy
import hashlib
import html
import io
import json
import re

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.collections import PathCollection, PolyCollection, QuadMesh
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle, StepPatch

from curvlib.book.cleanup import MIME
from curvlib.book.palette import VARIABLES

DATA = "curvlib_data"  # attribute of a figure: its data, where axes do not hold them
MANY = 1500  # points of one artist, from which on it is a picture
MANY_CELLS = 100  # of a grid, likewise
LONG = 25  # lines of a code cell that are shown without a click
STYLE = {"svg.fonttype": "none", "svg.hashsalt": "curvlib"}
NOTHING = dict.fromkeys(("Date", "Creator", "Format", "Type"))


def svg(figure: Figure) -> str:
    """Draw a figure as SVG: the same text each time, on no background.

    Args:
        figure: Any figure; what has very many points is set to be a picture in it.
    """
    for artist in figure.findobj(_is_heavy):
        artist.set_rasterized(True)
    buffer = io.StringIO()
    with mpl.rc_context(STYLE):
        figure.savefig(
            buffer,
            format="svg",
            dpi=200,
            transparent=True,
            bbox_inches="tight",
            pad_inches=0.04,
            metadata=NOTHING,
        )
    text = buffer.getvalue()
    text = re.sub(r"<g id=\"[\w.]+_\d+\">", "<g>", text)  # the names of parts
    text = re.sub(r"font-family: [^;\"]*", "font-family: sans-serif", text)
    text = re.sub(r"base64,\s+", "base64,", text)
    return re.sub(r"\n\s*", "\n", text)


def data(figure: Figure) -> pd.DataFrame:
    """What a figure plots, one row for each point, bar or cell.

    Args:
        figure: Of lines, steps, bars, points, bands or grids. A figure that shows
            something else, such as images, carries its table itself.

    Returns:
        Columns panel (its title, or its number), series, and x and y, with the ends of
        a band or bin as low and high, and the value of a cell. Columns without a value
        are left out.
    """
    given = getattr(figure, DATA, None)
    if given is not None:
        return given
    parts = []
    for number, ax in enumerate(figure.axes, 1):
        panel = ax.get_title() or ax.get_title("left") or str(number)
        names, ends = {}, set()  # error bars have their name in the container
        for container in ax.containers:
            names |= dict.fromkeys(container.get_children(), container.get_label())
            if isinstance(container, ErrorbarContainer):
                ends |= set(container.lines[1])
        for artist in (*ax.lines, *ax.patches, *ax.collections, *ax.images):
            rows = None if artist in ends else _rows(artist)
            if rows is None or not len(rows):
                continue
            label = str(names.get(artist) or artist.get_label() or "")
            label = "" if label.startswith("_") else label
            parts.append(rows.assign(panel=panel, series=label))
    if not parts:
        return pd.DataFrame()
    whole = pd.concat(parts, ignore_index=True)
    order = ["panel", "series", "x", "y", "low", "high", "value"]
    kept = [c for c in order if c in whole and whole[c].notna().any()]
    numbers = [column for column in kept if column not in ("panel", "series")]
    return whole[kept].astype(dict.fromkeys(numbers, float))


def bundle(figure: Figure, label: str = "") -> dict[str, str]:
    """The drawing of a figure and its data, for the output of a notebook.

    Args:
        figure: The figure.
        label: Distinguishes it from other figures of its cell, such as a data set.
    """
    return {
        "label": label,
        "svg": svg(figure),
        "csv": data(figure).to_csv(index=False, float_format="%.6g"),
    }


def in_page(drawing: str, alt: str) -> str:
    """HTML of a drawing: its colours are those of the page around it.

    Args:
        drawing: What ``svg`` gave.
        alt: Description of the figure, for readers who cannot see it.
    """
    text = drawing[drawing.index("<svg") :]
    width = float(re.search(r'width="([\d.]+)pt"', text)[1]) / 72
    own = "f" + hashlib.sha256(drawing.encode()).hexdigest()[:8]
    text = re.sub(r"(?<=\sid=\")(?=\w)", own, text)
    text = re.sub(r"(?<=href=\"#)(?=\w)|(?<=url\(#)(?=\w)", own, text)
    for colour, variable in VARIABLES.items():
        text = re.sub(rf"(?<=[ :]){colour}(?=[;\"])", variable, text)
    # Not for photographs: a dark page inverts the colours of such a picture.
    text = re.sub(r"<image(?![^>]*image-rendering)(?=\s)", '<image class="ink"', text)
    text = text.replace("font-family: sans-serif; ", "")
    text = text.replace("font-family: sans-serif", "")
    text = text.replace("0x", "0%78") if "base64" in text else text
    text = re.sub(r'<svg [^>]*viewBox="([^"]*)"[^>]*>', r'<svg viewBox="\1">', text)
    text = text.replace(
        "<svg ",
        f'<svg class="artwork" role="img" aria-label="{html.escape(alt)}" '
        f'fill="currentColor" style="width:{100 * width:.0f}px" ',
        1,
    )
    # Markdown would end HTML at an empty line.
    text = re.sub(r"<style[^>]*>.*?</style>", "", text, flags=re.DOTALL)
    return '<div class="artwork-box">' + re.sub(r"\n+", "\n", text).strip() + "</div>"


def show_as_svg() -> None:
    """Let the notebook that is running show each figure as its SVG and its data."""
    from IPython import get_ipython
    from IPython.core.pylabtools import select_figure_formats
    from matplotlib_inline.config import InlineBackend

    shell = get_ipython()
    if shell is None:
        return
    InlineBackend.instance(parent=shell).figure_formats = set()
    select_figure_formats(shell, set())
    shell.display_formatter.mimebundle_formatter.for_type(
        Figure, lambda figure, **_: {MIME: {"figures": [bundle(figure)]}}
    )


# ------------------------------------------------------------------ on a cleaned page


def place(content: bytes, folder: str) -> tuple[bytes, dict[str, bytes]]:
    """Put the drawings of a cleaned page into it, and fold its long code cells.

    Args:
        content: The page, as ``cleanup.clean`` returns it.
        folder: Folder of the page's files, from the book's root, such as
            ``"/book/pages/gallery"``.

    Returns:
        The page, with links below each figure, and the files that these offer by name:
        an SVG and, where there are data, a CSV for each figure.
    """
    notebook = json.loads(content)
    cells, files = [], {}
    for number, cell in enumerate(notebook["cells"]):
        cells.append(cell)
        if cell["cell_type"] != "code":
            continue
        _fold(cell)
        drawn = _drawn(cell)
        if not drawn:
            continue
        options = cell["metadata"].get("mystnb", {})
        name = options.get("figure", {}).get("name") or f"figure-{number:02}"
        name = name[max(name.find("fig-"), 0) :]  # the folder names the page
        links = []
        for k, figure in enumerate(drawn):
            own = name if len(drawn) == 1 else f"{name}-{k + 1}"
            files[f"{own}.svg"] = figure["svg"].encode()
            link = f"{{download}}`SVG <{folder}/{own}.svg>`"
            if figure["csv"].strip():
                files[f"{own}.csv"] = figure["csv"].encode()
                link += f", {{download}}`data <{folder}/{own}.csv>`"
            links.append(_link_of_tab(figure["label"], link))
        if "remove-input" not in cell["metadata"].get("tags", []):
            links.append(f'<a href="#code-{name}">code</a>')
            cells.insert(-1, _markdown(f'<span id="code-{name}"></span>'))
        cells.append(_markdown(f":::{{div}} figure-links\n{' '.join(links)}\n:::\n"))
    for number, cell in enumerate(cells):
        cell["id"] = f"c{number:03}"
    notebook["cells"] = cells
    text = json.dumps(notebook, indent=1, sort_keys=True, ensure_ascii=False)
    return f"{text}\n".encode(), files


def _link_of_tab(label: str, link: str) -> str:
    """Markdown of one figure's links; ``tabs.js`` shows those of the tab in sight."""
    if not label:
        return f"<span>{link}</span>"
    tab = html.escape(label)
    return f'<span data-tab="{tab}">{tab}: {link}</span>'


def _drawn(cell: dict) -> list[dict]:
    """Figures of a cell, whose outputs now show them; tabs show theirs already."""
    alt = cell["metadata"].get("mystnb", {}).get("image", {}).get("alt", "")
    found = []
    for output in cell["outputs"]:
        figures = output.get("data", {}).pop(MIME, {}).get("figures")
        if not figures:
            continue
        found += copy.deepcopy(figures)
        output["metadata"] = {}
        if "text/html" not in output["data"]:
            output["data"] = {
                "text/html": "\n".join(in_page(f["svg"], alt) for f in figures),
                "text/plain": alt,
            }
    return found


def _fold(cell: dict) -> None:
    """Fold a code cell that is longer than a screen."""
    lines = len(cell["source"].strip().splitlines())
    tags = set(cell["metadata"].get("tags", []))
    if lines <= LONG or tags & {"remove-cell", "remove-input", "hide-cell"}:
        return
    cell["metadata"]["tags"] = sorted(tags | {"hide-input"})
    options = cell["metadata"].setdefault("mystnb", {})
    options["code_prompt_show"] = f"Show the code ({lines} lines)"
    options["code_prompt_hide"] = "Hide the code"


def _markdown(source: str) -> dict:
    return {"cell_type": "markdown", "metadata": {}, "source": source}


# --------------------------------------------------------------- what an artist holds


def _is_heavy(artist: Artist) -> bool:
    if isinstance(artist, QuadMesh):
        # The colour bar of a contour map has few cells and is drawn, as the map is: a
        # dark page inverts pictures alone, and both need the same colours.
        return artist.get_array().size > MANY_CELLS
    if isinstance(artist, Line2D):
        return len(artist.get_xdata()) > MANY
    return isinstance(artist, PathCollection) and len(artist.get_offsets()) > MANY


def _rows(artist: Artist) -> pd.DataFrame | None:
    if isinstance(artist, Line2D):
        x, y = artist.get_data(orig=True)
        in_axes = artist.get_transform() != artist.axes.transData
        return None if in_axes else pd.DataFrame({"x": np.ravel(x), "y": np.ravel(y)})
    if isinstance(artist, StepPatch):
        values, edges, _ = artist.get_data()
        return pd.DataFrame({"low": edges[:-1], "high": edges[1:], "y": values})
    if isinstance(artist, Rectangle):
        x, width = artist.get_x(), artist.get_width()
        top = artist.get_y() + artist.get_height()
        return pd.DataFrame({"low": [x], "high": [x + width], "y": [top]})
    if isinstance(artist, PathCollection):
        x, y = np.asarray(artist.get_offsets()).T
        return pd.DataFrame({"x": x, "y": y})
    if isinstance(artist, QuadMesh):
        corners = artist.get_coordinates()
        x, y = (corners[:-1, :-1, k].ravel() for k in (0, 1))
        values = np.ma.filled(np.ma.asarray(artist.get_array(), float), np.nan)
        cells = pd.DataFrame({"x": x, "y": y, "value": values.ravel()})
        return cells.dropna()
    if isinstance(artist, AxesImage) and np.ndim(artist.get_array()) == 2:
        values = np.asarray(artist.get_array(), float)
        y, x = np.indices(values.shape)
        return pd.DataFrame({"x": x.ravel(), "y": y.ravel(), "value": values.ravel()})
    if isinstance(artist, PolyCollection):  # a band: along one end, back on the other
        corners = np.concatenate([path.vertices for path in artist.get_paths()])
        ends = pd.DataFrame(corners, columns=["x", "y"]).groupby("x")["y"]
        return ends.agg(low="min", high="max").reset_index()
    return None
