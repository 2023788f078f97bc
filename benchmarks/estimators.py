"""Measure the estimators side by side, and write results/bench/*.csv.

    python benchmarks/estimators.py [--quick] [--only TABLE] [--device cuda]

Ratios are taken within one run: every repetition times each contestant once, in turn,
so that what else the machine does hits all of them alike. Nothing else should train
meanwhile. ``--quick`` is for the test: tiny sizes, meaningless numbers. On a GPU the
batches are larger, and memory_and_linearity, which is about the host, is left out.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from released import released_scores, scale
from scipy.stats import spearmanr
from torch import nn
from torch.func import grad, jvp

from curvlib import data, hvp
from curvlib.curvature import input_curvature, rademacher
from curvlib.files import write_atomically
from curvlib.models import fold_batch_norm
from curvlib.runs import networks
from curvlib.runs.provenance import hardware, versions
from curvlib.studies import costs

STEP = 1e-3
SIZES = {  # images in a batch
    "cpu": {"slim_resnet": 128, "resnet18": 32},
    "cuda": {"slim_resnet": 2048, "resnet18": 512},
}
DEVICE = "cpu"  # main sets it


def network(name: str, *, quick: bool) -> nn.Module:
    """ResNet-18 of width 64 or the slim net of width 16, statistics not trivial."""
    width = 4 if quick else {"resnet18": 64, "slim_resnet": 16}[name]
    model = networks.build(name, num_classes=10, input_shape=(3, 32, 32), width=width)
    generator = torch.Generator().manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            shape = module.running_mean.shape
            module.running_mean = 0.1 * torch.randn(shape, generator=generator)
            module.running_var = 0.5 + torch.rand(shape, generator=generator)
    return model.to(DEVICE).eval()


def inputs(size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Normal noise of CIFAR's shape: time does not depend on what the images show."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(size, 3, 32, 32, generator=generator)
    return x.to(DEVICE), torch.randint(10, (size,), generator=generator).to(DEVICE)


def timed(call) -> float:
    """Seconds of one call, the work of the device included."""
    return costs.timed(call, DEVICE)


def against_released(*, quick: bool) -> pd.DataFrame:
    """Seconds a sample of the released algorithm and of ours, same probes, n = 10.

    The model as given is folded in each call; the folded one was, once, before all.
    """
    rows = []
    repeats, num_probes = (2, 2) if quick else (5, 10)
    for name, size in SIZES[DEVICE].items():
        size = 8 if quick else size
        model = network(name, quick=quick)
        folded = fold_batch_norm(model)
        x, y = inputs(size)
        last = x.contiguous(memory_format=torch.channels_last)
        probes = rademacher(
            num_probes, x.shape[1:], generator=torch.Generator().manual_seed(0)
        ).to(DEVICE)
        settings = {"num_probes": num_probes, "step": STEP}
        contestants = {
            "released": partial(released_scores, model, x, y, probes.float(), STEP),
            "ours, model as given": partial(input_curvature, model, x, y, **settings),
            "ours, folded and channels last": partial(
                input_curvature, folded, last, y, **settings
            ),
        }
        for call in contestants.values():
            call()  # the first call allocates and compiles kernels
        for repeat in range(repeats):
            seconds = {who: timed(call) for who, call in contestants.items()}
            rows += [
                {
                    "model": name,
                    "batch": size,
                    "num_probes": num_probes,
                    "repeat": repeat,
                    "contestant": who,
                    "seconds_per_sample": s / size,
                    "times_faster": seconds["released"] / s,
                }
                for who, s in seconds.items()
            ]
    return pd.DataFrame(rows)


def plain_call(*, quick: bool) -> pd.DataFrame:
    """How many times the plain call is as fast as the released algorithm.

    ``input_curvature(model, x, y)`` folds batch norm by itself. Beside it the same call
    of a model that it does not fold, since somebody has a hook on it.
    """
    rows = []
    repeats = 2 if quick else 5
    for name, size in SIZES[DEVICE].items():
        size = 8 if quick else size
        model, watched = network(name, quick=quick), network(name, quick=quick)
        watched.register_forward_hook(lambda *_: None)
        x, y = inputs(size)
        probes = rademacher(
            10, x.shape[1:], generator=torch.Generator().manual_seed(0)
        ).to(x)
        ways = {
            "released": partial(released_scores, model, x, y, probes, STEP),
            "plain call": partial(input_curvature, model, x, y),
            "nothing folded": partial(input_curvature, watched, x, y),
        }
        for way in ways.values():
            way()
        seconds = [{who: timed(w) for who, w in ways.items()} for _ in range(repeats)]
        for who in ("plain call", "nothing folded"):
            faster = [each["released"] / each[who] for each in seconds]
            rows.append(
                {
                    "model": name,
                    "batch": size,
                    "contestant": who,
                    "times_faster": np.median(faster),
                    "lowest": min(faster),
                    "highest": max(faster),
                }
            )
    return pd.DataFrame(rows)


def ratios(table: pd.DataFrame) -> pd.DataFrame:
    """Median and range of the ratios of ``against_released`` over its repetitions."""
    ours = table[table["contestant"] != "released"]
    by = ours.groupby(["model", "batch", "num_probes", "contestant"], sort=False)
    found = by["times_faster"].agg(["median", "min", "max"]).reset_index()
    return found.round({"median": 2, "min": 2, "max": 2})


def same_scores(*, quick: bool) -> pd.DataFrame:
    """Ours against the released scores, its batch mean and missing 1/h undone."""
    rows = []
    size, num_probes = (8, 2) if quick else (32, 10)
    for name in ("slim_resnet", "resnet18"):
        for dtype in (torch.float64, torch.float32):
            model = network(name, quick=quick).to(dtype)
            x, y = inputs(size)
            x = x.to(dtype)
            probes = rademacher(
                num_probes, x.shape[1:], generator=torch.Generator().manual_seed(0)
            ).to(x)
            theirs = released_scores(model, x, y, probes, STEP).to(dtype)
            theirs = theirs * scale(len(x), STEP)
            ours = input_curvature(
                fold_batch_norm(model), x, y, num_probes=num_probes, step=STEP
            ).mean_hvp_norm.cpu()
            rows.append(
                {
                    "model": name,
                    "dtype": str(dtype).removeprefix("torch."),
                    "largest_relative_difference": (
                        ((ours - theirs).abs() / theirs.abs()).max().item()
                    ),
                    "spearman": spearmanr(ours, theirs).statistic,
                }
            )
    return pd.DataFrame(rows)


def exact_products(*, quick: bool) -> pd.DataFrame:
    """Two ways to the exact Hv of a chunk, one probe: which is faster, side by side?"""
    rows = []
    for name, size in SIZES[DEVICE].items():
        size = 8 if quick else size
        model = fold_batch_norm(network(name, quick=quick))
        for parameter in model.parameters():
            parameter.requires_grad_(False)
        x, y = inputs(size)
        x = x.contiguous(memory_format=torch.channels_last)
        generator = torch.Generator().manual_seed(0)
        v = rademacher(1, x.shape[1:], generator=generator).to(x).expand_as(x)
        found = {}

        def double_backward(model=model, x=x, y=y, v=v, found=found) -> None:
            found["double backward"] = hvp.double_backward(model, x, y)[1](v)

        def forward_over_reverse(model=model, x=x, y=y, v=v, found=found) -> None:
            def loss(inputs):
                return F.cross_entropy(model(inputs), y, reduction="sum")

            _, found["forward over reverse"] = jvp(grad(loss), (x,), (v,))

        ways = (double_backward, forward_over_reverse)
        for way in ways:
            way()
        seconds = [[timed(way) for way in ways] for _ in range(2 if quick else 7)]
        ratio = np.array([forward / double for double, forward in seconds])
        a, b = found.values()
        rows.append(
            {
                "model": name,
                "forward_over_reverse_takes_times": round(np.median(ratio), 2),
                "lowest": round(ratio.min(), 2),
                "highest": round(ratio.max(), 2),
                "largest_relative_difference": ((a - b).norm() / b.norm()).item(),
            }
        )
    return pd.DataFrame(rows)


def share_of_peak(*, quick: bool) -> pd.DataFrame:
    """Multiply-adds a second of scoring beside this machine's own best GEMM."""
    side = 256 if quick else {"cpu": 2048, "cuda": 8192}[DEVICE]
    a, b = torch.randn(2, side, side, device=DEVICE)
    torch.mm(a, b)
    gemm = max(
        side**3 / timed(lambda: torch.mm(a, b)) for _ in range(2 if quick else 20)
    )
    rows = []
    for name, size in SIZES[DEVICE].items():
        size = 8 if quick else size
        model = fold_batch_norm(network(name, quick=quick))
        x, y = inputs(size)
        x = x.contiguous(memory_format=torch.channels_last)
        num_probes = 2
        work = multiply_adds(model, x[:1])
        # The backward with respect to the input alone costs as much as the forward.
        work *= 2 * (num_probes + 1) * size

        call = partial(input_curvature, model, x, y, num_probes=num_probes)
        call()
        best = min(timed(call) for _ in range(2 if quick else 7))
        rows.append(
            {
                "model": name,
                "giga_multiply_adds_per_second": work / best / 1e9,
                "gemm_giga_multiply_adds_per_second": gemm / 1e9,
                "share": work / best / gemm,
            }
        )
    return pd.DataFrame(rows)


