"""Linear models at their optimum: as scikit-learn finds it, and where the gradient is near zero."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from scipy import sparse
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.preprocessing import StandardScaler

from kerasft.errors import UserError
from kerasft.model import linear
from kerasft.model.linear import STRENGTHS, Linear, independent, logistic, ridge

COUNT, WIDTH = 240, 12


@pytest.fixture(scope="module")
def features() -> np.ndarray:
    """Features of very different sizes, the last one a constant."""
    rng = np.random.default_rng(0)
    made = rng.normal(size=(COUNT, WIDTH)) * 10.0 ** rng.integers(-3, 3, WIDTH) + 5
    made[:, -1] = 7.25
    return made.astype("float32")


@pytest.fixture(scope="module")
def scores(features: np.ndarray) -> np.ndarray:
    rng = np.random.default_rng(1)
    standard = StandardScaler().fit_transform(features.astype("float64"))
    return standard @ rng.normal(size=(WIDTH, 3)) + rng.normal(size=(COUNT, 3))


@pytest.fixture(scope="module")
def weights() -> np.ndarray:
    return np.random.default_rng(2).uniform(0.2, 3.0, COUNT)


def test_logistic_is_as_scikit_learn_finds_it(features, scores, weights):
    classes, strength = scores.argmax(axis=1), 0.01
    found = logistic(features, classes, weights=weights, strengths=[strength])
    scaler = StandardScaler().fit(features.astype("float64"), sample_weight=weights)
    theirs = LogisticRegression(C=1 / (strength * weights.sum()), tol=1e-10, max_iter=5000)
    theirs.fit(scaler.transform(features.astype("float64")), classes, sample_weight=weights)
    expected = theirs.decision_function(scaler.transform(features.astype("float64")))
    apart = found(features) - expected
    # Logits are known up to one number for each example.
    np.testing.assert_allclose(apart - apart.mean(axis=1, keepdims=True), 0, atol=1e-3)
    assert found.gradient < 1e-6
    assert (found.kernel[-1] == 0).all()


def test_gradient_is_near_zero_where_it_is_taken_by_hand(features, scores):
    classes, strength = scores.argmax(axis=1), 0.03
    found = logistic(features, classes, strengths=[strength])
    logits = found(features)
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    wrong = odds / odds.sum(axis=1, keepdims=True) - np.eye(3)[classes]
    assert np.abs(wrong.mean(axis=0)).max() < 1e-6
    given = features.astype("float64")[:, :-1]
    spread = given.std(axis=0)
    standard = (given - given.mean(axis=0)) / spread
    penalty = strength * found.kernel[:-1] * spread[:, None]
    assert np.abs(standard.T @ wrong / COUNT + penalty).max() < 1e-5


def test_probabilities_as_targets_are_as_classes_in_these_shares(features, scores):
    classes = scores.argmax(axis=1)
    once = logistic(features, classes, strengths=[0.1])
    again = logistic(features, np.eye(3)[classes], strengths=[0.1])
    np.testing.assert_allclose(once.kernel, again.kernel)


def test_independent_is_one_binary_regression_a_class(features, scores, weights):
    several = (scores > 0).astype("float32")
    found = independent(features, several, weights=weights, strengths=[0.02])
    scaler = StandardScaler().fit(features.astype("float64"), sample_weight=weights)
    rows = scaler.transform(features.astype("float64"))
    for i in range(3):
        theirs = LogisticRegression(C=1 / (0.02 * weights.sum()), tol=1e-10, max_iter=5000)
        theirs.fit(rows, several[:, i], sample_weight=weights)
        np.testing.assert_allclose(
            found(features)[:, i], theirs.decision_function(rows), atol=1e-3
        )


@pytest.mark.parametrize("count", [COUNT, WIDTH - 4], ids=("tall", "wide"))
def test_ridge_is_as_scikit_learn_finds_it(features, scores, weights, count):
    rows, weights = features[:count, :-1].astype("float64"), weights[:count]
    numbers = scores[:count, :2] * [1.0, 100.0] + [0.0, 3.0]
    found = ridge(rows, numbers, weights=weights, strengths=[0.05])
    standard = StandardScaler().fit(rows, sample_weight=weights).transform(rows)
    theirs = Ridge(alpha=0.05 * weights.sum()).fit(standard, numbers, sample_weight=weights)
    np.testing.assert_allclose(found(rows), theirs.predict(standard), rtol=1e-6, atol=1e-6)


def test_sparse_features_give_what_dense_ones_do_without_standardizing(features, scores):
    rows = np.where(features > 5, 1.0, 0.0)
    classes = scores.argmax(axis=1)
    for solve, targets in (
        (logistic, classes), (independent, np.eye(3)[classes]), (ridge, scores[:, 0])
    ):
        dense = solve(rows, targets, strengths=[0.01], standardize=False)
        thin = solve(sparse.csr_matrix(rows), targets, strengths=[0.01])
        np.testing.assert_allclose(thin(sparse.csr_matrix(rows)), dense(rows), atol=1e-3)


def test_strength_is_the_one_with_the_least_validation_loss(features, scores):
    classes = scores.argmax(axis=1)
    learned, held = slice(0, 60), slice(60, None)
    found = logistic(
        features[learned], classes[learned], validation=(features[held], classes[held])
    )
    assert found.strength == min(found.losses, key=found.losses.__getitem__)
    assert found.strength not in (max(STRENGTHS), min(STRENGTHS))

    def loss(strength: float) -> float:
        one = logistic(features[learned], classes[learned], strengths=[strength], classes=3)
        logits = one(features[held])
        logs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        return -logs[np.arange(len(logits)), classes[held]].mean()

    assert found.losses[found.strength] == pytest.approx(loss(found.strength), abs=1e-5)
    assert loss(found.strength) < min(loss(found.strength * 10), loss(found.strength / 10))


def test_without_validation_examples_folds_choose_the_strength(features, scores):
    classes = scores.argmax(axis=1)
    found = logistic(features[:60], classes[:60])
    assert 1e-5 < found.strength < 10
    again = logistic(features[:60], classes[:60])
    assert (found.kernel == again.kernel).all()
    assert logistic(features[:60], classes[:60], seed=1).losses != found.losses
    one = logistic(features[:60], classes[:60], strengths=[found.strength])
    np.testing.assert_allclose(found(features), one(features), atol=1e-3)


def test_noise_is_answered_with_the_mean(features):
    rng = np.random.default_rng(3)
    numbers = rng.normal(size=COUNT)
    found = ridge(features[:120], numbers[:120], validation=(features[120:], numbers[120:]))
    assert isinstance(found, Linear)
    assert found.strength >= 0.1


def test_a_class_that_no_example_has_is_unlikely(features, scores):
    found = logistic(features, scores.argmax(axis=1), classes=4, strengths=[0.01])
    assert found.kernel.shape == (WIDTH, 4)
    assert (found(features).argmax(axis=1) != 3).all()


def test_features_that_are_no_numbers_are_told(features, scores):
    broken = features.copy()
    broken[3, 2] = np.nan
    with pytest.raises(UserError, match="features must be finite numbers"):
        logistic(broken, scores.argmax(axis=1))


def test_loss_of_classes_is_that_of_their_rows_of_0_and_1_and_takes_less_memory():
    rng = np.random.default_rng(4)
    outputs, classes = rng.normal(size=(4000, 250)) * 20, rng.integers(250, size=4000)
    rows = np.eye(250)[classes]
    each, by_output = linear._cross_entropy(outputs, classes)
    for mine, theirs in zip((each, by_output), linear._cross_entropy(outputs, rows), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=0, atol=1e-12)
    del rows, by_output
    tracemalloc.start()
    try:
        linear._cross_entropy(outputs, classes)
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # Of 100,000 examples and 1,000 classes outputs have 0.8 GB, and the loss takes twice as much.
    assert most < 2.1 * outputs.nbytes
