"""Folders of images and masks for tests, and the masks that were read of them."""

import io

import numpy as np
from PIL import Image

SIZE = (24, 32)  # rows and columns


def image(path, seed=0, size=SIZE, **settings):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (*size, 3), "uint8")
    Image.fromarray(pixels).save(path, **settings)
    return path


def painted(i, size=SIZE, values=(0, 255)):
    """Return a mask whose left part, another in each, has the second value."""
    made = np.full(size, values[0], "uint8")
    made[:, : 5 + i] = values[1]
    return made


def mask(path, pixels, **settings):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **settings)
    return path


def fill(root, count=10, folders=("images", "masks"), end="", values=(0, 255), first=0):
    for i in range(first, first + count):
        image(root / folders[0] / f"p{i}.jpg", i)
        mask(root / folders[1] / f"p{i}{end}.png", painted(i, values=values))
    return root


def masks_of(splits):
    """Return the mask of each image by the stem of its name."""
    made = {}
    for part in splits.parts.values():
        for name, png in zip(part.ids, part.annotations["mask"], strict=True):
            with Image.open(io.BytesIO(png)) as image:
                made[name.rpartition("/")[2].partition(".")[0]] = np.asarray(image)
    return made
