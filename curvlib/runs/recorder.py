"""Keep a trace from a training loop of your own: it owns no model, loader or loop."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import default_collate

from curvlib.curvature import input_curvature
from curvlib.files import short_hash
from curvlib.runs import distributed, networks, provenance
from curvlib.runs.provenance import hardware, versions
from curvlib.runs.scoring import _of_logits, stream
from curvlib.trace import FROM_LOGITS, Trace

PARTS = ("scoring",)  # computes the columns; the user's code does the rest
Batches = Iterable[tuple[Tensor, Tensor, Tensor]]  # inputs, labels, index
Forward = Callable[[nn.Module, Tensor], Tensor]


@dataclass(frozen=True)
class _Samples:
    """What a trace needs to know about samples; their inputs are elsewhere."""

    index: np.ndarray
    labels: np.ndarray
    original_labels: np.ndarray

    @property
    def source(self) -> np.ndarray:
        return self.index

    @property
    def checksum(self) -> str:
        parts = (self.index, self.labels, self.original_labels)
        content = b"".join(part.astype("<i8").tobytes() for part in parts)
        return short_hash(content)

    def __len__(self) -> int:
        return len(self.index)


class _Part(NamedTuple):
    """The share of an epoch that one process has seen."""

    epoch: int
    positions: np.ndarray  # positions in index order of the samples seen
    columns: dict[str, np.ndarray]
    how: str  # "logits", or the shape of one input


@dataclass
class _Open:
    """An epoch that is not finished."""

    epoch: int
    seen: np.ndarray  # bool [N], in index order
    columns: dict[str, np.ndarray] = field(default_factory=dict)
    how: str = ""


class Recorder:
    """A trace of your own training loop, one epoch at a time.

    Give it samples in any order and in as many calls as you like::

        recorder = curvlib.Recorder("runs/mine", labels=labels)
        for epoch in range(1, 31):
            train_one_epoch(model)
            recorder.record(epoch, model, batches)  # inputs, labels, index
        table = curvlib.scores.compute(recorder.trace)

    Inputs must be as the model sees them (normalised), but without augmentation, so
    that epochs can be compared. A single process writes an epoch as soon as it has seen
    all samples. With several processes (``torch.distributed``), each records a share
    and then calls ``finish(epoch)``; the first one writes.

    Attributes:
        folder: Folder of the trace.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        labels: Sequence[int] | np.ndarray | Tensor,
        index: Sequence[int] | np.ndarray | Tensor | None = None,
        original_labels: Sequence[int] | np.ndarray | Tensor | None = None,
        num_probes: int = 10,
        step: float = 1e-3,
        seed: int = 0,
        chunk: int = 128,
    ):
        """Declare the samples. Nothing is written before an epoch is complete.

        Args:
            folder: Folder of the trace. If it has a trace of the same samples and
                options, the recorder continues it.
            labels: The labels used in training, integers from 0, shape [N].
            index: A number for each sample, unique, shape [N]; by default 0 to N - 1.
            original_labels: The labels before noise, if you know them, shape [N].
            num_probes: Number of probes K; all samples of an epoch share them.
            step: h of the finite difference, in units of the input.
            seed: Seed of the probes, together with the epoch.
            chunk: Number of samples scored at once, whatever the size of your batches.

        Raises:
            ValueError: If the labels or the index are not such integers, or the folder
                has a trace of other samples or options.
        """
        labels = _integers("labels", labels)
        index = np.arange(len(labels)) if index is None else _integers("index", index)
        original = (
            labels
            if original_labels is None
            else _integers("original_labels", original_labels)
        )
        for name, values in (("index", index), ("original_labels", original)):
            if len(values) != len(labels):
                raise ValueError(
                    f"{name} needs one integer for each of the {len(labels)} labels, "
                    f"got {len(values)}"
                )
        if not len(labels):
            raise ValueError("no labels: the recorder needs one for each sample")
        if chunk < 1:
            raise ValueError(f"chunk must be at least 1, got {chunk}")
        order = np.argsort(index)
        self._order = order
        self._samples = _Samples(index[order], labels[order], original[order])
        repeated = index[order][1:][np.diff(index[order]) == 0]
        if len(repeated):
            raise ValueError(f"index must be unique, but {repeated[0]} occurs twice")
        self.folder = Path(folder)
        self._config = {
            "made_by": "curvlib.Recorder",
            "num_probes": num_probes,
            "step": step,
            "seed": seed,
        }
        self._chunk, self._device = chunk, "cpu"
        self._open: _Open | None = None
        self._finished: int | None = None  # the epoch that this process finished last
        if (self.folder / "run.json").exists():
            self._created()  # refuses a trace of other samples

    @property
    def trace(self) -> Trace:
        """The epochs recorded so far.

        Raises:
            FileNotFoundError: If no epoch is finished.
        """
        return Trace.open(self.folder)

    def record(
        self,
        epoch: int,
        model: nn.Module | Any,
        batches: Batches | None = None,
        *,
        logits: Tensor | None = None,
        labels: Tensor | None = None,
        forward: Forward | None = None,
    ) -> None:
        """Record samples of an epoch, in one call or in several.

        Two forms::

            recorder.record(epoch, model, batches)        # every column of a trace
            recorder.record(epoch, index, logits=logits)  # no curvature, no gradients

        In the second form the trace lacks the columns that need gradients.
        ``scores.compute`` then names the scores that it leaves out.

        Args:
            epoch: Number of the epoch, from 1.
            model: Any module, in any mode. It is scored in evaluation mode; its mode
                and gradients do not change. In the second form: the index of each
                sample, shape [B].
            batches: Yields inputs, float, shape [B, *input]; labels, shape [B]; and
                index, shape [B].
            logits: Outputs of the model, shape [B, C].
            labels: In the second form, labels to check, shape [B]; optional.
            forward: For models that take or return something else: a function of the
                model and the inputs that returns logits [B, C]. The default is
                ``model(inputs)``, or its ``.logits``.

        Raises:
            ValueError: If a sample is unknown, was already recorded in this epoch, or
                has another label; if an earlier epoch lacks samples; if the epoch is
                finished; or if the model or the inputs cannot be scored. Samples of
                earlier calls stay recorded.
        """
        self._begin(epoch)
        if logits is not None:
            if batches is not None or isinstance(model, nn.Module):
                raise ValueError(
                    "give either record(epoch, model, batches) or record(epoch, index, "
                    "logits=logits), not both"
                )
            self._from_logits(model, logits, labels)
        elif isinstance(model, nn.Module) and batches is not None:
            self._from_model(model, batches, forward)
        else:
            raise ValueError(
                "expected record(epoch, model, batches) or record(epoch, index, "
                f"logits=logits), got a {type(model).__name__} and no "
                f"{'batches' if isinstance(model, nn.Module) else 'logits'}"
            )
        if distributed.world() == 1 and self._open.seen.all():
            self.finish(epoch)

    def finish(self, epoch: int) -> None:
        """Write an epoch. Every process calls this after it has recorded its share.

        A single process need not call it: its epoch is written once it is complete.

        Args:
            epoch: Number of the epoch.

        Raises:
            ValueError: If samples are missing, or two processes recorded the same one.
            ElsewhereError: On the other processes, if the first could not write.
        """
        if self._finished == epoch and self._open is None:
            return
        now = self._open
        if now is None or now.epoch != epoch:
            now = _Open(epoch, np.zeros(len(self._samples), bool))
        seen = np.flatnonzero(now.seen)
        columns = {name: values[seen] for name, values in now.columns.items()}
        part = _Part(epoch, seen, columns, now.how)
        parts = distributed.gathered(lambda: part)
        columns = self._joined(parts)  # every process refuses for the same reason
        first = distributed.rank() == 0
        distributed.gathered(lambda: self._write(epoch, columns) if first else None)
        self._open, self._finished = None, epoch

    def forget_after(self, epoch: int) -> None:
        """Delete all epochs after a given one, and any unfinished epoch.

        Call it with the epoch of the checkpoint from which training continues, or with
        0 to start again. Every process calls it.

        Args:
            epoch: Number of the last epoch to keep.
        """
        self._open = self._finished = None

        def forget() -> None:
            if distributed.rank() == 0 and (self.folder / "run.json").exists():
                self._created().forget_after(epoch)

        distributed.gathered(forget)

    def resume(self, epoch: int) -> None:
        """Prepare to continue after an epoch, or to start with 0. Call it first.

        Args:
            epoch: Number of the last finished epoch of the checkpoint from which
                training continues. Later epochs of the trace are deleted. With 0, the
                recorder refuses a trace that has epochs, since nothing else may be left
                of an earlier run.

        Raises:
            ValueError: If the epoch is 0, but the trace has epochs.
        """

        def check() -> None:
            if distributed.rank() or epoch or not (self.folder / "run.json").exists():
                return
            if there := len(self.trace.epochs):
                raise ValueError(
                    f"{self.folder} has {there} epochs of an earlier run: choose "
                    "another folder, or call recorder.forget_after(0) to delete them"
                )

        distributed.gathered(check)
        self.forget_after(epoch)

    def batches(
        self, dataset: Any, *, batch_size: int = 128, collate: Callable | None = None
    ) -> Iterator[tuple[Any, Tensor, Tensor]]:
        """Yield this process's share of a data set in batches, for ``record``.

        Unlike ``DistributedSampler``, it does not repeat samples to make shares equal.

        Args:
            dataset: Item i is the input and the label of the recorder's sample i,
                without augmentation.
            batch_size: Number of samples in a batch.
            collate: Turns a list of items into (inputs, labels); by default torch's.

        Yields:
            Inputs, labels, index.

        Raises:
            ValueError: If the data set and the labels differ in size.
        """
        for items, index in self.items(dataset, batch_size=batch_size):
            inputs, labels = (collate or default_collate)(items)
            yield inputs, labels, index

    def items(
        self, dataset: Any, *, batch_size: int = 128
    ) -> Iterator[tuple[list, Tensor]]:
        """Like ``batches``, but yields lists of items that are not yet collated.

        Args:
            dataset: As for ``batches``, with items of any kind.
            batch_size: Number of samples in a batch.

        Yields:
            Items, index.

        Raises:
            ValueError: If the data set and the labels differ in size.
        """
        if len(dataset) != len(self._samples):
            raise ValueError(
                f"the data set has {len(dataset)} samples, the recorder "
                f"{len(self._samples)} labels"
            )
        index = np.empty(len(self._samples), np.int64)
        index[self._order] = self._samples.index  # in the order of the labels given
        mine = np.arange(distributed.rank(), len(dataset), distributed.world())
        for start in range(0, len(mine), batch_size):
            rows = mine[start : start + batch_size]
            items = [dataset[int(row)] for row in rows]
            yield items, torch.from_numpy(index[rows])

    # ------------------------------------------------------------------- one epoch

    def _begin(self, epoch: int) -> None:
        if isinstance(epoch, bool) or not isinstance(epoch, int | np.integer):
            raise ValueError(f"epoch must be an integer from 1, got {epoch!r}")
        if epoch < 1:
            raise ValueError(f"epochs count from 1, got {epoch}")
        now = self._open
        if now is not None and now.epoch != epoch:
            if distributed.world() > 1:
                raise ValueError(
                    f"epoch {now.epoch} is not finished: every process must call "
                    f"finish({now.epoch}) before epoch {epoch}"
                )
            raise ValueError(self._lacking(now.epoch, now.seen))
        if now is not None:
            return
        written = self.folder / "train" / f"epoch_{epoch:04d}.parquet"
        if self._finished == epoch or written.exists():
            raise ValueError(
                f"{self.folder} has epoch {epoch} already: record another one, or "
                f"call recorder.forget_after({epoch - 1}) to delete it and later ones"
            )
        self._open = _Open(int(epoch), np.zeros(len(self._samples), bool))

    def _lacking(self, epoch: int, seen: np.ndarray) -> str:
        missing = self._samples.index[~seen]
        return (
            f"epoch {epoch} lacks {len(missing)} of {len(seen)} samples, the first of "
            f"index {missing[0]}: record them, or call recorder.forget_after"
            f"({epoch - 1}) to begin the epoch again"
        )

    def _positions(self, index: Any, labels: Any) -> np.ndarray:
        """Positions, in index order, of the samples of a batch, after checking them."""
        now, samples = self._open, self._samples
        index = _integers("index", index)
        if not len(index):
            return index
        at = np.searchsorted(samples.index, index).clip(max=len(samples) - 1)
        unknown = samples.index[at] != index
        if unknown.any():
            raise ValueError(
                f"epoch {now.epoch}: index {index[unknown.argmax()]} is not among the "
                f"{len(samples)} samples that the recorder was given"
            )
        values, counts = np.unique(index, return_counts=True)
        again = now.seen[at]
        if (counts > 1).any() or again.any():
            one = values[counts > 1][0] if (counts > 1).any() else index[again][0]
            raise ValueError(
                f"epoch {now.epoch}: sample {one} came twice; record each once (a "
                "DistributedSampler repeats some: use recorder.batches), or call "
                f"recorder.forget_after({now.epoch - 1}) to begin the epoch again"
            )
        if labels is not None:
            labels = _integers("labels", labels)
            if labels.shape != index.shape:
                raise ValueError(
                    f"epoch {now.epoch}: {len(index)} samples came with "
                    f"{len(labels)} labels"
                )
            other = labels != samples.labels[at]
            if other.any():
                i = int(other.argmax())
                raise ValueError(
                    f"epoch {now.epoch}: sample {index[i]} came with label "
                    f"{labels[i]}, but the recorder was given {samples.labels[at[i]]}"
                )
        return at

    def _store(self, at: np.ndarray, columns: dict[str, Tensor], how: str) -> None:
        now = self._open
        columns = {name: c.detach().cpu().numpy() for name, c in columns.items()}
        if now.how and (how != now.how or columns.keys() != now.columns.keys()):
            raise ValueError(_differ(now.epoch, now.how, how))
        if not now.how:
            now.how = how
            now.columns = {
                name: np.empty(len(now.seen), values.dtype)
                for name, values in columns.items()
            }
        for name, values in columns.items():
            now.columns[name][at] = values
        now.seen[at] = True

    def _from_logits(self, index: Any, logits: Tensor, labels: Any) -> None:
        at = self._positions(index, labels)
        logits = torch.as_tensor(logits).detach()
        if logits.dtype != torch.float64:
            logits = logits.float()
        if logits.ndim != 2 or len(logits) != len(at):
            raise ValueError(
                f"logits must have shape [{len(at)}, C], a row for each index, got "
                f"{list(logits.shape)}"
            )
        if not len(at):
            return
        y = torch.from_numpy(self._samples.labels[at]).to(logits.device)
        self._check_classes(logits)
        self._check_finite(logits, at)
        columns = {"loss": F.cross_entropy(logits, y, reduction="none")}
        self._store(at, columns | _of_logits(logits, y), "logits")

    def _check_model(self, model: nn.Module, x: Tensor) -> None:
        with torch.no_grad():
            output = model(x[:1])
        if not isinstance(output, Tensor) or output.ndim != 2 or len(output) != 1:
            kind = type(output).__name__
            kind += f" of {list(output.shape)}" if isinstance(output, Tensor) else ""
            raise ValueError(
                f"the model must return logits of shape [B, C], got {kind} for one "
                "sample; pass forward=, which calls the model and returns them"
            )
        self._check_classes(output)

    def _check_classes(self, logits: Tensor) -> None:
        largest = int(self._samples.labels.max())
        if largest >= logits.shape[1]:
            raise ValueError(
                f"there is a label {largest}, but the model gives {logits.shape[1]} "
                f"logits, for labels 0 to {logits.shape[1] - 1}"
            )

    def _check_finite(self, logits: Tensor, at: np.ndarray) -> None:
        bad = ~logits.isfinite().all(1)
        if bad.any():
            sample = self._samples.index[at[int(bad.nonzero()[0, 0])]]
            raise ValueError(
                f"epoch {self._open.epoch}: the logits of {int(bad.sum())} samples are "
                f"not finite, first of sample {sample}; the training has diverged"
            )

    def _from_model(
        self, model: nn.Module, batches: Batches, forward: Forward | None
    ) -> None:
        plain = _Logits(_unwrapped(model), forward)
        weight = next(plain.parameters(), torch.empty(0))
        scored = None
        for batch in batches:
            if not isinstance(batch, tuple | list) or len(batch) != 3:
                raise ValueError(
                    "batches must yield (inputs, labels, index), got "
                    f"{type(batch).__name__}"
                    + (f" of {len(batch)}" if hasattr(batch, "__len__") else "")
                )
            x, y, index = batch
            at = self._positions(index, y)
            if not isinstance(x, Tensor) or not x.is_floating_point():
                kind = x.dtype if isinstance(x, Tensor) else type(x).__name__
                raise ValueError(
                    f"inputs must be a tensor of floats, got {kind}: curvature needs "
                    "gradients by the input; of token ids record their embeddings"
                )
            if len(x) != len(at):
                raise ValueError(f"{len(x)} inputs came with {len(at)} indices")
            if not len(at):
                continue
            how = f"inputs of shape {list(x.shape[1:])}"
            if self._open.how not in ("", how):
                raise ValueError(_differ(self._open.epoch, self._open.how, how))
            with torch.inference_mode(False):
                x = x.detach().to(weight.device)
                x = x if x.dtype == torch.float64 else x.float()
                if scored is None:
                    scored = networks.fold_batch_norm(plain)  # a copy, evaluating
                    self._device = weight.device.type
                    self._check_model(scored, x)
                y = torch.from_numpy(self._samples.labels[at]).to(weight.device)
                pieces = [
                    self._measured(scored, x[rows], y[rows])
                    for rows in _slices(len(x), self._chunk)
                ]
            columns = {n: torch.cat([p[n] for p in pieces]) for n in pieces[0]}
            self._store(at, columns, how)

    def _measured(self, model: nn.Module, x: Tensor, y: Tensor) -> dict[str, Tensor]:
        """Measure the columns of some samples, as ``curvlib.fit`` does."""
        if x.ndim == 4:
            x = x.contiguous(memory_format=torch.channels_last)
        epoch = self._open.epoch
        with _LastLayer(model, x) as last:
            estimate = input_curvature(
                model,
                x,
                y,
                num_probes=self._config["num_probes"],
                step=self._config["step"],
                # The same state for every piece, so all samples get the same probes.
                generator=stream(self._config["seed"], epoch, "probes"),
            )
        columns = {"loss": estimate.loss} | _of_logits(estimate.logits, y)
        if last.length is not None:
            # The gradient is (p - onehot) times the features and, for the bias, 1.
            columns["last_layer_gradient"] = columns["el2n"] * last.length
        names = ("gradient_norm", "mean_hvp_norm", "squared_frobenius_norm")
        names += ("standard_error",)
        return columns | {name: getattr(estimate, name) for name in names}

    # ---------------------------------------------------------------- several processes

    def _joined(self, parts: list[_Part]) -> dict[str, np.ndarray]:
        """Join the shares of all processes: the columns of an epoch, in index order."""
        epoch = parts[0].epoch
        if len({part.epoch for part in parts}) > 1:
            raise ValueError(
                "the processes finish different epochs: "
                f"{', '.join(str(part.epoch) for part in parts)}"
            )
        count = np.zeros(len(self._samples), np.int64)
        for part in parts:
            count[part.positions] += 1
        if (count > 1).any():
            raise ValueError(
                f"epoch {epoch}: {int((count > 1).sum())} samples were recorded by "
                f"several processes, first {self._samples.index[count.argmax()]}; give "
                "each sample to one process, as recorder.batches does (a "
                "DistributedSampler repeats some)"
            )
        if not count.all():
            raise ValueError(self._lacking(epoch, count > 0))
        filled = [part for part in parts if len(part.positions)]
        for part in filled:
            first = filled[0]
            if part.how != first.how or part.columns.keys() != first.columns.keys():
                raise ValueError(_differ(epoch, first.how, part.how))
        order = np.argsort(np.concatenate([part.positions for part in filled]))
        return {
            name: np.concatenate([part.columns[name] for part in filled])[order]
            for name in filled[0].columns
        }

    def _write(self, epoch: int, columns: dict[str, np.ndarray]) -> None:
        trace = self._created()
        trace.write(
            epoch,
            self._samples,
            columns,
            split="train",
            names=tuple(columns.keys() | set(FROM_LOGITS)),
        )

    def _created(self) -> Trace:
        return Trace.create(
            self.folder,
            config=self._config,
            info={
                "recipes": provenance.recipes(PARTS),
                "versions": versions(),
                "hardware": hardware(self._device),
                "processes": distributed.world(),
            },
            splits={"train": self._samples},
        )


