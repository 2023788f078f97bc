# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # What does the curvature of the loss around one sample measure?

# %% [markdown]
# *Ten minutes to read. Needs: what a gradient and a Hessian are.*
#
# A few points in the plane, two classes, and some labels that are wrong. A small network
# learns them by heart. We look at the loss around each point, measure how
# sharply it bends there, and ask two things: **is the estimate right**, and **do the
# points with wrong labels stand out?** In the plane everything can be seen and the exact
# answer can be computed; later pages do the same where neither is possible.

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
results = "results/scratch/what_is_curvature"  # folder for tables and figure data

# %% tags=["hide-input"]
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from curvlib.book.source import check_parameters
from myst_nb import glue

from curvlib import input_curvature, metrics, scores
from curvlib.book import figures
from curvlib.studies import toy

check_parameters(In)
results = Path(results)
results.mkdir(parents=True, exist_ok=True)

# %% [markdown]
# ## A few points, learned by heart

# %%
x, y, wrong = toy.two_classes(num_per_class, wrong_share=wrong_share, seed=seeds[0])
networks, at_step = toy.train(
    x,
    y,
    width=width,
    activation=activation,
    steps=steps,
    snapshots=snapshots,
    seed=seeds[0],
)
accuracy = (networks[-1](x).argmax(1) == y).double().mean().item()
glue("accuracy", accuracy, display=False)
glue("num_points", len(x), display=False)
glue("num_wrong", int(wrong.sum()), display=False)

# %% [markdown]
# At the end the network gives {glue:text}`accuracy:.0%` of the
# {glue:text}`num_points` points the label it was trained on;
# {glue:text}`num_wrong` of these labels are wrong. To do that it has to bend its decision
# boundary around single points.


# %% tags=["hide-input"] mystnb={"figure": {"caption": "To fit the wrong labels (\u2260) the boundary bends around single points: the probability of the blue class early in training (left) and at the end (right). n = {glue:text}`num_points` points, {glue:text}`num_wrong` with a wrong label.", "name": "fig-boundary"}, "image": {"alt": "Two maps of the plane of points. On the left the boundary between the classes is nearly straight; on the right it winds around single points with wrong labels."}}
def draw_points(ax):
    for label, colour in ((0, figures.COLOURS[1]), (1, figures.COLOURS[0])):
        mine = (y == label).numpy()
        ax.scatter(*x[mine].T, s=34, color=colour, edgecolor="white", zorder=3)
    for px, py in x[wrong]:
        ax.annotate("≠", (px, py), (4, 4), textcoords="offset points", weight="bold")
    ax.set(xticks=[], yticks=[], aspect="equal")


side = np.linspace(-1, 1, 160)
low, high = x.min(0).values.numpy() - 0.7, x.max(0).values.numpy() + 0.7
across, up = np.meshgrid(
    (low[0] + high[0]) / 2 + side * (high[0] - low[0]) / 2,
    (low[1] + high[1]) / 2 + side * (high[1] - low[1]) / 2,
)
grid = torch.from_numpy(np.stack([across.ravel(), up.ravel()], axis=1))

