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
    assert "is of another network" in capsys.readouterr().err


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
    with pytest.raises(ValueError, match=r"z_99.pt is of another network: it lacks"):
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
        fit(config, runs=tmp_path)


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
    with pytest.raises(ValueError, match="activation must stay 'relu'"):
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
