"""A stage ends early where nothing gets better, and not before its schedule had its say."""

from __future__ import annotations

import math

import pytest

from kerasft.errors import UserError
from kerasft.training.callbacks import EarlyStopping
from kerasft.training.keep_best import KeepBest, ranks
from kerasft.training.schedules import constant, warmup_cosine

STEPS, EPOCHS = 10, 20


def ended(accuracies, losses, schedule=constant, **settings):
    """The epoch, counted from 1, after which a stage with these figures ends; `None` for none."""
    import keras

    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    optimizer = keras.optimizers.SGD(schedule(0.1, STEPS * EPOCHS))
    model.compile(optimizer, "mse")
    stop = EarlyStopping("val_accuracy", mode="max", **settings)
    stop.set_model(model)
    stop.set_params({"epochs": EPOCHS, "steps": STEPS})
    model.stop_training = False
    stop.on_train_begin()
    for epoch in range(EPOCHS):
        optimizer._iterations.assign(STEPS * (epoch + 1))
        last = min(epoch, len(losses) - 1)
        accuracy = accuracies[min(epoch, len(accuracies) - 1)]
        stop.on_epoch_end(epoch, {"val_accuracy": accuracy, "val_loss": losses[last]})
        if model.stop_training:
            return epoch + 1
    return None


def test_it_ends_where_neither_accuracy_nor_loss_gets_better():
    assert ended([0.5, 0.6], [1.0, 0.9], patience=3) == 5
    assert ended([0.5, 0.6], [1.0, 0.9, 1.2, 1.5], patience=0) == 3


def test_a_loss_that_falls_is_no_epoch_in_vain():
    falling = [1.0 - 0.02 * epoch for epoch in range(12)]
    assert ended([0.6], falling, patience=3) == 15
    # A fall that could be rounding counts for nothing.
    assert ended([0.6], [1.0 - 1e-6 * epoch for epoch in range(20)], patience=3) == 4


def test_while_the_rate_is_high_and_is_to_fall_nothing_ends():
    def cosine(rate, steps):
        return warmup_cosine(rate, steps, warmup=0.0)

    # The rate comes to a quarter of its peak after two thirds of the way.
    assert ended([0.6], [1.0], cosine, patience=3) == 14 + 3 - 1
    assert ended([0.6], [1.0], cosine, patience=3, at_rate=1.0) == 4


@pytest.mark.parametrize("share", [0.0, 1.5])
def test_what_is_no_share_is_refused(share):
    with pytest.raises(UserError, match=r"at_rate is a share of the peak learning rate.*Received"):
        EarlyStopping(at_rate=share)


def test_of_epochs_with_one_value_that_with_the_lowest_loss_is_the_best():
    import keras

    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    keep = KeepBest("val_accuracy", "max", None, top=2)
    keep.set_model(model)
    figures = [(0.5, 0.9), (0.8, 0.7), (0.8, 0.4), (0.8, 0.4), (0.8, 0.6), (0.8, math.nan)]
    for epoch, (accuracy, loss) in enumerate(figures):
        keep.on_epoch_end(epoch, {"val_accuracy": accuracy, "val_loss": loss})
    assert (keep.epoch, keep.best, keep.loss) == (3, 0.8, 0.4)
    again = KeepBest("val_accuracy", "max", None)
    again.set_model(model)
    again.set_state(keep.get_state())
    again.on_epoch_end(6, {"val_accuracy": 0.8, "val_loss": 0.5})
    assert again.epoch == 3
    again.on_epoch_end(7, {"val_accuracy": 0.8, "val_loss": 0.3})
    assert again.epoch == 8


def test_the_best_epochs_of_an_earlier_version_have_no_loss():
    assert [tuple(one) for one in ranks([[0.5, 3]])] == [(0.5, math.inf, 3)]
