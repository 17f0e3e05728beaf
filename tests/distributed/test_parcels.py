"""What one worker sends another comes back as it was."""

import numpy as np
import pytest
from two_workers import together

from kerasft.distributed import group
from kerasft.distributed.parcels import packed, unpacked


def test_arrays_of_all_kinds_come_back():
    import tensorflow as tf

    texts = np.array([["Zürich".encode(), b""], [b"\0", b"a\0\0"]], object)
    given = {
        "halves": tf.constant([[1.5], [-2.0]], tf.bfloat16).numpy(), "none": np.zeros((0, 3)),
        "text": texts, "flags": np.array([True, False]), "one": np.float32(0.1).reshape(()),
        "nothing": np.zeros(0, object), "turned": np.arange(6).reshape(2, 3).T,
    }  # fmt: skip
    found = unpacked(packed(given))
    assert list(found) == list(given)
    for name, array in given.items():
        assert found[name].dtype == array.dtype, name
        np.testing.assert_array_equal(found[name], array)


@pytest.mark.parametrize("sizes", [(0, 0), (5, 0), (3, 4), (8, 1), (64, 65)])
def test_parcels_of_any_size_reach_all_workers(monkeypatch, sizes):
    parcels = [bytes(range(100, 100 + size)) for size in sizes]
    monkeypatch.setattr(group, "PIECE", 8)
    found = together(monkeypatch, lambda one: one.parcels(parcels[one.rank]))
    assert found == [parcels, parcels]


def test_texts_and_numbers_of_workers(monkeypatch):
    found = together(monkeypatch, lambda one: (
        one.texts(["", "Zürich"][one.rank]), one.from_first([[0.1, -3e300], [7.0, 7.0]][one.rank]),
        one.any(one.rank == 1, False),
    ))
    assert found == [(["", "Zürich"], [0.1, -3e300], [True, False])] * 2
