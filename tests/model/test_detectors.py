"""The networks of KerasHub's detectors as backbones."""

import keras
import numpy as np
import pytest
from tiny_detectors import d_fine, retina

from kerasft.errors import UserError
from kerasft.model.assemble import assemble, features_of
from kerasft.model.backbones import preset
from kerasft.model.heads.detection import anchor_free, retinanet
from kerasft.model.vision.detectors import without_head
from kerasft.model.vision.maps import maps_of
from kerasft.tasks.anchored import focal_loss


def pixels(*size):
    return np.random.default_rng(0).integers(0, 255, (2, *size, 3)).astype("uint8")


@pytest.mark.every(2)
@pytest.mark.parametrize(("settings", "size"), [
    ({}, (128, 192)), ({"norm": True, "from_encoder": True}, (128, 128)),
])  # fmt: skip
def test_a_retinanets_maps_are_those_that_it_was_trained_with(settings, size, tmp_path):
    network = retina(**settings)
    network.save_to_preset(str(tmp_path / "preset"))
    backbone = preset(str(tmp_path / "preset"), image_size=list(size))
    features = features_of(backbone)
    assert features.fused
    # Of oblong images, KerasHub says another shape of the coarsest maps than they have.
    assert {level: tuple(x.shape[1:3]) for level, x in features.maps.items()} == {
        level: tuple(-(-side // 2**level) for side in size) for level in (3, 4, 5, 6, 7)
    }
    seen = pixels(*size)
    mine, theirs = backbone.network(seen), network(seen.astype("float32"))
    for name, value in theirs.items():
        np.testing.assert_allclose(mine[name], value, atol=1e-4)
    norms = [layer for layer in backbone.network.layers if "_norm_P" in layer.name]
    assert bool(norms) == bool(settings.get("norm"))
    assert all(layer.momentum == 0.99 for layer in norms)


def learned_and_loaded(model, size, tmp_path):
    """Take a step, write the model and read it again."""
    model.compile(keras.optimizers.SGD(1e-3), loss=focal_loss)
    y = np.array([[[10, 8, 40, 44, 1, 0]]] * 2, "float32")
    before = model.get_weights()
    assert np.isfinite(model.train_on_batch(pixels(*size), y))
    moved = sum((a != b).any() for a, b in zip(before, model.get_weights(), strict=True))
    assert moved > 0.8 * len(model.trainable_variables)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras", compile=False, safe_mode=True)
    np.testing.assert_allclose(again(pixels(*size)), model(pixels(*size)), atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("head", [retinanet, anchor_free])
def test_a_retinanet_preset_is_trained_at_any_size(head, tmp_path):
    retina().save_to_preset(str(tmp_path / "preset"))
    size = (72, 100)  # no whole number of strides
    backbone = preset(str(tmp_path / "preset"), image_size=list(size))
    model = assemble(backbone, lambda features: head(features, classes=2, width=16, depth=1))
    names = [layer.name for layer in model.head_layers]
    # The pyramid is the preset's own.
    assert ("head_lateral_3" in names) == (head is anchor_free)
    learned_and_loaded(model, size, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("head", [retinanet, anchor_free])
def test_a_d_fine_preset_is_trained_without_its_decoder(head, tmp_path):
    network = d_fine()
    network.save_to_preset(str(tmp_path / "preset"))
    size = (64, 96)
    backbone = preset(str(tmp_path / "preset"), image_size=list(size))
    maps = features_of(backbone).maps
    assert {level: tuple(x.shape[1:3]) for level, x in maps.items()} == {4: (4, 6), 5: (2, 3)}
    known = {id(layer) for layer in network.layers if "decoder" in layer.name}
    assert not known & {id(layer) for layer in backbone.network.layers}
    model = assemble(
        backbone, lambda features: head(features, classes=2, width=16, depth=1, finest=4)
    )
    learned_and_loaded(model, size, tmp_path)
    with pytest.raises(UserError, match=r"multiples of 32 for a D-FINE\. Received: 72x100"):
        preset(str(tmp_path / "preset"), image_size=[72, 100])


def test_the_smallest_maps_are_told_apart_by_their_names():
    network = retina()
    images = keras.Input((64, 64, 3))
    made = without_head(network, (64, 64))
    maps = maps_of(made)
    assert [tuple(maps[level].shape[1:3]) for level in (5, 6, 7)] == [(2, 2), (1, 1), (1, 1)]
    assert maps[6] is made.output["P6"] and maps[7] is made.output["P7"]
    other = keras.Model(images, images)
    assert without_head(other, (64, 64)) is other
