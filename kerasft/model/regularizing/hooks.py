"""What is done to the outputs of a layer while the network trains, out of sight of its files.

A hooked layer keeps its class, its config, its weights and its paths: only the `call` of this one
object is another. So files, exports and what is computed in inference are those of the network
without hooks, and layers within layers can be hooked, too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import keras

Change = Callable[..., Any]


@dataclass(eq=False)
class Hook:
    """The `call` of a hooked layer.

    Args:
        layer: The layer.
        changes: What is done to its outputs in training, one after the other: functions of the
            outputs and of all that the layer was called with.
        faster: What computes in place of the layer's own `call`, see `compute_by`.
        rests: Whether the layer itself computes in inference mode, also in training.
    """

    layer: Any
    changes: list[Change] = field(default_factory=list)
    faster: Callable | None = None
    rests: bool = False

    def call(self, *args: Any, **kwargs: Any) -> Any:
        """Compute what the layer does, and change it where the network trains."""
        # Not bound beforehand: an adapter gives a layer another class later.
        return self._changed(self.faster or type(self.layer).call.__get__(self.layer), args, kwargs)

    def quantized_call(self, *args: Any, **kwargs: Any) -> Any:
        """Do the same where Keras has made the kernel `int8`."""
        return self._changed(type(self.layer).quantized_call.__get__(self.layer), args, kwargs)

    def _changed(self, own: Callable, args: tuple, kwargs: dict[str, Any]) -> Any:
        trains = self._trains(kwargs)
        if trains and self.rests:
            kwargs["training"] = False
        outputs = own(*args, **kwargs)
        if trains:
            for change in self.changes:
                outputs = change(outputs, *args, **kwargs)
        return outputs

    def _trains(self, kwargs: dict[str, Any]) -> bool:
        if "training" in kwargs:
            return bool(kwargs["training"])
        # A layer whose `call` is not told: Keras hands it on to the layers within.
        return bool(self.layer._get_call_context().get_value("training"))


def hook_of(layer: keras.Layer) -> Hook | None:
    """Return the hook of a layer, `None` where it has none."""
    hook = getattr(vars(layer).get("call"), "__self__", None)
    return hook if isinstance(hook, Hook) else None


def hook(layer: keras.Layer, change: Change, *, rests: bool = False) -> None:
    """Change the outputs of a layer in training.

    Args:
        layer: A layer; it is changed in place.
        change: A function of its outputs, and of all that it was called with, to new outputs.
        rests: Whether the layer itself computes in inference mode, also in training.

    Example:
        >>> layer = keras.layers.Activation("linear")
        >>> hook(layer, lambda outputs, inputs: outputs * 2)
        >>> one = keras.ops.ones((1,))
        >>> float(layer(one, training=True)[0]), float(layer(one)[0])
        (2.0, 1.0)
    """
    found = hook_of(layer)
    if found is None:
        found = Hook(layer)
        # Out of sight of Keras' tracking.
        object.__setattr__(layer, "call", found.call)
        object.__setattr__(layer, "quantized_call", found.quantized_call)
    found.changes.append(change)
    found.rests |= rests


def compute_by(layer: keras.Layer, call: Callable | None) -> None:
    """Have a layer compute by another function than its own `call`; what hooks it stays.

    Args:
        layer: The layer.
        call: The function; `None` for the layer's own again.
    """
    if (found := hook_of(layer)) is not None:
        found.faster = call
    elif call is None:
        object.__delattr__(layer, "call")
    else:
        object.__setattr__(layer, "call", call)


def seeds(layer: keras.Layer, name: str) -> keras.random.SeedGenerator:
    """Give a built layer a generator of seeds, whose state is a variable of the network.

    Checkpoints hold it as they hold that of dropout, so that a resumed run goes on drawing where it
    was. Files of networks do not.

    Args:
        layer: The layer.
        name: The attribute that it becomes.
    """
    import keras

    layer._tracker.unlock()
    try:
        setattr(layer, name, keras.random.SeedGenerator())
    finally:
        layer._tracker.lock()
    return getattr(layer, name)
