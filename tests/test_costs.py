from types import SimpleNamespace

import pandas as pd
import pytest

from curvlib import costs


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
