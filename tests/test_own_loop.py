"""Every example of the page on training loops runs as it stands."""

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from curvlib import scores
from curvlib.trace import COLUMNS, FROM_LOGITS, Trace

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "book/own_loop.md").read_text(encoding="utf-8")
EXAMPLES = {
    section.splitlines()[0]: re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    for section in TEXT.split("\n## ")[1:]
}
LIBRARIES = {
    "A data set, and a network of timm": "timm",
    "Lightning": "lightning",
    "Hugging Face": "transformers",
}
TRACES = {  # folder, epochs and samples that an example leaves
    "Plain PyTorch": ("mine", 3, 1438),
    "Only the logits": ("logits", 3, 1438),
    "A data set, and a network of timm": ("timm", 2, 64),
    "A table of floats": ("wine", 10, 178),
    "Token embeddings": ("text", 5, 6),
    "Several processes": ("shared", 2, 100),
    "Lightning": ("lightning", 2, 100),
    "Hugging Face": ("trainer", 2, 40),
    "The estimator alone": None,
}
LAST = "What to do with a trace"  # goes on from the first
FURTHER = {
    "Plain PyTorch": "\nassert len(suspects) == 20\n",
    "A table of floats": "\nassert (y != right).sum() == 5 and found.sum() >= 4\n",
    "The estimator alone": "\nassert (total > 0).all()\n",
}


def run(place: Path, code: str, processes: int = 1) -> None:
    (place / "loop.py").write_text(code, encoding="utf-8")
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]
    words = [*torchrun, str(processes), "loop.py"] if processes > 1 else ["loop.py"]
    done = subprocess.run(
        [sys.executable, *words],
        capture_output=True,
        text=True,
        cwd=place,
        timeout=900,
        env=os.environ
        | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
    )
    assert done.returncode == 0, done.stderr[-3000:]


def test_every_example_is_known_here_and_stands_alone():
    assert EXAMPLES.keys() == {*TRACES, LAST}
    assert all(len(examples) == 1 for examples in EXAMPLES.values())
    assert TEXT.count("```python") == len(EXAMPLES)


@pytest.mark.parametrize("name", TRACES)
def test_an_example_leaves_a_trace(name, tmp_path):
    if name in LIBRARIES and find_spec(LIBRARIES[name]) is None:
        pytest.skip(f"no {LIBRARIES[name]}: pip install 'curvlib[loops,features]'")
    (example,) = EXAMPLES[name]
    if name == "Plain PyTorch":
        example += EXAMPLES[LAST][0] + "\nassert len(worst) == 10\n"
    processes = 2 if name == "Several processes" else 1
    run(tmp_path, example + FURTHER.get(name, ""), processes)
    if TRACES[name] is None:
        return
    folder, epochs, count = TRACES[name]
    trace = Trace.open(tmp_path / "runs" / folder)
    assert trace.epochs.tolist() == list(range(1, epochs + 1))
    assert len(trace.index) == count
    if name == "Only the logits":
        with pytest.warns(UserWarning, match="left out curvature_square"):
            table = scores.compute(trace)
        assert "cumulative_loss" in table and len(FROM_LOGITS) < len(COLUMNS)
        return
    assert scores.compute(trace).notna().all(axis=None)
    assert (trace.read("mean_hvp_norm") > 0).any()
