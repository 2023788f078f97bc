"""Training one network in several processes, each on a share, with torch.

Everything here works for a single process too, and then changes nothing.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

T = TypeVar("T")


class ElsewhereError(RuntimeError):
    """Another process met an error; the message says which."""


def rank() -> int:
    """Number of this process.

    Returns:
        The number, from 0; 0 for a single process.
    """
    return dist.get_rank() if dist.is_initialized() else 0


def world() -> int:
    """Number of processes that share the work.

    Returns:
        The number; 1 for a single process.
    """
    return dist.get_world_size() if dist.is_initialized() else 1


@contextmanager
def joined(device: str) -> Iterator[str]:
    """Join the processes that ``torchrun`` started; do nothing if it started none.

    GPUs communicate with NCCL, everything else with gloo.

    Args:
        device: ``"cuda"``, ``"mps"`` or ``"cpu"``.

    Yields:
        The device of this process, such as ``"cuda:1"``.
    """
    if "LOCAL_RANK" not in os.environ or dist.is_initialized():
        yield device
        return
    if device == "cuda":
        device = f"cuda:{os.environ['LOCAL_RANK']}"
        torch.cuda.set_device(device)
    store, number, count = next(dist.rendezvous("env://"))
    # Each start has its own keys. With torch 2.14, the processes of a restart would
    # otherwise find the addresses of the dead processes, and wait for them forever.
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    dist.init_process_group(
        # Objects are sent with gloo, whatever the device.
        "cpu:gloo,cuda:nccl" if "cuda" in device else "gloo",
        store=dist.PrefixStore(f"curvlib/{attempt}", store),
        rank=number,
        world_size=count,
    )
    try:
        yield device
    finally:
        dist.destroy_process_group()


def on_first(make: Callable[[], T]) -> T:
    """Call a function on the first process only, and share its result or its error.

    Args:
        make: Takes no arguments; its result must survive pickling.

    Returns:
        The result, on every process.

    Raises:
        ElsewhereError: On the other processes, if the call failed on the first, where
            its own error is raised.
    """
    if world() == 1:
        return make()
    found, error = [None, None], None
    if rank() == 0:
        try:
            found = [make(), None]
        except Exception as caught:
            found, error = [None, f"{type(caught).__name__}: {caught}"], caught
    dist.broadcast_object_list(found, src=0, device=torch.device("cpu"))
    if error is not None:
        raise error
    if found[1] is not None:
        raise ElsewhereError(found[1])
    return found[0]


def gathered(make: Callable[[], T]) -> list[T]:
    """Call a function on every process, and share all results or the first error.

    Args:
        make: Takes no arguments; its result must survive pickling.

    Returns:
        One result for each process, in the order of their numbers.

    Raises:
        ElsewhereError: If the call failed on another process but not here. If it failed
            here, its own error is raised.
    """
    if world() == 1:
        return [make()]
    mine: tuple = (None, None)
    failed = None
    try:
        mine = (make(), None)
    except Exception as caught:
        failed, mine = caught, (None, f"{type(caught).__name__}: {caught}")
    everyone: list = [None] * world()
    dist.all_gather_object(everyone, mine)
    if failed is not None:
        raise failed
    for number, (_, error) in enumerate(everyone):
        if error is not None:
            raise ElsewhereError(f"process {number}: {error}")
    return [result for result, _ in everyone]


def summed(values: Tensor) -> Tensor:
    """Sum a tensor over all processes, in place.

    Args:
        values: Of one shape and type on every process.

    Returns:
        The same tensor, which now holds the sum.
    """
    if world() > 1:
        dist.all_reduce(values)
    return values


def parallel(model: nn.Module, device: torch.device) -> nn.Module:
    """Wrap a network to share gradients and batch statistics among processes.

    Args:
        model: On the device. With several processes its batch norms change in place;
            the wrapper shares its parameters and buffers.
        device: Of this process.

    Returns:
        The wrapped network, to be trained; the model itself for a single process.
    """
    if world() == 1:
        return model
    if device.type == "cuda":
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
        return DistributedDataParallel(model, device_ids=[device.index])
    for module in model.modules():
        if type(module) is nn.BatchNorm2d:
            module.__class__ = _SyncBatchNorm2d  # the same state, another forward
    return DistributedDataParallel(model)


class _Sum(torch.autograd.Function):
    """Sum over processes; each one's derivative is the sum of all derivatives."""

    @staticmethod
    def forward(_, values: Tensor) -> Tensor:
        return summed(values.clone())

    @staticmethod
    def backward(_, gradient: Tensor) -> Tensor:
        return summed(gradient.clone())


class _SyncBatchNorm2d(nn.BatchNorm2d):
    """Batch norm over the samples of all processes, which torch has for GPUs only."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        axes = (0, 2, 3)
        values = x.float()
        count = torch.tensor(float(x.numel() // x.shape[1]), device=x.device)
        count = summed(count)
        mean = _Sum.apply(values.sum(axes)) / count
        centred = values - mean[:, None, None]
        variance = _Sum.apply(centred.square().sum(axes)) / count
        if self.track_running_stats:
            with torch.no_grad():
                self.num_batches_tracked += 1
                # As torch does, that of the population, not of the batch.
                of_all = variance * count / (count - 1)
                self.running_mean.lerp_(mean, self.momentum)
                self.running_var.lerp_(of_all, self.momentum)
        scale = self.weight * (variance + self.eps).rsqrt()
        out = centred * scale[:, None, None] + self.bias[:, None, None]
        return out.to(x.dtype)
