"""The paper's claims at a glance: a chart and tables, made from the pages' verdicts.

Every drawn page keeps its claims beside it, in ``<page>.json``. This module gathers
those that ``curvlib.studies.published.claims`` names and writes, in ``book/pages``:

    claims-chart.svg    one bar for each claim: in how many settings it holds
    claims-glance.txt   a sentence and a short table, for the first page
    claims-table.txt    everything: published values, ours, tolerance, command

They are Markdown for MyST's ``include``. Nothing in them is typed by hand. A *setting*
has one verdict on a page: it is a data set, perhaps with one kind of wrong labels.
"""

import io
import json
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from curvlib.book.page import MARKS
from curvlib.files import write_atomically
from curvlib.studies import published

CHART, GLANCE, TABLE = "claims-chart.svg", "claims-glance.txt", "claims-table.txt"
COLOURS = {True: "#009E73", None: "#C9C9C9", False: "#D55E00"}
SHORT = {  # of the chart, by name of the claim
    "rise-peak-fall": "rises, peaks and falls",
    "averaging-helps": "averaging over epochs helps",
    "prototypes-and-tail": "low: prototypes, high: long tail",
    "duplicates-found": "finds duplicates",
    "agrees-with-memorization": "agrees with memorization",
    "high-auroc": "finds wrong labels",
    "beats-other-scores": "beats other scores",
    "one-network-against-thousands": "one network is enough",
}


class Row(NamedTuple):
    """One claim of the paper, and what the pages found.

    Attributes:
        claim: A claim of the paper.
        page: The page that judged it, or else the claim's own page.
        verdicts: By label of the setting.
        ours: Our values, by label; a value for all settings has an empty label.
        tolerance: The rule that decides.
    """

    claim: published.Claim
    page: str
    verdicts: dict[str, bool | None]
    ours: dict[str, str]
    tolerance: str

    @property
    def counts(self) -> dict[bool | None, int]:
        """In how many settings the claim holds, is undecided, does not hold."""
        values = list(self.verdicts.values())
        return {mark: values.count(mark) for mark in (True, None, False)}

    @property
    def overall(self) -> bool | None:
        """What more than half of the settings say; None if there is no majority."""
        for mark in (True, False):
            if self.counts[mark] > len(self.verdicts) / 2:
                return mark
        return None


def gathered(pages: Path, claims: Iterable[published.Claim] | None = None) -> list[Row]:
    """The paper's claims with the verdicts of all drawn pages, in the paper's order.

    If several pages judge a claim in one setting, the claim's own page counts, or else
    the first.

    Args:
        pages: Folder of the drawn pages.
        claims: For tests: claims to use in place of the paper's.
    """
    marks: dict[str, list[tuple[str, dict]]] = {}
    for file in sorted(pages.glob("*.json")):
        for mark in json.loads(file.read_text(encoding="utf-8")).get("claims", []):
            marks.setdefault(mark.get("name", ""), []).append((file.stem, mark))
    rows = []
    for claim in published.claims() if claims is None else claims:
        row = Row(claim, claim.page, {}, {}, "")
        found = marks.get(claim.name, [])
        for page, mark in sorted(found, key=lambda each: each[0] != claim.page):
            row = Row(
                claim,
                row.page if row.verdicts else page,
                mark["verdicts"] | row.verdicts,
                mark["ours"] | row.ours,
                row.tolerance or mark["tolerance"],
            )
        rows.append(row)
    return rows


def missing(rows: Iterable[Row]) -> list[str]:
    """Names of the claims that no drawn page judges."""
    return [row.claim.name for row in rows if not row.verdicts]


def write(root: Path) -> list[Path]:
    """Write what changed; nothing if no page has been drawn.

    Args:
        root: Root folder of the project.

    Returns:
        The files that were written.
    """
    pages = root / "book" / "pages"
    if not any(pages.glob("*.json")):
        return []
    written = []
    for name, content in contents(gathered(pages)).items():
        file = pages / name
        if not file.exists() or file.read_bytes() != content:
            write_atomically(file, content)
            written.append(file)
    return written


def contents(rows: list[Row]) -> dict[str, bytes]:
    """The three files, by name."""
    texts = {GLANCE: glance(rows), TABLE: table(rows)}
    return {CHART: chart(rows)} | {name: text.encode() for name, text in texts.items()}


