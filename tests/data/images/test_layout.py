"""Which folders are splits, which are classes, and which are no classification at all."""

import io
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kerasft.data.images.annotated import masks_among
from kerasft.data.images.layout import words_of
from kerasft.data.sources.image_folder import image_folder
from kerasft.errors import UserError


def image(number, mask=False):
    pixels = np.random.default_rng(number).integers(0, 255, (32, 32, 3), np.uint8)
    if mask:
        pixels = np.where(pixels[..., :1] > 127, 255, 0).astype("uint8").repeat(3, -1)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def fill(root, *folders, count=6, suffix=".png"):
    for folder in folders:
        (root / folder).mkdir(parents=True)
        for i in range(count):
            content = image(sum(map(ord, folder)) * 100 + i, "mask" in folder)
            (root / folder / f"{i}{suffix}").write_bytes(content)
    return root


def ask(root, **settings):
    return image_folder(str(root), kind="single", seed=0, **settings)


SPLITS = {
    "training_set": "test_set", "seg_train": "seg_test", "train2017": "val2017", "Train": "Test",
    "train_images": "test_images", "Training": "Testing", "training": "evaluation",
    "1_train": "holdout", "trainset": "validation_set", "TrainImages": "ValImages",
    "train_1": "dev", "data_train": "data_hold_out", "trainval": "test", "TRAIN": "validate",
    "train": "tests",
}  # fmt: skip


@pytest.mark.parametrize("train", SPLITS)
@pytest.mark.parametrize("deeper", [False, True])
def test_folders_of_splits_by_other_names_are_splits(tmp_path, train, deeper):
    other = SPLITS[train]
    for name in (train, other):
        inner = f"{name}/{name}" if deeper else name
        fill(tmp_path, f"{inner}/a", f"{inner}/b")
    splits = ask(tmp_path)
    assert splits.labels.names == ("a", "b")
    held = {i.split("/")[0] for name in ("validation", "test") for i in splits.parts[name].ids}
    assert other in held and all(i.startswith(f"{train}/") for i in splits.train.ids)
    plain = {("Train", "Test"), ("Training", "Testing")}
    assert (train, other) in plain or "as splits by their names" in " ".join(splits.notices)


def test_a_zip_of_such_folders_is_read_alike(tmp_path, monkeypatch):
    monkeypatch.setenv("KERASFT_CACHE", str(tmp_path / "cache"))
    fill(tmp_path / "x", *(f"archive/seg_{s}/seg_{s}/{c}" for s in ("train", "test") for c in "ab"))
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as file:
        for path in (tmp_path / "x").rglob("*.png"):
            file.write(path, path.relative_to(tmp_path / "x"))
    splits = ask(tmp_path / "x.zip")
    assert splits.labels.names == ("a", "b") and len(splits.test) == 12


def test_evaluation_is_the_test_beside_a_validation_split(tmp_path):
    fill(tmp_path, *(f"{s}/{c}" for s in ("training", "validation", "evaluation") for c in "ab"))
    assert {i.split("/")[0] for i in ask(tmp_path).test.ids} == {"evaluation"}


@pytest.mark.parametrize(
    "names",
    [("train", "bus", "car"), ("test", "train", "val", "car"), ("train_station", "test_tube"),
     ("validation", "rejection"), ("with_mask", "without_mask"), ("mask", "gloves", "helmet"),
     ("dev", "ops"), ("images", "drawings")],
)  # fmt: skip
def test_classes_whose_names_resemble_splits_stay_classes(tmp_path, names):
    fill(tmp_path, *(name.replace("mask", "face") for name in names))
    for name in names:
        (tmp_path / name.replace("mask", "face")).rename(tmp_path / name)
    assert set(ask(tmp_path).labels.names) == set(names)


def test_classes_of_any_name_and_depth_are_had_by_a_setting(tmp_path):
    fill(tmp_path, "train/steam", "train/electric", "bus/red", "car/old")
    with pytest.raises(UserError, match=r"Set data\.folders=classes"):
        ask(tmp_path)
    assert ask(tmp_path, folders="classes").labels.names == ("bus", "car", "train")
    assert ask(tmp_path, folders="splits").labels.names == ("electric", "steam")
    for name in ("bus", "car"):
        shutil.rmtree(tmp_path / name)
    fill(tmp_path, "test/x")
    assert ask(tmp_path, folders="classes").labels.names == ("test", "train")
    with pytest.raises(UserError, match="must be one of"):
        ask(tmp_path, folders="class")


