import json

import pytest
from table_files import ROWS, TEXTS, ask, everything, fails, write


def test_a_columns_name_goes_before_the_number_of_another(tmp_path):
    rows = [(i, text, label) for i, (text, label) in enumerate(ROWS)]
    path = write(tmp_path / "a.csv", rows, header=("", "0", "label"))
    assert sorted(everything(ask(path, text="0")).values()) == sorted(TEXTS)
    said = fails(path, text=0)
    assert "the column that is called '0', or the one of number 0, which is called ''" in said
    assert "'data.text=\"0\"'" in said
    assert "Numbers go from 0 to 2" in fails(path, text=-1)
    assert "Numbers go from 0 to 2" in fails(path, text=3)


def test_lists_of_columns_that_are_called_by_numbers(tmp_path):
    rows = [(i % 2, i // 2 % 2, i // 4 % 2, 1, text) for i, text in enumerate(TEXTS)]
    path = write(tmp_path / "a.csv", rows, header=("1", "2", "3", "4", "text"))
    assert "data.label=1 may mean" in fails(path, kind="multi", label=[1, 2, 3])
    splits = ask(path, kind="multi", label=["1", "2", "3"])
    assert splits.labels.names == ("1", "2", "3")
    by_text = {
        text: list(y) for part in splits.parts.values()
        for text, y in zip(part.inputs, part.labels, strict=True)
    }  # fmt: skip
    assert all(by_text[t] == list(row[:3]) for t, row in zip(TEXTS, rows, strict=True))


def test_columns_of_a_frame_without_names(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    labels = [label for _, label in ROWS]
    path = tmp_path / "a.parquet"
    parquet.write_table(pyarrow.table({"0": labels, "1": TEXTS}), path)
    for text, label in ((1, 0), ("1", "0")):
        splits = ask(path, text=text, label=label)
        assert sorted(everything(splits).values()) == sorted(TEXTS)
        assert splits.labels.names == ("a", "b")


def test_a_number_and_a_name_of_the_same_column_are_told(tmp_path):
    path = write(tmp_path / "a.csv")
    assert "mean the same column" in fails(path, text="text", label=0)


def test_a_class_may_be_called_null_in_a_list_of_names(tmp_path):
    rows = [(text, ["null", "a"][i % 2]) for i, text in enumerate(TEXTS)]
    path = write(tmp_path / "a.csv", rows)
    assert ask(path, label_names=[None, "a"]).labels.names == ("null", "a")


def test_a_column_may_be_called_true(tmp_path):
    path = write(tmp_path / "a.csv", header=("text", "true"))
    assert ask(path, label=True).labels.names == ("a", "b")


@pytest.mark.parametrize("suffix", ["jsonl", "json", "parquet", "csv"])
@pytest.mark.parametrize("convert", [int, bool, float])
def test_a_column_of_vectors_has_a_class_for_each_number(tmp_path, suffix, convert):
    vectors = [[convert(i & 1), convert(i >> 1 & 1), convert(1)] for i in range(40)]
    path = tmp_path / f"a.{suffix}"
    records = [{"text": t, "label": v} for t, v in zip(TEXTS, vectors, strict=True)]
    if suffix == "csv":
        write(path, [(t, v) for t, v in zip(TEXTS, vectors, strict=True)])
    elif suffix == "parquet":
        parquet = pytest.importorskip("pyarrow.parquet")
        pyarrow = pytest.importorskip("pyarrow")
        parquet.write_table(pyarrow.Table.from_pylist(records), path)
    else:
        lines = [json.dumps(record) for record in records]
        path.write_text("\n".join(lines) if suffix == "jsonl" else f"[{','.join(lines)}]")
    splits = ask(path, kind="multi", label_names=["a", "b", "c"])
    for part in splits.parts.values():
        for text, row in zip(part.inputs, part.labels, strict=True):
            i = TEXTS.index(text)
            assert row.tolist() == [i & 1, i >> 1 & 1, 1]


NO_HEADER = [
    (text, f"{i * 1.5 + 9:g}", i % 2, (i + 1) % 2, "ab"[i % 2]) for i, text in enumerate(TEXTS)
]


def test_an_example_of_numbers_is_not_lost_as_a_header(tmp_path):
    path = write(tmp_path / "a.csv", [row[:2] for row in NO_HEADER], header=None)
    said = fails(path, text=0, label=1, kind="number")
    assert "is a number like those of all other rows" in said and "data.header=false" in said
    whole = ask(path, text=0, label=1, kind="number", header=False)
    assert len(everything(whole)) == len(TEXTS)
    path = write(tmp_path / "b.csv", NO_HEADER, header=None)
    assert "data.header=false" in fails(path, text=0, label=4)
    assert "data.header=false" in fails(path, text=0, label=1, kind="number")
    for label in ([3], [2, 3], ["2", 3], 1):
        assert "data.header=false" in fails(path, text=0, label=label, kind="multi")


def test_columns_that_are_called_by_their_places_are_no_example(tmp_path):
    rows = [(text, i % 3) for i, text in enumerate(TEXTS)]
    path = write(tmp_path / "a.csv", rows, header=("0", "1"))
    assert len(everything(ask(path, text=0, label=1))) == len(TEXTS)


def test_a_column_that_is_called_by_a_year_is_chosen_by_name(tmp_path):
    rows = [(text, i) for i, text in enumerate(TEXTS)]
    path = write(tmp_path / "a.csv", rows, header=("text", "2019"))
    assert "choose the label by its name" in fails(path, text=0, label=1, kind="number")
    named = ask(path, text=0, label=1, kind="number", columns=["a", "b"])
    assert len(everything(named)) == len(TEXTS)
    assert len(everything(ask(path, text=0, label="2019", kind="number"))) == len(TEXTS)
    assert len(everything(ask(path, text=0, label=2019, kind="number"))) == len(TEXTS)


def test_a_header_of_unusual_words_is_shown_where_columns_are_chosen_by_number(tmp_path):
    path = write(tmp_path / "a.csv", [("a text", "rare"), *ROWS], header=None)
    assert "('a text', 'rare'); if it is an example" in ask(path, text=0, label=1).notices[0]
    assert not ask(write(tmp_path / "b.csv"), text=0, label=1).notices
    path = write(tmp_path / "c.csv", header=("words", "kind"))
    assert not ask(path, text="words", label="kind").notices


def test_classes_of_columns_that_are_chosen_by_number_have_their_names(tmp_path):
    rows = [(text, i % 2, i // 2 % 2) for i, text in enumerate(TEXTS)]
    path = write(tmp_path / "a.csv", rows, header=("text", "sport", "money"))
    for label in ([1, 2], ["1", "2"], ["sport", 2]):
        assert ask(path, kind="multi", label=label).labels.names == ("money", "sport")


def test_a_number_of_any_length_is_no_column(tmp_path):
    path = write(tmp_path / "a.csv")
    for label in ("9" * 5000, 10**5000, -(10**5000), "-" + "9" * 5000):
        said = fails(path, label=label)
        assert "no column" in said and len(said) < 1000
