"""How images are placed, and positions in them."""

from __future__ import annotations

import io

import numpy as np
import pytest

from kerasft.model.preprocess import RESIZE, ImagePreprocess
from kerasft.model.vision import geometry

SHAPES = ((40, 40), (60, 30), (31, 90), (17, 200), (33, 32))


def drawn(rows: int, columns: int) -> bytes:
    """Return a black image with one white dot of a fifth of its sides."""
    from PIL import Image

    pixels = np.zeros((rows, columns, 3), np.uint8)
    pixels[rows * 2 // 5 : rows * 3 // 5 + 1, columns * 2 // 5 : columns * 3 // 5 + 1] = 255
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize("resize", RESIZE)
@pytest.mark.parametrize("shape", SHAPES)
def test_a_frame_says_where_the_pixels_went(resize, shape):
    rows, columns = shape
    ready = ImagePreprocess(48, 64, resize=resize)
    raw = np.array([drawn(rows, columns)], object)
    pixels, frames = (value.numpy() for value in ready.framed(raw))
    np.testing.assert_array_equal(pixels, ready(raw).numpy())
    assert frames[0, :2].tolist() == [rows, columns]
    dot = np.array([[[columns * 2 // 5, rows * 2 // 5,
                      columns * 3 // 5 + 1, rows * 3 // 5 + 1]]], "float32")  # fmt: skip
    left, top, right, bottom = geometry.to_network(dot, frames)[0, 0]
    ys, xs = np.nonzero(pixels[0, ..., 0] > 127)
    inside = (max(left, 0), max(top, 0), min(right, 64), min(bottom, 48))
    # To the pixel, as far as an edge can be told.
    seen = (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1)
    assert np.abs(np.subtract(inside, seen)).max() <= 1.6
    np.testing.assert_allclose(
        geometry.to_image(geometry.to_network(dot, frames), frames), dot, rtol=1e-5, atol=1e-3
    )


def test_positions_go_back_in_tensorflow_too():
    import tensorflow as tf

    frames = tf.constant([[100.0, 200.0, 0.5, 0.25, 8.0, -3.0], [10.0, 10.0, 2.0, 2.0, 0.0, 0.0]])
    boxes = np.random.default_rng(0).uniform(0, 50, (2, 5, 4)).astype("float32")
    back = geometry.to_image(tf.constant(boxes), frames)
    np.testing.assert_allclose(back, geometry.to_image(boxes, frames.numpy()), rtol=1e-6)
    np.testing.assert_allclose(geometry.to_network(back, frames), boxes, rtol=1e-4, atol=1e-4)


def test_a_turned_image_has_the_frame_of_the_upright_one():
    from PIL import Image

    file, turned = io.BytesIO(), io.BytesIO()
    upright = Image.open(io.BytesIO(drawn(30, 50)))
    upright.save(file, "PNG")
    exif = Image.Exif()
    exif[0x0112] = 6  # stored turned by a quarter
    upright.transpose(Image.Transpose.ROTATE_90).save(turned, "PNG", exif=exif)
    ready = ImagePreprocess(32, 32, resize="pad")
    (one, frame), (other, same) = (
        [value.numpy() for value in ready.framed(np.array([f.getvalue()], object))]
        for f in (file, turned)
    )
    np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(frame, same)
