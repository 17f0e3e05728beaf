"""A terminal for tests: a command runs on it, and what it shows is looked at."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Sequence

# Colours, and what empties a line from the cursor on.
_COLOUR, _ERASE = re.compile(r"\x1b\[[0-9;]*m"), "\x1b[K"


def shown(written: str, width: int) -> tuple[list[str], list[str]]:
    """Return the lines that are left on a screen, and all that ever stood in one.

    Args:
        written: What was written to the terminal.
        width: The columns that it has. A line that is longer goes on in the next one, as there.
    """
    lines, ever, column = [""], list[str](), 0
    text = _COLOUR.sub("", written)
    place = 0
    while place < len(text):
        if text.startswith(_ERASE, place):
            ever.append(lines[-1])
            lines[-1], place = lines[-1][:column], place + len(_ERASE)
            continue
        sign, place = text[place], place + 1
        if sign == "\r":
            ever.append(lines[-1])
            column = 0
        elif sign == "\n":
            ever.append(lines[-1])
            lines.append("")
        else:
            assert sign >= " ", f"the screen does not know {sign!r}"
            if column == width:
                lines.append("")
                column = 0
            lines[-1] = lines[-1][:column] + sign + lines[-1][column + 1 :]
            column += 1
    return [line.rstrip() for line in lines], [line.rstrip() for line in dict.fromkeys(ever)]


class Terminal:
    """A process whose standard streams are a terminal of a width.

    Args:
        command: Its words.
        width: How many columns the terminal has.
        environment: What its environment has beside this process'.
    """

    def __init__(self, command: Sequence[str], width: int, **environment: str):
        own, its = pty.openpty()
        fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 40, width, 0, 0))
        others = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES", "NO_COLOR")}
        self._terminal, self.written = own, ""
        self.process = subprocess.Popen(
            command, stdin=its, stdout=its, stderr=its, close_fds=True, start_new_session=True,
            env=others | {"TERM": "xterm-256color"} | environment,
            # Only the terminal that a process is controlled by turns ^C into a signal.
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0) and None,
        )  # fmt: skip
        os.close(its)

    def read(self, until: Callable[[str], object] = lambda written: False, seconds: float = 240.0):
        """Read until something is written, or until the process has ended.

        Args:
            until: Told all that was written so far, whether that is enough.
            seconds: How long to wait before the process is killed, and the test fails.
        """
        ends = time.monotonic() + seconds
        while not until(self.written):
            if time.monotonic() > ends:
                self.process.kill()
                raise AssertionError(f"nothing more after {seconds:.0f} s:\n{self.written}")
            if not select.select([self._terminal], [], [], 0.5)[0]:
                continue
            try:
                read = os.read(self._terminal, 1 << 16)
            except OSError:  # the process has ended, and nobody else has the terminal
                break
            self.written += read.decode("utf-8")

    def press(self, keys: str) -> None:
        """Type."""
        os.write(self._terminal, keys.encode())

    def end(self) -> int:
        """Read what is left, and return the exit status."""
        self.read()
        os.close(self._terminal)
        return self.process.wait(timeout=30)


def kerasft(width: int, *words: str, **environment: str) -> Terminal:
    """Start a command of kerasft on a terminal."""
    return Terminal([sys.executable, "-m", "kerasft", *words], width, **environment)
