"""Images that stand in a data set more than once, and those whose labels disagree."""

import hashlib

import pandas as pd

from curvlib.data import Images


def exact(*splits: Images) -> pd.DataFrame:
    """Groups of samples with the same pixels, within and between the splits given.

    Args:
        *splits: Of one data set, so that their labels mean the same.

    Returns:
        One row a sample that has a twin, sorted by group, split and index: group (from
        0, in the order of first occurrence), split (its position among the arguments),
        index, label (the one given) and conflict, whether the group's labels disagree.

    Raises:
        ValueError: If there is no split, or they are of different classes.

    Example:
        >>> import numpy as np
        >>> pixels = np.zeros((3, 2, 2, 1), np.uint8)
        >>> pixels[1] = 9
        >>> images = Images(images=pixels, labels=[0, 1, 1], index=[5, 6, 7],
        ...                 classes=("a", "b"))
        >>> exact(images)[["index", "label", "conflict"]].to_numpy().tolist()
        [[5, 0, True], [7, 1, True]]
    """
    if not splits:
        raise ValueError("no images were given; give at least one split")
    for images in splits[1:]:
        if images.classes != splits[0].classes:
            raise ValueError(
                f"{images.name} and {splits[0].name} have different classes, so their "
                "labels can't be compared"
            )
    parts = [
        pd.DataFrame(
            {
                # A digest per image: 32 bytes in place of thousands; no two alike.
                "pixels": [
                    hashlib.sha256(image.tobytes()).digest() for image in images.images
                ],
                "shape": str(images.images.shape[1:]),
                "split": number,
                "index": images.index,
                "label": images.labels,
            }
        )
        for number, images in enumerate(splits)
    ]
    table = pd.concat(parts, ignore_index=True)
    same = table.groupby(["pixels", "shape"], sort=False)["index"]
    table = table[same.transform("size") > 1]
    by = table.groupby(["pixels", "shape"], sort=False)
    table = table.assign(
        group=by.ngroup(), conflict=by["label"].transform("nunique") > 1
    )
    table = table.sort_values(["group", "split", "index"], ignore_index=True)
    return table[["group", "split", "index", "label", "conflict"]]
