"""Labelled images, in memory or in files, and readers for batches of them.

A *sample* has an *index*: its position in the original data set. Every score keeps the
index, so you can always find the image that a number belongs to.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from curvlib.data import folders
from curvlib.data.folders import Photographs

PADDING = 4  # pixels around an image before a random crop, as is usual for CIFAR
MOST_MEASURED = 2000  # photographs used for mean and standard deviation


@dataclass(frozen=True, kw_only=True, eq=False)
class Images:
    """Labelled images, checked when created.

    Attributes:
        images: uint8, shape [N, H, W, C] with C = 1 (grey) or 3 (RGB): an array, or
            ``curvlib.data.folders.Photographs``, which stay in their files.
        labels: int64, shape [N], in [0, len(classes)): the given labels, used in
            training.
        index: int64, shape [N], unique: the position in the original data set.
        classes: Names of the classes. A class may have no samples.
        original_labels: int64, shape [N]: the labels before any noise. By default the
            given labels.
        source: int64, shape [N]: for a planted copy, the index of its original; for
            other samples, and by default, their own index.
        name: Name of the data set.

    Raises:
        ValueError: If there is no image, or an array has the wrong type, shape or
            range. ``curvlib.load`` accepts more forms.
    """

    images: np.ndarray | Photographs
    labels: np.ndarray
    index: np.ndarray
    classes: tuple[str, ...]
    original_labels: np.ndarray | None = None
    source: np.ndarray | None = None
    name: str = "images"

    def __post_init__(self):
        images = self.images
        if not isinstance(images, Photographs):
            images = np.ascontiguousarray(images)
        if (
            images.dtype != np.uint8
            or images.ndim != 4
            or images.shape[3] not in (1, 3)
        ):
            raise ValueError(
                f"{self.name}: images must be uint8 of shape [N, H, W, C] with C = 1 "
                f"or 3, got {images.dtype} of shape {list(images.shape)}"
            )
        if not len(images):
            raise ValueError(f"{self.name}: no images; at least one is needed")
        set_field = object.__setattr__
        set_field(self, "images", images)
        set_field(self, "classes", tuple(str(c) for c in self.classes))
        set_field(self, "index", self._integers("index", self.index))
        if len(np.unique(self.index)) < len(self.index):
            values, counts = np.unique(self.index, return_counts=True)
            raise ValueError(
                f"{self.name}: every index must occur once, but "
                f"{values[counts > 1][0]} occurs {counts.max()} times"
            )
        for field, default in (
            ("labels", None),
            ("original_labels", self.labels),
            ("source", self.index),
        ):
            value = getattr(self, field)
            value = self._integers(field, default if value is None else value)
            set_field(self, field, value)
            wrong = (value < 0) | (value >= len(self.classes))
            if field != "source" and wrong.any():
                i = int(wrong.argmax())
                raise ValueError(
                    f"{self.name}: {field} must lie in [0, {len(self.classes)}), one "
                    f"for each class, but sample {self.index[i]} has {value[i]}"
                )

    def _integers(self, field: str, value: np.ndarray) -> np.ndarray:
        value = np.asarray(value)
        if value.shape != (len(self.images),) or value.dtype.kind not in "iu":
            advice = ""
            if value.ndim > 1 and value.size == len(self):
                advice = "; flatten them with .ravel()"
            elif value.ndim == 2 and len(value) == len(self):
                advice = "; of one-hot rows take .argmax(1)"
            raise ValueError(
                f"{self.name}: {field} must hold one integer for each of the "
                f"{len(self.images)} images, got {value.dtype} of shape "
                f"{list(value.shape)}{advice}"
            )
        if value.size and value.max() > np.iinfo(np.int64).max:
            raise ValueError(
                f"{self.name}: {field} must fit into int64, but the largest is "
                f"{value.max()}"
            )
        return value.astype(np.int64)

    def __len__(self) -> int:
        """Number of samples N."""
        return len(self.images)

    @property
    def mislabelled(self) -> np.ndarray:
        """Bool [N]: whether the given label differs from the original one."""
        return self.labels != self.original_labels

    @cached_property
    def checksum(self) -> str:
        """Sixteen digits that change with any image, label or index."""
        digest = hashlib.sha256(repr((self.images.shape, self.classes)).encode())
        for array in (self.index, self.labels):
            digest.update(array.tobytes())
        in_files = isinstance(self.images, Photographs)
        digest.update(self.images.checksum if in_files else self.images.tobytes())
        return digest.hexdigest()[:16]

    def select(self, chosen: np.ndarray) -> "Images":
        """Select samples by position or by mask.

        Args:
            chosen: Positions, integers of any length, or bool of shape [N].

        Returns:
            Those samples, with their labels and indices; photographs stay in files.

        Raises:
            ValueError: If nothing is chosen, or a position occurs twice.
            IndexError: If there is no such position.
        """
        fields = ("labels", "index", "original_labels", "source")
        return replace(
            self,
            images=rows_of(self.images, chosen),
            **{f: getattr(self, f)[chosen] for f in fields},
        )

    def tensor(self) -> Tensor:
        """All images as one uint8 tensor of shape [N, C, H, W].

        Photographs are read from their files and kept in memory.
        """
        return torch.from_numpy(self.images[:]).permute(0, 3, 1, 2).contiguous()

    def reader(
        self, device: torch.device | str, *, padding: int = PADDING
    ) -> "folders.Reader | _InMemory":
        """Return a reader that loads batches of these images onto a device.

        Called with a list of batches, each the positions of its samples, it yields
        uint8 tensors of shape [B, C, H, W]; see ``curvlib.data.folders.Reader``.

        Args:
            device: Device for the batches.
            padding: As for ``augment``. Ignored for photographs in files, whose crops
                have random sizes.

        Returns:
            The reader.
        """
        device = torch.device(device)
        if isinstance(self.images, Photographs):
            return self.images.reader(device)
        return _InMemory(self.tensor().to(device), padding)

    def statistics(self) -> tuple[list[float], list[float]]:
        """Mean and standard deviation of each channel, of pixels in [0, 1].

        For photographs in files, it uses ``MOST_MEASURED`` evenly spaced ones.

        Returns:
            Two lists of C values: means and standard deviations.

        Raises:
            ValueError: If a channel has the same value in every pixel.
        """
        rows, part = np.arange(len(self)), len(self)
        if isinstance(self.images, Photographs):
            count = min(len(self), MOST_MEASURED)
            rows, part = np.linspace(0, len(self) - 1, count).astype(int), 100
        counts = np.zeros((self.images.shape[3], 256), np.int64)
        for start in range(0, len(rows), part):
            some = self.images[rows[start : start + part]]
            counts += [
                np.bincount(c, minlength=256) for c in some.reshape(-1, len(counts)).T
            ]
        values, total = np.arange(256) / 255, counts[0].sum()
        mean = counts @ values / total
        std = np.sqrt(counts @ values**2 / total - mean**2)
        if not (std > 1e-6).all():
            raise ValueError(
                f"{self.name}: channel {int(std.argmin())} has the same value in every "
                "pixel, so it cannot be normalised; are these the right images?"
            )
        return mean.tolist(), std.tolist()


def rows_of(
    pixels: np.ndarray | Photographs, rows: np.ndarray
) -> np.ndarray | Photographs:
    """Select images by position or mask; photographs stay in their files."""
    return pixels.select(rows) if isinstance(pixels, Photographs) else pixels[rows]


class _InMemory:
    """Reader for images in one tensor on the device."""

    def __init__(self, pixels: Tensor, padding: int):
        self._pixels = pixels
        self._augment = partial(augment, padding=padding)

    def __call__(
        self,
        batches: Sequence[Tensor],
        *,
        generator: torch.Generator | None = None,
        share: slice = folders.WHOLE,
    ) -> Iterator[Tensor]:
        for batch in batches:
            if generator is None:
                yield self._pixels[batch[share].to(self._pixels.device)]
            else:  # all of it, so that every process draws the same crops
                x = self._pixels[batch.to(self._pixels.device)]
                yield self._augment(x, generator=generator)[share]


def augment(
    batch: Tensor, *, generator: torch.Generator, padding: int = PADDING
) -> Tensor:
    """Random crops after padding with black, and random flips left to right.

    Args:
        batch: uint8 images, shape [B, C, H, W].
        generator: A generator on the CPU; each sample takes three draws.
        padding: Pixels added on each side.

    Returns:
        Images of the same type and shape.
    """
    size, _, height, width = batch.shape
    padded = F.pad(batch, [padding] * 4)
    spread = 2 * padding + 1
    top = torch.randint(spread, (size, 1), generator=generator)
    left = torch.randint(spread, (size, 1), generator=generator)
    flip = torch.randint(2, (size, 1), generator=generator).bool()
    rows = (top + torch.arange(height)).to(batch.device)
    columns = torch.arange(width).expand(size, -1)
    columns = (left + torch.where(flip, columns.flip(1), columns)).to(batch.device)
    sample = torch.arange(size, device=batch.device)[:, None, None]
    # Indices on both sides of a slice put the sliced axis last: [B, H, W, C].
    cropped = padded[sample, :, rows[:, :, None], columns[:, None, :]]
    return cropped.permute(0, 3, 1, 2).contiguous()


def normalise(batch: Tensor, mean: list[float], std: list[float]) -> Tensor:
    """Turn pixels in [0, 255] into floats with mean 0 and standard deviation 1.

    Mean and deviation are those of each channel over the training set. The step h of
    the curvature is in units of this output, as in the paper.

    Args:
        batch: uint8 images, shape [B, C, H, W].
        mean: Mean of each channel, for pixels in [0, 1], from ``Images.statistics``.
        std: Standard deviation of each channel, likewise.

    Returns:
        float32, shape [B, C, H, W].
    """
    scale = torch.tensor([1 / (255 * s) for s in std], device=batch.device)
    shift = torch.tensor(
        [-m / s for m, s in zip(mean, std, strict=True)], device=batch.device
    )
    return batch * scale[:, None, None] + shift[:, None, None]
