import numpy as np
import pandas as pd
import pytest

from curvlib.runs.training import prepare
from curvlib.scores import FROM_TRACE, compute
from curvlib.studies import config_of, gallery
from curvlib.trace import Trace

SMALL = {"num_train": 200, "epochs": 3, "model": "mlp", "width": 16, "seeds": [0, 1]}


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    runs = tmp_path_factory.mktemp("runs")
    return runs, gallery.measure(**SMALL, num_shown=3, runs=str(runs))


def table_of(rows) -> pd.DataFrame:
    """A table of scores: seed, index, label, curvature, se, learning time."""
    columns = ["seed", "index", "label", "curvature_square", "curvature_square_se"]
    return pd.DataFrame(rows, columns=[*columns, "learning_time"])


def test_every_score_of_every_seed_and_sample_is_kept_in_the_smallest_types(measured):
    runs, found = measured
    table = found.tables["scores.parquet"]
    errors = ["curvature_square_se", "curvature_norm_se"]
    in_trace = [
        n for n in FROM_TRACE if n in compute(traces(runs)[0]) and n != "random"
    ]
    assert list(table) == ["seed", "index", "label", *in_trace, *errors]
    assert len(table) == 2 * SMALL["num_train"]
    assert table[["seed", "index"]].apply(tuple, axis=1).is_monotonic_increasing
    assert {t.itemsize for t in table.dtypes if t.kind == "f"} == {4}
    assert table.dtypes["label"] == table.dtypes["seed"] == np.int8
    assert table.notna().all(axis=None)


def test_of_many_samples_the_scores_that_the_page_shows_are_kept(measured, monkeypatch):
    runs, found = measured
    monkeypatch.setattr(gallery, "NUM_KEPT", 100)
    fewer = gallery.measure(**SMALL, num_shown=3, runs=str(runs))
    table = fewer.tables["scores.parquet"]
    pd.testing.assert_frame_equal(table, found.tables["scores.parquet"][gallery.KEPT])
    np.testing.assert_array_equal(fewer.tables["images"], found.tables["images"])


def traces(runs):
    return [Trace.open(folder) for folder in sorted(runs.glob("digits-*"))]


def test_scores_are_those_of_the_traces(measured):
    runs, found = measured
    table = found.tables["scores.parquet"]
    for trace in traces(runs):
        own = table[table["seed"] == trace.config["seed"]]
        values = trace.read("mean_hvp_norm").astype(float)
        np.testing.assert_allclose(own["curvature_norm"], values.mean(0), rtol=1e-5)
        error = values.std(0, ddof=1) / np.sqrt(3)
        np.testing.assert_allclose(own["curvature_norm_se"], error, rtol=1e-4)


def test_measured_twice_from_nothing_the_tables_are_the_same(measured, tmp_path):
    _, found = measured
    again = gallery.measure(**SMALL, num_shown=3, runs=str(tmp_path))
    for name, table in found.tables.items():
        if isinstance(table, pd.DataFrame):
            pd.testing.assert_frame_equal(table, again.tables[name])
        else:
            np.testing.assert_array_equal(table, again.tables[name])


def test_the_pixels_kept_are_those_of_the_images_at_the_ends(measured):
    _, found = measured
    images, _ = prepare(config_of(SMALL, seed=0))
    place = {index: i for i, index in enumerate(images.index)}
    shown = [place[index] for index in found.tables["shown"]["index"]]
    np.testing.assert_array_equal(found.tables["images"], images.images[shown])
    ranked = gallery.ranking(found.tables["scores.parquet"], np.array([1, 2, 3]))
    both = gallery.ends(ranked["curvature"], ranked["label"], 3).values()
    at_ends = {int(ranked["index"][p]) for sides in both for end in sides for p in end}
    assert at_ends <= set(found.tables["shown"]["index"])


def test_the_ranking_averages_over_seeds_and_tells_how_well_it_is_known():
    table = table_of(
        [
            (0, 7, 1, 1.0, 0.3, 1),
            (0, 9, 0, 2.0, 0.0, 3),
            (1, 7, 1, 3.0, 0.4, 2),
            (1, 9, 0, 2.0, 0.0, 3),
        ]
    )
    found = gallery.ranking(table, [2, 4])  # scored epochs; 3 means never
    assert found["index"].tolist() == [7, 9] and found["label"].tolist() == [1, 0]
    assert found["curvature"].tolist() == [2.0, 2.0]
    assert found["learned"].tolist() == [3.0, 5.0]  # epochs 2 and 4; after the last
    np.testing.assert_allclose(found["se over epochs"], [0.25, 0.0])  # 5 / 10 / 2
    np.testing.assert_allclose(found["se over seeds"], [1.0, 0.0])  # sqrt(2) / sqrt(2)
    one = gallery.ranking(table[table["seed"] == 0], [2, 4])
    assert one["se over seeds"].isna().all()  # one seed has no spread


def test_a_folder_of_class_folders_is_enough(tmp_path):
    # No val/, no names, one file that is broken: what a user's own folder looks like.
    from PIL import Image
    from sklearn.datasets import load_digits

    digits = load_digits()
    for i in range(120):
        folder = tmp_path / "mine" / "train" / f"class {digits.target[i] % 3}"
        folder.mkdir(parents=True, exist_ok=True)
        pixels = (digits.images[i] * 15).astype(np.uint8).repeat(4, 0).repeat(4, 1)
        Image.fromarray(pixels).save(folder / f"{i}.png")
    (folder / "broken.png").write_bytes(b"")
    small = SMALL | {"num_train": None, "seeds": [0], "runs": str(tmp_path / "runs")}
    found = gallery.measure(
        dataset=str(tmp_path / "mine"), image_size=16, broken_files="skip", **small
    )
    assert len(found.tables["scores.parquet"]) == 120
    assert found.tables["scores.parquet"]["label"].nunique() == 3
