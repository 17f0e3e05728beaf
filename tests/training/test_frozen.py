from __future__ import annotations

import numpy as np
import pytest

from kerasft.model import tiny
from kerasft.model.assemble import assemble
from kerasft.model.heads import pooled
from kerasft.training import frozen
from kerasft.training.stages import Stage, select

TEXTS = {
    "token_ids": np.array([[2, 7, 8, 3, 0, 0], [2, 9, 3, 0, 0, 0], [2, 9, 7, 8, 9, 3]], "int32"),
    "segment_ids": np.zeros((3, 6), "int32"),
    "padding_mask": np.array([[1] * 4 + [0] * 2, [1] * 3 + [0] * 3, [1] * 6], "int32"),
}
# Networks of so many layers that their graphs alone take seconds.
LARGE = ("mobilenet", "efficientnet")


def made(family: str, head=pooled.linear, **settings):
    """Assemble a tiny network, and inputs for it."""
    import keras

    keras.utils.set_random_seed(1)
    if family in tiny.IMAGE:
        backbone = tiny.image(family, image_size=32)
        inputs = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3)).astype("uint8")
    else:
        backbone = tiny.text(family)
        inputs = {name: TEXTS[name] for name in backbone.network.input}
    return assemble(backbone, lambda f: head(f, units=2, **settings)), inputs


def cut_for(model, train="head", pretrained=True):
    select(model, Stage(train), pretrained=pretrained)
    return frozen.cut(model)


@pytest.mark.every(4)
@pytest.mark.parametrize("family", [
    pytest.param(family, marks=pytest.mark.slow if family in LARGE else ())
    for family in (*tiny.TEXT, *tiny.IMAGE)
])  # fmt: skip
def test_both_parts_together_compute_the_whole(family):
    model, inputs = made(family)
    cut = cut_for(model)
    crossing = cut.prefix(inputs)
    np.testing.assert_array_equal(
        cut.suffix(crossing, training=False), model(inputs, training=False)
    )
    # A linear probe needs one vector an example.
    assert [len(tensor.shape) for tensor in cut.crossing.values()] == [2]
    assert cut.frozen_variables
    assert not {id(v) for v in cut.frozen_variables} & {id(v) for v in model.trainable_variables}
    assert frozen.open_sides(cut) is None


@pytest.mark.parametrize("pooling", ["cls", "avg", "attention"])
def test_what_trainable_pooling_needs_crosses_the_cut(pooling):
    model, inputs = made("bert", pooling=pooling)
    cut = cut_for(model)
    # Attention pooling trains, so that what it pools crosses the cut, and the mask.
    shapes = sorted(len(tensor.shape) for tensor in cut.crossing.values())
    assert shapes == ([2, 3] if pooling == "attention" else [2])
    np.testing.assert_array_equal(
        cut.suffix(cut.prefix(inputs)), model(inputs, training=False)
    )


def test_the_cut_moves_with_what_trains():
    model, inputs = made("bert")
    top = cut_for(model, ["transformer_layer_1/", "^head_"])
    assert "transformer_layer_0" in top.layers and "transformer_layer_1" not in top.layers
    # The hidden state of the layer below, and the mask that the upper one needs.
    assert sorted(len(tensor.shape) for tensor in top.crossing.values()) == [2, 3]
    np.testing.assert_array_equal(
        top.suffix(top.prefix(inputs)), model(inputs, training=False)
    )
    assert len(cut_for(model).layers) > len(top.layers)
    assert cut_for(model, "all") is None


@pytest.mark.every(9)
@pytest.mark.parametrize(("family", "upper"), [
    ("resnet", "stack1_"), ("mobilenet", "block_1[0-9]_|Conv_1"), ("efficientnet", "block6|top_"),
    ("densenet", "stack2_|bn"), ("vgg", "block2_"),
])  # fmt: skip
def test_branches_may_cross_the_cut(family, upper):
    model, inputs = made(family)
    cut = cut_for(model, [upper, "^head_"], pretrained=True)
    assert cut is not None and cut.layers
    np.testing.assert_allclose(
        cut.suffix(cut.prefix(inputs), training=False),
        model(inputs, training=False), rtol=1e-6, atol=1e-7,
    )  # fmt: skip


