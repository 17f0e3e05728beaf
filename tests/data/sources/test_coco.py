"""Images with boxes in the files of COCO."""

import json

import numpy as np
import pytest
from PIL import Image

from kerasft.data.sources.coco import coco
from kerasft.errors import UserError
from kerasft.testing import check_data

ROWS, COLUMNS = 48, 64


def content(count, first=0, **more):
    """Return what a JSON file of so many images holds, each with two boxes."""
    made = {
        "images": [{"id": i, "file_name": f"{first + i}.png", "height": ROWS, "width": COLUMNS}
                   for i in range(count)],
        "categories": [{"id": 0, "name": "cells"}, {"id": 3, "name": "red"},
                       {"id": 7, "name": "white"}],
        "annotations": [
            {"id": 2 * i + k, "image_id": i, "category_id": (3, 7)[k], "iscrowd": 0,
             "bbox": [4 + k, 5, 10.5, 20], "area": 210}
            for i in range(count) for k in range(2)],
    }  # fmt: skip
    return {**made, **more}


def write(folder, made, name="_annotations.coco.json", images=None):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(json.dumps(made))
    for i, entry in enumerate(made["images"]):
        path = (images or folder) / entry["file_name"]
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(i + 31 * len(str(path))).integers(0, 255, (ROWS, COLUMNS, 3))
        Image.fromarray(pixels.astype("uint8")).save(path)


@pytest.fixture
def folder(tmp_path):
    """The layout that Roboflow exports."""
    for split, count, first in (("train", 6, 0), ("valid", 3, 10), ("test", 3, 20)):
        write(tmp_path / split, content(count, first))
    return tmp_path


def read(path, **more):
    return coco(str(path), kind="boxes", seed=0, **more)


def change(folder, **more):
    write(folder / "train", content(6, **more))


def test_a_folder_with_splits(folder):
    splits = read(folder)
    check_data(splits)
    assert {name: len(part) for name, part in splits.parts.items()} == {
        "train": 6, "validation": 3, "test": 3,
    }  # fmt: skip
    # Ids have gaps, and a parent category has no box: names are what counts.
    assert splits.labels.names == ("red", "white")
    assert any("1 category without a box, which are no classes here: cells" in said
               for said in splits.notices)  # fmt: skip
    row = splits.train.annotations.row(0)
    assert row["boxes"].tolist() == [[4, 5, 14.5, 25], [5, 5, 15.5, 25]]
    assert row["labels"].tolist() == [0, 1]


def test_annotations_beside_the_folders_of_images(tmp_path):
    for split, count in (("train2017", 6), ("val2017", 4)):
        write(tmp_path / "annotations", content(count), f"instances_{split}.json",
              tmp_path / split)  # fmt: skip
    splits = read(tmp_path, test=0.2)
    # The images are called alike: each comes out of the folder of its own split.
    assert [i.split("/")[0] for i in splits.validation.ids] == ["val2017"] * 4
    assert {i.split("/")[0] for i in splits.train.ids} == {"train2017"}
    assert read(tmp_path, val_folder="test").test is not None


def test_one_file(tmp_path):
    write(tmp_path, content(12), "boxes.json")
    splits = read(tmp_path / "boxes.json")
    check_data(splits)
    assert sum(map(len, splits.parts.values())) == 12


def test_crowds_are_ignored(folder):
    made = content(6)
    made["annotations"][0]["iscrowd"] = 1
    write(folder / "train", made)
    assert read(folder).train.annotations.row(0)["ignored"].tolist() == [True, False]


@pytest.mark.parametrize(("mark", "ignored"), [
    ("0", False), ("1", True), (None, False), (1.0, True), (False, False),
])  # fmt: skip
def test_what_says_that_an_object_is_a_crowd(folder, mark, ignored):
    write(folder / "train", changed("annotations", 0, iscrowd=mark))
    assert read(folder).train.annotations.row(0)["ignored"].tolist() == [ignored, False]


