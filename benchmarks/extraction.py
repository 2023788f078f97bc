"""How fast are feature vectors computed, and what makes it faster?

    python benchmarks/extraction.py [--quick] [--features lite0] [--size 224]

Times one batch of random images through the same network in several forms, in turn, so
that what else the machine does hits all of them alike; nothing else should be busy.
Writes extraction.csv and extraction_machine.json to results/bench. torch.compile needs
a C++ compiler, and onnxruntime is optional (``pip install onnx onnxruntime``); a form
that cannot run here gets no row, and the reason is printed. ``--quick`` is for the
test: a tiny network and meaningless numbers.
"""

import argparse
import copy
import io
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from curvlib.files import write_atomically
from curvlib.runs import features
from curvlib.runs.provenance import hardware, versions

ROOT = Path(__file__).parents[1]
GIVEN = "as given"
Form = Callable[[Tensor], Tensor]


def forms(model: nn.Module, example: Tensor) -> dict[str, Callable[[], Form]]:
    """What to time, by name; each is made when it is needed, and may fail.

    Args:
        model: In evaluation mode.
        example: Inputs, shape [B, 3, H, W].
    """
    last = torch.channels_last

    def channels_last() -> Form:
        return copy.deepcopy(model).to(memory_format=last)

    def folded() -> Form:
        quick = features.folded(model, example)
        return quick.to(memory_format=torch.contiguous_format)

    def autocast() -> Form:
        quick = features.folded(model, example)

        def call(x: Tensor) -> Tensor:
            with torch.autocast("cpu", torch.bfloat16):
                return quick(x).float()

        return call

    return {
        GIVEN: lambda: copy.deepcopy(model),
        "channels last": channels_last,
        "folded batch norm": folded,
        "folded, channels last (used)": lambda: features.folded(model, example),
        "folded, channels last, torch.compile": lambda: torch.compile(
            features.folded(model, example)
        ),
        "folded, channels last, bfloat16": autocast,
        "onnxruntime": lambda: onnx_form(model, example),
    }


def onnx_form(model: nn.Module, example: Tensor) -> Form:
    """The network as onnxruntime runs it, with as many threads as torch has."""
    import onnxruntime

    buffer = io.BytesIO()
    torch.onnx.export(model, (example,), buffer, dynamo=False)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(
        buffer.getvalue(), options, providers=["CPUExecutionProvider"]
    )
    (name,) = (given.name for given in session.get_inputs())
    return lambda x: torch.from_numpy(session.run(None, {name: x.numpy()})[0])


def measure(model: nn.Module, size: int, *, batch: int, rounds: int) -> pd.DataFrame:
    """One row per form: images per second, speed-up over the given form, deviation."""
    x = torch.randn(batch, 3, size, size, generator=torch.Generator().manual_seed(0))
    inputs, ready, outputs = {}, {}, {}
    with torch.inference_mode():
        for name, make in forms(model, x[:2]).items():
            plain = name in (GIVEN, "folded batch norm", "onnxruntime")
            inputs[name] = x if plain else x.to(memory_format=torch.channels_last)
            try:
                form = make()
                outputs[name] = form(inputs[name])  # the first call is slower
                ready[name] = form
            except Exception as error:  # by what is missing
                reason = str(error).strip().splitlines()
                reason = reason[0] if reason else type(error).__name__
                print(f"{name}: left out ({reason})", flush=True)
        seconds = {name: [] for name in ready}
        for _ in range(rounds):
            for name, form in ready.items():
                begun = time.perf_counter()
                form(inputs[name])
                seconds[name].append(time.perf_counter() - begun)
    expected = outputs[GIVEN]
    rows = []
    for name, times in seconds.items():
        ratios = np.array(seconds[GIVEN]) / np.array(times)
        error = (outputs[name] - expected).abs().max() / expected.abs().max()
        rows.append(
            {
                "form": name,
                "images per second": round(batch / float(np.median(times)), 1),
                "times as fast": round(float(np.median(ratios)), 2),
                "lowest": round(float(ratios.min()), 2),
                "highest": round(float(ratios.max()), 2),
                "largest deviation, relative": float(f"{error:.1e}"),
            }
        )
    return pd.DataFrame(rows)


class Small(nn.Module):
    """For the test: one convolution, one batch norm."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x)).relu().mean((2, 3))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--features", default="lite0")
    parser.add_argument("--size", type=int)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--out", type=Path, default=ROOT / "results/bench")
    options = parser.parse_args()
    if options.quick:
        table = measure(Small().eval(), options.size or 8, batch=4, rounds=2)
    else:
        network = features.extractor(options.features)
        table = measure(
            network.model,
            options.size or network.size,
            batch=options.batch,
            rounds=options.rounds,
        )
    print(table.to_string(index=False))
    table = table.to_csv(index=False, lineterminator="\n")
    write_atomically(options.out / "extraction.csv", table.encode())
    machine = {
        "hardware": hardware(),
        "versions": versions(),
        "features": options.features,
        "size": options.size,
        "batch": options.batch,
        "quick": options.quick,
    }
    text = json.dumps(machine, indent=1) + "\n"
    write_atomically(options.out / "extraction_machine.json", text.encode())


if __name__ == "__main__":
    main()
