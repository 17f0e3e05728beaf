from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kerasft.rows import Column, Rows, as_table, joined, of_table, padded_width

LENGTHS = st.lists(st.integers(0, 9), min_size=1, max_size=8)


def boxes_of(lengths, seed=0):
    random = np.random.default_rng(seed)
    return [random.normal(size=(n, 4)).astype("float32") for n in lengths]


def rows_of(lengths):
    boxes = boxes_of(lengths)
    classes = [np.arange(len(one)) + 10 * i for i, one in enumerate(boxes)]
    tokens = [np.arange(n + 1) for n in lengths]
    return Rows.of({
        "size": np.arange(len(lengths)) * 100.0,
        "boxes": Column.ragged(boxes, group="objects", fill=-1, shape=(4,)),
        "classes": Column.ragged(classes, group="objects", fill=-1, dtype="int64"),
        "tokens": Column.ragged(tokens, group="tokens", dtype="int32"),
    }), boxes, classes  # fmt: skip


@given(LENGTHS, st.data())
def test_a_batch_holds_the_rows_padded_by_their_group(lengths, data):
    rows, boxes, classes = rows_of(lengths)
    chosen = data.draw(st.lists(st.integers(0, len(lengths) - 1), min_size=1, max_size=6))
    batch = rows.take(chosen).gather(np.arange(len(chosen)))
    width = padded_width(np.array([lengths[i] for i in chosen]))
    assert width % 4 == 0 and width >= 4
    assert batch["boxes"].shape == (len(chosen), width, 4)
    assert batch["classes"].shape == (len(chosen), width)
    assert batch["tokens"].shape[1] == padded_width(np.array([lengths[i] + 1 for i in chosen]))
    for place, i in enumerate(chosen):
        assert batch["size"][place] == 100.0 * i
        np.testing.assert_array_equal(batch["boxes"][place, : lengths[i]], boxes[i])
        np.testing.assert_array_equal(batch["classes"][place, : lengths[i]], classes[i])
        assert (batch["boxes"][place, lengths[i] :] == -1).all()
        row = rows.row(i)
        np.testing.assert_array_equal(row["boxes"], boxes[i])
        assert row["size"] == 100.0 * i
    np.testing.assert_array_equal(rows.lengths("objects"), lengths)
    assert rows.lengths("others") is None


@given(LENGTHS, st.data())
def test_rows_are_joined_as_they_come_or_in_another_order(lengths, data):
    rows, boxes, _ = rows_of(lengths)
    order = np.array(data.draw(st.permutations(range(len(lengths)))))
    cut = data.draw(st.integers(0, len(lengths)))
    back = joined([rows.take(order[:cut]), rows.take(order[cut:])], order)
    for i, one in enumerate(boxes):
        np.testing.assert_array_equal(back.row(i)["boxes"], one)
        assert back.digest(i) == rows.digest(i)
    np.testing.assert_array_equal(back["size"], rows["size"])


def test_a_digest_tells_rows_apart_by_all_that_they_hold():
    one = Rows.of({"a": Column.ragged([[1, 2], [1], [1, 2]], group="g"), "b": np.zeros(3)})
    assert one.digest(0) == one.digest(2) != one.digest(1)
    other = Rows.of({"a": Column.ragged([[1, 2]], group="g"), "b": np.ones(1)})
    assert other.digest(0) != one.digest(0)


def test_no_row_is_padded_beyond_the_longest():
    values = np.arange(7)
    rows = Rows.of({"a": Column(values, np.array([7]), longest=7, group="tokens")})
    assert rows.gather(np.array([0]))["a"].shape == (1, 7)


def test_what_cannot_be_rows_is_refused():
    with pytest.raises(ValueError, match=r"as many rows each.*'a': 2, 'b': 3"):
        Rows.of({"a": np.zeros(2), "b": np.zeros(3)})
    with pytest.raises(ValueError, match=r"same lengths.*'b'"):
        Rows.of({
            "a": Column.ragged([[1], [2, 3]], group="g"),
            "b": Column.ragged([[1, 2], [3]], group="g"),
        })  # fmt: skip
    with pytest.raises(ValueError, match="is ragged"):
        Rows.of({"a": Column.ragged([[1]], group="g")})["a"]
    assert len(Rows.of({}, 3)) == 3


@pytest.mark.parametrize("columns", [
    {"starts": np.arange(3), "ends": np.arange(3) + 2},
    {"ends": Column.ragged([[1, 2], [], [3]], group="g"), "a": np.zeros(3)},
])  # fmt: skip
def test_a_table_gives_back_all_columns_whatever_they_are_called(columns):
    rows = Rows.of(columns)
    back = of_table(*as_table(rows, "kept"), "kept")
    assert list(back.columns) == list(rows.columns)
    assert [back.digest(i) for i in range(3)] == [rows.digest(i) for i in range(3)]
