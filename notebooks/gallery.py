# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Which images have the lowest and the highest curvature?

# %% [markdown]
# *Five minutes to read, longer to look at. Needs: [what curvature is](/book/method.md).*
#
# No label is touched here: the data set as it is, one network a seed, and the images at
# both ends of the ranking, class by class and of all. **Expected**, from the paper: at the low end
# prototypes, images that look like many others of their class; at the high end the long
# tail: odd views, ambiguous images, and labels that are wrong.

# %% tags=["parameters"]
dataset = "digits"  # a data set that curvlib.load knows
image_size: int = None  # pixels on a side, of photographs in folders; None: 224
broken_files = "stop"  # or skip: what to do about files of a folder that are broken
num_train: int = None  # train on the first so many images; None for all
num_heldout = 0  # images of the test split that are scored too, never trained on
seeds = [0, 1, 2]  # one training run each; scores are averaged over them
model = "slim_resnet"  # resnet18, slim_resnet, strided_resnet or mlp
width = 16  # channels of its first stage
epochs = 30  # passes over the training set
lr = 0.1  # learning rate at the start
batch_size = 64  # images a step
schedule = "cosine"  # of the learning rate; step, cosine or constant
weight_decay = 0.0  # on all weights
augment = False  # random crops and flips
precision = "float32"  # of the passes of training; float32 or bfloat16
num_probes = 2  # random directions an epoch, new ones each epoch
step = 0.001  # finite step h, in units of the normalised input
score_every = 1  # score each so many epochs, and the last
num_shown = 10  # images of each class at each end
num_classes_shown = 10  # classes in the figures; in the list to choose from are all
runs = "runs"  # folder of the training runs; a finished run is read, not trained again
results = "results/scratch/gallery"  # folder for tables and figure data

# %% tags=["hide-input"]
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
from IPython.display import HTML
from myst_nb import glue
from scipy.stats import spearmanr

from curvlib import scores
from curvlib.book import figures, selector
from curvlib.book.source import check_parameters
from curvlib.runs import training
from curvlib.studies import costs

check_parameters(In)
results = Path(results)
results.mkdir(parents=True, exist_ok=True)

# %% [markdown]
# ## One score for each image

