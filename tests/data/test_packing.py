"""Blocks hold every token once, and follow from documents, length and seed alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kerasft.data import documents, packing


@given(st.lists(st.integers(1, 20), min_size=1, max_size=60), st.integers(0, 3))
def test_documents_stand_whole_in_blocks_that_hold_them(lengths, seed):
    blocks = packing.fitted(np.array(lengths), 20, seed)
    assert sorted(np.concatenate(blocks).tolist()) == list(range(len(lengths)))
    sums = [sum(lengths[i] for i in block) for block in blocks]
    assert max(sums) <= 20
    # Any two blocks hold more together than one could.
    assert all(a + b > 20 for i, a in enumerate(sums) for b in sums[i + 1 :])
    again = packing.fitted(np.array(lengths), 20, seed)
    assert all(np.array_equal(a, b) for a, b in zip(blocks, again, strict=True))


def test_another_seed_packs_others_together():
    lengths = np.full(40, 5)
    first, second = (packing.fitted(lengths, 20, seed) for seed in (0, 1))
    assert [sorted(b.tolist()) for b in first] != [sorted(b.tolist()) for b in second]


@pytest.mark.parametrize("count", [1, 2, 7, 8, 9, 30])
def test_a_stream_is_cut_so_that_each_token_is_learned_once(count):
    blocks = packing.cut(count, 8)
    learned = [place for start, stop in blocks for place in range(start + 1, stop)]
    assert learned == list(range(1, count))
    assert all(stop - start <= 8 for start, stop in blocks)


@given(st.text(alphabet="ab \n", max_size=80), st.integers(1, 12))
def test_parts_of_a_document_are_the_document(text, most):
    (parts,) = documents.cut([text], lambda texts: np.array([len(t) for t in texts]), most)
    assert "".join(parts) == text
    assert all(len(part) <= most for part in parts)


def test_a_document_is_cut_at_the_end_of_a_line_where_there_is_one():
    text = "a line here\nand another one\nand a third of them\n"
    (parts,) = documents.cut([text], lambda texts: np.array([len(t) for t in texts]), 20)
    assert parts[0] == "a line here\n"
