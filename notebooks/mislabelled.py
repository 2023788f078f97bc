# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Which score finds wrong labels best?

# %% [markdown]
# *Twelve minutes to read. Needs: [what curvature is](/book/method.md).*
#
# Some of the training labels are wrong, and we know which. We train one network long
# enough to learn labels by heart, rank the samples by each score, and count. Every score
# is computed from the *same* runs, with the labels that were *trained on*; two that need
# a training of their own get one on the same images. **Expected**, from the paper, for
# labels replaced at random: curvature averaged over training puts nearly all wrong labels
# at the top.

# %% tags=["parameters"]
dataset = "digits"  # a data set that curvlib.load knows
num_train: int = None  # train on the first so many images; None for all
num_unseen = 2000  # test images, at most, to count accuracy on; 0 needs no test split
noise = "symmetric"  # symmetric, pair, human_aggre, human_worse, human_noisy, ...
noise_rate = 0.1  # share of the labels replaced; ignored for human labels
noise_rates: list = None  # several shares in place of noise_rate
planted_duplicates = 0  # copies under a wrong label, in place of replaced labels
seed = 0  # of the training, of the wrong labels, and of the halves
seeds: list = None  # several seeds in place of seed
model = "slim_resnet"  # resnet18, slim_resnet, strided_resnet, compact_resnet or mlp
width = 16  # channels of its first stage
epochs = 30  # passes over the training set
lr = 0.1  # learning rate at the start
batch_size = 64  # images a step
schedule = "cosine"  # of the learning rate; step, cosine or constant
weight_decay = 0.0  # on all weights
augment = False  # random crops and flips
precision = "float32"  # of the passes of training; float32 or bfloat16
num_probes = 2  # random directions a scored epoch, new ones each time
step = 0.001  # finite step h, in units of the normalised input
score_every = 1  # score each so many epochs, and the last
second_epochs = 5  # epochs on the second half; 0 trains on no halves
halves_rates: list = None  # noise rates at which halves are trained on; None for all
num_timed = 256  # samples on which the cost of the scores is measured
runs = "runs"  # folder of the training runs; a finished run is read, not trained again
results = "results/scratch/mislabelled"  # folder for tables and figure data

# %% tags=["hide-input"]
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from curvlib.book.source import check_parameters
from myst_nb import glue

import curvlib
from curvlib import data, metrics, scores
from curvlib.book import figures
from curvlib.runs import halves, training
from curvlib.studies import costs, detection, published

check_parameters(In)
results = Path(results)
results.mkdir(parents=True, exist_ok=True)
seeds = [seed] if seeds is None else seeds
human = noise in data.HUMAN
if human or planted_duplicates:
    noise_rates = [0.0]
elif noise_rates is None:
    noise_rates = [noise_rate]
if not (human or planted_duplicates or all(0 < rate < 1 for rate in noise_rates)):
    raise ValueError(f"noise rates must lie between 0 and 1, got {noise_rates}")
if not seeds:
    raise ValueError("seeds must hold at least one seed")
WHAT = (
    f"{planted_duplicates} images are in the training set a second time, under a wrong "
    "label"
    if planted_duplicates
    else {
        "symmetric": "a share of the labels is replaced by another class, each equally "
        "likely",
        "pair": "a share of the labels is replaced by the next class, always the same one",
    }.get(noise, f"the labels are those that people gave (`{noise}`), errors included")
)
glue("what", WHAT, display=False)
each_share = " and each share of wrong labels" if len(noise_rates) > 1 else ""
glue("each_share", each_share, display=False)

# %% [markdown]
# ## Train once, score everything
#
# Here {glue:text}`what`. One run for each seed{glue:text}`each_share`. A run leaves a
# *trace*: loss, margin, input gradient, curvature and more, for every sample at
# every scored epoch. Each score is a reduction of that trace.
#
# Confident learning and second-split forgetting need a second training, on one half of
# the samples and then on the other ([method](/book/method.md)).

# %%
base = training.TrainConfig(
    dataset=dataset,
    num_train=num_train,
    noise=noise,
    planted_duplicates=planted_duplicates,
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
    score_original_labels=True,
)
if num_unseen:
    test = curvlib.load(dataset, split="test")
    test = test.select(np.arange(min(num_unseen, len(test))))
