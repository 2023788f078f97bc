"""Which network generalises to unseen images in minutes, then memorises, on two cores?

    python benchmarks/regime.py [--quick] [--only speed|accuracy] [--finished]

Writes regime_speed.csv and regime_accuracy.csv to results/pilot. ``speed`` times
candidates of one architecture, with random images of 32 by 32 pixels. ``accuracy``
trains the chosen one on CIFAR-10 with one label in ten wrong and on CIFAR-100: first
augmented, so that it generalises, then without, so that it memorises. It takes hours;
``--finished`` reads what is there of the runs. The table results/pilot/regime.csv was
collected by hand from earlier versions of this file. ``--quick`` is for the test: tiny
sizes, 500 images of digits, meaningless numbers.

Nothing here looks at how well curvature finds anything.
"""

import argparse
import math
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import pandas as pd
import torch
import torch.nn.functional as F
from torch import nn

from curvlib.curvature import input_curvature
from curvlib.models import fold_batch_norm
from curvlib.runs.networks import WhitenedNet
from curvlib.runs.settings import GENERALISE_FIRST, PRECISIONS, TrainConfig
from curvlib.runs.training import fit, prepare, run_name, splits_of
from curvlib.trace import Trace, write_atomically

SHAPES = {  # kernel, stride, filters of the whitening layer; channels of the blocks
    "A": ((2, 1, 24), (32, 128, 128)),
    "B": ((2, 1, 24), (64, 128, 128)),
    "W": ((2, 1, 24), (32, 128, 256)),
    "E": ((3, 2, 32), (64, 128, 128)),
    "G": ((3, 2, 32), (64, 128, 256)),
    "I": ((3, 2, 32), (128, 256, 256)),
}
CHOSEN = GENERALISE_FIRST.changed(
    dataset="cifar10", num_heldout=4000, noise_rate=0.1, score_original_labels=True
)
TRAINED = (
    CHOSEN,
    CHOSEN.changed(
        dataset="cifar100",
        num_heldout=10_000,
        noise_rate=0.0,
        score_original_labels=False,
    ),
    CHOSEN.changed(seed=1),
    CHOSEN.changed(dataset="cifar100"),
)
QUICK = CHOSEN.changed(
    dataset="digits",
    num_train=500,
    num_heldout=100,
    width=8,
    epochs=2,
    augment_epochs=1,
    batch_size=50,
    score_every=1,
)


def speed(*, quick: bool) -> pd.DataFrame:
    """Time one step of training and one chunk of scoring, for each candidate.

    Args:
        quick: Two candidates and few images.

    Returns:
        One row per candidate, rates in images per second of wall-clock time.
    """
    rows = []
    for name, (first, widths) in list(SHAPES.items())[: 2 if quick else None]:
        kernel, stride, filters = first
        torch.manual_seed(0)
        model = WhitenedNet(
            10,
            input_shape=(3, 32, 32),
            widths=widths,
            kernel=kernel,
            stride=stride,
            filters=filters,
        ).to(memory_format=torch.channels_last)
        row = {
            "network": name,
            "whitening layer": (
                f"{kernel} × {kernel}, stride {stride}, {filters} filters"
            ),
            "channels of the blocks": ", ".join(map(str, widths)),
            "parameters (thousands)": round(
                sum(p.numel() for p in model.parameters()) / 1000
            ),
            "forward pass (GFLOP an image)": round(gflop(model), 4),
        }
        batch, chunk = (8, 8) if quick else (500, 128)
        for precision in PRECISIONS:
            row[f"training, {precision} (images/s)"] = round(
                pace(training_step(model, batch, precision), batch, quick=quick)
            )
        row["scoring, one probe (images/s)"] = round(
            pace(scoring_step(model, chunk), chunk, quick=quick)
        )
        row["threads"] = torch.get_num_threads()
        rows.append(row)
        print(row, flush=True)
    return pd.DataFrame(rows)


def gflop(model: nn.Module) -> float:
    """Count the work of the convolutions in one forward pass of one image.

    Args:
        model: A network for images of 32 by 32 pixels.

    Returns:
        Billions of operations; a multiplication and an addition are two.
    """
    counts, hooks = [], []

    def count(layer: nn.Conv2d, _, out: torch.Tensor) -> None:
        counts.append(2 * out[0].numel() * layer.weight[0].numel())

    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            hooks.append(module.register_forward_hook(count))
    with torch.no_grad():
        model.eval()(torch.zeros(1, 3, 32, 32))
    for hook in hooks:
        hook.remove()
    return sum(counts) / 1e9


