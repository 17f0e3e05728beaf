"""Parses lists in text cells, such as `['red', 'blue']` in a CSV file."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from typing import Any

_CLOSES = {"[": "]", "(": ")", "{": "}"}
# What numpy, pandas and others put around a list, and numpy around each of its numbers.
_WRAPPERS = frozenset((
    "Array", "EagerTensor", "Index", "Series", "Tensor", "array", "asarray", "deque", "frozenset",
    "list", "set", "tensor", "tuple",
))  # fmt: skip
_NUMERIC = frozenset(("Array", "EagerTensor", "Tensor", "array", "tensor"))
_CALL = re.compile(r"([A-Za-z_][\w.]{0,60})\(")
_SETTING = re.compile(r",\s*(?:device|dtype|grad_fn|length|name|requires_grad|shape|weak_type)\s*=")
_SCALAR = re.compile(r"\b(?:np\.\w+|tensor|array)\(([^()]*)\)")
_ITEM = re.compile(
    r"""\s*(?:[bu]?("(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')|([^\s,:'"\[\](){}][^,:'"\[\](){}]*))\s*(,)?""",
    re.S,
)
_LONGEST = 400  # characters of a number
_WORDS = {"true": True, "false": False, "none": None, "null": None, "nan": None}


@dataclass(frozen=True)
class Cell:
    """A text, and the list that it may be.

    Args:
        text: The text.
        bracketed: Whether brackets are around it.
        items: The items between them, or `None` where they cannot be read.
        quoted: Whether an item is quoted, which no class name has by chance.
        wrapped: Whether more than brackets is around it, such as `tensor(...)`.
    """

    text: str
    bracketed: bool = False
    items: list[Any] | None = None
    quoted: bool = False
    wrapped: bool = False

    @classmethod
    def read(cls, text: str) -> Cell:
        """Read a text as Python, JSON, numpy or PostgreSQL write a list."""
        whole = text.strip()
        inner = _unwrapped(whole)
        wrapped = inner is not whole
        if len(inner) < 2 or _CLOSES.get(inner[0]) != inner[-1]:
            return cls(text)
        inner, place, items, quoted = _SCALAR.sub(r"\1", inner[1:-1]).rstrip(), 0, [], False
        while place < len(inner):
            item = _ITEM.match(inner, place)
            if item is None or "..." in (item[2] or ""):
                return cls(text, True, None, quoted or '"' in inner or "'" in inner, wrapped)
            if item[1]:
                items.append(_unquoted(item[1]))
                quoted = True
            else:
                items.extend(_bare(item[2].strip()))
            place = item.end()
        return cls(text, True, items, quoted, wrapped)

    @property
    def is_object(self) -> bool:
        """Whether it is no list but an object, such as `{"red": 1}`."""
        return self.bracketed and self.items is None and "{" in self.text and ":" in self.text

    @property
    def is_cut(self) -> bool:
        """Whether it is a list that numpy has shortened: `[0 0 ... 0 1]`."""
        return self.bracketed and self.items is None and "..." in self.text

    def known(self, names: set[str], delimiter: str | None) -> bool:
        """Return whether the text is made of names that the user listed, whatever it looks like."""
        parts = self.text.split(delimiter) if delimiter else [self.text]
        return self.text in names or all(part.strip() in names for part in parts)


def _unwrapped(text: str) -> str:
    """Return the list inside of what is around it; the text itself where nothing is."""
    if len(text) > 3 and text[0] == text[-1] == '"' and text[1] in _CLOSES:
        # As a cell of a CSV file, in a file that is read without quotes.
        return text[1:-1].replace('""', '"').strip()
    if text.startswith("<tf.Tensor") and text.endswith(">") and "numpy=" in text:
        return _unwrapped(text[:-1].partition("numpy=")[2].strip())
    call = _CALL.match(text)
    if call is None or text[-1] != ")":
        return text
    name, inner = call[1].rpartition(".")[2], text[call.end() : -1].strip()
    if name in _WRAPPERS:
        inner = _without_settings(inner)
        if not inner:
            return "[]"
        if inner[0] in _CLOSES:
            return inner
    number = name in _NUMERIC and not isinstance(value_of(inner), str)
    return f"[{inner}]" if number or call[1].startswith(("np.", "numpy.")) else text


def _without_settings(inner: str) -> str:
    """Return `[1, 0]` of `[1, 0], dtype=int32, device='cpu'`."""
    close = _CLOSES.get(inner[:1])
    for setting in _SETTING.finditer(inner):
        end = setting.start()
        while end and inner[end - 1].isspace():
            end -= 1
        if close is None or inner[end - 1] == close:  # else it is within an item
            return inner[:end]
    return inner


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
    if len(word) > _LONGEST:
        return word
    if word.casefold() in _WORDS:
        return _WORDS[word.casefold()]
    if re.fullmatch(r"[+-]?\d{1,18}", word):
        return int(word)
    if re.fullmatch(r"[+-]?(\d+\.\d*|\.\d+|\d+)(e[+-]?\d+)?", word, re.I):
        return float(word)
    return word