found, leaked, fitted, tables, traces, samples = [], [], [], {}, {}, {}
for rate in noise_rates:
    for seed in seeds:
        config = replace(base, noise_rate=rate, seed=seed)
        images, _ = training.prepare(config)  # by index, as the trace is
        trace = training.fit(config, images, runs=runs)
        wrong = images.mislabelled
        table = scores.suspicion(scores.compute(trace, seed=seed))
        samples_of = table[["index", "label"]]
        table = table.drop(columns=["index", "label"])
        columns = {"gauss_newton": halves.gauss_newton(trace, images)}
        kept = float("nan")
        if second_epochs and (halves_rates is None or rate in halves_rates):
            halves = halves.train_on_halves(
                config, images, second_epochs=second_epochs, runs=runs
            )
            columns |= {
                "confident_learning": halves.confident_learning(
                    halves.probabilities, images.labels
                ),
                "second_split_forgetting": halves.second_split_forgetting(
                    halves.correct
                ),
            }
            # Still right after the last epoch on the second half
            kept = halves.correct[-1][wrong].mean()
        table = table.assign(**halves.suspicion(columns))
        table = table[[n for n in table if n != "random"] + ["random"]]
        key = {"noise_rate": rate, "seed": seed}
        found.append(detection.measure(table, wrong).assign(**key))
        under = detection.UnderOriginalLabels(trace)
        leak = scores.suspicion(scores.compute(under, seed=seed))
        leak = leak.drop(columns=["index", "label"])
        leaked.append(detection.measure(leak, wrong, num_resamples=1).assign(**key))
        right = trace.read("correct")[-1]
        unseen = float("nan")
        if num_unseen:
            p = training.probabilities(
                training.trained_model(trace),
                test,
                scaling=(trace.info["mean"], trace.info["std"]),
            )
            unseen = (p.argmax(1) == test.labels).mean()
        fitted.append(
            key
            | {
                "samples": len(images),
                "wrong labels": int(wrong.sum()),
                "share wrong": wrong.mean(),
                "wrong labels learned": right[wrong].mean(),
                "other labels learned": right[~wrong].mean(),
                "right on unseen": unseen,
                "wrong never forgotten": kept,
                "dataset": images.name,
                "noise": noise,
                "planted_duplicates": planted_duplicates,
                "model": model,
            }
        )
        tables[rate, seed], traces[rate, seed] = table, trace
        samples[rate, seed] = images
found = pd.concat(found, ignore_index=True)
leaked = pd.concat(leaked, ignore_index=True)
fitted = pd.DataFrame(fitted)
found.to_csv(results / "metrics.csv", index=False)
leaked.drop(columns=["low", "high"]).to_csv(results / "leaked.csv", index=False)
fitted.to_csv(results / "fitted.csv", index=False)
costs.of_runs(traces.values()).to_csv(results / "runs.csv", index=False)
main = 0.1 if 0.1 in noise_rates else max(noise_rates)
# Every score of the main noise rate, as the authors define it.
pd.concat(
    [
        table.astype(
            # Nearly all of its values are close to 1, and would be equal
            {name: "float32" for name in table if name != "confident_learning"}
        ).assign(
            seed=seed,
            index=samples[rate, seed].index,
            label=samples[rate, seed].labels.astype("int16"),
            original_label=samples[rate, seed].original_labels.astype("int16"),
        )
        for (rate, seed), table in tables.items()
        if rate == main
    ],
    ignore_index=True,
).to_parquet(results / "scores.parquet", index=False, compression="zstd")

# %% [markdown]
# The method is about labels that were *memorised*, so first: were they?

# %%
learned = fitted.groupby("noise_rate")[
    [
        "samples",
        "wrong labels",
        "share wrong",
        "wrong labels learned",
        "other labels learned",
        "right on unseen",
    ]
].mean()
learned.style.format(
    dict.fromkeys(learned.columns[:2], "{:.0f}")
    | dict.fromkeys(learned.columns[2:], "{:.1%}"),
    na_rep="–",
).hide(axis="index")

