"""Trains a detector of torchvision on blood cells for so long, measured as kerasft does.

    KERASFT_DATA=DIR python benchmarks/boxes.py --torch ENV/bin/python --seconds 1300 fcos

`--torch` names the Python of an environment with `peers/requirements.txt`. The peer gets the same
images, splits, size and MobileNet weights; that its features are those of Keras is required
first. Seconds are processor time, so that trainings beside other programs get the same. Beside it
stands `kerasft train experiment=bccd_mobilenet`.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from pathlib import Path

import keras
import numpy as np
from race import machine, peer

from kerasft.data.sources.coco import coco
from kerasft.data.sources.voc import voc
from kerasft.evaluation import boxes as figures
from kerasft.spec import Examples, Splits

WEIGHTS = "pretrained/mobilenet_0.75_224/mobilenet_7_5_224_tf_no_top.h5"
ALPHA = 0.75
DATA = {"bccd": (voc, "bccd_voc/BCCD", (256, 320)), "rbc_wbc": (coco, "rbc_wbc_coco", (320, 320))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="+", choices=["fcos", "faster_rcnn"])
    parser.add_argument("--torch", metavar="PYTHON", required=True)
    parser.add_argument("--data", choices=list(DATA), default="bccd")
    parser.add_argument("--seconds", type=float, default=1300)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--optimizer", choices=["sgd", "adamw"], default="sgd")
    parser.add_argument("--rate", type=float, default=0.01)
    options = parser.parse_args()
    root = Path(os.environ["KERASFT_DATA"])
    read, place, size = DATA[options.data]
    splits = read(str(root / place), kind="boxes", seed=0)
    print(machine())
    with tempfile.TemporaryDirectory() as folder:
        task = {
            "weights": str(root / WEIGHTS), "alpha": ALPHA, "size": size, "batch_size": 8,
            "classes": len(splits.labels.names), "seconds": options.seconds,
            "threads": len(os.sched_getaffinity(0)), "optimizer": options.optimizer,
            "rate": options.rate, "data": str(Path(folder, "data.json")),
            "probe": write_probe(root / WEIGHTS, size, Path(folder)),
        }  # fmt: skip
        Path(task["data"]).write_text(json.dumps({n: rows(splits, n) for n in splits.parts}))
        for model in options.models:
            for seed in range(options.seeds):
                found = peer(options.torch, "torchvision_boxes.py",
                             {**task, "model": model, "seed": seed})  # fmt: skip
                for name in ("validation", "test"):
                    made = measured(found[name], splits.parts[name], len(splits.labels.names))
                    print(options.data, model, "seed", seed, name,
                          {key: round(value, 4) for key, value in made.items()})  # fmt: skip
                print(f"{found['epochs']} epochs in {found['seconds']:.0f} s", flush=True)


def rows(splits: Splits, name: str) -> list[dict]:
    """Return path, boxes and classes of each image of a split; regions of crowds are left out."""
    part = splits.parts[name]
    made = []
    for path, one in zip(part.inputs, true_boxes(part), strict=True):
        kept = ~one["ignored"]
        made.append({"path": str(path), "boxes": one["boxes"][kept].tolist(),
                     "labels": one["labels"][kept].tolist()})  # fmt: skip
    return made


def true_boxes(part: Examples) -> list[dict[str, np.ndarray]]:
    """Return boxes, classes and regions of crowds of each image."""
    made = []
    for i in range(len(part)):
        one = part.annotations.row(i)
        boxes = np.asarray(one["boxes"], "float64").reshape(-1, 4)
        ignored = np.asarray(one["ignored"], bool)
        made.append({"boxes": boxes, "labels": one["labels"], "ignored": ignored})
    return made


def measured(found: list[dict], part: Examples, classes: int) -> dict[str, float]:
    """Return the figures of COCO."""
    there = [{"boxes": np.array(one["boxes"]).reshape(-1, 4), "scores": np.array(one["scores"]),
              "classes": np.array(one["classes"], "int64")} for one in found]  # fmt: skip
    return figures.coco(figures.matched(there, true_boxes(part), classes))


def write_probe(weights: Path, size: tuple[int, int], folder: Path) -> str:
    """Write an image of noise, and what Keras' network makes of it."""
    network = keras.applications.MobileNet(
        alpha=ALPHA, include_top=False, weights=str(weights), input_shape=(*size, 3)
    )
    image = np.random.default_rng(0).uniform(-1, 1, (1, *size, 3)).astype("float32")
    file = folder / "probe.npz"
    np.savez(file, image=image, features=np.asarray(network(image, training=False)))
    return str(file)


if __name__ == "__main__":
    main()
