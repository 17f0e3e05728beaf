"""Connections between the processes of a run that show which of them has ended first.

In TensorFlow's ring only the neighbours of a process see at once that it is gone; the others wait
for a sign of life until they have missed enough of them (`group.HEARTBEATS`). And whoever has seen
it ends, so that soon nobody can tell from closed ports who was the first. So each keeps the
connection to the first worker that it met by (`meeting`). The first one sees whose connection
ends, tells all the others whose it was, and everybody breaks off what TensorFlow waits for.
"""

from __future__ import annotations

import math
import selectors
import socket
import threading
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress

from kerasft.distributed.cluster import Cluster
from kerasft.distributed.lookout import THROUGH
from kerasft.system.console import listing

# Seconds in which those that end together are found to do so, and in which what they have sent
# last may still arrive: a group that is done ends so, too.
GRACE = 1.0


class Lifelines:
    """Looks on, in a thread, while the processes of a run train.

    Args:
        cluster: The processes.
        links: Connections by rank: of the first worker to all others, of these to the first.
    """

    def __init__(self, cluster: Cluster, links: Mapping[int, socket.socket]):
        self.cluster, self.links = cluster, dict(links)
        self._gone: set[int] = set()
        self._told = threading.Event()

    def look_on(self) -> None:
        """Begin to look on, until a process is gone or this one ends."""
        for link in self.links.values():
            link.setblocking(True)
        threading.Thread(target=self._watch, name="kerasft-lifelines", daemon=True).start()

    def gone(self, seconds: float) -> list[int]:
        """Return the ranks of those that ended first, once it is known.

        Args:
            seconds: How long to wait while nobody is known to have.
        """
        self._told.wait(seconds)
        return sorted(self._gone) if self._told.is_set() else []

    def leave(self, gone: Iterable[int]) -> None:
        """Say that this process ends because others are gone, before it does.

        Args:
            gone: Their ranks.
        """
        names = "".join(f"{self.cluster.name(rank)}\n" for rank in gone)
        for link in self.links.values():
            with suppress(OSError):
                link.sendall(names.encode())

    def _watch(self) -> None:
        follow: set[int] = set()  # they end for the sake of others
        until = math.inf
        with selectors.DefaultSelector() as links:
            for rank, link in self.links.items():
                links.register(link, selectors.EVENT_READ, rank)
            while links.get_map() and time.monotonic() < until:
                left = None if until == math.inf else max(until - time.monotonic(), 0.0)
                for key, _ in links.select(left):
                    said = _read(self.links[key.data])
                    if named := self._ranks(said):
                        follow.add(key.data)
                        self._gone |= named
                    if not said:
                        links.unregister(key.fileobj)
                        self._gone |= {key.data} - follow
                    if self._gone:
                        told = named and self.cluster.rank  # the first one has waited
                        until = min(until, time.monotonic() + (0.0 if told else GRACE))
        if self._gone:
            time.sleep(max(until - time.monotonic(), 0.0))
            self._told.set()
            if self.cluster.rank == 0:
                self.leave(self._gone)
            self._break_off()

    def _ranks(self, said: bytes) -> set[int]:
        """Return whom somebody names, or the lookout that was on the line before."""
        lines = said.decode("utf-8", "replace").lstrip(THROUGH.decode()).splitlines()
        return {rank for rank in range(len(self.cluster.addresses))
                if self.cluster.name(rank) in lines}  # fmt: skip

    def _break_off(self) -> None:
        """Have all fail that waits for others in TensorFlow, now and from now on."""
        import tensorflow as tf
        from tensorflow.python.eager import context

        names = listing(self.cluster.name(rank) for rank in sorted(self._gone))
        context.context().abort_collective_ops(tf.errors.UNAVAILABLE, f"gone: {names}")


def _read(link: socket.socket) -> bytes:
    try:
        return link.recv(4096)
    except OSError:  # reset
        return b""
