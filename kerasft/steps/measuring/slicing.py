"""Figures by slices of the data, measured and told."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import repeat
from typing import Any

import numpy as np

from kerasft.contracts import Task
from kerasft.errors import some
from kerasft.evaluation.drawing import short
from kerasft.evaluation.slices import FEW, TOO_FEW, WORSE, Ranking, of_column
from kerasft.runs.finetuned import FineTuned
from kerasft.spec import Examples
from kerasft.system.console import table

# What they are called in `metrics.json`, and how many of a column are printed.
KEY, MOST = "slices", 10
# From so many slices on, one or so is clearly worse by chance alone: an end of an interval at 95 %
# is passed by one in 40.
MANY = 20


def by_slices(
    finetuned: FineTuned, part: Examples, names: Mapping[str, tuple[str, ...]],
    statistics: Mapping[str, np.ndarray], figures: Mapping[str, Any],
) -> dict[str, Any]:
    """Return the figures of a split by its slices; nothing where it has none.

    Args:
        finetuned: The model.
        part: The examples.
        names: The names of the slices, by column.
        statistics: What each of the examples adds to the figures.
        figures: The figures of all of them.

    Returns:
        `slices`: by column and name what `evaluation.slices.of_column` returns.
    """
    if part.slices is None:
        return {}
    task, labels = finetuned.task, finetuned.labels
    return {KEY: {
        column: of_column(task, labels, statistics, figures, part.slices[column], of)
        for column, of in names.items()
    }}  # fmt: skip


def of_each(part: Examples, names: Mapping[str, tuple[str, ...]]) -> Iterator[dict[str, str]]:
    """Yield the slices that each example is in, as `predictions/` has them."""
    if part.slices is None:
        yield from repeat({}, len(part))
        return
    columns = {f"slice_{name}": part.slices[name].tolist() for name in names}
    of = {f"slice_{name}": known for name, known in names.items()}
    for i in range(len(part)):
        yield {name: of[name][codes[i]] for name, codes in columns.items()}


def tell(
    task: Task, metrics: Mapping[str, Mapping[str, Any]], say: Callable[[str], Any], where: str = ""
) -> None:
    """Say what came to the slices of a split: of the last one that was measured.

    Args:
        task: The task.
        metrics: The figures, by split.
        say: Takes each table, and what there is to say to it.
        where: The file that holds all of them, if there is one.
    """
    split, figures = list(metrics.items())[-1]
    sliced = figures.get(KEY, {})
    if not sliced:
        return
    ranking = Ranking.of(task, figures)
    for column, slices in sliced.items():
        say(f"\n{_shown(column, split, slices, ranking, figures)}")
    every = [one for slices in sliced.values() for one in slices.values()]
    worse = sum(one["verdict"] == WORSE for one in every)
    if worse and len(every) >= MANY:
        say(f"of {len(every)} slices about {max(1, round(len(every) / 40))} would be clearly "
            "worse by chance alone")
    if where:
        others = [name for name in metrics if name != split and metrics[name].get(KEY)]
        more = f", and those of {' and '.join(others)}" if others else ""
        say(f"all figures of slices{more}: {where}")


def _shown(
    column: str, split: str, slices: Mapping[str, Mapping[str, Any]], ranking: Ranking,
    whole: Mapping[str, Any],
) -> str:
    """Return a table of the slices of a column, the worst first."""
    metric = ranking.metric
    others = list(dict.fromkeys(
        name for one in slices.values() for name, value in one.items()
        if isinstance(value, float) and name != metric
    ))  # fmt: skip
    head = [column, "examples", metric, "95 % interval", *others, ""]
    rows = [
        [_cut(name), one["examples"], one.get(metric), _between(one, metric),
         *(one.get(other) for other in others), _word(one, metric, whole)]
        for name, one in list(slices.items())[:MOST]
    ]
    count = sum(one["examples"] for one in slices.values())
    rows.append(["all", count, whole.get(metric), "",
                 *(whole.get(other) for other in others), ""])
    text = f"{split} by {column}, the worst {metric} first:\n{table(rows, head)}"
    left = len(slices) - MOST
    return f"{text}\nand {some(left, 'slice')} more" if left > 0 else text


def _cut(name: str) -> str:
    return name if len(name) <= 40 else f"{name[:39]}…"


def _between(one: Mapping[str, Any], metric: str) -> str:
    interval = one["interval"].get(metric)
    return "" if interval is None else f"{short(interval[0])} to {short(interval[1])}"


def _word(one: Mapping[str, Any], metric: str, whole: Mapping[str, Any]) -> str:
    if one["verdict"] == TOO_FEW:
        return f"fewer than {FEW}: too few to tell" if one["examples"] < FEW else "cannot tell"
    if one["verdict"] != WORSE:
        return ""
    return f"clearly worse than the {short(whole[metric])} of all"
