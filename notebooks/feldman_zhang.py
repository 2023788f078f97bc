# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Does curvature agree with memorization scores that took thousands of models?
#
# **In short.** Over {glue:text}`num_samples` images the norm of curvature, averaged over
# training, has a rank correlation of {glue:text}`norm_spearman` with the memorization
# scores that {cite:t}`feldman2020` released (mean ± standard deviation over
# {glue:text}`num_seeds` seeds); its square reaches {glue:text}`square_spearman`, and the
# cumulative loss, which needs no derivative, {glue:text}`loss_spearman`. The cosine of
# curvature is {glue:text}`norm_cosine`, where a constant reaches
# {glue:text}`constant_cosine:.3f` and curvature in shuffled order
# {glue:text}`shuffled_cosine:.3f`. Of the networks compared here, the best reaches
# {glue:text}`best_norm:.3f` with curvature and {glue:text}`best_loss:.3f` with the
# cumulative loss. {numref}`fig-scores` shows every score.

# %% tags=["parameters"]
dataset = "cifar100"  # a data set that curvlib.load knows
released = "cifar100_infl_matrix.npz"  # the authors' file, path or name
consistency: str = None  # file of C-scores, None for none
num_train: int = None  # train on the first so many images; None for all
num_heldout = 0  # images of the test split that are scored too, never trained on
seeds = [0, 1]  # one training run each
model = "strided_resnet"  # resnet18, slim_resnet, strided_resnet or mlp
width = 48  # channels of its first stage
epochs = 30  # passes over the training set
lr = 0.1  # learning rate at the start
batch_size = 128  # images in a step
schedule = "cosine"  # of the learning rate; step, cosine or constant
weight_decay = 0.0  # on all weights
augment = False  # random crops and flips
more_settings: dict = None  # further settings of the training, by name
precision = "float32"  # of the training passes; float32 or bfloat16
num_probes = 2  # random directions in a scored epoch, new ones each time
step = 0.001  # finite step h, in units of the normalised input
score_every = 1  # score every epoch, or every second, ...; the last always
num_top = 5000  # length of the lists of highest scores that are compared
runs = "runs"  # folder of the training runs; a finished run is read, not trained again
records: list = None  # records to show; None measures with the values above
results = "results/scratch/feldman_zhang"  # folder of the record that is measured

# %%
from curvlib.book import Page, figures, tabs
from curvlib.studies import agreement, feldman_zhang, published

page = Page.begin(In)
shown = page.records(feldman_zhang.measure)
network, record = next(iter(shown.items()))  # the one that the details are about
networks = feldman_zhang.networks(shown)
best = {f"best_{name}": networks[name].max() for name in ("norm", "loss")}
page.tell(
    **feldman_zhang.numbers(record), **best, num_top=f"{record.parameters.num_top:,}"
)

# %% mystnb={"figure": {"caption": "Every score agrees better with the released memorization than a random score does: Spearman correlation over all {glue:text}`num_samples` images.", "name": "fig-scores"}, "image": {"alt": ""}}
scored = record["agreement"]
style = {"value": "spearman", "xlabel": "Spearman", "chance": 0}
tables = {label: agreement.single_runs(r["agreement"]) for label, r in shown.items()}
dots = {label: figures.score_dots(t, **style).figure for label, t in tables.items()}
alt = "Dots with error bars: rank correlation of each score, the best on top, random at zero."
tabs.show(dots, alt=alt, legend="Network")

# %% [markdown]
# *Ten minutes to read. Read first: [the method](/book/method.md).*
#
# **After this page you can**
#
# - judge an agreement beside its null values;
# - say what averaging over epochs gains;
# - tell noise between runs from a real difference between two scores.
#
# {cite:t}`feldman2020` call a training sample memorised if networks get it right when they
# were trained on it, and wrong when they were not. They measured this with thousands of
# networks. We train one network for each seed and compare its scores with theirs, sample by
# sample. {cite:t}`garg2024` report that curvature averaged over training agrees with
# memorization, and that single epochs agree less. They report the cosine similarity, which
# is high for any two positive vectors. So we show the cosine of a constant and of shuffled
# scores beside it.
#
# (sec-runs)=
# ## The runs
#
# We join the released scores to the images by their labels before we train anything, so a
# file in another order is refused. Each run scores {glue:text}`num_scored` epochs, and at
# the end it fits at least {glue:text}`fitted:.1%` of the training labels. The released
# memorization has a mean of {glue:text}`reference_mean:.3f`.
# {glue:text}`reference_none:.1%` of the images have none of it (0 or below), and
# {glue:text}`reference_all:.1%` have all of it (1).

