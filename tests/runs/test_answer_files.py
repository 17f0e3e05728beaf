"""Files of answers: the same rows as JSON Lines, CSV and Parquet."""

from __future__ import annotations

import csv
import json
import os

import pytest

from kerasft.errors import UserError
from kerasft.runs.answer_files import check_output, written

FAILED = {"id": "0", "input": None, "error": "no path"}
ROWS = [
    {"id": "1", "input": "a", "label": "x", "probabilities": {"x": 0.75, "y": 0.25}, "error": None},
    {"id": "2", "input": "b", "label": "y", "probabilities": {"x": 0.5, "y": 0.5}, "error": None},
]


def table_of(file):
    with open(file, newline="", encoding="utf-8") as opened:
        return list(csv.DictReader(opened))


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_rows_come_in_pieces_and_a_failed_one_may_be_the_first(tmp_path, suffix):
    file = tmp_path / f"answers.{suffix}"
    with written(file) as write:
        write([FAILED])
        write(ROWS[:1])
        assert not file.exists()
        write(ROWS[1:])
    if suffix == "jsonl":
        found = [json.loads(line) for line in file.read_text().splitlines()]
        assert found == [FAILED, *ROWS]
        return
    if suffix == "csv":
        found = table_of(file)
        assert found[0]["label"] == "" and float(found[1]["probabilities_x"]) == 0.75
    else:
        import pyarrow.parquet

        found = pyarrow.parquet.read_table(file).to_pylist()
        assert found[0]["label"] is None and found[1]["probabilities_x"] == 0.75
    assert [row["id"] for row in found] == ["0", "1", "2"]
    assert found[0]["error"] == "no path"
    columns = ["id", "input", "label", "probabilities_x", "probabilities_y", "error"]
    assert sorted(found[0]) == sorted(columns) and list(found[0])[-1] == "error"
    assert os.listdir(tmp_path) == [file.name]  # noqa: PTH208


def test_objects_have_rows_in_csv_and_lists_in_parquet(tmp_path):
    import pyarrow.parquet

    cat = {"label": "cat", "score": 0.5, "box": [1.0, 2.0, 3.0, 4.0]}
    rows = [{"id": "1", "objects": [], "error": None},
            {"id": "2", "objects": [cat, cat], "error": None}]  # fmt: skip
    items = ["label", "score", "box"]
    for name in ("a.csv", "a.parquet"):
        with written(tmp_path / name, items) as write:
            for row in rows:
                write([row])
    found = table_of(tmp_path / "a.csv")
    assert list(found[0]) == ["id", "label", "score", "left", "top", "right", "bottom", "error"]
    assert [(row["id"], row["right"]) for row in found] == [("1", ""), ("2", "3.0"), ("2", "3.0")]
    table = pyarrow.parquet.read_table(tmp_path / "a.parquet")
    assert table["objects"].to_pylist() == [one["objects"] for one in rows]
    # Where nothing was found in any image, the type is the same.
    with written(tmp_path / "none.parquet", items) as write:
        write(rows[:1])
    assert pyarrow.parquet.read_schema(tmp_path / "none.parquet").field("objects").type == (
        table.schema.field("objects").type
    )


def test_bytes_and_odd_names(tmp_path):
    import pyarrow.parquet

    row = {"id": "caf\udce9", "png_bytes": b"\x89PNG"}
    for suffix in ("csv", "jsonl", "parquet"):
        with written(tmp_path / f"a.{suffix}") as write:
            write([row])
    assert table_of(tmp_path / "a.csv") == [{"id": "caf\\udce9"}]
    line = json.loads((tmp_path / "a.jsonl").read_text())
    assert line == {"id": "caf\udce9", "png_bytes": {"b64": "iVBORw=="}}
    (made,) = pyarrow.parquet.read_table(tmp_path / "a.parquet").to_pylist()
    assert made == {"id": "caf\\udce9", "png_bytes": b"\x89PNG"}


def test_what_fails_leaves_the_file_as_it_was(tmp_path):
    file = tmp_path / "answers.csv"
    file.write_text("mine")
    with pytest.raises(UserError, match="no"), written(file) as write:
        write(ROWS)
        raise UserError("no")
    assert file.read_text() == "mine" and len(list(tmp_path.iterdir())) == 1


def test_a_missing_library_is_said_with_the_command(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pyarrow.parquet", None)
    with pytest.raises(UserError, match="pip install pyarrow"):
        check_output("a.parquet")
    check_output("a.csv")
    with pytest.raises(UserError, match=r"must end in \.csv, \.jsonl or \.parquet"):
        check_output("a.xlsx")
