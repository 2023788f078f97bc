"""The trace of a run: a few numbers for every sample at every scored epoch.

A run is a folder::

    config.json                 the settings
    run.json                    data, versions and machine
    log.csv                     one row for each epoch: losses and seconds
    samples_train.parquet       index, label, original_label, source of each sample
    train/epoch_0001.parquet    one row for each sample, in index order
    heldout/epoch_0001.parquet  the same for held-out samples
    original_labels/...         the same for training samples with their original label
    checkpoint.pt               the state after the last finished epoch

The Parquet files are the trace. They hold nothing that differs between two runs with
the same settings on the same machine: an uninterrupted run and a resumed one end with
the same bytes.
"""

import io
import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Protocol

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from curvlib.files import write_atomically

SPLITS = ("train", "heldout", "original_labels")
COLUMNS = {
    "loss": np.float32,  # cross-entropy with the given label, nats
    "margin": np.float32,  # logit of the given label minus the largest other one
    "probability": np.float32,  # of the given label
    "max_probability": np.float32,
    "softmax_margin": np.float32,  # probability minus the largest other one
    "entropy": np.float32,  # of the predicted distribution, nats
    "correct": np.bool_,  # whether the given label is predicted
    "predicted": np.int32,  # the class of the largest logit
    "el2n": np.float32,  # ‖p − onehot(label)‖₂
    "last_layer_gradient": np.float32,  # ‖∇L‖, for weights and bias of the last layer
    "gradient_norm": np.float32,  # ‖∇ₓL‖
    "mean_hvp_norm": np.float32,
    "squared_frobenius_norm": np.float32,
    "standard_error": np.float32,  # of squared_frobenius_norm over probes
}
FROM_LOGITS = tuple(COLUMNS)[:9]  # loss to el2n: computed from logits and label


class NotRecordedError(ValueError):
    """An epoch lacks a column of ``COLUMNS``: it was not measured."""


class Samples(Protocol):
    """What a trace needs from labelled samples; ``curvlib.Images`` provides it."""

    index: np.ndarray  # int64 [N], unique
    labels: np.ndarray  # int64 [N], as given
    original_labels: np.ndarray  # int64 [N], before any noise
    source: np.ndarray  # int64 [N], index of the original of a planted copy
    checksum: str  # changes with any input, label or index

    def __len__(self) -> int:
        """Number of samples N."""


