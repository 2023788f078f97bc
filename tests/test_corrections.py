import csv
import os

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from curvlib import data
from curvlib.__main__ import main
from curvlib.data import Images
from curvlib.studies import corrections
from curvlib.studies.corrections import LEFT_OUT, read_decisions

ODD = 'a b,"c" <script>$é.png'


def images(**more) -> Images:
    pixels = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 1), np.uint8)
    given = {"labels": [0, 1, 1, 2], "index": [10, 11, 12, 13]} | more
    return Images(images=pixels, classes=("cat", "dog", "cow"), **given)


def decided(path, rows, columns="index,given_label,decision,label"):
    pd.DataFrame(rows, columns=columns.split(",")).to_csv(path, index=False)
    return path


@pytest.fixture
def npz(tmp_path):
    path = tmp_path / "pets.npz"
    some = images()
    np.savez(
        path,
        train_images=some.images,
        train_labels=some.labels,
        test_images=some.images[:2],
        test_labels=some.labels[:2],
        classes=np.array(some.classes),
    )
    return path


@pytest.fixture
def photos(tmp_path):
    """Six photographs in two classes; one name has all that a name can have."""
    for name in ("cat", "dog"):
        folder = tmp_path / "photos" / "train" / name
        folder.mkdir(parents=True)
        for number in range(3):
            pixels = np.random.default_rng(number).integers(0, 256, (9, 9, 3), np.uint8)
            Image.fromarray(pixels).save(folder / f"{number}.png")
    (tmp_path / "photos/train/cat/2.png").rename(tmp_path / "photos/train/cat" / ODD)
    return tmp_path / "photos"


def test_decisions_give_each_sample_its_label(tmp_path):
    file = decided(
        tmp_path / "d.csv",
        [
            (12, "dog", "wrong", "cow"),
            (10, "cat", "right", ""),
            (11, "dog", "unsure", ""),
            (13, "cow", "wrong", ""),
        ],
    )
    found = read_decisions(file, images())
    assert found.positions.tolist() == [0, 1, 2, 3]
    assert corrections.corrected(images(), found).tolist() == [0, 1, 2, LEFT_OUT]
    assert found.settled.tolist() == [True, False, True, True]
    assert found.counts() == {"wrong": 2, "right": 1, "unsure": 1, "left_out": 1}


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            [(99, "cat", "wrong", "dog")],
            "no image with the index '99': these deci",
        ),
        ([(10, "dog", "wrong", "cat")], "row 2: the label was 'dog' when the decision"),
        ([(10, "cat", "bad", "")], "must be one of wrong, right, unsure, got 'bad'"),
        (
            [(10, "cat", "wrong", "cta")],
            "unknown label 'cta'; the classes are cat",
        ),
        ([(10, "cat", "wrong", "cat")], "the decision is wrong, but the label stays"),
        ([(10, "cat", "right", "")] * 2, "decides 2 times about the index '10'"),
        ([], "holds no decision"),
    ],
)
def test_decisions_that_cannot_be_meant_are_refused(tmp_path, rows, message):
    with pytest.raises(ValueError, match=message):
        read_decisions(decided(tmp_path / "d.csv", rows), images())


def test_decisions_for_another_source_are_refused(tmp_path):
    columns = "index,decision,label,source"
    rows = [(10, "wrong", "dog", images().checksum)]
    file = decided(tmp_path / "d.csv", rows, columns)
    assert len(read_decisions(file, images())) == 1
    with pytest.raises(ValueError, match="is about another source"):
        read_decisions(file, images(labels=[1, 1, 1, 2]))
    bare = decided(tmp_path / "e.csv", [(10, "wrong", "dog")], "index,decision,label")
    with pytest.raises(ValueError, match="nothing says which data its indices are of"):
        read_decisions(bare, images())


def test_a_file_that_is_no_table_of_decisions_is_refused(tmp_path):
    (tmp_path / "d.csv").write_bytes(b"\xff\xfe\x00\x00,\n")
    with pytest.raises(ValueError, match=r"d\.csv"):
        read_decisions(tmp_path / "d.csv", images())
    (tmp_path / "d.csv").write_text("index,decision\n10,right\n")
    with pytest.raises(ValueError, match="lacks the column label; it has index, dec"):
        read_decisions(tmp_path / "d.csv", images())
    with pytest.raises(FileNotFoundError, match="there is no file"):
        read_decisions(tmp_path / "gone.csv", images())


