from __future__ import annotations

import json

import numpy as np
import pytest
import sklearn.metrics as sk
from scipy import stats

from kerasft.evaluation import metrics

AVERAGES = ("macro", "micro", "weighted")


def probabilities(n: int, classes: int, seed: int = 0) -> np.ndarray:
    raw = np.random.default_rng(seed).gamma(0.6, size=(n, classes)) + 1e-3
    return (raw / raw.sum(axis=-1, keepdims=True)).astype(np.float32)


def check_rates(scores, y, predicted, averages) -> None:
    for average in averages:
        expected = sk.precision_recall_fscore_support(
            y, predicted, average=average, zero_division=0
        )[:3]
        found = [scores[f"{key}_{average}"] for key in ("precision", "recall", "f1")]
        np.testing.assert_allclose(found, expected, atol=1e-12, err_msg=average)


@pytest.mark.parametrize("classes", [2, 3, 9])
@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.float32])
def test_single_equals_scikit_learn(classes, dtype):
    names = [f"c{i}" for i in range(classes)]
    p = probabilities(150, classes)
    y = np.random.default_rng(1).integers(0, classes, 150).astype(dtype)
    scores = metrics.single(y, p, names)
    predicted = p.argmax(-1)
    check_rates(scores, y, predicted, AVERAGES)
    exact = p.astype(np.float64) / p.astype(np.float64).sum(-1, keepdims=True)
    assert scores["accuracy"] == pytest.approx(sk.accuracy_score(y, predicted))
    assert scores["log_loss"] == pytest.approx(sk.log_loss(y, exact))
    if classes == 2:
        assert scores["roc_auc"] == pytest.approx(sk.roc_auc_score(y, p[:, 1]))
        assert scores["average_precision"] == pytest.approx(sk.average_precision_score(y, p[:, 1]))
    else:
        assert scores["roc_auc"] == pytest.approx(sk.roc_auc_score(y, exact, multi_class="ovr"))
    assert ("top_5_accuracy" in scores) == (classes > 5)
    if classes > 5:
        assert scores["top_5_accuracy"] == pytest.approx(sk.top_k_accuracy_score(y, exact, k=5))
    by_class = sk.precision_recall_fscore_support(y, predicted, zero_division=0)
    for i, name in enumerate(names):
        assert list(scores["per_class"][name].values()) == pytest.approx(
            [float(column[i]) for column in by_class]
        )
    np.testing.assert_array_equal(
        metrics.confusion(y, predicted, names), sk.confusion_matrix(y, predicted)
    )
    json.dumps(scores, allow_nan=False)


def test_single_with_classes_that_do_not_occur():
    p = probabilities(40, 6)
    p[:, 4] = 0  # neither true nor predicted
    y = np.random.default_rng(2).integers(0, 4, 40)
    scores = metrics.single(y, p, "abcdef")
    check_rates(scores, y, p.argmax(-1), AVERAGES)
    assert "roc_auc" not in scores
    assert scores["per_class"]["e"] == {"precision": 0, "recall": 0, "f1": 0, "support": 0}
    assert metrics.confusion(y, p.argmax(-1), "abcdef").shape == (6, 6)


def test_single_with_one_example():
    scores = metrics.single(np.array([1]), np.array([[0.25, 0.75]]), ("no", "yes"))
    assert scores["accuracy"] == scores["f1_macro"] == 1.0
    assert scores["log_loss"] == pytest.approx(-np.log(0.75))
    assert "roc_auc" not in scores


def test_single_of_a_network_that_diverged():
    scores = metrics.single(np.array([0, 1]), np.full((2, 2), np.nan), ("no", "yes"))
    assert scores["accuracy"] == 0.5
    assert "log_loss" not in scores


@pytest.mark.parametrize("classes", [2, 5])
def test_multi_equals_scikit_learn(classes):
    rng = np.random.default_rng(3)
    p = rng.random((80, classes)).astype(np.float32)
    y = (rng.random((80, classes)) < 0.3).astype(np.float32)
    decided = p >= 0.6
    scores = metrics.multi(y, p, decided, "abcde"[:classes])
    check_rates(scores, y, decided, (*AVERAGES, "samples"))
    assert scores["subset_accuracy"] == pytest.approx(sk.accuracy_score(y, decided))
    assert scores["hamming_loss"] == pytest.approx(sk.hamming_loss(y, decided))
    assert scores["roc_auc"] == pytest.approx(sk.roc_auc_score(y, p))
    assert scores["average_precision"] == pytest.approx(sk.average_precision_score(y, p))
    json.dumps(scores, allow_nan=False)


def test_multi_with_an_absent_class_and_one_class():
    rng = np.random.default_rng(4)
    p = rng.random((30, 3))
    y = (rng.random((30, 3)) < 0.4).astype(np.float32)
    y[:, 1] = 0
    scores = metrics.multi(y, p, p > 0.5, "abc")
    check_rates(scores, y, p > 0.5, (*AVERAGES, "samples"))
    assert scores["roc_auc"] == pytest.approx(sk.roc_auc_score(y[:, [0, 2]], p[:, [0, 2]]))
    one = metrics.multi(y[:, :1], p[:, :1], p[:, :1] > 0.5, "a")
    assert one["f1_macro"] == pytest.approx(sk.f1_score(y[:, 0], p[:, 0] > 0.5))
    nothing = metrics.multi(np.zeros((1, 2)), np.zeros((1, 2)), np.zeros((1, 2)), "ab")
    assert nothing["f1_micro"] == 0 and nothing["subset_accuracy"] == 1
    assert "roc_auc" not in nothing


def test_number_equals_scikit_learn_and_scipy():
    rng = np.random.default_rng(5)
    y = rng.normal(200_000, 50_000, 60).astype(np.float32)
    predicted = (y + rng.normal(0, 20_000, 60)).astype(np.float32)
    scores = metrics.number(y, predicted.reshape(-1, 1))
    y, predicted = y.astype(np.float64), predicted.astype(np.float64)
    assert scores == pytest.approx(
        {
            "mae": sk.mean_absolute_error(y, predicted),
            "mse": sk.mean_squared_error(y, predicted),
            "rmse": sk.root_mean_squared_error(y, predicted),
            "r2": sk.r2_score(y, predicted),
            "pearson": stats.pearsonr(y, predicted)[0],
            "spearman": stats.spearmanr(y, predicted)[0],
        }
    )


def test_number_where_a_figure_cannot_be_told():
    assert set(metrics.number([1.0], [2.0])) == {"mae", "mse", "rmse"}
    assert set(metrics.number([3.0, 3.0], [2.0, 4.0])) == {"mae", "mse", "rmse"}
    constant = metrics.number([1.0, 2.0, 3.0], [2.5, 2.5, 2.5])
    assert constant["pearson"] == constant["spearman"] == 0.0
    assert constant["r2"] == pytest.approx(sk.r2_score([1, 2, 3], [2.5] * 3))
    assert metrics.number([1.0, 2.0], [np.nan, 1.0]) == {}


def test_no_examples_is_said():
    with pytest.raises(ValueError, match="at least one example"):
        metrics.single(np.array([]), np.zeros((0, 2)), ("a", "b"))
