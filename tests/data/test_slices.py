from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image
from table_files import ask, fails, write

from kerasft.data import kept_splits, slices
from kerasft.data.given import given
from kerasft.data.slices import DISTINCT, MISSING, MOST, OTHERS, Values
from kerasft.data.sources.boxes_csv import boxes_csv
from kerasft.data.sources.chat import chat
from kerasft.data.sources.masks_table import masks_table
from kerasft.data.sources.memory import memory
from kerasft.data.sources.spans import spans
from kerasft.data.sources.table import table
from kerasft.data.tables.reading import Rows as TableRows
from kerasft.data.tables.slice_cells import slice_cells
from kerasft.errors import UserError
from kerasft.rows import Rows
from kerasft.spec import Examples, Labels, Splits
from kerasft.system.cache import Cache

ROWS = [
    (f"text number {i} " + "word " * (i % 12), "ab"[i % 2], ("en", "de", "", "fr")[i % 4], i)
    for i in range(80)
]
HEADER = ("text", "label", "language", "place")


def held(splits: Splits, column: str) -> dict[str, str]:
    """Return the name of the slice of each example, by its id."""
    names = splits.slices[column]
    return {
        one: names[code] for part in splits.parts.values() if part.slices is not None
        for one, code in zip(part.ids, part.slices[column], strict=True)
    }  # fmt: skip


def cut(cells, name="column"):
    values = Values(name)
    values.extend(cells)
    codes, names, said = values.cut()
    return [names[code] for code in codes], names, said


def refused(cells, name="column") -> str:
    with pytest.raises(UserError) as caught:
        cut(cells, name)
    return str(caught.value)


def test_what_has_no_value_is_a_slice_of_its_own():
    found, names, said = cut(["en", None, " ", "de", float("nan"), np.float32("nan"), "en "])
    assert found == ["en", MISSING, MISSING, "de", MISSING, MISSING, "en"]
    assert names == ("en", "de", MISSING) and not said


def test_few_numbers_are_classes_and_many_are_cut_into_parts():
    assert set(cut(["1", "5", "3", "1", "5"])[1]) == {"1", "3", "5"}
    found, names, _ = cut([*range(1, 31), None])
    assert names == ("1 to 10", "11 to 20", "21 to 30", MISSING)
    assert [found.count(name) for name in names] == [10, 10, 10, 1]
    # What is the same is in one part, however much of it there is.
    assert cut([0] * 50 + [*range(1, 15)])[1] == ("0", "1 to 14")
    assert set(cut([True, False, True, False])[1]) == {"True", "False"}
    # Numbers that begin alike, such as times, stay apart.
    assert cut(range(1_700_000_000, 1_700_000_030))[1][0] == "1700000000 to 1700000009"


def test_values_that_come_rarely_are_put_together_and_that_is_said():
    often = [f"often {i}" for i in range(MOST + 9) for _ in range(5)]
    found, names, (said,) = cut([*often, "once"])
    assert len(names) == MOST and names[-1] == OTHERS
    assert found.count(OTHERS) == 10 * 5 + 1
    assert f"'column' has {MOST + 10} values. The {MOST - 1} that come most often" in said
    assert "51 examples with other ones" in said


def test_values_of_one_example_each_are_refused():
    said = refused([f"row {i}" for i in range(9)], "id")
    assert "nearly each example has a value of its own in 'id' (9 in 9: 'row 0', " in said
    assert "Choose a column whose values come often" in said
    many = [f"row {i}" for i in range(MOST + 1)]
    assert "in 'id' (51 in 60" in refused([*many, *many[:9]], "id")
    assert "more than 10,000 different values" in refused(map(str, [*range(DISTINCT), "a", "b"]))
    assert "no example has a value in 'column'" in refused([None, ""])
    assert "must be words or numbers. Received: '[1, 2]', list" in refused(["a", [1, 2]])


def test_a_million_numbers_take_a_few_bytes_each():
    values = Values("place")
    values.extend(range(DISTINCT + 5_000))
    assert len(values.known) == DISTINCT
    half = values.choose(np.arange(DISTINCT, len(values)))
    assert half.cut()[1] == ("10000 to 11666", "11667 to 13333", "13334 to 14999")


