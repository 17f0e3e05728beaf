"""The rules of a diagnosis, on runs as they are written down."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from kerasft.evaluation.diagnosis import rules, words
from kerasft.evaluation.diagnosis.case import Case, Lagging
from kerasft.evaluation.diagnosis.chance import chance, is_chance
from kerasft.evaluation.diagnosis.curves import early_sign, is_falling, shape
from kerasft.evaluation.diagnosis.remarks import class_gaps, miscalibration, remarks
from kerasft.evaluation.diagnosis.rules import verdicts

FLOOR = chance(["a", "b"] * 100)


def epochs(loss, val_loss, val_accuracy, *, stage="full", rate=1e-4):
    rows = zip(loss, val_loss, val_accuracy, strict=True)
    return [
        {"epoch": i + 1, "stage": stage, "loss": a, "val_loss": b, "val_log_loss": b,
         "val_accuracy": c, "learning_rate": rate} for i, (a, b, c) in enumerate(rows)
    ]  # fmt: skip


def updates(count=3, *, head=0.2, backbone=0.02):
    parts = {"head": {"weights": 2.0, "moved": 2.0 * head}}
    if backbone is not None:
        parts["layer_0"] = {"weights": 10.0, "moved": 10.0 * backbone}
    return [{"epoch": i + 1, "stage": "full", "peak": 1e-4, "parts": parts} for i in range(count)]


GOOD = {
    "epochs": epochs([0.6, 0.3, 0.15], [0.4, 0.3, 0.28], [0.84, 0.89, 0.9]),
    "updates": updates(), "monitor": "val_accuracy", "mode": "max",
    "validation": {"accuracy": 0.9, "log_loss": 0.28, "roc_auc": 0.96},
    "sample": {"accuracy": 0.96, "log_loss": 0.12, "roc_auc": 0.99}, "floor": FLOOR,
    "train": 1000, "held_out": 200, "sampled": 200, "classes": {"a": 500, "b": 500},
    "modality": "images",
}  # fmt: skip


def names(**changes):
    return [one.name for one in verdicts(Case(**GOOD | changes))]


def figures(accuracy, log_loss=0.69, roc_auc=None):
    area = min(accuracy + 0.05, 1.0) if roc_auc is None else roc_auc
    return {"accuracy": accuracy, "log_loss": log_loss, "roc_auc": area}


def test_what_goes_well_is_well_fitted_and_says_why():
    (one,) = verdicts(Case(**GOOD))
    assert one.name == rules.WELL
    assert one.evidence[0] == (
        "accuracy 0.960 on 200 training examples, 0.900 on 200 of validation (one answer for all: "
        "0.500)"
    )
    assert "falling" in one.evidence[1]


FLAT = epochs([0.70, 0.69, 0.69], [0.69, 0.69, 0.69], [0.5, 0.51, 0.5])
BY_CHANCE = {"validation": figures(0.5, roc_auc=0.5)}


@pytest.mark.parametrize(("changes", "wanted"), [
    ({"sample": figures(1.0, 0.01), "validation": figures(0.75, 0.9)}, [rules.OVER]),
    ({"sample": figures(1.0, 0.01), "validation": figures(0.75, 0.9), "train": 60,
      "classes": {"a": 30, "b": 30}}, [rules.LITTLE, rules.OVER]),
    # A gap of 0.2 alone is common; where validation grew ever surer of its mistakes it is not.
    ({"sample": figures(1.0, 0.01), "validation": figures(0.89, 0.9)}, [rules.WELL]),
    ({"sample": figures(1.0, 0.01), "validation": figures(0.89, 0.9),
      "epochs": epochs([0.6, 0.3, 0.15], [0.3, 0.4, 0.5], [0.84, 0.88, 0.89])}, [rules.OVER]),
    # With 20 examples for validation, a gap of 0.3 is not clear.
    ({"sample": figures(1.0, 0.01), "validation": figures(0.85, 0.9), "held_out": 10},
     [rules.WELL]),
    ({"sample": figures(0.8), "validation": figures(0.78)}, [rules.UNDER]),
    ({"sample": figures(0.8), "validation": figures(0.78), "frozen": True,
      "updates": updates(backbone=None)}, [rules.FROZEN]),
    ({"sample": figures(0.97, 0.1), **BY_CHANCE}, [rules.LABELS]),
    # All epochs are at chance, and the best one is of before anything was learned.
    ({"sample": figures(0.51, roc_auc=0.52), **BY_CHANCE,
      "epochs": epochs([0.7, 0.3, 0.1], [0.7, 1.5, 2.0], [0.52, 0.5, 0.5])}, [rules.LABELS]),
    ({"sample": figures(0.51, roc_auc=0.52), **BY_CHANCE, "epochs": FLAT},
     [rules.LABELS, rules.UNDER]),
    ({"sample": figures(0.51, roc_auc=0.52), **BY_CHANCE, "epochs": FLAT, "frozen": True,
      "updates": updates(backbone=None)}, [rules.FROZEN]),
    # Of 20 validation examples nobody can tell chance.
    ({"sample": figures(0.97, 0.1), **BY_CHANCE, "held_out": 20}, [rules.OVER]),
    ({"sample": figures(0.51, roc_auc=0.52), **BY_CHANCE, "epochs": FLAT,
      "updates": updates(head=0.001, backbone=1e-4)}, [rules.LOW]),
    ({"sample": figures(0.51, roc_auc=0.52), **BY_CHANCE, "updates": updates(backbone=3.0),
      "epochs": epochs([1.4, 0.8, 0.7], [0.8, 0.7, 0.7], [0.5, 0.5, 0.5])}, [rules.HIGH]),
    ({"sample": figures(0.7), "validation": figures(0.68), "updates": updates(backbone=0.8),
      "epochs": epochs([0.4, 0.5, 0.6], [0.5, 0.6, 0.7], [0.7, 0.68, 0.65])}, [rules.HIGH]),
    ({"sample": figures(0.7), "validation": figures(0.68), "updates": updates(backbone=4.0)},
     [rules.HIGH]),
    ({"faults": 2}, [rules.HIGH]),
    # Far moves alone are no fault: random weights have to move.
    ({"updates": updates(backbone=3.0)}, [rules.WELL]),
    ({"copies": 40}, [rules.LEAK]),
    ({"copies": 4}, [rules.WELL]),
    ({"epochs": epochs([0.2, 0.02, 0.01], [0.01, 0.01, 0.01], [1.0, 1.0, 1.0]),
      "sample": figures(1.0, 0.01), "validation": figures(1.0, 0.01)}, [rules.LEAK]),
    # Near perfect, but only after a while.
    ({"epochs": epochs([0.5, 0.02, 0.01], [0.3, 0.05, 0.01], [0.9, 1.0, 1.0]),
      "sample": figures(1.0, 0.01), "validation": figures(1.0, 0.01)}, [rules.WELL]),
    ({"epochs": epochs([0.2, 0.01, 0.001], [0.9, 1.5, 2.0], [0.5, 0.5, 0.5]),
      "sample": figures(1.0, 0.01), **BY_CHANCE}, [rules.LEAK]),
    # Learned by heart over the epochs, and not in the first one.
    ({"epochs": epochs([0.7, 0.3, 0.01], [0.7, 1.5, 2.0], [0.5, 0.5, 0.5]),
      "sample": figures(1.0, 0.01), **BY_CHANCE}, [rules.LABELS]),
])  # fmt: skip
def test_a_rule_fires_on_its_sign_alone(changes, wanted):
    assert names(**changes) == wanted


def test_a_run_of_an_earlier_version_is_judged_by_its_log():
    rows = [row | {"accuracy": 0.99} for row in GOOD["epochs"]]
    old = {"sample": {}, "sampled": 0, "updates": ()}
    assert names(**old, epochs=rows) == [rules.WELL]
    assert names(**old, epochs=rows, validation=figures(0.7)) == [rules.OVER]
    low = epochs([0.70, 0.698, 0.696], [0.70, 0.698, 0.696], [0.5, 0.5, 0.5])
    low = [row | {"accuracy": 0.5} for row in low]
    assert names(**old, epochs=low, validation=figures(0.5, roc_auc=0.5)) == [rules.LOW]
    # Nothing is known of training: nothing is said of it.
    assert names(**old) == [rules.WELL]


def test_a_run_that_never_ended_an_epoch_is_judged_by_its_faults():
    (one,) = verdicts(Case([], faults=1))
    assert (one.name, one.evidence) == (
        rules.HIGH, ("the loss was not a number once (logs/faults.jsonl)",)
    )
    assert remarks(Case([], faults=1)) == [] and math.isnan(Case([]).peak)


def test_uneven_classes_are_compared_by_recall():
    floor = chance(["ham"] * 90 + ["spam"] * 10)
    case = Case(**GOOD | {
        "classes": {"ham": 900, "spam": 100}, "floor": floor,
        "validation": {"accuracy": 0.97, "recall_macro": 0.94, "log_loss": 0.1, "roc_auc": 0.98},
        "sample": {"accuracy": 0.99, "recall_macro": 0.98, "log_loss": 0.1, "roc_auc": 1.0},
    })  # fmt: skip
    assert case.figure.name == "recall_macro" and case.figure.floor == 0.5
    assert verdicts(case)[0].name == rules.WELL


def test_other_tasks_are_compared_by_figures_of_their_own():
    def of(monitor, mode="max", **changes):
        return Case(**GOOD | {"floor": {}, "classes": {}, "monitor": monitor, "mode": mode,
                              "epochs": [row | {monitor: 0.5} for row in GOOD["epochs"]]}
                    | changes)  # fmt: skip

    numbers = of("val_pearson", floor=chance([1.0, 2.0, 3.0]), validation={"r2": 0.4},
                 sample={"r2": 0.95})  # fmt: skip
    assert numbers.figure.name == "r2" and verdicts(numbers)[0].name == rules.OVER
    boxes = of("val_map", validation={"map": 0.3}, sample={"map": 0.9})
    assert boxes.figure.name == "map" and verdicts(boxes)[0].name == rules.OVER
    several = of("val_f1_micro", floor=chance([["a"], []]), validation={"roc_auc": 0.9},
                 sample={"roc_auc": 0.97})  # fmt: skip
    assert several.figure.name == "roc_auc" and verdicts(several)[0].name == rules.WELL
    # An error has no best value to be measured against: the curves alone speak.
    error = of("val_cost", "min", validation={"cost": 4.0}, sample={"cost": 0.1})
    assert error.figure is None and verdicts(error)[0].name == rules.WELL


def test_one_answer_for_all_is_the_floor():
    assert chance(["a", "b", "a", "a"]) == {
        "accuracy": 0.75, "recall_macro": 0.5, "roc_auc": 0.5,
        "log_loss": pytest.approx(-(0.75 * math.log(0.75) + 0.25 * math.log(0.25))),
    }  # fmt: skip
    assert chance([1.0, 3.0])["rmse"] == 1.0
    assert chance([{"x": 1.0, "y": 2.0}, {"x": 0.0, "y": 3.0}]) == {"r2": 0.0, "pearson": 0.0}
    # The shares of a mask, boxes and what else there may be have none.
    assert chance([{"ground": 0.75, "cell": 0.25}]) == {}
    assert chance([[{"label": "a", "box": [0, 0, 1, 1]}]]) == {} and chance([]) == {}


def test_all_that_is_known_must_be_at_the_floor():
    assert is_chance(figures(0.5, 0.70, 0.5), FLOOR, 200)
    # A weighted loss lowers accuracy below that of the largest class, and not the area.
    assert not is_chance(figures(0.5, 0.5, 0.9), FLOOR, 200)
    assert not is_chance(figures(0.6, 0.70, 0.5), FLOOR, 200)
    assert is_chance(figures(0.6, 0.70, 0.5), FLOOR, 20)
    # Over-confident and worse in loss than guessing, but right too often.
    assert not is_chance(figures(0.8, 2.0, 0.85), FLOOR, 200)
    numbers = {"r2": 0.0, "pearson": 0.0}
    assert is_chance({"r2": -0.1, "pearson": 0.01}, numbers, 100)
    assert not is_chance({"r2": -0.1, "pearson": 0.6}, numbers, 100)
    assert is_chance({"map": 0.0}, {}, 100) is None


@pytest.mark.parametrize(("values", "wanted"), [
    ([0.7], "too short"), ([1.0, math.nan], "not a number"), ([0.7, 0.70, 0.699], "flat"),
    ([0.5, 0.6, 0.9], "rising"), ([1.0, 0.5, 0.8], "turning"), ([1.0, 0.8, 0.6, 0.4], "falling"),
    ([1.0, 0.5, 0.4, 0.4, 0.4, 0.4], "levelled off"),
    ([1.0, 0.5, 0.9, 0.4, 0.95], "unsteady"),
])  # fmt: skip
def test_curves_have_their_shapes(values, wanted):
    assert shape(values) == wanted


def test_a_loss_falls_at_its_end_or_not():
    assert is_falling([1.0, 0.9]) and not is_falling([1.0]) and not is_falling([1.0, 1.0])


def test_a_word_that_gives_the_label_away_is_found():
    rows = [{"input": f"a {w} film zz{label} {i}", "true": label} for i in range(10)
            for w, label in (("good", "pos"), ("fine", "pos"), ("bad", "neg"), ("dull", "neg"))]
    found = words.telling_word(rows)
    assert (found.word, found.balanced) == ("zzneg", 1.0)
    plain = [{**row, "input": row["input"].replace("zz", "").replace(row["true"], "")}
             for row in rows]
    assert words.telling_word(plain).balanced == 0.75  # one of two words of a class
    assert words.share_with(plain, found) == 0.5
    pairs = [{**row, "input": ["what?", row["input"]]} for row in rows]
    assert words.telling_word(pairs).word == "zzneg"
    assert words.telling_word([{"input": "a", "true": 1.5}] * 10) is None
    assert words.telling_word([]) is None and math.isnan(words.share_with([], found))

    told = verdicts(Case(**GOOD | {"modality": "text", "answered": {
        "training sample": rows, "validation": plain,
    }}))  # fmt: skip
    assert told[0].name == rules.LEAK
    assert "the word 'zzneg' alone tells 'neg' in 100% of the training sample, and in 50% of the " \
        "validation" in told[0].evidence  # fmt: skip
    both = {"training sample": rows, "validation": rows}
    (told,) = verdicts(Case(**GOOD | {"modality": "text", "answered": both}))
    assert "100% of the training sample, and in 100% of the validation" in told.evidence[0]
    neither = {"training sample": plain, "validation": plain}
    assert names(modality="text", answered=neither) == [rules.WELL]
    # A path is no text.
    assert names(answered={"training sample": rows, "validation": plain}) == [rules.WELL]


def answers(count, wrong, sure=0.95):
    return [
        {"id": f"{i}.png", "true": "a", "predicted": {"probabilities": (
            {"a": 1 - sure, "b": sure} if i < wrong else {"a": sure, "b": 1 - sure}
        )}} for i in range(count)
    ]


def test_examples_that_a_sure_network_denies_are_named():
    def of(wrong, sure=0.95):
        return {"answered": {"training sample": answers(200, wrong, sure)}}

    assert names(**of(20)) == [rules.LABELS]
    assert names(**of(4)) == [rules.WELL] and names(**of(20, 0.8)) == [rules.WELL]
    case = Case(**GOOD | of(20))
    assert rules.contradicted(case)[:2] == ["0.png", "1.png"]
    assert "20 of 200 training examples contradict" in verdicts(case)[0].evidence[0]
    # A network that knows nothing has no say.
    assert rules.LABELS not in names(**of(20), validation=figures(0.6), sample=figures(0.62))


def test_remarks_name_classes_calibration_and_epochs_that_were_too_many():
    def per_class(**recalls):
        return {"per_class": {n: {"recall": r, "support": 50} for n, r in recalls.items()}}

    lagging = Case(**GOOD | {
        "sample": GOOD["sample"] | per_class(a=1.0, b=0.98),
        "validation": GOOD["validation"] | per_class(a=0.9, b=0.5),
    })  # fmt: skip
    assert class_gaps(lagging) == [("b", 0.98, 0.5)]
    assert any("'b': recall 0.98" in one for one in remarks(lagging))
    assert class_gaps(Case(**GOOD)) == [] and remarks(Case(**GOOD)) == []

    slices = [Lagging("language", f"l{i}", 120, 0.6) for i in range(4)]
    (said,) = remarks(Case(**GOOD | {"lagging": slices}))
    assert said == (
        "clearly worse than all of validation (accuracy 0.900): language=l0 (0.600 of 120 "
        "examples), language=l1 (0.600 of 120 examples), language=l2 (0.600 of 120 examples) and "
        "1 more"
    )
    unsure = Case(**GOOD | {"answered": {"validation": answers(100, 40, 0.99)}})
    assert miscalibration(unsure) == pytest.approx(0.39)
    assert any("off by 0.39" in one for one in remarks(unsure))
    assert miscalibration(Case(**GOOD)) is None

    drifted = epochs([0.6, 0.3, 0.15], [0.2, 0.25, 0.28], [0.84, 0.89, 0.9])
    (said,) = remarks(Case(**GOOD | {"epochs": drifted}))
    assert "calibration drifted: val_log_loss is 0.2800 at the kept epoch 3, 1.4 times" in said
    longer = epochs([0.6, 0.3, 0.2, 0.1], [0.4, 0.28, 0.35, 0.5], [0.84, 0.9, 0.88, 0.87])
    (said,) = remarks(Case(**GOOD | {"epochs": longer}))
    assert "rose after the kept epoch 2" in said


def told(rows, **changes):
    given = {"floor": FLOOR, "examples": 200, "steps": 30} | changes
    return [early_sign(rows[: i + 1], **given) for i in range(len(rows))]


def test_what_is_certain_while_training_is_said_once():
    flat = epochs([0.70, 0.69, 0.69, 0.69], [0.69] * 4, [0.5] * 4)
    said = told(flat)
    assert [bool(one) for one in said] == [False, False, True, False]
    assert "after 3 epochs validation is no better than one answer for all" in said[2]
    assert told(flat, steps=5) == [None] * 4  # too early
    assert told(flat, floor={}) == [None] * 4  # no floor is known
    wild = epochs([0.4, 1.0, 2.0], [0.5, 1.1, 2.0], [0.8, 0.6, 0.5])
    assert ["diverging" in (one or "") for one in told(wild)] == [False, True, False]
    assert told(GOOD["epochs"]) == [None] * 3
    over = epochs([0.4, 0.2, 0.1], [0.4, 0.8, 1.6], [0.8, 0.8, 0.8])
    assert told(over) == [None] * 3
    # Another stage begins where it begins.
    later = epochs([0.3], [0.3], [0.9], stage="head") + [
        row | {"epoch": row["epoch"] + 1} for row in epochs([0.9, 0.5], [0.9, 0.5], [0.7, 0.8])
    ]
    assert told(later) == [None] * 3


def test_what_hides_a_verdict_comes_before_it():
    assert {*rules.NAMES} == {*rules.RULES, rules.WELL}
    order = list(rules.RULES)
    for name, (_, hidden_by) in rules.RULES.items():
        assert all(order.index(one) < order.index(name) for one in hidden_by), name


def test_the_page_has_a_row_for_each_verdict():
    page = (Path(__file__).parents[2] / "docs" / "diagnose.md").read_text("utf-8")
    rows = [line.split("|") for line in page.splitlines() if line.startswith("| `")]
    assert [cells[1].strip(" `") for cells in rows] == [
        rules.HIGH, rules.LOW, rules.LEAK, rules.LABELS, rules.LITTLE, rules.OVER, rules.FROZEN,
        rules.UNDER, rules.WELL,
    ] == [*rules.RULES, rules.WELL]  # fmt: skip
    said = {cells[1].strip(" `"): cells[2] for cells in rows}
    for name, figures in {
        rules.HIGH: (rules.FITTED, rules.THROWN), rules.LOW: (rules.NEAR,),
        rules.LEAK: (rules.PERFECT, rules.UNLIKE, rules.TELLING),
        rules.LABELS: (rules.BY_HEART, rules.SURE),
        rules.LITTLE: (rules.FEW, rules.FEW_OF_A_CLASS),
        rules.OVER: (rules.GAP, rules.SMALL_GAP),
    }.items():  # fmt: skip
        assert all(f"{one:g}" in said[name] for one in figures), name
