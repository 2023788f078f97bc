"""What a notebook calls: its record, the numbers of its text, its claims."""

import html
import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from curvlib.book import catalogue, records
from curvlib.book.parameters import (
    PageError,
    given_parameters,
    parameters_of_study,
)
from curvlib.book.records import Record

MARKS = {True: ("holds", "✓"), False: ("does not hold", "✗"), None: ("undecided", "?")}
ROOT = "CURVLIB_ROOT"  # environment variable: the project that a notebook belongs to
FILES = "CURVLIB_PAGE_FILES"  # the same: where a page's own files go


class Page:
    """A notebook that is running: in Jupyter, under papermill, or for the book.

    Attributes:
        parameters: Values of the parameters cell, as given.
        root: The project; the folder of the notebook's process, if it is in none.
    """

    def __init__(self, parameters: Mapping[str, Any], root: Path):
        self.parameters = SimpleNamespace(**parameters)
        self.root = root
        self._for_the_book = FILES in os.environ
        self._shown: list[str] = []  # labels

    @classmethod
    def begin(cls, sources: Sequence[str]) -> "Page":
        """Check the parameters that were given, and set the style of all figures.

        Args:
            sources: Cells that ran, IPython's ``In``.

        Raises:
            PageError: If a parameter is unknown or of another type.
        """
        from curvlib.book import figures

        figures.set_style()
        return cls(given_parameters(sources), _root())

    def record(self, measure: Callable) -> Record:
        """The first of the records that this notebook shows: read, or measured now.

        Args:
            measure: The function of a study, such as ``gallery.measure``.

        Raises:
            PageError: As ``records`` does.
        """
        return next(iter(self.records(measure).values()))

    def records(self, measure: Callable | None = None) -> dict[str, Record]:
        """The records that this notebook shows, by label, such as ``CIFAR-10``.

        With the parameter ``records``, those that it names, in its order; records with
        the same label, which may differ in their seeds alone, become one. Else the one
        in the folder ``results``, if it was made with the same parameters, data and
        recipes; else it is measured, and kept there.

        Args:
            measure: The function of a study, such as ``gallery.measure``; None for a
                notebook that measures nothing.

        Raises:
            PageError: If one of them does not exist, two have the same label and differ
                in more than seeds, or there is nothing to show.
        """
        if names := self.parameters.records:
            labels = _labels(self.root)
            shown: dict[str, list[Record]] = {}
            for name in names:
                record = Record.open(self.root / "results" / name)
                label = labels.get(name) or _default_label(record)
                shown.setdefault(label, []).append(record)
            found = {label: Record.joined(same) for label, same in shown.items()}
        elif measure is None:
            raise PageError(
                "this notebook shows records and measures nothing; name them: "
                "-y '{records: [digits/mislabelled]}'"
            )
        else:
            record = self._measured(measure)
            found = {_default_label(record): record}
        self._shown = list(found)
        return found

    def _measured(self, measure: Callable) -> Record:
        study = measure.__module__.rsplit(".", 1)[-1]
        given = {
            name: getattr(self.parameters, name) for name in parameters_of_study(study)
        }
        if "runs" in given:
            given["runs"] = str(self.root / given["runs"])
        folder = self.root / self.parameters.results
        data = _checksums(given)
        if not records.why_measure(folder, study, given, data):
            return Record.open(folder)
        complete = records.complete(study, given)
        return records.measure(folder, study, complete, root=self.root)

    @property
    def files(self) -> Path:
        """Folder for files that the page offers, such as an explorer."""
        folder = Path(os.environ.get(FILES, self.root / self.parameters.results))
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def tell(self, **numbers: Any) -> None:
        """Give numbers to the text: ``{glue:text}`auroc:.3f` `` shows ``auroc``.

        In Jupyter, which shows no such numbers in its text, they are listed here.

        Args:
            numbers: Numbers or short texts, by the name that the text uses.
        """
        from myst_nb import glue

        for name, value in numbers.items():
            glue(name, value, display=False)
        if not self._for_the_book:
            from IPython.display import HTML, display

            rows = "".join(
                f"<tr><td>{html.escape(name)}</td><td>{html.escape(_short(v))}</td></tr>"
                for name, v in numbers.items()
            )
            display(HTML(f"<table>{rows}</table>"))

    def claim(
        self,
        text: str,
        holds: bool | None | Mapping[str, bool | None],
        *,
        ours: str | Mapping[str, str] = "",
        published: str = "",
        tolerance: str = "",
        name: str = "",
    ) -> None:
        """State a claim, and whether it holds here.

        Args:
            text: A sentence that could be false, the same whatever comes out.
            holds: What came out; None if it cannot be decided here. By label, such as
                ``{"digits": True, "CIFAR-10": None}``, for several data sets.
            ours: Our value with its spread, in the same way.
            published: The published value with its source.
            tolerance: By what rule it was decided.
            name: By which other pages find the claim, such as ``long-tail``; made from
                the text if it is left out.
        """
        from IPython.display import display

        one = self._shown[0] if len(self._shown) == 1 else ""
        verdicts = dict(holds) if isinstance(holds, Mapping) else {one: holds}
        verdicts = verdicts or {one: None}  # no data set says anything about it
        values = dict(ours) if isinstance(ours, Mapping) else {one: ours}
        if values.keys() - verdicts.keys() - {one}:
            raise PageError(
                f"claim {text!r}: verdicts for {list(verdicts)}, values for "
                f"{list(values)}: give both by the same labels"
            )
        about = {
            "name": name or re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-"),
            "text": text,
            "verdicts": {
                k: None if v is None else bool(v) for k, v in verdicts.items()
            },
            "ours": {k: v for k, v in values.items() if v},
            "published": published,
            "tolerance": tolerance,
        }
        words = [f"{MARKS[v][1]} {MARKS[v][0]}" for v in about["verdicts"].values()]
        data = {"text/html": _claim(about), "text/plain": f"{', '.join(words)}: {text}"}
        display(data, raw=True, metadata={"curvlib-claim": json.dumps(about)})


