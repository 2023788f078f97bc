"""The callbacks, in the trainers that they are for."""

import logging
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader

from curvlib.runs import callbacks
from curvlib.runs.callbacks import (
    embedded,
    from_embedded,
    lightning_callback,
    trainer_callback,
)
from curvlib.runs.recorder import Recorder
from curvlib.trace import COLUMNS, Trace

N, C = 25, 3  # odd: two processes get shares of two sizes
ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        yield
    torch.set_num_threads(before)


def new_recorder(folder, labels) -> Recorder:
    return Recorder(folder, labels=labels, num_probes=2)


def run_by_two(tmp_path, call: str) -> Path:
    """Run a call of this file in two processes; it gets the folder of the trace."""
    script = tmp_path / "script.py"
    script.write_text(
        "import sys, test_callbacks\n"
        "if __name__ == '__main__':\n"
        f"    test_callbacks.{call}(sys.argv[1])\n"
    )
    path = os.pathsep.join([str(ROOT / "tests"), str(ROOT)])
    run = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    done = subprocess.run(
        [*run, "--nproc-per-node=2", str(script), str(tmp_path / "trace")],
        capture_output=True,
        text=True,
        timeout=280,
        env=os.environ | {"PYTHONPATH": path, "CUDA_VISIBLE_DEVICES": ""},
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return tmp_path / "trace"


def check(trace: Trace, epochs: int, labels) -> None:
    assert trace.epochs.tolist() == list(range(1, epochs + 1))
    assert trace.labels.tolist() == [int(label) for label in labels]
    for name in COLUMNS:
        assert np.isfinite(trace.read(name)).all()
    assert (trace.read("mean_hvp_norm") > 0).all()


# -------------------------------------------------------------------------- Lightning


def table() -> list[tuple[torch.Tensor, int]]:
    x = torch.randn(N, 4, generator=torch.Generator().manual_seed(0))
    return list(zip(x, x[:, :C].argmax(1).tolist(), strict=True))


def labels_of(rows) -> list[int]:
    return [label for _, label in rows]


def module_of(lightning):
    class Module(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.net = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, C))

        def forward(self, x):
            return self.net(x)

        def training_step(self, batch, _):
            assert self.training
            x, y = batch
            return F.cross_entropy(self(x), y)

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.1)

    return Module()


def fit_by_lightning(folder, epochs: int = 2, checkpoint=None, **options):
    import lightning

    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    rows = table()
    recorder = new_recorder(folder, labels_of(rows))
    trainer = lightning.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[lightning_callback(recorder, rows)],
        **options,
    )
    module = module_of(lightning)
    trainer.fit(module, DataLoader(rows, batch_size=5), ckpt_path=checkpoint)
    return trainer, module, recorder


def fit_by_two_of_lightning(folder) -> None:
    fit_by_lightning(folder, strategy="ddp", devices=2)


@pytest.mark.filterwarnings("ignore")  # Lightning's advice on workers and the like
def test_lightning_leaves_a_trace_of_its_model(tmp_path):
    pytest.importorskip("lightning", reason="pip install 'curvlib[loops]'")
    _, module, recorder = fit_by_lightning(tmp_path / "a")
    check(recorder.trace, 2, labels_of(table()))
    again = new_recorder(tmp_path / "b", labels_of(table()))
    again.record(2, module, again.batches(table()))
    for name in COLUMNS:
        np.testing.assert_array_equal(
            again.trace.read(name)[0], recorder.trace.read(name)[1]
        )


@pytest.mark.filterwarnings("ignore")
def test_lightning_goes_on_from_a_checkpoint_and_never_mixes_two_runs(tmp_path):
    pytest.importorskip("lightning", reason="pip install 'curvlib[loops]'")
    trainer, *_ = fit_by_lightning(tmp_path / "a", epochs=1)
    trainer.save_checkpoint(tmp_path / "one.ckpt")
    _, _, whole = fit_by_lightning(tmp_path / "whole", epochs=3)
    *_, resumed = fit_by_lightning(
        tmp_path / "a", epochs=3, checkpoint=tmp_path / "one.ckpt"
    )
    np.testing.assert_allclose(
        resumed.trace.read("loss"), whole.trace.read("loss"), rtol=1e-4
    )
    with pytest.raises(ValueError, match="has 3 epochs of an earlier run"):
        fit_by_lightning(tmp_path / "a")
    assert resumed.trace.epochs.tolist() == [1, 2, 3]


def test_two_processes_of_lightning_record_each_sample_once(tmp_path):
    pytest.importorskip("lightning", reason="pip install 'curvlib[loops]'")
    trace = Trace.open(run_by_two(tmp_path, "fit_by_two_of_lightning"))
    check(trace, 2, labels_of(table()))
    assert trace.info["processes"] == 2


# ----------------------------------------------------------------------- Hugging Face


def texts() -> list[dict]:
    rng = np.random.default_rng(0)
    rows = []
    for i in range(N):
        ids = rng.integers(1, 40, 6)
        mask = np.ones(6, int)
        if i % 2:  # shorter than the others
            ids[4:], mask[4:] = 0, 0
        rows.append(
            {"input_ids": ids, "attention_mask": mask, "label": int(ids[0] % C)}
        )
    return rows


