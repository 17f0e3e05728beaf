"""How the four numbers of a box are written, and which ways fit the images they belong to."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from kerasft.data.annotations.boxes import ROUNDED
from kerasft.errors import UserError, nearest, some
from kerasft.system.console import listing

_Sides = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
# The corners that follow from the numbers: left, top, right and bottom.
FORMATS: Mapping[str, Callable[..., _Sides]] = {
    "xyxy": lambda left, top, right, bottom: (left, top, right, bottom),
    "yxyx": lambda top, left, bottom, right: (left, top, right, bottom),
    "xywh": lambda left, top, width, height: (left, top, left + width, top + height),
    "center_xywh": lambda x, y, width, height: (
        x - width / 2, y - height / 2, x + width / 2, y + height / 2
    ),
}  # fmt: skip
_NUMBERS = {
    "xyxy": "left, top, right, bottom", "yxyx": "top, left, bottom, right",
    "xywh": "left, top, width, height", "center_xywh": "the centre, width, height",
}  # fmt: skip
# A form fits if this part of all boxes lies in the images, and is out of the question if less
# than that does: annotations have slips.
_FITS, _FAILS = 0.99, 0.9
# What rounding may put a part of an image beyond 1.
_WHOLE = 1.01
# In images of so few pixels a side, boxes of a pixel may be meant.
_TINY = 8


def check_format(form: str | None, relative: bool | None) -> list[str]:
    """Return what is wrong with what the user says of boxes.

    Args:
        form: What `data.box_format` says; `None` for nothing.
        relative: What `data.relative` says; the same.

    Example:
        >>> check_format("rel_xyxy", None)[0].partition("Say it with ")[2]
        'data.box_format=xyxy data.relative=true.'
    """
    problems = []
    if form is not None and form not in FORMATS:
        parts = str(form).removeprefix("rel_")
        problems.append(
            f"data.box_format must be one of {list(FORMATS)}. Received: {form!r}."
            + (f" Say it with data.box_format={parts} data.relative=true."
               if parts in FORMATS else nearest(str(form), list(FORMATS)))
        )  # fmt: skip
    if relative is not None and not isinstance(relative, bool):
        problems.append(f"data.relative must be true or false. Received: {relative!r}.")
    return problems


def corners(
    numbers: np.ndarray, form: str, relative: bool, size: tuple[int, int]
) -> np.ndarray:
    """Return left, top, right and bottom of boxes, in pixels.

    Args:
        numbers: `float64[boxes, 4]`.
        form: One of `FORMATS`.
        relative: Whether they are parts of the image's width and height.
        size: Rows and columns of the image.

    Example:
        >>> corners(np.array([[8.0, 12, 16, 24]]), "xywh", False, (48, 64)).tolist()
        [[8.0, 12.0, 24.0, 36.0]]
    """
    with np.errstate(over="ignore", invalid="ignore"):  # what is no number is told as such
        found = np.stack(FORMATS[form](*numbers.T), axis=1)
        return found * [size[1], size[0], size[1], size[0]] if relative else found


def settled(
    boxes: Sequence[np.ndarray], sizes: Sequence[tuple[int, int]], form: str | None,
    relative: bool | None, *, unusual: bool,
) -> tuple[str, bool, list[str], str]:
    """Return how boxes are written: as the user says, or as alone fits their images.

    Args:
        boxes: `float64[boxes, 4]` of each image, as they were found.
        sizes: Rows and columns of each image.
        form: One of `FORMATS`; `None` where the user says nothing.
        relative: Whether they are parts of width and height; the same.
        unusual: Whether `yxyx` may be meant though nobody says so.

    Returns:
        The form, whether it is relative, sentences for the user, and one that says which other
        form fits where most boxes leave their images (empty if none).

    Raises:
        UserError: If nobody says the form and several fit, or none; if parts are said to be pixels.
    """
    every = np.concatenate([np.zeros((0, 4)), *boxes])
    every = every[np.isfinite(every).all(axis=1)]
    if not len(every):
        return form or "xyxy", bool(relative), [], ""
    parts = bool(np.mean(every <= _WHOLE) >= _FITS)
    if parts and relative is False and min(map(min, sizes)) > _TINY:
        raise UserError(
            f"The numbers of {some(len(every), 'box')} are from 0 to 1: they are parts of the "
            "image's sides, and not pixels. Set data.relative=true. Received: data.relative=false."
        )
    known = relative if relative is not None else parts
    unusual = unusual or known  # parts of images fit as well with sides swapped
    inside = {name: _inside(boxes, sizes, name, known) for name in FORMATS}
    fitting = [name for name, share in inside.items() if share >= _FITS]
    if form is None:
        return *_guessed(inside, known, len(every), unusual), ""
    said, instead = [], [name for name in fitting if unusual or name != "yxyx"]
    if known and not parts:
        way = " The numbers are pixels: set data.relative=false."
    elif form not in fitting and instead:
        way = f" Nearly all of them lie in their images as {_or(instead)}: set data.box_format="
        way += f"{instead[0]}." if len(instead) == 1 else "FORM."
        if inside[form] < _FAILS:
            said.append(
                f"{1 - inside[form]:.0%} of {some(len(every), 'box')} leave their images with "
                f"data.box_format={form}.{way}"
            )
    else:
        way = ""
    return form, known, said, way


def _guessed(
    inside: Mapping[str, float], relative: bool, count: int, unusual: bool
) -> tuple[str, bool, list[str]]:
    """Return the one form that fits, or ask for it."""
    asked = {name: share for name, share in inside.items() if unusual or name != "yxyx"}
    fitting = [name for name, share in asked.items() if share >= _FITS]
    others = [name for name in asked if name not in fitting]
    if len(fitting) == 1 and all(asked[name] < _FAILS for name in others):
        ways = f"{fitting[0]} ({_NUMBERS[fitting[0]]}{', in parts of the image' * relative})"
        return fitting[0], relative, [
            f"data.box_format says nothing of the boxes, which are taken as {ways}: no other form "
            "keeps them in their images."
        ]
    possible = [name for name, share in asked.items() if share >= _FAILS]
    raise UserError(
        "data.box_format must say what the four numbers of a box mean. "
        + (f"The boxes fit their images as {_or(possible)}." if possible else
           f"Of {some(count, 'box')}, few lie in their images in any form ("
           f"{listing(f'{name}: {share:.0%}' for name, share in asked.items())}).")
        + " Data sets of the Hub mostly hold xywh, as COCO does. Received: nothing."
    )  # fmt: skip


def _or(names: Sequence[str]) -> str:
    return " or ".join(f"{name} ({_NUMBERS[name]})" for name in names)


def _inside(
    boxes: Sequence[np.ndarray], sizes: Sequence[tuple[int, int]], form: str, relative: bool
) -> float:
    """Return the part of boxes that have a size and lie in their images."""
    good = count = 0
    for numbers, (rows, columns) in zip(boxes, sizes, strict=True):
        if not len(numbers):
            continue
        left, top, right, bottom = corners(numbers, form, relative, (rows, columns)).T
        sized = (right > left) & (bottom > top)
        within = (np.minimum(left, top) >= -ROUNDED) & (right <= columns + ROUNDED) & (
            bottom <= rows + ROUNDED)  # fmt: skip
        good += int((sized & within).sum())
        count += int(np.isfinite(numbers).all(axis=1).sum())
    return good / max(count, 1)
