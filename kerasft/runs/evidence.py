"""The evidence of a run: what tuning decisions and proving exports need of its data."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from zipfile import BadZipFile

import numpy as np

from kerasft.artifact.standalone import pack, unpack
from kerasft.errors import UserError
from kerasft.raw_input import as_raw
from kerasft.rows import Rows, as_table, of_table
from kerasft.runs import again
from kerasft.runs.run_folder import RunFolder
from kerasft.spec import Evidence, Examples, Splits
from kerasft.system.files import written_whole

# Raised when what is kept changes its form; before 2 it was logits alone.
FORMAT = 2
# How many held-out examples are kept, and at most how many bytes of them and of logits.
EXAMPLES = 32
MOST_BYTES = 32 * 2**20
# What a damaged `.npz`, or one from another version, can raise.
_DAMAGED = (
    ArithmeticError, AttributeError, EOFError, IndexError, KeyError, MemoryError, OSError,
    RuntimeError, TypeError, ValueError, BadZipFile, zlib.error,
)  # fmt: skip


@dataclass(frozen=True)
class HeldOut:
    """Raw held-out examples, read before training: images may be gone when it ends.

    Args:
        split: Where they are from.
        rows: `[N]`, their places in it.
        inputs: `[N]` or `[N, 2]`, what they are, in bytes.
    """

    split: str
    rows: np.ndarray
    inputs: np.ndarray


def choose(splits: Splits, *, spare_test: bool = False) -> HeldOut:
    """Return examples of the test split, or of validation where there is none or it is spared."""
    split = "test" if splits.test is not None and not spare_test else "validation"
    part = splits.parts[split]
    rows = evenly_spaced(len(part), EXAMPLES)
    raw, kept, size = as_raw([part.inputs[i] for i in rows], part.modality), 0, 0
    for value in raw:
        size += len(value) if isinstance(value, bytes) else sum(map(len, value))
        if size > MOST_BYTES and kept:
            break
        kept += 1
    return HeldOut(split, rows[:kept], raw[:kept])


def keep(
    folder: RunFolder, splits: Splits, chosen: HeldOut, kept: Mapping[str, Rows]
) -> None:
    """Write the evidence of a run.

    Args:
        folder: The run folder.
        splits: Its data.
        chosen: The examples that are kept.
        kept: What the task kept of all examples of each split that was measured.
    """
    held_out = splits.parts[chosen.split].take(chosen.rows)
    asked = [(held_out.annotations, kept[chosen.split].take(chosen.rows))]
    for split, found in kept.items():
        each = max(found.nbytes // max(len(found), 1), 1)
        rows = evenly_spaced(len(found), max(MOST_BYTES // each, 1))
        asked.append((splits.parts[split].annotations.take(rows), found.take(rows)))
    tables: list[dict[str, np.ndarray]] = []
    ragged: list[dict[str, Any]] = []
    for labelled, found in asked:
        named = (as_table(labelled, "annotations"), as_table(found, "kept"))
        tables.append({**named[0][0], **named[1][0]})
        ragged.append({**named[0][1], **named[1][1]})
    tables[0]["inputs"] = chosen.inputs
    facts = {"format": FORMAT, "modality": held_out.modality, "ids": list(held_out.ids),
             "splits": list(kept), "ragged": ragged}  # fmt: skip
    with written_whole(folder.evidence) as file:
        pack(file, facts, tables)


def evenly_spaced(count: int, most: int) -> np.ndarray:
    """Return at most so many of `count` indices, spread evenly.

    Example:
        >>> evenly_spaced(10, 3).tolist()
        [0, 4, 9]
    """
    return np.linspace(0, count - 1, min(count, most)).astype(np.int64)


def read(folder: RunFolder) -> Evidence:
    """Return the evidence of a run.

    Raises:
        UserError: If there is none, or it is damaged.
    """
    file = folder.evidence
    if not file.is_file():
        raise UserError(
            f"The run folder {str(folder.path)!r} has no {file.name}: it is from a version that "
            f"kept no examples to prove an export on. Train again: "
            f"{again.train(folder.path)}"
        )
    try:
        facts, tables = unpack(file)
        inputs = _plain(tables[0]["inputs"], facts["modality"])
        forms = facts.get("ragged") or [{}] * len(tables)
        (labelled, kept), *measured = (
            _rows_of(table, form) for table, form in zip(tables, forms, strict=True)
        )
        examples = Examples(
            facts["modality"], inputs, labelled, tuple(facts["ids"])
        )
        return Evidence(examples, kept, dict(zip(facts["splits"], measured, strict=True)))
    except _DAMAGED as error:
        raise UserError(
            f"{str(file)!r} is damaged, or from another version ({error}). Train again: "
            f"{again.train(folder.path)}"
        ) from error


def _rows_of(table: Mapping[str, np.ndarray], ragged: Mapping[str, Any]) -> tuple[Rows, Rows]:
    """Return annotations and what was kept; before format 2 these were labels and logits."""
    if "labels" in table:
        return Rows.of({"label": table["labels"]}), Rows.of({"logits": table["logits"]})
    found = of_table(table, ragged, "annotations"), of_table(table, ragged, "kept")
    if len(found[0]) != len(found[1]):
        raise ValueError(f"{len(found[0])} labels and what was kept of {len(found[1])} examples")
    return found


def _plain(raw: np.ndarray, modality: str) -> list[Any]:
    if modality != "text":
        return raw.tolist()
    if raw.ndim == 1:
        return [value.decode("utf-8") for value in raw]
    return [tuple(value.decode("utf-8") for value in row) for row in raw]
