"""Images with boxes and masks in data sets of TensorFlow Datasets."""

import io
import json

import numpy as np
import pytest
from PIL import Image

import kerasft
from kerasft.data.sources.tfds import tfds
from kerasft.errors import UserError
from kerasft.spec import IGNORED
from kerasft.testing import check_data

module = pytest.importorskip("tensorflow_datasets")
features = module.features

# TFDS parses its own files with what Python is about to drop; none of it is ours.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

SIZE = (20, 40)  # rows and columns
NAMES = ["cat", "dog", "cow"]


def prepare(folder, called, kinds, splits):
    """Prepare a data set as TFDS does its own.

    Args:
        folder: Where to.
        called: Its name.
        kinds: The features.
        splits: The examples of each split.
    """

    class Builder(module.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = module.core.Version("1.0.0")
        name = called

        def _info(self):
            return module.core.DatasetInfo(builder=self, features=features.FeaturesDict(kinds))

        def _split_generators(self, dl_manager):
            return {name: enumerate(examples) for name, examples in splits.items()}

        def _generate_examples(self):
            raise NotImplementedError

    Builder(data_dir=str(folder)).download_and_prepare()
    return folder / called


def pixels(seed, size=SIZE):
    return np.random.default_rng(seed).integers(0, 255, (*size, 3), "uint8")


def encoded(seed, **settings):
    """Return a JPEG."""
    file = io.BytesIO()
    Image.fromarray(pixels(seed)).save(file, "JPEG", **settings)
    return file.getvalue()


def box(top, left, bottom, right):
    """Return a box of which the sides are given in pixels."""
    return features.BBox(top / SIZE[0], left / SIZE[1], bottom / SIZE[0], right / SIZE[1])


def objects(i):
    """Return the objects of an image: one or two, of which the second is a crowd in one of four.
    """
    found = [{"bbox": box(1, 2, 10, 20), "label": 0, "is_crowd": False, "note": "n"},
             {"bbox": box(5, 4, 15, 30), "label": 1, "is_crowd": i % 4 == 1, "note": "n"}]
    return found[: 1 + i % 2]


OBJECT = {"bbox": features.BBoxFeature(), "label": features.ClassLabel(names=NAMES),
          "is_crowd": np.bool_, "note": features.Text()}  # fmt: skip


@pytest.fixture(scope="module")
def boxes(tmp_path_factory):
    """Images with boxes, and a test that hides them."""
    kinds = {"image": features.Image(), "image/name": features.Text(),
             "objects": features.Sequence(OBJECT)}  # fmt: skip
    train = [{"image": pixels(i), "image/name": "p", "objects": objects(i) if i else []}
             for i in range(13)]  # fmt: skip
    hidden = [{"image": pixels(100 + i), "image/name": "p", "objects": []} for i in range(3)]
    return prepare(tmp_path_factory.mktemp("boxes"), "things", kinds,
                   {"train": train, "test": hidden})  # fmt: skip


@pytest.fixture(scope="module")
def masks(tmp_path_factory):
    """Images with masks of two sorts, in more than one split."""
    kinds = {
        "image": features.Image(), "label": features.ClassLabel(names=NAMES),
        "segmentation_mask": features.Image(shape=(None, None, 1), use_colormap=True),
        "depth": features.Image(shape=(None, None, 1), dtype=np.float32),
    }  # fmt: skip
    splits = {
        name: [
            {"image": pixels(first + i), "segmentation_mask": painted(i)[..., None], "label": i % 3,
             "depth": np.zeros((*SIZE, 1), "float32")} for i in range(count)
        ] for name, first, count in (("train", 0, 10), ("test", 50, 3))
    }  # fmt: skip
    return prepare(tmp_path_factory.mktemp("masks"), "pets", kinds, splits)


def painted(i, values=(1, 3, 2)):
    """Return a mask: two parts whose border is another one in each, and a line between."""
    made = np.full(SIZE, values[0], "uint8")
    made[:, 5 + i :] = values[2]
    made[:, 5 + i] = values[1]
    return made


def read(folder, kind="boxes", **settings):
    return tfds(str(folder), kind=kind, seed=0, **settings)


def rows_of(splits):
    return {name: part.annotations.row(i)
            for part in splits.parts.values() for i, name in enumerate(part.ids)}  # fmt: skip


def masks_of(splits):
    made = {}
    for name, row in rows_of(splits).items():
        with Image.open(io.BytesIO(row["mask"])) as image:
            made[name] = np.asarray(image)
    return made


def test_boxes(boxes):
    splits = read(boxes)
    check_data(splits)
    assert splits.labels.names == ("cat", "dog")
    assert splits.train.inputs[0].startswith(b"\x89PNG")
    rows = rows_of(splits)
    assert sorted(rows) == sorted(f"train:{i}" for i in range(13))
    counts = sorted(len(row["boxes"]) for row in rows.values())
    assert counts == [0] + [1] * 6 + [2] * 6
    for row in rows.values():
        wanted = np.array([[2, 1, 20, 10], [4, 5, 30, 15]])[: len(row["boxes"])]
        np.testing.assert_allclose(row["boxes"], wanted, atol=1e-4)
        assert row["labels"].tolist() == [0, 1][: len(wanted)]
        assert row["size"].tolist() == list(SIZE)
    assert sum(int(row["ignored"].sum()) for row in rows.values()) == 3
    assert {"boxes": "objects/bbox", "label": "objects/label"}.items() <= splits.source.items()


def test_what_a_set_with_boxes_does_not_have_is_told(boxes):
    said = " ".join(read(boxes).notices)
    assert "1 class without a box: cow" in said
    assert "none of the 3 examples of test has a box, so it is left out" in said
    with pytest.raises(UserError, match=r"data\.test: none of the 3 examples .* has a box"):
        read(boxes, test="test")


def test_names_are_stable_and_slices_are_read(boxes):
    assert read(boxes).train.ids == read(boxes / "1.0.0").train.ids
    splits = read(boxes, train="train[:8]", validation="train[8:]", test=0)
    assert {n: len(part) for n, part in splits.parts.items()} == {"train": 8, "validation": 5}
    assert set(splits.validation.ids) == {f"train[8:]:{i}" for i in range(5)}


def test_features_are_named(boxes):
    splits = read(boxes, boxes="objects/bbox", label="objects/label", input="image")
    assert splits.labels.names == ("cat", "dog")
    splits = read(boxes, label="note")  # a text
    assert splits.labels.names == ("n",)
    assert read(boxes, label_names=["a", "b", "c"]).labels.names == ("a", "b")


def test_labels_of_objects_are_labels_of_their_image(boxes):
    splits = read(boxes, "multi", label="objects/label")
    assert splits.labels.names == tuple(NAMES)
    rows = np.concatenate([splits.train.labels, splits.validation.labels])
    assert rows.sum(axis=0).tolist() == [12, 6, 0]


def test_masks(masks):
    splits = read(masks, "masks", classes={1: "pet", 2: "ground"}, ignore=3)
    check_data(splits)
    assert splits.labels.names == ("pet", "ground")
    assert {n: len(part) for n, part in splits.parts.items()} == {
        "train": 8, "validation": 2, "test": 3,
    }  # fmt: skip
    found = masks_of(splits)
    wanted = {painted(i, (0, IGNORED, 1)).tobytes() for i in range(10)}
    assert {mask.tobytes() for mask in found.values()} == wanted
    assert splits.source["masks"] == "segmentation_mask"
    splits = read(masks, "masks")
    assert splits.labels.names == ("1", "2", "3")
    assert any("data.classes says nothing of the values" in one for one in splits.notices)
    with pytest.raises(UserError, match=r"values without a class: 3\. Name each value"):
        read(masks, "masks", classes={1: "pet", 2: "ground"})


def test_images_are_told_from_masks_for_other_tasks(masks):
    splits = read(masks, "single")
    assert splits.labels.names == tuple(NAMES)
    assert splits.source["input"] == "image"


def test_a_labeled_image_names_its_classes(tmp_path):
    names = ["void", "road", "tree", "sky"]
    kinds = {"photo": features.Image(), "mask_of_parts": features.Image(shape=(None, None, 1)),
             "truth": features.LabeledImage(labels=names, shape=(None, None, 1))}  # fmt: skip
    train = [{"photo": pixels(i), "truth": painted(i)[..., None],
              "mask_of_parts": painted(i)[..., None]} for i in range(10)]  # fmt: skip
    folder = prepare(tmp_path, "streets", kinds, {"train": train})
    splits = read(folder, "masks")
    check_data(splits)
    assert splits.labels.names == tuple(names)
    assert splits.source["masks"] == "truth"
    np.testing.assert_array_equal(*(
        np.sort([mask.ravel() for mask in one], axis=0)
        for one in (list(masks_of(splits).values()), [painted(i) for i in range(10)])
    ))  # fmt: skip
    splits = read(folder, "masks", ignore=[0, 3])
    assert splits.labels.names == ("road", "tree")
    assert set(np.unique(next(iter(masks_of(splits).values())))) == {0, 1, IGNORED}
    with pytest.raises(UserError, match="Did you mean 'photo'"):
        read(folder, "masks", masks="photos")


def test_lossy_masks_are_refused(tmp_path):
    kinds = {"image": features.Image(), "mask": features.Image(shape=(None, None, 1))}
    train = []
    for i in range(4):
        file = io.BytesIO()
        noise = np.random.default_rng(i).integers(0, 2, SIZE).astype("uint8") * 255
        Image.fromarray(noise).save(file, "JPEG", quality=60)
        train.append({"image": pixels(i), "mask": file.getvalue()})
    folder = prepare(tmp_path, "lossy", kinds, {"train": train})
    with pytest.raises(UserError, match=r"4 masks are JPEG files \(train:0"):
        read(folder, "masks")


def test_turned_images(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    kinds = {"image": features.Image(), "mask": features.Image(shape=(None, None, 1)),
             "objects": features.Sequence(OBJECT)}  # fmt: skip
    train = [{"image": encoded(i, exif=exif), "mask": painted(i)[..., None],
              "objects": objects(0)} for i in range(6)]  # fmt: skip
    folder = prepare(tmp_path, "turned", kinds, {"train": train})
    with pytest.raises(UserError, match=r"Set data\.orientation=seen"):
        read(folder)
    splits = read(folder, orientation="stored")
    row = splits.train.annotations.row(0)
    assert row["size"].tolist() == [SIZE[1], SIZE[0]]
    np.testing.assert_allclose(row["boxes"], [[10, 2, 19, 20]], atol=1e-4)
    assert any("turned upright" in one for one in read(folder, "masks").notices)


def test_one_box_a_image(tmp_path):
    """And a class for the whole image."""
    kinds = {"image": features.Image(), "label": features.ClassLabel(num_classes=3),
             "bbox": features.BBoxFeature()}  # fmt: skip
    train = [{"image": pixels(i), "label": i % 2, "bbox": box(1, 2, 10, 20)} for i in range(8)]
    folder = prepare(tmp_path, "cars", kinds, {"train": train})
    splits = read(folder)
    check_data(splits)
    assert splits.labels.names == ("0", "1")
    np.testing.assert_allclose(splits.train.annotations.row(0)["boxes"], [[2, 1, 20, 10]],
                               atol=1e-4)  # fmt: skip
    with pytest.raises(UserError, match=r"is of the class 1, and there are names for 0 to 0"):
        read(folder, label_names=["car"])
    with pytest.raises(UserError, match=r"All labels of data\.label=bbox"):  # four numbers
        read(folder, "numbers", label="bbox")
    with pytest.raises(UserError, match=r"a BBoxFeature\. It has boxes \(bbox\), which task=det"):
        read(folder, "single", label="bbox")


def test_boxes_that_have_no_class_and_boxes_that_share_one(tmp_path):
    inner = {"bbox": features.BBoxFeature(), "invalid": np.bool_}
    kinds = {"image": features.Image(), "breed": features.ClassLabel(names=["pug", "boxer"]),
             "faces": features.Sequence(inner)}  # fmt: skip
    faces = [{"bbox": box(1, 2, 10, 20), "invalid": False},
             {"bbox": box(3, 2, 12, 20), "invalid": True}]  # fmt: skip
    train = [{"image": pixels(i), "breed": i % 2, "faces": faces} for i in range(8)]
    folder = prepare(tmp_path, "faces", kinds, {"train": train})
    with pytest.raises(UserError, match=r"none is beside faces/bbox\. If all .*\[face\]"):
        read(folder)
    splits = read(folder, label_names=["face"])
    assert splits.labels.names == ("face",)
    assert splits.train.annotations.row(0)["ignored"].tolist() == [False, True]
    splits = read(folder, label="breed")
    assert splits.labels.names == ("pug", "boxer")
    assert any("class of a box is that of its image" in one for one in splits.notices)


def test_several_features_that_fit(tmp_path):
    inner = {"bbox": features.BBoxFeature(), "crop": features.BBoxFeature(),
             "type": features.ClassLabel(names=NAMES), "pose": features.ClassLabel(names=["x"]),
             "score": np.float32}  # fmt: skip
    camera = {"content": features.Image(), "things": features.Sequence(inner)}
    kinds = {"left": camera, "mask_a": features.Image(shape=(None, None, 1)),
             "mask_b": features.Image(shape=(None, None, 1))}  # fmt: skip
    thing = {"bbox": box(1, 2, 10, 20), "crop": box(0, 0, 20, 40), "pose": 0, "score": 0.5}
    things = [{**thing, "type": -1}, {**thing, "type": 2}]
    train = [{"left": {"content": pixels(i), "things": things},
              "mask_a": painted(i)[..., None], "mask_b": painted(i)[..., None]}
             for i in range(8)]  # fmt: skip
    folder = prepare(tmp_path, "cameras", kinds, {"train": train})
    with pytest.raises(UserError, match="several fit: left/things/bbox, left/things/crop"):
        read(folder)
    with pytest.raises(UserError, match="several fit: left/things/pose, left/things/type"):
        read(folder, boxes="left/things/bbox")
    with pytest.raises(UserError, match=r"data\.label must be .* a Tensor in a sequence"):
        read(folder, boxes="left/things/bbox", label="score")
    splits = read(folder, boxes="left/things/bbox", label="type")
    check_data(splits)
    assert splits.labels.names == ("cow",)
    assert any("8 boxes without a class left out: train:0: box 1" in n for n in splits.notices)
    assert splits.source["input"] == "left/content"
    with pytest.raises(UserError, match="several fit: mask_a, mask_b"):
        read(folder, "masks")
    assert read(folder, "masks", masks="mask_b").source["masks"] == "mask_b"


def test_boxes_of_another_form(tmp_path):
    made = {}
    for form in ("YXYX", "XYWH"):
        inner = {"bbox": features.BBoxFeature(bbox_format=form),
                 "label": features.ClassLabel(names=NAMES)}  # fmt: skip
        kinds = {"image": features.Image(), "objects": features.Sequence(inner)}
        train = [{"image": pixels(i), "objects": [{"bbox": np.array([1.0, 2, 10, 20]), "label": 0}]}
                 for i in range(6)]  # fmt: skip
        made[form] = prepare(tmp_path, form.lower(), kinds, {"train": train})
    assert read(made["YXYX"]).train.annotations.row(0)["boxes"].tolist() == [[2, 1, 20, 10]]
    with pytest.raises(UserError, match="are written as XYWH, and can be read as REL_YXYX or YXYX"):
        read(made["XYWH"])


@pytest.mark.slow
def test_both_kinds_are_trained_and_evaluated(boxes, masks, tmp_path):
    shared = ("data=tfds", "backbone=tiny_resnet", "epochs=1", "batch_size=4", "baseline=null",
              "progress=false", "callbacks=none")  # fmt: skip
    for folder, figure, own in (
        (boxes, "map", ("task=detection", "head=anchor_free", "head.width=16", "head.depth=1",
                        "+head.finest=2", "+head.coarsest=3", "augment=boxes")),
        (masks, "mean_iou", ("task=segmentation", "head=decoder", "augment=masks",
                             "data.classes={1: pet, 2: ground}", "data.ignore=3")),
    ):  # fmt: skip
        run = tmp_path / figure
        kerasft.train([*shared, *own, f"data.name={folder}", f"output_dir={run}"])
        metrics = json.loads((run / "metrics.json").read_text())
        assert figure in metrics["test"]
        assert kerasft.evaluate(str(run))["test"][figure] == pytest.approx(metrics["test"][figure])


@pytest.mark.parametrize(("kind", "settings", "said"), [
    ("boxes", {"boxes": "objects/box"}, "Did you mean 'objects/bbox'?"),
    ("boxes", {"boxes": "image"}, "must be a BBoxFeature"),
    ("boxes", {"label": "lable"}, "data.label: things/1.0.0 has no feature 'lable'"),
    ("boxes", {"label": "image"}, "the class of each box of objects/bbox"),
    ("boxes", {"input": "objects/label"}, "a ClassLabel in a sequence. Those that fit: image"),
    ("boxes", {"masks": "image"}, "data.masks belongs to task=segmentation"),
    ("masks", {"boxes": "objects/bbox"}, "data.boxes belongs to task=detection"),
    ("masks", {}, "no feature that looks like masks"),
    ("masks", {"masks": "objects/label"}, "must be an image with the class of each pixel"),
    ("single", {}, "It has boxes (objects/bbox), which task=detection learns."),
    ("single", {"label": "objects"}, "which task=detection learns."),
    ("single", {"classes": ["a"]}, "data.classes belongs to task=segmentation"),
    ("boxes", {"orientation": "up"}, "data.orientation must be one of"),
])  # fmt: skip
def test_mistakes_with_boxes(boxes, kind, settings, said):
    with pytest.raises(UserError) as caught:
        read(boxes, kind, **settings)
    assert said in " ".join(caught.value.problems)


@pytest.mark.parametrize(("kind", "settings", "said"), [
    ("boxes", {}, "has no boxes (a BBoxFeature), which task=detection learns"),
    ("masks", {"masks": "depth"}, "depth holds floats; the class of a pixel is a whole number"),
    ("masks", {"label": "segmentation_mask"}, "data.masks=segmentation_mask"),
    ("masks", {"label_names": ["a"]}, "data.classes"),
    ("masks", {"classes": ["a"], "ignore": 0}, "data.ignore and data.classes both list 0"),
    ("masks", {"text_pair": "label"}, "data.text_pair"),
    ("single", {"label": "segmentation_mask"}, "(segmentation_mask), which task=segmentation"),
    ("number", {"label": "depth"}, "what is said of a whole example"),
])  # fmt: skip
def test_mistakes_with_masks(masks, kind, settings, said):
    with pytest.raises(UserError) as caught:
        read(masks, kind, **settings)
    assert said in " ".join(caught.value.problems)
