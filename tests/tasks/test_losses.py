"""Losses by name or by `_target_`, of classes and of numbers."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest

from kerasft.errors import UserError
from kerasft.rows import Rows
from kerasft.spec import Labels
from kerasft.tasks import losses
from kerasft.tasks.classification import Classification
from kerasft.tasks.multi_label import MultiLabel
from kerasft.tasks.multi_regression import MultiRegression
from kerasft.tasks.regression import Regression
from kerasft.testing import check_task

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=(6, 3)).astype(np.float32)
ONE_HOT = np.eye(3, dtype=np.float32)[[0, 1, 2, 0, 1, 2]]
MANY = (RNG.random((6, 3)) < 0.5).astype(np.float32)
MULTI = Labels("multi", ("joy", "anger", "fear"))


HERE = Path(__file__)


@pytest.fixture(autouse=True)
def found(monkeypatch):
    """Let this module be found as one of the user's own."""
    monkeypatch.syspath_prepend(str(HERE.parent))


def of_probabilities(y_true, y_pred, power=1.0):
    return keras.ops.mean(keras.ops.abs(y_true - y_pred) ** power, axis=-1)


def of_logits(y_true, y_pred, from_logits=False):
    assert from_logits
    return keras.ops.mean(y_pred, axis=-1)


def makes_one(delta):
    return keras.losses.Huber(delta=delta)


def loss_of(task):
    return task.compile()["loss"]


def own(name, **values):
    return {"_target_": f"{HERE.stem}.{name}", **values}


@pytest.mark.parametrize("kind", list(losses.NAMES))
def test_every_name_is_a_loss_that_gives_a_number(kind):
    y = MANY if kind == "multi" else ONE_HOT
    activation = {"single": keras.ops.softmax, "multi": keras.ops.sigmoid}.get(kind)
    for name in losses.NAMES[kind]:
        for written in (name, losses._snake(name)):
            assert losses.class_of(written, kind) == name
        assert hasattr(keras.losses, losses._snake(name)), "it is the name of Keras' function too"
        if name not in losses.POSITIVE:
            found = losses.made(name, kind, activation=activation)
            losses.require_finite(found, y, LOGITS)


def test_a_loss_with_from_logits_gets_logits_and_any_other_one_probabilities():
    focal = keras.losses.CategoricalFocalCrossentropy(gamma=3.0, from_logits=True)
    node = {"_target_": "keras.losses.CategoricalFocalCrossentropy", "gamma": 3.0}
    found = loss_of(Classification(loss=node))
    assert float(found(ONE_HOT, LOGITS)) == pytest.approx(float(focal(ONE_HOT, LOGITS)))
    probabilities = np.asarray(keras.ops.softmax(LOGITS))
    for loss in ("mse", own("of_probabilities", power=2.0)):
        found = float(loss_of(Classification(loss=loss))(ONE_HOT, LOGITS))
        assert found == pytest.approx(((ONE_HOT - probabilities) ** 2).mean(), rel=1e-5)
    found = float(loss_of(Classification(loss=own("of_logits")))(ONE_HOT, LOGITS))
    assert found == pytest.approx(LOGITS.mean(), rel=1e-5)
    weighted = loss_of(Classification(loss="mse"))
    assert float(weighted(ONE_HOT, LOGITS, sample_weight=np.zeros(6))) == 0.0


def test_the_usual_losses_are_as_they_were():
    usual = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.1)
    found = loss_of(Classification(label_smoothing=0.1))
    assert float(found(ONE_HOT, LOGITS)) == float(usual(ONE_HOT, LOGITS))
    usual = keras.losses.BinaryCrossentropy(from_logits=True)
    assert float(loss_of(MultiLabel())(MANY, LOGITS)) == pytest.approx(
        3 * float(usual(MANY, LOGITS)), rel=1e-6
    )


def test_losses_of_numbers():
    y, outputs = np.array([[0.0], [4.0]], np.float32), np.zeros((2, 1), np.float32)
    assert float(loss_of(Regression(loss="mae"))(y, outputs)) == 2.0
    huber = {"_target_": "keras.losses.Huber", "delta": 2.0}
    expected = float(keras.losses.Huber(delta=2.0)(y, outputs))
    for loss in (huber, own("makes_one", delta=2.0)):
        assert float(loss_of(Regression(loss=loss))(y, outputs)) == expected
    two = MultiRegression(loss="log_cosh", means=(0.0, 0.0), stds=(1.0, 1.0))
    assert float(loss_of(two)(np.eye(2), np.eye(2))) == pytest.approx(0.0)
    assert loss_of(Regression(loss="poisson", scale=False)) is not None


