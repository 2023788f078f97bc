"""Checks that a model's curvature is meaningful, and ways to compute it faster.

A finite difference divides by a small step. It magnifies everything that changes the
logits besides the sample itself: other images in the batch, random numbers, coarse
arithmetic. The functions here unwrap a model, refuse models that would give wrong but
plausible numbers, switch on exact arithmetic, and fold batch norm.
"""

import copy
import pickle
import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, NamedTuple
from weakref import WeakSet

import numpy as np
import torch
from torch import Tensor, fx, nn
from torch.nn.modules import module as global_hooks
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils.fusion import fuse_conv_bn_weights
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

# By name, because they belong to torchvision, timm, or private parts of torch.
MORE_CHANCE = ("StochasticDepth", "DropPath", "_SpectralNorm")
SHARDED = {"FullyShardedDataParallel", "FSDPModule"}  # by name: slow to import
ROUNDING = (  # beginnings of the names of operations
    *("round", "floor", "ceil", "trunc", "sign", "remainder", "fmod"),
    *("fake_quantize", "quantize"),
)
SWITCHES = (  # each may reduce the precision of float32
    torch.backends.cuda.matmul,
    torch.backends.cudnn.conv,
    torch.backends.cudnn.rnn,
    torch.backends.mkldnn.matmul,
    torch.backends.mkldnn.conv,
)
SMALLEST_STEP = 5e-4  # for float32 inside float64: about the root of its rounding
FOLDED = {
    nn.Conv1d: nn.BatchNorm1d,
    nn.Conv2d: nn.BatchNorm2d,
    nn.Conv3d: nn.BatchNorm3d,
}
_UNFOLDABLE: WeakSet[nn.Module] = WeakSet()  # folding failed: do not try again


def unwrapped(model: nn.Module) -> nn.Module:
    """Return the network inside wrappers that compile, replicate or synchronise it.

    Scoring needs no other process. A wrapper that waits for other processes would hang
    when one process scores alone.

    Args:
        model: Any module, perhaps in DataParallel, DistributedDataParallel, or the
            result of ``torch.compile``.

    Returns:
        The inner module, with the same weights; the model itself if it has no wrapper.

    Raises:
        ValueError: If it is not a module, or an inner module has such a wrapper or
            holds only a part of its weights.
    """
    if not isinstance(model, nn.Module):
        raise ValueError(
            f"model must be a torch.nn.Module, got {type(model).__name__}; put a "
            "function into the forward of a module"
        )
    parallel = (nn.DataParallel, DistributedDataParallel)
    while isinstance(model, parallel) or hasattr(model, "_orig_mod"):
        model = model.module if isinstance(model, parallel) else model._orig_mod
    for name, module in model.named_modules():
        kinds = {kind.__name__ for kind in type(module).__mro__}
        if isinstance(module, parallel) or kinds & SHARDED:
            raise ValueError(
                f"module {name or 'model'!r} ({type(module).__name__}) needs the other "
                "processes for each forward: pass a model with the plain module and "
                "all weights in its place"
            )
    return model


def refuse_mixing(model: nn.Module) -> None:
    """Refuse modules that are known to mix samples or to draw random numbers.

    Args:
        model: Any module.

    Raises:
        ValueError: If a module does so in its current mode; the message names it.
    """
    for name, module in model.named_modules():
        if _mixes_samples(module):
            raise ValueError(
                f"module {name or 'model'!r} ({type(module).__name__}) makes a loss "
                "depend on the batch, on chance or on earlier calls; call model.eval() "
                "first, and give batch norm running statistics"
            )


def _mixes_samples(module: nn.Module) -> bool:
    if isinstance(module, nn.modules.batchnorm._BatchNorm):
        return module.training or module.running_mean is None
    if isinstance(module, nn.modules.dropout._DropoutNd):
        return module.training and module.p > 0
    if isinstance(module, nn.modules.instancenorm._InstanceNorm):
        return module.training and module.running_mean is not None
    if isinstance(module, nn.RReLU) or type(module).__name__ in MORE_CHANCE:
        return module.training
    # Recurrent and attention layers carry their own dropout.
    rate = getattr(module, "dropout", 0.0)
    return module.training and isinstance(rate, float) and rate > 0


class Seen(NamedTuple):
    """Result of one forward pass of the first sample and an unrelated one."""

    output: Any  # output of the model for these two samples
    drew: bool  # whether the pass drew random numbers