# %% tags=["remove-cell"]
lowest_fit = fitted["wrong labels learned"].min()
glue("lowest_fit", lowest_fit, display=False)
glue("num_seeds", len(seeds), display=False)
glue(
    "fit_verdict",
    "so the wrong labels were memorised"
    if lowest_fit >= 0.95
    else "which is no fault of the training: a planted copy and its original are one image "
    "under two labels, and no network can be right on both"
    if planted_duplicates and lowest_fit < 0.9
    else "so some wrong labels were never memorised: read the scores with that in mind",
    display=False,
)
share = fitted[fitted["noise_rate"] == main]["share wrong"].mean()
glue("share", share, display=False)
at_main = found[found["noise_rate"] == main]
aurocs = at_main.groupby("score", sort=False)["auroc"]
means = aurocs.mean()
# final_loss is the same ranking as in_confidence_last, and takes no place of its own.
ranked = means.drop(["random", "final_loss"]).sort_values(ascending=False)
for key, text in aurocs.agg(metrics.mean_sd).items():
    glue(f"auroc_{key}", text, display=False)
glue("auroc_best", metrics.mean_sd(aurocs.get_group(ranked.index[0])), display=False)
glue("best", ranked.index[0], display=False)
glue("rank_curvature", list(ranked.index).index("curvature_square") + 1, display=False)
glue("rank_norm", list(ranked.index).index("curvature_norm") + 1, display=False)
glue("num_scores", len(ranked), display=False)

# %% [markdown]
# In the run that learned fewest, the network gives {glue:text}`lowest_fit:.1%` of the
# wrong labels back at the end, {glue:text}`fit_verdict`.
#
# ## The table
#
# AUROC is the probability that a sample with a wrong label scores above one with a right
# one. Mean ± standard deviation over {glue:text}`num_seeds` seeds; the last row is what
# random numbers get.


# %% tags=["hide-input"]
def by_share(frame):
    """AUROC by score and share of wrong labels, mean ± sd over seeds."""
    grouped = frame.groupby(["score", "noise_rate"], sort=False)["auroc"]
    table = grouped.agg(metrics.mean_sd).unstack()
    shares = fitted.groupby("noise_rate")["share wrong"].mean()
    table.columns = [f"{shares[rate]:.3g}".rstrip("0") for rate in table.columns]
    order = [n for n in dict.fromkeys(frame["score"]) if n in table.index]
    return table.loc[order].rename_axis(columns="AUROC at a share wrong of")


by_share(found).fillna("not run")

# %% tags=["remove-cell"]
lacking = [r for r in noise_rates if halves_rates is not None and r not in halves_rates]
where = (
    f" at shares of {', '.join(f'{r:.3g}' for r in lacking)}" if second_epochs else ""
)
glue(
    "lacking",
    f"Confident learning and second-split forgetting were not run{where}: they take two "
    "more trainings for each run (`second_epochs`, `halves_rates`)."
    if lacking or not second_epochs
    else "",
    display=False,
)

# %% [markdown]
# {glue:text}`lacking` What a person who checks labels would ask for, at a share of
# {glue:text}`share:.1%` wrong labels: the area under the precision–recall curve
# (`average_precision`); the share of good samples to be looked at to find 95 % of the
# wrong ones (`fpr_at_95_tpr`, lower is better); of the wrong labels, the share missed if
# as many samples are flagged as there are wrong labels (`false_negative_rate`, lower is
# better). `interval`: 95 % bootstrap over the samples of the first seed. `to curvature`:
# difference of AUROC to squared curvature within the same run, with Student's 95 %
# interval over seeds. `trainings`: training and scoring for one run, where training alone
# is 1, from ratios measured here; `seconds`: the same for the fastest run at this share.

