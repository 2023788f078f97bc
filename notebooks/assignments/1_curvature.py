# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Assignment 1: How do two gradients measure curvature?
#
# *About 60 minutes (an estimate); the computer needs less than one. You need PyTorch
# basics, the chain rule, and the page "What does the curvature of the loss around one
# sample measure?".*
#
# You write the estimator of input loss curvature in three short functions. You check it
# against a Hessian that you know in closed form and against `curvlib`. Two more functions
# show what it measures on a network of ReLUs.
#
# How to work: replace each `raise NotImplementedError(...)` by your code. The cell below it
# checks your function. If a check fails, read its last line: it says what is likely wrong.
# Points are in brackets.

# %%
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

import curvlib
from curvlib.data import load

torch.manual_seed(0)
torch.set_num_threads(1)
digits = load("digits").select(np.arange(400))
x = torch.from_numpy(digits.images[:]).double().flatten(1) / 255  # [400, 64]
x = (x - x.mean()) / x.std()
y = torch.from_numpy(digits.labels)


def trained(activation, steps=60):
    """A network with one hidden layer, trained on the digits for a moment."""
    torch.manual_seed(1)
    layers = nn.Linear(64, 64), activation, nn.Linear(64, 10)
    model = nn.Sequential(*layers).double()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(steps):
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
    return model.eval().requires_grad_(False)


# A linear model of 6 inputs and 4 classes: its Hessian is known in closed form.
linear = nn.Linear(6, 4).double().requires_grad_(False)
small_x = torch.randn(5, 6, dtype=torch.float64)
small_y = torch.tensor([0, 1, 2, 3, 0])

# %% [markdown]
# ## 1. The gradient of each sample's loss (2 points)
#
# Write a function that returns $\nabla_x L_i(x_i)$ for every sample $i$ of a batch. $L_i$ is
# the cross-entropy of sample $i$ alone. Make a copy of x that requires a gradient, and call
# `torch.autograd.grad` once: the loss of one sample does not depend on the other samples, so
# the gradient of the *sum* has all of them as rows.


# %% nbgrader={"grade": false, "grade_id": "gradient", "locked": false, "schema_version": 3, "solution": true, "task": false}
def input_gradient(model, x, y):
    """Gradient of each sample's own loss by its input, shape as x."""
    ### BEGIN SOLUTION
    x = x.detach().requires_grad_()
    loss = F.cross_entropy(model(x), y, reduction="sum")
    return torch.autograd.grad(loss, x)[0]
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "gradient-check", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
try:
    found = input_gradient(linear, small_x, small_y)
except NotImplementedError:
    raise
except RuntimeError as error:
    raise AssertionError(
        "torch.autograd.grad needs one number, the sum of the losses, and an x that "
        f"requires a gradient: x.detach().requires_grad_(). It said: {error}"
    ) from error
assert isinstance(found, torch.Tensor), (
    f"return a tensor, not {type(found).__name__}: torch.autograd.grad returns a tuple with "
    "one gradient for each input, so take its [0]"
)
p = linear(small_x).softmax(1)
known = (p - F.one_hot(small_y, 4)) @ linear.weight  # of softmax regression
assert found.shape == small_x.shape, (
    f"expected one gradient for each sample, shape {tuple(small_x.shape)}, "
    f"got {tuple(found.shape)}"
)
assert not torch.allclose(found, known / len(small_x)), (
    "your gradients are too small by the batch size: cross_entropy averages over the "
    "batch by default. Use reduction='sum'"
)
assert torch.allclose(found, known), (
    "these are not the gradients of the cross-entropy by the input. Do you "
    "differentiate by x (not by the weights), with the labels y?"
)
### BEGIN HIDDEN TESTS
one = input_gradient(linear, small_x[:1], small_y[:1])
assert torch.allclose(one, known[:1]), "a batch of one must give the same gradient"
### END HIDDEN TESTS

# %% [markdown]
# ## 2. A Hessian-vector product from two gradients (2 points)
#
# Write $\Delta(v) = \big(\nabla_x L(x + h v) - \nabla_x L(x)\big) / h$. Do not normalise
# $v$.