def inspected(model: nn.Module, x: Tensor, *, step: float) -> Seen:
    """Watch one forward pass, and refuse arithmetic too coarse for differences.

    Every operation on a value that depends on x is checked. Half precision makes
    squared norms tens of times too large. Rounding to a grid makes logits jump.

    Args:
        model: The user's module.
        x: Inputs, float32 or float64, shape [B, *input]; the first one is used.
        step: h of the finite difference, in units of x.

    Returns:
        The result of the pass, for ``refuse_company``.

    Raises:
        ValueError: If a value that depends on x has less precision than float32, is
            quantised, or is rounded to a grid; or if the weights have another type than
            x and the model does not convert x. The message names the module.
    """
    few, x = x[:8].detach(), _beside_a_stranger(x)
    watch, before = _Watch(model, x), _generators()
    handles = [
        global_hooks.register_module_forward_pre_hook(watch.enter),
        global_hooks.register_module_forward_hook(watch.leave, always_call=True),
    ]
    failure = None
    try:
        with torch.no_grad(), watch:
            output = model(x)
    except Exception as error:
        failure = error
    finally:
        for handle in handles:
            handle.remove()
    if watch.coarse:
        raise ValueError(
            f"{watch.coarse}, so that differences over a small step are noise; keep "
            "what depends on x in float32: no torch.autocast, .half(), .bfloat16(), "
            "TF32 or quantised layers"
        ) from failure
    if failure is not None:  # of the model, or of the watch alone
        try:
            with torch.no_grad():
                output = model(x)
        except Exception as error:
            for name, weight in model.named_parameters():
                other = weight.is_floating_point() and weight.dtype != x.dtype
                if other and "type" in str(error):
                    use = "float" if x.dtype == torch.float32 else "double"
                    raise ValueError(
                        f"parameter {name!r} is {weight.dtype}, x is {x.dtype}, and "
                        f"the model does not convert: use model.{use}()"
                    ) from error
            raise
    if watch.single and step < SMALLEST_STEP:
        raise ValueError(
            f"{watch.single}, too coarse for step {step!r}; take {SMALLEST_STEP} or "
            "more, or use model.double()"
        )
    if watch.rounded and _jumps(model, few, step):
        raise ValueError(
            f"{watch.rounded}, so that logits move in jumps and differences over a "
            "small step say nothing; score the model as it was before quantisation"
        )
    return Seen(output, _generators() != before)


def refuse_company(model: nn.Module, x: Tensor, seen: Seen, logits: Tensor) -> None:
    """Refuse a model if a sample's logits depend on the other images in the batch.

    Args:
        model: The user's module.
        x: Inputs, shape [B, *input].
        seen: Result of ``inspected``.
        logits: Logits of the whole batch, shape [B, C].

    Raises:
        ValueError: If the first sample has different logits beside an unrelated one.
    """
    # Rounding depends on the batch: in float32 by 1e-6 in a ResNet or a transformer, by
    # 2e-4 after thirty normalised layers. This allows 1e-3, and 4e-8 in float64.
    rounding = 3 * torch.finfo(logits.dtype).eps ** 0.5
    outputs = [seen.output]
    if seen.drew:  # may rarely have an effect, such as when whole layers are dropped
        with torch.no_grad():
            outputs += [model(_beside_a_stranger(x)) for _ in range(16)]
    largest = max((output[:1] - logits[:1]).abs().max() for output in outputs)
    if largest > rounding * (1 + logits[0].abs().max()):
        raise ValueError(
            f"the first sample's logits differ by {largest.item():.2g} when it comes "
            "in other company: the model mixes the samples of a batch or draws random "
            "numbers, so that no sample has a curvature of its own; call model.eval(), "
            "and switch off dropout that its forward calls by itself (or the model "
            "blows up rounding so much that it needs float64)"
        )


def _beside_a_stranger(x: Tensor) -> Tensor:
    # Two samples: a chunk of one sample already shows the first sample alone.
    return torch.cat([x[:1], x[:1] + 1]).detach()


def _generators() -> bytes:
    """State of the global generators of Python, NumPy and torch, to be compared."""
    states = random.getstate(), np.random.get_state(), torch.get_rng_state().numpy()
    # A network on a GPU draws there. Asking for its state does not start CUDA anew.
    on_gpus = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
    return pickle.dumps((states, [state.numpy() for state in on_gpus]))


