"""Peer: KerasHub's text classifier as its guide shows it, `fit` on raw strings.

https://keras.io/keras_hub/getting_started/: `TextClassifier.fit(x, y)`, the preprocessor inside.
"""

from __future__ import annotations

import json
import sys
import time

STARTED = time.perf_counter()


def main() -> None:
    task = json.loads(sys.argv[1])
    import keras
    import keras_hub
    import numpy as np

    keras.utils.set_random_seed(task["seed"])
    if task["bfloat16"]:
        keras.config.set_dtype_policy("mixed_bfloat16")
    folder = task["checkpoint"]
    parts = {name: rows(task[name]) for name in ("train", "validation", "test")}
    model = keras_hub.models.BertTextClassifier(
        backbone=keras_hub.models.BertBackbone.from_preset(folder),
        preprocessor=keras_hub.models.BertTextClassifierPreprocessor(
            keras_hub.models.BertTokenizer.from_preset(folder), sequence_length=task["length"]
        ),
        num_classes=2,
    )
    if task["train_layers"] is not None:
        model.backbone.trainable = False
        for name in task["train_layers"]:
            layer = model.backbone.get_layer(name)
            layer.trainable = True
    model.compile(
        optimizer=keras.optimizers.AdamW(task["learning_rate"]),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        jit_compile=False,
    )
    ready = time.perf_counter()
    model.fit(
        *parts["train"], validation_data=parts["validation"], batch_size=task["batch_size"],
        epochs=task["epochs"], verbose=0,
    )  # fmt: skip
    trained = time.perf_counter()
    texts, labels = parts["test"]
    found = np.argmax(model.predict(texts, batch_size=64, verbose=0), axis=1)
    print(json.dumps({
        "total": trained - STARTED, "training": trained - ready,
        "accuracy": float(np.mean(found == labels)),
    }))  # fmt: skip


def rows(file: str):
    import numpy as np

    with open(file, encoding="utf-8") as lines:
        pairs = [line.rstrip("\n").split("\t") for line in lines]
    return np.array([text for text, _ in pairs], object), np.array([int(y) for _, y in pairs])


main()
