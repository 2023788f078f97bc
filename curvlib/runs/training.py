"""Train one network once, and keep a trace of every sample: config in, trace out."""

import io
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from filelock import FileLock, Timeout
from torch import nn
from torchvision.ops import StochasticDepth

from curvlib import data
from curvlib.data import Images, folders, progress
from curvlib.files import write_atomically
from curvlib.runs import distributed, networks, provenance
from curvlib.runs.devices import best_device, usable
from curvlib.runs.provenance import hardware, versions
from curvlib.runs.scoring import Scaling, score, stream
from curvlib.runs.settings import PRECISIONS, SCHEDULES, TrainConfig
from curvlib.trace import Trace

RECIPE = 1  # of one training run: order of samples, steps, schedules
PARTS = ("data", "networks", "training", "scoring")  # what makes a trace


def run_name(config: TrainConfig, splits: Mapping[str, Images]) -> str:
    """Name of a run's folder: data set, model, and a hash that identifies the run.

    Settings with their neutral value do not count, so a setting that is added later
    does not change existing names.

    Args:
        config: Settings of the run.
        splits: The samples that are scored, by split, including ``"train"``.

    Returns:
        The name, such as ``digits-slim_resnet-0123456789``.
    """
    checksums = {split: images.checksum for split, images in splits.items()}
    digest = provenance.digest(config.identity(), checksums, PARTS)
    model = config.model.removeprefix(networks.TORCHVISION)
    return f"{Path(config.dataset).stem}-{model}-{digest}"


def prepare(
    config: TrainConfig, root: str | Path | None = None
) -> tuple[Images, Images | None]:
    """Load the training set of a run, with its label noise, and held-out samples.

    Args:
        config: Settings of the run.
        root: Where data sets lie, as for ``curvlib.load``.

    Returns:
        Training samples, and held-out samples or None.

    Raises:
        ValueError: If there are fewer samples than requested, or ``curvlib.load``
            refuses the data.
        FileNotFoundError: If the data is missing and cannot be downloaded.
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
    """Select the first samples by index.

    Args:
        images: N samples.
        count: Number of samples to select; None: all.
        name: Name of the setting, for the error message.

    Returns:
        The selected samples.

    Raises:
        ValueError: If the count is below 1 or above N.
    """
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
    """Train with the given settings, score every sample, and return the trace.

    A finished run is read, not trained again. An interrupted one, even by SIGKILL,
    continues after its last finished epoch. On the same machine, with the same number
    of threads, its trace has the same bytes as that of an uninterrupted run.

    In a ``torch.distributed`` group, such as ``torchrun -m curvlib train`` creates,
    each process trains and scores a share, and the first one writes. For given weights
    the scores are exactly those of a single process. The weights differ, because floats
    are summed in another order: by rounding at the first step, and more with each
    epoch.

    Args:
        config: Settings of training and scoring.
        train: N samples to train on; None: those of ``prepare(config)``. Their given
            labels are used for training and scoring.
        heldout: Samples to score only; requires train.
        runs: Folder of all runs; this one gets ``runs/<run_name(config, splits)>``.
        root: Folder of the data sets, as for ``curvlib.load``.
        device: ``"cpu"``, ``"cuda"`` or ``"mps"``; None: the fastest available.
        on_epoch: Called with number and model after each epoch trained by this call.

    Returns:
        The finished trace: E scored epochs of N samples.

    Raises:
        FloatingPointError: If the loss is not finite. The message says where, and what
            to try.
        ValueError: If the folder holds a run with other settings or data, or one that
            began on another kind of device or with another version of torch; if
            held-out samples come without training samples, or with other classes; if
            the network has dropout; or if photographs in files are to be shifted.
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
            "training and held-out samples must have the same classes, got "
            f"{train.classes} and {heldout.classes}"
        )
    if len(train.classes) < 2:
        raise ValueError(
            f"{train.name} has one class, {train.classes[0]}; a classifier needs two"
        )
    _refuse_shift(config, train)
    device = usable(device or best_device())
    if len(set(distributed.gathered(lambda: train.checksum))) > 1:
        raise ValueError(
            "the processes got different training samples; each needs all of them, in "
            "the same order"
        )
    splits = splits_of(config, train, heldout)
    folder = Path(runs) / run_name(config, splits)
    if not (folder / "run.json").exists():
        _refuse_dropout(config, train)

    def begin() -> tuple[Trace, bool]:
        trace = _begun(config, folder, splits, device)
        finished = epochs_done(trace) >= config.epochs
        if not finished:
            _refuse_other_machine(trace, device)
        return trace, finished

    with _only_one(folder):
        trace, finished = distributed.on_first(begin)
        if not finished:
            _train(config, trace, splits, torch.device(device), on_epoch)
    return trace


