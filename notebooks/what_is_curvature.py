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
# **In short.** Curvature measures how fast the gradient of a sample's loss changes when
# the input moves a little. Among {glue:text}`num_points` points in the plane,
# {glue:text}`num_wrong` carry a wrong label, and {glue:text}`hits` of the
# {glue:text}`num_wrong` points with the highest curvature are among them
# ({numref}`fig-points`). The estimate from {glue:text}`num_probes` random directions
# differs from the exact value by {glue:text}`median_error:.1%` (median over points).

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

# %% tags=["hide-input"]
import numpy as np

from curvlib.book import Page, figures
from curvlib.studies import statistics
from curvlib.studies import what_is_curvature as study

page = Page.begin(In)
record = page.record(study.measure)
points, table = record["points"], record["estimates"]  # a row a snapshot and point
wrong = points["wrong"].to_numpy()
groups = {"correct label": ~wrong, "wrong label": wrong}
score = table.groupby("point")["estimate"].mean()
error = study.relative_error(table)
page.tell(
    num_points=len(points),
    num_wrong=int(wrong.sum()),
    hits=int(wrong[score.nlargest(wrong.sum()).index].sum()),
    chance_hits=wrong.sum() * wrong.mean(),
    num_probes=record.parameters.num_probes,
    median_error=error.median(),
    largest_error=error.max(),
)

# %% mystnb={"figure": {"caption": "Points with wrong labels (\u2260) tend to have high curvature. Left: the points and the probability that the network gives to the blue class after training; a larger disc means a higher rank by curvature. Right: the same points from high to low curvature. By chance, {glue:text}`chance_hits:.1f` of the first {glue:text}`num_wrong` points would be mislabelled; here {glue:text}`hits` are.", "name": "fig-points"}, "image": {"alt": "Left, a map of the plane in two colours with a winding boundary; discs with wrong labels lie in small bays of the boundary, and many of them are large. Right, points ranked by curvature on a logarithmic axis; those with wrong labels, drawn as squares, gather among the high ranks."}}
fig, (left, right) = figures.panels(2, height=2.6, width_ratios=[3, 2])
look = {"levels": np.linspace(0, 1, 11), "cmap": figures.TWO_CLASSES}
figures.plane(record["map"], record["chance"][-1], ax=left, **look)
figures.points(points, area=4 * score.rank(), ax=left)
_ = figures.ranked(score, groups, ylabel="mean tr(H²)", ax=right)

# %% [markdown]
# *Ten minutes to read; a minute to run. You need to know what a gradient, a Hessian and the
# cross-entropy loss are.*
#
# **After this page you can**
#
# - say what input loss curvature measures, and around which point;
# - derive the estimator, and check it against an exact Hessian;
# - explain why mislabelled points stand out, and when they do not.
#
# ## A few points, memorised
#
# We draw two classes of points in the plane and flip some labels (≠). A small network
# learns them all: at the end it gives {glue:text}`accuracy:.0%` of the
# {glue:text}`num_points` points the label it was trained on, although
# {glue:text}`num_wrong` of these labels are wrong. To do that it bends its decision
# boundary around single points.

# %% mystnb={"figure": {"caption": "To fit the wrong labels (\u2260) the boundary bends around single points: the probability of the blue class early in training (left) and at the end (right). {glue:text}`num_points` points, {glue:text}`num_wrong` with a wrong label.", "name": "fig-boundary"}, "image": {"alt": "Two maps of the plane of points. On the left the boundary between the classes is nearly straight; on the right it winds around single points with wrong labels."}}
page.tell(accuracy=record["snapshots"]["accuracy"].iloc[-1])
fig, axes = figures.panels(2, height=2.2)
for ax, chance, when in zip(axes, record["chance"], ("early", "last"), strict=True):
    figures.plane(record["map"], chance, boundary=0.5, ax=ax, **look)
    figures.points(points, ax=ax)
    ax.set_title(f"after {record['map'][when].iloc[0]} steps")

# %% [markdown]
# ## The loss around a point
#
# Curvature is a property of the *loss*, and the loss depends on the label: for a point
# labelled blue it is $L(x) = -\log p_{\text{blue}}(x)$. Over the plane this loss is a
# landscape: a plain where the network is sure of the label, and a slope where it is not.
# Around a mislabelled point the network has dug a narrow hole into the slope.

# %% mystnb={"figure": {"caption": "Points with wrong labels (\u2260) lie in holes in the slope or at its edge; the others lie on the plain. The loss of one label over the plane at the end of training, with the points that carry this label.", "name": "fig-surface"}, "image": {"alt": "Two contour maps of the logarithm of the loss, one for each label. Dark plains surround correctly labelled points; wrongly labelled points lie in small dark holes within bright slopes."}}
fig, axes = figures.panels(2, height=2.2, width_ratios=[9, 10])
for label, ax in enumerate(axes):
    height = np.log10(record["loss"][label].astype(float).clip(1e-6, 100))
    bar = "log₁₀ loss" if label == 1 else None
    levels = np.linspace(-6, 2, 17)
    figures.plane(record["map"], height, levels=levels, label=bar, ax=ax)
    figures.points(points[points["label"] == label], ax=ax)
    ax.set_title(f"loss of the label {('orange', 'blue')[label]}")

