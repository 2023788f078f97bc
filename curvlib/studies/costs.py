"""What scores cost: seconds and bytes, beside one epoch of training."""

import copy
import time
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from curvlib import hvp, scores
from curvlib.curvature import input_curvature
from curvlib.models import fold_batch_norm
from curvlib.trace import COLUMNS, Trace


def of_runs(traces: Iterable[Trace]) -> pd.DataFrame:
    """Wall-clock seconds of each run, when it was made; one row per run.

    Args:
        traces: Finished or not; a run that occurs twice counts once.

    Returns:
        Columns run (its folder's name), epochs, train_seconds, score_seconds, device,
        threads.

    Raises:
        FileNotFoundError: If a run has no finished epoch.
    """
    rows = {}
    for trace in traces:
        log, machine = trace.log(), trace.info["hardware"]
        rows[trace.folder.name] = {
            "run": trace.folder.name,
            "epochs": len(log),
            "train_seconds": log["train_seconds"].sum().round(1),
            "score_seconds": log["score_seconds"].sum().round(1),
            "device": machine["device"],
            "threads": machine["threads"],
        }
    return pd.DataFrame(list(rows.values()))


def timed(call: Callable[[], object], device: torch.device | str = "cpu") -> float:
    """Seconds of one call, including all of its work on the device.

    Python does not wait for a GPU. So we wait for it before and after the call, which
    would otherwise seem to take almost no time.

    Args:
        call: The function to time.
        device: The device on which it works.
    """
    device = torch.device(device)
    wait = {"cuda": torch.cuda.synchronize, "mps": torch.mps.synchronize}
    wait = wait.get(device.type, lambda: None)
    wait()
    started = time.perf_counter()
    call()
    wait()
    return time.perf_counter() - started


def measure(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    batch_size: int = 64,
    num_probes: Sequence[int] = (1, 2, 10),
    step: float = 1e-3,
    repeats: int = 5,
    chunk: int = 128,
) -> pd.DataFrame:
    """Time one pass of training and every way of scoring, in turn, on the same samples.

    Other work on the machine slows all of them alike, so the ratios within a repetition
    are more reliable than the seconds.

    Args:
        model: A network of ``curvlib.runs.networks``, on the device of x; a copy is
            trained.
        x: Inputs [N, C, H, W], normalised.
        y: Labels [N], on the same device.
        batch_size: Of training.
        num_probes: Numbers of probes of the finite difference.
        step: h of the finite difference.
        repeats: How often each is timed, after one time unseen.
        chunk: Samples scored at once.

    Returns:
        One row per way and repetition: what, repeat, seconds_per_sample, and
        over_training, the ratio to ``"training"`` in the same repetition.

    Raises:
        ValueError: As for ``curvlib.input_curvature``.
    """
    x = x.contiguous(memory_format=torch.channels_last)
    folded = fold_batch_norm(model.eval())
    pupil = copy.deepcopy(model).to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(pupil.parameters(), lr=1e-3, momentum=0.9)
    pairs = list(zip(x.split(chunk), y.split(chunk), strict=True))

    def training() -> None:
        pupil.train()
        for some, labels in zip(x.split(batch_size), y.split(batch_size), strict=True):
            optimizer.zero_grad()
            F.cross_entropy(pupil(some), labels).backward()
            optimizer.step()

    @torch.no_grad()
    def logits() -> None:
        for some, _ in pairs:
            folded(some)

    def gradient() -> None:
        for some, labels in pairs:
            hvp.input_gradient(folded, some, labels)

    def curvature(**options) -> Callable[[], None]:
        def call() -> None:
            for some, labels in pairs:
                input_curvature(folded, some, labels, **options)

        return call

    contestants = {"training": training, "logits": logits, "input gradient": gradient}
    for n in num_probes:
        contestants[f"curvature, n = {n}"] = curvature(num_probes=n, step=step)
    contestants |= {
        "exact (autograd), n = 1": curvature(method="autograd", num_probes=1),
        "Gauss-Newton": curvature(method="gauss-newton", num_probes=1),
        "zero-order, n = 1": curvature(method="zero-order", num_probes=1, step=0.1),
    }
    rows = []
    for repeat in range(repeats + 1):
        seconds = {
            what: timed(call, x.device) / len(x) for what, call in contestants.items()
        }
        rows += [
            {
                "what": what,
                "repeat": repeat,
                "seconds_per_sample": s,
                "over_training": s / seconds["training"],
            }
            for what, s in seconds.items()
            if repeat  # the first one allocates and chooses kernels
        ]
    return pd.DataFrame(rows)


