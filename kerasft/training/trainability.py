"""What trains, part by part: how many weights, how fast, how held back."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from kerasft.training.depth import Depth
from kerasft.training.rates import Factors
from kerasft.training.stages import head_variables

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True)
class Part:
    """A part of the network whose weights train alike.

    Args:
        name: Its name.
        weights: How many weights it has.
        trains: How many of them train.
        learning_rate: Their peak learning rate; `None` where none trains.
        weight_decay: Their weight decay; `None` where none of them is decayed.
        batch_norm: `"frozen"` where its batch normalization keeps its statistics, `"trains"` where
            it learns them, both where it has both; `""` where it has none.
        adapter: What trains in it as an adapter: `"lora"`, `"bias"` or `"norm"`, `""` where nothing
            does.
    """

    name: str
    weights: int
    trains: int
    learning_rate: float | None = None
    weight_decay: float | None = None
    batch_norm: str = ""
    adapter: str = ""


@dataclass
class _Row:
    weights: int = 0
    trains: int = 0
    factors: Factors | None = None
    decays: bool = False
    norms: set[str] = field(default_factory=set)
    adapters: list[str] = field(default_factory=list)

    def add(self, other: _Row) -> None:
        self.weights += other.weights
        self.trains += other.trains
        self.factors = self.factors or other.factors
        self.decays |= other.decays
        self.norms |= other.norms
        self.adapters += [one for one in other.adapters if one not in self.adapters]


def describe(
    model: keras.Model, peak: float, weight_decay: float | None = None,
    factors: Sequence[Factors] | None = None, depth: Depth | None = None,
) -> list[Part]:
    """Return what trains, part by part.

    Layers that are numbered alike and train alike are put together; with a depth, each level is a
    part.

    Args:
        model: The assembled model, with the variables of a stage selected.
        peak: The stage's peak learning rate.
        weight_decay: The optimizer's weight decay, of which norms and biases are left out.
        factors: Those of the variables that train; `None` where all have the same.
        depth: How deep the variables lie, where rates go by that.

    Example:
        >>> from kerasft.model import tiny
        >>> describe(tiny.text("bert").network, 1e-3)[0].name
        'token_embedding'
    """
    trainable = list(model.trainable_variables)
    each = factors or [Factors()] * len(trainable)
    own = {id(v): one for v, one in zip(trainable, each, strict=True)}
    head, about = head_variables(model), _about(model)
    rows: dict[tuple[str, Factors | None], _Row] = {}
    for variable in model.variables:
        if "seed" in variable.path.split("/")[-1]:
            continue
        count, one = int(np.prod(variable.shape)), own.get(id(variable))
        norm, adapter = about.get(id(variable), ("", ""))
        part = _part_of(variable, head, depth) + (" (lora)" if adapter == "lora" else "")
        rows.setdefault((part, one), _Row()).add(_Row(
            count, count if one else 0, one, bool(one and len(variable.shape) > 1),
            {norm} - {""}, [adapter] if adapter else [],
        ))
    parts = []
    places = {name: -level for level, name in depth.names.items()} if depth else {}
    for (name, one), row in sorted(_together(rows).items(), key=lambda i: places.get(i[0][0], 0)):
        decay = weight_decay * one.decay if weight_decay and one and row.decays else None
        parts.append(Part(
            name, row.weights, row.trains, peak * one.rate if one else None, decay,
            " and ".join(sorted(row.norms)), ", ".join(row.adapters),
        ))
    return parts


def _part_of(variable: keras.Variable, head: set[int], depth: Depth | None) -> str:
    if depth is not None and (level := depth.of(variable)):
        return depth.names[level]
    part = variable.path.split("/")[0]
    return part if id(variable) in head else re.sub(r"_?\d+.*$", "_*", part)


def _about(model: keras.Model) -> dict[int, tuple[str, str]]:
    """Return of each variable what batch normalization it belongs to does, and its adapter."""
    import keras

    norms: dict[int, str] = {}
    for layer in model._flatten_layers(include_self=False):
        if isinstance(layer, keras.layers.BatchNormalization):
            norms |= dict.fromkeys(map(id, layer.variables), _statistics(layer))
    adaptation = getattr(model, "adaptation", None)
    if adaptation is None:
        return {key: (norm, "") for key, norm in norms.items()}
    whole = ", ".join(one["kind"] for one in adaptation.records if one["kind"] != "lora")
    adapters = {
        key: "lora" if adaptation.adds(variable) else whole
        for key, variable in adaptation.own.items()
    }
    return {key: (norms.get(key, ""), adapters.get(key, "")) for key in {**norms, **adapters}}


def _statistics(layer: keras.Layer) -> str:
    return "trains" if layer.trainable else "frozen"


def _together(
    rows: dict[tuple[str, Factors | None], _Row]
) -> dict[tuple[str, Factors | None], _Row]:
    """Put what rests in a part with what trains in it."""
    found: dict[tuple[str, Factors | None], _Row] = {}
    for (name, one), row in rows.items():
        groups = [other for part, other in rows if part == name and other]
        key = (name, one or (groups[0] if groups else None))
        found.setdefault(key, _Row()).add(row)
    return found
