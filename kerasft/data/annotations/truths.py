"""The labels of data that a model is asked about, where it has some that the model knows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kerasft.data.annotations.encoding import encode
from kerasft.data.annotations.plain import plain_label
from kerasft.errors import UserError
from kerasft.spec import Labels

# What a table or the name of a folder can say.
_KINDS = ("single", "multi", "number", "numbers")


def truths(
    values: Sequence[Any] | None, ids: Sequence[str], labels: Labels, *,
    delimiter: str | None = ",", key: str = "data.label",
) -> tuple[list[Any], list[str]]:
    """Return raw labels as `plain` does, where they are labels that a model knows.

    Args:
        values: A raw label an example, `None` for those without.
        ids: Where each stands, for messages.
        labels: What the model's labels mean.
        delimiter: What parts the labels of one example.
        key: Where the labels are from, for messages.

    Returns:
        Plain values, `None` where nothing is known, and sentences for the user.

    Example:
        >>> truths(["1", None], ["a:1", "a:2"], Labels("single", ("no", "yes")))[0]
        ['yes', None]
    """
    nothing: list[Any] = [None] * len(ids)
    there = [i for i, value in enumerate(values or ()) if value is not None]
    if values is None or not there or labels.kind not in _KINDS:
        return nothing, []
    try:
        found = encode(
            [values[i] for i in there], [ids[i] for i in there], kind=labels.kind,
            names=labels.names or None, delimiter=delimiter, key=key,
        ).annotations["label"]  # fmt: skip
    except UserError as error:
        return nothing, [f"the labels of the data are not shown beside the answers: {error}"]
    if labels.kind == "numbers":  # a table has a column for each, also where they are empty
        nothing = [dict.fromkeys(labels.names) for _ in ids]
    for i, value in zip(there, found, strict=True):
        nothing[i] = plain_label(value, labels)
    return nothing, []
