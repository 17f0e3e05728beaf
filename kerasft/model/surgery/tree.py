"""A network as a tree in text: its layers, and the layers within them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kerasft.model.surgery.operated import Graph
from kerasft.model.surgery.places import places, sides

if TYPE_CHECKING:
    import keras

# So many unchanged lines in a row, and more, are folded, but for those beside a change.
FOLDED, BESIDE = 8, 2


@dataclass(frozen=True)
class Row:
    """A line of a tree.

    Args:
        path: The path of the layer.
        depth: How many layers are around it.
        kind: Its class, with its rate or activation.
        gives: The shape of its output; empty within other layers.
        weights: How many numbers it holds.
        mark: What is there: the object itself, and how often its weights were drawn.
    """

    path: str
    depth: int
    kind: str
    gives: str
    weights: int
    mark: tuple[int, int]

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rpartition("/")[2]


def rows(graph: Graph) -> list[Row]:
    """Return the layers of a graph as rows.

    Example:
        >>> inputs = keras.Input((4,), name="inputs")
        >>> network = keras.Model(inputs, keras.layers.Dense(2, "relu", name="body")(inputs))
        >>> [(row.path, row.kind, row.weights) for row in rows(Graph(network))]
        [('body', 'Dense relu', 10)]
    """
    tensors = graph.run()
    made = []
    for path, place in places(graph).items():
        layer = place.layer
        # Which layer it is, and whether a step drew its weights again.
        drawn = sum(id(v) in graph.touched for v in getattr(layer, "weights", ()))
        made.append(Row(
            path, len(place.at), _kind(layer),
            "" if place.at else ", ".join(sides(tensors[n]) for n in place.node.gives),
            sum(_size(v) for v in getattr(layer, "weights", ())), (id(layer), drawn),
        ))  # fmt: skip
    return made


def _kind(layer: keras.Operation) -> str:
    rate = getattr(layer, "rate", None)
    now = getattr(getattr(layer, "activation", None), "__name__", "")
    more = f" {rate:g}" if isinstance(rate, int | float) else (
        f" {now}" if now not in ("", "linear") else "")
    return f"{type(layer).__name__}{more}"


def _size(variable: keras.Variable) -> int:
    count = 1
    for side in variable.shape:
        count *= int(side)
    return count


def compared(before: Sequence[Row], after: Sequence[Row]) -> tuple[list[str], list[str]]:
    """Return two trees as lines.

    `-` marks what is left out, `~` what is changed and `+` what is new. Blocks that are alike are
    folded, and so is in the second tree what is as before.

    Args:
        before: The rows before surgery.
        after: The rows after it.

    Returns:
        The lines of both.
    """
    def held(row: Row) -> tuple[Any, ...]:
        return row.kind, row.weights, row.mark

    was = {row.path: held(row) for row in before}
    now = {row.path: held(row) for row in after}
    first = ["-" if r.path not in now else "~" if now[r.path] != held(r) else " " for r in before]
    second = ["+" if r.path not in was else "~" if was[r.path] != held(r) else " " for r in after]
    return _lines(before, first), _unchanged_folded(_lines(after, second))


def _lines(rows_: Sequence[Row], marks: Sequence[str]) -> list[str]:
    shown = _alike_folded(rows_, marks)
    names = [f"{'  ' * row.depth}{row.name}" for row, _, _ in shown]
    wide = [max(map(len, names), default=0), max((len(r.kind) for r, _, _ in shown), default=0),
            max((len(r.gives) for r, _, _ in shown), default=0)]  # fmt: skip
    lines = []
    for name, (row, mark, more) in zip(names, shown, strict=True):
        if more:
            lines.append(f"{mark} {'  ' * row.depth}... {more}")
            continue
        lines.append(
            f"{mark} {name.ljust(wide[0])}  {row.kind.ljust(wide[1])}  {row.gives.ljust(wide[2])}  "
            f"{f'{row.weights:,}' if row.weights else ''}".rstrip()
        )
    return lines


def _alike_folded(rows_: Sequence[Row], marks: Sequence[str]) -> list[tuple[Row, str, str]]:
    """Return rows with their marks, blocks that are like the one before as one line."""
    blocks: list[list[int]] = []
    for i, row in enumerate(rows_):
        if row.depth == 0 or not blocks:
            blocks.append([])
        blocks[-1].append(i)

    def form(block: list[int]) -> list[Any]:
        return [(re.sub(r"_?\d+", "", rows_[i].path), rows_[i].kind, rows_[i].weights,
                 rows_[i].gives, marks[i]) for i in block]  # fmt: skip

    shown: list[tuple[Row, str, str]] = []
    i = 0
    while i < len(blocks):
        shown += [(rows_[j], marks[j], "") for j in blocks[i]]
        end = i + 1
        while end < len(blocks) and len(blocks[i]) > 2 and form(blocks[end]) == form(blocks[i]):
            end += 1
        if end > i + 1:
            last = rows_[blocks[end - 1][0]]
            count = end - i - 1
            shown.append((last, marks[blocks[i][0]],
                          f"{count} more like it, to {last.path}" if count > 1
                          else f"{last.path}, like it"))  # fmt: skip
        i = end
    return shown


def _unchanged_folded(lines: Sequence[str]) -> list[str]:
    changed = [i for i, line in enumerate(lines) if line[0] != " "]
    near = {j for i in changed for j in range(i - BESIDE, i + BESIDE + 1)}
    made, i = [], 0
    while i < len(lines):
        end = i
        while end < len(lines) and end not in near:
            end += 1
        if changed and end - i >= FOLDED:
            made.append(f"  ... {end - i} lines as before")
        else:
            made += lines[i:end]
        if end < len(lines):
            made.append(lines[end])
        i = end + 1
    return made
