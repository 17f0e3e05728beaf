"""Images with masks, in folders or side by side."""


import numpy as np
import pytest
from masked_files import SIZE, fill, image, mask, masks_of, painted
from PIL import Image

from kerasft.data.sources.mask_folder import mask_folder
from kerasft.errors import UserError
from kerasft.spec import IGNORED
from kerasft.testing import check_data


def read(root, **settings):
    return mask_folder(str(root), kind="masks", seed=0, **settings)


def test_images_and_masks_of_the_same_names(tmp_path):
    splits = read(fill(tmp_path), classes={0: "ground", 255: "cell"})
    check_data(splits)
    assert splits.labels.names == ("ground", "cell")
    found = masks_of(splits)
    assert len(found) == 10
    np.testing.assert_array_equal(found["p3"], painted(3, values=(0, 1)))


@pytest.mark.parametrize("inside", [True, False])
def test_splits_above_or_below_the_folders(tmp_path, inside):
    for number, split in enumerate(("train", "val", "test")):
        names = (f"images/{split}", f"masks/{split}") if inside else (
            f"{split}/images", f"{split}/masks")  # fmt: skip
        fill(tmp_path, 3, names, first=10 * number)
    splits = read(tmp_path)
    assert {name: len(part) for name, part in splits.parts.items()} == {
        "train": 3, "validation": 3, "test": 3,
    }  # fmt: skip
    assert all("p1" in name for name in splits.validation.ids)


def test_a_mask_beside_its_image(tmp_path):
    splits = read(fill(tmp_path, folders=("scans", "scans"), end="_mask"))
    np.testing.assert_array_equal(masks_of(splits)["p7"], painted(7, values=(0, 1)))
    assert splits.labels.names == ("background", "foreground")
    assert any("nothing of the values" in notice for notice in splits.notices)


def test_folders_with_names_of_their_own(tmp_path):
    fill(tmp_path, folders=("scans", "by_hand"))
    fill(tmp_path, folders=("scans", "drawn"), values=(1, 0))
    splits = read(tmp_path, images="scans", masks="drawn", classes=["a", "b"])
    np.testing.assert_array_equal(masks_of(splits)["p2"], painted(2, values=(1, 0)))
    with pytest.raises(UserError, match=r"data\.masks: there is no folder of that name"):
        read(tmp_path, masks="draw")


def test_which_of_several_folders_is_told(tmp_path):
    fill(tmp_path)
    fill(tmp_path, folders=("images", "masks_instances"))
    assert any("read from masks/" in notice for notice in read(tmp_path).notices)
    (tmp_path / "masks").rename(tmp_path / "masks_classes")
    with pytest.raises(UserError, match=r"Say which: data\.masks=masks_classes"):
        read(tmp_path)


def test_colours_palettes_and_grey_in_three_channels_mean_the_same(tmp_path):
    fill(tmp_path, 12)
    wanted = painted(1, values=(0, 1))
    colours = np.array([[0, 0, 0], [255, 0, 16]], "uint8")[wanted]
    indices = Image.fromarray(wanted).convert("P")
    indices.putpalette([0, 0, 0, 255, 0, 16])
    for i in range(12):
        folder = tmp_path / "masks"
        if i % 2:
            mask(folder / f"p{i}.png", colours)
        else:
            indices.save(folder / f"p{i}.png")
    named = read(tmp_path, classes={"#000000": "ground", "0xff0010": "roof"})
    assert named.labels.names == ("ground", "roof")
    assert all((one == wanted).all() for one in masks_of(named).values())
    for i in range(1, 12, 2):
        mask(tmp_path / "masks" / f"p{i}.png", np.stack([wanted] * 3, -1))
    numbers = read(tmp_path, classes=["ground", "roof"])
    assert all((one == wanted).all() for one in masks_of(numbers).values())


def test_what_is_ignored_is_neither_learned_nor_counted(tmp_path):
    fill(tmp_path, values=(3, 255))
    splits = read(tmp_path, classes={3: "ground"}, ignore=255)
    assert splits.labels.names == ("ground",)
    assert set(np.unique(masks_of(splits)["p1"])) == {0, IGNORED}
    check_data(splits)
    splits = read(tmp_path, ignore=255)
    assert splits.labels.names == ("3",)


def test_a_mask_that_changes_is_noticed(tmp_path):
    from kerasft.data.manifest import diff_manifest, read_manifest, write_manifest

    fill(tmp_path)
    splits = read(tmp_path)
    written = read_manifest(write_manifest(splits, tmp_path / "manifest.json"))
    assert not diff_manifest(written, read(tmp_path))
    mask(tmp_path / "masks" / "p3.png", painted(3)[:, ::-1])  # as many pixels of each class
    assert any("p3" in one for one in diff_manifest(written, read(tmp_path)))


