"""Residual branches, and that they are dropped as stochastic depth says."""

from __future__ import annotations

import functools

import keras
import numpy as np
import pytest
from keras import layers

from kerasft import testing
from kerasft.errors import UserError
from kerasft.model import regularize, tiny
from kerasft.model.assemble import assemble
from kerasft.model.heads import pooled
from kerasft.model.regularizing.branches import blocks_of


@functools.cache
def backbone(family: str):
    return tiny.text(family) if family in tiny.TEXT else tiny.image(family)


def model_of(family: str, made=None):
    return assemble(made or backbone(family), lambda f: pooled.linear(f, units=2, dropout=0.0))


def fresh(family: str):
    """Return a model whose layers no other test has."""
    made = tiny.text(family) if family in tiny.TEXT else tiny.image(family)
    return model_of(family, made)


def inputs_of(family: str, count: int = 4):
    ready = backbone(family).preprocess
    texts = testing.tiny_splits(ready.modality, count=count).train.inputs
    return ready(list(texts))


@pytest.mark.every(5)
@pytest.mark.parametrize(("family", "ends"), [
    ("bert", ["self_attention_dropout", "feedforward_dropout"]),
    ("gpt2", ["self_attention_dropout", "feedforward_dropout"]),
    ("llama", ["self_attention_dropout", "feedforward_output_dense"]),
    ("distilbert", ["self_attention_dropout", "feedforward_dropout"]),
    ("vit", ["dropout", "mlp"]),
])  # fmt: skip
def test_blocks_of_transformers(family, ends):
    found = blocks_of(model_of(family))
    assert [[end.name for end in block.ends] for block in found] == [ends, ends]
    assert len({block.name for block in found}) == 2


@pytest.mark.every(5)
@pytest.mark.parametrize(("family", "count", "first"), [
    ("resnet", 2, "stack0_block0_2_bn"), ("mobilenet", 10, "block_2_project_BN"),
    ("efficientnet", 15, "block2b_drop"), ("densenet", 0, ""), ("vgg", 0, ""),
])  # fmt: skip
def test_blocks_of_convolutional_networks(family, count, first):
    found = blocks_of(model_of(family))
    assert len(found) == count
    assert [block.ends[0].name for block in found[:1]] == [first][:count]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "count"), [
    ("ResNet50", 16), ("ResNet50V2", 16), ("MobileNetV3Small", 6), ("Xception", 12),
    ("ConvNeXtTiny", 18), ("InceptionResNetV2", 40), ("EfficientNetB0", 9),
    ("NASNetMobile", 14), ("MobileNet", 0), ("InceptionV3", 0), ("DenseNet121", 0),
])  # fmt: skip
def test_blocks_of_keras_applications(name, count):
    network = getattr(keras.applications, name)(
        weights=None, include_top=False, input_shape=(75, 75, 3)
    )
    assert len(blocks_of(network)) == count


def test_what_is_added_and_is_no_residual_branch():
    image = keras.Input((8, 8, 4))
    low = layers.Conv2D(4, 3, strides=2, padding="same")(image)
    pyramid = keras.Model(image, layers.add([image, layers.UpSampling2D()(low)]))
    assert blocks_of(pyramid) == []
    two = [layers.Conv2D(4, 3, padding="same")(image) for _ in range(2)]
    assert blocks_of(keras.Model(image, layers.add(two))) == []
    # The same with one input is one.
    side = layers.Conv2D(4, 3, padding="same")(layers.ReLU()(image))
    assert len(blocks_of(keras.Model(image, layers.add([image, side])))) == 1


def dropped(model, chances) -> list[float]:
    """Return in which share of examples a branch of each block is dropped; the others are scaled.

    Args:
        model: A model whose branches end in batch normalization.
        chances: Those that are due.
    """
    found = []
    ends = [block.ends[0] for block in blocks_of(model)]
    for end, chance in zip(ends, chances, strict=True):
        end.trainable = False  # so that its statistics stay
        x = np.random.default_rng(0).normal(1, size=(4000, 2, 2, end.gamma.shape[0]))
        out, plain = (end(x, training=one).numpy() for one in (True, False))
        zero = ~out.any(axis=(1, 2, 3))
        np.testing.assert_allclose(out[~zero], plain[~zero] / (1 - chance), rtol=1e-5)
        found.append(zero.mean())
    return found


def test_branches_are_dropped_more_often_the_deeper_they_lie():
    model = fresh("resnet")
    assert dropped(model, [0, 0]) == [0, 0], "without the lever"
    regularize.stochastic_depth(model, rate=0.4)
    assert dropped(model, [0.2, 0.4]) == pytest.approx([0.2, 0.4], abs=0.03)


@pytest.mark.every(2)
@pytest.mark.parametrize("family", ["gpt2", "bert"])
def test_a_block_that_is_dropped_hands_on_what_came_in(family):
    made = tiny.text(family, layers=1)
    model = regularize.dropout(model_of(family, made), rate=0.0)
    regularize.stochastic_depth(model, rate=1 - 1e-9)
    block = model.get_layer("transformer_layer_0")
    came_in = np.random.default_rng(0).normal(size=(4, 8, 32)).astype("float32")
    wanted = came_in
    if family == "bert":  # it normalizes behind each sum
        wanted = block._self_attention_layer_norm(came_in)
        wanted = block._feedforward_layer_norm(wanted)
    np.testing.assert_allclose(block(came_in, training=True), wanted, atol=1e-6)
    assert np.abs(block(came_in) - wanted).max() > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("family", ["bert", "efficientnet", "gpt2", "vit", "mobilenet", "albert"])
def test_inference_and_files_are_those_of_the_network_without_it(family, tmp_path):
    model, x = fresh(family), inputs_of(family)
    plain, paths = model(x, training=False).numpy(), [v.path for v in model.weights]
    config = model.get_config()
    regularize.stochastic_depth(model, rate=0.5)
    assert [v.path for v in model.weights] == paths
    assert model.get_config() == config
    np.testing.assert_array_equal(model(x, training=False), plain)
    first, second = (model(x, training=True).numpy() for _ in range(2))
    assert np.abs(first - second).max() > 1e-6
    # Training outputs have moved the averages of batch normalization.
    plain = model(x, training=False).numpy()
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras", compile=False)
    np.testing.assert_array_equal(again(x, training=False), plain)


def test_a_network_without_branches_is_refused():
    with pytest.raises(UserError, match=r"stochastic_depth found no residual branch in the backb"
                       r"one: nothing goes around its layers.*Choose a network"):  # fmt: skip
        regularize.stochastic_depth(model_of("vgg"))


@pytest.mark.slow
def test_a_layer_that_is_called_several_times_has_the_mean_rate():
    model = fresh("albert")
    ends = {id(end): end for block in blocks_of(model) for end in block.ends}
    regularize.stochastic_depth(model, rate=0.4)
    assert len(ends) == 2
    for end in ends.values():
        out = end(np.ones((4000, 2, 32), "float32"), training=True).numpy()
        assert (~out.any(axis=(1, 2))).mean() == pytest.approx(0.3, abs=0.03)


def test_a_branch_with_a_source_of_its_own_is_no_residual_branch():
    image, other = keras.Input((8, 8, 4)), keras.Input((8, 8, 4))
    side = layers.Conv2D(4, 3, padding="same")(layers.add([image, other]))
    assert blocks_of(keras.Model([image, other], layers.add([image, side]))) == []
