"""Peer: transfer learning on images as Keras' guide shows it.

https://keras.io/guides/transfer_learning/: `image_dataset_from_directory`, augmentation in `map`,
`prefetch` and `cache`; the frozen base in inference mode, pooling, dropout 0.2 and a dense layer.
"""

from __future__ import annotations

import json
import sys
import time

STARTED = time.perf_counter()


def main() -> None:
    task = json.loads(sys.argv[1])
    import keras
    import numpy as np
    import tensorflow as tf

    keras.utils.set_random_seed(task["seed"])

    def images(split: str):
        return keras.utils.image_dataset_from_directory(
            f"{task['folder']}/{split}", image_size=(task["size"], task["size"]),
            batch_size=task["batch_size"], shuffle=split == "train", seed=task["seed"], verbose=0,
        )  # fmt: skip

    train, validation, test = map(images, ("train", "validation", "test"))
    classes = len(train.class_names)
    if task["augmented"]:
        layers = [keras.layers.RandomFlip("horizontal"), keras.layers.RandomRotation(0.1)]

        def augmented(images, labels):
            for layer in layers:
                images = layer(images)
            return images, labels

        train = train.map(augmented)
    train, validation = (
        data.prefetch(tf.data.AUTOTUNE).cache() for data in (train, validation)
    )
    base = keras.applications.MobileNet(
        alpha=0.75, weights=task["weights"], include_top=False,
        input_shape=(task["size"], task["size"], 3),
    )  # fmt: skip
    base.trainable = False
    inputs = keras.Input((task["size"], task["size"], 3))
    x = keras.layers.Rescaling(1 / 127.5, offset=-1)(inputs)
    x = keras.layers.GlobalAveragePooling2D()(base(x, training=False))
    outputs = keras.layers.Dense(classes)(keras.layers.Dropout(0.2)(x))
    model = keras.Model(inputs, outputs)

    def fit(rate: float, epochs: int) -> None:
        model.compile(
            keras.optimizers.Adam(rate),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"],
            jit_compile=False,
        )  # fmt: skip
        model.fit(train, epochs=epochs, validation_data=validation, verbose=0)

    fit(task["head_rate"], task["epochs"])
    if task["all_epochs"]:
        base.trainable = True
        fit(task["all_rate"], task["all_epochs"])
    trained = time.perf_counter()
    right = [np.argmax(model(x, training=False), 1) == y.numpy() for x, y in test]
    print(json.dumps({
        "total": trained - STARTED, "accuracy": float(np.mean(np.concatenate(right))),
    }))  # fmt: skip


main()
