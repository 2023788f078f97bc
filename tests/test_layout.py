"""The layout of the library: layers, names, and a core that fits one sitting."""

import ast
from pathlib import Path

import pytest

from curvlib import _HOMES

ROOT = Path(__file__).parents[1]
LIBRARY = ROOT / "curvlib"
CORE = ("hvp", "curvature", "trace", "scores", "metrics")
LAYERS = ("ground", "core", "data", "runs", "studies", "book", "command line")
FILES = sorted(LIBRARY.rglob("*.py"))


def layer_of(module: str) -> str | None:
    """Layer of a dotted name below curvlib, None for curvlib itself."""
    first = module.split(".")[0]
    if first in ("files", "models"):
        return "ground"
    if first in CORE:
        return "core"
    return first if first in LAYERS else {"__main__": "command line"}.get(first)


def imported(file: Path) -> set[str]:
    """Names below curvlib that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert not node.level, f"{file}: relative imports hide the layer"
            parts = (node.module or "").split(".")
            if parts == ["curvlib"]:
                found |= {_HOMES.get(a.name, a.name) for a in node.names}
            elif parts[0] == "curvlib":
                found.add(".".join(parts[1:]))
        elif isinstance(node, ast.Import):
            names = [alias.name.split(".") for alias in node.names]
            found |= {".".join(n[1:]) for n in names if n[0] == "curvlib" and n[1:]}
    return found


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(LIBRARY)))
def test_imports_go_downwards_only(file):
    name = ".".join(file.relative_to(LIBRARY).with_suffix("").parts)
    layer = layer_of(name.removesuffix(".__init__"))
    if layer is None:  # curvlib/__init__.py loads names when they are first used
        return
    for module in imported(file):
        below = layer_of(module)
        assert below is not None, f"{name} imports {module}, which is in no layer"
        assert LAYERS.index(below) <= LAYERS.index(layer), f"{name} imports {module}"


def test_every_file_is_in_a_layer():
    outside = [
        f
        for f in FILES
        if layer_of(f.relative_to(LIBRARY).parts[0].removesuffix(".py")) is None
    ]
    assert outside == [LIBRARY / "__init__.py"]


def test_no_module_shares_its_name_with_a_top_level_folder():
    folders = {path.name for path in ROOT.iterdir() if path.is_dir()}
    assert not folders & {file.stem for file in FILES}


def test_the_core_can_be_read_in_one_sitting():
    lines = sum(len((LIBRARY / f"{name}.py").read_text().splitlines()) for name in CORE)
    assert lines < 1800
