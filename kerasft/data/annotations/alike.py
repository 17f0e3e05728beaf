"""Class names that look the same to a person and differ for a computer."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache

from kerasft.errors import UserError
from kerasft.system.console import listing

# Compatibility forms that look like what they stand for; a raised 2 does not look like a 2.
_SAME_LOOK = ("<compat>", "<final>", "<font>", "<initial>", "<isolated>", "<medial>", "<narrow>",
              "<noBreak>", "<vertical>", "<wide>")  # fmt: skip
# Letters and marks that have no ink, though Unicode does not count them as format characters:
# fillers of Hangul, vowels of Khmer, the empty pattern of Braille, the joiner of graphemes.
_INKLESS = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\uffa0\ufe00-\ufe0f\U000e0100-\U000e01ef]"
)
# Letters of other scripts that are drawn as Latin ones, small or large, and dashes and quotes of
# every kind.
_DRAWN_ALIKE = str.maketrans(
    "авеіјкмнорстухѕԁһԛԝαβεζηικμνορτυχ‐‑‒–—―−﹣‘’‚‛ʼ′“”„‟″",
    "abeijkmhopctyxsdhqwabezhikmnoptyx--------''''''\"\"\"\"\"",
)
# Each digit can be matched in one way alone, so that the time is linear.
_NUMBER = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?")
_LONGEST = 400
_ENDS = ".,;:!"
_YES = ("1", "1.0", "true", "t", "yes", "y", "on")
_NO = ("0", "0.0", "false", "f", "no", "n", "off")


def number(word: str) -> float | None:
    """Return the finite number that a label is written as, or `None`: `nan` is a word."""
    if not is_number(word.strip()):
        return None
    value = float(word)
    return value if math.isfinite(value) else None


def is_number(word: str) -> bool:
    """Return whether a text is a number as programs write it, without blanks."""
    return len(word) <= _LONGEST and _NUMBER.fullmatch(word) is not None


@lru_cache(maxsize=4096)
def seen(word: str) -> str:
    """Return what is left of a label for the eye: no invisible character, one form of each.

    Args:
        word: A label.

    Returns:
        The same for labels that look the same, whatever characters they are made of.

    Example:

    >>> seen("p\\u00ados\\u200b") == seen("Pos")
    True
    """
    plain = "".join(_form(sign) for sign in unicodedata.normalize("NFC", word))
    inked = (
        sign for sign in plain
        if sign.isspace()
        or not (unicodedata.category(sign) in ("Cc", "Cf") or _INKLESS.match(sign))
    )  # fmt: skip
    together = " ".join(unicodedata.normalize("NFC", "".join(inked).casefold()).split())
    # Single letters are classes of their own where letters are recognized.
    return together.translate(_DRAWN_ALIKE) if len(together) > 1 else together


def _form(sign: str) -> str:
    if sign.isascii() or not unicodedata.decomposition(sign).startswith(_SAME_LOOK):
        return sign
    return unicodedata.normalize("NFKC", sign)


def check_alike(found: Sequence[str], key: str) -> list[str]:
    """Refuse labels that look the same, and say which differ by a mark at their end alone.

    Args:
        found: The different labels.
        key: The config key behind them, for messages.

    Returns:
        Sentences for the user.

    Raises:
        UserError: If labels look the same.
    """
    groups = _grouped(found, _meant)
    if pairs := [_shown(group) for group in groups]:
        raise UserError(
            f"Labels of {key} that differ by case, blanks, characters that are not seen, or the "
            f"way of writing alone: {listing(pairs, 10)}. They would become classes of their own: "
            "write each in one way (rename the folder, or correct the cells), or list them in "
            "data.label_names if they are different classes."
        )
    ends = [_shown(group) for group in _grouped(found, lambda w: seen(w).rstrip(_ENDS) or w)]
    said = [f"Labels that differ by the mark at their end alone: {listing(ends, 10)}."] * bool(ends)
    return said + _mixed_truth(found, key)


def _mixed_truth(found: Sequence[str], key: str) -> list[str]:
    """Say so where yes and no are written in several ways: `True` and `1`."""
    groups = [[name for name in found if seen(name) in words] for words in (_YES, _NO)]
    if sum(map(len, groups)) < len(found) or max(map(len, groups)) < 2:
        return []
    said = [" and ".join(map(repr, group)) for group in groups if len(group) > 1]
    return [
        f"Labels of {key} that may mean the same are different classes: {listing(said)}. Write "
        "each in one way if they do."
    ]


def alike_names(names: Sequence[str]) -> list[str]:
    """Say which names that the user listed look the same."""
    pairs = [_shown(group) for group in _grouped(names, seen) if not _by_case(group)]
    return [f"data.label_names lists names that look the same: {listing(pairs, 10)}."] * bool(pairs)


def _by_case(group: Iterable[str]) -> bool:
    return len({" ".join(name.casefold().split()) for name in group}) == 1


def _meant(word: str) -> float | str:
    plain = seen(word)
    value = number(plain)
    return plain if value is None else value


def _grouped(found: Iterable[str], by: Callable[[str], float | str]) -> list[list[str]]:
    alike: dict[float | str, list[str]] = {}
    for name in found:
        alike.setdefault(by(name), []).append(name)
    return [group for group in alike.values() if len(group) > 1]


def _shown(group: Sequence[str]) -> str:
    # Where two names look the same in quotes too, their code points tell them apart.
    quote = repr if _by_case(group) else ascii
    return " and ".join(quote(name) for name in group)
