# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # What does a network memorise of photographs in class folders?

# %% [markdown]
# *Eight minutes to read. Needs: [what curvature is](/book/method.md).*
#
# ImageNet is a tree of folders, one a class, with more photographs than fit into memory and
# some files that are broken. This page runs the method on such a tree: the files are looked
# through once, then decoded when they are needed; one process trains, or many under
# `torchrun`. **Expected**, from the paper: photographs with the highest curvature show their
# object small, from an odd side or beside others; mean curvature rises, peaks and falls;
# near duplicates under two labels stand at the top.

# %% tags=["parameters"]
dataset = "digits"  # a folder with train/<class>/ and val/<class>/, or another data set
image_size: int = None  # pixels on a side that photographs are cut to; None: 224
broken_files = "stop"  # or skip: what to do about files that cannot be used
class_names: list[str] = None  # names of the classes in the order of their folders
num_train: int = None  # train on the first so many images; None for all
num_heldout = 0  # images of val/ that are scored too, never trained on
released: str = None  # imagenet_index.npz with released memorization; None for none
seeds = [0, 1]  # one training run each; scores are averaged over them
model = "slim_resnet"  # resnet18, strided_resnet, mlp, torchvision/resnet18, ...
width = 16  # channels of its first stage; networks of torchvision have their own
epochs = 20  # passes over the training set
lr = 0.1  # learning rate at the start
batch_size = 64  # images a step
schedule = "cosine"  # of the learning rate; step, cosine or constant
weight_decay = 0.0  # on all weights
augment = False  # random crops and flips
precision = "float32"  # of the passes of training; float32 or bfloat16
num_probes = 2  # random directions an epoch, new ones each epoch
step = 0.001  # finite step h, in units of the normalised input
score_every = 1  # score each so many epochs, and the last
num_shown = 8  # photographs of each class at each end
paper_model = "resnet18"  # for the estimate of the paper's setting; here the small stem
paper_size = 32  # pixels on a side, for that estimate
paper_classes = 10  # classes, for that estimate
paper_samples = 50_000  # training images, for that estimate
paper_epochs = 200  # for that estimate
paper_score_every = 4  # for that estimate
paper_probes = 10  # for that estimate
sustained_tflops = 20.0  # assumed of one GPU, to turn operations into hours
num_timed = 16  # images in a measured batch
runs = "runs"  # folder of the training runs; a finished run is read, not trained again
results = "results/scratch/imagenet"  # folder for tables and figure data

# %% tags=["hide-input"]
import os
import time
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from curvlib.book.source import check_parameters
from IPython.display import HTML
from myst_nb import glue
from scipy.stats import spearmanr

from curvlib import metrics, scores
from curvlib.book import figures, selector
from curvlib.data import duplicates, folders
from curvlib.runs import networks, training
from curvlib.studies import costs

check_parameters(In)
results = Path(results)
results.mkdir(parents=True, exist_ok=True)

# %% [markdown]
# ## One run a seed
#
# The command line does the same on any number of processes, and leaves the trace where this
# page finds it: `torchrun --nproc-per-node 8 -m curvlib train --dataset imagenet ...`. Each
# process decodes, trains on and scores its share.

# %%
traces, tables, by_seed = [], [], []
for seed in seeds:
    config = training.TrainConfig(
        dataset=dataset,
        image_size=image_size,
        broken_files=broken_files,
        num_train=num_train,
        num_heldout=num_heldout,
        seed=seed,
        model=model,
        width=width,
        epochs=epochs,
        lr=lr,
        batch_size=batch_size,
        schedule=schedule,
        weight_decay=weight_decay,
        augment=augment,
        precision=precision,
        num_probes=num_probes,
        step=step,
        score_every=score_every,
    )
    images, heldout = training.prepare(config)  # by index, as the trace is
    trace = training.fit(config, images, heldout, runs=runs)
    table = scores.compute(trace).drop(columns="random")
    table.insert(0, "seed", seed)
    traces.append(trace)
    tables.append(table)
    by_seed.append(table["curvature_square"].to_numpy())
