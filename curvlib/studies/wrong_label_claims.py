"""Which claims about wrong labels hold, judged on the tables of several records.

A *setting* is one data set, kind of wrong labels and share of them. Within a setting a
claim about two scores is judged by their difference seed by seed: it holds if Student's
95% interval lies above zero, fails if it lies below, and is undecided between.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd

from curvlib.scores import SCORES
from curvlib.studies import detection, published, statistics
from curvlib.studies.wrong_label_tables import (
    UNRANKED,
    at_main,
    gains,
    kind_of,
    largest_probability,
    leak,
    moved,
    published_beside,
    ranked,
)

EXISTING = (  # approaches older than the paper, which it may have compared with
    "in_confidence_max_last",
    "forgetting_events",
    "learning_time",
    "aum",
    "el2n",
    "confident_learning",
    "second_split_forgetting",
)
HIGH = 0.9  # an AUROC that counts as high; the paper names no number
FEW = (  # scores of a short table
    "curvature_norm",
    "curvature_square",
    "curvature_last",
    "cumulative_loss",
    "aum",
    "confident_learning",
    "random",
)
BY_INTERVAL = "Student's 95% interval over seeds lies above zero"
IN_MOST = "more than half of the settings"


class Verdict(NamedTuple):
    """Whether a claim holds, and why; ``page.claim`` takes it as it is."""

    holds: bool | None
    ours: str
    tolerance: str


class Together(NamedTuple):
    """The tables of several records in one.

    Attributes:
        found: Rows of ``metrics``, with record, kind, dataset, share (of wrong labels)
            and cell, the name of the setting.
        fitted: Rows of ``fitted``, with record and kind.
        leaked: Rows of ``leaked``, with dataset and kind.
        planted: Rows of ``planted``, with cell, and auroc for both copies; empty if no
            record has planted duplicates.
    """

    found: pd.DataFrame
    fitted: pd.DataFrame
    leaked: pd.DataFrame
    planted: pd.DataFrame


def together(records: Mapping[str, Mapping[str, pd.DataFrame]]) -> Together:
    """Put the tables of several records of ``mislabelled`` together.

    Args:
        records: Tables by name, by record.

    Raises:
        ValueError: If there is no record.
        KeyError: If a record lacks a table, and so is not one of ``mislabelled``.
    """
    if not records:
        raise ValueError("no records were given; name at least one of mislabelled")
    found, fitted, leaked, planted = [], [], [], []
    for name, tables in records.items():
        fit = tables["fitted"]
        used = fit.iloc[0]
        dataset = used["dataset"]
        kind = kind_of(used["noise"], used["planted_duplicates"])
        shares = fit.groupby("noise_rate")["share wrong"].mean()
        rows = tables["metrics"].assign(record=name, kind=kind, dataset=dataset)
        rows["share"] = rows["noise_rate"].map(shares)
        found.append(rows)
        fitted.append(fit.assign(record=name, kind=kind))
        leaked.append(tables["leaked"].assign(dataset=dataset, kind=kind))
        if used["planted_duplicates"]:
            both = tables["planted"].rename(columns={"both copies": "auroc"})
            planted.append(both.assign(cell=dataset))
    joined = pd.concat(found, ignore_index=True)
    joined["cell"] = [
        f"{dataset.replace('_', '-')}, {kind}, {percent:.3g}"
        for dataset, kind, percent in zip(
            joined["dataset"],
            joined["kind"],
            (100 * joined["share"]).round(1),
            strict=True,
        )
    ]
    return Together(
        joined,
        pd.concat(fitted, ignore_index=True),
        pd.concat(leaked, ignore_index=True),
        pd.concat(planted, ignore_index=True)
        if planted
        else pd.DataFrame(columns=["score", "seed", "auroc", "cell"]),
    )


def aurocs(found: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Mean and standard deviation of the AUROC over seeds, by score and setting.

    Args:
        found: As in ``Together``.

    Returns:
        Two frames, scores × settings, in the order met, random last; NaN where a score
        was not run.
    """
    cells = list(dict.fromkeys(found["cell"]))
    names = sorted(dict.fromkeys(found["score"]), key=lambda name: name == "random")
    grouped = found.groupby(["score", "cell"], sort=False)["auroc"]
    mean, sd = grouped.mean().unstack(), grouped.std().unstack()
    return mean.loc[names, cells], sd.loc[names, cells]


