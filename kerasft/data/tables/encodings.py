"""Text encodings of files: checked against what the bytes look like."""

from __future__ import annotations

import codecs
import sys
from collections.abc import Iterator
from pathlib import Path

from kerasft.errors import UserError, nearest

# Encodings of names and of source text, not of files.
_NO_FILES = ("idna", "punycode", "raw-unicode-escape", "undefined", "unicode-escape")

_AT_ONCE = 1 << 20
_NARROW = ("utf-8", "ascii", "iso8859-1", "cp1252", "iso8859-15")


def decode(path: Path, encoding: str, key: str) -> str:
    """Return the text of a file, every character of it; only a byte order mark is no text."""
    return "".join(text for text, _ in decoded(path, encoding, key))


def decoded(
    path: Path, encoding: str, key: str, most: int | None = None
) -> Iterator[tuple[str, bool]]:
    """Yield the text of a file a part at a time.

    Args:
        path: The file.
        encoding: How it is written.
        key: The config key behind the path, for messages.
        most: Bytes to read at a time; all of them without.

    Yields:
        Text, cut anywhere, and whether more of it may follow.

    Raises:
        UserError: If it cannot be read, or is written in another encoding.
    """
    codec = _codec(encoding)
    decoder: codecs.IncrementalDecoder | None = None
    read, lines, begun = 0, 0, False
    try:
        with path.open("rb") as file:
            while True:
                content = file.read(-1 if most is None else most)
                more = most is not None and len(content) == most
                if not read:
                    content = _checked(path, content, codec, encoding, key)
                read += len(content)
                decoder = decoder or _decoder(codec, content)
                try:
                    text = decoder.decode(content, final=not more)
                except UnicodeDecodeError as error:
                    # What is decoded begins with bytes that were left of the part before.
                    raise _undecodable(
                        path, encoding, key, content, error, read - len(error.object), lines
                    ) from error
                lines += content.count(b"\n")
                if text and not begun:
                    # Codecs of a given byte order keep it, and some programs write it twice.
                    text, begun = text.removeprefix("\ufeff"), True
                yield text, more
                if not more:
                    return
    except OSError as error:
        raise UserError(f"{key}: {path} cannot be read: {error.strerror or error}.") from error


def _decoder(codec: str, begin: bytes) -> codecs.IncrementalDecoder:
    """Return what decodes a file of which this is the beginning."""
    if codec == "utf-8":
        codec = "utf-8-sig"
    if codec in ("utf-16", "utf-32") and _marked(begin) is None:
        codec += "-le" if sys.byteorder == "little" else "-be"  # as decoding it whole does
    return codecs.getincrementaldecoder(codec)()


def _codec(encoding: str) -> str:
    """Return the name of an encoding of text files."""
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
    return codec


def _checked(path: Path, content: bytes, codec: str, encoding: str, key: str) -> bytes:
    """Return the beginning of a file without the mark of UTF-8, where that is no text."""
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
    return content


def _undecodable(
    path: Path, encoding: str, key: str, content: bytes, error: UnicodeDecodeError, before: int,
    lines: int,
) -> UserError:
    line = lines + bytes(error.object).count(b"\n", 0, error.start) + 1
    odd = error.object[error.start : error.start + 1].hex()
    return UserError(
        f"{key}: {path} is not written in {encoding}: byte {before + error.start:,} (0x{odd}, in "
        f"line {line:,}) is none of it. Set data.encoding; {_guesses(content)}."
    )


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
    decoder, plain = codecs.getincrementaldecoder("utf-8")(), True
    try:
        with path.open("rb") as file:
            while content := file.read(_AT_ONCE):
                decoder.decode(content)
                plain = plain and content.isascii()
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return ()
    if plain:
        return ()
    return (
        f"{path} was read as {encoding}, and all of it is valid UTF-8, which hardly happens by "
        "chance: see whether its texts come out right, or set data.encoding=utf-8.",
    )
