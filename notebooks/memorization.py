# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Does curvature agree with memorization that is measured here?

# %% [markdown]
# *Fifteen minutes to read. Needs: [what curvature is](/book/method.md).*
#
# The scores of {cite:t}`feldman2020` are more than a file to download. A training sample is
# *memorised* if networks get it right when they were trained on it and wrong when they were
# not, which takes many networks to see: each trained on a random part of the data. Here
# they are trained, and the estimate stands with its standard error. Then one network's
# curvature is held against it. **Expected**: curvature {cite}`garg2024` agrees with
# memorization at a small part of the cost. The theory of {cite:t}`ravikumar2024` bounds
# memorization by a term linear in curvature; how near are the two to a straight line?
#
# This is small scale: perceptrons of two hidden layers, where Feldman and Zhang trained
# thousands of ResNets on all of CIFAR-100 and ImageNet. The definitions are the same, the
# numbers are those of these networks and these images.

# %% tags=["parameters"]
dataset = "digits"  # a data set that curvlib.load knows
num_train: int = None  # the first so many images; None for all
num_test: int = None  # the first so many of the test split; None for all
num_models = 2000  # networks in the ensemble
ratio = 0.7  # share of the images that each network is trained on
models_at_once = 100  # networks trained as one program on one core
n_jobs = -1  # such programs at a time; -1 for one a core
ensemble_seed = 0  # of the ensemble
seeds = [0, 1, 2]  # one training run each, on all images, for the scores
model = "mlp"  # a network without batch norm
width = 32  # units of a hidden layer
epochs = 20  # passes over the training set
lr = 0.1  # learning rate at the start
batch_size = 64  # images a step
schedule = "cosine"  # of the learning rate; step, cosine or constant
weight_decay = 0.0  # on all weights
num_probes = 2  # random directions a scored epoch, new ones each time
step = 0.001  # finite step h, in units of the normalised input
score_every = 1  # score each so many epochs, and the last
num_top = 100  # length of the lists of highest scores that are compared
num_influence = 500  # most memorised images whose influence is measured
runs = "runs"  # folder of the training runs; what is finished is read
results = "results/scratch/memorization"  # folder for tables and figure data

# %% tags=["hide-input"]
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from curvlib.book.source import check_parameters
from myst_nb import glue

from curvlib import data, metrics, scores
from curvlib.book import figures
from curvlib.runs import ensembles, influence, training
from curvlib.studies import costs

check_parameters(In)
results = Path(results)
results.mkdir(parents=True, exist_ok=True)

config = ensembles.EnsembleConfig(
    num_models=num_models,
    ratio=ratio,
    models_at_once=models_at_once,
    seed=ensemble_seed,
    model=model,
    width=width,
    epochs=epochs,
    lr=lr,
    batch_size=batch_size,
    schedule=schedule,
    weight_decay=weight_decay,
)
run_configs = [
    config.training(
        dataset=dataset,
        num_train=num_train,
        seed=seed,
        num_probes=num_probes,
        step=step,
        score_every=score_every,
    )
    for seed in seeds
]
images, _ = training.prepare(run_configs[0])
test = data.load(dataset, split="test")
test = test.select(np.arange(num_test or len(test)))

# %% [markdown]
# ## A learner whose memorization is known
#
# Before any network: a learner that answers with the label of the nearest image it was
# given. It gets every image right that it was given. Of one it was not given it is right
# if the nearest of the others *that it has* wears the same label, and the chance of that
# can be written down. The image's neighbours are in the subset or not; the k-th decides
# with the probability that the first k - 1 are left out and it is not:
#
# $$
# P[h(x_i) = y_i \mid i \notin S] = \sum_k \mathbb{1}[y_{(k)} = y_i] \,
# \frac{m}{N - k} \prod_{j=1}^{k-1} \frac{N - m - j}{N - j}
# $$ (eq-neighbour)
#
# with m of N images in each subset. One minus this sum is the memorization of image i,
# without an error.

# %%
few = images.select(np.arange(min(400, len(images))))
count, size = len(few), round(ratio * len(few))
flat = few.images[:].reshape(count, -1).astype(np.float64)
squares = (flat**2).sum(1)
distance = squares[:, None] + squares - 2 * flat @ flat.T
np.fill_diagonal(distance, np.inf)
neighbours = np.argsort(distance, axis=1, kind="stable")[:, :-1]  # itself comes last
k = np.arange(1, count)
left_out = np.cumprod(np.r_[1, np.maximum(count - size - k, 0) / (count - k)])[:-1]
alike = few.labels[neighbours] == few.labels[:, None]
exact = 1 - (alike * size / (count - k) * left_out).sum(1)

