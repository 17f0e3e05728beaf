"""Boxes that were found against boxes that are there: the figures of COCO.

The rules are those of pycocotools, whose figures these are: Lin et al., "Microsoft COCO: Common
Objects in Context", 2014. What each image adds is matched once; figures of any choice of images
follow from that.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

# The overlaps (intersection over union) from which on a box counts as found.
OVERLAPS = np.linspace(0.5, 0.95, 10)
# The recalls at which precision is read off.
RECALLS = np.linspace(0.0, 1.0, 101)
# Boxes by their area in pixels: all, and those smaller and larger than 32 and 96 squared.
AREAS = {
    "": (0.0, 1e10), "_small": (0.0, 32.0**2), "_medium": (32.0**2, 96.0**2),
    "_large": (96.0**2, 1e10),
}  # fmt: skip
MOST = 100
# A bit for each overlap.
BITS = (1 << np.arange(len(OVERLAPS))).astype("uint16")
# Pairs of an image and a class that are matched at once.
_AT_ONCE = 256


def overlaps(found: np.ndarray, true: np.ndarray, crowd: np.ndarray | None = None) -> np.ndarray:
    """Return the intersection over union of each box with each other.

    Args:
        found: `float64[..., D, 4]`, left, top, right and bottom.
        true: `float64[..., G, 4]`.
        crowd: bool `[..., G]`, which of them are regions of many objects: there the share of the
            found box counts.

    Returns:
        `float64[..., D, G]`.

    Example:
        >>> overlaps(np.array([[0.0, 0, 2, 2]]), np.array([[1.0, 0, 3, 2], [5, 5, 6, 6]])).tolist()
        [[0.3333333333333333, 0.0]]
    """
    one, other = found[..., :, None, :], true[..., None, :, :]
    width = np.minimum(one[..., 2], other[..., 2]) - np.maximum(one[..., 0], other[..., 0])
    height = np.minimum(one[..., 3], other[..., 3]) - np.maximum(one[..., 1], other[..., 1])
    both = np.maximum(width, 0.0) * np.maximum(height, 0.0)
    mine, theirs = area(found)[..., :, None], area(true)[..., None, :]
    whole = mine + theirs - both
    if crowd is not None:
        whole = np.where(crowd[..., None, :], mine, whole)
    return np.divide(both, whole, out=np.zeros_like(both), where=whole > 0)


def area(boxes: np.ndarray) -> np.ndarray:
    """Return the area of boxes, `[..., 4]`."""
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def matched(
    found: Sequence[Mapping[str, np.ndarray]], true: Sequence[Mapping[str, np.ndarray]],
    classes: int, most: int = MOST,
) -> dict[str, np.ndarray]:
    """Match what was found in each image with what is there.

    Args:
        found: For each image `boxes` `[D, 4]`, `scores` `[D]` and `classes` `[D]`.
        true: For each image `boxes` `[G, 4]`, `labels` `[G]` and `ignored` `[G]`.
        classes: How many classes there are.
        most: The most boxes that count of an image and class, those with the highest scores.

    Returns:
        Arrays with a row an image; `D` is as many boxes as the fullest one has, the highest score
        first: `scores` `[N, D]`; `classes` `[N, D]`, -1 where there is none; `ranks` `[N, D]`,
        the place of a box among those of its class; `hits` and `left_out` `[N, areas, D]`, for each
        of `OVERLAPS` a bit that is set where the box was matched, and where it counts nowhere;
        `there` `[N, areas, classes]`, how many boxes are there to be found.
    """
    count = len(true)
    chosen = [_best(one, most) for one in found]
    width = max((len(rows) for rows in chosen), default=0)
    scores = np.full((count, width), -np.inf)
    labels = np.full((count, width), -1, "int32")
    ranks = np.zeros((count, width), "int32")
    hits = np.zeros((count, len(AREAS), width), "uint16")
    left_out = np.zeros((count, len(AREAS), width), "uint16")
    there = np.zeros((count, len(AREAS), classes), "int32")
    ranges = np.array(list(AREAS.values()))
    pairs = []
    for i, (rows, one, truth) in enumerate(zip(chosen, found, true, strict=True)):
        n = len(rows)
        scores[i, :n], labels[i, :n] = one["scores"][rows], one["classes"][rows]
        boxes = np.asarray(one["boxes"], "float64").reshape(-1, 4)[rows]
        truth_boxes = np.asarray(truth["boxes"], "float64").reshape(-1, 4)
        truth_labels, crowd = np.asarray(truth["labels"]), np.asarray(truth["ignored"], bool)
        sizes, own = area(truth_boxes), area(boxes)
        outside = (sizes < ranges[:, :1]) | (sizes > ranges[:, 1:])  # [areas, G]
        small = (own < ranges[:, :1]) | (own > ranges[:, 1:])
        left_out[i, :, :n] = np.where(small, np.uint16(2 ** len(OVERLAPS) - 1), np.uint16(0))
        for unit in np.unique(np.concatenate([labels[i, :n], truth_labels])):
            mine, theirs = np.flatnonzero(labels[i, :n] == unit), truth_labels == unit
            ranks[i, mine] = np.arange(len(mine))
            skipped = crowd[theirs] | outside[:, theirs]
            there[i, :, unit] = (~skipped).sum(axis=1)
            if not (len(mine) and theirs.any()):
                continue
            shares = overlaps(boxes[mine], truth_boxes[theirs], crowd[theirs])
            near = np.flatnonzero((shares >= OVERLAPS[0]).any(axis=1))
            if len(near):
                pairs.append((i, mine[near], shares[near], crowd[theirs], skipped))
    pairs.sort(key=lambda pair: len(pair[1]))  # alike ones together, which pads them least
    for start in range(0, len(pairs), _AT_ONCE):
        _match(pairs[start : start + _AT_ONCE], hits, left_out)
    return {"scores": scores, "classes": labels, "ranks": ranks, "hits": hits,
            "left_out": left_out, "there": there}  # fmt: skip


def _best(found: Mapping[str, np.ndarray], most: int) -> np.ndarray:
    """Return the boxes that count, the highest score first; of equal ones in their order."""
    order = np.argsort(-np.asarray(found["scores"], "float64"), kind="stable")
    labels = np.asarray(found["classes"])[order]
    if len(order) <= most:
        return order
    places = np.zeros(len(order), "int64")
    for unit in np.unique(labels):
        own = labels == unit
        places[own] = np.arange(own.sum())
    return order[places < most]


def _match(pairs: Sequence[tuple], hits: np.ndarray, left_out: np.ndarray) -> None:
    """Give each found box the box that it covers best and that is still free, by score."""
    count = len(pairs)
    deep = max(len(pair[1]) for pair in pairs)
    wide = max(pair[2].shape[1] for pair in pairs)
    shares = np.full((count, deep, wide), -1.0)
    crowd = np.zeros((count, wide), bool)
    skipped = np.ones((count, len(AREAS), wide), bool)
    for p, (_, _, own, crowds, skips) in enumerate(pairs):
        d, g = own.shape
        shares[p, :d, :g], crowd[p, :g], skipped[p, :, :g] = own, crowds, skips
    least = np.minimum(OVERLAPS, 1 - 1e-10)[None, None, :, None]
    # [pairs, areas, overlaps, boxes]
    free = np.ones((count, len(AREAS), len(OVERLAPS), wide), bool)
    who = np.ogrid[:count, : len(AREAS), : len(OVERLAPS)]
    got = np.zeros((count, len(AREAS), deep), "uint16")
    out = np.zeros((count, len(AREAS), deep), "uint16")
    depths = np.array([len(pair[1]) for pair in pairs])
    for d in range(deep):
        part = slice(int(np.searchsorted(depths, d, side="right")), count)  # those that go on
        mine = shares[part, None, None, d, :]
        able = (mine >= least) & (free[part] | crowd[part, None, None, :])
        counted = able & ~skipped[part, :, None, :]
        # Boxes that count nowhere are taken only where no other one is left.
        able = np.where(counted.any(axis=-1, keepdims=True), counted, able)
        value = np.where(able, mine, -1.0)
        # The last of equally good ones, as pycocotools has it.
        best = wide - 1 - value[..., ::-1].argmax(axis=-1)
        taken = able.any(axis=-1)
        first = who[0][part]
        free[first, who[1], who[2], best] &= ~taken
        got[part, :, d] = taken @ BITS
        out[part, :, d] = (taken & skipped[first, who[1], best]) @ BITS
    for p, (i, rows, *_) in enumerate(pairs):
        n = len(rows)
        hits[i][:, rows] = got[p, :, :n]
        # What is matched counts by what it is matched with, whatever its own size.
        left_out[i][:, rows] = out[p, :, :n] | (left_out[i][:, rows] & ~got[p, :, :n])


def average_precision(
    statistics: Mapping[str, np.ndarray], area: int = 0, most: int = MOST
) -> tuple[np.ndarray, np.ndarray]:
    """Return the average precision and the recall of each class at each of `OVERLAPS`.

    Args:
        statistics: What `matched` returned, of all images or of some.
        area: Which of `AREAS`.
        most: The most boxes of an image and class.

    Returns:
        `float64[classes, overlaps]` twice; NaN for classes of which no box is there.
    """
    there = statistics["there"][:, area].sum(axis=0)
    precisions = np.full((len(there), len(OVERLAPS)), np.nan)
    recalls = precisions.copy()
    for unit, precision, recall in interpolated(statistics, area, most):
        precisions[unit], recalls[unit] = precision.sum(axis=0) / len(RECALLS), recall
    return precisions, recalls


def interpolated(
    statistics: Mapping[str, np.ndarray], area: int = 0, most: int = MOST
) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Go through the precision-recall curves of the classes of which boxes are there.

    Args:
        statistics: See `average_precision`, as `area` and `most`.

    Yields:
        The class; the precision at each of `RECALLS`, the best one at that recall or a higher one,
        `float64[recalls, overlaps]`; and the recall of all boxes, `float64[overlaps]`.
    """
    there = statistics["there"][:, area].sum(axis=0)
    flat = statistics["classes"].ravel()
    real = np.flatnonzero((flat >= 0) & (statistics["ranks"].ravel() < most))
    order = real[np.argsort(-statistics["scores"].ravel()[real], kind="stable")]
    labels = flat[order]
    hits = statistics["hits"][:, area].ravel()[order]
    left_out = statistics["left_out"][:, area].ravel()[order]
    for unit in np.flatnonzero(there):
        own = labels == unit
        counts = (left_out[own, None] & BITS) == 0
        right = ((hits[own, None] & BITS) != 0) & counts
        true = np.cumsum(right, axis=0, dtype="float64")
        yield int(unit), *_curve(true, np.cumsum(counts, axis=0), there[unit])