@pytest.mark.parametrize(
    "names",
    [("images", "masks"), ("images", "labels"), ("image", "annotations"), ("imgs", "gt"),
     ("train/images", "train/masks", "val/images", "val/masks"), ("JPEGImages", "SegmentationMask"),
     ("images/train", "images/val", "masks/train", "masks/val"), ("train", "train_masks"),
     ("train_images", "train_masks"), ("leftImg8bit", "gtFine"), ("CXR_png", "masks"),
     ("images/a", "images/b", "ground_truth/a", "ground_truth/b"), ("photos", "edges", "masks")],
)  # fmt: skip
def test_a_set_with_masks_is_refused(tmp_path, names):
    fill(tmp_path, *names)
    with pytest.raises(UserError, match=r"segmentation or detection.*data\.folders=classes"):
        ask(tmp_path)


@pytest.mark.parametrize("drawn", ["labels", "annotations", "Annotations", "bboxes"])
def test_boxes_in_files_that_are_no_images_are_refused(tmp_path, drawn):
    fill(tmp_path, "images/train", "images/val")
    (tmp_path / drawn).mkdir()
    (tmp_path / drawn / "0.txt").write_text("0 1 1 2 2")
    with pytest.raises(UserError, match="segmentation or detection"):
        ask(tmp_path)


@pytest.mark.parametrize("parts", [(), ("train", "test")])
def test_masks_inside_of_the_classes_are_refused(tmp_path, parts):
    for part in parts or (".",):
        for name in ("covid", "normal"):
            fill(tmp_path / part / name, "images", "masks")
    with pytest.raises(UserError, match="would be learned as images of covid"):
        ask(tmp_path)
    assert ask(tmp_path, folders="classes" if not parts else "splits")


def test_boxes_inside_of_the_classes_do_no_harm(tmp_path):
    fill(tmp_path, "covid/images", "normal/images")
    (tmp_path / "covid" / "labels").mkdir()
    (tmp_path / "covid" / "labels" / "0.txt").write_text("0 0.5 0.5 1 1")
    assert ask(tmp_path).labels.names == ("covid", "normal")


def test_masks_in_a_folder_of_any_name_are_told(tmp_path):
    fill(tmp_path, "before", "amasked", count=8)
    assert "amasked/ look like masks of those in before/" in " ".join(ask(tmp_path).notices)


@pytest.mark.parametrize("other", ["test", "augmented"])
def test_a_folder_that_repeats_its_neighbours_is_refused(tmp_path, other):
    fill(tmp_path, "cats", "dogs", f"{other}/cats", f"{other}/dogs")
    with pytest.raises(UserError, match=f"{other}/cats/, {other}/dogs/"):
        ask(tmp_path)
    assert len(ask(tmp_path, folders="classes").labels.names) == 3


def test_splits_of_images_without_classes_are_refused(tmp_path):
    fill(tmp_path, "train2017", "val2017")
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "instances.json").write_text("{}")
    with pytest.raises(UserError, match="no train folder with one folder a class"):
        ask(tmp_path)


def test_splits_inside_of_classes_are_refused(tmp_path):
    fill(tmp_path, *(f"{c}/{s}" for c in ("cats", "dogs") for s in ("train", "test")))
    with pytest.raises(UserError, match="turn them around"):
        ask(tmp_path)
    assert ask(tmp_path, folders="classes").labels.names == ("cats", "dogs")


def test_folders_that_are_merged_into_classes_are_named(tmp_path):
    fill(tmp_path, "animals/cat", "animals/dog", "plants/rose", "plants/tulip", "stones/images")
    said = [n for n in ask(tmp_path).notices if "outer folders" in n]
    assert len(said) == 1 and "animals (cat, dog), plants (rose, tulip)" in said[0]
    assert "stones" not in said[0]


def test_masks_among_the_images_of_a_class_are_named(tmp_path):
    fill(tmp_path, "benign", "malignant")
    (tmp_path / "benign" / "0_mask.png").write_bytes(image(9, mask=True))
    assert "named like a mask" in " ".join(ask(tmp_path).notices)
    assert masks_among([tmp_path / "a.png", tmp_path / "a2.png"]) == []


def test_a_name_is_taken_apart():
    assert words_of("JPEGImages_train2017") == ["jpeg", "images", "train"]
    assert words_of("leftImg8bit") == ["left", "img", "bit"]
    assert words_of("testset") == ["test", "set"]
    assert words_of("testimonials") == ["testimonials"]


