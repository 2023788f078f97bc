"""A million feature vectors on a small machine: seconds and memory against N.

    python benchmarks/million.py                     # 10,000, 100,000 and 1,000,000
    python benchmarks/million.py --counts 10000 20000 --out million.csv

The vectors are simulated: Gaussian clusters of few dimensions, 3% of the labels wrong,
in a memory-mapped float16 file, as ``curvlib.runs.features`` leaves them. Each size has
a process of its own. Memory is the peak of what belongs to the process alone
(RssAnon); pages of the file are the system's cache, which it can take back.

Vectors, pairs of neighbours and batches take the same memory for any number of samples.
What grows is columns: labels, index and some thirty scores of 8 bytes for each sample,
copies of some of them, and 4 bytes for each scored epoch of the column that is being
reduced. ``bytes per sample`` is that growth as measured, from the first size on.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import pandas as pd

from curvlib.files import write_atomically
from curvlib.runs.provenance import hardware, versions

ROOT = Path(__file__).parents[1]
DIMENSIONS, CLASSES, WRONG = 32, 10, 0.03


def simulate(file: Path, count: int) -> np.ndarray:
    """Write the vectors part by part; return the true classes."""
    rng = np.random.default_rng(0)
    centres = 0.6 * rng.standard_normal((CLASSES, DIMENSIONS))
    truth = rng.integers(0, CLASSES, count)
    shape = (count, DIMENSIONS)
    vectors = np.lib.format.open_memmap(file, "w+", np.float16, shape)
    for start in range(0, count, 50_000):
        some = truth[start : start + 50_000]
        noise = rng.standard_normal((len(some), DIMENSIONS))
        vectors[start : start + 50_000] = centres[some] + noise
    vectors.flush()
    return truth


def own_memory() -> float:
    """MiB that belong to this process alone, file pages left out."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon"):
            return int(line.split()[1]) / 1024
    raise OSError("RssAnon is not in /proc/self/status; this needs Linux")


def measure(count: int, epochs: int) -> dict:
    from curvlib.metrics import auroc
    from curvlib.runs import head
    from curvlib.studies import suspects

    with tempfile.TemporaryDirectory() as place:
        truth = simulate(Path(place) / "vectors.npy", count)
        rng = np.random.default_rng(1)
        given = np.where(
            rng.random(count) < WRONG,
            (truth + rng.integers(1, CLASSES, count)) % CLASSES,
            truth,
        )
        vectors = head.Vectors(
            features=np.load(Path(place) / "vectors.npy", mmap_mode="r"),
            labels=given,
            original_labels=truth,
            index=np.arange(count),
            classes=tuple(map(str, range(CLASSES))),
        )
        peak, done = [own_memory()], threading.Event()

        def watch():
            while not done.wait(0.05):
                peak[0] = max(peak[0], own_memory())

        before = own_memory()
        watcher = threading.Thread(target=watch)
        watcher.start()
        begun = time.perf_counter()
        suspects.LINEAR = suspects.replace(suspects.LINEAR, epochs=epochs)
        suspects.HIDDEN = suspects.replace(suspects.HIDDEN, epochs=epochs, hidden=64)
        ranked = suspects.rank(
            vectors,
            runs=Path(place) / "runs",
            most_epochs=epochs,
            on_stage=lambda text: None,
        )
        seconds = time.perf_counter() - begun
        done.set()
        watcher.join()
        score = ranked.table["consensus"].to_numpy()
        return {
            "samples": count,
            "file (MiB)": round(count * DIMENSIONS * 2 / 2**20),
            "memory before (MiB)": round(before),
            "peak memory (MiB)": round(peak[0]),
            "seconds": round(seconds, 1),
            "AUROC": round(auroc(score, given != truth), 4),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--counts", type=int, nargs="+", default=[10_000, 100_000, 1_000_000]
    )
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--out", default=ROOT / "results/bench/million.csv", type=Path)
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(options.one, options.epochs)))
        return
    rows = []
    for count in options.counts:
        words = ["--one", str(count), "--epochs", str(options.epochs)]
        done = subprocess.run(
            [sys.executable, __file__, *words],
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        rows.append(json.loads(done.stdout.splitlines()[-1]))
        print(rows[-1], flush=True)
    table = pd.DataFrame(rows)
    grown = (table["peak memory (MiB)"] - table["peak memory (MiB)"][0]) * 2**20
    more = (table["samples"] - table["samples"][0]).where(lambda n: n > 0)
    table["bytes per sample"] = (grown / more).round()
    write_atomically(options.out, table.to_csv(index=False).encode())
    machine = {
        "hardware": hardware(),
        "versions": versions(),
        "dimensions": DIMENSIONS,
        "epochs": options.epochs,
    }
    text = json.dumps(machine, indent=1) + "\n"
    name = f"{options.out.stem}_machine.json"
    write_atomically(options.out.with_name(name), text.encode())


if __name__ == "__main__":
    main()
