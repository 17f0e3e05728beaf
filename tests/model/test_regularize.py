from __future__ import annotations

import functools

import numpy as np
import pytest

from kerasft import testing
from kerasft.errors import UserError
from kerasft.model import regularize, tiny
from kerasft.model.assemble import assemble
from kerasft.model.heads import pooled
from kerasft.tasks.classification import Classification
from kerasft.training.stages import Stage, select


@functools.cache
def backbone(family: str):
    return tiny.text(family) if family in tiny.TEXT else tiny.image(family, image_size=16)


def model_of(family: str):
    model = assemble(backbone(family), lambda features: pooled.mlp(features, units=2, width=8))
    select(model, Stage("all"), pretrained=False)  # earlier tests have frozen the backbone
    for variable in model.trainable_variables:
        variable.regularizer = None
    return model


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


@pytest.mark.slow
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
    with pytest.raises(UserError, match=r"dropout\.rate must lie between 0 and 0\.99"):
        regularize.dropout(model_of("vgg"), rate=1.0)
    with pytest.raises(UserError, match=r"stochastic_depth\.rate must lie above 0 and below 1"):
        regularize.stochastic_depth(model_of("vgg"), rate=0.0)
    with pytest.raises(UserError, match=r"l2\.strength must lie between"):
        regularize.l2(model_of("vgg"), strength=-1)


def test_l1_is_the_sum_of_kernels_alone_and_goes_with_l2():
    model = model_of("vgg")
    kernels = [v.numpy().astype(float) for v in model.weights if v.path.endswith("kernel")]
    made = regularize.l1(model, strength=0.25)
    wanted = 0.25 * sum(np.abs(k).sum() for k in kernels)
    assert float(sum(made.losses)) == pytest.approx(wanted, rel=1e-5)
    regularize.l2(model, strength=0.5)
    wanted += 0.5 * sum((k**2).sum() for k in kernels)
    assert float(sum(made.losses)) == pytest.approx(wanted, rel=1e-5)


def moved_by(model, distance: float) -> tuple[float, float]:
    """Move all weights, and return how many there are of the backbone, and the head's squares."""
    of_head = {id(v) for layer in model.head_layers for v in layer.variables}
    count, squares = 0, 0.0
    for variable in model.trainable_variables:
        if id(variable) not in of_head:
            count += int(np.prod(variable.shape)) * ("embedding" not in variable.path)
            variable.assign(variable + distance)
        elif len(variable.shape) > 1:
            squares += float((variable.numpy().astype(float) ** 2).sum())
    return count, squares


@pytest.mark.every(2)
@pytest.mark.parametrize("family", ["bert", "vgg"])
def test_l2_sp_is_the_distance_from_where_training_began(family):
    model = regularize.l2_sp(model_of(family), strength=0.5, head=0.25)
    try:
        _, squares = moved_by(model, 0.0)
        assert float(sum(model.losses)) == pytest.approx(0.25 * squares, rel=1e-5)
        count, _ = moved_by(model, 0.125)
        wanted = 0.5 * count * 0.125**2 + 0.25 * squares
        assert float(sum(model.losses)) == pytest.approx(wanted, rel=1e-5)
    finally:
        moved_by(model, -0.125)  # the backbone is that of other tests, too


def test_l2_sp_gives_no_gradient_to_what_is_frozen_and_leaves_variables_alone():
    from kerasft.training.stages import Stage, select

    model = model_of("vgg")
    before = [v.path for v in model.variables]
    regularize.l2_sp(model, strength=0.5, head=0.0)
    # Where it began is no variable: no checkpoint holds it.
    assert [v.path for v in model.variables] == before
    moved_by(model, 0.125)
    assert float(sum(model.losses)) > 1
    select(model, Stage("head"), pretrained=True)
    assert float(sum(model.losses)) == 0
    moved_by(model, -0.125)


def test_l2_sp_of_an_adapted_kernel_is_the_size_of_its_update():
    from kerasft.model.adapters import lora

    model = regularize.l2_sp(model_of("bert"), strength=0.5, head=0.0)
    regularize.l2(model, strength=0.25)
    lora(model, rank=2, alpha=6.0, targets=["query$", "intermediate_dense$"])
    from kerasft.model.adapting.low_rank import delta, kernel_of
    from kerasft.training.stages import Stage, select

    # All other weights rest.
    select(model, Stage(["lora_[ab]$"]), pretrained=True)
    size = decay = 0.0
    for layer in model.adaptation.layers:
        layer.lora_b.assign(np.random.default_rng(0).normal(size=layer.lora_b.shape))
        size += float((delta(layer).astype(float) ** 2).sum())
        decay += sum(float((v.numpy().astype(float) ** 2).sum())
                     for v in (layer.lora_a, layer.lora_b))  # fmt: skip
        assert kernel_of(layer).regularizer is None
    assert len(model.adaptation.layers) == 4
    wanted = 0.5 * size + 0.25 * decay
    assert float(sum(model.losses)) == pytest.approx(wanted, rel=1e-4)


