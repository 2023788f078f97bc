"""Golden values: a few small numbers of every part that has a recipe number.

``tests/golden.json`` holds the values, and the recipe numbers under which they were
made. ``tests/test_golden.py`` computes the values again. It fails if one of them
changed and no recipe number did: runs and records would keep names that no longer say
what made them.

    python tests/golden.py             write new values
    python tests/golden.py --compare   show how much of each tolerance is used here

The first command refuses to replace a value that changed under the same recipe numbers.
It keeps every stored value that still agrees, so that values do not wander from machine
to machine. Use ``--force`` only after an edit of this file that gives a value another
meaning.

What agrees on every processor
------------------------------
*Exact* values are integers and text: labels, orders, random signs, checksums of pixels.
NumPy and PyTorch draw integers by integer arithmetic, with one result everywhere.

*Close* values are lists of floats. Each may be off by a tolerance times the largest of
the list. Processors differ in the width of their registers and in fused multiply-add,
so they add in another order. Inputs are made of integers here, and so are the weights
wherever no training comes in; nothing but rounding is left to differ.

To set the tolerances, all values were computed on an AVX-512 processor (PyTorch 2.14)
and again with two threads, with kernels for AVX2 and for SSE4.1 only
(``ATEN_CPU_CAPABILITY``, ``ONEDNN_MAX_CPU_ISA``, ``MKL_CBWR``), and without oneDNN.
Each tolerance is at least thirty times the largest deviation that was seen, and
each is exceeded by the changes that ``tests/test_golden.py`` tries.

A kink of a ReLU could break this: it turns a rounding error into a jump. On these
inputs the nearest one is 7e-6 away, in units of the layer's root mean square. Rounding
moves a layer by about 5e-7.
"""

import argparse
import inspect
import json
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
import pandas as pd
import sklearn.datasets
import torch
from PIL import Image
from torch import Tensor, nn
from torch.optim import optimizer

from curvlib import curvature, data, scores
from curvlib.data import Images, folders
from curvlib.runs import (
    ensembles,
    features,
    halves,
    head,
    networks,
    provenance,
    scoring,
    training,
)
from curvlib.runs.settings import SCHEDULES, TrainConfig
from curvlib.studies import (
    calibration,
    counting,
    own_data,
    variants,
    wrong_label_tools,
)
from curvlib.studies import suspects as own_images

FILE = Path(__file__).with_name("golden.json")
COMMAND = "python tests/golden.py"

# Tolerances, in units of the largest number of a list, and the largest deviation seen.
DOUBLE = 1e-9  # 3e-13. Float64; a difference over h = 1e-3 loses three digits of 16.
SECOND = 1e-6  # 8e-10. Float64; a second difference over h² = 1e-6 loses six.
SINGLE = 1e-4  # 5e-7. Float32 through ten layers: several times its epsilon of 6e-8.
WEIGHTS = 1e-4  # 3e-7. Normal numbers, which come from a logarithm and a cosine.
TRAINED = 1e-4  # 8e-7. Six steps in float32, too few for rounding to grow.
# 2e-5. Two float32 gradients g, each off by 5e-7 ‖g‖, over h ‖Δ‖. Here ‖g‖ / (h ‖Δ‖) is
# 13 (softplus, h = 0.1) and 18 (ReLU, h = 1e-3), and squares double the error.
DIFFERENCE = 2e-3
TABLE = 3e-2  # 1e-3. Tables hold ranks, and rounding can swap two of 60 samples.
PIXELS = 1e-2  # 0. Decoders of JPEG may differ by one level in 255, which is 4e-3.


class Close(NamedTuple):
    """Floats, each of which may be off by so much."""

    numbers: list[float]
    allowed: float


Values = dict[str, Any]  # by name: Close, or anything exact that survives JSON


def close(numbers: Any, tolerance: float) -> Close:
    """Floats that may be off by a tolerance times the largest of them."""
    numbers = np.asarray(numbers, dtype=np.float64).ravel()
    return within(numbers, tolerance * float(np.abs(numbers).max()))


def within(numbers: Any, allowed: float) -> Close:
    """Floats that may be off by so much, whatever their size."""
    return Close([float(f"{n:.12g}") for n in np.asarray(numbers).ravel()], allowed)


def deviation(expected: list[float], got: list[float]) -> float:
    """Largest difference; infinite where the lists cannot be compared."""
    if not isinstance(expected, list) or len(expected) != len(got):
        return float("inf")
    worst = float(np.abs(np.subtract(expected, got)).max())
    return float("inf") if np.isnan(worst) else worst


def plain(got: Any) -> Any:
    """A value as golden.json holds it."""
    return got.numbers if isinstance(got, Close) else got


def agree(expected: Any, got: Any) -> bool:
    """Whether a stored value and a computed one are the same."""
    if isinstance(got, Close):
        return deviation(expected, got.numbers) <= got.allowed
    return expected == got


# Inputs: made of integers that NumPy promises never to change.


def integers(seed: int, *shape: int, below: int = 256) -> np.ndarray:
    draws = np.random.RandomState(seed).randint(below, size=shape, dtype=np.uint8)
    return draws.astype(np.int64)


