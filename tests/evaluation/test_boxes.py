"""The figures of COCO, held against those of pycocotools."""

import contextlib
import io
import time

import numpy as np
import pytest

from kerasft.evaluation import boxes

# The place of each figure among `COCOeval.stats`.
STATS = ("map", "map_50", "map_75", "map_small", "map_medium", "map_large", "ar_1", "ar_10",
         "ar_100", "ar_small", "ar_medium", "ar_large")  # fmt: skip


def random_set(seed: int, images: int | None = None):
    """Return boxes that are there and that were found, with ties, crowds and empty images."""
    random = np.random.default_rng(seed)
    classes = int(random.integers(1, 5))
    true, found = [], []
    for _ in range(int(random.integers(1, 8)) if images is None else images):
        count = int(random.integers(0, 12)) * int(random.random() < 0.85)
        # Whole numbers, so that overlaps are equal now and then.
        start = random.integers(0, 150, (count, 2))
        size = random.integers(1, (8, 40, 140)[int(random.integers(3))], (count, 2))
        there = np.concatenate([start, start + size], 1).astype("float64")
        labels = random.integers(0, classes, count)
        crowd = random.random(count) < 0.15
        made = [box + random.integers(-3, 4, 4) * random.integers(0, 3) for box in there
                for _ in range(int(random.integers(0, 4)))]  # fmt: skip
        made += [[x, y, x + w, y + h] for x, y, w, h in
                 random.integers(1, 120, (int(random.integers(0, 10)), 4))]  # fmt: skip
        near = np.asarray(made, "float64").reshape(-1, 4)
        near[:, 2:] = np.maximum(near[:, 2:], near[:, :2] + 1)
        if random.random() < 0.1:
            near = np.concatenate([near] * 12)  # more than count
        scores = random.integers(1, 9, len(near)) / 8  # many are equal
        true.append({"boxes": there, "labels": labels, "ignored": crowd})
        found.append({"boxes": near, "scores": scores,
                      "classes": random.integers(0, classes, len(near))})  # fmt: skip
    return found, true, classes


def of_pycocotools(found, true, classes):
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    def side(box):
        return [box[0], box[1], box[2] - box[0], box[3] - box[1]]

    data = {"info": {}, "images": [{"id": i + 1} for i in range(len(true))],
            "categories": [{"id": k + 1} for k in range(classes)], "annotations": []}  # fmt: skip
    for i, one in enumerate(true):
        for box, unit, crowd in zip(one["boxes"].tolist(), one["labels"], one["ignored"],
                                    strict=True):  # fmt: skip
            data["annotations"].append({
                "id": len(data["annotations"]) + 1, "image_id": i + 1, "category_id": int(unit) + 1,
                "iscrowd": int(crowd), "bbox": side(box), "area": side(box)[2] * side(box)[3],
            })  # fmt: skip
    answers = [
        {"image_id": i + 1, "category_id": int(unit) + 1, "score": float(score), "bbox": side(box)}
        for i, one in enumerate(found) for box, score, unit in
        zip(one["boxes"].tolist(), one["scores"], one["classes"], strict=True)
    ]  # fmt: skip
    with contextlib.redirect_stdout(io.StringIO()):
        whole = COCO()
        whole.dataset = data
        whole.createIndex()
        evaluation = COCOeval(whole, whole.loadRes(answers), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return dict(zip(STATS, evaluation.stats, strict=True)), evaluation.eval["precision"]


@pytest.mark.parametrize("seeds", [
    range(40), pytest.param(range(40, 500), marks=pytest.mark.slow),
])  # fmt: skip
def test_figures_are_those_of_pycocotools(seeds):
    compared = 0
    for seed in seeds:
        found, true, classes = random_set(seed)
        if not sum(len(one["boxes"]) for one in found):
            continue
        statistics = boxes.matched(found, true, classes)
        ours = boxes.coco(statistics)
        theirs, precision = of_pycocotools(found, true, classes)
        wanted = {name: value for name, value in theirs.items() if value > -1}
        assert ours == pytest.approx(wanted, abs=1e-9), seed
        by_class = precision[:, :, :, 0, -1].mean(axis=1).T
        np.testing.assert_allclose(
            boxes.average_precision(statistics)[0], np.where(by_class < 0, np.nan, by_class),
            atol=1e-9,
        )
        compared += len(wanted)
    assert compared > 5 * len(seeds)


def test_figures_of_some_images_need_no_matching():
    found, true, classes = random_set(3, images=12)
    some = np.array([7, 2, 2, 11, 0])
    statistics = boxes.matched(found, true, classes)
    drawn = {name: value[some] for name, value in statistics.items()}
    again = boxes.matched([found[i] for i in some], [true[i] for i in some], classes)
    assert boxes.coco(drawn) == pytest.approx(boxes.coco(again), abs=1e-12)


@pytest.mark.slow
def test_it_is_five_times_as_fast():
    found, true, classes = random_set(5, images=300)
    ratios = []
    for _ in range(5):
        began = time.process_time()
        boxes.coco(boxes.matched(found, true, classes))
        ours = time.process_time() - began
        began = time.process_time()
        of_pycocotools(found, true, classes)
        ratios.append((time.process_time() - began) / ours)
    assert np.median(ratios) > 5, ratios


def test_a_class_without_boxes_counts_nowhere():
    one = {"boxes": np.array([[0.0, 0, 40, 40]]), "labels": np.array([0]),
           "ignored": np.array([False])}  # fmt: skip
    found = {"boxes": one["boxes"], "scores": np.array([0.9]), "classes": np.array([0])}
    statistics = boxes.matched([found], [one], 3)
    figures = boxes.coco(statistics)
    assert figures["map"] == pytest.approx(1.0)
    assert "map_small" not in figures
    assert np.isnan(boxes.average_precision(statistics)[0][1:]).all()