def test_several_values_are_one_class(tmp_path):
    fill(tmp_path)
    mask(tmp_path / "masks" / "p0.png", painted(0, values=(0, 7)))
    splits = read(tmp_path, classes={0: "ground", 7: "cell", 255: "cell"})
    assert splits.labels.names == ("ground", "cell")
    np.testing.assert_array_equal(masks_of(splits)["p0"], painted(0, values=(0, 1)))


@pytest.mark.parametrize("orientation", ["auto", "stored"])
def test_a_mask_of_the_stored_image_is_turned_with_it(tmp_path, orientation):
    fill(tmp_path)
    exif = Image.Exif()
    exif[0x0112] = 6
    image(tmp_path / "images" / "p4.jpg", 4, exif=exif)
    splits = read(tmp_path, orientation=orientation)
    np.testing.assert_array_equal(
        masks_of(splits)["p4"], np.rot90(painted(4, values=(0, 1)), -1)
    )
    assert any("turned upright" in notice for notice in splits.notices)


def test_whether_a_square_image_is_turned_must_be_said(tmp_path):
    fill(tmp_path)
    exif = Image.Exif()
    exif[0x0112] = 3
    image(tmp_path / "images" / "p4.jpg", 4, exif=exif)
    with pytest.raises(UserError, match="with an EXIF orientation"):
        read(tmp_path)
    np.testing.assert_array_equal(
        masks_of(read(tmp_path, orientation="seen"))["p4"], painted(4, values=(0, 1))
    )


def test_what_is_left_out_is_told(tmp_path):
    fill(tmp_path)
    image(tmp_path / "images" / "lonely.jpg")
    mask(tmp_path / "masks" / "gone.png", painted(0))
    mask(tmp_path / "masks" / "p1.png", painted(1, (9, 9)))
    (tmp_path / "masks" / "p2.png").write_bytes(b"\x89PNG\r\n\x1a\n cut off")
    splits = read(tmp_path)
    told = " ".join(splits.notices)
    assert sum(map(len, splits.parts.values())) == 8
    for words in ("1 image without a mask", "lonely.jpg", "1 mask without an image", "gone.png",
                  "its mask 9 x 9", "p2.jpg: it cannot be read"):  # fmt: skip
        assert words in told
    with pytest.raises(UserError, match=r"1 mask cannot be used: images/p2\.jpg"):
        read(tmp_path, broken="fail")


@pytest.mark.parametrize(("change", "said"), [
    ({"classes": {0: "ground"}}, "values without a class: 255"),
    ({"classes": "no_such_file.txt"}, "no file or folder of that name"),
    ({"classes": {"#12": "a"}}, "whole numbers from 0 to 65535, or colours as 0xrrggbb"),
    ({"classes": {0: "a", 255: "b"}, "ignore": 255}, "data.ignore and data.classes both list 255"),
    ({"classes": {}}, "names no class"),
    ({"ignore": [0, 255]}, "All values of the masks are in data.ignore"),
    ({"orientation": "up"}, "data.orientation must be one of"),
    ({"kind": "single"}, "which task=segmentation learns"),
])  # fmt: skip
def test_mistakes(tmp_path, change, said):
    fill(tmp_path)
    with pytest.raises(UserError) as caught:
        mask_folder(str(tmp_path), **{"kind": "masks", "seed": 0, **change})
    assert said in str(caught.value)


def test_masks_that_are_no_classes(tmp_path):
    fill(tmp_path)
    values = np.arange(24 * 32, dtype="uint8").reshape(SIZE)
    mask(tmp_path / "masks" / "p0.png", values)
    with pytest.raises(UserError, match="these look like numbers of objects"):
        read(tmp_path)
    mask(tmp_path / "masks" / "p0.png", np.stack([values] * 2 + [values // 2], -1))
    with pytest.raises(UserError, match="nobody says which class each is"):
        read(tmp_path)
    for path in (tmp_path / "masks").iterdir():
        path.unlink()
    for i in range(10):
        lossy = np.random.default_rng(i).integers(0, 2, SIZE).astype("uint8") * 255
        mask(tmp_path / "masks" / f"p{i}.jpg", lossy, quality=60)
    with pytest.raises(UserError, match=r"JPEG files .* changes values at each border"):
        read(tmp_path)


def test_no_masks_at_all(tmp_path):
    for i in range(3):
        image(tmp_path / "images" / f"p{i}.jpg", i)
    with pytest.raises(UserError, match="holds no images with masks"):
        read(tmp_path)


def test_other_data_is_refused_by_the_task(tmp_path):
    from kerasft.data.annotations.encoding import encode

    with pytest.raises(UserError, match="this data has no masks"):
        encode(["cat", "dog"], ["1", "2"], kind="masks")
