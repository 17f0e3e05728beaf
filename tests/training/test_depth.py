from __future__ import annotations

import pytest

from kerasft.model import tiny
from kerasft.model.assemble import assemble
from kerasft.model.heads import pooled
from kerasft.training.depth import MOST, depth_of


def all_have_a_level(network, depth):
    levels = {depth.of(variable) for variable in network.trainable_variables}
    return levels == set(range(1, len(depth) + 1))


@pytest.mark.parametrize("kind", ["bert", "gpt2"])
def test_each_block_is_a_level_and_embeddings_are_the_lowest(kind):
    model = assemble(tiny.text(kind), lambda f: pooled.linear(f, units=2))
    depth = depth_of(model)
    assert len(depth) == 3 and set(depth.levels.values()) == {1, 2, 3}
    assert depth.names[2] == "transformer_layer_0"
    assert depth.names[3].startswith("token_embedding .. ")
    at_the_top = {v.path.split("/")[0] for v in model.trainable_variables if not depth.of(v)}
    assert at_the_top == {"head_outputs"}


def test_blocks_within_a_stack_are_levels():
    import keras_hub

    network = keras_hub.models.ViTBackbone(
        image_shape=(16, 16, 3), patch_size=8, num_layers=3, num_heads=2, hidden_dim=8, mlp_dim=8
    )
    depth = depth_of(network)
    assert len(depth) == 4 and all_have_a_level(network, depth)
    assert depth.names[1].startswith("transformer_block_3")
    assert depth.names[4] == "vit_patching_and_embedding"


@pytest.mark.parametrize("name", [
    "MobileNet", pytest.param("ResNet50", marks=pytest.mark.slow),
    pytest.param("InceptionV3", marks=pytest.mark.slow),
    pytest.param("EfficientNetV2B0", marks=pytest.mark.slow),
    pytest.param("ConvNeXtTiny", marks=pytest.mark.slow),
])  # fmt: skip
def test_single_layers_are_put_together(name):
    import keras

    more = {"alpha": 0.25} if name == "MobileNet" else {}
    network = getattr(keras.applications, name)(weights=None, include_top=False, **more)
    depth = depth_of(network)
    assert len(depth) == MOST and all_have_a_level(network, depth)


def test_norms_go_with_the_layer_before_and_branches_with_one_another():
    import keras

    x = image = keras.Input((8, 8, 4))
    for place in range(2):
        across = keras.layers.Conv2D(4, 1, name=f"across_{place}")(x)
        x = keras.layers.Conv2D(4, 3, padding="same", name=f"conv_{place}")(x)
        x = keras.layers.Add()([keras.layers.BatchNormalization(name=f"norm_{place}")(x), across])
    model = keras.Model(image, x)
    depth = depth_of(model)
    levels = {v.path.split("/")[0]: depth.of(v) for v in model.variables}
    assert len(depth) == 2
    assert [levels[f"{name}_0"] for name in ("conv", "norm", "across")] == [2, 2, 2]
    assert [levels[f"{name}_1"] for name in ("conv", "norm", "across")] == [1, 1, 1]


def test_a_layer_that_is_used_twice_lies_where_it_is_used_first():
    import keras

    shared = keras.layers.Dense(4, name="shared")
    x = inputs = keras.Input((4,))
    x = keras.layers.Dense(4, name="between")(shared(x))
    depth = depth_of(keras.Model(inputs, shared(x)))
    assert depth.of(shared.kernel) == 2
