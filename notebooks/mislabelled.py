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
# **In short.** The best of {glue:text}`num_scores` scores is {glue:text}`best`, with an
# AUROC of {glue:text}`auroc_best` at {glue:text}`share:.1%` wrong labels
# ({glue:text}`kind`, mean ± standard deviation over {glue:text}`num_seeds` seeds).
# Curvature averaged over training, squared as in the paper's formula, reaches
# {glue:text}`auroc_square` and is number {glue:text}`rank_square`. The cumulative loss,
# which needs no derivative, reaches {glue:text}`auroc_loss`, and random numbers
# {glue:text}`auroc_random`. {numref}`fig-scores` compares all scores.
#
# *Twelve minutes to read. Read first: [the method](/book/method.md). After this page you
# can choose a score for checking labels, say what it costs, and recognise an evaluation
# that leaks the true labels.*

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
batch_size = 64  # images a step
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

# %%
from IPython.display import display

from curvlib.book import Page, figures
from curvlib.studies import mislabelled
from curvlib.studies import wrong_label_claims as judge
from curvlib.studies import wrong_label_tables as read

page = Page.begin(In)
record = page.record(mislabelled.measure)
found, fitted = record["metrics"], record["fitted"]
main = read.at_main(found)  # at 10 % wrong labels, or else at the largest share
claims = judge.of_record(record)
page.tell(**read.headline(found, fitted))

# %% [markdown]
# ## Train once, score everything
#
# Some training labels are wrong, and we know which. They are wrong in one of four ways:
#
# - `symmetric`: a share of the labels is replaced by another class, each equally likely;
# - `pair`: a share of the labels is replaced by the next class, always the same one;
# - `human_...`: the labels are those that people gave, errors included;
# - `planted_duplicates`: some images are in the training set a second time, under a wrong
#   label.
#
# Wrong labels on this page: {glue:text}`kind`. We train one network for each seed and
# each share of wrong labels. A run leaves a *trace*: loss, margin, input gradient,
# curvature and more, for every sample at every scored epoch. Every score is a reduction
# of that trace, under the labels that were *trained on*. Confident learning and
# second-split forgetting need a second training, on one half of the samples and then on
# the other ([method](/book/method.md)).
#
# The method is about labels that were *memorised*. Were they? The last column is about
# the second training: the share of the wrong labels that the network still gives after
# its last epoch on the other half. These samples all tie in second-split forgetting.

# %%
shares = dict.fromkeys(read.what_was_learned(fitted).columns[2:], "{:.1%}")
figures.table(read.what_was_learned(fitted), formats=shares)

# %% [markdown]
# A planted copy and its original are one image under two labels. No network can be right
# on both, so the next claim cannot hold for planted copies.

# %%
page.claim(
    "Every run memorised at least 95 % of its wrong labels.", **claims["memorised"]
)

# %% [markdown]
# ## How well does each score rank?
#
# AUROC is the probability that a sample with a wrong label scores above one with a right
# label: 1 is perfect, and 0.5 is what random numbers get.

# %% mystnb={"figure": {"caption": "At {glue:text}`share:.1%` wrong labels the score with the highest AUROC is {glue:text}`best`; curvature, squared, is number {glue:text}`rank_square` of {glue:text}`num_scores`, and its plain norm number {glue:text}`rank_norm`. Dots: mean over {glue:text}`num_seeds` seeds; whiskers: standard deviation.", "name": "fig-scores"}, "image": {"alt": "Dot plot of the AUROC of each score, sorted, with a line for chance at one half."}}
_ = figures.score_dots(main)

# %% [markdown]
# The table shows AUROC, mean ± standard deviation over {glue:text}`num_seeds` seeds, for
# each share of wrong labels. A dash means that a score was not run: confident learning
# and second-split forgetting take two more trainings for each run (`second_epochs`,
# `halves_rates`). With several shares, a figure follows.

# %%
figures.table(read.few(read.by_share(found, fitted)))

# %% mystnb={"figure": {"caption": "AUROC against the share of wrong labels. `curvature_square` averages over training, `curvature_last` looks at the last epoch alone. One line for each score; band: standard deviation over {glue:text}`num_seeds` seeds.", "name": "fig-noise"}, "image": {"alt": "Lines of AUROC against the share of wrong labels, with curvature, cumulative loss, AUM and the last-epoch score highlighted."}}
several = found["noise_rate"].nunique()
whole = found[found.groupby("score")["noise_rate"].transform("nunique") == several]
shown = ["curvature_square", "curvature_last", "cumulative_loss", "aum", "random"]
if several > 1:
    _ = figures.auroc_by_noise(whole, highlight=shown)

# %% [markdown]
# Differences between scores are judged seed by seed, since seeds differ in their wrong
# labels and in their network, which moves all scores together.

