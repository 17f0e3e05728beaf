"""Console output: lines, tables, warnings that are counted."""

from __future__ import annotations

import os
import re
import signal
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

# What TensorFlow's C++ side writes to the error stream before its log levels are in force.
_CHATTER = re.compile(
    rb"^(WARNING: All log messages before absl::InitializeLog"
    rb"|[IWE]0000 .*(port\.cc|cudart_stub|cuda_platform|cuda_executor|cuda_diagnostics"
    rb"|node_def_util|cpu_feature_guard|computation_placer|util\.cc))"
)


class Clock:
    """How long a run has been at work.

    The command line imports this before TensorFlow, which is as good as the start of the process;
    where one process makes several runs, each starts where the one before it ended.
    """

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """Count from now on."""
        self.began = time.perf_counter()

    def seconds(self) -> float:
        """Return the seconds since the start."""
        return time.perf_counter() - self.began


clock = Clock()


def show_whatever() -> None:
    """Let the output spell out what its encoding lacks (`\\xe9`) instead of failing at it."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError, ValueError, OSError):  # replaced by something else, or closed
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]


def say(line: str = "") -> None:
    """Print a line at once, also into a file."""
    print(printable(line), flush=True)


def warn(line: str) -> None:
    """Print a warning to the error stream."""
    print(f"warning: {printable(line)}", file=sys.stderr, flush=True)


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


def table(rows: Sequence[Sequence[object]], header: Sequence[str]) -> str:
    """Return rows as a plain text table, numbers to the right.

    Example:
        >>> print(table([["a", 1.5]], ["name", "value"]))
        name   value
        a     1.5000
    """
    cells = [[_text(cell) for cell in row] for row in rows]
    widths = [max(len(line[i]) for line in [list(header), *cells]) for i in range(len(header))]
    right = [
        bool(rows) and all(isinstance(r[i], int | float) or r[i] is None for r in rows)
        for i in range(len(header))
    ]

    def line(parts: Sequence[str]) -> str:
        padded = [
            part.rjust(width) if is_right else part.ljust(width)
            for part, width, is_right in zip(parts, widths, right, strict=True)
        ]
        return "  ".join(padded).rstrip()

    return "\n".join([line(header), *map(line, cells)])


def listing(items: Iterable[Any], most: int = 5) -> str:
    """Return the first few items, joined, and how many more there are.

    Example:
        >>> listing(["a", "b", "c"], most=2)
        'a, b and 1 more'
    """
    items = list(items)
    more = f" and {len(items) - most:,} more" if len(items) > most else ""
    return ", ".join(str(item) for item in items[:most]) + more


def _text(cell: object) -> str:
    if cell is None:
        return "-"
    if isinstance(cell, bool):
        return str(cell)
    if isinstance(cell, int):
        return f"{cell:,}"
    return f"{cell:.4f}" if isinstance(cell, float) else printable(str(cell))


@contextmanager
def without_chatter() -> Iterator[None]:
    """Keep the start-up lines of TensorFlow's C++ side off the error stream; all else passes."""
    sys.stderr.flush()
    stream = os.dup(2)
    reader, writer = os.pipe()
    os.dup2(writer, 2)
    os.close(writer)

    def pass_on() -> None:
        with os.fdopen(reader, "rb") as lines:
            for line in lines:
                if not _CHATTER.match(line):
                    os.write(stream, line)

    thread = threading.Thread(target=pass_on, daemon=True)
    thread.start()
    try:
        yield
    finally:
        sys.stderr.flush()
        os.dup2(stream, 2)  # closes the pipe's last writing end, so that the thread ends
        thread.join(timeout=2)
        os.close(stream)


@contextmanager
def cleaned_up() -> Iterator[None]:
    """Let SIGTERM end the process as Ctrl-C does: what is temporary goes, what ended is noted.

    SIGUSR1, which has a run that trains save, ends nothing where there is nothing to be saved.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(number: int, frame: Any) -> None:
        raise SystemExit(128 + number)

    def tell(number: int, frame: Any) -> None:
        with suppress(OSError):
            os.write(2, b"SIGUSR1: no stage trains, so there is nothing to be saved\n")

    wanted: dict[str, Any] = {"SIGTERM": end, "SIGUSR1": tell}
    numbers = {number: one for name, one in wanted.items() if (number := getattr(signal, name, 0))}
    before = {number: signal.signal(number, one) for number, one in numbers.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
