"""Many estimators on one run: kinks counted by hand, and nothing measured twice."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import fx, nn

from curvlib.curvature import input_curvature, rademacher
from curvlib.runs import networks, training
from curvlib.runs.settings import TrainConfig
from curvlib.studies import variants

TINY = TrainConfig(
    num_train=40,
    noise_rate=0.2,
    model="mlp",
    width=8,
    epochs=2,
    batch_size=20,
    num_probes=2,
    score_every=2,
)
WAYS = {"difference": {"step": 1e-3}, "exact": {"method": "autograd", "double": True}}


class Bends(nn.Module):
    """Four units of one input, which switch at 0, 1, 2 and 3."""

    def forward(self, x):
        return F.relu(x - torch.arange(4.0).to(x))


def test_crossings_are_the_kinks_between_the_two_ends():
    x, probes = torch.tensor([[-0.5], [0.5], [1.5]]), torch.tensor([[1.0], [-1.0]])
    counts = variants.crossings(fx.symbolic_trace(Bends()), x, probes, step=2.0)
    # From -0.5 to 1.5 lie 0 and 1; from 1.5 to 3.5 lie 2 and 3; down likewise.
    assert counts.tolist() == [[2, 2, 2], [0, 1, 2]]


def test_a_residual_network_has_crossings_of_every_activation():
    model = networks.build("slim_resnet", num_classes=3, input_shape=(1, 8, 8), width=2)
    folded = networks.fold_batch_norm(model)
    x = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    assert variants._signs(folded.double(), x.double()).shape == (
        2,
        3 * 2 * 64 + 2 * 4 * 16 + 2 * 8 * 4,  # stem and two of each block
    )
    probes = rademacher(1, (1, 8, 8), generator=torch.Generator().manual_seed(0))
    far, near = (variants.crossings(folded, x, probes, step=h) for h in (1.0, 1e-9))
    assert far.min() > 0 and near.sum() == 0


def test_crossings_need_a_graph_with_relus():
    x, probes = torch.zeros(1, 2), torch.ones(1, 2)
    with pytest.raises(ValueError, match="traced graph"):
        variants.crossings(nn.Linear(2, 2), x, probes, step=1.0)
    smooth = networks.build(
        "mlp", num_classes=2, input_shape=(2,), width=3, activation="softplus"
    )
    with pytest.raises(ValueError, match="nothing to cross"):
        variants.crossings(networks.fold_batch_norm(smooth), x, probes, step=1.0)


def test_single_probes_average_to_the_estimate():
    model = networks.build("mlp", num_classes=3, input_shape=(5,), width=4).double()
    x = torch.randn(6, 5, generator=torch.Generator().manual_seed(1)).double()
    y = torch.arange(6) % 3
    probes = rademacher(4, (5,), generator=torch.Generator().manual_seed(7)).to(x)
    norms = variants.probe_norms(model, x, y, probes, step=0.1)
    estimate = input_curvature(
        model,
        x,
        y,
        step=0.1,
        num_probes=4,
        generator=torch.Generator().manual_seed(7),
    )
    torch.testing.assert_close(norms.mean(0), estimate.mean_hvp_norm)
    torch.testing.assert_close(norms.square().mean(0), estimate.squared_frobenius_norm)


def test_the_exact_curvature_of_relus_is_the_same_for_every_label():
    model = networks.build("mlp", num_classes=3, input_shape=(5,), width=8)
    x = torch.randn(6, 5, generator=torch.Generator().manual_seed(1))
    y = torch.arange(6) % 3
    given, other = (
        variants.measure(
            model, x, y, seed=0, method="autograd", double=True, shift=shift
        )
        for shift in (0, 1)
    )
    np.testing.assert_allclose(given["square"], other["square"], rtol=1e-9)
    assert not np.allclose(given["loss"], other["loss"])


def test_following_measures_as_asked_and_reads_it_the_second_time(
    tmp_path, monkeypatch
):
    asked = {
        "epochs": [1, 2],
        "close": {"near": {"step": 1e-4}},
        "close_epoch": 2,
        "crossing_steps": [1.0],
        "num_reference": 3,
        "num_tested": 2,
        "runs": tmp_path,
    }
    found = variants.follow(TINY, WAYS, **asked)
    assert found["difference/square"].shape == found["exact/loss"].shape == (2, 40)
    assert found["near/norm"].shape == found["mislabelled"].shape == (40,)
    assert found["crossings/1"].shape == (2, 40)
    assert found["reference"].shape == (2, 3, 40)
    assert found["tested"].shape == (2, 2, 40)
    assert found["mislabelled"].sum() == 8

    def fail(*args, **kwargs):
        raise AssertionError("trained again")

    monkeypatch.setattr(training, "fit", fail)
    again = variants.follow(TINY, WAYS, **asked)
    assert found.keys() == again.keys()
    for name in found:
        np.testing.assert_array_equal(found[name], again[name])
    with pytest.raises(AssertionError, match="trained again"):
        variants.follow(TINY, WAYS, **(asked | {"num_tested": 1}))


def test_the_trace_of_the_run_has_the_same_scores_but_for_its_probes(tmp_path):
    found = variants.follow(TINY, WAYS, epochs=[2], runs=tmp_path)
    trace = training.fit(TINY, runs=tmp_path / "whole", device="cpu")
    np.testing.assert_allclose(
        found["difference/loss"][0], trace.read("loss")[0], rtol=1e-4, atol=1e-6
    )


def test_a_part_of_the_samples_is_measured_as_within_the_whole(tmp_path):
    asked = {"epochs": [2], "num_reference": 2, "num_tested": 1, "runs": tmp_path}
    whole = variants.follow(TINY, WAYS, **asked)
    part = variants.follow(TINY, WAYS, num_measured=7, **asked)
    assert part["reference"].shape == (1, 2, 7)
    np.testing.assert_array_equal(part["mislabelled"], whole["mislabelled"][:7])
    for name in ("exact/square", "exact/loss"):
        np.testing.assert_allclose(part[name], whole[name][:, :7], rtol=1e-6)
    with pytest.raises(ValueError, match=r"num_measured must lie in \[1, 40\]"):
        variants.follow(TINY, WAYS, num_measured=41, **asked)
