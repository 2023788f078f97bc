import pytest
import torch
from torch import nn

from curvlib.runs import networks
from curvlib.runs.networks import ACTIVATIONS, MLP, MODELS, build


def parameters(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def small(name: str = "slim_resnet", **changes) -> nn.Module:
    shape = {"num_classes": 5, "input_shape": (3, 8, 8), "width": 4}
    return build(name, **shape | changes)


def test_resnet18_has_the_paper_s_number_of_parameters():
    # The usual ResNet-18 for CIFAR: 3×3 stem, no max-pool, ten classes.
    model = build("resnet18", num_classes=10, input_shape=(3, 32, 32), width=64)
    assert parameters(model) == 11_173_962


def test_the_slim_resnet_has_one_block_in_each_of_three_stages():
    def block(a, b):
        way_around = a * b + 2 * b if a != b else 0
        return 9 * a * b + 9 * b * b + 4 * b + way_around

    stem, head = 9 * 3 * 4 + 2 * 4, 16 * 5 + 5
    expected = stem + block(4, 4) + block(4, 8) + block(8, 16) + head
    assert parameters(small()) == expected


def test_the_strided_resnet_halves_the_image_at_once_and_no_weight_more():
    slim, strided = small(), small("strided_resnet")
    assert parameters(strided) == parameters(slim)
    sizes = []
    for model in (slim, strided):
        model.stem.register_forward_hook(lambda *given: sizes.append(given[2].shape))
        model.eval()(torch.zeros(1, 3, 8, 8))
    assert [size[2:] for size in sizes] == [(8, 8), (4, 4)]


def test_the_mlp_has_two_hidden_layers():
    inputs, width, classes = 3 * 8 * 8, 4, 5
    expected = (inputs + 1) * width + (width + 1) * width + (width + 1) * classes
    assert parameters(small("mlp")) == expected


def test_stages_halve_the_image_and_double_the_width():
    model = small("resnet18").eval()
    shapes = []
    for block in model.stages:
        block.register_forward_hook(lambda m, i, o: shapes.append(tuple(o.shape[1:])))
    model(torch.zeros(1, 3, 8, 8))
    assert shapes[::2] == [(4, 8, 8), (8, 4, 4), (16, 2, 2), (32, 1, 1)]
    assert shapes[1::2] == shapes[::2]


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("name", MODELS)
def test_logits_have_one_column_a_class_and_depend_on_the_activation(name, activation):
    model = small(name, activation=activation).eval()
    x = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    logits = model(x)
    assert logits.shape == (2, 5)
    assert logits.isfinite().all()
    if activation != "relu":
        relu = small(name).eval()
        relu.load_state_dict(model.state_dict())  # the activation has no parameters
        assert not torch.allclose(relu(x), logits)


def test_the_mlp_takes_inputs_of_any_shape():
    model = build("mlp", num_classes=2, input_shape=(2,), width=3)
    assert isinstance(model, MLP)
    assert model(torch.zeros(7, 2)).shape == (7, 2)


@pytest.mark.parametrize("name", MODELS)
def test_one_seed_gives_the_same_weights_and_another_gives_others(name):
    first, again, other = (small(name, seed=s).state_dict() for s in (1, 1, 2))
    torch.testing.assert_close(first, again, rtol=0, atol=0)
    weights = [key for key in first if key.endswith("weight") and first[key].ndim > 1]
    assert weights
    for key in weights:
        assert not torch.equal(first[key], other[key]), key


def test_the_global_generators_stay_as_they_are_those_of_gpus_too(monkeypatch):
    seeded = []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeded.append)
    before = torch.get_rng_state()
    first = small(seed=1)
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(1)  # whatever state the caller's generator is in
    again = small(seed=1)
    torch.testing.assert_close(first.state_dict(), again.state_dict(), rtol=0, atol=0)
    assert seeded == []


def test_convolutions_start_with_the_variance_of_he():
    # Fan out of a 3×3 convolution from 32 to 64 channels: variance 2 / (9 · 64).
    model = build("slim_resnet", num_classes=2, input_shape=(3, 8, 8), width=32)
    weight = model.stages[1].conv1.weight.detach().double()
    assert weight.shape == (64, 32, 3, 3)
    error = 4 * (2 / weight.numel()) ** 0.5  # of a normal's variance, relative
    assert abs(weight.var().item() * 9 * 64 / 2 - 1) < error


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        (
            "resnet50",
            {},
            "unknown model .resnet50.: expected one of resnet18",
        ),
        ("mlp", {"activation": "sin"}, "unknown activation 'sin': expected .*softplus"),
        ("mlp", {"width": 0}, "width must be a positive integer, got 0"),
        ("slim_resnet", {"width": 1.5}, "width must be a positive integer, got 1.5"),
        ("resnet18", {"input_shape": (2,)}, r"\[C, H, W\], got \[2\]; use 'mlp'"),
    ],
)
def test_what_is_no_model_is_refused(name, changes, message):
    with pytest.raises(ValueError, match=message):
        small(name, **changes)


def test_folding_batch_norm_changes_nothing_but_rounding():
    model = build("resnet18", num_classes=3, input_shape=(1, 8, 8), width=4).double()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    x = torch.randn(2, 1, 8, 8, dtype=torch.float64)
    folded = networks.fold_batch_norm(model.train())
    assert model.training and not folded.training
    assert not any(isinstance(m, nn.BatchNorm2d) for m in _called(folded))
    torch.testing.assert_close(folded(x), model.eval()(x))


def _called(traced):
    nodes = traced.graph.nodes
    return [traced.get_submodule(n.target) for n in nodes if n.op == "call_module"]


def test_a_batch_norm_that_others_can_tell_apart_is_not_folded():
    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.norm = nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1)

        def forward(self, x):
            out = self.conv(x)
            return self.norm(out) + out  # the convolution's output is read twice

    model, x = Shared().eval(), torch.randn(2, 1, 3, 3)
    model.norm.running_mean += 1
    torch.testing.assert_close(networks.fold_batch_norm(model)(x), model(x))


def test_a_network_that_cannot_be_traced_is_copied_as_it_is():
    class Branching(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(2, 2)

        def forward(self, x):
            return self.linear(x) if x.sum() > 0 else -self.linear(x)

    model, x = Branching(), torch.ones(1, 2)
    copied = networks.fold_batch_norm(model)
    assert copied is not model and type(copied) is Branching
    torch.testing.assert_close(copied(x), model(x))
