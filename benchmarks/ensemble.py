"""Train an ensemble as one program and one network after another, side by side.

    python benchmarks/ensemble.py [--quick] [--only TABLE]

Writes results/bench/ensemble_*.csv. Ratios are taken within one run: every repetition
times each contestant once, in turn, so that what else the machine does hits all of them
alike. Nothing else should train meanwhile. ``--quick`` is for the test: tiny sizes,
meaningless numbers. Fashion-MNIST is left out where it does not lie in $CURVLIB_DATA.
"""

import argparse
import json
import os
import time
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F

from curvlib import data
from curvlib.files import write_atomically
from curvlib.runs import ensembles, influence
from curvlib.runs.ensembles import EnsembleConfig
from curvlib.runs.provenance import hardware, versions

CORES = os.cpu_count() or 1


def one_after_another(
    config: EnsembleConfig, samples: ensembles._Samples, numbers
) -> dict[str, np.ndarray]:
    """The obvious loop: the same networks, subsets and orders, one at a time."""
    x, test = (
        ensembles._inputs(part, samples.scaling)
        for part in (samples.train, samples.test)
    )
    y, test_y = torch.from_numpy(samples.labels), torch.from_numpy(samples.test_labels)
    size = config.subset_size(len(x))
    found = {name: [] for name in ensembles.MASKS}
    for number in numbers:
        plan = ensembles._Plan(config.seed, number, len(x), size)
        network = ensembles._network(config, samples, number)
        optimizer = torch.optim.SGD(
            network.parameters(),
            lr=config.lr,
            momentum=config.momentum,
            weight_decay=config.weight_decay,
        )
        for rate, batches in ensembles.steps(config, size, [plan.order]):
            optimizer.param_groups[0]["lr"] = rate
            batch = batches[0]
            loss = F.cross_entropy(network(x[batch]), y[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        with torch.no_grad():
            found["inside"].append(np.isin(np.arange(len(x)), plan.subset))
            found["correct"].append((network(x).argmax(1) == y).numpy())
            found["correct_test"].append((network(test).argmax(1) == test_y).numpy())
    return {name: np.stack(rows) for name, rows in found.items()}


def one_core_loop(config, samples, numbers) -> None:
    torch.set_num_threads(1)
    one_after_another(config, samples, numbers)


def problems(*, quick: bool) -> list[tuple[str, EnsembleConfig, ensembles._Samples]]:
    """The settings of the book's two pages, epochs cut where they only repeat."""
    digits = EnsembleConfig(epochs=2 if quick else 20, width=8 if quick else 32)
    found = [("digits", digits, samples_of("digits", 100 if quick else None))]
    if not quick:
        clothes = EnsembleConfig(width=64, batch_size=128, epochs=1, models_at_once=25)
        try:
            samples = samples_of("fashion_mnist", 10_000)
        except (FileNotFoundError, OSError, RuntimeError) as error:
            print(f"no Fashion-MNIST: {error}")
        else:
            found.append(("fashion_mnist", clothes, samples))
    return found


def samples_of(name: str, count: int | None) -> ensembles._Samples:
    train, test = data.load(name), data.load(name, split="test")
    train = train.select(np.arange(count or len(train)))
    return ensembles._Samples(
        train.images,
        train.labels,
        test.images,
        test.labels,
        train.statistics(),
        len(train.classes),
    )


def models_per_minute(*, quick: bool) -> pd.DataFrame:
    """Every contestant on the same problem, in turn."""
    rows = []
    for name, config, samples in problems(quick=quick):
        few, group = (4, 4) if quick else (20, config.models_at_once)
        few = min(few, 20 if name == "digits" else 6)
        halves = [range(k, few, CORES) for k in range(CORES)]
        groups = [range(k * group, (k + 1) * group) for k in range(CORES)]
        with joblib.Parallel(n_jobs=CORES, batch_size=1) as workers:
            contestants = {
                f"loop, {CORES} threads": (
                    few,
                    lambda c=config, s=samples, n=few: one_after_another(
                        c, s, range(n)
                    ),
                ),
                f"loop in {CORES} processes": (
                    few,
                    lambda c=config, s=samples, parts=halves, w=workers: w(
                        joblib.delayed(one_core_loop)(c, s, part) for part in parts
                    ),
                ),
                f"stacked by {group}, one core": (
                    group,
                    lambda c=config, s=samples, g=groups[0]: ensembles.train_group(
                        c, s, g
                    ),
                ),
                f"stacked by {group}, {CORES} processes": (
                    group * CORES,
                    lambda c=config, s=samples, parts=groups, w=workers: w(
                        joblib.delayed(ensembles.train_group)(c, s, part)
                        for part in parts
                    ),
                ),
            }
            for repeat in range((1 if quick else 3) + 1):
                speed = {}
                for who, (count, call) in contestants.items():
                    started = time.perf_counter()
                    call()
                    speed[who] = 60 * count / (time.perf_counter() - started)
                if not repeat:  # the first starts processes and allocates
                    continue
                first = next(iter(speed.values()))
                rows += [
                    {
                        "data": name,
                        "networks": contestants[who][0],
                        "repeat": repeat,
                        "contestant": who,
                        "models_per_minute": value,
                        "times_faster": value / first,
                    }
                    for who, value in speed.items()
                ]
    return pd.DataFrame(rows)


def ratios(table: pd.DataFrame) -> pd.DataFrame:
    """Median models a minute, and median and range of the ratios to the loop."""
    by = table.groupby(["data", "contestant"], sort=False)
    found = by["times_faster"].agg(["median", "min", "max"])
    found.insert(0, "models_per_minute", by["models_per_minute"].median().round())
    return found.reset_index().round({"median": 2, "min": 2, "max": 2})


def same_estimates(*, quick: bool) -> pd.DataFrame:
    """Same seeds, one after another and as one program: what differs, how much?"""
    rows = []
    for name, config, samples in problems(quick=quick):
        count = 8 if quick else 100 if name == "digits" else 20
        group = range(count)
        loop = one_after_another(config, samples, group)
        packed = ensembles.train_group(config, samples, group)
        stacked = {
            key: np.unpackbits(packed[key], axis=1, count=loop[key].shape[1]).view(bool)
            for key in ensembles.MASKS
        }
        theirs, ours = (
            influence.memorization(m["inside"], m["correct"]) for m in (loop, stacked)
        )
        apart = np.abs(ours.value - theirs.value)
        apart = apart[np.isfinite(apart)]
        rows.append(
            {
                "data": name,
                "networks": count,
                "same_subsets": (loop["inside"] == stacked["inside"]).all(),
                "answers": sum(loop[key].size for key in ensembles.MASKS[1:]),
                "answers_that_differ": sum(
                    int((loop[key] != stacked[key]).sum())
                    for key in ensembles.MASKS[1:]
                ),
                "largest_difference_of_memorization": apart.max(),
                "mean_standard_error": np.nanmean(ours.standard_error),
            }
        )
    return pd.DataFrame(rows)


def thousand(*, quick: bool) -> pd.DataFrame:
    """Seconds from nothing to the kept record of 1,000 networks on the digits."""
    import tempfile

    (_, config, _), *_ = problems(quick=quick)
    count = 4 if quick else 1000
    train, test = data.load("digits"), data.load("digits", split="test")
    with tempfile.TemporaryDirectory() as runs:
        started = time.perf_counter()
        config = config.changed(num_models=count)
        found = ensembles.train(config, train, test, runs=runs, n_jobs=CORES)
        seconds = time.perf_counter() - started
    return pd.DataFrame(
        [
            {
                "networks": count,
                "processes": CORES,
                "seconds": round(seconds, 1),
                "seconds_of_one_core": round(found.seconds, 1),
                "accuracy_inside": found.correct[found.inside].mean(),
                "accuracy_outside": found.correct[~found.inside].mean(),
            }
        ]
    )


def main() -> None:
    """Measure everything and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="tiny sizes, for the test")
    parser.add_argument("--out", type=Path, default=Path("results/bench"))
    measures = (models_per_minute, same_estimates, thousand)
    known = [measure.__name__ for measure in measures]
    parser.add_argument("--only", choices=known, help="measure one table anew")
    options = parser.parse_args()
    for measure in measures:
        if options.only not in (None, measure.__name__):
            continue
        started = time.perf_counter()
        table = measure(quick=options.quick)
        tables = {f"ensemble_{measure.__name__}": table}
        if measure is models_per_minute:
            tables["ensemble_ratios"] = ratios(table)
        for name, content in tables.items():
            text = content.to_csv(index=False, lineterminator="\n", float_format="%.5g")
            write_atomically(options.out / f"{name}.csv", text.encode())
            print(content.to_string(index=False), "\n", flush=True)
        print(f"{measure.__name__}: {time.perf_counter() - started:.0f} s")
    machine = {"hardware": hardware(), "versions": versions(), "quick": options.quick}
    text = json.dumps(machine, indent=1) + "\n"
    write_atomically(options.out / "ensemble_machine.json", text.encode())


if __name__ == "__main__":
    main()
