"""The features of a data set of TensorFlow Datasets, and which of them a task learns from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from kerasft.data.annotations.boxes import IGNORED_IF
from kerasft.data.images.annotated import DRAWN
from kerasft.data.images.layout import words_of
from kerasft.errors import UserError, nearest
from kerasft.system.console import listing

# Drawn like a mask, but not with the class of each pixel.
_MEASURED = frozenset(("depth", "depths", "disparity", "saliency"))


@dataclass(frozen=True)
class Leaf:
    """A feature, wherever it is among the others.

    Args:
        keys: The names that lead to it, from the outside in.
        feature: The feature itself.
        repeated: How many sequences it is in: 0 where each example has one value.
    """

    keys: tuple[str, ...]
    feature: Any
    repeated: int = 0

    @property
    def name(self) -> str:
        """What users call it, such as `"objects/bbox"`."""
        return "/".join(self.keys)

    def value(self, example: Any) -> Any:
        """Return what an example holds of it."""
        for key in self.keys:
            example = example[key]
        return example


def leaves(module: Any, features: Any) -> dict[str, Leaf]:
    """Return the features that hold values, by their names.

    Args:
        module: `tensorflow_datasets`.
        features: The `FeaturesDict` of a data set.

    Example:
        >>> import tensorflow_datasets as module
        >>> objects = module.features.Sequence({"bbox": module.features.BBoxFeature()})
        >>> list(leaves(module, module.features.FeaturesDict({"objects": objects})))
        ['objects/bbox']
    """
    found: dict[str, Leaf] = {}

    def walk(feature: Any, keys: tuple[str, ...], repeated: int) -> None:
        # Their subclasses (a video, a translation) are one value.
        if type(feature) is module.features.FeaturesDict:
            for key, inner in feature.items():
                walk(inner, (*keys, key), repeated)
        elif type(feature) is module.features.Sequence:
            walk(feature.feature, keys, repeated + 1)
        else:
            leaf = Leaf(keys, feature, repeated)
            found.setdefault(leaf.name, leaf)

    walk(features, (), 0)
    # Their order in the file of a prepared data set is another one each time.
    return dict(sorted(found.items()))


def find(found: Mapping[str, Leaf], wanted: str, key: str, where: str) -> Leaf:
    """Return the feature that the user names.

    Args:
        found: See `leaves`.
        wanted: Its name.
        key: The config key that names it, for messages.
        where: The data set, for messages.

    Raises:
        UserError: If there is none of that name.
    """
    if wanted not in found:
        raise UserError(
            f"{key}: {where} has no feature {wanted!r}.{nearest(wanted, found)} Its features: "
            f"{listing(found, 30)}."
        )
    return found[wanted]


def image_of(
    module: Any, found: Mapping[str, Leaf], chosen: str | None, where: str
) -> Leaf:
    """Return the feature with the image.

    Args:
        module: `tensorflow_datasets`.
        found: See `leaves`.
        chosen: What `data.input` says, or `None`.
        where: The data set, for messages.

    Raises:
        UserError: If it is none, or if none or several fit.
    """
    fitting = {leaf.name: leaf for leaf in found.values() if is_image(module, leaf)}
    if chosen is not None:
        leaf = find(found, chosen, "data.input", where)
        if leaf.repeated or not isinstance(leaf.feature, module.features.Image):
            raise UserError(
                f"data.input must be an image of which each example has one. Received: data.input="
                f"{chosen}, {_described(leaf)}. Those that fit: {listing(fitting, 20) or 'none'}."
            )
        return leaf
    if len(fitting) != 1:
        raise UserError(
            "data.input must name the feature with the image; "
            + (f"several fit: {listing(fitting, 20)}." if fitting else "none fits.")
            + f" The features: {listing(found, 30)}."
        )
    return next(iter(fitting.values()))


def is_image(module: Any, leaf: Leaf) -> bool:
    """Whether a feature is an image that is seen, not one that says something of another."""
    feature = leaf.feature
    return (
        isinstance(feature, module.features.Image)
        and not leaf.repeated
        and not isinstance(feature, module.features.LabeledImage)
        and not feature.use_colormap
        and not _is_float(feature)
        and not DRAWN.intersection(words_of(leaf.keys[-1]))
    )


def masks_in(module: Any, found: Mapping[str, Leaf]) -> dict[str, Leaf]:
    """Return the features that look like masks: those that surely are, where there are any."""
    images = [leaf for leaf in found.values()
              if isinstance(leaf.feature, module.features.Image) and not leaf.repeated]  # fmt: skip
    sure = [leaf for leaf in images if isinstance(leaf.feature, module.features.LabeledImage)]
    named = [leaf for leaf in images
             if (DRAWN - _MEASURED).intersection(words_of(leaf.keys[-1]))]  # fmt: skip
    coloured = [leaf for leaf in images if leaf.feature.use_colormap]
    return {leaf.name: leaf for leaf in sure or named or coloured}


def mask_of(module: Any, found: Mapping[str, Leaf], chosen: str | None, where: str) -> Leaf:
    """Return the feature with the class of each pixel.

    Args:
        module: `tensorflow_datasets`.
        found: See `leaves`.
        chosen: What `data.masks` says, or `None`.
        where: The data set, for messages.

    Raises:
        UserError: If there is none, if several fit, or if it holds no classes.
    """
    fitting = masks_in(module, found)
    if chosen is not None:
        leaf = find(found, chosen, "data.masks", where)
    elif len(fitting) == 1:
        leaf = next(iter(fitting.values()))
    elif fitting:
        raise UserError(f"data.masks must name the feature with the masks; several fit: "
                        f"{listing(fitting, 20)}.")  # fmt: skip
    else:
        raise UserError(
            f"data.masks: {where} has no feature that looks like masks, which task=segmentation "
            f"learns. Its features: {listing(found, 30)}. Name the feature if one of them is the "
            "class of each pixel, or choose another task."
        )
    if leaf.repeated or not isinstance(leaf.feature, module.features.Image):
        raise UserError(
            "data.masks must be an image with the class of each pixel, of which each example has "
            f"one. Received: data.masks={leaf.name}, {_described(leaf)}. Those that fit: "
            f"{listing(fitting, 20) or 'none'}."
        )
    if _is_float(leaf.feature):
        raise UserError(
            f"data.masks: {leaf.name} holds floats; the class of a pixel is a whole number. Name "
            "another feature, or prepare the data set with masks of uint8 or uint16."
        )
    return leaf


def boxes_in(module: Any, found: Mapping[str, Leaf]) -> dict[str, Leaf]:
    """Return the features that hold boxes: those of several objects, where there are any."""
    boxes = [leaf for leaf in found.values()
             if isinstance(leaf.feature, module.features.BBoxFeature)]  # fmt: skip
    several = [leaf for leaf in boxes if leaf.repeated == 1]
    return {leaf.name: leaf for leaf in several or boxes if leaf.repeated <= 1}


def boxes_of(module: Any, found: Mapping[str, Leaf], chosen: str | None, where: str) -> Leaf:
    """Return the feature with the boxes.

    Args:
        module: `tensorflow_datasets`.
        found: See `leaves`.
        chosen: What `data.boxes` says, or `None`.
        where: The data set, for messages.

    Raises:
        UserError: If there is none, or if several fit.
    """
    fitting = boxes_in(module, found)
    if chosen is not None:
        leaf = find(found, chosen, "data.boxes", where)
        if not isinstance(leaf.feature, module.features.BBoxFeature) or leaf.repeated > 1:
            raise UserError(
                "data.boxes must be a BBoxFeature, one an example or a sequence of them. Received: "
                f"data.boxes={chosen}, {_described(leaf)}. Those that fit: "
                f"{listing(fitting, 20) or 'none'}."
            )
        return leaf
    if len(fitting) > 1:
        raise UserError(f"data.boxes must name the feature with the boxes; several fit: "
                        f"{listing(fitting, 20)}.")  # fmt: skip
    if not fitting:
        raise UserError(
            f"data.boxes: {where} has no boxes (a BBoxFeature), which task=detection learns. Its "
            f"features: {listing(found, 30)}. Choose another data set, or another task."
        )
    return next(iter(fitting.values()))


def label_of(
    module: Any, found: Mapping[str, Leaf], boxes: Leaf, chosen: str, where: str, *, usual: str
) -> Leaf | None:
    """Return the feature with the class of each box; `None` where there is none.

    Args:
        module: `tensorflow_datasets`.
        found: See `leaves`.
        boxes: The feature with the boxes.
        chosen: What `data.label` says: a name beside the boxes, or a whole one.
        where: The data set, for messages.
        usual: The default of `data.label`: without it, the only class beside the boxes is taken.

    Raises:
        UserError: If it is no class, or if several fit.
    """
    near = beside(found, boxes)
    leaf = near.get(chosen) or found.get(chosen)
    classes = {one.name: one for one in near.values()
               if isinstance(one.feature, module.features.ClassLabel)}  # fmt: skip
    if leaf is None and chosen == usual:
        if len(classes) > 1:
            raise UserError(f"data.label must name the class of a box; several fit: "
                            f"{listing(classes, 20)}.")  # fmt: skip
        return next(iter(classes.values()), None)
    if leaf is None:
        leaf = find(found, chosen, "data.label", where)
    of_image = not leaf.repeated
    if not (of_image or leaf in near.values()) or not _is_class(module, leaf.feature):
        raise UserError(
            f"data.label must be the class of each box of {boxes.name}, or of the whole image. "
            f"Received: data.label={chosen}, {_described(leaf)}. Those that fit: "
            f"{listing(classes, 20) or 'none'}."
        )
    return leaf


def beside(found: Mapping[str, Leaf], leaf: Leaf) -> dict[str, Leaf]:
    """Return the features of the same objects, by the last of their names."""
    return {
        one.keys[-1]: one for one in found.values()
        if one.keys[:-1] == leaf.keys[:-1] and one.repeated == leaf.repeated and one is not leaf
    }  # fmt: skip


def regions(found: Mapping[str, Leaf], boxes: Leaf) -> list[Leaf]:
    """Return the features that say of a box whether it is ignored."""
    near = beside(found, boxes)
    return [near[name] for name in IGNORED_IF
            if name in near and _kind(near[name].feature) in "biu"]  # fmt: skip


def names_of(feature: Any) -> list[str] | None:
    """Return the names of classes, where a feature has other ones than their numbers."""
    # A feature of classes whose number nobody says has nothing to make names of.
    if getattr(feature, "num_classes", None) is None:
        return None
    names = feature.names
    if not names or all(name.isdigit() and int(name) == n for n, name in enumerate(names)):
        return None
    return list(names)


def learned_by(module: Any, found: Mapping[str, Leaf]) -> str:
    """Return a sentence on the tasks that learn what a data set draws on its images, or none."""
    said: list[str] = []
    for what, task, those in (("boxes", "detection", boxes_in(module, found)),
                              ("masks", "segmentation", masks_in(module, found))):  # fmt: skip
        if those:
            said.append(f" It has {what} ({listing(those)}), which task={task} learns.")
    return "".join(said)


def spec_of(columns: Iterable[Leaf], value: Any) -> dict[str, Any]:
    """Return a nested dict with a value for each of some features."""
    spec: dict[str, Any] = {}
    for leaf in columns:
        inner = spec
        for key in leaf.keys[:-1]:
            inner = inner.setdefault(key, {})
        inner[leaf.keys[-1]] = value
    return spec


def _described(leaf: Leaf) -> str:
    within = ("", " in a sequence", " in sequences")[min(leaf.repeated, 2)]
    return f"a {type(leaf.feature).__name__}{within}"


def _kind(feature: Any) -> str:
    """Return how NumPy calls the values of a feature: `"f"` for floats, `"i"` for whole numbers."""
    return np.dtype(feature.np_dtype).kind


def _is_float(feature: Any) -> bool:
    return _kind(feature) == "f"


def _is_class(module: Any, feature: Any) -> bool:
    if isinstance(feature, module.features.ClassLabel | module.features.Text):
        return True
    return tuple(feature.shape) == () and _kind(feature) in "iu"
