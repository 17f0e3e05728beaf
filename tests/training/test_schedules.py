from __future__ import annotations

import math

import numpy as np
import pytest

from kerasft import testing
from kerasft.errors import UserError
from kerasft.training import schedules


def rates(schedule, steps: int) -> np.ndarray:
    return np.array([float(schedule(step)) for step in range(steps)])


def test_cosine_rises_in_a_line_and_falls_by_half_a_cosine():
    got = rates(schedules.warmup_cosine(0.2, 50, warmup=0.2, end=0.1), 60)
    rise = [0.2 * (step + 1) / 10 for step in range(10)]
    fall = [
        0.2 * (0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * min((step - 10) / 40, 1))))
        for step in range(10, 60)
    ]
    np.testing.assert_allclose(got, rise + fall, rtol=1e-5)
    assert got[0] == pytest.approx(0.02)  # no lost first step
    assert got[9] == got[10] == pytest.approx(0.2)


def test_linear_falls_in_a_line():
    got = rates(schedules.warmup_linear(0.1, 20, warmup=0.0), 25)
    np.testing.assert_allclose(got, [0.1 * max(1 - step / 20, 0) for step in range(25)], atol=1e-8)


def test_constant_stays():
    np.testing.assert_allclose(rates(schedules.constant(0.1, 9), 20), 0.1, rtol=1e-6)
    got = rates(schedules.constant(0.1, 10, warmup=0.2), 20)
    np.testing.assert_allclose(got, [0.05] + [0.1] * 19, rtol=1e-6)


def test_warmup_is_a_share_up_to_one_and_a_number_of_steps_above():
    assert schedules.warmup_linear(1.0, 200, warmup=0.25).warmup_steps == 50
    assert schedules.warmup_linear(1.0, 200, warmup=25).warmup_steps == 25
    assert rates(schedules.warmup_cosine(0.1, 1), 1)[0] > 0  # a stage of one step


def test_what_makes_no_sense_is_refused():
    with pytest.raises(UserError, match="warmup must not be negative"):
        schedules.constant(0.1, 10, warmup=-1)
    with pytest.raises(UserError, match="must be shorter than the stage, which has 10 steps"):
        schedules.warmup_cosine(0.1, 10, warmup=10)
    with pytest.raises(UserError, match="end is a share of the peak"):
        schedules.warmup_linear(0.1, 10, end=1.5)


def test_one_cycle_rises_and_falls_along_cosines():
    got = rates(schedules.one_cycle(0.1, 100), 100)
    assert got[0] == pytest.approx(0.004) and got.argmax() == 25
    assert got[25] == pytest.approx(0.1) and got[-1] < 1e-4
    assert (np.diff(got[:26]) > 0).all() and (np.diff(got[25:]) < 0).all()
    again = schedules.OneCycle.from_config(schedules.one_cycle(0.1, 100).get_config())
    np.testing.assert_array_equal(rates(again, 100), got)
    with pytest.raises(UserError, match=r"schedule\.start is a share of the peak"):
        schedules.one_cycle(0.1, 100, start=0)


@pytest.mark.parametrize("name", ["constant", "warmup_cosine", "warmup_linear", "one_cycle"])
def test_the_contract(name):
    testing.check_schedule(getattr(schedules, name))


def test_an_optimizer_follows_it_and_comes_back_with_it():
    import keras

    schedule = schedules.warmup_linear(0.1, 10, warmup=0.0)
    optimizer = keras.optimizers.SGD(schedule)
    weight = keras.Variable([1.0])
    optimizer.build([weight])
    seen = []
    for _ in range(3):
        before = weight.numpy()[0]
        optimizer.apply([np.ones(1, "float32")], [weight])
        seen.append(before - weight.numpy()[0])
    np.testing.assert_allclose(seen, [0.1, 0.09, 0.08], rtol=1e-5)
    again = keras.optimizers.deserialize(keras.optimizers.serialize(optimizer))
    assert again.get_config() == optimizer.get_config()
