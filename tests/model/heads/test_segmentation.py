"""The head that tells the class of each pixel."""

import keras
import keras_hub
import numpy as np
import pytest

from kerasft.errors import UserError
from kerasft.model import tiny
from kerasft.model.assemble import assemble, features_of
from kerasft.model.backbones import preset
from kerasft.model.heads.segmentation import decoder


def model_of(backbone, **settings):
    return assemble(backbone, lambda features: decoder(features, channels=3, width=8, **settings))


@pytest.mark.every(2)
@pytest.mark.parametrize("size", [[64, 64], [72, 100]])
def test_every_pixel_has_a_logit_for_each_class(size):
    model = model_of(tiny.image("mobilenet", image_size=size))
    assert model.output.dtype == "float32"
    found = model(np.zeros((2, *size, 3), "uint8"))
    assert found.shape == (2, *size, 3)


@pytest.mark.slow
def test_the_maps_that_are_used_can_be_chosen():
    names = {layer.name for layer in model_of(tiny.image("mobilenet", image_size=64)).layers}
    assert {"head_lateral_1", "head_lateral_5"} <= names
    chosen = model_of(tiny.image("mobilenet", image_size=64), finest=2, coarsest=4)
    names = {layer.name for layer in chosen.layers}
    assert {"head_lateral_2", "head_lateral_4"} <= names
    assert not names & {"head_lateral_1", "head_lateral_5"}
    with pytest.raises(UserError, match="feature maps 2 to 9"):
        model_of(tiny.image("mobilenet", image_size=64), finest=2, coarsest=9)
    with pytest.raises(UserError, match=r"head\.width must be at least 1"):
        assemble(tiny.image("mobilenet", image_size=64),
                 lambda features: decoder(features, channels=3, width=0))  # fmt: skip


def test_texts_have_no_maps():
    with pytest.raises(UserError, match="the backbone has: none"):
        model_of(tiny.text("bert"))


def deeplab():
    encoder = keras_hub.models.ResNetBackbone(
        input_conv_filters=[64], input_conv_kernel_sizes=[7], stackwise_num_filters=[64, 8, 8, 8],
        stackwise_num_blocks=[1] * 4, stackwise_num_strides=[1, 2, 2, 2], block_type="basic_block",
        image_shape=(64, 64, 3),
    )  # fmt: skip
    return keras_hub.models.DeepLabV3Backbone(
        image_encoder=encoder, spatial_pyramid_pooling_key="P4", upsampling_size=4,
        dilation_rates=[2, 4, 6], low_level_feature_key="P2", projection_filters=8,
        image_shape=(64, 64, 3),
    )  # fmt: skip


def segformer():
    encoder = keras_hub.models.MiTBackbone(
        layerwise_depths=[1] * 4, num_layers=4, layerwise_num_heads=[1, 1, 2, 2],
        layerwise_sr_ratios=[8, 4, 2, 1], max_drop_path_rate=0.0,
        layerwise_patch_sizes=[7, 3, 3, 3], layerwise_strides=[4, 2, 2, 2],
        image_shape=(64, 64, 3), hidden_dims=[8, 16, 32, 40],
    )  # fmt: skip
    return keras_hub.models.SegFormerBackbone(image_encoder=encoder, projection_filters=24)


@pytest.mark.slow  # each is built three times
@pytest.mark.parametrize(("make", "level"), [(deeplab, 0), (segformer, 2)])
def test_presets_for_segmentation_end_in_the_map_that_counts(make, level, tmp_path):
    make().save_to_preset(str(tmp_path / "preset"))
    backbone = preset(str(tmp_path / "preset"))
    assert features_of(backbone).last == level
    model = model_of(backbone)
    laterals = [layer.name for layer in model.layers if layer.name.startswith("head_lateral")]
    assert {name.split("_")[2] for name in laterals} == {str(level)}
    # What the head sees hangs on all that the network computes.
    before = model.get_layer(f"head_lateral_{level}").input
    assert before is backbone.network.output
    image = np.random.default_rng(0).integers(0, 255, (1, 64, 64, 3)).astype("uint8")
    assert model(image).shape == (1, 64, 64, 3)
    keras.backend.clear_session()
