"""A loss that is looked at late ends a run, or sends it back, as one that is looked at at once."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf

import kerasft
from kerasft.errors import UserError
from kerasft.training.checkpoint import Position, State
from kerasft.training.faults import Fault, Policy, Watch
from kerasft.training.lagging import end_of_step, lag_of
from kerasft.training.recorder import AtStage, Recorder, Remarks

DIVERGING = (
    "optimizer._target_=keras.optimizers.SGD", "~optimizer.weight_decay",
    "~optimizer.global_clipnorm", "optimizer.learning_rate=1e4", "schedule=constant",
    "batch_size=5", "epochs=3",
)  # fmt: skip


def a_watch(lag: int, **more) -> Watch:
    watch = Watch(Policy(lag=lag, **more), "abcdefgh", None, lambda line: None)
    watch.begin(SimpleNamespace(), lambda epoch, step: step, 1)
    watch.on_epoch_begin(2)
    return watch


def told(watch: Watch, *losses: float) -> Fault | None:
    try:
        for step, loss in enumerate(losses):
            watch.on_train_batch_begin(step)
            watch.on_train_batch_end(step, {"loss": loss})
    except Fault as fault:
        return fault
    return None


@pytest.mark.parametrize("lag", [0, 1, 3])
def test_a_late_look_names_the_step_that_was_bad(lag):
    watch = a_watch(lag)
    fault = told(watch, 1.0, math.nan, 1.0, 1.0, 1.0)
    assert (fault.epoch, fault.first, fault.last) == (2, 1, 1)
    assert not watch.late, "what came after it is looked at no more"


def test_what_was_not_looked_at_is_at_the_end_of_an_epoch():
    watch = a_watch(2)
    assert told(watch, 1.0, math.inf) is None
    with pytest.raises(Fault, match="at step 2 of epoch 3"):
        watch.on_epoch_end(2)


def test_a_stage_that_begins_anew_has_nothing_left_to_look_at():
    watch = a_watch(2)
    told(watch, math.nan)
    watch.begin(SimpleNamespace(), lambda epoch, step: step, 1)
    watch.settle()


def recording(watch: Watch, saver=None) -> Recorder:
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    made = Recorder(
        model, saver, {"watch": watch}, watch=watch, replay=None, stopped=[],
        stage=AtStage("full", 2, 1, {}), remarks=Remarks(lambda line: None, set()),
    )
    watch.set_model(model)
    return made


def test_no_state_is_noted_before_its_loss_was_looked_at():
    watch = a_watch(1, action="skip", every=2)
    record = recording(watch)
    told(watch, 1.0, math.nan)
    with pytest.raises(Fault):
        record.at(2, 2)
    assert not watch.notes


def test_no_checkpoint_is_written_before_its_loss_was_looked_at():
    written = []
    saver = SimpleNamespace(
        begin=lambda size: None, due=lambda steps, size: True, save=written.append,
        stop_if_asked=lambda position: None,
    )  # fmt: skip
    watch = a_watch(1)
    record = recording(watch, saver)
    told(watch, 1.0)
    record.at(2, 1)
    assert len(written) == 1
    told(watch, math.nan)
    with pytest.raises(Fault):
        record.at(2, 2)
    assert len(written) == 1


def test_sums_are_those_of_their_own_step():
    """The tracker goes on while its values wait to be read."""
    found = {}
    for lag in (0, 2):
        keras.utils.set_random_seed(0)
        watch = a_watch(lag, action="skip", blow_up=50)
        model = recording(watch).model
        x = np.linspace(0, 1, 16, dtype="float32")[:, None]
        model.make_train_function()
        batches = iter(tf.data.Dataset.from_tensor_slices((x, x)).batch(4).repeat())
        for step in range(6):
            watch.on_train_batch_begin(step)
            watch.on_train_batch_end(step, model.train_function(batches))
        watch.settle()
        found[lag] = list(watch.losses)
    assert len(set(found[0])) == 6
    assert found[2] == found[0]


def test_only_those_of_others_are_given_numbers():
    given = {}

    class Theirs(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            given["theirs"] = logs["loss"]

    class Silent(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            raise AssertionError

    ours = a_watch(1)
    lambdas = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: given.update(lambdas=logs["loss"])
    )
    tell = end_of_step(SimpleNamespace(callbacks=[ours, Theirs(), Silent(), lambdas]))
    loss = keras.ops.convert_to_tensor(0.5)
    tell(0, {"loss": loss})
    assert given == {"theirs": 0.5, "lambdas": 0.5}
    assert all(type(value) is float for value in given.values())
    ((step, held, _),) = ours.late
    assert (step, held is loss) == (0, True)


def test_on_a_processor_nothing_is_late():
    assert (lag_of(None), lag_of(0), lag_of(2)) == (0, 0, 2)
    with pytest.raises(UserError, match=r"faults\.lag must not be negative.*lag=-1"):
        Policy(lag=-1)


def faults_of(run: str) -> list[dict]:
    return [json.loads(line) for line in Path(run, "logs", "faults.jsonl").read_text().splitlines()]


@pytest.fixture
def prices(tiny_texts) -> tuple[str, ...]:
    """Overrides of a run on 120 texts with a number each, one of which has lost its comma."""
    rows = [(f"number {i} is {'good' if i % 2 else 'bad'}", i % 2 + i / 1000) for i in range(120)]
    rows[77] = ("the odd one", 1e9)
    with open("prices.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("text", "label"), *rows])
    rest = [o for o in tiny_texts if not o.startswith(("data.path", "epochs"))]
    return (*rest, "data.path=prices.csv", "task=regression", "epochs=3", "callbacks=none")


@pytest.mark.slow
@pytest.mark.parametrize("action", ["skip", "rollback"])
def test_a_run_that_goes_back_ends_the_same_however_late_it_looks(prices, tiny_images, action):
    words = {
        "skip": [*prices, "faults.every=4"],  # notes between the fault and its late look
        "rollback": [*tiny_images, *DIVERGING, "faults.lower=1e-3", "faults.every=2"],
    }[action]
    found = {}
    for lag in (0, 2):
        result = kerasft.train(
            [*words, f"faults={action}", f"faults.lag={lag}", f"output_dir=run{lag}"]
        )
        weights = [np.asarray(one) for one in result.finetuned.model.get_weights()]
        rows = [{k: v for k, v in row.items() if "seconds" not in k} for row in result.history.rows]
        found[lag] = (faults_of(f"run{lag}"), rows, weights)
    assert found[0][0], "there were faults to find"
    assert found[2][:2] == found[0][:2]
    for one, other in zip(found[2][2], found[0][2], strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.slow
def test_a_run_that_ends_names_the_same_examples_however_late_it_looks(tiny_images):
    for lag in (0, 2):
        with pytest.raises(UserError, match=r"The training loss became"):
            kerasft.train([*tiny_images, *DIVERGING, f"faults.lag={lag}", f"output_dir=run{lag}"])
    assert faults_of("run0") == faults_of("run2")


def test_a_state_holds_the_losses_up_to_its_step():
    watch = a_watch(2, action="skip", every=3, blow_up=50)
    watch.set_model(SimpleNamespace(_loss_tracker=SimpleNamespace(
        total=keras.Variable(3.0), count=keras.Variable(3.0)
    )))  # fmt: skip
    told(watch, 1.0, 1.0, 1.0)
    watch.settle()
    watch.note(State(Position("full", 0, 0, 3), {"callbacks": {"watch": watch.get_state()}}, {}))
    assert len(watch.notes[-1].plain["callbacks"]["watch"]["losses"]) == 3
