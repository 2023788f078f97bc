"""One training run, many ways to measure its curvature: for comparing estimators.

``follow`` trains as ``curvlib.fit`` does and measures on the way. What it measured is
kept in one file beside the runs, so that asking again reads instead of trains.
"""

import copy
import io
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from curvlib import curvature, data, hvp
from curvlib.files import write_atomically
from curvlib.runs import networks, provenance, training
from curvlib.runs.settings import TrainConfig

KEPT = {
    "square": "squared_frobenius_norm",
    "norm": "mean_hvp_norm",
    "loss": "loss",
    "gradient": "gradient_norm",
}
RECIPE = 1  # of the variants and of what is measured beside them


def follow(
    config: TrainConfig,
    variants: Mapping[str, Mapping],
    *,
    epochs: Sequence[int],
    close: Mapping[str, Mapping] | None = None,
    close_epoch: int | None = None,
    crossing_steps: Sequence[float] = (),
    num_reference: int = 0,
    num_tested: int = 10,
    num_measured: int | None = None,
    runs: str | Path = "runs",
) -> dict[str, np.ndarray]:
    """Measure every training sample by every variant while a network is trained.

    All variants of an epoch take their probes from the same state of the generator, so
    that they differ in what they are asked to and in nothing else.

    Args:
        config: Settings of the run.
        variants: By name, arguments of ``measure``, measured at each of the epochs.
        epochs: When to measure, from 1 to the run's last; rows are in this order.
        close: Further variants, at ``close_epoch`` only.
        close_epoch: One of the epochs.
        crossing_steps: Steps whose boundary crossings are counted, at ``close_epoch``,
            along the same probes; only for networks of ReLUs.
        num_reference: Probes of a reference at each epoch; 0 for none.
        num_tested: Further probes, of which the norms are kept one by one.
        num_measured: Measure the first so many samples by index; None: all. N below.
        runs: Folder of all runs; a file ``<run name>-<hash>.npz`` is kept there.

    Returns:
        ``"<variant>/square"``, ``".../norm"``, ``".../loss"`` and ``".../gradient"``,
        shape [E, N], or [N] for those at ``close_epoch``; ``"mislabelled"`` [N];
        ``"crossings/<step>"`` [K, N]; ``"reference"`` [E, num_reference, N] and
        ``"tested"`` [E, num_tested, N], norms ‖Δ(v)‖ of single probes.
    """
    asked = {
        "variants": {name: dict(options) for name, options in variants.items()},
        "close": {name: dict(options) for name, options in (close or {}).items()},
        "rest": [list(epochs), close_epoch, list(crossing_steps)],
        "probes": [num_reference, num_tested],
    }
    if num_measured is not None:
        asked["num_measured"] = num_measured
    if beyond := sorted(set(epochs) - set(range(1, config.epochs + 1))):
        raise ValueError(
            f"the run has epochs 1 to {config.epochs}, so epoch {beyond[0]} cannot be "
            "measured; choose others, or train longer"
        )
    images, _ = training.prepare(config)
    run = training.run_name(config, {"train": images})
    digest = provenance.digest(asked, {}, ["studies.variants"])
    file = Path(runs) / f"{run}-{digest}.npz"
    if not file.exists():
        mean, std = images.statistics()
        if num_measured is not None and not 0 < num_measured <= len(images):
            raise ValueError(
                f"num_measured must lie in [1, {len(images)}], the number of samples, "
                f"got {num_measured!r}"
            )
        chosen = images.select(np.arange(num_measured or len(images)))
        x = data.normalise(chosen.tensor(), mean, std)
        x = x.contiguous(memory_format=torch.channels_last)
        y = torch.from_numpy(chosen.labels)
        found: dict[str, list] = {}

        def on_epoch(epoch: int, model: nn.Module) -> None:
            if epoch not in epochs:
                return
            folded = networks.fold_batch_norm(model).cpu()
            seed = 1_000_003 * config.seed + epoch  # new probes each epoch
            near = asked["close"] if epoch == close_epoch else {}
            for name, options in (asked["variants"] | near).items():
                measured = measure(folded, x, y, seed=seed, **options)
                for kind, values in measured.items():
                    found.setdefault(f"{name}/{kind}", []).append(values)
            if epoch == close_epoch:
                probes = _probes(config.num_probes, x, seed)
                for step in crossing_steps:
                    counts = crossings(folded, x, probes, step=step)
                    found[f"crossings/{step:g}"] = [counts.numpy()]
            if num_reference:
                probes = _probes(num_reference + num_tested, x, seed + 500_000)
                norms = probe_norms(folded, x, y, probes, step=config.step).numpy()
                found.setdefault("reference", []).append(norms[:num_reference])
                found.setdefault("tested", []).append(norms[num_reference:])

        # In a folder of its own: a finished run would not call on_epoch again.
        with tempfile.TemporaryDirectory() as folder:
            training.fit(config, images, runs=folder, device="cpu", on_epoch=on_epoch)
        # Measured as training went; returned in the order asked for.
        order = [sorted(set(epochs)).index(epoch) for epoch in epochs]
        alone = {f"{name}/{kind}" for name in asked["close"] for kind in KEPT}
        alone |= {name for name in found if name.startswith("crossings/")}
        arrays = {
            name: values[0] if name in alone else np.stack(values)[order]
            for name, values in found.items()
        }
        buffer = io.BytesIO()
        np.savez(buffer, mislabelled=chosen.mislabelled, **arrays)
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(file, buffer.getvalue())
    with np.load(file) as stored:
        return dict(stored)


