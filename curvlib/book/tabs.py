"""Tabs: the same figure or table of several data sets, one of them in sight.

Tabs need no script. They are radio buttons, which the arrow keys move between, and the
style sheet of the book shows what belongs to the chosen one. Without the style sheet,
as in Jupyter, everything shows, one label below the other.
"""

import html
import itertools
from collections.abc import Mapping
from typing import Any

from curvlib.book.cleanup import MIME
from curvlib.book.parameters import PageError

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
    from IPython.display import display

    if not contents:
        raise PageError("tabs.show got nothing to show: give at least one label")
    group, drawn = f"tabs-{next(_GROUPS)}", []
    panels = {
        label: _panel(
            _as_html(content, f"{group}-{place}", _of(alt, label), label, drawn),
            _of(caption, label),
        )
        for place, (label, content) in enumerate(contents.items(), 1)
    }
    if len(panels) == 1:
        (text,) = panels.values()
    else:
        text = _fieldset(group, legend, panels)
    data: dict[str, Any] = {"text/html": text, "text/plain": ", ".join(panels)}
    display(data | ({MIME: {"figures": drawn}} if drawn else {}), raw=True)


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


def _as_html(content: Any, name: str, alt: str, label: str, drawn: list[dict]) -> str:
    """One of the contents as HTML; if it is a figure, its drawing goes to `drawn`."""
    if isinstance(content, str):
        return content
    import matplotlib.pyplot as plt
    import pandas as pd
    from matplotlib.figure import Figure
    from pandas.io.formats.style import Styler

    from curvlib.book import artwork, figures

    if isinstance(content, Figure):
        if not alt:
            raise PageError(
                f"the figure of {label} needs a text for those who cannot see it: "
                'tabs.show(..., alt="...")'
            )
        drawn.append(artwork.bundle(content, label))
        plt.close(content)  # or the notebook shows it once more
        return artwork.in_page(drawn[-1]["svg"], f"{alt.rstrip(' .')} ({label})")
    if isinstance(content, pd.DataFrame):
        content = figures.table(content)
    if isinstance(content, Styler):
        content.set_uuid(name)  # its own differs each time
    if hasattr(content, "_repr_html_"):
        return content._repr_html_()
    raise PageError(
        f"tabs.show cannot show {type(content).__name__} for {label}: give a figure, "
        "a table, anything that has _repr_html_, or HTML"
    )
