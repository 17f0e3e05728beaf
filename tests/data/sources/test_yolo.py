"""Boxes in the text files of YOLO."""

import numpy as np
import pytest
from PIL import Image

from kerasft.data.sources.yolo import yolo
from kerasft.errors import UserError
from kerasft.testing import check_data


def write(root, split, count, lines=("0 0.5 0.5 0.25 0.5", "1 0.25 0.25 0.2 0.2"), inside=True):
    images = root / split / "images" if inside else root / "images" / split
    labels = root / split / "labels" if inside else root / "labels" / split
    for folder in (images, labels):
        folder.mkdir(parents=True)
    for i in range(count):
        seed = len(split) * 100 + i
        pixels = np.random.default_rng(seed).integers(0, 255, (48, 64, 3)).astype("uint8")
        Image.fromarray(pixels).save(images / f"{split}{i}.png")
        (labels / f"{split}{i}.txt").write_text("\n".join(lines[: 1 + i % 2] * (i != 3)))


@pytest.fixture
def folder(tmp_path):
    for split, count in (("train", 6), ("valid", 4), ("test", 4)):
        write(tmp_path, split, count)
    (tmp_path / "data.yaml").write_text("train: ../train/images\nnc: 3\nnames: [cat, dog, cow]\n")
    return tmp_path


def read(folder, **more):
    return yolo(str(folder), kind="boxes", seed=0, **more)


def test_a_folder(folder):
    splits = read(folder)
    check_data(splits)
    assert {name: len(part) for name, part in splits.parts.items()} == {
        "train": 6, "validation": 4, "test": 4,
    }  # fmt: skip
    assert splits.labels.names == ("cat", "dog")
    assert any("1 class without a box: cow" in said for said in splits.notices)
    row = splits.train.annotations.row(1)
    np.testing.assert_allclose(row["boxes"], [[24, 12, 40, 36], [9.6, 7.2, 22.4, 16.8]], rtol=1e-6)
    assert len(splits.train.annotations.row(3)["boxes"]) == 0


def test_splits_inside_of_images_and_labels(tmp_path):
    for split, count in (("train", 6), ("val", 4)):
        write(tmp_path, split, count, inside=False)
    (tmp_path / "classes.txt").write_text("cat\ndog\n")
    assert {name: len(part) for name, part in read(tmp_path, val_folder="test").parts.items()} == {
        "train": 4, "validation": 2, "test": 4,
    }  # fmt: skip


def test_names_by_number(folder):
    (folder / "data.yaml").write_text("names:\n  0: cat\n  1: dog\n")
    assert read(folder).labels.names == ("cat", "dog")
    assert read(folder, label_names=["a", "b"]).labels.names == ("a", "b")


def test_outlines_become_boxes(folder):
    (folder / "train" / "labels" / "train0.txt").write_text("0 0.25 0.5 0.5 0.25 0.75 0.75 0.5 0.9")
    (found,) = read(folder).train.annotations.row(0)["boxes"].tolist()
    assert found == pytest.approx([16, 12, 48, 43.2])


def test_a_image_without_a_file_is_told(folder):
    (folder / "train" / "labels" / "train0.txt").unlink()
    splits = read(folder)
    assert len(splits.train) == 5
    assert any("without a text file, left out: train/images/train0.png" in said
               for said in splits.notices)  # fmt: skip


def test_text_files_without_an_image_are_told(folder):
    (folder / "train" / "images" / "train0.png").unlink()
    (folder / "valid" / "labels" / "classes.txt").write_text("cat\ndog\n")
    assert any("1 text file of boxes without an image, left out: train/labels/train0.txt." in said
               for said in read(folder).notices)  # fmt: skip


def test_an_image_whose_boxes_are_all_damaged_is_left_out(folder):
    (folder / "train" / "labels" / "train0.txt").write_text("0 0.5 0.5 0 0.2\n1 0.5 0.5 1e308 nan")
    splits = read(folder)
    assert "train/images/train0.png" not in splits.train.ids
    assert any("1 image of which all boxes are left out, left out too, as they are not without "
               "objects: train/images/train0.png." in said for said in splits.notices)  # fmt: skip
    # One that is empty by its annotation stays.
    assert "train/images/train3.png" in splits.train.ids


def test_names_in_another_encoding(folder):
    (folder / "data.yaml").unlink()
    (folder / "classes.txt").write_bytes("chat\nch\xe8vre\n".encode("latin-1"))
    with pytest.raises(UserError, match=r"classes\.txt must be a UTF-8 file with the name of a"):
        read(folder)


@pytest.mark.parametrize(("line", "said"), [
    ("inf 0.5 0.5 0.2 0.2", "train0.txt:1 must be numbers: class x y width height"),
    ("1e999 0.5 0.5 0.2 0.2", "train0.txt:1 must be numbers"),
    ("cat 0.5 0.5 0.2 0.2", "train0.txt:1 must be numbers"),
    ("7 0.5 0.5 0.2 0.2", "train0.txt:1 is of the class 7, and there are names for 0 to 2"),
    ("0.5 0.5 0.5 0.2 0.2", "is of the class 0.5"),
    ("0 0.5 0.5", "must have a class and four numbers"),
])  # fmt: skip
def test_a_broken_line_is_named(folder, line, said):
    (folder / "train" / "labels" / "train0.txt").write_text(line)
    with pytest.raises(UserError) as caught:
        read(folder)
    assert said in str(caught.value)


@pytest.mark.parametrize(("content", "said"), [
    ("names: 3", "names must list the classes"), ("names: [a", "is no YAML that can be read"),
    ("names: {1: a}", "names must list the classes"),
])  # fmt: skip
def test_names_that_are_none(folder, content, said):
    (folder / "data.yaml").write_text(content)
    with pytest.raises(UserError) as caught:
        read(folder)
    assert said in str(caught.value)


def test_pixels_for_parts_are_recognized(tmp_path):
    write(tmp_path, "train", 8, ("0 30 20 10 10",))
    (tmp_path / "classes.txt").write_text("cat\n")
    with pytest.raises(UserError, match="boxes have no size, or leave their images"):
        read(tmp_path)


def test_no_names_and_no_images(tmp_path):
    (tmp_path / "images").mkdir()
    with pytest.raises(UserError, match="says no names of classes"):
        read(tmp_path)
    (tmp_path / "classes.txt").write_text("cat\n")
    with pytest.raises(UserError, match="holds no images with text files of boxes"):
        read(tmp_path)


def test_what_val_is_must_be_a_split(folder):
    with pytest.raises(UserError, match=r"data\.val_folder must be 'validation' or 'test'"):
        read(folder, val_folder="tset")
