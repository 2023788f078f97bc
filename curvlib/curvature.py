r"""Input loss curvature of every sample, by one of four methods.

At weights :math:`\theta`, for the loss L of one sample x with its label, Hessian
:math:`H = \nabla_x^2 L`, and Rademacher probes v (entries ±1, not normalised),

.. math::
    \Delta(v) = \frac{\nabla_x L(x + h v) - \nabla_x L(x)}{h} \approx H v, \qquad
    E\|H v\|^2 = \mathrm{tr}(H^2) = \|H\|_F^2 ,

since :math:`E[v v^T] = I` (Hutchinson 1989). The paper (Garg, Ravikumar and Roy, ICML
2024) averages the square. Its released code averages the norm. The function returns
both.

"Curvature" has several meanings in the literature: tr H, tr H², E‖Hv‖, or one step
along the sign of the gradient. The names below say which one is meant.
"""

from dataclasses import dataclass, fields
from numbers import Integral, Real

import torch
from torch import Tensor, nn

from curvlib import hvp, models

METHODS = ("finite-difference", "autograd", "gauss-newton", "zero-order")


@dataclass(frozen=True, kw_only=True)
class CurvatureEstimate:
    """Estimates for B samples, all detached and on the device of the inputs.

    Attributes:
        squared_frobenius_norm: ‖H‖²_F = tr(H²), shape [B], in squared loss per fourth
            power of the input unit: mean over probes of ‖Δ(v)‖², the paper's formula.
        mean_hvp_norm: E‖Hv‖, shape [B], in loss per squared input unit: mean over
            probes of ‖Δ(v)‖, what the released code averages.
        standard_error: Of squared_frobenius_norm over probes, shape [B]; NaN for a
            single probe, which has no spread, and 0 for ``"gauss-newton"``.
        hessian_trace: tr H, shape [B], in loss per squared input unit: mean over probes
            of vᵀΔ(v); NaN for ``"zero-order"``.
        gradient_norm: ‖∇ₓL(x)‖, shape [B], in loss per input unit; NaN for
            ``"zero-order"``.
        loss: Cross-entropy at x, shape [B], in nats.
        logits: The model's output at x, shape [B, C].
    """

    squared_frobenius_norm: Tensor
    mean_hvp_norm: Tensor
    standard_error: Tensor
    hessian_trace: Tensor
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
    top_k: int | None = None,
) -> CurvatureEstimate:
    """Curvature of the cross-entropy around each sample, one value for each.

    All samples share one set of probes, shape [K, *input], drawn from the generator. A
    sample's score therefore depends on the sample, the weights and the generator's
    state, and not on the rest of the batch.

    The methods are different scores, not approximations of each other:

    - ``"finite-difference"``, the paper's: K + 1 forward and backward passes. The step
      is part of the score. On a network of ReLUs the difference does not converge to
      the Hessian as the step shrinks: it depends on the kinks that a segment of length
      ``step * sqrt(D)`` crosses.
    - ``"autograd"``: exact products Hv by differentiating twice.
    - ``"gauss-newton"``: tr(H²) and tr H without sampling, from C + 1 backward passes.
      For a piecewise linear network this is the exact Hessian, which ignores the label.
      ``mean_hvp_norm`` still uses probes, at almost no cost.
    - ``"zero-order"``: 4 K + 1 forward passes, for models without a gradient. Pairs of
      probes (v, u) give (vᵀHu)² for ‖Hv‖², and sqrt(π/2) times the absolute value of
      vᵀHu for ‖Hv‖. The second is right if Hv spreads over many coordinates; otherwise
      it is up to 25% too large (one coordinate) or 11% too small (two). In float32
      choose a step of 1e-2 or more.

    The function does not change the model: mode, ``.grad``, ``requires_grad``, buffers
    and hooks stay as they were. It works on a copy whose batch norms are folded into
    the convolutions, if the copy gives the same logits and the model has no hooks. It
    turns off TF32 and autocast, whose rounding is too coarse for a step of 1e-3.

    Args:
        model: Any module that maps x to logits, shape [B, C], each row a deterministic
            function of one sample: call ``model.eval()`` first. Wrappers for several
            processes or for compilation are removed.
        x: Inputs, float32 or float64, shape [B, *input], normalised as in training.
        y: Labels used in training, integers, shape [B], in [0, C).
        method: One of ``METHODS``.
        num_probes: Number of probes K.
        step: h, the length of a step in each coordinate of x; the exact methods ignore
            it.
        generator: Source of the probes; the same state gives the same scores. The
            default is a new one with seed 0, so a second call gives the same result.
        chunk: Number of samples in memory at once; None: all of x.
        top_k: For ``"gauss-newton"``, the number of classes to use: the label and the
            most probable others. Traces are then too small, never too large.

    Returns:
        The estimates, each of shape [B] in the order of x.

    Raises:
        ValueError: If an argument has the wrong shape, range or type; the input or the
            output is not finite; or the model mixes samples, draws random numbers,
            computes too coarsely (in half precision, quantised), or lacks the
            derivatives of the method, in which case the message names others.

    Source:
        Garg, Ravikumar and Roy, *Memorization Through the Lens of Curvature of Loss
        Function Around Samples*, ICML 2024.

    Example:
        A linear model's Hessian is known: Wᵀ(diag p − p pᵀ)W.

        >>> model = nn.Linear(2, 2, bias=False).double()
        >>> with torch.no_grad():
        ...     _ = model.weight.copy_(torch.tensor([[1.0, 0.0], [-1.0, 0.0]]))
        >>> x, y = torch.zeros(1, 2).double(), torch.tensor([0])  # p = (1/2, 1/2)
        >>> for method in ("finite-difference", "autograd", "gauss-newton"):
        ...     estimate = input_curvature(model, x, y, method=method)  # H = diag(1, 0)
        ...     print(round(estimate.squared_frobenius_norm.item(), 4))
        1.0
        1.0
        1.0
    """
    model = models.unwrapped(model)
    _check(x, y, method, num_probes, step, chunk, top_k)
    models.refuse_mixing(model)
    if generator is None:
        generator = torch.Generator().manual_seed(0)
    pairs = 2 if method == "zero-order" else 1
    probes = rademacher(pairs * num_probes, x.shape[1:], generator=generator).to(x)
    pieces = []
    with models.exact_arithmetic(model, x.device.type), models.frozen(model):
        seen = models.inspected(model, x, step=step)
        fast = models.folded_if_same(model, x[:4]) or model
        for start in range(0, len(x), chunk or len(x)):
            rows = slice(start, start + (chunk or len(x)))
            piece = _estimate(method, fast, x[rows], y[rows], probes, step, top_k)
            pieces.append(piece)
        estimate = CurvatureEstimate(
            **{
                field.name: torch.cat([getattr(piece, field.name) for piece in pieces])
                for field in fields(CurvatureEstimate)
            }
        )
        _refuse_non_finite("the model's output", estimate.logits)
        models.refuse_company(model, x, seen, estimate.logits)
    return estimate


