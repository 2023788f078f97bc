"""Score stored weights: one file, or a folder of checkpoints."""

import argparse
import contextlib
import hashlib
import math
import re
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from curvlib.data import Images, progress
from curvlib.runs import distributed, networks, provenance, scoring
from curvlib.runs.devices import best_device, usable
from curvlib.runs.provenance import hardware, versions
from curvlib.trace import Trace

PARTS = ("data", "networks", "scoring")

SUFFIXES = (".pt", ".pth", ".tar", ".ckpt", ".bin", ".safetensors")
# What torchvision's own weights were trained with.
IMAGENET_SCALING = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])

# Words of a file's name, by what they say of it.
_COMPANIONS = {  # kept beside weights, to go on with training
    *("optimizer", "optimizers", "optimiser", "optim", "scheduler", "schedulers"),
    *("scaler", "sampler", "rng", "random", "args"),
}
_AROUND = {  # say nothing else, beside one of those
    *("state", "states", "dict", "lr", "grad", "amp", "training", "trainer", "rank"),
    *("epoch", "step", "iter", "global", "checkpoint", "ckpt", "zero", "pp", "mp"),
}
_LATEST = {"last", "latest", "final"}
_COPIES = {*_LATEST, "best", "recovery", "current", "newest"}
_NUMBERED = r"(checkpoint|ckpt|epoch|step|iter)\D?\d+$"  # folders

# Where training scripts keep the state dict, and what wrappers put before its names.
_KEYS = ("model", "state_dict", "model_state_dict", "model_state", "net", "module")
_WRAPPERS = re.compile(
    r"(^|(?<=\.))(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\."
)
_PREFIXES = ("module.", "model.")
_scalar = np.float64(0).__reduce__()[0]
# Classes that hold plain values and do nothing when they are made: scripts keep their
# arguments and best scores beside the weights.
_HARMLESS = [
    argparse.Namespace,
    (type(Path()), f"pathlib.{type(Path()).__name__}"),
    (type(Path()), f"pathlib._local.{type(Path()).__name__}"),
    np.dtype,
    *(
        type(np.dtype(kind))
        for kind in ("float64", "float32", "int64", "int32", "bool")
    ),
    (_scalar, "numpy.core.multiarray.scalar"),
    (_scalar, "numpy._core.multiarray.scalar"),
]


def files_in(place: str | Path) -> list[Path]:
    """List the checkpoints in a folder in order, ``epoch_9`` before ``epoch_10``.

    Numbered folders with one file of weights each, such as ``checkpoint-500``, count as
    numbered files. Files that do not add an epoch are left out, and reported:

    - hidden files, and files that training needs to continue, such as
      ``optimizer.pt`` or ``training_args.bin``;
    - a file outside the numbered series, such as ``last.ckpt`` or ``model_best.pth``,
      that has the same weights as a numbered file;
    - ``model_best.pth`` and similar files with other weights, because their epoch is
      unknown. If ``last.ckpt`` has other weights, it comes last.

    Args:
        place: A folder, or one file.

    Returns:
        Paths of the files, one for each epoch to score.

    Raises:
        FileNotFoundError: If there is no checkpoint.
        ValueError: If the position of a file in the order is unknown, or a numbered
            folder has several files with different weights.
    """
    place = Path(place)
    if place.is_file():
        return [place]
    candidates, left_out = _weights_in(place)
    for folder in place.glob("*/"):
        if not re.match(_NUMBERED, folder.name):
            continue
        inside, companions = _weights_in(folder)
        left_out |= companions
        candidates += inside[:1]
        for file in inside[1:]:
            if not _same_weights(file, inside[0]):
                raise ValueError(
                    f"{folder} holds {inside[0].name} and {file.name} of different "
                    "weights; give one of them, or move one away"
                )
            left_out[file] = f"a copy of {inside[0].name}"
    found, others = _series(sorted(candidates, key=_natural), place)
    alone: list[Path] = []  # beside the numbered ones
    for file in others:
        try:  # the last first: most likely it is a copy of that
            against = [*found[::-1], *alone]
            same = next((kept for kept in against if _same_weights(file, kept)), None)
        except ValueError as error:
            if found and not re.search(r"\d", file.name):
                left_out[file] = str(error)
            else:  # its reader will say the same
                alone.append(file)
            continue
        if same is not None:
            left_out[file] = f"a copy of {same.relative_to(place)}"
        elif not found or _words(file) & _LATEST:
            alone.append(file)
        elif _words(file) & _COPIES:
            left_out[file] = "it is unknown after which epoch it was saved"
        else:
            raise ValueError(
                f"cannot tell where {file.relative_to(place)} belongs among files such "
                f"as {found[0].relative_to(place)}; rename it like them, or move it "
                "away"
            )
    for file, why in sorted(left_out.items()):
        progress.report(f"left out {file.relative_to(place)}: {why}")
    if not candidates:
        without = f" except {sorted(left_out)[0].name} and such" if left_out else ""
        raise FileNotFoundError(
            f"no checkpoint in {place}{without}: expected files ending in "
            f"{', '.join(SUFFIXES)}"
        )
    return found + alone


