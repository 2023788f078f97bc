# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # What do the step, the probes, the square and the activation change?

# %% [markdown]
# *Ten minutes to read. Needs: [what curvature is](/book/method.md).*
#
# The score has knobs: the length $h$ of the step, the number of random directions, the
# square or the norm of the change, the precision of the arithmetic. And there are other
# ways to the Hessian, some of them exact. Here all of them measure the *same* networks
# while they learn labels of which some are wrong: with ReLU, and with two smooth
# activations, softplus and GELU. **Expected**: on the smooth networks the knobs change little. A network of
# ReLUs is piecewise linear; its loss bends within a piece only by the softmax, and a
# finite step measures the borders between pieces that it crosses.

# %% tags=["parameters"]
dataset = "digits"  # a data set that curvlib.load knows
num_train: int = 400  # train on the first so many images; None for all
num_measured: int = None  # measure the first so many of them; None for all
noise_rate = 0.1  # share of the labels replaced, symmetric noise
seeds = [0, 1, 2]  # one training run each and activation
model = "slim_resnet"  # resnet18, slim_resnet or mlp
width = 16  # channels of its first stage
epochs = 30  # passes over the training set
scored_epochs = [1, 3, 6, 10, 18]  # epochs measured, and the last
lr = 0.1  # learning rate at the start
batch_size = 64  # images a step
schedule = "cosine"  # of the learning rate; step, cosine or constant
num_probes = 2  # random directions an epoch, new ones each epoch
num_reference = 50  # random directions of the reference for the number of probes
step = 0.001  # finite step h of the paper, in units of the normalised input
runs = "runs"  # folder of runs; what this page measured is kept in it, in estimator
results = "results/scratch/estimator"  # folder for tables and figure data

# %% tags=["hide-input"]
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from curvlib.book.source import check_parameters
from myst_nb import glue
from scipy.stats import spearmanr

from curvlib import metrics, scores
from curvlib.book import figures
from curvlib.runs import training
from curvlib.studies import variants

check_parameters(In)
results = Path(results)
results.mkdir(parents=True, exist_ok=True)

# %% [markdown]
# ## The variants
#
# Each of these is measured for every training sample at several epochs, with the same
# random directions: the finite difference with steps from $10^{-5}$ to 1, in float32 and
# partly in float64; exact products with the Hessian by differentiating twice; the
# Gauss-Newton matrix; second differences of the loss, which need no gradient.


# %%
def named(h, precision=""):
    return f"h = {h:{'.0e' if h < 0.01 else 'g'}}{precision}".replace("e-0", "e-")


steps = [1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0]
double = {"double": True, "num_probes": num_probes}
ways = {
    **{named(h): {"step": h, "num_probes": num_probes} for h in steps},
    **{named(h, ", float64"): {"step": h} | double for h in (1e-5, 1e-3)},
    "exact (autograd)": {"method": "autograd", "num_probes": num_probes},
    "Gauss-Newton": {"method": "gauss-newton", "num_probes": num_probes},
    "Gauss-Newton, 3 classes": {
        "method": "gauss-newton",
        "top_k": 3,
        "num_probes": num_probes,
    },
    **{
        f"zero-order, {named(h)}": {
            "method": "zero-order",
            "step": h,
            "num_probes": num_probes,
        }
        for h in (0.01, 0.1)
    },
}
# At one epoch in the middle in float64 next to the exact value, and with other labels.
near_steps = [1e-5, 1e-4, 1e-3]
close = {f"close {h:g}": {"step": h} | double for h in {*near_steps, step}}
close["close exact"] = {"method": "autograd"} | double
close["other label, exact"] = {"method": "autograd", "shift": 1} | double
close["other label, difference"] = {"step": step, "shift": 1} | double

