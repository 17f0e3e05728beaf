"""The same training as that of the peers, in kerasft: killed at any time, it goes on.

    python benchmarks/peers/resume_kerasft.py FOLDER

A checkpoint every 10 steps. The outcome is written to FOLDER/outcome.json at the end. Digits, the
network of resume_keras.py with its dropout and random shifts, early stopping.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import zipfile
from pathlib import Path
from typing import Any

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import kerasft
from kerasft.runs import run_folder

SETTINGS = (
    "data.train_per_class=100", "data.validation_per_class=40", "batch_size=16", "epochs=30",
    "~backbone", "+backbone._target_=resume_kerasft.backbone",
    "~head", "+head._target_=resume_kerasft.head",
    "optimizer.learning_rate=1e-3", "optimizer.global_clipnorm=null", "schedule=constant",
    "+augment.shift._target_=keras.layers.RandomTranslation", "+augment.shift.height_factor=0.1",
    "+augment.shift.width_factor=0.1", "~callbacks.tensorboard",
    "callbacks.early_stopping.patience=3", "+callbacks.early_stopping.monitor=val_loss",
    "+callbacks.early_stopping.mode=min", "checkpoint.steps=10", "checkpoint.minutes=null",
    "baseline=null", "resume=auto",
)  # fmt: skip


def backbone(*, pretrained: bool = True) -> Any:
    """One convolution over images of 8 x 8 pixels."""
    import keras

    from kerasft.model.backbones import image_backbone
    from kerasft.model.preprocess import ImagePreprocess

    pixels = keras.Input((8, 8, 3))
    network = keras.Model(pixels, keras.layers.Conv2D(32, 3, activation="relu")(pixels))
    return image_backbone(
        network, ImagePreprocess(8, 8), scale=1 / 255, name="one convolution", pretrained=False
    )


def head(features: Any, *, units: int) -> Any:
    """Dropout, and one dense layer over all places."""
    import keras

    flat = keras.layers.Flatten()(features.sequence)
    return keras.layers.Dense(units)(keras.layers.Dropout(0.3)(flat))


def main(folder: Path) -> None:
    run = folder / "run"
    if not run_folder.has_ended(str(run)):
        kerasft.train([*SETTINGS, f"output_dir={run}"], trusted=["resume_kerasft"])
    lines = (run / "logs" / "epochs.jsonl").read_text().splitlines()
    log = [[row["epoch"], row["loss"], row["val_loss"]] for row in map(json.loads, lines)]
    with zipfile.ZipFile(run / "checkpoints" / "best.keras") as model:
        weights = hashlib.sha256(model.read("model.weights.h5")).hexdigest()
    (folder / "outcome.json").write_text(
        json.dumps({"weights": weights, "log": log, "last": log[-1]})
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
