"""What is known of texts that a language model learns: how many bytes they have."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from kerasft.errors import UserError, some
from kerasft.rows import Rows
from kerasft.spec import Labels

KIND = "language"
SOURCES = "data=text_files (running text) and data=chat (prompts with answers, conversations)"
# What is said of data that has labels instead.
MISSING = (
    f"A language model learns texts, not labels: task=causal_lm reads {SOURCES}. Received: a "
    "source of labelled examples."
)

# Raw conversations are one text: each turn begins with the first, and its words with the second,
# as `model.text.templates` reads them.
TURN, SAID = "\x1e", "\x1f"
_TURNS = re.compile(f"{TURN}(system|user|assistant){SAID}")


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


def template_problem(conversations: bool, *, template: bool) -> str:
    """Return what is wrong with a template, or with there being none; `""` where nothing is.

    Args:
        conversations: Whether the data holds conversations, and not documents.
        template: Whether there is a template.
    """
    if conversations and not template:
        return (
            "The data holds conversations (data.messages, or data.prompt with data.answer), which "
            "become tokens by a template. Set template=plain, alpaca, zephyr or that of the "
            "checkpoint (chatml, gemma, llama3). Received: no template."
        )
    if template and not conversations:
        return (
            "The data holds documents, which take no template. Set template=null, or choose "
            "conversations: data=chat with data.messages, or with data.prompt and data.answer. "
            "Received: a template, and texts alone (data=text_files, or data.text)."
        )
    return ""


def require_template(texts: Sequence[str], *, template: bool) -> None:
    """Refuse conversations without a template, and documents with one.

    Args:
        texts: Texts as sources give them.
        template: Whether there is a template.

    Raises:
        UserError: If they do not fit, or some are conversations and others are not.
    """
    told = sum(_TURNS.match(one) is not None for one in texts)
    if 0 < told < len(texts):
        raise UserError(
            "Conversations and documents cannot be trained on together. Received: "
            f"{some(told, 'conversation')} and {some(len(texts) - told, 'document')}."
        )
    if len(texts) and (problem := template_problem(bool(told), template=template)):
        raise UserError(problem)
