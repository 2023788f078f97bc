"""Values that other papers report, to stand beside ours; each with its source.

A value is here only if it was read in the paper named; nothing is computed from it.
"""

from typing import NamedTuple

import pandas as pd

# Ravikumar et al., Towards Memorization Estimation (ICML 2025): ResNet-18, 200 epochs,
# all 50,000 training images; symmetric noise; mean and, for curvature, sd over seeds.
# "in_confidence_max_last" is what its code computes as in-confidence.
NOISE_RATES = (0.01, 0.02, 0.05, 0.1)
AUROC = {
    ("cifar10", "curvature_norm"): (0.9715, 0.9776, 0.98, 0.9819),
    ("cifar100", "curvature_norm"): (0.9856, 0.9865, 0.9876, 0.9892),
    ("cifar10", "cumulative_loss"): (0.9845, 0.9864, 0.987, 0.9869),
    ("cifar100", "cumulative_loss"): (0.9891, 0.9895, 0.9895, 0.9897),
    ("cifar10", "second_split_forgetting"): (0.9626, 0.9551, 0.9498, 0.936),
    ("cifar100", "second_split_forgetting"): (0.8915, 0.8893, 0.8784, 0.8664),
    ("cifar10", "confident_learning"): (0.8651, 0.8905, 0.8874, 0.8551),
    ("cifar100", "confident_learning"): (0.8723, 0.8838, 0.8733, 0.8536),
    ("cifar10", "in_confidence_max_last"): (0.8781, 0.8072, 0.7254, 0.6528),
    ("cifar100", "in_confidence_max_last"): (0.7258, 0.7236, 0.7069, 0.6884),
}
SD = {
    ("cifar10", "curvature_norm"): (0.0045, 0.0033, 0.0003, 0.0006),
    ("cifar100", "curvature_norm"): (0.0009, 0.0011, 0.0021, 0.0012),
}

# The same paper, 250 copies planted under a wrong label, both copies counted as found:
# CIFAR-10, CIFAR-100.
PLANTED = {
    "curvature_norm": (0.9536, 0.9639),
    "cumulative_loss": (0.9821, 0.9886),
    "in_confidence_max_last": (0.9237, 0.8623),
    "second_split_forgetting": (0.849, 0.7938),
    "confident_learning": (0.5533, 0.5873),
}

# The same paper's table of costs, in trainings: by score and probes.
TRAININGS = {
    ("cumulative_loss", 0): 1.0,
    ("curvature_norm", 2): 3.6,
    ("curvature_norm", 10): 14.3,
}
# The same paper's agreement with Feldman-Zhang memorization on CIFAR-100: cosine and
# Pearson over all samples, then over the 5,000 with the highest memorization.
# "cumulative_gradient" is what it calls the input-gradient norm.
AGREEMENT = {
    "curvature_norm": (0.69, 0.49, 0.87, 0.16),
    "cumulative_loss": (0.87, 0.79, 0.93, 0.40),
    "cumulative_gradient": (0.81, 0.76, 0.97, 0.39),
    "forgetting_events": (0.76, 0.59, 0.96, 0.29),
    "final_loss": (0.24, 0.17, 0.33, 0.06),
}
# Feldman and Zhang, What Neural Networks Memorize and Why (NeurIPS 2020): models
# trained, each on this share of the samples.
MEMORIZATION_MODELS = {"cifar100": 4000, "imagenet": 2000}
MEMORIZATION_SHARE = 0.7


def auroc_symmetric_noise() -> pd.DataFrame:
    """AUROC for replaced labels under symmetric noise.

    Returns:
        Columns dataset, score (a name of ``curvlib.scores.SCORES``), noise_rate, auroc,
        sd (NaN where none is given) and source, a key of ``book/references.bib``.
    """
    nowhere = (float("nan"),) * len(NOISE_RATES)
    rows = [
        {
            "dataset": dataset,
            "score": score,
            "noise_rate": rate,
            "auroc": auroc,
            "sd": sd,
            "source": "ravikumar2025",
        }
        for (dataset, score), values in AUROC.items()
        for rate, auroc, sd in zip(
            NOISE_RATES, values, SD.get((dataset, score), nowhere), strict=True
        )
    ]
    return pd.DataFrame(rows)


def auroc_planted_duplicates() -> pd.DataFrame:
    """AUROC for planted duplicates, both copies counted as positives.

    Returns:
        Columns dataset, score, auroc and source, a key of ``book/references.bib``.
    """
    rows = [
        {"dataset": dataset, "score": score, "auroc": auroc, "source": "ravikumar2025"}
        for score, values in PLANTED.items()
        for dataset, auroc in zip(("cifar10", "cifar100"), values, strict=True)
    ]
    return pd.DataFrame(rows)