# %% mystnb={"figure": {"caption": "Memorization and curvature are spread unevenly over the {glue:text}`num_samples` images, in different ways: the released memorization piles up at 0, and curvature has a long tail on a logarithmic axis.", "name": "fig-spread"}, "image": {"alt": "Two histograms: released memorization, with most samples near zero, and curvature on a logarithmic axis."}}
_ = figures.histograms(record["spread"], "quantity", log=["curvature"])

# %% [markdown]
# ## Every score against memorization
#
# We compare each score with the released memorization over all images: rank correlation,
# Pearson correlation, cosine, and the share of the {glue:text}`num_top` highest values that
# both lists have in common. High means suspect in every score, so AUM changes its sign, and
# its cosine means nothing. C-scores are another reference; the section below uses them.

# %%
figures.table(agreement.in_words(scored), **agreement.WORDS)

# %% [markdown]
# When we average over the seeds, the norm of curvature is number {glue:text}`place` of
# {glue:text}`num_scores` scores by rank correlation. The standard error of an image's mean
# over epochs is {glue:text}`epoch_error:.0%` of the mean curvature. So the rank of a single
# image is uncertain, even where the mean of a group of images is not.

# %%
cosine = {label: agreement.cosines(r["agreement"]) for label, r in shown.items()}
page.claim(
    "Curvature agrees with memorization: its cosine with the released scores is above that "
    "of a constant and above that of shuffled curvature.",
    {label: found.idxmax() == "curvature_norm" for label, found in cosine.items()},
    ours={label: figures.listed(found) for label, found in cosine.items()},
    published=published.claim("agrees-with-memorization").published,
    tolerance="mean over seeds; above both null values",
    name="agrees-with-memorization",
)

# %% [markdown]
# (sec-networks)=
# ## Does a network that generalises agree better?
#
# Memorization is defined by images that a network gets wrong when it has not seen them. A
# network that gets most unseen images wrong is a poor judge of which ones need to be
# memorised. The table compares the networks of this page: the share of unseen images that
# each one gets right (a dash: not measured), and the Spearman correlation of its scores
# with memorization, averaged over seeds.

# %%
style = dict.fromkeys(["norm", "epoch", "loss"], "{:.3f}") | {"unseen": "{:.1%}"}
table = networks.reset_index(names="network")
figures.table(table, formats=style, **feldman_zhang.WORDS)

# %%
page.claim(
    "Curvature averaged over training reaches a Spearman correlation of 0.70 with released "
    "memorization.",
    dict(networks["norm"] >= 0.7),
    ours=feldman_zhang.beside(networks, "norm"),
    tolerance="mean over seeds; 0.70 is our goal, not the paper's",
    name="curvature-goal",
)
page.claim(
    "The cumulative loss reaches a Spearman correlation of 0.80 with released memorization.",
    dict(networks["loss"] >= 0.8),
    ours=feldman_zhang.beside(networks, "loss"),
    tolerance="mean over seeds; 0.80 is our goal, not the paper's",
    name="loss-goal",
)
page.claim(
    "The cumulative loss, which needs no derivative, ranks the images better than curvature.",
    dict(networks["loss"] > networks["norm"]),
    ours=feldman_zhang.beside(networks, "loss", "norm"),
    name="loss-ranks-better",
)

# %% [markdown]
# The rest of this page looks at the first network of the table.
#
# ### Another reference
#
# C-scores {cite}`jiang2021` answer nearly the same question in another way: how often do
# networks that were trained *without* an image get it right? The table shows the Spearman
# correlation of the best scores, averaged over seeds, with both references. Dashes mean
# that no file of C-scores was given.

# %%
other = record["agreement-consistency"].set_index("score", drop=False)
figures.table(
    other.loc[[*other.index[:3], "curvature_norm", "random"]],
    formats=dict.fromkeys(other.columns[1:], "{:.3f}"),
    with_irregularity="with 1 − C-score",
)

# %%
both = other.loc["curvature_norm"]
page.claim(
    "Curvature agrees better with 1 − C-score than with memorization.",
    {network: feldman_zhang.above(*both[["with_irregularity", "with_memorization"]])},
    ours=f"{both['with_irregularity']:.3f} against {both['with_memorization']:.3f}",
)

