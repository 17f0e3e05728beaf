"""Anchors, and the boxes that are made of them."""

import keras
import numpy as np
import pytest

from kerasft.errors import UserError
from kerasft.model import tiny
from kerasft.model.assemble import assemble
from kerasft.model.heads.detection import retinanet
from kerasft.model.heads.pyramid import pyramid
from kerasft.model.vision import boxes as geometry
from kerasft.model.vision.anchors import Anchors, anchors_of
from kerasft.spec import Features


def sides(anchors):
    return anchors[:, 2:] - anchors[:, :2]


def test_anchors_have_the_papers_sizes_and_shapes():
    anchors = anchors_of((64, 128), [(8, 16), (4, 8)])
    assert anchors.shape == ((8 * 16 + 4 * 8) * 9, 4)
    middles = (anchors[:, :2] + anchors[:, 2:]) / 2
    np.testing.assert_allclose(middles[[0, 9, -1]], [[4, 4], [12, 4], [120, 56]], atol=1e-4)
    first = sides(anchors[:9])
    np.testing.assert_allclose(np.sqrt(first.prod(-1)), [32, 40.3, 50.8] * 3, atol=0.1)
    np.testing.assert_allclose(first[:, 1] / first[:, 0], np.repeat([0.5, 1, 2], 3), rtol=1e-5)
    np.testing.assert_allclose(sides(anchors[-9:]), 2 * first, rtol=1e-5)


def test_boxes_are_reckoned_as_keras_does():
    random = np.random.default_rng(0)
    layer = Anchors((64, 64), [(8, 8), (4, 4)], 2.0, 2, [1.0])
    count = len(layer.anchors)
    said = random.normal(size=(1, count, 4 + 3)).astype("float32")
    found = layer(said)
    assert found.shape == layer.compute_output_shape(said.shape) == (1, count, 11)
    theirs = keras.utils.bounding_boxes.decode_deltas_to_boxes(
        anchors=layer.anchors, boxes_delta=said[..., :4], encoded_format="center_xywh",
        anchor_format="xyxy", box_format="xyxy", image_shape=(64, 64, 3),
    )  # fmt: skip
    np.testing.assert_allclose(found[..., :4], theirs, rtol=1e-4, atol=1e-3)
    np.testing.assert_array_equal(found[0, :, 4:8], layer.anchors)
    np.testing.assert_array_equal(found[..., 8:], said[..., 4:])
    np.testing.assert_allclose(
        geometry.encoded(found[..., :4], found[..., 4:8]), said[..., :4], rtol=1e-3, atol=1e-4
    )


def test_what_a_head_says_beyond_all_bounds_stays_a_box():
    layer = Anchors((8, 8), [(1, 1)], 1.0, 1, [1.0])
    for far in (-100.0, 100.0):
        found = layer(np.full((1, 1, 5), far, "float32"))
        assert (sides(found[0].numpy()[:, :4]) > 0.1).all()
        again = geometry.encoded(found[..., :4], found[..., 4:8]).numpy()
        np.testing.assert_allclose(again[0, 0, 2:], np.sign(far) * layer.FARTHEST, rtol=1e-3)


def test_a_new_head_takes_nothing_for_an_object_and_stands_on_its_anchors():
    backbone = tiny.image("mobilenet", image_size=[72, 100])
    model = assemble(backbone, lambda features: retinanet(features, classes=4, width=16, depth=1))
    random = np.random.default_rng(0)
    found = model(random.integers(0, 255, (1, 72, 100, 3)).astype("uint8")).numpy()[0]
    places = sum(-(-72 // s) * -(-100 // s) for s in (8, 16, 32, 64, 128))
    assert found.shape == (9 * places, 12)
    np.testing.assert_allclose(found[:, 8:], np.log(0.01 / 0.99), atol=0.05)
    np.testing.assert_allclose(found[:, :4], found[:, 4:8], atol=2.0)
    parts = {layer.name: layer for layer in model.head_layers}
    assert not parts["head_boxes"].bias.numpy().any()
    np.testing.assert_allclose(parts["head_classes"].bias.numpy(), np.log(0.01 / 0.99), rtol=1e-5)
    for name in ("head_box_0", "head_class_0", "head_boxes", "head_classes"):
        assert parts[name].kernel.numpy().std() == pytest.approx(0.01, rel=0.1), name


def test_maps_coarser_than_the_networks_are_made():
    maps = {level: keras.Input((128 >> level, 128 >> level, 6)) for level in (2, 3, 4, 5)}
    made = pyramid(Features(None, maps=maps, size=(128, 128)), 8, 3, 7)
    assert {level: tuple(x.shape[1:]) for level, x in made.items()} == {
        level: (128 >> level, 128 >> level, 8) for level in (3, 4, 5, 6, 7)
    }
    # A pyramid is taken as it is.
    fused = Features(None, maps=maps, size=(128, 128), fused=True)
    made = pyramid(fused, 8, 3, 7)
    assert all(made[level] is maps[level] for level in (3, 4, 5))
    assert {one.shape[-1] for one in made.values()} == {maps[5].shape[-1]}


@pytest.mark.every(4)
@pytest.mark.parametrize(("setting", "said"), [
    ({"width": 0}, r"head\.width must be at least 1"),
    ({"anchor_size": 0.0}, r"head\.anchor_size must be above 0.*anchor_size=0\.0"),
    ({"ratios": []}, r"ratios=\[\]"),
    ({"finest": 6}, r"feature maps 6 to 7.*the backbone has: 1, 2, 3, 4, 5"),
])  # fmt: skip
def test_settings_out_of_range_are_told(setting, said):
    with pytest.raises(UserError, match=said):
        assemble(tiny.image("mobilenet", image_size=64),
                 lambda features: retinanet(features, classes=2, **setting))  # fmt: skip