# %% tags=["hide-input"]
first = traces[main, seeds[0]]
images = samples[main, seeds[0]]
chosen = np.linspace(0, len(images) - 1, min(num_timed, len(images))).astype(int)
x = data.normalise(
    images.select(chosen).tensor(), first.info["mean"], first.info["std"]
)
timing = costs.measure(
    training.trained_model(first),
    x,
    torch.from_numpy(images.labels[chosen]),
    batch_size=batch_size,
    num_probes=(num_probes,),
    step=step,
    repeats=5,
)
# The fastest run: what else a machine does only ever makes one slower.
fastest = min(
    trace.log()["train_seconds"].sum() for (r, _), trace in traces.items() if r == main
)
cost = detection.cost_in_trainings(
    costs.of_scores(timing, epochs=epochs, num_probes=num_probes),
    epochs=epochs,
    scored_epochs=len(first.epochs),
)
ratio = timing.groupby("what")["over_training"].median()
cost["gauss_newton"] = 1 + ratio["Gauss-Newton"] / epochs
cost["confident_learning"] = 1.0  # two trainings on half of the samples each
cost["second_split_forgetting"] = 1 + second_epochs / epochs
cost["random"] = 0.0

measures = ["average_precision", "fpr_at_95_tpr", "false_negative_rate"]
asked = at_main.groupby("score", sort=False)[measures].agg(metrics.mean_sd)
of_first = at_main[at_main["seed"] == seeds[0]].set_index("score")
asked.insert(
    0,
    "interval",
    [f"{of_first.low[n]:.3f} to {of_first.high[n]:.3f}" for n in asked.index],
)
change = detection.paired_difference(at_main, "curvature_square")
asked["to curvature"] = [
    "one seed: "[: 0 if n > 1 else None]
    + f"{d:+.3f}"
    + (f" ({low:+.3f} to {high:+.3f})" if n > 1 else "")
    for d, low, high, n in change.loc[asked.index].itertuples(index=False)
]
asked["trainings"] = [f"{cost[n]:.2f}" for n in asked.index]
asked["seconds"] = [f"{cost[n] * fastest:.0f}" for n in asked.index]
costed = change.assign(trainings=cost.reindex(change.index)).reset_index(names="score")
costed["seconds"] = costed["trainings"] * fastest
costed.to_csv(results / "paired.csv", index=False)
kept = fitted[fitted["noise_rate"] == main]["wrong never forgotten"].mean()
glue(
    "kept",
    f"Within its {second_epochs} epochs on the second half {kept:.0%} of the wrong labels "
    "were not forgotten; they all tie, so that second-split forgetting is cut short."
    if np.isfinite(kept)
    else "",
    display=False,
)
every = "all" if score_every == 1 else f"one of {score_every}"
glue("score_every", every, display=False)
asked

# %% [markdown]
# (`final_loss` and `in_confidence_last` are the same ranking, since one is a function of the
# other, and count once. Where every sample is fitted, `in_confidence_max_last` is too.
# `gauss_newton` is the exact curvature at the last epoch, which does not see the label.
# `forgetting_events`, `learning_time` and `second_split_forgetting` take few values, so that
# most samples tie: then `fpr_at_95_tpr` can be 1, and an AUROC below one half. Forgetting
# is counted between scored epochs, here {glue:text}`score_every`.
# {glue:text}`kept`)

# %% tags=["remove-cell"]
change = means["curvature_square"] - means["curvature_last"]
glue(
    "average_verdict",
    f"{'raises' if change > 0 else 'does not raise'} its AUROC ({change:+.3f})",
    display=False,
)
random_rows = found[found["score"] == "random"]
inside = ((random_rows["low"] <= 0.5) & (random_rows["high"] >= 0.5)).sum()
glue("random_inside", f"{inside} of {len(random_rows)}", display=False)

# %% tags=["hide-input"] mystnb={"figure": {"caption": "At {glue:text}`share:.1%` wrong labels the best score is {glue:text}`best` (AUROC {glue:text}`auroc_best`); curvature, squared, is number {glue:text}`rank_curvature` of {glue:text}`num_scores`, its plain norm {glue:text}`rank_norm`. Dots: mean over {glue:text}`num_seeds` seeds, whiskers: sd.", "name": "fig-scores"}, "image": {"alt": "Dot plot of the AUROC of each score, sorted, with a line for chance at one half."}}
_ = figures.score_dots(at_main)

