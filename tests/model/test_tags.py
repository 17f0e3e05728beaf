"""Tags are decided as the likeliest sequence that is allowed."""

import itertools

import numpy as np
import pytest
import tensorflow as tf

from kerasft.model.text import tags


def test_the_likeliest_sequence_is_that_of_all_that_are_allowed():
    random = np.random.default_rng(0)
    chances = random.dirichlet(np.ones(5) * 0.5, (6, 4)).astype("float32")
    lengths = [4, 3, 1, 0, 4, 2]
    real = np.arange(4) < np.array(lengths)[:, None]
    found = tags.decoded(np.log(chances), tf.constant(real), constrained=True).numpy()
    may = tags.allowed(5)
    for row, length in enumerate(lengths):
        ways = [way for way in itertools.product(range(5), repeat=length)
                if all(may[a, b] for a, b in itertools.pairwise((0, *way)))]  # fmt: skip
        best = max(ways, key=lambda way: sum(
            np.log(chances[row, place, tag]) for place, tag in enumerate(way)
        ))  # fmt: skip
        assert found[row].tolist() == [*best, *[0] * (4 - length)]


def test_nothing_is_decided_where_there_is_no_word():
    for constrained in (True, False):
        found = tags.decoded(
            tf.zeros([2, 0, 5]), tf.zeros([2, 0], tf.bool), constrained=constrained
        )
        assert found.shape == (2, 0)


def test_what_may_follow_what():
    # O, B-x, I-x, B-y, I-y
    assert tags.allowed(5).astype(int).tolist() == [
        [1, 1, 0, 1, 0], [1, 1, 1, 1, 0], [1, 1, 1, 1, 0], [1, 1, 0, 1, 1], [1, 1, 0, 1, 1],
    ]  # fmt: skip


@pytest.mark.parametrize(("row", "spans"), [
    ([1, 2, 2, 0], [(0, 0, 2)]), ([1, 1], [(0, 0, 0), (0, 1, 1)]), ([2, 4], [(0, 0, 0), (1, 1, 1)]),
    ([0, 3, 4, 1, 2], [(1, 1, 2), (0, 3, 4)]), ([0, 0], []),
])  # fmt: skip
def test_entities_of_tags(row, spans):
    kinds, opens, closes = (part.numpy()[0] for part in tags.entities(tf.constant([row])))
    starts, ends = np.flatnonzero(opens), np.flatnonzero(closes)
    assert [(kinds[a], a, b) for a, b in zip(starts, ends, strict=True)] == spans
