"""The networks of the book. Their only arguments are activation and width."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn
from torchvision.models import get_model, list_models

from curvlib.data.seeding import seeded
from curvlib.models import fold_batch_norm  # noqa: F401, moved there from here

RECIPE = 1  # of architectures and first weights

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "softplus": F.softplus,
    "gelu": F.gelu,
    "silu": F.silu,
    "tanh": torch.tanh,
}


class Block(nn.Module):
    """Two 3×3 convolutions with a skip connection (He et al. 2016, basic block)."""

    def __init__(self, inputs: int, outputs: int, stride: int, activation: str):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.activation = ACTIVATIONS[activation]
        self.shortcut = nn.Sequential()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False),
                nn.BatchNorm2d(outputs),
            )

    def forward(self, x: Tensor) -> Tensor:
        """Map features to features.

        Args:
            x: Shape [B, inputs, H, W].

        Returns:
            Shape [B, outputs, H / stride, W / stride].
        """
        out = self.activation(self.norm1(self.conv1(x)))
        return self.activation(self.norm2(self.conv2(out)) + self.shortcut(x))


class ResNet(nn.Module):
    """Residual network for small images: 3×3 stem, no max-pool.

    Args:
        num_classes: Number of logits.
        channels: Channels of the images.
        stem_stride: Stride of the first convolution; 2 halves the image at once.
        blocks: Blocks in each stage; from the second stage on, each halves the image
            and doubles the width.
        width: Channels of the first stage.
        activation: One of ``ACTIVATIONS``.
    """

    def __init__(
        self,
        num_classes: int,
        *,
        channels: int,
        stem_stride: int,
        blocks: tuple[int, ...],
        width: int,
        activation: str,
    ):
        super().__init__()
        self.stem = nn.Conv2d(channels, width, 3, stem_stride, 1, bias=False)
        self.norm = nn.BatchNorm2d(width)
        self.activation = ACTIVATIONS[activation]
        stages, inputs = [], width
        for stage, depth in enumerate(blocks):
            outputs = width * 2**stage
            for block in range(depth):
                stride = 2 if stage > 0 and block == 0 else 1
                stages.append(Block(inputs, outputs, stride, activation))
                inputs = outputs
        self.stages = nn.Sequential(*stages)
        self.head = nn.Linear(inputs, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map images to logits.

        Args:
            x: Images, normalised, shape [B, channels, H, W].

        Returns:
            Logits, shape [B, num_classes].
        """
        x = self.activation(self.norm(self.stem(x)))
        return self.head(self.stages(x).mean((2, 3)))


