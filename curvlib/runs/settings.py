"""What a training run depends on: one class of settings, and types for others."""

import math
from collections.abc import Callable
from typing import Annotated

import torch
from pydantic import ValidationInfo, field_validator

from curvlib import data
from curvlib.data import folders
from curvlib.runs import networks
from curvlib.runs.checked import Must, Settings, at_least, fault, one_of, told

# From the finished share of the run, in [0, 1), to a factor of the learning rate. They
# belong to two recipes, training and ensembles: when you change one, raise both.
SCHEDULES: dict[str, Callable[[float], float]] = {
    "step": lambda done: 1.0 if done < 0.6 else 0.1 if done < 0.8 else 0.01,
    "cosine": lambda done: 0.5 * (1 + math.cos(math.pi * done)),
    "linear": lambda done: 1.0 - done,
    "constant": lambda done: 1.0,
}
PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}

POSITIVE = Must("positive", lambda value: value > 0)
NOT_NEGATIVE = Must("0 or more", lambda value: value >= 0)
FRACTION = Must("a fraction in [0, 1)", lambda value: 0 <= value < 1)
FINITE = Must("positive and finite", lambda value: 0 < value < math.inf)

# Settings that a single network and an ensemble share.
Model = Annotated[
    str,
    told("Network: one of curvlib's own, or one such as torchvision/resnet18."),
    Must(
        f"one of {', '.join(networks.MODELS)}, or torchvision/ and the name of one of "
        "its classification models",
        networks.known,
    ),
]
Width = Annotated[
    int,
    told(
        "Channels of the first stage (at least 8), or units of a hidden layer. "
        "Networks of torchvision have a fixed width."
    ),
    POSITIVE,
]
Activation = Annotated[
    str,
    told("Activation function. Networks of torchvision keep their own."),
    one_of(networks.ACTIVATIONS),
]
Epochs = Annotated[int, told("Passes over the training set."), POSITIVE]
LearningRate = Annotated[
    float,
    told("Learning rate at the start, or after the warm-up."),
    FINITE,
]
Momentum = Annotated[
    float,
    told("Momentum of SGD."),
    Must("in [0, 1)", lambda value: 0 <= value < 1),
]
WeightDecay = Annotated[
    float,
    told("Weight decay on all parameters, as in the paper."),
    NOT_NEGATIVE,
    Must("finite", math.isfinite),
]
BatchSize = Annotated[
    int,
    told("Largest number of samples in a batch. Batch sizes differ by at most one."),
    at_least(2),
]
Schedule = Annotated[
    str,
    told(
        "Schedule of the learning rate: step (divided by ten after 0.6 and 0.8 of the "
        "run, as in the paper), cosine or linear (down to 0), or constant."
    ),
    one_of(SCHEDULES),
]
Seed = Annotated[
    int,
    told("Seed of all randomness: initial weights, sample order, wrong labels."),
    NOT_NEGATIVE,
]


def checked_width(width: int, info: ValidationInfo) -> int:
    """Refuse the widths of convolutional networks that make torch crash.

    Args:
        width: A positive width.
        info: From pydantic, with the settings that were checked before.

    Returns:
        The width.

    Raises:
        PydanticCustomError: If it is below 8 for a ResNet or the whitened net.
    """
    # With fewer channels, in channels-last order, the convolutions of torch 2.14 write
    # outside their memory on processors with AVX2 only, and Python dies.
    model = info.data.get("model")
    if model in (*networks.RESNETS, *networks.WHITENED) and width < 8:
        raise fault(f"be at least 8 for {model}")
    return width


def checked_activation(activation: str, info: ValidationInfo) -> str:
    """Refuse an activation for networks whose activation is fixed.

    Args:
        activation: A known activation.
        info: From pydantic, with the settings that were checked before.

    Returns:
        The activation.

    Raises:
        PydanticCustomError: If it is not "relu" for a network of torchvision.
    """
    model = info.data.get("model", "")
    if model.startswith(networks.TORCHVISION) and activation != "relu":
        raise fault(f"be 'relu', as the activation of {model} is fixed")
    return activation


