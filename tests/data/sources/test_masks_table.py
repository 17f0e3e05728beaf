"""Images and masks in the rows of a table: encoded as on the Hub, or as paths."""

import io
import json

import numpy as np
import pytest
from hub_files import described, write_shards
from masked_files import fill, masks_of
from PIL import Image

from kerasft.data.sources.mask_folder import mask_folder
from kerasft.data.sources.masks_table import masks_table
from kerasft.errors import UserError
from kerasft.testing import check_data

CELLS = {0: "ground", 255: "cell"}


def rows_of(folder):
    """Return paths of images and masks below a folder."""
    return [
        {"image": f"images/{image.name}", "drawn": f"masks/{image.stem}.png"}
        for image in sorted((folder / "images").iterdir())
    ]


def encoded(folder, name):
    return {"bytes": (folder / name).read_bytes(), "path": None}


def read(path, **settings):
    return masks_table(str(path), kind="masks", seed=0, **settings)


def test_shards_of_the_hub_are_read_as_the_folder_is(tmp_path):
    folder = fill(tmp_path / "folder", 9)
    rows = rows_of(folder)
    table = described({
        "image": [encoded(folder, row["image"]) for row in rows],
        "annotation": [encoded(folder, row["drawn"]) for row in rows],
    }, {"image": {"_type": "Image"}, "annotation": {"_type": "Image"}})  # fmt: skip
    write_shards(tmp_path / "hub", "train", [table])
    splits = read(tmp_path / "hub", classes=CELLS)
    check_data(splits)
    assert splits.labels.names == ("ground", "cell")
    assert (splits.source["image"], splits.source["masks"]) == ("image", "annotation")
    whole = masks_of(mask_folder(str(folder), kind="masks", seed=0, classes=CELLS))
    found = [png for part in splits.parts.values() for png in part.annotations["mask"]]
    assert len(found) == len(whole) == 9
    pixels = [np.asarray(Image.open(io.BytesIO(png))) for png in found]
    assert sorted(map(np.ndarray.tobytes, pixels)) == sorted(
        map(np.ndarray.tobytes, whole.values()))  # fmt: skip


def test_paths_and_splits_in_a_table(tmp_path):
    folder = fill(tmp_path / "folder", 8)
    rows = [row | {"part": name} for row, name in
            zip(rows_of(folder), ["train"] * 4 + ["val"] * 2 + ["test"] * 2, strict=True)]
    file = tmp_path / "rows.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)))
    splits = read(file, masks="drawn", images=str(folder), split_column="part", classes=CELLS)
    check_data(splits)
    assert {name: len(part) for name, part in splits.parts.items()} == {
        "train": 4, "validation": 2, "test": 2}  # fmt: skip
    with pytest.raises(UserError, match=r"no image of the table.*data\.images="):
        read(file, masks="drawn", classes=CELLS)


@pytest.mark.parametrize(("change", "settings", "said"), [
    ({"drawn": ""}, {}, r"data\.masks=drawn must give each image a mask.*rows\.jsonl:3"),
    ({"drawn": "masks/none.png"}, {}, r"data\.masks=drawn: 1 mask not there: .*none\.png"),
    ({"image": None}, {}, r"data\.image must give the path of an image"),
    ({}, {"masks": "drown"}, r"no column 'drown'"),
    ({}, {"masks": None}, r"data\.masks must name the column of masks\. The columns: 'image'"),
    ({}, {"split_column": "part"}, r"no column 'part'"),
    ({}, {"classes": {0: "ground"}}, r"255"),
])  # fmt: skip
def test_wrong_rows_are_named(tmp_path, change, settings, said):
    folder = fill(tmp_path, 5)
    rows = rows_of(folder)
    rows[2] |= change
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(UserError, match=said):
        read(tmp_path / "rows.jsonl", **{"masks": "drawn", "classes": CELLS, **settings})


def test_another_task_is_refused(tmp_path):
    with pytest.raises(UserError, match="data=masks_table reads masks of images"):
        masks_table(str(tmp_path), kind="single", seed=0)
