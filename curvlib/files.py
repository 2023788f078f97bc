"""Writing files completely or not at all."""

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path


def short_hash(content: bytes) -> str:
    """Sixteen hexadecimal digits that change with any byte."""
    return hashlib.sha256(content).hexdigest()[:16]


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that a reader finds either the new content or the old one.

    Args:
        path: The file; its folder is created.
        content: Its bytes.
    """
    write_parts(path, [content])


def write_parts(path: Path, parts: Iterable[bytes]) -> None:
    """Write a file as ``write_atomically`` does, part by part.

    Args:
        path: The file; its folder is created.
        parts: Its bytes, in order; at most one part is in memory at a time.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.partial-{os.getpid()}")
    try:
        with partial.open("wb") as file:
            for part in parts:
                file.write(part)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException:  # a full disk, or Ctrl-C
        partial.unlink(missing_ok=True)
        raise
