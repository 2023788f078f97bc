import argparse
import random
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from test_folders import place  # noqa: F401, a fixture
from torchvision.models import resnet18

from curvlib import data
from curvlib.__main__ import main
from curvlib.runs import checkpoints, networks, scoring, training
from curvlib.runs.checkpoints import files_in, load_weights, score_checkpoints
from curvlib.runs.settings import TrainConfig
from curvlib.runs.training import fit

CONFIG = TrainConfig(
    model="slim_resnet", width=8, num_train=60, epochs=2, batch_size=32, num_probes=2
)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run whose weights were kept after each epoch, as scripts do."""
    folder = tmp_path_factory.mktemp("checkpoints")

    def keep(epoch, model):
        torch.save(model.state_dict(), folder / f"epoch_{epoch + 8}.pt")  # 9 and 10

    trace = fit(CONFIG, runs=folder / "runs", device="cpu", on_epoch=keep)
    return trace, folder


def test_scores_of_stored_weights_are_those_taken_during_training(run, tmp_path):
    trace, folder = run
    images, _ = training.prepare(CONFIG)
    files = files_in(folder)
    assert [file.name for file in files] == ["epoch_9.pt", "epoch_10.pt"]
    stored = score_checkpoints(
        files, images, model="slim_resnet", width=8, num_probes=2, runs=tmp_path,
        device="cpu",
    )  # fmt: skip
    assert stored.epochs.tolist() == [1, 2]
    for name in ("loss", "squared_frobenius_norm", "correct"):
        np.testing.assert_array_equal(stored.read(name), trace.read(name))
    # What was scored is read: nothing could score it again here.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scoring, "score", None)
        again = score_checkpoints(
            files, images, model="slim_resnet", width=8, num_probes=2, runs=tmp_path,
            device="cpu",
        )  # fmt: skip
    assert again.folder == stored.folder


def test_a_checkpoint_that_is_added_costs_its_own_scoring_alone(
    run, tmp_path, monkeypatch
):
    _, folder = run
    images, _ = training.prepare(CONFIG)
    nine, ten = files_in(folder)
    scored, score = [], scoring.score

    def counted(network, images, *, epoch, **how):
        scored.append(epoch)
        return score(network, images, epoch=epoch, **how)

    monkeypatch.setattr(scoring, "score", counted)

    def trace(*files, runs="runs", seed=0):
        scored.clear()
        return score_checkpoints(
            files, images, model="slim_resnet", width=8, num_probes=2, device="cpu",
            runs=tmp_path / runs, seed=seed,
        )  # fmt: skip

    whole = trace(nine, ten, runs="other")
    first = trace(nine)
    added = trace(nine, ten)
    assert scored == [2]
    assert added.folder != first.folder and first.epochs.tolist() == [1]
    for epoch in (1, 2):
        name = f"train/epoch_{epoch:04d}.parquet"
        assert (added.folder / name).read_bytes() == (whole.folder / name).read_bytes()
    trace(nine, ten, seed=1)  # other probes
    assert scored == [1, 2]
    trace(ten, nine)  # in another place: other probes
    assert scored == [1, 2]
    (first.folder / "config.json").write_text("{")  # damage elsewhere is no reason
    (whole.folder / "train/epoch_0001.parquet").write_bytes(b"PAR1")
    trace(nine, nine)  # the one place from the second trace, the other from the last
    assert scored == []
    (added.folder / "train/epoch_0002.parquet").write_bytes(b"PAR1")
    trace(ten, ten)  # a damaged file is scored again
    assert scored == [2]


def test_the_command_scores_a_folder_of_checkpoints(run, tmp_path, capsys):
    _, folder = run
    command = [
        "score", f"--checkpoints={folder}", "--dataset=digits", "--num-train=60",
        "--model=slim_resnet", "--width=8", "--num-probes=2", f"--runs={tmp_path}",
    ]  # fmt: skip
    assert main(command) == 0
    said = capsys.readouterr()
    assert "scored epoch_10.pt, 2 of 2" in said.err
    assert said.out.startswith(str(tmp_path / "scored-digits-"))
    assert main([*command, "--mean", "0.5"]) == 2
    assert "--mean and --std go together" in capsys.readouterr().err
    for scaling in (["--mean", "0.5", "0.5", "--std", "0.2", "0.2"],
                    ["--mean", "0.5", "--std", "0"]):  # fmt: skip
        assert main([*command, *scaling]) == 2
        assert "need one value for each of 1 channels" in capsys.readouterr().err
    assert main([*command, "--num-train=0"]) == 2
    assert "num_train must be at least 1, got 0" in capsys.readouterr().err
    assert main([*command, "--seed=-1"]) == 2
    assert "seed 0 or more" in capsys.readouterr().err
    assert main([*command, "--device=foo"]) == 2
    assert "device 'foo' cannot be used here" in capsys.readouterr().err
    assert main([*command, "--width=16"]) == 2
    assert "holds another network" in capsys.readouterr().err


def test_weights_of_torchvision_are_scored_on_photographs(place, tmp_path):  # noqa: F811
    torch.manual_seed(0)
    network = resnet18(num_classes=2)
    torch.save({"state_dict": network.state_dict()}, tmp_path / "resnet18.pth")
    images = data.load(str(place), image_size=32)
    trace = score_checkpoints(
        files_in(tmp_path / "resnet18.pth"), images, model="torchvision/resnet18",
        num_probes=1, runs=tmp_path / "runs", device="cpu",
    )  # fmt: skip
    assert (trace.info["mean"], trace.info["std"]) == checkpoints.IMAGENET_SCALING
    x = data.normalise(images.tensor(), *checkpoints.IMAGENET_SCALING)
    with torch.no_grad():
        logits = network.eval()(x)
    loss = torch.nn.functional.cross_entropy(
        logits, torch.from_numpy(images.labels), reduction="none"
    )
    np.testing.assert_allclose(trace.read("loss")[0], loss, rtol=1e-4)


class Payload:
    def __reduce__(self):
        return (print, ("this must never be run",))


def test_files_that_hold_more_than_tensors_are_refused(tmp_path, capsys):
    good = {"head.weight": torch.zeros(2)}
    torch.save({"model": good, "note": Payload()}, tmp_path / "bad.pt")
    with pytest.raises(ValueError, match=r"is refused: .* more than tensors"):
        load_weights(tmp_path / "bad.pt")
    assert "never be run" not in capsys.readouterr().out
    (tmp_path / "cut.pt").write_bytes((tmp_path / "bad.pt").read_bytes()[:100])
    with pytest.raises(ValueError, match="is refused: it is damaged"):
        load_weights(tmp_path / "cut.pt")
    with pytest.raises(FileNotFoundError, match="there is no checkpoint"):
        load_weights(tmp_path / "none.pt")
    for content in ({}, {"epoch": 3}, torch.zeros(2), {"model": {"a": 1}}):
        torch.save(content, tmp_path / "other.pt")
        with pytest.raises(ValueError, match="holds no state dict"):
            load_weights(tmp_path / "other.pt")


@pytest.mark.parametrize("key", ["", "model", "state_dict", "model_state_dict"])
def test_a_state_dict_is_found_wherever_scripts_put_it(tmp_path, key):
    weights = {"module.head.weight": torch.ones(2)}
    torch.save({key: weights, "epoch": 3} if key else weights, tmp_path / "a.pt")
    assert list(load_weights(tmp_path / "a.pt")) == ["head.weight"]


def test_a_folder_without_checkpoints_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(FileNotFoundError, match=r"no checkpoint in .*\.pt"):
        files_in(tmp_path)
    images = data.load("digits")
    with pytest.raises(ValueError, match="no checkpoint to score"):
        score_checkpoints([], images, model="mlp")


def test_weights_of_another_network_are_refused_before_any_is_scored(run, tmp_path):
    _, folder = run
    images, _ = training.prepare(CONFIG)
    other = networks.build("mlp", num_classes=10, input_shape=(1, 8, 8), width=8)
    torch.save(other.state_dict(), tmp_path / "z_99.pt")
    files = [*files_in(folder), tmp_path / "z_99.pt"]
    with pytest.raises(ValueError, match=r"z_99.pt holds another network: it lacks"):
        score_checkpoints(
            files, images, model="slim_resnet", width=8, runs=tmp_path / "runs"
        )
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("name", ["mobilenet_v3_small", "convnext_tiny"])
def test_networks_with_dropout_are_scored_but_not_trained(place, tmp_path, name):  # noqa: F811
    config = TrainConfig(
        dataset=str(place), image_size=32, model=f"torchvision/{name}", epochs=1
    )
    with pytest.raises(ValueError, match=r"has dropout, whose masks .* curvlib score"):
        fit(config, runs=tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_a_network_of_torchvision_is_known_by_its_name(place, tmp_path):  # noqa: F811
    config = TrainConfig(
        dataset=str(place), image_size=32, model="torchvision/resnet18", epochs=1,
        num_probes=1, batch_size=4,
    )  # fmt: skip
    trace = fit(config, runs=tmp_path, device="cpu")
    assert trace.folder.name.startswith("photos-resnet18-")
    own = {n: v.shape for n, v in resnet18(num_classes=2).state_dict().items()}
    found = training.trained_model(trace).state_dict()
    assert {n: v.shape for n, v in found.items()} == own
    with pytest.raises(ValueError, match=r"model must be one of .*torchvision/"):
        TrainConfig(model="torchvision/resnet_nonsense")
    with pytest.raises(ValueError, match="activation must be 'relu'"):
        TrainConfig(model="torchvision/resnet18", activation="gelu")
    with pytest.raises(ValueError, match="unknown model"):
        networks.build("resnet19", num_classes=2, input_shape=(3, 8, 8), width=8)


def test_checkpoints_come_in_the_order_of_the_numbers_in_their_names(tmp_path):
    names = [
        "epoch=1-loss=0.5.pt", "epoch=2-loss=0.25.pt", "epoch=10-loss=0.3.PT",
        "model_ep9_seed1.pth", "model_ep10_seed1.pth",
    ]  # fmt: skip
    for name in names:
        (tmp_path / name).write_bytes(b"")
    assert [file.name for file in files_in(tmp_path)] == names


# --------------------------------------------------- folders as other tools leave them


def small(number: int = 0) -> torch.nn.Module:
    """A network, other weights for each number."""
    return networks.build(
        "mlp", num_classes=10, input_shape=(1, 8, 8), width=8, seed=number
    )


def prefixed(prefix: str, number: int = 0) -> dict[str, torch.Tensor]:
    return {f"{prefix}{n}": v for n, v in small(number).state_dict().items()}


def scored(where: Path, runs: Path):
    """The trace of 20 samples at what is found in a place."""
    images = data.load("digits").select(np.arange(20))
    return score_checkpoints(
        files_in(where), images, model="mlp", width=8, num_probes=1, runs=runs,
        device="cpu",
    )  # fmt: skip


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    """Losses at the weights 1, 2 and 3, [3, 20]."""
    folder = tmp_path_factory.mktemp("plain")
    for number in (1, 2, 3):
        torch.save(small(number).state_dict(), folder / f"epoch_{number}.pt")
    return scored(folder, folder / "runs").read("loss")


@pytest.mark.parametrize(
    "prefix",
    [
        "_orig_mod.",
        "module.",
        "model.",
        "module._orig_mod.",
        "_orig_mod.module.",
        "model._orig_mod.module.",
        "_orig_mod._orig_mod.model.model.",
        "_fsdp_wrapped_module.model.",
    ],
)
def test_prefixes_of_wrappers_are_taken_off_in_any_combination(
    prefix, tmp_path, expected
):
    torch.save({"state_dict": prefixed(prefix, 1)}, tmp_path / "a_1.pt")
    assert load_weights(tmp_path / "a_1.pt").keys() == small().state_dict().keys()
    found = scored(tmp_path, tmp_path / "runs").read("loss")
    np.testing.assert_array_equal(found, expected[:1])


def test_networks_wrapped_by_torch_itself_are_read(tmp_path, expected):
    network = small(1)
    averaged = torch.optim.swa_utils.AveragedModel(network)  # and its n_averaged
    shared = torch.nn.DataParallel(network)
    compiled = torch.compile(shared)  # nothing is compiled before a call
    inside = small(1)
    inside.hidden = torch.nn.DataParallel(
        inside.hidden
    )  # as ImageNet's VGG was trained
    for number, kind in enumerate((averaged, shared, compiled, inside), start=1):
        torch.save(kind.state_dict(), tmp_path / f"kind_{number}.pt")
    assert "n_averaged" in averaged.state_dict()
    assert any(name.startswith("_orig_mod.module.") for name in compiled.state_dict())
    assert any(".module." in name for name in inside.state_dict())
    found = scored(tmp_path, tmp_path / "runs").read("loss")
    np.testing.assert_array_equal(found, expected[[0, 0, 0, 0]])


def test_a_network_among_others_is_found_unless_there_are_two_of_its_kind(
    tmp_path, expected
):
    beside = {"criterion.weight": torch.ones(3), "head.bias": torch.ones(10)}
    torch.save(prefixed("student.", 1) | beside, tmp_path / "a_1.pt")
    found = scored(tmp_path, tmp_path / "runs").read("loss")
    np.testing.assert_array_equal(found, expected[:1])
    both = prefixed("student.", 1) | prefixed("teacher.", 2)
    torch.save(both, tmp_path / "a_2.pt")
    with pytest.raises(
        ValueError, match=r"a_2\.pt holds several networks .*student.*te"
    ):
        scored(tmp_path, tmp_path / "runs")
    # What Lightning calls model is the network, whatever is averaged beside it.
    torch.save(prefixed("model.", 2) | prefixed("ema.", 1), tmp_path / "a_2.pt")
    found = scored(tmp_path, tmp_path / "runs").read("loss")
    np.testing.assert_array_equal(found, expected[:2])


def test_a_folder_of_timm_is_scored_at_its_epochs_alone(tmp_path, expected, capsys):
    folder = tmp_path / "timm"
    folder.mkdir()
    optimizer = torch.optim.SGD(small().parameters(), lr=0.1)

    def save(name, number):
        state = {
            "epoch": number, "arch": "mlp", "state_dict": prefixed("", number),
            "state_dict_ema": prefixed("", 9), "optimizer": optimizer.state_dict(),
            "args": argparse.Namespace(model="mlp", lr=0.1, output=Path("out")),
            "metric": np.float64(0.5), "version": 2,
        }  # fmt: skip
        torch.save(state, folder / name)

    for number in (1, 2, 3):
        save(f"checkpoint-{number}.pth.tar", number)
    (folder / "last.pth.tar").hardlink_to(folder / "checkpoint-3.pth.tar")
    shutil.copy(folder / "checkpoint-2.pth.tar", folder / "model_best.pth.tar")
    save("recovery-3-150.pth.tar", 7)  # in the middle of an epoch
    (folder / "summary.csv").write_text("epoch,loss")
    trace = scored(folder, tmp_path / "runs")
    np.testing.assert_array_equal(trace.read("loss"), expected)
    told = capsys.readouterr().err
    assert "left out last.pth.tar: a copy of checkpoint-3.pth.tar" in told
    assert "left out model_best.pth.tar: a copy of checkpoint-2.pth.tar" in told
    assert "left out recovery-3-150.pth.tar: it is unknown after which epoch" in told
    # The best three are kept; the last may be another one, and then comes last.
    (folder / "checkpoint-3.pth.tar").unlink()
    trace = scored(folder, tmp_path / "runs")
    np.testing.assert_array_equal(trace.read("loss"), expected)
    assert trace.config["checkpoints"][-1] == "last.pth.tar"


def test_a_folder_of_lightning_is_scored_at_its_epochs_alone(tmp_path, expected):
    folder = tmp_path / "lightning"
    folder.mkdir()

    def save(name, number, **more):
        callback = {"best_model_score": torch.tensor(0.5), **more}
        state = {
            "epoch": number, "global_step": number * 100,
            "callbacks": {"ModelCheckpoint{}": callback},
            "pytorch-lightning_version": "2.5.0", "loops": {"fit_loop": {}},
            "state_dict": prefixed("model.", number) | {"loss.weight": torch.ones(10)},
            "optimizer_states": [], "lr_schedulers": [{"last_epoch": number}],
            "hyper_parameters": {"lr": 0.1, "data": Path("data")},
        }  # fmt: skip
        torch.save(state, folder / name)

    for number in (1, 2, 3):
        save(f"epoch={number}-step={number}00.ckpt", number)
    save("last.ckpt", 3, last_model_path="other bytes, the same weights")
    save("best-v1.ckpt", 8)
    trace = scored(folder, tmp_path / "runs")
    np.testing.assert_array_equal(trace.read("loss"), expected)


def test_folders_of_hugging_faces_trainer_are_its_epochs(tmp_path, expected, capsys):
    folder = tmp_path / "trainer"
    network = small()
    optimizer = torch.optim.AdamW(network.parameters())
    network(torch.zeros(1, 1, 8, 8)).sum().backward()
    optimizer.step()
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1)
    for number, step in ((1, 500), (2, 1000), (3, 1500)):
        inside = folder / f"checkpoint-{step}"
        inside.mkdir(parents=True)
        torch.save(prefixed("model.", number), inside / "pytorch_model.bin")
        torch.save(optimizer.state_dict(), inside / "optimizer.pt")
        torch.save(schedule.state_dict(), inside / "scheduler.pt")
        torch.save({"scale": 1.0, "growth_factor": 2.0}, inside / "scaler.pt")
        states = {"python": random.getstate(), "numpy": np.random.get_state(),
                  "cpu": torch.random.get_rng_state()}  # fmt: skip
        torch.save(states, inside / "rng_state.pth")
        torch.save(Payload(), inside / "training_args.bin")
        (inside / "trainer_state.json").write_text("{}")
    torch.save(prefixed("model.", 3), folder / "pytorch_model.bin")
    torch.save(Payload(), folder / "training_args.bin")
    trace = scored(folder, tmp_path / "runs")
    np.testing.assert_array_equal(trace.read("loss"), expected)
    assert trace.config["checkpoints"][1] == "checkpoint-1000/pytorch_model.bin"
    told = capsys.readouterr()
    assert "left out pytorch_model.bin: a copy of checkpoint-1500/pytorch_m" in told.err
    assert "never be run" not in told.out
    one = scored(folder / "checkpoint-1000", tmp_path / "runs")
    np.testing.assert_array_equal(one.read("loss"), expected[1:2])
    torch.save(prefixed("", 9), folder / "checkpoint-500" / "other.bin")
    with pytest.raises(ValueError, match=r"checkpoint-500 holds .* of different w"):
        files_in(folder)


def test_states_under_other_names_and_hidden_files_are_no_epochs(tmp_path):
    torch.save(prefixed(""), tmp_path / "net3.pt")
    optimizer = torch.optim.SGD(small().parameters(), lr=0.1, momentum=0.9)
    torch.save(optimizer.state_dict(), tmp_path / "opt3.pt")
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1)
    torch.save(schedule.state_dict(), tmp_path / "sched3.pt")
    for name in ("rng_state_0.pth", "epoch_3_optimizer.pt", "random_states_0.pt"):
        torch.save({"a": torch.ones(2)}, tmp_path / name)
    (tmp_path / "._net3.pt").write_bytes(b"\0\5\x16\7")  # of macOS
    (tmp_path / "net4.pt").mkdir()
    assert [file.name for file in files_in(tmp_path)] == ["net3.pt"]
    # A word in a longer name says little: what the file holds decides.
    torch.save(prefixed("", 2), tmp_path / "net4_optim=sgd.pt")
    torch.save(prefixed("", 3), tmp_path / "net5_optim=sgd.pt")
    (tmp_path / "net3.pt").unlink()
    assert [file.name for file in files_in(tmp_path)] == [
        "net4_optim=sgd.pt", "net5_optim=sgd.pt"
    ]  # fmt: skip
    for file in tmp_path.glob("net?_*"):
        file.unlink()
    with pytest.raises(FileNotFoundError, match=r"no checkpoint in .* except \._net"):
        files_in(tmp_path)


def test_the_command_scores_no_copy_as_a_further_epoch(run, tmp_path, capsys):
    _, plain = run
    folder = tmp_path / "kept"
    folder.mkdir()
    for file in plain.glob("*.pt"):
        shutil.copy(file, folder)
    command = [
        "score", "--dataset=digits", "--num-train=60", "--model=slim_resnet",
        "--width=8", "--num-probes=2", "--device=cpu", f"--runs={tmp_path / 'runs'}",
    ]  # fmt: skip
    assert main([*command, f"--checkpoints={folder}"]) == 0
    before = capsys.readouterr().out
    (folder / "last.pt").symlink_to("epoch_10.pt")
    (folder / "best.pt").symlink_to("epoch_7.pt")  # gone since
    shutil.copy(folder / "epoch_9.pt", folder / "model_best.pth")
    weights = torch.load(folder / "epoch_10.pt")
    torch.save({"model": weights, "epoch": 10}, folder / "latest.pt")  # other bytes
    torch.save({"state": {}, "param_groups": []}, folder / "optimizer.pt")
    assert main([*command, f"--checkpoints={folder}"]) == 0
    said = capsys.readouterr()
    assert said.out == before  # the same trace, of two epochs
    assert "in this order: epoch_9.pt, epoch_10.pt" in said.err


def test_copies_alone_are_scored_once(tmp_path):
    torch.save(prefixed("", 1), tmp_path / "best.pt")
    torch.save(prefixed("module.", 1), tmp_path / "last.pt")
    assert [file.name for file in files_in(tmp_path)] == ["best.pt"]
    torch.save(prefixed("module.", 2), tmp_path / "last.pt")
    assert [file.name for file in files_in(tmp_path)] == ["best.pt", "last.pt"]


def test_a_file_whose_place_in_the_order_is_unknown_is_refused(tmp_path):
    for number in (1, 2):
        torch.save(prefixed("", number), tmp_path / f"epoch_{number}.pt")
    torch.save(prefixed("", 0), tmp_path / "init.pt")
    message = r"cannot tell where init\.pt belongs among files such as epoch_1\.pt"
    with pytest.raises(ValueError, match=message):
        files_in(tmp_path)
    (tmp_path / "init.pt").rename(tmp_path / "epoch_0.pt")
    assert [f.name for f in files_in(tmp_path)] == [
        "epoch_0.pt", "epoch_1.pt", "epoch_2.pt"
    ]  # fmt: skip


def test_a_last_file_that_was_cut_short_is_left_out_but_no_numbered_one(
    tmp_path, capsys
):
    for name in ("epoch_1.pt", "epoch_2.pt", "last.pt"):
        torch.save(prefixed("", 1), tmp_path / name)
    last = tmp_path / "last.pt"
    last.write_bytes(last.read_bytes()[:500])
    assert [f.name for f in files_in(tmp_path)] == ["epoch_1.pt", "epoch_2.pt"]
    assert f"left out last.pt: {last} is refused: it is damaged" in (
        capsys.readouterr().err
    )
    last.rename(tmp_path / "epoch_2.pt")
    with pytest.raises(ValueError, match=r"epoch_2\.pt is refused: it is damaged"):
        scored(tmp_path, tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_names_with_values_of_any_form_are_one_series(tmp_path):
    names = [
        "epoch=1-loss=0.5.ckpt", "epoch=2-loss=1e-05.ckpt", "epoch=3-loss=-2.ckpt",
        "epoch=4-loss=nan.ckpt", "epoch=10-loss=inf.ckpt",
    ]  # fmt: skip
    for number, name in enumerate(names):
        torch.save(prefixed("", number), tmp_path / name)
    assert [file.name for file in files_in(tmp_path)] == names


def test_plain_values_of_scripts_are_read_and_code_among_them_is_not(tmp_path, capsys):
    weights = {"head.weight": torch.ones(2)}
    kept = argparse.Namespace(lr=np.float32(0.1), best=np.int64(3), out=Path("out"))
    torch.save({"net": weights, "args": kept}, tmp_path / "good.pt")
    assert list(load_weights(tmp_path / "good.pt")) == ["head.weight"]
    kept.note = Payload()
    torch.save({"net": weights, "args": kept}, tmp_path / "bad.pt")
    with pytest.raises(ValueError, match=r"is refused: .* more than tensors"):
        load_weights(tmp_path / "bad.pt")
    assert "never be run" not in capsys.readouterr().out


def test_weights_are_found_though_a_description_stands_under_the_first_key(tmp_path):
    weights = {"head.weight": torch.ones(2)}
    torch.save({"model": {"depth": 3}, "state_dict": weights}, tmp_path / "a.pt")
    assert list(load_weights(tmp_path / "a.pt")) == ["head.weight"]


def test_safetensors_are_read(tmp_path, expected, monkeypatch):
    save_file = pytest.importorskip("safetensors.torch").save_file
    save_file(prefixed("model.", 1), tmp_path / "model.safetensors")
    trace = scored(tmp_path, tmp_path / "runs")
    np.testing.assert_array_equal(trace.read("loss"), expected[:1])
    (tmp_path / "model.safetensors").write_bytes(b"cut")
    with pytest.raises(ValueError, match="is refused: it is damaged"):
        load_weights(tmp_path / "model.safetensors")
    monkeypatch.setitem(sys.modules, "safetensors.torch", None)
    with pytest.raises(ValueError, match="without safetensors; pip install"):
        load_weights(tmp_path / "model.safetensors")
