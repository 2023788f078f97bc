"""Scoring samples at a network's weights: the columns of a trace, probabilities."""

import math
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from curvlib.curvature import input_curvature
from curvlib.data import Images, normalise
from curvlib.data.seeding import seed_of
from curvlib.runs import distributed, networks

RECIPE = 1  # of probes, curvature and all other columns of a trace
Scaling = tuple[list[float], list[float]]  # mean and deviation of each channel


def score(
    model: nn.Module,
    images: Images,
    *,
    scaling: Scaling,
    epoch: int,
    num_probes: int,
    step: float,
    seed: int = 0,
    chunk: int = 128,
    read: Callable | None = None,
) -> dict[str, np.ndarray]:
    """All columns of a trace at the model's weights: clean images, the labels given.

    The probes depend on (seed, epoch) alone, so every sample of an epoch meets the same
    ones, and every epoch others. Of several processes each scores every so manieth
    chunk, and all get the whole, exactly as from one.

    Args:
        model: Its mode is left as it was.
        images: N samples.
        scaling: Mean and deviation of each channel that the model was trained with.
        epoch: Number of the epoch, from 1.
        num_probes: Probes K of the curvature.
        step: h, in units of the normalised input.
        seed: Of the probes, together with the epoch.
        chunk: Samples in memory at once.
        read: ``images.reader(device)``, where there is one already.

    Returns:
        For each name in ``curvlib.trace.COLUMNS`` an array of shape [N].
    """
    device = next(model.parameters()).device
    folded = networks.fold_batch_norm(model)
    read = read or images.reader(device)
    chunks = chunks_of(len(images), chunk)
    mine = chunks[distributed.rank() :: distributed.world()]
    labels = torch.from_numpy(images.labels)

    def found() -> list[tuple[int, dict[str, np.ndarray]]]:
        """Each chunk's columns, and where it begins."""
        parts = []
        for rows, pixels in zip(mine, read(mine), strict=True):
            columns = _score_some(
                folded,
                normalise(pixels, *scaling),
                labels[rows].to(device),
                num_probes=num_probes,
                step=step,
                # The same state for every chunk: all samples meet the same probes.
                generator=stream(seed, epoch, "probes"),
            )
            columns = {name: c.cpu().numpy() for name, c in columns.items()}
            parts.append((int(rows[0]), columns))
        return parts

    everyone = distributed.gathered(found)
    parts = sorted((p for some in everyone for p in some), key=lambda part: part[0])
    if [start for start, _ in parts] != [int(rows[0]) for rows in chunks]:
        raise RuntimeError(
            f"of {len(chunks)} chunks {len(parts)} came back from the processes"
        )
    return {
        name: np.concatenate([columns[name] for _, columns in parts])
        for name in parts[0][1]
    }


def _score_some(
    folded: nn.Module, x: Tensor, y: Tensor, **options
) -> dict[str, Tensor]:
    inputs: list[Tensor] = []  # of the last layer; the first call is with x alone
    watch = networks.last_linear(folded).register_forward_pre_hook(
        lambda _, given: inputs.append(given[0].detach())
    )
    try:
        estimate = input_curvature(
            folded,
            x.contiguous(memory_format=torch.channels_last),
            y,
            **options,
        )
    finally:
        watch.remove()
    features = torch.cat([inputs[0].flatten(1), torch.ones_like(y)[:, None]], 1)
    of_logits = _of_logits(estimate.logits, y)
    return of_logits | {
        "loss": estimate.loss,
        # The gradient is (p - onehot) times the features and, for the bias, 1.
        "last_layer_gradient": of_logits["el2n"] * features.norm(dim=1),
        "gradient_norm": estimate.gradient_norm,
        "mean_hvp_norm": estimate.mean_hvp_norm,
        "squared_frobenius_norm": estimate.squared_frobenius_norm,
        "standard_error": estimate.standard_error,
    }


def _of_logits(logits: Tensor, y: Tensor) -> dict[str, Tensor]:
    """The columns that follow from logits [B, C] and labels [B] alone."""
    log_p = logits.log_softmax(1)
    p = log_p.exp()
    given = F.one_hot(y, logits.shape[1]).bool()
    others = logits.masked_fill(given, -math.inf)
    margin = logits[given] - others.amax(1)
    largest_other = p.masked_fill(given, 0).amax(1)
    return {
        "margin": margin,
        "probability": p[given],
        "max_probability": p.amax(1),
        "softmax_margin": p[given] - largest_other,
        "entropy": -(p * log_p).sum(1),
        "correct": logits.argmax(1) == y,
        "predicted": logits.argmax(1),
        "el2n": (p - given.to(p)).norm(dim=1),
    }


def probabilities(
    model: nn.Module, images: Images, *, scaling: Scaling, chunk: int = 512
) -> np.ndarray:
    """Softmax outputs in evaluation mode, float32 [N, C], in the order of the images.

    Args:
        model: Left in evaluation mode.
        images: Clean, never augmented.
        scaling: As the model was trained with.
        chunk: Images in memory at once.
    """
    device = next(model.parameters()).device
    folded = networks.fold_batch_norm(model.eval())
    found = []
    with torch.no_grad():
        for some in images.reader("cpu")(chunks_of(len(images), chunk)):
            x = normalise(some.to(device), *scaling)
            logits = folded(x.contiguous(memory_format=torch.channels_last))
            found.append(logits.softmax(1).cpu())
    return torch.cat(found).numpy()


def chunks_of(count: int, size: int) -> list[Tensor]:
    """Positions 0, ..., count - 1 in pieces of a size."""
    return list(torch.arange(count).split(size))


def stream(seed: int, epoch: int, purpose: str) -> torch.Generator:
    """A stream of its own for each seed, epoch and purpose: resuming needs no state."""
    return torch.Generator().manual_seed(seed_of([seed, epoch], purpose))
