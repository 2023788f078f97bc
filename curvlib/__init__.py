"""Input loss curvature: which training samples does a network memorise?

Names are loaded when first used, so that ``import curvlib`` costs nothing.
"""

from importlib import import_module
from pathlib import Path

__version__ = "0.1.0"
_HOMES = {
    "CurvatureEstimate": "curvature",
    "Images": "data",
    "Recorder": "runs.recorder",
    "Trace": "trace",
    "TrainConfig": "runs.settings",
    "fit": "runs.training",
    "input_curvature": "curvature",
    "load": "data",
}
__all__ = sorted(_HOMES)


def __getattr__(name: str):
    if name in _HOMES:
        return getattr(import_module(f"curvlib.{_HOMES[name]}"), name)
    here = Path(__file__).parent
    if (here / f"{name}.py").exists() or (here / name / "__init__.py").exists():
        return import_module(f"curvlib.{name}")
    raise AttributeError(f"module 'curvlib' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