def rademacher(
    num_probes: int, shape: tuple[int, ...], *, generator: torch.Generator
) -> Tensor:
    """Draw Rademacher probes: entries ±1 with equal probability.

    Args:
        num_probes: Number of probes K.
        shape: Shape of one input.
        generator: Source of randomness; the probes are on its device.

    Returns:
        Integers, shape [K, *shape].
    """
    size = (num_probes, *shape)
    bits = torch.randint(2, size, generator=generator, device=generator.device)
    return 2 * bits - 1


def _estimate(method, model, x, y, probes, step, top_k) -> CurvatureEstimate:
    """From products to numbers, for one chunk: K probes, B samples."""
    if method == "gauss-newton":
        at_x, factor = hvp.gauss_newton_factor(model, x, y, top_k=top_k)  # G [B, k, D]
        gram = factor @ factor.mT  # [B, k, k]: the same eigenvalues except for zeros
        u = torch.einsum("bkd,nd->nbk", factor, probes.flatten(1))  # G v
        norms = (
            torch.einsum("nbk,bkl,nbl->nb", u, gram, u).clamp_min(0).sqrt()
        )  # ‖GᵀGv‖
        squares = gram.square().sum((1, 2))[None]  # exact, so one is enough
        trace = gram.diagonal(dim1=1, dim2=2).sum(1)
    elif method == "zero-order":
        at_x, form = hvp.second_difference(model, x, y, step=step)
        pairs = probes.unflatten(0, (-1, 2))
        forms = torch.stack([form(v, u) for v, u in pairs])  # [K, B]
        # For u Gaussian E|uᵀw| = sqrt(2/π) ‖w‖; for signs nearly so, if w is spread.
        norms, squares = forms.abs() * (torch.pi / 2) ** 0.5, forms.square()
        trace = torch.full_like(at_x.loss, torch.nan)
    else:
        if method == "autograd":
            at_x, product = hvp.double_backward(model, x, y)
        else:
            at_x, product = hvp.finite_difference(model, x, y, step=step)
        norms, traces = [], []
        for v in probes:
            found = product(v)
            norms.append(found.flatten(1).norm(dim=1))
            traces.append((v * found).flatten(1).sum(1))
        norms, trace = torch.stack(norms), torch.stack(traces).mean(0)
        squares = norms.square()  # [K, B]
    # Divided by K - 1. With one probe this is 0 / 0, which gives NaN as it should.
    spread = (squares - squares.mean(0)).square().sum(0) / (len(squares) - 1)
    error = (spread / len(squares)).sqrt()
    return CurvatureEstimate(
        squared_frobenius_norm=squares.mean(0),
        mean_hvp_norm=norms.mean(0),
        standard_error=torch.zeros_like(error) if method == "gauss-newton" else error,
        hessian_trace=trace,
        gradient_norm=at_x.gradient.flatten(1).norm(dim=1),
        loss=at_x.loss,
        logits=at_x.logits,
    )


