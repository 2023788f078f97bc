"""Images and their labels: loading, label noise, augmentation, files, duplicates."""

from curvlib.data.images import PADDING, Images, augment, normalise
from curvlib.data.loading import IMAGE_SIZE, NAMES, load
from curvlib.data.noise import (
    HUMAN,
    HUMAN_FILES,
    NOISES,
    with_human_labels,
    with_pair_flip,
    with_planted_duplicates,
    with_symmetric_noise,
)

RECIPE = 1  # of images, their order, label noise and augmentation

__all__ = [
    "HUMAN",
    "HUMAN_FILES",
    "IMAGE_SIZE",
    "NAMES",
    "NOISES",
    "PADDING",
    "RECIPE",
    "Images",
    "augment",
    "load",
    "normalise",
    "with_human_labels",
    "with_pair_flip",
    "with_planted_duplicates",
    "with_symmetric_noise",
]
