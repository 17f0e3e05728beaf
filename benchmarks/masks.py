"""Trains the U-Net of Keras' guide on cell nuclei for so long, measured as kerasft does.

    KERASFT_DATA=DIR python benchmarks/masks.py --seconds 500 --seed 0

Seconds are processor time, so that two trainings beside other programs get the same.

https://keras.io/examples/vision/oxford_pets_image_segmentation/ has the network, from random
weights, with Adam at 1e-4 and batches of 32; `--rate` and `--batch` are kinder to few images. Its
weights of the lowest validation loss are kept, as there. Beside it stands
`kerasft train experiment=nuclei_mobilenet`.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kerasft.data.preprocessing import prepare
from kerasft.data.sources.mask_folder import mask_folder
from kerasft.evaluation import masks as figures
from kerasft.model.preprocess import ImagePreprocess
from kerasft.model.vision.masks import class_map
from kerasft.spec import Examples


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--rate", type=float, default=1e-4)
    parser.add_argument("--batch", type=int, default=32)
    options = parser.parse_args()
    began = time.process_time()
    keras.utils.set_random_seed(options.seed)
    splits = mask_folder(
        str(Path(os.environ["KERASFT_DATA"]) / "nuclei_seg"), kind="masks", seed=0, masks="masks",
        classes={0: "background", 255: "nucleus"},
    )
    preprocess = ImagePreprocess(options.size, options.size, resize="stretch")
    x, y = arrays(splits.train, preprocess)
    network = unet(options.size, len(splits.labels.names))
    network.compile(keras.optimizers.Adam(options.rate), "sparse_categorical_crossentropy")
    best = Best(arrays(splits.validation, preprocess), began + options.seconds)
    network.fit(x, y, batch_size=options.batch, epochs=10_000, verbose=0, callbacks=[best])
    network.set_weights(best.weights)
    print(f"{best.epochs} epochs in {time.process_time() - began:.0f} s")
    for name in ("validation", "test"):
        found = measured(network, splits.parts[name], preprocess, splits.labels.names)
        print(name, {key: round(value, 4) for key, value in found.items() if
                     isinstance(value, float)}, "nucleus",
              round(found["per_class"]["nucleus"]["iou"], 4))


class Best(keras.callbacks.Callback):
    """Keeps the weights of the lowest validation loss, and stops when the time is over."""

    def __init__(self, validation: tuple[np.ndarray, np.ndarray], end: float):
        super().__init__()
        self.validation, self.end, self.lowest, self.epochs = validation, end, float("inf"), 0
        self.weights: list[np.ndarray] = []

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        loss = self.model.evaluate(*self.validation, batch_size=8, verbose=0)
        if loss < self.lowest or not self.weights:
            self.lowest, self.weights = loss, self.model.get_weights()
        self.epochs = epoch + 1
        if time.process_time() > self.end:
            self.model.stop_training = True


def arrays(part: Examples, preprocess: ImagePreprocess) -> tuple[np.ndarray, np.ndarray]:
    """Return images and masks at the network's size."""
    rows = prepare(part, preprocess).gather(np.arange(len(part)))
    return rows["images"], preprocess.placed(part.annotations)["segmentation_masks"]


def measured(
    network: keras.Model, part: Examples, preprocess: ImagePreprocess, names: Any
) -> dict[str, Any]:
    """Return the figures at the size of the original images."""
    images, _ = arrays(part, preprocess)
    frames = preprocess.placed(part.annotations)["frame"]
    pixels, borders = np.zeros((len(names),) * 2), np.zeros((len(names), 4))
    for image, frame, png in zip(images, frames, part.annotations["mask"], strict=True):
        true = tf.io.decode_png(png, channels=1)[..., 0]
        predicted = class_map(network(image[None], training=False)[0], tf.constant(frame))
        pixels += figures.confusion(true, predicted, len(names)).numpy()
        borders += figures.borders_near(true, predicted, len(names)).numpy()
    return figures.summary(pixels, borders, names)


def unet(size: int, classes: int) -> keras.Model:
    """Return the network of the guide."""
    layers = keras.layers
    inputs = keras.Input((size, size, 3))
    x = layers.Conv2D(32, 3, strides=2, padding="same")(inputs)
    before = x = layers.Activation("relu")(layers.BatchNormalization()(x))
    for filters in (64, 128, 256):
        for _ in range(2):
            x = layers.SeparableConv2D(filters, 3, padding="same")(layers.Activation("relu")(x))
            x = layers.BatchNormalization()(x)
        x = layers.MaxPooling2D(3, strides=2, padding="same")(x)
        before = x = layers.add([x, layers.Conv2D(filters, 1, strides=2, padding="same")(before)])
    for filters in (256, 128, 64, 32):
        for _ in range(2):
            x = layers.Conv2DTranspose(filters, 3, padding="same")(layers.Activation("relu")(x))
            x = layers.BatchNormalization()(x)
        x = layers.UpSampling2D(2)(x)
        sides = layers.Conv2D(filters, 1, padding="same")(layers.UpSampling2D(2)(before))
        before = x = layers.add([x, sides])
    return keras.Model(inputs, layers.Conv2D(classes, 3, activation="softmax", padding="same")(x))


if __name__ == "__main__":
    main()
