"""Scores of weights that are there already: a file, or a folder of one a file."""

import contextlib
import hashlib
import math
import re
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from curvlib.data import Images, progress
from curvlib.runs import distributed, networks, provenance, scoring
from curvlib.runs.devices import best_device, usable
from curvlib.runs.provenance import hardware, versions
from curvlib.trace import Trace

PARTS = ("data", "networks", "scoring")

SUFFIXES = (".pt", ".pth", ".tar", ".ckpt", ".bin")
# What torchvision's own weights were trained with.
IMAGENET_SCALING = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])


def files_in(place: str | Path) -> list[Path]:
    """The checkpoints of a folder in order, ``epoch_9`` before ``epoch_10``; or one.

    Raises:
        FileNotFoundError: If there is none.
    """
    place = Path(place)
    if place.is_file():
        return [place]
    found = [p for p in place.glob("*") if p.suffix.lower() in SUFFIXES and p.is_file()]
    if not found:
        raise FileNotFoundError(
            f"no checkpoint in {place}: expected files ending in {', '.join(SUFFIXES)}"
        )
    return sorted(found, key=_natural)


def _natural(file: Path) -> list[tuple[int, str]]:
    """Numbers in a name compare as numbers, the rest as text."""
    parts = re.split(r"(\d+)", file.name)
    return [(int(p), "") if p.isdigit() else (-1, p) for p in parts]


