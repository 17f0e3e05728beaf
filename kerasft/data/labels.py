"""From what stands in a folder's name or a cell to the numbers that a network learns."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Sequence
from typing import Any

import numpy as np

from kerasft.console import listing
from kerasft.errors import UserError, nearest
from kerasft.spec import KINDS, Labels

LARGEST = float(np.finfo("float32").max)


def encode(
    values: Sequence[Any],
    ids: Sequence[str],
    *,
    kind: str,
    names: Sequence[str] | None = None,
    delimiter: str | None = ",",
    key: str = "data.label",
) -> tuple[Labels, np.ndarray, list[str]]:
    """Turn raw label values into `Labels` and an array.

    Args:
        values: One raw value an example: text, a number, or for kind `"multi"` also a list.
        ids: Where each value stands, for messages.
        kind: `"single"`, `"multi"` or `"number"`.
        names: The class names, in order. Values may then be the names or their numbers from 0.
            Without, the names are what the values say, sorted naturally (2 before 10).
        delimiter: What parts the labels of one example, for kind `"multi"`.
        key: The config key behind the labels, for messages.

    Returns:
        The `Labels`, the array that `Examples.labels` holds, and sentences for the user.

    Raises:
        UserError: If a label is empty, is no number where one is needed, or if two labels
            differ by case or blanks alone.

    Example:

    >>> encode(["spam", "ham"], ["a:1", "a:2"], kind="single")[1].tolist()
    [1, 0]
    """
    if kind not in KINDS:
        raise UserError(f"Labels are of one of the kinds {list(KINDS)}. Received: {kind!r}.")
    if not len(values):
        raise UserError("There are no examples, and so no labels.")
    if kind == "number":
        return Labels("number"), _numbers(values, ids, key), []
    _check_plain(values, ids, kind, key)
    if kind == "single":
        words = [[_word(value)] for value in values]
        empty = [i for i, word in zip(ids, words, strict=True) if not word[0].strip()]
        if empty:
            raise UserError(
                f"{some(len(empty), 'label')} of {key} {_is(len(empty))} empty or NaN: "
                f"{listing(empty)}. Give each example a label, or take those rows out."
            )
    else:
        words = [_parts(value, delimiter) for value in values]
    found = sorted({word for part in words for word in part}, key=natural)
    if names is None:
        _check_alike(found, key)
        if kind == "single":
            _check_classes(found, len(values), key)
        chosen, number_of = tuple(found), {name: n for n, name in enumerate(found)}
    else:
        chosen, number_of = _named(names, found, words, ids)
    _check_count(chosen, kind, key)
    _check_lines(chosen, words, ids, key)
    if kind == "single":
        array = np.array([number_of[word[0]] for word in words], dtype="int64")
        return Labels("single", chosen), array, []
    array = np.zeros((len(words), len(chosen)), dtype="float32")
    for row, part in enumerate(words):
        array[row, [number_of[word] for word in part]] = 1.0
    bare = int((array.sum(axis=1) == 0).sum())
    notices = [f"{some(bare, 'example')} carry no label at all; kept as such."] if bare else []
    return Labels("multi", chosen), array, notices


def _check_plain(values: Sequence[Any], ids: Sequence[str], kind: str, key: str) -> None:
    """Refuse objects and lists where a label is one word, and words that cannot be written."""
    nested = (dict, list, tuple, set, frozenset, np.ndarray) if kind == "single" else dict
    wrong = [f"{i} has {str(v)[:40]}" for i, v in zip(ids, values, strict=True)
             if isinstance(v, nested)]  # fmt: skip
    if wrong:
        advice = "" if any(isinstance(v, dict) for v in values) else (
            " For several labels an example set task=multi_label."
        )
        raise UserError(
            f"Each label of {key} must be one word or number, and {some(len(wrong), 'example')} "
            f"hold several in one: {listing(wrong)}.{advice}"
        )
    halves = [
        i for i, v in zip(ids, values, strict=True)
        if isinstance(v, str) and any("\ud800" <= sign <= "\udfff" for sign in v)
    ]  # fmt: skip
    if halves:
        raise UserError(
            f"{some(len(halves), 'label')} of {key} hold half a character (a lone surrogate such "
            f"as \\ud83d), which UTF-8 cannot write: {listing(halves)}. Correct those rows."
        )
    raw = [i for i, v in zip(ids, values, strict=True) if isinstance(v, bytes) and not _is_text(v)]
    if raw:
        raise UserError(
            f"{some(len(raw), 'label')} of {key} {_is(len(raw))} no UTF-8 text but other bytes: "
            f"{listing(raw)}. Check that the right column was chosen."
        )


def _check_lines(
    names: Sequence[str], words: Sequence[Sequence[str]], ids: Sequence[str], key: str
) -> None:
    """Refuse names with line breaks: they are kept one a line."""
    broken = {name for name in names if len(f"{name}.".splitlines()) > 1}
    if broken:
        where = [i for i, part in zip(ids, words, strict=True) if broken.intersection(part)]
        raise UserError(
            f"{some(len(broken), 'class name')} of {key} with a line break "
            f"({listing(map(repr, sorted(broken)))}): {listing(where)}. Correct those labels; an "
            "unclosed quote in the file may be the cause."
        )


def _is_text(value: bytes) -> bool:
    try:
        value.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def natural(name: str) -> tuple:
    """Return a sort key by which numbers stand by value and words by their letters and digits."""
    number = _number(name)
    if number is not None and math.isfinite(number):
        return (0, number, (), name)
    pieces = re.split(r"(\d+)", name)
    # Text and numbers alternate, so two keys never compare a number with a text.
    mixed = tuple(int(p[:400]) if i % 2 else p.casefold() for i, p in enumerate(pieces))
    return (1, 0.0, mixed, name)


def some(count: int, noun: str) -> str:
    """Return `1 label` or `1,200 labels`."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def _is(count: int) -> str:
    return "is" if count == 1 else "are"


