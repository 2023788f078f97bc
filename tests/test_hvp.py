"""The exact, Gauss-Newton and zero-order methods, against answers known beforehand."""

import math
import re
from itertools import pairwise, product
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from test_curvature import (
    CLOSE,
    NAMES,
    assert_same,
    convnet,
    double,
    exact_hessian,
    mlp,
    normal,
    rows_of,
    seeded,
    softmax_hessian,
    with_probes,
)
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from curvlib import hvp
from curvlib.curvature import METHODS, input_curvature, rademacher
from curvlib.runs.networks import build

WITH_GRADIENT = METHODS[:3]
EXACT = ("autograd", "gauss-newton")
TIGHT = {"rtol": 1e-10, "atol": 0}


def signs(size: int) -> torch.Tensor:
    """All sign vectors: an average over them is the expectation itself."""
    return torch.tensor(list(product([-1, 1], repeat=size)), **double)


def sequential(*layers: nn.Module) -> nn.Module:
    return nn.Sequential(*layers).double().eval()


def relu_mlp(inputs=6, classes=4, width=12) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return sequential(
            nn.Linear(inputs, width), nn.ReLU(),
            nn.Linear(width, width), nn.ReLU(),
            nn.Linear(width, classes),
        )  # fmt: skip


def relu_convnet() -> nn.Module:
    """Images [1, 2, 4]: convolution, batch norm that saw some data, ReLU, max-pool."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = sequential(
            nn.Conv2d(1, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(),
            nn.MaxPool2d(2), nn.Flatten(), nn.Linear(12, 3),
        )  # fmt: skip
    with torch.no_grad():
        model.train()(normal(32, 1, 2, 4, seed=9))
    return model.eval()


class VisionTransformer(nn.Module):
    """Images [1, 4, 4] in four patches, two encoder layers, the mean of the tokens."""

    def __init__(self):
        super().__init__()
        self.patches = nn.Conv2d(1, 8, 2, stride=2)
        self.place = nn.Parameter(torch.randn(4, 8))
        layer = nn.TransformerEncoderLayer(8, 2, 16, activation="gelu")
        layer.self_attn.batch_first = True
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        tokens = self.patches(x).flatten(2).mT + self.place
        return self.head(self.encoder(tokens).mean(1))


def vision_transformer() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return VisionTransformer().double().eval()


class HasLoss(nn.Module):
    """Two logits, such that the loss with label 1 is a given positive function of x."""

    def __init__(self, loss):
        super().__init__()
        self.loss = loss

    def forward(self, x):
        z = -torch.log(torch.expm1(self.loss(x)))  # so that log(1 + exp(-z)) is it
        return torch.stack([torch.zeros_like(z), z], 1)


def quadratic(H: torch.Tensor) -> nn.Module:
    return HasLoss(lambda x: 8 + 0.5 * torch.einsum("bi,ij,bj->b", x, H, x))


def indefinite(size: int, seed: int = 0) -> torch.Tensor:
    """A symmetric matrix whose eigenvalues are spread out on both sides of zero."""
    rotation = torch.linalg.qr(normal(size, size, seed=seed)).Q
    return rotation @ torch.linspace(-1, 2, size, **double).diag() @ rotation.T


RELU_NETS = [(relu_mlp, (6,), 4), (relu_convnet, (1, 2, 4), 3)]


def case(make, shape, classes, batch=5):
    y = torch.arange(batch) % classes
    return make(), normal(batch, *shape, seed=1), y


# ---------------------------------------------------------------- known matrices


@pytest.mark.parametrize("method", ["autograd", "finite-difference"])
def test_a_quadratic_loss_has_its_own_matrix_as_hessian_whatever_the_step(
    method, monkeypatch
):
    H = indefinite(6)
    x, y = 0.3 * normal(3, 6), torch.ones(3).long()
    got = with_probes(
        monkeypatch, signs(6), quadratic(H), x, y, method=method, step=0.1
    )
    close = {"rtol": 1e-10, "atol": 1e-10}
    square, trace = H.square().sum(), H.trace()
    torch.testing.assert_close(got.squared_frobenius_norm, square.expand(3), **close)
    torch.testing.assert_close(got.hessian_trace, trace.expand(3), **close)
    norm = (signs(6) @ H).norm(dim=1).mean()
    torch.testing.assert_close(got.mean_hvp_norm, norm.expand(3), **close)
    torch.testing.assert_close(got.gradient_norm, (x @ H).norm(dim=1), **close)
    torch.testing.assert_close(got.loss, 8 + 0.5 * ((x @ H) * x).sum(1), **close)


def test_one_probe_gives_the_trace_of_a_diagonal_hessian_exactly_even_if_negative():
    model = quadratic(torch.diag(torch.tensor([2.0, -5.0, 1.0], **double)))
    x, y = 0.1 * normal(2, 3), torch.ones(2).long()
    got = input_curvature(model, x, y, method="autograd", num_probes=1)
    torch.testing.assert_close(got.hessian_trace, torch.full((2,), -2.0, **double))


@pytest.mark.parametrize("method", EXACT)
def test_softmax_regression_has_the_hessian_of_the_textbook(method, monkeypatch):
    model = sequential(nn.Linear(6, 4))
    x, y = normal(5, 6), torch.tensor([0, 1, 2, 3, 0])
    W, b = model[0].weight.detach(), model[0].bias.detach()
    H = softmax_hessian(torch.cat([W, b[:, None]], 1), F.pad(x, (0, 1), value=1.0))
    H = H[:, :6, :6]
    got = with_probes(monkeypatch, signs(6), model, x, y, method=method)
    torch.testing.assert_close(
        got.squared_frobenius_norm, H.square().sum((1, 2)), **TIGHT
    )
    torch.testing.assert_close(
        got.hessian_trace, H.diagonal(dim1=1, dim2=2).sum(1), **TIGHT
    )


@pytest.mark.parametrize("method", EXACT)
@pytest.mark.parametrize("net", RELU_NETS, ids=["mlp", "convnet"])
def test_on_a_net_of_relus_all_three_numbers_are_those_of_torch_func_hessian(
    method, net, monkeypatch
):
    model, x, y = case(*net)
    size = x[0].numel()
    H = exact_hessian(model, x, y).reshape(len(x), size, size)
    probes = signs(size).reshape(-1, *x.shape[1:])
    got = with_probes(monkeypatch, probes, model, x, y, method=method)
    square, trace = H.square().sum((1, 2)), H.diagonal(dim1=1, dim2=2).sum(1)
    norm = (signs(size) @ H).norm(dim=2).mean(1)
    assert (square > 0).all()
    torch.testing.assert_close(got.squared_frobenius_norm, square, **TIGHT)
    torch.testing.assert_close(got.hessian_trace, trace, **TIGHT)
    torch.testing.assert_close(got.mean_hvp_norm, norm, **TIGHT)


def test_with_softplus_the_gauss_newton_trace_lacks_the_curvature_of_the_logits():
    # tr H = tr GᵀG + sum_c (p_c - [c = y]) tr(Hessian of logit c)
    model, x = mlp(activation=nn.Softplus), normal(4, 5)
    y = torch.tensor([0, 1, 2, 0])
    hessians = torch.func.vmap(torch.func.hessian(lambda z: model(z[None])[0]))(x)
    of_logits = hessians.diagonal(dim1=2, dim2=3).sum(2).detach()  # [B, C]
    residual = model(x).detach().softmax(1) - F.one_hot(y, 3)
    lacking = (residual * of_logits).sum(1)
    got = input_curvature(model, x, y, method="gauss-newton")
    H = exact_hessian(model, x, y)
    exact = H.diagonal(dim1=1, dim2=2).sum(1)
    torch.testing.assert_close(got.hessian_trace + lacking, exact)
    squares = H.square().sum((1, 2))
    for number, true in [
        (got.hessian_trace, exact), (got.squared_frobenius_norm, squares)
    ]:  # fmt: skip
        assert ((number - true).abs() > 0.05 * true.abs()).all()


@pytest.mark.parametrize("method", EXACT)
def test_the_hessian_of_a_net_of_relus_is_the_same_for_every_label(method):
    model, x, _ = case(*RELU_NETS[1])
    every = [
        input_curvature(model, x, torch.full((5,), label), method=method, num_probes=4)
        for label in range(3)
    ]
    for name in ("squared_frobenius_norm", "mean_hvp_norm", "hessian_trace"):
        first, *others = (getattr(estimate, name) for estimate in every)
        for other in others:
            torch.testing.assert_close(other, first, rtol=1e-11, atol=0)
    assert (every[0].gradient_norm - every[1].gradient_norm).abs().min() > 1e-3


def test_a_finite_difference_on_a_net_of_relus_depends_on_the_label():
    # The step is as long as the paper's on CIFAR, h·sqrt(D) = 0.06, and meets kinks.
    model, x = mlp(50, 256, 3, nn.ReLU), normal(200, 50, seed=1)
    zero, one = (
        input_curvature(
            model, x, torch.full((200,), label), num_probes=4, step=0.06 / 50**0.5
        ).squared_frobenius_norm
        for label in (0, 1)
    )
    ratio = torch.maximum(zero, one) / torch.minimum(zero, one)
    assert ratio.median() > 1.5
    exact = input_curvature(model, x, torch.zeros(200).long(), method="gauss-newton")
    assert zero.mean() > 1000 * exact.squared_frobenius_norm.mean()


# ----------------------------------------------- the finite step, and what it meets


def test_with_softplus_all_three_numbers_tend_to_those_of_autograd_as_h_shrinks():
    model, x = mlp(activation=nn.Softplus), normal(4, 5)
    y = torch.tensor([0, 1, 2, 0])
    exact = input_curvature(model, x, y, method="autograd")
    for name in ("squared_frobenius_norm", "mean_hvp_norm", "hessian_trace"):
        true = getattr(exact, name)
        errors = [
            (getattr(input_curvature(model, x, y, step=h), name) - true).abs().max()
            for h in (1e-1, 1e-2, 1e-3, 1e-4, 1e-5)
        ]
        ratios = torch.tensor([a / b for a, b in pairwise(errors)])
        assert ((ratios > 7) & (ratios < 14)).all(), (name, ratios)
        assert errors[-1] < 1e-4 * true.abs().max()


def test_one_kink_on_the_line_gives_the_square_one_over_eight_h():
    # Logits (relu(x), 0) with label 1: the gradient jumps by 1/2 at 0. Of samples
    # spread evenly over [-1, 1], a share h/2 has it in reach: h/2 · (1/2h)² = 1/8h.
    class Kink(nn.Module):
        def forward(self, x):
            return torch.cat([x.relu(), torch.zeros_like(x)], 1)

    x = torch.linspace(-1, 1, 200_001, **double)[:, None] + 1e-9
    y = torch.ones(len(x)).long()
    for h in (1e-1, 1e-2, 1e-3):
        both = torch.stack([
            input_curvature(
                Kink(), sign * x, y, num_probes=1, step=h
            ).squared_frobenius_norm.mean()
            for sign in (1, -1)  # the probe with one sign, and by symmetry the other
        ])  # fmt: skip
        smooth = input_curvature(Kink(), x, y, method="gauss-newton")
        kinks = both.mean() - smooth.squared_frobenius_norm.mean()
        torch.testing.assert_close(kinks.item(), 1 / (8 * h), rtol=2 * h, atol=0)


def test_on_a_net_of_relus_the_square_grows_as_one_over_h_and_the_norm_levels_off():
    # A share ~h of the samples has a given kink in reach, where Δ is ~1/h: so the mean
    # square goes as 1/h. The mean norm tends to a constant, and not to the exact one.
    model, x = mlp(10, 32, 3, nn.ReLU), normal(2000, 10, seed=1)
    y = torch.randint(3, (2000,), generator=seeded(2))
    steps = torch.tensor([10**-1.5, 1e-2, 10**-2.5, 1e-3])
    squares, norms = torch.tensor([
        [got.squared_frobenius_norm.mean(), got.mean_hvp_norm.mean()]
        for got in (
            input_curvature(model, x, y, num_probes=50, step=h, generator=seeded(7))
            for h in steps.tolist()
        )
    ]).T  # fmt: skip

    def slope(values):
        return (values.log().diff() / steps.log().diff()).mean().item()

    assert -1.15 < slope(squares) < -0.85
    assert -0.15 < slope(norms) < 0.15
    exact = input_curvature(model, x, y, method="gauss-newton")
    assert squares[-1] > 1000 * exact.squared_frobenius_norm.mean()
    assert norms.min() > 5 * exact.mean_hvp_norm.mean()


def test_a_step_that_meets_no_kink_of_a_relu_net_gives_the_exact_hessian_products():
    model, x, y = case(*RELU_NETS[0])
    finite = input_curvature(model, x, y, step=1e-6)
    exact = input_curvature(model, x, y, method="autograd")
    assert_same(finite, exact, rtol=1e-3, atol=1e-6)


# ------------------------------------------------------------ variance over probes


def test_the_variance_of_one_probe_is_the_formula_over_all_sign_vectors(monkeypatch):
    H = indefinite(8)
    x, y = 0.1 * normal(1, 8), torch.tensor([1])
    got = with_probes(monkeypatch, signs(8), quadratic(H), x, y, method="autograd")
    square = H @ H
    formula = 2 * (square.square().sum() - square.diagonal().square().sum())
    # standard_error² = sum of squared deviations / (K - 1) / K
    variance = got.standard_error.square() * (256 - 1)
    torch.testing.assert_close(variance, formula[None], **TIGHT)


def test_the_variance_of_the_trace_is_the_formula_over_all_sign_vectors(monkeypatch):
    H = indefinite(6)
    x, y = 0.1 * normal(1, 6), torch.tensor([1])
    traces = torch.cat([
        with_probes(
            monkeypatch, v[None], quadratic(H), x, y, method="autograd"
        ).hessian_trace
        for v in signs(6)
    ])  # fmt: skip
    formula = 2 * (H.square().sum() - H.diagonal().square().sum())
    torch.testing.assert_close(traces.mean(), H.trace(), **TIGHT)
    torch.testing.assert_close(traces.var(correction=0), formula, **TIGHT)


@pytest.mark.parametrize("method", ["autograd", "finite-difference"])
def test_the_interval_of_1_96_standard_errors_covers_in_95_of_100_repeats(
    method, monkeypatch
):
    H = indefinite(40)
    x, y = (0.02 * normal(1, 40)).expand(500, -1), torch.ones(500).long()
    probes = rademacher(150, (500, 40), generator=seeded(1))  # each repeat its own
    got = with_probes(monkeypatch, probes, quadratic(H), x, y, method=method)
    error = got.squared_frobenius_norm - H.square().sum()
    covered = error.abs() < 1.96 * got.standard_error
    assert abs(covered.double().mean() - 0.95) <= 0.03
    assert abs(error.mean()) < 4 * error.std() / 500**0.5  # unbiased


def test_gauss_newton_has_no_error_and_one_probe_an_unknown_one():
    model, x, y = case(*RELU_NETS[0])
    exact = input_curvature(model, x, y, method="gauss-newton", num_probes=1)
    assert (exact.standard_error == 0).all()
    for method in ("autograd", "zero-order"):
        one = input_curvature(model, x, y, method=method, num_probes=1)
        assert one.standard_error.isnan().all()


def test_gauss_newton_squares_and_traces_take_no_chance_but_the_norm_does():
    model, x, y = case(*RELU_NETS[0])
    a, b = (
        input_curvature(model, x, y, method="gauss-newton", generator=seeded(i))
        for i in range(2)
    )
    assert torch.equal(a.squared_frobenius_norm, b.squared_frobenius_norm)
    assert torch.equal(a.hessian_trace, b.hessian_trace)
    assert (a.mean_hvp_norm != b.mean_hvp_norm).all()


# ------------------------------------------------------------------ the products


def test_products_take_one_vector_for_all_samples_or_one_each():
    model, x, y = case(*RELU_NETS[1])
    v = rademacher(1, x.shape[1:], generator=seeded())[0].double()
    for _, multiply in (
        hvp.double_backward(model, x, y),
        hvp.finite_difference(model, x, y, step=1e-3),
    ):
        assert torch.equal(multiply(v), multiply(v.expand_as(x).clone()))


def test_exact_products_are_linear_and_symmetric():
    model, x, y = convnet(), normal(4, 3, 6, 6), torch.tensor([0, 1, 2, 0])
    _, multiply = hvp.double_backward(model, x, y)
    u, v = normal(4, 3, 6, 6, seed=1), normal(4, 3, 6, 6, seed=2)
    torch.testing.assert_close(
        multiply(2 * u - 3 * v), 2 * multiply(u) - 3 * multiply(v)
    )
    torch.testing.assert_close(
        (u * multiply(v)).flatten(1).sum(1), (v * multiply(u)).flatten(1).sum(1)
    )


def test_the_factor_gives_back_the_matrix_and_has_rank_one_less_than_the_classes():
    model, x, y = case(*RELU_NETS[0])
    _, factor = hvp.gauss_newton_factor(model, x, y)
    torch.testing.assert_close(factor.mT @ factor, exact_hessian(model, x, y))
    assert torch.linalg.matrix_rank(factor, rtol=1e-10).max() == 3  # of 4 classes
    # Rows weighted by sqrt(p) add up to zero; the label's row comes first.
    p = model(x).detach().softmax(1)
    rest = torch.ones_like(p).scatter(1, y[:, None], 0).bool()
    others = p[rest].reshape(5, 3).sort(descending=True).values
    weights = torch.cat([p.gather(1, y[:, None]), others], 1).sqrt()
    zero = torch.einsum("bk,bkd->bd", weights, factor)
    torch.testing.assert_close(zero, torch.zeros(5, 6, **double))


# --------------------------------------------------------- the most probable classes


def test_fewer_classes_never_give_more_and_all_of_them_give_everything():
    model = mlp(5, 12, 6, nn.ReLU)
    x, y = normal(20, 5), torch.arange(20) % 6
    by_k = [
        input_curvature(model, x, y, method="gauss-newton", top_k=k)
        for k in (1, 2, 3, 4, 5, 6, None)
    ]
    assert_same(by_k[5], by_k[6], rtol=0, atol=0)
    for name in ("squared_frobenius_norm", "hessian_trace"):
        values = torch.stack([getattr(estimate, name) for estimate in by_k[:6]])
        assert (values.diff(dim=0) >= -1e-14).all(), name
        assert (values[0] < 0.9 * values[5]).any(), name
    for estimate in by_k:
        assert torch.equal(estimate.gradient_norm, by_k[0].gradient_norm)


def test_the_given_class_alone_gives_its_probability_times_the_squared_gradient():
    # J_y - J̄ is minus the gradient, so the only term is p_y ‖∇L‖².
    model, x, y = case(*RELU_NETS[0])
    got = input_curvature(model, x, y, method="gauss-newton", top_k=1)
    expected = (-got.loss).exp() * got.gradient_norm**2
    torch.testing.assert_close(got.hessian_trace, expected, **TIGHT)
    torch.testing.assert_close(got.squared_frobenius_norm, expected**2, **TIGHT)


def test_the_given_class_is_used_however_improbable_it_is():
    model, x, _ = case(*RELU_NETS[0])
    model[-1].bias.data[0] = -60.0
    y = torch.zeros(5).long()
    got = input_curvature(model, x, y, method="gauss-newton", top_k=1)
    assert (got.logits.softmax(1)[:, 0] < 1e-20).all()
    expected = (-got.loss).exp() * got.gradient_norm**2
    torch.testing.assert_close(got.hessian_trace, expected, rtol=1e-9, atol=0)
    two = input_curvature(model, x, y, method="gauss-newton", top_k=2)
    assert (two.hessian_trace > 1e10 * got.hessian_trace).all()


@pytest.mark.parametrize("top_k", [0, -1, 5])
def test_a_number_of_classes_outside_one_to_c_is_refused(top_k):
    model, x, y = case(*RELU_NETS[0])
    with pytest.raises(ValueError, match=rf"\[1, C = 4\], got {top_k}$"):
        input_curvature(model, x, y, method="gauss-newton", top_k=top_k)


@pytest.mark.parametrize("method", ["finite-difference", "autograd", "zero-order"])
def test_a_number_of_classes_is_refused_by_the_other_methods(method):
    model, x, y = case(*RELU_NETS[0])
    with pytest.raises(ValueError, match=f"'gauss-newton', got it with '{method}'"):
        input_curvature(model, x, y, method=method, top_k=2)


@pytest.mark.parametrize("method", WITH_GRADIENT)
def test_every_gradient_method_gives_the_same_gradient_loss_and_logits(method):
    model, x, y = convnet(), normal(4, 3, 6, 6), torch.tensor([0, 1, 2, 0])
    got = input_curvature(model, x, y, method=method, num_probes=1)
    leaf = x.clone().requires_grad_()
    logits = model(leaf)
    loss = F.cross_entropy(logits, y, reduction="none")
    loss.sum().backward()
    close = {"rtol": 1e-12, "atol": 1e-12}
    norm = leaf.grad.flatten(1).norm(dim=1)
    torch.testing.assert_close(got.gradient_norm, norm, **close)
    torch.testing.assert_close(got.loss, loss.detach(), **close)
    torch.testing.assert_close(got.logits, logits.detach(), **close)


# -------------------------------------------------------------- losses and nothing else


class GradientFree(nn.Module):
    """A model behind glass: it answers, but cannot be differentiated."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        with torch.no_grad():
            return self.inner(x).detach()