run_costs = costs.of_runs(traces)
run_costs.to_csv(results / "runs.csv", index=False)
in_files = isinstance(images.images, folders.Photographs)
names = [os.fsdecode(n) for n in images.images.names] if in_files else None
classes = np.array(class_names or images.classes)
if len(classes) != len(images.classes):
    raise ValueError(
        f"class_names must name all {len(images.classes)} classes, got {len(classes)}"
    )
table = pd.concat(tables, ignore_index=True)
for name, values in table.items():
    kind = "float" if values.dtype.kind == "f" else "integer"
    table[name] = pd.to_numeric(values, downcast=kind)
if in_files:
    table.insert(2, "path", names * len(seeds))
table.to_parquet(results / "scores.parquet", index=False, compression="zstd")
score = np.mean(by_seed, axis=0)
error = (
    np.std(by_seed, axis=0, ddof=1) / np.sqrt(len(seeds)) if len(seeds) > 1 else None
)

# %% tags=["remove-cell"]
trace = traces[0]
height, breadth = images.images.shape[1:3]
who = {"trained on": "train"}
if heldout is not None:
    who["never trained on"] = "heldout"
accuracy = {
    name: np.mean([run.read("correct", split)[-1].mean() for run in traces])
    for name, split in who.items()
}
if in_files:
    index = folders.index_of(images.images.folder)
    index.to_csv(results / "files.csv", index=False)
    counts = index["status"].value_counts()
    unusual = int(((index["status"] == "used") & (index["remark"] != "")).sum())
    files_text = (
        f"The index lists {len(index):,} files in {len(images.classes)} folders: "
        f"{counts.get('used', 0):,} can be used ({unusual} of them are grey or otherwise "
        f"unusual), {counts.get('broken', 0)} are broken and {counts.get('ignored', 0)} "
        "are no images by their name. The file files.csv, below, has a line for each."
    )
else:
    files_text = f"These images, {images.name}, are in memory, not in folders."
glue("files_text", files_text, display=False)
glue("num_samples", len(images), display=False)
glue("size_text", f"{height} by {breadth}", display=False)
glue("train_accuracy", accuracy["trained on"], display=False)
glue(
    "heldout_text",
    f"on {len(heldout):,} images that it never trained on, "
    f"{accuracy['never trained on']:.1%}"
    if heldout is not None
    else "no others were scored",
    display=False,
)
glue(
    "seeds_text", f"{len(seeds)} seeds" if len(seeds) > 1 else "one seed", display=False
)
agreements = [spearmanr(a, b).statistic for a, b in combinations(by_seed, 2)]
glue(
    "agreement_text",
    f"Between two seeds the scores have a Spearman correlation of "
    f"{np.mean(agreements):.2f}."
    if agreements
    else "One seed was run, so that nothing is known of the spread between runs.",
    display=False,
)
glue(
    "pace",
    f"{run_costs['train_seconds'].sum() / run_costs['epochs'].sum():.1f} s an epoch to "
    f"train, {run_costs['score_seconds'].sum() / sum(len(t.epochs) for t in traces):.1f} "
    "s a scored epoch to score",
    display=False,
)

# %% [markdown]
# {glue:text}`files_text` The network sees {glue:text}`num_samples` of them,
# {glue:text}`size_text` pixels each, and is right on {glue:text}`train_accuracy:.1%` at the
# end; {glue:text}`heldout_text`. It took {glue:text}`pace`. {glue:text}`agreement_text`
#
# ## Which photographs
#
# Choose a class: its photographs with the lowest and the highest curvature, averaged over
# epochs and {glue:text}`seeds_text`; under each its index, its label and its score.

