# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Which score finds wrong labels best?
#
# **In short.** The loss summed over training needs no derivative. It finds wrong labels
# better than curvature does in {glue:text}`loss_ahead` of {glue:text}`num_sets` sets of
# labels ({numref}`fig-scores`). Its AUROC is {glue:text}`loss_low:.2f` to
# {glue:text}`loss_high:.2f`. Curvature averaged over training, squared as in the paper's
# formula, reaches {glue:text}`square_low:.2f` to {glue:text}`square_high:.2f`, and random
# numbers {glue:text}`random_low:.2f` to {glue:text}`random_high:.2f`. On
# {glue:text}`first_set`, the best of {glue:text}`num_scores` scores is
# {glue:text}`best`, with an AUROC of {glue:text}`auroc_best`; the paper's formula is number
# {glue:text}`rank_square`.

# %% tags=["hide-input"]
from curvlib.book import Page, figures, tabs
from curvlib.studies import mislabelled
from curvlib.studies import wrong_label_claims as judge
from curvlib.studies import wrong_label_tables as read

# %% tags=["parameters"]
dataset = "digits"  # a data set that curvlib.load knows
num_train: int = None  # train on the first so many images; None for all
num_heldout = 0  # test images scored at every scored epoch, never trained on
num_unseen = 2000  # test images, at most, to count accuracy on; 0 needs no test split
noise = "symmetric"  # symmetric, pair, human_aggre, human_worse, human_noisy, ...
noise_rate = 0.1  # share of the labels replaced; ignored for human labels
noise_rates: list = None  # several shares in place of noise_rate
planted_duplicates = 0  # copies under a wrong label, in place of replaced labels
seed = 0  # of the training, of the wrong labels, and of the halves
seeds: list = None  # several seeds in place of seed
model = "slim_resnet"  # resnet18, slim_resnet, strided_resnet, compact_resnet or mlp
width = 16  # channels of its first stage
epochs = 30  # passes over the training set
lr = 0.1  # learning rate at the start
batch_size = 64  # images per step
schedule = "cosine"  # of the learning rate; step, cosine or constant
weight_decay = 0.0  # on all weights
augment = False  # random crops and flips
more_settings: dict = None  # further settings of the training, by name
precision = "float32"  # of the training passes; float32 or bfloat16
num_probes = 2  # random directions a scored epoch, new ones each time
step = 0.001  # finite step h, in units of the normalised input
score_every = 1  # score every epoch, or every second, ...; the last always
second_epochs = 5  # epochs on the second half; 0 trains on no halves
halves_rates: list = None  # noise rates at which halves are trained on; None for all
num_timed = 256  # samples on which the cost of the scores is measured
runs = "runs"  # folder of the training runs; a finished run is read, not trained again
records: list = None  # records to show; None measures with the values above
results = "results/scratch/mislabelled"  # folder of the record that is measured

# %% tags=["hide-input"]
page = Page.begin(In)
shown = page.records(mislabelled.measure)
label, first = next(iter(shown.items()))
page.tell(first_set=label, **read.headline(first["metrics"]))
page.tell(**read.overall(shown.values()))


def each(draw, alt: str = "") -> None:
    """One figure or table for each data set, as tabs."""
    tabs.show({label: draw(record) for label, record in shown.items()}, alt=alt)


# %% mystnb={"figure": {"caption": "The cumulative loss finds wrong labels better than curvature. AUROC of every score at 10% wrong labels, or at the share that the data have. Dots: mean over seeds; whiskers: standard deviation.", "name": "fig-scores"}, "image": {"alt": "Dot plot of the AUROC of each score, sorted, with a line for chance at one half."}}
each(
    lambda record: figures.score_dots(read.at_main(record["metrics"])).figure,
    alt="Dots of the AUROC of each score, sorted, with a line for chance",
)

# %% [markdown]
# *Twelve minutes to read. Read first: [the method](/book/method.md).*
#
# **After this page you can**
#
# - choose a score for checking labels, and say what it costs;
# - judge an AUROC by how well its network generalises;
# - recognise an evaluation that leaks the true labels.
#
# ## Train once, score everything
#
# Some training labels are wrong, and we know which:
#
# - *symmetric noise*: a share of the labels is replaced by another class at random;
# - *next-class noise*: a share of the labels is replaced by the next class;
# - *human labels*: the labels are those that people gave, with their errors;
# - *planted duplicates*: some images occur a second time, under a wrong label.
#
# We train one network for each seed and each share of wrong labels. A run leaves a *trace*:
# loss, margin, input gradient, curvature and more, for every sample at every scored epoch.
# Every score is a reduction of that trace, under the labels that were *trained on*.
# Confident learning and second-split forgetting need two more trainings, on one half of
# the samples and then on the other ([method](/book/method.md)).
#
# The method is about labels that were *memorised*. Were they? And how well does the
# network generalise? If it is right on few unseen images, it memorises many correct
# labels too, and these look like wrong ones. The last column is about second-split
# forgetting: it gives the share of wrong labels that are not forgotten, which all tie.


