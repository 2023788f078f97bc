"""Random numbers from seeds: one stream for each purpose, safe with threads."""

import contextlib
import os
import threading
from collections.abc import Iterator, Sequence

import numpy as np
import torch


class _Turns:
    """One lock for the process. A forked child starts with a free lock."""

    def __init__(self):
        self.lock = threading.Lock()
        if hasattr(os, "register_at_fork"):  # not on Windows, which does not fork
            os.register_at_fork(after_in_child=self._free)

    def _free(self):
        self.lock = threading.Lock()


_turns = _Turns()


def seed_of(numbers: Sequence[int], purpose: str) -> int:
    """A seed for PyTorch, different for each list of numbers and each purpose.

    Args:
        numbers: Such as the seed of a run and an epoch; none negative.
        purpose: Such as ``"order"``.

    Returns:
        An integer in [0, 2**63).

    Raises:
        ValueError: If a number is negative.
    """
    sequence = np.random.SeedSequence([*numbers, *purpose.encode()])
    high, low = sequence.generate_state(2)
    return int(high) << 31 | int(low) >> 1


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Start PyTorch's global CPU generator from a seed, inside a ``with`` block.

    Use this for code that always draws from the global generator, such as the initial
    weights of a layer. After the block, the generator has its previous state. There is
    only one global generator, so threads take turns.

    Args:
        seed: In [0, 2**63).

    Yields:
        Nothing.
    """
    with _turns.lock, torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # not those of GPUs
        yield
