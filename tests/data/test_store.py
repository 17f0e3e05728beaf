"""How rows are kept: in small types, and nothing of what is the same everywhere."""

from __future__ import annotations

import csv

import keras_hub
import numpy as np
import pytest

from kerasft.data import store
from kerasft.data.preprocessing import TEXTS_AT_ONCE, prepare, prepare_splits
from kerasft.data.store import Form, collect, read, smallest, write
from kerasft.model import tiny
from kerasft.model.preprocess import TextPreprocess
from kerasft.model.text import word_tokens
from kerasft.raw_input import as_raw
from kerasft.rows import is_constant, joined
from kerasft.spec import Examples
from kerasft.system.cache import Cache

FORMS = {
    "ids": Form("int32", (), True, 7, "uint16"), "mask": Form("int32", (), True, kept="uint8"),
    "segments": Form("int32", (), True, kept="uint8"),
}


def pieces(last: int):
    """Return rows of 2, 1 and 3 tokens in two pieces, whose last segment is given."""
    one = {"ids": np.array([5, 65_535, 3]), "mask": np.ones(3, "int32"), "segments": np.zeros(3)}
    two = {"ids": np.array([1, 2, 3]), "mask": np.ones(3, "int32"),
           "segments": np.array([0, 0, last])}  # fmt: skip
    return [(one, np.array([2, 1])), (two, np.array([3]))]


@pytest.mark.parametrize("last", [0, 1])
def test_rows_come_back_in_the_type_of_a_batch(tmp_path, last, monkeypatch):
    monkeypatch.setattr(store, "AT_ONCE", 2)  # what was left out is written piece by piece
    write(tmp_path, FORMS, pieces(last), longest=8)
    for made in (read(tmp_path), collect(FORMS, pieces(last), longest=8)):
        batch = made.gather(np.array([2, 0]))
        assert {name: str(value.dtype) for name, value in batch.items()} == dict.fromkeys(
            FORMS, "int32")
        assert {str(dtype) for dtype, _ in made.specs().values()} == {"int32"}
        assert batch["ids"].tolist() == [[1, 2, 3, 7], [5, 65_535, 7, 7]]
        assert batch["mask"].tolist() == [[1, 1, 1, 0], [1, 1, 0, 0]]
        assert batch["segments"].tolist() == [[0, 0, last, 0], [0, 0, 0, 0]]
        assert made.inputs.row(0)["ids"].dtype == "int32"
        assert made.inputs.columns["ids"].values.dtype == "uint16"
        whole = joined([made.inputs]).columns
        assert is_constant(whole["mask"].values)
        assert is_constant(whole["segments"].values) == (last == 0)
    assert not (tmp_path / "mask.bin").exists()
    assert (tmp_path / "segments.bin").exists() == (last == 1)
    assert (tmp_path / "ids.bin").stat().st_size == 12


def test_a_number_that_does_not_fit_is_never_cut(tmp_path):
    large = [({"ids": np.array([65_536])}, np.array([1]))]
    with pytest.raises(ValueError, match=r"'ids' must hold numbers from 0 to 65535. Received: 655"):
        write(tmp_path, {"ids": FORMS["ids"]}, large)


def test_the_smallest_type_is_that_of_the_vocabulary():
    assert [smallest(n) for n in (0, 255, 256, 65_535, 65_536, 2**31)] == [
        "uint8", "uint8", "uint16", "uint16", "int32", "int64"]


@pytest.mark.parametrize("pair", [False, True])
def test_texts_are_kept_small_and_read_as_the_network_takes_them(tmp_path, pair):
    preprocess = tiny.text("bert", sequence_length=24).preprocess.paired(pair)
    texts = ["a film", "the quick brown fox", "good", "dull and never warm"]
    inputs = [(one, one) for one in texts] if pair else texts
    part = Examples("text", inputs, np.zeros(4, "int64"), tuple("abcd"))
    kept = prepare_splits({"train": part}, preprocess, Cache(tmp_path))["train"]
    wanted = {n: v.numpy() for n, v in preprocess(as_raw(inputs, "text")).items()}
    assert len(texts) < TEXTS_AT_ONCE
    for made in (kept, prepare(part, preprocess)):
        found = made.gather(np.arange(4))
        for name, values in wanted.items():
            assert found[name].dtype == values.dtype == "int32"
            np.testing.assert_array_equal(found[name][:, : values.shape[1]], values)
    tokens = int(wanted["padding_mask"].sum())
    sizes = {file.name: file.stat().st_size for file in tmp_path.rglob("*.bin")}
    assert sizes == {"token_ids.bin": 2 * tokens} | ({"segment_ids.bin": tokens} if pair else {})


ODD = [
    "", " ", "a film", "  two  blanks ", "tab\tand\nline", "Éclair déjà-vu", "e\u0301 \u0301x",
    "don't!", "中文 字 mixed中", "\u00a0hard\u00a0blank", "x" * 120 + " y", "[MASK] [CLS]",
    "zero\u200bwidth", "\u3000",
    "the quick brown fox is a lazy dog " * 9, "ΣΑΣ ς", "İstanbul", "a a a a", "\x00 a",
    "Привет, мир и the film", "a \u0301 b", "\t \n", "\u115f a", "naïve  café (good)",
]  # fmt: skip


