"""Texts with the places of their entities, as programs write them."""

from __future__ import annotations

import json

import pytest

from kerasft.data.annotations.plain import plain
from kerasft.data.sources.spans import spans
from kerasft.errors import UserError
from kerasft.testing import check_data

TEXT = "Anna is in Rome"
PLACE = {"type": "place", "text": "Rome", "start": 11, "end": 15}
PERSON = {"type": "person", "text": "Anna", "start": 0, "end": 4}


def write(folder, rows, name="train.jsonl"):
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    (folder / name).write_text(lines, "utf-8")
    return folder


def read(path, **settings):
    return spans(str(path), kind="spans", seed=0, **{"test": 0.0, **settings})


def both(folder, row):
    """Write a row to train on, and another like it to validate on."""
    write(folder, [row])
    again = json.loads(json.dumps(row).replace("Anna is", "Otto is"))
    return write(folder, [again], "dev.jsonl")


FORMS = {
    "doccano": {"text": TEXT, "label": [[11, 15, "place"], [0, 4, "person"]]},
    "doccano relations": {"text": TEXT, "entities": [
        {"id": 1, "start_offset": 11, "end_offset": 15, "label": "place"},
        {"id": 2, "start_offset": 0, "end_offset": 4, "label": "person"},
    ], "relations": []},
    "prodigy": {"text": TEXT, "spans": [{"start": 0, "end": 4, "label": "person"},
                                        {"start": 11, "end": 15, "label": "place"}]},
    "label studio": {"id": 7, "data": {"text": TEXT}, "annotations": [
        {"was_cancelled": True, "result": []},
        {"result": [
            {"type": "labels", "value": {"start": 11, "end": 15, "text": "Rome",
                                         "labels": ["place"]}},
            {"type": "labels", "value": {"start": 0, "end": 4, "labels": ["person"]}},
            {"type": "choices", "value": {"choices": ["fine"]}},
        ]},
    ]},
    "label studio, short": {"text": TEXT, "label": [
        {"start": 0, "end": 4, "text": "Anna", "labels": ["person"]},
        {"start": 11, "end": 15, "text": "Rome", "labels": ["place"]},
    ]},
    "words": {"tokens": TEXT.split(), "ner_tags": ["B-person", "O", "O", "B-place"]},
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_each_form_is_read(form, tmp_path):
    splits = read(both(tmp_path, FORMS[form]))
    check_data(splits)
    assert splits.train.inputs == [TEXT]
    assert plain(splits.train, splits.labels) == [[PERSON, PLACE]]


def test_numbers_of_tags(tmp_path):
    folder = both(tmp_path, {"tokens": TEXT.split(), "ner_tags": [1, 0, 0, 2]})
    splits = read(folder, tag_names=["O", "B-person", "B-place"])
    assert plain(splits.train, splits.labels) == [[PERSON, PLACE]]
    with pytest.raises(UserError, match=r"train\.jsonl:1: tags are numbers.*data\.tag_names"):
        read(folder)
    with pytest.raises(UserError, match=r"data\.tag_names has 2 tags, .* Received: 2"):
        read(folder, tag_names=["O", "B-person"])


def test_names_of_tags_that_parquet_brings_along(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    about = {"info": {"features": {
        "tokens": {"feature": {"dtype": "string", "_type": "Value"}, "_type": "Sequence"},
        "ner_tags": {"feature": {"names": ["O", "B-person", "B-place"], "_type": "ClassLabel"},
                     "_type": "Sequence"},
    }}}  # fmt: skip
    for name, who in (("train", "Anna"), ("validation", "Otto")):
        table = pyarrow.table({"tokens": [[who, *TEXT.split()[1:]]], "ner_tags": [[1, 0, 0, 2]]})
        table = table.replace_schema_metadata({"huggingface": json.dumps(about)})
        parquet.write_table(table, tmp_path / f"{name}-00000-of-00001.parquet")
    splits = read(tmp_path)
    assert plain(splits.train, splits.labels) == [[PERSON, PLACE]]


@pytest.mark.parametrize(("offsets", "start"), [("characters", 2), ("utf16", 3), ("bytes", 5)])
def test_offsets_are_counted_in_one_of_three_ways(offsets, start, tmp_path):
    folder = both(tmp_path, {"text": "😀 Rome, Anna is", "label": [[start, start + 4, "place"]]})
    splits = read(folder, offsets=offsets)
    assert plain(splits.train, splits.labels)[0][0]["text"] == "Rome"


def test_what_is_odd_is_named_and_counted(tmp_path):
    odd = [
        [11, 15, "place"], [11, 15, "place"], [8, 15, "phrase"], [0, 5, "person"], [3, 3, "person"],
        [15, 20, "place"], [5, 6, "half"],
    ]  # fmt: skip
    rows = [{"text": TEXT, "label": odd}, {"text": " ", "label": []},
            *({"text": f"{name} Rome", "label": [[0, 4, "person"], [0, 9, "phrase"]]}
              for name in ("Anna", "Otto"))]  # fmt: skip
    write(tmp_path, rows)
    write(tmp_path, [{"text": "Otto", "label": [[0, 4, "person"]]}], "dev.jsonl")
    splits = read(tmp_path, label_names=["person", "phrase", "place", "half"])
    said = "\n".join(splits.notices)
    for words in (
        "1 text left out, as empty: train/train.jsonl:2.",
        "1 entity without a character, or with an end before the start, left out: "
        "train/train.jsonl:1: entity 5.",
        "1 entity beyond the end of the text left out: train/train.jsonl:1: entity 6.",
        "1 entity with blanks at the ends, which were taken off: train/train.jsonl:1: entity 4.",
        "1 entity marked twice, counted once: train/train.jsonl:1: entity 2.",
        "3 entities overlapping a longer one, left out: train/train.jsonl:1: 'Rome' (place)",
        "1 entity beginning or ending inside a word, which no tagger of words can find: "
        "train/train.jsonl:1: entity 7.",
    ):
        assert words in said
    assert [one["text"] for one in plain(splits.train, splits.labels)[0]] == [
        "Anna", "i", "in Rome",
    ]  # fmt: skip


def test_a_text_of_its_own_that_is_another_one(tmp_path):
    rows = [{"text": "😀 Rome and Rome", "label": [
        {"start": 3, "end": 7, "label": "place", "text": "Rome"},
        {"start": 12, "end": 16, "label": "place", "text": "Rome"},
    ]}]  # fmt: skip
    write(tmp_path, rows)
    write(tmp_path, [{"text": "Rome", "label": [[0, 4, "place"]]}], "dev.jsonl")
    with pytest.raises(UserError, match=r"'place' is in validation only, never in train"):
        read(tmp_path)
    splits = read(tmp_path, offsets="utf16")
    assert [one["start"] for one in plain(splits.train, splits.labels)[0]] == [2, 11]


@pytest.mark.parametrize(("row", "settings", "message"), [
    ({"text": TEXT, "label": [[11, "place"]]}, {}, r"train\.jsonl:1: an entity is \[start, end, t"),
    ({"text": TEXT, "label": [["11", "15", "place"]]}, {}, r"start and end being whole numbers"),
    ({"text": TEXT, "label": "place"}, {}, r"an entity is .* Received: place"),
    ({"text": TEXT, "label": [{"start": 1, "end": 2, "labels": ["a", "b"]}]}, {}, r"the label one"),
    ({"text": TEXT, "label": [[40, 50, "place"]]}, {}, r"2 of 2 entities do not lie in their text"),
    ({"text": TEXT, "other": []}, {}, r"has no column of entities that is called as usual"),
    ({"words": ["a"], "tags": ["O", "O"]}, {}, r"must be lists of the same length"),
    ({"text": TEXT, "label": []}, {"entities": "labels"}, r"data\.entities: .* no column 'label"),
    ({"text": TEXT, "label": []}, {"offsets": "chars"}, r"data\.offsets must be one of .*Did you"),
    ({"text": TEXT, "label": []}, {}, r"none of 2 texts has an entity"),
])  # fmt: skip
def test_what_is_wrong_is_said(row, settings, message, tmp_path):
    with pytest.raises(UserError, match=message):
        read(both(tmp_path, row), **settings)


@pytest.mark.parametrize(
    ("offsets", "span", "place"),
    [("utf16", [1, 7], (0, 6)), ("utf16", [0, 1], (0, 1)), ("bytes", [2, 9], (0, 6))],
)
def test_halves_of_characters_are_told(offsets, span, place, tmp_path):
    both(tmp_path, {"text": "\U0001f600 Anna is", "label": [[*span, "person"]]})
    splits = read(tmp_path, offsets=offsets)
    (found,) = plain(splits.train, splits.labels)[0]
    assert (found["start"], found["end"]) == place
    (said,) = [one for one in splits.notices if "within a character" in one]
    assert said.startswith("2 entities") and "train.jsonl:1: entity 1" in said
    whole = tmp_path / "whole"
    whole.mkdir()
    both(whole, {"text": "\U0001f600 Anna is", "label": [[3, 7, "person"]]})
    assert "within a character" not in " ".join(read(whole, offsets="utf16").notices)