def multiply_adds(model: nn.Module, x: torch.Tensor) -> int:
    """Multiply-adds of one forward of one sample, in convolutions and linear layers."""
    from torch.utils.flop_counter import FlopCounterMode

    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        model(x)
    return counter.get_total_flops() // 2


def memory_and_linearity(*, quick: bool) -> pd.DataFrame:
    """Peak memory and seconds of scoring N images, each case in its own process."""
    rows = []
    sizes, probes = (
        ((64, 128), (1, 2)) if quick else ((1_000, 10_000, 50_000), (1, 10, 50))
    )
    first = probes[0]
    cases = [(size, first) for size in sizes] + [(sizes[0], k) for k in probes[1:]]
    for size, num_probes in cases:
        out = subprocess.run(
            [sys.executable, __file__, "--child", str(size), str(num_probes)],
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        rows.append({"samples": size, "num_probes": num_probes} | json.loads(out))
    return pd.DataFrame(rows)


def child(size: int, num_probes: int) -> None:
    """Score so many images from memory, a chunk at a time; print seconds and peak."""
    model = fold_batch_norm(network("slim_resnet", quick=False))
    rng = np.random.default_rng(0)
    pixels = torch.from_numpy(rng.integers(0, 256, (size, 3, 32, 32), dtype=np.uint8))
    labels = torch.from_numpy(rng.integers(0, 10, size))

    def score(rows: slice) -> torch.Tensor:
        x = data.normalise(pixels[rows], [0.5] * 3, [0.25] * 3)
        x = x.contiguous(memory_format=torch.channels_last)
        found = input_curvature(model, x, labels[rows], num_probes=num_probes)
        return found.mean_hvp_norm

    score(slice(0, 64))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.perf_counter()
    for start in range(0, size, 128):
        score(slice(start, start + 128))
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(
        json.dumps(
            {
                "seconds": seconds,
                "milliseconds_per_pass": 1e3 * seconds / (size * (num_probes + 1)),
                "images_mib": pixels.numel() / 2**20,
                "peak_mib": peak / 1024,
                "above_start_mib": (peak - before) / 1024,
            }
        )
    )


def main() -> None:
    """Measure everything and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="tiny sizes, for the test")
    parser.add_argument("--out", type=Path, default=Path("results/bench"))
    parser.add_argument("--child", nargs=2, type=int, help=argparse.SUPPRESS)
    measures = (
        against_released,
        plain_call,
        same_scores,
        exact_products,
        share_of_peak,
        memory_and_linearity,
    )
    known = [measure.__name__ for measure in measures]
    parser.add_argument("--only", choices=known, help="measure one table anew")
    parser.add_argument("--device", choices=tuple(SIZES), default="cpu")
    options = parser.parse_args()
    global DEVICE
    DEVICE = options.device
    if options.child:
        child(*options.child)
        return
    for measure in measures:
        if options.only not in (None, measure.__name__):
            continue
        if measure is memory_and_linearity and DEVICE != "cpu":
            continue
        started = time.perf_counter()
        table = measure(quick=options.quick)
        tables = {measure.__name__: table}
        if measure is against_released:
            tables["ratios"] = ratios(table)
        for name, content in tables.items():
            text = content.to_csv(index=False, lineterminator="\n", float_format="%.5g")
            write_atomically(options.out / f"{name}.csv", text.encode())
        print(f"{measure.__name__}: {time.perf_counter() - started:.0f} s")
        print(table.to_string(index=False), "\n", flush=True)
    machine = {
        "hardware": hardware(DEVICE),
        "versions": versions(),
        "quick": options.quick,
    }
    text = json.dumps(machine, indent=1) + "\n"
    write_atomically(options.out / "machine.json", text.encode())


if __name__ == "__main__":
    main()
