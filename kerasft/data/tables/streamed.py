"""Columns of a finite `tf.data.Dataset`."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from kerasft.data.images.arrays import encoded, scale_of
from kerasft.errors import UserError

_INFINITE = -1
# The column of the inputs of pairs.
PAIRED = "(inputs)"


def is_stream(value: Any) -> bool:
    """Whether a value is a data set of `tf.data`; TensorFlow is not imported for it."""
    tf = sys.modules.get("tensorflow")
    return tf is not None and isinstance(value, tf.data.Dataset)


def columns_of(
    data: Any, called: str
) -> tuple[dict[str, list[Any]], dict[str, int]]:
    """Return what a data set holds, by column; images are encoded as they come.

    Args:
        data: The data set. Its elements are pairs of input and label, or dicts; batches are taken
            apart.
        called: What it is called in messages.

    Returns:
        The columns, and what the pixels of each of floats were multiplied by.

    Raises:
        UserError: If it has no end, or its elements are something else.
    """
    import tensorflow as tf

    check_finite(data, called)
    leaves = _named(data.element_spec, called)
    for name, spec in leaves.items():
        if not isinstance(spec, tf.TensorSpec) or spec.shape.rank is None:
            raise UserError(
                f"{called}: {name} must be a tensor of known rank. Received: {spec}. Set its shape "
                "(tf.ensure_shape), or turn it into a dense tensor."
            )
    if _is_batched(leaves):
        data = data.unbatch()
        leaves = _named(data.element_spec, called)
    images = {n: spec for n, spec in leaves.items() if spec.shape.rank >= 2}
    floats = [name for name, spec in images.items() if spec.dtype.is_floating]
    scales = scales_of(_elements(data, called), floats, called) if floats else {}
    columns: dict[str, list[Any]] = {name: [] for name in leaves}
    for element in _elements(data, called):
        for name, value in element.items():
            if name in images:
                (value,) = encoded(
                    [np.asarray(value)], f"{called}, {name}", scales.get(name, 1)
                )
            columns[name].append(value)
    if not next(iter(columns.values()), None):
        raise UserError(f"{called} holds no examples. Received: an empty tf.data.Dataset.")
    return columns, scales


def check_finite(data: Any, called: str) -> None:
    """Refuse a data set that repeats for ever.

    Args:
        data: The data set.
        called: What it is called in messages.
    """
    if int(data.cardinality()) == _INFINITE:
        raise UserError(
            f"{called} must be finite. Received: a tf.data.Dataset without an end. Leave repeat() "
            "out; a run repeats the examples itself."
        )


def _named(element: Any, called: str) -> dict[str, Any]:
    """Return an element, or its description, by column."""
    if isinstance(element, tuple) and len(element) == 2 and not isinstance(element[1], Mapping):
        content, label = element
        if isinstance(content, Mapping):
            return {**{str(k): v for k, v in content.items()}, "label": label}
        return {PAIRED: content, "label": label}
    if isinstance(element, Mapping):
        return {str(name): value for name, value in element.items()}
    raise UserError(
        f"{called}: each element must be a pair of input and label, or a dict of features. "
        f"Received: {str(element)[:200]}. Bring it into that form with map(); weights of examples "
        "are not taken."
    )


def _is_batched(leaves: Mapping[str, Any]) -> bool:
    ranks = [spec.shape.rank for spec in leaves.values()]
    if 0 in ranks:
        return False
    if 4 in ranks or any(spec.dtype.name == "string" for spec in leaves.values()):
        return True
    # [height, width, channels] with a vector as label, or [batch, height, width].
    images = [spec for spec in leaves.values() if spec.shape.rank == 3]
    return not images or images[0].shape[-1] not in (1, 3, 4)


def _elements(data: Any, called: str) -> Iterator[dict[str, Any]]:
    for element in data.as_numpy_iterator():
        yield _named(element, called)


def scales_of(
    elements: Iterable[Mapping[str, Any]], floats: Sequence[str], called: str
) -> dict[str, int]:
    """Return what pixels of floats are multiplied by; looked up before any is rounded.

    Args:
        elements: The examples, or batches of them.
        floats: The columns of images of floats.
        called: What the data set is called in messages.
    """
    low, high = dict.fromkeys(floats, np.inf), dict.fromkeys(floats, -np.inf)
    for element in elements:
        for name in floats:
            low[name] = np.minimum(low[name], np.min(element[name], initial=np.inf))
            high[name] = np.maximum(high[name], np.max(element[name], initial=-np.inf))
    return {
        name: scale_of(float(low[name]), float(high[name]), f"{called}, {name}")
        for name in floats if not np.isposinf(low[name])  # as it is without any example
    }  # fmt: skip
