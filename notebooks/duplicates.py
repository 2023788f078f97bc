# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Which images stand twice under different labels, and does curvature find them?

# %% [markdown]
# *Ten minutes to read. Needs: [what curvature is](/book/method.md).*
#
# No network can learn two labels for one image, except by heart and by compromise. The
# paper sorted images by curvature and saw such pairs near the top, where memorization
# scores and the curvature of the last epoch did not show them. It found them by eye. Here
# they are first found by comparing pixels, all of them, and then looked up in the ranking
# of every score. **Expected**, from the paper: images that stand twice under different
# labels lie far up by curvature averaged over training.

# %% tags=["parameters"]
dataset = "digits"  # a data set that curvlib.load knows
num_train: int = None  # train on the first so many images; None for all
num_heldout = 0  # images of the test split that are scored too, never trained on
planted_duplicates = 40  # copies added under a wrong label, for data that have none
released: str = None  # file of released memorization scores; None for none
seeds = [0, 1, 2]  # one training run each
model = "slim_resnet"  # resnet18, slim_resnet, strided_resnet or mlp
width = 16  # channels of its first stage
epochs = 20  # passes over the training set
lr = 0.1  # learning rate at the start
batch_size = 64  # images a step
schedule = "cosine"  # of the learning rate; step, cosine or constant
weight_decay = 0.0  # on all weights
augment = False  # random crops and flips
precision = "float32"  # of the passes of training; float32 or bfloat16
num_probes = 2  # random directions a scored epoch, new ones each time
step = 0.001  # finite step h, in units of the normalised input
score_every = 1  # score each so many epochs, and the last
wanted_precision = 0.95  # share of the near duplicates found that shall be no chance
runs = "runs"  # folder of the training runs; a finished run is read, not trained again
results = "results/scratch/duplicates"  # folder for tables and figure data

# %% tags=["hide-input"]
from dataclasses import replace
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from curvlib.book.source import check_parameters
from myst_nb import glue

from curvlib import data, metrics, scores
from curvlib.book import figures
from curvlib.data import duplicates
from curvlib.runs import training
from curvlib.studies import costs

check_parameters(In)
results = Path(results)
results.mkdir(parents=True, exist_ok=True)

# %% [markdown]
# ## The runs

