"""A small head on feature vectors: it trains in seconds and leaves an ordinary trace.

The head has one hidden layer of ReLUs, or none. Feature vectors are read from their
file batch by batch, so memory does not grow with the number of samples. Nothing here
knows which labels are wrong: the loss on held-out samples decides how long to train.
"""

import hashlib
import io
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from filelock import FileLock
from torch import Tensor, nn

from curvlib.data import folders, normalise, progress
from curvlib.data.seeding import seeded
from curvlib.runs import provenance
from curvlib.runs.features import Features
from curvlib.runs.provenance import hardware, versions
from curvlib.runs.scoring import Scaling, score, stream
from curvlib.trace import Trace, write_atomically

RECIPE = 1  # of a head's weights, order of samples, steps and stopping
PARTS = ("features", "head", "scoring")  # the trace of a head depends on these
SLAB = 32768  # samples scored between two saves
SAVE_SECONDS = 20.0  # of training between two saves
PATIENCE = 3  # epochs without a better held-out loss before training stops


@dataclass(frozen=True, kw_only=True, eq=False)
class Vectors:
    """Labelled feature vectors; ``curvlib.trace`` treats them as samples.

    Attributes:
        features: Vectors, float, shape [N, D]; may be a memory map.
        labels: int64, shape [N], in [0, len(classes)).
        index: int64, shape [N], unique: the position in the original data set.
        classes: Names of the classes.
        original_labels: int64, shape [N]; by default the labels.
        source: int64, shape [N]; by default the index.
        name: Name of the data set.
        origin: Checksum of the vectors.
        rows: Positions in ``features``, shape [N]; by default all.
    """

    features: np.ndarray
    labels: np.ndarray
    index: np.ndarray
    classes: tuple[str, ...]
    original_labels: np.ndarray | None = None
    source: np.ndarray | None = None
    name: str = "vectors"
    origin: str = ""
    rows: np.ndarray | None = None

    def __post_init__(self):
        rows = self.rows
        if rows is None:
            rows = np.arange(len(self.features))
        object.__setattr__(self, "rows", np.asarray(rows, dtype=np.int64))
        for name, default in (
            ("labels", None),
            ("index", None),
            ("original_labels", self.labels),
            ("source", self.index),
        ):
            value = getattr(self, name)
            value = np.asarray(default if value is None else value)
            if value.shape != self.rows.shape or value.dtype.kind not in "iu":
                raise ValueError(
                    f"{self.name}: {name} must hold one integer for each of the "
                    f"{len(self.rows)} feature vectors, got {value.dtype} of shape "
                    f"{list(value.shape)}"
                )
            object.__setattr__(self, name, value.astype(np.int64))
        if self.labels.min() < 0 or self.labels.max() >= len(self.classes):
            raise ValueError(
                f"{self.name}: labels must lie in [0, {len(self.classes)}), got "
                f"{self.labels.min()} to {self.labels.max()}"
            )

    @classmethod
    def of(cls, features: Features, samples) -> "Vectors":
        """Combine feature vectors with the labels of their images."""
        return cls(
            features=features.vectors,
            labels=samples.labels,
            index=samples.index,
            classes=tuple(samples.classes),
            original_labels=samples.original_labels,
            source=samples.source,
            name=samples.name,
            origin=features.checksum,
        )

    def __len__(self) -> int:
        return len(self.rows)

    @cached_property
    def checksum(self) -> str:
        """Sixteen digits that change with the vectors, the labels and the index."""
        digest = hashlib.sha256(repr((self.origin, self.classes)).encode())
        for array in (self.rows, self.index, self.labels):
            digest.update(array.tobytes())
        return digest.hexdigest()[:16]

    def select(self, chosen: np.ndarray | slice) -> "Vectors":
        """Select the samples at some positions, without copying the vectors."""
        names = ("labels", "index", "original_labels", "source", "rows")
        return replace(self, **{name: getattr(self, name)[chosen] for name in names})

    def relabelled(self, labels: np.ndarray) -> "Vectors":
        """The same vectors with other labels."""
        return replace(self, labels=labels)

    def reader(self, device: torch.device | str) -> "_Reader":
        """Return a reader of batches, like ``curvlib.Images.reader``.

        It yields tensors of shape [B, D, 1, 1]: one pixel with D channels.
        """
        return _Reader(self.features, self.rows, torch.device(device))


