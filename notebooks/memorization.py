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
# **In short.** We estimate the memorization of {glue:text}`num_samples` images with
# {glue:text}`num_models` networks, each trained on a random part of the images. The
# curvature of a single network, averaged over training, has a rank correlation of
# {glue:text}`norm_spearman` with these estimates (mean ± standard deviation over
# {glue:text}`num_seeds` seeds). The cumulative loss reaches {glue:text}`loss_spearman`, and
# two halves of the ensemble reach {glue:text}`half_spearman:.3f` with each other.
# {numref}`fig-scores` shows every score.
#
# *Fifteen minutes to read. Read first: [the method](/book/method.md). After this page you
# can estimate a memorization score with its standard error, say how many networks the
# estimate takes, and compare that cost with the cost of one scored training run.*
#
# A training sample is *memorised* if networks get it right when they were trained on it and
# wrong when they were not {cite}`feldman2020`. It takes many networks to see this.
# {cite:t}`garg2024` report that curvature agrees with memorization at a small part of the
# cost. {cite:t}`ravikumar2024` bound memorization by a term that is linear in curvature. We
# check both on a small scale. Our networks are perceptrons with two hidden layers; Feldman
# and Zhang trained thousands of ResNets on all of CIFAR-100 and ImageNet. The definitions
# are the same, and the numbers belong to these networks and these images.

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

from curvlib.book import Page, figures
from curvlib.studies import agreement, memorization

page = Page.begin(In)
record = page.record(memorization.measure)
page.tell(**memorization.numbers(record), num_top=record.parameters.num_top)

# %% [markdown]
# ## A learner whose memorization is known
#
# We first test the estimator on a learner that needs no training. It answers with the label
# of the nearest image that it was given. It is always right on an image that it was given.
# On an image that it was not given, it is right if the nearest image *in its subset* has
# the same label. We can write down the chance of that: the k-th neighbour decides if it is
# in the subset and the first k - 1 neighbours are not, so
#
# $$
# P[h(x_i) = y_i \mid i \notin S] = \sum_k \mathbb{1}[y_{(k)} = y_i] \,
# \frac{m}{N - k} \prod_{j=1}^{k-1} \frac{N - m - j}{N - j}
# $$ (eq-neighbour)
#
# with m of N images in each subset. One minus this sum is the exact memorization of image
# i.

# %% mystnb={"figure": {"caption": "A learner with a known answer: estimates from {glue:text}`num_models` subsets lie around the exact memorization, as their standard errors say ({glue:text}`num_sure` of {glue:text}`num_known` images; for the others all subsets agree).", "name": "fig-known"}, "image": {"alt": "Estimates of memorization with error bars against exact values; the points lie along the diagonal."}}
known = record["nearest-neighbour"].query("standard_error > 0")
ax = figures.lines(known, "exact", "estimate", error="standard_error", joined=False)
_ = ax.plot([0, 1], [0, 1], ":", color=figures.GREY)

# %%
ratio = memorization.error_ratio(known)
page.claim(
    "Standard errors have the size of the errors: their ratio (root mean square) is "
    "between 0.8 and 1.25.",
    0.8 < ratio < 1.25,
    ours=f"{ratio:.2f}",
)

# %% [markdown]
# (sec-ensemble)=
# ## The ensemble
#
# Each network gets exactly {glue:text}`subset_size` of the {glue:text}`num_samples` images.
# Its number alone decides its subset, its first weights and its order of batches. We keep
# two things of each network: which images it was given, and which of all images it gets
# right.

# %%
figures.table(record["accuracy"], formats={"accuracy": "{:.2%}"})

# %%
figures.table(memorization.distribution(record["memorization"]))

# %% [markdown]
# The mean memorization is the gap between the first two rows of the upper table, up to how
# often each image is drawn. A standard error of 0 means that all networks gave the same
# answer on each side. The true value may still be about {glue:text}`smallest:.3f` away.

