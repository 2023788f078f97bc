# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # What does each score cost?

# %% [markdown]
# *Three minutes to read. Needs: [what curvature is](/book/method.md).*
#
# Every score in this book is made while one network trains once. Beside that training,
# what does the scoring add? And beside the thousands of networks that memorization
# scores took? **Expected**: scores of the logits cost a fraction of a training, curvature
# with a few directions about one more, and the ensemble thousands.

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
results = "results/scratch/cost"  # folder for tables and figure data

# %% tags=["hide-input"]
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from curvlib.book.source import check_parameters
from myst_nb import glue

from curvlib import data
from curvlib.book import figures
from curvlib.runs import networks
from curvlib.studies import costs, published

check_parameters(In)
results = Path(results)
results.mkdir(parents=True, exist_ok=True)

# %% [markdown]
# ## The contestants
#
# All pass over the same images in turn, several times: one epoch of training (forward,
# backward, update); the logits alone, as on clean images after an epoch; the gradient at
# the input; curvature with several numbers of random directions; and the other ways to
# the Hessian. What counts is the ratio to training in the same round. Time does not
# depend on what the weights are, so the network is a fresh one.

# %%
images = data.load(dataset)
images = images.select(np.arange(min(num_timed, len(images))))
x = data.normalise(images.tensor(), *images.statistics())
y = torch.from_numpy(images.labels)
network = networks.build(
    model, num_classes=len(images.classes), input_shape=tuple(x.shape[1:]), width=width
)
timing = costs.measure(
    network,
    x,
    y,
    batch_size=batch_size,
    num_probes=probes,
    step=step,
    repeats=repeats,
)
timing.to_csv(results / "timing.csv", index=False)
over = timing.groupby("what", sort=False)["over_training"]
table = pd.DataFrame(
    {
        "ms a sample": 1e3
        * timing.groupby("what", sort=False)["seconds_per_sample"].median(),
        "of a training epoch": over.median(),
        "lowest": over.min(),
        "highest": over.max(),
    }
)
table.style.format("{:.3g}")

# %% [markdown]
# ## Every score, in trainings
#
# A run that is scored after each of {glue:text}`num_epochs` epochs, in units of the same
# run without scoring. A score of the last epoch is paid for once. Scores of the logits
# could be had for nothing from the forward passes of training itself; here they are those
# of clean images in evaluation mode, which take a forward pass of their own. All scores
# that need the same pass share it, and the curvature brings the logits and the gradient
# with it: whoever computes curvature has every other row as well. Kept are, for each
# sample, a few bytes an epoch.

# %%
per_score = pd.concat(
    costs.of_scores(timing, epochs=epochs, num_probes=n).assign(num_probes=n)
    for n in probes
)
needs_probes = per_score["needs"].str.startswith("curvature")
per_score = per_score[needs_probes | (per_score["num_probes"] == probes[0])]
per_score.to_csv(results / "scores.csv", index=False)
per_score.drop(columns="num_probes").style.hide(axis="index").format(
    {"trainings": "{:.2f}"}
)

# %% tags=["remove-cell"]
trainings = per_score.set_index(["score", "num_probes"])["trainings"]
every = {n: float(trainings["curvature_square", n]) for n in probes}
logits = float(trainings["cumulative_loss", probes[0]])
models_trained = pd.Series(published.MEMORIZATION_MODELS)
ensemble = models_trained * published.MEMORIZATION_SHARE
glue("num_epochs", epochs, display=False)
glue("few", probes[0], display=False)
glue("many", probes[-1], display=False)
glue("cost_few", every[probes[0]], display=False)
glue("cost_many", every[probes[-1]], display=False)
glue("cost_logits", logits, display=False)
glue("cost_last", float(trainings["curvature_last", probes[0]]), display=False)
glue("fz_models", int(models_trained["cifar100"]), display=False)
glue("fz_share", published.MEMORIZATION_SHARE, display=False)
glue("fz_trainings", float(ensemble["cifar100"]), display=False)
glue("fz_over", float(ensemble["cifar100"] / every[probes[0]]), display=False)
glue("published_two", published.TRAININGS["curvature_norm", 2], display=False)
glue("published_ten", published.TRAININGS["curvature_norm", 10], display=False)
cheap = every[probes[0]] < 4
glue(
    "cost_verdict",
    "Curvature costs a few trainings, the ensemble thousands"
    if cheap
    else "Curvature costs many trainings here, the ensemble still more",
    display=False,
)

# %% tags=["hide-input"] mystnb={"figure": {"caption": "{glue:text}`cost_verdict`: with {glue:text}`few` random direction at every epoch {glue:text}`cost_few:.2f` trainings, with {glue:text}`many` {glue:text}`cost_many:.2f`, the cumulative loss {glue:text}`cost_logits:.2f`; the {glue:text}`fz_models` networks behind the memorization scores of CIFAR-100, each on {glue:text}`fz_share:.0%` of the samples, {glue:text}`fz_trainings:.0f`. Bars: measured here, but for the ensembles, which are counted.", "name": "fig-cost"}, "image": {"alt": "Horizontal bars on a logarithmic axis of cost in trainings: scores of the logits slightly above one, the gradient and curvature up to about ten, the ensembles above a thousand."}}
bars = [
    (f"{row.score}, n = {row.num_probes}" if "curvature" in row.needs else row.score)
    for row in per_score.itertuples()
]
values = [*per_score["trainings"], *ensemble]
bars += [f"memorization, {name}" for name in ensemble.index]
order = np.argsort(values, kind="stable")[::-1]
fig, ax = plt.subplots(
    figsize=(7, 0.26 * len(bars) + 0.7), layout="constrained", facecolor="white"
)
colours = [
    figures.COLOURS[1] if bars[i].startswith("memorization") else figures.COLOURS[0]
    for i in order
]
ax.barh([bars[i] for i in order], [values[i] for i in order], color=colours, left=0)
ax.axvline(1, color="black", lw=1)
ax.set(xscale="log", xlabel="trainings, scoring included", xlim=(0.5, 1e4))
ax.tick_params(axis="y", labelsize=8)

# %% [markdown]
# ## The answer
#
# One training with curvature at every epoch costs {glue:text}`cost_few:.2f` trainings with
# {glue:text}`few` direction an epoch, and {glue:text}`fz_over:.0f` times less than the
# {glue:text}`fz_models` models. At the last epoch alone it is
# {glue:text}`cost_last:.2f`, but that is another, worse score. The paper that introduced
# the cumulative loss counts {glue:text}`published_two:.1f` trainings for curvature with two
# directions and {glue:text}`published_ten:.1f` with ten {cite:p}`ravikumar2025`: here the
# clean gradient is computed once, not for each direction, and one direction an epoch often
# does; [how fast are the estimators?](/book/speed.md) measures when.
