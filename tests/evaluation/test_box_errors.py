"""What is wrong with answered boxes."""

import numpy as np
import pytest

from kerasft.evaluation import box_errors, boxes

NAMES = ("cat", "dog")
TRUE = {"boxes": np.array([[0.0, 0, 20, 20], [40, 0, 60, 20], [0, 40, 20, 60]]),
        "labels": np.array([0, 1, 0]), "ignored": np.array([False, False, True])}  # fmt: skip
# A box, its class, and what it is.
CASES = {
    "right": ([0, 0, 20, 20], 0), "place": ([10, 5, 30, 25], 0), "class": ([40, 0, 60, 20], 0),
    "both": ([50, 5, 70, 25], 0), "background": ([80, 80, 99, 99], 1),
}  # fmt: skip


def found(*cases, scores=None):
    return {
        "boxes": np.array([box for box, _ in cases], "float64").reshape(-1, 4),
        "classes": np.array([unit for _, unit in cases], "int64"),
        "scores": np.array(scores or [0.9] * len(cases)),
    }


def counts(one, least=(0.5, 0.5)):
    made = box_errors.kinds([one], [TRUE], 2, np.array(least))
    return box_errors.named(made[0], NAMES)


@pytest.mark.parametrize(("kind", "case"), CASES.items(), ids=CASES)
def test_kinds(kind, case):
    made = counts(found(case))
    assert made[NAMES[case[1]]][kind] == 1
    assert sum(sum(one.values()) for one in made.values()) == (2 if kind == "right" else 3)
    # One object is found, or none: what is ignored is not missed.
    assert made["cat"]["missed"] == (0 if kind == "right" else 1)
    assert made["dog"]["missed"] == 1


def test_a_second_box_of_an_object_is_one_too_many():
    made = counts(found(CASES["right"], ([0, 0, 19, 20], 0), scores=[0.8, 0.9]))
    assert made["cat"] | {"missed": 0} == {
        "right": 1, "twice": 1, "place": 0, "class": 0, "both": 0, "background": 0, "missed": 0,
    }  # fmt: skip


def test_ignored_regions_and_unsure_boxes_count_nowhere():
    made = counts(found(([0, 40, 20, 60], 0), CASES["background"], scores=[0.9, 0.4]))
    assert sum(made["cat"].values()) + sum(made["dog"].values()) == 2  # those that are missed


def test_figures_of_what_is_answered():
    one = found(CASES["right"], CASES["background"], ([40, 0, 60, 20], 1), scores=[0.9, 0.6, 0.3])
    statistics = boxes.matched([one], [TRUE], 2)
    statistics["answered"] = statistics["scores"] >= 0.5
    made = boxes.decided(statistics)
    assert made["precision"].tolist() == [1.0, 0.0]
    assert made["recall"].tolist() == [1.0, 0.0]
    assert made["f1"].tolist() == [1.0, 0.0]
    # From 0.3 on the dog is found, too: in half of the answers.
    cat, dog = boxes.best_scores(statistics, default=0.5)
    assert cat == pytest.approx(0.45)
    assert dog == pytest.approx(0.15)
    assert boxes.averaged(made) == {"precision": 0.5, "recall": 0.5, "f1": 0.5}


def test_nothing_there_and_nothing_found():
    none = {"boxes": np.zeros((0, 4)), "labels": np.zeros(0, int), "ignored": np.zeros(0, bool)}
    statistics = boxes.matched([found()], [none], 2)
    statistics["answered"] = statistics["scores"] >= 0.5
    assert boxes.coco(statistics) == {}
    assert np.isnan(boxes.decided(statistics)["f1"]).all()
    assert boxes.best_scores(statistics, default=0.3) == [0.3, 0.3]
