"""Class names: from the words of folders and cells to the numbers that a network learns."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from kerasft.data.annotations import kinds
from kerasft.data.annotations.alike import alike_names, check_alike, number, seen
from kerasft.data.annotations.label_lists import joint_classes, other_delimiters, read_lists
from kerasft.data.annotations.label_vectors import SEQUENCES, Vectors
from kerasft.data.annotations.numbers import read_numbers, read_several
from kerasft.errors import UserError, nearest, some
from kerasft.spec import Labels
from kerasft.system.console import listing

# What programs write where a label is missing; as a text it may also be a name.
_MISSING = ("nan", "na", "n/a", "none", "null", "<na>", "#n/a", "nat")


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
        values: One raw value an example: text, a number, or for kind `"multi"` also a list of
            labels. For both kinds of classes also a vector of 0 and 1, a number a class.
        ids: Where each value stands, for messages.
        kind: `"single"`, `"multi"`, `"number"` or `"numbers"`.
        names: The class names, in order. Values may then be the names or their numbers from 0.
            Without, the names are what the values say, sorted naturally (2 before 10).
        delimiter: What parts the labels of one example, for kind `"multi"`.
        key: The config key behind the labels, for messages.

    Returns:
        The `Labels`, the array that `Examples.labels` holds, and sentences for the user.

    Raises:
        UserError: If a label is empty, is no number where one is needed, if two labels look the
            same, or if lists are neither labels nor vectors.

    Example:

    >>> encode(["spam", "ham"], ["a:1", "a:2"], kind="single")[1].tolist()
    [1, 0]
    """
    if kind not in kinds.PLAIN:
        raise UserError(f"Labels are of one of the kinds {list(kinds.PLAIN)}. Received: {kind!r}.")
    if not len(values):
        raise UserError("There are no examples, and so no labels.")
    if kind == "number":
        return Labels("number"), *read_numbers(values, ids, key)
    if kind == "numbers":
        chosen, array, notices = read_several(values, ids, names, key)
        return Labels("numbers", chosen), array, notices
    read, notices = read_lists(
        values, ids, kind=kind, names=names, delimiter=delimiter, key=key
    )
    if isinstance(read, Vectors):
        return _from_vectors(read, names, kind, key, notices)
    values = read
    _check_plain(values, ids, kind, key)
    if kind == "single":
        # One list for all of the same text: labels are few and come often.
        known = {value: [value] for value in {v for v in values if isinstance(v, str)}}
        words = [known[v] if isinstance(v, str) else [_word(v)] for v in values]
        empty = [i for i, word in zip(ids, words, strict=True) if not seen(word[0])]
        if empty:
            raise UserError(
                f"{some(len(empty), 'label')} of {key} {_is(len(empty))} empty or NaN: "
                f"{listing(empty)}. Give each example a label, or take those rows out."
            )
        if names is None:
            words, said = _whole_numbers(words, key)
            notices += said
    else:
        words = [_parts(value, delimiter) for value in values]
    found = sorted({word for part in words for word in part}, key=natural)
    if names is None:
        notices += check_alike(found, key) + _missing(found, words)
        if kind == "single":
            _check_classes(found, len(values), key)
        chosen, number_of = tuple(found), {name: n for n, name in enumerate(found)}
    else:
        chosen, number_of = _named(names, found, words, ids)
        notices += alike_names(chosen)
    _check_count(chosen, kind, key)
    _check_lines(chosen, words, ids, key)
    if kind == "single":
        notices += joint_classes(found, key) if names is None and delimiter else []
        array = np.array([number_of[word[0]] for word in words], dtype="int64")
        return Labels("single", chosen), array, notices
    if names is None:
        notices += other_delimiters(found, delimiter)
    return _multi(chosen, [[number_of[word] for word in part] for part in words], notices)