def test_ids_of_annotations_that_repeat_are_told(folder):
    write(folder / "train", changed("annotations", 3, id=0))
    assert any("1 id of _annotations.coco.json that several annotations have: 0." in said
               for said in read(folder).notices)  # fmt: skip


@pytest.mark.parametrize("size", [(ROWS * 2.0, COLUMNS * 2.0), (str(ROWS * 2), str(COLUMNS * 2))])
def test_a_size_in_another_form_is_compared_with_the_image(folder, size):
    write(folder / "train", changed("images", 2, height=size[0], width=size[1]))
    assert any("1 image left out, of another size than their annotations say: train/2.png" in said
               for said in read(folder).notices)  # fmt: skip


def test_images_beside_one_file_that_it_does_not_name_are_told(tmp_path):
    made = content(12)
    write(tmp_path, made, "boxes.json")
    del made["images"][11], made["annotations"][22:]
    (tmp_path / "boxes.json").write_text(json.dumps(made))
    for path in (tmp_path, tmp_path / "boxes.json"):
        said = " ".join(read(path).notices)
        assert "1 image that no file of COCO names, left out: 11.png" in said


def test_images_in_the_layout_of_coco_that_no_file_names_are_told(tmp_path):
    for split, count in (("train2017", 6), ("val2017", 4)):
        write(tmp_path / "annotations", content(count), f"instances_{split}.json",
              tmp_path / split)  # fmt: skip
    Image.new("RGB", (COLUMNS, ROWS)).save(tmp_path / "val2017" / "more.png")
    said = " ".join(read(tmp_path, test=0.2).notices)
    assert "1 image that no file of COCO names, left out: val2017/more.png" in said


def test_what_is_missing_is_told(folder):
    made = content(6)
    made["images"][5]["file_name"] = "gone.png"
    made["annotations"][0]["bbox"] = []
    (folder / "train" / "_annotations.coco.json").write_text(json.dumps(made))
    splits = read(folder)
    said = " ".join(splits.notices)
    assert "1 image of _annotations.coco.json that are not there, left out: gone.png" in said
    assert "1 annotation of _annotations.coco.json without a box, left out: 0" in said
    assert "1 image that no file of COCO names, left out: train/5.png" in said


def changed(key, place, **more):
    made = content(6)
    made[key][place] |= more
    return made


BROKEN = {
    "cut off": (json.dumps(content(6))[:900], "is no JSON that can be read"),
    "a list": ('["images", "annotations", "categories"]', "is no file of COCO"),
    "ids twice": (changed("images", 1, id=0), "images has two entries with the id 0"),
    "an id that is none": (changed("images", 1, id=[1]), "entry 2 of images has no id"),
    "an image_id that points nowhere": (
        changed("annotations", 3, image_id=99),
        "1 annotation of images that images does not list: annotation 3 (image_id 99)"),
    "a category that is not there": (
        changed("annotations", 3, category_id=1), "annotation 3 is of the category 1"),
    "boxes as text": (
        changed("annotations", 3, bbox=["1", "2", "3", "4"]),
        "bbox of annotation 3 must be four numbers (left, top, width, height)"),
    "a box of hundreds of digits": (
        changed("annotations", 3, bbox=[1, 2, 10**400, 4]), "bbox of annotation 3 must be four"),
    "a crowd that is neither": (
        changed("annotations", 3, iscrowd="maybe"), "iscrowd of annotation 3 must be 0 or 1"),
    "a class without a name": (
        changed("categories", 1, name=" "), "entry 2 of categories (id 3) must have a name"),
    "a class called null": (
        changed("categories", 1, name=None), "entry 2 of categories (id 3) must have a name"),
    "a size that is none": (
        changed("images", 1, height=48.5), "height of image 1 must be a whole number of pixels"),
    "a size without end": (
        changed("images", 1, width=float("inf")), "width of image 1 must be a whole number"),
    "three sides": (changed("annotations", 3, bbox=[1, 2, 3]), "must be four numbers"),
    "names twice": (changed("categories", 1, name="white"), "two categories are called 'white'"),
    "a way out": (changed("images", 1, file_name="../../1.png"), "file_name must lie inside of"),
    "no file_name": (changed("images", 1, file_name=None), "entry 2 of images has no file_name"),
}  # fmt: skip


