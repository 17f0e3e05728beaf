"""Sentences with what is marked in them, the truth beside the answer, as a page."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kerasft.evaluation.images import colour_of
from kerasft.system.files import written_whole

_STYLE = """
body { font: 15px/1.9 system-ui, sans-serif; margin: 2em auto; max-width: 80em; padding: 0 1em; }
table { border-collapse: collapse; width: 100%; table-layout: fixed; }
td, th { border-top: 1px solid #ccc; padding: .4em .8em .4em 0; text-align: left;
  vertical-align: top; overflow-wrap: anywhere; white-space: pre-wrap; }
mark { border-radius: .25em; padding: .1em .25em; color: inherit; }
mark.wrong { outline: 2px solid #c00; }
mark small { opacity: .75; padding-left: .4em; }
.id { width: 12em; color: #666; }
"""


def write(
    rows: Sequence[Mapping[str, Any]], names: Sequence[str], path: Path, *, of: int
) -> Path:
    """Write texts as a page of HTML, what is true of each beside what was answered.

    Args:
        rows: Of each text its `id`, its `text`, and under `true` and `found` its entities, each
            with `type`, `start` and `end`. Those that the other side lacks are outlined.
        names: The types, each of which has a colour.
        path: The file.
        of: How many texts there are in all.

    Returns:
        The file.
    """
    colours = {name: colour_of(number) for number, name in enumerate(names)}
    cells = []
    for row in rows:
        true, found = ({(one["type"], one["start"], one["end"]) for one in row[side]}
                       for side in ("true", "found"))  # fmt: skip
        cells.append(
            f'<tr><td class="id">{html.escape(str(row["id"]))}</td>'
            f"<td>{marked(row['text'], row['true'], colours, found)}</td>"
            f"<td>{marked(row['text'], row['found'], colours, true)}</td></tr>"
        )
    page = (
        '<!doctype html><html><head><meta charset="utf-8"><title>Entities</title>'
        f"<style>{_STYLE}</style></head><body>"
        f"<p>{len(rows):,} of {of:,} texts, those that were answered worst first. Outlined: what "
        "the other side lacks.</p>"
        '<table><tr><th class="id"></th><th>the truth</th><th>the answer</th></tr>'
        + "\n".join(cells) + "</table></body></html>\n"
    )
    with written_whole(path) as part:
        part.write_text(page, "utf-8")
    return path


def marked(
    text: str, entities: Sequence[Mapping[str, Any]], colours: Mapping[str, str],
    other: set[tuple[str, int, int]],
) -> str:
    """Return a text as HTML with its entities marked.

    Args:
        text: The text.
        entities: From left to right; none overlaps another.
        colours: The colour of each type, as CSS has it.
        other: What counts as right.

    Example:
        >>> one = {"type": "place", "start": 3, "end": 7}
        >>> marked("in <R>o", [one], {"place": "red"}, {("place", 3, 7)})[-37:]
        '&lt;R&gt;o<small>place</small></mark>'
    """
    made, done = "", 0
    for one in entities:
        start, end, kind = one["start"], one["end"], one["type"]
        wrong = "" if (kind, start, end) in other else ' class="wrong"'
        made += html.escape(text[done:start])
        made += (
            f'<mark{wrong} style="background:{_light(colours[kind])}">'
            f"{html.escape(text[start:end])}<small>{html.escape(kind)}</small></mark>"
        )
        done = end
    return made + html.escape(text[done:])


def _light(colour: str) -> str:
    return f"color-mix(in srgb,{colour} 40%,white)"
