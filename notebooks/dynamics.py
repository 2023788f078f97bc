# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # How does curvature move during training, and why average over it?

# %% [markdown]
# *Six minutes to read. Needs: [what curvature is](/book/method.md).*
#
# The score of a sample is not its curvature at the end of training, but the mean over all
# epochs. This page shows why. We follow three groups through a run with wrong labels:
# samples whose label was kept, samples whose label was replaced, and images that the
# network never trains on. **Expected**, from the paper: mean curvature rises while the
# network learns, peaks, and falls again once all is fitted and margins grow; single
# epochs are worse scores than their mean.

# %% tags=["parameters"]
dataset = "digits"  # a data set that curvlib.load knows
num_train: int = None  # train on the first so many images; None for all
num_heldout = 300  # images of the test split that are scored too, never trained on
noise_rate = 0.1  # share of the labels replaced, symmetric noise
seeds = [0, 1, 2]  # one training run each; the first is drawn where one is
model = "slim_resnet"  # resnet18, slim_resnet or mlp
width = 16  # channels of its first stage
epochs = 30  # passes over the training set
lr = 0.1  # learning rate at the start
batch_size = 64  # images a step
schedule = "cosine"  # of the learning rate; step, cosine or constant
weight_decay = 0.0  # on all weights
augment = False  # random crops and flips
num_probes = 2  # random directions an epoch, new ones each epoch
step = 0.001  # finite step h, in units of the normalised input
runs = "runs"  # folder of the training runs; a finished run is read, not trained again
results = "results/scratch/dynamics"  # folder for tables and figure data

# %% tags=["hide-input"]
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from myst_nb import glue

from curvlib import costs, metrics, plots, training
from curvlib.notebooks import check_parameters

check_parameters(In)
results = Path(results)
results.mkdir(parents=True, exist_ok=True)

# %% [markdown]
# ## The runs

# %%
traces = []
for seed in seeds:
    config = training.TrainConfig(
        dataset=dataset,
        num_train=num_train,
        num_heldout=num_heldout,
        noise_rate=noise_rate,
        seed=seed,
        model=model,
        width=width,
        epochs=epochs,
        lr=lr,
        batch_size=batch_size,
        schedule=schedule,
        weight_decay=weight_decay,
        augment=augment,
        num_probes=num_probes,
        step=step,
    )
    images, heldout = training.prepare(config)  # by index, as the trace is
    trace = training.fit(config, images, heldout, runs=runs)
    traces.append((trace, images.mislabelled))
costs.of_runs(run for run, _ in traces).to_csv(results / "runs.csv", index=False)

trace, wrong = traces[0]
epoch = trace.epochs
curvature = trace.read("squared_frobenius_norm")  # [E, N]
unseen = trace.read("squared_frobenius_norm", "heldout")
groups = {
    "label kept": curvature[:, ~wrong],
    "label replaced": curvature[:, wrong],
    "never trained on": unseen,
}

# %% [markdown]
# ## First easy, then by heart
#
# What fraction of each group the network classifies as its label says, epoch by epoch.
# For a replaced label there is nothing to go by but the image itself.

# %% tags=["hide-input"] mystnb={"figure": {"caption": "{glue:text}`late_verdict`: half of the replaced labels are right from epoch {glue:text}`half_wrong` on, half of the others from epoch {glue:text}`half_kept` on. At the end the network gives back {glue:text}`fit_wrong:.1%` of the replaced labels; on {glue:text}`num_heldout` images it never saw it is right on {glue:text}`test_accuracy:.1%`.", "name": "fig-accuracy"}, "image": {"alt": "Three lines of accuracy against epoch: samples with kept labels rise first, samples with replaced labels much later, unseen images level off."}}
right = trace.read("correct")
accuracy = {
    "label kept": right[:, ~wrong].mean(1),
    "label replaced": right[:, wrong].mean(1),
    "never trained on": trace.read("correct", "heldout").mean(1),
}


def first_epoch(values, level=0.5):
    """The first scored epoch from which on the values stay at the level or above."""
    below = np.flatnonzero(values < level)
    start = below[-1] + 1 if len(below) else 0
    return int(epoch[start]) if start < len(epoch) else "(never)"


