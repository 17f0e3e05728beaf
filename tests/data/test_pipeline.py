from __future__ import annotations

import io
import time

import numpy as np
import pytest

from kerasft import testing
from kerasft.data import augment, pipeline
from kerasft.data.order import Order, once
from kerasft.data.pipeline import Batches
from kerasft.data.preprocessing import prepare
from kerasft.data.store import Store
from kerasft.errors import UserError
from kerasft.model import tiny
from kerasft.model.preprocess import ImagePreprocess
from kerasft.rows import Column, Rows, padded_width
from kerasft.spec import Examples

LENGTHS = np.random.default_rng(0).integers(3, 60, 230)


def plan(order: Order, first: int, count: int) -> list[tuple[int, list[int]]]:
    return [(e, list(i)) for e, i in map(order.batch, range(first, first + count))]


@pytest.mark.parametrize("lengths", [None, LENGTHS])
def test_the_order_is_a_function_of_seed_and_epoch(lengths):
    def make(seed):
        return Order(230, 8, seed=seed, lengths=lengths)

    whole = plan(make(3), 0, 90)
    assert plan(make(3), 37, 53) == whole[37:]
    assert plan(make(4), 0, 90) != whole
    assert [i for _, i in whole[:29]] != [i for _, i in whole[29:58]]
    backwards = make(3)
    assert [plan(backwards, step, 1)[0] for step in reversed(range(90))] == whole[::-1]


