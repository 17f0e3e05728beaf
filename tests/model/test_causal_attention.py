"""Attention in tiles gives what KerasHub's own layers give."""

from __future__ import annotations

import gc
import weakref
from itertools import pairwise

import keras
import keras_hub
import numpy as np
import pytest
import tensorflow as tf

from kerasft.model.assemble import assemble
from kerasft.model.fast import accelerated, at_rest
from kerasft.model.heads.language import tied
from kerasft.model.text.causal_attention import LEAST, attend, bounds, once, tiled
from kerasft.model.text.isolation import Isolated
from kerasft.spec import Backbone

START, END = 1, 2
SIZE = {"vocabulary_size": 40, "num_layers": 2, "hidden_dim": 16, "intermediate_dim": 24}
QUERY = {"num_query_heads": 4, "num_key_value_heads": 2}
GEMMA = {**SIZE, **QUERY, "head_dim": 8}
models = keras_hub.models
FAMILIES = {
    "Llama": lambda **more: models.LlamaBackbone(**SIZE, **QUERY, **more),
    "GPT-2": lambda **more: models.GPT2Backbone(
        **SIZE, num_heads=2, max_sequence_length=400, **{"dropout": 0.0, **more}),
    "GPT-2, dropout": lambda **more: models.GPT2Backbone(
        **SIZE, num_heads=2, max_sequence_length=400, dropout=0.1, **more),
    "OPT": lambda **more: models.OPTBackbone(
        **SIZE, num_heads=2, max_sequence_length=400, dropout=0.0, **more),
    "Gemma": lambda **more: models.GemmaBackbone(**GEMMA, query_head_dim_normalize=True, **more),
    "Gemma, window": lambda **more: models.GemmaBackbone(
        **GEMMA, query_head_dim_normalize=False, use_sliding_window_attention=True,
        sliding_window_size=50, **more),
    "Mistral": lambda **more: models.MistralBackbone(**SIZE, **QUERY, sliding_window=70, **more),
    "Qwen": lambda **more: models.QwenBackbone(**SIZE, **QUERY, **more),
    "Qwen, window": lambda **more: models.QwenBackbone(
        **SIZE, **QUERY, use_sliding_window_attention=True, sliding_window_size=50, **more),
}  # fmt: skip
# Every run of the tests has these, and all with `-m slow`.
OFTEN = ("Llama", "GPT-2, dropout", "Gemma, window")
EACH = [one if one in OFTEN else pytest.param(one, marks=pytest.mark.slow) for one in FAMILIES]


def drawn(family, **more):
    """A network of random weights that are no small ones."""
    keras.utils.set_random_seed(0)
    network = FAMILIES[family](**more)
    for place, variable in enumerate(network.trainable_variables):
        noise = np.random.default_rng(place).normal(size=variable.shape)
        variable.assign(variable + 0.2 * noise.astype("float32"))
    return network


