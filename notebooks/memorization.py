# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Does curvature agree with memorization that is measured here?
#
# **In short.** We estimate memorization with thousands of small networks, each trained on a
# random part of the images. The curvature of a *single* network, averaged over training, has
# a rank correlation of {glue:text}`low:.2f` to {glue:text}`high:.2f` with these estimates,
# depending on the data set. The cumulative loss reaches {glue:text}`loss_low:.2f` to
# {glue:text}`loss_high:.2f` ({numref}`fig-scores`). Two halves of an ensemble agree with each
# other at {glue:text}`half_low:.2f` to {glue:text}`half_high:.2f`.

# %% tags=["parameters"]
dataset = "digits"  # a data set that curvlib.load knows
num_train: int = None  # the first so many images; None for all
num_test: int = None  # the first so many of the test split; None for all
num_models = 2000  # networks in the ensemble
ratio = 0.7  # share of the images that each network is trained on
models_at_once = 100  # networks trained as one program on one core
n_jobs = -1  # such programs at a time; -1 for one on each core
ensemble_seed = 0  # of the subsets and networks of the ensemble
seeds = [0, 1, 2]  # one training run each, on all images, for the scores
model = "mlp"  # a network without batch norm
width = 32  # units of a hidden layer
epochs = 20  # passes over the training set
lr = 0.1  # learning rate at the start
batch_size = 64  # images in a step
schedule = "cosine"  # of the learning rate; step, cosine or constant
weight_decay = 0.0  # on all weights
num_probes = 2  # random directions in a scored epoch, new ones each time
step = 0.001  # finite step h, in units of the normalised input
score_every = 1  # score every epoch, or every second, ...; the last always
num_top = 100  # length of the lists of highest scores that are compared
num_influence = 500  # most memorised images whose influence is measured
runs = "runs"  # folder of the training runs; a finished run is read, not trained again
records: list = None  # records to show; None measures with the values above
results = "results/scratch/memorization"  # folder of the record that is measured

# %%
import numpy as np

from curvlib.book import Page, figures, tabs
from curvlib.studies import agreement, memorization

page = Page.begin(In)
shown = page.records(memorization.measure)
n = {label: memorization.numbers(record) for label, record in shown.items()}
ranks = {label: agreement.ranking(r["agreement"]) for label, r in shown.items()}


def each(show):
    return {label: show(record) for label, record in shown.items()}


# %% mystnb={"figure": {"caption": "Every score agrees far better with memorization than a random score does. Spearman correlation over all images; one dot for each score, mean and standard deviation over seeds.", "name": "fig-scores"}, "image": {"alt": "Dots with error bars: rank correlation of each score with memorization."}}


def dots(record):
    scored = record["agreement"]
    one_run = scored[scored["kind"] == agreement.SEED]
    look = {"value": "spearman", "xlabel": "Spearman", "chance": 0}
    return figures.score_dots(one_run, **look).figure


alt = "Rank correlation of each score with memorization, best on top, random at zero."
tabs.show(each(dots), alt=alt)

# %%
page.tell(
    low=min(found["curvature_norm"] for found in ranks.values()),
    high=max(found["curvature_norm"] for found in ranks.values()),
    loss_low=min(found["cumulative_loss"] for found in ranks.values()),
    loss_high=max(found["cumulative_loss"] for found in ranks.values()),
    half_low=min(found["half_spearman"] for found in n.values()),
    half_high=max(found["half_spearman"] for found in n.values()),
)

# %% [markdown]
# *Fifteen minutes to read. Read first: [the method](/book/method.md).*
#
# **After this page you can**
#
# - estimate a memorization score with its standard error;
# - say how many networks the estimate takes;
# - compare that cost with the cost of one scored training run.
#
# A training sample is *memorised* if networks get it right when they were trained on it and
# wrong when they were not {cite}`feldman2020`. It takes many networks to see this.
# {cite:t}`garg2024` report that curvature agrees with memorization at a small part of the
# cost. {cite:t}`ravikumar2024` bound memorization by a term that is linear in curvature. We
# check both on a small scale. Our networks are perceptrons with two hidden layers; Feldman
# and Zhang trained thousands of ResNets on all of CIFAR-100 and ImageNet. The definitions
# are the same, but the numbers hold only for these networks and these images.
#
# ## A learner whose memorization is known
#
# We first test the estimator on a learner that needs no training: it predicts the label of
# the nearest image in its subset. It is always right on an image of its subset. On any other
# image, it is right if the nearest image *in its subset* has the same label. We can compute
# the probability of that: the k-th neighbour decides if it is in the subset and the first
# k − 1 neighbours are not, so
#
# $$
# P[h(x_i) = y_i \mid i \notin S] = \sum_k \mathbb{1}[y_{(k)} = y_i] \,
# \frac{m}{N - k} \prod_{j=1}^{k-1} \frac{N - m - j}{N - j}
# $$ (eq-neighbour)
#
# with m of N images in each subset. One minus this sum is the exact memorization of image
# i.

