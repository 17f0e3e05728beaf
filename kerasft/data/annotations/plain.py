"""Annotations as plain values: in manifests, beside answers, in sentences."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from kerasft.data.annotations.cover import NAMED, class_counts
from kerasft.spec import Examples, Labels

# Examples that are made plain in one go.
AT_ONCE = 1 << 12


def plain(part: Examples, labels: Labels) -> list[Any]:
    """Return what is known of each example as plain values.

    Args:
        part: The examples.
        labels: What their labels mean.

    Returns:
        An example's class, its classes, or its number; a list of its boxes or of its entities;
        of a mask the part of its pixels that each class has; of annotations of another kind a dict
        of their columns.

    Example:
        >>> part = Examples("text", ["a", "b"], np.array([1, 0]), ("1", "2"))
        >>> plain(part, Labels("single", ("no", "yes")))
        ['yes', 'no']
    """
    if list(part.annotations.columns) == ["label"]:
        return [plain_label(value, labels) for value in part.labels]
    if labels.kind == "boxes":
        return [plain_boxes(part.annotations.row(i), labels) for i in range(len(part))]
    if labels.kind == "spans":
        return [plain_spans(part.annotations.row(i), labels) for i in range(len(part))]
    if labels.kind == "masks":
        return [plain_shares(pixels, labels) for pixels in part.annotations["pixels"]]
    if labels.kind == "language":
        return [{"bytes": count} for count in part.annotations["bytes"].tolist()]
    return [
        {name: value.tolist() for name, value in part.annotations.row(i).items()}
        for i in range(len(part))
    ]


def each_plain(part: Examples, labels: Labels) -> Iterator[Any]:
    """Yield what `plain` returns: of very many examples it may not fit in memory."""
    for start in range(0, len(part), AT_ONCE):
        yield from plain(part.take(range(start, min(start + AT_ONCE, len(part)))), labels)


def identified(part: Examples, labels: Labels) -> list[Any]:
    """Return what is known of each example as `plain` does, so that any change of it shows."""
    made = plain(part, labels)
    if labels.kind != "masks":
        return made
    return [{**one, "digest": f"{int(digest):016x}"}
            for one, digest in zip(made, part.annotations["digest"], strict=True)]  # fmt: skip


def has_one_class(part: Examples, labels: Labels) -> bool:
    """Whether the number of its class is all that is known of each example."""
    return labels.kind == "single" and list(part.annotations.columns) == ["label"]


def plain_label(value: Any, labels: Labels) -> Any:
    """Return one label as a plain value."""
    if labels.kind == "single":
        return labels.names[int(value)]
    if labels.kind == "numbers":
        return dict(zip(labels.names, map(float, value), strict=True))
    if labels.kind == "multi":
        return [name for name, on in zip(labels.names, value, strict=True) if on]
    return np.asarray(value, np.float64).tolist()


def plain_boxes(row: Mapping[str, np.ndarray], labels: Labels) -> list[dict[str, Any]]:
    """Return the boxes of an image as plain values.

    Args:
        row: Its annotations.
        labels: What their labels mean.
    """
    objects = zip(row["boxes"].tolist(), row["labels"].tolist(), row["ignored"].tolist(),
                  strict=True)  # fmt: skip
    return [
        {"label": labels.names[unit], "box": [round(side, 3) for side in box],
         **({"ignored": True} if ignored else {})}
        for box, unit, ignored in objects
    ]  # fmt: skip


def plain_spans(row: Mapping[str, Any], labels: Labels) -> list[dict[str, Any]]:
    """Return the entities of a text as plain values.

    Args:
        row: Its annotations.
        labels: What their labels mean.
    """
    text = bytes(row["text"]).decode()
    columns = (row[name].tolist() for name in ("labels", "span_starts", "span_ends"))
    return [{"type": labels.names[unit], "text": text[start:end], "start": start, "end": end}
            for unit, start, end in zip(*columns, strict=True)]  # fmt: skip


def plain_shares(pixels: np.ndarray, labels: Labels) -> dict[str, float]:
    """Return the part of an image's pixels that each class has.

    Example:
        >>> plain_shares(np.array([3, 1]), Labels("masks", ("ground", "cell")))
        {'ground': 0.75, 'cell': 0.25}
    """
    shares = pixels / max(int(pixels.sum()), 1)
    return {name: round(float(s), 6) for name, s in zip(labels.names, shares, strict=True)}


def shown(value: Any, labels: Labels) -> str:
    """Return one label as words.

    Example:
        >>> shown(np.array([1.0, 0.0, 1.0]), Labels("multi", ("a", "b", "c")))
        'a, c'
    """
    found = plain_label(value, labels)
    if isinstance(found, dict):
        return ", ".join(f"{name} {number:g}" for name, number in found.items())
    if isinstance(found, float):
        return f"{found:g}"
    return ", ".join(map(str, found)) if isinstance(found, list) else str(found)


def counted(labels: Labels) -> str:
    """Return in words what labels are, behind the sizes of splits.

    Example:
        >>> counted(Labels("single", ("cat", "dog")))
        '; 2 classes (cat, dog)'
    """
    if labels.kind == "language":
        return ""
    if not labels.names:
        return "; a number each"
    names = ", ".join(labels.names[:6]) + (", ..." if len(labels.names) > 6 else "")
    return f"; {len(labels.names)} classes ({names})"


def counts(part: Examples, labels: Labels) -> dict[str, int]:
    """Return how many examples there are, and how many of each class."""
    if labels.kind not in NAMED:
        return {"examples": len(part)}
    if labels.kind in ("boxes", "spans"):
        units = np.concatenate([part.annotations.row(i)["labels"] for i in range(len(part))])
        found = np.bincount(units, minlength=len(labels.names)).tolist()
    elif labels.kind == "masks":
        found = (part.annotations["pixels"] > 0).sum(axis=0).tolist()
    else:
        found = class_counts(labels, part.labels, np.arange(len(part))).tolist()
    named = {f"label {name}": n for name, n in zip(labels.names, found, strict=True)}
    return {"examples": len(part), **named}
