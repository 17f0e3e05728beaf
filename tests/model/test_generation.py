"""Texts that a network goes on with: what is drawn, and that no neighbour has a say in it."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerasft.errors import UserError
from kerasft.model.assemble import assemble
from kerasft.model.heads.language import tied
from kerasft.model.text.generation import Generation, embedder, read_off, writer
from kerasft.model.text.likeliest import likeliest
from kerasft.model.text.sampled import drawn
from kerasft.model.tiny import text
from kerasft.tasks.reading import prepared


def made(family, apart=True):
    keras.utils.set_random_seed(1)
    backbone = prepared(text(family, sequence_length=48), None, "answers", apart=apart)
    model = assemble(backbone, tied)
    for variable in model.trainable_variables:  # a fresh network says the same again and again
        variable.assign(variable + 0.4 * keras.random.normal(variable.shape, seed=5))
    return model, backbone.preprocess


@pytest.fixture(scope="module", params=[pytest.param("gpt2", marks=pytest.mark.slow), "llama"])
def network(request):
    return made(request.param)


TEXTS = ["the quick brown fox", "a", ""]


def written(network, texts=TEXTS, cached=True, **settings):
    model, preprocess = network
    function = tf.function(
        writer(model, preprocess, Generation(**{"max_new": 6, **settings}), cached=cached),
        input_signature=[tf.TensorSpec([None], tf.string)], autograph=False,
    )  # fmt: skip
    return {name: value.numpy() for name, value in function(tf.constant(texts)).items()}


DRAWN = {"temperature": 1.5, "top_k": 20, "top_p": 0.95, "repetition_penalty": 1.3, "seed": 3}


@pytest.mark.parametrize(
    "settings", [{}, pytest.param(DRAWN, marks=pytest.mark.slow)], ids=("greedy", "drawn")
)
def test_what_is_kept_of_earlier_tokens_changes_nothing(network, settings):
    kept, anew = written(network, **settings), written(network, cached=False, **settings)
    for name in ("text", "tokens", "stopped"):
        assert (kept[name] == anew[name]).all()
    assert np.allclose(kept["margin"], anew["margin"], atol=1e-4)
    assert (kept["tokens"] <= 6).all() and kept["tokens"].max() > 1


@pytest.mark.slow
@pytest.mark.parametrize("settings", [{}, DRAWN], ids=("greedy", "drawn"))
def test_a_text_is_answered_alone_as_it_is_beside_others(network, settings):
    together = written(network, **settings)
    for place, one in enumerate(TEXTS):
        alone = written(network, [one], **settings)
        assert alone["text"][0] == together["text"][place]
        assert alone["stopped"][0] == together["stopped"][place]


def test_what_is_likeliest_begins_the_answer(network):
    model, preprocess = network
    found = likeliest(model, preprocess, Generation(max_new=6))(tf.constant(TEXTS))
    assert found["next_ids"].shape == (3, 5) and found["next_logits"].shape == (3, 6)
    written_ = written(network, max_new=1)
    first = preprocess.texts(tf.RaggedTensor.from_tensor(found["next_ids"][:, :1]))
    for answer, token, margin, scores in zip(
        written_["text"], first.numpy(), written_["margin"][:, 0], found["next_logits"].numpy(),
        strict=True,
    ):
        assert answer in (token, b" " + token)
        assert margin == pytest.approx(scores[0] - scores[1], abs=1e-4)


@pytest.mark.slow
def test_seeds_decide_what_is_drawn(network):
    one, same = (written(network, **DRAWN)["text"] for _ in range(2))
    assert (one == same).all()
    assert (one != written(network, **{**DRAWN, "seed": 4})["text"]).any()


def test_an_answer_that_ends_within_a_character_is_still_text(network):
    # Tokens of GPT-2 may be single bytes, which JSON cannot carry.
    for one in written(network, temperature=50.0, max_new=20)["text"].tolist():
        assert one.decode("utf-8")


def test_each_text_may_bring_a_seed(network):
    model, preprocess = network
    settings = Generation(**{"max_new": 6, **DRAWN})
    write = tf.function(writer(model, preprocess, settings), autograph=False)
    found = write(tf.constant(["the fox"] * 4), tf.constant([3, 4, 3, 2**40], tf.int64))
    one, other, same, large = found["text"].numpy().tolist()
    assert one == same == written(network, ["the fox"], **DRAWN)["text"][0]
    assert len({one, other, large}) == 3


@pytest.mark.slow
def test_an_answer_ends_before_a_stop_text(network):
    whole = written(network)["text"][0].decode()
    stop = whole[2]
    cut = written(network, stop=[stop])
    assert cut["text"][0].decode() == whole.partition(stop)[0] and cut["stopped"][0]
    never = written(network, stop=["never said"])
    assert never["text"][0].decode() == whole and never["tokens"].max() <= 6


@pytest.mark.slow
def test_a_prompt_of_a_million_characters_keeps_its_end(network):
    long = written(network, ["the fox " * 125_000 + "a dog"])
    end = written(network, ["the fox " * 40 + "a dog"])
    assert long["text"][0] == end["text"][0]


def test_the_likeliest_tokens_are_those_that_are_drawn():
    scores = tf.math.log(tf.constant([[0.5, 0.3, 0.15, 0.05]] * 2))
    counts = {name: [] for name in ("top_k", "top_p", "all")}
    for seed in range(60):
        for name, how in (("top_k", {"top_k": 2}), ("top_p", {"top_p": 0.75}), ("all", {})):
            seeds = tf.fill([2], np.int64(seed))
            found = drawn(scores, tf.constant([0, 1]), seeds, temperature=1.0, **how)
            counts[name] += tf.argmax(found, axis=1).numpy().tolist()
    assert set(counts["top_k"]) == {0, 1} == set(counts["top_p"])
    share = np.bincount(counts["all"], minlength=4) / len(counts["all"])
    assert np.allclose(share, [0.5, 0.3, 0.15, 0.05], atol=0.13)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"max_new": 0}, "generate.max_new must be a whole number, 1 or more"),
        ({"temperature": -1.0}, "generate.temperature must be 0 or above"),
        ({"top_p": 0.0}, "generate.top_p must be above 0"),
        ({"stop": None}, r"generate.stop must hold texts that are not empty.*Received: None"),
        ({"stop": 5}, r"generate.stop must hold texts .* Received: 5\."),
        ({"stop": ""}, "generate.stop must hold texts that are not empty"),
        ({"stop": [""]}, "generate.stop must hold texts that are not empty"),
        ({"temprature": 1.0}, "generate.temprature is no setting"),
    ],
)
def test_settings_that_are_wrong_are_told(settings, told):
    with pytest.raises(UserError, match=told):
        Generation.of(settings)


def test_a_prompt_needs_room(network):
    model, preprocess = network
    with pytest.raises(UserError, match=r"max_new must be below backbone\.sequence_length=48"):
        writer(model, preprocess, Generation(max_new=48))


@pytest.mark.parametrize("how", ["mean", "last"])
def test_a_text_has_the_same_vector_beside_a_longer_one(network, how):
    model, preprocess = network
    embed = embedder(model, how)
    both = embed(preprocess(["the quick", "the quick brown fox jumps over it"])).numpy()
    inputs = preprocess(["the quick"])
    alone = embed(inputs).numpy()
    assert both.dtype == "float32"
    np.testing.assert_allclose(both[:1], alone, atol=1e-5)
    features = keras.Function(model.input, read_off(model)[0])(inputs).numpy()[0]
    assert both.shape == (2, features.shape[-1])
    wanted = features.mean(axis=0) if how == "mean" else features[-1]
    np.testing.assert_allclose(alone[0], wanted, atol=1e-6)
