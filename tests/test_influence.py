"""Released scores: read, and joined to the samples they belong to, or refused."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.datasets import load_digits

from curvlib import data
from curvlib.data import released
from curvlib.runs import influence


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
    found = released.memorization(file, images)
    np.testing.assert_array_equal(found, values[images.index])
    np.testing.assert_array_equal(
        released.consistency(file, images), 1 - values[images.index]
    )


def test_a_file_is_found_where_the_data_sets_lie(file, images, monkeypatch):
    monkeypatch.setenv("CURVLIB_DATA", str(file.parent))
    found = released.memorization("released.npz", images)
    assert len(found) == len(images)


def test_wrong_labels_do_not_hide_where_a_value_belongs(file, images):
    expected = released.memorization(file, images)
    noisy = data.with_symmetric_noise(images, 0.5, seed=0)
    np.testing.assert_array_equal(released.memorization(file, noisy), expected)


def test_a_planted_copy_has_the_value_of_its_original(file, images):
    planted = data.with_planted_duplicates(images, 3, seed=0)
    values = released.memorization(file, planted)
    original = dict(zip(images.index, released.memorization(file, images), strict=True))
    assert [original[i] for i in planted.source] == values.tolist()


def test_a_file_in_another_order_is_refused(file, images):
    arrays = dict(np.load(file))
    np.savez(file, tr_mem=arrays["tr_mem"], tr_labels=arrays["tr_labels"][::-1])
    with pytest.raises(ValueError, match=r"another order.*sample \d+ has label"):
        released.memorization(file, images)


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
        released.memorization(file, images)


def test_a_sample_without_a_value_is_named(file, images):
    arrays = dict(np.load(file))
    arrays["tr_mem"][images.index[3]] = np.nan
    np.savez(file, **arrays)
    with pytest.raises(ValueError, match=f"for sample {images.index[3]}"):
        released.memorization(file, images)


def test_a_damaged_and_a_missing_file_are_told_apart(file, images, tmp_path):
    file.write_text("index, memorization")
    with pytest.raises(ValueError, match="not a readable"):
        released.memorization(file, images)
    with pytest.raises(FileNotFoundError, match="CURVLIB_DATA"):
        released.memorization(tmp_path / "none.npz", images)


def test_the_values_of_another_split_are_refused(file, images):
    beyond = replace(images, index=images.index + 10_000, source=None)
    with pytest.raises(ValueError, match="same split"):
        released.memorization(file, beyond)


# --------------------------------------------------------------------- estimates


def by_loop(inside, correct):
    """Value and standard error of one sample, as the textbook has the latter."""
    sides = correct[inside].astype(float), correct[~inside].astype(float)
    variance = sum(side.var(ddof=1) / len(side) for side in sides)
    return sides[0].mean() - sides[1].mean(), variance**0.5


def test_memorization_of_numbers_one_can_check_in_the_head():
    # Two of two inside and one of four outside: 1 - 1/4; se^2 = 0 + (3/16) / 3.
    inside = np.array([[1], [1], [0], [0], [0], [0]], dtype=bool)
    correct = np.array([[1], [1], [1], [0], [0], [0]], dtype=bool)
    found = influence.memorization(inside, correct)
    assert found.value.tolist() == [0.75]
    assert found.standard_error.tolist() == [0.25]
    assert found.undefined == 0


def test_estimates_are_those_of_a_plain_loop():
    rng = np.random.default_rng(0)
    inside, correct = rng.random((2, 50, 8)) < 0.6
    test = rng.random((50, 5)) < 0.4
    found = influence.memorization(inside, correct)
    pairs = influence.influence(inside, test)
    assert pairs.value.shape == pairs.standard_error.shape == (8, 5)
    assert pairs.value.dtype == np.float32
    for i in range(8):
        value, error = by_loop(inside[:, i], correct[:, i])
        assert found.value[i] == pytest.approx(value)
        assert found.standard_error[i] == pytest.approx(error)
        for j in range(5):
            value, error = by_loop(inside[:, i], test[:, j])
            assert pairs.value[i, j] == pytest.approx(value, abs=1e-6)
            assert pairs.standard_error[i, j] == pytest.approx(error, abs=1e-6)


def test_the_influence_of_a_sample_on_itself_is_its_memorization():
    rng = np.random.default_rng(0)
    inside, correct = rng.random((2, 50, 8)) < 0.6
    alone = influence.memorization(inside, correct)
    pairs = influence.influence(inside, correct)
    np.testing.assert_allclose(pairs.value.diagonal(), alone.value, atol=1e-6)
    errors = pairs.standard_error.diagonal()
    np.testing.assert_allclose(errors, alone.standard_error, atol=1e-6)


def test_the_order_of_networks_changes_no_estimate():
    rng = np.random.default_rng(0)
    inside, correct = rng.random((2, 50, 8)) < 0.6
    order = rng.permutation(50)
    a = influence.memorization(inside, correct)
    b = influence.memorization(inside[order], correct[order])
    np.testing.assert_array_equal(a.value, b.value)
    np.testing.assert_array_equal(a.standard_error, b.standard_error)


def test_samples_never_held_out_or_never_trained_on_are_masked_and_counted():
    # Always inside, never inside, once outside.
    inside = np.array([[1, 0, 0], [1, 0, 1], [1, 0, 1]], dtype=bool)
    correct = np.ones((3, 3), dtype=bool)
    for found in (
        influence.memorization(inside, correct),
        influence.influence(inside, correct),
    ):
        value = found.value if found.value.ndim == 1 else found.value[:, 0]
        error = found.standard_error
        error = error if error.ndim == 1 else error[:, 0]
        assert np.isnan(value).tolist() == [True, True, False]
        assert np.isnan(error).all()  # one network says nothing of its own spread
        assert found.undefined == 2


def test_the_standard_error_is_the_spread_over_ensembles():
    rng = np.random.default_rng(0)
    p = np.array([[0.9], [0.3]])  # outside, inside
    values, errors = [], []
    for _ in range(2000):
        inside = rng.permutation(np.repeat([True, False], [28, 12]))[:, None]
        correct = rng.random((40, 1)) < p[inside[:, 0].astype(int)]
        found = influence.memorization(inside, correct)
        values.append(found.value[0])
        errors.append(found.standard_error[0] ** 2)
    assert np.mean(values) == pytest.approx(-0.6, abs=4 * np.std(values) / 2000**0.5)
    # A sample variance of n values has a relative sd of about (2 / n)^0.5: 3 % here.
    assert np.mean(errors) == pytest.approx(np.var(values), rel=0.12)


@pytest.mark.parametrize(
    ("estimate", "inside", "correct", "match"),
    [
        ("memorization", np.ones((3, 2)), np.ones((3, 2), bool), "inside must be a bo"),
        ("memorization", np.ones((3, 2), bool), np.ones(3, bool), "networks by samp"),
        (
            "memorization",
            np.ones((3, 2), bool),
            np.ones((3, 4), bool),
            r"one shape.*\[3, 2\] and \[3, 4\]",
        ),
        (
            "influence",
            np.ones((3, 2), bool),
            np.ones((4, 2), bool),
            "of the same M networks",
        ),
    ],
)
def test_masks_of_another_form_are_refused(estimate, inside, correct, match):
    with pytest.raises(ValueError, match=match):
        getattr(influence, estimate)(inside, correct)


# ------------------------------------------------------- released, by file name


@pytest.fixture(params=["bare", "in folders", "bytes"])
def by_name(request, tmp_path):
    names = [f"n0144076{k}_{k}.JPEG" for k in range(5)]
    if request.param == "in folders":
        names = [f"train/{name[:9]}/{name}" for name in names]
    if request.param == "bytes":
        names = [name.encode() for name in names]
    path = tmp_path / "imagenet_index.npz"
    np.savez(path, tr_filenames=np.array(names), tr_mem=np.arange(5) / 4)
    return path


def test_released_values_are_joined_by_file_name(by_name):
    names = ["n01440764/n01440764_4.JPEG", "n0/none.JPEG", "n01440760/n01440760_0.JPEG"]
    found = released.memorization_by_name(by_name, names)
    assert found.dtype == np.float64
    np.testing.assert_array_equal(found, [1.0, np.nan, 0.0])


def test_a_file_of_other_names_is_refused(by_name):
    with pytest.raises(
        ValueError, match=r"none of the 1 names given, such as cat\.png"
    ):
        released.memorization_by_name(by_name, ["cats/cat.png"])


def test_a_file_with_a_name_twice_or_no_names_is_refused(by_name):
    arrays = dict(np.load(by_name))
    twice = arrays["tr_filenames"][[0, 1, 1, 2, 3]]
    np.savez(by_name, tr_filenames=twice, tr_mem=arrays["tr_mem"])
    with pytest.raises(ValueError, match=r"n01440761_1\.JPEG occurs 2 times"):
        released.memorization_by_name(by_name, ["n01440761_1.JPEG"])
    np.savez(by_name, tr_mem=arrays["tr_mem"])
    with pytest.raises(ValueError, match="lacks tr_filenames; it has tr_mem"):
        released.memorization_by_name(by_name, ["n01440761_1.JPEG"])


def test_an_index_that_no_file_has_is_refused(file, images):
    # Counted from the end, as Python would, it were the value of another sample.
    for index in (-3, 10**13):
        odd = replace(images, index=[*images.index[1:], index], source=None)
        with pytest.raises(ValueError, match=f"has one with index {index}"):
            released.memorization(file, odd)
