# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # How does curvature move during training, and why average over it?
#
# **In short.** In the first run, mean curvature of the training set is highest at epoch
# {glue:text}`peak` of {glue:text}`num_epochs` ({numref}`fig-mean`). Over all seeds
# ({glue:text}`num_seeds`), between {glue:text}`end_low:.2%` and {glue:text}`end_high:.2%`
# of the peak is left at the end. As a score, curvature averaged over all scored epochs
# reaches {glue:text}`average`, and curvature of the last epoch alone {glue:text}`last`
# ({glue:text}`measure`; a dash means that nothing here can judge a score). The calibration
# error on held-out images is {glue:text}`ece_peak` at the peak of curvature and
# {glue:text}`ece_end` at the end.
#
# *Eight minutes to read. Read first: [the method](/book/method.md). After this page you
# can say when mislabelled samples are learned, why a score averages over epochs, and what
# stopping early changes.*
#
# {cite:t}`garg2024` score a sample by its curvature averaged over epochs. From their paper
# we expect four things. Mean curvature rises while the network learns. It falls again once
# all samples are fitted and their margins grow. Single epochs are worse scores than their
# mean. A network stopped at the peak is better calibrated than one trained to the end.

# %% tags=["parameters"]
dataset = "digits"  # a data set that curvlib.load knows
num_train: int = None  # train on the first so many images; None for all
num_heldout = 300  # images of the test split that are scored too, never trained on
noise_rate = 0.1  # share of the labels replaced, symmetric noise; 0 for none
released: str = None  # file of released memorization scores; None for none
seeds = [0, 1, 2]  # one training run each; figures of one run show the first
model = "slim_resnet"  # resnet18, slim_resnet, strided_resnet or mlp
width = 16  # channels of its first stage
epochs = 30  # passes over the training set
lr = 0.1  # learning rate at the start
batch_size = 64  # images in a step
schedule = "cosine"  # of the learning rate; step, cosine or constant
weight_decay = 0.0  # on all weights
other_weight_decay: float = None  # one more run, of the first seed; None for none
augment = False  # random crops and flips
more_settings: dict = None  # further settings of the training, by name
precision = "float32"  # of the training passes; float32 or bfloat16
num_probes = 2  # random directions in a scored epoch, new ones each time
step = 0.001  # finite step h, in units of the normalised input
score_every = 1  # score every epoch, or every second, ...; the last always
runs = "runs"  # folder of the training runs; a finished run is read, not trained again
records: list = None  # records to show; None measures with the values above
results = "results/scratch/dynamics"  # folder of the record that is measured

# %%
from curvlib import metrics
from curvlib.book import Page, figures
from curvlib.studies import dynamics

page = Page.begin(In)
record = page.record(dynamics.measure)

# %% [markdown]
# ## When each group is learned
#
# We follow groups of samples: the training set and *held-out* images, which the network
# never trains on. With label noise we replace some labels on purpose and follow these
# *mislabelled* samples apart from the *clean* rest of the training set. Of
# {glue:text}`num_epochs` epochs we score {glue:text}`num_scored`, and "epoch" means one of
# these below. No other image helps the network with a mislabelled sample: it has to
# memorise it.

# %%
groups, courses = record["groups"], record["courses"]
calibration, stops = record["calibration"], record["stops"]
at_peak, at_end = (dynamics.at(stops, name) for name in (dynamics.PEAK, dynamics.END))
peak = int(at_peak["epoch"].iloc[0])
page.tell(
    num_scored=calibration["epoch"].nunique(),
    num_epochs=record.parameters.epochs,
    num_seeds=len(record.parameters.seeds),
    num_heldout=f"{record.parameters.num_heldout:,}",
    group_names=", ".join(groups["group"]),
)

# %% mystnb={"figure": {"caption": "Accuracy of each group by the labels given ({glue:text}`group_names`; {glue:text}`num_heldout` held-out images). First seed.", "name": "fig-accuracy"}, "image": {"alt": "Accuracy against epoch, a line for each group: {glue:text}`group_names`."}}
_ = figures.lines(courses, "epoch", "accuracy", by="group")

# %% [markdown]
# The table gives the epoch from which at least half of a group stays right (a dash: no
# such epoch), and the accuracy at the end.

# %%
learned = dynamics.learned(courses)
figures.table(
    groups.merge(learned),
    formats={"samples": "{:,}", "half": "{:.0f}", "accuracy": "{:.1%}"},
    half="half is right from epoch",
    accuracy="accuracy at the end",
)

