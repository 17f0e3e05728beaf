"""Images within larger files are held in a file once they are many, and come back as they were."""

import io
import os
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pytest
from image_bytes import png
from memory_watch import STATUS, told_by
from PIL import Image

from kerasft.data.fingerprint import fingerprints, stamps_of
from kerasft.data.images import held
from kerasft.data.images.held import HeldImages, held_in
from kerasft.data.sources.boxes_csv import boxes_csv
from kerasft.data.sources.masks_table import masks_table
from kerasft.data.sources.table import table
from kerasft.data.tables import gathering, parts
from kerasft.errors import UserError

IMAGES = [b"a" * 30, "one.jpg", b"", b"b" * 50, "two.jpg", *(bytes([i]) * i for i in range(90))]


@pytest.mark.parametrize("few", [0, 10, 79, 100, 1000, 1 << 26])
def test_all_come_back_in_order(tmp_path, monkeypatch, few):
    monkeypatch.setattr(held, "FEW", few)
    with held_in(tmp_path / "cache"):
        images = HeldImages()
        images.extend(IMAGES[:4])
        images.extend(IMAGES[4:])
    assert list(images) == IMAGES
    assert list(images[2:7]) == IMAGES[2:7]
    assert images[-1] == IMAGES[-1]
    chosen = images.choose([5, 1, 3]).choose([2, 0])
    assert list(chosen) == [IMAGES[3], IMAGES[5]]
    assert not any(tmp_path.glob("cache/*"))  # no name, and nothing to be left behind


def test_files_among_them_that_change_are_seen_to(tmp_path, monkeypatch):
    (tmp_path / "a.png").write_bytes(png(1))
    images = HeldImages()
    images.extend([str(tmp_path / "a.png"), png(2)])
    assert images.settled() == [str(tmp_path / "a.png"), png(2)]
    before = stamps_of(images.settled(), "images")
    monkeypatch.setattr(held, "FEW", 0)
    images = HeldImages()
    images.extend([str(tmp_path / "a.png"), png(2)])
    assert images.settled() is images
    np.testing.assert_array_equal(stamps_of(images, "images"), before)
    assert before.any(axis=1).tolist() == [True, False]


def test_several_threads_read_what_they_asked_for(monkeypatch):
    monkeypatch.setattr(held, "FEW", 0)
    images = HeldImages()
    images.extend(IMAGES)
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(images.__getitem__, [*range(len(IMAGES))] * 20)) == IMAGES * 20


def test_a_folder_that_cannot_be_written_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(held, "FEW", 0)
    (tmp_path / "file").write_text("")
    with held_in(tmp_path / "file"), pytest.raises(UserError, match=r"file.*cache\.directory=DIR"):
        HeldImages().extend([b"image"])


def test_many_images_in_a_parquet_file_give_the_splits_of_few(tmp_path, monkeypatch):
    import pyarrow
    import pyarrow.parquet

    rows = [{"image": {"bytes": png(i), "path": f"{i}.png"}, "label": f"l{i % 3}"}
            for i in range(60)]  # fmt: skip
    rows[7]["image"]["bytes"] = b"no image"
    pyarrow.parquet.write_table(
        pyarrow.Table.from_pylist(rows), tmp_path / "a.parquet", row_group_size=16
    )

    def read():
        return table(str(tmp_path / "a.parquet"), image="image", label="label", kind="single",
                     seed=0)  # fmt: skip

    monkeypatch.setattr(gathering, "holds_bytes", lambda *given: False)  # whole, into memory
    few = read()
    assert isinstance(few.train.inputs, list)
    monkeypatch.undo()
    monkeypatch.setattr(held, "FEW", 0)
    monkeypatch.setattr(gathering, "Parts", partial(parts.Parts, most=1000))
    many = read()
    assert isinstance(many.train.inputs, HeldImages)
    assert sum(map(len, few.parts.values())) == 59
    assert few.notices == many.notices
    assert few.labels == many.labels
    for name, part in few.parts.items():
        other = many.parts[name]
        assert list(part.inputs) == list(other.inputs)
        assert list(part.ids) == list(other.ids)
        for name in part.annotations.columns:
            assert part.annotations[name].tolist() == other.annotations[name].tolist()
        np.testing.assert_array_equal(fingerprints(part), fingerprints(other))


@pytest.mark.parametrize("drawn", ["boxes", "masks"])
def test_many_images_with_something_drawn_on_them_give_the_splits_of_few(
    tmp_path, monkeypatch, drawn
):
    import pyarrow
    import pyarrow.parquet

    rows = []
    for i in range(60):
        mask = io.BytesIO()
        Image.fromarray(np.full((8, 8), i % 2, "uint8")).save(mask, "PNG")
        rows.append({
            "image": {"bytes": png(i), "path": None}, "label": {"bytes": mask.getvalue()},
            "objects": {"bbox": [[1.0, 1.0, 4.0, 5.0]] * (i % 3), "category": ["a"] * (i % 3)},
        })  # fmt: skip
    file = tmp_path / "a.parquet"
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), file, row_group_size=16)

    def read():
        if drawn == "boxes":
            return boxes_csv(str(file), kind="boxes", seed=0, box_format="xywh")
        return masks_table(str(file), kind="masks", seed=0, image="image", masks="label",
                           classes=["dark", "light"])  # fmt: skip

    few = read()
    assert isinstance(few.train.inputs, list)
    monkeypatch.setattr(held, "FEW", 0)
    monkeypatch.setattr(gathering, "Parts", partial(parts.Parts, most=1000))
    many = read()
    assert isinstance(many.train.inputs, HeldImages)
    assert sum(map(len, few.parts.values())) == 60
    assert (few.notices, few.labels, few.source) == (many.notices, many.labels, many.source)
    for name, part in few.parts.items():
        other = many.parts[name]
        assert list(part.inputs) == list(other.inputs) and list(part.ids) == list(other.ids)
        for one in range(len(part)):
            np.testing.assert_equal(part.annotations.row(one), other.annotations.row(one))
        np.testing.assert_array_equal(fingerprints(part), fingerprints(other))


# Reads a shard whose images take 400 MB, and says how much more memory that took at most.
READS = """
import sys
from kerasft.data.sources.table import table
import pyarrow.parquet
from memory_watch import Watch
from kerasft.data.images import held as images
images.FEW = 1 << 20
watch = Watch()
splits = table(sys.argv[1], image="image", label="label", kind="single", seed=0)
assert len(splits.train) == 140
print(watch.most())
"""


@pytest.mark.slow
@pytest.mark.skipif(not STATUS.exists(), reason="of Linux")
def test_images_of_a_parquet_file_are_not_held_in_memory(tmp_path):
    import pyarrow
    import pyarrow.parquet

    image = png(3)
    rows = [{"image": {"bytes": image + os.urandom(1 << 21), "path": None}, "label": f"l{i % 2}"}
            for i in range(200)]  # fmt: skip
    pyarrow.parquet.write_table(
        pyarrow.Table.from_pylist(rows), tmp_path / "a.parquet", row_group_size=20
    )
    assert told_by(READS, tmp_path / "a.parquet") < 160
