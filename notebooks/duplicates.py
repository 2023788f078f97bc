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
# **In short.** A network cannot be right on both of two equal images with different labels.
# On {glue:text}`main_label`, curvature averaged over training ranks {glue:text}`found:.0f` of
# the {glue:text}`num_twins:.0f` images with this fault ({glue:text}`twins`) among its
# {glue:text}`top` highest; chance would give {glue:text}`expected:.2g`
# ({numref}`fig-places`). The table in {ref}`sec-count` shows every data set that has such
# images.

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
batch_size = 64  # images per step
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
from curvlib.book import Page, figures, tabs
from curvlib.studies import duplicates

page = Page.begin(In)
shown = page.records(duplicates.measure)
n = {label: duplicates.numbers(r, r.parameters) for label, r in shown.items()}
scored = {label: duplicates.by_score(r["enrichment"]) for label, r in shown.items()}
main_label = duplicates.most_conflicts(n)
page.tell(main_label=main_label, **n[main_label])

# %% mystnb={"figure": {"caption": "Good scores rank the images that occur twice under different labels near the top, on the left. One dot for each of at most 40 images: the share of all images that the score ranks above it (logarithmic axis; bar: median).", "name": "fig-places"}, "image": {"alt": "One row of dots for each score: the share of images ranked above each image that occurs twice."}}


def place_map(record):
    places = record["places"]
    ranks = places.filter(like="place_").rename(columns=lambda name: name[6:])
    ranks.index = places["index"].astype(str) + " " + places["class"].astype(str)
    return figures.place_map(ranks, nothing="There are no such images.")


alt = "One row of dots for each score; the dots of the best scores are far to the left."
tabs.show({label: place_map(record) for label, record in shown.items()}, alt=alt)

# %% [markdown]
# *Ten minutes to read. Read first: [the method](/book/method.md).*
#
# **After this page you can**
#
# - find exact and near duplicates in a data set;
# - check how many of them are chance;
# - test whether a score puts given images near the top of its ranking.
#
# {cite:t}`garg2024` sorted images by curvature and saw pairs of equal images with different
# labels among the highest. Memorization scores and the curvature of the last epoch did not
# show them. The authors found the pairs by eye. We first find all pairs by their pixels, and
# then ask each score where it ranks them.
#
# ## The same pixels
#
# We compare the pixels of all images, within the training set and with the test set. A data
# set may have no such pairs. Then we add copies of training images under a wrong label
# (*planted* copies). Each seed gets different copies. Figures of single images show those of
# the first seed.

# %%
figures.table(duplicates.counted(n))

# %% mystnb={"figure": {"caption": "Training images with the same pixels and different labels. Each two neighbours are one group; at most 20 groups are shown.", "name": "fig-exact"}, "image": {"alt": "Pairs of identical images with different class names under them."}}


def show(record, rows, captions, **options):
    kept = record["shown"].to_numpy().tolist()
    place = {tuple(row): i for i, row in enumerate(kept)}
    where = [place[key] for key in zip(rows["split"], rows["index"], strict=True)]
    options |= {"columns": 8, "nothing": "There are no such pairs."}
    return figures.gallery(record["images"][where], captions.tolist(), **options)


def exact(record):
    twins = duplicates.exact_pairs(record["exact"])
    names = twins["class"].astype(str)
    return show(record, twins, names, index=twins["index"].tolist())


alt = "Pairs of identical images with different class names under them."
tabs.show({label: exact(record) for label, record in shown.items()}, alt=alt)

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
# except by chance. So the number of turned images that reach a given correlation tells us
# how many of the pairs found are due to chance {cite}`elias2007`. We take the lowest
# threshold at which at least {glue:text}`wanted:.0%` are not due to chance. Most pairs that
# are alike by chance have different labels, so we check pairs with different labels
# separately.

# %% mystnb={"figure": {"caption": "Images have near-identical neighbours far more often than images turned upside down. Above: number of images with a neighbour at least this similar. Below: the precision that follows, and the thresholds (dotted; where the record has no counts, only the threshold is shown).", "name": "fig-check"}, "image": {"alt": "Counts of images and of images upside down against the correlation of details, and the precision."}}
checks = {k: (r["check"], r["thresholds"]) for k, r in shown.items()}
alt = "Four panels: counts and precision, for all pairs and for pairs with different labels."
tabs.show({k: figures.precision_check(*v) for k, v in checks.items()}, alt=alt)

# %%
near = {k: (r["near-pairs"], r["thresholds"]) for k, r in shown.items()}
tabs.show(
    {
        label: figures.table(
            duplicates.near_summary(*both),
            space="neighbours by",
            asked="pairs with",
            formats={"threshold": "{:.3f}"},
        )
        for label, both in near.items()
    }
)

# %% mystnb={"figure": {"caption": "Judge by eye: training images that are nearly the same and have different labels. Pairs above the threshold are marked (at most 24); the others come closest to it. The number is the correlation of their details.", "name": "fig-near"}, "image": {"alt": "Pairs of nearly identical training images with different class names."}}


def pairs(record):
    found = duplicates.near_conflicts(record["near-pairs"], record["near-below"])
    rows = duplicates.as_images(found)
    captions = rows["class"].astype(str) + rows["similarity"].map("\n{:.3f}".format)
    look = {"marked": rows["above"].to_numpy(bool), "marked_as": "above the threshold"}
    return show(record, rows, captions, sign="+", **look)


alt = (
    "Pairs of similar images, with their classes and the correlation of their details."
)
tabs.show({label: pairs(record) for label, record in shown.items()}, alt=alt)

