"""Values that other papers report, to stand beside ours; each with its source.

A value is here only if it was read in the paper named; nothing is computed from it.
"""

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
