"""What a model must be: plain, exact, deterministic; folding changes nothing."""

import random
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torchvision
from test_curvature import assert_same, mlp, normal, seeded
from torch import nn
from torch.nn.attention.flex_attention import flex_attention
from torch.utils.checkpoint import checkpoint

from curvlib import models
from curvlib.curvature import METHODS, CurvatureEstimate, input_curvature
from curvlib.runs.networks import ACTIVATIONS, MODELS, build

ROOT = Path(__file__).parents[1]
EIGHT = {"rtol": 1e-8, "atol": 1e-8}


def settled(model: nn.Module) -> nn.Module:
    """Float64, evaluation mode, batch norms that saw some data."""
    generator = seeded(7)
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            shape = module.running_mean.shape
            module.running_mean = 0.1 * torch.randn(shape, generator=generator)
            module.running_var = 0.5 + torch.rand(shape, generator=generator)
    return model.double().eval()


def made(kind, *arguments) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return settled(kind(*arguments))


def as_it_is(model: nn.Module, *arguments, **options) -> CurvatureEstimate:
    """The estimate of a model that has a hook, so that nothing is folded."""
    hook = model.register_forward_hook(lambda *_: None)
    try:
        return input_curvature(model, *arguments, **options)
    finally:
        hook.remove()


class Images(nn.Module):
    """Convolution, batch norm and a head; subclasses change what happens between."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.head = nn.Linear(4, 3)

    def forward(self, x):
        return self.head(self.between(self.norm(self.conv(x))).mean((2, 3)))

    def between(self, h):
        return F.softplus(h)


X, Y = normal(6, 2, 5, 5, seed=3), torch.arange(6) % 3


def called(folded) -> list[nn.Module]:
    nodes = folded.graph.nodes
    return [folded.get_submodule(n.target) for n in nodes if n.op == "call_module"]


# ------------------------------------------------------------------ folded by itself


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("name", MODELS)
def test_the_plain_call_gives_the_scores_of_the_network_as_it_is(name, activation):
    shape = {"num_classes": 5, "input_shape": (3, 12, 12), "width": 8}
    model = settled(build(name, **shape, activation=activation))
    x, y = normal(9, 3, 12, 12), torch.arange(9) % 5
    assert (models.folded_if_same(model, x) is None) == (name == "mlp")
    for method in METHODS:
        options = {"method": method, "num_probes": 2}
        # Zero-order divides a rounding of 1e-16 by the square of its step.
        options |= {"step": 0.1} if method == "zero-order" else {}
        plain = input_curvature(model, x, y, generator=seeded(1), **options)
        expected = as_it_is(model, x, y, generator=seeded(1), **options)
        assert_same(plain, expected, **EIGHT)


def test_the_plain_call_gives_the_scores_of_a_torchvision_resnet18_as_it_is():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = settled(torchvision.models.resnet18(num_classes=10))
    x, y = normal(3, 3, 32, 32), torch.tensor([0, 4, 9])
    assert models.folded_if_same(model, x) is not None
    plain = input_curvature(model, x, y, num_probes=2)
    assert_same(plain, as_it_is(model, x, y, num_probes=2), **EIGHT)


def test_after_the_first_looks_no_batch_norm_is_computed_any_more(monkeypatch):
    model, calls = made(Images), []
    forward = nn.BatchNorm2d.forward
    monkeypatch.setattr(
        nn.BatchNorm2d, "forward", lambda *a: calls.append(len(a[1])) or forward(*a)
    )
    input_curvature(model, X, Y, num_probes=3)
    assert calls == [2, 4]  # a sample beside a stranger; up to four to compare


@pytest.mark.parametrize(
    ("layers", "shape"),
    [
        ((nn.Conv1d(2, 3, 3), nn.BatchNorm1d(3)), (2, 7)),
        ((nn.Conv3d(1, 3, 2), nn.BatchNorm3d(3)), (1, 3, 3, 3)),
        ((nn.Conv2d(2, 3, 3, bias=False), nn.BatchNorm2d(3, affine=False)), (2, 5, 5)),
        ((nn.Conv2d(2, 2, 3, padding=1, padding_mode="reflect", groups=2),
          nn.BatchNorm2d(2)), (2, 5, 5)),
    ],
    ids=["1-D", "3-D", "no scale", "reflected, in groups"],
)  # fmt: skip
def test_convolutions_of_every_kind_take_in_their_batch_norm(layers, shape):
    model = nn.Sequential(*layers, nn.Tanh(), nn.Flatten(), nn.LazyLinear(3))
    model(torch.zeros(2, *shape))
    model, x = settled(model), normal(4, *shape)
    folded = models.folded_if_same(model, x)
    assert not any("BatchNorm" in type(m).__name__ for m in called(folded))
    y = torch.tensor([0, 1, 2, 0])
    assert_same(input_curvature(model, x, y), as_it_is(model, x, y), **EIGHT)


def test_a_view_that_needs_the_usual_order_in_memory_is_no_obstacle():
    class Viewed(Images):
        def __init__(self):
            super().__init__()
            self.head = nn.Linear(100, 3)

        def forward(self, x):
            return self.head(self.norm(self.conv(x)).tanh().view(-1, 100))

    model = made(Viewed)
    assert models.folded_if_same(model, X) is not None
    assert_same(input_curvature(model, X, Y), as_it_is(model, X, Y), **EIGHT)


def test_what_is_folded_already_is_neither_traced_nor_copied(monkeypatch):
    model = models.fold_batch_norm(made(Images))
    expected = input_curvature(model, X, Y)
    monkeypatch.setattr(models, "_folded", None)
    monkeypatch.setattr(models.copy, "deepcopy", None)
    assert_same(input_curvature(model, X, Y), expected, rtol=0, atol=0)


@pytest.mark.parametrize("after", [False, True], ids=["untraceable", "norm first"])
def test_what_cannot_be_folded_is_tried_once_and_used_as_it_is(after, monkeypatch):
    class Branches(Images):
        def between(self, h):
            return h.tanh() if h.sum() > -1e9 else h

    class NormFirst(Images):
        def forward(self, x):
            return self.head(self.norm(self.conv(x).tanh()).mean((2, 3)))

    model = made(NormFirst if after else Branches)
    tries = []
    folded = models._folded
    monkeypatch.setattr(models, "_folded", lambda m: tries.append(1) or folded(m))
    first = input_curvature(model, X, Y)
    assert_same(input_curvature(model, X, Y), first, rtol=0, atol=0)
    assert_same(as_it_is(model, X, Y), first, rtol=0, atol=0)
    assert len(tries) == 1


def test_hooks_see_every_forward_and_backward_and_stay():
    model, forwards, backwards = made(Images), [], []
    model.conv.register_forward_hook(lambda *_: forwards.append(1))
    model.norm.register_full_backward_hook(lambda *_: backwards.append(1))
    input_curvature(model, X, Y, num_probes=3)
    assert len(forwards) == 1 + 3 + 1 and len(backwards) == 3 + 1
    model(X)
    assert len(forwards) == 6


def test_weights_grads_modes_buffers_and_attributes_stay_as_they_were():
    class Keeps(Images):
        """Keep the last features, as many models do for a second loss."""

        def between(self, h):
            self.features = h.tanh()
            return self.features

    model = made(Keeps)
    model.conv.weight.requires_grad_(False)
    model.head.weight.grad = torch.ones_like(model.head.weight)
    model.head.train()  # a mode without a meaning
    ids = [id(p) for p in model.parameters()]
    strides = [p.stride() for p in model.parameters()]
    state = {k: v.clone() for k, v in model.state_dict().items()}
    names = set(vars(model)) | {"features"}
    input_curvature(model, X, Y)
    assert [id(p) for p in model.parameters()] == ids
    assert [p.stride() for p in model.parameters()] == strides
    torch.testing.assert_close(dict(model.state_dict()), state, rtol=0, atol=0)
    assert [p.requires_grad for p in model.parameters()] == [False] + 5 * [True]
    assert (model.head.weight.grad == 1).all()
    assert model.head.training and not model.training
    assert set(vars(model)) == names and type(model.features) is torch.Tensor


class PythonChance(Images):
    def between(self, h):
        return h.tanh() + random.random()


class NumpyChance(Images):
    def between(self, h):
        return h.tanh() + np.random.rand()


class TorchChance(Images):
    def between(self, h):
        return h.tanh() + torch.rand(4, 1, 1)


class Counter(Images):
    calls = 0

    def between(self, h):
        self.calls += 1
        return h.tanh() + self.calls


class Flips(Images):
    on = False

    def between(self, h):
        self.on = not self.on
        return h.tanh() + self.on


class Mixes(Images):
    def between(self, h):
        return h.tanh() - 0.1 * h.mean(0)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "kind", [PythonChance, NumpyChance, TorchChance, Counter, Flips, Mixes]
)
def test_folding_hides_no_chance_no_state_and_no_company(kind, method):
    for attempt in range(3):
        random.seed(attempt), np.random.seed(attempt)
        with pytest.raises(ValueError, match=r"in other company.*mixes the samples"):
            input_curvature(made(kind), X, Y, method=method)


@pytest.mark.parametrize("norm", [nn.BatchNorm2d, nn.Identity], ids=["folds", "not"])
def test_layers_that_are_dropped_now_and_then_are_found_out(norm):
    class Drops(Images):
        def __init__(self):
            super().__init__()
            self.norm = norm(4)

        def between(self, h):
            return h if random.random() < 0.3 else h.tanh()

    for attempt in range(20):  # 0.7 ** 17 of them would pass by chance
        random.seed(attempt)
        with pytest.raises(ValueError, match="draws random numbers"):
            input_curvature(made(Drops), X, Y, num_probes=1)


def test_a_guard_that_tracing_would_freeze_is_met_by_the_network_as_it_is():
    class Guarded(Images):
        def between(self, h):
            try:  # swallows what a proxy raises, and takes another branch than a tensor
                return h.tanh() if float(h.detach().abs().max()) > 0 else h
            except TypeError:
                return h

    class AsksForTensors(Images):
        def between(self, h):
            return h.tanh() if isinstance(h, torch.Tensor) else h

    for kind in (Guarded, AsksForTensors):
        model = made(kind)
        assert models.folded_if_same(model, X) is None
        assert_same(input_curvature(model, X, Y), as_it_is(model, X, Y), rtol=0, atol=0)


def test_a_branch_for_training_is_that_of_the_mode_the_model_is_in():
    class Shifts(Images):
        def between(self, h):
            return h.tanh() + 5 * self.training

    model = made(Shifts)
    resting = input_curvature(model, X, Y)
    model.train()
    model.norm.eval()
    awake = input_curvature(model, X, Y)
    assert_same(awake, as_it_is(model, X, Y), **EIGHT)
    assert (awake.logits - resting.logits).abs().min() > 1e-3


def test_the_fast_copy_follows_every_change_of_the_weights():
    model = made(Images)
    input_curvature(model, X, Y)
    model.conv.weight.data.mul_(1.5)  # in place, behind autograd's back
    model.norm.running_var.data.mul_(2)
    assert_same(input_curvature(model, X, Y), as_it_is(model, X, Y), **EIGHT)


# --------------------------------------------------------------- arithmetic too coarse


def narrow(*layers: nn.Module) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(*layers).eval()


class Wrapped(nn.Module):
    """A body and a head, with a function around the body."""

    def __init__(self, around):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.body = nn.Sequential(nn.Linear(20, 30), nn.Tanh(), nn.Linear(30, 30))
            self.head = nn.Linear(30, 3)
        self.around = around

    def forward(self, x):
        return self.head(self.around(self.body, x))


class InHalf(nn.Module):
    """A block that works in another type than the rest."""

    def __init__(self, dtype):
        super().__init__()
        self.linear = nn.Linear(20, 20).to(dtype)
        self.dtype = dtype

    def forward(self, x):
        return self.linear(x.to(self.dtype)).to(x.dtype)


def autocast(dtype):
    def around(body, x):
        with torch.autocast("cpu", dtype=dtype):
            return body(x)

    return around


@torch.autocast("cpu", dtype=torch.bfloat16)
def decorated(body, x):
    return body(x)


def eight_bits(body, x):
    return body(x.to(torch.float8_e4m3fn).to(x.dtype))


def reduced(body, x):
    torch.backends.mkldnn.matmul.fp32_precision = "bf16"
    return body(x)


def reduced_for_a_moment(body, x):
    torch.backends.cuda.matmul.allow_tf32 = True
    found = body(x)
    torch.backends.cuda.matmul.allow_tf32 = False
    return found


COARSE = {
    "autocast in bfloat16": (lambda: Wrapped(autocast(torch.bfloat16)),
                             "'model' .Wrapped. computes in torch.bfloat16"),
    "autocast in float16": (lambda: Wrapped(autocast(torch.float16)),
                            "'model' .Wrapped. computes in torch.float16"),
    "autocast as a decorator": (lambda: Wrapped(decorated),
                                "'model' .Wrapped. computes in torch.bfloat16"),
    "a cast of x": (lambda: Wrapped(lambda body, x: body(x.bfloat16().float())),
                    "'model' .Wrapped. computes in torch.bfloat16"),
    "a cast in the middle": (
        lambda: Wrapped(lambda body, x: body(x).half().float()),
        "'model' .Wrapped. computes in torch.float16"),
    "eight bits": (lambda: Wrapped(eight_bits),
                   "'model' .Wrapped. computes in torch.float8_e4m3fn"),
    "a block in bfloat16": (
        lambda: narrow(nn.Linear(20, 20), InHalf(torch.bfloat16), nn.Linear(20, 3)),
        "'1' .InHalf. computes in torch.bfloat16"),
    "a block in float16": (
        lambda: narrow(nn.Linear(20, 20), InHalf(torch.float16), nn.Linear(20, 3)),
        "'1' .InHalf. computes in torch.float16"),
    "precision reduced": (lambda: Wrapped(reduced),
                          "switches reduced precision on"),
    "precision reduced for a moment": (lambda: Wrapped(reduced_for_a_moment),
                                       "switches reduced precision on"),
}  # fmt: skip


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", COARSE)
def test_arithmetic_too_coarse_for_a_step_is_refused_and_the_module_named(name, method):
    make, named = COARSE[name]
    model, x, y = make(), normal(4, 20).float(), torch.arange(4) % 3
    before = torch.get_float32_matmul_precision()
    with pytest.raises(
        ValueError, match=named + ".*differences over a small step"
    ) as e:
        input_curvature(model, x, y, method=method)
    assert "\n" not in str(e.value)
    assert torch.get_float32_matmul_precision() == before
    assert not torch.backends.cuda.matmul.allow_tf32


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
@pytest.mark.parametrize("method", METHODS)
def test_quantised_layers_are_refused_and_named(method):
    model = narrow(nn.Linear(20, 30), nn.ReLU(), nn.Linear(30, 3))
    quantised = torch.ao.quantization.quantize_dynamic(model, {"2": torch.ao.
        quantization.default_dynamic_qconfig})  # fmt: skip
    x, y = normal(4, 20).float(), torch.arange(4) % 3
    with pytest.raises(ValueError, match=r"module '2' \(Linear\) is quantised"):
        input_curvature(quantised, x, y, method=method)


def to_grid(h):
    return (h * 16).round() / 16


QUANTISERS = {
    "rounding": to_grid,
    "straight through": lambda h: h + (to_grid(h) - h).detach(),
    "floor": lambda h: h + (torch.floor(h * 16 + 0.5) / 16 - h).detach(),
    "fake quantisation": lambda h: torch.fake_quantize_per_tensor_affine(
        h, 1 / 16, 0, -128, 127
    ),
    "through integers": lambda h: h + ((h * 16).to(torch.int8) / 16 - h).detach(),
    "division that rounds": lambda h: h + (
        torch.div(h, 1 / 16, rounding_mode="floor") / 16 - h
    ).detach(),
    "signs": lambda h: h + (h.sign() - h).detach(),
    "bits cut off": lambda h: h + (
        (h.detach().view(torch.int32) & -(2**16)).view(torch.float32) - h
    ).detach(),
    "beside a way around": lambda h: h + 0.5 * to_grid(h),
}  # fmt: skip


@pytest.mark.parametrize("name", QUANTISERS)
@pytest.mark.parametrize("method", ["finite-difference", "zero-order"])
def test_rounding_to_a_grid_is_refused_because_logits_jump(name, method):
    model = Wrapped(lambda body, x: QUANTISERS[name](body(x)))
    x, y = normal(16, 20).float(), torch.arange(16) % 3
    with pytest.raises(ValueError, match=r"'model' .* rounds what depends on x.*jumps"):
        input_curvature(model, x, y, method=method)


def sampled_between(body, x):
    """Linear interpolation in a table at places that depend on x: no jump anywhere."""
    h = body(x)
    table = torch.linspace(-1, 1, 41, dtype=x.dtype).sin()
    place = 20 + 5 * h.tanh()
    low = place.floor()
    weight = place - low
    index = low.long()
    return (1 - weight) * table[index] + weight * table[index + 1]


def rounded_for_the_record(body, x):
    body.seen = body(x).round()
    return body(x)


HARMLESS = {
    "interpolation": sampled_between,
    "rounded, not used": rounded_for_the_record,
    "signs times sizes": lambda body, x: body(x).sign() * body(x).abs().tanh(),
    "the largest few": lambda body, x: body(x).topk(30).values,
    "a table in bfloat16": lambda body, x: body(x) * torch.ones(30).bfloat16().float(),
}


@pytest.mark.parametrize("name", HARMLESS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rounding_that_makes_no_jump_is_no_reason_to_refuse(name, dtype):
    model = Wrapped(HARMLESS[name]).to(dtype)
    x, y = normal(4, 20).to(dtype), torch.arange(4) % 3
    got = input_curvature(model, x, y)
    assert got.squared_frobenius_norm.isfinite().all()


class LastState(nn.Module):
    def __init__(self):
        super().__init__()
        self.recurrent, self.head = nn.LSTM(1, 5, batch_first=True), nn.Linear(5, 3)

    def forward(self, x):
        return self.head(self.recurrent(x[:, :, None])[0][:, -1])


OF_ANOTHER_TYPE = {
    "linear": lambda dtype: (mlp(20).to(dtype), (20,)),
    "recurrent": lambda dtype: (LastState().to(dtype), (20,)),
    "convolution": lambda dtype: (nn.Conv1d(1, 3, 20).to(dtype), (1, 20)),
    "scripted": lambda dtype: (torch.jit.script(mlp(20).to(dtype)), (20,)),
}


@pytest.mark.filterwarnings("ignore:.torch.jit.script")
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", OF_ANOTHER_TYPE)
def test_weights_of_another_type_are_refused_in_one_line_that_says_what_to_do(
    name, dtype, method
):
    model, shape = OF_ANOTHER_TYPE[name](dtype)
    x, y = normal(4, *shape).float(), torch.arange(4) % 3
    message = rf" is {dtype}, x is torch.float32.*use model.float\(\)$"
    with pytest.raises(ValueError, match=message) as refusal:
        input_curvature(model, x, y, method=method)
    assert "\n" not in str(refusal.value)


def test_single_weights_for_double_inputs_are_told_to_be_double():
    with pytest.raises(ValueError, match=r"float32, x is torch.float64.*model.double"):
        input_curvature(mlp().float(), normal(4, 5), torch.tensor([0, 1, 2, 0]))


def test_weights_stored_in_half_and_converted_are_taken():
    class StoredInHalf(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(normal(3, 20).bfloat16())

        def forward(self, x):
            return x @ self.weight.T.to(x.dtype)

    model, x, y = StoredInHalf(), normal(4, 20), torch.arange(4) % 3
    plain = nn.Linear(20, 3, bias=False).double()
    plain.weight.data = model.weight.data.double()
    assert_same(input_curvature(model, x, y), input_curvature(plain, x, y), **EIGHT)


def test_a_part_in_float32_within_float64_is_taken_but_not_with_a_tiny_step():
    model = Wrapped(lambda body, x: body(x.float()).double())
    model.head.double()
    x, y = normal(4, 20), torch.arange(4) % 3
    with pytest.raises(ValueError, match=r"computes in torch.float32.*for step 1e-06"):
        input_curvature(model, x, y, step=1e-6)
    whole = Wrapped(lambda body, x: body(x)).double()
    got, expected = (input_curvature(m, x, y) for m in (model, whole))
    torch.testing.assert_close(
        got.mean_hvp_norm, expected.mean_hvp_norm, rtol=0.05, atol=0
    )


# --------------------------------------------------- derivatives that are not there


class Cube(torch.autograd.Function):
    """x³, whose derivative may not be derived."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, g):
        return 3 * ctx.saved_tensors[0] ** 2 * g