def splits_of(
    config: TrainConfig, train: Images, heldout: Images | None = None
) -> dict[str, Images]:
    """Collect the samples that a run scores, by split of its trace.

    Args:
        config: Settings of the run.
        train: Samples trained on.
        heldout: Samples scored only, if there are any.

    Returns:
        ``"train"``; ``"heldout"``, if given; ``"original_labels"``, the mislabelled
        training samples under their original labels, if the config asks for them.
    """
    splits = {"train": train}
    if heldout is not None:
        splits["heldout"] = heldout
    if config.score_original_labels and train.mislabelled.any():
        wrong = train.select(train.mislabelled)
        splits["original_labels"] = replace(wrong, labels=wrong.original_labels)
    return splits


def _begun(
    config: TrainConfig, folder: Path, splits: dict[str, Images], device: str
) -> Trace:
    train = splits["train"]
    mean, std = train.statistics()
    settings = config.as_dict()
    if (folder / "config.json").exists():
        # A run from before a setting existed says nothing of it: it was neutral.
        there = Trace.open(folder).config
        for name, value in config.neutral().items():
            if name not in there and settings[name] == value:
                del settings[name]
    return Trace.create(
        folder,
        config=settings,
        info={
            "mean": mean,
            "std": std,
            "classes": train.classes,
            "input_shape": [train.images.shape[i] for i in (3, 1, 2)],
            "recipes": provenance.recipes(PARTS),
            "versions": versions(),
            "hardware": hardware(device),
            "processes": distributed.world(),
        },
        splits=splits,
    )


@contextmanager
def _only_one(folder: Path) -> Iterator[None]:
    """Hold the lock of a run: other processes that need it wait, then read it.

    The processes of one run wait together and exchange messages now and then, because
    torch assumes that a process is dead after half an hour of silence.
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
    """Refuse to continue elsewhere: the trace would mix two kinds of arithmetic."""
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
                f"{trace.folder} began with {name} {then} and is not finished; this "
                f"machine has {here}. Finish it there, or delete it to start again"
            )


def new_model(trace: Trace) -> nn.Module:
    """Build a run's network with its initial weights.

    Args:
        trace: Trace of the run.

    Returns:
        The network with its first weights, in evaluation mode, on the CPU. A whitening
        layer is random, since it is set from images when training begins.
    """
    info = trace.info
    return _untrained(trace.config, len(info["classes"]), info["input_shape"])


def _untrained(config: dict, num_classes: int, input_shape: list[int]) -> nn.Module:
    return networks.build(
        config["model"],
        num_classes=num_classes,
        input_shape=tuple(input_shape),
        width=config["width"],
        activation=config["activation"],
        seed=config["seed"],
    ).eval()


WHITENED = 2000  # training images that set a whitening layer


def _whiten(model: nn.Module, images: Images, scaling: Scaling) -> None:
    """Set the whitening layer, if there is one, from the first training images."""
    if isinstance(model, networks.WhitenedNet):
        pixels = np.array(images.images[:WHITENED])  # [N, H, W, C]
        x = torch.from_numpy(pixels).permute(0, 3, 1, 2)
        networks.whiten(model, data.normalise(x, *scaling))


def passes(
    config: TrainConfig,
    images: Images,
    *,
    scaling: Scaling,
    model: nn.Module | None = None,
    device: str | None = None,
) -> Iterator[nn.Module]:
    """Train as ``fit`` does, but score and store nothing: for a second training.

    Args:
        config: How to train; its data set, noise and scoring play no part.
        images: N samples to train on, with the labels given.
        scaling: As ``Images.statistics`` gives it, of these or of more images.
        model: The network to go on with; None: a new one with the config's seed.
        device: As for ``fit``.

    Yields:
        The network after each epoch, in evaluation mode; it is always the same object.

    Raises:
        FloatingPointError: If the loss is not finite.
        ValueError: If several processes were started, or photographs in files are to
            be shifted.
    """
    if distributed.world() > 1:
        raise ValueError(
            "a second training is for one process; start it without torchrun"
        )
    _refuse_shift(config, images)
    device = torch.device(device or best_device())
    if model is None:
        shape = [images.images.shape[i] for i in (3, 1, 2)]
        model = _untrained(config.as_dict(), len(images.classes), shape)
        _whiten(model, images, scaling)
    model = model.to(device, memory_format=torch.channels_last)
    optimizer = _optimizer(config, model)
    read = images.reader(device, padding=config.shift)
    labels = torch.from_numpy(images.labels).to(device)
    for epoch in range(1, config.epochs + 1):
        _train_epoch(config, scaling, model, optimizer, epoch, read, labels)
        yield model.eval()


def _optimizer(config: TrainConfig, model: nn.Module) -> torch.optim.SGD:
    return torch.optim.SGD(
        [weight for weight in model.parameters() if weight.requires_grad],
        lr=config.lr,
        momentum=config.momentum,
        weight_decay=config.weight_decay,
        nesterov=config.nesterov,
    )


def learning_rate(config: TrainConfig, done: float) -> float:
    """Learning rate at a step.

    Args:
        config: Settings of the run.
        done: Share of the run's steps that come before, in [0, 1).

    Returns:
        The rate: in the warm-up from 0 to ``config.lr`` in a line, then ``config.lr``
        times the schedule, which spans what is left. With ``config.restart``, this
        holds for the augmented epochs, and again for those after, whose peak is
        ``config.restart * config.lr``.
    """
    peak = config.lr
    if config.restart:
        turn = config.augment_epochs / config.epochs
        if done < turn:
            done = done / turn
        else:
            done = (done - turn) / (1 - turn)
            peak *= config.restart
    if done < config.warmup:
        return peak * done / config.warmup
    left = (done - config.warmup) / (1 - config.warmup)
    return peak * SCHEDULES[config.schedule](left)


def trained_model(trace: Trace) -> nn.Module:
    """Load a run's network with the weights of its last finished epoch.

    Args:
        trace: Trace of the run.

    Returns:
        The network, in evaluation mode, on the CPU.

    Raises:
        FileNotFoundError: If no epoch was finished.
        ValueError: If the checkpoint is damaged.
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


