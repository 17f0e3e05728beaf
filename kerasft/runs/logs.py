"""The logs of a run, read: JSON lines that may be cut off, or come from anybody."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

EPOCHS = "epochs.jsonl"


def rows(file: Path) -> list[dict[str, Any]]:
    """Return the rows of a log; what is no row, such as a line that is cut off, is left out.

    Args:
        file: The file; one that is not there has no rows.

    Example:
        >>> rows(Path("nowhere.jsonl"))
        []
    """
    if not file.is_file():
        return []
    found = []
    for line in file.read_text("utf-8", "replace").split("\n"):
        try:
            row = json.loads(line) if line else None
        except ValueError:
            continue
        if isinstance(row, dict):
            found.append(row)
    return found


def epochs(run: Path) -> list[dict[str, Any]]:
    """Return the rows of the epochs of a run.

    Args:
        run: Its folder.
    """
    return rows(run / "logs" / EPOCHS)