class TrainConfig(Settings):
    """Everything a run depends on, except the code, the versions and the machine.

    ``config.changed(lr=0.2)`` returns a copy with another value. ``config.as_dict()``
    returns all values by name.

    Raises:
        ValueError: If a value is out of range. The message names all faults.
        TypeError: If the only faults are values of another type or unknown names.
    """

    dataset: Annotated[
        str, told("Data set: a name or path for curvlib.load, such as cifar10.")
    ] = "digits"
    image_size: Annotated[
        int | None,
        told("Side length in pixels to crop photographs in folders to; None: 224."),
        at_least(folders.SMALLEST),
    ] = None
    broken_files: Annotated[
        str,
        told("What to do with unreadable files in a folder."),
        one_of(folders.POLICIES),
    ] = "stop"
    num_train: Annotated[
        int | None,
        told("Number of samples to train on, the first ones by index; None: all."),
        at_least(2),
    ] = None
    num_heldout: Annotated[
        int,
        told("Number of test samples to score without training on them."),
        NOT_NEGATIVE,
    ] = 0
    noise: Annotated[
        str, told("Kind of label noise."), one_of(data.NOISES)
    ] = "symmetric"  # fmt: skip
    noise_rate: Annotated[
        float,
        told(
            "Share of the training labels to replace. Must be 0 for human labels, "
            "which have a fixed share of wrong ones."
        ),
        FRACTION,
    ] = 0.0
    planted_duplicates: Annotated[
        int,
        told("Number of training samples to add again with a wrong label."),
        NOT_NEGATIVE,
    ] = 0
    model: Model = "slim_resnet"
    width: Width = 16
    activation: Activation = "relu"
    epochs: Epochs = 40
    lr: LearningRate = 0.1
    momentum: Momentum = 0.9
    nesterov: Annotated[
        bool, told("Use Nesterov's form of momentum.", neutral=False)
    ] = False
    weight_decay: WeightDecay = 0.0
    batch_size: BatchSize = 128
    schedule: Schedule = "step"
    warmup: Annotated[
        float,
        told(
            "Share of the run in which the learning rate rises linearly from 0; the "
            "schedule covers the rest. With restart: share of each part.",
            neutral=0.0,
        ),
        FRACTION,
    ] = 0.0
    augment: Annotated[
        bool,
        told(
            "Flip and crop training images at random. Crops shift an image by a few "
            "pixels; for photographs in folders they have random sizes."
        ),
    ] = False
    augment_epochs: Annotated[
        int | None,
        told(
            "Number of epochs with augmentation, from the first; None: all.",
            neutral=None,
        ),
        at_least(1),
    ] = None
    restart: Annotated[
        float,
        told(
            "Peak learning rate after the augmented epochs, as a share of lr. The run "
            "then has two parts, with and without augmentation, each with its own "
            "warm-up and schedule. 0: one schedule for the whole run.",
            neutral=0.0,
        ),
        Must("in [0, 1]", lambda value: 0 <= value <= 1),
    ] = 0.0
    shift: Annotated[
        int,
        told(
            "Largest shift by augmentation, in pixels, in each direction.",
            neutral=data.PADDING,
        ),
        NOT_NEGATIVE,
    ] = data.PADDING
    precision: Annotated[
        str,
        told(
            "Arithmetic of training. bfloat16 uses torch's autocast, which is slow on "
            "processors without AVX-512. Weights and scoring stay float32."
        ),
        one_of(PRECISIONS),
    ] = "float32"
    seed: Seed = 0
    num_probes: Annotated[
        int,
        told("Number of probes K in each scored epoch; new ones for every epoch."),
        at_least(1),
    ] = 2
    step: Annotated[
        float,
        told("Step h of the finite difference, in units of the normalised input."),
        FINITE,
    ] = 1e-3
    score_every: Annotated[
        int, told("Score after every k-th epoch, and after the last."), at_least(1)
    ] = 1
    score_original_labels: Annotated[
        bool,
        told(
            "Also score mislabelled samples with their original label, as a separate "
            "split. This shows what changes if true labels leak into the scores."
        ),
    ] = False

    _width = field_validator("width")(checked_width)
    _activation = field_validator("activation")(checked_activation)

    @field_validator("dataset")
    @classmethod
    def _one_spelling(cls, dataset: str) -> str:
        return dataset.rstrip("/") or dataset  # a folder written two ways is one run

    @field_validator("noise_rate")
    @classmethod
    def _fixed_by_humans(cls, rate: float, info: ValidationInfo) -> float:
        if rate and (noise := info.data.get("noise")) in data.HUMAN:
            raise fault(
                f"be 0 with noise {noise!r}, whose share of wrong labels is fixed"
            )
        return rate

    @field_validator("nesterov")
    @classmethod
    def _of_momentum(cls, nesterov: bool, info: ValidationInfo) -> bool:
        if nesterov and info.data.get("momentum") == 0:
            raise fault("be False with momentum 0, as it is a form of momentum")
        return nesterov

    @field_validator("augment_epochs")
    @classmethod
    def _within_the_run(cls, count: int | None, info: ValidationInfo) -> int | None:
        if count is not None and info.data.get("augment") is False:
            raise fault("be None without augmentation; set augment to True")
        if count is not None and count > info.data.get("epochs", count):
            raise fault(f"be at most epochs, which is {info.data['epochs']}")
        return count

    @field_validator("restart")
    @classmethod
    def _after_augmentation(cls, restart: float, info: ValidationInfo) -> float:
        if not restart or not {"epochs", "augment_epochs"} <= info.data.keys():
            return restart
        count = info.data["augment_epochs"]
        if count is None or count >= info.data["epochs"]:
            raise fault("be 0 unless augment_epochs is below epochs")
        return restart

    @field_validator("shift")
    @classmethod
    def _of_augmentation(cls, shift: int, info: ValidationInfo) -> int:
        if shift != data.PADDING and info.data.get("augment") is False:
            raise fault(f"be {data.PADDING} without augmentation; set augment to True")
        return shift


# A network that generalises first, with augmentation, and memorises the rest later,
# without: for a whole data set of small images, on two cores in about an hour. Found on
# accuracy and share learned alone (benchmarks/regime.py, book/choices.md).
GENERALISE_FIRST = TrainConfig(
    model="whitened_net",
    width=32,
    epochs=24,
    lr=0.6,
    nesterov=True,
    weight_decay=1e-3,
    batch_size=500,
    schedule="linear",
    warmup=0.2,
    augment=True,
    augment_epochs=14,
    restart=0.2,
    shift=2,
    precision="bfloat16",
    num_probes=1,
    score_every=2,
)
