"""Many small networks on random subsets, trained together, for memorization.

Feldman and Zhang (2020) need to know on which samples each network of an ensemble was
trained, and which samples it gets right. This module records both;
``curvlib.runs.influence`` computes estimates from them. The weights of a group of
networks are stacked, and one batched program (``torch.func.vmap``) makes a step for all
of them. For networks this small, most of the time of a step goes into starting its
operations, and the networks share that time.
"""

import io
import json
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import joblib
import numpy as np
import torch
import torch.nn.functional as F
from filelock import FileLock
from pydantic import field_validator
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from curvlib.data import Images, normalise, progress
from curvlib.data.seeding import seed_of
from curvlib.files import write_atomically
from curvlib.runs import networks, provenance
from curvlib.runs.checked import Must, Settings, at_least, told
from curvlib.runs.provenance import hardware, versions
from curvlib.runs.settings import (
    SCHEDULES,
    Activation,
    BatchSize,
    Epochs,
    LearningRate,
    Model,
    Momentum,
    Schedule,
    Seed,
    TrainConfig,
    WeightDecay,
    Width,
    checked_activation,
    checked_width,
)

RECIPE = 1  # of subsets, first weights, order of batches and steps
PARTS = ("data", "networks", "ensembles")
SHARED = (  # what means the same for one network, and is checked there
    "model",
    "width",
    "activation",
    "epochs",
    "lr",
    "momentum",
    "weight_decay",
    "batch_size",
    "schedule",
    "seed",
)
MASKS = ("inside", "correct", "correct_test")


class EnsembleConfig(Settings):
    """Everything an ensemble depends on, except data, code and machine.

    ``config.changed(lr=0.2)`` returns a copy with another value, ``config.as_dict()``
    all values by name.

    Raises:
        ValueError: If a value is out of range. The message names all faults.
        TypeError: If the only faults are values of another type or unknown names.
    """

    num_models: Annotated[
        int,
        told("Networks M; more can be added to an ensemble later."),
        at_least(1),
    ] = 2000
    ratio: Annotated[
        float,
        told(
            "Share of the N samples that each network is trained on, rounded to whole "
            "samples; Feldman and Zhang (2020) take 0.7."
        ),
        Must(
            "a share in (0, 1), so that some samples are left out",
            lambda value: 0 < value < 1,
        ),
    ] = 0.7
    model: Model = "mlp"
    width: Width = 32
    activation: Activation = "relu"
    epochs: Epochs = 20
    lr: LearningRate = 0.1
    momentum: Momentum = 0.9
    weight_decay: WeightDecay = 0.0
    batch_size: BatchSize = 64
    schedule: Schedule = "cosine"
    seed: Seed = 0
    models_at_once: Annotated[
        int,
        told(
            "Networks trained as one and kept as one file, which changes speed and "
            "memory, and estimates by rounding only."
        ),
        at_least(1),
    ] = 100

    _width = field_validator("width")(checked_width)
    _activation = field_validator("activation")(checked_activation)

    def training(self, **others: Any) -> TrainConfig:
        """Settings with which ``curvlib.fit`` trains one such network.

        Args:
            others: Any other setting of ``TrainConfig``, or another value for one.

        Returns:
            The settings.

        Raises:
            ValueError: If another value is out of range.
            TypeError: If it is of another type, or its name unknown.
        """
        return TrainConfig(**{name: getattr(self, name) for name in SHARED} | others)

    def subset_size(self, num_samples: int) -> int:
        """Number of samples that each network is trained on.

        Args:
            num_samples: Number N of samples from which subsets are drawn.

        Returns:
            The number, from 2 to N - 1.

        Raises:
            ValueError: If the ratio leaves fewer than 2 samples in, or none out.
        """
        size = round(self.ratio * num_samples)
        if not 2 <= size < num_samples:
            raise ValueError(
                f"ratio {self.ratio} of {num_samples} samples is {size}; each network "
                "needs at least 2 of them, and at least 1 left out"
            )
        return size


class Ensemble(NamedTuple):
    """The samples each network was trained on and gets right, without the networks."""

    inside: np.ndarray  # bool [M, N]: whether it was trained on the sample
    correct: np.ndarray  # bool [M, N]: whether it gets the sample's label right
    correct_test: np.ndarray  # bool [M, N_test]: the same of samples none was given
    seconds: float  # of one core, for all M, when they were made


