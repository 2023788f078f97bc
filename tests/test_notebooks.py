"""Every notebook: like its .py twin, with typed parameters, and runs when small."""

import json
from pathlib import Path

import jupytext
import numpy as np
import pandas as pd
import papermill
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from curvlib import data, metrics
from curvlib.book import source
from curvlib.runs import ensembles, halves, influence
from curvlib.runs.settings import TrainConfig
from curvlib.runs.training import prepare
from curvlib.scores import SCORES
from curvlib.trace import Trace

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
NAMES = [file.stem for file in NOTEBOOKS]

# What makes a notebook quick. Those are passed on that the notebook knows.
SMALL = {
    "dataset": "digits",
    "model": "mlp",
    "width": 16,
    "num_train": 200,
    "num_heldout": 50,
    "epochs": 3,
    "score_every": 1,
    "num_probes": 2,
    "noise_rates": [0.1],
    "seeds": [0, 1],
    "second_epochs": 1,
    "num_models": 40,
    "num_test": 100,
    "n_jobs": 1,
    "num_unseen": 50,
    "num_timed": 64,
    "repeats": 1,
    "num_top": 20,
    "planted_duplicates": 25,
    "released": "released.npz",  # see the fixture of that name
}


@pytest.fixture(autouse=True)
def released(tmp_path_factory, monkeypatch):
    """A file in the form of the released memorization scores, for the digits."""
    folder = tmp_path_factory.mktemp("data")
    labels = load_digits().target
    values = np.random.default_rng(0).uniform(size=len(labels))
    np.savez(folder / "released.npz", tr_mem=values, tr_labels=labels)
    monkeypatch.setenv("CURVLIB_DATA", str(folder))
    return folder / "released.npz"


every_notebook = pytest.mark.parametrize("file", NOTEBOOKS, ids=NAMES)


def test_there_are_notebooks_and_each_has_a_twin():
    twins = sorted(file.stem for file in (ROOT / "notebooks").glob("*.py"))
    assert twins == NAMES != []


@every_notebook
def test_a_notebook_and_its_twin_agree(file):
    def essence(notebook):
        return [
            (
                cell.cell_type,
                cell.source,
                cell.metadata.get("tags", []),
                cell.metadata.get("mystnb", {}),
            )
            for cell in notebook.cells
        ]

    twin = jupytext.read(file.with_suffix(".py"))
    assert essence(jupytext.read(file)) == essence(twin), "run jupytext --sync"


@every_notebook
def test_a_notebook_is_kept_without_output(file):
    for cell in source.read(file)["cells"]:
        if cell["cell_type"] == "code":
            assert cell["outputs"] == []
            assert cell["execution_count"] is None


@every_notebook
def test_every_parameter_has_a_type_and_a_meaning(file):
    for parameter in source.parameters(source.read(file)).values():
        assert parameter.type not in ("", "None", "NoneType"), parameter.name
        assert len(parameter.meaning) > 3, f"{parameter.name} needs a comment"


@every_notebook
def test_a_notebook_keeps_what_a_page_needs(file):
    source.check_source(source.read(file))


@every_notebook
def test_a_notebook_runs_with_small_parameters_and_leaves_its_tables(
    file, tmp_path, monkeypatch
):
    known = source.parameters(source.read(file))
    small = {name: value for name, value in SMALL.items() if name in known}
    if "pages" in known:  # reads what other pages left
        planted = {"planted_duplicates": 0}
        run_in(tmp_path, "mislabelled", results="found/digits/mislabelled", **planted)
        small |= {"results_root": "found", "pages": ["digits/mislabelled"]}
    source.checked(known, small)  # the types that the notebook gives them
    # Runs and results of this test must not mix with those of the pages.
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CURVLIB_PROGRESS", str(tmp_path / "progress"))
    papermill.execute_notebook(
        file,
        tmp_path / "out.ipynb",
        small | {"results": "results"},
        cwd=tmp_path,
        progress_bar=False,
    )
    executed = json.loads((tmp_path / "out.ipynb").read_text(encoding="utf-8"))
    code = [c for c in executed["cells"] if c["cell_type"] == "code"]
    assert all(cell["execution_count"] for cell in code)
    images = [
        output
        for cell in code
        for output in cell["outputs"]
        if "image/png" in output.get("data", {})
    ]
    assert images, "a page without a figure"
    tables = [*Path("results").rglob("*.csv"), *Path("results").rglob("*.parquet")]
    assert tables, "no table in the results folder"


