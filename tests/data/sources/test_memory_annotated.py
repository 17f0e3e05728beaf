"""Images with boxes or masks that Python holds."""

from __future__ import annotations

import io
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pyarrow
import pytest
import tensorflow as tf
from held_data import DataSet, Frame
from hub_files import described
from PIL import Image

from kerasft.data.given import given
from kerasft.data.manifest import diff_manifest, read_manifest, write_manifest
from kerasft.data.sources.memory import memory
from kerasft.data.sources.voc import voc
from kerasft.errors import UserError
from kerasft.testing import check_data

COUNT, ROWS, COLUMNS = 24, 48, 64
random = np.random.default_rng(0)
PIXELS = random.integers(0, 256, (COUNT, ROWS, COLUMNS, 3), dtype="uint8")
# Corners from which it is plain what they are: near the far edges of a wide image.
XYXY = [[[40.0, 30, 63, 47], [2, 3, 20.5, 30]][: 1 + i % 2] for i in range(COUNT)]
XYWH = [[[a, b, c - a, d - b] for a, b, c, d in boxes] for boxes in XYXY]
NAMES = [["cat", "dog"][: 1 + i % 2] for i in range(COUNT)]
NUMBERS = [[0, 1][: 1 + i % 2] for i in range(COUNT)]


def encoded(pixels, form="PNG"):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, form)
    return file.getvalue()


BYTES = [{"bytes": encoded(one), "path": None} for one in PIXELS]
# Padded as batches of Keras are.
PADDED = np.full((COUNT, 3, 4), -1.0, "float32")
CLASSES = np.full((COUNT, 3), -1, "int64")
for _i, _boxes in enumerate(XYXY):
    PADDED[_i, : len(_boxes)], CLASSES[_i, : len(_boxes)] = _boxes, range(len(_boxes))


def ask(data, kind="boxes", **settings):
    with given(data):
        splits = memory(**{"kind": kind, "seed": 0, **settings})
    check_data(splits)
    return splits


def fails(data, kind="boxes", **settings):
    with pytest.raises(UserError) as caught, given(data):
        memory(**{"kind": kind, "seed": 0, **settings})
    return " ".join(caught.value.problems)


def rows_of(splits):
    """Return the annotations of all examples, by name."""
    return {name: part.annotations.row(i) for part in splits.parts.values()
            for i, name in enumerate(part.ids)}  # fmt: skip


def hub(boxes=XYWH, names=NAMES, **more):
    return [{"bbox": b, "category": n} | {key: column[i] for key, column in more.items()}
            for i, (b, n) in enumerate(zip(boxes, names, strict=True))]  # fmt: skip


def objects():
    return [[{"bbox": b, "category": n} for b, n in zip(*pair, strict=True)]
            for pair in zip(XYWH, NAMES, strict=True)]  # fmt: skip