# %% [markdown]
# ## Sample by sample

# %% mystnb={"figure": {"caption": "Memorization rises with the rank of curvature (left) and more clearly with that of the cumulative loss (right), with a wide spread: {glue:text}`num_samples` images, darker cells hold more.", "name": "fig-density"}, "image": {"alt": "Two density plots of released memorization against the rank of curvature and of cumulative loss; both rise from left to right."}}
edges, counts = record["density-edges"], record["density"]
cells = {f"rank of {x}": n for x, n in zip(feldman_zhang.DENSE, counts, strict=True)}
ends = edges["rank"], edges["memorization"]
_ = figures.densities(cells, *ends, ylabel="memorization")

# %% [markdown]
# The next figure shows the mean memorization of twenty bins of equal size, with 95%
# bootstrap intervals. The intervals are narrow because they are those of the mean. Single
# images of a bin vary far more: their standard deviation is {glue:text}`bin_sd:.2f` on
# average.

# %% mystnb={"figure": {"caption": "Mean memorization rises with the rank of each score, in twenty bins with 95% bootstrap intervals; from the lowest to the highest bin of the norm of curvature it goes from {glue:text}`bin_low:.2f` to {glue:text}`bin_high:.2f`.", "name": "fig-bins"}, "image": {"alt": "Three rising lines of mean memorization against the bin of a score's rank."}}
style = {"by": "score", "band": ("low", "high"), "ylabel": "mean memorization"}
_ = figures.lines(record["bins"], "rank", "mean", **style)

# %% [markdown]
# ## Why average over epochs
#
# We compare the curvature of single scored epochs, and its mean over all epochs so far,
# with memorization.

# %% mystnb={"figure": {"caption": "The mean over all epochs so far keeps rising where single epochs fall: Spearman correlation with memorization, mean over {glue:text}`num_seeds` seeds, band: standard deviation.", "name": "fig-epochs"}, "image": {"alt": "Two panels, norm and square of curvature: rank correlation with memorization of single epochs and of the running mean, against the epoch."}}
by_epoch = feldman_zhang.by_epoch(record["epochs"])
names = ("curvature_norm", "curvature_square")
style = {"by": "kind", "band": "sd", "ylabel": "Spearman"}
_ = figures.by_dataset(
    {name: by_epoch[by_epoch["score"] == name] for name in names},
    lambda part, ax: figures.lines(part, "epoch", "mean", **style, ax=ax),
)

# %%
page.claim(
    "Curvature averaged over all epochs agrees better than at any single epoch.",
    dict(networks["norm"] > networks["epoch"]),
    ours=feldman_zhang.beside(networks, "norm", "epoch"),
    name="averaging-agrees-better",
)

# %% [markdown]
# If a network generalises first and memorises later, the best single epoch can be the last
# one before it memorises. The mean mixes this epoch with early ones, in which the network
# knows little, and with late ones, in which it fits every label.

# %% [markdown]
# ## How much of the gap is noise?
#
# A score that a second run does not repeat cannot agree with anything. The agreement $r$ of
# two runs tells how much of a score is a property of the images. Suppose that everything two
# runs do not share is noise. If one run agrees with memorization at $\rho$, the mean of very
# many runs agrees at about $\rho / \sqrt{r}$ {cite}`spearman1904`. By the same rule, the
# last column gives the number of runs whose mean reaches 0.65; a dash means that no number
# of runs does.

# %%
noise = record["noise"]
table, style = feldman_zhang.noise_in_words(noise), {"runs": "{:.1f}"}
figures.table(table, formats=style, runs="runs to reach 0.65")

# %%
gap = feldman_zhang.gap_to_loss(noise)
page.claim(
    "Less than half of the distance between cumulative loss and curvature is noise; the "
    "rest means that the two scores measure different things.",
    {network: feldman_zhang.above(0.5, gap["explained"])},
    ours="{one_seed:.3f} with one seed, {without_noise:.3f} without noise, which explains "
    "{explained:.0%}".format(**gap),
)
repeat = noise.set_index("score")["between_seeds"]
lost = repeat["cumulative_gradient"] - repeat["curvature_norm"]
page.claim(
    "The random probes are not the main reason why runs differ: two runs repeat the "
    "cumulative gradient, which needs none, by less than 0.02 better than curvature.",
    {network: feldman_zhang.above(0.02, lost)},
    ours=f"{repeat['cumulative_gradient']:.3f} against {repeat['curvature_norm']:.3f}",
)

