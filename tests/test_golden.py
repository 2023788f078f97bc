"""Numbers change only together with a recipe number: see golden.py."""

import functools
import importlib.util
import inspect
import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path

import golden
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from curvlib import curvature, data, hvp, scores
from curvlib.data import folders, images, loading
from curvlib.runs import features, networks, provenance, scoring
from curvlib.runs.settings import SCHEDULES
from curvlib.studies import suspects

ROOT = Path(__file__).parents[1]
STORED = golden.stored()


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@functools.cache
def computed(part: str) -> golden.Values:
    """Values of the library as it is; ask before anything is changed."""
    return golden.compute(part)


@pytest.mark.parametrize("part", golden.VALUES)
def test_numbers_change_only_with_a_recipe_number(part):
    lines = golden.complaints(part, computed(part), STORED)
    above = [
        other
        for other in golden.UPSTREAM[part]
        if lines and other != part and other in STORED
        if golden.changed(other, computed(other), STORED[other]["values"])
    ]
    if above:
        lines.append(f"{part} is made from {', '.join(above)}: look there first")
    assert not lines, "\n".join(lines)


def test_every_recipe_number_has_golden_values():
    studies = {
        f"studies.{file.stem}"
        for file in (ROOT / "curvlib" / "studies").glob("*.py")
        if re.search(r"^RECIPE = ", file.read_text(encoding="utf-8"), re.MULTILINE)
    }
    missing = (provenance.PARTS.keys() | studies) - golden.VALUES.keys()
    assert not missing, (
        f"{sorted(missing)} have a recipe number and no golden values: write a "
        f"function that computes some and name it in golden.VALUES"
    )


# It fails when a number changes.


def a_step_twice_as_long(patch):
    given = hvp.finite_difference
    patch.setattr(hvp, "finite_difference", lambda *a, step: given(*a, step=2 * step))


def a_step_longer_by_a_hundredth(patch):
    given = hvp.finite_difference
    patch.setattr(
        hvp, "finite_difference", lambda *a, step: given(*a, step=1.01 * step)
    )


def another_default_step(patch):
    patch.setitem(curvature.input_curvature.__kwdefaults__, "step", 2e-3)


def label_smoothing(patch):
    smooth = functools.partial(F.cross_entropy, label_smoothing=0.01)
    patch.setattr(F, "cross_entropy", smooth)


def smaller_padding(patch):
    given = data.augment

    def smaller(batch, *, generator, padding):
        return given(batch, generator=generator, padding=padding - 1)

    patch.setattr("curvlib.data.images.augment", smaller)
    patch.setitem(data.augment.__kwdefaults__, "padding", 3)


def a_guard_in_a_forward(patch):
    given = networks.ResNet.forward

    def guarded(self, x):
        if not x.isfinite().all():
            raise ValueError("the input is not finite")
        return given(self, x)

    patch.setattr(networks.ResNet, "forward", guarded)


def probes_of_length_one(patch):
    given = curvature.rademacher

    def normalised(num_probes, shape, *, generator):
        return given(num_probes, shape, generator=generator) / math.prod(shape) ** 0.5

    patch.setattr(curvature, "rademacher", normalised)


def gaussian_probes(patch):
    def gaussian(num_probes, shape, *, generator):
        return torch.randn((num_probes, *shape), generator=generator)

    patch.setattr(curvature, "rademacher", gaussian)


def the_same_probes_with_another_sign(patch):
    given = curvature.rademacher
    patch.setattr(curvature, "rademacher", lambda *a, **options: -given(*a, **options))


def the_same_probes_each_epoch(patch):
    given = scoring.stream
    patch.setattr(
        scoring, "stream", lambda seed, epoch, purpose: given(seed, 1, purpose)
    )


def a_cosine_that_ends_at_a_hundredth(patch):
    given = SCHEDULES["cosine"]
    patch.setitem(SCHEDULES, "cosine", lambda done: 0.99 * given(done) + 0.01)


def a_step_schedule_that_falls_later(patch):
    patch.setitem(SCHEDULES, "step", lambda d: 1.0 if d < 0.7 else 0.1)