def _multi(
    names: tuple[str, ...], on: Sequence[Sequence[int]], notices: Sequence[str]
) -> tuple[Labels, np.ndarray, list[str]]:
    array = np.zeros((len(on), len(names)), dtype="float32")
    for row, units in enumerate(on):
        array[row, list(units)] = 1.0
    bare = int((array.sum(axis=1) == 0).sum())
    said = [f"{some(bare, 'example')} carry no label at all; kept as such."] if bare else []
    return Labels("multi", names), array, [*notices, *said]


def _from_vectors(
    vectors: Vectors, names: Sequence[str] | None, kind: str, key: str, notices: Sequence[str]
) -> tuple[Labels, np.ndarray, list[str]]:
    """Encode vectors of 0 and 1, whose classes are named by the user or numbered from 0."""
    said = list(notices)
    if names is None:
        chosen = tuple(str(n) for n in range(vectors.width))
        said.append(
            f"The labels of {key} are vectors of 0 and 1: {some(vectors.width, 'class')}, named 0 "
            f"to {vectors.width - 1}. data.label_names gives them names."
        )
    else:
        chosen = checked_names(names)
        said += alike_names(chosen)
    _check_count(chosen, kind, key)
    if kind == "multi":
        return _multi(chosen, vectors.on, said)
    return Labels("single", chosen), np.array([on[0] for on in vectors.on], dtype="int64"), said


def _check_plain(values: Sequence[Any], ids: Sequence[str], kind: str, key: str) -> None:
    """Refuse objects and lists where a label is one word, and words that cannot be written."""
    nested = (dict, *SEQUENCES) if kind == "single" else dict
    wrong = [f"{i} has {str(v)[:40]}" for i, v in zip(ids, values, strict=True)
             if isinstance(v, nested)]  # fmt: skip
    if wrong:
        lists = [v for v in values if isinstance(v, SEQUENCES)]
        advice = " For several labels an example set task=multi_label."
        if any(isinstance(v, dict) for v in values):
            advice = " Choose a column of words or numbers, or take the value out of each object."
        elif len(lists) < len(values) and all(len(v) == 1 for v in lists):
            raise UserError(
                f"Some labels of {key} are lists of one, and others are not: {listing(wrong)}. "
                "Write each as a word or number alone, or all of them as lists."
            )
        raise UserError(
            f"Each label of {key} must be one word or number, and {some(len(wrong), 'example')} "
            f"hold several in one: {listing(wrong)}.{advice}"
        )
    half = {v for v in {v for v in values if isinstance(v, str)}
            if any("\ud800" <= sign <= "\udfff" for sign in v)}  # fmt: skip
    halves = [i for i, v in zip(ids, values, strict=True)
              if isinstance(v, str) and v in half] if half else []  # fmt: skip
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


def _missing(found: Sequence[str], words: Sequence[Sequence[str]]) -> list[str]:
    """Say which classes are called as programs call a label that is missing."""
    odd = [name for name in found if name.strip().casefold() in _MISSING]
    counts = [sum(name in part for part in words) for name in odd]
    shown = [f"{n!r} ({some(c, 'example')})" for n, c in zip(odd, counts, strict=True)]
    return [
        f"{listing(shown, 10)}: a class like any other. Leave those rows out if the label is "
        "missing there."
    ] * bool(odd)


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
    value = number(name)
    if value is not None:
        return (0, value, (), name)
    pieces = re.split(r"(\d+)", name)
    # Text and numbers alternate, so two keys never compare a number with a text.
    mixed = tuple(int(p[:400]) if i % 2 else p.casefold() for i, p in enumerate(pieces))
    return (1, 0.0, mixed, name)


