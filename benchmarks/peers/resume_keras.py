"""A training that can be killed at any time, as Keras' own documentation has it.

    python benchmarks/peers/resume_keras.py FOLDER

`keras.callbacks.BackupAndRestore` saves every 10 steps; run again on the same folder, it goes on.
The outcome is written to FOLDER/outcome.json at the end. Digits, a small network with dropout and
random shifts, early stopping; everything that can be seeded is.
"""

from __future__ import annotations

# ruff: noqa: E402 - the clock starts before the imports
import hashlib
import json
import os
import sys
import time
from pathlib import Path

BEGAN = time.perf_counter()
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import keras
import numpy as np
import tensorflow as tf
from sklearn.datasets import load_digits


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    keras.utils.set_random_seed(0)
    tf.config.experimental.enable_op_determinism()
    digits = load_digits()
    images = digits.images[..., None].astype("float32") / 16
    labels = digits.target.astype("int64")
    train = (
        tf.data.Dataset.from_tensor_slices((images[:1000], labels[:1000]))
        .shuffle(1000, seed=0).batch(16).prefetch(2)
    )  # fmt: skip
    held_out = tf.data.Dataset.from_tensor_slices((images[1000:1400], labels[1000:1400]))
    model = keras.Sequential([
        keras.Input((8, 8, 1)), keras.layers.RandomTranslation(0.1, 0.1),
        keras.layers.Conv2D(32, 3, activation="relu"), keras.layers.Flatten(),
        keras.layers.Dropout(0.3), keras.layers.Dense(10),
    ])  # fmt: skip
    model.compile(
        keras.optimizers.Adam(1e-3),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"],
    )
    rows = []

    class Log(keras.callbacks.Callback):
        began = BEGAN

        def on_train_batch_end(self, batch, logs=None):
            if self.began is not None:
                print(f"first step after {time.perf_counter() - self.began:.1f} s", flush=True)
                self.began = None

        def on_epoch_end(self, epoch, logs=None):
            rows.append([epoch, logs["loss"], logs["val_loss"]])
            with open(folder / "log.jsonl", "a") as file:
                file.write(json.dumps(rows[-1]) + "\n")

    model.fit(
        train, validation_data=held_out.batch(100), epochs=30, verbose=0,
        callbacks=[
            keras.callbacks.BackupAndRestore(folder / "backup", save_freq=10), Log(),
            keras.callbacks.EarlyStopping("val_loss", patience=3),
        ],
    )  # fmt: skip
    # As that documentation has it, the epochs of an interrupted process are in no History.
    log = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    weights = b"".join(np.asarray(v).tobytes() for v in model.get_weights())
    (folder / "outcome.json").write_text(json.dumps(
        {"weights": hashlib.sha256(weights).hexdigest(), "log": log, "last": log[-1]}
    ))  # fmt: skip


if __name__ == "__main__":
    main(Path(sys.argv[1]))
