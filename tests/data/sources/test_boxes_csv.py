"""Boxes in the rows of a table."""

import json

import numpy as np
import pytest
from hub_files import described, write_shards
from PIL import Image

from kerasft.data.sources.boxes_csv import boxes_csv
from kerasft.errors import UserError
from kerasft.testing import check_data

HEADER = "filename,width,height,class,xmin,ymin,xmax,ymax"


@pytest.fixture
def folder(tmp_path):
    for i in range(12):
        pixels = np.random.default_rng(i).integers(0, 255, (48, 64, 3)).astype("uint8")
        (tmp_path / "images").mkdir(exist_ok=True)
        Image.fromarray(pixels).save(tmp_path / "images" / f"{i}.png")
    return tmp_path


def rows_of(count=11):
    made = [f"images/{i}.png,64,48,{name},{4 + k},5,{20 + k},30" for i in range(count)
            for k, name in enumerate(("cat", "dog"))]  # fmt: skip
    return [*made, "images/11.png,64,48,,,,,"]


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
    assert boxes_of(splits, "images/0.png") == [[4, 5, 20, 30], [5, 5, 21, 30]]
    assert boxes_of(splits, "images/11.png") == []


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
        images="images", delimiter=";", **settings,
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
    (("images/0.png,64,48,cat", ",64,48,cat"), "boxes.csv:2: data.image=filename names no"),
])  # fmt: skip
def test_a_broken_row_is_named(folder, change, said):
    lines = rows_of()
    lines[0] = lines[0].replace(*change)
    with pytest.raises(UserError) as caught:
        read(folder, lines)
    assert said in str(caught.value)


def test_images_that_are_missing(folder):
    (folder / "images" / "3.png").unlink()
    splits = read(folder, rows_of())
    (said,) = [one for one in splits.notices if "left out" in one]
    assert said.startswith("1 image that are not there, left out: ")
    assert "/images/3.png (boxes.csv:8)" in said


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
    lines = [f"images/{i}.png,64,48,cat,40,30,60,45" for i in range(12)]
    with pytest.raises(UserError, match=r"data\.box_format says what four numbers mean"):
        read(folder, lines, box_format="xywh")


# --- a row for each image --------------------------------------------------------------------

LISTED = {"image": "file_name", "box": "objects.bbox", "label": "objects.category",
          "box_format": "xywh"}  # fmt: skip


def objects(i):
    return {"bbox": [[4, 5, 16, 25], [5, 5, 16, 25]][: i % 3], "category": ["cat", "dog"][: i % 3]}


def listed(folder, rows, **more):
    (folder / "images" / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return boxes_csv(str(folder / "images"), kind="boxes", seed=0, **{**LISTED, **more})


def test_a_row_for_each_image(folder):
    rows = [{"file_name": f"{i}.png", "objects": objects(i)} for i in range(11)]
    splits = listed(folder, rows)
    check_data(splits)
    assert splits.labels.names == ("cat", "dog")
    assert boxes_of(splits, "2.png") == [[4, 5, 20, 30], [5, 5, 21, 30]]
    assert boxes_of(splits, "3.png") == []
    assert any("in no row of" in said and "11.png" in said for said in splits.notices)
    # A list of objects, and the sides in parts of the image.
    for row, i in zip(rows, range(11), strict=True):
        pairs = zip(*objects(i).values(), strict=True)
        row["objects"] = [
            {"bbox": [x / 64, y / 48, w / 64, h / 48], "category": name}
            for (x, y, w, h), name in pairs
        ]  # fmt: skip
    splits = listed(folder, rows, relative=True)
    assert boxes_of(splits, "2.png") == [[4, 5, 20, 30], [5, 5, 21, 30]]


def test_classes_and_images_in_the_table(folder):
    cells = [{"bytes": (folder / "images" / f"{i}.png").read_bytes(), "path": None}
             for i in range(12)]  # fmt: skip
    found = [objects(i) for i in range(12)]
    for one in found:
        one["category"] = [{"cat": 1, "dog": 0}[name] for name in one["category"]]
    names = {"feature": {"names": ["dog", "cat"], "_type": "ClassLabel"}, "_type": "List"}
    table = described({"image": cells, "objects": found}, {"objects": {"category": names}})
    write_shards(folder / "hub", "train", [table])
    write_shards(folder / "hub", "test", [table])
    splits = boxes_csv(str(folder / "hub"), kind="boxes", seed=0, **{**LISTED, "image": "image"})
    assert splits.labels.names == ("dog", "cat")
    assert len(splits.test) == 12
    row = splits.test.annotations.row(2)
    assert row["boxes"].tolist() == [[4, 5, 20, 30], [5, 5, 21, 30]]
    assert row["labels"].tolist() == [1, 0]
    # The Hub's layout is known where no column is named.
    found = boxes_csv(str(folder / "hub"), kind="boxes", seed=0, box_format="xywh")
    assert found.test.annotations.row(2)["boxes"].tolist() == row["boxes"].tolist()
    assert found.source["box"] == "objects.bbox"


@pytest.mark.parametrize(("change", "settings", "said"), [
    ({"objects": {"bbox": [[1, 2, 3, 4]], "category": []}}, {}, "lists that are equally long"),
    ({"objects": {"bbox": [[1, 2, 3]], "category": ["cat"]}}, {}, "must be four numbers"),
    ({"objects": {"bbox": [[1, 2, 3, "x"]], "category": ["cat"]}}, {}, "must be numbers"),
    ({"objects": {"bbox": [3], "category": ["cat"]}}, {}, "must be four numbers"),
    ({"objects": {"bbox": 3, "category": 3}}, {}, "must be four numbers"),
    ({"file_name": "1.png"}, {}, "1.png has a row before"),
    ({"file_name": "../boxes.png"}, {}, "leads out of the folder"),
    ({}, {"label": "objects.categry"}, "hold no 'categry'. Did you mean 'category'?"),
    ({}, {"box": "object.bbox"}, "no column 'object.bbox'"),
    ({}, {"split_column": "none"}, "no column 'none'"),
])  # fmt: skip
def test_wrong_rows_of_images(folder, change, settings, said):
    rows = [{"file_name": f"{i}.png", "objects": objects(i)} for i in range(11)]
    rows[3] |= change
    with pytest.raises(UserError) as caught:
        listed(folder, rows, **settings)
    assert said in str(caught.value)


def test_an_image_in_no_row_of_a_folder_that_is_described_is_told_once(folder):
    rows = [{"file_name": f"{i}.png", "objects": objects(i)} for i in range(11)]
    told = [one for one in listed(folder, rows).notices if "11.png" in one]
    assert len(told) == 1 and "1 image in no row of " in told[0]


@pytest.mark.parametrize("side", ["inf", "nan", "1e999"])
def test_a_size_that_is_no_number_is_named(folder, side):
    lines = rows_of()
    lines[3] = lines[3].replace("64,48", f"64,{side}")
    with pytest.raises(UserError, match=r"boxes\.csv:5: data\.size must be numbers of pixels"):
        read(folder, lines, size=["height", "width"])


def test_images_beside_others_that_no_row_names_are_told(folder):
    said = " ".join(read(folder, rows_of()[:-1]).notices)
    assert "1 image beside others that no row names, left out: " in said
    assert "images/11.png." in said
