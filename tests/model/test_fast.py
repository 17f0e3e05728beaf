from __future__ import annotations

import inspect
from contextlib import nullcontext

import numpy as np
import pytest

from kerasft.config.schema import Root
from kerasft.model import tiny
from kerasft.model.assemble import assemble
from kerasft.model.dropping import drop
from kerasft.model.fast import STEPS_WORTH, accelerated, contracted_sides
from kerasft.model.heads import pooled

INPUTS = {
    "token_ids": np.array([[2, 7, 8, 3, 0, 0], [2, 9, 7, 8, 9, 3]], "int32"),
    "segment_ids": np.zeros((2, 6), "int32"),
    "padding_mask": np.array([[1, 1, 1, 1, 0, 0], [1] * 6], "int32"),
}


def bert():
    import keras

    keras.utils.set_random_seed(0)
    return assemble(tiny.text("bert"), lambda f: pooled.linear(f, units=2))


def with_gradients(model, inputs, training):
    import tensorflow as tf

    with tf.GradientTape() as tape:
        outputs = model(inputs, training=training)
        loss = tf.reduce_sum(tf.cast(outputs, tf.float32) ** 2)
    variables = [v.value for v in model.trainable_variables]
    return outputs.numpy(), [np.array(tf.convert_to_tensor(g)) for g in tape.gradient(
        loss, variables)]  # fmt: skip


def test_outputs_and_gradients_are_those_of_keras():
    model = bert()
    plain, wanted = with_gradients(model, INPUTS, training=False)
    with accelerated(model, steps=STEPS_WORTH) as replaced:
        for kind in ("dense", "dropout", "query", "attention_output", "layer_norm"):
            assert [path for path in replaced if kind in path], kind
        quick, got = with_gradients(model, INPUTS, training=False)
    np.testing.assert_allclose(quick, plain, rtol=1e-5, atol=1e-6)
    assert any(np.abs(g).max() > 1e-3 for g in wanted)
    for one, other in zip(got, wanted, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)
    again, _ = with_gradients(model, INPUTS, training=False)
    np.testing.assert_array_equal(again, plain)
    assert not any("call" in vars(layer) for layer in model._flatten_layers())


def test_in_training_they_are_those_of_keras_but_for_what_dropout_drops():
    import keras

    def first_step(rate, fast):
        keras.utils.set_random_seed(0)
        image = keras.Input((8,))
        hidden = keras.layers.Dense(64, name="below")(image)
        hidden = keras.layers.Dropout(rate)(hidden)
        model = keras.Model(image, keras.layers.Dense(2, name="above")(hidden))
        with accelerated(model, steps=STEPS_WORTH) if fast else nullcontext():
            outputs, gradients = with_gradients(model, np.eye(8, dtype="float32"), training=True)
        return [outputs, *gradients]

    for got, wanted in zip(first_step(0.0, True), first_step(0.0, False), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-5)
    assert np.abs(first_step(0.5, True)[0] - first_step(0.5, False)[0]).max() > 0.01
    said = inspect.getdoc(Root)
    assert "without dropout" in " ".join(said.split()) and "another seed" in " ".join(said.split())


@pytest.mark.every(4)
@pytest.mark.parametrize("approximate", [True, False])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_gelu_is_that_of_keras_to_the_precision(approximate, dtype):
    import keras

    def gelu(x):
        return keras.activations.gelu(x, approximate=approximate)

    policy = "mixed_bfloat16" if dtype == "bfloat16" else dtype
    layer = keras.layers.Dense(16, activation=gelu, dtype=policy)
    model = keras.Sequential([keras.Input((8,)), layer])
    x = np.random.default_rng(0).normal(size=(64, 8)).astype("float32") * 3
    layer.bias.assign(np.linspace(-1, 1, 16))
    plain, wanted = with_gradients(model, x, training=True)
    with accelerated(model, steps=STEPS_WORTH) as replaced:
        assert len(replaced) == 1
        quick, got = with_gradients(model, x, training=True)
    # Half precision keeps 8 bits; inside, the fused form is the more exact one.
    close = {"rtol": 3e-2, "atol": 3e-2} if dtype == "bfloat16" else {"rtol": 1e-5, "atol": 1e-5}
    np.testing.assert_allclose(quick, plain, **close)
    for one, other in zip(got, wanted, strict=True):
        np.testing.assert_allclose(one / np.abs(other).max(), other / np.abs(other).max(), **close)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_layer_normalization_is_that_of_keras_to_the_precision(dtype):
    import keras

    policy = "mixed_bfloat16" if dtype == "bfloat16" else dtype
    layer = keras.layers.LayerNormalization(epsilon=1e-6, dtype=policy)
    model = keras.Sequential([keras.Input((5, 16)), layer])
    random = np.random.default_rng(0)
    x = (random.normal(size=(4, 5, 16)) * 3 + 7).astype("float32")
    layer.gamma.assign(random.normal(size=16))
    layer.beta.assign(random.normal(size=16))
    plain, wanted = with_gradients(model, x, training=True)
    with accelerated(model, steps=STEPS_WORTH) as replaced:
        assert len(replaced) == 1
        quick, got = with_gradients(model, x, training=True)
    close = {"rtol": 3e-2, "atol": 3e-2} if dtype == "bfloat16" else {"rtol": 1e-4, "atol": 1e-5}
    np.testing.assert_allclose(quick.astype("float32"), plain.astype("float32"), **close)
    for one, other in zip(got, wanted, strict=True):
        np.testing.assert_allclose(one / np.abs(other).max(), other / np.abs(other).max(), **close)


