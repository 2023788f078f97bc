"""How few probes rank the samples as ten at every epoch do, and what does that save?

    python benchmarks/fidelity.py [--quick]

Follows one run of the CIFAR-10 pages and one of the digits. At every epoch, for its
first samples, 100 probes stand for the truth; 20 others are spent in different ways.
*Fidelity* is the Spearman correlation of a score averaged over the run with the average
of the 100. Seconds come from contestants timed in turn, so nothing else should be busy
meanwhile; the runs are kept in runs/fidelity and read the second time. Writes
results/bench. ``--quick`` is for the test: tiny sizes, meaningless numbers.
"""

import argparse
import io
import json
import tempfile
from functools import partial
from pathlib import Path

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from estimators import STEP, timed
from released import released_scores
from scipy.stats import spearmanr

from curvlib import data, hvp, metrics
from curvlib.book import figures
from curvlib.curvature import input_curvature, rademacher
from curvlib.files import write_atomically
from curvlib.runs import networks, training
from curvlib.runs.provenance import hardware, versions
from curvlib.runs.settings import TrainConfig
from curvlib.studies import variants

CONFIG = TrainConfig(  # of the CIFAR-10 pages, but scored here only
    dataset="cifar10",
    num_train=10_000,
    noise_rate=0.1,
    epochs=30,
    batch_size=64,
    schedule="cosine",
    num_probes=1,
    score_every=30,
)
DIGITS = CONFIG.changed(dataset="digits", num_train=None, epochs=20, score_every=20)
QUICK = DIGITS.changed(num_train=200, model="mlp", epochs=3)
PROBES = (1, 2, 3, 5, 10)
EVERY = (1, 2, 3, 5)
LONG = 200  # epochs of the run that is too long to follow here
KINDS = {"square": 2, "norm": 1}
WITHIN = 0.01  # of the fidelity of ten probes at every epoch: the same in two decimals


def measured(config: TrainConfig, *, quick: bool) -> dict[str, np.ndarray]:
    """Norms of single probes, each epoch: reference [E, 100, N], tested [E, 20, N]."""
    return variants.follow(
        config,
        {},
        epochs=range(1, config.epochs + 1),
        num_reference=20 if quick else 100,
        num_tested=20,
        num_measured=100 if quick else 500,
        runs="runs/fidelity",
    )


def short_run(found: dict[str, np.ndarray]) -> pd.DataFrame:
    """Fidelity and AUROC of n of the tested probes at every k-th epoch and the last."""
    epochs = len(found["tested"])
    rows = []
    for kind, exponent in KINDS.items():
        target = (found["reference"] ** exponent).mean((0, 1))
        for every in EVERY:
            chosen = [
                e for e in range(epochs) if (e + 1) % every == 0 or e + 1 == epochs
            ]
            for n in PROBES:
                draws = [
                    (found["tested"][chosen, start : start + n] ** exponent).mean(
                        (0, 1)
                    )
                    for start in range(0, 20 - n + 1, n)
                ]
                rows.append(
                    _row(kind, n, every, epochs, len(chosen), draws, target)
                    | {
                        "auroc": np.mean(
                            [metrics.auroc(d, found["mislabelled"]) for d in draws]
                        )
                    }
                )
    return pd.DataFrame(rows)


def long_run(found: dict[str, np.ndarray], *, repeats: int = 10) -> pd.DataFrame:
    """The same for a run of ``LONG`` epochs, by resampling the measured probes.

    Every measured epoch stands for several in a row of a long run, each of which draws
    its probes anew, with replacement, from all that were measured at that epoch; their
    mean is the truth. So this is what the measured spread of single probes makes of a
    run whose curvature moves as slowly as its length suggests; it is no such run.
    """
    pool = np.concatenate([found["reference"], found["tested"]], 1)  # [E, P, N]
    stands_for = np.arange(LONG) * len(pool) // LONG
    rng = np.random.default_rng(0)
    rows = []
    for kind, exponent in KINDS.items():
        values = pool**exponent
        target = values.mean(1)[stands_for].mean(0)
        for every in (1, 2, 4, 8, 16, 32):
            chosen = stands_for[[e for e in range(LONG) if (e + 1) % every == 0]]
            for n in PROBES:
                draws = []
                for _ in range(repeats):
                    picked = rng.integers(pool.shape[1], size=(len(chosen), n))
                    draws.append(values[chosen[:, None], picked].mean((0, 1)))
                rows.append(_row(kind, n, every, LONG, len(chosen), draws, target))
    return pd.DataFrame(rows)


