r"""Input loss curvature of every sample, by finite differences of input gradients.

At weights :math:`\theta`, for the loss L of one sample x with its label and Rademacher
probes v (entries ±1, not normalised),

.. math:: \Delta(v) = \frac{\nabla_x L(x + h v) - \nabla_x L(x)}{h} \approx H v .

Since :math:`E[v v^T] = I`, the mean of :math:`\|H v\|^2` over probes is
:math:`\mathrm{tr}(H^2) = \|H\|_F^2`. The paper (Garg, Ravikumar and Roy, ICML 2024)
averages the square; its released code averages the norm itself. Both are returned.

"Curvature" names several things in the literature: tr H, tr H², E‖Hv‖, or one step
along the sign of the gradient. The names below say which is meant.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields

import torch
import torch.nn.functional as F
from torch import Tensor, nn

METHODS = ("finite-difference",)


@dataclass(frozen=True, kw_only=True)
class CurvatureEstimate:
    """What one call learns about B samples, all detached and on the inputs' device.

    Attributes:
        squared_frobenius_norm: Mean over probes of ‖Δ(v)‖², shape [B], in squared loss
            per fourth power of the input unit; the paper's formula.
        mean_hvp_norm: Mean over probes of ‖Δ(v)‖, shape [B], in loss per squared input
            unit; what the released code averages.
        standard_error: Of squared_frobenius_norm over probes, shape [B]; NaN for a
            single probe, which has no spread.
        gradient_norm: ‖∇ₓL(x)‖, shape [B], in loss per input unit.
        loss: Cross-entropy at x, shape [B], in nats.
        logits: The model's output at x, shape [B, C].
    """

    squared_frobenius_norm: Tensor
    mean_hvp_norm: Tensor
    standard_error: Tensor
    gradient_norm: Tensor
    loss: Tensor
    logits: Tensor


def input_curvature(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    method: str = "finite-difference",
    num_probes: int = 10,
    step: float = 1e-3,
    generator: torch.Generator | None = None,
    chunk: int | None = None,
) -> CurvatureEstimate:
    """Curvature of the cross-entropy around each sample, one value a sample.

    All samples share one set of probes, shape [K, *input], drawn from the generator. So
    a sample's score depends on the sample, the weights and the generator's state alone,
    not on the batch that it came in. The clean gradient is computed once: K + 1
    forward and backward passes in all.

    The step is part of the score. On a network of ReLUs the difference does not tend
    to the Hessian as the step shrinks: it is governed by the kinks that a segment of
    length ``step * sqrt(D)`` crosses.

    The model is left as it was found: mode, ``.grad``, ``requires_grad``, buffers. TF32
    and autocast are off inside, since they swamp a step of 1e-3.

    Args:
        model: Any module that maps x to logits, shape [B, C], each row a deterministic
            function of one sample: call ``model.eval()`` first.
        x: Inputs, float32 or float64, shape [B, *input], normalised as in training.
        y: Labels that were trained on, integers, shape [B], in [0, C).
        method: ``"finite-difference"``, the paper's.
        num_probes: Number of probes K.
        step: h, the length of a step in each coordinate of x.
        generator: Source of the probes; the same state gives the same scores. By
            default a new one of seed 0, so that a repeated call repeats its result.
        chunk: Samples held in memory at once; None: all of x.

    Returns:
        The estimates, each of shape [B] in the order of x.

    Raises:
        ValueError: If an argument has the wrong shape, range or type, the input or the
            output is not finite, or the model mixes samples or draws random numbers.

    Source:
        Garg, Ravikumar and Roy, *Memorization Through the Lens of Curvature of Loss
        Function Around Samples*, ICML 2024.

    Example:
        A linear model's Hessian is known: Wᵀ(diag p − p pᵀ)W.

        >>> model = nn.Linear(2, 2, bias=False).double()
        >>> with torch.no_grad():
        ...     _ = model.weight.copy_(torch.tensor([[1.0, 0.0], [-1.0, 0.0]]))
        >>> x, y = torch.zeros(1, 2).double(), torch.tensor([0])  # p = (1/2, 1/2)
        >>> estimate = input_curvature(model, x, y, step=1e-6)  # H = diag(1, 0)
        >>> round(estimate.squared_frobenius_norm.item(), 4)
        1.0
    """
    _check(model, x, y, method, num_probes, step, chunk)
    if generator is None:
        generator = torch.Generator().manual_seed(0)
    probes = rademacher(num_probes, x.shape[1:], generator=generator).to(x)
    pieces = []
    with _exact_arithmetic(x.device.type), _frozen(model):
        for part in range(0, len(x), chunk or len(x)):
            rows = slice(part, part + (chunk or len(x)))
            pieces.append(_finite_difference(model, x[rows], y[rows], probes, step))
    estimate = CurvatureEstimate(
        **{
            field.name: torch.cat([getattr(piece, field.name) for piece in pieces])
            for field in fields(CurvatureEstimate)
        }
    )
    _refuse_non_finite("the model's output", estimate.logits)
    return estimate


def rademacher(
    num_probes: int, shape: tuple[int, ...], *, generator: torch.Generator
) -> Tensor:
    """Rademacher probes: entries ±1 with equal chance, shape [num_probes, *shape]."""
    size = (num_probes, *shape)
    bits = torch.randint(2, size, generator=generator, device=generator.device)
    return 2 * bits - 1


def _finite_difference(
    model: nn.Module, x: Tensor, y: Tensor, probes: Tensor, step: float
) -> CurvatureEstimate:
    gradient, loss, logits = _input_gradient(model, x, y)

    def hvp_norm(v: Tensor) -> Tensor:
        shifted, _, _ = _input_gradient(model, x + step * v, y)
        return ((shifted - gradient) / step).flatten(1).norm(dim=1)

    norms = torch.stack([hvp_norm(v) for v in probes])  # [K, B]
    squares = norms.square()
    num_probes = len(probes)
    # With one probe this is 0 / 0: NaN, as it should be.
    variance = (squares - squares.mean(0)).square().sum(0) / (num_probes - 1)
    return CurvatureEstimate(
        squared_frobenius_norm=squares.mean(0),
        mean_hvp_norm=norms.mean(0),
        standard_error=(variance / num_probes).sqrt(),
        gradient_norm=gradient.flatten(1).norm(dim=1),
        loss=loss,
        logits=logits,
    )


def _input_gradient(
    model: nn.Module, x: Tensor, y: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradient [B, *input], loss [B] and logits [B, C]."""
    # An inference tensor can't enter autograd; a copy made here can.
    x = (x.clone() if x.is_inference() else x.detach()).requires_grad_()
    y = y.clone() if y.is_inference() else y
    logits = model(x)
    if getattr(logits, "ndim", None) != 2 or len(logits) != len(x):
        raise ValueError(
            f"model must return logits of shape [B, C] = [{len(x)}, C], got "
            f"{list(getattr(logits, 'shape', ())) or type(logits).__name__}"
        )
    if y.max() >= logits.shape[1]:
        raise ValueError(
            f"labels must lie in [0, C) = [0, {logits.shape[1]}), got {y.max().item()}"
        )
    loss = F.cross_entropy(logits, y.long(), reduction="none")
    if not loss.requires_grad:
        raise ValueError(
            "the model's output does not depend on x by differentiable operations: "
            "finite differences need its input gradient"
        )
    # The sum, not the mean: a sample's gradient must not depend on the batch size.
    (gradient,) = torch.autograd.grad(loss.sum(), x)
    return gradient, loss.detach(), logits.detach()


