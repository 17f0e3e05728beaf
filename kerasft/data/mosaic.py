"""Augmentation that puts several images of a batch together, with all that is drawn on them."""

from __future__ import annotations

import keras
import tensorflow as tf

from kerasft.data import ending
from kerasft.data.augment import VISIBLE

# Images are not made smaller than this: a finer grid would need smoothing before.
SMALLEST = 0.5


class _Joining(keras.layers.Layer):
    """A step that `augmenter` hands the whole batch, with its boxes and masks.

    Until which epoch is the augmenter's part: an image's random numbers are a function of (seed,
    epoch, example), and a layer that counted its calls would go on otherwise after a stop.
    """

    joins_images = True

    def __init__(self, share, stop, seed, **kwargs):
        super().__init__(**kwargs)
        if not 0 < share <= 1:
            raise ValueError(f"share must be above 0 and at most 1. Received: {share}")
        ending.check(stop)
        self.share, self.stop, self.seed = share, stop, seed
        self.seed_generator = keras.random.SeedGenerator(seed)
        self.autocast = False

    def call(self, inputs, training=True):
        if not training:
            return inputs
        if not isinstance(inputs, dict):
            return self.join({"images": inputs})["images"]
        return self.join(inputs)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        names = ("share", "stop", "seed")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}

    def _uniform(self, *shape):
        return keras.random.uniform(shape, seed=self.seed_generator)

    def _others(self, count, number):
        """Return for each image itself and others of the batch, `[count, number]`.

        They are different ones as far as there are so many.
        """
        order = tf.argsort(tf.linalg.set_diag(self._uniform(count, count), -tf.ones([count])))
        return tf.gather(order, tf.range(number) % count, axis=1)