class _Samples(NamedTuple):
    """The samples sent to each training process; they are the same for every group."""

    train: np.ndarray  # uint8 [N, H, W, C]
    labels: np.ndarray
    test: np.ndarray
    test_labels: np.ndarray
    scaling: tuple[list[float], list[float]]
    num_classes: int


def train(
    config: EnsembleConfig,
    images: Images,
    test: Images | None = None,
    *,
    runs: str | Path = "runs",
    n_jobs: int | None = None,
) -> Ensemble:
    """Train networks on random subsets, and return which samples each gets right.

    A group of ``models_at_once`` networks is one program on one core. joblib runs the
    groups in ``n_jobs`` processes, or as an enclosing ``joblib.parallel_config`` says,
    such as ``with joblib.parallel_config("dask"):`` with a ``dask.distributed.Client``,
    or ``"ray"``. Each finished group is stored in ``runs/`` at once. After an
    interruption, even by SIGKILL, only the missing groups are trained. If you ask for
    more networks with the same config, they are added to the existing ones.

    Args:
        config: Settings of the training.
        images: N samples from which subsets are drawn, with the labels given. The mean
            and deviation of their channels, over all N, normalise every input.
        test: N_test samples of the same classes on which no network is trained; None:
            no such samples.
        runs: Folder of all runs; this one gets ``runs/ensemble-...``.
        n_jobs: Number of groups trained at a time. None: as joblib is configured, 1 by
            default. -1: one for each core.

    Returns:
        The record of all M networks.

    Raises:
        FloatingPointError: If a network's loss is not finite. The message says what to
            try.
        ValueError: If the network has buffers, the test samples have other classes, the
            ratio leaves nothing in or out, or a file is damaged.
    """
    config.subset_size(len(images))
    if test is not None and test.classes != images.classes:
        raise ValueError(
            f"the test samples must be of the same classes, got {images.classes} and "
            f"{test.classes}"
        )
    shape = images.images.shape[1:]
    samples = _Samples(
        images.images[:],  # in memory, if they are in files
        images.labels,
        test.images[:] if test is not None else np.zeros((0, *shape), np.uint8),
        test.labels if test is not None else np.zeros(0, np.int64),
        images.statistics(),
        len(images.classes),
    )
    _network(config, samples, 0)  # refuses what cannot be stacked, before any work

    folder = Path(runs) / run_name(config, images, test)
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / ".lock"):
        about = {"config": config.as_dict(), "recipes": provenance.recipes(PARTS)}
        about |= {"versions": versions(), "hardware": hardware("cpu")}
        text = json.dumps(about, indent=1) + "\n"
        if not (folder / "config.json").exists():
            write_atomically(folder / "config.json", text.encode())
        groups = [
            range(start, min(start + config.models_at_once, config.num_models))
            for start in range(0, config.num_models, config.models_at_once)
        ]
        missing = [group for group in groups if not _file(folder, group).exists()]
        began = time.perf_counter()
        spread = _spread(config, samples, missing, n_jobs)
        for done, (group, found) in enumerate(spread, start=1):
            buffer = io.BytesIO()
            np.savez(buffer, **found)
            write_atomically(_file(folder, group), buffer.getvalue())
            left = (time.perf_counter() - began) / done * (len(missing) - done) / 60
            progress.report(
                f"ensemble of {config.num_models} on {images.name}: "
                f"{len(groups) - len(missing) + done}/{len(groups)} groups, "
                f"left {left:.1f} min"
            )
        return _read(folder, groups, len(images), len(samples.test))


def run_name(config: EnsembleConfig, images: Images, test: Images | None = None) -> str:
    """Name of an ensemble's folder: data, model, and a hash of all it depends on.

    The name does not depend on the number of networks, so that you can add more.

    Args:
        config: Settings of the training.
        images: Samples from which subsets are drawn.
        test: Samples on which no network is trained, if there are any.

    Returns:
        The name, such as ``ensemble-digits-mlp-0123456789``.
    """
    settings = config.identity()
    del settings["num_models"]
    checksums = {"train": images.checksum}
    if test is not None:
        checksums["test"] = test.checksum
    digest = provenance.digest(settings, checksums, PARTS)
    return f"ensemble-{Path(images.name).stem}-{config.model}-{digest}"