def epochs_done(trace: Trace) -> int:
    """Number of epochs after which a run can continue.

    Args:
        trace: Trace of the run.

    Returns:
        The number of finished epochs, scored or not.

    Raises:
        ValueError: If the checkpoint is damaged, or missing though epochs are logged.
    """
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
    scaling = trace.info["mean"], trace.info["std"]
    model = new_model(trace)
    state = distributed.on_first(lambda: _checkpoint(trace))
    if not state:
        _whiten(model, splits["train"], scaling)
    model = model.to(device, memory_format=torch.channels_last)
    optimizer = _optimizer(config, model)
    first, rows = 1, []
    if state:
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        first, rows = state["epoch"] + 1, state["log"]
    if first_process:
        trace.forget_after(first - 1)
    trained_on = distributed.parallel(model, device)  # the same weights
    readers = {
        split: images.reader(device, padding=config.shift)
        for split, images in splits.items()
    }
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
                    columns = score(
                        plain,
                        samples,
                        scaling=scaling,
                        epoch=epoch,
                        num_probes=config.num_probes,
                        step=config.step,
                        seed=config.seed,
                        read=readers[split],
                    )
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


def _refuse_shift(config: TrainConfig, images: Images) -> None:
    if config.shift != data.PADDING and isinstance(images.images, folders.Photographs):
        raise ValueError(
            f"{images.name}: photographs in files are cropped at random sizes, not "
            f"shifted, so shift must be {data.PADDING}, got {config.shift}"
        )


def _refuse_dropout(config: TrainConfig, images: Images) -> None:
    if not config.model.startswith(networks.TORCHVISION):
        return
    shape = [images.images.shape[i] for i in (3, 1, 2)]
    model = _untrained(config.as_dict(), len(images.classes), shape)
    kinds = (nn.modules.dropout._DropoutNd, StochasticDepth)
    if any(isinstance(m, kinds) and m.p > 0 for m in model.modules()):
        raise ValueError(
            f"{config.model} has dropout, whose masks a resumed run could not repeat; "
            "choose a network without it, such as torchvision/resnet18. Stored weights "
            "can be scored: curvlib score --checkpoints"
        )


def _unwrapped(model: nn.Module, trace: Trace) -> nn.Module:
    """Copy the network for scoring, with the batch norms of a single process."""
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


def _train_epoch(config, scaling, model, optimizer, epoch, read, labels) -> dict:
    """Make one pass over the samples; return the row of the log, without seconds."""
    model.train()
    generator = stream(config.seed, epoch, "order")
    order = torch.randperm(len(labels), generator=generator)
    # Equal batches, none of one sample: it would have no batch statistics.
    count = min(math.ceil(len(order) / config.batch_size), len(order) // 2)
    batches = order.tensor_split(max(count, 1))
    world = distributed.world()
    if len(batches[-1]) < world:
        raise ValueError(
            f"a batch of {len(batches[-1])} samples cannot be shared among {world} "
            "processes; raise batch_size, or start fewer processes"
        )
    share = slice(distributed.rank(), None, world)  # of every batch
    losses = torch.zeros(len(batches), device=labels.device)
    correct = torch.zeros((), device=labels.device)
    last = config.epochs if config.augment_epochs is None else config.augment_epochs
    augment = config.augment and epoch <= last
    read_batches = read(batches, generator=generator if augment else None, share=share)
    for number, (batch, x) in enumerate(zip(batches, read_batches, strict=True)):
        done = (epoch - 1 + number / len(batches)) / config.epochs
        rate = learning_rate(config, done)
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
