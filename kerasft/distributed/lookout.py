"""Ends a process that would wait for ever in a call of TensorFlow, where a worker is gone.

`meeting` runs this file as a process of its own: the call holds the interpreter's lock, so that no
thread and no signal handler of the process itself could. It imports nothing but what Python has.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import time
from contextlib import suppress

# Said on standard input, or by another worker's lookout: that process is through with its call.
THROUGH = b"."


def watch(parent: int, until: float, limit: str, peers: dict[int, str]) -> None:
    """Look on until a process is through with its call, and end it if others are gone.

    Standard input ends with the process.

    Args:
        parent: The process.
        until: When it has waited long enough, of `time.monotonic()`.
        limit: How long that is, in words.
        peers: Connections to the lookouts of others, with their names.
    """
    gone, reason = "", ""
    while not reason:
        ready = select.select([0, *peers], [], [], max(until - time.monotonic(), 0.0))[0]
        if 0 in ready:
            if os.read(0, 1):
                _tell(peers, THROUGH)
            return  # or else it is dead, and the others see that their connections end
        for number in ready:
            said = _read(number)
            if said.startswith(THROUGH):
                del peers[number]
            else:
                # That of rank 0 is connected with all, and says which one it has lost.
                gone = said.decode("utf-8", "replace").strip() or peers.pop(number)
                reason = f"{gone} is gone before the group was complete"
                break
        if not ready:
            reason = f"TensorFlow has not connected the workers within {limit}"
    _tell(peers, f"{gone}\n".encode() if gone else b"")
    print(f"error: {reason}; this worker ends, to be started again", file=sys.stderr, flush=True)
    os.kill(parent, signal.SIGKILL)  # TensorFlow catches SIGTERM, and does nothing about it


def _read(number: int) -> bytes:
    try:
        return os.read(number, 4096)
    except OSError:  # reset
        return b""


def _tell(peers: dict[int, str], words: bytes) -> None:
    for number in peers:
        with suppress(OSError):
            os.write(number, words)


if __name__ == "__main__":
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends the process, and that ends this
    given = json.loads(sys.argv[1])
    watch(
        given["parent"], time.monotonic() + given["seconds"], f"{given['seconds']:g} s",
        {int(number): name for number, name in given["peers"].items()},
    )
