"""Images with boxes in the files of Pascal VOC."""

from functools import partial

import masked_files
import pytest
from PIL import Image

from kerasft.data.sources.voc import voc
from kerasft.errors import UserError
from kerasft.testing import check_data

SIZE = (48, 64)  # rows and columns


image = partial(masked_files.image, size=SIZE)


def xml(path, objects, size=SIZE, root="annotation", more=""):
    path.parent.mkdir(parents=True, exist_ok=True)
    items = "".join(
        f"<object><name>{name}</name>{more}<bndbox><xmin>{box[0]}</xmin><ymin>{box[1]}</ymin>"
        f"<xmax>{box[2]}</xmax><ymax>{box[3]}</ymax></bndbox></object>" for name, box in objects
    )
    sides = f"<size><width>{size[1]}</width><height>{size[0]}</height></size>"
    path.write_text(f"<{root}>{sides}{items}</{root}>")


@pytest.fixture
def folder(tmp_path):
    """Twelve images with one or two objects each, and one without any."""
    for i in range(13):
        image(tmp_path / "JPEGImages" / f"p{i}.png", i)
        objects = [("cat", (1, 2, 20 + i, 30)), ("dog", (5, 5, 40, 40))][: 1 + i % 2] * (i < 12)
        xml(tmp_path / "Annotations" / f"p{i}.xml", objects)
    return tmp_path


def read(folder, **more):
    return voc(str(folder), kind="boxes", seed=0, **more)


def test_a_folder(folder):
    splits = read(folder)
    check_data(splits)
    assert splits.labels.names == ("cat", "dog")
    assert sum(map(len, splits.parts.values())) == 13
    assert any("1 image without any object" in notice for notice in splits.notices)
    rows = {
        name: part.annotations.row(i)
        for part in splits.parts.values() for i, name in enumerate(part.ids)
    }
    row = rows["JPEGImages/p1.png"]
    assert row["boxes"].tolist() == [[1, 2, 21, 30], [5, 5, 40, 40]]
    assert row["labels"].tolist() == [0, 1]
    assert row["size"].tolist() == list(SIZE)
    assert len(rows["JPEGImages/p12.png"]["boxes"]) == 0


def test_lists_say_the_splits(folder):
    lists = folder / "ImageSets" / "Main"
    lists.mkdir(parents=True)
    for name, numbers in {"train": range(6), "val": range(6, 9), "test": range(9, 12),
                          "trainval": range(9), "cat_train": range(3)}.items():  # fmt: skip
        (lists / f"{name}.txt").write_text("".join(f"p{i}\n" for i in numbers))
    splits = read(folder)
    assert {name: len(part) for name, part in splits.parts.items()} == {
        "train": 6, "validation": 3, "test": 3,
    }  # fmt: skip
    assert any("in no list of ImageSets/Main, left out: p12" in said for said in splits.notices)
    (lists / "val.txt").write_text("p0\n")
    with pytest.raises(UserError, match="1 name in more than one list"):
        read(folder)


def test_files_side_by_side(tmp_path):
    for split, count in {"train": 6, "valid": 3, "test": 3}.items():
        for i in range(count):
            image(tmp_path / split / f"{i}.jpg", i)
            xml(tmp_path / split / f"{i}.xml", [("a", (1, 1, 9, 9)), ("b", (3, 3, 30, 30))])
    image(tmp_path / "train" / "alone.jpg", 9)
    xml(tmp_path / "test" / "gone.xml", [])
    splits = read(tmp_path)
    assert {name: len(part) for name, part in splits.parts.items()} == {
        "train": 6, "validation": 3, "test": 3,
    }  # fmt: skip
    said = " ".join(splits.notices)
    assert "that no XML file names, left out: train/alone.jpg" in said
    assert "whose image is missing, left out: test/gone.xml" in said


def test_boxes_that_are_none_are_counted(folder):
    xml(folder / "Annotations" / "p0.xml", [
        ("cat", (5, 5, 5, 9)), ("cat", (-3, 1, 9, 9)), ("cat", (90, 1, 99, 9)),
        ("cat", (2, 2, 8, 8)), ("cat", (2, 2, 8, 8)), ("dog", ("nan", 1, 9, 9)),
    ])  # fmt: skip
    splits = read(folder)
    said = " ".join(splits.notices)
    assert "2 boxes without width or height, or with no number in it, left out" in said
    assert "JPEGImages/p0.png: box 1, JPEGImages/p0.png: box 6" in said
    assert "1 box outside of the image left out: JPEGImages/p0.png: box 3" in said
    assert "1 box cut off at the edge of the image: JPEGImages/p0.png: box 2" in said
    assert "1 box drawn twice, counted once: JPEGImages/p0.png: box 5" in said


def test_objects_marked_as_difficult(folder):
    xml(folder / "Annotations" / "p0.xml", [("cat", (1, 1, 9, 9))],
        more="<difficult>1</difficult>")  # fmt: skip

    def ignored(**more):
        splits = read(folder, **more)
        rows = [(part, i) for part in splits.parts.values() for i in range(len(part))]
        (row,) = [p.annotations.row(i) for p, i in rows if p.ids[i] == "JPEGImages/p0.png"]
        return row["ignored"].tolist()

    assert ignored() == [True]
    assert ignored(difficult="learn") == [False]
    with pytest.raises(UserError, match=r"data\.difficult must be one of"):
        read(folder, difficult="maybe")


