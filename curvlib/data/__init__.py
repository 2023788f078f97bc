"""Images and their labels: loading, label noise, augmentation, files, duplicates.

``load`` gives ``Images``, which everything else takes. They are in memory, or in files
that are read when needed; every function here works with both.
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

# Of images, their order, label noise and augmentation. How photographs are decoded has
# a number of its own, ``folders.DECODING``, which is part of their checksum.
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
