"""Points in the plane: the smallest problem in which a network memorises something."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from curvlib.runs.networks import build


def two_classes(
    num_per_class: int, *, wrong_share: float = 0.0, seed: int
) -> tuple[Tensor, Tensor, np.ndarray]:
    """Two overlapping clouds of points in the plane, some under the wrong label.

    Args:
        num_per_class: Points in each of the two classes; standard normal around
            (-2, 0) and (2, 0).
        wrong_share: Share of the labels flipped, rounded to a whole number of points.
        seed: Seed of points and of the choice of wrong labels.

    Returns:
        Points, float64 [N, 2]; labels given, int64 [N]; and a bool mask [N] of those
        that were flipped. N = 2 * num_per_class.

    Raises:
        ValueError: If there is no point, or wrong_share is no fraction.
    """
    if num_per_class < 1:
        raise ValueError(f"num_per_class must be at least 1, got {num_per_class!r}")
    if not 0 <= wrong_share <= 1:
        raise ValueError(f"wrong_share is a fraction in [0, 1], got {wrong_share!r}")
    rng = np.random.default_rng(seed)
    labels = np.repeat([0, 1], num_per_class)
    points = rng.standard_normal((len(labels), 2))
    points[:, 0] += 2 * (2 * labels - 1)
    wrong = np.zeros(len(labels), dtype=bool)
    wrong[rng.permutation(len(labels))[: round(wrong_share * len(labels))]] = True
    return torch.from_numpy(points), torch.from_numpy(labels ^ wrong), wrong


def train(
    x: Tensor,
    y: Tensor,
    *,
    width: int = 64,
    activation: str = "softplus",
    steps: int = 2000,
    lr: float = 0.01,
    snapshots: int = 20,
    seed: int = 0,
) -> tuple[list[nn.Module], np.ndarray]:
    """Train an MLP on all points at once, in float64, and keep it as it was on the way.

    Args:
        x: Points, shape [N, *input].
        y: Labels, int64 [N].
        width: Units of each of the two hidden layers.
        activation: One of ``curvlib.runs.networks.ACTIVATIONS``.
        steps: Steps of Adam (Kingma and Ba 2015).
        lr: Learning rate.
        snapshots: How many states to keep, evenly spaced; the last is the end.
        seed: Seed of the initial weights.

    Returns:
        The networks, in evaluation mode, one a snapshot; and the number of steps done
        at each, int [snapshots].

    Raises:
        ValueError: If there are more snapshots than steps, or none.
    """
    if not 1 <= snapshots <= steps:
        raise ValueError(f"snapshots must lie in [1, steps = {steps}], got {snapshots}")

    def new() -> nn.Module:
        return build(
            "mlp",
            num_classes=int(y.max()) + 1,
            input_shape=tuple(x.shape[1:]),
            width=width,
            activation=activation,
            seed=seed,
        ).double()

    model = new()
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    at = np.linspace(steps / snapshots, steps, snapshots).round().astype(int)
    kept = []
    for step in range(1, steps + 1):
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
        if step in at:
            copy = new()
            copy.load_state_dict(model.state_dict())
            kept.append(copy.eval())
    return kept, at


def exact_squared_frobenius_norm(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """tr(H²) of each sample's input Hessian by differentiating twice; for few inputs.

    Args:
        model: Any module returning logits [B, C], in evaluation mode.
        x: Inputs, shape [B, D].
        y: Labels, int64 [B].

    Returns:
        Shape [B], what ``input_curvature`` estimates as ``squared_frobenius_norm``.
    """

    def loss(point: Tensor, label: Tensor) -> Tensor:
        return F.cross_entropy(model(point[None]), label[None])

    hessian = torch.func.vmap(torch.func.hessian(loss))(x, y)
    return hessian.square().sum((1, 2)).detach()
