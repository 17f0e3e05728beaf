"""scripts/gpu_check.py: on a processor, as small as it can be, so that it does not rot."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "scripts" / "gpu_check.py"


def run(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, str(SCRIPT), *arguments], capture_output=True, text=True
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_it_compares_and_times_and_writes_a_page(tmp_path):
    page = tmp_path / "page.md"
    done = run(
        "--device", "cpu", "--tiny", "--epochs", "2", "--precisions", "float32",
        "--only", "faults.lag=0", "--output", str(page),
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    written = page.read_text("utf-8")
    for name in ("text", "images"):
        (row,) = re.findall(rf"\| {name} \| float32 \| ([\d.]+) \| ([\d.]+) \| 0\.0e\+00 ", written)
        assert row[0] == row[1], "the same device twice"
        timed = re.findall(rf"\| {name} \| [^|]+ \| ([\d.]+) \([\d.]+ to [\d.]+\) \|", written)
        assert len(timed) == 2
        assert all(float(one) > 0 for one in timed)
    assert "| tensorflow | " in written


@pytest.mark.slow
def test_it_says_what_it_cannot_do():
    assert "--only takes as it is, faults.lag=0" in run("--only", "speed").stderr
    assert "TensorFlow sees no GPU here" in run().stderr