def _file(folder: Path, group: range) -> Path:
    return folder / f"models_{group.start:06d}_{group.stop:06d}.npz"


def _spread(config, samples, groups, n_jobs):
    """Yield pairs of a group and its record, in the order in which they finish."""
    if not groups:
        return
    parallel = joblib.Parallel(n_jobs=n_jobs, batch_size=1)
    backend = parallel._backend
    if getattr(backend, "supports_return_generator", False):
        parallel = joblib.Parallel(
            n_jobs=n_jobs, batch_size=1, return_as="generator_unordered"
        )
        waves = [groups]
    else:  # Ray's and multiprocessing's give nothing before they have all
        size = max(joblib.effective_n_jobs(n_jobs), 1)
        waves = [groups[i : i + size] for i in range(0, len(groups), size)]
    task = joblib.delayed(_numbered)
    for wave in waves:
        yield from parallel(task(config, samples, group) for group in wave)


def _numbered(config, samples, group):
    return group, train_group(config, samples, group)


def train_group(
    config: EnsembleConfig, samples: _Samples, numbers: Sequence[int]
) -> dict[str, np.ndarray]:
    """Train some networks of an ensemble together, on one core.

    Args:
        config: Settings of the ensemble.
        samples: As ``train`` sends them.
        numbers: Numbers of G networks, in any order.

    Returns:
        By name: ``inside`` and ``correct``, G rows of N bits packed by ``np.packbits``;
        ``correct_test``, G rows of N_test bits; ``seconds`` of one core.

    Raises:
        FloatingPointError: If a network's loss is not finite.
    """
    threads, flushed = torch.get_num_threads(), not (torch.full((1,), 1e-40) * 1).any()
    torch.set_num_threads(1)
    # The momentum of a weight without a gradient, such as that of a dead unit, halves
    # every seven steps. Below 1e-38, arithmetic takes many times as long, for nothing.
    torch.set_flush_denormal(True)
    try:
        return _train_group(config, samples, list(numbers))
    finally:
        torch.set_num_threads(threads)
        torch.set_flush_denormal(bool(flushed))


def _train_group(config, samples, numbers) -> dict[str, np.ndarray]:
    began = time.perf_counter()
    x, test = (_inputs(part, samples.scaling) for part in (samples.train, samples.test))
    y, test_y = map(
        torch.from_numpy, (samples.labels.copy(), samples.test_labels.copy())
    )
    size = config.subset_size(len(x))
    plans = [_Plan(config.seed, number, len(x), size) for number in numbers]
    networks = [_network(config, samples, number) for number in numbers]
    weights = {
        name: stacked.detach().requires_grad_()
        for name, stacked in stack_module_state(networks)[0].items()
    }

    def one(weights: dict[str, Tensor], x: Tensor) -> Tensor:
        return functional_call(networks[0], weights, (x,))

    logits_of = vmap(one)  # [G, B, *input] to [G, B, C], each with its own weights
    # The gradient of a sum of losses, each of one network, is each network's own.
    optimizer = torch.optim.SGD(
        weights.values(),
        lr=config.lr,
        momentum=config.momentum,
        weight_decay=config.weight_decay,
    )
    for rate, batches in steps(config, size, [plan.order for plan in plans]):
        for group in optimizer.param_groups:
            group["lr"] = rate
        logits = logits_of(weights, x[batches]).flatten(0, 1)
        loss = F.cross_entropy(logits, y[batches].flatten(), reduction="sum")
        optimizer.zero_grad()
        (loss / batches.shape[1]).backward()
        optimizer.step()

    diverged = [
        number
        for g, number in enumerate(numbers)
        if not all(stacked[g].isfinite().all() for stacked in weights.values())
    ]
    if diverged:
        raise FloatingPointError(
            f"network {diverged[0]} of the ensemble diverged (first of {len(diverged)} "
            f"in a group of {len(numbers)}), with lr {config.lr:g} and momentum "
            f"{config.momentum:g}; try lr {config.lr / 10:g}"
        )
    right_of = vmap(one, in_dims=(0, None))  # every network on the same samples
    inside = np.zeros((len(numbers), len(x)), bool)
    for row, plan in zip(inside, plans, strict=True):
        row[plan.subset] = True
    found = {"inside": inside}
    for name, inputs, labels in (("correct", x, y), ("correct_test", test, test_y)):
        found[name] = _right(right_of, weights, inputs, labels, len(numbers))
    packed = {name: np.packbits(mask, axis=1) for name, mask in found.items()}
    return packed | {"seconds": np.array(time.perf_counter() - began)}


