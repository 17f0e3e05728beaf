"""Limits on the size of a config and of its numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.base import Container
from omegaconf.errors import OmegaConfBaseException

from kerasft.config.yaml_limits import MOST_NODES
from kerasft.errors import UserError

# Characters that interpolations may put together, all of them.
MOST_CHARACTERS = 10_000_000
# Interpolations that are resolved, those that others lead to counted each time.
MOST_INTERPOLATIONS = 1_000
# The largest number of each of the root's scalars; no machine can use more.
MOST = {
    "epochs": 1_000_000, "batch_size": 1_000_000, "batch_tokens": 100_000_000,
    "eval_batch_size": 1_000_000, "max_steps": 1_000_000_000, "seed": 2**32 - 1,
    "max_time": 10_000_000, "training_sample": 1_000_000,
    "effective_batch": 100_000_000,
}  # fmt: skip
# The same for common numbers of parts, where a part of kerasft or Keras has no bound of its own.
MOST_OF_PARTS = {
    "backbone.image_size": 100_000, "backbone.sequence_length": 10_000_000,
    "head.width": 10_000_000, "head.depth": 10_000,
}  # fmt: skip
# What fits in TensorFlow's whole numbers.
LARGEST = 2**63 - 1


class _Budget:
    """Counts the values that interpolations stand for, and stops them when they are too many."""

    def __init__(self) -> None:
        self.values, self.characters = MOST_NODES, MOST_CHARACTERS
        self.interpolations = MOST_INTERPOLATIONS
        self.sizes: dict[int, tuple[Any, int]] = {}

    @property
    def is_spent(self) -> bool:
        return min(self.values, self.characters, self.interpolations) < 0

    def begin(self) -> None:
        self.interpolations -= 1
        self.stop()

    def spend(self, found: object) -> None:
        self.values -= self._size(found)
        value = getattr(found, "_val", found) if not isinstance(found, Container) else None
        self.characters -= len(value) if isinstance(value, str | bytes) else 0
        self.stop()

    def stop(self) -> None:
        if self.is_spent:
            # OmegaConf wraps it; who called looks at `is_spent`.
            raise OmegaConfBaseException("too many values")

    def _size(self, node: DictConfig) -> int:
        """Return how many values a node holds as it is written."""
        if isinstance(node, dict):
            return 1 + sum(map(self._size, node.values()))
        if isinstance(node, list | tuple):
            return 1 + sum(map(self._size, node))
        if not isinstance(node, DictConfig | ListConfig) or not isinstance(
            content := node._content, dict | list
        ):
            return 1
        if id(node) not in self.sizes:  # kept, so that the number is not given to another
            inner = content.values() if isinstance(content, dict) else content
            self.sizes[id(node)] = node, 1 + sum(map(self._size, inner))
        return self.sizes[id(node)][1]


# Of the config that is looked at in this thread, if any.
_BUDGET: ContextVar[_Budget | None] = ContextVar("budget", default=None)


def _counting(original: Callable[..., Any]) -> Callable[..., Any]:
    """Return a method of OmegaConf's that pays from the budget where one is set."""

    @wraps(original)
    def counted(self: Any, *given: Any, **named: Any) -> Any:
        budget = _BUDGET.get()
        if budget is None:
            return original(self, *given, **named)
        budget.begin()
        found = original(self, *given, **named)
        budget.spend(found)
        return found

    return counted


# Once and for good: OmegaConf has no other way to count what it resolves on the way to something
# else, and other threads use it at the same time.
Container._resolve_node_interpolation = _counting(Container._resolve_node_interpolation)
Container._evaluate_custom_resolver = _counting(Container._evaluate_custom_resolver)


@contextmanager
def _counted() -> Iterator[_Budget]:
    """Count whatever OmegaConf resolves inside the block, in this thread."""
    budget = _Budget()
    token = _BUDGET.set(budget)
    try:
        yield budget
    finally:
        _BUDGET.reset(token)