# %% tags=["hide-input"]
ends = selector.ends(score, images.labels, num_shown)
at_ends = np.unique(np.concatenate([np.concatenate(both) for both in ends.values()]))
some = images.select(at_ends)  # all that is read from the files
pd.concat(
    [
        pd.DataFrame(
            {
                "index": images.index[positions],
                "class": classes[label],
                "curvature": score[positions],
                "end": end,
            }
        )
        for label, both in ends.items()
        for end, positions in zip(("lowest", "highest"), both, strict=True)
    ]
).to_csv(results / "ends-by-class.csv", index=False)
HTML(
    selector.by_class(
        some.images[:],
        label=some.labels,
        score=score[at_ends],
        index=some.index,
        classes=classes,
        count=num_shown,
        what="curvature",
    )
)


# %% tags=["remove-cell"]
def show(positions, columns=num_shown):
    return figures.gallery(
        images.images[positions],
        label=classes[images.labels[positions]],
        score=score[positions],
        error=None if error is None else error[positions],
        index=images.index[positions],
        columns=columns,
    )


order = np.argsort(-score, kind="stable")
top, bottom = order[: 4 * num_shown], order[::-1][: 4 * num_shown]
for key, positions in (("top", top), ("bottom", bottom)):
    pd.DataFrame(
        {
            "index": images.index[positions],
            "class": classes[images.labels[positions]],
            "curvature": score[positions],
        }
    ).to_csv(results / f"fig-{key}.csv", index=False)
    most = pd.Series(classes[images.labels[positions]]).value_counts()
    glue(f"{key}_class", most.index[0], display=False)
    glue(f"{key}_count", int(most.iloc[0]), display=False)
glue("num_top", len(top), display=False)
in_all = set(top.tolist()).intersection(
    *(np.argsort(-one, kind="stable")[: len(top)].tolist() for one in by_seed)
)
glue(
    "error_text",
    f"Mean ± standard error over {len(seeds)} seeds; {len(in_all)} of the {len(top)} are "
    f"among the {len(top)} highest of every seed by itself."
    if len(seeds) > 1
    else "One seed: another would choose some others.",
    display=False,
)
late = np.mean([t["learning_time"].to_numpy() for t in tables], axis=0)
glue("rank_correlation", spearmanr(score, late).statistic, display=False)

# %% mystnb={"figure": {"caption": "The {glue:text}`num_top` photographs with the highest curvature of all; {glue:text}`top_count` of them are of the class {glue:text}`top_class`. {glue:text}`error_text`", "name": "fig-top"}, "image": {"alt": "The photographs with the highest curvature."}} tags=["hide-input"]
_ = show(top)

# %% mystnb={"figure": {"caption": "The {glue:text}`num_top` photographs with the lowest curvature of all; {glue:text}`bottom_count` of them are of the class {glue:text}`bottom_class`.", "name": "fig-bottom"}, "image": {"alt": "The photographs with the lowest curvature."}} tags=["hide-input"]
_ = show(bottom)

# %% [markdown]
# ## Rise, peak and fall

# %% mystnb={"figure": {"caption": "{glue:text}`course_text`", "name": "fig-dynamics"}, "image": {"alt": "Mean curvature on a logarithmic axis and accuracy against epoch, of photographs trained on and never trained on."}} tags=["hide-input"]
epoch = trace.epochs
curves = {
    (what, name): np.mean(
        [run.read(column, split).mean(1, dtype=np.float64) for run in traces], axis=0
    )
    for what, column in (("curvature", "squared_frobenius_norm"), ("right", "correct"))
    for name, split in who.items()
}
seen = curves["curvature", "trained on"]
peak = int(seen.argmax())


def times(a, b):
    return f"{a / b:,.0f} times" if a > 100 * b else f"{a / b:.2g} times"