class _Plan:
    """The random choices of one network: its subset, and the order of each epoch."""

    def __init__(self, seed: int, number: int, num_samples: int, size: int):
        self._rng = np.random.default_rng([seed, number, *b"subset"])
        self.subset = np.sort(self._rng.permutation(num_samples)[:size])

    def order(self) -> np.ndarray:
        return self._rng.permutation(self.subset)


def steps(
    config: EnsembleConfig, size: int, orders: Sequence[Callable[[], np.ndarray]]
) -> Iterator[tuple[float, Tensor]]:
    """Plan every step of a training: its learning rate, and a batch for each network.

    Args:
        config: Settings of the ensemble.
        size: Samples of each subset.
        orders: For each of G networks, a function that gives the order of its next
            epoch, int64 [size].

    Yields:
        Learning rate, and positions of the samples in the batches, int64 [G, B].
    """
    count = max(min(-(-size // config.batch_size), size // 2), 1)
    for epoch in range(config.epochs):
        order = torch.from_numpy(np.stack([draw() for draw in orders]))
        for number, batches in enumerate(order.tensor_split(count, dim=1)):
            done = (epoch + number / count) / config.epochs
            yield config.lr * SCHEDULES[config.schedule](done), batches


def _network(config: EnsembleConfig, samples: _Samples, number: int) -> nn.Module:
    height, width, channels = samples.train.shape[1:]
    network = networks.build(
        config.model,
        num_classes=samples.num_classes,
        input_shape=(channels, height, width),
        width=config.width,
        activation=config.activation,
        seed=seed_of([config.seed, number], "weights"),
    )
    buffers = [name for name, _ in network.named_buffers()]
    if buffers:
        raise ValueError(
            f"{config.model} has buffers ({buffers[0]}, ...), such as those of batch "
            "norm, so networks of it cannot be trained as one; use 'mlp'"
        )
    return network


def _inputs(images: np.ndarray, scaling) -> Tensor:
    pixels = torch.from_numpy(np.array(images)).permute(0, 3, 1, 2).contiguous()
    return normalise(pixels, *scaling)


def _right(
    logits_of, weights: dict[str, Tensor], x: Tensor, y: Tensor, count: int
) -> np.ndarray:
    """Whether each network gets each sample right, bool [G, N]."""
    right = np.zeros((count, len(x)), bool)
    with torch.no_grad():
        for start in range(0, len(x), 500):
            rows = slice(start, start + 500)
            predicted = logits_of(weights, x[rows]).argmax(2)
            right[:, rows] = (predicted == y[rows]).numpy()
    return right


def _read(folder: Path, groups: list[range], n: int, n_test: int) -> Ensemble:
    lengths = {"inside": n, "correct": n, "correct_test": n_test}
    found = {name: [] for name in MASKS}
    seconds = 0.0
    for group in groups:
        file = _file(folder, group)
        try:
            with np.load(file, allow_pickle=False) as saved:
                for name, length in lengths.items():
                    mask = np.unpackbits(saved[name], axis=1, count=length)
                    if len(mask) != len(group):
                        raise ValueError(f"{len(mask)} networks, not {len(group)}")
                    found[name].append(mask.view(bool))
                seconds += float(saved["seconds"])
        except Exception as error:  # of zipfile, zlib or numpy
            raise ValueError(
                f"{file} is damaged ({error}); delete it to train its networks again"
            ) from error
    masks = {name: np.concatenate(parts) for name, parts in found.items()}
    return Ensemble(**masks, seconds=seconds)