def test_apply_writes_an_npz_that_loads_with_the_corrected_labels(tmp_path, npz):
    before = npz.read_bytes()
    file = decided(
        tmp_path / "d.csv", [(0, "cat", "wrong", "cow"), (3, "cow", "wrong", "")]
    )
    out = tmp_path / "new.npz"
    assert main(["apply", str(file), str(npz), "--out", str(out)]) == 0
    found = data.load(str(out))
    assert found.labels.tolist() == [2, 1, 1] and found.classes == ("cat", "dog", "cow")
    assert (found.images == images().images[:3]).all()
    assert len(data.load(str(out), split="test")) == 2
    assert npz.read_bytes() == before


def test_apply_writes_a_csv_of_labels(tmp_path, npz):
    file = decided(tmp_path / "d.csv", [(1, "dog", "wrong", "cat")])
    out = tmp_path / "labels.csv"
    assert main(["apply", str(file), str(npz), "--out", str(out)]) == 0
    assert pd.read_csv(out)["label"].tolist() == ["cat", "cat", "dog", "cow"]
    assert main(["apply", str(file), str(npz), "--out", str(out)]) == 2  # it is there
    again = ["apply", str(file), str(npz), "--out", str(out), "--overwrite"]
    assert main(again) == 0


def test_apply_lists_moves_and_carries_them_out_in_a_copy(tmp_path, photos):
    columns = "path,decision,label"
    rows = [(f"cat/{ODD}", "wrong", "dog"), ("cat/0.png", "wrong", "dog")]
    rows += [("dog/1.png", "wrong", ""), ("dog/2.png", "right", "")]
    file = decided(tmp_path / "d.csv", rows, columns)
    there = {p: p.read_bytes() for p in photos.rglob("*.png")}
    out = tmp_path / "labels.csv"
    assert main(["apply", str(file), str(photos), "--out", str(out)]) == 0
    labels = pd.read_csv(out).set_index("path")["label"]
    assert labels[f"cat/{ODD}"] == "dog" and len(labels) == 5
    moves = pd.read_csv(tmp_path / "labels-moves.csv", keep_default_na=False)
    assert dict(zip(moves["from"], moves["to"], strict=True)) == {
        "cat/0.png": "dog/0-2.png",  # dog has a 0.png
        f"cat/{ODD}": f"dog/{ODD}",
        "dog/1.png": "",
    }
    copy = tmp_path / "copy"
    assert main(["apply", str(file), str(photos), "--move", "--out", str(copy)]) == 0
    found = data.load(str(copy))
    assert np.bincount(found.labels).tolist() == [1, 4]
    moved = copy / "train/dog/0-2.png"
    assert moved.read_bytes() == there[photos / "train/cat/0.png"]
    assert {p: p.read_bytes() for p in photos.rglob("*.png")} == there


def test_a_copy_that_fails_leaves_nothing_behind(tmp_path, photos, monkeypatch):
    file = decided(
        tmp_path / "d.csv", [("cat/0.png", "wrong", "dog")], "path,decision,label"
    )

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(corrections.os, "replace", full)
    copy = tmp_path / "copy"
    assert main(["apply", str(file), str(photos), "--move", "--out", str(copy)]) == 2
    assert sorted(p.name for p in tmp_path.iterdir()) == ["d.csv", "photos"]


def test_the_copy_of_a_folder_with_a_loop_of_links_ends(tmp_path, photos):
    (photos / "train/cat/loop").symlink_to(photos / "train")
    file = decided(
        tmp_path / "d.csv", [("cat/0.png", "wrong", "dog")], "path,decision,label"
    )
    copy = tmp_path / "copy"
    assert main(["apply", str(file), str(photos), "--move", "--out", str(copy)]) == 0
    assert len(list(copy.rglob("*.png"))) == 6


