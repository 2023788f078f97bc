# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # What does a network memorise of photographs in class folders?
#
# **In short.** We train on {glue:text}`num_samples:,` photographs from folders of
# {glue:text}`num_classes` classes. Their mean curvature is highest at epoch
# {glue:text}`peak_epoch` of {glue:text}`last_epoch`. Curvature and the time at which the
# network learns a photograph have a rank correlation of {glue:text}`rank_correlation:.2f`.
# The class {glue:text}`top_class` has {glue:text}`top_count` of the {glue:text}`num_top`
# photographs with the highest curvature ({numref}`fig-top`).

# %% tags=["parameters"]
dataset = "digits"  # a folder with train/<class>/ and val/<class>/, or another data set
image_size: int = None  # pixels on a side that photographs are cut to; None for 224
broken_files = "stop"  # or skip, for files of a folder that cannot be read
num_train: int = None  # train on the first so many images; None for all
num_heldout = 0  # images of val/ that are scored too, never trained on
released: str = None  # imagenet_index.npz with released memorization; None for none
seeds = [0, 1]  # one training run each; scores are averaged over them
model = "slim_resnet"  # resnet18, strided_resnet, mlp, torchvision/resnet18, ...
width = 16  # channels of its first stage; networks of torchvision have their own
epochs = 20  # passes over the training set
lr = 0.1  # learning rate at the start
batch_size = 64  # images per step
schedule = "cosine"  # of the learning rate; step, cosine or constant
weight_decay = 0.0  # on all weights
augment = False  # random crops and flips
more_settings: dict = None  # further settings of the training, by name
precision = "float32"  # of the training passes; float32 or bfloat16
num_probes = 2  # random directions an epoch, new ones each epoch
step = 0.001  # finite step h, in units of the normalised input
score_every = 1  # score every epoch, or every second, ...; the last always
num_shown = 8  # photographs of each class at each end
paper_model = "resnet18"  # for the estimate of the paper's setting; here the small stem
paper_size = 32  # pixels on a side, for that estimate
paper_classes = 10  # classes, for that estimate
paper_samples = 50_000  # training images, for that estimate
paper_epochs = 200  # for that estimate
paper_score_every = 4  # for that estimate
paper_probes = 10  # for that estimate
num_timed = 16  # images in a measured batch
class_names: list[str] = None  # names of the classes in the order of their folders
sustained_tflops = 20.0  # assumed of one GPU, to turn operations into hours
runs = "runs"  # folder of the training runs; a finished run is read, not trained again
records: list = None  # records to show; None measures with the values above
results = "results/scratch/imagenet"  # folder of the record that is measured

# %%
import numpy as np
from IPython.display import HTML

from curvlib.book import Page, figures, selector
from curvlib.studies import imagenet

page = Page.begin(In)
record = page.record(imagenet.measure)
made = record.parameters
names = imagenet.named(record["classes"]["class"], class_names)
page.tell(**imagenet.numbers(record, made, names))

# %%
table = record["scores.parquet"]  # a row for each seed and photograph
ranked = imagenet.ranking(table)
place = {index: i for i, index in enumerate(record["shown"]["index"])}  # in the pixels
pixels = record["images"]


def show(rows, columns=made.num_shown):
    """Photographs of the ranking, with class, curvature and index below each."""
    return figures.gallery(
        pixels[[place[index] for index in rows["index"]]],
        label=names[rows["label"]],
        score=rows["curvature"].to_numpy(),
        error=rows["error"].to_numpy(),
        index=rows["index"].tolist(),
        columns=columns,
    )


top, bottom = imagenet.at_ends(ranked, made.num_shown)

# %% mystnb={"figure": {"caption": "The {glue:text}`num_top` photographs with the highest curvature of {glue:text}`num_samples:,`. The class {glue:text}`top_class` has {glue:text}`top_count` of them; {glue:text}`in_every_seed` are among the {glue:text}`num_top` highest in each of the {glue:text}`num_seeds` seeds.", "name": "fig-top"}, "image": {"alt": "The photographs with the highest curvature."}}
_ = show(ranked.iloc[top])

# %% [markdown]
# *Eight minutes to read. Read first: [the method](/book/method.md).*
#
# **After this page you can**
#
# - score your own photographs in class folders;
# - judge the photographs at both ends of the ranking;
# - estimate what a run at the scale of ImageNet takes.
#
# ImageNet is a tree of folders, one for each class. It holds more photographs than fit into
# memory, and some of its files are broken. This page runs the method on such a tree. The
# files are examined once and decoded when they are needed. The paper {cite}`garg2024` trained
# on 1.28 million photographs of 1,000 classes at 224 by 224 pixels. It reports that
# photographs with the highest curvature show their object small, from an odd side, or beside
# others; that mean curvature rises, peaks and falls; and that near duplicates under two
# labels are among the highest.
#
# ## Files and runs
#
# The index of a folder lists every file; `files.csv` below has a line for each. *Unusual*
# files can be used, but are grey or unusual in another way. *Ignored* files are not images,
# judging by their names. For images in memory all counts are 0.