def test_tables_give_the_columns_that_are_named(tmp_path):
    path = write(tmp_path / "a.csv", ROWS, HEADER)
    splits = ask(path, slices=["language", 3, "length"], limit=20)
    assert set(splits.slices) == {"language", "place"}  # `length` is for whoever asked for it
    languages = held(splits, "language")
    assert len(languages) == sum(map(len, splits.parts.values())) < 80
    for one, language in languages.items():
        row = ROWS[int(one.rpartition(":")[2]) - 2]
        assert language == (row[2] or MISSING)
    assert splits.test.take([1]).slices["language"] == splits.test.slices["language"][1]
    assert splits.source == ask(path, limit=20).source  # the manifest knows nothing of them


def test_numbers_of_classes_are_called_as_the_data_calls_them():
    cells = {"text": ["a"] * 3, "topic": [1, 0, None]}
    rows = TableRows("data", tuple(cells), cells, [0, 1, 2],
                     classes={"topic": ("sport", "art")})  # fmt: skip
    assert slice_cells(rows, ["topic"]) == {"topic": ["art", "sport", None]}


def test_columns_that_are_not_there_or_hold_the_labels_are_told(tmp_path):
    path = write(tmp_path / "a.csv", ROWS, HEADER)
    said = fails(path, slices=["langauge"])
    assert "slices: " in said and "has no column 'langauge'. Did you mean 'language'?" in said
    said = fails(path, slices=["language", "label"])
    assert "slices: 'label' is the column of labels." in said and "per_class" in said
    assert "is the column of labels" in fails(path, slices=[1])


def test_a_column_that_one_of_several_files_lacks_is_missing_there(tmp_path):
    path = write(tmp_path / "a.csv", ROWS, HEADER)
    other = write(tmp_path / "b.csv", [(*row[:2], "long") for row in ROWS[:20]],
                  ("text", "label", "length"))  # fmt: skip
    splits = ask(path, validation=str(other), test=0, slices=["length"])
    found = held(splits, "length")
    assert {found[one] for one in splits.train.ids} == {MISSING}
    assert {found[one] for one in splits.validation.ids} == {"long"}


def test_what_was_read_is_kept_with_its_slices(tmp_path, monkeypatch):
    monkeypatch.setattr(kept_splits, "FEWEST", 10)
    path = write(tmp_path / "a.csv", ROWS, HEADER)
    def read(build, **more):
        settings = {"path": str(path), "text": "text", "label": "label", **more}
        return kept_splits.read(
            table, "table", {**settings, "kind": "single", "seed": 0}, Cache(tmp_path / "cache"),
            build,
        )  # fmt: skip

    first = read(lambda: ask(path, slices=["language"]), slices=["language"])
    again = read(None, slices=["language"])
    assert again.slices == first.slices == {"language": again.slices["language"]}
    assert held(again, "language") == held(first, "language")
    assert not read(lambda: ask(path)).slices


def test_large_tables_are_read_in_pieces_with_their_slices(tmp_path):
    from kerasft.data.spool import spooled_in

    path = write(tmp_path / "a.csv", ROWS, HEADER)
    plain = ask(path, slices=["language", "place"])
    folder = tmp_path / "spool"
    folder.mkdir()
    with spooled_in(folder):
        splits = ask(path, slices=["language", "place"])
        assert splits.slices == plain.slices
        assert held(splits, "place") == held(plain, "place")


def test_lengths_of_texts_need_no_column():
    def part(*texts):
        return Examples("text", list(texts), Rows.of({"label": np.zeros(len(texts))}),
                        tuple(map(str, texts)))  # fmt: skip

    whole = Splits(
        part("a b", "a b c", "a", ("a b", "c d e")), part("一二三四五六七"), None,
        Labels("single", ("x",)),
    )  # fmt: skip
    whole.train.note(np.zeros((4, 32), "uint8"), None)
    splits = slices.completed(whole, ["length"], "mine", reads=False)
    assert splits.slices["length"] == ("1 to 2 words", "3 to 5 words", "7 words")
    assert splits.train.slices["length"].tolist() == [0, 1, 0, 1]
    assert splits.validation.slices["length"].tolist() == [2]
    assert splits.train.noted[0] is whole.train.noted[0]


@pytest.mark.parametrize(("modality", "allowed"), [
    ("text", "Allowed: length, the words of a text."), ("images", "bring the images in a table"),
])  # fmt: skip
def test_sources_without_columns_say_what_there_is(modality, allowed):
    one = Examples(modality, ["a"], Rows.of({"label": np.zeros(1)}), ("a",))
    splits = Splits(one, one, None, Labels("single", ("x",)))
    with pytest.raises(UserError) as caught:
        slices.completed(splits, ["source"], "mine.read", reads=False)
    said = str(caught.value)
    assert said.startswith("slices: mine.read reads no columns beside the labels")
    assert allowed in said and said.endswith("Received: source.")
    assert slices.completed(splits, [], "mine.read", reads=False) is splits


