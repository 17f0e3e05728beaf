"""Whether there is memory for another worker."""

from __future__ import annotations

import time

from kerasft.system.memory import available as available

GIB = 2**30
# With so many bytes for each worker none is waited for.
AMPLE = 4 * GIB
# A worker that took as much for so many seconds has what it needs, as far as can be told.
STEADY = 5.0
# What another worker is taken to need, in parts of the largest that runs.
MARGIN = 1.25


class Gauge:
    """Watches how much memory a process takes.

    Args:
        pid: The process.
    """

    def __init__(self, pid: int):
        self.pid, self.most, self.rose = pid, 0, time.monotonic()

    def look(self) -> None:
        """Note what it takes now."""
        import psutil

        try:
            taken = int(psutil.Process(self.pid).memory_info().rss)
        except psutil.Error:  # it has ended
            return
        if taken > 1.05 * self.most:
            self.most, self.rose = taken, time.monotonic()

    @property
    def steady(self) -> bool:
        """Whether it has taken about as much for some seconds."""
        return self.most > 0 and time.monotonic() - self.rose >= STEADY
