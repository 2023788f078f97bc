"""What a page about wrong labels shows, read off the tables of ``mislabelled``.

The *main* share of wrong labels is that of ``mislabelled.main_rate``. Nothing here
trains, and nothing needs torch or a data set.
"""

from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd

from curvlib.scores import SCORES
from curvlib.studies import detection, published, statistics
from curvlib.studies.mislabelled import SETS, main_rate

# These take no place of their own in a ranking: final_loss orders the samples as
# in_confidence_last does, and random is no score.
UNRANKED = ("random", "final_loss")
MEASURES = ("average_precision", "fpr_at_95_tpr", "false_negative_rate")
SHOWN = (  # rows of a short table
    "curvature_square",
    "curvature_norm",
    "curvature_last",
    "cumulative_loss",
    "aum",
    "confident_learning",
    "second_split_forgetting",
    "in_confidence_max_last",
    "random",
)
FOOLED = ("curvature_norm", "cumulative_loss", "aum", "confident_learning")
KINDS = {  # of noise, where the name alone does not tell
    "pair": "pair flip",
    "similar": "similar classes",
    "human_aggre": "human labels (majority)",
    "human_worse": "human labels (worst of three)",
    "human_noisy": "human labels",
}


def kind_of(noise: str, planted_duplicates: int = 0) -> str:
    """In which way labels are wrong, in words.

    Example:
        >>> kind_of("pair"), kind_of("human_worse"), kind_of("symmetric", 40)
        ('pair flip', 'human labels (worst of three)', 'planted duplicates')
    """
    if planted_duplicates:
        return "planted duplicates"
    return KINDS.get(noise, noise.replace("_", " "))


