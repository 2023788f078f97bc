"""Several processes on one CPU, by gloo: what torchrun starts is what is tested."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from curvlib.runs import distributed, training
from curvlib.runs.settings import TrainConfig
from curvlib.runs.training import fit
from curvlib.trace import Trace

# 300 is divided by neither 2 nor 3 chunks of 128; batches of 50 not by 3 processes.
CONFIG = TrainConfig(
    model="slim_resnet",
    width=8,
    num_train=300,
    num_heldout=130,
    epochs=3,
    batch_size=50,
    num_probes=2,
    augment=True,
    noise_rate=0.1,
    score_original_labels=True,
)
FLAGS = [
    "--model=slim_resnet",
    "--width=8",
    "--num-train=300",
    "--num-heldout=130",
    "--epochs=3",
    "--batch-size=50",
    "--num-probes=2",
    "--augment",
    "--noise-rate=0.1",
    "--score-original-labels",
]


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """As torchrun gives each process: other threads could sum in another order."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setenv("CUDA_VISIBLE_DEVICES", "")  # gloo on the CPU, wherever this runs
        yield
    torch.set_num_threads(before)


def torchrun(processes: int, *command: str, restarts: int = 0, check: bool = True):
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "torch.distributed.run",
            "--standalone",
            f"--nproc-per-node={processes}",
            f"--max-restarts={restarts}",
            *command,
        ],
        capture_output=True,
        text=True,
        timeout=240,
    )
    if check:
        assert done.returncode == 0, done.stderr[-4000:]
    return done


def parquet(runs: Path) -> dict[str, bytes]:
    return {
        str(f.relative_to(runs)): f.read_bytes()
        for f in sorted(runs.rglob("*.parquet"))
    }


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> Trace:
    return fit(CONFIG, runs=tmp_path_factory.mktemp("alone"), device="cpu")


@pytest.mark.parametrize("processes", [2, 3])
def test_scores_of_given_weights_are_those_of_one_process_byte_by_byte(
    alone, tmp_path, processes
):
    command = [
        "-m", "curvlib", "score", f"--checkpoints={alone.folder / 'checkpoint.pt'}",
        "--dataset=digits", "--num-train=300", "--model=slim_resnet", "--width=8",
        "--num-probes=2",
    ]  # fmt: skip
    subprocess.run(
        [sys.executable, *command, f"--runs={tmp_path / 'one'}"],
        check=True,
        capture_output=True,
    )
    torchrun(processes, *command, f"--runs={tmp_path / 'many'}")
    one, many = parquet(tmp_path / "one"), parquet(tmp_path / "many")
    assert len(one) == 2 and one == many


@pytest.mark.parametrize("processes", [2, 3])
def test_a_first_epoch_of_small_steps_is_that_of_one_process(tmp_path, processes):
    # Small steps, since what differs by rounding grows from step to step. What remains
    # would be far larger if a gradient were summed for averaged, a batch norm taken
    # over a share, or a sample trained on twice.
    config = CONFIG.changed(epochs=1, lr=1e-3, activation="softplus")
    one = fit(config, runs=tmp_path / "one", device="cpu")
    flags = [*FLAGS, "--epochs=1", "--lr=1e-3", "--activation=softplus"]
    torchrun(processes, "-m", "curvlib", "train", *flags, f"--runs={tmp_path / 'many'}")
    many = Trace.open(tmp_path / "many" / one.folder.name)
    assert many.info["processes"] == processes
    np.testing.assert_array_equal(many.index, one.index)
    a, b = (training.trained_model(t).state_dict() for t in (one, many))
    start = training.new_model(one).state_dict()
    for name in a:
        moved = (a[name].double() - start[name]).norm()
        rounding = 1e-6 * a[name].double().norm()
        error = (a[name].double() - b[name]).norm()
        assert error <= 1e-4 * moved + rounding, name
    for split in ("train", "heldout", "original_labels"):
        np.testing.assert_allclose(
            many.read("loss", split), one.read("loss", split), rtol=1e-5
        )
    for column in ("train_loss", "train_accuracy"):
        np.testing.assert_allclose(many.log()[column], one.log()[column], rtol=1e-5)


KILLED = """
import os, signal, sys
from pathlib import Path
from curvlib.runs import distributed, training
from tests_config import CONFIG

marker = Path(sys.argv[2])

def hook(epoch, model):
    # Once, after the second epoch, one of the processes is gone without a word.
    if epoch == 2 and distributed.rank() == int(sys.argv[3]) and not marker.exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)

with distributed.joined("cpu") as device:
    training.fit(CONFIG, runs=sys.argv[1], device=device, on_epoch=hook)
"""


