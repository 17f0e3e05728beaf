"""Class weights: balanced, and `auto`; with focal loss, smoothing and mixed labels."""

from __future__ import annotations

import json

import numpy as np
import pytest

from kerasft.errors import UserError
from kerasft.rows import Rows
from kerasft.spec import Labels
from kerasft.tasks import class_weights, shared
from kerasft.tasks.class_weights import EVEN, effective, of_classes, of_labels
from kerasft.tasks.classification import Classification
from kerasft.tasks.multi_label import MultiLabel

SINGLE = Labels("single", ("ham", "spam", "scam"))
MULTI = Labels("multi", ("joy", "fear", "awe"))
RNG = np.random.default_rng(0)


def labelled(*counts: int) -> Rows:
    return Rows.of({"label": np.repeat(np.arange(len(counts)), counts)})


def several(*counts: int, examples: int) -> Rows:
    y = np.zeros((examples, len(counts)), "float32")
    for unit, count in enumerate(counts):
        y[:count, unit] = 1
    return Rows.of({"label": y})


def test_effective_numbers_are_those_of_the_paper():
    # (1 - b^n) / (1 - b) is the sum of b^i for i below n.
    assert effective(np.array([3]))[0] == pytest.approx(1 + 0.999 + 0.999**2)
    assert effective(np.array([1]))[0] == pytest.approx(1)


def test_auto_weighs_by_effective_numbers_and_keeps_the_mean():
    counts = np.array([3000, 300, 0])
    weights = of_classes("auto", counts)
    assert weights[1] / weights[0] == pytest.approx(effective(counts)[0] / effective(counts)[1])
    assert (weights * counts).sum() == pytest.approx(3300)
    assert weights[2] == 1  # nothing is known of a class without examples
    balanced = of_classes("balanced", counts)
    assert balanced[1] / balanced[0] == pytest.approx(10)
    assert weights[1] / weights[0] < 4
    assert (balanced * counts).sum() == pytest.approx(3300)


@pytest.mark.parametrize(("counts", "weighs"), [
    ((100, 100), False), ((100, 70), False), ((100, 60), True), ((50_000, 5_000), False),
    ((5_000, 500), True), ((7,), False), ((0, 0), False),
])  # fmt: skip
def test_auto_weighs_only_where_classes_are_unequal_enough(counts, weighs):
    there = effective(np.array([count for count in counts if count] or [1]))
    assert (there.max() > EVEN * there.min()) == weighs
    assert bool(np.ptp(of_classes("auto", np.array(counts)))) == weighs


def test_each_of_several_labels_is_weighed_by_itself():
    weights = of_labels("auto", np.array([480, 50, 0, 1000]), 1000)
    with_it, without = weights
    assert with_it[0] == without[0] == 1  # nearly half of the examples have it
    ratio = effective(np.array([950]))[0] / effective(np.array([50]))[0]
    assert with_it[1] / without[1] == pytest.approx(ratio) and ratio > 10
    assert 50 * with_it[1] + 950 * without[1] == pytest.approx(1000)
    assert with_it[2:].tolist() == without[2:].tolist() == [1, 1]  # all have it, or none


def test_a_task_learns_its_weights_from_the_training_split():
    rows = labelled(900, 90, 10)
    task = Classification(class_weight="auto").adapt(rows)
    assert task.counts == (900, 90, 10)
    found = task.targets(rows, SINGLE, training=True)["weight"]
    np.testing.assert_allclose(found, task.weights(SINGLE)[rows["label"]], rtol=1e-6)
    assert found.mean() == pytest.approx(1) and found[-1] > 5 * found[0]
    assert "weight" not in task.targets(rows, SINGLE)
    assert Classification().adapt(rows) == Classification()
    rows = several(480, 50, 5, examples=1000)
    many = MultiLabel(class_weight="auto").adapt(rows)
    np.testing.assert_allclose(
        many.weights(MULTI), of_labels("auto", np.array([480, 50, 5]), 1000), rtol=1e-6
    )
    for one, labels in ((task, SINGLE), (many, MULTI)):
        again = shared.load(json.loads(json.dumps(one.to_dict())))
        np.testing.assert_allclose(again.weights(labels), one.weights(labels))


def test_what_was_chosen_is_told():
    task = Classification(class_weight="auto").adapt(labelled(900, 90, 10))
    said = class_weights.described(task, SINGLE)
    assert said.startswith("task.class_weight=auto: weights: ham 0.")
    assert ", scam " in said
    even = Classification(class_weight="auto").adapt(labelled(30, 30, 29))
    assert "all count alike" in class_weights.described(even, SINGLE)
    many = MultiLabel(class_weight="auto").adapt(several(480, 50, 5, examples=1000))
    said = class_weights.described(many, MULTI)
    assert "weights with / without the label: joy 1 / 1, fear " in said
    for other in (Classification(), Classification(class_weight="balanced"), object()):
        assert class_weights.described(other, SINGLE) == ""
    names = tuple(f"c{i:02}" for i in range(20))
    task = Classification(class_weight="auto").adapt(labelled(*range(400, 0, -20)))
    said = class_weights.described(task, Labels("single", names))
    assert "c00" in said and "c19" in said and "c10" not in said and said.endswith("(of 20)")