# %% mystnb={"figure": {"caption": "The estimates scatter around the exact memorization as their standard errors predict. Images for which all subsets agree are left out.", "name": "fig-known"}, "image": {"alt": "Estimates of memorization with error bars against exact values."}}
known = each(lambda r: r["nearest-neighbour"].query("standard_error > 0"))


def draw(points, ax):
    look = {"error": "standard_error", "joined": False}
    figures.lines(points, "exact", "estimate", **look, ax=ax)
    ax.plot([0, 1], [0, 1], ":", color=figures.GREY)


_ = figures.by_dataset(known, draw)

# %%
ratio = {label: memorization.error_ratio(points) for label, points in known.items()}
page.claim(
    "Standard errors predict the size of the errors: the ratio of the two (root mean "
    "square) is between 0.8 and 1.25.",
    {label: 0.8 < value < 1.25 for label, value in ratio.items()},
    ours={label: f"{value:.2f}" for label, value in ratio.items()},
)

# %% [markdown]
# (sec-ensemble)=
# ## The ensemble
#
# Each network is trained on a random subset of the images, of a fixed size. The number of
# the network determines its subset, its initial weights and the order of batches. We record
# two things for each network: which images it was trained on, and which images it gets
# right.

# %%
figures.table(memorization.ensembles(shown))

# %% [markdown]
# The mean memorization is the gap between the accuracy on images trained on and on images
# left out. A standard error of 0 means that all networks on each side gave the same answer.
# The true value may still differ by the amount in the last row.

# %% mystnb={"figure": {"caption": "Most images are hardly memorised; a long tail of images is. Number of images by memorization, logarithmic count.", "name": "fig-histogram"}, "image": {"alt": "One histogram of memorization for each data set, with a peak at zero and a long tail."}}


def histogram(images, ax):
    value = images["memorization"].dropna()
    edges = np.linspace(min(value.min(), -0.05), 1, 43)
    ax.stairs(*np.histogram(value, edges), fill=True, color=figures.COLOURS[0])
    ax.set(xlabel="memorization", ylabel="images", yscale="log")


_ = figures.by_dataset(each(lambda r: r["memorization"]), histogram, share="")

# %% [markdown]
# ## The most memorised images
#
# The highest of many estimates are partly high by luck. So we choose the images with the
# first half of the ensemble. The values below them come from the second half, which had no
# part in the choice.

# %% mystnb={"figure": {"caption": "The most memorised images: label, memorization ± standard error, index.", "name": "fig-memorised"}, "image": {"alt": "Images of highest memorization, each with its label, value, standard error and index."}}


def most(record):
    top = record["most-memorised"]
    below = {"label": top["class"], "index": top["index"], "score": top["second_half"]}
    below["error"] = top["second_half_error"]
    return figures.gallery(record["memorised-images"], **below, columns=7)


alt = "Images of highest memorization, with label, value, standard error and index."
tabs.show(each(most), alt=alt)

# %% [markdown]
# ## Which training image helps which test image
#
# The influence of training image i on test image j is the same difference, measured on j.
# We compute the influence of the most memorised training images on all test images. Again
# we choose the pairs with the first half, and their values come from the second half. Each
# image is in at most one pair.

# %% mystnb={"figure": {"caption": "The pairs with the highest influence: training image above, test image below, with influence ± standard error, and the index.", "name": "fig-pairs"}, "image": {"alt": "Two rows of images: training images above, and below each the test image on which it has most influence."}}


def influence(record):
    pairs, pixels = record["influential-pairs"], record["influential-images"]
    below = memorization.in_two_rows(pairs, len(pixels))
    both = np.concatenate([pixels[:, 0], pixels[:, 1]])
    return figures.gallery(both, **below, columns=7)


alt = "Training images above, and below each the test image that it influences most."
tabs.show(each(influence), alt=alt)

# %%
clear = each(lambda r: memorization.clear_pairs(r["influential-pairs"]))
page.claim(
    "The influence of the strongest pairs is more than three standard errors above 0, and "
    "both images of each pair have the same label.",
    {label: min(found[:2]) == found[2] for label, found in clear.items()},
    ours={
        k: "{} above, {} with one label, {} pairs".format(*v) for k, v in clear.items()
    },
)

# %% [markdown]
# ## How many networks does it take?
#
# We take two disjoint parts of the ensemble with M networks each. Their agreement tells how
# well M other networks would reproduce an estimate from M networks. Most images are not
# memorised at all and tie at 0, which lowers the agreement of the ranks.

# %% mystnb={"figure": {"caption": "Two disjoint parts agree better, the more networks they have.", "name": "fig-convergence"}, "image": {"alt": "Rising lines of agreement against the number of networks."}}
measures = {"y": ["pearson", "spearman", "top_overlap"], "ylabel": "agreement"}
_ = figures.by_dataset(
    each(lambda r: r["convergence"]),
    lambda parts, ax: figures.lines(parts, "networks", log="x", ax=ax, **measures),
)

# %% [markdown]
# ## The scores of one network
#
# Now we train one network for each seed on *all* images, with the same settings, and
# compare every score of this book with the ensemble. High means suspect in every score, so
# AUM changes its sign, and its cosine means nothing. The last rows are null values, which
# know nothing about the images: random numbers, a constant, and curvature in shuffled
# order. Compare every cosine with them: the cosine of two vectors without negative entries
# is high, whatever they contain.