def pace(step: Callable[[], object], images: int, *, quick: bool) -> float:
    """Images per second of a step, after two steps that do not count.

    Args:
        step: What is timed.
        images: That one step takes.
        quick: Time one step, not eight.

    Returns:
        The rate.
    """
    step(), step()
    count = 1 if quick else 8
    started = time.perf_counter()
    for _ in range(count):
        step()
    return images * count / (time.perf_counter() - started)


def random_batch(size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Images [B, 3, 32, 32] in channels-last order, and labels [B]."""
    x = torch.randn(size, 3, 32, 32).contiguous(memory_format=torch.channels_last)
    return x, torch.randint(10, (size,))


def training_step(model: nn.Module, size: int, precision: str) -> Callable[[], None]:
    """One step of SGD on random images, as a run takes it."""
    x, y = random_batch(size)
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.SGD(weights, lr=0.01, momentum=0.9, nesterov=True)

    def step() -> None:
        model.train()
        reduced = precision != "float32"
        with torch.autocast("cpu", PRECISIONS[precision], enabled=reduced):
            logits = model(x)
        optimizer.zero_grad()
        F.cross_entropy(logits.float(), y).backward()
        optimizer.step()

    return step


def scoring_step(model: nn.Module, size: int) -> Callable[[], object]:
    """The curvature of random images with one probe, as a run computes it."""
    folded, (x, y) = fold_batch_norm(model), random_batch(size)
    return lambda: input_curvature(folded, x, y, num_probes=1)


def accuracy(
    configs: Iterable[TrainConfig], runs: str | Path, *, finished: bool = False
) -> pd.DataFrame:
    """Train, and look at the ends of both parts.

    Args:
        configs: With held-out images and a restart, scored at the ends of both parts.
        runs: Folder of all runs.
        finished: Train nothing; leave out what is not there yet.

    Returns:
        One row per run and part: accuracy on held-out images, labels learned, minutes.
    """
    rows = []
    for config in configs:
        images, heldout = prepare(config)
        folder = Path(runs) / run_name(config, splits_of(config, images, heldout))
        if finished and not (folder / "log.csv").exists():
            continue
        trace = (
            Trace.open(folder) if finished else fit(config, images, heldout, runs=runs)
        )
        samples, log = trace.samples("train"), trace.log()
        wrong = (samples["label"] != samples["original_label"]).to_numpy()
        machine = trace.info["hardware"]
        for part, end in (
            ("augmented", config.augment_epochs),
            ("without augmentation", config.epochs),
        ):
            if end not in trace.epochs:  # not there yet
                continue
            place = trace.epochs.tolist().index(end)
            right, so_far = trace.read("correct")[place], log[:end].sum()
            unseen = trace.read("correct", "heldout")[place]
            learned = 100 * right[wrong].mean() if wrong.any() else math.nan
            rows.append(
                {
                    "data set": config.dataset,
                    "labels replaced (%)": round(100 * config.noise_rate),
                    "seed": config.seed,
                    "part": part,
                    "last epoch": end,
                    "accuracy on held-out images (%)": round(100 * unseen.mean(), 2),
                    "wrong labels learned (%)": round(learned, 2),
                    "other labels learned (%)": round(100 * right[~wrong].mean(), 2),
                    "training so far (min)": round(so_far["train_seconds"] / 60, 2),
                    "scoring so far (min)": round(so_far["score_seconds"] / 60, 2),
                    "processor": machine["processor"],
                    "threads": machine["threads"],
                }
            )
            print(rows[-1], flush=True)
    return pd.DataFrame(rows)


def main() -> None:
    """Measure, and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="tiny, for the test")
    parser.add_argument("--only", choices=("speed", "accuracy"), help="one table")
    parser.add_argument("--finished", action="store_true", help="train nothing")
    parser.add_argument("--out", type=Path, default=Path("results/pilot"))
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    options = parser.parse_args()
    tables = {
        "speed": lambda: speed(quick=options.quick),
        "accuracy": lambda: accuracy(
            [QUICK] if options.quick else TRAINED,
            options.runs,
            finished=options.finished,
        ),
    }
    options.out.mkdir(parents=True, exist_ok=True)
    for name, table in tables.items():
        if options.only in (None, name):
            text = table().to_csv(index=False, lineterminator="\n")
            write_atomically(options.out / f"regime_{name}.csv", text.encode())


if __name__ == "__main__":
    main()
