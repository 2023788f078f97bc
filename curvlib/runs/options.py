"""Options of the command line, made from the descriptions of settings."""

import argparse
from collections.abc import Iterable
from types import UnionType
from typing import Any, TypeVar, get_args

from curvlib.runs.checked import Must, Settings

S = TypeVar("S", bound=Settings)


def add(
    command: argparse.ArgumentParser,
    settings: type[Settings],
    names: Iterable[str] | None = None,
    *,
    required: Iterable[str] = (),
    **defaults: Any,
) -> None:
    """Add one option for each setting to a command, with its help.

    Args:
        command: The command; ``num_train`` becomes ``--num-train``.
        settings: Class whose fields become options.
        names: Fields to use, in this order; None: all.
        required: Options that must be given, even if they have a default.
        defaults: Defaults that differ from those of the settings.
    """
    for name in settings.model_fields if names is None else names:
        field = settings.model_fields[name]
        default = defaults.get(name, field.default)
        rules = [rule.be for rule in field.metadata if isinstance(rule, Must)]
        if field.annotation is bool:
            how: dict[str, Any] = {"action": argparse.BooleanOptionalAction}
            spelled = "on" if default else "off"
        else:
            optional = isinstance(field.annotation, UnionType)
            kind = get_args(field.annotation)[0] if optional else field.annotation
            how = {"type": kind, "metavar": kind.__name__.upper()}
            spelled = str(default)
        if name in required:
            how["required"] = True
            rules.append("required")
        else:
            how["default"] = default
            if default is not None:
                rules.append(f"default: {spelled}")
        # The command line cannot pass None: it means that an option is left out.
        told = field.description.replace("None:", "if left out,")
        if rules:
            told += f" ({'; '.join(rules)})"
        flag = f"--{name.replace('_', '-')}"
        command.add_argument(flag, help=told.replace("%", "%%"), **how)


def chosen(options: argparse.Namespace, settings: type[S]) -> S:
    """Read settings from parsed options.

    Args:
        options: The parsed command line.
        settings: The class given to ``add``.

    Returns:
        Settings of that class.

    Raises:
        ValueError: If a value is out of range. The message names all faults.
    """
    return settings(**{name: getattr(options, name) for name in settings.model_fields})