# %% [markdown]
# ## The estimator and the exact Hessian
#
# Write $H$ for the Hessian of the loss at a point with respect to the *input*. The score of
# Garg, Ravikumar and Roy {cite}`garg2024` never forms it. It takes a step along a random
# vector $v$ with entries $\pm1$ and measures how much the gradient changes:
#
# $$ \Delta(v) = \frac{\nabla_x L(x + h v) - \nabla_x L(x)}{h} \approx H v, \qquad
#    \mathbb{E}\,\|H v\|^2 = \mathrm{tr}(H^2). $$ (eq-estimator)
#
# The second equation holds because $\mathbb{E}[v v^\top]$ is the identity. With two
# coordinates we can also compute the Hessian exactly, by differentiating twice, and check
# {eq}`eq-estimator` at every point and snapshot.

# %% mystnb={"figure": {"caption": "The estimate lies close to the exact tr(H\u00b2). One mark for each point and snapshot ({glue:text}`num_dots`, of which {glue:text}`num_flat` below 1e-12 are not drawn). Averaged over snapshots, a point's score differs from the exact value by {glue:text}`median_error:.1%` in the median and {glue:text}`largest_error:.1%` at most.", "name": "fig-exact"}, "image": {"alt": "Scatter plot of estimated against exact squared Frobenius norm on logarithmic axes, with the diagonal on which both are equal."}}
seen = table[(table[["exact", "estimate"]] > 1e-12).all(axis=1)]
seen = seen.assign(label=np.where(seen["wrong"], *reversed(groups)))
page.tell(num_dots=len(table), num_flat=len(table) - len(seen))
axes = {"log": "xy", "xlabel": "exact tr(H²)"}
ax = figures.lines(seen, "exact", "estimate", by="label", joined=False, **axes)
_ = ax.axline((1, 1), (2, 2), color="black", lw=1, zorder=0)

# %%
page.claim(
    "The estimate agrees with the exact tr(H²), within 20% in the median.",
    error.median() < 0.2,
    ours=f"{error.median():.1%}",
)

# %% [markdown]
# A warning for later: this network is smooth. A ReLU network is piecewise linear before
# its softmax, and its exact Hessian does not even depend on the label. A finite step then
# measures the kinks that it crosses. The step is part of the score.
#
# ## Do the wrong labels stand out?
#
# The score of a point is its curvature averaged over training. One snapshot would not do:
# early on the network has not yet dug the holes, and late, when it fits all labels with a
# wide margin, the loss is flat around *every* point.
#
# One picture of a few points proves little, so we repeat the experiment
# {glue:text}`num_seeds` times with other points, other wrong labels and other initial
# weights. AUROC is the probability that a mislabelled point scores above a correctly
# labelled one; 0.5 is chance. The table compares curvature with its last snapshot alone,
# with the loss summed over training, and with random numbers. The cumulative loss
# reaches {glue:text}`auroc_loss` and curvature {glue:text}`auroc_curvature` (mean ±
# standard deviation over seeds).

# %%
aurocs = record["auroc"].groupby("score", sort=False)["auroc"]
text = {name: statistics.mean_sd(values, digits=2) for name, values in aurocs}
page.tell(
    num_seeds=len(record.parameters.seeds),
    auroc_curvature=text["curvature, mean over training"],
    auroc_loss=text["cumulative loss"],
)
figures.table(
    aurocs.agg(["mean", "std"]).reset_index(), mean="AUROC", std="sd over seeds"
)

# %%
curvature = "curvature, mean over training"
page.claim(
    "Curvature averaged over training finds mislabelled points better than chance "
    "(mean AUROC above .7).",
    aurocs.mean()[curvature] > 0.7,
    ours=text[curvature],
)

# %% [markdown]
# ## Exercises
#
# ```{exercise}
# :label: ex-two-probes
# In the plane there are only four vectors with entries $\pm1$, and $v$ and $-v$ give the
# same $\|Hv\|$. Which two probes give $\mathrm{tr}(H^2)$ exactly, and why?
# ```
#
# ```{solution} ex-two-probes
# :class: dropdown
# $(1, 1)$ and $(1, -1)$. Let $H$ have the rows $(a, b)$ and $(b, c)$. Then $\|Hv\|^2$ is
# $(a + b)^2 + (b + c)^2$ for the first and $(a - b)^2 + (b - c)^2$ for the second. The
# mixed terms cancel in the mean, which is $a^2 + 2b^2 + c^2 = \mathrm{tr}(H^2)$.
# ```
#
# ```{exercise}
# :label: ex-relu
# Measure again with `activation="relu"` and the steps 0.1, 0.01 and 0.001. Compare the
# mean of the exact $\mathrm{tr}(H^2)$ with the mean of the estimates. What happens as the
# step shrinks, and why?
# ```
#
# ```{solution-start} ex-relu
# :class: dropdown
# ```

# %% tags=["solution", "skip-execution"]
same = {"num_per_class": num_per_class, "steps": steps, "snapshots": snapshots}
for relu_step in (0.1, 0.01, 0.001):
    relu = study.measure(activation="relu", step=relu_step, seeds=seeds[:1], **same)
    print(relu_step, relu.tables["estimates"][["exact", "estimate"]].mean().to_dict())

# %% [markdown]
# The exact value stays the same, and the estimate grows as the step shrinks. The exact
# Hessian contains only the softmax above a piecewise linear map and does not see the kinks.
# The finite difference crosses some of them. A crossed kink adds the same jump of the
# gradient whatever the step is, and $\|\Delta(v)\|^2$ divides its square by $h^2$. Crossings
# become rarer only in proportion to $h$, so the mean grows like $1/h$.
#
# ```{solution-end}
# ```
#
# Read next: [how the step and the probes change the score](/book/pages/estimator), and
# [the images at both ends of the ranking](/book/pages/gallery).