glue("half_wrong", first_epoch(accuracy["label replaced"]), display=False)
half = [first_epoch(accuracy[name]) for name in ("label replaced", "label kept")]
glue(
    "late_verdict",
    "Replaced labels are learned late"
    if half[0] == "(never)" or (half[1] != "(never)" and half[0] > half[1])
    else "Replaced labels are learned no later than others",
    display=False,
)
glue("half_kept", first_epoch(accuracy["label kept"]), display=False)
glue("fit_wrong", accuracy["label replaced"][-1], display=False)
glue("test_accuracy", accuracy["never trained on"][-1], display=False)
glue("num_heldout", num_heldout, display=False)
pd.DataFrame({"epoch": epoch} | accuracy).to_csv(
    results / "fig-accuracy.csv", index=False
)
fig, ax = plt.subplots(figsize=(7, 2.8), layout="constrained", facecolor="white")
for (name, values), line, colour in zip(
    accuracy.items(), plots.LINES, plots.COLOURS, strict=False
):
    ax.plot(epoch, values, line, color=colour, label=name)
ax.set(xlabel="epoch", ylabel="accuracy", ylim=(0, 1.02))
_ = ax.legend(frameon=False)

# %% [markdown]
# ## Rise, peak and fall

# %% tags=["hide-input"] mystnb={"figure": {"caption": "Mean curvature of the training samples peaks at epoch {glue:text}`peak_epoch` of {glue:text}`num_epochs` and ends at {glue:text}`end_share:.2%` of the peak. Where it is highest, samples with a replaced label have {glue:text}`peak_ratio:.1f` times the mean curvature of the others. First seed.", "name": "fig-mean"}, "image": {"alt": "Lines of mean curvature on a logarithmic axis against epoch for three groups, rising, peaking and falling."}}
means = {name: values.mean(1) for name, values in groups.items()}
overall = curvature.mean(1)
peak = int(overall.argmax())
glue("peak_epoch", int(epoch[peak]), display=False)
glue("num_epochs", int(epoch[-1]), display=False)
glue("end_share", float(overall[-1] / overall[peak]), display=False)
glue(
    "peak_ratio",
    float(means["label replaced"][peak] / means["label kept"][peak]),
    display=False,
)
pd.DataFrame({"epoch": epoch} | means).to_csv(results / "fig-mean.csv", index=False)
fig, ax = plt.subplots(figsize=(7, 3), layout="constrained", facecolor="white")
for (name, values), line, colour in zip(
    means.items(), plots.LINES, plots.COLOURS, strict=False
):
    ax.plot(epoch, values, line, color=colour, label=name)
ax.set(xlabel="epoch", ylabel="mean tr(H²)", yscale="log")
_ = ax.legend(frameon=False)

# %% [markdown]
# A mean can be the doing of a few samples. The median, with the middle half of each group:

# %% tags=["hide-input"] mystnb={"figure": {"caption": "Median curvature and the middle half of each group. At the end the median of the samples with a replaced label is {glue:text}`end_ratio` that of the others. First seed.", "name": "fig-quantiles"}, "image": {"alt": "Median lines with shaded bands of curvature on a logarithmic axis against epoch for three groups."}}
medians = {name: np.median(values, axis=1) for name, values in groups.items()}
glue(
    "end_ratio",
    f"{medians['label replaced'][-1] / medians['label kept'][-1]:.3g} times"
    if medians["label kept"][-1] > 0
    else "above 0,",
    display=False,
)
pd.DataFrame(
    {
        "epoch": np.tile(epoch, len(groups)),
        "group": np.repeat(list(groups), len(epoch)),
        **{
            f"quantile_{q:.2f}": np.concatenate(
                [np.quantile(v, q, axis=1) for v in groups.values()]
            )
            for q in (0.25, 0.5, 0.75)
        },
    }
).to_csv(results / "fig-quantiles.csv", index=False)
_ = plots.epoch_band(epoch, groups, log=True, ylabel="tr(H²)")

# %% [markdown]
# ## Why average
#
# Any single epoch gives a score too. How well does it find the replaced labels, and how
# well does the mean of all epochs so far?

# %%
rows = []
for (run, flipped), seed in zip(traces, seeds, strict=True):
    values = run.read("squared_frobenius_norm").astype(np.float64)
    running = np.cumsum(values, axis=0) / np.arange(1, len(values) + 1)[:, None]
    for kind, scored in (("this epoch alone", values), ("mean so far", running)):
        for number, row in zip(run.epochs, scored, strict=True):
            rows.append(
                {
                    "seed": seed,
                    "epoch": int(number),
                    "score": kind,
                    "auroc": metrics.auroc(row, flipped),
                }
            )