def whole_table(mean: pd.DataFrame, sd: pd.DataFrame) -> tuple[pd.DataFrame, ...]:
    """The AUROC of every score in every setting, and the mean rank, to be shown.

    Args:
        mean: Result of ``aurocs``.
        sd: Likewise.

    Returns:
        Values to sort by and texts to show, of one shape, as
        ``figures.sortable_table`` takes them.
    """
    ranks, _ = mean_ranks(mean)
    texts = pd.DataFrame(
        {
            cell: [
                "not run"
                if np.isnan(value)
                else f"{value:.3f}"
                if np.isnan(spread)
                else f"{value:.3f} ± {spread:.3f}"
                for value, spread in zip(mean[cell], sd[cell], strict=True)
            ]
            for cell in mean
        },
        index=mean.index,
    )
    values = mean.copy()
    values.insert(0, "mean rank", ranks.reindex(mean.index))
    texts.insert(0, "mean rank", values["mean rank"].map("{:.1f}".format, "ignore"))
    return values, texts


def mean_ranks(mean: pd.DataFrame) -> tuple[pd.Series, int]:
    """Mean rank of each score over the settings in which all scores were run.

    Args:
        mean: AUROC, scores × settings, as ``aurocs`` returns it.

    Returns:
        Ranks, 1 for a score that is the best everywhere, the best first; without
        ``UNRANKED``. And the number of settings they are taken over: all settings, if
        there is none with all scores.
    """
    whole = [cell for cell in mean if mean[cell].notna().all()] or list(mean)
    left = mean.drop([name for name in UNRANKED if name in mean.index])[whole]
    ranks = left.rank(ascending=False).mean(axis=1)
    return ranks.sort_values(), len(whole)


def in_most(held: int, failed: int, total: int) -> bool | None:
    """Whether a claim holds in most settings, fails in most, or neither.

    Example:
        >>> in_most(3, 1, 4), in_most(1, 3, 4), in_most(2, 0, 4)
        (True, False, None)
    """
    return True if held > total / 2 else False if failed > total / 2 else None


def beats(found: pd.DataFrame, better: str, worse: str) -> Verdict:
    """Whether one score has a higher AUROC than another, within one setting.

    Args:
        found: Rows of ``metrics`` of one setting.
        better: Name of a score.
        worse: Name of another.

    Returns:
        Undecided if one of them was not run, or there is one seed only.
    """
    part = found[found["score"].isin([better, worse])]
    if set(part["score"]) != {better, worse}:
        return Verdict(None, "not run", BY_INTERVAL)
    row = detection.paired_difference(part, worse).loc[better]
    spread = (
        "one seed"
        if np.isnan(row["low"])
        else f"{row['low']:+.3f} to {row['high']:+.3f}"
    )
    holds = True if row["low"] > 0 else False if row["high"] < 0 else None
    return Verdict(
        holds, f"difference of AUROC {row['difference']:+.3f} ({spread})", BY_INTERVAL
    )


def beats_in_most(found: pd.DataFrame, better: str, worse: str) -> Verdict:
    """Whether one score beats another in most settings.

    Args:
        found: Columns score, seed, auroc and cell, the setting.
        better: Name of a score.
        worse: Name of another.

    Returns:
        Undecided if the two were never run together.
    """
    part = found[found["score"].isin([better, worse])]
    rows = [
        detection.paired_difference(block, worse).loc[better]
        for _, block in part.groupby("cell", sort=False)
        if set(block["score"]) == {better, worse}
    ]
    rule = f"{BY_INTERVAL} in {IN_MOST}"
    if not rows:
        return Verdict(None, "not run", rule)
    changes = [row["difference"] for row in rows]
    held = sum(row["low"] > 0 for row in rows)
    failed = sum(row["high"] < 0 for row in rows)
    return Verdict(
        in_most(held, failed, len(rows)),
        f"difference of AUROC {np.mean(changes):+.3f} on average "
        f"({min(changes):+.3f} to {max(changes):+.3f}); above zero in {held}, below in "
        f"{failed}, undecided in {len(rows) - held - failed} of {len(rows)} settings",
        rule,
    )


