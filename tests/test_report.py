"""The report's file: whole, within its limit, the same each time, and its faults.

What a reader does with it is in ``test_report_browser.py``.
"""

import base64
import io
import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from curvlib.book import report
from curvlib.book.report import drawing

# Names that break HTML, CSV, a shell, a spreadsheet or a template, if anything does.
CLASSES = ("cat", "</script><b>", 'a "dog", $1', "=1+1", "Käfer ☃", "@@DATA@@")
HERE = Path(report.__file__).parent


def colours():
    """One bright colour a class, so that a thumbnail says what it is."""
    steps = np.linspace(0, 255, 3).astype(int)
    grid = [(r, g, b) for r in steps for g in steps for b in steps]
    return np.array(grid[1::4][: len(CLASSES)], np.uint8)


def some_suspects(count=90, classes=CLASSES, paths=True, seed=0):
    """A row a sample, the label of the first third wrong; index 5, 8, 11, ..."""
    rng = np.random.default_rng(seed)
    true = np.arange(count) % len(classes)
    given = np.where(np.arange(count) < count // 3, (true + 1) % len(classes), true)
    suggested = np.where(given == true, (true + 2) % len(classes), true)
    table = pd.DataFrame(
        {
            "index": 5 + 3 * np.arange(count),
            "path": [f"{classes[c]}/img, {i}.png" for i, c in enumerate(given)],
            "label": [classes[c] for c in given],
            "suggested_label": [classes[c] for c in suggested],
            "rank": np.arange(1, count + 1),
            "consensus": np.linspace(1, 0, count).round(6),
            "consensus_error": np.nan,
            "cumulative_loss": rng.random(count),
            "aum": rng.normal(size=count),
        }
    )
    table.insert(5, "rank_in_class", table.groupby("label").cumcount() + 1)
    return table if paths else table.drop(columns="path")


def some_thumbnails(side=8, channels=3):
    """Of the sample with index 5 + 3 i, the colour of the true class."""

    def thumbnails(indices):
        true = (np.array(indices) - 5) // 3 % len(CLASSES)
        pixels = colours()[true][:, None, None, :channels]
        return np.broadcast_to(pixels, (len(true), side, side, channels)).copy()

    return thumbnails


def some_nearest(table, places=3):
    """Of each of the first 40, images that have the suggested class by right."""
    rows = []
    for _, row in table.head(40).iterrows():
        others = table[table["label"] == row["suggested_label"]].tail(places)
        for place, (_, other) in enumerate(others.iterrows(), 1):
            rows.append(
                {
                    "index": row["index"],
                    "place": place,
                    "neighbour_index": other["index"],
                    "neighbour_label": other["label"],
                }
                | ({"neighbour_path": other["path"]} if "path" in table else {})
            )
    return pd.DataFrame(rows)


def some_duplicates(table):
    """Two groups: the first under different labels."""
    some = table.iloc[[1, 2, 50, 56]]
    found = some[[n for n in ("index", "path", "label") if n in table]].copy()
    found.insert(0, "group", [0, 0, 1, 1])
    exact = [True, True, False, False]
    return found.assign(similarity=[1.0, 1.0, 0.9, 0.9], exact=exact, conflict=exact)


def some_run(table, classes=CLASSES, **changes):
    ranks = [1, 10, 30, 60, len(table)]
    estimate = {
        "wrong": 30.4,
        "low": 25.0,
        "high": 36.0,
        "planted": 400,
        "recall_at_wrong": 0.9,
        "hard_share": 0.5,
        "curve": {
            "rank": ranks,
            "precision": [1.0, 0.95, 0.8, 0.48, 0.33],
            "low": [0.9, 0.9, 0.7, 0.4, 0.3],
            "high": [1.0, 1.0, 0.9, 0.55, 0.4],
        },
    }
    return {
        "name": "it's <b>$HOME</b>",
        "source": "my photos/<b>",
        "checksum": "0123abcd",
        "folder": "/somewhere/my photos",
        "classes": list(classes),
        "order": {"scores": ["aum", "cumulative_loss"], "how": "mean relative rank"},
        "estimate": estimate,
    } | changes


def written(path, table=None, **changes):
    table = some_suspects() if table is None else table
    arguments = {
        "thumbnails": some_thumbnails(),
        "nearest": some_nearest(table),
        "duplicates": some_duplicates(table),
        "run": some_run(table),
    }
    return report.write(path, table, **(arguments | changes))


def data_of(page):
    text = re.search(r'<script type="application/json" id="data">(.*?)</script>', page)
    return json.loads(text[1])


def sheets_of(page):
    texts = re.findall(r'class="sheet">(.*?)</script>', page)
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(t)))) for t in texts]


