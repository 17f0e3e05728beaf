"""The drawn curves hold the figures that are reported."""

import numpy as np
import pytest
from PIL import Image

from kerasft.evaluation import box_curves, boxes
from kerasft.spec import Labels
from kerasft.tasks.detection import Detection


def detections(classes: int, images: int = 60, seed: int = 0):
    """Return what a middling detector finds, of classes of falling frequency, the last one of none.

    Scores are rounded, so that many are equal.
    """
    random = np.random.default_rng(seed)
    true, found = [], []
    for _ in range(images):
        count = int(random.integers(0, 9))
        start = random.integers(0, 200, (count, 2))
        there = np.concatenate([start, start + random.integers(8, 80, (count, 2))], 1).astype(float)
        labels = np.minimum(random.geometric(0.25, count) - 1, max(classes - 2, 0))
        true.append({"boxes": there, "labels": labels, "ignored": random.random(count) < 0.05})
        kept = random.random(count) < 0.8
        near = there[kept] + random.normal(0, 3, (kept.sum(), 4))
        wrong = random.integers(0, 200, (3, 2))
        near = np.concatenate([near, np.concatenate([wrong, wrong + 30], 1)])
        near[:, 2:] = np.maximum(near[:, 2:], near[:, :2] + 1)
        units = np.concatenate([labels[kept], random.integers(0, classes, 3)])
        scores = np.concatenate([random.beta(5, 2, kept.sum()), random.beta(2, 4, 3)]).round(2)
        found.append({"boxes": near, "scores": scores, "classes": units})
    statistics = boxes.matched(found, true, classes)
    least = np.array(boxes.best_scores(statistics, 0.3))
    statistics["answered"] = statistics["scores"] >= np.append(least, np.inf)[statistics["classes"]]
    return statistics, least


def drawn(classes: int):
    statistics, least = detections(classes)
    figure = box_curves._figure(
        box_curves.curves(statistics, least), [f"class {i}" for i in range(classes)]
    )
    figure.canvas.draw()
    left, right = figure.axes
    lines = {line.get_label().partition(":")[0]: line for line in left.lines
             if line.get_label().startswith(("class", "mean"))}  # fmt: skip
    words = [text.get_text() for text in figure.legends[0].get_texts()]
    return statistics, least, lines, left, right, words


def average_precision_of(line) -> float:
    """Read a curve as COCO does: the best precision at each of 101 recalls or further on."""
    recall, precision = line.get_xdata(), line.get_ydata()
    return float(np.mean([
        precision[recall >= at - 1e-12].max(initial=0) for at in np.linspace(0, 1, 101)
    ]))  # fmt: skip


@pytest.mark.parametrize("classes", [4, 17])
def test_the_drawn_points_hold_the_reported_average_precision(classes):
    statistics, _, lines, _, _, words = drawn(classes)
    precisions = boxes.average_precision(statistics)[0][:, 0]
    there = statistics["there"][:, 0].sum(axis=0)
    own = sorted(np.flatnonzero(there), key=lambda unit: -there[unit])[: box_curves.MOST]
    assert set(lines) >= {f"class {unit}" for unit in own}
    for unit in own:
        line = lines[f"class {unit}"]
        assert average_precision_of(line) == pytest.approx(precisions[unit], abs=1e-9)
        assert f": {precisions[unit]:.3f} ({there[unit]})" in line.get_label()
    whole = lines[f"mean of all {np.count_nonzero(there)}"]
    assert average_precision_of(whole) == pytest.approx(boxes.coco(statistics)["map_50"], abs=1e-9)
    others = np.setdiff1d(np.flatnonzero(there), own)
    assert len(lines) == len(own) + 1 + bool(len(others))
    if len(others):
        line = lines[f"mean of {len(others)} others"]
        assert average_precision_of(line) == pytest.approx(precisions[others].mean(), abs=1e-9)
    assert any("not drawn" in text and f"class {classes - 1}" in text for text in words)
    assert f"class {classes - 1}" not in lines


def test_dots_are_what_is_answered():
    statistics, least, _, left, right, _ = drawn(4)
    figures = boxes.decided(statistics)
    dots = [
        [(line.get_xdata()[0], line.get_ydata()[0]) for line in axes.lines
         if line.get_marker() == "o" and len(line.get_xdata())]
        for axes in (left, right)
    ]  # fmt: skip
    order = np.argsort(-statistics["there"][:, 0].sum(axis=0), kind="stable")[:3]
    np.testing.assert_allclose(
        dots[0], np.stack([figures["recall"], figures["precision"]], 1)[order]
    )
    np.testing.assert_allclose(dots[1], np.stack([least, figures["f1"]], 1)[order])


def test_f1_is_largest_where_it_is_tuned_to():
    statistics, least = detections(5)
    found = box_curves.curves(statistics, least)
    assert len(found) == 4
    for curve in found:
        assert curve.f1_from(curve.least) == pytest.approx(curve.f1.max())
        for score in np.linspace(0, 1, 41):
            answered = statistics["scores"] >= score
            now = boxes.decided({**statistics, "answered": answered})["f1"][curve.unit]
            assert curve.f1_from(score) == pytest.approx(now)


def test_it_is_drawn_where_little_is_there(tmp_path):
    nothing = {"boxes": np.zeros((0, 4)), "scores": np.zeros(0), "classes": np.zeros(0, int)}
    there = {"boxes": np.array([[0.0, 0, 9, 9]]), "labels": np.array([1]),
             "ignored": np.array([False])}  # fmt: skip
    statistics = boxes.matched([nothing], [there], 2)
    statistics["answered"] = np.zeros((1, 0), bool)
    labels = Labels("boxes", ("$", "b" * 80))
    (path,) = Detection().draw(statistics, labels, tmp_path, split="test")
    assert path.name == "test_precision_recall.png"
    with Image.open(path) as image:
        assert image.width < 2000
    none = {"boxes": np.zeros((0, 4)), "labels": np.zeros(0, int), "ignored": np.zeros(0, bool)}
    statistics = {**boxes.matched([nothing], [none], 2), "answered": np.zeros((1, 0), bool)}
    assert Detection().draw(statistics, labels, tmp_path, split="test") == []