@keras.saving.register_keras_serializable("kerasft")
class Mosaic(_Joining):
    """Puts four images of the batch into one, around a random point.

    Bochkovskiy et al., "YOLOv4: Optimal Speed and Accuracy of Object Detection", 2020. Each image
    keeps its proportions: it is made smaller, by half at most, and what its part of the mosaic has
    no room for is cut off, on random sides. Boxes are cut off with it, and dropped where less than
    `kerasft.data.augment.VISIBLE` of them is left; of ignored regions all that is left stays.

    Args:
        share: The part of the images that become mosaics, each with three others.
        stop: When it ends, so that the last epochs show images as they are (Ge et al., "YOLOX:
            Exceeding YOLO Series in 2021"): the share of all epochs after which it is left out,
            above 0 and at most 1 (0.9 leaves the last tenth without, rounded so that at least the
            last epoch is; 1 never stops), or a negative whole number (-5 leaves the last five
            epochs without). The epochs of all stages count, as planned.
        centre: From where to where the common point lies, as part of width and height.

    Takes and gives images `[batch, height, width, 3]`, or a dict of them with Keras' names:
    `images`, `bounding_boxes` (`boxes` as left, top, right and bottom in pixels, `labels`, of which
    -1 pads, and `ignored`) and `segmentation_masks`. The number of boxes an image is padded to
    changes.

    Example:
        >>> Mosaic(share=1.0)(tf.zeros([4, 8, 8, 3])).shape
        TensorShape([4, 8, 8, 3])
    """

    def __init__(self, share=0.5, stop=0.9, centre=(0.3, 0.7), seed=None, **kwargs):
        super().__init__(share, stop, seed, **kwargs)
        low, high = centre
        if not 0 < low <= high < 1:
            raise ValueError("centre must be two parts of the image between 0 and 1, the smaller "
                             f"first. Received: {list(centre)}")  # fmt: skip
        self.centre = (float(low), float(high))

    def join(self, batch):
        images = tf.cast(batch["images"], tf.float32)
        count, size = tf.shape(images)[0], tf.shape(images)[1:3]  # rows and columns
        chosen = self._uniform(count) < self.share
        whose = self._others(count, 4)
        low, high = self.centre
        part = low + (high - low) * self._uniform(count, 2)
        middle = tf.cast(tf.round(part * tf.cast(size, tf.float32)), tf.int32)
        middle = tf.clip_by_value(middle, 1, size - 1)
        # Upper left, upper right, lower left, lower right: [count, 4, rows and columns].
        second = tf.constant([[0, 0], [0, 1], [1, 0], [1, 1]])
        start = second * middle[:, None]
        end = tf.where(second == 1, size, middle[:, None])
        sides, whole = tf.cast(end - start, tf.float32), tf.cast(size, tf.float32)
        factor = tf.reduce_max(sides / whole, -1, keepdims=True)
        factor = tf.maximum(factor, SMALLEST)
        offset = self._uniform(count, 4, 2) * (whole - sides / factor)
        # A pixel lies half a pixel into its place; here places are counted in parts of the image.
        ends = [0.5 / factor, (sides - 0.5) / factor]
        seen = tf.concat([end + offset - 0.5 for end in ends], -1) / tf.tile(whole - 1, [2])

        def assembled(pixels, method):
            def one(values):
                chosen, whose, seen, middle, own = values
                rows = [middle[0], size[0] - middle[0]]
                columns = [middle[1], size[1] - middle[1]]

                def made():
                    parts = [
                        tf.image.crop_and_resize(
                            pixels, seen[at : at + 1], whose[at : at + 1],
                            [rows[at // 2], columns[at % 2]], method=method,
                        )[0]
                        for at in range(4)
                    ]  # fmt: skip
                    halves = [tf.concat(parts[:2], 1), tf.concat(parts[2:], 1)]
                    return tf.ensure_shape(tf.concat(halves, 0), pixels.shape[1:])

                return tf.cond(chosen, made, lambda: own)

            return tf.map_fn(
                one, (chosen, whose, seen, middle, pixels),
                fn_output_signature=tf.TensorSpec(pixels.shape[1:], tf.float32),
            )

        made = {**batch, "images": assembled(images, "bilinear")}
        if "segmentation_masks" in batch:
            masks = batch["segmentation_masks"]
            moved = assembled(tf.cast(masks, tf.float32), "nearest")
            made["segmentation_masks"] = tf.cast(tf.round(moved), masks.dtype)
        if "bounding_boxes" in batch:
            found = {name: tf.gather(v, whose) for name, v in batch["bounding_boxes"].items()}
            made["bounding_boxes"] = _placed(
                found, chosen, factor, *(v[..., ::-1] for v in (offset, start, end))
            )
        return made

    def get_config(self):
        return {**super().get_config(), "centre": list(self.centre)}


@keras.saving.register_keras_serializable("kerasft")
class BoxMixUp(_Joining):
    """Averages the pixels of two images of the batch, and keeps the boxes of both.

    Zhang et al., "Bag of Freebies for Training Object Detection Neural Networks", 2019.

    Args:
        share: The part of the images that are averaged with another one.
        alpha: The weights are of Beta(alpha, alpha): the larger, the closer to a half. Below 1 most
            would be near 0 or 1, where the objects of one image can hardly be seen.
        stop: See `Mosaic`.

    Takes and gives what `Mosaic` does, but for masks, which cannot be averaged.

    Example:
        >>> BoxMixUp()(tf.zeros([4, 8, 8, 3])).shape
        TensorShape([4, 8, 8, 3])
    """

    joins_masks = False

    def __init__(self, share=0.5, alpha=8.0, stop=0.9, seed=None, **kwargs):
        super().__init__(share, stop, seed, **kwargs)
        if not alpha > 0:
            raise ValueError(f"alpha must be above 0. Received: {alpha}")
        self.alpha = alpha

    def join(self, batch):
        if "segmentation_masks" in batch:
            raise ValueError("BoxMixUp averages pixels, and masks cannot be averaged.")
        images = tf.cast(batch["images"], tf.float32)
        count = tf.shape(images)[0]
        whose = self._others(count, 2)
        # An image alone in its batch has no other one.
        chosen = (self._uniform(count) < self.share) & (whose[:, 0] != whose[:, 1])
        weight = keras.random.beta((count,), self.alpha, self.alpha, seed=self.seed_generator)
        weight = tf.where(chosen, weight, 1.0)[:, None, None, None]
        other = tf.gather(images, whose[:, 1])
        made = {**batch, "images": weight * images + (1.0 - weight) * other}
        if "bounding_boxes" in batch:
            found = {name: tf.gather(value, whose) for name, value in
                     batch["bounding_boxes"].items()}  # fmt: skip
            found["labels"] = _of_chosen(found["labels"], chosen)
            made["bounding_boxes"] = _packed(found)
        return made

    def get_config(self):
        return {**super().get_config(), "alpha": self.alpha}


def _placed(found, chosen, factor, offset, start, end):
    """Return the boxes of mosaics.

    Args:
        found: What belongs to the objects of four images each, `[count, 4, boxes, ...]`.
        chosen: Which mosaics there are, `[count]`; otherwise the first image stays.
        factor: By which an image is made smaller, `[count, 4, 1]`.
        offset: Where what is seen of it begins, `[count, 4, columns and rows]`.
        start: Where that begins in the mosaic.
        end: Where that ends.
    """
    before = found["boxes"]
    start, end = (tf.cast(part, tf.float32)[:, :, None] for part in (start, end))
    corners, factor = tf.cast(before, tf.float32), factor[:, :, None]
    corners = [(corners[..., part] - offset[:, :, None]) * factor + start
               for part in (slice(0, 2), slice(2, 4))]  # fmt: skip
    cut = [tf.clip_by_value(corner, start, end) for corner in corners]
    sides, left = corners[1] - corners[0], cut[1] - cut[0]
    seen = tf.reduce_prod(left, -1) >= VISIBLE * tf.reduce_prod(sides, -1)
    if "ignored" in found:
        # What is left of a region would otherwise teach that nothing is there.
        seen |= tf.cast(found["ignored"], tf.bool)
    seen &= tf.reduce_all(left >= 1.0, -1)
    own = ~chosen[:, None, None]
    boxes = tf.where(own[..., None], before, tf.cast(tf.concat(cut, -1), before.dtype))
    labels = tf.where(seen | own, found["labels"], -tf.ones_like(found["labels"]))
    return _packed({**found, "boxes": boxes, "labels": _of_chosen(labels, chosen)})


def _of_chosen(labels, chosen):
    """Return labels `[count, images, boxes]` without those of other images where none are."""
    first = tf.range(tf.shape(labels)[1])[None, :, None] == 0
    return tf.where(first | chosen[:, None, None], labels, -tf.ones_like(labels))


def _packed(found):
    """Return what several images `[count, images, boxes, ...]` bring in one row for each.

    Boxes come first and padding last, of which there is no more than the fullest image needs:
    what an epoch takes grows with the boxes that a batch is padded to.
    """
    shape = tf.shape(found["labels"])
    flat = {
        name: tf.reshape(value, tf.concat([[shape[0], -1], tf.shape(value)[3:]], 0))
        for name, value in found.items()
    }
    padding = flat["labels"] < 0
    order = tf.argsort(tf.cast(padding, tf.int32), axis=1, stable=True)
    most = tf.reduce_max(tf.reduce_sum(tf.cast(~padding, tf.int32), 1))
    order = order[:, : tf.maximum(most, 1)]
    return {
        name: tf.ensure_shape(
            tf.gather(value, order, batch_dims=1), [None, None, *found[name].shape[3:]]
        )
        for name, value in flat.items()
    }
