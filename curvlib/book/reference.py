"""Reference pages of the book, as a Sphinx extension: nothing in them is typed.

- ``.. exported::`` lists the names that ``import curvlib`` gives.
- ``.. layer:: data`` documents the public names of a layer of the library, and links
  the pages that use them.
- ``.. measured::`` lists the claims of each page and how to measure it again: command,
  minutes, memory, hardware.
- ``.. options:: module:function`` lists the commands and options of an argparse parser.

The library is parsed, not imported, so that it renders without torch. Sphinx's autodoc
would need torch or a mock of it, and would add half a minute.
"""

import argparse
import ast
import json
import re
from collections.abc import Iterator
from functools import cache, cached_property
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

from docutils import nodes
from docutils.parsers.rst import Directive
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.ext.napoleon import Config, GoogleDocstring
from sphinx.util.nodes import nested_parse_with_titles

import curvlib
from curvlib.book import catalogue, cleanup, drawing, launch, records
from curvlib.book.page import MARKS
from curvlib.book.parameters import LIBRARY

CORE = ("hvp", "curvature", "trace", "scores", "metrics", "models", "files")
LAYERS = {"core": CORE} | {
    name: (name,) for name in ("data", "runs", "studies", "book")
}
IN_FULL = ("core", "data", "runs")  # of the others, what notebooks call
DEFINITIONS = (ast.FunctionDef, ast.ClassDef)
DOCSTRINGS = Config(
    napoleon_use_param=False,
    napoleon_custom_sections=[("Attributes", "params_style")],  # as Args are shown
)


# -------------------------------------------------------------- the library, parsed


class Module:
    """A module of the library: its definitions, and what the names in it mean."""

    def __init__(self, file: Path):
        parts = file.relative_to(LIBRARY.parent).with_suffix("").parts
        self.file = file
        self.name = ".".join(parts).removesuffix(".__init__")
        self.tree = ast.parse(file.read_text(encoding="utf-8"))

    @cached_property
    def imported(self) -> dict[str, str]:
        """Names that it imports from the library."""
        return imported(self.tree)

    @cached_property
    def definitions(self) -> dict[str, ast.FunctionDef | ast.ClassDef]:
        """Functions and classes, by name, in the order of the file."""
        return {n.name: n for n in self.tree.body if isinstance(n, DEFINITIONS)}

    @property
    def public(self) -> list[ast.FunctionDef | ast.ClassDef]:
        """Those whose name has no underscore before it."""
        return [n for n in self.definitions.values() if n.name[0] != "_"]


@cache
def modules() -> dict[str, Module]:
    """All modules of the library, by dotted name."""
    found = [Module(file) for file in sorted(LIBRARY.rglob("*.py"))]
    return {module.name: module for module in found}


def modules_of(layer: str) -> list[Module]:
    """Those modules of a layer that define something, the core in reading order."""
    starts = [f"curvlib.{name}" for name in LAYERS[layer]]
    return [
        module
        for start in starts
        for name, module in modules().items()
        if (name == start or name.startswith(f"{start}.")) and module.public
    ]


def imported(tree: ast.AST) -> dict[str, str]:
    """Dotted names that the names imported from the library stand for."""
    found = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {a.name: a.name for a in node.names if a.name == "curvlib"}
        elif isinstance(node, ast.ImportFrom) and str(node.module).startswith(
            "curvlib"
        ):
            for name in node.names:
                found[name.asname or name.name] = f"{node.module}.{name.name}"
    return found


