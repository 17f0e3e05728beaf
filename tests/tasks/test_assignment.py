"""Which places of a detector learn which object."""

import numpy as np
import pytest
import tensorflow as tf

from kerasft.system.memory import peak, resident
from kerasft.tasks import sliced
from kerasft.tasks.anchored import focal_loss
from kerasft.tasks.assignment import detection_loss, task_aligned
from kerasft.tasks.matched import query_loss


def outputs_of(boxes, points, scores):
    """Return what a head puts out, for one image."""
    logits = np.log(np.asarray(scores) / (1 - np.asarray(scores)))
    cells = np.concatenate([points - 4, points + 4], axis=-1)
    return tf.constant(np.concatenate([boxes, cells, logits], axis=-1)[None], tf.float32)


# Five places in a row, eight pixels apart; each guesses a box of eight pixels around itself.
POINTS = np.array([[4.0 + 8 * i, 4.0] for i in range(5)])
BOXES = np.concatenate([POINTS - 4, POINTS + 4], axis=1)
SCORES = np.full((5, 2), 0.1)


def truth(*rows):
    return tf.constant([[*rows, [-1, -1, -1, -1, -1, 0]]], tf.float32)


def test_the_place_that_fits_learns_the_object():
    y = truth([8, 0, 16, 8, 1, 0])
    boxes, targets, left_out = task_aligned(y, outputs_of(BOXES, POINTS, SCORES))
    assert np.argwhere(targets[0].numpy() > 0).tolist() == [[1, 1]]
    assert targets[0, 1, 1].numpy() == np.float32(1.0)
    assert boxes[0, 1].numpy().tolist() == [8, 0, 16, 8]
    assert not left_out.numpy().any()


def test_a_place_that_two_want_goes_to_the_nearer_one():
    y = truth([0, 0, 40, 8, 0, 0], [14, 0, 26, 8, 1, 0])
    _, targets, _ = task_aligned(y, outputs_of(BOXES, POINTS, SCORES))
    assert targets[0, 2].numpy().argmax() == 1
    assert (targets[0].numpy()[[0, 1, 3, 4]].argmax(axis=1) == 0).all()


def test_nothing_is_learned_in_ignored_regions():
    y = truth([0, 0, 16, 8, 0, 1])
    _, targets, left_out = task_aligned(y, outputs_of(BOXES, POINTS, SCORES))
    assert not targets.numpy().any()
    assert left_out[0].numpy().tolist() == [True, True, False, False, False]
    sure = np.full((5, 2), 0.1)
    sure[:2] = 0.9
    quiet = detection_loss(y, outputs_of(BOXES, POINTS, SCORES))
    np.testing.assert_allclose(detection_loss(y, outputs_of(BOXES, POINTS, sure)), quiet)


def test_images_without_objects_teach_that_nothing_is_there():
    y = tf.fill([1, 4, 6], -1.0)
    loss = [float(detection_loss(y, outputs_of(BOXES, POINTS, np.full((5, 2), score))))
            for score in (0.01, 0.1, 0.9)]  # fmt: skip
    assert 0 < loss[0] < loss[1] < loss[2]


def many(objects, places, whole=False):
    """Return two images of which one has so many objects, and what a head puts out for them."""
    random = np.random.default_rng(0)

    def boxes(*shape):
        corner = random.uniform(0, 90, (*shape, 2))
        return np.concatenate([corner, corner + random.uniform(2, 30, (*shape, 2))], -1)

    y = np.concatenate([boxes(2, objects), random.integers(0, 3, (2, objects, 1)),
                        random.uniform(size=(2, objects, 1)) < 0.1], -1)  # fmt: skip
    y[1, 3:] = [-1, -1, -1, -1, -1, 0]
    places_of = np.tile([0, 0, 120, 120], (2, places, 1)) if whole else boxes(2, places)
    outputs = [boxes(2, places), places_of, random.normal(size=(2, places, 3))]
    return tf.constant(y, tf.float32), tf.constant(np.concatenate(outputs, -1), tf.float32)


LOSSES = {"task_aligned": detection_loss, "focal": focal_loss, "queries": query_loss}


@pytest.mark.parametrize("name", LOSSES)
def test_objects_in_slices_teach_what_they_teach_at_once(name, monkeypatch):
    y, outputs = many(23, 40, name == "queries")

    def learned(most):
        monkeypatch.setattr(sliced, "MOST", most)
        with tf.GradientTape() as tape:
            tape.watch(outputs)
            loss = tf.function(LOSSES[name], autograph=False)(y, outputs)
        return loss, tape.gradient(loss, outputs)

    once = learned(2**22)
    # Five objects of both images at a time, or one image; and less than is at least taken.
    for most in (5 * 2 * 40, 1):
        for ours, wanted in zip(learned(most), once, strict=True):
            np.testing.assert_array_equal(ours, wanted)


@pytest.mark.parametrize("name", LOSSES)
def test_the_memory_of_a_step_has_a_bound_however_many_objects_an_image_has(name):
    loss = tf.function(LOSSES[name], autograph=False, reduce_retracing=True)
    queries = name == "queries"
    y, outputs = many(10_000, 300 if queries else 1000, queries)
    loss(y[:, :4], outputs)
    before = resident()
    with peak() as held:
        loss(y, outputs)
    assert held.bytes - before < 250e6


@pytest.mark.slow
def test_a_network_learns_boxes_by_it():
    """Free numbers instead of a network come to say what is there."""
    y = truth([7, 1, 17, 9, 1, 0])
    raw = tf.Variable(outputs_of(BOXES, POINTS, SCORES))
    start = float(detection_loss(y, raw))
    for _ in range(200):
        with tf.GradientTape() as tape:
            loss = detection_loss(y, raw)
        step = tape.gradient(loss, raw) * tf.constant([1.0] * 4 + [0.0] * 4 + [1.0] * 2)
        raw.assign_sub(0.5 * step)
    assert float(loss) < 0.3 * start
    best = raw[0].numpy()[raw[0, :, 9].numpy().argmax()]
    np.testing.assert_allclose(best[:4], [7, 1, 17, 9], atol=1.0)
