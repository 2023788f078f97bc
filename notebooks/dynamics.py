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
# *Eight minutes to read. Needs: [what curvature is](/book/method.md).*
#
# The score of a sample is not its curvature at the end of training, but the mean over all
# epochs. This page shows why. We follow groups of samples through training: those that the
# network trains on, where labels were replaced on purpose apart from the rest, and images
# that it never trains on. **Expected**, from the paper: mean curvature rises while the
# network learns, peaks, and falls again once all is fitted and margins grow; single epochs
# are worse scores than their mean; a network stopped at the peak is better calibrated than
# one trained to the end.

# %% tags=["parameters"]
dataset = "digits"  # a data set that curvlib.load knows
num_train: int = None  # train on the first so many images; None for all
num_heldout = 300  # images of the test split that are scored too, never trained on
noise_rate = 0.1  # share of the labels replaced, symmetric noise; 0 for none
released: str = None  # file of released memorization scores; None for none
seeds = [0, 1, 2]  # one training run each; the first is drawn where one is
model = "slim_resnet"  # resnet18, slim_resnet, strided_resnet or mlp
width = 16  # channels of its first stage
epochs = 30  # passes over the training set
lr = 0.1  # learning rate at the start
batch_size = 64  # images a step
schedule = "cosine"  # of the learning rate; step, cosine or constant
weight_decay = 0.0  # on all weights
other_weight_decay: float = None  # one more run, of the first seed; None for none
augment = False  # random crops and flips
precision = "float32"  # of the passes of training; float32 or bfloat16
num_probes = 2  # random directions an epoch, new ones each epoch
step = 0.001  # finite step h, in units of the normalised input
score_every = 1  # score each so many epochs, and the last
runs = "runs"  # folder of the training runs; a finished run is read, not trained again
results = "results/scratch/dynamics"  # folder for tables and figure data

# %% tags=["hide-input"]
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from curvlib.book.source import check_parameters
from myst_nb import glue
from scipy.stats import spearmanr

from curvlib import metrics
from curvlib.book import figures
from curvlib.runs import training
from curvlib.studies import costs

check_parameters(In)
results = Path(results)
results.mkdir(parents=True, exist_ok=True)

if num_heldout < 1:
    raise ValueError(f"num_heldout must be at least 1 on this page, got {num_heldout}")
if other_weight_decay == weight_decay:
    raise ValueError(f"other_weight_decay must not be weight_decay, {weight_decay}")

# %% [markdown]
# ## The runs


# %%
def train(seed, weight_decay):
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
        precision=precision,
        num_probes=num_probes,
        step=step,
        score_every=score_every,
    )
    images, heldout = training.prepare(config)  # by index, as the trace is
    return training.fit(config, images, heldout, runs=runs), images


traces = []
for seed in seeds:
    trace, images = train(seed, weight_decay)
    traces.append((trace, images.mislabelled))
other = None
if other_weight_decay is not None:
    other, _ = train(seeds[0], other_weight_decay)
known = None if released is None else released.memorization(released, images)
costs.of_runs([run for run, _ in traces] + ([other] if other else [])).to_csv(
    results / "runs.csv", index=False
)

trace, wrong = traces[0]
epoch = trace.epochs  # the scored ones
noisy = bool(wrong.any())
curvature = trace.read("squared_frobenius_norm")  # [E, N]
unseen = trace.read("squared_frobenius_norm", "heldout")
masks = (
    {"label kept": ~wrong, "label replaced": wrong} if noisy else {"trained on": ~wrong}
)
usual = next(iter(masks))  # what the others are compared with
groups = {name: curvature[:, mask] for name, mask in masks.items()}
groups["never trained on"] = unseen
LOOKS = dict(
    zip(groups, zip(figures.LINES, figures.COLOURS, strict=False), strict=False)
)