@pytest.mark.parametrize(
    ("out", "more", "message"),
    [
        ("labels.txt", [], "--out must end in .csv or .npz"),
        ("pets.npz", ["--overwrite"], "itself, which is never changed"),
        ("copy", ["--move"], "--move is for a folder"),
    ],
)
def test_apply_refuses_what_it_must_not_do(
    tmp_path, npz, capsys, monkeypatch, out, more, message
):
    monkeypatch.chdir(tmp_path)
    file = decided(tmp_path / "d.csv", [(1, "dog", "wrong", "cat")])
    before = npz.read_bytes()
    assert main(["apply", str(file), "pets.npz", "--out", out, *more]) == 2
    told = capsys.readouterr().err
    assert message in told and told.count("\n") == 1
    assert npz.read_bytes() == before


def test_a_copy_inside_the_source_is_refused(tmp_path, photos, capsys):
    file = decided(
        tmp_path / "d.csv", [("cat/0.png", "wrong", "dog")], "path,decision,label"
    )
    inside = photos / "copy"
    assert main(["apply", str(file), str(photos), "--move", "--out", str(inside)]) == 2
    assert "lies in SOURCE" in capsys.readouterr().err
    assert not inside.exists()


def test_links_that_lead_across_dangle_or_wait_are_no_part_of_a_copy(tmp_path, photos):
    (photos / "train/cat/across").symlink_to(photos / "train/dog")
    (photos / "train/dog/back").symlink_to(photos / "train/cat")
    (photos / "train/dog/gone.png").symlink_to(tmp_path / "nowhere.png")
    os.mkfifo(photos / "train/dog/pipe")
    file = decided(
        tmp_path / "d.csv", [("cat/0.png", "wrong", "dog")], "path,decision,label"
    )
    copy = tmp_path / "copy"
    assert main(["apply", str(file), str(photos), "--move", "--out", str(copy)]) == 0
    assert (copy / "train/dog/0-2.png").exists()
    assert not (copy / "train/dog/pipe").exists()


def test_labels_of_a_csv_can_be_loaded_where_they_are_written(tmp_path, photos):
    rows = [("cat/0.png", "cat"), ("dog/1.png", "dog"), ("dog/2.png", "dog")]
    source = photos / "train/labels.csv"
    pd.DataFrame(rows, columns=["path", "label"]).to_csv(source, index=False)
    columns = "path,decision,label"
    file = decided(tmp_path / "d.csv", [("dog/1.png", "wrong", "cat")], columns)
    for out in (photos / "train/beside.csv", tmp_path / "deep/elsewhere.csv"):
        assert main(["apply", str(file), str(source), "--out", str(out)]) == 0
        found = data.load(str(out))
        assert found.labels.tolist() == [0, 0, 1]
        assert (found.images[:] == data.load(str(source)).images[:]).all()
    assert pd.read_csv(photos / "train/beside.csv")["path"].tolist()[0] == "cat/0.png"


def test_a_corrected_csv_differs_from_its_source_in_the_labels_alone(tmp_path, photos):
    long = str(photos / "train/dog/2.png")
    (photos / "train/dog/broken.png").write_bytes(b"")
    rows = [
        ["note", " Path ", "who", "LABEL", "größe, cm"],
        ['she said "no", twice', "cat/0.png", "", " cat ", "1,5"],
        ["two\nlines", "dog/1.png", "Łukasz", "dog", '"'],
        ["=1+1", long, " spaces ", "dog", "007"],
        ["not a picture", "dog/broken.png", "é", "dog", "NA"],
        ["gone", "dog/0.png", "", "dog", ""],
    ]
    source = photos / "train/labels.csv"
    columns = "path,decision,label"
    decisions = [("cat/0.png", "right", ""), ("dog/1.png", "wrong", "cat")]
    decisions += [(long, "wrong", "cat"), ("dog/0.png", "wrong", "")]
    file = decided(tmp_path / "d.csv", decisions, columns)
    expected = [row.copy() for row in rows[:-1]]
    expected[2][3] = expected[3][3] = "cat"
    for separator, end, encoding in ((",", "\n", "utf-8"), (";", "\r\n", "utf-8-sig")):
        with source.open("w", newline="", encoding=encoding) as text:
            form = {"delimiter": separator, "lineterminator": end}
            csv.writer(text, **form).writerows(rows)
        beside, deep = photos / "train/beside.csv", tmp_path / "deep/elsewhere.csv"
        for out in (beside, deep):
            command = ["apply", str(file), str(source), "--out", str(out)]
            assert main([*command, "--overwrite"]) == 0
        with beside.open(newline="", encoding=encoding) as text:
            assert list(csv.reader(text, delimiter=separator)) == expected
        assert beside.read_bytes()[:3] == source.read_bytes()[:3]  # the mark of Excel
        ends = len(expected) if end == "\r\n" else 0
        assert beside.read_bytes().count(b"\r") == ends
        with deep.open(newline="", encoding=encoding) as text:
            found = list(csv.reader(text, delimiter=separator))
        assert found[1][1] == "../photos/train/cat/0.png" and found[3][1] == long
        assert [r[:1] + r[2:] for r in found] == [r[:1] + r[2:] for r in expected]
        assert data.load(str(deep), broken_files="skip").labels.tolist() == [0, 0, 0]