def test_a_word_that_is_none_is_refused():
    for task in (Classification, MultiLabel):
        with pytest.raises(UserError, match=r"null, 'balanced', 'auto' or a mapping.*'auto'\?"):
            task(class_weight="atuo")


@pytest.mark.parametrize("rule", ["auto", "balanced", {"spam": 4.0}])
def test_mixed_labels_weigh_what_their_classes_do_by_their_shares(rule):
    import tensorflow as tf

    rows = labelled(60, 30, 10)
    task = Classification(class_weight=rule).adapt(rows)
    weights = task.weights(SINGLE)
    given = task.targets(rows, SINGLE, training=True).gather(np.array([0, 95]))
    whole = task.shares({n: tf.constant(v) for n, v in given.items()}, SINGLE)
    # As they are, labels that could be mixed weigh the same to the last bit.
    y, plain = task.batch(None, {n: tf.constant(v) for n, v in given.items()}, SINGLE)
    again, weighed = task.batch(None, whole, SINGLE)
    np.testing.assert_array_equal(y, again)
    np.testing.assert_array_equal(plain, weighed)
    mixed = {**whole, "labels": 0.7 * whole["labels"] + 0.3 * whole["labels"][::-1]}
    _, found = task.batch(None, mixed, SINGLE)
    share = np.array([[0.7, 0.0, 0.3], [0.3, 0.0, 0.7]])
    np.testing.assert_allclose(found, share @ weights, rtol=1e-6)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("rule", [None, "auto", {"fear": 3.0}])
def test_focal_loss_of_several_labels_with_weights_and_smoothing(rule, smoothing):
    import tensorflow as tf

    rows = several(500, 60, 9, examples=1000)
    task = MultiLabel(loss="focal", class_weight=rule, label_smoothing=smoothing).adapt(rows)
    logits = RNG.normal(size=(5, 3)).astype("float32") * 2
    y = (RNG.random((5, 3)) < 0.5).astype("float32")
    targets = {"labels": tf.constant(y)} | ({"weighted": tf.ones(5, bool)} if rule else {})
    learned, weights = task.batch(None, targets, MULTI)
    found = float(task.compile()["loss"](learned, tf.constant(logits), sample_weight=weights))
    # Lin et al. 2017, term by term, for labels drawn towards one half.
    soft = y * (1 - smoothing) + smoothing / 2
    p = sigmoid(logits)
    crossentropy = -(soft * np.log(p) + (1 - soft) * np.log(1 - p))
    near = soft * p + (1 - soft) * (1 - p)
    each = (1 - near) ** 2 * crossentropy
    if rule is not None:
        with_it, without = task.weights(MULTI)
        assert np.ptp(with_it) > 0
        each = each * np.where(y > 0, with_it, without)
    assert found == pytest.approx(each.sum(axis=1).mean(), rel=1e-4)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_focal_loss_of_one_class_with_weights_and_smoothing(smoothing):
    import tensorflow as tf

    rows = labelled(60, 30, 10)
    task = Classification(loss="focal", class_weight="auto", label_smoothing=smoothing).adapt(rows)
    targets = task.targets(rows, SINGLE, training=True).gather(np.array([0, 70, 95]))
    learned, weights = task.batch(None, {n: tf.constant(v) for n, v in targets.items()}, SINGLE)
    logits = RNG.normal(size=(3, 3)).astype("float32")
    found = float(task.compile()["loss"](learned, tf.constant(logits), sample_weight=weights))
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    soft = np.eye(3) * (1 - smoothing) + smoothing / 3
    each = (0.25 * (1 - p) ** 2 * -soft * np.log(p)).sum(axis=1)
    weights = np.asarray(weights)
    assert np.ptp(weights) > 0
    assert found == pytest.approx((each * weights).mean(), rel=1e-4)


@pytest.mark.parametrize("task", [MultiLabel(loss="focal"), Classification(loss="focal")])
def test_focal_loss_teaches_what_is_far_off(task):
    import tensorflow as tf

    logits = tf.Variable([[-40.0, 40.0], [40.0, -40.0]])
    y = tf.constant([[1.0, 0.0], [1.0, 0.0]])
    with tf.GradientTape() as tape:
        loss = task.compile()["loss"](y, logits)
    gradient = tape.gradient(loss, logits).numpy()
    assert np.isfinite(gradient).all() and np.isfinite(loss)
    # The first example is as wrong as can be: its logits must move.
    assert gradient[0, 0] < 0 < gradient[0, 1], gradient
