"""Images as a network sees them, side by side with what it learns of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kerasft.evaluation.drawing import GREY, drawable, font
from kerasft.evaluation.images import colour_of, is_background, outlined, overlaid
from kerasft.spec import IGNORED
from kerasft.system.files import written_whole

if TYPE_CHECKING:
    from PIL import Image

# The width of a sheet, and the longest side of an image on it: of any, of one that is enlarged,
# and of one beside many others; all in pixels.
WIDTH, SIDE, ENLARGED, LEAST, GAP = 1320, 420, 224, 96, 12
# Heights of letters, and the most lines that say what is learned.
WORDS, NOTE, LINES = 15, 12, 3
INK = "#22262b"


@dataclass(frozen=True)
class Cell:
    """An image of the sheet.

    Args:
        image: `uint8[height, width, channels]`.
        words: What is learned of it, below the image.
        note: Where it is from, in small letters below that; its beginning goes where there is no
            room.
        objects: Boxes that are learned: `label` and `box`, in pixels of the image.
        ignored: Boxes of regions in which nothing is learned.
        mask: The class of each pixel, `uint8[height, width]`; 255 where nothing is learned.
    """

    image: np.ndarray
    words: str
    note: str = ""
    objects: Sequence[Mapping[str, Any]] = ()
    ignored: Sequence[Mapping[str, Any]] = ()
    mask: np.ndarray | None = None


def draw(
    cells: Sequence[Cell], names: Sequence[str], path: str | Path, *, columns: int | None = None
) -> Path:
    """Write images of one size as one PNG, and return the file.

    Small images are enlarged by a whole factor, so that their pixels can be told; large ones are
    shrunk.

    Args:
        cells: The images, row by row.
        names: The names of all classes, which give boxes and masks their colours.
        path: The file.
        columns: How many are in a row; by default as many as fill rows best.
    """
    from PIL import Image, ImageDraw

    side = SIDE if columns is None else max(LEAST, min(SIDE, WIDTH // columns - GAP))
    scale = _scale(max(cells[0].image.shape[:2]), side)
    size = _times(cells[0].image, scale)
    columns = columns or _columns(len(cells), size[0])
    room = max(size[0], LEAST)
    words = [_lines(cell.words, room) for cell in cells]
    legend = _legend(cells, names)
    below = max(map(len, words)) * (WORDS + 4) + (NOTE + 4 if any(c.note for c in cells) else 0)
    across = columns * (room + GAP) + GAP
    marks = _placed(legend, across)
    height = -(-len(cells) // columns) * (size[1] + below + GAP) + GAP
    sheet = Image.new("RGB", (across, height + _height(marks)), "white")
    pen = ImageDraw.Draw(sheet)
    for i, (cell, lines) in enumerate(zip(cells, words, strict=True)):
        row, column = divmod(i, columns)
        left, top = GAP + column * (room + GAP), GAP + row * (size[1] + below + GAP)
        sheet.paste(_image(cell, names, size, scale), (left, top))
        top += size[1] + 2
        for line in lines:
            pen.text((left, top), line, fill=INK, font=font(WORDS))
            top += WORDS + 4
        pen.text((left, top), _end_of(cell.note, room), fill=GREY, font=font(NOTE))
    for left, place, name, colour in marks:
        top = height + place * (WORDS + 8)
        pen.rectangle((left, top + 2, left + WORDS, top + 2 + WORDS), fill=colour)
        pen.text((left + WORDS + 6, top), name, fill=INK, font=font(WORDS))
    with written_whole(path) as part:
        sheet.save(part, "PNG")
    return Path(path)


def _scale(longest: int, side: int) -> float:
    return side / longest if longest > side else float(max(1, min(side, ENLARGED) // longest))


def _times(image: np.ndarray, scale: float) -> tuple[int, int]:
    """Return the width and the height of an image at a scale."""
    return max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale))


def _columns(count: int, width: int) -> int:
    """Return how many images in a row leave the fewest places empty."""
    most = max(1, min(count, WIDTH // (width + GAP)))
    return min(range(-(-3 * most // 4), most + 1), key=lambda n: (-count % n, -n))


def in_colours(image: np.ndarray) -> np.ndarray:
    """Return an image of any channels as one of three: grey repeated, alpha left out.

    Example:
        >>> in_colours(np.zeros((2, 3, 1), "uint8")).shape
        (2, 3, 3)
    """
    if image.shape[-1] < 3:
        return np.repeat(image[..., :1], 3, axis=-1)
    return image[..., :3]


def _image(
    cell: Cell, names: Sequence[str], size: tuple[int, int], scale: float
) -> Image.Image:
    from PIL import Image

    pixels = Image.fromarray(in_colours(cell.image))
    method = Image.Resampling.LANCZOS if scale < 1 else Image.Resampling.NEAREST
    pixels = pixels.resize(size, method)
    if cell.mask is not None:
        mask = Image.fromarray(cell.mask).resize(size, Image.Resampling.NEAREST)
        pixels = overlaid(pixels, np.asarray(mask), names)

    def scaled(found: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        return [{**one, "box": [side * scale for side in one["box"]]} for one in found]

    # Whose the boxes are, the legend says: names on each would hide what is below them.
    ignored = [{**one, "ignored": True} for one in scaled(cell.ignored)]
    return outlined(pixels, scaled(cell.objects), names, ignored, named=False)


def _legend(cells: Sequence[Cell], names: Sequence[str]) -> list[tuple[str, str]]:
    """Return the names and colours of what is drawn on images, if anything is."""
    found: list[tuple[str, str]] = []
    if any(cell.objects or cell.mask is not None for cell in cells):
        found = [(drawable(name, 30), colour_of(i)) for i, name in enumerate(names)
                 if not is_background(name)]  # fmt: skip
    ignored = any(c.ignored or (c.mask is not None and (c.mask == IGNORED).any()) for c in cells)
    return [*found, ("ignored", GREY)] if ignored else found


def _placed(legend: Sequence[tuple[str, str]], width: int) -> list[tuple[int, int, str, str]]:
    """Return the left side and the line of each name of the legend."""
    made = []
    left, line = GAP, 0
    for name, colour in legend:
        takes = WORDS + 6 + round(font(WORDS).getlength(name)) + 2 * GAP
        if left > GAP and left + takes > width:
            left, line = GAP, line + 1
        made.append((left, line, name, colour))
        left += takes
    return made


def _height(marks: Sequence[tuple[int, int, str, str]]) -> int:
    return (marks[-1][1] + 1) * (WORDS + 8) + GAP if marks else 0


def _lines(words: str, room: int) -> list[str]:
    """Break words into lines of a width; what does not fit into the last one is left out."""
    letters = font(WORDS)
    lines = [""]
    for word in drawable(words, 400).split(" "):
        longer = f"{lines[-1]} {word}".strip()
        if letters.getlength(longer) <= room or not lines[-1]:
            lines[-1] = longer
        else:
            lines.append(word)
    if len(lines) > LINES:
        lines = [*lines[: LINES - 1], lines[LINES - 1] + " …"]
    return [_beginning_of(line, room) for line in lines]


def _beginning_of(line: str, room: int) -> str:
    letters = font(WORDS)
    if letters.getlength(line) <= room:
        return line
    while line and letters.getlength(line + "…") > room:
        line = line[:-1]
    return line + "…"


def _end_of(note: str, room: int) -> str:
    letters = font(NOTE)
    note = drawable(note, 400)
    if letters.getlength(note) <= room:
        return note
    while note and letters.getlength("…" + note) > room:
        note = note[1:]
    return "…" + note