def fresh(family: str):
    made = tiny.text(family) if family in tiny.TEXT else tiny.image(family, image_size=16)
    return assemble(made, lambda features: pooled.linear(features, units=2)), made


@pytest.mark.every(4)
@pytest.mark.parametrize("family", ["bert", "distilbert", "gpt2"])
def test_noise_on_embeddings_is_of_the_size_that_the_length_of_each_text_gives(family):
    import keras

    keras.utils.set_random_seed(0)  # few numbers are drawn, whose deviation varies
    model, made = fresh(family)
    inputs = made.preprocess(["a", "a good film, and a long one, too"])
    mask = np.asarray(inputs["padding_mask"], bool)
    assert not mask[0].all()
    regularize.embedding_noise(model, alpha=8.0)
    (layer,) = [one for one in model._flatten_layers() if hasattr(one, "embedding_noise")]
    assert layer.name == "token_embedding"
    seen = []
    plain = layer(inputs["token_ids"]).numpy()
    own = layer.call
    object.__setattr__(layer, "call", lambda *args, **kw: seen.append(own(*args, **kw)) or seen[-1])
    model(inputs, training=True)
    model(inputs, training=False)
    noisy, still = (one.numpy() for one in seen)
    np.testing.assert_array_equal(still, plain)
    for row, there in enumerate(mask):
        noise = (noisy - plain)[row]
        most = 8.0 / np.sqrt(there.sum() * plain.shape[-1])
        assert not noise[~there].any(), "padding"
        assert np.abs(noise).max() <= most * 1.00001
        assert noise[there].std() == pytest.approx(most / np.sqrt(3), rel=0.1), "uniform"
    assert isinstance(layer, keras.layers.Embedding)


@pytest.mark.slow
def test_noise_on_embeddings_behind_a_cut_of_the_graph_knows_what_is_padding():
    from kerasft.training import frozen
    from kerasft.training.stages import Stage, select

    model, made = fresh("bert")
    regularize.embedding_noise(model, alpha=8.0)
    # The embedding of segments rests, and with it lies below all that trains.
    select(model, Stage(["token_embedding", "transformer", "head"]), pretrained=True)
    cut = frozen.cut(model)
    assert cut is not None
    noises = model.around.__self__
    inputs = made.preprocess(["a", "a good film"])
    for entry, given in ((cut, inputs), (cut.suffix, cut.prefix(inputs))):
        seen, draw = [], noises._draw
        noises._draw = lambda *given, draw=draw, seen=seen: seen.append(noises.mask) or draw(*given)
        with model.entered(entry):
            model(given, training=True)
        noises._draw = draw
        np.testing.assert_array_equal(seen[0], inputs["padding_mask"])


def test_frozen_embeddings_with_noise_are_not_kept_where_the_backbone_trains():
    from kerasft.training import frozen
    from kerasft.training.stages import Stage, select

    model, _ = fresh("bert")
    select(model, Stage(["transformer_layer_1/", "^head_"]), pretrained=True)
    below = frozen.cut(model).layers
    assert "token_embedding" in below
    regularize.embedding_noise(model)
    cut = frozen.cut(model)
    assert cut is None or "token_embedding" not in cut.layers
    select(model, Stage("head"), pretrained=True)
    assert "token_embedding" in frozen.cut(model).layers


def test_noise_is_for_texts():
    with pytest.raises(UserError, match=r"embedding_noise found no layer .* it is for texts"):
        regularize.embedding_noise(model_of("vgg"))


@pytest.mark.every(4)
@pytest.mark.parametrize("fn", [
    regularize.l2, regularize.dropout, regularize.l1, regularize.l2_sp, regularize.embedding_noise,
    regularize.stochastic_depth,
    functools.partial(regularize.r_drop, task=Classification()),
])  # fmt: skip
def test_the_contract(fn):
    testing.check_regularizer(fn)