def all_pairs(size: int) -> torch.Tensor:
    every = signs(size)
    return torch.stack([v for pair in product(every, every) for v in pair])


def test_zero_order_over_all_pairs_of_sign_vectors_is_the_trace_of_h_squared(
    monkeypatch,
):
    model, x, y = sequential(nn.Linear(4, 3)), normal(5, 4), torch.arange(5) % 3
    exact = exact_hessian(model, x, y).square().sum((1, 2))
    errors = []
    for step in (1e-1, 1e-2, 1e-3):
        got = with_probes(
            monkeypatch, all_pairs(4), model, x, y, method="zero-order", step=step
        )
        errors.append((got.squared_frobenius_norm / exact - 1).abs().max())
    assert errors[0] > 50 * errors[1] > 50 * 50 * errors[2]  # truncation goes as h²
    assert errors[2] < 1e-5


def test_zero_order_is_exact_on_a_quadratic_whatever_the_step(monkeypatch):
    H = indefinite(4)
    x, y = 0.1 * normal(2, 4), torch.ones(2).long()
    got = with_probes(
        monkeypatch, all_pairs(4), quadratic(H), x, y, method="zero-order", step=0.3
    )
    square = H.square().sum().expand(2)
    torch.testing.assert_close(got.squared_frobenius_norm, square)
    forms = (signs(4) @ H @ signs(4).T).flatten()
    error = forms.square().std() / 256**0.5
    torch.testing.assert_close(got.standard_error, error.expand(2))


