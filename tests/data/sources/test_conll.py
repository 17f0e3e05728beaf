"""Files of tagged words, and what is said of odd ones."""

from __future__ import annotations

import pytest

from kerasft.data.annotations.plain import plain
from kerasft.data.sources.conll import conll
from kerasft.errors import UserError
from kerasft.testing import check_data

ROME = "We O\nsaw O\nAnna B-person\nBerg I-person\nin O\nRome B-place\n. O\n"
PLAIN = "It O\nrains O\n. O\n"


def read(path, **settings):
    return conll(str(path), kind="spans", seed=0, **settings)


def folder(place, **files):
    for name, text in files.items():
        (place / name.replace("__", ".")).write_text(text, "utf-8")
    return place


def test_a_folder_with_a_file_for_each_split(tmp_path):
    folder(tmp_path, train__conll=f"{ROME}\n{PLAIN}", dev__conll=ROME.replace("We", "They"),
           test__conll=ROME.replace("We", "You"), README__md="about")  # fmt: skip
    splits = read(tmp_path)
    check_data(splits)
    assert splits.labels.names == ("person", "place")
    assert splits.train.inputs == ["We saw Anna Berg in Rome .", "It rains ."]
    assert splits.train.ids == ("train.conll:1", "train.conll:9")
    assert plain(splits.train, splits.labels) == [[
        {"type": "person", "text": "Anna Berg", "start": 7, "end": 16},
        {"type": "place", "text": "Rome", "start": 20, "end": 24},
    ], []]  # fmt: skip
    assert splits.source["scheme"] == "iob2"
    assert any("1 text of 4 without any entity" in notice for notice in splits.notices)


@pytest.mark.parametrize(
    ("change", "names"),
    [(lambda text: text.replace("B-", "b-").replace("I-", "i-").replace(" O", " o"),
      ("person", "place")),
     (lambda text: text.replace("B-person", "B").replace("I-person", "I").replace("B-place", "B"),
      ("entity",))],
)  # fmt: skip
def test_lower_case_and_bare_tags(tmp_path, change, names):
    folder(tmp_path, train__conll=change(ROME), dev__conll=change(ROME.replace("We", "They")))
    splits = read(tmp_path, test=0.0)
    assert splits.labels.names == names
    found = plain(splits.train, splits.labels)[0]
    assert [one["text"] for one in found] == ["Anna Berg", "Rome"]


def test_conll_2003_with_its_columns_names_and_documents(tmp_path):
    old = ROME.replace("B-", "I-").replace(" O", " NN O O").replace(" I-", " NN O I-")
    text = "".join(f"-DOCSTART- -X- -X- O\n\n{old.replace('We', f'We{n}')}\n" for n in range(9))
    folder(tmp_path, eng__train=text, eng__testa=old, eng__testb=old.replace("We", "You"))
    splits = read(tmp_path)
    assert splits.source["scheme"] == "iob1"
    assert any("read as IOB1" in notice for notice in splits.notices)
    assert len(splits.train) == 9 and len(splits.validation) == len(splits.test) == 1
    assert splits.train.inputs[0] == "We0 saw Anna Berg in Rome ."
    alone = read(tmp_path / "eng.train", validation=0.3, test=0.0)
    assert len(alone.train) + len(alone.validation) == 9


def test_documents_stay_together(tmp_path):
    text = "".join(
        f"-DOCSTART- O\n\n{ROME.replace('We', f'We{n}')}\n{PLAIN.replace('It', f'It{n}')}\n"
        for n in range(8)
    )
    splits = read(folder(tmp_path, all__conll=text), validation=0.25, test=0.25)
    for part in splits.parts.values():
        numbers = [text.split()[0][2:] for text in part.inputs]
        assert len(numbers) == 2 * len(set(numbers))


def test_columns_comments_and_chinese(tmp_path):
    rows = (
        "# id = 1\n1\t罗\tB-place\n2\t马\tI-place\n3\t好\tO\n\n"
        "# id = 2\n1\t#\tO\n2\t罗\tB-place\n"
    )
    folder(tmp_path, train__tsv=rows, dev__tsv=rows.replace("好", "美"))
    splits = read(tmp_path, token=1, joined_by="", test=0.0)
    assert splits.train.inputs == ["罗马好", "#罗"]
    assert plain(splits.train, splits.labels)[0][0]["text"] == "罗马"


def test_a_hash_as_a_word(tmp_path):
    rows = "# O\nRome B-place\n"
    splits = read(folder(tmp_path, train__txt=rows, dev__txt=rows + "too O\n"), test=0.0)
    assert splits.train.inputs == ["# Rome"]


def test_tags_without_a_begin_are_named(tmp_path):
    odd = ROME.replace("B-person", "I-person") + "\n" + ROME.replace("We", "He")
    folder(tmp_path, train__conll=odd, dev__conll=ROME.replace("We", "They"))
    splits = read(tmp_path, test=0.0)
    said = [notice for notice in splits.notices if "no begin" in notice]
    assert said == ["1 tag inside of an entity that has no begin (I- without B-), which begin one: "
                    "train.conll:1: 'Anna' (I-person)."]  # fmt: skip
    assert plain(splits.train, splits.labels)[0][0]["text"] == "Anna Berg"


@pytest.mark.parametrize(("files", "settings", "message"), [
    ({"train__conll": PLAIN, "dev__conll": PLAIN}, {}, r"data=conll: none of 2 texts has an ent"),
    ({"train__conll": ROME, "dev__conll": PLAIN}, {}, r"no text of validation has an entity"),
    ({"train__conll": ROME}, {}, r"1 examples leave none for: validation, test"),
    ({"train__conll": "Rome B-place\nParis\n"}, {}, r"lines with fewer columns .* line 2 \('Paris"),
    ({"train__conll": ROME}, {"tag": 5}, r"fewer columns than the others, or without a tag: lin"),
    ({"train__conll": ROME}, {"token": 7}, r"columns data\.token=7 and data\.tag=-1"),
    ({"train__conll": ROME, "dev__conll": ROME}, {"label_names": ["person"]},
     r"entities are of other types\. Received: 'place' \(2\)"),
    ({"train__conll": ROME, "dev__conll": ROME.replace("place", "town")}, {},
     r"The label 'town' is in validation only, never in train"),
    ({"train__conll": ROME, "train2__conll": ROME}, {}, r"several files of train: train\.conll"),
    ({"dev__conll": ROME, "other__conll": ROME}, {}, r"no file to train on, such as train\.conll"),
    ({"train__conll": ROME}, {"scheme": "bio"}, r"data\.scheme must be one of auto"),
    ({"train__conll": ROME}, {"empty": "drop"}, r"data\.empty must be one of"),
    ({"train__conll": ROME, "dev__conll": ROME.replace("B-place", "place")}, {},
     r"data\.tag: some tags say where an entity begins"),
])  # fmt: skip
def test_what_is_wrong_is_said(tmp_path, files, settings, message):
    by_ratio = {} if "leave none for" in message else {"test": 0.0}
    with pytest.raises(UserError, match=message):
        read(folder(tmp_path, **files), **by_ratio, **settings)


def test_another_task_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"data=conll reads entities in texts, which task=tagging"):
        conll(str(folder(tmp_path, train__conll=ROME)), kind="single", seed=0)
