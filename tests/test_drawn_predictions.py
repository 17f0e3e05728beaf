"""`kerasft predict --draw`: boxes and masks lie where the image has them, as it is seen."""

from __future__ import annotations

import base64
import io
import json

import numpy as np
import pytest
from masked_rectangles import words_of
from PIL import Image, ImageOps

import kerasft
from kerasft.evaluation.images import colour_of, is_background, palette

# Rows and columns of the image as it is stored, at odds with what the network sees.
ROWS, COLUMNS = 71, 113
# Where a bright rectangle is stored: left, top, right, bottom.
PLACE = (60, 12, 88, 36)


@pytest.fixture(params=[1, 6], ids=["upright", "stored turned"])
def image(request, tmp_path):
    """The path of an image with a red rectangle, and its pixels as they are seen."""
    pixels = np.random.default_rng(0).integers(0, 60, (ROWS, COLUMNS, 3)).astype("uint8")
    left, top, right, bottom = PLACE
    pixels[top:bottom, left:right] = (230, 40, 40)
    exif = Image.Exif()
    exif[0x0112] = request.param
    path = tmp_path / "photo.png"
    Image.fromarray(pixels).save(path, exif=exif)
    with Image.open(path) as stored:
        return path, np.asarray(ImageOps.exif_transpose(stored).convert("RGB"))


def drawn(kerasft_cli, run, path):
    """Return the answer for an image, and the folder with what was drawn of it."""
    folder = path.parent / "drawn"
    said = kerasft_cli("predict", str(run), str(path), "--draw", str(folder), "--json")
    assert said.code == 0, said.err
    return json.loads(said.out.splitlines()[0]), folder


def rgb(colour):
    return tuple(int(colour[i : i + 2], 16) for i in (1, 3, 5))


def changed(before, after):
    return (before.astype(int) != after).any(axis=-1)


def near(place):
    """Return the pixels on both sides of where a line is."""
    return slice(max(place - 1, 0), place + 2)


@pytest.mark.slow
def test_boxes_are_drawn_on_the_objects(tiny_detector, image, kerasft_cli):
    path, seen = image
    answer, folder = drawn(kerasft_cli, tiny_detector, path)
    with Image.open(folder / "photo.png") as made:
        shown = np.asarray(made.convert("RGB"))
    assert shown.shape == seen.shape
    there = changed(seen, shown)
    rows, columns = np.nonzero(seen[..., 0] > 200)
    true = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
    names = json.loads((tiny_detector / "labels.json").read_text())["names"]
    first = answer["objects"][0]
    low, high = np.maximum(true[:2], first["box"][:2]), np.minimum(true[2:], first["box"][2:])
    both = np.prod(np.maximum(high - low, 0))
    area = [np.prod(np.array(box[2:]) - np.array(box[:2])) for box in (true, first["box"])]
    assert both / (sum(area) - both) > 0.3, (first, true)
    # The surest box is on top: its lines have the colour of its class.
    colour = rgb(colour_of(names.index(first["label"])))
    coloured = (shown == colour).all(axis=-1)
    left, top, right, bottom = np.round(first["box"]).astype(int)
    for line in (coloured[top:bottom, near(left)], coloured[top:bottom, near(right)],
                 coloured[near(top), left:right].T, coloured[near(bottom), left:right].T):
        assert line.any(axis=1).mean() > 0.5, first
    assert there.any() and not there.all()


@pytest.fixture(scope="module")
def segmenter(masked_rectangles, tmp_path_factory):
    """A run that has learned for long enough to find red rectangles."""
    folder = tmp_path_factory.mktemp("segmenter") / "run"
    free = ("epochs", "optimizer.learning_rate")
    words = [word for word in words_of(masked_rectangles) if not word.startswith(free)]
    kerasft.train([*words, "epochs=25", "optimizer.learning_rate=1e-2", "plots=false",
                   f"output_dir={folder}"])  # fmt: skip
    return folder


@pytest.mark.slow
def test_masks_are_laid_over_what_they_are_of(segmenter, image, kerasft_cli):
    path, seen = image
    answer, folder = drawn(kerasft_cli, segmenter, path)
    names = json.loads((segmenter / "labels.json").read_text())["names"]
    with (Image.open(folder / "photo.png") as made, Image.open(folder / "photo_mask.png") as mask,
          Image.open(io.BytesIO(base64.b64decode(answer["png_bytes"]["b64"]))) as answered):
        shown, classes = np.asarray(made.convert("RGB")), np.asarray(mask)
        np.testing.assert_array_equal(classes, np.asarray(answered))
        assert np.reshape(mask.getpalette()[:9], (3, 3)).tolist() == [*map(list, palette(names))]
    assert shown.shape == seen.shape and classes.shape == seen.shape[:2]
    bright = seen[..., 0] > 200
    found = classes == names.index("red")
    assert (bright & found).sum() / (bright | found).sum() > 0.3
    # What is no background is coloured, and nothing else.
    background = [i for i, name in enumerate(names) if is_background(name)]
    np.testing.assert_array_equal(changed(seen, shown), ~np.isin(classes, background))