class _Reader:
    def __init__(self, features: np.ndarray, rows: np.ndarray, device: torch.device):
        self._features, self._rows, self._device = features, rows, device

    def __call__(
        self, batches: Sequence[Tensor], *, share: slice = folders.WHOLE
    ) -> Iterator[Tensor]:
        for batch in batches:
            wanted = self._rows[batch[share].numpy()]
            found = torch.from_numpy(np.asarray(self._features[wanted]))
            yield found.to(self._device).float()[:, :, None, None]


@dataclass(frozen=True, kw_only=True)
class HeadConfig:
    """Everything that the training of a head depends on, except data and code.

    Attributes:
        hidden: Number of ReLUs in the hidden layer; 0 for logistic regression.
        epochs: Largest number of passes over the samples.
        lr: Constant learning rate of SGD with momentum 0.9.
        weight_decay: Weight decay on all weights.
        batch_size: Largest number of samples in a step.
        score_every: Score after every k-th epoch, and after the last.
        num_probes: Number of probes K in each scored epoch.
        step: h, in standard deviations of a feature.
        seed: Seed of the initial weights, the sample order and the probes.
    """

    hidden: int = 512
    epochs: int = 10
    lr: float = 0.005
    weight_decay: float = 5e-4
    batch_size: int = 128
    score_every: int = 1
    num_probes: int = 2
    step: float = 1e-2
    seed: int = 0

    def __post_init__(self):
        for name, valid, meaning in (
            ("hidden", self.hidden >= 0, "0 or more"),
            ("epochs", self.epochs > 0, "positive"),
            ("lr", 0 < self.lr < math.inf, "positive and finite"),
            ("weight_decay", self.weight_decay >= 0, "0 or more"),
            ("batch_size", self.batch_size > 0, "positive"),
            ("score_every", self.score_every > 0, "positive"),
            ("num_probes", self.num_probes > 0, "positive"),
            ("step", 0 < self.step < math.inf, "positive and finite"),
            ("seed", self.seed >= 0, "0 or more"),
        ):
            if not valid:
                raise ValueError(
                    f"{name} must be {meaning}, got {getattr(self, name)!r}"
                )


def build(config: HeadConfig, inputs: int, num_classes: int) -> nn.Module:
    """Build a head with seeded weights, from [B, inputs, 1, 1] to [B, num_classes]."""
    with seeded(config.seed):
        if not config.hidden:
            linear = nn.Linear(inputs, num_classes)
            nn.init.zeros_(linear.weight)
            nn.init.zeros_(linear.bias)
            return nn.Sequential(nn.Flatten(), linear)
        return nn.Sequential(
            nn.Flatten(),
            nn.Linear(inputs, config.hidden),
            nn.ReLU(),
            nn.Linear(config.hidden, num_classes),
        )


def statistics(vectors: Vectors, *, chunk: int = 4096) -> Scaling:
    """Mean and standard deviation of each feature, in the form for ``normalise``.

    They are divided by 255, because ``normalise`` expects pixels from 0 to 255. A
    constant feature gets a deviation of 1.
    """
    total = np.zeros(vectors.features.shape[1])
    squares = np.zeros_like(total)
    for start in range(0, len(vectors), chunk):
        some = vectors.features[vectors.rows[start : start + chunk]].astype(np.float64)
        total += some.sum(0)
        squares += np.square(some).sum(0)
    mean = total / len(vectors)
    variance = np.maximum(squares / len(vectors) - np.square(mean), 0)
    std = np.sqrt(variance)
    std = np.where(std > 1e-6, std, 1.0)
    return (mean / 255).tolist(), (std / 255).tolist()


