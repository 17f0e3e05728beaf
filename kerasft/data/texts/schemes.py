"""Tags of words, as files write them, and the entities that they mean."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from kerasft.errors import UserError, nearest
from kerasft.system.console import listing

SCHEMES = ("iob1", "iob2", "bioes", "io")
OUTSIDE = ("O", "_", "")
_TAG = re.compile(r"([BIESLUMW])[-_](.+)")
_LOWER = re.compile(r"[bieslumw][-_].+")
_UNKNOWN = re.compile(r"[A-Z][-_].+")
# What an entity is called whose tags say no type: bare B and I.
ENTITY = "entity"
_BEGIN, _INSIDE, _END, _SINGLE = "BIES"
# What other schemes call the same (BILOU, BMEWO).
_SAME = {"L": _END, "U": _SINGLE, "W": _SINGLE, "M": _INSIDE}

# The first word, the last one, and the type.
Run = tuple[int, int, str]


def is_tag(word: str) -> bool:
    """Whether a word may be a tag with a way and a type, or stands for none."""
    return word in OUTSIDE or _TAG.fullmatch(word) is not None


def check_scheme(scheme: str) -> None:
    """Refuse what is no scheme.

    Raises:
        UserError: If it is none.
    """
    if scheme not in ("auto", *SCHEMES):
        raise UserError(
            f"data.scheme must be one of auto, {', '.join(SCHEMES)}. Received: {scheme!r}."
            + nearest(str(scheme), SCHEMES)
        )


def written_out(texts: Sequence[Sequence[str]]) -> list[list[str]]:
    """Return tags in the way of all others: `b-x`, `i-x`, `o` in capitals, bare `B` with a type.

    Args:
        texts: The tags of each text.

    Example:
        >>> written_out([["b-per", "i-per", "o"]]), written_out([["B", "I", "O"]])
        ([['B-per', 'I-per', 'O']], [['B-entity', 'I-entity', 'O']])
    """
    kinds = {tag for tags in texts for tag in tags if tag not in (*OUTSIDE, "o")}
    ways = {tag[0].upper() for tag in kinds}
    made = None
    if kinds and ways & {_BEGIN, _INSIDE}:
        if all(_LOWER.fullmatch(tag) for tag in kinds):
            made = {tag: tag[0].upper() + tag[1:] for tag in kinds}
        elif all(tag.upper() in ("B", "I", "E", "S", *_SAME) for tag in kinds):
            made = {tag: f"{tag.upper()}-{ENTITY}" for tag in kinds}
        elif any(_TAG.fullmatch(tag) for tag in kinds):
            made = {tag: tag for tag in kinds}
    if made is None:
        return [list(tags) for tags in texts]
    return [[made.get(tag, "O" if tag == "o" else tag) for tag in tags] for tags in texts]


def told(texts: Sequence[Sequence[str]], key: str) -> str:
    """Return the scheme that tags are written in.

    Args:
        texts: The tags of each text.
        key: The config key behind them, for messages.

    Raises:
        UserError: If some tags have a way (`B-` or `I-`) and others have none, or one unknown.

    Example:
        >>> told([["I-PER", "I-PER", "O", "I-PER", "B-PER"]], "data.tag")
        'iob1'
    """
    kinds = {tag for tags in texts for tag in tags if tag not in OUTSIDE}
    plain = sorted(tag for tag in kinds if not _TAG.fullmatch(tag))
    if plain and len(plain) < len(kinds):
        raise UserError(
            f"{key}: some tags say where an entity begins, such as "
            f"{min(kinds - set(plain))!r}, and others do not: {listing(map(repr, plain))}. Write "
            "all of them in one way, or choose the column of tags by data.tag."
        )
    if unknown := [tag for tag in plain if _UNKNOWN.fullmatch(tag)]:
        raise UserError(
            f"{key}: no scheme has tags that begin as {listing(map(repr, unknown))} do. Allowed: "
            f"{', '.join(f'{way}-' for way in 'BIESLUMW')} and a type, or types alone. Set "
            "data.scheme=io if these are types as they stand, or correct them."
        )
    if plain:
        return "io"
    if any(tag[0] in "ESLUMW" for tag in kinds):
        return "bioes"
    bare = apart = 0
    for tags in texts:
        before = ""
        for tag in tags:
            kind = "" if tag in OUTSIDE else tag[2:]
            if kind and kind != before:
                bare += tag[0] == _INSIDE
                apart += tag[0] == _BEGIN
            before = kind
    return "iob1" if bare > apart else "iob2"


def runs_of(tags: Sequence[str], scheme: str) -> tuple[list[Run], list[int]]:
    """Return the entities that the tags of a text mean, and the words whose tag fits none.

    A tag that goes on with an entity where none has begun begins one, as `conlleval` has it.

    Args:
        tags: A tag for each word.
        scheme: One of `SCHEMES`.

    Example:
        >>> runs_of(["B-PER", "I-PER", "O", "I-LOC"], "iob2")
        ([(0, 1, 'PER'), (3, 3, 'LOC')], [3])
    """
    made: list[Run] = []
    odd = []
    open_ = False  # whether the last entity may go on
    for place, tag in enumerate(tags):
        if tag in OUTSIDE:
            odd += [place - 1] * (open_ and scheme == "bioes")
            open_ = False
            continue
        way, kind = _parts(tag, scheme)
        goes_on = open_ and made[-1][2] == kind and way in (_INSIDE, _END)
        if goes_on:
            made[-1] = (made[-1][0], place, kind)
        else:
            bare = way == _END or (way == _INSIDE and scheme in ("iob2", "bioes"))
            odd += [place] * bare + [place - 1] * (open_ and scheme == "bioes")
            made.append((place, place, kind))
        open_ = way in (_BEGIN, _INSIDE)
    odd += [len(tags) - 1] * (open_ and scheme == "bioes")
    return made, sorted(set(odd))


def _parts(tag: str, scheme: str) -> tuple[str, str]:
    if scheme == "io":
        found = _TAG.fullmatch(tag)
        return _INSIDE, found[2] if found else tag
    found = _TAG.fullmatch(tag)
    if not found:
        raise UserError(
            f"data.scheme={scheme} reads tags such as B-x and I-x. Received: {tag!r}. Set "
            "data.scheme=io for tags that are types alone."
        )
    return _SAME.get(found[1], found[1]), found[2]


def laid_end_to_end(
    words: Iterable[str], joined_by: str
) -> tuple[str, list[tuple[int, int]]]:
    """Return a text of words, and where each of them begins and ends in it.

    Example:
        >>> laid_end_to_end(["in", "Rome"], " ")
        ('in Rome', [(0, 2), (3, 7)])
    """
    text, places = "", []
    for number, word in enumerate(words):
        text += joined_by if number else ""
        places.append((len(text), len(text) + len(word)))
        text += word
    return text, places
