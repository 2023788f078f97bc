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
# measures the kinks that the step crosses ({numref}`fig-auroc`). On {glue:text}`first_label`,
# the AUROC for mislabelled samples is {glue:text}`auroc_smallest` at $h = 10^{-5}$,
# {glue:text}`auroc_paper` at the paper's step, and {glue:text}`auroc_exact` for the exact
# Hessian. On smooth networks the step hardly matters. It is better to score many epochs than
# to use many probes: two probes at each scored epoch have a rank correlation of
# {glue:text}`mean_two:.2f` with the reference, ten probes at one epoch
# {glue:text}`one_epoch_ten:.2f`.

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
batch_size = 64  # images per step
schedule = "cosine"  # of the learning rate; step, cosine or constant
num_probes = 2  # random directions an epoch, new ones each epoch
num_reference = 50  # random directions of the reference for the number of probes
step = 0.001  # finite step h of the paper, in units of the normalised input
runs = "runs"  # folder of runs; measurements are kept in its subfolder estimator
records: list = None  # records to show; None measures with the values above
results = "results/scratch/estimator"  # folder of the record that is measured

# %%
from curvlib.book import Page, figures, tabs
from curvlib.studies import estimator as study

page = Page.begin(In)
shown = page.records(study.measure)
n = {label: study.numbers(record) for label, record in shown.items()}
page.tell(first_label=next(iter(n)), **next(iter(n.values())))

# %% mystnb={"figure": {"caption": "The kinks carry the signal: on ReLUs a finite step finds wrong labels that the exact Hessian misses. AUROC for mislabelled samples of each variant, mean ± standard deviation over seeds; the square, unless the name says norm.", "name": "fig-auroc"}, "image": {"alt": "Dots of AUROC with error bars for each variant."}}
rest = ["h = 1e-3, norm", "gradient norm", "cumulative loss", "random"]


def aurocs(record):
    look = {"group": "activation", "order": [*study.curvatures(record), *rest]}
    return figures.dots(record["auroc"], legend_above=True, **look).figure


alt = "AUROC of each variant with error bars, for ReLU, softplus and GELU."
tabs.show({label: aurocs(record) for label, record in shown.items()}, alt=alt)

# %% [markdown]
# *Ten minutes to read. Read first: [the method](/book/method.md).*
#
# **After this page you can**
#
# - choose a step and a number of probes;
# - explain why the exact Hessian of a ReLU network ignores the label;
# - say what a finite step measures instead.
#
# ## The variants
#
# We measure every training sample at several epochs by many variants, all with the same
# random directions: the finite difference with steps from $10^{-5}$ to 1, in float32 and
# partly in float64; exact products with the Hessian, by differentiating twice; the
# Gauss-Newton matrix; and second differences of the loss, which need no gradient. Some
# labels are wrong. The networks have ReLU, softplus or GELU activations. The sections below
# explain the numbers in this table.

# %%
figures.table(study.overview(n))

# %% [markdown]
# ## The step

# %% mystnb={"figure": {"caption": "On ReLUs curvature depends on the step; on smooth networks it does not. Mean curvature against the step, mean over samples, epochs and seeds (bars: standard deviation); dotted: the exact value.", "name": "fig-step"}, "image": {"alt": "Curvature against the step on logarithmic axes."}}
names = {study.named(h): h for h in study.STEPS}


def by_step(record):
    steps = record["steps"]
    exact = steps.query("score == @study.EXACT").set_index(["activation", "kind"])
    figure, axes = figures.panels(2)
    for ax, kind in zip(axes, ("square", "norm"), strict=True):
        part = steps.query("kind == @kind and score in @names")
        part = part.assign(h=part["score"].map(names))
        figures.lines(part, "h", "mean", by="activation", error="sd", log="xy", ax=ax)
        for name, colour in zip(study.ACTIVATIONS, figures.COLOURS, strict=False):
            ax.axhline(exact.loc[(name, kind), "mean"], color=colour, ls=":")
        ax.set(xlabel="step h", ylabel=f"mean {kind} of Δ(v)")
    return figure


alt = "The square of ReLU falls with larger steps; smooth networks stay at their exact value."
tabs.show({label: by_step(record) for label, record in shown.items()}, alt=alt)

