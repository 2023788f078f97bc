"""Parameters of notebooks and of studies: types, defaults, and what is given."""

import ast
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

LIBRARY = Path(__file__).parents[1]
KERNEL = {"name": "python3", "display_name": "Python 3", "language": "python"}
SET_BY_THE_RUNNER = ("records", "results")  # of every notebook, not of a study


class PageError(ValueError):
    """Something a reader or author can put right; the message says how."""


class Parameter(NamedTuple):
    """One line of a notebook's parameters cell."""

    name: str
    type: str  # as written: "int", "list[int]", "None" where only None is known
    default: Any
    meaning: str


def parameters(notebook: dict) -> dict[str, Parameter]:
    """Read the parameters cell, by papermill's own eyes.

    Raises:
        PageError: If there is no such cell, papermill cannot read a line of it, or a
            default is not a plain value.
    """
    import papermill

    cell = notebook["cells"][parameters_cell(notebook)]
    # The papermill translator is chosen by kernel, and reads a node with attributes.
    found = papermill.inspect_notebook(as_node(notebook))
    assigned = {
        target.id
        for statement in ast.parse(cell["source"]).body
        for target in getattr(statement, "targets", [getattr(statement, "target", 0)])
        if isinstance(target, ast.Name)
    }
    if unread := sorted(assigned - set(found)):
        raise PageError(
            f"papermill cannot read the parameter {all_of(unread)}: write one plain "
            'value a line, no "=" in its comment, no "|" in its type (a default of '
            "None allows None)"
        )
    return {name: _parameter(entry) for name, entry in found.items()}


def _parameter(entry: dict) -> Parameter:
    name, text = entry["name"], entry["default"]
    try:
        default = ast.literal_eval(text)
    except (ValueError, SyntaxError) as error:
        raise PageError(
            f"the default of parameter {name} must be a plain value, got {text}"
        ) from error
    annotation = entry["inferred_type_name"]
    if annotation == "None":  # papermill's word for "no annotation"
        annotation = _type_name(default)
    if default is None and annotation not in ("None", "NoneType"):
        annotation = f"Optional[{annotation}]"
    return Parameter(name, annotation, default, entry["help"].strip())


def _type_name(value: Any) -> str:
    name = type(value).__name__
    if name == "list" and len({type(item) for item in value}) == 1:
        return f"list[{_type_name(value[0])}]"
    return name


def checked(known: Mapping[str, Parameter], given: Mapping[str, Any]) -> dict[str, Any]:
    """Give each value the type its parameter has, or say what is wrong with it.

    Raises:
        PageError: If a name is unknown or a value has another type; all such faults at
            once.
    """
    faults, values = [], {}
    for name, value in given.items():
        if name not in known:
            faults.append(f"unknown parameter {name!r}; expected {', '.join(known)}")
        else:
            try:
                values[name] = _cast(known[name].type, value)
            except TypeError:
                hint = ""
                if isinstance(value, str) and re.fullmatch(r"-?\d+e[-+]?\d+", value):
                    hint = " (text to YAML; write it with a point, such as 1.0e-4)"
                elif known[name].type in ("str", "Optional[str]"):
                    hint = f" (with papermill, -r {name} {value} passes text)"
                faults.append(
                    f"parameter {name} must be {known[name].type}, got {value!r}, "
                    f"{type(value).__name__}{hint}"
                )
    if faults:
        raise PageError("; ".join(faults))
    return values


def parameters_of_study(study: str) -> dict[str, Parameter]:
    """Parameters of ``curvlib.studies.<study>.measure``, without importing it.

    Args:
        study: Name of the module.

    Returns:
        By name, in order; without a meaning, which stands in the notebook.

    Raises:
        PageError: If there is no such study, or a default is not a plain value.
    """
    source = _study(study)
    for node in source.body:
        if isinstance(node, ast.FunctionDef) and node.name == "measure":
            break
    else:
        raise PageError(f"curvlib/studies/{study}.py has no function measure")
    found = {}
    for argument, default in zip(
        node.args.kwonlyargs, node.args.kw_defaults, strict=True
    ):
        kind = ast.unparse(argument.annotation) if argument.annotation else "Any"
        kind = re.sub(r"(.*) \| None", r"Optional[\1]", kind)
        try:
            value = ast.literal_eval(default)
        except (ValueError, TypeError) as error:
            raise PageError(
                f"the default of {argument.arg} in {study}.measure is no plain value"
            ) from error
        found[argument.arg] = Parameter(argument.arg, kind, value, "")
    return found


def parts_of_study(study: str) -> tuple[str, ...]:
    """Parts of the library that make a study's numbers, the study itself among them."""
    for node in _study(study).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "PARTS":
            return (*ast.literal_eval(node.value), f"studies.{study}")
    raise PageError(f"curvlib/studies/{study}.py has no line PARTS = (...)")


def _study(study: str) -> ast.Module:
    file = LIBRARY / "studies" / f"{study}.py"
    if not file.exists():
        raise PageError(f"there is no study {study!r}: curvlib/studies/{study}.py")
    return ast.parse(file.read_text(encoding="utf-8"))