# %% tags=["hide-input"] mystnb={"figure": {"caption": "AUROC against the share of wrong labels: one line a score, band: sd over {glue:text}`num_seeds` seeds. Averaging curvature over training {glue:text}`average_verdict`; `curvature_last` looks at the end alone.", "name": "fig-noise"}, "image": {"alt": "Lines of AUROC against noise rate, with curvature, cumulative loss, AUM and the last-epoch scores highlighted."}}
shown = ["curvature_square", "curvature_last", "cumulative_loss", "aum", "random"]
if len(noise_rates) > 1:
    everywhere = found.groupby("score")["noise_rate"].nunique() == len(noise_rates)
    whole = found[found["score"].map(everywhere)]
    _ = figures.auroc_by_noise(whole, highlight=shown)

# %% [markdown]
# The bootstrap interval of the random score holds one half in
# {glue:text}`random_inside` runs (95 % of them should, on average).
#
# ## What separates, and what does not

# %% tags=["hide-input"] mystnb={"figure": {"caption": "Curvature (mean tr(H\u00b2) over training) of samples with wrong labels and of the others, first seed, at {glue:text}`share:.1%` wrong labels: AUROC {glue:text}`first_auroc:.3f`, 95 % bootstrap interval {glue:text}`low:.3f` to {glue:text}`high:.3f`.", "name": "fig-distributions"}, "image": {"alt": "Two histograms of curvature on a logarithmic axis; one of the samples with wrong labels, one of the others."}}
table = tables[main, seeds[0]]
wrong = images.mislabelled
for key in ("low", "high", "auroc"):
    name = "first_auroc" if key == "auroc" else key
    glue(name, float(of_first.loc["curvature_square", key]), display=False)
_ = figures.distributions(
    table["curvature_square"].to_numpy(),
    {"label right": ~wrong, "label wrong": wrong},
    xlabel="curvature, mean tr(H²) over epochs",
)

# %% [markdown]
# The samples that curvature is most suspicious of: below each image the label given, the
# score, and the index in the data set.

# %% tags=["hide-input"] mystnb={"figure": {"caption": "The forty samples with the highest curvature, first seed: {glue:text}`top_hits` of 40 carry a wrong label (\u2260).", "name": "fig-top"}, "image": {"alt": "Forty training images with the highest curvature; those with wrong labels are framed."}}
names = np.array(images.classes)
order = np.argsort(-table["curvature_square"].to_numpy(), kind="stable")
top = order[:40]
glue("top_hits", int(wrong[top].sum()), display=False)
_ = figures.gallery(
    images.images[top],
    label=names[images.labels[top]],
    score=table["curvature_square"].to_numpy()[top],
    index=images.index[top],
    marked=wrong[top],
    marked_as="label wrong",
)

# %% [markdown]
# ## The images that fool each method
#
# For each method the five samples with a right label that it suspects most, and the five
# with a wrong label (≠) that it suspects least. What all of them are fooled by is a
# property of the images; what only one is fooled by is its own. Where many samples share a
# rank, those shown are drawn from them at random, and their number stands behind it.

# %% tags=["hide-input"] mystnb={"figure": {"caption": "One row a method, first seed: five false alarms, then five misses, with the label given and the rank among {glue:text}`num_samples` samples (1 is most suspect).", "name": "fig-fooled"}, "image": {"alt": "Rows of ten images each, one row a method: five with right labels that it suspects most, five with wrong labels that it suspects least."}}
METHODS = [
    "curvature_norm",
    "curvature_last",
    "cumulative_loss",
    "cumulative_gradient",
    "aum",
    "el2n",
    "forgetting_events",
    *(name for name in halves.SIGNS if name in table and name != "gauss_newton"),
]
glue("num_samples", len(images), display=False)
chosen, captions, fooled = [], [], []
for name in METHODS:
    score = table[name].to_numpy()
    ranks = pd.Series(-score).rank(method="min").astype(int).to_numpy()
    tied = np.bincount(ranks)[ranks]
    alarms, misses = detection.suspicious_and_missed(score, wrong, 5)
    for kind, positions in (("false alarm", alarms), ("missed", misses)):
        chosen += list(positions)
        title = name.replace("_", " ")  # which can be wrapped
        captions += [
            f"{title}\n{kind}, {ranks[i]}" + (f" (of {tied[i]})" if tied[i] > 1 else "")
            for i in positions
        ]
        fooled += [
            {
                "score": name,
                "kind": kind,
                "index": images.index[i],
                "rank": ranks[i],
                "tied": tied[i],
            }
            for i in positions
        ]
