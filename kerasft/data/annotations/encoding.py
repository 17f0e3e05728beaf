"""Raw labels of any kind, encoded as rows."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from kerasft.data.annotations import boxes, classes, language, masks, spans
from kerasft.data.late_columns import Coded
from kerasft.errors import UserError
from kerasft.rows import Rows
from kerasft.spec import Labels

# Labels that are words or numbers, and no lists of them.
_PLAIN = re.compile(r"[\w .+-]+")


@dataclass(frozen=True)
class Encoded:
    """Labels of examples.

    Args:
        labels: What they mean.
        annotations: What is known of each example, see `Examples`.
        array: What splits go by: the class of each example, `[N]`; which classes it has, or how
            many objects or pixels of each, `[N, classes]`; or its number.
        notices: Sentences for the user.
    """

    labels: Labels
    annotations: Rows
    array: np.ndarray
    notices: list[str]


def encode(
    values: Sequence[Any], ids: Sequence[str], *, kind: str, names: Sequence[str] | None = None,
    delimiter: str | None = ",", key: str = "data.label",
) -> Encoded:
    """Turn raw labels into rows.

    Args:
        values: One raw value an example: what `classes.encode` takes; for kind `"boxes"` a
            `Drawn`, for `"masks"` a `Painted`, for `"spans"` a `Marked`.
        ids: Where each value stands, for messages.
        kind: What labels are to the task.
        names: The class names, in order.
        delimiter: What parts the labels of one example, for kind `"multi"`.
        key: The config key behind the labels, for messages.

    Raises:
        UserError: If labels are wrong.
    """
    if kind == "boxes":
        labels, rows, array, notices = boxes.encode(values, ids, names=names, key=key)
        return Encoded(labels, rows, array, notices)
    if kind == "spans":
        return Encoded(*spans.encode(values, ids, names=names, key=key))
    if kind == "masks":
        return Encoded(*masks.encode(values, key=key))
    if kind == language.KIND:
        return Encoded(*language.encode(values))
    if isinstance(values, Coded) and kind == "single":
        with suppress(UserError):  # told below, with all examples
            if found := _by_value(values, ids, names=names, delimiter=delimiter, key=key):
                return found
    labels, array, notices = classes.encode(
        values, ids, kind=kind, names=names, delimiter=delimiter, key=key
    )
    return Encoded(labels, Rows.of({"label": array}), array, notices)


def _by_value(
    values: Coded, ids: Sequence[str], *, names: Sequence[str] | None, delimiter: str | None,
    key: str,
) -> Encoded | None:
    """Return labels of each value once; `None` where all examples must be looked at.

    What depends on how often values come, or where, is either an error or worth a sentence.
    """
    distinct = values.distinct
    if not np.bincount(values.numbers(), minlength=len(distinct)).all():
        return None  # some were left out
    plain = all(
        type(one) is int or (isinstance(one, str) and _PLAIN.fullmatch(one)) for one in distinct
    )
    if not plain or not 2 * len(distinct) <= len(values):
        return None
    labels, array, notices = classes.encode(
        distinct, list(map(str, distinct)), kind="single", names=names, delimiter=delimiter,
        key=key,
    )  # fmt: skip
    if notices:
        return None
    array = values.mapped(array, "int64")
    return Encoded(labels, Rows.of({"label": array}), array, [])