# %% tags=["remove-cell"]
last = int(epoch[-1])
glue(
    "scored_text",
    f"All {last} epochs are scored."
    if score_every == 1
    else f"Of {last} epochs {len(epoch)} are scored: each whose number divides by "
    f"{score_every}, and the last. What is said of epochs on this page is said of these.",
    display=False,
)
several = len(seeds) > 1
spread = f"mean ± sd over {len(seeds)} seeds" if several else "one seed"
glue("spread", spread, display=False)
glue(
    "lines_text",
    f"Lines: mean over {len(seeds)} seeds, bands: sd"
    if several
    else "One seed, so that nothing is known of the spread between runs",
    display=False,
)


def over_seeds(values, digits=3):
    """Mean ± sd, or the one value; the text around it says which."""
    if several:
        return metrics.mean_sd(values, digits)
    return f"{np.asarray(values).item():.{digits}f}"


glue(
    "noise_text",
    f"The labels of {wrong.sum():,} of {len(wrong):,} samples were replaced. For such a "
    "label there is nothing to go by but the image itself."
    if noisy
    else f"No label was replaced among the {len(wrong):,} samples trained on.",
    display=False,
)

# %% [markdown]
# {glue:text}`scored_text` {glue:text}`noise_text`
#
# ## When each group is learned
#
# What fraction of each group the network classifies as its label says, epoch by epoch.

# %% tags=["hide-input"] mystnb={"figure": {"caption": "{glue:text}`accuracy_text` First seed.", "name": "fig-accuracy"}, "image": {"alt": "Accuracy against epoch, a line for each group: {glue:text}`group_names`."}}
right = trace.read("correct")
accuracy = {name: right[:, mask].mean(1) for name, mask in masks.items()}
accuracy["never trained on"] = trace.read("correct", "heldout").mean(1)


def first_epoch(values, level=0.5):
    """The first scored epoch from which on the values stay at the level or above."""
    below = np.flatnonzero(values < level)
    start = below[-1] + 1 if len(below) else 0
    return int(epoch[start]) if start < len(epoch) else None


def since(name):
    start = first_epoch(accuracy[name])
    return "at no epoch to stay" if start is None else f"from epoch {start} on"


end = {name: f"{values[-1]:.1%}" for name, values in accuracy.items()}
unseen_text = f"on {num_heldout:,} images it never saw it is right on"
if noisy:
    late, soon = (first_epoch(accuracy[n]) for n in ("label replaced", "label kept"))
    is_late = soon is not None and (late is None or late > soon)
    verdict = "late" if is_late else "no later than others"
    text = (
        f"Replaced labels are learned {verdict}: half of them are right "
        f"{since('label replaced')}, half of the others {since('label kept')}. At the "
        f"end the network gives back {end['label replaced']} of the replaced labels; "
        f"{unseen_text} {end['never trained on']}."
    )
else:
    text = (
        f"Half of the samples trained on are right {since('trained on')}, half of "
        f"those never trained on {since('never trained on')}. At the end the network "
        f"is right on {end['trained on']} of what it trained on; {unseen_text} "
        f"{end['never trained on']}."
    )
glue("accuracy_text", text, display=False)
glue("group_names", ", ".join(groups), display=False)
pd.DataFrame({"epoch": epoch} | accuracy).to_csv(
    results / "fig-accuracy.csv", index=False
)
fig, ax = plt.subplots(figsize=(7, 2.8), layout="constrained", facecolor="white")
for name, values in accuracy.items():
    line, colour = LOOKS[name]
    ax.plot(epoch, values, line, color=colour, label=name)
ax.set(xlabel="epoch", ylabel="accuracy", ylim=(0, 1.02))
ax.xaxis.get_major_locator().set_params(integer=True)
_ = ax.legend(frameon=False)

# %% [markdown]
# ## Rise, peak and fall

# %% tags=["hide-input"] mystnb={"figure": {"caption": "Mean curvature of the training samples is highest at epoch {glue:text}`peak_epoch` of {glue:text}`num_epochs`; at the end {glue:text}`end_share:.2%` of that is left. Where it is highest, {glue:text}`ratio_text`. First seed.", "name": "fig-mean"}, "image": {"alt": "Mean curvature on a logarithmic axis against epoch, a line for each group: {glue:text}`group_names`."}}
means = {name: values.mean(1, dtype=np.float64) for name, values in groups.items()}
overall = curvature.mean(1, dtype=np.float64)
peak = int(overall.argmax())
glue("peak_epoch", int(epoch[peak]), display=False)
glue("num_epochs", last, display=False)
glue("end_share", float(overall[-1] / overall[peak]), display=False)
compared, whose = (
    ("label replaced", "samples with a replaced label have")
    if noisy
    else ("never trained on", "images never trained on have")
)
of_whom = "the others" if noisy else "those trained on"