def run_in(folder, name, **changes):
    """Run a notebook with small parameters in a folder of its own, and return it."""
    folder.mkdir(exist_ok=True)
    file = ROOT / "notebooks" / f"{name}.ipynb"
    known = source.parameters(source.read(file))
    small = {name: value for name, value in SMALL.items() if name in known}
    papermill.execute_notebook(
        file,
        folder / "out.ipynb",
        small | {"results": "results"} | changes,
        cwd=folder,
        progress_bar=False,
    )
    return json.loads((folder / "out.ipynb").read_text(encoding="utf-8"))


def test_the_gallery_trained_twice_from_nothing_leaves_the_same_scores(
    tmp_path, monkeypatch
):
    monkeypatch.setenv("CURVLIB_PROGRESS", str(tmp_path / "progress"))
    files = []
    for folder in (tmp_path / "one", tmp_path / "two"):
        run_in(folder, "gallery")
        assert len(list((folder / "runs").iterdir())) == 2  # trained here, a run a seed
        files.append(folder / "results" / "scores.parquet")
    assert files[0].read_bytes() == files[1].read_bytes()

    table = pd.read_parquet(files[0])
    named = [name for name in SCORES if name != "random"]
    errors = ["curvature_square_se", "curvature_norm_se"]
    assert list(table) == ["seed", "index", "label", *named, *errors]
    assert len(table) == 2 * SMALL["num_train"]
    assert table[["seed", "index"]].apply(tuple, axis=1).is_monotonic_increasing
    assert {t.itemsize for t in table.dtypes if t.kind == "f"} == {4}
    assert table.dtypes["label"] == table.dtypes["seed"] == np.int8
    assert table.notna().all(axis=None)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        (
            {"released": None, "seeds": [0, 1], "score_every": 2},
            "the mean over all epochs of the other seeds",
        ),
        (
            {"released": None, "seeds": [0], "other_weight_decay": 0.01},
            "one seed has no other",
        ),
        ({"seeds": [0]}, "by their released memorization"),
    ],
    ids=["two seeds, every other epoch", "one seed, another weight decay", "released"],
)
def test_dynamics_without_wrong_labels_speaks_of_none(
    changes, why, tmp_path, monkeypatch
):
    monkeypatch.setenv("CURVLIB_PROGRESS", str(tmp_path / "progress"))
    executed = run_in(tmp_path / "run", "dynamics", noise_rate=0.0, **changes)
    glued = source._glued(executed["cells"])
    assert "replaced" not in glued["accuracy_text"] + glued["ratio_text"]
    assert glued["group_names"] == "'trained on, never trained on'"
    assert why in glued["why_text"]
    names = {p.name for p in (tmp_path / "run" / "results").iterdir()}
    assert ("fig-averaging.csv" in names) == ("no other" not in why)
    assert ("fig-weight-decay.csv" in names) == ("other_weight_decay" in changes)
    calibration = pd.read_csv(tmp_path / "run" / "results" / "fig-calibration.csv")
    every = changes.get("score_every", 1)
    expected = [e for e in (1, 2, 3) if e % every == 0 or e == 3]
    assert sorted(set(calibration["epoch"])) == expected


