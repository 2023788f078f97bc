import pytest

from curvlib.runs.settings import TrainConfig
from curvlib.studies import NEUTRAL, config_of


def test_further_settings_reach_the_training_run():
    asked = {"dataset": "digits", "epochs": 4, "num_shown": 3, "more_settings": None}
    assert config_of(asked) == TrainConfig(dataset="digits", epochs=4)
    asked["more_settings"] = {"nesterov": True, "warmup": 0.25}
    expected = TrainConfig(epochs=4, seed=2, nesterov=True, warmup=0.25)
    assert config_of(asked, seed=2) == expected


def test_further_settings_may_not_hide_a_parameter_of_the_study():
    asked = {"epochs": 4, "more_settings": {"epochs": 5, "seed": 1}}
    with pytest.raises(ValueError, match="more_settings holds epochs, seed, which"):
        config_of(asked, seed=0)


def test_parameters_that_came_later_leave_a_run_as_it_was():
    assert config_of(NEUTRAL) == TrainConfig()