def given_parameters(sources: Sequence[str]) -> dict[str, Any]:
    """Values of a running notebook's parameters: its own cell, then what is injected.

    Papermill takes any name and any type, so both are checked here.

    Args:
        sources: Cells that ran, IPython's ``In``.

    Raises:
        PageError: As ``checked`` does, or if no parameters cell has run.
    """
    defaults = [s for s in sources if re.search(r"^results\b", s, re.MULTILINE)]
    if not defaults:
        raise PageError("run the parameters cell, the one that sets results, first")
    cell = {"cell_type": "code", "source": defaults[0], "outputs": []}
    cell |= {"metadata": {"tags": ["parameters"]}, "execution_count": None}
    known = parameters(
        {
            "cells": [cell],
            "metadata": {"kernelspec": KERNEL},
            "nbformat": 4,
            "nbformat_minor": 4,
        }
    )
    injected = [source for source in sources if source.startswith("# Parameters\n")]
    given = {}
    if injected:
        given = {
            statement.targets[0].id: ast.literal_eval(statement.value)
            for statement in ast.parse(injected[0]).body
        }
    return {p.name: p.default for p in known.values()} | checked(known, given)


def _cast(kind: str, value: Any) -> Any:
    kind = kind.strip().lower()
    if kind in ("none", "nonetype", "any"):
        return value
    if match := re.fullmatch(r"optional\[(.*)\]", kind):
        return None if value is None else _cast(match[1], value)
    if value in ([], ()):  # nothing to do is never what was meant
        raise TypeError
    if match := re.fullmatch(r"(list|tuple)\[(.*?)(,\s*\.\.\.)?\]", kind):
        return [_cast(match[2], item) for item in _cast("list", value)]
    if match := re.fullmatch(r"dict\[(.*?),(.*)\]", kind):
        pairs = _cast("dict", value).items()
        return {_cast(match[1], key): _cast(match[2], item) for key, item in pairs}
    if kind == "float" and type(value) is int:
        return float(value)  # so that 1 and 1.0 name the same training run
    expected = {"int": int, "float": float, "str": str, "bool": bool, "list": list}
    expected["dict"] = dict
    if type(value) is not expected.get(kind, object):
        raise TypeError
    return value


def parameters_cell(notebook: dict) -> int:
    """Place of the parameters cell.

    Raises:
        PageError: If there is not just one, or it does not set `results`.
    """
    found = [
        place
        for place, cell in enumerate(notebook["cells"])
        if "parameters" in cell["metadata"].get("tags", [])
    ]
    if len(found) != 1:
        raise PageError(
            f"a notebook has one cell tagged parameters, this one has {len(found)}"
        )
    place = found[0]
    if not re.search(r"^results\b", notebook["cells"][place]["source"], re.MULTILINE):
        raise PageError(
            "the parameters cell must set `results`, the folder of its record, such as "
            '"results/scratch/gallery"'
        )
    return place


def as_node(notebook: dict) -> Any:
    """The same notebook in nbformat's own type, which papermill takes."""
    import nbformat

    return nbformat.from_dict(notebook)


def all_of(names: list[str]) -> str:
    """Names in one text, such as ``"a and b"``."""
    return " and ".join(names)


def papermill_command(notebook: str, values: Mapping[str, Any]) -> str:
    """The papermill command line that runs a notebook with these parameters.

    Example:
        >>> papermill_command("notebooks/gallery.ipynb", {"epochs": 5, "seeds": [0, 1]})
        "papermill notebooks/gallery.ipynb out.ipynb -p epochs 5 -y '{seeds: [0, 1]}'"
    """
    import yaml

    words = ["papermill", notebook, "out.ipynb"]
    for name, value in values.items():
        # papermill -p guesses a type from the text; -y leaves no doubt.
        if type(value) in (int, float, bool) or (
            isinstance(value, str) and value.isidentifier() and value not in _GUESSED
        ):
            words += ["-p", name, str(value)]
        else:
            line = yaml.safe_dump({name: value}, default_flow_style=True, width=10**6)
            words += ["-y", line.strip()]
    return shlex.join(words)


_GUESSED = {"True", "False", "None", "nan", "inf", "NaN", "Infinity", "infinity"}


def parameter_table(known: Mapping[str, Parameter], values: Mapping[str, Any]) -> str:
    """A Markdown table of parameters; values that differ from the default in bold."""
    rows = ["| parameter | here | default | meaning |", "| --- | --- | --- | --- |"]
    for name, parameter in known.items():
        if name in SET_BY_THE_RUNNER:
            continue
        value = values.get(name, parameter.default)
        this = _cell(value)
        if value != parameter.default:
            this = f"**{this}**"
        meaning = parameter.meaning.replace("|", r"\|")
        rows.append(f"| `{name}` | {this} | {_cell(parameter.default)} | {meaning} |")
    return "\n".join(rows)


def _cell(value: Any) -> str:
    return "`" + str(value).replace("|", r"\|") + "`" if value != "" else '`""`'
