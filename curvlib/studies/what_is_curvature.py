"""What does the curvature of the loss around one sample measure?

Points in the plane, some under the wrong label, and a small network that memorises
them: here the exact answer can be computed, and everything can be seen.
"""

import numpy as np
import pandas as pd

from curvlib import metrics, scores
from curvlib.studies import Measured

RECIPE = 1
PARTS = ("networks",)
SIDE = 160  # points of the map on a side


def measure(
    *,
    num_per_class: int = 15,
    wrong_share: float = 0.3,
    activation: str = "softplus",
    width: int = 64,
    steps: int = 1000,
    snapshots: int = 20,
    num_probes: int = 10,
    step: float = 0.001,
    seeds: list[int] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9],  # noqa: B006
) -> Measured:
    """Train on points in the plane, and measure curvature exactly and by probes.

    Args: as in the notebook of this name.

    Returns:
        Of the first seed: ``points`` (x, y, label, wrong), ``estimates`` (a row for
        each snapshot and point: step, point, wrong, exact and estimate of tr(H²)),
        ``snapshots`` (step, accuracy), and arrays over a square map of the plane, whose
        corners ``map`` has: ``chance`` [2, side, side], the probability of class 1
        early and at the end, and ``loss`` [2, side, side], that of either label at the
        end, in nats. Of all seeds: ``auroc`` (seed, score, auroc).
    """
    import torch

    from curvlib.studies import toy

    x, y, wrong = toy.two_classes(num_per_class, wrong_share=wrong_share, seed=seeds[0])
    how = {"width": width, "activation": activation, "steps": steps}
    how |= {"snapshots": snapshots}
    probes = {"num_probes": num_probes, "step": step}
    networks, at_step = toy.train(x, y, seed=seeds[0], **how)
    squares, _ = _curvature(networks, x, y, **probes)
    exact = np.stack(
        [toy.exact_squared_frobenius_norm(n, x, y).numpy() for n in networks]
    )
    corners = x.min(0).values.numpy() - 0.7, x.max(0).values.numpy() + 0.7
    across, up = _map(*corners)
    grid = torch.from_numpy(np.stack([across.ravel(), up.ravel()], axis=1))
    early = max(0, snapshots // 10 - 1)
    with torch.no_grad():
        chance = [networks[n](grid).softmax(1)[:, 1] for n in (early, -1)]
        loss = -networks[-1](grid).log_softmax(1).T
        right = [(n(x).argmax(1) == y).double().mean().item() for n in networks]
    rows = []
    for seed in seeds:
        points, labels, flipped = toy.two_classes(
            num_per_class, wrong_share=wrong_share, seed=seed
        )
        states, _ = toy.train(points, labels, seed=seed, **how)
        found = _curvature(states, points, labels, **probes)
        rows += _aurocs(*found, flipped, seed)
    return Measured(
        tables={
            "points": pd.DataFrame(
                {"x": x[:, 0], "y": x[:, 1], "label": y, "wrong": wrong}
            ),
            "snapshots": pd.DataFrame({"step": at_step, "accuracy": right}),
            "map": pd.DataFrame(
                {
                    "low": corners[0],
                    "high": corners[1],
                    "early": at_step[early],
                    "last": at_step[-1],
                },
            ),
            "chance": np.stack(chance).reshape(2, SIDE, SIDE).astype(np.float32),
            "loss": loss.numpy().reshape(2, SIDE, SIDE).astype(np.float32),
            "estimates": pd.DataFrame(
                {
                    "step": np.repeat(at_step, len(x)),
                    "point": np.tile(np.arange(len(x)), len(networks)),
                    "wrong": np.tile(wrong, len(networks)),
                    "exact": exact.ravel(),
                    "estimate": squares.ravel(),
                }
            ),
            "auroc": pd.DataFrame(rows),
        },
        data={},
    )


def _map(low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    side = np.linspace(-1, 1, SIDE)
    middle, half = (low + high) / 2, (high - low) / 2
    return np.meshgrid(middle[0] + side * half[0], middle[1] + side * half[1])


def plane(corners: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates of the map, two arrays of shape [side, side], from ``map``."""
    return _map(corners["low"].to_numpy(), corners["high"].to_numpy())


def _curvature(networks, x, y, **options) -> tuple[np.ndarray, np.ndarray]:
    """Estimates of tr(H²) and losses at each snapshot, two arrays [E, N]."""
    import torch

    from curvlib import input_curvature

    found = [
        input_curvature(
            network,
            x,
            y,
            generator=torch.Generator().manual_seed(number),  # new probes each time
            **options,
        )
        for number, network in enumerate(networks)
    ]
    squares = np.stack([e.squared_frobenius_norm.numpy() for e in found])
    return squares, np.stack([e.loss.numpy() for e in found])


def _aurocs(
    squares: np.ndarray, losses: np.ndarray, wrong: np.ndarray, seed: int
) -> list[dict]:
    values = {
        "curvature, mean over training": scores.curvature_square(squares),
        "curvature, last snapshot": scores.curvature_last(squares),
        "cumulative loss": scores.cumulative_loss(losses),
        "random": scores.random(np.arange(len(wrong)), seed=seed),
    }
    return [
        {"seed": seed, "score": name, "auroc": metrics.auroc(score, wrong)}
        for name, score in values.items()
    ]


def relative_error(estimates: pd.DataFrame) -> pd.Series:
    """How far a point's mean estimate is from the exact mean, as a share of it.

    Args:
        estimates: The table of that name.
    """
    means = estimates.groupby("point")[["exact", "estimate"]].mean()
    return (means["estimate"] - means["exact"]).abs() / means["exact"]
