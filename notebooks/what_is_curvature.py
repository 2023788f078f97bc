# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # What does the curvature of the loss around one sample measure?
#
# **In short.** Curvature measures how sharply the gradient of a sample's loss turns when
# the input moves a little. On points in the plane the estimate from
# {glue:text}`num_probes` random directions is off by {glue:text}`median_error:.1%` from the
# exact value (median over points, {numref}`fig-exact`). A mislabelled point scores above a
# correctly labelled one with probability {glue:text}`auroc_curvature` (AUROC, mean ±
# standard deviation over {glue:text}`num_seeds` seeds), against {glue:text}`auroc_loss`
# for the cumulative loss.
#
# *Ten minutes to read. Read first: nothing; you need to know what a gradient and a Hessian
# are. After this page you can derive the estimator, check it against an exact Hessian, and
# explain why mislabelled points stand out.*

# %% tags=["parameters"]
num_per_class = 15  # training points in each of the two classes
wrong_share = 0.3  # share of the labels that are flipped
activation = "softplus"  # of the network; softplus is smooth, so that a Hessian exists
width = 64  # units in each of two hidden layers
steps = 1000  # steps of training, on all points at once
snapshots = 20  # states of the network that are scored
num_probes = 10  # random directions for each estimate
step = 0.001  # how far the estimator steps in each coordinate
seeds = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]  # repetitions, each with new points and weights
records: list = None  # records to show; None measures with the values above
results = "results/scratch/what_is_curvature"  # folder of the record that is measured

# %%
import matplotlib.pyplot as plt
import numpy as np

from curvlib.book import Page, figures
from curvlib.studies import statistics
from curvlib.studies import what_is_curvature as study

page = Page.begin(In)
record = page.record(study.measure)

# %% [markdown]
# ## A few points, memorised
#
# We draw two classes of points in the plane and flip some labels (≠). A small network
# learns them all: at the end it gives {glue:text}`accuracy:.0%` of the
# {glue:text}`num_points` points the label it was trained on, though
# {glue:text}`num_wrong` of these labels are wrong. To do that it bends its decision
# boundary around single points.

# %%
points = record["points"]
wrong = points["wrong"].to_numpy()
across, up = study.plane(record["map"])
page.tell(
    accuracy=record["snapshots"]["accuracy"].iloc[-1],
    num_points=len(points),
    num_wrong=int(wrong.sum()),
    num_probes=record.parameters.num_probes,
    num_seeds=len(record.parameters.seeds),
)


def draw(ax, some=points):
    """The points in the colour of their label, wrong labels marked."""
    colours = [figures.COLOURS[1 - label] for label in some["label"]]
    ax.scatter(some["x"], some["y"], s=34, color=colours, edgecolor="white", zorder=3)
    for _, point in some[some["wrong"]].iterrows():
        place = (point["x"], point["y"])
        ax.annotate("≠", place, (4, 4), textcoords="offset points", weight="bold")
    ax.set(xticks=[], yticks=[], aspect="equal")


# %% mystnb={"figure": {"caption": "To fit the wrong labels (\u2260) the boundary bends around single points: the probability of the blue class early in training (left) and at the end (right). {glue:text}`num_points` points, {glue:text}`num_wrong` with a wrong label.", "name": "fig-boundary"}, "image": {"alt": "Two maps of the plane of points. On the left the boundary between the classes is nearly straight; on the right it winds around single points with wrong labels."}}
fig, axes = plt.subplots(1, 2, figsize=(7, 2.4), layout="constrained")
for ax, chance, when in zip(axes, record["chance"], ("early", "last"), strict=True):
    levels = np.linspace(0, 1, 11)
    shown = ax.contourf(across, up, chance, levels=levels, cmap="RdBu", alpha=0.6)
    ax.contour(across, up, chance, levels=[0.5], colors="black", linewidths=1)
    draw(ax)
    ax.set_title(f"after {record['map'][when].iloc[0]} steps", size=10)
_ = fig.colorbar(shown, ax=axes, label="probability of the blue class")

# %% [markdown]
# ## The loss around a point
#
# Curvature is a property of the *loss*, and the loss depends on the label: for a point
# labelled blue it is $L(x) = -\log p_{\text{blue}}(x)$. Over the plane this is a landscape
# with a plain where the network is sure of that label and a slope where it is not. Around
# a mislabelled point the network has dug a narrow hole into the slope.

# %% mystnb={"figure": {"caption": "The loss of one label over the plane, at the end of training, with the points that carry this label. Points with wrong labels (\u2260) sit in holes in the slope or at its edge; the others lie on the plain.", "name": "fig-surface"}, "image": {"alt": "Two contour maps of the logarithm of the loss, one for each label. Dark plains surround correctly labelled points; wrongly labelled points lie in small dark holes within bright slopes."}}
fig, axes = plt.subplots(1, 2, figsize=(7, 2.4), layout="constrained")
for label, ax in enumerate(axes):
    height = np.log10(record["loss"][label].astype(float).clip(1e-6, 100))
    levels = np.linspace(-6, 2, 17)
    shown = ax.contourf(across, up, height, levels=levels, cmap="viridis")
    draw(ax, points[points["label"] == label])
    ax.set_title(f"loss of the label {('orange', 'blue')[label]}", size=10)
_ = fig.colorbar(shown, ax=axes, label="log₁₀ loss (nats)")

