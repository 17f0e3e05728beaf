"""The calls that both REST and gRPC make of a model."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import Executor
from typing import Any, TypeVar

import numpy as np

from kerasft.serving.batching import Batcher
from kerasft.serving.bundle import Bundle
from kerasft.serving.limits import ROOM, Limits, Room
from kerasft.serving.models import Model
from kerasft.serving.status import Failure, invalid

Answer = TypeVar("Answer")


class Answering:
    """Finds the version that a request is for, and answers it in time.

    Args:
        model: The model that is served.
        batcher: Answers requests together.
        readers: Read and write what is large.
        seconds: The most that a request may take.
        nbytes: The largest request.
    """

    def __init__(self, model: Model, batcher: Batcher, readers: Executor, *,
                 seconds: float = 60.0, nbytes: int = 64_000_000):
        self.model, self.batcher, self.seconds, self.nbytes = model, batcher, seconds, nbytes
        self.room = Room(ROOM * nbytes)
        self._readers = readers

    def limits(self) -> Limits:
        """Return what a request may take that comes now."""
        return Limits(rows=self.batcher.limit, nbytes=self.nbytes, seconds=self.seconds)

    async def aside(self, do: Callable[..., Answer], *given: Any) -> Answer:
        """Do something in a thread, so that other requests are answered meanwhile."""
        return await asyncio.get_running_loop().run_in_executor(self._readers, do, *given)

    def of(self, name: str) -> Model:
        """Return the model of a name."""
        if name != self.model.name:
            raise Failure("NOT_FOUND", f"Servable not found for request: Latest({name})")
        return self.model

    async def in_time(self, answer: Awaitable[Answer], limits: Limits) -> Answer:
        """Wait for all that a request takes, its reading too.

        Raises:
            Failure: If it takes longer than a request may.
        """
        try:
            # Not `wait_for`: its frame holds the task, and so all that a failed request had.
            async with asyncio.timeout(limits.left()):
                return await answer
        except TimeoutError:
            raise limits.late() from None

    async def run(
        self, bundle: Bundle, signature: str, inputs: Mapping[str, np.ndarray]
    ) -> dict[str, np.ndarray]:
        """Answer a request by a version.

        Raises:
            Failure: If it cannot be answered.
        """
        name, definition = bundle.signature(signature)
        if set(inputs) != set(definition.inputs):
            return bundle.run(name, inputs)  # which says what is wrong
        with self.room.taken(sum(value.nbytes for value in inputs.values())):
            return await self.batcher.run(bundle, name, inputs)

    async def score(
        self, bundle: Bundle, signature: str, method: str, serialized: np.ndarray
    ) -> dict[str, np.ndarray]:
        """Answer a classify or regress request.

        Args:
            bundle: A version.
            signature: The name of a signature; where empty, `serving_default` if it is of this
                method, else the only one that is.
            method: `"classify"` or `"regress"`.
            serialized: The examples, `[batch]`.
        """
        name = signature or _only(bundle, method)
        name, definition = bundle.signature(name)
        wanted = f"tensorflow/serving/{method}"
        if definition.method_name != wanted:
            kind = {"classify": "classification", "regress": "regression"}[method]
            raise invalid(
                f"Expected {kind} signature method_name to be {wanted}. Was: "
                f"{definition.method_name}"
            )
        if list(definition.inputs) != ["inputs"]:
            raise invalid(f"Expected one input Tensor named inputs in the signature {name}")
        return await self.run(bundle, name, {"inputs": serialized})


def _only(bundle: Bundle, method: str) -> str:
    """Return the signature that a request without a name means.

    TensorFlow Serving takes `serving_default` alone. Ours answers `predict` there, so that the
    request would always fail; where one signature has the method, it can only be meant.
    """
    named = [n for n, s in bundle.signatures.items() if s.method_name.endswith(f"/{method}")]
    return named[0] if len(named) == 1 else ""


def infos_of(bundle: Bundle, signature: str) -> Mapping[str, Any]:
    """Return the `TensorInfo` of each input of a signature."""
    return dict(bundle.signature(signature)[1].inputs)
