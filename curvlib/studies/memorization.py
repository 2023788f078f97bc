"""Does curvature agree with memorization that is measured here?

We train an ensemble, each network on a random part of the images, and estimate the
memorization of every image with its standard error. Then we train single networks on
all images and compare their scores with these estimates.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from curvlib.runs import influence
from curvlib.studies import Measured, agreement, checksums, statistics

if TYPE_CHECKING:
    from curvlib.runs.ensembles import Ensemble
    from curvlib.runs.influence import Estimate

RECIPE = 1
PARTS = ("data", "networks", "training", "scoring", "ensembles")
NUM_KNOWN = 400  # images given to the learner whose memorization is known
NUM_MEMORISED = 21  # images kept as the most memorised
NUM_PAIRS = 14  # pairs of highest influence in the table
NUM_PAIRS_SHOWN = 7  # and of these, kept as images
NUM_SEARCHED = 2000  # pairs of highest influence, before each image is used once
STRONG = 0.15  # influence of the pairs that are counted
COMPARED = ("curvature_norm", "cumulative_loss")  # scores whose seconds are compared


def measure(
    *,
    dataset: str = "digits",
    num_train: int | None = None,
    num_test: int | None = None,
    num_models: int = 2000,
    ratio: float = 0.7,
    models_at_once: int = 100,
    n_jobs: int = -1,
    ensemble_seed: int = 0,
    seeds: list[int] = [0, 1, 2],  # noqa: B006
    model: str = "mlp",
    width: int = 32,
    epochs: int = 20,
    lr: float = 0.1,
    batch_size: int = 64,
    schedule: str = "cosine",
    weight_decay: float = 0.0,
    num_probes: int = 2,
    step: float = 0.001,
    score_every: int = 1,
    num_top: int = 100,
    num_influence: int = 500,
    runs: str = "runs",
) -> Measured:
    """Estimate memorization with an ensemble, and compare it with scores of one run.

    Args: as in the notebook of this name.

    Returns:
        ``ensemble`` (one row): networks, images, test_images, images_inside (each
        network's subset), undefined (images without a value), seconds (of one core) and
        fitted (lowest training accuracy of the single runs). ``accuracy``: answers_on,
        accuracy. ``memorization``: index, label, memorization, standard_error (both to
        six digits) and networks_inside. The other tables are described where they are
        made: ``nearest-neighbour``, ``most-memorised`` (with the pixels in
        ``memorised-images``), ``influential-pairs`` (with the pixels of the first in
        ``influential-images``), ``pair-counts``, ``convergence``, ``agreement``,
        ``line``, ``line-fit`` and ``cost``.
    """
    asked = locals()
    # Here, and not at the top: torch takes seconds, and drawing a page needs none.
    from curvlib import data, scores
    from curvlib.runs import ensembles, training
    from curvlib.studies import costs

    known = ensembles.EnsembleConfig.__annotations__
    settings = {name: value for name, value in asked.items() if name in known}
    config = ensembles.EnsembleConfig(**settings, seed=ensemble_seed)
    scored = {
        name: asked[name]
        for name in ("dataset", "num_train", "num_probes", "step", "score_every")
    }
    single = [config.training(**scored, seed=seed) for seed in seeds]
    images, _ = training.prepare(single[0])
    whole_test = data.load(dataset, split="test")
    test = whole_test.select(np.arange(num_test or len(whole_test)))

    ensemble = ensembles.train(config, images, test, runs=runs, n_jobs=n_jobs)
    traces = [training.fit(c, images, runs=runs) for c in single]
    by_seed = {
        seed: scores.suspicion(scores.compute(trace))
        for seed, trace in zip(seeds, traces, strict=True)
    }
    spent = costs.of_runs(traces)

    memorized = influence.memorization(ensemble.inside, ensemble.correct)
    first, second = halves(ensemble)
    order = most_memorised(first, second)
    top = order[:NUM_MEMORISED]
    chosen = order[:num_influence]
    pairs, counts = influential(ensemble, chosen)
    rows, columns = pairs["row"].to_numpy(), pairs["column"].to_numpy()
    shown = slice(NUM_PAIRS_SHOWN)
    defined = np.isfinite(memorized.value)
    reference = memorized.value[defined]
    inside = {seed: frame[defined] for seed, frame in by_seed.items()}
    norm = agreement.mean_of(inside)["curvature_norm"].to_numpy()
    bins, fit = straight_line(norm, reference)
    per_image = pd.DataFrame(
        {
            "index": images.index,
            "label": images.labels,
            "memorization": six_digits(memorized.value),
            "standard_error": six_digits(memorized.standard_error),
            "networks_inside": ensemble.inside.sum(0),
        }
    )
    few = images.select(np.arange(min(NUM_KNOWN, len(images))))
    names, test_names = np.array(images.classes), np.array(test.classes)
    return Measured(
        tables={
            "ensemble": pd.DataFrame(
                {
                    "networks": [num_models],
                    "images": len(images),
                    "test_images": len(test),
                    "images_inside": config.subset_size(len(images)),
                    "undefined": memorized.undefined,
                    "seconds": ensemble.seconds,
                    "fitted": min(float(t.read("correct")[-1].mean()) for t in traces),
                }
            ),
            "nearest-neighbour": nearest_neighbour(
                few.images[:], few.labels, few.index, ratio, num_models
            ),
            "accuracy": accuracy(ensemble),
            "memorization": per_image,
            "most-memorised": pd.DataFrame(
                {
                    "index": images.index[top],
                    "label": images.labels[top],
                    "class": names[images.labels[top]],
                    "memorization": memorized.value[top],
                    "standard_error": memorized.standard_error[top],
                    "first_half": first.value[top],
                    "second_half": second.value[top],
                    "second_half_error": second.standard_error[top],
                }
            ),
            "memorised-images": images.select(top).images[:],
            "influential-pairs": pd.DataFrame(
                {
                    "train_index": images.index[chosen[rows]],
                    "test_index": test.index[columns],
                    "train_class": names[images.labels[chosen[rows]]],
                    "test_class": test_names[test.labels[columns]],
                    "first_half": pairs["first_half"],
                    "second_half": pairs["second_half"],
                    "standard_error": pairs["standard_error"],
                    "memorization": second.value[chosen[rows]],
                }
            ),
            "influential-images": np.stack(
                [
                    images.select(chosen[rows[shown]]).images[:],
                    test.select(columns[shown]).images[:],
                ],
                axis=1,
            ),
            "pair-counts": counts,
            "convergence": convergence(ensemble, num_top),
            "agreement": agreement.of_scores(
                inside, reference, min(num_top, len(reference))
            ),
            "line": bins,
            "line-fit": fit,
            "cost": cost(ensemble, by_seed, spent, num_top),
        },
        data=checksums(dataset) | {"test": whole_test.checksum},
        runs=spent,
    )


# ------------------------------------------------ a learner whose answer is known


def neighbours(images: np.ndarray) -> np.ndarray:
    """All other images of each image, the nearest first.

    Args:
        images: Any numbers, shape [N, ...]; Euclidean distance.

    Returns:
        Positions, int64 [N, N - 1].
    """
    flat = images.reshape(len(images), -1).astype(np.float64)
    squares = (flat**2).sum(1)
    distance = squares[:, None] + squares - 2 * flat @ flat.T
    np.fill_diagonal(distance, np.inf)
    return np.argsort(distance, axis=1, kind="stable")[:, :-1]  # itself comes last


def exact_memorization(
    nearest: np.ndarray, labels: np.ndarray, size: int
) -> np.ndarray:
    r"""Memorization of each image by the learner of the nearest neighbour, exactly.

    The learner answers with the label of the nearest image that it was given, so an
    image in its subset is always right. With m of N images in each subset, the k-th
    neighbour decides if it is in the subset and the first k - 1 are not:

    .. math::
        1 - \sum_k \mathbb{1}[y_{(k)} = y_i] \,
        \frac{m}{N - k} \prod_{j=1}^{k-1} \frac{N - m - j}{N - j}

    Args:
        nearest: Neighbours of each image, as ``neighbours`` returns them, [N, N - 1].
        labels: Shape [N].
        size: Images m in each subset.

    Returns:
        Memorization in [0, 1], float64 [N].

    Example:
        >>> nearest = np.array([[1, 2], [0, 2], [1, 0]])  # N=3
        >>> exact_memorization(nearest, np.array([0, 0, 1]), size=2)
        array([0., 0., 1.])
    """
    count = len(labels)
    k = np.arange(1, count)
    left_out = np.cumprod(np.r_[1, np.maximum(count - size - k, 0) / (count - k)])[:-1]
    alike = labels[nearest] == labels[:, None]
    return 1 - (alike * size / (count - k) * left_out).sum(1)


def nearest_neighbour(
    images: np.ndarray,
    labels: np.ndarray,
    index: np.ndarray,
    ratio: float,
    num_subsets: int,
) -> pd.DataFrame:
    """Memorization by the learner of the nearest neighbour: exact, and estimated.

    Args:
        images: Shape [N, ...].
        labels: Shape [N].
        index: Index of the images, shape [N].
        ratio: Share of the images in each subset.
        num_subsets: Random subsets that the estimate is made of.

    Returns:
        Columns index, exact, estimate and standard_error, a row for each image.
    """
    count, size = len(images), round(ratio * len(images))
    nearest = neighbours(images)
    rng = np.random.default_rng(0)
    inside = np.array([rng.permutation(count) < size for _ in range(num_subsets)])
    answer = np.array([nearest[np.arange(count), s[nearest].argmax(1)] for s in inside])
    found = influence.memorization(inside, inside | (labels[answer] == labels))
    return pd.DataFrame(
        {
            "index": index,
            "exact": exact_memorization(nearest, labels, size),
            "estimate": found.value,
            "standard_error": found.standard_error,
        }
    )


def error_ratio(known: pd.DataFrame) -> float:
    """Errors of the estimates in units of their standard errors, root mean square.

    Args:
        known: Result of ``nearest_neighbour``; rows without an error are left out.
    """
    sure = known[known["standard_error"] > 0]
    ratio = (sure["estimate"] - sure["exact"]) / sure["standard_error"]
    return float(np.sqrt(np.mean(ratio**2)))


# -------------------------------------------------------- what the ensemble tells


def accuracy(ensemble: "Ensemble") -> pd.DataFrame:
    """Share of right answers of all networks.

    Returns:
        Columns answers_on and accuracy: images that a network was trained on, images of
        the training set that it was not trained on, and test images.
    """
    inside, correct = ensemble.inside, ensemble.correct
    found = {
        "images a network was trained on": correct[inside].mean(),
        "images of the training set it was not trained on": correct[~inside].mean(),
        "test images": ensemble.correct_test.mean(),
    }
    return pd.DataFrame({"answers_on": list(found), "accuracy": list(found.values())})


def distribution(memorization: pd.DataFrame) -> pd.DataFrame:
    """How memorization is spread over the images.

    Args:
        memorization: Memorization and standard_error of each image; NaN if undefined.

    Returns:
        Columns fact and value (texts).
    """
    told = memorization.dropna(subset="memorization")
    value, error = told["memorization"], told["standard_error"]
    facts = {
        "mean memorization": f"{value.mean():.3f}",
        "mean standard error": f"{error.mean():.4f}",
        "images within 0.05 of zero": f"{np.mean(np.abs(value) < 0.05):.0%}",
        "images above 0.25": f"{np.mean(value > 0.25):.1%}",
        "images with a standard error of 0": f"{np.mean(error == 0):.0%}",
        "images in all subsets or in none": f"{len(memorization) - len(told)}",
    }
    return pd.DataFrame(facts.items(), columns=["fact", "value"])


def six_digits(values: np.ndarray) -> np.ndarray:
    """The same numbers to six significant digits, so that a table stays small.

    Example:
        >>> six_digits(np.array([2 / 3, 0.0, np.nan]))
        array([0.666667, 0.      ,      nan])
    """
    return np.array([float(f"{value:.6g}") for value in values])


def halves(ensemble: "Ensemble") -> "tuple[Estimate, Estimate]":
    """Estimates of memorization by two halves of the ensemble, of equal size."""
    half = len(ensemble.inside) // 2
    return tuple(
        influence.memorization(ensemble.inside[part], ensemble.correct[part])
        for part in _parts(half)
    )


def _parts(half: int) -> tuple[slice, slice]:
    return slice(half), slice(half, 2 * half)


def most_memorised(first: "Estimate", second: "Estimate") -> np.ndarray:
    """Positions of the images by their memorization in the first half, highest first.

    Args:
        first: Estimates of the half that chooses, [N].
        second: Of the half that tells the value.

    Returns:
        Positions of the images that have a value in both halves.
    """
    both = np.isfinite(first.value) & np.isfinite(second.value)
    order = np.argsort(-np.where(both, first.value, -np.inf), kind="stable")
    return order[: int(both.sum())]


def influential(
    ensemble: "Ensemble", chosen: np.ndarray
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Pairs of highest influence by the first half, each image in one pair at most.

    Args:
        ensemble: M networks.
        chosen: Positions of the training images that are searched, [K].

    Returns:
        At most ``NUM_PAIRS`` pairs: row (position in chosen), column (position among
        the test images), first_half, second_half and its standard_error. And one row of
        counts over all pairs: searched (training images), pairs, both_above (influence
        above ``STRONG`` by both halves), both_below (below minus it) and second_above.
    """
    first, second = (
        influence.influence(ensemble.inside[p][:, chosen], ensemble.correct_test[p])
        for p in _parts(len(ensemble.inside) // 2)
    )
    ranked = np.argsort(-first.value, axis=None)[:NUM_SEARCHED]
    pairs, rows, columns = [], set(), set()
    for i, j in zip(*np.unravel_index(ranked, first.value.shape), strict=True):
        if i not in rows and j not in columns:
            pairs.append((i, j))
            rows.add(i)
            columns.add(j)
    row, column = np.array(pairs[:NUM_PAIRS]).T
    both = first.value, second.value
    return (
        pd.DataFrame(
            {
                "row": row,
                "column": column,
                "first_half": first.value[row, column],
                "second_half": second.value[row, column],
                "standard_error": second.standard_error[row, column],
            }
        ),
        pd.DataFrame(
            {
                "searched": [len(chosen)],
                "pairs": first.value.size,
                "both_above": int(np.sum(np.minimum(*both) > STRONG)),
                "both_below": int(np.sum(np.maximum(*both) < -STRONG)),
                "second_above": int(np.sum(second.value > STRONG)),
            }
        ),
    )


def in_two_rows(pairs: pd.DataFrame, count: int) -> dict[str, list]:
    """What a gallery of the first pairs says below its images, training images first.

    Args:
        pairs: The table ``influential-pairs``.
        count: Pairs to show.

    Returns:
        Lists of 2 × count: captions (split and class), index, score (influence of the
        pair) and its error.
    """
    shown, splits = pairs[:count], ("train", "test")
    return {
        "captions": [f"{s}: {c}" for s in splits for c in shown[f"{s}_class"]],
        "index": [i for s in splits for i in shown[f"{s}_index"]],
        "score": [*shown["second_half"]] * 2,
        "error": [*shown["standard_error"]] * 2,
    }


def sizes(half: int) -> np.ndarray:
    """Numbers of networks that are tried, rising to the size of a half."""
    return np.unique(np.geomspace(min(5, half), half, 10).astype(int))


def convergence(ensemble: "Ensemble", num_top: int) -> pd.DataFrame:
    """How well the estimates of two disjoint parts of an ensemble agree, by their size.

    Args:
        ensemble: M networks; the parts are taken from its two halves.
        num_top: Length of the lists of highest estimates that are compared.

    Returns:
        One row for each number of networks: networks (in each part), undefined
        (images without a value in one of the parts), the four measures of
        ``statistics.Agreement``, mean_standard_error, rms_standard_error, and
        rms_error_seen, the root mean square of the difference over the root of 2.
    """
    half = len(ensemble.inside) // 2
    rows = []
    for m in sizes(half):
        a, b = (
            influence.memorization(ensemble.inside[part], ensemble.correct[part])
            for part in (slice(m), slice(half, half + m))
        )
        told = np.isfinite(a.value) & np.isfinite(b.value)
        found = statistics.agreement(
            a.value[told], b.value[told], min(num_top, int(told.sum()))
        )
        rows.append(
            {
                "networks": m,
                "undefined": int((~told).sum()),
                **found._asdict(),
                "mean_standard_error": np.nanmean(a.standard_error),
                "rms_standard_error": np.sqrt(np.nanmean(a.standard_error**2)),
                "rms_error_seen": np.sqrt(np.mean((a.value - b.value)[told] ** 2) / 2),
            }
        )
    return pd.DataFrame(rows)


# ------------------------------------------------------------- a straight line?


def straight_line(
    curvature: np.ndarray, memorization: np.ndarray
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Mean memorization in bins of curvature, and lines fitted to it.

    Args:
        curvature: Shape [N].
        memorization: Shape [N].

    Returns:
        The bins, of equal numbers of images: bin, images, curvature and memorization
        (means), standard_error (of the mean memorization), sd, line (the fitted value)
        and residual. And one row on the fit, as ``fitted_line`` returns it, with
        images_r2, the share of the variance between single images that a line
        explains.
    """
    num_bins = max(4, min(20, len(curvature) // 10))
    rank = np.argsort(np.argsort(curvature, kind="stable"))
    place = rank * num_bins // len(curvature)
    rows = []
    for b in range(num_bins):
        x, y = curvature[place == b], memorization[place == b]
        sd = y.std(ddof=1)
        rows.append([b, len(y), x.mean(), y.mean(), sd / len(y) ** 0.5, sd])
    columns = ["bin", "images", "curvature", "memorization", "standard_error", "sd"]
    bins = pd.DataFrame(rows, columns=columns)
    slope, intercept, _ = least_squares(bins["curvature"], bins["memorization"])
    bins["line"] = slope * bins["curvature"] + intercept
    bins["residual"] = bins["memorization"] - bins["line"]
    images_r2 = least_squares(curvature, memorization)[2]
    return bins, fitted_line(bins).assign(images_r2=images_r2)


def least_squares(x: np.ndarray, y: np.ndarray) -> tuple[float, float, float]:
    """Slope, intercept, and the share of the variance of y that the line explains.

    Example:
        >>> found = least_squares(np.arange(3), np.array([1, 3, 5]))
        >>> [round(float(value), 6) for value in found]
        [2.0, 1.0, 1.0]
    """
    slope, intercept = np.polyfit(x, y, 1)
    rest = y - slope * x - intercept
    return slope, intercept, 1 - (rest**2).sum() / ((y - y.mean()) ** 2).sum()


def fitted_line(bins: pd.DataFrame) -> pd.DataFrame:
    """What a straight line through the bins leaves over.

    Args:
        bins: Result of ``straight_line``.

    Returns:
        One row: slope and intercept, bins_r2 (share of the variance between bins that
        the line explains), residual (root mean square), expected (the same of the
        standard errors of the bins), bend (of a parabola; below 0 it bends downwards),
        and log_r2, of a line in the logarithm of curvature.
    """
    x, y = bins["curvature"], bins["memorization"]
    slope, intercept, r2 = least_squares(x, y)
    positive = x > 0
    log_r2 = least_squares(np.log10(x[positive]), y[positive])[2]
    return pd.DataFrame(
        {
            "slope": [slope],
            "intercept": intercept,
            "bins_r2": r2,
            "residual": np.sqrt(np.mean((y - slope * x - intercept) ** 2)),
            "expected": np.sqrt(np.mean(bins["standard_error"] ** 2)),
            "bend": np.polyfit(x, y, 2)[0],
            "log_r2": log_r2,
        }
    )


# ------------------------------------------------------------------ what it costs


def cost(
    ensemble: "Ensemble",
    by_seed: dict[int, pd.DataFrame],
    spent: pd.DataFrame,
    num_top: int,
) -> pd.DataFrame:
    """Agreement with the second half of the ensemble, and seconds spent on it.

    Args:
        ensemble: M networks, on N samples.
        by_seed: Scores of each run, high meaning suspect, N rows each.
        spent: Of the same runs, as ``costs.of_runs`` lists them.
        num_top: Length of the lists of highest values that are compared.

    Returns:
        Columns what (``ensemble`` or a score of ``COMPARED``), count (networks of the
        first half, or runs that the score is averaged over), seconds (of one core),
        trainings (the same, in trainings one by one), and the four measures of
        ``statistics.Agreement``.
    """
    half = len(ensemble.inside) // 2
    second = influence.memorization(
        ensemble.inside[half : 2 * half], ensemble.correct[half : 2 * half]
    )
    told = np.isfinite(second.value)
    target, k = second.value[told], min(num_top, int(told.sum()))
    rows = []
    for m in sizes(half):
        part = influence.memorization(ensemble.inside[:m], ensemble.correct[:m])
        guess = np.where(np.isfinite(part.value), part.value, 0)  # none: not memorised
        found = statistics.agreement(guess[told], target, k)
        seconds = ensemble.seconds * m / len(ensemble.inside)
        row = {"what": "ensemble", "count": m, "seconds": seconds}
        rows.append(row | {"trainings": float(m), **found._asdict()})
    training, threads = spent["train_seconds"], spent["threads"]
    # All seconds of a run count for curvature; the loss can be read off the training.
    for name, seconds in zip(
        COMPARED, (training + spent["score_seconds"], training), strict=True
    ):
        total = 0.0
        for n, frame in enumerate(by_seed.values(), start=1):
            total = total + frame[name].to_numpy()
            found = statistics.agreement(total[told] / n, target, k)
            rows.append(
                {
                    "what": name,
                    "count": n,
                    "seconds": float((seconds * threads)[:n].sum()),
                    "trainings": n * seconds.sum() / training.sum(),
                    **found._asdict(),
                }
            )
    return pd.DataFrame(rows)


def as_good_as_one_run(spent: pd.DataFrame) -> pd.DataFrame:
    """The fewest networks of those tried that agree as well as one run of a score.

    Args:
        spent: Result of ``cost``.

    Returns:
        One row for each score and measure: score, measure, agreement, seconds and
        trainings of the run, networks and their ensemble_seconds (NaN where no number
        that was tried agrees as well), and whether the run is cheaper in seconds
        (cheaper) and in trainings (fewer_trainings).
    """
    ensemble = spent[spent["what"] == "ensemble"]
    rows = []
    for name in COMPARED:
        one = spent[(spent["what"] == name) & (spent["count"] == 1)].iloc[0]
        for measure in ("spearman", "pearson", "top_overlap"):
            enough = ensemble[ensemble[measure] >= one[measure]]
            networks, seconds = (
                enough.iloc[0][["count", "seconds"]] if len(enough) else (np.nan,) * 2
            )
            rows.append(
                {
                    "score": name,
                    "measure": measure,
                    "agreement": one[measure],
                    "seconds": one["seconds"],
                    "trainings": one["trainings"],
                    "networks": networks,
                    "ensemble_seconds": seconds,
                    "cheaper": not seconds <= one["seconds"],
                    "fewer_trainings": not networks <= one["trainings"],
                }
            )
    return pd.DataFrame(rows)


def numbers(tables: Mapping[str, pd.DataFrame]) -> dict[str, float | str]:
    """The numbers that the text of the page shows.

    Args:
        tables: Result of ``measure``.

    Returns:
        By name; whole numbers as texts with a comma for thousands.
    """
    ensemble, top = tables["ensemble"].iloc[0], tables["most-memorised"]
    known, pairs = tables["nearest-neighbour"], tables["influential-pairs"]
    scored, last = tables["agreement"], tables["convergence"].iloc[-1]
    ranking = agreement.ranking(scored)
    outside = ensemble["networks"] - tables["memorization"]["networks_inside"].max()
    whole = {
        "num_samples": ensemble["images"],
        "num_models": ensemble["networks"],
        "subset_size": ensemble["images_inside"],
        "half": last["networks"],
        "num_seeds": agreement.of(scored, "curvature_norm", agreement.SEED)[
            "seed"
        ].size,
        "num_known": len(known),
        "num_sure": (known["standard_error"] > 0).sum(),
        "num_bins": len(tables["line"]),
        "place": list(ranking.index).index("curvature_norm") + 1,
        "num_scores": len(ranking),
    }
    texts = {name: f"{value:,.0f}" for name, value in whole.items()}
    texts |= {
        "norm_spearman": agreement.text(scored, "curvature_norm"),
        "loss_spearman": agreement.text(scored, "cumulative_loss"),
    }
    values = {
        "smallest": 3 / outside,  # a chance that so many networks may all miss
        "top_first": top["first_half"].mean(),
        "top_second": top["second_half"].mean(),
        "pairs_first": pairs["first_half"][:NUM_PAIRS_SHOWN].mean(),
        "pairs_second": pairs["second_half"][:NUM_PAIRS_SHOWN].mean(),
        "half_spearman": last["spearman"],
        "fitted": ensemble["fitted"],
        "ensemble_seconds": ensemble["seconds"],
        "model_seconds": ensemble["seconds"] / ensemble["networks"],
        "bins_r2": tables["line-fit"]["bins_r2"].iloc[0],
        "images_r2": tables["line-fit"]["images_r2"].iloc[0],
    }
    return texts | {name: float(value) for name, value in values.items()}


def ensembles(records: Mapping[str, Mapping]) -> pd.DataFrame:
    """Each data set's ensemble, what it gets right, and how memorization is spread.

    Args:
        records: Records of this study, by label.

    Returns:
        Column fact, and one for each label (texts).
    """
    columns = {}
    for label, record in records.items():
        told = numbers(record)
        accuracy = record["accuracy"].set_index(record["accuracy"].columns[0])
        facts = {
            "images": told["num_samples"],
            "networks": told["num_models"],
            "images that each network is given": told["subset_size"],
        }
        facts |= {
            f"accuracy: {name}": f"{value:.2%}"
            for name, value in accuracy.iloc[:, 0].items()
        }
        facts |= distribution(record["memorization"]).set_index("fact")["value"]
        facts["error that a standard error of 0 leaves"] = f"{told['smallest']:.3f}"
        columns[label] = facts
    return pd.DataFrame(columns).rename_axis("fact").reset_index()


def clear_pairs(pairs: pd.DataFrame) -> tuple[int, int, int]:
    """Pairs above three standard errors, pairs of one label, and all pairs.

    Args:
        pairs: The table ``influential-pairs``.
    """
    return (
        int((pairs["second_half"] > 3 * pairs["standard_error"]).sum()),
        int((pairs["train_class"] == pairs["test_class"]).sum()),
        len(pairs),
    )


def verdicts(spent: pd.DataFrame) -> dict[str, bool]:
    """What one run is worth beside the ensemble.

    Args:
        spent: Result of ``cost``.

    Returns:
        ``cheaper``: curvature takes fewer seconds than an ensemble that ranks as well.
        ``fewer trainings``: fewer trainings, by all three measures. ``loss as good``:
        the cumulative loss agrees at least as well, by all three.
    """
    rivals = as_good_as_one_run(spent)
    curvature, loss = (
        part.set_index("measure") for _, part in rivals.groupby("score", sort=False)
    )
    return {
        "cheaper": bool(curvature["cheaper"]["spearman"]),
        "fewer trainings": bool(curvature["fewer_trainings"].all()),
        "loss as good": bool((loss["agreement"] >= curvature["agreement"]).all()),
    }
