"""Patterns for the paths of layers."""

from __future__ import annotations

import pytest

from kerasft.errors import UserError
from kerasft.system.patterns import found, required

PATHS = ["stem", "block_1", "block_1/query", "block_1/norm", "block_10", "block_10/norm",
         "head.out"]  # fmt: skip


@pytest.mark.parametrize(("pattern", "meant"), [
    ("block_1", ["block_1"]),  # itself, and not what contains it
    ("block_1/query", ["block_1/query"]),
    ("block_*", ["block_1", "block_10"]),  # a star stops at a slash
    ("block_*/norm", ["block_1/norm", "block_10/norm"]),
    ("**norm", ["block_1/norm", "block_10/norm"]),
    ("**", PATHS),
    ("block_1?", ["block_10"]),
    ("block_[!0]", ["block_1"]),
    ("^block_1$", ["block_1"]),  # a regular expression, searched
    ("norm|query", ["block_1/query", "block_1/norm", "block_10/norm"]),
    ("head.out", ["head.out"]),
    ("nothing", []),
])  # fmt: skip
def test_a_pattern_means(pattern, meant):
    assert found(pattern, PATHS) == meant


def test_several_patterns_keep_the_order_of_the_layers():
    assert required(["head.out", "stem"], PATHS) == ["stem", "head.out"]


def test_each_pattern_that_means_nothing_is_told_with_what_is_near():
    with pytest.raises(UserError) as told:
        required(["blok_1", "stem", "block_1/qery"], PATHS)
    assert list(told.value.problems) == [
        "No layer matches 'blok_1'. Did you mean 'block_1'?",
        "No layer matches 'block_1/qery'. Did you mean 'block_1/query'?",
    ]


def test_what_is_far_from_all_names_some():
    with pytest.raises(UserError, match=r"'zzz'. The nearest are 'stem', .*kerasft surgery"):
        required("zzz", PATHS)


def test_what_is_no_pattern_is_refused():
    with pytest.raises(UserError, match=r"expression .* Received: 'block_\(', which is none"):
        found("block_(", PATHS)