# %% mystnb={"figure": {"caption": "Most of the {glue:text}`num_samples` images are hardly memorised, and a long tail is (left, logarithmic count; {glue:text}`num_models` networks). The standard error is largest in the middle (right).", "name": "fig-histogram"}, "image": {"alt": "A histogram of memorization, and standard errors against the value."}}
images = record["memorization"].dropna()
value = images["memorization"]
_, (left, right) = figures.panels(height=2.8)
edges = np.linspace(min(value.min(), -0.05), 1, 43)
left.stairs(*np.histogram(value, edges), fill=True, color=figures.COLOURS[0])
left.set(xlabel="memorization", ylabel="images", yscale="log")
right.plot(value, images["standard_error"], ".", ms=3, color=figures.COLOURS[1])
_ = right.set(xlabel="memorization", ylabel="standard error", ylim=(0, None))

# %% [markdown]
# ## The most memorised images
#
# The highest of many estimates are partly high by luck. So the first half of the ensemble
# chooses the images, and the second half, which had no part in the choice, gives the values
# below them.

# %% mystnb={"figure": {"caption": "The most memorised images: label, memorization ± standard error, index. Their mean is {glue:text}`top_first:.3f` by the half that chose them and {glue:text}`top_second:.3f` by the other half.", "name": "fig-memorised"}, "image": {"alt": "Images of highest memorization, each with its label, value, standard error and index."}}
top = record["most-memorised"]
below = {"label": top["class"], "index": top["index"], "score": top["second_half"]}
error = top["second_half_error"]
_ = figures.gallery(record["memorised-images"], **below, error=error, columns=7)

# %% [markdown]
# ## Which training image helps which test image
#
# The influence of training image i on test image j is the same difference, measured at j.
# We search the most memorised training images against all test images. Again the first half
# chooses the pairs and the second half gives their values. Each image is in one pair at
# most.

# %%
counts = record["pair-counts"]
figures.table(
    counts,
    formats=dict.fromkeys(counts, "{:,}"),
    searched="training images searched",
    both_above="influence above 0.15 by both halves",
    both_below="below −0.15 by both halves",
    second_above="above 0.15 by the second half alone",
)

# %% [markdown]
# The last column also counts pairs that are high by luck, which are many among so many
# pairs.

# %% mystnb={"figure": {"caption": "The pairs of highest influence: training image above, test image below it, with the influence of the pair ± standard error, and the index. Their mean is {glue:text}`pairs_first:.2f` by the half that chose them and {glue:text}`pairs_second:.2f` by the other half.", "name": "fig-pairs"}, "image": {"alt": "Two rows of images: training images above, and below each the test image on which it has most influence."}}
pairs, pixels = record["influential-pairs"], record["influential-images"]
below = memorization.in_two_rows(pairs, len(pixels))
_ = figures.gallery(np.concatenate([pixels[:, 0], pixels[:, 1]]), **below, columns=7)

# %%
clear = (pairs["second_half"] > 3 * pairs["standard_error"]).sum()
same = (pairs["train_class"] == pairs["test_class"]).sum()
page.claim(
    "The influence of the strongest pairs is above 0 by more than three standard errors, "
    "and each of them has one label on both sides.",
    min(clear, same) == len(pairs),
    ours=f"{clear} above, {same} with one label, of {len(pairs)}",
)

# %% [markdown]
# ## How many networks does it take?
#
# We take two disjoint parts of the ensemble with M networks each. Their agreement says how
# much of an estimate from M networks another M networks repeat. Most images share one
# place, not memorised at all, and this lowers the agreement of the ranks.

