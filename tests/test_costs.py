import copy
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from curvlib import scores
from curvlib.runs import networks
from curvlib.studies import costs


class FakeTrace:
    def __init__(self, name: str, train: list[float]):
        self.folder = SimpleNamespace(name=name)
        self.info = {"hardware": {"device": "cpu", "threads": 2}}
        self._train = train

    def log(self) -> pd.DataFrame:
        return pd.DataFrame(
            {"train_seconds": self._train, "score_seconds": [1.0] * len(self._train)}
        )


def test_a_run_costs_the_sum_of_its_epochs_and_counts_once():
    first, second = FakeTrace("a", [2.0, 3.0]), FakeTrace("b", [4.0])
    table = costs.of_runs([first, second, first])
    assert table["run"].tolist() == ["a", "b"]
    assert table["epochs"].tolist() == [2, 1]
    assert table["train_seconds"].tolist() == pytest.approx([5.0, 4.0])
    assert table["score_seconds"].tolist() == pytest.approx([2.0, 1.0])
    assert set(table["threads"]) == {2}


def timing(**ratios: float) -> pd.DataFrame:
    names = {"one": "curvature, n = 1", "input": "input gradient"}
    return pd.DataFrame(
        [
            {"what": names.get(what, what), "repeat": 1, "over_training": ratio}
            for what, ratio in ratios.items()
        ]
    )


def test_a_score_costs_what_its_dearest_column_does_and_the_last_epoch_once():
    table = costs.of_scores(
        timing(training=1.0, logits=0.25, input=0.5, one=1.5), epochs=10
    ).set_index("score")
    assert table.loc["curvature_square", "trainings"] == pytest.approx(2.5)
    assert table.loc["curvature_last", "trainings"] == pytest.approx(1.15)
    assert table.loc["cumulative_gradient", "trainings"] == pytest.approx(1.5)
    assert table.loc["aum", "trainings"] == pytest.approx(1.25)
    assert table.loc["aum", "bytes_per_sample"] == 40
    assert table.loc["forgetting_events", "bytes_per_sample"] == 10
    assert table.loc["final_loss", "bytes_per_sample"] == 4
    assert set(table.index) == set(scores.FROM_TRACE) - {"random"}


def test_the_scores_that_read_one_epoch_are_those_that_say_so():
    rng = np.random.default_rng(0)
    for name, score in scores.SCORES.items():
        fields = [rng.random((4, 6)) for _ in score.fields]
        if name == "curvature_peak":
            fields[0][-1] *= 0.1  # the last epoch is not that of the peak
        if name in ("forgetting_events", "learning_time"):
            fields = [field > 0.5 for field in fields]
        changed = [np.concatenate([1 - f[:-1] * 1.0, f[-1:]]) for f in fields]
        if fields and fields[0].dtype == bool:
            changed = [np.concatenate([~f[:-1], f[-1:]]) for f in fields]
        if fields:
            same = np.array_equal(score.function(*fields), score.function(*changed))
            assert same == score.last_only, name


def test_a_number_of_probes_that_was_not_measured_is_refused():
    with pytest.raises(ValueError, match="num_probes = 3 was not measured, only"):
        costs.of_scores(timing(one=1.0), epochs=2, num_probes=3)


def test_every_contestant_is_timed_and_the_model_is_left_alone():
    model = networks.build("mlp", num_classes=3, input_shape=(1, 4, 4), width=4).eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    x = torch.randn(12, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    table = costs.measure(
        model, x, torch.arange(12) % 3, batch_size=6, num_probes=(1, 3), repeats=2
    )
    assert table.groupby("what").size().eq(2).all()
    assert {"training", "logits", "curvature, n = 3"} <= set(table["what"])
    trained = table["what"] == "training"
    assert (table.loc[trained, "over_training"] == 1).all()
    assert (table["seconds_per_sample"] > 0).all()
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)


# A run that is too long to be done here


def test_what_a_run_takes_follows_from_one_batch_of_a_net_that_can_be_counted():
    # Two linear layers, 12 -> 5 -> 3: 2 * 75 operations forward. Backward costs the
    # same once for the weights of both (150) and once for the input of the second (30).
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 5), nn.ReLU(), nn.Linear(5, 3))
    x = torch.randn(4, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    y = torch.tensor([0, 1, 2, 0])
    before = copy.deepcopy(network.state_dict())
    found = costs.at_scale(
        network, x, y, samples=1000, epochs=10, scored_epochs=5, num_probes=4
    )
    table = found.table.set_index("what")
    assert table.loc["training", "gflop_per_sample"] * 1e9 == pytest.approx(330)
    assert table.loc["training", "total_flop"] == pytest.approx(330 * 1000 * 10)
    # 1 + K gradients by the input, each 150 forward and 150 backward, and some norms.
    assert 1 <= table.loc["scoring", "gflop_per_sample"] * 1e9 / (5 * 300) < 1.1
    assert table["passes"].tolist() == [10, 5]
    np.testing.assert_allclose(
        table["hours here"],
        table["seconds_per_sample"] * 1000 * table["passes"] / 3600,
    )
    # 83 weights of 4 bytes: themselves, their gradients, their momentum.
    assert found.state_bytes == 3 * 83 * 4
    # Kept for the backward pass, for each sample at least the two layers' inputs.
    assert found.activation_bytes >= (12 + 5) * 4
    assert found.trace_bytes == (13 * 4 + 1 + 16) * 1000 * 5
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name])


def test_a_clock_waits_for_the_gpu_before_and_after_a_call(monkeypatch):
    events = []
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: events.append("wait"))
    assert costs.timed(lambda: events.append("call"), "cuda") >= 0
    assert events == ["wait", "call", "wait"]
    events.clear()
    costs.timed(lambda: events.append("call"))
    assert events == ["call"]
