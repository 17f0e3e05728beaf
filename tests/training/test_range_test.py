"""The range test of learning rates: its schedule, what it records, and that nothing of it stays."""

from __future__ import annotations

import random

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerasft.training.range_test import Curve, Rising, record, unchanged
from kerasft.training.rate_rules import RULES, smoothed


def small(rate, *, each=1, dropout=0.5):
    """Return a compiled model, and an endless iterator over its four batches."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential([
        keras.Input((3,)), keras.layers.BatchNormalization(), keras.layers.Dropout(dropout),
        keras.layers.Dense(1),
    ])  # fmt: skip
    accumulate = {"gradient_accumulation_steps": each} if each > 1 else {}
    model.compile(keras.optimizers.SGD(rate, **accumulate), loss="mse", jit_compile=False)
    x = np.random.default_rng(0).normal(size=(8, 3)).astype("float32")
    data = tf.data.Dataset.from_tensor_slices((x, x.sum(1, keepdims=True))).batch(2).repeat()
    return model, iter(data)


def test_each_update_has_its_own_rate_and_the_loss_before_it():
    rising = Rising(1e-4, 1e-2, updates=5, each=2)
    model, data = small(rising, each=2, dropout=0.0)
    # Batch normalization by the statistics of two examples: what is lost does not hang on order.
    seen = []

    class Watched:
        def __iter__(self):
            return self

        def __next__(self):
            step = int(model.optimizer._iterations)
            seen.append((step, float(model.optimizer.learning_rate), model.get_weights()))
            return next(data)

    model.run_eagerly = True
    first = [next(data), next(data)]
    expected = [float(model.compute_loss(x, y, model(x, training=True))) for x, y in first]
    for _ in range(2):  # back to the first batch
        next(data)
    before = model.get_weights()
    curve = record(model, Watched(), rising)
    np.testing.assert_allclose(curve.rates, np.geomspace(1e-4, 1e-2, 5))
    assert [step for step, *_ in seen] == list(range(10))
    np.testing.assert_allclose([rate for _, rate, _ in seen], np.repeat(curve.rates, 2), rtol=1e-5)
    # The mean over both batches of the first update, neither of which has moved the weights.
    assert curve.losses[0] == pytest.approx(np.mean(expected), rel=1e-5)
    kernel = [weights[-2] for *_, weights in seen]
    assert (kernel[1] == before[-2]).all() and (kernel[2] != before[-2]).any()
    assert not curve.diverged


def test_a_diverging_loss_ends_it():
    rising = Rising(1e-3, 1e3, updates=100)
    model, data = small(rising)
    curve = record(model, data, rising)
    assert curve.diverged and 20 < len(curve.losses) < 95
    assert np.isfinite(curve.losses).all() and len(curve.rates) == len(curve.losses)
    # It was far above all that came before.
    assert curve.losses[-1] > 2 * curve.losses[:-10].max()


def test_nothing_of_a_test_stays():
    rising = Rising(1e-3, 1.0, updates=20)
    model, data = small(rising)
    before = [np.array(variable) for variable in model.variables]
    drawn = random.getstate(), np.random.get_state()[1].copy()
    with unchanged(model):
        record(model, data, rising)
        moved = sum((np.array(v) != b).any() for v, b in zip(model.variables, before, strict=True))
        random.random(), np.random.random()
    # Kernel, bias, gamma, beta, both statistics, and the state of the dropout.
    assert moved == len(before) == 7
    for variable, value in zip(model.variables, before, strict=True):
        np.testing.assert_array_equal(np.array(variable), value, strict=True)
    assert random.getstate() == drawn[0] and (np.random.get_state()[1] == drawn[1]).all()


def test_a_test_that_fails_leaves_nothing_either():
    rising = Rising(1e-3, 1.0, updates=20)
    model, data = small(rising)
    before = model.get_weights()
    with pytest.raises(KeyboardInterrupt), unchanged(model):
        record(model, data, rising)
        raise KeyboardInterrupt
    for now, then in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(now, then)


def curve(fall_at, rise_at, *, noise=0.0, depth=0.4, steps=100):
    """Return a curve that falls around one rate and rises at another."""
    rates = np.geomspace(1e-7, 10, steps)
    x = np.log10(rates)
    losses = 0.7 - depth / (1 + np.exp(-4 * (x - np.log10(fall_at))))
    losses = losses + np.exp(3 * (x - np.log10(rise_at)))
    losses = losses + noise * np.random.default_rng(0).normal(size=steps)
    keep = losses < 3
    return Curve(rates[keep], losses[keep])


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize(("fall_at", "rise_at"), [(1e-4, 1e-2), (1e-2, 1.0)])
@pytest.mark.parametrize("noise", [0.0, 0.03])
def test_the_rate_lies_where_the_loss_falls(rule, fall_at, rise_at, noise):
    found = RULES[rule](curve(fall_at, rise_at, noise=noise))
    assert fall_at / 4 < found < rise_at / 3


@pytest.mark.parametrize("rule", RULES)
def test_a_loss_that_never_falls_gives_no_rate(rule):
    rates = np.geomspace(1e-7, 10, 60)
    assert RULES[rule](Curve(rates, 0.7 + rates)) is None


def test_smoothing_does_not_lag():
    losses = np.where(np.arange(60) < 30, 1.0, 0.0)
    found = smoothed(losses)
    assert found[29] + found[30] == pytest.approx(1.0) and found[29] > 0.5 > found[30]