class NumpyCube(torch.autograd.Function):
    """x³ by NumPy, of whose derivative autograd knows nothing."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return torch.from_numpy(x.detach().numpy() ** 3)

    @staticmethod
    def backward(ctx, g):
        slope = 3 * ctx.saved_tensors[0].detach().numpy() ** 2
        return torch.from_numpy(slope * g.detach().numpy())


class Cubic(nn.Module):
    def __init__(self, cube):
        super().__init__()
        self.linear, self.cube = nn.Linear(4, 3), cube

    def forward(self, x):
        return self.linear(x + self.cube(x))


class Deformable(nn.Module):
    def __init__(self):
        super().__init__()
        self.offset = nn.Conv2d(2, 18, 3, padding=1)
        self.deformed = torchvision.ops.DeformConv2d(2, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.head = nn.Linear(4, 3)

    def forward(self, x):
        h = self.norm(self.deformed(x, self.offset(x)))
        return self.head(h.tanh().mean((2, 3)))


class Checkpointed(nn.Module):
    def __init__(self, reentrant):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 6), nn.Softplus(), nn.Linear(6, 6))
        self.head = nn.Linear(6, 3)
        self.reentrant = reentrant

    def forward(self, x):
        if self.reentrant is None:
            return self.head(self.body(x).tanh())
        h = checkpoint(self.body, x, use_reentrant=self.reentrant)
        return self.head(h.tanh())


ONCE = {
    "deformable convolution": (lambda: made(Deformable), None, (2, 5, 5)),
    "re-entrant checkpoint": (
        lambda: made(Checkpointed, True), lambda: made(Checkpointed, None), (4,)
    ),
    "once differentiable": (
        lambda: made(Cubic, Cube.apply), lambda: made(Cubic, lambda x: x**3), (4,)
    ),
    "a derivative by NumPy": (
        lambda: made(Cubic, NumpyCube.apply), lambda: made(Cubic, lambda x: x**3), (4,)
    ),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
@pytest.mark.parametrize("name", ONCE)
def test_what_has_no_second_derivative_says_which_methods_work_and_they_do(name):
    make, same, shape = ONCE[name]
    model, x, y = make(), normal(4, *shape), torch.arange(4) % 3
    with pytest.raises(ValueError, match="cannot be differentiated twice") as refusal:
        input_curvature(model, x, y, method="autograd")
    message = str(refusal.value)
    assert "\n" not in message
    for method in METHODS:
        assert (f"'{method}'" in message) == (method != "autograd")
        if method != "autograd":
            got = input_curvature(model, x, y, method=method)
            assert got.squared_frobenius_norm.isfinite().all()
            assert (got.squared_frobenius_norm > 0).all()
            if same is not None:
                expected = input_curvature(same(), x, y, method=method)
                assert_same(got, expected, rtol=1e-6, atol=1e-9)
    assert all(p.requires_grad and p.grad is None for p in model.parameters())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_custom_function_that_can_be_derived_twice_is_taken(dtype):
    class Twice(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x**3

        @staticmethod
        def backward(ctx, g):
            return 3 * ctx.saved_tensors[0] ** 2 * g

    x, y = normal(4, 4).to(dtype), torch.arange(4) % 3
    got, expected = (
        input_curvature(made(Cubic, cube).to(dtype), x, y, method="autograd")
        for cube in (Twice.apply, lambda x: x**3)
    )
    assert_same(got, expected, rtol=1e-4, atol=1e-5)


def test_a_layer_without_any_derivative_is_left_to_zero_order():
    class Histogram(nn.Module):
        def forward(self, x):  # of how much of x is near each of three places
            return torch.from_numpy(np.stack([np.exp(-(x.numpy() - c) ** 2).sum(1)
                                              for c in (-1, 0, 1)], 1))  # fmt: skip

    class Detached(Histogram):
        def forward(self, x):
            return super().forward(x.detach())

    x, y = normal(4, 5), torch.arange(4) % 3
    for method in METHODS[:3]:
        with pytest.raises(ValueError, match="method='zero-order' needs none"):
            input_curvature(Detached(), x, y, method=method)
    assert input_curvature(Detached(), x, y, method="zero-order").loss.isfinite().all()


def test_operations_of_higher_order_and_complex_numbers_are_watched_like_others():
    class Attends(nn.Module):
        def __init__(self):
            super().__init__()
            self.into, self.head = nn.Linear(16, 48), nn.Linear(16, 3)

        def forward(self, x):
            spectrum = torch.fft.fft(x.float()).to(torch.complex64)
            h = torch.fft.ifft(spectrum).real
            query, key, value = self.into(h).unflatten(-1, (3, 1, 16)).movedim(-3, 0)
            query, key, value = (t.transpose(1, 2) for t in (query, key, value))
            return self.head(flex_attention(query, key, value)[:, 0].mean(1))

    x, y = normal(2, 8, 16).float(), torch.tensor([0, 1])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        got = input_curvature(Attends(), x, y, method="zero-order", step=1e-2)
        assert got.squared_frobenius_norm.isfinite().all()
        with pytest.raises(ValueError, match=r"'model' \(Half\) computes in"):
            half = type("Half", (Attends,), {"forward": lambda m, x: Attends.forward(
                m, x.half().float())})  # fmt: skip
            input_curvature(half(), x, y, method="zero-order")


class Compiled(nn.Module):
    """A model of which one part was compiled by itself."""

    def __init__(self):
        super().__init__()
        self.body = torch.compile(mlp(5, 8, 6, nn.Softplus), backend="aot_eager")
        self.head = nn.Linear(6, 3).double()

    def forward(self, x):
        return self.head(self.body(x))


def in_place(model: nn.Module) -> nn.Module:
    model.compile(backend="aot_eager")
    return model


def smooth() -> nn.Module:
    return mlp(5, 8, 3, nn.Softplus)


WRAPPERS = {
    "compiled": lambda: torch.compile(smooth(), backend="aot_eager"),
    "compiled in place": lambda: in_place(smooth()),
    "replicated": lambda: nn.DataParallel(smooth()),
    "replicated and compiled": lambda: torch.compile(
        nn.DataParallel(smooth()), backend="aot_eager"
    ),
    "scripted": lambda: torch.jit.script(smooth()),
    "traced": lambda: torch.jit.trace(smooth(), normal(2, 5)),
    "checkpointed": lambda: Checkpoints(smooth()),
    "mapped": lambda: Mapped(smooth()),
}


class Checkpoints(nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return checkpoint(self.inner, x, use_reentrant=False)


class Mapped(Checkpoints):
    def forward(self, x):
        weights = dict(self.inner.named_parameters())
        return torch.vmap(
            lambda row: torch.func.functional_call(self.inner, weights, (row[None],))[0]
        )(x)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", WRAPPERS)
def test_wrappers_that_change_the_graph_give_the_scores_of_the_model_inside(
    name, method
):
    model, x, y = WRAPPERS[name](), normal(4, 5), torch.arange(4) % 3
    model(x.requires_grad_())  # compiled now, as after training
    x = x.detach()
    expected = input_curvature(smooth(), x, y, method=method)
    assert_same(
        input_curvature(model, x, y, method=method), expected, rtol=1e-6, atol=1e-9
    )


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("method", METHODS)
def test_a_part_that_is_compiled_works_with_every_method(method):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Compiled()
    x, y = normal(4, 5), torch.arange(4) % 3
    model(x.requires_grad_()).sum().backward()
    got = input_curvature(model, x.detach(), y, method=method)
    model.body = model.body._orig_mod
    assert_same(got, input_curvature(model, x.detach(), y, method=method), **EIGHT)


def test_what_is_no_module_is_refused():
    with pytest.raises(ValueError, match=r"must be a torch\.nn\.Module, got function"):
        input_curvature(lambda x: x, normal(2, 3), torch.tensor([0, 1]))


def test_recurrent_layers_run_without_cudnn_and_others_with_it():
    seen = []

    class Spy(nn.Module):
        def __init__(self, body):
            super().__init__()
            self.body = body

        def forward(self, x):
            seen.append(torch.backends.cudnn.enabled)
            out = self.body(x)
            return (out[0] if isinstance(out, tuple) else out).mean(1)

    y = torch.tensor([0, 1])
    for body, enabled in (
        (nn.GRU(4, 3, batch_first=True), False),
        (nn.Linear(4, 3), True),
    ):
        seen.clear()
        input_curvature(Spy(body), normal(2, 5, 4).float(), y)
        assert set(seen) == {enabled}
        assert torch.backends.cudnn.enabled


# ------------------------------------------------------------------ several processes

UNEVEN = """
import sys, torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from curvlib import input_curvature