# %% nbgrader={"grade": false, "grade_id": "product", "locked": false, "schema_version": 3, "solution": true, "task": false}
def finite_difference(model, x, y, v, h):
    """Δ(v) for each sample, shape as x; v has the shape of one input."""
    ### BEGIN SOLUTION
    moved = input_gradient(model, x + h * v, y)
    return (moved - input_gradient(model, x, y)) / h
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "product-check", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
p, weight = linear(small_x).softmax(1), linear.weight
middle = torch.diag_embed(p) - p[:, :, None] * p[:, None, :]  # diag p − p pᵀ
hessian = weight.T @ middle @ weight  # [5, 6, 6], exact for softmax regression
v = torch.tensor([1.0, -1.0, 1.0, 1.0, -1.0, 1.0]).double()
found, known = finite_difference(linear, small_x, small_y, v, 1e-5), hessian @ v
assert not torch.allclose(found, 1e-5 * known, atol=1e-9), (
    "you have the difference of the gradients; divide it by h"
)
assert not torch.allclose(found, known / 6**0.5, rtol=1e-3), (
    "your v has length 1. Here v has entries ±1 and length √6: do not normalise it"
)
assert torch.allclose(found, known, rtol=1e-3, atol=1e-6), (
    "Δ(v) should be close to H v for a small h. Check the sign, and that only x moves"
)

# %% [markdown]
# ## 3. Curvature: a mean over probes (3 points)
#
# A *Rademacher probe* is a random vector $v$ with entries $\pm1$. Since
# $\mathbb{E}[v v^\top] = I$, the mean of $\|H v\|^2$ over probes is $\mathrm{tr}(H^2)$.
# Write a function that averages $\|\Delta(v)\|^2$ over the probes it is given.


# %% nbgrader={"grade": false, "grade_id": "curvature", "locked": false, "schema_version": 3, "solution": true, "task": false}
def curvature(model, x, y, probes, h):
    """Mean over the probes [K, D] of ‖Δ(v)‖², one value for each sample."""
    ### BEGIN SOLUTION
    products = torch.stack([finite_difference(model, x, y, v, h) for v in probes])
    return products.square().sum(2).mean(0)
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "curvature-check", "locked": true, "points": 3, "schema_version": 3, "solution": false, "task": false}
# All 64 sign vectors give the expectation itself, so that the answer is exact.
signs = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0]).double()] * 6)
found = curvature(linear, small_x, small_y, signs, 1e-5)
known = hessian.square().sum((1, 2))  # tr(H²), as H is symmetric
assert found.shape == (5,), (
    f"expected one value for each of 5 samples, got shape {tuple(found.shape)}"
)
norms = torch.stack([(hessian @ v).norm(dim=1) for v in signs]).mean(0)
assert not torch.allclose(found, norms, rtol=1e-3), (
    "you average ‖Δ(v)‖. This is a score too (curvature_norm), but it is not tr(H²): "
    "square before you average"
)
assert not torch.allclose(found, norms**2, rtol=1e-3), (
    "you square the mean. Square first, then average: the two differ"
)
assert found.max() > 1e-6, (
    "you average Δ(v) first. The signs cancel: take ‖Δ(v)‖² first, then average"
)
assert torch.allclose(found, known, rtol=1e-3), (
    "the mean over all 64 sign vectors should be tr(H²). Do you sum over the inputs and "
    "average over the probes?"
)

# %% [markdown]
# ## 4. The same as curvlib? (1 point)
#
# Compute the curvature of the first 50 digits under a smooth network, with `curvlib` and
# with your function, from the same probes. Write a function that returns both, yours first.
# `curvlib.input_curvature(model, x, y, num_probes=, step=, generator=)` returns an estimate
# whose `squared_frobenius_norm` is the score, and draws its probes as
# `curvlib.curvature.rademacher(num_probes, x.shape[1:], generator=...)` does.

# %%
smooth = trained(nn.Softplus())


