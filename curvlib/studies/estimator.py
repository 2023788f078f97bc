"""What do the step, the probes, the square and the activation change?

Many ways to measure curvature, applied to the same networks while they learn labels of
which some are wrong: with ReLU, and with two smooth activations.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from curvlib import metrics, scores
from curvlib.studies import Measured, checksums, config_of, statistics

RECIPE = 1
PARTS = ("data", "networks", "training", "scoring", "studies.variants")
ACTIVATIONS = ("relu", "softplus", "gelu")
STEPS = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)
NEAR = (1e-5, 1e-4, 1e-3)  # whose crossings are held against the exact value
EXACT = "exact (autograd)"

Runs = Mapping[tuple[str, int], Mapping[str, np.ndarray]]  # by activation and seed


def named(step: float, more: str = "") -> str:
    """Name of a variant by its step.

    Example:
        >>> named(1e-3), named(0.1), named(1e-5, ", float64")
        ('h = 1e-3', 'h = 0.1', 'h = 1e-5, float64')
    """
    return f"h = {step:{'.0e' if step < 0.01 else 'g'}}{more}".replace("e-0", "e-")


def measure(
    *,
    dataset: str = "digits",
    num_train: int | None = 400,
    num_measured: int | None = None,
    noise_rate: float = 0.1,
    seeds: list[int] = [0, 1, 2],  # noqa: B006
    model: str = "slim_resnet",
    width: int = 16,
    epochs: int = 30,
    scored_epochs: list[int] = [1, 3, 6, 10, 18],  # noqa: B006
    lr: float = 0.1,
    batch_size: int = 64,
    schedule: str = "cosine",
    num_probes: int = 2,
    num_reference: int = 50,
    step: float = 0.001,
    runs: str = "runs",
) -> Measured:
    """Follow one training for each activation and seed, and compare the variants.

    Args: as in the notebook of this name.

    Returns:
        ``steps`` (activation, kind, score, mean, sd), ``kinks`` (a row for each seed,
        near step and sample: crossings, difference, exact), ``crossings`` (step,
        mean_crossings, none: share of samples without any), ``labels`` (activation,
        seed, score, median factor, largest change), ``epochs`` (activation, seed,
        score, epoch, mean, over_exact, spearman_with_exact), ``auroc`` (activation,
        seed, score, auroc), ``probes`` (kind, num_probes and correlations with the
        reference), ``facts`` (name, value).
    """
    asked = locals()
    from curvlib.studies import variants

    at_epoch = measured_epochs(scored_epochs, epochs)
    middle = at_epoch[len(at_epoch) // 2]
    ways, close = variants_of(num_probes, step)
    found = {}
    for activation in ACTIVATIONS:
        for seed in seeds:
            config = config_of(
                asked, activation=activation, seed=seed, score_every=epochs
            )
            counted = activation == "relu"
            found[activation, seed] = variants.follow(
                config,
                ways,
                epochs=at_epoch,
                close=close,
                close_epoch=middle,
                num_measured=num_measured,
                crossing_steps=STEPS if counted else (),
                num_reference=num_reference if counted and seed == seeds[0] else 0,
                runs=f"{runs}/estimator",
            )
    first = found["relu", seeds[0]]
    return Measured(
        tables={
            "steps": by_step(found, list(ways)),
            "kinks": by_sample(found),
            "crossings": crossings(found),
            "labels": other_labels(found, step),
            "epochs": over_epochs(found, at_epoch),
            "auroc": aurocs(found, list(ways)),
            "probes": by_probes(first),
            "facts": facts(found, first, middle, len(at_epoch)),
        },
        data=checksums(dataset),
    )


def measured_epochs(scored: list[int], epochs: int) -> list[int]:
    """The epochs asked for that the run has, and its last."""
    return sorted({e for e in scored if e < epochs} | {epochs})


def variants_of(num_probes: int, step: float) -> tuple[dict, dict]:
    """The variants measured at every epoch, and those at one in the middle, by name.

    The latter are in float64, near the exact value, and with the next class as label.
    """
    same = {"num_probes": num_probes}
    double = same | {"double": True}
    ways = {named(h): same | {"step": h} for h in STEPS}
    ways |= {named(h, ", float64"): double | {"step": h} for h in (1e-5, 1e-3)}
    ways[EXACT] = same | {"method": "autograd"}
    ways["Gauss-Newton"] = same | {"method": "gauss-newton"}
    ways["Gauss-Newton, 3 classes"] = same | {"method": "gauss-newton", "top_k": 3}
    for h in (0.01, 0.1):
        ways[f"zero-order, {named(h)}"] = same | {"method": "zero-order", "step": h}
    close = {f"close {h:g}": double | {"step": h} for h in {*NEAR, step}}
    close["close exact"] = double | {"method": "autograd"}
    close["other label, exact"] = double | {"method": "autograd", "shift": 1}
    close["other label, difference"] = double | {"step": step, "shift": 1}
    return ways, close


def by_step(found: Runs, ways: list[str]) -> pd.DataFrame:
    """Mean over samples and epochs of each variant, mean and sd over seeds."""
    rows = []
    for activation in ACTIVATIONS:
        runs = [run for (name, _), run in found.items() if name == activation]
        for kind in ("square", "norm"):
            for way in ways:
                means = [run[f"{way}/{kind}"].mean() for run in runs]
                rows.append(
                    {
                        "activation": activation,
                        "kind": kind,
                        "score": way,
                        "mean": np.mean(means),
                        "sd": np.std(means, ddof=min(1, len(means) - 1)),
                    }
                )
    return pd.DataFrame(rows)


def by_sample(found: Runs) -> pd.DataFrame:
    """Crossings of each sample at the near steps, beside difference and exact value."""
    rows = []
    for seed, run in _relu(found):
        exact = run["close exact/square"]
        rows += [
            pd.DataFrame(
                {
                    "seed": seed,
                    "step": h,
                    "index": np.arange(len(exact)),
                    "crossings": run[f"crossings/{h:g}"].mean(0),
                    "difference": run[f"close {h:g}/square"],
                    "exact": exact,
                }
            )
            for h in NEAR
        ]
    return pd.concat(rows, ignore_index=True)


def crossings(found: Runs) -> pd.DataFrame:
    """Mean crossings at each step, and the share of samples that no probe crosses."""
    counted = {h: [run[f"crossings/{h:g}"] for _, run in _relu(found)] for h in STEPS}
    return pd.DataFrame(
        {
            "step": list(counted),
            "mean_crossings": [np.mean(counts) for counts in counted.values()],
            "none": [
                np.mean([(c == 0).all(0) for c in counts])
                for counts in counted.values()
            ],
        }
    )


def other_labels(found: Runs, step: float) -> pd.DataFrame:
    """How much scores change when each sample gets the next class as its label."""
    rows = []
    for (activation, seed), run in found.items():
        for name, given, other in (
            ("exact", "close exact", "other label, exact"),
            (named(step), f"close {step:g}", "other label, difference"),
        ):
            a, b = run[f"{given}/square"], run[f"{other}/square"]
            high, low = np.maximum(a, b), np.maximum(np.minimum(a, b), 1e-300)
            rows.append(
                {
                    "activation": activation,
                    "seed": seed,
                    "score": name,
                    "median factor": np.median(np.maximum(high, 1e-300) / low),
                    "largest change": ((high - low) / np.maximum(high, 1e-300)).max(),
                }
            )
    return pd.DataFrame(rows)


def over_epochs(found: Runs, at_epoch: list[int]) -> pd.DataFrame:
    """The finite difference beside the exact value at each measured epoch."""
    rows = []
    for (activation, seed), run in found.items():
        for name in (EXACT, named(1e-2), named(1e-3), named(1e-4)):
            for epoch, values, true in zip(
                at_epoch, run[f"{name}/square"], run[f"{EXACT}/square"], strict=True
            ):
                rows.append(
                    {
                        "activation": activation,
                        "seed": seed,
                        "score": name,
                        "epoch": epoch,
                        "mean": values.mean(),
                        "over_exact": values.mean() / true.mean(),
                        "spearman_with_exact": _spearman(values, true),
                    }
                )
    return pd.DataFrame(rows)


def aurocs(found: Runs, ways: list[str]) -> pd.DataFrame:
    """AUROC for mislabelled samples of each variant, averaged over epochs."""
    rows = []
    for (activation, seed), run in found.items():
        wrong = run["mislabelled"]
        ranked = {way: run[f"{way}/square"].mean(0) for way in ways}
        ranked |= {f"{way}, norm": run[f"{way}/norm"].mean(0) for way in ways}
        ranked["gradient norm"] = run[f"{EXACT}/gradient"].mean(0)
        ranked["cumulative loss"] = run[f"{EXACT}/loss"].mean(0)
        ranked["random"] = scores.random(np.arange(len(wrong)), seed=seed)
        rows += [
            {
                "activation": activation,
                "seed": seed,
                "score": name,
                "auroc": metrics.auroc(values, wrong),
            }
            for name, values in ranked.items()
        ]
    return pd.DataFrame(rows)


def by_probes(run: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """Rank correlation of n probes per epoch with a reference of many.

    Args:
        run: With ``reference`` [E, many, N] and ``tested`` [E, 10, N].

    Returns:
        Columns kind, num_probes, mean_over_epochs (mean over epochs against that of the
        reference), own_epoch and own_epoch_lowest (an epoch against its own reference),
        one_epoch and one_epoch_best (an epoch against the mean of the reference).
    """
    rows = []
    for kind, exponent in (("square", 2), ("norm", 1)):
        reference = (run["reference"] ** exponent).mean(1)  # [E, N]
        target = reference.mean(0)
        for n in (1, 2, 5, 10):
            some = (run["tested"][:, :n] ** exponent).mean(1)
            own = [_spearman(a, b) for a, b in zip(some, reference, strict=True)]
            far = [_spearman(a, target) for a in some]
            rows.append(
                {
                    "kind": kind,
                    "num_probes": n,
                    "mean_over_epochs": _spearman(some.mean(0), target),
                    "own_epoch": np.mean(own),
                    "own_epoch_lowest": np.min(own),
                    "one_epoch": np.mean(far),
                    "one_epoch_best": np.max(far),
                }
            )
    return pd.DataFrame(rows)


def facts(
    found: Runs, first: Mapping[str, np.ndarray], middle: int, num_epochs: int
) -> pd.DataFrame:
    """Single numbers: samples, epochs, the share of three classes, effects of float32.

    Returns:
        Columns name and value. ``top``: share of the exact value that the label's and
        the two most probable other classes have, its lowest epoch, and the lowest rank
        correlation with all classes. ``float32``: lowest rank correlation with float64.
    """
    runs = [run for _, run in _relu(found)]
    top, whole = (
        np.stack([run[f"{name}/square"] for run in runs])  # [S, E, N]
        for name in ("Gauss-Newton, 3 classes", "Gauss-Newton")
    )
    samples = top.shape[2]
    ranks = [
        _spearman(a, b)
        for a, b in zip(
            top.reshape(-1, samples), whole.reshape(-1, samples), strict=True
        )
    ]
    single = {
        h: min(
            _spearman(a, b)
            for run in runs
            for a, b in zip(
                run[f"{named(h)}/square"],
                run[f"{named(h, ', float64')}/square"],
                strict=True,
            )
        )
        for h in (1e-5, 1e-3)
    }
    squares = first["reference"] ** 2
    half = squares.shape[1] // 2
    values = {
        "samples": samples,
        "middle epoch": middle,
        "measured epochs": num_epochs,
        "top share": top.mean() / whole.mean(),
        "top share, lowest": (top.mean(2) / whole.mean(2)).min(),
        "top rank, lowest": min(ranks),
        "float32 rank at 1e-5": single[1e-5],
        "float32 rank at 1e-3": single[1e-3],
        "halves of the reference": _spearman(
            squares[:, :half].mean((0, 1)), squares[:, half:].mean((0, 1))
        ),
    }
    return pd.DataFrame({"name": list(values), "value": list(values.values())})


def _relu(found: Runs):
    return [(s, run) for (activation, s), run in found.items() if activation == "relu"]


def _spearman(a: np.ndarray, b: np.ndarray) -> float:
    from scipy.stats import spearmanr

    return float(spearmanr(a, b).statistic)


# --------------------------------------------------- read off the tables of a record


def summary(record: Mapping) -> pd.DataFrame:
    """AUROC of each variant: columns mean and std, by activation and score."""
    by = record["auroc"].groupby(["activation", "score"], sort=False)["auroc"]
    return by.agg(["mean", "std"]).sort_index()


def curvatures(record: Mapping) -> list[str]:
    """Names of the variants of curvature, without the norms."""
    names = record["steps"]["score"].unique()
    return list(names)


def numbers(record: Mapping) -> dict[str, float | str]:
    """The numbers that the page tells.

    Args:
        record: With the tables of ``measure``.

    Returns:
        By name: of the step (power, norm_growth, softplus_error, gelu_error,
        exact_share), of crossings, of AUROC (texts, mean ± sd over seeds), of probes.
    """
    table = record["steps"].set_index(["activation", "kind", "score"])["mean"]
    table = table.sort_index()
    names = [named(h) for h in STEPS]
    square, norm = (table["relu", kind].loc[names] for kind in ("square", "norm"))
    ratio = table / table.xs(EXACT, level="score")
    off = {
        name: (ratio[name].unstack("kind").loc[names[:4]] - 1).abs().max().max()
        for name in ("softplus", "gelu")
    }
    kinks = record["kinks"].query("exact > 0").eval("ratio = difference / exact")
    none = kinks["crossings"] == 0
    counts = record["crossings"].set_index("step")
    probes = record["probes"].set_index(["kind", "num_probes"])
    facts = record["facts"].set_index("name")["value"]
    means = summary(record)["mean"]
    best = means["relu"].loc[names].idxmax()
    finds = record["auroc"].groupby(["activation", "score"])["auroc"]
    return {
        "power": float(np.polyfit(np.log(STEPS[:4]), np.log(square.iloc[:4]), 1)[0]),
        "norm_growth": norm.iloc[0] / norm.iloc[2],
        "softplus_error": off["softplus"],
        "gelu_error": off["gelu"],
        "exact_share": 1 / ratio["relu", "square", named(1e-3)],
        "num_samples": int(facts["samples"]),
        "num_epochs": int(facts["measured epochs"]),
        "middle": int(facts["middle epoch"]),
        "num_uncrossed": int(none.sum()),
        "num_dots": len(kinks),
        "uncrossed_error": (kinks["ratio"][none] - 1).abs().median(),
        "crossed_ratio": kinks["ratio"][~none].median(),
        "count_at_step": counts.loc[1e-3, "mean_crossings"],
        "none_at_step": counts.loc[1e-3, "none"],
        "none_at_smallest": counts.loc[1e-5, "none"],
        "best_step": best,
        "above_exact": means["relu", best] - means["relu", EXACT],
        "mean_one": probes.loc[("square", 1), "mean_over_epochs"],
        "mean_two": probes.loc[("square", 2), "mean_over_epochs"],
        "one_epoch_ten": probes.loc[("square", 10), "one_epoch"],
        "own_ten": probes.loc[("square", 10), "own_epoch"],
        "halves": facts["halves of the reference"],
    } | {
        f"auroc_{key}": statistics.mean_sd(finds.get_group(("relu", score)))
        for key, score in {
            "best": best,
            "paper": named(1e-3),
            "smallest": named(1e-5),
            "exact": EXACT,
            "loss": "cumulative loss",
        }.items()
    }


def gain_of_norm(record: Mapping) -> pd.Series:
    """AUROC of the norm minus that of the square, for each activation and variant."""
    means = summary(record)["mean"]
    return pd.Series(
        {
            (a, name): means[a, f"{name}, norm"] - means[a, name]
            for a in ACTIVATIONS
            for name in curvatures(record)
        }
    )


def loss_is_best(record: Mapping) -> bool:
    """Whether the loss beats every variant of curvature with every activation."""
    means = summary(record)["mean"]
    names = curvatures(record)
    names += [f"{name}, norm" for name in names]
    return all(
        means[a, "cumulative loss"] > means[a].loc[names].max() for a in ACTIVATIONS
    )


OVERVIEW = {  # keys of ``numbers``, and what they mean
    "num_samples": "samples",
    "num_epochs": "epochs measured",
    "power": "power of h that the square grows with, ReLU",
    "norm_growth": "norm at h = 1e-5 over norm at 1e-3, ReLU",
    "exact_share": "exact square over that of h = 1e-3, ReLU",
    "count_at_step": "mean crossings at h = 1e-3",
    "none_at_step": "samples without a crossing at 1e-3",
    "none_at_smallest": "samples without a crossing at 1e-5",
    "uncrossed_error": "median error without a crossing",
    "crossed_ratio": "median ratio to exact with crossings",
    "halves": "agreement of two halves of the reference",
}
_OF_ROWS = dict.fromkeys(("num_samples", "num_epochs"), "{:,.0f}") | dict.fromkeys(
    ("exact_share", "none_at_step", "none_at_smallest"), "{:.2%}"
)


def overview(numbers: Mapping[str, Mapping]) -> pd.DataFrame:
    """The numbers of several data sets side by side, as texts.

    Args:
        numbers: What ``numbers`` returns, by label.

    Returns:
        Columns quantity and one for each label.
    """
    rows = [
        {"quantity": words}
        | {
            label: _OF_ROWS.get(key, "{:.3g}").format(found[key])
            for label, found in numbers.items()
        }
        for key, words in OVERVIEW.items()
    ]
    return pd.DataFrame(rows)


def label_changes(table: pd.DataFrame) -> pd.DataFrame:
    """What another label changes, at least and at most over seeds.

    Args:
        table: ``labels`` of ``measure``.

    Returns:
        Columns median factor and largest change, by activation and score.
    """
    found = table.groupby(["activation", "score"], sort=False)
    return found.agg({"median factor": "min", "largest change": "max"})


def epoch_curves(table: pd.DataFrame) -> pd.DataFrame:
    """Mean square by activation, variant and epoch.

    Args:
        table: ``epochs`` of ``measure``.

    Returns:
        Columns activation, score, epoch, mean and std (over seeds; 0 for one seed).
    """
    grouped = table.groupby(["activation", "score", "epoch"], sort=False)["mean"]
    return grouped.agg(["mean", "std"]).fillna(0).reset_index()
