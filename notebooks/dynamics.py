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
# **In short.** Mean curvature of the training set rises while the network learns, peaks, and
# falls as the network becomes confident ({numref}`fig-mean`). At the end of training, every
# run has at most {glue:text}`most_left:.1%` of its peak left. A single epoch gives a score
# too, but nobody knows in advance which epoch is best. The paper averages over all epochs
# instead; the table in {ref}`sec-average` shows what that gains on each data set.

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
from curvlib.book import Page, figures
from curvlib.studies import dynamics, statistics

page = Page.begin(In)
shown = page.records(dynamics.measure)

# %% mystnb={"figure": {"caption": "Mean curvature rises, peaks and falls. Mean tr(H²) of each group of images by epoch, first seed.", "name": "fig-mean"}, "image": {"alt": "One panel for each data set: mean curvature on a logarithmic axis against epoch. The lines of all groups rise, reach a peak, and fall."}}
curve = {"by": "group", "looks": dynamics.GROUPS, "log": "y", "ylabel": "mean tr(H²)"}
_ = figures.by_dataset(
    {label: record["courses"] for label, record in shown.items()},
    lambda part, ax: figures.lines(part, "epoch", "mean", **curve, ax=ax),
    share="",
)

# %% [markdown]
# *Eight minutes to read. Read first: [the method](/book/method.md).*
#
# **After this page you can**
#
# - say when mislabelled images are learned;
# - explain why a score averages over epochs;
# - say what stopping early changes.
#
# {cite:t}`garg2024` score a sample by its curvature averaged over epochs. From their paper
# we expect four things. Mean curvature rises while the network learns. It falls again once
# all samples are fitted and their margins grow. Single epochs are worse scores than their
# mean. A network stopped at the peak is better calibrated than one trained to the end.
#
# ## When each group is learned
#
# We follow groups of samples: the training set and *held-out* images, which the network
# never trains on. With label noise we replace some labels on purpose and follow these
# *mislabelled* samples separately from the *clean* rest of the training set. No other image
# helps the network with a mislabelled sample, so the network has to memorise it.

# %% mystnb={"figure": {"caption": "Networks learn mislabelled images last. Share of each group on which the network predicts the label given, by epoch, first seed.", "name": "fig-accuracy"}, "image": {"alt": "One panel for each data set: accuracy against epoch, a line for each group. Mislabelled images rise last."}}
groups = {"by": "group", "looks": dynamics.GROUPS}
_ = figures.by_dataset(
    {label: record["courses"] for label, record in shown.items()},
    lambda part, ax: figures.lines(part, "epoch", "accuracy", **groups, ax=ax),
    share="y",
)

# %% [markdown]
# The table gives the epoch from which at least half of a group stays right (a dash: no
# such epoch), and the accuracy at the end.

# %%
learned = {k: dynamics.learned(r["courses"]) for k, r in shown.items()}
figures.table(
    dynamics.stacked({k: shown[k]["groups"].merge(v) for k, v in learned.items()}),
    formats={"samples": "{:,}", "half": "{:.0f}", "accuracy": "{:.1%}"},
    half="half is right from epoch",
    accuracy="accuracy at the end",
)

# %%
page.claim(
    "Mislabelled images are learned late: half of them stay right only from a later epoch "
    "on than half of the clean images.",
    {label: dynamics.learned_late(table) for label, table in learned.items()},
    tolerance="first seed; undecided without mislabelled images",
    name="mislabelled-learned-late",
)

# %% [markdown]
# ## Rise, peak and fall

# %%
peaks = {label: dynamics.at(r["stops"], dynamics.PEAK) for label, r in shown.items()}
summary = dynamics.peak_table(shown)
page.tell(most_left=summary["highest"].max())
figures.table(
    summary,
    formats={"lowest": "{:.2%}", "highest": "{:.2%}"},
    peak="epoch of the peak, by seed",
    lowest="left at the end, lowest seed",
    highest="left at the end, highest seed",
)

# %%
page.claim(
    "Mean curvature of the training set rises, peaks and falls.",
    {
        label: dynamics.peaks_within(r["stops"], r["calibration"]["epoch"])
        for label, r in shown.items()
    },
    ours={
        label: f"peak at epoch {', '.join(map(str, found['epoch']))}"
        for label, found in peaks.items()
    },
    published="figures of the paper (Garg et al. 2024)",
    tolerance="in every seed, the peak is neither the first nor the last scored epoch",
    name="rise-peak-fall",
)

# %% [markdown]
# A few samples can dominate a mean. So we also look at the median and the middle half of
# each group.

# %% mystnb={"figure": {"caption": "The median falls earlier than the mean: most images are fitted while a few are still being learned. Median curvature of each group; band: middle half. First seed.", "name": "fig-quantiles"}, "image": {"alt": "One panel for each data set: median curvature on a logarithmic axis against epoch, with the middle half of each group as a band."}}
band = groups | {"band": ("q25", "q75"), "log": "y", "ylabel": "tr(H²)"}
_ = figures.by_dataset(
    {label: record["courses"] for label, record in shown.items()},
    lambda part, ax: figures.lines(part, "epoch", "median", **band, ax=ax),
    share="",
)

# %% [markdown]
# (sec-average)=
# ## Why average
#
# How good is the curvature of a single epoch as a score, and how good is the mean over all
# scored epochs so far? With label noise we measure the AUROC for mislabelled images.
# Without it, we measure the rank correlation with released memorization scores, which took
# thousands of networks. Where neither exists, we compare with the mean over the other seeds:
# what two runs agree on is a property of the images, though it need not be their
# memorization. If none of these is possible, a data set has no line.

