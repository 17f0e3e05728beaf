"""Files of rows: what their bytes and numbers stand for."""

import codecs
import json
import time

import numpy as np
import pytest

from kerasft.data.annotations.list_cells import Cell, value_of
from kerasft.data.tables.parts import Parts
from kerasft.data.tables.readers import read
from kerasft.data.tables.reading import Layout
from kerasft.data.tables.short_floats import shortest
from kerasft.errors import UserError

TEXT = "text,label\n" + "".join(f"text {i},{'ab'[i % 2]}\n" for i in range(24))


def parse(path, content=None, **settings):
    if content is not None:
        path.write_bytes(content)
    return read(path, Layout(**settings))


def test_one_mark_of_the_byte_order_is_no_text(tmp_path):
    path = tmp_path / "a.csv"
    for content, encoding in (
        (TEXT.encode("utf-16"), "utf-16-le"), (TEXT.encode("utf-16"), "utf-16"),
        (codecs.BOM_UTF8 * 2 + TEXT.encode(), "utf-8"), (codecs.BOM_UTF8 + TEXT.encode(), "cp1252"),
        (("\ufeff" + TEXT).encode("utf-16-be"), "utf-16-be"), (TEXT.encode("utf-32"), "utf-32"),
    ):  # fmt: skip
        assert parse(path, content, encoding=encoding).names == ("text", "label")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le"])
def test_the_encoding_that_is_advised_reads_the_file(tmp_path, encoding):
    with pytest.raises(UserError) as caught:
        parse(tmp_path / "a.csv", TEXT.encode(encoding))
    assert f"data.encoding={encoding}." in str(caught.value)
    assert parse(tmp_path / "a.csv", encoding=encoding).names == ("text", "label")


def test_numbers_of_few_bits_are_read_as_they_were_written(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    values = [0.1, None, 16777216.0, 1 / 3]
    parquet.write_table(pyarrow.table({
        "a": pyarrow.array(values, pyarrow.float32()),
        "b": pyarrow.array([[v] for v in values], pyarrow.list_(pyarrow.float32())),
        "c": pyarrow.array(np.array([0.1, 0.2, 0.3, 0.4], "float16")),
        "d": values,
    }), tmp_path / "a.parquet")  # fmt: skip
    found = parse(tmp_path / "a.parquet").cells
    assert found["a"] == [0.1, None, 16777216.0, 0.33333334]
    assert found["b"] == [[v] for v in found["a"]]
    assert found["c"] == [0.1, 0.2, 0.3, 0.4] and found["d"] == values


def test_the_shortest_text_leads_to_the_same_number():
    numbers = np.random.default_rng(0).normal(0, 1e9, 500).astype("float32")
    assert (np.array(shortest(numbers.tolist()), "float32") == numbers).all()
    assert str(shortest([float("nan"), float("inf")])) == "[nan, inf]"


def test_names_that_are_twice_in_an_object_are_mentioned(tmp_path):
    line = '{"text": "a", "label": "x", "label": "y"}'
    found = parse(tmp_path / "a.jsonl", f'{{"text": "b", "label": "z"}}\n{line}\n'.encode())
    assert list(found.cells["label"]) == ["z", "y"]
    assert "'label' in line 2" in found.notices[0]
    assert "'label' in the file" in parse(tmp_path / "b.json", f"[{line}]".encode()).notices[0]
    assert not parse(tmp_path / "c.jsonl", json.dumps({"text": "a"}).encode()).notices


@pytest.mark.parametrize(("name", "hinted"), [
    ("a.csv", True), ("a.parquet", False), ("a.txt", False),
])  # fmt: skip
def test_a_file_without_rows_has_a_header_only_where_a_line_was_taken_for_one(
    tmp_path, name, hinted
):
    import pyarrow
    import pyarrow.parquet

    path = tmp_path / name
    if name == "a.parquet":
        pyarrow.parquet.write_table(pyarrow.table({"text": [], "label": []}), path)
    else:
        path.write_text("text,label\n\n\n" if name == "a.csv" else " \n\n", "utf-8")
    layout = Layout("lines" if name == "a.txt" else "auto")
    for ask in (lambda: read(path, layout), lambda: list(Parts(path, layout, "data.path"))):
        with pytest.raises(UserError, match="holds no rows") as told:
            ask()
        assert ("was taken for the names of the columns" in str(told.value)) == hinted


@pytest.mark.parametrize(
    "cell",
    ["array(" + ",dtype=" * 50_000 + "x", "array([" + ", " * 200_000 + "x", "[" + " " * 300_000,
     "[" + "np." * 100_000 + "]", "[np." + "a" * 300_000 + "]", "['" + "\\" * 300_001 + "]",
     "tensor([" + ", dtype=" * 50_000 + ")", "1" * 300_000 + "x", "[" + "a" * 300_000 + "(]",
     "[" + "tensor(" * 50_000 + "]", "array([1], dtype=" + " " * 300_000 + "x"],
    ids=range(11),
)  # fmt: skip
def test_a_long_cell_takes_linear_time(cell):
    began = time.perf_counter()
    Cell.read(cell)
    assert value_of(cell) == cell
    assert time.perf_counter() - began < 5  # once it was minutes
