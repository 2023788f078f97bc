"""Labelled images, in memory or in files, and the ways in which labels can be wrong.

A *sample* has an *index*: its place in the original data set. It is carried along with
every score, so that a number can always be traced to an image.
"""

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from curvlib import folders
from curvlib.folders import Photographs, default_root

NAMES = ("digits", "mnist", "fashion_mnist", "cifar10", "cifar100")
IMAGE_SIZE = 224  # pixels on a side that photographs in folders are cut to
MOST_MEASURED = 2000  # photographs that mean and deviation are taken from


@dataclass(frozen=True, kw_only=True, eq=False)
class Images:
    """Labelled images, checked once, here.

    Attributes:
        images: uint8, shape [N, H, W, C] with C = 1 (grey) or 3 (RGB): an array, or
            ``curvlib.folders.Photographs``, which stay in their files.
        labels: int64, shape [N], in [0, len(classes)): the labels given, those that
            a network is trained on.
        index: int64, shape [N], unique: the place in the original data set.
        classes: Names of the classes.
        original_labels: int64, shape [N]: the labels before any noise; the labels
            given, if left out.
        source: int64, shape [N]: for a planted copy the index of its original, else
            the sample's own index, which is also the value if left out.
        name: What the data set is called.

    Raises:
        ValueError: If an array has another type, shape or range.
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
            raise ValueError(
                f"{self.name}: {field} must hold one integer for each of the "
                f"{len(self.images)} images, got {value.dtype} of shape "
                f"{list(value.shape)}"
            )
        return value.astype(np.int64)

    def __len__(self) -> int:
        return len(self.images)

    @property
    def mislabelled(self) -> np.ndarray:
        """Bool [N]: whether the label given differs from the original one."""
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
        """The samples at some positions, or where a mask of shape [N] is true."""
        fields = ("labels", "index", "original_labels", "source")
        return replace(
            self,
            images=_rows(self.images, chosen),
            **{f: getattr(self, f)[chosen] for f in fields},
        )

    def tensor(self) -> Tensor:
        """All images as one uint8 tensor of shape [N, C, H, W], read if in files."""
        return torch.from_numpy(self.images[:]).permute(0, 3, 1, 2).contiguous()

    def reader(self, device: torch.device | str) -> "folders.Reader | _InMemory":
        """What reads batches of these images, epoch after epoch, onto a device.

        Called with a list of batches, each the positions of its samples, it yields
        uint8 tensors of shape [B, C, H, W]; see ``curvlib.folders.Reader``.
        """
        device = torch.device(device)
        if isinstance(self.images, Photographs):
            return self.images.reader(device)
        return _InMemory(self.tensor().to(device))

    def statistics(self) -> tuple[list[float], list[float]]:
        """Mean and standard deviation of each channel, of pixels in [0, 1].

        Of photographs in files, ``MOST_MEASURED`` evenly spaced ones are measured.

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


def _rows(pixels: np.ndarray | Photographs, rows: np.ndarray):
    return pixels.select(rows) if isinstance(pixels, Photographs) else pixels[rows]


class _InMemory:
    """The reader of images that are one tensor on the device."""

    def __init__(self, pixels: Tensor):
        self._pixels = pixels

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
                yield augment(x, generator=generator)[share]


