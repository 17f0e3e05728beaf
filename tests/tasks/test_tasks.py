from __future__ import annotations

import json

import numpy as np
import pytest

from kerasft.contracts import Described
from kerasft.errors import UserError
from kerasft.rows import Column, Rows
from kerasft.spec import Labels
from kerasft.tasks import shared
from kerasft.tasks.classification import Classification
from kerasft.tasks.detection import Detection
from kerasft.tasks.multi_label import MultiLabel, best_threshold
from kerasft.tasks.multi_regression import MultiRegression
from kerasft.tasks.regression import Regression

SINGLE = Labels("single", ("cat", "dog", "পাখি"))
MULTI = Labels("multi", ("joy", "anger", "fear"))
NUMBER = Labels("number")
NUMBERS = Labels("numbers", ("width", "height"))
KINDS = [(Classification(), SINGLE), (MultiLabel(), MULTI), (Regression(), NUMBER)]


def labels_for(labels: Labels, n: int = 12) -> np.ndarray:
    rng = np.random.default_rng(0)
    if labels.kind == "single":
        return np.arange(n) % 3
    if labels.kind == "multi":
        return (rng.random((n, 3)) < 0.4).astype(np.float32)
    return rng.normal(50_000, 9_000, n).astype(np.float32)


def as_numpy(outputs) -> dict[str, np.ndarray]:
    return {key: np.asarray(value) for key, value in outputs.items()}


def labelled(y) -> Rows:
    return Rows.of({"label": np.asarray(y)})


def learned_by(task, y, labels) -> np.ndarray:
    """Return what the loss compares with, of all examples in one batch."""
    import tensorflow as tf

    rows = task.targets(labelled(y), labels)
    batch = {name: tf.constant(value) for name, value in rows.gather(np.arange(len(y))).items()}
    return task.batch(None, batch, labels)[0].numpy()


@pytest.mark.parametrize(("task", "labels"), KINDS)
def test_targets_loss_metrics_and_score_fit_together(task, labels, tmp_path):
    import tensorflow as tf

    y = labels_for(labels)
    task = task.adapt(labelled(y))
    encoded = learned_by(task, y, labels)
    assert encoded.dtype == np.float32
    assert encoded.shape == (12, task.head(labels)["units"])
    assert task.kind == labels.kind

    # Logits that say what the labels say.
    logits = encoded if task.kind == "number" else (encoded - 0.5) * 20
    compiled = task.compile()
    assert float(compiled["loss"](encoded, logits)) < 0.01
    (metric,) = compiled["metrics"]
    metric.update_state(encoded, logits)
    assert float(metric.result()) == pytest.approx(0.0 if task.kind == "number" else 1.0, abs=1)

    post = tf.function(lambda x: task.answers(x, labels), autograph=False)
    outputs = as_numpy(post(tf.constant(logits)))
    assert all(len(value) == 12 for value in outputs.values())
    assert outputs["probabilities" if task.kind != "number" else "value"].dtype == np.float32
    assert as_numpy(post(tf.constant(logits, tf.bfloat16)))  # mixed precision
    assert all(len(v) == 0 for v in as_numpy(post(tf.constant(logits[:0]))).values())

    kept = Rows.of({"logits": logits})
    tuned = task.tune(labelled(y), kept, labels)
    statistics = tuned.statistics(labelled(y), kept, labels)
    scores = tuned.figures(statistics, labels)
    best = scores[task.monitor.removeprefix("val_")]
    assert best == pytest.approx(1.0)
    json.dumps(scores, allow_nan=False)

    (drawn,) = task.draw(statistics, labels, tmp_path, split="test")
    assert drawn.is_file() and drawn.name.startswith("test_")


