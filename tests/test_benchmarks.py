import importlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from curvlib.runs import networks
from curvlib.runs.settings import TrainConfig

ROOT = Path(__file__).parent.parent


def test_the_benchmark_runs_and_its_contestants_agree(tmp_path):
    subprocess.run(
        [
            sys.executable,
            str(ROOT / "benchmarks" / "estimators.py"),
            "--quick",
            "--out",
            str(tmp_path),
        ],
        check=True,
        capture_output=True,
    )
    same = pd.read_csv(tmp_path / "same_scores.csv").set_index(["model", "dtype"])
    for model in ("slim_resnet", "resnet18"):
        assert same.loc[(model, "float64"), "largest_relative_difference"] < 1e-8
        assert same.loc[(model, "float32"), "spearman"] > 0.999
    exact = pd.read_csv(tmp_path / "exact_products.csv")
    assert (exact["largest_relative_difference"] < 1e-4).all()
    released = pd.read_csv(tmp_path / "against_released.csv")
    assert set(released["contestant"]) == {
        "released",
        "ours, model as given",
        "ours, folded and channels last",
    }
    assert (released["seconds_per_sample"] > 0).all()
    ratios = pd.read_csv(tmp_path / "ratios.csv")
    assert len(ratios) == 4
    assert (ratios["min"] <= ratios["median"]).all()
    plain = pd.read_csv(tmp_path / "plain_call.csv")
    assert plain.groupby("model")["contestant"].agg(list).map(len).eq(2).all()
    assert (plain["lowest"] <= plain["times_faster"]).all()
    assert (plain["lowest"] > 0).all()
    assert (pd.read_csv(tmp_path / "share_of_peak.csv")["share"] > 0).all()
    assert len(pd.read_csv(tmp_path / "memory_and_linearity.csv")) == 3


