r"""From a notebook to a page: what a notebook must hold, and what is made of it.

A notebook of this book

- opens with a Markdown cell whose first line is ``# `` and the page's question;
- names the kernel ``python3``, so that plain papermill can run it;
- has one code cell tagged ``parameters``: one plain value a line, each with its
  meaning as a comment (without ``=``, over which papermill stumbles)::

      dataset = "digits"  # name for curvlib.load
      num_train: int = None  # samples trained on; None: all
      seeds = [0, 1, 2]  # one training run each
      results = "results/scratch/gallery"  # folder for tables and figure data

  A value's type is its annotation, else its default's; a default of None, or
  ``Optional[...]``, allows None too. `results` is always there, and set by the runner.
- gives each shown figure an alt text, and may give it a caption and a name, in the
  metadata of its cell, in the .py on one line::

      # %% mystnb={"figure": {"caption": "", "name": "fig-a"}, "image": {"alt": ""}}

  A caption is MyST: ``{glue:text}`auroc:.3f` `` in it shows a number of this run. It
  does so in an alt text too, where the clean-up writes the number: alt text is plain.
- names what can be referred to with a hyphen: ``fig-auroc``, ``tab-scores``,
  ``eq-trace``, in figure names, ``(sec-why)=`` targets, ``$$ (eq-trace)`` and
  ``:name:`` or ``:label:`` options. One notebook makes several pages, so the clean-up
  puts profile and page before every such name, and wherever the notebook's Markdown
  refers to it: `fig-auroc` becomes `digits-mislabelled-fig-auroc`, which is what other
  pages refer to.
- calls ``check_parameters(In)`` after that cell, for those who use plain papermill.
- writes its tables as CSV or Parquet to `results`, and HTML that stands alone; the page
  offers them for download.
"""

import ast
import copy
import hashlib
import json
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

KERNEL = {"name": "python3", "display_name": "Python 3", "language": "python"}
GLUE = "application/papermill.record/"
WIDGET = "application/vnd.jupyter.widget-view+json"
MAGIC = re.compile(r"^\s*[%!].*$", re.MULTILINE)
GLUE_ROLE = re.compile(r"\{glue(?::\w*)?\}`(?P<key>[^`:]+)(?::(?P<format>[^`:]*))?`")
LABELS = (
    re.compile(r"^\((\S+)\)=\s*$", re.MULTILINE),
    re.compile(r"^\s*:(?:name|label):\s*(\S+)\s*$", re.MULTILINE),
    re.compile(r"\$\$\s*\(([^\s)]+)\)\s*$", re.MULTILINE),
)


class PageError(ValueError):
    """Something a reader or author can put right; the message says how."""


class Parameter(NamedTuple):
    """One line of a notebook's parameters cell."""

    name: str
    type: str  # as written: "int", "list[int]", "None" where only None is known
    default: Any
    meaning: str


# ---------------------------------------------------------------- before it runs


def read(path: Path) -> dict:
    """Read a notebook as the JSON that it is, each source one string.

    Raises:
        PageError: If the file is no notebook.
    """
    try:
        notebook = json.loads(path.read_text(encoding="utf-8"))
        for cell in notebook["cells"]:
            cell["source"] = "".join(cell["source"])
    except (ValueError, KeyError, TypeError) as error:
        raise PageError(f"{path} is not a notebook: {error}") from error
    return notebook


def content_hash(notebook: dict) -> str:
    """Hash what a reader sees or Python runs: not outputs, cell ids, editor state."""
    essence = [
        [cell["cell_type"], cell["source"], _kept_metadata(cell)]
        for cell in notebook["cells"]
    ]
    return hashlib.sha256(json.dumps(essence, sort_keys=True).encode()).hexdigest()[:16]


