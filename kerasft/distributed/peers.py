"""The other processes of a run, as far as a look at their ports tells."""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from kerasft.distributed.cluster import Cluster
from kerasft.errors import UserError
from kerasft.system.console import listing

# After so many seconds it is said who is missing, and every so many again.
PATIENCE = 30.0
# The exit status of a process that waited in vain, to be started again.
TIMED_OUT = 75


def answers(address: str, timeout: float = 1.0) -> bool:
    """Whether a process listens at an address."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout).close()
    except OSError:
        return False
    return True


def silent(cluster: Cluster) -> list[int]:
    """Return the ranks of the other workers that do not answer."""
    return [
        rank for rank, address in enumerate(cluster.addresses)
        if rank != cluster.rank and not answers(address)
    ]


def require_free(cluster: Cluster) -> None:
    """See that nobody else listens at this worker's port.

    Raises:
        UserError: If somebody does.
    """
    address = cluster.addresses[cluster.rank]
    port = int(address.rpartition(":")[2])
    with socket.socket() as one:
        # A port whose connections are being closed is free, for who listens.
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            one.bind(("", port))
        except OSError as error:
            raise UserError(
                f"distribute: {cluster.name(cluster.rank)} cannot listen at its port "
                f"({error.strerror or error}). End what does (an earlier run, maybe), or give the "
                f"workers other ports. Received: {address} of {cluster.source}."
            ) from error


@contextmanager
def awaited(cluster: Cluster, timeout: float) -> Iterator[None]:
    """Say who is missing while the block waits for all workers, and end the process in time.

    TensorFlow waits in C++, without a word and without an end; so another thread looks on.

    Args:
        cluster: The workers.
        timeout: Seconds after which the process ends.
    """
    done = threading.Event()
    thread = threading.Thread(
        target=_look_on, args=(cluster, timeout, done), name="kerasft-peers", daemon=True
    )
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _look_on(cluster: Cluster, timeout: float, done: threading.Event) -> None:
    began = time.monotonic()
    while not done.wait(min(PATIENCE, max(began + timeout - time.monotonic(), 0.0))):
        waited = time.monotonic() - began
        missing = [cluster.name(one) for one in silent(cluster)]
        if done.is_set():
            return
        who = listing(missing) or "nobody: all ports answer"
        _tell(f"waiting for the other workers for {waited:.0f} s; missing: {who}")
        if waited >= timeout:
            _tell(
                f"error: the group has not formed within distribute_timeout={timeout:g} s; "
                f"missing: {who}. Are they started, and are these addresses right ("
                f"{cluster.source})?"
            )
            with suppress(OSError, ValueError):
                sys.stdout.flush()
            time.sleep(0.5)  # what passes the error stream on is a thread, too
            os._exit(TIMED_OUT)


def _tell(line: str) -> None:
    with suppress(OSError):
        os.write(2, f"{line}\n".encode())