def times(a, b):
    return f"{a / b:,.0f} times" if a > 100 * b else f"{a / b:.2g} times"


ratio = times(means[compared][peak], means[usual][peak])
glue(
    "ratio_text",
    f"{whose} {ratio} the mean curvature of {of_whom}",
    display=False,
)
pd.DataFrame({"epoch": epoch, "all trained on": overall} | means).to_csv(
    results / "fig-mean.csv", index=False
)
fig, ax = plt.subplots(figsize=(7, 3), layout="constrained", facecolor="white")
for name, values in means.items():
    line, colour = LOOKS[name]
    ax.plot(epoch, values, line, color=colour, label=name)
ax.set(xlabel="epoch", ylabel="mean tr(H²)", yscale="log")
ax.xaxis.get_major_locator().set_params(integer=True)
_ = ax.legend(frameon=False)

# %% [markdown]
# A mean can be the doing of a few samples. The median, with the middle half of each group:

# %% tags=["hide-input"] mystnb={"figure": {"caption": "Median curvature and the middle half of each group. At the end {glue:text}`end_ratio_text`. First seed.", "name": "fig-quantiles"}, "image": {"alt": "Median curvature with the middle half as a band, on a logarithmic axis against epoch, for each group: {glue:text}`group_names`."}}
medians = {name: np.median(values, axis=1) for name, values in groups.items()}
low, high = medians[usual][-1], medians[compared][-1]
glue(
    "end_ratio_text",
    f"{whose} {times(high, low)} the median of {of_whom}"
    if low > 0
    else f"{whose} a median of {high:.2g}, and {of_whom} one of 0",
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
            for q in (0.05, 0.25, 0.5, 0.75, 0.95)
        },
    }
).to_csv(results / "fig-quantiles.csv", index=False)
_ = figures.epoch_band(epoch, groups, log=True, ylabel="tr(H²)")

# %% tags=["remove-cell"]
peaks = []
for run, _ in traces:
    curve = run.read("squared_frobenius_norm").mean(1, dtype=np.float64)
    peaks.append((int(run.epochs[curve.argmax()]), float(curve[-1] / curve.max())))
kinds = {
    "is highest at the first scored epoch and falls"
    if number == epoch[0]
    else "rises to the end"
    if number == last
    else "rises, peaks and falls"
    for number, _ in peaks
}
glue(
    "course",
    kinds.pop() if len(kinds) == 1 else "takes another course from seed to seed",
    display=False,
)
glue("peaks", ", ".join(str(number) for number, _ in peaks), display=False)
glue("end_low", min(share for _, share in peaks), display=False)
glue("end_high", max(share for _, share in peaks), display=False)

# %% [markdown]
# ## Why average
#
# Any single epoch gives a score too. {glue:text}`why_text`

# %% tags=["remove-cell"]
averages = [
    run.read("squared_frobenius_norm").mean(0, dtype=np.float64) for run, _ in traces
]
if noisy:
    measure, chance = "AUROC for replaced labels", 0.5
    why = (
        "How well does it find the replaced labels, and how well does the mean of all "
        "scored epochs so far?"
    )
elif known is not None:
    measure, chance = "Spearman correlation with memorization", 0.0
    why = (
        "How well does it rank the samples by their released memorization, estimated "
        "with many networks, and how well does the mean of all scored epochs so far?"
    )
elif len(seeds) > 1:
    measure, chance = "Spearman correlation with other seeds", 0.0
    why = (
        "No label was replaced and no reference is at hand, so that we ask another run: "
        "how well does the score agree with the mean over all epochs of the other "
        "seeds, and how well does the mean of all scored epochs so far? What two runs "
        "agree on is a property of the samples, though not for sure their memorization."
    )
