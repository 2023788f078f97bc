"""Which labels are wrong? Ranks the samples of any labelled images by suspicion.

Three views of each sample are combined: what a head says that was not trained on the
sample (out of fold), what a head says while it is being trained on it (the trace), and
what labels its neighbours have. To estimate how many labels are wrong (``counting``),
known wrong labels are planted, and the samples are ranked again.

Nothing here is told which labels are wrong.
"""

import io
import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from filelock import FileLock
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.stats import rankdata

from curvlib import scores
from curvlib.data import Images, duplicates, progress
from curvlib.data.folders import Photographs
from curvlib.runs import head, provenance, scoring, training
from curvlib.runs.head import HeadConfig, Vectors
from curvlib.runs.scoring import Scaling
from curvlib.runs.settings import TrainConfig
from curvlib.trace import Trace, write_atomically

RECIPE = 3  # of the order of suspects
PARTS = (*head.PARTS, "studies.suspects")
FOLDS = 5
NEIGHBOURS = 30
COSINES = 8_000_000  # of samples with references, that are in memory at once
REFERENCES = 50_000  # samples among which neighbours are looked for, at most
WIDE = 4096  # features; of wider vectors, such as pixels, some samples give the axes
SAMPLED = 2048  # samples that do
DIMENSIONS = 128  # principal components in which they are
LINEAR = HeadConfig(hidden=0, epochs=30, lr=0.001)
HIDDEN = HeadConfig(hidden=512, epochs=20, lr=0.005)
# Chosen on CIFAR-10, CIFAR-100, MNIST, Fashion-MNIST and ImageNet photographs with
# symmetric, pair and human noise, where it never lost much and often gained.
CONSENSUS = ("out_of_fold_loss", "aum_softmax", "neighbour_agreement")
WHY = (
    "out-of-fold probability, course of training and neighbours each miss wrong labels "
    "that the others find; measured on twelve settings, their mean rank is better than "
    "out-of-fold probability alone where errors are systematic, and elsewhere within "
    "about a standard error of it"
)
# Without feature vectors. At the end the network has memorised, so the last loss says
# little; both of these are means over the course of training.
PIXELS_CONSENSUS = ("aum", "cumulative_loss")
STEPS = 1800  # of a network on pixels: 20 epochs of 45,000 images in batches of 500
SCORED = 15  # of its epochs, at most
LEAST_EPOCHS, MOST_EPOCHS = 5, 100
SAME = 0.8  # correlation of details from which two images count as one
ALIKE = 0.85  # cosine of feature vectors from which two images are compared
# Further neighbours, by place: fewer than half of them are of a burst of 12 images.
FURTHER = (3, 6, 9, 12, 15, 18, 21, 24, 27, 30)
CLOSER = 0.15  # times the distance to them, for a pair of near duplicates
MOST_COMPARED = 5000  # pairs, the most alike first; photographs have to be read
MOST_IN_MEMORY = 50_000
PLANTED = 400  # labels planted in all, so that chance moves the estimate little
MOST_RUNS = 10  # with planted labels
SIMILAR = 5  # images of the suggested class that are shown beside a suspect
# Of the scores that a trace does not have: +1 if high is suspect, as in scores.SCORES.
SIGNS = {
    "out_of_fold_loss": +1,
    "out_of_fold_probability": -1,
    "neighbour_ratio": +1,
    "neighbour_agreement": -1,
}


@dataclass(frozen=True, kw_only=True, eq=False)
class Neighbours:
    """Where a sample lies among the others, in the space of feature vectors.

    Attributes:
        ratio: Distance to the nearest sample of the same label, over the sum of that
            and the distance to the nearest of another label, squared: [N], in [0, 1],
            high is suspect. The idea of SelfClean (Gröger et al. 2023).
        agreement: Share of the nearest samples, weighted by similarity and by how rare
            their class is, that have the same label: [N], in [0, 1], low is suspect.
        nearest: Position of the nearest sample, [N].
        similarity: Cosine with it, [N].
    """

    ratio: np.ndarray
    agreement: np.ndarray
    nearest: np.ndarray
    similarity: np.ndarray

    @classmethod
    def of(cls, count: int) -> "Neighbours":
        """Columns for so many samples, to be filled with ``put``.

        Small arrays that are kept between large ones that are freed would leave holes
        in memory that nothing fits into; so blocks are copied into these columns.
        """
        columns = {name: np.empty(count, np.float32) for name in cls.__annotations__}
        return cls(**columns | {"nearest": np.empty(count, np.int64)})

    def put(self, place: int, block: "Neighbours") -> int:
        """Fill in what is known of some samples; return the place after them."""
        end = place + len(block.ratio)
        for name, column in vars(self).items():
            column[place:end] = getattr(block, name)
        return end


