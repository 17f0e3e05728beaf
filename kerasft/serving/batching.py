"""Requests that come at the same time are answered as one batch."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from kerasft.serving.bundle import Bundle
from kerasft.serving.status import Failure

Outputs = dict[str, np.ndarray]


@dataclass
class _Group:
    """Requests that can be answered together."""

    bundle: Bundle
    signature: str
    rows: int = 0
    waiting: list[tuple[Mapping[str, np.ndarray], int, asyncio.Future]] = field(
        default_factory=list
    )
    timer: asyncio.TimerHandle | None = None


class Batcher:
    """Collects requests for a moment and answers those that fit together in one run.

    Args:
        executor: Runs the batches.
        most: The most examples in a batch; 1 answers each request by itself.
        wait: How many seconds the first request of a batch waits for others.
        limit: How many examples may wait altogether; what comes then is turned away.
    """

    def __init__(self, executor: Executor, *, most: int = 32, wait: float = 0.002,
                 limit: int = 1000):
        self.executor, self.most, self.wait, self.limit = executor, most, wait, limit
        self.held = 0
        self._open: dict[Any, _Group] = {}
        self._tasks: set[asyncio.Task] = set()

    async def run(
        self, bundle: Bundle, signature: str, inputs: Mapping[str, np.ndarray]
    ) -> Outputs:
        """Answer a request, maybe together with others.

        Raises:
            Failure: If it cannot be answered, or too many wait already.
        """
        rows = _rows(inputs)
        # Where the inputs do not agree, what the longest one holds.
        held = max([1, *(len(value) for value in inputs.values() if value.ndim)])
        if self.held + held > self.limit:
            raise Failure(
                "UNAVAILABLE",
                "The batch scheduling queue to which this task was submitted is full; "
                f"{self.held} examples wait already.",
            )
        self.held += held
        bundle.using += 1
        future: asyncio.Future = asyncio.get_running_loop().create_future()
        future.add_done_callback(lambda _: self._leave(bundle, held))
        key = self._key(bundle, signature, inputs, rows)
        if key is None:
            self._start(_Group(bundle, signature, rows, [(inputs, rows, future)]))
        else:
            self._join(key, bundle, signature, inputs, rows, future)
        # A client that goes away takes nothing from those that it shares a batch with.
        return await asyncio.shield(future)

    def _leave(self, bundle: Bundle, rows: int) -> None:
        self.held -= rows
        bundle.using -= 1

    def _key(
        self, bundle: Bundle, signature: str, inputs: Mapping[str, np.ndarray], rows: int
    ) -> Any:
        """Return what requests must have in common, or `None` for one that stays alone."""
        if rows == 0 or rows >= self.most:
            return None
        shapes = tuple(
            (name, value.dtype.str, value.shape[1:]) for name, value in sorted(inputs.items())
        )
        return id(bundle), signature, shapes

    def _join(
        self, key: object, bundle: Bundle, signature: str, inputs: Mapping[str, np.ndarray],
        rows: int, future: asyncio.Future,
    ) -> None:
        group = self._open.get(key)
        if group is not None and group.rows + rows > self.most:
            self._close(key)
            group = None
        if group is None:
            group = self._open[key] = _Group(bundle, signature)
            group.timer = asyncio.get_running_loop().call_later(self.wait, self._close, key)
        group.waiting.append((inputs, rows, future))
        group.rows += rows
        if group.rows == self.most:
            self._close(key)

    def _close(self, key: object) -> None:
        group = self._open.pop(key, None)
        if group is not None:
            if group.timer is not None:
                group.timer.cancel()
            self._start(group)

    def _start(self, group: _Group) -> None:
        task = asyncio.get_running_loop().create_task(self._answer(group))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, group: _Group) -> None:
        requests = [(inputs, rows) for inputs, rows, _ in group.waiting]
        try:
            answers: Sequence[Any] = await asyncio.get_running_loop().run_in_executor(
                self.executor, _together, group.bundle, group.signature, requests
            )
        except Exception as error:
            answers = [Failure("INTERNAL", repr(error))] * len(requests)
        for (_, _, future), answer in zip(group.waiting, answers, strict=True):
            if future.done():
                continue
            if isinstance(answer, Failure):
                future.set_exception(answer)
                future.exception()  # nobody may be left to ask
            else:
                future.set_result(answer)

    @property
    def is_busy(self) -> bool:
        """Whether something that was taken is not answered yet."""
        return bool(self._tasks)

    async def drained(self) -> None:
        """Wait until all that was taken is answered."""
        for key in list(self._open):
            self._close(key)
        while self._tasks:
            await asyncio.wait(set(self._tasks))


def _rows(inputs: Mapping[str, np.ndarray]) -> int:
    """Return the examples of a request; 0 where its inputs do not agree on it."""
    counts = {value.shape[0] if value.ndim else 0 for value in inputs.values()}
    return counts.pop() if len(counts) == 1 else 0


def _together(
    bundle: Bundle, signature: str, requests: Sequence[tuple[Mapping[str, np.ndarray], int]]
) -> list[Outputs | Failure]:
    """Answer requests in one run; each by itself where that does not work."""
    if len(requests) > 1:
        total = sum(rows for _, rows in requests)
        try:
            outputs = bundle.run(signature, {
                name: np.concatenate([inputs[name] for inputs, _ in requests])
                for name in requests[0][0]
            })  # fmt: skip
        except Failure:
            pass  # one of them is at fault, and the others must not suffer for it
        else:
            if all(value.ndim and len(value) == total for value in outputs.values()):
                ends = np.cumsum([rows for _, rows in requests])
                return [
                    {name: value[end - rows : end] for name, value in outputs.items()}
                    for end, (_, rows) in zip(ends, requests, strict=True)
                ]
    answers: list[Outputs | Failure] = []
    for inputs, _ in requests:
        try:
            answers.append(bundle.run(signature, inputs))
        except Failure as failure:
            answers.append(failure)
    return answers