def test_batch_normalization_that_learns_is_not_frozen():
    model, _ = made("resnet")
    select(model, Stage("head"), pretrained=True)
    norm = next(la for la in model.layers if "BatchNormalization" in type(la).__name__)
    assert frozen.cut(model) is not None
    below = len(frozen.cut(model).layers)
    norm.trainable = True
    cut = frozen.cut(model)
    assert cut is None or len(cut.layers) < below


def test_dropout_of_the_head_stays_random_and_that_of_the_backbone_rests():
    from kerasft.model.regularize import dropout

    model, inputs = made("bert", dropout=0.5)
    dropout(model, rate=0.5)
    cut = cut_for(model)
    crossing = cut.prefix(inputs)
    first, second = (cut(inputs, training=True).numpy() for _ in range(2))
    assert not np.array_equal(first, second)
    assert any(node.operation.name == "head_dropout" for node in cut.above)
    for name, value in cut.prefix(inputs).items():
        np.testing.assert_array_equal(value, crossing[name])
    # In inference nothing is random.
    np.testing.assert_array_equal(cut(inputs, training=False), model(inputs, training=False))


def test_layers_that_change_images_at_random_are_not_in_the_prefix():
    import keras

    from kerasft.model.backbones import image_backbone
    from kerasft.model.preprocess import ImagePreprocess

    image = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(4, 3, name="below")(image)
    x = keras.layers.RandomFlip(name="flip")(x)
    x = keras.layers.Conv2D(4, 3, name="above")(x)
    backbone = image_backbone(
        keras.Model(image, x), ImagePreprocess(8, 8), scale=1.0, name="own", pretrained=True
    )
    model = assemble(backbone, lambda f: pooled.linear(f, units=2))
    assert cut_for(model).layers == ("below",)


def test_no_gradient_and_no_change_below_the_cut():
    import tensorflow as tf

    model, inputs = made("bert")
    cut = cut_for(model, ["transformer_layer_1/", "^head_"])
    with tf.GradientTape() as tape:
        for variable in cut.frozen_variables:
            tape.watch(variable.value)
        loss = tf.reduce_sum(cut(inputs, training=True) ** 2)
    gradients = tape.gradient(loss, [v.value for v in cut.frozen_variables])
    assert gradients and all(g is None for g in gradients)


def test_the_identity_is_that_of_graph_and_weights():
    model, _ = made("bert")
    cut = cut_for(model)
    first = frozen.identity(cut)
    assert frozen.identity(cut_for(made("bert")[0])) == first  # another object, the same network
    assert frozen.identity(cut_for(model, ["transformer_layer_1/", "^head_"])) != first
    head = next(v for v in model.variables if v.path.startswith("head_"))
    head.assign(head + 1.0)
    assert frozen.identity(cut_for(model)) == first
    kernel = next(v for v in cut.frozen_variables if v.path.endswith("kernel"))
    values = kernel.numpy()
    values.flat[7] += 1e-6
    kernel.assign(values)
    assert frozen.identity(cut) != first