def test_one_cell_of_the_table_of_wrong_labels_is_rerun_by_scalars(
    tmp_path, monkeypatch
):
    monkeypatch.setenv("CURVLIB_PROGRESS", str(tmp_path / "progress"))
    scalars = {"noise_rate": 0.2, "noise_rates": None, "seed": 3, "seeds": None}
    run_in(tmp_path / "run", "mislabelled", planted_duplicates=0, **scalars)
    found = pd.read_csv(tmp_path / "run" / "results" / "metrics.csv")
    assert set(found["noise_rate"]) == {0.2} and set(found["seed"]) == {3}
    expected = [n for n in SCORES if n != "random"] + list(halves.SIGNS) + ["random"]
    assert sorted(found["score"]) == sorted(expected)
    assert found.notna().all(axis=None)  # no empty cell
    table = pd.read_parquet(tmp_path / "run" / "results" / "scores.parquet")
    images, _ = prepare(TrainConfig(num_train=200, noise_rate=0.2, seed=3))
    order = np.argsort(images.index)
    np.testing.assert_array_equal(table["label"], images.labels[order])
    np.testing.assert_array_equal(
        table["original_label"], images.original_labels[order]
    )
    wrong = (table["label"] != table["original_label"]).to_numpy()
    for _, row in found.iterrows():
        value = metrics.auroc(table[row["score"]].to_numpy(), wrong)
        assert row["auroc"] == pytest.approx(value, abs=1e-4)


def test_planted_duplicates_are_counted_both_ways(tmp_path, monkeypatch):
    monkeypatch.setenv("CURVLIB_PROGRESS", str(tmp_path / "progress"))
    run_in(
        tmp_path / "run",
        "mislabelled",
        noise_rates=None,
        seeds=[0],
        planted_duplicates=25,
        second_epochs=0,
    )
    planted = pd.read_csv(tmp_path / "run" / "results" / "planted.csv")
    config = TrainConfig(num_train=200, planted_duplicates=25, seed=0)
    images, _ = prepare(config)
    copies = images.source != images.index
    both = copies | np.isin(images.index, images.source[copies])
    assert both.sum() == 50
    table = pd.read_parquet(tmp_path / "run" / "results" / "scores.parquet")
    for _, row in planted.iterrows():
        score = table[row["score"]].to_numpy()
        values = metrics.auroc(score, both), metrics.auroc(score, copies)
        found = row["both copies"], row["only the wrong one"]
        assert found == pytest.approx(values, abs=1e-4)


def test_a_summary_of_pages_that_were_never_run_names_them(tmp_path):
    with pytest.raises(
        Exception, match=r"lacks metrics\.csv and fitted\.csv and leaked"
    ):
        run_in(tmp_path / "run", "mislabel_summary", pages=["digits/nothing"])


def test_dynamics_needs_held_out_images(tmp_path):
    with pytest.raises(Exception, match=r"num_heldout must be at least 1 .* got 0"):
        run_in(tmp_path / "run", "dynamics", num_heldout=0)


def test_memorization_in_another_order_stops_before_anything_is_trained(
    released, tmp_path, monkeypatch
):
    monkeypatch.setenv("CURVLIB_PROGRESS", str(tmp_path / "progress"))
    arrays = dict(np.load(released))
    np.savez(released, **arrays | {"tr_labels": arrays["tr_labels"][::-1]})
    with pytest.raises(Exception, match="in another order or of another data set"):
        run_in(tmp_path / "run", "feldman_zhang")
    assert not (tmp_path / "run" / "runs").exists()


def test_every_planted_twin_is_listed_with_both_indices(tmp_path, monkeypatch):
    monkeypatch.setenv("CURVLIB_PROGRESS", str(tmp_path / "progress"))
    run_in(tmp_path / "run", "duplicates", seeds=[0])
    results = tmp_path / "run" / "results"
    config = TrainConfig(num_train=200, planted_duplicates=25, seed=0)
    images, _ = prepare(config)
    copies = images.source != images.index
    planted = [f"{a}, {b}" for a, b in zip(images.source, images.index, strict=True)]
    listed = pd.read_csv(results / "conflicts.csv")["images"]
    assert sorted(listed) == sorted(np.array(planted)[copies])
    wins = pd.read_csv(results / "which-label-wins.csv")
    assert len(wins) == 25
    assert (wins["p first, end"] + wins["p second, end"] < 1 + 1e-6).all()


