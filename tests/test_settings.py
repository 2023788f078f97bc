"""Any class of settings: checked as a whole, fixed, named, and made into options."""

import argparse
from dataclasses import FrozenInstanceError
from typing import Annotated, Literal

import pytest

from curvlib.runs import options
from curvlib.runs.checked import Settings, at_least, one_of, told


class Boat(Settings):
    """A boat."""

    name: Annotated[str, told("Name on the bow.")]
    masts: Annotated[int, told("Masts, each 100 % wood."), at_least(1)] = 2
    kind: Annotated[
        str, told("What it is built for."), one_of(("trade", "war"))
    ] = "trade"  # fmt: skip
    crew: Annotated[int | None, told("People on board; None: unknown.")] = None
    speed: Annotated[float, told("Knots.")] = 5.0
    flag: Literal["red", "blue"] = "red"
    engine: Annotated[bool, told("Sail with an engine.", neutral=False)] = False


@pytest.mark.parametrize(
    ("values", "error", "message"),
    [
        ({}, TypeError, "name is missing, and has no default"),
        ({"name": 1}, TypeError, "name must be str, got 1"),
        ({"name": "A", "crew": "all"}, TypeError, "crew must be int | None, got 'all'"),
        ({"name": "A", "masts": True}, TypeError, "masts must be int, got True"),
        ({"name": "A", "speed": "5"}, TypeError, "speed must be float, got '5'"),
        ({"name": "A", "masts": 0}, ValueError, "masts must be at least 1, got 0"),
        ({"name": "A", "kind": "fun"}, ValueError,
         "kind must be one of trade, war, got 'fun'"),
        ({"name": "A", "flag": "green"}, ValueError,
         "flag must be 'red' or 'blue', got 'green'"),
        ({"name": "A", "mast": 3}, TypeError,
         "Boat has no setting 'mast'; did you mean masts?"),
        ({"masts": 0, "crew": 1.5, "sails": 3}, ValueError,
         "4 settings are wrong: name is missing, and has no default; masts must be at "
         "least 1, got 0; crew must be int | None, got 1.5; Boat has no setting "
         "'sails'; it has name, masts, kind, crew, speed, flag, engine"),
    ],
)  # fmt: skip
def test_an_error_says_what_was_expected_and_what_came(values, error, message):
    with pytest.raises((TypeError, ValueError)) as caught:
        Boat(**values)
    assert (type(caught.value), str(caught.value)) == (error, message)


def test_settings_are_fixed_equal_by_value_and_usable_as_keys():
    boat = Boat(name="Anna", speed=7)
    assert boat == Boat(name="Anna", speed=7.0) and {boat: 1}[boat.changed()] == 1
    with pytest.raises(FrozenInstanceError, match=r"use \.changed\(masts=3\), which"):
        boat.masts = 3
    assert boat.changed(masts=3).as_dict() == boat.as_dict() | {"masts": 3}


def test_the_identity_leaves_out_what_is_neutral_and_nothing_else():
    assert Boat(name="A").identity() == {
        "name": "A", "masts": 2, "kind": "trade", "crew": None, "speed": 5.0,
        "flag": "red",
    }  # fmt: skip
    assert (
        Boat(name="A", engine=True).identity() == Boat(name="A", engine=True).as_dict()
    )


def test_the_docstring_lists_what_is_told():
    assert "\n    Attributes:\n        name: Name on the bow.\n" in Boat.__doc__


def test_options_are_made_of_some_settings_and_read_back():
    parser = argparse.ArgumentParser()
    names = ("masts", "crew", "engine", "name")
    options.add(parser, Boat, names, required=["name"], masts=1)
    text = " ".join(parser.format_help().split())
    assert "--masts INT Masts, each 100 % wood. (at least 1; default: 1)" in text
    assert "--crew INT People on board; if left out, unknown. --engine" in text
    assert "--no-engine Sail with an engine. (default: off)" in text
    assert "--name STR Name on the bow. (required)" in text
    assert "--kind" not in text
    given = parser.parse_args(["--name=B", "--crew=3", "--engine"])
    assert vars(given) == {"name": "B", "masts": 1, "crew": 3, "engine": True}
    whole = argparse.Namespace(**Boat(name="C", speed=2).as_dict())
    assert options.chosen(whole, Boat) == Boat(name="C", speed=2)
