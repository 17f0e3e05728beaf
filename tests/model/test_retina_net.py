"""The head of a RetinaNet preset, as the start of a new one."""

import random
from functools import partial

import keras
import numpy as np
import pytest
from tiny_detectors import retina_detector

from kerasft.errors import UserError
from kerasft.model import tiny
from kerasft.model.assemble import assemble
from kerasft.model.backbones import preset
from kerasft.model.heads.detection import retinanet

SIDE = 128


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A detector's preset, and the detector."""
    detector = retina_detector(coarsest=6)
    folder = str(tmp_path_factory.mktemp("retina") / "preset")
    detector.save_to_preset(folder)
    return folder, detector


def model_of(folder, *, pretrained=True, **settings):
    backbone = preset(folder, image_size=SIDE, pretrained=pretrained)
    how = {"classes": 3, "depth": 1, "coarsest": 6, **settings}
    return assemble(backbone, lambda features: retinanet(features, **how))


def notice_of(model):
    return model.get_layer("head_outputs").notice


def require_equal_computing(model, detector):
    """Check that a head computes what KerasHub's does on the same maps, but for the classes."""
    pixels = np.random.default_rng(0).integers(0, 255, (2, SIDE, SIDE, 3)).astype("uint8")
    theirs = {key: value.numpy() for key, value in detector(pixels.astype("float32")).items()}
    last = model.get_layer("head_classes")
    classes = detector.classification_head.prediction_layer
    assert np.abs(last.kernel - classes.kernel).max() > 0 and last.bias.numpy().max() < -4
    last.set_weights(classes.get_weights())  # to compare all that stands before it
    inside = keras.Model(model.input, model.get_layer("head_outputs").input)
    mine = inside(pixels).numpy()
    assert theirs["cls_logits"].std() > 0.1 and theirs["bbox_regression"].std() > 0.1
    np.testing.assert_allclose(mine[..., 4:], theirs["cls_logits"], atol=1e-4)
    np.testing.assert_allclose(mine[..., 2:4], theirs["bbox_regression"][..., 2:], atol=1e-4)
    # KerasHub's anchors stand in the corners of their places, and ours in the middle.
    ours = model.get_layer("head_outputs").anchors
    others = np.concatenate([value.numpy() for value in detector.anchor_generator(pixels).values()])
    half = (ours[:, :2] + ours[:, 2:] - others[:, [1, 0]] - others[:, [3, 2]]) / 2
    assert np.unique(half).tolist() == [4, 8, 16, 32]
    moved = half / (ours[:, 2:] - ours[:, :2])
    np.testing.assert_allclose(mine[..., :2] + moved, theirs["bbox_regression"][..., :2], atol=1e-4)


def test_it_computes_what_kerashub_does_before_the_classes(saved):
    folder, detector = saved
    state = random.getstate()
    model = model_of(folder)
    assert notice_of(model) == ("the preset's subnets with their weights, boxes included; "
                                "the layer that tells classes apart is new")  # fmt: skip
    drawn = model.get_layer("head_classes").get_weights()
    require_equal_computing(model, detector)
    # What is new is drawn as in a head that is new.
    random.setstate(state)
    other = model_of(folder, weights="none")
    assert notice_of(other) == ""
    assert other.get_layer("head_class_0_norm").gamma.shape == (256,)
    for mine, theirs in zip(drawn, other.get_layer("head_classes").get_weights(), strict=True):
        np.testing.assert_array_equal(mine, theirs)


@pytest.mark.slow
def test_normalized_subnets_compute_what_kerashub_does(tmp_path):
    detector = retina_detector(norm=True, depth=2, coarsest=6)
    detector.save_to_preset(str(tmp_path / "preset"))
    model = model_of(str(tmp_path / "preset"), depth=2)
    assert model.get_layer("head_box_1_norm").groups == 32
    require_equal_computing(model, detector)
    model = model_of(str(tmp_path / "preset"), depth=2, norm="none")
    assert notice_of(model) == "the subnets are new: head.norm=none is not the preset's group"


@pytest.mark.slow
def test_what_does_not_fit_is_new_and_told(saved):
    folder, detector = saved
    model = model_of(folder, width=64)
    assert notice_of(model) == "the subnets are new: head.width=64 is not the preset's 256"
    model = model_of(folder, depth=2, norm="group")
    assert notice_of(model).endswith(
        "head.depth=2 is not the preset's 1 and head.norm=group is not the preset's none"
    )
    with pytest.raises(UserError, match=r"weights=preset .* and head\.width=64 is not"):
        model_of(folder, width=64, weights="preset")
    # Boxes on other anchors are none that the layer has learned.
    model = model_of(folder, anchor_size=2.0, weights="preset")
    assert "the layers that place boxes and tell classes apart are new (head.anchor_size=2.0 is" \
        in notice_of(model)
    np.testing.assert_array_equal(
        model.get_layer("head_box_0").kernel, detector.box_head.conv_layers[0].kernel)
    assert not model.get_layer("head_boxes").bias.numpy().any()


@pytest.mark.slow
def test_from_random_weights_it_has_the_shape_of_the_preset_alone(saved):
    folder, detector = saved
    model = model_of(folder, pretrained=False, weights="preset")
    kernel = model.get_layer("head_box_0").kernel
    assert kernel.shape == detector.box_head.conv_layers[0].kernel.shape
    assert np.abs(kernel).max() < 0.1
    assert "head_box_0_norm" not in {layer.name for layer in model.layers}


def test_weights_of_no_preset_are_refused():
    head = partial(retinanet, classes=2, width=8, depth=1, coarsest=4, finest=3)
    backbone = tiny.image("resnet", image_size=32)
    with pytest.raises(UserError, match=r"head of a RetinaNet preset, and the backbone is none"):
        assemble(backbone, lambda features: head(features, weights="preset"))
