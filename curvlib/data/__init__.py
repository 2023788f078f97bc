"""Images and their labels: loading, label noise, augmentation, files, duplicates.

``load`` returns ``Images``, which all other functions take. Images are in memory, or in
files that are read when needed. Every function works with both.
"""

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

# For images, their order, label noise and augmentation. The decoding of photographs has
# its own number, ``folders.DECODING``, which is part of their checksum.
RECIPE = 1

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
