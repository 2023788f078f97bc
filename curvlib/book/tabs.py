"""Tabs: the same figure or table of several data sets, one of them in sight.

Tabs need no script. They are radio buttons, which the arrow keys move between, and the
style sheet of the book shows what belongs to the chosen one. Without the style sheet,
as in Jupyter, all of it shows.
"""

import base64
import html
import io
import itertools
from collections.abc import Mapping
from typing import Any

from curvlib.book.parameters import PageError

SHOWN, FINE = 100, 150  # dots an inch: of the page, and of the images in it
_GROUPS = itertools.count(1)  # the same numbers whenever a notebook runs from its start


def show(
    contents: Mapping[str, Any],
    *,
    alt: str | Mapping[str, str] = "",
    caption: str | Mapping[str, str] = "",
    legend: str = "Data set",
) -> None:
    """Show one thing for each label, as tabs; a single one without tabs.

    In a cell with a figure's name and caption in its metadata the tabs are one figure,
    which texts refer to.

    Args:
        contents: By label: a Matplotlib figure, which is closed, a DataFrame or
            anything else that has ``_repr_html_``, or HTML.
        alt: What the figures show, for those who cannot see them; the label is added.
            By label if they differ.
        caption: Shown below; by label if they differ. Plain text.
        legend: What one chooses between, for screen readers.

    Raises:
        PageError: If there is nothing to show, a figure has no alt text, or something
            is none of the above.
    """
    from IPython.display import HTML, display

    if not contents:
        raise PageError("tabs.show got nothing to show: give at least one label")
    group = f"tabs-{next(_GROUPS)}"
    panels = {
        label: _panel(
            _as_html(content, f"{group}-{place}", _of(alt, label), label),
            _of(caption, label),
        )
        for place, (label, content) in enumerate(contents.items(), 1)
    }
    if len(panels) == 1:
        (text,) = panels.values()
    else:
        text = _fieldset(group, legend, panels)
    display(HTML(text))


def _of(text: str | Mapping[str, str], label: str) -> str:
    return text if isinstance(text, str) else text.get(label, "")


def _fieldset(group: str, legend: str, panels: Mapping[str, str]) -> str:
    rows = [
        f'<input type="radio" name="{group}" id="{group}-{place}" autocomplete="off"'
        f"{' checked' if place == 1 else ''}>"
        f'<label for="{group}-{place}">{html.escape(label)}</label>{panel}'
        for place, (label, panel) in enumerate(panels.items(), 1)
    ]
    head = f'<fieldset class="data-tabs"><legend>{html.escape(legend)}</legend>'
    return "\n".join([head, *rows, "</fieldset>"])


def _panel(content: str, caption: str) -> str:
    below = f'<p class="tab-caption">{html.escape(caption)}</p>' if caption else ""
    return f'<div class="tab-panel">{content}{below}</div>'


def _as_html(content: Any, name: str, alt: str, label: str) -> str:
    from matplotlib.figure import Figure
    from pandas.io.formats.style import Styler

    if isinstance(content, str):
        return content
    if isinstance(content, Figure):
        if not alt:
            raise PageError(
                f"the figure of {label} needs a text for those who cannot see it: "
                'tabs.show(..., alt="...")'
            )
        return _image(content, f"{alt.rstrip(' .')} ({label})")
    if isinstance(content, Styler):
        content.set_uuid(name)  # its own differs each time
    if hasattr(content, "_repr_html_"):
        return content._repr_html_()
    raise PageError(
        f"tabs.show cannot show {type(content).__name__} for {label}: give a figure, "
        "a table, anything that has _repr_html_, or HTML"
    )


def _image(figure: Any, alt: str) -> str:
    """A figure as an image within the page, drawn finer than it is shown."""
    import matplotlib.pyplot as plt

    buffer, dpi = io.BytesIO(), max(FINE, figure.dpi)
    figure.savefig(
        buffer,
        format="png",
        bbox_inches="tight",
        dpi=dpi,
        metadata={"Software": None},  # the same bytes with every Matplotlib
    )
    plt.close(figure)  # or the notebook shows it once more
    png = buffer.getvalue()
    width = round(int.from_bytes(png[16:20]) * SHOWN / dpi)  # these bytes: its own
    return (
        f'<img src="data:image/png;base64,{base64.b64encode(png).decode()}" '
        f'width="{width}" alt="{html.escape(alt)}">'
    )