def test_data_given_in_python_has_them_for_images_boxes_and_masks():
    pixels = [np.full((8, 8, 3), i * 4, "uint8") for i in range(40)]
    clinics = ["north", "south"] * 20
    with given({"image": pixels, "label": ["a", "b"] * 20, "clinic": clinics}):
        splits = memory(kind="single", seed=0, slices=["clinic"])
    assert set(held(splits, "clinic").values()) == {"north", "south"}
    boxes = [{"bbox": [[1.0, 1.0, 5.0, 5.0]], "category": ["cell"]}] * 40
    with given({"image": pixels, "objects": boxes, "clinic": clinics}):
        splits = memory(kind="boxes", seed=0, slices=["clinic"], box_format="xyxy")
    assert len(held(splits, "clinic")) == 40
    for one, clinic in held(splits, "clinic").items():
        assert clinic == clinics[int(one.rpartition(":")[2])]
    masks = [np.full((8, 8), i % 2, "uint8") for i in range(40)]
    with given({"image": pixels, "mask": masks, "clinic": clinics}):
        splits = memory(kind="masks", seed=0, slices=["clinic"])
    assert set(held(splits, "clinic").values()) == {"north", "south"}


def test_images_of_tables_have_them(tmp_path):
    for i in range(40):
        Image.fromarray(np.full((8, 8, 3), i * 4, "uint8")).save(tmp_path / f"{i}.png")
        Image.fromarray(np.full((8, 8), i % 2, "uint8")).save(tmp_path / f"mask{i}.gif")
    rows = [{"file_name": f"{i}.png", "label": "ab"[i % 2], "clinic": "ns"[i % 2]}
            for i in range(40)]  # fmt: skip
    (tmp_path / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)), "utf-8")
    splits = table(str(tmp_path), kind="single", seed=0, label="label", slices=["clinic"])
    assert set(held(splits, "clinic").values()) == {"n", "s"}
    header = ("filename", "xmin", "ymin", "xmax", "ymax", "class", "clinic")
    # Of an image with several rows the first one counts.
    boxes = [(f"{i}.png", 1, 1, 5, 5, "cell", "ns"[i % 2] if first else "other")
             for i in range(40) for first in (True, False)]  # fmt: skip
    file = write(tmp_path / "boxes.csv", boxes, header)
    splits = boxes_csv(str(file), kind="boxes", seed=0, slices=["clinic"])
    assert set(held(splits, "clinic").values()) == {"n", "s"}
    pairs = [(f"{i}.png", f"mask{i}.gif", "ns"[i % 2]) for i in range(40)]
    file = write(tmp_path / "masks.csv", pairs, ("image", "mask", "clinic"))
    splits = masks_table(str(file), kind="masks", seed=0, slices=["clinic"])
    assert set(held(splits, "clinic").values()) == {"n", "s"}


def test_conversations_have_them_without_rows_that_are_left_out(tmp_path):
    file = tmp_path / "chat.jsonl"
    rows = [{"q": f"say {i}", "a": "" if i % 5 == 4 else f"so {i}", "topic": "xy"[i % 2],
             "meta": {"year": 2000 + i % 3}} for i in range(50)]  # fmt: skip
    file.write_text("\n".join(map(json.dumps, rows)), "utf-8")
    splits = chat(str(file), kind="language", seed=0, prompt="q", answer="a",
                  slices=["topic", "meta.year", "length"])  # fmt: skip
    assert set(splits.slices) == {"topic", "meta.year"}
    for one, topic in held(splits, "topic").items():
        assert topic == rows[int(one.rpartition(":")[2]) - 1]["topic"]
    assert set(held(splits, "meta.year").values()) == {"2000", "2001", "2002"}


def test_tagged_texts_have_them(tmp_path):
    file = tmp_path / "all.jsonl"
    rows = [{"text": f"Ann {i} is here", "label": [[0, 3, "PER"]], "source": "pq"[i % 2]}
            for i in range(30)]  # fmt: skip
    file.write_text("\n".join(map(json.dumps, rows)), "utf-8")
    splits = spans(str(file), kind="spans", seed=0, slices=["source"])
    assert set(held(splits, "source").values()) == {"p", "q"}