course = (
    "is known at one or two epochs only"
    if len(seen) < 3
    else "falls from the first scored epoch on"
    if peak == 0
    else "rises to the end"
    if peak == len(seen) - 1
    else f"rises, peaks at epoch {epoch[peak]} of {epoch[-1]}, and falls"
)
glue("course", course, display=False)
glue(
    "course_text",
    f"Mean curvature of the images trained on {course}"
    + (
        "; at the end those never trained on have "
        f"{times(curves['curvature', 'never trained on'][-1], seen[-1])} as much. "
        if heldout is not None
        else ". "
    )
    + "Mean over "
    f"{len(seeds)} seed{'s' * (len(seeds) > 1)}.",
    display=False,
)
pd.DataFrame(
    {"epoch": epoch} | {f"{what}, {name}": v for (what, name), v in curves.items()}
).to_csv(results / "fig-dynamics.csv", index=False)
fig, axes = plt.subplots(
    1, 2, figsize=(7, 2.8), layout="constrained", facecolor="white"
)
for (what, name), values in curves.items():
    solid = name == "trained on"
    ax = axes[0] if what == "curvature" else axes[1]
    ax.plot(
        epoch,
        values,
        "-" if solid else "--",
        color=figures.COLOURS[not solid],
        label=name,
    )
axes[0].set(xlabel="epoch", ylabel="mean tr(H²)", yscale="log")
axes[1].set(xlabel="epoch", ylabel="share classified right")
_ = axes[0].legend(frameon=False, loc="lower left")

# %% [markdown]
# ## Near duplicates
#
# Is a photograph in the data twice? Pairs are compared by their details, and the check is
# how alike upside-down photographs, which have no twin, are to any
# ([how](/book/pages/digits/duplicates.ipynb)). Pairs under two labels cannot both be right.

# %% tags=["hide-input"]
exact = duplicates.exact(images)
small = replace(images, images=images.images[:])  # in memory, at the size of training
near = duplicates.near(duplicates.compare(small))
pairs = near.pairs if len(near.pairs) else near.runners_up.head(6)
share_below = score.argsort().argsort() / (len(score) - 1)
pairs = pairs.assign(
    first_index=images.index[pairs["first"]],
    second_index=images.index[pairs["second"]],
    first_class=classes[images.labels[pairs["first"]]],
    second_class=classes[images.labels[pairs["second"]]],
    place=np.maximum(share_below[pairs["first"]], share_below[pairs["second"]]),
)
pairs.to_csv(results / "near-pairs.csv", index=False)
glue("num_exact", len(exact), display=False)
glue("exact_conflicts", int(exact["conflict"].sum()), display=False)
glue("num_near", len(near.pairs), display=False)
glue("near_conflicts", int(near.pairs["conflict"].sum()), display=False)
glue(
    "near_text",
    f"The {min(len(pairs), 12)} pairs most alike of {len(near.pairs)} that are more alike "
    "than chance makes them."
    if len(near.pairs)
    else "No pair is more alike than chance makes them; shown are those that come closest.",
    display=False,
)
shown = pairs.head(12)
pairs.drop(columns=["first", "second"]).head(12).style.hide(axis="index").format(
    {"similarity": "{:.3f}", "place": "{:.2f}"}
)

# %% [markdown]
# {glue:text}`num_exact` photographs stand in the data twice or more, pixel by pixel at this
# size, {glue:text}`exact_conflicts` of them under different labels; {glue:text}`num_near`
# pairs are nearly the same, {glue:text}`near_conflicts` of these under different labels.
# {glue:text}`near_text` *similarity* is the correlation of their details, 1 for the same;
# *place* is the share of photographs with less curvature than the pair's higher one: 1 is
# the top of the ranking.

# %% mystnb={"figure": {"caption": "{glue:text}`near_text` Two neighbours are one pair.", "name": "fig-near"}, "image": {"alt": "Pairs of photographs that look nearly the same."}} tags=["hide-input"]
rows = shown[["first", "second"]].to_numpy().ravel()
_ = figures.gallery(
    small.images[rows],
    label=classes[images.labels[rows]],
    score=score[rows],
    index=images.index[rows],
    columns=8,
)

# %% [markdown]
# ## Beside the other scores
#
# Curvature costs more than scores that need no derivative. How far do they rank the
# photographs alike, and, where the file of Feldman and Zhang is given, how far as
# memorization does, which took them 2,000 networks?

# %% tags=["hide-input"]
known = None
if released is not None:
    known = (
        released.memorization_by_name(released, names)
        if in_files
        else released.memorization(released, images)
    )
