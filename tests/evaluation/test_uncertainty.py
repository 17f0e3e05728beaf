"""Intervals and tests, against formulas, SciPy and simulation."""

from __future__ import annotations

import numpy as np
import pytest

from kerasft.evaluation import uncertainty
from kerasft.rows import Rows
from kerasft.spec import Labels
from kerasft.tasks.classification import Classification
from kerasft.tasks.multi_label import MultiLabel
from kerasft.tasks.regression import Regression

SINGLE, MULTI = Labels("single", ("a", "b", "c")), Labels("multi", ("a", "b", "c"))


def measured(kind: str, count: int = 120, seed: int = 0):
    """Return a task, labels and statistics of a middling network."""
    random = np.random.default_rng(seed)
    logits = random.normal(size=(count, 3)).astype("float32")
    if kind == "number":
        y = random.normal(size=count).astype("float32")
        task, labels, found = Regression(), Labels("number"), {"value": y + logits[:, 0]}
    elif kind == "multi":
        y = (logits + random.normal(size=logits.shape) > 0.5).astype("float32")
        p = 1 / (1 + np.exp(-logits))
        task, labels, found = MultiLabel(), MULTI, {"probabilities": p, "labels": p >= 0.5}
    else:
        y = (logits + random.normal(size=logits.shape)).argmax(axis=-1)
        p = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
        task, labels, found = Classification(), SINGLE, {"probabilities": p}
    return task, labels, task.statistics_of(Rows.of({"label": y}), found, labels)


@pytest.mark.every(3)
@pytest.mark.parametrize(("kind", "metric"), [
    ("single", "accuracy"), ("single", "f1_macro"), ("single", "precision_weighted"),
    ("single", "roc_auc"), ("multi", "f1_micro"), ("multi", "recall_macro"),
    ("multi", "f1_samples"), ("number", "mae"), ("number", "rmse"), ("number", "pearson"),
])  # fmt: skip
def test_the_short_ways_give_what_score_does(kind, metric):
    task, labels, statistics = measured(kind)
    rows = list(uncertainty.draws(120, 12))
    found = uncertainty.resampled(task, labels, metric, statistics, rows)
    wanted = [task.figures({k: v[one] for k, v in statistics.items()}, labels)[metric]
              for one in rows]  # fmt: skip
    np.testing.assert_allclose(found, wanted, rtol=1e-6)


def test_a_figure_that_some_drawing_lacks_has_no_interval():
    task, labels, statistics = measured("single", 6)
    statistics["true"] = np.array([0, 0, 0, 0, 0, 1])  # no class "c": no area under a curve
    rows = uncertainty.draws(6, 5)
    assert uncertainty.resampled(task, labels, "roc_auc", statistics, rows) is None


def test_the_interval_of_an_accuracy_is_the_binomial_one():
    from scipy.stats import binom

    task, labels, statistics = measured("single", 400)
    values = uncertainty.resampled(
        task, labels, "accuracy", statistics, uncertainty.draws(400)
    )
    share = uncertainty.right(task, labels, "accuracy", statistics).mean()
    low, high = uncertainty.interval(values)
    assert low == pytest.approx(binom.ppf(0.025, 400, share) / 400, abs=0.008)
    assert high == pytest.approx(binom.ppf(0.975, 400, share) / 400, abs=0.008)


@pytest.mark.parametrize("count", [1, 5, 4001])
def test_examples_are_drawn_as_if_all_at_once(count):
    wanted = np.random.default_rng(7).integers(0, count, (9, count))
    np.testing.assert_array_equal(list(uncertainty.draws(count, 9, seed=7)), wanted)


@pytest.mark.parametrize("metric", ["accuracy", "f1_macro"])
def test_the_drawings_of_many_examples_need_no_room(metric):
    import tracemalloc

    task, labels, statistics = measured("single", 50_000)
    tracemalloc.start()
    try:
        rows = uncertainty.draws(50_000, 40)
        assert len(uncertainty.resampled(task, labels, metric, statistics, rows)) == 40
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 8e6  # 40 drawings at once are 16 MB, and their answers as much


@pytest.mark.slow
def test_intervals_hold_the_truth_as_often_as_they_say():
    """Of networks that are right in 70 % of all cases, seen on 150 examples each."""
    random, held = np.random.default_rng(1), 0
    for _ in range(200):
        right = random.random(150) < 0.7
        low, high = uncertainty.interval(
            np.array([right[one].mean() for one in uncertainty.draws(150, 400)])
        )
        held += low <= 0.7 <= high
    assert 0.88 <= held / 200 <= 0.99


def test_alike_networks_are_seldom_told_apart_and_others_often():
    random, falsely, rightly = np.random.default_rng(2), 0, 0
    for _ in range(200):
        mine, alike = random.random(300) < 0.8, random.random(300) < 0.8
        worse = mine & (random.random(300) < 0.85)
        falsely += uncertainty.mcnemar(mine, alike) < 0.05
        rightly += uncertainty.mcnemar(mine, worse) < 0.05
    assert falsely / 200 <= 0.05
    assert rightly / 200 >= 0.95
    assert uncertainty.mcnemar(mine, mine) == 1.0


def test_corrected_p_values_are_holms():
    assert uncertainty.holm([]) == []
    assert uncertainty.holm([0.04]) == [0.04]
    assert uncertainty.holm([0.01, 0.02, 0.9]) == [0.03, 0.04, 0.9]
    assert uncertainty.holm([0.9, 0.6]) == [1.0, 1.0]
    assert uncertainty.holm([0.01, 0.02, 0.9], of=6) == [0.06, 0.1, 1.0]
    random = np.random.default_rng(3)
    # Of twenty comparisons of which none is real, at most one table in twenty has a false one.
    tables = [min(uncertainty.holm(list(random.random(20)))) < 0.05 for _ in range(400)]
    assert np.mean(tables) <= 0.08


def test_few_seeds_tell_less_than_many():
    # From Student's table: 95 % lie within 4.303 for two degrees of freedom.
    assert uncertainty.p_value(4.303, 1.0, 2) == pytest.approx(0.05, abs=1e-4)
    assert uncertainty.p_value(1.96, 1.0) == pytest.approx(0.05, abs=1e-4)
    assert uncertainty.degrees(0.5, 0.0, 3) == np.inf
    # Welch's formula with one part that is known.
    assert uncertainty.degrees(1.0, 1.0, 2) == pytest.approx((1 + 1) ** 2 / (1**2 / 2))


def test_differences_without_variance():
    assert uncertainty.p_value(0.0, 0.0) == 1.0
    assert uncertainty.p_value(0.1, 0.0) == 0.0
    assert uncertainty.p_value(0.1, 1.0) > 0.9
