"""The device that work runs on."""

import torch


def usable(device: str) -> str:
    """The device, if it is there.

    Raises:
        ValueError: If it is not.
    """
    try:
        torch.zeros(1, device=device)
    except Exception as error:  # by kind of device
        raise ValueError(
            f"device {device!r} cannot be used here ({str(error).splitlines()[0]}); "
            f"try {best_device()!r}"
        ) from error
    return device


def best_device() -> str:
    """``"cuda"``, ``"mps"`` or ``"cpu"``: the fastest that is there."""
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"
