"""Hydra's and OmegaConf's errors in the user's words."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from kerasft.config.leads import network, override_for, space
from kerasft.errors import nearest
from kerasft.system.files import GONE, current
from kerasft.system.passwords import text_without

_TYPES = {
    "integer": "a whole number", "int": "a whole number", "float": "a number",
    "bool": "true or false", "str": "text", "string": "text",
}  # fmt: skip
# Of an override that a message repeats.
LONGEST = 200
_NOT_READ = (
    "mismatched input", "no viable alternative", "token recognition", "extraneous input",
    "missing EQUAL", "LexerNoViableAlt",
)  # fmt: skip


def in_words(
    error: BaseException,
    override: str | None,
    *,
    keys: Sequence[str],
    choices: Callable[[str], Sequence[str] | None],
) -> str:
    """Say what went wrong while a config was composed.

    Args:
        error: What Hydra raised.
        override: The override that it raised it for, where that is known.
        keys: All keys of the root.
        choices: A function from a group to the names that it offers, `None` for what is no group.

    Returns:
        One message: what is wrong, what is allowed, what was received and from where.
    """
    said = _said(error, override, keys=keys, choices=choices)
    said = text_without(said, [override] if override else [])
    for long in (override or "", (override or "").partition("=")[2]):
        if len(long) > LONGEST:
            said = said.replace(long, f"{long[:LONGEST - 3]}...")
    return said


def _goes_round(error: BaseException) -> bool:
    """Whether a recursion is that of defaults lists, and not that of a value."""
    trace, count = error.__traceback__, 0
    while trace is not None:
        count += "defaults_list" in trace.tb_frame.f_code.co_filename
        trace = trace.tb_next
    return count > 50  # a config that there is has some dozens of frames there


def _said(
    error: BaseException,
    override: str | None,
    *,
    keys: Sequence[str],
    choices: Callable[[str], Sequence[str] | None],
) -> str:
    text = str(error)
    while error.__cause__ is not None:  # the first cause names the key, the last one wraps it
        error = error.__cause__
    text = f"{text}\n{error}"
    key, _, value = (override or "").lstrip("+~").partition("=")
    names = choices(key.split("@")[0])
    origin = f"command line: {override}" if override else "the composed config"
    if names is not None and value in names:
        origin = f"{key}/{value}.yaml"
    if (mark := getattr(error, "problem_mark", None)) is not None:
        problem = getattr(error, "problem", None) or "it is no YAML"
        return f"The YAML of {mark.name}, line {mark.line + 1} cannot be read: {problem}."
    if isinstance(error, FileNotFoundError) and current() is None:
        return GONE
    if isinstance(error, UnicodeDecodeError):
        return f"{origin} cannot be read: it must be UTF-8 text ({error})."
    if override and (meant := space(override)):
        return (
            f"{key} cannot be read. Received: {override}. Did you mean, with `kerasft sweep`, "
            f"'{meant}'?"
        )
    if override and (any(sign in text for sign in _NOT_READ) or not key):
        return (
            "An override must read key=value, with the value in quotes where it holds one of "
            f""",{{}}[]()=:~'" or a blank at its ends. Received: {override}. For instance: """
            """'data.path="a,b.csv"'."""
        )
    if "Ambiguous value" in text or "requires --multirun" in text:
        return (
            f"{key} takes one value. Received: {override}. For a run with each of several values "
            f"use `kerasft train -m`; where the value itself holds a comma, quote it: "
            f"""'{key}="{value}"'."""
        )
    if isinstance(error, RecursionError) and not _goes_round(error):
        where_found = key if override and names is None and key else origin
        return (
            f"{where_found} is nested too deeply: lists and mappings may be in one another a few "
            f"dozen times. Received: {(override or origin)[:LONGEST]}."
        )
    if isinstance(error, RecursionError):
        return f"The defaults of {origin} lead back to itself. Take that line out."
    if override and names is not None and value not in names and (
        "Could not find" in text or "Config group override must be" in text
    ):
        meant = network(value) if key == "backbone" else None
        return (
            f"{key} must be one of {', '.join(names)}. Received: {key}={value} ({origin})."
            + (f" Did you mean {meant}?" if meant else nearest(value, names))
        )
    if match := re.search(r"Key '([^']+)' (?:is )?not in (?:'Root'|struct)", text):
        near, meant = nearest(match[1], keys), override_for(match[1], value, choices)
        if meant and not near and match[1] == key:
            return f"There is no key {key!r}. Received: {override}. Did you mean {meant}?"
        return (
            f"There is no key {match[1]!r}. Allowed: {', '.join(keys)}. "
            f"Received: {match[1]} ({origin}).{near}"
        )
    if match := re.search(r"Could not (?:delete from config|override)\W*'([^']+)'", text):
        return (
            f"There is no key {match[1]!r}. Allowed: {', '.join(keys)}, and the keys below them. "
            f"Received: {override} ({origin}).{nearest(match[1], keys)}"
        )
    where = re.search(r"full_key: ([\w.]+)", text)
    name = where[1] if where else key
    if "is not Optional" in text:
        return f"{name} must have a value. Received: null ({origin})."
    if match := re.search(
        r"Value '(.*)' of type '\w+' (?:could not be converted to|is incompatible with) "
        r"?(?:type hint )?'?(?:\w*\[)?(\w+)|Value '(.*)' is not a valid (\w+)", text,
    ):  # fmt: skip
        given, kind = match[1] or match[3] or "", (match[2] or match[4]).lower()
        return f"{name} must be {_TYPES.get(kind, kind)}. Received: {given!r} ({origin})."
    if match := re.search(r"Could not (?:find|load) '?([^'\n]+)'?", text):
        group, _, last = match[1].rpartition("/")
        offered = choices(group) or ()
        allowed = f" Allowed: {', '.join(offered)}.{nearest(last, offered)}" if offered else ""
        return f"There is no config named {match[1]!r} ({origin}).{allowed}"
    return f"{text.strip().splitlines()[0]} ({origin})."
