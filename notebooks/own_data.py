# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Which of my labels are wrong?
#
# **In short.** `curvlib suspects my_folder --out report` lists the images whose label is
# probably wrong. If you look at as many suspects as there are wrong labels, you find
# {glue:text}`found_low` to {glue:text}`found_high` of the wrong labels, depending on the data
# ({numref}`fig-suspects`). The command also estimates how many labels are wrong: for
# {glue:text}`name`, {glue:text}`estimate:,.0f` among {glue:text}`samples:,` images (90%
# interval {glue:text}`low:,.0f` to {glue:text}`high:,.0f`). It expects
# {glue:text}`expected:.0%` of the first {glue:text}`looked:,` suspects to be wrong.

# %% tags=["parameters"]
dataset = "digits"  # a folder of class folders, an .npz, a .csv, or a known data set
num_train: int = None  # only the first so many images; None for all
image_size: int = None  # pixels on a side, of photographs in folders; None for 224
features = "lite0"  # torchvision:NAME, timm:NAME, a file of vectors, or pixels
size: int = None  # pixels on a side that the network sees; None for its own choice
noise: str = None  # wrong labels put in to try it out; None for the labels as they are
noise_rate = 0.03  # share of the labels replaced, where noise is not None
seed = 0  # of the wrong labels, the heads and the planted labels
plant = 0.02  # share of labels planted in a second run, for the estimate
num_planted = 400  # labels planted in all, over several runs
num_shown = 20  # images of each kind in the figures
runs = "runs"  # folder of stopped work; what is there is not computed again
records: list = None  # records to show; None measures with the values above
results = "results/scratch/own_data"  # folder of the record that is measured

# %%
import pandas as pd

from curvlib.book import Page, figures, tabs
from curvlib.studies import calibration, own_data

page = Page.begin(In)
shown = page.records(own_data.measure)
known = {name: r for name, r in shown.items() if r["counts"]["known"].iloc[0]}
name = list(shown)[min(2, len(shown) - 1)]  # whose numbers the text tells
(first,) = shown[name]["counts"].to_dict("records")
at_looked = calibration.at_ranks(shown[name]["curve"], [max(first["looked"], 1)])
found_low, found_high = own_data.shares_found(known)
page.tell(
    name=name,
    found_low=found_low,
    found_high=found_high,
    expected=float(at_looked["precision"].iloc[0]),
    **{n: first[n] for n in ("samples", "estimate", "low", "high", "looked")},
)


# %% mystnb={"figure": {"caption": "The first suspects, most suspicious first: the label given → the label that we suggest. A frame with ≠ marks labels that are wrong, where the truth is known.", "name": "fig-suspects"}, "image": {"alt": "Images in the order of suspicion, each with the label given and the one suggested."}}
def pictures(record, role):
    """Images that are shown for one reason, with both labels and the rank."""
    rows = (record["shown"]["role"] == role).to_numpy()
    index = record["shown"]["index"][rows]
    found = record["suspects.parquet"].set_index("index").loc[index]
    names = own_data.class_names(record["classes"])
    given, suggested = names[found["label"]], names[found["suggested"]]
    return figures.gallery(
        record["images"][rows],
        [f"{a} → {b}" for a, b in zip(given, suggested, strict=True)],
        index=index.to_numpy(),
        marked=(found["label"] != found["original_label"]).to_numpy(),
        marked_as="label wrong",
        nothing="none",
    )


tabs.show(
    {name: pictures(record, "suspect") for name, record in shown.items()},
    alt="The most suspicious images, each with the label given and the one suggested",
)

# %% [markdown]
# *Eight minutes to read. You need nothing from the other pages.*
#
# **After this page you can**
#
# - rank the labels of your own images by suspicion;
# - decide how many labels to check;
# - judge what a ranking misses.
#
# ## Your own images
#
# A folder with one folder for each class is enough. A pretrained network turns each image
# into a *feature vector*, and small networks, *heads*, are trained on the vectors in
# seconds. This command does so, and writes a report in which you decide image by image:
#
# ```bash
# curvlib suspects my_folder --out report
# ```
#
# [How fast are the estimators?](/book/speed.md) says how long it takes for thousands of images.
#
# To get this page for your own images, run its notebook:
#
# ```bash
# papermill notebooks/own_data.ipynb out.ipynb -p dataset my_folder
# ```
#
# Neither needs the true labels. On this page we test the ranking on data whose true labels
# we know: a share of the labels was replaced, or people gave the labels and others checked
# them. The ranking never sees the true labels.
#
# :::{admonition} The ten ImageNet classes are an easy case
# :class: warning
# The photographs come from ImageNet. The pretrained network has seen such images with
# their right labels, so its features separate these classes almost perfectly. The labels
# of CIFAR-10 that people gave are closer to what you will meet.
# :::
#
# ## How many labels are wrong?
#
# We plant wrong labels, so that we know them, rank again, and see where they end up. From
# that we estimate how many labels were wrong before, and the share of wrong labels among
# the first suspects. [The page on calibration](/book/pages/calibration) checks these
# estimates.

