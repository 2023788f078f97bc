"""Settings that are checked together, so that one error names every fault.

Imports neither torch nor NumPy: the command line can use it and stay fast.
"""

import difflib
import sys
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import FrozenInstanceError, dataclass
from types import UnionType
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError, core_schema

NEUTRAL = "neutral"  # key of the value that had been the only one before the field


def told(description: str, **extra: Any) -> FieldInfo:
    """Describe a field in one sentence, for docstrings and the command line.

    Args:
        description: What the setting does, and what None means.
        extra: ``neutral=value`` for a setting that was added later. With this value, a
            run is the same as before the setting existed, and keeps its name.

    Returns:
        Metadata for ``Annotated``.
    """
    return Field(description=description, json_schema_extra=extra or None)


@dataclass(frozen=True)
class Must:
    """A rule for a value, as words and as a function; None passes every rule.

    Attributes:
        be: Completes "must be ...".
        holds: Whether a value of the right type satisfies the rule.
    """

    be: str
    holds: Callable[[Any], bool]

    def __get_pydantic_core_schema__(self, source, handler):
        """Check the type first, then the rule."""
        return core_schema.no_info_after_validator_function(
            self._checked, handler(source)
        )

    def _checked(self, value: Any) -> Any:
        if value is not None and not self.holds(value):
            raise fault(f"be {self.be}")
        return value


def at_least(least: float) -> Must:
    """Rule for a number: at least some value.

    Args:
        least: The smallest number that passes.

    Returns:
        The rule.
    """
    return Must(f"at least {least}", lambda value: value >= least)


def one_of(choices: Mapping | tuple) -> Must:
    """Rule for a name: one of the given choices.

    Args:
        choices: The allowed names.

    Returns:
        The rule; its text lists the names.
    """
    return Must(f"one of {', '.join(choices)}", lambda value: value in choices)


def fault(must: str) -> PydanticCustomError:
    """Create the error that a validator raises when it refuses a value.

    Args:
        must: Completes "<name> must ...".

    Returns:
        The error; ``Settings`` puts the name before it and the value after it.
    """
    return PydanticCustomError("must", "{must}", {"must": must})


class Settings(BaseModel):
    """Base class of settings: typed and immutable; one error names all faults.

    A subclass annotates each field with its type, ``told("...")`` and rules. Integers
    become floats where a float is expected, and NumPy scalars become Python's.
    Otherwise the type must be the annotated one.

    Raises:
        TypeError: If every fault is a value of another type or an unknown name.
        ValueError: If a value is out of range, whatever else is wrong.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, validate_default=True
    )

    def __init__(self, /, **values: Any):
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise _in_words(type(self), error) from None

    @classmethod
    def __pydantic_init_subclass__(cls, **_: Any) -> None:
        """Add the description of each field to the docstring."""
        indents = {"initial_indent": " " * 8, "subsequent_indent": " " * 12}
        lines = [
            textwrap.fill(f"{name}: {field.description}", 88, **indents)
            for name, field in cls.model_fields.items()
        ]
        told = "\n".join(["    Attributes:", *lines])
        cls.__doc__ = f"{(cls.__doc__ or cls.__name__).rstrip()}\n\n{told}\n    "

    @model_validator(mode="before")
    @classmethod
    def _without_numpy(cls, values: dict) -> dict:
        numpy = sys.modules.get("numpy")  # no scalar of NumPy's without it
        if numpy is None:
            return values
        return {
            name: value.item() if isinstance(value, numpy.generic) else value
            for name, value in values.items()
        }

    def __setattr__(self, name: str, value: Any) -> None:
        raise FrozenInstanceError(
            f"cannot set {name} of a {type(self).__name__}; use "
            f".changed({name}={value!r}), which gives another one"
        )

    def __str__(self) -> str:
        return repr(self)

    def as_dict(self) -> dict[str, Any]:
        """All settings by name.

        Returns:
            A new dict of plain values, in the order of the fields.
        """
        return self.model_dump()

    def changed(self, **others: Any) -> Self:
        """Return a copy with some values changed, and check it.

        Args:
            others: The values to change, by name.

        Returns:
            New settings; these do not change.

        Raises:
            TypeError: As for a new one.
            ValueError: Likewise.
        """
        return type(self)(**(self.as_dict() | others))

    def identity(self) -> dict[str, Any]:
        """Settings that identify a run: all except those at their neutral value.

        Returns:
            Plain values by name. Adding a setting does not change them while it has its
            neutral value.
        """
        neutral = self.neutral()
        return {
            name: value
            for name, value in self.as_dict().items()
            if name not in neutral or value != neutral[name]
        }

    @classmethod
    def neutral(cls) -> dict[str, Any]:
        """Neutral values of the settings that were added later.

        Returns:
            Values by name.
        """
        extras = {n: f.json_schema_extra or {} for n, f in cls.model_fields.items()}
        return {n: extra[NEUTRAL] for n, extra in extras.items() if NEUTRAL in extra}


def type_name(field: FieldInfo) -> str:
    """Name the type of a field, such as ``int | None``.

    Args:
        field: As pydantic describes it.

    Returns:
        The name as it is written in code.
    """
    kind = field.annotation
    return str(kind) if isinstance(kind, UnionType) else kind.__name__


def _in_words(kind: type[Settings], error: ValidationError) -> Exception:
    """One error for all faults: what was expected, what came, what to do."""
    fields, lines, of_type = kind.model_fields, [], True
    for found in error.errors(include_url=False):
        name, value = str(found["loc"][0]), found["input"]
        if found["type"] == "extra_forbidden":
            near = difflib.get_close_matches(name, fields, n=1, cutoff=0.75)
            valid = (
                f"did you mean {near[0]}?" if near else f"it has {', '.join(fields)}"
            )
            lines.append(f"{kind.__name__} has no setting {name!r}; {valid}")
        elif found["type"] == "missing":
            lines.append(f"{name} is missing, and has no default")
        elif found["type"].endswith("_type") or found["type"] == "int_from_float":
            lines.append(f"{name} must be {type_name(fields[name])}, got {value!r}")
        else:
            must = found["msg"].removeprefix("Input should ")  # of pydantic's own rules
            lines.append(f"{name} must {must}, got {value!r}")
            of_type = False
    count = f"{len(lines)} settings are wrong: " if len(lines) > 1 else ""
    return (TypeError if of_type else ValueError)(count + "; ".join(lines))
