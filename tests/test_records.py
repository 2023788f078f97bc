import json

import numpy as np
import pandas as pd
import pytest

from curvlib.book import records
from curvlib.book.parameters import PageError, parts_of_study
from curvlib.book.records import Record
from curvlib.runs import provenance
from curvlib.studies import Measured

GIVEN = {"num_train": 60, "epochs": 1, "seeds": [0]}
TABLES = {
    "rows": pd.DataFrame({"score": ["a", "b"], "auroc": [0.1, 1 / 3]}),
    "scores.parquet": pd.DataFrame({"x": np.arange(3, dtype=np.float32)}),
    "images": np.arange(2 * 4 * 4 * 3, dtype=np.uint8).reshape(2, 4, 4, 3),
    "sheet.png": b"not really",
}
RUNS = pd.DataFrame({"run": ["a"], "train_seconds": [60.0], "score_seconds": [30.5]})


def written(folder, given=GIVEN, tables=TABLES, **facts):
    facts = {
        "recipes": provenance.recipes(parts_of_study("gallery")),
        "seconds": 12.5,
    } | facts
    measured = Measured(tables, {"train": "abc"}, RUNS)
    complete = records.complete("gallery", given)
    return records.write(folder, "gallery", complete, measured, facts)


def why(folder, given=GIVEN, **others):
    return records.why_measure(folder, "gallery", given, **others)


def test_tables_are_read_as_they_were_written(tmp_path):
    written(tmp_path / "r")
    record = Record.open(tmp_path / "r")
    assert list(record) == ["rows", "scores.parquet", "images", "sheet.png", "runs"]
    pd.testing.assert_frame_equal(record["rows"], TABLES["rows"], check_dtype=False)
    assert record["rows"]["auroc"].tolist() == [0.1, 1 / 3]  # every digit
    pd.testing.assert_frame_equal(record["scores.parquet"], TABLES["scores.parquet"])
    np.testing.assert_array_equal(record["images"], TABLES["images"])
    assert record["sheet.png"] == b"not really"
    assert record.parameters.epochs == 1 and record.parameters.lr == 0.1
    with pytest.raises(KeyError, match=r"has no table 'row'; it has rows, scores"):
        record["row"]


def test_a_table_that_is_changed_by_its_reader_stays_as_it_was(tmp_path):
    record = written(tmp_path / "r")
    record["rows"]["auroc"] = 0
    assert record["rows"]["auroc"].tolist() == [0.1, 1 / 3]


def test_the_same_tables_give_the_same_bytes(tmp_path):
    for name in "ab":
        written(tmp_path / name)
    for file in (tmp_path / "a").iterdir():
        if file.name != "record.json":
            assert file.read_bytes() == (tmp_path / "b" / file.name).read_bytes()


def test_a_record_says_how_it_was_made(tmp_path):
    made = written(tmp_path / "r").made
    assert made["training"] == {"runs": 1, "seconds": 90.5}
    assert made["versions"]["torch"] and made["hardware"]["cores"]
    assert made["data"] == {"train": "abc"} and made["seconds"] == 12.5
    assert made["recipes"].keys() == {*gallery_parts(), "studies.gallery"}
    assert "runs" not in made["parameters"], "no number depends on the folder of runs"


def gallery_parts():
    from curvlib.studies import gallery

    return gallery.PARTS


def test_a_record_names_the_device_that_its_numbers_come_from(tmp_path, monkeypatch):
    # Not the fastest of the machine that writes it, which may have computed nothing.
    monkeypatch.setattr("curvlib.runs.devices.best_device", lambda: "cuda")
    plain = Measured(TABLES, {"train": "abc"})
    for measured, device in (
        (plain, "cpu"),
        (plain._replace(device="mps"), "mps"),
        (plain._replace(runs=RUNS.assign(device="cuda")), "cuda"),
        (plain._replace(runs=RUNS.assign(device="cpu"), device="cuda"), "cpu"),
    ):
        facts = {"recipes": {}, "seconds": 1.0}
        complete = records.complete("gallery", GIVEN)
        records.write(tmp_path / "r", "gallery", complete, measured, facts)
        made = json.loads((tmp_path / "r" / "record.json").read_text())
        assert made["hardware"]["device"] == device


def test_a_current_record_is_not_measured_and_every_other_says_why(tmp_path):
    folder = tmp_path / "r"
    assert why(folder) == ["never measured"]
    written(folder)
    assert why(folder) == []
    assert why(folder, GIVEN | {"runs": "elsewhere"}) == []
    assert why(folder, GIVEN | {"epochs": 2}) == ["parameter epochs: 1 -> 2"]
    assert why(folder, data={"train": "abc"}) == []
    assert why(folder, data={"train": "other"}) == ["data changed (train)"]
    (folder / "rows.csv").unlink()
    assert why(folder) == ["rows.csv missing"]


def test_a_raised_recipe_is_a_reason_and_names_the_part(tmp_path):
    written(tmp_path, recipes={"data": 1})
    before = set(why(tmp_path))
    assert "recipe of scoring: None -> 1" in before
    assert not any("recipe of data" in reason for reason in before)


def test_a_parameter_that_is_new_to_a_record_is_a_reason(tmp_path):
    written(tmp_path)
    file = tmp_path / "record.json"
    made = json.loads(file.read_text())
    del made["parameters"]["width"]
    file.write_text(json.dumps(made))
    assert why(tmp_path) == ["parameter width: absent -> 16"]


def test_wrong_parameters_are_refused_whatever_is_there(tmp_path):
    with pytest.raises(PageError, match=r"unknown parameter 'epoch'; expected dataset"):
        why(tmp_path, {"epoch": 1})
    with pytest.raises(
        PageError, match=r"parameter epochs must be int, got 1\.5, float"
    ):
        why(tmp_path, {"epochs": 1.5})


def test_a_damaged_description_is_no_record(tmp_path):
    written(tmp_path)
    (tmp_path / "record.json").write_text("{")
    assert why(tmp_path) == ["never measured"]
    with pytest.raises(PageError, match="there is no record in"):
        Record.open(tmp_path)


def test_a_damaged_table_is_named(tmp_path):
    record = written(tmp_path)
    (tmp_path / "images.npz").write_bytes(b"PK")
    with pytest.raises(PageError, match=r"images\.npz is damaged or missing"):
        record["images"]


def test_a_failure_while_writing_leaves_the_record_that_was_there(tmp_path):
    folder = tmp_path / "r"
    written(folder)
    before = {f.name: f.read_bytes() for f in folder.iterdir()}
    with pytest.raises(AttributeError):
        written(folder, tables={"rows": object()})
    assert {f.name: f.read_bytes() for f in folder.iterdir()} == before
    assert [f.name for f in tmp_path.iterdir()] == ["r"]


def test_a_parameter_that_changes_nothing_by_default_is_no_reason(tmp_path):
    written(tmp_path)
    file = tmp_path / "record.json"
    made = json.loads(file.read_text())
    del made["parameters"]["more_settings"]
    file.write_text(json.dumps(made))
    assert why(tmp_path) == []
    with_more = GIVEN | {"more_settings": {"nesterov": True}}
    assert why(tmp_path, with_more) == [
        "parameter more_settings: None -> {'nesterov': True}"
    ]