class Space:
    """Principal components of feature vectors, in which neighbours are looked for.

    Args:
        vectors: N samples.
        scaling: Of the features.
        seed: Of the choice of references, where there are too many samples.
    """

    def __init__(self, vectors: Vectors, scaling: Scaling, *, seed: int = 0):
        self.vectors = vectors
        self._seed = seed
        self._mean = torch.tensor(scaling[0]) * 255
        inputs = len(self._mean)
        rng = np.random.default_rng(seed)
        rows = np.arange(len(vectors))
        if len(rows) > REFERENCES:
            rows = np.sort(rng.permutation(rows)[:REFERENCES])
        self.references = rows
        if inputs <= DIMENSIONS:
            self._axes = torch.eye(inputs)
        elif inputs <= WIDE:
            self._axes = self._principal_axes(rows, inputs)
        else:
            self._axes = self._axes_of_wide(rng.permutation(rows)[:SAMPLED])
        parts = np.array_split(rows, math.ceil(len(rows) / 4096))
        self._placed = torch.cat([self.at(some) for some in parts])

    def _principal_axes(self, rows: np.ndarray, inputs: int) -> torch.Tensor:
        covariance = torch.zeros(inputs, inputs, dtype=torch.float64)
        for some in np.array_split(rows, math.ceil(len(rows) / 4096)):
            x = self._centred(some)
            covariance += (x.T @ x).double()
        # In float32 it does not converge where many features are constant.
        _, axes = torch.linalg.eigh(covariance)
        return axes[:, -DIMENSIONS:].float()

    def _axes_of_wide(self, rows: np.ndarray) -> torch.Tensor:
        """Principal axes of some samples, without a matrix of all pairs of features."""
        x = self._centred(np.sort(rows))
        squares, places = torch.linalg.eigh((x @ x.T).double())
        kept = squares > squares.max() * 1e-6
        kept[:-DIMENSIONS] = False
        return x.T @ (places[:, kept] / squares[kept].sqrt()).float()

    def _centred(self, positions: np.ndarray) -> torch.Tensor:
        rows = self.vectors.rows[positions]
        x = torch.from_numpy(np.asarray(self.vectors.features[rows])).float()
        return x - self._mean

    def at(self, positions: np.ndarray) -> torch.Tensor:
        """Unit vectors of samples, [B, at most DIMENSIONS]."""
        return F.normalize(self._centred(positions) @ self._axes, dim=1)

    def neighbours(
        self,
        labels: np.ndarray,
        *,
        count: int = NEIGHBOURS,
        runs: str | Path | None = None,
    ) -> Neighbours:
        """Compare each sample with the references.

        Args:
            labels: Given, shape [N].
            count: Neighbours whose labels are counted.
            runs: Folder of stopped work, where what was compared is kept every
                ``head.SAVE_SECONDS``; None: nothing is kept.
        """
        found, done = Neighbours.of(len(labels)), 0
        if runs is None:
            for block in self._compared(labels, count, 0):
                done = found.put(done, block)
            return found
        settings = {"count": count, "references": REFERENCES, "seed": self._seed}
        checksums = {"train": self.vectors.relabelled(labels).checksum}
        digest = provenance.digest(settings, checksums, PARTS)
        folder = Path(runs) / f"{self.vectors.name}-neighbours-{digest}"
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / ".lock"):
            # A part is named by the samples before it.
            while (file := folder / f"{done}.npz").exists():
                with np.load(file) as kept:
                    done = found.put(done, Neighbours(**kept))
            saved, when = done, time.perf_counter()
            for block in self._compared(labels, count, done):
                done = found.put(done, block)
                waited = time.perf_counter() - when
                if done < len(labels) and waited < head.SAVE_SECONDS:
                    continue
                buffer = io.BytesIO()
                np.savez(buffer, **{k: v[saved:done] for k, v in vars(found).items()})
                write_atomically(folder / f"{saved}.npz", buffer.getvalue())
                saved, when = done, time.perf_counter()
        return found

    def _compared(
        self, labels: np.ndarray, count: int, start: int
    ) -> Iterator[Neighbours]:
        """Blocks of neighbours, from the sample at some position on."""
        references = torch.from_numpy(self.references)
        y = torch.from_numpy(labels)
        of_references = y[references]
        sizes = torch.bincount(y, minlength=int(y.max()) + 1).clamp(min=1)
        weight = (1 / sizes.float()).sqrt()[of_references]
        count = min(count, len(references) - 1)
        # Memory is the same for any number of samples.
        size = max(COSINES // len(references), 64)
        for begin in range(start, len(y), size):
            rows = torch.arange(begin, min(begin + size, len(y)))
            cosine = self.at(rows.numpy()) @ self._placed.T
            cosine[rows[:, None] == references] = -2.0  # itself is no neighbour
            same = y[rows][:, None] == of_references
            to_same, to_other = (
                (1 - cosine.masked_fill(mask, -2.0).amax(1)).clamp(min=1e-6).square()
                for mask in (~same, same)
            )
            top = cosine.topk(count, 1)
            votes = top.values.clamp(min=0) * weight[top.indices]
            agreeing = (votes * same.gather(1, top.indices)).sum(1)
            yield Neighbours(
                ratio=(to_same / (to_same + to_other)).numpy(),
                agreement=(agreeing / votes.sum(1).clamp(min=1e-12)).numpy(),
                nearest=references[top.indices[:, 0]].numpy(),
                similarity=top.values[:, 0].numpy(),
            )

    def further(self, positions: np.ndarray, places: tuple[int, ...]) -> np.ndarray:
        """Positions of the references at some places of nearness, [B, at most places].

        Args:
            positions: Of the samples, [B].
            places: From 1, the nearest; those beyond the number of references are left
                out.
        """
        references = torch.from_numpy(self.references)
        places = [k - 1 for k in places if k < len(references)]
        found = []
        for rows in torch.from_numpy(positions).split(COSINES // len(references) + 1):
            cosine = self.at(rows.numpy()) @ self._placed.T
            cosine[rows[:, None] == references] = -2.0
            top = cosine.topk(max(places) + 1, 1).indices[:, places]
            found.append(references[top].numpy())
        return np.concatenate(found) if found else np.zeros((0, len(places)), int)

    def nearest_of_class(
        self, positions: np.ndarray, classes: np.ndarray, labels: np.ndarray, count: int
    ) -> list[np.ndarray]:
        """For each sample, the positions of its nearest references of one class.

        Args:
            positions: Of the samples, [B].
            classes: The class to look in for each, [B].
            labels: Given, [N].
            count: How many, at most.
        """
        of_references = labels[self.references]
        cosine = (self.at(positions) @ self._placed.T).numpy()
        found = []
        for row, position, wanted in zip(cosine, positions, classes, strict=True):
            among = np.flatnonzero(
                (of_references == wanted) & (self.references != position)
            )
            best = among[np.argsort(-row[among], kind="stable")[:count]]
            found.append(self.references[best])
        return found


def consensus(table: pd.DataFrame, names: tuple[str, ...] = CONSENSUS) -> np.ndarray:
    """Mean relative rank of each sample by some scores: [N], in [0, 1], high suspect.

    Args:
        table: With a column for each name; equal values share a mean rank.
        names: Of scores, whose directions are known.

    Example:
        >>> table = pd.DataFrame({"out_of_fold_loss": [0.1, 2.0], "aum": [5.0, -1.0]})
        >>> consensus(table, ("out_of_fold_loss", "aum"))
        array([0., 1.])
    """
    ranks = [rankdata(table[name] * sign_of(name)) for name in names]
    return (np.mean(ranks, axis=0) - 1) / max(len(table) - 1, 1)


def sign_of(name: str) -> int:
    """+1 if a high value of a score is suspect, -1 if a low one is."""
    return SIGNS[name] if name in SIGNS else scores.SCORES[name].sign


def epochs_within(config: HeadConfig, count: int, *, most: int = 100) -> HeadConfig:
    """The same settings with epochs enough for a small data set: 1,500 steps or so."""
    steps = math.ceil(count / min(config.batch_size, max(count // 8, 1)))
    epochs = min(max(config.epochs, math.ceil(1500 / steps)), most)
    return replace(config, epochs=epochs)


@dataclass(frozen=True, kw_only=True, eq=False)
class Ranked:
    """The samples in the order of suspicion, and what the order was made from.

    Attributes:
        table: One row per sample, in the order of ``vectors``: index, label,
            original_label, suggested (a class each), all scores, consensus,
            consensus_error (NaN for one seed), rank (from 1) and rank_in_class.
        traces: One a seed.
        epochs: Of each trace.
        space: Where neighbours were looked for; None without feature vectors.
        neighbours: Of each sample; None without feature vectors.
        order: The scores whose mean rank is the consensus.
    """

    table: pd.DataFrame
    traces: list[Trace]
    epochs: list[int]
    space: "Space | None"
    neighbours: "Neighbours | None"
    order: tuple[str, ...] = CONSENSUS


def rank(
    vectors: Vectors,
    *,
    runs: str | Path,
    seeds: int = 1,
    seed: int = 0,
    most_epochs: int | None = None,
    device: str = "cpu",
    on_stage: Callable[[str], None] = progress.report,
) -> Ranked:
    """Rank samples by suspicion, from their feature vectors and given labels alone.

    Args:
        vectors: N samples.
        runs: Folder of traces and folds, where stopped work goes on.
        seeds: Heads that are averaged.
        seed: Of the first.
        most_epochs: Of the head that leaves the trace; by default what the held-out
            loss says.
        device: That heads are on.
        on_stage: Told what happens.
    """
    scaling = head.statistics(vectors)
    space = Space(vectors, scaling, seed=seed)
    on_stage("neighbours of each sample")
    neighbours = space.neighbours(vectors.labels, runs=runs)
    tables, traces = [], []
    linear = epochs_within(LINEAR, len(vectors))
    for number in range(seed, seed + seeds):
        on_stage(f"out of fold, seed {number}")
        held_out = head.out_of_fold(
            replace(linear, seed=number),
            vectors,
            runs=runs,
            folds=FOLDS,
            device=device,
            scaling=scaling,
        )
        epochs = stopping_epoch(
            vectors, runs=runs, seed=number, device=device, scaling=scaling
        )
        epochs = min(epochs, most_epochs or epochs)
        on_stage(f"trace of {epochs} epochs, seed {number}")
        config = replace(HIDDEN, epochs=epochs, seed=number)
        trace = head.fit_head(
            config, vectors, runs=runs, device=device, scaling=scaling
        )
        traces.append(trace)
        table = scores.compute(trace, seed=number)
        # A trace is in the order of the index, vectors are in that of the images.
        order = np.searchsorted(table["index"].to_numpy(), vectors.index)
        table = table.iloc[order].reset_index(drop=True)
        errors = trace.read("standard_error")  # a row has 4 bytes per sample
        squares = sum(np.square(row[order].astype(np.float64)) for row in errors)
        table["curvature_square_error"] = np.sqrt(squares) / len(errors)
        table["out_of_fold_loss"] = held_out.loss
        table["out_of_fold_probability"] = held_out.probability
        table["suggested"] = held_out.suggested
        table["suggested_probability"] = held_out.suggested_probability
        table["neighbour_ratio"] = neighbours.ratio
        table["neighbour_agreement"] = neighbours.agreement
        table["consensus"] = consensus(table)
        tables.append(table)
    table = _averaged(tables)
    table.insert(2, "original_label", vectors.original_labels)
    return Ranked(
        table=with_ranks(table),
        traces=traces,
        epochs=[int(trace.config["epochs"]) for trace in traces],
        space=space,
        neighbours=neighbours,
    )


def stopping_epoch(vectors, *, runs, seed=0, device="cpu", scaling=None) -> int:
    """Epochs for the head that leaves the trace: where its held-out loss is lowest.

    One fifth of the samples is left out; of a small data set, several in turn.
    """
    config = replace(epochs_within(HIDDEN, len(vectors)), seed=seed)
    only = min(max(10_000 // len(vectors), 1), FOLDS)
    found = head.out_of_fold(
        config,
        vectors,
        runs=runs,
        folds=FOLDS,
        only=only,
        device=device,
        scaling=scaling,
    )
    # At least three scored epochs: one says nothing about the course of training.
    return max(3, round(float(np.median(found.epochs))))


def _averaged(tables: list[pd.DataFrame]) -> pd.DataFrame:
    """Scores averaged over seeds; the suggested class is that of the surest seed."""
    first = tables[0]
    if len(tables) == 1:
        return first.assign(consensus_error=np.nan)
    values = np.stack([t.select_dtypes("number").to_numpy(float) for t in tables])
    names = list(first.select_dtypes("number").columns)
    mean = pd.DataFrame(values.mean(0), columns=names)
    spread = values[:, :, names.index("consensus")].std(0, ddof=1)
    best = values[:, :, names.index("suggested_probability")].argmax(0)
    suggested = values[best, np.arange(len(first)), names.index("suggested")]
    return mean.assign(
        index=first["index"],
        label=first["label"],
        suggested=suggested.astype(np.int64),
        consensus_error=spread / np.sqrt(len(tables)),
    )


def with_ranks(table: pd.DataFrame) -> pd.DataFrame:
    """Add rank and rank_in_class by consensus; ties go by index."""
    order = np.lexsort((table["index"].to_numpy(), -table["consensus"].to_numpy()))
    place = np.empty(len(table), np.int64)
    place[order] = np.arange(1, len(table) + 1)
    table = table.assign(rank=place)
    in_class = table.groupby("label")["rank"].rank(method="first").astype(np.int64)
    return table.assign(rank_in_class=in_class)


def rank_pixels(
    images: Images,
    *,
    runs: str | Path,
    minutes: float,
    seeds: int = 1,
    seed: int = 0,
    device: str | None = None,
) -> Ranked:
    """Rank samples without feature vectors: train a network on the pixels.

    It generalises first, with crops and flips, and memorises later, without: the
    network and the schedule of ``benchmarks/regime.py``, with as many steps, in smaller
    batches where there are fewer images. It takes many times as long as a head and
    finds fewer wrong labels.

    Args:
        images: N samples in memory, small ones; or photographs in files, which are then
            cropped at random sizes and read again in each epoch.
        runs: Folder of runs; one that was stopped goes on.
        minutes: That the training may take, all seeds together.
        seeds: Networks that are averaged.
        seed: Of the first.
        device: As for ``curvlib.fit``.
    """
    tables, traces = [], []
    for number in range(seed, seed + seeds):
        config = _affordable(images, Path(runs), minutes / seeds, number, device)
        trace = training.fit(config, images, runs=runs, device=device)
        traces.append(trace)
        table = scores.compute(trace, seed=number)
        order = np.searchsorted(table["index"].to_numpy(), images.index)
        table = table.iloc[order].reset_index(drop=True)
        predicted = trace.read("predicted")[:, order]
        counts = np.stack([(predicted == c).sum(0) for c in range(len(images.classes))])
        counts[images.labels, np.arange(len(images))] = -1
        table["suggested"] = np.where(counts.max(0) > 0, counts.argmax(0), -1)
        table["suggested_probability"] = counts.max(0) / len(predicted)
        table["consensus"] = consensus(table, PIXELS_CONSENSUS)
        tables.append(table)
    table = _averaged(tables).drop(columns="suggested_probability")
    table.insert(2, "original_label", images.original_labels)
    return Ranked(
        table=with_ranks(table),
        traces=traces,
        epochs=[int(trace.config["epochs"]) for trace in traces],
        space=None,
        neighbours=None,
        order=PIXELS_CONSENSUS,
    )


def pixels_config(images: Images, *, epochs: int | None = None, seed: int = 0):
    """Settings of the network that is trained on pixels.

    ``STEPS`` steps in all, as in ``benchmarks/regime.py``: what a network can learn is
    bounded by its steps. The batch is smaller where there are fewer images, and the
    learning rate falls with it (Goyal et al. 2017).

    Args:
        images: N samples.
        epochs: Fewer than that takes, if there is less time.
        seed: Of the run.
    """
    batch = int(min(max(len(images) // 40, 32), 500))
    wanted = min(math.ceil(STEPS / math.ceil(len(images) / batch)), MOST_EPOCHS)
    epochs = max(min(epochs or wanted, wanted), LEAST_EPOCHS)
    in_files = isinstance(images.images, Photographs)  # cropped, not shifted
    return TrainConfig(
        dataset=images.name,
        model="whitened_net",
        width=32,
        epochs=epochs,
        lr=0.6 * batch / 500,
        nesterov=True,
        weight_decay=1e-3,
        batch_size=batch,
        schedule="linear",
        warmup=0.2,
        augment=True,
        augment_epochs=round(0.6 * epochs),
        restart=0.2,
        num_probes=1,
        score_every=math.ceil(epochs / SCORED),
        seed=seed,
        **({} if in_files else {"shift": max(min(images.images.shape[1:3]) // 16, 1)}),
    )


def _affordable(images, runs: Path, minutes: float, seed: int, device) -> TrainConfig:
    """The settings with as many epochs as there is time for, in quicker arithmetic."""
    chosen = runs / f"epochs-{images.checksum}-{minutes:g}-{seed}.json"
    if not chosen.exists():  # once: a run that goes on must be the same run
        config = pixels_config(images, seed=seed)
        spread = np.linspace(0, len(images) - 1, min(len(images), 256))
        some = images.select(spread.astype(int))
        seconds = {}
        for precision in ("float32", "bfloat16"):
            trial = config.changed(precision=precision, epochs=3, augment_epochs=2)
            times = []
            for model in training.passes(
                trial, some, scaling=images.statistics(), device=device
            ):
                times.append(time.perf_counter())  # the first starts the workers
                trained = model
            seconds[precision] = times[1] - times[0]
        begun, few = time.perf_counter(), some.select(np.arange(min(len(some), 128)))
        how = {"scaling": images.statistics(), "num_probes": 1, "step": 1e-3}
        scoring.score(trained, few, epoch=1, **how)
        scored = (time.perf_counter() - begun) * len(some) / len(few)
        precision = min(seconds, key=seconds.get)
        share, left = len(images) / len(some), 50 * minutes
        # Epochs that fit, when SCORED of them are scored as well, or each one.
        epochs = (left / share - SCORED * scored) / seconds[precision]
        if epochs < SCORED:
            epochs = left / share / (seconds[precision] + scored)
        found = {"epochs": max(int(epochs), 1), "precision": precision}
        write_atomically(chosen, json.dumps(found).encode())
    found = json.loads(chosen.read_text())
    config = pixels_config(images, epochs=found["epochs"], seed=seed)
    return config.changed(precision=found["precision"])


def similar(ranked: Ranked, vectors: Vectors, indices) -> list[tuple[int, int, int]]:
    """For some samples, what images of the suggested class look most like them.

    Args:
        ranked: As ``rank`` returns it.
        vectors: That were ranked.
        indices: Of the samples.

    Returns:
        Index of the sample, index of an image of the suggested class, and its place
        from 1, at most ``SIMILAR`` a sample.
    """
    order = np.argsort(vectors.index)
    positions = order[np.searchsorted(vectors.index[order], np.asarray(indices))]
    suggested = ranked.table["suggested"].to_numpy()[positions]
    found = ranked.space.nearest_of_class(positions, suggested, vectors.labels, SIMILAR)
    return [
        (int(vectors.index[position]), int(vectors.index[other]), number + 1)
        for position, others in zip(positions, found, strict=True)
        for number, other in enumerate(others)
    ]


def find_duplicates(images: Images, ranked: Ranked) -> pd.DataFrame:
    """Images that a data set has more than once, the same pixels or nearly so.

    Nearly the same are neighbours in feature space, or small images of nearly the same
    brightness, whose details agree, and agree far more than those of either image with
    its further neighbours: two photographs of trousers from one shop agree well, and so
    do all of the shop's trousers.

    Returns:
        One row for each image of a group: group (from 0), index, label (its class),
        similarity (of the details with another of the group, 1 for the same pixels),
        exact and conflict, whether the labels of the group differ. Groups with a
        conflict come first. Near duplicates of near duplicates are in one group.
    """
    exact = duplicates.exact(images)
    rows = [
        (f"exact {group}", index, label, 1.0, True)
        for group, index, label in zip(
            exact["group"], exact["index"], exact["label"], strict=True
        )
    ]
    known = {
        int(i): int(g) for g, i in zip(exact["group"], exact["index"], strict=True)
    }
    if ranked.neighbours is not None:
        pairs, alike = _near_pairs(images, ranked.space, ranked.neighbours)
        exactly = [known.get(int(i), -1 - k) for k, i in enumerate(images.index)]
        same = np.array(exactly)[pairs]
        pairs, alike = (part[same[:, 0] != same[:, 1]] for part in (pairs, alike))
        links = coo_array((alike, pairs.T), shape=(len(images), len(images)))
        _, group = connected_components(links, directed=False)
        best = np.zeros(len(images))
        np.maximum.at(best, pairs.ravel(), np.repeat(alike, 2))
        rows += [
            (f"near {group[k]}", int(images.index[k]), images.labels[k], best[k], False)
            for k in np.unique(pairs)
        ]
    table = pd.DataFrame(
        rows, columns=["group", "index", "label", "similarity", "exact"]
    )
    conflict = table.groupby("group")["label"].transform("nunique") > 1
    table["conflict"] = conflict.astype(bool)
    table["best"] = table.groupby("group")["similarity"].transform("max")
    table = table.sort_values(
        ["conflict", "exact", "best", "group", "index"],
        ascending=[False, False, False, True, True],
        kind="stable",
        ignore_index=True,
    ).drop(columns="best")
    table["group"] = pd.factorize(table["group"])[0]
    return table.astype({"similarity": float, "exact": bool})


def _near_pairs(
    images: Images, space: Space, near: Neighbours
) -> tuple[np.ndarray, np.ndarray]:
    """Near duplicates: positions among the images, [P, 2]; and similarity, [P]."""
    place = {int(index): row for row, index in enumerate(images.index)}
    rows = np.array([place[int(i)] for i in space.vectors.index], np.int64)
    first = np.flatnonzero(near.similarity >= ALIKE)
    first = first[np.argsort(-near.similarity[first])][:MOST_COMPARED]
    candidates = [np.stack([first, near.nearest[first]], 1)]
    if not isinstance(images.images, Photographs) and len(rows) <= REFERENCES:
        candidates.append(_alike_in_pixels(images.select(rows)))
    pairs = np.unique(np.sort(np.concatenate(candidates), axis=1), axis=0)

    def similarity(one: np.ndarray, two: np.ndarray, turned: bool = False):
        found = np.zeros(len(one))
        for part in np.array_split(np.arange(len(one)), len(one) // 200 + 1):
            if len(part):
                a, b = (small(images.images[rows[k[part]]]) for k in (one, two))
                b = b[:, ::-1] if turned else b
                found[part] = duplicates.detail_correlation(a, b)
        return found

    alike = similarity(*pairs.T)
    pairs, alike = pairs[alike >= SAME], alike[alike >= SAME]
    far = np.full(len(pairs), math.inf)
    for side in pairs.T:
        others = space.further(side, FURTHER)
        usual = similarity(np.repeat(side, others.shape[1]), others.ravel())
        far = np.minimum(far, _distance(np.median(usual.reshape(others.shape), 1)))
    kept = _distance(alike) <= CLOSER * far
    pairs, alike = pairs[kept], alike[kept]
    kept = alike >= _enough(alike, similarity(*pairs.T, turned=True))
    return rows[pairs[kept]], alike[kept]


def _alike_in_pixels(images: Images, count: int = 10) -> np.ndarray:
    """Pairs of positions whose brightness in squares agrees, [P, 2].

    A network sees small images enlarged, with the squares of JPEG and all: for it a
    copy may be further away than another image.
    """
    vectors = torch.from_numpy(duplicates.pixel_descriptors(images, side=7))
    count, parts = min(count, len(images) - 1), []
    for block in torch.arange(len(images)).split(COSINES // len(images) + 1):
        cosine = vectors[block] @ vectors.T
        cosine[torch.arange(len(block)), block] = -2.0
        top = cosine.topk(count, 1)
        line, column = torch.where(top.values >= ALIKE)
        found = torch.stack([block[line], top.indices[line, column]], 1)
        parts.append((top.values[line, column], found))
    values, pairs = (torch.cat(part) for part in zip(*parts, strict=True))
    return pairs[values.argsort(descending=True, stable=True)[:MOST_IN_MEMORY]].numpy()


def _distance(correlation: np.ndarray) -> np.ndarray:
    """From 0 to infinity; its logarithm is that of Fisher's transform, times -2."""
    correlation = np.clip(correlation, -1 + 1e-6, 1)
    return (1 - correlation) / (1 + correlation)


def _enough(alike: np.ndarray, decoys: np.ndarray) -> float:
    """From which correlation on two images count as one.

    One of each pair turned upside down is no duplicate: decoys that reach a correlation
    say how many pairs reach it by chance. One in twenty may.
    """
    for threshold in (SAME, 0.85, 0.9, 0.95, 0.98):
        if (decoys >= threshold).sum() <= 0.05 * (alike >= threshold).sum():
            return threshold
    return math.inf


def small(pixels: np.ndarray, side: int = 64) -> np.ndarray:
    """uint8 [N, H, W, C], shrunk if larger."""
    if pixels.shape[1] <= side:
        return pixels
    x = torch.from_numpy(pixels).permute(0, 3, 1, 2).float()
    x = F.interpolate(x, (side, side), mode="area")
    return x.round().byte().permute(0, 2, 3, 1).numpy()


# ------------------------------------------------------------ how many labels are wrong


def plant(
    labels: np.ndarray,
    suggested: np.ndarray,
    num_classes: int,
    *,
    share: float,
    seed: int,
    fixed: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Replace some labels by wrong ones, half by any class and half by the likeliest.

    People confuse classes that look alike, machines may put any class: the two halves
    stand for an easy and for a hard kind of error.

    Args:
        labels: Given, shape [N].
        suggested: The most probable other class, shape [N], as ``HeldOut`` has it.
        num_classes: C.
        share: Of the samples, in (0, 0.5].
        seed: Of the choice.
        fixed: Samples whose label is known to be right, bool [N]: not replaced.

    Returns:
        Labels [N], and the kind of each sample: 0, not planted; 1, any class; 2, the
        likeliest other class.
    """
    if not 0 < share <= 0.5:
        raise ValueError(f"the share planted must be in (0, 0.5], got {share}")
    rng = np.random.default_rng([seed, 77])
    order = rng.permutation(len(labels))
    if fixed is not None:
        order = order[~fixed[order]]
    chosen = order[: max(2, round(share * len(order)))]
    kind = np.zeros(len(labels), np.int64)
    kind[chosen[::2]], kind[chosen[1::2]] = 1, 2
    other = (labels + rng.integers(1, num_classes, len(labels))) % num_classes
    planted = np.where(kind == 1, other, np.where(kind == 2, suggested, labels))
    return planted, kind


def second_consensus(
    vectors: Vectors,
    labels: np.ndarray,
    space: Space,
    *,
    epochs: int,
    runs: str | Path,
    seed: int = 0,
    device: str = "cpu",
    scaling: Scaling | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The consensus under other labels, without curvature: a second, cheaper run.

    Returns:
        The consensus [N]; how many classes are more probable out of fold than the
        label, [N]; and what confident learning takes for wrong, bool [N].
    """
    scaling = scaling or head.statistics(vectors)
    planted = vectors.relabelled(labels)
    held_out = head.out_of_fold(
        replace(epochs_within(LINEAR, len(vectors)), seed=seed),
        planted,
        runs=runs,
        folds=FOLDS,
        device=device,
        scaling=scaling,
    )
    config = replace(HIDDEN, epochs=epochs, seed=seed)
    margin = head.softmax_margin(
        config, planted, runs=runs, device=device, scaling=scaling
    )
    table = pd.DataFrame(
        {
            "out_of_fold_loss": held_out.loss,
            "aum_softmax": margin,
            "neighbour_agreement": space.neighbours(labels, runs=runs).agreement,
            "label": labels,
            "suggested": held_out.suggested,
            "out_of_fold_probability": held_out.probability,
            "suggested_probability": held_out.suggested_probability,
        }
    )
    return consensus(table), held_out.place, confident(table)


def confident(table: pd.DataFrame) -> np.ndarray:
    """The labels that confident learning takes for wrong, bool [N].

    Northcutt et al. (2021): a label is taken for wrong if another class is at least as
    probable, out of fold, as that class is on average where it is the label given.

    Args:
        table: As ``rank`` makes it.
    """
    own, label = table["out_of_fold_probability"], table["label"]
    threshold = own.groupby(label).mean()
    other = table["suggested_probability"]
    sure = other >= table["suggested"].map(threshold).fillna(np.inf)
    doubted = (own < label.map(threshold)) | (other > own)
    return (sure & doubted).to_numpy()


def confident_count(table: pd.DataFrame) -> int:
    """Number of labels that confident learning takes for wrong."""
    return int(confident(table).sum())


def planted_runs(
    ranked: Ranked,
    vectors: Vectors,
    *,
    share: float,
    runs: str | Path,
    seed: int = 0,
    device: str = "cpu",
    fixed: np.ndarray | None = None,
    planted: int = PLANTED,
    enough: Callable[[], bool] = lambda: False,
    on_stage: Callable[[str], None] = progress.report,
) -> list[tuple[np.ndarray, ...]]:
    """Rank again with planted labels, as often as it takes to plant enough.

    Args:
        ranked: The ranking without planted labels.
        vectors: That were ranked.
        share: Of the labels that are replaced in one run.
        runs: Folder of stopped work.
        seed: Of the choice.
        device: That heads are on.
        fixed: Samples whose label is known to be right, bool [N].
        planted: Labels planted in all; ``MOST_RUNS`` runs are made at most.
        enough: Asked before each run but the first; true if there is no more time.
        on_stage: Told what happens.

    Returns:
        What ``counting.estimate`` takes.
    """
    fixed = np.zeros(len(vectors), bool) if fixed is None else fixed
    wanted = min(math.ceil(planted / (share * max((~fixed).sum(), 1))), MOST_RUNS)
    scaling, found = head.statistics(vectors), []
    for number in range(wanted):
        if number and enough():
            break
        on_stage(f"planted labels, run {number + 1} of {wanted}")
        labels, kind = plant(
            vectors.labels,
            ranked.table["suggested"].to_numpy(),
            len(vectors.classes),
            share=share,
            seed=seed + 1000 * number,
            fixed=fixed,
        )
        columns = second_consensus(
            vectors,
            labels,
            ranked.space,
            epochs=ranked.epochs[0],
            runs=runs,
            seed=seed,
            device=device,
            scaling=scaling,
        )
        score, place, doubted = (column[~fixed] for column in columns)
        found.append((score, kind[~fixed], place, doubted))
    return found
