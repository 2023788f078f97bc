"""Duplicates: images that occur more than once, perhaps with different labels.

*Exact* duplicates have the same pixels. *Near* duplicates are neighbours in a space of
descriptors and agree in their details. How much agreement is enough is read off decoys:
the images turned upside down. These have no duplicates, so any agreement that they
reach is due to chance.

All functions take images in memory and photographs in files. Photographs are compared
as a viewer shows them: whole, before their centre is cut out for training, and with
their transparency. ``curvlib.data.folders`` says how.
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

from curvlib.data.folders import Photographs
from curvlib.data.images import Images, normalise

BLUR = 9  # pixels, of the local mean
SHIFT = 3  # pixels
RUNNERS_UP = 40  # pairs below the threshold that are kept, to look at


def exact(*splits: Images) -> pd.DataFrame:
    """Find groups of samples with the same pixels, within and between splits.

    Photographs are the same if their whole pictures are, at full size; their files may
    differ. Where decoding drops something, such as transparency or further frames, that
    must be the same, too.

    Args:
        *splits: One or more splits of one data set, so that their labels mean the same.

    Returns:
        One row for each sample that has a duplicate, sorted by group, split and index.
        Columns: group (from 0, in the order of first occurrence), split (its position
        among the arguments), index, label (the one given) and conflict (whether the
        labels of the group disagree).

    Raises:
        ValueError: If there is no split, the splits have different classes, or one is
            in memory and another in files.

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
        in_files = [isinstance(i.images, Photographs) for i in (images, splits[0])]
        if in_files[0] != in_files[1]:
            raise ValueError(
                f"{images.name} and {splits[0].name}: one is in memory and the other "
                "in files, so their pixels can't be compared; load both in one way"
            )
    parts = [
        pd.DataFrame(
            {
                "pixels": _digests(images),
                "split": number,
                "index": images.index,
                "label": images.labels,
            }
        )
        for number, images in enumerate(splits)
    ]
    table = pd.concat(parts, ignore_index=True)
    table = table[table.groupby("pixels", sort=False)["index"].transform("size") > 1]
    by = table.groupby("pixels", sort=False)
    table = table.assign(
        group=by.ngroup(), conflict=by["label"].transform("nunique") > 1
    )
    table = table.sort_values(["group", "split", "index"], ignore_index=True)
    return table[["group", "split", "index", "label", "conflict"]]


def _digests(images: Images) -> list[bytes]:
    """A short digest of each image, equal where pixels and shape are."""
    pixels = images.images
    if isinstance(pixels, Photographs):
        return pixels.digests.tolist()
    shape = repr(pixels.shape[1:]).encode()
    return [hashlib.sha256(shape + image.tobytes()).digest() for image in pixels]


def joined(*splits: Images) -> Images:
    """Join several splits, to find duplicates within and between them.

    Args:
        *splits: One or more, of the same classes; all in memory and of one shape, or
            all in files.

    Returns:
        Their samples in order, with the labels given. As indices of different splits
        may be equal, the index is the position, 0, 1, 2, ...

    Raises:
        ValueError: If there is no split, or they have different classes, shapes or
            kinds.
    """
    if not splits:
        raise ValueError("no images were given; give at least one split")
    first, pixels = splits[0], [images.images for images in splits]
    in_files = [isinstance(part, Photographs) for part in pixels]
    for images, kind in zip(splits, in_files, strict=True):
        known = (first.classes, first.images.shape[1:], in_files[0])
        if (images.classes, images.images.shape[1:], kind) != known:
            raise ValueError(
                f"{images.name} and {first.name} must have the same classes and shape, "
                "and both be in memory or both in files"
            )
    count = sum(map(len, splits))
    return Images(
        images=Photographs.joined(pixels) if in_files[0] else np.concatenate(pixels),
        labels=np.concatenate([images.labels for images in splits]),
        index=np.arange(count),
        classes=first.classes,
        name=first.name,
    )


def _pictures(images: Images) -> np.ndarray:
    """What is compared, uint8 [N, H, W, C]: pixels, or whole photographs made small."""
    pixels = images.images
    return pixels.thumbnails() if isinstance(pixels, Photographs) else pixels


