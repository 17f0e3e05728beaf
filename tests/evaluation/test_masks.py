"""Figures of masks, against scikit-learn, Keras and a count pixel by pixel."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from sklearn.metrics import confusion_matrix, f1_score, jaccard_score

from kerasft.evaluation import masks
from kerasft.spec import IGNORED


def pair(seed=0, size=(23, 31), classes=4):
    """Return a mask of blots with some ignored pixels, and another one like it."""
    random = np.random.default_rng(seed)
    rough = random.integers(0, classes, (4, 5))
    true = np.kron(rough, np.ones((8, 8), int))[: size[0], : size[1]].astype("uint8")
    predicted = np.roll(true, (1, -2), (0, 1))
    predicted[random.random(size) < 0.02] = 1
    true[:3, 5:9] = IGNORED
    return true, predicted


def test_the_pixels_are_those_of_scikit_learn():
    true, predicted = pair()
    found = masks.confusion(tf.constant(true), tf.constant(predicted), 4).numpy()
    real = true != IGNORED
    y, p = true[real], predicted[real]
    np.testing.assert_array_equal(found, confusion_matrix(y, p, labels=range(4)))
    by_class = masks.of_confusion(found)
    np.testing.assert_allclose(by_class["iou"], jaccard_score(y, p, average=None))
    np.testing.assert_allclose(by_class["dice"], f1_score(y, p, average=None))
    keras_iou = keras.metrics.MeanIoU(4, ignore_class=IGNORED)
    keras_iou.update_state(true.astype(int), predicted)
    figures = masks.summary(found, np.ones((4, 4)), "abcd")
    assert figures["mean_iou"] == pytest.approx(float(keras_iou.result()))
    assert figures["pixel_accuracy"] == pytest.approx((y == p).mean())


def slowly(true, predicted, classes, far):
    """Count border pixels near to one of the same class, one by one."""
    predicted = np.where(true == IGNORED, IGNORED, predicted)

    def borders(mask):
        found = {}
        for (y, x), unit in np.ndenumerate(mask):
            around = [(y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)]
            beside = {int(mask[at]) for at in around
                      if 0 <= at[0] < mask.shape[0] and 0 <= at[1] < mask.shape[1]}
            if unit != IGNORED and beside - {int(unit), IGNORED}:
                found.setdefault(int(unit), []).append((y, x))
        return found

    one, other = borders(predicted), borders(true)
    made = np.zeros((classes, 4))
    for unit in range(classes):
        mine, theirs = (np.array(b.get(unit, [])).reshape(-1, 2) for b in (one, other))
        for column, (a, b) in enumerate(((mine, theirs), (theirs, mine))):
            apart = np.sqrt(((a[:, None] - b[None]) ** 2).sum(-1))
            made[unit, 2 * column] = (apart <= far).any(axis=1).sum() if len(b) else 0
            made[unit, 2 * column + 1] = len(a)
    return made


@pytest.mark.parametrize(("seed", "near"), [(0, 0.0075), (1, 0.06), (2, 0.11)])
def test_borders_are_counted_as_by_hand(seed, near, monkeypatch):
    monkeypatch.setattr(masks, "NEAR", near)
    true, predicted = pair(seed)
    found = masks.borders_near(tf.constant(true), tf.constant(predicted), 4).numpy()
    far = max(1.0, near * np.hypot(*true.shape))
    np.testing.assert_array_equal(found, slowly(true, predicted, 4, far))
    assert found[:, 1].sum() > 0


def test_borders_that_are_alike_are_worth_1_and_none_nothing():
    true, _ = pair(3)
    found = masks.borders_near(tf.constant(true), tf.constant(true), 5).numpy()
    f1 = masks.of_borders(found)
    assert f1[:4].tolist() == [1.0] * 4
    assert np.isnan(f1[4])
    flat = tf.zeros([9, 9], tf.uint8)
    assert not masks.borders_near(flat, flat, 2).numpy().any()


def test_a_class_that_is_nowhere_counts_nowhere():
    counts = np.zeros((3, 3))
    counts[0, 0], counts[1, 0] = 90, 10
    figures = masks.summary(counts, np.zeros((3, 4)), ("ground", "cell", "none"))
    assert figures["mean_iou"] == pytest.approx((0.9 + 0.0) / 2)
    assert "iou" not in figures["per_class"]["none"]
    assert "boundary_f1" not in figures  # there is no border at all
    assert figures["per_class"]["cell"]["pixels"] == 0.1
