"""Answers of a run folder or an export to raw input."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from kerasft.abilities import Generates
from kerasft.artifact.comparison import filled_up
from kerasft.data.inputs import read_inputs
from kerasft.errors import Unreadable, UserError
from kerasft.runs.records import records
from kerasft.steps.measuring.reopening import reopen
from kerasft.system.files import at_home
from kerasft.system.terminal import status


@status.showing("loading the model ...")
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


def writing(answer: Any, settings: Mapping[str, Any] | None) -> Any:
    """Return what `open_predictor` returned, as a language model that writes otherwise.

    Args:
        answer: What it returned.
        settings: `max_new`, `temperature`, ...; nothing for as it was trained or exported.

    Raises:
        UserError: If it writes no texts, or a setting is none.
    """
    if not settings:
        return answer
    task = getattr(answer, "task", None)
    if not isinstance(task, Generates):
        raise UserError(
            "generate.KEY=VALUE is of language models in a run folder. An export writes as it was "
            "exported: set task.generate.KEY=VALUE for the run. Received: "
            + ", ".join(f"generate.{name}={value}" for name, value in settings.items()) + "."
        )
    return replace(answer, task=task.generating(settings))


def takes_images(answer: Any) -> bool:
    """Whether what `open_predictor` returned answers images, not texts."""
    own = getattr(answer, "preprocess", None)
    return (own.modality if own is not None else answer.signature["modality"]) == "images"


def inputs_for(answer: Any, inputs: object) -> list[Any]:
    """Return inputs as a list of what `open_predictor`'s answer takes; see `read_inputs`."""
    images = takes_images(answer)
    found = read_inputs(inputs, "images" if images else "text")
    if not images:
        _check_texts(found)
    return found


def _check_texts(inputs: Sequence[Any]) -> None:
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


def answer_each(
    answer: Any, inputs: Sequence[Any], *, images: bool | None = None
) -> tuple[dict[str, Any], list[int], dict[int, str | Unreadable]]:
    """Answer the inputs, without the images that cannot be decoded.

    Args:
        answer: Answers raw input, and raises `Unreadable` where one of it cannot be read.
        inputs: Texts, pairs of texts, paths or bytes of images.
        images: Whether they are images; by default what the answer takes.

    Returns:
        The outputs, the indices of the inputs that they belong to, and for each other index the
        reason, or the error where nobody knows one.

    Raises:
        UserError: For what is no matter of an image.
    """
    if not len(inputs):
        return {}, [], {}
    try:
        # All at once: they are looked at one by one where this fails, and not before.
        return answer(inputs), list(range(len(inputs))), {}
    except Unreadable as error:
        images = takes_images(answer) if images is None else images
        if not images:
            raise
        problems: dict[int, str | Unreadable] = {
            i: why for i, why in enumerate(_problems(inputs)) if why
        }
        sound = [i for i in range(len(inputs)) if i not in problems]
        if len(inputs) == 1 and sound:
            return {}, [], {0: error}
        # What decodes here, and not there, is found by halves.
        half = len(sound) // 2
        made: list[dict[str, Any]] = []
        kept: list[int] = []
        for part in [sound] if problems else [sound[:half], sound[half:]]:
            outputs, answered, broken = answer_each(
                answer, [inputs[i] for i in part], images=images
            )
            made += [outputs] * bool(answered)
            kept += [part[i] for i in answered]
            problems |= {part[i]: why for i, why in broken.items()}
    return {key: _joined([one[key] for one in made]) for key in (made or [{}])[0]}, kept, problems


def _joined(parts: Sequence[Any]) -> Any:
    """Return arrays end to end; lists of arrays, whose lengths differ, as one list."""
    if any(isinstance(one, list) for one in parts):
        return [row for part in parts for row in part]
    return np.concatenate(filled_up(parts))


def answer_sound(
    answer: Callable[[Sequence[Any]], dict[str, np.ndarray]], inputs: Sequence[Any],
    on_broken: Callable[[str], None],
) -> tuple[dict[str, np.ndarray], list[Any]]:
    """Answer images, without those that cannot be decoded.

    Args:
        answer: See `answer_each`.
        inputs: Paths or bytes of images.
        on_broken: Called with a sentence for each image that is left out.

    Returns:
        The outputs, and the inputs that they belong to.

    Raises:
        UserError: If none can be answered, or for what is no matter of an image.
    """
    if not len(inputs):
        return answer(inputs), []  # which says that there is nothing
    outputs, answered, problems = answer_each(answer, inputs, images=True)
    told = [
        f"The image {_name(inputs[i])!r} could not be decoded: {why}." if isinstance(why, str)
        else str(why) for i, why in sorted(problems.items())
    ]  # fmt: skip
    if not answered:
        raise Unreadable(problems=_first(told))
    for sentence in told:
        on_broken(sentence)
    return outputs, [inputs[i] for i in answered]


def _first(problems: list[str], most: int = 20) -> list[str]:
    more = [f"{len(problems) - most:,} more of the kind."] if len(problems) > most else []
    return [*problems[:most], *more]


def _name(one: object) -> str:
    return f"<{len(one)} bytes>" if isinstance(one, bytes) else str(one)


def _problems(images: Sequence[Any]) -> list[str | None]:
    """Return what is wrong with each image."""
    from kerasft.data.images.audit import inspect

    return [inspect(one if isinstance(one, bytes) else str(one)).problem for one in images]


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