# %%
page.claim(
    "Mislabelled samples are learned late: half of them stay right only from a later epoch "
    "on than half of the clean samples.",
    dynamics.learned_late(learned),
    tolerance="first seed; undecided without mislabelled samples",
)

# %% [markdown]
# ## Rise, peak and fall

# %% mystnb={"figure": {"caption": "Mean curvature of the training set is highest at epoch {glue:text}`peak` of {glue:text}`num_epochs`. Mean over each group ({glue:text}`group_names`), first seed.", "name": "fig-mean"}, "image": {"alt": "Mean curvature on a logarithmic axis against epoch, a line for each group: {glue:text}`group_names`."}}
shares = record["shares"].iloc[0]
page.tell(peak=peak, end_low=shares["lowest"], end_high=shares["highest"])
_ = figures.lines(courses, "epoch", "mean", by="group", log="y", ylabel="mean tr(H²)")

# %%
page.claim(
    "Mean curvature of the training set rises, peaks and falls.",
    dynamics.peaks_within(stops, calibration["epoch"]),
    ours=f"highest at epoch {', '.join(map(str, at_peak['epoch']))}, by seed",
    tolerance="every seed: the peak is neither at the first scored epoch nor the last",
)

# %% [markdown]
# A few samples can dominate a mean. So we also look at the median and the middle half of
# each group.

# %% mystnb={"figure": {"caption": "Median curvature of each group ({glue:text}`group_names`); band: middle half. First seed.", "name": "fig-quantiles"}, "image": {"alt": "Median curvature with the middle half as a band, on a logarithmic axis against epoch, for each group: {glue:text}`group_names`."}}
band = {"band": ("q25", "q75"), "log": "y", "ylabel": "tr(H²)"}
_ = figures.lines(courses, "epoch", "median", by="group", **band)

# %%
figures.table(
    dynamics.compared(courses, peak),
    formats=dict.fromkeys(("mean_times", "median_times"), "{:,.1f}"),
    mean="mean at the peak",
    mean_times="relative to the first row",
    median="median at the end",
    median_times="relative to the first",
)

# %% [markdown]
# ## Why average
#
# The curvature of any single epoch is a score too. How good is it, and how good is the mean
# over all scored epochs so far? On pages with label noise the measure is the AUROC for
# mislabelled samples. On pages without, it is the rank correlation with released
# memorization scores, which took thousands of networks. Without these, it is the rank
# correlation with the mean over all epochs of the other seeds: what two runs agree on is a
# property of the samples, though it need not be their memorization. One seed without any of
# these has nothing to be compared with; then figure and numbers are missing here.

# %% mystnb={"figure": {"caption": "The mean over all scored epochs ends at {glue:text}`average`, and the best single epoch reaches {glue:text}`best` ({glue:text}`measure`, mean \u00b1 standard deviation over seeds, as the band; number of seeds: {glue:text}`num_seeds`; dotted: chance).", "name": "fig-averaging"}, "image": {"alt": "Two lines against epoch, one of single epochs, one of their running mean: {glue:text}`measure`."}}
averaging = record["averaging"]
by_epoch = dynamics.over_seeds(averaging, "value", by=("measure", "score", "epoch"))
for measure, part in by_epoch.groupby("measure"):
    look = {"by": "score", "band": "sd", "ylabel": measure}
    ax = figures.lines(part, "epoch", "mean", **look)
    ax.axhline(dynamics.CHANCE[measure], color=figures.GREY, ls=":")

# %%
reached = dynamics.reached(averaging)
average, best, last = reached["text"]
page.tell(average=average, best=best, last=last)
page.tell(measure=dynamics.measure_of(averaging))
figures.table(
    reached.drop(columns="mean"),
    formats={"epoch": "{:.0f}"},
    text="mean ± sd over seeds",
)

# %% [markdown]
# Nobody knows in advance which single epoch is the best.

# %%
better = dynamics.beats(averaging)
page.claim(
    "The mean over epochs is a better score than the last epoch alone.",
    better["last"],
    ours=f"{average} against {last}",
    tolerance="every seed",
)
page.claim(
    "The mean over epochs is a better score than any single epoch.",
    better["every"],
    ours=f"{average} against {best}",
    tolerance="every seed, against its own best epoch",
)

# %% [markdown]
# ## Weight decay
#
# Some pages train the first seed once more, with another weight decay. The table compares
# the two runs: the epoch at which mean curvature of the training set is highest, the share
# of that height left at the end, accuracy on held-out images, and the measure of the
# section above for the mean over epochs. There is one run for each value, so a small
# difference may be chance. Other pages have no rows and no figure here.

