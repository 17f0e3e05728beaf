"""Images of rectangles with masks of them, and the run of a segmentation that takes seconds."""

import numpy as np
from PIL import Image

SIZE = (32, 48)


def draw(folder, count, seed):
    """Write images of different sizes with red and green rectangles, and a mask of each."""
    random = np.random.default_rng(seed)
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    for i in range(count):
        rows, columns = int(random.integers(30, 60)), int(random.integers(40, 80))
        pixels = random.integers(0, 60, (rows, columns, 3)).astype("uint8")
        mask = np.zeros((rows, columns), "uint8")
        for unit in range(i % 3):  # some images are nothing but background
            height, width = random.integers(10, 20, 2)
            top, left = random.integers(0, rows - height), random.integers(0, columns - width)
            pixels[top : top + height, left : left + width] = 40
            pixels[top : top + height, left : left + width, unit] = 230
            mask[top : top + height, left : left + width] = 1 + unit
        mask[:2] = 9  # ignored
        Image.fromarray(pixels).save(folder / "images" / f"{folder.name}{i}.png")
        Image.fromarray(mask).save(folder / "masks" / f"{folder.name}{i}.png")


def draw_all(root):
    """Write what is learned from, what validates and what tests."""
    for seed, (split, count) in enumerate({"train": 36, "val": 9, "test": 9}.items()):
        draw(root / split, count, seed)


def words_of(data):
    """Return the overrides of a run on such images that takes seconds."""
    return (
        "task=segmentation", "data=mask_folder", f"data.path={data}",
        "data.classes={0:background,1:red,2:green}", "data.ignore=9", "backbone=tiny_resnet",
        f"backbone.image_size=[{SIZE[0]},{SIZE[1]}]", "head=decoder", "head.width=16",
        "augment=masks", "batch_size=6", "epochs=3", "optimizer.learning_rate=5e-3",
        "baseline=null", "progress=false", "callbacks=none",
    )  # fmt: skip
