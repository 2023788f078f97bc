"""The table of results in README.md, made from records.

``curvlib book`` writes it between two marks, and a test fails if it is out of date. A
row whose record has not been measured is left out. To add one, add to ``ROWS``.
"""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from curvlib.book.records import Record, described
from curvlib.files import write_atomically
from curvlib.studies import statistics

BEGIN, END = "<!-- results: written by curvlib book -->", "<!-- end of results -->"
SCORES = {  # columns of the table
    "curvature_norm": "curvature",
    "cumulative_loss": "loss, summed over training",
    "random": "random",
}


class Row(NamedTuple):
    """One row of the table.

    Attributes:
        text: What is told.
        records: Names of records that differ in their seeds; those that were measured
            are told as one, and the first is linked.
        tell: Takes the record and the name of a score, returns the number as text.
    """

    text: str
    records: tuple[str, ...]
    tell: Callable[[Record, str], str]


def _among_highest(record: Record, score: str) -> str:
    table = record["enrichment"]
    rows = (table["set"] == "exact duplicates") & (table["score"] == score)
    (row,) = table[rows & (table["top"] == 100) & (table["seed"] == "mean")].iloc
    return f"{row['found']:.0f} of {row['images']:.0f}"


def _agreement(record: Record, score: str) -> str:
    table = record["agreement"]
    rows = (table["score"] == score) & (table["kind"] == "mean of seeds")
    return f"{round(table['spearman'][rows].item(), 2) + 0.0:.2f}"  # never -0.00


def _auroc(record: Record, score: str) -> str:
    table = record["metrics"]
    rows = (table["score"] == score) & (table["noise_rate"].round(3) == 0.1)
    return statistics.mean_sd(table["auroc"][rows], digits=2)


ROWS = (
    Row(
        "CIFAR-100 has images twice under different labels: how many of them are among "
        "the 100 highest of 50,000",
        ("cpu/duplicates_cifar100",),
        _among_highest,
    ),
    Row(
        "CIFAR-100: rank correlation with the memorization that Feldman and Zhang "
        "released",
        ("cpu/feldman_zhang",),
        _agreement,
    ),
    Row(
        "10,000 images of CIFAR-10, one label in ten wrong: AUROC of the wrong ones, "
        "mean ± standard deviation over seeds",
        ("cpu/mislabelled",),
        _auroc,
    ),
    Row(
        "The same on all 50,000 images, with a network that generalises before it "
        "memorises",
        tuple(f"cpu/mislabelled_regime_cifar10_s{seed}" for seed in range(3)),
        _auroc,
    ),
)


def table(root: Path) -> str:
    """The table in Markdown, of the records that are there."""
    lines = [
        f"| | {' | '.join(SCORES.values())} | record |",
        f"| --- | {'--- | ' * len(SCORES)}--- |",
    ]
    for row in ROWS:
        there = [name for name in row.records if described(root / "results" / name)]
        if not there:
            continue
        record = Record.joined([Record.open(root / "results" / n) for n in there])
        cells = [row.tell(record, score) for score in SCORES]
        link = f"[{there[0]}](results/{there[0]}/)"
        lines.append(f"| {row.text} | {' | '.join(cells)} | {link} |")
    return "\n".join(lines)


def updated(text: str, root: Path) -> str:
    """The text of README with its table brought up to date.

    Raises:
        ValueError: If the two marks are not there, one after the other.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"README.md needs the marks {BEGIN} and {END}")
    return f"{before}{BEGIN}\n{table(root)}\n{END}{after}"


def update(root: Path) -> None:
    """Bring README.md of a project up to date, if it has a table."""
    file = root / "README.md"
    if not file.exists() or BEGIN not in (text := file.read_text(encoding="utf-8")):
        return
    new = updated(text, root)
    if new != text:
        write_atomically(file, new.encode())