at_epoch = sorted({e for e in scored_epochs if e < epochs} | {epochs})
middle = at_epoch[len(at_epoch) // 2]
activations = ("relu", "softplus", "gelu")
shown_as = {"relu": "ReLU", "gelu": "GELU"}
found = {}
for activation in activations:
    for seed in seeds:
        config = training.TrainConfig(
            dataset=dataset,
            num_train=num_train,
            noise_rate=noise_rate,
            seed=seed,
            model=model,
            width=width,
            activation=activation,
            epochs=epochs,
            lr=lr,
            batch_size=batch_size,
            schedule=schedule,
            num_probes=num_probes,
            step=step,
            score_every=epochs,
        )
        counted = activation == "relu"
        found[activation, seed] = variants.follow(
            config,
            ways,
            epochs=at_epoch,
            close=close,
            close_epoch=middle,
            num_measured=num_measured,
            crossing_steps=steps if counted else (),
            num_reference=num_reference if counted and seed == seeds[0] else 0,
            runs=f"{runs}/estimator",
        )

# %% tags=["remove-cell"]
first = found["relu", seeds[0]]
num_samples = len(first["mislabelled"])
glue("num_samples", num_samples, display=False)
glue("num_seeds", len(seeds), display=False)
glue("middle", int(middle), display=False)
glue("num_scored", len(at_epoch), display=False)

# %% [markdown]
# ## The step
#
# Mean over {glue:text}`num_samples` samples, {glue:text}`num_scored` epochs and
# {glue:text}`num_seeds` seeds.

# %% tags=["hide-input"] mystnb={"figure": {"caption": "{glue:text}`step_verdict`: from h = 0.01 down to 1e-5 the mean square grows as h to the power {glue:text}`power_square:.2f`, while the mean norm is {glue:text}`norm_growth:.2f` times as large at 1e-5 as at 1e-3. With softplus both stay within {glue:text}`smooth_error:.1%` of the exact value up to h = 0.01, with GELU within {glue:text}`gelu_error:.1%`. Lines: float32, bars: sd over {glue:text}`num_seeds` seeds, hollow: float64, dotted: exact.", "name": "fig-step"}, "image": {"alt": "Two panels of curvature against the step on logarithmic axes, lines for ReLU, softplus and GELU. The square of ReLU falls with larger steps; the lines of the smooth networks lie on their exact values up to large steps."}}
rows = []
for activation in activations:
    for kind in ("square", "norm"):
        for name in ways:
            means = [found[activation, s][f"{name}/{kind}"].mean() for s in seeds]
            rows.append(
                {
                    "activation": activation,
                    "kind": kind,
                    "score": name,
                    "mean": np.mean(means),
                    "sd": np.std(means, ddof=min(1, len(means) - 1)),
                }
            )
by_step = pd.DataFrame(rows).set_index(["activation", "kind", "score"])
by_step.reset_index().to_csv(results / "fig-step.csv", index=False)
names = [named(h) for h in steps]
fig, axes = plt.subplots(1, 2, figsize=(7, 3), layout="constrained", facecolor="white")
for ax, kind, unit in zip(axes, ("square", "norm"), ("‖Δ(v)‖²", "‖Δ(v)‖"), strict=True):
    for activation, line, marker, colour in zip(
        activations, figures.LINES, figures.MARKERS, figures.COLOURS, strict=False
    ):
        part = by_step.loc[activation, kind]
        ax.errorbar(
            steps,
            part.loc[names, "mean"],
            yerr=part.loc[names, "sd"],
            fmt=f"{marker}{line}",
            color=colour,
            ms=4,
            capsize=2,
            label=shown_as.get(activation, activation),
        )
        ax.plot(
            [1e-5, 1e-3],
            [part.loc[named(h, ", float64"), "mean"] for h in (1e-5, 1e-3)],
            marker,
            color=colour,
            markerfacecolor="none",
            ms=9,
        )
        ax.axhline(part.loc["exact (autograd)", "mean"], color=colour, lw=1.4, ls=":")
    ax.set(xscale="log", yscale="log", xlabel="step h", ylabel=f"mean {unit}")
_ = axes[0].legend(frameon=False)

relu = {k: by_step.loc["relu", k].loc[names, "mean"] for k in ("square", "norm")}
small = [h <= 0.01 for h in steps]
power = np.polyfit(np.log(steps)[small], np.log(relu["square"])[small], 1)[0]
growth = float(relu["norm"].iloc[0] / relu["norm"].iloc[2])
about = "about as 1/h" if -1.3 < power < -0.7 else "otherwise than 1/h"
level = "levels off" if 0.67 < growth < 1.5 else "does not level off"
smooth_errors = {
    activation: max(
        abs(value / by_step.loc[(activation, kind, "exact (autograd)"), "mean"] - 1)
        for kind in ("square", "norm")
        for value in by_step.loc[activation, kind].loc[names, "mean"][small]
    )
    for activation in ("softplus", "gelu")
}
exact_share = (
    by_step.loc[("relu", "square", "exact (autograd)"), "mean"]
    / by_step.loc[("relu", "square", named(1e-3)), "mean"]
)
glue(
    "step_verdict",
    f"On ReLUs the mean square grows {about} as the step shrinks, and the mean norm "
    f"{level}",
    display=False,
)
glue("power_square", float(power), display=False)
top, whole = (
    np.stack([found["relu", s][f"{name}/square"] for s in seeds])  # [S, E, N]
    for name in ("Gauss-Newton, 3 classes", "Gauss-Newton")
)
glue("top_share", float(top.mean() / whole.mean()), display=False)
glue("top_lowest", float((top.mean(2) / whole.mean(2)).min()), display=False)
glue(
    "top_rank",
    float(
        min(
            spearmanr(a, b).statistic
            for a, b in zip(
                top.reshape(-1, top.shape[2]),
                whole.reshape(-1, top.shape[2]),
                strict=True,
            )
        )
    ),
    display=False,
)
glue("norm_growth", growth, display=False)
glue("smooth_error", float(smooth_errors["softplus"]), display=False)
glue("gelu_error", float(smooth_errors["gelu"]), display=False)
glue("exact_share", float(exact_share), display=False)

# %% [markdown]
# On the ReLU network the exact Hessian has {glue:text}`exact_share:.2%` of the mean square
# that a step of $10^{-3}$ measures. What is the rest? (Of the exact value, the label's and
# the two most probable other classes have {glue:text}`top_share:.1%`, the least of the
# measured epochs {glue:text}`top_lowest:.1%`, and rank the samples as all classes do to
# {glue:text}`top_rank:.2f` at least: with many classes, `top_k` is worth a try.)
#
# ## What the finite step measures
#
# A unit of ReLU that is off at $x$ and on at $x + hv$, or the other way round, is a border
# that the step crossed. There the gradient jumps, by an amount $J$ that does not depend
# on $h$. The number of crossings grows like $h$, each adds about $(J/h)^2$ to the square:
# that makes $1/h$. To the norm it adds $J/h$, and $h$ cancels as long as crossings are
# rare; where a step crosses many, their jumps add like the steps of a random walk, and the
# norm too grows as the step shrinks, about as $1/\sqrt h$. Counting the units that differ
# at the two ends, in float64:

# %% mystnb={"figure": {"caption": "{glue:text}`kink_verdict`: where no unit differs, n = {glue:text}`num_uncrossed` of {glue:text}`num_dots` over all seeds and these steps, the finite difference is the exact value up to {glue:text}`uncrossed_error:.2g` (median of the relative difference; {glue:text}`uncrossed_high:.2g` for 95 % of them); where some differ it is {glue:text}`crossed_ratio:.0f` times the exact one in the median. Dots: first seed, epoch {glue:text}`middle`.", "name": "fig-kinks"}, "image": {"alt": "Left: the mean number of crossings against the step, a straight line on logarithmic axes. Right: scatter of the ratio of finite difference to exact value against the number of crossings, at one without crossings and far above with them."}} tags=["hide-input"]
rows = []
for seed in seeds:
    run = found["relu", seed]
    exact = run["close exact/square"]
    for h in near_steps:
        counts = run[f"crossings/{h:g}"]  # [K, N]
        rows.append(
            pd.DataFrame(
                {
                    "seed": seed,
                    "step": h,
                    "index": np.arange(len(exact)),
                    "crossings": counts.mean(0),
                    "difference": run[f"close {h:g}/square"],
                    "exact": exact,
                }
            )
        )
kinks = pd.concat(rows, ignore_index=True)
kinks.to_csv(results / "fig-kinks.csv", index=False)
kinks = kinks[kinks["exact"] > 0]
kinks["ratio"] = kinks["difference"] / kinks["exact"]
counted = {h: [found["relu", s][f"crossings/{h:g}"] for s in seeds] for h in steps}
mean_count = pd.Series({h: np.mean(counts) for h, counts in counted.items()})
none = {h: np.mean([(c == 0).all(0) for c in counted[h]]) for h in steps}
mean_count.rename("mean_crossings").to_csv(
    results / "crossings.csv", index_label="step"
)
uncrossed = kinks[kinks["crossings"] == 0]
off = np.abs(uncrossed["ratio"] - 1)
crossed = kinks.loc[kinks["crossings"] > 0, "ratio"]

fig, axes = plt.subplots(1, 2, figsize=(7, 3), layout="constrained", facecolor="white")
axes[0].plot(mean_count.index, mean_count, "o-", color=figures.COLOURS[0])
axes[0].set(xscale="log", yscale="log", xlabel="step h", ylabel="mean crossings")
for h, marker, colour in zip(
    near_steps, figures.MARKERS, figures.COLOURS, strict=False
):
    part = kinks[(kinks["seed"] == seeds[0]) & (kinks["step"] == h)]
    axes[1].scatter(
        part["crossings"],
        part["ratio"],
        s=9,
        alpha=0.5,
        marker=marker,
        color=colour,
        label=named(h),
    )
axes[1].axhline(1, color="black", lw=1, zorder=0)
axes[1].set(yscale="log", xlabel="crossings, mean over probes")
axes[1].set_ylabel("difference / exact")
_ = axes[1].legend(frameon=False, fontsize=9)

nan = float("nan")
median_off = float(off.median()) if len(off) else nan
crossed_ratio = float(crossed.median()) if len(crossed) else nan
glue(
    "kink_verdict",
    "Without a kink in reach a single sample is exact"
    if median_off < 0.01
    else "Even without a kink in reach a sample is not exact",
    display=False,
)
glue("num_uncrossed", len(uncrossed), display=False)
glue("num_dots", len(kinks), display=False)
glue("uncrossed_error", median_off, display=False)
glue("uncrossed_high", float(off.quantile(0.95)), display=False)
glue("crossed_ratio", crossed_ratio, display=False)
glue("count_at_step", float(mean_count[1e-3]), display=False)
glue("none_at_step", float(none[1e-3]), display=False)
glue("none_at_smallest", float(none[1e-5]), display=False)
power_count = np.polyfit(np.log(steps[:4]), np.log(mean_count.iloc[:4] + 1e-12), 1)[0]
glue("power_count", float(power_count), display=False)
related = [
    spearmanr(part["crossings"], part["difference"]).statistic
    for _, part in kinks[kinks["step"] == 1e-3].groupby("seed")
]
glue("related", metrics.mean_sd(related, digits=2), display=False)

# %% [markdown]
# At epoch {glue:text}`middle` a step of $10^{-3}$ crosses {glue:text}`count_at_step:.1f` borders on average, and
# {glue:text}`none_at_step:.0%` of the samples cross none with any probe; at $10^{-5}$
# {glue:text}`none_at_smallest:.0%` cross none, and the mean is the doing of the few others.
# Up to $h = 0.01$ the count grows as $h$ to the power {glue:text}`power_count:.2f`. A
# sample's number of crossings and its score at $10^{-3}$ correlate with
# {glue:text}`related` (Spearman, mean ± sd over seeds): how far the gradient jumps at
# each border counts too.
#
# ## The label
#
# Within a linear piece the Hessian is $J^\top(\mathrm{diag}\,p - pp^\top)J$ and holds no
# label. The jump of the gradient at a kink does: the gradient of a badly fitted sample is
# large. We score each sample again with the next class as its label.

# %%
rows = []
for activation in activations:
    for seed in seeds:
        run = found[activation, seed]
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
labels = pd.DataFrame(rows)
labels.to_csv(results / "labels.csv", index=False)
by_label = labels.groupby(["activation", "score"]).agg(
    {"median factor": "min", "largest change": "max"}  # over seeds
)
by_label.style.format({"median factor": "{:.4g}", "largest change": "{:.1e}"})

# %% tags=["remove-cell"]
label_exact = float(by_label.loc[("relu", "exact"), "largest change"])
glue("label_exact", label_exact, display=False)
for key, row in (("finite", ("relu", named(step))), ("smooth", ("softplus", "exact"))):
    glue(f"label_{key}", float(by_label.loc[row, "median factor"]), display=False)
glue(
    "label_verdict",
    "does not depend on the label" if label_exact < 1e-6 else "depends on the label",
    display=False,
)

# %% [markdown]
# The exact curvature of the ReLU network {glue:text}`label_verdict`: with another one it
# changes by {glue:text}`label_exact:.2g` of the larger value at most. The finite difference
# changes by a factor of {glue:text}`label_finite:.3g` in the median (the least of the
# seeds), and the exact curvature of the softplus network by
# {glue:text}`label_smooth:.3g`: with a wrong label the gradient is large, and kinks or
# smooth bends of the network count in proportion to it.
#
# ## Over the epochs
#
# Does the finite difference at least rise and fall with the exact curvature, and rank the
# samples of an epoch as it does?

# %% tags=["hide-input"] mystnb={"figure": {"caption": "{glue:text}`epochs_verdict`: at the last measured epoch the finite difference with the paper's step is {glue:text}`last_ratio_relu:.3g` times the exact value on ReLUs, {glue:text}`last_ratio_gelu:.3g` times with GELU. Over the measured epochs their ranks agree to {glue:text}`rank_low_relu:.2f`\u2013{glue:text}`rank_high_relu:.2f` on ReLUs (Spearman, mean over seeds), to {glue:text}`rank_low_gelu:.2f`\u2013{glue:text}`rank_high_gelu:.2f` with GELU. Mean over samples; bars: sd over {glue:text}`num_seeds` seeds.", "name": "fig-epochs"}, "image": {"alt": "Three panels, one an activation, of the mean square against the epoch: exact value and finite differences with three steps. On ReLUs they lie apart, on the smooth networks together."}}
rows = []
for (activation, seed), run in found.items():
    exact = run["exact (autograd)/square"]  # [E, N]
    for name in ("exact (autograd)", named(1e-2), named(1e-3), named(1e-4)):
        for epoch, values, true in zip(
            at_epoch, run[f"{name}/square"], exact, strict=True
        ):
            rows.append(
                {
                    "activation": activation,
                    "seed": seed,
                    "score": name,
                    "epoch": epoch,
                    "mean": values.mean(),
                    "over_exact": values.mean() / true.mean(),
                    "spearman_with_exact": spearmanr(values, true).statistic,
                }
            )
over_epochs = pd.DataFrame(rows)
over_epochs.to_csv(results / "fig-epochs.csv", index=False)
fig, axes = plt.subplots(
    1,
    len(activations),
    figsize=(7, 2.9),
    sharey=True,
    layout="constrained",
    facecolor="white",
)
for ax, activation in zip(axes, activations, strict=True):
    part = over_epochs[over_epochs["activation"] == activation]
    for (name, line), marker, colour in zip(
        part.groupby("score", sort=False),
        figures.MARKERS,
        figures.COLOURS,
        strict=False,
    ):
        by_epoch = line.groupby("epoch")["mean"].agg(["mean", "std"]).fillna(0)
        ax.errorbar(
            by_epoch.index,
            by_epoch["mean"],
            yerr=by_epoch["std"],
            fmt=f"{marker}-",
            ms=4,
            capsize=2,
            color=colour,
            label="exact" if name.startswith("exact") else name,
        )
    ax.set(yscale="log", xlabel="epoch", title=shown_as.get(activation, activation))
axes[0].set_ylabel("mean ‖Δ(v)‖²")
_ = axes[-1].legend(frameon=False, fontsize=8)

at_paper = over_epochs[over_epochs["score"] == named(1e-3)]
for activation in ("relu", "gelu"):
    part = at_paper[at_paper["activation"] == activation]
    by_epoch = part.groupby("epoch")[["over_exact", "spearman_with_exact"]].mean()
    ranks = by_epoch["spearman_with_exact"]
    glue(
        f"last_ratio_{activation}",
        float(by_epoch["over_exact"].iloc[-1]),
        display=False,
    )
    glue(f"rank_low_{activation}", float(ranks.min()), display=False)
    glue(f"rank_high_{activation}", float(ranks.max()), display=False)
ratios = at_paper.groupby(["activation", "epoch"])["over_exact"].mean()
apart = ratios["relu"].min() > 1.5 and abs(ratios["gelu"] - 1).max() < 0.1
glue(
    "epochs_verdict",
    "On ReLUs the two are different scores at every epoch, with GELU one and the same"
    if apart
    else "How far the two are apart depends on the epoch and the activation",
    display=False,
)

# %% [markdown]
# ## Which variant finds wrong labels?
#
# Every variant averaged over the {glue:text}`num_scored` measured epochs; beside it the
# loss and the norm of the gradient, averaged over the same epochs, and random numbers.

# %%
rows = []
for (activation, seed), run in found.items():
    wrong = run["mislabelled"]
    scored = {name: run[f"{name}/square"] for name in ways}
    scored |= {f"{name}, norm": run[f"{name}/norm"] for name in ways}
    ranked = {name: values.mean(0) for name, values in scored.items()}
    ranked["gradient norm"] = run["exact (autograd)/gradient"].mean(0)
    ranked["cumulative loss"] = run["exact (autograd)/loss"].mean(0)
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
finds = pd.DataFrame(rows)
finds.to_csv(results / "fig-auroc.csv", index=False)
summary = finds.groupby(["activation", "score"])["auroc"].agg(["mean", "std"]).fillna(0)

# %% tags=["remove-cell"]
best, worst = {}, {}
for activation in activations:
    curve = summary.loc[activation].loc[names, "mean"]
    best[activation], worst[activation] = curve.idxmax(), curve.idxmin()


def auroc_of(activation, score):
    chosen = (finds["activation"] == activation) & (finds["score"] == score)
    return metrics.mean_sd(finds.loc[chosen, "auroc"])


paper = named(step)
for key, activation, score in (
    ("best", "relu", best["relu"]),
    ("paper", "relu", paper),
    ("paper_norm", "relu", f"{paper}, norm"),
    ("smallest", "relu", named(1e-5)),
    ("largest", "relu", named(1.0)),
    ("exact", "relu", "exact (autograd)"),
    ("loss", "relu", "cumulative loss"),
    ("gradient", "relu", "gradient norm"),
    ("random", "relu", "random"),
    ("zero", "relu", "zero-order, h = 0.01"),
    ("smooth", "softplus", paper),
    ("smooth_exact", "softplus", "exact (autograd)"),
    ("smooth_loss", "softplus", "cumulative loss"),
    ("gelu", "gelu", paper),
    ("gelu_exact", "gelu", "exact (autograd)"),
    ("zero_far", "relu", "zero-order, h = 0.1"),
):
    glue(f"auroc_{key}", auroc_of(activation, score), display=False)
glue("best_step", best["relu"], display=False)
curve = summary.loc["relu"].loc[names, "mean"]
good = list(curve.index[curve > curve.max() - 0.02])
glue("good_steps", " or ".join(good), display=False)
curvatures = [*ways, *(f"{name}, norm" for name in ways)]
beaten = {
    a: summary.loc[(a, "cumulative loss"), "mean"]
    > summary.loc[a].loc[curvatures, "mean"].max()
    for a in activations
}
glue(
    "loss_verdict",
    "above every variant of curvature with every activation"
    if all(beaten.values())
    else "below the best variant of curvature with at least one activation",
    display=False,
)
gain = [
    summary.loc[(a, f"{name}, norm"), "mean"] - summary.loc[(a, name), "mean"]
    for a in activations
    for name in ways
]
better = np.sum(np.array(gain) > 0)
glue("norm_verdict", "norm" if better > len(gain) / 2 else "square", display=False)
glue("norm_low", float(min(gain)), display=False)
glue("norm_high", float(max(gain)), display=False)
glue("norm_better", int(better), display=False)
glue("norm_of", len(gain), display=False)
precision = {
    h: [
        spearmanr(
            run[f"{named(h)}/square"][e], run[f"{named(h, ', float64')}/square"][e]
        )
        for run in (found["relu", s] for s in seeds)
        for e in range(len(at_epoch))
    ]
    for h in (1e-5, 1e-3)
}
for key, h in (("small", 1e-5), ("paper", 1e-3)):
    ranks = [r.statistic for r in precision[h]]
    glue(f"float_{key}_low", float(np.min(ranks)), display=False)
    shift = abs(
        summary.loc[("relu", named(h)), "mean"]
        - summary.loc[("relu", named(h, ", float64")), "mean"]
    )
    glue(f"float_{key}_auroc", float(shift), display=False)
above = (
    summary.loc[("relu", best["relu"]), "mean"]
    - summary.loc[("relu", "exact (autograd)"), "mean"]
)
glue(
    "auroc_verdict",
    "On ReLUs the kinks carry the signal"
    if above > 0.02
    else "On ReLUs the exact Hessian does as well as the kinks",
    display=False,
)

# %% mystnb={"figure": {"caption": "{glue:text}`auroc_verdict`: the exact Hessian has an AUROC of {glue:text}`auroc_exact`, the finite difference with {glue:text}`best_step` {glue:text}`auroc_best`, with the paper's step {glue:text}`auroc_paper`. The loss, with {glue:text}`auroc_loss`, is {glue:text}`loss_verdict`. Mean \u00b1 sd over {glue:text}`num_seeds` seeds, squares unless it says norm.", "name": "fig-auroc"}, "image": {"alt": "Dots of AUROC with error bars for each variant, ReLU, softplus and GELU side by side, beside the loss, the gradient norm and random numbers."}} tags=["hide-input"]
listed = [*ways, f"{paper}, norm", "gradient norm", "cumulative loss", "random"]
fig, ax = plt.subplots(figsize=(7, 4.6), layout="constrained", facecolor="white")
place = np.arange(len(listed))[::-1]
for activation, marker, colour, lift in zip(
    activations, figures.MARKERS, figures.COLOURS, (0.2, 0.0, -0.2), strict=False
):
    part = summary.loc[activation].loc[listed]
    ax.errorbar(
        part["mean"],
        place + lift,
        xerr=part["std"],
        fmt=marker,
        color=colour,
        ms=5,
        capsize=2,
        label=shown_as.get(activation, activation),
    )
ax.axvline(0.5, color=figures.GREY, lw=1.2, ls=":")
ax.set_yticks(place, listed, fontsize=9)
ax.set_xlabel("AUROC for replaced labels")
_ = ax.legend(frameon=False, loc="lower center")

# %% [markdown]
# The unsquared norm has the higher AUROC in {glue:text}`norm_better` of
# {glue:text}`norm_of` cases (each variant, each activation; differences from
# {glue:text}`norm_low:+.3f` to {glue:text}`norm_high:+.3f`). A square gives more weight to
# the few epochs and directions with the largest change. Float32 against float64 on ReLUs:
# at $h = 10^{-3}$ the ranks at an epoch agree to {glue:text}`float_paper_low:.4f`
# (Spearman) or better and the AUROC moves by {glue:text}`float_paper_auroc:.1g` at most, at
# $10^{-5}$ it is {glue:text}`float_small_low:.2f` and {glue:text}`float_small_auroc:.1g`.
#
# ## The number of probes
#
# What is wanted is the mean over epochs with many probes; here {glue:text}`num_reference`
# an epoch stand for it. How well do $n$ other ones an epoch rank the samples, and how well
# does a single epoch? And does a single epoch with $n$ probes at least find its own
# reference? ReLU, first seed, the paper's step.

# %% tags=["hide-input"] mystnb={"figure": {"caption": "{glue:text}`probe_verdict`: one probe at each of {glue:text}`num_scored` epochs agrees with the reference to {glue:text}`mean_one:.2f` (Spearman, square), two to {glue:text}`mean_two:.2f`, ten to {glue:text}`mean_ten:.2f`; ten at a single epoch to {glue:text}`target_ten:.2f` on average over epochs, {glue:text}`target_best:.2f` at the best one, though they agree with the reference of their own epoch to {glue:text}`single_ten:.2f`. Two halves of the reference agree to {glue:text}`halves:.2f`. n = {glue:text}`num_samples` samples.", "name": "fig-probes"}, "image": {"alt": "Spearman correlation against the number of probes for square and norm: the mean over epochs and one epoch against its own reference rise with probes, one epoch against the mean over epochs hardly."}}
rows = []
for kind, exponent in (("square", 2), ("norm", 1)):
    reference = (first["reference"] ** exponent).mean(1)  # [E, N]
    for n in (1, 2, 5, 10):
        some = (first["tested"][:, :n] ** exponent).mean(1)
        each = [spearmanr(a, b).statistic for a, b in zip(some, reference, strict=True)]
        target = reference.mean(0)
        over = spearmanr(some.mean(0), target).statistic
        far = [spearmanr(a, target).statistic for a in some]
        rows.append(
            {
                "kind": kind,
                "num_probes": n,
                "mean_over_epochs": over,
                "own_epoch": np.mean(each),
                "own_epoch_lowest": np.min(each),
                "one_epoch": np.mean(far),
                "one_epoch_best": np.max(far),
            }
        )
probing = pd.DataFrame(rows)
probing.to_csv(results / "fig-probes.csv", index=False)
fig, ax = plt.subplots(figsize=(7, 3), layout="constrained", facecolor="white")
for kind, marker, colour in zip(
    ("square", "norm"), figures.MARKERS, figures.COLOURS, strict=False
):
    part = probing[probing["kind"] == kind]
    for column, line, face, name in (
        ("mean_over_epochs", "-", colour, "mean over epochs"),
        ("own_epoch", ":", "white", "one epoch, its own reference"),
        ("one_epoch", "--", "white", "one epoch"),
    ):
        ax.plot(
            part["num_probes"],
            part[column],
            f"{marker}{line}",
            color=colour,
            markerfacecolor=face,
            label=f"{kind}, {name}",
        )
ax.set(xscale="log", xlabel="probes an epoch", ylabel="Spearman with the reference")
ax.set_xticks([1, 2, 5, 10], ["1", "2", "5", "10"])
ax.minorticks_off()
_ = ax.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))

