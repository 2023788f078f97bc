"""What does each score cost?

Training and every way of scoring are timed in turn on the same images, and the scores
of a run are counted in trainings.
"""

import pandas as pd

from curvlib.scores import SCORES
from curvlib.studies import Measured, checksums, published

RECIPE = 1
PARTS = ("data", "networks", "scoring")


def measure(
    *,
    dataset: str = "digits",
    num_timed: int = 512,
    model: str = "slim_resnet",
    width: int = 16,
    epochs: int = 30,
    batch_size: int = 64,
    probes: list[int] = [1, 2, 10],  # noqa: B006
    repeats: int = 5,
    step: float = 0.001,
) -> Measured:
    """Time one epoch of training and of each way of scoring.

    Args: as in the notebook of this name.

    Returns:
        ``timing``: what, repeat, seconds_per_sample, over_training (the ratio to
        training in the same repeat). ``scores``: score, needs, epochs (scored for it),
        trainings (training included), bytes_per_sample and num_probes; scores that need
        no probes once.
    """
    import numpy as np
    import torch

    from curvlib import data
    from curvlib.runs import networks
    from curvlib.runs.devices import best_device
    from curvlib.studies import costs

    device = best_device()

    images = data.load(dataset)
    images = images.select(np.arange(min(num_timed, len(images))))
    x = data.normalise(images.tensor().to(device), *images.statistics())
    network = networks.build(
        model,
        num_classes=len(images.classes),
        input_shape=tuple(x.shape[1:]),
        width=width,
    ).to(device)
    timing = costs.measure(
        network,
        x,
        torch.from_numpy(images.labels).to(device),
        batch_size=batch_size,
        num_probes=probes,
        step=step,
        repeats=repeats,
    )
    table = pd.concat(
        costs.of_scores(timing, epochs=epochs, num_probes=n).assign(num_probes=n)
        for n in probes
    )
    probed = table["needs"].str.startswith("curvature")
    table = table[probed | (table["num_probes"] == probes[0])]
    return Measured(
        tables={"timing": timing, "scores": table.reset_index(drop=True)},
        data=checksums(dataset),
        device=device,
    )


def by_contestant(timing: pd.DataFrame) -> pd.DataFrame:
    """Median time of each contestant, and its ratio to training over the repeats.

    Args:
        timing: The table of that name.

    Returns:
        Columns what, ms (a sample), ratio, lowest, highest, in the order of timing.
    """
    grouped = timing.groupby("what", sort=False)
    ratio = grouped["over_training"].agg(["median", "min", "max"])
    ratio.columns = ["ratio", "lowest", "highest"]
    ratio.insert(0, "ms", 1e3 * grouped["seconds_per_sample"].median())
    return ratio.reset_index()


def with_ensembles(scores: pd.DataFrame) -> pd.DataFrame:
    """Cost in trainings of every score and of the released ensembles, dearest first.

    Args:
        scores: The table of that name.

    Returns:
        Columns name, trainings and kind: ``"one network"`` (measured here) or
        ``"ensemble"`` (counted: models times the share of samples each was trained on).
    """
    rows = [
        {
            "name": f"{SCORES[row.score].label}, n = {row.num_probes}"
            if "curvature" in row.needs
            else SCORES[row.score].label,
            "trainings": row.trainings,
            "kind": "one network",
        }
        for row in scores.itertuples()
    ]
    rows += [
        {
            "name": f"memorization, {RELEASED_FOR[name]}",
            "trainings": models * published.MEMORIZATION_SHARE,
            "kind": "ensemble",
        }
        for name, models in published.MEMORIZATION_MODELS.items()
    ]
    return pd.DataFrame(rows).sort_values(
        "trainings", ascending=False, kind="stable", ignore_index=True
    )


def numbers(record) -> dict[str, float]:
    """The numbers that the page tells, in trainings where nothing else is said."""
    table = record["scores"].set_index(["score", "num_probes"])["trainings"]
    probes = record.parameters.probes
    few, many = (table["curvature_square", n] for n in (probes[0], probes[-1]))
    models = published.MEMORIZATION_MODELS["cifar100"]
    ensemble = models * published.MEMORIZATION_SHARE
    return {
        "num_epochs": record.parameters.epochs,
        "few": probes[0],
        "many": probes[-1],
        "cost_few": few,
        "cost_many": many,
        "cost_logits": table["cumulative_loss", probes[0]],
        "cost_last": table["curvature_last", probes[0]],
        "fz_models": models,
        "fz_share": published.MEMORIZATION_SHARE,
        "fz_trainings": ensemble,
        "fz_over": ensemble / few,
        "published_two": published.TRAININGS["curvature_norm", 2],
        "published_ten": published.TRAININGS["curvature_norm", 10],
    }


RELEASED_FOR = {"cifar100": "CIFAR-100", "imagenet": "ImageNet"}
PUBLISHED = (
    f"{published.TRAININGS['curvature_norm', 2]:.1f} trainings (n = 2) to "
    f"{published.TRAININGS['curvature_norm', 10]:.1f} (n = 10), Ravikumar et al. 2025"
)
