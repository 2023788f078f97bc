"""Released scores: read, and joined to the samples they belong to, or refused."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.datasets import load_digits

from curvlib import data, memorization


@pytest.fixture
def images():
    return data.load("digits").select(np.arange(40, 60))


@pytest.fixture
def file(tmp_path):
    labels = load_digits().target  # of which every fifth is the test split
    values = np.linspace(0, 1, len(labels))
    path = tmp_path / "released.npz"
    np.savez(path, tr_mem=values, tr_labels=labels, scores=1 - values, labels=labels)
    return path


def test_each_image_gets_the_value_at_its_index(file, images):
    values = np.load(file)["tr_mem"]
    found = memorization.released(file, images)
    np.testing.assert_array_equal(found, values[images.index])
    np.testing.assert_array_equal(
        memorization.consistency(file, images), 1 - values[images.index]
    )


def test_a_file_is_found_where_the_data_sets_lie(file, images, monkeypatch):
    monkeypatch.setenv("CURVLIB_DATA", str(file.parent))
    found = memorization.released("released.npz", images)
    assert len(found) == len(images)


def test_wrong_labels_do_not_hide_where_a_value_belongs(file, images):
    expected = memorization.released(file, images)
    noisy = data.with_symmetric_noise(images, 0.5, seed=0)
    np.testing.assert_array_equal(memorization.released(file, noisy), expected)


def test_a_planted_copy_has_the_value_of_its_original(file, images):
    planted = data.with_planted_duplicates(images, 3, seed=0)
    values = memorization.released(file, planted)
    original = dict(zip(images.index, memorization.released(file, images), strict=True))
    assert [original[i] for i in planted.source] == values.tolist()


def test_a_file_in_another_order_is_refused(file, images):
    arrays = dict(np.load(file))
    np.savez(file, tr_mem=arrays["tr_mem"], tr_labels=arrays["tr_labels"][::-1])
    with pytest.raises(ValueError, match=r"another order.*sample \d+ has label"):
        memorization.released(file, images)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"tr_labels": None}, "lacks tr_labels; it has tr_mem"),
        ({"tr_mem": np.zeros((5, 2))}, "vectors of one length"),
        ({"tr_mem": np.zeros(5), "tr_labels": np.zeros(5, int)}, "has 5 samples"),
    ],
)
def test_a_file_of_another_layout_is_refused(file, images, change, match):
    arrays = {k: v for k, v in np.load(file).items() if k.startswith("tr_")} | change
    np.savez(file, **{k: v for k, v in arrays.items() if v is not None})
    with pytest.raises(ValueError, match=match):
        memorization.released(file, images)


def test_a_sample_without_a_value_is_named(file, images):
    arrays = dict(np.load(file))
    arrays["tr_mem"][images.index[3]] = np.nan
    np.savez(file, **arrays)
    with pytest.raises(ValueError, match=f"for sample {images.index[3]}"):
        memorization.released(file, images)


def test_a_damaged_and_a_missing_file_are_told_apart(file, images, tmp_path):
    file.write_text("index, memorization")
    with pytest.raises(ValueError, match="not a readable"):
        memorization.released(file, images)
    with pytest.raises(FileNotFoundError, match="CURVLIB_DATA"):
        memorization.released(tmp_path / "none.npz", images)


def test_the_values_of_another_split_are_refused(file, images):
    beyond = replace(images, index=images.index + 10_000, source=None)
    with pytest.raises(ValueError, match="same split"):
        memorization.released(file, beyond)