averaging = pd.DataFrame(rows)
averaging.to_csv(results / "fig-averaging.csv", index=False)

# %% tags=["remove-cell"]
summary = averaging.groupby(["score", "epoch"])["auroc"].agg(["mean", "std"]).fillna(0)
single, mean = summary.loc["this epoch alone"], summary.loc["mean so far"]
best = single["mean"].idxmax()
glue("best_epoch", int(best), display=False)
glue("num_seeds", len(seeds), display=False)
last = averaging["epoch"].max()
for key, kind, number in (
    ("mean", "mean so far", last),
    ("last", "this epoch alone", last),
    ("best", "this epoch alone", best),
):
    chosen = (averaging["score"] == kind) & (averaging["epoch"] == number)
    text = metrics.mean_sd(averaging.loc[chosen, "auroc"])
    glue(f"{key}_auroc", text, display=False)
difference = mean["mean"].iloc[-1] - single["mean"].max()
glue(
    "average_verdict",
    f"{difference:+.3f} against the best single epoch, which nobody knows in advance",
    display=False,
)
peaks = []
for run, _ in traces:
    curve = run.read("squared_frobenius_norm").mean(1)
    peaks.append((int(run.epochs[curve.argmax()]), float(curve[-1] / curve.max())))
rises = all(1 < epoch_ < last for epoch_, _ in peaks)
glue(
    "course",
    "rises, peaks and falls"
    if rises
    else "is highest at once and falls"
    if all(epoch_ == 1 for epoch_, _ in peaks)
    else "peaks and falls, in some runs from the first epoch on",
    display=False,
)
glue("peaks", ", ".join(str(p) for p, _ in peaks), display=False)
glue("end_low", min(share for _, share in peaks), display=False)
glue("end_high", max(share for _, share in peaks), display=False)

# %% tags=["hide-input"] mystnb={"figure": {"caption": "The mean over epochs ends at an AUROC of {glue:text}`mean_auroc`, {glue:text}`average_verdict`; the last epoch alone gives {glue:text}`last_auroc`. Lines: mean over {glue:text}`num_seeds` seeds, bands: sd.", "name": "fig-averaging"}, "image": {"alt": "Two lines of AUROC against epoch: that of single epochs rises and falls, that of the running mean stays high."}}
fig, ax = plt.subplots(figsize=(7, 3), layout="constrained", facecolor="white")
for name, line, colour in zip(
    ("this epoch alone", "mean so far"), plots.LINES, plots.COLOURS, strict=False
):
    part = summary.loc[name]
    ax.plot(part.index, part["mean"], line, color=colour, label=name)
    ax.fill_between(
        part.index,
        part["mean"] - part["std"],
        part["mean"] + part["std"],
        color=colour,
        alpha=0.2,
        lw=0,
    )
ax.axhline(0.5, color=plots.GREY, lw=1, ls=":")
ax.set(xlabel="epoch", ylabel="AUROC for replaced labels")
_ = ax.legend(frameon=False)

# %% [markdown]
# ## Exercise
#
# ```{exercise}
# :label: ex-flat
# By the end nearly every sample is fitted. Why does its curvature then vanish, though the
# decision boundary still bends around it?
# ```
#
# ```{solution} ex-flat
# :class: dropdown
# The Hessian of the cross-entropy carries the factor $\mathrm{diag}(p) - p p^\top$. Once
# the network is sure, $p$ is close to a corner, and the factor to zero: the loss is flat
# because it is small, whatever the logits do. That is also why the scores of confident
# samples underflow to ties.
# ```
#
# ## The answer
#
# Mean curvature {glue:text}`course` (peak at epoch {glue:text}`peaks`, by seed; at the end
# between {glue:text}`end_low:.1%` and {glue:text}`end_high:.1%` of the peak is left), while
# in the first run {glue:text}`fit_wrong:.1%` of the replaced labels are learned by heart. As
# a score for wrong labels the mean over all epochs has an AUROC of
# {glue:text}`mean_auroc` (mean ± sd over {glue:text}`num_seeds` seeds),
# {glue:text}`average_verdict` (epoch {glue:text}`best_epoch`: {glue:text}`best_auroc`); the
# last epoch alone has {glue:text}`last_auroc`.