# %%
words = each(lambda r: agreement.in_words(r["agreement"]))
tabs.show({k: figures.table(v, **agreement.WORDS) for k, v in words.items()})

# %%
cosine = each(lambda r: agreement.cosines(r["agreement"]))
page.claim(
    "The cosine of curvature with memorization is above that of a constant and above that "
    "of shuffled curvature.",
    {label: found.idxmax() == "curvature_norm" for label, found in cosine.items()},
    ours={k: f"{v['curvature_norm']:.3f}" for k, v in cosine.items()},
)
page.claim(
    "The cumulative loss, which needs no derivative, ranks the images better.",
    {k: r["cumulative_loss"] > r["curvature_norm"] for k, r in ranks.items()},
)

# %% [markdown]
# ## A straight line?
#
# {cite:t}`ravikumar2024` bound memorization by a term linear in curvature. A bound is not
# an equality, but they find that the two rise together. We sort the images by curvature
# (the norm, averaged over seeds), form bins with equal numbers of images, and fit a
# straight line to the bins.

# %% mystnb={"figure": {"caption": "Memorization rises with curvature. Means of bins of equal numbers of images, ± standard error, with a straight line fitted to the bins.", "name": "fig-line"}, "image": {"alt": "Mean memorization against mean curvature by bins, with a straight line."}}


def line(bins, ax):
    look = {"error": "standard_error", "joined": False, "xlabel": "curvature, E‖Hv‖"}
    figures.lines(bins, "curvature", "memorization", **look, ax=ax)
    ax.plot(bins["curvature"], bins["line"], "--", color=figures.COLOURS[1])


_ = figures.by_dataset(each(lambda r: r["line"]), line, share="")

# %%
fit = each(lambda r: r["line-fit"].iloc[0])
page.claim(
    "The bins lie on a rising straight line, within their errors: residuals are less than "
    "1.5 times as large as the errors (root mean square).",
    {k: f["slope"] > 0 and f["residual"] < 1.5 * f["expected"] for k, f in fit.items()},
    ours={
        k: f"{f['residual']:.4f} against {f['expected']:.4f}" for k, f in fit.items()
    },
)
page.claim(
    "Memorization rises less steeply where curvature is high.",
    {label: found["bend"] < 0 for label, found in fit.items()},
)

# %% [markdown]
# ## What each costs
#
# We count wall-clock seconds on one core, for the same images and settings. Other work on
# the machine makes them longer. The ensemble consists of the first M networks; a run is one
# training with its scores. We compare all of them with the *second* half of the ensemble,
# so that nothing is compared with itself. For curvature we count all seconds of a run. For
# the cumulative loss we count only the training, which gives the losses anyway.

# %% mystnb={"figure": {"caption": "A large ensemble agrees better than single runs, but takes longer. Agreement with the second half of the ensemble, against seconds.", "name": "fig-cost"}, "image": {"alt": "Agreement against seconds on a logarithmic axis: a rising line for the ensemble, short lines for curvature and cumulative loss."}}
spent = {"by": "what", "log": "x"}
_ = figures.by_dataset(
    each(lambda r: r["cost"]),
    lambda cost, ax: figures.lines(cost, "seconds", "spearman", **spent, ax=ax),
)

# %%
rivals = each(lambda r: memorization.verdicts(r["cost"]))
page.claim(
    "The curvature of one run takes fewer seconds than an ensemble that ranks as well.",
    {label: found["cheaper"] for label, found in rivals.items()},
    tolerance="Spearman correlation with the second half of the ensemble",
)
page.claim(
    "Curvature would be cheaper by all measures if networks were trained one by one.",
    {label: found["fewer trainings"] for label, found in rivals.items()},
    tolerance="Spearman, Pearson and overlap of the top",
)
page.claim(
    "The cumulative loss of the same run agrees at least as well by all three measures.",
    {label: found["loss as good"] for label, found in rivals.items()},
)

# %% [markdown]
# ## Exercises
#
# ```{exercise}
# :label: ex-copies
# An image has a memorization of 1 with a standard error of 0. Add two copies of it to the
# data set. What happens to its memorization, and to its curvature?
# ```
#
# ```{solution} ex-copies
# :class: dropdown
# Its memorization falls to nearly 0: a network that was not given the image was probably
# given one of the copies, and gets it right. Its curvature falls too, since three equal
# images are learned earlier and with more confidence than one.
# ```
#
# ```{exercise}
# :label: ex-tail
# What share of all memorization is in the tenth of the images that are memorised most?
# Answer for the first data set.
# ```
#
# ```{solution-start} ex-tail
# :class: dropdown
# ```

# %% tags=["solution"]
value = next(iter(shown.values()))["memorization"]["memorization"].dropna()
value.nlargest(len(value) // 10).sum() / value.sum()

# %% [markdown]
# ```{solution-end}
# ```
#
# Read next: the same comparison with
# [memorization scores of thousands of networks](/book/pages/feldman_zhang), and
# [which score finds wrong labels](/book/pages/mislabelled).