class Training:
    """Training of one head, which can stop after any batch and continue later.

    Args:
        config: Settings of the training.
        vectors: Samples to train on, with the labels given.
        scaling: Result of ``statistics``.
        file: File for the state; None: the state is not saved.
        device: Device of the head.
    """

    def __init__(
        self,
        config: HeadConfig,
        vectors: Vectors,
        scaling: Scaling,
        *,
        file: Path | None = None,
        device: str = "cpu",
    ):
        self.config, self.file, self.scaling = config, file, scaling
        self.model = build(config, vectors.features.shape[1], len(vectors.classes))
        self.model.to(device)
        self.optimizer = torch.optim.SGD(
            self.model.parameters(),
            lr=config.lr,
            momentum=0.9,
            weight_decay=config.weight_decay,
        )
        self.epoch, self.batch, self.loss = 0, 0, 0.0
        self.kept: dict = {}  # whatever the caller wants to save with the state
        self._labels = torch.from_numpy(vectors.labels).to(device)
        self._read = vectors.reader(device)
        size = min(config.batch_size, max(len(vectors) // 8, 1))
        self.num_batches = math.ceil(len(vectors) / size)
        if file is not None and file.exists():
            self._load()

    def train_epoch(self) -> float:
        """Train one epoch, or the rest of it; return the mean training loss.

        Raises:
            FloatingPointError: If the loss is not finite.
        """
        self.model.train()
        order = stream(self.config.seed, self.epoch + 1, "order")
        order = torch.randperm(len(self._labels), generator=order)
        batches = order.tensor_split(self.num_batches)
        saved = time.perf_counter()
        for rows, x in zip(
            batches[self.batch :], self._read(batches[self.batch :]), strict=True
        ):
            logits = self.model(normalise(x, *self.scaling))
            loss = F.cross_entropy(logits, self._labels[rows.to(self._labels.device)])
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            self.batch += 1
            self.loss += loss.item() * len(rows)
            if time.perf_counter() - saved > SAVE_SECONDS:
                self.save()
                saved = time.perf_counter()
        mean = self.loss / len(order)
        if not math.isfinite(mean):
            raise FloatingPointError(
                f"training of the head diverged in epoch {self.epoch + 1} at lr "
                f"{self.config.lr:g}; are the feature vectors in a usual range?"
            )
        self.model.eval()
        self.epoch, self.batch, self.loss = self.epoch + 1, 0, 0.0
        return mean

    def save(self) -> None:
        """Save the state, completely or not at all."""
        if self.file is None:
            return
        buffer = io.BytesIO()
        torch.save(
            {
                "model": self.model.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "progress": [self.epoch, self.batch, self.loss],
                "kept": self.kept,
            },
            buffer,
        )
        write_atomically(self.file, buffer.getvalue())

    def _load(self) -> None:
        try:
            state = torch.load(self.file, map_location="cpu", weights_only=True)
        except Exception as error:  # torch's failures have no common class
            raise ValueError(
                f"{self.file} is damaged ({type(error).__name__}); delete "
                f"{self.file.parent} and start again"
            ) from error
        self.model.load_state_dict(state["model"])
        self.model.eval()
        self.optimizer.load_state_dict(state["optimizer"])
        self.epoch, self.batch, self.loss = state["progress"]
        self.kept = state["kept"]


def fit_head(
    config: HeadConfig,
    vectors: Vectors,
    *,
    runs: str | Path,
    device: str = "cpu",
    scaling: Scaling | None = None,
    on_epoch: Callable[[int], None] | None = None,
) -> Trace:
    """Train a head on feature vectors and return its trace, including curvature.

    A finished run is read, not trained again. A stopped run continues from its last
    save, and loses at most about ``SAVE_SECONDS`` of training or one slab of scoring.

    Args:
        config: Settings of training and scoring.
        vectors: N samples to train on, with the labels given.
        runs: Folder of all runs.
        device: Device of the head.
        scaling: Result of ``statistics``, if you have it already.
        on_epoch: Called with the number of each epoch after it is trained and scored.

    Raises:
        FloatingPointError: If the training diverges.
        ValueError: If a file of the run is damaged.
    """
    scaling = scaling or statistics(vectors)
    digest = provenance.digest(asdict(config), {"train": vectors.checksum}, PARTS)
    folder = Path(runs) / f"{vectors.name}-head-{digest}"
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / ".lock"):
        trace = Trace.create(
            folder,
            config=asdict(config),
            info={
                "classes": vectors.classes,
                "input_shape": [vectors.features.shape[1], 1, 1],
                "features": vectors.origin,
                "recipes": provenance.recipes(PARTS),
                "versions": versions(),
                "hardware": hardware(device),
            },
            splits={"train": vectors},
        )
        file = folder / "checkpoint.pt"
        training = Training(config, vectors, scaling, file=file, device=device)
        if training.epoch < config.epochs:
            _finish(config, vectors, scaling, trace, training, on_epoch)
    return trace


def _finish(config, vectors, scaling, trace, training, on_epoch) -> None:
    rows = training.kept.get("log", [])
    trace.forget_after(training.epoch)
    # First score an epoch that was trained but not completely scored.
    trained = training.kept.get("trained_loss")
    while training.epoch < config.epochs or trained is not None:
        begun = time.perf_counter()
        if trained is None:
            trained = training.train_epoch()
            training.kept["trained_loss"] = trained
            training.epoch -= 1  # an epoch counts once it is scored
            training.batch = training.num_batches
            training.save()
        epoch = training.epoch + 1
        train_seconds = time.perf_counter() - begun
        if epoch % config.score_every == 0 or epoch == config.epochs:
            columns = _score_slabs(config, vectors, scaling, trace, training, epoch)
            trace.write(epoch, vectors, columns, split="train")
        rows.append(
            {
                "epoch": epoch,
                "lr": config.lr,
                "train_loss": trained,
                "train_seconds": round(train_seconds, 3),
                "score_seconds": round(time.perf_counter() - begun - train_seconds, 3),
            }
        )
        header = ",".join(rows[0])
        lines = [header, *(",".join(map(str, row.values())) for row in rows)]
        write_atomically(
            trace.folder / "log.csv", "".join(f"{x}\n" for x in lines).encode()
        )
        training.epoch, training.batch, trained = epoch, 0, None
        training.kept = {"log": rows}
        training.save()
        for path in trace.folder.glob("slab-*.npz"):
            path.unlink()
        if on_epoch is not None:
            on_epoch(epoch)


def _score_slabs(config, vectors, scaling, trace, training, epoch) -> dict:
    """Measure all columns of a trace, reading slabs that were already scored."""
    training.model.eval()
    slabs = []
    for start in range(0, len(vectors), SLAB):
        path = trace.folder / f"slab-{epoch:04d}-{start:09d}.npz"
        if len(vectors) > SLAB and path.exists():
            with np.load(path) as file:
                slabs.append({name: file[name] for name in file.files})
            continue
        columns = score(
            training.model,
            vectors.select(slice(start, start + SLAB)),
            scaling=scaling,
            epoch=epoch,
            num_probes=config.num_probes,
            step=config.step,
            seed=config.seed,
            chunk=512,
        )
        if len(vectors) > SLAB:
            buffer = io.BytesIO()
            np.savez(buffer, **columns)
            write_atomically(path, buffer.getvalue())
            progress.report(
                f"scored {min(start + SLAB, len(vectors))} of {len(vectors)} samples "
                f"after epoch {epoch}"
            )
        slabs.append(columns)
    return {name: np.concatenate([slab[name] for slab in slabs]) for name in slabs[0]}


@dataclass(frozen=True, kw_only=True, eq=False)
class HeldOut:
    """Predictions of heads for samples that they were not trained on.

    Attributes:
        probability: Probability of the label given, float32 [N].
        suggested: The most probable other class, int64 [N].
        suggested_probability: Probability of this class, float32 [N].
        place: Number of classes that are more probable than the label given, int64 [N].
        epochs: For each fold, the epoch with the lowest held-out loss.
        losses: Mean held-out loss after each epoch, one list for each fold.
    """

    probability: np.ndarray
    suggested: np.ndarray
    suggested_probability: np.ndarray
    place: np.ndarray
    epochs: list[int]
    losses: list[list[float]]

    @property
    def loss(self) -> np.ndarray:
        """Cross-entropy with the label given, float32 [N], in nats."""
        return -np.log(np.maximum(self.probability, 1e-30))


def folds_of(labels: np.ndarray, folds: int, *, seed: int) -> np.ndarray:
    """Assign a fold to each sample, stratified by class: int64 [N], in [0, folds).

    Args:
        labels: Shape [N].
        folds: Number of folds.
        seed: Seed of the order within a class.
    """
    rng = np.random.default_rng([seed, folds])
    order = rng.permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]
    fold = np.empty(len(labels), np.int64)
    fold[order] = np.arange(len(labels)) % folds
    return fold


