"""Bodies in JSON, read without keeping others waiting.

Python's reader holds the interpreter until a whole document is read: nothing else of the server
runs meanwhile. So a large body is read piece by piece, and what has too many rows is refused at
the first row that is too many.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from kerasft.serving.limits import MOST_DIMENSIONS, MOST_NODES, Limits
from kerasft.serving.status import invalid

# A body of so many bytes is read at once, in a few milliseconds; a larger one in such pieces.
PIECE = 128 * 1024
# Lists and objects in one another: the dimensions of an array, and what TensorFlow Serving's API
# puts around them and into them (the request, its columns or rows, base64).
MOST_LEVELS = MOST_DIMENSIONS + 4
_SHORT = 120
_ROWS = (("instances",), ("examples",), ("inputs",))
_SPACE = re.compile(rb"[ \t\n\r]*")
_WORD = re.compile(rb"[-+.\w]+")
_TEXT = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)


class Named(float):
    """A number that JSON has no digits for, and that was written by its name."""


def parse(body: bytes, limits: Limits | None = None) -> dict[str, Any]:
    """Return the object that a body holds, and see that its signature name is one.

    Args:
        body: JSON in UTF-8 (or 16, 32).
        limits: What it may hold.

    Raises:
        Failure: If it is no JSON object, or holds too much.

    Example:
        >>> parse(b'{"instances": [1, 2]}')
        {'instances': [1, 2]}
    """
    limits = limits or Limits()
    if not body:
        raise invalid("JSON Parse error: The document is empty")
    try:
        encoding = json.detect_encoding(body)
        if encoding != "utf-8":
            body = body.decode(encoding).encode()
        found = _loads(body) if len(body) <= PIECE else _Pieces(body, limits).document()
    except json.JSONDecodeError as error:
        raise invalid(f"JSON Parse error: {error.msg} at offset: {error.pos}") from error
    except (UnicodeError, RecursionError, ValueError) as error:
        raise invalid(f"JSON Parse error: {error}") from error
    if not isinstance(found, dict):
        raise invalid(f"JSON Value: {short(found)} Is not object")
    if not isinstance(found.get("signature_name", ""), str):
        raise invalid("'signature_name' key must be a string value.")
    return found


def short(value: object) -> str:
    """Return the beginning of a value as JSON, whatever its size.

    Example:
        >>> short(["a" * 500])
        '["aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa...'
    """
    text = ""
    try:
        for part in json.JSONEncoder(ensure_ascii=False).iterencode(_cut_short(value)):
            text += part[:_SHORT]
            if len(text) >= _SHORT:
                return f"{text[: _SHORT - 3]}..."
    except RecursionError:
        return f"{text[: _SHORT - 3]}..."
    return text


def _cut_short(value: object) -> Any:
    return value[:_SHORT] if isinstance(value, str) else value


def _object(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"the key {json.dumps(twice)} comes twice in an object")
    return made


_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_constant=Named)


def _loads(piece: bytes) -> Any:
    return _DECODER.decode(piece.decode())


def _structure(codes: np.ndarray, inside: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return which bytes lie outside of texts, and which of those open and close a list or object.

    Args:
        codes: The bytes.
        inside: 1 where they begin in the midst of a text.
    """
    outside = (np.cumsum(codes == ord('"'), dtype=np.uint8) + np.uint8(inside)) % 2 == 0
    opens = ((codes == ord("[")) | (codes == ord("{"))) & outside
    closes = ((codes == ord("]")) | (codes == ord("}"))) & outside
    return outside, opens, closes


class _Window:
    """A part of a document, whose structure is found once for all lists that reach beyond it.

    Args:
        plain: The document, without quotes that do not end a text.
        at: Where it begins, outside of a text.
    """

    def __init__(self, plain: bytes, at: int):
        self.at, size = at, min(PIECE, len(plain) - at)
        self.end = at + size
        codes = np.frombuffer(plain, np.uint8, size, at)
        outside, opens, closes = _structure(codes)
        self.depth = np.cumsum(opens.astype(np.int8) - closes, dtype=np.int32)
        self.commas = np.flatnonzero((codes == ord(",")) & outside)
        self.closes = np.flatnonzero(closes)
        # In a list of the depth d, the one that closes it goes to d - 1.
        self.comma_depth, self.close_depth = self.depth[self.commas], self.depth[self.closes]

    def cut(self, at: int) -> tuple[int | None, bool]:
        """Return where the members from a place on end that it holds whole; whether they are all.

        Args:
            at: A place in it, directly in a list or an object.
        """
        start = at - self.at
        level = int(self.depth[start - 1]) if start else 0
        first = int(np.searchsorted(self.closes, start))
        if len(ended := np.flatnonzero(self.close_depth[first:] < level)):
            return self.at + int(self.closes[first + ended[0]]), True
        first = int(np.searchsorted(self.commas, start))
        if len(own := np.flatnonzero(self.comma_depth[first:] == level)):
            return self.at + int(self.commas[first + own[-1]]), False
        return None, False


