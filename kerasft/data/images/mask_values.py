"""What the values of mask files mean: grey values, indices of a palette, or colours."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kerasft.data.annotations.classes import checked_names
from kerasft.data.current_read import begins
from kerasft.data.images.audit import sniff, sniff_file
from kerasft.data.images.held import Image, as_input
from kerasft.errors import UserError, some
from kerasft.spec import IGNORED
from kerasft.system.console import listing

# More values than this are hardly classes that nobody has named.
MOST_UNNAMED = 64
# What a mask file, an image like others, can raise when it is damaged.
DAMAGED = (OSError, ValueError, SyntaxError, EOFError)
# On a command line, keys cannot begin with #.
_COLOUR = re.compile(r"(?:#|0x)([0-9a-fA-F]{6})")
# The bit that tells colours from grey values.
_COLOURED = 1 << 24


class Odd(Exception):
    """A mask that cannot be used; its text says why."""


class Unnamed(Odd):
    """A mask with values that are of no class, which is a matter of all masks, not of this one."""


@dataclass(frozen=True)
class Table:
    """Which class each value is.

    Args:
        names: The classes, in the order of their numbers.
        values: `int64[values]`, sorted: grey values, or colours with a bit of their own.
        classes: `uint8[values]`, the number of the class of each, or `IGNORED`.
    """

    names: tuple[str, ...]
    values: np.ndarray
    classes: np.ndarray

    @classmethod
    def of(cls, meanings: Mapping[int, str | None]) -> Table:
        """Return the table of values and the names of their classes, `None` for what is ignored."""
        names = tuple(dict.fromkeys(name for name in meanings.values() if name is not None))
        if len(names) > IGNORED:
            raise UserError(f"Masks may have {IGNORED} classes. Received: {len(names)}.")
        checked_names(names)
        values = sorted(meanings)
        found = [meanings[value] for value in values]
        classes = [IGNORED if name is None else names.index(name) for name in found]
        return cls(names, np.array(values, "int64"), np.array(classes, "uint8"))

    @property
    def coloured(self) -> bool:
        """Whether values are colours."""
        return bool((self.values >= _COLOURED).any())

    def read(self, mask: Image, max_pixels: int) -> np.ndarray:
        """Return the classes of a mask, `uint8[rows, columns]`.

        Raises:
            Odd: If it cannot be read, or has values that mean nothing.
        """
        values = values_of(mask, max_pixels, coloured=self.coloured)
        places = np.searchsorted(self.values, values).clip(max=len(self.values) - 1)
        strange = np.unique(values[self.values[places] != values])
        if len(strange):
            found = f"values without a class: {listing(map(said, strange.tolist()))}"
            raise Unnamed(f"{found} (it is a JPEG file, whose compression changes values at each "
                          "border: save masks as PNG)" if _is_jpeg(mask) else found)  # fmt: skip
        return self.classes[places]


def said(value: int) -> str:
    """Return a value as users write it: a number, or a colour as #rrggbb."""
    return f"#{value - _COLOURED:06x}" if value >= _COLOURED else str(value)


def values_of(mask: Image, max_pixels: int, *, coloured: bool) -> np.ndarray:
    """Return the values of a mask, `int64[rows, columns]`.

    Args:
        mask: The file of an image, or its encoded bytes.
        max_pixels: The most pixels that it may have.
        coloured: Whether the colours of a palette count, not their numbers.

    Raises:
        Odd: If it cannot be read.
    """
    import PIL.Image

    read = as_input(mask)
    if isinstance(read, str):
        begins(read)
    try:
        with PIL.Image.open(io.BytesIO(read) if isinstance(read, bytes) else read) as image:
            if image.width * image.height > max_pixels:
                raise Odd(f"more than {max_pixels:,} pixels")
            plain = image.mode in ("1", "L", "I", "I;16", "I;16B") or (
                image.mode == "P" and not coloured
            )
            if plain:
                return np.asarray(image).astype("int64")
            if image.mode == "F":
                numbers = np.asarray(image)
                if not (numbers == np.rint(numbers)).all():
                    raise Odd("its values are no whole numbers")
                return numbers.astype("int64")
            channels = np.asarray(image.convert("RGB")).astype("int64")
    except (*DAMAGED, PIL.Image.DecompressionBombError) as error:
        raise Odd(f"it cannot be read ({str(error)[:80]})") from error
    red, green, blue = channels[..., 0], channels[..., 1], channels[..., 2]
    # Grey that was saved in three channels.
    if not coloured and bool(((red == green) & (green == blue)).all()):
        return red
    return _COLOURED + (red << 16) + (green << 8) + blue


