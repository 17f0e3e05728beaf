"""Answers for all rows of tables, or all images of a folder, a few at a time."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from kerasft.data.unlabeled import Questions
from kerasft.errors import Unreadable
from kerasft.runs.answer_files import ERROR
from kerasft.runs.predictions import MOST_NAMED
from kerasft.runs.records import about, records
from kerasft.steps.answers.answering import answer_each, takes_images

# So many are held at a time. An export is sent whole images.
TEXTS, IMAGES, SENT_IMAGES = 2048, 128, 32


@dataclass(frozen=True)
class Answering:
    """The answers to all rows of tables or images of a folder, made while they are iterated.

    Iterating gives a dict for each, in order: `id`, `input`, where it is known `true` and
    `true_probability`, the task's answers, and `error`, the reason for what is not answered.

    Args:
        answer: What `open_predictor` returned.
        asked: What is to be answered.
    """

    answer: Any
    asked: Questions

    def __len__(self) -> int:
        return len(self.asked)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for rows, _, _ in self.batches():
            yield from rows

    @property
    def items(self) -> list[str]:
        """What is known of each object of an image."""
        return [rule.item for rule in self.answer.rules.values() if rule.item]

    @property
    def labels(self) -> tuple[str, ...]:
        """The classes."""
        return tuple(self.answer.names)

    def batches(self) -> Iterator[tuple[list[dict[str, Any]], list[Any], list[str]]]:
        """Yield the rows of a few examples at a time, their inputs, and how messages name them.

        Raises:
            UserError: At the end, if none could be answered.
        """
        count, named, failed = 0, list[str](), 0
        for some in _chunks(self.asked, _at_once(self.answer)):
            problems = {i: one.problem for i, one in enumerate(some) if one.problem is not None}
            sought = [i for i in range(len(some)) if i not in problems]
            outputs, answered, broken = answer_each(self.answer, [some[i].given for i in sought])
            problems |= {sought[i]: str(why) for i, why in broken.items()}
            made: Mapping[int, Mapping[str, Any]] = dict(zip(
                (sought[i] for i in answered),
                records(outputs, self.answer.names, self.answer.rules), strict=True,
            ))  # fmt: skip
            yield [
                {"id": one.id,
                 **about(one.given, one.true, made.get(i, {}), self.asked.labelled),
                 **made.get(i, {}), ERROR: problems.get(i)}
                for i, one in enumerate(some)
            ], [one.given for one in some], [one.place for one in some]  # fmt: skip
            count += len(some)
            failed += len(problems)
            named += [f"{some[i].place}: {why}" for i, why in sorted(problems.items())][
                : MOST_NAMED - len(named)]  # fmt: skip
        if failed == count:
            more = [f"{failed - len(named):,} more of the kind."] if failed > len(named) else []
            raise Unreadable(problems=[*named, *more])


@dataclass(frozen=True)
class _Example:
    """One example to be answered; see `Unlabeled` for each."""

    given: Any
    id: str
    place: str
    problem: str | None
    true: Any


def _chunks(asked: Questions, size: int) -> Iterator[list[_Example]]:
    """Yield so many examples at a time; parts of a table end anywhere."""
    examples = (
        _Example(given, part.ids[i], part.places[i], part.problems.get(i), part.true[i])
        for part in asked.parts() for i, given in enumerate(part.inputs)
    )  # fmt: skip
    while found := list(itertools.islice(examples, size)):
        yield found


def _at_once(answer: Any) -> int:
    """Return how many examples are answered at a time, whole batches of the model."""
    own = getattr(answer, "batch_size", None)
    most = IMAGES if own is not None else SENT_IMAGES
    if not takes_images(answer):
        most = TEXTS
    return max(most // (own or most), 1) * (own or most)