@pytest.mark.parametrize("killed", [0, 1])
def test_a_run_whose_process_is_killed_goes_on_where_it_was(
    tmp_path, monkeypatch, killed
):
    (tmp_path / "tests_config.py").write_text(
        f"from curvlib.runs.training import TrainConfig\nCONFIG = {CONFIG!r}\n"
    )
    script = tmp_path / "script.py"
    script.write_text(KILLED)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    marker = tmp_path / "killed"
    done = torchrun(
        2, str(script), str(tmp_path / "broken"), str(marker), str(killed), restarts=1
    )
    assert marker.exists()
    # No epoch that was finished is trained again.
    lines = [x for x in done.stderr.splitlines() if x.startswith("digits seed 0")]
    epochs = [line.split("epoch ")[1].split("/")[0] for line in lines]
    # (The news of the second may be lost with the process, or its checkpoint.)
    assert epochs in (["1", "3"], ["1", "2", "3"], ["1", "2", "2", "3"])
    torchrun(2, str(script), str(tmp_path / "whole"), str(marker), str(killed))
    whole = parquet(tmp_path / "whole")
    assert len(whole) == 12 and parquet(tmp_path / "broken") == whole


def test_what_stops_every_process_is_said_in_one_line_each(tmp_path):
    flags = ["-m", "curvlib", "train", *FLAGS, f"--runs={tmp_path}"]
    done = torchrun(3, *flags, "--batch-size=2", check=False)
    assert done.returncode != 0
    assert "2 samples cannot be shared among 3 processes; raise batch_size" in (
        done.stderr
    )
    assert "/curvlib/" not in done.stderr  # torchrun's own traceback is enough


def test_training_that_diverges_says_so_on_every_process(tmp_path):
    flags = ["-m", "curvlib", "train", *FLAGS, f"--runs={tmp_path}"]
    done = torchrun(2, *flags, "--lr=1e30", check=False)
    assert done.returncode != 0 and "training diverged at epoch 1" in done.stderr


# The parts


EXCHANGE = """
import sys
import torch
import torch.distributed as dist
from torch import nn
from curvlib.runs import distributed

def fails_on(number):
    if distributed.rank() == number:
        raise ValueError(f"met on {number}")
    return distributed.rank()

with distributed.joined("cpu") as device:
    me, world = distributed.rank(), distributed.world()
    assert (device, world) == ("cpu", 2)
    assert distributed.on_first(lambda: ("from", me)) == ("from", 0)
    assert distributed.gathered(lambda: me * 10) == [0, 10]
    assert distributed.summed(torch.tensor([1.0, float(me)])).tolist() == [2.0, 1.0]
    for call, number in (
        (lambda: distributed.on_first(lambda: fails_on(0)), 0),
        (lambda: distributed.gathered(lambda: fails_on(1)), 1),
    ):
        expected = ValueError if me == number else distributed.ElsewhereError
        try:
            call()
        except expected as error:
            assert f"met on {number}" in str(error)
        else:
            raise AssertionError("no error")

    # Batch norm over both shares is that over the whole, values and gradients.
    torch.manual_seed(0)
    whole = torch.randn(7, 3, 2, 2, dtype=torch.float32, requires_grad=True)
    weight = torch.randn(7, 3, 2, 2)
    plain = nn.BatchNorm2d(3)
    (plain(whole) * weight).sum().backward()
    mine = whole.detach()[me::2].clone().requires_grad_()
    shared = nn.Sequential(nn.BatchNorm2d(3))
    parallel = distributed.parallel(shared, torch.device("cpu"))
    (parallel(mine) * weight[me::2]).sum().backward()
    torch.testing.assert_close(mine.grad, whole.grad[me::2])
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(shared[0].state_dict()[name], value)
    torch.testing.assert_close(shared[0].weight.grad * world, plain.weight.grad)
    shared.eval(), plain.eval()
    torch.testing.assert_close(shared(whole), plain(whole))
"""


def test_processes_exchange_results_errors_and_batch_statistics(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(EXCHANGE)
    torchrun(2, str(script))


def test_one_process_alone_is_left_as_it_is():
    model = nn.Sequential(nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1))
    assert distributed.parallel(model, torch.device("cpu")) is model
    assert type(model[1]) is nn.BatchNorm2d
    assert distributed.on_first(lambda: 3) == 3
    assert distributed.gathered(lambda: 3) == [3]
    assert distributed.summed(torch.ones(2)).tolist() == [1, 1]
    assert "LOCAL_RANK" not in os.environ
    with distributed.joined("cpu") as device:
        assert device == "cpu" and distributed.world() == 1
    with pytest.raises(ZeroDivisionError):
        distributed.on_first(lambda: 1 / 0)
