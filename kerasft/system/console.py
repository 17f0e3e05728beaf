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

from kerasft.system.terminal import Styled, is_terminal, printable, status, wrapped

# What TensorFlow's C++ side writes to the error stream before its log levels are in force, or
# where TensorFlow was imported before they were set.
_CHATTER = re.compile(
    rb"^(WARNING: All log messages before absl::InitializeLog"
    rb"|To enable the following instructions: .*rebuild TensorFlow"
    rb"|[IWE]0000 .*(port\.cc|cudart_stub|cuda_platform|cuda_executor|cuda_diagnostics"
    rb"|node_def_util|cpu_feature_guard|computation_placer|generator_dataset_op|meta_optimizer"
    rb"|util\.cc))"
)
# How such a line begins. Any other is passed on before it has ended: it may be a download's bar.
_MAY_BE_CHATTER = re.compile(rb"WARNING: All|To enable|[IWE]0000 ")


class Clock:
    """How long a run has been at work: since its process began, or since it was called in Python.

    The command line imports this before TensorFlow, which is as good as the start of the process;
    of several runs in one process each counts for itself.
    """

    def __init__(self) -> None:
        self.began = time.perf_counter()
        self.of_command = False

    def begin(self) -> None:
        """Count from now on; for the first run of a command since its process began."""
        if not self.of_command:
            self.began = time.perf_counter()
        self.of_command = False

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
    with status.aside():
        if isinstance(line, Styled):
            print(line.shown_on(sys.stdout), flush=True)
        else:
            print(wrapped(printable(line), sys.stdout), flush=True)


def warn(line: str) -> None:
    """Print a warning to the error stream."""
    with status.aside():
        text = Styled.of(("warning:", "yellow"), f" {line}")
        print(text.shown_on(sys.stderr), file=sys.stderr, flush=True)


def complain(problems: Sequence[str]) -> None:
    """Print what is wrong to the error stream, one problem after the other."""
    stream = sys.stderr
    with status.aside():
        if len(problems) > 1:
            print(Styled.of(("error:", "red"), f" {len(problems)} problems").shown_on(stream),
                  file=stream)  # fmt: skip
        for problem in problems:
            if len(problems) > 1:
                print(wrapped(printable(f"  - {problem}"), stream, "    "), file=stream)
            else:
                text = Styled.of(("error:", "red"), f" {problem}")
                print(text.shown_on(stream), file=stream)


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


class _Filter:
    """Keeps lines off the error stream while anybody wants it to: calls may lie in one another."""

    def __init__(self) -> None:
        self.lock, self.wanted = threading.Lock(), 0

    def begin(self) -> None:
        with self.lock:
            self.wanted += 1
            if self.wanted > 1:
                return
            sys.stderr.flush()
            self.stream = os.dup(2)
            reader, writer = os.pipe()
            os.dup2(writer, 2)
            os.close(writer)
            self.thread = threading.Thread(
                target=_pass_on, args=(reader, self.stream), daemon=True
            )
            self.thread.start()

    def end(self) -> None:
        with self.lock:
            self.wanted -= 1
            if self.wanted:
                return
            sys.stderr.flush()
            os.dup2(self.stream, 2)  # closes the pipe's last writing end, so that the thread ends
            self.thread.join(timeout=2)
            if not self.thread.is_alive():  # a process that was started inside may still write
                os.close(self.stream)


_filter = _Filter()


def error_stream() -> int:
    """Return the descriptor of the error stream, behind the filter if one is at work."""
    return _filter.stream if _filter.wanted else 2


@contextmanager
def without_chatter() -> Iterator[None]:
    """Keep the start-up lines of TensorFlow's C++ side off the error stream; all else passes.

    What it has to say is of the machine, and raised as exceptions where it matters.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # heeded where TensorFlow comes later
    _filter.begin()
    try:
        yield
    finally:
        _filter.end()


@contextmanager
def beside_output() -> Iterator[None]:
    """Have the line at the bottom drawn during the block though standard output is no terminal.

    What goes there is data; the line then is on the error stream, where that is a terminal.
    """
    if is_terminal(sys.stdout):
        yield
        return
    try:
        number = os.dup(error_stream())  # a pipe is no terminal
    except OSError:  # closed
        yield
        return
    with (
        open(number, "w", encoding="utf-8", errors="backslashreplace") as stream,
        status.drawn_on(stream),
    ):
        yield


def _pass_on(reader: int, stream: int) -> None:
    """Copy what is read but for chatter, until the other end is closed."""
    rest = b""
    while chunk := os.read(reader, 65536):
        *lines, rest = (rest + chunk).split(b"\n")
        passed = b"".join(line + b"\n" for line in lines if not _CHATTER.match(line))
        if not _MAY_BE_CHATTER.match(rest) and not b"WARNING: All".startswith(rest[:12]):
            passed, rest = passed + rest, b""
        if passed:
            with status.aside():
                os.write(stream, passed)
    os.close(reader)
    if rest:
        os.write(stream, rest)


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
