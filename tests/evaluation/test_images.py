"""Images with what was found in them."""

import numpy as np
import pytest
from PIL import Image

from kerasft.errors import UserError
from kerasft.evaluation.images import GAP, SIDE, grid, legend, opened, outlined, write_each
from kerasft.runs.predictions import show

FOUND = [{"label": "cat", "score": 0.8, "box": [10.0, 30.0, 60.0, 70.0]}]


def changed(before, after):
    """Return where two images differ."""
    return (np.asarray(before).astype(int) != np.asarray(after)).any(axis=-1)


def test_lines_are_where_the_box_is():
    plain = Image.new("RGB", (100, 90), "white")
    there = changed(plain, outlined(plain, FOUND, ("cat",)))
    assert there[30, 10:61].all()
    assert there[30:71, 10].all()
    assert there[70, 10:61].all()
    assert not there[32:69, 12:59].any()  # the name stands above
    assert not there[72:].any()


def test_what_is_true_is_drawn_in_green_and_ignored_regions_in_grey():
    plain = Image.new("RGB", (100, 90), "white")
    true = [{"label": "cat", "box": [20.0, 20, 80, 80]},
            {"label": "cat", "box": [2.0, 2, 15, 15], "ignored": True}]  # fmt: skip
    pixels = np.asarray(outlined(plain, [], ("cat",), true))
    assert pixels[20, 50].argmax() == 1
    assert np.ptp(pixels[2, 8].astype(int)) < 20


def test_boxes_at_the_edge_stay_inside():
    plain = Image.new("RGB", (40, 30), "white")
    made = outlined(plain, [{"label": "cat", "box": [0.0, 0, 40, 30]}], ("cat",))
    assert changed(plain, made)[:, 39].any()


def test_a_grid_has_room_for_each(tmp_path):
    images = [Image.new("RGB", size, "red") for size in ((100, 50), (50, 100), (80, 80), (9, 3))]
    with Image.open(grid(images, tmp_path / "grid.png")) as made:
        assert made.size == (3 * (SIDE + GAP) + GAP, SIDE + GAP + 140 + GAP + GAP)


def test_each_image_is_written_upright_under_its_name(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        Image.new("RGB", (90, 60), "white").save(tmp_path / folder / "a.jpg", exif=exif)
    inputs = [str(tmp_path / folder / "a.jpg") for folder in ("one", "two")]
    rows = [{"objects": FOUND}, {"objects": []}]
    first, second = write_each(rows, inputs, tmp_path / "drawn")
    assert (first.name, second.name) == ("a.png", "a_2.png")
    with Image.open(first) as image:
        assert image.size == (60, 90)
    assert changed(opened(inputs[0]), Image.open(first)).any()


def test_answers_without_objects_cannot_be_drawn(tmp_path):
    with pytest.raises(UserError, match="these answers have none: they are label, score"):
        show([{"input": "a", "label": "b", "score": 1.0}], output=None, as_json=False,
             draw=str(tmp_path))  # fmt: skip


def test_what_stands_below_a_grid_says_whose_colours_there_are(tmp_path):
    names = ("background", "cell", "a class with a long name", *(f"class {i}" for i in range(40)))
    plain, told = legend(names), legend(names, "left: the truth")
    assert told.height > plain.height
    # The line that was asked for stands in its own row, and is no name of a class.
    assert np.asarray(told.crop((0, plain.height, told.width, told.height))).min() < 128
    last = np.asarray(legend(names, names[-1]))
    assert (last[: plain.height] == np.asarray(told)[: plain.height]).all()
    assert (last[plain.height :] != np.asarray(told)[plain.height :]).any()
    image = Image.new("RGB", (30, 20), "white")
    with Image.open(grid([image] * 3, tmp_path / "grid.png", below=told)) as whole:
        assert whole.height > told.height
        foot = whole.crop((GAP, whole.height - told.height, whole.width, whole.height))
        assert np.asarray(foot)[: plain.height].min() < 128