def measure(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    seed: int,
    double: bool = False,
    shift: int = 0,
    **options,
) -> dict[str, np.ndarray]:
    """Curvature by one variant, as float64 arrays.

    Args:
        model: A network in evaluation mode.
        x: Inputs [B, *input], normalised.
        y: Labels [B].
        seed: Seed of the probes.
        double: Whether to compute in float64.
        shift: Added to each label, modulo the number of classes.
        **options: As for ``curvlib.input_curvature``.

    Returns:
        ``square``, ``norm``, ``loss`` and ``gradient``, each [B].
    """
    if double:
        model, x = copy.deepcopy(model).double(), x.double()
    if shift:
        with torch.no_grad():
            y = (y + shift) % model(x[:2]).shape[1]
    generator = torch.Generator().manual_seed(seed)
    estimate = curvature.input_curvature(
        model, x, y, generator=generator, chunk=512, **options
    )
    return {
        kind: getattr(estimate, name).double().numpy() for kind, name in KEPT.items()
    }


def probe_norms(
    model: nn.Module, x: Tensor, y: Tensor, probes: Tensor, *, step: float
) -> Tensor:
    """‖Δ(v)‖ of each probe by itself, shape [K, B].

    Args:
        model: A network in evaluation mode.
        x: Inputs [B, *input].
        y: Labels [B].
        probes: Shape [K, *input], entries ±1.
        step: h of the finite difference.
    """
    _, product = hvp.finite_difference(model, x, y, step=step)
    return torch.stack([product(v).flatten(1).norm(dim=1) for v in probes])


def crossings(model: nn.Module, x: Tensor, probes: Tensor, *, step: float) -> Tensor:
    """Units of ReLU whose sign differs between x and x + h v, in float64.

    A unit that switches on and off again on the way is not seen; one that switches is a
    kink of the network between the two points.

    Args:
        model: A network in evaluation mode, a graph as ``fold_batch_norm`` makes.
        x: Inputs [B, *input].
        probes: Shape [K, *input].
        step: h, in units of x.

    Returns:
        Counts, shape [K, B].

    Raises:
        ValueError: If the model is no graph or holds no ReLU.

    Example:
        >>> class Bend(nn.Module):  # units switch at x = 0 and at x = 1
        ...     def forward(self, x):
        ...         return F.relu(torch.cat([x, x - 1], 1))
        >>> model, x = fx.symbolic_trace(Bend()), torch.tensor([[-0.5], [0.5], [2.0]])
        >>> crossings(model, x, torch.ones(1, 1), step=1.0)
        tensor([[1, 1, 0]])
    """
    if not isinstance(model, fx.GraphModule):
        raise ValueError(
            "model must be a traced graph; use fold_batch_norm, got "
            f"{type(model).__name__}"
        )
    model, x = copy.deepcopy(model).double(), x.double()
    before = _signs(model, x)
    if not before.shape[1]:
        raise ValueError("model calls no torch.nn.functional.relu: nothing to cross")
    return torch.stack(
        [(_signs(model, x + step * v) != before).sum(1) for v in probes.double()]
    )


@torch.no_grad()
def _signs(model: fx.GraphModule, x: Tensor) -> Tensor:
    """Which units are on, shape [B, units]."""
    signs = [torch.empty(len(x), 0, dtype=torch.bool)]

    class Watch(fx.Interpreter):
        def call_function(self, target, args, kwargs):
            if target is F.relu:
                signs.append((args[0] > 0).flatten(1))
            return super().call_function(target, args, kwargs)

    Watch(model).run(x)
    return torch.cat(signs, 1)


def _probes(count: int, x: Tensor, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return curvature.rademacher(count, x.shape[1:], generator=generator).to(x)
