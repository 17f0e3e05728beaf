"""Temperatures and thresholds do what they say, on the examples that they were tuned on."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kerasft.errors import UserError
from kerasft.evaluation import calibration
from kerasft.rows import Rows
from kerasft.spec import Decision, Labels
from kerasft.tasks.classification import Classification
from kerasft.tasks.multi_label import MultiLabel
from kerasft.tasks.regression import Regression

TWO, THREE = Labels("single", ("no", "yes")), Labels("single", ("a", "b", "c"))


def kept(y, logits):
    """Return labels and logits as a run keeps them."""
    return Rows.of({"label": np.asarray(y)}), Rows.of({"logits": np.asarray(logits, "float32")})


def drawn(classes: int, count: int = 4000, heat: float = 1.0, seed: int = 0):
    """Labels drawn from the softmax of logits, which are then `heat` times too large."""
    random = np.random.default_rng(seed)
    logits = random.normal(size=(count, classes)) * 2
    p = calibration._softmax(logits, 1.0)
    y = (random.random((count, 1)) > p.cumsum(axis=-1)).sum(axis=-1)
    return y, (logits * heat).astype("float32")


@pytest.mark.parametrize("heat", [0.5, 1.0, 3.0])
def test_the_temperature_is_found(heat):
    y, logits = drawn(3, heat=heat)
    decision = Classification().decide(*kept(y, logits), THREE, temperature="auto")
    assert decision.temperature == pytest.approx(heat, rel=0.1)
    found = decision.validation
    assert found["log_loss"]["after"] <= found["log_loss"]["before"] + 1e-9
    if heat != 1.0:
        assert found["calibration_error"]["after"] < found["calibration_error"]["before"] / 2


def test_the_temperature_is_the_best_of_a_grid():
    y, logits = drawn(4, heat=2.2, seed=3)
    found = Classification().decide(
        *kept(y, logits), Labels("single", tuple("abcd")), temperature="auto"
    ).temperature

    def loss(t):
        return calibration._log_loss(y, calibration._softmax(logits, t))

    assert loss(found) <= min(map(loss, np.geomspace(0.1, 10, 400))) + 1e-6


def test_the_log_loss_is_that_of_rows_of_0_and_1():
    y, logits = drawn(4, seed=5)
    p = calibration._softmax(logits, 1.3)
    rows = -(np.eye(4)[y] * np.log(np.maximum(p, calibration._TINY))).sum(axis=-1).mean()
    assert calibration._log_loss(y, p) == pytest.approx(rows, abs=1e-12, rel=0)


def test_a_temperature_changes_no_label():
    _, logits = drawn(3)
    outputs = Classification().answers(logits, THREE)
    hot = Classification().answers(logits, THREE, Decision(4.0))
    assert outputs["label"].numpy().tolist() == hot["label"].numpy().tolist()
    multi, labels = MultiLabel(threshold=0.3), Labels("multi", THREE.names)
    before = multi.answers(logits, labels)["labels"].numpy()
    after = multi.answers(logits, labels, Decision(4.0))["labels"].numpy()
    # The threshold moves along, but for what lies on it within the rounding.
    near = np.abs(1 / (1 + np.exp(-logits)) - 0.3) < 1e-5
    assert ((before == after) | near).all()


GOALS = st.sampled_from(["f1", "recall", "precision"])


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 8)), min_size=1, max_size=30), GOALS,
       st.sampled_from([0.3, 0.5, 0.9, 1.0]))
def test_no_threshold_does_better(rows, kind, least):
    true = np.array([one for one, _ in rows])
    p = np.array([step / 8 for _, step in rows], np.float32)

    def figures(cut):
        found = calibration._figures(true, p >= np.float32(cut))
        allowed = kind == "f1" or found[kind] >= least
        aim = {"f1": "f1", "recall": "precision", "precision": "recall"}[kind]
        return found[aim] if allowed and (p >= np.float32(cut)).any() else -1.0

    best = max(figures(cut) for cut in np.arange(0, 9) / 8)
    found = calibration.threshold(true, p, kind, least)
    if found is None:
        assert best < 0 or not true.any()
    else:
        assert figures(found) == pytest.approx(best)


@pytest.mark.parametrize(("goal", "least"), [("f1", None), ("recall", 0.9), ("precision", 0.9)])
def test_two_classes_are_decided_at_the_goal(goal, least):
    y, logits = drawn(2)
    task = Classification()
    decision = task.decide(*kept(y, logits), TWO, goal=goal, at_least=least)
    assert decision.positive == 1
    label = task.answers(logits, TWO, decision)["label"].numpy() == b"yes"
    found = calibration._figures(y == 1, label)
    said = decision.validation["classes"]["yes"]
    assert found == pytest.approx(said)
    assert found[goal] >= (least or 0)
    other = task.decide(*kept(y, logits), TWO, goal=goal, at_least=least, positive="no")
    assert other.positive == 0
    plain = {"temperature": 1.0, "goal": goal, "at_least": least, "positive": "no",
             "thresholds": {"no": other.thresholds[0]}}
    assert {k: v for k, v in other.to_dict(TWO).items() if k != "validation"} == plain


def test_one_of_several_classes_may_be_the_positive_one():
    y, logits = drawn(3)
    task = Classification()
    decision = task.decide(*kept(y, logits), THREE, goal="recall", at_least=0.95, positive="b")
    outputs = task.answers(logits, THREE, decision)
    label = outputs["label"].numpy()
    assert calibration._figures(y == 1, label == b"b")["recall"] >= 0.95
    rest = label != b"b"  # the others get the likeliest of the others
    wanted = np.where(logits[:, 0] >= logits[:, 2], b"a", b"c")
    assert (label[rest] == wanted[rest]).all()
    index = np.array([THREE.names.index(one.decode()) for one in label])
    p = outputs["probabilities"].numpy()
    assert np.allclose(outputs["score"], p[np.arange(len(p)), index])


def test_labels_of_several_classes_tell_whether_they_are_certain():
    y, logits = drawn(3)
    task = Classification()
    decision = task.decide(*kept(y, logits), THREE, goal="precision", at_least=0.9)
    outputs = {k: v.numpy() for k, v in task.answers(logits, THREE, decision).items()}
    best = logits.argmax(axis=-1)
    for c in range(3):
        mine = (best == c) & outputs["decided"]
        assert mine.any()
        assert (y[mine] == c).mean() >= 0.9
    assert outputs["decided"].mean() == pytest.approx(decision.validation["decided"])
    assert not outputs["decided"].all()


def test_each_of_many_labels_has_its_threshold():
    random = np.random.default_rng(0)
    logits = random.normal(size=(500, 3)).astype("float32")
    y = (logits + random.normal(size=logits.shape) > [0.5, 0, 1]).astype("float32")
    y[:, 2] = 0  # of which there is none on validation
    labels, task = Labels("multi", THREE.names), MultiLabel(threshold=0.4)
    decision = task.decide(
        *kept(y, logits), labels, goal="recall", at_least=0.8, temperature="auto"
    )
    assert decision.validation["untuned"] == ["c"]
    decided = task.answers(logits, labels, decision)["labels"].numpy()
    for c in range(2):
        assert calibration._figures(y[:, c] > 0, decided[:, c])["recall"] >= 0.8
    assert decided[:, 2].tolist() == (1 / (1 + np.exp(-logits[:, 2])) >= 0.4).tolist()


@pytest.mark.parametrize(("options", "words"), [
    ({"goal": "recal"}, r"f1, recall, precision. Received: 'recal'. Did you mean"),
    ({"goal": "recall"}, "needs a share to reach.*Received: at_least=None"),
    ({"goal": "recall", "at_least": 1.5}, "above 0 and at most 1"),
    ({"goal": "recall", "at_least": 0}, "above 0 and at most 1"),
    ({"goal": "f1", "at_least": 0.9}, "leave out at_least"),
    ({"at_least": 0.9}, "at_least=0.9 says nothing without a goal"),
    ({"goal": "f1"}, r"about one class, and there are 3.*positive=NAME"),
    ({"goal": "f1", "positive": "x"}, r"one of the classes a, b, c. Received: 'x'"),
    ({"positive": "a"}, "positive='a' says nothing without a goal"),
    ({"temperature": 0}, "number above 0, or 'auto'. Received: 0"),
    ({"temperature": "hot"}, "Received: 'hot'"),
    ({"temperature": True}, "Received: True"),
])  # fmt: skip
def test_goals_that_are_none_are_refused(options, words):
    y, logits = drawn(3, 50)
    with pytest.raises(UserError, match=words):
        Classification().decide(*kept(y, logits), THREE, **options)


def test_goals_out_of_reach_are_told():
    y, logits = np.array([0, 1] * 20), np.zeros((40, 2), "float32")
    with pytest.raises(UserError, match=r"no threshold of the class 'yes' reaches precision 0\.9"):
        Classification().decide(*kept(y, logits), TWO, goal="precision", at_least=0.9)
    with pytest.raises(UserError, match="no example of the class 'yes' in the validation split"):
        Classification().decide(*kept(np.zeros(40, int), logits), TWO, goal="f1")
    with pytest.raises(UserError, match="no label of any class has a precision"):
        Classification().decide(
            *kept(np.arange(40) % 3, np.zeros((40, 3))), THREE, goal="precision", at_least=0.9
        )
    y = np.array([[1.0, 0.0], [0.0, 1.0]] * 9)
    with pytest.raises(UserError) as refused:
        MultiLabel().decide(
            *kept(y, np.zeros((18, 2))), Labels("multi", ("a", "b")), goal="precision", at_least=0.9
        )
    assert len(refused.value.problems) == 2
    with pytest.raises(UserError, match="leave out positive"):
        MultiLabel().decide(*kept(y, np.zeros((18, 2))), Labels("multi", ("a", "b")), positive="a")
    with pytest.raises(UserError, match="leave out goal"):
        Regression().decide(*kept(y[:, 0], y[:, :1]), Labels("number"), goal="f1")
    assert Regression().decide(*kept(y[:, 0], y[:, :1]), Labels("number")) == Decision()


def test_a_temperature_that_nothing_tells_stays_one():
    """Without a mistake on validation the log loss falls for ever as the network gets surer."""
    y = np.arange(40) % 2
    sure = np.eye(2, dtype="float32")[y] * 4
    decision = Classification().decide(*kept(y, sure), TWO, temperature="auto")
    assert decision.temperature == 1.0
    assert "no mistakes" in decision.validation["notice"]
    decision = Classification().decide(*kept(1 - y, sure), TWO, temperature="auto")
    assert "no better than guessing" in decision.validation["notice"]
    y, logits = drawn(2)
    decision = Classification().decide(*kept(y, logits), TWO, temperature="auto")
    assert "notice" not in decision.validation


def test_what_is_known_without_data_is_refused_before_training():
    for task, words in ((Classification(), "needs a share"), (MultiLabel(), "needs a share"),
                        (Regression(), "no classes to decide on: leave out goal")):
        with pytest.raises(UserError, match=words):
            task.check_decision(goal="recall")
        task.check_decision()
    with pytest.raises(UserError, match="leave out positive"):
        MultiLabel().check_decision(goal="f1", positive="a")
