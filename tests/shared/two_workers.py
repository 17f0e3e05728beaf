"""Two workers as two threads: what they add up meets in memory in place of a network."""

import threading
from concurrent.futures import ThreadPoolExecutor

from kerasft.distributed import group
from kerasft.distributed.cluster import Cluster


def workers():
    """Return the groups of two workers, without TensorFlow's strategy."""
    return [group.Group(None, Cluster(("a:1", "b:2"), rank, "a test"), 2) for rank in (0, 1)]


def together(monkeypatch, act):
    """Have both workers do something at once, and return what came out, by rank.

    Args:
        monkeypatch: pytest's.
        act: A function of a worker's group.
    """
    meeting, board = threading.Barrier(2, timeout=60), [None, None]

    def summed(self, values):
        board[self.rank] = values
        meeting.wait()
        total = board[0] + board[1]
        meeting.wait()
        return total

    def done(one):
        try:
            return act(one)
        except BaseException:
            meeting.abort()  # or else the other one would wait
            raise

    monkeypatch.setattr(group.Group, "_summed", summed)
    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(done, workers()))
