"""How programs write down entities of a text: the forms of a cell, and ways to count offsets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from kerasft.data.annotations.spans import Span
from kerasft.errors import UserError, nearest

OFFSETS = ("characters", "utf16", "bytes")
# What the first character, the one behind the last, and the type are called.
_STARTS, _ENDS = ("start", "start_offset", "begin"), ("end", "end_offset", "stop")
_TYPES = ("label", "type", "labels", "tag", "entity_group", "entity")


def check_offsets(offsets: str) -> None:
    """Refuse what is no way to count.

    Raises:
        UserError: If it is none.
    """
    if offsets not in OFFSETS:
        raise UserError(
            f"data.offsets must be one of {', '.join(OFFSETS)}. Received: {offsets!r}."
            + nearest(str(offsets), OFFSETS)
        )


def text_of(cell: Any) -> Any:
    """Return the text of a cell: of an object, as Label Studio has it, what is called so."""
    return cell.get("text") if isinstance(cell, Mapping) else cell


def spans_of(
    cell: Any, text: str, offsets: str, where: str
) -> tuple[list[Span], list[str], list[str]]:
    """Return the entities of a text, and which of them are wrong.

    Args:
        cell: `[[start, end, type], ...]` (doccano, spaCy), objects with these (Prodigy, doccano's
            relations), or a list of Label Studio's annotations, of which the first that was not
            cancelled counts.
        text: The text.
        offsets: What they count, one of `OFFSETS`.
        where: What the text is called.

    Returns:
        The entities; names of those whose own text is another one, which are left out; and of
        those that begin or end within a character, which have it whole.

    Raises:
        UserError: If it is none of these forms.

    Example:
        >>> spans_of([[3, 7, "place"]], "in Rome", "characters", "row 1")
        ([(3, 7, 'place')], [], [])
    """
    characters = _counted(text, offsets)
    made: list[Span] = []
    other, half = [], []
    for number, (start, end, kind, said) in enumerate(_each(cell, where), 1):
        halves = [_is_half(characters, one) for one in (start, end)]
        span = (_at(characters, start), _at(characters, end) + halves[1], kind)
        if said is not None and text[slice(*span[:2])].strip() != said.strip():
            other.append(f"{where}: entity {number} ({said[:40]!r})")
            continue
        made.append(span)
        half += [f"{where}: entity {number}"] * any(halves)
    return made, other, half


def _each(cell: Any, where: str) -> Iterator[tuple[int, int, str, str | None]]:
    """Yield start, end and type of each entity, and its text where the cell says it."""
    if cell is None:
        return
    if not isinstance(cell, Sequence) or isinstance(cell, str):
        raise _odd(cell, where)
    if any(isinstance(one, Mapping) and "result" in one for one in cell):
        cell = next((one["result"] for one in cell if not one.get("was_cancelled")), [])
    for one in cell:
        if isinstance(one, Mapping) and isinstance(one.get("value"), Mapping):
            if one.get("type", "labels") not in ("labels", "hypertextlabels"):
                continue  # Label Studio's choices and relations
            one = one["value"]
        if isinstance(one, Mapping):
            start, end, kind = (_first(one, names) for names in (_STARTS, _ENDS, _TYPES))
            said = one.get("text")
        elif isinstance(one, Sequence) and not isinstance(one, str) and len(one) == 3:
            (start, end, kind), said = one, None
        else:
            raise _odd(one, where)
        if isinstance(kind, Sequence) and not isinstance(kind, str) and len(kind) == 1:
            kind = kind[0]
        if not (_is_count(start) and _is_count(end) and isinstance(kind, str) and kind.strip()):
            raise _odd(one, where)
        yield int(start), int(end), kind.strip(), said if isinstance(said, str) else None


def _first(one: Mapping[str, Any], names: Sequence[str]) -> Any:
    return next((one[name] for name in names if name in one), None)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _odd(one: Any, where: str) -> UserError:
    return UserError(
        f"{where}: an entity is [start, end, type], or an object with start, end and label, "
        f"start and end being whole numbers and the label one text. Received: {str(one)[:80]}. "
        "data.entities names the column of entities."
    )


def _counted(text: str, offsets: str) -> list[int] | None:
    """Return the character that each offset means; `None` where offsets are characters."""
    if offsets == "characters":
        return None
    code = {"utf16": "utf-16-le", "bytes": "utf-8"}[offsets]
    made = []
    for place, sign in enumerate(text):
        size = len(sign.encode(code, "surrogatepass"))
        made += [place] * (size // 2 if offsets == "utf16" else size)
    return [*made, len(text)]


def _at(characters: list[int] | None, offset: int) -> int:
    if characters is None or not 0 <= offset < len(characters):
        return offset
    return characters[offset]


def _is_half(characters: list[int] | None, offset: int) -> bool:
    """Whether an offset stands within a character."""
    return (
        characters is not None and 0 < offset < len(characters)
        and characters[offset] == characters[offset - 1]
    )
