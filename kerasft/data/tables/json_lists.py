"""Lists of objects in JSON, read a part at a time."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

from kerasft.data.tables.readers import Twice

_BLANKS = re.compile(r"[ \t\n\r]*")


class NoList(Exception):
    """The text is not plainly one list of objects: reading it whole says what it is."""


def objects_in(texts: Iterable[tuple[str, bool]], twice: Twice) -> Iterator[list[dict[str, Any]]]:
    """Yield the objects of a list, those that end in each part of its text together.

    Args:
        texts: The text, cut anywhere, and whether more of it follows.
        twice: Remembers names that an object holds twice.

    Raises:
        NoList: If it is not one list, of objects alone.

    Example:
        >>> list(objects_in([('[{"a": 1}, {"a"', True), (": 2}]", False)], Twice()))
        [[{'a': 1}], [{'a': 2}]]
    """
    decode = json.JSONDecoder(object_pairs_hook=twice).raw_decode
    held, wanted = "", 0
    allowed = "["  # what may come next
    for text, more in texts:
        held += text
        if more and len(held) < wanted:
            continue
        found, place = [], 0
        while (place := _end_of_blanks(held, place)) < len(held):
            sign = held[place]
            if sign not in allowed or not allowed:
                raise NoList
            if sign == "{":
                named = len(twice.names)
                try:
                    one, place = decode(held, place)
                except (ValueError, RecursionError) as error:
                    if not more:
                        raise NoList from error
                    del twice.names[named:]  # it may go on in the next part, and is read again
                    break
                found.append(one)
                allowed = ",]"
            else:
                place += 1
                allowed = {"[": "{]", ",": "{", "]": ""}[sign]
        # An object that does not end is not read again and again.
        wanted = 0 if place else 2 * len(held)
        held = held[place:]
        yield found
    if allowed:
        raise NoList


def _end_of_blanks(text: str, place: int) -> int:
    found = _BLANKS.match(text, place)
    return place if found is None else found.end()
