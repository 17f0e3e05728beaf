"""scripts/faults.py: a short version of what it does in an hour."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "scripts" / "faults.py"


@pytest.fixture(scope="module")
def script():
    sys.path.insert(0, str(SCRIPT.parent))  # what it is made of lies beside it
    spec = importlib.util.spec_from_file_location("faults_script", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    sys.path.remove(str(SCRIPT.parent))
    return module


@pytest.mark.skipif(
    not sys.platform.startswith("linux") or not shutil.which("cc"),
    reason="letting writes fail needs Linux and a C compiler",
)
@pytest.mark.timeout(300)
def test_runs_that_are_killed_or_cannot_write_are_resumed_and_lose_nothing(tiny_texts):
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--fault", "torn,kill,ENOSPC", "--rounds", "3",
         *tiny_texts, "epochs=1", "callbacks=none", "checkpoint.steps=3"],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    writes = int(re.search(r"^left alone: .* s, (\d+) writes$", done.stdout, re.MULTILINE)[1])
    assert writes > 300
    assert re.findall(r"^(\w+) (?:at|after) .*: the same$", done.stdout, re.MULTILINE) == [
        "torn", "kill", "ENOSPC",
    ]  # fmt: skip
    assert re.search(r"^[23] faults, .* 3 runs ended, 0 lost$", done.stdout, re.MULTILINE)


def test_what_ends_in_another_way_than_in_one_line_is_a_finding(script):
    tried = script.Tried(2, "error: the disk is full\n", 9, "write a")
    assert script.wrong_end(tried, "ENOSPC") == ""
    assert script.wrong_end(tried._replace(code=1), "ENOSPC").startswith("it ended with 1 and 1")
    assert "a traceback: OSError" in script.wrong_end(
        tried._replace(said="Traceback (most recent call last):\nOSError"), "EIO"
    )
    assert script.wrong_end(tried, "torn") == "it ended with 2"
