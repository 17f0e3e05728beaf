"""Other people's texts in our lines, tables and cells, made harmless."""

from __future__ import annotations

import re
import shlex
import unicodedata
from typing import Any

# Control and format characters, separators of lines and paragraphs, halves of characters.
_SPELLED = ("Cc", "Cf", "Zl", "Zp", "Cs")
# What makes a spreadsheet take a cell for a formula, also in the wide forms of East Asia.
_FORMULA = tuple("=+-@\t\r\n＝＋－＠")
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?")


def one_line(text: str) -> str:
    """Return a text in one line: what would end it, move in it or hide is spelled out.

    Example:
        >>> one_line("a" + chr(10) + "b" + chr(0x2028) + "c")
        'a\\\\nb\\\\u2028c'
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        _spelled(letter) if unicodedata.category(letter) in _SPELLED else letter for letter in text
    )


def _spelled(letter: str) -> str:
    # A shell reads \x80 and above as a byte.
    return f"\\u{ord(letter):04x}" if 127 < ord(letter) < 256 else \
        letter.encode("unicode_escape").decode("ascii")


def cell(value: object) -> Any:
    """Return a value as a cell of a CSV that no spreadsheet takes for a formula.

    Numbers stay numbers, also those that are given as text. A text that begins as a formula does
    gets an apostrophe before it, by which a spreadsheet knows that it is one.

    Example:
        >>> cell("=1+1"), cell("-0.5"), cell(-0.5), cell("-x")
        ("'=1+1", '-0.5', -0.5, "'-x")
    """
    if value is None or isinstance(value, int | float):
        return value
    text = str(value)
    dangerous = text.lstrip(" ").startswith(_FORMULA) and not _NUMBER.fullmatch(text)
    return f"'{text}" if dangerous else text


def command(words: list[str]) -> str:
    """Return a line for a shell, in one line whatever the words hold.

    Example:
        >>> command(["ls", "a b", "c" + chr(10) + "d"])
        "ls 'a b' $'c\\\\nd'"
    """
    return " ".join(map(_quoted, words))


def _quoted(word: str) -> str:
    if one_line(word) == word:
        return shlex.quote(word)
    made = word.replace("\\", "\\\\").replace("'", "\\'")
    return "$'" + one_line(made) + "'"
