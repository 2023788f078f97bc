# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Which images occur twice under different labels, and does curvature find them?
#
# **In short.** {glue:text}`num_conflicts` groups of training images have the same pixels and
# different labels, and {glue:text}`near_not_exact` further pairs with different labels are
# nearly the same. We look up {glue:text}`num_twins:.0f` of these images
# ({glue:text}`twins` under different labels) in the ranking of every score. Curvature
# averaged over training puts {glue:text}`found:.0f` of them among its {glue:text}`top`
# highest; a random list would hold {glue:text}`expected:.2g`. {numref}`fig-places` shows
# their places.
#
# *Ten minutes to read. Read first: [the method](/book/method.md). After this page you can
# find exact and near duplicates in a data set, check how many of them are chance, and test
# whether a score puts given images near the top of its ranking.*
#
# A network cannot be right on both of two equal images with different labels. The paper
# {cite}`garg2024` sorted images by curvature and saw such pairs among the highest.
# Memorization scores and the curvature of the last epoch did not show them. The authors
# found the pairs by eye. We first find all pairs by their pixels, and then ask each score
# where it ranks them.

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
more_settings: dict = None  # further settings of the training, by name
precision = "float32"  # of the training passes; float32 or bfloat16
num_probes = 2  # random directions an epoch, new ones each epoch
step = 0.001  # finite step h, in units of the normalised input
score_every = 1  # score every epoch, or every second, ...; the last always
wanted_precision = 0.95  # share of the near duplicates found that are not chance
runs = "runs"  # folder of the training runs; a finished run is read, not trained again
records: list = None  # records to show; None measures with the values above
results = "results/scratch/duplicates"  # folder of the record that is measured

# %%
from curvlib.book import Page, figures
from curvlib.studies import duplicates

page = Page.begin(In)
record = page.record(duplicates.measure)
made = record.parameters
page.tell(**duplicates.numbers(record, made))

# %% [markdown]
# ## The same pixels
#
# We compare the pixels of all images, within the training set and with the test set. Among
# {glue:text}`num_images:,` training images there are {glue:text}`num_within` groups with the
# same pixels, and {glue:text}`num_conflicts` of them have different labels (the table
# shows the first six). {glue:text}`num_across` groups have images in both splits,
# {glue:text}`num_across_conflicts` of them under different labels.
#
# A data set without such pairs can be given some: `planted_duplicates` copies of training
# images are added under a wrong label. Here the number is {glue:text}`num_planted`. Each
# seed gets other copies, and tables of single images show those of the first seed.

# %%
exact = record["exact"]
figures.table(duplicates.conflicts(exact).head(6))

# %% mystnb={"figure": {"caption": "Training images with the same pixels and different labels; two neighbours are one group ({glue:text}`num_conflicts` groups, at most 20 are shown).", "name": "fig-exact"}, "image": {"alt": "Pairs of identical images with different class names under them."}}
place = {tuple(row): i for i, row in enumerate(record["shown"].to_numpy().tolist())}


def show(rows, captions, **options):
    """Images by split and index, in rows of four pairs."""
    where = [place[key] for key in zip(rows["split"], rows["index"], strict=True)]
    options |= {"columns": 8, "nothing": "There are no such pairs."}
    return figures.gallery(record["images"][where], captions.tolist(), **options)


twins = duplicates.exact_pairs(exact)
_ = show(twins, twins["class"].astype(str), index=twins["index"].tolist())

# %% [markdown]
# ## Nearly the same pixels
#
# One photograph can be in a data set twice with another crop, other colours or another
# compression. We compare each image with its five nearest neighbours in two spaces: its
# pixels (8 × 8 averages without brightness and contrast), and the inputs of the trained
# network's last layer. Two neighbours count as near duplicates if their *details* agree.
# Details are the grey values without their local mean. We take their correlation at the
# best of small shifts.
#
# How much correlation is enough? An image that is turned upside down has no duplicate
# except by chance. So the number of turned images that reach a correlation tells how many
# of the pairs found are chance {cite}`elias2007`. We take the lowest threshold at which at
# least {glue:text}`wanted:.0%` are not chance. Most pairs that are alike by chance have
# different labels, so pairs with different labels get a check of their own.

