"""What scores cost: the seconds that training and scoring took."""

from collections.abc import Iterable

import pandas as pd

from curvlib.trace import Trace


def of_runs(traces: Iterable[Trace]) -> pd.DataFrame:
    """Wall-clock seconds of each run, when it was made; one row a run.

    Args:
        traces: Finished or not; a run that occurs twice counts once.

    Returns:
        Columns run (its folder's name), epochs, train_seconds, score_seconds, device,
        threads.
    """
    rows = {}
    for trace in traces:
        log, machine = trace.log(), trace.info["hardware"]
        rows[trace.folder.name] = {
            "run": trace.folder.name,
            "epochs": len(log),
            "train_seconds": log["train_seconds"].sum().round(1),
            "score_seconds": log["score_seconds"].sum().round(1),
            "device": machine["device"],
            "threads": machine["threads"],
        }
    return pd.DataFrame(list(rows.values()))