else:
    measure, chance = None, 0.0
    why = (
        "Which one is better this page cannot say: no label was replaced, no released "
        "memorization was given, and one seed has no other to agree with."
    )
glue("why_text", why, display=False)


def quality(score, k):
    """How good a score of the run of seed number k is, by the measure."""
    if noisy:
        return metrics.auroc(score, traces[k][1])
    reference = known
    if reference is None:
        reference = np.mean(averages[:k] + averages[k + 1 :], axis=0)
    return float(spearmanr(score, reference).statistic)


# %% tags=["remove-cell"]
average_text = "Whether the mean over epochs is the better score was not measured"
if measure:
    rows = []
    for k, (run, _) in enumerate(traces):
        values = run.read("squared_frobenius_norm").astype(np.float64)
        running = np.cumsum(values, axis=0) / np.arange(1, len(values) + 1)[:, None]
        for kind, scored in (("this epoch alone", values), ("mean so far", running)):
            rows += [
                {
                    "seed": seeds[k],
                    "epoch": int(number),
                    "score": kind,
                    "measure": measure,
                    "value": quality(row, k),
                }
                for number, row in zip(run.epochs, scored, strict=True)
            ]
    averaging = pd.DataFrame(rows)
    averaging.to_csv(results / "fig-averaging.csv", index=False)
    summary = averaging.groupby(["score", "epoch"])["value"].agg(["mean", "std"])
    single, mean = summary.loc["this epoch alone"], summary.loc["mean so far"]
    best = int(single["mean"].idxmax())

    def at_epoch(kind, number):
        chosen = (averaging["score"] == kind) & (averaging["epoch"] == number)
        return over_seeds(averaging.loc[chosen, "value"])

    difference = mean["mean"].iloc[-1] - single["mean"].max()
    average_text = (
        f"The mean over scored epochs ends at {at_epoch('mean so far', last)} "
        f"({measure}, {spread}), {difference:+.3f} against the best single "
        f"epoch, which nobody knows in advance (epoch {best}: "
        f"{at_epoch('this epoch alone', best)}); the last epoch alone has "
        f"{at_epoch('this epoch alone', last)}"
    )
glue("average_text", average_text, display=False)
glue("measure", str(measure), display=False)

# %% tags=["hide-input"] mystnb={"figure": {"caption": "{glue:text}`average_text`. {glue:text}`lines_text`.", "name": "fig-averaging"}, "image": {"alt": "Two lines against epoch, one of single epochs, one of their running mean: {glue:text}`measure`."}}
if measure:
    fig, ax = plt.subplots(figsize=(7, 3), layout="constrained", facecolor="white")
    for name, line, colour in zip(
        ("this epoch alone", "mean so far"),
        figures.LINES,
        figures.COLOURS,
        strict=False,
    ):
        part = summary.loc[name].fillna(0)
        ax.plot(part.index, part["mean"], line, color=colour, label=name)
        band = part["mean"] - part["std"], part["mean"] + part["std"]
        ax.fill_between(part.index, *band, color=colour, alpha=0.2, lw=0)
    ax.axhline(chance, color=figures.GREY, lw=1, ls=":")
    ax.set(xlabel="epoch", ylabel=measure)
    ax.xaxis.get_major_locator().set_params(integer=True)
    ax.legend(frameon=False)

# %% [markdown]
# ## Weight decay
#
# {glue:text}`decay_text`

