"""What only a GPU can show; skipped, with the reason, where there is none."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from curvlib import data, input_curvature
from curvlib.runs import networks, scoring, training
from curvlib.runs.settings import TrainConfig
from curvlib.studies import costs

pytestmark = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="needs a GPU that CUDA can use"
)

SMALL = TrainConfig(num_train=200, width=8, epochs=3, batch_size=50, num_probes=2)


def network(activation: str = "relu") -> nn.Module:
    return networks.build(
        "slim_resnet",
        num_classes=10,
        input_shape=(3, 32, 32),
        width=16,
        activation=activation,
    ).eval()


def batch(size: int = 16) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(size, 3, 32, 32, generator=generator)
    return x, torch.randint(10, (size,), generator=generator)


@pytest.mark.parametrize(
    "method", ["finite-difference", "autograd", "gauss-newton", "zero-order"]
)
def test_in_float64_every_method_gives_the_scores_of_the_cpu(method):
    model, (x, y) = network("softplus").double(), batch()
    on_cpu = input_curvature(model, x.double(), y, method=method, num_probes=2)
    model = model.cuda()
    on_gpu = input_curvature(
        model, x.double().cuda(), y.cuda(), method=method, num_probes=2
    )
    for name in ("mean_hvp_norm", "squared_frobenius_norm", "loss"):
        here, there = getattr(on_cpu, name), getattr(on_gpu, name)
        assert there.device.type == "cuda"
        torch.testing.assert_close(there.cpu(), here, rtol=1e-5, atol=1e-12)


def test_tf32_and_autocast_of_the_caller_change_no_score():
    model, (x, y) = network().cuda(), batch()
    x, y = x.cuda(), y.cuda()
    plain = input_curvature(model, x, y, num_probes=2).mean_hvp_norm
    before = torch.backends.cudnn.conv.fp32_precision
    torch.backends.cudnn.conv.fp32_precision = "tf32"
    try:
        with torch.autocast("cuda", torch.bfloat16):
            inside = input_curvature(model, x, y, num_probes=2).mean_hvp_norm
        assert torch.backends.cudnn.conv.fp32_precision == "tf32"
    finally:
        torch.backends.cudnn.conv.fp32_precision = before
    torch.testing.assert_close(inside, plain, rtol=1e-2, atol=0)


class Recurrent(nn.Module):
    """An LSTM over the rows of an image, and a linear layer on its last output."""

    def __init__(self):
        super().__init__()
        self.rows = nn.LSTM(8, 16, batch_first=True)
        self.head = nn.Linear(16, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.rows(x[:, 0])[0][:, -1])


@pytest.mark.parametrize("method", ["finite-difference", "autograd"])
def test_a_recurrent_network_in_evaluation_mode_has_a_curvature(method):
    torch.manual_seed(0)
    model = Recurrent().double().eval()
    x, y = torch.randn(6, 1, 5, 8, dtype=torch.float64), torch.arange(6) % 4
    here = input_curvature(model, x, y, method=method).mean_hvp_norm
    there = input_curvature(model.cuda(), x.cuda(), y.cuda(), method=method)
    torch.testing.assert_close(there.mean_hvp_norm.cpu(), here, rtol=1e-5, atol=0)
    assert torch.backends.cudnn.enabled


class Dropping(nn.Module):
    """Dropout that its forward calls by itself, whatever the mode."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(12, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(F.dropout(x, 0.01, training=True))


def test_a_network_that_draws_on_the_gpu_is_refused():
    x, y = torch.randn(8, 12).cuda(), (torch.arange(8) % 3).cuda()
    with pytest.raises(ValueError, match="draws random numbers"):
        input_curvature(Dropping().cuda().eval(), x, y)


def test_scores_do_not_depend_on_the_size_of_a_chunk():
    images = data.load("digits").select(np.arange(300))
    model = networks.build(
        "slim_resnet", num_classes=10, input_shape=(1, 8, 8), width=16
    ).cuda()
    options = {"scaling": images.statistics(), "epoch": 1, "num_probes": 1, "step": 0.1}
    whole = scoring.score(model, images, **options)
    parts = scoring.score(model, images, chunk=64, **options)
    np.testing.assert_allclose(
        whole["mean_hvp_norm"], parts["mean_hvp_norm"], rtol=1e-2
    )
    np.testing.assert_allclose(whole["loss"], parts["loss"], rtol=1e-3, atol=1e-5)


def test_a_stopped_run_goes_on_and_names_the_gpu(tmp_path):
    class StopError(Exception):
        pass

    def stop(epoch: int, _: nn.Module) -> None:
        if epoch == 2:
            raise StopError

    with pytest.raises(StopError):
        training.fit(SMALL, runs=tmp_path, device="cuda", on_epoch=stop)
    trace = training.fit(SMALL, runs=tmp_path, device="cuda")
    assert trace.epochs.tolist() == [1, 2, 3]
    assert trace.info["hardware"]["gpu"] == torch.cuda.get_device_name()
    assert trace.read("mean_hvp_norm").min() >= 0


def test_a_run_on_the_gpu_learns_what_one_on_the_cpu_learns(tmp_path):
    losses = [
        training.fit(SMALL, runs=tmp_path / device, device=device).read("loss")[0]
        for device in ("cpu", "cuda")
    ]
    assert np.corrcoef(*losses)[0, 1] > 0.9


def test_a_time_includes_the_work_of_the_gpu():
    a = torch.randn(4096, 4096, device="cuda")
    began, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))

    def work() -> None:
        began.record()
        for _ in range(20):
            a @ a
        ended.record()

    costs.timed(work, "cuda")  # the first one chooses kernels
    seconds = costs.timed(work, "cuda")
    assert seconds >= 0.95 * began.elapsed_time(ended) / 1000


def test_every_way_of_scoring_is_timed_on_the_gpu():
    x, y = batch(64)
    model = network().cuda()
    table = costs.measure(model, x.cuda(), y.cuda(), num_probes=(1, 2), repeats=3)
    ratio = table.groupby("what")["over_training"].median()
    assert ratio["training"] == 1
    assert ratio["curvature, n = 2"] > ratio["curvature, n = 1"] > ratio["logits"]
