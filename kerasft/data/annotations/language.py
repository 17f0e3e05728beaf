"""What is known of texts that a language model learns: how many bytes they have."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from kerasft.errors import UserError
from kerasft.rows import Rows
from kerasft.spec import Labels

KIND = "language"
SOURCES = "data=text_files (running text) and data=chat (prompts with answers, conversations)"
# What is said of data that has labels instead.
MISSING = (
    f"A language model learns texts, not labels: task=causal_lm reads {SOURCES}. Received: a "
    "source of labelled examples."
)


def encode(values: Sequence[Any]) -> tuple[Labels, Rows, np.ndarray, list[str]]:
    """Return what `encoding.encode` does, of the number of bytes that each example teaches.

    Args:
        values: The bytes, in UTF-8, of each document, or of the answers of each conversation.

    Raises:
        UserError: If they are labels of another kind.
    """
    if not all(isinstance(one, int) and not isinstance(one, bool) for one in values):
        raise UserError(MISSING)
    array = np.asarray(values, "int64")
    return Labels(KIND), Rows.of({"bytes": array}), array, []


def require_task(kind: str, source: str) -> None:
    """Refuse a task that learns labels, of which such data has none.

    Args:
        kind: What the task learns.
        source: The name of the data.
    """
    if kind != KIND:
        raise UserError(
            f"data={source} holds texts without labels, which task=causal_lm learns. Set "
            "task=causal_lm, or choose other data (data=table). Received: a task "
            f"of the kind {kind!r}."
        )
