"""What outputs are worth against the true labels: plain floats, equal to scikit-learn's figures.

A figure that the examples cannot tell (the area under a curve where one class alone occurs, a
correlation of one example) is left out, rather than reported as 0 or NaN.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np

Mode = Literal["max", "min"]

# Words in the name of a figure that is better when it is smaller.
SMALLER_IS_BETTER = ("loss", "error", "cost", "mae", "mse", "rmse", "perplexity", "bits")


def direction(name: str) -> Mode:
    """Return whether the figure called `name` is better when larger or smaller.

    Args:
        name: A key of the metrics, with or without `val_`.

    Example:
        >>> direction("val_log_loss"), direction("val_bits_per_byte"), direction("val_accuracy")
        ('min', 'min', 'max')
    """
    return "min" if any(word in SMALLER_IS_BETTER for word in name.split("_")) else "max"


def single(
    y: np.ndarray, probabilities: np.ndarray, names: Sequence[str], *, top_k: int = 5,
    predicted: np.ndarray | None = None,
) -> dict[str, Any]:
    """Score one class an example.

    Macro and weighted averages run over the classes that occur among the true or the predicted
    labels, as scikit-learn's do.

    Args:
        y: The index of the true class, `[N]`; whole numbers of any dtype.
        probabilities: `[N, classes]`.
        names: The class names, in the order of the columns.
        top_k: `top_{k}_accuracy` is reported where there are more than this many classes.
        predicted: The index of the class that was decided on, `[N]`; the likeliest by default.

    Returns:
        `accuracy`, `precision_`, `recall_` and `f1_` each with `macro`, `micro` and `weighted`,
        `log_loss`, `roc_auc` (for more than two classes one against the rest, averaged, where
        every class occurs), `average_precision` (of the second of two classes), `per_class`:
        class name to `precision`, `recall`, `f1`, `support`, and `confusion_matrix`: for each
        true class how often each class was predicted.

    Example:
        >>> single(np.array([0, 1]), np.eye(2), ("no", "yes"))["accuracy"]
        1.0
    """
    y, p = _indices(y), np.asarray(probabilities, np.float64)
    _check(y, p)
    matrix = confusion(y, p.argmax(axis=-1) if predicted is None else predicted, names)
    found = np.diag(matrix)
    missed, wrong = matrix.sum(axis=1) - found, matrix.sum(axis=0) - found
    counted = (found + missed + wrong) > 0
    scores: dict[str, Any] = {"accuracy": float(found.sum() / len(y))}
    scores |= averages(found[counted], wrong[counted], missed[counted])
    if p.shape[1] > top_k > 1:
        ranked = np.argsort(-p, axis=-1, kind="stable")[:, :top_k]
        scores[f"top_{top_k}_accuracy"] = float((ranked == y[:, None]).any(axis=-1).mean())
    scores |= _single_curves(y, p)
    scores["per_class"] = _per_class(found, wrong, missed, names)
    scores["confusion_matrix"] = matrix.tolist()
    return scores


def multi(
    y: np.ndarray, probabilities: np.ndarray, decided: np.ndarray, names: Sequence[str]
) -> dict[str, Any]:
    """Score any number of classes an example.

    Args:
        y: Labels of 0 and 1, `[N, classes]`.
        probabilities: `[N, classes]`.
        decided: The classes that were decided on, 0 and 1, `[N, classes]`.
        names: The class names, in the order of the columns.

    Returns:
        `precision_`, `recall_` and `f1_` each with `macro`, `micro`, `weighted` and `samples`,
        `subset_accuracy`, `hamming_loss`, `roc_auc` and `average_precision` (averaged over the
        classes that occur on some examples and not on others), and `per_class`.
    """
    y, decided = np.asarray(y) > 0, np.asarray(decided) > 0
    p = np.asarray(probabilities, np.float64)
    _check(y, p)
    found, wrong, missed = (y & decided), (~y & decided), (y & ~decided)
    counts = [part.sum(axis=0) for part in (found, wrong, missed)]
    scores: dict[str, Any] = averages(*counts)
    by_example = _rates(*(part.sum(axis=1) for part in (found, wrong, missed)))
    scores |= {f"{key}_samples": float(value.mean()) for key, value in by_example.items()}
    scores["subset_accuracy"] = float((y == decided).all(axis=-1).mean())
    scores["hamming_loss"] = float((y != decided).mean())
    both = y.any(axis=0) & ~y.all(axis=0)
    if both.any() and np.isfinite(p).all():
        from sklearn.metrics import average_precision_score, roc_auc_score

        columns = np.flatnonzero(both)
        for key, figure in (
            ("roc_auc", roc_auc_score),
            ("average_precision", average_precision_score),
        ):
            scores[key] = float(np.mean([figure(y[:, c], p[:, c]) for c in columns]))
    scores["per_class"] = _per_class(counts[0], counts[1], counts[2], names)
    return scores


def number(y: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    """Score a number an example.

    Args:
        y: The true numbers, `[N]`.
        predicted: `[N]`.

    Returns:
        `mae`, `mse`, `rmse`, `r2`, `pearson` and `spearman`. The last three are left out where
        the true numbers are all alike; predictions that are all alike correlate with nothing, so
        that both correlations are 0. Empty where a prediction is not finite.
    """
    y = np.asarray(y, np.float64).ravel()
    predicted = np.asarray(predicted, np.float64).ravel()
    _check(y, predicted)
    if not np.isfinite(predicted).all():
        return {}
    error = predicted - y
    scores = {"mae": float(np.abs(error).mean()), "mse": float((error**2).mean())}
    scores["rmse"] = float(np.sqrt(scores["mse"]))
    if _constant(y):
        return scores
    scores["r2"] = float(1 - (error**2).sum() / ((y - y.mean()) ** 2).sum())
    if _constant(predicted):
        return scores | {"pearson": 0.0, "spearman": 0.0}
    from scipy import stats

    scores["pearson"] = float(stats.pearsonr(y, predicted)[0])
    scores["spearman"] = float(stats.spearmanr(y, predicted)[0])
    return scores


def confusion(y: np.ndarray, predicted: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """Count how often each class was taken for each: true classes in rows, `int64[C, C]`.

    Args:
        y: The index of the true class, `[N]`.
        predicted: The index of the predicted class, `[N]`.
        names: The class names; there are `C`.
    """
    size = len(names)
    cells = _indices(y) * size + _indices(predicted)
    return np.bincount(cells, minlength=size * size).reshape(size, size).astype(np.int64)


def _check(y: np.ndarray, outputs: np.ndarray) -> None:
    if len(y) == 0 or len(y) != len(outputs):
        raise ValueError(
            "Metrics need at least one example, and one output for each. "
            f"Received: {len(y)} labels, {len(outputs)} outputs."
        )


def _indices(y: np.ndarray) -> np.ndarray:
    return np.asarray(y).astype(np.int64).ravel()


def _constant(values: np.ndarray) -> bool:
    return bool(np.ptp(values) <= 1e-12 * np.abs(values).max())


def _rates(found: np.ndarray, wrong: np.ndarray, missed: np.ndarray) -> dict[str, np.ndarray]:
    """Return precision, recall and F1 from counts; 0 where nothing was there to be found."""

    def share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
        return np.divide(part, whole, out=np.zeros(np.shape(whole)), where=whole > 0)

    return {
        "precision": share(found, found + wrong),
        "recall": share(found, found + missed),
        "f1": share(2 * found, 2 * found + wrong + missed),
    }


def averages(found: np.ndarray, wrong: np.ndarray, missed: np.ndarray) -> dict[str, float]:
    """Return precision, recall and F1, averaged over classes in three ways, from counts.

    Args:
        found: How often each class was found where it was, `[C]`.
        wrong: How often it was found where it was not.
        missed: How often it was there and not found.

    Returns:
        `precision_`, `recall_` and `f1_` each with `macro`, `micro` and `weighted`.
    """
    by_class = _rates(found, wrong, missed)
    overall = _rates(*(np.atleast_1d(part.sum()) for part in (found, wrong, missed)))
    support = (found + missed).astype(np.float64)
    weights = support / support.sum() if support.sum() else support
    scores = {}
    for key, values in by_class.items():
        scores[f"{key}_macro"] = float(values.mean())
        scores[f"{key}_micro"] = float(overall[key][0])
        scores[f"{key}_weighted"] = float(values @ weights)
    return scores


def from_counts(
    metric: str, true: np.ndarray, decided: np.ndarray, *, seen_alone: bool = False
) -> tuple[np.ndarray, Callable[[np.ndarray, int], float]] | None:
    """Return what an average of precision, recall or F1 is summed from, and the way to it.

    Args:
        metric: A key of what `averages` returns; for any other one there is `None`.
        true: Which classes each example has, bool `[N, C]`.
        decided: Which were decided on.
        seen_alone: Whether classes that are neither true nor decided on are left out.

    Returns:
        What was found, wrong and missed in each example, bool `[N, 3, C]`, and the figure as a
        function of the sum over examples and their number.
    """
    if not metric.startswith(("precision_", "recall_", "f1_")) or metric.endswith("_samples"):
        return None
    parts = np.stack([true & decided, ~true & decided, true & ~decided], axis=1)

    def figure(counts: np.ndarray, number: int) -> float:
        if seen_alone:
            counts = counts[:, counts.sum(axis=0) > 0]
        return averages(*counts)[metric]

    return parts, figure


def _per_class(
    found: np.ndarray, wrong: np.ndarray, missed: np.ndarray, names: Sequence[str]
) -> dict[str, dict[str, float]]:
    rates = _rates(found, wrong, missed)
    return {
        name: {key: float(values[i]) for key, values in rates.items()}
        | {"support": int(found[i] + missed[i])}
        for i, name in enumerate(names)
    }


def _single_curves(y: np.ndarray, p: np.ndarray) -> dict[str, float]:
    """Return what needs probabilities rather than decisions."""
    total = p.sum(axis=-1, keepdims=True)
    if not np.isfinite(p).all() or not (total > 0).all() or p.shape[1] < 2:
        return {}
    from sklearn.metrics import average_precision_score, log_loss, roc_auc_score

    # float32 probabilities sum to one only nearly, which scikit-learn warns of.
    p = p / total
    classes = np.arange(p.shape[1])
    scores = {"log_loss": float(log_loss(y, p, labels=classes))}
    if len(np.unique(y)) < len(classes):
        return scores
    if len(classes) == 2:
        scores["roc_auc"] = float(roc_auc_score(y, p[:, 1]))
        scores["average_precision"] = float(average_precision_score(y, p[:, 1]))
    else:
        scores["roc_auc"] = float(roc_auc_score(y, p, multi_class="ovr", labels=classes))
    return scores