def pictures(
    count: int, *, size: int = 8, channels: int = 1, num_classes: int = 4, **options
) -> Images:
    """Random pixels, random labels; every fourth image is as bright as can be."""
    pixels = integers(0, count, size, size, channels)
    brightness = np.arange(count)[:, None, None, None] % 4 + 1
    return Images(
        images=(pixels * brightness // 4).astype(np.uint8),
        labels=integers(1, count, below=num_classes),
        index=np.arange(count),
        classes=tuple("abcdefghij"[:num_classes]),
        **options,
    )


@torch.no_grad()
def with_fixed_weights(model: nn.Module) -> nn.Module:
    """Set weights and batch norms by integers, so that they are alike everywhere."""
    for number, (name, tensor) in enumerate(sorted(model.state_dict().items())):
        draws = torch.from_numpy(integers(number, *tensor.shape, below=201))
        signed = (draws.double() - 100) / 100  # in [-1, 1]
        if name.endswith("num_batches_tracked"):
            continue
        if name.endswith("running_var"):
            signed = 1 + signed / 2
        elif tensor.ndim == 1:  # biases, batch norms
            signed = signed / 4 + ("norm" in name and name.endswith("weight"))
        else:
            signed = signed * (6 / tensor[0].numel()) ** 0.5
        tensor.copy_(signed)
    return model.eval()


def checksum(array: Any) -> int:
    """Of pixels or labels, as integers of one byte each."""
    return zlib.crc32(np.ascontiguousarray(np.asarray(array), np.uint8).tobytes())


def summary(weights: Iterable[Tensor]) -> list[float]:
    """Mean, root mean square and one fixed projection of all weights, and some."""
    flat = torch.cat([weight.detach().double().flatten() for weight in weights])
    thinned = flat[:: len(flat) // 100_000 + 1]
    direction = torch.cos(torch.arange(len(thinned), dtype=torch.float64))
    found = [flat.mean(), flat.norm() / len(flat) ** 0.5, (thinned * direction).mean()]
    return [number.item() for number in (*found, *flat[:: len(flat) // 8])]


# The part "data".


def loading() -> Values:
    """Digits, an .npz file, and their statistics."""
    found: Values = {}
    for split in ("train", "test"):
        digits = data.load("digits", split=split)
        found[f"digits, {split}: checksum"] = digits.checksum
        found[f"digits, {split}: first labels"] = digits.labels[:10].tolist()
    digits = data.load("digits")
    found["digits: mean and deviation"] = close(digits.statistics(), DOUBLE)
    found["digits: normalised"] = close(
        data.normalise(digits.tensor()[:1], *digits.statistics()), SINGLE
    )
    with tempfile.TemporaryDirectory() as folder:
        np.savez(
            Path(folder) / "made.npz",
            train_images=integers(2, 5, 4, 4).astype(np.uint8),
            train_labels=integers(3, 5, below=3),
        )
        found[".npz file: checksum"] = data.load("made", folder).checksum
    return found


def noise() -> Values:
    """Wrong labels of every kind."""
    clean = pictures(40, num_classes=10)
    found: Values = {}
    for name, change in (
        ("symmetric", data.with_symmetric_noise),
        ("pair", data.with_pair_flip),
    ):
        for rate in (0.1, 0.4):
            labels = change(clean, rate, seed=3).labels.tolist()
            found[f"{name} noise of {rate}: labels"] = labels
    planted = data.with_planted_duplicates(clean, 6, seed=3, first_index=100)
    for field in ("labels", "index", "source"):
        values = getattr(planted, field)[-6:].tolist()
        found[f"planted duplicates: {field}"] = values
    found["planted duplicates: checksum"] = planted.checksum
    people = pictures(40, num_classes=10, name="cifar10")
    with tempfile.TemporaryDirectory() as folder:
        np.savez(
            Path(folder) / "CIFAR-10_human.npz",
            clean_label=people.labels,
            **{
                key: integers(4 + number, 40, below=10)
                for number, (name, (dataset, key)) in enumerate(data.HUMAN.items())
                if dataset == "cifar10"
            },
        )
        for name, (dataset, _) in data.HUMAN.items():
            if dataset == "cifar10":
                labels = data.with_human_labels(people, name, folder).labels
                found[f"{name}: labels"] = labels.tolist()
    return found


def augmentation() -> Values:
    """Crops and flips of images in memory."""
    images = pictures(6, channels=3)
    generator = torch.Generator().manual_seed(5)
    found: Values = {
        "crops: checksum": checksum(data.augment(images.tensor(), generator=generator)),
    }
    batches = [torch.tensor([4, 1, 2]), torch.tensor([0, 5, 3])]
    read = images.reader("cpu")
    crops = torch.cat(list(read(batches, generator=generator)))
    found["crops as read in batches: checksum"] = checksum(crops)
    found["images as read in batches: checksum"] = checksum(torch.cat([*read(batches)]))
    return found


def photographs() -> Values:
    """Files in class folders: their order, and a few pixels of each as decoded."""
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root) / "made" / "train"
        rows, columns = np.mgrid[:40, :52]
        for number, (place, kind) in enumerate(
            (("b/1.png", "PNG"), ("a/2.jpg", "JPEG"), ("a/10.png", "PNG"))
        ):
            wave = np.sin(rows / (2 + number)) * np.cos(columns / (4 - number))
            pixels = [127 + 100 * wave, 4 * columns, 6 * rows]
            image = Image.fromarray(np.stack(pixels, 2).clip(0, 255).astype(np.uint8))
            (folder / place).parent.mkdir(parents=True, exist_ok=True)
            image.save(folder / place, kind)
        images = data.load("made", root, image_size=16)
        table = folders.index_of(folder)
        files = folders.Photographs(  # decoded in this process
            folder,
            np.array([path.encode() for path in table["path"]]),
            np.array([int(crc, 16) for crc in table["crc32"]], np.uint32),
            16,
            workers=0,
        )
        batches = [torch.tensor([2, 0, 1])]
        (crops,) = files.reader(torch.device("cpu"))(
            batches, generator=torch.Generator().manual_seed(5)
        )
        return {
            "photographs: files in order": table["path"].tolist(),
            "photographs: labels": images.labels.tolist(),
            "photographs: pixels": close(images.images[:].reshape(-1)[::61], PIXELS),
            "photographs: mean and deviation": close(images.statistics(), PIXELS),
            "photographs: crops": close(crops.numpy().reshape(-1)[::61], PIXELS),
        }


# The part "networks".


def architectures(names: Iterable[str] | None = None) -> Values:
    """Of every network: first weights, logits in float64, and what folding leaves.

    A forward that ``torch.fx`` cannot trace changes numbers by rounding only. Scoring
    then silently uses a copy without folding. So the number of batch norms that run in
    the copy is a value, too: it is 0, and 3 for the whitened net, whose max-pools stand
    before a batch norm.
    """
    found: Values = {}
    x = torch.from_numpy(integers(6, 2, 3, 16, 16)).double() / 128 - 1
    for name in names or (*networks.MODELS, f"{networks.TORCHVISION}resnet18"):
        known = networks.ACTIVATIONS if name in networks.MODELS else ("relu",)
        for activation in known:
            model = networks.build(
                name,
                num_classes=3,
                input_shape=(3, 16, 16),
                width=8,
                activation=activation,
                seed=11,
            )
            first = close(summary(model.parameters()), WEIGHTS)
            model = with_fixed_weights(model).double()
            folded = networks.fold_batch_norm(model)
            with torch.no_grad():
                logits, folded_logits = model(x), folded(x)
            found |= {
                f"{name}, {activation}: first weights": first,
                f"{name}, {activation}: logits": close(logits, DOUBLE),
                f"{name}, {activation}: logits, folded": close(folded_logits, DOUBLE),
                f"{name}, {activation}: batch norms left": _batch_norms_run(folded, x),
            }
    return found


def _batch_norms_run(model: nn.Module, x: Tensor) -> int:
    ran: list[nn.Module] = []
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.register_forward_hook(lambda norm, *_: ran.append(norm))
    model(x)
    return len(ran)


# The part "scoring".

OF_PROBES = ("mean_hvp_norm", "squared_frobenius_norm", "standard_error")


def probes() -> Values:
    """Random bits, by seed and epoch."""
    return {
        f"probes of seed {seed}, epoch {epoch}": curvature.rademacher(
            2, (3, 4), generator=scoring.stream(seed, epoch, "probes")
        )
        .int()
        .flatten()
        .tolist()
        for seed, epoch in ((0, 1), (0, 2), (7, 1))
    }


def columns() -> Values:
    """All columns of a trace, in float32, as a run has them."""
    images = pictures(8)
    found: Values = {}
    for name, activation, step in (
        ("slim_resnet", "softplus", 0.1),
        ("slim_resnet", "relu", 1e-3),
        ("mlp", "tanh", 0.1),
    ):
        model = _small(name, activation)
        options = {"scaling": images.statistics(), "epoch": 3, "num_probes": 3}
        scored = scoring.score(model, images, step=step, seed=7, chunk=3, **options)
        for column, values in scored.items():
            if values.dtype.kind in "bi":
                value = values.astype(int).tolist()
            else:
                value = close(values, DIFFERENCE if column in OF_PROBES else SINGLE)
            found[f"{name}, {activation}, step {step}: {column}"] = value
        given = scoring.probabilities(model, images, scaling=images.statistics())
        found[f"{name}, {activation}: probabilities"] = close(given, SINGLE)
    return found


def estimates() -> Values:
    """Every method in float64, with its defaults: a sharp look at the formulas."""
    images = pictures(4)
    x = images.tensor().double() / 128 - 1
    y = torch.from_numpy(images.labels)
    found: Values = {}
    for activation in ("softplus", "relu"):
        model = _small("slim_resnet", activation).double()
        for method in curvature.METHODS:
            estimate = curvature.input_curvature(model, x, y, method=method)
            for field in fields(estimate):
                values = getattr(estimate, field.name)
                name = f"{activation}, {method}: {field.name}"
                known = values.isfinite().all()
                tolerance = SECOND if method == "zero-order" else DOUBLE
                found[name] = close(values, tolerance) if known else "unknown"
    return found


def _small(name: str, activation: str) -> nn.Module:
    return with_fixed_weights(
        networks.build(
            name,
            num_classes=4,
            input_shape=(1, 8, 8),
            width=8,
            activation=activation,
        )
    )


# The part "training".


class Watcher(nn.Module):
    """A classifier that remembers the batches it is trained on."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(4))
        self.seen: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.seen.append(x.detach().clone())
        return x.flatten(1)[:, :1] * self.weight


AS_THEY_ARE = [0.0], [1 / 255]  # mean and deviation that leave pixels in [0, 255]


def order() -> Values:
    """Which samples make up each batch, and the crops that are trained on."""
    found: Values = {}
    for count, size in ((10, 4), (3, 2)):
        numbers = np.arange(count, dtype=np.uint8)
        images = Images(  # image i has the value i everywhere
            images=np.ones((1, 8, 8, 1), np.uint8) * numbers[:, None, None, None],
            labels=numbers % 4,
            index=numbers,
            classes=tuple("abcd"),
        )
        config = TrainConfig(epochs=2, batch_size=size, lr=1e-6, seed=9)
        batches = [x[:, 0, 0, 0].round().int() for x in _watched(config, images)]
        found[f"batches of {count} samples"] = [batch.tolist() for batch in batches]
    config = TrainConfig(epochs=2, batch_size=4, lr=1e-6, seed=9, augment=True)
    crops = torch.cat(_watched(config, pictures(10))).round()
    return found | {"crops trained on: checksum": checksum(crops)}


def _watched(config: TrainConfig, images: Images) -> list[Tensor]:
    model = Watcher()
    for _ in training.passes(
        config, images, scaling=AS_THEY_ARE, model=model, device="cpu"
    ):
        pass
    return model.seen


def rates() -> Values:
    """Learning rate of every step, by schedule, and what else the optimizer is told."""
    found: Values = {}
    options = {"epochs": 5, "batch_size": 4, "lr": 1e-3}
    for schedule in SCHEDULES:
        with stepping() as steps:
            config = TrainConfig(
                schedule=schedule, momentum=0.7, weight_decay=0.01, **options
            )
            _watched(config, pictures(8))
        found |= {f"{schedule} schedule: {k}": v for k, v in of_steps(steps).items()}
    with stepping() as steps:
        config = TrainConfig(
            augment=True,
            augment_epochs=3,
            restart=0.2,
            warmup=0.25,
            schedule="linear",
            **options,
        )
        _watched(config, pictures(8))
    restarted = of_steps(steps)["learning rates"]
    return found | {"restarted schedule: learning rates": restarted}


class Step(NamedTuple):
    """One step of an optimizer: how it was made, and the weights, which go on."""

    lr: float
    momentum: float
    weight_decay: float
    weights: list[Tensor]


@contextmanager
def stepping() -> Iterator[list[Step]]:
    """Every step of any optimizer within."""
    found: list[Step] = []

    def note(stepped: torch.optim.Optimizer, *_) -> None:
        (group,) = stepped.param_groups
        told = (group[name] for name in ("lr", "momentum", "weight_decay"))
        found.append(Step(*told, group["params"]))

    hook = optimizer.register_optimizer_step_pre_hook(note)
    try:
        yield found
    finally:
        hook.remove()


def of_steps(steps: list[Step]) -> Values:
    rates, momentum, decay, _ = zip(*steps, strict=True)
    return {
        "learning rates": close(rates, DOUBLE),
        "momentum": sorted(set(momentum)),
        "weight decay": sorted(set(decay)),
    }


def preparation() -> Values:
    """The samples that settings ask for."""
    found: Values = {}
    for noise in ("symmetric", "pair"):
        config = TrainConfig(
            num_train=50,
            num_heldout=20,
            noise=noise,
            noise_rate=0.2,
            planted_duplicates=5,
            seed=4,
        )
        train, heldout = training.prepare(config)
        found[f"prepared, {noise} noise: checksum"] = train.checksum
        found[f"prepared, {noise} noise: wrong"] = train.index[
            train.mislabelled
        ].tolist()
    found["prepared: checksum of held-out samples"] = heldout.checksum
    return found


# Momentum and weight decay large enough for a change of either to show at once.
SHORT = {"epochs": 2, "batch_size": 8, "momentum": 0.8, "weight_decay": 0.02, "seed": 2}
RUNS = {
    "mlp": {"activation": "softplus", "lr": 0.05, "schedule": "cosine"},
    "slim_resnet": {"activation": "softplus", "lr": 0.02, "augment": True},
    "strided_resnet": {"activation": "relu", "lr": 0.02},
}


def short_runs(names: Iterable[str] | None = None) -> Values:
    """Two epochs of three steps: losses, weights, and what the trace says."""
    found: Values = {}
    images, heldout = pictures(24), pictures(6)
    wrong = data.with_symmetric_noise(images, 0.25, seed=0)
    for name in names or RUNS:
        config = TrainConfig(
            model=name, width=8, score_original_labels=True, **RUNS[name], **SHORT
        )
        with tempfile.TemporaryDirectory() as folder:
            trace = training.fit(config, wrong, heldout, runs=folder, device="cpu")
            log = trace.log()
            model = training.trained_model(trace)
            found[f"{name}: epochs scored"] = trace.epochs.tolist()
            found[f"{name}: loss of each epoch"] = close(log["train_loss"], TRAINED)
            found[f"{name}: accuracy of each epoch"] = within(
                log["train_accuracy"], _flips(1, of=len(images))
            )
            found[f"{name}: weights"] = close(summary(model.parameters()), TRAINED)
            for split in ("train", "heldout", "original_labels"):
                found[f"{name}: loss of samples, {split}"] = close(
                    trace.read("loss", split)[-1], TRAINED
                )
    return found


# The part "halves".


def two_halves() -> Values:
    """Trainings on halves, and the two scores that they give."""
    images = pictures(24, num_classes=3)
    config = TrainConfig(model="mlp", width=8, activation="softplus", lr=0.05, **SHORT)
    with tempfile.TemporaryDirectory() as folder, stepping() as steps:
        made = halves.train_on_halves(
            config, images, second_epochs=2, runs=folder, device="cpu"
        )
    confidence = halves.confident_learning(made.probabilities, images.labels)
    forgotten = halves.second_split_forgetting(made.correct)
    return {
        "half of each sample": made.half.tolist(),
        "probabilities by the other half": close(made.probabilities, TRAINED),
        "confident learning": close(confidence, TRAINED),
        "accuracy on the first half": within(
            made.correct.mean(1), _flips(1, of=len(images))
        ),
        # One flip can move a time by E + 1 = 3.
        "second-split forgetting: mean": within(
            [forgotten.mean()], _flips(3, of=len(images))
        ),
        "weights": close(summary(steps[-1].weights), TRAINED),
    } | of_steps(steps)


def exact_curvature() -> Values:
    """Gauss-Newton curvature of a run."""
    images = pictures(12)
    config = TrainConfig(
        model="strided_resnet", width=8, activation="softplus", lr=0.02, **SHORT
    )
    with tempfile.TemporaryDirectory() as folder:
        trace = training.fit(config, images, runs=folder, device="cpu")
        return {
            f"Gauss-Newton, {k} classes": close(
                halves.gauss_newton(trace, images, top_k=k), DIFFERENCE
            )
            for k in (2, 10)
        }


def _flips(count: int, *, of: int) -> float:
    """Tolerance that lets so many samples be right on one machine, wrong on another."""
    return (count + 0.5) / of


# The part "ensembles".


def small_ensemble() -> Values:
    """Subsets, order of batches, learning rates, and what each network gets right."""
    images, test = pictures(40), pictures(20)
    config = ensembles.EnsembleConfig(
        num_models=6,
        models_at_once=4,
        width=8,
        activation="softplus",
        epochs=3,
        batch_size=8,
        momentum=0.8,
        weight_decay=0.02,
        seed=2,
    )
    with tempfile.TemporaryDirectory() as folder, stepping() as steps:
        made = ensembles.train(config, images, test, runs=folder, n_jobs=1)
    return {
        "subsets": [np.flatnonzero(row).tolist() for row in made.inside],
        "weights": close(summary(steps[-1].weights), TRAINED),
        "accuracy of each network": within(made.correct.mean(1), _flips(1, of=40)),
        "accuracy of each, test": within(made.correct_test.mean(1), _flips(1, of=20)),
    } | of_steps(steps)


# Studies.


def followed() -> Values:
    """One run, its curvature measured in two ways."""
    config = TrainConfig(
        num_train=40,  # all classes occur, so that noise may go to each
        noise_rate=0.2,
        model="mlp",
        width=8,
        activation="relu",
        lr=0.02,
        num_probes=2,
        step=0.1,
        **SHORT,
    )
    with tempfile.TemporaryDirectory() as folder:
        made = variants.follow(
            config,
            {
                "difference": {"num_probes": 2, "step": 0.1},
                "exact": {"method": "autograd", "num_probes": 2, "double": True},
                "shifted": {"num_probes": 1, "step": 0.1, "shift": 1},
            },
            epochs=[2, 1],
            close={"near": {"num_probes": 1, "step": 0.2}},
            close_epoch=2,
            crossing_steps=(0.1,),
            num_reference=2,
            num_tested=1,
            num_measured=12,
            runs=folder,
        )
    found: Values = {"shapes": {name: list(a.shape) for name, a in made.items()}}
    for name, values in made.items():
        if values.dtype == bool:
            found[name] = values.astype(int).tolist()
        elif name.startswith("crossings/"):
            found[f"{name}: mean"] = within([values.mean()], _flips(1, of=values.size))
        else:
            found[name] = close(values, DIFFERENCE)
    return found


# A small measurement by each study that has tables. To watch another one, add it here.
RUNS_OF_STUDIES = {
    "dataset": "digits",
    "num_train": 60,
    "seeds": [0, 1],
    "model": "mlp",
    "width": 8,
    "epochs": 2,
    "batch_size": 16,
    "step": 0.1,  # so large that rounding does not matter
}
STUDIES: dict[str, dict[str, Any]] = {
    "cost": {"num_timed": 16, "model": "mlp", "width": 8, "probes": [1], "repeats": 1},
    "duplicates": RUNS_OF_STUDIES | {"planted_duplicates": 8},
    "dynamics": RUNS_OF_STUDIES | {"num_heldout": 20, "noise_rate": 0.2},
    "estimator": {n: v for n, v in RUNS_OF_STUDIES.items() if n != "step"}
    | {"scored_epochs": [1], "num_reference": 4, "noise_rate": 0.2, "seeds": [0]},
    "explorer": RUNS_OF_STUDIES,
    "feldman_zhang": RUNS_OF_STUDIES
    | {"released": "released.npz", "num_heldout": 20, "num_top": 10},
    "gallery": RUNS_OF_STUDIES | {"num_shown": 1},
    "imagenet": RUNS_OF_STUDIES
    | {"num_shown": 1, "num_timed": 2, "paper_model": "mlp", "paper_size": 8},
    "mislabelled": RUNS_OF_STUDIES
    | {"num_train": 200, "second_epochs": 1, "num_timed": 16, "num_unseen": 20},
    "memorization": RUNS_OF_STUDIES
    | {"num_test": 30, "num_models": 12, "models_at_once": 6, "n_jobs": 1}
    | {"num_top": 8, "num_influence": 20},
    "regime": RUNS_OF_STUDIES | {"num_heldout": 20, "noise_rate": 0.2},
    "removal": {n: v for n, v in RUNS_OF_STUDIES.items() if n != "num_train"}
    | {"num_images": 200, "num_unseen": 60, "shares": [0.2]},
    "what_is_curvature": {
        "num_per_class": 6,
        "width": 8,
        "steps": 20,
        "snapshots": 2,
        "num_probes": 2,
        "seeds": [0, 1],
    },
}
TIMED = (
    "seconds",
    "trainings",
    "seconds_per_sample",
    "over_training",
    "hours here",
)  # columns that no two measurements share


# A score may be added without a recipe number: nothing that exists changes.
KNOWN_SCORES = (
    *("curvature_square", "curvature_norm", "curvature_last", "curvature_peak"),
    *("cumulative_loss", "cumulative_gradient", "aum", "aum_softmax", "el2n", "grand"),
    *("forgetting_events", "learning_time", "in_confidence_last"),
    *("in_confidence_mean", "in_confidence_max_last", "entropy", "final_loss"),
    "random",
)


def study(name: str) -> Values:
    """The tables of a study, a few numbers for each column, of ``KNOWN_SCORES``."""
    known = tuple(n for n in scores.FROM_TRACE if n in KNOWN_SCORES)
    with mock.patch.object(scores, "FROM_TRACE", known):
        return _study(name)


def _study(name: str) -> Values:
    measure = import_module(f"curvlib.studies.{name}").measure
    given = dict(STUDIES[name])
    with tempfile.TemporaryDirectory() as folder:
        if "runs" in inspect.signature(measure).parameters:
            given["runs"] = folder
        if "released" in given:
            file = Path(folder) / given["released"]
            digits = sklearn.datasets.load_digits().target
            values = integers(7, len(digits), below=101) / 100
            np.savez(file, tr_mem=values, tr_labels=digits)
            given["released"] = str(file)
        tables = measure(**given).tables
    found: Values = {}
    for title, table in tables.items():
        if isinstance(table, bytes):  # a picture, as its encoder likes to write it
            continue
        if isinstance(table, np.ndarray):
            table = pd.DataFrame({"values": table.ravel()})
        found[f"{title}: rows"] = len(table)
        for column in table.columns.drop(list(TIMED), errors="ignore"):
            found[f"{title}: {column}"] = _column(table[column])
    return found


def _column(values: pd.Series) -> Any:
    """A checksum of text; of numbers the mean, root mean square and a projection.

    Text counts in any order: rows that tie are in another order on another processor.
    The order of the rows is in the projections.
    """
    if not pd.api.types.is_numeric_dtype(values):
        return zlib.crc32("|".join(sorted(map(str, values))).encode())
    numbers = values.dropna().to_numpy(np.float64)
    if not len(numbers):
        return "unknown"
    direction = np.cos(np.arange(len(numbers)))
    return close(
        [numbers.mean(), (numbers**2).mean() ** 0.5, (numbers * direction).mean()],
        TABLE,
    )


# One's own images


class Extracting(nn.Module):
    """In place of a pretrained network: a batch norm that can be folded."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3, 2, 1)
        self.norm = nn.BatchNorm2d(6)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x)).relu().mean((2, 3))


def feature_vectors() -> Values:
    network = features.Extractor(
        name="lite0",
        model=with_fixed_weights(Extracting()).eval(),
        size=16,
        mean=(0.5, 0.4, 0.3),
        std=(0.5, 0.6, 0.7),
    )
    found: Values = {}
    for name, size, channels in (("enlarged", 8, 1), ("shrunk", 24, 3)):
        images = pictures(5, size=size, channels=channels)
        work = features._Work(images, network, 16, 2, torch.device("cpu"))
        # Kept in float16, whose epsilon is 1e-3.
        found[f"{name}: vectors"] = close(work.vectors(range(5)), 3e-3)
    return found


def labelled_vectors() -> head.Vectors:
    """Sixty vectors in three clusters, of integers; every tenth label is wrong."""
    truth = np.arange(60) % 3
    far = 40 * (integers(0, 3, 6, below=5) - 2)
    labels = np.where(np.arange(60) % 10 == 0, (truth + 1) % 3, truth)
    return head.Vectors(
        features=(far[truth] + integers(1, 60, 6, below=41)).astype(np.float16),
        labels=labels,
        original_labels=truth,
        index=np.arange(60) * 2,
        classes=("a", "b", "c"),
    )


def heads() -> Values:
    vectors = labelled_vectors()
    linear = head.HeadConfig(hidden=0, epochs=3, lr=0.01)
    hidden = head.HeadConfig(hidden=8, epochs=2, lr=0.01)
    with tempfile.TemporaryDirectory() as place:
        found = head.out_of_fold(linear, vectors, runs=place, folds=3)
        trace = head.fit_head(hidden, vectors, runs=place)
        margin = head.softmax_margin(hidden, vectors, runs=place)
        values = {
            "folds": head.folds_of(vectors.labels, 3, seed=0).tolist(),
            "mean and deviation": close(head.statistics(vectors), DOUBLE),
            "out of fold: probability": close(found.probability, TRAINED),
            "out of fold: suggested": found.suggested.tolist(),
            "margin": close(margin, TRAINED),
        }
        for name in ("loss", "softmax_margin"):
            values[f"trace: {name}"] = close(trace.read(name), TRAINED)
        norm = trace.read("mean_hvp_norm")
        return values | {"trace: mean_hvp_norm": close(norm, DIFFERENCE)}


def suspects() -> Values:
    vectors = labelled_vectors()
    space = own_images.Space(vectors, head.statistics(vectors))
    near = space.neighbours(vectors.labels)
    table = pd.DataFrame(
        {
            "out_of_fold_loss": integers(3, 60, below=9),
            "aum_softmax": integers(4, 60, below=9),
            "neighbour_agreement": near.agreement.round(3),
        }
    )
    planted, kind = own_images.plant(
        vectors.labels, (vectors.labels + 2) % 3, 3, share=0.2, seed=0
    )
    config = own_images.pixels_config(pictures(200))
    return {
        "neighbours: ratio": close(near.ratio, SINGLE),
        "neighbours: agreement": close(near.agreement, SINGLE),
        "consensus": close(own_images.consensus(table), TABLE),
        "planted: labels": planted.tolist(),
        "planted: kind": kind.tolist(),
        "order": [*own_images.CONSENSUS, *own_images.PIXELS_CONSENSUS],
        "network on pixels": {
            n: v for n, v in config.as_dict().items() if n != "dataset"
        },
    }


def numbers_of_wrong_labels() -> Values:
    kinds = (np.arange(400) % 20 == 0) + 2 * (np.arange(400) % 20 == 10)
    like = (kinds > 0) | (np.arange(400) % 8 == 1)  # planted, or wrong
    runs = [
        (integers(s, 400) + 250.0 * like, kinds, integers(s + 9, 400, below=3))
        for s in (5, 6)
    ]
    found = counting.estimate(runs, num_resamples=20)
    return {
        "estimate": close([found.wrong, found.low, found.high], 1e-6),
        "precision": close(found.curve["precision"][::20], TABLE),
    }


def few_suspects() -> tuple[pd.DataFrame, np.ndarray]:
    """A ranking of 40 samples, and which of their labels are wrong."""
    wrong = np.arange(40) % 5 == 0
    score = integers(31, 40, below=50) + 20 * wrong
    table = pd.DataFrame({"index": np.arange(40) + 7, "label": np.arange(40) % 3})
    table["consensus"] = score / 70
    return own_images.with_ranks(table), wrong


def on_own_data() -> Values:
    """Which samples a page shows."""
    table, wrong = few_suspects()
    shown = own_data.chosen(table, wrong, looked=8, count=4)
    return {
        "index": shown["index"].tolist(),
        "role": shown["role"].tolist(),
        "picture": checksum(
            own_images.small(pictures(3).images[[2, 0]], own_data.SIDE)
        ),
    }


def estimates_of_wrong_labels() -> Values:
    """The truth beside an estimate, at some ranks."""
    table, wrong = few_suspects()
    curve = pd.DataFrame({"rank": [1, 2, 5, 9, 17, 40], "precision": 0.5})
    found = calibration.with_truth(curve, table["rank"].to_numpy(), wrong)
    kept = calibration.at_ranks(found, calibration.RANKS)
    return {"truth": close(found["truth"], TABLE), "ranks": kept["rank"].tolist()}


def tools_beside_each_other() -> Values:
    """How well scores find wrong labels, and cleanlab's of a logistic regression."""
    table, wrong = few_suspects()
    table["cleanlab"] = 1 - integers(32, 40, below=50) / 50 - wrong / 10
    table["random"] = integers(33, 40) / 256
    found = wrong_label_tools.judged(table, wrong, num_resamples=20, seed=0)
    values: Values = {
        name: _column(found[name]) for name in found.columns.drop("score")
    }
    quality = wrong_label_tools.cleanlab_scores(labelled_vectors(), seed=0)
    for name, score in quality.items():
        values[name] = close(score, TABLE)
    return values


VALUES: dict[str, tuple[Callable[[], Values], ...]] = {
    "data": (loading, noise, augmentation, photographs),
    "networks": (architectures,),
    "scoring": (probes, columns, estimates),
    "training": (order, rates, preparation, short_runs),
    "halves": (two_halves, exact_curvature),
    "ensembles": (small_ensemble,),
    "features": (feature_vectors,),
    "head": (heads,),
    "studies.suspects": (suspects,),
    "studies.counting": (numbers_of_wrong_labels,),
    "studies.variants": (followed,),
    "studies.own_data": (on_own_data,),
    "studies.calibration": (estimates_of_wrong_labels,),
    "studies.wrong_label_tools": (tools_beside_each_other,),
    **{f"studies.{name}": (partial(study, name),) for name in STUDIES},
}
# The parts that name what a part makes: if the recipe of one of them is raised, runs
# get new names. They come from the library. So a change that reaches an ensemble in a
# way that its name does not show, such as a schedule, asks for the ensembles' recipe.
UPSTREAM: dict[str, tuple[str, ...]] = {
    "data": (),
    "networks": (),
    "scoring": ("data", "networks"),
    "training": training.PARTS,
    "halves": halves.PARTS,
    "ensembles": ensembles.PARTS,
    "features": (),
    "head": ("scoring",),
    "studies.suspects": ("head", "scoring"),
    "studies.counting": (),
    "studies.variants": training.PARTS,
    "studies.own_data": own_data.PARTS,
    "studies.calibration": calibration.PARTS,
    "studies.wrong_label_tools": wrong_label_tools.PARTS,
    **{
        f"studies.{name}": import_module(f"curvlib.studies.{name}").PARTS
        for name in STUDIES
    },
}


def compute(part: str) -> Values:
    """All values of a part, as they are now."""
    found: Values = {}
    for function in VALUES[part]:
        found |= function()
    return found


def stored(file: Path = FILE) -> dict[str, dict[str, Any]]:
    """What golden.json holds: by part, its recipes and values."""
    return json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}


def recipes(part: str) -> dict[str, int]:
    """Recipe numbers, as they are now, of everything that makes a part's values."""
    return provenance.recipes([part, *UPSTREAM[part]])


def source(part: str) -> str:
    """The file with a part's recipe number."""
    name = part.removeprefix("studies.")
    return f"curvlib/{provenance.PARTS.get(part, f'studies/{name}.py')}"


def changed(part: str, found: Values, known: Mapping[str, Any]) -> dict[str, str]:
    """Values that differ from the stored ones, by name, each with what differs.

    Values that are not stored yet, such as those of a new network, are no change.
    """
    found_changes = {}
    for name, got in found.items():
        if name not in known or agree(known[name], got):
            continue
        found_changes[name] = (
            f"{part}: {name!r} changed, and no recipe number did: "
            f"{_contrast(known[name], got)}"
        )
    return found_changes


def _contrast(expected: Any, got: Any) -> str:
    """Both; of two lists the numbers that are furthest apart, or differ first."""
    allowed = f" ({got.allowed:.1e} off is allowed)" if isinstance(got, Close) else ""
    got = plain(got)
    lists = isinstance(expected, list) and isinstance(got, list)
    if not lists or len(expected) != len(got):
        return f"expected {expected}, got {got}{allowed}"
    pairs = list(zip(expected, got, strict=True))
    if allowed:
        place = max(range(len(pairs)), key=lambda i: abs(pairs[i][0] - pairs[i][1]))
    else:
        place = next(i for i, (a, b) in enumerate(pairs) if a != b)
    a, b = pairs[place]
    return f"entry {place} of {len(pairs)} should be {a}, got {b}{allowed}"


def complaints(
    part: str, found: Values, golden: Mapping[str, Mapping[str, Any]]
) -> list[str]:
    """Why a part fails the golden test, one line each; empty if it passes."""
    if part not in golden:
        return [f"{part} has no values in golden.json; `{COMMAND}` writes them"]
    now, then = recipes(part), golden[part]["recipes"]
    if now != then:
        raised = "; ".join(
            f"{name} was {then.get(name)} and is {now.get(name)} now"
            for name in sorted(then.keys() | now.keys())
            if then.get(name) != now.get(name)
        )
        return [
            f"{part}: golden.json was written under other recipe numbers ({raised}); "
            f"`{COMMAND}` writes the new values"
        ]
    known = golden[part]["values"]
    lines = list(changed(part, found, known).values())
    if lines:
        lines.append(
            f"Raise RECIPE in {source(part)}, or undo the change; then `{COMMAND}` "
            "writes the new values"
        )
    if gone := sorted(known.keys() - found.keys()):
        lines.append(
            f"{part}: {gone[0]!r} is in golden.json, but is no longer computed "
            f"({len(gone)} such values); if that is meant, `{COMMAND}` removes them"
        )
    return lines


def write(
    computed: Mapping[str, Values], file: Path = FILE, *, force: bool = False
) -> list[str]:
    """Bring golden.json up to date, or say why not and leave it as it is.

    Args:
        computed: All values, by part.
        file: Where it lies.
        force: Whether to replace values that changed under the same recipe numbers.

    Returns:
        Complaints; empty if the file was written.
    """
    before, after, refused = stored(file), {}, []
    for part, found in computed.items():
        old = before.get(part, {"recipes": None, "values": {}})
        known, same_recipes = old["values"], old["recipes"] == recipes(part)
        different = changed(part, found, known)
        if different and same_recipes and not force:
            refused += complaints(part, found, before)
        values = {name: plain(got) for name, got in found.items()}
        # What agrees is kept: values must not wander from machine to machine.
        kept = {n: known[n] for n in values if n in known and n not in different}
        after[part] = {"recipes": recipes(part), "values": values | kept}
    if not refused:
        file.write_text(_text(after), encoding="utf-8")
    return refused


def _text(golden: dict[str, dict[str, Any]]) -> str:
    """JSON with one value per line, so that a diff shows which changed."""
    parts = []
    for part, entry in golden.items():
        lines = ",\n".join(
            f"   {json.dumps(name)}: {json.dumps(value)}"
            for name, value in entry["values"].items()
        )
        parts.append(
            f' {json.dumps(part)}: {{\n  "recipes": {json.dumps(entry["recipes"])},\n'
            f'  "values": {{\n{lines}\n  }}\n }}'
        )
    return "{\n" + ",\n".join(parts) + "\n}\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--compare", action="store_true", help="write nothing")
    parser.add_argument("--force", action="store_true", help="see above")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    computed = {part: compute(part) for part in VALUES}
    if options.compare:
        compare(computed)
        return 0
    refused = write(computed, force=options.force)
    print("\n".join(refused) or f"{FILE} is up to date")
    return bool(refused)


def compare(computed: Mapping[str, Values]) -> None:
    """Print what share of its tolerance each value uses, the largest first."""
    golden, rows = stored(), []
    for part, found in computed.items():
        for name, got in found.items():
            known = golden.get(part, {"values": {}})["values"].get(name)
            if known is None or known == plain(got):
                continue
            share = float("inf")
            if isinstance(got, Close):
                share = deviation(known, got.numbers) / got.allowed
            rows.append((share, f"{part}: {name}"))
    for share, name in sorted(rows, reverse=True):
        print(f"{share:.4f} of what is allowed: {name}")


if __name__ == "__main__":
    sys.exit(main())