@pytest.mark.parametrize("lengths", [None, LENGTHS])
@pytest.mark.parametrize(("count", "size"), [(230, 8), (230, 230), (5, 8), (230, 1), (16, 8)])
def test_every_example_comes_once_an_epoch(lengths, count, size):
    lengths = None if lengths is None else lengths[:count]
    order = Order(count, size, seed=0, lengths=lengths)
    for epoch in range(3):
        batches = order.epoch(epoch)
        assert len(batches) == order.steps == -(-count // size)
        assert sorted(np.concatenate(batches)) == list(range(count))
        assert sorted(map(len, batches), reverse=True)[:-1] == [size] * (order.steps - 1)
    assert sorted(np.concatenate(once(count, size, lengths))) == list(range(count))


def test_batches_of_similar_length_pad_less():
    def padded(lengths):
        order = Order(230, 8, seed=0, lengths=lengths)
        return sum(LENGTHS[i].max() * len(i) for i in order.epoch(0)) - LENGTHS.sum()

    assert padded(LENGTHS) < 0.3 * padded(None)


@pytest.mark.parametrize("positions", [64, 100, 1000, 10**6])
def test_a_budget_of_positions_is_kept_and_used(positions):
    order = Order(230, 8, seed=0, lengths=LENGTHS, positions=positions)
    shapes = set()
    for epoch in range(3):
        batches = order.epoch(epoch)
        assert len(batches) == order.steps
        assert sorted(np.concatenate(batches)) == list(range(230))
        room = [len(batch) * padded_width(LENGTHS[batch], 999) for batch in batches]
        assert max(room) <= positions
        # But for the last ones of each width batches are full.
        assert np.median(room) > 0.6 * min(positions, sum(room))
        shapes.add(tuple(sorted(room)))
    assert len(shapes) == 1
    assert [list(b) for b in order.epoch(0)] != [list(b) for b in order.epoch(1)]


def test_a_text_above_the_budget_stands_alone():
    order = Order(4, 8, seed=0, lengths=np.array([8, 40, 8, 8]), positions=24)
    assert sorted(map(sorted, order.epoch(0))) == [[0, 2, 3], [1]]


def learned(labels) -> Rows:
    return Rows.of({"labels": labels.astype("float32")})


def as_is(inputs, targets):
    return targets["labels"], targets.get("weight")


def test_the_pace_of_batches_is_that_of_what_makes_them(bert):
    import tensorflow as tf

    ready = Store.of({"images": np.zeros((40, 8, 8, 3), "uint8")})

    def slow(inputs, targets, epoch, indices):
        images = inputs["images"]
        late = tf.numpy_function(lambda x: (time.sleep(0.02), x)[1], [images], tf.uint8)
        return {"images": tf.ensure_shape(late, images.shape)}, targets

    batches = Batches(ready, learned(np.zeros((40, 2))), order=Order(40, 8, seed=0), batch=as_is)
    gathering, whole = batches.pace()
    assert 0 < gathering < 0.02 and 0 < whole < 0.02
    batches.augment = slow
    gathering, whole = batches.pace()
    assert gathering < 0.02 and 0.01 < whole < 0.2


WORDS = ["a film", "", "the quick brown fox jumps over the lazy dog", "good", "a " * 30, "fine?"]
TEXTS = Examples("text", WORDS, np.zeros(6, "int64"), tuple("abcdef"))


@pytest.fixture(scope="module")
def bert():
    return tiny.text("bert", sequence_length=20).preprocess


@pytest.mark.every(4)
@pytest.mark.parametrize("chosen", [[0, 3], [1], [5, 4, 3, 2, 1, 0], [2, 2]])
def test_gathered_tokens_are_those_of_preprocessing(bert, chosen):
    ready = prepare(TEXTS, bert)
    got = ready.gather(np.array(chosen))
    wanted = bert([WORDS[i] for i in chosen])
    assert set(got) == set(wanted)
    longest = wanted["token_ids"].shape[1]
    width = min(-(-longest // 4) * 4, 20)  # whole fours, but no more than the network takes
    for name, values in got.items():
        assert values.shape == (len(chosen), width)
        np.testing.assert_array_equal(values[:, :longest], wanted[name])
        assert not values[:, longest:].any()


def test_one_pass_holds_everything_and_says_in_which_order(bert):
    ready = prepare(TEXTS, bert)
    data, order = pipeline.in_one_pass(ready, 4)
    assert sorted(order) == list(range(6))
    assert int(data.cardinality()) == 2
    rows = [row[row != 0] for batch in data for row in batch["token_ids"].numpy()]
    for index, row in zip(order, rows, strict=True):
        np.testing.assert_array_equal(row, bert([WORDS[index]])["token_ids"][0])


IMAGES = np.random.default_rng(0).integers(0, 256, (20, 16, 16, 3)).astype("uint8")
TARGETS = np.eye(20, dtype="float32")


def batches(step=None, *, seed=0, images=IMAGES) -> Batches:
    size = images.shape[1:3]
    made = augment.augmenter({"step": step}, seed=seed, size=size, shares=dict) if step else None
    targets = Rows.of({"labels": TARGETS, "weight": np.arange(20, dtype="float32")})
    return Batches(
        Store.of({"images": images}), targets, order=Order(20, 8, seed=1), batch=as_is, augment=made
    )  # fmt: skip


def rows(made: Batches, first: int, count: int) -> list:
    return [[part.numpy() for part in row] for row in made.from_step(first).take(count)]


def test_batches_hold_inputs_targets_and_weights_of_the_same_examples():
    made = batches()
    for step, (x, y, w) in enumerate(rows(made, 0, 7)):
        _, indices = made.order.batch(step)
        assert len(indices) == (4 if step % 3 == 2 else 8)
        np.testing.assert_array_equal(x, IMAGES[indices])
        np.testing.assert_array_equal(y, TARGETS[indices])
        np.testing.assert_array_equal(w, indices)
    data, order = pipeline.in_one_pass(made.store, 8)
    np.testing.assert_array_equal(np.concatenate(list(data)), IMAGES[order])


LAYERS = {
    "RandomFlip": {"mode": "horizontal_and_vertical"},
    "RandomRotation": {"factor": 0.2},
    "RandomTranslation": {"height_factor": 0.2, "width_factor": 0.2},
    "RandomBrightness": {"factor": 0.3},
    "RandomZoom": {"height_factor": 0.3},
    "RandomErasing": {},
    "RandomColorJitter": {"brightness_factor": 0.3, "contrast_factor": 0.3},
    "RandAugment": {"num_ops": 1},
    "AugMix": {"num_chains": 1, "chain_depth": 2},
    "GaussianNoise": {"stddev": 0.9},
    "MixUp": {},
    "CutMix": {},
}


@pytest.mark.every(12)
@pytest.mark.parametrize("name", LAYERS)
def test_augmentation_depends_on_seed_epoch_and_example_alone(name):
    import keras

    def step():
        return getattr(keras.layers, name)(**LAYERS[name])

    made = batches(step())
    whole = rows(made, 0, 6)
    for got, wanted in zip(rows(batches(step()), 4, 2), whole[4:], strict=True):
        for a, b in zip(got, wanted, strict=True):
            np.testing.assert_array_equal(a, b)
    if name not in ("MixUp", "CutMix"):  # these see who stands beside whom
        by_example = np.zeros((2, *IMAGES.shape), "uint8")
        for at, (x, _, _) in enumerate(whole):
            epoch, indices = made.order.batch(at)
            by_example[epoch, indices] = x
        changed = [(by_example[e] != IMAGES).any((1, 2, 3)) for e in (0, 1)]
        assert sum(changed[0]) > 5
        differ = (by_example[0] != by_example[1]).any((1, 2, 3))
        assert differ.sum() > 8


def test_another_seed_draws_others():
    import keras

    got = [rows(batches(keras.layers.RandomBrightness(0.5), seed=s), 0, 1)[0][0] for s in (0, 1)]
    assert not np.array_equal(*got)


@pytest.mark.parametrize("name", ["MixUp", "CutMix"])
def test_mixed_labels_have_the_share_of_the_pixels(name):
    import keras

    # One shade an example, and one class an example: the mean shade tells the shares.
    shades = np.linspace(0, 255, 20).round()
    images = np.broadcast_to(shades[:, None, None, None], (20, 64, 64, 3)).astype("uint8")
    # CutMix cuts whole pixels, but tells the share of a box between them.
    near = 0.6 if name == "MixUp" else 255 * 2 / 64
    mixed = 0
    step = getattr(keras.layers, name)(**({"alpha": 1.0} if name == "MixUp" else {"factor": 1.0}))
    for x, y, _ in rows(batches(step, images=images), 0, 6):
        np.testing.assert_allclose(y.sum(1), 1, atol=1e-5)
        np.testing.assert_allclose(x.mean((1, 2, 3)), y @ shades, atol=near)
        mixed += (y.max(1) < 0.95).sum()
    assert mixed > 5


def boxed(images) -> Rows:
    """Return the box and the mask of what is bright in each image, some with two boxes."""
    boxes, masks = [], []
    for i, image in enumerate(images):
        bright = image[..., 0] > 200
        rows, columns = np.flatnonzero(bright.any(1)), np.flatnonzero(bright.any(0))
        box = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
        boxes.append(np.array([box] * (1 + i % 2), "float32"))
        masks.append(bright[..., None].astype("uint8"))
    return Rows.of({
        "boxes": Column.ragged(boxes, group="objects", fill=-1),
        "labels": Column.ragged([np.arange(len(b)) for b in boxes], group="objects", fill=-1,
                                dtype="int64"),
        "segmentation_masks": np.stack(masks),
    })  # fmt: skip


def test_boxes_and_masks_follow_the_pixels():
    import keras

    images = np.zeros((12, 32, 32, 3), "uint8")
    for i, image in enumerate(images):
        image[2 + i : 8 + i, 3 : 3 + 4 + i] = 255
    targets = boxed(images)
    steps = {
        "flip": keras.layers.RandomFlip("horizontal_and_vertical", bounding_box_format="xyxy"),
        "noise": keras.layers.GaussianNoise(0.1),  # knows nothing of boxes
    }
    made = Batches(
        Store.of({"images": images}), targets, order=Order(12, 4, seed=0),
        batch=lambda inputs, found: (found, None),
        augment=augment.augmenter(steps, seed=0, size=(32, 32)),
    )
    moved = 0
    for step, (x, y) in enumerate(made.from_step().take(6)):
        _, indices = made.order.batch(step)
        for place, i in enumerate(indices):
            now = boxed([x[place].numpy()]).row(0)
            count = 1 + i % 2
            np.testing.assert_allclose(y["boxes"][place, :count], [now["boxes"][0]] * count)
            np.testing.assert_array_equal(y["labels"][place, :count], np.arange(count))
            np.testing.assert_array_equal(y["segmentation_masks"][place], now["segmentation_masks"])
            assert (y["boxes"][place, count:].numpy() == -1).all()
            assert (y["labels"][place, count:].numpy() == -1).all()
            moved += not np.array_equal(now["boxes"], boxed([images[i]]).row(0)["boxes"])
        assert y["segmentation_masks"].dtype == "uint8" and y["labels"].dtype == "int64"
    assert moved > 8


def test_labels_that_cannot_be_mixed_are_refused_by_the_steps_name():
    import keras

    with pytest.raises(UserError, match=r"augment\.both mixes the labels"):
        augment.augmenter({"both": keras.layers.MixUp()}, seed=0, size=(16, 16))


def test_steps_run_in_their_order_and_any_layer_will_do():
    import keras

    steps = {
        "both": keras.Sequential([keras.layers.RandomFlip(), keras.layers.RandomRotation(0.1)]),
        "dark": keras.layers.Lambda(lambda x: x * 0.5),
        "bright": keras.layers.Lambda(lambda x: x + 100.0),
    }
    made = augment.augmenter(steps, seed=0, size=(16, 16))
    inputs, _ = made({"images": IMAGES[:4]}, {"labels": TARGETS[:4]}, 0, np.arange(4))
    images = inputs["images"]
    assert images.dtype == "uint8"
    assert images.numpy().min() >= 100
    assert images.numpy().max() <= 228
    assert augment.augmenter({}, seed=0, size=(16, 16)) is None


@pytest.mark.parametrize(("layer", "size"), [("CenterCrop", 8), ("Resizing", 24)])
def test_layers_that_change_the_size_are_refused_by_name(layer, size):
    import keras

    step = getattr(keras.layers, layer)(size, size)
    with pytest.raises(UserError, match=rf"augment\.step must keep the size .* of {size}x{size}x3"):
        batches(step)


def test_layers_that_take_no_images_are_refused_by_name():
    import keras

    with pytest.raises(UserError, match=r"augment\.step cannot be applied to images of 16x16"):
        batches(keras.layers.LSTM(4))


@pytest.mark.parametrize("name", ["RandomFlip", "MixUp"])
def test_the_contract(name):
    import keras

    testing.check_augment(getattr(keras.layers, name)(), (16, 16))


@pytest.mark.slow
def test_images_are_decoded_once_from_files_and_bytes(tmp_path):
    splits = testing.tiny_splits("images", count=6, size=16)
    paths = []
    for i, data in enumerate(splits.train.inputs):
        (tmp_path / f"{i}.png").write_bytes(data)
        paths.append(str(tmp_path / f"{i}.png"))
    ready = ImagePreprocess(16, 16)
    from_files = Examples("images", paths, splits.train.labels, splits.train.ids)
    got = prepare(from_files, ready).inputs["images"]
    np.testing.assert_array_equal(got, prepare(splits.train, ready).inputs["images"])
    np.testing.assert_array_equal(got, ready(splits.train.inputs))


@pytest.mark.every(3)
@pytest.mark.parametrize("data", [b"", b"no image", None])
def test_a_broken_image_is_named(tmp_path, data):
    good = testing.tiny_splits("images", count=4).train.inputs
    half = io.BytesIO(good[0]).read(len(good[0]) // 2)
    examples = Examples(
        "images", [*good[:2], half if data is None else data, good[3]], np.zeros(4, "int64"),
        ("a.png", "b.png", "cats/broken.png", "d.png"),
    )  # fmt: skip
    with pytest.raises(UserError, match=r"The image 'cats/broken\.png' could not be decoded"):
        prepare(examples, ImagePreprocess(8, 8))


@pytest.mark.slow
def test_a_image_that_is_gone_is_named(tmp_path):
    gone = Examples("images", [str(tmp_path / "x.png")], np.zeros(1, "int64"), ("cats/x.png",))
    with pytest.raises(UserError, match=r"The image 'cats/x\.png' could not be decoded"):
        prepare(gone, ImagePreprocess(8, 8))


def test_no_thread_tunes_what_is_waited_for(bert):
    """TensorFlow's may keep whoever lets go of an iterator waiting as long again as it lived."""
    ready = prepare(TEXTS, bert)
    batches = Batches(ready, learned(np.zeros((6, 2))), order=Order(6, 2, seed=0), batch=as_is)
    for data in (batches.from_step(), pipeline.in_one_pass(ready, 2)[0]):
        assert data.options().autotune.enabled is False


def test_a_budget_of_tokens_counts_no_more_padding_than_there_is():
    lengths = np.array([100, 100, 98, 97])
    order = Order(4, 8, seed=0, lengths=lengths, positions=200, longest=100)
    assert sorted(len(batch) for batch in order.epoch(0)) == [2, 2]


def test_examples_are_those_that_training_is_fed_with():
    """Any steps, in any order, as augmentation left them, before the task takes them on."""
    import keras
    import tensorflow as tf

    images = np.random.default_rng(0).integers(0, 255, (10, 8, 8, 3)).astype("uint8")
    change = augment.augmenter({"flip": keras.layers.RandomFlip()}, seed=0, size=(8, 8))
    batches = Batches(
        Store.of({"images": images}), Rows.of({"labels": np.arange(10)}),
        order=Order(10, 4, seed=0), augment=change,
        batch=lambda inputs, targets: (tf.one_hot(targets["labels"], 10), None),
    )  # fmt: skip
    fed = [(x.numpy(), y.numpy()) for x, y in batches.from_step().take(7)]
    for step, one in zip((5, 0, 2), batches.examples([5, 0, 2]).as_numpy_iterator(), strict=True):
        inputs, targets, indices = one
        assert (inputs["images"] == fed[step][0]).all()
        assert (targets["labels"] == fed[step][1].argmax(axis=1)).all()
        assert (targets["labels"] == indices).all()
        assert (indices == batches.order.batch(step)[1]).all()
