"""Figures by entity, as conlleval and seqeval have them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kerasft.data.texts.schemes import runs_of
from kerasft.evaluation import entities


def of_tags(true, found):
    """Return the figures of tags, each text's words being its characters."""
    kinds = sorted({tag[2:] for tags in (*true, *found) for tag in tags if tag != "O"})

    def spans(tags):
        return [(kinds.index(kind), a, b + 1) for a, b, kind in runs_of(tags, "iob2")[0]]

    pairs = [(spans(one), spans(other)) for one, other in zip(found, true, strict=True)]
    count = len(kinds)
    return entities.summary(
        sum((entities.counted(*pair, count) for pair in pairs), np.zeros((count, 3), int)),
        sum((entities.overlapping(*pair, count) for pair in pairs), np.zeros(count, int)), kinds,
    )  # fmt: skip


def test_the_example_that_seqeval_gives():
    # https://github.com/chakki-works/seqeval, README: f1 0.50; MISC 0.00, PER 1.00; macro 0.50.
    true = [["O", "O", "O", "B-MISC", "I-MISC", "I-MISC", "O"], ["B-PER", "I-PER", "O"]]
    found = [["O", "O", "B-MISC", "I-MISC", "I-MISC", "I-MISC", "O"], ["B-PER", "I-PER", "O"]]
    made = of_tags(true, found)
    assert (made["precision"], made["recall"], made["f1"], made["macro_f1"]) == (0.5,) * 4
    assert [made["per_class"][name]["f1"] for name in ("MISC", "PER")] == [0.0, 1.0]
    assert made["partial_f1"] == 1.0


def test_an_entity_of_another_type_or_length_is_wrong():
    made = of_tags([["B-a", "I-a", "O", "B-b"]], [["B-a", "O", "B-b", "B-a"]])
    assert made["f1"] == 0.0 and made["entities"] == 2
    assert made["partial_precision"] == pytest.approx(1 / 3)
    assert made["partial_recall"] == 0.5
    assert made["per_class"]["a"] == {
        "precision": 0.0, "recall": 0.0, "f1": 0.0, "partial_f1": pytest.approx(2 / 3),
        "found": 2, "entities": 1,
    }  # fmt: skip


def test_nothing_there_and_nothing_found():
    made = of_tags([["O"]], [["O"]])
    assert (made["f1"], made["precision"], made["recall"], made["macro_f1"]) == (0.0,) * 4


tags = st.lists(st.sampled_from(["O", "B-a", "I-a", "B-b", "I-b"]), min_size=6, max_size=6)


@given(tags, tags)
def test_bounds(true, found):
    same, made = of_tags([true], [true]), of_tags([true], [found])
    assert same["f1"] == (1.0 if any(tag != "O" for tag in true) else 0.0)
    assert made["f1"] <= made["partial_f1"] <= 1.0
    turned = of_tags([found], [true])
    assert made["f1"] == pytest.approx(turned["f1"])
    assert made["precision"] == pytest.approx(turned["recall"])
    assert made["partial_precision"] <= 1.0 and made["partial_recall"] <= 1.0
