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
# **In short.** Images with low curvature are prototypes: they look like many others of their
# class. Images with high curvature are odd views, ambiguous images and images under a wrong
# label ({numref}`fig-ends`). Images with high curvature are learned late: curvature and the
# epoch from which an image stays correct have a rank correlation of
# {glue:text}`lowest_correlation:.2f` to {glue:text}`highest_correlation:.2f`, depending on the
# data set. The tenth of the images with the highest curvature accounts for
# {glue:text}`lowest_share:.0%` to {glue:text}`highest_share:.0%` of the total.

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
batch_size = 64  # images per step
schedule = "cosine"  # of the learning rate; step, cosine or constant
weight_decay = 0.0  # on all weights
augment = False  # random crops and flips
more_settings: dict = None  # further settings of the training, by name
precision = "float32"  # of the training passes; float32 or bfloat16
num_probes = 2  # random directions an epoch, new ones each epoch
step = 0.001  # finite step h, in units of the normalised input
score_every = 1  # score every epoch, or every second, ...; the last always
num_shown = 10  # images of each class at each end
runs = "runs"  # folder of the training runs; a finished run is read, not trained again
records: list = None  # records to show; None measures with the values above
results = "results/scratch/gallery"  # folder of the record that is measured

# %%
from curvlib.book import Page, figures, selector, tabs
from curvlib.studies import gallery

page = Page.begin(In)
shown = page.records(gallery.measure)
views = {label: gallery.View(record) for label, record in shown.items()}


# %% mystnb={"figure": {"caption": "Low curvature shows prototypes; high curvature shows odd views, ambiguous images and wrong labels. The images with the lowest and the highest curvature of each data set, the most extreme on the outside.", "name": "fig-ends"}, "image": {"alt": "One row for each data set: on the left plain, typical images, on the right unusual ones."}}
def at(view, highest, count=6):
    """Pixels at one end of the ranking."""
    return view.pixels(view.extreme(highest=highest, count=count))


rows = {label: (at(view, False), at(view, True)) for label, view in views.items()}
_ = figures.two_ends(rows, names=("lowest curvature", "highest curvature"))

# %% [markdown]
# *Five minutes to read, longer to look at. Read first: [the method](/book/method.md).*
#
# **After this page you can**
#
# - say what a prototype and the long tail look like;
# - tell a property of the images from a property of one training run;
# - choose a class and judge its ranking yourself.
#
# ## One score for each image
#
# No label is changed here. We train one network for each seed and average its curvature,
# $\mathrm{tr}(H^2)$, over the scored epochs and over the seeds. An image counts as *learned*
# once it stays correct until the end of training.

# %%
summary = gallery.summary(views)
figures.table(
    summary,
    formats={"images": "{:,}", "share": "{:.0%}"}
    | dict.fromkeys(("correlation", "seeds agree"), "{:.2f}"),
    missing="one seed",
    share="share of the total in the highest tenth",
    correlation="rank correlation with the epoch learned",
    **{"seeds agree": "rank correlation between two seeds"},
)

# %%
page.tell(
    lowest_share=summary["share"].min(),
    highest_share=summary["share"].max(),
    lowest_correlation=summary["correlation"].min(),
    highest_correlation=summary["correlation"].max(),
)

# %% [markdown]
# A few images account for much of the total, so the axis below is logarithmic.


# %% mystnb={"figure": {"caption": "Images learned late have higher curvature. Curvature, averaged over epochs and seeds, of images learned up to the median epoch and of images learned later.", "name": "fig-distribution"}, "image": {"alt": "One panel for each data set, each with two histograms of curvature on a logarithmic axis: images learned early lie to the left of images learned late."}}
def draw(view, ax):
    """Histograms of curvature of both halves."""
    figures.distributions(view.score, view.halves(), xlabel="curvature, tr(H²)", ax=ax)


_ = figures.by_dataset(views, draw, share="")

