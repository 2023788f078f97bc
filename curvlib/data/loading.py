"""Loading a data set: by name, from an ``.npz`` or a CSV file, or from a folder."""

import os
from pathlib import Path

import numpy as np

from curvlib.data import arrays, files, folders
from curvlib.data.folders import Photographs, default_root
from curvlib.data.images import Images

NAMES = ("digits", "mnist", "fashion_mnist", "cifar10", "cifar100")
IMAGE_SIZE = 224  # default side length in pixels of photographs in files
# Names of images and labels in an .npz, by split. "val" is the test split of a file
# that has no other, as in folders.
LAYOUTS = (
    {s: (f"{s}_images", f"{s}_labels") for s in ("train", "test", "val")},  # MedMNIST
    {s: (f"x_{s}", f"y_{s}") for s in ("train", "test", "val")},  # Keras
    {"train": ("images", "labels")},
)


def load(
    name: str,
    root: str | Path | None = None,
    *,
    split: str = "train",
    image_size: int | None = None,
    broken_files: str = "stop",
) -> Images:
    """Load a data set by its name, an ``.npz`` or ``.csv`` file, or a folder.

    *A known name.* The function looks for ``<name>.npz`` in root, then for the files of
    torchvision, and then downloads them. The digits come with scikit-learn; every fifth
    one belongs to the test split.

    *An .npz file* has ``train_images``, integers from 0 to 255, of shape [N, H, W],
    [N, H, W, C] or [N, C, H, W]; ``train_labels`` of shape [N], [N, 1] or, one-hot,
    [N, C]; the same for ``test``, or ``val`` if there is no ``test``; and optionally
    ``classes``, the names. MedMNIST has this layout. The names of Keras, ``x_train``
    and ``y_train``, and plain ``images`` and ``labels`` work as well. Without
    ``classes``, the classes are the numbers that occur. ``curvlib.data.arrays`` lists
    what is accepted.

    *A folder* holds photographs in ``train/<class>/`` and ``val/<class>/``, the layout
    of ImageNet, or in ``<class>/``, which is a training set without a test split. Its
    path is ``root/<name>``, ``<name>``, or, for ``"imagenet"``, root itself.

    *A CSV file* has the columns ``path``, relative to the file, and ``label``, the name
    of the class; other columns are ignored. It has no test split either.

    Photographs of folders and CSV files stay in their files. See
    ``curvlib.data.folders`` for how they are decoded and for the index that is made.

    Args:
        name: One of ``curvlib.data.NAMES``; ``"imagenet"``; the name of an ``.npz``
            file or of a folder in root; or the path of an ``.npz`` or ``.csv`` file or
            of a folder.
        root: Folder of the data sets; by default ``$CURVLIB_DATA``, or a cache folder.
        split: ``"train"`` or ``"test"``; for photographs, ``val`` is the test split.
        image_size: Side length in pixels to crop photographs to, 224 by default. Other
            data sets have a fixed size.
        broken_files: ``"stop"`` if an image file cannot be used, or ``"skip"`` it. The
            index file lists all such files in either case.

    Returns:
        The images in the original order. Index i is torchvision's index i. For a folder
        or a CSV file it is the row in the index file, which for a CSV file is the same
        as its own row, from 0.

    Raises:
        ValueError: If the name, the split or the policy is unknown, the file has a
            different layout, image_size is given for images of fixed size, or image
            files are broken.
        FileNotFoundError: If the data is missing and cannot be downloaded, there is no
            such split, or a CSV file names a missing file.
    """
    if split not in ("train", "test"):
        raise ValueError(f"split must be 'train' or 'test', got {split!r}")
    if broken_files not in folders.POLICIES:
        raise ValueError(
            f"broken_files must be one of {folders.POLICIES}, got {broken_files!r}"
        )
    if not name:
        raise ValueError(
            f"the data set has no name; expected one of {', '.join(NAMES)}"
            ", a file or a folder"
        )
    root = Path(root).expanduser() if root is not None else default_root()
    name = os.path.expanduser(name)
    path = root / f"{name}.npz"
    if name.endswith(".npz"):
        path = _first_there(Path(name), root / name)
    in_files = not path.exists() and _in_files(name, root)
    if in_files:
        return _from_files(*in_files, split, image_size, broken_files)
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
        f"unknown data set {name!r}: expected one of {', '.join(NAMES)}; an .npz file, "
        f"but {path} does not exist; a .csv file; or a folder of class folders, but "
        f"there is neither {root / name / 'train'} nor {Path(name) / 'train'}, and no "
        "class folder with images there either"
    )


def is_relative(name: str) -> bool:
    """Whether a name is a path from the current folder, so that root is not meant."""
    return name.split(os.sep)[0] in (os.curdir, os.pardir)


def _first_there(*paths: Path) -> Path:
    return next((path for path in paths if path.exists()), paths[0])