def meaning(classes: Any, ignore: Any) -> dict[int, str | None] | None:
    """Return what the user says that values mean; `None` where no class is named.

    Args:
        classes: The names of the values 0, 1, 2, ... as a list, or a name for each value or colour.
        ignore: Values or colours that are neither learned nor counted: one, several or `None`.

    Raises:
        UserError: If they are none of that.

    Example:
        >>> meaning({0: "ground", "0xff0000": "roof"}, 255)
        {0: 'ground', 33488896: 'roof', 255: None}
    """
    ignored = _ignored(ignore)
    if classes is None:
        return None
    if isinstance(classes, Mapping):
        named = {_value(value, "data.classes"): _name(value, name)
                 for value, name in classes.items()}  # fmt: skip
    elif isinstance(classes, list | tuple):
        named = {value: _name(value, name) for value, name in enumerate(classes)}
    else:
        raise UserError(
            "data.classes must be a list of names, of the values 0, 1, 2 and so on, or say the "
            "name of each value, such as {0: background, 255: nucleus} or {0xff0000: roof}. "
            f"Received: {classes!r}."
        )
    if not named:
        raise UserError("data.classes names no class.")
    if both := named.keys() & ignored.keys():
        raise UserError(
            f"data.ignore and data.classes both list {listing(map(said, sorted(both)))}. A value "
            "is a class, or it is ignored."
        )
    return {**named, **ignored}


def listed_meaning(names: Sequence[str], ignore: Any) -> dict[int, str | None]:
    """Return what values mean where the data brings the names of 0, 1, 2 and so on.

    Args:
        names: The names.
        ignore: See `meaning`; values that have a name may be among them.

    Example:
        >>> listed_meaning(["unlabeled", "road"], [0, 255])
        {1: 'road', 0: None, 255: None}
    """
    ignored = _ignored(ignore)
    return {**{n: name for n, name in enumerate(names) if n not in ignored}, **ignored}


def found_meaning(
    masks: Sequence[tuple[str, Image]], ignore: Any, max_pixels: int
) -> tuple[dict[int, str | None], str]:
    """Return classes for values that nobody has named, and a sentence for the user.

    Args:
        masks: Each mask with its name, a file or its encoded bytes.
        ignore: See `meaning`.
        max_pixels: The most pixels that a mask may have.

    Raises:
        UserError: If these are no values of classes.
    """
    values = _found_values(masks, max_pixels)
    ignored = _ignored(ignore)
    classes = sorted(value for value in values if value not in ignored)
    shown = listing(f"{said(value)} ({values[value]})" for value in classes[:12])
    how = ("Name them: data.classes={0: background, 255: nucleus}, or {0xff0000: roof, ...} for "
           "colours.")  # fmt: skip
    lossy = [name for name, mask in masks if _is_jpeg(mask)]
    if lossy and len(classes) > 2:
        raise UserError(
            f"{some(len(lossy), 'mask')} are JPEG files ({listing(lossy, 3)}), whose compression "
            f"changes values at each border: {len(classes):,} values were found. Save masks as PNG."
        )
    if any(value >= _COLOURED for value in classes):
        raise UserError(f"The masks are colours, and nobody says which class each is: {shown}. "
                        f"{how}")  # fmt: skip
    if len(classes) > MOST_UNNAMED:
        raise UserError(
            f"The masks have {len(classes):,} values: these look like numbers of objects, and not "
            f"of classes. {how}"
        )
    if not classes:
        raise UserError("All values of the masks are in data.ignore.")
    if len(classes) == 2 and classes[0] == 0:
        names = {0: "background", classes[1]: "foreground"}
    else:
        names = {value: str(value) for value in classes}
    told = ", ".join(f"{value}: {name}" for value, name in names.items())
    return {**names, **ignored}, (
        f"data.classes says nothing of the values of the masks, which are taken as {{{told}}}."
    )


def _found_values(
    masks: Sequence[tuple[str, Image]], max_pixels: int
) -> dict[int, str]:
    """Return each value that masks have, and one that has it."""
    found: dict[int, str] = {}
    for name, mask in masks:
        try:
            values = np.unique(values_of(mask, max_pixels, coloured=False)).tolist()
        except Odd:  # told when the masks are read
            continue
        for value in values:
            found.setdefault(value, name)
    return found


def _is_jpeg(mask: Image) -> bool:
    # The name of a file may say something else.
    if isinstance(mask, Path):
        return sniff_file(mask) == "JPEG"
    return sniff((mask if isinstance(mask, bytes) else mask.read())[:32]) == "JPEG"


def _name(value: object, name: object) -> str:
    if name is None or not str(name).strip():
        raise UserError(
            f"data.classes gives the value {value} no name. Name it, or leave it out by "
            f"data.ignore={value}. Received: {name!r}."
        )
    return str(name)


def _ignored(ignore: Any) -> dict[int, str | None]:
    skipped = ignore if isinstance(ignore, list | tuple) else [] if ignore is None else [ignore]
    return {_value(one, "data.ignore"): None for one in skipped}


def _value(given: Any, key: str) -> int:
    """Return a value or a colour as one number."""
    text = str(given).strip()
    if isinstance(given, str) and (colour := _COLOUR.fullmatch(text)):
        return _COLOURED + int(colour[1], 16)
    if not isinstance(given, bool) and text.isdecimal() and int(text) < 2**16:
        return int(text)
    raise UserError(
        f"{key}: the values of a mask are whole numbers from 0 to 65535, or colours as 0xrrggbb. "
        f"Received: {given!r}."
    )
