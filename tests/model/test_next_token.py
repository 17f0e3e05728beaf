"""What tokens cost, by logits at once and a slice after the other."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerasft.model.text.next_token import NextToken, NextTokenSliced


@pytest.fixture
def drawn():
    draw = np.random.default_rng(0)
    return {
        "features": tf.constant(draw.normal(size=(3, 7, 5)), tf.float32),
        "table": tf.constant(draw.normal(size=(11, 5)), tf.float32),
        "ids": tf.constant(draw.integers(0, 11, (3, 7)), tf.int32),
        "mask": tf.constant([[1] * 7, [1] * 4 + [0] * 3, [1] * 2 + [0] * 5], tf.int32),
    }


def test_a_token_costs_what_its_probability_says(drawn):
    logits = tf.einsum("btd,vd->btv", drawn["features"], drawn["table"])
    found = NextToken()(logits, drawn["ids"], drawn["mask"]).numpy()
    chances = tf.nn.softmax(logits).numpy()
    for row, place in ((0, 1), (0, 6), (1, 3), (2, 1)):
        token = drawn["ids"][row, place]
        assert found[row, place, 0] == pytest.approx(-np.log(chances[row, place - 1, token]), 1e-5)
        assert found[row, place, 1] == (chances[row, place - 1].argmax() == token)
    assert not found[:, 0, :2].any() and not found[1, 4:].any()
    assert (found[..., 2] == drawn["mask"].numpy()).all()


@pytest.mark.parametrize("cap", [None, 3.0])
def test_in_slices_costs_and_gradients_are_the_same(drawn, cap):
    ids, mask = drawn["ids"], drawn["mask"]

    def at_once(features, table):
        logits = tf.einsum("btd,vd->btv", features, table)
        logits = logits if cap is None else tf.tanh(logits / cap) * cap
        return NextToken()(logits, ids, mask)

    # Slices of 4 of the 18 positions: the last one is shorter.
    layer = NextTokenSliced(soft_cap=cap, most=4 * 11)

    @tf.function
    def in_slices(features, table):
        with tf.GradientTape() as tape:
            tape.watch([features, table])
            made = layer(features, ids, table, mask)
            cost = tf.reduce_sum(made[..., 0] * tf.range(7.0))
        return made, tape.gradient(cost, [features, table])

    with tf.GradientTape() as tape:
        tape.watch([drawn["features"], drawn["table"]])
        wanted = at_once(drawn["features"], drawn["table"])
        cost = tf.reduce_sum(wanted[..., 0] * tf.range(7.0))
    of_wanted = tape.gradient(cost, [drawn["features"], drawn["table"]])
    made, of_made = in_slices(drawn["features"], drawn["table"])
    assert np.allclose(made, wanted, atol=1e-5)
    for one, other in zip(of_made, of_wanted, strict=True):
        assert np.allclose(one, other, atol=1e-4)
    again = NextTokenSliced.from_config(layer.get_config())
    assert (again.soft_cap, again.most) == (cap, 44)


def test_the_head_is_sliced_where_the_vocabulary_is_large():
    import keras_hub

    from kerasft.model.assemble import assemble
    from kerasft.model.heads.language import tied
    from kerasft.spec import Backbone

    def made(size):
        network = keras_hub.models.GPT2Backbone(
            vocabulary_size=size, num_layers=1, hidden_dim=8, num_heads=2, intermediate_dim=8,
            max_sequence_length=16, dropout=0.0,
        )
        return assemble(Backbone(network, None, "tiny", 1e-3, causal=True), tied)

    names = {layer.name for layer in made(9000).layers}
    assert "head_every_token" in names
    small, large = made(9000), made(9000)
    assert [v.path for v in small.trainable_variables] == [v.path for v in large.weights]
    ids = np.array([[3, 8999, 5, 1]], "int32")
    given = {"token_ids": ids, "padding_mask": np.ones_like(ids)}
    hidden = small._parts.models["network"](given)
    logits = small.get_layer("token_embedding")(hidden, reverse=True)
    wanted = NextToken()(logits, ids, given["padding_mask"])
    assert np.allclose(small(given), wanted, atol=1e-5)


def test_a_network_that_reads_in_both_directions_has_no_such_head():
    from kerasft.errors import UserError
    from kerasft.model.assemble import assemble
    from kerasft.model.heads.language import tied
    from kerasft.model.tiny import text

    with pytest.raises(UserError, match="reads in both directions"):
        assemble(text("bert"), tied)


def test_the_tied_head_comes_back_from_a_file(tmp_path):
    from kerasft.model.assemble import assemble
    from kerasft.model.heads.language import tied
    from kerasft.model.tiny import text

    backbone = text("gpt2")
    model = assemble(backbone, tied)
    assert not any(layer.weights for layer in model.head_layers)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    given = backbone.preprocess(["the quick brown fox", "a film"])
    assert np.array_equal(model(given), again(given))
    assert len(again.weights) == len(model.weights)