pd.DataFrame(fooled).to_csv(results / "fooled.csv", index=False)
chosen = np.array(chosen)
_ = figures.gallery(
    images.images[chosen],
    captions,
    label=names[images.labels[chosen]],
    marked=wrong[chosen],
    marked_as="label wrong",
)

# %% [markdown]
# ## The leak: what if samples are scored with their true labels?
#
# A script that scores a trained network has to know the labels that it was *trained on*.
# One that loads the data set anew scores the samples with wrong labels under their true
# ones instead, and nothing complains. {glue:text}`leak_why` The same table, with that slip:

# %% tags=["hide-input"]
slip = leaked[leaked["noise_rate"] == main]
kept = at_main[at_main["score"].isin(slip["score"])]
known = published.auroc_symmetric_noise()
known = known[
    (known["dataset"] == dataset)
    & (known["noise_rate"] == main)
    & (noise == "symmetric")
].set_index("score")["auroc"]
beside = pd.DataFrame(
    {
        "labels trained on": kept.groupby("score", sort=False)["auroc"].agg(
            metrics.mean_sd
        ),
        "true labels": slip.groupby("score", sort=False)["auroc"].agg(metrics.mean_sd),
    }
)
before = kept.groupby("score", sort=False)["auroc"].mean()
after = slip.groupby("score", sort=False)["auroc"].mean()
beside["change"] = (after - before).map("{:+.3f}".format)
if len(known):
    beside["published"] = known.reindex(beside.index).map("{:.3f}".format, "ignore")
    beside = beside.fillna("–")
gain = (after - before).drop("random")
gain = gain[gain.abs() > 1e-9]  # a score that does not look at the label stays
glue(
    "leak_why",
    "A planted copy is then scored as what its original is, which the network may have "
    "learned in its place."
    if planted_duplicates
    else "To the network, which has learned the wrong label by heart, the true one is then "
    "the surprising one.",
    display=False,
)
glue("leak_most", gain.idxmax(), display=False)
glue("leak_gain", float(gain.max()), display=False)
glue("leak_loses", gain.idxmin(), display=False)
glue("leak_loss", float(gain.min()), display=False)
glue(
    "leak_csl",
    f"{before['cumulative_loss']:.3f} to {after['cumulative_loss']:.3f}",
    display=False,
)
glue(
    "leak_norm",
    f"{before['curvature_norm']:.3f} to {after['curvature_norm']:.3f}",
    display=False,
)
beside

# %% tags=["remove-cell"]
closer = ""
if len(known):
    common = [n for n in known.index if n in before.index]
    common = [n for n in common if n in gain]
    nearer = [n for n in common if abs(after[n] - known[n]) < abs(before[n] - known[n])]
    closer = (
        f"Of the {len(common)} scores with a published value that the slip moves, "
        f"{len(nearer)} come nearer to it ({', '.join(nearer) or 'none'}). That does not "
        "show that the published values have it; a larger network on more images moves "
        "them the same way, and the slip alone takes nearly every score close to 1."
    )
glue("leak_verdict", closer, display=False)

# %% [markdown]
# The slip moves the cumulative loss from {glue:text}`leak_csl` and curvature's norm from
# {glue:text}`leak_norm`. Of the scores that look at the label it changes
# {glue:text}`leak_loses` by {glue:text}`leak_loss:+.3f` and {glue:text}`leak_most` by
# {glue:text}`leak_gain:+.3f`, all others by something between. {glue:text}`leak_verdict`
#
# ## Does curvature add anything to what is cheaper?
#
# Two ways to join scores: the mean of their ranks, which needs nothing else, and a
# logistic regression on ranks, fitted with the *truth* on four fifths of the samples and
# read on the last fifth: not a method, since nobody has the truth, but a hint at what
# joining could reach.

