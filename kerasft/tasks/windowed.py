"""A backbone for texts that are longer than it takes at once."""

from __future__ import annotations

from dataclasses import replace

from kerasft.abilities import Windowing
from kerasft.contracts import Task
from kerasft.errors import UserError
from kerasft.spec import Backbone, takes_texts

MOST_WINDOWS = 10_000


def window_problems(windows: int, overlap: int | None) -> list[str]:
    """Return what is wrong about windows and what they share."""
    problems = []
    if not 1 <= windows <= MOST_WINDOWS:
        problems.append(f"task.windows must be from 1 to {MOST_WINDOWS:,}. Received: {windows}.")
    if overlap is not None and overlap < 0:
        problems.append(f"task.overlap must be at least 0. Received: {overlap}.")
    elif overlap is not None and windows == 1:
        problems.append(
            "task.overlap is of texts that are read in several windows: set task.windows, too. "
            f"Received: task.overlap={overlap}, task.windows=1."
        )
    return problems


def require_overlap(task: Task, length: object) -> None:
    """Refuse windows that share more than they hold, before there is a network.

    What a window has room for beside the first and the last token of a row, only the network's
    preprocessing tells: see `in_windows`.

    Args:
        task: Any task: of one that reads no windows, an `overlap` is of something else.
        length: The tokens of a window; what is no number is not looked at.

    Raises:
        UserError: If neighbours share as many tokens as a window has.
    """
    if isinstance(task, Windowing) and isinstance(length, int) and length > 0:
        _require_below(task.overlap, length, length)


def _require_below(shared: int | None, room: int, length: int) -> None:
    if shared is not None and shared >= room:
        raise UserError(
            "task.overlap, the tokens that a window shares with the next one, must be below "
            f"{room}, the tokens of a text that a window has room for "
            f"(backbone.sequence_length={length}). Received: {shared}."
        )


def in_words(backbone: Backbone, words: str) -> Backbone:
    """Return a backbone whose preprocessing tells such words, see `model.text.alignment`."""
    before = backbone.preprocess
    if not takes_texts(before) or words == before.words:
        return backbone
    return replace(backbone, preprocess=before.changed(words=words))


def in_windows(backbone: Backbone, windows: int, overlap: int | None = None) -> Backbone:
    """Return a backbone that reads texts in windows, see `kerasft.model.text.windows`.

    Args:
        backbone: A backbone for single texts.
        windows: The most windows of a text.
        overlap: Tokens that a window shares with the next one; by default a quarter of those that
            it has room for.

    Returns:
        A `Backbone` whose rows are as long as so many windows reach; the same one for one window.

    Raises:
        UserError: If the backbone cannot be run on windows, or they share too much.

    Example:
        >>> from kerasft.model.tiny import text
        >>> in_windows(text("bert", sequence_length=10), 3, overlap=2).preprocess.sequence_length
        22
    """
    if windows == 1:
        return backbone
    before = backbone.preprocess
    if not takes_texts(before) or before.pair:
        what = "pairs of texts" if takes_texts(before) else "images"
        raise UserError(f"task.windows is of single texts. Received: {what}.")
    from kerasft.model.text.windows import Unfit, Windowed

    length = before.sequence_length
    room = length - (before.start is not None) - (before.end is not None)
    shared = room // 4 if overlap is None else overlap
    _require_below(shared, room, length)
    try:
        network = Windowed(
            backbone.network, length, shared, before.start, before.end, causal=backbone.causal
        )
    except Unfit as error:
        raise UserError(f"task.windows={windows}: {error}. Set task.windows=1.") from error
    made = before.changed(sequence_length=length + (windows - 1) * (room - shared))
    return replace(backbone, network=network, preprocess=made)
