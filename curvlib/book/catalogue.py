"""The catalogue, ``experiments.yml``: every record, and every page that shows records.

::

    records:
      digits:                  # a profile
        gallery:               # a record, results/digits/gallery
          study: gallery       # module of curvlib.studies; default: the record's name
          label: digits        # what readers see; default: the name of the data set
          minutes: 0.5         # an estimate, until it has been measured
          parameters: {...}    # those of the study that differ from its defaults
    pages:
      gallery:                 # a page, book/pages/gallery.ipynb
        notebook: gallery      # default: the page's name
        records:               # default: the records with the page's name
          - digits/gallery     # of any profile; a page shows those that were measured
          - cpu/gallery_cifar10
        title: ...             # replaces the notebook's own
        parameters: {...}      # of the notebook; they say how to show the records
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from curvlib.book import records
from curvlib.book.parameters import PageError

DEFAULT_PROFILE = "digits"  # the only one that is measured without being named
NAME = r"^[A-Za-z0-9_]+$"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class _RecordEntry(_Strict):
    study: str | None = Field(None, pattern=NAME)
    label: str | None = Field(None, min_length=1)
    minutes: float | None = Field(None, ge=0)
    parameters: dict[str, Any] = {}


class _PageEntry(_Strict):
    notebook: str | None = Field(None, pattern=NAME)
    title: str | None = None
    records: list[str] | None = Field(None, min_length=1)
    parameters: dict[str, Any] = {}


class _File(_Strict):
    records: dict[str, dict[str, _RecordEntry | None]]
    pages: dict[str, _PageEntry | None]


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """An entry of the catalogue for a record: a study with parameters, in a profile."""

    name: str  # profile and record, such as digits/gallery
    study: str
    label: str = ""  # what readers see, such as CIFAR-10
    parameters: dict[str, Any] = field(default_factory=dict)
    minutes: float | None = None
    root: Path = Path()

    @property
    def profile(self) -> str:
        """The profile, such as ``digits``."""
        return self.name.split("/")[0]

    @property
    def folder(self) -> Path:
        """Where the record lies."""
        return self.root / "results" / self.name

    def why(self) -> list[str]:
        """Reasons to measure it again; none if it is current."""
        return records.why_measure(self.folder, self.study, self.parameters)

    def seconds(self) -> float:
        """Expected time: as last time, including training, or as estimated."""
        made = records.described(self.folder)
        if made is None:
            return 60 * (self.minutes or 1)
        return max(made["seconds"], made.get("training", {"seconds": 0})["seconds"])


@dataclass(frozen=True, kw_only=True)
class Page:
    """A page of the book: a notebook that shows records."""

    name: str  # such as gallery
    notebook: str  # relative to root, as all paths that are kept
    records: tuple[str, ...]  # names, such as digits/gallery
    labels: dict[str, str] = field(default_factory=dict)  # of its records, by name
    parameters: dict[str, Any] = field(default_factory=dict)
    title: str | None = None
    root: Path = Path()

    @property
    def measured(self) -> tuple[str, ...]:
        """Its records that exist; the page shows these."""
        folder = self.root / "results"
        return tuple(n for n in self.records if records.described(folder / n))

    @property
    def file(self) -> Path:
        """The executed notebook, as the book shows it."""
        return self.root / "book" / "pages" / f"{self.name}.ipynb"

    @property
    def files(self) -> Path:
        """Folder of the page's other files, such as an explorer."""
        return self.file.with_suffix("")

    @property
    def drawn(self) -> dict | None:
        """What the page on disk was drawn from; None if it was not drawn."""
        try:
            return json.loads(self.file.with_suffix(".json").read_text("utf-8"))
        except (FileNotFoundError, ValueError):
            return None


@dataclass(frozen=True)
class Catalogue:
    """All records and pages, by name, in the order of the file."""

    measurements: dict[str, Measurement]
    pages: dict[str, Page]
    root: Path

    def of_profile(self, profile: str | None) -> list[Measurement]:
        """Records of a profile, of digits if it is None.

        Raises:
            PageError: If there is no such profile. The message lists the known ones.
        """
        known = list(dict.fromkeys(m.profile for m in self.measurements.values()))
        if profile is not None and profile not in known:
            raise PageError(f"no profile {profile!r}; there are {', '.join(known)}")
        chosen = profile or DEFAULT_PROFILE
        return [m for m in self.measurements.values() if m.profile == chosen]

    def choose(
        self, names: Iterable[str], profile: str | None
    ) -> tuple[list[Measurement], list[Page]]:
        """Choose what to measure and what to draw.

        Args:
            names: Pages, such as ``gallery``, which stand for their records of
                `profile`; and records, such as ``cpu/gallery_mnist``, which bring their
                pages. Without names, every record of `profile` is chosen.
            profile: None for digits.

        Raises:
            PageError: If there is no such page, record or profile. The message lists
                the known ones.
        """
        of_profile = {record.name: record for record in self.of_profile(profile)}
        prefix = f"{profile or DEFAULT_PROFILE}/"
        known = self.pages.keys() | self.measurements.keys()
        names = [n if n in known else prefix + n for n in names] or list(of_profile)
        if unknown := [n.removeprefix(prefix) for n in names if n not in known]:
            raise PageError(
                f"no page or record {', '.join(unknown)}; there are the pages\n  "
                + "\n  ".join(self.pages)
                + "\nand the records\n  "
                + "\n  ".join(self.measurements)
            )
        records, pages = {}, set()
        for name in names:
            if name in self.pages:
                shown = self.pages[name].records
                found = {n: of_profile[n] for n in shown if n in of_profile}
                if profile and not found:
                    raise PageError(
                        f"page {name} has no record of {profile}; it has "
                        + ", ".join(shown)
                    )
                pages.add(name)
                records |= found
            else:
                pages |= {n for n, page in self.pages.items() if name in page.records}
                records[name] = self.measurements[name]
        drawn = [page for page in self.pages.values() if page.name in pages]
        return list(records.values()), drawn

    def page(self, name: str) -> Page:
        """A page by name.

        Raises:
            PageError: If there is no such page. The message lists the known ones.
        """
        if name not in self.pages:
            raise PageError(f"no page {name}; there are:\n  " + "\n  ".join(self.pages))
        return self.pages[name]


