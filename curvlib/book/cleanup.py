r"""From a notebook to a page: what a notebook must contain, and what happens to it.

A notebook of this book

- opens with a Markdown cell whose first line is ``# `` and the page's question;
- names the kernel ``python3``, so that plain papermill can run it;
- has one code cell tagged ``parameters``, with one plain value in each line and its
  meaning in a comment (without ``=``, which confuses papermill)::

      dataset = "digits"  # name for curvlib.load
      num_train: int = None  # images to train on; None for all
      seeds = [0, 1, 2]  # one training run each
      records: list = None  # records to show; None measures with the values above
      results = "results/scratch/gallery"  # folder of the record that is measured

  A value's type is its annotation, else its default's; a default of None, or
  ``Optional[...]``, allows None too. Every notebook has `records` and `results`.
- gives each shown figure an alt text, and may give it a caption and a name, in the
  metadata of its cell, in the .py on one line (``tabs.show`` takes the alt text
  itself)::

      # %% mystnb={"figure": {"caption": "", "name": "fig-a"}, "image": {"alt": ""}}

  A caption is MyST: ``{glue:text}`auroc:.3f` `` in it shows a number of this run. It
  does so in an alt text too, where the clean-up writes the number: alt text is plain.
- names what can be referred to with a hyphen: ``fig-auroc``, ``tab-scores``,
  ``eq-trace``, in figure names, ``(sec-why)=`` targets, ``$$ (eq-trace)`` and
  ``:name:`` or ``:label:`` options. Names must differ between pages, so the clean-up
  puts the page before every such name, and wherever the notebook's Markdown refers to
  it: `fig-auroc` becomes `mislabelled-fig-auroc`, which is what other pages refer to.
- calls ``Page.begin(In)`` after that cell, which checks what plain papermill does not.
- ends with at least two exercises, each with a hidden solution: one to think about, and
  one that changes code or a parameter. The second is solved by code that runs::

      # %% [markdown]
      # ```{exercise}
      # :label: ex-step
      # Double the step. What happens to the ranking?
      # ```
      #
      # ```{solution-start} ex-step
      # :class: dropdown
      # ```

      # %% tags=["solution"]
      changed = study.measure(step=2 * step, seeds=seeds[:1])

      # %% [markdown]
      # The ranking hardly changes, since ...
      #
      # ```{solution-end}
      # ```

  The cell tagged ``solution`` runs when the page is drawn, and its output is shown with
  it. One that trains, or needs torch or a data set, is tagged ``["solution",
  "skip-execution"]``: papermill skips it, and the book shows it without output. It
  takes its settings from the parameters, so that the tests, which run every solution,
  can make it small.
"""

import copy
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from curvlib.book.parameters import KERNEL, PageError, all_of, parameters_cell
from curvlib.files import short_hash

BOOTSTRAP = "bootstrap"  # tag of a page's first cell of code
GLUE = "application/papermill.record/"
MIME = "application/x-curvlib-figure+json"  # a drawing: curvlib/book/artwork.py
WIDGET = "application/vnd.jupyter.widget-view+json"
GLUE_ROLE = re.compile(r"\{glue(?::\w*)?\}`(?P<key>[^`:]+)(?::(?P<format>[^`:]*))?`")
SOLUTION, SKIPPED = "solution", "skip-execution"  # the second is nbclient's own
EXERCISE = re.compile(r"^`{3,}\{exercise\}.*\n(?::.*\n)*?:label: (\S+)$", re.MULTILINE)
SOLVED = re.compile(r"^`{3,}\{solution(?:-start)?\} (\S+)$", re.MULTILINE)
GATE = re.compile(r"^`{3,}\{solution-(start|end)\}", re.MULTILINE)
LABELS = (
    re.compile(r"^\((\S+)\)=\s*$", re.MULTILINE),
    re.compile(r"^\s*:(?:name|label):\s*(\S+)\s*$", re.MULTILINE),
    re.compile(r"\$\$\s*\(([^\s)]+)\)\s*$", re.MULTILINE),
)


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
    return short_hash(json.dumps(essence, sort_keys=True).encode())


def check_source(notebook: dict) -> None:
    """Refuse a notebook that might run for an hour and still not give a page.

    Raises:
        PageError: If a cell breaks a rule of this module. The message names both.
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
        tabs = "tabs.show(" in cell["source"]  # which asks for one itself
        if "figure" in options and not (tabs or options.get("image", {}).get("alt")):
            raise PageError(_no_alt(number))
    names = _labels(cells)
    if bad := sorted({name for name in names if "-" not in name}):
        raise PageError(
            f"the name {all_of(bad)} needs a hyphen, such as fig-{bad[0]}: it would be "
            "taken for a word of the text"
        )
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise PageError(f"the name {all_of(twice)} is given more than once")
    _check_solutions(cells)


def exercises(notebook: dict) -> list[str]:
    """Labels of a notebook's exercises, in order."""
    return EXERCISE.findall(_text(notebook["cells"]))