# %%
configs = [
    training.TrainConfig(
        dataset=dataset,
        num_train=num_train,
        num_heldout=num_heldout,
        planted_duplicates=planted_duplicates,
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
test = data.load(dataset, split="test")
samples, traces = [], []  # planted copies differ from seed to seed
for config in configs:
    images, heldout = training.prepare(config)
    samples.append(images)
    traces.append(training.fit(config, images, heldout, runs=runs))
images = samples[0]
classes = np.array([name.replace("_", " ") for name in images.classes])
costs.of_runs(traces).to_csv(results / "runs.csv", index=False)

# %% [markdown]
# ## Exact twins
#
# Images with the same pixels, within the training split and between it and the test split.

# %%
within = duplicates.exact(images)
between = duplicates.exact(images, test)
across = between.groupby("group")["split"].transform("nunique") > 1
exact_conflicts = within[within["conflict"]]
within.assign(**{"class": classes[within["label"]]}).to_csv(
    results / "exact-train.csv", index=False
)
between[across].assign(
    **{"class": classes[between.loc[across, "label"]]},
    split=between.loc[across, "split"].map({0: "train", 1: "test"}),
).to_csv(results / "exact-train-test.csv", index=False)

# %% tags=["hide-input"]
groups = exact_conflicts.groupby("group")
listed = pd.DataFrame(
    {
        "images": groups["index"].agg(lambda values: ", ".join(map(str, values))),
        "labels": groups["label"].agg(
            lambda values: " / ".join(dict.fromkeys(classes[values]))
        ),
    }
)
listed.to_csv(results / "conflicts.csv", index=False)
glue("num_within", within["group"].nunique(), display=False)
glue("num_conflicts", len(listed), display=False)
glue("num_across", between.loc[across, "group"].nunique(), display=False)
glue(
    "num_across_conflicts",
    between.loc[across & between["conflict"], "group"].nunique(),
    display=False,
)
glue("num_images", f"{len(images):,}", display=False)
glue("num_test", f"{len(test):,}", display=False)
glue(
    "planted_note",
    f"{planted_duplicates} copies under a wrong label were planted here, other ones for "
    "each seed; those of the first seed are shown."
    if planted_duplicates
    else "Nothing was planted: these are in the data set as it is published.",
    display=False,
)
listed.style.hide(axis="index") if len(listed) else None

# %% [markdown]
# Among {glue:text}`num_images` training images there are {glue:text}`num_within` groups of
# twins, {glue:text}`num_conflicts` of them under different labels (the table above, all of
# them, by index). With the {glue:text}`num_test` test images there are
# {glue:text}`num_across` groups that stand in both splits, {glue:text}`num_across_conflicts`
# of them under different labels. {glue:text}`planted_note`

# %% tags=["hide-input"] mystnb={"figure": {"caption": "Training images that stand twice under different labels (the first {glue:text}`num_shown` groups at most; two neighbours are one group).", "name": "fig-exact"}, "image": {"alt": "Pairs of identical images with different class names under them."}}
first_two = exact_conflicts.groupby("group").head(2)
shown = first_two["index"].to_numpy()[:40]
glue("num_shown", 20, display=False)
position = pd.Series(np.arange(len(images)), index=images.index)
fig = None
if len(shown):
    rows = position[shown].to_numpy()
    fig = figures.gallery(
        images.images[rows],
        label=classes[images.labels[rows]],
        index=images.index[rows],
        columns=8,
    )
else:
    fig, ax = plt.subplots(figsize=(7, 0.6), facecolor="white")
    ax.text(0.5, 0.5, "no exact twins under different labels", ha="center")
    ax.axis("off")

# %% [markdown]
# ## Near twins
#
# Other crops, colours, or compressions of one photograph. Each image is compared with its
# five nearest neighbours in two spaces: pixels (8 × 8 averages, brightness and contrast
# removed) and the inputs of the trained network's last layer. Whether two neighbours are
# twins is decided by their *details*: the correlation of the grey values after the local
# mean is taken off, at the best of small shifts.
#
# How much correlation is enough? Images turned upside down have no twin but by chance, and
# are as alike to the data as chance allows. At each threshold their number tells how many
# of the pairs found are chance {cite}`elias2007`. We take the lowest threshold at which
# {glue:text}`wanted:.0%` are not.

# %%
both = replace(
    images,
    images=np.concatenate([images.images, test.images]),
    labels=np.concatenate([images.labels, test.labels]),
    index=np.arange(len(images) + len(test)),
    original_labels=None,
    source=None,
)
network = training.trained_model(traces[0])
mean, std = traces[0].info["mean"], traces[0].info["std"]
compared = {
    "pixels": duplicates.compare(both),
    "network": duplicates.compare(
        both, lambda x: duplicates.network_descriptors(network, x, mean, std)
    ),
}
near = {
    (space, kind): duplicates.near(
        c, precision=wanted_precision, across_labels=kind == "different labels"
    )
    for space, c in compared.items()
    for kind in ("any labels", "different labels")
}

# %% tags=["hide-input"] mystnb={"figure": {"caption": "The precision check. Above: images that find a neighbour at least so alike, and images upside down that do. Below: the precision that follows, and the thresholds at {glue:text}`wanted:.0%` (dotted). Pairs under different labels, right, are mostly chance until they are much alike, so that they need a higher threshold.", "name": "fig-check"}, "image": {"alt": "Four panels: counts of images and of decoys against the similarity, and the precision, for all pairs and for pairs under different labels."}}
glue("wanted", wanted_precision, display=False)
fig, axes = plt.subplots(
    2, 2, figsize=(7, 4.4), layout="constrained", facecolor="white", sharex=True
)
for column, kind in enumerate(("any labels", "different labels")):
    for k, space in enumerate(compared):
        found = near[space, kind]
        check, colour = found.check, figures.COLOURS[k]
        axes[0, column].plot(
            check["similarity"], check["found"], "-", color=colour, label=space
        )
        axes[0, column].plot(
            check["similarity"],
            check["decoys"].replace(0, np.nan),
            ":",
            color=colour,
            label=f"{space}, upside down",
        )
        axes[1, column].plot(
            check["similarity"], check["precision"], figures.LINES[k], color=colour
        )
        if np.isfinite(found.threshold):
            axes[1, column].axvline(found.threshold, color=colour, ls=":", lw=1)
    axes[0, column].set(title=kind, yscale="log")
    axes[1, column].set(xlabel="correlation of details", ylim=(0, 1.02), xlim=(0, 1))
axes[0, 0].set(ylabel="images")
axes[1, 0].set(ylabel="precision")
axes[0, 0].legend(frameon=False, fontsize=8)
for ax in axes.flat:
    ax.spines[["top", "right"]].set_visible(False)


# %% tags=["hide-input"]
def split_of(positions):
    return np.where(np.asarray(positions) < len(images), "train", "test")


def index_of(positions):
    positions = np.asarray(positions)
    inside = np.minimum(positions, len(images) - 1)
    beyond = np.maximum(positions - len(images), 0)
    return np.where(
        positions < len(images),
        images.index[inside],
        test.index[np.minimum(beyond, len(test) - 1)],
    )


exact_of = duplicates.exact(both).set_index("index")["group"]
tables = []
for (space, kind), found in near.items():
    pairs = found.pairs
    first, second = pairs["first"].to_numpy(), pairs["second"].to_numpy()
    same = exact_of.reindex(first).to_numpy() == exact_of.reindex(second).to_numpy()
    tables.append(
        pairs.assign(
            space=space,
            asked=kind,
            exact=same,
            first_split=split_of(first),
            second_split=split_of(second),
            first_index=index_of(first),
            second_index=index_of(second),
            first_class=classes[both.labels[first]],
            second_class=classes[both.labels[second]],
        )
    )
pairs = pd.concat(tables, ignore_index=True)
pairs.drop(columns=["first", "second"]).to_csv(results / "near-pairs.csv", index=False)


def pairs_of(kind):
    """Of both spaces, each pair once, the most alike first."""
    chosen = pairs[pairs["asked"] == kind].sort_values(
        ["similarity", "first", "second"], ascending=[False, True, True]
    )
    return chosen.drop_duplicates(["first", "second"]).reset_index(drop=True)


everything, conflicting = pairs_of("any labels"), pairs_of("different labels")
in_train = everything["second"] < len(images)
crossing = (everything["first"] < len(images)) & ~in_train
near_train = conflicting[conflicting["second"] < len(images)]
summary = pd.DataFrame(
    [
        {
            "neighbours by": space,
            "labels": kind,
            "threshold": found.threshold,
            "pairs": len(found.pairs),
            "within train": int((found.pairs["second"] < len(images)).sum()),
            "train and test": int(
                (
                    (found.pairs["first"] < len(images))
                    & (found.pairs["second"] >= len(images))
                ).sum()
            ),
            "within test": int((found.pairs["first"] >= len(images)).sum()),
        }
        for (space, kind), found in near.items()
    ]
)
summary.to_csv(results / "near-summary.csv", index=False)
glue("near_train", f"{int(in_train.sum()):,}", display=False)
glue("near_across", f"{int(crossing.sum()):,}", display=False)
glue(
    "near_test_images",
    f"{everything.loc[crossing, 'second'].nunique() / len(test):.1%}",
    display=False,
)
glue("near_conflicts", len(near_train), display=False)
glue("near_not_exact", int((~near_train["exact"]).sum()), display=False)
summary.style.hide(axis="index").format({"threshold": "{:.3f}"}, na_rep="none")

# %% [markdown]
# Both spaces together find {glue:text}`near_train` pairs within the training split, exact
# twins included, and {glue:text}`near_across` between it and the test split, which concern
# {glue:text}`near_test_images` of the test images. Pairs under different labels have a check
# of their own, since most of what looks alike by chance has two labels:
# {glue:text}`near_conflicts` are left within the training split,
# {glue:text}`near_not_exact` of which are not exact.


# %% tags=["hide-input"] mystnb={"figure": {"caption": "To judge by eye: the last pairs above the threshold (three rows) and the first below it (one row). Two neighbours are one pair; under the left one, the correlation of their details.", "name": "fig-threshold"}, "image": {"alt": "Pairs of similar images just above and just below the threshold of similarity."}}
def show_pairs(table, columns=8):
    rows = table[["first", "second"]].to_numpy().ravel()
    similarity = np.repeat(table["similarity"].to_numpy(), 2)
    return figures.gallery(
        both.images[rows],
        captions=[
            f"{classes[both.labels[i]]}\n{s:.3f}"
            if k % 2 == 0
            else f"{classes[both.labels[i]]}"
            for k, (i, s) in enumerate(zip(rows, similarity, strict=True))
        ],
        columns=columns,
    )


chosen = near["pixels", "any labels"]
_ = show_pairs(pd.concat([chosen.pairs.tail(12), chosen.runners_up.head(4)]))

# %% tags=["hide-input"] mystnb={"figure": {"caption": "{glue:text}`near_caption`", "name": "fig-near"}, "image": {"alt": "Pairs of nearly identical training images with different class names."}}
near_only = near_train[~near_train["exact"]]
glue(
    "near_caption",
    "Near twins in the training split under different labels, the most alike first "
    f"({min(len(near_only), 24)} of {len(near_only)})."
    if len(near_only)
    else "No near twins under different labels reached the wanted precision in the "
    "training split; shown are the pairs that came closest to it.",
    display=False,
)
candidates = near["pixels", "different labels"].runners_up
candidates = candidates[candidates["second"] < len(images)]
_ = show_pairs(near_only.head(24) if len(near_only) else candidates.head(12))

# %% [markdown]
# ## Where they stand in every ranking
#
# Each image's place in the ranking of each score, as the share of images below it: 1 is the
# top. Scores are averaged over the seeds where the images are the same in each.


# %%
def places_of(seed_images, frames, memorized):
    """For each score, the share of images below each image."""
    scored = sum(frame[list(scores.SCORES)] for frame in frames) / len(frames)
    if memorized is not None:
        scored["memorization"] = memorized
    return (scored.rank() - 1) / (len(seed_images) - 1), scored


def conflict_mask(seed_images, table):
    return np.isin(seed_images.index, table["index"])


frames = [scores.suspicion(scores.compute(trace)) for trace in traces]
memorized = released.memorization(released, images) if released else None
if planted_duplicates:  # other images for each seed: pooled below, first seed shown
    ranked, scored = places_of(images, frames[:1], memorized)
else:
    ranked, scored = places_of(images, frames, memorized)
positives = {"exact twins": conflict_mask(images, exact_conflicts)}
near_positions = near_train[["first", "second"]].to_numpy().ravel()
positives["exact and near twins"] = np.isin(np.arange(len(images)), near_positions)
positives["exact and near twins"] |= positives["exact twins"]

# %% tags=["hide-input"] mystnb={"figure": {"caption": "{glue:text}`places_caption`", "name": "fig-places"}, "image": {"alt": "Heat map: one row for each image that stands twice, one column for each score, the colour is the place in that score's ranking."}}
kind = "exact twins" if positives["exact twins"].any() else "exact and near twins"
rows = np.flatnonzero(positives[kind])
rows = rows[np.argsort(-ranked["curvature_norm"].to_numpy()[rows], kind="stable")][:40]
glue(
    "places_caption",
    f"Places of the {kind} under different labels (at most 40 rows, sorted by the norm "
    "of curvature): 1, dark, is the top of a ranking, 0 its bottom."
    if len(rows)
    else "There are no twins under different labels here.",
    display=False,
)
fig, ax = plt.subplots(
    figsize=(7, 1.6 + 0.2 * max(len(rows), 1)), layout="constrained", facecolor="white"
)
if len(rows):
    table = ranked.iloc[rows]
    table.index = [f"{images.index[i]} {classes[images.labels[i]]}" for i in rows]
    sns.heatmap(
        table,
        ax=ax,
        vmin=0,
        vmax=1,
        cmap="Blues",
        annot=True,
        fmt=".2f",
        annot_kws={"size": 6},
        cbar=False,
    )
    ax.tick_params(labelsize=7)
else:
    ax.text(0.5, 0.5, "none", ha="center")
    ax.axis("off")
per_epoch = np.concatenate(
    [
        trace.read("mean_hvp_norm")
        for trace in (traces[:1] if planted_duplicates else traces)
    ]
)
standard_error = per_epoch.std(0, ddof=1) / len(per_epoch) ** 0.5
placed = pd.DataFrame(
    {
        "index": images.index[rows],
        "class": classes[images.labels[rows]],
        "curvature_norm": scored["curvature_norm"].to_numpy()[rows],
        "standard_error": standard_error[rows],
    }
).join(ranked.iloc[rows].reset_index(drop=True).add_prefix("place_"))
placed.to_csv(results / "fig-places.csv", index=False)

# %% [markdown]
# Their curvature, with its standard error over {glue:text}`num_measured` scored epochs of
# {glue:text}`num_averaged`, and their place by it (1 is the top):

# %% tags=["hide-input"]
glue("num_measured", len(per_epoch), display=False)
glue(
    "num_averaged",
    "one run" if planted_duplicates or len(seeds) == 1 else f"{len(seeds)} runs",
    display=False,
)
(
    placed[
        ["index", "class", "curvature_norm", "standard_error", "place_curvature_norm"]
    ]
    .style.hide(axis="index")
    .format(precision=3)
    if len(placed)
    else None
)

# %% [markdown]
# One image proves little. Do twins under different labels stand at the top more often than
# chance puts them there? For each score the number of them among the k highest, against the
# hypergeometric distribution of a list drawn by chance, and the median of their places.

# %%
lengths = [max(1, len(images) // share) for share in (500, 50, 10)]
rows_ = []
for number, (seed_images, frame) in enumerate(zip(samples, frames, strict=True)):
    same = not planted_duplicates
    if same and number:
        break  # the same images in each seed: their scores were averaged above
    seed_memorized = released.memorization(released, seed_images) if released else None
    seed_ranked, seed_scored = places_of(
        seed_images, frames if same else [frame], seed_memorized
    )
    sets = dict(positives)
    if not same:
        conflicts = duplicates.exact(seed_images)
        conflicts = conflicts[conflicts["conflict"]]
        sets = {"exact twins": conflict_mask(seed_images, conflicts)}
    for kind, mask in sets.items():
        if not mask.any():
            continue
        for name in seed_scored:
            row = {
                "twins": kind,
                "seed": "mean" if same else str(seeds[number]),
                "score": name,
                "images": int(mask.sum()),
                "median place": float(seed_ranked[name][mask].median()),
                "auroc": metrics.auroc(seed_scored[name].to_numpy(), mask),
            }
            for k in lengths:
                found = metrics.enrichment(seed_scored[name].to_numpy(), mask, k)
                row |= {
                    f"found in top {k}": found.found,
                    f"expected in top {k}": found.expected,
                    f"p in top {k}": found.p_value,
                }
            rows_.append(row)
enriched = pd.DataFrame(rows_)
enriched.to_csv(results / "enrichment.csv", index=False)

# %% tags=["hide-input"]
if len(enriched):
    numeric = [c for c in enriched.columns if c not in ("twins", "seed", "score")]
    by_score = enriched.groupby(["twins", "score"], sort=False)[numeric].mean()
    by_score = by_score.reset_index().sort_values(
        ["twins", "median place"], ascending=[True, False], kind="stable"
    )
    styled = by_score.style.hide(axis="index").format(
        {c: "{:.2g}" if c.startswith("p ") else "{:.1f}" for c in numeric if "top" in c}
        | {"images": "{:.0f}", "median place": "{:.3f}", "auroc": "{:.3f}"}
    )
else:
    by_score, styled = None, None
styled

# %% tags=["remove-cell"]
if by_score is not None:
    main = (
        "exact twins"
        if (by_score["twins"] == "exact twins").any()
        else ("exact and near twins")
    )
    of_main = by_score[by_score["twins"] == main].set_index("score")
    num_twins = of_main["images"].iloc[0]
    k = min((k for k in lengths if k >= num_twins), default=lengths[-1])
    order = of_main["median place"].drop("random").sort_values(ascending=False)
    best = order.index[0]

    def told(name):
        row = of_main.loc[name]
        return (
            f"{row[f'found in top {k}']:.0f} of {row['images']:.0f} among the {k:,} "
            f"highest (chance: {row[f'expected in top {k}']:.1f}), median place "
            f"{row['median place']:.3f}"
        )

    others = [
        f"{label}: {told(name)}"
        for name, label in (
            ("curvature_last", "curvature of the last epoch"),
            ("cumulative_loss", "cumulative loss"),
            ("memorization", "released memorization"),
        )
        if name in of_main.index
    ]
    answer = (
        f"Of the images that stand twice under different labels ({main}), curvature "
        f"averaged over training (norm) puts {told('curvature_norm')}. "
        + "; ".join(others)[0].upper()
        + "; ".join(others)[1:]
        + f". The highest median place of all scores has {best} ({order.iloc[0]:.3f})."
    )
    column = f"found in top {k}"
    late, averaged = (
        of_main.loc[name, column] for name in ("curvature_last", "curvature_norm")
    )
    others_wrong = np.mean(
        [
            (~trace.read("correct")[-1].astype(bool) & ~positives[main]).sum()
            for trace in (traces[:1] if planted_duplicates else traces)
        ]
    )
    answer += (
        " In the paper the curvature of the last epoch does not show them; here it does, "
        f"since at the end the network is wrong on {others_wrong:.0f} of all other "
        "images, and what has two labels is nearly all that stays uncertain."
        if late >= 0.9 * averaged
        else " As in the paper, the curvature of the last epoch shows fewer of them."
    )
else:
    answer = (
        "There are no twins under different labels in this training split that reach "
        "the wanted precision, so that no ranking can be judged by them."
    )
glue("answer", answer, display=False)

# %% [markdown]
# ## Which label wins
#
# Twins get the same output, so that their two labels share its probability. Curves of one
# label each, epoch by epoch, show whether the network ever makes up its mind.

# %% tags=["hide-input"] mystnb={"figure": {"caption": "{glue:text}`wins_caption`", "name": "fig-wins"}, "image": {"alt": "Small panels, one for each pair: the probabilities of its two labels against the epoch."}}
conflict_pairs = exact_conflicts.groupby("group").head(2)
conflict_pairs = conflict_pairs.groupby("group")["index"].agg(tuple)
conflict_pairs = [pair for pair in conflict_pairs if len(pair) == 2]
conflict_pairs = [
    (a, b)
    for a, b in conflict_pairs
    if images.labels[position[a]] != images.labels[position[b]]
]
probability = traces[0].read("probability")
epoch = traces[0].epochs
drawn = conflict_pairs[:9]
glue(
    "wins_caption",
    "Probability of the first label (blue) and the second (orange, dashed) of exact "
    f"twins, first seed; {len(drawn)} of {len(conflict_pairs)} pairs."
    if drawn
    else "There are no exact twins under different labels here.",
    display=False,
)
count = max(1, -(-len(drawn) // 3))
fig, axes = plt.subplots(
    count,
    3,
    figsize=(7, 0.6 + 1.4 * count),
    layout="constrained",
    facecolor="white",
    sharex=True,
    sharey=True,
    squeeze=False,
)
for ax, pair in zip(axes.flat, drawn, strict=False):
    for label, line, colour in zip(pair, figures.LINES, figures.COLOURS, strict=False):
        ax.plot(epoch, probability[:, position[label]], line, color=colour)
    names_ = " / ".join(classes[images.labels[position[i]]] for i in pair)
    ax.set_title(names_, size=8)
    ax.set(ylim=(0, 1.02))
    ax.spines[["top", "right"]].set_visible(False)
for ax in axes.flat[len(drawn) :]:
    ax.axis("off")

# %% tags=["hide-input"]
rows = []
for trace, seed, seed_images in zip(traces, seeds, samples, strict=True):
    place = pd.Series(np.arange(len(seed_images)), index=seed_images.index)
    conflicts = duplicates.exact(seed_images)
    conflicts = conflicts[conflicts["conflict"]].groupby("group").head(2)
    p = trace.read("probability")
    for _, pair in conflicts.groupby("group"):
        a, b = place[pair["index"]].to_numpy()
        if seed_images.labels[a] == seed_images.labels[b]:
            continue
        lead = p[:, a] - p[:, b]
        rows.append(
            {
                "seed": seed,
                "first": seed_images.index[a],
                "second": seed_images.index[b],
                "first label": classes[seed_images.labels[a]],
                "second label": classes[seed_images.labels[b]],
                "p first, end": p[-1, a],
                "p second, end": p[-1, b],
                "ahead at the end": classes[
                    seed_images.labels[a if lead[-1] > 0 else b]
                ],
                "changes of lead": int((np.diff(np.sign(lead)) != 0).sum()),
                "given copy ahead": bool(lead[-1] > 0),
            }
        )
wins = pd.DataFrame(rows)
wins.to_csv(results / "which-label-wins.csv", index=False)
if len(wins):
    largest = wins[["p first, end", "p second, end"]].max(axis=1)
    same_winner = wins.groupby(["first", "second"])["ahead at the end"].nunique().eq(1)
    wins_text = (
        f"At the end the stronger label of a pair has a probability of "
        f"{largest.median():.2f} in the median; the two together have "
        f"{wins[['p first, end', 'p second, end']].sum(axis=1).median():.2f}. The lead "
        f"changes {wins['changes of lead'].mean():.1f} times in a run on average."
    )
    if planted_duplicates:
        wins_text += (
            " The original label, which other images of its class support, is ahead of "
            f"the planted one in {wins['given copy ahead'].mean():.0%} of the pairs."
        )
    elif len(seeds) > 1:
        wins_text += (
            f" In {same_winner.sum()} of {len(same_winner)} pairs the same label is ahead "
            f"at the end in all {len(seeds)} seeds."
        )
else:
    wins_text = "There is nothing to win here."
glue("wins_text", wins_text, display=False)
(
    wins[wins["seed"] == seeds[0]]
    .head(20)
    .drop(columns=["seed", "given copy ahead"])
    .style.hide(axis="index")
    .format(precision=3)
    if len(wins)
    else None
)

# %% [markdown]
# {glue:text}`wins_text`
#
# ## The answer
#
# {glue:text}`num_conflicts` groups of training images have the same pixels and different
# labels; {glue:text}`near_not_exact` more pairs are nearly the same.
# {glue:text}`answer`
