"""Which images occur twice under different labels, and does curvature find them?

Duplicates are found by their pixels: exact ones by all of them, near ones by their
details. Then each score is asked where it ranks the images that occur twice under
different labels, and the trace is asked which of the two labels the network learns.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from curvlib.studies import Measured, checksums, config_of, statistics

if TYPE_CHECKING:
    from curvlib.data import Images
    from curvlib.data.duplicates import NearPairs
    from curvlib.trace import Trace

RECIPE = 1
PARTS = ("data", "networks", "training", "scoring")
EXACT, NEAR = "exact duplicates", "exact and near duplicates"
ASKED = ("any labels", "different labels")
LIST_SHARES = (500, 50, 10)  # lengths of the lists: N over each of these
NUM_PLACES = 40  # images whose places are kept
NUM_CURVES = 9  # pairs whose probabilities are kept, epoch by epoch
SPOKEN_OF = ("curvature_norm", "curvature_last", "cumulative_loss", "memorization")
SPOKEN_OF += ("random",)
FOUND = ["set", "score", "images", "median_place", "auroc", "top"]
FOUND += ["found", "expected", "p_value"]
WINS = ["seed", "first", "second", "first_class", "second_class", "p_first", "p_second"]
WINS += ["ahead", "turns", "first_ahead"]
CURVES = ["pair", "index", "class", "epoch", "probability"]
SHOWN = {"exact": 20, "at threshold": 12, "near": 24, "below": 12}  # pairs, in pixels


def measure(
    *,
    dataset: str = "digits",
    num_train: int | None = None,
    num_heldout: int = 0,
    planted_duplicates: int = 40,
    released: str | None = None,
    seeds: list[int] = [0, 1, 2],  # noqa: B006
    model: str = "slim_resnet",
    width: int = 16,
    epochs: int = 20,
    lr: float = 0.1,
    batch_size: int = 64,
    schedule: str = "cosine",
    weight_decay: float = 0.0,
    augment: bool = False,
    more_settings: dict | None = None,
    precision: str = "float32",
    num_probes: int = 2,
    step: float = 0.001,
    score_every: int = 1,
    wanted_precision: float = 0.95,
    runs: str = "runs",
) -> Measured:
    """Find duplicates, and where every score ranks those under different labels.

    Planted copies differ from seed to seed. Tables of single images are about the
    images of the first seed.

    Args: as in the notebook of this name.

    Returns:
        ``splits``: how many images there are. ``exact``: as ``exact_groups``.
        ``near-pairs``, ``near-below``, ``thresholds``, ``check``: as ``near_tables``.
        ``places``: as ``places``. ``enrichment``: as ``enrichment``, by seed.
        ``wrong-elsewhere``: images without a duplicate under another label that are
        classified wrong in the last scored epoch, by seed. ``wins``: as ``wins``, by
        seed. ``curves``: as ``curves``. ``shown`` and ``images``: split, index and
        pixels of the images of the figures.
    """
    asked = locals()
    # Imported here: a page is drawn without PyTorch.
    from curvlib import scores
    from curvlib.data.released import memorization
    from curvlib.runs import training
    from curvlib.studies import costs

    test = _test_split(dataset)
    samples, traces = [], []
    for seed in seeds:
        config = config_of(asked, seed=seed)
        images, heldout = training.prepare(config)
        samples.append(images)
        traces.append(training.fit(config, images, heldout, runs=runs))
    images = samples[0]
    exact = exact_groups(images, test)
    near = _near(images, test, traces[0], wanted_precision)
    frames = []
    for trace, of_seed in zip(traces, samples, strict=True):
        frame = scores.suspicion(scores.compute(trace))[list(scores.FROM_TRACE)]
        if released is not None:
            frame["memorization"] = memorization(released, of_seed)
        frames.append(frame)
    shown = shown_images(exact, near["near-pairs"], near["near-below"])
    sizes = [len(images), 0 if test is None else len(test)]
    counts = {"split": ["train", "test"], "images": sizes}
    by_run = list(zip(seeds, traces, samples, strict=True))
    return Measured(
        tables={
            "splits": pd.DataFrame(counts),
            "exact": exact,
            **near,
            **_ranks(
                by_run,
                frames,
                in_pairs(images.index, near["near-pairs"]),
                same_images=not planted_duplicates,
            ),
            "wins": pd.concat(
                [
                    wins(
                        trace.read("probability"),
                        of_seed,
                        conflict_pairs(of_seed),
                        seed,
                    )
                    for seed, trace, of_seed in by_run
                ],
                ignore_index=True,
            ),
            "curves": curves(traces[0], images, conflict_pairs(images)[:NUM_CURVES]),
            "shown": shown,
            "images": pixels_of(shown, images, test),
        },
        data=checksums(dataset),
        runs=costs.of_runs(traces),
    )


def _near(
    images: "Images", test: "Images | None", trace: "Trace", precision: float
) -> dict[str, pd.DataFrame]:
    """Near duplicates by pixels and by the network of a run, as ``near_tables``."""
    from curvlib.data import duplicates
    from curvlib.runs import training

    both = together(images, test)
    network = training.trained_model(trace)
    mean, std = trace.info["mean"], trace.info["std"]
    compared = {
        "pixels": duplicates.compare(both),
        "network": duplicates.compare(
            both, lambda x: duplicates.network_descriptors(network, x, mean, std)
        ),
    }
    found = {
        (space, asked): duplicates.near(
            one, precision=precision, across_labels=asked == "different labels"
        )
        for space, one in compared.items()
        for asked in ASKED
    }
    return near_tables(found, both, images, test)


def _ranks(
    by_run: Sequence[tuple[int, "Trace", "Images"]],
    frames: Sequence[pd.DataFrame],
    near: np.ndarray,
    *,
    same_images: bool,
) -> dict[str, pd.DataFrame]:
    """The tables places, enrichment and wrong-elsewhere.

    Args:
        by_run: Seed, trace and images of each run.
        frames: Of each run: one column for each score, high is suspect.
        near: Images of the first run in a near pair with different labels, bool [N].
        same_images: Whether all runs have the same images, so that their scores can be
            averaged. Otherwise each run is judged by itself.
    """
    exact = [conflict_mask(images) for _, _, images in by_run]
    _, first, images = by_run[0]
    if same_images:
        scored = sum(frames) / len(frames)
        sets = {EXACT: exact[0], NEAR: exact[0] | near}
        enriched = [enrichment(scored, sets).assign(seed="mean")]
        curvature = [trace.read("mean_hvp_norm") for _, trace, _ in by_run]
        exact = [exact[0] if exact[0].any() else near] * len(by_run)
    else:
        scored, curvature = frames[0], [first.read("mean_hvp_norm")]
        enriched = [
            enrichment(frame, {EXACT: mask}).assign(seed=str(seed))
            for (seed, _, _), frame, mask in zip(by_run, frames, exact, strict=True)
        ]
    return {
        "places": places(scored, images, exact[0], np.concatenate(curvature)),
        "enrichment": pd.concat(enriched, ignore_index=True),
        "wrong-elsewhere": pd.DataFrame(
            [
                {"seed": seed, "images": wrong_elsewhere(trace.read("correct"), mask)}
                for (seed, trace, _), mask in zip(by_run, exact, strict=True)
            ]
        ),
    }


# ------------------------------------------------------------------------ finding them


def class_names(images: "Images") -> np.ndarray:
    """Names of the classes as words, text [C]."""
    return np.array([name.replace("_", " ") for name in images.classes])


def _test_split(dataset: str) -> "Images | None":
    """The test split, None where the data set has none: it is only compared."""
    from curvlib import data

    try:
        return data.load(dataset, split="test")
    except (FileNotFoundError, ValueError):
        return None


def splits_of(images: "Images", test: "Images | None") -> "dict[str, Images]":
    """The splits that there are, by name."""
    return {"train": images} | ({} if test is None else {"test": test})


def exact_groups(images: "Images", test: "Images | None") -> pd.DataFrame:
    """All images with the same pixels as another one, within and between the splits.

    Args:
        images: The training set.
        test: The test set, of the same classes; None for none.

    Returns:
        One row for each image that has a duplicate: group, split (``"train"`` or
        ``"test"``), index, class. Groups are numbered in the order of their first
        image.
    """
    from curvlib.data import duplicates

    found = duplicates.exact(*splits_of(images, test).values())
    return pd.DataFrame(
        {
            "group": found["group"],
            "split": found["split"].map({0: "train", 1: "test"}),
            "index": found["index"],
            "class": class_names(images)[found["label"].to_numpy(int)],
        }
    )


def conflicts(exact: pd.DataFrame) -> pd.DataFrame:
    """Groups of training images with the same pixels and different labels.

    Args:
        exact: Result of ``exact_groups``.

    Returns:
        One row for each group: images (their indices, as one text) and labels (each
        once, as one text).
    """
    train = exact[exact["split"] == "train"]
    several = train.groupby("group")["class"].transform("nunique") > 1
    groups = train[several].groupby("group")
    return pd.DataFrame(
        {
            "images": groups["index"].agg(lambda index: ", ".join(map(str, index))),
            "labels": groups["class"].agg(
                lambda names: " / ".join(map(str, dict.fromkeys(names)))
            ),
        }
    ).reset_index(drop=True)


def conflict_mask(images: "Images") -> np.ndarray:
    """Images with the same pixels as one under another label, bool [N]."""
    from curvlib.data import duplicates

    found = duplicates.exact(images)
    return np.isin(images.index, found.loc[found["conflict"], "index"])


def conflict_pairs(images: "Images") -> list[tuple[int, int]]:
    """The first two images of each exact group, if their labels differ; positions."""
    from curvlib.data import duplicates

    position = pd.Series(np.arange(len(images)), index=images.index)
    found = duplicates.exact(images).groupby("group").head(2)
    pairs = [tuple(position[index]) for _, index in found.groupby("group")["index"]]
    return [(a, b) for a, b in pairs if images.labels[a] != images.labels[b]]


def together(images: "Images", test: "Images | None") -> "Images":
    """Both splits as one, the training set first; the index is the position."""
    from curvlib.data import duplicates

    return duplicates.joined(*splits_of(images, test).values())


def near_tables(
    near: Mapping[tuple[str, str], "NearPairs"],
    both: "Images",
    images: "Images",
    test: "Images | None",
) -> dict[str, pd.DataFrame]:
    """What was found by each space of descriptors, in words instead of positions.

    Args:
        near: Pairs by space and by what was asked for, one of ``ASKED``.
        both: Both splits, as ``together`` gives them.
        images: The training set.
        test: The test set.

    Returns:
        ``near-pairs``: one row for each pair above the threshold, the most alike first:
        similarity, conflict (whether labels differ), space, asked, exact, and split,
        index and class of the first and the second image. ``near-below``: the same, of
        pairs just below the threshold. ``thresholds``: space, asked, threshold (NaN if
        no similarity has the wanted precision). ``check``: space, asked, similarity,
        found, decoys and precision, as ``NearPairs.check``.
    """
    from curvlib.data import duplicates

    splits = splits_of(images, test)
    split = np.repeat(list(splits), [len(some) for some in splits.values()])
    index = np.concatenate([some.index for some in splits.values()])
    named = class_names(both)[both.labels]
    group = duplicates.exact(both).set_index("index")["group"]
    group = group.reindex(range(len(both))).to_numpy()  # NaN, equal to nothing

    def in_words(pairs: pd.DataFrame, space: str, asked: str) -> pd.DataFrame:
        first, second = pairs["first"].to_numpy(), pairs["second"].to_numpy()
        return pairs[["similarity", "conflict"]].assign(
            space=space,
            asked=asked,
            exact=group[first] == group[second],
            first_split=split[first],
            second_split=split[second],
            first_index=index[first],
            second_index=index[second],
            first_class=named[first],
            second_class=named[second],
        )

    def one_table(tables: list[pd.DataFrame]) -> pd.DataFrame:
        return pd.concat(tables, ignore_index=True)

    return {
        "near-pairs": one_table([in_words(f.pairs, *key) for key, f in near.items()]),
        "near-below": one_table(
            [in_words(f.runners_up, *key) for key, f in near.items()]
        ),
        "thresholds": pd.DataFrame(
            [
                {"space": space, "asked": asked, "threshold": found.threshold}
                for (space, asked), found in near.items()
            ]
        ),
        "check": one_table(
            [
                found.check.assign(space=space, asked=asked)
                for (space, asked), found in near.items()
            ]
        ),
    }


def each_once(pairs: pd.DataFrame, asked: str) -> pd.DataFrame:
    """Pairs that either space found, each once, the most alike first.

    Args:
        pairs: The table ``near-pairs``.
        asked: One of ``ASKED``.
    """
    chosen = pairs[pairs["asked"] == asked].reset_index(drop=True)
    sides = ["first_split", "first_index", "second_split", "second_index"]
    # Training images first, as in the positions that pairs were found by.
    rank = {"train": 0, "test": 1}
    ranked = chosen.assign(**{s: chosen[s].map(rank) for s in sides[::2]}).sort_values(
        ["similarity", *sides], ascending=[False] + [True] * 4, kind="stable"
    )
    kept = ranked.drop_duplicates(sides).index
    return chosen.loc[kept].reset_index(drop=True)


def within(pairs: pd.DataFrame, first: str, second: str) -> pd.DataFrame:
    """Pairs of an image of one split and an image of another, or the same, split."""
    sides = (pairs["first_split"] == first) & (pairs["second_split"] == second)
    return pairs[sides]


def in_pairs(index: np.ndarray, pairs: pd.DataFrame) -> np.ndarray:
    """Training images of the pairs with different labels, bool [N].

    Args:
        index: Index of the training images, shape [N].
        pairs: The table ``near-pairs``.
    """
    found = within(each_once(pairs, "different labels"), "train", "train")
    return np.isin(index, found[["first_index", "second_index"]].to_numpy())


def near_summary(pairs: pd.DataFrame, thresholds: pd.DataFrame) -> pd.DataFrame:
    """Pairs above each threshold, counted by where their images are.

    Args:
        pairs: The table ``near-pairs``.
        thresholds: The table of that name.

    Returns:
        One row for each threshold: space, asked, threshold, pairs, and the numbers of
        pairs ``within train``, between ``train and test`` and ``within test``.
    """
    rows = []
    for row in thresholds.itertuples():
        found = pairs[(pairs["space"] == row.space) & (pairs["asked"] == row.asked)]
        rows.append(
            {
                "space": row.space,
                "asked": row.asked,
                "threshold": row.threshold,
                "pairs": len(found),
                "within train": len(within(found, "train", "train")),
                "train and test": len(within(found, "train", "test")),
                "within test": len(within(found, "test", "test")),
            }
        )
    return pd.DataFrame(rows)


# ------------------------------------------------------------------- where scores rank


def share_below(scored: pd.DataFrame) -> pd.DataFrame:
    """Place of each image in the ranking of each score: the share of images below it.

    Args:
        scored: One row for each image, one column for each score, high is suspect.

    Returns:
        The same form, in [0, 1]; 1 is the top, and equal scores share a place.
    """
    return (scored.rank() - 1) / (len(scored) - 1)


def places(
    scored: pd.DataFrame,
    images: "Images",
    positive: np.ndarray,
    curvature: np.ndarray,
) -> pd.DataFrame:
    """Places of some images in every ranking, the highest curvature (norm) first.

    Args:
        scored: One row for each image, one column for each score, high is suspect.
        images: N images.
        positive: Those that are listed, bool [N]; the first ``NUM_PLACES`` are kept.
        curvature: Mean norm of Hv at each scored epoch (of all runs), shape [E, N].

    Returns:
        Columns index, class, curvature_norm (mean over epochs), standard_error (over
        epochs), and ``place_<score>``, as ``share_below``.
    """
    placed = share_below(scored)
    rows = np.flatnonzero(positive)
    order = np.argsort(-placed["curvature_norm"].to_numpy()[rows], kind="stable")
    rows = rows[order][:NUM_PLACES]
    error = curvature.std(0, ddof=1) / len(curvature) ** 0.5
    return pd.DataFrame(
        {
            "index": images.index[rows],
            "class": class_names(images)[images.labels[rows]],
            "curvature_norm": scored["curvature_norm"].to_numpy()[rows],
            "standard_error": error[rows],
        }
    ).join(placed.iloc[rows].reset_index(drop=True).add_prefix("place_"))


def enrichment(scored: pd.DataFrame, sets: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """How many of some images each score puts into its list of the k highest.

    Args:
        scored: One row for each image, one column for each score, high is suspect.
        sets: Images to look for, bool [N], by name; an empty set is left out.

    Returns:
        One row for each set, score and length of the list: set, score, images (in the
        set), median_place (as ``share_below``), auroc, top (k), found, expected and
        p_value (as ``curvlib.statistics.enrichment``).
    """
    from curvlib import metrics

    lengths = [max(1, len(scored) // share) for share in LIST_SHARES]
    placed = share_below(scored)
    rows = []
    for name, mask in sets.items():
        for score in scored if mask.any() else ():
            values = scored[score].to_numpy()
            shared = {
                "set": name,
                "score": score,
                "images": int(mask.sum()),
                "median_place": float(placed[score][mask].median()),
                "auroc": metrics.auroc(values, mask),
            }
            rows += [
                shared | {"top": k, **statistics.enrichment(values, mask, k)._asdict()}
                for k in lengths
            ]
    return pd.DataFrame(rows, columns=FOUND)


def by_score(enriched: pd.DataFrame) -> pd.DataFrame:
    """Means over seeds of the table ``enrichment``, for one set and one length.

    The set is that of exact duplicates, or if there are none of exact and near ones.
    The list is the shortest that has room for the whole set.

    Args:
        enriched: The table ``enrichment``.

    Returns:
        One row for each score, the highest median place first: the columns of the
        table but seed.
    """
    name = EXACT if (enriched["set"] == EXACT).any() else NEAR
    chosen = enriched[enriched["set"] == name].drop(columns="seed")
    if not len(chosen):
        return chosen
    means = chosen.groupby(["set", "score", "top"], sort=False).mean().reset_index()
    room = means.loc[means["top"] >= means["images"], "top"]
    top = room.min() if len(room) else means["top"].max()
    return means[means["top"] == top].sort_values(
        "median_place", ascending=False, kind="stable", ignore_index=True
    )


def main_rows(scored: pd.DataFrame) -> pd.DataFrame:
    """The three best scores, those that the page speaks of, and the random one.

    Args:
        scored: Result of ``by_score``.
    """
    named = {*scored["score"].head(3), *SPOKEN_OF}
    return scored[scored["score"].isin(named)]


def finds_fewer(scored: pd.DataFrame, score: str, *, share: float = 1.0) -> bool | None:
    """Whether a score finds fewer of the images than curvature (norm) does.

    Args:
        scored: Result of ``by_score``, with the scores as index.
        score: The other score.
        share: Fewer than this share of what curvature finds.

    Returns:
        None if one of the two was not measured, or there was nothing to find.
    """
    if not {score, "curvature_norm"} <= set(scored.index):
        return None
    return bool(scored["found"][score] < share * scored["found"]["curvature_norm"])


def found_by(scored: pd.DataFrame, *names: str) -> str:
    """How many of the images some scores find, as text, if they were measured.

    Args:
        scored: Result of ``by_score``, with the scores as index.
        *names: Of scores.
    """
    known = scored.loc[[name for name in names if name in scored.index]]
    return "; ".join(
        f"{row['found']:.0f} of {row['images']:.0f} among the {row['top']:,.0f} "
        f"highest, {row['expected']:.2g} by chance"
        for name, row in known.iterrows()
    )


def wrong_elsewhere(correct: np.ndarray, positive: np.ndarray) -> int:
    """Images outside a set that are classified wrong in the last scored epoch.

    Args:
        correct: Shape [E, N], bool or 0 and 1.
        positive: The set, bool [N].
    """
    return int((~correct[-1].astype(bool) & ~positive).sum())


# -------------------------------------------------------------------- which label wins


def wins(
    probability: np.ndarray,
    images: "Images",
    pairs: Sequence[tuple[int, int]],
    seed: int,
) -> pd.DataFrame:
    """Which of two labels a network believes, and how often it changes its mind.

    Args:
        probability: Probability of each image's label at each scored epoch, [E, N].
        images: N images.
        pairs: Positions of two images with the same pixels and different labels.
        seed: Seed of the run.

    Returns:
        One row for each pair: seed, first, second (indices), first_class, second_class,
        p_first, p_second (at the end), ahead (the class that is ahead at the end),
        turns (how often the lead changes) and first_ahead (whether the first image's
        label is ahead at the end).
    """
    names = class_names(images)[images.labels]
    rows = []
    for a, b in pairs:
        lead = probability[:, a] - probability[:, b]
        rows.append(
            {
                "seed": seed,
                "first": images.index[a],
                "second": images.index[b],
                "first_class": names[a],
                "second_class": names[b],
                "p_first": probability[-1, a],
                "p_second": probability[-1, b],
                "ahead": names[a if lead[-1] > 0 else b],
                "turns": int((np.diff(np.sign(lead)) != 0).sum()),
                "first_ahead": bool(lead[-1] > 0),
            }
        )
    return pd.DataFrame(rows, columns=WINS)


def learned(won: pd.DataFrame) -> pd.DataFrame:
    """What the table ``wins`` says of all pairs and runs, in one row.

    Args:
        won: The table; it may be empty.

    Returns:
        Columns pairs; stronger and together, the medians of the probability of the
        label that is ahead at the end, and of both labels; turns, the mean for one run
        (NaN if there is no pair); first_ahead, how often the label of the first image
        is ahead; and same, the pairs for which one class is ahead in all runs.
    """
    ends = won[["p_first", "p_second"]].astype(float)
    winners = won.groupby(["first", "second"])["ahead"].nunique()
    return pd.DataFrame(
        {
            "pairs": [len(winners)],
            "stronger": [ends.max(axis=1).median()],
            "together": [ends.sum(axis=1).median()],
            "turns": [won["turns"].astype(float).mean()],
            "first_ahead": [int(won["first_ahead"].astype(bool).sum())],
            "same": [int((winners == 1).sum())],
        }
    )


def curves(
    trace: "Trace", images: "Images", pairs: Sequence[tuple[int, int]]
) -> pd.DataFrame:
    """Probability of each image's own label, epoch by epoch, for some pairs.

    Args:
        trace: Trace of the run.
        images: Those it was trained on.
        pairs: Positions of two images.

    Returns:
        Columns pair (its number), index, class, epoch, probability.
    """
    probability = trace.read("probability")
    names = class_names(images)[images.labels]
    parts = [
        pd.DataFrame(
            {
                "pair": number,
                "index": images.index[position],
                "class": names[position],
                "epoch": trace.epochs,
                "probability": probability[:, position],
            }
        )
        for number, pair in enumerate(pairs)
        for position in pair
    ]
    return (
        pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=CURVES)
    )


# ------------------------------------------------------------------ what the page shows


def exact_pairs(exact: pd.DataFrame) -> pd.DataFrame:
    """The first two images of each group with different labels, a row for each image.

    Args:
        exact: The table of that name.

    Returns:
        Rows of the table, two for each of the first ``SHOWN["exact"]`` groups.
    """
    train = exact[exact["split"] == "train"]
    several = train.groupby("group")["class"].transform("nunique") > 1
    return train[several].groupby("group").head(2).head(2 * SHOWN["exact"])


def at_threshold(pairs: pd.DataFrame, below: pd.DataFrame) -> pd.DataFrame:
    """The last pairs above the threshold and the first below it, found by pixels.

    Args:
        pairs: The table ``near-pairs``.
        below: The table ``near-below``.

    Returns:
        Rows of both tables, with a column above.
    """
    last, first = (
        table[(table["space"] == "pixels") & (table["asked"] == "any labels")]
        for table in (pairs, below)
    )
    count = SHOWN["at threshold"]
    return _above_and_below(last.tail(count), first.head(count // 3))


def near_conflicts(pairs: pd.DataFrame, below: pd.DataFrame) -> pd.DataFrame:
    """Training images that are nearly the same and have different labels, in pairs.

    Args:
        pairs: The table ``near-pairs``.
        below: The table ``near-below``.

    Returns:
        Rows of both tables, with a column above: pairs above the threshold that are not
        exact, and then those that come closest to it by pixels.
    """
    above = within(each_once(pairs, "different labels"), "train", "train")
    above = above[~above["exact"].astype(bool)]
    closest = below[
        (below["space"] == "pixels") & (below["asked"] == "different labels")
    ]
    closest = within(closest, "train", "train")
    return _above_and_below(above.head(SHOWN["near"]), closest.head(SHOWN["below"]))


def _above_and_below(above: pd.DataFrame, below: pd.DataFrame) -> pd.DataFrame:
    parts = [above.assign(above=True), below.assign(above=False)]
    return pd.concat([p for p in parts if len(p)] or parts[:1], ignore_index=True)


def as_images(pairs: pd.DataFrame) -> pd.DataFrame:
    """Two rows for each pair, one for each image, in their order.

    Args:
        pairs: The table ``near-pairs``, with a column above.

    Returns:
        Columns split, index, class, similarity, above.
    """
    sides = [
        pd.DataFrame(
            {
                "split": pairs[f"{side}_split"],
                "index": pairs[f"{side}_index"],
                "class": pairs[f"{side}_class"],
                "similarity": pairs["similarity"],
                "above": pairs["above"],
            }
        )
        for side in ("first", "second")
    ]
    return pd.concat(sides).sort_index(kind="stable").reset_index(drop=True)


def shown_images(
    exact: pd.DataFrame, pairs: pd.DataFrame, below: pd.DataFrame
) -> pd.DataFrame:
    """Split and index of all images of the figures, each once."""
    parts = [
        exact_pairs(exact),
        as_images(at_threshold(pairs, below)),
        as_images(near_conflicts(pairs, below)),
    ]
    shown = pd.concat([part[["split", "index"]] for part in parts])
    return shown.drop_duplicates().reset_index(drop=True)


def pixels_of(
    shown: pd.DataFrame, images: "Images", test: "Images | None"
) -> np.ndarray:
    """Pixels of some images of both splits, uint8 [n, H, W, C].

    Args:
        shown: Their split and index.
        images: The training set.
        test: The test set.
    """
    found = np.zeros((len(shown), *images.images.shape[1:]), np.uint8)
    for name, split in splits_of(images, test).items():
        rows = np.flatnonzero(shown["split"] == name)
        position = pd.Series(np.arange(len(split)), index=split.index)
        found[rows] = split.images[position[shown["index"].iloc[rows]].to_numpy(int)]
    return found


def numbers(tables: Mapping[str, pd.DataFrame], made: Any) -> dict[str, Any]:
    """The numbers of the page's text, by name.

    Args:
        tables: What ``measure`` returned, or a record of it.
        made: The parameters of the measurement, as attributes.

    Returns:
        Counts of images, of exact groups and of near pairs; and how many of the images
        under different labels curvature (norm) finds, as ``by_score`` has it: twins
        (the set), num_twins, top (length of the list), found, expected.
    """
    exact, pairs = tables["exact"], tables["near-pairs"]
    images = tables["splits"].set_index("split")["images"]
    groups = exact.groupby("group")
    in_train = (exact["split"] == "train").groupby(exact["group"]).sum()
    across = groups["split"].nunique() > 1
    everything = each_once(pairs, "any labels")
    crossing = within(everything, "train", "test")
    conflicting = within(each_once(pairs, "different labels"), "train", "train")
    found = by_score(tables["enrichment"]).set_index("score")
    top = max(1, int(images["train"]) // LIST_SHARES[0])
    nothing = {"set": NEAR, "images": 0, "top": top, "found": 0, "expected": 0.0}
    curvature = found.loc["curvature_norm"] if len(found) else nothing
    scored = {e for e in range(1, made.epochs + 1) if e % made.score_every == 0}
    averaged = 1 if made.planted_duplicates else len(made.seeds)
    return {
        "num_images": int(images["train"]),
        "num_test": int(images["test"]),
        "num_planted": made.planted_duplicates,
        "num_within": int((in_train > 1).sum()),
        "num_conflicts": len(conflicts(exact)),
        "num_across": int(across.sum()),
        "num_across_conflicts": int((groups["class"].nunique()[across] > 1).sum()),
        "wanted": made.wanted_precision,
        "near_train": len(within(everything, "train", "train")),
        "near_across": len(crossing),
        "near_test_share": crossing["second_index"].nunique()
        / max(1, int(images["test"])),
        "near_conflicts": len(conflicting),
        "near_not_exact": int((~conflicting["exact"].astype(bool)).sum()),
        "num_measured": averaged * len(scored | {made.epochs}),
        "twins": curvature["set"],
        "num_twins": curvature["images"],
        "top": int(curvature["top"]),
        "found": curvature["found"],
        "expected": curvature["expected"],
        "wrong_elsewhere": tables["wrong-elsewhere"]["images"].mean(),
    }


# ------------------------------------------------------------- several data sets

COUNTED = {  # of ``numbers``, in words
    "num_images": "training images",
    "num_within": "groups with the same pixels",
    "num_conflicts": "under different labels",
    "num_across": "groups in both splits",
    "num_planted": "planted copies",
    "near_not_exact": "near pairs under different labels",
    "wrong_elsewhere": "other images wrong at the end",
}


def most_conflicts(numbers: Mapping[str, Mapping]) -> str:
    """The data set whose own images conflict most often, planted copies left aside.

    Args:
        numbers: What ``numbers`` returns, by label.

    Returns:
        Its label; the first one if none has conflicts of its own.

    Example:
        >>> planted = {"num_planted": 5, "num_conflicts": 5}
        >>> own = {"num_planted": 0, "num_conflicts": 2}
        >>> most_conflicts({"digits": planted, "CIFAR-100": own})
        'CIFAR-100'
    """
    own = {
        label: 0 if found["num_planted"] else found["num_conflicts"]
        for label, found in numbers.items()
    }
    return max(own, key=own.get)


def counted(numbers: Mapping[str, Mapping]) -> pd.DataFrame:
    """What was found in each data set.

    Args:
        numbers: What ``numbers`` returns, by label.

    Returns:
        Column data set, and one for each value of ``COUNTED``, as texts.
    """
    rows = [
        {"data set": label}
        | {words: f"{found[key]:,.0f}" for key, words in COUNTED.items()}
        for label, found in numbers.items()
    ]
    return pd.DataFrame(rows)


def above_chance(scored: pd.DataFrame, score: str = "curvature_norm") -> bool | None:
    """Whether a score finds more of the images than a random list (p < 0.001).

    Args:
        scored: Result of ``by_score``, with the scores as index.
        score: Name of the score.

    Returns:
        None if there was nothing to find.
    """
    p_value = scored["p_value"].get(score)
    return None if p_value is None else bool(p_value < 0.001)


def lowest_rank(places: pd.DataFrame, splits: pd.DataFrame) -> int | None:
    """Rank by curvature (norm) of the last of the images with two labels; 1 is first.

    Args:
        places: As ``places`` returns it.
        splits: Columns split and images.

    Returns:
        None without such images, or with more of them than ``places`` keeps.
    """
    if not 0 < len(places) < NUM_PLACES:
        return None
    total = splits.set_index("split").loc["train", "images"]
    return round((1 - places["place_curvature_norm"].min()) * (total - 1)) + 1


def won(records: Mapping[str, Mapping]) -> pd.DataFrame:
    """Which label is ahead, in each data set.

    Args:
        records: Records of this study, by label.

    Returns:
        Column data set and those of ``learned``; data sets without pairs left out.
    """
    rows = {label: learned(record["wins"]) for label, record in records.items()}
    parts = [
        found.assign(**{"data set": label})
        for label, found in rows.items()
        if found["pairs"].iloc[0]
    ]
    if not parts:
        return pd.DataFrame({"data set": list(records), "pairs": 0})
    table = pd.concat(parts, ignore_index=True)
    return table[["data set", *table.columns.drop("data set")]]