# %% mystnb={"figure": {"caption": "The agreement of two disjoint parts rises with their number of networks M (left). Their standard error, and the error seen, which is their difference over the root of 2, fall together with the root of M (right). Parts of {glue:text}`half` networks: Spearman {glue:text}`half_spearman:.3f`.", "name": "fig-convergence"}, "image": {"alt": "Left, three rising lines of agreement against the number of networks; right, two falling lines on logarithmic axes, the standard error and the error seen."}}
parts = record["convergence"]
_, (left, right) = figures.panels()
measures = ["pearson", "spearman", "top_overlap"]
figures.lines(parts, "networks", measures, log="x", ylabel="agreement", ax=left)
errors = ["rms_standard_error", "rms_error_seen"]
_ = figures.lines(parts, "networks", errors, log="xy", ylabel="error", ax=right)

# %%
enough = parts.loc[parts["pearson"] > 0.9, "networks"]
page.claim(
    "Two parts of 100 networks or fewer have a Pearson correlation above 0.9.",
    enough.min() <= 100,
    ours=f"fewest networks of those tried: {enough.min():.0f}",
)

# %% [markdown]
# ## The scores of one network
#
# Now we train one network for each seed on *all* images, with the same settings, and
# compare every score of this book with the ensemble. High means suspect in every score, so
# AUM changes its sign, and its cosine means nothing. The last rows know nothing of the
# images: random numbers, a constant, and curvature in shuffled order. The overlap of the top
# compares the {glue:text}`num_top` highest values of both lists.

# %%
scored = record["agreement"]
figures.table(agreement.in_words(scored), **agreement.WORDS)

# %% mystnb={"figure": {"caption": "Every score agrees far better with memorization than a random score does (Spearman, {glue:text}`num_samples` images, {glue:text}`num_seeds` seeds); two halves of the ensemble agree at {glue:text}`half_spearman:.3f`.", "name": "fig-scores"}, "image": {"alt": "Dots with error bars: rank correlation of each score with memorization, the best on top, a random score at zero."}}
one_run = scored[scored["kind"] == agreement.SEED]
_ = figures.score_dots(one_run, value="spearman", xlabel="Spearman", chance=0)

# %% [markdown]
# At the end the networks fit at least {glue:text}`fitted:.1%` of all images. The norm of
# curvature has place {glue:text}`place` among {glue:text}`num_scores` scores. Read a cosine
# beside its null values: vectors without negative entries are alike, whatever they say.

# %%
cosine = agreement.cosines(scored)
page.claim(
    "The cosine of curvature with memorization is above that of a constant and above that "
    "of shuffled curvature.",
    cosine.idxmax() == "curvature_norm",
    ours=", ".join(f"{name} {value:.3f}" for name, value in cosine.items()),
)
ranks = agreement.ranking(scored)
page.claim(
    "The cumulative loss, which needs no derivative, ranks the images better.",
    ranks["cumulative_loss"] > ranks["curvature_norm"],
    ours=f"{ranks['cumulative_loss']:.3f} against {ranks['curvature_norm']:.3f}",
)

# %% [markdown]
# ## A straight line?
#
# {cite:t}`ravikumar2024` bound memorization by a term linear in curvature. A bound is not
# an equality, but they find that the two rise together. We sort the images by curvature
# (its norm, averaged over {glue:text}`num_seeds` seeds), make bins of equal numbers of
# images, and fit a straight line to the bins. The line explains
# {glue:text}`bins_r2:.0%` of the variance between bins. A line through all images explains
# {glue:text}`images_r2:.0%` of the variance between images.

# %% mystnb={"figure": {"caption": "Memorization rises with curvature: means of {glue:text}`num_bins` bins of equal numbers of images, ± standard error, with a straight line fitted to the bins (left), and the residuals of the line (right).", "name": "fig-line"}, "image": {"alt": "Left, mean memorization against mean curvature by bins with a straight line; right, the residuals of the line around zero."}}
bins = record["line"]
_, (left, right) = figures.panels()
for column, ax in (("memorization", left), ("residual", right)):
    style = {"error": "standard_error", "joined": False, "xlabel": "curvature, E‖Hv‖"}
    figures.lines(bins, "curvature", column, **style, ax=ax)
