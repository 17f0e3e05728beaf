"""Signals while a run trains: save, and stop where the run can go on later."""

from __future__ import annotations

import _thread
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from kerasft.errors import AGAIN


class Interrupted(Exception):
    """A signal to stop came where nothing changes that a checkpoint holds."""


class Signals:
    """What was asked of a run.

    SIGTERM and a first SIGINT (Ctrl-C) ask it to finish the step, save and stop; a second SIGINT
    ends it at once. SIGUSR1 asks it to save and go on.
    """

    def __init__(self) -> None:
        self.interrupted = False
        self.stop: tuple[str, int] | None = None  # the reason and the exit status
        self.save = False
        self._interrupts = False

    @contextmanager
    def heeded(self) -> Iterator[None]:
        """Heed signals inside the block. Python hands them to the main thread alone."""
        before: dict[int, Any] = {}
        if threading.current_thread() is threading.main_thread():
            for name in ("SIGTERM", "SIGINT", "SIGUSR1"):
                if number := getattr(signal, name, 0):  # Windows has no SIGUSR1
                    before[number] = signal.signal(number, self._heard)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, signal.SIG_DFL if handler is None else handler)

    @contextmanager
    def interrupting(self) -> Iterator[None]:
        """Let a signal to stop raise `Interrupted` inside the block, or at its start."""
        if self.stop is not None:
            raise Interrupted
        self._interrupts = True
        try:
            yield
        finally:
            self._interrupts = False

    def over(self) -> None:
        """The run's time is over."""
        self.stop = self.stop or ("max_time", AGAIN)
        if self._interrupts:
            # Called by a timer: the main thread is told as by a signal.
            _thread.interrupt_main(signal.SIGTERM)

    def _heard(self, number: int, frame: Any) -> None:
        if number not in (signal.SIGTERM, signal.SIGINT):
            self.save = True
            return
        if number == signal.SIGINT and self.interrupted:
            raise KeyboardInterrupt
        self.interrupted = self.interrupted or number == signal.SIGINT
        if self.stop is None:
            self.stop = (signal.Signals(number).name, 128 + number)
            line = f"{self.stop[0]}: finishing the step and saving"
            line += "; Ctrl-C once more ends the run at once" * (number == signal.SIGINT)
            # Not by print, which may be at work itself; and who reads it may be gone.
            with suppress(OSError):
                os.write(2, f"{line}\n".encode())
        if self._interrupts:
            self._interrupts = False
            raise Interrupted
