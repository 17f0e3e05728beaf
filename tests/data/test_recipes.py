"""The shipped recipes of augmentation, by what they make of images."""

import numpy as np
import pytest
import tensorflow as tf

import kerasft
from kerasft.config.composition import build_named
from kerasft.data.augment import augmenter


@pytest.mark.every(2)
@pytest.mark.parametrize("name", ["light", "strong", "boxes", "masks"])
def test_images_keep_their_colours(name):
    """Half of them grey would be another data set."""
    steps = build_named(kerasft.compose([f"augment={name}"]).augment)
    apply = augmenter(steps, seed=0, size=(16, 16))
    images = np.zeros((32, 16, 16, 3), "uint8")
    images[...] = (180, 90, 60)
    call = tf.function(apply, autograph=False)
    made, _ = call({"images": tf.constant(images)}, {}, tf.constant(0, tf.int64),
                   tf.range(32, dtype=tf.int64))  # fmt: skip
    found = made["images"].numpy().astype("float64")

    def saturation(images):
        high, low = images.max(axis=-1), images.min(axis=-1)
        return ((high - low) / np.maximum(high, 1)).mean(axis=(1, 2))

    each = saturation(found) / saturation(images.astype("float64"))
    assert 0.7 < np.median(each) < 1.3