def agreement_with_memorization() -> pd.DataFrame:
    """Agreement with Feldman-Zhang memorization on CIFAR-100, as published.

    Returns:
        Columns score (a name of ``curvlib.scores.SCORES``), cosine_all, pearson_all,
        cosine_top, pearson_top (over the 5,000 most memorised) and source, a key of
        ``book/references.bib``.
    """
    columns = ["cosine_all", "pearson_all", "cosine_top", "pearson_top"]
    table = pd.DataFrame.from_dict(AGREEMENT, orient="index", columns=columns)
    table = table.rename_axis("score").reset_index()
    return table.assign(source="ravikumar2025")


class Claim(NamedTuple):
    """A claim of the paper, as the paper states it.

    Attributes:
        name: The name that pages give it, in ``page.claim``.
        text: A sentence that could be false.
        published: Known values and their source; empty if there are none.
        page: The page in ``book/pages`` that answers it.
    """

    name: str
    text: str
    published: str
    page: str


def claims() -> tuple[Claim, ...]:
    """The claims of the paper that this book judges, in the book's order.

    We had no access to the paper's own tables. Values come from the re-run by Ravikumar
    et al. (2025), and say so.
    """
    rerun = "re-run by Ravikumar et al. (2025)"
    stated = "stated by Garg et al. (2024); we have no value"
    cosine, pearson, top, _ = AGREEMENT["curvature_norm"]
    low, high = (
        edge(AUROC[data, "curvature_norm"])
        for data, edge in (("cifar10", min), ("cifar100", max))
    )
    at_ten = {
        words: AUROC["cifar10", score][-1]
        for words, score in (
            ("curvature", "curvature_norm"),
            ("cumulative loss", "cumulative_loss"),
            ("second-split forgetting", "second_split_forgetting"),
            ("confident learning", "confident_learning"),
        )
    }
    listed = ", ".join(f"{words} {value:.3f}" for words, value in at_ten.items())
    few, many = (TRAININGS["curvature_norm", n] for n in (2, 10))
    models, share = MEMORIZATION_MODELS["cifar100"], MEMORIZATION_SHARE
    return (
        Claim(
            "rise-peak-fall",
            "Mean curvature rises, peaks and then falls while the network overfits, on "
            "training and on unseen images.",
            stated,
            "dynamics",
        ),
        Claim(
            "averaging-helps",
            "Curvature averaged over epochs shows what the last epoch alone does not.",
            stated,
            "mislabelled",
        ),
        Claim(
            "prototypes-and-tail",
            "Images with low curvature are prototypes of their class; those with high "
            "curvature are long-tailed, mislabelled or ambiguous.",
            f"{stated}; shown as images",
            "gallery",
        ),
        Claim(
            "duplicates-found",
            "Sorting by curvature brings up identical images under different labels, "
            "which other scores do not show at the top.",
            f"{stated}; shown as images of CIFAR-100 and ImageNet. 250 planted "
            f"duplicates: AUROC {PLANTED['curvature_norm'][0]:.3f} on CIFAR-10 and "
            f"{PLANTED['curvature_norm'][1]:.3f} on CIFAR-100 ({rerun})",
            "duplicates",
        ),
        Claim(
            "agrees-with-memorization",
            "Curvature averaged over training agrees with Feldman and Zhang's "
            "memorization (high cosine similarity).",
            f"CIFAR-100: cosine {cosine:.2f}, Pearson {pearson:.2f}; cosine {top:.2f} "
            f"on the 5,000 most memorised ({rerun})",
            "feldman_zhang",
        ),
        Claim(
            "high-auroc",
            "Curvature finds mislabelled images with high AUROC values (arXiv "
            "abstract).",
            f"AUROC {low:.3f} to {high:.3f} at 1 to 10% symmetric noise on CIFAR-10 "
            f"and CIFAR-100 ({rerun})",
            "mislabel_summary",
        ),
        Claim(
            "beats-other-scores",
            "Curvature outperforms existing approaches at identifying mislabelled "
            "examples (ICML abstract).",
            f"AUROC on CIFAR-10 at 10%: {listed} ({rerun})",
            "mislabel_summary",
        ),
        Claim(
            "one-network-against-thousands",
            "One trained network gives the score; memorization takes thousands.",
            f"{few} trainings with two probes, {many} with ten ({rerun}); "
            f"{models:,} networks, each on {share:.0%} of CIFAR-100 (Feldman and "
            "Zhang, 2020)",
            "cost",
        ),
    )


def claim(name: str) -> Claim:
    """One of the paper's claims.

    Args:
        name: Such as ``"high-auroc"``.

    Raises:
        KeyError: If there is no such claim; lists those there are.
    """
    known = {each.name: each for each in claims()}
    if name not in known:
        raise KeyError(f"no claim {name!r}; there are {', '.join(known)}")
    return known[name]