def out_of_fold(
    config: HeadConfig,
    vectors: Vectors,
    *,
    runs: str | Path,
    folds: int = 5,
    only: int | None = None,
    device: str = "cpu",
    scaling: Scaling | None = None,
) -> HeldOut:
    """Predict each fold with a head that was trained on all other folds.

    Each head stops at the epoch with the lowest held-out loss, under the labels given.
    A linear head is logistic regression, regularised by early stopping.

    Args:
        config: Settings of the training; ``epochs`` is the largest number tried.
        vectors: N samples.
        runs: Folder of all runs, which keeps finished folds.
        folds: Number of folds.
        only: Number of folds to predict; by default all. Samples of the other folds get
            NaN, and -1 as suggested class.
        device: Device of the heads.
        scaling: Result of ``statistics``, if you have it already.
    """
    scaling = scaling or statistics(vectors)
    settings = asdict(config) | {"folds": folds}
    digest = provenance.digest(settings, {"train": vectors.checksum}, PARTS)
    folder = Path(runs) / f"{vectors.name}-folds-{digest}"
    folder.mkdir(parents=True, exist_ok=True)
    fold_of = folds_of(vectors.labels, folds, seed=config.seed)
    probability = np.full(len(vectors), np.nan, np.float32)
    suggested = np.full(len(vectors), -1, np.int64)
    suggested_probability = np.full(len(vectors), np.nan, np.float32)
    place = np.full(len(vectors), -1, np.int64)
    epochs, losses = [], []
    with FileLock(folder / ".lock"):
        for fold in range(folds if only is None else min(only, folds)):
            left_out = np.flatnonzero(fold_of == fold)
            found = _one_fold(
                replace(config, seed=config.seed * folds + fold),
                vectors.select(np.flatnonzero(fold_of != fold)),
                vectors.select(left_out),
                scaling,
                folder / f"fold-{fold}",
                device,
            )
            probability[left_out] = found["probability"]
            suggested[left_out] = found["suggested"]
            suggested_probability[left_out] = found["suggested_probability"]
            place[left_out] = found["place"]
            losses.append(found["losses"].tolist())
            epochs.append(int(found["losses"].argmin()) + 1)
    return HeldOut(
        probability=probability,
        suggested=suggested,
        suggested_probability=suggested_probability,
        place=place,
        epochs=epochs,
        losses=losses,
    )


