# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Which tool finds wrong labels best?
#
# **In short.** We compare tools on {glue:text}`num_sets` sets of labels with known errors.
# Our default order is at least as good as cleanlab's, within cleanlab's standard error, on
# {glue:text}`num_at_least` of them, and better on {glue:text}`num_better`. Both get the same
# features and the same labels. {numref}`fig-tools` shows the differences.

# %% tags=["parameters"]
dataset = "digits"  # a data set that curvlib.load knows
num_train: int = None  # only the first so many images; None for all
image_size: int = None  # pixels on a side, of photographs in folders; None for 224
features = "lite0"  # torchvision:NAME, timm:NAME, a file of vectors, or pixels
size: int = None  # pixels on a side that the network sees; None for its own choice
noise = "symmetric"  # symmetric, pair, similar, human_aggre, human_worse, human_noisy
noise_rate = 0.1  # share of the labels replaced; ignored for human labels
rarest = 1.0  # images of the last class as a share of the first; 1 is balanced
seeds = [0, 1, 2]  # of the wrong labels, the folds and the heads
num_resamples = 200  # bootstrap samples for standard errors
runs = "runs"  # folder of stopped work; what is there is not computed again
records: list = None  # records to show; None measures with the values above
results = "results/scratch/wrong_label_tools"  # folder of the record that is measured

# %%
from curvlib.book import Page, figures, tabs
from curvlib.studies import wrong_label_tool_tables as read
from curvlib.studies import wrong_label_tools

page = Page.begin(In)
shown = page.records(wrong_label_tools.measure)
tables = {label: record["scores"] for label, record in shown.items()}
found = read.by_data(tables)
at_least, better = read.verdicts(tables)
page.tell(
    num_sets=len(shown),
    num_at_least=sum(v is True for v in at_least.values()),
    num_better=sum(v is True for v in better.values()),
)

# %% mystnb={"figure": {"caption": "Our default order ranks wrong labels at least as well as cleanlab does. AUROC minus that of cleanlab on the same features and labels; right of the line is better. Bars: standard error of the difference over samples.", "name": "fig-tools"}, "image": {"alt": "Dot plot with a line at zero: one row for each set of labels, one marker for our default order and one for cleanlab with the probabilities of our head."}}
two = found[found["score"].isin([read.ORDER, read.HEAD])].assign(score=found["data"])
_ = (
    figures.dots(
        two,
        group="tool",
        order=list(shown),
        value="difference",
        error="difference_error",
        xlabel="AUROC minus cleanlab's",
        chance=0,
        legend_above=True,
    )
    if "difference" in found
    else figures.note("cleanlab is missing: pip install curvlib[compare]")
)

# %% [markdown]
# *Ten minutes to read. Read first: [your own images](/book/pages/own_data).*
#
# **After this page you can**
#
# - name the tools that people use today to find wrong labels, and what they cost;
# - say where a ranking by loss fails, and what still works there;
# - tell how much of a tool's success is due to its classifier.
#
# ## What is compared
#
# All tools get the same feature vectors of a pretrained network and the same labels.
#
# - **cleanlab** {cite}`northcutt2021`: scikit-learn's logistic regression on standardised
#   features, five folds. Of five strengths of regularisation, we take the one with the
#   lowest held-out loss on the given labels. The score is the probability of the label
#   given, which the package calls label quality. Two of its options are in the full table:
#   the margin, and probabilities that are adjusted by class.
# - **cleanlab with our head**: cleanlab's default score, computed from the out-of-fold
#   probabilities of our linear head. The formula is the same, so any difference from
#   cleanlab is due to the classifier: our head is regularised by early stopping.
# - **Ratio of distances**: the distance to the nearest image of the same class divided by
#   that to the nearest image of another class, the idea of SelfClean.
# - **Votes of neighbours**: the share of the nearest images that have the same label.
# - **Scores of the trace**: a head with one hidden layer is trained on all samples, and
#   every epoch is scored: cumulative loss, AUM, error norm, curvature around the feature
#   vector.
# - **Our default order**: the mean rank of cleanlab's score with our head, AUM of
#   probabilities, and votes of neighbours.
#
# :::{admonition} The photographs are an easy case
# :class: warning
# The ten ImageNet classes come from ImageNet, and the pretrained network has seen such
# images with their right labels. The other data sets are small images that it has not
# seen; MNIST and Fashion-MNIST are far from anything in ImageNet.
# :::
#
# Labels are replaced at random (symmetric), always by the next class (pair), or by a class
# that looks alike, for two fifths of five classes (similar); or people gave them, with their
# errors.

