"""Boxes through the export: where a served detector sees objects, in images of every kind."""

from __future__ import annotations

import io
import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from rectangles import COLOURS, words_of

import kerasft
from kerasft.exporters.saved_model import saved_model
from kerasft.steps.measuring.reopening import reopen

# What must be done to the pixels of an image for each EXIF orientation to show it as it was.
STORED = {
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM, 5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE, 8: Image.Transpose.ROTATE_270,
}  # fmt: skip
# How images are stored: mode and format. Half of them are JPEGs, which cameras turn.
KINDS = (
    ("RGB", "JPEG"), ("RGB", "PNG"), ("RGB", "JPEG"), ("P", "PNG"), ("L", "JPEG"), ("RGBA", "PNG"),
    ("RGB", "JPEG"), ("L", "PNG"), ("RGB", "JPEG"), ("LA", "PNG"), ("RGB", "JPEG"), ("RGB", "WEBP"),
)  # fmt: skip


def stored(image, mode, kind, orientation=1):
    """Return an image as a file that shows it, in this mode and turned."""
    if mode == "P":
        image = image.quantize(64)
    elif mode != "RGB":
        image = image.convert(mode)
        if "A" in mode:  # half of it is hidden, which no network sees
            alpha = np.tile(np.linspace(255, 120, image.width, dtype="uint8"), (image.height, 1))
            image.putalpha(Image.fromarray(alpha))
    how = {}
    if orientation > 1:
        image = image.transpose(STORED[orientation])
        how["exif"] = Image.Exif()
        how["exif"][0x0112] = orientation
    file = io.BytesIO()
    image.save(file, kind, **how)
    return file.getvalue()


def scene(random, rows, columns):
    """Return an image with up to three rectangles, as large beside it as those of training."""
    pixels = random.integers(0, 60, (rows, columns, 3)).astype("uint8")
    for _ in range(random.integers(1, 4)):
        height, width = (max(int(side * random.uniform(0.2, 0.45)), 2) for side in (rows, columns))
        top, left = random.integers(0, rows - height), random.integers(0, columns - width)
        pixels[top : top + height, left : left + width] = COLOURS[random.integers(2)]
    return Image.fromarray(pixels)


@pytest.fixture(scope="module")
def many():
    """The files of 200 images of odd sizes, in all kinds and orientations."""
    random = np.random.default_rng(0)
    made = []
    for i in range(200):
        sides = ((9, 400), (400, 9), (500, 900), (900, 500))[i] if i < 4 else (
            random.integers(9, 501), random.integers(9, 901)
        )  # fmt: skip
        made.append(stored(scene(random, *map(int, sides)), *KINDS[i % len(KINDS)], 1 + i % 8))
    return made


def served(finetuned, folder):
    """Export a model, and return what asks its signatures, a few images at a time."""
    import tensorflow as tf

    export = saved_model(
        finetuned.model, folder, preprocess=finetuned.preprocess, task=finetuned.task,
        labels=finetuned.labels, signatures=["serving_default", "object_detection_api"],
    )  # fmt: skip
    loaded = tf.saved_model.load(str(export))

    def ask(name, raw, batch):
        parts = [
            loaded.signatures[name](image_bytes=tf.constant(raw[i : i + batch]))
            for i in range(0, len(raw), batch)
        ]
        return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}

    return ask


def sides_of(raw):
    """Return the width and height of an image as it is seen."""
    with Image.open(io.BytesIO(raw)) as image:
        turned = image.getexif().get(0x0112, 1) >= 5
        return image.size[::-1] if turned else image.size


def farthest(mine, theirs):
    """Return how far the boxes of an image lie apart, matched by class and score.

    Both are tuples of boxes, scores and classes, the likeliest first.
    """
    left, most = list(range(len(theirs[1]))), 0.0
    assert len(mine[1]) == len(left)
    for box, score, unit in zip(*mine, strict=True):
        alike = [i for i in left if theirs[2][i] == unit and abs(theirs[1][i] - score) < 1e-4]
        apart = {i: float(np.abs(theirs[0][i] - box).max()) for i in alike}
        nearest = min(apart, key=apart.__getitem__)
        left.remove(nearest)
        most = max(most, apart[nearest])
    return most


def compared(finetuned, ask, raw, batch):
    """Return how many boxes there are in each image, and how far the served ones lie apart."""
    memory = finetuned(raw)
    default, other = (ask(name, raw, batch) for name in ("serving_default", "object_detection_api"))
    counts, apart = [], []
    for i, encoded in enumerate(raw):
        width, height = sides_of(encoded)
        count = int(memory["num_detections"][i])
        assert count == default["num_detections"][i] == other["num_detections"][i]
        mine = [memory[key][i][:count] for key in ("boxes", "scores", "classes")]
        assert (mine[0] >= 0).all() and (mine[0] <= [width, height] * 2).all()
        # Normalized, top and left before bottom and right; classes are counted from 1.
        pixels = other["detection_boxes"][i][:, [1, 0, 3, 2]] * ([width, height] * 2)
        for theirs in (
            [default[key][i][:count] for key in ("boxes", "scores", "classes")],
            [pixels[:count], other["detection_scores"][i][:count],
             other["detection_classes"][i][:count] - 1],
        ):  # fmt: skip
            apart.append(farthest(mine, theirs))
        counts.append(count)
    return counts, apart


def test_boxes_are_where_they_were_in_memory_whichever_way_an_image_is_stored(
    tiny_detector, tmp_path
):
    _, finetuned, _ = reopen(str(tiny_detector))
    # So little trained, it is sure of nothing: any guess is answered, to have some to compare.
    finetuned = replace(finetuned, task=replace(finetuned.task, thresholds=(0.005, 0.005)))
    image = scene(np.random.default_rng(5), 75, 110)
    raw = [stored(image, "RGB", "PNG", orientation) for orientation in range(1, 9)]
    counts, apart = compared(finetuned, served(finetuned, tmp_path / "served"), raw, batch=3)
    assert counts[0] > 3 and set(counts) == {counts[0]}
    assert max(apart) < 0.5
    boxes = finetuned(raw)["boxes"]
    np.testing.assert_allclose(boxes, np.repeat(boxes[:1], 8, axis=0), atol=1e-2)


@pytest.fixture(scope="module")
def trained(rectangles, tmp_path_factory):
    """The run of a detector that has learned what rectangles are."""
    run = tmp_path_factory.mktemp("trained") / "run"
    kerasft.train([*words_of(rectangles), "epochs=25", "plots=false", f"output_dir={run}"])
    return run


@pytest.mark.slow
@pytest.mark.parametrize("resize", ["stretch", "pad", "crop"])
def test_boxes_of_200_images_are_where_they_were_in_memory(resize, many, trained, tmp_path, capsys):
    _, finetuned, _ = reopen(str(trained))
    found = json.loads((trained / "metrics.json").read_text())["test"]["map_50"]
    size = finetuned.preprocess.height, finetuned.preprocess.width
    finetuned = replace(finetuned, preprocess=type(finetuned.preprocess)(*size, resize=resize))
    counts, apart = compared(finetuned, served(finetuned, tmp_path / "served"), many, batch=7)
    with capsys.disabled():
        print(f"\n{resize}: {sum(counts)} boxes, {np.count_nonzero(counts)} images with any, "
              f"at most {max(apart):.2g} pixels apart; mAP 50 {found:.2f}")  # fmt: skip
    assert found > 0.5
    assert np.count_nonzero(counts) > 50  # in wide frames, objects are smaller than in training
    assert max(apart) < 0.5
