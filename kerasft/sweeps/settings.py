"""What a search may be asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from kerasft.config.checks import alive
from kerasft.config.composition import SWEEP
from kerasft.errors import UserError, shown
from kerasft.sweeps import launchers, parts, study, urls
from kerasft.sweeps.text import one_line
from kerasft.sweeps.trials import is_finite

KEYS = ("n_trials", "workers", "gpus", "objectives", "space", "known", "sampler", "pruner", "seed",
        "max_time", "max_cost", "max_failures", "retries", "keep", "storage",
        "launcher")  # fmt: skip
# The least and the most that a count may be. Each worker is a process.
COUNTS = {"workers": (1, 1000), "gpus": (1, 1000), "max_failures": (1, 10**9),
          "retries": (0, 10**9), "n_trials": (1, 10**9)}  # fmt: skip


def require_sound(asked: Mapping[str, Any], trusted: Sequence[str]) -> None:
    """See that the values of `sweep` are what they must be, wherever they come from.

    Args:
        asked: The values, resolved.
        trusted: Import prefixes that a `_target_` may start with.

    Raises:
        UserError: With all that is wrong.
    """
    if lacks := [key for key in KEYS if key not in asked]:
        raise UserError(
            f"sweep lacks {', '.join(lacks)}: the sweep's file is damaged or from another version."
        )
    problems = [text for _, text in alive(dict(asked), SWEEP)]
    if problems:
        raise UserError(problems=problems)
    problems += [*_of_numbers(asked), *_of_points(asked), *launchers.problems(asked["launcher"])]
    if asked["storage"] is not None:
        problems += urls.problems(asked["storage"]) if isinstance(asked["storage"], str) else [
            "sweep.storage must be an URL such as sqlite:///study.db, or null. Received: "
            f"a value of another kind ({type(asked['storage']).__name__})."
        ]
    if asked["keep"] not in ("best", "done", "all"):
        problems.append(f"sweep.keep must be best, done or all. Received: {shown(asked['keep'])}.")
    wanted = asked["objectives"]
    if wanted is not None and not (isinstance(wanted, list) and wanted
                                   and all(isinstance(one, str) for one in wanted)):
        problems.append(
            f"sweep.objectives must be a list of names, or null. Received: {shown(wanted)}."
        )
    for part in ("sampler", "pruner"):
        if asked[part] is not None:
            problems += parts.problems(part, asked[part], trusted)
    if problems:
        raise UserError(problems=map(one_line, problems))
    for part in ("sampler", "pruner"):
        study.made(asked[part], part)


def _of_numbers(asked: Mapping[str, Any]) -> Iterator[str]:
    for key, (least, most) in COUNTS.items():
        value = asked[key]
        if value is None and key == "n_trials":
            continue
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            yield (
                f"sweep.{key} must be a whole number of at least {least}. Received: {shown(value)}."
            )
        elif value > most:
            yield f"sweep.{key} must be at most {most:,}. Received: {_large(value)}."
    name = asked["launcher"].get("name") if isinstance(asked["launcher"], Mapping) else None
    if name and asked["gpus"] != 1:
        yield (
            "sweep.gpus is of the sweep's own workers (launcher=workers). A launcher is told by "
            "settings of its own what a job gets: launcher.settings.gpus_per_node of submitit, "
            f"launcher.settings.ray.remote.num_gpus of Ray. Received: {shown(asked['gpus'])} with "
            f"launcher={one_line(str(name))}."
        )
    if asked["sampler"] is not None and asked["n_trials"] is None:
        yield "sweep.n_trials must be a number: only a grid knows its own."
    for key in ("max_time", "max_cost"):
        value = asked[key]
        if value is not None and not (is_finite(value) and value > 0):
            yield f"sweep.{key} must be a number above 0, or null. Received: {_large(value)}."
    seed = asked["seed"]
    if seed is not None and (isinstance(seed, bool) or not isinstance(seed, int)):
        yield f"sweep.seed must be a whole number. Received: {shown(seed)}."


def _large(value: object) -> str:
    """Return a value as a message shows it; of some numbers Python writes no digits."""
    return f"a number of {value.bit_length():,} bits" \
        if isinstance(value, int) and value.bit_length() > 200 else shown(value)


def _of_points(asked: Mapping[str, Any]) -> Iterator[str]:
    known, space = asked["known"], asked["space"]
    if not (isinstance(known, list) and all(isinstance(p, Mapping) for p in known)):
        yield f"sweep.known must be a list of points. Received: {shown(known)}."
    else:
        for place, point in enumerate(known):
            for key, value in point.items():
                if not _is_value(value):
                    yield (
                        f"sweep.known.{place}.{key} must be one value: text, a number, true, "
                        f"false, null or a list of these. Received: {shown(value)}."
                    )
    if not isinstance(space, Mapping):
        yield f"sweep.space must be a mapping. Received: {shown(space)}."
        return
    for key, value in space.items():
        if isinstance(value, Mapping):
            yield from _of_axis(f"sweep.space.{key}", value)
        elif not _is_value(value):
            yield (
                f"sweep.space.{key} must be text such as 'a,b' or 'interval(0, 1)'. Received: "
                f"{shown(value)}."
            )


def _of_axis(key: str, axis: Mapping[str, Any]) -> Iterator[str]:
    if odd := [name for name in axis if name not in ("values", "when")]:
        yield f"{key} may hold values and when. Received: {shown(odd[0])}."
    if not _is_value(axis.get("values")):
        yield f"{key}.values must be text such as 'a,b'. Received: {shown(axis['values'])}."
    when = axis.get("when")
    if when is not None and not isinstance(when, Mapping):
        yield f"{key}.when must be a mapping. Received: {shown(when)}."
    for name, value in (when or {}).items() if isinstance(when, Mapping) else ():
        several = value if isinstance(value, list) else [value]
        if not several or not all(map(_is_value, several)):
            yield f"{key}.when.{name} must be a value, or a list of some. Received: {shown(value)}."


def _is_value(value: object) -> bool:
    """Whether a value is plain, or a list of such."""
    inner = value if isinstance(value, list) else [value]
    return all(one is None or isinstance(one, str | int | float) for one in inner)