def _row(kind, num_probes, every, epochs, scored, draws, target) -> dict:
    ranks = [spearmanr(draw, target).statistic for draw in draws]
    return {
        "kind": kind,
        "num_probes": num_probes,
        "score_every": every,
        "epochs": epochs,
        "scored_epochs": scored,
        "passes": scored * (num_probes + 1),
        "draws": len(draws),
        "fidelity": np.mean(ranks),
        "fidelity_low": np.min(ranks),
    }


def spread(found: dict[str, np.ndarray]) -> pd.DataFrame:
    """Variance of one probe over the squared mean of all: median over the samples."""
    rows = []
    for epoch, norms in enumerate(found["reference"], 1):
        row = {"epoch": epoch}
        for kind, exponent in KINDS.items():
            values = norms**exponent
            ratio = values.var(0, ddof=1) / values.mean(0) ** 2
            row[f"relative_variance_{kind}"] = np.median(ratio)
        rows.append(row)
    return pd.DataFrame(rows)


def probe_kinds(config: TrainConfig, *, quick: bool) -> pd.DataFrame:
    """Spread of ten probes of other kinds, after ten epochs: is one better than signs?

    Relative variance of the mean square of ten, times ten: for independent probes that
    of a single one. Median over the samples.
    """
    config = config.changed(epochs=2 if quick else 10, score_every=10)
    if config.num_train is not None:
        config = config.changed(num_train=min(config.num_train, 4_000))
    kept = {}
    with tempfile.TemporaryDirectory() as runs:
        training.fit(
            config,
            runs=runs,
            device="cpu",
            on_epoch=lambda _, model: kept.update(
                model=networks.fold_batch_norm(model)
            ),
        )
    images, _ = training.prepare(config)
    mean, std = images.statistics()
    images = images.select(np.arange(20 if quick else 300))
    x = data.normalise(images.tensor(), mean, std)
    x = x.contiguous(memory_format=torch.channels_last)
    y = torch.from_numpy(images.labels)
    gradient = hvp.input_gradient(kept["model"], x, y).gradient
    shape, size = x.shape[1:], x[0].numel()
    generator = torch.Generator().manual_seed(0)
    along = F.normalize(gradient.flatten(1), dim=1)[:, None]  # [N, 1, D]

    def signs(*lead: int) -> torch.Tensor:
        return rademacher(10, (*lead, *shape), generator=generator).float()

    def orthogonal() -> torch.Tensor:
        rows = torch.randn(size, 10, generator=generator)
        return torch.linalg.qr(rows).Q.T.reshape(10, *shape) * size**0.5

    def across() -> torch.Tensor:
        v = signs(len(x)).flatten(2)[..., None]  # [10, N, D, 1]
        return (v - along.mT * (along @ v)).reshape(10, *x.shape)

    kinds = {
        "signs, shared by all samples": signs,
        "signs, each sample its own": lambda: signs(len(x)),
        "Gaussian": lambda: torch.randn(10, *shape, generator=generator),
        "orthogonal to each other": orthogonal,
        "signs, orthogonal to the input gradient": across,
    }
    rows = []
    for kind, draw in kinds.items():
        squares = torch.stack(
            [
                variants.probe_norms(kept["model"], x, y, draw(), step=STEP) ** 2
                for _ in range(2 if quick else 8)
            ]
        )  # [groups, 10, N]
        means = squares.mean(1)
        whole = 10 * means.var(0) / means.mean(0) ** 2
        rows.append({"probes": kind, "relative variance": whole.median().item()})
    return pd.DataFrame(rows)


