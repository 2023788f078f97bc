"""Loading a data set by its name, an ``.npz`` file, or a folder of class folders."""

import os
from pathlib import Path

import numpy as np

from curvlib.data import folders
from curvlib.data.folders import Photographs, default_root
from curvlib.data.images import Images

NAMES = ("digits", "mnist", "fashion_mnist", "cifar10", "cifar100")
IMAGE_SIZE = 224  # pixels on a side that photographs in folders are cut to


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
    stay in their files; see ``curvlib.data.folders`` for the index that is made of them.

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