def test_a_score_that_is_the_reference_agrees_with_it_in_full(
    released, tmp_path, monkeypatch
):
    monkeypatch.setenv("CURVLIB_PROGRESS", str(tmp_path / "progress"))
    run_in(tmp_path / "run", "feldman_zhang", seeds=[0])  # a run to take scores from
    (folder,) = (f for f in (tmp_path / "run" / "runs").iterdir())
    loss = Trace.open(folder).read("loss").astype(float).sum(0)
    arrays = dict(np.load(released))
    images, _ = prepare(TrainConfig(num_train=200))
    arrays["tr_mem"][images.index] = loss
    np.savez(released, **arrays)
    run_in(tmp_path / "run", "feldman_zhang", seeds=[0])
    table = pd.read_csv(tmp_path / "run" / "results" / "agreement.csv")
    row = table[table["score"] == "cumulative_loss"].iloc[0]
    values = row[["spearman", "pearson", "cosine", "top_overlap"]]
    np.testing.assert_allclose(values.to_numpy(float), 1, rtol=1e-6)
    constant = table[table["score"] == "constant"].iloc[0]
    assert np.isnan(constant["spearman"])
    assert constant["top_overlap"] == pytest.approx(20 / 200)


def test_memorization_on_a_page_is_that_of_its_ensemble(tmp_path, monkeypatch):
    monkeypatch.setenv("CURVLIB_PROGRESS", str(tmp_path / "progress"))
    run_in(tmp_path / "run", "memorization", seeds=[0])
    images, _ = prepare(TrainConfig(num_train=200))
    config = ensembles.EnsembleConfig(num_models=40, width=16, epochs=3)
    test = data.load("digits", split="test").select(np.arange(100))
    runs = tmp_path / "run" / "runs"
    before = sorted(runs.iterdir())
    found = ensembles.train(config, images, test, runs=runs)  # read, not trained
    assert sorted(runs.iterdir()) == before
    expected = influence.memorization(found.inside, found.correct)
    table = pd.read_csv(tmp_path / "run" / "results" / "memorization.csv")
    np.testing.assert_allclose(table["memorization"], expected.value, rtol=1e-5)
    np.testing.assert_allclose(
        table["standard_error"], expected.standard_error, rtol=1e-5
    )
    # An estimate is held against networks that it was not made of.
    cost = pd.read_csv(tmp_path / "run" / "results" / "fig-cost.csv")
    of_ensemble = cost[cost["what"] == "ensemble"]
    assert of_ensemble["count"].max() == 20
    assert of_ensemble["spearman"].max() < 0.999


@pytest.mark.parametrize("name", ["imagenet", "gallery"])
def test_a_folder_of_class_folders_is_enough(name, tmp_path, monkeypatch):
    # No val/, no names, one file that is broken: what a user's own folder looks like.
    digits = load_digits()
    for i in range(120):
        folder = tmp_path / "mine" / "train" / f"class {digits.target[i] % 3}"
        folder.mkdir(parents=True, exist_ok=True)
        pixels = (digits.images[i] * 15).astype(np.uint8).repeat(4, 0).repeat(4, 1)
        Image.fromarray(pixels).save(folder / f"{i}.png")
    (folder / "broken.png").write_bytes(b"")
    monkeypatch.setenv("CURVLIB_PROGRESS", str(tmp_path / "progress"))
    given = {
        "dataset": str(tmp_path / "mine"),
        "num_train": None,
        "num_heldout": 0,
        "released": None,
        "image_size": 16,
        "broken_files": "skip",
        "model": "mlp",
        "epochs": 3,
        "num_timed": 2,
        "seeds": [0],
    }
    known = source.parameters(source.read(ROOT / "notebooks" / f"{name}.ipynb"))
    run_in(tmp_path, name, **{k: value for k, value in given.items() if k in known})
    scores = pd.read_parquet(tmp_path / "results" / "scores.parquet")
    assert len(scores) == 120
    assert scores["label"].nunique() == 3