def load(
    name: str,
    root: str | Path | None = None,
    *,
    split: str = "train",
    image_size: int | None = None,
    broken_files: str = "stop",
) -> Images:
    """Load a data set by its name, an ``.npz`` file, or a folder of class folders.

    The layout: ``train_images`` uint8 [N, H, W] or [N, H, W, C], ``train_labels``
    integers [N], the same for ``test``, and optionally ``classes``. A file
    ``<name>.npz`` in root comes first, then what torchvision finds there, then its
    download. The digits come with scikit-learn; every fifth is the test split.

    Photographs lie in ``train/<class>/*.JPEG`` and ``val/<class>/*.JPEG``, the layout
    of ImageNet, under ``root/<name>`` or, for ``"imagenet"``, under root itself. They
    stay in their files; see ``curvlib.folders`` for the index that is made of them.

    Args:
        name: One of ``curvlib.data.NAMES``; ``"imagenet"``; the name of an ``.npz``
            file or of a folder in root; or the path of one.
        root: Where data sets lie; by default ``$CURVLIB_DATA``, else a cache folder.
        split: ``"train"`` or ``"test"``, which of photographs is ``val``.
        image_size: Pixels on a side that photographs are cut to, 224 if left out; other
            data sets have a size of their own.
        broken_files: ``"stop"`` if a file of a folder cannot be used, or ``"skip"``
            it: the index file lists them all either way.

    Returns:
        The images in the original order: index i is torchvision's index i; of a
        folder, the row of the index file.

    Raises:
        ValueError: If the name, the split or the policy is unknown, the file has
            another layout, a size is given to images that have one, or files of a
            folder are broken.
        FileNotFoundError: If the data is neither there nor to be downloaded.
    """
    if split not in ("train", "test"):
        raise ValueError(f"split must be 'train' or 'test', got {split!r}")
    if broken_files not in folders.POLICIES:
        raise ValueError(
            f"broken_files must be one of {folders.POLICIES}, got {broken_files!r}"
        )
    root = Path(root).expanduser() if root is not None else default_root()
    name = os.path.expanduser(name)
    path = Path(name) if name.endswith(".npz") else root / f"{name}.npz"
    if not path.exists() and (place := _class_folders(name, root)):
        return _from_folders(place, split, image_size, broken_files)
    if image_size is not None and (path.exists() or name in NAMES):
        raise ValueError(
            f"image_size = {image_size} is for photographs in folders; {name} has a "
            "size of its own"
        )
    if path.exists():
        return _from_npz(path, split)
    if name == "digits":
        return _digits(split)
    if name in NAMES:
        return _from_torchvision(name, root, split)
    raise ValueError(
        f"unknown data set {name!r}: expected one of {', '.join(NAMES)}, an .npz file, "
        f"but {path} does not exist, or a folder with train/<class>/ in it, but there "
        f"is neither {root / name / 'train'} nor {Path(name) / 'train'}"
    )


def _class_folders(name: str, root: Path) -> Path | None:
    """The folder that holds train/ and val/, if the name is of such a data set."""
    if name in NAMES:
        return None
    places = [root / name, root] if name == "imagenet" else [root / name, Path(name)]
    return next((place for place in places if (place / "train").is_dir()), None)


def _from_folders(
    place: Path, split: str, image_size: int | None, broken_files: str
) -> Images:
    size = IMAGE_SIZE if image_size is None else image_size
    if size < folders.SMALLEST:
        raise ValueError(f"image_size must be at least {folders.SMALLEST}, got {size}")
    folder = place / {"train": "train", "test": "val"}[split]
    table = folders.index_of(folder)
    broken = table[table["status"] == "broken"]
    if len(broken) and broken_files == "stop":
        first = broken.iloc[0]
        raise ValueError(
            f"{len(broken)} of {len(table)} files in {folder} cannot be used, the "
            f"first is {first['path']!r}: {first['remark']}. `curvlib check {place}` "
            "lists them all; mend or remove them and delete "
            f"{folders.index_file(folder)}, or leave them out with "
            'broken_files="skip"'
        )
    table = table[table["status"] == "used"]
    if not len(table):
        raise ValueError(f"{folder} holds no image that can be used")
    classes = folders.class_names(place / "train")
    number = {name: i for i, name in enumerate(classes)}
    if unknown := sorted(set(table["class"]) - number.keys()):
        raise ValueError(
            f"{folder} has the class {unknown[0]}, which {place / 'train'} has not"
        )
    photographs = Photographs(
        folder,
        np.array([os.fsencode(path) for path in table["path"]]),
        np.array([int(checksum, 16) for checksum in table["crc32"]], np.uint32),
        size,
    )
    return Images(
        images=photographs,
        labels=table["class"].map(number).to_numpy(),
        index=table["index"].to_numpy(),
        classes=tuple(classes),
        name=place.resolve().name,
    )


