"""The leaderboard as one page that needs no other file, and its plots beside it."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from kerasft.evaluation.metrics import direction
from kerasft.sweeps import board_rows, plots
from kerasft.sweeps.objectives import COSTS
from kerasft.sweeps.text import one_line
from kerasft.system.files import written_whole

# What stands below the title of a plot.
CAPTIONS = {
    "Intervals": "The metric of each setting with its interval: of the validation examples, and of "
                 "the seeds where settings have several.",
    "History": "Each trial in the order in which it was begun; those without a metric are drawn "
               "as the worst.",
    "Importance": "How much of the metric's variance each key explains: functional ANOVA over a "
                  "random forest, of the keys that all runs have. With few runs it is a guess.",
    "Parallel coordinates": "Each run with a metric is a line through its values; the darker, the "
                            "better.",
    "Contours": "The two numbers that matter most; what lies between runs is interpolated.",
}  # fmt: skip

_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #22262b; margin: 2rem auto; max-width: 72rem;
       padding: 0 1rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.15rem; margin-top: 2.2rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 0.88rem; }
th, td { text-align: left; padding: 0.3rem 0.7rem; border-bottom: 1px solid #e1e4e8;
         white-space: nowrap; }
th { border-bottom: 2px solid #b9bfc7; }
tr.alike td { background: #edf7f0; } tr.lost td { color: #7a828c; }
td.words { white-space: normal; min-width: 11rem; overflow-wrap: anywhere; }
img { max-width: 100%; height: auto; display: block; }
pre { background: #f4f5f7; padding: 0.7rem 1rem; overflow-x: auto; }
figcaption, .small { color: #555b66; font-size: 0.88rem; }
figure { margin: 0 0 1.5rem; }
"""


def write_page(
    rows: Sequence[Mapping[str, Any]], path: Path, directory: str, trusted: Sequence[str] = ()
) -> Path:
    """Write the leaderboard as HTML, with its plots inside and, as PNG, in a folder beside it.

    Args:
        rows: What `leaderboard` returned.
        path: The file, ending in `.html`.
        directory: The folder that it is about.
        trusted: Import prefixes, beside the built-in ones, that a run's own parts may come from.

    Returns:
        The file.

    Raises:
        UserError: If it cannot be written.
    """
    metric = rows[0]["metric"]
    lower = metric in COSTS or direction(metric) == "min"
    drawn = plots.draw_all(rows, path.with_name(f"{path.stem}_plots"), lower=lower)
    parts = [
        "<!doctype html>", '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width">',
        # Nothing is fetched, and nothing runs: whatever stands in a run's settings.
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
        f"<title>{escape(one_line(directory))}</title><style>{_STYLE}</style></head><body>",
        f"<h1>{escape(one_line(directory))}: validation {escape(one_line(metric))}</h1>",
        *(f"<p>{escape(line)}</p>" for line in board_rows.remarks(rows)),
        *_again(directory, rows, trusted), "<h2>Runs</h2>", _table(rows),
    ]  # fmt: skip
    for title, file in drawn.items():
        data = base64.b64encode(file.read_bytes()).decode()
        parts.append(
            f"<h2>{title}</h2><figure><img alt='{title}' src='data:image/png;base64,{data}'>"
            f"<figcaption>{escape(CAPTIONS[title])}</figcaption></figure>"
        )
    with written_whole(path) as part:
        part.write_text("\n".join([*parts, "</body></html>"]) + "\n", encoding="utf-8")
    return path


def _again(
    directory: str, rows: Sequence[Mapping[str, Any]], trusted: Sequence[str]
) -> list[str]:
    lines = board_rows.again(directory, rows, trusted)
    text = escape("\n".join(lines))
    return ["<h2>The best again</h2>", f"<pre>{text}</pre>"] if lines else []


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    header, body = board_rows.cells(rows, reasons=True)
    wide = [word == "reason" for word in header]
    lines = ["<div class='wide'><table><thead><tr>",
             *(f"<th>{escape(word)}</th>" for word in header), "</tr></thead><tbody>"]  # fmt: skip
    for row, cells in zip(board_rows.heads(rows), body, strict=True):
        alike = "alike" if row["setting"]["as_good_as_best"] else ""
        kind = "lost" if row["rank"] is None else alike
        shown = (f"{cell:.4f}" if isinstance(cell, float) else "-" if cell is None else str(cell)
                 for cell in cells)  # fmt: skip
        written = (f"<td{' class=words' if words else ''}>{escape(cell)}</td>"
                   for cell, words in zip(shown, wide, strict=True))  # fmt: skip
        lines.append(f"<tr class='{kind}'>{''.join(written)}</tr>")
    legend = "<p class='small'>Shaded: cannot be told apart from the best.</p>"
    return "\n".join([*lines, "</tbody></table></div>", legend])