def test_equal_input_gives_equal_bytes_and_another_input_other_ones(tmp_path):
    first, second, other = (tmp_path / f"{n}.html" for n in "abc")
    size = written(first).size
    written(second)
    written(other, some_suspects(seed=1))
    assert first.read_bytes() == second.read_bytes() != other.read_bytes()
    assert size == first.stat().st_size
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.html", "b.html", "c.html"]


def test_the_order_of_the_rows_does_not_decide(tmp_path):
    table = some_suspects()
    written(tmp_path / "a.html", table)
    written(
        tmp_path / "b.html",
        table.sample(frac=1, random_state=0),
        nearest=some_nearest(table).sample(frac=1, random_state=1),
        duplicates=some_duplicates(table),
    )
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()


def test_the_data_of_the_page_are_those_of_the_tables(tmp_path):
    table = some_suspects()
    written(tmp_path / "a.html", table, listed=50)
    data = data_of((tmp_path / "a.html").read_text(encoding="utf-8"))
    items, names = data["items"], data["classes"]
    assert names == list(CLASSES) and data["checksum"] == "0123abcd"
    first = table.head(50)
    assert items["key"][:50] == first["path"].tolist()
    assert [names[c] for c in items["label"][:50]] == first["label"].tolist()
    suggested = [names[c] for c in items["suggested"][:50]]
    assert suggested == first["suggested_label"].tolist()
    assert items["rank"][:50] == first["rank"].tolist()
    assert data["scores"]["aum"][:50] == pytest.approx(first["aum"].tolist(), rel=1e-3)
    nearest = some_nearest(table)
    for i in (0, 7, 39):
        wanted = nearest[nearest["index"] == table["index"][i]]["neighbour_path"]
        assert [items["key"][k] for k in data["nearest"][i]] == wanted.tolist()
    assert data["nearest"][40] == []
    groups = [[items["key"][k] for k in group["items"]] for group in data["groups"]]
    paths = table["path"].iloc[[1, 2, 50, 56]].tolist()
    assert groups == [paths[:2], paths[2:]]
    assert [group["conflict"] for group in data["groups"]] == [True, False]
    for c, some in enumerate(data["examples"]):  # the least suspect of each class
        wanted = table[table["label"] == names[c]]["path"].tail(5)[::-1]
        assert [items["key"][k] for k in some] == wanted.tolist()
    assert len(set(items["key"])) == len(items["key"])


