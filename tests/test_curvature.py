from dataclasses import fields
from itertools import product

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from curvlib import curvature
from curvlib.curvature import CurvatureEstimate, input_curvature, rademacher

NAMES = [field.name for field in fields(CurvatureEstimate)]
double = {"dtype": torch.float64}


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=seeded(seed), **double)


def mlp(inputs=5, width=8, classes=3, activation=nn.Tanh, seed=0) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layers = (nn.Linear(inputs, width), activation(), nn.Linear(width, classes))
        return nn.Sequential(*layers).double()


def convnet() -> nn.Module:
    """Convolution, batch norm with statistics of its own, dropout; evaluation mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(
            nn.Conv2d(3, 4, 3, padding=1),
            nn.BatchNorm2d(4),
            nn.Softplus(),
            nn.Dropout(0.5),
            nn.Flatten(),
            nn.Linear(4 * 6 * 6, 3),
        ).double()
    with torch.no_grad():
        model(normal(16, 3, 6, 6, seed=9))  # moves the running statistics
    return model.eval()


def softmax_hessian(W: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    p = (x @ W.T).softmax(1)
    return W.T @ (torch.diag_embed(p) - p[:, :, None] * p[:, None, :]) @ W


def exact_hessian(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """[B, D, D], slow and obvious: one sample at a time."""

    def loss(xi, yi):
        return F.cross_entropy(model(xi[None]), yi[None])

    hessians = [torch.func.hessian(loss)(xi, yi) for xi, yi in zip(x, y, strict=True)]
    return torch.stack(hessians).detach()


def assert_same(a: CurvatureEstimate, b: CurvatureEstimate, **tolerance):
    for name in NAMES:
        torch.testing.assert_close(
            getattr(a, name), getattr(b, name), msg=lambda m, n=name: f"{n}: {m}",
            equal_nan=True, **tolerance,
        )  # fmt: skip


def with_probes(monkeypatch, probes, *arguments, **options) -> CurvatureEstimate:
    """The estimate for probes of our own instead of drawn ones."""
    with monkeypatch.context() as patch:
        patch.setattr(curvature, "rademacher", lambda *_, **__: probes)
        return input_curvature(*arguments, num_probes=len(probes), **options)


def test_softmax_regression_over_all_sign_vectors_gives_the_trace_of_h_squared(
    monkeypatch,
):
    # All 2^D sign vectors give the expectation itself, so the answer is exact.
    W, x, y = normal(4, 6), normal(3, 6, seed=1), torch.tensor([0, 1, 3])
    model = nn.Linear(6, 4, bias=False).double()
    model.weight.data = W
    signs = torch.tensor(list(product([-1, 1], repeat=6)), **double)
    got = with_probes(monkeypatch, signs, model, x, y, step=1e-6)
    H = softmax_hessian(W, x)
    trace_of_square = H.square().sum((1, 2))
    torch.testing.assert_close(
        got.squared_frobenius_norm, trace_of_square, rtol=1e-4, atol=0
    )
    norms = (signs @ H).norm(dim=2)  # [B, 64]
    torch.testing.assert_close(got.mean_hvp_norm, norms.mean(1), rtol=1e-4, atol=0)


@pytest.mark.parametrize("activation", [nn.Tanh, nn.Softplus])
def test_the_difference_tends_to_the_hessian_product_linearly_in_the_step(activation):
    model, x = mlp(activation=activation), normal(4, 5)
    y = torch.tensor([0, 1, 2, 0])
    v = rademacher(7, (5,), generator=seeded(3)).double()
    exact = (v @ exact_hessian(model, x, y)).norm(dim=2).square().mean(1)

    def error(step):
        got = input_curvature(model, x, y, num_probes=7, step=step, generator=seeded(3))
        return (got.squared_frobenius_norm - exact).abs()

    assert (error(1e-5) < 1e-3 * exact).all()
    ratio = error(1e-3) / error(1e-4)
    assert ((ratio > 8) & (ratio < 12)).all(), ratio


def test_the_mean_over_seeded_probes_is_within_four_standard_errors_of_tr_h_squared():
    model, x, y = mlp(), normal(6, 5), torch.tensor([0, 1, 2, 0, 1, 2])
    got = input_curvature(model, x, y, num_probes=2000, step=1e-6, generator=seeded(5))
    exact = exact_hessian(model, x, y).square().sum((1, 2))
    distance = (got.squared_frobenius_norm - exact) / got.standard_error
    assert distance.abs().max() < 4
    assert (got.standard_error < 0.1 * exact).all()  # else four of them prove little


def test_norms_and_standard_error_are_those_of_the_k_products_by_hand(monkeypatch):
    model, x, y = mlp(), normal(4, 5), torch.tensor([0, 1, 2, 0])
    together = input_curvature(model, x, y, num_probes=6, generator=seeded())
    probes = rademacher(6, (5,), generator=seeded()).double()
    each = [with_probes(monkeypatch, v[None], model, x, y) for v in probes]
    norms = torch.stack([e.mean_hvp_norm for e in each])
    squares = norms**2
    torch.testing.assert_close(together.mean_hvp_norm, norms.mean(0))
    torch.testing.assert_close(together.squared_frobenius_norm, squares.mean(0))
    torch.testing.assert_close(together.standard_error, squares.std(0) / 6**0.5)


def test_one_probe_has_no_standard_error():
    got = input_curvature(mlp(), normal(2, 5), torch.tensor([0, 1]), num_probes=1)
    assert got.standard_error.isnan().all()
    torch.testing.assert_close(got.squared_frobenius_norm, got.mean_hvp_norm**2)


def test_gradient_norm_loss_and_logits_are_those_of_autograd():
    model, x, y = convnet(), normal(4, 3, 6, 6), torch.tensor([0, 1, 2, 0])
    got = input_curvature(model, x, y, num_probes=1)
    for i in range(4):
        xi = x[i : i + 1].clone().requires_grad_()
        loss = F.cross_entropy(model(xi), y[i : i + 1])
        loss.backward()
        torch.testing.assert_close(got.gradient_norm[i], xi.grad.norm())
        torch.testing.assert_close(got.loss[i], loss.detach())
        torch.testing.assert_close(got.logits[i], model(xi)[0].detach())
    assert not any(getattr(got, name).requires_grad for name in NAMES)


def test_rademacher_entries_are_signs_and_both_are_as_frequent():
    v = rademacher(50, (20, 20), generator=seeded())
    assert v.shape == (50, 20, 20)
    assert set(v.unique().tolist()) == {-1, 1}
    assert abs(v.double().mean().item()) < 4 / v.numel() ** 0.5


@settings(max_examples=25, deadline=None)
@given(
    batch=st.integers(1, 5),
    shape=st.lists(st.integers(1, 4), min_size=1, max_size=3),
    classes=st.integers(1, 5),
    width=st.integers(1, 6),
    num_probes=st.integers(1, 4),
    seed=st.integers(0, 1000),
)
def test_any_shape_agrees_with_the_exact_hessian_on_the_very_probes(
    batch, shape, classes, width, num_probes, seed
):
    size = torch.Size(shape).numel()
    inner = mlp(size, width, classes, seed=seed)
    model = nn.Sequential(nn.Flatten(), inner)
    x = normal(batch, *shape, seed=seed)
    y = torch.randint(classes, (batch,), generator=seeded(seed))
    got = input_curvature(
        model, x, y, num_probes=num_probes, step=1e-6, generator=seeded(seed)
    )
    H = exact_hessian(inner, x.flatten(1), y)
    v = rademacher(num_probes, tuple(shape), generator=seeded(seed))
    norms = (v.flatten(1).double() @ H).norm(dim=2)  # [B, K]
    close = {"rtol": 1e-3, "atol": 1e-6}
    torch.testing.assert_close(got.mean_hvp_norm, norms.mean(1), **close)
    torch.testing.assert_close(got.squared_frobenius_norm, (norms**2).mean(1), **close)
    # Jensen: a mean of squares is no smaller than the square of the mean.
    assert (got.squared_frobenius_norm >= got.mean_hvp_norm**2 * (1 - 1e-12)).all()
    assert got.logits.shape == (batch, classes)
    for name in set(NAMES) - {"logits"}:
        assert getattr(got, name).shape == (batch,)


def test_scaling_the_logits_of_one_weight_vector_scales_the_hessian_with_it():
    # At x = 0 softmax is uniform whatever W, so H is quadratic in W, H² quartic.
    model = nn.Linear(5, 3, bias=False).double()
    twice = nn.Linear(5, 3, bias=False).double()
    twice.weight.data = 2 * model.weight.data
    x, y = torch.zeros(1, 5, **double), torch.tensor([1])
    one, two = (input_curvature(m, x, y, step=1e-7) for m in (model, twice))
    ratio = two.squared_frobenius_norm / one.squared_frobenius_norm
    torch.testing.assert_close(ratio.item(), 16.0, rtol=1e-5, atol=0)


EIGHT = normal(8, 3, 6, 6, seed=4), torch.tensor([0, 1, 2, 0, 1, 2, 0, 1])
CLOSE = {"rtol": 1e-9, "atol": 1e-9}


def score_eight(rows=None, **options) -> CurvatureEstimate:
    x, y = EIGHT
    rows = range(8) if rows is None else rows
    options = {"num_probes": 3, "generator": seeded(2)} | options
    return input_curvature(convnet(), x[rows], y[rows], **options)


def rows_of(estimate: CurvatureEstimate, rows) -> CurvatureEstimate:
    return CurvatureEstimate(**{n: getattr(estimate, n)[rows] for n in NAMES})


@pytest.mark.parametrize("chunk", [1, 3, 8, 100])
def test_a_score_does_not_depend_on_the_chunk(chunk):
    # A gradient of rounding 1e-16 over a step of 1e-3 leaves 1e-13 of noise.
    assert_same(score_eight(chunk=chunk), score_eight(), **CLOSE)


@pytest.mark.parametrize(
    "rows", [[7, 6, 5, 4, 3, 2, 1, 0], [3], [0, 5], [2, 2, 2]],
    ids=["reversed", "batch of one", "others gone", "its own copies"],
)  # fmt: skip
def test_a_score_does_not_depend_on_the_batch(rows):
    assert_same(score_eight(rows), rows_of(score_eight(), rows), **CLOSE)


def test_the_same_generator_state_gives_the_same_bits_and_another_gives_others():
    assert_same(score_eight(), score_eight(), rtol=0, atol=0)
    other = score_eight(generator=seeded(3))
    assert (other.mean_hvp_norm != score_eight().mean_hvp_norm).all()
    torch.testing.assert_close(other.loss, score_eight().loss)


def test_the_generator_moves_on_so_a_second_call_meets_other_probes():
    generator = seeded(2)
    first, second = score_eight(generator=generator), score_eight(generator=generator)
    assert_same(first, score_eight(), rtol=0, atol=0)
    assert (first.mean_hvp_norm != second.mean_hvp_norm).all()


def test_without_a_generator_a_call_repeats_itself():
    repeated = score_eight(generator=None), score_eight(generator=None)
    assert_same(*repeated, rtol=0, atol=0)
    assert_same(repeated[0], score_eight(generator=seeded(0)), rtol=0, atol=0)


def test_the_released_algorithm_divided_by_the_batch_and_not_by_the_step_agrees():
    def released(model, x, y, probes, h):
        # As published: batch-mean loss, two forwards a probe, the norm unsquared.
        total = torch.zeros(len(x), **double)
        for v in probes:
            x = x.detach().requires_grad_()
            moved, clean = model(x + h * v), model(x)
            difference = F.cross_entropy(moved, y) - F.cross_entropy(clean, y)
            (gradient,) = torch.autograd.grad(difference, x)
            flat = gradient.reshape(len(x), -1)
            total += (flat @ flat.T).diagonal().sqrt()
        return total / len(probes)

    h, (x, y) = 1e-3, EIGHT
    probes = rademacher(3, x.shape[1:], generator=seeded(2)).double()
    published = released(convnet(), x, y, probes, h)
    ours = score_eight().mean_hvp_norm
    torch.testing.assert_close(published * len(x) / h, ours, rtol=1e-9, atol=1e-9)


def everything_about(model: nn.Module) -> dict:
    return {
        "modes": [module.training for module in model.modules()],
        "state": {k: v.clone() for k, v in model.state_dict().items()},
        "grad": [
            None if p.grad is None else p.grad.clone() for p in model.parameters()
        ],
        "wanted": [p.requires_grad for p in model.parameters()],
        "random": torch.get_rng_state(),
        "exact": torch.get_float32_matmul_precision() == "highest",
        "enabled": torch.is_grad_enabled(),
        "tf32": torch.backends.cudnn.allow_tf32,
    }


@pytest.mark.parametrize("fails", [False, True])
def test_the_model_and_the_global_settings_are_left_as_they_were(fails):
    model = convnet()
    model[0].weight.requires_grad_(False)
    model[5].weight.grad = torch.ones_like(model[5].weight)
    model[2].train()  # softplus: a mode without a meaning
    x, y = EIGHT[0].clone(), EIGHT[1].clone()
    if fails:
        y[0] = 3
    torch.set_float32_matmul_precision("medium")
    try:
        before = everything_about(model)
        if fails:
            with pytest.raises(ValueError, match="labels must lie in"):
                input_curvature(model, x, y)
        else:
            input_curvature(model, x, y)
        after = everything_about(model)
    finally:
        torch.set_float32_matmul_precision("highest")
    torch.testing.assert_close(after, before, rtol=0, atol=0)
    assert not before["exact"]
    assert x.grad is None and not x.requires_grad
    assert torch.equal(x, EIGHT[0])


def test_the_matrix_products_inside_are_exact_whatever_the_caller_chose():
    seen = []

    class Spy(nn.Linear):
        def forward(self, x):
            seen.append(torch.backends.cuda.matmul.fp32_precision)
            seen.append(torch.backends.cudnn.conv.fp32_precision)
            seen.append(torch.backends.mkldnn.conv.fp32_precision)
            return super().forward(x)

    torch.set_float32_matmul_precision("medium")
    try:
        input_curvature(Spy(5, 2).double(), normal(1, 5), torch.tensor([0]))
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")
    assert set(seen) == {"ieee"}


def test_tf32_switched_on_in_torch_s_newer_way_is_off_inside_and_on_again_after():
    torch.backends.cuda.matmul.fp32_precision = "tf32"
    try:
        input_curvature(mlp(), normal(1, 5), torch.tensor([0]))
        assert torch.backends.cuda.matmul.fp32_precision == "tf32"
    finally:
        torch.backends.cuda.matmul.fp32_precision = "none"


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_it_works_where_the_caller_switched_gradients_off(mode):
    model, expected = convnet(), score_eight()
    with mode():
        x, y = EIGHT[0].clone(), EIGHT[1].clone()  # inference tensors in inference mode
        got = input_curvature(model, x, y, num_probes=3, generator=seeded(2))
    assert_same(got, expected, rtol=0, atol=0)


def test_autocast_changes_nothing():
    x, y = EIGHT[0].float(), EIGHT[1]
    model = convnet().float()
    plain = input_curvature(model, x, y)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert model(x).dtype == torch.bfloat16  # it was on
        cast = input_curvature(model, x, y)
    assert_same(cast, plain, rtol=0, atol=0)


def test_labels_of_any_integer_type_will_do():
    x, y = EIGHT
    a, b = (input_curvature(convnet(), x, y.to(t)) for t in (torch.int32, torch.uint8))
    assert_same(a, b, rtol=0, atol=0)


class WithAttention(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(4, 1, dropout=0.1, batch_first=True)

    def forward(self, x):
        return self.attention(x, x, x)[0].mean(1)


@pytest.mark.parametrize(
    ("model", "shape", "culprit"),
    [
        (convnet().train(), (2, 3, 6, 6), "'1' .BatchNorm2d"),
        (nn.Sequential(nn.Dropout(0.1), nn.Linear(5, 2)), (2, 5), "'0' .Dropout"),
        (nn.Sequential(nn.AlphaDropout(0.1), nn.Linear(5, 2)), (2, 5), "AlphaDropout"),
        (nn.BatchNorm1d(5, track_running_stats=False).eval(), (2, 5), "'model'"),
        (nn.Sequential(nn.Linear(5, 2), nn.RReLU()), (2, 5), "'1' .RReLU"),
        (nn.InstanceNorm1d(5, track_running_stats=True), (2, 5), "InstanceNorm1d"),
        (nn.TransformerEncoderLayer(4, 1, dropout=0.1), (2, 3, 4), "self_attn"),
        (WithAttention(), (2, 3, 4), "'attention' .MultiheadAttention"),
        (nn.LSTM(4, 2, num_layers=2, dropout=0.5), (2, 3, 4), "LSTM"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else None,
)
def test_a_model_that_mixes_samples_or_draws_random_numbers_is_refused(
    model, shape, culprit
):
    with pytest.raises(ValueError, match=rf"{culprit}.*call model.eval"):
        input_curvature(model, torch.zeros(shape), torch.tensor([0, 1]))


@pytest.mark.parametrize(
    "model",
    [
        nn.Sequential(nn.Dropout(0.0), nn.Linear(4, 2)),
        nn.Sequential(nn.LayerNorm(4), nn.Linear(4, 2)),
        nn.Sequential(nn.Dropout(0.5), nn.Linear(4, 2)).eval(),
        WithAttention().eval(),
    ],
    ids=["no dropout", "layer norm", "evaluation", "attention"],
)
def test_a_deterministic_model_is_taken_even_with_such_layers(model):
    shape = (2, 3, 4) if isinstance(model, WithAttention) else (2, 4)
    x = torch.randn(shape, generator=seeded())
    got = input_curvature(model, x, torch.tensor([0, 1]))
    assert got.squared_frobenius_norm.isfinite().all()


class Returns(nn.Module):
    """A linear model whose answer is spoilt by a function."""

    def __init__(self, spoil):
        super().__init__()
        self.linear = nn.Linear(5, 2).double()
        self.spoil = spoil

    def forward(self, x):
        return self.spoil(self.linear(x))


GOOD = normal(3, 5), torch.tensor([0, 1, 1])
NAN, INFINITE = normal(3, 5), normal(3, 5)
NAN[1, 2] = float("nan")
INFINITE[2, 0] = float("inf")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"method": "magic"}, "unknown method 'magic': expected one of"),
        ({"x": GOOD[0].half()}, "float32 or float64, got torch.float16.*x.float"),
        ({"x": GOOD[0].bfloat16()}, "float32 or float64, got torch.bfloat16"),
        ({"x": torch.zeros(3, 5, dtype=torch.uint8)}, "got torch.uint8"),
        ({"x": torch.zeros(3)}, r"shape \[B, \*input\] with B > 0, got \[3\]"),
        ({"x": torch.zeros(0, 5), "y": torch.zeros(0).long()}, r"got \[0, 5\]"),
        ({"x": NAN}, "x holds NaN or infinity for 1 of 3 samples, first for sample 1"),
        ({"x": INFINITE}, "x holds NaN or infinity.*first for sample 2"),
        ({"y": torch.tensor([0, 1])}, r"each of the 3 samples, got .* shape \[2\]"),
        ({"y": torch.tensor([[0], [1], [1]])}, r"shape \[3, 1\]"),
        ({"y": torch.tensor([0.0, 1.0, 1.0])}, "integer label.*torch.float32"),
        ({"y": torch.tensor([True, False, True])}, "integer label.*torch.bool"),
        ({"y": torch.tensor([0, 1, 2])}, r"lie in \[0, C\) = \[0, 2\), got 2"),
        ({"y": torch.tensor([0, -1, 1])}, r"lie in \[0, C\), got -1"),
        ({"num_probes": 0}, "num_probes must be at least 1, got 0"),
        ({"step": 0.0}, "step must be positive and finite, got 0.0"),
        ({"step": -1e-3}, "step must be positive and finite, got -0.001"),
        ({"step": float("nan")}, "step must be positive and finite, got nan"),
        ({"step": float("inf")}, "step must be positive and finite, got inf"),
        ({"chunk": 0}, "chunk must be at least 1, or None for all, got 0"),
        ({"model": Returns(lambda z: z[:, 0])}, r"\[B, C\] = \[3, C\], got \[3\]"),
        ({"model": Returns(lambda z: z[:1])}, r"\[3, C\], got \[1, 2\]"),
        ({"model": Returns(torch.detach)}, "does not depend on x by differentiable"),
        ({"model": Returns(lambda z: z / 0)}, "output holds NaN or infinity for 3"),
    ],
)  # fmt: skip
def test_what_cannot_be_right_is_refused_with_a_reason(changed, message):
    arguments = {"model": Returns(lambda z: z), "x": GOOD[0], "y": GOOD[1]} | changed
    with pytest.raises(ValueError, match=message):
        input_curvature(**arguments)


def test_a_model_that_returns_a_tuple_is_refused():
    model = Returns(lambda z: (z, z))
    with pytest.raises(ValueError, match=r"model must return logits.*tuple"):
        input_curvature(model, *GOOD)


def test_the_sample_named_as_not_finite_is_counted_in_x_whatever_the_chunk():
    x = normal(6, 5)
    x[4, 0] = 1e6
    model = Returns(lambda z: torch.where(z.abs() > 1e3, z / 0, z))
    with pytest.raises(ValueError, match="for 1 of 6 samples, first for sample 4"):
        input_curvature(model, x, torch.zeros(6).long(), chunk=2)


def test_a_step_lost_in_rounding_is_refused():
    model, x, y = mlp().float(), normal(4, 5).float() + 100, torch.tensor([0, 1, 2, 0])
    with pytest.raises(ValueError, match=r"step 1e-12 is lost in the rounding"):
        input_curvature(model, x, y, step=1e-12)


@pytest.mark.parametrize("method", curvature.METHODS)
def test_a_first_layer_that_works_in_place_leaves_the_inputs_alone(method):
    model = nn.Sequential(nn.ReLU(inplace=True), nn.Linear(5, 3)).double()
    x, y = normal(4, 5), torch.tensor([0, 1, 2, 0])
    before = x.clone()
    input_curvature(model, x, y, method=method)
    assert torch.equal(x, before)