lookup = probing.set_index(["kind", "num_probes"])
half = num_reference // 2
squares = first["reference"] ** 2
halves = spearmanr(
    squares[:, :half].mean((0, 1)), squares[:, half:].mean((0, 1))
).statistic
averaged = (
    lookup.loc[("square", 1), "mean_over_epochs"]
    > lookup.loc[("square", 10), "one_epoch"]
)
glue(
    "probe_verdict",
    "One probe at each of several epochs beats ten at one, taken on average"
    if averaged
    else "Ten probes at one epoch are as good as one at each of several",
    display=False,
)
glue(
    "spend_verdict",
    "spend on epochs before probes" if averaged else "spend on probes, not on epochs",
    display=False,
)
glue("num_reference", num_reference, display=False)
glue("halves", float(halves), display=False)
for key, kind, n, column in (
    ("mean_one", "square", 1, "mean_over_epochs"),
    ("mean_two", "square", 2, "mean_over_epochs"),
    ("mean_ten", "square", 10, "mean_over_epochs"),
    ("target_ten", "square", 10, "one_epoch"),
    ("target_best", "square", 10, "one_epoch_best"),
    ("single_ten", "square", 10, "own_epoch"),
    ("norm_mean_one", "norm", 1, "mean_over_epochs"),
    ("norm_mean_two", "norm", 2, "mean_over_epochs"),
):
    glue(key, float(lookup.loc[(kind, n), column]), display=False)

