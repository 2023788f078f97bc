# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # What do the step, the probes, the square and the activation change?
#
# **In short.** On a network of ReLUs the step is part of the score: the finite difference
# measures the kinks that the step crosses. Its AUROC for mislabelled samples is
# {glue:text}`auroc_smallest` at $h = 10^{-5}$, {glue:text}`auroc_paper` at the paper's
# step, {glue:text}`auroc_best` at the best step here ({glue:text}`best_step`), and
# {glue:text}`auroc_exact` for the exact Hessian ({numref}`fig-auroc`). On smooth networks
# the step hardly matters. Spend probes on epochs: two probes at each of
# {glue:text}`num_epochs` epochs agree with the reference to {glue:text}`mean_two:.2f`
# (Spearman), ten probes at one epoch to {glue:text}`one_epoch_ten:.2f`.
#
# *Ten minutes to read. Read first: [the method](/book/method.md). After this page you can
# choose a step and a number of probes, explain why the exact Hessian of a ReLU network
# ignores the label, and say what a finite step measures instead.*

# %% tags=["parameters"]
dataset = "digits"  # a data set that curvlib.load knows
num_train: int = 400  # train on the first so many images; None for all
num_measured: int = None  # measure the first so many of them; None for all
noise_rate = 0.1  # share of the labels replaced, symmetric noise
seeds = [0, 1, 2]  # one training run each and activation
model = "slim_resnet"  # resnet18, slim_resnet or mlp
width = 16  # channels of its first stage
epochs = 30  # passes over the training set
scored_epochs = [1, 3, 6, 10, 18]  # epochs measured, and the last
lr = 0.1  # learning rate at the start
batch_size = 64  # images a step
schedule = "cosine"  # of the learning rate; step, cosine or constant
num_probes = 2  # random directions an epoch, new ones each epoch
num_reference = 50  # random directions of the reference for the number of probes
step = 0.001  # finite step h of the paper, in units of the normalised input
runs = "runs"  # folder of runs; measurements are kept in its subfolder estimator
records: list = None  # records to show; None measures with the values above
results = "results/scratch/estimator"  # folder of the record that is measured

# %%
from curvlib.book import Page, figures
from curvlib.studies import estimator as study

page = Page.begin(In)
record = page.record(study.measure)
n = study.numbers(record)  # all that the text tells
page.tell(
    **n,
    num_seeds=len(record.parameters.seeds),
    num_reference=record.parameters.num_reference,
)
facts = record["facts"].set_index("name")["value"]

# %% [markdown]
# ## The variants
#
# We measure every training sample at several epochs by many variants, all with the same
# random directions: the finite difference with steps from $10^{-5}$ to 1, in float32 and
# partly in float64; exact products with the Hessian, by differentiating twice; the
# Gauss-Newton matrix; and second differences of the loss, which need no gradient. The
# networks learn labels of which some are wrong, with ReLU, softplus and GELU.
#
# ## The step

# %% mystnb={"figure": {"caption": "Mean curvature against the step. On ReLUs the mean square grows as h to the power {glue:text}`power:.2f` (from 0.01 down to 1e-5), and the mean norm is {glue:text}`norm_growth:.2f` times as large at 1e-5 as at 1e-3. With softplus both stay within {glue:text}`softplus_error:.1%` of the exact value up to h = 0.01, with GELU within {glue:text}`gelu_error:.1%`. Means over {glue:text}`num_samples` samples, {glue:text}`num_epochs` epochs and {glue:text}`num_seeds` seeds (bars: sd); dotted: exact.", "name": "fig-step"}, "image": {"alt": "Two panels of curvature against the step on logarithmic axes, lines for ReLU, softplus and GELU. The square of ReLU falls with larger steps; the lines of the smooth networks lie on their exact values up to large steps."}}
names = {study.named(h): h for h in study.STEPS}
exact = record["steps"].query("score == @study.EXACT").set_index(["activation", "kind"])
fig, axes = figures.panels(2)
for ax, kind in zip(axes, ("square", "norm"), strict=True):
    part = record["steps"].query("kind == @kind and score in @names")
    part = part.assign(h=part["score"].map(names))
    figures.lines(part, "h", "mean", by="activation", error="sd", log="xy", ax=ax)
    for name, colour in zip(study.ACTIVATIONS, figures.COLOURS, strict=False):
        ax.axhline(exact.loc[(name, kind), "mean"], color=colour, ls=":")
    ax.set(xlabel="step h", ylabel=f"mean {kind} of Δ(v)")

# %%
page.claim(
    "On ReLUs the mean square grows about as 1/h when the step shrinks.",
    -1.3 < n["power"] < -0.7,
    ours=f"power {n['power']:.2f}",
)
page.claim(
    "On smooth networks steps up to 0.01 give the exact value, within 5 %.",
    max(n["softplus_error"], n["gelu_error"]) < 0.05,
    ours=f"within {n['softplus_error']:.1%} and {n['gelu_error']:.1%}",
)

