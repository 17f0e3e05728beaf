"""The pretrained networks there are, as a table that fits the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kerasft.catalogue.networks import OF_MAPS
from kerasft.catalogue.suggested import SUGGESTED
from kerasft.system.console import table

# The columns that are left out where a terminal is too narrow for all, in this order.
LESS_NEEDED = ("family", "source", "choose with", "input", "suggested", "download", "cached")
# The same for the table of those to begin with.
LESS_NEEDED_TO_BEGIN = ("parameters", "choose with", "why")


def as_text(rows: Sequence[Mapping[str, Any]], width: int | None = None) -> str:
    """Return what `models` found as a table, and below it which to begin with.

    Args:
        rows: What `models` found.
        width: How many characters fit into a line; where there are fewer than the table takes,
            columns are left out.
    """
    columns: dict[str, list[str]] = {
        "name": [r["name"] for r in rows],
        "family": [r["family"] for r in rows],
        "source": [r["source"] for r in rows],
        "input": [r["input"] for r in rows],
        "parameters": [_parameters(r) for r in rows],
        "memory": [_bytes(r["memory"]) for r in rows],
        "download": [_bytes(r["download"]) for r in rows],
        "tasks": [_tasks(r) for r in rows],
        "suggested": [r["suggested"] for r in rows],
        "cached": ["yes" if r["cached"] else "" for r in rows],
        "choose with": [r["choose"] for r in rows],
    }
    found, hidden = _fitting(columns, width, LESS_NEEDED)
    kinds = {_tasks(row): row["tasks"] for row in rows if _tasks(row).endswith(" tasks")}
    notes = [f"{kind}: {', '.join(tasks)}" for kind, tasks in sorted(kinds.items())]
    notes.append("memory: what training takes at least (weights, gradients and Adam's moments in "
                 "float32), without activations")  # fmt: skip
    if "choose with" in hidden:
        notes.append("choose with: backbone.preset=NAME, or for keras.applications (names such as "
                     "MobileNetV2) backbone=applications backbone.name=NAME")  # fmt: skip
    if hidden:
        notes.append(
            f"not shown in {width} columns: {', '.join(hidden)}; --json has all"
            + ", --cached lists those that are on this machine" * ("cached" in hidden)
        )
    if chosen := sorted((row for row in rows if row["suggested"]), key=_by_suggestion):
        begin = {
            "to begin with": [r["suggested"] for r in chosen],
            "name": [r["name"] for r in chosen],
            "parameters": [_parameters(r) for r in chosen],
            "memory": [_bytes(r["memory"]) for r in chosen],
            "why": [r["why"] for r in chosen],
            "choose with": [r["choose"] for r in chosen],
        }
        notes += ["", _fitting(begin, width, LESS_NEEDED_TO_BEGIN)[0]]
    return "\n".join([found, "", *notes])


def _fitting(
    columns: dict[str, list[str]], width: int | None, less_needed: Sequence[str]
) -> tuple[str, list[str]]:
    """Return a table of the columns that fit into a width, and which were left out."""
    shown, hidden = dict(columns), list[str]()
    for name in less_needed:
        taken = sum(max(map(len, [head, *cells])) + 2 for head, cells in shown.items()) - 2
        if width is None or taken <= width:
            break
        hidden.append(name)
        del shown[name]
    return table(list(zip(*shown.values(), strict=True)), list(shown)), hidden


def _parameters(row: Mapping[str, Any]) -> str:
    return f"{row['parameters'] / 1e6:,.1f} M" if row["parameters"] else "?"


def _bytes(number: int | None) -> str:
    if number is None:
        return "?"
    if number >= 10**12:
        return f"{number / 1e12:,.1f} TB"
    return f"{number / 1e9:,.1f} GB" if number >= 10**9 else f"{number / 1e6:,.0f} MB"


def _by_suggestion(row: Mapping[str, Any]) -> int:
    return [one.name for one in SUGGESTED].index(row["name"])


def _tasks(row: Mapping[str, Any]) -> str:
    if row["family"] in OF_MAPS:
        return ", ".join(row["tasks"])
    return f"{'all ' if row['left_to_right'] else ''}{row['input'].removesuffix('s')} tasks"
