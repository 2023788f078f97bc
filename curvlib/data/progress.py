"""One line of news from long work, to whoever watches."""

import os
import sys
from pathlib import Path


def report(text: str) -> None:
    """Say how far the work is, such as ``"epoch 3/40, 2 min left"``.

    In a notebook that ``curvlib run`` executes, the line goes to the file named by the
    environment variable ``CURVLIB_PROGRESS``, which the runner follows and shows; it
    must not end up in the notebook's output. Anywhere else it goes to stderr.

    Args:
        text: The news, one line.
    """
    file = os.environ.get("CURVLIB_PROGRESS")
    if file:
        with Path(file).open("a", encoding="utf-8") as lines:
            lines.write(f"{text}\n")
    else:
        print(text, file=sys.stderr, flush=True)
