"""Which tool finds wrong labels best, on the same features and labels?

What a practitioner would do today stands beside the scores of this project: cleanlab on
a logistic regression that is set up with care, the ratio of distances of SelfClean, and
every score of a trace.
"""

import io
import time
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd

from curvlib import metrics, scores
from curvlib.studies import Measured, checksums

RECIPE = 2
PARTS = ("data", "features", "head", "scoring", "studies.suspects")
ORDER = "consensus"  # the default order of `curvlib suspects`
CLEANLAB = "cleanlab"  # its default score
STRENGTHS = (1.0, 0.1, 0.01, 0.001, 0.0001)  # C of scikit-learn; its default is 1
STEPS = 200  # at most
HEAD = "out_of_fold_probability"  # the same, of our head's probabilities
# What the page compares; a trace has more scores than these.
COMPARED = (
    ORDER,
    "out_of_fold_probability",
    "neighbour_ratio",
    "neighbour_agreement",
    "predicted_agreement",
    "aum_softmax",
    "cumulative_loss",
    "final_loss",
    "el2n",
    "curvature_norm",
    "curvature_square",
    "random",
)
OURS = {"predicted_agreement": -1}  # +1 if high is suspect


def measure(
    *,
    dataset: str = "digits",
    num_train: int | None = None,
    image_size: int | None = None,
    features: str = "lite0",
    size: int | None = None,
    noise: str = "symmetric",
    noise_rate: float = 0.1,
    rarest: float = 1.0,
    seeds: list[int] = [0, 1, 2],  # noqa: B006
    num_resamples: int = 200,
    runs: str = "runs",
) -> Measured:
    """Rank the same samples with every tool, once for each seed.

    Args: as in the notebook of this name.

    Returns:
        ``scores``: a row for each seed and score: auroc, error (its standard error over
        samples), average_precision, precision_at_wrong (among as many samples as are
        wrong), difference (of the AUROC to cleanlab's), difference_error (over samples,
        which both share), over_head and over_head_error (the same, to cleanlab's with
        our head's probabilities), seconds (of one core, without the features).
        ``cases``: a row for each seed: samples, classes, wrong, accuracy (out of fold,
        against the truth), epochs of the trace, feature_seconds. ``tools``: versions of
        the other packages; without cleanlab its rows are left out.
    """
    asked = locals()
    from curvlib.studies import wrong_label_cases

    rows, cases = [], []
    for seed in seeds:
        case = wrong_label_cases.of_study(asked, seed=seed)
        table, seconds = scored(case.vectors, seed=seed, runs=runs)
        wrong = case.images.mislabelled
        found = judged(table, wrong, num_resamples=num_resamples, seed=seed)
        found["seconds"] = found["score"].map(seconds)
        found.insert(0, "seed", seed)
        rows.append(found)
        truth = case.images.original_labels
        own = table["out_of_fold_probability"] >= table["suggested_probability"]
        predicted = np.where(own, table["label"], table["suggested"])
        cases.append(
            {
                "seed": seed,
                "samples": len(wrong),
                "classes": len(np.unique(truth)),
                "wrong": int(wrong.sum()),
                "accuracy": float((predicted == truth).mean()),
                "epochs": int(table["epochs"].iloc[0]),
                "features": case.features.name,
                "feature_seconds": case.features.seconds,
            }
        )
    return Measured(
        tables={
            "scores": pd.concat(rows, ignore_index=True),
            "cases": pd.DataFrame(cases),
            "tools": tools(),
        },
        data=checksums(dataset, image_size=image_size, broken_files="skip"),
    )


def tools() -> pd.DataFrame:
    """Versions of the packages that we compare with; none where one is missing."""
    from importlib.metadata import version

    names = ("cleanlab", "scikit-learn")
    found = [version(n) if find_spec(n.replace("scikit-", "sk")) else "" for n in names]
    return pd.DataFrame({"tool": names, "version": found})