@pytest.mark.parametrize(("task", "labels"), KINDS)
def test_a_task_comes_back_from_json(task, labels):
    y = labels_for(labels)
    kept = Rows.of({"logits": np.random.default_rng(1).normal(size=(12, 3)).astype("float32")})
    learned = task.adapt(labelled(y)).tune(labelled(y), kept, labels)
    assert shared.load(json.loads(json.dumps(learned.to_dict()))) == learned


def test_load_refuses_what_it_does_not_know():
    with pytest.raises(UserError, match="must come from one of kerasft"):
        shared.load({"class": "os.system"})
    with pytest.raises(UserError, match="another version"):
        shared.load({"class": "kerasft.tasks.regression.Regression", "colour": 1})


@pytest.mark.parametrize(
    ("monitor", "mode"),
    [
        ("val_accuracy", "max"),
        ("val_loss", "min"),
        ("val_f1_micro", "max"),
        ("val_rmse", "min"),
        ("val_log_loss", "min"),
        ("val_pearson", "max"),
        ("val_hamming_loss", "min"),
    ],
)
def test_mode_follows_the_monitor(monitor, mode):
    assert Classification(monitor=monitor).mode == mode


def test_single_outputs():
    outputs = as_numpy(Classification().answers([[0.0, 3.0, 0.0], [0.0, 0.0, 9.0]], SINGLE))
    assert [name.decode() for name in outputs["label"]] == ["dog", "পাখি"]
    np.testing.assert_allclose(outputs["probabilities"].sum(-1), 1, rtol=1e-6)
    np.testing.assert_array_equal(outputs["score"], outputs["probabilities"].max(-1))


def weights_of(task, y, labels=SINGLE):
    return task.targets(labelled(y), labels, training=True)["weight"]


def test_class_weights():
    y = np.array([0, 0, 0, 1])
    assert "weight" not in Classification().targets(labelled(y), SINGLE, training=True)
    # What is measured counts alike.
    assert "weight" not in Classification(class_weight="balanced").targets(labelled(y), SINGLE)
    balanced = weights_of(Classification(class_weight="balanced"), y)
    np.testing.assert_allclose(balanced, [4 / 6, 4 / 6, 4 / 6, 2])
    named = weights_of(Classification(class_weight={"dog": 5}), y)
    np.testing.assert_array_equal(named, [1, 1, 1, 5])
    assert named.dtype == np.float32
    numbered = weights_of(Classification(class_weight={1: 3}), y, Labels("single", ("0", "1")))
    np.testing.assert_array_equal(numbered, [1, 1, 1, 3])
    with pytest.raises(UserError, match="Did you mean 'dog'"):
        weights_of(Classification(class_weight={"dogg": 5}), y)


def test_classes_are_one_hot_in_the_batch_alone():
    names = tuple(map(str, range(1000)))
    rows = Classification().targets(labelled(np.arange(2000) % 1000), Labels("single", names))
    assert rows.nbytes == 2000 * 8


def test_multi_outputs_and_threshold():
    logits = [[3.0, -3.0, 3.0], [-3.0, -3.0, -3.0], [0.1, -0.1, -9.0]]
    outputs = as_numpy(MultiLabel(threshold=0.5).answers(logits, MULTI))
    assert [name.decode() for name in outputs["label"]] == ["joy,fear", "", "joy"]
    assert outputs["labels"].dtype == bool
    y = np.array([[1, 0, 1], [0, 0, 0], [1, 1, 0]])
    kept = Rows.of({"logits": np.array(logits, "float32")})
    tuned = MultiLabel().tune(labelled(y), kept, MULTI)
    assert tuned.cutoff < 0.475
    assert MultiLabel(threshold=0.5).tune(labelled(y), kept, MULTI).cutoff == 0.5
    again = as_numpy(tuned.answers(logits, MULTI))
    # What was decided is measured, whoever decided it.
    figures = [tuned.figures(tuned.statistics_of(labelled(y), one, MULTI), MULTI)["f1_micro"]
               for one in (outputs, again)]  # fmt: skip
    assert figures[0] < 1.0 and figures[1] == 1.0
    np.testing.assert_array_equal(again["labels"], y)