def code(notebook: dict) -> str:
    """All code of a notebook as one Python source, IPython's magics left out."""
    cells = [c["source"] for c in notebook["cells"] if c["cell_type"] == "code"]
    return MAGIC.sub("", "\n".join(cells))


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
            f"papermill cannot read the parameter {_and(unread)}: write one plain "
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
        PageError: If a name is unknown, `results` is among them, or a value has
            another type; all such faults at once.
    """
    faults, values = [], {}
    for name, value in given.items():
        if name == "results":
            faults.append("results is set by the runner: leave it out")
        elif name not in known:
            options = ", ".join(n for n in known if n != "results")
            faults.append(f"unknown parameter {name!r}; this notebook has {options}")
        else:
            try:
                values[name] = _cast(known[name].type, value)
            except TypeError:
                hint = ""
                if isinstance(value, str) and re.fullmatch(r"-?\d+e[-+]?\d+", value):
                    hint = " (text to YAML; write it with a point, such as 1.0e-4)"
                faults.append(
                    f"parameter {name} must be {known[name].type}, got {value!r}, "
                    f"{type(value).__name__}{hint}"
                )
    if faults:
        raise PageError("; ".join(faults))
    return values


def check_parameters(sources: Sequence[str]) -> None:
    """Refuse, within a running notebook, what plain papermill lets through.

    Papermill takes any name and any type. So each notebook calls
    ``check_parameters(In)`` right after its parameters cell.

    Args:
        sources: Cells that ran, IPython's ``In``.

    Raises:
        PageError: As ``checked`` does. Nothing is refused where no parameters were
            injected, as in Jupyter itself.
    """
    injected = [source for source in sources if source.startswith("# Parameters\n")]
    defaults = [s for s in sources if re.search(r"^results\b", s, re.MULTILINE)]
    if not injected or not defaults:
        return
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
    given = {
        statement.targets[0].id: ast.literal_eval(statement.value)
        for statement in ast.parse(injected[0]).body
    }
    given.pop("results", None)
    checked(known, given)


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
    if kind == "float" and type(value) is int:
        return float(value)  # so that 1 and 1.0 name the same training run
    expected = {"int": int, "float": float, "str": str, "bool": bool, "list": list}
    if type(value) is not expected.get(kind, object):
        raise TypeError
    return value


def check_source(notebook: dict) -> None:
    """Refuse a notebook that could run for an hour and then make no page.

    Raises:
        PageError: Naming the cell and the rule of this module that it breaks.
    """
    cells = notebook["cells"]
    kernel = notebook.get("metadata", {}).get("kernelspec", {}).get("name")
    if kernel != KERNEL["name"]:
        raise PageError(
            f"the notebook must name the kernel python3, got {kernel}: "
            "run `jupytext --set-kernel python3` on it"
        )
    first = cells[0] if cells else {"cell_type": "no", "source": ""}
    if first["cell_type"] != "markdown" or not first["source"].startswith("# "):
        raise PageError("cell 1 must be Markdown and start with '# ' and the question")
    parameters_cell(notebook)
    for number, cell in enumerate(cells, 1):
        options = cell["metadata"].get("mystnb", {})
        if "figure" in options and not options.get("image", {}).get("alt"):
            raise PageError(_no_alt(number))
    names = _labels(cells)
    if bad := sorted({name for name in names if "-" not in name}):
        raise PageError(
            f"the name {_and(bad)} needs a hyphen, such as fig-{bad[0]}: it would be "
            "taken for a word of the text"
        )
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise PageError(f"the name {_and(twice)} is given more than once")


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
            "the parameters cell must set `results`, the folder for tables, such as "
            '"results/scratch/gallery"'
        )
    return place


# ----------------------------------------------------------------- after it ran


def clean(
    executed: dict,
    *,
    name: str,
    title: str | None = None,
    about: str,
    downloads: list[str],
    replaced: Mapping[str, str],
) -> bytes:
    """Make an executed notebook a page: the same bytes each time it says the same.

    Args:
        executed: The notebook, as papermill left it.
        name: Profile and page, such as ``"digits/gallery"``; prefixes its labels.
        title: Takes the place of the notebook's title.
        about: Path of the Markdown file to include below the title.
        downloads: Paths of the data files of this page.
        replaced: Texts that differ between machines or runs, and what to write
            instead, in outputs and parameters.

    Raises:
        PageError: If a cell failed or did not run, a figure has no alt text, or a text
            shows a glued number that this notebook never glued.
    """
    notebook = copy.deepcopy(executed)
    cells = notebook["cells"]
    for number, cell in _numbered(cells):
        cell["metadata"] = _kept_metadata(cell)
        if cell["cell_type"] == "code":
            _clean_code_cell(cell, number, replaced)
    glued = _glued(cells)
    prefix = re.sub(r"[^a-z0-9]+", "-", name.lower()) + "-"
    labels = _labels(cells)
    for number, cell in _numbered(cells):
        _clean_texts(cell, number, glued, prefix, labels)
    if title:
        cells[0]["source"] = re.sub(
            r"^# .*", lambda _: f"# {title}", cells[0]["source"], count=1
        )
    cells.insert(1, _markdown(f"```{{include}} {about}\n```"))
    if downloads:
        links = [f"- {{download}}`{Path(path).name} <{path}>`" for path in downloads]
        cells.append(_markdown("## Data of this page\n\n" + "\n".join(links)))
    for place, cell in enumerate(cells):
        cell["id"] = f"c{place:03}"
    notebook["metadata"] = {
        "kernelspec": KERNEL,
        "language_info": {"name": "python", "pygments_lexer": "ipython3"},
    }
    notebook["nbformat"], notebook["nbformat_minor"] = 4, 5
    text = json.dumps(notebook, indent=1, sort_keys=True, ensure_ascii=False)
    return f"{text}\n".encode()


def _clean_code_cell(cell: dict, number: int, replaced: Mapping[str, str]) -> None:
    if cell["source"].strip() and cell["execution_count"] is None:
        raise PageError(f"cell {number} did not run")
    tags = cell["metadata"].get("tags", [])
    if {"parameters", "injected-parameters"} & set(tags):
        cell["source"] = _replace(cell["source"], replaced)
        cell["metadata"]["tags"] = sorted({*tags, "remove-cell"})
    outputs: list[dict] = []
    for output in cell["outputs"]:
        kind = output["output_type"]
        if kind == "error":
            raise PageError(
                f"cell {number} shows an error: {output['ename']}: {output['evalue']}"
            )
        if kind == "stream":
            if output["name"] == "stderr":  # warnings, bars: kept in the log instead
                continue
            text = _stable(_replace("".join(output["text"]), replaced), number)
            # Where one print ends and the next begins is a matter of timing.
            if outputs and outputs[-1]["output_type"] == "stream":
                outputs[-1]["text"] += text
            else:
                outputs.append({"output_type": kind, "name": "stdout", "text": text})
        elif WIDGET not in output.get("data", {}):
            output["data"] = {
                mime: _clean_data(mime, data, number, replaced)
                for mime, data in output["data"].items()
            }
            outputs.append(output)
    cell["outputs"] = outputs
    shown = [
        output
        for output in outputs
        if any(mime.startswith("image/") for mime in output.get("data", {}))
    ]
    hidden = {"remove-cell", "remove-output", "remove_cell", "remove_output"}
    if shown and not hidden & set(cell["metadata"].get("tags", [])):
        options = cell["metadata"].get("mystnb", {})
        if not options.get("image", {}).get("alt", "").strip():
            raise PageError(_no_alt(number))
        if len(shown) > 1 and options.get("figure", {}).get("name"):
            raise PageError(
                f"cell {number} shows {len(shown)} figures under one name: "
                "draw each in its own cell"
            )


def _clean_data(mime: str, data: Any, number: int, replaced: Mapping[str, str]) -> Any:
    if isinstance(data, list):
        data = "".join(data)
    if mime.startswith("image/") and mime != "image/svg+xml":
        return data
    if not isinstance(data, str):
        return data
    data = _stable(_replace(data, replaced), number)
    if mime.startswith(GLUE):
        # NumPy 2 prints np.float64(0.5), which no format such as :.3f can read.
        data = re.sub(r"^np\.\w+\((.*)\)$", r"\1", data)
    return data


def _stable(text: str, number: int) -> str:
    """Take out what changes from run to run without a meaning."""
    # From the start of a word on: a picture is one word of a million letters.
    text = re.sub(r"(?<!\S)\S*ipykernel_\d+/\d+\.py", f"cell {number}", text)
    text = re.sub(r"\b0x[0-9a-f]{6,}\b", "0x...", text)
    return re.sub(r"\bT_[0-9a-f]{5}(?=[_\"' {])", f"T_cell{number}", text)  # Styler


def _replace(text: str, replaced: Mapping[str, str]) -> str:
    for old, new in replaced.items():
        text = text.replace(old, new)
    return text


def _glued(cells: list[dict]) -> dict[str, str]:
    return {
        output["metadata"]["scrapbook"]["name"]: output["data"].get(
            f"{GLUE}text/plain", ""
        )
        for cell in cells
        for output in cell.get("outputs", [])
        if "scrapbook" in output.get("metadata", {})
    }


def _clean_texts(
    cell: dict, number: int, glued: dict[str, str], prefix: str, labels: list[str]
) -> None:
    options = cell["metadata"].get("mystnb", {})
    texts = [options.get("figure", {}).get("caption", "")]
    texts += [options.get("image", {}).get("alt", "")]
    texts += [cell["source"]] if cell["cell_type"] == "markdown" else []
    for text in texts:
        for match in GLUE_ROLE.finditer(str(text)):
            if match["key"] not in glued:
                raise PageError(
                    f"cell {number} shows {match['key']!r}, which is not among the "
                    f"numbers glued: {', '.join(sorted(glued)) or 'none'}"
                )
    if cell["cell_type"] == "markdown":
        cell["source"] = _prefixed(cell["source"], prefix, labels)
    for key in {"name", "caption"} & set(options.get("figure", {})):
        options["figure"][key] = _prefixed(options["figure"][key], prefix, labels)
    if alt := options.get("image", {}).get("alt"):
        options["image"]["alt"] = GLUE_ROLE.sub(
            lambda match: _formatted(match, glued, number), alt
        )


def _formatted(match: re.Match, glued: dict[str, str], number: int) -> str:
    from myst_nb.core.variables import format_plain_text

    try:
        return format_plain_text(glued[match["key"]], match["format"] or "")
    except (ValueError, TypeError) as error:
        raise PageError(
            f"cell {number}: {glued[match['key']]} does not fit {match[0]}: {error}"
        ) from error


def _prefixed(text: str, prefix: str, labels: list[str]) -> str:
    if not labels:
        return text
    names = "|".join(map(re.escape, sorted(set(labels), key=len, reverse=True)))
    # A whole word, and not a piece of a path or a file name.
    return re.sub(rf"(?<![\w/.-])({names})(?![\w/-]|\.\w)", rf"{prefix}\1", text)


def _numbered(cells: list[dict]) -> list[tuple[int, dict]]:
    """Number the cells as in the notebook itself, without the one papermill adds."""
    numbered, number = [], 0
    for cell in cells:
        number += "injected-parameters" not in cell["metadata"].get("tags", [])
        numbered.append((number, cell))
    return numbered


def _labels(cells: list[dict]) -> list[str]:
    found = []
    for cell in cells:
        figure = cell["metadata"].get("mystnb", {}).get("figure", {})
        found += [figure["name"]] if "name" in figure else []
        if cell["cell_type"] == "markdown":
            for pattern in LABELS:
                found += pattern.findall(cell["source"])
    return found


def _kept_metadata(cell: dict) -> dict:
    metadata = cell["metadata"]
    return {key: metadata[key] for key in ("tags", "mystnb") if metadata.get(key)}


def _markdown(source: str) -> dict:
    return {"cell_type": "markdown", "metadata": {}, "source": source}


def _no_alt(number: int) -> str:
    return (
        f"cell {number} shows a figure without a text for those who cannot see it: set "
        'mystnb={"image": {"alt": "..."}} in its metadata'
    )


def as_node(notebook: dict) -> Any:
    """The same notebook in nbformat's own type, which papermill takes."""
    import nbformat

    return nbformat.from_dict(notebook)


def _and(names: list[str]) -> str:
    return " and ".join(names)


# ------------------------------------------------------------- what a page says


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


def parameter_table(
    known: Mapping[str, Parameter], values: Mapping[str, Any], results: str
) -> str:
    """A Markdown table of parameters; values that differ from the default in bold."""
    rows = ["| parameter | this run | default | meaning |", "| --- | --- | --- | --- |"]
    for name, parameter in known.items():
        value = results if name == "results" else values.get(name, parameter.default)
        this = _cell(value)
        if value != parameter.default and name != "results":
            this = f"**{this}**"
        meaning = parameter.meaning.replace("|", r"\|")
        rows.append(f"| `{name}` | {this} | {_cell(parameter.default)} | {meaning} |")
    return "\n".join(rows)


def _cell(value: Any) -> str:
    return "`" + str(value).replace("|", r"\|") + "`" if value != "" else '`""`'
