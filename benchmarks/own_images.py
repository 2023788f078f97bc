"""Does ``curvlib suspects`` find wrong labels in the time that it promises?

    python benchmarks/own_images.py imagenet10
    python benchmarks/own_images.py imagenet10 --features none
    python benchmarks/own_images.py cifar10 --rate 0.1 --minutes 20

Replaces a share of the labels of a data set at random, gives the command images with
these labels, and compares its report with the truth. Photographs are given as a CSV of
paths, other images as an ``.npz``. Adds a row to results/bench/own_images.csv. The
photographs are ImageNet's, and the features have seen such images with their right
labels. Nothing else should be busy meanwhile.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

from curvlib import data
from curvlib.__main__ import main as curvlib
from curvlib.book.records import DATASETS
from curvlib.data.folders import Photographs
from curvlib.files import write_atomically
from curvlib.metrics import auroc
from curvlib.runs.provenance import hardware, versions

ROOT = Path(__file__).parents[1]


def give(images, place: Path) -> Path:
    """Write images with their labels as a user would have them."""
    if isinstance(images.images, Photographs):
        names = [images.classes[label] for label in images.labels]
        table = pd.DataFrame({"path": images.images.paths, "label": names})
        table.to_csv(place / "labels.csv", index=False)
        return place / "labels.csv"
    source = place / "images.npz"
    classes = np.array(images.classes)
    labels = images.labels
    np.savez(source, train_images=images.images, train_labels=labels, classes=classes)
    return source


def measure(dataset: str, rate: float, words: list[str], count: int | None) -> dict:
    """Run the command once; return what it found and what is true."""
    images = data.load(dataset, broken_files="skip")
    images = images.select(np.arange(min(count or len(images), len(images))))
    images = data.with_symmetric_noise(images, rate, seed=0)
    with tempfile.TemporaryDirectory() as place:
        source, out = give(images, Path(place)), Path(place) / "report"
        begun = time.perf_counter()
        cache = ["--cache", str(Path(place) / "cache")]
        words = ["suspects", str(source), "--out", str(out), *cache, *words]
        if status := curvlib(words):
            sys.exit(status)
        minutes = (time.perf_counter() - begun) / 60
        table = pd.read_csv(out / "suspects.csv")
        run = json.loads((out / "run.json").read_text(encoding="utf-8"))
    # The rows of the file that was given are in the order of the images.
    wrong = images.mislabelled[table["index"].to_numpy()]
    wrong_count = int(wrong.sum())
    expected = run["estimate"] or dict.fromkeys(("wrong", "low", "high", "curve"))
    return {
        "data": dataset,
        "images": len(images),
        "share wrong": rate,
        "features": run["settings"]["features"],
        "pixels": run["settings"]["size"],
        "minutes allowed": run["settings"]["minutes"],
        "minutes": round(minutes, 1),
        "wrong labels": wrong_count,
        "estimated": expected["wrong"],
        "low": expected["low"],
        "high": expected["high"],
        "precision": round(float(wrong[:wrong_count].mean()), 3),
        "expected precision": _at(expected["curve"], wrong_count),
        "AUROC": round(auroc(-table["rank"].to_numpy(float), wrong), 4),
    }


def _at(curve: dict | None, rank: int) -> dict | None:
    """What the report expects among the first suspects, up to a rank."""
    if curve is None:
        return None
    place = int(np.searchsorted(curve["rank"], rank, side="right")) - 1
    return {name: values[max(place, 0)] for name, values in curve.items()}


def row(found: dict) -> dict[str, str]:
    """What ``measure`` returned, as a row of the table."""
    estimated, expected = found["estimated"], found["expected precision"]
    between = f"{found['low']:,.0f} to {found['high']:,.0f}" if estimated else ""
    return {
        "data": DATASETS.get(found["data"], found["data"]),
        "images": f"{found['images']:,}",
        "wrong labels": f"{found['wrong labels']:,} ({found['share wrong']:.0%})",
        "features": f"{found['features']}, {found['pixels']} px",
        "minutes": f"{found['minutes']} of {found['minutes allowed']:g}",
        "estimated": f"{estimated:,.0f} ({between})" if estimated else "–",
        "precision": f"{found['precision']:.2f}",
        "expected": f"{expected['low']:.2f} to {expected['high']:.2f}"
        if expected
        else "–",
        "AUROC": f"{found['AUROC']:.4f}",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dataset")
    parser.add_argument("--rate", type=float, default=0.03)
    parser.add_argument("--count", type=int, help="only the first so many images")
    parser.add_argument("--features", default="lite0")
    parser.add_argument("--minutes", default="10")
    parser.add_argument("--size")
    default = ROOT / "results/bench/own_images.csv"
    parser.add_argument("--out", type=Path, default=default)
    options = parser.parse_args()
    words = ["--features", options.features, "--minutes", options.minutes]
    words += ["--size", options.size] if options.size else []
    rows = [row(measure(options.dataset, options.rate, words, options.count))]
    print(rows[0])
    if options.out.exists():
        rows = pd.read_csv(options.out, dtype=str).to_dict("records") + rows
    text = pd.DataFrame(rows).to_csv(index=False)
    write_atomically(options.out, text.encode())
    machine = {"hardware": hardware(), "versions": versions()}
    text = json.dumps(machine, indent=1) + "\n"
    write_atomically(options.out.with_name("own_images_machine.json"), text.encode())


if __name__ == "__main__":
    main()
