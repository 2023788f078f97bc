"""Images that stand in a data set more than once, and those whose labels disagree.

*Exact* twins have the same pixels. *Near* ones are neighbours in a space of descriptors
and then agree in their details; how well is well enough is read off decoys: images that
cannot have a twin, because they are upside down, and that are as alike to the data as
chance allows.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from sklearn.neighbors import NearestNeighbors
from torch import nn

from curvlib import data
from curvlib.data import Images

BLUR = 9  # pixels, of the local mean
SHIFT = 3  # pixels


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
    """The same images standing on their heads: the decoys of ``compare``."""
    return replace(images, images=np.ascontiguousarray(images.images[:, ::-1]))


def detail_correlation(
    first: np.ndarray, second: np.ndarray, *, blur: int = BLUR, shift: int = SHIFT
) -> np.ndarray:
    """How well the details of two images agree, at the shift where they agree best.

    Details are the grey values without their local mean, so that two skies that fade
    alike have nothing in common. Shifts go round the edges.

    Args:
        first: uint8, shape [n, H, W, C].
        second: Of the same shape.
        blur: Side of the square over which the local mean is taken, odd, in pixels.
        shift: Largest shift tried along each axis, in pixels.

    Returns:
        Correlations in [-1, 1], shape [n]; 0 where an image has no details.
    """
    product = _spectra(first, blur) * _spectra(second, blur).conj()
    return _peaks(product, first.shape[1:3], shift)


def _spectra(images: np.ndarray, blur: int) -> torch.Tensor:
    """Fourier transforms of the details, each of length 1, [n, H, W // 2 + 1]."""
    grey = torch.from_numpy(images).float().mean(3)[:, None]
    local = F.avg_pool2d(grey, blur, 1, blur // 2, count_include_pad=False)
    details = (grey - local)[:, 0]
    length = details.flatten(1).norm(dim=1)[:, None, None]
    # Rounding leaves some 1e-5 of a grey value where there is no detail.
    details = torch.where(length > 1e-2, details / length.clamp(min=1e-2), 0.0)
    return torch.fft.rfft2(details)


def _peaks(product: torch.Tensor, size: tuple[int, ...], shift: int) -> np.ndarray:
    at_shift = torch.fft.irfft2(product, s=size)
    near_zero = torch.arange(-shift, shift + 1)
    return at_shift[:, near_zero][:, :, near_zero].amax((1, 2)).numpy()


@dataclass(frozen=True, kw_only=True)
class Compared:
    """Images beside their neighbours, and their decoys beside theirs.

    Attributes:
        labels: The labels given, shape [N].
        places: Positions of each image's neighbours, shape [N, k].
        similarity: Correlation of its details with theirs, shape [N, k].
        decoy_places: Positions of the neighbours of each image turned upside down.
        decoy_similarity: Its correlation with them.
    """

    labels: np.ndarray
    places: np.ndarray
    similarity: np.ndarray
    decoy_places: np.ndarray
    decoy_similarity: np.ndarray


def compare(
    images: Images,
    describe: Callable[[Images], np.ndarray] = pixel_descriptors,
    *,
    neighbours: int = 5,
) -> Compared:
    """Compare each image with its nearest neighbours, and so each one upside down.

    Neighbours are near in the space of descriptors; how much two images are alike is
    told by ``detail_correlation``.

    Args:
        images: N images, at least two.
        describe: From images to descriptors [N, D], unit vectors.
        neighbours: k, compared with each image; of a larger group a part is found.

    Raises:
        ValueError: If there are too few images, or a descriptor is not finite.
    """
    if len(images) < 2:
        raise ValueError(f"{images.name}: a pair takes two images, got {len(images)}")
    decoys = upside_down(images)
    descriptors = describe(images)
    if not np.isfinite(descriptors).all():
        raise ValueError("the descriptors must be finite; some are not")
    count = min(neighbours, len(images) - 1)
    search = NearestNeighbors(algorithm="brute").fit(descriptors)
    places = search.kneighbors(n_neighbors=count, return_distance=False)
    of_decoys = search.kneighbors(
        describe(decoys), n_neighbors=count + 1, return_distance=False
    )
    # As an image is never its own neighbour, its decoy is not its neighbour either.
    itself = of_decoys == np.arange(len(images))[:, None]
    itself[:, -1] |= ~itself.any(1)
    of_decoys = of_decoys[~itself].reshape(len(images), count)
    upright, turned = (
        torch.cat([_spectra(part, BLUR) for part in np.array_split(x.images, parts)])
        for x, parts in ((x, -(-len(x) // 1024)) for x in (images, decoys))
    )
    size = images.images.shape[1:3]
    return Compared(
        labels=images.labels,
        places=places,
        similarity=_similarity(upright, upright, places, size),
        decoy_places=of_decoys,
        decoy_similarity=_similarity(turned, upright, of_decoys, size),
    )


@dataclass(frozen=True, kw_only=True)
class NearPairs:
    """Pairs more alike than chance makes them, and the check that says so.

    Attributes:
        pairs: One row a pair, the most alike first: first, second (positions, first <
            second), similarity, and conflict, whether their labels differ.
        threshold: Smallest similarity of a pair that counts; NaN if there is none.
        check: One row a similarity: similarity, found (images that have another at
            least so alike), decoys (decoys of which that is true) and precision, the
            share of those found that is not expected to be chance.
        runners_up: As pairs, those just below the threshold, as many as 40.
    """

    pairs: pd.DataFrame
    threshold: float
    check: pd.DataFrame
    runners_up: pd.DataFrame


def near(
    compared: Compared, *, precision: float = 0.95, across_labels: bool = False
) -> NearPairs:
    """Pairs of images that are more alike than upside-down images are to any.

    An image upside down has no twin but by chance. At a similarity that n images and d
    decoys reach, about d of the n are expected to be chance (the target-decoy approach
    of proteomics, Elias and Gygi, 2007): the precision is taken to be 1 - (d + 2) / n.
    The two more, a pair, make a short list earn its trust: fewer than 40 images never
    reach 0.95. Where turned images do resemble others, as a turned 6 resembles a 9, the
    threshold is stricter.

    Most twins have one label, and most pairs of chance two, so that the pairs with two
    labels among all that are found are far less precise than the list. For those ask
    ``across_labels``: they get a check, and a threshold, of their own.

    Args:
        compared: What ``compare`` returned.
        precision: Wanted among the images found, in (0, 1]; the threshold is the
            smallest similarity that has it.
        across_labels: Look at no pairs but those whose labels differ.

    Returns:
        Pairs with their similarity, the threshold, and the check.

    Raises:
        ValueError: If the precision is out of range.
    """
    if not 0 < precision <= 1:
        raise ValueError(f"precision is a share in (0, 1], got {precision}")
    labels = compared.labels
    conflict = labels[compared.places] != labels[:, None]
    similarity, decoys = compared.similarity, compared.decoy_similarity
    if across_labels:
        decoy_conflict = labels[compared.decoy_places] != labels[:, None]
        similarity = np.where(conflict, similarity, -1.0)
        decoys = np.where(decoy_conflict, decoys, -1.0)
    found, chance = (-np.sort(-values.max(1)) for values in (similarity, decoys))
    reached = np.searchsorted(-chance, -found, side="right")  # decoys as alike, or more
    share = 1 - (reached + 2) / np.arange(1, len(found) + 1)
    good = np.flatnonzero(share >= precision)
    threshold = float(found[good[-1]]) if len(good) else float("nan")

    first = np.repeat(np.arange(len(labels)), compared.places.shape[1])
    second = compared.places.ravel()
    pairs = pd.DataFrame(
        {
            "first": np.minimum(first, second),
            "second": np.maximum(first, second),
            "similarity": similarity.ravel(),
            "conflict": conflict.ravel(),
        }
    ).drop_duplicates(["first", "second"])
    if across_labels:
        pairs = pairs[pairs["conflict"]]
    pairs = pairs.sort_values(
        ["similarity", "first", "second"],
        ascending=[False, True, True],
        ignore_index=True,
    )
    # The same two images, compared the other way round, may differ in the last digit.
    enough = pairs["similarity"] >= (threshold - 1e-6 if len(good) else np.inf)
    shown = np.unique(np.geomspace(1, len(found), 200).astype(int)) - 1
    return NearPairs(
        pairs=pairs[enough],
        threshold=threshold,
        check=pd.DataFrame(
            {
                "similarity": found[shown],
                "found": shown + 1,
                "decoys": reached[shown],
                "precision": share[shown],
            }
        ),
        runners_up=pairs[~enough].head(40).reset_index(drop=True),
    )


def _similarity(
    spectra: torch.Tensor,
    others: torch.Tensor,
    places: np.ndarray,
    size: tuple[int, ...],
) -> np.ndarray:
    """Of each image to the others at its places [N, k], shape [N, k]."""
    columns = [
        np.concatenate(
            [
                _peaks(spectra[rows] * others[column[rows]].conj(), size, SHIFT)
                for rows in torch.arange(len(spectra)).split(1024)
            ]
        )
        for column in torch.from_numpy(places).T
    ]
    return np.stack(columns, axis=1)