def scored(
    vectors, *, seed: int, runs: str | Path
) -> tuple[pd.DataFrame, dict[str, float]]:
    """Every score of every sample, and the seconds of one core that each took.

    What was computed is kept in ``runs``, so that a measurement that was stopped goes
    on. Seconds are of the processor, so that other work on the machine does not count.

    Args:
        vectors: N samples with the labels given.
        seed: Of heads and folds.
        runs: Folder of all runs.

    Returns:
        A row for each sample in the order of the vectors; and seconds by score. Without
        cleanlab its columns are missing.
    """
    from curvlib.runs import provenance
    from curvlib.studies import suspects
    from curvlib.trace import write_atomically

    settings = {"seed": seed, "cleanlab": bool(find_spec("cleanlab"))}
    settings |= {"recipe": RECIPE, "head": asdict(suspects.HIDDEN)}
    parts = ("features", "head", "scoring", "studies.suspects")
    digest = provenance.digest(settings, {"train": vectors.checksum}, parts)
    file = Path(runs) / f"{vectors.name}-tools-{digest}.parquet"
    if not file.exists():
        table, seconds = _scored(vectors, seed=seed, runs=runs)
        buffer = io.BytesIO()
        table.attrs = {"seconds": seconds}
        table.to_parquet(buffer, index=False)
        write_atomically(file, buffer.getvalue())
    table = pd.read_parquet(file)
    return table, table.attrs["seconds"]


def _scored(vectors, *, seed, runs) -> tuple[pd.DataFrame, dict[str, float]]:
    from curvlib.studies import suspects

    begun, stages = [time.process_time()], []

    def on_stage(name: str) -> None:
        stages.append(name.partition(" ")[0])  # neighbours, out, trace
        begun.append(time.process_time())

    # In a folder of its own: what another study has left would cost no time.
    timed = Path(runs) / "timed"
    ranked = suspects.rank(vectors, runs=timed, seed=seed, on_stage=on_stage)
    spent = dict(zip(stages, np.diff([*begun[1:], time.process_time()]), strict=True))
    table, trace = ranked.table, ranked.traces[0]
    order = np.searchsorted(trace.samples()["index"].to_numpy(), vectors.index)
    table["predicted_agreement"] = trace.read("correct")[:, order].mean(0)
    table["epochs"] = ranked.epochs[0]
    seconds = {"neighbour_ratio": spent["neighbours"], ORDER: sum(spent.values())}
    seconds["neighbour_agreement"] = spent["neighbours"]
    seconds["out_of_fold_probability"] = spent["out"]
    for name in {*scores.SCORES, "predicted_agreement"} & {*table}:
        seconds[name] = spent["trace"]
    if find_spec("cleanlab"):
        at = time.process_time()
        columns = cleanlab_scores(vectors, seed=seed)
        table = table.assign(**columns)
        seconds |= dict.fromkeys(columns, time.process_time() - at)
    return table, {name: round(float(s), 2) for name, s in seconds.items()}


def cleanlab_scores(vectors, *, seed: int) -> dict[str, np.ndarray]:
    """Label quality by cleanlab of a logistic regression, as one would set it up.

    Each feature gets mean 0 and standard deviation 1 over the training folds. The
    strength of regularisation is the one of ``STRENGTHS`` with the lowest held-out log
    loss by the labels given: with scikit-learn's default, the classifier memorises
    wrong labels where features are many.

    Args:
        vectors: N samples.
        seed: Of the five folds.

    Returns:
        By name of cleanlab's option, [N], low is suspect: ``cleanlab``, its default,
        the probability of the label given; ``cleanlab_margin``, normalised margin;
        ``cleanlab_adjusted``, the default after dividing by the classes' thresholds.
    """
    import warnings

    from cleanlab.rank import get_label_quality_scores
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import log_loss
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    from curvlib.studies.suspects import FOLDS

    x = np.asarray(vectors.features[vectors.rows]).astype(np.float32)
    _, labels = np.unique(vectors.labels, return_inverse=True)
    found = {}
    with warnings.catch_warnings():
        # With weak regularisation more steps would only memorise more labels.
        warnings.simplefilter("ignore", ConvergenceWarning)
        for strength in STRENGTHS:
            classifier = LogisticRegression(C=strength, max_iter=STEPS)
            p = cross_val_predict(
                make_pipeline(StandardScaler(), classifier),
                x,
                labels,
                cv=StratifiedKFold(FOLDS, shuffle=True, random_state=seed),
                method="predict_proba",
            )
            found[log_loss(labels, p)] = p
    probabilities = found[min(found)]
    return {
        CLEANLAB: get_label_quality_scores(labels, probabilities),
        "cleanlab_margin": get_label_quality_scores(
            labels, probabilities, method="normalized_margin"
        ),
        "cleanlab_adjusted": get_label_quality_scores(
            labels, probabilities, adjust_pred_probs=True
        ),
    }


