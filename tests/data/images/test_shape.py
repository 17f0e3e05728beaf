"""The size of images as they are seen, and boxes that turn with them."""

import io

import numpy as np
import pytest
from PIL import Image, ImageOps

from kerasft.data.images.shape import Shape, shape_of, upright


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["JPEG", "PNG"])
def test_boxes_turn_as_pillow_turns_images(orientation, form):
    pixels = np.zeros((48, 80, 3), "uint8")
    pixels[8:24, 16:56] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, form, exif=exif)
    shape = shape_of(file.getvalue())
    with Image.open(io.BytesIO(file.getvalue())) as image:
        seen = np.asarray(ImageOps.exif_transpose(image))[..., 0] > 127
    assert (shape.rows, shape.columns) == seen.shape
    assert shape.stored == (48, 80)
    rows, columns = np.flatnonzero(seen.any(1)), np.flatnonzero(seen.any(0))
    around = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
    found = upright(np.array([[16.0, 8, 56, 24]]), shape)
    np.testing.assert_allclose(found[0], around, atol=0.5)


def test_no_boxes_turn_into_none():
    assert upright(np.zeros((0, 4)), Shape(3, 4, 6)).shape == (0, 4)