valued = np.isfinite(known) if known is not None else np.zeros(len(images), bool)
frames = scores.suspicion(
    pd.DataFrame(
        {
            name: np.mean([t[name].to_numpy() for t in tables], axis=0)
            for name in scores.SCORES
            if name != "random"
        }
    )
)
nulls = metrics.null_scores(frames["curvature_norm"].to_numpy())
rows = []
for name, values in {**{n: frames[n].to_numpy() for n in frames}, **nulls}.items():
    row = {
        "score": name,
        "Spearman with curvature_norm": metrics.agreement(
            values, frames["curvature_norm"].to_numpy(), max(1, len(images) // 20)
        ).spearman,
    }
    if valued.any():
        found = metrics.agreement(
            values[valued], known[valued], max(1, int(valued.sum()) // 20)
        )
        row |= {
            f"{key} with memorization": value for key, value in found._asdict().items()
        }
    rows.append(row)
beside = pd.DataFrame(rows)
beside.to_csv(results / "beside.csv", index=False)
glue(
    "memorization_text",
    f"Of {len(images):,} images {int(valued.sum()):,} have a released memorization score. "
    f"Curvature has a Spearman correlation of "
    f"{beside.set_index('score').loc['curvature_norm', 'spearman with memorization']:.2f} "
    "with it, the cumulative loss "
    f"{beside.set_index('score').loc['cumulative_loss', 'spearman with memorization']:.2f}."
    if valued.any()
    else "Released memorization was not given here: the authors' file imagenet_index.npz is a "
    "download of its own. With it as the parameter released, this page joins it by file "
    "name and compares every score with it.",
    display=False,
)
beside.style.hide(axis="index").format(precision=2, na_rep="none")

# %% [markdown]
# {glue:text}`memorization_text`
#
# ## What the paper's setting takes
#
# Measured here, on a batch of {glue:text}`num_timed` images of the paper's size: seconds,
# floating-point operations and bytes of one image. All else is multiplication.

# %% tags=["hide-input"]
device = devices.best_device()
network = networks.build(
    paper_model,
    num_classes=paper_classes,
    input_shape=(3, paper_size, paper_size),
    width=64,
).to(device)
generator = torch.Generator().manual_seed(0)
x = torch.randn(num_timed, 3, paper_size, paper_size, generator=generator).to(device)
y = torch.randint(paper_classes, (num_timed,), generator=generator).to(device)
estimate = costs.at_scale(
    network,
    x,
    y,
    samples=paper_samples,
    epochs=paper_epochs,
    scored_epochs=-(-paper_epochs // paper_score_every),
    num_probes=paper_probes,
)
estimate.table["hours at assumed rate"] = (
    estimate.table["total_flop"] / (sustained_tflops * 1e12) / 3600
)
estimate.table.to_csv(results / "at-scale.csv", index=False)
started = time.perf_counter()
decoded = images.images[np.arange(min(len(images), 64))]
decode = (time.perf_counter() - started) / len(decoded)
hours = estimate.table.set_index("what")["hours at assumed rate"]
glue("num_timed", num_timed, display=False)
glue("paper_text", f"{paper_model} at {paper_size} × {paper_size}", display=False)
glue("tflops", sustained_tflops, display=False)
glue("scale_days", float(hours.sum() / 24), display=False)
glue("here_days", float(estimate.table["hours here"].sum() / 24), display=False)
glue("score_share", float(hours["scoring"] / hours["training"]), display=False)
glue("state_gib", estimate.state_bytes / 2**30, display=False)
glue("activation_mib", estimate.activation_bytes / 2**20, display=False)
glue("trace_gib", estimate.trace_bytes / 2**30, display=False)
glue("processor", trace.info["hardware"]["processor"], display=False)
glue(
    "decode_text",
    f"One worker decodes an image of this page in {decode * 1e3:.1f} ms."
    if in_files
    else "",
    display=False,
)
glue(
    "samples_text",
    f"{paper_samples:,} images, {paper_epochs} epochs, every {paper_score_every}th scored "
    f"with {paper_probes} probes",
    display=False,
)
estimate.table.rename(columns=lambda name: name.replace("_", " ")).style.hide(
    axis="index"
).format(precision=3, thousands=",").format("{:.2e}", subset=["total flop"])

# %% [markdown]
# {glue:text}`samples_text`, {glue:text}`paper_text`: {glue:text}`here_days:,.0f` days on this
# machine; {glue:text}`scale_days:.2g` days on a GPU that sustains {glue:text}`tflops` TFLOP/s,
# which is an assumption, not a measurement, as is any gain from more processes. Scoring takes {glue:text}`score_share:.2f` times as many operations as training.
# Weights, gradients and momentum hold {glue:text}`state_gib:.2f` GiB, what is kept for the
# backward pass {glue:text}`activation_mib:.0f` MiB an image of a batch, and the trace
# {glue:text}`trace_gib:.2f` GiB on disk before compression. {glue:text}`decode_text`

# %% tags=["remove-cell"]
# Higher than both ends by more than the seeds differ, so that no wiggle is a peak
by_run = np.array(
    [run.read("squared_frobenius_norm").mean(1, dtype=np.float64) for run in traces]
)
is_peak = 0 < peak < len(seen) - 1 and all(
    (by_run[:, peak] > by_run[:, end]).all() for end in (0, -1)
)
glue(
    "answer",
    "rises, peaks and falls, as in the paper"
    if is_peak
    else f"does not move as in the paper: it {course}",
    display=False,
)
unseen_answer = ""
if heldout is not None:
    unseen = curves["curvature", "never trained on"]
    top_epoch = int(unseen.argmax())
    unseen_answer = (
        "That of photographs never trained on "
        + (
            "rises, peaks and falls too, as in the paper: from "
            f"{times(unseen[top_epoch], unseen[-1])} what is left at the end."
            if 0 < top_epoch < len(unseen) - 1 and unseen[-1] < unseen[top_epoch] / 2
            else "rises and stays high: at the end it has "
            f"{unseen[-1] / unseen.max():.0%} of its highest value, where in the paper it "
            "falls for them too."
        )
        + f" At the end it is {times(unseen[-1], seen[-1])} that of the others; the paper "
        "reports no such gap on ImageNet, where far from every label is learned by heart, "
        "which may be the reason."
    )
glue("unseen_answer", unseen_answer, display=False)
glue(
    "near_answer",
    f"Of {len(near.pairs) + len(exact)} exact and near duplicates "
    f"{int(near.pairs['conflict'].sum() + exact['conflict'].sum())} stand under two labels; "
    "their places are above."
    if len(near.pairs) + len(exact)
    else "That near duplicates under two labels stand at the top cannot be tested here: "
    "there are no duplicates.",
    display=False,
)
correlation = spearmanr(score, late).statistic
glue(
    "late_verdict",
    "High scores go to images that are learned late"
    if correlation > 0.3
    else "High scores hardly go with the time at which an image is learned"
    if correlation > -0.3
    else "High scores go to images that are learned early",
    display=False,
)
glue(
    "scale_text",
    "This is at the size of the paper's ImageNet."
    if len(images) >= 1_000_000 and min(height, breadth) >= 224
    else f"This is small: {len(images):,} images of {len(classes)} classes at {height} by "
    f"{breadth} pixels, not the paper's ImageNet. The settings for that are in "
    "experiments.yml, and the table above says what they take.",
    display=False,
)

# %% [markdown]
# ## The answer
#
# Mean curvature of the photographs trained on {glue:text}`answer`.
# {glue:text}`unseen_answer` {glue:text}`near_answer` {glue:text}`late_verdict`
# (Spearman correlation with learning time {glue:text}`rank_correlation:.2f`,
# n = {glue:text}`num_samples`, {glue:text}`seeds_text`). {glue:text}`agreement_text`
# {glue:text}`scale_text`
