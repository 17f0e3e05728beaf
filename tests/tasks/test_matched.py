"""Which queries of a detector learn which object, and the losses of that."""

import itertools
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
from keras_hub.src.models.d_fine import d_fine_loss as theirs

from kerasft.model.vision.d_fine import BINS, REACH, REFERENCE, SCALE, SIDES
from kerasft.tasks import matched
from kerasft.tasks.matched import bins, one_to_one, query_loss

WIDTH, HEIGHT, CLASSES, QUERIES = 80, 64, 3, 7
NOTHING = [-1, -1, -1, -1, -1, 0]


def boxes_of(random, *shape):
    """Return boxes within the image, in pixels."""
    low = random.uniform(0, 0.6, (*shape, 2))
    high = low + random.uniform(0.1, 0.4, (*shape, 2))
    return np.concatenate([low, high], -1) * np.array([WIDTH, HEIGHT, WIDTH, HEIGHT])


def outputs_of(random, *shape):
    """Return what a head puts out for queries: boxes, whole images, logits."""
    place = np.broadcast_to([0, 0, WIDTH, HEIGHT], (*shape, 4))
    logits = random.normal(0, 2, (*shape, CLASSES))
    return np.concatenate([boxes_of(random, *shape), place, logits], -1).astype("float32")


def layers_of(random, batch, layers):
    """Return what a head puts out in training."""
    said = outputs_of(random, batch, layers, QUERIES)
    sides = random.normal(0, 1, (batch, layers, QUERIES, SIDES))
    # Out of the reach of the bins KerasHub (0.32) has no loss, where the authors take the last bin.
    middle = random.uniform(0.45, 0.55, (batch, 1, QUERIES, 2))
    extent = random.uniform(0.5, 0.9, (batch, 1, QUERIES, 2))
    reference = np.broadcast_to(
        np.concatenate([middle, extent], -1), (batch, layers, QUERIES, REFERENCE)
    )
    return np.concatenate([said, sides, reference], -1).astype("float32")


def truth(random, *counts, most=4):
    """Return so many objects for each image."""
    y = np.array([[NOTHING] * most for _ in counts], "float32")
    for i, count in enumerate(counts):
        y[i, :count, :4] = boxes_of(random, count)
        y[i, :count, 4] = random.integers(0, CLASSES, count)
    return tf.constant(y)


def cost_of(true, label, said):
    likely = 1 / (1 + np.exp(-said[8 + int(label)]))
    classes = 0.25 * (1 - likely) ** 2 * -np.log(likely) - 0.75 * likely**2 * -np.log(1 - likely)
    size = np.array([WIDTH, HEIGHT] * 2)

    def centered(box):
        low, high = np.split(box / size, 2)
        return np.concatenate([(low + high) / 2, high - low])

    found = said[:4]
    area = [np.prod(b[2:] - b[:2]) for b in (true, found)]
    both = np.prod(np.maximum(np.minimum(true, found)[2:] - np.maximum(true, found)[:2], 0))
    around = np.prod(np.maximum(true, found)[2:] - np.minimum(true, found)[:2])
    union = sum(area) - both
    overlap = both / union - (around - union) / around
    return 2 * classes + 5 * np.abs(centered(true) - centered(found)).sum() - 2 * overlap


def test_no_other_choice_of_queries_is_cheaper():
    random = np.random.default_rng(0)
    y, said = truth(random, 3, 0, 2), outputs_of(random, 3, QUERIES)
    owner = one_to_one(y, tf.constant(said)).numpy()
    assert [sorted(row[row >= 0]) for row in owner] == [[0, 1, 2], [], [0, 1]]
    for image, count in ((0, 3), (2, 2)):
        true = y[image].numpy()
        costs = np.array([[cost_of(row[:4], row[4], one) for one in said[image]]
                          for row in true[:count]])  # fmt: skip
        every = itertools.permutations(range(QUERIES), count)
        best = min(every, key=lambda queries: costs[range(count), queries].sum())
        assert [int(np.flatnonzero(owner[image] == i)[0]) for i in range(count)] == list(best)


def test_what_is_ignored_has_no_query_and_more_objects_than_queries_are_too_many():
    random = np.random.default_rng(1)
    y = truth(random, 2).numpy()
    y[0, 0, 5] = 1
    owner = one_to_one(tf.constant(y), tf.constant(outputs_of(random, 1, QUERIES))).numpy()
    assert sorted(owner[0]) == [-1] * 6 + [1]
    many = truth(random, 9, most=9)
    owner = one_to_one(many, tf.constant(outputs_of(random, 1, QUERIES))).numpy()
    assert len(set(owner[0])) == QUERIES and owner.min() >= 0
    broken = np.full((1, QUERIES, 8 + CLASSES), np.nan, "float32")
    assert (one_to_one(many, tf.constant(broken)).numpy() >= 0).all()
    assert np.isnan(query_loss(many, tf.constant(broken)))


