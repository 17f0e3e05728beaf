"""How the answers of two computations of one network are compared: rules that are data.

Each output of a task has a rule, and `signature.json` holds the rules of what it describes, so that
an export is proved, verified and asked again by the same ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from kerasft.raw_input import values_of
from kerasft.system.recorded import require_fields

Rule = Literal["close", "exact", "decided", "ranked", "pixels"]

# What fills up rows of several sizes.
PADDING = -1
# What float32 rounds away, in parts of a value.
_ROUNDING = 4 * float(np.finfo(np.float32).eps)


@dataclass(frozen=True)
class Output:
    """What an output is, as far as comparing and showing it need to know.

    Args:
        rule: `"close"` for numbers, which may differ a little; `"exact"` for what may not;
            `"decided"` for what follows from numbers, and may differ where these are as good as
            equal; `"ranked"` for what stands in their order; `"pixels"` for encoded images, of
            which a small part of the pixels may differ.
        by: The output with these numbers, `[N, values]`.
        largest: Whether the largest of them decides.
        cutoffs: The numbers that decide: one for all values, or one for each, `None` where a value
            has none.
        top: How many of the first in order count; all by default.
        unit: For `"close"`, in parts of what differences are told: the standard deviation of the
            labels, say; of an output with several numbers one for each.
        each: Whether the last axis has a value for each label.
        among: The output with a number for each row of an example, `[N, rows]`: rows whose numbers
            are as good as equal may stand in each other's place.
        item: What a row is called where rows are shown as objects; those that `among` pads with 0
            are left out.
        padded: Whether rows are filled up with `PADDING` to the largest of their batch, so that
            their shape hangs on what else is asked.
    """

    rule: Rule = "close"
    by: str = ""
    largest: bool = False
    cutoffs: float | tuple[float | None, ...] | None = None
    top: int | None = None
    unit: float | tuple[float, ...] | None = None
    each: bool = False
    among: str = ""
    item: str = ""
    padded: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Return what differs from the defaults, as plain values, and the rule.

        Example:
            >>> Output("decided", by="probabilities", largest=True).to_dict()
            {'rule': 'decided', 'by': 'probabilities', 'largest': True}
        """
        usual = vars(Output())
        return {"rule": self.rule} | {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in vars(self).items() if value != usual[name] and name != "rule"
        }

    def near(self, outputs: Mapping[str, np.ndarray], count: int, tolerance: float) -> np.ndarray:
        """Return for which examples a difference within the tolerance can change this output.

        Args:
            outputs: All outputs, as they are expected.
            count: How many examples there are.
            tolerance: What numbers may differ by.

        Returns:
            bool `[count]`.

        Example:
            >>> rule = Output("decided", by="scores", largest=True)
            >>> rule.near({"scores": np.array([[0.5, 0.5], [0.9, 0.1]])}, 2, 0.01).tolist()
            [True, False]
        """
        near = np.zeros(count, bool)
        if self.by not in outputs or self.rule not in ("decided", "ranked"):
            return near
        values = np.asarray(outputs[self.by], np.float64)
        if self.cutoffs is not None:
            near |= (np.abs(values - _numbers(self.cutoffs)) <= tolerance).any(axis=-1)
        if (self.largest or self.rule == "ranked") and values.shape[-1] > 1:
            gaps = np.diff(np.sort(values, axis=-1), axis=-1) <= 2 * tolerance
            top = 1 if self.rule == "decided" else self.top or values.shape[-1]
            near |= gaps[:, -top:].any(axis=-1)
        return near

    @property
    def by_amount(self) -> bool:
        """Whether answers may differ by a little."""
        return self.rule in ("close", "pixels")

    def decide(self, values: np.ndarray) -> np.ndarray:
        """Return what numbers decide on: an array whose rows are equal where that is.

        Args:
            values: `[N, values]`.
        """
        parts: list[np.ndarray] = [np.zeros((len(values), 0))]
        if self.largest:
            parts.append(values.argmax(axis=-1)[:, None])
        if self.cutoffs is not None:
            parts.append(values >= _numbers(self.cutoffs))
        return np.concatenate(parts, axis=-1)