@pytest.fixture
def fidelity(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module("fidelity")


def test_fidelity_runs_and_leaves_its_tables(tmp_path):
    subprocess.run(
        [
            sys.executable,
            str(ROOT / "benchmarks" / "fidelity.py"),
            "--quick",
            "--out",
            str(tmp_path / "out"),
        ],
        check=True,
        capture_output=True,
        cwd=tmp_path,
    )
    designs = pd.read_csv(tmp_path / "out" / "fidelity.csv")
    assert designs["fidelity"].between(-1, 1).all()
    assert (designs["times_faster"] > 0).all()
    chosen = pd.read_csv(tmp_path / "out" / "fidelity_best.csv")
    ten = chosen[chosen["what"] == "ten at every epoch"]
    assert (ten[["probes", "score every"]] == [10, 1]).all().all()
    assert (tmp_path / "out" / "fidelity.svg").read_text().startswith("<?xml")
    overhead = pd.read_csv(tmp_path / "out" / "overhead.csv")
    assert overhead["num_probes"].tolist() == [1, 2, 10]
    assert (overhead["scoring_over_training"] > 0).all()
    assert len(pd.read_csv(tmp_path / "out" / "probe_kinds.csv")) == 5


def test_the_default_is_the_fewest_probes_that_the_book_found_enough():
    table = pd.read_csv(ROOT / "results" / "bench" / "fidelity_best.csv")
    photographs = (table["data"] == "CIFAR-10") & (table["epochs"] == 30)
    fewest = table[photographs & (table["what"] == "cheapest at every epoch")]
    assert len(fewest) == 2  # square and norm
    assert TrainConfig().num_probes == fewest["probes"].max()


def of_probes(noise: float) -> dict[str, np.ndarray]:
    """Four epochs of sixty samples of norms 1, 2, 3, ... with relative noise."""
    rng = np.random.default_rng(0)
    truth = np.arange(1, 61.0)

    def draw(count):
        return truth * (1 + noise * rng.uniform(-1, 1, (4, count, 60)))

    return {
        "reference": draw(100),
        "tested": draw(20),
        "mislabelled": truth > 50,
    }


def test_without_noise_one_probe_is_the_truth(fidelity):
    for table in (
        fidelity.short_run(of_probes(0.0)),
        fidelity.long_run(of_probes(0.0)),
    ):
        assert table["fidelity"].to_numpy() == pytest.approx(1.0)


def test_fidelity_rises_with_probes_and_spread_is_that_of_the_noise(fidelity):
    found = of_probes(0.5)
    table = fidelity.short_run(found)
    one_kind = table[(table["kind"] == "norm") & (table["score_every"] == 1)]
    assert one_kind["fidelity"].is_monotonic_increasing
    assert one_kind["passes"].tolist() == [8, 12, 16, 24, 44]
    spread = fidelity.spread(found)["relative_variance_norm"]
    assert spread.to_numpy() == pytest.approx(0.25 / 3, rel=0.1)  # of uniform(-.5, .5)


def test_the_best_is_the_cheapest_of_those_as_good_as_ten(fidelity):
    rows = [
        # probes, every, fidelity, times faster
        (10, 1, 0.99, 3.0),
        (2, 1, 0.985, 9.0),
        (1, 1, 0.97, 12.0),
        (2, 2, 0.981, 18.0),
    ]
    designs = pd.DataFrame(
        rows, columns=["num_probes", "score_every", "fidelity", "times_faster"]
    ).assign(data="made up", epochs=30, kind="square")
    chosen = fidelity.best(designs).set_index("what")
    assert chosen.loc["cheapest at every epoch", "times faster"] == 9.0
    assert chosen.loc["cheapest of all", "times faster"] == 18.0


def test_networks_trained_as_one_are_those_of_the_loop(tmp_path):
    subprocess.run(
        [
            sys.executable,
            str(ROOT / "benchmarks" / "ensemble.py"),
            "--quick",
            "--out",
            str(tmp_path),
        ],
        check=True,
        capture_output=True,
        cwd=tmp_path,
    )
    same = pd.read_csv(tmp_path / "ensemble_same_estimates.csv").iloc[0]
    assert same["same_subsets"]
    # Rounding may turn an answer on the edge: one in a thousand is many for that.
    assert same["answers_that_differ"] <= same["answers"] / 1000
    speed = pd.read_csv(tmp_path / "ensemble_models_per_minute.csv")
    assert (speed["models_per_minute"] > 0).all()
    assert len(pd.read_csv(tmp_path / "ensemble_ratios.csv")) == 4
    assert pd.read_csv(tmp_path / "ensemble_thousand.csv")["networks"].item() == 4


def test_the_regime_is_measured_in_speed_and_at_the_ends_of_both_parts(tmp_path):
    subprocess.run(
        [
            sys.executable,
            str(ROOT / "benchmarks" / "regime.py"),
            "--quick",
            "--out",
            str(tmp_path / "out"),
            "--runs",
            str(tmp_path / "runs"),
        ],
        check=True,
        capture_output=True,
        cwd=tmp_path,
    )
    speed = pd.read_csv(tmp_path / "out" / "regime_speed.csv")
    assert speed["network"].tolist() == ["A", "B"]
    # The same work as when the networks were compared.
    compared = pd.read_csv(ROOT / "results" / "pilot" / "regime.csv")[:2]
    for column in ("network", "whitening layer", "channels of the blocks"):
        assert speed[column].tolist() == compared[column].tolist()
    for column in ("parameters (thousands)", "forward pass (GFLOP an image)"):
        assert speed[column].to_numpy() == pytest.approx(
            compared[column].to_numpy(), rel=0.003
        )
    rates = speed.filter(like="images/s")
    assert rates.shape == (2, 3) and (rates > 0).all().all()
    parts = pd.read_csv(tmp_path / "out" / "regime_accuracy.csv")
    assert parts["last epoch"].tolist() == [1, 2]
    shares = parts.filter(like="(%)").drop(columns="labels replaced (%)")
    assert shares.shape == (2, 3)
    assert ((shares >= 0) & (shares <= 100)).all().all()


def test_what_is_there_of_the_regime_is_read_without_training(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    regime = importlib.import_module("regime")
    small = regime.QUICK.changed(num_train=200)
    assert regime.accuracy([small], tmp_path, finished=True).empty
    trained = regime.accuracy([small], tmp_path)
    monkeypatch.setattr(regime, "fit", None)  # nothing may be trained now
    pd.testing.assert_frame_equal(
        regime.accuracy([small, small.changed(seed=1)], tmp_path, finished=True),
        trained,
    )


def test_the_chosen_regime_is_the_row_of_the_comparison(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    regime = importlib.import_module("regime")
    table = pd.read_csv(ROOT / "results" / "pilot" / "regime.csv")
    row = table[table["network"] == "W (chosen)"].iloc[0]
    first, widths = regime.SHAPES["W"]
    model = networks.build(
        regime.CHOSEN.model,
        num_classes=10,
        input_shape=(3, 32, 32),
        width=regime.CHOSEN.width,
    )
    assert ", ".join(map(str, widths)) == row["channels of the blocks"]
    assert model.whitening.weight.shape == (first[2], 3, first[0], first[0])
    assert [b.conv2.out_channels for b in model.blocks] == list(widths)
    parameters = sum(p.numel() for p in model.parameters())
    assert parameters / 1000 == pytest.approx(row["parameters (thousands)"], abs=1)


def test_forms_of_extraction_agree_and_are_timed_side_by_side(tmp_path):
    words = ["--quick", "--out", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / "extraction.py"), *words],
        check=True,
        capture_output=True,
        text=True,
    )
    table = pd.read_csv(tmp_path / "extraction.csv").set_index("form")
    assert table.loc["as given", "times as fast"] == 1
    forms = {"channels last", "folded batch norm", "folded, channels last (used)"}
    assert forms <= set(table.index)
    exact = table.drop("folded, channels last, bfloat16", errors="ignore")
    assert (exact["largest deviation, relative"] < 1e-3).all()
    assert (table["lowest"] <= table["highest"]).all()
    for name in ("folded, channels last, torch.compile", "onnxruntime"):
        assert name in table.index or f"{name}: left out (" in done.stdout
    assert (tmp_path / "extraction_machine.json").exists()


@pytest.fixture
def gpu(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module("gpu")


def test_the_steps_on_a_gpu_are_in_order_and_their_records_are_known(gpu):
    names = list(gpu.steps())
    assert names[0] == "the CUDA tests"
    assert names[-2:] == list(gpu.RECORDS)


def test_a_step_that_fails_ends_the_work_and_one_out_of_time_goes_on_later(
    gpu, tmp_path
):
    def python(code: str) -> list[str]:
        return [sys.executable, "-c", code]

    mark = tmp_path / "mark"
    touch = python(f"open({str(mark)!r}, 'w')")
    assert gpu.work({"bad": python("raise SystemExit(7)"), "next": touch}, 1) == 1
    assert not mark.exists()
    slow = python("import time; time.sleep(60)")
    assert gpu.work({"slow": slow, "next": touch}, 1 / 60) == 3
    assert not mark.exists()
    assert gpu.work({"next": touch}, 1) == 0 and mark.exists()


def test_without_a_gpu_the_command_says_so(gpu, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["gpu.py"])
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert gpu.main() == 2
    assert "there is none here" in capsys.readouterr().out


def test_what_the_command_finds_is_compared_with_the_truth(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    own_images = importlib.import_module("own_images")
    vectors = tmp_path / "vectors.npy"
    images = own_images.data.load("digits").select(np.arange(150))
    rng = np.random.default_rng(0)
    centres = 3 * rng.standard_normal((10, 8))
    x = centres[images.labels] + rng.standard_normal((150, 8))
    np.save(vectors, x.astype(np.float32))
    words = ["--features", str(vectors), "--minutes", "30", "--plant", "0"]
    found = own_images.measure("digits", 0.06, words, 150)
    assert found["wrong labels"] == 9 and found["images"] == 150
    assert found["precision"] > 0.7 and found["AUROC"] > 0.9
    assert found["estimated"] is None and found["minutes"] >= 0