# %%
agreements = {label: view.agreements() for label, view in views.items()}
page.claim(
    "Two training runs rank the images alike (Spearman correlation above .5).",
    {name: min(found) > 0.5 if found else None for name, found in agreements.items()},
    ours={
        label: ", ".join(f"{value:.2f}" for value in found) or "one seed"
        for label, found in agreements.items()
    },
    tolerance="every pair of seeds; undecided with one seed",
    name="seeds-agree",
)

# %% [markdown]
# ## Class by class
#
# Choose a data set and a class. The list shows the images of the class with the lowest and
# the highest curvature, each with its index in the data set and its score.

# %%
tabs.show(
    {
        label: selector.by_class(
            **view.at_ends_of_classes(),
            count=view.num_shown,
            what="curvature",
            name=f"by-class-{number}",
        )
        for number, (label, view) in enumerate(views.items())
    }
)

# %% [markdown]
# ## The highest and the lowest of all
#
# Read the rows from left to right: the most extreme image comes first.


# %% mystnb={"figure": {"caption": "The images with the highest curvature of each data set, highest first: odd views, ambiguous images and wrong labels.", "name": "fig-highest"}, "image": {"alt": "The images with the highest curvature, with their class below."}}
def sheet(view, highest):
    """The images at one end of the ranking, with their class below each."""
    positions = view.extreme(highest=highest)
    return figures.gallery(
        view.pixels(positions), label=view.names[positions], columns=10
    )


alt = "Forty images with the highest curvature, with their class below."
tabs.show({label: sheet(view, True) for label, view in views.items()}, alt=alt)

# %% mystnb={"figure": {"caption": "The images with the lowest curvature of each data set, lowest first: typical images of a few classes.", "name": "fig-lowest"}, "image": {"alt": "The images with the lowest curvature, with their class below."}}
alt = "Forty images with the lowest curvature, with their class below."
tabs.show({label: sheet(view, False) for label, view in views.items()}, alt=alt)

# %% [markdown]
# ## What holds

# %%
medians = {label: view.learned_at_ends() for label, view in views.items()}
page.claim(
    "Images with low curvature are prototypes, images with high curvature the long tail: "
    "the images at the high end of their class are learned later than those at the low end.",
    {label: late > early for label, (early, late) in medians.items()},
    ours={
        label: f"median epoch {late:.1f} against {early:.1f}"
        for label, (early, late) in medians.items()
    },
    published="galleries of both ends (Garg et al. 2024)",
    tolerance="median epoch learned, over all classes",
    name="prototypes-and-tail",
)

# %% [markdown]
# A number can check this claim only in part. Look at {numref}`fig-ends` and at the lists
# above: are the images on the right the unusual ones?
#
# ## Exercises
#
# ```{exercise}
# :label: ex-early
# An image has high curvature, and the network is right on it from the second epoch on. Name
# two reasons that have nothing to do with a wrong label.
# ```
#
# ```{solution} ex-early
# :class: dropdown
# The image may lie close to a decision boundary: the network is right, but a small step
# changes the loss quickly. Or its contrast is high, so that a step of fixed size in pixels
# moves its features further than those of a dull image. The mean over epochs also contains
# epochs in which the network was not yet confident.
# ```
#
# ```{exercise}
# :label: ex-norm
# The ranking above uses the mean of $\mathrm{tr}(H^2)$, the paper's formula. The authors'
# code averages the norm $\lVert Hv \rVert$ instead. How many of the ten highest images of the
# first data set stay among the ten highest?
# ```
#
# ```{solution-start} ex-norm
# :class: dropdown
# ```

# %% tags=["solution"]
table = next(iter(shown.values()))["scores.parquet"]
top = {
    name: set(table.groupby("index")[name].mean().nlargest(10).index)
    for name in ("curvature_square", "curvature_norm")
}
len(top["curvature_square"] & top["curvature_norm"])

# %% [markdown]
# ```{solution-end}
# ```
#
# Read next: [which images occur twice under different labels](/book/pages/duplicates), and
# [which score finds wrong labels](/book/pages/mislabelled).
