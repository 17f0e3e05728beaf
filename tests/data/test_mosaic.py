"""Images that are put together, with the boxes and masks that belong to their pixels."""

from __future__ import annotations

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerasft.data.augment import VISIBLE, augmenter
from kerasft.data.mosaic import SMALLEST, BoxMixUp, Mosaic
from kerasft.data.order import Order
from kerasft.data.pipeline import Batches
from kerasft.data.store import Store
from kerasft.errors import UserError
from kerasft.rows import Column, Rows

# Not square, since a width taken for a height shows only then.
SIZE = (96, 160)
COUNT = 12
GROUND = 20


def colour_of(unit: int) -> np.ndarray:
    """Return a colour of a class alone, far from the ground and from those of other classes."""
    return np.array([80 + 56 * (unit % 4), 80 + 56 * (unit // 4 % 4), 80 + 56 * (unit // 16)])


def scenes(seed: int = 0):
    """Return images of up to three rectangles that do not overlap, each a class of its own.

    Every other rectangle is an ignored one; some images have none.
    """
    random = np.random.default_rng(seed)
    images = np.full((COUNT, *SIZE, 3), GROUND, "uint8")
    masks = np.zeros((COUNT, *SIZE, 1), "uint8")
    boxes, labels, ignored = [], [], []
    unit = 0
    for i in range(COUNT):
        own = []
        for column in range(i % 4):
            height, width = random.integers(14, 70), random.integers(14, 44)
            top = random.integers(0, SIZE[0] - height)
            left = 53 * column + random.integers(0, 50 - width)
            own.append((left, top, left + width, top + height))
            images[i, top : top + height, left : left + width] = colour_of(unit)
            masks[i, top : top + height, left : left + width] = unit + 1
            labels.append(unit)
            unit += 1
        boxes.append(np.array(own, "float32").reshape(-1, 4))
        ignored.append(np.arange(len(own)) % 2 == 1)
    ends = np.cumsum([len(own) for own in boxes])
    labels = np.split(np.array(labels, "int32"), ends[:-1])
    return images, Rows.of({
        "boxes": Column.ragged(boxes, group="objects", fill=-1),
        "labels": Column.ragged(labels, group="objects", fill=-1),
        "ignored": Column.ragged(ignored, group="objects"),
        "segmentation_masks": masks,
    })  # fmt: skip


@functools.lru_cache(maxsize=4)
def compiled(step, epochs: int | None, masks: bool):
    _, rows = scenes()
    names = ["boxes", "labels", "ignored", *(["segmentation_masks"] if masks else [])]
    specs = {name: tf.TensorSpec(shape, dtype) for name, (dtype, shape) in
             rows.only(names).specs().items()}  # fmt: skip
    apply = augmenter({"step": step}, seed=0, size=SIZE, moving=["boxes"], epochs=epochs)
    return tf.function(apply, autograph=False, input_signature=[
        {"images": tf.TensorSpec([None, *SIZE, 3], tf.uint8)}, specs,
        tf.TensorSpec([], tf.int64), tf.TensorSpec([None], tf.int64),
    ])  # fmt: skip


def made(step, *, epoch: int = 0, epochs: int | None = None, masks: bool = True,
         count: int = COUNT):  # fmt: skip
    """Return the scenes and what a step makes of them, in a graph as in training."""
    before, rows = scenes()
    targets = rows.gather(np.arange(count))
    if not masks:
        del targets["segmentation_masks"]
    images, moved = compiled(step, epochs, masks)(
        {"images": tf.constant(before[:count])},
        {name: tf.constant(value) for name, value in targets.items()},
        tf.constant(epoch, tf.int64), tf.range(count, dtype=tf.int64),
    )  # fmt: skip
    found = {name: value.numpy() for name, value in moved.items()}
    assert {n: v.dtype for n, v in found.items()} == {n: v.dtype for n, v in targets.items()}
    padding = found["labels"] < 0
    assert not (padding[:, :-1] & ~padding[:, 1:]).any(), "Padding comes last."
    assert found["labels"].shape == found["ignored"].shape == found["boxes"].shape[:2]
    return (before, rows), images["images"].numpy(), found


def around(pixels: np.ndarray) -> np.ndarray | None:
    if not pixels.any():
        return None
    rows, columns = np.flatnonzero(pixels.any(axis=1)), np.flatnonzero(pixels.any(axis=0))
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], "float64")


def by_class(rows: Rows) -> dict[int, tuple[np.ndarray, bool]]:
    return {
        int(unit): (box, bool(ignored)) for i in range(len(rows))
        for box, unit, ignored in zip(*(rows.row(i)[n] for n in ("boxes", "labels", "ignored")),
                                      strict=True)
    }  # fmt: skip


def test_boxes_and_masks_are_where_the_pixels_are():
    step, (compared, cut, dropped) = Mosaic(share=1.0), (0, 0, 0)
    for epoch in range(6):
        (_, rows), images, found = made(step, epoch=epoch)
        known = by_class(rows)
        for image, boxes, labels, ignored, mask in zip(
            images, *(found[n] for n in ("boxes", "labels", "ignored", "segmentation_masks")),
            strict=True,
        ):  # fmt: skip
            assert len(set(labels[labels >= 0])) == (labels >= 0).sum()
            assert set(np.unique(mask)) <= {0, *(unit + 1 for unit in known)}
            assert (boxes[labels >= 0] >= 0).all()
            assert (boxes[labels >= 0] <= [SIZE[1], SIZE[0]] * 2).all()
            for unit, (original, crowd) in known.items():
                # At its edges it is blended with the ground.
                shown = np.abs(image.astype(int) - colour_of(unit)).max(-1) < 12
                box, place = around(shown), np.flatnonzero(labels == unit)
                area = float(np.prod(original[2:] - original[:2]))
                if not len(place):
                    # Little of it is left; of an ignored region, less than a pixel in width.
                    limit = max(SIZE) if crowd else VISIBLE * area * 0.7**2
                    assert shown.sum() <= limit
                    dropped += box is not None
                    continue
                assert box is not None
                assert ignored[place[0]] == crowd
                np.testing.assert_allclose(boxes[place[0]], box, atol=1.6)
                of_mask = around(mask[..., 0] == unit + 1)
                np.testing.assert_allclose(of_mask, box, atol=1.6)
                compared += 1
                cut += (mask[..., 0] == unit + 1).sum() < 0.9 * SMALLEST**2 * area
    assert compared > 150 and cut > 10 and dropped > 5, (compared, cut, dropped)


def test_masks_without_boxes_move_too():
    before, rows = scenes()
    step = augmenter({"four": Mosaic(share=1.0)}, seed=0, size=SIZE, moving=["segmentation_masks"])
    images, found = step(
        {"images": tf.constant(before)},
        {"segmentation_masks": tf.constant(rows["segmentation_masks"])},
        tf.constant(0, tf.int64), tf.range(COUNT),
    )
    bright = images["images"].numpy().max(-1) > GROUND + 40
    mask = found["segmentation_masks"].numpy()[..., 0] > 0
    assert (bright & mask).sum() / (bright | mask).sum() > 0.93  # but for blended edges


def test_a_mosaic_is_of_four_images_and_full():
    """Each image is of one shade: four quarters of different ones meet in a point."""
    shades = np.linspace(30, 250, 8).round()
    images = np.broadcast_to(shades[:, None, None, None], (8, *SIZE, 3)).astype("float32")
    mosaics = Mosaic(share=1.0, seed=3, centre=(0.25, 0.75))(tf.constant(images)).numpy()
    centres = []
    for at, one in enumerate(mosaics[..., 0]):
        corners = [one[0, 0], one[0, -1], one[-1, 0], one[-1, -1]]
        assert len(set(corners)) == 4
        assert set(np.unique(one)) == set(corners) <= set(shades.astype("float32"))
        assert one[0, 0] == shades[at]  # the image itself is always among them
        column, row = (one[0] == one[0, 0]).sum(), (one[:, 0] == one[0, 0]).sum()
        centres.append((row / SIZE[0], column / SIZE[1]))
        for half in (one[:row], one[row:]):
            assert all((part == part[0, 0]).all() for part in (half[:, :column], half[:, column:]))
    assert np.min(centres) >= 0.24 and np.max(centres) <= 0.76
    assert len(set(centres)) == 8


def test_proportions_stay():
    """A square stays one, in parts of any shape."""
    images = np.full((4, 96, 160, 3), GROUND, "float32")
    images[:, 44:52, 76:84] = 200
    boxes = tf.constant([[[76.0, 44, 84, 52]]] * 4)
    batch = {"images": tf.constant(images),
             "bounding_boxes": {"boxes": boxes, "labels": tf.zeros([4, 1], tf.int32)}}  # fmt: skip
    found = Mosaic(share=1.0, seed=1)(batch)["bounding_boxes"]
    sides = (found["boxes"][..., 2:] - found["boxes"][..., :2]).numpy()[found["labels"] >= 0]
    whole = sides[np.isclose(sides[:, 0], sides[:, 1])]
    assert len(whole) > 4
    assert whole.min() >= 8 * SMALLEST and whole.max() <= 8 * 0.7 + 0.1


@pytest.mark.parametrize("step", [Mosaic(), BoxMixUp()], ids=["Mosaic", "BoxMixUp"])
def test_a_share_of_the_images_is_changed(step):
    changed = []
    for epoch in range(12):
        (before, rows), images, found = made(step, epoch=epoch, masks=False)
        same = (images == before).all(axis=(1, 2, 3))
        changed += (~same).tolist()
        for i in np.flatnonzero(same):
            own, count = rows.row(i), (found["labels"][i] >= 0).sum()
            for name in ("boxes", "labels", "ignored"):
                np.testing.assert_array_equal(found[name][i, :count], own[name])
    assert 0.4 < np.mean(changed) < 0.6


def test_mixed_images_have_the_boxes_of_both():
    (before, rows), images, found = made(BoxMixUp(share=1.0), masks=False)
    whole = 0
    for i, (image, labels) in enumerate(zip(images, found["labels"], strict=True)):
        present = labels[labels >= 0]
        mine = rows.row(i)["labels"]
        others = [j for j in range(COUNT) if j != i and
                  sorted([*mine, *rows.row(j)["labels"]]) == sorted(present)]  # fmt: skip
        assert others
        own = before[i].astype("float64")
        fits = []
        for j in others:
            difference = own - before[j]
            apart = np.abs(difference) > 0
            if not apart.any():
                fits.append(np.array_equal(image, before[i]))
                continue
            weights = (image.astype("float64") - before[j])[apart] / difference[apart]
            fits.append(np.ptp(weights) < 0.05 and 0 < weights.mean() < 1)
        assert any(fits)
        whole += len(present) > len(mine) > 0
    assert whole > 4
    known = by_class(rows)
    for boxes, labels, ignored in zip(*(found[n] for n in ("boxes", "labels", "ignored")),
                                      strict=True):  # fmt: skip
        for box, unit, crowd in zip(boxes, labels, ignored, strict=True):
            if unit >= 0:
                np.testing.assert_array_equal(box, known[unit][0])
                assert crowd == known[unit][1]
    # As wide as the fullest image needs, and no wider.
    assert found["labels"].shape[1] == (found["labels"] >= 0).sum(1).max()


@pytest.mark.every(3)
@pytest.mark.parametrize("kind", [Mosaic, BoxMixUp])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_small_batches(kind, count):
    (before, rows), images, found = made(kind(share=1.0), masks=False, count=count)
    assert images.shape == (count, *SIZE, 3)
    if kind is BoxMixUp and count == 1:  # there is no other one
        np.testing.assert_array_equal(images, before[:1])
        assert (found["labels"] >= 0).sum() == len(rows.row(0)["labels"])


@pytest.mark.every(4)
@pytest.mark.parametrize(("stop", "epochs", "until"), [
    (0.9, 20, 18), (0.9, 10, 9), (0.9, 3, 2), (0.9, 1, 0), (1.0, 4, 4), (0.7, 10, 7),
    (0.9, None, 100),
])  # fmt: skip
def test_it_stops_for_the_last_part_of_the_epochs(stop, epochs, until):
    step = Mosaic(share=1.0, stop=stop)
    # An epoch before the end and one after it, of those that the run has.
    for epoch in range(max(until - 1, 0), min(until + 1, epochs or until + 1)):
        (before, _), images, _ = made(step, epoch=epoch, epochs=epochs, masks=False)
        assert np.array_equal(images, before) == (epochs is not None and epoch >= until)


def batches(step) -> Batches:
    images, rows = scenes()
    return Batches(
        Store.of({"images": images}), rows.only(["boxes", "labels", "ignored"]),
        order=Order(COUNT, 5, seed=1), batch=lambda inputs, found: (found, None),
        augment=augmenter({"step": step}, seed=0, size=SIZE, moving=["boxes"], epochs=4),
    )  # fmt: skip


@pytest.mark.every(2)
@pytest.mark.parametrize("kind", [Mosaic, BoxMixUp])
def test_batches_depend_on_seed_epoch_and_examples_alone(kind):
    whole = list(batches(kind(share=1.0)).from_step(0).take(12))
    late = list(batches(kind(share=1.0)).from_step(5).take(2))
    for (x, y), (again, targets) in zip(whole[5:7], late, strict=True):
        np.testing.assert_array_equal(x, again)
        for name in y:
            np.testing.assert_array_equal(y[name], targets[name])
    images, _ = scenes()
    order = Order(COUNT, 5, seed=1)
    as_they_are = [np.array_equal(x, images[order.batch(step)[1]])
                   for step, (x, _) in enumerate(whole)]  # fmt: skip
    assert as_they_are == [False] * 9 + [True] * 3  # the last of four epochs is without


def test_another_seed_draws_others():
    images, _ = scenes()
    one, other = (
        augmenter({"step": BoxMixUp(share=1.0)}, seed=seed, size=SIZE, moving=["boxes"])(
            {"images": tf.constant(images)}, {}, tf.constant(0, tf.int64), tf.range(COUNT)
        )[0]["images"] for seed in (0, 1)
    )  # fmt: skip
    assert not np.array_equal(one, other)


def test_what_cannot_be_joined_is_refused():
    with pytest.raises(UserError, match=r"augment\.four puts images together"):
        augmenter({"four": Mosaic()}, seed=0, size=SIZE)
    with pytest.raises(UserError, match=r"masks cannot be averaged. Take it out \(~augment\.two"):
        augmenter({"two": BoxMixUp()}, seed=0, size=SIZE, moving=["boxes", "segmentation_masks"])
    with pytest.raises(ValueError, match="masks cannot be averaged"):
        made(BoxMixUp())
    apply = augmenter({"four": Mosaic()}, seed=0, size=SIZE, moving=["boxes"])
    images, rows = scenes()
    poses = Column.ragged([np.zeros(len(rows.row(i)["labels"])) for i in range(COUNT)],
                          group="objects")  # fmt: skip
    posed = Batches(
        Store.of({"images": images}),
        Rows.of({**rows.only(["boxes", "labels"]).columns, "poses": poses}),
        order=Order(COUNT, 5, seed=1), batch=lambda inputs, found: (found, None), augment=apply,
    )  # fmt: skip
    with pytest.raises(UserError, match="would leave 'poses' of the task behind"):
        posed.from_step(0)


@pytest.mark.parametrize(("make", "said"), [
    (lambda: Mosaic(share=0), "share must be above 0"),
    (lambda: Mosaic(stop=1.5), "stop must be a share of the epochs, above 0"),
    (lambda: Mosaic(centre=(0.6, 0.4)), "the smaller first"),
    (lambda: BoxMixUp(alpha=0), "alpha must be above 0"),
])  # fmt: skip
def test_mistakes(make, said):
    with pytest.raises(ValueError, match=said):
        make()


@pytest.mark.parametrize("layer", [
    Mosaic(share=0.3, stop=1.0, centre=(0.4, 0.5)), BoxMixUp(share=0.2, alpha=2.0),
], ids=["Mosaic", "BoxMixUp"])  # fmt: skip
def test_they_come_back_from_their_configs(layer):
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert again.get_config() == layer.get_config()
    x = tf.ones([2, 8, 8, 3])
    np.testing.assert_array_equal(layer(x, training=False), x)