left.plot(bins["curvature"], bins["line"], "--", color=figures.COLOURS[1])
_ = right.axhline(0, color=figures.GREY, ls=":")

# %%
fit = record["line-fit"].iloc[0]
page.claim(
    "The bins lie on a rising straight line, as far as their errors can tell: residuals "
    "are less than 1.5 times as large as the errors (root mean square).",
    fit["slope"] > 0 and fit["residual"] < 1.5 * fit["expected"],
    ours=f"slope {fit['slope']:.3g}, {fit['residual']:.4f} against {fit['expected']:.4f}",
)
page.claim("Memorization rises less steeply where curvature is high.", fit["bend"] < 0)
page.claim(
    "A line in the logarithm of curvature explains more of the variance between bins.",
    fit["log_r2"] > fit["bins_r2"],
    ours=f"{fit['log_r2']:.0%} against {fit['bins_r2']:.0%}",
)

# %% [markdown]
# ## What each costs
#
# We count seconds of one core by the clock, for the same images and settings. Other work on
# the machine makes them longer. The ensemble is its first M networks; a run is one training
# with its scores. We compare all of them with the *second* half of the ensemble, so that
# nothing is compared with itself. All seconds of a run count for curvature. Only the
# training counts for the cumulative loss, which can be read off on the way.

# %% mystnb={"figure": {"caption": "The ensemble goes further than single runs, and needs more seconds for it: agreement with its second half ({glue:text}`half` networks) of the first M networks of its first half, and of one to {glue:text}`num_seeds` runs of one network.", "name": "fig-cost"}, "image": {"alt": "Agreement against seconds on a logarithmic axis: a rising line for the ensemble, and short lines for curvature and cumulative loss."}}
spent = record["cost"]
_, axes = figures.panels()
for ax, column in zip(axes, ("spearman", "top_overlap"), strict=True):
    figures.lines(spent, "seconds", column, by="what", log="x", ax=ax)

# %% [markdown]
# The table shows the fewest networks, of the numbers tried, that agree with the second half
# as well as one run does. A dash means that no number that was tried is enough. Many
# networks of the ensemble are trained as one program, so one of them takes only
# {glue:text}`model_seconds:.2f` seconds; all take {glue:text}`ensemble_seconds:.0f`.

# %%
rivals = memorization.as_good_as_one_run(spent)
figures.table(
    rivals.drop(columns=["cheaper", "fewer_trainings"]),
    agreement="agreement of one run",
    trainings="as trainings",
    networks="networks that agree as well",
    ensemble_seconds="their seconds",
)

# %%
curvature, loss = (
    part.set_index("measure") for _, part in rivals.groupby("score", sort=False)
)
page.claim(
    "The curvature of one run takes fewer seconds than an ensemble that ranks as well.",
    curvature["cheaper"]["spearman"],
)
page.claim(
    "It also takes fewer by the Pearson correlation and by the overlap of the top.",
    curvature["cheaper"][["pearson", "top_overlap"]].all(),
)
page.claim(
    "Curvature would be cheaper by all measures if networks were trained one by one.",
    curvature["fewer_trainings"].all(),
)
page.claim(
    "The cumulative loss of the same run agrees at least as well by all three measures.",
    (loss["agreement"] >= curvature["agreement"]).all(),
)

# %% [markdown]
# ## Exercises
#
# 1. *To think about.* An image has a memorization of 1 with a standard error of 0. Add two
#    copies of it to the data set. What happens to its memorization, and to its curvature?
# 2. *To run.* Set `ratio = 0.9`. Which images are memorised less, and how many networks does
#    the same standard error take?
#
# Read next: the same comparison with
# [memorization scores of thousands of networks](/book/pages/feldman_zhang), and
# [which score finds wrong labels](/book/pages/mislabelled).