def _one_fold(config, train, left_out, scaling, place: Path, device) -> dict:
    done = place.with_suffix(".npz")
    if done.exists():
        with np.load(done) as file:
            return {name: file[name] for name in file.files}
    file = place.with_suffix(".pt")
    training = Training(config, train, scaling, file=file, device=device)
    losses = training.kept.get("losses", [])
    best = {
        name: value.numpy() for name, value in training.kept.get("best", {}).items()
    }
    saved = time.perf_counter()
    while training.epoch < config.epochs:
        if losses and len(losses) - 1 - int(np.argmin(losses)) >= PATIENCE:
            break
        training.train_epoch()
        found = _ask(training.model, left_out, scaling, device)
        losses.append(float(-np.log(np.maximum(found["probability"], 1e-30)).mean()))
        if losses[-1] == min(losses):
            best = found
        kept = {name: torch.from_numpy(value) for name, value in best.items()}
        training.kept = {"losses": losses, "best": kept}
        if time.perf_counter() - saved > SAVE_SECONDS:
            training.save()
            saved = time.perf_counter()
    buffer = io.BytesIO()
    best["losses"] = np.array(losses)
    np.savez(buffer, **best)
    write_atomically(done, buffer.getvalue())
    file.unlink(missing_ok=True)
    return best


