# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Does curvature agree with memorization scores that took thousands of models?

# %% [markdown]
# *Ten minutes to read. Needs: [what curvature is](/book/method.md).*
#
# {cite:t}`feldman2020` call a training sample memorised if networks get it right when they
# were trained on it, and wrong when they were not. They measured it with thousands of
# networks and released the result. Here every score of one network, trained once, is held
# against those values, sample by sample. **Expected**, from the paper: curvature averaged
# over training agrees with them, single epochs less so. The paper tells it by a cosine,
# which flatters; so each value below stands beside that of a constant and of the same
# score in shuffled order.

# %% tags=["parameters"]
dataset = "cifar100"  # a data set that curvlib.load knows
released = "cifar100_infl_matrix.npz"  # the authors' file, path or name
consistency: str = None  # file of C-scores, None for none
num_train: int = None  # train on the first so many images; None for all
num_heldout = 0  # images of the test split that are scored too, never trained on
seeds = [0, 1]  # one training run each
model = "strided_resnet"  # resnet18, slim_resnet, strided_resnet or mlp
width = 48  # channels of its first stage
epochs = 30  # passes over the training set
lr = 0.1  # learning rate at the start
batch_size = 128  # images a step
schedule = "cosine"  # of the learning rate; step, cosine or constant
weight_decay = 0.0  # on all weights
augment = False  # random crops and flips
precision = "float32"  # of the passes of training; float32 or bfloat16
num_probes = 2  # random directions a scored epoch, new ones each time
step = 0.001  # finite step h, in units of the normalised input
score_every = 1  # score each so many epochs, and the last
num_top = 5000  # length of the lists of highest scores that are compared
runs = "runs"  # folder of the training runs; a finished run is read, not trained again
results = "results/scratch/feldman_zhang"  # folder for tables and figure data

# %% tags=["hide-input"]
from itertools import combinations
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from curvlib.book.source import check_parameters
from myst_nb import glue

from curvlib import metrics, scores
from curvlib.book import figures
from curvlib.runs import training
from curvlib.studies import costs, published

check_parameters(In)
results = Path(results)
results.mkdir(parents=True, exist_ok=True)

# %% [markdown]
# (sec-runs)=
# ## The runs
#
# The file of released scores is joined to the images by their labels before anything is
# trained: one in another order would be refused.

