"""Forty minutes on one GPU: tests, timings, and two runs in the paper's setting.

    make gpu                              that is: python benchmarks/gpu.py
    python benchmarks/gpu.py --minutes 15 stop in time, and go on another day

In this order, each when the one before is done:

1. ``tests/test_cuda.py``; if a test fails, nothing else runs;
2. ``benchmarks/estimators.py`` on the card, into results/bench/gpu;
3. ResNet-18 on CIFAR-10 with one label in ten wrong, 200 epochs, every fourth of them
   scored with two probes: the record paper/mislabelled_gpu;
4. the same on CIFAR-100 with its own labels: the record paper/gallery_gpu.

A training run keeps every epoch and a record is written whole or not at all, so the
command goes on where it was stopped, even by a power cut. Nobody has run steps 3 and 4
yet: by estimate they take 20 minutes each on an H100. ``make book`` draws the pages.
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path

import torch

ROOT = Path(__file__).parents[1]
RECORDS = ("paper/mislabelled_gpu", "paper/gallery_gpu")
TIMINGS = ROOT / "results" / "bench" / "gpu"


def steps() -> dict[str, list[str]]:
    """What is left to do: a command for each step, by name."""
    from curvlib.book import catalogue

    known = catalogue.load(ROOT / "experiments.yml").measurements
    python, here = [sys.executable], str(Path(__file__))
    bench = str(ROOT / "benchmarks" / "estimators.py")
    left = {
        "the CUDA tests": [
            *(*python, "-m", "pytest", str(ROOT / "tests" / "test_cuda.py")),
            *("-q", "-p", "no:xdist"),
        ]
    }
    if not (TIMINGS / "machine.json").exists():  # written last
        left["timings of the estimators"] = [
            *(*python, bench, "--device", "cuda", "--out", str(TIMINGS))
        ]
    for name in RECORDS:
        if known[name].why():
            left[name] = [*python, here, "--record", name]
    return left


def measure(name: str) -> None:
    """Measure one record, in this process.

    Args:
        name: Of the record, with its profile.
    """
    from curvlib.book import catalogue, records

    record = catalogue.load(ROOT / "experiments.yml").measurements[name]
    parameters = records.complete(record.study, record.parameters)
    parameters["runs"] = str(ROOT / "runs")
    records.measure(record.folder, record.study, parameters, root=ROOT)


def work(commands: dict[str, list[str]], minutes: float) -> int:
    """Run the commands one after another, until one fails or the time is over.

    Args:
        commands: By the name of the step.
        minutes: For all of them.

    Returns:
        An exit status: 0 if all is done, 1 if a step failed, 3 if time ran out.
    """
    deadline = time.monotonic() + 60 * minutes
    for name, command in commands.items():
        left = deadline - time.monotonic()
        print(f"{name}: {left / 60:.0f} min left", flush=True)
        try:
            done = subprocess.run(command, cwd=ROOT, timeout=max(left, 1))
        except subprocess.TimeoutExpired:
            print(f"{name}: out of time; the same command goes on from here")
            return 3
        if done.returncode:
            print(f"{name} failed, so the rest was not run")
            return 1
    print("all is measured; `make book` draws the pages")
    return 0


def main() -> int:
    """Read the options, and work."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=40, help="then stop")
    parser.add_argument("--record", choices=RECORDS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if not torch.cuda.is_available():
        print("make gpu needs a GPU that CUDA can use, and there is none here")
        return 2
    if options.record:
        measure(options.record)
        return 0
    return work(steps(), options.minutes)


if __name__ == "__main__":
    sys.exit(main())
