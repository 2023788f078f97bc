"""Score samples at a network's weights: the columns of a trace, and probabilities."""

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
# Default number of samples scored at once. Inspecting a chunk takes milliseconds,
# whatever its size; with small chunks a GPU would spend half of its time on that.
CHUNKS = {"cpu": 128, "cuda": 1024}


def score(
    model: nn.Module,
    images: Images,
    *,
    scaling: Scaling,
    epoch: int,
    num_probes: int,
    step: float,
    seed: int = 0,
    chunk: int | None = None,
    read: Callable | None = None,
) -> dict[str, np.ndarray]:
    """Measure all columns of a trace, on clean images with the given labels.

    The probes depend only on the seed and the epoch: all samples of an epoch share one
    set, and each epoch has a new one. Several processes share the chunks, and all of
    them get the complete result, exactly as a single process would.

    Args:
        model: A network on its device; its mode does not change.
        images: N samples.
        scaling: Mean and deviation of each channel used in training.
        epoch: Number of the epoch, from 1.
        num_probes: Number of probes K.
        step: h, in units of the normalised input.
        seed: Seed of the probes, together with the epoch.
        chunk: Number of samples in memory at once; None: ``CHUNKS`` for the device.
        read: ``images.reader(device)``, if you have one already.

    Returns:
        For each name in ``curvlib.trace.COLUMNS``, which gives the units, an array of
        shape [N] in the order of the images.

    Raises:
        ValueError: If ``curvlib.input_curvature`` refuses the model, for example
            because its output is not finite.
        RuntimeError: If a process did not return its share.
    """
    device = next(model.parameters()).device
    folded = networks.fold_batch_norm(model)
    read = read or images.reader(device)
    chunks = chunks_of(len(images), chunk or CHUNKS.get(device.type, 128))
    mine = chunks[distributed.rank() :: distributed.world()]
    labels = torch.from_numpy(images.labels)

    def found() -> list[tuple[int, dict[str, np.ndarray]]]:
        """The columns of each chunk, and the position where it begins."""
        parts = []
        for rows, pixels in zip(mine, read(mine), strict=True):
            columns = _score_some(
                folded,
                normalise(pixels, *scaling),
                labels[rows].to(device),
                num_probes=num_probes,
                step=step,
                # The same state for every chunk, so all samples get the same probes.
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
    inputs: list[Tensor] = []  # of the last layer; the first call only inspects
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
    features = torch.cat([inputs[1].flatten(1), torch.ones_like(y)[:, None]], 1)
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
    """Compute softmax outputs of a network in evaluation mode.

    Args:
        model: A network on its device; it ends in evaluation mode.
        images: N samples; they are not augmented.
        scaling: Mean and deviation of each channel used in training.
        chunk: Number of images in memory at once.

    Returns:
        Probabilities, float32 [N, C], in the order of the images.
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
    """Split the positions 0, ..., count - 1 into chunks.

    Args:
        count: Number of positions.
        size: Number of positions in a chunk; the last chunk may have fewer.

    Returns:
        One int64 tensor for each chunk.
    """
    return list(torch.arange(count).split(size))


def stream(seed: int, epoch: int, purpose: str) -> torch.Generator:
    """Create the generator of an epoch; a resumed run needs no saved state.

    Args:
        seed: Seed of the run.
        epoch: Number of the epoch.
        purpose: What the numbers are for; each purpose has its own stream.

    Returns:
        A generator on the CPU, in the same state for the same arguments.
    """
    return torch.Generator().manual_seed(seed_of([seed, epoch], purpose))