# %%
counts = pd.concat([r["counts"].assign(data=n) for n, r in shown.items()])
figures.table(
    counts[["data", "samples", "wrong", "estimate", "low", "high"]],
    formats=dict.fromkeys(["wrong", "estimate", "low", "high"], "{:,.0f}"),
    samples="images",
    wrong="labels that are wrong",
    low="interval from",
    high="to",
)

# %% mystnb={"figure": {"caption": "The first suspects are most often wrong. Share of wrong labels among the first suspects. Line and band: the estimate with its 90% interval; dashes: the truth, where it is known.", "name": "fig-precision"}, "image": {"alt": "Lines that fall with the rank: the share of wrong labels among the suspects up to that rank."}}
tabs.show(
    {n: figures.expected_precision(r["curve"]).figure for n, r in shown.items()},
    alt="Share of wrong labels among the first suspects, estimated and true",
)

# %%
inside = {
    n: bool(calibration.inside(r["counts"], "wrong").iloc[0]) for n, r in known.items()
}
page.claim(
    "The true number of wrong labels lies in the 90% interval of the estimate.",
    inside or None,
    ours={
        n: f"{r['counts']['wrong'].iloc[0]:,.0f} wrong, "
        f"{r['counts']['low'].iloc[0]:,.0f} to {r['counts']['high'].iloc[0]:,.0f}"
        for n, r in known.items()
    },
    name="number",
)

# %% [markdown]
# ## What was found, and what it cost
#
# Where we know the truth, we can count. Suppose you look at half as many images as there
# are wrong labels, at as many, or at twice as many. How many wrong labels do you find, and
# how many right labels do you check for nothing?

# %%
checked = {
    n: own_data.found_and_missed(r["suspects.parquet"], r["counts"])
    for n, r in known.items()
}
shares = {"precision": "{:.0%}", "share found": "{:.0%}"}
if known:
    tabs.show({n: figures.table(t, formats=shares) for n, t in checked.items()})

# %%
page.claim(
    "Among as many suspects as there are wrong labels, at least 90% are wrong.",
    {n: t["precision"].iloc[1] >= 0.9 for n, t in checked.items()} or None,
    ours={n: f"{t['precision'].iloc[1]:.0%}" for n, t in checked.items()},
    name="ninety",
)

# %% [markdown]
# Which classes are confused? The table takes as many suspects as labels are wrong, or are
# estimated to be wrong, and counts each pair of a given and a suggested label.

# %%
tabs.show(
    {
        n: figures.table(
            own_data.pairs(
                r["suspects.parquet"],
                own_data.class_names(r["classes"]),
                max(int(r["counts"]["looked"].iloc[0]), 1),
            )
        )
        for n, r in shown.items()
    }
)

# %% [markdown]
# ## What was missed
#
# These labels are wrong but are not among the suspects. The least suspicious come first.
# Many of the wrong labels that people gave are mistakes that another person would repeat:
# the image fits both classes.

# %% mystnb={"figure": {"caption": "Wrong labels (≠) that the ranking finds least suspicious: label given → label suggested.", "name": "fig-missed"}, "image": {"alt": "Images whose label is wrong, and that the ranking finds unsuspicious."}}
if known:
    tabs.show(
        {n: pictures(r, "missed") for n, r in known.items()},
        alt="Images with wrong labels that the ranking misses",
    )

# %% [markdown]
# ## What was checked for nothing
#
# These labels are right, but the images are among the suspects. They are odd views, images
# of several things, or images between two classes. Some are worth a look for another
# reason: the "true" label may be wrong.

# %% mystnb={"figure": {"caption": "Right labels among the suspects, most suspicious first: label given → label suggested.", "name": "fig-needless"}, "image": {"alt": "Images whose label is right, and that the ranking suspects."}}
if known:
    tabs.show(
        {n: pictures(r, "needless") for n, r in known.items()},
        alt="Images with right labels that the ranking suspects",
    )

# %% [markdown]
# ## Exercises
#
# ```{exercise}
# :label: ex-stop
#
# You have time to look at 100 images. The expected precision is 90% at rank 50 and 60%
# at rank 100. How many wrong labels do you expect among suspects 51 to 100?
# ```
#
# ```{solution} ex-stop
# :class: dropdown
#
# Among the first 50 you expect 45, among the first 100 you expect 60. So suspects 51 to
# 100 contain about 15 wrong labels, 30%. The precision at a rank is a mean over all ranks
# above it, so the chance that the next image is wrong falls faster.
# ```
#
# ```{exercise}
# :label: ex-half
#
# You look at a tenth of all images. How many wrong labels do you find? Count them for each
# data set whose truth is known.
# ```
#
# ```{solution-start} ex-half
# :class: dropdown
# ```

# %% tags=["solution"]
rows = []
for n, r in known.items():
    total = r["counts"].iloc[0]
    share = 0.1 * total["samples"] / total["wrong"]
    tenth = own_data.found_and_missed(r["suspects.parquet"], r["counts"], [share])
    rows.append(tenth.assign(data=n))
pd.concat(rows) if rows else None

# %% [markdown]
# Where a tenth of the images is more than the number of wrong labels, you find nearly all of
# them, and most of the labels that you look at are right.
#
# ```{solution-end}
# ```
#
# Read next: [how this compares with other tools](/book/pages/wrong_label_tools), and
# [whether the estimates can be trusted](/book/pages/calibration).
