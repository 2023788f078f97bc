"""Images that stand in a data set more than once, and those whose labels disagree.

*Exact* twins have the same pixels. *Near* ones lie close together in a space of
descriptors; how close is close enough is read off decoys: images that cannot have a
twin, because they are upside down, and that are as alike to the data as chance allows.
"""

import hashlib
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from sklearn.neighbors import NearestNeighbors
from torch import nn

from curvlib import data
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


def pixel_descriptors(images: Images, *, side: int = 8) -> np.ndarray:
    """Images as unit vectors that brightness and contrast do not change.

    Args:
        images: N images of at least that side.
        side: Images are averaged down to so many pixels a side.

    Returns:
        float32, shape [N, C * side²], each of mean 0 and length 1; of length 0 where
        an image has one colour only.
    """
    pixels = images.tensor()
    parts = [
        F.interpolate(part.float(), size=(side, side), mode="area").flatten(1)
        for part in pixels.split(4096)
    ]
    vectors = torch.cat(parts)
    return F.normalize(vectors - vectors.mean(1, keepdim=True), dim=1).numpy()


@torch.no_grad()
def network_descriptors(
    model: nn.Module, images: Images, mean: list[float], std: list[float]
) -> np.ndarray:
    """What a network hands to its last linear layer, as unit vectors.

    Args:
        model: In evaluation mode, with a linear layer at its end.
        images: N images of the shape that it takes.
        mean: Of each channel, as it was trained with, of pixels in [0, 1].
        std: Likewise.

    Returns:
        float32, shape [N, inputs of that layer].

    Raises:
        ValueError: If the network has no linear layer.
    """
    linear = [module for module in model.modules() if isinstance(module, nn.Linear)]
    if not linear:
        raise ValueError(
            f"{type(model).__name__} has no linear layer, whose inputs would describe "
            "the images; use pixel_descriptors"
        )
    seen: list[torch.Tensor] = []
    hook = linear[-1].register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    try:
        for part in images.tensor().split(512):
            model(data.normalise(part, mean, std))
    finally:
        hook.remove()
    return F.normalize(torch.cat(seen).flatten(1), dim=1).numpy()


def upside_down(images: Images) -> Images:
    """The same images standing on their heads: decoys for ``near``."""
    turned = np.ascontiguousarray(images.images[:, ::-1])
    return Images(
        images=turned, labels=images.labels, index=images.index, classes=images.classes
    )


@dataclass(frozen=True, kw_only=True)
class NearPairs:
    """Pairs closer than chance brings them, and the check that says so.

    Attributes:
        pairs: One row a pair, the closest first: first, second (positions, first <
            second) and distance.
        threshold: Largest distance of a pair that counts; NaN if there is none.
        check: One row a distance: distance, found (samples whose nearest neighbour is
            within it), decoys (decoys of which that is true) and precision, the share
            of those found that is not expected to be chance.
    """

    pairs: pd.DataFrame
    threshold: float
    check: pd.DataFrame


def near(
    descriptors: np.ndarray,
    decoys: np.ndarray,
    *,
    precision: float = 0.95,
    neighbours: int = 5,
) -> NearPairs:
    """Pairs of samples that lie closer together than decoys lie to any sample.

    Each decoy looks for its nearest sample as each sample looks for its nearest other
    one. At a distance where d decoys and n samples find somebody, d of the n are
    expected to be chance (the target-decoy approach of proteomics, Elias and Gygi,
    2007), so that the precision is 1 - d / n. Decoys that do have a twin, such as an
    upside-down zero, only make the threshold stricter.

    Args:
        descriptors: Shape [N, D], finite, of one length, so that distances compare.
        decoys: Shape [N, D], the same of images that can have no twin.
        precision: Wanted among the pairs, in (0, 1]; the threshold is the largest
            distance that has it.
        neighbours: Looked at for each sample; a group of more twins is found in part.

    Returns:
        Pairs with their distance, the threshold, and the check.

    Raises:
        ValueError: If the shapes do not fit, a value is not finite, or the precision
            is out of range.
    """
    descriptors, decoys = np.asarray(descriptors), np.asarray(decoys)
    if descriptors.ndim != 2 or len(descriptors) < 2 or decoys.ndim != 2:
        raise ValueError(
            "descriptors must be samples × dimensions, at least two samples, got "
            f"shapes {list(descriptors.shape)} and {list(decoys.shape)}"
        )
    if descriptors.shape != decoys.shape:
        raise ValueError(
            "there must be a decoy for each sample, of as many dimensions, got shapes "
            f"{list(descriptors.shape)} and {list(decoys.shape)}"
        )
    if not (np.isfinite(descriptors).all() and np.isfinite(decoys).all()):
        raise ValueError("descriptors and decoys must be finite; some are not")
    if not 0 < precision <= 1:
        raise ValueError(f"precision is a share in (0, 1], got {precision}")
    count = min(neighbours, len(descriptors) - 1)
    search = NearestNeighbors(algorithm="brute").fit(descriptors)
    distance, place = search.kneighbors(n_neighbors=count)  # never the sample itself
    of_decoys = np.sort(search.kneighbors(decoys, n_neighbors=1)[0][:, 0])
    found = np.sort(distance[:, 0])
    # A distance is the square root of a difference, of which float32 keeps 1e-3.
    chance = np.searchsorted(of_decoys, found, side="right")
    share = 1 - chance / np.arange(1, len(found) + 1)
    good = np.flatnonzero(share >= precision)
    threshold = float(found[good[-1]]) if len(good) else float("nan")
    first = np.repeat(np.arange(len(descriptors)), count)
    pairs = pd.DataFrame(
        {
            "first": np.minimum(first, place.ravel()),
            "second": np.maximum(first, place.ravel()),
            "distance": distance.ravel(),
        }
    )
    pairs = pairs[pairs["distance"] <= threshold].drop_duplicates(["first", "second"])
    shown = np.unique(np.geomspace(1, len(found), 200).astype(int)) - 1
    return NearPairs(
        pairs=pairs.sort_values(["distance", "first", "second"], ignore_index=True),
        threshold=threshold,
        check=pd.DataFrame(
            {
                "distance": found[shown],
                "found": shown + 1,
                "decoys": chance[shown],
                "precision": share[shown],
            }
        ),
    )