class _Logits(nn.Module):
    """A model as a function of one tensor that returns logits."""

    def __init__(self, model: nn.Module, forward: Forward | None):
        super().__init__()
        self.model = model
        self._call = forward

    def forward(self, x: Tensor) -> Tensor:
        if self._call is not None:
            return self._call(self.model, x)
        output = self.model(x)
        # While batch norm is folded, a proxy stands for a tensor.
        return output if isinstance(output, Tensor | fx.Proxy) else output.logits


class _LastLayer:
    """Watches for the linear layer whose output is the logits.

    ``length`` [B] is the Euclidean length of the layer's input, with a 1 appended for
    the bias. It is None if the logits do not come from a linear layer.
    """

    def __init__(self, model: nn.Module, x: Tensor):
        self.length: Tensor | None = None
        self._model, self._x = model, x
        self._calls: list[tuple[nn.Linear, Tensor, Any]] = []
        self._handles: list = []

    def __enter__(self) -> "_LastLayer":
        def linear(module, given, output):
            if self.length is None and given:
                self._calls.append((module, given[0].detach(), output))

        def whole(_, given, output):
            if self.length is None and torch.equal(given[0], self._x):
                for module, features, found in self._calls:
                    if found is output and features.ndim == 2:
                        ones = features.new_ones(len(features), 1)
                        ones = ones if module.bias is not None else ones[:, :0]
                        self.length = torch.cat([features, ones], 1).norm(dim=1)
            self._calls.clear()

        for module in self._model.modules():
            if isinstance(module, nn.Linear):
                self._handles.append(module.register_forward_hook(linear))
        self._handles.append(self._model.register_forward_hook(whole))
        return self

    def __exit__(self, *_) -> None:
        for handle in self._handles:
            handle.remove()


