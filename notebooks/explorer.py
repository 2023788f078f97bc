# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # What does each score say about each image?

# %% [markdown]
# *Two minutes to read, as long as you like to play. Needs:
# [what curvature is](/book/method.md).*
#
# The other pages show averages, or the ends of one ranking. Here is every image, with
# all of its scores, to look at for yourself. No label is touched: the data set as it is.
# **Expected**: all scores see the same training, so most of them should agree on most
# images. The images on which two scores disagree tell what each of them measures.

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
precision = "float32"  # of the training passes; bfloat16 is faster on some processors
num_probes = 2  # random directions an epoch, new ones each epoch
step = 0.001  # finite step h, in units of the normalised input
score_every = 1  # score each so many epochs, and the last
released: str = None  # file of released memorization scores; None for none
runs = "runs"  # folder of the training runs; a finished run is read, not trained again
results = "results/scratch/explorer"  # folder for tables and figure data

# %% tags=["hide-input"]
from itertools import combinations
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from curvlib.book.source import check_parameters
from IPython.display import HTML
from myst_nb import glue
from scipy.stats import rankdata

from curvlib import scores
from curvlib.book import explorer, figures
from curvlib.runs import training
from curvlib.studies import costs

check_parameters(In)
results = Path(results)
results.mkdir(parents=True, exist_ok=True)

# %% [markdown]
# ## All scores of all images
#
# Each score is its mean over the seeds.

# %%
by_seed, traces = [], []
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
        precision=precision,
        num_probes=num_probes,
        step=step,
        score_every=score_every,
    )
    images, heldout = training.prepare(config)  # by index, as the trace is
    trace = training.fit(config, images, heldout, runs=runs)
    traces.append(trace)
    by_seed.append(scores.compute(trace).set_index(["index", "label"]))
table = (sum(by_seed) / len(seeds)).reset_index()
signs = {name: score.sign for name, score in scores.SCORES.items()}
if released is not None:
    table["memorization"] = released.memorization(released, images)
    signs["memorization"] = +1
costs.of_runs(traces).to_csv(results / "runs.csv", index=False)
table.insert(2, "class", np.array(images.classes)[table["label"]])
kept = {name: np.float32 for name in table.select_dtypes("float64")}
table.astype(kept).to_parquet(
    results / "scores.parquet", index=False, compression="zstd"
)
written = explorer.write(results / "explorer.html", images, table, signs=signs)

# %% tags=["hide-input"]
glue("num_samples", len(images), display=False)
glue("num_classes", len(images.classes), display=False)
glue("num_scores", len(written.scores), display=False)
glue("num_seeds", len(seeds), display=False)
glue("megabytes", written.size / 1e6, display=False)
side = max(images.images.shape[1:3])
glue(
    "kept_as",
    f"{written.side} by {written.side} pixels"
    + (f", made smaller from {side} by {side}" if written.side < side else "")
    + (
        ", without loss"
        if written.quality is None
        else f", coarser than they are (WebP, quality {written.quality})"
    ),
    display=False,
)
glue(
    "released_text",
    "The column `memorization` is not ours: it is what Feldman and Zhang released, from "
    "thousands of networks trained with and without each image."
    if released is not None
    else "",
    display=False,
)

# %% [markdown]
# ## The explorer
#
# Choose the two axes; on a logarithmic one, images with the value 0 stand apart beyond a
# dashed line. Point at an image to see it with its scores; click it, or a row of the
# table, or type its index, to keep it beside the plot with its rank in each score. The
# table shows the most or the least suspect by any score, of all classes or of one, and
# sorts by any column. All {glue:text}`num_samples` images and {glue:text}`num_scores`
# scores are in one file of {glue:text}`megabytes:.1f` MB, `explorer.html`, which needs no
# network and no Python; images are kept at {glue:text}`kept_as`.
# {glue:text}`released_text`

# %% tags=["hide-input"]
HTML(
    '<div class="explorer"><p>The explorer is the file <code>explorer.html</code>, among '
    "the data of this page: any browser opens it.</p></div>"
)

# %% [markdown]
# ## Where to look first