def better_than_chance(found: pd.DataFrame, score: str) -> Verdict:
    """Whether the bootstrap interval of a score's AUROC lies above one half, mostly.

    Args:
        found: As in ``Together``.
        score: Its name.
    """
    rows = found[found["score"] == score]
    lowest = rows.groupby("cell", sort=False)["low"].min()
    above = int((lowest > 0.5).sum())
    return Verdict(
        in_most(above, len(lowest) - above, len(lowest)),
        f"above one half for every seed in {above} of {len(lowest)} settings; AUROC "
        f"{rows['auroc'].min():.3f} to {rows['auroc'].max():.3f}",
        f"the lower end of the bootstrap interval is above one half in {IN_MOST}",
    )


def at_the_top(found: pd.DataFrame, score: str) -> Verdict:
    """Whether a score misses at most a tenth of the wrong labels, mostly.

    Args:
        found: As in ``Together``.
        score: Its name.
    """
    rows = found[found["score"] == score]
    missed = rows.groupby("cell", sort=False)["false_negative_rate"].mean()
    few = int((missed <= 0.1).sum())
    return Verdict(
        in_most(few, len(missed) - few, len(missed)),
        f"{missed.min():.0%} to {missed.max():.0%} missed; at most a tenth in {few} of "
        f"{len(missed)} settings",
        f"as many samples flagged as there are wrong labels, in {IN_MOST}",
    )


def as_published(found: pd.DataFrame) -> Verdict:
    """Whether curvature reaches its published AUROC for symmetric noise, but for 0.01.

    Args:
        found: As in ``Together``.

    Returns:
        Undecided if no setting has a published value.
    """
    known = published.auroc_symmetric_noise().drop(columns="sd")
    ours = found[found["kind"] == "symmetric"]
    ours = ours.groupby(["dataset", "noise_rate", "score"])["auroc"].mean()
    both = known[known["score"] == "curvature_norm"].merge(
        ours.rename("here").reset_index(), on=["dataset", "noise_rate", "score"]
    )
    rule = "at most 0.01 below the published value, at every share"
    if both.empty:
        return Verdict(None, "no setting has a published value", rule)
    gap = both["here"] - both["auroc"]
    return Verdict(
        bool((gap > -0.01).all()),
        f"{both['here'].min():.3f} to {both['here'].max():.3f} in {len(both)} settings "
        f"with a published value: {gap.min():+.3f} to {gap.max():+.3f} from it",
        rule,
    )


def slip(found: pd.DataFrame, leaked: pd.DataFrame) -> pd.DataFrame:
    """Ours under the labels trained on, under the true ones, and published AUROCs.

    Args:
        found: As in ``Together``.
        leaked: Likewise.

    Returns:
        Columns dataset, score, noise_rate, published, given and true (AUROC, means over
        seeds), of scores that look at the label.
    """
    keys = ["dataset", "noise_rate", "score"]
    given, true = (
        frame[frame["kind"] == "symmetric"].groupby(keys)["auroc"].mean().rename(name)
        for name, frame in (("given", found), ("true", leaked))
    )
    known = published.auroc_symmetric_noise().rename(columns={"auroc": "published"})
    both = known.merge(pd.concat([given, true], axis=1).dropna().reset_index(), on=keys)
    both = both[(both["given"] - both["true"]).abs() > 1e-9]
    columns = ["dataset", "score", "noise_rate", "published", "given", "true"]
    return both[columns].reset_index(drop=True)


def nearer_with_the_slip(table: pd.DataFrame) -> Verdict:
    """Whether the published values lie nearer to ours if true labels leak.

    Args:
        table: Result of ``slip``.

    Returns:
        Undecided if nothing is published for these settings.
    """
    rule = "mean distance to the published values"
    if table.empty:
        return Verdict(None, "no setting has a published value", rule)
    given, true = (
        (table[name] - table["published"]).abs().mean() for name in ("given", "true")
    )
    return Verdict(
        bool(true < given),
        f"{len(table)} published values are {given:.3f} away from ours on average, and "
        f"{true:.3f} if true labels leak; with the leak ours are "
        f"{table['true'].min():.3f} or more",
        rule,
    )


