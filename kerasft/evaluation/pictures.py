"""Pictures with the boxes that were found in them, and those that are there."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kerasft.evaluation.drawing import BLUE, GREEN, GREY, ORANGE, readable
from kerasft.raw_input import as_decodable
from kerasft.system.files import written_whole

if TYPE_CHECKING:
    from PIL import Image

# One after the other for the classes, in the order of their names.
COLOURS = (ORANGE, BLUE, "#b3305e", "#7a4fb5", "#0f8b8d", "#8a6d1a")
# The longer side of a picture in a grid, and how many there are in a row.
SIDE, COLUMNS, GAP = 420, 3, 8


def opened(picture: str | bytes) -> Image.Image:
    """Return a picture as it is seen, in colours."""
    from PIL import Image, ImageOps

    content = picture if isinstance(picture, bytes) else Path(picture).read_bytes()
    with Image.open(io.BytesIO(as_decodable(content))) as image:
        return ImageOps.exif_transpose(image).convert("RGB")


def outlined(
    image: Image.Image, objects: Sequence[Mapping[str, Any]], names: Sequence[str],
    true: Sequence[Mapping[str, Any]] | None = None,
) -> Image.Image:
    """Return a picture with boxes drawn on it.

    Args:
        image: The picture.
        objects: What was found: `label`, `score` and `box` of each.
        names: The names of all classes, which give each its colour.
        true: What is there, drawn below in green, thick; ignored regions in grey.
    """
    from PIL import ImageDraw, ImageFont

    made = image.copy()
    pen = ImageDraw.Draw(made)
    thin = max(1, round(max(made.size) / 400))
    height = max(10, round(max(made.size) / 45))
    font = ImageFont.load_default(height)
    for one in true or ():
        colour = GREY if one.get("ignored") else GREEN
        pen.rectangle(_inside(one["box"], made), outline=colour, width=3 * thin)
    for one in reversed(objects):  # the surest on top
        colour = COLOURS[names.index(one["label"]) % len(COLOURS)]
        box = _inside(one["box"], made)
        pen.rectangle(box, outline=colour, width=thin)
        words = readable(one["label"], 24) + (f" {one['score']:.2f}" if "score" in one else "")
        place = (box[0] + thin, max(0.0, box[1] - height - 2))
        pen.rectangle(pen.textbbox(place, words, font=font), fill=colour)
        pen.text(place, words, fill="white", font=font)
    return made


def _inside(box: Sequence[float], image: Image.Image) -> tuple[float, ...]:
    """Return a box whose lines all lie in the picture."""
    left, top, right, bottom = box
    return left, top, max(left, min(right, image.width - 1)), max(
        top, min(bottom, image.height - 1)
    )


def grid(images: Sequence[Image.Image], path: str | Path) -> Path:
    """Write pictures side by side as one PNG, and return the file."""
    from PIL import Image

    small = []
    for image in images:
        scale = SIDE / max(image.size)
        size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        small.append(image.resize(size, Image.Resampling.LANCZOS))
    rows = [small[i : i + COLUMNS] for i in range(0, len(small), COLUMNS)]
    heights = [max(image.height for image in row) + GAP for row in rows]
    width = min(len(small), COLUMNS) * (SIDE + GAP) + GAP
    whole = Image.new("RGB", (width, sum(heights) + GAP), "white")
    for row, images_of_row in enumerate(rows):
        for column, image in enumerate(images_of_row):
            whole.paste(image, (GAP + column * (SIDE + GAP), GAP + sum(heights[:row])))
    with written_whole(path) as part:
        whole.save(part, "PNG")
    return Path(path)


def write_each(
    rows: Sequence[Mapping[str, Any]], inputs: Sequence[Any], folder: str | Path
) -> list[Path]:
    """Write each picture with what was found in it, as PNG.

    Args:
        rows: Answers with `objects`.
        inputs: The pictures.
        folder: Where they go; it is made if it is not there.

    Returns:
        The files, one a picture.
    """
    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    names = sorted({one["label"] for row in rows for one in row["objects"]})
    taken: set[str] = set()
    made = []
    for i, (row, picture) in enumerate(zip(rows, inputs, strict=True)):
        stem = f"picture_{i + 1}" if isinstance(picture, bytes) else Path(picture).stem
        name = stem if stem not in taken else f"{stem}_{i + 1}"
        taken.add(name)
        image = outlined(opened(picture), row["objects"], names)
        with written_whole(place / f"{name}.png") as part:
            image.save(part, "PNG")
        made.append(place / f"{name}.png")
    return made