def rows(length, *, packed):
    """Two rows of tokens, of which one ends in padding, and one that is padding from the left."""
    draw = np.random.default_rng(1)
    ids = draw.integers(3, 40, (3, length)).astype("int32")
    mask = np.ones_like(ids)
    mask[1, -length // 3 :] = 0
    ids[:, 0] = START
    if packed:
        ids[:, 7::11], ids[:, 6::11] = START, END
    else:
        mask[2, :5] = 0
    return {"token_ids": ids * mask, "padding_mask": mask}


def slopes(tape, loss, variables):
    """Llama's matrix for reading tokens off takes no part here."""
    made = tape.gradient(loss, variables)
    return [tf.convert_to_tensor(one) for one in made if one is not None]


def found(model, given):
    """What the model puts out of all positions, and gradients of what it puts out of tokens."""
    with tf.GradientTape() as tape:
        outputs = tf.cast(model(given, training=False), tf.float32)
        counts = tf.cast(given["padding_mask"], tf.float32)[..., None]
        loss = tf.reduce_mean(counts * outputs**2)
    gradients = slopes(tape, loss, [v.value for v in model.trainable_variables])
    return outputs.numpy(), [one.numpy() for one in gradients]


def assert_close(got, wanted, outputs, gradients):
    assert not np.isnan(got[0]).any()
    largest = np.abs(wanted[0]).max()
    np.testing.assert_allclose(got[0] / largest, wanted[0] / largest, rtol=outputs, atol=outputs)
    largest = max(np.abs(one).max() for one in wanted[1])
    assert largest > 0
    for one, other in zip(got[1], wanted[1], strict=True):
        np.testing.assert_allclose(one / largest, other / largest, rtol=gradients, atol=gradients)


@pytest.mark.parametrize("packed", [False, True], ids=["padded", "packed"])
@pytest.mark.parametrize("family", EACH)
def test_outputs_and_gradients_are_those_of_the_layer(family, packed):
    network = drawn(family)
    model = Isolated(network, START, END) if packed else network
    for length in (37, 131, 290):
        given = rows(length, packed=packed)
        wanted = found(model, given)
        with tiled(model) as layers:
            assert len(layers) == SIZE["num_layers"]
            assert_close(found(model, given), wanted, 1e-5, 1e-4)
        again = found(model, given)
        np.testing.assert_array_equal(again[0], wanted[0])


@pytest.mark.parametrize("family", [
    one if one == "Llama" else pytest.param(one, marks=pytest.mark.slow)
    for one in ("Llama", "GPT-2", "Gemma", "Mistral", "Qwen")
])  # fmt: skip
def test_in_half_precision_they_are_as_near_to_the_truth_as_the_layer(family):
    """Shares are rounded at other places, so that each is held against `float32`."""
    given = rows(131, packed=True)
    truth = found(Isolated(drawn(family), START, END), given)
    model = Isolated(drawn(family, dtype="mixed_bfloat16"), START, END)
    plain = found(model, given)
    with tiled(model):
        quick = found(model, given)

    def off(one):
        return [np.abs(a - b).mean() / np.abs(b).mean()
                for a, b in zip((one[0], *one[1]), (truth[0], *truth[1]), strict=True)
                if np.abs(b).max() > 1e-4 * np.abs(truth[1][0]).max()]  # fmt: skip

    assert np.mean(off(quick)) < 1.1 * np.mean(off(plain)) < 0.1
    assert_close(quick, plain, 5e-2, 5e-2)


def test_a_document_is_read_beside_others_as_it_is_alone():
    """In rows of several tiles, with an end inside a tile and one at its edge."""
    backbone = drawn("Llama")
    network = Isolated(backbone, START, END)
    draw = np.random.default_rng(2)
    parts = [np.concatenate([[START], draw.integers(3, 40, length - 2), [END]]).astype("int32")
             for length in (40, 88, 2, 100, 60)]  # fmt: skip

    def read(ids):
        ids = np.asarray(ids)[None]
        given = {"token_ids": ids, "padding_mask": np.ones_like(ids)}
        return np.asarray(backbone.token_embedding(network(given), reverse=True))[0]

    alone = [read(part) for part in parts]
    with tiled(network):
        packed = read(np.concatenate(parts))
        other = read(np.concatenate([parts[1], *parts[1:]]))
    np.testing.assert_allclose(packed, np.concatenate(alone), rtol=1e-4, atol=1e-4)
    # After another document, and in another place, it differs by no more than rounding.
    np.testing.assert_allclose(other[-60:], packed[-60:], rtol=1e-4, atol=1e-4)


def test_widths_that_the_graph_alone_knows_are_served_by_one_trace():
    model = Isolated(drawn("Llama"), START, END)
    spec = {name: tf.TensorSpec([None, None], tf.int32) for name in ("token_ids", "padding_mask")}

    def made():
        return tf.function(lambda given: found_in(given), input_signature=[spec], autograph=False)

    def found_in(given):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(model(given, training=True) ** 2)
        return loss, slopes(tape, loss, [v.value for v in model.trainable_variables])

    plain = made()
    with tiled(model):
        quick = made()
        for length in (1, 3, 64, 65, 200, 256, 257):
            given = {name: tf.constant(one) for name, one in rows(length, packed=True).items()}
            (loss, got), (other, wanted) = quick(given), plain(given)
            np.testing.assert_allclose(loss, other, rtol=1e-5)
            for one, another in zip(got, wanted, strict=True):
                np.testing.assert_allclose(one, another, rtol=1e-4, atol=1e-5)


def test_the_mask_is_made_once_for_all_layers():
    model = Isolated(drawn("Llama"), START, END)
    spec = {name: tf.TensorSpec([2, 130], tf.int32) for name in ("token_ids", "padding_mask")}

    def minima():
        graph = tf.function(lambda given: model(given)).get_concrete_function(spec).graph
        return sum(one.type in ("Minimum", "SelectV2") and len(one.outputs[0].shape) >= 3
                   and 130 in one.outputs[0].shape[1:3].as_list()
                   and one.outputs[0].shape.num_elements() >= 2 * 130 * 64
                   for one in graph.get_operations())  # fmt: skip

    many = minima()
    with tiled(model):
        few = minima()
    # Of both layers: a mask, what it leaves of the scores, and of the shares.
    assert few <= 1 + 3 + 1 < many


def test_what_is_made_of_a_tensor_goes_with_it():
    class Made:
        pass

    def watched():
        one, other = tf.ones([2]), tf.ones([2])
        made = once(one, ("a",), Made)
        assert once(one, ("a",), Made) is made
        assert once(one, ("b",), Made) is not made and once(other, ("a",), Made) is not made
        made = once(one, (other,), Made)
        assert once(one, (other,), Made) is made
        assert once(one, (tf.ones([2]),), Made) is not made
        inside = []
        tf.function(lambda: inside.append(once(one, (other,), Made)))()
        assert inside[0] is not made
        return weakref.ref(made)

    left = watched()
    gc.collect()
    assert left() is None


@pytest.mark.parametrize("length", [1, 5, LEAST, LEAST + 1, 200, 256, 257, 1000])
def test_tiles_cover_a_row(length):
    found = bounds(length)
    assert found[0][0] == 0 and found[-1][1] == length and len(found) <= 4
    assert all(one[1] == other[0] for one, other in pairwise(found))
    assert length > LEAST or len(found) == 1
    of_graph = [(int(a), int(b)) for a, b in bounds(tf.constant(length))]
    assert [one for one in of_graph if one[0] < one[1]] == found


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_dropout_drops_its_share_in_each_tile_and_the_gradient_knows_which(dtype):
    """With values of one and shares that are all alike, what comes out counts what stays."""
    length, rate = 200, 0.25
    tiles = [(start, end, tf.zeros([1, 1, end - start, end])) for start, end in bounds(length)]
    zeros, ones = tf.zeros([8, length, 4, 2], dtype), tf.ones([8, length, 4, 2], dtype)
    shape = {"rtol": 3e-2} if dtype == "bfloat16" else {"rtol": 1e-4}
    with tf.GradientTape() as tape:
        tape.watch(ones)
        made = attend(zeros, zeros, ones, tiles, 1.0, rate, [1, 2])
        total = tf.reduce_sum(tf.cast(made, tf.float32))
    made = tf.cast(made, tf.float32).numpy()
    for start, end in bounds(length):
        assert made[:, start:end].mean() == pytest.approx(1, abs=0.02)
        assert made[:, start:end].std() > 0.02
    # It is linear in the values, so that their gradient sums up to what came out.
    slope = tf.cast(tape.gradient(total, ones), tf.float32).numpy()
    np.testing.assert_allclose(slope.sum(), made.sum(), **shape)
    again = attend(zeros, zeros, ones, tiles, 1.0, rate, [1, 2])
    np.testing.assert_array_equal(tf.cast(again, tf.float32), made)
    other = attend(zeros, zeros, ones, tiles, 1.0, rate, [1, 3])
    assert np.abs(tf.cast(other, tf.float32) - made).max() > 0.01


def test_the_gradient_with_dropout_is_that_of_the_same_operations():
    draw = np.random.default_rng(0)
    length = 70
    given = [tf.constant(draw.normal(size=(2, length, 2, 4)), tf.float32) for _ in range(3)]
    above = tf.constant(draw.normal(size=(2, length, 2, 4)), tf.float32)
    hidden = tf.where(tf.linalg.band_part(tf.ones([length, length], tf.bool), -1, 0), 0.0, -1e9)
    tiles = [(s, e, hidden[None, None, s:e, :e]) for s, e in bounds(length)]

    def gradients(attention):
        with tf.GradientTape() as tape:
            tape.watch(given)
            loss = tf.reduce_sum(attention(*given) * above)
        return tape.gradient(loss, given)

    def quick(query, key, value):
        return attend(query, key, value, tiles, 0.5, 0.3, [3, 4])

    # Which shares stay is read off values that are one at one position each.
    stays = np.stack([
        quick(given[0], given[1], tf.one_hot(tf.fill([2, length, 2], place), length)[
            ..., place : place + 1] * tf.reshape(tf.one_hot(place, length), [1, length, 1, 1]))
        .numpy()[..., 0] > 0 for place in range(length)
    ], axis=-1)  # fmt: skip
    stays = tf.constant(stays.transpose(0, 2, 1, 3), tf.float32)

    def plain(query, key, value):
        scores = tf.einsum("bqhd,bkhd->bhqk", query, key) * 0.5 + hidden
        return tf.einsum("bhqk,bkhd->bqhd", tf.nn.softmax(scores) * stays / 0.7, value)

    np.testing.assert_allclose(quick(*given), plain(*given), rtol=1e-4, atol=1e-5)
    for one, other in zip(gradients(quick), gradients(plain), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


def test_training_draws_anew_at_each_step():
    model = drawn("GPT-2, dropout")
    given = rows(70, packed=False)
    with tiled(model):
        one, other = (model(given, training=True).numpy() for _ in range(2))
        rests = model(given, training=False).numpy()
    assert np.abs(one - other).max() > 0.01
    np.testing.assert_allclose(model(given, training=False), rests, rtol=1e-4, atol=1e-5)


def test_what_cannot_be_told_stays_as_it_is():
    capped = models.GemmaBackbone(**GEMMA, attention_logit_soft_cap=50.0)
    looks_ahead = models.Gemma3Backbone(
        **GEMMA, image_size=None, vision_encoder=None, sliding_window_size=4,
        use_sliding_window_attention=True,
    )  # fmt: skip
    reads_both = models.BertBackbone(
        vocabulary_size=40, num_layers=1, num_heads=2, hidden_dim=16, intermediate_dim=24)
    for network in (capped, looks_ahead, reads_both):
        with tiled(network) as layers:
            assert layers == []
    decoder = keras_hub.layers.TransformerDecoder(24, 2)
    sequence = keras.Input((70, 16))
    model = keras.Model(sequence, decoder(sequence, use_causal_mask=False))
    x = np.random.default_rng(0).normal(size=(2, 70, 16)).astype("float32")
    wanted = model(x)
    with tiled(model):
        np.testing.assert_array_equal(model(x), wanted)


@pytest.mark.parametrize("family", ["Llama", "GPT-2", "Gemma"])
def test_what_has_a_cache_is_the_layers_own(family):
    network = drawn(family)
    kinds = {"Llama": models.LlamaCausalLM, "GPT-2": models.GPT2CausalLM,
             "Gemma": models.GemmaCausalLM}  # fmt: skip
    writer = kinds[family](backbone=network, preprocessor=None)
    writer.compile(sampler="greedy")
    prompt = {"token_ids": np.array([[1, 5, 9, 7] + [0] * 80], "int32"),
              "padding_mask": np.array([[1] * 4 + [0] * 80], "int32")}  # fmt: skip
    wanted = writer.generate(prompt, stop_token_ids=None)["token_ids"]
    writer.generate_function = None
    with tiled(network) as layers:
        assert layers
        got = writer.generate(prompt, stop_token_ids=None)["token_ids"]
    np.testing.assert_array_equal(got, wanted)


def test_files_and_exports_know_nothing_of_it(tmp_path):
    backbone = Backbone(drawn("GPT-2, dropout"), None, "tiny", 1e-3, causal=True)
    model = assemble(backbone, tied)
    given, before = rows(70, packed=False), [dict(vars(one)) for one in model._flatten_layers()]
    with accelerated(model, steps=1) as replaced:
        assert any("self_attention" in path for path in replaced)
        model.save(tmp_path / "model.keras")
    assert [sorted(vars(one)) for one in model._flatten_layers()] == [sorted(b) for b in before]
    again = keras.saving.load_model(tmp_path / "model.keras", compile=False)
    wanted = again(given).numpy()
    np.testing.assert_array_equal(model(given), wanted)
    attention = [one for one in model._flatten_layers() if "_compute_attention" in dir(one)]
    with at_rest(model):
        assert attention and not any("_compute_attention" in vars(one) for one in attention)
