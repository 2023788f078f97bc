"""A trace from a loop that curvlib does not own."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import curvlib
from curvlib import metrics, scores
from curvlib.curvature import input_curvature
from curvlib.data import normalise
from curvlib.runs import networks
from curvlib.runs.recorder import Recorder
from curvlib.runs.scoring import stream
from curvlib.runs.settings import SCHEDULES, TrainConfig
from curvlib.runs.training import fit, prepare
from curvlib.trace import COLUMNS, FROM_LOGITS, NotRecordedError, Trace

N, C = 30, 3
ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        yield
    torch.set_num_threads(before)


def table(count: int = N, features: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    """Floats [N, features], and labels that they tell of; one label is wrong."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(count, features, generator=generator)
    return x, x[:, :C].argmax(1)


def mlp(seed: int = 0, features: int = 5) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Linear(features, 16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, C)
    )


def batches(x, y, index, size: int = 8):
    for rows in torch.arange(len(x)).split(size):
        yield x[rows], y[rows], index[rows]


def recorder(folder, labels=None, **options) -> Recorder:
    labels = table()[1] if labels is None else labels
    return Recorder(folder, labels=labels, **{"num_probes": 2} | options)


def files(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*.*"))


# --------------------------------------------------------------- beside curvlib.fit

CONFIG = TrainConfig(
    model="slim_resnet",
    width=8,
    num_train=200,
    epochs=2,
    batch_size=50,
    noise_rate=0.1,
    num_probes=3,
    schedule="cosine",
)


def plain_loop(trace: Trace, images, after_epoch) -> None:
    """What ``curvlib.fit`` does, written down with nothing but PyTorch."""
    config = CONFIG
    model = networks.build(
        config.model,
        num_classes=len(images.classes),
        input_shape=(1, 8, 8),
        width=config.width,
        seed=config.seed,
    ).to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(
        model.parameters(),
        lr=config.lr,
        momentum=config.momentum,
        weight_decay=config.weight_decay,
    )
    pixels = torch.from_numpy(images.images).permute(0, 3, 1, 2)
    x = normalise(pixels, trace.info["mean"], trace.info["std"])
    y = torch.from_numpy(images.labels)
    for epoch in range(1, config.epochs + 1):
        model.train()
        order = torch.randperm(len(y), generator=stream(config.seed, epoch, "order"))
        rows = order.tensor_split(4)
        for number, some in enumerate(rows):
            done = (epoch - 1 + number / len(rows)) / config.epochs
            for group in optimizer.param_groups:
                group["lr"] = config.lr * SCHEDULES[config.schedule](done)
            logits = model(x[some].contiguous(memory_format=torch.channels_last))
            optimizer.zero_grad()
            F.cross_entropy(logits, y[some]).backward()
            optimizer.step()
        after_epoch(epoch, model, x, y)


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    images, _ = prepare(CONFIG)
    folder = tmp_path_factory.mktemp("fit")
    return fit(CONFIG, images, runs=folder, device="cpu"), images


def test_a_plain_loop_leaves_the_columns_of_fit_to_float32_rounding(fitted, tmp_path):
    trace, images = fitted
    mine = Recorder(
        tmp_path / "mine",
        labels=images.labels,
        index=images.index,
        original_labels=images.original_labels,
        num_probes=CONFIG.num_probes,
    )
    plain_loop(
        trace,
        images,
        lambda epoch, model, x, y: mine.record(
            epoch, model, batches(x, y, images.index, 100)
        ),
    )
    for name in COLUMNS:
        np.testing.assert_allclose(
            mine.trace.read(name).astype(float),
            trace.read(name).astype(float),
            # Differences over h = 1e-3 multiply rounding by about 1,000.
            **({"rtol": 2e-2, "atol": 2e-3} if is_curvature(name) else
               {"rtol": 1e-4, "atol": 1e-5}),
            err_msg=name,
        )  # fmt: skip
    a, b = (scores.compute(t) for t in (mine.trace, trace))
    assert list(a.columns) == list(b.columns)
    assert mine.trace.samples().equals(trace.samples())
    wrong = images.mislabelled[np.argsort(images.index)]
    assert wrong.sum() == 20
    one, two = (metrics.auroc(t["cumulative_loss"], wrong) for t in (a, b))
    assert one == pytest.approx(two, abs=1e-3)


def is_curvature(name: str) -> bool:
    return name in ("mean_hvp_norm", "squared_frobenius_norm", "standard_error")


def test_pieces_of_the_size_that_fit_takes_give_the_same_bits(fitted, tmp_path):
    trace, images = fitted
    mine = Recorder(
        tmp_path / "mine", labels=images.labels, index=images.index, num_probes=3
    )
    plain_loop(
        trace,
        images,
        lambda epoch, model, x, y: mine.record(epoch, model, [(x, y, images.index)]),
    )
    for name in COLUMNS:
        np.testing.assert_array_equal(mine.trace.read(name), trace.read(name), name)


# ------------------------------------------------------------- order, pieces, modes


def test_order_and_pieces_change_nothing(tmp_path):
    (x, y), model = table(), mlp()
    one = recorder(tmp_path / "one")
    one.record(1, model, [(x, y, torch.arange(N))])
    order = torch.randperm(N, generator=torch.Generator().manual_seed(1))
    many = recorder(tmp_path / "many", chunk=4)
    for batch in batches(x[order], y[order], order, 7):
        assert not many.folder.exists()  # nothing half-written
        many.record(1, model, [batch])
    for name in COLUMNS:
        tolerance = {"rtol": 2e-2, "atol": 2e-3} if is_curvature(name) else {}
        np.testing.assert_allclose(
            many.trace.read(name).astype(float),
            one.trace.read(name).astype(float),
            **{"rtol": 1e-5, "atol": 1e-6} | tolerance,
        )


def test_batches_of_a_data_set_carry_the_index_that_was_given_for_each_item(tmp_path):
    (x, y), index = table(), np.random.default_rng(0).permutation(N) * 3
    mine = recorder(tmp_path / "a", index=index)
    found = list(mine.batches(list(zip(x, y, strict=True)), batch_size=7))
    assert [len(part[2]) for part in found] == [7, 7, 7, 7, 2]
    for part, expected in zip(range(3), (x, y, torch.from_numpy(index)), strict=True):
        assert torch.equal(torch.cat([batch[part] for batch in found]), expected)
    with pytest.raises(ValueError, match="data set has 29 samples, the recorder 30"):
        list(mine.batches(list(zip(x[1:], y[1:], strict=True))))


def test_curvature_is_that_of_the_estimator_with_the_probes_of_the_epoch(tmp_path):
    (x, y), model = table(), mlp().eval()
    mine = recorder(tmp_path / "a", num_probes=4, step=1e-2, seed=5)
    mine.record(3, model, [(x, y, torch.arange(N))])
    expected = input_curvature(
        model, x, y, num_probes=4, step=1e-2, generator=stream(5, 3, "probes")
    )
    for name in ("mean_hvp_norm", "squared_frobenius_norm", "gradient_norm", "loss"):
        np.testing.assert_allclose(
            mine.trace.read(name)[0], getattr(expected, name), rtol=1e-3, atol=1e-6
        )
    assert mine.trace.config == {
        "made_by": "curvlib.Recorder", "num_probes": 4, "step": 1e-2, "seed": 5,
    }  # fmt: skip


def test_grand_is_the_gradient_norm_of_the_last_layer_by_autograd(tmp_path):
    (x, y), model = table(), mlp()
    mine = recorder(tmp_path / "a")
    mine.record(1, model, [(x, y, torch.arange(N))])
    model.eval()
    for i in range(N):
        loss = F.cross_entropy(model(x[i : i + 1]), y[i : i + 1])
        gradients = torch.autograd.grad(loss, list(model[-1].parameters()))
        expected = torch.cat([g.flatten() for g in gradients]).norm()
        assert mine.trace.read("last_layer_gradient")[0, i] == pytest.approx(
            expected.item(), rel=1e-4
        )


@pytest.mark.parametrize("training", [True, False])
def test_the_model_is_left_in_its_mode_with_its_gradients(tmp_path, training):
    (x, y), model = table(), mlp().train(training)
    model[0].eval()  # a frozen part, in a mode of its own
    model(x).sum().backward()
    before = {n: (p.clone(), p.grad.clone()) for n, p in model.named_parameters()}
    modes = [module.training for module in model.modules()]
    recorder(tmp_path / "a").record(1, model, batches(x, y, torch.arange(N)))
    assert [module.training for module in model.modules()] == modes
    for name, parameter in model.named_parameters():
        assert parameter.requires_grad
        torch.testing.assert_close(parameter, before[name][0], rtol=0, atol=0)
        torch.testing.assert_close(parameter.grad, before[name][1], rtol=0, atol=0)
    assert not any(module._forward_hooks for module in model.modules())


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_it_records_where_the_caller_has_switched_gradients_off(tmp_path, context):
    (x, y), model = table(), mlp()
    mine = recorder(tmp_path / "a")
    with context():
        mine.record(1, model, batches(x * 1, y, torch.arange(N)))
    assert (mine.trace.read("gradient_norm") > 0).all()


def test_wrappers_and_outputs_with_logits_are_taken_off(tmp_path):
    class Output:
        def __init__(self, logits):
            self.logits = logits

    class Wrapped(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = mlp()

        def forward(self, x):
            return Output(self.inner(x))

    x, y = table()
    plain, other = recorder(tmp_path / "a"), recorder(tmp_path / "b")
    plain.record(1, mlp(), [(x, y, torch.arange(N))])
    other.record(1, nn.DataParallel(Wrapped()), [(x, y, torch.arange(N))])
    for name in COLUMNS:
        np.testing.assert_array_equal(other.trace.read(name), plain.trace.read(name))


def test_without_a_last_linear_layer_grand_is_left_out_and_named(tmp_path):
    x, y = table(features=6)
    model = nn.Sequential(nn.Unflatten(1, (6, 1)), nn.Conv1d(6, C, 1), nn.Flatten())
    mine = recorder(tmp_path / "a", labels=y)
    mine.record(1, model, [(x, y, torch.arange(N))])
    with pytest.warns(UserWarning, match="left out grand: .* last_layer_gradient"):
        found = scores.compute(mine.trace)
    assert "grand" not in found and np.isfinite(found["curvature_norm"]).all()


# ------------------------------------------------------------------------ from logits


def test_logits_give_the_scores_that_need_no_gradients_and_name_the_others(tmp_path):
    (x, y), model = table(), mlp().eval()
    whole, mine = recorder(tmp_path / "whole"), recorder(tmp_path / "mine")
    order = torch.randperm(N, generator=torch.Generator().manual_seed(1))
    for epoch in (1, 2):
        whole.record(epoch, model, [(x, y, torch.arange(N))])
        logits = model(x)  # with a graph, as a loop has it
        for rows in order.split(11):
            mine.record(epoch, rows, logits=logits[rows], labels=y[rows])
    for name in FROM_LOGITS:
        np.testing.assert_allclose(
            mine.trace.read(name).astype(float),
            whole.trace.read(name).astype(float),
            rtol=1e-5,
            atol=1e-6,
        )
    with pytest.raises(NotRecordedError, match="no column 'mean_hvp_norm': it was not"):
        mine.trace.read("mean_hvp_norm")
    expected = scores.compute(whole.trace)
    with pytest.warns(UserWarning, match="left out curvature_square, .*, grand: not"):
        found = scores.compute(mine.trace)
    left_out = set(expected) - set(found)
    assert left_out == {
        "curvature_square", "curvature_norm", "curvature_last", "curvature_peak",
        "cumulative_gradient", "grand",
    }  # fmt: skip
    for name in found:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-5, atol=1e-6)


def test_one_epoch_from_logits_leaves_curvature_out_of_all(tmp_path):
    (x, y), model = table(), mlp().eval()
    mine = recorder(tmp_path / "a")
    mine.record(1, model, [(x, y, torch.arange(N))])
    scores.compute(mine.trace)  # nothing left out so far, so no warning
    mine.record(2, torch.arange(N), logits=model(x))
    with pytest.warns(UserWarning, match="left out curvature_square"):
        assert "curvature_square" not in scores.compute(mine.trace)


def test_logits_in_half_precision_become_float32(tmp_path):
    mine = recorder(tmp_path / "a")
    mine.record(1, torch.arange(N), logits=mlp().eval()(table()[0]).bfloat16())
    assert (mine.trace.read("loss") > 0).all()


# --------------------------------------------------------------------- what is refused


def test_an_epoch_that_lacks_samples_is_refused_in_one_line(tmp_path):
    (x, y), model = table(), mlp()
    mine = recorder(tmp_path / "a", index=np.arange(N) * 10)
    mine.record(1, model, [(x[2:], y[2:], torch.arange(2, N) * 10)])
    message = "epoch 1 lacks 2 of 30 samples, the first of index 0"
    with pytest.raises(ValueError, match=message) as caught:
        mine.finish(1)
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match=message):
        mine.record(2, model, [(x, y, torch.arange(N) * 10)])
    assert not mine.folder.exists()
    mine.record(1, model, [(x[:2], y[:2], torch.arange(2) * 10)])  # and it is whole
    mine.finish(1)
    assert mine.trace.epochs.tolist() == [1]


