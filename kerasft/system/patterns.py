"""Patterns for the paths of layers: a name, a glob or a regular expression."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

from kerasft.errors import UserError, nearest, shown


def found(pattern: str, paths: Iterable[str]) -> list[str]:
    """Return the paths that a pattern means.

    The first of these that finds any: the path itself; a glob for the whole path, in which `*` and
    `?` stop at a slash and `**` does not; a regular expression that is searched in the path, as
    `finetune.NAME.train` searches in those of variables.

    Args:
        pattern: The pattern.
        paths: All paths, such as `transformer_layer_0/self_attention_layer/query`.

    Returns:
        Those that are meant, in their order; none where nothing is.

    Raises:
        UserError: If it is no regular expression, and nothing else either.

    Example:
        >>> found("block_1", ["block_1", "block_10"]), found("b*_1?", ["block_1", "block_10"])
        (['block_1'], ['block_10'])
        >>> found("^block", ["block_1", "block_1/block_2", "head"])
        ['block_1', 'block_1/block_2']
    """
    every = list(paths)
    if pattern in every:
        return [pattern]
    if any(sign in pattern for sign in "*?[") and (glob := _glob(pattern)) is not None:
        whole = [path for path in every if glob.fullmatch(path)]
        if whole:
            return whole
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise UserError(
            "A pattern must be the path of a layer, a glob (block_1*) or a regular expression "
            f"(^block_1[0-2]_). Received: {shown(pattern)}, which is none ({error})."
        ) from error
    return [path for path in every if expression.search(path)]


def required(patterns: str | Iterable[str], paths: Iterable[str]) -> list[str]:
    """Return the paths that any of several patterns means, in their order.

    Args:
        patterns: One pattern, or several, see `found`.
        paths: All paths.

    Raises:
        UserError: For each pattern that means none, with the nearest path.

    Example:
        >>> required(["dense", "^block"], ["block_1", "dense", "head"])
        ['block_1', 'dense']
        >>> required("blok_1", ["block_1", "head"])
        Traceback (most recent call last):
        ...
        kerasft.errors.UserError: No layer matches 'blok_1'. Did you mean 'block_1'?
    """
    every = list(paths)
    meant: set[str] = set()
    problems = []
    for pattern in [patterns] if isinstance(patterns, str) else patterns:
        these = found(pattern, every)
        meant.update(these)
        if not these:
            problems.append(f"No layer matches {shown(pattern)}.{_near(pattern, every)}")
    if problems:
        raise UserError(problems=problems)
    return [path for path in every if path in meant]


def _near(pattern: str, paths: list[str]) -> str:
    word = re.sub(r"[\\^$*?+()\[\]|]", "", pattern)
    if said := nearest(word, paths):
        return said
    last = {path.rpartition("/")[2]: path for path in paths}
    close = difflib.get_close_matches(word, [*paths, *last], n=3, cutoff=0.4)
    names = list(dict.fromkeys(last.get(one, one) for one in close)) or paths[:3]
    return f" The nearest are {', '.join(map(repr, names))}; `kerasft surgery` shows all."


def _glob(pattern: str) -> re.Pattern[str] | None:
    made, rest = "", pattern
    while rest:
        if rest.startswith("**"):
            made, rest = f"{made}.*", rest[2:]
        elif rest[0] == "*":
            made, rest = f"{made}[^/]*", rest[1:]
        elif rest[0] == "?":
            made, rest = f"{made}[^/]", rest[1:]
        elif one := re.match(r"\[[!^]?[^\]]+\]", rest):
            made, rest = made + one[0].replace("[!", "[^"), rest[len(one[0]):]
        else:
            made, rest = made + re.escape(rest[0]), rest[1:]
    try:
        return re.compile(made)
    except re.error:
        return None
