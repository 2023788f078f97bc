"""What a notebook calls: its record, the numbers of its text, its claims."""

import html
import json
import os
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
        """The record that this notebook shows: read, or measured now.

        With ``records`` given, the one that it names. Else the one in the folder
        ``results``, if it was made with the same parameters, data and recipes; else it
        is measured, and kept there.

        Args:
            measure: The function of a study, such as ``gallery.measure``.

        Raises:
            PageError: If ``records`` names more than one, or one that is not there.
        """
        if self.parameters.records:
            found = self.records()
            if len(found) > 1:
                raise PageError(f"this notebook shows one record, got {list(found)}")
            return next(iter(found.values()))
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

    def records(self) -> dict[str, Record]:
        """All records that ``records`` names, by name, such as ``digits/gallery``.

        Raises:
            PageError: If none is named, or one is not there.
        """
        names = self.parameters.records
        if not names:
            raise PageError(
                "this notebook shows records that are there; name them: "
                "-y '{records: [digits/mislabelled]}'"
            )
        return {name: Record.open(self.root / "results" / name) for name in names}

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
        holds: bool | None,
        *,
        ours: str = "",
        published: str = "",
        tolerance: str = "",
    ) -> None:
        """State a claim, and whether it holds here.

        Args:
            text: A sentence that could be false, the same whatever comes out.
            holds: What came out; None if it cannot be decided here.
            ours: Our value with its spread.
            published: The published value with its source.
            tolerance: By what rule it was decided.
        """
        from IPython.display import display

        holds = None if holds is None else bool(holds)
        word, mark = MARKS[holds]
        rest = [
            f"{name}: {value}"
            for name, value in (
                ("here", ours),
                ("published", published),
                ("decided by", tolerance),
            )
            if value
        ]
        details = f" <small>({html.escape('; '.join(rest))})</small>" if rest else ""
        shown = (
            f'<p class="claim" data-holds="{word}"><strong>{mark} {word}</strong> '
            f"{html.escape(text)}{details}</p>"
        )
        about = {
            "text": text,
            "holds": holds,
            "ours": ours,
            "published": published,
            "tolerance": tolerance,
        }
        data = {"text/html": shown, "text/plain": f"{mark} {word}: {text}"}
        display(data, raw=True, metadata={"curvlib-claim": json.dumps(about)})


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