# %%
page.claim(
    "On ReLUs the mean square grows about as 1/h when the step shrinks.",
    {label: -1.3 < found["power"] < -0.7 for label, found in n.items()},
    ours={label: f"power {found['power']:.2f}" for label, found in n.items()},
)
smooth = {k: max(v["softplus_error"], v["gelu_error"]) for k, v in n.items()}
page.claim(
    "On smooth networks steps up to 0.01 give the exact value, within 5%.",
    {label: error < 0.05 for label, error in smooth.items()},
    ours={label: f"within {error:.1%}" for label, error in smooth.items()},
)

# %% [markdown]
# ## What the finite step measures
#
# If a ReLU unit is off at $x$ and on at $x + hv$, or the reverse, the step has crossed a
# kink. There the gradient jumps by an amount $J$ that does not depend on $h$. The number of
# crossings is proportional to $h$, and each adds about $(J/h)^2$ to the square, so the mean
# square grows as $1/h$. To the norm each crossing adds $J/h$, so $h$ cancels as long as
# crossings are rare. Where a step crosses many kinks, their jumps add up like the steps of a
# random walk, and the norm, too, grows as the step shrinks, about as $1/\sqrt h$. We count
# the units that differ at the two ends, in float64.

# %% mystnb={"figure": {"caption": "Without a kink in reach the finite difference equals the exact value; with kinks it is far larger. Left: mean number of crossings against the step. Right: one dot for each sample and step at one epoch of the first seed.", "name": "fig-kinks"}, "image": {"alt": "Crossings against the step, and the ratio of the finite difference to the exact value against crossings."}}


def kinks(record):
    dots = record["kinks"].query("exact > 0").eval("ratio = difference / exact")
    dots = dots[dots["seed"] == dots["seed"].min()]
    dots["step"] = dots["step"].map(study.named)
    figure, (left, right) = figures.panels(2)
    figures.lines(record["crossings"], "step", "mean_crossings", log="xy", ax=left)
    look = {"by": "step", "joined": False, "log": "y"}
    figures.lines(dots, "crossings", "ratio", **look, ax=right)
    left.set(xlabel="step h", ylabel="mean crossings")
    right.set(xlabel="crossings, mean over probes", ylabel="difference / exact")
    return figure


alt = "Crossings rise with the step; the ratio is one without crossings, far above with them."
tabs.show({label: kinks(record) for label, record in shown.items()}, alt=alt)

# %% [markdown]
# ## The label
#
# Within a linear piece the Hessian is $J^\top(\mathrm{diag}\,p - pp^\top)J$, which
# contains no label. The jump of the gradient at a kink does depend on it: the gradient of
# a badly fitted sample is large. We score each sample again with the next class as its
# label.

# %%
labels = {
    label: study.label_changes(record["labels"]) for label, record in shown.items()
}
tabs.show(
    {
        label: figures.table(table.reset_index(), formats={"largest change": "{:.1e}"})
        for label, table in labels.items()
    }
)

# %%
change = {k: v.loc[("relu", "exact"), "largest change"] for k, v in labels.items()}
page.claim(
    "The exact curvature of the ReLU network does not depend on the label.",
    {label: value < 1e-6 for label, value in change.items()},
    ours={k: f"relative change {value:.1e}" for k, value in change.items()},
)

# %% [markdown]
# ## Over the epochs
#
# Does the finite difference rise and fall with the exact curvature, and does it rank the
# samples of an epoch in the same order?

# %% mystnb={"figure": {"caption": "On ReLUs the finite difference lies far above the exact curvature at every epoch; on smooth networks the curves coincide. Mean square against the epoch, mean over samples and seeds (bars: standard deviation).", "name": "fig-epochs"}, "image": {"alt": "Mean square against the epoch for three activations."}}


def over_epochs(record):
    curves = study.epoch_curves(record["epochs"]).groupby("activation")
    parts = {figures.words(name): curves.get_group(name) for name in study.ACTIVATIONS}
    look = {"by": "score", "error": "std", "log": "y", "ylabel": "mean ‖Δ(v)‖²"}
    return figures.by_dataset(
        parts,
        lambda part, ax: figures.lines(part, "epoch", "mean", **look, ax=ax),
        columns=3,
    )


alt = "Exact value and finite differences with three steps, one panel for each activation."
tabs.show({label: over_epochs(record) for label, record in shown.items()}, alt=alt)

# %% [markdown]
# ## What holds for finding wrong labels