class _Watch(TorchDispatchMode):
    """Follow x through a forward pass; note which module computes coarsely."""

    supports_higher_order_operators = True  # such as flex_attention

    def __init__(self, model: nn.Module, x: Tensor):
        super().__init__()
        self.names = {id(m): name or "model" for name, m in model.named_modules()}
        self.device, self.size = x.device.type, x.dtype.itemsize
        self.inside = [(model, False)]  # modules, and whether they found autocast on
        self.kept, self.follows = [x], {_storage(x)}  # kept: no address is used twice
        self.coarse = self.single = self.rounded = ""

    def enter(self, module: nn.Module, _: object) -> None:
        self.inside.append((module, torch.is_autocast_enabled(self.device)))

    def leave(self, *_: object) -> None:
        self.inside.pop()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        given = [t for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)]
        if any(_storage(t) in self.follows for t in given):
            made = [t for t in tree_leaves(out) if isinstance(t, Tensor)]
            self.kept += made
            self.follows |= {_storage(t) for t in made}
            self.note(str(func), given, made, kwargs or {})
        return out

    def note(self, func: str, given: list[Tensor], made: list[Tensor], options: dict):
        library, name, *_ = f"{func}..".split(".")  # such as aten.add.Tensor
        # A module that starts under autocast did not switch it on: name its opener.
        module = next(m for m, found_on in reversed(self.inside) if not found_on)
        place = self.names.get(id(module), "model")
        where = f"module {place!r} ({type(module).__name__})"
        if any(switch.fp32_precision != "ieee" for switch in SWITCHES):
            self.coarse = self.coarse or f"{where} switches reduced precision on"
        for t in made:
            if t.is_quantized or library.startswith("quantized"):
                self.coarse = self.coarse or f"{where} is quantised"
            elif t.is_floating_point() and t.dtype.itemsize < 4:
                self.coarse = self.coarse or f"{where} computes in {t.dtype}"
            elif t.is_floating_point() and t.dtype.itemsize < self.size:
                self.single = self.single or f"{where} computes in {t.dtype}"
        to_integers = name.strip("_") in ("to_copy", "copy", "view") and any(
            not (t.is_floating_point() or t.is_complex() or t.dtype == torch.bool)
            for t in made
        )
        if (
            name.startswith(ROUNDING)
            or options.get("rounding_mode")
            or (to_integers and any(t.is_floating_point() for t in given))
        ):
            self.rounded = self.rounded or f"{where} rounds what depends on x"


def _storage(values: Tensor) -> int:
    try:
        return values.untyped_storage()._cdata
    except (NotImplementedError, RuntimeError):  # sparse, nested and the like
        return id(values)


def _jumps(model: nn.Module, x: Tensor, step: float) -> bool:
    """Whether logits, in float64, change differently than their gradient predicts."""
    step = min(step, 1e-3)  # over longer steps, smooth models are not linear either
    try:
        model, x = copy.deepcopy(model).double(), x.double()
        h = x.new_zeros(len(x), *[1] * (x.ndim - 1)).requires_grad_()
        here = model(x + h)
        weights = torch.arange(1.0, 1 + here.shape[1]).to(here)
        (slope,) = torch.autograd.grad((here @ weights).sum(), h)
        errors = [
            ((model(x + t) - here) @ weights / t - slope.flatten()).abs().max()
            for t in (1e-6 * step, step, 2 * step, 4 * step, 8 * step, 16 * step)
        ]
    except Exception:  # the forward cannot use float64, so we cannot tell
        return True
    return not max(errors) < 0.2 * slope.abs().max()


def fold_batch_norm(model: nn.Module) -> nn.Module:
    """Copy a network for scoring, with batch norms folded into convolutions.

    In evaluation mode the copy is the same function, up to rounding. It passes over
    memory half as often, and stores weights with channels last, which CPUs and GPUs
    convolve fastest. ``curvlib.input_curvature`` folds in each call. A copy made once
    saves this work.

    Args:
        model: Any module; it does not change.

    Returns:
        The copy, in evaluation mode. If the forward cannot be traced, because its
        control flow depends on values, a plain copy: slower, but correct.
    """
    plain = copy.deepcopy(model).eval().to(memory_format=torch.channels_last)
    try:
        folded, _ = _folded(plain)
    except Exception:  # a forward may raise anything when it is traced
        return plain
    return folded.to(memory_format=torch.channels_last)


