from __future__ import annotations

from functools import partial

import keras
import numpy as np
import pytest
from keras import layers

from kerasft.model.adapting import low_rank

RANDOM = np.random.default_rng(0)


def numbers(*shape: int) -> np.ndarray:
    return RANDOM.normal(size=shape).astype("float32")


IDS = RANDOM.integers(0, 9, (3, 4)).astype("int32")
# Layers of each kind, with what they are called on.
KINDS = {
    "dense": (partial(layers.Dense, 5, "gelu"), numbers(3, 4, 6)),
    "dense without bias": (partial(layers.Dense, 5, use_bias=False), numbers(3, 6)),
    "query": (partial(layers.EinsumDense, "abc,cde->abde", (None, 3, 4), bias_axes="de"),
              numbers(3, 4, 6)),
    "query of Gemma": (
        partial(layers.EinsumDense, "btd,ndh->btnh", (None, 3, 4)), numbers(3, 4, 6)
    ),
    "attention output": (
        partial(layers.EinsumDense, "abcd,cde->abe", (None, 4), activation="relu"),
        numbers(3, 4, 6, 2),
    ),
    "convolution": (
        partial(layers.Conv2D, 5, 3, strides=2, padding="same", activation="relu"),
        numbers(3, 9, 9, 4),
    ),
    "convolution of single pixels": (partial(layers.Conv2D, 5, 1), numbers(3, 5, 5, 4)),
    "dilated convolution": (partial(layers.Conv2D, 5, 3, dilation_rate=2), numbers(2, 9, 9, 4)),
    "causal convolution": (partial(layers.Conv1D, 5, 3, padding="causal"), numbers(3, 9, 4)),
    "volumes": (partial(layers.Conv3D, 5, 2), numbers(2, 4, 4, 4, 3)),
    "embedding": (partial(layers.Embedding, 9, 5), IDS),
    "reversible embedding": (partial(layers.ReversibleEmbedding, 9, 5), IDS),
}  # fmt: skip
IN_INT8 = ("dense", "dense without bias", "query", "attention output", "embedding")


def model_of(layer, x: np.ndarray):
    inputs = keras.Input(x.shape[1:], dtype=x.dtype)
    return keras.Model(inputs, layer(inputs))


def trained(layer, **settings) -> None:
    """Adapt a layer, and give both factors numbers as training would."""
    low_rank.adapt(layer, rank=2, alpha=4.0, **settings)
    for factor in (layer.lora_a, layer.lora_b):
        factor.assign(0.3 * np.random.default_rng(1).normal(size=factor.shape))


def computed(model, x: np.ndarray) -> np.ndarray:
    return np.asarray(model(x, training=False)).astype("float32")


@pytest.mark.every(4)
@pytest.mark.parametrize(("kind", "quantize"), [
    *((kind, False) for kind in KINDS), *((kind, True) for kind in IN_INT8),
])  # fmt: skip
def test_merged_equals_unmerged_and_files_hold_plain_layers(kind, quantize, tmp_path):
    make, x = KINDS[kind]
    layer = make()
    model = model_of(layer, x)
    plain, weights, config = computed(model, x), len(model.variables), layer.get_config()
    assert low_rank.objection(layer) == ""
    trained(layer, quantize=quantize)
    beside, before = computed(model, x), [v.numpy() for v in model.variables]
    paths = [v.path for v in model.variables]
    assert np.abs(beside - plain).max() > 0.05, "the update counts"
    assert layer._kernel.dtype == "int8" if quantize and "embed" not in kind else True

    unfold = low_rank.fold(layer)
    np.testing.assert_allclose(computed(model, x), beside, atol=2e-6)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras", compile=False)
    np.testing.assert_array_equal(computed(again, x), computed(model, x))
    assert type(again.layers[-1]) is type(make())

    unfold()
    assert paths == [v.path for v in model.variables]
    for one, value in zip(model.variables, before, strict=True):
        np.testing.assert_array_equal(one.numpy(), value)
    np.testing.assert_array_equal(computed(model, x), beside)

    low_rank.fold(layer)
    low_rank.forget(layer)
    np.testing.assert_array_equal(computed(model, x), computed(again, x))
    assert len(model.variables) == weights
    assert layer.get_config() == config
    assert low_rank.objection(layer) == "", "it may be adapted once more"


