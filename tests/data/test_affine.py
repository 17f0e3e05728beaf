"""Augmentation that moves boxes and masks with the pixels."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerasft.data.affine import RandomAffine
from kerasft.data.astray import ASTRAY
from kerasft.data.augment import augmenter
from kerasft.errors import UserError
from kerasft.testing import boxes_follow_pixels, masks_follow_pixels

MOVED = {
    "flips": {"flip": "both", "scale": (1, 1), "shift": 0},
    "scale": {"flip": "none", "scale": (0.7, 1.4), "shift": 0},
    "shift": {"flip": "none", "scale": (1, 1), "shift": 0.2},
    "all": {"flip": "both", "scale": (0.7, 1.3), "shift": 0.1},
}


@pytest.mark.every(4)
@pytest.mark.parametrize("settings", MOVED.values(), ids=MOVED)
def test_boxes_and_masks_follow(settings):
    boxes_follow_pixels(RandomAffine(fill=60.0, **settings))
    masks_follow_pixels(RandomAffine(fill=60.0, **settings))


def test_masks_follow_a_rotation():
    masks_follow_pixels(RandomAffine(flip="none", rotation=30, fill=60.0))


def test_boxes_around_turned_rectangles_hold_them():
    boxes_follow_pixels(RandomAffine(flip="none", scale=(1, 1), rotation=10, fill=60.0), least=0.85)


@pytest.mark.every(5)
@pytest.mark.parametrize("layer", [
    keras.layers.RandomFlip("horizontal_and_vertical"), keras.layers.RandomBrightness(0.2),
    keras.layers.RandomContrast(0.2), keras.layers.RandomTranslation(0.1, 0.1, "constant"),
    keras.layers.RandomZoom(0.2, fill_mode="constant"),
], ids=lambda layer: type(layer).__name__)  # fmt: skip
def test_layers_of_keras_that_follow(layer):
    boxes_follow_pixels(layer)


@pytest.mark.parametrize("name", sorted(ASTRAY))
def test_layers_that_lose_boxes_are_refused(name):
    settings = {"RandomCrop": {"height": 96, "width": 160}}.get(name, {})
    instead = "boxes_mosaic" if name in ("MixUp", "CutMix") else "boxes"
    said = rf"augment\.step: keras\.layers\.{name} .* choose augment={instead},"
    with pytest.raises(UserError, match=said):
        boxes_follow_pixels(getattr(keras.layers, name)(**settings))


def test_mirrors_beyond_the_edge_are_refused():
    with pytest.raises(UserError, match=r"augment\.step\.fill_mode=constant"):
        boxes_follow_pixels(keras.layers.RandomTranslation(0.1, 0.1))


class Left(keras.layers.Layer):
    """Moves images and leaves boxes and masks behind."""

    moves_labels = True

    def call(self, batch, training=True):
        if not isinstance(batch, dict):
            return batch
        return {**batch, "images": tf.roll(batch["images"], 20, axis=2)}


def test_what_stays_behind_is_found():
    with pytest.raises(AssertionError, match="Boxes do not follow"):
        boxes_follow_pixels(Left())
    with pytest.raises(AssertionError, match="Masks do not follow"):
        masks_follow_pixels(Left())


class Away(Left):
    """Moves boxes by 15 pixels to the right."""

    def call(self, batch, training=True):
        if not isinstance(batch, dict):
            return batch
        found = batch["bounding_boxes"]
        boxes = found["boxes"] + [15.0, 0, 15, 0]
        return {**batch, "bounding_boxes": {**found, "boxes": boxes}}


def moved_away(**targets):
    """Return the targets of one image of 20 x 20 pixels after `Away`."""
    apply = augmenter({"away": Away()}, seed=0, size=(20, 20), moving=["boxes"])
    images = {"images": tf.zeros([1, 20, 20, 3], tf.uint8)}
    return apply(images, targets, tf.constant(0, tf.int64), tf.constant([0], tf.int64))[1]


def test_what_is_hardly_left_of_a_box_is_not_learned():
    boxes = tf.constant([[[0.0, 0, 4, 4], [0, 0, 10, 4], [4, 3, 10, 9], [-1, -1, -1, -1]]])
    moved = moved_away(boxes=boxes, labels=tf.constant([[2, 1, 0, -1]]))
    assert moved["labels"].numpy().tolist() == [[2, 1, -1, -1]]
    assert moved["boxes"].numpy()[0, 1].tolist() == [15, 0, 20, 4]


def test_ignored_regions_stay_as_long_as_anything_of_them_is_seen():
    boxes = tf.constant([[[0.0, 0, 40, 4], [0, 0, 40, 4], [9, 3, 12, 9], [-1, -1, -1, -1]]])
    moved = moved_away(
        boxes=boxes, labels=tf.constant([[2, 1, 0, -1]]),
        ignored=tf.constant([[True, False, True, False]]),
    )  # fmt: skip
    assert moved["labels"].numpy().tolist() == [[2, -1, -1, -1]]
    assert moved["ignored"].numpy().tolist() == [[True, False, True, False]]


class Sometimes(keras.layers.Layer):
    """Applies what it holds, as wrappers do that know nothing of boxes."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def call(self, images, training=True):
        return self.inner(images, training=training)


