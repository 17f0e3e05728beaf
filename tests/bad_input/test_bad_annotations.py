"""Boxes and masks that are none, in the files of every source."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest

SIZE = (32, 40)  # rows and columns


def png(number: int = 0, size: tuple[int, int] = SIZE, form: str = "PNG") -> bytes:
    from PIL import Image

    file = io.BytesIO()
    pixels = np.random.default_rng(number).integers(0, 255, (*size, 3), np.uint8)
    Image.fromarray(pixels).save(file, form)
    return file.getvalue()


def mask(values, form: str = "PNG") -> bytes:
    from PIL import Image

    file = io.BytesIO()
    values = np.asarray(values)
    kept = values if values.dtype == "float32" else values.astype("uint8")
    Image.fromarray(kept).save(file, form)
    return file.getvalue()


def palette_of(numbers) -> bytes:
    """Return a mask whose pixels are places in a palette of colours."""
    from PIL import Image

    file = io.BytesIO()
    made = Image.fromarray(np.asarray(numbers).astype("uint8"), "L").convert("P")
    made.putpalette([37, 90, 200] * 256)
    made.save(file, "PNG")
    return file.getvalue()


def cells(count: int = 8) -> dict:
    """Return what a file of COCO holds: two boxes for each image."""
    return {
        "images": [{"id": i, "file_name": f"{i}.png", "height": SIZE[0], "width": SIZE[1]}
                   for i in range(count)],
        "categories": [{"id": 1, "name": "red"}, {"id": 2, "name": "white"}],
        "annotations": [{"id": 2 * i + k, "image_id": i, "category_id": 1 + k,
                         "bbox": [4 + k, 5, 10, 12], "iscrowd": 0}
                        for i in range(count) for k in range(2)],
    }  # fmt: skip


def images(folder: str = "cells", count: int = 8) -> dict:
    return {f"{folder}/{i}.png": png(i) for i in range(count)}


def coco(change=lambda made: made, count: int = 8) -> dict:
    made = cells(count)
    made = change(made) or made
    text = made if isinstance(made, str) else json.dumps(made)
    return images(count=count) | {"cells/cells.json": text}


def changed(key: str, place: int, **values):
    def change(made):
        made[key][place] |= values

    return change


def every(**values):
    def change(made):
        for one in made["annotations"]:
            one |= values

    return change


def detect(further: str = "data=coco data.path=cells") -> str:
    return (f"train task=detection head=anchor_free {further} backbone=tiny_resnet "
            "backbone.image_size=64 progress=false batch_size=2")  # fmt: skip


# name: (files, what the message says)
COCO = {
    "cut off": (coco(lambda made: json.dumps(made)[:-200]), "cells.json", "may be cut off"),
    "a list": (coco(lambda made: "[1, 2]"), "holds no JSON file of COCO"),
    "an id twice": (coco(changed("images", 1, id=0)), "two entries with the id 0"),
    "an image nowhere": (coco(changed("annotations", 3, image_id=99)), "annotation 3",
                          "images does not list"),
    "a category nowhere": (coco(changed("annotations", 3, category_id=9)), "annotation 3",
                           "categories does not list"),
    "words for numbers": (coco(changed("annotations", 3, bbox=["4", "5", "9", "9"])),
                          "annotation 3", "four numbers"),
    "two numbers": (coco(changed("annotations", 3, bbox=[4, 5])), "annotation 3", "four numbers"),
    "no numbers": (coco(every(bbox=[float("nan"), 5, 9, 9])), "or hold no number",
                   "written in another form"),
    "lists for sizes": (coco(every(bbox=[[4], 5, 9, 9])), "annotation 0", "four numbers"),
    "negative sizes": (coco(every(bbox=[20, 20, -5, -5])), "written in another form"),
    "corners for sizes": (coco(every(bbox=[25, 20, 39, 31])), "written in another form",
                          "left, top, width and height"),
    "crowds alone": (coco(every(iscrowd=1)), "none of 8 images has an object to learn",
                     "16 are regions that are ignored", "iscrowd"),
    "no boxes at all": (coco(lambda made: {**made, "annotations": []}), "has a box"),
    "one image": (coco(count=1), "none for"),
    "one name for two categories": (coco(changed("categories", 1, name="red")),
                                    "two categories are called 'red'"),
    "a name that leads out": (coco(changed("images", 0, file_name="../../0.png")), "inside of"),
    "no file of annotations": (images(), "holds no JSON file of COCO"),
    "nothing there": ({}, "data.path"),
}  # fmt: skip


@pytest.mark.every(3)
@pytest.mark.parametrize("name", COCO)
def test_a_file_of_coco_gets_one_message(name, put, refuses):
    files, *said = COCO[name]
    put(files)
    refuses(detect(), *said, started=True)


def xml(objects: str, root: str = "annotation") -> str:
    return (f"<{root}><size><width>{SIZE[1]}</width><height>{SIZE[0]}</height></size>"
            f"{objects}</{root}>")  # fmt: skip


def item(name: str = "cat", sides=(4, 5, 20, 20)) -> str:
    words = "".join(f"<{side}>{value}</{side}>" for side, value in
                    zip(("xmin", "ymin", "xmax", "ymax"), sides, strict=True))  # fmt: skip
    return f"<object><name>{name}</name><bndbox>{words}</bndbox></object>"


VOC = {
    "another root": (xml(item(), "html"), "<annotation>", "<html>"),
    "cut off": (xml(item())[:60], "3.xml"),
    "no name": (xml(item("")), "3.xml", "no <name>"),
    "a word for a number": (xml(item(sides=("four", 5, 20, 20))), "3.xml", "'four'"),
    "no box": (xml("<object><name>cat</name></object>"), "3.xml", "<xmin>", "nothing"),
    "a bomb of entities": (
        '<!DOCTYPE a [<!ENTITY b "bbbb"><!ENTITY c "&b;&b;">]><annotation>&c;</annotation>',
        "3.xml"),
}  # fmt: skip


@pytest.mark.every(3)
@pytest.mark.parametrize("name", VOC)
def test_a_file_of_voc_gets_one_message(name, put, refuses):
    content, *said = VOC[name]
    put(images() | {f"cells/{i}.xml": xml(item()) for i in range(8)} | {"cells/3.xml": content})
    refuses(detect("data=voc data.path=cells"), *said, started=True)


YOLO = {
    "a word for a number": ("0 half 0.5 0.2 0.2", "3.txt:1", "must be numbers"),
    "too few": ("0 0.5 0.5", "3.txt:1", "four numbers"),
    "a class too many": ("7 0.5 0.5 0.2 0.2", "3.txt:1", "names for 0 to 1"),
    "pixels for parts": ("0 20 20 8 8\n" * 99, "written in another form"),
}  # fmt: skip


@pytest.mark.parametrize("name", YOLO)
def test_a_file_of_yolo_gets_one_message(name, put, refuses):
    content, *said = YOLO[name]
    put(images("cells/images") | {"cells/classes.txt": "cat\ndog\n"} | {
        f"cells/labels/{i}.txt": "0 0.5 0.5 0.2 0.2\n1 0.3 0.3 0.1 0.1\n" for i in range(8)
    } | {"cells/labels/3.txt": content})
    refuses(detect("data=yolo data.path=cells"), *said, started=True)


HEAD = "filename,class,xmin,ymin,xmax,ymax\n"
ROWS = "".join(f"cells/{i}.png,cat,4,5,20,20\ncells/{i}.png,dog,2,3,9,9\n" for i in range(8))

CSV = {
    "a word for a number": ("cells/0.png,cat,four,5,20,20\n", "boxes.csv:18", "'four'"),
    "a row that is cut off": ("cells/0.png,cat,4\n", "boxes.csv"),
    "no class": ("cells/0.png,,4,5,20,20\n", "boxes.csv:18"),
    "names and numbers of classes": ("cells/1.png,7,4,5,20,20\n" * 40, "'7'"),
}  # fmt: skip


@pytest.mark.every(4)
@pytest.mark.parametrize("name", CSV)
def test_a_table_of_boxes_gets_one_message(name, put, refuses):
    content, *said = CSV[name]
    put(images() | {"boxes.csv": HEAD + ROWS + content})
    names = "" if not name.startswith("names") else " data.label_names=[cat,dog]"
    refuses(detect(f"data=boxes_csv data.path=boxes.csv{names}"), *said, started=True)


def painted(**others) -> dict:
    made = np.zeros(SIZE, "uint8")
    made[5:15, 5:20] = 255
    return {f"cells/images/{i}.png": png(i) for i in range(8)} | {
        f"cells/masks/{i}.png": mask(made) for i in range(8)
    } | {f"cells/masks/{name}": content for name, content in others.items()}


NOISE = np.random.default_rng(0).integers(0, 255, SIZE)



def lossy(suffix: str) -> dict:
    """Return images with masks that are JPEG files, whatever they are called."""
    return {f"cells/images/{i}.png": png(i) for i in range(8)} | {
        f"cells/masks/{i}.{suffix}": mask(NOISE // 128 * 255, "JPEG") for i in range(8)
    }


MASKS = {
    "a value without a class": (painted(**{"3.png": mask(np.full(SIZE, 7))}),
                                "data.classes={0:ground,255:cell}", "images/3.png",
                                "values without a class: 7"),
    "numbers of objects": (painted(**{"3.png": mask(NOISE)}), "", "numbers of objects"),
    "masks of other images": (painted(**{f"{i}.png": mask(np.zeros((9, 9))) for i in range(8)}),
                                "", "another size", "its mask 9 x 9"),
    "masks that are lossy": (
        lossy("jpg"),
        "", "JPEG files", "Save masks as PNG"),
    "lossy masks whose values are named": (
        lossy("png"),
        "data.classes={0:ground,255:cell}", "values without a class", "save masks as PNG"),
    "lossy masks called png": (
        lossy("png"),
        "", "JPEG files", "Save masks as PNG"),
    "masks of fractions": (
        painted(**{"3.png": mask(NOISE.astype("float32") / 2, "TIFF")}), "data.broken=fail",
        "images/3.png", "no whole numbers"),
    "a value without a name": (painted(), "'data.classes={0:null,255:cell}'",
                               "gives the value 0 no name", "data.ignore=0"),
    "names of classes that are not there": (painted(), "data.classes=no.txt",
                                            "data.classes=no.txt"),
    "no mask": (images("cells/images"), "", "holds no images with masks"),
    "a broken mask": (painted(**{"3.png": "text"}), "data.broken=fail", "images/3.png",
                      "cannot be read"),
    "a bomb of pixels": (painted(**{"3.png": mask(np.zeros((64, 64)))}),
                         "data.max_pixels=2000 data.broken=fail", "images/3.png", "2,000 pixels"),
    "a palette with a number too many": (
        painted(**{"3.png": palette_of(np.full(SIZE, 5))}), "data.classes={0:ground,255:cell}",
        "images/3.png", "values without a class"),
    "colours without names": (painted(**{"3.png": png(1)}), "", "nobody says which class"),
    "classes that are no names": (painted(), "data.classes=3", "data.classes"),
}  # fmt: skip


@pytest.mark.every(3)
@pytest.mark.parametrize("name", MASKS)
def test_masks_get_one_message(name, put, refuses):
    files, further, *said = MASKS[name]
    put(files)
    refuses("train task=segmentation data=mask_folder data.path=cells head=decoder "
            f"backbone=tiny_resnet backbone.image_size=64 progress=false batch_size=2 {further}",
            *said, started=True)


# name: (command, files, what the message says)


def split_by(train: list, valid: list) -> dict:
    """Return images with boxes to train on, and such to validate on, as Roboflow lays them out."""
    made = {}
    for split, these in (("train", train), ("valid", valid)):
        made[f"cells/{split}/_annotations.coco.json"] = json.dumps(
            cells() | {"annotations": these}
        ).encode()
        made |= {f"cells/{split}/{i}.png": png(i + 8 * (split == "valid")) for i in range(8)}
    return made


BOXES = cells()["annotations"]
CROWDS = [one | {"iscrowd": 1} for one in BOXES]


def all_ignored(split: str) -> dict:
    """Return images with masks in splits, one of which has masks that are ignored."""
    made = np.zeros(SIZE, "uint8")
    made[5:15, 5:20] = 1
    nothing = np.full(SIZE, 255, "uint8")
    return {f"cells/{name}/images/{i}.png": png(i + 8 * (name == "val"))
            for name in ("train", "val") for i in range(8)} | {
        f"cells/{name}/masks/{i}.png": mask(nothing if name == split else made)
        for name in ("train", "val") for i in range(8)
    }  # fmt: skip


SEGMENT = ("train task=segmentation data=mask_folder data.path=cells head=decoder data.ignore=255 "
           "data.classes={0:ground,1:cell} backbone=tiny_resnet backbone.image_size=64 "
           "progress=false batch_size=2")  # fmt: skip


OTHERS = {
    "ignored pixels alone to validate on": (SEGMENT, all_ignored("val"), "validation masks",
                                            "task.monitor=val_loss"),
    "no object to validate on": (detect(), split_by(BOXES, []), "no object in its 8 images",
                                 "task.monitor=val_loss"),
    "crowds alone to validate on": (
        detect(), split_by(BOXES, CROWDS), "no object but regions that are ignored",
        "data.validation"),
    "difficult objects alone": (
        detect("data=voc data.path=cells"), images() | {
            f"cells/{i}.xml": xml(item().replace("<bndbox", "<difficult>1</difficult><bndbox"))
            for i in range(8)
        }, "none of 8 images has an object to learn", "data.difficult=learn"),
    "a detector on texts": (detect().replace("tiny_resnet backbone.image_size=64", "tiny_bert"),
                            coco(), "images"),
    "mixed images": (detect() + " augment=mixup", coco(), "augment.mixup",
                       "augment=boxes_mosaic"),
    "boxes for the head of a text": (
        "train task=classification data=image_folder data.path=cells head=anchor_free "
        "backbone=tiny_bert", coco(), "anchor_free does not fit", "head=linear"),
    "a classifier's head": (detect().replace("anchor_free", "linear"), coco(), "head=anchor_free"),
    "boxes for a classifier": ("train data=coco data.path=cells backbone=tiny_resnet", coco(),
                               "task=detection"),
    "masks out of boxes": ("train task=segmentation head=decoder data=coco data.path=cells "
                           "backbone=tiny_resnet", coco(), "no object has an outline"),
    "masks for a detector": (detect("data=mask_folder data.path=cells"), painted(),
                             "task=segmentation"),
    "classes for a detector": (detect(""), {}, "task=detection"),
}  # fmt: skip


# Two classes each: what no training image has is told by its label.
UNLEARNED = {
    "crowds alone": (detect(), split_by(CROWDS, BOXES), "'red' is in validation only"),
    "no object": (detect(), split_by([], BOXES), "'white' is in validation only"),
    "ignored pixels alone": (SEGMENT, all_ignored("train"), "'cell' is in validation only"),
}  # fmt: skip


@pytest.mark.every(3)
@pytest.mark.parametrize("name", UNLEARNED)
def test_training_images_with_nothing_to_learn_get_one_message(name, put, refuses):
    command, files, *said = UNLEARNED[name]
    put(files)
    refuses(command, *said, started=True, problems=2)


@pytest.mark.every(3)
@pytest.mark.parametrize("name", OTHERS)
def test_what_does_not_go_together_gets_one_message(name, put, refuses):
    command, files, *said = OTHERS[name]
    put(files)
    refuses(f"{command} progress=false" if "progress" not in command else command, *said,
            started=True)


@pytest.mark.slow
def test_a_detector_that_is_asked_about_a_text(tiny_detector, put, refuses, tmp_path):
    put({"notes.txt": "a cat sits on a mat"})
    refuses(f"predict {tiny_detector} 'a cat on a mat'", "a cat on a mat", "image")
    refuses(f"predict {tiny_detector} notes.txt", "notes.txt", "image")
