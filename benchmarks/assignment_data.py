"""The two small tables that the assignments of the book read; made once, kept in git.

``python benchmarks/assignment_data.py ensemble`` trains networks on random parts of the
digits, some of them with wrong labels, and keeps what each network gets right.

``python benchmarks/assignment_data.py features`` keeps pretrained features of the first
photographs of CIFAR-10: principal components, in eight bits, without the photographs.
"""

import sys
from pathlib import Path

import numpy as np

from curvlib import data, scores
from curvlib.data.noise import with_symmetric_noise
from curvlib.runs import ensembles, training

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "notebooks" / "assignments" / "data"
WRONG = 0.05  # share of the labels of the digits that are wrong
NUM_DIGITS, NUM_TEST = 800, 300
NUM_MODELS = 300
NUM_PHOTOGRAPHS, NUM_UNSEEN = 3000, 2000
COMPONENTS = 96


def ensemble(folder: Path = FOLDER, *, num_models: int = NUM_MODELS) -> Path:
    """What each of M networks gets right, and scores of one run on all samples.

    Args:
        folder: Where ``ensemble.npz`` is written.
        num_models: Networks M.

    Returns:
        The file. Arrays: ``inside``, ``correct`` and ``correct_test``, bits of rows of
        M networks; ``labels`` (given), ``original_labels``, ``images``, ``test_labels``
        and ``test_images``; ``curvature`` and ``cumulative_loss`` of one run.
    """
    whole = data.load("digits").select(np.arange(NUM_DIGITS))
    images = with_symmetric_noise(whole, WRONG, seed=0)
    test = data.load("digits", split="test").select(np.arange(NUM_TEST))
    config = ensembles.EnsembleConfig(num_models=num_models, width=64, epochs=30)
    runs = ROOT / "runs"
    made = ensembles.train(config, images, test, runs=runs, n_jobs=1)
    trace = training.fit(config.training(num_probes=5), images, runs=runs)
    found = scores.compute(trace)
    return _written(
        folder / "ensemble.npz",
        inside=np.packbits(made.inside, axis=1),
        correct=np.packbits(made.correct, axis=1),
        correct_test=np.packbits(made.correct_test, axis=1),
        labels=images.labels.astype(np.uint8),
        original_labels=images.original_labels.astype(np.uint8),
        images=images.images[:].squeeze(-1),
        test_labels=test.labels.astype(np.uint8),
        test_images=test.images[:].squeeze(-1),
        curvature=found["curvature_norm"].to_numpy(np.float32),
        cumulative_loss=found["cumulative_loss"].to_numpy(np.float32),
    )


def features(
    folder: Path = FOLDER,
    *,
    num_train: int = NUM_PHOTOGRAPHS,
    num_unseen: int = NUM_UNSEEN,
    extractor: str = "lite0",
    cache: str | None = None,
) -> Path:
    """Principal components of pretrained features of CIFAR-10, in eight bits.

    Args:
        folder: Where ``cifar10_features.npz`` is written.
        num_train: Photographs to train on, the first of the training split.
        num_unseen: Further photographs, the next ones.
        extractor: As ``curvlib.runs.features`` names it.
        cache: Folder of features that were extracted before.

    Returns:
        The file. Arrays: ``features``, int8 [N, D], each component divided by
        ``scale`` [D]; ``labels``, uint8 [N]; ``num_train``; ``classes``.
    """
    from curvlib.runs.features import extract

    images = data.load("cifar10").select(np.arange(max(10_000, num_train + num_unseen)))
    options = {} if cache is None else {"cache": cache}
    vectors = extract(images, extractor, size=96, **options).vectors
    vectors = np.asarray(vectors[: num_train + num_unseen], dtype=np.float64)
    mean = vectors[:num_train].mean(0)
    # Of the training part alone: what is unseen must not shape the components.
    _, _, axes = np.linalg.svd(vectors[:num_train] - mean, full_matrices=False)
    components = (vectors - mean) @ axes[:COMPONENTS].T
    scale = np.abs(components).max(0) / 127
    return _written(
        folder / "cifar10_features.npz",
        features=np.round(components / scale).astype(np.int8),
        scale=scale.astype(np.float32),
        labels=images.labels[: num_train + num_unseen].astype(np.uint8),
        num_train=np.array(num_train),
        classes=np.array(images.classes),
    )


def _written(file: Path, **arrays: np.ndarray) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(file, **arrays)
    print(f"{file}: {file.stat().st_size / 1e6:.2f} MB")
    return file


if __name__ == "__main__":
    {"ensemble": ensemble, "features": features}[sys.argv[1]]()
