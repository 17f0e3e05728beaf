"""Tokens as people read them, and what is cut off."""

from __future__ import annotations

import pytest

from kerasft.model import tiny
from kerasft.model.text.tokens import Cuts, cuts, reader

TEXT = "a fine film\nin Tokyo, 東京"


@pytest.mark.parametrize(
    ("family", "said"),
    [
        ("bert", "[CLS] a f·i·n·e film i·n t·o·k·y·o , [UNK] [UNK] [SEP]"),
        ("roberta", r"<s> a ▁·f·in·e ▁·f·i·l·m·\n·in ▁·T·o·k·y·o·, ▁·東{3}·京{3} </s>"),
        ("gpt2", r"<|endoftext|> a ▁·f·in·e ▁·f·i·l·m·\n·in ▁·T·o·k·y·o·, ▁·東{3}·京{3} "
                 "<|endoftext|>"),
    ],
)  # fmt: skip
def test_words_are_apart_and_their_pieces_joined(family, said):
    preprocess = tiny.text(family, layers=1).preprocess
    read = reader(preprocess.tokenizer)
    assert read([preprocess.start, *preprocess.tokenizer([TEXT])[0], preprocess.end]) == said
    assert read([]) == ""


def test_blanks_of_sentencepiece():
    preprocess = tiny.text("llama", layers=1).preprocess
    said = reader(preprocess.tokenizer)([preprocess.start, *preprocess.tokenizer(["a film"])[0]])
    assert said.replace("·", "") == "<s> a film"


def test_a_tokenizer_of_another_kind_is_shown_token_by_token():
    class Own:
        def id_to_token(self, one):
            return "xyz"[one]

    assert reader(Own())([0, 2, 1]) == "x z y"
    assert cuts(object()) is None


@pytest.mark.parametrize(
    ("family", "pair"),
    [("bert", False),
     *(pytest.param(family, pair, marks=pytest.mark.slow)
       for family in ("bert", "roberta", "gpt2", "llama") for pair in (False, True))],
)  # fmt: skip
def test_kept_and_lost_together_are_the_text(family, pair):
    preprocess = tiny.text(family, sequence_length=16, layers=1).preprocess.paired(pair)
    texts = ["", "a", "a film is not it " * 2, "a film is not it " * 9]
    raw = [(one, other) for one in texts for other in texts] if pair else texts
    rows = preprocess(raw)
    ids, mask = (rows[name].numpy() for name in ("token_ids", "padding_mask"))
    found = Cuts(preprocess)
    # The whole of a text: what a row without a limit to speak of holds.
    whole = {text: found._texts((text, "") if pair else text, 1, 1)[0] for text in texts}
    cut = 0
    for i, (text, count) in enumerate(zip(raw, found.counts(raw).tolist(), strict=True)):
        kept = ids[i][mask[i].astype(bool)].tolist()
        lost = found.lost(text, kept)
        assert len(lost) == 1 + pair and sum(map(len, lost)) == count
        assert bool(count) <= (len(kept) == 16)
        said = []
        for part, one in zip(text if pair else [text], lost, strict=True):
            left = whole[part][: len(whole[part]) - len(one)]
            assert left + one == whole[part]
            said += left
        special = {preprocess.start, preprocess.end, preprocess.pad}
        assert [token for token in kept if token not in special] == said
        cut += bool(count)
    assert cut
