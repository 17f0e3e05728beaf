"""Texts of lists, such as `['red', 'blue']` in a cell of a CSV file."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from typing import Any

_CLOSES = {"[": "]", "(": ")", "{": "}"}
# What numpy and pandas put around a list, and numpy around each of its numbers.
_WRAPPER = re.compile(
    r"(?:np\.)?(?:array|set|frozenset|list|tuple|Index)\((.*?)(?:,\s*dtype=.*)?\)", re.S
)
_SCALAR = re.compile(r"np\.\w+\(([^()]*)\)")
_ITEM = re.compile(
    r"""\s*(?:[bu]?("(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')|([^\s,:'"\[\](){}][^,:'"\[\](){}]*))\s*(,)?""",
    re.S,
)
_WORDS = {"true": True, "false": False, "none": None, "null": None, "nan": None}


@dataclass(frozen=True)
class Cell:
    """A text, and the list that it may be.

    Args:
        text: The text.
        bracketed: Whether brackets are around it.
        items: The items between them, or `None` where they cannot be read.
        quoted: Whether an item is quoted, which no class name has by chance.
    """

    text: str
    bracketed: bool = False
    items: list[Any] | None = None
    quoted: bool = False

    @classmethod
    def read(cls, text: str) -> Cell:
        """Read a text as Python, JSON, numpy or PostgreSQL write a list."""
        inner = text.strip()
        if wrapped := _WRAPPER.fullmatch(inner):
            inner = wrapped[1].strip() or "[]"
        if len(inner) < 2 or _CLOSES.get(inner[0]) != inner[-1]:
            return cls(text)
        inner, place, items, quoted = _SCALAR.sub(r"\1", inner[1:-1]).rstrip(), 0, [], False
        while place < len(inner):
            item = _ITEM.match(inner, place)
            if item is None or "..." in (item[2] or ""):
                return cls(text, True, None, quoted or '"' in inner or "'" in inner)
            if item[1]:
                items.append(_unquoted(item[1]))
                quoted = True
            else:
                items.extend(_bare(item[2].strip()))
            place = item.end()
        return cls(text, True, items, quoted)

    def known(self, names: set[str], delimiter: str | None) -> bool:
        """Return whether the text is made of names that the user listed, whatever it looks like."""
        parts = self.text.split(delimiter) if delimiter else [self.text]
        return self.text in names or all(part.strip() in names for part in parts)


def _unquoted(item: str) -> str:
    if "\\" not in item:
        return item[1:-1]
    escaped = re.sub(r"\\/", "/", item)  # JSON alone escapes it
    try:
        # Backslashes that escape nothing stay what they are.
        return ast.literal_eval(re.sub(r"\\(?![\\'\"abfnrtvxuU0-7])", r"\\\\", escaped))
    except (SyntaxError, ValueError):
        return item[1:-1]


def _bare(item: str) -> list[Any]:
    pieces = [value_of(piece) for piece in item.split()]
    if len(pieces) > 1 and not any(isinstance(piece, str) for piece in pieces):
        return pieces  # numpy separates numbers by blanks
    return [value_of(item)]


def value_of(word: str) -> Any:
    """Return the number or truth value that a word stands for, `None` for a missing one, or it."""
    if word.casefold() in _WORDS:
        return _WORDS[word.casefold()]
    if re.fullmatch(r"[+-]?\d{1,18}", word):
        return int(word)
    if re.fullmatch(r"[+-]?(\d+\.\d*|\.\d+|\d+)(e[+-]?\d+)?", word, re.I):
        return float(word)
    return word