# %% mystnb={"figure": {"caption": "Real images find alike neighbours far more often than images upside down do. Above: images with a neighbour at least so alike. Below: the precision that follows, and the thresholds for a precision of {glue:text}`wanted:.0%` (dotted; a space of which the record holds no counts has its threshold alone). {glue:text}`num_images:,` training and {glue:text}`num_test:,` test images.", "name": "fig-check"}, "image": {"alt": "Four panels: counts of images and of images upside down against the correlation of details, and the precision, for all pairs and for pairs with different labels."}}
_ = figures.precision_check(record["check"], record["thresholds"])

# %%
pairs, below = record["near-pairs"], record["near-below"]
figures.table(
    duplicates.near_summary(pairs, record["thresholds"]),
    space="neighbours by",
    asked="pairs with",
    formats={"threshold": "{:.3f}"},
)

# %% [markdown]
# The two spaces together find {glue:text}`near_train:,` pairs within the training set, exact
# ones included. They find {glue:text}`near_across:,` pairs between the training and the test
# set, which contain {glue:text}`near_test_share:.1%` of the test images. With different
# labels there are {glue:text}`near_conflicts` pairs within the training set, and
# {glue:text}`near_not_exact` of them are not exact.

# %% mystnb={"figure": {"caption": "Judge by eye: the last 12 pairs above the threshold (marked) and the first 4 below it, by pixels, with any labels. Two neighbours are one pair; the number is the correlation of their details.", "name": "fig-threshold"}, "image": {"alt": "Pairs of similar images just above and just below the threshold of similarity."}}


def show_pairs(rows):
    """Pairs with their classes and correlation; those above the threshold marked."""
    rows = duplicates.as_images(rows)
    captions = rows["class"].astype(str) + rows["similarity"].map("\n{:.3f}".format)
    above = {"marked": rows["above"].to_numpy(bool), "marked_as": "above the threshold"}
    return show(rows, captions, sign="+", **above)


_ = show_pairs(duplicates.at_threshold(pairs, below))

# %% mystnb={"figure": {"caption": "Training images that are nearly the same and have different labels: {glue:text}`near_not_exact` pairs are above the threshold (marked, at most 24 shown), the others come closest to it.", "name": "fig-near"}, "image": {"alt": "Pairs of nearly identical training images with different class names."}}
_ = show_pairs(duplicates.near_conflicts(pairs, below))

# %% [markdown]
# ## Where each score ranks them
#
# The place of an image in the ranking of a score is the share of images below it; 1 is the
# top. If the images are the same for all seeds, we average each score over the seeds. We
# count how many of the {glue:text}`num_twins:.0f` images ({glue:text}`twins` under
# different labels) are among the {glue:text}`top` highest of each score, and compare with a
# random list (hypergeometric test). The table shows the three best scores and some others;
# `enrichment.csv` below has all scores and lists of three lengths.

# %%
scored = duplicates.by_score(record["enrichment"])
figures.table(
    duplicates.main_rows(scored).drop(columns=["set", "images", "top"]),
    median_place="median place",
    auroc="AUROC",
    found="among the highest",
    expected="by chance",
    p_value="p",
    formats={"auroc": "{:.3f}", "median_place": "{:.3f}", "p_value": "{:.1g}"},
)

# %% mystnb={"figure": {"caption": "Places of {glue:text}`twins` under different labels in the ranking of every score (at most 40 rows, highest curvature norm first): 1, dark, is the top.", "name": "fig-places"}, "image": {"alt": "Heat map: one row for each image that occurs twice, one column for each score; the colour is the place in the ranking of that score."}}
places = record["places"]
ranks = places.filter(like="place_").rename(columns=lambda name: name[len("place_") :])
ranks.index = places["index"].astype(str) + " " + places["class"].astype(str)
_ = figures.place_map(ranks, nothing="There are no such images.")

# %% [markdown]
# This table shows the curvature of the highest six, ± its standard error over
# {glue:text}`num_measured` scored epochs (of all runs with the same images), and their
# place.

# %%
error = places.pop("standard_error")
places["curvature_norm"] = [
    figures.plus_minus(*both)
    for both in zip(places["curvature_norm"], error, strict=True)
]
figures.table(
    places[["index", "class", "curvature_norm", "place_curvature_norm"]].head(6),
    place_curvature_norm="place",
    curvature_norm="curvature (norm)",
    formats={"place_curvature_norm": "{:.4f}"},
)