def test_images_that_are_stored_turned(folder):
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter to the right
    path = image(folder / "JPEGImages" / "p0.jpg", 50, exif=exif)
    (folder / "JPEGImages" / "p0.png").unlink()

    def box():
        splits = read(folder)
        rows = [(part, i) for part in splits.parts.values() for i in range(len(part))]
        (row,) = [p.annotations.row(i) for p, i in rows if p.ids[i] == "JPEGImages/p0.jpg"]
        assert row["size"].tolist() == [64, 48]
        return row["boxes"].tolist(), " ".join(splits.notices)

    # The size in the XML file says which image the box was drawn on.
    xml(folder / "Annotations" / "p0.xml", [("cat", (0, 0, 10, 20))], size=(48, 64))
    found, said = box()
    assert found == [[28, 0, 48, 10]]
    assert "1 image turned upright together with their boxes" in said
    xml(folder / "Annotations" / "p0.xml", [("cat", (0, 0, 10, 20))], size=(64, 48))
    assert box()[0] == [[0, 0, 10, 20]]
    xml(folder / "Annotations" / "p0.xml", [("cat", (0, 0, 10, 20))], size=(0, 0))
    with pytest.raises(UserError, match=r"data\.orientation=seen"):
        read(folder)
    assert read(folder, orientation="stored")
    assert path.is_file()


BROKEN = {
    "cut off": ("<annotation><object>", "is no XML that can be read"),
    "another root": ("<html></html>", "its root must be <annotation>. Received: <html>"),
    "entities": ('<!DOCTYPE a [<!ENTITY b "c">]><annotation/>', "declares no DOCTYPE"),
    "words for numbers": (
        "<annotation><object><name>cat</name><bndbox><xmin>left</xmin><ymin>1</ymin><xmax>2</xmax>"
        "<ymax>2</ymax></bndbox></object></annotation>",
        "object 1: <xmin> must be a number. Received: 'left'"),
    "a side missing": (
        "<annotation><object><name>cat</name><bndbox><xmin>1</xmin></bndbox></object></annotation>",
        "object 1: <ymin> must be a number. Received: nothing"),
    "a width without end": (
        "<annotation><size><width>inf</width><height>48</height></size></annotation>",
        "size/height and size/width must be numbers of pixels. Received: 48 and inf"),
    "an encoding that nobody knows": (
        '<?xml version="1.0" encoding="martian-8"?><annotation/>', "is no XML that can be read"),
    "no name": ("<annotation><object></object></annotation>", "object 1 has no <name>"),
}


@pytest.mark.parametrize(("content", "said"), BROKEN.values(), ids=BROKEN)
def test_a_broken_file_gets_one_message(folder, content, said):
    (folder / "Annotations" / "p3.xml").write_text(content)
    with pytest.raises(UserError, match=r"p3\.xml") as caught:
        read(folder)
    assert said in str(caught.value)


def test_another_form_of_boxes_is_recognized(folder):
    for i in range(13):  # left, top, width and height
        xml(folder / "Annotations" / f"p{i}.xml", [("cat", (40, 30, 20, 15))])
    with pytest.raises(UserError, match="13 of 13 boxes have no size, or leave their images"):
        read(folder)


def test_a_size_of_another_image(folder):
    xml(folder / "Annotations" / "p3.xml", [("cat", (1, 1, 9, 9))], size=(480, 640))
    splits = read(folder)
    assert any("p3.png (it is 64 x 48, its annotations say 640 x 480)" in one
               for one in splits.notices)  # fmt: skip
    for i in range(13):
        xml(folder / "Annotations" / f"p{i}.xml", [("cat", (1, 1, 9, 9))], size=(480, 640))
    with pytest.raises(UserError, match="13 images of 13 have another size"):
        read(folder)


def test_mistakes(folder, tmp_path):
    with pytest.raises(UserError, match="Set task=detection"):
        voc(str(folder), kind="single", seed=0)
    with pytest.raises(UserError, match=r"boxes are of other classes\. Received: 'dog'"):
        read(folder, label_names=["cat", "cow"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds no images with XML files of boxes"):
        read(tmp_path / "empty")
    for i in range(13):
        xml(folder / "Annotations" / f"p{i}.xml", [])
    with pytest.raises(UserError, match="none of 13 images has a box"):
        read(folder)


def test_real_cells(real_data):
    splits = read(real_data / "bccd_voc" / "BCCD")
    check_data(splits)
    assert {name: len(part) for name, part in splits.parts.items()} == {
        "train": 205, "validation": 87, "test": 72,
    }  # fmt: skip
    assert splits.labels.names == ("Platelets", "RBC", "WBC")
    count = sum(len(p.annotations.row(i)["boxes"]) for p in splits.parts.values()
                for i in range(len(p)))  # fmt: skip
    assert count == 4888 - 2
    assert any("BloodImage_00338.jpg: box 13" in notice for notice in splits.notices)


def test_what_val_is_must_be_a_split(folder):
    with pytest.raises(UserError, match=r"data\.val_folder must be 'validation' or 'test'"):
        read(folder, val_folder="tset")