rng = np.random.default_rng(0)
inside = np.array([rng.permutation(count) < size for _ in range(num_models)])
nearest = np.array(
    [neighbours[np.arange(count), s[neighbours].argmax(1)] for s in inside]
)
known = influence.memorization(inside, inside | (few.labels[nearest] == few.labels))
sure = known.standard_error > 0
z = (known.value - exact)[sure] / known.standard_error[sure]
pd.DataFrame({"index": few.index, "exact": exact, "estimate": known.value}).assign(
    standard_error=known.standard_error
).to_csv(results / "nearest-neighbour.csv", index=False)

# %% tags=["remove-cell"]
glue("nn_count", count, display=False)
glue("nn_sure", int(sure.sum()), display=False)
glue("nn_sd", float(np.sqrt(np.mean(z**2))), display=False)
glue("nn_within", float(np.mean(np.abs(z) < 2)), display=False)
glue(
    "nn_verdict",
    "the standard errors mean what they say"
    if 0.8 < np.sqrt(np.mean(z**2)) < 1.25
    else "the standard errors are not the size of the errors",
    display=False,
)

# %% tags=["hide-input"] mystnb={"figure": {"caption": "A learner with a known answer: estimates from {glue:text}`num_models` subsets, with their standard errors, against the exact memorization, for {glue:text}`nn_sure` images whose subsets do not all agree (of {glue:text}`nn_count`).", "name": "fig-known"}, "image": {"alt": "Estimates of memorization with error bars against exact values; the points lie along the diagonal."}}
fig, ax = plt.subplots(figsize=(7, 3), layout="constrained", facecolor="white")
ax.errorbar(
    exact[sure],
    known.value[sure],
    yerr=known.standard_error[sure],
    fmt="o",
    ms=3,
    lw=0.8,
    color=figures.COLOURS[0],
)
ax.plot([0, 1], [0, 1], color=figures.GREY, lw=1, ls=":")
ax.set(xlabel="exact memorization", ylabel=f"estimate, {num_models:,} subsets")
_ = ax.spines[["top", "right"]].set_visible(False)

# %% [markdown]
# The distance of an estimate from the truth has a root mean square of
# {glue:text}`nn_sd:.2f` standard errors, {glue:text}`nn_within:.0%` are within two of them:
# {glue:text}`nn_verdict`.
#
# (sec-ensemble)=
# ## The ensemble
#
# Each network gets exactly {glue:text}`subset_size` of the {glue:text}`num_samples` images;
# its subset, first weights and order of batches follow from its number alone. What is kept
# of it: which images it was given, and which of all images, trained on or not, it gets
# right.

# %%
ensemble = ensembles.train(config, images, test, runs=runs, n_jobs=n_jobs)
mem = influence.memorization(ensemble.inside, ensemble.correct)
defined = np.isfinite(mem.value)
half = num_models // 2
first, second = slice(None, half), slice(half, 2 * half)
first_mem, second_mem = (
    influence.memorization(ensemble.inside[part], ensemble.correct[part])
    for part in (first, second)
)

# %% tags=["hide-input"]
right = {
    "images a network was trained on": ensemble.correct[ensemble.inside].mean(),
    "images of the training set it was not trained on": ensemble.correct[
        ~ensemble.inside
    ].mean(),
    "test images": ensemble.correct_test.mean(),
}
accuracy = pd.DataFrame({"share of answers that are right": right})
accuracy.rename_axis("answers on").to_csv(results / "accuracy.csv")
per_image = pd.DataFrame(
    {
        "index": images.index,
        "label": images.labels,
        "memorization": mem.value,
        "standard_error": mem.standard_error,
        "networks_inside": ensemble.inside.sum(0),
    }
)
per_image.to_csv(results / "memorization.csv", index=False, float_format="%.6g")
accuracy.style.format("{:.2%}")

# %% tags=["remove-cell"]
value, error = mem.value[defined], mem.standard_error[defined]
glue("num_models", f"{num_models:,}", display=False)
glue("num_samples", f"{len(images):,}", display=False)
glue("num_test", f"{len(test):,}", display=False)
glue("subset_size", f"{config.subset_size(len(images)):,}", display=False)
glue("undefined", mem.undefined, display=False)
glue("mean_mem", float(value.mean()), display=False)
glue("mean_error", float(np.nanmean(error)), display=False)
glue("share_zero", float(np.mean(np.abs(value) < 0.05)), display=False)
glue("share_quarter", float(np.mean(value > 0.25)), display=False)
glue("num_quarter", int(np.sum(value > 0.25)), display=False)
glue("zero_error", float(np.mean(error == 0)), display=False)
glue("smallest", float(3 / (~ensemble.inside).sum(0).min()), display=False)

