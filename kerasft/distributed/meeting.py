"""How the workers of a run meet, before TensorFlow is asked to connect them.

TensorFlow waits for missing workers in C++, with the interpreter's lock held: without a word,
without an end, and deaf to signals. So all meet in Python first, at the ports at which TensorFlow
will listen. Each asks all others until they have answered, and then tells the first one, which lets
all go at once; from there on nobody needs anybody's port. The connections to the first one stay:
they show who ends while TensorFlow connects all (`lookout`), and from then on (`lifelines`).
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from pathlib import Path

from kerasft.distributed import lookout
from kerasft.distributed.cluster import Cluster
from kerasft.distributed.peers import dialled, listening
from kerasft.errors import AGAIN, Stopped
from kerasft.system.console import error_stream, listing

# After so many seconds it is said who is missing, and every so many again.
PATIENCE = 30.0
# Seconds between two rounds of asking, and those that an answer may take. Whoever is ready to go
# is patient: the first worker may let all go just when one of them asks anew.
ROUND, ANSWER, LAST_ANSWER = 0.2, 2.0, 20.0
ASK, READY, GO = "asks", "ready", "go"


class Reception:
    """Answers whoever asks at a worker's port, and keeps the connections of those who are ready.

    Args:
        cluster: The workers.
        door: A socket that listens.
    """

    def __init__(self, cluster: Cluster, door: socket.socket):
        self.cluster, self.door = cluster, door
        self.ready: dict[int, socket.socket] = {}
        self.lock = threading.Lock()
        self.thread = threading.Thread(target=self._receive, name="kerasft-meeting", daemon=True)

    def __enter__(self) -> Reception:
        self.thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        # Closing it would not wake who waits at it.
        with suppress(OSError):
            self.door.shutdown(socket.SHUT_RDWR)
        self.door.close()
        self.thread.join()
        if kind is not None:
            for link in self.ready.values():
                link.close()

    def _receive(self) -> None:
        while True:
            try:
                link, _ = self.door.accept()
            except OSError:
                return
            if not self._answered(link):
                link.close()

    def _answered(self, link: socket.socket) -> bool:
        """Answer one who asks, and return whether the connection is kept."""
        try:
            link.settimeout(ANSWER)
            who = _said(_line(link), self.cluster)
            if who is None:
                return False
            link.sendall(_words(self.cluster, ASK))
        except OSError:
            return False
        rank, word = who
        if word != READY:
            return False
        with self.lock:
            if rank in self.ready:  # it was started again
                self.ready[rank].close()
            self.ready[rank] = link
        return True

    def lost(self) -> list[int]:
        """Return the ranks of those who were ready and have ended, and forget them."""
        with self.lock:
            ended = [rank for rank, link in self.ready.items() if _has_ended(link)]
            for rank in ended:
                self.ready.pop(rank).close()
        return ended


@contextmanager
def met(cluster: Cluster, timeout: float) -> Iterator[dict[int, socket.socket]]:
    """Wait for all workers, then look on while the block has TensorFlow connect them.

    The block is given the connections: by rank, of the first worker to all others, of these to
    the first. They are its own once it is through.

    Args:
        cluster: The workers.
        timeout: Seconds after which the process ends: in Python, or within the block by SIGKILL.

    Raises:
        Stopped: If workers are missing then.
        PortInUse: If another process listens at this worker's port.
    """
    links = _meet(cluster, timeout)
    with ExitStack() as held:
        for link in links.values():
            held.enter_context(link)
        # A process that looks on is handed connections.
        with _looked_after(cluster, links, timeout) if os.name == "posix" else nullcontext():
            yield links
        held.pop_all()


def _meet(cluster: Cluster, timeout: float) -> dict[int, socket.socket]:
    """Return connections to the others, of ranks but the first to the first one."""
    others = [rank for rank in range(len(cluster.addresses)) if rank != cluster.rank]
    waiting = _Waiting(cluster, timeout)
    with Reception(cluster, listening(cluster)) as reception, ExitStack() as held:
        seen: set[int] = set()
        while True:
            for rank in others:
                waiting.look([one for one in others if one not in seen])
                if rank not in seen and _asked(cluster, rank, ASK, waiting) is not None:
                    seen.add(rank)
            seen.difference_update(reception.lost())
            missing = [one for one in others if one not in seen]
            if not missing and cluster.rank:
                link = _asked(cluster, 0, READY, waiting)
                if link is not None and _let_go(link, held, waiting):
                    held.pop_all()
                    return {0: link}
                seen.discard(0)
            elif not missing:
                seen.difference_update(reception.lost())  # in the meantime
                with reception.lock:
                    links = dict(reception.ready)
                missing = [one for one in others if one not in links]
                if not missing:
                    for link in links.values():
                        with suppress(OSError):  # whoever is gone now is missed at once
                            link.sendall(f"{GO}\n".encode())
                    return links
            waiting.look(missing)
            time.sleep(ROUND)


def _let_go(link: socket.socket, held: ExitStack, waiting: _Waiting) -> bool:
    """Wait for the first worker's word, and return whether it came."""
    held.enter_context(link)
    link.settimeout(ROUND)
    while True:
        waiting.look([], "the first worker waits for others")
        try:
            return _line(link) == GO
        except TimeoutError:
            continue
        except OSError:
            return False