# %% nbgrader={"grade": false, "grade_id": "compare", "locked": false, "schema_version": 3, "solution": true, "task": false}
def both(model, x, y, num_probes=10, h=1e-3):
    """My curvature and curvlib's, from the same probes of seed 0."""
    ### BEGIN SOLUTION
    from curvlib.curvature import rademacher

    seed = torch.Generator().manual_seed(0)
    probes = rademacher(num_probes, x.shape[1:], generator=seed).double()
    theirs = curvlib.input_curvature(
        model,
        x,
        y,
        num_probes=num_probes,
        step=h,
        generator=torch.Generator().manual_seed(0),
    )
    return curvature(model, x, y, probes, h), theirs.squared_frobenius_norm
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "compare-check", "locked": true, "points": 1, "schema_version": 3, "solution": false, "task": false}
mine, theirs = both(smooth, x[:50], y[:50])
assert mine.shape == theirs.shape == (50,), "return two vectors with 50 values each"
assert torch.allclose(mine, theirs, rtol=1e-6), (
    "the two should agree to many digits. Do both use the same probes? A generator moves "
    "on with each draw: give each its own, with seed 0"
)

# %% [markdown]
# ## 5. A network of ReLUs and its labels (2 points)
#
# `torch.func.hessian` differentiates twice. Write a function that returns the exact
# $\mathrm{tr}(H^2)$ of one sample for *every* label $0, \ldots, 9$ that it could have.


# %% nbgrader={"grade": false, "grade_id": "labels", "locked": false, "schema_version": 3, "solution": true, "task": false}
def exact_for_every_label(model, point):
    """tr(H²) of the loss at one point [D] for each of 10 labels, shape [10]."""
    ### BEGIN SOLUTION
    values = []
    for label in range(10):

        def loss(point, label=label):
            return F.cross_entropy(model(point[None]), torch.tensor([label]))

        values.append(torch.func.hessian(loss)(point).square().sum())
    return torch.stack(values)
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "labels-check", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
relu = trained(nn.ReLU())
exact = exact_for_every_label(relu, x[0])
assert exact.shape == (10,), f"expected 10 values, got shape {tuple(exact.shape)}"
known = curvlib.input_curvature(relu, x[:1], y[:1], method="gauss-newton")
right = exact[y[0]]
assert torch.allclose(right, known.squared_frobenius_norm[0]), (
    "not tr(H²) for the first digit's own label: sum the squares of all entries of H"
)
assert torch.allclose(exact, exact[:1]), (
    "with ReLUs, all ten values should be equal. Does your loss use the model's logits "
    "and one label at a time?"
)
assert not torch.allclose((other := exact_for_every_label(smooth, x[0])), other[:1]), (
    "with a smooth network the values should differ: do you use the label at all?"
)

# %% [markdown]
# Now compare with the finite difference, which is what the paper uses. The step $h = 0.1$
# crosses some of the kinks between two linear pieces.

# %%
few = x[:20]
probes = torch.randint(2, (20, 64)).double() * 2 - 1
print("label   exact tr(H²)   finite difference, h = 0.1")
for label in range(10):
    labels = torch.full((20,), label)
    exact = curvlib.input_curvature(relu, few, labels, method="gauss-newton")
    found = curvature(relu, few, labels, probes, 0.1)
    exact_mean = exact.squared_frobenius_norm.mean().item()
    print(f"{label:5}   {exact_mean:12.6f}   {found.mean().item():12.6f}")

# %% [markdown]
# **Explain** in three or four sentences: why does the exact Hessian of a ReLU network
# ignore the label? Why does the finite difference not ignore it? (3 points; your teacher
# reads this)

# %% [markdown] nbgrader={"grade": true, "grade_id": "why", "locked": false, "points": 3, "schema_version": 3, "solution": true, "task": false}
# ### BEGIN SOLUTION
# Between two kinks a ReLU network is linear: its logits are $z = Jx + c$ with a constant
# matrix $J$. The loss is $-z_y + \log\sum_k e^{z_k}$. The label occurs only in $-z_y$, which
# is linear in $x$, so its second derivative is zero. What remains is
# $H = J^\top(\mathrm{diag}\,p - pp^\top)J$, which contains the probabilities but no label.
#
# The finite difference crosses kinks. Beyond a kink $J$ is another matrix, and the gradient
# $J^\top(p - e_y)$ jumps by about $(J' - J)^\top(p - e_y)$, which contains the label. The jump
# is large where $p - e_y$ is large: where the network does not believe the label.
# ### END SOLUTION

# %% [markdown]
# ## Where to go from here
#
# Repeat the last table with $h = 0.001$ and with $h = 1$. Then read the page on the step and
# the probes, and say which of the two curvatures finds wrong labels.
