"""How answers are compared: rules that an artifact holds."""

from __future__ import annotations

import dataclasses
import io
import json

import numpy as np
import pytest

from kerasft.artifact.comparison import (
    Output,
    aligned,
    apart,
    check_rules,
    differs,
    rows_apart,
    rule_for,
    rules_of,
)
from kerasft.errors import UserError
from kerasft.spec import Decision, Labels
from kerasft.tasks.classification import Classification
from kerasft.tasks.multi_label import MultiLabel
from kerasft.tasks.multi_regression import MultiRegression
from kerasft.tasks.regression import Regression

P = {"p": np.array([[0.5, 0.49, 0.01], [0.9, 0.1, 0.0], [0.9, 0.05, 0.05]])}
LABELS = Labels("single", ("a", "b", "c"))


@pytest.mark.parametrize(("rule", "near"), [
    ({"largest": True}, [True, False, False]),
    ({"cutoffs": 0.11}, [False, True, False]),
    # The class that a goal is about has a threshold, and no other.
    ({"cutoffs": (None, 0.11, None)}, [False, True, False]),
    ({"largest": True, "cutoffs": (None, 0.11, None)}, [True, True, False]),
    ({"rule": "ranked"}, [True, False, True]),
    # Where one label is named, the order of the others says nothing.
    ({"rule": "ranked", "top": 1}, [True, False, False]),
    ({"by": "another"}, [False] * 3),
    ({"rule": "exact", "largest": True}, [False] * 3),
])  # fmt: skip
def test_a_label_within_the_tolerance_of_another_is_a_tie(rule, near):
    tolerance = 0.02 if "cutoffs" in rule else 0.01
    made = Output(**({"rule": "decided", "by": "p"} | rule))
    assert made.near(P, 3, tolerance).tolist() == near


def test_what_numbers_decide_on():
    values = P["p"]
    assert Output("decided", largest=True).decide(values).tolist() == [[0], [0], [0]]
    over = Output("decided", cutoffs=(0.6, None, 0.01)).decide(values)
    assert over.tolist() == [[0, 0, 1], [1, 0, 0], [1, 0, 1]]
    assert rows_apart(over, over[[0, 2, 2]]).tolist() == [False, True, False]


@pytest.mark.parametrize(("task", "labels", "decision"), [
    (Classification(), LABELS, None),
    (Classification(), LABELS, Decision(goal="recall", thresholds=(0.3,), positive=1)),
    (Classification(), LABELS, Decision(goal="precision", thresholds=(0.3, 0.5, 0.9))),
    (MultiLabel(threshold=0.4), Labels("multi", ("a", "b", "c")), None),
    (MultiLabel(threshold=0.4), Labels("multi", ("a", "b")),
     Decision(goal="f1", thresholds=(0.2, 0.7))),
    (Regression(mean=3.0, std=2.5), Labels("number"), None),
    (MultiRegression(means=(1, 2), stds=(0.5, 700)), Labels("numbers", ("x", "y")), None),
])  # fmt: skip
def test_the_rules_of_a_task_go_through_json(task, labels, decision):
    rules = task.outputs(labels, decision)
    saved = json.loads(json.dumps({name: rule.to_dict() for name, rule in rules.items()},
                                  allow_nan=False))  # fmt: skip
    assert rules_of({"compare": saved}) == rules
    later = {name: {**rule, "of a later version": 1} for name, rule in saved.items()}
    assert rules_of({"compare": later}) == rules


def test_artifacts_without_rules_are_read():
    each = {"probabilities": Output(each=True), "labels": Output("exact", each=True)}
    assert rules_of({"kind": "single"}) == each
    unit = Output(unit=2.0)
    assert rules_of({"spread": 2.0}) == each | {"value": unit, "outputs": unit}
    assert rule_for("score", np.zeros(2, "float32"), {}) == Output()
    assert rule_for("label", np.array([b"a"], object), {}).rule == "exact"


def test_numbers_are_apart_in_their_unit():
    one, other = np.array([100.0, 3.0]), np.array([101.0, 3.0])
    assert apart(one, other) == pytest.approx(1 / 101)
    assert apart(one, other, unit=4.0) == pytest.approx(0.25, rel=1e-3)
    # Each number in its own.
    several = np.array([[1.0, 50.0]]), np.array([[1.5, 60.0]])
    assert apart(*several, unit=(0.25, 100.0)) == pytest.approx(2.0, rel=1e-3)
    assert apart(one, other[:1]) == apart(one, np.array([np.nan, 3.0])) == np.inf
    assert apart(np.array([b"a", b"b"], object), np.array([b"a", b"c"], object)) == 0.5
    assert dataclasses.replace(Output(), unit=3.0).to_dict() == {"rule": "close", "unit": 3.0}


