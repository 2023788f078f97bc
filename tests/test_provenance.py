import os
import shutil
import subprocess
from pathlib import Path

import pytest

from curvlib import provenance
from curvlib.provenance import (
    dependencies,
    fingerprint,
    hardware,
    versions,
    write_atomically,
)

CODE = '''"""What it does."""
import math  # a comment


def area(radius: float = 1.0) -> float:
    """Area of a circle."""
    if radius < 0:
        raise ValueError(f"radius must be positive, got {radius}")
    return math.pi * radius**2
'''


@pytest.fixture
def library(tmp_path, monkeypatch) -> Path:
    monkeypatch.setattr(provenance, "LIBRARY", tmp_path)
    (tmp_path / "circle.py").write_text(CODE)
    (tmp_path / "other.py").write_text("from curvlib.circle import area\n")
    return tmp_path


def changed(library: Path, old: str, new: str) -> str:
    assert old in CODE
    (library / "circle.py").write_text(CODE.replace(old, new))
    return fingerprint(["circle"])


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("# a comment", "# another"),
        ("What it does.", "What it is for."),
        ("Area of a circle.", "Area of a disc,\n    by a formula."),
        ("radius must be positive", "give a positive radius"),
        ("raise ValueError(", "raise TypeError("),
        ("radius < 0", "radius <= 0"),  # a guard: nothing but raise
        ("radius: float = 1.0", "radius: float  =  1.0"),
        ("\n\n\ndef", "\n\n\n\n\ndef"),
    ],
)
def test_the_fingerprint_is_blind_to_prose(library, old, new):
    assert fingerprint(["circle"]) == changed(library, old, new)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("radius**2", "radius**3"),
        ("= 1.0", "= 2.0"),
        ("math.pi", "math.e"),
        ("def area", "def surface"),
        ("= 1.0", "= None"),
        ("    return ", "    "),
        ("        raise ValueError(", "        radius = abs("),
    ],
)
def test_the_fingerprint_sees_every_change_of_meaning(library, old, new):
    assert fingerprint(["circle"]) != changed(library, old, new)


def test_the_fingerprint_is_of_a_set_of_modules_by_name(library):
    both = fingerprint(["circle", "other"])
    assert both == fingerprint(["other", "circle", "circle"])
    assert both != fingerprint(["circle"]) != fingerprint(["other"])
    assert len(both) == 16 and int(both, 16) >= 0


def interpreters() -> list[str]:
    """Each Python here that can parse the library, also those pyenv keeps hidden."""
    roots = Path(os.environ.get("PYENV_ROOT", "none")).glob("versions/3.1[1-3]*")
    named = [shutil.which(f"python3.{minor}") for minor in (11, 12, 13)]
    return sorted({str(r / "bin" / "python") for r in roots} | {n for n in named if n})


def test_every_python_finds_the_same_fingerprint():
    # Else a page that one Python made would be stale for another.
    found = {}
    ask = (
        "import sys; from curvlib.provenance import fingerprint as f; "
        "print(sys.version_info[:2], f(['data', 'curvature', 'training', 'plots']))"
    )
    for python in interpreters():
        root = Path(__file__).parents[1]
        ran = subprocess.run(
            [python, "-c", ask], cwd=root, capture_output=True, text=True
        )
        if ran.returncode == 0:
            version, _, fingerprinted = ran.stdout.strip().rpartition(" ")
            found[version] = fingerprinted
    if len(found) < 2:
        pytest.skip("needs two of Python 3.11, 3.12 and 3.13")
    own = fingerprint(["data", "curvature", "training", "plots"])
    assert set(found.values()) == {own}, found


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("from curvlib.circle import area", {"circle"}),
        ("from curvlib import circle", {"circle"}),
        ("import curvlib.circle", {"circle"}),
        ("import curvlib\ncurvlib.circle.area()", {"circle"}),
        ("from .circle import area", {"circle"}),
        ("from . import circle", {"circle"}),
        ("import curvlib.other", {"other", "circle"}),
        ("def f():\n    from curvlib import other", {"other", "circle"}),
        ("import curvlib", set()),
        ("import numpy\nfrom curvlibrary.circle import area", set()),
    ],
)
def test_dependencies_are_found_however_they_are_imported(library, source, expected):
    assert dependencies(source) == expected


def test_a_name_of_the_package_counts_for_the_module_that_defines_it():
    assert "training" in dependencies("from curvlib import fit")
    assert "data" in dependencies("import curvlib\ncurvlib.load('digits')")


def test_modules_that_no_number_depends_on_do_not_count():
    assert dependencies("from curvlib import progress, provenance") == set()


def test_versions_and_hardware_say_what_a_number_was_made_with():
    assert set(versions()) == {"python", *provenance.PACKAGES}
    assert all(v[0].isdigit() for v in versions().values())
    found = hardware()
    assert found["device"] == "cpu" and found["processor"]
    assert found["cores"] >= 1 and found["threads"] >= 1 and found["memory_gib"] >= 1
    assert "gpu" not in found


def test_a_file_is_written_whole_into_folders_that_are_made(tmp_path):
    path = tmp_path / "a" / "b" / "file.bin"
    write_atomically(path, b"first")
    write_atomically(path, b"second")
    assert path.read_bytes() == b"second"
    assert list(path.parent.iterdir()) == [path]


def test_a_write_that_fails_leaves_what_was_there(tmp_path, monkeypatch):
    path = tmp_path / "file.bin"
    write_atomically(path, b"first")

    def fail(number):
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        write_atomically(path, b"second")
    assert path.read_bytes() == b"first"
