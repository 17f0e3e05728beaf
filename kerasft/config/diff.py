"""Differences between two configs, in words."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

from omegaconf import DictConfig, OmegaConf


def differences(then: DictConfig, now: DictConfig, *, free: Collection[str] = ()) -> list[str]:
    """Say which values differ.

    Args:
        then: A config.
        now: Another.
        free: Keys that may differ, with all below them.

    Returns:
        A phrase for each key.

    Example:
        >>> differences(OmegaConf.create({"a": {"b": 1}}), OmegaConf.create({"a": {"b": 2}}))
        ['a.b was 1, now 2']
    """
    one, other = (dict(leaves(OmegaConf.to_container(cfg, resolve=True))) for cfg in (then, now))
    return [
        f"{key} was {one.get(key, 'nothing')}, now {other.get(key, 'nothing')}"
        for key in sorted({*one, *other})
        if not any(key == name or key.startswith(f"{name}.") for name in free)
        and not _same(one.get(key, "nothing"), other.get(key, "nothing"))
    ]


def _same(one: object, other: Any) -> bool:
    # Not a number is not equal to itself.
    return one == other or repr(one) == repr(other)


def leaves(node: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the values of a nested mapping with their keys, joined by dots."""
    if not isinstance(node, dict):
        yield prefix, node
        return
    for key, value in node.items():
        yield from leaves(value, f"{prefix}.{key}" if prefix else str(key))
