"""Augmentation: Keras layers whose random numbers depend on (seed, epoch, example) alone."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kerasft.data import ending
from kerasft.data.astray import moves_labels, require_mixable, require_moving
from kerasft.errors import UserError

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

# The part of a box that must be left of it in the image for the object to be learned.
VISIBLE = 0.3
# The targets that stand in pixels.
MOVING = ("boxes", "segmentation_masks")
# What belongs to an object, and goes where its image goes.
OF_OBJECTS = ("boxes", "labels", "ignored")


@dataclass(frozen=True, eq=False)  # functions are told apart by what they are, for TensorFlow
class Augmenter(ending.Ending):
    """Changes the images of a batch, and with them their targets.

    Args:
        steps: Those steps by name that may end.
        change: A function of inputs, targets, epoch, indices, and the epoch from which on each step
            is left out, of those that end.
        epochs: The epochs that are planned, see `ending.ends`.
    """

    steps: Mapping[str, Any]
    change: Callable[..., tuple[Any, Any]]
    epochs: int | None = None

    def __call__(
        self, inputs: Mapping[str, tf.Tensor], targets: Mapping[str, tf.Tensor], epoch: tf.Tensor,
        indices: tf.Tensor,
    ) -> tuple[Any, Any]:
        return self.change(inputs, targets, epoch, indices, self.ends)


def augmenter(
    steps: Mapping[str, Any], *, seed: int, size: tuple[int, int],
    shares: Callable[[Mapping[str, Any]], dict[str, Any]] | None = None,
    moving: Collection[str] = (), epochs: int | None = None, channels: int = 3,
) -> Augmenter | None:
    """Make one function of the named steps.

    Args:
        steps: Keras layers by name, in order. `MixUp` and `CutMix` see the whole batch and change
            the targets too, and so do layers with a true `joins_images`, as `Mosaic` has it;
            every other layer sees one image at a time, before these.
        seed: The run's seed.
        size: Height and width of the images.
        shares: Turns a batch of targets into such as can be mixed, see `contracts.Mixable`;
            `None` where they cannot.
        moving: The targets that must move with the pixels, of `MOVING`.
        epochs: The epochs that are planned, of all stages together. Steps with a `stop` are left
            out from there on, see `ending.until`; without, they never stop.
        channels: Those of the images.

    Returns:
        An `Augmenter`: `(inputs, targets, epoch, indices) -> (inputs, targets)` for `tf.data`, with
        `images` as `uint8[batch, height, width, channels]`, or `None` if there are no steps. Of the
        targets it moves `boxes` (with the `labels` beside them) and `segmentation_masks`. Boxes are
        cut off at the edge; one of which less than `VISIBLE` is left gets the label -1, as padding
        has it; those that are `ignored` stay as long as anything of them is seen.

    Raises:
        UserError: If a step cannot be applied to such images, with its name.
    """
    if not steps:
        return None
    import keras
    import tensorflow as tf

    require_moving(steps, moving)
    require_mixable(steps, mixable=shares is not None)
    mixing = (keras.layers.MixUp, keras.layers.CutMix)
    joining = {n: s for n, s in steps.items() if getattr(s, "joins_images", False)}
    single = {n: s for n, s in steps.items() if n not in joining and not isinstance(s, mixing)}
    whole = {n: s for n, s in steps.items() if isinstance(s, mixing)}
    if joining and not moving:
        raise UserError(
            f"augment.{next(iter(joining))} puts images together with their boxes and masks, and "
            "this task has neither. Take it out (~augment.NAME), or choose augment=cutmix."
        )
    for name, step in joining.items():
        if "segmentation_masks" in moving and not getattr(step, "joins_masks", True):
            raise UserError(
                f"augment.{name} averages the pixels of images, and masks cannot be averaged. "
                f"Take it out (~augment.{name}), or use kerasft.data.mosaic.Mosaic."
            )
    _try_out({**single, **joining}, size, channels)

    def one(values: tuple[Any, Any, Any, Any]) -> Any:
        image, moved, epoch, index = values
        given = {"images": tf.cast(image, tf.float32)[None], **_for_keras(moved)}
        for place, step in enumerate(single.values()):
            with stateless(step, _key(seed, epoch, index, place), (seed, place)):
                # As a batch of one, which layers of every kind take.
                if len(given) > 1 and moves_labels(step):
                    given = step(given, training=True)
                else:
                    given = {**given, "images": step(given["images"], training=True)}
        image = tf.ensure_shape(given["images"][0], [*size, channels])
        return _to_pixels(image), _from_keras(given, moved, size)

    # A step ends by arithmetic, as the order goes: the epoch of a batch is known here, and how
    # many are planned. No callback tells it, no state is kept, and a run that is resumed goes on
    # without it where it would have.
    def apply(
        inputs: Mapping[str, tf.Tensor], targets: Mapping[str, tf.Tensor], epoch: tf.Tensor,
        indices: tf.Tensor, ends: Mapping[str, int],
    ) -> tuple[Any, Any]:
        def wanted(name: str) -> tf.Tensor | None:
            return tf.cast(epoch, tf.int64) < ends[name] if name in ends else None

        images = inputs["images"]
        if single:
            moved = {name: targets[name] for name in (*_moving(targets), *_beside_boxes(targets))}
            images, moved = tf.map_fn(
                one, (images, moved, tf.fill(tf.shape(indices), epoch), indices),
                fn_output_signature=(
                    tf.TensorSpec([*size, channels], tf.uint8),
                    {n: tf.TensorSpec(v.shape[1:], v.dtype) for n, v in moved.items()},
                ),
            )
            targets = {**targets, **moved}
        if joining:
            batch = _joinable(next(iter(joining)), images, targets)
            for place, (name, step) in enumerate(joining.items()):
                key = _key(seed, epoch, indices[0], 1000 + place)
                batch = _joined(step, batch, key, (seed, place), wanted(name))
            images = _to_pixels(batch.pop("images"))
            targets = {**targets, **batch.pop("bounding_boxes", {}), **batch}
        if whole and targets:
            assert shares is not None
            targets = shares(targets)
        for place, (name, step) in enumerate(whole.items()):
            batch = {"images": tf.cast(images, tf.float32)}
            if targets:
                batch["labels"] = targets["labels"]
            key = _key(seed, epoch, indices[0], 1000 + place)
            batch = _joined(step, batch, key, (seed, place), wanted(name))
            images = _to_pixels(batch["images"])
            if targets:
                shape = targets["labels"].shape
                targets = {**targets, "labels": tf.ensure_shape(batch["labels"], shape)}
        return {**inputs, "images": tf.ensure_shape(images, [None, *size, channels])}, targets

    return Augmenter({**joining, **whole}, apply, epochs)


def _joinable(name: str, images: tf.Tensor, targets: Mapping[str, Any]) -> dict[str, Any]:
    """Return a batch as steps take it that join images, with all that moves with these."""
    import tensorflow as tf

    objects = [key for key in OF_OBJECTS if "boxes" in targets and key in targets]
    masks = [key for key in targets if key == "segmentation_masks"]
    for key in targets.keys() - {*objects, *masks}:
        # Only what belongs to objects, or to something else in images, has lengths of its own.
        if (targets[key].shape.rank or 0) > 1 and targets[key].shape[1] is None:
            raise UserError(
                f"augment.{name} puts images together with their {', '.join(OF_OBJECTS)} and "
                f"masks, and would leave {key!r} of the task behind. Take it out: ~augment.{name}."
            )
    batch = {"images": tf.cast(images, tf.float32), **{key: targets[key] for key in masks}}
    return batch | ({"bounding_boxes": {k: targets[k] for k in objects}} if objects else {})


def _joined(
    step: keras.Layer, batch: dict[str, Any], key: Any, trace: tuple[int, int], wanted: Any
) -> dict[str, Any]:
    """Return what a step makes of a batch, where it is wanted: `None` where it always is."""
    import tensorflow as tf

    def made() -> dict[str, Any]:
        with stateless(step, key, trace):
            return step(batch, training=True)

    return dict(made() if wanted is None else tf.cond(wanted, made, lambda: batch))


def _moving(targets: Mapping[str, Any]) -> list[str]:
    """Return the names of the targets that stand in pixels, and of the labels beside boxes."""
    names = [name for name in MOVING if name in targets]
    return [*names, *(["labels"] if "boxes" in targets else [])]


def _beside_boxes(targets: Mapping[str, Any]) -> list[str]:
    """Return what says how boxes are taken, which no step changes."""
    return ["ignored"] if "boxes" in targets and "ignored" in targets else []


def _for_keras(moved: Mapping[str, Any]) -> dict[str, Any]:
    """Return the targets of one image under the keys of Keras, as a batch of one."""
    import tensorflow as tf

    made: dict[str, Any] = {}
    if "boxes" in moved:
        made["bounding_boxes"] = {
            "boxes": tf.cast(moved["boxes"], tf.float32)[None],
            "labels": tf.cast(moved["labels"], tf.float32)[None],
        }
    if "segmentation_masks" in moved:
        made["segmentation_masks"] = tf.cast(moved["segmentation_masks"], tf.float32)[None]
    return made


def _from_keras(
    given: Mapping[str, Any], before: Mapping[str, Any], size: tuple[int, int]
) -> dict[str, Any]:
    """Return the targets of one image as they came, in their own types."""
    import tensorflow as tf

    made = {}
    if "boxes" in before:
        found = given["bounding_boxes"]
        # What pads a row must stay what it is: layers move it like any other box.
        real = before["labels"] >= 0
        boxes = tf.cast(found["boxes"][0], before["boxes"].dtype)
        boxes, seen = _cut(boxes, size, before.get("ignored"))
        left = tf.where(seen[:, None], boxes, tf.zeros_like(boxes))
        made["boxes"] = tf.where(real[:, None], left, before["boxes"])
        labels = tf.cast(found["labels"][0], before["labels"].dtype)
        left = tf.where(seen, labels, -tf.ones_like(labels))
        made["labels"] = tf.where(real, left, before["labels"])
    if "segmentation_masks" in before:
        masks = before["segmentation_masks"]
        made["segmentation_masks"] = tf.cast(
            tf.round(given["segmentation_masks"][0]), masks.dtype
        )
    return {n: tf.ensure_shape(made.get(n, before[n]), before[n].shape) for n in before}


def _cut(
    boxes: tf.Tensor, size: tuple[int, int], ignored: tf.Tensor | None = None
) -> tuple[Any, Any]:
    """Return boxes without what lies outside of an image, and which are left."""
    import tensorflow as tf

    rows, columns = size
    cut = tf.clip_by_value(boxes, 0.0, tf.constant([columns, rows] * 2, boxes.dtype))
    sides, left = boxes[:, 2:] - boxes[:, :2], cut[:, 2:] - cut[:, :2]
    enough = tf.reduce_prod(left, -1) >= VISIBLE * tf.reduce_prod(sides, -1)
    if ignored is not None:
        # What is left of a region would otherwise teach that nothing is there, see `Mosaic`.
        enough |= tf.cast(ignored, tf.bool)
    return cut, enough & tf.reduce_all(left >= 1.0, -1)


def _to_pixels(images: tf.Tensor) -> Any:
    import tensorflow as tf

    return tf.saturate_cast(tf.round(images), tf.uint8)


def _key(seed: int, epoch: tf.Tensor, index: tf.Tensor, place: int) -> Any:
    """Return the stateless seed of one step on one example in one epoch."""
    import tensorflow as tf

    fold = tf.random.experimental.stateless_fold_in
    key = tf.constant([seed % 2**31, 0x6B65], tf.int32)
    for part in (epoch, index, place):
        key = fold(key, tf.cast(part, tf.int32))
    return key


def _try_out(steps: Mapping[str, Any], size: tuple[int, int], channels: int) -> None:
    """Build each layer outside of any graph, and find out about unfit ones before training."""
    import tensorflow as tf

    for name, step in steps.items():
        try:
            result = step(tf.zeros([1, *size, channels]), training=True)
        except Exception as error:
            raise UserError(
                f"augment.{name} cannot be applied to images of {size[0]}x{size[1]} pixels"
                f"{'' if channels == 3 else f' with channels={channels}'}: "
                f"{str(error).strip().splitlines()[0]}"
            ) from error
        shape = tuple(getattr(result, "shape", ()))
        if shape[1:] != (*size, channels):
            raise UserError(
                f"augment.{name} must keep the size of the images, {size[0]}x{size[1]}x{channels}. "
                f"Received images of {'x'.join(map(str, shape[1:]))} from it."
            )


@contextmanager
def stateless(layer: keras.Layer, key: object, trace: tuple[int, int]) -> Iterator[None]:
    """Let a layer and those inside it draw their seeds from `key` while a graph is traced.

    Keras' own seed generators count calls, so that parallel maps would race for them; here the
    n-th draw of a trace is `fold_in(key, n)`. AugMix also picks its operations, once a trace, with
    Python's own random numbers: these are a function of `trace`.
    """
    generator = _folding_seed(key)
    layers = [layer, *layer._flatten_layers(include_self=False)]
    # Layers such as Dropout and GaussianNoise hold theirs under this name.
    held = {one: one.seed_generator for one in layers if hasattr(one, "seed_generator")}
    state = random.getstate()
    random.seed(repr(trace))
    for one in layers:
        object.__setattr__(one, "_get_seed_generator", lambda backend=None: generator)
    for one in held:
        object.__setattr__(one, "seed_generator", generator)
    try:
        yield
    finally:
        for one in layers:
            object.__delattr__(one, "_get_seed_generator")
        for one, own in held.items():
            object.__setattr__(one, "seed_generator", own)
        random.setstate(state)


def _folding_seed(key: object) -> Any:
    import keras
    import tensorflow as tf

    class FoldingSeed(keras.random.SeedGenerator):
        # No variable and no tracking: it lives for one trace.
        def __init__(self) -> None:
            object.__setattr__(self, "draws", 0)

        def next(self, ordered: bool = True) -> Any:
            object.__setattr__(self, "draws", self.draws + 1)
            return tf.random.experimental.stateless_fold_in(key, self.draws)

    return FoldingSeed()