def _unwrapped(model: nn.Module) -> nn.Module:
    """The network inside wrappers: scoring must not wait for other processes."""
    parallel = (nn.DataParallel, DistributedDataParallel)
    while isinstance(model, parallel) or hasattr(model, "_orig_mod"):
        model = model.module if isinstance(model, parallel) else model._orig_mod
    return model


def _slices(count: int, size: int) -> list[slice]:
    return [slice(start, start + size) for start in range(0, count, size)]


def _differ(epoch: int, first: str, then: str) -> str:
    if "logits" in (first, then) or first == then:
        return (
            f"epoch {epoch} was recorded in two ways, from {first} and from {then}; "
            "record all of an epoch with one model, or all of it from logits"
        )
    return (
        f"epoch {epoch} has {first} and {then}: all samples of an epoch share probes, "
        "so all need one shape; pad or crop them"
    )


def _integers(name: str, values: Any) -> np.ndarray:
    """Convert to int64 [N], after checking that no value is negative."""
    if isinstance(values, Tensor):
        values = values.detach().cpu().numpy()
    values = np.asarray(values)
    if values.ndim != 1 or (values.size and values.dtype.kind not in "iu"):
        raise ValueError(
            f"{name} must be integers of shape [N], got {values.dtype} of shape "
            f"{list(values.shape)}"
        )
    values = values.astype(np.int64)
    if values.size and values.min() < 0:
        raise ValueError(f"{name} must not be negative, got {values.min()}")
    return values