# %%
decays = record["weight-decay"]
figures.table(
    dynamics.decay_summary(decays, record["weight-decay-values"]),
    formats={"weight_decay": "{:g}", "peak": "{:.0f}", "left": "{:.2%}"}
    | {"accuracy": "{:.1%}", "value": "{:.3f}"},
    peak="peak at epoch",
    left="left at the end",
    accuracy="held-out accuracy",
    value="mean over epochs as a score",
)

# %% mystnb={"figure": {"caption": "Mean curvature (left) and accuracy by the labels given (right) with two weight decays. First seed.", "name": "fig-weight-decay"}, "image": {"alt": "Mean curvature and accuracy against epoch, of the training set and of held-out images, with one weight decay and another."}}
if len(decays):
    decays = dynamics.runs_of(decays)
    _, (left, right) = figures.panels()
    curve = {"by": "run", "log": "y", "ylabel": "mean tr(H²)"}
    figures.lines(decays, "epoch", "curvature", **curve, ax=left).get_legend().remove()
    figures.lines(decays, "epoch", "accuracy", by="run", ax=right)

# %% [markdown]
# ## Where to stop
#
# A network is calibrated if it is right as often as it is confident. The expected
# calibration error (ECE, {cite:t}`guo2017`, 15 bins) measures how far it is from that on
# the {glue:text}`num_heldout` held-out images, whose labels are never replaced. The
# negative log-likelihood (NLL) is their mean loss in nats. It also depends on how often the
# network is right.

# %% mystnb={"figure": {"caption": "The calibration error on {glue:text}`num_heldout` held-out images is {glue:text}`ece_peak` at the peak of curvature and {glue:text}`ece_end` at the end. Mean over seeds, band: standard deviation (number of seeds: {glue:text}`num_seeds`); dotted: the peak of mean curvature of the training set in each seed.", "name": "fig-calibration"}, "image": {"alt": "Expected calibration error and negative log-likelihood of held-out images against epoch, with the epochs of the peak of curvature marked."}}
_, axes = figures.panels()
for column, name, ax in zip(("ece", "nll"), ("ECE", "NLL, nats"), axes, strict=True):
    by_epoch = dynamics.over_seeds(calibration, column)
    figures.lines(by_epoch, "epoch", "mean", band="sd", ylabel=name, ax=ax)
    for epoch in set(at_peak["epoch"]):
        ax.axvline(epoch, color=figures.GREY, ls=":")
    ax.set(ylim=(0, None))

# %%
page.tell(ece_peak=metrics.mean_sd(at_peak["ece"]))
page.tell(ece_end=metrics.mean_sd(at_end["ece"]))
figures.table(
    dynamics.stops_in_words(stops),
    stop_at="stop at",
    nll="NLL",
    ece="ECE",
    chance="ECE by chance",
    accuracy="held-out accuracy",
)

# %% [markdown]
# Values are mean ± standard deviation over seeds. *ECE by chance* is what a calibrated
# network with the same confidences would get from so few images. The lowest held-out loss
# was found on the images that it is measured on, which flatters it. The peak of curvature
# was found without them.

# %%
page.claim(
    "A network stopped at the peak of curvature is better calibrated than at the end.",
    dynamics.in_every_seed(at_peak["ece"] < at_end["ece"]),
    ours=f"lower ECE in {(at_peak['ece'] < at_end['ece']).sum()} of {len(at_end)} seeds",
    tolerance="every seed; undecided if seeds differ",
)

# %% [markdown]
# ## Exercises
#
# ```{exercise}
# :label: ex-flat
# Once a sample is fitted for good its curvature vanishes, though the decision boundary
# still bends around it. Why?
# ```
#
# ```{solution} ex-flat
# :class: dropdown
# The Hessian of the cross-entropy has the factor $\mathrm{diag}(p) - p p^\top$. Once the
# network is confident, $p$ is close to a corner and this factor is close to zero. The loss
# is flat because it is small, whatever the logits do. For the same reason the scores of
# confident samples underflow to ties.
# ```
#
# ```{exercise}
# :label: ex-noise
# Run this page with `-p noise_rate 0.4`. Does the peak of curvature move, and does the mean
# over epochs still beat the last epoch?
# ```
#
# ```{solution} ex-noise
# :class: dropdown
# More samples have to be memorised, so look for a later and higher peak in
# {numref}`fig-mean`. The claims on this page are decided again for your run.
# ```
#
# Read next: [which score finds wrong labels](/book/pages/mislabelled), and
# [how the step and the probes change the score](/book/pages/estimator).
