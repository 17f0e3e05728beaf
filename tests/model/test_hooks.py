from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers, ops

from kerasft.model.fast import accelerated
from kerasft.model.regularizing.hooks import compute_by, hook, hook_of, seeds


class Outer(layers.Layer):
    """A layer whose `call` is not told whether it trains, with one inside."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.inner = layers.Activation("linear")

    def call(self, inputs):
        return self.inner(inputs)


def doubled(outputs, *args, **kwargs):
    return outputs * 2


def test_a_hook_changes_outputs_in_training_alone():
    layer = Outer()
    hook(layer.inner, doubled)
    hook(layer.inner, lambda outputs, inputs: outputs + inputs)
    one = ops.ones((1, 1))
    assert float(layer(one, training=True)[0, 0]) == 3
    assert float(layer(one, training=False)[0, 0]) == float(layer(one)[0, 0]) == 1


def test_a_hooked_layer_is_the_same_in_files(tmp_path):
    inputs = keras.Input((4,))
    model = keras.Model(inputs, layers.Dense(2, name="dense")(inputs))
    layer, before = model.get_layer("dense"), model.get_config()
    paths = [v.path for v in model.weights]
    hook(layer, doubled)
    seeds(layer, "drawn")
    assert type(layer) is layers.Dense
    assert model.get_config() == before
    assert [v.path for v in model.weights] == paths
    # The state of what is drawn is a variable: checkpoints hold it.
    assert len(model.variables) == len(paths) + 1
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    x = np.ones((3, 4), "float32")
    np.testing.assert_array_equal(again(x), model(x))
    assert hook_of(again.get_layer("dense")) is None


def test_a_hook_stays_on_a_layer_that_computes_faster():
    layer = layers.Dense(1, kernel_initializer="ones")
    one = ops.ones((1, 1))
    layer(one)
    hook(layer, doubled)
    compute_by(layer, lambda inputs, training=None: inputs * 10)
    assert float(layer(one, training=True)[0, 0]) == 20
    compute_by(layer, None)
    assert float(layer(one, training=True)[0, 0]) == 2


def test_fused_layers_keep_their_hooks():
    inputs = keras.Input((4, 4, 3))
    x = layers.Conv2D(3, 1, use_bias=False, name="conv")(inputs)
    model = keras.Model(inputs, layers.BatchNormalization(name="norm")(x))
    norm = model.get_layer("norm")
    norm.trainable = False
    hook(norm, doubled)
    images = np.random.default_rng(0).normal(size=(2, 4, 4, 3)).astype("float32")
    plain = model(images, training=False).numpy()
    with accelerated(model, steps=1000) as replaced:
        assert len(replaced) == 2
        np.testing.assert_allclose(model(images, training=True), plain * 2, atol=1e-5)
        np.testing.assert_allclose(model(images, training=False), plain, atol=1e-5)
    np.testing.assert_allclose(model(images, training=True), plain * 2, atol=1e-5)


@pytest.mark.slow
def test_a_hook_stays_on_a_layer_whose_kernel_is_made_int8():
    layer = layers.Dense(1, kernel_initializer="ones")
    one = ops.ones((1, 1))
    layer(one)
    hook(layer, doubled)
    layer.quantize("int8")
    assert float(layer(one, training=True)[0, 0]) == 2 * float(layer(one)[0, 0]) != 0


def test_a_layer_that_is_random_itself_may_rest():
    layer = layers.Dropout(0.9)
    hook(layer, doubled, rests=True)
    np.testing.assert_array_equal(layer(ops.ones((50,)), training=True), np.full(50, 2.0))