@pytest.mark.parametrize("family", ["Llama", "Mistral", "Gemma", "Qwen", "GPT2"])
def test_networks_that_write_have_an_identity(family):
    """Also where a layer of KerasHub fails to say its config."""
    import keras
    import keras_hub

    size = {"vocabulary_size": 20, "num_layers": 1, "hidden_dim": 8, "intermediate_dim": 16}
    query = {"num_query_heads": 2, "num_key_value_heads": 1}
    make = {
        "Llama": lambda base: keras_hub.models.LlamaBackbone(
            **size, **query, rope_max_wavelength=base),
        "Mistral": lambda base: keras_hub.models.MistralBackbone(
            **size, **query, rope_max_wavelength=base),
        "Gemma": lambda base: keras_hub.models.GemmaBackbone(
            **size | {"intermediate_dim": int(base // 500) * 2}, **query, head_dim=4),
        "Qwen": lambda base: keras_hub.models.QwenBackbone(
            **size, **query, rope_max_wavelength=base),
        "GPT2": lambda base: keras_hub.models.GPT2Backbone(
            **size, num_heads=2, max_sequence_length=int(base // 500)),
    }[family]

    def identity(base):
        keras.utils.set_random_seed(0)
        backbone = make(base)
        pooled = keras.layers.GlobalAveragePooling1D()(backbone.output)
        model = keras.Model(backbone.input, keras.layers.Dense(2, name="head_outputs")(pooled))
        for layer in model.layers[:-1]:
            layer.trainable = False
        return frozen.identity(frozen.cut(model))

    assert identity(10000) == identity(10000)
    assert identity(10000) != identity(5000)


def test_a_dtype_makes_another_identity():
    import keras

    first = frozen.identity(cut_for(made("bert")[0]))
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        half = cut_for(made("bert")[0])
    finally:
        keras.config.set_dtype_policy(before)
    assert frozen.identity(half) != first


def test_multiply_adds_count_each_kernel_once_a_place():
    import keras

    image = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(4, 3, padding="same")(image)  # 64 places of 108
    x = keras.layers.GlobalAveragePooling2D()(x)
    network = keras.Model(image, keras.layers.Dense(5)(x))
    assert frozen.multiply_adds(frozen.nodes_of(network), 1.0) == 64 * 108 + 20
    text, _ = made("bert")
    short, long = (frozen.multiply_adds(frozen.nodes_of(text), n) for n in (10.0, 20.0))
    assert 1.9 < long / short <= 2.0


@pytest.mark.slow
def test_a_cut_leaves_the_model_as_it_was(tmp_path):
    import keras

    model, inputs = made("bert")
    for train in ("head", ["transformer_layer_1/", "^head_"], "head"):
        cut = cut_for(model, train)
        cut(inputs, training=True)
        frozen.identity(cut)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras", compile=False)
    np.testing.assert_array_equal(again(inputs, training=False), model(inputs, training=False))


def test_sides_that_are_open_are_named():
    import keras

    image = keras.Input((None, None, 3))
    x = keras.layers.Conv2D(4, 3, name="below")(image)
    x = keras.layers.Conv2D(4, 3, name="above")(x)
    model = keras.Model(image, x)
    model.get_layer("below").trainable = False
    assert "? x ? x 4" in frozen.open_sides(frozen.cut(model))


def own_images(*between):
    """A model of two convolutions, the first frozen, with layers between them."""
    import keras

    image = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(4, 3, name="below")(image)
    for layer in between:
        x = layer(x)
    outputs = keras.layers.Conv2D(4, 3, name="above")(x)
    model = keras.Model(image, outputs)
    model.get_layer("below").trainable = False
    return model


def test_layers_that_change_images_the_same_way_each_time_are_in_the_prefix():
    import keras

    crossing = frozen.cut(own_images(keras.layers.Resizing(5, 5), keras.layers.CenterCrop(4, 4)))
    (tensor,) = crossing.crossing.values()
    assert tensor.shape[1:] == (4, 4, 4)


def test_a_mask_that_keras_makes_crosses_the_cut_as_a_tensor_of_its_own():
    import keras

    ids = keras.Input((6,), dtype="int32")
    x = keras.layers.Embedding(20, 5, mask_zero=True, name="below")(ids)
    model = keras.Model(ids, keras.layers.LSTM(3, name="above")(x))
    model.get_layer("below").trainable = False
    cut = frozen.cut(model)
    tokens = np.array([[4, 5, 6, 0, 0, 0], [7, 0, 0, 0, 0, 0]], "int32")
    whole = model(tokens).numpy()
    np.testing.assert_allclose(cut(tokens).numpy(), whole, rtol=1e-6)
    kept = {name: np.array(value) for name, value in cut.prefix(tokens).items()}
    np.testing.assert_allclose(cut.suffix(kept).numpy(), whole, rtol=1e-6)
    (mask,) = [name for name, value in kept.items() if value.dtype == bool]
    kept[mask][:] = True
    assert np.abs(cut.suffix(kept).numpy() - whole).max() > 1e-3


def test_a_large_constant_makes_another_identity():
    import keras

    def identity(last):
        image = keras.Input((40, 40, 1))
        added = np.zeros((1, 40, 40, 1), "float32")
        added[0, 20, 20, 0] = last
        x = keras.layers.Conv2D(2, 3, name="below", kernel_initializer="ones")(
            keras.ops.add(image, added)
        )
        model = keras.Model(image, keras.layers.Conv2D(2, 3, name="above")(x))
        model.get_layer("below").trainable = False
        return frozen.identity(frozen.cut(model))

    assert identity(0.5) == identity(0.5) != identity(0.25)