def seconds(config: TrainConfig, *, quick: bool) -> pd.DataFrame:
    """Seconds a sample and epoch: the released algorithm, n = 10, and ours, each n."""
    size, repeats = (8, 2) if quick else (128, 7)
    shape = training.prepare(config)[0].tensor().shape[1:]
    model = networks.build(
        config.model, num_classes=10, input_shape=tuple(shape), width=config.width
    ).eval()
    folded = networks.fold_batch_norm(model)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(size, *shape, generator=generator)
    y = torch.randint(10, (size,), generator=generator)
    last = x.contiguous(memory_format=torch.channels_last)
    probes = rademacher(10, x.shape[1:], generator=generator).float()
    theirs = partial(released_scores, model, x, y, probes, STEP)
    ours = {
        n: partial(input_curvature, folded, last, y, num_probes=n, step=STEP)
        for n in PROBES
    }
    for call in (theirs, *ours.values()):
        call()
    rows = []
    for repeat in range(repeats):
        released = timed(theirs)
        for n, call in ours.items():
            took = timed(call)
            rows.append(
                {
                    "num_probes": n,
                    "repeat": repeat,
                    "seconds_per_sample": took / size,
                    "released_seconds_per_sample": released / size,
                    "times_faster": released / took,
                }
            )
    return pd.DataFrame(rows)


def overhead(*, quick: bool) -> pd.DataFrame:
    """Seconds of an epoch's scoring over an epoch's training, in whole small runs."""
    config = (QUICK if quick else CONFIG).changed(score_every=1)
    config = config.changed(num_train=200 if quick else 2_000, epochs=3)
    rows = []
    for repeat in range(1 if quick else 3):
        for n in (1, 2, 10):
            with tempfile.TemporaryDirectory() as runs:
                log = training.fit(
                    config.changed(num_probes=n), runs=runs, device="cpu"
                ).log()
            log = log.iloc[1:]  # the first epoch allocates
            rows.append(
                {
                    "num_probes": n,
                    "repeat": repeat,
                    "train_seconds": log["train_seconds"].median(),
                    "score_seconds": log["score_seconds"].median(),
                    "ratio": (log["score_seconds"] / log["train_seconds"]).median(),
                }
            )
    table = (
        pd.DataFrame(rows)
        .groupby("num_probes")
        .agg(
            train_seconds=("train_seconds", "median"),
            score_seconds=("score_seconds", "median"),
            scoring_over_training=("ratio", "median"),
            lowest=("ratio", "min"),
            highest=("ratio", "max"),
        )
    )
    return table.reset_index()


def with_cost(designs: pd.DataFrame, timing: pd.DataFrame) -> pd.DataFrame:
    """Add how many times less time a design takes than the released algorithm.

    That one scores every epoch with ten probes.
    """
    faster = timing.groupby("num_probes")["times_faster"].median()
    each = designs["num_probes"].map(faster)
    saved = designs["epochs"] / designs["scored_epochs"]
    return designs.assign(times_faster=each * saved)


def best(designs: pd.DataFrame) -> pd.DataFrame:
    """For each run and kind: ten probes at every epoch, and the cheapest as good."""
    rows = []
    by = ["data", "epochs", "kind"]
    for (name, epochs, kind), part in designs.groupby(by, sort=False):
        ten = part[(part["num_probes"] == 10) & (part["score_every"] == 1)].iloc[0]
        good = part[part["fidelity"] >= ten["fidelity"] - WITHIN]
        every = good[good["score_every"] == 1]
        for what, row in (
            ("ten at every epoch", ten),
            ("cheapest at every epoch", every.loc[every["times_faster"].idxmax()]),
            ("cheapest of all", good.loc[good["times_faster"].idxmax()]),
        ):
            rows.append(
                {
                    "data": name,
                    "epochs": epochs,
                    "kind": kind,
                    "what": what,
                    "probes": row["num_probes"],
                    "score every": row["score_every"],
                    "fidelity": round(row["fidelity"], 4),
                    "times faster": round(row["times_faster"], 1),
                }
            )
    return pd.DataFrame(rows)