def at_main(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows of a table at the main noise rate, ``main_rate``."""
    rate = main_rate(frame["noise_rate"].unique().tolist())
    return frame[frame["noise_rate"] == rate]


def few(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of a table that are about the scores in ``SHOWN``.

    Args:
        table: With a column score.
    """
    return table[table["score"].isin(SHOWN)]


def ranked(found: pd.DataFrame) -> pd.Series:
    """Mean AUROC over seeds by score, the best first, without ``UNRANKED``.

    Args:
        found: Rows of ``metrics`` at one noise rate.
    """
    means = found.groupby("score", sort=False)["auroc"].mean()
    means = means.drop([name for name in UNRANKED if name in means])
    return means.sort_values(ascending=False)


def headline(found: pd.DataFrame) -> dict:
    """The numbers of the best score and of the paper's, for ``page.tell``.

    Args:
        found: The table ``metrics``.

    Returns:
        num_scores that are ranked; best, the label of the first, and auroc_best, mean ±
        standard deviation over seeds, as text; rank_square, the place of the paper's
        formula.
    """
    main = at_main(found)
    order = ranked(main)
    best = order.index[0]
    auroc = main.loc[main["score"] == best, "auroc"]
    return {
        "num_scores": len(order),
        "best": SCORES[best].label,
        "auroc_best": statistics.mean_sd(auroc),
        "rank_square": order.index.get_loc("curvature_square") + 1,
    }


def overall(records: Iterable[Mapping[str, pd.DataFrame]]) -> dict[str, float]:
    """The numbers that sum up several sets of labels, at the main share of each.

    Args:
        records: Each with the table ``metrics``.

    Returns:
        num_sets; loss_ahead, in how many of them the cumulative loss has a higher AUROC
        than curvature (square and norm); loss_low and loss_high, square_low and
        square_high, random_low and random_high, the lowest and highest mean AUROC.
    """
    means = pd.DataFrame(
        [at_main(r["metrics"]).groupby("score")["auroc"].mean() for r in records]
    )
    curvature = means[["curvature_square", "curvature_norm"]].max(axis=1)
    found = {
        "num_sets": len(means),
        "loss_ahead": int((means["cumulative_loss"] > curvature).sum()),
    }
    names = {
        "loss": "cumulative_loss",
        "square": "curvature_square",
        "random": "random",
    }
    for short, name in names.items():
        found[f"{short}_low"] = means[name].min()
        found[f"{short}_high"] = means[name].max()
    return found


def what_was_learned(fitted: pd.DataFrame) -> pd.DataFrame:
    """Means over seeds of what the networks learned, a row for each share.

    Args:
        fitted: The table of that name.

    Returns:
        Columns samples, ``wrong labels``, ``share wrong``, ``wrong labels learned``,
        ``other labels learned``, ``right on unseen``, ``wrong never forgotten``;
        shares in [0, 1].
    """
    columns = [
        "samples",
        "wrong labels",
        "share wrong",
        "wrong labels learned",
        "other labels learned",
        "right on unseen",
        "wrong never forgotten",
    ]
    means = fitted.groupby("noise_rate")[columns].mean().reset_index(drop=True)
    return means.round({"samples": 0, "wrong labels": 0}).astype(
        {"samples": int, "wrong labels": int}
    )


def by_share(found: pd.DataFrame, fitted: pd.DataFrame) -> pd.DataFrame:
    """AUROC of every score at every share of wrong labels, as text.

    Args:
        found: The table ``metrics``.
        fitted: The table of that name.

    Returns:
        score, then a column for each share, such as ``10%``: mean ± standard deviation
        over seeds, or NaN where a score was not run. The order is that of ``found`` at
        the main share, random last.
    """
    grouped = found.groupby(["score", "noise_rate"], sort=False)["auroc"]
    table = grouped.agg(statistics.mean_sd).unstack()
    shares = fitted.groupby("noise_rate")["share wrong"].mean()
    table.columns = [f"{100 * shares[rate]:.2g}%" for rate in table.columns]
    names = dict.fromkeys([*at_main(found)["score"], *found["score"]])
    return table.loc[sorted(names, key=lambda name: name == "random")].reset_index()


def for_checking(found: pd.DataFrame, cost: pd.DataFrame) -> pd.DataFrame:
    """What somebody asks who checks labels by hand, and what each score costs.

    Args:
        found: Rows of ``metrics`` at one noise rate, the first seed first.
        cost: The table of that name.

    Returns:
        Columns score; interval, 95% of the AUROC by bootstrap over the samples of the
        first seed; ``MEASURES``, mean ± standard deviation over seeds, as text;
        difference, of the AUROC to curvature_square within a seed, its mean and
        Student's 95% interval as text; trainings and seconds, of one run.
    """
    by_score = found.groupby("score", sort=False)
    table = by_score[list(MEASURES)].agg(statistics.mean_sd)
    first = found[found["seed"] == found["seed"].iloc[0]].set_index("score")
    change = detection.paired_difference(found, "curvature_square")
    table.insert(0, "interval", first.apply(_interval, axis=1))
    table["difference"] = change.apply(
        lambda row: f"{row['difference']:+.3f} ({_interval(row, '+.3f')})", axis=1
    )
    return table.join(cost.set_index("score")).reset_index()


def _interval(row: pd.Series, form: str = ".3f") -> str:
    if np.isnan(row["low"]):
        return "one seed"
    return f"{row['low']:{form}} to {row['high']:{form}}"


def leak(
    found: pd.DataFrame, leaked: pd.DataFrame, fitted: pd.DataFrame
) -> pd.DataFrame:
    """What scoring under the true labels changes, at the main share.

    Args:
        found: The table ``metrics``.
        leaked: The table of that name.
        fitted: The table of that name; tells which published values fit.

    Returns:
        Columns score; given, mean AUROC under the labels trained on; true, under the
        true labels; change; published (NaN where there is no value); nearer, whether
        the change leads nearer to the published value.
    """
    given, true = (
        at_main(frame).groupby("score", sort=False)["auroc"].mean()
        for frame in (found, leaked)
    )
    table = pd.DataFrame({"given": given.reindex(true.index), "true": true})
    table["change"] = table["true"] - table["given"]
    known = published_beside(at_main(found), fitted).set_index("score")["published"]
    table["published"] = known.reindex(table.index)
    gap = table[["given", "true"]].sub(table["published"], axis=0).abs()
    table["nearer"] = gap["true"] < gap["given"]
    return table.reset_index()


def moved(leak: pd.DataFrame) -> pd.DataFrame:
    """The scores that the slip moves: those that look at the label.

    Args:
        leak: Result of ``leak``.
    """
    return leak[(leak["change"].abs() > 1e-9) & (leak["score"] != "random")]


def gains(combined: pd.DataFrame) -> pd.DataFrame:
    """Change of AUROC when curvature joins cheaper scores.

    Args:
        combined: The table of that name.

    Returns:
        Columns scores (without curvature), how, seed and gain.
    """
    wide = combined.pivot(index=["how", "seed"], columns="scores", values="auroc")
    cheap = [name for name in SETS if f"{name} + curvature" in SETS]
    changes = {name: wide[f"{name} + curvature"] - wide[name] for name in cheap}
    frame = pd.concat(changes, names=["scores"]).rename("gain")
    return frame.reset_index()


def combinations(combined: pd.DataFrame, cost: pd.DataFrame) -> pd.DataFrame:
    """AUROC of each combination, mean ± standard deviation over seeds, and its cost.

    Args:
        combined: The table of that name.
        cost: The table of that name.

    Returns:
        scores, a column of text for each way to combine, and trainings, those of the
        dearest member.
    """
    grouped = combined.groupby(["scores", "how"], sort=False)["auroc"]
    table = grouped.agg(statistics.mean_sd).unstack().loc[list(SETS)]
    of_score = cost.set_index("score")["trainings"]
    table["trainings"] = [of_score[members].max() for members in SETS.values()]
    return table.reset_index()


def published_beside(found: pd.DataFrame, fitted: pd.DataFrame) -> pd.DataFrame:
    """Published AUROCs for replaced labels, and ours at the same noise rates.

    Args:
        found: The table ``metrics``.
        fitted: The table of that name; says what data and labels were measured.

    Returns:
        Columns score, noise_rate, published, ``published sd``, here, ``here sd``; no
        rows where nothing is published for these labels.
    """
    used = fitted.iloc[0]
    known = published.auroc_symmetric_noise()
    known = known[known["dataset"] == used["dataset"]]
    if used["planted_duplicates"] or used["noise"] != "symmetric":
        known = known[:0]
    ours = found.groupby(["score", "noise_rate"], sort=False)["auroc"]
    ours = ours.agg(["mean", "std"]).reset_index()
    both = known.merge(ours, on=["score", "noise_rate"])
    both = both.rename(
        columns={
            "auroc": "published",
            "sd": "published sd",
            "mean": "here",
            "std": "here sd",
        }
    )
    names = ["score", "noise_rate", "published", "published sd", "here", "here sd"]
    return both[names]


def planted_beside(planted: pd.DataFrame, fitted: pd.DataFrame) -> pd.DataFrame:
    """AUROC for planted duplicates counted both ways, beside published values.

    Args:
        planted: The table of that name.
        fitted: The table of that name.

    Returns:
        Columns score; ``both copies`` and ``only the wrong one``, mean ± standard
        deviation over seeds as text; published, for both copies (NaN where there is no
        value).
    """
    ways = ["both copies", "only the wrong one"]
    table = planted.groupby("score", sort=False)[ways].agg(statistics.mean_sd)
    known = published.auroc_planted_duplicates()
    known = known[known["dataset"] == fitted["dataset"].iloc[0]]
    table["published"] = known.set_index("score")["auroc"].reindex(table.index)
    return table.reset_index()


def largest_probability(
    kept: pd.DataFrame, copies: pd.DataFrame
) -> tuple[float, float]:
    """How sure the network of the first seed is at the end, of any class.

    Args:
        kept: The table ``scores.parquet``.
        copies: The table of that name.

    Returns:
        Mean largest probability of planted copies and their originals, and of all other
        samples.
    """
    seed = kept["seed"].iloc[0]
    first, planted = kept[kept["seed"] == seed], copies[copies["seed"] == seed]
    both = first["index"].isin([*planted["index"], *planted["source"]])
    largest = 1 - first["in_confidence_max_last"].astype(float)
    return largest[both].mean(), largest[~both].mean()


def all_numbers(tables: Mapping) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Every number of every score in one table: values to sort by, and texts to show.

    Args:
        tables: Tables of the record.

    Returns:
        Two frames of one shape, indexed by score: AUROC at each share; at the main one
        its interval, the other measures, AUROC with the leak, and cost; AUROC for
        planted duplicates counted both ways, where there are any.
    """
    found, fitted = tables["metrics"], tables["fitted"]
    texts = by_share(found, fitted).set_index("score").add_prefix("AUROC, ")
    rates = found["noise_rate"].unique()
    mean = found.groupby(["score", "noise_rate"], sort=False)["auroc"].mean().unstack()
    values = mean.loc[texts.index, rates].set_axis(texts.columns, axis=1)
    main = at_main(found)
    asked = for_checking(main, tables["cost"]).set_index("score")
    first = main[main["seed"] == main["seed"].iloc[0]].set_index("score")
    means = main.groupby("score", sort=False)[list(MEASURES)].mean()
    change = detection.paired_difference(main, "curvature_square")["difference"]
    slip = leak(found, tables["leaked"], fitted).set_index("score")
    true = at_main(tables["leaked"]).groupby("score", sort=False)["auroc"]
    columns = {
        "interval over samples": (first["low"], asked["interval"]),
        "average precision": (means[MEASURES[0]], asked[MEASURES[0]]),
        "FPR at 95% TPR": (means[MEASURES[1]], asked[MEASURES[1]]),
        "missed": (means[MEASURES[2]], asked[MEASURES[2]]),
        "minus curvature": (change, asked["difference"]),
        "AUROC with the leak": (true.mean(), true.agg(statistics.mean_sd)),
        "change by the leak": (slip["change"], slip["change"].map("{:+.3f}".format)),
        "trainings": (asked["trainings"], asked["trainings"].map("{:.2f}".format)),
        "seconds": (asked["seconds"], asked["seconds"].map("{:.0f}".format)),
    }
    if "planted" in tables:
        grouped = tables["planted"].groupby("score", sort=False)
        for way in ("both copies", "only the wrong one"):
            means, texts_of = grouped[way].mean(), grouped[way].agg(statistics.mean_sd)
            columns[f"AUROC, {way}"] = (means, texts_of)
    for name, (value, text) in columns.items():
        values[name], texts[name] = value, text
    return values, texts


def fooling(fooled: pd.DataFrame) -> tuple[pd.DataFrame, dict]:
    """What fools the scores in ``FOOLED``, and how a gallery shows it: a row per score.

    Args:
        fooled: The table of that name.

    Returns:
        The rows about these scores; and the captions, rows and columns of
        ``figures.gallery``.

    Example:
        >>> row = {"score": "aum", "kind": "false alarm", "rank": 90, "tied": 11}
        >>> fooling(pd.DataFrame([row, row | {"kind": "missed", "tied": 1}]))[1]["rows"]
        ['area under the margin (AUM): false alarm, then missed']
    """
    shown = fooled[fooled["score"].isin(FOOLED)]
    kinds = shown.groupby("score", sort=False)["kind"].unique()
    rows = [f"{SCORES[k].label}: {', then '.join(own)}" for k, own in kinds.items()]
    captions = [
        f"rank {row.rank:,}" + (f" ({row.tied:,} tie)" if row.tied > 1 else "")
        for row in shown.itertuples()
    ]
    columns = max(len(shown) // max(len(rows), 1), 1)
    return shown, {"captions": captions, "rows": rows, "columns": columns}


def published_by_share(table: pd.DataFrame) -> pd.DataFrame:
    """Published and our AUROCs side by side, as text.

    Args:
        table: Result of ``published_beside``.

    Returns:
        score, then for each noise rate a column ``published, 10%`` and a column
        ``here, 10%``: mean ± standard deviation, where it is known.
    """
    rows = table[["score"]].drop_duplicates().set_index("score")
    for rate, block in table.groupby("noise_rate"):
        block = block.set_index("score")
        for name, digits in (("published", 4), ("here", 3)):
            rows[f"{name}, {100 * rate:.2g}%"] = [
                _with_sd(block.loc[score, name], block.loc[score, f"{name} sd"], digits)
                for score in rows.index
            ]
    return rows.reset_index()


def _with_sd(mean: float, sd: float, digits: int) -> str:
    spread = "" if np.isnan(sd) else f" ± {sd:.{digits}f}"
    return f"{mean:.{digits}f}{spread}"