def _weights_in(folder: Path) -> tuple[list[Path], dict[Path, str]]:
    """Files that may have weights; and the others, with what they are."""
    found, left_out = [], {}
    for file in folder.glob("*"):
        if file.suffix.lower() not in SUFFIXES or not file.is_file():
            continue
        if file.name.startswith("."):
            left_out[file] = "a hidden file"
        elif kind := _companion(file):
            left_out[file] = kind
        else:
            found.append(file)
    return sorted(found, key=_natural), left_out


def _companion(file: Path) -> str | None:
    """What a file is, if it surely has no weights; None if it may have some."""
    words = _words(file)
    if words & _COMPANIONS and words <= _COMPANIONS | _AROUND:
        return "by its name, kept to go on with training"
    try:
        content = _content(file, mmap=True)
    except ValueError:
        return None  # its reader will say what is wrong
    keys = content.keys() if isinstance(content, dict) else set()
    if {"state", "param_groups"} <= keys:
        return "the state of an optimiser"
    if {"growth_factor", "scale"} <= keys:
        return "the state of a gradient scaler"
    return "the state of a schedule" if "last_epoch" in keys else None


def _series(files: list[Path], place: Path) -> tuple[list[Path], list[Path]]:
    """Files with the same numbering, and the rest, both in order."""

    def pattern(file: Path) -> str:
        name = str(file.relative_to(place)).lower()
        return re.sub(r"-?\d+(\.\d+)?(e[+-]?\d+)?|nan|inf", "#", name)

    numbered = [
        f
        for f in files
        if re.search(r"\d", str(f.relative_to(place))) and not _words(f) & _COPIES
    ]
    patterns = [pattern(file) for file in numbered]
    if alike := [f for f in numbered if patterns.count(pattern(f)) > 1]:
        numbered = alike
    return numbered, [file for file in files if file not in numbered]


def _words(file: Path) -> set[str]:
    name = file.name.lower()
    while (suffix := Path(name).suffix) in SUFFIXES:  # of .pth.tar both
        name = name.removesuffix(suffix)
    return set(re.findall(r"[a-z]+", name))


def _natural(file: Path) -> list[list[tuple[int, str]]]:
    """Numbers in a name compare as numbers, the rest as text."""
    return [
        [(int(p), "") if p.isdigit() else (-1, p) for p in re.split(r"(\d+)", part)]
        for part in file.parts
    ]


def _same_weights(one: Path, other: Path) -> bool:
    if one.samefile(other):
        return True
    a, b = (load_weights(file, mmap=True) for file in (one, other))
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def load_weights(file: str | Path, *, mmap: bool = False) -> dict[str, Tensor]:
    """Read a state dict, alone or inside the checkpoint of a training script.

    Nothing in the file is executed. Prefixes that wrappers add to names are removed:
    ``_orig_mod.`` of ``torch.compile`` and similar ones anywhere in a name, ``module.``
    and ``model.`` before all names, in any combination.

    Args:
        file: A file of ``torch.save`` with the state dict, or with a dict that has it
            under ``model``, ``state_dict``, ``model_state_dict``, ``model_state``,
            ``net`` or ``module``; or a safetensors file.
        mmap: Read each tensor when it is used. The file must not change meanwhile.

    Returns:
        Weights and buffers by name, on the CPU.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is damaged, contains anything but tensors and plain
            values, or has no state dict.
    """
    return _without_prefixes(_weights(Path(file), mmap=mmap))