# %%
configs = [
    training.TrainConfig(
        dataset=dataset,
        num_train=num_train,
        num_heldout=num_heldout,
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
    for seed in seeds
]
images, heldout = training.prepare(configs[0])  # no noise: the same for each seed
reference = released.memorization(released, images)
regular = released.consistency(consistency, images) if consistency else None

# %%
traces = [training.fit(c, images, heldout, runs=runs) for c in configs]
costs.of_runs(traces).to_csv(results / "runs.csv", index=False)
by_seed = [scores.suspicion(scores.compute(trace)) for trace in traces]
names = list(scores.SCORES)
mean_score = sum(frame[names] for frame in by_seed) / len(by_seed)

# %% tags=["remove-cell"]
fitted = [float(trace.read("correct")[-1].mean()) for trace in traces]
seen = len(images)
glue("num_samples", f"{seen:,}", display=False)
glue("num_seeds", len(seeds), display=False)
glue("fitted", min(fitted), display=False)
glue("num_scored", len(traces[0].epochs), display=False)
glue("reference_mean", float(reference.mean()), display=False)
glue("reference_zero", float((reference <= 0).mean()), display=False)
glue("reference_one", float((reference >= 1).mean()), display=False)

# %% [markdown]
# {glue:text}`num_samples` images, {glue:text}`num_seeds` seeds, {glue:text}`num_scored`
# scored epochs in each run; at the end at least {glue:text}`fitted:.1%` of the training
# labels are fitted. The released memorization has mean {glue:text}`reference_mean:.3f`;
# {glue:text}`reference_zero:.1%` of the images have none of it (0 or below),
# {glue:text}`reference_one:.1%` have all (1).

# %% tags=["hide-input"] mystnb={"figure": {"caption": "How the released memorization and the curvature of this run are spread over the samples. Both are uneven, in different ways: memorization piles up at 0, curvature has a long tail on a logarithmic axis.", "name": "fig-spread"}, "image": {"alt": "Two histograms: released memorization, with most samples near zero, and curvature on a logarithmic axis."}}
fig, axes = plt.subplots(
    1, 2, figsize=(7, 2.6), layout="constrained", facecolor="white"
)
norm = mean_score["curvature_norm"].to_numpy()
counts, edges = np.histogram(reference, 40)
axes[0].stairs(counts, edges, fill=True, color=figures.COLOURS[0])
axes[0].set(xlabel="released memorization", ylabel="samples")
positive = norm[norm > 0]
counts, edges = np.histogram(positive, np.geomspace(positive.min(), positive.max(), 41))
axes[1].stairs(counts, edges, fill=True, color=figures.COLOURS[1])
axes[1].set(xlabel="curvature, mean norm E‖Hv‖", xscale="log", ylabel="samples")
for ax in axes:
    ax.spines[["top", "right"]].set_visible(False)

# %% [markdown]
# ## Every score against memorization
#
# Agreement of each score with the released memorization over all samples: Spearman's rank
# correlation, Pearson's correlation, cosine, and the share of the
# {glue:text}`num_top` highest that both lists share. High is suspect in every score (AUM
# is turned round, so its cosine, of negative numbers, means nothing). "Mean of seeds" is the
# score averaged over the runs.

# %%
columns = list(metrics.Agreement._fields)
rows = []
for name in names:
    for kind, frame in [
        *zip(seeds, by_seed, strict=True),
        ("mean of seeds", mean_score),
    ]:
        found = metrics.agreement(frame[name].to_numpy(), reference, num_top)
        rows.append({"score": name, "seed": str(kind), **found._asdict()})
for name, values in metrics.null_scores(norm).items():
    found = metrics.agreement(values, reference, num_top)
    name = "shuffled curvature_norm" if name == "shuffled" else name
    rows.append({"score": name, "seed": "null", **found._asdict()})
if regular is not None:  # another reference, for scale: how well do two of them agree?
    found = metrics.agreement(1 - regular, reference, num_top)
    rows.append({"score": "1 - C-score", "seed": "published", **found._asdict()})
agreements = pd.DataFrame(rows)
agreements.to_csv(results / "agreement.csv", index=False)


# %% tags=["hide-input"]
def table_of(frame, columns, over="seed"):
    """One row a score: mean ± sd over seeds, and the value of the mean of seeds."""
    order = list(dict.fromkeys(frame["score"]))
    rows = []
    for name in order:
        part = frame[frame["score"] == name]
        runs_ = part[part[over].isin([str(seed) for seed in seeds])]
        row = {"score": name}
        for column in columns:
            row[column] = (
                metrics.mean_sd(runs_[column])
                if len(runs_) > 1
                else f"{part[column].iloc[0]:.3f}".replace("nan", "–")
            )
        averaged = part.loc[part[over] == "mean of seeds", "spearman"]
        row["spearman, mean of seeds"] = (
            f"{averaged.iloc[0]:.3f}" if len(averaged) else "–"
        )
        rows.append(row)
    return pd.DataFrame(rows)


shown = table_of(agreements, columns)
shown.columns = [c.replace("_", " ") for c in shown.columns]
shown.style.hide(axis="index")

# %% tags=["remove-cell"]
averaged = agreements[agreements["seed"] == "mean of seeds"].set_index("score")
nulls = agreements[agreements["seed"] == "null"].set_index("score")


def of(name, column="spearman"):
    chosen = agreements["score"].eq(name) & agreements["seed"].isin(map(str, seeds))
    return metrics.mean_sd(agreements.loc[chosen, column])


ranking = averaged["spearman"].drop(["random"]).sort_values(ascending=False)
glue("num_top", f"{num_top:,}", display=False)
glue("norm_spearman", of("curvature_norm"), display=False)
glue("square_spearman", of("curvature_square"), display=False)
glue("loss_spearman", of("cumulative_loss"), display=False)
glue("norm_cosine", of("curvature_norm", "cosine"), display=False)
glue("norm_averaged", float(averaged.loc["curvature_norm", "spearman"]), display=False)
glue("constant_cosine", float(nulls.loc["constant", "cosine"]), display=False)
glue(
    "shuffled_cosine",
    float(nulls.loc["shuffled curvature_norm", "cosine"]),
    display=False,
)
glue("best", ranking.index[0], display=False)
glue("best_spearman", of(ranking.index[0]), display=False)
glue("place", list(ranking.index).index("curvature_norm") + 1, display=False)
glue("num_scores", len(ranking), display=False)
pairs = [
    metrics.agreement(
        a["curvature_norm"].to_numpy(), b["curvature_norm"].to_numpy(), num_top
    ).spearman
    for a, b in combinations(by_seed, 2)
]
glue(
    "between_seeds",
    f"Two seeds of this network agree with each other at {np.mean(pairs):.3f}."
    if pairs
    else "One seed was run, so that nothing is known of the agreement between runs.",
    display=False,
)
error = [
    np.mean(frame_se)
    for frame_se in (
        trace.read("mean_hvp_norm").std(0, ddof=1) / len(trace.epochs) ** 0.5
        for trace in traces
    )
]
glue("epoch_error", float(np.mean(error) / norm.mean()), display=False)

# %% [markdown]
# Read the cosine with care: curvature has {glue:text}`norm_cosine`, a vector of ones
# {glue:text}`constant_cosine:.3f`, and curvature in shuffled order
# {glue:text}`shuffled_cosine:.3f`. Ranks tell more. {glue:text}`between_seeds` The standard
# error of a sample's mean over epochs is {glue:text}`epoch_error:.0%` of the mean score, so that
# a single image's place is uncertain where its group's is not.

# %% tags=["hide-input"] mystnb={"figure": {"caption": "Spearman correlation of each score with the released memorization, over all {glue:text}`num_samples` images.", "name": "fig-scores"}, "image": {"alt": "Dots with error bars: rank correlation of each score with released memorization, the best on top, a random score at zero."}}
_ = figures.score_dots(
    agreements[agreements["seed"].isin([str(s) for s in seeds])],
    value="spearman",
    xlabel="Spearman correlation with memorization",
    chance=0,
)

# %% [markdown]
# ### Another reference
#
# C-scores {cite}`jiang2021` answer nearly the same question in another way: how often do
# networks trained *without* an image get it right? {glue:text}`consistency_text`

# %% tags=["hide-input"]
if regular is None:
    other_reference = None
    consistency_text = "No file of C-scores was given for this page."
else:
    irregular = 1 - regular
    rows = []
    for name in [n for n in names if n != "random"] + ["random"]:
        row = {"score": name, "with memorization": averaged.loc[name, "spearman"]}
        found = metrics.agreement(mean_score[name].to_numpy(), irregular, num_top)
        row |= {"with 1 - C-score": found.spearman, "top overlap": found.top_overlap}
        rows.append(row)
    other = pd.DataFrame(rows).sort_values(
        "with 1 - C-score", ascending=False, kind="stable"
    )
    other.to_csv(results / "agreement-consistency.csv", index=False)
    both_ways = other.set_index("score")
    gap = metrics.agreement(irregular, reference, num_top).spearman
    consistency_text = (
        f"The two references agree with each other at {gap:.3f} (Spearman). With 1 minus "
        "the C-score the norm of curvature has "
        f"{both_ways.loc['curvature_norm', 'with 1 - C-score']:.3f}, the cumulative loss "
        f"{both_ways.loc['cumulative_loss', 'with 1 - C-score']:.3f} (mean of seeds)."
    )
    other_reference = other.style.hide(axis="index").format(
        {c: "{:.3f}" for c in other.columns[1:]}
    )
glue("consistency_text", consistency_text, display=False)
other_reference

# %% [markdown]
# ## Sample by sample

# %% tags=["hide-input"] mystnb={"figure": {"caption": "Each image by the rank of its curvature and of its loss against its released memorization; darker cells hold more images. A perfect score would be a rising line.", "name": "fig-hexbin"}, "image": {"alt": "Two density plots of released memorization against the rank of curvature and of cumulative loss; both rise from left to right."}}
fig, axes = plt.subplots(
    1, 2, figsize=(7, 3.2), layout="constrained", facecolor="white", sharey=True
)
for ax, name in zip(axes, ("curvature_norm", "cumulative_loss"), strict=True):
    ranks = mean_score[name].rank(pct=True).to_numpy()
    shown_bins = ax.hexbin(
        ranks, reference, gridsize=35, bins="log", mincnt=1, cmap="Blues"
    )
    ax.set(xlabel=f"rank of {name}")
axes[0].set(ylabel="released memorization")
_ = fig.colorbar(shown_bins, ax=axes, label="images")

# %% [markdown]
# The same in twenty bins of equal size: mean memorization in each, with a bootstrap
# interval of 95 %. The narrow intervals are those of the mean; the spread of single images
# in a bin, its standard deviation, is in the table of this figure.

# %% tags=["hide-input"] mystnb={"figure": {"caption": "Mean released memorization in twenty bins by rank of score, with 95 % bootstrap intervals. From the lowest to the highest bin of curvature it goes from {glue:text}`bin_low:.2f` to {glue:text}`bin_high:.2f`; within a bin single images have a standard deviation of {glue:text}`bin_sd:.2f` on average.", "name": "fig-bins"}, "image": {"alt": "Three rising lines of mean memorization against the bin of a score's rank."}}
num_bins = min(20, seen // 5)
rng = np.random.default_rng(0)
rows = []
for name in ("curvature_norm", "curvature_square", "cumulative_loss"):
    place = (mean_score[name].rank(method="first") - 1).to_numpy() * num_bins // seen
    for k in range(num_bins):
        values = reference[place == k]
        means = rng.choice(values, (500, len(values))).mean(1)
        low, high = np.quantile(means, [0.025, 0.975])
        rows.append(
            [name, (k + 0.5) / num_bins, values.mean(), low, high, values.std()]
        )
bins = pd.DataFrame(rows, columns=["score", "rank", "mean", "low", "high", "sd"])
bins.to_csv(results / "fig-bins.csv", index=False)
of_norm = bins[bins["score"] == "curvature_norm"]
glue("bin_low", float(of_norm["mean"].iloc[0]), display=False)
glue("bin_high", float(of_norm["mean"].iloc[-1]), display=False)
glue("bin_sd", float(of_norm["sd"].mean()), display=False)
fig, ax = plt.subplots(figsize=(7, 3), layout="constrained", facecolor="white")
for (name, part), line, colour in zip(
    bins.groupby("score", sort=False), figures.LINES, figures.COLOURS, strict=False
):
    ax.plot(part["rank"], part["mean"], line, color=colour, label=name)
    ax.fill_between(part["rank"], part["low"], part["high"], color=colour, alpha=0.25)
ax.set(xlabel="rank of the score (0 lowest, 1 highest)", ylabel="mean memorization")
ax.spines[["top", "right"]].set_visible(False)
_ = ax.legend(frameon=False)

# %% [markdown]
# ## Why average over epochs
#
# Agreement of the curvature at single scored epochs, and of its mean over all epochs so
# far.

# %% tags=["hide-input"]
rows = []
for trace, seed in zip(traces, seeds, strict=True):
    for name, field in (
        ("curvature_norm", "mean_hvp_norm"),
        ("curvature_square", "squared_frobenius_norm"),
        ("cumulative_loss", "loss"),
    ):
        values = trace.read(field).astype(np.float64)
        running = np.cumsum(values, axis=0) / np.arange(1, len(values) + 1)[:, None]
        for kind, scored in (("this epoch alone", values), ("mean so far", running)):
            for number, row in zip(trace.epochs, scored, strict=True):
                found = metrics.agreement(row, reference, num_top)
                rows.append([seed, name, kind, int(number), *found])
over_epochs = pd.DataFrame(rows, columns=["seed", "score", "kind", "epoch", *columns])
over_epochs.to_csv(results / "fig-epochs.csv", index=False)
last = int(over_epochs["epoch"].max())


def summary(name, kind):
    part = over_epochs[(over_epochs["score"] == name) & (over_epochs["kind"] == kind)]
    return part.groupby("epoch")["spearman"].agg(["mean", "std"]).fillna(0)


single, mean = (
    summary("curvature_norm", k) for k in ("this epoch alone", "mean so far")
)
best_epoch = int(single["mean"].idxmax())
gain = float(mean["mean"].iloc[-1] - single["mean"].max())
glue("best_epoch", best_epoch, display=False)
glue("best_single", float(single["mean"].max()), display=False)
glue("last_single", float(single["mean"].iloc[-1]), display=False)
glue("mean_all", float(mean["mean"].iloc[-1]), display=False)
glue(
    "average_verdict",
    "The mean over epochs agrees better than any single epoch"
    if gain > 0
    else "The mean over epochs does not beat the best single epoch here",
    display=False,
)
glue("gain", f"{gain:+.3f}", display=False)

# %% tags=["hide-input"] mystnb={"figure": {"caption": "{glue:text}`average_verdict`: Spearman {glue:text}`mean_all:.3f` for the mean over all scored epochs, {glue:text}`best_single:.3f` at the best of them (epoch {glue:text}`best_epoch`), {glue:text}`last_single:.3f` at the last. Means over seeds; bands: sd.", "name": "fig-epochs"}, "image": {"alt": "Two panels, norm and square of curvature: rank correlation with memorization of single epochs and of the running mean, against the epoch."}}
fig, axes = plt.subplots(
    1, 2, figsize=(7, 3), layout="constrained", facecolor="white", sharey=True
)
for ax, name in zip(axes, ("curvature_norm", "curvature_square"), strict=True):
    for kind, line, colour in zip(
        ("this epoch alone", "mean so far"),
        figures.LINES,
        figures.COLOURS,
        strict=False,
    ):
        part = summary(name, kind)
        ax.plot(
            part.index, part["mean"], line, color=colour, label=kind, marker="o", ms=3
        )
        ax.fill_between(
            part.index,
            part["mean"] - part["std"],
            part["mean"] + part["std"],
            color=colour,
            alpha=0.2,
            lw=0,
        )
    ax.set(xlabel="epoch", title=name)
    ax.spines[["top", "right"]].set_visible(False)
axes[0].set(ylabel="Spearman with memorization")
_ = axes[0].legend(frameon=False)

# %% [markdown]
# ## How much of the gap is noise?
#
# A score that a second run does not repeat cannot agree with anything. The agreement of two
# seeds with each other, $r$, tells how much of a score belongs to the images. If what two
# runs do not share is noise, the agreement with memorization that the mean of very many
# runs would have is about $\rho / \sqrt{r}$ {cite}`spearman1904`; the mean of our
# {glue:text}`num_seeds` shows a part of the way there.

# %% tags=["hide-input"]
rows = []
for name in averaged.index.intersection(list(scores.SCORES)).drop("random"):
    alone = agreements["score"].eq(name) & agreements["seed"].isin(map(str, seeds))
    alone = agreements.loc[alone, "spearman"].mean()
    repeated = np.mean(
        [
            metrics.agreement(a[name].to_numpy(), b[name].to_numpy(), 1).spearman
            for a, b in combinations(by_seed, 2)
        ]
        or [np.nan]
    )
    rows.append(
        {
            "score": name,
            "one seed": alone,
            "between seeds": repeated,
            "mean of seeds": averaged.loc[name, "spearman"],
            "without noise": alone / repeated**0.5 if repeated > 0 else np.nan,
        }
    )
noise = pd.DataFrame(rows).sort_values("without noise", ascending=False, kind="stable")
noise.to_csv(results / "noise.csv", index=False)
by_name = noise.set_index("score")


def without_noise(name):
    row = by_name.loc[name]
    return (
        f"from {row['one seed']:.3f} with one seed to {row['mean of seeds']:.3f} with the "
        f"mean of {len(seeds)}, and about {row['without noise']:.3f} without noise"
    )


if len(seeds) > 1:
    noise_text = (
        f"The norm of curvature goes {without_noise('curvature_norm')}; the cumulative "
        f"loss {without_noise('cumulative_loss')}. "
    )
    gaps = [
        by_name.loc["cumulative_loss", column] - by_name.loc["curvature_norm", column]
        for column in ("one seed", "without noise")
    ]
    repeats, smooth = (
        by_name.loc[name, "between seeds"]
        for name in ("curvature_norm", "cumulative_gradient")
    )
    noise_text += (
        f"Two runs repeat each other's curvature at {repeats:.3f} and each other's "
        f"cumulative gradient, which needs no random probes, at {smooth:.3f}: "
        + (
            "the probes are not the main reason why runs differ. "
            if smooth < repeats + 0.02
            else "some of what they do not share comes from the probes. "
        )
    )
    row = by_name.loc["curvature_norm"]
    target = 0.65
    spare = (row["one seed"] / target) ** 2 - repeats
    if row["one seed"] < target and spare > 0:
        noise_text += (
            f"By the same rule it takes the mean of about {(1 - repeats) / spare:.0f} "
            f"runs to bring it to {target}. "
        )
    noise_text += (
        f"Of the distance between the two, {gaps[0]:.3f}, noise explains "
        f"{(gaps[0] - gaps[1]) / gaps[0]:.0%}; the rest is that the two scores measure "
        "different things."
        if gaps[0] > 0
        else "Curvature does not stay behind the loss here."
    )
else:
    noise_text = "It takes two seeds to tell; one was run."
glue("noise_text", noise_text, display=False)
noise.style.hide(axis="index").format(
    {c: "{:.3f}" for c in noise.columns[1:]}, na_rep="–"
)

# %% [markdown]
# {glue:text}`noise_text`
#
# ## Among the most memorised
#
# Within the {glue:text}`num_top` images of highest released memorization the scale is used
# up: the values lie close together, the cosine of a constant comes near 1, and it takes
# more to tell them apart. Beside our values those of the re-run in *Towards Memorization
# Estimation* {cite}`ravikumar2025` (ResNet-18, 200 epochs; one value each).

# %%
top = np.argsort(-reference, kind="stable")[:num_top]
rows = []
for name in names:
    for seed, frame in zip(seeds, by_seed, strict=True):
        found = metrics.agreement(
            frame[name].to_numpy()[top], reference[top], max(1, num_top // 10)
        )
        rows.append({"score": name, "seed": str(seed), **found._asdict()})
for name, values in metrics.null_scores(norm[top]).items():
    found = metrics.agreement(values, reference[top], max(1, num_top // 10))
    name = "shuffled curvature_norm" if name == "shuffled" else name
    rows.append({"score": name, "seed": "null", **found._asdict()})
among_top = pd.DataFrame(rows)
among_top.to_csv(results / "agreement-top.csv", index=False)

# %% tags=["hide-input"]
known = published.agreement_with_memorization().set_index("score")
rows = []
for name in dict.fromkeys(agreements["score"]):
    row = {"score": name}
    for part, frame in (("all", agreements), ("top", among_top)):
        chosen = frame[
            (frame["score"] == name)
            & ~frame["seed"].isin(["mean of seeds", "published"])
        ]
        for column in ("cosine", "pearson"):
            has = name in known.index and dataset == "cifar100"
            there = known.loc[name, f"{column}_{part}"] if has else np.nan
            row[f"{column}, {part}"] = chosen[column].mean() if len(chosen) else np.nan
            row[f"published {column}, {part}"] = there
    rows.append(row)
beside = pd.DataFrame(rows)
beside.to_csv(results / "beside-published.csv", index=False)
beside.style.hide(axis="index").format(
    {c: "{:.2f}" for c in beside.columns[1:]}, na_rep="–"
)

# %% [markdown]
# ## Where they disagree most
#
# Images whose rank by curvature and rank by released memorization lie furthest apart. Under
# each: class, memorization, curvature with its standard error over
# {glue:text}`num_seeds` seeds and {glue:text}`num_scored` epochs, index.

# %% tags=["hide-input"]
ranks = pd.DataFrame({"curvature": norm, "memorization": reference}).rank(pct=True)
difference = (ranks["curvature"] - ranks["memorization"]).to_numpy()
per_epoch = np.concatenate([trace.read("mean_hvp_norm") for trace in traces])
standard_error = per_epoch.std(0, ddof=1) / len(per_epoch) ** 0.5
order = np.argsort(difference, kind="stable")
extremes = pd.DataFrame(
    {
        "index": images.index,
        "class": np.array(images.classes)[images.labels],
        "curvature": norm,
        "standard_error": standard_error,
        "curvature_rank": ranks["curvature"],
        "memorization": reference,
        "memorization_rank": ranks["memorization"],
    }
).iloc[np.concatenate([order[::-1][:20], order[:20]])]
extremes.to_csv(results / "disagreements.csv", index=False)
glue("far_memorization", float(extremes["memorization"][:20].mean()), display=False)
glue("near_memorization", float(extremes["memorization"][20:].mean()), display=False)


def show(positions):
    return figures.gallery(
        images.images[positions],
        captions=[f"mem {reference[i]:.2f}" for i in positions],
        label=np.array(images.classes)[images.labels[positions]],
        score=norm[positions],
        error=standard_error[positions],
        index=images.index[positions],
        columns=10,
    )


# %% tags=["hide-input"] mystnb={"figure": {"caption": "High curvature, little released memorization (mean {glue:text}`far_memorization:.2f`): this network found them hard, the thousands did not need them to get them right.", "name": "fig-only-curvature"}, "image": {"alt": "Twenty images with high curvature and low memorization."}}
_ = show(order[::-1][:20])

# %% tags=["hide-input"] mystnb={"figure": {"caption": "Low curvature, high released memorization (mean {glue:text}`near_memorization:.2f`): learned by heart by the thousands, flat here.", "name": "fig-only-memorization"}, "image": {"alt": "Twenty images with low curvature and high memorization."}}
_ = show(order[:20])

# %% [markdown]
# The two groups differ to the eye in their contrast, and curvature is measured per unit of
# input: stretch an image's grey values, and the same network bends as much over a longer
# way. Contrast, the standard deviation of an image's pixels, is a property of the
# photograph and not of what a network makes of it. How much of curvature is that?

# %% tags=["hide-input"]
pixels = images.images.reshape(len(images), -1)
contrast = np.array([image.std() for image in pixels]) / 255
rows = []
for name in ("curvature_norm", "curvature_square", "cumulative_loss"):
    values = mean_score[name].to_numpy()
    rows.append(
        {
            "score": name,
            "with contrast": metrics.agreement(values, contrast, num_top).spearman,
            "with memorization": averaged.loc[name, "spearman"],
            "times contrast, with memorization": metrics.agreement(
                values * contrast, reference, num_top
            ).spearman,
        }
    )
by_contrast = pd.DataFrame(rows)
by_contrast.to_csv(results / "contrast.csv", index=False)
of_curvature = by_contrast.set_index("score").loc["curvature_norm"]
memorized_contrast = metrics.agreement(reference, contrast, num_top).spearman
groups = [
    float(np.median(contrast[chosen])) for chosen in (order[::-1][:20], order[:20])
]
glue(
    "contrast_text",
    f"The median contrast is {groups[0]:.2f} in the first group and {groups[1]:.2f} in the "
    f"second. Over all images curvature has a rank correlation of "
    f"{of_curvature['with contrast']:.2f} with contrast, memorization "
    f"{memorized_contrast:.2f}. Curvature times contrast agrees with memorization at "
    f"{of_curvature['times contrast, with memorization']:.3f} in place of "
    f"{of_curvature['with memorization']:.3f}: "
    + (
        "a part of what keeps curvature from memorization is how bright and dark the "
        "photographs are."
        if of_curvature["times contrast, with memorization"]
        > of_curvature["with memorization"] + 0.005
        else "contrast does not explain what keeps curvature from memorization."
    ),
    display=False,
)
by_contrast.style.hide(axis="index").format(precision=3)

# %% [markdown]
# {glue:text}`contrast_text`
#
# ## The answer
#
# Over all {glue:text}`num_samples` images curvature averaged over training has a rank
# correlation with released memorization of {glue:text}`norm_spearman` (norm) and
# {glue:text}`square_spearman` (square), mean ± sd over {glue:text}`num_seeds` seeds;
# {glue:text}`norm_averaged:.3f` when the norm is averaged over the seeds, too.
# {glue:text}`average_verdict` ({glue:text}`gain` in Spearman against the best epoch). Among
# {glue:text}`num_scores` scores the norm is number {glue:text}`place` by that measure; the
# best is {glue:text}`best` ({glue:text}`best_spearman`), and the cumulative loss, which
# needs no derivative, has {glue:text}`loss_spearman`. {glue:text}`noise_text`