# %% [markdown]
# On the ReLU network the exact Hessian has {glue:text}`exact_share:.2%` of the mean square
# that a step of $10^{-3}$ measures. What is the rest?
#
# ## What the finite step measures
#
# A ReLU unit that is off at $x$ and on at $x + hv$, or the reverse, is a border that the
# step crossed. There the gradient jumps by an amount $J$ that does not depend on $h$. The
# number of crossings grows like $h$, and each adds about $(J/h)^2$ to the square: that
# makes $1/h$. To the norm it adds $J/h$, and $h$ cancels as long as crossings are rare.
# Where a step crosses many borders, their jumps add like the steps of a random walk, and
# the norm too grows as the step shrinks, about as $1/\sqrt h$. We count the units that
# differ at the two ends, in float64.

# %% mystnb={"figure": {"caption": "Without a kink in reach the finite difference equals the exact value: where no unit differs ({glue:text}`num_uncrossed` of {glue:text}`num_dots` cases) the median relative difference is {glue:text}`uncrossed_error:.2g`; where some differ, the difference is {glue:text}`crossed_ratio:.0f` times the exact value in the median. Dots: first seed, epoch {glue:text}`middle`.", "name": "fig-kinks"}, "image": {"alt": "Left: the mean number of crossings against the step, a straight line on logarithmic axes. Right: scatter of the ratio of finite difference to exact value against the number of crossings, at one without crossings and far above with them."}}
kinks = record["kinks"].query("exact > 0").eval("ratio = difference / exact")
dots = kinks[kinks["seed"] == record.parameters.seeds[0]]
dots = dots.assign(step=dots["step"].map(study.named))
fig, axes = figures.panels(2)
figures.lines(record["crossings"], "step", "mean_crossings", log="xy", ax=axes[0])
figures.lines(dots, "crossings", "ratio", by="step", joined=False, log="y", ax=axes[1])
axes[0].set(xlabel="step h", ylabel="mean crossings")
axes[1].set(xlabel="crossings, mean over probes", ylabel="difference / exact")
_ = axes[1].axhline(1, color="black", lw=1, zorder=0)

# %% [markdown]
# At epoch {glue:text}`middle` a step of $10^{-3}$ crosses {glue:text}`count_at_step:.1f`
# borders on average, and {glue:text}`none_at_step:.0%` of the samples cross none with any
# probe. At $10^{-5}$ {glue:text}`none_at_smallest:.0%` cross none, so a few others
# dominate the mean.
#
# ## The label
#
# Within a linear piece the Hessian is $J^\top(\mathrm{diag}\,p - pp^\top)J$, which
# contains no label. The jump of the gradient at a kink does depend on it: the gradient of
# a badly fitted sample is large. We score each sample again with the next class as its
# label.

# %%
labels = record["labels"].groupby(["activation", "score"], sort=False)
labels = labels.agg({"median factor": "min", "largest change": "max"})  # over seeds
figures.table(labels.reset_index(), formats={"largest change": "{:.1e}"})

# %%
page.claim(
    "The exact curvature of the ReLU network does not depend on the label.",
    labels.loc[("relu", "exact"), "largest change"] < 1e-6,
    ours=f"largest relative change {labels.loc[('relu', 'exact'), 'largest change']:.1e}",
)

# %% [markdown]
# ## Over the epochs
#
# Does the finite difference rise and fall with the exact curvature, and does it rank the
# samples of an epoch in the same order?

# %% mystnb={"figure": {"caption": "Mean square against the epoch, exact and with three steps. On ReLUs the curves lie apart, on smooth networks together. Mean over samples and {glue:text}`num_seeds` seeds (bars: sd).", "name": "fig-epochs"}, "image": {"alt": "Three panels, one for each activation, of the mean square against the epoch: exact value and finite differences with three steps. On ReLUs they lie apart, on the smooth networks together."}}
grouped = record["epochs"].groupby(["activation", "score", "epoch"], sort=False)["mean"]
curves = grouped.agg(["mean", "std"]).fillna(0).reset_index()
fig, axes = figures.panels(3, sharey=True)
for ax, activation in zip(axes, study.ACTIVATIONS, strict=True):
    part = curves[curves["activation"] == activation]
    figures.lines(
        part,
        "epoch",
        "mean",
        by="score",
        error="std",
        log="y",
        ylabel="mean ‖Δ(v)‖²",
        ax=ax,
    )
    ax.set_title(activation)