def _without_prefixes(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    names = [name for name in weights if name != "n_averaged"]  # of AveragedModel
    while prefix := next(
        (p for p in _PREFIXES if all(name.startswith(p) for name in names)), None
    ):
        weights = {n.removeprefix(prefix): weights[n] for n in names}
        names = list(weights)
    return weights


def _weights(file: Path, *, mmap: bool = False) -> dict[str, Tensor]:
    """The state dict in a file, with the prefixes that wrappers add to names."""
    content = _content(file, mmap=mmap)
    choices = [content]
    if isinstance(content, dict):
        choices = [content[key] for key in _KEYS if key in content] + choices
    for weights in choices:
        if (
            isinstance(weights, dict)
            and weights
            and all(isinstance(value, Tensor) for value in weights.values())
        ):
            return {_WRAPPERS.sub("", name): value for name, value in weights.items()}
    raise ValueError(
        f"{file} holds no state dict, neither alone nor under {', '.join(_KEYS)}"
    )


def _content(file: Path, *, mmap: bool) -> Any:
    try:
        if file.suffix.lower() == ".safetensors":
            from safetensors.torch import load_file

            return load_file(file)
        with torch.serialization.safe_globals(_HARMLESS):
            mmap = mmap and zipfile.is_zipfile(file)
            return torch.load(file, map_location="cpu", weights_only=True, mmap=mmap)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"there is no checkpoint {file}") from error
    except ModuleNotFoundError as error:
        raise ValueError(
            f"{file} cannot be read without safetensors; pip install safetensors"
        ) from error
    except Exception as error:  # torch names no common class for its many failures
        raise ValueError(
            f"{file} is refused: it is damaged, or holds more than tensors and plain "
            f"values, which could run code ({type(error).__name__}). Save the "
            "state_dict() of the model alone"
        ) from error


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
    """Score every sample at stored weights; the trace is like that of a training run.

    Earlier scores are kept: if you add a file at the end, only that file is scored. The
    processes of a ``torch.distributed`` group share the work, as in ``curvlib.fit``.

    Args:
        files: One for each scored epoch; they become epochs 1, 2, ... in this order.
        images: N samples, with the labels used in training.
        model: As for ``curvlib.runs.networks.build``. The weights must fit; prefixes of
            wrappers, such as ``module.``, are ignored.
        runs: Folder of all runs; this one gets ``runs/scored-...``.
        width: Width of the trained network.
        activation: Activation of the trained network.
        num_probes: Number of probes K in each epoch; new ones for every epoch.
        step: h, in units of the normalised input.
        seed: Seed of the probes.
        scaling: Mean and deviation of each channel used in training, for pixels in
            [0, 1]. None: for networks of torchvision those of its own weights, for
            others ``images.statistics()``.
        device: As for ``curvlib.fit``.

    Returns:
        A trace of N samples with one epoch for each file.

    Raises:
        FileNotFoundError: If a file does not exist.
        ValueError: If there is no file, a file is refused, its weights belong to
            another network, a number is out of range, or scores are not finite.
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
    in_folders = len({file.parent for file in files}) > 1  # checkpoint-500/model.pt
    names = [f"{f.parent.name}/{f.name}" if in_folders else f.name for f in files]
    config = {
        "checkpoints": names,
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
        progress.report(f"in this order: {', '.join(names)}")
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
            progress.report(f"scored {names[epoch - 1]}, {epoch} of {len(files)}")
    return trace


def _adopted(trace: Trace) -> Trace:
    """Copy epochs from another trace that has the same weights and number."""

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
    """Load a file's weights, and ignore prefixes that wrappers add to names."""
    own = network.state_dict()
    weights = _fitting(_weights(Path(file)), own, file)
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        wrong = [n for n in own if n not in weights or weights[n].shape != own[n].shape]
        extra = sorted(weights.keys() - own.keys())
        raise ValueError(
            f"{file} holds another network: "
            + (
                f"it lacks {wrong[0]} of shape {list(own[wrong[0]].shape)}"
                if wrong
                else f"it has {extra[0]}, which the network lacks"
            )
            + f" ({len(wrong) + len(extra)} differences); check model, width and the "
            "number of classes"
        ) from error


def _fitting(
    weights: dict[str, Tensor], own: dict[str, Tensor], file: Path
) -> dict[str, Tensor]:
    """The weights that have the network's names after one common prefix."""
    names = [n for n in own if not n.endswith("num_batches_tracked")]  # not in old ones
    prefixes = [
        name.removesuffix(names[0])
        for name in weights
        if name == names[0] or name.endswith(f".{names[0]}")
    ]
    fits = [p for p in prefixes if all(p + name in weights for name in names)]
    if "" in fits:
        return weights
    usual = [p for p in fits if set(p.split(".")[:-1]) <= {"module", "model"}]
    if len(usual or fits) > 1:
        raise ValueError(
            f"{file} holds several networks of this kind, under "
            f"{', '.join(usual or fits)}; save the state_dict() of one"
        )
    for prefix in usual or fits:
        return {
            n.removeprefix(prefix): v
            for n, v in weights.items()
            if n.startswith(prefix)
        }
    inside = {name.replace(".module.", "."): v for name, v in weights.items()}
    if inside.keys() != weights.keys():  # of DataParallel around a part of the network
        return _fitting(inside, own, file)
    return _without_prefixes(weights)