@pytest.mark.parametrize("wrapped", [
    lambda layer: keras.Sequential([keras.layers.RandomBrightness(0.1), layer]),
    lambda layer: keras.layers.Pipeline([layer]),
    Sometimes,
    lambda layer: keras.layers.Pipeline([keras.Sequential([layer])]),
], ids=["Sequential", "Pipeline", "a wrapper", "two wrappers"])  # fmt: skip
@pytest.mark.parametrize("inner", [lambda: keras.layers.RandomFlip(), RandomAffine])
def test_layers_inside_of_others_that_leave_labels_behind_are_refused(wrapped, inner):
    step = wrapped(inner())
    said = (rf"augment\.step: {type(step).__name__} holds {type(inner()).__name__}, and hands only "
            r"pixels .* Name the steps one by one")  # fmt: skip
    for follows in (boxes_follow_pixels, masks_follow_pixels):
        with pytest.raises(UserError, match=said):
            follows(step)


def test_colours_inside_of_others_move_nothing():
    boxes_follow_pixels(keras.Sequential([keras.layers.RandomBrightness(0.1)]))


def test_it_depends_on_seed_epoch_and_example_alone():
    apply = augmenter({"move": RandomAffine()}, seed=3, size=(24, 24), moving=["boxes"])
    images = tf.cast(np.random.default_rng(0).integers(0, 255, (4, 24, 24, 3)), tf.uint8)
    targets = {"boxes": tf.constant([[[2.0, 3, 9, 12]]] * 4), "labels": tf.zeros([4, 1], tf.int32)}
    epoch, indices = tf.constant(5, tf.int64), tf.range(4, dtype=tf.int64)
    whole = apply({"images": images}, targets, epoch, indices)
    third = {name: value[2:3] for name, value in targets.items()}
    alone = apply({"images": images[2:3]}, third, epoch, indices[2:3])
    np.testing.assert_array_equal(whole[0]["images"][2], alone[0]["images"][0])
    np.testing.assert_array_equal(whole[1]["boxes"][2], alone[1]["boxes"][0])


@pytest.mark.parametrize(("settings", "said"), [
    ({"flip": "sideways"}, "flip must be one of none, horizontal"),
    ({"scale": (1.2, 0.8)}, "the smaller first"),
])  # fmt: skip
def test_mistakes(settings, said):
    with pytest.raises(ValueError, match=said):
        RandomAffine(**settings)


def test_it_comes_back_from_its_config():
    layer = RandomAffine(flip="vertical", scale=(0.5, 2), rotation=4)
    assert RandomAffine.from_config(layer.get_config()).get_config() == layer.get_config()
    x = tf.ones([1, 4, 4, 3])
    np.testing.assert_array_equal(layer(x, training=False), x)
