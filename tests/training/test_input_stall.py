from __future__ import annotations

import time

import numpy as np
import pytest

from kerasft.data.order import Order
from kerasft.data.pipeline import Batches
from kerasft.data.store import Store
from kerasft.rows import Rows
from kerasft.training.input_stall import InputStall, input_bound


@pytest.mark.parametrize(("whole", "gathering", "augments", "said"), [
    (0.004, 0.001, True, ""),
    (0.008, 0.001, True, "augmentation"),
    (0.008, 0.007, True, "reading examples"),
    (0.008, 0.001, False, "reading examples"),
])  # fmt: skip
def test_the_reason_is_what_takes_the_time(whole, gathering, augments, said):
    notice = input_bound(0.01, gathering, whole, augments=augments)
    assert said in notice and bool(said) == bool(notice)
    if said:
        assert "8.0 ms a batch, of 10.0 ms" in notice


def trained(delay: float, *, steps_per_execution: int = 1, epochs: int = 2) -> list[str]:
    import keras
    import tensorflow as tf

    def augment(inputs, targets, epoch, indices):
        images = inputs["images"]
        wait = tf.numpy_function(lambda x: (time.sleep(delay), x)[1], [images], tf.float32)
        return {"images": tf.ensure_shape(wait, images.shape)}, targets

    store = Store.of({"images": np.zeros((240, 4, 4, 1), "float32")})
    batches = Batches(
        store, Rows.of({"labels": np.zeros((240, 1), "float32")}), order=Order(240, 8, seed=0),
        batch=lambda inputs, targets: (targets["labels"], None), augment=augment,
    )
    layers = [keras.Input((4, 4, 1)), keras.layers.Flatten(), keras.layers.Dense(1)]
    model = keras.Sequential(layers)
    model.compile("sgd", "mse", jit_compile=False, steps_per_execution=steps_per_execution)
    said: list[str] = []
    model.fit(
        batches.from_step(0), steps_per_epoch=30, epochs=epochs, verbose=0, shuffle=False,
        callbacks=[InputStall(batches, 0, said.append)],
    )
    return said


@pytest.mark.slow
def test_a_step_that_waits_for_its_input_is_told_once():
    (notice,) = trained(0.15)
    assert "augmentation" in notice


def test_a_step_that_does_not_wait_is_not():
    assert trained(0.0) == []


@pytest.mark.parametrize("steps_per_execution", [10, 30])
def test_epochs_of_few_executions_are_taken_together(steps_per_execution):
    # Three ends an epoch, or one; what lies between two epochs is no step.
    assert trained(0.0, steps_per_execution=steps_per_execution, epochs=12) == []