# %% [markdown]
# (sec-count)=
# ## Where each score ranks them
#
# The place of an image in the ranking of a score is the share of images below it; 1 is the
# top. If the images are the same for all seeds, we average each score over the seeds. We
# count how many of the images with two labels are among the highest of each score, and
# compare with a random list (hypergeometric test). Where no pixels agree exactly, we use
# near duplicates. The tables show the three best scores and some others.

# %%
tabs.show(
    {
        label: figures.table(
            duplicates.main_rows(table).drop(columns=["set", "images", "top"]),
            median_place="median place",
            auroc="AUROC",
            found="among the highest",
            expected="by chance",
            p_value="p",
            formats={"auroc": "{:.3f}", "median_place": "{:.3f}", "p_value": "{:.1g}"},
        )
        for label, table in scored.items()
        if len(table)
    }
)

# %% [markdown]
# In the paper, the curvature of the last epoch does not show such pairs. Its networks see
# augmented images and stay uncertain about many of them. Networks trained without
# augmentation are right on nearly all other images at the end (last column of the first
# table). Then only the images with two labels stay uncertain, and the last epoch finds them
# too.

# %%
by_name = {label: table.set_index("score") for label, table in scored.items()}
curvature = {k: duplicates.found_by(t, "curvature_norm") for k, t in by_name.items()}
page.claim(
    "Curvature averaged over training puts more of the images under two labels near the "
    "top than chance does.",
    {label: duplicates.above_chance(table) for label, table in by_name.items()},
    ours=curvature,
    published="such pairs are among the images of highest curvature (galleries)",
    tolerance="p < 0.001; undecided where there are no such images",
    name="duplicates-found",
)
ranks = {k: duplicates.lowest_rank(r["places"], r["splits"]) for k, r in shown.items()}
page.claim(
    "All images under two labels are among the 200 of highest curvature.",
    {k: None if rank is None else rank <= 200 for k, rank in ranks.items()},
    ours={k: f"the last of them has rank {rank}" for k, rank in ranks.items() if rank},
    tolerance="a goal of ours; undecided with none or more than 40 such images",
    name="duplicates-goal",
)
rivals = {"curvature_last": 0.9, "memorization": 1.0, "cumulative_loss": 1.0}
fewer = {
    score: {k: duplicates.finds_fewer(t, score, share=s) for k, t in by_name.items()}
    for score, s in rivals.items()
}
ours = {s: {k: duplicates.found_by(t, s) for k, t in by_name.items()} for s in rivals}
page.claim(
    "The curvature of the last epoch finds fewer of them than curvature averaged over "
    "training.",
    fewer["curvature_last"],
    ours=ours["curvature_last"],
    published="the last epoch does not show them",
    tolerance="fewer than 0.9 times as many",
    name="last-epoch-misses-duplicates",
)
page.claim(
    "Released memorization scores find fewer of them than curvature does.",
    fewer["memorization"],
    ours=ours["memorization"],
    published="memorization scores do not show them",
    name="memorization-misses-duplicates",
)
page.claim(
    "The cumulative loss finds fewer of them than curvature does.",
    fewer["cumulative_loss"],
    ours=ours["cumulative_loss"],
    name="loss-misses-duplicates",
)

# %% [markdown]
# ## Which label the network learns
#
# Two images with the same pixels get the same output, so their two labels share the
# probability. Does the network choose one of them?

# %% mystnb={"figure": {"caption": "The network moves back and forth between the two labels of an image. Probability of the first label (solid) and of the second label (dashed) of exact duplicates, first seed, at most 9 groups.", "name": "fig-wins"}, "image": {"alt": "Small panels, one for each pair: the probabilities of its two labels against the epoch."}}
alt = "Small panels, one for each pair: the probabilities of its two labels by epoch."
curves = {label: figures.pair_curves(r["curves"]) for label, r in shown.items()}
tabs.show(curves, alt=alt)

# %%
figures.table(
    duplicates.won(shown),
    stronger="probability of the label ahead",
    together="of both labels together",
    turns="changes of the lead in a run",
    first_ahead="first label ahead, all runs",
    same="same label ahead in all runs",
    formats=dict.fromkeys(("stronger", "together"), "{:.2f}") | {"turns": "{:.1f}"},
)

# %% [markdown]
# Values are medians of the probabilities and mean numbers of changes, over all pairs and
# runs. With planted copies, the first label is the original one, which other images of its
# class support.
#
# ## Exercises
#
# ```{exercise}
# :label: ex-equal
# A pair of equal images has the *same* label. Should its curvature be high or low?
# ```
#
# ```{solution} ex-equal
# :class: dropdown
# Low. The two images support each other: training on one also fits the other. They count
# twice in the loss, so the network learns them earlier than a single image of their kind.
# ```
#
# ```{exercise}
# :label: ex-length
# How long must the list of the highest curvature (norm) be to hold nine in ten of the images
# with two labels? Answer for the first data set.
# ```
#
# ```{solution-start} ex-length
# :class: dropdown
# ```

# %% tags=["solution"]
label, record = next(iter(shown.items()))
places = record["places"]["place_curvature_norm"]
round((1 - places.quantile(0.1)) * n[label]["num_images"])

# %% [markdown]
# ```{solution-end}
# ```
#
# Read next: [which score finds wrong labels](/book/pages/mislabelled), where planted
# duplicates are one kind of wrong label; and
# [which images have the highest curvature](/book/pages/gallery).
