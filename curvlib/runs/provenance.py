"""How a number was made: settings, data, recipes, versions and machine.

A *recipe number* is a small integer next to the code of a part, ``RECIPE = 3``. Raise
it by hand whenever a change alters a number that the part computes. The name of a run
or a record depends on its settings, the checksum of its data, and the recipe numbers of
the parts that made it. So old numbers never pass as those of a changed library. If you
move a function, improve an error message, or add a data set or a network, no number
changes, and no recipe number should. ``tests/test_golden.py`` fails if numbers change
but no recipe number does.
"""

import functools
import hashlib
import json
import os
import platform
import re
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

LIBRARY = Path(__file__).parents[1]
# The file with the recipe number of each part. A study's file has the study's name.
PARTS = {
    "data": "data/__init__.py",  # images, their order, label noise, augmentation
    "networks": "runs/networks.py",  # architectures and first weights
    "training": "runs/training.py",  # order of samples, steps, schedules
    "features": "runs/features.py",  # feature vectors by a pretrained network
    "head": "runs/head.py",  # heads on feature vectors
    "scoring": "runs/scoring.py",  # probes, curvature, all columns of a trace
    "halves": "runs/halves.py",  # second trainings and exact curvature
    "ensembles": "runs/ensembles.py",  # many networks on random subsets
}
PACKAGES = ("torch", "torchvision", "numpy", "pandas", "scikit-learn", "matplotlib")


@functools.cache  # stays the same even if a file is edited meanwhile
def recipe(part: str) -> int:
    """Recipe number of a part, read from its source without importing it.

    Args:
        part: One of ``PARTS``, or ``"studies.<name>"``.

    Returns:
        The number, from 1.

    Raises:
        ValueError: If there is no such part, or it has no recipe number.
    """
    place = PARTS.get(part)
    if part.startswith("studies."):
        place = f"studies/{part.removeprefix('studies.')}.py"
    if place is None or not (LIBRARY / place).exists():
        raise ValueError(
            f"no part {part!r}; expected one of {', '.join(PARTS)}, or studies.<name>"
        )
    source = (LIBRARY / place).read_text(encoding="utf-8")
    found = re.search(r"^RECIPE = (\d+)", source, re.MULTILINE)
    if found is None:
        raise ValueError(f"curvlib/{place} has no recipe number, a line RECIPE = 1")
    return int(found[1])


def recipes(parts: Iterable[str]) -> dict[str, int]:
    """Recipe numbers of some parts.

    Args:
        parts: As for ``recipe``; each counts once.

    Returns:
        Numbers by name, in alphabetical order.

    Raises:
        ValueError: If a part is unknown, or has no recipe number.
    """
    return {part: recipe(part) for part in sorted(set(parts))}


def digest(settings: Any, checksums: Mapping[str, str], parts: Iterable[str]) -> str:
    """Hash that identifies the result of some parts with given data and settings.

    Args:
        settings: Anything that can be written as JSON.
        checksums: Checksums of the data, by split.
        parts: The parts whose recipe numbers matter, as for ``recipe``.

    Returns:
        Ten hexadecimal digits.
    """
    identity = json.dumps([settings, checksums, recipes(parts)], sort_keys=True)
    return hashlib.sha256(identity.encode()).hexdigest()[:10]


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that numbers depend on.

    Returns:
        Versions by name, such as ``{"python": "3.11.7", "torch": "2.9.0"}``.
    """
    return {"python": platform.python_version()} | {p: version(p) for p in PACKAGES}


def hardware(device: str = "cpu") -> dict[str, str | int | float]:
    """Describe the machine.

    Args:
        device: The device that does the work, such as ``"cpu"`` or ``"cuda:0"``.

    Returns:
        By name: device, processor, cores, threads that torch uses, memory in GiB; on
        CUDA also the GPU.
    """
    import psutil
    import torch

    found = {
        "device": device,
        "processor": _processor(),
        "cores": os.cpu_count() or 1,
        "threads": torch.get_num_threads(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30),
    }
    if device.startswith("cuda") and torch.cuda.is_available():
        found["gpu"] = torch.cuda.get_device_name(device)
    return found


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
