from __future__ import annotations

import numpy as np
import pytest

from kerasft.contracts import Sampled
from kerasft.errors import UserError
from kerasft.evaluation.slices import FEW, TOO_FEW, WORSE, Ranking, of_column
from kerasft.spec import Labels
from kerasft.tasks.causal_lm import CausalLM
from kerasft.tasks.classification import Classification
from kerasft.tasks.detection import Detection
from kerasft.tasks.multi_label import MultiLabel
from kerasft.tasks.multi_regression import MultiRegression
from kerasft.tasks.regression import Regression
from kerasft.tasks.segmentation import Segmentation
from kerasft.tasks.tagging import Tagging

NAMES = ("first", "second", "third")
COUNT = 90
RANDOM = np.random.default_rng(0)
CODES = np.arange(COUNT) % 3


def sampled(task: Sampled, labels: Labels) -> dict[str, np.ndarray]:
    """Return statistics of many examples, of those that a task makes up."""
    rows = RANDOM.integers(0, 1, COUNT)
    return {name: value[rows % len(value)] for name, value in task.samples(labels).items()}


def single() -> dict[str, np.ndarray]:
    true = RANDOM.integers(0, 3, COUNT)
    probabilities = RANDOM.dirichlet(np.ones(3), COUNT)
    probabilities[np.arange(COUNT), true] += CODES  # the first slice is by chance
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    return {"true": true, "probabilities": probabilities, "predicted": probabilities.argmax(1)}


def several() -> dict[str, np.ndarray]:
    true = RANDOM.random((COUNT, 3)) < 0.4
    found = true ^ (RANDOM.random((COUNT, 3)) < 0.3)
    return {"true": true, "probabilities": 0.2 + 0.6 * found, "decided": found}


def numbers(*shape: int) -> dict[str, np.ndarray]:
    true = RANDOM.normal(size=(COUNT, *shape))
    return {"true": true, "value": true + 0.2 * RANDOM.normal(size=(COUNT, *shape))}


LABELS = Labels("", ("a", "b", "c"))
CASES = {
    "classification": (Classification(), single()),
    "multi_label": (MultiLabel(), several()),
    "regression": (Regression(), numbers()),
    "multi_regression": (MultiRegression(), {**numbers(3), "values": numbers(3)["value"]}),
    **{name: (task, sampled(task, LABELS)) for name, task in {
        "detection": Detection(), "segmentation": Segmentation(), "tagging": Tagging(),
        "causal_lm": CausalLM(),
    }.items()},
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_each_task_has_figures_of_slices(name):
    task, statistics = CASES[name]
    whole = task.figures(statistics, LABELS)
    found = of_column(task, LABELS, statistics, whole, CODES, NAMES)
    assert set(found) == set(NAMES)
    metric = Ranking.of(task, whole).metric
    assert metric == task.monitor.removeprefix("val_")
    for one, slice_ in found.items():
        rows = np.flatnonzero(NAMES.index(one) == CODES)
        of_rows = task.figures({key: value[rows] for key, value in statistics.items()}, LABELS)
        shown = {key for key in (metric, *task.headlines) if key in of_rows}
        assert shown and {key: slice_[key] for key in shown} == {k: of_rows[k] for k in shown}
        assert slice_["examples"] == 30
        low, high = slice_["interval"][metric]
        assert low - 1e-9 <= slice_[metric] <= high + 1e-9


def test_the_worst_comes_first_and_is_clearly_worse():
    task, statistics = CASES["classification"]
    found = of_column(
        task, LABELS, statistics, task.figures(statistics, LABELS), CODES, (*NAMES, "nowhere")
    )
    accuracies = [one["accuracy"] for one in found.values()]
    assert next(iter(found)) == "first" and accuracies == sorted(accuracies)
    assert "nowhere" not in found
    assert found["first"]["verdict"] == WORSE and found["third"]["verdict"] == ""


def test_of_few_examples_nothing_is_said():
    true = np.arange(200) % 2
    right = np.where(np.arange(200) < 10 + FEW, 1 - true, true)
    codes = np.where(np.arange(200) < FEW - 1, 0, np.where(np.arange(200) < 10 + FEW, 1, 2))
    task, labels = Classification(), Labels("single", ("a", "b"))
    statistics = {"true": true, "predicted": right, "probabilities": np.eye(2)[right] * 0.8 + 0.1}
    whole = task.figures(statistics, labels)
    found = of_column(task, labels, statistics, whole, codes, NAMES)
    assert list(found) == ["third", "first", "second"]  # those with few examples last
    assert found["first"]["accuracy"] == 0.0 and found["first"]["verdict"] == TOO_FEW
    assert found["second"]["examples"] == 11 and found["second"]["verdict"] == TOO_FEW
    assert found["third"]["verdict"] == ""


@pytest.mark.parametrize(("monitor", "wanted"), [
    ("val_mae", ("mae", "min")), ("val_loss", ("pearson", "max")), ("val_r2", ("r2", "max")),
])  # fmt: skip
def test_slices_are_ranked_as_epochs_are(monitor, wanted):
    task = Regression(monitor=monitor)
    found = Ranking.of(task, task.figures(numbers(), Labels("number")))
    assert (found.metric, found.mode) == wanted


def test_a_metric_that_refuses_a_slice_leaves_it_without_figures():
    class Refusing(Regression):
        def figures(self, statistics, labels):
            if len(statistics["true"]) < COUNT:
                raise UserError("too few")
            return super().figures(statistics, labels)

    task, statistics = Refusing(), numbers()
    whole = task.figures(statistics, Labels("number"))
    found = of_column(task, Labels("number"), statistics, whole, CODES, NAMES)
    assert [one["verdict"] for one in found.values()] == [TOO_FEW] * 3
    assert found["first"] == {"examples": 30, "interval": {}, "verdict": TOO_FEW}