def another_stream_of_noise(patch):
    given = np.random.default_rng
    patch.setattr(np.random, "default_rng", lambda seed: given([7, *np.ravel(seed)]))


def two_samples_swapped(patch):
    given = torch.randperm

    def swapped(*args, **options):
        order = given(*args, **options)
        order[[0, -1]] = order[[-1, 0]]
        return order

    patch.setattr(torch, "randperm", swapped)


def batches_of_full_size(patch):
    def split(self, count):
        return self.split(-(-len(self) // count))

    patch.setattr(torch.Tensor, "tensor_split", split)


def nesterov_momentum(patch):
    given = torch.optim.SGD.__init__

    def nesterov(self, *args, **options):
        given(self, *args, **options | {"nesterov": True})

    patch.setattr(torch.optim.SGD, "__init__", nesterov)


def no_weight_decay(patch):
    given = torch.optim.SGD.__init__

    def without(self, *args, weight_decay=0.0, **options):
        given(self, *args, **options)

    patch.setattr(torch.optim.SGD, "__init__", without)


def convolutions_scaled_by_fan_in(patch):
    given = nn.init.kaiming_normal_

    def by_fan_in(weight, **options):
        return given(weight, **options | {"mode": "fan_in"})

    patch.setattr(nn.init, "kaiming_normal_", by_fan_in)


def a_sharper_softplus(patch):
    patch.setitem(
        networks.ACTIVATIONS, "softplus", functools.partial(F.softplus, beta=1.01)
    )


def photographs_resized_less(patch):
    patch.setattr(folders, "RESIZED", 1.0)


def deviation_of_a_sample(patch):
    given = images.Images.statistics

    def unbiased(self):
        mean, std = given(self)
        count = self.images.size
        return mean, [s * (count / (count - 1)) ** 0.5 for s in std]

    patch.setattr(images.Images, "statistics", unbiased)


def only(function, *names):
    """Part of the values of a function of golden.py, to save time."""
    return functools.partial(function, names)


def a_feature_scaled_by_half(patch):
    given = features._Work.inputs
    patch.setattr(features._Work, "inputs", lambda work, x: given(work, x) / 2)


def momentum_of_the_head_forgotten(patch):
    given = torch.optim.SGD
    patch.setattr(
        torch.optim,
        "SGD",
        lambda weights, **how: given(weights, **how | {"momentum": 0}),
    )


def neighbours_without_weights(patch):
    patch.setattr(suspects, "NEIGHBOURS", 5)
    patch.setitem(suspects.Space.neighbours.__kwdefaults__, "count", 5)


MUTATIONS = {
    # What changes, then where it is looked for and in which values it must be noticed.
    a_step_twice_as_long: [
        (
            "scoring",
            golden.columns,
            [
                "slim_resnet, relu, step 0.001: mean_hvp_norm",
                "slim_resnet, softplus, step 0.1: mean_hvp_norm",
            ],
        ),
        ("studies.variants", golden.followed, ["difference/norm", "tested"]),
    ],
    a_step_longer_by_a_hundredth: [
        (
            "scoring",
            golden.columns,
            ["slim_resnet, relu, step 0.001: squared_frobenius_norm"],
        ),
        (
            "scoring",
            golden.estimates,
            ["softplus, finite-difference: squared_frobenius_norm"],
        ),
    ],
    another_default_step: [
        ("scoring", golden.estimates, ["relu, finite-difference: mean_hvp_norm"])
    ],
    the_same_probes_with_another_sign: [
        ("scoring", golden.columns, ["slim_resnet, relu, step 0.001: mean_hvp_norm"])
    ],
    the_same_probes_each_epoch: [
        ("scoring", golden.columns, ["slim_resnet, softplus, step 0.1: mean_hvp_norm"])
    ],
    probes_of_length_one: [
        ("scoring", golden.probes, ["probes of seed 0, epoch 1"]),
        ("scoring", golden.columns, ["slim_resnet, relu, step 0.001: mean_hvp_norm"]),
    ],
    gaussian_probes: [
        ("scoring", golden.columns, ["slim_resnet, softplus, step 0.1: mean_hvp_norm"])
    ],
    label_smoothing: [
        (
            "training",
            only(golden.short_runs, "mlp"),
            ["mlp: loss of each epoch", "mlp: weights"],
        ),
        ("scoring", golden.columns, ["slim_resnet, relu, step 0.001: loss"]),
        ("halves", golden.two_halves, ["confident learning"]),
        ("ensembles", golden.small_ensemble, ["weights"]),
    ],
    smaller_padding: [
        ("data", golden.augmentation, ["crops: checksum"]),
        ("training", golden.order, ["crops trained on: checksum"]),
        ("training", only(golden.short_runs, "slim_resnet"), ["slim_resnet: weights"]),
    ],
    a_guard_in_a_forward: [
        (
            "networks",
            only(golden.architectures, "slim_resnet"),
            ["slim_resnet, relu: batch norms left"],
        )
    ],
    convolutions_scaled_by_fan_in: [
        (
            "networks",
            only(golden.architectures, "compact_resnet"),
            ["compact_resnet, relu: first weights"],
        )
    ],
    a_sharper_softplus: [
        ("networks", only(golden.architectures, "mlp"), ["mlp, softplus: logits"])
    ],
    a_cosine_that_ends_at_a_hundredth: [
        ("training", golden.rates, ["cosine schedule: learning rates"]),
        ("ensembles", golden.small_ensemble, ["learning rates", "weights"]),
    ],
    a_step_schedule_that_falls_later: [
        ("training", golden.rates, ["step schedule: learning rates"])
    ],
    two_samples_swapped: [
        ("training", golden.order, ["batches of 10 samples"]),
        ("training", only(golden.short_runs, "mlp"), ["mlp: weights"]),
    ],
    batches_of_full_size: [("training", golden.order, ["batches of 10 samples"])],
    nesterov_momentum: [("training", only(golden.short_runs, "mlp"), ["mlp: weights"])],
    no_weight_decay: [
        (
            "training",
            only(golden.short_runs, "strided_resnet"),
            ["strided_resnet: weights"],
        ),
        ("ensembles", golden.small_ensemble, ["weights", "weight decay"]),
    ],
    another_stream_of_noise: [
        (
            "data",
            golden.noise,
            [
                "symmetric noise of 0.1: labels",
                "pair noise of 0.4: labels",
                "planted duplicates: source",
            ],
        ),
        ("halves", golden.two_halves, ["half of each sample"]),
        ("ensembles", golden.small_ensemble, ["subsets"]),
    ],
    a_feature_scaled_by_half: [
        ("features", golden.feature_vectors, ["enlarged: vectors", "shrunk: vectors"])
    ],
    momentum_of_the_head_forgotten: [
        ("head", golden.heads, ["out of fold: probability", "trace: loss"])
    ],
    neighbours_without_weights: [
        ("studies.suspects", golden.suspects, ["neighbours: agreement", "consensus"])
    ],
    photographs_resized_less: [("data", golden.photographs, ["photographs: pixels"])],
    deviation_of_a_sample: [("data", golden.loading, ["digits: mean and deviation"])],
}


@pytest.mark.parametrize("mutate", MUTATIONS, ids=lambda mutate: mutate.__name__)
def test_a_changed_number_is_noticed(monkeypatch, mutate):
    mutate(monkeypatch)
    for part, function, names in MUTATIONS[mutate]:
        changed = golden.changed(part, function(), STORED[part]["values"])
        assert changed.keys() >= set(names), f"in {part} only {sorted(changed)} changed"


def test_a_failure_says_what_changed_and_what_to_do(monkeypatch):
    a_step_schedule_that_falls_later(monkeypatch)
    found = computed("training") | golden.rates()
    first, *_, last = golden.complaints("training", found, STORED)
    assert first == (
        "training: 'step schedule: learning rates' changed, and no recipe number did: "
        "entry 6 of 10 should be 0.0001, got 0.001 (1.0e-12 off is allowed)"
    )
    assert last == (
        "Raise RECIPE in curvlib/runs/training.py, or undo the change; then "
        "`python tests/golden.py` writes the new values"
    )


def test_exact_values_are_shown_where_they_differ_first():
    def line(expected, got):
        (found,) = golden.changed("data", {"a": got}, {"a": expected}).values()
        return found.removeprefix("data: 'a' changed, and no recipe number did: ")

    assert line([1, 2, 3], [1, 5, 4]) == "entry 1 of 3 should be 2, got 5"
    assert line([1, 2], [1]) == "expected [1, 2], got [1]"
    assert line(7, 8) == "expected 7, got 8"
    assert line("unknown", golden.close([1.0], 0.1)).startswith("expected unknown, got")


def test_what_is_not_a_number_never_agrees():
    assert golden.agree([1.0, 2.0], golden.close([1.0, 2.0001], 1e-3))
    assert not golden.agree([1.0, 2.0], golden.close([1.0, float("nan")], 1e-3))
    assert not golden.agree([1.0, float("nan")], golden.close([1.0, 2.0], 1e-3))
    assert not golden.agree([1.0], golden.close([1.0, 2.0], 1e-3))


@pytest.mark.parametrize("raised", ["training", "data"])
def test_a_raised_recipe_asks_for_new_values(monkeypatch, raised):
    """Raised in the part itself, or in one that it is made from."""
    given = provenance.recipe
    monkeypatch.setattr(provenance, "recipe", lambda p: given(p) + (p == raised))
    (line,) = golden.complaints("training", computed("training"), STORED)
    numbers = f"({raised} was {given(raised)} and is {given(raised) + 1} now)"
    assert f"written under other recipe numbers {numbers}" in line
    assert line.endswith("`python tests/golden.py` writes the new values")
    assert not golden.complaints("networks", computed("networks"), STORED)


def test_a_part_without_values_asks_for_them():
    (line,) = golden.complaints("data", computed("data"), {})
    assert line == "data has no values in golden.json; `python tests/golden.py` " + (
        "writes them"
    )


def test_a_value_that_is_gone_is_noticed():
    found = dict(computed("data"))
    del found["crops: checksum"]
    (line,) = golden.complaints("data", found, STORED)
    assert "'crops: checksum' is in golden.json, but is no longer computed" in line


# It passes when no number changes.


def test_a_function_may_move(monkeypatch):
    spec = importlib.util.spec_from_file_location(
        "curvlib.data.elsewhere", inspect.getfile(images)
    )
    elsewhere = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, elsewhere)
    spec.loader.exec_module(elsewhere)
    for home in (images, data):
        for name in ("augment", "normalise"):
            monkeypatch.setattr(home, name, getattr(elsewhere, name))
    assert data.augment.__module__ == "curvlib.data.elsewhere"
    for part, function in (
        ("data", golden.augmentation),
        ("training", golden.order),
        ("training", only(golden.short_runs, "slim_resnet")),
    ):
        assert not golden.changed(part, function(), STORED[part]["values"])
    assert golden.recipes("training") == STORED["training"]["recipes"]


def test_an_error_message_may_change(monkeypatch):
    source = inspect.getsource(networks.build)
    better = source.replace("unknown model", "there is no model called")
    assert better != source
    exec(compile(better, "better", "exec"), networks.__dict__, space := {})
    monkeypatch.setattr(networks, "build", space["build"])
    with pytest.raises(ValueError, match="there is no model called 'x'"):
        networks.build("x", num_classes=2, input_shape=(1,), width=1)
    found = golden.architectures(["mlp", "strided_resnet"])
    assert not golden.changed("networks", found, STORED["networks"]["values"])


def test_a_network_an_activation_a_schedule_and_a_data_set_may_be_added(monkeypatch):
    monkeypatch.setitem(networks.RESNETS, "tiny_resnet", (2, (1, 1)))
    monkeypatch.setattr(networks, "MODELS", (*networks.MODELS, "tiny_resnet"))
    monkeypatch.setitem(networks.ACTIVATIONS, "elu", F.elu)
    monkeypatch.setitem(SCHEDULES, "linear", lambda done: 1 - done)
    monkeypatch.setattr(loading, "NAMES", (*loading.NAMES, "svhn"))
    monkeypatch.setattr(data, "NAMES", loading.NAMES)
    found = golden.architectures(["mlp", "tiny_resnet"])
    assert {"mlp, elu: logits", "tiny_resnet, relu: logits"} <= found.keys()
    assert not golden.changed("networks", found, STORED["networks"]["values"])
    for part, function in (("training", golden.rates), ("data", golden.loading)):
        assert not golden.changed(part, function(), STORED[part]["values"])


def test_a_score_may_be_added(monkeypatch):
    more = scores.SCORES["final_loss"]._replace(label="another")
    monkeypatch.setitem(scores.SCORES, "another", more)
    monkeypatch.setattr(scores, "FROM_TRACE", ("another", *scores.FROM_TRACE))
    found = golden.study("cost")
    assert not golden.changed("studies.cost", found, STORED["studies.cost"]["values"])


def test_a_column_may_be_added(monkeypatch):
    given = scoring.score

    def more(model, images, **options):
        return given(model, images, **options) | {"new": images.labels}

    monkeypatch.setattr(scoring, "score", more)
    found = golden.columns()
    assert "slim_resnet, relu, step 0.001: new" in found
    assert not golden.changed("scoring", found, STORED["scoring"]["values"])


def test_the_oldest_kernels_give_the_same_values():
    """As a processor without AVX would compute them, in a process of its own."""
    old = {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41"}
    program = """if True:
        import golden, torch
        torch.set_num_threads(1)
        known = golden.stored()
        runs = golden.short_runs(["strided_resnet"])
        for part, found in ("scoring", golden.columns()), ("training", runs):
            print(*golden.changed(part, found, known[part]["values"]).values())
        print(torch.backends.cpu.get_cpu_capability())
    """
    found = subprocess.run(
        [sys.executable, "-c", program],
        cwd=Path(golden.__file__).parent,
        env=os.environ | {"MKL_CBWR": "COMPATIBLE", **old},
        capture_output=True,
        text=True,
    )
    assert not found.returncode, found.stderr
    assert found.stdout.split() == ["DEFAULT"], found.stdout


# Writing golden.json.


@pytest.fixture
def file(tmp_path):
    file = tmp_path / "golden.json"
    file.write_text(golden.FILE.read_text(encoding="utf-8"), encoding="utf-8")
    return file


@pytest.fixture
def everything():
    return {part: dict(computed(part)) for part in golden.VALUES}


def test_writing_again_changes_no_byte(file, everything):
    assert golden.write(everything, file) == []
    assert file.read_bytes() == golden.FILE.read_bytes()


def test_writing_adds_what_is_new_and_drops_what_is_gone(file, everything):
    everything["data"]["new"] = golden.close([1.0, 2.0], 0.1)
    del everything["data"]["crops: checksum"]
    assert golden.write(everything, file) == []
    values = json.loads(file.read_text())["data"]["values"]
    assert values["new"] == [1.0, 2.0] and "crops: checksum" not in values


def test_a_changed_value_is_written_only_under_a_raised_recipe(
    file, everything, monkeypatch
):
    everything["data"]["crops: checksum"] = 7
    lines = golden.write(everything, file)
    assert "'crops: checksum' changed, and no recipe number did" in lines[0]
    assert file.read_bytes() == golden.FILE.read_bytes()
    given = provenance.recipe
    monkeypatch.setattr(provenance, "recipe", lambda p: given(p) + (p == "data"))
    assert golden.write(everything, file) == []
    written = golden.stored(file)
    assert written["data"]["values"]["crops: checksum"] == 7
    assert written["training"]["recipes"]["data"] == given("data") + 1
    assert written["networks"] == STORED["networks"]
    assert not golden.complaints("data", everything["data"], written)


def test_a_value_of_another_meaning_is_written_by_force(file, everything):
    everything["data"]["crops: checksum"] = 7
    assert golden.write(everything, file, force=True) == []
    assert golden.stored(file)["data"]["values"]["crops: checksum"] == 7


def test_values_that_agree_do_not_wander(file, everything):
    numbers, allowed = everything["training"]["mlp: weights"]
    nearby = golden.Close([n + allowed / 2 for n in numbers], allowed)
    everything["training"]["mlp: weights"] = nearby
    assert golden.write(everything, file) == []
    assert file.read_bytes() == golden.FILE.read_bytes()
