from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from kerasft.errors import UserError
from kerasft.evaluation import ordered
from kerasft.evaluation.uncertainty import draws, resampled
from kerasft.rows import Rows
from kerasft.spec import Labels
from kerasft.tasks.classification import Classification
from kerasft.tasks.monitors import require_known

STARS = Labels("single", ("1", "2", "3", "4", "5"))


def test_figures_equal_those_of_scikit_learn():
    rng = np.random.default_rng(0)
    true = rng.integers(0, 5, 200)
    near = np.clip(true + rng.integers(-1, 2, 200), 0, 4)
    found = ordered.figures(true, near)
    assert found["mae"] == pytest.approx(np.abs(true - near).mean())
    kappa = cohen_kappa_score(true, near, weights="quadratic")
    assert found["quadratic_kappa"] == pytest.approx(kappa)
    assert list(ordered.figures(np.zeros(3), np.zeros(3))) == ["mae"]


def measured(task, labels, true, predicted):
    logits = np.eye(len(labels.names), dtype=np.float32)[predicted] * 9
    annotations = Rows.of({"label": np.asarray(true)})
    statistics = task.statistics(annotations, Rows.of({"logits": logits}), labels)
    return task.figures(statistics, labels), statistics


def test_ranks_are_those_of_the_order_that_is_given():
    found, statistics = measured(Classification(ordered=True), STARS, [0, 4, 2], [0, 4, 0])
    assert found["mae"] == pytest.approx(2 / 3)
    task = Classification(ordered=["low", "middle", "high"])
    words = Labels("single", ("high", "low", "middle"))
    assert measured(task, words, [0, 1], [1, 1])[0]["mae"] == 1.0
    assert "mae" not in measured(Classification(), STARS, [0], [0])[0]
    for name in ordered.NAMES:
        drawn = resampled(Classification(ordered=True), STARS, name, statistics, draws(3, 5))
        assert len(drawn) == 5


def test_they_are_shown_and_watched():
    for order in (True, ["low", "high"]):
        task = Classification(ordered=order, monitor="val_quadratic_kappa")
        assert task.headlines[-2:] == ordered.NAMES and task.mode == "max"
        assert "val_mae" in task.each_epoch
        require_known(task, {})
    assert Classification(ordered=True, monitor="val_mae").mode == "min"
    with pytest.raises(UserError, match="val_mae"):
        require_known(Classification(monitor="val_mae"), {})


@pytest.mark.parametrize(
    ("order", "words"),
    [
        (True, r"'task\.ordered=\[high,low,middle\]'"),
        (["low", "high"], "must name each class once"),
        (["low", "low", "high"], "must name each class once"),
    ],
)
def test_an_order_that_is_none_is_refused_before_training(order, words):
    labels = Labels("single", ("high", "low", "middle"))
    annotations = Rows.of({"label": np.array([0, 1, 2])})
    with pytest.raises(UserError, match=words):
        Classification(ordered=order).targets(annotations, labels, training=True)
