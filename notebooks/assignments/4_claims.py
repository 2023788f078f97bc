# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Assignment 4: Would you believe this claim?
#
# *About 60 minutes (an estimate); the computer needs seconds. You need means, standard
# errors and AUROC; assignment 2 or 3 helps.*
#
# Three claims, each with a number that looks convincing, and each with a flaw that is common
# in published work. You compute what each number is worth.
#
# Replace each `raise NotImplementedError(...)` by your code. The cell below it checks your
# function. Points are in brackets.

# %%
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from curvlib import metrics
from curvlib.runs import influence

torch.set_num_threads(1)
places = [Path(p, "ensemble.npz") for p in (".", "data", "../data")]
file = next((place for place in places if place.exists()), None)
assert file, (
    "ensemble.npz is missing: download it from the book, and put it beside this notebook"
)
record = dict(np.load(file))
given, true = (record[n].astype(np.int64) for n in ("labels", "original_labels"))
wrong = given != true
inside, correct = (
    np.unpackbits(record[name], axis=1)[:, : len(given)].astype(bool)
    for name in ("inside", "correct")
)
memorization = influence.memorization(inside, correct).value
curvature = record["curvature"]
brightness = record["images"].reshape(len(given), -1).mean(1)

# %% [markdown]
# ## Claim A: "Cosine similarity shows that the two agree"
#
# A paper compares a score with another quantity by their cosine similarity and finds a high
# value. How high would it be for two quantities that have nothing to do with each other?
# Write the cosine first. (1 point)


# %% nbgrader={"grade": false, "grade_id": "cosine", "locked": false, "schema_version": 3, "solution": true, "task": false}
def cosine(a, b):
    """Cosine similarity of two vectors."""
    ### BEGIN SOLUTION
    return a @ b / (np.linalg.norm(a) * np.linalg.norm(b))
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "cosine-check", "locked": true, "points": 1, "schema_version": 3, "solution": false, "task": false}
assert np.isclose(cosine(np.array([1.0, 0.0]), np.array([1.0, 1.0])), 0.5**0.5), (
    "the cosine of 45 degrees is 1/√2: divide by both lengths"
)
assert np.isclose(cosine(np.array([3.0, 4.0]), np.array([6.0, 8.0])), 1), (
    "parallel vectors have cosine 1, whatever their lengths"
)

# %% [markdown]
# To get a *null value*, shuffle one of the two and compute the cosine again. Shuffling keeps
# all values and destroys every relation. (2 points)


# %% nbgrader={"grade": false, "grade_id": "null", "locked": false, "schema_version": 3, "solution": true, "task": false}
def null_cosines(a, b, repeats=200, seed=0):
    """Cosines of a with shuffled copies of b, shape [repeats]."""
    ### BEGIN SOLUTION
    rng = np.random.default_rng(seed)
    return np.array([cosine(a, rng.permutation(b)) for _ in range(repeats)])
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "null-check", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
null = null_cosines(brightness, curvature)
assert len(null) == 200, f"expected 200 values, got {len(null)}"
assert np.ptp(null) > 1e-9, "all values are equal: shuffle anew each time"
expected = brightness.mean() * curvature.mean()
expected /= np.sqrt((brightness**2).mean() * (curvature**2).mean())
assert abs(null.mean() - expected) < 0.02, (
    f"the mean should be near mean(a) mean(b) / (rms(a) rms(b)) = {expected:.2f}, got "
    f"{null.mean():.2f}. Shuffle whole values, and shuffle one of the two only"
)

# %%
pairs = {"memorization": memorization, "brightness of the image": brightness}
print("curvature and ...            cosine   null (mean ± sd)   correlation")
for name, other in pairs.items():
    null = null_cosines(curvature, other)
    both = cosine(curvature, other), np.corrcoef(curvature, other)[0, 1]
    print(
        f"{name:26} {both[0]:8.2f} {null.mean():10.2f} ± {null.std():.2f} {both[1]:12.2f}"
    )

# %% [markdown]
# **Explain** (2 points; your teacher reads this): Why is the cosine similarity of two
# unrelated positive quantities high? What does the correlation do differently?

# %% [markdown] nbgrader={"grade": true, "grade_id": "cosine-why", "locked": false, "points": 2, "schema_version": 3, "solution": true, "task": false}
# ### BEGIN SOLUTION
# Positive vectors all lie in one corner of space, so the angle between any two of them is far
# from 90 degrees; the null value is mean(a) mean(b) / (rms(a) rms(b)), which is close to 1 if
# the values vary little. The correlation subtracts the means first, so its null value is 0.
# A cosine means something only next to its null value.
# ### END SOLUTION

# %% [markdown]
# ## Claim B: "The loss separates wrong labels perfectly at the end of training"
#
# A colleague trains on labels of which a fifth is wrong and evaluates the loss of every sample
# after each epoch. The data loader of the evaluation reads the *original* labels. First, the
# training run, which keeps log-probabilities of all classes.

# %%
x = torch.from_numpy(record["images"]).float().flatten(1) / 255


def run(seed, epochs=60, share=0.2):
    """Labels given and true, mask of wrong ones, and log-probabilities [E, N, C]."""
    rng = np.random.default_rng(seed)
    noisy = rng.random(len(true)) < share
    labels = np.where(noisy, (true + rng.integers(1, 10, len(true))) % 10, true)
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    kept = []
    for _ in range(epochs):
        logits = model(x)
        kept.append(logits.detach().log_softmax(1).numpy())
        optimizer.zero_grad()
        F.cross_entropy(logits, torch.from_numpy(labels)).backward()
        optimizer.step()
    return labels, true, noisy, np.stack(kept)