def project_root(start: Path | None = None) -> Path:
    """The nearest folder, from `start` (here) upwards, that has a catalogue.

    Raises:
        PageError: If there is none.
    """
    start = start or Path.cwd()
    for folder in (start, *start.parents):
        if (folder / "experiments.yml").exists():
            return folder
    raise PageError(
        f"no experiments.yml in {start} or above: run this inside the project"
    )


def load(file: Path | str = "experiments.yml") -> Catalogue:
    """Read the catalogue. Paths are relative to its folder.

    Raises:
        PageError: If a key is unknown or occurs twice, a value has the wrong form, or a
            notebook or a record is missing. The message lists all such faults.
    """
    file = Path(file)
    root = file.parent
    try:
        content = _File.model_validate(_load_yaml(file))
    except ValidationError as error:
        faults = [_plain(fault) for fault in error.errors()]
        raise PageError(f"{file.name}:\n  " + "\n  ".join(faults)) from None
    faults, measurements, pages = [], {}, {}
    for profile, entries in content.records.items():
        for short, entry in entries.items():
            entry = entry or _RecordEntry()
            name = _named(profile, short, faults)
            study = entry.study or short
            measurements[name] = Measurement(
                name=name,
                study=study,
                label=entry.label or records.default_label(study, entry.parameters),
                parameters=entry.parameters,
                minutes=entry.minutes,
                root=root,
            )
    for name, entry in content.pages.items():
        entry = entry or _PageEntry()
        _check_name(name, faults)
        notebook = f"notebooks/{entry.notebook or name}.ipynb"
        if not (root / notebook).exists():
            faults.append(f"pages {name}: there is no {notebook}")
        shown = entry.records or [n for n in measurements if n.endswith(f"/{name}")]
        if not shown:
            faults.append(f"pages {name}: no record is named {name}; list its records")
        faults += [
            f"pages {name}: no record {record}; there are {', '.join(measurements)}"
            for record in shown
            if record not in measurements
        ]
        pages[name] = Page(
            name=name,
            notebook=notebook,
            records=tuple(shown),
            labels={n: measurements[n].label for n in shown if n in measurements},
            parameters=entry.parameters,
            title=entry.title,
            root=root,
        )
    if faults:
        raise PageError(f"{file.name}:\n  " + "\n  ".join(faults))
    return Catalogue(measurements, pages, root)


def _named(profile: str, short: str, faults: list[str]) -> str:
    name = f"{profile}/{short}"
    _check_name(name, faults)
    return name


def _check_name(name: str, faults: list[str]) -> None:
    if not all(part.replace("_", "").isalnum() for part in name.split("/")):
        faults.append(f"{name}: names are made of letters, digits and _")


def _plain(fault: dict) -> str:
    """One of pydantic's errors, as a sentence."""
    kind, *where = (str(part) for part in fault["loc"])
    depth = {"records": 2, "pages": 1}.get(kind, 0)
    place = "/".join(where[:depth])
    where = ".".join(where[depth:])
    known = {"records": _RecordEntry, "pages": _PageEntry}.get(kind)
    if fault["type"] == "extra_forbidden" and known:
        fields = ", ".join(known.model_fields)
        one = {"records": "a record", "pages": "a page"}[kind]
        return f"{kind} {place}: unknown key {where}; {one} has {fields}"
    if fault["type"] == "extra_forbidden":
        return f"unknown key {kind}; expected records and pages"
    if fault["type"] == "missing":
        return f"{kind} is missing: the file has records and pages"
    message = fault["msg"].removeprefix("Input should be ")
    what = f"{kind} {place}".strip() + (f": {where}" if where else "")
    return f"{what} must be {message}, got {fault['input']!r}"


def _load_yaml(file: Path) -> Any:
    import yaml

    class Loader(yaml.SafeLoader):
        """A YAML loader that refuses a key that occurs twice."""

        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
            keys = [key.value for key, _ in node.value if key.value != "<<"]
            if twice := sorted({key for key in keys if keys.count(key) > 1}):
                raise PageError(
                    f"{file.name}, line {node.start_mark.line + 1}: "
                    f"{', '.join(twice)} occurs twice"
                )
            return super().construct_mapping(node, deep)

    try:
        content = yaml.load(file.read_text(encoding="utf-8"), Loader)
    except FileNotFoundError as error:
        raise PageError(f"there is no {file.name} here") from error
    except yaml.YAMLError as error:
        raise PageError(f"{file.name} is not YAML: {error}") from error
    if not isinstance(content, dict):
        raise PageError(f"{file.name} must hold records and pages")
    # YAML reads a page named 2024 as a number; names are text here.
    return {
        str(kind): {
            str(name): _text_keys(kind, entry) for name, entry in entries.items()
        }
        if isinstance(entries, dict)
        else entries
        for kind, entries in content.items()
    }


def _text_keys(kind: str, entry: Any) -> Any:
    if kind != "records" or not isinstance(entry, dict):
        return entry
    return {str(name): record for name, record in entry.items()}