# %% [markdown]
# {glue:text}`undefined` images were given to all networks or to none and have no value. The
# mean memorization is {glue:text}`mean_mem:.3f`, which is by definition the gap between the
# first two rows, up to how often an image is drawn; the mean standard error is
# {glue:text}`mean_error:.4f`. {glue:text}`share_zero:.0%` of the images are memorised by
# less than 0.05 either way, {glue:text}`share_quarter:.1%` by more than 0.25. For
# {glue:text}`zero_error:.0%` all networks gave the same answer on each side; their standard
# error is 0, but the truth may be some {glue:text}`smallest:.3f` away.

# %% tags=["hide-input"] mystnb={"figure": {"caption": "Memorization of {glue:text}`num_samples` images, {glue:text}`num_models` networks, on a logarithmic count (left): {glue:text}`share_zero:.0%` are within 0.05 of zero, and {glue:text}`num_quarter` have more than 0.25. Its standard error against it (right).", "name": "fig-histogram"}, "image": {"alt": "A histogram of memorization, and standard errors against the value."}}
fig, axes = plt.subplots(
    1, 2, figsize=(7, 2.8), layout="constrained", facecolor="white"
)
counts, edges = np.histogram(value, np.linspace(min(value.min(), -0.05), 1, 43))
pd.DataFrame({"low": edges[:-1], "high": edges[1:], "images": counts}).to_csv(
    results / "fig-histogram.csv", index=False
)
axes[0].stairs(counts, edges, fill=True, color=figures.COLOURS[0])
axes[0].set(xlabel="memorization", ylabel="images", yscale="log")
axes[1].plot(value, error, ".", ms=3, alpha=0.5, color=figures.COLOURS[1])
axes[1].set(xlabel="memorization", ylabel="standard error", ylim=(0, None))
for ax in axes:
    ax.spines[["top", "right"]].set_visible(False)

# %% [markdown]
# ## The most memorised images
#
# The highest of many estimates are high by luck, too. So these are chosen by the first half
# of the ensemble, and shown with the value and standard error of the second, which had no
# part in the choice.

# %% tags=["hide-input"]
both = np.isfinite(first_mem.value) & np.isfinite(second_mem.value)
order = np.argsort(-np.where(both, first_mem.value, -np.inf), kind="stable")
shown = order[:21]
top = per_image.iloc[shown].assign(
    class_name=np.array(images.classes)[images.labels[shown]],
    first_half=first_mem.value[shown],
    second_half=second_mem.value[shown],
    second_half_error=second_mem.standard_error[shown],
)
top.to_csv(results / "most-memorised.csv", index=False)
glue("top_first", float(top["first_half"].mean()), display=False)
glue("top_second", float(top["second_half"].mean()), display=False)

# %% tags=["hide-input"] mystnb={"figure": {"caption": "The 21 most memorised images: label, memorization with its standard error, index. By the half that chose them their mean is {glue:text}`top_first:.3f`, by the other {glue:text}`top_second:.3f`.", "name": "fig-memorised"}, "image": {"alt": "Images of highest memorization, each with its label, value, standard error and index."}}
_ = figures.gallery(
    images.images[shown],
    captions=[
        f"{images.classes[images.labels[i]]}\n"
        f"{second_mem.value[i]:.3f} ± {second_mem.standard_error[i]:.3f}"
        for i in shown
    ],
    index=images.index[shown],
    columns=7,
)

# %% [markdown]
# ## Which training image a test image hangs on
#
# The influence of training image i on test image j is the same difference, measured at j.
# It is looked for among the {glue:text}`num_influence` images most memorised by the first
# half and all {glue:text}`num_test` test images, {glue:text}`num_pairs` pairs; again the
# first half chooses and the second tells. Each image is shown once.

# %%
chosen = order[: min(num_influence, int(both.sum()))]
of_first, of_second = (
    influence.influence(ensemble.inside[part][:, chosen], ensemble.correct_test[part])
    for part in (first, second)
)
ranked = np.argsort(-of_first.value, axis=None)[:2000]
pairs, used = [], (set(), set())
for i, j in zip(*np.unravel_index(ranked, of_first.value.shape), strict=True):
    if i not in used[0] and j not in used[1]:
        pairs.append((i, j))
        used[0].add(i), used[1].add(j)
rows, columns = np.array(pairs[:14]).T
influential = pd.DataFrame(
    {
        "train_index": images.index[chosen[rows]],
        "test_index": test.index[columns],
        "train_label": np.array(images.classes)[images.labels[chosen[rows]]],
        "test_label": np.array(test.classes)[test.labels[columns]],
        "first_half": of_first.value[rows, columns],
        "second_half": of_second.value[rows, columns],
        "standard_error": of_second.standard_error[rows, columns],
        "memorization": second_mem.value[chosen[rows]],
    }
)
influential.to_csv(results / "influential-pairs.csv", index=False)

