from __future__ import annotations

import numpy as np
import pytest

from kerasft.model.fast import accelerated


def network(*, policy="float32", bias=False, scale=True, center=True, read_twice=False):
    """Two convolutions, each with its normalization, whose statistics are none of the defaults."""
    import keras

    keras.utils.set_random_seed(0)
    layers = keras.layers
    with_policy = {"dtype": policy}
    images = keras.Input((9, 9, 3))
    x = layers.Conv2D(4, 3, strides=2, use_bias=bias, padding="same", **with_policy)(images)
    between = layers.BatchNormalization(scale=scale, center=center, **with_policy)(x)
    if read_twice:
        between = layers.Add(**with_policy)([between, x])
    x = layers.ReLU(6.0, **with_policy)(between)
    x = layers.DepthwiseConv2D(3, depth_multiplier=2, use_bias=bias, **with_policy)(x)
    x = layers.BatchNormalization(scale=scale, center=center, **with_policy)(x)
    x = layers.GlobalAveragePooling2D(**with_policy)(x)
    model = keras.Model(images, layers.Dense(2, dtype="float32")(x))
    random = np.random.default_rng(0)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.moving_mean.assign(random.normal(size=layer.moving_mean.shape))
            layer.moving_variance.assign(random.uniform(0.2, 3, size=layer.moving_mean.shape))
            if scale:
                layer.gamma.assign(random.normal(1, 0.4, size=layer.moving_mean.shape))
            if center:
                layer.beta.assign(random.normal(size=layer.moving_mean.shape))
            layer.trainable = False
        elif bias and isinstance(layer, keras.layers.Conv2D | keras.layers.DepthwiseConv2D):
            layer.bias.assign(random.normal(size=layer.bias.shape))
    return model


def normalizations(model):
    import keras

    return [la for la in model.layers if isinstance(la, keras.layers.BatchNormalization)]


def with_gradients(model, training=True):
    import tensorflow as tf

    images = tf.constant(np.random.default_rng(1).normal(size=(4, 9, 9, 3)), tf.float32)

    @tf.function
    def compute():
        with tf.GradientTape() as tape:
            outputs = model(images, training=training)
            loss = tf.reduce_sum(outputs**2)
        variables = [v.value for v in model.trainable_variables]
        return outputs, tape.gradient(loss, variables)

    outputs, gradients = compute()
    return outputs.numpy(), [np.array(tf.convert_to_tensor(g)) for g in gradients]


@pytest.mark.every(3)
@pytest.mark.parametrize("settings", [
    {}, {"bias": True}, {"scale": False}, {"center": False, "bias": True},
    {"policy": "mixed_bfloat16"},
])  # fmt: skip
def test_outputs_and_gradients_are_those_of_keras(settings):
    model = network(**settings)
    plain, wanted = with_gradients(model)
    with accelerated(model, steps=1) as replaced:
        assert len(replaced) == 4, replaced
        quick, got = with_gradients(model)
    # Half precision keeps 8 bits, and rounds at other places.
    close = {"rtol": 5e-2, "atol": 5e-2} if settings.get("policy") else {"rtol": 1e-4, "atol": 1e-5}
    np.testing.assert_allclose(quick, plain, **close)
    assert len(got) == (6 if settings.get("bias") else 4)
    for one, other in zip(got, wanted, strict=True):
        assert np.abs(other).max() > 1e-3
        most = np.abs(other).max()
        np.testing.assert_allclose(one / most, other / most, **close)
    again, _ = with_gradients(model)
    np.testing.assert_array_equal(again, plain)


def test_a_normalization_that_trains_does_as_ever():
    model = network()
    start = model.get_weights()
    for layer in normalizations(model):
        layer.trainable = True
    plain, wanted = with_gradients(model)
    moved = model.get_weights()
    assert not all(np.array_equal(a, b) for a, b in zip(start, moved, strict=True))
    model.set_weights(start)
    with accelerated(model, steps=1):
        quick, got = with_gradients(model)
    np.testing.assert_array_equal(quick, plain)
    for one, other in zip([*got, *model.get_weights()], [*wanted, *moved], strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_convolution_that_something_else_reads_stays_as_it_is():
    model = network(read_twice=True)
    plain, _ = with_gradients(model)
    with accelerated(model, steps=1) as replaced:
        assert len(replaced) == 2 and not [path for path in replaced if path == "conv2d"]
        quick, _ = with_gradients(model)
    np.testing.assert_allclose(quick, plain, rtol=1e-4, atol=1e-5)


def test_a_convolution_that_is_an_output_stays_as_it_is():
    import keras

    model = network()
    inner = next(la for la in model.layers if type(la) is keras.layers.Conv2D)
    both = keras.Model(model.input, [inner.output, model.output])
    with accelerated(both, steps=1) as replaced:
        assert len(replaced) == 2 and inner.path not in replaced