def _numbers(cutoffs: float | Sequence[float | None]) -> np.ndarray:
    """Return cutoffs as an array; nothing reaches one that there is not."""
    if not isinstance(cutoffs, list | tuple):
        return np.asarray(cutoffs, np.float64)
    return np.array([np.inf if one is None else one for one in cutoffs], np.float64)


def rules_of(signature: Mapping[str, Any]) -> dict[str, Output]:
    """Return the rules that a `signature.json` holds.

    Args:
        signature: What it says. Before it had rules, it told the `spread` of predicted numbers.
    """
    if "compare" not in signature:
        unit = signature.get("spread")
        return {
            "probabilities": Output(each=True), "labels": Output("exact", each=True),
            **({name: Output(unit=unit) for name in ("value", "outputs")} if unit else {}),
        }  # fmt: skip
    found = {}
    for name, saved in signature["compare"].items():
        values = {key: value for key, value in saved.items() if key in vars(Output())}
        for key in ("cutoffs", "unit"):
            if isinstance(values.get(key), list):
                values[key] = tuple(values[key])
        found[name] = Output(**values)
    return found


def check_rules(signature: Mapping[str, Any], file: Path) -> None:
    """See that what a `signature.json` holds as rules are some.

    Raises:
        UserError: If it is damaged.
    """
    require_fields({"compare": signature.get("compare", {})}, _Compared, file)
    for saved in signature.get("compare", {}).values():
        require_fields(saved, _Saved, file)


class _Compared:
    compare: dict[str, dict[str, Any]]


class _Saved:
    """An `Output` as JSON holds it, where tuples are lists."""

    rule: Rule
    by: str
    largest: bool
    cutoffs: float | list[float | None] | None
    top: int | None
    unit: float | list[float] | None
    each: bool
    among: str
    item: str
    padded: bool


def rule_for(name: str, values: np.ndarray, rules: Mapping[str, Output]) -> Output:
    """Return the rule of an output; by its type where it has none of its own."""
    if name in rules:
        return rules[name]
    return Output("close" if np.asarray(values).dtype.kind == "f" else "exact")


def aligned(
    served: Mapping[str, np.ndarray], wanted: Mapping[str, np.ndarray],
    rules: Mapping[str, Output], tolerance: float,
) -> dict[str, np.ndarray]:
    """Return answers whose rows stand where the wanted ones do, as far as rules let them.

    Args:
        served: Answers by name, `[N, rows, ...]` where rows may change places.
        wanted: What they should be.
        rules: The rules of the outputs, see `Output.among`.
        tolerance: What numbers may differ by.

    Returns:
        The answers. In a list that is full, a row at its end may be another one of the same number:
        it then counts as the wanted one.

    Example:
        >>> rules = {"boxes": Output("exact", among="scores")}
        >>> one = {"scores": np.array([[0.5, 0.5]]), "boxes": np.array([[7, 3]])}
        >>> other = {"scores": np.array([[0.5, 0.5]]), "boxes": np.array([[3, 7]])}
        >>> aligned(one, other, rules, 1e-4)["boxes"].tolist()
        [[3, 7]]
    """
    made = dict(served)
    for among in {rule.among for rule in rules.values() if rule.among}:
        if among not in served or among not in wanted:  # another signature has these
            continue
        names = [among, *(name for name, rule in rules.items() if rule.among == among)]
        names = [name for name in names if name in served and name in wanted
                 and served[name].shape[:2] == served[among].shape]
        # Nothing can change places where there is nothing.
        if any(served[n].shape != wanted[n].shape for n in names) or not wanted[among].shape[1]:
            continue
        own = {name: np.array(served[name]) for name in names}
        for i in range(len(wanted[among])):
            rows = {name: (own[name][i], np.asarray(wanted[name])[i]) for name in names}
            order = _order(rows, among, tolerance)
            for name, (mine, theirs) in rows.items():
                own[name][i] = np.where(
                    (order < 0).reshape(-1, *[1] * (mine.ndim - 1)), theirs, mine[order]
                )
        made |= own
    return made