@torch.no_grad()
def _ask(model, vectors: Vectors, scaling: Scaling, device) -> dict[str, np.ndarray]:
    labels = torch.from_numpy(vectors.labels)
    chunks = list(torch.arange(len(vectors)).split(4096))
    parts = []
    for rows, x in zip(chunks, vectors.reader(device)(chunks), strict=True):
        p = model(normalise(x, *scaling)).softmax(1).cpu()
        y = labels[rows][:, None]
        given = p.gather(1, y)[:, 0]
        other = p.scatter(1, y, -1.0).max(1)
        place = (p > given[:, None]).sum(1)
        parts.append((given, other.indices, other.values, place))
    given, suggested, suggested_probability, place = map(
        torch.cat, zip(*parts, strict=True)
    )
    return {
        "probability": given.numpy(),
        "suggested": suggested.numpy(),
        "suggested_probability": suggested_probability.numpy(),
        "place": place.numpy(),
    }


def right(trace: Trace, vectors: Vectors, scaling: Scaling) -> np.ndarray:
    """Whether the head of a finished run predicts the label of each sample, bool [N].

    Args:
        trace: Result of ``fit_head``.
        vectors: Any samples with the same kind of features.
        scaling: Scaling of the features on which the head was trained.
    """
    config = HeadConfig(**trace.config)
    file = trace.folder / "checkpoint.pt"
    state = torch.load(file, map_location="cpu", weights_only=True)
    model = build(config, vectors.features.shape[1], len(vectors.classes))
    model.load_state_dict(state["model"])
    return _ask(model.eval(), vectors, scaling, "cpu")["place"] == 0


def softmax_margin(
    config: HeadConfig,
    vectors: Vectors,
    *,
    runs: str | Path,
    device: str = "cpu",
    scaling: Scaling | None = None,
) -> np.ndarray:
    """Compute the score ``aum_softmax`` of a head, without the rest of its trace.

    Without curvature this takes a fifth of the time.

    Returns:
        Mean over epochs of the probability of the label given minus the largest other
        probability, float64 [N].
    """
    scaling = scaling or statistics(vectors)
    settings = asdict(config) | {"margin": True}
    digest = provenance.digest(settings, {"train": vectors.checksum}, PARTS)
    folder = Path(runs) / f"{vectors.name}-margin-{digest}"
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / ".lock"):
        done = folder / "margin.npy"
        if done.exists():
            return np.load(done)
        file = folder / "checkpoint.pt"
        training = Training(config, vectors, scaling, file=file, device=device)
        total = np.zeros(len(vectors))
        if "total" in training.kept:
            total = training.kept["total"].numpy()
        while training.epoch < config.epochs:
            training.train_epoch()
            found = _ask(training.model, vectors, scaling, device)
            total += found["probability"] - found["suggested_probability"]
            training.kept = {"total": torch.from_numpy(total)}
            training.save()
        buffer = io.BytesIO()
        np.save(buffer, total / config.epochs)
        write_atomically(done, buffer.getvalue())
        file.unlink(missing_ok=True)
    return total / config.epochs