@pytest.mark.parametrize("compare", [
    3, ["a"], {"label": 3}, {"label": {"rule": "near"}}, {"label": {"rule": "decided", "by": 3}},
    {"value": {"unit": "one"}}, {"label": {"cutoffs": ["a"]}}, {"label": {"top": 1.5}},
    {"label": {"largest": "yes"}}, {"label": {"unit": [0.5, None]}},
])  # fmt: skip
def test_rules_that_are_none_are_told_with_the_file(compare, tmp_path):
    with pytest.raises(UserError, match=r"signature\.json' is damaged"):
        check_rules({"compare": compare}, tmp_path / "signature.json")
    check_rules({}, tmp_path / "signature.json")


ROWS = {"boxes": Output(among="scores"), "labels": Output("exact", among="scores")}


def detections(scores, boxes, labels):
    return {"scores": np.array([scores]), "boxes": np.array([boxes]), "labels": np.array([labels])}


def test_rows_of_equal_numbers_may_change_places():
    wanted = detections([0.9, 0.50001, 0.5, 0.0], [[1.0], [2], [3], [0]], ["a", "b", "c", ""])
    served = detections([0.9, 0.50002, 0.5, 0.0], [[1.0], [3], [2], [0]], ["a", "c", "b", ""])
    made = aligned(served, wanted, ROWS, 1e-4)
    np.testing.assert_array_equal(made["boxes"], wanted["boxes"])
    np.testing.assert_array_equal(made["labels"], wanted["labels"])
    # Where the numbers differ, the order counts.
    made = aligned(served | {"scores": np.array([[0.9, 0.6, 0.5, 0.0]])}, wanted, ROWS, 1e-4)
    assert rows_apart(made["labels"], wanted["labels"]).all()
    # Another box at the same place is another answer.
    made = aligned(served | {"boxes": np.array([[[1.0], [3], [7], [0]]])}, wanted, ROWS, 1e-4)
    assert apart(made["boxes"], wanted["boxes"]) > 0.1


def test_the_last_row_of_a_full_list_may_be_another_one():
    wanted = detections([0.9, 0.5], [[1.0], [2]], ["a", "b"])
    served = detections([0.9, 0.5], [[1.0], [7]], ["a", "c"])
    made = aligned(served, wanted, ROWS, 1e-4)
    assert made["labels"].tolist() == [["a", "b"]]
    more = {name: np.concatenate([value, np.zeros_like(value[:, :1])], 1)
            for name, value in served.items()}  # fmt: skip
    wide = {name: np.concatenate([value, np.zeros_like(value[:, :1])], 1)
            for name, value in wanted.items()}  # fmt: skip
    # With room left there was no reason to leave one out.
    assert rows_apart(aligned(more, wide, ROWS, 1e-4)["labels"], wide["labels"]).all()


def test_other_shapes_stay_as_they_are():
    wanted = detections([0.9], [[1.0]], ["a"])
    served = detections([0.9, 0.5], [[1.0], [2]], ["a", "b"])
    assert aligned(served, wanted, ROWS, 1e-4)["boxes"].shape == (1, 2, 1)


def png(pixels):
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def test_encoded_images_differ_by_their_pixels():
    one = np.zeros((20, 30), "uint8")
    other = one.copy()
    other[3, 5:8] = 1
    rule = Output("pixels")
    served, wanted = (np.array([png(one), png(last)], object) for last in (one, other))
    assert differs(rule, served, served) == 0.0
    assert differs(rule, served, wanted) == pytest.approx(3 / 600)
    assert differs(rule, served[:1], np.array([png(one[:, :9])], object)) == float("inf")
    assert differs(rule, served, served[:1]) == float("inf")


def test_rows_that_were_filled_up_differ_by_what_they_hold():
    rule = Output(padded=True)
    small, large = np.full((1, 2, 3), 7), np.full((1, 4, 3), -1)
    large[:, :2] = 7
    assert differs(rule, small, large) == 0.0
    assert differs(rule, large, small) == 0.0
    large[0, 3, 0] = 7
    assert differs(rule, small, large) == pytest.approx(1 / 12)


def test_rows_of_which_there_is_none_stay_where_they_are():
    rules = {"text": Output(padded=True, among="score"), "score": Output(padded=True)}
    none = {"text": np.zeros((2, 0), object), "score": np.zeros((2, 0), "float32")}
    assert aligned(none, none, rules, 1e-4)["text"].shape == (2, 0)


def test_texts_are_filled_up_with_none():
    rule = Output(padded=True)
    served, wanted = np.array([[b"a"]], object), np.array([[b"a", b""]], object)
    assert differs(rule, served, wanted) == 0.0
    assert differs(rule, served, np.array([[b"a", b"b"]], object)) == 0.5
