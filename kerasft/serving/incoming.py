"""Messages over gRPC while they come in: how many, and for how long.

A call begins before its message is there. Until the server asks for the message, a client can send
64 KB of it; from then on, gRPC holds whatever comes, up to the largest message. So the server asks
for a few messages at a time, and a client that begins one and stops gives its place to others.
"""

from __future__ import annotations

import asyncio

import grpc

from kerasft.serving.limits import Limits
from kerasft.serving.status import Failure, invalid

# How many messages come in at once.
READING = 4
# How many calls wait for that.
WAITING = 1000
# How long a message may take where others wait.
SECONDS = 1.0


class _Call:
    """A call whose message is not there yet."""

    __slots__ = ("aborting", "context", "since", "turn")

    def __init__(self, context: grpc.aio.ServicerContext):
        self.context, self.since = context, 0.0
        self.turn: asyncio.Future | None = None
        self.aborting: asyncio.Task | None = None


class Incoming:
    """Reads the messages of calls, a few at a time.

    Where all places are taken, the call that came last is the next: those before it may wait for
    clients that send nothing. A message that takes longer than `SECONDS` then ends with
    `UNAVAILABLE`, as does the oldest call where too many wait.
    """

    def __init__(self) -> None:
        # The oldest first.
        self._reading: dict[_Call, None] = {}
        self._waiting: dict[_Call, None] = {}
        self._timer: asyncio.TimerHandle | None = None

    async def message(self, context: grpc.aio.ServicerContext, limits: Limits) -> bytes:
        """Return the message of a call.

        Args:
            context: The call.
            limits: The time that it may take.

        Raises:
            Failure: If there is none.
            grpc.aio.AbortError: If it took too long; the call is ended already.
        """
        loop, call = asyncio.get_running_loop(), _Call(context)
        timer = loop.call_later(limits.left(), self._end, call, limits.late())
        try:
            if len(self._reading) >= READING:
                await self._turn(call)
            call.since = loop.time()
            self._reading[call] = None
            found = await context.read()
        finally:
            timer.cancel()
            self._leave(call)
        if call.aborting is not None:
            await call.aborting  # which raises
        if found is grpc.aio.EOF:
            raise invalid("The call holds no message.")
        return found

    async def _turn(self, call: _Call) -> None:
        """Wait for a place."""
        if len(self._waiting) >= WAITING:
            self._end(next(iter(self._waiting)), _crowded())
        call.turn = asyncio.get_running_loop().create_future()
        self._waiting[call] = None
        self._watch()
        await call.turn

    def _leave(self, call: _Call) -> None:
        self._waiting.pop(call, None)
        self._reading.pop(call, None)
        self._admit()

    def _admit(self) -> None:
        """Give places that are free to those that came last."""
        free = READING - len(self._reading)
        while free > 0 and self._waiting:
            call, _ = self._waiting.popitem()
            if call.turn is not None and not call.turn.done():
                call.turn.set_result(None)
                self._reading[call] = None
                call.since = asyncio.get_running_loop().time()
                free -= 1

    def _watch(self) -> None:
        """See to it that the oldest message gives up its place in time."""
        if self._timer is None and self._waiting and self._reading:
            when = next(iter(self._reading)).since + SECONDS
            self._timer = asyncio.get_running_loop().call_at(when, self._make_way)

    def _make_way(self) -> None:
        self._timer = None
        now = asyncio.get_running_loop().time()
        while self._waiting and self._reading:
            oldest = next(iter(self._reading))
            if oldest.since + SECONDS > now + 0.001:
                break
            self._end(oldest, _crowded())
        self._watch()

    def _end(self, call: _Call, failure: Failure) -> None:
        """End a call whose message does not come.

        Its read is not cancelled, for gRPC may still write to what it holds: it ends with the call.
        """
        if call.turn is not None and not call.turn.done():
            call.turn.set_exception(failure)
        elif call.aborting is None:
            code = getattr(grpc.StatusCode, failure.code)
            call.aborting = asyncio.get_running_loop().create_task(
                call.context.abort(code, failure.words)
            )
            # What it raises is for the call itself, which may be gone.
            call.aborting.add_done_callback(lambda task: task.cancelled() or task.exception())
        self._leave(call)


def _crowded() -> Failure:
    return Failure(
        "UNAVAILABLE", "The message did not come in time, and others wait; try again later."
    )
