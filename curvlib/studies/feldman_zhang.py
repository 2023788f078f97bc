"""Does curvature agree with memorization scores that took thousands of models?

We train one network for each seed, average its scores over training, and compare every
score with the memorization that Feldman and Zhang (2020) released.
"""

from collections.abc import Mapping
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from curvlib import scores
from curvlib.files import short_hash
from curvlib.studies import (
    Measured,
    agreement,
    checksums,
    config_of,
    published,
    statistics,
)

if TYPE_CHECKING:
    from curvlib.trace import Trace

RECIPE = 1
PARTS = ("data", "networks", "training", "scoring")
BINNED = ("curvature_norm", "curvature_square", "cumulative_loss")
DENSE = ("curvature_norm", "cumulative_loss")
FIELDS = {  # of a trace, for the agreement of single epochs
    "curvature_norm": "mean_hvp_norm",
    "curvature_square": "squared_frobenius_norm",
    "cumulative_loss": "loss",
}
ALONE, SO_FAR = "this epoch alone", "mean so far"
WORDS = {  # for the columns of ``networks``
    "unseen": "right on unseen",
    "norm": "curvature (norm)",
    "epoch": "curvature at its best epoch",
    "loss": "cumulative loss",
}
NUM_CELLS = 35  # of the plots of density, on a side
TARGET = 0.65  # agreement that the number of runs is asked for
FACTS = ("fitted", "reference_mean", "reference_none", "reference_all", "epoch_error")
NUM_EXTREMES = 20  # images kept at either end of the disagreement