# %%
tools = next(iter(shown.values()))["tools"]
versions = dict(zip(tools["tool"], tools["version"].fillna("missing"), strict=True))
page.tell(cleanlab_version=versions["cleanlab"])
figures.table(read.cases({label: record["cases"] for label, record in shown.items()}))

# %% [markdown]
# The version of cleanlab is {glue:text}`cleanlab_version`. Without the package
# (`pip install curvlib[compare]`) its rows are missing, and the claims are undecided.
#
# ## The table
#
# AUROC is the probability that a wrong label ranks above a right one. The table shows its
# mean over seeds, with the standard error over samples of one seed. Minutes are for one
# processor core, without the features, which all tools need.

# %%
figures.table(read.wide(found, read.IN_TABLE))

# %% [markdown]
# Suppose you look at as many images as there are wrong labels. The next table shows the
# share of them that are wrong (precision).

# %%
figures.table(read.wide(found, read.IN_TABLE, value="precision_at_wrong"))

# %%
page.claim(
    "Our default order is at least as good as cleanlab's.",
    at_least,
    ours=read.differences(found),
    tolerance="below it by no more than cleanlab's standard error",
    name="at-least",
)
page.claim(
    "Our default order is better than cleanlab's.",
    better,
    ours=read.differences(found),
    tolerance="above it by more than the standard error of the difference",
    name="better",
)

# %% [markdown]
# ## How much is due to the classifier?
#
# cleanlab ranks by the probabilities that you give it. The table shows the gain from our
# head's probabilities alone, and the further gain from the other two parts of our order.

# %%
page.claim(
    "Our default order is at least as good as cleanlab's with our head's probabilities.",
    read.verdicts(tables, read.HEAD, "over_head")[0],
    ours=read.differences(found, other=read.HEAD),
    tolerance="below it by no more than its standard error",
    name="over-head",
)
figures.table(read.gains(found))

# %% [markdown]
# ## Where a ranking by loss fails
#
# A benchmark on frozen features {cite}`li2026` reports that a small loss no longer
# tells right labels from wrong ones when errors are asymmetric, while agreement of
# predictions still does. We check this with two kinds of agreement: how often the network
# predicts the label given, over the scored epochs, and how many neighbours have it. We
# compare them with the loss at the end of training and the loss summed over training.

# %%
figures.table(read.wide(found, read.LOSS_AND_AGREEMENT))

# %%
agreement, loss = "neighbour_agreement", "final_loss"
page.claim(
    "Votes of neighbours find wrong labels better than the loss at the end of training.",
    read.ahead(found, agreement, loss),
    ours=read.differences(found, agreement, loss),
    tolerance="AUROC",
    name="loss-fails",
)

# %% [markdown]
# ## Networks trained on pixels
#
# Without a pretrained network, you can train on the pixels. The table takes its rows from
# the [page on scores](/book/pages/mislabelled). Most of these networks learn from 10,000
# images and get many unseen images wrong, which makes wrong labels harder to find. The
# generalising network learns from all 50,000 images and generalises before it memorises.

# %%
figures.table(read.on_pixels(page.root / "results" / "cpu"))

# %% [markdown]
# ## All scores
#
# Every score of the trace, on every set of labels.

# %%
tabs.show(
    {
        label: figures.table(some.drop(columns="data"), formats=read.FORMATS)
        for label, some in read.everything(found).groupby("data", sort=False)
    }
)

# %% [markdown]
# ## Exercises
#
# ```{exercise}
# :label: ex-seen
#
# On the ten ImageNet classes every tool is close to perfect. Why does this say little
# about your own images?
# ```
#
# ```{solution} ex-seen
# :class: dropdown
#
# The pretrained network has learned to tell these classes apart, from images like these
# and their right labels. Its features carry the truth with them. Your classes were not
# among those that it learned.
# ```
#
# ```{exercise}
# :label: ex-two
#
# Rank the tools by precision among as many suspects as labels are wrong, instead of by
# AUROC. Does the best tool stay the best?
# ```
#
# ```{solution-start} ex-two
# :class: dropdown
# ```

# %% tags=["solution"]
best = found.sort_values("precision_at_wrong").groupby("data", sort=False).tail(1)
by_auroc = found.sort_values("auroc").groupby("data", sort=False).tail(1)
best.merge(by_auroc, on="data", suffixes=(" by precision", " by AUROC"))[
    ["data", "tool by precision", "tool by AUROC"]
]

# %% [markdown]
# The two agree where one tool is clearly ahead. AUROC counts all pairs of a wrong and a
# right label; precision looks at the top of the list only.
#
# ```{solution-end}
# ```
#
# Read next: [whether the estimated number of wrong labels can be
# trusted](/book/pages/calibration).