def test_best_threshold_is_the_best_of_all():
    from sklearn.metrics import f1_score

    rng = np.random.default_rng(0)
    y = (rng.random((60, 4)) < 0.2).astype(np.float32)
    p = np.clip(np.round(y * 0.2 + rng.random((60, 4)) * 0.6, 2), 0, 1).astype(np.float32)
    found = f1_score(y, p >= np.float32(best_threshold(y, p)), average="micro")
    tried = [f1_score(y, p >= t, average="micro", zero_division=0) for t in np.unique(p)]
    assert found == pytest.approx(max(tried))
    assert best_threshold(np.zeros((2, 2)), np.ones((2, 2))) == 0.5
    assert best_threshold(np.ones((2, 2)), np.ones((2, 2))) == 0.5
    close = np.array([[0.25, np.nextafter(np.float32(0.25), np.float32(0))]], np.float32)
    taken = close >= np.float32(best_threshold(np.array([[1, 0]]), close))
    np.testing.assert_array_equal(taken, [[True, False]])


def test_multi_loss_sums_over_the_classes_and_weighs_examples():
    y, logits = (
        np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 0.0]], np.float32),
        np.zeros((2, 3), np.float32),
    )
    loss = MultiLabel().compile()["loss"]
    assert float(loss(y, logits)) == pytest.approx(3 * np.log(2))
    assert float(loss(y, logits, sample_weight=np.array([2.0, 0.0]))) == pytest.approx(
        3 * np.log(2)
    )


def test_regression_scales_labels_and_gives_back_their_units():
    y = np.array([10_000.0, 20_000.0, 60_000.0])
    task = Regression().adapt(labelled(y))
    encoded = learned_by(task, y, NUMBER)
    assert encoded.mean() == pytest.approx(0, abs=1e-6) and encoded.std() == pytest.approx(1)
    back = as_numpy(task.answers(encoded, NUMBER))["value"]
    np.testing.assert_allclose(back, y, rtol=1e-6)
    (mae,) = task.compile()["metrics"]
    mae.update_state(encoded, encoded * 0)
    assert float(mae.result()) == pytest.approx(np.abs(y - y.mean()).mean(), rel=1e-5)
    plain = Regression(scale=False).adapt(labelled(y))
    assert learned_by(plain, y, NUMBER)[2, 0] == 60_000
    assert Regression().adapt(labelled([7.0, 7.0])).std == 1.0


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Classification(label_smoothing=1.0), "label_smoothing"),
        (lambda: Classification(class_weight="balance"), "Did you mean 'balanced'"),
        (lambda: Classification(class_weight={"a": -1}), "from 0 on"),
        (lambda: Classification(class_weight={"a": "heavy"}), "a number from 0 on"),
        (lambda: Classification(top_k=0), "top_k"),
        (lambda: MultiLabel(threshold=1.5), "threshold"),
        (lambda: MultiLabel(threshold="best"), "'auto'"),
        (lambda: Regression(loss_name="hubert"), "Did you mean 'huber'"),
        (lambda: Regression(huber_delta=0), "huber_delta"),
    ],
)
def test_wrong_options_are_named(make, words):
    with pytest.raises(UserError, match=words):
        make()


def test_a_trusted_module_may_lie_deep():
    path = f"{__name__}.Mine"
    saved = {"class": "kerasft.tasks.regression.Regression"}
    assert shared.load(saved, trusted=("kerasft.tasks",)) == Regression()
    for trusted in (("kerasft.task",), ("kerasft.tasks.regression.Regression",), ()):
        with pytest.raises(UserError, match="must come from one of"):
            shared.load(saved, trusted=trusted)
    with pytest.raises(UserError, match="must come from one of"):
        shared.load({"class": path})


TIMES = 1_700_000_000 + np.arange(60.0)
NUMBER = Labels("number")


