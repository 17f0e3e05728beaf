"""The labels of data that a model is asked about, where it has some that the model knows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kerasft.data.annotations import kinds
from kerasft.data.annotations.alike import is_number
from kerasft.data.annotations.encoding import encode
from kerasft.data.annotations.plain import plain_label
from kerasft.data.hidden import shown_splits
from kerasft.errors import UserError
from kerasft.spec import Labels

# What a table or the name of a folder can say.


def by_column(labels: Labels) -> bool:
    """Whether an example has several numbers, which a table holds in a column each.

    Args:
        labels: What the labels mean.

    Example:
        >>> by_column(Labels("numbers", ("width", "height"))), by_column(Labels("number"))
        (True, False)
    """
    return labels.kind == "numbers"


def is_label(word: str, labels: Labels) -> bool:
    """Whether a word may be a label: a class, the number of one, or a number where one is learned.

    Args:
        word: The word.
        labels: What the labels mean.

    Example:
        >>> [is_label(word, Labels("single", ("no", "yes"))) for word in ("yes", "1", "2", "a")]
        [True, True, False, False]
    """
    if labels.names:
        numbered = word.isdecimal() and len(word) < 10 and int(word) < len(labels.names)
        return word in labels.names or numbered
    return is_number(word)


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
    if values is not None and labels.kind != "multi":  # lines may have several
        values = [one[0] if isinstance(one, list) and len(one) == 1 else one for one in values]
    there = [i for i, value in enumerate(values or ()) if value is not None]
    if values is None or not there or labels.kind not in kinds.PLAIN:
        return nothing, []
    if not shown_splits(["test"] * len(there), [values[i] for i in there], labels.kind):
        return nothing, []  # all are -1, as in the tests of competitions
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