def less_sure_of_planted(tables: Mapping) -> Verdict:
    """Whether the network is less sure of planted images than of the others at the end.

    Args:
        tables: Tables of one record.

    Returns:
        Undecided if the record has no planted duplicates.
    """
    rule = "mean largest probability at the end, first seed"
    if "copies" not in tables:
        return Verdict(None, "no planted duplicates", rule)
    planted, others = largest_probability(tables["scores.parquet"], tables["copies"])
    return Verdict(bool(planted < others), f"{planted:.2f} against {others:.2f}", rule)


def of_record(tables: Mapping) -> dict[str, dict]:
    """Everything that the page of one record claims, by a short name.

    Args:
        tables: Tables of the record.

    Returns:
        Verdicts, as ``page.claim`` takes them, at the main share if no other is said:

        - memorised: every run learned 95% of its wrong labels;
        - chance: curvature lies above one half, at every share and for every seed;
        - average, peak: averaging beats the last epoch, the epoch of the peak;
        - loss: the cumulative loss beats curvature;
        - top: curvature misses at most a tenth;
        - random: most intervals of the random score hold one half, over all shares;
        - leak: true labels raise the AUROC of every score that looks at the label;
        - nearer: they take every score nearer to its published value;
        - adds: curvature adds 0.01 to cheaper scores, in at least one combination;
        - planted: the network is less sure of planted images;
        - published: curvature reaches the published AUROC, at every share.
    """
    found, fitted = tables["metrics"], tables["fitted"]
    main = at_main(found)
    square = found[found["score"] == "curvature_square"]
    missed = main.groupby("score")["false_negative_rate"]
    texts, best = missed.agg(statistics.mean_sd), ranked(main).index[0]
    inside, intervals = chance_intervals(found)
    slipped = moved(leak(found, tables["leaked"], fitted)).set_index("score")
    change = slipped["change"]
    known = slipped[slipped["published"].notna()]
    gain = gains(tables["combined"])
    by_case = gain.groupby(["scores", "how"])["gain"].mean()
    norm = published_beside(found, fitted).query("score == 'curvature_norm'")
    learned = fitted["wrong labels learned"].min()
    verdicts = {
        "memorised": Verdict(
            learned >= 0.95, f"{learned:.1%} in the run that learned fewest", ""
        ),
        "chance": Verdict(
            (square["low"] > 0.5).all(),
            f"AUROC {square['auroc'].min():.3f} to {square['auroc'].max():.3f}",
            "bootstrap interval above one half for every share and seed",
        ),
        "average": beats(main, "curvature_square", "curvature_last"),
        "peak": beats(main, "curvature_square", "curvature_peak"),
        "loss": beats(main, "cumulative_loss", "curvature_square"),
        "top": Verdict(
            missed.mean()["curvature_square"] <= 0.1,
            f"{texts['curvature_square']} missed; {texts[best]} by {best}",
            "as many samples flagged as there are wrong labels",
        ),
        "random": Verdict(
            inside > intervals / 2,
            f"{inside} of {intervals} intervals",
            "95% of them should, on average",
        ),
        "leak": Verdict(
            change.min() > 0,
            f"from {change.min():+.3f} ({SCORES[change.idxmin()].label}) to "
            f"{change.max():+.3f} ({SCORES[change.idxmax()].label})",
            "mean over seeds",
        ),
        "nearer": Verdict(
            known["nearer"].all() if len(known) else None,
            f"{known['nearer'].sum()} of {len(known)} scores"
            if len(known)
            else "nothing to compare",
            "",
        ),
        "adds": Verdict(
            by_case.max() >= 0.01,
            f"mean change {by_case.min():+.3f} to {by_case.max():+.3f}; over all seeds "
            f"{gain['gain'].min():+.3f} to {gain['gain'].max():+.3f}",
            "mean over seeds",
        ),
        "planted": less_sure_of_planted(tables),
        "published": Verdict(
            (norm["here"] > norm["published"] - 0.01).all() if len(norm) else None,
            ", ".join(f"{value:.3f}" for value in norm["here"]) or "nothing to compare",
            "at most 0.01 below the published value, at every share",
        ),
    }
    return {name: verdict._asdict() for name, verdict in verdicts.items()}


