import re
from pathlib import Path

from curvlib import scores
from curvlib.runs import halves
from curvlib.studies import published

BIB = Path(__file__).parent.parent / "book" / "references.bib"


def test_every_published_value_names_a_known_score_and_a_known_source():
    table = published.auroc_symmetric_noise()
    planted = published.auroc_planted_duplicates()
    named = set(table["score"]) | set(planted["score"])
    assert named <= set(scores.SCORES) | set(halves.SIGNS)
    keys = re.findall(r"^@\w+\{(\w+),", BIB.read_text(encoding="utf-8"), re.MULTILINE)
    assert set(table["source"]) | set(planted["source"]) <= set(keys)


def test_published_values_are_one_a_cell_and_can_be_aurocs():
    table = published.auroc_symmetric_noise()
    assert not table.duplicated(["dataset", "score", "noise_rate"]).any()
    assert table["auroc"].between(0.5, 1).all()
    assert table["sd"].dropna().between(0, 0.05).all()


def test_a_value_read_in_the_paper_stands_where_it_belongs():
    table = published.auroc_symmetric_noise().set_index(
        ["dataset", "score", "noise_rate"]
    )
    assert table.loc[("cifar10", "curvature_norm", 0.1), "auroc"] == 0.9819
    assert table.loc[("cifar100", "cumulative_loss", 0.01), "auroc"] == 0.9891
    assert table.loc[("cifar10", "confident_learning", 0.02), "auroc"] == 0.8905
    planted = published.auroc_planted_duplicates().set_index(["dataset", "score"])
    assert planted.loc[("cifar100", "second_split_forgetting"), "auroc"] == 0.7938


def test_published_agreement_stands_where_it_belongs():
    table = published.agreement_with_memorization().set_index("score")
    assert set(table.index) <= set(scores.SCORES)
    assert table.loc["curvature_norm", ["cosine_all", "pearson_top"]].tolist() == [
        0.69,
        0.16,
    ]
    values = table.drop(columns="source").to_numpy(dtype=float)
    assert ((values > 0) & (values < 1)).all()