# %% tags=["hide-input"]
SETS = {
    "aum": ["aum"],
    "aum + curvature": ["aum", "curvature_norm"],
    "cumulative loss": ["cumulative_loss"],
    "cumulative loss + curvature": ["cumulative_loss", "curvature_norm"],
    "aum + cumulative loss + el2n": ["aum", "cumulative_loss", "el2n"],
    "aum + cumulative loss + el2n + curvature": [
        "aum", "cumulative_loss", "el2n", "curvature_norm",
    ],
}  # fmt: skip
rows = []
for seed in seeds:
    table, truth = tables[main, seed], samples[main, seed].mislabelled
    for name, members in SETS.items():
        joined = {"rank average": detection.rank_average(table[members])}
        if truth.sum() >= 5:
            joined["logistic"] = detection.logistic(table[members], truth, seed=seed)
        for how, score in joined.items():
            rows.append(
                {
                    "scores": name,
                    "how": how,
                    "seed": seed,
                    "auroc": metrics.auroc(score, truth),
                    "trainings": cost[members].max(),
                }
            )
combined = pd.DataFrame(rows)
combined.to_csv(results / "combined.csv", index=False)
grid = combined.groupby(["scores", "how"], sort=False)["auroc"].agg(metrics.mean_sd)
grid = grid.unstack().loc[list(SETS)]
grid["trainings"] = combined.groupby("scores")["trainings"].first().map("{:.2f}".format)
grid

# %% tags=["remove-cell"]
wide = combined.pivot(index=["how", "seed"], columns="scores", values="auroc")


def gains(cheap):
    """Change of AUROC when curvature joins, for both ways of joining."""
    texts = []
    for how, block in wide.groupby(level="how", sort=False):
        gain = block[f"{cheap} + curvature"] - block[cheap]
        texts.append(f"{gain.mean():+.3f} by {how}")
        worth[how, cheap] = gain
    return " and ".join(texts)


worth = {}
for key, cheap in (("aum", "aum"), ("csl", "cumulative loss"), ("all", list(SETS)[4])):
    glue(f"gain_{key}", gains(cheap), display=False)
all_gains = np.concatenate(list(worth.values()))
glue(
    "combine_verdict",
    f"Over all cases and seeds it changes AUROC by {all_gains.min():+.3f} to "
    f"{all_gains.max():+.3f}"
    + (": it never adds as much as 0.01" if all_gains.max() < 0.01 else ""),
    display=False,
)
glue(
    "combine_price",
    f"{cost['curvature_norm'] / cost['cumulative_loss']:.1f}",
    display=False,
)

# %% [markdown]
# Curvature beside AUM: {glue:text}`gain_aum`. Beside the cumulative loss:
# {glue:text}`gain_csl`. Beside three cheap scores: {glue:text}`gain_all`.
# {glue:text}`combine_verdict`, for {glue:text}`combine_price` times the cost of the
# cumulative loss.
#
# ## Planted duplicates

# %% tags=["hide-input"]
twins = None
if planted_duplicates:
    rows = []
    for (rate, seed), table in tables.items():
        some = samples[rate, seed]
        copies = some.source != some.index
        both = copies | np.isin(some.index, some.source[copies])
        for name in table:
            score = table[name].to_numpy()
            rows.append(
                {
                    "score": name,
                    "seed": seed,
                    "both copies": metrics.auroc(score, both),
                    "only the wrong one": metrics.auroc(score, copies),
                }
            )
    twins = pd.DataFrame(rows)
    twins.to_csv(results / "planted.csv", index=False)
    shown_twins = twins.groupby("score", sort=False)[
        ["both copies", "only the wrong one"]
    ].agg(metrics.mean_sd)
    twin_known = published.auroc_planted_duplicates()
    twin_known = twin_known[twin_known["dataset"] == dataset].set_index("score")
    shown_twins["published (both)"] = (
        twin_known["auroc"].reindex(shown_twins.index).map("{:.4f}".format, "ignore")
    )
    shown_twins = shown_twins.fillna("–")
    last = first.read("max_probability")[-1]
    some = samples[main, seeds[0]]
    copies = some.source != some.index
    both = copies | np.isin(some.index, some.source[copies])
    sure = last[both].mean(), last[~both].mean()