def good() -> dict:
    x, y = table()
    return {"x": x, "y": y, "index": torch.arange(N), "model": mlp()}


REFUSED = {
    "sample 3 came twice; record each once": {"index": torch.arange(N).clamp(max=3)},
    "index 30 is not among the 30 samples": {"index": torch.arange(N) + 1},
    "sample 0 came with label": {"y": (table()[1] + 1) % C},
    "30 samples came with 29 labels": {"y": table()[1][1:]},
    "29 inputs came with 30 indices": {"x": table()[0][1:]},
    "of token ids record their embeddings": {"x": torch.ones(N, 5, dtype=torch.long)},
    "index must be integers": {"index": torch.arange(N).float()},
    "must not be negative, got -1": {"index": torch.arange(N) - 1},
    "model gives 2 logits, for labels 0 to 1": {"model": nn.Linear(5, 2)},
    "must return logits of shape": {"model": nn.Unflatten(1, (5, 1))},
    "NaN or infinity": {"x": table()[0] * float("nan")},
}


@pytest.mark.parametrize("message", REFUSED)
def test_a_wrong_batch_is_refused_in_one_line_and_leaves_nothing(tmp_path, message):
    made = good() | REFUSED[message]
    mine = recorder(tmp_path / "a")
    with pytest.raises(ValueError, match=message) as caught:
        mine.record(1, made["model"], [(made["x"], made["y"], made["index"])])
    assert "\n" not in str(caught.value)
    made = good()
    mine.record(1, made["model"], [(made["x"], made["y"], made["index"])])
    assert mine.trace.epochs.tolist() == [1]


