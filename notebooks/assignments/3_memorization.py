# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Assignment 3: What would the network say had it never seen this image?
#
# *About 60 minutes (an estimate); the computer needs seconds. You need NumPy, means and
# standard errors, and the definition of memorization on the method page.*
#
# A network has *memorised* a sample if it gets the sample right only because it was trained
# on it. To measure this we train many networks, each on a random part of the samples, and
# compare those that saw a sample with those that did not. Training them takes minutes, so
# this assignment starts from a record of what each network gets right.
#
# Replace each `raise NotImplementedError(...)` by your code. The cell below it checks your
# function. Points are in brackets.

# %%
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from curvlib.runs import influence as reference

places = [Path(p, "ensemble.npz") for p in (".", "data", "../data")]
file = next((place for place in places if place.exists()), None)
assert file, (
    "ensemble.npz is missing: download it from the book, and put it beside this notebook"
)
record = dict(np.load(file))
labels, images = record["labels"], record["images"]
num_networks, num_images = len(record["inside"]), len(labels)
num_test = len(record["test_labels"])


def bits(name, length):
    return np.unpackbits(record[name], axis=1)[:, :length].astype(bool)


inside = bits("inside", num_images)  # [M, N]: was network m trained on image n?
correct = bits("correct", num_images)  # [M, N]: does it give image n its label?
correct_test = bits("correct_test", num_test)  # [M, N_test]: and each test image?
wrong = labels != record["original_labels"]  # the labels that we made wrong
print(f"{num_networks} networks, {num_images} images, {wrong.sum()} wrong labels")
print(f"right on images inside {correct[inside].mean():.3f}, left out ", end="")
print(f"{correct[~inside].mean():.3f}, test {correct_test.mean():.3f}")

# %% [markdown]
# ## 1. Memorization (3 points)
#
# The memorization score of image $n$ is the share of networks that get it right among those
# trained on it, minus that share among those not trained on it. A score is undefined if
# every network, or none, was trained on the image: return `nan` for it.


# %% nbgrader={"grade": false, "grade_id": "memorization", "locked": false, "schema_version": 3, "solution": true, "task": false}
def memorization(inside, correct):
    """Memorization of each image, float [N], from two bool arrays [M, N]."""
    ### BEGIN SOLUTION
    n_in, n_out = inside.sum(0), (~inside).sum(0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return (inside & correct).sum(0) / n_in - (~inside & correct).sum(0) / n_out
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "memorization-check", "locked": true, "points": 3, "schema_version": 3, "solution": false, "task": false}
# Four networks, three images; each column can be computed in the head.
toy_inside = np.array([[1, 1, 1], [1, 0, 1], [0, 1, 1], [0, 0, 1]], dtype=bool)
toy_correct = np.array([[1, 1, 1], [1, 1, 0], [0, 1, 1], [0, 1, 0]], dtype=bool)
found = memorization(toy_inside, toy_correct)
assert found.shape == (3,), (
    f"expected one value for each of 3 images, got {found.shape}"
)
assert found[0] == 1, (
    f"image 0: both networks that saw it are right, both others wrong. That is 1, got "
    f"{found[0]}"
)
assert found[1] == 0, (
    f"image 1: everybody is right, so that training on it made no difference. That is 0, "
    f"got {found[1]}"
)
assert np.isnan(found[2]), (
    f"image 2: no network was trained without it. There is nothing to compare: return "
    f"nan, not {found[2]}"
)
mem = memorization(inside, correct)
assert np.allclose(mem, reference.memorization(inside, correct).value), (
    "right on the toy, but not on the record. Divide by the number of networks of each "
    "side, which differs from image to image"
)

# %% [markdown]
# ## 2. How well is it known? (2 points)
#
# With $\hat p$ the share of $n$ networks that are right, $\hat p(1 - \hat p)/(n - 1)$ is an
# unbiased estimate of the variance of $\hat p$. The two sides are independent, so their
# variances add. Return the standard error.


# %% nbgrader={"grade": false, "grade_id": "error", "locked": false, "schema_version": 3, "solution": true, "task": false}
def standard_error(inside, correct):
    """Standard error of the memorization of each image, float [N]."""
    ### BEGIN SOLUTION
    variance = 0
    for side in (inside, ~inside):
        n = side.sum(0)
        p = (side & correct).sum(0) / n
        variance = variance + p * (1 - p) / (n - 1)
    return np.sqrt(variance)
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "error-check", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
se = standard_error(inside, correct)
known = reference.memorization(inside, correct).standard_error
assert se.shape == (num_images,), "expected one standard error for each image"
assert not np.allclose(se**2 * 2, known**2) and not np.allclose(se, known**2), (
    "close: variances add, and the standard error is the root of their sum"
)
assert np.allclose(se, known), (
    "not the standard errors. Take p and n of each side by itself, and divide by n − 1"
)
print(f"typical standard error where it is not 0: {np.median(se[se > 0]):.3f}")

# %% [markdown]
# ## 3. Who is memorised? (2 points)
#
# Count how many wrong labels are among the $k$ most memorised images. Then count how many
# to expect there from a random order.