glue(
    "twins_note",
    "A copy of an image under a wrong label makes its original hard to learn too, so the "
    "published evaluation counts both as found. Whoever wants to repair the labels needs "
    "the wrong one. Two labels on one image leave the network torn: at the end its largest "
    f"probability is {sure[0]:.2f} on these images and {sure[1]:.2f} on the others (means, "
    "first seed), so that one look at it finds them, without any label."
    if planted_duplicates
    else "None were planted here; the pages with `planted_duplicates` show them.",
    display=False,
)
shown_twins if planted_duplicates else None

# %% [markdown]
# {glue:text}`twins_note`
#
# ## Beside published values
#
# The re-run in *Towards Memorization Estimation* {cite}`ravikumar2025` trained ResNet-18
# for 200 epochs on all 50,000 images of CIFAR-10 and CIFAR-100, with labels replaced at
# random or 250 planted duplicates. {glue:text}`published_note` {glue:text}`scale_note`

# %% tags=["hide-input"]
here = found.groupby(["score", "noise_rate"], sort=False)["auroc"].agg(["mean", "std"])
known = published.auroc_symmetric_noise().drop(columns="source")
known = known[(known["dataset"] == dataset) & (noise == "symmetric")]
compared = known.merge(here.reset_index(), on=["score", "noise_rate"])
glue(
    "published_note",
    "Ours come from a smaller network on fewer images, so the columns answer the same "
    "question at different scale, and no more. (The released scoring script of that line "
    "of work does not pass on the noise settings of the training run, so that its AUROCs "
    "may be too high: the leak above. Its confident learning ranked only the samples that "
    "it flagged and tied the rest, ours ranks all. Published values exist for some scores "
    "and shares only.)"
    if len(compared)
    else "Its values for planted duplicates stand in the table above."
    if planted_duplicates and len(twin_known)
    else f"It has no values for {dataset} with these wrong labels.",
    display=False,
)
compared = compared.drop(columns="dataset")
unseen = fitted["right on unseen"].mean()
glue(
    "scale_note",
    f"Where ours are lower, the likely reason is the network: it is right on {unseen:.0%} "
    "of the images it never saw, so that it learns many samples with good labels by "
    "heart too, and these look like wrong ones to every score. Second-split forgetting "
    f"has a reason of its own: {second_epochs} epochs on the second half are few."
    if len(compared) and num_unseen
    else "",
    display=False,
)
compared["noise_rate"] = compared["noise_rate"].map("{:.0%}".format)
compared.columns = ["score", "noise rate", "published", "sd", "here", "sd here"]
(
    compared.style.hide(axis="index").format(precision=4, na_rep="–")
    if len(compared)
    else None
)

# %% tags=["remove-cell"]
missed = at_main.groupby("score")["false_negative_rate"]
missing = missed.mean()["curvature_square"]
for key, name in (("missed", "curvature_square"), ("missed_best", ranked.index[0])):
    glue(key, metrics.mean_sd(missed.get_group(name)), display=False)
glue(
    "top_verdict",
    "nearly all wrong labels are at the top"
    if missing <= 0.1
    else "most wrong labels are at the top, and far from all"
    if missing < 0.5
    else "most wrong labels are not at the top",
    display=False,
)

# %% [markdown]
# ## The answer
#
# At {glue:text}`share:.1%` wrong labels curvature averaged over training finds them with
# an AUROC of {glue:text}`auroc_curvature_square` (squared, the paper's formula) or
# {glue:text}`auroc_curvature_norm` (plain norm, as its released code), against
# {glue:text}`auroc_curvature_last` from the last epoch alone,
# {glue:text}`auroc_curvature_peak` from the epoch of its peak, and
# {glue:text}`auroc_random` for random numbers ({glue:text}`num_seeds` seeds). Of
# {glue:text}`num_scores` scores it is number {glue:text}`rank_curvature`; the best is
# {glue:text}`best` at {glue:text}`auroc_best`, and the cumulative loss, which needs no
# derivative, gets {glue:text}`auroc_cumulative_loss`. With as many samples flagged as there
# are wrong labels, curvature misses a share of {glue:text}`missed` of them and the best score
# {glue:text}`missed_best`: by curvature, {glue:text}`top_verdict`.
