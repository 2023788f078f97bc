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
# **In short.** One training with curvature at every epoch, with one random direction per
# epoch, costs as much as {glue:text}`cost_few_span` trainings without it. With the cumulative
# loss, it costs {glue:text}`cost_logits_span`. The released memorization scores of CIFAR-100
# took {glue:text}`fz_models:,` networks, which cost {glue:text}`fz_trainings:,.0f` trainings
# ({numref}`fig-cost`).

# %% tags=["parameters"]
dataset = "digits"  # a data set that curvlib.load knows
num_timed = 512  # images that every contestant passes over
model = "slim_resnet"  # resnet18, slim_resnet or mlp
width = 16  # channels of its first stage
epochs = 30  # of the run that the table is for
batch_size = 64  # images per step of training
probes = [1, 2, 10]  # numbers of random directions of the curvature
repeats = 5  # times that each contestant is timed
step = 0.001  # finite step h, in units of the normalised input
records: list = None  # records to show; None measures with the values above
results = "results/scratch/cost"  # folder of the record that is measured

# %%
from curvlib.book import Page, figures, tabs
from curvlib.studies import cost, statistics

page = Page.begin(In)
shown = page.records(cost.measure)
n = {label: cost.numbers(record) for label, record in shown.items()}

# %% mystnb={"figure": {"caption": "One network with scores costs a few trainings, an ensemble thousands. Cost in trainings, scoring included; the line marks one training, and n is the number of random directions. The cost of scores is measured, that of ensembles counted.", "name": "fig-cost"}, "image": {"alt": "Bars of cost in trainings on a logarithmic axis."}}


def bars(record):
    """Cost of each score, and of the ensembles behind the released scores."""
    table = cost.with_ensembles(record["scores"])
    figure, (ax,) = figures.panels(1, height=0.26 * len(table) + 0.7)
    colour = {"one network": figures.COLOURS[0], "ensemble": figures.COLOURS[1]}
    ax.barh(table["name"], table["trainings"], color=table["kind"].map(colour))
    ax.axvline(1, color=figures.GREY, lw=1)
    ax.set(xscale="log", xlabel="trainings, scoring included", xlim=(0.5, 1e4))
    ax.tick_params(axis="y", labelsize=8)
    return figure


alt = "Scores of the logits cost slightly more than one training, the gradient and curvature up "
alt += "to about ten, the ensembles more than a thousand."
tabs.show({label: bars(record) for label, record in shown.items()}, alt=alt)

# %%
page.tell(
    cost_few_span=statistics.span([found["cost_few"] for found in n.values()], 1),
    cost_logits_span=statistics.span([found["cost_logits"] for found in n.values()], 2),
    **next(iter(n.values())),
)

# %% [markdown]
# *Three minutes to read. Read first: [the method](/book/method.md).*
#
# **After this page you can**
#
# - estimate what a score costs on your own network;
# - say which scores share a pass;
# - compare the cost of one network with that of an ensemble.
#
# ## What we time
#
# We time several passes over the same images, in turn and several times: one epoch of
# training (forward, backward, update); the logits alone, as on clean images after an epoch;
# the gradient with respect to the input; curvature with several numbers of random
# directions; and the other methods for the Hessian. What counts is the ratio to training in
# the same round. Time does not depend on the values of the weights, so we use an untrained
# network.

# %%
tabs.show(
    {
        label: figures.table(
            cost.by_contestant(record["timing"]),
            what="pass",
            ms="ms for each sample",
            ratio="of a training epoch (median)",
        )
        for label, record in shown.items()
    }
)

# %% [markdown]
# ## Every score, in trainings
#
# The unit is the same run without scoring. A score of the last epoch needs one scoring pass
# only. The forward passes of training would give scores of the logits for free; here we
# compute them on clean images in evaluation mode, which takes an extra forward pass. Scores
# that need the same pass share it. Curvature needs the logits and the gradient anyway, so it
# gives you every other row as well. A run keeps a few bytes for each sample and epoch.

# %%
tabs.show(
    {
        label: figures.table(
            record["scores"].drop(columns="num_probes"),
            formats={"trainings": "{:.2f}"},
            epochs="scored epochs",
            bytes_per_sample="bytes for each sample",
        )
        for label, record in shown.items()
    }
)

# %%
page.claim(
    "One network trained once is enough: curvature at every epoch costs a few trainings, "
    "not thousands.",
    {label: found["cost_few"] < 4 for label, found in n.items()},
    ours={
        label: f"{found['cost_few']:.2f} trainings with n = {found['few']}"
        for label, found in n.items()
    },
    published=cost.PUBLISHED,
    tolerance="below 4 trainings",
    name="one-network-against-thousands",
)

# %% [markdown]
# At the last epoch alone, curvature of the first data set costs {glue:text}`cost_last:.2f`
# trainings, but that is a different and worse score. The paper that introduced the cumulative
# loss reports {glue:text}`published_two:.1f` trainings for curvature with two directions and
# {glue:text}`published_ten:.1f` with ten {cite:p}`ravikumar2025`. We compute the clean
# gradient once, not once for each direction, and one direction per epoch is often enough.
#
# ## Exercises
#
# ```{exercise}
# :label: ex-free
# Which scores cost nothing extra if you keep the logits of the training passes? How would
# their values differ?
# ```
#
# ```{solution} ex-free
# :class: dropdown
# All scores of the logits: cumulative loss, AUM, EL2N, forgetting events, confidence and
# entropy. The logits of a training pass belong to different weights for each batch, to
# augmented images, and to batch norm in training mode, so the values are noisier.
# ```
#
# ```{exercise}
# :label: ex-directions
# How many trainings does one more random direction cost? Use the two largest numbers of
# directions of the first data set.
# ```
#
# ```{solution-start} ex-directions
# :class: dropdown
# ```

# %% tags=["solution"]
table = next(iter(shown.values()))["scores"]
table = table[table["score"] == "curvature_norm"].set_index("num_probes")["trainings"]
few, many = sorted(table.index)[-2:]
(table[many] - table[few]) / (many - few)

# %% [markdown]
# ```{solution-end}
# ```
#
# Read next: [how settings change the estimate](/book/pages/estimator), and
# [measured speed](/book/speed.md).
