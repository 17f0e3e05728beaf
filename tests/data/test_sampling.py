"""Rare classes drawn more often: rates of examples, and an order that keeps to them."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kerasft.data.annotations.presence import Presence, presence
from kerasft.data.order import Order, keys
from kerasft.data.pipeline import Batches
from kerasft.data.sampling import AsItIs, Balanced, described, normal
from kerasft.data.store import Store
from kerasft.errors import UserError
from kerasft.rows import Column, Rows, padded
from kerasft.spec import Labels

# 80 of one class, 16 of another, 4 of a third.
CLASSES = np.repeat([0, 1, 2], [80, 16, 4])
SINGLE = Labels("single", ("often", "seldom", "rare"))
HELD = presence(Rows.of({"label": CLASSES}), SINGLE)


def rates_of(held: Presence, **settings) -> np.ndarray:
    found = normal(Balanced(**settings).rates(held))
    assert found is not None and found.mean() == pytest.approx(1)
    return found


def orders(**more):
    return Order(100, 8, seed=3, rates=rates_of(HELD), **more)


@pytest.mark.parametrize("exponent", [1.0, 0.5, 0.2])
def test_one_class_an_example(exponent):
    rates = rates_of(HELD, exponent=exponent)
    counts = np.array([80, 16, 4])
    share = counts ** (1 - exponent)
    for unit in range(3):
        wanted = 100 * share[unit] / share.sum()
        assert rates[unit == CLASSES].sum() == pytest.approx(wanted)


def test_nothing_to_be_balanced_is_nothing():
    assert normal(Balanced(exponent=0.0).rates(HELD)) is None
    even = presence(Rows.of({"label": np.arange(10) % 2}), Labels("single", ("a", "b")))
    assert normal(Balanced().rates(even)) is None
    assert normal(AsItIs().rates(HELD)) is None


def test_of_several_labels_the_rarest_decides():
    y = np.zeros((100, 3), "float32")
    y[:60, 0] = 1  # most have the first one,
    y[:10, 1] = 1  # ten of these the second one too,
    y[8:12, 2] = 1  # four the third one, of which two have both others
    held = presence(Rows.of({"label": y}), Labels("multi", ("a", "b", "c")))
    assert held.counts().tolist() == [60, 10, 4] and len(held.without()) == 40
    rates = Balanced().rates(held)
    # Repeat factors: 1 / f of the rarest label; those without any are a class of their own.
    np.testing.assert_allclose(rates[8:12], 25)
    np.testing.assert_allclose(rates[:8], 10)
    np.testing.assert_allclose(rates[12:60], 100 / 60)
    np.testing.assert_allclose(rates[60:], 100 / 40)
    # LVIS: square root, and only what is rarer than a threshold is repeated.
    lvis = Balanced(exponent=0.5, threshold=0.2).rates(held)
    np.testing.assert_allclose(lvis[8:12], np.sqrt(5))
    np.testing.assert_allclose(lvis[:8], np.sqrt(2))
    np.testing.assert_allclose(lvis[12:], 1)


def test_of_boxes_and_masks_too():
    boxes = Rows.of({
        "labels": Column.ragged([[0, 0], [0, 1], [1], []], group="objects", dtype="int64"),
        "ignored": Column.ragged([[0, 0], [0, 0], [1], []], group="objects", dtype="bool"),
    })  # fmt: skip
    held = presence(boxes.take([1, 0, 2, 3]), Labels("boxes", ("cell", "egg")))
    assert held.counts().tolist() == [2, 1]
    assert held.without().tolist() == [2, 3]  # a region that is ignored is no object
    np.testing.assert_allclose(Balanced().rates(held), [4, 2, 2, 2])
    pixels = Rows.of({"pixels": np.array([[9, 0], [8, 1], [9, 0]])})
    held = presence(pixels, Labels("masks", ("ground", "cell")))
    np.testing.assert_allclose(Balanced().rates(held), [1, 3, 1])


@st.composite
def skewed(draw):
    count = draw(st.integers(2, 120))
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    rates = normal(random.choice([0.1, 0.5, 1.0, 3.0, 20.0], count))
    made = {"count": count, "batch_size": draw(st.integers(1, 20)), "rates": rates,
            "seed": draw(st.integers(0, 2**40))}  # fmt: skip
    if draw(st.booleans()):
        made["keys"] = keys(f"row {i}" for i in range(count))
    kind = draw(st.sampled_from(("plain", "lengths", "positions")))
    if kind != "plain":
        made["lengths"] = random.integers(1, 41, count)
    if kind == "positions":
        made |= {"positions": draw(st.integers(40, 400)), "longest": 40}
    return made


@given(skewed(), st.integers(0, 10**6))
def test_epochs_are_as_long_as_ever_and_functions_of_their_number(made, epoch):
    plain = Order(**{**made, "rates": None})
    order, again = Order(**made), Order(**made)
    again.epoch(epoch + 1)
    batches = order.epoch(epoch)
    assert len(batches) == order.steps == plain.steps
    assert [list(b) for b in batches] == [list(b) for b in again.epoch(epoch)]
    for batch in batches:
        assert len(batch)
        if "positions" in made:
            room = len(batch) * int(padded(made["lengths"][batch].max(), 40))
            assert room <= made["positions"] or len(batch) == 1
        else:
            assert len(batch) <= made["batch_size"]
    if "positions" not in made:
        assert sum(map(len, batches)) == made["count"]
    first = epoch * order.steps
    for step in (first, first + order.steps - 1):
        (at, indices), (told, numbers) = order.batch(step), order.draws(step)
        assert at == told == epoch
        np.testing.assert_array_equal(indices, numbers % made["count"])


@given(skewed())
def test_no_number_comes_twice_in_an_epoch(made):
    for epoch in range(2):
        numbers = np.concatenate(Order(**made).numbers(epoch))
        assert len(np.unique(numbers)) == len(numbers)


@pytest.mark.parametrize("seed", range(8))
def test_an_example_comes_as_often_as_its_rate_says(seed):
    random, epochs = np.random.default_rng(seed), 30
    count = int(random.integers(2, 121))
    rates = normal(random.choice([0.1, 0.5, 1.0, 3.0, 20.0], count) + 0.01 * random.random())
    order = Order(count, 50, seed=seed, rates=rates)
    times = np.array([
        np.bincount(np.concatenate(order.epoch(epoch)), minlength=count) for epoch in range(epochs)
    ])  # fmt: skip
    for rate in np.unique(rates):
        row = times[:, rates == rate]
        # In each epoch as many of a rate as are due, and each of them in turn.
        assert abs(row.sum(axis=1) - rate * row.shape[1]).max() < 2
        assert abs(row.sum(axis=0) - rate * epochs).max() < 3


def test_classes_are_drawn_equally_often_and_all_examples_in_turn():
    order = orders()
    counts = np.array([
        np.bincount(CLASSES[np.concatenate(order.epoch(epoch))], minlength=3)
        for epoch in range(30)
    ])  # fmt: skip
    assert abs(counts - 100 / 3).max() < 2
    np.testing.assert_allclose(counts.mean(axis=0), 100 / 3, atol=0.1)
    seen = np.unique(np.concatenate([np.concatenate(order.epoch(e)) for e in range(3)]))
    # A third of an epoch are of the 80: after three epochs all of them have come.
    assert len(seen) == 100
    assert not np.array_equal(np.concatenate(order.epoch(0)), np.concatenate(order.epoch(1)))


def test_draws_come_in_batches_with_variants_of_their_own():
    images = np.stack([np.full((2, 2, 3), i, "uint8") for i in range(4)])
    # Two views of each image, the second one 100 brighter.
    store = Store(Rows.of({"images": np.concatenate([images, images + 100])}).take(np.arange(4)),
                  views=2)  # fmt: skip
    order = Order(4, 4, seed=0, rates=normal(np.array([6.0, 1, 1, 0])))
    targets = Rows.of({"labels": np.arange(4.0, dtype="float32")})
    batches = Batches(store, targets, order=order, batch=lambda inputs, y: (y["labels"], None))
    for step, (x, y) in enumerate(batches.from_step().take(3)):
        epoch, numbers = order.draws(step)
        np.testing.assert_array_equal(y, numbers % 4)
        assert (numbers % 4 == 0).sum() == 3 and 3 not in numbers % 4
        # An example that comes again comes as its next view.
        view = (epoch + numbers // 4) % 2
        np.testing.assert_array_equal(x[:, 0, 0, 0], numbers % 4 + 100 * view)


def test_it_is_told_what_comes_of_it():
    said = described(orders(), HELD)
    assert re.match(r"rare 4 -> 3[34], seldom 16 -> 3[34], often 80 -> 3[34]; ", said)
    assert "an epoch of 100 examples has one up to 9 times and " in said


@pytest.mark.parametrize(("settings", "said"), [
    ({"exponent": 1.5}, r"sampling\.exponent must be from 0"),
    ({"exponent": -0.1}, r"sampling\.exponent must be from 0"),
    ({"threshold": 0}, r"sampling\.threshold is a share"),
])  # fmt: skip
def test_mistakes(settings, said):
    with pytest.raises(UserError, match=said):
        Balanced(**settings)


def test_numbers_have_no_classes_to_be_balanced():
    rows = Rows.of({"label": np.arange(3.0)})
    assert presence(rows, Labels("number")) is None
    with pytest.raises(UserError, match="the labels of this task are no classes"):
        Balanced().rates(presence(rows, Labels("number")))
    assert AsItIs().rates(None) is None


@pytest.mark.parametrize("rates", [[0, 0], [1, -1], [1, float("nan")], [float("inf"), 1]])
def test_rates_that_are_none(rates):
    with pytest.raises(UserError, match="a finite rate from 0 on"):
        normal(np.array(rates, float))
