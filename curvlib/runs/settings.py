"""What a training run depends on: one class of settings."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from curvlib import data
from curvlib.data import folders
from curvlib.runs import networks

SCHEDULES: dict[str, Callable[[float], float]] = {
    # Share of the run that is done, in [0, 1), to a factor of the learning rate.
    "step": lambda done: 1.0 if done < 0.6 else 0.1 if done < 0.8 else 0.01,
    "cosine": lambda done: 0.5 * (1 + math.cos(math.pi * done)),
    "constant": lambda done: 1.0,
}
PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Everything a run depends on, but for the code, the versions and the machine.

    Attributes:
        dataset: A name or path that ``curvlib.load`` knows.
        image_size: Pixels on a side that photographs in folders are cut to, 224 if
            None; other data sets have a size of their own.
        broken_files: ``"stop"`` or ``"skip"``, as for ``curvlib.load``.
        num_train: Train on the first so many samples by index; None: on all.
        num_heldout: Score, but never train on, the first so many of the test split.
        noise: How labels become wrong, one of ``curvlib.data.NOISES``.
        noise_rate: Share of the training labels replaced; 0 for human labels, which
            come with a share of their own.
        planted_duplicates: Copies added under a wrong label.
        model: One of ``curvlib.runs.networks.MODELS``, or ``"torchvision/resnet18"`` and the
            like, which have neither a width nor a choice of activation.
        width: Channels of the first stage, at least 8, or units of a hidden layer.
        activation: One of ``curvlib.runs.networks.ACTIVATIONS``.
        epochs: Passes over the training set.
        lr: Learning rate at the start.
        momentum: Of SGD.
        weight_decay: On all parameters, as in the paper.
        batch_size: At most so many samples a step; batches are of equal size to one.
        schedule: ``"step"`` (tenth at 60 % and 80 %, the paper's), ``"cosine"`` or
            ``"constant"``.
        augment: Random flips, and crops: with padding 4, or of photographs in folders
            crops of random size.
        precision: Of the passes of training, ``"float32"`` or ``"bfloat16"`` (torch's
            autocast; the weights stay float32), which is slow on processors without
            AVX-512. Scoring is always in float32.
        seed: Of the wrong labels, the weights, the order and the probes.
        num_probes: Probes K a scored epoch, drawn anew each time, shared by all
            samples.
        step: h, in units of the normalised input.
        score_every: Score each so many epochs, and the last.
        score_original_labels: Score samples with a wrong label under their original one
            too, as a split of its own, to see what a slip in labels would change.

    Raises:
        ValueError: If a value is out of range.
        TypeError: If a value is of another type, or its name unknown.
    """

    dataset: str = "digits"
    image_size: int | None = None
    broken_files: str = "stop"
    num_train: int | None = None
    num_heldout: int = 0
    noise: str = "symmetric"
    noise_rate: float = 0.0
    planted_duplicates: int = 0
    model: str = "slim_resnet"
    width: int = 16
    activation: str = "relu"
    epochs: int = 40
    lr: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 0.0
    batch_size: int = 128
    schedule: str = "step"
    augment: bool = False
    precision: str = "float32"
    seed: int = 0
    num_probes: int = 2
    step: float = 1e-3
    score_every: int = 1
    score_original_labels: bool = False

    def __post_init__(self):
        for name, kind in self.__annotations__.items():
            value = getattr(self, name)
            if isinstance(value, np.generic):  # an integer out of an array, say
                value = value.item()
                object.__setattr__(self, name, value)
            allowed = (int, float) if kind is float else kind
            if not isinstance(value, allowed) or (
                isinstance(value, bool) and kind is not bool
            ):
                raise TypeError(
                    f"{name} must be {getattr(kind, '__name__', kind)}, got {value!r}"
                )
            if kind is float:  # so that 0 and 0.0 are one run
                object.__setattr__(self, name, float(value))
        place = self.dataset.rstrip("/")  # a folder written two ways is one run
        object.__setattr__(self, "dataset", place or self.dataset)
        for name, valid, meaning in (
            (
                "image_size",
                self.image_size is None or self.image_size >= folders.SMALLEST,
                f"at least {folders.SMALLEST}",
            ),
            (
                "broken_files",
                self.broken_files in folders.POLICIES,
                f"one of {folders.POLICIES}",
            ),
            ("num_train", self.num_train is None or self.num_train > 1, "at least 2"),
            ("num_heldout", self.num_heldout >= 0, "0 or more"),
            ("noise", self.noise in data.NOISES, f"one of {data.NOISES}"),
            ("noise_rate", 0 <= self.noise_rate < 1, "a fraction in [0, 1)"),
            (
                "noise_rate",
                self.noise_rate == 0 or self.noise not in data.HUMAN,
                f"0 with noise {self.noise!r}, whose share of wrong labels is fixed",
            ),
            ("planted_duplicates", self.planted_duplicates >= 0, "0 or more"),
            (
                "model",
                networks.known(self.model),
                f"one of {networks.MODELS}, or torchvision/ and one of its names",
            ),
            ("width", self.width > 0, "positive"),
            (
                "activation",
                self.activation in networks.ACTIVATIONS,
                f"one of {tuple(networks.ACTIVATIONS)}",
            ),
            ("epochs", self.epochs > 0, "positive"),
            ("lr", 0 < self.lr < math.inf, "positive and finite"),
            ("momentum", 0 <= self.momentum < 1, "in [0, 1)"),
            ("weight_decay", 0 <= self.weight_decay < math.inf, "0 or more"),
            ("batch_size", self.batch_size > 1, "at least 2"),
            ("schedule", self.schedule in SCHEDULES, f"one of {tuple(SCHEDULES)}"),
            (
                "precision",
                self.precision in PRECISIONS,
                f"one of {tuple(PRECISIONS)}",
            ),
            ("seed", self.seed >= 0, "0 or more"),
            ("num_probes", self.num_probes > 0, "at least 1"),
            ("step", 0 < self.step < math.inf, "positive and finite"),
            ("score_every", self.score_every > 0, "at least 1"),
        ):
            if not valid:
                raise ValueError(
                    f"{name} must be {meaning}, got {getattr(self, name)!r}"
                )

        # With fewer channels, in channels-last order, the convolutions of torch 2.14
        # write outside their memory on processors with AVX2 only, and Python dies.
        if self.model in networks.RESNETS and self.width < 8:
            raise ValueError(
                f"width must be at least 8 for {self.model}, got {self.width}"
            )
        if self.model.startswith(networks.TORCHVISION) and self.activation != "relu":
            raise ValueError(
                f"{self.model} comes as it is, so activation must stay 'relu', got "
                f"{self.activation!r}"
            )
