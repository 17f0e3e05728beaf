"""Numbers to predict: read in float64, and doubted where they cannot be learned."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import numpy as np

from kerasft.data.annotations.list_cells import Cell
from kerasft.errors import UserError
from kerasft.system.console import listing

# Answers are given in float32.
LARGEST = float(np.finfo("float32").max)


def read_numbers(
    values: Sequence[Any], ids: Sequence[str], key: str
) -> tuple[np.ndarray, list[str]]:
    """Read numbers to predict, as precisely as they are written.

    Args:
        values: One raw value an example.
        ids: Where each value is, for messages.
        key: The config key behind the labels.

    Returns:
        `float64[N]`, and sentences for the user.

    Raises:
        UserError: If a value is no finite number, or if all are the same.

    Example:

    >>> read_numbers(["1700000000", 1700000001], ["1", "2"], "data.label")[0].tolist()
    [1700000000.0, 1700000001.0]
    """
    numbers = np.empty(len(values), dtype="float64")
    wrong = []
    for index, value in enumerate(values):
        number = None if value is None else _number(str(value).strip())
        if number is None or not abs(number) <= LARGEST:
            wrong.append(f"{ids[index]} has {repr(value)[:40]}")
        else:
            numbers[index] = number
    if wrong:
        advice = "Give each row a finite number (with a decimal point), or take those rows out"
        if len(wrong) > len(values) // 2:
            advice = "For class names choose task=classification, for a table check data.label"
        elif wrong[0].startswith(f"{ids[0]} has"):
            advice += "; if the first row holds the names of the columns, set data.header=true"
        labels = "1 label" if len(wrong) == 1 else f"{len(wrong):,} labels"
        raise UserError(
            f"{labels} of {key} {'is' if len(wrong) == 1 else 'are'} no finite number, or too "
            f"large: {listing(wrong)}. {advice}."
        )
    if len(values) > 1 and (numbers == numbers[0]).all():
        close = len({_exact(value) for value in values}) > 1
        raise UserError(
            f"All labels of {key} are {numbers[0]:g}: there is nothing to learn. " + (
                "They differ beyond the precision of float64 (some 16 digits): subtract what they "
                "have in common." if close else "Check that the right column was chosen."
            )
        )  # fmt: skip
    return numbers, _collapsed(numbers, key)


def read_several(
    values: Sequence[Any], ids: Sequence[str], names: Sequence[str] | None, key: str
) -> tuple[tuple[str, ...], np.ndarray, list[str]]:
    """Read several numbers an example.

    Args:
        values: For each example a list, tuple or array of numbers, or a text of a list.
        ids: Where each value is, for messages.
        names: What the numbers are called; by their place from 0 where `None`.
        key: The config key behind the labels.

    Returns:
        The names, `float64[N, numbers]`, and sentences for the user.

    Raises:
        UserError: If examples have unlike numbers of values, or one is no finite number.

    Example:

    >>> read_several([[1, "2.5"], "[3, 4]"], ["1", "2"], ["x", "y"], "data.label")[1].tolist()
    [[1.0, 2.5], [3.0, 4.0]]
    """
    rows = [_row(value) for value in values]
    width = len(rows[0]) if names is None else len(names)
    wrong = [f"{i} has {len(row)}" for i, row in zip(ids, rows, strict=True) if len(row) != width]
    if wrong:
        why = "as many as the first one" if names is None else f"one for each of {listing(names)}"
        raise UserError(
            f"Each example of {key} must hold {width} numbers, {why}: {listing(wrong)}. Name "
            "several columns as data.label=[A,B], or one column of lists that are equally long."
        )
    chosen = tuple(map(str, range(width))) if names is None else tuple(map(str, names))
    columns, notices = [], []
    for place, name in enumerate(chosen):
        column, said = read_numbers([row[place] for row in rows], ids, f"{key} ({name})")
        columns.append(column)
        notices += said
    return chosen, np.stack(columns, axis=1), notices


def _row(value: Any) -> list[Any]:
    if isinstance(value, str):
        return Cell.read(value).items or [value]
    return list(value) if isinstance(value, list | tuple | np.ndarray) else [value]


def _number(word: str) -> float | None:
    try:
        return float(word)
    except ValueError:
        return None


def _exact(value: object) -> Decimal | str:
    """Return a number as it is written, of any precision: 100 and 1e2 are one."""
    try:
        return Decimal(str(value).strip())
    except ArithmeticError:
        return str(value)


def _collapsed(numbers: np.ndarray, key: str) -> list[str]:
    """Say so where one huge number leaves the others no difference that can be learned."""
    spread = numbers.std()
    different = len(np.unique(numbers))
    # The network learns them standardized, in float32.
    left = len(np.unique(((numbers - numbers.mean()) / (spread or 1.0)).astype("float32")))
    if left > different // 2:
        return []
    far = numbers[np.abs(numbers - np.median(numbers)).argmax()]
    return [
        f"The labels of {key} are {different:,} different numbers, and only {left:,} of them can "
        f"be told apart in units of their standard deviation ({spread:.3g}), as they are learned: "
        f"look at the rows with numbers such as {far:g}."
    ]
