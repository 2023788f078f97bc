"""Chance by a seed: the same draws whatever runs beside, and nothing else moved."""

import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn

from curvlib.data import seeding
from curvlib.runs import networks


def drawn(seed: int) -> torch.Tensor:
    with seeding.seeded(seed):
        return nn.Linear(20, 20).weight.detach()


def test_a_seed_gives_what_pytorch_gives_for_it():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        expected = nn.Linear(20, 20).weight
    torch.testing.assert_close(drawn(3), expected, rtol=0, atol=0)


def test_the_global_generator_stays_where_it_was_even_after_an_error():
    before = torch.get_rng_state()
    drawn(3)
    with pytest.raises(ZeroDivisionError), seeding.seeded(4):
        torch.rand(1)
        1 / 0  # noqa: B018
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(drawn(3), drawn(3))  # the turn was given back


def test_threads_draw_what_each_draws_alone():
    def network(seed):
        built = networks.build(
            "mlp", num_classes=3, input_shape=(1, 4, 4), width=8, seed=seed
        )
        return torch.cat([p.detach().flatten() for p in built.parameters()])

    alone = [network(seed) for seed in range(200)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)  # threads change places after nearly every step
    try:
        with ThreadPoolExecutor(8) as pool:
            together = list(pool.map(network, range(200)))
    finally:
        sys.setswitchinterval(interval)
    different = [k for k in range(200) if not torch.equal(alone[k], together[k])]
    assert not different


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_child_forked_during_another_threads_turn_has_a_turn_of_its_own():
    entered, leave = threading.Event(), threading.Event()

    def hold():
        with seeding.seeded(0):
            entered.set()
            leave.wait(60)

    thread = threading.Thread(target=hold)
    thread.start()
    assert entered.wait(60)
    child = os.fork()
    if child == 0:  # only what cannot wait for a lock of pytest's or torch's
        os._exit(0 if seeding._turns.lock.acquire(timeout=5) else 1)
    _, status = os.waitpid(child, 0)
    assert seeding._turns.lock.locked()  # here it is still the thread's turn
    leave.set()
    thread.join()
    assert os.waitstatus_to_exitcode(status) == 0


def test_a_seed_differs_by_each_number_and_by_purpose():
    seeds = {
        seeding.seed_of(numbers, purpose)
        for numbers in ([0, 1], [1, 0], [1, 1], [1])
        for purpose in ("order", "weights")
    }
    assert len(seeds) == 8
    assert all(0 <= seed < 2**63 for seed in seeds)
    # As it is on every machine, or no run could be made again.
    assert seeding.seed_of([5, 2], "order") == 6694301616076831766
