# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Which training images does accuracy depend on?
#
# **In short.** On digits with a long tail, we remove {glue:text}`share:.0%` of the
# training images and train again. Accuracy on unseen images falls by
# {glue:text}`by_curvature:.1f` points if we remove the images with the highest curvature,
# by {glue:text}`by_loss:.1f` if we remove those with the highest cumulative loss, and by
# {glue:text}`by_random:.1f` if we remove images at random. If we remove images at random,
# but as many of each class as curvature does, it falls by {glue:text}`by_matched:.1f` points
# (seeds averaged: {glue:text}`num_seeds`). {numref}`fig-curves` shows every share.

# %% tags=["hide-input"]
from curvlib.book import Page, figures, tabs
from curvlib.studies import removal

# %% tags=["parameters"]
dataset = "digits"  # a data set that curvlib.load knows
num_images: int = None  # use the first so many images; None for all
num_unseen = 600  # images left out of every training, on which accuracy is counted
imbalance = 4.0  # share kept of the first class over that of the last; 1 keeps all
features: str = None  # pretrained network whose vectors a small head is trained on
feature_size: int = None  # pixels on a side that it sees; None for its default
removed_by = ["curvature_norm", "cumulative_loss", "random"]  # what chooses the images
shares = [0.05, 0.1, 0.2]  # of the training images that are removed
seeds = [0, 1, 2]  # of the networks trained again; 100 more for those that score
model = "slim_resnet"  # network for pixels; a head needs none
width = 16  # channels of its first stage, or ReLUs of the head
epochs = 10  # passes over the training set
lr = 0.1  # learning rate at the start
batch_size = 64  # images per step
schedule = "cosine"  # of the learning rate; step, cosine, linear or constant
weight_decay = 0.0  # on all weights
augment = False  # random shifts and flips
precision = "float32"  # of the training passes; float32 or bfloat16
num_probes = 2  # random directions a scored epoch
step = 0.001  # finite step h, in units of the normalised input
score_every = 1  # score every epoch, or every second, ...; the last always
more_settings: dict = None  # further settings of the training, by name
runs = "runs"  # folder of the training runs; a finished one is read
records: list = None  # records to show; None measures with the values above
results = "results/scratch/removal"  # folder of the record that is measured

# %% tags=["hide-input"]
page = Page.begin(In)
shown = page.records(removal.measure)
first = next(iter(shown.values()))
page.tell(**removal.headline(first))

# %% mystnb={"figure": {"caption": "Removing the images with the highest curvature costs more accuracy than removing images at random. Accuracy on unseen images of all classes, of rare classes, and on images far from the mean of their class. Lines: mean over seeds; bands: standard deviation.", "name": "fig-curves"}, "image": {"alt": "Three panels of accuracy against the share of training images removed, one line for each way to choose them."}}
tabs.show(
    {
        label: figures.by_group(removal.curves(record["accuracy"]))
        for label, record in shown.items()
    },
    alt="Accuracy against the share removed, a line for each way to choose images.",
)

# %% [markdown]
# *Eight minutes to read. Read first: [the method](/book/method.md) and [does curvature
# agree with memorization?](/book/pages/feldman_zhang)*
#
# **After this page you can**
#
# - say how to test whether a score finds images that a network needs;
# - tell the loss of rare classes apart from the loss of images within a class;
# - explain why a high score is no reason to delete an image.
#
# ## The experiment
#
# Feldman and Zhang {cite}`feldman2020` trained thousands of networks to measure
# memorization. Then they removed the most memorised images. Accuracy fell more than
# after they removed as many images at random. So networks memorise for a reason: rare
# images help with other rare images. We ask the same question about scores that one network
# gives.
#
# Such images are rare by nature, so we make the training set long-tailed: each class has
# fewer images than the one before it. Each seed takes three steps.
#
# 1. One network scores the training images, as everywhere in this book.
# 2. We remove the images with the highest scores, or as many at random.
# 3. A network with *another seed* is trained on the rest, with the same settings.
#    Fewer images mean fewer training steps, whichever way they are removed.
#
# The network of the third step had no part in choosing what was removed. We replaced no
# labels here, so high scores mean rare or hard images.

# %%
tabs.show(
    {
        label: figures.table(record["classes"], trained_on="training images")
        for label, record in shown.items()
    }
)

