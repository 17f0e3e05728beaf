"""Probabilities that can be acted on: a temperature, and thresholds for a stated goal.

A temperature above 1 makes a network less sure of itself. It is the one number that makes the log
loss on validation as low as it can be (Guo et al., "On Calibration of Modern Neural Networks",
2017); no label changes by it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from kerasft.errors import UserError, nearest
from kerasft.spec import Decision, Labels

GOALS = ("f1", "recall", "precision")
BINS = 15
_COLDEST, _HOTTEST = 0.05, 20.0
# Log losses closer than this are the same.
_FLAT = 1e-9
# A threshold that no probability reaches.
NEVER = 2.0


def decide_single(
    y: np.ndarray, logits: np.ndarray, labels: Labels, *, temperature: float | str,
    goal: str | None, at_least: float | None, positive: str | None,
) -> Decision:
    """Tune the decision of a classifier with one class an example; see `Classification.decide`."""
    check_wanted(temperature=temperature, goal=goal, at_least=at_least, positive=positive)
    y = np.asarray(y, np.int64)
    degree, notice = _temperature(temperature, lambda t: _log_loss(y, _softmax(logits, t)))
    p = _softmax(logits, degree)
    found: dict[str, Any] = {
        "examples": len(y), **notice,
        "log_loss": {"before": _log_loss(y, _softmax(logits, 1.0)),
                     "after": _log_loss(y, p)},
        "calibration_error": {"before": calibration_error(y, _softmax(logits, 1.0)),
                              "after": calibration_error(y, p)},
    }  # fmt: skip
    if not goal:
        return Decision(degree, validation=found)
    least = _least(goal, at_least)
    names = labels.names
    if positive is not None and positive not in names:
        raise UserError(
            f"export: positive must be one of the classes {', '.join(names)}. "
            f"Received: {positive!r}.{nearest(positive, names)}"
        )
    if positive is None and len(names) > 2:
        if goal != "precision":
            raise UserError(
                f"export: goal={goal} is about one class, and there are {len(names)}. Say which "
                f"with positive=NAME (one of {', '.join(names[:8])}), or choose goal=precision, "
                "which tells of each label whether it is as certain as at_least says."
            )
        return _certain(y, p, names, least, degree, found)
    index = names.index(positive) if positive is not None else len(names) - 1
    sure = p[:, index].astype(np.float32)  # as it is served
    cut = _reached(y == index, sure, goal, least, names[index])
    found["classes"] = {names[index]: _figures(y == index, sure >= np.float32(cut))}
    return Decision(degree, goal, at_least, (cut,), index, found)


def _certain(
    y: np.ndarray, p: np.ndarray, names: Sequence[str], least: float, degree: float,
    found: dict[str, Any],
) -> Decision:
    """Decide from which probability on a label of each class is as certain as the goal says."""
    best, cuts = p.argmax(axis=-1), []
    found["classes"] = {}
    for c, name in enumerate(names):
        right, sure = (y == c)[best == c], p[best == c, c]
        cut = threshold(right, sure, "precision", least)
        cuts.append(NEVER if cut is None else cut)
        found["classes"][name] = _figures(right, sure.astype(np.float32) >= np.float32(cuts[c]))
    if all(cut == NEVER for cut in cuts):
        raise UserError(
            f"export: no label of any class has a precision of {least:g} on validation, however "
            "certain. Choose a lower at_least."
        )
    found["never"] = [n for n, cut in zip(names, cuts, strict=True) if cut == NEVER]
    decided = p.max(axis=-1).astype(np.float32) >= np.array(cuts, np.float32)[best]
    found["decided"] = float(decided.mean())
    return Decision(degree, "precision", least, tuple(cuts), None, found)


def decide_multi(
    y: np.ndarray, logits: np.ndarray, labels: Labels, *, temperature: float | str,
    goal: str | None, at_least: float | None, positive: str | None, cutoff: float,
) -> Decision:
    """Tune the decisions on any number of classes; see `MultiLabel.decide`."""
    check_wanted(
        several=True, temperature=temperature, goal=goal, at_least=at_least, positive=positive
    )
    y = np.asarray(y) > 0
    degree, notice = _temperature(temperature, lambda t: _log_loss_multi(y, _sigmoid(logits, t)))
    p = _sigmoid(logits, degree)
    found: dict[str, Any] = {
        "examples": len(y), **notice,
        "log_loss": {"before": _log_loss_multi(y, _sigmoid(logits, 1.0)),
                     "after": _log_loss_multi(y, p)},
    }  # fmt: skip
    if not goal:
        return Decision(degree, validation=found)
    least = _least(goal, at_least)
    problems: list[str] = []
    cuts: list[float] = []
    for c, name in enumerate(labels.names):
        if not y[:, c].any():  # nothing to tune on: the task's own
            cuts.append(rescaled(cutoff, degree))
            continue
        try:
            cuts.append(_reached(y[:, c], p[:, c], goal, least, name))
        except UserError as error:
            problems += error.problems
    if problems:
        raise UserError(problems=problems)
    decided = p.astype(np.float32) >= np.array(cuts, np.float32)  # as it is served
    found["classes"] = {
        name: _figures(y[:, c], decided[:, c])
        for c, name in enumerate(labels.names)
    }
    found["untuned"] = [n for c, n in enumerate(labels.names) if not y[:, c].any()]
    return Decision(degree, goal, at_least, tuple(cuts), None, found)


def check_wanted(
    *, several: bool = False, temperature: float | str = 1.0, goal: str | None = None,
    at_least: float | None = None, positive: str | None = None,
) -> None:
    """See that what is wanted of a decision can be tuned, as far as that is known without data.

    Args:
        several: Whether an example may have several classes; see `Classification.decide` for the
            others.

    Raises:
        UserError: If it cannot.
    """
    _temperature(temperature, lambda degree: degree)
    if several and positive is not None:
        raise UserError(
            "export: with several labels an example the goal is for each class; leave out "
            f"positive. Received: {positive!r}."
        )
    if goal:
        _least(goal, at_least)
    else:
        _no_goal(at_least=at_least, positive=positive)


def refuse_wanted(
    *, temperature: float | str = 1.0, goal: str | None = None, at_least: float | None = None,
    positive: str | None = None,
) -> None:
    """Refuse what is wanted of a decision, of a task that has none: its answers are numbers.

    Raises:
        UserError: If anything is.
    """
    given = {"temperature": temperature != 1.0, "goal": goal, "at_least": at_least,
             "positive": positive}
    if said := [name for name, value in given.items() if value]:
        raise UserError(
            f"A number has no classes to decide on: leave out {', '.join(said)}. Received: "
            "task=regression."
        )


def _no_goal(**given: Any) -> None:
    if said := [f"{name}={value!r}" for name, value in given.items() if value is not None]:
        raise UserError(
            f"export: {' and '.join(said)} says nothing without a goal: one of {', '.join(GOALS)}."
        )


def _least(goal: str, at_least: float | None) -> float:
    """Return the share that a goal must reach, or say why it is no goal."""
    if goal not in GOALS:
        raise UserError(
            f"export: goal must be one of {', '.join(GOALS)}. Received: {goal!r}."
            f"{nearest(str(goal), GOALS)}"
        )
    if goal == "f1":
        if at_least is not None:
            raise UserError(
                "export: goal=f1 takes the best F1 that there is; leave out at_least. Received: "
                f"at_least={at_least!r}."
            )
        return 0.0
    is_number = isinstance(at_least, int | float) and not isinstance(at_least, bool)
    if not (is_number and 0 < float(at_least or 0) <= 1):
        raise UserError(
            f"export: goal={goal} needs a share to reach, above 0 and at most 1, such as "
            f"at_least=0.9. Received: at_least={at_least!r}."
        )
    return float(at_least or 0)


def rescaled(cutoff: float, temperature: float) -> float:
    """Return the threshold that decides after a temperature as `cutoff` did before it.

    Example:
        >>> rescaled(0.5, 3.0)
        0.5
    """
    if temperature == 1.0:
        return cutoff
    return float(1 / (1 + np.exp(-np.log(cutoff / (1 - cutoff)) / temperature)))


def calibration_error(y: np.ndarray, probabilities: np.ndarray, bins: int = BINS) -> float:
    """Return the expected calibration error of the likeliest class.

    Args:
        y: The index of the true class, `[N]`.
        probabilities: `[N, classes]`.
        bins: Into how many equal parts the probabilities are put.

    Returns:
        The difference between how sure and how right the network is, averaged over the bins by the
        examples in them.

    Example:
        >>> calibration_error(np.array([0, 1]), np.array([[0.75, 0.25], [0.75, 0.25]]))
        0.25
    """
    p = np.asarray(probabilities, np.float64)
    sure, right = p.max(axis=-1), p.argmax(axis=-1) == np.asarray(y)
    place = np.minimum((sure * bins).astype(int), bins - 1)
    counts = np.bincount(place, minlength=bins)
    gaps = np.bincount(place, sure - right, minlength=bins)
    return float(np.abs(gaps[counts > 0]).sum() / max(len(sure), 1))


def _temperature(wanted: float | str, loss: Any) -> tuple[float, dict[str, str]]:
    """Return the temperature, and under `notice` what is odd about it."""
    if wanted == "auto":
        from scipy.optimize import minimize_scalar

        found = minimize_scalar(
            lambda log: loss(np.exp(log)), method="bounded",
            bounds=(np.log(_COLDEST), np.log(_HOTTEST)),
        )
        degree = float(np.float32(np.exp(found.x)))
        if loss(_COLDEST) <= loss(degree) + _FLAT:
            return 1.0, {"notice": (
                "the temperature stays 1: validation holds no mistakes that could tell another"
            )}
        if loss(_HOTTEST) <= loss(degree) + _FLAT:
            return degree, {"notice": (
                f"the temperature is at its limit of {_HOTTEST:g}: on validation the network is "
                "no better than guessing"
            )}
        return degree, {}
    is_number = isinstance(wanted, int | float) and not isinstance(wanted, bool)
    if not (is_number and 0 < float(wanted) < np.inf):
        raise UserError(
            f"export: temperature must be a number above 0, or 'auto'. Received: {wanted!r}."
        )
    return float(wanted), {}


def _reached(true: np.ndarray, p: np.ndarray, kind: str, least: float, name: str) -> float:
    """Return the threshold of a class, or say that there is none."""
    if not true.any():
        raise UserError(
            f"export: no example of the class {name!r} in the validation split can tell a "
            "threshold. Leave the goal out, or train with more examples for validation."
        )
    cut = threshold(true, p, kind, least)
    if cut is None:
        raise UserError(
            f"export: no threshold of the class {name!r} reaches {kind} {least:g} on validation. "
            "Choose a lower at_least."
        )
    return cut


def threshold(true: np.ndarray, p: np.ndarray, kind: str, least: float = 0.0) -> float | None:
    """Return the probability from which to decide, so that a goal is met as well as can be.

    Args:
        true: Which examples are of the class, bool `[N]`.
        p: Their probabilities, `[N]`.
        kind: `"f1"`, the best F1; `"recall"`, the best precision with at least this recall;
            `"precision"`, the best recall with at least this precision.
        least: The share that recall or precision must reach.

    Returns:
        The middle between the lowest probability that is taken and the highest that is not;
        `None` where no threshold reaches the goal, or nothing is true.

    Example:
        >>> threshold(np.array([True, False, True]), np.array([0.75, 0.5, 0.25]), "precision", 1)
        0.625
    """
    true = np.asarray(true, bool)
    values = np.asarray(p, np.float32).astype(np.float64)
    if not true.any() or not np.isfinite(values).all():
        return None
    order = np.argsort(-values, kind="stable")
    values, hits = values[order], np.cumsum(true[order])
    taken = np.arange(1, len(values) + 1)
    ends = np.append(values[1:] < values[:-1], True)  # equal ones can only be taken together
    precision, recall = hits / taken, hits / true.sum()
    score, allowed = {
        "f1": (2 * hits / (taken + true.sum()), ends),
        "recall": (precision, ends & (recall >= least)),
        "precision": (recall, ends & (precision >= least)),
    }[kind]
    if not allowed.any():
        return None
    best = int(np.argmax(np.where(allowed, score, -1.0)))
    below = values[best + 1] if best + 1 < len(values) else 0.0
    middle = float((values[best] + below) / 2)
    # float32 is what the served graph compares in; the middle must not round up past the lowest.
    return middle if np.float32(below) < np.float32(middle) else float(values[best])


def _figures(true: np.ndarray, decided: np.ndarray) -> dict[str, float]:
    both = float((true & decided).sum())
    precision = both / decided.sum() if decided.any() else 0.0
    recall = both / true.sum() if true.any() else 0.0
    total = precision + recall
    return {
        "precision": float(precision), "recall": float(recall),
        "f1": float(2 * precision * recall / total) if total else 0.0,
        "support": int(true.sum()),
    }


def _softmax(logits: Sequence[Any] | np.ndarray, temperature: float) -> np.ndarray:
    scaled = np.asarray(logits, np.float64) / temperature
    scaled = np.exp(scaled - scaled.max(axis=-1, keepdims=True))
    return scaled / scaled.sum(axis=-1, keepdims=True)


def _sigmoid(logits: Sequence[Any] | np.ndarray, temperature: float) -> np.ndarray:
    from scipy.special import expit

    return expit(np.asarray(logits, np.float64) / temperature)


_TINY = 1e-12


def _log_loss(y: np.ndarray, p: np.ndarray) -> float:
    return float(-np.log(np.maximum(p[np.arange(len(y)), y], _TINY)).mean())


def _log_loss_multi(y: np.ndarray, p: np.ndarray) -> float:
    right = np.where(y, p, 1 - p)
    return float(-np.log(np.maximum(right, _TINY)).mean())