class MLP(nn.Module):
    """Two hidden layers of one width, on inputs of any shape."""

    def __init__(self, num_classes: int, *, inputs: int, width: int, activation: str):
        super().__init__()
        self.hidden = nn.ModuleList([nn.Linear(inputs, width), nn.Linear(width, width)])
        self.activation = ACTIVATIONS[activation]
        self.head = nn.Linear(width, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map inputs to logits.

        Args:
            x: Inputs, normalised, shape [B, *input].

        Returns:
            Logits, shape [B, num_classes].
        """
        x = x.flatten(1)
        for layer in self.hidden:
            x = self.activation(layer(x))
        return self.head(x)


# Factor of the features before the head of ``WhitenedNet``. Without it, the large
# learning rate of the other layers makes the logits jump at every step. It comes before
# the head, so that the head's inputs and outputs still give the head's gradient.
SCALE = 1 / 8


class PooledBlock(nn.Module):
    """Two 3×3 convolutions, with a max-pool after the first.

    Args:
        inputs: Channels of the input.
        outputs: Channels of the output.
        pool: Side of the max-pool: 2 halves the image, 1 leaves it as it is.
        activation: One of ``ACTIVATIONS``.
    """

    def __init__(self, inputs: int, outputs: int, *, pool: int, activation: str):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, 1, 1, bias=False)
        # Before the norm, which then has a quarter of the work in training. The price:
        # scoring cannot fold this norm, which costs 2% of its time.
        self.pool = nn.MaxPool2d(pool)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.activation = ACTIVATIONS[activation]

    def forward(self, x: Tensor) -> Tensor:
        """Map features to features.

        Args:
            x: Shape [B, inputs, H, W].

        Returns:
            Shape [B, outputs, H // pool, W // pool].
        """
        x = self.activation(self.norm1(self.pool(self.conv1(x))))
        return self.activation(self.norm2(self.conv2(x)))


class WhitenedNet(nn.Module):
    """A fixed whitening convolution, three blocks with max-pools, one linear layer.

    The idea is that of Keller Jordan's airbench (2024): whitened patches make the first
    layer good from the start, and few wide layers at low resolution learn fast. This
    network has ReLU, and no scaled biases. Each max-pool halves the image, unless only
    one pixel is left.

    ``whiten`` sets the first layer before training. Until then it is random.

    Args:
        num_classes: Number of logits.
        input_shape: Shape of one image, [C, H, W].
        widths: Channels of each block.
        activation: One of ``ACTIVATIONS``.
        kernel: Side of the patches that the first layer whitens, in pixels.
        stride: Stride of the first layer; 2 halves the image at once.
        filters: Channels of the first layer, an even number; None: twice the number of
            values in a patch, which keeps all directions.
    """

    def __init__(
        self,
        num_classes: int,
        *,
        input_shape: tuple[int, ...],
        widths: tuple[int, ...],
        activation: str = "relu",
        kernel: int = 2,
        stride: int = 1,
        filters: int | None = None,
    ):
        super().__init__()
        channels, *sides = input_shape
        filters = filters or 2 * channels * kernel**2
        padding = (kernel - 1) // 2
        self.whitening = nn.Conv2d(
            channels, filters, kernel, stride, padding, bias=False
        )
        self.whitening.weight.requires_grad_(False)
        self.activation = ACTIVATIONS[activation]
        side, blocks = (min(sides) + 2 * padding - kernel) // stride + 1, []
        for inputs, outputs in zip((filters, *widths), widths, strict=False):
            pool = min(2, side)
            block = PooledBlock(inputs, outputs, pool=pool, activation=activation)
            blocks.append(block)
            side //= pool
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Linear(widths[-1], num_classes)
        for block in blocks:
            for conv in (block.conv1, block.conv2):
                nn.init.kaiming_normal_(conv.weight, mode="fan_in")
                # The first filters pass on one channel each, which speeds up the start.
                nn.init.dirac_(conv.weight.data[: conv.in_channels])

    def forward(self, x: Tensor) -> Tensor:
        """Map images to logits.

        Args:
            x: Images, normalised, shape [B, C, H, W].

        Returns:
            Logits, shape [B, num_classes].
        """
        x = self.blocks(self.activation(self.whitening(x)))
        return self.head(SCALE * x.amax((2, 3)))


FLOOR = 5e-4  # added to the variance of a direction, in squared units of the input


@torch.no_grad()
def whiten(model: WhitenedNet, images: Tensor) -> None:
    """Set the first layer to the principal directions of patches, with equal variance.

    A direction with second moment e is divided by sqrt(e + FLOOR), so that directions
    with hardly any variance are not blown up. The filters with the largest moments come
    first, then their opposites, so that a ReLU loses nothing. There is no randomness:
    the same images give the same weights, up to rounding.

    Args:
        model: Only ``model.whitening.weight`` changes.
        images: A few thousand training images, normalised, shape [N, C, H, W].

    Raises:
        ValueError: If the layer has an odd number of filters, or more than two for each
            value in a patch.
    """
    weight = model.whitening.weight
    filters, channels, kernel, _ = weight.shape
    directions, kept = channels * kernel**2, filters // 2
    if filters % 2 or kept > directions:
        raise ValueError(
            f"the whitening layer needs an even number of filters, at most "
            f"{2 * directions} for patches of {directions} values, got {filters}; "
            "build the network with other filters"
        )
    moments, count = torch.zeros(directions, directions, dtype=torch.float64), 0
    for some in images.cpu().split(100):  # patches take kernel² times the memory
        patches = F.unfold(some.double(), kernel).transpose(1, 2).flatten(0, 1)
        moments += patches.T @ patches
        count += len(patches)
    values, vectors = torch.linalg.eigh(moments / count)  # ascending
    values, vectors = values[-kept:].flip(0), vectors[:, -kept:].flip(1)
    # An eigenvector's sign is arbitrary: make its largest entry positive.
    largest = vectors.gather(0, vectors.abs().argmax(0, keepdim=True))
    half = (vectors * largest.sign() / (values + FLOOR).sqrt()).T
    weight.copy_(torch.cat([half, -half]).reshape(weight.shape))


RESNETS = {
    # Stride of the stem, blocks of each stage.
    "resnet18": (1, (2, 2, 2, 2)),  # the paper's, at width 64
    "slim_resnet": (1, (1, 1, 1)),  # trains well on two cores, at width 16 or 32
    # Memorises 50,000 labels on two cores. At width 32 it is as fast as the slim one
    # at 16, with 4 times the weights; at width 48 it takes 1.5 times as long.
    "strided_resnet": (2, (1, 1, 1)),
    # Feature maps of 8 by 8 and below, with many channels: it memorises 10,000 labels
    # in a third of the slim network's epochs, but is less accurate on unseen images.
    "compact_resnet": (2, (0, 1, 1, 1)),
}
# Generalises to unseen images in minutes on two cores, at width 32; the channels of its
# blocks, in units of the width.
WHITENED = {"whitened_net": (1, 4, 8)}
MODELS = (*RESNETS, *WHITENED, "mlp")
TORCHVISION = "torchvision/"  # before the name of one of its models, for photographs


def known(name: str) -> bool:
    """Whether ``build`` knows a name.

    Args:
        name: Any text.

    Returns:
        True for one of ``MODELS``, or torchvision/ and one of its classifiers.
    """
    return name in MODELS or (
        name.startswith(TORCHVISION)
        and name.removeprefix(TORCHVISION) in list_models(module=torchvision.models)
    )


def build(
    name: str,
    *,
    num_classes: int,
    input_shape: tuple[int, ...],
    width: int,
    activation: str = "relu",
    seed: int = 0,
) -> nn.Module:
    """Build a network with seeded weights, without changing global generators.

    Convolutions are initialised as in He et al. (2015), fan out, like torchvision's
    ResNets; linear layers with PyTorch's default. Convolutions of ``"whitened_net"``
    use fan in, and its first filters are the identity; ``whiten`` sets its first layer.

    Args:
        name: One of ``MODELS``, or a name such as ``"torchvision/resnet18"``: a network
            of torchvision, with a fixed width and activation.
        num_classes: Number of logits.
        input_shape: Shape of one sample, [C, H, W]; any shape for ``"mlp"``.
        width: Channels of the first stage or block, or units of a hidden layer.
        activation: One of ``ACTIVATIONS``.
        seed: Seed of the initial weights.

    Returns:
        The network, in training mode, on the CPU.

    Raises:
        ValueError: If the name or the activation is unknown, the width is not a
            positive integer, the input has another number of axes, or images are too
            small.
    """
    if not known(name):
        raise ValueError(
            f"unknown model {name!r}: expected one of {', '.join(MODELS)}, or "
            "torchvision/ and the name of one of its classification models"
        )
    if activation not in ACTIVATIONS:
        raise ValueError(
            f"unknown activation {activation!r}: expected one of "
            f"{', '.join(ACTIVATIONS)}"
        )
    if not isinstance(width, int) or width < 1:
        raise ValueError(f"width must be a positive integer, got {width!r}")
    if name != "mlp" and len(input_shape) != 3:
        raise ValueError(
            f"{name} needs images of shape [C, H, W], got {list(input_shape)}; "
            "use 'mlp' for other inputs"
        )
    with seeded(seed):
        if name == "mlp":
            inputs = torch.Size(input_shape).numel()
            return MLP(num_classes, inputs=inputs, width=width, activation=activation)
        if name.startswith(TORCHVISION):
            if input_shape[0] != 3:
                raise ValueError(
                    f"{name} takes images of 3 channels, got {input_shape[0]}"
                )
            return get_model(
                name.removeprefix(TORCHVISION), weights=None, num_classes=num_classes
            )
        if name in WHITENED:
            if min(input_shape[1:]) < 2:
                raise ValueError(
                    f"{name} needs images of at least 2 by 2 pixels, got "
                    f"{list(input_shape)}; use 'mlp' for other inputs"
                )
            return WhitenedNet(
                num_classes,
                input_shape=tuple(input_shape),
                widths=tuple(width * factor for factor in WHITENED[name]),
                activation=activation,
            )
        stem_stride, blocks = RESNETS[name]
        model = ResNet(
            num_classes,
            channels=input_shape[0],
            stem_stride=stem_stride,
            blocks=blocks,
            width=width,
            activation=activation,
        )
        for module in model.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")
        return model


def last_linear(model: nn.Module) -> nn.Linear:
    """The linear layer that outputs the logits: the last one a network defines.

    Args:
        model: Any network.

    Returns:
        The layer itself, not a copy.

    Raises:
        ValueError: If the network has no linear layer.
    """
    layers = [m for m in model.modules() if isinstance(m, nn.Linear)]
    if not layers:
        raise ValueError(
            f"{type(model).__name__} has no nn.Linear, so it has no last linear layer"
        )
    return layers[-1]