def pixel_descriptors(images: Images, *, side: int = 8) -> np.ndarray:
    """Turn images into unit vectors that ignore brightness and contrast.

    Args:
        images: N images of at least that side; of photographs, the whole pictures.
        side: Images are averaged down to so many pixels a side.

    Returns:
        float32, shape [N, C * side²], each of mean 0 and length 1; of length 0 where
        an image has one colour only.
    """
    pictures = np.ascontiguousarray(_pictures(images))
    pixels = torch.from_numpy(pictures).permute(0, 3, 1, 2).contiguous()
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
    """Turn images into unit vectors: the inputs of a network's last linear layer.

    Args:
        model: A network in evaluation mode, with a linear layer at its end.
        images: N images of the shape that the model takes; of photographs the centre,
            as in training.
        mean: Mean of each channel, of pixels in [0, 1], as in training.
        std: Standard deviation, likewise.

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
    hook = linear[-1].register_forward_pre_hook(
        lambda _, given: seen.append(given[0].cpu())
    )
    device = linear[-1].weight.device
    batches = torch.arange(len(images)).split(512)
    try:
        for part in images.reader(device)(batches):
            model(normalise(part, mean, std))
    finally:
        hook.remove()
    return F.normalize(torch.cat(seen).flatten(1), dim=1).numpy()


def upside_down(images: Images) -> Images:
    """Turn images upside down, to serve as decoys for ``compare``.

    Args:
        images: In memory or in files, where they stay.

    Returns:
        The same samples, with the order of the rows of each image reversed.
    """
    pixels = images.images
    if isinstance(pixels, Photographs):
        return replace(images, images=pixels.turned())
    return replace(images, images=pixels[:, ::-1].copy())


def detail_correlation(
    first: np.ndarray, second: np.ndarray, *, blur: int = BLUR, shift: int = SHIFT
) -> np.ndarray:
    """Correlation of the details of two images, at the best shift.

    Details are the grey values minus their local mean, so that two skies that fade
    alike have nothing in common. Shifts go round the edges.

    Args:
        first: uint8, shape [n, H, W, C]; or photographs, which are read.
        second: Of the same shape.
        blur: Side of the square over which the local mean is taken, odd, in pixels.
        shift: Largest shift tried along each axis, in pixels.

    Returns:
        Correlations in [-1, 1], shape [n]; 0 where an image has no details.

    Raises:
        ValueError: If the shapes differ.
    """
    first, second = first[:], second[:]
    if first.shape != second.shape:
        raise ValueError(
            f"images can be compared if their shapes are equal, got "
            f"{list(first.shape)} and {list(second.shape)}"
        )
    product = _spectra(first, blur) * _spectra(second, blur).conj()
    return _peaks(product, first.shape[1:3], shift)


def _spectra(images: np.ndarray, blur: int) -> torch.Tensor:
    """Fourier transforms of the details, each of length 1, [n, H, W // 2 + 1]."""
    # A copy: images may be turned, and torch takes no negative strides.
    grey = torch.from_numpy(np.array(images)).float().mean(3)[:, None]
    local = F.avg_pool2d(grey, blur, 1, blur // 2, count_include_pad=False)
    details = (grey - local)[:, 0]
    length = details.flatten(1).norm(dim=1)[:, None, None]
    # Rounding leaves some 1e-5 of a grey value where there is no detail.
    details = torch.where(length > 1e-2, details / length.clamp(min=1e-2), 0.0)
    return torch.fft.rfft2(details)


def _peaks(product: torch.Tensor, size: tuple[int, ...], shift: int) -> np.ndarray:
    at_shift = torch.fft.irfft2(product, s=size)
    shift = min(shift, min(size) - 1)
    near_zero = torch.arange(-shift, shift + 1)
    return at_shift[:, near_zero][:, :, near_zero].amax((1, 2)).numpy()


@dataclass(frozen=True, kw_only=True)
class Compared:
    """Similarities of images and of decoys to their nearest neighbours.

    Attributes:
        labels: The labels given, int64 [N].
        places: Positions of the neighbours of each image, [N, k].
        similarity: Correlation of the details of each image with theirs, [N, k].
        decoy_places: Positions of the neighbours of each image turned upside down,
            [N, k].
        decoy_similarity: Correlation of the details of that decoy with theirs, [N, k].
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
    """Compare each image with its nearest neighbours, upright and upside down.

    Neighbours are near in the space of descriptors. The similarity of two images is
    their ``detail_correlation``; of photographs, that of the whole pictures squeezed to
    ``curvlib.data.folders.THUMBNAIL`` pixels a side, whatever the shape of each.

    Args:
        images: N images, at least two, in memory or in files.
        describe: A function of images that returns descriptors [N, D], unit vectors.
        neighbours: Number k of neighbours compared with each image. Of a group of more
            than k + 1 duplicates a part is found.

    Returns:
        Neighbours and similarities, with k at most N - 1.

    Raises:
        ValueError: If there are too few images, or a descriptor is not finite.
    """
    if len(images) < 2:
        raise ValueError(f"{images.name}: a pair takes two images, got {len(images)}")
    pictures = _pictures(images)
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
        torch.cat([_spectra(part, BLUR) for part in np.array_split(x, parts)])
        for x, parts in ((x, -(-len(x) // 1024)) for x in (pictures, pictures[:, ::-1]))
    )
    size = pictures.shape[1:3]
    return Compared(
        labels=images.labels,
        places=places,
        similarity=_similarity(upright, upright, places, size),
        decoy_places=of_decoys,
        decoy_similarity=_similarity(turned, upright, of_decoys, size),
    )


@dataclass(frozen=True, kw_only=True)
class NearPairs:
    """Pairs that are more similar than chance explains, and their precision.

    Attributes:
        pairs: One row for each pair, the most alike first: first, second (positions,
            first < second), similarity, conflict (whether their labels differ), and
            two estimates for the images that find a neighbour at least so alike:
            precision, the share of them that chance does not explain, as the decoys
            count it (0 says that the count is too small to tell); and by_chance, the
            number of them expected by chance, extrapolated from the decoys (NaN with
            ten decoys or fewer).
        threshold: Smallest similarity of a pair in ``pairs``; NaN if there is none.
        basis: How the precision wanted was established: ``"counted"``,
            ``"extrapolated"``, or ``"none"`` if it was not.
        check: One row for each of up to 200 similarities: similarity, found (images
            that have a neighbour at least so alike), decoys (decoys that have one),
            precision (as counted, which may be below 0) and by_chance.
        runners_up: As ``pairs``: those just below the threshold, at most
            ``RUNNERS_UP``.
    """

    pairs: pd.DataFrame
    threshold: float
    basis: str
    check: pd.DataFrame
    runners_up: pd.DataFrame


def near(
    compared: Compared, *, precision: float = 0.95, across_labels: bool = False
) -> NearPairs:
    """Find pairs of images that are more similar than any decoy is to an image.

    An image upside down has no duplicate. If n images and d decoys reach a similarity,
    about d of the n are expected to be due to chance (the target-decoy approach of
    proteomics, Elias and Gygi, 2007). *Counted*, the precision is taken to be
    1 - (d + 2) / n; the two more, one pair, make a short list earn its trust. Where
    turned images do resemble others, as a turned 6 resembles a 9, the threshold is
    stricter.

    Fewer than 40 images never reach 0.95 by counting. If no threshold does, the
    precision is *extrapolated*: the largest similarities of the decoys, Fisher
    transformed, are taken to have an exponential tail, which tells how many images
    would get beyond a similarity that no decoy reached. A handful of copies in a small
    folder are found in this way. ``NearPairs.basis`` says which of the two it was.

    Most duplicates have one label, and most pairs by chance have two. So the pairs with
    two labels are far less precise than the whole list. For these use
    ``across_labels``, which gives them a check and a threshold of their own.

    Args:
        compared: What ``compare`` returned.
        precision: Wanted among the images found, in (0, 1]; the threshold is the
            smallest similarity that has it.
        across_labels: Whether only pairs whose labels differ are considered.

    Returns:
        The pairs found, what is known of their precision, the threshold, and the check.

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
    count = np.arange(1, len(found) + 1)
    reached = np.searchsorted(-chance, -found, side="right")  # decoys as alike, or more
    share = 1 - (reached + 2) / count
    expected = _expected_by_chance(chance, found)
    basis, good = "counted", np.flatnonzero(share >= precision)
    if not len(good):
        basis, good = "extrapolated", np.flatnonzero(1 - expected / count >= precision)
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
    values = pairs["similarity"].to_numpy() - 1e-6
    last = np.searchsorted(-found, -values, side="right") - 1
    pairs = pairs.assign(precision=share[last].clip(0), by_chance=expected[last])
    enough = values >= (threshold - 2e-6 if len(good) else np.inf)
    shown = np.unique(np.geomspace(1, len(found), 200).astype(int)) - 1
    return NearPairs(
        pairs=pairs[enough],
        threshold=threshold,
        basis=basis if len(good) else "none",
        check=pd.DataFrame(
            {
                "similarity": found[shown],
                "found": shown + 1,
                "decoys": reached[shown],
                "precision": share[shown],
                "by_chance": expected[shown],
            }
        ),
        runners_up=pairs[~enough].head(RUNNERS_UP).reset_index(drop=True),
    )


def _expected_by_chance(chance: np.ndarray, found: np.ndarray) -> np.ndarray:
    """Number of images expected to reach a similarity by chance, beyond decoys too.

    Args:
        chance: Largest similarity of each decoy, descending, shape [N].
        found: Similarities asked for, descending, shape [n].

    Returns:
        Shape [n]: the number of decoys as alike; in their upper tenth, and beyond it,
        that of an exponential tail fitted to the tenth. NaN if N is ten or less.
    """
    most = max(10, len(chance) // 10)
    if len(chance) <= most:
        return np.full(len(found), np.nan)
    tail, asked = (
        np.arctanh(values.astype(np.float64).clip(-1 + 1e-7, 1 - 1e-7))
        for values in (chance[: most + 1], found)
    )
    begins = tail[most]
    # Two standard errors more, as few decoys tell the scale badly. No tail is thinner
    # than that of noise in some hundred pixels.
    scale = (tail[:most] - begins).mean() * (1 + 2 / most**0.5)
    beyond = most * np.exp(-(asked - begins).clip(0) / max(scale, 0.05))
    counted = np.searchsorted(-chance, -found, side="right")
    return np.where(asked > begins, beyond, counted)


def _similarity(
    spectra: torch.Tensor,
    others: torch.Tensor,
    places: np.ndarray,
    size: tuple[int, ...],
) -> np.ndarray:
    """Similarity of each image to the others at its places [N, k], shape [N, k]."""
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