def _check(model, x, y, method, num_probes, step, chunk) -> None:
    if method not in METHODS:
        raise ValueError(f"unknown method {method!r}: expected one of {METHODS}")
    if x.dtype not in (torch.float32, torch.float64):
        raise ValueError(
            f"x must be float32 or float64, got {x.dtype}: differences over a small "
            "step drown in the rounding of half precision; use x.float()"
        )
    if x.ndim < 2 or not len(x):
        raise ValueError(
            f"x must have shape [B, *input] with B > 0, got {list(x.shape)}"
        )
    if y.shape != (len(x),) or y.is_floating_point() or y.dtype == torch.bool:
        raise ValueError(
            f"y must hold one integer label for each of the {len(x)} samples, got "
            f"{y.dtype} of shape {list(y.shape)}"
        )
    if y.min() < 0:
        raise ValueError(f"labels must lie in [0, C), got {y.min().item()}")
    if num_probes < 1:
        raise ValueError(f"num_probes must be at least 1, got {num_probes!r}")
    if not 0 < step < float("inf"):
        raise ValueError(f"step must be positive and finite, got {step!r}")
    if chunk is not None and chunk < 1:
        raise ValueError(f"chunk must be at least 1, or None for all, got {chunk!r}")
    _refuse_non_finite("x", x)
    for name, module in model.named_modules():
        if _mixes_samples(module):
            raise ValueError(
                f"module {name or 'model'!r} ({type(module).__name__}) makes a loss "
                "depend on the batch, on chance or on earlier calls; call model.eval() "
                "first, and give batch norm running statistics"
            )


def _mixes_samples(module: nn.Module) -> bool:
    if isinstance(module, nn.modules.batchnorm._BatchNorm):
        return module.training or module.running_mean is None
    if isinstance(module, nn.modules.dropout._DropoutNd):
        return module.training and module.p > 0
    if isinstance(module, nn.modules.instancenorm._InstanceNorm):
        return module.training and module.running_mean is not None
    if isinstance(module, nn.RReLU):
        return module.training
    # Recurrent and attention layers carry their own dropout.
    rate = getattr(module, "dropout", 0.0)
    return module.training and isinstance(rate, float) and rate > 0


def _refuse_non_finite(what: str, values: Tensor) -> None:
    finite = values.flatten(1).isfinite().all(1)
    if not finite.all():
        first = int((~finite).nonzero()[0, 0])
        raise ValueError(
            f"{what} holds NaN or infinity for {int((~finite).sum())} of "
            f"{len(finite)} samples, first for sample {first} of the batch"
        )


@contextmanager
def _frozen(model: nn.Module) -> Iterator[None]:
    """No gradients for the weights: nobody wants them, and they cost time."""
    wanted = [p for p in model.parameters() if p.requires_grad]
    for parameter in wanted:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in wanted:
            parameter.requires_grad_(True)


@contextmanager
def _exact_arithmetic(device_type: str) -> Iterator[None]:
    """Full float32: no TF32, no autocast; with gradients, whatever the caller set."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with (
            torch.inference_mode(False),
            torch.enable_grad(),
            torch.autocast(device_type, enabled=False),
            torch.backends.cudnn.flags(
                enabled=torch.backends.cudnn.enabled,
                benchmark=torch.backends.cudnn.benchmark,
                deterministic=torch.backends.cudnn.deterministic,
                allow_tf32=False,
            ),
        ):
            yield
    finally:
        torch.set_float32_matmul_precision(before)