def _from_npz(path: Path, split: str) -> Images:
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {key: file[key] for key in file.files}
    except Exception as error:  # of zipfile, zlib or numpy, by where the damage lies
        raise ValueError(f"{path} is not a readable .npz file: {error}") from error
    needed = (f"{split}_images", f"{split}_labels")
    if missing := [key for key in needed if key not in arrays]:
        raise ValueError(
            f"{path} lacks {' and '.join(missing)}; it has "
            f"{', '.join(arrays) or 'nothing'}"
        )
    images, labels = (arrays[key] for key in needed)
    largest = max(
        (
            int(arrays[key].max(initial=0))
            for key in ("train_labels", "test_labels")
            if key in arrays and arrays[key].dtype.kind in "iu"
        ),
        default=0,
    )
    classes = arrays.get("classes", np.arange(largest + 1))
    return Images(
        images=images[..., None] if images.ndim == 3 else images,
        labels=labels,
        index=np.arange(len(images)),
        classes=tuple(classes.tolist()),
        name=path.stem,
    )


def _digits(split: str) -> Images:
    from sklearn.datasets import load_digits

    digits = load_digits()
    index = np.arange(len(digits.target))
    index = index[(index % 5 == 4) == (split == "test")]
    return Images(
        images=np.round(digits.images * (255 / 16)).astype(np.uint8)[index, :, :, None],
        labels=digits.target[index],
        index=index,
        classes=tuple("0123456789"),
        name="digits",
    )


def _from_torchvision(name: str, root: Path, split: str) -> Images:
    from torchvision import datasets

    kinds = {
        "mnist": datasets.MNIST,
        "fashion_mnist": datasets.FashionMNIST,
        "cifar10": datasets.CIFAR10,
        "cifar100": datasets.CIFAR100,
    }
    try:
        found = kinds[name](root, train=split == "train", download=False)
    except RuntimeError:  # not there, or not whole
        try:
            found = kinds[name](root, train=split == "train", download=True)
        except (OSError, RuntimeError) as error:
            raise FileNotFoundError(
                f"{name} is not in {root} and could not be downloaded ({error}); "
                "set CURVLIB_DATA, or root, to the folder that torchvision or an "
                f"{name}.npz file was saved to"
            ) from error
    images = np.asarray(found.data)
    return Images(
        images=images[..., None] if images.ndim == 3 else images,
        labels=np.asarray(found.targets),
        index=np.arange(len(images)),
        classes=tuple(found.classes),
        name=name,
    )


def with_symmetric_noise(images: Images, rate: float, *, seed: int) -> Images:
    """Replace the labels of a share of the samples by another class, uniformly.

    Exactly ``round(rate * N)`` labels change, none to itself. For one seed the wrong
    labels at a low rate are among those at a higher one, so that rates can be compared
    on the same samples.

    Args:
        images: Samples with their original labels.
        rate: Share of the labels replaced, in [0, 1].
        seed: Of the choice of samples and of their new labels.

    Raises:
        ValueError: If the rate is out of range or changes no label at all, if there is
            but one class, or if labels are wrong already.
    """
    if not 0 <= rate <= 1:
        raise ValueError(f"rate is a fraction in [0, 1], got {rate!r}")
    _check_original(images)
    count = round(rate * len(images))
    if rate == 0:
        return images
    if count == 0:
        raise ValueError(
            f"rate {rate} of {len(images)} samples is no label at all; raise it to "
            f"{1 / len(images):.2g} or more"
        )
    rng = np.random.default_rng(seed)
    chosen = rng.permutation(len(images))[:count]
    labels = images.labels.copy()
    labels[chosen] = _other_labels(images, rng)[chosen]
    return replace(images, labels=labels)


