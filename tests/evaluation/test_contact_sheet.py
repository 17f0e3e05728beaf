"""Images side by side with what is learned of them."""

import numpy as np
import pytest
from PIL import Image, ImageColor

from kerasft.evaluation.contact_sheet import GAP, LINES, SIDE, WIDTH, Cell, draw
from kerasft.evaluation.drawing import drawable
from kerasft.evaluation.images import COLOURS, colour_of, overlaid


def sheet(path):
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def cells(count, rows=64, columns=64, **more):
    return [Cell(np.full((rows, columns, 3), 10 * i, "uint8"), f"class {i}", **more)
            for i in range(count)]  # fmt: skip


@pytest.mark.parametrize(
    ("side", "count", "across"), [(64, 12, 6), (64, 10, 5), (224, 12, 4), (1000, 5, 3), (64, 1, 1)]
)
def test_rows_are_full_where_that_can_be(tmp_path, side, count, across):
    made = sheet(draw(cells(count, side, side), (), tmp_path / "sheet.png"))
    shown = min(SIDE, side * max(1, 224 // side))
    assert made.shape[1] == across * (shown + GAP) + GAP
    assert made.shape[1] <= WIDTH + 2 * GAP


def test_views_stand_in_the_columns_that_are_asked_for(tmp_path):
    made = sheet(draw(cells(6, 32, 48), (), tmp_path / "sheet.png", columns=3))
    assert [made[GAP + 5, GAP + 5 + i * (48 * 4 + GAP)].tolist() for i in range(3)] == [
        [0] * 3, [10] * 3, [20] * 3,
    ]  # fmt: skip


def test_words_of_any_length_and_script_fit(tmp_path):
    one = np.zeros((8, 8, 3), "uint8")
    words = ["a very long name " * 9, "unbreakable" * 20, "мышь, ποντίκι", "পাখি", "$5 to $9", ""]
    made = sheet(draw([Cell(one, w, "a/folder/" * 20 + "x.png") for w in words], (),
                      tmp_path / "sheet.png"))  # fmt: skip
    assert (made[:, :GAP] == 255).all() and (made[:, -GAP:] == 255).all()
    assert made.shape[0] < 2 * (224 + GAP + (LINES + 1) * 20) + GAP
    assert drawable("$5") == "$5"  # only Matplotlib takes dollars for formulas


def test_a_legend_tells_the_colours_of_boxes(tmp_path):
    box = {"label": "cat", "box": [10.0, 10.0, 40.0, 40.0]}
    names = ("dog", "cat")
    plain = sheet(draw(cells(1), names, tmp_path / "plain.png"))
    made = sheet(draw(cells(1, objects=[box]), names, tmp_path / "boxes.png"))
    grey = sheet(draw(cells(1, objects=[box], ignored=[box]), names, tmp_path / "grey.png"))
    assert plain.shape[0] < made.shape[0]
    rows = made[plain.shape[0] - GAP :]
    colours = {tuple(int(v) for v in pixel) for pixel in rows.reshape(-1, 3)}
    assert {ImageColor.getrgb(colour_of(i)) for i in (0, 1)} <= colours
    assert grey[plain.shape[0] :].tobytes() != made[plain.shape[0] :].tobytes()
    # The line is where the box is, three times as large as the image is.
    assert tuple(made[GAP + 30, GAP + 60].tolist()) == ImageColor.getrgb(colour_of(1))


def test_every_class_has_a_colour_of_its_own():
    assert len({colour_of(i) for i in range(150)}) == 150
    assert [colour_of(i) for i in range(len(COLOURS))] == list(COLOURS)


def test_masks_show_what_is_below_them_and_have_edges():
    image = np.random.default_rng(0).integers(0, 255, (20, 20, 3)).astype("uint8")
    mask = np.zeros((20, 20), "uint8")
    mask[5:15, 5:15] = 1
    made = np.asarray(overlaid(Image.fromarray(image), mask, ("background", "cell")))
    assert (made[:5] == image[:5]).all()
    colour = np.array(ImageColor.getrgb(colour_of(1)))
    assert (made[5, 5:15] == colour).all()
    assert np.abs(made[7:13, 7:13] - (image[7:13, 7:13] / 2 + colour / 2)).max() <= 1