def test_times_are_answered_in_float64():
    task = Regression().adapt(labelled(TIMES))
    learned = learned_by(task, TIMES, NUMBER)
    assert learned.dtype == np.float32
    assert len(np.unique(learned)) == 60
    answers = task.answer(Rows.of({"logits": learned}), NUMBER)["value"]
    assert np.abs(answers - TIMES).max() < 1e-4


def test_other_tasks_are_answered_as_they_are_served():
    task, labels = Classification(), Labels("single", ("a", "b"))
    logits = np.array([[1.0, 2.0]], "float32")
    served = task.answers(logits, labels)["probabilities"].numpy()
    kept = Rows.of({"logits": logits})
    assert (task.answer(kept, labels)["probabilities"] == served).all()


def test_what_float32_cannot_tell_apart_is_not_exported():
    with pytest.raises(UserError, match=r"precision near 1\.7e\+09 is 128"):
        Regression().adapt(labelled(TIMES)).served_precision()
    wider = Regression().adapt(labelled(TIMES + 100 * np.arange(60)))
    assert "1.7e+09 is 128" in wider.served_precision()
    assert Regression().adapt(labelled(np.arange(60.0) + 1000)).served_precision() == ""


def test_unscaled_labels_must_differ_as_they_are_learned():
    with pytest.raises(UserError, match=r"task\.scale=true"):
        Regression(scale=False).adapt(labelled(TIMES))
    assert Regression(scale=False).adapt(labelled(np.arange(5.0))).mean == 0


def test_validation_labels_all_alike_leave_no_correlation_to_monitor():
    with pytest.raises(UserError, match=r"all alike \(5\).*task\.monitor=val_rmse"):
        Regression().check_validation(labelled(np.full(8, 5.0)))
    Regression(monitor="val_rmse").check_validation(labelled(np.full(8, 5.0)))
    Regression().check_validation(labelled(np.arange(8.0)))


@pytest.mark.parametrize("labels", [[1e39, 2e39, 3e39], [-1e39, 1e38], [3e38, 1e38], [1e38, 2e38]])
def test_numbers_beyond_float32_are_not_exported(labels):
    task = Regression().adapt(labelled(labels))
    with pytest.raises(UserError, match=r"whose numbers end at 3\.4e\+38"):
        task.served_precision()
    assert np.isfinite(learned_by(task, labels, NUMBER)).all()
    assert Regression().adapt(labelled([1e36, 3e36])).served_precision() == ""


@pytest.mark.parametrize("labels", [[1e200, 2e200], [1.0, 1e300], [1e308, 1e308]])
def test_numbers_that_no_deviation_can_be_made_of_are_refused(labels):
    with pytest.raises(UserError, match="too large to be standardized"):
        Regression().adapt(labelled(labels))


def test_numbers_beyond_float32_are_not_learned_as_they_are():
    with pytest.raises(UserError, match=r"task\.scale=false .* Set task\.scale=true"):
        Regression(scale=False).adapt(labelled([1.0, 1e39]))


SIZES = np.array([[1.0, 1000.0], [2.0, 3000.0], [3.0, 2000.0], [4.0, 5000.0]])


