"""Progress of long work, one line at a time."""

import os
import sys
from pathlib import Path


def report(text: str) -> None:
    """Report how far the work is, such as ``"epoch 3/40, 2 min left"``.

    In a notebook that ``curvlib run`` executes, the line goes to the file named by the
    environment variable ``CURVLIB_PROGRESS``. The runner follows that file and shows
    the line, which stays out of the notebook's output. Anywhere else it goes to stderr.

    Args:
        text: One line.

    Raises:
        OSError: If that file cannot be written to.
    """
    file = os.environ.get("CURVLIB_PROGRESS")
    if file:
        with Path(file).open("a", encoding="utf-8") as lines:
            lines.write(f"{text}\n")
    else:
        print(text, file=sys.stderr, flush=True)
