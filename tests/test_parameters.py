import shlex

import pytest
from toy_book import code, notebook

from curvlib.book import parameters
from curvlib.book.parameters import PageError

KNOWN = parameters.parameters(
    {
        **notebook(),
        "cells": [
            code(
                "count: int = None  # None: all\n"
                "rate = 0.1  # share\n"
                "word = 'digits'\n"
                "flag = True\n"
                "rates = [0.1, 0.2]\n"
                "maybe: Optional[float] = 0.5\n"
                "named: dict = {'a': 1}\n"
                "shares: dict[str, float] = {'a': 0.5}\n"
                "anything = None\n"
                'results = "results/scratch/x"',
                tags=["parameters"],
            )
        ],
    }
)


def test_parameters_have_type_default_and_meaning():
    assert KNOWN["count"] == ("count", "Optional[int]", None, "None: all")
    assert KNOWN["rate"] == ("rate", "float", 0.1, "share")
    assert KNOWN["rates"].type == "list[float]"


@pytest.mark.parametrize(
    ("given", "got"),
    [
        ({"count": None}, None),
        ({"count": 3}, 3),
        ({"rate": 1}, 1.0),
        ({"rates": [1, 0.5]}, [1.0, 0.5]),
        ({"maybe": None}, None),
        ({"anything": "x"}, "x"),
        ({"flag": False}, False),
        ({"word": "a=b"}, "a=b"),
        ({"named": {"b": 2}}, {"b": 2}),
        ({"shares": {"b": 1}}, {"b": 1.0}),
    ],
)
def test_a_value_gets_the_type_of_its_parameter(given, got):
    (value,) = parameters.checked(KNOWN, given).values()
    assert (value, type(value)) == (got, type(got))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"count": True}, r"count must be Optional\[int\], got True, bool"),
        ({"count": 3.0}, r"count must be Optional\[int\], got 3.0, float"),
        ({"rate": None}, "rate must be float, got None"),
        ({"rate": True}, "rate must be float, got True"),
        ({"rate": "1e-4"}, "write it with a point, such as 1.0e-4"),
        ({"word": 3}, "word must be str, got 3, int"),
        ({"word": 2024}, r"got 2024, int \(with papermill, -r word 2024 passes text"),
        ({"flag": 1}, "flag must be bool, got 1, int"),
        ({"named": [1]}, r"named must be dict, got \[1\], list"),
        ({"shares": {"b": "x"}}, r"shares must be dict\[str, float\], got"),
        ({"rates": 0.1}, r"rates must be list\[float\], got 0.1, float"),
        ({"rates": ["a"]}, r"rates must be list\[float\], got \['a'\], list"),
        ({"ratio": 1}, "unknown parameter 'ratio'; expected count, rate, word"),
    ],
)
def test_a_wrong_value_is_refused(given, message):
    with pytest.raises(PageError, match=message):
        parameters.checked(KNOWN, given)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("h = 0.1  # such as h=1e-3", "papermill cannot read the parameter h"),
        ("h: int | None = 1", "papermill cannot read the parameter h"),
        (
            "h = 1 / 255",
            "the default of parameter h must be a plain value, got 1 / 255",
        ),
    ],
)
def test_a_parameters_cell_that_is_not_plain_is_refused(line, message):
    cell = code(f"{line}\nresults = ''", tags=["parameters"])
    with pytest.raises(PageError, match=message):
        parameters.parameters({**notebook(), "cells": [cell]})


def test_the_table_of_parameters_shows_in_bold_what_is_not_the_default():
    known = {
        p.name: p
        for p in (
            parameters.Parameter("n", "int", 3, "rows"),
            parameters.Parameter("same", "int", 3, "given, but the default"),
            parameters.Parameter("word", "str", "", "a | b"),
            parameters.Parameter("records", "list", None, "records to show"),
            parameters.Parameter("results", "str", "results/scratch/x", "folder"),
        )
    }
    table = parameters.parameter_table(known, {"n": 5, "same": 3})
    assert table.splitlines()[2:] == [
        "| `n` | **`5`** | `3` | rows |",
        "| `same` | `3` | `3` | given, but the default |",
        '| `word` | `""` | `""` | a \\| b |',
    ]


