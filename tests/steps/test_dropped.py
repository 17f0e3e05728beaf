"""Characters that a tokenizer leaves out are told."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from kerasft.model import tiny
from kerasft.model.text.tokenizing import dropped_by
from kerasft.rows import Rows
from kerasft.spec import Examples, Labels, Splits
from kerasft.steps.preparing.dropped import tell_dropped
from kerasft.tasks.causal_lm import CausalLM
from kerasft.tasks.reading import prepared
from kerasft.tasks.tagging import Tagging


def splits_of(*texts):
    rows = Rows.of({"label": np.zeros(len(texts), int)})
    ids = tuple(f"row {i + 1}" for i in range(len(texts)))
    part = Examples("text", list(texts), rows, ids)
    clean = Examples("text", ["a dog"], Rows.of({"label": np.zeros(1, int)}), ("row 9",))
    return Splits(train=part, validation=clean, test=None, labels=Labels("spans", ("x",)))


def test_texts_with_a_dropped_digit_are_named(capsys):
    splits = splits_of("a fox", "दाम ६ है", "no १२३४५७८९०")
    tell_dropped(splits, tiny.text("gpt2", layers=1).preprocess, Tagging())
    said = " ".join(capsys.readouterr().err.split())
    assert "train: 1 text with '६' (U+096C, DEVANAGARI DIGIT SIX)" in said
    assert "no word is tagged: row 2. Replace it" in said and "validation" not in said
    tell_dropped(splits, tiny.text("gpt2", layers=1).preprocess, CausalLM())
    said = " ".join(capsys.readouterr().err.split())
    assert "the network does not see it: row 2." in said and "tagged" not in said
    for other in (tiny.text("bert", layers=1), tiny.image()):
        tell_dropped(splits, other.preprocess, Tagging())
    assert not capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("family", ["gpt2", "roberta"])
def test_no_other_digit_is_dropped(family):
    backbone = tiny.text(family, layers=1)
    tokenizer = backbone.preprocess.tokenizer
    digits = [chr(n) for n in range(0x0660, 0x1000) if chr(n).isdigit()]
    length = tf.function(lambda text: tokenizer(text).row_lengths(), autograph=False)
    plain = int(length(tf.constant(["ab"]))[0])
    counts = length(tf.constant([f"a{one}b" for one in digits])).numpy()
    without = {one for one, count in zip(digits, counts, strict=True) if count == plain}
    assert without == set(dropped_by(tokenizer))


@pytest.mark.slow
def test_a_language_model_neither_learns_nor_writes_it():
    backbone = prepared(tiny.text("gpt2", layers=1), None, "answers", apart=False)
    texts = backbone.preprocess.texts(backbone.preprocess.prompts(tf.constant(["a ६ b ७"])))
    assert texts.numpy()[0].decode() == "a  b ७"
