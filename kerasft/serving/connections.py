"""Connections over HTTP and gRPC: how many there are, and how long one may be idle."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

# How long a client may take to send its first head, and be idle after an answer.
HEAD_SECONDS = 10.0
IDLE_SECONDS = 60.0
# How long a connection over gRPC may last, which sound clients do not notice: they make another.
AGE_SECONDS = 600.0
# How many calls there may be over all connections of gRPC.
MOST_CALLS = 4000
_MOST = 1000


def most_connections() -> int:
    """Return how many connections each API holds: 1,000, or a quarter of the files allowed.

    The other half is for what the model and the server itself have open.
    """
    try:
        import resource
    except ImportError:  # not on this system
        return _MOST
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _MOST if soft < 0 else max(1, min(_MOST, soft // 4))


def grpc_options(nbytes: int, *, seconds: float) -> list[tuple[str, int]]:
    """Return the options of a server over gRPC, by which it bounds what connections can take.

    Args:
        nbytes: The largest message.
        seconds: The most that a call may take, and its client to take the answer.
    """
    return [
        ("grpc.max_receive_message_length", nbytes),
        ("grpc.max_send_message_length", -1),
        # Two servers on one port would each get a part of the requests.
        ("grpc.so_reuseport", 0),
        ("grpc.server_handshake_timeout_ms", int(HEAD_SECONDS * 1000)),
        ("grpc.max_allowed_incoming_connections", most_connections()),
        ("grpc.max_concurrent_streams", 256),
        ("grpc.max_connection_idle_ms", int(IDLE_SECONDS * 1000)),
        # So a client that never takes its answers holds them for so long at most.
        ("grpc.max_connection_age_ms", int(AGE_SECONDS * 1000)),
        ("grpc.max_connection_age_grace_ms", int(2 * seconds * 1000)),
        # Or a fast client could send megabytes to each call before they are asked for.
        ("grpc.http2.bdp_probe", 0),
    ]


class Connections(web.Server):
    """Answers HTTP, over so many connections at most.

    One that waits for a request gives its place to a new one; where all have a request, the new
    one is closed. One whose first head does not come is closed, too.

    Args:
        handler: Answers a request.
        most: The most connections.
        head: The most seconds for the first head.
        more: What `aiohttp.web.Server` takes.
    """

    def __init__(self, handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]], *,
                 most: int, head: float, **more: Any):
        self._handler, self._most, self._head = handler, most, head
        self._idle: dict[Any, asyncio.TimerHandle | None] = {}
        self._busy: set[Any] = set()
        super().__init__(self._handle, **more)

    def connection_made(self, handler: Any, transport: Any) -> None:
        """Take a connection, if need be for another one."""
        super().connection_made(handler, transport)
        if len(self._idle) + len(self._busy) >= self._most:
            if not self._idle:
                transport.abort()
                return
            self._end(next(iter(self._idle)))
        loop = asyncio.get_running_loop()
        self._idle[handler] = loop.call_later(self._head, self._end, handler)

    def connection_lost(self, handler: Any, exc: BaseException | None = None) -> None:
        """Forget a connection."""
        self._forget(handler)
        self._busy.discard(handler)
        super().connection_lost(handler, exc)

    def _forget(self, handler: Any) -> None:
        timer = self._idle.pop(handler, None)
        if timer is not None:
            timer.cancel()

    def _end(self, handler: Any) -> None:
        self._forget(handler)
        if handler.transport is not None:
            handler.transport.abort()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        connection = request.protocol
        self._forget(connection)
        self._busy.add(connection)
        try:
            return await self._handler(request)
        finally:
            if connection in self._busy:
                self._busy.discard(connection)
                self._idle[connection] = None
