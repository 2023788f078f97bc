r"""Multiply vectors by each sample's input Hessian, without forming it.

For the cross-entropy L of one sample, :math:`H = \nabla_x^2 L` has D × D entries, but
H v costs about one more backward pass. The functions here multiply.
``curvlib.curvature`` turns the products into scores.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import BackwardCFunction
from torch.nn.attention import SDPBackend, sdpa_kernel


class AtX(NamedTuple):
    """Gradient, loss and logits at x, all detached.

    Attributes:
        gradient: ∇ₓL, shape [B, *input].
        loss: Cross-entropy, shape [B], in nats.
        logits: Model output, shape [B, C].
    """

    gradient: Tensor
    loss: Tensor
    logits: Tensor


Product = Callable[[Tensor], Tensor]
DETACHED = "its output does not depend on x by differentiable operations"


def finite_difference(
    model: nn.Module, x: Tensor, y: Tensor, *, step: float
) -> tuple[AtX, Product]:
    """Map v to (∇ₓL(x + step v) − ∇ₓL(x)) / step; the clean gradient is computed once.

    Args:
        model: Maps [B, *input] to logits [B, C], each row independently.
        x: Inputs, shape [B, *input].
        y: Labels, integers [B].
        step: h, in units of x.

    Returns:
        Values at x, and the product; v has shape [*input] or [B, *input].

    Raises:
        ValueError: As for ``input_gradient``.
    """
    at_x = input_gradient(model, x, y)

    def product(v: Tensor) -> Tensor:
        return (input_gradient(model, x + step * v, y).gradient - at_x.gradient) / step

    return at_x, product


def double_backward(model: nn.Module, x: Tensor, y: Tensor) -> tuple[AtX, Product]:
    """Map v to H v, exactly, by differentiating the gradient along v.

    For a network of ReLUs this is the Hessian of the linear piece that contains x. It
    ignores kinks near x.

    Args:
        model: Maps [B, *input] to logits [B, C], each row independently.
        x: Inputs, shape [B, *input].
        y: Labels, integers [B].

    Returns:
        Values at x, and the product; v has shape [*input] or [B, *input].

    Raises:
        ValueError: As for ``input_gradient``, or if a part of the model cannot be
            differentiated twice.
    """
    cut: list[str] = []  # custom functions whose derivative is not part of the graph

    def note(name: str, found: tuple, given: tuple) -> None:
        if any(g is not None and g.requires_grad for g in given):
            cut.extend(name for g in found if g is not None and not g.requires_grad)

    # Fused attention has no second derivative; the plain kernel does.
    with sdpa_kernel(SDPBackend.MATH):
        x, loss, logits = _forward(model, x, y)
        for node in _graph(loss):
            if isinstance(node, BackwardCFunction):
                node.register_hook(partial(note, node.name()))
        with _needs_second_derivative():
            (gradient,) = torch.autograd.grad(
                loss.sum(), x, create_graph=True, allow_unused=True
            )
            if gradient is None:
                raise _no_gradient(DETACHED)
            if any("autograd::Error" in node.name() for node in _graph(gradient)):
                raise RuntimeError("a function of it is marked once_differentiable")

    def product(v: Tensor) -> Tensor:
        if not gradient.requires_grad:  # linear in x: no curvature
            return torch.zeros_like(x)
        with _needs_second_derivative():
            (found,) = torch.autograd.grad(
                gradient, x, v.expand_as(x), retain_graph=True, allow_unused=True
            )
        return torch.zeros_like(x) if found is None else found

    if cut:  # A constant derivative rightly has no graph, so we compare numbers.
        step, v = torch.finfo(x.dtype).eps ** 0.5, torch.ones_like(x)
        exact, near = product(v), finite_difference(model, x, y, step=step)[1](v)
        rounding = 10 * step * gradient.detach().norm()
        with _needs_second_derivative():
            if (exact - near).norm() > near.norm() / 2 + rounding:
                raise RuntimeError(f"{cut[0]} computes outside of autograd")
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
        model: Maps [B, *input] to logits [B, C], each row independently.
        x: Inputs, shape [B, *input].
        y: Labels, integers [B].
        top_k: Number of classes to use: the given one and the most probable others.
            None: all C. The omitted terms are positive semi-definite, so traces are
            then too small, never too large.

    Returns:
        Values at x, and G, shape [B, k, D]. Costs k + 1 backward passes.

    Raises:
        ValueError: If top_k is not in [1, C], or as for ``input_gradient``.
    """
    x, loss, logits = _forward(model, x, y)
    num_classes = logits.shape[1]
    if top_k is not None and not 1 <= top_k <= num_classes:
        raise ValueError(f"top_k must lie in [1, C = {num_classes}], got {top_k!r}")

    def backward(values: Tensor) -> Tensor:
        return _gradient(values, x, keep=True).flatten(1)

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
) -> tuple[AtX, Callable[[Tensor, Tensor], Tensor]]:
    """Map (v, u) to vᵀ H u for each sample, from four losses and without gradients.

    Ravikumar et al., *Curvature Clues* (NeurIPS 2024), without the absolute value:
    (L(x+hv+hu) − L(x−hv+hu) − L(x+hv−hu) + L(x−hv−hu)) / 4h². Losses are computed in
    float64, but the model still rounds: in float32 choose a step of 1e-2 or more.

    Args:
        model: Maps [B, *input] to logits [B, C]; needs no gradient.
        x: Inputs, shape [B, *input].
        y: Labels, integers [B].
        step: h, in units of x.

    Returns:
        Values at x, with gradient NaN, and the form; v and u have shape [*input].

    Raises:
        ValueError: If the output has another shape, or a label is C or more.
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
    return AtX(torch.full_like(x, torch.nan), loss.to(x.dtype), logits), form


def input_gradient(model: nn.Module, x: Tensor, y: Tensor) -> AtX:
    """Gradient of each sample's loss, with the loss and the logits.

    Args:
        model: Maps [B, *input] to logits [B, C], each row independently.
        x: Inputs, shape [B, *input].
        y: Labels, integers [B].

    Returns:
        ∇ₓL [B, *input] in loss per unit of x, the loss [B] in nats, and logits [B, C].

    Raises:
        ValueError: If the output has another shape or no derivative, or a label is C
            or more.
    """
    x, loss, logits = _forward(model, x, y)
    return AtX(_gradient(loss, x), loss.detach(), logits.detach())


def _forward(model: nn.Module, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """A leaf tensor at x, and the losses [B] and logits [B, C] computed from it."""
    # Autograd refuses inference tensors, but accepts a copy.
    x = (x.clone() if x.is_inference() else x.detach()).requires_grad_()
    y = y.clone() if y.is_inference() else y
    logits = _checked(model(x.clone()), x, y)  # a first layer may work in place
    loss = F.cross_entropy(logits, y.long(), reduction="none")
    if not loss.requires_grad:
        raise _no_gradient(DETACHED)
    return x, loss, logits


def _gradient(values: Tensor, x: Tensor, *, keep: bool = False) -> Tensor:
    """Gradient at the leaf x of values [B], row by row."""
    # The sum, not the mean: a sample's gradient must not depend on the batch size.
    total = values.sum()
    try:
        if any("Checkpoint" in node.name() for node in _graph(total)):
            total.backward(retain_graph=keep)  # re-entrant checkpoints need backward
            found, x.grad = x.grad, None
        else:
            (found,) = torch.autograd.grad(
                total, x, retain_graph=keep, allow_unused=True
            )
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        raise _no_gradient(str(error).splitlines()[0]) from error
    if found is None:
        raise _no_gradient(DETACHED)
    return found


def _no_gradient(why: str) -> ValueError:
    return ValueError(
        f"the model has no input gradient ({why}); method='zero-order' needs none"
    )


@contextmanager
def _needs_second_derivative() -> Iterator[None]:
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        raise ValueError(
            "the model cannot be differentiated twice "
            f"({str(error).splitlines()[0]}); use method='finite-difference', "
            "'gauss-newton' or 'zero-order'"
        ) from error


def _graph(values: Tensor) -> set:
    """All nodes of the graph that produced the values."""
    nodes, ahead = set(), [values.grad_fn]
    while ahead:
        node = ahead.pop()
        if node is not None and node not in nodes:
            nodes.add(node)
            ahead += [before for before, _ in node.next_functions]
    return nodes


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
