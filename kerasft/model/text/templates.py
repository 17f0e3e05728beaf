"""Templates: how a conversation becomes tokens, and which of them are answers.

A template has a piece for each role. In a piece `{content}` is filled with what was said, `{start}`
and `{end}` are the tokenizer's own tokens, and `{token:NAME}` is a token of the vocabulary. These
are put in by their numbers: what a user writes is never read as one of them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kerasft.errors import UserError, nearest

if TYPE_CHECKING:
    import keras_hub

ROLES = ("system", "user", "assistant")
PIECES = ("begin", *ROLES)
FIELDS = ("{content}", "{start}", "{end}", "{token:NAME}")
# Raw conversations are one text: each turn begins with the first, and its words with the second.
TURN, SAID = "\x1e", "\x1f"
# What a document ends with that goes on elsewhere.
GOES_ON = "\x1c"
_FIELD = re.compile(r"\{([^{}]*)\}")


@dataclass(frozen=True)
class Segment:
    """A part of a piece that is tokenized by itself, or is one token.

    Args:
        token: The number of the token; -1 for a text.
        before: What stands before the content.
        content: Whether the content is a part of it.
        after: What stands behind it.
        answer: Whether it is learned where answers are.
    """

    token: int = -1
    before: str = ""
    content: bool = False
    after: str = ""
    answer: bool = False


def check(template: Mapping[str, Any] | None) -> None:
    """Check the pieces of a template, as far as they are known without a tokenizer.

    Args:
        template: By name, see `PIECES`; `None` for none.

    Raises:
        UserError: With all that is wrong with them.

    Example:
        >>> check({"user": "{content}\\n", "assistant": "{content}{end}"})
        >>> check({"user": "{text}", "assistant": "{content}{end}"})
        Traceback (most recent call last):
        ...
        kerasft.errors.UserError: template.user has a field {text}, and there is none such. ...
    """
    if template is None:
        return
    problems = [
        f"template.{name} is none of its pieces: {', '.join(PIECES)}. Received: {name!r}."
        + nearest(str(name), PIECES) for name in template if name not in PIECES
    ]  # fmt: skip
    for name in PIECES:
        piece = template.get(name)
        if piece is None:
            if name in ("user", "assistant"):
                problems.append(f"template.{name} is missing: a template has a piece for each of "
                                f"user and assistant. Received: {', '.join(template) or 'none'}.")
            continue
        if not isinstance(piece, str):
            problems.append(f"template.{name} must be a text. Received: {piece!r}.")
            continue
        fields = _FIELD.findall(piece)
        for field in fields:
            if field not in ("content", "start", "end") and not field.startswith("token:"):
                problems.append(
                    f"template.{name} has a field {{{field}}}, and there is none such. Allowed: "
                    f"{', '.join(FIELDS)}. Columns are joined by data.prompt, such as "
                    "data.prompt='{instruction}\\n{input}'."
                )
        wanted = 0 if name == "begin" else 1
        if fields.count("content") != wanted:
            problems.append(
                f"template.{name} must hold {{content}} {'once' if wanted else 'nowhere'}. "
                f"Received: {piece!r}."
            )
    answer = template.get("assistant")
    if not problems and isinstance(answer, str):
        parts = _parts(answer)
        place = next(i for i, one in enumerate(parts) if "{content}" in one[1])
        if place + 1 >= len(parts) or not parts[place][1].endswith("{content}"):
            problems.append(
                "template.assistant must go on with a token behind {content}, such as {end}: the "
                f"model learns by it where an answer ends. Received: {answer!r}."
            )
    if problems:
        raise UserError(problems=problems)


def segments(
    template: Mapping[str, str], tokenizer: keras_hub.tokenizers.Tokenizer
) -> dict[str, list[Segment]]:
    """Return the segments of each role, with the numbers that a tokenizer gives special tokens.

    Args:
        template: One that `check` has passed.
        tokenizer: A KerasHub tokenizer.

    Returns:
        By role; `begin` is what stands before the first turn, `prompt` what the model is shown of
        an answer that is still to come.

    Raises:
        UserError: If the vocabulary lacks a token.
    """
    made = {
        role: _segments(template[role], tokenizer, answer=role == "assistant")
        for role in PIECES if template.get(role) is not None
    }
    # Documents in one row are kept apart by the token that each begins with.
    start = special(tokenizer, "start")
    made.setdefault("begin", [] if start is None else [Segment(start)])
    made.setdefault("system", [Segment(content=True, after="\n")])
    first = next(i for i, one in enumerate(made["assistant"]) if one.content)
    return made | {"prompt": made["assistant"][:first]}


def stops(
    template: Mapping[str, str] | None, tokenizer: keras_hub.tokenizers.Tokenizer
) -> list[int]:
    """Return the tokens that an answer ends with."""
    if template is None:
        end = special(tokenizer, "end")
        return [] if end is None else [end]
    made = segments(template, tokenizer)["assistant"]
    return [one.token for one in made if one.token >= 0 and one.answer]


def special(tokenizer: keras_hub.tokenizers.Tokenizer, name: str) -> int | None:
    """Return the number of the token that texts begin or end with, `None` where there is none."""
    names = {"start": ("start_token_id", "cls_token_id"), "end": ("end_token_id", "sep_token_id")}
    values = (getattr(tokenizer, one, None) for one in names[name])
    found = next((value for value in values if value is not None), None)
    if found is None and name == "start":
        # Where texts have no beginning (GPT-2, Qwen), the end of the one before serves.
        return special(tokenizer, "end")
    return None if found is None else int(found)


def _parts(piece: str) -> list[tuple[str, str]]:
    """Return a piece as texts and tokens in turn."""
    made: list[tuple[str, str]] = []
    for part in re.split(r"(\{start\}|\{end\}|\{token:[^{}]*\})", piece):
        if part:
            token = part[0] == "{" and part != "{content}" and part.endswith("}") and (
                _FIELD.fullmatch(part) is not None
            )
            made.append(("token" if token else "text", part))
    return made


def _segments(
    piece: str, tokenizer: keras_hub.tokenizers.Tokenizer, *, answer: bool
) -> list[Segment]:
    made: list[Segment] = []
    said = False  # whether the content was there already
    ended = False
    for what, part in _parts(piece):
        if what == "token":
            number = _number(part[1:-1], tokenizer)
            made.append(Segment(number, answer=answer and said and not ended))
            ended = ended or said
            continue
        if "{content}" not in part:
            made.append(Segment(before=part))
            continue
        before, _, after = part.partition("{content}")
        if answer and before:
            # Tokenized apart: a prompt in training is then what a prompt is that is served.
            made.append(Segment(before=before))
            before = ""
        made.append(Segment(before=before, content=True, after=after, answer=answer))
        said = True
    return made


def _number(field: str, tokenizer: keras_hub.tokenizers.Tokenizer) -> int:
    if field in ("start", "end"):
        found = special(tokenizer, field)
        if found is None:
            raise UserError(
                f"template: the vocabulary has no token that texts {field} with, which {{{field}}} "
                "stands for. Name a token: {token:NAME}."
            )
        return found
    name = field.removeprefix("token:")
    try:
        number = int(tokenizer.token_to_id(name))
        known = tokenizer.id_to_token(number) == name
    except (KeyError, ValueError, TypeError, IndexError):
        known = False
    if not known:
        raise UserError(
            f"template: the vocabulary has no token {name!r}, which the template puts in by its "
            "number. Choose a template without tokens of a family: template=alpaca, plain or "
            "zephyr; or a backbone that was trained with this one."
        )
    return number
