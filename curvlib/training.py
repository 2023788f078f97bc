"""Train one network once, and keep a trace of every sample: config in, trace out."""

import hashlib
import io
import json
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from filelock import FileLock, Timeout
from torch import Tensor, nn
from torchvision.ops import StochasticDepth

from curvlib import data, distributed, folders, models, progress
from curvlib.curvature import input_curvature
from curvlib.data import Images
from curvlib.provenance import fingerprint, hardware, versions, write_atomically
from curvlib.seeding import seed_of
from curvlib.trace import Trace

CODE = (
    "folders",
    "data",
    "models",
    "hvp",
    "curvature",
    "trace",
    "distributed",
    "seeding",
    "training",
)
# Of the code that was imported, even if its files are edited while a run goes on.
CODE_FINGERPRINT = fingerprint(CODE)
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
        model: One of ``curvlib.models.MODELS``, or ``"torchvision/resnet18"`` and the
            like, which have neither a width nor a choice of activation.
        width: Channels of the first stage, at least 8, or units of a hidden layer.
        activation: One of ``curvlib.models.ACTIVATIONS``.
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
                models.known(self.model),
                f"one of {models.MODELS}, or torchvision/ and one of its names",
            ),
            ("width", self.width > 0, "positive"),
            (
                "activation",
                self.activation in models.ACTIVATIONS,
                f"one of {tuple(models.ACTIVATIONS)}",
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
        if self.model in models.RESNETS and self.width < 8:
            raise ValueError(
                f"width must be at least 8 for {self.model}, got {self.width}"
            )
        if self.model.startswith(models.TORCHVISION) and self.activation != "relu":
            raise ValueError(
                f"{self.model} comes as it is, so activation must stay 'relu', got "
                f"{self.activation!r}"
            )

    @property
    def run_name(self) -> str:
        """Name of the run's folder: data set, model, and a hash of config and code.

        The code is part of it, so that a changed library never passes off an earlier
        version's run as its own.
        """
        identity = json.dumps(asdict(self), sort_keys=True) + CODE_FINGERPRINT
        digest = hashlib.sha256(identity.encode()).hexdigest()[:10]
        model = self.model.removeprefix(models.TORCHVISION)
        return f"{Path(self.dataset).stem}-{model}-{digest}"


def prepare(
    config: TrainConfig, root: str | Path | None = None
) -> tuple[Images, Images | None]:
    """Samples that a run trains on, wrong labels included, and those it only scores.

    Args:
        config: Of the run.
        root: Where data sets lie, as for ``curvlib.load``.

    Returns:
        Training samples, and held-out samples or None.

    Raises:
        ValueError: If more samples are asked for than there are.
    """
    how = {"image_size": config.image_size, "broken_files": config.broken_files}
    whole = data.load(config.dataset, root, **how)
    train = first(whole, config.num_train, "num_train")
    if config.noise in data.HUMAN:
        train = data.with_human_labels(train, config.noise, root)
    elif config.noise == "pair":
        train = data.with_pair_flip(train, config.noise_rate, seed=config.seed)
    else:
        train = data.with_symmetric_noise(train, config.noise_rate, seed=config.seed)
    train = data.with_planted_duplicates(
        train,
        config.planted_duplicates,
        seed=config.seed,
        first_index=int(whole.index.max()) + 1,
    )
    if not config.num_heldout:
        return train, None
    test = data.load(config.dataset, root, split="test", **how)
    return train, first(test, config.num_heldout, "num_heldout")


def first(images: Images, count: int | None, name: str) -> Images:
    """The first so many samples by index, or all; name is that of the setting."""
    if count is None:
        return images
    if count < 1:
        raise ValueError(f"{name} must be at least 1, got {count}")
    if count > len(images):
        raise ValueError(
            f"{name} = {count}, but {images.name} has {len(images)} images"
        )
    return images.select(np.arange(count))


def fit(
    config: TrainConfig,
    train: Images | None = None,
    heldout: Images | None = None,
    *,
    runs: str | Path = "runs",
    root: str | Path | None = None,
    device: str | None = None,
    on_epoch: Callable[[int, nn.Module], None] | None = None,
) -> Trace:
    """Train as the config says, score every sample as it goes, and return the trace.

    A finished run is read, not trained again. One that was stopped, even by SIGKILL,
    goes on after its last finished epoch and ends with the same bytes in its trace as
    an unbroken one on the same machine with the same number of threads.

    Under an initialised ``torch.distributed`` group (``torchrun -m curvlib train``
    makes one) each process trains and scores a share, and the first writes. Scores at
    given weights are then exactly those of one process. The weights differ by the order
    in which floats are summed: by rounding at the first step, by more with each epoch.

    Args:
        config: What to do.
        train: Samples to train on, ``prepare(config)`` if left out. The labels given
            are those trained on and scored with.
        heldout: Samples only scored; goes with train.
        runs: Folder of all runs; this one gets ``runs/<config.run_name>``.
        root: Where data sets lie, as for ``curvlib.load``.
        device: ``"cpu"``, ``"cuda"``, ``"mps"``; the fastest there is, if left out.
        on_epoch: Called after each epoch trained here with its number and the model.

    Raises:
        FloatingPointError: If the loss is not finite; says where and what to try.
        ValueError: If the folder holds a run of another config or on other data, or
            the held-out samples come without training samples or of other classes.
    """
    if train is None and heldout is not None:
        raise ValueError(
            "held-out samples were given, but no training samples: give both, or set "
            "num_heldout and give neither"
        )
    if train is None:
        train, heldout = prepare(config, root)
    if heldout is not None and heldout.classes != train.classes:
        raise ValueError(
            "training and held-out samples must be of the same classes, got "
            f"{train.classes} and {heldout.classes}"
        )
    if len(train.classes) < 2:
        raise ValueError(
            f"{train.name} has one class, {train.classes[0]}; a classifier needs two"
        )
    device = usable(device or best_device())
    if len(set(distributed.gathered(lambda: train.checksum))) > 1:
        raise ValueError(
            "the processes were given different training samples; each needs all of "
            "them, in one order"
        )
    folder = Path(runs) / config.run_name
    splits = {"train": train}
    if heldout is not None:
        splits["heldout"] = heldout
    if config.score_original_labels and train.mislabelled.any():
        wrong = train.select(train.mislabelled)
        splits["original_labels"] = replace(wrong, labels=wrong.original_labels)

    def begin() -> tuple[Trace, bool]:
        trace = _begun(config, folder, splits, device)
        finished = _epochs_done(trace) >= config.epochs
        if not finished:
            _refuse_other_machine(trace, device)
        return trace, finished

    with _only_one(folder):
        trace, finished = distributed.on_first(begin)
        if not finished:
            _train(config, trace, splits, torch.device(device), on_epoch)
    return trace


def _begun(
    config: TrainConfig, folder: Path, splits: dict[str, Images], device: str
) -> Trace:
    train = splits["train"]
    mean, std = train.statistics()
    return Trace.create(
        folder,
        config=asdict(config),
        info={
            "mean": mean,
            "std": std,
            "classes": train.classes,
            "input_shape": [train.images.shape[i] for i in (3, 1, 2)],
            "code": CODE_FINGERPRINT,
            "versions": versions(),
            "hardware": hardware(device),
            "processes": distributed.world(),
        },
        train=train,
        heldout=splits.get("heldout"),
        original=splits.get("original_labels"),
    )


@contextmanager
def _only_one(folder: Path) -> Iterator[None]:
    """Two notebooks that need one run: the second waits, says so, then reads it.

    The processes of one run wait together, and meet while they do: left alone for half
    an hour they would take each other for dead.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / ".lock")

    def acquired(seconds: float) -> bool:
        try:
            lock.acquire(timeout=seconds)
        except Timeout:
            return False
        return True

    if not distributed.on_first(lambda: acquired(1)):
        if distributed.rank() == 0:
            progress.report(f"waiting for another process to finish {folder.name}")
        while not distributed.on_first(lambda: acquired(60)):
            pass
    try:
        yield
    finally:
        lock.release()


def _refuse_other_machine(trace: Trace, device: str) -> None:
    """A run goes on where it began, or its trace would be of two kinds."""
    begun, now = trace.info, {"versions": versions(), "hardware": hardware(device)}
    for name, then, here in (
        (
            "device",
            begun["hardware"]["device"].split(":")[0],
            now["hardware"]["device"].split(":")[0],
        ),
        ("torch", begun["versions"]["torch"], now["versions"]["torch"]),
    ):
        if then != here:
            raise ValueError(
                f"{trace.folder} was begun with {name} {then} and is not finished; "
                f"here it is {here}. Finish it there, or delete it to begin again"
            )


def usable(device: str) -> str:
    """The device, if it is there.

    Raises:
        ValueError: If it is not.
    """
    try:
        torch.zeros(1, device=device)
    except Exception as error:  # by kind of device
        raise ValueError(
            f"device {device!r} cannot be used here ({str(error).splitlines()[0]}); "
            f"try {best_device()!r}"
        ) from error
    return device


def best_device() -> str:
    """``"cuda"``, ``"mps"`` or ``"cpu"``: the fastest that is there."""
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def new_model(trace: Trace) -> nn.Module:
    """The run's network before training, in evaluation mode."""
    info = trace.info
    return _untrained(trace.config, len(info["classes"]), info["input_shape"])


def _untrained(config: dict, num_classes: int, input_shape: list[int]) -> nn.Module:
    return models.build(
        config["model"],
        num_classes=num_classes,
        input_shape=tuple(input_shape),
        width=config["width"],
        activation=config["activation"],
        seed=config["seed"],
    ).eval()


Scaling = tuple[list[float], list[float]]  # mean and deviation of each channel


def passes(
    config: TrainConfig,
    images: Images,
    *,
    scaling: Scaling,
    model: nn.Module | None = None,
    device: str | None = None,
) -> Iterator[nn.Module]:
    """Train as ``fit`` does, with no trace and nothing kept: for a second training.

    Args:
        config: Its data set, noise and scoring play no part.
        images: Trained on, with the labels given.
        scaling: As ``Images.statistics`` gives it, of these or of more images.
        model: Where to begin; by default a network that is new and seeded.
        device: As for ``fit``.

    Yields:
        The network after each epoch, in evaluation mode; always the same one.

    Raises:
        FloatingPointError: If the loss is not finite.
    """
    if distributed.world() > 1:
        raise ValueError(
            "a second training is for one process; start it without torchrun"
        )
    device = torch.device(device or best_device())
    if model is None:
        shape = [images.images.shape[i] for i in (3, 1, 2)]
        model = _untrained(asdict(config), len(images.classes), shape)
    model = model.to(device, memory_format=torch.channels_last)
    optimizer = _optimizer(config, model)
    read = images.reader(device)
    labels = torch.from_numpy(images.labels).to(device)
    for epoch in range(1, config.epochs + 1):
        _train_epoch(config, scaling, model, optimizer, epoch, read, labels)
        yield model.eval()


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
    folded = models.fold_batch_norm(model.eval())
    found = []
    with torch.no_grad():
        for some in images.reader("cpu")(_chunks(len(images), chunk)):
            x = data.normalise(some.to(device), *scaling)
            logits = folded(x.contiguous(memory_format=torch.channels_last))
            found.append(logits.softmax(1).cpu())
    return torch.cat(found).numpy()


def _optimizer(config: TrainConfig, model: nn.Module) -> torch.optim.SGD:
    return torch.optim.SGD(
        model.parameters(),
        lr=config.lr,
        momentum=config.momentum,
        weight_decay=config.weight_decay,
    )


def trained_model(trace: Trace) -> nn.Module:
    """The run's network after its last finished epoch, in evaluation mode, on the CPU.

    Raises:
        FileNotFoundError: If no epoch was finished.
    """
    state = _checkpoint(trace)
    if state is None:
        raise FileNotFoundError(f"{trace.folder} has no finished epoch yet")
    model = new_model(trace)
    model.load_state_dict(state["model"])
    return model


def _checkpoint(trace: Trace) -> dict | None:
    path = trace.folder / "checkpoint.pt"
    if not path.exists():
        return None
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch names no common class for its many failures
        raise ValueError(
            f"{path} is damaged ({type(error).__name__}); delete {trace.folder} and "
            "train again"
        ) from error


def _epochs_done(trace: Trace) -> int:
    state = _checkpoint(trace)
    # The log is written just before the checkpoint, so it may be one epoch ahead.
    logged = len(trace.log()) if (trace.folder / "log.csv").exists() else 0
    if state is None and logged > 1:
        raise ValueError(
            f"{trace.folder} has {logged} epochs but no checkpoint.pt: put it back, or "
            "delete the folder to train again"
        )
    return state["epoch"] if state else 0


def _train(config, trace, splits, device, on_epoch) -> None:
    first_process = distributed.rank() == 0
    model = new_model(trace).to(device, memory_format=torch.channels_last)
    _refuse_dropout(model, config.model)
    optimizer = _optimizer(config, model)
    scaling = trace.info["mean"], trace.info["std"]
    first, rows = 1, []
    if state := distributed.on_first(lambda: _checkpoint(trace)):
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        first, rows = state["epoch"] + 1, state["log"]
    if first_process:
        trace.forget_after(first - 1)
    trained_on = distributed.parallel(model, device)  # the same weights
    readers = {split: images.reader(device) for split, images in splits.items()}
    labels = torch.from_numpy(splits["train"].labels).to(device)
    started = time.perf_counter()
    for epoch in range(first, config.epochs + 1):
        begun = time.perf_counter()
        row = _train_epoch(
            config, scaling, trained_on, optimizer, epoch, readers["train"], labels
        )
        trained = time.perf_counter()
        if epoch % config.score_every == 0 or epoch == config.epochs:
            plain = _unwrapped(model, trace)
            for split, samples in splits.items():
                try:
                    columns = score(plain, samples, trace, epoch, read=readers[split])
                except ValueError as error:  # broken by the epoch's last step
                    raise _diverged(f"epoch {epoch}: {error}", config) from error
                if first_process:
                    trace.write(epoch, samples, columns, split=split)
        row["train_seconds"] = round(trained - begun, 3)
        row["score_seconds"] = round(time.perf_counter() - trained, 3)
        rows.append(row)
        if first_process:
            _save(trace, epoch, model, optimizer, rows)
        if on_epoch is not None:
            on_epoch(epoch, _unwrapped(model, trace))
        pace = (time.perf_counter() - started) / (epoch - first + 1)
        if first_process:
            progress.report(
                f"{config.dataset} seed {config.seed} noise {config.noise_rate:.0%} "
                f"epoch {epoch}/{config.epochs} "
                f"loss {row['train_loss']:.3f} accuracy {row['train_accuracy']:.3f} "
                f"left {pace * (config.epochs - epoch) / 60:.1f} min"
            )


def _refuse_dropout(model: nn.Module, name: str) -> None:
    kinds = (nn.modules.dropout._DropoutNd, StochasticDepth)
    if any(isinstance(m, kinds) and m.p > 0 for m in model.modules()):
        raise ValueError(
            f"{name} has dropout, whose masks a resumed run could not repeat; choose a "
            "network without, such as torchvision/resnet18. Its stored weights can be "
            "scored: curvlib score --checkpoints"
        )


def _unwrapped(model: nn.Module, trace: Trace) -> nn.Module:
    """The network as one process has it: batch norms here may be those of many."""
    if distributed.world() == 1:
        return model
    device = next(model.parameters()).device
    plain = new_model(trace).to(device, memory_format=torch.channels_last)
    plain.load_state_dict(model.state_dict())
    return plain


def _save(trace: Trace, epoch: int, model, optimizer, rows: list[dict]) -> None:
    # The log before the checkpoint: killed in between, the row is written again.
    log = pd.DataFrame(rows).to_csv(index=False, lineterminator="\n")
    write_atomically(trace.folder / "log.csv", log.encode())
    buffer = io.BytesIO()
    torch.save(
        {
            "epoch": epoch,
            "model": model.state_dict(),
            "optimizer": optimizer.state_dict(),
            "log": rows,
        },
        buffer,
    )
    write_atomically(trace.folder / "checkpoint.pt", buffer.getvalue())


def _chunks(count: int, size: int) -> list[Tensor]:
    return list(torch.arange(count).split(size))


def _train_epoch(config, scaling, model, optimizer, epoch, read, labels) -> dict:
    """One pass over the samples; loss and accuracy are those met on the way."""
    model.train()
    generator = _generator(config.seed, epoch, "order")
    order = torch.randperm(len(labels), generator=generator)
    # Equal batches, none of one sample: it would have no batch statistics.
    count = min(math.ceil(len(order) / config.batch_size), len(order) // 2)
    batches = order.tensor_split(max(count, 1))
    world = distributed.world()
    if len(batches[-1]) < world:
        raise ValueError(
            f"a batch of {len(batches[-1])} samples cannot be shared among {world} "
            "processes; raise batch_size, or start fewer"
        )
    share = slice(distributed.rank(), None, world)  # of every batch
    losses = torch.zeros(len(batches), device=labels.device)
    correct = torch.zeros((), device=labels.device)
    read_batches = read(
        batches, generator=generator if config.augment else None, share=share
    )
    for number, (batch, x) in enumerate(zip(batches, read_batches, strict=True)):
        done = (epoch - 1 + number / len(batches)) / config.epochs
        rate = config.lr * SCHEDULES[config.schedule](done)
        for group in optimizer.param_groups:
            group["lr"] = rate
        y = labels[batch[share].to(labels.device)]
        x = data.normalise(x, *scaling)
        with torch.autocast(
            x.device.type,
            PRECISIONS[config.precision],
            enabled=config.precision != "float32",
        ):
            logits = model(x.contiguous(memory_format=torch.channels_last))
        # Of the mean over the batch, this process's part; 1 if it is alone.
        part = len(y) / len(batch)
        loss = F.cross_entropy(logits.float(), y)
        optimizer.zero_grad()
        (loss * (part * world)).backward()  # gradients are averaged over processes
        optimizer.step()
        losses[number] = loss.detach() * part
        correct += (logits.argmax(1) == y).sum()
    distributed.summed(losses), distributed.summed(correct)
    # Looked at once an epoch: a look at every batch would make a GPU wait.
    if not losses.isfinite().all():
        number = int((~losses.isfinite()).nonzero()[0, 0])
        raise _diverged(
            f"epoch {epoch}, batch {number + 1} of {len(batches)}: the loss became "
            f"{losses[number].item()}",
            config,
        )
    sizes = torch.tensor([len(batch) for batch in batches], device=labels.device)
    return {
        "epoch": epoch,
        "lr": rate,
        "train_loss": ((losses * sizes).sum() / len(labels)).item(),
        "train_accuracy": (correct / len(labels)).item(),
    }


def _diverged(what: str, config: TrainConfig) -> FloatingPointError:
    return FloatingPointError(
        f"training diverged at {what}. It had lr {config.lr:g} and momentum "
        f"{config.momentum:g}; try lr {config.lr / 10:g}. Earlier epochs are kept"
    )


def score(
    model: nn.Module,
    images: Images,
    trace: Trace,
    epoch: int,
    *,
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
        trace: Gives num_probes, step and seed, and the normalisation.
        epoch: Number of the epoch, from 1.
        chunk: Samples in memory at once.
        read: ``images.reader(device)``, where there is one already.

    Returns:
        For each name in ``curvlib.trace.COLUMNS`` an array of shape [N].
    """
    device = next(model.parameters()).device
    folded = models.fold_batch_norm(model)
    read = read or images.reader(device)
    chunks = _chunks(len(images), chunk)
    mine = chunks[distributed.rank() :: distributed.world()]
    labels = torch.from_numpy(images.labels)

    def found() -> list[tuple[int, dict[str, np.ndarray]]]:
        """Each chunk's columns, and where it begins."""
        parts = []
        for rows, pixels in zip(mine, read(mine), strict=True):
            columns = _score_some(folded, pixels, labels[rows].to(device), trace, epoch)
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
    folded: nn.Module, pixels: Tensor, y: Tensor, trace: Trace, epoch: int
) -> dict[str, Tensor]:
    config, info = trace.config, trace.info
    x = data.normalise(pixels, info["mean"], info["std"])
    inputs: list[Tensor] = []  # of the last layer; the first call is with x alone
    watch = models.last_linear(folded).register_forward_pre_hook(
        lambda _, given: inputs.append(given[0].detach())
    )
    try:
        estimate = input_curvature(
            folded,
            x.contiguous(memory_format=torch.channels_last),
            y,
            num_probes=config["num_probes"],
            step=config["step"],
            generator=_generator(config["seed"], epoch, "probes"),
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
        "el2n": (p - given.to(p)).norm(dim=1),
    }


def _generator(seed: int, epoch: int, purpose: str) -> torch.Generator:
    """A stream of its own for each seed, epoch and purpose: resuming needs no state."""
    return torch.Generator().manual_seed(seed_of([seed, epoch], purpose))
