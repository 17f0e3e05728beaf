"""What the benchmarks share: contenders that run in turn, each in a process of its own."""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

HERE = Path(__file__).parent


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0, help="of the first round")
    parser.add_argument("--only", help="contenders, separated by semicolons")
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results.jsonl"))


def race(
    name: str, task: dict, contenders: Mapping[str, Callable[[dict], dict]],
    options: argparse.Namespace,
) -> None:
    """Let contenders run one after the other, round after round, and print the medians."""
    if options.only:
        contenders = {k: v for k, v in contenders.items() if k in options.only.split(";")}
    found: dict[str, list[dict]] = {label: [] for label in contenders}
    for seed in range(options.seed, options.seed + options.rounds):
        for label, run in contenders.items():
            row = run({**task, "seed": seed})
            found[label].append(row)
            print(f"{name} {seed} {label}: {json.dumps(row)}", file=sys.stderr, flush=True)
            with open(options.output, "a", encoding="utf-8") as file:
                file.write(json.dumps({
                    "task": name, "contender": label, "seed": seed,
                    "rows": getattr(options, "rows", None), "epochs": task["epochs"],
                    "machine": machine(), **row,
                }) + "\n")  # fmt: skip
    print(table(name, task, found), flush=True)


def machine() -> str:
    """Return the processor's name and how many cores there are."""
    info = Path("/proc/cpuinfo")
    names = re.findall(r"^model name\s*: (.*)$", info.read_text(), re.M) if info.exists() else []
    name = names[0] if names else platform.processor() or platform.machine()
    return f"{name}, {len(os.sched_getaffinity(0))} cores"


def table(name: str, task: dict, found: dict[str, list[dict]]) -> str:
    first, rows = next(iter(found.items()))
    ours = statistics.median(row["total"] for row in rows)
    lines = [
        f"\n{name}, {task['epochs']} epochs, median of {len(rows)}\n",
        f"| contender | seconds | times {first} | test accuracy |", "|---|---|---|---|",
    ]  # fmt: skip
    for label, rows in found.items():
        seconds = statistics.median(row["total"] for row in rows)
        accuracy = [row["accuracy"] for row in rows]
        spread = f" ± {statistics.stdev(accuracy):.4f}" if len(accuracy) > 1 else ""
        lines.append(
            f"| {label} | {seconds:.1f} | {seconds / ours:.2f} | "
            f"{statistics.mean(accuracy):.4f}{spread} |"
        )
    return "\n".join(lines)


def kerasft(overrides: Sequence[str], folder: Path, *, again: bool = False) -> dict:
    """Train with a cache of its own, and take the time to the end of training.

    Args:
        overrides: Of the config, without folders.
        folder: Where run and cache are put.
        again: Train twice, and take the time of the second run, which finds what the first kept.

    Returns:
        `total` and `training` in seconds, `accuracy` on the test split, and by the end of each
        epoch the seconds and the validation accuracy.
    """
    place = tempfile.mkdtemp(dir=folder)
    if again:
        train(overrides, f"{place}/first", f"{place}/cache")
    return train(overrides, f"{place}/run", f"{place}/cache")


def train(overrides: Sequence[str], run: str, cache: str) -> dict:
    """Train once in a process of its own; return what `kerasft` does."""
    command = [
        sys.executable, "-m", "kerasft", "train", *overrides, "callbacks=none", "progress=false",
        f"output_dir={run}", f"cache.directory={cache}",
    ]  # fmt: skip
    began, training, total, epochs = time.perf_counter(), None, None, []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            now = time.perf_counter() - began
            if line.startswith("stage ") and training is None:
                training = now
            if line.startswith("epoch "):
                epochs.append([now, float(line.split("val_accuracy ")[1].split()[0])])
            if line.startswith("best epoch"):
                total = now
    if process.returncode or training is None or total is None:
        raise SystemExit(f"kerasft failed: {' '.join(command)}")
    metrics = json.loads((Path(run) / "metrics.json").read_text("utf-8"))
    return {
        "total": total, "training": total - training, "accuracy": metrics["test"]["accuracy"],
        "epochs_ended": epochs,
    }  # fmt: skip


def clocked(overrides: Sequence[str], folder: Path) -> dict:
    """Train with a cache of its own and a clock on each step.

    Args:
        overrides: Of the config, without folders.
        folder: Where run and cache are put.

    Returns:
        `run`, the run's folder; `began`, when the process was started; and `marks`, see
        `peers/step_clock.py`.
    """
    place = tempfile.mkdtemp(dir=folder)
    command = [
        sys.executable, "-m", "kerasft", "train", *overrides, "callbacks=none", "progress=false",
        f"output_dir={place}/run", f"cache.directory={place}/cache",
        "+callbacks.clock._target_=step_clock.StepClock", f"+callbacks.clock.path={place}/marks",
        "--trust", "step_clock",
    ]  # fmt: skip
    paths = [str(HERE / "peers"), *filter(None, [os.environ.get("PYTHONPATH")])]
    began = time.time()
    done = subprocess.run(
        command, capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"kerasft failed: {' '.join(command)}\n{done.stderr[-3000:]}")
    marks = json.loads((Path(place) / "marks").read_text("utf-8"))
    return {"run": f"{place}/run", "began": began, "marks": marks}


def processor_seconds() -> float:
    """Return the processor seconds of the processes that this one has started and seen end."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def note(options: argparse.Namespace, row: Mapping[str, object]) -> None:
    """Append a result to the file of results, and show it."""
    print(json.dumps(row), file=sys.stderr, flush=True)
    with open(options.output, "a", encoding="utf-8") as file:
        file.write(json.dumps({**row, "machine": machine()}) + "\n")


def peer(python: str, script: str, task: dict) -> dict:
    """Run a peer's script and return what it printed last."""
    done = subprocess.run(
        [python, str(HERE / "peers" / script), json.dumps(task)],
        capture_output=True, text=True,
        env={**os.environ, "KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3"},
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"{script} failed:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])
