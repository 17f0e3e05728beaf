"""The contract tests themselves: they pass on our parts and fail on broken ones."""

from __future__ import annotations

import dataclasses
from functools import partial

import numpy as np
import pytest

from kerasft import testing
from kerasft.data import sampling, words
from kerasft.exporters.saved_model import saved_model
from kerasft.model import adapters
from kerasft.model.heads import tokens
from kerasft.spec import Labels
from kerasft.tasks.classification import Classification
from kerasft.tasks.multi_label import MultiLabel
from kerasft.tasks.multi_regression import MultiRegression
from kerasft.tasks.regression import Regression


@pytest.mark.parametrize("kind", ["single", "multi", "number"])
@pytest.mark.parametrize("modality", ["images", "text"])
def test_the_tiny_splits_keep_the_contract(modality, kind):
    splits = testing.tiny_splits(modality, kind)
    testing.check_data(splits)
    again = testing.tiny_splits(modality, kind)
    assert list(again.train.inputs) == list(splits.train.inputs)
    assert len(splits.train) == 2 * len(splits.test) == 24


@pytest.mark.parametrize(("change", "message"), [
    ({"annotations": np.zeros(24, "int32")}, "must be int64"),
    ({"annotations": np.full(24, 7)}, "labels without a name"),
    ({"ids": ("a",) * 24}, "ids of train must differ"),
    ({"ids": tuple(f"test {i}" for i in range(24))}, "not again in test"),
    ({"inputs": [1] * 24}, "Texts must be str or pairs"),
])  # fmt: skip
def test_broken_data_fails(change, message):
    splits = testing.tiny_splits("text")
    broken = dataclasses.replace(splits, train=dataclasses.replace(splits.train, **change))
    with pytest.raises(AssertionError, match=message):
        testing.check_data(broken)


TASKS = [
    (Classification(), Labels("single", ("a", "b"))), (Regression(), Labels("number")),
    (MultiLabel(), Labels("multi", ("a", "b"))),
    (MultiRegression(), Labels("numbers", ("width", "height", "depth"))),
]  # fmt: skip


@pytest.mark.parametrize(("task", "labels"), TASKS)
def test_tasks(task, labels):
    testing.check_task(task, labels)
    with pytest.raises(AssertionError, match="The task is for"):
        other = Labels("number") if labels.kind != "number" else Labels("single", ("a", "b"))
        testing.check_task(task, other)


class Emptied:
    changes_texts = True

    def __call__(self, text, random):
        return text[: random.randrange(2)]


class Unsteady:
    changes_texts = True

    def __call__(self, text, random):
        Unsteady.calls = getattr(Unsteady, "calls", 0) + 1
        return f"{text} {Unsteady.calls}"


@pytest.mark.parametrize(("step", "message"), [
    (Emptied(), "must not leave a text empty"), (Unsteady(), "must come from the random.Random"),
    (lambda text, random: text, "changes_texts = True"),
])  # fmt: skip
def test_steps_for_texts(step, message):
    for one in (words.DeleteWords(), words.SwapWords(rate=1.0, share=1.0, stop=-3)):
        testing.check_text_step(one)
    with pytest.raises(AssertionError, match=message):
        testing.check_text_step(step)


def test_ways_to_draw_examples():
    testing.check_sampling(sampling.AsItIs())
    testing.check_sampling(sampling.Balanced(0.5, threshold=0.3))

    class Short:
        def rates(self, presence):
            return np.ones(3)

    with pytest.raises(AssertionError, match="give each example a rate"):
        testing.check_sampling(Short())


class Upside(Classification):
    def compile(self):
        made = super().compile()
        return {**made, "loss": lambda targets, logits: -made["loss"](targets, logits)}


def test_a_task_with_a_wrong_loss_fails():
    with pytest.raises(AssertionError, match="loss of right logits"):
        testing.check_task(Upside(), Labels("single", ("a", "b")))