# %%
page.claim(
    "On ReLUs the kinks carry the signal: the best step beats the exact Hessian by more "
    "than .02.",
    {label: found["above_exact"] > 0.02 for label, found in n.items()},
    ours={k: f"{v['auroc_best']} against {v['auroc_exact']}" for k, v in n.items()},
)
page.claim(
    "The cumulative loss finds wrong labels better than every variant of curvature, with "
    "every activation.",
    {label: study.loss_is_best(record) for label, record in shown.items()},
    ours={label: f"{found['auroc_loss']} on ReLUs" for label, found in n.items()},
)
gain = {label: study.gain_of_norm(record) > 0 for label, record in shown.items()}
page.claim(
    "The unsquared norm finds wrong labels better than the square in most variants.",
    {label: better.mean() > 0.5 for label, better in gain.items()},
    ours={label: f"{better.sum()} of {len(better)}" for label, better in gain.items()},
)
facts = {k: r["facts"].set_index("name")["value"] for k, r in shown.items()}
page.claim(
    "Float32 is enough for a step of 1e-3: ranks agree with float64 to .99 (Spearman).",
    {label: found["float32 rank at 1e-3"] > 0.99 for label, found in facts.items()},
    ours={k: f"{found['float32 rank at 1e-3']:.4f}" for k, found in facts.items()},
)
page.claim(
    "Three classes are enough for Gauss-Newton: they rank samples as all do (above .95).",
    {label: found["top rank, lowest"] > 0.95 for label, found in facts.items()},
    ours={label: f"{found['top rank, lowest']:.2f}" for label, found in facts.items()},
)

# %% [markdown]
# ## The number of probes
#
# How many probes are enough? The reference is the mean over epochs with many probes at each
# epoch. How well do fewer, independent probes rank the samples, and how well does a single
# epoch? We use the ReLU run of the first seed, with the paper's step.

# %% mystnb={"figure": {"caption": "A few probes at many epochs are worth more than many probes at one epoch. Rank correlation with the reference against the number of probes.", "name": "fig-probes"}, "image": {"alt": "Spearman correlation against the number of probes."}}
columns = ["mean_over_epochs", "own_epoch", "one_epoch"]


def probes(record):
    figure, axes = figures.panels(2, sharey=True)
    kinds = record["probes"].groupby("kind", sort=False)
    for ax, (kind, part) in zip(axes, kinds, strict=True):
        look = {"log": "x", "xlabel": "probes per epoch", "ax": ax}
        figures.lines(part, "num_probes", columns, **look)
        ax.set(title=kind, ylabel="Spearman with the reference")
    return figure


alt = "The mean over epochs is close to the reference even with one probe; one epoch is not."
tabs.show({label: probes(record) for label, record in shown.items()}, alt=alt)

# %%
page.claim(
    "One probe at each epoch beats ten at a single epoch, on average over epochs.",
    {label: found["mean_one"] > found["one_epoch_ten"] for label, found in n.items()},
    ours={
        k: f"{v['mean_one']:.2f} against {v['one_epoch_ten']:.2f}" for k, v in n.items()
    },
)

# %% [markdown]
# ## What to do
#
# Keep a finite step and report it. Average over epochs before you add probes. If you need
# the ranking, look at the norm as well as the square.
#
# ## Exercises
#
# ```{exercise}
# :label: ex-holes
# A mislabelled image sits in a narrow valley of the loss. Why does the exact Hessian of a
# ReLU network still find few such images?
# ```
#
# ```{solution} ex-holes
# :class: dropdown
# Almost everywhere the network is linear around the image, and there the Hessian is
# $J^\top(\mathrm{diag}\,p - pp^\top)J$, which does not contain the label. Once the wrong
# label is fitted, $p$ is close to a corner and the Hessian is close to zero. The walls of
# the valley are made of kinks, which the second derivative at one point does not see.
# ```
#
# ```{exercise}
# :label: ex-square
# The square grows as $1/h$ on ReLUs. Does the norm? Fit the power of the norm for the first
# data set.
# ```
#
# ```{solution-start} ex-square
# :class: dropdown
# ```

# %% tags=["solution"]
import numpy as np

steps = next(iter(shown.values()))["steps"]
norm = steps.query("activation == 'relu' and kind == 'norm'").set_index("score")["mean"]
values = norm[[study.named(h) for h in study.STEPS[:4]]]
np.polyfit(np.log(study.STEPS[:4]), np.log(values), 1)[0]

# %% [markdown]
# ```{solution-end}
# ```
#
# Read next: [what each score costs](/book/pages/cost), and
# [how curvature moves during training](/book/pages/dynamics).
