from __future__ import annotations

import numpy as np
import pytest

from kerasft.errors import UserError
from kerasft.model import tiny
from kerasft.model.assemble import assemble
from kerasft.model.backbones import image_backbone
from kerasft.model.heads import detection, pooled, segmentation
from kerasft.model.preprocess import ImagePreprocess
from kerasft.model.resized import Resized, resized
from kerasft.training import frozen
from kerasft.training.stages import Stage, select


def classifier(family, size):
    return assemble(tiny.image(family, image_size=size), lambda f: pooled.linear(f, units=3))


def finder(size):
    return assemble(
        tiny.image("resnet", image_size=size),
        lambda f: detection.anchor_free(f, classes=2, width=8, depth=1, finest=2, coarsest=3),
    )


def anchored(size):
    return assemble(
        tiny.image("resnet", image_size=size),
        lambda f: detection.retinanet(f, classes=2, width=8, depth=1, finest=2, coarsest=4),
    )


def decoder(size):
    return assemble(
        tiny.image("resnet", image_size=size),
        lambda f: segmentation.decoder(f, channels=3, width=8),
    )


def images(*size):
    return np.random.default_rng(1).integers(0, 256, (2, *size, 3)).astype("uint8")


@pytest.mark.every(4)
@pytest.mark.parametrize(("make", "size"), [
    (lambda size: classifier("resnet", size), (20, 27)), (finder, (24, 32)), (anchored, (24, 40)),
    (decoder, (18, 25)),
], ids=["classes", "boxes", "anchors", "masks"])  # fmt: skip
def test_the_same_weights_answer_as_a_model_of_that_size_does(make, size):
    model, twin = make(32), make(list(size))
    before = [value.numpy() for value in model.weights]
    found = resized(model, twin, name="small")
    assert {id(v) for v in found.variables} == {id(v) for v in model.variables}
    for value, old in zip(model.weights, before, strict=True):
        np.testing.assert_array_equal(value, old)
    seen = images(*size)
    np.testing.assert_allclose(found(seen, training=False), twin(seen, training=False), rtol=1e-5)
    # What the model learns, the graph knows.
    model.weights[0].assign(model.weights[0] + 1.0)
    assert not np.allclose(found(seen, training=False), twin(seen, training=False))


@pytest.mark.slow
def test_a_model_is_trained_through_the_graph_and_saved_as_ever(tmp_path):
    import keras

    model = classifier("resnet", 32)
    found = resized(model, classifier("resnet", 16), name="small")
    select(model, Stage("head"), pretrained=True)
    cut = frozen.cut(found)
    assert cut is not None and cut.layers == frozen.cut(model).layers
    model.compile("sgd", keras.losses.CategoricalCrossentropy(from_logits=True))
    before = model.get_weights()
    with model.entered(found):
        model.train_on_batch(images(16, 16), np.eye(3, dtype="float32")[:2])
    moved = [not np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True)]
    assert 1 <= sum(moved) <= 3  # the head's kernel and bias, the seed of its dropout
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    seen = images(32, 32)
    np.testing.assert_allclose(again(seen), model(seen), rtol=1e-5)


def test_a_model_within_the_network_is_followed():
    import keras

    def nested(side):
        image = keras.Input((side, side, 3))
        inner = keras.Sequential([keras.layers.Conv2D(4, 3, strides=2), keras.layers.ReLU()])
        network = keras.Model(image, keras.layers.Conv2D(4, 3)(inner(image)))
        backbone = image_backbone(
            network, ImagePreprocess(side, side), name="nested", pretrained=False
        )
        return assemble(backbone, lambda f: pooled.linear(f, units=2))

    model, twin = nested(32), nested(20)
    found = resized(model, twin, name="nested")
    assert {id(v) for v in found.variables} == {id(v) for v in model.variables}
    assert not any(isinstance(layer, keras.Sequential) for layer in found.layers)


def test_weights_that_depend_on_the_size_are_refused():
    with pytest.raises(UserError, match=(
        r"tiny vit cannot be trained on images of both 16x16 and 32x32 pixels: the shape of the "
        r"weight .* depends on the size .*learned positions"
    )):  # fmt: skip
        resized(classifier("vit", 32), classifier("vit", 16), name="tiny vit")


def made_of(side, layers):
    import keras

    image = keras.Input((side, side, 3))
    network = keras.Model(image, layers(image))
    backbone = image_backbone(network, ImagePreprocess(side, side), name="own", pretrained=False)
    return assemble(backbone, lambda f: pooled.linear(f, units=2))


def test_other_connections_are_refused():
    import keras

    def layers(x):
        first = keras.layers.Conv2D(4, 3, padding="same")(x)
        second = keras.layers.Conv2D(4, 3, padding="same")(first)
        return keras.layers.Add()([first, second] if x.shape[1] > 16 else [second, second])

    with pytest.raises(UserError, match=r"their layers are connected differently\. Choose sizes"):
        resized(made_of(32, layers), made_of(16, layers), name="own")


def test_a_layer_that_notes_its_size_is_refused():
    import keras

    class Scaled(keras.layers.Dense):
        def build(self, shape):
            super().build(shape)
            self.places = shape[1] * shape[2]

        def call(self, inputs):
            return super().call(inputs) * self.places

    with pytest.raises(UserError, match="a layer with weights was made for one size alone"):
        resized(
            made_of(32, lambda x: Scaled(4)(x)), made_of(16, lambda x: Scaled(4)(x)), name="own"
        )


def test_its_head_is_that_of_the_model():
    model = finder(32)
    found = resized(model, finder(24), name="small")
    assert isinstance(found, Resized)
    names = [layer.name for layer in found.head_layers]
    assert names == [layer.name for layer in model.head_layers]
