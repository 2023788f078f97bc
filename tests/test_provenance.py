import os
import re

import pytest

from curvlib.files import write_atomically
from curvlib.runs import provenance
from curvlib.runs.provenance import digest, hardware, recipe, recipes, versions


@pytest.fixture
def library(tmp_path, monkeypatch):
    """A copy of the library with one study, to be changed."""
    for place in [*provenance.PARTS.values(), "studies/circle.py"]:
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place).write_text('"""Doc."""\n\nRECIPE = 3  # of circles\n')
    monkeypatch.setattr(provenance, "LIBRARY", tmp_path)
    recipe.cache_clear()
    yield tmp_path
    recipe.cache_clear()


def test_every_part_has_a_recipe_number():
    assert all(recipe(part) >= 1 for part in provenance.PARTS)


def test_recipes_are_read_from_the_source_without_importing_it(library):
    assert recipes(["studies.circle", "data", "data"]) == {
        "data": 3,
        "studies.circle": 3,
    }


def test_a_digest_changes_with_settings_data_and_recipes(library):
    def named(settings=1, data="a", parts=("data",)):
        return digest(settings, {"train": data}, parts)

    before = named()
    assert len({before, named(settings=2), named(data="b"), named(parts=())}) == 4
    assert re.fullmatch(r"[0-9a-f]{10}", before)
    (library / "data" / "__init__.py").write_text("RECIPE = 4\n")
    recipe.cache_clear()
    assert named() != before


def test_a_digest_is_blind_to_everything_but_the_recipe_number(library):
    before = digest(1, {}, ["data"])
    moved = "def moved():\n    raise ValueError('a better message')\n\n\nRECIPE = 3\n"
    (library / "data" / "__init__.py").write_text(moved)
    recipe.cache_clear()
    assert digest(1, {}, ["data"]) == before


def test_unknown_parts_and_parts_without_a_number_are_refused(library):
    with pytest.raises(ValueError, match="no part 'daat'; expected one of data, netw"):
        recipe("daat")
    with pytest.raises(ValueError, match=r"no part 'studies\.square'"):
        recipe("studies.square")
    (library / "studies" / "circle.py").write_text("x = 1\n")
    with pytest.raises(
        ValueError, match=r"circle\.py has no recipe number, a line REC"
    ):
        recipe("studies.circle")


def test_versions_name_what_numbers_depend_on():
    assert set(versions()) == {"python", *provenance.PACKAGES}


def test_hardware_says_where_it_ran():
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