# %% tags=["remove-cell"]
same = influential["train_label"] == influential["test_label"]
top7 = influential[:7]
clear = (influential["second_half"] > 3 * influential["standard_error"]).sum()
glue("num_influence", len(chosen), display=False)
glue("num_pairs", f"{of_first.value.size:,}", display=False)
glue("pairs_first", float(top7["first_half"].mean()), display=False)
glue("pairs_second", float(top7["second_half"].mean()), display=False)
glue("pairs_same", f"{int(same.sum())} of {len(same)}", display=False)
glue("pairs_clear", f"{int(clear)} of {len(same)}", display=False)
halves = of_first.value, of_second.value
strong = int(np.sum(np.minimum(*halves) > 0.15))
against = int(np.sum(np.maximum(*halves) < -0.15))  # noise is as often below as above
glue("pairs_strong", f"{strong:,}", display=False)
glue("pairs_against", f"{against:,}", display=False)
glue("pairs_once", f"{int(np.sum(of_second.value > 0.15)):,}", display=False)

# %% tags=["hide-input"] mystnb={"figure": {"caption": "Pairs of highest influence, above the training image and below it the test image that hangs on it: label, influence with its standard error (above), index. The seven have a mean of {glue:text}`pairs_first:.2f` by the half that chose them and {glue:text}`pairs_second:.2f` by the other.", "name": "fig-pairs"}, "image": {"alt": "Two rows of seven images: training images above, and the test images they have most influence on below."}}
show = min(7, len(influential))
labels = [
    *("train: " + influential["train_label"][:show].astype(str)),
    *("test: " + influential["test_label"][:show].astype(str)),
]
told = [
    figures.plus_minus(*row) if upper else ""
    for upper in (True, False)
    for row in influential[["second_half", "standard_error"]][:show].to_numpy()
]
_ = figures.gallery(
    np.concatenate([images.images[chosen[rows[:show]]], test.images[columns[:show]]]),
    captions=[f"{a}\n{b}" if b else a for a, b in zip(labels, told, strict=True)],
    index=np.concatenate(
        [influential["train_index"][:show], influential["test_index"][:show]]
    ),
    columns=show,
)

# %% [markdown]
# Of the {glue:text}`num_pairs` pairs {glue:text}`pairs_strong` have an influence above 0.15
# by both halves, and {glue:text}`pairs_against` one below −0.15. By the second half alone it
# would be {glue:text}`pairs_once`: among so many pairs many are high by luck. Of the
# strongest, {glue:text}`pairs_clear` are above 0 by more than
# three standard errors, and {glue:text}`pairs_same` have one label on both sides.
#
# ## How many networks does it take?
#
# Two disjoint parts of the ensemble, M networks each, know nothing of each other. Their
# agreement says how much of an estimate from M networks is repeated by the next M.

# %% tags=["hide-input"]
sizes = np.unique(np.geomspace(min(5, half), half, 10).astype(int))
rows_of = []
for m in sizes:
    a, b = (
        influence.memorization(ensemble.inside[part], ensemble.correct[part])
        for part in (slice(m), slice(half, half + m))
    )
    told = np.isfinite(a.value) & np.isfinite(b.value)
    found = metrics.agreement(a.value[told], b.value[told], min(num_top, told.sum()))
    rows_of.append(
        {
            "networks": m,
            "undefined": int((~told).sum()),
            **found._asdict(),
            "mean_standard_error": np.nanmean(a.standard_error),
            "rms_standard_error": np.sqrt(np.nanmean(a.standard_error**2)),
            "rms_error_seen": np.sqrt(np.mean((a.value - b.value)[told] ** 2) / 2),
        }
    )
convergence = pd.DataFrame(rows_of)
convergence.to_csv(results / "fig-convergence.csv", index=False)
last = convergence.iloc[-1]
glue("half", f"{half:,}", display=False)
glue("half_spearman", float(last["spearman"]), display=False)
glue("half_pearson", float(last["pearson"]), display=False)
glue("half_top", float(last["top_overlap"]), display=False)
glue("half_error", float(last["rms_standard_error"]), display=False)
glue("half_seen", float(last["rms_error_seen"]), display=False)
enough = convergence[convergence["pearson"] > 0.9]
glue(
    "enough_text",
    f"From {int(enough['networks'].iloc[0]):,} networks on, two parts have a Pearson "
    "correlation above 0.9."
    if len(enough)
    else f"Not even parts of {half:,} networks have a Pearson correlation above 0.9.",
    display=False,
)