@pytest.mark.parametrize(("equation", "sides"), [
    ("abc,cde->abde", 1), ("abcd,cde->abe", 2), ("...x,xy->...y", 1), ("ab,bc->ac", 1),
    ("abc,bcd->abd", 0), ("abc,cde->adbe", 0), ("abc,dce->abde", 0), ("abc,bc->ab", 0),
    ("abc,cb->abb", 0), ("aab,bc->aac", 0), ("ab,bc->abc", 0),
])  # fmt: skip
def test_an_equation_that_is_a_product_of_matrices_is_known(equation, sides):
    assert contracted_sides(equation) == sides


@pytest.mark.parametrize(("equation", "shape", "outputs", "bias"), [
    ("abc,cde->abde", (6, 8), (None, 2, 3), "de"), ("abcd,cde->abe", (6, 2, 4), (None, 5), "e"),
    ("abc,cd->abd", (6, 8), (None, 5), None),
])  # fmt: skip
def test_an_einsum_dense_is_that_of_keras(equation, shape, outputs, bias):
    import keras

    keras.utils.set_random_seed(0)
    layer = keras.layers.EinsumDense(equation, outputs, bias_axes=bias, activation="tanh")
    model = keras.Sequential([keras.Input(shape), layer])
    x = np.random.default_rng(0).normal(size=(3, *shape)).astype("float32")
    plain, wanted = with_gradients(model, x, training=True)
    with accelerated(model, steps=1) as replaced:
        assert len(replaced) == 1
        quick, got = with_gradients(model, x, training=True)
    np.testing.assert_allclose(quick, plain, rtol=1e-5, atol=1e-5)
    for one, other in zip(got, wanted, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)


def test_an_answer_alone_compiles_nothing():
    """What is compiled for a width pays for many steps, not for a few answers."""
    import tensorflow as tf

    model = bert()
    with accelerated(model, steps=STEPS_WORTH):
        graph = tf.function(lambda x: model(x, training=False)).get_concrete_function(
            {name: tf.TensorSpec([None, None], tf.int32) for name in INPUTS}
        ).graph
    compiled = [f for f in graph.as_graph_def().library.function if "_XlaMustCompile" in f.attr]
    assert not compiled


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.83])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_dropout_drops_the_share_and_keeps_the_mean(rate, dtype):
    import tensorflow as tf

    values = tf.ones([301, 333], dtype)
    dropped = tf.cast(drop(values, rate, [1, 2]), tf.float32).numpy()
    share = float((dropped == 0).mean())
    assert share == pytest.approx(rate, abs=4 * np.sqrt(rate * (1 - rate) / dropped.size))
    kept = dropped[dropped != 0]
    np.testing.assert_allclose(kept, 1 / (1 - rate), rtol=1e-2 if dtype == "bfloat16" else 1e-6)
    # Neighbours share 32 bits, and must not share their fate.
    pairs = (dropped == 0).reshape(-1)[: dropped.size // 2 * 2].reshape(-1, 2)
    both = float(pairs.all(axis=1).mean())
    assert both == pytest.approx(rate**2, abs=5 * np.sqrt(rate**2 / len(pairs)))


def test_dropout_is_a_function_of_its_seed():
    import tensorflow as tf

    values = tf.ones([7, 5, 3])
    first, again, other = (drop(values, 0.5, seed).numpy() for seed in ([1, 2], [1, 2], [1, 3]))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_dropout_draws_anew_at_each_step_and_rests_in_inference():
    import keras

    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((400,)), keras.layers.Dropout(0.5)])
    x = np.ones((2, 400), "float32")
    with accelerated(model, steps=1):
        one, other = (model(x, training=True).numpy() for _ in range(2))
        np.testing.assert_array_equal(model(x, training=False), x)
    assert not np.array_equal(one, other)
    assert not np.array_equal(one[0], one[1])


def test_what_means_something_else_stays_as_it_is():
    import keras

    class Own(keras.layers.Dense):
        pass

    model = keras.Sequential([
        keras.Input((6, 4)), keras.layers.Dropout(0.0),
        keras.layers.Dropout(0.5, noise_shape=(None, 1, 4)), keras.layers.Dense(4, "relu"),
        keras.layers.Dense(4, "gelu", use_bias=False), Own(4, "gelu"),
        keras.layers.SpatialDropout1D(0.2), keras.layers.LayerNormalization(scale=False),
        keras.layers.EinsumDense("abc,cd->abd", (6, 4), bias_axes="bd"),
    ])  # fmt: skip
    with accelerated(model, steps=STEPS_WORTH) as replaced:
        assert replaced == []


def test_a_short_run_compiles_nothing():
    with accelerated(bert(), steps=STEPS_WORTH - 1) as replaced:
        assert replaced
        assert not any("dense" in path or "norm" in path for path in replaced)


def test_a_model_is_saved_as_ever(tmp_path):
    import keras

    model = bert()
    plain = model(INPUTS, training=False)
    with accelerated(model, steps=STEPS_WORTH):
        model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras", compile=False)
    np.testing.assert_array_equal(again(INPUTS, training=False), plain)