rank, rendezvous, nested = int(sys.argv[1]), sys.argv[2], sys.argv[3] == "nested"
dist.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank,
                        world_size=2)
torch.manual_seed(0)
plain = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(),
                      nn.Linear(16, 3))
model = DistributedDataParallel(plain)
x, y = torch.randn(6, 1, 4, 4), torch.arange(6) % 3
nn.functional.cross_entropy(model(x), y).backward()  # as in training, on both
model.eval()
if nested:
    try:
        input_curvature(nn.Sequential(model, nn.Identity()).eval(), x, y)
    except ValueError as refusal:
        print("refused:", refusal)
elif rank == 0:  # alone, then with more chunks than the other process
    alone = input_curvature(model, x, y)
    uneven = input_curvature(model, x, y, chunk=2)
    expected = input_curvature(plain, x, y)
    for got in (alone, uneven):
        torch.testing.assert_close(got.mean_hvp_norm, expected.mean_hvp_norm,
                                   rtol=0.05, atol=1e-3)
    print("scored", len(alone.loss))
else:
    print("scored", len(input_curvature(model, x[:1], y[:1]).loss))
dist.barrier()
dist.destroy_process_group()
"""


@pytest.mark.parametrize("kind", ["whole", "nested"])
def test_one_of_two_processes_can_score_alone_and_shards_may_be_uneven(kind, tmp_path):
    script = tmp_path / "uneven.py"
    script.write_text(UNEVEN)
    processes = [
        subprocess.Popen(
            [sys.executable, script, str(rank), str(tmp_path / "meet"), kind],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT,
        )
        for rank in range(2)
    ]  # fmt: skip
    try:
        said = [process.communicate(timeout=120) for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert all(p.returncode == 0 for p in processes), said
    out = [text.strip() for text, _ in said]
    if kind == "whole":
        assert out == ["scored 6", "scored 1"]
    else:
        for line in out:
            assert line.startswith("refused: module '0' (DistributedDataParallel)")


def test_a_model_in_shards_is_refused():
    class FullyShardedDataParallel(nn.Linear):  # known by its name, never imported
        pass

    model = nn.Sequential(FullyShardedDataParallel(5, 3))
    with pytest.raises(ValueError, match=r"module '0' .*needs the other processes"):
        input_curvature(model, normal(2, 5).float(), torch.tensor([0, 1]))