# %% tags=["remove-cell"]
decay_text = (
    f"One weight decay was run, {weight_decay:g}: what another would change is not "
    "known from this page."
)
if other:
    decayed = []
    for decay, run in ((weight_decay, trace), (other_weight_decay, other)):
        for split in ("train", "heldout"):
            decayed.append(
                pd.DataFrame(
                    {
                        "weight_decay": decay,
                        "split": split,
                        "epoch": run.epochs,
                        "curvature": run.read("squared_frobenius_norm", split).mean(
                            1, dtype=np.float64
                        ),
                        "accuracy": run.read("correct", split).mean(1),
                    }
                )
            )
    decayed = pd.concat(decayed, ignore_index=True)
    decayed.to_csv(results / "fig-weight-decay.csv", index=False)
    ratings = []
    if noisy or known is not None:
        other_average = other.read("squared_frobenius_norm").mean(0, dtype=np.float64)
        ratings = [quality(averages[0], 0), quality(other_average, 0)]
        pd.DataFrame(
            {
                "weight_decay": [weight_decay, other_weight_decay],
                "measure": measure,
                "value": ratings,
            }
        ).to_csv(results / "weight-decay.csv", index=False)

    def of_run(decay):
        part = decayed[decayed["weight_decay"] == decay]
        on = part[part["split"] == "train"].set_index("epoch")["curvature"]
        unseen_accuracy = part[part["split"] == "heldout"]["accuracy"].iloc[-1]
        return (
            f"with {decay:g} mean training curvature is highest at epoch "
            f"{on.idxmax()}, {on.iloc[-1] / on.max():.2%} of that is left at the end, "
            f"and held-out accuracy ends at {unseen_accuracy:.1%}"
        )

    decay_text = (
        f"The first seed with a weight decay of {weight_decay:g} and of "
        f"{other_weight_decay:g}: {of_run(weight_decay)}; {of_run(other_weight_decay)}. "
    )
    if ratings:
        decay_text += (
            f"The mean over epochs has {ratings[0]:.3f} and {ratings[1]:.3f} "
            f"({measure}). "
        )
    decay_text += "One run each, so that a small difference may be chance."
glue("decay_text", decay_text, display=False)
glue("decay", f"{weight_decay:g}", display=False)
glue("other_decay", f"{other_weight_decay or 0:g}", display=False)

# %% tags=["hide-input"] mystnb={"figure": {"caption": "Mean curvature and accuracy with a weight decay of {glue:text}`decay` (solid) and {glue:text}`other_decay` (dashed). First seed.", "name": "fig-weight-decay"}, "image": {"alt": "Mean curvature and accuracy against epoch, of images trained on and images never trained on, with one weight decay and another."}}
if other:
    fig, axes = plt.subplots(
        1, 2, figsize=(7, 3), layout="constrained", facecolor="white"
    )
    for (decay, split), part in decayed.groupby(["weight_decay", "split"], sort=False):
        name = "trained on" if split == "train" else "never trained on"
        line = figures.LINES[0 if decay == weight_decay else 1]
        for ax, column in zip(axes, ("curvature", "accuracy"), strict=True):
            ax.plot(
                part["epoch"],
                part[column],
                line,
                color=LOOKS[usual if split == "train" else name][1],
                label=f"{name}, {decay:g}",
            )
    axes[0].set(xlabel="epoch", ylabel="mean tr(H²)", yscale="log")
    axes[1].set(xlabel="epoch", ylabel="accuracy, by the label given")
    axes[1].legend(frameon=False, fontsize=8, title="weight decay", title_fontsize=8)
    for ax in axes:
        ax.xaxis.get_major_locator().set_params(integer=True)

# %% [markdown]
# ## Where to stop
#
# A network is calibrated if it is right as often as it is sure. The expected calibration
# error (ECE, {cite:t}`guo2017`, 15 bins) is how far it is from that on held-out images,
# whose labels are never replaced; their negative log-likelihood (NLL), the held-out loss, also counts how often it is right.

# %% tags=["remove-cell"]
rows, moments = [], []
rng = np.random.default_rng(0)
for (run, _), seed in zip(traces, seeds, strict=True):
    sure = run.read("max_probability", "heldout").astype(np.float64)
    hit = run.read("correct", "heldout")
    part = pd.DataFrame(
        {
            "seed": seed,
            "epoch": run.epochs,
            "ece": [
                metrics.expected_calibration_error(*both)
                for both in zip(sure, hit, strict=True)
            ],
            "nll": run.read("loss", "heldout").mean(1, dtype=np.float64),
            "accuracy": hit.mean(1),
        }
    )
    rows.append(part)
    at = {
        "lowest held-out loss": int(part["nll"].argmin()),
        "highest curvature": int(
            run.read("squared_frobenius_norm").mean(1, dtype=np.float64).argmax()
        ),
        "the end": len(part) - 1,
    }
    for name, row in at.items():
        # The ECE that so few images give a network that is calibrated, by chance
        drawn = [
            metrics.expected_calibration_error(
                sure[row], rng.random(len(sure[row])) < sure[row]
            )
            for _ in range(20)
        ]
        moments.append(
            part.iloc[row].to_dict() | {"stop at": name, "chance": np.mean(drawn)}
        )