@pytest.mark.parametrize("names", [("fold1", "fold2"), ("color", "segmented"), ("raw", "processed"),
                                   ("tr", "te"), ("amazon/images", "dslr/images")])  # fmt: skip
def test_parts_of_one_set_are_no_classes(tmp_path, names):
    fill(tmp_path, *(f"{name}/{c}" for name in names for c in ("cats", "dogs")))
    with pytest.raises(UserError, match=r"parts, folds or versions.*data\.folders=classes"):
        ask(tmp_path)
    outer = tuple(sorted(name.split("/")[0] for name in names))
    assert ask(tmp_path, folders="classes").labels.names == outer


def test_classes_that_differ_by_the_number_of_a_part_are_mentioned(tmp_path):
    fill(tmp_path / "a", "images_part_1", "images_part_2")
    assert "parts of one set" in " ".join(ask(tmp_path / "a").notices)
    fill(tmp_path / "b", "class_1", "class_2")
    assert not ask(tmp_path / "b").notices


@pytest.mark.parametrize("names", [("training_set", "test_set"), ("train1", "test1"),
                                   ("training", "evaluation"), ("seg_train", "seg_test")])
def test_splits_of_any_name_inside_of_classes_are_refused(tmp_path, names):
    fill(tmp_path, *(f"{c}/{name}" for name in names for c in ("cats", "dogs")))
    with pytest.raises(UserError, match="folders of splits inside of its folders"):
        ask(tmp_path)
    assert ask(tmp_path, folders="classes").labels.names == ("cats", "dogs")


def test_kinds_of_stations_are_no_splits(tmp_path):
    fill(tmp_path, "inside/train_station", "inside/test_tube", "outside/trees", "outside/lakes")
    assert ask(tmp_path).labels.names == ("inside", "outside")


@pytest.mark.parametrize("between", ["img", "image", "photo", "jpeg", "Images_png", "data"])
def test_a_folder_between_a_split_and_its_classes_is_entered(tmp_path, between):
    fill(tmp_path, *(f"{s}/{between}/{c}" for s in ("train", "test") for c in ("cats", "dogs")))
    assert ask(tmp_path).labels.names == ("cats", "dogs")


def test_a_split_without_class_folders_is_left_out(tmp_path):
    fill(tmp_path, "train/n01/images", "train/n02/images", "val/images", "test/images")
    splits = ask(tmp_path)
    assert splits.labels.names == ("n01", "n02")
    assert "test/, val/" in " ".join(splits.notices)
    assert all(i.startswith("train/") for part in splits.parts.values() for i in part.ids)


@pytest.mark.parametrize(
    ("images", "masks"),
    [("img_{}", "mask_{}"), ("{}", "mask_{}"), ("{}", "{}_m"), ("{}_training", "{}_manual1"),
     ("{}_sat", "{}_map"), ("a{}", "b{}"), ("benign ({})", "benign ({})_mask")],
)  # fmt: skip
def test_masks_in_a_class_of_their_own_are_mentioned_whatever_their_names(
    tmp_path, images, masks
):
    for folder, name in (("x", images), ("y", masks)):
        (tmp_path / folder).mkdir()
        for i in range(7):
            content = image(i * 2 + (folder == "y"), folder == "y")
            (tmp_path / folder / f"{name.format(i + 1)}.png").write_bytes(content)
    assert "look like masks of those in x/" in " ".join(ask(tmp_path).notices)


@pytest.mark.parametrize(
    ("one", "mask"),
    [("benign (1)", "benign (1)_mask"), ("1", "mask_1"), ("scan_", "scan__mask"),
     ("scan", "scan__mask"), ("img-a", "img-a-seg"), ("a", "a_mask_1"), ("A", "a.gt"),
     ("1", "1_m")],
)  # fmt: skip
def test_masks_beside_their_images_are_known(one, mask):
    found = masks_among([Path(f"cats/{one}.png"), Path(f"cats/{mask}.png")])
    assert [path.stem for path in found] == [mask]


def test_classes_that_are_called_like_images_and_labels_are_classes(tmp_path):
    for i, names in enumerate((("photo", "label"), ("frame", "photo", "segmented_worm"))):
        assert ask(fill(tmp_path / str(i), *names)).labels.names == tuple(sorted(names))