def preprocessing(*, accents=False, length=24, **settings):
    """Return a preprocessing of words, with a vocabulary of its own."""
    made = tiny.text("bert", sequence_length=24).preprocess
    tokenizer = keras_hub.tokenizers.BertTokenizer(
        vocabulary=list(made.tokenizer.vocabulary), lowercase=accents, strip_accents=accents
    )
    return TextPreprocess(
        tokenizer, **{"inputs": made.inputs, "sequence_length": length, **settings}
    )


def assert_same_rows(preprocess, texts, sizes):
    """Hold rows end to end against those that the graph gives, all at once."""
    wanted = {n: v.numpy() for n, v in preprocess(as_raw(texts, "text")).items()}
    mask = wanted.get("padding_mask", np.ones_like(wanted["token_ids"])).astype(bool)
    for size in sizes:
        pieces = [preprocess.end_to_end(texts[i : i + size]) for i in range(0, len(texts), size)]
        lengths = np.concatenate([one for _, one in pieces])
        np.testing.assert_array_equal(lengths, mask.sum(axis=1))
        for name, values in wanted.items():
            found = np.concatenate([rows[name] for rows, _ in pieces])
            assert found.dtype == values.dtype
            np.testing.assert_array_equal(found, values[mask])


@pytest.mark.parametrize("most", [3, word_tokens.MOST])
@pytest.mark.parametrize("accents", [False, True])
def test_rows_without_padding_are_those_with_it(accents, most, monkeypatch):
    monkeypatch.setattr(word_tokens, "MOST", most)
    preprocess = preprocessing(accents=accents)
    assert_same_rows(preprocess, ODD, (len(ODD), 4, 1))
    preprocess.start = preprocess.end = None  # as of a vocabulary without frame tokens
    preprocess._packed = preprocess._traced()
    assert_same_rows(preprocess, ODD, [len(ODD)])


@pytest.mark.every(3)  # each form once, each length once or more
@pytest.mark.parametrize("length", [1, 6, 24])
@pytest.mark.parametrize(
    ("doubled", "framed", "masked"),
    [(False, True, True), (True, True, True), (False, False, True), (False, True, False)],
)
def test_pairs_without_padding_are_those_with_it(doubled, framed, masked, length):
    inputs = ("token_ids", "segment_ids", *["padding_mask"] * masked)
    preprocess = preprocessing(inputs=inputs, doubled=doubled, length=length, pair=True)
    if not framed:
        preprocess.start = preprocess.end = None
        preprocess._packed = preprocess._traced()
    # Each text with a shorter one and a longer one.
    pairs = [*zip(ODD, ODD[::-1], strict=True), *zip(ODD, ODD[3:] + ODD[:3], strict=True)]
    assert_same_rows(preprocess, pairs, (len(pairs), 7))


def test_without_a_mask_all_rows_are_as_long(tmp_path):
    preprocess = preprocessing(inputs=("token_ids", "segment_ids"))
    assert_same_rows(preprocess, ODD, (len(ODD), 5))
    _, lengths = preprocess.end_to_end(ODD)
    assert set(lengths.tolist()) == {24}


@pytest.mark.parametrize("name", ["stsb", "sst2"])
def test_real_texts_have_the_tokens_that_the_graph_gives(real_data, name):
    if name == "stsb":
        with open(real_data / "stsb" / "dev.csv", encoding="utf-8", newline="") as file:
            texts = [tuple(row[:2]) for row in csv.reader(file)]
    else:
        lines = (real_data / "sst2" / "dev.tsv").read_text("utf-8").splitlines()
        texts = [line.split("\t")[0] for line in lines]
    assert len(texts) > 800
    words = sorted({word for one in texts for text in ([one] if name == "sst2" else one)
                    for word in text.lower().split()})  # fmt: skip
    # Some of the words whole, the others in pieces.
    known = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words[::3]]
    letters = sorted({letter for word in words for letter in word})
    tokenizer = keras_hub.tokenizers.BertTokenizer(
        vocabulary=list(dict.fromkeys([*known, *letters, *(f"##{one}" for one in letters)])),
        lowercase=True,
    )
    preprocess = TextPreprocess(
        tokenizer, inputs=("token_ids", "segment_ids", "padding_mask"), sequence_length=32,
        pair=name == "stsb",
    )
    assert_same_rows(preprocess, texts, [len(texts)])


def test_rows_are_left_to_the_graph_where_words_are_not_apart_or_no_texts():
    preprocess = tiny.text("bert", sequence_length=24).preprocess
    assert preprocess.end_to_end([b"a"]) is preprocess.end_to_end([("a", "b")]) is None
    pairs = preprocess.paired(True)
    assert pairs.end_to_end(["ab"]) is pairs.end_to_end([("a", "b", "c")]) is None
    assert tiny.text("gpt2", sequence_length=24).preprocess.end_to_end(["a"]) is None
