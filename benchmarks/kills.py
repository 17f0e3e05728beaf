"""Kills trainings at random moments, goes on with them, and compares: ours and those of others.

    python benchmarks/kills.py kerasft --rounds 20
    python benchmarks/kills.py keras --rounds 20
    python benchmarks/kills.py hugging_face --python .venv-peers/bin/python --rounds 20

The same digits and settings for all. A run counts as lost where its weights, its log, or its last
figures are other than those of a run left alone, and as broken where it cannot go on at all.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PEERS = Path(__file__).with_name("peers")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("peer", choices=("kerasft", "keras", "hugging_face"))
    parser.add_argument("--python", default=sys.executable, help="of the peer's environment")
    parser.add_argument("--rounds", type=int, default=20, help="how many kills")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    draw = random.Random(options.seed)
    command = [options.python, str(PEERS / f"resume_{options.peer}.py")]
    with tempfile.TemporaryDirectory(prefix="kills-") as name:
        folder = Path(name)
        wanted, alone = None, []
        for number in range(2):
            began = time.monotonic()
            run([*command, str(folder / f"whole-{number}")])
            alone.append(time.monotonic() - began)
            found = outcome(folder / f"whole-{number}")
            repeatable = wanted is None or wanted == found
            wanted = wanted or found
        print(f"left alone: {statistics.mean(alone):.1f} s, twice "
              f"{'the same' if repeatable else 'NOT THE SAME'}; last {wanted['last']}",
              flush=True)  # fmt: skip
        kills = ended = weights = logs = broken = 0
        recovery = []
        while kills < options.rounds:
            target = folder / f"run-{ended + broken}"
            mine = 0
            while not (target / "outcome.json").is_file():
                limit = None if kills == options.rounds else draw.uniform(0.3, 1.2) * alone[1]
                code, said = run_for([*command, str(target)], limit)
                if mine and (found := re.search(r"first step after ([\d.]+) s", said)):
                    recovery.append(float(found[1]))
                if code == -9:
                    kills, mine = kills + 1, mine + 1
                elif code:
                    broken += 1
                    print(f"BROKEN after {mine} kills: {said.strip().splitlines()[-1][:160]}")
                    break
            else:
                ended += 1
                found = outcome(target)
                weights += found["weights"] != wanted["weights"]
                logs += found["log"] != wanted["log"]
                same = "the same" if found == wanted else f"DIFFERS, last {found['last']}"
                print(f"after {mine} kills: {same}", flush=True)
        first = f"{statistics.median(recovery):.1f} s" if recovery else "-"
        print(f"{kills} kills; {ended} runs ended, {weights} with other weights and {logs} with "
              f"another log; {broken} could not go on; first step after {first}, the median")


def run(command: list[str]) -> None:
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def run_for(command: list[str], seconds: float | None) -> tuple[int, str]:
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        try:
            said, _ = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            said, _ = process.communicate()
    return process.returncode, said


def outcome(folder: Path) -> dict:
    return json.loads((folder / "outcome.json").read_text())


if __name__ == "__main__":
    main()