@pytest.mark.parametrize(
    ("direction", "ratio"),
    [([1.0, 0.0, 0.0], (math.pi / 2) ** 0.5), ([1.0, 1.0, 0.0], math.pi**0.5 / 2)],
    ids=["one coordinate", "two coordinates"],
)
def test_the_zero_order_norm_is_off_at_most_as_documented(
    direction, ratio, monkeypatch
):
    w = torch.tensor(direction, **double)
    H, x, y = 3 * w[:, None] * w, 0.1 * normal(1, 3), torch.tensor([1])
    options = {"method": "zero-order", "step": 0.3}
    got = with_probes(monkeypatch, all_pairs(3), quadratic(H), x, y, **options)
    exact = (signs(3) @ H).norm(dim=1).mean()
    torch.testing.assert_close((got.mean_hvp_norm / exact).item(), ratio)


def test_the_zero_order_norm_is_right_where_the_product_is_spread():
    H = indefinite(60)
    x, y = (0.01 * normal(1, 60)).expand(3, -1), torch.ones(3).long()
    options = {"method": "zero-order", "num_probes": 3000, "step": 0.02}
    got = input_curvature(quadratic(H), x, y, generator=seeded(4), **options)
    probes = rademacher(3000, (60,), generator=seeded(5)).double()
    torch.testing.assert_close(
        got.mean_hvp_norm[0], (probes @ H).norm(dim=1).mean(), rtol=0.05, atol=0
    )