# %% tags=["hide-input"] mystnb={"figure": {"caption": "Agreement of two disjoint parts of M networks each (left). The standard error (root mean square, right) and the error seen, which is the difference of the two parts over the root of 2, fall as one over the root of M (dotted). With {glue:text}`half` networks in each part: Spearman {glue:text}`half_spearman:.3f`, Pearson {glue:text}`half_pearson:.3f`, overlap of the top {glue:text}`num_top` {glue:text}`half_top:.2f`.", "name": "fig-convergence"}, "image": {"alt": "Left, three rising lines of agreement against the number of networks; right, the standard error falling along a dotted line on logarithmic axes."}}
fig, axes = plt.subplots(
    1, 2, figsize=(7, 2.9), layout="constrained", facecolor="white"
)
for column, line, colour, marker in zip(
    ("pearson", "spearman", "top_overlap"),
    figures.LINES,
    figures.COLOURS,
    figures.MARKERS,
    strict=False,
):
    axes[0].plot(
        convergence["networks"],
        convergence[column],
        line,
        marker=marker,
        ms=4,
        color=colour,
        label=column.replace("_", " "),
    )
axes[0].set(xlabel="networks M in each part", ylabel="agreement", xscale="log")
axes[0].legend(frameon=False)
networks = convergence["networks"]
for column, line_style, colour, marker, label in (
    ("rms_standard_error", "-", figures.COLOURS[0], "o", "standard error"),
    ("rms_error_seen", "--", figures.COLOURS[1], "s", "error seen"),
):
    axes[1].loglog(
        networks,
        convergence[column],
        line_style,
        marker=marker,
        ms=4,
        color=colour,
        label=label,
    )
rule = last["rms_standard_error"] * np.sqrt(last["networks"] / networks)
axes[1].loglog(networks, rule, ":", color=figures.GREY)
axes[1].legend(frameon=False)
axes[1].set(xlabel="networks M", ylabel="root mean square")
for ax in axes:
    ax.spines[["top", "right"]].set_visible(False)

# %% [markdown]
# {glue:text}`enough_text` With {glue:text}`half` networks the standard errors have a root
# mean square of {glue:text}`half_error:.4f`, and the two parts differ by as much as errors
# of {glue:text}`half_seen:.4f` would make them. Ranks agree less than values do, since most images share one
# place: not memorised at all.
#
# ## One network's scores against it
#
# Now one network at a time, trained once on *all* images by the same settings, and every
# score of this book read off its trace. {glue:text}`num_seeds` seeds; "mean of seeds" is
# the score averaged over them. The last rows know nothing: a constant, and curvature in
# shuffled order. High is suspect in every score (AUM is turned round, so its cosine, of
# negative numbers, means nothing).

# %%
traces = [training.fit(c, images, runs=runs) for c in run_configs]
costs.of_runs(traces).to_csv(results / "runs.csv", index=False)
by_seed = [scores.suspicion(scores.compute(trace)) for trace in traces]
names = list(scores.SCORES)
mean_score = sum(frame[names] for frame in by_seed) / len(by_seed)
reference = mem.value[defined]
k_top = min(num_top, int(defined.sum()))
measures = list(metrics.Agreement._fields)
rows_of = []
for name in names:
    for kind, frame in [
        *zip(seeds, by_seed, strict=True),
        ("mean of seeds", mean_score),
    ]:
        found = metrics.agreement(frame[name].to_numpy()[defined], reference, k_top)
        rows_of.append({"score": name, "seed": str(kind), **found._asdict()})
norm = mean_score["curvature_norm"].to_numpy()
for name, values in metrics.null_scores(norm[defined]).items():
    found = metrics.agreement(values, reference, k_top)
    name = "shuffled curvature_norm" if name == "shuffled" else name
    rows_of.append({"score": name, "seed": "null", **found._asdict()})
agreements = pd.DataFrame(rows_of)
agreements.to_csv(results / "agreement.csv", index=False)

# %% tags=["hide-input"]
by_runs = agreements[agreements["seed"].isin([*map(str, seeds), "null"])]
averaged = agreements[agreements["seed"] == "mean of seeds"].set_index("score")
shown_rows = []
for name, part in by_runs.groupby("score", sort=False):
    row = {"score": name}
    for column in measures:
        row[column.replace("_", " ")] = (
            metrics.mean_sd(part[column])
            if len(part) > 1
            else f"{part[column].iloc[0]:.3f}".replace("nan", "–")
        )
    row["spearman, mean of seeds"] = (
        f"{averaged.loc[name, 'spearman']:.3f}" if name in averaged.index else "–"
    )
    shown_rows.append(row)
pd.DataFrame(shown_rows).style.hide(axis="index")


# %% tags=["remove-cell"]
def of(name, column="spearman"):
    chosen = agreements["score"].eq(name) & agreements["seed"].isin(map(str, seeds))
    return metrics.mean_sd(agreements.loc[chosen, column])