def _curve(true: np.ndarray, whole: np.ndarray, there: int) -> tuple[np.ndarray, np.ndarray]:
    """Return precision at `RECALLS` and the last recall, of running counts `[D, overlaps]`."""
    found = np.zeros((len(RECALLS), true.shape[1]))
    if not len(true):
        return found, np.zeros(true.shape[1])
    recall = true / there
    precision = true / np.maximum(whole, 1)
    # From right to left it never falls.
    precision = np.maximum.accumulate(precision[::-1], axis=0)[::-1]
    for t in range(true.shape[1]):
        at = np.searchsorted(recall[:, t], RECALLS, side="left")
        inside = at < len(recall)
        found[inside, t] = precision[at[inside], t]
    return found, recall[-1]


def coco(statistics: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Return the twelve figures of COCO; those that nothing is there for are left out.

    Args:
        statistics: What `matched` returned.

    Returns:
        `map` over all overlaps, `map_50`, `map_75`, `map_small`, ...; `ar_1`, `ar_10` and `ar_100`,
        the recall with so many boxes of an image and class; `ar_small`, ... Sizes are those of
        boxes; pycocotools goes by the `area` of annotations, that of an outline where there is one.
    """
    made: dict[str, float] = {}
    precisions, recalls = average_precision(statistics)
    made["map"] = _mean(precisions)
    made["map_50"], made["map_75"] = _mean(precisions[:, 0]), _mean(precisions[:, 5])
    made["ar_100"] = _mean(recalls)
    for most in (1, 10):
        made[f"ar_{most}"] = _mean(average_precision(statistics, most=most)[1])
    for place, name in list(enumerate(AREAS))[1:]:
        sized = average_precision(statistics, place)
        made[f"map{name}"], made[f"ar{name}"] = map(_mean, sized)
    return {name: value for name, value in made.items() if np.isfinite(value)}


def _mean(values: np.ndarray) -> float:
    return float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")


def of_class(precisions: np.ndarray) -> dict[str, float]:
    """Return the average precision of one class, `[overlaps]`, where its boxes are there."""
    if not np.isfinite(precisions).all():
        return {}
    return {"map": float(precisions.mean()), "map_50": float(precisions[0])}


def decided(statistics: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return precision, recall and F1 of the answered boxes of each class, at an overlap of 0.5.

    Args:
        statistics: What `matched` returned, and `answered`, bool `[N, D]`.

    Returns:
        `float64[classes]` each; NaN where there is nothing to divide by.
    """
    there = statistics["there"][:, 0].sum(axis=0)
    counts = statistics["answered"] & ((statistics["left_out"][:, 0] & 1) == 0)
    right = counts & ((statistics["hits"][:, 0] & 1) == 1)
    units = statistics["classes"]
    true = np.bincount(units[right], minlength=len(there))
    whole = np.bincount(units[counts], minlength=len(there))
    with np.errstate(invalid="ignore", divide="ignore"):
        return {"precision": true / whole, "recall": true / there,
                "f1": np.where(there + whole > 0, 2 * true / (there + whole), np.nan)}  # fmt: skip


def averaged(by_class: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Return figures averaged over the classes that have them."""
    return {n: _mean(values) for n, values in by_class.items() if np.isfinite(values).any()}


def best_scores(statistics: Mapping[str, np.ndarray], default: float) -> list[float]:
    """Return for each class the score from which on its F1 at an overlap of 0.5 is best.

    Args:
        statistics: What `matched` returned.
        default: The one of classes without a box that was found.
    """
    made = []
    for scores, f1 in f1_by_score(statistics):
        if not len(f1) or not f1.any():
            made.append(default)
            continue
        best = int(f1.argmax())
        following = scores[best + 1] if best + 1 < len(scores) else 0.0
        # Halfway to the next one: neither rounding nor chance decides about these two.
        made.append(float((scores[best] + following) / 2))
    return made


def f1_by_score(statistics: Mapping[str, np.ndarray]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return for each class the F1 at an overlap of 0.5 of what is found from each score on.

    Args:
        statistics: What `matched` returned.

    Returns:
        For each class the scores that occur, the highest first, and the F1 of all boxes that have
        at least that one, `float64[scores]` both; none where no box of the class is there.
    """
    there = statistics["there"][:, 0].sum(axis=0)
    units, scores = statistics["classes"].ravel(), statistics["scores"].ravel()
    counts = (statistics["left_out"][:, 0].ravel() & 1) == 0
    right = (statistics["hits"][:, 0].ravel() & 1) == 1
    made = []
    for unit, total in enumerate(there):
        own = np.flatnonzero((units == unit) & counts) if total else np.zeros(0, "int64")
        own = own[np.argsort(-scores[own], kind="stable")]
        f1 = 2 * np.cumsum(right[own]) / (total + np.arange(1, len(own) + 1))
        last = np.flatnonzero(np.diff(scores[own], append=-np.inf))  # boxes of a score, together
        made.append((scores[own][last], f1[last]))
    return made