def test_the_parts_are_those_of_kerashub():
    """Of one image, and of the same matches: its loss of a batch takes the first one's boxes."""
    random = np.random.default_rng(2)
    y, said = truth(random, 3), layers_of(random, 1, 5)
    seen = said[..., : -SIDES - REFERENCE]
    size = np.array([WIDTH, HEIGHT] * 2)
    low, high = np.split(y[0, :3, :4].numpy() / size, 2, axis=-1)
    objects = [{"labels": tf.cast(y[0, :3, 4], tf.int32),
                "boxes": tf.constant(np.concatenate([(low + high) / 2, high - low], -1),
                                     tf.float32)}]  # fmt: skip
    network = SimpleNamespace(decoder=SimpleNamespace(
        max_num_bins=BINS, reg_scale=tf.constant([SCALE]), upsampling_factor=tf.constant([REACH])
    ))  # fmt: skip
    wanted = 0.0
    for layer in range(5):
        owner = one_to_one(y, tf.constant(seen[:, layer])).numpy()[0]
        rows = np.flatnonzero(owner >= 0)
        indices = tf.constant([rows], tf.int32), tf.constant([owner[rows]]), tf.fill([1, 3], True)
        low, high = np.split(seen[:, layer, :, :4] / size, 2, axis=-1)
        outputs = {
            "logits": tf.constant(seen[:, layer, :, 8:]),
            "pred_boxes": tf.constant(np.concatenate([(low + high) / 2, high - low], -1),
                                      tf.float32),
            "pred_corners": tf.constant(said[:, layer, :, 8 + CLASSES : -REFERENCE]),
            "ref_points": tf.constant(said[:, layer, :, -REFERENCE:]),
            "teacher_corners": tf.constant(said[:, -1, :, 8 + CLASSES : -REFERENCE]),
            "teacher_logits": tf.constant(seen[:, -1, :, 8:]),
        }  # fmt: skip
        wanted += theirs.compute_vfl_loss(outputs, objects, indices, 3.0, CLASSES, 0.75, 2.0)[
            "loss_vfl"]  # fmt: skip
        parts = theirs.compute_box_losses(outputs, objects, indices, 3.0)
        wanted += 5 * parts["loss_bbox"]
        # The generalized overlap is the authors'; KerasHub's is the complete one.
        for row in rows:
            box, found = y[0, owner[row], :4].numpy(), seen[0, layer, row, :4]
            overlap = matched.geometry.generalized_overlap(box, found)
            wanted += 2 * (1 - float(overlap)) / 3
        if layer >= 2:
            local = theirs.compute_local_losses(
                outputs, objects, indices, 3.0, network, 5.0, compute_ddf=layer < 4
            )
            wanted += 0.15 * local["loss_fgl"] + 1.5 * local["loss_ddf"]
    np.testing.assert_allclose(query_loss(y, tf.constant(said)), wanted, rtol=1e-4)


def test_each_image_is_compared_with_its_own_objects():
    random = np.random.default_rng(3)
    y, said = truth(random, 2, 1), layers_of(random, 2, 4)
    # Averages are not sums: two images alike have the loss of each.
    for i in (0, 1):
        one = query_loss(y[i : i + 1], tf.constant(said[i : i + 1]))
        twice = query_loss(tf.repeat(y[i : i + 1], 2, 0), tf.constant(said[[i, i]]))
        np.testing.assert_allclose(twice, one, rtol=1e-5)
    # Without the averages of the refinement the losses of images add up.
    alone = said[:, -1, :, : -SIDES - REFERENCE]
    single = [float(query_loss(y[i : i + 1], tf.constant(alone[i : i + 1]))) for i in (0, 1)]
    together = float(query_loss(y, tf.constant(alone)))
    np.testing.assert_allclose(together, (2 * single[0] + single[1]) / 3, rtol=1e-5)


def test_bins_are_those_of_kerashub():
    from keras_hub.src.models.d_fine.d_fine_utils import weighting_function

    wanted = weighting_function(BINS, tf.constant([REACH]), tf.constant([SCALE]))
    np.testing.assert_allclose(bins(), wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shape", [(2, QUERIES), (2, 4, QUERIES)])
def test_a_batch_without_objects_teaches_that_nothing_is_there(shape):
    random = np.random.default_rng(4)
    said = outputs_of(random, *shape) if len(shape) == 2 else layers_of(random, *shape[:2])
    losses = []
    for logit in (-4.0, -2.0, 2.0):
        said[..., 8 : 8 + CLASSES] = logit
        losses.append(float(query_loss(truth(random, 0, 0), tf.constant(said))))
    assert 0 < losses[0] < losses[1] < losses[2]


def test_queries_in_ignored_regions_learn_nothing():
    y = np.array([[[0, 0, WIDTH / 2, HEIGHT, 1, 1], NOTHING]], "float32")
    said = outputs_of(np.random.default_rng(5), 1, 2)
    said[0, :, :4] = [[2, 2, 20, 20], [60, 2, 78, 20]]
    loss = float(query_loss(y, tf.constant(said)))
    loud = said.copy()
    loud[0, 0, 8:] = 5.0
    np.testing.assert_allclose(query_loss(y, tf.constant(loud)), loss)
    loud[0, 1, 8:] = 5.0
    assert float(query_loss(y, tf.constant(loud))) > loss + 1


@pytest.mark.slow
def test_it_is_learned():
    random = np.random.default_rng(6)
    y, raw = truth(random, 2, 1), tf.Variable(outputs_of(random, 2, QUERIES))
    free = tf.constant([[1.0] * 4 + [0.0] * 4 + [1.0] * CLASSES])

    @tf.function
    def step(rate):
        with tf.GradientTape() as tape:
            loss = query_loss(y, raw)
        rates = rate * tf.constant([20.0] * 8 + [2.0] * CLASSES)
        raw.assign_sub(rates * tape.gradient(loss, raw) * free)
        return loss

    start = float(step(tf.constant(1.0)))
    for i in range(400):  # steps of one size would end up jumping about the truth
        now = step(tf.constant(1.0 if i < 200 else 0.1))
    assert float(now) < 0.1 * start
    best = raw[1].numpy()[raw[1, :, 8 + int(y[1, 0, 4])].numpy().argmax()]
    np.testing.assert_allclose(best[:4], y[1, 0, :4], atol=2.0)
