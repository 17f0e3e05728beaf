"""Tells whose code raised an exception, by the folder of its file."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType

PACKAGE = Path(__file__).resolve().parents[1]
# An environment may lie below any folder, also below a clone that is called kerasft.
_ENVIRONMENTS = frozenset({"site-packages", "dist-packages"})


def is_ours(filename: str) -> bool:
    """Return whether a code object's file belongs to kerasft itself.

    Args:
        filename: A `co_filename`, relative ones to the current folder.

    Example:
        >>> is_ours(__file__), is_ours("/srv/kerasft/.venv/lib/site-packages/keras/x.py")
        (True, False)
    """
    if filename.startswith("<"):  # made at run time, by dataclasses for instance
        return False
    try:
        below = Path(filename).resolve().relative_to(PACKAGE)
    except (OSError, ValueError, RuntimeError):
        return False
    return not _ENVIRONMENTS.intersection(below.parts)


def innermost(trace: TracebackType | None) -> str:
    """Return the file of the frame that raised, `""` where there is no traceback."""
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace.tb_frame.f_code.co_filename if trace else ""