def require_bounded(cfg: DictConfig) -> None:
    """Refuse a config whose interpolations stand for more than `MOST_NODES` values.

    Forty lines that each name the line before twice stand for 2^40 values. They are counted while
    they are resolved, and the count is ended at the limit.

    Args:
        cfg: A node, not resolved. What cannot be resolved is left to who checks it.

    Raises:
        UserError: If it stands for more.

    Example:
        >>> require_bounded(OmegaConf.create({"a": 1, "b": ["${a}", "${a}"]}))
    """
    key = ""  # the last one that was looked at
    flat: dict[int, bool] = {}  # of nodes that interpolations lead to: none is in them
    with _counted() as budget:
        try:
            for place, node, name in _interpolations(cfg):
                key = place
                try:
                    found = node[name]
                    if not isinstance(found, DictConfig | ListConfig):
                        continue
                    if id(found) not in flat or found._parent is None:  # made by a resolver
                        flat[id(found)] = not any(True for _ in _interpolations(found))
                    if not flat[id(found)]:
                        OmegaConf.to_container(found, resolve=True)
                except (OmegaConfBaseException, ValueError, TypeError, AttributeError):
                    if budget.is_spent:
                        break
        except RecursionError:
            raise UserError(
                f"The interpolation of {key} leads back to itself, or is nested too deeply. Write "
                "out what is meant."
            ) from None
        if budget.is_spent:
            raise UserError(
                f"The interpolations (${{...}}) stand for more than {MOST_NODES:,} values, "
                f"{MOST_CHARACTERS:,} characters or {MOST_INTERPOLATIONS:,} interpolations; the "
                f"limit was reached at {key}. Write out what is meant."
            )


def _interpolations(node: DictConfig, prefix: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Yield each interpolation of a config: its key, the node that holds it, its name there."""
    if not isinstance(node, DictConfig | ListConfig) or not isinstance(
        node._content, dict | list
    ):
        return
    content = node._content  # not by `node[name]`, which looks each name up in the schema first
    named = content.items() if isinstance(content, dict) else enumerate(content)
    for name, child in list(named):
        key = f"{prefix}.{name}" if prefix else str(name)
        if child._is_interpolation():
            yield key, node, name
        else:
            yield from _interpolations(child, key)


def numbers(values: object, key: str = "") -> Iterator[tuple[str, str]]:
    """Yield what is wrong with the numbers of a config, however deep they are.

    Args:
        values: Plain values, resolved.
        key: Their key.

    Yields:
        Key and message.

    Example:
        >>> list(numbers({"epochs": 10**400}))[0][1]
        'epochs must be at most 1,000,000. Received: a number of 401 digits.'
    """
    if isinstance(values, dict | list):
        for name, inner in values.items() if isinstance(values, dict) else enumerate(values):
            yield from numbers(inner, f"{key}.{name}" if key else str(name))
    elif isinstance(values, float) and math.isnan(values):
        yield key, f"{key} must be a number. Received: nan, which is none."
    elif isinstance(values, int | float) and not isinstance(values, bool):
        most = MOST.get(key) or MOST_OF_PARTS.get(key)
        if most is None and key.startswith("finetune.") and key.endswith(".epochs"):
            most = MOST["epochs"]
        if most is not None and values > most:
            yield key, f"{key} must be at most {most:,}. Received: {written(values)}."
        elif isinstance(values, int) and abs(values) > LARGEST:
            yield key, (
                f"{key} must lie between -{LARGEST:,} and {LARGEST:,}. Received: "
                f"{written(values)}."
            )


def written(number: int | float) -> str:
    """Return a number as a message shows it; Python refuses to write out very long ones."""
    if isinstance(number, int) and abs(number) >= 10**30:
        return f"a number of {math.floor(abs(number).bit_length() * math.log10(2)) + 1} digits"
    return str(number)