@pytest.mark.parametrize("name", ["AdamW", "SGD", "Lion", "Muon", "Adafactor"])
def test_optimizers(name):
    import keras

    testing.check_optimizer(getattr(keras.optimizers, name)(1e-2))


def test_parts_that_are_no_such_part_fail():
    for check, message in (
        (testing.check_data, "must return Splits"), (testing.check_backbone, "return a Backbone"),
        (testing.check_optimizer, "must be a keras.optimizers"),
        (testing.check_callback, "must be a keras.callbacks"),
    ):  # fmt: skip
        with pytest.raises(AssertionError, match=message):
            check("nothing")


def test_augmentation_that_cuts_or_has_a_memory_fails():
    import keras

    class Counting(keras.layers.Layer):
        def __init__(self):
            super().__init__()
            self.count = self.add_weight(shape=(), initializer="zeros")

        def call(self, x):
            return x * 0 + self.count.value.assign_add(1.0)

    with pytest.raises(AssertionError, match="must keep the size"):
        testing.check_augment(keras.layers.CenterCrop(8, 8))
    with pytest.raises(AssertionError, match="must come out alike"):
        testing.check_augment(Counting(), (8, 8))


def test_heads_that_break_their_promise_fail():
    import keras

    def half(features, *, units):
        pooled = keras.layers.GlobalAveragePooling1D(name="head_pool")(features.sequence)
        return keras.layers.Dense(units, dtype="mixed_bfloat16", name="head_out")(pooled)

    def too_wide(features, *, units):
        return keras.layers.Dense(units + 1)(features.sequence[:, 0])

    def seeing_padding(features, *, units):
        x = keras.ops.mean(features.sequence, axis=1)
        return keras.layers.Dense(units, name="head_out")(x)

    for head, message in ((half, "must be float32"), (too_wide, "must be .*units")):
        with pytest.raises(AssertionError, match=message):
            testing.check_head(head)
    with pytest.raises(AssertionError):
        testing.check_head(seeing_padding)


def test_heads_of_any_names_and_outputs_keep_the_contract():
    import keras

    def several(features, *, widths):
        first = keras.layers.Dense(4, name="mine")(features.sequence[:, 0])
        return {name: keras.layers.Dense(width)(first) for name, width in widths.items()}

    testing.check_head(several, widths={"a": 2, "b": 5})
    testing.check_head(tokens.tokens, tags=5)


def test_schedules_that_lose_the_first_step_fail():
    import keras

    def zero_first(learning_rate, total_steps):
        return keras.optimizers.schedules.CosineDecay(
            0.0, total_steps, warmup_target=learning_rate, warmup_steps=10
        )

    with pytest.raises(AssertionError, match="first step must not be lost"):
        testing.check_schedule(zero_first)


def test_callbacks():
    import keras

    class Half(keras.callbacks.Callback):
        def get_state(self):
            return {}

    testing.check_callback(keras.callbacks.EarlyStopping("val_loss"))
    with pytest.raises(AssertionError, match="both get_state and set_state"):
        testing.check_callback(Half())


@pytest.mark.slow
def test_adapters():
    for adapt in (adapters.norm, adapters.bias, partial(adapters.lora, rank=1)):
        testing.check_adapter(adapt)
    with pytest.raises(AssertionError, match="must return the model that it was given"):
        testing.check_adapter(lambda model: None)
    with pytest.raises(AssertionError, match="must say what of the backbone may train"):
        testing.check_adapter(lambda model: model)


@pytest.mark.slow
def test_regularizers_must_return_the_model():
    with pytest.raises(AssertionError, match="must return the model"):
        testing.check_regularizer(lambda model: None)


@pytest.mark.slow
def test_the_export_keeps_the_contract(tmp_path):
    made = testing.check_export(saved_model, tmp_path)
    assert (made / "saved_model.pb").is_file()
    with pytest.raises(AssertionError, match="inside its directory"):
        testing.check_export(lambda **given: tmp_path / "elsewhere", tmp_path / "x")
