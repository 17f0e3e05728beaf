"""What a sweep shows while it runs: a line a trial, live on a terminal."""

from __future__ import annotations

import shutil
import sys
import time
from typing import Any, TextIO

from kerasft.sweeps.ledger import Ledger
from kerasft.sweeps.summary import line_of
from kerasft.system.console import printable

# How often the trials are looked at, in seconds.
EVERY = 0.5
_UP, _CLEAR = "\x1b[{}A", "\x1b[J"


class Progress:
    """Tells of each trial that has ended, and on a terminal of those that run.

    Args:
        ledger: The sweep. What ended before is not told again.
        stream: Where it is told; standard output by default.
    """

    def __init__(self, ledger: Ledger, stream: TextIO | None = None):
        self.ledger, self.stream = ledger, stream or sys.stdout
        self.told = {t.number for t in ledger.trials() if t.state.is_finished()}
        self.live = self.stream.isatty()
        self.drawn, self.last = 0, -EVERY
        self.since: dict[int, float] = {}

    def update(self, *, now: bool = False) -> None:
        """Tell what has changed since the last time.

        Args:
            now: Whether to look though little time has passed since then.
        """
        moment = time.monotonic()
        if not now and moment - self.last < EVERY:
            return
        self.last = moment
        trials = self.ledger.trials()
        ended = [t for t in trials if t.state.is_finished() and t.number not in self.told]
        if not ended and not self.live:
            return
        self.clear()
        for trial in ended:
            self.told.add(trial.number)
            print(printable(line_of(self.ledger, trial)), file=self.stream)
        if self.live:
            self._draw([t for t in trials if t.state.name == "RUNNING"], moment)
        self.stream.flush()

    def clear(self) -> None:
        """Take the live lines away."""
        if self.drawn:
            self.stream.write(_UP.format(self.drawn) + _CLEAR)
            self.stream.flush()
            self.drawn = 0

    def _draw(self, running: list[Any], moment: float) -> None:
        width = shutil.get_terminal_size().columns - 1
        total = self.ledger.search["n_trials"]
        lines = [f"{len(self.told)} of {'?' if total is None else total} trials have ended, "
                 f"{len(running)} run"]  # fmt: skip
        for trial in running:
            seconds = moment - self.since.setdefault(trial.number, moment)
            so_far = "begins"
            if trial.intermediate_values:
                epoch = max(trial.intermediate_values)
                so_far = f"epoch {epoch}  {trial.intermediate_values[epoch]:.4f}"
            lines.append(f"trial {trial.number}  {so_far}  ({seconds:.0f} s)  "
                         f"{trial.user_attrs.get('point', '')}")  # fmt: skip
        for line in lines:
            self.stream.write(printable(line)[:width] + "\n")
        self.drawn = len(lines)