# %% mystnb={"figure": {"caption": "The mean over all scored epochs ends above every single epoch. Quality of the score of single epochs and of the mean so far. Mean over seeds, band: standard deviation; dotted: chance.", "name": "fig-averaging"}, "image": {"alt": "One panel for each data set: the quality of the score of single epochs and of their running mean against epoch."}}
judged = {k: r["averaging"] for k, r in shown.items() if len(r["averaging"])}


def draw(averaging, ax):
    table = dynamics.over_seeds(averaging, "value", by=["score", "epoch"])
    name = dynamics.measure_of(averaging)
    ax.axhline(dynamics.CHANCE[name], color=figures.GREY, ls=":")
    figures.lines(table, "epoch", "mean", by="score", band="sd", ylabel=name, ax=ax)


_ = figures.by_dataset(judged, draw, share="")

# %%
reached = {label: dynamics.reached(table) for label, table in judged.items()}
figures.table(
    dynamics.stacked(reached).drop(columns="mean"),
    formats={"epoch": "{:.0f}"},
    text="mean ± sd over seeds",
)

# %%
better = {label: dynamics.beats(table) for label, table in judged.items()}
against = {k: tuple(table["text"]) for k, table in reached.items()}
page.claim(
    "The mean over epochs is a better score than the last epoch alone.",
    {label: found["last"] for label, found in better.items()},
    ours={k: f"{mean} against {last}" for k, (mean, _, last) in against.items()},
    published="the paper averages over epochs for this reason",
    tolerance="every seed",
    name="averaging-helps",
)
page.claim(
    "The mean over epochs is a better score than any single epoch.",
    {label: found["every"] for label, found in better.items()},
    ours={k: f"{mean} against {best}" for k, (mean, best, _) in against.items()},
    tolerance="every seed, against its own best epoch",
    name="averaging-beats-every-epoch",
)

# %% [markdown]
# ## Weight decay
#
# For some data sets we train the first seed once more, with a different weight decay. The
# table compares the two runs. Each value comes from one run, so a small difference may be
# due to chance.

# %%
figures.table(
    dynamics.decay_table(shown),
    formats={"weight_decay": "{:g}", "left": "{:.2%}", "accuracy": "{:.1%}"},
    peak="peak at epoch",
    left="left at the end",
    accuracy="held-out accuracy",
    value="mean over epochs as a score",
)

# %% [markdown]
# ## Where to stop
#
# A network is calibrated if it is right as often as it is confident. The expected
# calibration error (ECE, {cite:t}`guo2017`, 15 bins) measures how far it is from that on
# held-out images, whose labels are never replaced. The negative log-likelihood (NLL) is
# their mean loss in nats. It also depends on how often the network is right.

# %% mystnb={"figure": {"caption": "Whether calibration gets worse after the peak of curvature depends on the data set. Expected calibration error on held-out images by epoch. Mean over seeds, band: standard deviation; dotted: the peak of mean curvature in each seed.", "name": "fig-calibration"}, "image": {"alt": "One panel for each data set: expected calibration error of held-out images against epoch, with the peak of curvature marked."}}


def draw(label, ax):
    by_epoch = dynamics.over_seeds(shown[label]["calibration"], "ece")
    figures.lines(by_epoch, "epoch", "mean", band="sd", ylabel="ECE", ax=ax)
    for epoch in set(peaks[label]["epoch"]):
        ax.axvline(epoch, color=figures.GREY, ls=":")
    ax.set_ylim(bottom=0, auto=True)  # the panels share this axis


_ = figures.by_dataset({label: label for label in shown}, draw, share="y")

# %%
figures.table(
    dynamics.stacked(
        {k: dynamics.stops_in_words(r["stops"]) for k, r in shown.items()}
    ),
    stop_at="stop at",
    nll="NLL",
    ece="ECE",
    chance="ECE by chance",
    accuracy="held-out accuracy",
)

# %% [markdown]
# Values are mean ± standard deviation over seeds. *ECE by chance* is what a calibrated
# network with the same confidences would get from so few images. The epoch with the lowest
# held-out loss was chosen on the same images that it is measured on, which makes it look
# better. The peak of curvature was found without them.

# %%
ends = {label: dynamics.at(r["stops"], dynamics.END) for label, r in shown.items()}
page.claim(
    "A network stopped at the peak of curvature is better calibrated than at the end.",
    {k: dynamics.in_every_seed(peaks[k]["ece"] < ends[k]["ece"]) for k in shown},
    ours={
        k: f"{statistics.mean_sd(peaks[k]['ece'])} against {statistics.mean_sd(ends[k]['ece'])}"
        for k in shown
    },
    tolerance="every seed; undecided if seeds differ",
    name="peak-is-calibrated",
)

# %% [markdown]
# ## Exercises
#
# ```{exercise}
# :label: ex-flat
# Once a sample is fitted its curvature vanishes, though the decision boundary still bends
# around it. Why?
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
# :label: ex-window
# Is it enough to score few epochs? Compute, for the first data set that has a measure, the
# share of the final quality that the mean over the first half of the scored epochs reaches.
# ```
#
# ```{solution-start} ex-window
# :class: dropdown
# ```

# %% tags=["solution"]
table = next(iter(judged.values()))
so_far = table[table["score"] == dynamics.SO_FAR].groupby("epoch")["value"].mean()
so_far.iloc[len(so_far) // 2 - 1] / so_far.iloc[-1]

# %% [markdown]
# ```{solution-end}
# ```
#
# Read next: [which score finds wrong labels](/book/pages/mislabelled), and
# [how the step and the probes change the score](/book/pages/estimator).