def mentioned(tree: ast.AST, names: dict[str, str]) -> Iterator[str]:
    """Dotted names of the library that a piece of code mentions."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and node.id in names:
            yield names[node.id]
        elif isinstance(node, ast.Attribute):
            first, *rest = ast.unparse(node).split(".")
            if first in names:
                yield ".".join([names[first], *rest])


def home(name: str) -> str | None:
    """Where a dotted name is defined, such as ``curvlib.data.loading.load``."""
    module, _, last = name.rpartition(".")
    if module == "curvlib" and last in curvlib._HOMES:
        return home(f"curvlib.{curvlib._HOMES[last]}.{last}")
    if module not in modules():
        return None
    if last in modules()[module].definitions:
        return name
    # A package imports its names, or loads them from the module of the same name.
    elsewhere = modules()[module].imported.get(last, f"{module}.{last.lower()}.{last}")
    return home(elsewhere) if elsewhere != name else None


class Uses(NamedTuple):
    """Who uses what.

    Attributes:
        pages: Names of drawn pages, by the definition that their notebook or study
            uses.
        called: Definitions that some notebook calls itself.
    """

    pages: dict[str, list[str]]
    called: set[str]


@cache
def uses(root: Path) -> Uses:
    """Find out which pages use what: their notebook mentions it, or their study does.

    Args:
        root: Root folder of the project.
    """
    pages: dict[str, list[str]] = {}
    called = set()
    for page in catalogue.load(root / "experiments.yml").pages.values():
        cells = json.loads((root / page.notebook).read_text("utf-8"))["cells"]
        code = ["".join(c["source"]) for c in cells if c["cell_type"] == "code"]
        tree = ast.parse("\n".join(code))
        new = {home(name) for name in mentioned(tree, imported(tree))} - {None}
        called |= new
        seen: set[str] = set()
        while new:
            seen |= new
            studies = [name for name in new if name.startswith("curvlib.studies.")]
            new = {home(x) for name in studies for x in _within(name)} - seen - {None}
        for name in seen if page.file.exists() else ():
            pages.setdefault(name, []).append(page.name)
    return Uses(pages, called)


@cache
def _within(name: str) -> set[str]:
    """What a definition mentions."""
    module, _, last = name.rpartition(".")
    here = modules()[module]
    own = {other: f"{module}.{other}" for other in here.definitions}
    return set(mentioned(here.definitions[last], here.imported | own))


# ------------------------------------------------------------------ the directives


class _Generated(Directive):
    """A directive whose content is reStructuredText that is made here."""

    def run(self) -> list[nodes.Node]:
        self.root = Path(self.state.document.settings.env.srcdir)
        content = StringList(list(self.lines()), source=self.name)
        parent = nodes.section()
        parent.document = self.state.document
        nested_parse_with_titles(self.state, content, parent)
        return parent.children

    def lines(self) -> Iterator[str]:
        """Make the content."""
        raise NotImplementedError


class Layer(_Generated):
    """Every public name of a layer; those that few will call, in one line."""

    required_arguments = 1

    def lines(self) -> Iterator[str]:
        """Make the content."""
        (layer,) = self.arguments
        used = uses(self.root)
        for module in modules_of(layer):
            yield from _heading(module.name)
            yield from (f".. py:module:: {module.name}", "")
            about = _restructured(ast.get_docstring(module.tree) or "")
            yield from (*about.splitlines(), "")
            short = []
            for node in module.public:
                name = f"{module.name}.{node.name}"
                if layer in IN_FULL or node.name == "measure" or name in used.called:
                    yield from _entry(node, self._links(node, module, used))
                else:
                    first = (ast.get_docstring(node) or "").split("\n\n")[0]
                    first = _restructured(" ".join(first.split()))
                    short.append(f"- ``{node.name}``: {first}")
            if short:
                yield from ("Helpers:", "", *short, "")

    def _links(self, node: ast.AST, module: Module, used: Uses) -> list[str]:
        told = []
        if pages := used.pages.get(f"{module.name}.{node.name}"):
            links = ", ".join(f":doc:`/book/pages/{name}`" for name in pages)
            told.append(f"Used in {links}.")
        if repository := launch.repository(self.root):
            path = module.file.relative_to(LIBRARY.parent).as_posix()
            told.append(f"`Source <{repository.address(path)}#L{node.lineno}>`__")
        return (
            [".. container:: used-in", "", f"   {' '.join(told)}", ""] if told else []
        )


def _heading(text: str) -> list[str]:
    return [text, "-" * len(text), ""]


def _entry(node: ast.AST, links: list[str], within: str = "") -> Iterator[str]:
    """A function, class or method: its signature, docstring, links and members."""
    kind, signature = "class", node.name
    if isinstance(node, ast.FunctionDef):
        decorators = {ast.unparse(d).split(".")[-1] for d in node.decorator_list}
        kind = "method" if within else "function"
        if decorators & {"property", "cached_property"}:
            kind = "property"
        else:
            bound = within and "staticmethod" not in decorators
            arguments = ast.unparse(node.args)
            if bound:
                arguments = re.sub(r"^(self|cls)(, )?", "", arguments)
            returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
            signature += f"({arguments}){returns}"
    yield from (f".. py:{kind}:: {signature}", "")
    text = _restructured(ast.get_docstring(node) or "")
    body = [*GoogleDocstring(text, DOCSTRINGS, what=kind).lines(), "", *links]
    if isinstance(node, ast.ClassDef):
        for member in node.body:
            if isinstance(member, ast.FunctionDef) and member.name[0] != "_":
                body += _entry(member, [], within=node.name)
    yield from (f"   {line}" if line else "" for line in body)


def _restructured(text: str) -> str:
    """A docstring without the Markdown that reStructuredText would stumble over."""
    text = re.sub(
        r"``(\S(?:[^`\n]|`(?!`))*) ``",  # a backtick or a space before the last two
        lambda code: ":literal:`" + code[1].replace("`", r"\`") + "`",
        text,
    )
    return re.sub(r"\*(?=\w+\])", r"\*", text)  # a shape, such as [B, *input]


class Exported(_Generated):
    """The names of the package itself, each with the first line of its docstring."""

    def lines(self) -> Iterator[str]:
        """Make the content."""
        for name in sorted(curvlib._HOMES):
            module, _, last = home(f"curvlib.{name}").rpartition(".")
            about = ast.get_docstring(modules()[module].definitions[last])
            first = _restructured(about.split("\n\n")[0].replace("\n", " "))
            yield from (f"- :py:obj:`curvlib.{name} <{module}.{last}>`: {first}", "")


class Measured(_Generated):
    """What each page claims, and how to measure it again, from its records."""

    def lines(self) -> Iterator[str]:
        """Make the content."""
        known = catalogue.load(self.root / "experiments.yml")
        for page in known.pages.values():
            if not page.file.exists():
                continue
            title = cleanup.read(page.file)["cells"][0]["source"].splitlines()[0]
            yield from _heading(title.removeprefix("# "))
            claims = (page.drawn or {}).get("claims", [])
            says = "claims:" if claims else "makes no claim."
            yield from (f":doc:`This page </book/pages/{page.name}>` {says}", "")
            for claim in claims:
                yield f"- {claim['text']} ({_verdicts(claim['verdicts'])})"
            yield ""
            if rows := [
                _measured(name, records.described(self.root / "results" / name))
                for name in page.measured
            ]:
                yield from _table(("command", "minutes", "memory", "hardware"), rows)


def _verdicts(by_label: dict[str, bool | None]) -> str:
    told = {label: f"{MARKS[v][1]} {MARKS[v][0]}" for label, v in by_label.items()}
    return "; ".join(f"{label}: {v}" if label else v for label, v in told.items())


def _measured(name: str, made: dict) -> tuple[str, ...]:
    training = (made.get("training") or {}).get("seconds", 0)
    minutes = max(made["seconds"], training) / 60
    memory = made.get("peak_memory_gib")
    return (
        f"``curvlib run {name} --force``",
        f"{minutes:.1f}",
        f"{memory:.1f} GiB" if memory else "not measured",
        drawing.machine(made),
    )


class Options(_Generated):
    """Commands of an argparse parser, each with its usage and its options."""

    required_arguments = 1

    def lines(self) -> Iterator[str]:
        """Make the content."""
        module, function = self.arguments[0].split(":")
        parser = getattr(import_module(module), function)
        for name, command in _commands(parser()).items():
            try:
                command = _commands(parser(name))[name]
            except ModuleNotFoundError as error:
                yield from (*_heading(name), f"Its options need {error.name}.", "")
                continue
            yield from _heading(name)
            yield from ((command.description or "").replace("%%", "%"), "")
            usage = command.format_usage().removeprefix("usage: ").splitlines()
            yield from (".. code-block:: text", "", *(f"   {x}" for x in usage), "")
            for action in command._actions:
                if not isinstance(action, argparse._HelpAction):
                    names = ", ".join(action.option_strings) or action.metavar
                    told = (action.help or "").replace("%%", "%")
                    yield from (f"``{names}``", f"   {told}", "")


def _commands(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """The subcommands of a parser, by name."""
    (found,) = [
        action.choices
        for action in parser._actions
        if isinstance(action, argparse._SubParsersAction)
    ]
    return found


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> list[str]:
    lines = [".. list-table::", "   :header-rows: 1", ""]
    for row in (head, *rows):
        for place, cell in enumerate(row):
            lines.append(f"   {'* -' if not place else '  -'} {cell}")
    return [*lines, ""]


def setup(app: Sphinx) -> dict:
    """Called by Sphinx."""
    app.add_directive("layer", Layer)
    app.add_directive("exported", Exported)
    app.add_directive("measured", Measured)
    app.add_directive("options", Options)
    app.connect("config-inited", launch.set_buttons)
    return {"parallel_read_safe": True}
