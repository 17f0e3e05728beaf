from __future__ import annotations

import functools

import numpy as np
import pytest

from kerasft import testing
from kerasft.errors import UserError
from kerasft.model.assemble import assemble
from kerasft.model.heads import pooled
from kerasft.spec import Backbone, Features

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(3, 5, 4)).astype("float32")
MASK = np.array([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0], [1, 0, 0, 0, 0]], "int32")


@pytest.fixture
def half():
    import keras

    keras.config.set_dtype_policy("mixed_bfloat16")
    yield
    keras.config.set_dtype_policy("float32")


def run(make, *, mask=MASK, summary=False, causal=False):
    """Return what `make` computes of `X`, and the model that it is in."""
    import keras

    sequence = keras.Input((5, 4))
    places = None if mask is None else keras.Input((5,), dtype="int32")
    output = make(Features(sequence, places, summary=summary, causal=causal))
    model = keras.Model([sequence] if mask is None else [sequence, places], output)
    inputs = [X] if mask is None else [X, mask]
    return model(inputs, training=False).numpy(), model


def expected(pooling: str, mask: np.ndarray) -> np.ndarray:
    rows = []
    for x, keep in zip(X, mask.astype(bool), strict=True):
        kept = x[keep]
        ways = {
            "avg": kept.mean(0), "max": kept.max(0), "cls": x[0], "last": kept[-1],
            "attention": kept.mean(0),  # before it has learned anything, all count alike
            "concat": np.concatenate([kept.mean(0), kept.max(0)]),
        }  # fmt: skip
        rows.append(ways[pooling])
    return np.stack(rows)


@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("pooling", ["avg", "max", "cls", "last", "attention", "concat"])
def test_pooling_equals_numpy(pooling, masked):
    got, _ = run(lambda f: pooled.pool(f, pooling), mask=MASK if masked else None, summary=True)
    np.testing.assert_allclose(
        got, expected(pooling, MASK if masked else np.ones_like(MASK)), rtol=1e-5, atol=1e-6
    )


def test_attention_weighs_positions_by_a_learned_query():
    _, model = run(lambda f: pooled.pool(f, "attention"))
    query = np.array([[0.5], [-1.0], [2.0], [0.1]], "float32")
    model.layers[-1].query.assign(query)
    got = model([X, MASK]).numpy()
    for row, x, keep in zip(got, X, MASK.astype(bool), strict=True):
        scores = np.exp(x[keep] @ query)
        np.testing.assert_allclose(row, (scores / scores.sum() * x[keep]).sum(0), rtol=1e-5)


def test_auto_takes_the_last_token_of_causal_networks_and_else_the_average():
    for causal, same in ((True, "last"), (False, "avg")):
        got, _ = run(pooled.pool, causal=causal)
        np.testing.assert_allclose(got, expected(same, MASK), rtol=1e-5, atol=1e-6)


def test_cls_is_refused_without_a_summary_token():
    with pytest.raises(UserError, match="needs a backbone whose first position is a summary"):
        run(lambda f: pooled.linear(f, units=2, pooling="cls"))


def test_mlp_has_the_depth_width_and_norm_that_it_was_asked_for():
    for norm, kind in (("layer", "LayerNormalization"), ("batch", "BatchNormalization")):
        _, model = run(lambda f, n=norm: pooled.mlp(f, units=2, depth=3, width=6, norm=n))
        kinds = [type(layer).__name__ for layer in model.layers]
        assert kinds.count(kind) == 3
        assert [model.get_layer(f"head_dense_{i}").units for i in range(3)] == [6, 6, 6]
        assert kinds.count("Dropout") == 3
    _, model = run(lambda f: pooled.mlp(f, units=2, norm="none", dropout=0.0))
    assert {type(layer).__name__ for layer in model.layers} == {"InputLayer", "Pooling", "Dense"}


def test_mlp_refuses_what_makes_no_sense():
    with pytest.raises(UserError, match=r"head\.depth must be at least 1.*choose head=linear"):
        run(lambda f: pooled.mlp(f, units=2, depth=0))
    with pytest.raises(UserError, match="norm must be one of none, layer, batch"):
        run(lambda f: pooled.mlp(f, units=2, norm="group"))


@pytest.mark.parametrize("pooling", ["avg", "max", "last", "attention", "concat"])
def test_logits_are_float32_in_half_precision(half, pooling):
    got, model = run(lambda f: pooled.mlp(f, units=2, pooling=pooling))
    assert got.dtype == np.float32
    assert model.get_layer("head_dense_0").compute_dtype == "bfloat16"


HEADS = {
    **{f"linear {p}": functools.partial(pooled.linear, pooling=p)
       for p in ("auto", "avg", "max", "last", "attention", "concat")},
    "mlp": pooled.mlp,
    "deep mlp": functools.partial(pooled.mlp, depth=2, width=4, norm="batch", pooling="attention"),
}  # fmt: skip


@pytest.mark.every(3)
@pytest.mark.parametrize("name", HEADS)
def test_every_head_keeps_the_contract(name):
    import keras

    testing.check_head(HEADS[name])
    outputs = HEADS[name](Features(keras.Input((None, 8))), units=3)
    assert tuple(outputs.shape) == (None, 3)


@pytest.mark.parametrize("shape", [(4, 4, 6), (7, 6), (6,)])
def test_any_form_of_features_gets_a_head(shape):
    import keras

    image = keras.Input((4, 4, 6))
    network = keras.Model(image, {
        3: keras.layers.Conv2D(6, 1), 2: lambda x: keras.layers.Reshape((16, 6))(x)[:, :7],
        1: keras.layers.GlobalAveragePooling2D(),
    }[len(shape)](image))  # fmt: skip
    backbone = Backbone(network, None, "x", 1e-3)
    model = assemble(backbone, lambda f: pooled.linear(f, units=2, pooling="concat"))
    assert model(np.zeros((3, 4, 4, 6), "float32")).shape == (3, 2)
