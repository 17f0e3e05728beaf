"""Which anchors of a detector learn which object."""

import keras
import keras_hub
import numpy as np
import pytest
import tensorflow as tf

from kerasft.model.vision.anchors import anchors_of
from kerasft.tasks.anchored import by_overlap, focal_loss
from kerasft.tasks.assignment import detection_loss

# Squares of ten pixels in a row, and one that reaches over two of them.
ANCHORS = np.array([[10.0 * i, 0, 10.0 * i + 10, 10] for i in range(5)] + [[20, 0, 40, 10]])
NOTHING = [-1, -1, -1, -1, -1, 0]


def truth(*rows):
    return tf.constant([[*rows, NOTHING]], tf.float32)


def assigned(*rows):
    anchors = tf.constant(ANCHORS[None], tf.float32)
    boxes, classes, left_out = by_overlap(truth(*rows), anchors)
    return boxes[0].numpy(), classes[0].numpy().tolist(), left_out[0].numpy().tolist()


def outputs_of(boxes, score):
    """Return what a head puts out for one image, of two classes that are equally likely."""
    logits = np.full((len(boxes), 2), np.log(score / (1 - score)))
    return tf.constant(np.concatenate([boxes, ANCHORS, logits], -1)[None], tf.float32)


def test_anchors_that_overlap_by_half_learn_an_object():
    boxes, classes, left_out = assigned([10, 0, 20, 10, 1, 0])
    assert classes == [-1, 1, -1, -1, -1, -1]
    assert boxes[1].tolist() == [10, 0, 20, 10]
    assert not any(left_out)
    # Overlaps of 1/2 with the first one (it learns) and of 2/3 with the second.
    assert assigned([0, 0, 20, 10, 0, 0])[1][:2] == [0, 0]


def test_between_four_and_five_tenths_nothing_is_learned():
    # The anchor of 20x10 pixels covers 9/20 of itself; the square is the better one: 9/10.
    _, classes, left_out = assigned([20, 0, 29, 10, 1, 0])
    assert classes == [-1, -1, 1, -1, -1, -1]
    assert left_out == [False] * 5 + [True]
    # 8/20 is on the border, 7/20 below it: it learns that nothing is there.
    assert assigned([20, 0, 28, 10, 1, 0])[2][5]
    assert not assigned([20, 0, 27, 10, 1, 0])[2][5]


def test_an_object_without_a_fitting_anchor_goes_to_the_best_one():
    _, classes, left_out = assigned([11, 1, 14, 4, 1, 0])
    assert classes == [-1, 1, -1, -1, -1, -1]
    assert not any(left_out)
    # It goes before the one that the anchor overlaps more.
    boxes, classes, _ = assigned([10, 0, 20, 9, 0, 0], [11, 1, 14, 4, 1, 0])
    assert classes[1] == 0 or boxes[1].tolist() == [10, 0, 20, 9]


def test_an_object_out_of_reach_of_all_anchors_teaches_nothing():
    assert assigned([200, 200, 210, 210, 1, 0])[1] == [-1] * 6


def test_ignored_regions_are_left_out():
    _, classes, left_out = assigned([0, 0, 20, 10, 0, 1], [40, 0, 50, 10, 1, 0])
    assert classes == [-1, -1, -1, -1, 1, -1]
    assert left_out == [True, True, False, False, False, False]
    quiet = focal_loss(truth([0, 0, 20, 10, 0, 1]), outputs_of(ANCHORS, 0.01))
    loud = outputs_of(ANCHORS, 0.01).numpy()
    loud[0, :2, 8:] = 3.0
    np.testing.assert_allclose(focal_loss(truth([0, 0, 20, 10, 0, 1]), loud), quiet)
    # A real object within one is learned all the same.
    assert assigned([0, 0, 20, 10, 0, 1], [10, 0, 20, 10, 1, 0])[1][1] == 1


def test_a_batch_without_objects_teaches_that_nothing_is_there():
    y = tf.fill([1, 4, 6], -1.0)
    losses = [float(focal_loss(y, outputs_of(ANCHORS, score))) for score in (0.01, 0.1, 0.9)]
    assert 0 < losses[0] < losses[1] < losses[2]


def test_the_loss_is_that_of_the_paper():
    y, score = truth([10, 0, 20, 10, 1, 0]), 0.2
    found = ANCHORS.copy()
    found[1] += [1, 0, 1, 0]  # a tenth of the anchor to the right
    wanted = (0.25 * 0.8**2 * -np.log(0.2) + 11 * 0.75 * 0.2**2 * -np.log(0.8)
              + 0.1**2 / (2 / 9))  # fmt: skip
    loss = focal_loss(y, outputs_of(found, score))
    np.testing.assert_allclose(loss, wanted, rtol=1e-4)
    heavy = focal_loss(y, outputs_of(found, score), box=3.0)
    np.testing.assert_allclose(heavy - loss, 2 * 0.1**2 / (2 / 9), rtol=1e-3)


@pytest.mark.every(2)
@pytest.mark.parametrize("loss", [focal_loss, detection_loss])
def test_both_losses_can_be_computed_of_the_same_outputs(loss):
    y, raw = truth([12, 0, 22, 10, 1, 0]), tf.Variable(outputs_of(ANCHORS, 0.1))

    @tf.function
    def step():
        with tf.GradientTape() as tape:
            value = loss(y, raw)
        free = tf.constant([1.0] * 4 + [0.0] * 4 + [1.0] * 2)  # anchors stand still
        raw.assign_sub(0.5 * tape.gradient(value, raw) * free)
        return value

    start = float(loss(y, raw))
    for _ in range(200):
        now = step()
    assert float(now) < 0.3 * start, loss
    best = raw[0].numpy()[raw[0, :, 9].numpy().argmax()]
    np.testing.assert_allclose(best[:4], [12, 0, 22, 10], atol=1.0)


def test_it_assigns_as_kerashub_does():
    random = np.random.default_rng(0)
    anchors = anchors_of((64, 96), [(8, 12), (4, 6), (2, 3)])
    # Each fits some anchor by half, and none overlaps another one: there both agree.
    corners = np.array([[x, y] for y in (2, 34) for x in (0, 32, 64)], "float32")
    corners += random.uniform(0, 2, (6, 2))
    boxes = np.concatenate([corners, corners + random.uniform(26, 29, (6, 2))], -1)
    y = np.concatenate([boxes, np.arange(6)[:, None], np.zeros((6, 1))], -1)[None]
    ours = [one.numpy()[0] for one in by_overlap(
        tf.constant(y, tf.float32), tf.constant(anchors[None]))]  # fmt: skip
    overlaps = keras.utils.bounding_boxes.compute_iou(
        anchors.astype("float32"), boxes.astype("float32"), bounding_box_format="xyxy"
    )
    match = keras_hub.layers.BoxMatcher([0.4, 0.5], [-1, -2, 1])
    columns, values = (one.numpy() for one in match(overlaps))
    assert set(ours[1].tolist()) == {-1, 0, 1, 2, 3, 4, 5} and ours[2].any()
    np.testing.assert_array_equal(ours[1] >= 0, values == 1)
    np.testing.assert_array_equal(ours[2], values == -2)
    np.testing.assert_array_equal(ours[1][values == 1], columns[values == 1])
