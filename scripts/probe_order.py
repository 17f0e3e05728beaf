"""Compares the order in which `kerasft probe` puts backbones with their order after fine-tuning.

    KERASFT_DATA=DIR python scripts/probe_order.py --sets ants_bees waste --seeds 0 1 2

Each backbone is probed, and then fine-tuned with the overrides of the set, once a seed; Spearman's
rank correlation of the two is printed, over the backbones of a set. Runs that are there already are
not repeated.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path

from recipes import ANTS, DATA, LINES, MINILM, MOBILENET, MOBILENET_V2, PRETRAINED, WASTE, some_rows
from scipy.stats import spearmanr

IMAGES = {
    "MobileNet 0.75": MOBILENET,
    "MobileNetV2 0.35": MOBILENET_V2,
    "EfficientNet-Lite0": ["backbone=efficientnet_lite0"],
    "SqueezeNet 1.1": [
        "backbone=keras_file",
        f"backbone.path={PRETRAINED}/squeezenet_v1.1/squeezenet_v1.1_imagenet_no_top.keras",
    ],
    "ResNet of letters": ["backbone=preset"],
}  # fmt: skip
TEXTS = {
    "MiniLM": MINILM[:2],
    "stories260k": [
        "backbone=preset", f"backbone.preset={PRETRAINED}/stories260k/keras_hub_preset",
    ],
    "random BERT": ["backbone=tiny_bert"],
}
SMALL = ["backbone.image_size=128", "backbone.resize=stretch"]
# By name: the backbones, the overrides that all of them have, and those of fine-tuning alone.
SETS = {
    "ants_bees": (IMAGES, [*ANTS, *SMALL], None),
    "waste": (IMAGES, [*WASTE, *SMALL], None),
    "sst2_1000": (
        TEXTS,
        [*LINES, f"data.validation={DATA}/sst2/dev.tsv", f"data.test={DATA}/sst2/test.tsv",
         "data.label_names=[negative,positive]", "backbone.sequence_length=64"],
        ("sst2/train.tsv", 1000),
    ),
}  # fmt: skip


def probed(name: str, output: Path) -> dict[str, float]:
    """Return what a linear head reaches on the last features of each backbone, on validation."""
    from kerasft import probe

    file = output / name / "probe.json"
    backbones, base, table = SETS[name]
    data = [f"data.path={some_rows(output, *table)}"] if table else []
    if not file.is_file():
        file.parent.mkdir(parents=True, exist_ok=True)
        probe([*base, *data], backbones=list(backbones.values()), depths=1, output=str(file))
    found = {tuple(row["backbone"]): row["figure"] for row in json.loads(file.read_text())["rows"]}
    return {one: found[tuple(overrides)] for one, overrides in backbones.items()}


def tuned(name: str, backbone: str, seed: int, output: Path) -> float:
    """Fine-tune a backbone unless that was done, and return its figure on the test split."""
    backbones, base, table = SETS[name]
    folder = output / name / f"{backbone.replace(' ', '_')}-{seed}"
    if not (folder / "metrics.json").is_file():
        data = [f"data.path={some_rows(output, *table)}"] if table else []
        subprocess.run(
            [sys.executable, "-m", "kerasft", "train", *base, *data, *backbones[backbone],
             "floor=none", "baseline=null", "plots=false", "progress=false", f"seed={seed}",
             f"output_dir={folder}"],
            stdout=sys.stderr, check=True,
        )  # fmt: skip
        for large in folder.rglob("*.keras"):
            large.unlink()
    return json.loads((folder / "metrics.json").read_text())["test"]["accuracy"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--output", type=Path, default=Path("outputs/probe_order"))
    options = parser.parse_args()
    print("| set | backbone | probe, validation | fine-tuned, test |")
    print("|---|---|---|---|")
    said = []
    for name in options.sets:
        before = probed(name, options.output)
        after = {
            one: statistics.mean(tuned(name, one, s, options.output) for s in options.seeds)
            for one in before
        }
        for one in before:
            print(f"| {name} | {one} | {before[one]:.3f} | {after[one]:.3f} |", flush=True)
        found = spearmanr(list(before.values()), list(after.values())).statistic
        said.append(f"{name}: {found:.2f} over {len(before)} backbones")
    print("\nSpearman's rank correlation: " + "; ".join(said))


if __name__ == "__main__":
    main()
