"""Text encodings of files: checked against what the bytes look like."""

from __future__ import annotations

import codecs
from pathlib import Path

from kerasft.errors import UserError, nearest

# Encodings of names and of source text, not of files.
_NO_FILES = ("idna", "punycode", "raw-unicode-escape", "undefined", "unicode-escape")

_NARROW = ("utf-8", "ascii", "iso8859-1", "cp1252", "iso8859-15")


def decode(path: Path, encoding: str, key: str) -> str:
    """Return the text of a file, every character of it; only a byte order mark is no text."""
    try:
        codec = codecs.lookup(str(encoding)).name
        if not codecs.lookup(codec)._is_text_encoding or codec in _NO_FILES:
            raise LookupError
    except (LookupError, ValueError) as error:
        common = ("utf-8", "utf-16", "latin-1", "cp1252", "gb18030", "shift_jis", "euc-kr")
        raise UserError(
            f"data.encoding must be an encoding that Python knows, such as {', '.join(common)}. "
            f"Received: data.encoding={encoding!r}." + nearest(encoding, common)
        ) from error
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{key}: {path} cannot be read: {error.strerror or error}.") from error
    if not content:
        raise UserError(f"{key}: {path} is empty (0 bytes).")
    if not content.strip(b"\0"):
        raise UserError(f"{key}: {path} holds nothing but zero bytes. Fetch or write it again.")
    if codec in _NARROW and (wide := _marked(content) or _wide(content)):
        marked = _marked(content) is not None
        found = "it begins with the mark of" if marked else "its other bytes are zero, as in"
        raise UserError(
            f"{key}: {path} is not written in {encoding}: {found} {wide[:6].upper()}. Set "
            f"data.encoding={wide}."
        )
    if codec in _NARROW[1:]:  # the mark of UTF-8 is no text of theirs
        content = content.removeprefix(codecs.BOM_UTF8)
    try:
        text = content.decode("utf-8-sig" if codec == "utf-8" else codec)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        odd = content[error.start : error.start + 1].hex()
        raise UserError(
            f"{key}: {path} is not written in {encoding}: byte {error.start:,} (0x{odd}, in line "
            f"{line:,}) is none of it. Set data.encoding; {_guesses(content)}."
        ) from error
    # Codecs of a given byte order keep it, and some programs write it twice.
    return text.removeprefix("\ufeff")


def _marked(content: bytes) -> str | None:
    """Return the encoding whose byte order mark a file begins with."""
    if content.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):
        return "utf-32"
    return "utf-16" if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else None


def _wide(content: bytes) -> str | None:
    """Return which UTF-16 or 32 it is, without a byte order mark, of ASCII text."""
    head = content[:1000]
    zeros = [head[start::4].count(0) > 0.8 * (len(head) // 4) for start in range(4)]
    if zeros in ([False, True, True, True], [True, True, True, False]):
        return "utf-32-be" if zeros[0] else "utf-32-le"
    low, high = head[::2].count(0), head[1::2].count(0)
    most = len(head) // 2
    if high > 0.8 * most and low < 0.2 * most:
        return "utf-16-le"
    return "utf-16-be" if low > 0.8 * most and high < 0.2 * most else None


def _guesses(content: bytes) -> str:
    if content[:4] == b"PAR1" or content[:2] in (b"PK", b"\x1f\x8b"):
        return "but it looks like a binary file (Parquet, Excel or compressed), not like text"
    if marked := _marked(content):
        return f"its first bytes say data.encoding={marked}"
    fitting = []
    for encoding in ("utf-8", "cp1252", "latin-1"):
        try:
            content.decode(encoding)
            fitting.append(encoding)
        except UnicodeDecodeError:
            continue
    return f"the bytes would fit {' or '.join(fitting)}"


def mojibake(path: Path, encoding: str) -> tuple[str, ...]:
    """Say so where a one-byte encoding is asked for, and the file can only be UTF-8."""
    if codecs.lookup(encoding).name not in ("iso8859-1", "cp1252", "iso8859-15"):
        return ()
    content = path.read_bytes()
    try:
        content.decode("utf-8")
    except UnicodeDecodeError:
        return ()
    if content.isascii():
        return ()
    return (
        f"{path} was read as {encoding}, and all of it is valid UTF-8, which hardly happens by "
        "chance: see whether its texts come out right, or set data.encoding=utf-8.",
    )
