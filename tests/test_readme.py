import re
from pathlib import Path

import pytest
from PIL import Image

from curvlib.book import readme
from curvlib.book.records import Record

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_numbers_of_the_readme_are_those_of_the_records():
    assert readme.updated(TEXT, ROOT) == TEXT, "`curvlib book` brings it up to date"
    shown = TEXT.split(readme.BEGIN)[1].split(readme.END)[0]
    assert len(re.findall(r"^\| [^-|]", shown, re.MULTILINE)) >= 3


def test_a_number_is_read_off_its_record():
    record = Record.open(ROOT / "results/cpu/mislabelled")
    table = record["metrics"]
    rows = (table["score"] == "curvature_norm") & (table["noise_rate"] == 0.1)
    mean, spread = table["auroc"][rows].mean(), table["auroc"][rows].std()
    told = readme._auroc(record, "curvature_norm")
    assert told == f"{mean:.2f} ± {spread:.2f}" and told in TEXT


def test_a_table_is_written_between_the_marks_and_nothing_else(tmp_path):
    text = f"before\n{readme.BEGIN}\nold\n{readme.END}\nafter\n"
    (tmp_path / "README.md").write_text(text)
    readme.update(tmp_path)  # no record is there: a table without rows
    found = (tmp_path / "README.md").read_text()
    assert found.startswith("before\n") and found.endswith("\nafter\n")
    assert "old" not in found and "| record |" in found
    (tmp_path / "README.md").write_text("no table")
    readme.update(tmp_path)
    assert (tmp_path / "README.md").read_text() == "no table"
    with pytest.raises(ValueError, match="needs the marks"):
        readme.updated("no table", tmp_path)


def test_the_picture_is_a_screenshot_of_a_readable_size():
    (link,) = re.findall(r"!\[[^\]]+\]\(([^)]+\.png)\)", TEXT)
    file = ROOT / link
    assert file.stat().st_size < 200_000
    width, height = Image.open(file).size
    assert width >= 800 and height >= 500


def test_five_lines_lead_from_a_folder_to_corrected_labels():
    first = TEXT.split("\n## ")[0]
    (lines,) = re.findall(r"```bash\n(.*?)```", first, re.DOTALL)
    assert len(lines.splitlines()) <= 5
    assert "curvlib suspects" in lines and "curvlib apply" in lines
