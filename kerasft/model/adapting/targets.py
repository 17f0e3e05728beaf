"""Which layers of a backbone get a low-rank update."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from kerasft.errors import UserError
from kerasft.model.adapting.adaptation import backbone_layers, head_variables, path_of
from kerasft.system.console import listing

if TYPE_CHECKING:
    import keras

# Layers that a message names.
NAMED = 4


def chosen(model: keras.Model, targets: Sequence[str] | None, rank: int, share: float) -> list[Any]:
    """Return the layers of a backbone that get an update.

    Args:
        model: The assembled model.
        targets: Regular expressions on their paths; `None` for all that fit.
        rank: The rank of the update.
        share: The upper share of the backbone's top-level layers that they are looked for in.

    Raises:
        UserError: If there is none, or one that is named takes no such update.
    """
    layers = upper(model, share)
    return fitting(layers, rank) if targets is None else matching(layers, targets, rank)


def upper(model: keras.Model, share: float) -> list[Any]:
    """Return the layers in the upper share of a backbone's top-level layers.

    As `finetune.NAME.train` counts them: top-level names of variables, from the input on.
    """
    own = backbone_layers(model)
    of_head = set(map(id, head_variables(model)))
    parts = list(dict.fromkeys(
        variable.path.split("/")[0] for variable in model.trainable_variables
        if id(variable) not in of_head
    ))  # fmt: skip
    kept = set(parts[len(parts) - max(round(share * len(parts)), 1):])
    return own if share == 1 else [one for one in own if path_of(one).split("/")[0] in kept]


def fitting(layers: Sequence[Any], rank: int) -> list[Any]:
    """Return the layers that get an update where nobody names any.

    Raises:
        UserError: If there is none.
    """
    from kerasft.model.adapting import low_rank

    taking = [
        layer for layer in layers
        if not low_rank.objection(layer) and low_rank.kind_of(layer) not in low_rank.EMBEDDINGS
    ]  # fmt: skip
    chosen = []
    for layer in taking:
        inputs, outputs = map(math.prod, low_rank.sides_of(layer))
        if rank * (inputs + outputs) < inputs * outputs:
            chosen.append(layer)
    if not chosen:
        most = max((low_rank.largest_rank(layer) for layer in taking), default=0)
        raise UserError(
            "adapt.lora finds no layer in this backbone whose update would be smaller than its "
            f"kernel: the largest kernel has a side of {most}. Received: rank={rank}. Lower "
            "adapt.lora.rank, or choose adapt=norm or adapt=bias."
        )
    return chosen


def matching(layers: Sequence[Any], targets: Sequence[str], rank: int) -> list[Any]:
    """Return the layers that regular expressions name.

    Raises:
        UserError: If one names none, or none that takes an update, or one that is too small.
    """
    from kerasft.model.adapting import low_rank

    paths = {path_of(layer): layer for layer in layers if layer._trainable_variables}
    chosen: dict[str, Any] = {}
    for target in targets:
        found = {path: one for path, one in paths.items() if re.search(target, path)}
        if not found:
            raise UserError(
                f"adapt.lora.targets: {target!r} matches no layer of the backbone. "
                f"{_near(target, list(paths))}"
            )
        fit = {path: one for path, one in found.items() if not low_rank.objection(one)}
        if not fit:
            which = [f"{path} ({low_rank.objection(one)})" for path, one in found.items()]
            raise UserError(
                f"adapt.lora.targets: {target!r} matches only layers that take no update: "
                f"{_some(which)}. Allowed are Dense, EinsumDense, Embedding and Conv layers "
                "without groups."
            )
        chosen |= fit
    if small := [path for path, one in chosen.items() if low_rank.largest_rank(one) < rank]:
        which = [f"{path} ({low_rank.largest_rank(chosen[path])})" for path in small]
        raise UserError(
            f"adapt.lora.rank must not be larger than the smaller side of a kernel: {_some(which)}."
            f" Received: {rank}. Lower it, or leave these out of adapt.lora.targets."
        )
    return [layer for path, layer in paths.items() if path in chosen]


def _some(words: Sequence[str]) -> str:
    more = len(words) - NAMED
    return listing(words[:NAMED]) + (f", and {more} more" if more > 0 else "")


def _near(target: str, paths: list[str]) -> str:
    """Name the paths that resemble a regular expression, one of each kind."""
    kinds = {re.sub(r"\d+", "*", path): path for path in reversed(paths)}
    plain = re.sub(r"[\\^$()?]", "", target)
    ends = {path.rpartition("/")[2]: path for path in kinds.values()}
    near = [ends[end] for end in difflib.get_close_matches(plain, ends, n=NAMED, cutoff=0.5)]
    near = near or difflib.get_close_matches(plain, kinds.values(), n=NAMED, cutoff=0.0)
    return f"Paths near it: {listing(dict.fromkeys(near))}."