# %% [markdown]
# ## The estimator and the exact Hessian
#
# Write $H$ for the Hessian of the loss at a point with respect to the *input*. The score of
# Garg, Ravikumar and Roy {cite}`garg2024` never forms it. It steps along a random vector
# $v$ with entries $\pm1$ and looks at how much the gradient changed:
#
# $$ \Delta(v) = \frac{\nabla_x L(x + h v) - \nabla_x L(x)}{h} \approx H v, \qquad
#    \mathbb{E}\,\|H v\|^2 = \mathrm{tr}(H^2). $$ (eq-estimator)
#
# The second equation holds since $\mathbb{E}[v v^\top]$ is the identity. With two
# coordinates we can compute the Hessian exactly, by differentiating twice, and check
# {eq}`eq-estimator` at every point and snapshot.

# %% mystnb={"figure": {"caption": "Estimate against exact tr(H\u00b2), one dot for each point and snapshot ({glue:text}`num_dots`, of which {glue:text}`num_flat` below 1e-12 are not drawn). Averaged over snapshots a point's score is off by {glue:text}`median_error:.1%` in the median and {glue:text}`largest_error:.1%` at most.", "name": "fig-exact"}, "image": {"alt": "Scatter plot of estimated against exact squared Frobenius norm on logarithmic axes."}}
table = record["estimates"]  # a row for each snapshot and point
error = study.relative_error(table)
seen = table[(table[["exact", "estimate"]] > 1e-12).all(axis=1)]
page.tell(
    median_error=error.median(),
    largest_error=error.max(),
    num_dots=len(table),
    num_flat=len(table) - len(seen),
)
GROUPS = {"label as drawn": (False, 0, "o"), "wrong label": (True, 1, "^")}
fig, ax = plt.subplots(figsize=(4.6, 4.2), layout="constrained")
for name, (is_wrong, colour, marker) in GROUPS.items():
    some = seen[seen["wrong"] == is_wrong]
    look = {"s": 12, "alpha": 0.5, "color": figures.COLOURS[colour], "marker": marker}
    ax.scatter(some["exact"], some["estimate"], label=name, **look)
ax.axline((1, 1), slope=1, color="black", lw=1, zorder=0)
ax.set(xscale="log", yscale="log", xlabel="exact tr(H²)", ylabel="estimate")
_ = ax.legend()

# %%
page.claim(
    "The estimate agrees with the exact tr(H²), within 20 % in the median.",
    error.median() < 0.2,
    ours=f"{error.median():.1%}",
)

# %% [markdown]
# A warning for later: this network is smooth. A network of ReLUs bends only at kinks, its
# exact Hessian does not even depend on the label, and a finite step then measures the
# kinks it crosses. The step is part of the score.
#
# ## Do the wrong labels stand out?
#
# The score of a point is its curvature averaged over training. Early on the network has
# not yet dug the holes. Late, when all labels are fitted with a wide margin, the loss is
# flat around *every* point.

# %% mystnb={"figure": {"caption": "The curvature of each point, averaged over training. Of the {glue:text}`num_wrong` sharpest points {glue:text}`hits` are mislabelled (by chance {glue:text}`chance_hits:.1f`).", "name": "fig-points"}, "image": {"alt": "Points ranked by curvature from high to low on a logarithmic axis; those with wrong labels are drawn as triangles."}}
score = table.groupby("point")["estimate"].mean().sort_values(ascending=False)
ranked = wrong[score.index]
page.tell(hits=int(ranked[: wrong.sum()].sum()), chance_hits=wrong.sum() * wrong.mean())
fig, ax = plt.subplots(figsize=(7, 2.8), layout="constrained")
for name, (is_wrong, colour, marker) in GROUPS.items():
    place = np.flatnonzero(ranked == is_wrong)
    look = {"color": figures.COLOURS[colour], "marker": marker, "label": name}
    ax.scatter(place, score.to_numpy()[place], **look)
ax.set(yscale="log", xlabel="rank", ylabel="mean tr(H²)")
_ = ax.legend()

# %% [markdown]
# One picture of a few points proves little. We repeat the experiment with other points,
# other wrong labels and other initial weights, and compute the probability that a
# mislabelled point scores above a correctly labelled one (AUROC). The table also has the
# last snapshot alone, the loss summed over training, and random numbers.

# %%
aurocs = record["auroc"].groupby("score", sort=False)["auroc"]
text = {name: statistics.mean_sd(values, digits=2) for name, values in aurocs}
page.tell(
    auroc_curvature=text["curvature, mean over training"],
    auroc_loss=text["cumulative loss"],
)
figures.table(
    aurocs.agg(["mean", "std"]).reset_index(), mean="AUROC", std="sd over seeds"
)

# %%
means = aurocs.mean()
page.claim(
    "Curvature averaged over training finds mislabelled points better than chance "
    "(mean AUROC above .7).",
    means["curvature, mean over training"] > 0.7,
    ours=text["curvature, mean over training"],
)

# %% [markdown]
# ## Exercises
#
# ```{exercise}
# :label: ex-relu
# Run this page with `-p activation relu`. What happens to {numref}`fig-exact`, and why?
# ```
#
# ```{solution} ex-relu
# :class: dropdown
# The exact Hessian of a ReLU network contains only the softmax above a piecewise linear
# map, so it does not see the kinks. The finite difference crosses some of them and exceeds
# the exact value there. The smaller the step, the larger the excess: the same jump of the
# gradient is divided by a smaller $h$.
# ```
#
# ```{exercise}
# :label: ex-sigma
# With two coordinates there are only four vectors with entries $\pm1$, and $v$ and $-v$
# give the same $\|Hv\|$. When do two probes suffice for the exact value?
# ```
#
# ```{solution} ex-sigma
# :class: dropdown
# When they are $(1, 1)$ and $(1, -1)$: the mean of $\|Hv\|^2$ over the two is
# $\mathrm{tr}(H^2)$ exactly, since the mixed terms cancel.
# ```
#
# Read next: [how the step and the probes change the score](/book/pages/estimator),
# and [the images at both ends of the ranking](/book/pages/gallery).