# %%
page.claim(
    "Curvature averaged over training ranks wrong labels better than chance.",
    **claims["chance"],
)
page.claim("Averaging over training beats the last epoch.", **claims["average"])
page.claim("Averaging beats the epoch at which curvature peaks.", **claims["peak"])
page.claim("The cumulative loss beats curvature.", **claims["loss"])

# %% [markdown]
# ## What somebody asks who checks labels
#
# Somebody who checks labels by hand asks how much work a score saves. *Average precision*
# is the area under the precision–recall curve. *FPR at 95 % TPR* is the share of good
# samples to look at in order to find 95 % of the wrong labels. *Missed* is the share of
# the wrong labels that are not among the first, if we look at as many samples as there
# are wrong labels. For the last two, lower is better.

# %%
asked = read.for_checking(main, record["cost"])
figures.table(
    read.few(asked)[["score", "interval", *read.MEASURES]],
    interval="AUROC, interval over samples",
    fpr_at_95_tpr="FPR at 95 % TPR",
    false_negative_rate="missed",
)

# %%
page.claim(
    "Curvature puts nearly all wrong labels at the top: it misses at most a tenth.",
    **claims["top"],
    published="nearly all at the top (Garg et al., 2024)",
)

# %% [markdown]
# The next table shows what that costs. *Difference* is that of the AUROC to squared
# curvature within the same run, with Student's 95 % interval over seeds. *Trainings*
# counts training and scoring of one run, where training alone is 1, from ratios that were
# measured on these networks; *seconds* is the same for the fastest run.

# %%
figures.table(
    read.few(asked)[["score", "difference", "trainings", "seconds"]],
    formats={"trainings": "{:.2f}", "seconds": "{:.0f}"},
    difference="AUROC minus that of curvature",
)

# %% [markdown]
# Here are all scores with all their numbers. `final_loss` and `in_confidence_last` give
# the same ranking, since one is a function of the other, and count as one score. Where
# every sample is fitted, `in_confidence_max_last` gives it too. `gauss_newton` is the
# exact curvature at the last epoch, which does not see the label. `forgetting_events`,
# `learning_time` and `second_split_forgetting` take few values, so that most samples tie:
# then FPR at 95 % TPR can be 1, and AUROC can lie below one half. Forgetting is counted
# between scored epochs (`score_every`).

# %%
figures.sortable_table(
    *read.all_numbers(record), caption="AUROC at each share, then the main share alone."
)

# %%
page.claim(
    "The bootstrap interval of the random score holds one half in most runs.",
    **claims["random"],
)

# %% [markdown]
# ## What separates, and what does not

# %% mystnb={"figure": {"caption": "Curvature (mean tr(H²) over training) of samples with wrong labels and of the others, first seed, at {glue:text}`share:.1%` wrong labels: AUROC {glue:text}`first_auroc:.3f`, 95 % bootstrap interval {glue:text}`first_interval`.", "name": "fig-distributions"}, "image": {"alt": "Two histograms of curvature on a logarithmic axis; one of the samples with wrong labels, one of the others."}}
kept = record["scores.parquet"]
first = kept[kept["seed"] == kept["seed"].iloc[0]].set_index("index")
wrong = first["label"] != first["original_label"]
row = main[main["score"] == "curvature_square"].iloc[0]
page.tell(
    first_auroc=row["auroc"], first_interval=f"{row['low']:.3f} to {row['high']:.3f}"
)
_ = figures.distributions(
    first["curvature_square"].to_numpy(),
    {"label right": ~wrong.to_numpy(), "label wrong": wrong.to_numpy()},
    xlabel="curvature, mean tr(H²) over epochs",
)

# %% [markdown]
# These are the samples that curvature suspects most. Each has the label given, the score
# and the index in the data set below it.

# %% mystnb={"figure": {"caption": "The {glue:text}`num_top` samples with the highest curvature, first seed: {glue:text}`top_hits` of them carry a wrong label (≠).", "name": "fig-top"}, "image": {"alt": "The training images with the highest curvature; those with wrong labels are framed."}}
names = record["classes"]["class"].astype(str).to_numpy()
place = {index: i for i, index in enumerate(record["shown"]["index"])}


def show(chosen, captions=None, **more):
    """Images by index, with the label given; wrong labels are marked."""
    return figures.gallery(
        record["images"][[place[i] for i in chosen]],
        captions,
        label=names[first["label"][chosen]],
        marked=wrong[chosen].to_numpy(),
        marked_as="label wrong",
        **more,
    )


top = record["top"]["index"].to_numpy()
page.tell(num_top=len(top), top_hits=int(wrong[top].sum()))
_ = show(top, score=first["curvature_square"][top].to_numpy(), index=top)

# %% [markdown]
# ## The images that fool each method
#
# For each method we show the five samples with a right label that it suspects most, and
# the five with a wrong label (≠) that it suspects least. A sample that fools all methods
# is a hard image; a sample that fools one method tells about that method. Where many
# samples share a rank, we draw at random from them, and their number follows the rank.