# %% mystnb={"figure": {"caption": "Two scores of all {glue:text}`num_samples` images, as the share of images that are less suspect. Their rank correlation is {glue:text}`pair_text`. Images in the upper left and the lower right are where the two disagree: of the tenth that is most suspect by either one, {glue:text}`shared:.0%` is in the tenth of the other too; by chance it would be 10 %.", "name": "fig-pair"}, "image": {"alt": "Density of all images over their ranks in cumulative loss and in curvature."}} tags=["hide-input"]
PAIR = ["cumulative_loss", "curvature_square"]
names = [*written.scores, "random"]
suspect = pd.DataFrame({name: table[name] * signs[name] for name in names})
ranks = suspect.apply(rankdata) / len(suspect)


def correlations(frame):
    """Spearman, of scores turned so that high is suspect."""
    return frame.rank().corr()


per_seed = [
    correlations(pd.DataFrame({name: f[name] * signs[name] for name in scores.SCORES}))
    for f in by_seed
]


def spread(a, b):
    found = [c.loc[a, b] for c in per_seed if {a, b} <= set(c.columns)]
    return (
        f"{np.mean(found):.2f} ± {np.std(found, ddof=1):.2f} (mean ± sd of "
        f"{len(found)} seeds)"
        if len(found) > 1
        else f"{together.loc[a, b]:.2f}"
        + (" (one seed)" if found else " (scores averaged over seeds)")
    )


together = correlations(suspect)
together.rename_axis("score").to_csv(results / "correlations.csv")
tenth = max(1, len(ranks) // 10)
tops = [set(np.argsort(-suspect[name], kind="stable")[:tenth]) for name in PAIR]
glue("pair_text", spread(*PAIR), display=False)
glue("shared", len(tops[0] & tops[1]) / tenth, display=False)
figure, ax = plt.subplots(figsize=(figures.WIDTH * 0.75, 4.4), layout="constrained")
drawn = ax.hexbin(
    ranks[PAIR[0]], ranks[PAIR[1]], gridsize=28, bins="log", cmap="viridis", mincnt=1
)
ax.set(
    xlabel=f"{PAIR[0]}, rank (1: most suspect)",
    ylabel=f"{PAIR[1]}, rank",
    aspect="equal",
)
_ = figure.colorbar(drawn, label="images")

# %% mystnb={"figure": {"caption": "Rank correlation of every two scores over all {glue:text}`num_samples` images, each turned so that high is suspect, then averaged over {glue:text}`num_seeds` seeds. A random score stands among them.", "name": "fig-correlations"}, "image": {"alt": "A square table of colours and numbers: the rank correlation of every score with every other."}} tags=["hide-input"]
_, ax = plt.subplots(
    figsize=(figures.WIDTH, figures.WIDTH * 0.92), layout="constrained"
)
_ = sns.heatmap(
    together,
    vmin=-1,
    vmax=1,
    cmap="RdBu_r",
    annot=True,
    fmt=".2f",
    annot_kws={"size": 6.5},
    square=True,
    cbar_kws={"label": "Spearman correlation", "shrink": 0.8},
    ax=ax,
)
_ = ax.tick_params(labelsize=8)

# %% tags=["remove-cell"]
pairs = {
    (a, b): together.loc[a, b] for a, b in combinations(written.scores, 2)
}  # without the random score
closest, farthest = max(pairs, key=pairs.get), min(pairs, key=pairs.get)
glue("closest", " and ".join(closest), display=False)
glue("closest_text", spread(*closest), display=False)
glue("farthest", " and ".join(farthest), display=False)
glue("farthest_text", spread(*farthest), display=False)
chance = max(abs(together.loc[name, "random"]) for name in written.scores)
glue("chance", chance, display=False)

# %% [markdown]
# ## The answer
#
# Of all pairs of scores, {glue:text}`closest` agree most, with a rank correlation of
# {glue:text}`closest_text`, and {glue:text}`farthest` least, with
# {glue:text}`farthest_text`; a random score comes to at most {glue:text}`chance:.2f` with
# any of them, in size. What a score says about one image is in the explorer.
