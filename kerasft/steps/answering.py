"""Answers of a run folder or an export to raw input."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from kerasft.errors import Unreadable, UserError
from kerasft.runs.records import records
from kerasft.steps.reopening import reopen
from kerasft.system.files import at_home


def open_predictor(
    path: str, trusted: Sequence[str] = ()
) -> Any:
    """Return what answers raw input, of a run folder or an export, with `names` and `rules`."""
    place = at_home(path)
    if (place / "config.yaml").is_file() and not (place / "saved_model.pb").is_file():
        _, finetuned, _ = reopen(path, trusted)
        return finetuned
    from kerasft.artifact.loading import load_export

    return load_export(path)


def takes_pictures(answer: Any) -> bool:
    """Whether what `open_predictor` returned answers pictures, not texts."""
    own = getattr(answer, "preprocess", None)
    return (own.modality if own is not None else answer.signature["modality"]) == "images"


def check_texts(inputs: Sequence[Any]) -> None:
    """Refuse texts with half a character in them, which UTF-8 cannot write."""
    for number, one in enumerate(inputs):
        for text in one if isinstance(one, tuple | list) else (one,):
            if isinstance(text, str) and _is_halved(text):
                shown = text[:80].encode("ascii", "backslashreplace").decode()
                raise UserError(
                    f"Input {number} holds half a character (a lone surrogate), which UTF-8 cannot "
                    f"write. Received: {shown!r}."
                )


def _is_halved(text: str) -> bool:
    return any("\ud800" <= sign <= "\udfff" for sign in text)


def answer_sound(
    answer: Callable[[Sequence[Any]], dict[str, np.ndarray]], inputs: Sequence[Any],
    on_broken: Callable[[str], None],
) -> tuple[dict[str, np.ndarray], list[Any]]:
    """Answer the inputs, without the pictures that cannot be decoded.

    Args:
        answer: Answers raw input, and raises `Unreadable` where one of it cannot be read.
        inputs: Texts, pairs of texts, paths or bytes of pictures.
        on_broken: Called with a sentence for each picture that is left out.

    Returns:
        The outputs, and the inputs that they belong to.

    Raises:
        UserError: If none can be answered, or for what is no matter of a picture.
    """
    try:
        # All at once: they are looked at one by one where this fails, and not before.
        return answer(inputs), list(inputs)
    except Unreadable as error:
        problems = _problems(inputs)
        told = [
            f"The picture {_name(one)!r} could not be decoded: {why}."
            for one, why in zip(inputs, problems, strict=True) if why
        ]  # fmt: skip
        sound = [one for one, why in zip(inputs, problems, strict=True) if not why]
        if not sound:
            raise Unreadable(problems=_first(told)) from error
        if len(inputs) == 1:
            raise
        # What decodes here, and not there, is found by halves.
        half = len(sound) // 2
        parts = [sound] if told else [sound[:half], sound[half:]]
        made, kept = [], []
        for part in parts:
            try:
                outputs, answered = answer_sound(answer, part, told.append)
            except Unreadable as failed:
                told += failed.problems
                continue
            made.append(outputs)
            kept += answered
        if not made:
            raise Unreadable(problems=_first(told)) from error
    for sentence in told:
        on_broken(sentence)
    return {key: np.concatenate([one[key] for one in made]) for key in made[0]}, kept


def _first(problems: list[str], most: int = 20) -> list[str]:
    more = [f"{len(problems) - most:,} more of the kind."] if len(problems) > most else []
    return [*problems[:most], *more]


def _name(one: object) -> str:
    return f"<{len(one)} bytes>" if isinstance(one, bytes) else str(one)


def _problems(pictures: Sequence[Any]) -> list[str | None]:
    """Return what is wrong with each picture."""
    from kerasft.data.pictures.audit import inspect

    return [inspect(one if isinstance(one, bytes) else str(one)).problem for one in pictures]


def answers(
    outputs: Mapping[str, np.ndarray], inputs: Sequence[Any], answer: Any
) -> list[dict[str, Any]]:
    """Return the outputs as one readable dict an input, the shortest answer first.

    Args:
        outputs: What was answered.
        inputs: To what.
        answer: What `open_predictor` returned.
    """
    shown = (f"<{len(one)} bytes>" if isinstance(one, bytes) else one for one in inputs)
    found = records(outputs, answer.names, answer.rules)
    return [{"input": name, **row} for name, row in zip(shown, found, strict=True)]
