from __future__ import annotations

import functools

import numpy as np
import pytest

from kerasft import testing
from kerasft.errors import UserError
from kerasft.model import regularize, tiny
from kerasft.model.assemble import assemble
from kerasft.model.heads import pooled


@functools.cache
def backbone(family: str):
    return tiny.text(family) if family in tiny.TEXT else tiny.image(family, image_size=16)


def model_of(family: str):
    return assemble(backbone(family), lambda features: pooled.mlp(features, units=2, width=8))


def test_l2_is_the_sum_of_squares_of_kernels_alone():
    model = model_of("vgg")
    kernels = [v.numpy() for v in model.trainable_variables if v.path.endswith("kernel")]
    assert len(kernels) == 4
    made = regularize.l2(model, strength=0.5)
    wanted = 0.5 * sum((k.astype(float) ** 2).sum() for k in kernels)
    assert float(sum(made.losses)) == pytest.approx(wanted, rel=1e-5)


def test_l2_leaves_embeddings_norms_and_biases_alone():
    model = regularize.l2(model_of("distilbert"))
    for variable in model.variables:
        is_kernel = len(variable.shape) > 1 and "embedding" not in variable.path
        assert (variable.regularizer is not None) == is_kernel, variable.path


def test_l2_gives_no_gradient_to_what_is_frozen():
    from kerasft.training.stages import Stage, select

    model = regularize.l2(model_of("vgg"))
    every = float(sum(model.losses))
    select(model, Stage("head"), pretrained=True)
    assert float(sum(model.losses)) < every


@pytest.mark.every(3)
@pytest.mark.parametrize("family", ["bert", "albert", "llama", "vit"])
def test_dropout_sets_every_rate_of_the_backbone_even_where_there_was_none(family, tmp_path):
    import keras

    model = regularize.dropout(model_of(family), rate=0.5)
    rates = [
        layer.rate
        for layer in model._flatten_layers()
        if isinstance(layer, keras.layers.Dropout) and not layer.name.startswith("head_")
    ]
    assert rates
    assert set(rates) == {0.5}
    assert model.get_layer("head_dropout_0").rate == 0.3
    ready = backbone(family).preprocess
    (raw, *_) = testing.tiny_splits(ready.modality, count=2).train.inputs
    x = ready([raw])
    still = model(x, training=False).numpy()
    assert np.abs(model(x, training=True) - still).max() > 1e-4
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras", compile=False)
    np.testing.assert_array_equal(again(x, training=False), still)


def test_dropout_says_where_there_is_none():
    with pytest.raises(UserError, match="found no dropout layer in the backbone"):
        regularize.dropout(model_of("vgg"))


def test_ranges():
    with pytest.raises(UserError, match=r"dropout\.rate must lie between 0\.0 and 0\.99"):
        regularize.dropout(model_of("vgg"), rate=1.0)
    with pytest.raises(UserError, match=r"l2\.strength must lie between"):
        regularize.l2(model_of("vgg"), strength=-1)


@pytest.mark.parametrize("fn", [regularize.l2, regularize.dropout])
def test_the_contract(fn):
    testing.check_regularizer(fn)