def suspicion(table: pd.DataFrame, name: str) -> np.ndarray:
    """A score turned so that high is suspect, [N]."""
    from curvlib.studies import suspects

    if name.startswith(CLEANLAB):
        return -table[name].to_numpy(float)
    sign = OURS.get(name) or (1 if name == ORDER else suspects.sign_of(name))
    return sign * table[name].to_numpy(float)


def judged(
    table: pd.DataFrame, wrong: np.ndarray, *, num_resamples: int, seed: int
) -> pd.DataFrame:
    """How well each score finds the wrong labels, and whether better than cleanlab.

    Args:
        table: As ``scored`` returns it.
        wrong: The truth, bool [N].
        num_resamples: Bootstrap samples; all scores meet the same ones.
        seed: Of the bootstrap.
    """
    names = [n for n in (*COMPARED, *sorted(scores.SCORES)) if n in table]
    names += [n for n in table if n.startswith(CLEANLAB)]
    names = list(dict.fromkeys(names))
    ranks = {name: suspicion(table, name) for name in names}
    rng = np.random.default_rng([seed, 79])
    draws = [
        tuple(
            rng.multinomial(count, np.full(count, 1 / count))
            for count in (wrong.sum(), (~wrong).sum())
        )
        for _ in range(num_resamples)
    ]
    resampled = {name: _aurocs(score, wrong, draws) for name, score in ranks.items()}
    count = int(wrong.sum())
    rows = []
    for name, score in ranks.items():
        row = {
            "score": name,
            "auroc": metrics.auroc(score, wrong),
            "error": resampled[name].std(ddof=1),
            "average_precision": metrics.average_precision(score, wrong),
            "precision_at_wrong": metrics.precision_at_k(score, wrong, count),
        }
        for column, other in (("difference", CLEANLAB), ("over_head", HEAD)):
            if other in ranks:
                row[column] = row["auroc"] - metrics.auroc(ranks[other], wrong)
                apart = resampled[name] - resampled[other]
                row[f"{column}_error"] = apart.std(ddof=1)
        rows.append(row)
    return pd.DataFrame(rows)


def _aurocs(score, wrong, draws) -> np.ndarray:
    """AUROC of each bootstrap sample, [R], from how often each sample was drawn."""
    values, place = np.unique(score, return_inverse=True)
    found = []
    for positive, negative in draws:
        at_positive, at_negative = (
            np.bincount(place[mask], weights=times, minlength=len(values))
            for mask, times in ((wrong, positive), (~wrong, negative))
        )
        below = np.cumsum(at_negative) - at_negative / 2  # an equal score is one half
        found.append(at_positive @ below / (positive.sum() * negative.sum()))
    return np.array(found)


# ----------------------------------------------------------------- what the page says


def mean_table(found: pd.DataFrame) -> pd.DataFrame:
    """One row for each score: means over seeds, and the spread that is told with them.

    The standard error of an AUROC is that over samples; over seeds it would be that of
    three values, and people's labels are the same for every seed.

    Args:
        found: The table ``scores`` of a record.
    """
    numbers = found.groupby("score", sort=False).mean(numeric_only=True)
    return numbers.drop(columns="seed").reset_index()


def verdict(
    found: pd.DataFrame, *, other: str = CLEANLAB, column: str = "difference"
) -> tuple[bool, bool] | None:
    """Whether our order is at least as good as another score, and whether it is better.

    At least as good: its mean AUROC is below the other's by no more than the other's
    standard error. Better: above it by more than the standard error of the difference.

    Args:
        found: The table ``scores`` of a record.
        other: Name of the other score.
        column: Of the difference to it.

    Returns:
        The two; None if the other is missing, as cleanlab may be.
    """
    means = mean_table(found).set_index("score")
    if other not in means.index:
        return None
    row = means.loc[ORDER]
    at_least = row[column] >= -means.loc[other, "error"]
    return bool(at_least), bool(row[column] > row[f"{column}_error"])