def _word(value: Any) -> str:
    """Say a raw value as a label: `3.0` out of a column of whole numbers is `3`."""
    if value is None:
        return ""
    if isinstance(value, (bool, np.bool_)):
        return "true" if value else "false"
    if isinstance(value, bytes):
        return value.decode("utf-8")
    if isinstance(value, (float, np.floating)):
        if math.isnan(value):
            return ""
        return str(int(value)) if float(value).is_integer() else repr(float(value))
    word = str(value)
    return "" if word.strip().casefold() == "nan" else word


def _parts(value: Any, delimiter: str | None) -> list[str]:
    if isinstance(value, (list, tuple, np.ndarray, set, frozenset)):
        parts = [_word(part) for part in value]
    else:
        word = _word(value)
        parts = word.split(delimiter) if delimiter else [word]
    # The blanks around a delimiter belong to the way of writing, not to the name.
    return [part.strip() for part in parts if part.strip()]


def _number(word: str) -> float | None:
    try:
        return float(word)
    except ValueError:
        return None


def _numbers(values: Sequence[Any], ids: Sequence[str], key: str) -> np.ndarray:
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
        raise UserError(
            f"{some(len(wrong), 'label')} of {key} {_is(len(wrong))} no finite number, or too "
            f"large: {listing(wrong)}. {advice}."
        )
    if len(values) > 1 and (numbers == numbers[0]).all():
        raise UserError(
            f"All labels of {key} are {numbers[0]:g}: there is nothing to learn. "
            "Check that the right column was chosen."
        )
    return numbers.astype("float32")


def _check_alike(found: Sequence[str], key: str) -> None:
    """Refuse labels that a person reads as one and a computer as two."""
    alike: dict[Any, list[str]] = {}
    for name in found:
        number = _number(name)
        plain = " ".join(unicodedata.normalize("NFC", name).casefold().split())
        alike.setdefault(plain if number is None else number, []).append(name)
    pairs = [" and ".join(repr(n) for n in group) for group in alike.values() if len(group) > 1]
    if pairs:
        raise UserError(
            f"Labels of {key} that differ by case, blanks or the way of writing alone: "
            f"{listing(pairs, 10)}. They would become classes of their own: write each in one "
            "way (rename the folder, or correct the cells)."
        )


def _check_classes(found: Sequence[str], examples: int, key: str) -> None:
    """Refuse what cannot be class names: measured values, or a text of its own in each row."""
    numbers = [_number(name) for name in found]
    measured = None not in numbers and any(not float(n).is_integer() for n in numbers if n)
    if measured and (len(found) > 20 or len(found) > examples / 2):
        raise UserError(
            f"The labels of {key} look like measurements, not like classes: {len(found):,} "
            f"different numbers in {examples:,} examples (such as {listing(found, 3)}). "
            "To learn the number itself, set task=regression; if they are classes, list them "
            "in data.label_names."
        )
    if examples > 20 and len(found) > examples / 2:
        raise UserError(
            f"{key} holds {len(found):,} different values in {examples:,} examples (such as "
            f"{listing([repr(name[:40]) for name in found], 3)}): too many to be classes. "
            "Check that the right column was chosen; for numbers to predict set task=regression."
        )


def _check_count(names: Sequence[str], kind: str, key: str) -> None:
    least = 2 if kind == "single" else 1
    if len(names) < least:
        only = f"the only one is {names[0]!r}" if names else "there is none"
        raise UserError(
            f"{key} must hold at least {'2 classes' if least == 2 else '1 class'}: {only}. "
            "Check that the right folder or column was chosen, and that the examples of the other "
            "classes are there."
        )


def _named(
    names: Sequence[str], found: Sequence[str], words: Sequence[Sequence[str]], ids: Sequence[str]
) -> tuple[tuple[str, ...], dict[str, int]]:
    """Match the values with the names that the user gave: by name, or by number from 0."""
    chosen = tuple(str(name) for name in names)
    twice = sorted({name for name in chosen if chosen.count(name) > 1})
    if twice or any(not name.strip() for name in chosen):
        raise UserError(
            "data.label_names must hold different names, none empty. Received: "
            + (f"{listing([repr(n) for n in twice])} more than once." if twice else "an empty one.")
        )
    by_name = {name: n for n, name in enumerate(chosen)}
    if all(word in by_name for word in found):
        return chosen, by_name
    by_number = {word: int(word) for word in found if word.isascii() and word.isdigit()}
    if len(by_number) == len(found) and max(by_number.values()) < len(chosen):
        return chosen, by_number
    strange = [
        word
        for word in found
        if word not in by_name and by_number.get(word, len(chosen)) >= len(chosen)
    ] or [word for word in found if word not in by_name]
    first = next(i for i, part in zip(ids, words, strict=True) if strange[0] in part)
    raise UserError(
        f"data.label_names lists {len(chosen):,} names ({listing(chosen)}), and some labels are "
        f"neither such a name nor its number from 0 to {len(chosen) - 1}. Received: "
        f"{listing([repr(word) for word in strange])} (first at {first})."
        + nearest(strange[0], chosen)
    )