# %% [markdown]
# *Rare classes* are the three tenths of the classes with the fewest training images.
# *Atypical images* are the fifth of the unseen images of each class that lie farthest from
# the mean of its training images. Neither depends on a network or a score.
#
# ## What is removed?
#
# Does curvature choose rare classes more often than chance would? On digits they make up
# {glue:text}`rare_removed:.0%` of the images removed at the largest share, and
# {glue:text}`rare_expected:.0%` of the training set.

# %% mystnb={"figure": {"caption": "The digits with the highest curvature, with their label and index (first seed).", "name": "fig-top"}, "image": {"alt": "The training images with the highest curvature."}}
top, names = first["top"], first["classes"]["class"].astype(str).to_numpy()
_ = figures.gallery(
    first["images"],
    label=names[top["label"]],
    score=top["curvature"].to_numpy(),
    index=top["index"].to_numpy(),
)

# %% [markdown]
# A score that only picked rare classes would not tell one image of a class from another.
# The control *at random, same classes* removes as many images of each class as curvature
# does, but chooses them at random within the class. Any accuracy lost beyond that is due to
# the choice of images.
#
# ## What is lost?
#
# The table shows accuracy on all unseen images in %, mean ± standard deviation over seeds.

# %%
tabs.show(
    {
        label: figures.table(
            removal.in_words(removal.by_share(record["accuracy"], "all")),
            way="images removed",
        )
        for label, record in shown.items()
    }
)

# %% [markdown]
# The next table shows accuracy on unseen images of rare classes.

# %%
tabs.show(
    {
        label: figures.table(
            removal.in_words(removal.by_share(record["accuracy"], "rare classes")),
            way="images removed",
        )
        for label, record in shown.items()
    }
)

# %% [markdown]
# ## Claims
#
# We judge each claim at the largest share, by differences within a seed.


# %%
def judged(verdict, *given, **options):
    """A verdict for each data set, as page.claim takes it."""
    found = {k: verdict(r["accuracy"], *given, **options) for k, r in shown.items()}
    return {
        "holds": {label: v.holds for label, v in found.items()},
        "ours": {label: v.ours for label, v in found.items()},
        "tolerance": next(iter(found.values())).tolerance,
    }


page.claim(
    "Removing the images with the highest curvature costs more accuracy than removing "
    "as many at random.",
    **judged(removal.costs_more, "curvature_norm"),
    name="removal-costs",
)
page.claim(
    "It also costs more than removing as many of each class at random.",
    **judged(removal.costs_more, "curvature_norm", than=removal.MATCHED),
    name="removal-within-classes",
)
page.claim(
    "Removing the images with the highest cumulative loss costs more than removing "
    "those with the highest curvature.",
    **judged(removal.costs_more, "cumulative_loss", than="curvature_norm"),
    name="removal-loss-beats-curvature",
)
page.claim(
    "Rare classes lose more than all classes together when the images with the highest "
    "curvature are removed.",
    **judged(removal.falls_on_the_rare, "curvature_norm"),
    name="removal-rare",
)
page.claim(
    "Atypical images lose more when the images with the highest curvature are removed "
    "than when as many of each class are removed at random.",
    **judged(
        removal.costs_more,
        "curvature_norm",
        than=removal.MATCHED,
        group="atypical images",
    ),
    name="removal-atypical",
)

# %% [markdown]
# This is a small experiment: few seeds, small networks, and an artificial long tail. It
# shows why a high score is a reason to look at an image, but not to delete it. Correct a
# wrong label; keep a rare image.
#
# ## Exercises
#
# ```{exercise} Fewer steps
# :label: removal-steps
# The network that is trained on fewer images takes fewer steps. Could this explain the
# loss of accuracy after the images with the highest curvature were removed?
# ```
#
# ```{solution} removal-steps
# :class: dropdown
# No. Removing as many images at random leaves as many steps, so the difference between
# the two lines is due to which images were removed.
# ```
#
# ```{exercise} Which classes go first?
# :label: removal-classes
# At the smallest share, what part of the removed images belongs to rare classes? Compute
# this for each way to choose images. Which score prefers rare classes most?
# ```
#
# ```{solution-start} removal-classes
# :class: dropdown
# ```

# %% tags=["solution"]
removed = first["removed"]
smallest = removed[removed["share"] == removed["share"].min()]
smallest.groupby("score")["rare"].mean().sort_values()

# %% [markdown]
# ```{solution-end}
# ```
#
# Read next: [prototypes and the long tail](/book/pages/gallery), and [which labels are
# wrong?](/book/pages/mislabelled)
