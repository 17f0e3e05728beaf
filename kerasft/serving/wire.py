"""How much a message of protocol buffers holds, counted before any of it is made.

Their reader holds the interpreter until a whole message is read, and makes of two bytes a hundred:
seven million entries of a map took 16 seconds, in which nothing else of the server ran.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from kerasft.serving.limits import MOST_NODES, Limits
from kerasft.serving.status import invalid

# Fields altogether, those without a message in them too: numbers that are not packed, and texts.
MOST_FIELDS = MOST_NODES
# Messages in it; an entry of a map counts as three.
MOST_MESSAGES = 1_000_000
_ENTRY = 3
# A message of so many bytes without others in it is not looked into.
_SHORT = 16
# So many fields are counted between two looks at the time.
_PIECE = 100_000
# Deeper than any of TensorFlow Serving's own; what is deeper is skipped by the reader, or refused.
_MOST_DEPTH = 100


def require_few(descriptor: Any, body: bytes, limits: Limits) -> None:
    """See that a message holds few enough fields and messages.

    Args:
        descriptor: The `Descriptor` of the message.
        body: The message as it came. What is broken in it is left to the reader.
        limits: The time that it may take.

    Raises:
        Failure: If it holds too many.
    """
    _Count(limits).level(body, 0, len(body), descriptor, 0)


@cache
def _nested(descriptor: Any) -> dict[int, tuple[Any, int]]:
    """Return the fields of a message that hold messages, each with what one counts as."""
    return {
        field.number: (
            field.message_type,
            _ENTRY if field.message_type.GetOptions().map_entry else 1,
        )
        for field in descriptor.fields
        if field.message_type is not None
    }


class _Count:
    """What was found so far."""

    def __init__(self, limits: Limits):
        self.limits, self.fields, self.messages = limits, 0, 0
        self._next = _PIECE

    def level(self, body: bytes, at: int, end: int, descriptor: Any, depth: int) -> None:
        """Count what lies between two places."""
        nested, fields = _nested(descriptor), 0
        try:
            while at < end:
                fields += 1
                if fields >= _PIECE:
                    self._add(fields)
                    fields = 0
                tag = body[at]
                if tag > 127:
                    tag, at = _number(body, at)
                else:
                    at += 1
                kind = tag & 7
                if kind == 2:
                    size = body[at]
                    if size > 127:
                        size, at = _number(body, at)
                    else:
                        at += 1
                    inner = nested.get(tag >> 3)
                    if inner is not None and depth < _MOST_DEPTH:
                        self._met(inner[1])
                        if size <= _SHORT and not _nested(inner[0]):
                            fields += size // 2  # at most
                        else:
                            self.level(body, at, min(at + size, end), inner[0], depth + 1)
                    at += size
                elif kind == 0:
                    _, at = _number(body, at)
                elif kind == 1 or kind == 5:
                    at += 8 if kind == 1 else 4
                else:
                    break  # a group, which no message of today has
        except IndexError:
            pass  # it ends amid a field, which the reader says in its own words
        self._add(fields)

    def _add(self, fields: int) -> None:
        self.fields += fields
        if self.fields >= self._next:
            self._next = self.fields + _PIECE
            self.limits.check()
        if self.fields > MOST_FIELDS:
            raise invalid(
                f"The request holds more than {MOST_FIELDS:,} fields. Send fewer examples at once."
            )

    def _met(self, messages: int) -> None:
        self.messages += messages
        if self.messages > MOST_MESSAGES:
            raise invalid(
                f"The request holds more than {MOST_MESSAGES:,} messages, where an entry of a map "
                f"counts as {_ENTRY}. Send fewer examples at once."
            )


def _number(body: bytes, at: int) -> tuple[int, int]:
    """Return the number at a place, and the place after it."""
    code = body[at]
    at += 1
    if code < 128:
        return code, at
    found, shift = code & 127, 7
    while True:
        code = body[at]
        at += 1
        found |= (code & 127) << shift
        if code < 128 or shift > 63:
            return found, at
        shift += 7