def test_a_sample_of_an_earlier_call_is_refused(tmp_path):
    (x, y), mine = table(), recorder(tmp_path / "a")
    mine.record(1, mlp(), [(x[:9], y[:9], torch.arange(9))])
    with pytest.raises(ValueError, match="sample 8 came twice"):
        mine.record(1, mlp(), [(x[8:], y[8:], torch.arange(8, N))])
    mine.forget_after(0)  # the way out that the message names
    mine.record(1, mlp(), [(x, y, torch.arange(N))])


def test_inputs_of_two_shapes_share_no_probes_and_are_refused(tmp_path):
    y, mine = table()[1], recorder(tmp_path / "a")
    model = nn.Sequential(nn.AdaptiveAvgPool1d(4), nn.Flatten(), nn.Linear(4, C))
    mine.record(1, model, [(torch.randn(10, 1, 6), y[:10], torch.arange(10))])
    with pytest.raises(ValueError, match=r"\[1, 6\] and inputs of .*\[1, 7\]: .* pad"):
        mine.record(1, model, [(torch.randn(20, 1, 7), y[10:], torch.arange(10, N))])


def test_logits_that_cannot_be_are_refused(tmp_path):
    (x, _), mine, index = table(), recorder(tmp_path / "a"), torch.arange(N)
    logits = mlp().eval()(x)
    for message, given in {
        r"must have shape \[30, C\]": {"logits": logits[1:]},
        "model gives 2 logits": {"logits": logits[:, :2]},
        "logits of 30 samples are not finite, first of sample 0": {
            "logits": logits / 0
        },
        "sample 0 came with label": {
            "logits": logits, "labels": (table()[1] + 1) % C
        },
    }.items():  # fmt: skip
        with pytest.raises(ValueError, match=message):
            mine.record(1, index, **given)
    with pytest.raises(ValueError, match="not both"):
        mine.record(1, mlp(), [], logits=logits)
    for missing in ((mlp(),), (index,)):
        with pytest.raises(ValueError, match=r"and no (batches|logits)"):
            mine.record(1, *missing)
    mine.record(1, index[:9], logits=logits[:9])
    with pytest.raises(ValueError, match="two ways, from logits and from inputs"):
        mine.record(1, mlp(), [(x[9:], table()[1][9:], index[9:])])


