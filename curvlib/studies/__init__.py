"""One module for each question: it measures, and returns tidy tables.

A study has a recipe number, the parts of the library that make its numbers, and one
function that takes plain values by name::

    RECIPE = 1  # raise it when a change alters a number of the tables
    PARTS = ("data", "networks", "training", "scoring")

    def measure(*, dataset: str = "digits", seeds: list[int] = [0], ...) -> Measured:

The notebook of the same name has the same parameters, and draws the tables.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:  # the command line imports this package, and needs none of these
    import numpy as np
    import pandas as pd

    from curvlib.runs.settings import TrainConfig

    Table = pd.DataFrame | np.ndarray | bytes


# Parameters that were added to studies later, with values that change no number: a
# record without them was measured with these. ``more_settings`` has further settings of
# a training run by name, such as {"nesterov": True}.
NEUTRAL = {"more_settings": None, "num_heldout": 0}


class Measured(NamedTuple):
    """What a study found.

    Attributes:
        tables: By name. A data frame is kept as ``name.csv``, or as Parquet if its name
            ends in ``.parquet``; an array as ``name.npz``; bytes unchanged, under a
            name with an extension, such as ``"sheet.png"``. The index of a frame has no
            meaning.
        data: Checksums of the data measured on, by split: ``{"train": ...}`` at least.
        runs: The training runs behind the tables, as ``costs.of_runs`` lists them.
        device: The device that computed the numbers, if there are no runs.
    """

    tables: "Mapping[str, Table]"
    data: Mapping[str, str]
    runs: "pd.DataFrame | None" = None
    device: str = "cpu"


def config_of(parameters: Mapping, **changes: object) -> "TrainConfig":
    """Settings of a training run, from the parameters of a study.

    Args:
        parameters: Parameters of a study, such as ``locals()`` at its start. Those that
            are not settings of a run are ignored; ``more_settings`` adds others.
        changes: Further settings, or other values.

    Raises:
        ValueError: If ``more_settings`` holds a parameter of the study, or a value is
            out of range.
    """
    from curvlib.runs.settings import TrainConfig

    known = TrainConfig.model_fields
    given = {name: value for name, value in parameters.items() if name in known}
    more = parameters.get("more_settings") or {}
    if twice := sorted(more.keys() & (parameters.keys() | changes.keys())):
        raise ValueError(
            f"more_settings holds {', '.join(twice)}, which the study sets itself; "
            "give parameters of the study by their own names"
        )
    return TrainConfig(**(given | more | changes))


def checksums(
    dataset: str, *, image_size: int | None = None, broken_files: str = "stop"
) -> dict[str, str]:
    """Checksum of a whole data set, as ``Measured.data`` has it.

    Args:
        dataset: As for ``curvlib.load``, and so are the other two.
        image_size: Side length of photographs in folders.
        broken_files: Of folders.
    """
    from curvlib.data import load

    images = load(dataset, image_size=image_size, broken_files=broken_files)
    return {"train": images.checksum}


def compact(table: "pd.DataFrame") -> "pd.DataFrame":
    """The same table with the smallest types: float32, like a trace."""
    import numpy as np
    import pandas as pd

    small = {
        name: values.astype(np.float32)
        if values.dtype.kind == "f"
        else pd.to_numeric(values, downcast="integer")
        for name, values in table.items()
    }
    return pd.DataFrame(small)