class _Pieces:
    """A large document."""

    def __init__(self, body: bytes, limits: Limits):
        self.body, self.limits, self.at = body, limits, 0
        self.window: _Window | None = None
        # The same, of the same length, without quotes that do not end a text.
        self.plain = body
        if b"\\" in body:
            self.plain = body.replace(b"\\\\", b"__").replace(b'\\"', b"__")

    def document(self) -> Any:
        """Return the whole of it."""
        self._count()
        self._space()
        found = self._value(())
        self._space()
        if self.at != len(self.body):
            raise self._error("Extra data")
        return found

    def _count(self) -> None:
        """See that it holds few enough lists and objects, and levels, before any is made."""
        nodes, inside, level = 0, 0, 0
        for at in range(0, len(self.plain), PIECE):
            self.limits.check()
            codes = np.frombuffer(self.plain, np.uint8, min(PIECE, len(self.plain) - at), at)
            outside, opens, closes = _structure(codes, inside)
            nodes += int(np.count_nonzero(opens))
            levels = np.cumsum(opens.astype(np.int8) - closes, dtype=np.int32)
            if level + int(levels.max()) > MOST_LEVELS:
                raise invalid(
                    f"The request holds lists and objects in one another, more than {MOST_LEVELS} "
                    "levels of them."
                )
            level += int(levels[-1])
            inside = 0 if outside[-1] else 1
            if nodes > MOST_NODES:
                raise invalid(
                    f"The request holds more than {MOST_NODES:,} lists and objects. Send fewer "
                    "examples at once, or over gRPC."
                )

    def _space(self) -> bytes:
        """Go to what follows white space; return its first byte."""
        self.at = _SPACE.match(self.body, self.at).end()  # type: ignore[union-attr]
        return self.body[self.at : self.at + 1]

    def _error(self, words: str) -> ValueError:
        return ValueError(f"{words} at offset: {self.at}")

    def _value(self, path: tuple[str | None, ...]) -> Any:
        """Read a value that may be larger than a piece."""
        first = self._space()
        if first == b"[":
            return self._list(path)
        if first == b"{":
            return self._dict(path)
        if first == b'"':
            return self._text()
        word = _WORD.match(self.body, self.at)
        if word is None:
            raise self._error("Expecting value")
        return self._read(word.end(), b"", b"")

    def _text(self) -> str:
        found = _TEXT.match(self.body, self.at)
        if found is None:
            raise self._error("Unterminated string")
        return self._read(found.end(), b"", b"")

    def _list(self, path: tuple[str | None, ...]) -> list[Any]:
        """Read a list; its path holds the keys of the objects that it lies in, and None for lists.

        Rows are `instances`, `examples`, one column in `inputs`, or each of several by its name.
        """
        made: list[Any] = []
        rows = path in _ROWS or (len(path) == 2 and path[0] == "inputs" and path[1] is not None)
        for part in self._members(b"[", b"]"):
            made += [self._value((*path, None))] if part is None else part
            if rows:
                self.limits.count(len(made), more=True)
        return made

    def _dict(self, path: tuple[str | None, ...]) -> dict[str, Any]:
        made: dict[str, Any] = {}
        for part in self._members(b"{", b"}"):
            if part is None:
                if self._space() != b'"':
                    raise self._error("Expecting property name enclosed in double quotes")
                key = self._text()
                if self._space() != b":":
                    raise self._error("Expecting ':' delimiter")
                self.at += 1
                part = {key: self._value((*path, key))}
            both = len(made) + len(part)
            made.update(part)
            if len(made) != both:
                raise self._error("a key comes twice in an object, before")
        return made

    def _members(self, opening: bytes, closing: bytes) -> Any:
        """Yield what a list or an object holds, in pieces.

        `None` stands for a member that is larger than a piece, which the caller reads.
        """
        self.at += 1
        comma = False
        while True:
            self.limits.check()
            self._space()
            cut, ends = self._cut()
            if cut is None:
                yield None
                follows = self._space()
                ends = follows == closing
                if not ends and follows != b",":
                    raise self._error("Expecting ',' delimiter")
            else:
                empty = not self.body[self.at : cut].strip(b" \t\n\r")
                if empty and (comma or not ends):
                    raise self._error("Expecting value")
                yield self._read(cut, opening, closing)
                if ends and self.body[cut : cut + 1] != closing:
                    raise self._error("Expecting ',' delimiter")
            self.at += 1
            if ends:
                return
            comma = True

    def _cut(self) -> tuple[int | None, bool]:
        """Return where the members that a piece holds whole end, and whether they are all."""
        window = self.window
        if window is None or not window.at <= self.at < window.end:
            window = self.window = _Window(self.plain, self.at)
        cut, ends = window.cut(self.at)
        # What is large is told from what is cut off here.
        if cut is None and window.at < self.at and window.end - self.at < PIECE // 2:
            window = self.window = _Window(self.plain, self.at)
            cut, ends = window.cut(self.at)
        return cut, ends

    def _read(self, end: int, opening: bytes, closing: bytes) -> Any:
        """Return what lies before `end`, and go there."""
        try:
            found = _loads(opening + self.body[self.at : end] + closing)
        except json.JSONDecodeError as error:
            place = self.at + max(0, error.pos - len(opening))
            raise ValueError(f"{error.msg} at offset: {place}") from error
        self.at = end
        return found
