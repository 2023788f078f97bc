"""What made a number: code, versions, machine; and files that are whole or absent."""

import ast
import functools
import hashlib
import os
import platform
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path

LIBRARY = Path(__file__).parent
WITHOUT_MEANING = {
    "notebooks",
    "progress",
    "provenance",
}  # modules that no number depends on
PACKAGES = ("torch", "torchvision", "numpy", "pandas", "scikit-learn", "matplotlib")


def fingerprint(modules: Iterable[str]) -> str:
    """Hash what the named curvlib modules compute, not how they are written.

    Comments, layout, docstrings, the texts of errors, and guards (an ``if`` that does
    nothing but raise) do not count: they can stop a run, but never change a number of
    one that ends. So better prose, or a clearer refusal, never makes an hour of
    training stale. Everything else does, type hints included.

    Args:
        modules: Names of modules of curvlib, such as ``"training"``, in any order.

    Returns:
        Sixteen hexadecimal digits.
    """
    digest = hashlib.sha256()
    for name in sorted(set(modules)):
        tree = ast.parse((LIBRARY / f"{name}.py").read_text(encoding="utf-8"))
        digest.update(f"{name}\n{_written(_Meaning().visit(tree))}\n".encode())
    return digest.hexdigest()[:16]


def _written(node: object) -> str:
    """As ast.dump, but the same in every Python: without the fields that are empty."""
    if isinstance(node, ast.AST):
        fields = [(n, v) for n, v in ast.iter_fields(node) if v not in (None, [])]
        inside = ",".join(f"{name}={_written(value)}" for name, value in fields)
        return f"{type(node).__name__}({inside})"
    if isinstance(node, list):
        return f"[{','.join(map(_written, node))}]"
    return repr(node)


class _Meaning(ast.NodeTransformer):
    """Takes out what cannot change a number of a run that ends."""

    def __init__(self):
        self._in_try = 0

    def visit_Expr(self, node: ast.Expr) -> ast.AST:
        is_text = isinstance(node.value, ast.Constant) and isinstance(
            node.value.value, str
        )
        return None if is_text else self.generic_visit(node)

    def visit_If(self, node: ast.If) -> ast.AST:
        is_guard = (
            not self._in_try  # there, what is raised may be caught
            and not node.orelse
            and all(isinstance(statement, ast.Raise) for statement in node.body)
            and not any(isinstance(n, ast.NamedExpr) for n in ast.walk(node.test))
        )
        return None if is_guard else self.generic_visit(node)

    def visit_Try(self, node: ast.Try) -> ast.AST:
        self._in_try += 1
        self.generic_visit(node)
        self._in_try -= 1
        return node

    def visit_Raise(self, node: ast.Raise) -> ast.AST:
        return ast.Raise()


def dependencies(source: str) -> set[str]:
    """Modules of curvlib that a Python source needs, directly or through others.

    Example:
        >>> sorted(dependencies("from curvlib import metrics"))
        ['metrics']
    """
    found: set[str] = set()
    waiting = set(_imported(source))
    while waiting:
        name = waiting.pop()
        if name not in found | WITHOUT_MEANING:
            found.add(name)
            code = (LIBRARY / f"{name}.py").read_text(encoding="utf-8")
            waiting |= _imported(code)
    return found


@functools.cache
def _imported(source: str) -> frozenset[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            if module in ("curvlib", "."):
                names |= {alias.name for alias in node.names}
            elif module.startswith(("curvlib.", ".")):
                names.add(module.removeprefix("curvlib").split(".")[1])
        elif isinstance(node, ast.Import):
            parts = [alias.name.split(".") for alias in node.names]
            names |= {p[1] for p in parts if p[0] == "curvlib" and len(p) > 1}
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            names |= {node.attr} if node.value.id == "curvlib" else set()
    return frozenset(_home(name) for name in names)


def _home(name: str) -> str:
    """The module that defines a name one can import from curvlib itself."""
    if (LIBRARY / f"{name}.py").exists():
        return name
    from curvlib import _HOMES

    return _HOMES[name]


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that numbers depend on."""
    return {"python": platform.python_version()} | {p: version(p) for p in PACKAGES}


def hardware(device: str = "cpu") -> dict[str, str | int | float]:
    """Processor, cores, memory in GiB, threads used; the GPU where there is one."""
    import psutil
    import torch

    found = {
        "device": device,
        "processor": _processor(),
        "cores": os.cpu_count() or 1,
        "threads": torch.get_num_threads(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30),
    }
    if device.startswith("cuda"):
        found["gpu"] = torch.cuda.get_device_name(device)
    return found


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that a reader finds all of it, or what was there before."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.partial-{os.getpid()}")
    with partial.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)