def _claim(about: Mapping[str, Any]) -> str:
    """A claim as HTML: one line, or a line for each of its verdicts."""
    anchor = f'id="claim-{about["name"]}"'
    text = html.escape(about["text"])
    rest = {"published": about["published"], "decided by": about["tolerance"]}
    marked = {
        label: (
            f'data-holds="{MARKS[holds][0]}"',
            f"<strong>{MARKS[holds][1]} {MARKS[holds][0]}</strong>",
            about["ours"].get(label, ""),
        )
        for label, holds in about["verdicts"].items()
    }
    if len(marked) == 1:
        ((data, mark, ours),) = marked.values()
        small = _small({"here": ours or about["ours"].get("", "")} | rest)
        return f'<p class="claim" {anchor} {data}>{mark} {text}{small}</p>'
    rows = "".join(
        f"<li {data}>{mark} {html.escape(label)}{_small({'': ours})}</li>"
        for label, (data, mark, ours) in marked.items()
    )
    small = _small({"here": about["ours"].get("", "")} | rest)
    return f'<div class="claim" {anchor}><p>{text}{small}</p><ul>{rows}</ul></div>'


def _small(parts: Mapping[str, str]) -> str:
    said = [
        f"{name}: {value}" if name else value for name, value in parts.items() if value
    ]
    return f" <small>({html.escape('; '.join(said))})</small>" if said else ""


def _labels(root: Path) -> dict[str, str]:
    """Labels of the records in the catalogue, by name; none without a catalogue."""
    file = root / "experiments.yml"
    if not file.exists():
        return {}
    return {n: m.label for n, m in catalogue.load(file).measurements.items()}


def _default_label(record: Record) -> str:
    return records.default_label(record.made["study"], record.made["parameters"])


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _root() -> Path:
    if given := os.environ.get(ROOT):
        return Path(given)
    here = Path.cwd()
    for start in (here, Path(__file__).parents[1]):
        try:
            return catalogue.project_root(start)
        except PageError:
            continue
    return here


def _checksums(parameters: Mapping[str, Any]) -> dict[str, str]:
    """Checksum of the data set as it is now; nothing where it is not to be had."""
    if "dataset" not in parameters:
        return {}
    from curvlib import studies

    how = {n: parameters[n] for n in ("image_size", "broken_files") if n in parameters}
    try:
        return studies.checksums(parameters["dataset"], **how)
    except FileNotFoundError:
        return {}