def with_pair_flip(images: Images, rate: float, *, seed: int) -> Images:
    """Replace the labels of a share of the samples by the next class.

    The asymmetric noise of Han et al. (2018), *Co-teaching*: class c becomes c + 1, the
    last one the first. Exactly ``round(rate * N)`` labels change; which samples, is as
    for ``with_symmetric_noise`` with the same seed.

    Args:
        images: Samples with their original labels.
        rate: Share of the labels replaced, in [0, 1].
        seed: Of the choice of samples.

    Raises:
        ValueError: As for ``with_symmetric_noise``.
    """
    wrong = with_symmetric_noise(images, rate, seed=seed).mislabelled
    following = (images.labels + 1) % len(images.classes)
    return replace(images, labels=np.where(wrong, following, images.labels))


# Names of the human labels, and where the authors' files keep them.
HUMAN = {
    "human_aggre": ("cifar10", "aggre_label"),
    "human_worse": ("cifar10", "worse_label"),
    "human_random1": ("cifar10", "random_label1"),
    "human_random2": ("cifar10", "random_label2"),
    "human_random3": ("cifar10", "random_label3"),
    "human_noisy": ("cifar100", "noisy_label"),
}
HUMAN_FILES = {"cifar10": "CIFAR-10_human", "cifar100": "CIFAR-100_human"}
NOISES = ("symmetric", "pair", *HUMAN)


def with_human_labels(
    images: Images, noise: str, root: str | Path | None = None
) -> Images:
    """Replace the labels of CIFAR by those that people gave (CIFAR-10N, CIFAR-100N).

    Wei et al. (2022), *Learning with Noisy Labels Revisited*: ``"human_random1"`` to
    ``3`` are three people's labels, ``"human_aggre"`` their majority, ``"human_worse"``
    a wrong one of the three where there is one; ``"human_noisy"`` is CIFAR-100's. The
    file is the authors' ``CIFAR-10_human.pt`` or ``CIFAR-100_human.pt``, or an ``.npz``
    of that name with the same arrays (``clean_label``, ``worse_label``, ...); it is
    joined by index, and its clean labels must be those of the images.

    Args:
        images: Samples of CIFAR-10 or CIFAR-100 with their original labels.
        noise: One of ``HUMAN``.
        root: The folder that holds the file, as for ``load``.

    Raises:
        FileNotFoundError: If there is no such file; says where to get it.
        ValueError: If the name is unknown or of another data set, labels are wrong
            already, or the file is damaged or belongs to other images.
    """
    if noise not in HUMAN:
        raise ValueError(f"noise must be one of {', '.join(HUMAN)}, got {noise!r}")
    dataset, key = HUMAN[noise]
    if images.name != dataset:
        raise ValueError(f"{noise} labels are those of {dataset}, got {images.name}")
    _check_original(images)
    root = Path(root) if root is not None else default_root()
    paths = [root / f"{HUMAN_FILES[dataset]}{suffix}" for suffix in (".npz", ".pt")]
    path = next((path for path in paths if path.exists()), None)
    if path is None:
        raise FileNotFoundError(
            f"{noise} needs {paths[1].name} in {root}: download it from the project "
            "page of CIFAR-N (noisylabels.com)"
        )
    arrays = _human_file(path)
    if missing := [name for name in ("clean_label", key) if name not in arrays]:
        raise ValueError(
            f"{path} lacks {' and '.join(missing)}; it has {', '.join(arrays)}"
        )
    clean, given = (np.asarray(arrays[name]) for name in ("clean_label", key))
    if (
        images.index.max() >= min(len(clean), len(given))
        or (clean[images.index] != images.original_labels).any()
    ):
        raise ValueError(
            f"{path} is of other images or in another order: its clean labels are not "
            f"those of {images.name}"
        )
    return replace(images, labels=given[images.index])


