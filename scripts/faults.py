"""Kills a real run at random moments, resumes it until it ends, and compares it with one left be.

    python scripts/faults.py --rounds 50 --seed 0 data=table data.path=reviews.csv ...

The arguments are overrides of the run. A round is a kill -9; where the run ends before that many
rounds are over, another one begins. Weights, log and metrics must be the same to the last bit.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("overrides", nargs="*")
    options, rest = parser.parse_known_args()
    draw = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        common = [*options.overrides, *rest, f"cache.directory={folder}/cache", "progress=false"]
        began = time.monotonic()
        run([*common, f"output_dir={folder}/whole"])
        alone = time.monotonic() - began
        wanted = outcome(folder / "whole")
        print(f"left alone: {alone:.1f} s", flush=True)
        kills = ended = lost = resumed = 0
        while kills < options.rounds:
            target = folder / f"run-{ended}"
            command = [*common, f"output_dir={target}", "resume=auto"]
            while not has_ended(target):
                if kills == options.rounds:
                    run(command)
                    break
                # Most kills hit the training; some the start, the measuring or the writing.
                killed, said = run_for(command, draw.uniform(0.3, 1.2) * alone)
                kills += killed
                resumed += "going on after" in said
            ended += 1
            differs = outcome(target) != wanted
            lost += differs
            print(f"run {ended}: {kills} kills so far, {'DIFFERS' if differs else 'the same'}",
                  flush=True)  # fmt: skip
        print(f"{kills} kills, {resumed} times gone on in the middle, {ended} runs ended, "
              f"{lost} of them other than the one left alone")  # fmt: skip
        sys.exit(bool(lost))


def run(overrides: list[str]) -> None:
    done = subprocess.run([sys.executable, "-m", "kerasft", "train", *overrides],
                          capture_output=True, text=True)  # fmt: skip
    if done.returncode:
        raise SystemExit(f"the run failed:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")


def run_for(overrides: list[str], seconds: float) -> tuple[bool, str]:
    """Run, and kill it after some seconds; return whether it came to that, and what it said."""
    command = [sys.executable, "-u", "-m", "kerasft", "train", *overrides]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True) as process:  # fmt: skip
        try:
            said, _ = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            return True, process.communicate()[0]
    if process.returncode:
        raise SystemExit(f"the run failed:\n{said[-3000:]}")
    return False, said


def has_ended(run: Path) -> bool:
    facts = run / "run.json"
    return facts.is_file() and json.loads(facts.read_text())["status"] == "done"


def outcome(run: Path) -> tuple:
    """Return all that a run comes to, without times: weights, log, metrics."""
    rows = [json.loads(line) for line in (run / "logs" / "epochs.jsonl").read_text().splitlines()]
    log = [{k: v for k, v in row.items() if k != "seconds"} for row in rows]
    with zipfile.ZipFile(run / "checkpoints" / "best.keras") as model:
        weights = hashlib.sha256(model.read("model.weights.h5")).hexdigest()
    return weights, log, json.loads((run / "metrics.json").read_text())


if __name__ == "__main__":
    main()
