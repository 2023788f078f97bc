"""Which small network learns wrong labels by heart, and in what time?

    python benchmarks/pilot.py

Measured before the runs of the ``cpu`` profile were chosen. Trains each setting once on
the first 10,000 images of CIFAR-10 with one label in ten replaced, scores the end only,
and writes results/pilot/fit.csv.
"""

from pathlib import Path

import pandas as pd

from curvlib.files import write_atomically
from curvlib.runs.settings import TrainConfig
from curvlib.runs.training import fit, prepare

SETTINGS = (
    {"width": 16, "batch_size": 128, "schedule": "step"},
    {"width": 16, "batch_size": 128, "schedule": "cosine"},
    {"width": 16, "batch_size": 64, "schedule": "cosine"},
    {
        "model": "compact_resnet",
        "width": 16,
        "batch_size": 64,
        "schedule": "cosine",
        "epochs": 14,
    },
)


def main() -> None:
    """Train each setting, and write the table."""
    rows = []
    for setting in SETTINGS:
        config = TrainConfig(
            dataset="cifar10",
            num_train=10_000,
            noise_rate=0.1,
            num_probes=1,
            score_every=1000,  # the last one alone
            **({"model": "slim_resnet", "epochs": 30} | setting),
        )
        trace = fit(config)
        wrong = prepare(config)[0].mislabelled
        right = trace.read("correct")[-1]
        rows.append(
            {
                "model": config.model,
                "width": config.width,
                "batch_size": config.batch_size,
                "schedule": config.schedule,
                "epochs": config.epochs,
                "wrong_labels_learned": round(right[wrong].mean(), 4),
                "other_labels_learned": round(right[~wrong].mean(), 4),
                "seconds_per_epoch": trace.log()["train_seconds"].median().round(1),
            }
        )
        print(rows[-1], flush=True)
    table = pd.DataFrame(rows).to_csv(index=False, lineterminator="\n")
    write_atomically(Path("results/pilot/fit.csv"), table.encode())


if __name__ == "__main__":
    main()