def of_scores(
    timing: pd.DataFrame, *, epochs: int, num_probes: int = 1
) -> pd.DataFrame:
    """What each score adds to a run, in trainings, and what it keeps on disk.

    Args:
        timing: Result of ``measure``.
        epochs: Number of epochs. A score of the last epoch alone is measured once.
        num_probes: Number of probes; one that was measured.

    Returns:
        One row for each of ``curvlib.scores.FROM_TRACE`` but random: score, needs,
        epochs (scored for it), trainings (training included: 1 + what scoring adds) and
        bytes_per_sample, those of the columns of the trace that it reads.

    Raises:
        ValueError: If no such number of probes was measured.
    """
    ratio = timing.groupby("what")["over_training"].median()
    if f"curvature, n = {num_probes}" not in ratio:
        known = ", ".join(what for what in ratio.index if what.startswith("curvature"))
        raise ValueError(f"num_probes = {num_probes} was not measured, only {known}")
    rows = []
    for name in scores.FROM_TRACE:
        score = scores.SCORES[name]
        if not score.fields:
            continue  # random needs no measurement
        needs = score.needs
        needs = f"curvature, n = {num_probes}" if needs == "curvature" else needs
        scored = 1 if score.last_only else epochs
        itemsize = sum(COLUMNS[field]().itemsize for field in score.fields)
        rows.append(
            {
                "score": name,
                "needs": needs,
                "epochs": scored,
                "trainings": 1 + ratio[needs] * scored / epochs,
                "bytes_per_sample": scored * itemsize,
            }
        )
    return pd.DataFrame(rows)


class AtScale(NamedTuple):
    """What a run takes, by measuring one batch of it."""

    table: pd.DataFrame  # one row for training, one for scoring
    state_bytes: int  # weights, gradients, momentum and buffers
    activation_bytes: float  # kept for the backward pass, for each sample of a batch
    trace_bytes: int  # of the whole trace, before compression


def at_scale(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    samples: int,
    epochs: int,
    scored_epochs: int,
    num_probes: int,
    step: float = 1e-3,
    repeats: int = 2,
) -> AtScale:
    """Estimate a run that is too long to be done here, from one batch.

    Seconds are those of this machine and the best of the repetitions; operations, those
    of convolutions and matrix products, and bytes are counted, and the same everywhere.

    Args:
        model: On the device of x; a copy is trained.
        x: Normalised images [B, C, H, W].
        y: Labels [B].
        samples: Trained on in an epoch, and scored in a scored one.
        epochs: Of training.
        scored_epochs: Of these, scored.
        num_probes: K of the curvature.
        step: h of the curvature.
        repeats: How often each is timed, after one time unseen.

    Returns:
        Bytes, and a table with columns what, seconds_per_sample, gflop_per_sample,
        passes (epochs), total_flop and ``hours here``.

    Raises:
        ValueError: As for ``curvlib.input_curvature``.
    """
    folded = fold_batch_norm(model)
    pupil = copy.deepcopy(model).train()
    optimizer = torch.optim.SGD(pupil.parameters(), lr=1e-3, momentum=0.9)

    def training() -> None:
        optimizer.zero_grad()
        F.cross_entropy(pupil(x), y).backward()
        optimizer.step()

    def scoring() -> None:
        input_curvature(folded, x, y, num_probes=num_probes, step=step)

    rows = []
    for what, call, passes in (
        ("training", training, epochs),
        ("scoring", scoring, scored_epochs),
    ):
        with FlopCounterMode(display=False) as counter:
            call()
        seconds = [timed(call, x.device) for _ in range(repeats)]
        flop = counter.get_total_flops() / len(x)
        rows.append(
            {
                "what": what,
                "seconds_per_sample": min(seconds) / len(x),
                "gflop_per_sample": flop / 1e9,
                "passes": passes,
                "total_flop": flop * samples * passes,
                "hours here": min(seconds) / len(x) * samples * passes / 3600,
            }
        )
    kept: dict[int, int] = {}  # storages, each once

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = F.cross_entropy(pupil(x), y)
    del loss
    weights = sum(p.numel() * p.element_size() for p in pupil.parameters())
    for parameter in pupil.parameters():  # saved too, but not once a sample
        kept.pop(parameter.untyped_storage().data_ptr(), None)
    buffers = sum(b.numel() * b.element_size() for b in pupil.buffers())
    per_sample = sum(np.dtype(dtype).itemsize for dtype in COLUMNS.values()) + 16
    return AtScale(
        table=pd.DataFrame(rows),
        state_bytes=3 * weights + buffers,
        activation_bytes=sum(kept.values()) / len(x),
        trace_bytes=per_sample * samples * scored_epochs,
    )
