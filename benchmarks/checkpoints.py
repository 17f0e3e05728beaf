"""Measures what writing checkpoints costs a run: MiniLM on sst2, with and without, in turn.

    KERASFT_DATA=... python benchmarks/checkpoints.py

Far more of them are written than by default, so that their cost stands out of the noise; divided by
their number it is the cost of one, and that by the default interval the share of a run.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from kerasft.training.checkpoint import Policy

STEPS, EVERY = 150, 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=4)
    options = parser.parse_args()
    written = STEPS // EVERY
    interval = 60 * Policy().minutes
    costs = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        train(folder, "warm", "checkpoint=none", 5)
        for number in range(options.rounds):
            without = train(folder, f"{number}-without", "checkpoint=none", STEPS)
            every = f"checkpoint.steps={EVERY}"
            with_ = train(folder, f"{number}-with", every, STEPS)
            costs.append((with_ - without) / written)
            print(f"without {without:.1f} s, with {written} checkpoints {with_:.1f} s: "
                  f"{costs[-1]:.2f} s each", flush=True)  # fmt: skip
    cost = statistics.median(costs)
    print(f"median {cost:.2f} s each: {cost / interval:.2%} of a run with one every "
          f"{interval:.0f} s")  # fmt: skip


def train(folder: Path, name: str, policy: str, steps: int) -> float:
    """Return the seconds that an epoch of so many steps took."""
    command = [
        sys.executable, "-m", "kerasft", "train", "experiment=sst2_minilm", policy, "epochs=1",
        f"max_steps={steps}", "callbacks=none", f"cache.directory={folder}/cache",
        f"output_dir={folder}/{name}",
    ]  # fmt: skip
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    (row,) = (folder / name / "logs" / "epochs.jsonl").read_text().splitlines()
    return json.loads(row)["seconds"]


if __name__ == "__main__":
    main()
