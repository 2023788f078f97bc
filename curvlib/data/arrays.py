"""Reading arrays of images and labels: one unambiguous meaning, or an error.

Files of arrays come from many tools. A form with one clear meaning is accepted: labels
of shape [N, 1], one-hot rows, whole numbers stored as floats, names that ``classes``
lists; images with channels first, or of another integer type. A form with no meaning or
two is refused, and the message says what to do.
"""

from collections.abc import Sequence

import numpy as np


def as_images(images: np.ndarray, name: str) -> np.ndarray:
    """Convert pixels to the form of ``curvlib.data.Images``.

    Integers from 0 to 255 of any type are pixels, as are booleans (white where true).
    A last axis of 1 or 3 is the channels; otherwise an axis of 1 or 3 after the first.

    Args:
        images: Shape [N, H, W], [N, H, W, C] or [N, C, H, W], with C = 1 or 3.
        name: Name of the data set, for messages.

    Returns:
        uint8, shape [N, H, W, C].

    Raises:
        ValueError: If the values are floats, are out of range or have another type, or
            if the shape is another one.
    """
    return _channels_last(_bytes(np.asarray(images), name), name)


def _bytes(images: np.ndarray, name: str) -> np.ndarray:
    if images.dtype == np.uint8:
        return images
    if images.dtype.kind == "b":
        return images.astype(np.uint8) * np.uint8(255)
    refused = f"{name}: images must be uint8 from 0 (black) to 255, got {images.dtype}"
    if images.dtype.kind not in "iuf" or not images.size:
        raise ValueError(f"{refused} of shape {list(images.shape)}")
    if images.dtype.kind == "f" and not np.isfinite(images).all():
        where = np.argwhere(~np.isfinite(images))[0]
        raise ValueError(
            f"{refused} with a value of {images[tuple(where)]} in image {where[0]}; "
            "repair that image, or leave it out"
        )
    low, high = images.min(), images.max()
    values = f"{refused} with values from {low:g} to {high:g}"
    if low < 0:
        raise ValueError(
            f"{values}, as after normalisation; save the pixels as they were before it"
        )
    if high <= 1:
        raise ValueError(
            f"{values}; if 1 is white, save np.round(255 * images).astype(np.uint8)"
        )
    if high > 255:
        raise ValueError(
            f"{values}; divide them by the value of white, 65535 for all of 16 bits, "
            "and save np.round(255 * images).astype(np.uint8)"
        )
    if images.dtype.kind == "f":
        raise ValueError(f"{values}; save np.round(images).astype(np.uint8)")
    return images.astype(np.uint8)


def _channels_last(images: np.ndarray, name: str) -> np.ndarray:
    shape = list(images.shape)
    refused = (
        f"{name}: images must have the shape [N, H, W], [N, H, W, C] or [N, C, H, W] "
        f"with C = 1 or 3, got {shape}"
    )
    if images.ndim == 3:
        images = images[..., None]
    elif images.ndim == 4 and shape[3] not in (1, 3) and shape[1] in (1, 3):
        images = images.transpose(0, 2, 3, 1)
    if images.ndim == 2:
        raise ValueError(
            f"{refused}; these are flattened: give them their shape with "
            "images.reshape(-1, height, width)"
        )
    if images.ndim == 4 and images.shape[3] not in (1, 3) and 4 in (shape[1], shape[3]):
        raise ValueError(
            f"{refused}; if the fourth channel is transparency, put the images on a "
            "background first"
        )
    if images.ndim != 4 or images.shape[3] not in (1, 3):
        raise ValueError(f"{refused}; volumes and other channels are not images here")
    if 0 in images.shape[1:]:
        raise ValueError(f"{refused}; no side may be 0")
    return images


def refuse_constant(images: np.ndarray, name: str) -> None:
    """Refuse images if a channel has the same value in every pixel.

    Args:
        images: uint8, shape [N, H, W, C].
        name: Name of the data set, for messages.

    Raises:
        ValueError: If there is such a channel; it cannot be normalised.
    """
    if not images.size:
        return
    for channel in range(images.shape[3]):
        values = images[..., channel]
        if values.min() == values.max():
            raise ValueError(
                f"{name}: channel {channel} has the value {values.min()} in every "
                f"pixel of all {len(images)} images; are these the right ones?"
            )