one_run = agreements[agreements["seed"].isin(map(str, seeds))]
ranking = one_run.groupby("score")["spearman"].mean().drop(["random"])
ranking = ranking.sort_values(ascending=False)
nulls = agreements[agreements["seed"] == "null"].set_index("score")
shuffled = nulls.loc["shuffled curvature_norm"]
best = ranking.index[0]
glue("num_seeds", len(seeds), display=False)
glue("num_top", k_top, display=False)
glue("norm_spearman", of("curvature_norm"), display=False)
glue("norm_pearson", of("curvature_norm", "pearson"), display=False)
glue("norm_top", of("curvature_norm", "top_overlap"), display=False)
glue("square_spearman", of("curvature_square"), display=False)
glue("loss_spearman", of("cumulative_loss"), display=False)
glue("norm_cosine", of("curvature_norm", "cosine"), display=False)
glue("constant_cosine", float(nulls.loc["constant", "cosine"]), display=False)
glue("shuffled_spearman", float(shuffled["spearman"]), display=False)
glue("shuffled_cosine", float(shuffled["cosine"]), display=False)
glue("shuffled_top", float(shuffled["top_overlap"]), display=False)
glue("best", best, display=False)
glue("best_spearman", of(best), display=False)
glue("place", list(ranking.index).index("curvature_norm") + 1, display=False)
glue("num_scores", len(ranking), display=False)
fitted = [float(trace.read("correct")[-1].mean()) for trace in traces]
glue("fitted", min(fitted), display=False)

# %% tags=["hide-input"] mystnb={"figure": {"caption": "Spearman correlation of each score with memorization over {glue:text}`num_samples` images. Two halves of the ensemble agree with each other at {glue:text}`half_spearman:.3f`.", "name": "fig-scores"}, "image": {"alt": "Dots with error bars: rank correlation of each score with memorization, the best on top, a random score at zero."}}
_ = figures.score_dots(
    agreements[agreements["seed"].isin([str(s) for s in seeds])],
    value="spearman",
    xlabel="Spearman correlation with memorization",
    chance=0,
)

# %% [markdown]
# The networks fit at least {glue:text}`fitted:.1%` of all images at the end. Curvature has a
# Pearson correlation of {glue:text}`norm_pearson` with memorization. Its cosine is {glue:text}`norm_cosine`, that of a constant
# {glue:text}`constant_cosine:.3f` and of shuffled curvature
# {glue:text}`shuffled_cosine:.3f`; the overlap of the top {glue:text}`num_top` is
# {glue:text}`norm_top`, shuffled {glue:text}`shuffled_top:.3f`.
#
# ## A straight line?
#
# {cite:t}`ravikumar2024` bound the memorization of a sample by a term linear in its
# curvature. A bound is not an equality; but they find the two to go together, so: mean
# memorization in bins of equal numbers of images, sorted by curvature (its norm, averaged
# over the {glue:text}`num_seeds` seeds), a straight line fitted to the bins, and what it
# leaves over. Beside it a line in the logarithm of curvature, which is another relation.

