"""Images of bright rectangles, and the run of a detector that is trained on them in seconds."""

import json

import numpy as np
from PIL import Image

SIZE = (64, 80)
# What red and green rectangles are painted with.
COLOURS = ((230, 40, 40), (40, 230, 40))


def draw(folder, split, count, seed):
    """Write images of different sizes with red and green rectangles, and COCO's file of them."""
    random = np.random.default_rng(seed)
    made = {"images": [], "annotations": [],
            "categories": [{"id": 1, "name": "red"}, {"id": 2, "name": "green"}]}  # fmt: skip
    (folder / split).mkdir(parents=True)
    for i in range(count):
        rows, columns = int(random.integers(60, 90)), int(random.integers(70, 110))
        pixels = random.integers(0, 60, (rows, columns, 3)).astype("uint8")
        for _ in range(i % 4):  # some images have no object
            height, width = random.integers(14, 32, 2)
            top, left = random.integers(0, rows - height), random.integers(0, columns - width)
            unit = int(random.integers(2))
            pixels[top : top + height, left : left + width] = COLOURS[unit]
            made["annotations"].append({
                "id": len(made["annotations"]), "image_id": i, "category_id": unit + 1,
                "iscrowd": 0, "bbox": [int(left), int(top), int(width), int(height)],
            })  # fmt: skip
        Image.fromarray(pixels).save(folder / split / f"{split}{i}.png")
        made["images"].append({"id": i, "file_name": f"{split}{i}.png", "height": rows,
                               "width": columns})  # fmt: skip
    (folder / split / "_annotations.coco.json").write_text(json.dumps(made))


def draw_all(folder):
    """Write what is learned from, what validates and what tests."""
    for seed, (split, count) in enumerate({"train": 48, "valid": 12, "test": 12}.items()):
        draw(folder, split, count, seed)


def words_of(data):
    """Return the overrides of a run on such images that takes seconds."""
    return (
        "task=detection", "data=coco", f"data.path={data}", "backbone=tiny_resnet",
        f"backbone.image_size=[{SIZE[0]},{SIZE[1]}]", "head=anchor_free", "head.width=16",
        "head.depth=1", "+head.finest=2", "+head.coarsest=3", "augment=boxes", "batch_size=8",
        "epochs=3", "optimizer.learning_rate=5e-3", "baseline=null", "progress=false",
        "callbacks=none",
    )  # fmt: skip