def as_labels(
    labels: np.ndarray,
    name: str,
    *,
    count: int,
    classes: Sequence[str] | None = None,
    others: Sequence[np.ndarray] = (),
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Convert labels to the form of ``curvlib.data.Images``, with class names.

    Without ``classes``, the numbers are the names: every number that occurs in the
    labels of any split is a class. Labels 0, 2 and 26 mean three classes, not 27 of
    which 24 are empty. One-hot labels have one class for each column.

    Args:
        labels: Shape [N] or [N, 1]: integers, whole numbers as floats, booleans, or
            text that ``classes`` lists. Or one-hot rows, shape [N, C].
        name: Name of the data set, for messages.
        count: Number N of images.
        classes: Names, in the order of the numbers.
        others: Labels of the other splits, so that all splits have the same classes.
            Labels that cannot be read are ignored here, and refused when their own
            split is loaded.

    Returns:
        int64 [N], in [0, number of classes); and the names of the classes.

    Raises:
        ValueError: If a sample has no label or several, text has no list of classes,
            the labels are none, or their number is not that of the images.
    """
    found, columns = _numbers(labels, name, count, classes)
    if classes is not None:
        return found, tuple(classes)
    if columns:
        return found, tuple(str(k) for k in range(columns))
    if np.asarray(labels).dtype.kind == "b":
        return found, ("False", "True")
    if found.min(initial=0) < 0:
        i = int(found.argmin())
        raise ValueError(
            f"{name}: labels must lie in 0, 1, 2, ..., but sample {i} has {found[i]}; "
            "leave out images without a label"
        )
    known = [found]
    for other in others:
        try:
            numbers, columns = _numbers(other, name, len(other), None)
        except (ValueError, TypeError):
            continue
        if columns:
            numbers = np.arange(columns)
        if numbers.min(initial=0) >= 0:
            known.append(numbers)
    values = np.unique(np.concatenate(known))
    return np.searchsorted(values, found), tuple(str(value) for value in values)


def _numbers(
    labels: np.ndarray, name: str, count: int, classes: Sequence[str] | None
) -> tuple[np.ndarray, int]:
    """Labels as int64 [N], and the number of columns if they were one-hot, else 0."""
    labels = np.asarray(labels)
    if labels.ndim >= 2 and labels.size == len(labels):
        labels = labels.ravel()  # [N, 1]
    form = f"{labels.dtype} of shape {list(labels.shape)}"
    refused = (
        f"{name}: labels must hold one integer for each of the {count} images, got "
        f"{form}"
    )
    if labels.ndim == 2 and len(labels) == count and labels.shape[1] > 1:
        return _from_rows(labels, refused, classes)
    if labels.shape != (count,):
        raise ValueError(refused)
    if labels.dtype.kind in "US":
        return _from_text(labels, name, refused, classes), 0
    if labels.dtype.kind == "f":
        whole = np.isfinite(labels) & (labels == np.round(labels))
        if not whole.all():
            i = int(whole.argmin())
            raise ValueError(
                f"{refused}, and sample {i} has {labels[i]}; leave out images without "
                "a label, and turn measured values into classes"
            )
    elif labels.dtype.kind not in "iub":
        raise ValueError(refused)
    if labels.size and abs(labels).max() >= 2.0**63:
        raise ValueError(f"{refused}; the largest is {labels.max()}")
    return labels.astype(np.int64), 0


def _from_rows(
    rows: np.ndarray, refused: str, classes: Sequence[str] | None
) -> tuple[np.ndarray, int]:
    """The position of the 1 in each row, if each row has exactly one."""
    if rows.dtype.kind not in "iufb" or not np.isfinite(rows).all():
        raise ValueError(refused)
    if not np.isin(rows, (0, 1)).all():
        if rows.dtype.kind == "f" and np.allclose(rows.sum(1), 1, atol=1e-3):
            raise ValueError(
                f"{refused}: probabilities; choose a class for each image, such as "
                "labels.argmax(1)"
            )
        raise ValueError(
            f"{refused}: several labels for each image; choose one, such as "
            "labels[:, 0]"
        )
    ones = rows.sum(1)
    if (ones != 1).any():
        i = int((ones != 1).argmax())
        raise ValueError(
            f"{refused}: multi-label data, in which sample {i} has {int(ones[i])} "
            "classes; every image needs exactly one: choose one column as a yes-or-no "
            "label, such as labels[:, 0]"
        )
    if classes is not None and len(classes) != rows.shape[1]:
        raise ValueError(
            f"{refused}: one-hot, with {rows.shape[1]} columns, but classes names "
            f"{len(classes)}"
        )
    return rows.argmax(1).astype(np.int64), rows.shape[1]


def _from_text(
    labels: np.ndarray, name: str, refused: str, classes: Sequence[str] | None
) -> np.ndarray:
    if classes is None:
        raise ValueError(
            f"{refused}; to use names, add an array classes that lists them in the "
            "order of their numbers, such as classes=np.unique(labels)"
        )
    names = as_text(labels)
    if len(set(classes)) < len(classes):
        raise ValueError(f"{name}: classes names one class twice: {', '.join(classes)}")
    number = {label: i for i, label in enumerate(classes)}
    for i, label in enumerate(names):
        if label not in number:
            raise ValueError(
                f"{name}: sample {i} has the label {label!r}, which is not among the "
                f"{len(classes)} classes: {', '.join(classes[:10])}"
                f"{', ...' if len(classes) > 10 else ''}"
            )
    return np.array([number[label] for label in names], np.int64)


def as_text(values: np.ndarray) -> list[str]:
    """Convert values to text; bytes are decoded as UTF-8.

    Example:
        >>> as_text(np.array([b"cat"])), as_text(np.array([3, 1]))
        (['cat'], ['3', '1'])
    """
    return [
        value.decode(errors="backslashreplace")
        if isinstance(value, bytes)
        else str(value)
        for value in np.asarray(values).tolist()
    ]