# %% tags=["hide-input"]
num_bins = max(4, min(20, int(defined.sum()) // 10))
x_all, y_all = norm[defined], reference
place = np.argsort(np.argsort(x_all, kind="stable")) * num_bins // len(x_all)
rng = np.random.default_rng(0)
rows_of = []
for b in range(num_bins):
    xs, ys = x_all[place == b], y_all[place == b]
    rows_of.append(
        {
            "bin": b,
            "images": len(ys),
            "curvature": xs.mean(),
            "memorization": ys.mean(),
            "standard_error": ys.std(ddof=1) / len(ys) ** 0.5,
            "sd": ys.std(ddof=1),
        }
    )
bins = pd.DataFrame(rows_of)


def line(x, y):
    """Least squares: slope, intercept, and the share of the variance explained."""
    slope, intercept = np.polyfit(x, y, 1)
    rest = y - slope * x - intercept
    return slope, intercept, 1 - (rest**2).sum() / ((y - y.mean()) ** 2).sum()


slope, intercept, r2 = line(bins["curvature"], bins["memorization"])
positive = bins["curvature"] > 0
log_slope, log_intercept, log_r2 = line(
    np.log10(bins["curvature"][positive]), bins["memorization"][positive]
)
sample_r2 = line(x_all, y_all)[2]
bins["line"] = slope * bins["curvature"] + intercept
bins["residual"] = bins["memorization"] - bins["line"]
bins.to_csv(results / "fig-line.csv", index=False)
typical = np.sqrt(np.mean(bins["residual"] ** 2))
expected_error = np.sqrt(np.mean(bins["standard_error"] ** 2))
bend = np.polyfit(bins["curvature"], bins["memorization"], 2)[0]
linear = slope > 0 and typical < 1.5 * expected_error
glue("num_bins", num_bins, display=False)
glue("slope", f"{slope:.3g}", display=False)
glue("line_r2", float(r2), display=False)
glue("log_r2", float(log_r2), display=False)
glue("sample_r2", float(sample_r2), display=False)
glue("residual", float(typical), display=False)
glue("residual_expected", float(expected_error), display=False)
glue(
    "line_verdict",
    "the bins are on a straight line as far as their errors let one see"
    if linear
    else "memorization rises with curvature, but not along a straight line: "
    f"it bends {'downwards' if bend < 0 else 'upwards'}"
    if slope > 0
    else "memorization does not rise with curvature",
    display=False,
)
glue(
    "log_verdict",
    "The logarithm of curvature does better"
    if log_r2 > r2
    else "The logarithm of curvature does no better",
    display=False,
)

# %% tags=["hide-input"] mystnb={"figure": {"caption": "Mean memorization against mean curvature in {glue:text}`num_bins` bins of equal numbers of images, with standard errors, and a fitted line of slope {glue:text}`slope` (left); what the line leaves over (right).", "name": "fig-line"}, "image": {"alt": "Left, mean memorization against mean curvature by bins with a straight line; right, the residuals of the line around zero."}}
fig, axes = plt.subplots(1, 2, figsize=(7, 3), layout="constrained", facecolor="white")
for ax, column in zip(axes, ("memorization", "residual"), strict=True):
    ax.errorbar(
        bins["curvature"],
        bins[column],
        yerr=bins["standard_error"],
        fmt="o",
        ms=4,
        lw=1,
        color=figures.COLOURS[0],
    )
    ax.set(xlabel="mean curvature of the bin, E‖Hv‖")
    ax.spines[["top", "right"]].set_visible(False)
axes[0].plot(bins["curvature"], bins["line"], "--", color=figures.COLOURS[1])
axes[0].set(ylabel="mean memorization")
axes[1].axhline(0, color=figures.GREY, ls=":", lw=1)
_ = axes[1].set(ylabel="residual")

# %% [markdown]
# The line explains {glue:text}`line_r2:.0%` of the variance between bins and
# {glue:text}`sample_r2:.0%` of that between images, by the curvature averaged over seeds. Its residuals have a root mean square
# of {glue:text}`residual:.4f`, where the errors of the bins let one expect
# {glue:text}`residual_expected:.4f`: {glue:text}`line_verdict`. {glue:text}`log_verdict`
# ({glue:text}`log_r2:.0%` between bins).
#
# ## What each costs
#
# Seconds of one core by the clock, for the same images and settings; whatever else the
# machine did meanwhile makes them longer. The ensemble is its first M
# networks; a run is one training with its trace, {glue:text}`num_probes` probes a scored
# epoch. All are held against the *second* half of the ensemble, so that none is compared
# with itself. The seconds of a run are all counted for curvature, and the training's alone
# for the cumulative loss, which can be read off on the way.

# %% tags=["hide-input"]
told = np.isfinite(second_mem.value)
target = second_mem.value[told]
k_told = min(num_top, int(told.sum()))
spent = costs.of_runs(traces)
per_run = {
    "curvature_norm": (spent["train_seconds"] + spent["score_seconds"]).to_numpy(),
    "cumulative_loss": spent["train_seconds"].to_numpy(),
}
rows_of = []
for m in sizes:
    part = influence.memorization(ensemble.inside[:m], ensemble.correct[:m])
    guess = np.where(np.isfinite(part.value), part.value, 0)  # no value: not memorised
    found = metrics.agreement(guess[told], target, k_told)
    seconds = ensemble.seconds * m / num_models
    row = {"what": "ensemble", "count": m, "seconds": seconds, "trainings": float(m)}
    rows_of.append(row | found._asdict())
for name, seconds in per_run.items():
    for n in range(1, len(traces) + 1):
        values = sum(frame[name] for frame in by_seed[:n]).to_numpy() / n
        found = metrics.agreement(values[told], target, k_told)
        row = {"what": name, "count": n}
        row["seconds"] = float((seconds * spent["threads"].to_numpy())[:n].sum())
        row["trainings"] = n * seconds.sum() / spent["train_seconds"].sum()
        rows_of.append(row | found._asdict())
cost = pd.DataFrame(rows_of)
cost.to_csv(results / "fig-cost.csv", index=False)


AGREE = {
    "spearman": "Spearman",
    "pearson": "Pearson",
    "top_overlap": "overlap of the top",
}


def single(name):
    """What one run of a score reaches, and takes."""
    return cost[(cost["what"] == name) & (cost["count"] == 1)].iloc[0]


def as_good_as(name, column):
    """The fewest networks tried that agree as well as one run of a score, or None."""
    of_networks = cost["what"] == "ensemble"
    more = cost[of_networks & (cost[column] >= single(name)[column])]
    return more.iloc[0] if len(more) else None


def in_words(name):
    one, texts = single(name), []
    for column, title in AGREE.items():
        networks = as_good_as(name, column)
        texts.append(
            f"{title} {one[column]:.3f}, "
            + (
                f"which no M up to {half:,} reaches"
                if networks is None
                else f"as {int(networks['count']):,} networks in {networks['seconds']:.3g} s"
            )
        )
    return (
        f"{one['seconds']:.3g} s, as much as {one['trainings']:.1f} trainings one by one: "
        + "; ".join(texts)
    )


one, loss = single("curvature_norm"), single("cumulative_loss")
rivals = {column: as_good_as("curvature_norm", column) for column in AGREE}
cheaper = [
    column
    for column, networks in rivals.items()
    if networks is None or networks["seconds"] > one["seconds"]
]
one_by_one = [
    column
    for column, networks in rivals.items()
    if networks is None or networks["trainings"] > one["trainings"]
]


def by_measures(columns):
    return " and ".join(AGREE[column] for column in columns) or "no measure"


glue(
    "cost_verdict",
    f"by {by_measures(cheaper)} one run's curvature is cheaper than the ensemble that "
    "agrees as well"
    + (
        f"; by {by_measures([c for c in AGREE if c not in cheaper])} the ensemble, trained "
        "as one program, is"
        if len(cheaper) < len(AGREE)
        else ""
    )
    + f". If networks had to be trained one by one, curvature would be cheaper by "
    f"{by_measures(one_by_one)}",
    display=False,
)
better = [column for column in AGREE if loss[column] >= one[column]]
glue(
    "loss_verdict",
    f"The cumulative loss of the same run, which takes {loss['seconds']:.3g} s in place of "
    f"{one['seconds']:.3g}, agrees at least as well by {by_measures(better)}",
    display=False,
)
glue("num_probes", num_probes, display=False)
glue("ensemble_seconds", float(ensemble.seconds), display=False)
glue("model_seconds", float(ensemble.seconds / num_models), display=False)
glue("cost_norm", in_words("curvature_norm"), display=False)
glue("cost_loss", in_words("cumulative_loss"), display=False)

# %% tags=["hide-input"] mystnb={"figure": {"caption": "Agreement with the second half of the ensemble ({glue:text}`half` networks) against the seconds spent: the first M networks of the first half, and one to {glue:text}`num_seeds` runs of one network.", "name": "fig-cost"}, "image": {"alt": "Rank correlation against seconds on a logarithmic axis: a rising line for the ensemble, and short lines for curvature and cumulative loss."}}
fig, axes = plt.subplots(1, 2, figsize=(7, 3), layout="constrained", facecolor="white")
for ax, column in zip(axes, ("spearman", "top_overlap"), strict=True):
    for (name, part), style, colour, marker in zip(
        cost.groupby("what", sort=False),
        figures.LINES,
        figures.COLOURS,
        figures.MARKERS,
        strict=False,
    ):
        ax.plot(
            part["seconds"],
            part[column],
            style,
            marker=marker,
            ms=4,
            color=colour,
            label=name,
        )
    ax.set(xlabel="seconds of one core", xscale="log")
    ax.spines[["top", "right"]].set_visible(False)
axes[0].set(ylabel="Spearman")
axes[1].set(ylabel=f"overlap of the top {k_told}")
handles = axes[0].get_legend_handles_labels()
_ = fig.legend(*handles, loc="outside upper center", ncols=3, frameon=False)

# %% [markdown]
# One network of the ensemble takes {glue:text}`model_seconds:.3f` seconds of a core, since
# many are trained as one program; all take {glue:text}`ensemble_seconds:.0f`. Held against
# the second half, and beside the fewest networks of those tried that agree as well:
#
# - curvature (norm) of one run takes {glue:text}`cost_norm`;
# - the cumulative loss of one run takes {glue:text}`cost_loss`.
#
# So {glue:text}`cost_verdict`. {glue:text}`loss_verdict`.
#
# ## The answer
#
# Over {glue:text}`num_samples` images and {glue:text}`num_models` networks, curvature
# averaged over training has a rank correlation with measured memorization of
# {glue:text}`norm_spearman` (norm) and {glue:text}`square_spearman` (square; mean ± sd over
# {glue:text}`num_seeds` seeds), where two halves of the ensemble reach
# {glue:text}`half_spearman:.3f` with each other, a constant has no rank and shuffled
# curvature {glue:text}`shuffled_spearman:.3f`. Of {glue:text}`num_scores` scores the norm is
# number {glue:text}`place`; the best is {glue:text}`best` ({glue:text}`best_spearman`), and the cumulative loss has
# {glue:text}`loss_spearman`. As to the straight line: {glue:text}`line_verdict`. As to the
# cost: {glue:text}`cost_verdict`. {glue:text}`loss_verdict`.
