"""The feature maps that heads for boxes and masks take."""

import keras
import numpy as np
import pytest

from kerasft.errors import UserError
from kerasft.model import tiny
from kerasft.model.assemble import assemble, features_of
from kerasft.model.heads import pooled
from kerasft.model.heads.detection import anchor_free
from kerasft.model.vision.maps import maps_of


def network_of(name, size, **settings):
    return getattr(keras.applications, name)(
        weights=None, include_top=False, input_shape=(*size, 3), **settings
    )


# The layers that papers on detectors take of these networks.
KNOWN = {
    "MobileNet": {3: "conv_pw_5_relu", 4: "conv_pw_11_relu", 5: "conv_pw_13_relu"},
    "ResNet50": {2: "conv2_block3_out", 3: "conv3_block4_out", 4: "conv4_block6_out",
                 5: "conv5_block3_out"},
    "InceptionV3": {4: "mixed7", 5: "mixed10"},
}  # fmt: skip


@pytest.mark.every(9)
@pytest.mark.parametrize("name", KNOWN)
def test_maps_are_the_ends_of_stages(name):
    network = network_of(name, (256, 320))
    maps = maps_of(network)
    for level, layer in KNOWN[name].items():
        assert maps[level] is network.get_layer(layer).output, level


@pytest.mark.every(3)
@pytest.mark.parametrize("family", ["resnet", "mobilenet", "efficientnet", "densenet", "vgg"])
def test_networks_of_every_family_have_maps(family):
    maps = features_of(tiny.image(family, image_size=64)).maps
    assert len(maps) >= 2
    for level, tensor in maps.items():
        assert all(round(64 / side) == 2**level for side in tensor.shape[1:3])


@pytest.mark.slow
def test_sides_that_are_no_whole_number_of_strides():
    backbone = tiny.image("mobilenet", image_size=[72, 100])
    model = assemble(backbone, lambda features: anchor_free(features, classes=2, width=8))
    found = model(np.zeros((1, 72, 100, 3), "uint8"))
    places = sum(-(-72 // s) * -(-100 // s) for s in (8, 16, 32))
    assert found.shape == (1, places, 10)


def test_a_backbone_without_maps_is_told():
    with pytest.raises(UserError, match=r"feature maps 3 to 5.*and the backbone has: none"):
        assemble(tiny.text("bert"), lambda features: anchor_free(features, classes=2))
    with pytest.raises(UserError, match=r"head\.finest and head\.coarsest"):
        assemble(tiny.image("vgg", image_size=32), lambda features: anchor_free(
            features, classes=2, coarsest=9))  # fmt: skip
    with pytest.raises(UserError, match=r"head\.width must be at least 1"):
        assemble(tiny.image("resnet"), lambda features: anchor_free(features, classes=2, width=0))


def test_places_of_a_head():
    """With distances of one stride, each place puts a box of two strides around itself."""
    backbone = tiny.image("mobilenet", image_size=64)
    model = assemble(backbone, lambda features: anchor_free(features, classes=3, width=8, depth=0))
    for layer in model.head_layers:
        if layer.name.startswith("head_boxes"):
            layer.set_weights([np.zeros_like(one) for one in layer.get_weights()])
    (found,) = np.asarray(model(np.zeros((1, 64, 64, 3), "uint8")))
    boxes, cells = found[:, :4], found[:, 4:8]
    points = (cells[:, :2] + cells[:, 2:]) / 2
    np.testing.assert_allclose((boxes[:, :2] + boxes[:, 2:]) / 2, points, atol=1e-4)
    sides = boxes[:, 2] - boxes[:, 0]
    np.testing.assert_allclose(sides, [16.0] * 64 + [32] * 16 + [64] * 4, rtol=1e-5)
    np.testing.assert_allclose(points[:2], [[4, 4], [12, 4]])
    np.testing.assert_allclose(cells[[0, -1]], [[0, 0, 8, 8], [32, 32, 64, 64]])
    # Nearly no place takes anything for an object at first.
    assert (1 / (1 + np.exp(-found[:, 8:])) < 0.02).mean() > 0.9


def test_a_head_on_one_sequence_says_what_is_missing():
    network = network_of("MobileNet", (64, 64))
    several = keras.Model(network.input, {"a": network.layers[20].output, "b": network.output})
    from kerasft.spec import Backbone

    backbone = Backbone(several, tiny.image("resnet").preprocess, "two maps", 1e-3)
    with pytest.raises(UserError, match="two maps has several outputs"):
        assemble(backbone, lambda features: pooled.linear(features, units=2))
