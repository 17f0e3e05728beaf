"""Each kind of tokenizer answers in a server as it did in training, in every script."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest

from kerasft.artifact.loading import load_export
from kerasft.exporters.saved_model import saved_model
from kerasft.model import tiny
from kerasft.model.preprocess import TextPreprocess
from kerasft.spec import Labels
from kerasft.tasks.classification import Classification

LABELS = Labels("single", ("good", "খারাপ", "so, so"))


def wordpiece(texts):
    """A cased vocabulary of all letters that the texts hold."""
    from keras_hub.models import BertTokenizer

    letters = sorted({c for text in texts for c in text if not c.isspace()})
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    pieces = [*special, *letters, *(f"##{c}" for c in letters)]
    return BertTokenizer(vocabulary=pieces, lowercase=False)


def sentencepiece(texts, tokenizer):
    """A vocabulary that was trained on the texts, down to every character."""
    import sentencepiece

    out = io.BytesIO()
    albert = tokenizer == "AlbertTokenizer"
    start, end = ("[CLS]", "[SEP]") if albert else ("<s>", "</s>")
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([t for t in texts if t] * 4), model_writer=out, vocab_size=150,
        character_coverage=1.0, model_type="unigram", hard_vocab_limit=False, minloglevel=2,
        normalization_rule_name="identity", pad_id=0, unk_id=1, bos_id=2, eos_id=3,
        pad_piece="<pad>", unk_piece="<unk>", bos_piece=start, eos_piece=end,
        user_defined_symbols=["[MASK]"] if albert else [],
    )  # fmt: skip
    import keras_hub

    return getattr(keras_hub.models, tokenizer)(proto=out.getvalue())


# family: how its tokenizer is made of texts, or None for one that knows every byte
KINDS = {
    "bert": wordpiece,
    "roberta": None,
    "gpt2": None,
    "albert": lambda texts: sentencepiece(texts, "AlbertTokenizer"),
    "xlm_roberta": lambda texts: sentencepiece(texts, "XLMRobertaTokenizer"),
    "llama": lambda texts: sentencepiece(texts, "LlamaTokenizer"),
}


@pytest.mark.slow
@pytest.mark.parametrize("family", ["bert", "gpt2", "roberta", "albert", "llama", "xlm_roberta"])
def test_every_script_survives_the_trip(family, make, texts, tmp_path, monkeypatch):
    apart = [text for text in texts if text not in ("?", "", "A GOOD FILM!")]
    if KINDS[family] is not None:
        made = KINDS[family](texts)
        monkeypatch.setattr(tiny, "_tokenizer", lambda name: made)
    network, preprocess = make.texts(family, length=48)
    assert isinstance(preprocess, TextPreprocess)
    path = saved_model(
        network, tmp_path, preprocess=preprocess, task=Classification(), labels=LABELS,
        examples=texts, signatures=["serving_default"], golden=len(texts),
    )  # fmt: skip
    report = json.loads((path / "assets.extra" / "parity.json").read_text())
    assert report["examples"] == len(texts)
    assert report["signatures"]["serving_default"]["label_flips"] == 0
    served = load_export(path)(apart)["probabilities"]
    # No two of them became the same tokens: nothing fell to an unknown one.
    assert len(np.unique(np.round(served, 7), axis=0)) == len(apart)
    tokens = preprocess(apart)["token_ids"].numpy()
    unknown = {"bert": 1, "albert": 1, "xlm_roberta": 3, "llama": 1}.get(family)
    if unknown is not None:
        assert not (tokens == unknown).any()