def test_each_thumbnail_stands_where_the_page_looks_for_it(tmp_path):
    table = some_suspects(count=250)
    done = written(tmp_path / "a.html", table, thumbnails=some_thumbnails(side=16))
    page = (tmp_path / "a.html").read_text(encoding="utf-8")
    data, sheets = data_of(page), sheets_of(page)
    assert len(sheets) == 3 and done.side == data["side"] == 16
    index = dict(zip(table["path"], table["index"], strict=True))
    for i, key in enumerate(data["items"]["key"]):
        y, x = divmod(i % 100, 10)
        found = sheets[i // 100][y * 16 + 8, x * 16 + 8].astype(int)
        wanted = colours()[(index[key] - 5) // 3 % len(CLASSES)].astype(int)
        assert abs(found - wanted).max() < 40, key


def test_grey_and_oblong_images_become_squares():
    wide = report._fitted(np.full((10, 20, 1), 200, np.uint8), 10)
    assert wide.shape == (10, 10, 3)
    assert (wide[3:7] == 200).all() and (wide[:2] == 128).all()


def test_no_name_gets_out_of_its_place(tmp_path):
    written(tmp_path / "a.html")
    page = (tmp_path / "a.html").read_text(encoding="utf-8")
    scripts = len(sheets_of(page)) + 2
    assert len(re.findall("<script", page)) == len(re.findall("</script", page))
    assert len(re.findall("<script", page)) == scripts
    assert "<b>" not in page
    assert "<title>Suspects of it&#x27;s &lt;b&gt;$HOME&lt;/b&gt;</title>" in page
    assert "curvlib apply decisions.csv &#x27;my photos/&lt;b&gt;&#x27; --out" in page
    assert page.count("@@") == 2 * page.count("@@DATA@@")  # the name of a class


def test_the_page_asks_no_other_place_for_anything(tmp_path):
    written(tmp_path / "a.html")
    page = (tmp_path / "a.html").read_text(encoding="utf-8")
    assert not re.search(r"https?:|//[a-z]+\.|@import", page)
    assert set(re.findall(r'(?:src|href)="([^"#]*)', page)) == {"", "data:,"}


def test_a_file_name_that_is_no_text_is_kept(tmp_path):
    table = some_suspects().astype({"path": object})
    table.loc[0, "path"] = "cat/\udcff.png"
    run = some_run(table, source="\udcff")
    written(tmp_path / "a.html", table, run=run)
    data = data_of((tmp_path / "a.html").read_text(encoding="utf-8"))
    assert data["items"]["key"][0] == "cat/\udcff.png"


def test_a_table_is_read_as_it_was_written(tmp_path):
    file = tmp_path / "duplicates.csv"
    lines = b'index,path,label,exact,aum\r\n7,"a, ""b""/\xff.png",nan,True,\n'
    file.write_bytes(lines)
    table = report.read_table(file)
    (row,) = table.to_dict("records")
    assert np.isnan(row.pop("aum"))
    assert row == {"index": 7, "path": 'a, "b"/\udcff.png', "label": "nan"} | {
        "exact": True
    }
    file.write_bytes(lines.splitlines()[0])
    assert report.read_table(file).columns.tolist() == list(table.columns)
    assert len(report.read_table(file)) == 0


def test_images_without_files_are_named_by_their_index(tmp_path):
    written(tmp_path / "a.html", some_suspects(paths=False))
    data = data_of((tmp_path / "a.html").read_text(encoding="utf-8"))
    assert data["key"] == "index"
    assert data["items"]["key"][:2] == ["5", "8"]


def test_settled_images_without_a_rank_are_shown_with_their_label(tmp_path):
    table = some_suspects()
    rest = table.iloc[3:].assign(rank=np.arange(1, len(table) - 2))
    written(tmp_path / "a.html", rest, duplicates=some_duplicates(table))
    data = data_of((tmp_path / "a.html").read_text(encoding="utf-8"))
    i = data["items"]["key"].index(table["path"][1])
    assert i >= data["listed"]
    assert data["items"]["rank"][i] is None and data["items"]["suggested"][i] == -1
    assert data["classes"][data["items"]["label"][i]] == table["label"][1]


def test_the_estimate_is_told_in_words_and_drawn(tmp_path):
    written(tmp_path / "a.html")
    page = (tmp_path / "a.html").read_text(encoding="utf-8")
    assert "About 30 of 90 labels are wrong</strong> (33.8%; 90% interval 25 to" in page
    assert "<td>10</td><td>10</td><td>95%</td><td>90 to 100%</td>" in page
    assert page.count("<svg") == 2
    band = re.search(r'class="band" d="M(.*?)Z"', page)[1].split("L")
    assert len(band) == 10
    x, y = map(float, band[0].split(","))
    assert (x, y) == (44, 22)  # rank 1, at 100%


def test_bars_are_as_high_as_there_are_images():
    values = np.array([0.2, 0.2, 0.2, 0.9, np.nan, np.inf])
    plot = drawing.distribution(values, wrong=1.2)
    assert "Suspicion of all 4 images." in plot
    bars = re.search(r'class="bars" d="(.*?)"', plot)[1].split("Z")[:-1]
    found = [list(map(float, re.findall(r"[\d.]+", bar))) for bar in bars]
    # x, base, top, end of the bar, base
    heights = [base - top for _, base, top, _, _ in found]
    assert heights == [190 - 22, pytest.approx((190 - 22) / 3, abs=0.1)]
    assert found[0][0] == 44 and found[1][3] == 408
    (mark,) = re.findall(r'class="mark" d="M([\d.]+),', plot)
    assert float(mark) == 408  # one image is at or above it
    alike = drawing.distribution(np.full(5, 0.3), wrong=None)
    assert alike.count("<svg") == 1 and 'class="mark"' not in alike
    assert drawing.distribution(np.array([np.nan]), wrong=None) == ""


def test_without_an_estimate_the_page_says_how_to_get_one(tmp_path):
    table = some_suspects()
    written(tmp_path / "a.html", table, run=some_run(table, estimate=None))
    page = (tmp_path / "a.html").read_text(encoding="utf-8")
    assert "was not estimated" in page and "--plant 0.02" in page
    assert page.count("<svg") == 1


def test_numbers_that_are_missing_or_infinite_become_null(tmp_path):
    table = some_suspects()
    table.loc[0, "aum"] = np.nan
    table.loc[1, "aum"] = np.inf
    written(tmp_path / "a.html", table)
    data = data_of((tmp_path / "a.html").read_text(encoding="utf-8"))
    assert data["scores"]["aum"][:2] == [None, None]


def noise(side):
    """Images that are as hard to compress as any."""

    def thumbnails(indices):
        return np.stack(
            [
                np.random.default_rng(int(i)).integers(
                    0, 256, (side, side, 3), dtype=np.uint8
                )
                for i in indices
            ]
        )

    return thumbnails


def test_two_thousand_images_stay_within_15_megabytes(tmp_path):
    table = some_suspects(count=2000)
    done = written(tmp_path / "a.html", table, thumbnails=noise(224))
    assert done.images == done.listed == 2000
    assert 5_000_000 < done.size <= report.LIMIT == 15_000_000


def test_a_smaller_limit_makes_thumbnails_coarser_and_then_an_error(tmp_path):
    good = written(tmp_path / "a.html", thumbnails=noise(64))
    poor = written(tmp_path / "b.html", thumbnails=noise(64), limit=150_000)
    assert poor.size <= 150_000 < good.size
    assert (poor.side, poor.quality) < (good.side, good.quality)
    with pytest.raises(ValueError, match=r"90 thumbnails take .* list fewer suspects"):
        written(tmp_path / "c.html", thumbnails=noise(64), limit=60_000)
    assert not (tmp_path / "c.html").exists()


def test_what_does_not_fit_together_is_refused(tmp_path):
    table, file = some_suspects(), tmp_path / "a.html"
    with pytest.raises(ValueError, match=r"lack the columns \['rank'\]"):
        written(file, table.drop(columns="rank"))
    with pytest.raises(ValueError, match="no suspects to report"):
        report.write(file, table.head(0), thumbnails=noise(8), run=some_run(table))
    with pytest.raises(ValueError, match="the index 5 occurs more than once"):
        written(file, table.assign(index=5))
    with pytest.raises(ValueError, match="label 'cow' is no class of the run"):
        written(file, table.assign(label="cow"))
    with pytest.raises(ValueError, match="suggested_label 'cow' is no class"):
        written(file, table.assign(suggested_label="cow"))
    with pytest.raises(ValueError, match=r"must be uint8 \[90, H, W, 1 or 3\]"):
        written(file, thumbnails=lambda some: np.zeros((len(some), 8, 8, 4), np.uint8))
    assert not file.exists()


def test_a_folder_of_a_run_becomes_a_report(tmp_path):
    from curvlib.data import Images

    names = ("nan", "007", "True")  # names that are read as something else
    table = some_suspects(count=30, classes=names, paths=False)
    order = np.argsort(-table["index"].to_numpy())
    images = Images(
        images=some_thumbnails()(table["index"])[order],
        labels=np.array([names.index(n) for n in table["label"]])[order],
        index=table["index"].to_numpy()[order],
        classes=names,
    )
    duplicates = some_duplicates(some_suspects(paths=False)).head(2)
    duplicates["label"] = table["label"].iloc[[1, 2]].to_numpy()
    for name, each in {
        "suspects": table,
        "nearest": some_nearest(table),
        "duplicates": duplicates,
    }.items():
        each.to_csv(tmp_path / f"{name}.csv", index=False)
    run = json.dumps(some_run(table, classes=names))
    (tmp_path / "run.json").write_text(run, encoding="utf-8")
    with pytest.raises(ValueError, match=r"other images than images, .* index 5$"):
        report.write_for(tmp_path, images.select(np.arange(29)))
    assert not (tmp_path / "report.html").exists()
    done = report.write_for(tmp_path, images)
    assert done.listed == 30
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    data = data_of(page)
    assert {data["classes"][c] for c in data["items"]["label"]} == set(names)
    assert data["groups"][0]["conflict"] is True and data["groups"][0]["exact"] is True
    for i in range(30):
        y, x = divmod(i, 10)
        found = sheets_of(page)[0][y * 8 + 4, x * 8 + 4].astype(int)
        assert abs(found - colours()[i % len(CLASSES)].astype(int)).max() < 40


def test_the_script_can_be_parsed():
    node = shutil.which("node")
    if node is None:
        pytest.skip("no node: install it, on Debian with `apt install nodejs`")
    command = [node, "--check", str(HERE / "script.js")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
