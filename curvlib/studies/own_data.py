"""Which labels of a labelled folder are wrong, and what does it cost to find them?

The ranking of `curvlib suspects`, kept as tables with small pictures. Where the truth
is known, the pictures show what was found, what was missed, and what a person would
have checked for nothing.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from curvlib.studies import Measured, calibration, checksums, compact

RECIPE = 1
PARTS = (
    "data",
    "features",
    "head",
    "scoring",
    "studies.suspects",
    "studies.counting",
    "studies.calibration",
)
SIDE = 64  # pixels of a small picture, at most
IMAGENET10 = {  # folders of the ten classes, and what they hold
    "n01440764": "tench",
    "n02102040": "English springer",
    "n02979186": "cassette player",
    "n03000684": "chain saw",
    "n03028079": "church",
    "n03394916": "French horn",
    "n03417042": "garbage truck",
    "n03425413": "gas pump",
    "n03445777": "golf ball",
    "n03888257": "parachute",
}
ROLES = {
    "suspect": "the most suspicious",
    "missed": "wrong labels that are not among the suspects",
    "needless": "right labels among the suspects",
}


def measure(
    *,
    dataset: str = "digits",
    num_train: int | None = None,
    image_size: int | None = None,
    features: str = "lite0",
    size: int | None = None,
    noise: str | None = None,
    noise_rate: float = 0.03,
    seed: int = 0,
    plant: float = 0.02,
    num_planted: int = 400,
    num_shown: int = 20,
    runs: str = "runs",
) -> Measured:
    """Rank a data set's labels by suspicion, and compare with the truth if it is known.

    Args: as in the notebook of this name.

    Returns:
        ``suspects.parquet``: a row for each sample: index, label, original_label,
        suggested, suggested_probability, out_of_fold_probability, consensus, rank,
        rank_in_class. ``curve``: the estimate of the precision at each rank, with its
        interval, and the truth where it is known. ``counts``: one row: samples,
        classes, known (whether the truth is), wrong (NaN if unknown), estimate, low,
        high, confident, planted, hard_share, epochs, extractor, feature_seconds.
        ``classes``: their names. ``shown`` (index, role, path) and ``images``: pictures
        of the samples that a page shows.
    """
    asked = locals()
    from curvlib.studies import corrections, suspects, wrong_label_cases

    case = wrong_label_cases.of_study(asked)
    found, table = calibration.estimated(
        case.vectors, plant=plant, num_planted=num_planted, seed=seed, runs=runs
    )
    wrong = case.images.mislabelled if case.known else None
    curve = found.curve
    if wrong is not None:
        curve = calibration.with_truth(curve, table["rank"].to_numpy(), wrong)
    looked = int(wrong.sum()) if case.known else round(found.wrong)
    shown = chosen(table, wrong, looked=max(looked, 1), count=num_shown)
    place = {int(index): row for row, index in enumerate(case.images.index)}
    rows = np.array([place[i] for i in shown["index"]])
    paths = corrections.paths_of(case.images)
    shown["path"] = "" if paths is None else [paths[row] for row in rows]
    counts = {
        "samples": len(table),
        "classes": len(np.unique(case.images.labels)),
        "known": case.known,
        "wrong": int(wrong.sum()) if case.known else np.nan,
        **calibration.numbers_of(found),
        "looked": looked,
        "extractor": case.features.name,
        "pixels": case.features.size or np.nan,
        "feature_seconds": case.features.seconds,
    }
    columns = ["index", "label", "original_label", "suggested", "rank", "rank_in_class"]
    columns += ["suggested_probability", "out_of_fold_probability", "consensus"]
    return Measured(
        tables={
            "suspects.parquet": compact(table[columns].sort_values("rank")),
            "curve": curve,
            "counts": pd.DataFrame([counts]),
            "classes": pd.DataFrame({"class": case.images.classes}),
            "shown": shown,
            "images": suspects.small(case.images.images[rows], SIDE),
        },
        data=checksums(dataset, image_size=image_size, broken_files="skip"),
    )


def chosen(
    table: pd.DataFrame, wrong: np.ndarray | None, *, looked: int, count: int
) -> pd.DataFrame:
    """Which samples a page shows, and why.

    Args:
        table: As ``suspects.rank`` makes it.
        wrong: The truth, bool [N]; None if unknown.
        looked: How many suspects a person would look at.
        count: Samples of each role, at most.

    Returns:
        Columns index and role (of ``ROLES``), in the order in which they are shown.
    """
    rank, index = table["rank"].to_numpy(), table["index"].to_numpy()
    order = np.argsort(rank)
    roles = {"suspect": order[:count]}
    if wrong is not None:
        roles["missed"] = order[looked:][wrong[order[looked:]]][::-1][:count]
        roles["needless"] = order[:looked][~wrong[order[:looked]]][:count]
    rows = [(int(index[i]), role) for role, some in roles.items() for i in some]
    return pd.DataFrame(rows, columns=["index", "role"])


# ----------------------------------------------------------------- what the page says


def class_names(classes: pd.DataFrame) -> np.ndarray:
    """Names of the classes for readers, [C].

    Args:
        classes: A record's table.
    """
    names = classes["class"].astype(str)
    return names.map(lambda name: IMAGENET10.get(name, name)).to_numpy()


def found_and_missed(
    suspects: pd.DataFrame, counts: pd.DataFrame, lists=(0.5, 1.0, 2.0)
) -> pd.DataFrame:
    """What a person finds who looks at the first suspects, where the truth is known.

    Args:
        suspects: A record's table.
        counts: Likewise.
        lists: Lengths of the list, as shares of the number of wrong labels.

    Returns:
        One row for each length: images looked at, wrong labels found, missed, right
        labels checked for nothing, precision, and the share of the wrong labels found.
    """
    in_order = suspects.sort_values("rank")
    wrong = (in_order["label"] != in_order["original_label"]).to_numpy()
    total = int(counts["wrong"].iloc[0])
    rows = []
    for share in lists:
        k = min(max(round(share * total), 1), len(wrong))
        hits = int(wrong[:k].sum())
        rows.append(
            {
                "looked at": k,
                "found": hits,
                "missed": total - hits,
                "checked for nothing": k - hits,
                "precision": hits / k,
                "share found": hits / total,
            }
        )
    return pd.DataFrame(rows)


def shares_found(known: Mapping[str, Mapping]) -> tuple[str, str]:
    """Lowest and highest share of the wrong labels that as many suspects hold.

    Args:
        known: Records whose truth is known, by label.

    Returns:
        Two texts; dashes if there is no such record.
    """
    shares = [
        found_and_missed(r["suspects.parquet"], r["counts"], [1.0])["share found"][0]
        for r in known.values()
    ]
    if not shares:
        return "–", "–"
    return f"{min(shares):.0%}", f"{max(shares):.0%}"


def pairs(
    suspects: pd.DataFrame, classes: Sequence[str], looked: int, count: int = 6
) -> pd.DataFrame:
    """Pairs of classes that suspects are confused between: given, suggested, how many.

    Args:
        suspects: A record's table.
        classes: Names.
        looked: How many suspects are counted.
        count: Rows, at most.
    """
    first = suspects.sort_values("rank").head(looked)
    named = pd.DataFrame(
        {
            "given": [classes[c] for c in first["label"]],
            "suggested": [classes[c] for c in first["suggested"]],
        }
    )
    sizes = named.value_counts().rename("suspects").reset_index()
    return sizes.head(count)
