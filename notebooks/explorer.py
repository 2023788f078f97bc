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
# **In short.** All scores come from the same training, so most of them agree on most images
# ({numref}`fig-pair`). The rank correlation of curvature and cumulative loss is
# {glue:text}`pair_low:.2f` to {glue:text}`pair_high:.2f`, depending on the data set. A random
# score correlates with none (at most {glue:text}`chance:.2f`). The explorers below show every
# image with all of its scores.

# %% tags=["parameters"]
dataset = "digits"  # a data set that curvlib.load knows
num_train: int = None  # train on the first so many images; None for all
num_heldout = 0  # images of the test split that are scored too, never trained on
seeds = [0, 1, 2]  # one training run each; scores are averaged over them
model = "slim_resnet"  # resnet18, slim_resnet, strided_resnet or mlp
width = 16  # channels of its first stage
epochs = 30  # passes over the training set
lr = 0.1  # learning rate at the start
batch_size = 64  # images per step
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

from curvlib.book import Page, explorer, figures, tabs
from curvlib.studies import explorer as study

page = Page.begin(In)
shown = page.records(study.measure)

# %% mystnb={"figure": {"caption": "Curvature and cumulative loss rank most images alike; they disagree on images in the upper left and lower right corners. Rank: share of images that are less suspect.", "name": "fig-pair"}, "image": {"alt": "One panel for each data set: density of all images over their ranks in cumulative loss and in curvature, densest along the diagonal."}}
first, second = "cumulative_loss", "curvature_square"


def ranks(record, ax):
    """Density of the images over their ranks in both scores."""
    table = record["scores.parquet"][[first, second]].rank(pct=True)
    ax.hexbin(*table.T.to_numpy(), gridsize=28, bins="log", cmap="viridis", mincnt=1)
    ax.set(
        xlabel="rank in cumulative loss (1: most suspect)",
        ylabel="rank in curvature",
        aspect="equal",
    )


_ = figures.by_dataset(shown, ranks)

# %% [markdown]
# *Two minutes to read, longer to play. Read first: [the method](/book/method.md).*
#
# **After this page you can**
#
# - find the images on which two scores disagree;
# - say what each score measures;
# - look up any image of the data set.
#
# ## The explorers
#
# Choose the two axes. On a logarithmic axis, images with the value 0 lie apart, beyond a
# dashed line. Point at an image to see it with its scores. To keep an image beside the plot,
# with its rank in each score, click it, click its row of the table, or type its index. The
# table lists the most or the least suspect images by any score, of all classes or of one,
# and sorts by any column. Each explorer is one file, which needs no network and no Python.
# A column *memorization*, where there is one, holds the scores that Feldman and Zhang
# released, from thousands of networks trained with and without each image.

# %%
written, places = [], []
for number, (label, record) in enumerate(shown.items(), 1):
    table, sprite = record["scores.parquet"], study.sprite_in(record)
    file = page.files / f"explorer-{number}.html"
    made = explorer.write_with(
        file,
        sprite,
        table,
        name=record.parameters.dataset,
        classes=record["classes"]["class"].astype(str),
        signs=study.signs(table),
    )
    written.append((label, len(table), len(made.scores), made.size / 1e6, made.side))
    places.append(explorer.placeholder(label, file.name))
HTML("".join(places))

# %%
columns = ["data set", "images", "scores", "megabytes", "pixels on a side"]
figures.table(
    pd.DataFrame(written, columns=columns),
    formats={"images": "{:,}", "megabytes": "{:.1f}"},
)

# %% [markdown]
# ## Which scores agree
#
# Each cell is the rank correlation of two scores, averaged over seeds. All signs are chosen
# so that high is suspect.

# %% mystnb={"figure": {"caption": "Most scores agree with each other, and none with a random one. Spearman correlation of each pair of scores over all images, averaged over seeds.", "name": "fig-correlations"}, "image": {"alt": "A square table of colours and numbers: the rank correlation of every score with every other."}}


def heatmap(record):
    """The rank correlation of every two scores."""
    square = study.square(record["correlations"])
    square = square.rename(index=figures.words, columns=figures.words)
    size = (figures.WIDTH, figures.WIDTH * 0.95)
    figure, ax = plt.subplots(figsize=size, layout="constrained")
    look = {"vmin": -1, "vmax": 1, "cmap": "RdBu_r", "square": True, "cbar": False}
    look |= {"annot": True, "fmt": ".2f", "annot_kws": {"size": 6}}
    sns.heatmap(square, ax=ax, **look)
    ax.set(xlabel="", ylabel="")
    ax.tick_params(labelsize=7)
    return figure


alt = "A square of colours and numbers; only the rows of entropy and random are pale."
tabs.show({label: heatmap(record) for label, record in shown.items()}, alt=alt)

# %% [markdown]
# The pairs that agree most and least, with the spread over seeds:

# %%
tabs.show(
    {
        label: figures.table(
            study.extremes(record["correlations"]),
            missing="one seed",
            first="score",
            second="other score",
            std="sd over seeds",
        )
        for label, record in shown.items()
    }
)

# %% [markdown]
# ## What holds

# %%
pair = {k: study.pair(r["correlations"], first, second) for k, r in shown.items()}
chance = {k: study.with_random(r["correlations"]) for k, r in shown.items()}
page.tell(
    pair_low=min(pair.values()),
    pair_high=max(pair.values()),
    chance=max(chance.values()),
)
page.claim(
    "Curvature and cumulative loss rank images alike (Spearman correlation above .5).",
    {label: value > 0.5 for label, value in pair.items()},
    ours={label: f"{value:.2f}" for label, value in pair.items()},
)
page.claim(
    "A random score agrees with no other (all correlations below .1).",
    {label: value < 0.1 for label, value in chance.items()},
    ours={label: f"at most {value:.2f}" for label, value in chance.items()},
)

# %% [markdown]
# ## Exercises
#
# ```{exercise}
# :label: ex-entropy
# Entropy does not look at the label. On which images must it disagree with cumulative loss?
# ```
#
# ```{solution} ex-entropy
# :class: dropdown
# On images for which the network confidently predicts another label: their entropy is low
# and their loss is high. These are the mislabelled images, before the network has memorised
# them.
# ```
#
# ```{exercise}
# :label: ex-shared
# Take the tenth of the images that is most suspect by cumulative loss. What share of it is
# also in the most suspect tenth by curvature? By chance it would be 10%.
# ```
#
# ```{solution-start} ex-shared
# :class: dropdown
# ```

# %% tags=["solution"]
{
    label: round(float(study.shared_top(record["scores.parquet"], first, second)), 2)
    for label, record in shown.items()
}

# %% [markdown]
# ```{solution-end}
# ```
#
# Read next: [the images at both ends of the ranking](/book/pages/gallery), and
# [what each score costs](/book/pages/cost).