class _Waiting:
    """Says now and then who is missing, and when it has been long enough."""

    def __init__(self, cluster: Cluster, timeout: float):
        self.cluster, self.timeout = cluster, timeout
        self.began = time.monotonic()
        self.told = 0.0
        self.strangers: set[int] = set()

    def look(self, missing: list[int], otherwise: str = "") -> None:
        """Say who is missing where it is time to.

        Raises:
            Stopped: If the time is over.
        """
        waited = time.monotonic() - self.began
        if waited < min(self.told + PATIENCE, self.timeout):
            return
        self.told = waited
        who = f"missing: {listing(map(self._name, missing))}" if missing else otherwise
        if waited >= self.timeout:
            raise Stopped(
                f"distribute_timeout={self.timeout:g} s is over", AGAIN,
                where=f"before the group was complete; {who}. Start all workers, with the right "
                      f"addresses ({self.cluster.source})",
            )
        with suppress(OSError):
            os.write(2, f"waiting for the other workers for {waited:.0f} s; {who}\n".encode())

    def _name(self, rank: int) -> str:
        name = self.cluster.name(rank)
        return f"{name}, where another program answers" if rank in self.strangers else name


def _asked(cluster: Cluster, rank: int, word: str, waiting: _Waiting) -> socket.socket | None:
    """Ask another worker; return the connection if it has answered, open where it is kept."""
    try:
        link = dialled(cluster.addresses[rank])
    except OSError:
        waiting.strangers.discard(rank)
        return None
    with ExitStack() as stack:
        stack.enter_context(link)
        try:
            link.settimeout(ANSWER if word == ASK else LAST_ANSWER)
            link.sendall(_words(cluster, word))
            heard = _line(link)
        except OSError:
            heard = ""
        who = _said(heard, cluster)
        if who is None or who[0] != rank:
            waiting.strangers.add(rank)
            return None
        waiting.strangers.discard(rank)
        if word == READY:
            stack.pop_all()
    return link


def _words(cluster: Cluster, word: str) -> bytes:
    return f"kerasft {_digest(cluster)} {cluster.rank} {word}\n".encode()


def _said(line: str, cluster: Cluster) -> tuple[int, str] | None:
    """Return who of these workers says what; `None` for whoever is none of them."""
    words = line.split(" ")
    if len(words) != 4 or words[:2] != ["kerasft", _digest(cluster)] or not words[2].isdecimal():
        return None
    return int(words[2]), words[3]


def _digest(cluster: Cluster) -> str:
    return hashlib.sha256("\n".join(cluster.addresses).encode()).hexdigest()[:32]


def _line(link: socket.socket) -> str:
    """Return the next line, without what may follow."""
    made = b""
    while len(made) < 200 and not made.endswith(b"\n"):
        if not (piece := link.recv(1)):
            break
        made += piece
    return made.decode("utf-8", "replace").rstrip("\n")


def _has_ended(link: socket.socket) -> bool:
    link.setblocking(False)
    try:
        return not link.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return False
    except OSError:
        return True
    finally:
        link.settimeout(ANSWER)


@contextmanager
def _looked_after(
    cluster: Cluster, links: dict[int, socket.socket], timeout: float
) -> Iterator[None]:
    """Have a process look on during the block."""
    for link in links.values():
        link.setblocking(True)
        link.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    said = {
        "parent": os.getpid(), "seconds": timeout,
        "peers": {str(link.fileno()): cluster.name(rank) for rank, link in links.items()},
    }
    process = subprocess.Popen(
        # Alone with Python: it must begin at once.
        [sys.executable, "-I", "-S", str(Path(lookout.__file__)), json.dumps(said)],
        stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=error_stream(),
        pass_fds=[link.fileno() for link in links.values()],
    )
    assert process.stdin is not None
    try:
        with _signals_kept():
            yield
        with suppress(OSError):
            process.stdin.write(lookout.THROUGH)
            process.stdin.flush()
    finally:
        with suppress(OSError):
            process.stdin.close()
        process.wait()


@contextmanager
def _signals_kept() -> Iterator[None]:
    """Let Ctrl-C end the process, which Python cannot, and have Python heed SIGTERM again after."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {n: signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)}
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)  # TensorFlow takes that of SIGTERM for itself
