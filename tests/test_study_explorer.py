import io

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy.stats import spearmanr

from curvlib.data import load
from curvlib.studies import explorer as study

SMALL = {"num_train": 200, "epochs": 2, "model": "mlp", "width": 16, "seeds": [0, 1]}


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    return study.measure(**SMALL, runs=str(tmp_path_factory.mktemp("runs"))).tables


def test_every_image_is_in_the_picture_at_its_place(tables):
    sprite = np.asarray(Image.open(io.BytesIO(tables["sprite.webp"])))
    measures = tables["sprite"].iloc[0]
    images = load("digits").select(np.arange(200))
    assert measures["side"] == measures["original side"] == 8
    assert measures["quality"] is None  # so small that nothing is lost
    for i in (0, 57, 199):
        y, x = (8 * k for k in divmod(i, int(measures["across"])))
        found = sprite[y : y + 8, x : x + 8, 0]
        np.testing.assert_array_equal(found, images.images[i, :, :, 0])


def test_correlations_are_of_scores_turned_so_that_high_is_suspect(tables):
    table = tables["scores.parquet"]
    found = tables["correlations"].query("seed == -1").set_index(["first", "second"])
    expected = spearmanr(table["cumulative_loss"], -table["aum"]).statistic
    pair = found.loc[("cumulative_loss", "aum"), "spearman"]
    assert pair == pytest.approx(expected, abs=1e-5)
    count = len(study.signs(table))
    assert len(found) == count * (count - 1) / 2
    assert set(tables["correlations"]["seed"]) == {-1, 0, 1}


def test_the_shared_top_is_a_share_of_a_tenth():
    values = np.arange(20.0)
    table = pd.DataFrame({"cumulative_loss": values, "aum": -values})
    assert study.shared_top(table, "cumulative_loss", "aum") == 1.0  # low aum: suspect
    table["aum"] = values
    assert study.shared_top(table, "cumulative_loss", "aum") == 0.0