# %%
traces, tables, by_seed, learned = [], [], [], []
for seed in seeds:
    config = training.TrainConfig(
        dataset=dataset,
        image_size=image_size,
        broken_files=broken_files,
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
    images, heldout = training.prepare(config)  # by index, as the trace is
    trace = training.fit(config, images, heldout, runs=runs)
    table = scores.compute(trace).drop(columns="random")
    table.insert(0, "seed", seed)
    # How far the mean over epochs would move if other epochs had been scored
    for name, column in (
        ("curvature_square", "squared_frobenius_norm"),
        ("curvature_norm", "mean_hvp_norm"),
    ):
        values = trace.read(column).astype(np.float64)  # [E, N]
        spread = values.std(0, ddof=1) if len(values) > 1 else np.nan
        table[f"{name}_se"] = spread / np.sqrt(len(values))
    traces.append(trace)
    tables.append(table)
    by_seed.append(table["curvature_square"].to_numpy())
    # The epoch of training; for what is wrong at the end the one after the last
    moments = np.append(trace.epochs, trace.epochs[-1] + 1)
    learned.append(moments[table["learning_time"] - 1])
costs.of_runs(traces).to_csv(results / "runs.csv", index=False)

# Every score of the library, a row a seed and sample, in the smallest types that do
table = pd.concat(tables, ignore_index=True)
for name, values in table.items():
    if values.dtype.kind == "f":
        table[name] = values.astype(np.float32)  # as the trace itself
    else:
        table[name] = pd.to_numeric(values, downcast="integer")
table.to_parquet(results / "scores.parquet", index=False, compression="zstd")

score = np.mean(by_seed, axis=0)
learning_time = np.mean(learned, axis=0)
error_epochs = (
    np.sqrt(sum(np.square(t["curvature_square_se"].to_numpy()) for t in tables))
) / len(seeds)
error_seeds = (
    np.std(by_seed, axis=0, ddof=1) / np.sqrt(len(seeds))
    if len(seeds) > 1
    else np.full(len(score), np.nan)  # one has no spread
)

# %% tags=["remove-cell"]
last = int(trace.epochs[-1])
glue(
    "scored_text",
    f"All {last} epochs are scored."
    if score_every == 1
    else f"Of {last} epochs {len(trace.epochs)} are scored: each whose number divides "
    f"by {score_every}, and the last. Means are over these, and *learned* is seen at "
    "these only.",
    display=False,
)


def when(times):
    """When an image was learned, in the median."""
    median = np.median(times)
    return f"at epoch {median:.1f}" if median <= last else "not by the last epoch"


# %% [markdown]
# {glue:text}`scored_text` A sample counts as learned from the first scored epoch on from
# which it is right until the end. The file `scores.parquet`, below, has every score of
# this library for each sample and seed, and for the two of curvature the standard error
# over scored epochs, *se*.

# %% [markdown]
# Is the ranking a property of the images, or of one training run? The rank correlation
# between runs with other weights, order and probes tells.

# %% tags=["hide-input"]
agreements = [spearmanr(a, b).statistic for a, b in combinations(by_seed, 2)]
glue("num_samples", len(score), display=False)
glue(
    "seeds_text",
    f"{len(seeds)} seeds" if len(seeds) > 1 else "one seed",
    display=False,
)
glue(
    "agreement_text",
    "Between two seeds the scores have a Spearman correlation of "
    + f"{np.mean(agreements):.2f}"
    + (f" (mean of {len(agreements)} pairs)." if len(agreements) > 1 else ".")
    if agreements
    else "One seed was run, so that nothing is known of the spread between runs.",
    display=False,
)
order = np.argsort(-score, kind="stable")
tenth = max(1, len(order) // 10)
top_share = score[order[:tenth]].sum() / score.sum()
glue("top_share", top_share, display=False)
glue("late", when(learning_time[order[:tenth]]), display=False)
glue("early", when(learning_time[order[-tenth:]]), display=False)
glue(
    "error_text",
    "over seeds" if len(seeds) > 1 else "over scored epochs",
    display=False,
)
ranking = pd.DataFrame(
    {
        "index": images.index,
        "class": np.array(images.classes)[images.labels],
        "curvature": score,
        "se over epochs": error_epochs,
        "se over seeds": error_seeds,
        "learned": learning_time,
    }
)
ranking.iloc[order[:10]].style.hide(axis="index").format(
    {
        "curvature": "{:.3g}",
        "se over epochs": "{:.2g}",
        "se over seeds": "{:.2g}",
        "learned": lambda epoch: f"{epoch:.1f}" if epoch <= last else "never",
    },
    na_rep="unknown",
)

# %% [markdown]
# {glue:text}`agreement_text` The score is very uneven: the tenth of the images with the
# highest curvature holds {glue:text}`top_share:.0%` of its sum. The standard error over
# seeds says how well the mean is known for such networks; that over epochs also holds
# how curvature rises and falls during training, which every image takes part in.

# %% tags=["hide-input"] mystnb={"figure": {"caption": "Curvature, averaged over epochs and {glue:text}`seeds_text`, by when an image was learned for good. Median of the tenth with the highest curvature: learned {glue:text}`late`; of the tenth with the lowest: {glue:text}`early`; n = {glue:text}`num_samples`.", "name": "fig-distribution"}, "image": {"alt": "Two histograms of curvature on a logarithmic axis, of images learned early and images learned late."}}
middle = np.median(learning_time)
_ = figures.distributions(
    score,
    {
        name: mask
        for name, mask in {
            f"learned by epoch {middle:.0f}" if middle <= last else "all": learning_time
            <= middle,
            "learned later, or never": learning_time > middle,
        }.items()
        if mask.any()
    },
    xlabel="curvature, mean tr(H²)",
)

# %% [markdown]
# ## Class by class
#
# Choose a class: its images with the lowest and the highest curvature, under each its
# index in the data set, its label, and its score.

# %% tags=["hide-input"]
glue("num_shown", num_shown, display=False)
of_classes = selector.ends(score, images.labels, num_shown).values()
at_ends = np.unique(np.concatenate([np.concatenate(both) for both in of_classes]))
some = images.select(at_ends)  # all that is read, of images in files
HTML(
    selector.by_class(
        some.images[:],
        label=some.labels,
        score=score[at_ends],
        index=some.index,
        classes=images.classes,
        count=num_shown,
        what="curvature",
    )
)

# %% [markdown]
# The same side by side, for {glue:text}`classes_text`. Click a figure to enlarge it.

# %% tags=["remove-cell"]
ends = selector.ends(score, images.labels, num_shown)
# Of many classes those where the most is memorised
mean_of = {c: score[images.labels == c].mean() for c in ends}
chosen = sorted(ends, key=lambda c: -mean_of[c])[:num_classes_shown]
chosen = chosen if len(chosen) < len(ends) else list(ends)
glue(
    "classes_text",
    "every class"
    if len(chosen) == len(ends)
    else f"the {len(chosen)} of {len(ends)} classes with the highest mean curvature, "
    "the highest first",
    display=False,
)


def show(positions, columns=num_shown, error=None):
    return figures.gallery(
        images.images[positions],
        label=np.array(images.classes)[images.labels[positions]],
        score=score[positions],
        error=None if error is None else error[positions],
        index=images.index[positions],
        columns=columns,
    )


lowest, highest = (
    np.concatenate([ends[c][side] for c in chosen], axis=0) for side in (0, 1)
)
all_lowest, all_highest = (
    np.concatenate([both[side] for both in ends.values()]) for side in (0, 1)
)
glue("figure_early", when(learning_time[lowest]), display=False)
glue("figure_late", when(learning_time[highest]), display=False)
glue("shown_early", when(learning_time[all_lowest]), display=False)
glue("shown_late", when(learning_time[all_highest]), display=False)
later = np.median(learning_time[all_highest]) - np.median(learning_time[all_lowest])
glue(
    "order_verdict",
    "Images with the highest curvature are learned later than those with the lowest"
    if later > 0
    else "Images with the highest curvature are learned no later than the others here",
    display=False,
)
glue("rank_correlation", spearmanr(score, learning_time).statistic, display=False)
pd.concat(
    [
        ranking.iloc[positions].assign(end=end, place=np.arange(1, len(positions) + 1))
        for both in ends.values()
        for end, positions in zip(("lowest", "highest"), both, strict=True)
    ]
).to_csv(results / "ends-by-class.csv", index=False)

# %% tags=["hide-input"] mystnb={"figure": {"caption": "The lowest curvature: up to {glue:text}`num_shown` images of a class, lowest first, class after class. Median: learned {glue:text}`figure_early`.", "name": "fig-lowest"}, "image": {"alt": "Rows of images, one row for each class shown, those with the lowest curvature of their class."}}
_ = show(lowest)

# %% tags=["hide-input"] mystnb={"figure": {"caption": "The highest curvature: up to {glue:text}`num_shown` images of a class, highest first, class after class. Median: learned {glue:text}`figure_late`.", "name": "fig-highest"}, "image": {"alt": "Rows of images, one row for each class shown, those with the highest curvature of their class."}}
_ = show(highest)

# %% [markdown]
# ## The lowest and the highest of all

# %% tags=["hide-input"] mystnb={"figure": {"caption": "The {glue:text}`num_top` images with the highest curvature overall, \u00b1 standard error {glue:text}`error_text`, of which {glue:text}`num_sure` are above twice that error. They come from {glue:text}`top_classes` of {glue:text}`num_classes` classes; most often from {glue:text}`top_class` ({glue:text}`top_count`).", "name": "fig-top"}, "image": {"alt": "The training images with the highest curvature of the whole data set."}}
top, bottom = order[:40], np.argsort(score, kind="stable")[:40]
for key, positions in (("top", top), ("bottom", bottom)):
    counts = ranking["class"].iloc[positions].value_counts()
    glue(f"{key}_classes", len(counts), display=False)
    glue(f"{key}_class", counts.index[0], display=False)
    glue(f"{key}_count", int(counts.iloc[0]), display=False)
    ranking.iloc[positions].to_csv(results / f"fig-{key}.csv", index=False)
glue("num_top", len(top), display=False)
glue("num_classes", len(images.classes), display=False)
error = error_seeds if len(seeds) > 1 else error_epochs
glue("num_sure", int((score[top] > 2 * error[top]).sum()), display=False)
_ = show(top, columns=8, error=error)

# %% tags=["hide-input"] mystnb={"figure": {"caption": "The {glue:text}`num_top` images with the lowest curvature overall, \u00b1 standard error {glue:text}`error_text`. They come from {glue:text}`bottom_classes` of {glue:text}`num_classes` classes; most often from {glue:text}`bottom_class` ({glue:text}`bottom_count`).", "name": "fig-bottom"}, "image": {"alt": "The training images with the lowest curvature of the whole data set."}}
_ = show(bottom, columns=8, error=error)

# %% [markdown]
# ## The answer
#
# {glue:text}`order_verdict` (medians over the {glue:text}`num_shown` images at each end of
# each class: learned {glue:text}`shown_late` at the high end, {glue:text}`shown_early` at
# the low end; rank correlation of curvature and learning time over all
# {glue:text}`num_samples` images: {glue:text}`rank_correlation:.2f`).
# {glue:text}`agreement_text`
