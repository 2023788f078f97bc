"""The explorer's file: whole, within its limit, the same each time, and its faults.

What a reader does with it is in ``test_browser.py``.
"""

import base64
import io
import json
import re
import shutil
import subprocess
import sys
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from curvlib.book import explorer
from curvlib.data import Images
from curvlib.scores import SCORES

N = 30


def some_images(count=N, side=6, channels=3, seed=0):
    rng = np.random.default_rng(seed)
    return Images(
        images=rng.integers(0, 256, (count, side, side, channels), dtype=np.uint8),
        labels=np.arange(count) % 3,
        index=np.arange(count) * 2 + 7,
        classes=("a", "</script>", "ü"),
    )


def some_scores(images, seed=0):
    rng = np.random.default_rng(seed)
    n = len(images)
    return pd.DataFrame(
        {
            "index": images.index,
            "label": images.labels,
            "aum": rng.normal(size=n),
            "cumulative_loss": rng.exponential(size=n) * 1e-12,
            "learning_time": rng.integers(1, 20, n),
            "random": rng.random(n),
        }
    )


def part(file, name):
    text = file.read_text(encoding="utf-8")
    return re.search(rf'<script [^>]*id="{name}">(.*?)</script>', text, re.DOTALL)[1]


def held(file):
    """Meta data, columns and sprite of an explorer, as its script reads them."""
    meta = json.loads(part(file, "meta"))
    raw = np.frombuffer(zlib.decompress(base64.b64decode(part(file, "columns"))), "u1")
    words = raw.reshape(-1, 4, meta["count"]).astype(np.uint32)
    words = words[:, 0] << 24 | words[:, 1] << 16 | words[:, 2] << 8 | words[:, 3]
    sprite = Image.open(io.BytesIO(base64.b64decode(part(file, "sprite"))))
    return meta, words, np.asarray(sprite)


def test_every_sample_is_there_with_its_numbers_and_its_image(tmp_path):
    images = some_images()
    frame = some_scores(images)
    written = explorer.write(tmp_path / "explorer.html", images, frame)
    meta, words, sprite = held(tmp_path / "explorer.html")
    assert written.scores == ("aum", "cumulative_loss", "learning_time")
    assert meta["scores"] == list(written.scores)  # no random one
    assert meta["labels"] == [SCORES[name].label for name in written.scores]
    assert meta["signs"] == [SCORES[name].sign for name in written.scores]
    assert meta["classes"] == list(images.classes)
    assert not words[0].any()  # upper halves of the indices
    np.testing.assert_array_equal(words[1], images.index)
    np.testing.assert_array_equal(words[2], images.labels)
    for name, found in zip(written.scores, words[3:], strict=True):
        np.testing.assert_allclose(found.view(np.float32), frame[name], rtol=2**-16)
    assert written.quality is None and written.side == 6
    for i in range(N):  # without loss, each in its place
        y, x = (6 * k for k in divmod(i, meta["across"]))
        np.testing.assert_array_equal(sprite[y : y + 6, x : x + 6], images.images[i])


def test_an_index_above_32_bits_is_kept_whole(tmp_path):
    images = some_images()
    large = images.index + 2**33 + 5
    images = replace(images, index=large, source=large)
    explorer.write(tmp_path / "e.html", images, some_scores(images))
    _, words, _ = held(tmp_path / "e.html")
    found = words[0].astype(np.int64) << 32 | words[1].astype(np.int64)
    np.testing.assert_array_equal(found, large)


def test_the_script_is_javascript_that_node_accepts():
    node = shutil.which("node")
    if node is None:
        pytest.skip("no node: install it to check the script")
    done = subprocess.run(
        [node, "--check", explorer.HERE / "script.js"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_grey_and_oblong_images_keep_their_shape(tmp_path):
    images = some_images(channels=1)
    images = Images(
        images=images.images[:, :, :4],
        labels=images.labels,
        index=images.index,
        classes=images.classes,
    )
    explorer.write(tmp_path / "e.html", images, some_scores(images))
    _, _, sprite = held(tmp_path / "e.html")
    np.testing.assert_array_equal(sprite[:6, 1:5, 0], images.images[0, :, :, 0])
    assert not sprite[:6, [0, 5]].any()


def test_what_float32_rounds_stays_what_it_is():
    values = np.array([0.0, 1.0, -3.5, 1e-45, 3.4e38, -1e-39, 12345.678, 7e-38])
    found = explorer._rounded(values).astype(np.uint32).view(np.float32)
    expected = np.array([0.0, 1.0, -3.5, 0.0, 3.4e38, 0.0, 12345.678, 7e-38])
    np.testing.assert_allclose(found, expected, rtol=2**-15)
    assert np.isfinite(found).all()


def test_the_same_arguments_give_the_same_bytes_in_any_process(tmp_path):
    images = some_images()
    for name in ("a.html", "b.html"):  # Bokeh counts on in one process
        explorer.write(tmp_path / name, images, some_scores(images))
    code = (
        "import sys; sys.path.insert(0, 'tests'); from pathlib import Path; "
        "from test_explorer import *; i = some_images(); "
        f"explorer.write(Path({str(tmp_path / 'c.html')!r}), i, some_scores(i))"
    )
    root = Path(__file__).parents[1]
    subprocess.run([sys.executable, "-c", code], check=True, cwd=root)
    first = (tmp_path / "a.html").read_bytes()
    assert (tmp_path / "b.html").read_bytes() == first
    assert (tmp_path / "c.html").read_bytes() == first


def test_images_are_made_coarser_and_smaller_until_the_file_is_within_its_limit(
    tmp_path,
):
    images = some_images(count=300, side=32)
    frame = some_scores(images)
    file = tmp_path / "explorer.html"
    full = explorer.write(file, images, frame)
    assert full.size == file.stat().st_size < explorer.LIMIT
    assert (full.side, full.quality) == (32, None)
    steps = [(full.side, full.quality)]
    for limit in (full.size - 1000, full.size - 350_000, full.size - 1_150_000):
        written = explorer.write(file, images, frame, limit=limit)
        assert written.size == file.stat().st_size <= limit
        steps.append((written.side, written.quality))
    assert steps[1] == (32, 80)
    assert steps[-1][0] < 32
    sides = [side for side, _ in steps]
    assert sides == sorted(sides, reverse=True)
    with pytest.raises(
        ValueError, match=r"more than the -?[\d,]+ that the limit leaves; giv"
    ):
        explorer.write(file, images, frame, limit=100_000)
    assert written.size == file.stat().st_size  # what was there before stays


def test_a_wrong_frame_is_refused(tmp_path):
    images = some_images()
    frame = some_scores(images)
    file = tmp_path / "explorer.html"
    for wrong in (frame[::-1], frame[:-1], frame.drop(columns="index")):
        with pytest.raises(ValueError, match="a column 'index' equal to that of the"):
            explorer.write(file, images, wrong)
    with pytest.raises(ValueError, match=r"two scores or more, got \['aum'\]"):
        explorer.write(file, images, frame[["index", "label", "aum", "random"]])
    with pytest.raises(ValueError, match="no direction is known"):
        explorer.write(file, images, frame.assign(memorization=0.5))
    explorer.write(
        file, images, frame.assign(memorization=0.5), signs={"memorization": 1}
    )
    for bad in (np.nan, np.inf, 1e39):
        values = np.where(np.arange(N) == 2, bad, 0.0)
        with pytest.raises(ValueError, match=r"aum must be finite.* sample 11 has"):
            explorer.write(file, images, frame.assign(aum=values))
