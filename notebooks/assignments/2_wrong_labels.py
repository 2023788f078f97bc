# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Assignment 2: Which score finds wrong labels, and when does it fail?
#
# *About 75 minutes (an estimate); the computer needs about a minute. You need NumPy, the
# cross-entropy loss, and assignment 1 or the page on the curvature of one sample.*
#
# We give some training images wrong labels, train a small network, and watch it. You rank
# the images by three scores: the cumulative loss, the area under the margin (AUM) and
# curvature. You count the wrong labels that each one finds, and then you make each of them
# fail. At the end the same functions work on features of real photographs.
#
# Replace each `raise NotImplementedError(...)` by your code. The cell below it checks your
# function. Points are in brackets.

# %%
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

import curvlib
from curvlib import metrics
from curvlib.data import load

torch.set_num_threads(1)


def with_wrong_labels(labels, share, next_class=False, seed=0):
    """Labels of which a share is wrong: at random, or always the next class."""
    rng = np.random.default_rng(seed)
    wrong = np.zeros(len(labels), dtype=bool)
    wrong[rng.permutation(len(labels))[: round(share * len(labels))]] = True
    offset = 1 if next_class else rng.integers(1, 10, size=len(labels))
    return np.where(wrong, (labels + offset) % 10, labels), wrong


def watch(x, labels, unseen_x, unseen_labels, epochs=30, width=128, lr=0.02):
    """Train on (x, labels) and keep what we see after each epoch.

    Returns logits [E, N, 10], mean ‖Hv‖ [E, N], and accuracy on unseen inputs [E].
    """
    torch.manual_seed(0)
    y = torch.from_numpy(labels)
    layers = nn.Linear(x.shape[1], width), nn.ReLU(), nn.Linear(width, 10)
    model = nn.Sequential(*layers)
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)
    seen = {"logits": [], "hvp": [], "unseen": []}
    for _ in range(epochs):
        for rows in torch.randperm(len(x)).split(32):
            optimizer.zero_grad()
            F.cross_entropy(model(x[rows]), y[rows]).backward()
            optimizer.step()
        estimate = curvlib.input_curvature(model.eval(), x, y, num_probes=2, step=0.01)
        right = model(unseen_x).argmax(1) == torch.from_numpy(unseen_labels)
        seen["logits"].append(estimate.logits.numpy())
        seen["hvp"].append(estimate.mean_hvp_norm.numpy())
        seen["unseen"].append(right.float().mean().item())
    return {name: np.array(values) for name, values in seen.items()}


digits, unseen = load("digits").select(np.arange(800)), load("digits", split="test")
pixels, unseen_pixels = (
    (torch.from_numpy(part.images[:]).float().flatten(1) / 255 - 0.3) / 0.37
    for part in (digits, unseen)
)
given, wrong = with_wrong_labels(digits.labels, 0.1)
trace = watch(pixels, given, unseen_pixels, unseen.labels)
print(f"{wrong.sum()} of {len(wrong)} labels are wrong")
print(f"accuracy on unseen digits: {trace['unseen'][-1]:.3f}")

# %% [markdown]
# ## 1. The margin (2 points)
#
# The *margin* of a sample is the logit of its given label minus the largest *other* logit.
# A negative margin means that the network prefers another class.


# %% nbgrader={"grade": false, "grade_id": "margin", "locked": false, "schema_version": 3, "solution": true, "task": false}
def margin(logits, labels):
    """Margin of each sample, [..., N], from logits [..., N, C] and labels [N]."""
    ### BEGIN SOLUTION
    own = np.eye(logits.shape[-1], dtype=bool)[labels]  # [N, C]
    others = np.where(own, -np.inf, logits).max(-1)
    return (logits * own).sum(-1) - others
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "margin-check", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
toy = np.array([[3.0, 1.0, 0.0], [2.0, 5.0, 1.0]])
found = margin(toy, np.array([0, 0]))
assert found.shape == (2,), (
    f"expected one margin for each of 2 samples, got {found.shape}"
)
assert found[0] != 0, (
    "sample 0 has its own logit as the largest. Leave it out before you take the largest "
    "of the others"
)
assert found.tolist() == [2, -3], (
    f"expected 3 − 1 = 2 and 2 − 5 = −3, got {found.tolist()}"
)
whole = margin(trace["logits"], given)
assert whole.shape == trace["logits"].shape[:2], "it should work on [E, N, C], too"

# %% [markdown]
# ## 2. Three scores (3 points)
#
# Reduce the trace to one number for each sample, so that a **high** value means *suspicious*:
#
# - `cumulative loss`: the cross-entropy of the given label, summed over epochs;
# - `AUM`: the margin, averaged over epochs. A low margin is suspicious;
# - `curvature`: the mean of $\|Hv\|$, averaged over epochs.


