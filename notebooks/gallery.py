# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Which images have the lowest and the highest curvature?
#
# **In short.** The images with the highest curvature are odd views, ambiguous images and
# images under a wrong label; those with the lowest look like many others of their class.
# Curvature and the epoch from which an image stays correct have a rank correlation of
# {glue:text}`rank_correlation:.2f` over {glue:text}`num_samples` images, and the tenth of
# the images with the highest curvature holds {glue:text}`top_share:.0%` of its sum.
# {numref}`fig-top` shows the images with the highest curvature.
#
# *Five minutes to read, longer to look at. Read first: [the method](/book/method.md).
# After this page you can say what a prototype and the long tail look like, read a score
# with its standard error, and choose a class and judge its ranking yourself.*

# %% tags=["parameters"]
dataset = "digits"  # a data set that curvlib.load knows
image_size: int = None  # pixels on a side, of photographs in folders; None for 224
broken_files = "stop"  # or skip, for files of a folder that cannot be read
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
more_settings: dict = None  # further settings of the training, by name
precision = "float32"  # of the training passes; float32 or bfloat16
num_probes = 2  # random directions an epoch, new ones each epoch
step = 0.001  # finite step h, in units of the normalised input
score_every = 1  # score every epoch, or every second, ...; the last always
num_shown = 10  # images of each class at each end
num_classes_shown = 10  # classes in the figures; the list to choose from has all
runs = "runs"  # folder of the training runs; a finished run is read, not trained again
records: list = None  # records to show; None measures with the values above
results = "results/scratch/gallery"  # folder of the record that is measured

# %%
from itertools import combinations

import numpy as np
from IPython.display import HTML
from scipy.stats import spearmanr

from curvlib.book import Page, figures, selector
from curvlib.studies import gallery

page = Page.begin(In)
record = page.record(gallery.measure)

# %% [markdown]
# ## One score for each image
#
# We train one network for each seed and average its curvature over the scored epochs and
# the seeds. A sample counts as learned once it stays correct until the end. The standard
# error over seeds tells how well the mean is known for such networks. The one over epochs
# also contains the rise and fall of curvature during training, in which every image
# takes part.

# %%
table = record["scores.parquet"]  # a row for each seed and image
names = record["classes"]["class"].astype(str).to_numpy()
ranking = gallery.ranking(
    table, record["epochs"]["epoch"]
)  # a row for each image, means over seeds
score = ranking["curvature"].to_numpy()
label = ranking["label"].to_numpy()
order = np.argsort(-score, kind="stable")
figures.table(
    ranking.assign(label=names[label]).iloc[order[:6]],
    index="image",
    label="class",
    formats={
        "curvature": "{:.3g}",
        "se over epochs": "{:.2g}",
        "se over seeds": "{:.2g}",
    },
)

