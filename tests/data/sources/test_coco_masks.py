"""Images with the outlines of objects in the files of COCO, as masks."""

import io
import json

import numpy as np
import pytest
from PIL import Image

from kerasft.data.sources.coco import coco
from kerasft.errors import UserError
from kerasft.spec import IGNORED
from kerasft.testing import check_data

ROWS, COLUMNS = 40, 60


def rectangle(left, top, right, bottom):
    return [[left, top, right, top, right, bottom, left, bottom]]


def content(count=8):
    """Return images with a large red object, a small white one on it, and a crowd."""
    made = {"images": [], "annotations": [],
            "categories": [{"id": 3, "name": "red"}, {"id": 7, "name": "white"}]}  # fmt: skip
    for i in range(count):
        made["images"].append(
            {"id": i, "file_name": f"{i}.png", "height": ROWS, "width": COLUMNS})
        crowd = np.zeros((ROWS, COLUMNS), int)
        crowd[30:, 50:] = 1
        ends = np.flatnonzero(np.diff(crowd.T.ravel(), prepend=0, append=0))
        counts = np.diff([0, *ends, crowd.size]).tolist()
        for unit, box, segmentation, is_crowd in (
            (7, [10, 10, 5, 5], rectangle(10, 10, 15, 15), 0),
            (3, [5, 5, 30, 20 + i], rectangle(5, 5, 35, 25 + i), 0),
            (3, [50, 30, 10, 10], {"size": [ROWS, COLUMNS], "counts": counts}, 1),
        ):  # fmt: skip
            made["annotations"].append({
                "id": len(made["annotations"]), "image_id": i, "category_id": unit, "bbox": box,
                "segmentation": segmentation, "iscrowd": is_crowd,
            })  # fmt: skip
    return made


def write(folder, made):
    folder.mkdir(exist_ok=True)
    (folder / "cells.json").write_text(json.dumps(made))
    for i, entry in enumerate(made["images"]):
        pixels = np.random.default_rng(i).integers(0, 255, (ROWS, COLUMNS, 3)).astype("uint8")
        Image.fromarray(pixels).save(folder / entry["file_name"])
    return folder


def read(folder, **more):
    return coco(str(folder), kind="masks", seed=0, **more)


def mask_of(splits, name):
    for part in splits.parts.values():
        for one, png in zip(part.ids, part.annotations["mask"], strict=True):
            if one == name:
                with Image.open(io.BytesIO(png)) as image:
                    return np.asarray(image)
    raise KeyError(name)


def test_small_objects_lie_on_large_ones_and_crowds_are_ignored(tmp_path):
    splits = read(write(tmp_path, content()))
    check_data(splits)
    assert splits.labels.names == ("background", "red", "white")
    found = mask_of(splits, "2.png")
    wanted = np.zeros((ROWS, COLUMNS), int)
    wanted[30:, 50:] = IGNORED
    wanted[5:27, 5:35] = 1
    wanted[10:15, 10:15] = 2
    np.testing.assert_array_equal(found, wanted)


def test_the_order_of_classes_is_the_users(tmp_path):
    write(tmp_path, content())
    assert read(tmp_path, label_names=["white", "red"]).labels.names == (
        "background", "white", "red",
    )  # fmt: skip
    with pytest.raises(UserError, match=r"objects are of other classes\. Received: red"):
        read(tmp_path, label_names=["white"])


def test_boxes_without_an_outline_are_ignored(tmp_path):
    made = content()
    made["annotations"][0]["segmentation"] = []
    splits = read(write(tmp_path, made))
    found = mask_of(splits, "0.png")
    assert (found[10:15, 10:15] == IGNORED).all()
    made["annotations"][1]["segmentation"] = None
    found = mask_of(read(write(tmp_path, made)), "0.png")
    assert (found[5:25, 5:35] == IGNORED).all()
    assert any("2 annotations of cells.json without an outline" in n
               for n in read(tmp_path).notices)  # fmt: skip


def test_no_outlines_at_all(tmp_path):
    made = content()
    for one in made["annotations"]:
        one["segmentation"] = []
    with pytest.raises(UserError, match=r"no object has an outline .* Set task=detection"):
        read(write(tmp_path, made))


def test_a_damaged_outline_is_named(tmp_path):
    made = content()
    made["annotations"][4]["segmentation"] = [[1, 2, 3]]
    with pytest.raises(UserError, match="segmentation of annotation 4 cannot be read: each polyg"):
        read(write(tmp_path, made))


@pytest.mark.parametrize("segmentation", [
    [[1, 2, 10**400, 4, 5, 6]], [[1, 2, 1e300, 4, 5, 6]],
    {"size": [ROWS, COLUMNS], "counts": [10**400]}, {"size": 7, "counts": [ROWS * COLUMNS]},
    # What would run over to the right number.
    {"size": [ROWS, COLUMNS], "counts": [2**63 - 1, 2**63 - 1, ROWS * COLUMNS + 2]},
])  # fmt: skip
def test_an_outline_that_cannot_be_reckoned_with_is_named(tmp_path, segmentation):
    made = content()
    made["annotations"][4]["segmentation"] = segmentation
    with pytest.raises(UserError, match=r"cells\.json: the segmentation of annotation 4 cannot be"):
        read(write(tmp_path, made))


def test_a_size_that_no_memory_holds_is_told(tmp_path):
    made = content()
    made["images"][2] |= {"height": 10**8, "width": 10**8}
    said = " ".join(read(write(tmp_path, made)).notices)
    assert "2.png: cells.json says that it has 100000000 x 100000000 pixels, more than" in said
