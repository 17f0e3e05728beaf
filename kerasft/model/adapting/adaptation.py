"""What adapts a model: which variables train in place of the backbone's, and how it is folded."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from kerasft.errors import UserError
from kerasft.system.variables import unnumbered

if TYPE_CHECKING:
    import keras


@dataclass
class Adaptation:
    """What of a model's backbone may train, and how it becomes a plain model.

    Args:
        base: The fingerprint of the backbone's weights as they were, see `fingerprint`.
        records: How it came about: by kind, with what `saved` needs to do it again.
        layers: The layers with a low-rank update.
        own: The variables that may train, by `id`, beside those of the head.
        state: All variables that training may change, statistics of norms among them, in order.
        notes: What to say of it.
    """

    base: str
    records: list[dict[str, Any]] = field(default_factory=list)
    layers: list[Any] = field(default_factory=list)
    own: dict[int, Any] = field(default_factory=dict)
    state: list[Any] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def names(self) -> str:
        """The kinds of adapters, as the config chooses them."""
        return " and ".join(f"adapt.{record['kind']}" for record in self.records) or "adapt"

    def trains(self, variable: keras.Variable) -> bool:
        """Whether a variable of the backbone may train."""
        return id(variable) in self.own

    def adds(self, variable: keras.Variable) -> bool:
        """Whether a variable is one of an update, and none of the backbone's own."""
        return self.trains(variable) and re.search(r"/lora_[ab]$", variable.path) is not None

    def let(self, variables: Sequence[keras.Variable], further: Sequence[Any] = ()) -> None:
        """Let variables train; `further` ones change with them."""
        self.own |= {id(variable): variable for variable in variables}
        known = {id(variable) for variable in self.state}
        self.state += [v for v in (*variables, *further) if id(v) not in known]

    @contextmanager
    def folded(self) -> Iterator[None]:
        """Have every update in its layer's kernel inside the block, and each layer a plain one."""
        from kerasft.model.adapting.low_rank import fold

        undo: list[Callable[[], None]] = []
        try:
            undo += (fold(layer) for layer in self.layers)
            yield
        finally:
            for unfold in reversed(undo):
                unfold()


def adaptation_of(model: keras.Model) -> Adaptation | None:
    """Return what adapts a model, `None` where nothing does."""
    return getattr(model, "adaptation", None)


def backbone_layers(model: keras.Model) -> list[Any]:
    """Return the layers of a model's backbone, those within layers too, each once."""
    of_head = {id(part) for part in getattr(model, "head_parts", ())}
    layers = model._flatten_layers(include_self=False)
    return [one for one in layers if id(one) not in of_head]


def head_variables(model: keras.Model) -> list[Any]:
    """Return the variables of a model's head."""
    return [v for layer in getattr(model, "head_layers", ()) for v in layer.variables]


def adaptable(model: keras.Model) -> list[Any]:
    """Return the layers of a backbone whose class takes a low-rank update, in order."""
    from kerasft.model.adapting.low_rank import kind_of

    return [one for one in backbone_layers(model) if kind_of(one) is not None and one.built]


def path_of(layer: keras.Layer) -> str:
    """Return the path of a layer, as its variables have it."""
    variables = layer.variables
    return variables[0].path.rpartition("/")[0] if variables else str(layer.path or layer.name)


def adapting(model: keras.Model) -> Adaptation:
    """Return what adapts a model, made anew where nothing has yet.

    Raises:
        UserError: If it is no model of `kerasft.model.assemble`, whose files hold no adapters.
    """
    found = adaptation_of(model)
    if found is None:
        if not hasattr(model, "head_layers"):
            raise UserError(
                "adapt needs the model that kerasft has put together: regularize.NAME must return "
                f"the one that it was given. Received: {type(model).__name__}."
            )
        found = Adaptation(fingerprint(model))
        # Out of sight of Keras' tracking: its layers are the model's own.
        object.__setattr__(model, "adaptation", found)
    return found


def fingerprint(model: keras.Model) -> str:
    """Return the SHA-256 of the weights of a backbone, by their paths without Keras' numbers."""
    of_head = set(map(id, head_variables(model)))
    together = hashlib.sha256()
    for variable in model.variables:
        if id(variable) in of_head or "seed" in variable.path.rpartition("/")[2]:
            continue
        values = np.ascontiguousarray(variable.value.numpy())
        named = f"{unnumbered(variable.path)} {values.dtype} {values.shape}\n"
        together.update(named.encode())
        together.update(values.view("uint8").data if values.ndim else values.tobytes())
    return together.hexdigest()


def forget_traces(model: keras.Model) -> None:
    """Have what was compiled of a model compiled anew: its layers compute otherwise now."""
    model.train_function = model.test_function = model.predict_function = None
    vars(model).pop("_kerasft_measure", None)


def merge(model: keras.Model) -> None:
    """Add every update to its kernel for good: the model is a plain one from here on.

    Args:
        model: An adapted model, or any other, which is left alone.
    """
    from kerasft.model.adapting.low_rank import fold, forget

    adaptation = adaptation_of(model)
    if adaptation is None:
        return
    for layer in adaptation.layers:
        fold(layer)
        forget(layer)
    object.__setattr__(model, "adaptation", None)
    forget_traces(model)