# %% nbgrader={"grade": false, "grade_id": "count", "locked": false, "schema_version": 3, "solution": true, "task": false}
def hits(score, wrong, k):
    """How many of the k highest scores are wrong, and the number by chance."""
    ### BEGIN SOLUTION
    top = np.argsort(-score, kind="stable")[:k]
    return int(wrong[top].sum()), k * wrong.mean()
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "count-check", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
found, by_chance = hits(np.array([0.1, 0.9, 0.5, 0.2]), np.array([0, 1, 1, 0], bool), 2)
assert found == 2, (
    f"the two highest, 0.9 and 0.5, are both wrong; you found {found}. Do you sort from "
    "high to low?"
)
assert by_chance == 1, f"half are wrong, so chance finds 1 among 2, not {by_chance}"
k = int(wrong.sum())
found, by_chance = hits(mem, wrong, k)
print(
    f"{found} of {k} wrong labels are among the {k} most memorised; chance {by_chance:.1f}"
)
for name in ("curvature", "cumulative_loss"):
    print(f"{name} of one run: {hits(record[name], wrong, k)[0]}")

# %%
top = np.argsort(-np.where(wrong, -1, mem), kind="stable")[:10]
fig, axes = plt.subplots(1, 10, figsize=(7, 1.1))
for ax, n in zip(axes, top, strict=True):
    ax.imshow(images[n], cmap="gray_r")
    ax.set_title(f"{labels[n]}: {mem[n]:.2f}", size=8)
    ax.axis("off")
_ = fig.suptitle(
    "Memorised most among correct labels (label: memorization)", size=9, y=1.1
)

# %% [markdown]
# ## 4. Influence (3 points)
#
# The *influence* of training image $i$ on test image $j$: by how much does the chance of
# getting $j$ right rise when $i$ is in the training set? It is the same difference of two
# shares, with `correct_test` in place of `correct`, for every pair. Two matrix products are
# enough.


# %% nbgrader={"grade": false, "grade_id": "influence", "locked": false, "schema_version": 3, "solution": true, "task": false}
def influence(inside, correct_test):
    """Influence of each training image on each test image, float [N, N_test]."""
    ### BEGIN SOLUTION
    seen, right = inside.astype(float), correct_test.astype(float)
    with_it = seen.T @ right / seen.sum(0)[:, None]
    without = (1 - seen).T @ right / (1 - seen).sum(0)[:, None]
    return with_it - without
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "influence-check", "locked": true, "points": 3, "schema_version": 3, "solution": false, "task": false}
toy_test = np.array([[1, 0], [1, 1], [0, 1], [0, 0]], dtype=bool)
found = influence(toy_inside[:, :2], toy_test)
assert found.shape == (2, 2), (
    f"expected a row for each training image and a column for each test image, shape "
    f"(2, 2), got {found.shape}"
)
assert found[0].tolist() == [1, 0], (
    f"training image 0: test image 0 is right 2 of 2 times with it and 0 of 2 without; "
    f"test image 1 is right half of the time either way. Got {found[0]}"
)
inf = influence(inside, correct_test)
known = reference.influence(inside, correct_test).value
assert np.allclose(inf, known, atol=1e-5), (
    "right on the toy, but not on the record: divide each row by its own counts"
)

# %%
pairs = np.argsort(-inf, axis=None)[:5]
for i, j in zip(*np.unravel_index(pairs, inf.shape), strict=True):
    print(
        f"train {i} (label {labels[i]}) → test {j} (label {record['test_labels'][j]}):",
        end=" ",
    )
    print(
        f"{inf[i, j]:.2f}, memorization {mem[i]:.2f}{', wrong label' * int(wrong[i])}"
    )

# %% [markdown]
# ## 5. Winner's curse (2 points)
#
# The largest of many noisy estimates is too large. Choose the ten largest influences by the
# first half of the networks, and estimate the same ten pairs with the second half. Return
# the two means.


# %% nbgrader={"grade": false, "grade_id": "halves", "locked": false, "schema_version": 3, "solution": true, "task": false}
def top_in_both_halves(inside, correct_test, k=10):
    """Mean of the k largest influences in the first half, and their mean in the second."""
    ### BEGIN SOLUTION
    half = len(inside) // 2
    first = influence(inside[:half], correct_test[:half]).ravel()
    second = influence(inside[half:], correct_test[half:]).ravel()
    top = np.argsort(-first)[:k]
    return first[top].mean(), second[top].mean()
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "halves-check", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
first, second = top_in_both_halves(inside, correct_test)
assert first > second, (
    f"the half that chose the pairs should give the larger mean, got {first:.3f} and "
    f"{second:.3f}. Choose by the first half only, then look the same pairs up"
)
known = np.sort(
    influence(inside[: num_networks // 2], correct_test[: num_networks // 2])
)
assert np.isclose(first, np.sort(known, axis=None)[-10:].mean()), (
    "the first mean is not that of the ten largest influences of the first half"
)
print(f"chosen and measured by the first half {first:.2f}, by the second {second:.2f}")

# %% [markdown]
# **Explain** in a few sentences: (a) Why is the memorization of most wrong labels high, and
# why is it low for some?
# (b) Which of the influences above would you report, and with what number? (c) The ensemble
# took hundreds of trainings and curvature took one. When is the ensemble worth it?
# (3 points; your teacher reads this)

# %% [markdown] nbgrader={"grade": true, "grade_id": "explain", "locked": false, "points": 3, "schema_version": 3, "solution": true, "task": false}
# ### BEGIN SOLUTION
# (a) A network that never saw the image predicts its true class, which is not the label, so
# the share without it is close to 0. A network that saw it fits the label, if it has the
# capacity and the time; where it does not, the share with it is low, too. (b) Those that
# the second half confirms, with the mean of the second half and its standard error. The first
# half chose them for being large, so its own estimates are too large. (c) When the
# counterfactual itself is the question, or when a cheap score has to be validated; a ranking
# of suspicious labels needs one run only.
# ### END SOLUTION