def _in_files(name: str, root: Path) -> tuple[Path, dict[str, Path]] | None:
    """Folder and splits of a data set in files; None if the name is not one."""
    if name in NAMES:
        return None
    if name.lower().endswith(".csv"):
        place = _first_there(Path(name), root / name)
        if place.is_dir():
            raise ValueError(f"{place} is a folder, and its name that of a CSV file")
        return place, {"train": place}
    places = [root / name, Path(name)]
    if is_relative(name):
        places = [Path(name)]
    if name == "imagenet":
        places = [root / name, *([root] if (root / "train").is_dir() else [])]
    for place in places:
        try:
            return place, files.splits(place)
        except FileNotFoundError:
            continue
    return None


def _from_files(
    place: Path,
    splits: dict[str, Path],
    split: str,
    image_size: int | None,
    broken_files: str,
) -> Images:
    size = IMAGE_SIZE if image_size is None else image_size
    if size < folders.SMALLEST:
        raise ValueError(f"image_size must be at least {folders.SMALLEST}, got {size}")
    if split not in splits:
        kind = "val/<class>/" if split == "test" else "train/<class>/"
        raise FileNotFoundError(
            f"{place} has no {split} split; put its images into {place / kind}"
            if place.is_dir()
            else f"{place} has no {split} split; a CSV file is a training set"
        )
    source = splits[split]
    table = folders.index_of(source)
    broken = table[table["status"] == "broken"]
    if len(broken) and broken_files == "stop":
        first = broken.iloc[0]
        raise ValueError(
            f"{len(broken)} of {len(table)} files in {source} cannot be used, the "
            f"first is {first['path']!r}: {first['remark']}. `curvlib check {place}` "
            "lists them all; mend or remove them and delete "
            f"{folders.index_file(source)}, or leave them out with "
            'broken_files="skip"'
        )
    used = table[table["status"] == "used"]
    if not len(used):
        raise ValueError(f"{source} holds no image that can be used")
    in_csv = source.is_file()
    if in_csv:
        classes = files.in_order(list(table["class"]))
    else:
        classes = files.class_names(splits.get("train", source))
    number = {label: i for i, label in enumerate(classes)}
    if unknown := sorted(set(used["class"]) - number.keys()):
        raise ValueError(
            f"{source} has the class {unknown[0]}, which {splits['train']} has not"
        )
    photographs = Photographs(
        source.parent if in_csv else source,
        np.array([os.fsencode(path) for path in used["path"]]),
        np.array([int(checksum, 16) for checksum in used["crc32"]], np.uint32),
        size,
        digests=np.array([digest.encode() for digest in used["pixels"]]),
    )
    return Images(
        images=photographs,
        labels=used["class"].map(number).to_numpy(),
        index=used["index"].to_numpy(),
        classes=tuple(classes),
        name=place.stem if in_csv else place.resolve().name,
    )


def _from_npz(path: Path, split: str) -> Images:
    try:
        with np.load(path, allow_pickle=False) as file:
            names = file.files
            layout = next(
                (k for k in LAYOUTS if any(_has(names, pair) for pair in k.values())),
                LAYOUTS[0],
            )
            order = ("test", "val") if split == "test" else ("train",)
            pairs = [layout[s] for s in order if s in layout] or [LAYOUTS[0][split]]
            needed = next((pair for pair in pairs if _has(names, pair)), pairs[0])
            missing = [key for key in needed if key not in names]
            others = [labels for _, labels in layout.values() if labels in names]
            wanted = [] if missing else [*needed, *others, "classes"]
            found = {key: file[key] for key in wanted if key in names}
    except Exception as error:  # of zipfile, zlib or numpy, by where the damage lies
        advice = ""
        if "allow_pickle" in str(error):
            advice = "; save text as np.array(..., dtype=str), without objects"
        raise ValueError(
            f"{path} is not a readable .npz file: {error}{advice}"
        ) from error
    if missing:
        raise ValueError(
            f"{path} lacks {' and '.join(missing)}; it has "
            f"{', '.join(names) or 'nothing'}"
        )
    images = arrays.as_images(found[needed[0]], path.stem)
    if split == "train":
        arrays.refuse_constant(images, path.stem)
    classes = found.get("classes")
    if classes is not None and (classes.ndim != 1 or not len(classes)):
        raise ValueError(
            f"{path}: classes must be a list of names, one for each class, got shape "
            f"{list(classes.shape)}"
        )
    labels, names_of_classes = arrays.as_labels(
        found[needed[1]],
        path.stem,
        count=len(images),
        classes=None if classes is None else arrays.as_text(classes),
        others=[found[key] for key in others if key != needed[1]],
    )
    return Images(
        images=images,
        labels=labels,
        index=np.arange(len(images)),
        classes=names_of_classes,
        name=path.stem,
    )


def _has(names: list[str], pair: tuple[str, str]) -> bool:
    return any(key in names for key in pair)


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