def folded_if_same(model: nn.Module, x: Tensor) -> nn.Module | None:
    """Fold batch norm if this surely does not change the function.

    Tracing freezes the decisions of Python code: random numbers, counters, branches. We
    therefore compare the logits of the copy with those of the model.

    Args:
        model: Does not change; the copy shares the weights that are not folded.
        x: A few inputs for the comparison, shape [B, *input].

    Returns:
        A faster copy; None if there is nothing to fold, the model has hooks, its
        forward cannot be traced, or the copy's logits differ.
    """
    modules = list(model.modules())
    hooked = [
        *(m._forward_hooks or m._forward_pre_hooks for m in modules),
        *(m._backward_hooks or m._backward_pre_hooks for m in modules),
    ]
    norms = [m for m in modules if type(m) in FOLDED.values()]
    if any(hooked) or not norms or model in _UNFOLDABLE:
        return None
    try:
        shared = {id(t): t for t in (*model.parameters(), *model.buffers())}
        folded, convolutions = _folded(copy.deepcopy(model, shared))
    except Exception:  # a module may raise anything when it is copied or traced
        convolutions = []
    if not convolutions:
        _UNFOLDABLE.add(model)
        return None
    views = any(node.target == "view" for node in folded.graph.nodes)  # of one layout
    layout = (
        torch.channels_last if x.ndim == 4 and not views else torch.contiguous_format
    )
    for convolution in convolutions:
        convolution.to(memory_format=layout)
    folded.register_forward_pre_hook(
        lambda _, given: (given[0].contiguous(memory_format=layout),)
    )
    with torch.no_grad():
        expected = model(x.clone())
        try:
            error = (folded(x.clone()) - expected).abs().max()
            rounding = torch.finfo(expected.dtype).eps ** 0.5
            same = bool(error <= rounding * (1 + expected.abs().max()))
        except Exception:  # the output is not a tensor
            same = False
    return folded if same else None


def _folded(model: nn.Module) -> tuple[fx.GraphModule, list[nn.Module]]:
    """A copy of the model as a graph, and its convolutions with a folded norm."""
    traced = fx.symbolic_trace(model)
    modules, changed = dict(traced.named_modules()), []
    targets = [node.target for node in traced.graph.nodes]
    for node in list(traced.graph.nodes):
        norm = modules.get(node.target) if node.op == "call_module" else None
        before = node.args[0] if node.args else None
        if (
            isinstance(before, fx.Node)
            and before.op == "call_module"
            and type(norm) is FOLDED.get(type(modules[before.target]), ())
            and not norm.training
            and norm.running_mean is not None
            and len(before.users) == 1  # nothing else reads the convolution's output
            and targets.count(before.target) == targets.count(node.target) == 1
        ):
            convolution = modules[before.target]
            convolution.weight, convolution.bias = fuse_conv_bn_weights(
                *(convolution.weight, convolution.bias),
                *(norm.running_mean, norm.running_var, norm.eps),
                *(norm.weight, norm.bias),
            )
            changed.append(convolution)
            node.replace_all_uses_with(before)
            traced.graph.erase_node(node)
    traced.recompile()
    return traced, changed


@contextmanager
def frozen(model: nn.Module) -> Iterator[None]:
    """Switch off gradients of the weights, which are not needed and cost time.

    Args:
        model: Afterwards its parameters require gradients as before.

    Yields:
        Nothing.
    """
    wanted = [p for p in model.parameters() if p.requires_grad]
    for parameter in wanted:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in wanted:
            parameter.requires_grad_(True)


@contextmanager
def exact_arithmetic(model: nn.Module, device_type: str) -> Iterator[None]:
    """Full float32 and gradients: no TF32, no autocast, whatever the caller set.

    Compiled parts run uncompiled, because compiled code has no second derivative.
    Recurrent layers run without cuDNN, which has no gradient for them in evaluation
    mode.

    Args:
        model: The model to be called.
        device_type: Device type of its inputs, such as ``"cuda"``.

    Yields:
        Nothing.
    """
    before = [switch.fp32_precision for switch in SWITCHES]
    cudnn = torch.backends.cudnn.enabled
    recurrent = any(isinstance(module, nn.RNNBase) for module in model.modules())
    compiler = nullcontext()
    if "torch._dynamo" in sys.modules:  # otherwise nothing is compiled
        compiler = torch.compiler.set_stance("force_eager")
    try:
        for switch in SWITCHES:
            switch.fp32_precision = "ieee"
        torch.backends.cudnn.enabled = cudnn and not recurrent
        with (
            compiler,
            torch.inference_mode(False),
            torch.enable_grad(),
            torch.autocast(device_type, enabled=False),
        ):
            yield
    finally:
        torch.backends.cudnn.enabled = cudnn
        for switch, precision in zip(SWITCHES, before, strict=True):
            switch.fp32_precision = precision