# %%
figures.table(imagenet.files_by_status(record["files"]))

# %% [markdown]
# The network sees {glue:text}`num_samples:,` photographs at {glue:text}`height` by
# {glue:text}`width` pixels. We train one network for each seed. Training took
# {glue:text}`train_seconds:.1f` s for each epoch, and scoring
# {glue:text}`score_seconds:.1f` s for each scored epoch. The command line trains with any
# number of processes and leaves the trace where this page finds it:
# `torchrun --nproc-per-node 8 -m curvlib train --dataset imagenet ...`. Each process decodes,
# trains on and scores its share.

# %%
agreements = imagenet.agreements_of_seeds(table)
page.claim(
    "Two training runs rank the photographs alike (Spearman correlation above .5).",
    min(agreements) > 0.5 if agreements else None,
    ours=", ".join(f"{value:.2f}" for value in agreements) or "one seed only",
)

# %% [markdown]
# ## Which photographs
#
# Choose a class. The list shows its photographs with the lowest and the highest curvature,
# averaged over epochs and seeds, each with its index and its score.

# %%
ends = ranked.iloc[imagenet.ends_of_classes(ranked, made.num_shown)]
HTML(
    selector.by_class(
        pixels[[place[index] for index in ends["index"]]],
        label=ends["label"],
        score=ends["curvature"],
        index=ends["index"],
        classes=names,
        count=made.num_shown,
        what="curvature",
    )
)

# %% [markdown]
# The next figure shows the other end of the whole ranking, with the mean ± standard error
# over the seeds.

# %% mystnb={"figure": {"caption": "The {glue:text}`num_top` photographs with the lowest curvature of {glue:text}`num_samples:,`. The class {glue:text}`bottom_class` has {glue:text}`bottom_count` of them.", "name": "fig-bottom"}, "image": {"alt": "The photographs with the lowest curvature."}}
_ = show(ranked.iloc[bottom])

# %%
correlation = ranked["curvature"].corr(ranked["learned"], method="spearman")
page.claim(
    "Photographs with high curvature are learned late (Spearman correlation with learning "
    "time above .3).",
    correlation > 0.3,
    ours=f"{correlation:.2f}, n = {len(ranked):,}",
)

# %% [markdown]
# ## Rise, peak and fall

# %% mystnb={"figure": {"caption": "Mean curvature of the photographs trained on is highest at epoch {glue:text}`peak_epoch` of {glue:text}`last_epoch`. Left: mean curvature of photographs trained on and never trained on. Right: the share that is classified right. Means over {glue:text}`num_seeds` seeds.", "name": "fig-dynamics"}, "image": {"alt": "Mean curvature on a logarithmic axis and accuracy against epoch, of photographs trained on and never trained on."}}
moved = record["dynamics"]
_ = figures.side_by_side(
    moved.replace({"split": imagenet.WORDS}),
    "epoch",
    {"curvature": "mean tr(H²)", "accuracy": "share classified right"},
    by="split",
    log=["curvature"],
)

# %%
seen, unseen = imagenet.course(moved, "train"), imagenet.unseen(moved)
turn = record["peak"].iloc[0]
page.claim(
    "Mean curvature of the photographs trained on rises, peaks and falls.",
    seen["inside"] and turn["above_both_ends"] == turn["runs"],
    ours=f"epoch {turn['epoch']} is above both ends in {turn['above_both_ends']} of "
    f"{turn['runs']} runs; {seen['left']:.1%} of the peak is left at the end",
    published="it rises, peaks and falls",
    tolerance="the peak is inside, and above both ends in every run",
)
page.claim(
    "Mean curvature of photographs never trained on rises, peaks and falls, too.",
    unseen.get("falls"),
    ours=imagenet.as_text("{left:.0%} of its peak is left at the end", unseen),
    published="it falls for them, too",
    tolerance="the peak is inside, and less than half of it is left at the end",
)
page.claim(
    "At the end, photographs never trained on have a higher mean curvature than those "
    "trained on.",
    unseen.get("higher"),
    ours=imagenet.as_text("{times:,.0f} times as high", unseen),
    published="no such gap is reported for ImageNet",
)
at_the_end = moved[moved["epoch"] == made.epochs].replace({"split": imagenet.WORDS})
figures.table(at_the_end, formats={"accuracy": "{:.1%}"}, **imagenet.WORDS)

# %% [markdown]
# The paper's networks do not fit every label of ImageNet. That may be why no gap between
# the two groups is reported there.
#
# ## Near duplicates
#
# Does a photograph occur twice? We compare pairs by their details. Photographs turned upside
# down show how alike two photographs can be by chance
# ([how this works](/book/pages/duplicates.ipynb)). If a pair has two labels, one of them is
# wrong. Photographs with the same pixels as another one at this size:
# {glue:text}`num_exact` ({glue:text}`exact_conflicts` with different labels). Pairs that are
# more alike than chance explains: {glue:text}`num_near` ({glue:text}`near_conflicts` with
# different labels). If there are none, the table and the figure show the pairs that come
# closest. *Place* is the share of photographs with less curvature than the pair's higher
# one; 1 is the top.

