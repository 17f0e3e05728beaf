"""Figures by entity, as conlleval and seqeval have them."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kerasft.data.texts.schemes import runs_of
from kerasft.evaluation import entities


def of_tags(true, found, scheme="iob2"):
    """Return the figures of tags, each text's words being its characters."""
    kinds = sorted({tag[2:] for tags in (*true, *found) for tag in tags if tag != "O"})

    def spans(tags):
        return [(kinds.index(kind), a, b + 1) for a, b, kind in runs_of(tags, scheme)[0]]

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


# seqeval 1.2.2 without a mode: after (way, way of the word before) an entity begins or ends, and
# wherever the type is another one (`start_of_chunk` and `end_of_chunk` of its sequence_labeling).
BEGINS = {"B", "S"}
BEGINS_AFTER = {("E", "E"), ("I", "E"), ("E", "S"), ("I", "S"), ("E", "O"), ("I", "O")}
ENDS_BEFORE = {("B", "B"), ("S", "B"), ("O", "B"), ("B", "I"), ("S", "I"), ("O", "I")}


def of_seqeval(tags):
    """Return the entities of tags by seqeval's default rules."""
    made, begin = [], 0
    before, kind_before = "O", ""
    for place, tag in enumerate([*tags, "O"]):
        way, kind = tag[0], tag[2:]
        ends = before in "ES" or (way, before) in ENDS_BEFORE or kind_before != kind
        if ends and before != "O":
            made.append((begin, place - 1, kind_before))
        if way in BEGINS or (way, before) in BEGINS_AFTER or (way != "O" and kind_before != kind):
            begin = place
        before, kind_before = way, kind
    return made


def of_strict(tags, scheme):
    """Return the entities of tags by seqeval's strict mode: those that are written as they should.

    Of IOB2 that is B and then I of the type; of IOBES S alone, or B, I and at the end E.
    """
    made, place = [], 0
    while place < len(tags):
        way, kind = tags[place][0], tags[place][2:]
        end = place + 1
        if way == "B":
            while end < len(tags) and tags[end] == f"I-{kind}":
                end += 1
            if scheme == "bioes":
                end += end < len(tags) and tags[end] == f"E-{kind}"
                whole = tags[end - 1][0] == "E"
            else:
                whole = end == len(tags) or tags[end][0] in "BO"
            made += [(place, end - 1, kind)] * whole
        elif way == "S":
            made.append((place, place, kind))
        place = max(end, place + 1)
    return made


@pytest.mark.parametrize(("scheme", "tags", "default", "strict"), [
    # What seqeval's own tests and documentation have.
    ("iob2", "B-PER I-PER O B-LOC", [(0, 1, "PER"), (3, 3, "LOC")], [(0, 1, "PER"), (3, 3, "LOC")]),
    ("iob2", "O I-PER I-PER O", [(1, 2, "PER")], []),
    ("iob2", "B-PER I-LOC", [(0, 0, "PER"), (1, 1, "LOC")], []),
    ("iob2", "B-PER B-PER I-PER", [(0, 0, "PER"), (1, 2, "PER")], [(0, 0, "PER"), (1, 2, "PER")]),
    ("iob2", "I-PER B-PER I-PER", [(0, 0, "PER"), (1, 2, "PER")], [(1, 2, "PER")]),
    ("iob1", "I-PER I-PER B-PER I-PER", [(0, 1, "PER"), (2, 3, "PER")], None),
    ("iob1", "I-PER I-LOC O I-LOC", [(0, 0, "PER"), (1, 1, "LOC"), (3, 3, "LOC")], None),
    ("bioes", "B-PER I-PER E-PER O S-LOC", [(0, 2, "PER"), (4, 4, "LOC")],
     [(0, 2, "PER"), (4, 4, "LOC")]),
    ("bioes", "B-PER E-PER E-PER S-PER I-PER",
     [(0, 1, "PER"), (2, 2, "PER"), (3, 3, "PER"), (4, 4, "PER")], [(0, 1, "PER"), (3, 3, "PER")]),
    ("bioes", "B-PER I-PER O", [(0, 1, "PER")], []),
])  # fmt: skip
def test_tags_mean_what_seqeval_has_them_mean(scheme, tags, default, strict):
    tags = tags.split()
    assert runs_of(tags, scheme)[0] == default == of_seqeval(tags)
    if strict is not None:
        assert of_strict(tags, scheme) == strict


WAYS = {"iob2": "BI", "iob1": "BI", "bioes": "BIES"}


@pytest.mark.parametrize("scheme", list(WAYS))
@given(data=st.data())
def test_any_tags_mean_what_seqeval_has_them_mean(scheme, data):
    every = ["O", *(f"{way}-{kind}" for way in WAYS[scheme] for kind in ("x", "y"))]
    tags = data.draw(st.lists(st.sampled_from(every), max_size=9))
    made, odd = runs_of(tags, scheme)
    assert made == of_seqeval(tags)
    if not odd and scheme != "iob1":  # seqeval's strict mode differs for tags that fit none alone
        assert made == of_strict(tags, scheme)


# Random tags, and what seqeval 1.2.2 itself said of them (get_entities, classification_report).
SAID = json.loads((Path(__file__).parent / "seqeval.json").read_text())


@pytest.mark.parametrize("case", SAID)
def test_figures_are_those_that_seqeval_gave(case):
    true, found = ([one.split() for one in case[name]] for name in ("true", "found"))
    runs = [[[kind, a, b] for a, b, kind in runs_of(tags, case["scheme"])[0]] for tags in true]
    assert runs == case["entities"]
    made = of_tags(true, found, case["scheme"])
    for name in ("precision", "recall", "f1", "macro_f1"):
        assert made[name] == pytest.approx(case[name], abs=1e-9)
    assert {name: one["f1"] for name, one in made["per_class"].items()} == pytest.approx(
        case["f1_by_type"], abs=1e-9
    )


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
