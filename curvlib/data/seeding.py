"""Chance by a seed: a stream for each purpose, whatever runs in other threads."""

import contextlib
import os
import threading
from collections.abc import Iterator, Sequence

import numpy as np
import torch


class _Turns:
    """One lock for the process; a child that was forked begins with a free one."""

    def __init__(self):
        self.lock = threading.Lock()
        if hasattr(os, "register_at_fork"):  # not on Windows, which does not fork
            os.register_at_fork(after_in_child=self._free)

    def _free(self):
        self.lock = threading.Lock()


_turns = _Turns()


def seed_of(numbers: Sequence[int], purpose: str) -> int:
    """A seed for PyTorch, another for each list of numbers and each purpose.

    Args:
        numbers: Such as the seed of a run and an epoch; none negative.
        purpose: Such as ``"order"``.
    """
    sequence = np.random.SeedSequence([*numbers, *purpose.encode()])
    high, low = sequence.generate_state(2)
    return int(high) << 31 | int(low) >> 1


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Let PyTorch's global generator of the CPU start from a seed.

    This is for code that draws from nothing else, such as the first weights of a layer.
    Afterwards the generator is as before. There is but one, so threads take turns.

    Args:
        seed: In [0, 2**63).
    """
    with _turns.lock, torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # not those of GPUs
        yield