def _order(
    rows: Mapping[str, tuple[np.ndarray, np.ndarray]], among: str, tolerance: float
) -> np.ndarray:
    """Return which served row stands for each wanted one; -1 where any other would do."""
    mine, theirs = rows[among]
    count = len(theirs)
    order, free = np.arange(count), np.ones(count, bool)
    costs = np.zeros((count, count))  # [wanted, served]
    for one, other in rows.values():
        if other.dtype.kind == "f":
            pairs = np.abs(other[:, None].astype("float64") - one[None].astype("float64"))
            scale = max(1.0, float(np.abs(other).max(initial=0)))
            costs = np.maximum(costs, pairs.reshape(count, count, -1).max(axis=-1) / scale)
        else:
            differ = (other[:, None] != one[None]).reshape(count, count, -1).any(axis=-1)
            costs = np.maximum(costs, differ.astype("float64"))
    if (np.diagonal(costs) <= tolerance).all():
        return order
    near = np.abs(theirs[:, None].astype("float64") - mine[None]) <= 2 * tolerance
    costs = np.where(near, costs, np.inf)
    last = theirs[-1] if count else 0.0  # 0 pads a list that is not full
    for i in range(count):
        able = np.where(free, costs[i], np.inf)
        best = int(able.argmin())
        if able[best] > tolerance and last > 0 and theirs[i] <= last + 2 * tolerance:
            order[i] = -1
            continue
        if np.isfinite(able[best]):
            order[i], free[best] = best, False
    return order


def rows_apart(served: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Tell the examples whose answers are not the same, bool `[N]`."""
    return (served != wanted).reshape(len(wanted), -1).any(axis=-1)


def differs(rule: Output, served: np.ndarray, wanted: np.ndarray) -> float:
    """Return how far an output is from the one that is wanted, as its rule has it.

    Args:
        rule: The rule.
        served: An answer.
        wanted: What it should be.

    Returns:
        See `apart`; of encoded images the largest share of one image's pixels that differ.
    """
    if rule.padded:
        served, wanted = filled_up([served, wanted])
    if rule.rule != "pixels":
        return apart(served, wanted, rule.unit)
    if served.shape != wanted.shape:
        return float("inf")
    pairs = zip(served.ravel().tolist(), wanted.ravel().tolist(), strict=True)
    return max((0.0 if one == other else apart(values_of(one), values_of(other))
                for one, other in pairs), default=0.0)  # fmt: skip


def filled_up(arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Return arrays whose rows are filled up to the largest of them: with `PADDING`, or no text.

    Example:
        >>> [one.tolist() for one in filled_up([np.array([[1]]), np.array([[2, 3]])])]
        [[[1, -1]], [[2, 3]]]
    """
    if len({one.shape[1:] for one in arrays}) == 1 or len({one.ndim for one in arrays}) > 1:
        return list(arrays)
    largest = np.max([one.shape[1:] for one in arrays], axis=0)
    return [
        np.pad(one, [(0, 0), *((0, int(most - has)) for most, has in
                               zip(largest, one.shape[1:], strict=True))],
               constant_values=b"" if one.dtype.kind == "O" else PADDING)
        for one in arrays
    ]  # fmt: skip


def apart(
    served: np.ndarray, wanted: np.ndarray, unit: float | Sequence[float] | None = None
) -> float:
    """Return how far an answer is from the one that is wanted.

    Args:
        served: An answer.
        wanted: What it should be.
        unit: The standard deviation of what is predicted, where that is a number in units of its
            own: differences are told in parts of it, beyond what float32 rounds away. One for
            each, where several numbers are.

    Returns:
        For numbers the largest difference, divided by the unit, or by the largest wanted size
        where that is above 1; for all else the share of values that differ. Infinite where the
        shapes differ.

    Example:
        >>> apart(np.array([0.5, 100.0]), np.array([0.5, 101.0])) < 0.01
        True
        >>> apart(np.array([100.0]), np.array([101.0]), unit=2.0) > 0.49
        True
    """
    if served.shape != wanted.shape:
        return float("inf")
    if served.size == 0:
        return 0.0
    if wanted.dtype.kind != "f":
        return float((served != wanted).mean())
    served, wanted = served.astype(np.float64), wanted.astype(np.float64)
    differences = np.abs(served - wanted)
    if unit:
        beyond = np.maximum(differences - _ROUNDING * np.abs(wanted), 0)
        worst = float((beyond / np.asarray(unit)).max())
    else:
        worst = float(differences.max()) / max(1.0, float(np.abs(wanted).max()))
    return worst if np.isfinite(worst) else float("inf")