early = max(0, snapshots // 10 - 1)
fig, axes = plt.subplots(
    1, 2, figsize=(7, 2.4), layout="constrained", facecolor="white"
)
for ax, number in zip(axes, (early, snapshots - 1), strict=True):
    with torch.no_grad():
        chance = networks[number](grid).softmax(1)[:, 1].reshape(across.shape)
    shown = ax.contourf(
        across, up, chance, levels=np.linspace(0, 1, 11), cmap="RdBu", alpha=0.6
    )
    ax.contour(across, up, chance, levels=[0.5], colors="black", linewidths=1)
    draw_points(ax)
    ax.set_title(f"after {at_step[number]} steps", size=10)
_ = fig.colorbar(shown, ax=axes, label="probability of the blue class", shrink=1.0)

# %% [markdown]
# ## The loss around a point
#
# Curvature is about the *loss*, and the loss depends on the label: for a point labelled
# blue it is $L(x) = -\log p_{\text{blue}}(x)$. Seen over the whole plane this is a
# landscape with a plain where the network is sure of that label, and a slope where it is
# not. Around a point with a wrong label the network has dug a narrow hole into the slope.

# %% tags=["hide-input"] mystnb={"figure": {"caption": "The loss of one label over the plane, at the end of training, with the points that carry this label. Points with wrong labels (\u2260) sit in holes in the slope, or at its edge; the others on the plain.", "name": "fig-surface"}, "image": {"alt": "Two contour maps of the logarithm of the loss, one for each label. Dark plains surround correctly labelled points; wrongly labelled points lie in small dark holes within bright slopes."}}
with torch.no_grad():
    loss = -networks[-1](grid).log_softmax(1).T.reshape(2, *across.shape)
    log_loss = loss.clamp(1e-6, 100).log10().numpy()
fig, axes = plt.subplots(
    1, 2, figsize=(7, 2.4), layout="constrained", facecolor="white"
)
for label, ax in enumerate(axes):
    shown = ax.contourf(
        across,
        up,
        log_loss[label],
        levels=np.linspace(-6, 2, 17),
        cmap="viridis",
    )
    mine = (y == label).numpy()
    ax.scatter(*x[mine].T, s=30, color="white", edgecolor="black", zorder=3)
    for px, py in x[mine & wrong]:
        ax.annotate(
            "≠",
            (px, py),
            (4, 4),
            textcoords="offset points",
            color="white",
            weight="bold",
        )
    ax.set(xticks=[], yticks=[], aspect="equal")
    ax.set_title(f"loss of the label {('orange', 'blue')[label]}", size=10)
_ = fig.colorbar(shown, ax=axes, label="log₁₀ loss (nats)", shrink=1.0)

# %% [markdown]
# ## The estimator, and the exact Hessian
#
# Write $H$ for the Hessian of the loss at a point, with respect to the *input*. The score
# of Garg, Ravikumar and Roy {cite}`garg2024` never forms it. It steps along a
# random vector $v$ with entries $\pm1$ and looks at how much the gradient changed:
#
# $$ \Delta(v) = \frac{\nabla_x L(x + h v) - \nabla_x L(x)}{h} \approx H v, \qquad
#    \mathbb{E}\,\|H v\|^2 = \mathrm{tr}(H^2). $$ (eq-estimator)
#
# The last step holds since $\mathbb{E}[v v^\top]$ is the identity. Here, with two
# coordinates, the Hessian can be had exactly by differentiating twice, so we can check
# {eq}`eq-estimator` at every point and snapshot.

# %%
estimates = [
    input_curvature(
        network,
        x,
        y,
        num_probes=num_probes,
        step=step,
        generator=torch.Generator().manual_seed(number),  # new probes each time
    )
    for number, network in enumerate(networks)
]
squares = np.stack([e.squared_frobenius_norm.numpy() for e in estimates])  # [E, N]
exact = np.stack(
    [toy.exact_squared_frobenius_norm(network, x, y).numpy() for network in networks]
)
error = np.abs(squares.mean(0) - exact.mean(0)) / exact.mean(0)
glue(
    "agree_verdict",
    "The estimate agrees with the exact tr(H²)"
    if np.median(error) < 0.2
    else "The estimate is not the exact tr(H²)",
    display=False,
)
glue("num_probes_used", num_probes, display=False)
glue("median_error", float(np.median(error)), display=False)
glue("largest_error", float(error.max()), display=False)

# %% tags=["hide-input"] mystnb={"figure": {"caption": "{glue:text}`agree_verdict`: averaged over {glue:text}`num_snapshots` snapshots a point's score is off by {glue:text}`median_error:.1%` in the median and by {glue:text}`largest_error:.1%` at most. One dot is one point at one snapshot; n = {glue:text}`num_dots`, of which {glue:text}`num_flat` below 1e-12 are not drawn.", "name": "fig-exact"}, "image": {"alt": "Scatter plot of estimated against exact squared Frobenius norm on logarithmic axes ."}}
glue("num_snapshots", len(networks), display=False)
glue("num_dots", int(squares.size), display=False)
pd.DataFrame(
    {
        "step": np.repeat(at_step, len(x)),
        "point": np.tile(np.arange(len(x)), len(networks)),
        "wrong": np.tile(wrong, len(networks)),
        "exact": exact.ravel(),
        "estimate": squares.ravel(),
    }
).to_csv(results / "fig-exact.csv", index=False)
fig, ax = plt.subplots(figsize=(4.6, 4.2), layout="constrained", facecolor="white")
floor = 1e-12  # below it the loss is flat by any measure
shown = (exact > floor) & (squares > floor)
for name, mask, colour, marker in (
    ("label as drawn", ~wrong, figures.COLOURS[0], "o"),
    ("wrong label", wrong, figures.COLOURS[1], "^"),
):
    some = shown & mask
    ax.scatter(
        exact[some],
        squares[some],
        s=12,
        alpha=0.5,
        color=colour,
        marker=marker,
        label=name,
    )
glue("num_flat", int((~shown).sum()), display=False)
ends = [exact[shown].min(), exact[shown].max()]
ax.plot(ends, ends, color="black", lw=1, zorder=0)
ax.set(xscale="log", yscale="log")
ax.set(xlabel="exact tr(H²)", ylabel=f"estimate from {num_probes} probes")
_ = ax.legend(frameon=False)

# %% [markdown]
# A warning for later: this network is smooth. One made of ReLUs bends only at kinks, its
# exact Hessian does not even depend on the label, and a finite step then measures the
# kinks it crosses. The step belongs to the score. (Run this page with
# `-p activation relu` to see the two part.)
#
# ## Do the wrong labels stand out?
#
# The score of a point is its curvature averaged over training: early on the network has
# not yet dug the holes, and late, when all is fitted with a wide margin, the loss around
# *every* point is flat.

# %% tags=["hide-input"] mystnb={"figure": {"caption": "The curvature of each point, averaged over training: of the {glue:text}`num_wrong` sharpest points {glue:text}`hits` carry a wrong label (chance: {glue:text}`chance_hits:.1f`).", "name": "fig-points"}, "image": {"alt": "Points ranked by curvature from high to low on a logarithmic axis; those with wrong labels are drawn as triangles."}}
score = scores.curvature_square(squares)
order = np.argsort(-score)
glue("hits", int(wrong[order[: wrong.sum()]].sum()), display=False)
glue("chance_hits", float(wrong.sum() * wrong.mean()), display=False)
pd.DataFrame({"point": order, "score": score[order], "wrong": wrong[order]}).to_csv(
    results / "fig-points.csv", index=False
)
fig, ax = plt.subplots(figsize=(7, 2.8), layout="constrained", facecolor="white")
place = np.arange(len(order))
for name, mask, colour, marker in (
    ("label as drawn", ~wrong[order], figures.COLOURS[0], "o"),
    ("wrong label", wrong[order], figures.COLOURS[1], "^"),
):
    ax.scatter(place[mask], score[order][mask], color=colour, marker=marker, label=name)
ax.set(yscale="log", xlabel="rank", ylabel="mean tr(H²)")
_ = ax.legend(frameon=False)

# %% [markdown]
# One picture of a few points proves little, so we repeat it with other points, other
# wrong labels and other initial weights, and ask for the probability that a wrong label
# scores above a right one (AUROC). Beside curvature stand the last snapshot alone, the
# plain loss summed over training, and random numbers.

# %%
rows = []
for seed in seeds:
    points, labels, flipped = toy.two_classes(
        num_per_class, wrong_share=wrong_share, seed=seed
    )
    states, _ = toy.train(
        points,
        labels,
        width=width,
        activation=activation,
        steps=steps,
        snapshots=snapshots,
        seed=seed,
    )
    found = [
        input_curvature(
            state,
            points,
            labels,
            num_probes=num_probes,
            step=step,
            generator=torch.Generator().manual_seed(number),
        )
        for number, state in enumerate(states)
    ]
    bends = np.stack([e.squared_frobenius_norm.numpy() for e in found])
    losses = np.stack([e.loss.numpy() for e in found])
    for name, values in (
        ("curvature, mean over training", scores.curvature_square(bends)),
        ("curvature, last snapshot", scores.curvature_last(bends)),
        ("cumulative loss", scores.cumulative_loss(losses)),
        ("random", scores.random(np.arange(len(points)), seed=seed)),
    ):
        rows.append(
            {"seed": seed, "score": name, "auroc": metrics.auroc(values, flipped)}
        )
table = pd.DataFrame(rows)
table.to_csv(results / "auroc.csv", index=False)
summary = table.groupby("score", sort=False)["auroc"].agg(["mean", "std"])
summary.columns = ["AUROC, mean", "sd over seeds"]
summary.style.format("{:.2f}")

# %% tags=["remove-cell"]
by_score = table.groupby("score")["auroc"].agg(lambda v: metrics.mean_sd(v, digits=2))
for key, name in (
    ("curvature", "curvature, mean over training"),
    ("loss", "cumulative loss"),
    ("random", "random"),
):
    glue(f"auroc_{key}", by_score[name], display=False)
glue("num_seeds", len(seeds), display=False)

# %% [markdown]
# ## Exercises
#
# ```{exercise}
# :label: ex-relu
# Run this page with `-p activation relu`. What becomes of {numref}`fig-exact`, and why?
# ```
#
# ```{solution} ex-relu
# :class: dropdown
# The exact Hessian of a ReLU network sees only the softmax above a piecewise linear map,
# so that it is blind to the kinks. The finite difference crosses some of them and
# exceeds the exact value there, the more so the smaller the step: the same jump of the
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

# %% [markdown]
# ## The answer
#
# The curvature score measures how sharply the gradient of a sample's loss turns when the
# input moves a little, and the estimate of it from {glue:text}`num_probes_used` random
# directions is off by {glue:text}`median_error:.1%` (median over points) from the exact
# value. A point with a wrong label scores above another with probability
# {glue:text}`auroc_curvature` (AUROC, mean ± sd over {glue:text}`num_seeds` seeds), against
# {glue:text}`auroc_random` for random numbers and {glue:text}`auroc_loss` for the
# cumulative loss: where {glue:text}`num_wrong` of {glue:text}`num_points` labels are wrong,
# the right neighbours of a wrong one bend too.