def test_zero_order_in_float32_loses_nothing_to_the_rounding_of_losses():
    # Entries that are multiples of 1/64 make the logits exact in float32 as well.
    model = sequential(nn.Linear(4, 3, bias=False))
    weight = torch.randint(-2, 3, (3, 4), generator=seeded()).double()
    x = torch.randint(-64, 65, (5, 4), generator=seeded(1)).double() / 64
    model[0].weight.data = weight
    y, options = torch.arange(5) % 3, {"method": "zero-order", "step": 1 / 64}
    full = input_curvature(model, x, y, **options)
    single = input_curvature(model.float(), x.float(), y, **options)
    torch.testing.assert_close(
        single.squared_frobenius_norm,
        full.squared_frobenius_norm.float(),
        rtol=1e-5,
        atol=0,
    )


def test_a_model_without_gradient_works_with_zero_order_as_the_same_with_one_does():
    model, x, y = case(*RELU_NETS[1])
    options = {"method": "zero-order", "num_probes": 3}
    without = input_curvature(GradientFree(model), x, y, **options)
    assert_same(without, input_curvature(model, x, y, **options), rtol=0, atol=0)
    assert without.squared_frobenius_norm.isfinite().all()


@pytest.mark.parametrize("method", WITH_GRADIENT)
def test_a_model_without_gradient_is_refused_by_the_others_which_name_zero_order(
    method,
):
    model, x, y = case(*RELU_NETS[1])
    with pytest.raises(ValueError, match="method='zero-order' needs none"):
        input_curvature(GradientFree(model), x, y, method=method)