ANIMALS = {"names": ["dog", "cat", "cow"], "_type": "ClassLabel"}
SEQUENCE = {"objects": {"category": {"feature": ANIMALS, "_type": "List"}}}
FORMS = {
    "a dict of columns": {"image": PIXELS, "objects": hub()},
    "objects one by one": {"image": PIXELS, "objects": objects()},
    "lists beside each other": {"image": list(PIXELS), "boxes": XYWH, "category": NAMES},
    "columns in one another": {"images": PIXELS, "objects": {"bbox": XYWH, "category": NAMES}},
    "arrays of boxes": {"img": PIXELS, "boxes": [np.float32(b) for b in XYWH], "labels": NAMES},
    "a pair": (PIXELS, {"bbox": XYWH, "category": NAMES}),
    "a pair of lists": ([Image.fromarray(one) for one in PIXELS], hub()),
    "records": [{"image": i, "objects": o} for i, o in zip(PIXELS, hub(), strict=True)],
    "a frame": Frame({"image": BYTES, "objects": hub()}),
    "a frame of arrays": Frame({"image": BYTES, "objects": [
        {"bbox": np.array([*map(np.array, o["bbox"]), None], object)[:-1],
         "category": np.array(o["category"], object)} for o in hub()
    ]}),
    "arrow": pyarrow.table({"image": BYTES, "objects": hub()}),
    "hugging face": DataSet(pyarrow.table({"image": BYTES, "objects": objects()})),
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_forms_of_the_same_boxes(form):
    splits = ask(FORMS[form], box_format="xywh")
    assert splits.labels.names == ("cat", "dog")
    assert {name: len(part) for name, part in splits.parts.items()} == {
        "train": 16, "validation": 4, "test": 4}  # fmt: skip
    for name, row in rows_of(splits).items():
        i = int(name.split(":")[1])
        assert row["boxes"].tolist() == XYXY[i]
        assert row["labels"].tolist() == NUMBERS[i]
    assert splits.source["given"]["train"]["rows"] == COUNT
    assert not splits.notices


def keras(boxes, labels, images=PIXELS):
    return {"images": images, "bounding_boxes": {"boxes": boxes, "labels": labels}}


slices = tf.data.Dataset.from_tensor_slices
RAGGED = keras(tf.ragged.constant(XYXY, ragged_rank=1), tf.ragged.constant(NUMBERS))
STREAMS = {
    "padded": slices(keras(PADDED, CLASSES)),
    "batches": slices(keras(PADDED, CLASSES)).batch(5),
    "floats": slices(keras(PADDED, CLASSES.astype("float32"), PIXELS / 255)).batch(7),
    "ragged": slices(RAGGED),
    "ragged batches": slices(RAGGED).ragged_batch(5),
    "pairs": slices((PIXELS, keras(PADDED, CLASSES)["bounding_boxes"])).shuffle(COUNT),
    "encoded": slices(keras(PADDED, CLASSES, [one["bytes"] for one in BYTES])).batch(4),
}


@pytest.mark.every(3)
@pytest.mark.parametrize("form", STREAMS)
def test_boxes_of_tf_data(form):
    wanted = ask(slices(keras(PADDED, CLASSES)), box_format="xyxy", label_names=["cat", "dog"])
    splits = ask(STREAMS[form], box_format="xyxy", label_names=["cat", "dog"])
    assert splits.labels.names == ("cat", "dog")
    assert sorted(row["boxes"].tolist() for row in rows_of(splits).values()) == sorted(XYXY)
    if form in ("padded", "batches", "pairs"):  # the same numbers
        assert rows_of(splits).keys() == rows_of(wanted).keys()
        assert splits.train.ids == wanted.train.ids


def test_a_row_for_each_box(tmp_path):
    for i, one in enumerate(PIXELS):
        Image.fromarray(one).save(tmp_path / f"{i}.png")
    rows = [(f"{tmp_path}/{i}.png", name, *box) for i in range(COUNT - 1)
            for name, box in zip(NAMES[i], XYXY[i], strict=True)]  # fmt: skip
    rows.append((f"{tmp_path}/{COUNT - 1}.png", None, None, None, None, None))
    names = ("filename", "class", "xmin", "ymin", "xmax", "ymax")
    columns = dict(zip(names, map(list, zip(*rows, strict=True)), strict=True))
    for data in (columns, Frame(columns)):
        found = rows_of(ask(data))
        assert found[f"{tmp_path}/1.png"]["boxes"].tolist() == XYXY[1]
        assert found[f"{tmp_path}/{COUNT - 1}.png"]["boxes"].tolist() == []
    columns |= dict(zip("xywh", (columns[name] for name in names[2:]), strict=True))
    assert "leave their images" in fails(columns, box=["x", "y", "w", "h"], box_format="xywh")
    assert "names no image that is a path" in fails(columns | {"filename": [b"\xff"] * len(rows)})


def test_names_numbers_and_what_is_ignored():
    crowd = [[i == 3] * len(NAMES[i]) for i in range(COUNT)]
    table = described({"image": BYTES, "objects": hub(names=NUMBERS, iscrowd=crowd)}, SEQUENCE)
    splits = ask(DataSet(table), box_format="xywh")
    assert splits.labels.names == ("dog", "cat")
    assert "1 class without a box: cow." in splits.notices
    found = rows_of(splits)
    assert [found[f"data:{i}"]["ignored"].any() for i in (2, 3)] == [False, True]
    assert found["data:1"]["labels"].tolist() == [0, 1]
    assert ask((PIXELS, hub(names=NUMBERS)), box_format="xywh").labels.names == ("0", "1")
    # Names that are numbers stay names.
    data = (PIXELS, hub(names=[[n + 1 for n in row] for row in NUMBERS]))
    assert ask(data, box_format="xywh", label_names=["2", "1"]).labels.names == ("2", "1")
    assert "2 classes, from 0 to 1, but" in fails(data, box_format="xywh", label_names=["a", "b"])
    # -1 is no class; where the numbers are those of a box, that is told.
    data = (PIXELS, hub(names=[[-1, *row[1:]] for row in NUMBERS[:1]] + NUMBERS[1:]))
    splits = ask(data, box_format="xywh")
    assert "1 box without a class left out (-1): data:0: box 1." in splits.notices
    assert "1 image without any object, learned from as such." in splits.notices


def test_what_the_audit_leaves_out():
    boxes = [list(one) for one in XYXY]
    boxes[0] = [[5, 5, 5, 9]]
    boxes[2] = [[50, 30, 90, 60]]
    boxes[4] = [XYXY[4][0]] * 2
    boxes[6], names = None, list(NAMES)
    names[4], names[6] = ["cat"] * 2, None
    splits = ask({"image": PIXELS, "objects": hub(boxes, names)}, box_format="xyxy")
    said = " ".join(splits.notices)
    assert "1 box without width or height, or with no number in it, left out: data:0: box 1" in said
    assert "1 box cut off at the edge of the image: data:2: box 1" in said
    assert "1 box drawn twice, counted once: data:4: box 2" in said
    # That of an image whose only box is damaged says nothing of what is in it.
    assert "1 image of which all boxes are left out, left out too" in said
    assert "1 image without any object" in said
    assert rows_of(splits)["data:2"]["boxes"].tolist() == [[50, 30, 64, 48]]


def wide(form):
    """Return boxes all over a wide image, in one of the forms."""
    boxes = [[[40.0, 30, 63, 47], [2, 3, 20, 30], [1, 30, 9, 47], [50, 2, 63, 20]]] * COUNT
    made = np.array(boxes)
    if form == "xywh":
        made[..., 2:] -= made[..., :2]
    elif form == "center_xywh":
        made[..., 2:] -= made[..., :2]
        made[..., :2] += made[..., 2:] / 2
    return made


def test_the_form_is_guessed_where_it_is_sure():
    for form in ("xyxy", "xywh", "center_xywh"):
        for parts in (False, True):
            boxes = wide(form) / ([COLUMNS, ROWS] * 2 if parts else 1)
            data = {"image": PIXELS, "boxes": boxes, "label": [["a"] * 4] * COUNT}
            if parts and form == "xyxy":  # which may be yxyx as well
                assert "xyxy (left, top, right, bottom) or yxyx" in fails(data)
                continue
            splits = ask(data)
            np.testing.assert_allclose(
                rows_of(splits)["data:5"]["boxes"], wide("xyxy")[0], atol=1e-4
            )
            (said,) = [one for one in splits.notices if "data.box_format" in one]
            assert f"taken as {form} (" in said
            assert ("in parts of the image" in said) == parts


def test_the_form_is_asked_for_where_it_is_not():
    small = [[[5, 6, 20, 25]]] * COUNT
    data = {"image": PIXELS, "boxes": small, "label": [["a"]] * COUNT}
    assert ("The boxes fit their images as xyxy (left, top, right, bottom) or xywh (left, top, "
            "width, height)") in fails(data)  # fmt: skip
    assert rows_of(ask(data, box_format="xywh"))["data:0"]["boxes"].tolist() == [[5, 6, 25, 31]]
    data["boxes"] = [[[300, 200, 310, 200]]] * COUNT
    assert "few lie in their images in any form (xyxy: 0%" in fails(data)
    # Data of TensorFlow may have sides swapped.
    square = PIXELS[:, :, :ROWS]
    boxes = np.array([[[30.0, 40, 47, 44], [1, 2, 3, 40]]] * COUNT)
    data = keras(boxes, np.zeros((COUNT, 2)), square)
    assert "taken as xyxy" in " ".join(ask(data).notices)
    assert "or yxyx (top, left, bottom, right)" in fails(slices(data))
    swapped = ask(slices(data), box_format="yxyx")
    assert rows_of(swapped)[swapped.train.ids[0]]["boxes"].tolist()[0] == [40, 30, 44, 47]


def test_another_form_than_is_said():
    data = {"image": PIXELS, "boxes": wide("xywh"), "label": [["a"] * 4] * COUNT}
    said = fails(data, box_format="xyxy")
    assert "72 of 96 boxes have no size, or leave their images" in said
    assert "as xywh (left, top, width, height): set data.box_format=xywh." in said
    assert "The numbers are pixels: set data.relative=false." in fails(
        data, box_format="xywh", relative=True
    )
    data["boxes"] = wide("xyxy") / ([COLUMNS, ROWS] * 2)
    assert "parts of the image's sides, and not pixels. Set data.relative=true" in fails(
        data, box_format="xyxy", relative=False
    )
    parts = ask(data, box_format="xyxy")  # which nobody needs to say
    np.testing.assert_allclose(rows_of(parts)["data:0"]["boxes"], wide("xyxy")[0], atol=1e-4)
    # A few boxes outside are a warning.
    data["boxes"] = wide("xyxy")
    data["boxes"][:, 1:3] = [2, 3, 10, 12]
    said = " ".join(ask(data, box_format="xywh").notices)
    assert "50% of 96 boxes leave their images with data.box_format=xywh." in said
    assert "set data.box_format=xyxy" in said


@pytest.mark.parametrize(("change", "settings", "said"), [
    ({"objects": [3] * COUNT}, {}, "data.box must name the column with the boxes"),
    ({"boxes": XYWH}, {}, "several fit: 'objects.bbox', 'boxes'"),
    ({"image": None}, {}, "data.image must name the column of images. The columns: 'objects'."),
    ({"objects": [{"bbox": [[1, 2, 3]], "category": ["a"]}, *hub()[1:]]}, {},
     "data:0: each box must be four numbers"),
    ({"objects": [{"bbox": [[1, 2, 3, 4]], "category": []}, *hub()[1:]]}, {},
     "data:0: data.box=objects.bbox and data.label=objects.category must hold lists that are"),
    ({"objects": [{"bbox": [[1, 2, 3, "x"]], "category": ["a"]}, *hub()[1:]]}, {},
     "data:0: data.box must be numbers. Received: 'x'"),
    ({"objects": [{"bbox": [[1, 2, 3, 4]], "category": [None]}, *hub()[1:]]}, {},
     "data:0: each box must be four numbers, with a class. Received: [1.0, 2.0, 3.0, 4.0]"),
    ({"objects": hub(iscrowd=[[0, 1, 0]] * COUNT)}, {},
     "data:0: objects.iscrowd must say of each of 1 box whether it is ignored, by 0 or 1. Rec"),
    ({"objects": [{"bbox": b} for b in XYWH]}, {}, "data.label must name the column of"),
    ({}, {"label": "categry"}, "no column 'categry'"),
    ({}, {"box_format": "coco"}, "data.box_format must be one of ['xyxy', 'yxyx', 'xywh', 'c"),
    ({}, {"box_format": "rel_xywh"}, "Say it with data.box_format=xywh data.relative=true."),
    ({}, {"box": ["a", "b"]}, "data.box must name the column of boxes, or list the four"),
    ({}, {"masks": "m"}, "data.masks belongs to task=segmentation"),
    ({}, {"text": "t"}, "data.text says nothing of images with boxes"),
    ({}, {"kind": "single"}, "data.box_format belongs to task=detection"),
    ({"image": [*PIXELS[:5], None, *PIXELS[6:]]}, {}, "number 5 must be an image"),
    ({"image": PIXELS.astype("float32") - 300}, {}, "pixels must be from 0 to 255"),
])  # fmt: skip
def test_wrong_boxes(change, settings, said):
    data = {"image": PIXELS, "objects": hub(), **change}
    data = {name: column for name, column in data.items() if column is not None}
    assert said in fails(data, **{"box_format": "xywh", **settings})


def test_wrong_pairs_and_streams():
    assert "a pair must be (images, boxes), where boxes are a dict" in fails((PIXELS, XYWH))
    assert "each element must be a dict, such as" in fails(slices(PIXELS))
    assert "must be finite" in fails(slices(keras(PADDED, CLASSES)).repeat())
    assert "data.image must name the images" in fails(slices({"x": PADDED}))
    assert "holds no examples" in fails(slices(keras(PADDED, CLASSES)).take(0))


def test_groups_limits_and_splits():
    data = {"image": PIXELS, "objects": hub(), "who": [str(i // 4) for i in range(COUNT)],
            "part": ["train"] * 14 + ["val"] * 6 + ["test"] * 4}  # fmt: skip
    splits = ask(data, box_format="xywh", group="who")
    parts = [{int(name.split(":")[1]) // 4 for name in part.ids} for part in splits.parts.values()]
    assert sum(map(len, parts)) == len(set().union(*parts)) == COUNT // 4
    assert len(ask(data, box_format="xywh", limit=5).train) == 5
    splits = ask(data, box_format="xywh", split_column="part")
    assert {name: len(part) for name, part in splits.parts.items()} == {
        "train": 14, "validation": 6, "test": 4}  # fmt: skip
    assert "without a group: data:0" in fails(data | {"who": [None] * COUNT}, group="who")
    splits = ask({"train": (PIXELS[:20], hub()[:20]), "test": (PIXELS[20:], hub()[20:])},
                 box_format="xywh")  # fmt: skip
    assert splits.test.ids == ("test:0", "test:1", "test:2", "test:3")


def test_a_manifest_tells_changed_boxes(tmp_path):
    file = write_manifest(ask((PIXELS, hub()), box_format="xywh"), tmp_path / "manifest.json")
    again = ask(FORMS["columns in one another"], box_format="xywh")
    assert not diff_manifest(read_manifest(file), again)
    changed = [[[1, 2, 3, 4], *boxes[1:]] for boxes in XYWH]
    other = ask((PIXELS, hub(changed)), box_format="xywh")
    assert diff_manifest(read_manifest(file), other)


# --- masks -----------------------------------------------------------------------------------

MASKS = np.zeros((COUNT, ROWS, COLUMNS), "uint8")
MASKS[:, 10:30, 20:40] = 1
MASKS[::2, 5:8, 5:8] = 2
MASKS[:, 0] = 255
WORDS = {"classes": ["ground", "cell", "dust"], "ignore": 255}


def drawn(splits):
    """Return the mask of all examples, by the number of the row."""
    return {int(name.split(":")[1]): np.asarray(Image.open(io.BytesIO(row["mask"])))
            for name, row in rows_of(splits).items()}  # fmt: skip


def painted(mask):
    image = Image.fromarray(mask)
    image.putpalette([7, 8, 9] * 256)
    return image


PNGS = [{"bytes": encoded(one), "path": None} for one in MASKS]
MASK_FORMS = {
    "arrays": {"image": PIXELS, "mask": MASKS},
    "a pair": (PIXELS, MASKS),
    "wide numbers": (PIXELS, MASKS.astype("int64")),
    "whole floats": {"images": PIXELS, "segmentation_masks": MASKS.astype("float32")[..., None]},
    "lists": {"image": list(PIXELS), "masks": MASKS.tolist()},
    "pillow": {"image": PIXELS, "annotation": [Image.fromarray(one) for one in MASKS]},
    "palettes": {"image": PIXELS, "label": [painted(one) for one in MASKS]},
    "records": [{"image": i, "mask": m} for i, m in zip(PIXELS, MASKS, strict=True)],
    "bytes": {"image": [one["bytes"] for one in BYTES], "mask": [one["bytes"] for one in PNGS]},
    "a frame": Frame({"image": BYTES, "mask": PNGS}),
    "hugging face": DataSet(pyarrow.table({"image": BYTES, "label": PNGS})),
}


@pytest.mark.parametrize("form", MASK_FORMS)
def test_forms_of_the_same_masks(form):
    splits = ask(MASK_FORMS[form], "masks", **WORDS)
    assert splits.labels.names == ("ground", "cell", "dust")
    assert len(splits.train) == 16
    for i, mask in drawn(splits).items():
        np.testing.assert_array_equal(mask, MASKS[i])


@pytest.mark.parametrize("data", [
    slices({"images": PIXELS, "segmentation_masks": MASKS}),
    slices({"images": PIXELS, "segmentation_masks": MASKS[..., None]}).batch(5),
    slices((PIXELS, MASKS.astype("int32"))).shuffle(COUNT).batch(7),
])  # fmt: skip
def test_masks_of_tf_data(data):
    splits = ask(data, "masks", **WORDS)
    made = [np.asarray(Image.open(io.BytesIO(row["mask"]))).tobytes()
            for row in rows_of(splits).values()]  # fmt: skip
    assert sorted(made) == sorted(one.tobytes() for one in MASKS)


def test_values_and_sizes_of_masks(tmp_path):
    sizes = [(ROWS - i % 3, COLUMNS) for i in range(COUNT)]
    several = ([p[: s[0]] for p, s in zip(PIXELS, sizes, strict=True)],
               [m[: s[0]] for m, s in zip(MASKS, sizes, strict=True)])  # fmt: skip
    assert drawn(ask(several, "masks", **WORDS))[4].shape == (ROWS - 1, COLUMNS)
    plain = ask((PIXELS, MASKS == 1), "masks")
    assert plain.labels.names == ("background", "foreground")
    wide = ask((PIXELS, np.where(MASKS == 1, 1000, 7)), "masks", classes={7: "a", 1000: "b"})
    assert drawn(wide)[3].max() == 1
    colours = np.array([[0, 0, 0], [255, 0, 0]], "uint8")[(MASKS == 1).astype(int)]
    red = ask((PIXELS, colours), "masks", classes={"0x000000": "a", "0xff0000": "b"})
    np.testing.assert_array_equal(drawn(red)[3], MASKS[3] == 1)
    (tmp_path / "m.png").write_bytes(PNGS[0]["bytes"])
    paths = {"image": PIXELS, "mask": [f"{tmp_path}/m.png"] * COUNT}
    np.testing.assert_array_equal(drawn(ask(paths, "masks", **WORDS))[7], MASKS[0])
    paths["mask"][2] = "gone.png"
    assert "1 mask not there: data:2 (gone.png)" in fails(paths, "masks", **WORDS)


def changed(i, mask):
    return [*MASKS[:i], mask, *MASKS[i + 1 :]]


@pytest.mark.parametrize(("masks", "settings", "said"), [
    (changed(3, MASKS[3] + np.uint8(9)), {}, "data:3: values without a class: 8, 9, 10"),
    (changed(3, MASKS[3][:9]), {},
     "Masks must have the height and width of their images. Received: another size in 1 row: "
     "data:3 (it is 64 x 48, its mask 64 x 9)."),
    (changed(3, None), {}, "Received: none in 1 row: data:3"),
    (changed(3, MASKS[3] - 0.5), {}, "number 3: the values of a mask must be whole numbers"),
    (changed(3, MASKS[3].astype(int) - 1), {}, "number 3: the values of a mask must be from 0 to"),
    (changed(3, np.zeros((ROWS, COLUMNS, 5))), {}, "numpy.argmax(mask, axis=-1)"),
    (changed(3, MASKS[:1]), {}, "Leave the first axis out: mask[0]."),
    (changed(3, 7), {}, "number 3 must be a mask [height, width]"),
    (changed(3, [[1, 2], [3]]), {}, "number 3 must be a mask [height, width]"),
    (MASKS, {"classes": None, "ignore": [0, 1, 2, 255]}, "All values of the masks are in"),
    (MASKS, {"label": "kind"}, "data.label says nothing of images with masks"),
    (MASKS, {"label_names": ["a"]}, "data.classes names the classes"),
    (MASKS, {"box": "boxes"}, "data.box belongs to task=detection"),
    (MASKS, {"masks": "msk"}, "no column 'msk'. Did you mean 'mask'?"),
])  # fmt: skip
def test_wrong_masks(masks, settings, said):
    assert said in fails({"image": PIXELS, "mask": masks}, "masks", **{**WORDS, **settings})


def test_no_masks():
    said = fails({"image": PIXELS, "x": NUMBERS}, "masks")
    assert "data.masks must name the column of masks. The columns: 'image', 'x'." in said


def test_a_manifest_tells_changed_masks(tmp_path):
    file = write_manifest(ask((PIXELS, MASKS), "masks", **WORDS), tmp_path / "manifest.json")
    assert not diff_manifest(read_manifest(file), ask(MASK_FORMS["records"], "masks", **WORDS))
    other = ask((PIXELS, changed(3, MASKS[3] * 0)), "masks", **WORDS)
    assert re.search("1 .*data:3", " ".join(diff_manifest(read_manifest(file), other)))


# --- the same annotations as files ------------------------------------------------------------

def of_voc(root: Path, split: str) -> list[dict]:
    rows = []
    for name in (root / "ImageSets/Main" / f"{split}.txt").read_text().split():
        found = ET.parse(root / "Annotations" / f"{name}.xml").getroot().findall("object")
        boxes = [[float(one.find(f"bndbox/{side}").text)
                  for side in ("xmin", "ymin", "xmax", "ymax")] for one in found]  # fmt: skip
        rows.append({
            "name": name, "image": str(root / "JPEGImages" / f"{name}.jpg"),
            "objects": {"bbox": [[a, b, c - a, d - b] for a, b, c, d in boxes],
                        "category": [one.find("name").text for one in found],
                        "difficult": [int(one.find("difficult").text) for one in found]},
        })  # fmt: skip
    return rows


@pytest.mark.slow
def test_the_boxes_of_files_and_of_memory_are_the_same(real_data):
    root = real_data / "bccd_voc" / "BCCD"
    rows = {split: of_voc(root, split) for split in ("train", "val", "test")}
    files, held = voc(str(root), kind="boxes", seed=0), ask(rows)
    assert files.labels == held.labels
    (said,) = [one for one in held.notices if "data.box_format" in one]
    assert "taken as xywh" in said
    for split, part in files.parts.items():
        there = held.parts[split]
        named = rows["val" if split == "validation" else split]
        of = {named[int(name.split(":")[1])]["name"]: i for i, name in enumerate(there.ids)}
        assert of.keys() == {Path(name).stem for name in part.ids}
        for i, name in enumerate(part.ids):
            one, other = part.annotations.row(i), there.annotations.row(of[Path(name).stem])
            np.testing.assert_allclose(one["boxes"], other["boxes"], atol=1e-4)
            assert one["labels"].tolist() == other["labels"].tolist()
            assert one["ignored"].tolist() == other["ignored"].tolist()