# %% [markdown]
# In the paper, the curvature of the last epoch does not show such pairs. Its networks see
# augmented images and stay uncertain about many of them. Here the network is wrong on
# {glue:text}`wrong_elsewhere:.0f` of all other images at the end (mean over runs). The
# fewer these are, the more of what stays uncertain are images with two labels.

# %%
scored = scored.set_index("score")
p_value = scored["p_value"].get("curvature_norm")
page.claim(
    "Curvature averaged over training puts more of the images under two labels near the "
    "top than chance does.",
    None if p_value is None else p_value < 0.001,
    ours=duplicates.found_by(scored, "curvature_norm"),
    published="such pairs are among the images of highest curvature (galleries)",
    tolerance="p < 0.001",
)
page.claim(
    "The curvature of the last epoch finds fewer of them than curvature averaged over "
    "training.",
    duplicates.finds_fewer(scored, "curvature_last", share=0.9),
    ours=duplicates.found_by(scored, "curvature_last"),
    published="the last epoch does not show them",
    tolerance="fewer than 0.9 times as many",
)
page.claim(
    "Released memorization scores find fewer of them than curvature does.",
    duplicates.finds_fewer(scored, "memorization"),
    ours=duplicates.found_by(scored, "memorization"),
    published="memorization scores do not show them",
)
page.claim(
    "The cumulative loss finds fewer of them than curvature does.",
    duplicates.finds_fewer(scored, "cumulative_loss"),
    ours=duplicates.found_by(scored, "cumulative_loss"),
)

# %% [markdown]
# ## Which label the network learns
#
# Two images with the same pixels get the same output, so their two labels share its
# probability. Does the network decide for one of them? The figure shows all epochs that
# the record holds.

# %% mystnb={"figure": {"caption": "Probability of the first label (blue) and of the second label (orange, dashed) of exact duplicates, first seed ({glue:text}`num_conflicts` groups, at most 9 are shown).", "name": "fig-wins"}, "image": {"alt": "Small panels, one for each pair: the probabilities of its two labels against the epoch."}}
_ = figures.pair_curves(record["curves"], nothing="There are no such pairs.")

# %%
won = record["wins"]
columns = ["first_class", "second_class", "p_first", "p_second", "ahead", "turns"]
figures.table(
    won.loc[won["seed"] == made.seeds[0], columns].head(6),
    first_class="first label",
    second_class="second label",
    p_first="probability of the first at the end",
    p_second="of the second",
    ahead="label ahead",
    turns="changes of the lead",
    formats={"p_first": "{:.2f}", "p_second": "{:.2f}"},
)

# %% [markdown]
# Over all pairs and runs (medians of the probabilities, mean number of changes):

# %%
summary = duplicates.learned(won)
figures.table(
    summary.drop(columns=["first_ahead", "same"]),
    stronger="probability of the label ahead",
    together="of both labels together",
    turns="changes of the lead in a run",
    formats={"stronger": "{:.2f}", "together": "{:.2f}", "turns": "{:.1f}"},
)

# %%
planted, every = made.planted_duplicates, summary.iloc[0]
page.claim(
    "The original label, which other images of its class support, is ahead of the planted "
    "one at the end in more than half of the pairs.",
    every["first_ahead"] > len(won) / 2 if planted else None,
    ours=f"{every['first_ahead']:.0f} of {len(won)} pairs of all runs, {planted} planted",
)
runs = len(made.seeds)
page.claim(
    "Training runs agree which label is ahead at the end, for every pair.",
    None if planted or runs == 1 or not len(won) else every["same"] == every["pairs"],
    ours=f"{every['same']:.0f} of {every['pairs']:.0f} pairs; runs: {runs}",
)

# %% [markdown]
# ## Exercises
#
# 1. *To think about.* A pair of equal images has the same label. Should its curvature be
#    high or low? Does any table of this page contain such pairs?
# 2. *To run.* Set `planted_duplicates = 200`. Which scores find fewer of the copies, and why
#    might that be?
#
# Read next: [which score finds wrong labels](/book/pages/mislabelled), where planted
# duplicates are [one kind of wrong label](/book/pages/mislabelled); and
# [which images have the highest curvature](/book/pages/gallery).
