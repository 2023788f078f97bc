"""Points in the plane: counts and seeds, snapshots on the way, the exact trace."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from test_hvp import indefinite, quadratic
from torch import nn

from curvlib import input_curvature
from curvlib.studies import toy

# --------------------------------------------------------------------- two clouds


@pytest.mark.parametrize(
    ("num_per_class", "wrong_share", "flipped"),
    [(15, 0.3, 9), (15, 0.0, 0), (1, 1.0, 2), (10, 0.26, 5), (3, 0.05, 0)],
)
def test_the_share_of_wrong_labels_is_rounded_to_a_whole_number_of_points(
    num_per_class, wrong_share, flipped
):
    x, y, wrong = toy.two_classes(num_per_class, wrong_share=wrong_share, seed=0)
    assert x.shape == (2 * num_per_class, 2) and x.dtype == torch.float64
    assert y.shape == (2 * num_per_class,) and y.dtype == torch.int64
    assert wrong.shape == (2 * num_per_class,) and wrong.dtype == bool
    assert wrong.sum() == flipped
    true = np.repeat([0, 1], num_per_class)
    assert np.array_equal(y.numpy() != true, wrong)


def test_the_clouds_stand_two_to_the_left_and_two_to_the_right():
    x, y, _ = toy.two_classes(2000, seed=1)
    for label, centre in ((0, [-2.0, 0.0]), (1, [2.0, 0.0])):
        cloud = x[y == label]
        off = cloud.mean(0) - torch.tensor(centre, dtype=torch.float64)
        assert off.abs().max() < 4 / 2000**0.5
        assert (cloud.std(0) - 1).abs().max() < 4 / (2 * 2000) ** 0.5


def test_the_seed_decides_points_and_wrong_labels():
    first, again, other = (
        toy.two_classes(15, wrong_share=0.3, seed=seed) for seed in (3, 3, 4)
    )
    for a, b in zip(first, again, strict=True):
        assert np.array_equal(np.asarray(a), np.asarray(b))
    assert not torch.equal(first[0], other[0])
    assert not np.array_equal(first[2], other[2])


def test_with_another_share_of_wrong_labels_the_points_stay_and_the_wrong_ones_nest():
    some, more = (toy.two_classes(15, wrong_share=w, seed=3) for w in (0.1, 0.4))
    assert torch.equal(some[0], more[0])
    assert (some[2] <= more[2]).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_per_class": 0}, "num_per_class must be at least 1, got 0"),
        ({"wrong_share": 1.1}, r"fraction in \[0, 1\], got 1.1"),
        ({"wrong_share": -0.1}, r"fraction in \[0, 1\], got -0.1"),
        ({"wrong_share": float("nan")}, r"fraction in \[0, 1\], got nan"),
    ],
)
def test_no_points_and_shares_that_are_none_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        toy.two_classes(**{"num_per_class": 5, "seed": 0} | arguments)


# ---------------------------------------------------------------------- training


DATA = toy.two_classes(6, wrong_share=0.25, seed=0)[:2]


def weights(model: nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


@pytest.mark.parametrize(
    ("steps", "snapshots", "expected"),
    [
        (20, 4, [5, 10, 15, 20]),
        (5, 5, [1, 2, 3, 4, 5]),
        (5, 4, [1, 2, 4, 5]),
        (7, 1, [7]),
        (3, 2, [2, 3]),
    ],
)
def test_snapshots_are_evenly_spaced_and_the_last_is_the_end(
    steps, snapshots, expected
):
    kept, at = toy.train(*DATA, width=3, steps=steps, snapshots=snapshots)
    assert at.tolist() == expected
    assert len(kept) == snapshots
    assert not any(model.training for model in kept)
    for model in kept:
        assert model(DATA[0]).shape == (12, 2)
        assert weights(model).dtype == torch.float64


def test_a_snapshot_is_the_end_of_a_shorter_training_and_later_steps_leave_it_alone():
    (early, late), _ = toy.train(*DATA, width=4, steps=10, snapshots=2, seed=1)
    (short,), _ = toy.train(*DATA, width=4, steps=5, snapshots=1, seed=1)
    assert torch.equal(weights(early), weights(short))
    assert not torch.equal(weights(early), weights(late))


def test_the_seed_decides_the_initial_weights_and_the_global_one_is_not_touched():
    before = torch.get_rng_state()
    one, again, other = (
        weights(toy.train(*DATA, width=4, steps=2, snapshots=1, seed=seed)[0][0])
        for seed in (0, 0, 1)
    )
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    assert torch.equal(torch.get_rng_state(), before)


def test_training_fits_even_the_wrong_labels():
    x, y = DATA
    kept, _ = toy.train(x, y, width=32, activation="tanh", steps=400, snapshots=2)
    losses = [F.cross_entropy(model(x), y).item() for model in kept]
    assert losses[1] < losses[0] < 0.6
    assert (kept[1](x).argmax(1) == y).all()


@pytest.mark.parametrize("snapshots", [0, 11])
def test_more_snapshots_than_steps_or_none_are_refused(snapshots):
    with pytest.raises(
        ValueError, match=rf"\[1, steps = 10\], got {snapshots}"
    ):  # fmt: skip
        toy.train(*DATA, steps=10, snapshots=snapshots)


# ------------------------------------------------------------------ the exact trace


def test_two_logits_on_a_line_have_the_square_of_the_textbook():
    # Logits (a·x, -a·x): L = softplus(-2 a·x) for label 0, so H = 4 p(1-p) a aᵀ.
    a = torch.tensor([1.5, -0.5], dtype=torch.float64)
    model = nn.Linear(2, 2, bias=False).double()
    model.weight.data = torch.stack([a, -a])
    x = torch.tensor([[0.0, 0.0], [1.0, 0.5], [-2.0, 1.0]], dtype=torch.float64)
    p = (2 * x @ a).sigmoid()
    expected = (4 * p * (1 - p) * a.square().sum()) ** 2
    for label in (0, 1):
        got = toy.exact_squared_frobenius_norm(model, x, torch.full((3,), label))
        torch.testing.assert_close(got, expected)
        assert not got.requires_grad


def test_a_quadratic_loss_has_the_square_of_its_own_matrix():
    H = indefinite(4)
    x = torch.zeros(2, 4, dtype=torch.float64)
    x[1] = 0.3
    got = toy.exact_squared_frobenius_norm(quadratic(H), x, torch.ones(2).long())
    torch.testing.assert_close(got, H.square().sum().expand(2))


def test_it_is_what_input_curvature_estimates():
    (model,), _ = toy.train(*DATA, width=8, steps=50, snapshots=1)
    exact = toy.exact_squared_frobenius_norm(model, *DATA)
    got = input_curvature(model, *DATA, method="autograd", num_probes=400)
    error = (got.squared_frobenius_norm - exact) / got.standard_error
    assert error.abs().max() < 4