def load_weights(file: str | Path) -> dict[str, Tensor]:
    """Read a state dict, alone or in a checkpoint as training scripts save it.

    Nothing in the file is executed. ``module.``, which ``DistributedDataParallel``
    puts before each name, is taken off.

    Args:
        file: As ``torch.save`` wrote it: the state dict, or a dict with it under
            ``model``, ``state_dict`` or ``model_state_dict``.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is damaged, holds anything but tensors and plain values, or
            no state dict.
    """
    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"there is no checkpoint {file}") from error
    except Exception as error:  # torch names no common class for its many failures
        raise ValueError(
            f"{file} is refused: it is damaged, or holds more than tensors and plain "
            f"values, which could run code ({type(error).__name__}). Save the "
            "state_dict() of the model alone"
        ) from error
    for key in ("model", "state_dict", "model_state_dict"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
            break
    if not (
        isinstance(content, dict)
        and content
        and all(isinstance(value, Tensor) for value in content.values())
    ):
        raise ValueError(
            f"{file} holds no state dict, neither alone nor under model, state_dict or "
            "model_state_dict"
        )
    return {name.removeprefix("module."): value for name, value in content.items()}


def score_checkpoints(
    files: Sequence[Path],
    images: Images,
    *,
    model: str,
    runs: str | Path = "runs",
    width: int = 64,
    activation: str = "relu",
    num_probes: int = 10,
    step: float = 1e-3,
    seed: int = 0,
    scaling: scoring.Scaling | None = None,
    device: str | None = None,
) -> Trace:
    """Score every sample at each of some stored weights; the trace is as of training.

    What was scored already is kept: a file that is added at the end costs its own
    scoring alone. Shared among the processes of a ``torch.distributed`` group, as
    ``curvlib.fit`` does.

    Args:
        files: One a scored epoch, in this order; the epochs are 1, 2, ...
        images: N samples, with the labels trained on.
        model: As for ``curvlib.runs.networks.build``; the weights must fit.
        runs: Folder of all runs; this one gets ``runs/scored-...``.
        width: As the weights were trained with.
        activation: Likewise.
        num_probes: Probes K an epoch, drawn anew each time.
        step: h, in units of the normalised input.
        seed: Of the probes.
        scaling: Mean and deviation of each channel, of pixels in [0, 1], that the
            weights were trained with. None: for networks of torchvision those of its
            own weights, for others ``images.statistics()``.
        device: As for ``curvlib.fit``.

    Returns:
        A trace with one epoch a file.

    Raises:
        FileNotFoundError: If a file is not there.
        ValueError: If a file is refused, its weights are of another network, or scores
            are not finite.
    """
    if not files:
        raise ValueError("no checkpoint to score")
    if num_probes < 1 or seed < 0 or not 0 < step < math.inf:
        raise ValueError(
            "num_probes must be at least 1, seed 0 or more and step positive, got "
            f"{num_probes}, {seed} and {step}"
        )
    device = torch.device(usable(device or best_device()))
    channels = images.images.shape[3]
    if scaling is not None and (
        [len(part) for part in scaling] != [channels, channels] or min(scaling[1]) <= 0
    ):
        raise ValueError(
            f"mean and std need one value for each of {channels} channels, and std "
            f"positive ones, got {list(scaling[0])} and {list(scaling[1])}"
        )
    if scaling is None:
        own = model.startswith(networks.TORCHVISION) and channels == 3
        scaling = IMAGENET_SCALING if own else images.statistics()
    config = {
        "checkpoints": [file.name for file in files],
        "contents": [_digest(file) for file in files],
        "model": model,
        "width": width,
        "activation": activation,
        "num_probes": num_probes,
        "step": step,
        "seed": seed,
        "scaling": [list(part) for part in scaling],
    }
    shape = [images.images.shape[i] for i in (3, 1, 2)]
    network = networks.build(
        model,
        num_classes=len(images.classes),
        input_shape=tuple(shape),
        width=width,
        activation=activation,
    ).eval()
    for file in files:  # all of them, before any hour is spent on the first
        _fill(network, file)
    digest = provenance.digest(config, {"train": images.checksum}, PARTS)
    folder = Path(runs) / f"scored-{Path(images.name).stem}-{digest}"
    trace = distributed.on_first(
        lambda: Trace.create(
            folder,
            config=config,
            info={
                "mean": scaling[0],
                "std": scaling[1],
                "classes": images.classes,
                "input_shape": shape,
                "recipes": provenance.recipes(PARTS),
                "versions": versions(),
                "hardware": hardware(str(device)),
                "processes": distributed.world(),
            },
            splits={"train": images},
        )
    )
    read = images.reader(device)
    if distributed.rank() == 0:
        progress.report(f"in this order: {', '.join(file.name for file in files)}")
    done = distributed.on_first(lambda: _adopted(trace).epochs.tolist())
    for epoch, file in enumerate(files, start=1):
        if epoch in done:
            continue
        _fill(network, file)
        network.to(device, memory_format=torch.channels_last)
        try:
            columns = scoring.score(
                network,
                images,
                scaling=scaling,
                epoch=epoch,
                num_probes=num_probes,
                step=step,
                seed=seed,
                read=read,
            )
        except ValueError as error:
            raise ValueError(f"{file}: {error}") from error
        if distributed.rank() == 0:
            trace.write(epoch, images, columns, split="train")
            progress.report(f"scored {file.name}, {epoch} of {len(files)}")
    return trace


def _adopted(trace: Trace) -> Trace:
    """The trace with epochs that another has of the same weights in the same place."""

    def settings(one: Trace) -> list:
        lists = ("checkpoints", "contents")
        config = {name: v for name, v in one.config.items() if name not in lists}
        return [config, one.info["checksums"], one.info["recipes"]]

    contents = trace.config["contents"]
    for place in sorted(trace.folder.parent.glob("scored-*/run.json")):
        # What is damaged there is scored again, and no reason to stop.
        with contextlib.suppress(FileNotFoundError, ValueError):
            other = Trace.open(place.parent)
            if settings(other) != settings(trace):
                continue
            there = other.config["contents"]
            for epoch in sorted({*other.epochs} - {*trace.epochs}):
                if contents[epoch - 1 : epoch] == there[epoch - 1 : epoch]:
                    trace.copy(epoch, other, split="train")
    return trace


def _digest(file: Path) -> str:
    try:
        with Path(file).open("rb") as content:
            return hashlib.file_digest(content, "sha256").hexdigest()[:16]
    except FileNotFoundError as error:
        raise FileNotFoundError(f"there is no checkpoint {file}") from error


def _fill(network: torch.nn.Module, file: Path) -> None:
    weights = load_weights(file)
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        own = network.state_dict()
        wrong = [n for n in own if n not in weights or weights[n].shape != own[n].shape]
        extra = sorted(weights.keys() - own.keys())
        raise ValueError(
            f"{file} is of another network: "
            + (
                f"it lacks {wrong[0]} of shape {list(own[wrong[0]].shape)}"
                if wrong
                else f"it has {extra[0]}, which the network has not"
            )
            + f" ({len(wrong) + len(extra)} differences); check model, width and the "
            "number of classes"
        ) from error