class Trace:
    """The trace of one run: writes an epoch, reads it back, knows where it stopped.

    Attributes:
        folder: Folder of the run.
        config: The settings, by name.
        info: The content of ``run.json``: data, versions, machine.
    """

    def __init__(self, folder: Path, config: dict, info: dict):
        self.folder = folder
        self.config = config
        self.info = info

    @classmethod
    def open(cls, folder: str | Path) -> "Trace":
        """Open an existing run, finished or not.

        Args:
            folder: Folder of the run.

        Returns:
            Its trace.

        Raises:
            FileNotFoundError: If the folder holds no run.
            ValueError: If its description is damaged.
        """
        folder = Path(folder)
        described = []
        for name in ("config.json", "run.json"):
            path = folder / name
            if not path.exists():
                raise FileNotFoundError(
                    f"{folder} holds no run: {name} is missing; curvlib.fit(config) "
                    "makes one"
                )
            try:
                described.append(json.loads(path.read_text(encoding="utf-8")))
            except ValueError as error:
                raise ValueError(
                    f"{path} is damaged ({error}); delete {folder} and train again"
                ) from error
        return cls(folder, *described)

    @classmethod
    def create(
        cls,
        folder: str | Path,
        *,
        config: dict,
        info: dict,
        splits: Mapping[str, Samples],
    ) -> "Trace":
        """Start a run, or open an existing run of the same settings and data.

        Args:
            folder: Folder of the run.
            config: The settings; must survive JSON.
            info: Anything else to keep in ``run.json``.
            splits: Samples to be scored, by split, ``"train"`` among them; their
                checksums are kept.

        Returns:
            Its trace, with the epochs scored so far.

        Raises:
            ValueError: If the folder holds a run with other settings or data.
        """
        folder = Path(folder)
        config = json.loads(json.dumps(config))
        checksums = {split: samples.checksum for split, samples in splits.items()}
        if not (folder / "run.json").exists():
            for split, samples in splits.items():
                table = {
                    "index": samples.index,
                    "label": samples.labels,
                    "original_label": samples.original_labels,
                    "source": samples.source,
                }
                order = np.argsort(samples.index)
                table = pa.table({name: v[order] for name, v in table.items()})
                write_atomically(folder / f"samples_{split}.parquet", _parquet(table))
            info = info | {"checksums": checksums}
            for name, content in (("config.json", config), ("run.json", info)):
                text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
                write_atomically(folder / name, text.encode())
            return cls(folder, config, json.loads(json.dumps(info)))
        trace = cls.open(folder)
        if trace.config != config:
            keys = sorted(config.keys() | trace.config.keys())
            lines = [
                f"{key}: {trace.config.get(key)!r} there, {config.get(key)!r} requested"
                for key in keys
                if trace.config.get(key) != config.get(key)
            ]
            raise ValueError(
                f"{folder} holds a run with other settings ({'; '.join(lines)}); "
                "choose another folder, or delete it"
            )
        if trace.info["checksums"] != checksums:
            raise ValueError(
                f"{folder} holds a run on other images or labels (checksums "
                f"{trace.info['checksums']} there, {checksums} given); choose another "
                "folder for runs, or delete it"
            )
        return trace

    def _path(self, split: str, epoch: int) -> Path:
        return self.folder / split / f"epoch_{epoch:04d}.parquet"

    def write(
        self,
        epoch: int,
        images: Samples,
        columns: dict[str, np.ndarray],
        *,
        split: str,
        names: Collection[str] = tuple(COLUMNS),
    ) -> None:
        """Write one epoch of one split, completely or not at all.

        Args:
            epoch: Number of the epoch just trained, from 1.
            images: The samples that were scored.
            columns: An array of shape [N] for each name, in the order of the images.
            split: One of ``SPLITS``.
            names: Columns of this epoch, by default all of ``COLUMNS``. Those missing
                from the file were not measured.

        Raises:
            ValueError: If a column is missing, unknown, or of another length.
        """
        expected = {name: dtype for name, dtype in COLUMNS.items() if name in names}
        if columns.keys() != expected.keys():
            raise ValueError(
                f"this epoch has the columns {', '.join(expected)}; missing: "
                f"{sorted(expected.keys() - columns.keys())}, unknown: "
                f"{sorted(columns.keys() - expected.keys())}"
            )
        order = np.argsort(images.index)
        table = {"index": images.index[order], "label": images.labels[order]}
        for name, dtype in expected.items():
            if len(columns[name]) != len(images):
                raise ValueError(
                    f"column {name} has {len(columns[name])} values for {len(images)} "
                    "samples"
                )
            table[name] = np.asarray(columns[name], dtype=dtype)[order]
        write_atomically(self._path(split, epoch), _parquet(pa.table(table)))

    def copy(self, epoch: int, other: "Trace", *, split: str) -> None:
        """Copy an epoch from another trace of the same samples, byte by byte.

        Args:
            epoch: Number of the epoch.
            other: The trace to copy from.
            split: One of ``SPLITS``.

        Raises:
            ValueError: If the other's file is damaged or missing.
        """
        other._table(split, epoch, ["index", "label", *COLUMNS])
        write_atomically(
            self._path(split, epoch), other._path(split, epoch).read_bytes()
        )

    def forget_after(self, epoch: int) -> None:
        """Delete all later epochs, which an interrupted run may have left incomplete.

        Args:
            epoch: Number of the last epoch to keep.
        """
        for path in self.folder.rglob("*.partial-*"):
            path.unlink()
        for split in SPLITS:
            for path in (self.folder / split).glob("epoch_*.parquet"):
                if int(path.stem[6:]) > epoch:
                    path.unlink()

    @property
    def epochs(self) -> np.ndarray:
        """Numbers of the scored epochs, int [E], from 1."""
        paths = (self.folder / "train").glob("epoch_*.parquet")
        return np.array(sorted(int(path.stem[6:]) for path in paths), dtype=np.int64)

    @property
    def index(self) -> np.ndarray:
        """Index of each training sample, int64 [N], ascending."""
        return self.samples()["index"].to_numpy()

    @property
    def labels(self) -> np.ndarray:
        """Label given to each training sample, int64 [N], in index order."""
        return self.samples()["label"].to_numpy()

    def samples(self, split: str = "train") -> pd.DataFrame:
        """Index and labels of each sample of a split, in index order, N rows.

        Args:
            split: One of ``SPLITS``.

        Returns:
            Columns index, label (the given one), original_label, and source: for a
            planted copy the index of its original, otherwise the sample's own index.

        Raises:
            FileNotFoundError: If the run has no such split.
            ValueError: If the file is damaged or missing.
        """
        self._check_split(split)
        return self._file(self.folder / f"samples_{split}.parquet").to_pandas()

    def read(self, column: str, split: str = "train") -> np.ndarray:
        """One column over all scored epochs, in index order.

        Args:
            column: One of ``COLUMNS``, which gives its unit.
            split: One of ``SPLITS``.

        Returns:
            Values, shape [E, N].

        Raises:
            NotRecordedError: If a scored epoch lacks the column.
            ValueError: If the column or split is unknown, a file is damaged, or the
                epochs have different samples.
            FileNotFoundError: If no epoch was scored.
        """
        if column not in COLUMNS:
            raise ValueError(
                f"unknown column {column!r}: expected one of {', '.join(COLUMNS)}"
            )
        rows, first = [], None
        for epoch in self._epochs_of(split):
            table = self._table(split, epoch, ["index", "label", column])
            samples = table.select(["index", "label"])
            first = samples if first is None else first
            if not samples.equals(first):
                raise ValueError(
                    f"{self._path(split, epoch)} is about other samples or labels than "
                    "the first epoch: files of two runs were mixed; delete the folder "
                    "and train again"
                )
            rows.append(table[column].to_numpy())
        return np.stack(rows)

    def log(self) -> pd.DataFrame:
        """The training log.

        Returns:
            One row for each epoch: epoch, lr, train_loss, train_accuracy, seconds.

        Raises:
            FileNotFoundError: If no epoch is finished.
        """
        path = self.folder / "log.csv"
        if not path.exists():
            raise FileNotFoundError(f"{self.folder} has no finished epoch yet")
        return pd.read_csv(path)

    def _check_split(self, split: str) -> None:
        if split not in SPLITS:
            raise ValueError(f"split must be one of {SPLITS}, got {split!r}")
        if split not in self.info["checksums"]:
            setting = {"heldout": "num_heldout"}.get(split, "score_original_labels")
            raise FileNotFoundError(
                f"{self.folder} scored no split {split!r}; set {setting}"
            )

    def _epochs_of(self, split: str) -> np.ndarray:
        self._check_split(split)
        epochs = self.epochs
        if not len(epochs):
            raise FileNotFoundError(f"{self.folder} has no scored epoch yet")
        if missing := sorted(self._expected(epochs[-1]) - set(epochs.tolist())):
            raise ValueError(
                f"{self._path('train', missing[0])} is missing, so that means over "
                f"epochs would be wrong; put it back, or delete {self.folder} and "
                "train again"
            )
        return epochs

    def _expected(self, last: int) -> set[int]:
        """Numbers of the epochs that must exist, up to the last known one."""
        if not {"score_every", "epochs"} <= self.config.keys():
            return set()  # not a run of curvlib.runs.training: any epochs may be scored
        every, end = self.config["score_every"], self.config["epochs"]
        if (self.folder / "log.csv").exists():
            last = max(last, int(self.log()["epoch"].max()))
        return {e for e in range(1, last + 1) if e % every == 0 or e == end}

    def _table(self, split: str, epoch: int, columns: list[str]) -> pa.Table:
        return self._file(self._path(split, epoch), columns)

    def _file(self, path: Path, columns: list[str] | None = None) -> pa.Table:
        try:
            return pq.read_table(path, columns=columns, page_checksum_verification=True)
        except (OSError, pa.ArrowException) as error:
            if lacking := _not_recorded(path, columns or []):
                raise NotRecordedError(
                    f"{path} has no column {lacking[0]!r}: it was not measured; "
                    "curvlib.Recorder measures it with record(epoch, model, batches)"
                ) from error
            raise ValueError(
                f"{path} is damaged or missing ({str(error).splitlines()[0]}); "
                "curvlib.fit with the run's config finishes a run that was stopped; "
                f"else delete {self.folder} and train again"
            ) from error


def _not_recorded(path: Path, columns: list[str]) -> list[str]:
    """Columns that an intact file of an epoch lacks; none if the file is damaged."""
    try:
        there = set(pq.read_schema(path).names)
    except (OSError, ValueError, pa.ArrowException):
        return []
    whole = {"index", "label", *COLUMNS}
    sound = {"index", "label", *FROM_LOGITS} <= there <= whole
    return [column for column in columns if sound and column not in there]


def _parquet(table: pa.Table) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd", write_page_checksum=True)
    return buffer.getvalue()