def test_focal_is_the_one_of_the_kind():
    assert losses.class_of("focal", "single") == "CategoricalFocalCrossentropy"
    focal = keras.losses.BinaryFocalCrossentropy(from_logits=True)
    found = float(loss_of(MultiLabel(loss="focal"))(MANY, LOGITS))
    assert found == pytest.approx(3 * float(focal(MANY, LOGITS)), rel=1e-5)


@pytest.mark.parametrize("loss", [None, "binary_focal_crossentropy"])
def test_labels_are_balanced_one_by_one(loss):
    import tensorflow as tf

    y = np.array([[1, 0, 0], [0, 0, 1], [0, 0, 0], [0, 0, 1]], np.float32)
    annotations = Rows.of({"label": y})
    task = MultiLabel(class_weight="balanced", loss=loss).adapt(annotations)
    with_it, without = task.weights(MULTI)
    # One in four, none, half: what none has is weighed as ever.
    np.testing.assert_allclose(with_it, [2.0, 1.0, 1.0])
    np.testing.assert_allclose(without, [2 / 3, 1.0, 1.0])
    targets = task.targets(annotations, MULTI, training=True).gather(np.arange(4))
    found, weights = task.batch(None, {k: tf.constant(v) for k, v in targets.items()}, MULTI)
    np.testing.assert_array_equal(found, y)
    np.testing.assert_allclose(weights, np.where(y > 0, with_it, without), rtol=1e-6)
    logits = RNG.normal(size=(4, 3)).astype(np.float32)
    whole = float(loss_of(task)(y, logits, sample_weight=weights))
    function = keras.losses.binary_crossentropy if loss is None else (
        keras.losses.binary_focal_crossentropy)  # fmt: skip
    each = np.asarray(function(y[..., None], logits[..., None], from_logits=True))
    assert whole == pytest.approx(float((each * np.asarray(weights)).sum(axis=1).mean()), rel=1e-5)
    # What is validated counts alike, and is the usual loss.
    plain = task.targets(annotations, MULTI).gather(np.arange(4))
    assert task.batch(None, plain, MULTI)[1] is None
    assert float(loss_of(task)(y, logits)) == pytest.approx(
        float(loss_of(MultiLabel(loss=loss))(y, logits)), rel=1e-6
    )


def test_balanced_labels_keep_the_contract():
    check_task(MultiLabel(class_weight="balanced"), MULTI)
    check_task(Classification(ordered=True, loss="focal"), Labels("single", ("1", "2", "3")))


def test_labels_are_weighed_by_name():
    task = MultiLabel(class_weight={"fear": 5})
    np.testing.assert_array_equal(task.weights(MULTI), [[1, 1, 5], [1, 1, 1]])
    with pytest.raises(UserError, match="Did you mean 'fear'"):
        annotations = Rows.of({"label": MANY})
        MultiLabel(class_weight={"feer": 5}).targets(annotations, MULTI, training=True)


def test_mixed_labels_are_weighed_by_their_shares():
    task = MultiLabel(class_weight={"fear": 5})
    targets = {"labels": np.array([[0.0, 0.0, 0.5]], np.float32), "weighted": np.array([True])}
    np.testing.assert_allclose(task.batch(None, targets, MULTI)[1], [[1, 1, 3]])


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Classification(loss="focl"), "Did you mean 'focal'"),
        (lambda: Classification(loss="sparse_categorical_crossentropy"),
         "Did you mean 'categorical_crossentropy'"),
        (lambda: Regression(loss="hubert"), "Did you mean 'huber'"),
        (lambda: Classification(loss={"gamma": 2}), "mapping with a `_target_`"),
        (lambda: Regression(loss="mae", loss_name="huber"), "both choose the loss"),
        (lambda: Regression(loss="poisson"), r"task\.scale=false"),
        (lambda: MultiRegression(loss="msle"), "labels above 0"),
        (lambda: MultiLabel(loss="dice", class_weight="balanced"), "needs a binary loss"),
        (lambda: MultiLabel(class_weight="balancd"), "Did you mean 'balanced'"),
        (lambda: Classification(loss="mse", label_smoothing=0.1).compile(),
         "label_smoothing cannot be handed"),
        (lambda: Classification(loss={"_target_": "keras.metrics.AUC"}).compile(),
         "must be a keras.losses.Loss"),
    ],
)  # fmt: skip
def test_what_is_no_loss_is_refused(make, words):
    with pytest.raises(UserError, match=words):
        make()


def fails(y_true, y_pred):
    raise KeyError("nothing here")


def test_a_loss_that_cannot_be_computed_is_told_before_training():
    with pytest.raises(UserError, match="cannot be computed of labels"):
        losses.require_finite(fails, ONE_HOT, LOGITS)
    with pytest.raises(UserError, match="must give a finite number"):
        losses.require_finite(lambda y, p: np.nan, ONE_HOT, LOGITS)