# %%
page.tell(
    num_samples=len(score),
    num_seeds=table["seed"].nunique(),
    rank_correlation=spearmanr(score, ranking["learned"]).statistic,
    top_share=score[order[: len(order) // 10]].sum() / score.sum(),
    scored=len(range(record.parameters.score_every, record.parameters.epochs + 1)),
)

# %% mystnb={"figure": {"caption": "Curvature, averaged over epochs and seeds, of images learned in the first and in the second half ({glue:text}`num_samples` images, {glue:text}`num_seeds` seeds). Images that are learned late have the higher curvature.", "name": "fig-distribution"}, "image": {"alt": "Two histograms of curvature on a logarithmic axis, of images learned early and of images learned late."}}
early = (ranking["learned"] <= ranking["learned"].median()).to_numpy()
halves = {"learned in the first half": early, "learned later": ~early}
_ = figures.distributions(
    score,
    {name: mask for name, mask in halves.items() if mask.any()},
    xlabel="curvature, mean tr(H²)",
)

# %% [markdown]
# Is the ranking a property of the images or of one training run? We compare runs that
# differ in weights, order and probes.

# %%
by_seed = table.pivot(index="index", columns="seed", values="curvature_square")
agreement = [
    spearmanr(by_seed[a], by_seed[b]).statistic for a, b in combinations(by_seed, 2)
]
page.claim(
    "Two training runs rank the images alike (Spearman correlation above .5).",
    min(agreement) > 0.5 if agreement else None,
    ours=", ".join(f"{value:.2f}" for value in agreement) or "one seed only",
)

# %% [markdown]
# ## Class by class
#
# Choose a class. The list shows its images with the lowest and the highest curvature,
# each with its index in the data set and its score.

# %%
place = {index: i for i, index in enumerate(record["shown"]["index"])}  # in the pixels
pixels = record["images"]
shown = ranking[ranking["index"].isin(list(place))]
HTML(
    selector.by_class(
        pixels[[place[index] for index in shown["index"]]],
        label=shown["label"],
        score=shown["curvature"],
        index=shown["index"],
        classes=names,
        count=record.parameters.num_shown,
        what="curvature",
    )
)

# %% [markdown]
# The same side by side, for the classes with the highest mean curvature. Click a figure
# to enlarge it.


# %%
def show(positions, columns=record.parameters.num_shown, error=None):
    """Images of the ranking, with class and curvature below each."""
    return figures.gallery(
        pixels[[place[index] for index in ranking["index"].iloc[positions]]],
        label=names[label[positions]],
        score=score[positions],
        error=None if error is None else error[positions],
        columns=columns,
    )


ends = gallery.ends(score, label, record.parameters.num_shown)
by_mean = sorted(ends, key=lambda c: -score[label == c].mean())[:num_classes_shown]
lowest, highest = (np.concatenate([ends[c][side] for c in by_mean]) for side in (0, 1))

# %% mystnb={"figure": {"caption": "The lowest curvature: images of each class shown, lowest first. They look like many others of their class.", "name": "fig-lowest"}, "image": {"alt": "Rows of images, one row for each class shown, those with the lowest curvature of their class."}}
_ = show(lowest)

# %% mystnb={"figure": {"caption": "The highest curvature: images of each class shown, highest first. Among them are odd views, ambiguous images and wrong labels.", "name": "fig-highest"}, "image": {"alt": "Rows of images, one row for each class shown, those with the highest curvature of their class."}}
_ = show(highest)

# %% [markdown]
# ## The lowest and the highest of all

# %% mystnb={"figure": {"caption": "The {glue:text}`num_top` images with the highest curvature of all, ± standard error; {glue:text}`num_sure` of them are above twice their error.", "name": "fig-top"}, "image": {"alt": "The training images with the highest curvature of the whole data set."}}
top, bottom = (
    order[: gallery.NUM_TOP],
    np.argsort(score, kind="stable")[: gallery.NUM_TOP],
)
error = ranking["se over seeds"].fillna(ranking["se over epochs"]).to_numpy()
page.tell(num_top=len(top), num_sure=int((score[top] > 2 * error[top]).sum()))
_ = show(top, columns=8, error=error)

# %% mystnb={"figure": {"caption": "The {glue:text}`num_top` images with the lowest curvature of all, ± standard error.", "name": "fig-bottom"}, "image": {"alt": "The training images with the lowest curvature of the whole data set."}}
_ = show(bottom, columns=8, error=error)

# %% [markdown]
# ## What holds

# %%
both = [np.concatenate([sides[i] for sides in ends.values()]) for i in (0, 1)]
learned = [np.median(ranking["learned"].iloc[positions]) for positions in both]
page.claim(
    "Images with the highest curvature of their class are learned later than those with "
    "the lowest.",
    learned[1] > learned[0],
    ours=f"median epoch {learned[1]:.1f} against {learned[0]:.1f}",
    published="prototypes at the low end, the long tail at the high end (galleries)",
)

# %% [markdown]
# ## Exercises
#
# 1. *To think about.* An image has high curvature and is learned at epoch 2. Name two
#    reasons that have nothing to do with its label.
# 2. *To run.* Set `score_every = 10`. Which of the ten highest images stay?
#
# Read next: which [duplicates carry different labels](/book/pages/duplicates), and
# [which score finds wrong labels](/book/pages/mislabelled).