labels, originals, noisy, log_probabilities = run(seed=0, epochs=300)

# %% [markdown]
# Write a function that scores every sample by its loss under some labels at every epoch, and
# returns the AUROC of the wrong ones at every epoch. (2 points)


# %% nbgrader={"grade": false, "grade_id": "by-epoch", "locked": false, "schema_version": 3, "solution": true, "task": false}
def auroc_by_epoch(log_probabilities, labels, noisy):
    """AUROC at each epoch [E] of the loss under these labels [N]."""
    ### BEGIN SOLUTION
    loss = -log_probabilities[:, np.arange(len(labels)), labels]
    return np.array([metrics.auroc(epoch, noisy) for epoch in loss])
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "by-epoch-check", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
toy = np.log(np.array([[[0.9, 0.1], [0.4, 0.6]], [[0.1, 0.9], [0.4, 0.6]]]))  # E=N=C=2
found = auroc_by_epoch(toy, np.array([0, 0]), np.array([False, True]))
assert found.shape == (2,), (
    f"expected one value for each of 2 epochs, got {found.shape}"
)
assert found.tolist() == [1, 0], (
    "epoch 0: the wrong label has the higher loss, so 1; epoch 1: the lower, so 0. Got "
    f"{found.tolist()}. The loss is *minus* the log-probability of the label"
)
as_given = auroc_by_epoch(log_probabilities, labels, noisy)
as_original = auroc_by_epoch(log_probabilities, originals, noisy)
print("epoch            ", *(f"{e:5}" for e in (5, 20, 60, 150, 299)))
for name, values in {"given labels": as_given, "original labels": as_original}.items():
    print(f"{name:17}", *(f"{values[e]:5.2f}" for e in (5, 20, 60, 150, 299)))

# %% [markdown]
# **Explain** (2 points; your teacher reads this): Which of the two rows can somebody compute
# who does not know which labels are wrong? Why does one row rise while the other falls? How
# would you notice the mistake in a paper that shows only one of them?

# %% [markdown] nbgrader={"grade": true, "grade_id": "labels-why", "locked": false, "points": 2, "schema_version": 3, "solution": true, "task": false}
# ### BEGIN SOLUTION
# Only the row with the given labels: the original labels are what one wants to find out. Once
# the network has memorised a wrong label, its loss under that label is low, so the given row
# falls. Under the original label the loss of the same sample becomes very high, because the
# network now says something else; this row rises and measures memorisation of the labels that
# the evaluation already knows. A detection rate that improves while the network memorises is
# a sign of the leak; so is code in which training and scoring load their labels separately.
# ### END SOLUTION

# %% [markdown]
# ## Claim C: "Our score beats the loss"
#
# The authors show one run (seed 0), in which their score has the higher AUROC. Their score is
# one minus the mean probability of the label; the baseline is the cumulative loss. Here are ten
# runs that differ only in their seed.


# %%
def both_aurocs(seed):
    labels, _, noisy, log_p = run(seed)
    own = log_p[:, np.arange(len(labels)), labels]  # [E, N]
    doubt, loss = 1 - np.exp(own).mean(0), -own.sum(0)
    return metrics.auroc(doubt, noisy), metrics.auroc(loss, noisy)


theirs, baseline = np.array([both_aurocs(seed) for seed in range(10)]).T
print("theirs  ", *(f"{value:.4f}" for value in theirs))
print("baseline", *(f"{value:.4f}" for value in baseline))

# %% [markdown]
# Both scores saw the same runs, so compare them run by run. Return the mean difference, its
# standard error over the runs, and the share of runs in which theirs is better. (3 points)


# %% nbgrader={"grade": false, "grade_id": "paired", "locked": false, "schema_version": 3, "solution": true, "task": false}
def paired(a, b):
    """Mean of a − b, its standard error, and the share of runs with a > b."""
    ### BEGIN SOLUTION
    difference = a - b
    error = difference.std(ddof=1) / np.sqrt(len(difference))
    return difference.mean(), error, (difference > 0).mean()
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "paired-check", "locked": true, "points": 3, "schema_version": 3, "solution": false, "task": false}
mean, error, share = paired(np.array([3.0, 5.0, 4.0]), np.array([2.0, 2.0, 2.0]))
assert mean == 2, f"the differences are 1, 3 and 2, with mean 2; got {mean}"
assert not np.isclose(error, 1), (
    "you return the standard deviation of the differences. Divide it by the root of the "
    "number of runs"
)
assert np.isclose(error, 1 / np.sqrt(3)), (
    f"expected 1/√3 = 0.577, got {error:.3f}: use the differences (not each score by "
    "itself), and ddof=1"
)
assert share == 1, f"a is above b in every run: 1, got {share}"
mean, error, share = paired(theirs, baseline)
print(
    f"theirs − baseline: {mean:+.4f} ± {error:.4f} (standard error), better in {share:.0%}"
)

# %% [markdown]
# **Judge** (3 points; your teacher reads this): Would you have believed the claim from one
# seed? What do ten seeds say? Write three questions that you will ask of every table you read
# from now on, one for each claim above.

# %% [markdown] nbgrader={"grade": true, "grade_id": "judge", "locked": false, "points": 3, "schema_version": 3, "solution": true, "task": false}
# ### BEGIN SOLUTION
# One run cannot tell a difference from luck: runs differ from each other by more than the two
# scores do. Ten paired runs give a mean difference with a standard error. If the mean is less
# than about two standard errors from 0, ten runs do not decide which score is better; if it is
# more, its sign is settled, for this data and this network only. The
# questions: What is the null value of this number? Could somebody who does not know the answer
# compute this score? Over how many seeds is this a mean, and how large is the spread?
# ### END SOLUTION