def test_labels_and_index_are_checked_at_once(tmp_path):
    for message, given in {
        "index must be unique, but 1 occurs twice": {"index": [0, 1, 1]},
        "index needs one integer for each of the 3 labels": {"index": [0, 1]},
        "labels must be integers": {"labels": [0.5, 1, 1]},
        "labels must not be negative": {"labels": [0, -1, 1]},
        "chunk must be at least 1": {"chunk": 0},
        "no labels: the recorder needs one for each sample": {"labels": []},
    }.items():
        with pytest.raises(ValueError, match=message):
            Recorder(tmp_path / "a", **{"labels": [0, 1, 1]} | given)
    for epoch in (0, -1, 1.0, True):
        with pytest.raises(ValueError, match="epoch"):
            Recorder(tmp_path / "a", labels=[0, 1]).record(epoch, [0], logits=[[1, 2]])


# ------------------------------------------------------------------- to go on, or not


def test_a_recorder_goes_on_where_another_stopped_and_overwrites_nothing(tmp_path):
    x, y = table()
    batch = [(x, y, torch.arange(N))]
    for epoch in (1, 2, 3):  # each time a new process, so to speak
        recorder(tmp_path / "a").record(epoch, mlp(epoch), batch)
    mine = recorder(tmp_path / "a")
    assert mine.trace.epochs.tolist() == [1, 2, 3]
    with pytest.raises(ValueError, match="has epoch 2 already: record another"):
        mine.record(2, mlp(), batch)
    with pytest.raises(ValueError, match="has 3 epochs of an earlier run: choose"):
        mine.resume(0)
    mine.resume(2)
    assert mine.trace.epochs.tolist() == [1, 2]
    mine.record(3, mlp(), batch)
    with pytest.raises(ValueError, match="run on other images or labels"):
        recorder(tmp_path / "a", labels=(y + 1) % C)
    with pytest.raises(ValueError, match="num_probes: 2 there, 5 requested"):
        recorder(tmp_path / "a", num_probes=5)
    assert recorder(tmp_path / "b").folder.exists() is False


