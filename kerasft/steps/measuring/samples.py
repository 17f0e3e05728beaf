"""What a language model writes behind the beginnings of validation texts, beside the truth."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kerasft.abilities import Begun, Generates
from kerasft.runs.finetuned import FineTuned
from kerasft.spec import Examples
from kerasft.system.console import say
from kerasft.system.files import written_whole
from kerasft.system.terminal import status

# Texts that are gone on with, and conversations that are answered: of these, some are counted.
TEXTS, ANSWERS = 8, 32
# The most characters that are shown of what a text goes on with.
TRUTH = 1_000
# The figure: the share of answers that end by themselves, before the most tokens are written.
ENDED = "ended"


@dataclass(frozen=True)
class Samples:
    """What was written.

    Args:
        ids: The examples' names.
        begun: Of each, what was shown, what was sent, and what goes on with it in truth.
        written: What was answered, see `Generates.write`.
        most: The most tokens that an answer may have.
        of: How many examples there are in all.
        figures: What was counted of it, nothing where texts have no end of their own.
    """

    ids: Sequence[str]
    begun: Sequence[Begun]
    written: dict[str, Any]
    most: int
    of: int
    figures: dict[str, float]


def sample(finetuned: FineTuned, task: Generates, part: Examples) -> Samples:
    """Go on with some examples, the likeliest token each time.

    They are spread evenly over the split, so that each measurement takes the same.

    Args:
        finetuned: The model.
        task: Its task.
        part: The examples.
    """
    task = task.generating({"temperature": 0.0})
    count = min(ANSWERS if task.converses else TEXTS, len(part))
    places = np.linspace(0, len(part) - 1, count).round().astype(int)
    begun = [task.begun(part.inputs[i]) for i in places]
    written = task.write(finetuned.model, finetuned.preprocess, [one.sent for one in begun])
    most = task.settings(finetuned.preprocess).max_new
    figures = {ENDED: float(np.mean(written["stopped"]))} if task.converses else {}
    return Samples([part.ids[i] for i in places], begun, written, most, len(part), figures)


@status.showing("writing samples ...")
def add(
    finetuned: FineTuned, part: Examples, figures: dict[str, Any], *, file: Path | None = None,
    tell: Callable[[str], None] = say,
) -> bool:  # fmt: skip
    """Write samples of a split to a file, and add to its figures what was counted of them.

    Args:
        finetuned: The model.
        part: The examples of the split.
        figures: The figures of the split.
        file: Where samples are written, if anywhere.
        tell: Says what was counted.

    Returns:
        Whether anything was added to the figures.
    """
    task = finetuned.task
    if not isinstance(task, Generates) or not (file or task.converses):
        return False
    found = sample(finetuned, task, part)
    figures |= found.figures
    said = [f"{len(found.ids)} of {found.of:,} validation texts gone on with"]
    if found.figures:
        ended = int(np.sum(found.written["stopped"]))
        said = [f"{ended} of {len(found.ids)} answers end by themselves within {found.most} tokens"]
    if file is not None:
        with written_whole(file) as made:
            made.write_text(page(found), "utf-8")
        said.append(str(file))
    tell(f"samples: {': '.join(said)}")
    return bool(found.figures)


def page(found: Samples) -> str:
    """Return samples as a text to read: what was given, the truth, the answer."""
    lines = [
        f"{len(found.ids)} of {found.of:,} validation texts, gone on with: the likeliest token "
        f"each time, at most {found.most}."
    ]
    for i, (name, one) in enumerate(zip(found.ids, found.begun, strict=True)):
        count = int(found.written["tokens"][i])
        ended = "ended by itself" if found.written["stopped"][i] else "cut off"
        answer = found.written["text"][i]
        truth = one.truth if len(one.truth) <= TRUTH else f"{one.truth[:TRUTH]} ..."
        lines += [
            "", f"=== {name}", "--- given", one.shown, "--- truth", truth,
            f"--- answer: {count} token{'' if count == 1 else 's'}, {ended}",
            answer.decode("utf-8", "replace") if isinstance(answer, bytes) else str(answer),
        ]  # fmt: skip
    return "\n".join(lines) + "\n"
