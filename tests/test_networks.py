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


def passes_channels_on(weight: torch.Tensor) -> bool:
    """Whether a convolution is the identity, as some of the whitened net begin."""
    return weight.ndim == 4 and torch.equal(weight, nn.init.dirac_(weight.clone()))


@pytest.mark.parametrize("name", MODELS)
def test_one_seed_gives_the_same_weights_and_another_gives_others(name):
    first, again, other = (small(name, seed=s).state_dict() for s in (1, 1, 2))
    torch.testing.assert_close(first, again, rtol=0, atol=0)
    weights = [key for key in first if key.endswith("weight") and first[key].ndim > 1]
    weights = [key for key in weights if not passes_channels_on(first[key])]
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
        (
            "whitened_net",
            {"input_shape": (3, 1, 8)},
            r"at least 2 by 2 pixels, got \[3, 1, 8\]; use 'mlp'",
        ),
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


# The whitened net


def whitened(**changes) -> networks.WhitenedNet:
    shape = {"num_classes": 10, "input_shape": (3, 32, 32), "width": 32}
    return build("whitened_net", **shape | changes)


def training_images(channels: int = 3) -> torch.Tensor:
    """Smooth at random, as photographs are: neighbours in a patch are alike."""
    noise = torch.randn(
        250, channels, 17, 17, generator=torch.Generator().manual_seed(3)
    )
    return nn.functional.avg_pool2d(noise, 2, stride=1) * 2


def test_the_whitened_net_has_blocks_of_one_four_and_eight_widths():
    model, shapes = whitened().eval(), []
    for module in (model.whitening, *model.blocks):
        module.register_forward_hook(lambda m, i, o: shapes.append(tuple(o.shape[1:])))
    assert model(torch.zeros(2, 3, 32, 32)).shape == (2, 10)
    assert shapes == [(24, 31, 31), (32, 15, 15), (128, 7, 7), (256, 3, 3)]
    assert parameters(model) == 1_089_706


def test_the_whitened_net_takes_grey_and_tiny_images():
    for shape in ((1, 28, 28), (1, 8, 8), (3, 2, 5)):
        model = whitened(input_shape=shape, width=8).eval()
        assert model.whitening.out_channels == 8 * shape[0]
        assert model(torch.zeros(2, *shape)).shape == (2, 10)


def test_first_filters_of_the_whitened_net_pass_channels_on():
    model, x = whitened(width=32), torch.randn(1, 24, 5, 5)
    out = model.blocks[0].conv1(x)
    torch.testing.assert_close(out[:, :24], x)
    rest = model.blocks[1].conv1.weight[32:].detach()
    assert rest.var().item() == pytest.approx(2 / (9 * 32), rel=0.05)  # He, fan in


def test_whitened_patches_have_a_covariance_near_identity():
    for channels in (1, 3):
        model = whitened(input_shape=(channels, 16, 16)).double()
        images = training_images(channels).double()
        networks.whiten(model, images)
        out = model.whitening(images).detach().transpose(0, 1).flatten(1)
        half = len(out) // 2
        torch.testing.assert_close(out[half:], -out[:half])
        covariance = out[:half].cov()
        error = (covariance - torch.eye(half)).abs().max()
        before = nn.functional.unfold(images, 2).transpose(0, 1).flatten(1).cov()
        assert error < 0.05 < 0.5 < (before - torch.eye(half)).abs().max()


def test_whitening_is_the_same_for_the_same_images_whatever_the_first_weights():
    images = training_images()
    first, second = (whitened(seed=seed) for seed in (0, 1))
    before = {key: value.clone() for key, value in first.state_dict().items()}
    for model in (first, second):
        networks.whiten(model, images)
    assert torch.equal(first.whitening.weight, second.whitening.weight)
    assert not first.whitening.weight.requires_grad
    changed = [
        k for k, v in first.state_dict().items() if not torch.equal(v, before[k])
    ]
    assert changed == ["whitening.weight"]


@pytest.mark.parametrize("filters", [7, 26])
def test_whitening_refuses_a_number_of_filters_that_it_cannot_fill(filters):
    model = networks.WhitenedNet(2, input_shape=(3, 8, 8), widths=(8,), filters=filters)
    with pytest.raises(ValueError, match=f"even .*at most 24 .*got {filters}"):
        networks.whiten(model, training_images())


def test_folding_leaves_the_whitened_net_as_it_is_and_three_norms_behind_pools():
    model = whitened(width=8).double()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
            nn.init.normal_(module.weight)  # of either sign
            nn.init.normal_(module.bias)
    x = torch.randn(4, 3, 32, 32, dtype=torch.float64)
    folded = networks.fold_batch_norm(model)
    left = [m for m in _called(folded) if isinstance(m, nn.BatchNorm2d)]
    assert len(left) == 3
    torch.testing.assert_close(folded(x), model.eval()(x), rtol=1e-12, atol=1e-12)
