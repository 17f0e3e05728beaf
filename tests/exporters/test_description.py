"""What `preprocessing.json` says is enough to do it again, with none of our code."""

from __future__ import annotations

import io
import json
import unicodedata

import numpy as np
import pytest

from kerasft.exporters.description import write_preprocessing
from kerasft.exporters.tensors import as_feed
from kerasft.spec import Labels
from kerasft.tasks.classification import Classification
from kerasft.tasks.multi_label import MultiLabel

LABELS = Labels("single", ("a", "b", "c"))
TEXTS = ["A good film, isn't it?", "", "the fox " * 30, "dull: warm & cold (3/10)!!"]


def describe(preprocess, raw, folder, **further) -> tuple[dict, dict]:
    feed = as_feed(preprocess(raw))
    write_preprocessing(
        folder, preprocess=preprocess, task=Classification(), labels=LABELS, feed=feed,
        outputs={"logits": np.zeros((1, 3), "float32")}, name="tiny", **further,
    )  # fmt: skip
    return json.loads((folder / "preprocessing.json").read_text("utf-8")), feed


def words(text: str) -> list[str]:
    """Split at spaces and around punctuation."""
    found = [""]
    for letter in text:
        if letter.isspace():
            found.append("")
        elif unicodedata.category(letter).startswith("P") or letter in "$+<=>^`|~":
            found += [letter, ""]
        else:
            found[-1] += letter
    return [word for word in found if word]


def pieces(word: str, vocabulary: dict[str, int], facts: dict) -> list[int]:
    """Take the longest piece of the vocabulary again and again."""
    made, start = [], 0
    while start < len(word):
        for end in range(len(word), start, -1):
            piece = (facts["suffix_indicator"] if start else "") + word[start:end]
            if piece in vocabulary:
                made.append(vocabulary[piece])
                start = end
                break
        else:
            return [vocabulary[facts["oov_token"]]]
    return made


@pytest.mark.every(9)
@pytest.mark.parametrize("pair", [False, True])
def test_wordpiece_from_the_description_alone(pair, make, tmp_path):
    _, preprocess = make.texts("bert", length=24, pair=pair)
    raw = list(zip(TEXTS, TEXTS[::-1], strict=True)) if pair else TEXTS
    facts, feed = describe(preprocess, raw, tmp_path)
    tokenizer, special = facts["tokenizer"], facts["special_ids"]
    assert tokenizer["algorithm"] == "wordpiece"
    (file,) = [f for f in tokenizer["files"] if f.endswith("vocabulary.txt")]
    lines = (tmp_path / file).read_text("utf-8").splitlines()
    vocabulary = {token: i for i, token in enumerate(lines)}
    rows = []
    for example in raw:
        sides = [
            [i for word in words(text.lower()) for i in pieces(word, vocabulary, tokenizer)]
            for text in (example if pair else [example])
        ]
        room = facts["sequence_length"] - len([p for p in facts["layout"] if "text" not in p])
        while sum(map(len, sides)) > room:
            longest = max(sides, key=len)
            (sides[1] if pair and len(sides[0]) == len(sides[1]) else longest).pop()
        filled = dict(zip(("text", "text_pair"), sides, strict=False))
        row = [filled[p] if p in filled else [special[p]] for p in facts["layout"]]
        ids = [i for part in row for i in part]
        first = len(ids) if not pair else 2 + len(sides[0])
        rows.append((ids, [0] * first + [1] * (len(ids) - first)))
    width = max(len(ids) for ids, _ in rows)
    for (ids, segments), *found in zip(rows, feed["token_ids"], feed["segment_ids"],
                                       feed["padding_mask"], strict=True):  # fmt: skip
        padding = [facts["padding"]["values"]["token_ids"]] * (width - len(ids))
        assert found[0].tolist() == ids + padding
        assert found[1].tolist() == segments + [0] * len(padding)
        assert found[2].tolist() == [1] * len(ids) + [0] * len(padding)


@pytest.mark.parametrize("family", ["gpt2", "albert"])
@pytest.mark.slow
def test_other_tokenizers_name_their_files(family, make, tmp_path):
    _, preprocess = make.texts(family)
    facts, _ = describe(preprocess, TEXTS, tmp_path)
    named = {"gpt2": "byte-level byte-pair encoding", "albert": "sentencepiece"}[family]
    assert facts["tokenizer"]["algorithm"] == named
    assert all((tmp_path / file).is_file() for file in facts["tokenizer"]["files"])
    wanted = {"gpt2": ("merges.txt", "vocabulary.json"), "albert": ("vocabulary.spm",)}[family]
    assert all(any(f.endswith(w) for f in facts["tokenizer"]["files"]) for w in wanted)


def test_images_from_the_description_alone(make, tmp_path):
    from PIL import Image

    _, preprocess = make.images("resnet", size=16)
    # Enlarged: there antialiasing changes nothing, and bilinear weights are easily written down.
    pixels = np.random.default_rng(0).integers(0, 256, (8, 12, 3)).astype("uint8")
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    facts, feed = describe(preprocess, [file.getvalue()], tmp_path)
    assert facts["size"] == [16, 16]
    assert (facts["resize"], facts["interpolation"]) == ("crop", "bilinear")
    assert facts["normalization"].startswith("inside the network")
    height, width = facts["size"]
    scale = max(height / 8, width / 12)
    rows, columns = round(8 * scale), round(12 * scale)

    def weights(size: int, of: int) -> np.ndarray:
        at = np.clip((np.arange(size) + 0.5) * of / size - 0.5, 0, of - 1)
        low = np.floor(at).astype(int)
        made = np.zeros((size, of))
        made[np.arange(size), low] += 1 - (at - low)
        made[np.arange(size), np.minimum(low + 1, of - 1)] += at - low
        return made

    large = np.einsum("yi,ijc,xj->yxc", weights(rows, 8), pixels.astype(float),
                      weights(columns, 12))  # fmt: skip
    top, left = (rows - height) // 2, (columns - width) // 2
    cut = np.clip(np.round(large[top : top + height, left : left + width]), 0, 255)
    assert np.abs(cut - feed["images"][0].astype(float)).max() <= 1
    assert (cut == feed["images"][0]).mean() > 0.99


@pytest.mark.slow
def test_decisions_and_scaling(make, tmp_path, images):
    _, preprocess = make.images("resnet", size=16)
    scaling = {"scale": 0.1, "offset": -1.0, "bgr": False}
    facts, _ = describe(preprocess, images[:1], tmp_path, scaling=scaling)
    assert facts["normalization"]["scale"] == 0.1
    assert facts["decision"] == {"rule": "the label with the largest of probabilities"}
    write_preprocessing(
        tmp_path, preprocess=preprocess, task=MultiLabel(threshold=0.3),
        labels=Labels("multi", ("a", "b")), feed=as_feed(preprocess(images[:1])),
        outputs={"probabilities": np.zeros((1, 2), "float32")}, name="x",
    )  # fmt: skip
    facts = json.loads((tmp_path / "preprocessing.json").read_text("utf-8"))
    assert facts["decision"]["threshold"] == 0.3
    assert facts["outputs"] == {"probabilities": {"dtype": "float32", "shape": [None, 2]}}
