"""Images with the boxes or masks that were found in them, and those that are there."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from colorsys import hls_to_rgb
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kerasft.evaluation.drawing import BLUE, GREEN, GREY, ORANGE, drawable, font
from kerasft.raw_input import as_decodable, values_of
from kerasft.spec import IGNORED
from kerasft.system.files import written_whole

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

# One after the other for the classes, in the order of their names.
COLOURS = (ORANGE, BLUE, "#b3305e", "#7a4fb5", "#0f8b8d", "#8a6d1a")
# The longer side of an image in a grid, and how many there are in a row.
SIDE, COLUMNS, GAP = 420, 3, 8


def colour_of(place: int) -> str:
    """Return the colour of a class by its number; those beyond the first few differ in hue.

    Example:
        >>> colour_of(1) == BLUE, colour_of(6) != colour_of(7)
        (True, True)
    """
    if place < len(COLOURS):
        return COLOURS[place]
    # Multiples of the golden ratio come nowhere near each other for long.
    hue = (place * 0.618034) % 1.0
    lightness = (0.42, 0.56, 0.32)[place % 3]
    return "#" + "".join(f"{round(255 * part):02x}" for part in hls_to_rgb(hue, lightness, 0.6))


def opened(image: str | bytes) -> Image.Image:
    """Return an image as it is seen, in colours."""
    from PIL import Image, ImageOps

    content = image if isinstance(image, bytes) else Path(image).read_bytes()
    with Image.open(io.BytesIO(as_decodable(content))) as stored:
        return ImageOps.exif_transpose(stored).convert("RGB")


def outlined(
    image: Image.Image, objects: Sequence[Mapping[str, Any]], names: Sequence[str],
    true: Sequence[Mapping[str, Any]] | None = None, *, named: bool = True,
) -> Image.Image:
    """Return an image with boxes drawn on it.

    Args:
        image: The image.
        objects: What was found: `label` and `box` of each, and `score` where there is one.
        names: The names of all classes, which give each its colour.
        true: What is there, drawn below in green, thick; ignored regions in grey.
        named: Whether each box has its label on it.
    """
    from PIL import ImageDraw

    made = image.copy()
    pen = ImageDraw.Draw(made)
    thin = max(1, round(max(made.size) / 400))
    height = max(10, round(max(made.size) / 45))
    letters = font(height)
    for one in true or ():
        colour = GREY if one.get("ignored") else GREEN
        pen.rectangle(_inside(one["box"], made), outline=colour, width=3 * thin)
    for one in reversed(objects):  # the surest on top
        colour = colour_of(names.index(one["label"]))
        box = _inside(one["box"], made)
        pen.rectangle(box, outline=colour, width=thin)
        if not named:
            continue
        words = drawable(one["label"], 24) + (f" {one['score']:.2f}" if "score" in one else "")
        place = (box[0] + thin, max(0.0, box[1] - height - 2))
        pen.rectangle(pen.textbbox(place, words, font=letters), fill=colour)
        pen.text(place, words, fill="white", font=letters)
    return made


def _inside(box: Sequence[float], image: Image.Image) -> tuple[float, ...]:
    """Return a box whose lines all lie in the image."""
    left, top, right, bottom = box
    return left, top, max(left, min(right, image.width - 1)), max(
        top, min(bottom, image.height - 1)
    )


def is_background(name: str) -> bool:
    """Whether a class is what lies around all others, and is not drawn."""
    return name.casefold() == "background"


def palette(names: Sequence[str]) -> list[tuple[int, int, int]]:
    """Return the colour of each class; black for one that is called background."""
    from PIL import ImageColor

    return [
        (0, 0, 0) if is_background(name) else ImageColor.getrgb(colour_of(place))[:3]
        for place, name in enumerate(names)
    ]


def overlaid(
    image: Image.Image, mask: np.ndarray, names: Sequence[str], opacity: float = 0.5
) -> Image.Image:
    """Return an image with a mask laid over it; what is ignored is grey, background left as it is.

    Args:
        image: An image of the size of the mask.
        mask: `uint8[rows, columns]`, the class of each pixel, or `IGNORED`.
        names: The classes.
        opacity: How much of the image the colour of a class hides, from 0 to 1; its border is
            drawn in full.
    """
    import numpy as np
    from PIL import Image, ImageColor

    colours = np.zeros((256, 3))
    colours[: min(len(names), IGNORED)] = palette(names[:IGNORED])
    colours[IGNORED] = ImageColor.getrgb(GREY)
    shown = np.isin(mask, [i for i, name in enumerate(names) if not is_background(name)])
    shown |= mask == IGNORED
    edge = np.zeros(mask.shape, bool)
    edge[:, 1:] |= mask[:, 1:] != mask[:, :-1]
    edge[1:] |= mask[1:] != mask[:-1]
    share = np.where(edge & shown, 1.0, np.where(shown, opacity, 0.0))[..., None]
    pixels = np.asarray(image, "float64") * (1 - share) + colours[mask] * share
    return Image.fromarray(pixels.round().astype("uint8"))


def legend(names: Sequence[str], words: str = "") -> Image.Image:
    """Return an image that says which colour each class has.

    Args:
        names: The classes.
        words: What else is to be said, below them.
    """
    from PIL import Image, ImageDraw

    size, width = 22, COLUMNS * (SIDE + GAP) - GAP
    letters = font(size)
    made = Image.new("RGB", (width, 2 * size * (2 + len(names))), "white")
    pen = ImageDraw.Draw(made)
    x, y = 0, size // 2
    for name, colour in zip(names, palette(names), strict=True):
        named = drawable(name, 24)
        room = round(pen.textlength(named, font=letters)) + 3 * size
        if x and x + room > width:
            x, y = 0, y + 2 * size
        fill = "white" if is_background(name) else colour
        pen.rectangle((x, y, x + size, y + size), fill=fill, outline=GREY)
        pen.text((x + size + 8, y - 3), named, fill="black", font=letters)
        x += room
    if words:
        y += 2 * size
        pen.text((0, y - 3), words, fill="black", font=letters)
    return made.crop((0, 0, width, y + 2 * size))


def grid(
    images: Sequence[Image.Image], path: str | Path, *, below: Image.Image | None = None
) -> Path:
    """Write images side by side as one PNG, and return the file.

    Args:
        images: The images.
        path: The file.
        below: What stands under all of them, as wide as they are.
    """
    from PIL import Image

    small = []
    for image in images:
        scale = SIDE / max(image.size)
        size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        small.append(image.resize(size, Image.Resampling.LANCZOS))
    rows = [small[i : i + COLUMNS] for i in range(0, len(small), COLUMNS)]
    heights = [max(image.height for image in row) + GAP for row in rows]
    width = min(len(small), COLUMNS) * (SIDE + GAP) + GAP
    foot = GAP if below is None else GAP + below.height
    whole = Image.new("RGB", (width, sum(heights) + foot), "white")
    for row, images_of_row in enumerate(rows):
        for column, image in enumerate(images_of_row):
            whole.paste(image, (GAP + column * (SIDE + GAP), GAP + sum(heights[:row])))
    if below is not None:
        whole.paste(below, (GAP, sum(heights) + GAP))
    return _save(whole, Path(path))


def write_each(
    rows: Sequence[Mapping[str, Any]], inputs: Sequence[Any], folder: str | Path, *,
    names: Sequence[str] = (), taken: set[str] | None = None, first: int = 0,
) -> list[Path]:
    """Write each image with what was found in it, as PNG; masks also by themselves.

    Args:
        rows: Answers with `objects`, or with `png_bytes` and the `shares` of the classes.
        inputs: The images.
        folder: Where they go; it is made if it is not there. A mask is `NAME_mask.png`, whose
            values are the numbers of the classes, with a palette to look at.
        names: The classes, each of which has its colour; those that were found by default.
        taken: The names of files that are there already, without suffix; those that are written
            are added.
        first: How many images there have been before these.

    Returns:
        The files, one an image.
    """
    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    names = names or sorted({one["label"] for row in rows for one in row.get("objects", ())})
    taken = set() if taken is None else taken
    made = []
    for i, (row, source) in enumerate(zip(rows, inputs, strict=True), first):
        stem = f"image_{i + 1}" if isinstance(source, bytes) else Path(source).stem
        name = stem if stem not in taken else f"{stem}_{i + 1}"
        taken.add(name)
        image = opened(source)
        if "objects" in row:
            image = outlined(image, row["objects"], names)
        else:
            mask, classes = values_of(row["png_bytes"]), list(row["shares"])
            _save(_with_palette(mask, classes), place / f"{name}_mask.png")
            image = overlaid(image, mask, classes)
        made.append(_save(image, place / f"{name}.png"))
    return made


def _with_palette(mask: np.ndarray, names: Sequence[str]) -> Image.Image:
    """Return a mask whose pixels are the numbers of classes, each with its colour."""
    from PIL import Image

    made = Image.fromarray(mask).convert("P")
    made.putpalette([side for colour in palette(names) for side in colour])
    return made


def _save(image: Image.Image, path: Path) -> Path:
    with written_whole(path) as part:
        image.save(part, "PNG")
    return path