def _check(x, y, method, num_probes, step, chunk, top_k) -> None:
    for name, value in (("x", x), ("y", y)):
        if not isinstance(value, Tensor):
            raise ValueError(
                f"{name} must be a torch.Tensor, got {type(value).__name__}; "
                "use torch.as_tensor"
            )
    for name, value in (("num_probes", num_probes), ("chunk", chunk), ("top_k", top_k)):
        if not isinstance(value, Integral | None):
            raise ValueError(f"{name} must be an integer, got {value!r}")
    if not isinstance(step, Real):
        raise ValueError(f"step must be a number, got {step!r}")
    if method not in METHODS:
        raise ValueError(f"unknown method {method!r}: expected one of {METHODS}")
    if top_k is not None and method != "gauss-newton":
        raise ValueError(f"top_k is for method='gauss-newton', got it with {method!r}")
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
    if num_probes is None or num_probes < 1:
        raise ValueError(f"num_probes must be at least 1, got {num_probes!r}")
    if not 0 < step < float("inf"):
        raise ValueError(f"step must be positive and finite, got {step!r}")
    if ((x + step) == x).all():
        raise ValueError(
            f"step {step!r} is lost in the rounding of {x.dtype} at values such as "
            f"{x.abs().max().item():.3g}; take a larger one, or x.double()"
        )
    if chunk is not None and chunk < 1:
        raise ValueError(f"chunk must be at least 1, or None for all, got {chunk!r}")
    _refuse_non_finite("x", x)


def _refuse_non_finite(what: str, values: Tensor) -> None:
    finite = values.flatten(1).isfinite().all(1)
    if not finite.all():
        first = int((~finite).nonzero()[0, 0])
        raise ValueError(
            f"{what} holds NaN or infinity for {int((~finite).sum())} of "
            f"{len(finite)} samples, first for sample {first} of the batch"
        )