def test_scores_metrics_and_the_explorer_work_on_a_recorded_trace(tmp_path):
    explorer = pytest.importorskip("curvlib.book.explorer", reason="needs the book")
    pytest.importorskip("bokeh", reason="the explorer needs bokeh")
    rng = np.random.default_rng(0)
    images = curvlib.Images(
        images=rng.integers(0, 256, (N, 4, 4, 1), dtype=np.uint8),
        labels=rng.permutation(N) % C,
        index=rng.permutation(N) * 2,
        classes=("a", "b", "c"),
    )
    x = torch.from_numpy(images.images).float().flatten(1) / 255
    mine = Recorder(tmp_path / "a", labels=images.labels, index=images.index)
    mine.record(1, mlp(features=16), [(x, images.labels, images.index)])
    found = scores.compute(mine.trace).set_index("index").loc[images.index]
    assert 0 <= metrics.auroc(found["curvature_norm"], found["label"] == 0) <= 1
    written = explorer.write(tmp_path / "page.html", images, found.reset_index())
    assert "curvature_norm" in written.scores


# ----------------------------------------------------------- inputs that are no images


def test_a_table_of_floats_shows_its_wrong_labels(tmp_path):
    x, right = table(200)
    y = right.clone()
    y[:10] = (y[:10] + 1) % C
    model = nn.Sequential(nn.Linear(5, 32), nn.ReLU(), nn.Linear(32, C))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    mine = recorder(tmp_path / "a", labels=y, original_labels=right)
    for epoch in range(1, 6):
        for rows in torch.randperm(200).split(20):
            optimizer.zero_grad()
            F.cross_entropy(model(x[rows]), y[rows]).backward()
            optimizer.step()
        mine.record(epoch, model, mine.batches(list(zip(x, y, strict=True))))
    samples, found = mine.trace.samples(), scores.compute(mine.trace)
    wrong = samples["label"] != samples["original_label"]
    assert wrong.sum() == 10
    assert metrics.auroc(found["cumulative_loss"], wrong) > 0.9


