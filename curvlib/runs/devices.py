"""The device that work runs on."""

import torch


def usable(device: str) -> str:
    """Check that a device can be used.

    Args:
        device: As torch names it, such as ``"cpu"`` or ``"cuda:1"``.

    Returns:
        The device, as it was given.

    Raises:
        ValueError: If torch cannot compute there; names a device that works.
    """
    try:
        torch.zeros(1, device=device).item()  # "meta" has no values
    except Exception as error:  # by kind of device
        raise ValueError(
            f"device {device!r} cannot be used here ({str(error).splitlines()[0]}); "
            f"try {best_device()!r}"
        ) from error
    return device


def best_device() -> str:
    """Name of the fastest device on this machine.

    Returns:
        ``"cuda"``, ``"mps"`` or ``"cpu"``.
    """
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"
