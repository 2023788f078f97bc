# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # What does each score cost?
#
# **In short.** One training with curvature at every epoch costs {glue:text}`cost_few:.2f`
# trainings with {glue:text}`few` random direction an epoch, and the cumulative loss
# {glue:text}`cost_logits:.2f`. The {glue:text}`fz_models` networks behind the released
# memorization scores of CIFAR-100 cost {glue:text}`fz_trainings:.0f` trainings,
# {glue:text}`fz_over:.0f` times as much ({numref}`fig-cost`).
#
# *Three minutes to read. Read first: [the method](/book/method.md). After this page you can
# estimate what a score costs on your own network, and say which scores share a pass.*

# %% tags=["parameters"]
dataset = "digits"  # a data set that curvlib.load knows
num_timed = 512  # images that every contestant passes over
model = "slim_resnet"  # resnet18, slim_resnet or mlp
width = 16  # channels of its first stage
epochs = 30  # of the run that the table is for
batch_size = 64  # images a step of training
probes = [1, 2, 10]  # numbers of random directions of the curvature
repeats = 5  # times that each contestant is timed
step = 0.001  # finite step h, in units of the normalised input
records: list = None  # records to show; None measures with the values above
results = "results/scratch/cost"  # folder of the record that is measured

# %%
from curvlib.book import Page, figures
from curvlib.studies import cost

page = Page.begin(In)
record = page.record(cost.measure)
n = cost.numbers(record)
page.tell(**n)

# %% [markdown]
# ## The contestants
#
# All of them pass over the same images in turn, several times: one epoch of training
# (forward, backward, update); the logits alone, as on clean images after an epoch; the
# gradient at the input; curvature with several numbers of random directions; and the other
# ways to the Hessian. What counts is the ratio to training in the same round. Time does
# not depend on the values of the weights, so the network is a fresh one.

# %%
figures.table(
    cost.by_contestant(record["timing"]),
    what="pass",
    ms="ms a sample",
    ratio="of a training epoch (median)",
)

# %% [markdown]
# ## Every score, in trainings
#
# The unit is the same run of {glue:text}`num_epochs` epochs without scoring. A score of
# the last epoch is paid for once. Scores of the logits could be had for nothing from the
# forward passes of training; here they are those of clean images in evaluation mode, which
# take a forward pass of their own. All scores that need the same pass share it, and
# curvature brings the logits and the gradient with it: whoever computes curvature has
# every other row as well. A run keeps a few bytes for each sample and epoch.

# %%
figures.table(
    record["scores"].drop(columns="num_probes"),
    formats={"trainings": "{:.2f}"},
    epochs="scored epochs",
    bytes_per_sample="bytes a sample",
)

# %% mystnb={"figure": {"caption": "Cost in trainings, scoring included. Curvature with {glue:text}`few` direction at every epoch costs {glue:text}`cost_few:.2f`, with {glue:text}`many` directions {glue:text}`cost_many:.2f`, the cumulative loss {glue:text}`cost_logits:.2f`; the {glue:text}`fz_models` networks behind the memorization scores of CIFAR-100, each trained on {glue:text}`fz_share:.0%` of the samples, {glue:text}`fz_trainings:.0f`. Scores are measured here, ensembles counted.", "name": "fig-cost"}, "image": {"alt": "Horizontal bars on a logarithmic axis of cost in trainings: scores of the logits slightly above one, the gradient and curvature up to about ten, the ensembles above a thousand."}}
bars = cost.with_ensembles(record["scores"])
ax = figures.panels(1, height=0.26 * len(bars) + 0.7)[1][0]
colour = {"one network": figures.COLOURS[0], "ensemble": figures.COLOURS[1]}
ax.barh(bars["name"], bars["trainings"], color=bars["kind"].map(colour))
ax.axvline(1, color="black", lw=1)
ax.set(xscale="log", xlabel="trainings, scoring included", xlim=(0.5, 1e4))
_ = ax.tick_params(axis="y", labelsize=8)

# %% [markdown]
# ## What holds

# %%
page.claim(
    "Curvature at every epoch costs a few trainings, not thousands.",
    n["cost_few"] < 4,
    ours=f"{n['cost_few']:.2f} trainings with n = {n['few']}",
    published=f"{n['published_two']:.1f} (n = 2), {n['published_ten']:.1f} (n = 10)",
    tolerance="below 4 trainings",
)

# %% [markdown]
# At the last epoch alone curvature costs {glue:text}`cost_last:.2f` trainings, but that is
# another and worse score. The paper that introduced the cumulative loss counts
# {glue:text}`published_two:.1f` trainings for curvature with two directions and
# {glue:text}`published_ten:.1f` with ten {cite:p}`ravikumar2025`. Here the clean gradient
# is computed once, not for each direction, and one direction an epoch often suffices.
#
# ## Exercises
#
# 1. *To think about.* Which scores cost nothing extra if you keep the logits of the
#    training passes, and how would their values differ?
# 2. *To run.* Set `model = "mlp"` and `width = 64`. Does the ratio of curvature to training
#    rise or fall, and why?
#
# Read next: [how settings change the estimate](/book/pages/estimator), and
# [measured speed](/book/speed.md).
