"""Columns of a finite `tf.data.Dataset` of images with boxes or masks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from kerasft.data.images.arrays import encoded
from kerasft.data.images.mask_arrays import mask_png
from kerasft.data.tables.asked import Asked
from kerasft.data.tables.streamed import check_finite, scales_of
from kerasft.errors import UserError
from kerasft.system.console import listing


def drawn_columns_of(
    data: Any, called: str, asked: Asked
) -> tuple[dict[str, list[Any]], dict[str, int]]:
    """Return what a data set holds, by column; images and masks are encoded as they come.

    Args:
        data: The data set. Its elements are dicts, also within one another, or pairs of an image
            and what is drawn on it; batches are taken apart.
        called: What it is called in messages.
        asked: Which columns are images and masks.

    Returns:
        The columns, and what the pixels of images of floats were multiplied by.

    Raises:
        UserError: If it has no end, or its elements are something else.
    """
    check_finite(data, called)
    specs = _named(data.element_spec, called, asked)
    for name, spec in specs.items():
        if getattr(getattr(spec, "shape", None), "rank", None) is None:
            raise UserError(
                f"{called}: {name} must be a tensor of known rank. Received: {spec}. Set its shape "
                "(tf.ensure_shape)."
            )
    image = asked.image_of(list(specs), specs.get)
    if image not in specs:
        raise UserError(
            f"{called}: data.image must name the images. Received: elements with "
            f"{listing(map(repr, specs), 30)}."
        )
    masks = asked.masks_of(list(specs), image)
    batched = _is_batched(specs[image].shape, specs[image].dtype.name == "string")
    floats = [image] if specs[image].dtype.is_floating else []
    scales = scales_of(_rows(data, called, asked, batched), floats, called) if floats else {}
    columns: dict[str, list[Any]] = {name: [] for name in specs}
    for i, row in enumerate(_rows(data, called, asked, batched)):
        for name, value in row.items():
            if name == image and isinstance(value, np.ndarray):
                (value,) = encoded([value], f"{called}, {name}", scales.get(name, 1))
            elif name == masks and isinstance(value, np.ndarray):
                value = mask_png(value, f"{called}, {name}, number {i:,}")
            elif isinstance(value, np.ndarray):
                value = value.tolist()
            columns[name].append(value)
    if not columns[image]:
        raise UserError(f"{called} holds no examples. Received: an empty tf.data.Dataset.")
    return columns, scales


def _named(element: Any, called: str, asked: Asked) -> dict[str, Any]:
    """Return an element, or its description, by column."""
    if isinstance(element, tuple) and len(element) == 2:
        element = {"image": element[0], "mask" if asked.masked else "objects": element[1]}
    if isinstance(element, Mapping):
        return _flat("", element)
    raise UserError(
        f"{called}: each element must be a dict, such as "
        + ('{"images": ..., "segmentation_masks": ...}' if asked.masked else
           '{"images": ..., "bounding_boxes": {"boxes": ..., "labels": ...}}')
        + f", or a pair of the two. Received: {str(element)[:200]}. Bring it into that form with "
        "map(); weights of examples are not taken."
    )  # fmt: skip


def _flat(prefix: str, element: Mapping[Any, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in element.items():
        found |= _flat(f"{prefix}{name}.", value) if isinstance(value, Mapping) else {
            f"{prefix}{name}": value}  # fmt: skip
    return found


def _is_batched(shape: Any, encoded: bool) -> bool:
    """Whether elements are batches, by the shape of their images."""
    if encoded:
        return shape.rank == 1
    # [height, width, channels] or [batch, height, width].
    return shape.rank == 4 or (shape.rank == 3 and shape[-1] not in (1, 3, 4, None))


def _rows(data: Any, called: str, asked: Asked, batched: bool) -> Iterator[dict[str, Any]]:
    """Yield the examples one by one; what has a shape is an array."""
    for element in data:
        values = _named(element, called, asked)
        if not batched:
            yield {name: _value(value) for name, value in values.items()}
            continue
        parts = {name: [_value(one) for one in value] for name, value in values.items()}
        for row in zip(*parts.values(), strict=True):
            yield dict(zip(parts, row, strict=True))


def _value(value: Any) -> Any:
    """Return a tensor as an array, or as what a scalar holds; rows that are ragged are filled up.
    """
    if hasattr(value, "row_splits"):
        value = value.to_tensor()
    return value.numpy()