def of_settings(all_of: Together, reference: str) -> dict[str, dict]:
    """Everything that the summary claims, by a short name.

    Args:
        all_of: The tables of its records.
        reference: The score that the claims are about.

    Returns:
        Verdicts over all settings, as ``page.claim`` takes them: chance, top, average,
        peak, in_confidence, confident_learning, second_split, planted, loss, published.
    """
    found = all_of.found
    second = beats_in_most(found, reference, "second_split_forgetting")
    kept = all_of.fitted["wrong never forgotten"].mean()
    short = (
        f"; cut short: {kept:.0%} of the wrong labels are not forgotten in its epochs"
    )
    verdicts = {
        "chance": better_than_chance(found, reference),
        "top": at_the_top(found, reference),
        "average": beats_in_most(found, reference, "curvature_last"),
        "peak": beats_in_most(found, reference, "curvature_peak"),
        "in_confidence": beats_in_most(found, reference, "in_confidence_max_last"),
        "confident_learning": beats_in_most(found, reference, "confident_learning"),
        "second_split": second._replace(
            ours=second.ours + (short if second.holds is not None else "")
        ),
        "planted": beats_in_most(all_of.planted, reference, "in_confidence_max_last"),
        "loss": beats_in_most(found, "cumulative_loss", reference),
        "published": as_published(found),
    }
    return {name: verdict._asdict() for name, verdict in verdicts.items()}


def chance_intervals(found: pd.DataFrame) -> tuple[int, int]:
    """How often the bootstrap interval of the random score holds one half.

    Settings that share seeds give the same numbers to the same samples; these count
    once.

    Args:
        found: As in ``Together``.

    Returns:
        Intervals that hold one half, and all of them.
    """
    rows = found[found["score"] == "random"].drop_duplicates(["auroc", "low", "high"])
    return int(((rows["low"] <= 0.5) & (rows["high"] >= 0.5)).sum()), len(rows)


def settings(fitted: pd.DataFrame) -> pd.DataFrame:
    """What was trained in each setting, and what the networks learned.

    Args:
        fitted: As in ``Together``.

    Returns:
        Columns dataset, kind, model, samples, seeds, share (of wrong labels), learned
        (share of the wrong labels, in the run that learned fewest) and unseen (accuracy
        on images never seen, mean over seeds).
    """
    grouped = fitted.groupby(["record", "noise_rate"], sort=False)
    return grouped.agg(
        dataset=("dataset", "first"),
        kind=("kind", "first"),
        model=("model", "first"),
        samples=("samples", "first"),
        seeds=("seed", "nunique"),
        share=("share wrong", "mean"),
        learned=("wrong labels learned", "min"),
        unseen=("right on unseen", "mean"),
    ).reset_index(drop=True)


def most_shares(found: pd.DataFrame) -> pd.DataFrame:
    """Rows of the record with most shares of wrong labels, the first of several.

    Args:
        found: As in ``Together``.

    Returns:
        Rows of the scores that were run at each of its shares.
    """
    counts = found.groupby("record", sort=False)["noise_rate"].nunique()
    rows = found[found["record"] == counts.idxmax()]
    shares = rows.groupby("score")["noise_rate"].nunique()
    return rows[rows["score"].map(shares) == shares.max()]


def is_symmetric(tables: Mapping) -> bool:
    """Whether labels were replaced by another class at random, as in the paper.

    Args:
        tables: Tables of one record of ``mislabelled``.
    """
    used = tables["fitted"].iloc[0]
    return used["noise"] == "symmetric" and not used["planted_duplicates"]


def high(tables: Mapping, reference: str) -> Verdict:
    """Whether a score's mean AUROC at the main share is at least ``HIGH``.

    Args:
        tables: Tables of one record of ``mislabelled``.
        reference: Name of the score.
    """
    rows = at_main(tables["metrics"])
    rows = rows[rows["score"] == reference]
    return Verdict(
        bool(rows["auroc"].mean() >= HIGH),
        f"AUROC {statistics.mean_sd(rows['auroc'])}, {_scale(tables)}",
        f"mean AUROC of at least {HIGH}",
    )


def as_high_as_published(tables: Mapping, reference: str) -> Verdict:
    """Whether a score reaches its published AUROC, to within 0.01, at every share.

    Args:
        tables: Tables of one record of ``mislabelled``.
        reference: Name of the score.

    Returns:
        Undecided if nothing is published for these labels.
    """
    rows = published_beside(tables["metrics"], tables["fitted"])
    rows = rows[rows["score"] == reference]
    rule = "at most 0.01 below the published value, at every share"
    if rows.empty:
        return Verdict(None, "nothing published for these labels", rule)
    last = rows.iloc[-1]
    return Verdict(
        bool((rows["here"] > rows["published"] - 0.01).all()),
        f"{last['here']:.3f} here and {last['published']:.3f} published at "
        f"{last['noise_rate']:.0%}, {_scale(tables)}",
        rule,
    )


