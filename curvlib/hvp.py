r"""Multiply with each sample's input Hessian, without ever forming it.

For the cross-entropy L of one sample, :math:`H = \nabla_x^2 L` has D × D entries, but
H v costs about one more backward pass. The functions here know how to multiply; what to
make of the products is the business of ``curvlib.curvature``.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel


class AtX(NamedTuple):
    """What is known at x, all detached.

    Attributes:
        gradient: ∇ₓL, shape [B, *input].
        loss: Shape [B], in nats.
        logits: Shape [B, C].
    """

    gradient: Tensor
    loss: Tensor
    logits: Tensor


Product = Callable[[Tensor], Tensor]


def finite_difference(
    model: nn.Module, x: Tensor, y: Tensor, *, step: float
) -> tuple[AtX, Product]:
    """Map v to (∇ₓL(x + step v) − ∇ₓL(x)) / step; the clean gradient is computed once.

    Args:
        model: Maps [B, *input] to logits [B, C], each row by itself.
        x: Inputs, shape [B, *input].
        y: Labels, integers [B].
        step: h, in units of x.

    Returns:
        What is known at x, and the product; v has shape [*input] or [B, *input].
    """
    at_x = input_gradient(model, x, y)

    def product(v: Tensor) -> Tensor:
        return (input_gradient(model, x + step * v, y).gradient - at_x.gradient) / step

    return at_x, product


def double_backward(model: nn.Module, x: Tensor, y: Tensor) -> tuple[AtX, Product]:
    """Map v to H v, exactly, by differentiating the gradient along v.

    For a network of ReLUs this is the Hessian of the linear piece that x lies in; the
    kinks beside it do not count. Arguments and result as for ``finite_difference``.
    """
    # Fused attention has no second derivative; the plain kernel has.
    with sdpa_kernel(SDPBackend.MATH):
        x, loss, logits = _forward(model, x, y)
        (gradient,) = torch.autograd.grad(loss.sum(), x, create_graph=True)

    def product(v: Tensor) -> Tensor:
        if not gradient.requires_grad:  # linear in x: no curvature at all
            return torch.zeros_like(x)
        (found,) = torch.autograd.grad(
            gradient, x, v.expand_as(x), retain_graph=True, allow_unused=True
        )
        return torch.zeros_like(x) if found is None else found

    return AtX(gradient.detach(), loss.detach(), logits.detach()), product


def gauss_newton_factor(
    model: nn.Module, x: Tensor, y: Tensor, *, top_k: int | None = None
) -> tuple[AtX, Tensor]:
    r"""Factor G of the Gauss-Newton matrix GᵀG of each sample (Schraudolph 2002).

    With class probabilities p and input gradients :math:`J_c` of the logits,

    .. math::
        J^T (\mathrm{diag}\,p - p p^T) J
        = \sum_c p_c (J_c - \bar J)(J_c - \bar J)^T, \quad \bar J = \sum_c p_c J_c,

    so row c of G is :math:`\sqrt{p_c} (J_c - \bar J)`. For a network that is piecewise
    linear in x (ReLU, max-pool, batch norm in evaluation mode) this *is* the Hessian,
    almost everywhere, and it does not depend on the label.

    Args:
        model: Maps [B, *input] to logits [B, C], each row by itself.
        x: Inputs, shape [B, *input].
        y: Labels, integers [B].
        top_k: Use the given class and the most probable others, so many in all; None:
            all C. The terms left out are positive semi-definite, so that traces are
            then too small, never too large.

    Returns:
        What is known at x, and G, shape [B, k, D]. Costs k + 1 backward passes.

    Raises:
        ValueError: If top_k does not lie in [1, C].
    """
    x, loss, logits = _forward(model, x, y)
    num_classes = logits.shape[1]
    if top_k is not None and not 1 <= top_k <= num_classes:
        raise ValueError(f"top_k must lie in [1, C = {num_classes}], got {top_k!r}")

    def backward(values: Tensor) -> Tensor:
        return torch.autograd.grad(values.sum(), x, retain_graph=True)[0].flatten(1)

    first = logits.detach().scatter(1, y[:, None].long(), torch.inf)
    classes = first.topk(top_k or num_classes).indices  # [B, k], the given one first
    mean_row = backward(logits.logsumexp(1))
    rows = torch.stack([backward(logits.gather(1, c[:, None])) for c in classes.T], 1)
    probability = logits.detach().softmax(1).gather(1, classes)
    factor = probability.sqrt()[:, :, None] * (rows - mean_row[:, None])
    gradient = (mean_row - rows[:, 0]).reshape(x.shape)
    return AtX(gradient, loss.detach(), logits.detach()), factor


def second_difference(
    model: nn.Module, x: Tensor, y: Tensor, *, step: float
) -> tuple[Tensor, Tensor, Callable[[Tensor, Tensor], Tensor]]:
    """Map (v, u) to vᵀ H u of each sample, from four losses and no gradient.

    Ravikumar et al., *Curvature Clues* (NeurIPS 2024), without the absolute value:
    (L(x+hv+hu) − L(x−hv+hu) − L(x+hv−hu) + L(x−hv−hu)) / 4h². Losses are taken in
    float64, but the model's rounding stays: in float32 choose a step of 1e-2 or more.

    Args:
        model: Maps [B, *input] to logits [B, C]; needs no gradient.
        x: Inputs, shape [B, *input].
        y: Labels, integers [B].
        step: h, in units of x.

    Returns:
        Loss [B] and logits [B, C] at x, and the form; v and u have shape [*input].
    """

    @torch.no_grad()
    def loss_at(inputs: Tensor) -> tuple[Tensor, Tensor]:
        logits = _checked(model(inputs.clone()), x, y)
        double = logits if logits.device.type == "mps" else logits.double()
        return F.cross_entropy(double, y.long(), reduction="none"), logits

    def form(v: Tensor, u: Tensor) -> Tensor:
        total = 0.0
        for sign in (1, -1):
            total = total + sign * loss_at(x + step * (v + sign * u))[0]
            total = total - sign * loss_at(x - step * (v - sign * u))[0]
        return (total / (4 * step**2)).to(x.dtype)

    loss, logits = loss_at(x)
    return loss.to(x.dtype), logits, form


def input_gradient(model: nn.Module, x: Tensor, y: Tensor) -> AtX:
    """Gradient of each sample's own loss, and what came on the way to it."""
    x, loss, logits = _forward(model, x, y)
    # The sum, not the mean: a sample's gradient must not depend on the batch size.
    (gradient,) = torch.autograd.grad(loss.sum(), x)
    return AtX(gradient, loss.detach(), logits.detach())


def _forward(model: nn.Module, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """A leaf at x, the losses [B] and the logits [B, C] above it."""
    # An inference tensor can't enter autograd; a copy made here can.
    x = (x.clone() if x.is_inference() else x.detach()).requires_grad_()
    y = y.clone() if y.is_inference() else y
    logits = _checked(model(x.clone()), x, y)  # a first layer may work in place
    loss = F.cross_entropy(logits, y.long(), reduction="none")
    if not loss.requires_grad:
        raise ValueError(
            "the model's output does not depend on x by differentiable operations, so "
            "there is no input gradient; method='zero-order' needs none"
        )
    return x, loss, logits


def _checked(logits: object, x: Tensor, y: Tensor) -> Tensor:
    if getattr(logits, "ndim", None) != 2 or len(logits) != len(x):
        raise ValueError(
            f"model must return logits of shape [B, C] = [{len(x)}, C], got "
            f"{list(getattr(logits, 'shape', ())) or type(logits).__name__}"
        )
    if y.max() >= logits.shape[1]:
        raise ValueError(
            f"labels must lie in [0, C) = [0, {logits.shape[1]}), got {y.max().item()}"
        )
    return logits