# %% [markdown]
# ## The answer
#
# On a smooth network the step hardly matters (AUROC {glue:text}`auroc_smooth` with the
# paper's step, {glue:text}`auroc_smooth_exact` exactly with softplus;
# {glue:text}`auroc_gelu` and {glue:text}`auroc_gelu_exact` with GELU). On a network of ReLUs it *is* the
# score: {glue:text}`auroc_smallest` at $h = 10^{-5}$, {glue:text}`auroc_paper` at the
# paper's, {glue:text}`auroc_best` at the best here ({glue:text}`best_step`),
# {glue:text}`auroc_largest` at 1, and {glue:text}`auroc_exact` for the exact Hessian, which
# {glue:text}`label_verdict`. **So**: keep a finite step, report it, and on data like these
# take {glue:text}`good_steps`; average the {glue:text}`norm_verdict` where the ranking
# counts, and {glue:text}`spend_verdict`: with two probes at each of
# {glue:text}`num_scored` epochs the ranking agrees with the reference to
# {glue:text}`norm_mean_two:.2f` (norm) and {glue:text}`mean_two:.2f` (square). The loss finds
# the replaced labels of the ReLU network with {glue:text}`auroc_loss`, the norm of the
# gradient with {glue:text}`auroc_gradient`: the loss is
# {glue:text}`loss_verdict`; random numbers have {glue:text}`auroc_random`.
