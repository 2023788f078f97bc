import base64
import html
import io
import re
import time

import numpy as np
import pytest
from PIL import Image

from curvlib.book import selector
from curvlib.studies import gallery

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (12, 6, 8, 3)).astype(np.uint8)
LABEL = np.arange(12) % 3
SCORE = RNG.permutation(12) / 7
INDEX = np.arange(12) + 100
CLASSES = ("aquarium_fish", "<b>", "cat", "of none")


def made(images=IMAGES, **changes):
    given = {
        "label": LABEL,
        "score": SCORE,
        "index": INDEX,
        "classes": CLASSES,
        "count": 3,
    }
    return selector.by_class(images, **(given | changes))


def picture(text):
    found = re.search(r"url\(data:image/(\w+);base64,([^)]+)\)", text)
    content = base64.b64decode(found[2].replace("0%78", "0x"))
    return found[1], np.array(Image.open(io.BytesIO(content)).convert("RGB"))


def test_ends_are_the_lowest_and_the_highest_of_each_class():
    score = np.array([5.0, 1, 4, 2, 3, 9])
    label = np.array([0, 0, 0, 0, 7, 0])
    found = gallery.ends(score, label, 2)
    assert {c: [e.tolist() for e in both] for c, both in found.items()} == {
        0: [[1, 3], [5, 0]],
        7: [[4], [4]],  # a class that has fewer gives all
    }


def test_equal_scores_keep_their_order_at_both_ends():
    ((low, high),) = gallery.ends(np.zeros(4), np.zeros(4, int), 3).values()
    assert low.tolist() == high.tolist() == [0, 1, 2]


def test_every_class_that_has_images_can_be_chosen_and_the_first_is_shown():
    text = made()
    options = re.findall(r'<option value="(\d)">(.*?)</option>', text)
    assert options == [("0", "aquarium fish"), ("1", "&lt;b&gt;"), ("2", "cat")]
    sections = re.findall(r'<section data-class="(\d)"( hidden)?>', text)
    assert sections == [("0", ""), ("1", " hidden"), ("2", " hidden")]


def test_rank_and_index_are_below_each_image_and_the_class_is_named_once():
    rank = {i: place for place, i in enumerate(np.argsort(-SCORE), start=1)}
    sections = made().split("<section")[1:]
    for c, section in enumerate(sections):
        low, high = gallery.ends(SCORE, LABEL, 3)[c]
        below = re.findall(r"</i>rank (\d+)<br>#(\d+)</li>", section)
        assert below == [(str(rank[i]), str(INDEX[i])) for i in [*low, *high]]
        name = html.escape(CLASSES[c].replace("_", " "))
        assert section.count(f"<p>{name}, ") == 2
    assert re.findall(r"rank ([\d,]+)", made(rank=np.full(12, 4321))) == ["4,321"] * 18


@pytest.mark.parametrize("channels", [1, 3])
def test_each_place_shows_the_pixels_of_its_image(channels):
    images = IMAGES[..., :channels]
    text = made(images)
    kind, sheet = picture(text)
    assert kind == "png"
    places = re.findall(
        r'image (\d+), .*?" style="background-position:(\S+)px (\S+)px', text
    )
    assert len(places) == 3 * 2 * 3
    scale, height = selector.SIDE // 8, selector.SIDE * 6 // 8
    for index, x, y in places:
        x, y = -int(x) // scale, -int(y) // height * 6
        expected = np.broadcast_to(images[int(index) - 100], (6, 8, 3))
        np.testing.assert_array_equal(sheet[y : y + 6, x : x + 8], expected)


def test_a_large_picture_is_compressed_with_small_losses(monkeypatch):
    smooth = np.linspace(0, 255, 12 * 16 * 16).reshape(12, 16, 16, 1).astype(np.uint8)
    kept = picture(made(smooth))
    monkeypatch.setattr(selector, "LOSSLESS", 10)
    kind, sheet = picture(made(smooth))
    assert (kept[0], kind) == ("png", "webp")
    assert np.abs(sheet.astype(int) - kept[1]).mean() < 5


def test_the_same_images_give_the_same_text():
    assert made() == made()


def test_the_clean_up_of_pages_leaves_the_picture_alone_and_is_quick():
    from curvlib.book.cleanup import _stable

    noise = RNG.integers(0, 256, (12, 120, 120, 3)).astype(np.uint8)
    text = made(noise)  # base64 of noise: among 600,000 letters "0x" is sure to come
    assert "0%78" in text and "0x" not in text
    started = time.process_time()
    assert _stable(text, 1) == text
    assert time.process_time() - started < 5  # quadratic in the length, it took minutes


def test_it_names_what_it_cannot_show():
    with pytest.raises(ValueError, match=r"uint8 .* got float64 of shape"):
        made(IMAGES / 255)
    with pytest.raises(ValueError, match=r"score must be one for each of 12 .* got 5"):
        made(score=SCORE[:5])
    with pytest.raises(ValueError, match=r"labels must lie in \[0, 1\), .* got 0 to 2"):
        made(classes=["one"])
    with pytest.raises(ValueError, match="count must be at least 1, got 0"):
        made(count=0)
    with pytest.raises(ValueError, match=r"one length, got shapes \(2,\) and \(3,\)"):
        gallery.ends(np.zeros(2), np.zeros(3, int), 1)
