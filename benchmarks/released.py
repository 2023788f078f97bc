"""The released algorithm, rewritten to be measured against. Slow on purpose.

What the scripts published with the paper do, step for step, from their description:
for each probe a forward of x + hv and *again* a forward of x, one backward of the
difference of the two batch-mean losses with the weights still asking for gradients, the
signs set in a Python loop over samples, a B × B product of which only the diagonal is
used, and the norm moved to the host. It averages the norm, not its square, does not
divide by h, and the batch mean divides by B: ``scale`` undoes the last two.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def released_scores(
    model: nn.Module, x: Tensor, y: Tensor, probes: Tensor, step: float
) -> Tensor:
    """Score of each sample, shape [B]; x [B, *input], probes [K, *input]."""
    total = torch.zeros(len(x), dtype=x.dtype)
    for v in probes:
        leaf = x.detach().clone().requires_grad_()
        direction = torch.empty_like(x)
        for i in range(len(x)):
            direction[i] = v.sign()
        moved = F.cross_entropy(model(leaf + step * direction), y)
        still = F.cross_entropy(model(leaf), y)
        (gradient,) = torch.autograd.grad(moved - still, leaf)
        gradient = gradient.flatten(1)
        total += (gradient @ gradient.T).diagonal().sqrt().cpu()
    return total / len(probes)


def scale(batch_size: int, step: float) -> float:
    """What to multiply a released score with to get the mean norm of Hv."""
    return batch_size / step