# %% nbgrader={"grade": false, "grade_id": "scores", "locked": false, "schema_version": 3, "solution": true, "task": false}
def suspicion(trace, labels):
    """A dict of three scores [N], high where the label is suspicious."""
    ### BEGIN SOLUTION
    logits = trace["logits"]
    shifted = logits - logits.max(-1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    loss = -log_p[:, np.arange(len(labels)), labels]  # [E, N]
    return {
        "cumulative loss": loss.sum(0),
        "AUM": -margin(logits, labels).mean(0),
        "curvature": trace["hvp"].mean(0),
    }
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "scores-check", "locked": true, "points": 3, "schema_version": 3, "solution": false, "task": false}
found = suspicion(trace, given)
assert set(found) == {"cumulative loss", "AUM", "curvature"}, (
    f"name the scores as the text does, got {sorted(found)}"
)
for name, score in found.items():
    assert np.shape(score) == given.shape, (
        f"{name} should be one number for each of {len(given)} samples, got shape "
        f"{np.shape(score)}. Reduce over the epochs, axis 0"
    )
    assert metrics.auroc(score, wrong) > 0.5, (
        f"{name} ranks wrong labels low. High should mean suspicious: a low margin is "
        "suspicious, so change its sign"
    )
known = F.cross_entropy(
    torch.from_numpy(trace["logits"]).flatten(0, 1),
    torch.from_numpy(given).repeat(len(trace["logits"])),
    reduction="none",
)
assert np.allclose(
    found["cumulative loss"], known.view(-1, len(given)).sum(0), rtol=1e-3, atol=1e-4
), "the cumulative loss is not the sum over epochs of the loss of the *given* label"
assert np.allclose(found["AUM"], -whole.mean(0), atol=1e-4), (
    "AUM: minus the mean margin"
)
assert np.allclose(found["curvature"], trace["hvp"].mean(0)), (
    "curvature: a mean over epochs"
)

# %% [markdown]
# ## 3. Count (3 points)
#
# With $k$ wrong labels, look at the $k$ most suspicious samples. How many are wrong? And how
# often does a wrong label score above a right one (AUROC)? Count all pairs; a tie counts half.


# %% nbgrader={"grade": false, "grade_id": "count", "locked": false, "schema_version": 3, "solution": true, "task": false}
def hits(score, wrong):
    """How many of the k highest scores are wrong, where k is the number of wrong labels."""
    ### BEGIN SOLUTION
    top = np.argsort(-score, kind="stable")[: wrong.sum()]
    return int(wrong[top].sum())
    ### END SOLUTION


def auroc(score, wrong):
    """Share of the pairs (wrong, right) in which the wrong label scores higher."""
    ### BEGIN SOLUTION
    bad, good = score[wrong][:, None], score[~wrong][None, :]
    return ((bad > good) + 0.5 * (bad == good)).mean()
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "count-check", "locked": true, "points": 3, "schema_version": 3, "solution": false, "task": false}
score = np.array([4.0, 3.0, 2.0, 1.0])
found = hits(score, np.array([True, True, False, False]))
assert found == 2, (
    f"the two highest scores, 4 and 3, belong to the two wrong labels: 2, got {found}. Do "
    "you sort from high to low?"
)
truth = np.array([True, False, True, False])
assert auroc(score, truth) == 0.75, (
    "of the four pairs 4>3, 4>1, 2<3, 2>1 three are in order: 0.75, got "
    f"{auroc(score, truth)}"
)
assert auroc(np.ones(4), truth) == 0.5, (
    "if all scores are equal, each pair counts one half"
)
values = suspicion(trace, given)["AUM"]
assert np.isclose(auroc(values, wrong), metrics.auroc(values, wrong)), (
    "AUROC on the digits differs from curvlib's: compare every wrong with every right label"
)


# %%
def report(title, trace, given, wrong):
    print(f"{title}: {wrong.sum()} wrong, chance {wrong.sum() * wrong.mean():.0f}")
    for name, score in suspicion(trace, given).items():
        print(
            f"    {name:16} finds {hits(score, wrong):3}, AUROC {auroc(score, wrong):.3f}"
        )


report("digits, 10% random labels", trace, given, wrong)
score = suspicion(trace, given)["curvature"]
fig, axes = plt.subplots(1, 10, figsize=(7, 1.2))
for ax, n in zip(axes, np.argsort(-score)[:10], strict=True):
    ax.imshow(digits.images[n].squeeze(), cmap="gray_r")
    ax.set_title(f"{given[n]}{' ≠' if wrong[n] else ''}", size=9)
    ax.axis("off")
_ = fig.suptitle("Highest curvature, with the given label (≠ wrong)", size=9, y=1.1)

# %% [markdown]
# ## 4. Make them fail
#
# Each of the next settings breaks something that a score relies on.

# %%
# Only the last epochs: the network has memorised most of the wrong labels.
late = {name: values[-5:] for name, values in trace.items()}
report("the last five epochs only", late, given, wrong)

# Systematic errors: every wrong label is the next class, and there are many of them.
flipped, is_flipped = with_wrong_labels(digits.labels, 0.4, next_class=True)
systematic = watch(pixels, flipped, unseen_pixels, unseen.labels)
report("40% of the labels are the next class", systematic, flipped, is_flipped)