def test_what_zero_order_cannot_know_is_nan():
    model, x, y = case(*RELU_NETS[0])
    got = input_curvature(model, x, y, method="zero-order")
    for name in NAMES:
        unknown = name in ("hessian_trace", "gradient_norm")
        values = getattr(got, name)
        assert len(values) == 5
        assert (values.isnan() if unknown else values.isfinite()).all(), name


# ------------------------------------------------------------------------- cost


class Counted(nn.Module):
    """Count what passes: forwards, and gradients that come back to the input."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner
        self.forwards = self.backwards = 0

    def forward(self, x):
        self.forwards += 1
        x = x + 0
        if x.requires_grad:
            x.register_hook(self.count)
        return self.inner(x)

    def count(self, _):
        self.backwards += 1


@pytest.mark.parametrize(
    ("options", "forwards", "backwards"),
    [
        ({"method": "finite-difference"}, 7 + 1, 7 + 1),
        ({"method": "autograd"}, 1, 7 + 1),
        ({"method": "gauss-newton"}, 1, 4 + 1),
        ({"method": "gauss-newton", "top_k": 2}, 1, 2 + 1),
        ({"method": "zero-order"}, 4 * 7 + 1, 0),
    ],
    ids=["finite-difference", "autograd", "gauss-newton", "top two", "zero-order"],
)
@pytest.mark.parametrize("chunks", [1, 3])
def test_the_passes_are_as_many_as_the_table_of_methods_says(
    options, forwards, backwards, chunks
):
    model, x, y = case(*RELU_NETS[0], batch=6)
    model = Counted(model)
    input_curvature(model, x, y, num_probes=7, chunk=6 // chunks, **options)
    # One more forward, of two samples: whether company changes the first one's logits.
    assert model.forwards == chunks * forwards + 1
    assert model.backwards == chunks * backwards


def test_the_table_of_methods_in_the_book_names_them_all_in_order_with_their_passes():
    page = Path(__file__).parents[1] / "book" / "method.md"
    table = page.read_text(encoding="utf-8").split("| method | what it measures |")[1]
    rows = re.findall(r"^\| `([\w-]+)` \|.*\| (.*) \|.*\|$", table, re.MULTILINE)[:4]
    assert tuple(name for name, _ in rows) == METHODS
    passes = ["$K + 1$, $K + 1$", "$1$, $K + 1$", "$1$, $C + 1$", "$4K + 1$, none"]
    assert [cell for _, cell in rows] == passes


# ------------------------------------------------------------------- transformers


def test_the_exact_products_of_a_vision_transformer_are_those_of_torch_func_hessian():
    model, x, y = vision_transformer(), normal(3, 1, 4, 4), torch.tensor([0, 1, 2])
    with sdpa_kernel(SDPBackend.MATH):
        H = exact_hessian(model, x, y).reshape(3, 16, 16)
    v = rademacher(20, (1, 4, 4), generator=seeded(1)).double()
    got = input_curvature(
        model, x, y, method="autograd", num_probes=20, generator=seeded(1)
    )
    products = v.flatten(1) @ H  # [B, K, D]
    norms = products.norm(dim=2)
    torch.testing.assert_close(got.mean_hvp_norm, norms.mean(1), **TIGHT)
    torch.testing.assert_close(got.squared_frobenius_norm, (norms**2).mean(1), **TIGHT)
    trace = (products * v.flatten(1)).sum(2).mean(1)
    torch.testing.assert_close(got.hessian_trace, trace, rtol=1e-9, atol=0)


def test_every_method_takes_a_vision_transformer():
    model, x, y = vision_transformer(), normal(3, 1, 4, 4), torch.tensor([0, 1, 2])
    exact = input_curvature(model, x, y, method="autograd", generator=seeded(1))
    finite = input_curvature(model, x, y, step=1e-6, generator=seeded(1))
    assert_same(finite, exact, rtol=1e-4, atol=1e-7)

    with sdpa_kernel(SDPBackend.MATH):
        jacobians = torch.func.vmap(torch.func.jacrev(lambda z: model(z[None])[0]))(x)
        H = exact_hessian(model, x, y).reshape(3, 16, 16)
    J = jacobians.detach().flatten(2)
    p = exact.logits.softmax(1)
    GN = J.mT @ (torch.diag_embed(p) - p[:, :, None] * p[:, None, :]) @ J
    newton = input_curvature(model, x, y, method="gauss-newton")
    torch.testing.assert_close(newton.squared_frobenius_norm, GN.square().sum((1, 2)))

    losses = input_curvature(
        model, x, y, method="zero-order", num_probes=4, generator=seeded(2)
    )
    pairs = rademacher(8, (16,), generator=seeded(2)).double()
    forms = torch.einsum("ki,bij,kj->kb", pairs[::2], H, pairs[1::2])
    squares = forms.square().mean(0)
    torch.testing.assert_close(
        losses.squared_frobenius_norm, squares, rtol=1e-3, atol=1e-8
    )


@pytest.mark.parametrize("method", METHODS)
def test_float32_attention_and_layer_norm_are_taken_by_every_method(method):
    model = vision_transformer().float()
    x, y = normal(64, 1, 4, 4).float(), torch.arange(64) % 3
    got = input_curvature(model, x, y, method=method, step=1e-2)
    assert got.squared_frobenius_norm.dtype == torch.float32
    assert got.squared_frobenius_norm.isfinite().all()


# ------------------------------------------- a deterministic function of one sample


class AlwaysDrops(nn.Linear):
    def forward(self, x):
        return super().forward(F.dropout(x, 0.5, training=True))


class BatchStatistics(nn.Linear):
    def forward(self, x):
        return super().forward((x - x.mean(0)) / (x.std(0, correction=0) + 1e-3))


class LeaksALittle(nn.Linear):
    def forward(self, x):
        z = super().forward(x)
        return z + 0.01 * z.mean(0)


class RemembersEarlierCalls(nn.Linear):
    calls = 0

    def forward(self, x):
        self.calls += 1
        return super().forward(x) + self.calls


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "kind", [AlwaysDrops, BatchStatistics, LeaksALittle, RemembersEarlierCalls]
)
@pytest.mark.parametrize("options", [{}, {"chunk": 1}], ids=["whole", "one by one"])
def test_a_forward_that_draws_mixes_or_remembers_is_refused_though_in_eval_mode(
    kind, method, options
):
    model = kind(20, 3).double().eval()
    x, y = normal(4, 20), torch.tensor([0, 1, 2, 0])
    message = "first sample's logits differ by .* in other company.*mixes the samples"
    with pytest.raises(ValueError, match=message):
        input_curvature(model, x, y, method=method, **options)


@pytest.mark.parametrize("kind", [AlwaysDrops, BatchStatistics])
def test_such_a_forward_is_refused_for_a_single_sample_too(kind):
    with pytest.raises(ValueError, match="in other company"):
        input_curvature(kind(20, 3).double(), normal(1, 20), torch.tensor([0]))


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(4, 6, num_layers=2, dropout=0.3, batch_first=True)
        self.head = nn.Linear(6, 3)

    def forward(self, x):
        return self.head(self.lstm(x)[0][:, -1])


def flat(*layers: nn.Module) -> nn.Module:
    return nn.Sequential(*layers, nn.Flatten(), nn.LazyLinear(3)).eval()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (lambda: flat(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU()), (2, 6, 6)),
        (lambda: flat(nn.Conv2d(2, 4, 3), nn.GroupNorm(2, 4), nn.GELU()), (2, 6, 6)),
        (lambda: flat(nn.Conv2d(2, 4, 3), nn.InstanceNorm2d(4), nn.SiLU()), (2, 6, 6)),
        (lambda: flat(nn.Conv1d(2, 4, 3), nn.Dropout(), nn.RReLU()), (2, 9)),
        (lambda: flat(nn.Conv3d(1, 2, 2), nn.Dropout3d(), nn.Tanh()), (1, 3, 3, 3)),
        (lambda: flat(nn.LayerNorm(7), nn.AlphaDropout(), nn.SELU()), (7,)),
        (lambda: flat(nn.Conv2d(2, 2, 3), nn.AdaptiveAvgPool2d(2)), (2, 8, 8)),
        (lambda: Recurrent().eval(), (5, 4)),
        (lambda: vision_transformer().float(), (1, 4, 4)),
    ],
    ids=["batch norm", "group norm", "instance norm", "1-D", "3-D", "layer norm",
         "pooling", "recurrent", "transformer"],
)  # fmt: skip
def test_a_model_in_eval_mode_of_every_kind_is_taken(make, shape, dtype):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = make()
        model(torch.zeros(2, *shape))  # lazy layers learn their size
    model, x = model.to(dtype), normal(6, *shape).to(dtype)
    y = torch.arange(6) % 3
    for method in METHODS:
        got = input_curvature(model, x, y, method=method, num_probes=2, step=1e-2)
        assert got.squared_frobenius_norm.isfinite().all(), method


def test_a_deep_net_in_float32_is_not_refused_for_its_rounding():
    # Two samples and sixty-four round differently; depth and layer norm magnify it.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        blocks = [
            nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.LayerNorm(64))
            for _ in range(20)
        ]
        layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True)
        attention = nn.TransformerEncoder(layer, 8, enable_nested_tensor=False)
    resnet = build("resnet18", num_classes=10, input_shape=(3, 16, 16), width=8)
    y = torch.arange(64) % 10
    for model, shape in [
        (resnet, (3, 16, 16)),
        (nn.Sequential(*blocks), (64,)),
        (nn.Sequential(attention, nn.Flatten()), (4, 32)),
    ]:
        x = 10 * torch.randn(64, *shape, generator=seeded())
        got = input_curvature(model.eval(), x, y, method="zero-order", num_probes=1)
        assert got.loss.isfinite().all()


# ------------------------------------------------------------------- flat losses


@pytest.mark.parametrize("method", METHODS)
def test_constant_logits_have_no_curvature(method):
    model = sequential(nn.Linear(5, 3))
    model[0].weight.data.zero_()
    x, y = normal(4, 5), torch.tensor([0, 1, 2, 0])
    got = input_curvature(model, x, y, method=method)
    assert (got.squared_frobenius_norm == 0).all()
    assert (got.mean_hvp_norm == 0).all()
    if method != "zero-order":
        assert (got.hessian_trace == 0).all()
        assert (got.gradient_norm == 0).all()


def test_a_loss_linear_in_x_has_a_gradient_and_no_curvature():
    w = normal(5)
    model, x = HasLoss(lambda x: 8 + x @ w), 0.1 * normal(4, 5)
    got = input_curvature(model, x, torch.ones(4).long(), method="autograd")
    torch.testing.assert_close(got.gradient_norm, w.norm().expand(4))
    torch.testing.assert_close(got.mean_hvp_norm, torch.zeros(4, **double))


@pytest.mark.parametrize("wanted", [False, True], ids=["no graph", "one without x"])
def test_a_gradient_whose_graph_does_not_reach_x_means_no_curvature(wanted):
    slopes = torch.ones(3, **double, requires_grad=wanted)  # a tensor, no parameter

    class Slopes(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, slopes):
            ctx.save_for_backward(slopes)
            return x.clone()

        @staticmethod
        def backward(ctx, _):
            return ctx.saved_tensors[0].expand(2, 3), None

    class Linear(nn.Module):
        def forward(self, x):
            return Slopes.apply(x, slopes)

    got = input_curvature(
        Linear(), normal(2, 3), torch.tensor([0, 1]), method="autograd"
    )
    assert (got.squared_frobenius_norm == 0).all()
    torch.testing.assert_close(got.gradient_norm, torch.full((2,), 3**0.5, **double))


@pytest.mark.parametrize("method", METHODS)
def test_a_sample_fitted_beyond_doubt_has_curvature_zero_and_not_nan(method):
    model = sequential(nn.Linear(3, 2, bias=False))
    model[0].weight.data = torch.tensor([[1.0, 0, 0], [-1.0, 0, 0]], **double)
    x = torch.tensor([[1e4, 0, 0]], **double)
    got = input_curvature(model, x, torch.tensor([0]), method=method)
    for name in ("squared_frobenius_norm", "mean_hvp_norm", "standard_error", "loss"):
        assert (getattr(got, name) == 0).all(), name


@pytest.mark.parametrize("method", METHODS)
def test_one_class_has_no_curvature(method):
    got = input_curvature(
        mlp(5, 4, 1), normal(2, 5), torch.tensor([0, 0]), method=method
    )
    assert (got.squared_frobenius_norm == 0).all()


# ------------------------------------------------------- what every method promises


NETS = {
    "mlp": (mlp, (5,)),
    "relu": (lambda: mlp(5, 16, 3, nn.ReLU), (5,)),
    "convnet": (convnet, (3, 6, 6)),
    "relu convnet": (relu_convnet, (1, 2, 4)),
    "transformer": (vision_transformer, (1, 4, 4)),
}


@settings(max_examples=60, deadline=None)
@given(
    method=st.sampled_from(METHODS),
    net=st.sampled_from(sorted(NETS)),
    rows=st.lists(st.integers(0, 5), min_size=1, max_size=8),
    chunk=st.integers(1, 9),
    num_probes=st.integers(1, 3),
    seed=st.integers(0, 1000),
)
def test_a_score_depends_on_its_own_sample_alone_with_every_method(
    method, net, rows, chunk, num_probes, seed
):
    make, shape = NETS[net]
    model, x, y = make(), normal(6, *shape, seed=seed), torch.arange(6) % 3
    before = {name: value.clone() for name, value in model.state_dict().items()}

    def score(rows, **options):
        return input_curvature(
            model, x[rows], y[rows], method=method, num_probes=num_probes, step=1e-2,
            generator=seeded(seed), **options,
        )  # fmt: skip

    # Any order, repeats, batches of one, any chunk. A loss rounded at 1e-16 over h²
    # leaves 1e-12 in zero-order.
    assert_same(score(rows, chunk=chunk), rows_of(score(list(range(6))), rows), **CLOSE)
    assert_same(score(rows), score(rows), rtol=0, atol=0)
    torch.testing.assert_close(dict(model.state_dict()), before, rtol=0, atol=0)
    assert all(p.requires_grad and p.grad is None for p in model.parameters())
    assert not model.training or net in ("mlp", "relu")


@settings(max_examples=40, deadline=None)
@given(
    batch=st.integers(1, 4),
    shape=st.lists(st.integers(1, 3), min_size=1, max_size=3),
    classes=st.integers(1, 5),
    width=st.integers(1, 8),
    activation=st.sampled_from([nn.ReLU, nn.Softplus, nn.Tanh]),
    seed=st.integers(0, 1000),
)
def test_any_shape_keeps_the_inequalities_and_relu_makes_both_exact_methods_one(
    batch, shape, classes, width, activation, seed
):
    size = math.prod(shape)
    model = nn.Sequential(nn.Flatten(), mlp(size, width, classes, activation, seed))
    x = normal(batch, *shape, seed=seed)
    y = torch.randint(classes, (batch,), generator=seeded(seed))
    exact, newton = (
        input_curvature(model, x, y, method=method, num_probes=3, generator=seeded(1))
        for method in EXACT
    )
    slack = 1e-12
    for got in (exact, newton):
        assert all(len(getattr(got, name)) == batch for name in NAMES)
        assert got.logits.shape == (batch, classes)
        assert (got.squared_frobenius_norm >= 0).all()
    # Jensen; and ‖Hv‖ is at most the spectral norm times ‖v‖ = sqrt(D).
    assert (exact.squared_frobenius_norm >= exact.mean_hvp_norm**2 - slack).all()
    square, trace = newton.squared_frobenius_norm, newton.hessian_trace
    assert (newton.mean_hvp_norm <= (size * square).sqrt() + slack).all()
    # Positive semi-definite, of rank at most C - 1.
    assert (trace >= 0).all()
    assert (square <= trace**2 + slack).all()
    assert (trace**2 <= min(classes - 1, size) * square + slack).all()
    torch.testing.assert_close(newton.gradient_norm, exact.gradient_norm)
    if activation is nn.ReLU:
        torch.testing.assert_close(newton.mean_hvp_norm, exact.mean_hvp_norm)


@pytest.mark.parametrize("method", EXACT)
@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_float32_agrees_with_float64_to_a_thousandth_with_the_exact_methods(
    method, activation
):
    model = build(
        "slim_resnet",
        num_classes=10,
        input_shape=(3, 12, 12),
        width=8,
        activation=activation,
    ).eval()
    x, y = normal(16, 3, 12, 12), torch.arange(16) % 10
    options = {"method": method, "num_probes": 3}
    single = input_curvature(model, x.float(), y, generator=seeded(1), **options)
    full = input_curvature(model.double(), x, y, generator=seeded(1), **options)
    for name in NAMES:
        a, b = getattr(single, name), getattr(full, name)
        assert a.dtype == torch.float32 and b.dtype == torch.float64
        scale = b.abs().max()
        torch.testing.assert_close(a.double(), b, rtol=1e-3, atol=1e-4 * scale.item())


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("fails", [False, True])
def test_every_method_leaves_the_model_as_it_found_it(method, fails):
    model, x = convnet(), normal(4, 3, 6, 6)
    y = torch.tensor([0, 1, 2, 3 if fails else 0])
    model[0].weight.requires_grad_(False)
    model[5].weight.grad = torch.ones_like(model[5].weight)

    def everything():
        return (
            {name: value.clone() for name, value in model.state_dict().items()},
            [(p.requires_grad, p.grad is None) for p in model.parameters()],
            [module.training for module in model.modules()],
            torch.get_rng_state(),
        )

    before = everything()
    if fails:
        with pytest.raises(ValueError, match=r"lie in \[0, C\) = \[0, 3\), got 3"):
            input_curvature(model, x, y, method=method)
    else:
        input_curvature(model, x, y, method=method)
    torch.testing.assert_close(everything(), before, rtol=0, atol=0)
    assert (model[5].weight.grad == 1).all()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_every_method_works_where_the_caller_switched_gradients_off(method, mode):
    model, x, y = case(*RELU_NETS[1])
    expected = input_curvature(model, x, y, method=method)
    with mode():
        got = input_curvature(model, x.clone(), y.clone(), method=method)
    assert_same(got, expected, rtol=0, atol=0)
