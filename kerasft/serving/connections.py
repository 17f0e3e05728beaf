"""Connections over HTTP and gRPC: how many there are, and how long one may be idle."""

from __future__ import annotations

import asyncio
import errno
import time
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from kerasft.serving import json_answers
from kerasft.serving.status import Failure

# How long a client may take to send its first head, and be idle after an answer.
HEAD_SECONDS = 10.0
IDLE_SECONDS = 60.0
# The same over gRPC, where an idle connection cannot give its place to a new one: clients connect
# again by themselves.
GRPC_IDLE_SECONDS = 20.0
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
        ("grpc.max_connection_idle_ms", int(GRPC_IDLE_SECONDS * 1000)),
        # So a client that never takes its answers holds them for so long at most.
        ("grpc.max_connection_age_ms", int(AGE_SECONDS * 1000)),
        ("grpc.max_connection_age_grace_ms", int(2 * seconds * 1000)),
        # Or a fast client could send megabytes to each call before they are asked for.
        ("grpc.http2.bdp_probe", 0),
    ]


class Reports:
    """Says once in a while what a loop meets again and again, in one line.

    Where no more files may be opened, the loop tries to take a connection many times a second, and
    each time would be a traceback.

    Args:
        say: Takes a line.
        every: Seconds between two lines.
    """

    def __init__(self, say: Callable[[str], None], *, every: float = 60.0):
        self._say, self._every, self._next = say, every, 0.0

    def __call__(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Handle what nothing in the loop handled."""
        error = context.get("exception")
        if not (isinstance(error, OSError) and error.errno in _SHORT_OF):
            loop.default_exception_handler(context)
        elif time.monotonic() >= self._next:
            self._next = time.monotonic() + self._every
            self._say(
                f"no connection can be taken for now: {error.strerror}. More files at once: "
                "ulimit -n."
            )


_SHORT_OF = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class _Protocol(RequestHandler):
    """Answers also what is no HTTP in JSON."""

    __slots__ = ()

    def data_received(self, data: bytes) -> None:
        """Take bytes; a body that turns out to be none ends the wait for the rest of it."""
        super().data_received(data)
        request = self._current_request
        if request is None or not self._messages or request.content.is_eof():
            return
        wrong = getattr(self._messages[-1][0], "message", None)
        if wrong is not None:  # what is wrong stands in the queue, behind this very request
            self._messages.pop()
            self.close()  # after the answer
            request.content.set_exception(web.RequestPayloadError(wrong))

    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Return the answer to a request that could not be read."""
        found = super().handle_error(request, status, exc, message)
        said = found.text if isinstance(found, web.Response) else None
        # Several lines of it show where in the request it was.
        said = f"The request cannot be read: {' '.join((said or '').split())}"
        answer = web.Response(
            body=json_answers.text_of({"error": Failure("INVALID_ARGUMENT", said).words}),
            status=found.status, content_type="application/json", charset="utf-8",
        )
        answer.force_close()
        return answer


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
        self._more = more
        super().__init__(self._handle, **more)

    def __call__(self) -> RequestHandler:
        """Return what reads a connection."""
        return _Protocol(self, loop=self._loop, **self._more)

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
