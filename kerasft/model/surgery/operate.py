"""Takes the steps of surgery on a backbone, and proves what they left alone."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np

from kerasft.errors import UserError, in_short
from kerasft.model.layers import ImageNetwork
from kerasft.model.preprocess import ImagePreprocess
from kerasft.model.surgery.inputs import fitted
from kerasft.model.surgery.operated import Graph, GraphError, Operated
from kerasft.model.surgery.tree import Row, rows
from kerasft.spec import Backbone, channels_of, takes_images

Step = Callable[[Graph], str]


@dataclass(frozen=True)
class Surgery:
    """What steps made of a backbone.

    Args:
        backbone: The backbone after them.
        said: A sentence a step, and one on the weights.
        before: The layers before them.
        after: The layers after them.
    """

    backbone: Backbone
    said: tuple[str, ...]
    before: tuple[Row, ...]
    after: tuple[Row, ...]


def operate(backbone: Backbone, steps: Mapping[str, Step]) -> Surgery:
    """Take the steps of surgery, in order.

    The layers of the backbone are shared with the result, and some are changed in place: it is not
    to be used any more.

    Args:
        backbone: The backbone.
        steps: Functions by name that change a `Graph` and say what they did.

    Returns:
        A `Surgery`.

    Raises:
        UserError: If a step cannot be taken, with its name; if a weight changed that no step
            changes.

    Example:
        >>> from kerasft.model import tiny
        >>> from kerasft.model.surgery.steps import Cut
        >>> made = operate(tiny.text("bert"), {"cut": Cut("transformer_layer_0")})
        >>> made.said[0][:40]
        'surgery.cut: cut at transformer_layer_0:'
    """
    outer = backbone.network
    network = outer.network if isinstance(outer, ImageNetwork) else outer
    _require_fit(backbone, network, steps)
    graph = Graph(network)
    before = rows(graph)
    digests = {id(v): (v, _digest(v)) for v in network.weights}
    said = []
    for name, step in steps.items():
        try:
            said.append(f"surgery.{name}: {step(graph)}")
            graph.run()
        except UserError as error:
            raise UserError(
                problems=[f"surgery.{name}: {one}" for one in error.problems]
            ) from error
        except GraphError as error:
            raise UserError(f"surgery.{name}: {error}.") from error
    made = Operated(graph, name=network.name)
    said.append(_prove(made, digests, graph.touched))
    after = rows(graph)
    changed = replace(backbone, network=made)
    if takes_images(backbone.preprocess):
        changed = _with_images(backbone, outer, made)
    kept = keras.tree.map_structure(lambda t: tuple(t.shape), network.output) == \
        keras.tree.map_structure(lambda t: tuple(t.shape), made.output)
    # What a head took of the rest fits outputs of other shapes no more.
    changed = replace(changed, whole=backbone.whole if kept else None)
    return Surgery(changed, tuple(said), tuple(before), tuple(after))


def _require_fit(backbone: Backbone, network: keras.Model, steps: Mapping[str, Step]) -> None:
    """See before the first step that the network can be operated on."""
    if not hasattr(network, "_nodes_by_depth"):
        raise UserError(
            f"surgery is of networks whose layers are connected in a graph. {backbone.name} is a "
            f"{type(network).__name__} that computes by code of its own. Set surgery=none, or "
            "choose another backbone."
        )
    if problems := unfit(steps, backbone.preprocess.modality):
        raise UserError(problems=problems)


def unfit(steps: Mapping[str, Step], modality: str) -> list[str]:
    """Return what speaks against steps on a backbone for texts or for images.

    Example:
        >>> from kerasft.model.surgery.steps import InputChannels
        >>> unfit({"grey": InputChannels(1)}, "text")
        ['surgery.grey is of images, and the backbone takes texts. Take it out: ~surgery.grey.']
    """
    return [
        f"surgery.{name} is of images, and the backbone takes texts. Take it out: ~surgery.{name}."
        for name, step in steps.items()
        if getattr(step, "modality", modality) != modality
    ]


def _with_images(backbone: Backbone, outer: keras.Model, network: Operated) -> Backbone:
    """Put pixels before a network again, and have them made in its size and channels of now."""
    preprocess: Any = backbone.preprocess
    rows_, columns, channels = network.inputs[0].shape[1:]
    height, width = rows_ or preprocess.height, columns or preprocess.width
    made: Any = network
    if isinstance(outer, ImageNetwork):
        _, _, scale, offset, bgr = outer.values
        try:
            made = ImageNetwork(
                network, height, width, _each(scale, channels), _each(offset, channels), bgr,
                name=outer.name,
            )  # fmt: skip
        except Exception as error:  # the layers' own words, of any type
            raise UserError(
                f"surgery: {backbone.name} does not take images of {height}x{width} pixels any "
                f"more ({in_short(error)})."
            ) from error
    before = (preprocess.height, preprocess.width, channels_of(preprocess))
    if (now := (height, width, channels or before[2])) != before:
        if not isinstance(preprocess, ImagePreprocess):
            raise UserError(
                f"surgery: {backbone.name} has a preprocessing of its own, "
                f"{type(preprocess).__name__}, which is not known to make images of "
                f"{height}x{width}x{now[2]}. Take the step out that changes the images."
            )
        preprocess = preprocess.taking(*now)
    return replace(backbone, network=made, preprocess=preprocess)


def _each(values: Any, channels: int | None) -> Any:
    """Return a scale or offset for so many channels: one number, or one for each."""
    if np.size(values) == 1 or channels in (None, np.size(values)):
        return values
    return fitted(values, int(channels or 3))


def _digest(variable: keras.Variable) -> bytes:
    value = np.ascontiguousarray(keras.ops.convert_to_numpy(variable.value))
    return hashlib.sha256(value.view("uint8").data if value.ndim else value.tobytes()).digest()


def _prove(network: Operated, digests: Mapping[int, Any], touched: set[int]) -> str:
    """See that no weight changed but those that a step changes, and say so."""
    kept = [v for v in network.weights if id(v) in digests and id(v) not in touched]
    moved = [v.path for v in kept if _digest(v) != digests[id(v)][1]]
    if moved:
        raise UserError(
            "surgery changed weights that no step was to change; this is a mistake of kerasft: "
            f"{', '.join(moved[:5])}."
        )
    have = {id(v) for v in network.weights}
    gone = sum(one not in have for one in digests)
    new = len(have) - len(kept)
    return (
        f"surgery: of the weights, {len(kept)} are bit-identical to before, {new} new or adapted, "
        f"{gone} left out"
    )
