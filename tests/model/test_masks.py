"""Masks at the network's size, and back at that of the image."""

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from kerasft.model.preprocess import ImagePreprocess
from kerasft.model.vision import geometry, masks
from kerasft.rows import Rows
from kerasft.spec import IGNORED, Labels
from kerasft.tasks.segmentation import Segmentation


def png(mask):
    return tf.io.encode_png(mask[..., None]).numpy()


def blocks(size, seed=0):
    """Return a mask of large blocks."""
    small = np.random.default_rng(seed).integers(0, 3, (4, 5)).astype("uint8")
    return np.asarray(Image.fromarray(small).resize(size[::-1], Image.Resampling.NEAREST))


@pytest.mark.parametrize("resize", ["stretch", "pad", "crop"])
def test_a_mask_lies_where_its_image_does(resize):
    """Coloured like its mask, an image goes through the preprocessing as the mask does."""
    mask = blocks((70, 110))
    encoded = tf.io.encode_png(np.stack([mask * 100] * 3, -1))
    ready = ImagePreprocess(48, 40, resize=resize, interpolation="nearest", antialias=False)
    image = ready(encoded[None]).numpy()[0, ..., 0]
    rows = Rows.of({"mask": np.array([png(mask)], object), "size": np.array([[70, 110]])})
    placed = ready.placed(rows)["segmentation_masks"]
    assert placed.shape == (1, 48, 40, 1)
    found = placed[0, ..., 0]
    inside = found != IGNORED
    assert inside.all() == (resize != "pad")
    # Where a pixel's centre lies on the border of two blocks, either will do.
    assert (found[inside] * 100 == image[inside]).mean() > 0.95
    assert (image[~inside] == 0).all()


@pytest.mark.parametrize("resize", ["stretch", "pad"])
@pytest.mark.parametrize("size", [(70, 110), (31, 200), (48, 40)])
def test_a_class_map_is_back_where_the_mask_was(resize, size):
    mask = blocks(size, 1)
    frame = geometry.frame_of(tf.constant(size), (96, 80), resize).numpy()
    placed = masks.placed(mask, frame, (96, 80))
    probabilities = tf.one_hot(np.where(placed == IGNORED, 0, placed), 3)
    back = masks.class_map(probabilities, tf.constant(frame)).numpy()
    assert back.shape == size
    assert (back == mask).mean() > 0.93


def test_at_its_own_size_nothing_changes():
    mask = blocks((20, 25))
    frame = tf.constant([20.0, 25, 1, 1, 0, 0])
    np.testing.assert_array_equal(masks.class_map(tf.one_hot(mask, 3), frame), mask)
    np.testing.assert_array_equal(masks.placed(mask, frame.numpy(), (20, 25)), mask)


def test_many_masks_go_into_a_file(monkeypatch):
    monkeypatch.setattr(masks, "MEMORY_LIMIT", 100)
    frames = np.array([[20, 25, 1, 1, 0, 0]] * 2, "float32")
    each = [blocks((20, 25), seed) for seed in range(2)]
    made = masks.laid_out(map(png, each), frames, (20, 25))
    assert isinstance(made, np.memmap)
    np.testing.assert_array_equal(made[..., 0], each)
    # What is learned of them is the file, and no copy of it in memory.
    pngs = np.empty(2, object)
    pngs[:] = list(map(png, each))
    annotations = Rows.of({"mask": pngs, "size": np.array([[20, 25]] * 2)})
    targets = Segmentation().targets(
        geometry.placed(annotations, (20, 25), "stretch"), Labels("masks", ("a", "b"))
    )
    assert isinstance(targets["segmentation_masks"], np.memmap)