def test_token_embeddings_are_scored_and_padding_takes_no_part(tmp_path):
    class Text(nn.Module):
        """Class of a text: the mean over its tokens, after attention among them."""

        def __init__(self):
            super().__init__()
            self.embed = nn.Embedding(50, 8)
            layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
            self.encoder = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
            self.head = nn.Linear(8, C)

        def of_embeddings(self, x):
            mask = x[..., -1] > 0.5
            h = self.encoder(x[..., :-1], src_key_padding_mask=~mask)
            return self.head((h * mask[..., None]).sum(1) / mask.sum(1, keepdim=True))

    torch.manual_seed(0)
    model, y = Text(), table()[1]
    tokens = torch.randint(1, 50, (N, 6))
    tokens[::2, 4:] = 0  # padding of every other text

    def batch(tokens):
        mask = (tokens > 0).float()[..., None]
        return torch.cat([model.embed(tokens), mask], 2), y, torch.arange(N)

    longer = F.pad(tokens, (0, 3))
    found = []
    for name, given in (("a", tokens), ("b", longer)):
        mine = recorder(tmp_path / name)
        mine.record(1, model, [batch(given)], forward=Text.of_embeddings)
        assert (mine.trace.read("mean_hvp_norm") > 0).all()
        found.append(mine.trace.read("gradient_norm"))
    # The gradient at a padded place is zero. (Curvature is another: other probes.)
    np.testing.assert_allclose(found[0], found[1], rtol=1e-4)


# -------------------------------------------------------------------- several processes

SHARED = """
import sys
from pathlib import Path
import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
from curvlib import Recorder
from test_recorder import N, mlp, table

dist.init_process_group("gloo")
me, (x, y), index = dist.get_rank(), table(), torch.arange(N)
model = DistributedDataParallel(mlp())
recorder = Recorder(Path(sys.argv[1]) / "shares", labels=y, num_probes=2)
mine = index[:11] if me else index[11:]
for epoch in (1, 2):
    for rows in mine.split(4):
        recorder.record(epoch, model, [(x[rows], y[rows], rows)])
    recorder.finish(epoch)
    assert recorder.trace.epochs.tolist() == list(range(1, epoch + 1))
recorder.record(3, model, recorder.batches(list(zip(x, y)), batch_size=7))
try:
    recorder.record(4, model, [])
except ValueError as error:
    assert "every process must call finish(3) before epoch 4" in str(error)
else:
    raise AssertionError("no error")
recorder.finish(3)

shares = {
    "empty": (index, index[:0]),
    "both": (index, index),
    "few": (index[:20], index[:20]),
    "lacking": (index[:20], index[21:]),
}
for case, share in shares.items():
    recorder = Recorder(Path(sys.argv[1]) / case, labels=y, num_probes=2)
    if len(share[me]):
        logits = model.module.eval()(x[share[me]])
        recorder.record(1, share[me], logits=logits)
    try:
        recorder.finish(1)
    except ValueError as error:
        (Path(sys.argv[1]) / f"{case}_{me}.txt").write_text(str(error))
"""


@pytest.fixture(scope="module")
def shared(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("shared")
    (folder / "script.py").write_text(SHARED)
    path = os.pathsep.join([str(ROOT / "tests"), str(ROOT)])
    run = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    done = subprocess.run(
        [*run, "--nproc-per-node=2", str(folder / "script.py"), str(folder)],
        capture_output=True,
        text=True,
        timeout=240,
        env=os.environ | {"PYTHONPATH": path, "CUDA_VISIBLE_DEVICES": ""},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


def test_uneven_shares_of_two_processes_make_the_trace_of_one(shared, tmp_path):
    (x, y), model = table(), mlp()
    one = recorder(tmp_path / "one")
    for epoch in (1, 2, 3):
        one.record(epoch, model, [(x, y, torch.arange(N))])
    many = Trace.open(shared / "shares")
    assert many.info["processes"] == 2
    for name in COLUMNS:
        tolerance = {"rtol": 2e-2, "atol": 2e-3} if is_curvature(name) else {}
        np.testing.assert_allclose(
            many.read(name).astype(float),
            one.trace.read(name).astype(float),
            **{"rtol": 1e-5, "atol": 1e-6} | tolerance,
        )


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("both", "30 samples were recorded by several processes, first 0; give each"),
        ("few", "20 samples were recorded by several processes, first 0; give each"),
        ("lacking", "lacks 1 of 30 samples, the first of index 20"),
    ],
)
def test_every_process_refuses_shares_that_overlap_or_lack_a_sample(
    shared, case, message
):
    for process in (0, 1):
        said = (shared / f"{case}_{process}.txt").read_text()
        assert message in said and said.startswith("epoch 1") and "\n" not in said
    assert not (shared / case).exists()


def test_a_process_may_have_an_empty_share(shared):
    assert Trace.open(shared / "empty").read("loss").shape == (1, N)
    assert not (shared / "empty_0.txt").exists()
