"""Checks a sweep before its first trial: composes every value, tries the sampler."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from kerasft.config.checks import settle
from kerasft.config.composition import build
from kerasft.contracts import Task
from kerasft.errors import UserError, nearest
from kerasft.runs.again import reads_memory
from kerasft.steps.preparing.heads import require_head
from kerasft.steps.preparing.prepare import require_monitors
from kerasft.sweeps import study
from kerasft.sweeps.objectives import COSTS
from kerasft.sweeps.space import Space, name_of
from kerasft.tasks.monitors import figures_of

# With so many trials a sampler is past its random start, where it has one of the usual length.
REHEARSED = 12


def checked(
    space: Space, asked: Mapping[str, Any], config_dirs: Sequence[str], trusted: Sequence[str]
) -> tuple[Any, list[str]]:
    """Compose each value of each key and every known point, and ask the sampler for a point.

    Args:
        space: What is varied.
        asked: The values of `sweep`.
        config_dirs: Folders with configs of the user's own.
        trusted: Import prefixes that a `_target_` may start with.

    Returns:
        The first config, and the names of the objectives.

    Raises:
        UserError: With all that is wrong.
    """
    problems = dict.fromkeys([*_of_space(space, asked), *_of_known(space, asked)])
    first, seen = None, set()
    for point in (*space.corners(), *map(space.settled, asked["known"])):
        if (name := name_of(point)) in seen:
            continue
        seen.add(name)
        try:
            cfg = settle(space.overrides(point), config_dirs, trusted)
            require_head(cfg, require_monitors(cfg))
        except UserError as error:
            problems |= dict.fromkeys(error.problems)
            continue
        if cfg.resume or cfg.max_time:
            problems["resume and max_time are of one run. For a sweep: the same command goes on "
                     "with it, and sweep.max_time limits it."] = None  # fmt: skip
        if reads_memory(cfg):
            problems["The runs of a sweep read their data themselves, each in a process of its "
                     "own. Received: data=memory. Write the data to a file and choose "
                     "data=table."] = None  # fmt: skip
        if asked["gpus"] > 1 and cfg.distribute is None:
            problems[f"sweep.gpus={asked['gpus']} gives each trial several GPUs, and a run trains "
                     "on one unless it is told otherwise: add distribute=mirrored."] = None
        first = cfg if first is None else first
    names: list[str] = []
    if first is not None:
        task = build(first.task)
        names = asked["objectives"] or [task.monitor.removeprefix("val_")]
        problems |= dict.fromkeys(_of_objectives(names, task))
    if not problems:
        problems |= dict.fromkeys(_of_sampler(space, asked, names))
    if problems:
        raise UserError(problems=problems)
    return first, names


def _of_space(space: Space, asked: Mapping[str, Any]) -> Iterator[str]:
    if not space.axes:
        yield ("A sweep varies something: head=linear,mlp, sweep=text, or an interval such as "
               "'optimizer.learning_rate=tag(log,interval(1e-5,1e-3))'.")  # fmt: skip
    if asked["sampler"] is None and space.endless:
        yield (f"Every combination of an interval is endless: list the values of "
               f"{', '.join(space.endless)}, or search: sweep=tpe, sweep=random.")  # fmt: skip


def _of_known(space: Space, asked: Mapping[str, Any]) -> Iterator[str]:
    keys = {axis.key for axis in space.axes}
    for point in asked["known"]:
        if unknown := sorted(set(point) - keys):
            yield (f"sweep.known: {', '.join(unknown)} is not varied. Varied: "
                   f"{', '.join(sorted(keys))}.")  # fmt: skip


def _of_objectives(names: Iterable[str], task: Task) -> Iterator[str]:
    known = figures_of(task)
    if known is None:
        return
    for name in names:
        if name not in (*known, *COSTS):
            yield (f"sweep.objectives: {name!r} is no metric of this task. Allowed: "
                   f"{', '.join([*sorted(known), *COSTS])}."
                   f"{nearest(name, [*known, *COSTS])}")  # fmt: skip


def _of_sampler(space: Space, asked: Mapping[str, Any], names: Sequence[str]) -> Iterator[str]:
    """Rehearse in memory: some samplers cannot take some spaces, or lack a package."""
    import optuna

    from kerasft.sweeps.objectives import directions

    if asked["sampler"] is None:
        return
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    wanted: list[Any] = directions(names)
    made = optuna.create_study(directions=wanted)
    drawn = {"_target_": "optuna.samplers.RandomSampler"}
    for number in range(REHEARSED):
        if (found := study.next_point(space, drawn, made, [], number)) is None:
            return  # so few combinations that no sampler is needed
        value = zlib.crc32(name_of(found[0]).encode()) / 2**32
        made.tell(study.begin(made, space, *found), [value] * len(names))
    try:
        study.next_point(space, asked["sampler"], made, [], asked["seed"])
    except UserError as error:
        yield from error.problems