@pytest.mark.parametrize(("made", "said"), BROKEN.values(), ids=BROKEN)
def test_a_broken_file_gets_one_message(folder, made, said):
    text = made if isinstance(made, str) else json.dumps(made)
    (folder / "train" / "_annotations.coco.json").write_text(text)
    with pytest.raises(UserError) as caught:
        read(folder)
    assert said in str(caught.value)


def test_negative_sizes_are_counted(folder):
    write(folder / "train", changed("annotations", 3, bbox=[9, 9, -4, 5]))
    assert any("1 box without width or height, or with no number in it, left out" in said
               for said in read(folder).notices)  # fmt: skip


def test_boxes_that_are_no_numbers_are_counted(folder):
    made = content(6)
    made["annotations"][0]["bbox"] = [float("nan"), 5, 9, 9]
    change(folder, annotations=made["annotations"])
    (said,) = (one for one in read(folder).notices if "no number in it" in one)
    assert said.startswith("1 box without width or height")
    assert "0.png: box 1" in said


def test_corners_for_sizes_are_recognized(tmp_path):
    made = content(12)
    for one in made["annotations"]:
        one["bbox"] = [30, 20, 60, 45]  # left, top, right and bottom
    write(tmp_path, made)
    with pytest.raises(UserError, match="24 of 24 boxes have no size, or leave their images"):
        read(tmp_path)


def test_thousands_of_boxes_on_one_image(folder):
    made = content(6)
    box = {"image_id": 0, "category_id": 3, "iscrowd": 0}
    made["annotations"] += [{"id": 100 + i, "bbox": [i % 50, i // 250, 3, 3], **box}
                            for i in range(10_000)]  # fmt: skip
    write(folder / "train", made)
    splits = read(folder)
    assert any("boxes drawn twice, counted once" in said for said in splits.notices)
    assert len(splits.train.annotations.row(0)["boxes"]) > 1000


def test_several_files_of_one_split(folder):
    write(folder / "train", content(6), "more.json")
    with pytest.raises(UserError, match="several JSON files of COCO for train"):
        read(folder)


def test_no_file(tmp_path):
    with pytest.raises(UserError, match="holds no JSON file of COCO"):
        read(tmp_path)


def test_real_cells(real_data):
    splits = read(real_data / "rbc_wbc_coco")
    check_data(splits)
    assert {name: len(part) for name, part in splits.parts.items()} == {
        "train": 210, "validation": 20, "test": 10,
    }  # fmt: skip
    assert splits.labels.names == ("rbc", "wbc")
    assert any("RBC-WBC" in notice for notice in splits.notices)


def test_what_val_is_must_be_a_split(folder):
    with pytest.raises(UserError, match=r"data\.val_folder must be 'validation' or 'test'"):
        read(folder, val_folder="tset")


def test_an_image_with_far_more_boxes_than_the_others_is_named(folder):
    made = content(6)
    made["annotations"] += [
        {"id": 100 + i, "image_id": 3, "category_id": 3, "iscrowd": 0,
         "bbox": [i % 40, i // 40, 9 + i / 1000, 9]} for i in range(1000)
    ]  # fmt: skip
    write(folder / "train", made)
    splits = read(folder)
    (said,) = (one for one in splits.notices if "far more boxes" in one)
    assert said.startswith("1 image with far more boxes than the others, of which half have at "
                           "most 2: ")  # fmt: skip
    assert "3.png (1,002)" in said
    # Many objects in all images are no oddity.
    made = content(6)
    made["annotations"] = [
        {"id": 500 * i + k, "image_id": i, "category_id": 3, "bbox": [k % 40, k // 40, 9, 9]}
        for i in range(6) for k in range(500)
    ]  # fmt: skip
    for split in ("train", "valid", "test"):
        write(folder / split, made)
    assert not [one for one in read(folder).notices if "far more boxes" in one]
