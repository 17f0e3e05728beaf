"""Heads that find objects: boxes and classes at each place of a pyramid of feature maps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from kerasft.contracts import trained_by
from kerasft.errors import UserError
from kerasft.model.heads.pyramid import fused, pyramid, unit
from kerasft.spec import Features

if TYPE_CHECKING:
    import keras

# How likely a new head takes anything for an object: nearly all places hold none.
_PRIOR = 0.01


@trained_by("task_aligned")
def anchor_free(
    features: Features,
    *,
    classes: int,
    width: int = 96,
    depth: int = 2,
    finest: int = 3,
    coarsest: int = 5,
) -> Any:
    """A light head without anchors: each place says how far the sides of its object are.

    After Tian et al., "FCOS: Fully Convolutional One-Stage Object Detection", 2019, with separable
    convolutions.

    Args:
        features: `Features` of a backbone with feature maps of several sizes.
        classes: Number of classes.
        width: Channels of the pyramid.
        depth: Number of convolutions before boxes and classes.
        finest: The finest map: its places stand `2 ** finest` pixels apart.
        coarsest: The coarsest one.

    Returns:
        `float32[batch, places, 8 + classes]`: a box (left, top, right, bottom in the network's
        pixels), the place itself (a cell of one stride, likewise), and a logit for each class.

    Raises:
        UserError: If the backbone has no such maps.
    """
    import keras

    from kerasft.model.layers import Places

    if width < 1 or depth < 0:
        raise UserError(
            "head.width must be at least 1 and head.depth at least 0. Received: "
            f"width={width}, depth={depth}."
        )
    maps = fused(features, width, finest, coarsest)
    small = keras.initializers.RandomNormal(stddev=0.01)
    rare = keras.initializers.Constant(math.log(_PRIOR / (1 - _PRIOR)))
    found = []
    for level, x in maps.items():
        seen = sides = x
        for i in range(depth):
            seen = unit(seen, width, 3, f"head_class_{level}_{i}")
            sides = unit(sides, width, 3, f"head_box_{level}_{i}")
        logits = keras.layers.Conv2D(
            classes, 1, kernel_initializer=small, bias_initializer=rare, dtype="float32",
            name=f"head_classes_{level}",
        )(seen)  # fmt: skip
        distances = keras.layers.Conv2D(
            4, 1, kernel_initializer=small, bias_initializer="ones", dtype="float32",
            name=f"head_boxes_{level}",
        )(sides)  # fmt: skip
        found.append(keras.layers.Concatenate(dtype="float32", name=f"head_{level}")(
            [distances, logits]))  # fmt: skip
    return Places(features.size, dtype="float32", name="head_outputs")(found)


@trained_by("focal", "task_aligned")
def retinanet(
    features: Features,
    *,
    classes: int,
    width: int = 256,
    depth: int = 4,
    norm: Literal["group", "none"] | None = None,
    finest: int = 3,
    coarsest: int = 7,
    anchor_size: float = 4.0,
    scales: int = 3,
    ratios: Sequence[float] = (0.5, 1.0, 2.0),
    weights: Literal["preset", "none"] | None = None,
) -> Any:
    """RetinaNet's head: a pyramid of maps, anchors at each place, and two subnets for all maps.

    Lin et al., "Focal Loss for Dense Object Detection", 2017. It is built of plain layers and not
    of KerasHub's: there the width is fixed, the low likelihood of objects at the start is given to
    the boxes instead of the classes, and each map must be twice as large as the next one. Of a
    RetinaNet preset it starts from the subnets' weights; the layer that tells classes apart is new,
    also where the classes are those of the preset, which does not name them.

    Args:
        features: `Features` of a backbone with feature maps of several sizes. A RetinaNet preset
            has the pyramid already; its maps are taken as they are.
        classes: Number of classes.
        width: Channels of the pyramid and of the subnets.
        depth: Number of convolutions before boxes and classes.
        norm: `"group"`: group normalization (Wu and He 2018) behind these, as in torchvision's
            second version; `"none"` as in the paper. By default as in the preset whose weights are
            taken, and else `"group"`.
        finest: The finest map: its places stand `2 ** finest` pixels apart.
        coarsest: The coarsest one; those beyond the network's are made.
        anchor_size: The side of the smallest square anchor of a map, in places.
        scales: Sizes of anchors from one map to the next.
        ratios: Heights of anchors, in parts of their widths.
        weights: `"preset"`: start from the subnets of a RetinaNet preset, which must have `width`,
            `depth` and `norm`; its layer that places boxes is taken too where the anchors are the
            same. `"none"`: a new head. By default from the preset's where there are some that fit.

    Returns:
        `float32[batch, anchors, 8 + classes]`: a box (left, top, right, bottom in the network's
        pixels), its anchor likewise, and a logit for each class.

    Raises:
        UserError: If the backbone has no such maps, a setting is out of range, or the weights of a
            preset are wanted and there are none that fit.

    Example:
        >>> maps = {3: keras.Input((8, 8, 8)), 4: keras.Input((4, 4, 16))}
        >>> retinanet(Features(None, maps=maps, size=(64, 64)), classes=2, width=8, depth=1,
        ...           coarsest=5).shape
        (None, 756, 10)
    """
    import keras

    from kerasft.model.vision.anchors import Anchors
    from kerasft.model.vision.retina_net import fitting, teach

    _require_anchors(width, depth, anchor_size, scales, ratios)
    known, notice = fitting(features.whole, weights, width=width, depth=depth, norm=norm)
    behind = norm or ("group" if known is None else known.norm)
    maps = pyramid(features, width, finest, coarsest)
    small = keras.initializers.RandomNormal(stddev=0.01)
    rare = keras.initializers.Constant(math.log(_PRIOR / (1 - _PRIOR)))
    each = scales * len(ratios)

    def subnet(name: str, last: str, units: int, bias: Any) -> list[Any]:
        made: list[Any] = []
        for i in range(depth):
            made.append(keras.layers.Conv2D(
                width, 3, padding="same", kernel_initializer=small, use_bias=behind == "none",
                name=f"{name}_{i}",
            ))  # fmt: skip
            if behind == "group":
                # As wide as the groups of the paper's 256 channels. Of the one place of a coarse
                # map, a group of one channel would leave nothing.
                groups = math.gcd(width, max(width // 8, 1))
                made.append(keras.layers.GroupNormalization(groups, name=f"{name}_{i}_norm"))
            made.append(keras.layers.ReLU(name=f"{name}_{i}_relu"))
        return [*made, keras.layers.Conv2D(
            each * units, 3, padding="same", kernel_initializer=small, bias_initializer=bias,
            dtype="float32", name=last,
        )]  # fmt: skip

    boxes = subnet("head_box", "head_boxes", 4, "zeros")
    seen = subnet("head_class", "head_classes", classes, rare)
    found, grids = [], []
    for level, x in maps.items():
        height, columns = x.shape[1:3]
        grids.append((height, columns))
        flat = [
            keras.layers.Reshape((height * columns * each, units), dtype="float32", name=name)(
                _through(layers, x)
            )
            for layers, units, name in ((boxes, 4, f"head_flat_boxes_{level}"),
                                        (seen, classes, f"head_flat_classes_{level}"))
        ]  # fmt: skip
        found.append(keras.layers.Concatenate(dtype="float32", name=f"head_{level}")(flat))
    if len(found) > 1:
        found = [keras.layers.Concatenate(axis=1, dtype="float32", name="head_levels")(found)]
    anchors = {"anchor_size": anchor_size, "scales": scales, "ratios": list(ratios)}
    layer = Anchors(features.size, grids, **anchors, dtype="float32", name="head_outputs")
    if known is not None and features.whole.pretrained:
        notice = teach({"head_box": _with_weights(boxes), "head_class": _with_weights(seen),
                        "head_boxes": boxes[-1:]}, known, anchors)  # fmt: skip
    layer.notice = notice
    return layer(found[0])


@trained_by("queries")
def dfine(features: Features, *, classes: int, queries: int | None = None) -> Any:
    """The decoder of a D-FINE preset: queries that become objects, layer by layer.

    Peng et al., "D-FINE: Redefine Regression Task in DETRs as Fine-grained Distribution
    Refinement", 2024 (arXiv:2410.13842). It has the preset's weights, but for the layers that tell
    classes apart: these are new, also where the classes are those of the preset.

    Args:
        features: `Features` of a backbone that is a D-FINE preset.
        classes: Number of classes.
        queries: How many objects are looked for; by default as many as the preset does, and at most
            one for each place of the maps.

    Returns:
        See `kerasft.model.vision.d_fine.DFineHead`.

    Raises:
        UserError: If the backbone is no D-FINE, or there are more queries than places.
    """
    from kerasft.model.vision.d_fine import DFineHead, settings_of, teach

    network = features.whole
    if type(network).__name__ != "DFineBackbone":
        found = "another network" if network is None else f"a {type(network).__name__}"
        raise UserError(
            "head=dfine is the decoder that a D-FINE preset brings along, as backbone.preset=... "
            f"(`kerasft models d_fine` lists them). The backbone is {found}: choose such a preset, "
            "or head=anchor_free or head=retinanet."
        )
    settings = settings_of(network)
    strides = settings["feat_strides"][: settings["num_feature_levels"]]
    assert features.size is not None, "Feature maps belong to images of one size."
    height, width = features.size
    places = sum(math.ceil(height / s) * math.ceil(width / s) for s in strides)
    most = min(settings["num_queries"], places)
    if not 1 <= (wanted := most if queries is None else queries) <= places:
        raise UserError(
            f"head.queries must be from 1 to {places}, the places of the maps of images of "
            f"{height}x{width} pixels. Received: {queries}."
        )
    if settings["learn_initial_query"] and wanted > settings["num_queries"]:
        raise UserError(
            f"head.queries must be at most {settings['num_queries']}: the preset has learned so "
            f"many. Received: {queries}."
        )
    # Half precision has too few digits for a box in parts of an image.
    layer = DFineHead(classes, wanted, settings, dtype="float32", name="head_outputs")
    outputs = layer(list(features.maps.values()))
    teach(layer, network)
    return outputs


def _with_weights(subnet: Sequence[Any]) -> list[Any]:
    """Return the convolutions of a subnet but for the last one, then its normalizations."""
    import keras

    convolutions = [one for one in subnet[:-1] if isinstance(one, keras.layers.Conv2D)]
    norms = [one for one in subnet if isinstance(one, keras.layers.GroupNormalization)]
    return [*convolutions, *norms]


def _through(layers: Sequence[Any], x: keras.KerasTensor) -> Any:
    for layer in layers:
        x = layer(x)
    return x


def _require_anchors(
    width: int, depth: int, anchor_size: float, scales: int, ratios: Sequence[float]
) -> None:
    """See that the settings of a head with anchors are in range."""
    if width < 1 or depth < 0:
        raise UserError(
            "head.width must be at least 1 and head.depth at least 0. Received: "
            f"width={width}, depth={depth}."
        )
    if not anchor_size > 0 or scales < 1 or not ratios or not all(one > 0 for one in ratios):
        raise UserError(
            "head.anchor_size must be above 0, head.scales at least 1, and head.ratios numbers "
            f"above 0. Received: anchor_size={anchor_size}, scales={scales}, "
            f"ratios={list(ratios)}."
        )