# %%
def learned(record):
    table = read.what_was_learned(record["fitted"])
    shares = dict.fromkeys(table.columns[2:], "{:.1%}")
    return figures.table(table, formats=shares)


each(learned)

# %% [markdown]
# A planted copy and its original are one image under two labels. No network can be right
# on both, so the next claim cannot hold for planted copies.

# %%
page.claim(
    "Every run memorised at least 95% of its wrong labels.",
    **judge.by_record(shown, judge.named("memorised")),
    name="wrong-labels-memorised",
)

# %% [markdown]
# ## How well does each score rank?
#
# AUROC is the probability that a sample with a wrong label scores above one with a right
# label: 1 is perfect, 0.5 is chance. The table shows mean ± standard deviation over seeds
# for each share of wrong labels. A dash means that a score was not run.


# %%
def by_share(record):
    table = read.by_share(record["metrics"], record["fitted"])
    return figures.table(read.few(table))


each(by_share)

# %% [markdown]
# Seeds differ in their wrong labels and in their network, which moves all scores together.
# So we judge the difference of two scores seed by seed: a claim holds if Student's 95%
# interval lies above zero.

# %%
page.claim(
    "Averaging curvature over training beats the last epoch.",
    **judge.by_record(shown, judge.named("average")),
    name="averaging-helps",
)
page.claim(
    "Averaging beats the epoch at which curvature peaks.",
    **judge.by_record(shown, judge.named("peak")),
    name="averaging-beats-the-peak",
)
page.claim(
    "Curvature ranks wrong labels better than chance, at every share.",
    **judge.by_record(shown, judge.named("chance")),
    name="wrong-labels-chance",
)

# %% [markdown]
# ## What matters when you check labels?
#
# *Average precision* is the area under the precision–recall curve. *FPR at 95% TPR* is the
# share of correctly labelled samples that you look at before you find 95% of the wrong
# labels. *Missed* is the share of wrong labels that you miss if you look at as many samples
# as there are wrong labels. Lower is better for these two. *Trainings* is the cost of
# training and scoring one run; training alone costs 1.


# %%
def for_checking(record):
    table = read.for_checking(read.at_main(record["metrics"]), record["cost"])
    table = read.few(table)[["score", *read.MEASURES, "trainings"]]
    words = {"fpr_at_95_tpr": "FPR at 95% TPR", "false_negative_rate": "missed"}
    formats = {"trainings": "{:.2f}"}
    return figures.table(table, formats=formats, **words)


each(for_checking)

# %% [markdown]
# This table has every score with all its numbers: AUROC at each share of wrong labels, then
# the other measures at the main share. Two scores that give the same order, such as the
# final loss and the probability at the last epoch, count as one. Forgetting events, learning
# time and second-split forgetting take few values, so most samples tie.


# %%
def everything(record):
    return figures.sortable_table(*read.all_numbers(record), caption="All scores.")


each(everything)

# %% [markdown]
# ## What is suspected most, and what fools each method?
#
# Below each image is the label given; a wrong one is marked (≠). The first figure shows the
# samples with the highest curvature. In the second, a few methods have a row each: *false
# alarms* are right labels that the method suspects most, and *missed* are wrong labels that
# it suspects least, with their rank (1 is most suspect). An image that fools all methods is
# hard; one that fools a single method tells us about that method.


# %%
def images_of(record, chosen, **more):
    """Images of the first seed by index, with the label given."""
    kept = record["scores.parquet"]
    kept = kept[kept["seed"] == kept["seed"].iloc[0]].set_index("index").loc[chosen]
    names = record["classes"]["class"].astype(str).to_numpy()
    place = {index: i for i, index in enumerate(record["shown"]["index"])}
    return figures.gallery(
        record["images"][[place[index] for index in chosen]],
        label=names[kept["label"]],
        marked=(kept["label"] != kept["original_label"]).to_numpy(),
        marked_as="label wrong",
        **more,
    )


# %% mystnb={"figure": {"caption": "The samples with the highest curvature, first seed, with their index.", "name": "fig-top"}, "image": {"alt": "The training images with the highest curvature; those with wrong labels are framed."}}
def highest(record):
    top = record["top"]["index"].to_numpy()[:20]
    return images_of(record, top, index=top)


each(highest, alt="The training images with the highest curvature")


# %% mystnb={"figure": {"caption": "What fools one method need not fool another. First seed; a row for each of a few methods, with right labels that it suspects most, then wrong labels that it suspects least. Several samples can tie at a rank.", "name": "fig-fooled"}, "image": {"alt": "Rows of ten images, one row for each method: five with right labels that it suspects most, five with wrong labels that it suspects least."}}
def fooled(record):
    found, layout = read.fooling(record["fooled"])
    return images_of(record, found["index"].to_numpy(), **layout)


