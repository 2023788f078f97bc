# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Can the estimated number of wrong labels be trusted?
#
# **In short.** We test the estimate where we know the truth (number of cases:
# {glue:text}`num_cases`). The 90% interval contains the true number of wrong labels in
# {glue:text}`inside:.0%` of the cases, and the estimate is {glue:text}`ratio:.2f` times the
# truth (median). The share of wrong labels among the first suspects lies in its interval at
# {glue:text}`precision_inside:.0%` of the ranks. {numref}`fig-counts` shows every case.

# %% tags=["parameters"]
dataset = "digits"  # a data set that curvlib.load knows
num_train: int = None  # only the first so many images; None for all
image_size: int = None  # pixels on a side, of photographs in folders; None for 224
features = "lite0"  # torchvision:NAME, timm:NAME, a file of vectors, or pixels
size: int = None  # pixels on a side that the network sees; None for its own choice
noises = ["symmetric", "pair"]  # kinds of wrong labels; also similar, human_aggre, ...
noise_rates = [0.03, 0.1]  # shares of the labels replaced; not for human labels
seeds = [0]  # of the wrong labels, the heads and the planted labels
plant = 0.02  # share of labels planted in each further run
num_planted = 400  # labels planted in all, over several runs
num_resamples = 200  # bootstrap samples for the intervals
runs = "runs"  # folder of stopped work; what is there is not computed again
records: list = None  # records to show; None measures with the values above
results = "results/scratch/calibration"  # folder of the record that is measured

# %%
import pandas as pd

from curvlib.book import Page, figures, tabs
from curvlib.studies import calibration

page = Page.begin(In)
shown = page.records(calibration.measure)
cases = {n: calibration.in_words(r["counts"]) for n, r in shown.items()}
counts = pd.concat([table.assign(data=n) for n, table in cases.items()])
ranks = {n: calibration.in_words(r["precision"]) for n, r in shown.items()}
precision = pd.concat([table.assign(data=n) for n, table in ranks.items()])
covered = calibration.coverage(counts, precision)
*_, overall = covered.to_dict("records")
page.tell(
    num_cases=overall["cases"],
    inside=overall["inside"],
    ratio=overall["ratio"],
    precision_inside=overall["precision inside"],
)

# %% mystnb={"figure": {"caption": "Most 90% intervals contain the true number of wrong labels. Estimate against truth, one point for each case; on the dotted line the estimate equals the truth.", "name": "fig-counts"}, "image": {"alt": "Points with error bars around a diagonal: the estimated number of wrong labels against the true one."}}
_ = figures.against_truth(counts)

# %% [markdown]
# *Eight minutes to read. Read first: [your own images](/book/pages/own_data).*
#
# **After this page you can**
#
# - explain how planted labels help to count errors that nobody has found;
# - say for which kinds of errors the estimate is good, and for which it is not;
# - judge how far to trust an interval for the number of wrong labels.
#
# ## How the estimate is made
#
# Suppose a share of the labels is wrong. We replace some labels by wrong ones, which we
# therefore know, and rank all samples again. Suppose also that real errors get the same
# scores as planted ones. Then, at any threshold, the share of all samples above it is at
# least the share of errors times the share of planted labels above it. Dividing the first
# share by the last bounds the share of errors, and the smallest such bound is the estimate
# {cite}`garg2021`.
#
# Half of the planted labels are any class, and half are the class that the head finds
# most probable. Real errors can be harder to see than both, because people confuse what
# looks alike. So the interval includes a second estimate, the count of confident learning
# {cite}`northcutt2021`. It sees systematic errors too, but counts too many elsewhere. It
# misses some planted labels, and may miss the same share of the real errors. So for the
# upper end we divide its count by the share of the planted labels that it finds. We chose
# this rule after human labels had fallen outside the interval, so those cases do not test
# it.
#
# ## How many labels are wrong?
#
# The table counts cases by kind of wrong labels. *Inside* is the share of cases whose true
# number lies in the 90% interval. *Estimate over truth* is the median over cases.

# %%
figures.table(
    covered,
    formats={"inside": "{:.0%}", "ratio": "{:.2f}"}
    | {"precision inside": "{:.0%}", "error": "{:.3f}"},
    noise="kind of wrong labels",
    ratio="estimate over truth",
    error="mean error of the precision",
)

# %%
by_data = {
    n: bool(calibration.inside(r["counts"], "wrong").mean() >= 0.9)
    for n, r in shown.items()
}
page.claim(
    "The 90% interval contains the true number in at least nine of ten cases.",
    by_data,
    ours={
        n: f"{calibration.inside(r['counts'], 'wrong').sum()} of {len(r['counts'])}"
        for n, r in shown.items()
    },
    name="coverage",
)

# %% [markdown]
# Here are all cases. *Confident learning* is the second estimate.

# %%
numbers = ["wrong", "estimate", "low", "high", "confident"]
tabs.show(
    {
        n: figures.table(
            table[["noise", "noise_rate", "seed", *numbers]],
            formats=dict.fromkeys(numbers, "{:,.0f}") | {"noise_rate": "{:.0%}"},
            noise="kind",
            noise_rate="share",
            wrong="labels that are wrong",
            low="interval from",
            high="to",
            confident="confident learning",
        )
        for n, table in cases.items()
    }
)

# %% [markdown]
# ## What share of the first suspects is wrong?
#
# Each point is one case and one rank. The estimate assumes that the share of wrong labels
# falls with the rank, and that real errors rank like planted ones.

# %% mystnb={"figure": {"caption": "The true share of wrong labels among the first suspects rises with the estimated share. One point for each case and rank.", "name": "fig-precision"}, "image": {"alt": "Points around a diagonal: the true precision against the estimated one."}}
ax = figures.lines(
    precision, "precision", "truth", by="data", joined=False, xlabel="estimated share"
)
_ = ax.plot([0, 1], [0, 1], color=figures.GREY, linestyle=":", linewidth=1.2)
_ = ax.set(ylabel="true share", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))

# %%
page.claim(
    "The 90% interval contains the true precision at nine of ten ranks.",
    {
        n: bool(calibration.inside(r["precision"], "truth").mean() >= 0.9)
        for n, r in shown.items()
    },
    ours={
        n: f"{calibration.inside(r['precision'], 'truth').mean():.0%} of ranks"
        for n, r in shown.items()
    },
    name="precision",
)

# %% [markdown]
# ## Exercises
#
# ```{exercise}
# :label: ex-twins
#
# All errors in a data set are of one kind: half of the cats carry the label dog. Why can no
# method that sees only images and labels count them correctly?
# ```
#
# ```{solution} ex-twins
# :class: dropdown
#
# Images of cats carry the label dog as often as the label cat, so neither label surprises
# the head. A planted label of any other class is easier to see. The interval should reach
# far up; only a person, or other data, can tell.
# ```
#
# ```{exercise}
# :label: ex-one
#
# How often is the estimate alone, without its interval, within a quarter of the truth?
# ```
#
# ```{solution-start} ex-one
# :class: dropdown
# ```

# %% tags=["solution"]
near = (counts["estimate"] / counts["wrong"]).between(0.75, 1.25)
near.groupby(counts["noise"]).agg(["mean", "size"])

# %% [markdown]
# The estimate counts random replacements well. It misses part of the errors between two
# classes that the head confuses, so the interval matters more than the estimate.
#
# ```{solution-end}
# ```
#
# Read next: [which labels of your own images are wrong](/book/pages/own_data).
