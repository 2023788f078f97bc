"""Callbacks that keep a trace: one for Lightning, one for Hugging Face's Trainer.

Both record all samples after each epoch. Several processes share the work, and training
can continue from a checkpoint. Install both libraries with
``pip install 'curvlib[loops]'``.
"""

import math
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn

from curvlib.runs.recorder import Forward, Recorder


def lightning_callback(
    recorder: Recorder,
    dataset: Any,
    *,
    batch_size: int = 128,
    collate: Callable | None = None,
    forward: Forward | None = None,
) -> Any:
    """Make a callback for ``lightning.Trainer(callbacks=[...])``.

    Args:
        recorder: Keeps the trace.
        dataset: Item i is the input and the label of the recorder's sample i, without
            augmentation.
        batch_size: Number of samples loaded at once.
        collate: As for ``Recorder.batches``.
        forward: As for ``Recorder.record``; by default the module is called.

    Returns:
        A ``lightning.pytorch.Callback``.

    Raises:
        ImportError: If Lightning is not installed.
    """
    base = _needed("lightning.pytorch").Callback

    class RecorderCallback(base):
        def on_train_start(self, trainer, module) -> None:
            recorder.resume(trainer.current_epoch)

        def on_train_epoch_end(self, trainer, module) -> None:
            epoch = trainer.current_epoch + 1
            batches = recorder.batches(dataset, batch_size=batch_size, collate=collate)
            recorder.record(epoch, module, batches, forward=forward)
            recorder.finish(epoch)

    return RecorderCallback()


def trainer_callback(
    recorder: Recorder,
    dataset: Any,
    *,
    batch_size: int = 128,
    collate: Callable | None = None,
    inputs: Callable[[nn.Module, dict[str, Tensor]], Tensor] | None = None,
    forward: Forward | None = None,
) -> Any:
    """Make a callback for ``transformers.Trainer(callbacks=[...])``.

    Text is scored around its token embeddings, with ``embedded`` and
    ``from_embedded``; pad it to one length. Images are scored around ``pixel_values``.
    Give ``inputs`` and ``forward`` for anything else.

    Args:
        recorder: Keeps the trace.
        dataset: Item i is a dict of the recorder's sample i, with its label under
            ``label`` or ``labels``, without augmentation.
        batch_size: Number of samples loaded at once.
        collate: Turns a list of items into a dict of tensors with ``labels``; by
            default ``transformers.default_data_collator``.
        inputs: Function of the model and such a dict that returns floats [B, *input].
        forward: Function of the model and these floats that returns logits [B, C].

    Returns:
        A ``transformers.TrainerCallback``.

    Raises:
        ImportError: If transformers is not installed.
        ValueError: If only one of inputs and forward is given.
    """
    transformers = _needed("transformers")
    if (inputs is None) != (forward is None):
        raise ValueError("inputs and forward go together: give both, or neither")
    collate = collate or transformers.default_data_collator

    def batches(model: nn.Module) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        device = next(model.parameters()).device
        for items, index in recorder.items(dataset, batch_size=batch_size):
            batch = collate(items)
            labels = batch["labels"]
            with torch.no_grad():
                batch = {k: v.to(device) for k, v in batch.items() if k != "labels"}
                x = (inputs or _inputs)(model, batch)
            yield x, labels, index

    class RecorderCallback(transformers.TrainerCallback):
        def on_train_begin(self, args, state, control, **_) -> None:
            recorder.resume(math.floor(state.epoch or 0))

        def on_epoch_end(self, args, state, control, model, **_) -> None:
            epoch = math.ceil(state.epoch - 1e-6)  # a part of one, if steps are limited
            call = forward or _forward
            recorder.record(epoch, model, batches(model), forward=call)
            recorder.finish(epoch)

    return RecorderCallback()


def embedded(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    """Token embeddings at the model's weights, with the attention mask appended.

    A batch of the recorder is one tensor, so the mask is one more feature. It enters
    only through a comparison, so it has no effect on gradients or curvature.

    Args:
        model: A model of transformers, with ``get_input_embeddings``.
        batch: ``input_ids`` and optionally ``attention_mask``, shape [B, T].

    Returns:
        Shape [B, T, F + 1].
    """
    ids = batch["input_ids"]
    found = model.get_input_embeddings()(ids)
    mask = batch.get("attention_mask", torch.ones_like(ids))
    return torch.cat([found, mask[..., None].to(found)], 2)


def from_embedded(model: nn.Module, x: Tensor) -> Tensor:
    """Logits for the output of ``embedded``.

    Args:
        model: A model of transformers, for classification.
        x: Shape [B, T, F + 1].

    Returns:
        Shape [B, C].
    """
    mask = (x[..., -1] > 0.5).long()
    return model(inputs_embeds=x[..., :-1], attention_mask=mask).logits


def _inputs(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    if "input_ids" in batch:
        return embedded(model, batch)
    if "pixel_values" in batch:
        return batch["pixel_values"]
    raise ValueError(
        f"the data set has {', '.join(batch)}, neither input_ids nor pixel_values: "
        "give inputs and forward to trainer_callback"
    )


def _forward(model: nn.Module, x: Tensor) -> Tensor:
    if x.ndim == 3:  # images have four axes
        return from_embedded(model, x)
    return model(pixel_values=x).logits


def _needed(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError as error:
        raise ImportError(
            f"this callback needs {name.split('.')[0]}: pip install 'curvlib[loops]'"
        ) from error