# %% [markdown]
# ## Among the most memorised
#
# Within the {glue:text}`num_top` most memorised images the values lie close together: the
# cosine of a constant is near 1, and it is harder to tell the images apart. Our values are
# means over seeds. The published ones are those of *Towards Memorization Estimation*
# {cite}`ravikumar2025` (ResNet-18, 200 epochs, one value each).

# %%
top, dataset = record["agreement-top"], record.parameters.dataset
beside = feldman_zhang.beside_published(scored, top, dataset)
figures.table(beside, formats=dict.fromkeys(beside.columns[1:], "{:.2f}"))

# %% [markdown]
# ## Where they disagree most
#
# We look at the images whose ranks by curvature and by released memorization lie furthest
# apart. Below each image: memorization, class, curvature with its standard error over seeds
# and epochs, index.


# %%
def show(group):
    """Images of one group of disagreements."""
    part = record["disagreements"].query("group == @group")
    return figures.gallery(
        record["images"][part.index],
        [f"mem {value:.2f}" for value in part["memorization"]],
        label=part["class"].tolist(),
        score=part["curvature"].tolist(),
        error=part["standard_error"].tolist(),
        index=part["index"].tolist(),
    )


# %% mystnb={"figure": {"caption": "High curvature, little released memorization (mean {glue:text}`curvature_only:.2f`): this network found these images hard, but thousands of networks get them right without having seen them.", "name": "fig-only-curvature"}, "image": {"alt": "Twenty images with high curvature and low memorization."}}
_ = show("curvature")

# %% mystnb={"figure": {"caption": "Low curvature, high released memorization (mean {glue:text}`memorization_only:.2f`): thousands of networks needed to see these images, but the loss is flat around them here.", "name": "fig-only-memorization"}, "image": {"alt": "Twenty images with low curvature and high memorization."}}
_ = show("memorization")

# %% [markdown]
# The two groups may differ in their contrast, the standard deviation of an image's pixels:
# its median is {glue:text}`curvature_contrast:.2f` in the first group and
# {glue:text}`memorization_contrast:.2f` in the second. Curvature is measured per unit of
# input. If we stretch the grey values of an image, the same bend of the loss is spread over
# a longer distance, and curvature falls. So contrast is a property of the photograph, not
# of what a network makes of it. The table shows Spearman correlations over all images.

# %%
contrast, words = record["contrast"], "times contrast, with memorization"
style = dict.fromkeys(contrast.columns[1:], "{:.3f}")
figures.table(contrast, formats=style, times_contrast=words)

# %%
norm = contrast.set_index("score").loc["curvature_norm"]
page.claim(
    "Contrast explains a part of what separates curvature from memorization: curvature "
    "times contrast agrees better, by more than 0.005.",
    {network: norm["times_contrast"] > norm["with_memorization"] + 0.005},
    ours=f"{norm['times_contrast']:.3f} against {norm['with_memorization']:.3f}",
)

# %% [markdown]
# ## Exercises
#
# ```{exercise}
# :label: ex-constant
# The cosine of a constant with memorization depends on two numbers only. Which are they,
# and when does it come near 1?
# ```
#
# ```{solution} ex-constant
# :class: dropdown
# It is the mean of the memorization scores divided by their root mean square. With
# standard deviation $s$ and mean $m$ it equals $1 / \\sqrt{1 + (s/m)^2}$. It comes near 1
# where the scores vary little compared with their mean, as among the most memorised images.
# ```
#
# ```{exercise}
# :label: ex-order
# Does the cosine order the scores as the rank correlation does? AUM changes its sign, so
# leave it out.
# ```
#
# ```{solution-start} ex-order
# :class: dropdown
# ```

# %% tags=["solution"]
means = agreement.single_runs(scored).groupby("score")[["cosine", "spearman"]].mean()
means.drop(index=["aum", "aum_softmax"], errors="ignore").corr(method="spearman")

# %% [markdown]
# ```{solution-end}
# ```
#
# Read next: [memorization measured here](/book/pages/memorization), with a standard
# error for each image, and [duplicates under two labels](/book/pages/duplicates).