def measure(
    *,
    dataset: str = "cifar100",
    released: str = "cifar100_infl_matrix.npz",
    consistency: str | None = None,
    num_train: int | None = None,
    num_heldout: int = 0,
    seeds: list[int] = [0, 1],  # noqa: B006
    model: str = "strided_resnet",
    width: int = 48,
    epochs: int = 30,
    lr: float = 0.1,
    batch_size: int = 128,
    schedule: str = "cosine",
    weight_decay: float = 0.0,
    augment: bool = False,
    more_settings: dict | None = None,
    precision: str = "float32",
    num_probes: int = 2,
    step: float = 0.001,
    score_every: int = 1,
    num_top: int = 5000,
    runs: str = "runs",
) -> Measured:
    """Train, score, and compare every score with the released memorization.

    Args: as in the notebook of this name.

    Returns:
        ``summary`` (one row): images, scored_epochs, fitted (lowest training accuracy
        of the runs), unseen (accuracy on held-out images at the best scored epoch, of
        the worst run; only with held-out images), reference_mean, reference_none and
        reference_all (shares of images whose memorization is at most 0, and at least 1)
        and epoch_error (standard error over epochs of an image's curvature, as a share
        of the mean curvature).
        ``agreement`` over all images and ``agreement-top`` over the ``num_top`` most
        memorised, as ``agreement.of_scores`` returns them. The other tables are
        described where they are made: ``agreement-consistency``, ``spread``,
        ``density`` and ``density-edges``, ``bins``, ``epochs``, ``noise``, ``contrast``
        and ``disagreements`` (with the pixels in ``images``).

    Raises:
        FileNotFoundError: If there is no file of released scores.
        ValueError: If the file is in another order than the images. Both are raised
            before anything is trained.
    """
    asked = locals()
    # Here, and not at the top: torch takes seconds, and drawing a page needs none.
    from curvlib.data import released as others
    from curvlib.runs import training
    from curvlib.studies import costs

    configs = [config_of(asked, seed=seed) for seed in seeds]
    images, heldout = training.prepare(configs[0])  # the same images for each seed
    reference = others.memorization(released, images)
    regular = others.consistency(consistency, images) if consistency else None

    traces = [training.fit(c, images, heldout, runs=runs) for c in configs]
    by_seed = {
        seed: scores.suspicion(scores.compute(trace))
        for seed, trace in zip(seeds, traces, strict=True)
    }
    per_epoch = [trace.read("mean_hvp_norm") for trace in traces]  # [E, N] each
    errors = [standard_error(values) for values in per_epoch]
    over_all = np.concatenate(per_epoch)
    fitted = min(float(trace.read("correct")[-1].mean()) for trace in traces)

    unseen = {}
    if num_heldout:
        right = [trace.read("correct", "heldout").mean(1) for trace in traces]
        unseen["unseen"] = min(float(values.max()) for values in right)

    mean = agreement.mean_of(by_seed)
    norm = mean["curvature_norm"].to_numpy()
    agreements = agreement.of_scores(by_seed, reference, num_top)
    if regular is not None:  # how well do two references agree with each other?
        other = agreement.row(
            "1 - C-score", agreement.PUBLISHED, 1 - regular, reference, num_top
        )
        agreements = pd.concat(
            [agreements, agreement.table([other])], ignore_index=True
        )
    top = np.argsort(-reference, kind="stable")[:num_top]
    pixels = images.images[:]
    contrast = contrasts(pixels)
    extremes = disagreements(norm, standard_error(over_all), reference)
    positions = extremes.pop("position").to_numpy()
    extremes.insert(0, "index", images.index[positions])
    extremes.insert(1, "class", np.array(images.classes)[images.labels[positions]])
    extremes["contrast"] = contrast[positions]
    counts, edges = density(mean, reference)
    data = checksums(dataset) | {"released": checksum(reference)}
    if regular is not None:
        data["consistency"] = checksum(regular)
    return Measured(
        tables={
            "summary": summary(norm, errors, reference).assign(
                scored_epochs=len(traces[0].epochs), fitted=fitted, **unseen
            ),
            "agreement": agreements,
            "agreement-top": agreement.of_scores(
                {seed: frame.iloc[top] for seed, frame in by_seed.items()},
                reference[top],
                max(1, num_top // 10),
                mean_of_seeds=False,
            ),
            "agreement-consistency": with_consistency(
                mean, agreements, regular, num_top
            ),
            "spread": spread(norm, reference),
            "density": counts,
            "density-edges": edges,
            "bins": in_bins(mean, reference),
            "epochs": over_epochs(
                dict(zip(seeds, traces, strict=True)), reference, num_top
            ),
            "noise": noise(by_seed, agreements),
            "contrast": with_contrast(mean, reference, contrast, num_top),
            "disagreements": extremes,
            "images": pixels[positions],
        },
        data=data,
        runs=costs.of_runs(traces),
    )


def checksum(values: np.ndarray) -> str:
    """Sixteen digits that change with any of the released values, or their order."""
    return short_hash(values.astype(np.float64).tobytes())


def standard_error(values: np.ndarray) -> np.ndarray:
    """Standard error of the mean over the first axis, [E, N] to [N]."""
    return values.std(0, ddof=1) / len(values) ** 0.5


def summary(
    norm: np.ndarray, errors: list[np.ndarray], reference: np.ndarray
) -> pd.DataFrame:
    """Facts on the released scores and on how well a curvature is known; one row.

    Args:
        norm: Mean curvature of each image over epochs and runs, [N].
        errors: For each run the standard error of each image's mean over epochs, [N].
        reference: Released memorization, [N].

    Returns:
        Columns images, reference_mean, reference_none and reference_all (shares of
        images at most 0, and at least 1), epoch_error (mean standard error as a share
        of the mean curvature).
    """
    error = np.mean([values.mean() for values in errors])
    return pd.DataFrame(
        {
            "images": [len(reference)],
            "reference_mean": reference.mean(),
            "reference_none": (reference <= 0).mean(),
            "reference_all": (reference >= 1).mean(),
            "epoch_error": error / norm.mean(),
        }
    )


def with_consistency(
    mean: pd.DataFrame,
    agreements: pd.DataFrame,
    regular: np.ndarray | None,
    num_top: int,
) -> pd.DataFrame:
    """Agreement of each score, averaged over runs, with two references.

    Args:
        mean: Scores averaged over runs, N rows.
        agreements: Of the same scores with memorization.
        regular: C-scores, [N]; None where there are none, which leaves NaN.
        num_top: Length of the lists of highest values that are compared.

    Returns:
        Columns score, with_memorization and with_irregularity (1 - C-score; both
        Spearman), and top_overlap with the latter; the best agreement first.
    """
    averaged = agreements[agreements["kind"] == agreement.MEAN].set_index("score")
    rows = []
    for name in averaged.index:
        row = [name, averaged.loc[name, "spearman"], np.nan, np.nan]
        if regular is not None:
            values = mean[name].to_numpy()
            found = statistics.agreement(values, 1 - regular, num_top)
            row[2:] = found.spearman, found.top_overlap
        rows.append(row)
    columns = ["score", "with_memorization", "with_irregularity", "top_overlap"]
    found = pd.DataFrame(rows, columns=columns)
    return found.sort_values(
        "with_irregularity", ascending=False, kind="stable", ignore_index=True
    )


def spread(norm: np.ndarray, reference: np.ndarray) -> pd.DataFrame:
    """Histograms of memorization and of curvature, the latter in logarithmic bins.

    Args:
        norm: Curvature, [N]; zeros are left out.
        reference: Memorization, [N].

    Returns:
        Columns quantity (memorization or curvature), low and high (ends of the bin) and
        images.
    """
    positive = norm[norm > 0]
    spaced = np.geomspace(positive.min(), positive.max(), 41)
    parts = []
    for name, values, bins in (
        ("memorization", reference, 40),
        ("curvature", positive, spaced),
    ):
        counts, edges = np.histogram(values, bins)
        ends = {"low": edges[:-1], "high": edges[1:], "images": counts}
        parts.append(pd.DataFrame({"quantity": name, **ends}))
    return pd.concat(parts, ignore_index=True)


def density(
    mean: pd.DataFrame, reference: np.ndarray
) -> tuple[np.ndarray, pd.DataFrame]:
    """How many images have a rank of score and a memorization in each cell of a grid.

    Args:
        mean: Scores averaged over runs, N rows.
        reference: Memorization, [N].

    Returns:
        Counts, int32 [scores of ``DENSE``, cells of the rank, cells of memorization],
        and the edges of the cells: columns rank (0 lowest, 1 highest) and memorization.
    """
    edges = [
        np.linspace(low, high, NUM_CELLS + 1)
        for low, high in ((0, 1), (reference.min(), reference.max()))
    ]
    counts = [
        np.histogram2d(mean[name].rank(pct=True), reference, bins=edges)[0]
        for name in DENSE
    ]
    table = pd.DataFrame({"rank": edges[0], "memorization": edges[1]})
    return np.array(counts, dtype=np.int32), table


def in_bins(mean: pd.DataFrame, reference: np.ndarray) -> pd.DataFrame:
    """Mean memorization in twenty bins of equal size, by the rank of a score.

    Args:
        mean: Scores averaged over runs, N rows.
        reference: Memorization, [N].

    Returns:
        Columns score (of ``BINNED``), rank (of the middle of the bin, 0 lowest), mean,
        low and high (bootstrap interval of 95% of the mean), and sd over images.
    """
    count = len(reference)
    num_bins = min(20, count // 5)
    rng = np.random.default_rng(0)
    rows = []
    for name in BINNED:
        order = (mean[name].rank(method="first") - 1).to_numpy()
        place = order * num_bins // count
        for k in range(num_bins):
            values = reference[place == k]
            means = rng.choice(values, (500, len(values))).mean(1)
            low, high = np.quantile(means, [0.025, 0.975])
            middle = (k + 0.5) / num_bins
            rows.append([name, middle, values.mean(), low, high, values.std()])
    return pd.DataFrame(rows, columns=["score", "rank", "mean", "low", "high", "sd"])


def over_epochs(
    traces: Mapping[int, "Trace"], reference: np.ndarray, num_top: int
) -> pd.DataFrame:
    """Agreement of single epochs, and of the mean over all epochs so far.

    Args:
        traces: By seed.
        reference: Memorization, [N].
        num_top: Length of the lists of highest values that are compared.

    Returns:
        Columns seed, score (of ``FIELDS``), kind (``ALONE`` or ``SO_FAR``), epoch, and
        the four measures of ``statistics.Agreement``.
    """
    rows = []
    for seed, trace in traces.items():
        for name, field in FIELDS.items():
            values = trace.read(field).astype(np.float64)
            counts = np.arange(1, len(values) + 1)[:, None]
            so_far = np.cumsum(values, axis=0) / counts
            for kind, scored in ((ALONE, values), (SO_FAR, so_far)):
                for epoch, row in zip(trace.epochs, scored, strict=True):
                    found = statistics.agreement(row, reference, num_top)
                    rows.append([seed, name, kind, int(epoch), *found])
    columns = ["seed", "score", "kind", "epoch", *agreement.MEASURES]
    return pd.DataFrame(rows, columns=columns)


def by_epoch(epochs: pd.DataFrame) -> pd.DataFrame:
    """Mean and standard deviation over seeds of the agreement at each epoch.

    Args:
        epochs: Result of ``over_epochs``.

    Returns:
        Columns score, kind, epoch, mean and sd (of Spearman; sd 0 for one seed).
    """
    groups = epochs.groupby(["score", "kind", "epoch"], sort=False)["spearman"]
    found = groups.agg(mean="mean", sd="std").fillna({"sd": 0.0})
    return found.reset_index()


def noise(
    by_seed: Mapping[int, pd.DataFrame], agreements: pd.DataFrame
) -> pd.DataFrame:
    r"""How well a score would agree with memorization if runs did not differ.

    Spearman (1904): if what two runs do not share is noise, the mean of very many runs
    agrees at about :math:`\rho / \sqrt r`, with :math:`r` the agreement of two runs.

    Args:
        by_seed: Scores of each run, N rows each.
        agreements: Of these scores with memorization.

    Returns:
        Columns score, one_seed, between_seeds (NaN for one run), mean_of_seeds and
        without_noise, all Spearman correlations; the last is NaN unless two runs agree.
        The highest first.
    """
    averaged = agreements[agreements["kind"] == agreement.MEAN].set_index("score")
    rows = []
    for name in averaged.index.drop("random"):
        one = agreement.of(agreements, name, agreement.SEED)["spearman"].mean()
        pairs = [
            statistics.agreement(a[name].to_numpy(), b[name].to_numpy(), 1).spearman
            for a, b in combinations(by_seed.values(), 2)
        ]
        between = np.mean(pairs) if pairs else np.nan
        without = one / between**0.5 if between > 0 else np.nan
        rows.append([name, one, between, averaged.loc[name, "spearman"], without])
    names = ["score", "one_seed", "between_seeds", "mean_of_seeds", "without_noise"]
    return pd.DataFrame(rows, columns=names).sort_values(
        "without_noise", ascending=False, kind="stable", ignore_index=True
    )


def runs_to_reach(target: float, one_seed: float, between_seeds: float) -> float:
    r"""Runs to average until a score agrees with memorization at a target.

    By the rule of ``noise`` the mean of n runs agrees at
    :math:`\rho / \sqrt{r + (1 - r) / n}`.

    Args:
        target: Spearman correlation to reach.
        one_seed: That of one run, :math:`\rho`.
        between_seeds: That of two runs with each other, :math:`r`.

    Returns:
        Number of runs, not rounded, at least 1; NaN if no number reaches the target, or
        the agreement of two runs is not known.

    Example:
        >>> round(runs_to_reach(0.5, one_seed=0.4, between_seeds=0.4), 6)
        2.5
        >>> runs_to_reach(0.5, one_seed=0.6, between_seeds=0.4)
        1.0
    """
    if one_seed >= target:
        return 1.0
    spare = (one_seed / target) ** 2 - between_seeds
    return (1 - between_seeds) / spare if spare > 0 else np.nan


def beside_published(
    agreements: pd.DataFrame, among_top: pd.DataFrame, dataset: str
) -> pd.DataFrame:
    """Our cosine and Pearson correlation of each score beside the published ones.

    Args:
        agreements: Over all images.
        among_top: Over the most memorised.
        dataset: There are published values for cifar100 only.

    Returns:
        Columns score, and cosine_all, published_cosine_all, pearson_all, ..., the same
        with _top; means over seeds, NaN where there is none. One row for each score
        with a published value, and for those that know nothing.
    """
    known = published.agreement_with_memorization().set_index("score")
    if dataset != "cifar100":
        known = known.iloc[:0]
    of_runs = [agreement.SEED, agreement.NOTHING]
    found = {}
    for part, frame in (("all", agreements), ("top", among_top)):
        means = frame[frame["kind"].isin(of_runs)].groupby("score", sort=False)
        for measure in ("cosine", "pearson"):
            column = f"{measure}_{part}"
            found[column] = means[measure].mean()
            found[f"published_{column}"] = known[column]
    names = list(dict.fromkeys(agreements["score"]))
    table = pd.DataFrame(found).reindex(names).rename_axis("score").reset_index()
    compared = table.iloc[:, 2::2].notna().any(axis=1)
    return table[compared | table["score"].isin(["constant", agreement.SHUFFLED])]


def disagreements(
    norm: np.ndarray, error: np.ndarray, reference: np.ndarray
) -> pd.DataFrame:
    """Images whose ranks by curvature and by memorization lie furthest apart.

    Args:
        norm: Curvature, [N].
        error: Its standard error, [N].
        reference: Memorization, [N].

    Returns:
        ``NUM_EXTREMES`` rows with the highest rank of curvature over that of
        memorization, then as many the other way round, each furthest first: position,
        group (``curvature`` or ``memorization``, whichever is high), curvature,
        standard_error, curvature_rank, memorization and memorization_rank (ranks from 0
        lowest to 1 highest).
    """
    table = pd.DataFrame(
        {
            "position": np.arange(len(norm)),
            "curvature": norm,
            "standard_error": error,
            "curvature_rank": pd.Series(norm).rank(pct=True),
            "memorization": reference,
            "memorization_rank": pd.Series(reference).rank(pct=True),
        }
    )
    difference = table["curvature_rank"] - table["memorization_rank"]
    order = np.argsort(difference.to_numpy(), kind="stable")
    groups = {
        "curvature": order[::-1][:NUM_EXTREMES],
        "memorization": order[:NUM_EXTREMES],
    }
    parts = [table.iloc[rows].assign(group=name) for name, rows in groups.items()]
    return pd.concat(parts, ignore_index=True)


def contrasts(pixels: np.ndarray) -> np.ndarray:
    """Contrast of each image: standard deviation of its pixels, white being 1.

    Args:
        pixels: uint8 [N, ...].

    Returns:
        float64 [N].
    """
    return np.array([image.std() for image in pixels]) / 255


def with_contrast(
    mean: pd.DataFrame, reference: np.ndarray, contrast: np.ndarray, num_top: int
) -> pd.DataFrame:
    """How much of a score is the contrast of the image (Spearman correlations).

    Args:
        mean: Scores averaged over runs, N rows.
        reference: Memorization, [N].
        contrast: Of the images, [N].
        num_top: As for ``statistics.agreement``.

    Returns:
        Columns score (of ``BINNED``, then memorization itself), with_contrast,
        with_memorization, and times_contrast, of the score times contrast with
        memorization; NaN where that means nothing.
    """

    def spearman(a: np.ndarray, b: np.ndarray) -> float:
        return statistics.agreement(a, b, num_top).spearman

    rows = []
    for name in BINNED:
        values = mean[name].to_numpy()
        alone, times = (spearman(v, reference) for v in (values, values * contrast))
        rows.append([name, spearman(values, contrast), alone, times])
    rows.append(["memorization", spearman(reference, contrast), np.nan, np.nan])
    columns = ["score", "with_contrast", "with_memorization", "times_contrast"]
    return pd.DataFrame(rows, columns=columns)


def noise_in_words(noise: pd.DataFrame) -> pd.DataFrame:
    """Rows of the table of noise for readers, and the runs that a target takes.

    Args:
        noise: Result of the function of that name.

    Returns:
        The score that agrees best without noise, then cumulative loss, the two
        curvatures and the cumulative gradient, with the column runs, as
        ``runs_to_reach`` finds it for a Spearman correlation of 0.65.
    """
    rows = noise.set_index("score", drop=False)
    names = [rows.index[0], "cumulative_loss", "curvature_norm", "curvature_square"]
    rows = rows.loc[list(dict.fromkeys([*names, "cumulative_gradient"]))]
    known = zip(rows["one_seed"], rows["between_seeds"], strict=True)
    return rows.assign(runs=[runs_to_reach(TARGET, *pair) for pair in known])


def gap_to_loss(noise: pd.DataFrame) -> dict[str, float]:
    """How much better the cumulative loss agrees with memorization than curvature does.

    Args:
        noise: Result of the function of that name.

    Returns:
        Differences of Spearman correlations: one_seed, without_noise, and explained,
        the share of the former that noise explains (NaN without a gap, or with one
        seed).
    """
    by_name = noise.set_index("score")
    gaps = by_name.loc["cumulative_loss"] - by_name.loc["curvature_norm"]
    gap, left = float(gaps["one_seed"]), float(gaps["without_noise"])
    explained = (gap - left) / gap if gap > 0 else np.nan
    return {"one_seed": gap, "without_noise": left, "explained": explained}


def networks(shown: Mapping[str, Mapping[str, pd.DataFrame]]) -> pd.DataFrame:
    """How well the scores of each network agree with released memorization.

    Args:
        shown: By label of the network: tables as ``measure`` returns them.

    Returns:
        Indexed by label; Spearman correlations averaged over seeds: norm and loss (of
        the scores averaged over all epochs), epoch (of the norm at its best single
        epoch), seeds (how many), and unseen, as ``measure`` has it, NaN if unknown.
    """
    rows = {}
    for label, tables in shown.items():
        ranks = agreement.ranking(tables["agreement"])
        epochs = by_epoch(tables["epochs"])
        alone = (epochs["score"] == "curvature_norm") & (epochs["kind"] == ALONE)
        facts = tables["summary"].iloc[0]
        rows[label] = {
            "unseen": facts.get("unseen", np.nan),
            "seeds": tables["epochs"]["seed"].nunique(),
            "norm": ranks["curvature_norm"],
            "epoch": epochs.loc[alone, "mean"].max(),
            "loss": ranks["cumulative_loss"],
        }
    return pd.DataFrame(rows).T.astype({"seeds": int})


def beside(networks: pd.DataFrame, first: str, second: str = "") -> dict[str, str]:
    """One column of ``networks`` for each label, or two: "0.712 against 0.650"."""
    names = [name for name in (first, second) if name]
    return {
        label: " against ".join(f"{row[name]:.3f}" for name in names)
        for label, row in networks.iterrows()
    }


def above(one: float, other: float) -> bool | None:
    """Whether the first is higher; None if either is unknown."""
    return None if np.isnan([one, other]).any() else bool(one > other)


def numbers(tables: Mapping[str, pd.DataFrame]) -> dict[str, float | str]:
    """The numbers that the text of the page shows.

    Args:
        tables: Result of ``measure``.

    Returns:
        By name; whole numbers as texts with a comma for thousands.
    """
    facts, scored = tables["summary"].iloc[0], tables["agreement"]
    cosines = agreement.cosines(scored)
    ranking = agreement.ranking(scored, agreement.MEAN)
    bins = tables["bins"].query("score == 'curvature_norm'")
    groups = tables["disagreements"].groupby("group")
    whole = {
        "num_samples": facts["images"],
        "num_scored": facts["scored_epochs"],
        "num_seeds": len(agreement.of(scored, "curvature_norm", agreement.SEED)),
        "num_scores": len(ranking),
        "place": list(ranking.index).index("curvature_norm") + 1,
    }
    found = {name: f"{value:,.0f}" for name, value in whole.items()}
    found |= {name: float(facts[name]) for name in FACTS}
    for name in ("curvature", "memorization"):  # what is high in the group
        part = groups.get_group(name)
        found[f"{name}_only"] = part["memorization"].mean()
        found[f"{name}_contrast"] = part["contrast"].median()
    return found | {
        "norm_spearman": agreement.text(scored, "curvature_norm"),
        "square_spearman": agreement.text(scored, "curvature_square"),
        "loss_spearman": agreement.text(scored, "cumulative_loss"),
        "norm_cosine": agreement.text(scored, "curvature_norm", "cosine"),
        "constant_cosine": cosines["constant"],
        "shuffled_cosine": cosines[agreement.SHUFFLED],
        "bin_low": bins["mean"].iloc[0],
        "bin_high": bins["mean"].iloc[-1],
        "bin_sd": bins["sd"].mean(),
    }