def _human_file(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an .npz, or of a .pt that holds nothing but numpy arrays."""
    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as file:
                return {name: file[name] for name in file.files}
        rebuild = np.empty(0).__reduce__()[0]
        allowed = [
            (rebuild, "numpy.core.multiarray._reconstruct"),  # as numpy 1 wrote it
            (rebuild, "numpy._core.multiarray._reconstruct"),
            np.ndarray,
            np.dtype,
            type(np.dtype(np.int64)),
            type(np.dtype(np.int32)),
        ]
        with torch.serialization.safe_globals(allowed):
            return torch.load(path, weights_only=True)
    except Exception as error:  # zipfile, numpy or torch, by where the damage lies
        raise ValueError(
            f"{path} is damaged, or holds more than arrays of labels: {error}"
        ) from error


def with_planted_duplicates(
    images: Images, count: int, *, seed: int, first_index: int | None = None
) -> Images:
    """Append copies of some samples, each under a wrong label.

    A copy's ``source`` is the index of its original.

    Args:
        images: Samples; those whose label is wrong already are never copied.
        count: How many different samples to copy.
        seed: Of the choice of samples and of the wrong labels.
        first_index: Index of the first copy. None: the one after the largest there is.
            Where the samples are a part of a data set, name one that no other sample
            of it has.

    Raises:
        ValueError: If count is negative or larger than the number of samples whose
            label is right, there is but one class, or first_index is that of a sample
            or before it.
    """
    right = np.flatnonzero(~images.mislabelled)
    if not 0 <= count <= len(right):
        raise ValueError(
            f"count must lie between 0 and the {len(right)} samples whose label is "
            f"right, got {count!r}"
        )
    if count == 0:
        return images
    rng = np.random.default_rng([seed, 1])  # not the stream of the symmetric noise
    chosen = rng.permutation(right)[:count]
    wrong = _other_labels(images, rng)[chosen]
    free = int(images.index.max()) + 1
    if first_index is not None and first_index < free:
        raise ValueError(
            f"first_index must be at least {free}, got {first_index}: the indices "
            "before it are those of samples"
        )
    index = (free if first_index is None else first_index) + np.arange(count)

    def join(a, b):
        return np.concatenate([a, b])

    return replace(
        images,
        images=_rows(images.images, join(np.arange(len(images)), chosen)),
        labels=join(images.labels, wrong),
        index=join(images.index, index),
        original_labels=join(images.original_labels, images.original_labels[chosen]),
        source=join(images.source, images.index[chosen]),
    )


def _check_original(images: Images) -> None:
    if images.mislabelled.any():
        raise ValueError(
            f"{images.name}: {images.mislabelled.sum()} labels are wrong already; "
            "start from the original ones"
        )


def _other_labels(images: Images, rng: np.random.Generator) -> np.ndarray:
    """For every sample a label that is not the one given, uniformly: shape [N]."""
    num_classes = len(images.classes)
    if num_classes < 2:
        raise ValueError(f"{images.name}: one class has no wrong label; two are needed")
    shift = rng.integers(1, num_classes, size=len(images))
    return (images.labels + shift) % num_classes


def augment(batch: Tensor, *, generator: torch.Generator, padding: int = 4) -> Tensor:
    """Random crops after padding with black, and random flips left to right.

    Args:
        batch: uint8 images, shape [B, C, H, W].
        generator: On the CPU; three draws a sample.
        padding: Pixels on each side.

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
    """Pixels in [0, 255] to float32 of mean 0 and deviation 1 over the training set.

    The step h of the curvature is in units of this output, as in the paper.

    Args:
        batch: uint8 images, shape [B, C, H, W].
        mean: Of each channel, of pixels in [0, 1], as ``Images.statistics`` gives it.
        std: Likewise.
    """
    scale = torch.tensor([1 / (255 * s) for s in std], device=batch.device)
    shift = torch.tensor(
        [-m / s for m, s in zip(mean, std, strict=True)], device=batch.device
    )
    return batch * scale[:, None, None] + shift[:, None, None]
