"""What a segmenter learns of a batch."""

import numpy as np
import pytest
import tensorflow as tf

from kerasft.errors import UserError
from kerasft.evaluation.uncertainty import draws, resampled
from kerasft.spec import IGNORED, Labels
from kerasft.tasks.segmentation import Segmentation, segmentation_loss

LABELS = Labels("masks", ("ground", "cell"))


def test_ignored_pixels_teach_nothing():
    random = np.random.default_rng(0)
    y = random.integers(0, 2, (2, 4, 5)).astype("uint8")
    y[0, :2] = IGNORED
    outputs = random.normal(size=(2, 4, 5, 2)).astype("float32")
    other = outputs.copy()
    other[0, :2] = 50 * random.normal(size=(2, 5, 2))
    one, two = (float(segmentation_loss(tf.constant(y), tf.constant(o))) for o in (outputs, other))
    assert one == pytest.approx(two)
    real = y != IGNORED
    p = tf.nn.softmax(outputs).numpy()
    entropy = -np.log(np.take_along_axis(p, np.where(real, y, 0)[..., None], -1)[..., 0])[real]
    assert float(segmentation_loss(y, outputs, dice=0.0)) == pytest.approx(entropy.mean(), 1e-5)


def test_a_batch_of_ignored_pixels_has_no_loss_and_no_nan():
    y = tf.fill([1, 3, 3], tf.constant(IGNORED, tf.uint8))
    outputs = tf.Variable(tf.random.normal([1, 3, 3, 2]))
    with tf.GradientTape() as tape:
        loss = segmentation_loss(y, outputs)
    assert float(loss) == 0.0
    assert not np.isnan(tape.gradient(loss, outputs)).any()


def test_a_class_that_a_batch_lacks_asks_for_nothing():
    right = tf.one_hot(tf.zeros([1, 6, 6], tf.int32), 3) * 40.0
    assert float(segmentation_loss(tf.zeros([1, 6, 6], tf.uint8), right)) < 1e-3


def test_drawings_of_sums_are_those_of_figures():
    random = np.random.default_rng(0)
    statistics = {"pixels": random.integers(1, 50, (9, 2, 2)).astype("float64"),
                  "borders": random.integers(1, 50, (9, 2, 4)).astype("float64")}  # fmt: skip
    task = Segmentation()
    for name in task.headlines:
        quick = resampled(task, LABELS, name, statistics, draws(9, 5))
        slow = [task.figures({k: v[rows] for k, v in statistics.items()}, LABELS)[name]
                for rows in draws(9, 5)]
        np.testing.assert_allclose(quick, slow)


def test_mistakes():
    with pytest.raises(UserError, match=r"task\.dice_weight must be 0 or above"):
        Segmentation(dice_weight=-1.0)
