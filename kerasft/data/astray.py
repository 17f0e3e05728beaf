"""What steps of augmentation are refused for: pixels that leave boxes, masks or labels behind."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from kerasft.errors import UserError
from kerasft.system.console import listing

# What layers of Keras 3.15 do with boxes and masks, by their names.
ASTRAY = {
    "RandomCrop": "shifts boxes down by what it shifts them to the right",
    "RandomShear": "shears boxes of images that are not square by another amount",
    "RandAugment": "moves boxes in another order than pixels",
    "AugMix": "mixes several images, and leaves boxes where they were",
    "RandomElasticTransform": "does not move boxes",
    "MixUp": "mixes the pixels of two images",
    "CutMix": "mixes the pixels of two images",
}
# What layers may fill what comes in from outside with: the image once more.
FILLS_WITH_IMAGE = ("reflect", "wrap", "nearest")
# Layers of Keras that move pixels, rightly or not.
MOVES = (
    *ASTRAY, "CenterCrop", "Cropping2D", "RandomFlip", "RandomPerspective", "RandomRotation",
    "RandomTranslation", "RandomZoom", "Resizing", "ZeroPadding2D",
)  # fmt: skip
# Steps of ours that are layers of Keras, and do with boxes what these do.
OURS = ("kerasft.data.mixing",)


def astray(name: str, kind: str, *, boxes: bool) -> str:
    """Say what a layer of Keras does to boxes or masks, see `ASTRAY`."""
    instead = f"augment={'boxes' if boxes else 'masks'}, whose steps move all by one matrix"
    if boxes and kind in ("MixUp", "CutMix"):
        instead = "augment=boxes_mosaic, which puts images together with their boxes"
    return (
        f"augment.{name}: keras.layers.{kind} {ASTRAY[kind]}, so that images and what is "
        "drawn on them no longer belong together. Take it out (~augment."
        f"{name}), or choose {instead}."
    )


def fills_astray(name: str, kind: str, filling: str) -> str:
    """Say that a layer shows objects a second time."""
    return (
        f"augment.{name}: {kind} fills what comes in from outside with fill_mode={filling}, which "
        f"shows objects again where no box is. Set augment.{name}.fill_mode=constant, or choose "
        "augment=boxes."
    )


def moves_labels(step: Any) -> bool:
    """Whether a layer takes boxes and masks beside images, as those of Keras for images do."""
    import keras

    own = getattr(step, "moves_labels", False)
    return own or isinstance(step, keras.layers.RandomFlip.__mro__[1])


def not_mixable(name: str) -> str:
    """Say that the labels of a task cannot be mixed."""
    return (
        f"augment.{name} mixes the labels of two images, and those of this task cannot be mixed. "
        "Take it out: ~augment.NAME, or augment=none."
    )


def require_mixable(steps: Mapping[str, Any], *, mixable: bool) -> None:
    """Refuse the layers that mix labels where they cannot be mixed.

    Args:
        steps: See `augmenter`.
        mixable: Whether the labels can be.

    Raises:
        UserError: If a step mixes them all the same, with its name.
    """
    if mixable or not steps:
        return
    import keras

    for name, step in steps.items():
        if isinstance(step, (keras.layers.MixUp, keras.layers.CutMix)):
            raise UserError(not_mixable(name))


def require_moving(steps: Mapping[str, Any], moving: Collection[str]) -> None:
    """Refuse the layers of Keras that leave boxes and masks behind, or move them elsewhere.

    Pixels that are mirrored at the edge take their mask with them, and leave boxes behind.

    Args:
        steps: See `augmenter`.
        moving: The targets that must move with the pixels, of `MOVING`.

    Raises:
        UserError: If a step cannot be had with such targets, with its name.
    """
    if not moving:
        return
    boxes = "boxes" in moving
    for name, step in steps.items():
        _require_handed_through(name, step)
    for name, step in _with_inner(steps):
        kind = type(step).__name__
        if type(step).__module__.startswith(("keras.", *OURS)) and kind in ASTRAY:
            raise UserError(astray(name, kind, boxes=boxes))
    for name, step in _with_inner(steps):
        filling = getattr(step, "fill_mode", "constant")
        if boxes and filling in FILLS_WITH_IMAGE:
            raise UserError(fills_astray(name, type(step).__name__, filling))
        if hasattr(step, "bounding_box_format"):
            step.bounding_box_format = "xyxy"


def _with_inner(steps: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield steps and the layers that they hold, each with the name of the step."""
    for name, step in steps.items():
        yield name, step
        if type(step).__name__ not in ASTRAY:  # what these hold is their own
            yield from ((name, inner) for inner in _held(step))


def _held(step: Any) -> list[Any]:
    flat = getattr(step, "_flatten_layers", None)
    return [] if flat is None else list(flat(include_self=False))


def _require_handed_through(name: str, step: Any) -> None:
    """Refuse a step that moves pixels by a layer inside, and knows nothing of boxes and masks."""
    if getattr(step, "joins_images", False) or moves_labels(step):
        return
    moved = [
        type(inner).__name__ for inner in _held(step)
        if getattr(inner, "moves_labels", False)
        or any(one.__name__ in MOVES for one in type(inner).__mro__)
    ]  # fmt: skip
    if moved:
        raise UserError(
            f"augment.{name}: {type(step).__name__} holds {listing(dict.fromkeys(moved))}, and "
            "hands only pixels to what it holds, so that boxes and masks would stay where they "
            f"were. Name the steps one by one instead, such as augment.{moved[0].lower()}, in "
            "their order."
        )