def test_the_papermill_command_gives_papermill_the_same_values():
    from papermill.cli import _resolve_type
    from yaml import safe_load

    values = {"a": 1e-05, "b": True, "c": "a b", "d": [1e-05], "e": None, "f": "None"}
    words = shlex.split(parameters.papermill_command("x.ipynb", values))[3:]
    got = {}
    while words:
        if words[0] == "-p":
            got[words[1]], words = _resolve_type(words[2]), words[3:]
        else:
            got |= safe_load(words[1])
            words = words[2:]
    assert got == values


PARAMETERS_CELL = """\
rates = [0.1]  # shares
seeds = [0]  # runs
records: list = None  # to show
results = "results/scratch/x"  # folder
"""


@pytest.mark.parametrize(
    ("injected", "message"),
    [
        ("sedes = [1]", r"unknown parameter 'sedes'; expected rates, seeds"),
        ("seeds = 3", r"parameter seeds must be list\[int\], got 3, int"),
        ("seeds = []", r"parameter seeds must be list\[int\], got \[\], list"),
        ('rates = "[0.1]"', r"parameter rates must be list\[float\]"),
    ],
)
def test_under_plain_papermill_a_notebook_refuses_by_itself(injected, message):
    sources = ["", PARAMETERS_CELL, f"# Parameters\n{injected}\n"]
    with pytest.raises(PageError, match=message):
        parameters.given_parameters(sources)


def test_a_notebook_knows_its_defaults_and_what_was_given():
    good = '# Parameters\nseeds = [1, 2]\nresults = "elsewhere"\n'
    assert parameters.given_parameters(["", PARAMETERS_CELL, good]) == {
        "rates": [0.1],
        "seeds": [1, 2],
        "records": None,
        "results": "elsewhere",
    }
    with_sign = '# Parameters\nseeds = [1]\nresults = "a=b/mine"\n'
    given = parameters.given_parameters(["", PARAMETERS_CELL, with_sign])
    assert given["results"] == "a=b/mine"
    own = parameters.given_parameters(["", PARAMETERS_CELL, "import math"])
    assert own["seeds"] == [0]
    with pytest.raises(PageError, match="run the parameters cell"):
        parameters.given_parameters(["import math"])


def test_parameters_of_a_study_are_read_without_importing_it(tmp_path, monkeypatch):
    monkeypatch.setattr(parameters, "LIBRARY", tmp_path)
    study = tmp_path / "studies" / "circle.py"
    study.parent.mkdir()
    study.write_text(
        "import nothing_of_that_name\n"
        'PARTS = ("data",)\n'
        "def measure(*, n: int = 3, rate: float | None = None, seeds: list[int] = [0]):"
        " ...\n"
    )
    found = parameters.parameters_of_study("circle")
    assert [p[:3] for p in found.values()] == [
        ("n", "int", 3),
        ("rate", "Optional[float]", None),
        ("seeds", "list[int]", [0]),
    ]
    assert parameters.parts_of_study("circle") == ("data", "studies.circle")
    with pytest.raises(PageError, match=r"no study 'square': curvlib/studies/square"):
        parameters.parameters_of_study("square")
    study.write_text("def measure(*, n: int = 1 / 3): ...\n")
    with pytest.raises(
        PageError, match=r"the default of n in circle\.measure is no pl"
    ):
        parameters.parameters_of_study("circle")
    with pytest.raises(PageError, match=r"circle\.py has no line PARTS"):
        parameters.parts_of_study("circle")
    study.write_text("x = 1\n")
    with pytest.raises(PageError, match=r"circle\.py has no function measure"):
        parameters.parameters_of_study("circle")