calibration, moments = pd.concat(rows, ignore_index=True), pd.DataFrame(moments)
calibration.to_csv(results / "fig-calibration.csv", index=False)
moments.to_csv(results / "calibration.csv", index=False)
by_stop = moments.groupby("stop at", sort=False)
at_peak, at_end = (
    by_stop.get_group(name).reset_index() for name in ("highest curvature", "the end")
)


def stopped(column):
    """Values at the peak and at the end, as text."""
    there, later = (over_seeds(part[column]) for part in (at_peak, at_end))
    return f"{there} there and {later} at the end"


better = int((at_peak["ece"] < at_end["ece"]).sum())
glue(
    "calibration_verdict",
    (
        "A network stopped at the peak of curvature is better calibrated than at the end"
        if better == len(seeds)
        else "A network stopped at the peak of curvature is not better calibrated than "
        "at the end"
        if better == 0
        else "A network stopped at the peak of curvature is better calibrated than at "
        f"the end in {better} of {len(seeds)} seeds"
    )
    + f" (ECE {stopped('ece')}; NLL {stopped('nll')}; accuracy {stopped('accuracy')})",
    display=False,
)
glue("num_heldout", f"{num_heldout:,}", display=False)

# %% tags=["hide-input"]
pd.DataFrame(
    {
        "stop at": list(by_stop.groups),
        "epoch": [over_seeds(g["epoch"], digits=1) for _, g in by_stop],
        "test accuracy": [over_seeds(g["accuracy"]) for _, g in by_stop],
        "NLL": [over_seeds(g["nll"]) for _, g in by_stop],
        "ECE": [over_seeds(g["ece"]) for _, g in by_stop],
        "ECE by chance": [over_seeds(g["chance"]) for _, g in by_stop],
    }
).style.hide(axis="index")

# %% [markdown]
# Values: {glue:text}`spread`. *By chance* is what a network with the same
# confidences would get on {glue:text}`num_heldout` images if it were calibrated. The lowest
# held-out loss was looked for on the images that it is measured on, which flatters it; the
# peak of curvature was found without them.

# %% tags=["hide-input"] mystnb={"figure": {"caption": "{glue:text}`calibration_verdict`. {glue:text}`lines_text`; dotted: the peak of mean training curvature in each seed; n = {glue:text}`num_heldout` held-out images.", "name": "fig-calibration"}, "image": {"alt": "Expected calibration error and negative log-likelihood of held-out images against epoch, with the epochs of the peak of curvature marked."}}
fig, axes = plt.subplots(1, 2, figsize=(7, 3), layout="constrained", facecolor="white")
for ax, column, name in zip(axes, ("ece", "nll"), ("ECE", "NLL, nats"), strict=True):
    part = calibration.groupby("epoch")[column].agg(["mean", "std"]).fillna(0)
    ax.plot(part.index, part["mean"], color=figures.COLOURS[0])
    band = part["mean"] - part["std"], part["mean"] + part["std"]
    ax.fill_between(part.index, *band, color=figures.COLOURS[0], alpha=0.2, lw=0)
    for number in sorted(set(at_peak["epoch"])):
        ax.axvline(number, color=figures.GREY, lw=1, ls=":")
    ax.set(xlabel="epoch", ylabel=name, ylim=(0, None))
    ax.xaxis.get_major_locator().set_params(integer=True)

# %% [markdown]
# ## Exercise
#
# ```{exercise}
# :label: ex-flat
# Once a sample is fitted for good its curvature vanishes, though the decision boundary
# still bends around it. Why?
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
# Mean curvature {glue:text}`course` (highest at epoch {glue:text}`peaks`, by seed; at the
# end between {glue:text}`end_low:.1%` and {glue:text}`end_high:.1%` of that is left).
# {glue:text}`average_text`. {glue:text}`calibration_verdict`.
