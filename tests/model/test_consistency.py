"""R-Drop: the loss of two passes, for each kind of task."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from kerasft.errors import UserError
from kerasft.model import regularize, tiny
from kerasft.model.assemble import assemble
from kerasft.model.heads import pooled
from kerasft.model.regularizing.consistency import require_random
from kerasft.spec import Labels
from kerasft.tasks.classification import Classification
from kerasft.tasks.multi_label import MultiLabel
from kerasft.tasks.multi_regression import MultiRegression
from kerasft.tasks.regression import Regression
from kerasft.tasks.segmentation import Segmentation
from kerasft.training import frozen
from kerasft.training.stages import Stage, select

LABELS = Labels("single", ("a", "b", "c"))
TEXTS = ["a good film", "a bad one", "a long and dull film"]


def model_of(units: int, dropout: float = 0.1):
    made = tiny.text("bert", layers=1)
    model = assemble(made, lambda f: pooled.linear(f, units=units, dropout=dropout))
    return model, made.preprocess(TEXTS)


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def kl(p, q):
    return (p * np.log(p / q)).sum(-1)


def of_classes(one, other):
    p, q = softmax(one), softmax(other)
    return (kl(p, q) + kl(q, p)) / 2


def of_labels(one, other):
    pairs = [np.stack([x, np.zeros_like(x)], -1) for x in (one, other)]
    return of_classes(*pairs)


def of_numbers(one, other):
    return ((one - other) ** 2).mean(-1)


Y = np.eye(3, dtype="float32")
CASES = {
    "classes, weighed": (Classification(), Y, np.array([1, 2, 0.5], "float32"), of_classes),
    "classes": (Classification(), Y, None, of_classes),
    "labels, weighed": (
        MultiLabel(class_weight={"a": 3.0}), Y, np.array([[3, 1, 1]] * 3, "float32"), of_labels,
    ),
    "labels": (MultiLabel(), Y, None, of_labels),
    "a number": (Regression(), Y[:, :1], None, of_numbers),
    "numbers": (MultiRegression(), Y, None, of_numbers),
}  # fmt: skip


def seeds_of(model):
    return [v for v in model.variables if "seed" in v.path.rpartition("/")[2]]


@pytest.mark.every(6)
@pytest.mark.parametrize("case", CASES)
def test_the_loss_is_that_of_both_passes_and_what_is_between_them(case):
    task, y, weights, apart = CASES[case]
    model, x = model_of(y.shape[1])
    model.compile("sgd", **task.compile())
    first = model(x, training=True)
    before = [v.numpy() for v in seeds_of(model)]
    second = model(x, training=True)
    alone = [float(model.compute_loss(x, y, each, weights)) for each in (first, second)]
    regularize.r_drop(model, task=task, alpha=2.0)
    for variable, value in zip(seeds_of(model), before, strict=True):
        variable.assign(value)
    found = float(model.compute_loss(x, y, first, weights, training=True))
    each = apart(*(np.asarray(one, "float64") for one in (first, second)))
    each = each if weights is None else each * weights
    wanted = np.mean(alone) + 2.0 * (each.sum(-1) if each.ndim > 1 else each).mean()
    assert each.max() > 1e-5
    assert found == pytest.approx(wanted, rel=1e-4)
    # In inference there is one pass.
    assert float(model.compute_loss(x, y, first, weights, training=False)) == (
        pytest.approx(alone[0], rel=1e-6)
    )


@pytest.mark.slow
def test_penalties_on_weights_count_once():
    model, x = model_of(3)
    regularize.l2(model, strength=1.0)
    regularize.r_drop(model, task=Classification(), alpha=0.0)
    model.compile("sgd", **Classification().compile())
    penalty = float(sum(model.losses))
    found = float(model.compute_loss(x, Y, model(x, training=True), None, training=True))
    assert found == pytest.approx(penalty + np.log(3), abs=0.3)
    assert penalty > 1


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["mixed_bfloat16", "float32"])
def test_the_compiled_step_learns_to_agree(policy):
    keras.utils.set_random_seed(0)
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        model, x = model_of(3, dropout=0.5)
    finally:
        keras.config.set_dtype_policy(before)
    task, y = Classification(), np.full((3, 3), 1 / 3, "float32")
    regularize.r_drop(model, task=task, alpha=5.0)
    model.compile(keras.optimizers.Adam(1e-2, gradient_accumulation_steps=2), **task.compile())

    def apart() -> float:
        pairs = [(model(x, training=True), model(x, training=True)) for _ in range(8)]
        return float(np.mean([task.disagreement(*pair) for pair in pairs]))

    start = apart()
    for _ in range(20):
        model.train_on_batch(x, y)
    assert apart() < 0.8 * start


@pytest.mark.slow
def test_a_network_without_any_dropout_is_refused():
    model, _ = model_of(3, dropout=0.0)
    regularize.dropout(model, rate=0.0)
    regularize.r_drop(model, task=Classification())
    with pytest.raises(UserError, match=r"r_drop compares two passes with different dropout, and "
                       r"this network has no dropout at all\. Set head\.dropout=0\.1"):  # fmt: skip
        require_random(model)
    regularize.stochastic_depth(model)
    require_random(model)


@pytest.mark.slow
def test_a_stage_in_which_nothing_is_random_makes_one_pass(capsys):
    model, x = model_of(3, dropout=0.0)
    regularize.r_drop(model, task=Classification())
    select(model, Stage("head"), pretrained=True)
    cut = frozen.cut(model)
    model.compile("sgd", **Classification().compile())
    with model.entered(cut):
        plain = float(model.train_on_batch(x, Y)[0])
    assert "what trains here has no dropout" in capsys.readouterr().err
    assert plain == pytest.approx(np.log(3), abs=0.5)


@pytest.mark.slow
def test_a_task_whose_answers_cannot_be_compared_is_refused():
    model, _ = model_of(3)
    with pytest.raises(UserError, match=r"Segmentation has no `disagreement`"):
        regularize.r_drop(model, task=Segmentation())
