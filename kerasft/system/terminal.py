"""The terminal: its width, colours, and one line at its bottom that is written over."""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

# How often the line at the bottom is drawn at most, in seconds.
EVERY = 0.1
_STYLES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "cyan": "36"}
_FULL, _EMPTY = "━", "─"
# Names of classes, files and columns may hold what a terminal takes for orders.
_CONTROL = {n: f"\\x{n:02x}" for n in [*range(32), *range(127, 160)] if chr(n) not in "\n\t"}
_CONTROL[ord("\r")] = "\\r"


def printable(text: str) -> str:
    """Return a text with its control characters spelled out, but for line ends and tabs.

    Example:
        >>> printable("a label\\x1b[2J")
        'a label\\\\x1b[2J'
    """
    return text.translate(_CONTROL)


def is_terminal(stream: Any) -> bool:
    """Whether a stream is a terminal on which a line can be written over."""
    try:
        return bool(stream.isatty()) and os.environ.get("TERM") != "dumb"
    except (AttributeError, ValueError):  # replaced by something else, or closed
        return False


def has_colour(stream: Any) -> bool:
    """Whether a stream shows colours, and the user wants them (see https://no-color.org)."""
    return is_terminal(stream) and not os.environ.get("NO_COLOR")


def columns() -> int:
    """Return how many characters fit into a line of the terminal."""
    return shutil.get_terminal_size().columns


def room() -> int:
    """Return how many characters fit into a line that is written over.

    Behind it stand the cursor and the `^C` that a terminal shows of the keyboard: if they did not
    fit, the line would go on in the next one, and half of it would stay.
    """
    return columns() - len("^C") - 1


def together(text: str, last: str, stream: Any) -> str:
    """Return a sentence and a command behind it, which is not broken where it can be copied.

    Args:
        text: The sentence.
        last: The command, with what introduces it.
        stream: Where both will be written: where they are longer than the terminal, in two lines.

    Example:
        >>> together("It has stopped.", "To go on: kerasft resume run", None)
        'It has stopped. To go on: kerasft resume run'
    """
    fits = not is_terminal(stream) or len(text) + 1 + len(last) <= columns()
    return f"{text} {last}" if fits else f"{text}\n{last}"


def styled(text: str, style: str, stream: Any) -> str:
    """Return a text in bold or in a colour where a stream shows it.

    Args:
        text: The text; its control characters are spelled out.
        style: `"bold"`, `"dim"`, `"red"`, `"green"`, `"yellow"` or `"cyan"`.
        stream: Where it will be written.

    Example:
        >>> styled("warning:", "yellow", None)
        'warning:'
    """
    text = printable(text)
    return f"\x1b[{_STYLES[style]}m{text}\x1b[0m" if style and has_colour(stream) else text


def wrapped(text: str, stream: Any, indent: str = "  ") -> str:
    """Break sentences that are longer than the terminal between words.

    Lines with more than one blank between words are tables, and stay as they are, as does all that
    goes into files. Words as long as a line, paths say, stay whole, too.

    Args:
        text: The text.
        stream: Where it will be written.
        indent: What the further lines of a sentence begin with.
    """
    if not is_terminal(stream):
        return text
    width = columns()
    return "\n".join(
        textwrap.fill(line, width, subsequent_indent=indent, break_long_words=False,
                      break_on_hyphens=False)
        if len(line) > width and "  " not in line.strip() and "\t" not in line else line
        for line in text.split("\n")
    )  # fmt: skip


class Styled(str):
    """A line that has colours on a terminal, and is plain text everywhere else.

    Example:
        >>> Styled.of("epoch 1  ", ("accuracy 0.9", "green"))
        'epoch 1  accuracy 0.9'
    """

    pieces: tuple[tuple[str, str], ...]

    @classmethod
    def of(cls, *pieces: str | tuple[str, str]) -> Styled:
        """Put a line together of texts, and of texts with their style."""
        pairs = tuple((one, "") if isinstance(one, str) else one for one in pieces)
        made = cls("".join(text for text, _ in pairs))
        made.pieces = pairs
        return made

    def shown_on(self, stream: Any) -> str:
        """Return what is written to a stream, its sentences wrapped."""
        text = wrapped(printable(self), stream)
        found, rest = [], text
        for piece, style in self.pieces:
            piece = printable(piece)
            if not rest.startswith(piece):  # wrapped within a piece
                break
            found.append(styled(piece, style, stream))
            rest = rest[len(piece) :]
        return "".join(found) + rest


class Status:
    """A line at the bottom of the terminal that says what is being done, and leaves no trace.

    Whatever else is printed goes through `aside`, which takes the line away and draws it again.
    It is drawn where standard output is a terminal, or as `wanted` says.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._text = ""
        self._drawn: tuple[Any, int] | None = None  # where, and how many characters
        self._last = 0.0
        self._own: Any = None
        self.wanted: bool | None = None

    @property
    def is_live(self) -> bool:
        """Whether anything is drawn."""
        return is_terminal(self._stream) if self.wanted is None else self.wanted

    @property
    def _stream(self) -> Any:
        return sys.stdout if self._own is None else self._own

    @contextmanager
    def drawn_on(self, stream: Any) -> Iterator[None]:
        """Draw on a stream during the block, and leave nothing behind."""
        before, self._own = self._own, stream
        try:
            yield
        finally:
            self.show("")
            self._own = before

    def is_due(self) -> bool:
        """Whether enough time has passed since the line was drawn last."""
        return time.monotonic() - self._last >= EVERY

    def show(self, text: str) -> None:
        """Have the line say something; an empty text takes it away.

        Args:
            text: The text, cut off where the terminal ends.
        """
        with self._lock:
            self._text = text
            self._erase()
            self._draw()

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Print inside the block without touching the line."""
        with self._lock:
            self._erase()
            try:
                yield
            finally:
                self._draw()

    @contextmanager
    def showing(self, text: str) -> Iterator[None]:
        """Show a text during the block, and after it what was shown before."""
        before = self._text
        self.show(text)
        try:
            yield
        finally:
            self.show(before)

    def _draw(self) -> None:
        if self._text and self.is_live:
            stream, text = self._stream, printable(self._text)[: room()]
            self._drawn, self._last = (stream, len(text)), time.monotonic()
            stream.write(text)
            stream.flush()

    def _erase(self) -> None:
        if self._drawn is None:
            return
        (stream, length), self._drawn = self._drawn, None
        # Not every console knows how to empty a line. Elsewhere a ^C beside the text goes, too.
        stream.write("\r\x1b[K" if is_terminal(stream) else f"\r{' ' * length}\r")
        stream.flush()


status = Status()


def bar(done: int, total: int, width: int) -> str:
    """Return a progress bar.

    Args:
        done: What is done.
        total: Of how much.
        width: In characters.

    Example:
        >>> bar(1, 4, 8)
        '━━──────'
    """
    full = width * done // max(total, 1)
    return _FULL * full + _EMPTY * (width - full)


def duration(seconds: float) -> str:
    """Return a time as hours, minutes and seconds.

    Example:
        >>> duration(75.2), duration(7322)
        ('1:15', '2:02:02')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
