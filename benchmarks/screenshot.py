"""Draw the picture of a report that README shows: a real run, in a real browser.

    python benchmarks/screenshot.py            # needs Fashion-MNIST, lite0 and Chromium

The first 1,000 images of Fashion-MNIST (MIT licence), with three labels in a hundred
replaced at random, go through ``curvlib suspects``. The browser accepts the suggestions
for the first suspects, as a reader would. Writes report.png to book/_static.
"""

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image
from playwright.sync_api import sync_playwright

from curvlib import data
from curvlib.__main__ import main as curvlib

ROOT = Path(__file__).parents[1]
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def report(place: Path, dataset: str, count: int, features: str) -> Path:
    """Run the command on some images with wrong labels; return the page."""
    images = data.load(dataset)
    images = images.select(np.arange(min(count, len(images))))
    images = data.with_symmetric_noise(images, 0.03, seed=0)
    source = place / f"{dataset}.npz"
    np.savez(
        source,
        train_images=images.images,
        train_labels=images.labels,
        classes=np.array(images.classes),
    )
    words = ["suspects", str(source), "--out", str(place / "report")]
    words += ["--features", features, "--cache", str(place / "cache")]
    if features == "lite0":
        words += ["--size", "96"]
    if status := curvlib(words):
        sys.exit(status)
    return place / "report" / "report.html"


def draw(page: Path, out: Path, *, decide: int = 3) -> None:
    """Open the report, accept some suggestions, and photograph what a reader sees."""
    executable = next(filter(None, map(shutil.which, BROWSERS)), None)
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as place:
        browser = playwright.chromium.launch(
            executable_path=executable, args=["--no-sandbox"]
        )
        tab = browser.new_page(viewport={"width": 1200, "height": 760})
        tab.goto(page.as_uri())
        tab.locator("html[data-ready]").wait_for()
        for _ in range(decide):
            tab.keyboard.press("w")
        file = Path(place) / "page.png"
        tab.screenshot(path=file)
        browser.close()
        # 128 colours are a third of the bytes, and nobody sees which are missing.
        picture = Image.open(file).convert("RGB").quantize(128)
        out.parent.mkdir(parents=True, exist_ok=True)
        picture.save(out, optimize=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dataset", default="fashion_mnist")
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--features", default="lite0")
    parser.add_argument("--out", type=Path, default=ROOT / "book/_static/report.png")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        found = report(Path(place), options.dataset, options.count, options.features)
        draw(found, options.out)
    print(f"{options.out}: {options.out.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
