"""MixUp and CutMix that end before training does, by the setting that all steps share."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from kerasft.data import ending, mixing
from kerasft.data.augment import augmenter
from kerasft.data.order import Order
from kerasft.data.pipeline import Batches
from kerasft.data.store import Store
from kerasft.errors import UserError
from kerasft.rows import Rows

IMAGES = np.random.default_rng(0).integers(0, 256, (12, 8, 8, 3)).astype("uint8")
# Several labels an example.
LABELS = (np.random.default_rng(1).random((12, 3)) < 0.5).astype("float32")


def batches(step, epochs=4) -> Batches:
    made = augmenter({"mix": step}, seed=0, size=(8, 8), shares=dict, epochs=epochs)
    return Batches(
        Store.of({"images": IMAGES}), Rows.of({"labels": LABELS}), order=Order(12, 6, seed=1),
        batch=lambda inputs, found: (found["labels"], None), augment=made,
    )  # fmt: skip


@pytest.mark.parametrize("name", ["MixUp", "CutMix"])
def test_it_is_the_layer_of_keras_and_then_nothing(name):
    theirs = batches(getattr(keras.layers, name)())
    ours = batches(getattr(mixing, name)(stop=-2))
    assert ours.ends == {"mix": 2} and theirs.ends == {}
    mixed = [0, 0]
    for step, (one, other) in enumerate(zip(
        ours.from_step().take(8), theirs.from_step().take(8), strict=True
    )):
        epoch, indices = ours.order.batch(step)
        if epoch < 2:
            for mine, keras_own in zip(one, other, strict=True):
                np.testing.assert_array_equal(mine, keras_own)
        else:
            np.testing.assert_array_equal(one[0], IMAGES[indices])
            np.testing.assert_array_equal(one[1], LABELS[indices])
        mixed[epoch // 2] += int((other[1].numpy() != LABELS[indices]).any())
    assert min(mixed) > 0  # without an end, both halves are mixed


def test_an_epoch_more_or_less_moves_the_end():
    made = batches(mixing.MixUp(stop=0.5))
    assert made.ends == {"mix": 2}
    # A stage that stopped early leaves fewer epochs; the batches that were are as they were.
    assert made.planned(2).ends == {"mix": 1}
    assert batches(mixing.MixUp()).planned(100).ends == {}


@pytest.mark.parametrize(("stop", "epochs", "first"), [
    (1.0, 7, 7), (1, 7, 7), (0.9, 10, 9), (0.9, 1, 0), (-1, 10, 9), (-10, 10, 0), (-3.0, 10, 7),
])  # fmt: skip
def test_where_it_ends(stop, epochs, first):
    assert not ending.problem(stop)
    assert ending.until(stop, epochs) == first


@pytest.mark.parametrize("stop", [0, 1.5, 5, -0.5, "soon", None, True, float("nan")])
def test_what_is_no_end(stop):
    with pytest.raises(ValueError, match="stop must be a share of the epochs"):
        mixing.CutMix(stop=stop)


@pytest.mark.parametrize("layer", [mixing.MixUp(0.4, stop=-5), mixing.CutMix(0.5, stop=0.8)])
def test_they_come_back_from_their_configs(layer):
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert again.get_config() == layer.get_config() and again.stop == layer.stop


def test_they_are_refused_with_boxes_as_those_of_keras():
    for step in (mixing.MixUp(), keras.layers.MixUp()):
        with pytest.raises(UserError, match=r"augment\.mix: keras\.layers\.MixUp mixes the pixels"):
            augmenter({"mix": step}, seed=0, size=(8, 8), moving=["boxes"])
