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
# No label is touched here: the data set as it is, one network, and the images at both
# ends of the ranking, class by class. **Expected**, from the paper: at the low end
# prototypes, images that look like many others of their class; at the high end the long
# tail: odd views, ambiguous images, and labels that are wrong.

# %% tags=["parameters"]
dataset = "digits"  # a data set that curvlib.load knows
num_train: int = None  # train on the first so many images; None for all
num_heldout = 0  # images of the test split that are scored too, never trained on
seeds = [0, 1, 2]  # one training run each; scores are averaged over them
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
num_shown = 10  # images of each class at each end
runs = "runs"  # folder of the training runs; a finished run is read, not trained again
results = "results/scratch/gallery"  # folder for tables and figure data

# %% tags=["hide-input"]
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
from myst_nb import glue
from scipy.stats import spearmanr

from curvlib import costs, plots, scores, training
from curvlib.notebooks import check_parameters

check_parameters(In)
results = Path(results)
results.mkdir(parents=True, exist_ok=True)

# %% [markdown]
# ## One score for each image

# %%
by_seed, learned, traces = [], [], []
for seed in seeds:
    config = training.TrainConfig(
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
        num_probes=num_probes,
        step=step,
    )
    images, heldout = training.prepare(config)  # by index, as the trace is
    trace = training.fit(config, images, heldout, runs=runs)
    traces.append(trace)
    by_seed.append(scores.curvature_square(trace.read("squared_frobenius_norm")))
    learned.append(scores.learning_time(trace.read("correct")))
score = np.mean(by_seed, axis=0)
learning_time = np.mean(learned, axis=0)
table = pd.DataFrame(
    {
        "index": images.index,
        "label": images.labels,
        "class": np.array(images.classes)[images.labels],
        "curvature": score,
        "learning_time": learning_time,
    }
    | {f"curvature_seed_{s}": v for s, v in zip(seeds, by_seed, strict=True)}
)
table["rank_in_class"] = (
    table.groupby("label")["curvature"]
    .rank(ascending=False, method="first")
    .astype(int)
)
costs.of_runs(traces).to_csv(results / "runs.csv", index=False)
table.to_parquet(results / "scores.parquet", index=False)

# %% [markdown]
# Is the ranking a property of the images, or of one training run? The rank correlation
# between runs with other weights, order and probes tells.

# %% tags=["hide-input"]
agreements = [spearmanr(a, b).statistic for a, b in combinations(by_seed, 2)]
glue("num_samples", len(score), display=False)
glue("num_seeds", len(seeds), display=False)
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
glue("late", float(np.median(learning_time[order[:tenth]])), display=False)
glue("early", float(np.median(learning_time[order[-tenth:]])), display=False)
table.nlargest(10, "curvature")[
    ["index", "class", "curvature", "learning_time"]
].style.hide(axis="index").format({"curvature": "{:.3g}", "learning_time": "{:.1f}"})

# %% [markdown]
# {glue:text}`agreement_text` The score is very uneven: the tenth of the images with the
# highest curvature holds {glue:text}`top_share:.0%` of its sum.

# %% tags=["hide-input"] mystnb={"figure": {"caption": "Curvature, averaged over epochs and {glue:text}`num_seeds` seeds, by when an image was learned for good. The tenth with the highest curvature was learned at epoch {glue:text}`late:.1f` in the median, the tenth with the lowest at epoch {glue:text}`early:.1f`; n = {glue:text}`num_samples`.", "name": "fig-distribution"}, "image": {"alt": "Two histograms of curvature on a logarithmic axis, of images learned early and images learned late."}}
middle = np.median(learning_time)
_ = plots.distributions(
    score,
    {
        name: mask
        for name, mask in {
            f"learned by epoch {middle:.0f}": learning_time <= middle,
            "learned later": learning_time > middle,
        }.items()
        if mask.any()
    },
    xlabel="curvature, mean tr(H²)",
)

# %% [markdown]
# ## Class by class
#
# Under each image: its class, its score, and its index in the data set. Click a figure to
# enlarge it.


# %% tags=["hide-input"] mystnb={"figure": {"caption": "The {glue:text}`num_shown` images of each class with the lowest curvature, lowest first. They were learned at epoch {glue:text}`shown_early:.1f` in the median.", "name": "fig-lowest"}, "image": {"alt": "Rows of images, one row for each class, those with the lowest curvature of their class."}}
def ends(highest):
    """Positions of each class's images at one end, class after class."""
    ranked = order if highest else order[::-1]
    return np.concatenate(
        [
            ranked[images.labels[ranked] == c][:num_shown]
            for c in np.unique(images.labels)
        ]
    )


def show(positions):
    return plots.gallery(
        images.images[positions],
        label=np.array(images.classes)[images.labels[positions]],
        score=score[positions],
        index=images.index[positions],
        columns=num_shown,
    )


glue("num_shown", num_shown, display=False)
lowest, highest = ends(False), ends(True)
glue("shown_early", float(np.median(learning_time[lowest])), display=False)
glue("shown_late", float(np.median(learning_time[highest])), display=False)
later = np.median(learning_time[highest]) - np.median(learning_time[lowest])
glue(
    "order_verdict",
    "Images with the highest curvature are learned later than those with the lowest"
    if later > 0
    else "Images with the highest curvature are learned no later than the others here",
    display=False,
)
glue("rank_correlation", spearmanr(score, learning_time).statistic, display=False)
_ = show(lowest)

# %% tags=["hide-input"] mystnb={"figure": {"caption": "The {glue:text}`num_shown` images of each class with the highest curvature, highest first. They were learned at epoch {glue:text}`shown_late:.1f` in the median.", "name": "fig-highest"}, "image": {"alt": "Rows of images, one row for each class, those with the highest curvature of their class."}}
_ = show(highest)

# %% [markdown]
# ## The highest of all

# %% tags=["hide-input"] mystnb={"figure": {"caption": "The forty images with the highest curvature overall. They come from {glue:text}`top_classes` of {glue:text}`num_classes` classes; most often from {glue:text}`top_class` ({glue:text}`top_count`).", "name": "fig-top"}, "image": {"alt": "The forty training images with the highest curvature of the whole data set."}}
top = order[:40]
counts = pd.Series(np.array(images.classes)[images.labels[top]]).value_counts()
glue("top_classes", len(counts), display=False)
glue("num_classes", len(images.classes), display=False)
glue("top_class", counts.index[0], display=False)
glue("top_count", int(counts.iloc[0]), display=False)
_ = show(top)

# %% [markdown]
# ## The answer
#
# {glue:text}`order_verdict` (medians over the images shown: epoch
# {glue:text}`shown_late:.1f` at the high end, {glue:text}`shown_early:.1f` at the low end;
# rank correlation of curvature and learning time over all {glue:text}`num_samples` images:
# {glue:text}`rank_correlation:.2f`). {glue:text}`agreement_text`
