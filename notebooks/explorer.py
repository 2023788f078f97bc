# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # What does each score say about each image?
#
# **In short.** All scores see the same training, so most of them agree on most images. The
# rank correlation of curvature and cumulative loss is {glue:text}`pair:.2f` over
# {glue:text}`num_samples` images, and {glue:text}`shared:.0%` of the most suspect tenth by
# one is in the tenth of the other ({numref}`fig-pair`). A random score correlates with
# none (at most {glue:text}`chance:.2f`). The explorer below shows every image with all of
# its scores.
#
# *Two minutes to read, as long as you like to play. Read first:
# [the method](/book/method.md). After this page you can find the images on which two
# scores disagree, and say what each score measures.*

# %% tags=["parameters"]
dataset = "digits"  # a data set that curvlib.load knows
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
precision = "float32"  # of the training passes; bfloat16 is faster on some processors
num_probes = 2  # random directions an epoch, new ones each epoch
step = 0.001  # finite step h, in units of the normalised input
score_every = 1  # score every epoch, or every second, ...; the last always
released: str = None  # file of released memorization scores; None for none
runs = "runs"  # folder of the training runs; a finished run is read, not trained again
records: list = None  # records to show; None measures with the values above
results = "results/scratch/explorer"  # folder of the record that is measured

# %%
import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from IPython.display import HTML
from scipy.stats import rankdata

from curvlib.book import Page, explorer, figures
from curvlib.studies import explorer as study

page = Page.begin(In)
record = page.record(study.measure)

# %% [markdown]
# ## The explorer
#
# Choose the two axes; on a logarithmic axis, images with the value 0 stand apart beyond a
# dashed line. Point at an image to see it with its scores. Click it, click a row of the
# table, or type an index to keep the image beside the plot, with its rank in each score.
# The table lists the most or the least suspect images by any score, of all classes or of
# one, and sorts by any column.
#
# All {glue:text}`num_samples` images and {glue:text}`num_scores` scores are in one file,
# `explorer.html` ({glue:text}`megabytes:.1f` MB), which needs no network and no Python.
# Images of {glue:text}`original` pixels on a side are kept at {glue:text}`side` pixels. A
# column `memorization`, where there is one, is what Feldman and Zhang released, from
# thousands of networks trained with and without each image.

# %%
table = record["scores.parquet"]  # a row for each image, scores averaged over seeds
measures = record["sprite"].iloc[0]
quality = None if pd.isna(measures["quality"]) else int(measures["quality"])
images = (int(measures["side"]), int(measures["across"]), quality)
written = explorer.write_with(
    page.files / "explorer.html",
    study.Sprite(record["sprite.webp"], *images),
    table,
    name=record.parameters.dataset,
    classes=record["classes"]["class"].astype(str),
    signs=study.signs(table),
)
HTML(
    '<div class="explorer"><p>The explorer is the file <code>explorer.html</code>, among '
    "the data of this page: any browser opens it.</p></div>"
)

# %%
page.tell(
    num_samples=len(table),
    num_scores=len(written.scores),
    num_seeds=len(record.parameters.seeds),
    megabytes=written.size / 1e6,
    original=int(measures["original side"]),
    side=written.side,
)

# %% [markdown]
# ## Where to look first
#
# We rank all images by two scores. Images in the upper left and the lower right corner
# are those on which the two disagree.

# %% mystnb={"figure": {"caption": "Two scores of all {glue:text}`num_samples` images, as the share of images that are less suspect (rank correlation {glue:text}`pair:.2f`). Of the most suspect tenth by either, {glue:text}`shared:.0%` is in the tenth of the other; by chance it would be 10 %.", "name": "fig-pair"}, "image": {"alt": "Density of all images over their ranks in cumulative loss and in curvature."}}
first, second = "cumulative_loss", "curvature_square"
correlations = record["correlations"]  # seed -1: of the means over seeds
both = correlations.query("first in [@first, @second] and second in [@first, @second]")
page.tell(
    pair=both.query("seed == -1")["spearman"].iloc[0],
    shared=study.shared_top(table, first, second),
)
figure, ax = plt.subplots(figsize=(figures.WIDTH * 0.75, 4.4), layout="constrained")
ranks = [rankdata(table[name]) / len(table) for name in (first, second)]
drawn = ax.hexbin(*ranks, gridsize=28, bins="log", cmap="viridis", mincnt=1)
ax.set(
    xlabel="cumulative loss, rank (1: most suspect)",
    ylabel="curvature, rank",
    aspect="equal",
)
_ = figure.colorbar(drawn, label="images")

# %% [markdown]
# The table of all pairs, for the means over seeds, and the spread over seeds for the pairs
# that agree most and least:

# %% mystnb={"figure": {"caption": "Spearman correlation of every two scores over all {glue:text}`num_samples` images, each turned so that high is suspect, averaged over {glue:text}`num_seeds` seeds. A random score stands among them.", "name": "fig-correlations"}, "image": {"alt": "A square table of colours and numbers: the rank correlation of every score with every other."}}
means = correlations[correlations["seed"] == -1]
square = means.pivot(index="second", columns="first", values="spearman")
names = list(dict.fromkeys([*means["first"], *means["second"]]))
square = square.reindex(index=names, columns=names)
square = square.combine_first(square.T).loc[names, names].fillna(1.0)
_, ax = plt.subplots(
    figsize=(figures.WIDTH, figures.WIDTH * 0.92), layout="constrained"
)
look = {"vmin": -1, "vmax": 1, "cmap": "RdBu_r", "square": True}
look |= {"annot": True, "fmt": ".2f", "annot_kws": {"size": 6.5}}
_ = sns.heatmap(
    square, cbar_kws={"label": "Spearman correlation", "shrink": 0.8}, ax=ax, **look
)
ax.set(xlabel="", ylabel="")
_ = ax.tick_params(labelsize=8)

# %%
spread = (
    correlations[(correlations["seed"] >= 0) & (correlations["second"] != "random")]
    .groupby(["first", "second"])["spearman"]
    .agg(["mean", "std"])
    .sort_values("mean", ascending=False)
    .reset_index()
)
figures.table(pd.concat([spread.head(3), spread.tail(3)]), std="sd over seeds")

# %% [markdown]
# ## What holds

# %%
with_random = means[means["second"] == "random"]["spearman"].abs().max()
page.tell(chance=with_random)
page.claim(
    "Curvature and cumulative loss rank images alike (Spearman correlation above .5).",
    both.query("seed == -1")["spearman"].iloc[0] > 0.5,
    ours=f"{both.query('seed == -1')['spearman'].iloc[0]:.2f}",
)
page.claim(
    "A random score agrees with no other (all correlations below .1).",
    with_random < 0.1,
    ours=f"at most {with_random:.2f}",
)

# %% [markdown]
# ## Exercises
#
# 1. *To think about.* Entropy does not look at the label. On which images must it
#    disagree with cumulative loss?
# 2. *To run.* Set `seeds = [0]` and `num_probes = 10`. Does the correlation of curvature
#    with the other scores rise?
#
# Read next: [the images at both ends of the ranking](/book/pages/gallery), and
# [what each score costs](/book/pages/cost).