# %%
pairs = imagenet.pairs_in_words(record["near-pairs"], names)
shown_as = {"similarity": "{:.3f}", "place": "{:.2f}"}
figures.table(pairs.head(6), formats=shown_as, **imagenet.WORDS)

# %% mystnb={"figure": {"caption": "The pairs that are most alike, at most 12. Pairs that are more alike than chance explains: {glue:text}`num_near`. Each two neighbours are one pair; curvature below each.", "name": "fig-near"}, "image": {"alt": "Pairs of photographs that look alike."}}
both = pairs[["first_index", "second_index"]].to_numpy(int).ravel()
_ = show(ranked.set_index("index", drop=False).loc[both], columns=8)

# %%
places = imagenet.places_of_conflicts(record["exact"], record["near-pairs"], ranked)
page.claim(
    "Duplicates under different labels are among the tenth with the highest curvature.",
    places.min() > 0.9 if len(places) else None,
    ours=f"{np.count_nonzero(places > 0.9)} of {len(places)}"
    if len(places)
    else "there are none",
    published="such pairs are among the images of highest curvature",
)

# %% [markdown]
# ## Beside the other scores
#
# Curvature costs more than scores that need no derivative. How similar are their rankings?
# If the parameter `released` names the authors' file `imagenet_index.npz`, this page also
# compares every score with the memorization of {cite:t}`feldman2020`, which took them 2,000
# networks. Photographs are matched by file name. The table shows the rank correlation of
# some scores; `beside.csv` below has all scores and three other measures.

# %%
compared = record["beside"]
spoken_of = ["curvature_square", "curvature_last", "cumulative_loss", "shuffled"]
rows = compared[compared["score"].isin(["curvature_norm", *spoken_of])]
columns = ["score", "reference", "samples", "spearman"]
figures.table(rows[columns], formats={"spearman": "{:.2f}"}, **imagenet.WORDS)

# %%
known = rows[rows["reference"] == "memorization"].set_index("score")["spearman"]
page.claim(
    "Released memorization ranks the photographs as curvature does (Spearman correlation "
    "above .3).",
    known["curvature_norm"] > 0.3 if len(known) else None,
    ours=", ".join(f"{figures.words(k)} {value:.2f}" for k, value in known.items()),
)

# %% [markdown]
# ## What the paper's setting costs
#
# We measure seconds, operations and bytes for a batch of {glue:text}`num_timed` images of the
# paper's size, and extrapolate. For the hours at an assumed rate, we assume a GPU that
# sustains {glue:text}`tflops` · 10¹² operations in a second. We measured neither this rate
# nor any gain from more processes.

# %%
scale = imagenet.with_assumed_rate(record["scale"], sustained_tflops)
shown_as = {"hours here": "{:,.0f}", "total_flop": "{:.1e}"}
figures.table(scale, formats=shown_as, **imagenet.WORDS)

# %%
figures.table(imagenet.in_units(record["sizes"]), **imagenet.WORDS)

# %%
page.tell(
    scale_days=scale["hours at assumed rate"].sum() / 24,
    tflops=sustained_tflops,
    paper_text=f"{made.paper_model}, {made.paper_samples:,} images of {made.paper_size} by "
    f"{made.paper_size} pixels, {made.paper_epochs} epochs, one in "
    f"{made.paper_score_every} scored with {made.paper_probes} probes",
)

# %% [markdown]
# The setting is {glue:text}`paper_text`. The run would take {glue:text}`here_days:,.0f` days
# on this machine and {glue:text}`scale_days:.2g` days on such a GPU. Scoring takes
# {glue:text}`score_share:.2f` times as many operations as training. The settings for the
# paper's ImageNet are in `experiments.yml`.
#
# ## Exercises
#
# ```{exercise}
# :label: ex-lowest
# Among the photographs with the lowest curvature, the class {glue:text}`bottom_class` is the
# most frequent. What do these photographs have in common, and are they memorised?
# ```
#
# ```{solution} ex-lowest
# :class: dropdown
# They show one object, large, on a plain background: prototypes. The network is confident
# about them early. They are not memorised, since it would be right without having seen them.
# ```
#
# ```{exercise}
# :label: ex-class
# Which class has the highest median curvature, and which the lowest?
# ```
#
# ```{solution-start} ex-class
# :class: dropdown
# ```

# %% tags=["solution"]
median = ranked.groupby("label")["curvature"].median()
names[median.idxmax()], names[median.idxmin()]

# %% [markdown]
# ```{solution-end}
# ```
#
# Read next: [which images occur twice under different labels](/book/pages/duplicates),
# and [how curvature moves during training](/book/pages/dynamics).
