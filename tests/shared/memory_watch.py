"""How much more memory a piece of work takes, in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path
from threading import Thread
from time import sleep

HERE = Path(__file__).parent
# Where the system tells how much a process holds.
STATUS = Path("/proc/self/status")


def held():
    """Return how many kB this process holds; what is mapped out of files may go at any time."""
    (line,) = (one for one in STATUS.read_text().splitlines() if "RssAn" in one)
    return int(line.split()[1])


class Watch:
    """Looks at the memory of this process from now on."""

    def __init__(self):
        self.before, self.seen = held(), []
        Thread(target=self._look, daemon=True).start()

    def _look(self):
        while True:
            self.seen.append(held())
            sleep(0.005)

    def most(self):
        """Return how many MB more it held at most."""
        return (max(self.seen) - self.before) // 1024


def told_by(script, *arguments, cwd=None):
    """Run a script, which may import this module, and return the number that it prints."""
    places = os.pathsep.join([str(HERE.parents[1]), str(HERE)])
    done = subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)], capture_output=True, text=True,
        cwd=cwd, env={**os.environ, "PYTHONPATH": places},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return int(done.stdout)
