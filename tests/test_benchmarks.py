import subprocess
import sys
from pathlib import Path

import pandas as pd

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
    assert (pd.read_csv(tmp_path / "share_of_peak.csv")["share"] > 0).all()
    assert len(pd.read_csv(tmp_path / "memory_and_linearity.csv")) == 3
