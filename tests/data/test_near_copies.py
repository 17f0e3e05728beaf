"""Texts that are nearly those of another split are found, and others are not."""

from __future__ import annotations

import numpy as np
import pytest

from kerasft.data import near_copies
from kerasft.data.near_copies import find, jaccard, pieces, told
from kerasft.rows import Rows
from kerasft.spec import Examples, Labels, Splits

LONG = (
    "It was the best of times, it was the worst of times, it was the age of wisdom, it was the age "
    "of foolishness, it was the epoch of belief, it was the epoch of incredulity, it was the "
    "season of Light, it was the season of Darkness, it was the spring of hope."
)
OTHER = (
    "Call me Ishmael. Some years ago, never mind how long precisely, having little or no money in "
    "my purse, and nothing particular to interest me on shore, I thought I would sail about a "
    "little and see the watery part of the world."
)


def part(name, texts):
    ids = tuple(f"{name}:{i}" for i in range(len(texts)))
    return Examples("text", list(texts), Rows.of({}, len(texts)), ids)


def filler(count, seed=0):
    draw = np.random.default_rng(seed)
    words = np.array([f"w{i}" for i in range(3000)])
    return [" ".join(draw.choice(words, 40)) for _ in range(count)]


@pytest.mark.parametrize("changed", [
    LONG.replace("wisdom", "reason"), LONG.upper(), LONG.replace(" ", "  "), f"{LONG} Well.",
    f"\x1esystem\x1f{OTHER}\x1euser\x1f{LONG}",
])  # fmt: skip
def test_a_text_with_a_few_changes_is_found(changed):
    parts = {"train": part("train", [*filler(200), LONG, OTHER]),
             "validation": part("validation", [*filler(50, 1), changed])}  # fmt: skip
    found, looked_at = find(parts)
    assert looked_at == 253
    assert [(one.example, one.of_example) for one in found] == [("validation:50", "train:200")]
    assert found[0].share == jaccard(pieces(changed), pieces(LONG)) >= near_copies.ALIKE


def test_copies_other_texts_and_those_of_one_split_are_left_alone():
    half = LONG[: len(LONG) // 2] + OTHER[: len(OTHER) // 2]
    parts = {"train": part("train", [LONG, LONG.replace("wisdom", "reason"), ""]),
             "validation": part("validation", [LONG, half, OTHER, "", "a"])}  # fmt: skip
    found, _ = find(parts)
    # An exact copy is said by `copies`, and is nearly the other one, too.
    assert [(one.example, one.of_example) for one in found] == [("validation:0", "train:1")]


def test_many_that_begin_alike_cost_no_more(monkeypatch):
    compared = []
    monkeypatch.setattr(near_copies, "jaccard", lambda one, other: compared.append(1) or 0.9)
    same = [f"{LONG} {i}" for i in range(300)]
    find({"train": part("train", same), "validation": part("validation", same[:20])})
    assert 0 < len(compared) <= 20 * near_copies.COMPARED


def test_it_is_said_with_names_and_what_was_looked_at(monkeypatch):
    splits = Splits(part("train", [LONG, OTHER]), part("validation", filler(1)),
                    part("test", [LONG.replace("wisdom", "reason"), f"{OTHER} Yes."]),
                    Labels("language"))  # fmt: skip
    said = told(splits).notices
    assert len(said) == 1
    assert said[0].startswith("2 texts of test are nearly some of train, which makes the metrics "
                              "of test optimistic; kept: test:0 (~ train:0, ")  # fmt: skip
    assert told(splits) == told(splits)
    monkeypatch.setattr(near_copies, "MOST", len(LONG) + len(OTHER))
    assert "looked for in 2 of 5 texts" in told(splits).notices[-1]