# A network that never generalises: the pixels of each image are random numbers.
noise = torch.randn(800, 64, generator=torch.Generator().manual_seed(0))
nothing = watch(noise, given, torch.randn(len(unseen), 64), unseen.labels)
report("inputs without meaning", nothing, given, wrong)

# %% [markdown]
# **Explain** (4 points; your teacher reads this): For each of the three settings say in one
# or two sentences what the score relies on that is no longer true. Which score suffers most,
# and why? Name one *correct* label among the ten images above that curvature ranks high, and
# say what is unusual about the image.

# %% [markdown] nbgrader={"grade": true, "grade_id": "fail", "locked": false, "points": 4, "schema_version": 3, "solution": true, "task": false}
# ### BEGIN SOLUTION
# All three scores rely on an order: the network learns what many samples share first, and
# memorises single samples later. *Last epochs:* as the network memorises the wrong labels, their
# loss falls towards that of the others and their margin turns positive. What is left is a small
# difference in confidence, which vanishes if we train on. The early epochs had the answer.
# *Systematic errors:* "the next class" is a rule that many samples share. The network learns it
# as it learns the classes, so a wrong label is hardly more surprising than a right one.
# *Inputs without meaning:* nothing is shared, every label must be memorised, and a wrong
# label is like any other; all scores are at chance. A correct label that ranks high is
# usually an image at the edge of its class: a rare way to write the digit.
# ### END SOLUTION

# %% [markdown]
# ## 5. Real photographs (2 points)
#
# The file `cifar10_features.npz` has a pretrained network's features of photographs
# (CIFAR-10), 96 numbers for each. A small network on top of them generalises within an epoch
# or two, and then memorises. Write a function that plants 10% random wrong labels among the
# first `num_train` photographs, watches a network for 40 epochs, and returns the trace, the
# given labels and which of them are wrong. Use `with_wrong_labels` and `watch(..., width=512)`.

# %%
places = [Path(p, "cifar10_features.npz") for p in (".", "data", "../data")]
file = next((place for place in places if place.exists()), None)
assert file, (
    "cifar10_features.npz is missing: download it from the book, and put it beside this notebook"
)
table = np.load(file)
num_train, true_labels = int(table["num_train"]), table["labels"].astype(np.int64)
features = table["features"] * table["scale"]
features = torch.from_numpy(features / features[:num_train].std()).float()


# %% nbgrader={"grade": false, "grade_id": "photographs", "locked": false, "schema_version": 3, "solution": true, "task": false}
def photographs(features, true_labels, num_train):
    """Trace, given labels, and mask of wrong labels, for the first num_train."""
    ### BEGIN SOLUTION
    given, wrong = with_wrong_labels(true_labels[:num_train], 0.1)
    unseen = features[num_train:], true_labels[num_train:]
    trace = watch(features[:num_train], given, *unseen, epochs=40, width=512)
    return trace, given, wrong
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "photographs-check", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
seen, labels, mask = photographs(features, true_labels, num_train)
assert len(labels) == num_train, (
    f"train on the first {num_train} photographs only; the others measure generalisation"
)
assert abs(mask.mean() - 0.1) < 0.01, f"plant 10% wrong labels, got {mask.mean():.1%}"
assert len(seen["logits"]) == 40, "watch it for 40 epochs"
assert seen["unseen"].max() > 0.6, (
    f"accuracy on unseen photographs should exceed 0.6, got {seen['unseen'].max():.2f}. "
    "Do you compare with the true labels of the unseen ones?"
)
report("photographs", seen, labels, mask)

# %%
fit = (seen["logits"].argmax(-1) == labels)[:, mask].mean(1)
fig, ax = plt.subplots(figsize=(6, 3))
ax.plot(seen["unseen"], label="right on unseen photographs")
ax.plot(fit, "--", label="gives a wrong label (memorised)")
ax.plot(
    seen["hvp"].mean(1) / seen["hvp"].mean(1).max(), ":", label="curvature (peak = 1)"
)
ax.set(xlabel="epoch", ylabel="share", ylim=(0, 1.05))
_ = ax.legend()

# %% [markdown]
# **Explain** (2 points; your teacher reads this): At which epoch has the network
# generalised, and from which epoch on does it memorise? Which epochs tell most about the
# labels, and how would you check that without knowing which labels are wrong?

# %% [markdown] nbgrader={"grade": true, "grade_id": "photographs-why", "locked": false, "points": 2, "schema_version": 3, "solution": true, "task": false}
# ### BEGIN SOLUTION
# Accuracy on unseen photographs is near its best after a few epochs, while the network still
# gives hardly any of the wrong labels. Then the share of memorised wrong labels rises and the
# accuracy on unseen photographs falls a little. The epochs between the two tell most: the
# network knows the classes and has not yet memorised the exceptions. Without the truth one
# can plant some wrong labels oneself and see which epochs rank them highest.
# ### END SOLUTION