def beats_existing(tables: Mapping, reference: str) -> Verdict:
    """Whether a score beats every approach of ``EXISTING`` that was run.

    Args:
        tables: Tables of one record of ``mislabelled``.
        reference: Name of the score.

    Returns:
        Holds if it beats all of them, fails if one of them beats it, is undecided
        otherwise.
    """
    rows = at_main(tables["metrics"])
    names = [name for name in EXISTING if name in set(rows["score"])]
    marks = {name: beats(rows, reference, name).holds for name in names}
    groups = {
        word: [SCORES[name].label for name in names if marks[name] is mark]
        for word, mark in (("ahead of", True), ("behind", False), ("undecided", None))
    }
    told = [f"{word} {', '.join(group)}" for word, group in groups.items() if group]
    values = list(marks.values())
    holds = False if False in values else True if all(values) and values else None
    return Verdict(
        holds,
        f"{'; '.join(told)}; {_scale(tables)}",
        f"{BY_INTERVAL} for all older approaches; one that beats it is enough to fail",
    )


def _scale(tables: Mapping) -> str:
    """How many images and seeds, and how well the networks generalise, in words."""
    rows = at_main(tables["fitted"])
    seeds = rows["seed"].nunique()
    unseen = rows["right on unseen"].mean()
    known = "" if np.isnan(unseen) else f", {unseen:.0%} right on unseen images"
    return (
        f"{int(rows['samples'].iloc[0]):,} images, {seeds} "
        f"seed{'s' * (seeds > 1)}{known}"
    )


def by_record(
    shown: Mapping[str, Mapping], verdict: Callable[..., Verdict], *given: object
) -> dict[str, object]:
    """A verdict for each record, as ``page.claim`` takes them.

    Args:
        shown: Tables, by label.
        verdict: Takes the tables of a record, and what is given.
        *given: Further arguments.
    """
    found = {label: verdict(tables, *given) for label, tables in shown.items()}
    return {
        "holds": {label: each.holds for label, each in found.items()},
        "ours": {label: each.ours for label, each in found.items()},
        "tolerance": next((each.tolerance for each in found.values()), ""),
    }


def named(name: str) -> Callable[[Mapping], Verdict]:
    """One of the verdicts of ``of_record``, as a function of the tables.

    Args:
        name: Its short name, such as ``"average"``.
    """
    return lambda tables: Verdict(**of_record(tables)[name])


def by_setting(shown: Mapping[str, Mapping]) -> pd.DataFrame:
    """AUROC of every score in every setting, with what the networks had learned.

    Args:
        shown: Tables of ``mislabelled``, by label.

    Returns:
        A row for each setting, seed and score: setting (label and share), label, share,
        score, seed, auroc, unseen (accuracy on unseen images) and learned (share of the
        wrong labels).
    """
    rows = []
    for label, tables in shown.items():
        fitted = tables["fitted"].set_index(["noise_rate", "seed"])
        found = tables["metrics"][["noise_rate", "seed", "score", "auroc"]]
        beside = fitted[["share wrong", "right on unseen", "wrong labels learned"]]
        found = found.join(beside, on=["noise_rate", "seed"])
        shares = found.groupby("noise_rate")["share wrong"].transform("mean")
        percent = (100 * shares).map("{:.2g}%".format)
        rows.append(found.assign(label=label, setting=f"{label}, " + percent))
    table = pd.concat(rows, ignore_index=True)
    words = {"right on unseen": "unseen", "wrong labels learned": "learned"}
    return table.rename(columns={"share wrong": "share"} | words)


def short_table(settings: pd.DataFrame) -> pd.DataFrame:
    """A row for each setting: accuracies, and AUROC of the scores in ``FEW``, as text.

    Args:
        settings: Result of ``by_setting``.

    Returns:
        Columns setting, right on unseen images, wrong labels learned, then one for each
        score, named in words; the settings with the highest accuracy first.
    """
    grouped = settings.groupby("setting", sort=False)
    table = grouped[["unseen", "learned"]].mean()
    few = settings[settings["score"].isin(FEW)]
    texts = few.groupby(["setting", "score"])["auroc"].agg(statistics.mean_sd).unstack()
    for name in FEW:
        if name in texts:
            table[SCORES[name].label] = texts[name]
    table = table.sort_values("unseen", ascending=False, kind="stable").reset_index()
    words = {"unseen": "right on unseen images", "learned": "wrong labels learned"}
    return table.rename(columns=words)