def _check_solutions(cells: list[dict]) -> None:
    asked, solved = EXERCISE.findall(_text(cells)), SOLVED.findall(_text(cells))
    if sorted(asked) != sorted(solved):
        raise PageError(
            f"each exercise needs one solution; exercises: {all_of(asked) or 'none'}; "
            f"solutions: {all_of(solved) or 'none'}"
        )
    within = False
    for number, cell in enumerate(cells, 1):
        tags = set(cell["metadata"].get("tags", []))
        if cell["cell_type"] == "markdown":
            for gate in GATE.findall(cell["source"]):
                if (gate == "start") == within:
                    raise PageError(f"cell {number}: solution-{gate} has no partner")
                within = gate == "start"
        elif within != (SOLUTION in tags):
            raise PageError(
                f"cell {number}: a code cell is tagged {SOLUTION!r} if and only if it "
                "lies between {solution-start} and {solution-end}"
            )
        elif SKIPPED in tags and not within:
            raise PageError(f"cell {number}: only a solution may be {SKIPPED!r}")
    if within:
        raise PageError("a solution-start has no solution-end")


# ----------------------------------------------------------------- after it ran


def clean(
    executed: dict,
    *,
    name: str,
    title: str | None = None,
    about: str,
    downloads: Mapping[str, list[str]],
    replaced: Mapping[str, str],
    bootstrap: str = "",
) -> bytes:
    """Make a page from an executed notebook: the same content gives the same bytes.

    Args:
        executed: The notebook that papermill wrote.
        name: Name of the page, such as ``"gallery"``, a prefix for its labels.
        title: Replaces the notebook's title.
        about: Markdown below the title: how the page was made.
        downloads: Paths of the data files of this page, from the book's root, by
            the record to which they belong.
        replaced: Texts of outputs and parameters that differ between machines or runs,
            and their replacements.
        bootstrap: Code that installs the project, for a cell that the book hides and
            that readers run first in Colab; none if empty.

    Raises:
        PageError: If a cell failed or did not run, a figure has no alt text, or a text
            shows a number that this notebook never glued.
    """
    notebook = copy.deepcopy(executed)
    cells = notebook["cells"]
    for number, cell in _numbered(cells):
        cell["metadata"] = _kept_metadata(cell)
        if cell["cell_type"] == "code":
            _clean_code_cell(cell, number, replaced)
    told = glued(cells)
    prefix = re.sub(r"[^a-z0-9]+", "-", name.lower()) + "-"
    labels = _labels(cells)
    for number, cell in _numbered(cells):
        _clean_texts(cell, number, told, prefix, labels)
    if title:
        cells[0]["source"] = re.sub(
            r"^# .*", lambda _: f"# {title}", cells[0]["source"], count=1
        )
    cells.insert(1, _markdown(about))
    groups = [
        f"{whose}: "
        + ", ".join(f"{{download}}`{Path(path).name} <{path}>`" for path in paths)
        for whose, paths in downloads.items()
        if paths
    ]
    if groups:
        cells.append(_markdown("\n\n".join(["## Data of this page", *groups])))
    if bootstrap:
        cells.insert(1, _code(bootstrap, tags=[BOOTSTRAP, "remove-cell"]))
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
    tags = cell["metadata"].get("tags", [])
    ran = cell["execution_count"] is not None or SKIPPED in tags
    if cell["source"].strip() and not ran:
        raise PageError(f"cell {number} did not run")
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
            # Where one print ends and the next begins depends on timing.
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
        if any(m.startswith("image/") or m == MIME for m in output.get("data", {}))
    ]
    hidden = {"remove-cell", "remove-output", "remove_cell", "remove_output"}
    if shown and not hidden & set(cell["metadata"].get("tags", [])):
        options = cell["metadata"].get("mystnb", {})
        tabs = "tabs.show(" in cell["source"]  # which asked for an alt text itself
        if not (tabs or options.get("image", {}).get("alt", "").strip()):
            raise PageError(_no_alt(number))
        if len(shown) > 1 and options.get("figure", {}).get("name"):
            raise PageError(
                f"cell {number} shows {len(shown)} figures under one name: "
                "draw each in its own cell"
            )
        # What a cell's last line gives, such as a list of Matplotlib's texts.
        beside = [o for o in outputs if o.get("data", {}).keys() == {"text/plain"}]
        if beside and options.get("figure", {}).get("name"):
            raise PageError(
                f"cell {number} shows something beside its figure "
                f"({beside[0]['data']['text/plain'][:40]}): assign it, as in `_ = ...`"
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
    """Remove what changes from run to run but has no meaning."""
    # From the start of a word on: a picture is one word of a million letters.
    text = re.sub(r"(?<!\S)\S*ipykernel_\d+/\d+\.py", f"cell {number}", text)
    text = re.sub(r"\b0x[0-9a-f]{6,}\b", "0x...", text)
    return re.sub(r"\bT_[0-9a-f]{5}(?=[_\"' {])", f"T_cell{number}", text)  # Styler


def _replace(text: str, replaced: Mapping[str, str]) -> str:
    """Replace paths of a machine, but never within data in base64."""
    pieces = re.split(r"(data:[^\s\"',;]*;base64,[A-Za-z0-9+/=\s]+)", text)
    for place in range(0, len(pieces), 2):
        for old, new in replaced.items():
            # A whole path: /root is no part of /rootless.
            end = r"(?![\w-])" if old[-1] not in "/\\" else ""
            pieces[place] = re.sub(
                re.escape(old) + end, lambda _, new=new: new, pieces[place]
            )
    return "".join(pieces)


def glued(cells: list[dict]) -> dict[str, str]:
    """Numbers that a notebook gave to its text, by name, as Python writes them."""
    return {
        output["metadata"]["scrapbook"]["name"]: output["data"].get(
            f"{GLUE}text/plain", ""
        )
        for cell in cells
        for output in cell.get("outputs", [])
        if "scrapbook" in output.get("metadata", {})
    }


def _clean_texts(
    cell: dict, number: int, told: dict[str, str], prefix: str, labels: list[str]
) -> None:
    options = cell["metadata"].get("mystnb", {})
    texts = [options.get("figure", {}).get("caption", "")]
    texts += [options.get("image", {}).get("alt", "")]
    texts += [cell["source"]] if cell["cell_type"] == "markdown" else []
    for text in texts:
        for match in GLUE_ROLE.finditer(str(text)):
            if match["key"] not in told:
                raise PageError(
                    f"cell {number} shows {match['key']!r}, which is not among the "
                    f"numbers glued: {', '.join(sorted(told)) or 'none'}"
                )
    if cell["cell_type"] == "markdown":
        cell["source"] = _prefixed(cell["source"], prefix, labels)
    for key in {"name", "caption"} & set(options.get("figure", {})):
        options["figure"][key] = _prefixed(options["figure"][key], prefix, labels)
    if alt := options.get("image", {}).get("alt"):
        options["image"]["alt"] = GLUE_ROLE.sub(
            lambda match: _formatted(match, told, number), alt
        )


def _formatted(match: re.Match, told: Mapping[str, str], number: int) -> str:
    try:
        return formatted(told[match["key"]], match["format"] or "")
    except (ValueError, TypeError) as error:
        raise PageError(
            f"cell {number}: {told[match['key']]} does not fit {match[0]}: {error}"
        ) from error


def formatted(value: str, format: str) -> str:
    """A number that ``glued`` gives, as the text of a page shows it.

    Raises:
        ValueError: If the format does not fit; also TypeError.
    """
    from myst_nb.core.variables import format_plain_text

    return format_plain_text(value, format)


def _prefixed(text: str, prefix: str, labels: list[str]) -> str:
    if not labels:
        return text
    names = "|".join(map(re.escape, sorted(set(labels), key=len, reverse=True)))
    # A whole word, and not a piece of a path or a file name.
    return re.sub(rf"(?<![\w/.-])({names})(?![\w/-]|\.\w)", rf"{prefix}\1", text)


def _numbered(cells: list[dict]) -> list[tuple[int, dict]]:
    """Number the cells as in the notebook, without the one that papermill adds."""
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


def _text(cells: list[dict]) -> str:
    return "\n\n".join(c["source"] for c in cells if c["cell_type"] == "markdown")


def _kept_metadata(cell: dict) -> dict:
    metadata = cell["metadata"]
    return {key: metadata[key] for key in ("tags", "mystnb") if metadata.get(key)}


def _markdown(source: str) -> dict:
    return {"cell_type": "markdown", "metadata": {}, "source": source}


def _code(source: str, tags: list[str]) -> dict:
    cell = {"cell_type": "code", "metadata": {"tags": tags}, "source": source}
    return cell | {"outputs": [], "execution_count": None}


def _no_alt(number: int) -> str:
    return (
        f"cell {number} shows a figure without a text for those who cannot see it: set "
        'mystnb={"image": {"alt": "..."}} in its metadata'
    )