# %%
at_paper = record["epochs"].query("score == 'h = 1e-3'")
ranks = at_paper.groupby(["activation", "epoch"])["spearman_with_exact"].mean()
ranks = ranks.groupby("activation", sort=False).agg(["min", "max"]).reset_index()
figures.table(ranks, min="lowest rank correlation with exact", max="highest")

# %% [markdown]
# ## Which variant finds wrong labels?
#
# We average every variant over the measured epochs. The figure also has the loss and the
# norm of the gradient, averaged over the same epochs, and random numbers.

# %% mystnb={"figure": {"caption": "AUROC for mislabelled samples of each variant. On ReLUs the exact Hessian reaches {glue:text}`auroc_exact`, the paper's step {glue:text}`auroc_paper`, the cumulative loss {glue:text}`auroc_loss`. Mean ± sd over {glue:text}`num_seeds` seeds; squares unless it says norm.", "name": "fig-auroc"}, "image": {"alt": "Dots of AUROC with error bars for each variant, ReLU, softplus and GELU side by side, beside the loss, the gradient norm and random numbers."}}
rest = ["h = 1e-3, norm", "gradient norm", "cumulative loss", "random"]
order = [*study.curvatures(record), *rest]
_ = figures.dots(record["auroc"], group="activation", order=order)

# %% [markdown]
# ## What holds for finding wrong labels

# %%
page.claim(
    "On ReLUs the kinks carry the signal: the best step beats the exact Hessian by more "
    "than .02.",
    n["above_exact"] > 0.02,
    ours=f"{n['auroc_best']} against {n['auroc_exact']}",
)
page.claim(
    "The cumulative loss finds wrong labels better than every variant of curvature, with "
    "every activation.",
    study.loss_is_best(record),
    ours=f"{n['auroc_loss']} on ReLUs",
)
gain = study.gain_of_norm(record)
page.claim(
    "The unsquared norm finds wrong labels better than the square in most variants.",
    (gain > 0).mean() > 0.5,
    ours=f"{(gain > 0).sum()} of {len(gain)}, {gain.min():+.3f} to {gain.max():+.3f}",
)
page.claim(
    "Float32 is enough for a step of 1e-3: ranks agree with float64 to .99 (Spearman).",
    facts["float32 rank at 1e-3"] > 0.99,
    ours=f"{facts['float32 rank at 1e-3']:.4f}; at 1e-5 {facts['float32 rank at 1e-5']:.2f}",
)
page.claim(
    "Three classes are enough for Gauss-Newton: they rank samples as all do (above .95).",
    facts["top rank, lowest"] > 0.95,
    ours=f"{facts['top rank, lowest']:.2f}, with {facts['top share']:.1%} of the value",
)

# %% [markdown]
# ## The number of probes
#
# We want the mean over epochs with many probes; {glue:text}`num_reference` an epoch stand
# for it. How well do $n$ other probes an epoch rank the samples, and how well does a
# single epoch? The runs are those of ReLU, first seed, with the paper's step.

# %% mystnb={"figure": {"caption": "Rank correlation with the reference against the number of probes. One probe at each of {glue:text}`num_epochs` epochs reaches {glue:text}`mean_one:.2f` (square), ten at a single epoch {glue:text}`one_epoch_ten:.2f` on average, though they agree with the reference of their own epoch to {glue:text}`own_ten:.2f`. Two halves of the reference agree to {glue:text}`halves:.2f`.", "name": "fig-probes"}, "image": {"alt": "Spearman correlation against the number of probes for square and norm: the mean over epochs and one epoch against its own reference rise with probes, one epoch against the mean over epochs hardly."}}
fig, axes = figures.panels(2, sharey=True)
columns = ["mean_over_epochs", "own_epoch", "one_epoch"]
for ax, (kind, part) in zip(
    axes, record["probes"].groupby("kind", sort=False), strict=True
):
    figures.lines(part, "num_probes", columns, log="x", xlabel="probes an epoch", ax=ax)
    ax.set(title=kind, ylabel="Spearman with the reference")

# %%
page.claim(
    "One probe at each epoch beats ten at a single epoch, on average over epochs.",
    n["mean_one"] > n["one_epoch_ten"],
    ours=f"{n['mean_one']:.2f} against {n['one_epoch_ten']:.2f}",
)

# %% [markdown]
# ## What to do
#
# Keep a finite step and report it. Average over epochs before you add probes. Where the
# ranking counts, look at the norm as well as the square.
#
# ## Exercises
#
# 1. *To think about.* Why does the exact Hessian of a ReLU network find few wrong labels,
#    although these sit in narrow holes of the loss?
# 2. *To run.* Set `num_reference = 200` and `scored_epochs = [18]`. How many probes does a
#    single epoch need to agree with its own reference to .95?
#
# Read next: [what each score costs](/book/pages/cost), and
# [how curvature moves during training](/book/pages/dynamics).