def in_practice(shown: Mapping[str, Mapping]) -> pd.DataFrame:
    """What a practitioner would do, beside scores of a head on the same features.

    Args:
        shown: Tables of ``wrong_label_tools``, by label.

    Returns:
        Columns data, right on unseen images (out of fold), then AUROC as text for the
        out-of-fold probability, cumulative loss, curvature and random numbers.
    """
    names = {
        "out_of_fold_probability": "out-of-fold probability",
        "cumulative_loss": "cumulative loss of a head",
        "curvature_norm": "curvature of a head",
        "random": "random",
    }
    rows = []
    for label, tables in shown.items():
        found = tables["scores"].groupby("score")["auroc"].agg(statistics.mean_sd)
        accuracy = tables["cases"]["accuracy"].mean()
        row = {"data": label, "right on unseen images": accuracy}
        rows.append(row | {word: found.get(name) for name, word in names.items()})
    return pd.DataFrame(rows)


def of_study(shown: Mapping[str, Mapping], study: str) -> dict[str, Mapping]:
    """Those records that come from one study.

    Args:
        shown: Records by label, as ``page.records`` gives them.
        study: Its name.
    """
    return {n: record for n, record in shown.items() if record.made["study"] == study}


def at_main_share(settings: pd.DataFrame) -> pd.DataFrame:
    """The rows of each record's main share of wrong labels.

    Args:
        settings: Result of ``by_setting``.
    """
    return settings.groupby("label", sort=False, group_keys=False)[
        list(settings.columns)
    ].apply(at_main)


def summary(settings: pd.DataFrame, reference: str) -> dict:
    """The numbers that the page opens with, for ``page.tell``, at the main shares.

    Args:
        settings: Result of ``by_setting``.
        reference: The score that stands for curvature.

    Returns:
        num_settings; best and worst AUROC of the reference over settings, mean over
        seeds, each with the setting and with the accuracy on unseen images of its
        networks; loss_best and loss_worst, of the cumulative loss in the same two
        settings; loss_ahead, the number of settings in which its mean is higher;
        correlation, Spearman's, between accuracy and AUROC of the reference.
    """
    rows = at_main_share(settings)
    mean = rows.groupby(["setting", "score"])["auroc"].mean().unstack()
    unseen = rows.groupby("setting")["unseen"].mean()
    ordered = mean[reference].sort_values()
    told = {"num_settings": len(mean)}
    for word, name in (("best", ordered.index[-1]), ("worst", ordered.index[0])):
        told |= {
            f"{word}": ordered[name],
            f"{word}_setting": name,
            f"{word}_unseen": unseen[name],
            f"loss_{word}": mean.loc[name, "cumulative_loss"],
        }
    told["loss_ahead"] = int((mean["cumulative_loss"] > mean[reference]).sum())
    told["correlation"] = mean[reference].corr(unseen, method="spearman")
    return told


def honest_is_close(tables: Mapping) -> Verdict:
    """Whether honest labels come close to what is published for curvature and loss.

    Args:
        tables: Tables of one record of ``mislabelled``.

    Returns:
        At the main share; holds if both AUROCs are at most 0.01 below the published
        ones, undecided if nothing is published for these labels.
    """
    rule = "at most 0.01 below the published AUROC, for both"
    table = leak(tables["metrics"], tables["leaked"], tables["fitted"])
    both = table.set_index("score").loc[["curvature_norm", "cumulative_loss"]]
    if both["published"].isna().any():
        return Verdict(None, "nothing published for these labels", rule)
    told = [
        f"{SCORES[row.Index].label} {row.given:.3f} ({row.published:.3f} published, "
        f"{row.true:.3f} with the leak)"
        for row in both.itertuples()
    ]
    return Verdict(
        bool((both["given"] >= both["published"] - 0.01).all()),
        f"{'; '.join(told)}; {_scale(tables)}",
        rule,
    )