each(fooled, alt="Images that fool each method")

# %% [markdown]
# ## How close do honest labels come to the published numbers?
#
# The re-run by Ravikumar et al. {cite}`ravikumar2025` trained ResNet-18 for 200 epochs on all
# images. Ours come from smaller networks and often from fewer images. There are two
# reasons why our values may lie below the published ones.
#
# - *The network.* Ours may generalise less, and so memorise more correct labels.
# - *A leak.* Whoever scores a trained network needs the labels that it was *trained on*. The
#   released scoring script does not pass on the noise settings of the training run. A
#   script that loads the data set again scores mislabelled samples under their *true*
#   labels, without any warning. The true label surprises a network that memorised the
#   wrong one.
#
# We can measure what the leak would do. The table shows AUROC under the labels trained on,
# under the true labels, and as published.


# %%
def leaked(record):
    table = read.leak(record["metrics"], record["leaked"], record["fitted"])
    table = read.few(table).drop(columns="nearer")
    formats = dict.fromkeys(["given", "true", "published"], "{:.3f}")
    words = {"given": "labels trained on", "true": "true labels"}
    return figures.table(table, formats=formats | {"change": "{:+.3f}"}, **words)


each(leaked)

# %%
page.claim(
    "Honest labels come within 0.01 of the published AUROC of curvature and of the "
    "cumulative loss.",
    **judge.by_record(shown, judge.honest_is_close),
    published="Ravikumar et al. (2025)",
    name="honest-labels-reach-published",
)
page.claim(
    "The leak raises the AUROC of every score that looks at the label.",
    **judge.by_record(shown, judge.named("leak")),
    name="leak-raises-auroc",
)
page.claim(
    "With the leak, every score with a published value comes nearer to it.",
    **judge.by_record(shown, judge.named("nearer")),
    name="leak-comes-nearer",
)

# %% [markdown]
# Where honest labels come close, the leak is not needed to explain the published number.
# Where they stay below, this experiment cannot tell the two reasons apart: with the leak,
# nearly every score is close to 1, and so near to any high value. Compare settings whose
# networks are right on many unseen images, and see [when does curvature find wrong
# labels?](/book/pages/regime)
#
# ## Does curvature add anything to what is cheaper?
#
# The mean of ranks combines scores without knowing the truth. A logistic regression on
# ranks is fitted with the *truth* on four fifths of the samples and tested on the last
# fifth. In practice nobody has the truth, so it only shows what a combination could reach.

# %%
each(
    lambda record: figures.table(
        read.combinations(record["combined"], record["cost"]),
        formats={"trainings": "{:.2f}"},
    )
)
page.claim(
    "Curvature adds 0.01 to the AUROC of cheaper scores, in at least one combination.",
    **judge.by_record(shown, judge.named("adds")),
    name="curvature-adds",
)

# %% [markdown]
# ## Planted duplicates
#
# A copy of an image under a wrong label makes its original hard to learn too, so the
# published evaluation counts both images as positives. To repair labels, you need to find
# the copy alone.

# %%
planted = {label: r for label, r in shown.items() if "planted" in r}
if planted:
    both = {
        n: read.planted_beside(r["planted"], r["fitted"]) for n, r in planted.items()
    }
    tabs.show({n: figures.table(read.few(t)) for n, t in both.items()})
page.claim(
    "The network is less sure of planted images than of all others.",
    **judge.by_record(planted, judge.named("planted")),
    name="unsure-of-planted",
)

# %% [markdown]
# ## Exercises
#
# ```{exercise} Half right
# :label: labels-half
# A network is right on half of the images that it never saw. Why do many samples with
# right labels then look like wrong ones to every score?
# ```
#
# ```{solution} labels-half
# :class: dropdown
# Such a network cannot infer half of the images from the others. It memorises many training
# images one by one, just as it memorises wrong labels. For both, loss, margin and
# curvature change late.
# ```
#
# ```{exercise} The work of checking
# :label: labels-work
# You look at as many images as there are wrong labels. Which three scores miss the fewest
# wrong labels on the first data set of this page?
# ```
#
# ```{solution-start} labels-work
# :class: dropdown
# ```

# %% tags=["solution"]
main = read.at_main(first["metrics"])
missed = main.groupby("score")["false_negative_rate"].mean().nsmallest(3)
figures.table(missed.reset_index(), false_negative_rate="missed")

# %% [markdown]
# ```{solution-end}
# ```
#
# Read next: [which claims hold over all data sets?](/book/pages/mislabel_summary), and [when
# does curvature find wrong labels?](/book/pages/regime)