def test_a_list_of_moves_that_is_there_stays(tmp_path, photos, capsys):
    file = decided(
        tmp_path / "d.csv", [("cat/0.png", "wrong", "dog")], "path,decision,label"
    )
    (tmp_path / "labels-moves.csv").write_text("mine")
    command = ["apply", str(file), str(photos), "--out", str(tmp_path / "labels.csv")]
    assert main(command) == 2
    assert "labels-moves.csv exists; give --over" in capsys.readouterr().err
    assert not (tmp_path / "labels.csv").exists()
    assert main([*command, "--overwrite"]) == 0


DECIDED = "index,given_label,decision,label\n10,cat,wrong,cow\n"


@pytest.mark.parametrize(
    "content",
    [
        DECIDED.replace(",", ";").encode(),
        DECIDED.replace(",", "\t").encode("utf-8-sig"),
        ("\ufeff" + DECIDED.replace("\n", "\r\n") + ",,,\r\n\r\n").encode(),
    ],
    ids=["semicolons", "tabs", "Excel, empty rows"],
)
def test_the_forms_in_which_spreadsheets_write_decisions_are_read(tmp_path, content):
    (tmp_path / "d.csv").write_bytes(content)
    found = read_decisions(tmp_path / "d.csv", images())
    assert found.positions.tolist() == [0] and found.label.tolist() == [2]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (DECIDED + "11,dog,wrong,cow,,\n", "row 3 has 6 values, and the header has 4"),
        (DECIDED + "\n\n11,dog,wrong\n", "row 5 has 3 values, and the header has 4"),
        (DECIDED + "\n11,dog,perhaps,\n", "row 4: the decision must be one of"),
        (DECIDED + "\n99,dog,right,\n", "row 4: images has no image with the index"),
        (DECIDED.replace("given_label", "label"), "has two columns 'label'; keep one"),
        (DECIDED + '11,dog,"wrong,', "is no CSV of decisions: unexpected end of data"),
        ("", "is no CSV of decisions: it is empty"),
        (DECIDED + "11,dog,wr\0ng,cow", "is no text in UTF-8; save it as CSV in UTF-8"),
        (DECIDED.encode("utf-16").decode("latin1"), "is no text in UTF-8; save it as"),
    ],
)
def test_a_table_that_a_spreadsheet_spoiled_is_refused_by_its_row(
    tmp_path, content, message
):
    (tmp_path / "d.csv").write_text(content, encoding="latin1", newline="")
    with pytest.raises(ValueError, match=message) as caught:
        read_decisions(tmp_path / "d.csv", images())
    assert str(caught.value).startswith(str(tmp_path / "d.csv"))


@pytest.mark.parametrize("out", [".", ".."])
def test_the_current_folder_is_no_place_to_write_to(npz, out, capsys, monkeypatch):
    monkeypatch.chdir(npz.parent)
    decided(npz.parent / "d.csv", [(1, "dog", "wrong", "cat")])
    for command in (["suspects"], ["apply", "d.csv"]):
        more = ["--move"] if "d.csv" in command else ["--features", "none"]
        assert main([*command, "pets.npz", "--out", out, *more]) == 2
        told = capsys.readouterr().err
        assert told.count("\n") == 1 and "empty name" not in told