def glance(rows: list[Row]) -> str:
    """A sentence that counts, the chart, and a row for each claim."""
    judged = [row for row in rows if row.verdicts]
    counts = {
        mark: sum(row.overall is mark for row in judged) for mark in (True, None, False)
    }
    fail, stay = (
        f"{counts[mark]} {verb}{'s' * (counts[mark] == 1)}"
        for mark, verb in ((False, "fail"), (None, "stay"))
    )
    sentence = (
        f"**{counts[True]} of {len(judged)} claims of the paper hold in most settings "
        f"tried here.** Of the others, {fail} in most settings, and {stay} undecided. "
        "A *setting* is a data set, perhaps with one kind of wrong labels."
    )
    body = [
        [_plain(row.claim.text), _summary(row), f"[](pages/{row.page}.ipynb)"]
        for row in judged
    ]
    figure = [
        f"```{{figure}} pages/{CHART}",
        ":class: dark-light drawn",
        f":alt: {_alt(judged)}",
        "",
        "In how many settings each claim of the paper holds here.",
        "```",
    ]
    head = ["claim of the paper", "here", "page"]
    return "\n".join([sentence, "", *figure, "", *_list_table(head, body)]) + "\n"


def table(rows: list[Row]) -> str:
    """A table with everything that is known about each claim."""
    head = ["claim of the paper", "published", "here", "decided by", "page and command"]
    body = [
        [
            _plain(row.claim.text),
            _plain(row.claim.published),
            _here(row),
            _plain(row.tolerance),
            f"[](pages/{row.page}.ipynb), `curvlib run {row.page}`"
            if row.verdicts
            else "none yet",
        ]
        for row in rows
    ]
    return "\n".join(_list_table(head, body, widths="17 15 40 12 16")) + "\n"


def _here(row: Row) -> str:
    lines = [
        f"{MARKS[holds][1]} {MARKS[holds][0]}"
        + (f" on {label}" if label else "")
        + (f": {row.ours[label]}" if row.ours.get(label) else "")
        for label, holds in row.verdicts.items()
    ]
    if "" in row.ours and "" not in row.verdicts:
        lines.insert(0, row.ours[""])
    # A value and its spread stay on one line.
    text = "\n\n".join(_plain(line) for line in lines).replace(" ± ", "\xa0±\xa0")
    return text or "not judged yet"


def _summary(row: Row) -> str:
    total = len(row.verdicts)
    parts = [
        f"{MARKS[mark][1]} {MARKS[mark][0]} in {count}"
        for mark, count in row.counts.items()
        if count
    ]
    parts[0] += f" of {total} setting{'s' * (total != 1)}"
    return ", ".join(parts)


def _alt(rows: list[Row]) -> str:
    return "; ".join(f"{_short(row.claim.name)}: {_summary(row)}" for row in rows)


def _short(name: str) -> str:
    return SHORT.get(name, name.replace("-", " "))


def _plain(text: str) -> str:
    """Text that Markdown shows as it is."""
    return "".join("\\" + c if c in "\\`*_{}[]<>|$#~" else c for c in text)


def _list_table(
    head: list[str], body: list[list[str]], *, widths: str = ""
) -> list[str]:
    options = [":header-rows: 1", ":class: claims"]
    options += [f":widths: {widths}"] if widths else []
    lines = ["````{list-table}", *options, ""]
    for row in [head, *body]:
        for place, cell in enumerate(row):
            first, *rest = cell.split("\n")
            lines.append(f"{'* - ' if place == 0 else '  - '}{first}")
            lines += [f"    {line}".rstrip() for line in rest]
    return [*lines, "````"]


def chart(rows: list[Row]) -> bytes:
    """One bar for each claim: settings in which it holds, is undecided, fails."""
    import matplotlib
    from matplotlib import pyplot as plt

    from curvlib.book import figures

    figures.set_style()
    judged = [row for row in rows if row.verdicts]
    names = [_short(row.claim.name) for row in judged]
    # The same bytes each time, and text as shapes, since fonts differ.
    with matplotlib.rc_context({"svg.hashsalt": "curvlib", "svg.fonttype": "path"}):
        figure, (ax,) = figures.panels(1, height=1.2 + 0.34 * max(len(judged), 1))
        left = [0] * len(judged)
        for mark, colour in COLOURS.items():
            counts = [row.counts[mark] for row in judged]
            ax.barh(names, counts, left=left, color=colour, label=MARKS[mark][0])
            for place, count in enumerate(counts):
                if count:
                    middle = left[place] + count / 2
                    ax.text(*(middle, place, MARKS[mark][1]), ha="center", va="center")
            left = [a + b for a, b in zip(left, counts, strict=True)]
        figure.set_figwidth(4.8)  # inches: still readable on a phone
        ax.invert_yaxis()
        ax.xaxis.get_major_locator().set_params(integer=True)
        ax.set_xlabel("settings")
        figure.legend(loc="outside upper center", ncols=3, frameon=False, fontsize=9)
        buffer = io.BytesIO()
        none = {"Date": None, "Creator": None}
        figure.savefig(buffer, format="svg", metadata=none, transparent=True)
        plt.close(figure)
    return buffer.getvalue()
