"""Runs on boxes and masks that Python hands over: stopped, resumed, measured again, exported."""

from __future__ import annotations

import json
from pathlib import Path

import interruption
import numpy as np
import pytest

import kerasft
from kerasft.artifact.loading import load_export
from kerasft.config.checks import settle
from kerasft.errors import UserError
from kerasft.steps.preparing import in_memory
from kerasft.steps.preparing.prepare import build_task, read_splits

ROWS, COLUMNS = 32, 48


def drawn(count=24):
    """Return images of red rectangles, their boxes, and their masks."""
    random = np.random.default_rng(0)
    pixels = random.integers(0, 60, (count, ROWS, COLUMNS, 3), dtype="uint8")
    masks, boxes = np.zeros((count, ROWS, COLUMNS), "uint8"), []
    for i in range(count):
        top, left = int(random.integers(0, 16)), int(random.integers(0, 24))
        pixels[i, top : top + 16, left : left + 24, 0] = 230
        masks[i, top : top + 16, left : left + 24] = 1
        boxes.append([[left, top, 24, 16]])
    return pixels, boxes, masks


PIXELS, BOXES, MASKS = drawn()
DATA = {
    "boxes": {"image": PIXELS, "objects": {"bbox": BOXES, "category": [["red"]] * len(BOXES)}},
    "masks": {"image": PIXELS, "mask": MASKS},
}
CHANGED = {
    "boxes": {"image": PIXELS, "objects": {"bbox": [[[1, 2, 24, 16]], *BOXES[1:]],
                                           "category": [["red"]] * len(BOXES)}},
    "masks": {"image": PIXELS, "mask": np.concatenate([MASKS[:1] * 0, MASKS[1:]])},
}  # fmt: skip
SHARED = ["backbone=tiny_resnet", f"backbone.image_size=[{ROWS},{COLUMNS}]", "batch_size=8",
          "epochs=2", "progress=false", "baseline=null", "callbacks=none"]  # fmt: skip
WORDS = {
    "boxes": [*SHARED, "task=detection", "data.box_format=xywh", "head=anchor_free",
              "head.width=8", "head.depth=1", "+head.finest=2", "+head.coarsest=3",
              "augment=boxes"],
    "masks": [*SHARED, "task=segmentation", "data.classes=[ground,red]", "head=decoder",
              "head.width=8", "augment=masks"],
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["boxes", "masks"])
def test_a_run_goes_on_with_the_same_data_alone(kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = [*WORDS[kind], "cache.directory=cache"]
    interruption.stopped([*words, "checkpoint.steps=1", "output_dir=run"], monkeypatch, 3,
                         data=DATA[kind])  # fmt: skip
    with pytest.raises(UserError, match="The data has changed since the run began"):
        kerasft.resume("run", data=CHANGED[kind])
    with pytest.raises(UserError, match="reads what Python hands over, and nothing was"):
        kerasft.resume("run")
    result = kerasft.resume("run", data=DATA[kind])
    manifest = json.loads((result.output_dir / "manifest.json").read_text())
    assert manifest["source"]["columns"]["image"] == "image"

    again = kerasft.evaluate("run", data=DATA[kind], split="test", say=lambda line: None)
    metric = "map" if kind == "boxes" else "mean_iou"
    assert again["test"][metric] == pytest.approx(result.metrics["test"][metric], abs=1e-6)
    from PIL import Image

    Image.fromarray(PIXELS[0]).save("one.png")
    (answer,) = kerasft.predict("run", ["one.png"])
    assert ("objects" if kind == "boxes" else "shares") in answer

    kerasft.train([*words, "output_dir=plain"], data=DATA[kind])
    interruption.require_equal(Path("plain"), Path("run"))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["boxes", "masks"])
def test_a_run_is_exported(kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    kerasft.train([*WORDS[kind], "output_dir=run"], data=DATA[kind])
    folder = kerasft.export("run", ["export=saved_model"])["saved_model"]
    assert load_export(folder)


def test_the_example_of_the_documentation_is_read(monkeypatch):
    """Its configs are sound and its data is read; nothing is trained."""
    page = (Path(__file__).parents[2] / "docs" / "bring-your-own-data.md").read_text("utf-8")
    block = page.split("### Boxes and masks in memory")[1].split("```python\n")[1].split("```")[0]
    found = []

    def read(words, data):
        cfg = settle(in_memory.reading(words, data), (), ())
        with in_memory.holding(cfg, data):
            found.append(read_splits(cfg, build_task(cfg).kind, None)[0])

    monkeypatch.setattr(kerasft, "train", read)
    exec(block, {})
    boxes, masks = found
    assert boxes.labels.names == ("cell",)
    assert boxes.train.annotations.row(0)["boxes"].tolist() == [[20, 8, 44, 24]]
    assert masks.labels.names == ("ground", "cell")