def test_several_numbers_are_learned_in_units_of_their_own():
    task = MultiRegression().adapt(labelled(SIZES))
    assert task.means == (2.5, 2750.0)
    learned = task.targets(labelled(SIZES), NUMBERS)["labels"]
    assert learned.dtype == np.float32
    np.testing.assert_allclose(learned.mean(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(learned.std(axis=0), 1, rtol=1e-6)
    kept = Rows.of({"logits": learned})
    np.testing.assert_allclose(task.answer(kept, NUMBERS)["values"], SIZES, rtol=1e-6)
    served = task.answers(learned, NUMBERS)["values"].numpy()
    np.testing.assert_allclose(served, SIZES, rtol=1e-5)
    assert task.outputs(NUMBERS)["values"].unit == task.stds
    again = shared.load(json.loads(json.dumps(task.to_dict())))
    assert again == task


def test_figures_of_several_numbers_are_the_means_that_scikit_learn_gives():
    from sklearn.metrics import mean_absolute_error, r2_score

    task = MultiRegression().adapt(labelled(SIZES))
    found = SIZES + np.random.default_rng(0).normal(size=SIZES.shape) * [0.3, 400.0]
    statistics = task.statistics_of(labelled(SIZES), {"values": found}, NUMBERS)
    figures = task.figures(statistics, NUMBERS)
    assert figures["r2"] == pytest.approx(r2_score(SIZES, found))
    assert figures["mae"] == pytest.approx(mean_absolute_error(SIZES, found))
    assert figures["per_number"]["width"]["r2"] == pytest.approx(r2_score(SIZES[:, 0], found[:, 0]))
    rows, figure = task.sums("mae", statistics, NUMBERS)
    assert figure(rows.sum(), len(rows)) == pytest.approx(figures["mae"])


# --- what is learned, in words -------------------------------------------------------------------


def test_classes_in_words():
    assert Classification().describe({"labels": np.array([2, 0])}, SINGLE) == ["পাখি", "cat"]
    mixed = {"labels": np.array([[0.3, 0.7, 0.0], [0.999, 0.001, 0.0]], "float32")}
    assert Classification().describe(mixed, SINGLE) == ["dog 0.70, cat 0.30", "cat"]
    several = {"labels": np.array([[1, 0, 1], [0, 0, 0], [0.25, 0, 1]], "float32")}
    assert MultiLabel().describe(several, MULTI) == ["joy, fear", "no class", "fear, joy 0.25"]


def test_numbers_in_words_are_in_their_own_units():
    y = np.array([0.0, 3.667, 5.0, -2.5])
    task = Regression().adapt(labelled(y))
    learned = task.targets(labelled(y), NUMBER).gather(np.arange(4))
    assert task.describe(learned, NUMBER) == ["0", "3.667", "5", "-2.5"]
    y = np.array([[1.5, 1_600_000_000], [2.5, 1_600_500_000]])
    task = MultiRegression().adapt(labelled(y))
    learned = task.targets(labelled(y), NUMBERS).gather(np.arange(2))
    assert task.describe(learned, NUMBERS) == [
        "width 1.5, height 1600000000", "width 2.5, height 1600500000",
    ]  # fmt: skip


def test_objects_in_words_are_counted():
    targets = {
        "labels": np.array([[0, 1, 1, -1], [-1, -1, -1, -1], [1, 1, -1, -1]]),
        "ignored": np.array([[0, 0, 0, 0], [0, 0, 0, 0], [0, 1, 0, 0]], bool),
    }
    said = Detection().describe(targets, Labels("boxes", ("cat", "dog")))
    assert said == ["cat 1, dog 2", "no objects", "dog 1, 1 ignored"]


@pytest.mark.parametrize("task", [Classification(), MultiLabel(), Regression(), MultiRegression(),
                                  Detection()])  # fmt: skip
def test_all_of_ours_say_what_is_learned(task):
    assert isinstance(task, Described)


def test_more_objects_than_a_detector_answers_are_told(capsys):
    boxes = [np.zeros((count, 4)) for count in (2, 5, 3)]
    ignored = [np.zeros(len(one), bool) for one in boxes]
    rows = Rows.of({
        "boxes": Column.ragged(boxes, group="objects"),
        "ignored": Column.ragged(ignored, group="objects"),
    })  # fmt: skip
    Detection(max_detections=5).check_validation(rows)
    assert not capsys.readouterr().err
    Detection(max_detections=2).check_validation(rows)
    said = " ".join(capsys.readouterr().err.split())
    assert "2 validation images with more objects, up to 5" in said
    assert "task.max_detections=2" in said