def bert():
    import transformers

    torch.manual_seed(0)
    return transformers.BertForSequenceClassification(
        transformers.BertConfig(
            vocab_size=40,
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=32,
            num_labels=C,
        )
    )


def fit_by_trainer(folder, epochs: int = 2, checkpoint=None, model=None, rows=None):
    import transformers

    rows = rows or texts()
    recorder = new_recorder(folder, [row["label"] for row in rows])
    trainer = transformers.Trainer(
        model or bert(),
        transformers.TrainingArguments(
            output_dir=str(Path(folder).parent / "checkpoints"),
            num_train_epochs=epochs,
            per_device_train_batch_size=5,
            learning_rate=1e-2,
            lr_scheduler_type="constant",
            save_strategy="epoch",
            report_to=[],
            use_cpu=True,
            disable_tqdm=True,
        ),
        train_dataset=rows,
        callbacks=[trainer_callback(recorder, rows)],
    )
    trainer.train(resume_from_checkpoint=checkpoint)
    return trainer, recorder


def fit_by_two_of_trainer(folder) -> None:
    fit_by_trainer(folder)


def needed():
    pytest.importorskip("transformers", reason="pip install 'curvlib[loops]'")
    pytest.importorskip("accelerate", reason="pip install 'curvlib[loops]'")


def test_the_trainer_of_hugging_face_leaves_a_trace_around_token_embeddings(tmp_path):
    needed()
    trainer, recorder = fit_by_trainer(tmp_path / "a")
    check(recorder.trace, 2, [row["label"] for row in texts()])
    model, (row, *_) = trainer.model.eval(), texts()[1:]  # a padded one
    with torch.no_grad():
        batch = {k: torch.tensor(v)[None] for k, v in row.items() if k != "label"}
        loss = F.cross_entropy(model(**batch).logits, torch.tensor([row["label"]]))
    assert recorder.trace.read("loss")[1, 1] == pytest.approx(loss.item(), rel=1e-4)


def test_logits_of_embeddings_are_those_of_token_ids_and_padding_has_no_gradient():
    needed()
    model = bert().eval()
    keys = ("input_ids", "attention_mask")
    batch = {k: torch.tensor(np.stack([t[k] for t in texts()])) for k in keys}
    x = embedded(model, batch).detach().requires_grad_()
    logits = from_embedded(model, x)
    torch.testing.assert_close(logits, model(**batch).logits)
    (gradient,) = torch.autograd.grad(logits[:, 0].sum(), x)
    assert (gradient[..., -1] == 0).all()
    assert (gradient[1::2, 4:] == 0).all() and (gradient[0::2, :, :-1] != 0).any()
    whole = embedded(model, {"input_ids": batch["input_ids"]})
    assert (whole[..., -1] == 1).all()  # without a mask every token counts


def test_images_are_scored_around_their_pixels(tmp_path):
    needed()
    import transformers

    generator = torch.Generator().manual_seed(0)
    rows = [
        {"pixel_values": torch.randn(3, 8, 8, generator=generator), "label": i % C}
        for i in range(N)
    ]
    model = transformers.ViTForImageClassification(
        transformers.ViTConfig(
            image_size=8,
            patch_size=4,
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=32,
            num_labels=C,
        )
    )
    _, recorder = fit_by_trainer(tmp_path / "a", epochs=1, model=model, rows=rows)
    check(recorder.trace, 1, [row["label"] for row in rows])


def test_the_trainer_goes_on_from_a_checkpoint_and_never_mixes_two_runs(tmp_path):
    needed()
    fit_by_trainer(tmp_path / "a", epochs=3)
    checkpoints = tmp_path / "checkpoints"
    first = min(checkpoints.iterdir(), key=lambda p: int(p.name.split("-")[1]))
    _, recorder = fit_by_trainer(tmp_path / "a", epochs=2, checkpoint=str(first))
    assert recorder.trace.epochs.tolist() == [1, 2]
    with pytest.raises(ValueError, match="has 2 epochs of an earlier run"):
        fit_by_trainer(tmp_path / "a")


def test_two_processes_of_the_trainer_record_each_sample_once(tmp_path):
    needed()
    trace = Trace.open(run_by_two(tmp_path, "fit_by_two_of_trainer"))
    check(trace, 2, [row["label"] for row in texts()])
    assert trace.info["processes"] == 2


def test_inputs_of_an_unknown_name_or_half_an_answer_are_refused(tmp_path):
    needed()
    recorder = new_recorder(tmp_path / "a", [0, 1])
    with pytest.raises(ValueError, match="inputs and forward go together"):
        trainer_callback(recorder, [], inputs=embedded)
    with pytest.raises(ValueError, match="has x, mask, neither input_ids nor pixel"):
        callbacks._inputs(nn.Identity(), {"x": 1, "mask": 2})


@pytest.mark.parametrize(
    ("make", "library"),
    [(lightning_callback, "lightning"), (trainer_callback, "transformers")],
)
def test_a_library_that_is_missing_is_named(tmp_path, monkeypatch, make, library):
    monkeypatch.setitem(sys.modules, library, None)
    monkeypatch.setitem(sys.modules, f"{library}.pytorch", None)
    with pytest.raises(ImportError, match=rf"needs {library}: .*curvlib\[loops\]"):
        make(new_recorder(tmp_path / "a", [0, 1]), [])
