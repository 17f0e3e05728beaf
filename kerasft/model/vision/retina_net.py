"""What a RetinaNet preset of KerasHub finds objects with: two subnets and the anchors."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np

from kerasft.errors import UserError
from kerasft.model.hub import fetch

# The layers of the head that are given weights, each with its subnet in KerasHub's detector.
SUBNETS = {"head_box": "box_head", "head_class": "classification_head"}


@dataclass(frozen=True)
class Subnets:
    """What a detector computes of each map of its pyramid.

    Args:
        width: Channels.
        depth: Number of convolutions before boxes and classes.
        norm: `"group"` or `"none"`: what stands behind these.
        anchors: `anchor_size`, `scales` and `ratios`, see `anchors.anchors_of`.
        weights: Of `head_box` and of `head_class`, those of each convolution, then those of each
            normalization.
        boxes: The kernel and the bias of the layer that places boxes.
    """

    width: int
    depth: int
    norm: str
    anchors: Mapping[str, Any]
    weights: Mapping[str, Sequence[Sequence[np.ndarray]]]
    boxes: Sequence[np.ndarray]

    def centered(self) -> list[np.ndarray]:
        """Return `boxes` for anchors in the middle of their places.

        KerasHub's stand in the upper left corner: seen from the middle, each box is half a place
        further up and to the left, which is the same part of an anchor's sides on each map.
        """
        kernel, bias = self.boxes
        made = bias.reshape(-1, 4).copy()
        size, scales = self.anchors["anchor_size"], self.anchors["scales"]
        sides = [
            (side / math.sqrt(ratio), side * math.sqrt(ratio)) for ratio in self.anchors["ratios"]
            for side in (size * 2 ** (i / scales) for i in range(scales))
        ]  # fmt: skip
        made[:, :2] -= 0.5 / np.array(sides, made.dtype)
        return [kernel, made.reshape(-1)]


@dataclass(frozen=True)
class RetinaNet:
    """A RetinaNet preset, whose subnets are read when a head asks for them.

    Args:
        preset: The value of `backbone.preset`.
        folder: What KerasHub takes for it.
        pretrained: Whether a head may have the weights, or the shapes alone.
    """

    preset: str
    folder: str
    pretrained: bool = True

    @cached_property
    def subnets(self) -> Subnets | None:
        """The subnets, or `None` where the preset is of a network without a detector."""
        state = random.getstate()  # what is made to be read must not change what is drawn next
        try:
            return fetch(self.preset, lambda: _read(self.folder))
        finally:
            random.setstate(state)


def _read(folder: str) -> Subnets | None:
    import keras_hub
    from keras_hub.src.utils import preset_utils as files

    kind = keras_hub.models.RetinaNetObjectDetector
    parts = (files.TASK_CONFIG_FILE, files.TASK_WEIGHTS_FILE)
    if not all(files.check_file_exists(folder, part) for part in parts):
        return None
    if not issubclass(files.check_config_class(files.load_json(folder, parts[0])), kind):
        return None
    detector = kind.from_preset(folder)
    heads = {name: getattr(detector, theirs) for name, theirs in SUBNETS.items()}
    box, anchors = heads["head_box"], detector.anchor_generator
    return Subnets(
        width=box.num_filters, depth=box.num_conv_layers,
        norm="group" if box.use_group_norm else "none",
        anchors={"anchor_size": anchors.anchor_size, "scales": anchors.num_scales,
                 "ratios": list(anchors.aspect_ratios)},
        weights={name: [layer.get_weights() for layer in (*head.conv_layers,
                                                          *head.group_norm_layers)]
                 for name, head in heads.items()},
        boxes=box.prediction_layer.get_weights(),
    )  # fmt: skip


def fitting(
    whole: Any, weights: Literal["preset", "none"] | None, **asked: Any
) -> tuple[Subnets | None, str]:
    """Return the subnets that a head starts from, and what to tell of it.

    Args:
        whole: `Features.whole`.
        weights: `head.weights`.
        **asked: `width`, `depth` and `norm` of the head; where `norm` is `None`, any will do.

    Returns:
        `None` for a head that is new, with the reason where weights might have been expected.

    Raises:
        UserError: If the preset's are wanted, and there are none that fit.
    """
    if weights == "none" or not (weights or isinstance(whole, RetinaNet)):
        return None, ""
    found = whole.subnets if isinstance(whole, RetinaNet) else None
    if found is not None:
        problem = " and ".join(_differing(asked, vars(found)))
    elif isinstance(whole, RetinaNet):
        problem = "the preset is of the network alone, without a detector's head"
    else:
        problem = "the backbone is none, or surgery changed its maps"
    if not problem:
        return found, ""
    if weights == "preset":
        raise UserError(
            f"head.weights=preset starts from the head of a RetinaNet preset, and {problem}. "
            "Choose backbone.preset=retinanet_resnet50_fpn_coco or the like and a head as it has, "
            "or head.weights=none for a new head."
        )
    return None, f"the subnets are new: {problem}"


def teach(layers: Mapping[str, Sequence[Any]], subnets: Subnets, anchors: Mapping[str, Any]) -> str:
    """Give the layers of a head the weights of a detector, but for those that tell classes apart.

    Args:
        layers: Of `head_box` and `head_class` the convolutions, then the normalizations, built;
            of `head_boxes` the one that places boxes. They are changed in place.
        subnets: With the same width, depth and norm.
        anchors: `anchor_size`, `scales` and `ratios` of the head.

    Returns:
        What to tell of it.
    """
    for name in SUBNETS:
        for layer, weights in zip(layers[name], subnets.weights[name], strict=True):
            layer.set_weights(weights)
    said = "the preset's subnets with their weights"
    if differ := _differing(anchors, subnets.anchors):
        return (f"{said}; the layers that place boxes and tell classes apart are new "
                f"({' and '.join(differ)})")  # fmt: skip
    (last,) = layers["head_boxes"]
    last.set_weights(subnets.centered())
    return f"{said}, boxes included; the layer that tells classes apart is new"


def _differing(asked: Mapping[str, Any], there: Mapping[str, Any]) -> list[str]:
    """Return which settings of a head are not those of the preset; `None` is any."""
    return [
        f"head.{name}={value} is not the preset's {there[name]}"
        for name, value in asked.items() if value is not None and value != there[name]
    ]  # fmt: skip