def figure(designs: pd.DataFrame) -> bytes:
    """What a design misses of fidelity 1 against how much faster it is."""
    squares = designs[designs["kind"] == "square"]
    panels = list(squares.groupby(["data", "epochs"], sort=False))
    fig, axes = plt.subplots(
        1, len(panels), figsize=(7, 3.4), layout="constrained", sharey=True
    )
    for ax, ((name, epochs), part) in zip(axes, panels, strict=True):
        for n, marker, colour in zip(
            PROBES, figures.MARKERS, figures.COLOURS, strict=False
        ):
            line = part[part["num_probes"] == n]
            ax.plot(
                line["times_faster"],
                1 - line["fidelity"],
                f"{marker}-",
                color=colour,
                ms=4,
                label=f"n = {n}",
            )
        ten = part[(part["num_probes"] == 10) & (part["score_every"] == 1)].iloc[0]
        ax.axhline(1 - ten["fidelity"] + WITHIN, color=figures.GREY, lw=1.2, ls=":")
        ax.set(xscale="log", yscale="log", title=f"{name}, {epochs} epochs")
        ax.set_xticks([3, 10, 30, 100], ["3", "10", "30", "100"])
        ax.xaxis.minorticks_off()
    fig.supxlabel("times faster than the released algorithm", fontsize=10)
    axes[0].set_ylabel("1 − fidelity")
    axes[0].legend(frameon=False, fontsize=8)
    buffer = io.BytesIO()
    fig.savefig(buffer, format="svg", facecolor="white", metadata={"Date": None})
    return buffer.getvalue()


def main() -> None:
    """Follow the run, time the contestants, write tables and figure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="tiny sizes, for the test")
    parser.add_argument("--out", type=Path, default=Path("results/bench"))
    options = parser.parse_args()
    matplotlib.rcParams["svg.hashsalt"] = "fidelity"
    photographs, digits = (QUICK, QUICK) if options.quick else (CONFIG, DIGITS)
    designs, timings, spreads, kinds = [], [], [], []
    for name, config in (("CIFAR-10", photographs), ("digits", digits)):
        found = measured(config, quick=options.quick)
        timing = seconds(config, quick=options.quick)
        rows = [short_run(found)]
        if name == "CIFAR-10":
            rows.append(long_run(found))
        designs.append(with_cost(pd.concat(rows), timing).assign(data=name))
        timings.append(timing.assign(data=name))
        spreads.append(spread(found).assign(data=name))
        kinds.append(probe_kinds(config, quick=options.quick).assign(data=name))
    designs = pd.concat(designs, ignore_index=True)
    tables = {
        "fidelity": designs,
        "fidelity_best": best(designs),
        "fidelity_seconds": pd.concat(timings),
        "probe_spread": pd.concat(spreads),
        "probe_kinds": pd.concat(kinds)
        .pivot_table(index="probes", columns="data", sort=False)["relative variance"]
        .round(2)
        .reset_index(),
        "overhead": overhead(quick=options.quick),
    }
    for name, table in tables.items():
        text = table.to_csv(index=False, lineterminator="\n", float_format="%.5g")
        write_atomically(options.out / f"{name}.csv", text.encode())
    machine = {"hardware": hardware(), "versions": versions(), "quick": options.quick}
    text = json.dumps(machine, indent=1) + "\n"
    write_atomically(options.out / "fidelity_machine.json", text.encode())
    write_atomically(options.out / "fidelity.svg", figure(designs))
    print(tables["fidelity_best"].to_string(index=False))
    print(tables["overhead"].to_string(index=False))


if __name__ == "__main__":
    main()