# %% mystnb={"figure": {"caption": "One row for each method, first seed: five false alarms, then five misses, with the rank among {glue:text}`num_samples` samples (1 is most suspect) and the label given.", "name": "fig-fooled"}, "image": {"alt": "Rows of ten images, one row for each method: five with right labels that it suspects most, five with wrong labels that it suspects least."}}
fooled = record["fooled"]
_ = show(fooled["index"].to_numpy(), read.fooled_captions(fooled))

# %% [markdown]
# ## The leak: what if samples are scored with their true labels?
#
# A script that scores a trained network has to know the labels that it was *trained on*.
# A script that loads the data set anew scores mislabelled samples under their true labels
# instead, and nothing complains. To a network that has memorised the wrong label, the
# true one is surprising. (A planted copy is then scored under the label of its original,
# which the network may have learned.) The table shows the same AUROCs with that slip.

# %%
leak = read.leak(found, record["leaked"], fitted)
signed = {"change": "{:+.3f}"}
figures.table(
    read.few(leak).drop(columns="nearer"),
    formats=dict.fromkeys(["given", "true", "published"], "{:.3f}") | signed,
    given="labels trained on",
    true="true labels",
)

# %%
page.claim(
    "The slip raises the AUROC of every score that looks at the label.",
    **claims["leak"],
)
page.claim(
    "With the slip, every score that has a published value comes nearer to it.",
    **claims["nearer"],
)

# %% [markdown]
# This does not show that the published values have the slip. A larger network on more
# images moves scores the same way, and the slip alone takes nearly every score close
# to 1.
#
# ## Does curvature add anything to what is cheaper?
#
# We combine scores in two ways. The mean of their ranks needs nothing else. A logistic
# regression on ranks is fitted with the *truth* on four fifths of the samples and read on
# the last fifth. It is not a method, since nobody has the truth, but it hints at what a
# combination could reach.

# %%
formats = {"trainings": "{:.2f}"}
figures.table(read.combinations(record["combined"], record["cost"]), formats=formats)

# %%
page.claim(
    "Curvature adds 0.01 to the AUROC of cheaper scores, in at least one combination.",
    **claims["adds"],
)

# %% [markdown]
# ## Planted duplicates
#
# A copy of an image under a wrong label makes its original hard to learn too, so the
# published evaluation counts both images as found. Somebody who repairs labels needs the
# copy alone. Where duplicates were planted, a table counts both ways.
#
# Two labels on one image leave the network torn between them. If its largest probability
# at the end is lower on these images, one look at that probability finds them, without
# any label.

# %%
page.claim(
    "The network is less sure of planted images than of all others.",
    **claims["planted"],
)
if "planted" in record:
    both_ways = read.planted_beside(record["planted"], fitted)
    display(figures.table(read.few(both_ways), published="published, both copies"))

# %% [markdown]
# ## Beside published values
#
# The re-run in *Towards Memorization Estimation* {cite}`ravikumar2025` trained ResNet-18
# for 200 epochs on all 50,000 images of CIFAR-10 and CIFAR-100. Its values exist for some
# scores, for labels replaced at random and for planted duplicates; where they fit this
# page, a table shows them. Ours come from a smaller network on fewer images, so the
# columns answer the same question at a different scale. Three differences matter:
#
# - A network that is right on few images it never saw memorises many samples with right
#   labels too. To every score these look like wrong labels.
# - Our second-split forgetting has few epochs on the second half (`second_epochs`).
# - The released confident learning ranked only the samples that it flagged and tied all
#   others; ours ranks all samples. The released scoring script does not pass on the noise
#   settings of the training run, so that its AUROCs may contain the leak above.

# %%
page.claim(
    "The AUROC of curvature is at most 0.01 below the published one, at every share.",
    **claims["published"],
)
beside = read.published_beside(found, fitted)
figures.table(read.published_by_share(beside)) if len(beside) else None

# %% [markdown]
# ## Exercises
#
# 1. *To think about.* A network is right on half of the images that it never saw. Why do
#    many samples with right labels then look like wrong ones to every score?
# 2. *To run.* Train for 5 epochs instead of 30 (`papermill notebooks/mislabelled.ipynb
#    out.ipynb -p epochs 5`). Are the wrong labels memorised? Which scores still find
#    them?
#
# :::{dropdown} Solutions
# 1. Such a network cannot infer half of the images from the others. It has to memorise
#    many training images one by one, just as it memorises wrong labels. For both, loss,
#    margin and curvature change late.
# 2. Few wrong labels are memorised after 5 epochs. The cumulative loss and AUM find them
#    all the same, since they only need that wrong labels are learned late. Curvature
#    averaged over training finds them too; its last epoch alone is weaker in both runs.
# :::
#
# Read next: [which claims hold over all data sets](/book/pages/mislabel_summary), and
# [which images of CIFAR-100 are duplicates under different
# labels](/book/pages/duplicates).