def classes_of(
    words: Mapping[str, int], names: Sequence[str] | None, key: str, *, others: str
) -> tuple[tuple[str, ...], list[str]]:
    """Return the classes of what examples hold several of, in order, and sentences for the user.

    Args:
        words: How often each class occurs.
        names: The classes that the user lists; by default those that occur, sorted.
        key: The config key behind the classes, for messages.
        others: What is said where some are not listed, such as `"boxes are of other classes"`.

    Raises:
        UserError: If some are not listed, or if classes look the same.

    Example:
        >>> classes_of({"dog": 1, "cat": 2}, None, "data.path", others="")
        (('cat', 'dog'), [])
    """
    found = sorted(words, key=natural)
    if names is None:
        return tuple(found), check_alike(found, key)
    chosen = checked_names(names)
    if strange := [name for name in found if name not in chosen]:
        raise UserError(
            f"data.label_names lists {listing(chosen)}, and {others}. Received: "
            f"{listing(f'{name!r} ({words[name]:,})' for name in strange)}."
            + nearest(strange[0], chosen)
        )
    return chosen, alike_names(chosen)


def _is(count: int) -> str:
    return "is" if count == 1 else "are"


def _word(value: object) -> str:
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
    return str(value)  # a text "nan" is a name like any other


def _whole_numbers(
    words: Sequence[list[str]], key: str
) -> tuple[list[list[str]], list[str]]:
    """Call classes `1`, `2` that a table writes as `1.0`, `2.0`, as those of columns of floats."""
    found = {word for part in words for word in part}
    pattern = re.compile(r"([+-]?\d{1,15})(\.0+)?")
    plain = {word: match[1] for word in found if (match := pattern.fullmatch(word))}
    written = [word for word, short in plain.items() if word != short]
    # `1` beside `1.0` is another matter, see `check_alike`.
    if not written or len(plain) < len(found) or len(set(plain.values())) < len(found):
        return list(words), []
    first = min(written, key=natural)
    return [[plain[word] for word in part] for part in words], [
        f"The classes of {key} are whole numbers, written with a point: {first} is class "
        f"{plain[first]}."
    ]


def _parts(value: object, delimiter: str | None) -> list[str]:
    if isinstance(value, SEQUENCES):
        parts = [_word(part) for part in value]
    else:
        word = _word(value)
        parts = word.split(delimiter) if delimiter else [word]
    # The blanks around a delimiter belong to the way of writing, not to the name.
    return [part.strip() for part in parts if seen(part)]


def _check_classes(found: Sequence[str], examples: int, key: str) -> None:
    """Refuse what cannot be class names: measured values, or a text of its own in each row."""
    numbers = [number(name) for name in found]
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
    chosen = checked_names(names)
    by_name = {name: n for n, name in enumerate(chosen)}
    # YAML has made `true` of `True`, and tables make `1.0` of `1`.
    truth = {name.casefold(): n for name, n in by_name.items()
             if name.casefold() in ("true", "false")}  # fmt: skip
    for word in set(found) - set(by_name):
        if (place := by_name.get(_whole(word), truth.get(word.casefold()))) is not None:
            by_name[word] = place
    if all(word in by_name for word in found):
        return chosen, by_name
    by_number = {word: int(_whole(word)) for word in found if _whole(word).isdecimal()}
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
        + _near(strange[0], chosen)
    )


def _whole(word: str) -> str:
    """Return `1` for `1.0` and `01`, as columns of numbers give it, and any other word as it is."""
    if re.fullmatch(r"[0-9]{1,18}(\.0*)?", word.strip()):
        return str(int(word.strip().partition(".")[0]))
    return word


def checked_names(names: Sequence[str]) -> tuple[str, ...]:
    chosen = tuple(str(name) for name in names)
    twice = sorted(name for name, count in Counter(chosen).items() if count > 1)
    if twice or any(not name.strip() for name in chosen):
        raise UserError(
            "data.label_names must hold different names, none empty. Received: "
            + (f"{listing([repr(n) for n in twice])} more than once." if twice else "an empty one.")
        )
    return chosen


def _near(word: str, names: Sequence[str]) -> str:
    for name in names:
        if seen(name) == seen(word) and ascii(word).casefold() != ascii(name).casefold():
            return f" It looks like {name!r}, but is {word!a} and not {name!a}."
    return nearest(word, names)
