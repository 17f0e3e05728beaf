"""Boxes in the rows of a table."""

import numpy as np
import pytest
from PIL import Image

from kerasft.data.sources.boxes_csv import boxes_csv
from kerasft.errors import UserError
from kerasft.testing import check_data

HEADER = "filename,width,height,class,xmin,ymin,xmax,ymax"


@pytest.fixture
def folder(tmp_path):
    for i in range(12):
        pixels = np.random.default_rng(i).integers(0, 255, (48, 64, 3)).astype("uint8")
        (tmp_path / "pictures").mkdir(exist_ok=True)
        Image.fromarray(pixels).save(tmp_path / "pictures" / f"{i}.png")
    return tmp_path


def rows_of(count=11):
    made = [f"pictures/{i}.png,64,48,{name},{4 + k},5,{20 + k},30" for i in range(count)
            for k, name in enumerate(("cat", "dog"))]  # fmt: skip
    return [*made, "pictures/11.png,64,48,,,,,"]


def read(folder, lines, header=HEADER, **more):
    (folder / "boxes.csv").write_text("\n".join([header, *lines]) + "\n")
    return boxes_csv(str(folder / "boxes.csv"), kind="boxes", seed=0, **more)


def boxes_of(splits, name):
    for part in splits.parts.values():
        if name in part.ids:
            return part.annotations.row(part.ids.index(name))["boxes"].tolist()
    raise KeyError(name)


def test_a_row_for_each_box(folder):
    splits = read(folder, rows_of(), size=["height", "width"])
    check_data(splits)
    assert splits.labels.names == ("cat", "dog")
    assert boxes_of(splits, "pictures/0.png") == [[4, 5, 20, 30], [5, 5, 21, 30]]
    assert boxes_of(splits, "pictures/11.png") == []


@pytest.mark.parametrize(("settings", "numbers"), [
    ({"box_format": "xywh"}, "8,12,16,24"),
    ({"box_format": "center_xywh"}, "16,24,16,24"),
    ({"relative": True}, "0.125,0.25,0.375,0.75"),
    ({"relative": True, "box_format": "center_xywh"}, "0.25,0.5,0.25,0.5"),
])  # fmt: skip
def test_forms_of_boxes(folder, settings, numbers):
    lines = [f"{i}.png;cat;{numbers.replace(',', ';')}" for i in range(12)]
    splits = read(
        folder, lines, "file;kind;a;b;c;d", image="file", label="kind", box=["a", "b", "c", "d"],
        images="pictures", delimiter=";", **settings,
    )
    assert boxes_of(splits, "3.png") == [[8, 12, 24, 36]]


def test_a_column_says_the_split(folder):
    lines = [f"{line},{'val' if int(line.split('/')[1].split('.')[0]) > 7 else 'train'}"
             for line in rows_of()]  # fmt: skip
    splits = read(folder, lines, f"{HEADER},part", split_column="part", test=0)
    assert {name: len(part) for name, part in splits.parts.items()} == {
        "train": 8, "validation": 4,
    }  # fmt: skip
    with pytest.raises(UserError, match=r"0.png is of the split validation here, and of train"):
        read(folder, [lines[0], lines[1].replace("train", "val"), *lines[2:]], f"{HEADER},part",
             split_column="part")  # fmt: skip


@pytest.mark.parametrize(("change", "said"), [
    ((",4,5,20,30", ",4,five,20,30"), "boxes.csv:2: data.box must be numbers. Received: 'five'"),
    ((",4,5,20,30", ",4,5,,30"), "boxes.csv:2: a box needs a class and four numbers"),
    (("cat,4,5,20,30", ",4,5,20,30"), "boxes.csv:2: a box needs a class and four numbers"),
    (("pictures/0.png,64,48,cat", ",64,48,cat"), "boxes.csv:2: data.image=filename names no"),
])  # fmt: skip
def test_a_broken_row_is_named(folder, change, said):
    lines = rows_of()
    lines[0] = lines[0].replace(*change)
    with pytest.raises(UserError) as caught:
        read(folder, lines)
    assert said in str(caught.value)


def test_pictures_that_are_missing(folder):
    (folder / "pictures" / "3.png").unlink()
    splits = read(folder, rows_of())
    assert any("1 picture that are not there, left out: pictures/3.png (boxes.csv:8)" in said
               for said in splits.notices)  # fmt: skip


@pytest.mark.parametrize(("settings", "said"), [
    ({"box": ["xmin", "ymin", "xmax"]}, "data.box must list the four columns"),
    ({"box_format": "xyxz"}, "data.box_format must be one of"),
    ({"size": "height"}, "data.size must list the columns of height and width"),
    ({"label": "species"}, "species"),
])  # fmt: skip
def test_mistakes(folder, settings, said):
    with pytest.raises(UserError) as caught:
        read(folder, rows_of(), **settings)
    assert said in str(caught.value)


def test_corners_taken_for_sizes(folder):
    lines = [f"pictures/{i}.png,64,48,cat,40,30,60,45" for i in range(12)]
    with pytest.raises(UserError, match=r"data\.box_format says what four numbers mean"):
        read(folder, lines, box_format="xywh")