@pytest.mark.parametrize("kind", KINDS)
def test_an_untrained_update_changes_nothing(kind):
    make, x = KINDS[kind]
    layer = make()
    model = model_of(layer, x)
    plain = computed(model, x)
    low_rank.adapt(layer, rank=2, alpha=16.0, dropout=0.5)
    np.testing.assert_array_equal(computed(model, x), plain)
    if "embedding" not in kind:  # nothing to drop of numbers that are all zero
        layer.lora_b.assign(np.ones(layer.lora_b.shape))
        assert np.abs(np.asarray(model(x, training=True)) - computed(model, x)).max() > 1e-3


def test_the_update_of_a_tied_table_counts_in_both_directions():
    import keras_hub

    layer = keras_hub.layers.ReversibleEmbedding(9, 5, logit_soft_cap=3.0)
    inputs = keras.Input((4,), dtype="int32")
    model = keras.Model(inputs, layer(layer(inputs), reverse=True))
    plain = computed(model, IDS)
    trained(layer)
    beside = computed(model, IDS)
    assert np.abs(beside - plain).max() > 0.05
    low_rank.fold(layer)
    assert type(layer) is keras_hub.layers.ReversibleEmbedding
    np.testing.assert_allclose(computed(model, IDS), beside, atol=2e-6)


def test_a_table_for_one_direction_is_updated_in_that_one_alone():
    layer = layers.ReversibleEmbedding(9, 5, tie_weights=False)
    inputs = keras.Input((4,), dtype="int32")
    model = keras.Model(inputs, layer(layer(inputs), reverse=True))
    plain = computed(model, IDS)
    trained(layer)
    beside = computed(model, IDS)
    assert np.abs(beside - plain).max() > 1e-3
    low_rank.fold(layer)
    np.testing.assert_allclose(computed(model, IDS), beside, atol=2e-6)


def test_channels_first():
    import tensorflow as tf

    # Traced and not run: TensorFlow convolves channels that come first on a GPU only.
    layer = layers.Conv2D(5, 3, strides=2, padding="same", data_format="channels_first")
    layer.build((None, 4, 9, 9))
    low_rank.adapt(layer, rank=2, alpha=4.0)
    step = tf.function(layer._product).get_concrete_function(tf.TensorSpec((2, 4, 9, 9)))
    assert tuple(step.output_shapes) == (2, 5, 5, 5)


def test_half_precision_merges_in_float32():
    layer = layers.Dense(64, dtype="mixed_bfloat16")
    x = numbers(8, 64)
    model = model_of(layer, x)
    trained(layer)
    wanted = layer._kernel.numpy() + low_rank.delta(layer)
    assert wanted.dtype == np.float32
    beside = computed(model, x)
    low_rank.fold(layer)
    np.testing.assert_array_equal(layer._kernel.numpy(), wanted)
    np.testing.assert_allclose(computed(model, x), beside, atol=0.1)  # bfloat16 has 8 bits


class Doubled(layers.Dense):
    def call(self, inputs, training=None):
        return 2 * super().call(inputs)


@pytest.mark.parametrize(("layer", "reason"), [
    (layers.LayerNormalization(), "LayerNormalization"),
    (layers.DepthwiseConv2D(3), "DepthwiseConv2D"),
    (layers.Conv2D(4, 3, groups=2), "Conv2D in groups"),
    (layers.Dense(4, kernel_constraint="max_norm"), "Dense with a constraint"),
    (layers.EinsumDense("abc,bcd->abd", (4, 5)),
     "EinsumDense of abc,bcd->abd, which is no product of matrices"),
    (Doubled(4), "Doubled"),
])  # fmt: skip
def test_layers_that_take_no_update_say_why(layer, reason):
    layer.build((None, 4, 4) if isinstance(layer, layers.EinsumDense) else (None, 8, 8, 4))
    assert low_rank.objection(layer) == reason


def test_a_layer_takes_one_update():
    layer = layers.Dense(4)
    layer.build((None, 4))
    low_rank.adapt(layer, rank=1, alpha=1.0)
    assert low_rank.objection(layer) == "Dense that is adapted already"


def test_a_regularizer_of_the_kernel_goes_to_the_factors():
    layer = layers.Dense(4, kernel_regularizer="l2")
    layer.build((None, 4))
    low_rank.adapt(layer, rank=1, alpha=1.0)
    assert layer.lora_a.regularizer is layer.lora_b.regularizer is layer._kernel.regularizer
