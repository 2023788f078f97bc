r"""Scores that need extra training runs, as they use predictions for unseen samples.

A network is trained on one half of the samples, then on the other. A second network
takes the halves in reverse order. Both scores come from these two trainings. After its
first half, a network gives probabilities for samples of the other half, which it has
not seen (confident learning). While it learns the second half, it forgets some samples
of the first (second-split forgetting).
"""

import io
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch

from curvlib import data
from curvlib.curvature import input_curvature
from curvlib.data import Images, normalise, progress
from curvlib.files import write_atomically
from curvlib.models import fold_batch_norm
from curvlib.runs import provenance, scoring, training
from curvlib.runs.devices import best_device
from curvlib.scores import FROM_TRACE, SCORES
from curvlib.trace import Trace

RECIPE = 1  # of trainings on halves, and of exact curvature
PARTS = ("data", "networks", "training", "scoring", "halves")
# Signs of the scores of this module; curvlib.scores.SCORES describes them.
SIGNS = {name: s.sign for name, s in SCORES.items() if name not in FROM_TRACE}


def confident_learning(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """One minus the out-of-sample probability of the given label, for every sample.

    Northcutt, Jiang, Chuang (2021). High is suspect. This is the ranking by
    self-confidence, cleanlab's default label quality. (A published re-run ranked only
    the samples that the method flags, and tied all others at zero.)

    Args:
        probabilities: From networks that never saw the sample, shape [N, C].
        labels: The labels given, shape [N].

    Returns:
        Scores, shape [N], in [0, 1].

    Raises:
        ValueError: If the shapes do not match, or a row is not a distribution.

    Example:
        >>> confident_learning(np.array([[0.75, 0.25], [0.5, 0.5]]), np.array([1, 0]))
        array([0.75, 0.5 ])
    """
    probabilities = np.asarray(probabilities, dtype=np.float64)
    labels = np.asarray(labels)
    if probabilities.ndim != 2 or labels.shape != probabilities.shape[:1]:
        raise ValueError(
            "probabilities must be [N, C] and labels [N], got shapes "
            f"{probabilities.shape} and {labels.shape}"
        )
    if (probabilities < 0).any() or not np.allclose(probabilities.sum(1), 1, atol=1e-4):
        raise ValueError("each row of probabilities must be at least 0 and sum to 1")
    return 1 - np.take_along_axis(probabilities, labels[:, None], axis=1)[:, 0]


def second_split_forgetting(correct: np.ndarray) -> np.ndarray:
    r"""First epoch of the second split from which a first-split sample stays wrong.

    Maini et al. (2022). **Low** is suspect: the network forgets a memorised label as
    soon as it learns other samples. A sample that is right in the last epoch was not
    forgotten and gets E + 1, the latest time.

    .. math:: \min \{\, t : \mathrm{wrong}_{ei} \text{ for all } e \ge t \,\}

    Args:
        correct: Whether the given label was predicted, shape [1 + E, N], bool. Row 0 is
            the state before the second split: a sample that was never learned has time
            0, and so comes first.

    Returns:
        Times in 0, ..., E + 1, shape [N], int64.

    Raises:
        ValueError: If the shape or the type is wrong.

    Example:
        >>> right = np.array([[1, 1, 0], [0, 1, 0], [0, 1, 0]], dtype=bool)  # E=2, N=3
        >>> second_split_forgetting(right)  # forgotten at once, never, never learned
        array([1, 3, 0])
    """
    correct = np.asarray(correct)
    if correct.ndim != 2 or len(correct) < 2 or correct.dtype != bool:
        raise ValueError(
            "correct must be bool of shape [1 + E, N] with E at least 1, got "
            f"{correct.dtype} of shape {correct.shape}"
        )
    wrong_until_end = np.logical_and.accumulate(~correct[::-1])
    return len(correct) - wrong_until_end.sum(0)


class Halves(NamedTuple):
    """Results of two trainings on halves, in the order of the images."""

    probabilities: np.ndarray  # float32 [N, C], by the network that saw the other half
    correct: np.ndarray  # bool [1 + E, N], while the network learns the other half
    half: np.ndarray  # int64 [N], 0 or 1: the half of the sample
    seconds: float  # of both trainings, as measured when they ran


def train_on_halves(
    config: training.TrainConfig,
    images: Images,
    *,
    second_epochs: int,
    runs: str | Path = "runs",
    device: str | None = None,
) -> Halves:
    """Train on one half and then on the other, in either order.

    The first stage follows the config. The second continues with a tenth of its
    learning rate, held constant, and with augmentation if the first stage ended with
    it. Each half is stored as soon as it is finished, so a second call reads it.

    Args:
        config: As for ``curvlib.fit``; its seed also draws the halves, class by class.
        images: N samples to train on, with at least two of each label given.
        second_epochs: Epochs E of the second stage.
        runs: Folder of all runs; this takes ``runs/halves-...``.
        device: As for ``curvlib.fit``.

    Returns:
        Probabilities [N, C], correctness [1 + E, N], half [N], and the seconds of both
        trainings.

    Raises:
        ValueError: If second_epochs is below 1, a label occurs only once, or the
            folder's files are damaged or belong to other images.
    """
    if second_epochs < 1:
        raise ValueError(f"second_epochs must be at least 1, got {second_epochs}")
    settings = [config.identity(), second_epochs]
    digest = provenance.digest(settings, {"train": images.checksum}, PARTS)
    folder = Path(runs) / f"halves-{Path(config.dataset).stem}-{digest}"
    half = _split(images.labels, config.seed)
    scaling = images.statistics()
    probabilities = correct = None
    seconds = 0.0
    for number in (0, 1):
        file = folder / f"half_{number}.npz"
        if not file.exists():
            progress.report(f"training on half {number + 1} of 2 of {config.dataset}")
            found = _one_half(
                config, images, half == number, second_epochs, scaling, device
            )
            buffer = io.BytesIO()
            np.savez(buffer, **found)
            write_atomically(file, buffer.getvalue())
        try:
            with np.load(file, allow_pickle=False) as saved:
                found = {name: saved[name] for name in saved.files}
            if probabilities is None:
                classes = found["unseen"].shape[1]
                probabilities = np.zeros((len(images), classes), np.float32)
                correct = np.zeros((1 + second_epochs, len(images)), bool)
            probabilities[half != number] = found["unseen"]
            correct[:, half == number] = found["correct"]
            seconds += float(found["seconds"])
        except Exception as error:  # of zipfile, zlib or numpy
            raise ValueError(
                f"{file} is damaged ({error}); delete it to train again"
            ) from error
    return Halves(probabilities, correct, half, seconds)


def _one_half(config, images, chosen, second_epochs, scaling, device) -> dict:
    began = time.perf_counter()
    first, second = images.select(chosen), images.select(~chosen)
    *_, model = training.passes(config, first, scaling=scaling, device=device)
    unseen = scoring.probabilities(model, second, scaling=scaling)

    def right() -> np.ndarray:
        found = scoring.probabilities(model, first, scaling=scaling)
        return found.argmax(1) == first.labels

    correct = [right()]
    augment = config.augment and config.augment_epochs in (None, config.epochs)
    later = config.changed(
        epochs=second_epochs,
        lr=config.lr / 10,
        schedule="constant",
        warmup=0.0,
        augment=augment,  # as the first stage ended
        augment_epochs=None,
        restart=0.0,
        shift=config.shift if augment else data.PADDING,
    )
    for _ in training.passes(
        later, second, scaling=scaling, model=model, device=device
    ):
        correct.append(right())
    return {
        "unseen": unseen,
        "correct": np.stack(correct),
        "seconds": round(time.perf_counter() - began, 2),
    }


def _split(labels: np.ndarray, seed: int) -> np.ndarray:
    """Half of each label's samples to either side, at random: 0 or 1, shape [N]."""
    rng = np.random.default_rng([seed, 2])  # not the streams of the noise
    values, counts = np.unique(labels, return_counts=True)
    if counts.min() < 2:
        raise ValueError(
            f"label {values[counts.argmin()]} occurs once: two samples of each label "
            "are needed to train on halves"
        )
    half = np.empty(len(labels), dtype=np.int64)
    for value in values:
        places = rng.permutation(np.flatnonzero(labels == value))
        half[places] = np.arange(len(places)) % 2
    return half


def gauss_newton(
    trace: Trace, images: Images, *, top_k: int = 10, chunk: int = 128
) -> np.ndarray:
    """Exact Gauss-Newton curvature, tr(G²), of a run's samples after its last epoch.

    For a network of ReLUs this is tr(H²) of the Hessian wherever that exists, without
    sampling noise, and it does not depend on the label. High is suspect. It takes C + 1
    backward passes, so the run's folder keeps it. With more classes than ``top_k``,
    only the most probable ones count.

    Args:
        trace: A run with at least one finished epoch.
        images: Its N training samples.
        top_k: As for ``curvlib.input_curvature``.
        chunk: Samples in memory at once.

    Returns:
        Scores, float64 [N], in index order like the trace, in (nats per squared unit of
        the normalised input)².

    Raises:
        ValueError: If the images are not those of the trace.
        FileNotFoundError: If no epoch was finished.
    """
    if images.checksum != trace.info["checksums"]["train"]:
        raise ValueError(
            f"the images are not those that {trace.folder} was trained on; "
            "training.prepare(config) gives them"
        )
    model, epoch = training.trained_model(trace), training.epochs_done(trace)
    # The folder's name identifies the run and the recipes that made it. The digest
    # identifies the epoch and the recipes of this measurement, which may be newer.
    digest = provenance.digest([epoch, top_k], trace.info["checksums"], PARTS)
    file = trace.folder / f"gauss_newton_{digest}.npy"
    if not file.exists():
        model = fold_batch_norm(model).to(best_device())
        device = next(model.parameters()).device
        found = []
        for start in range(0, len(images), chunk):
            some = images.select(np.arange(start, min(start + chunk, len(images))))
            pixels = some.tensor().to(device)
            estimate = input_curvature(
                model,
                normalise(pixels, trace.info["mean"], trace.info["std"]),
                torch.from_numpy(some.labels).to(device),
                method="gauss-newton",
                num_probes=1,
                top_k=min(top_k, len(images.classes)),
            )
            found.append(estimate.squared_frobenius_norm.double().cpu().numpy())
        buffer = io.BytesIO()
        np.save(buffer, np.concatenate(found)[np.argsort(images.index)])
        write_atomically(file, buffer.getvalue())
    return np.load(file, allow_pickle=False)


def suspicion(columns: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """Change the signs of this module's scores so that high is suspect.

    Args:
        columns: Scores [N] by name, one of ``SIGNS``.

    Returns:
        A table with a column for each score and N rows.
    """
    return pd.DataFrame({name: SIGNS[name] * v for name, v in columns.items()})
