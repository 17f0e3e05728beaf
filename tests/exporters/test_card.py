"""The card of a model shows labels, names and paths as they are, and none of them as HTML."""

from __future__ import annotations

import re

import pytest

from kerasft.exporters import card

TAG = "<img src=x onerror=alert(1)>"
HOSTILE = [
    TAG, f"`{TAG}`", f"``x``{TAG}``y``", f"`` {TAG}", f"```{TAG}", f"a`{TAG}``b",
    "`", "``", "\\", "", f"[x](javascript:alert(1)){TAG}", f"|{TAG}|", "&lt;b&gt;", "> a", "# a",
]


def outside_of_code(markdown: str) -> str:
    """Return what is left without blocks and spans of code, as CommonMark finds them."""
    left = re.sub(r"^(`{3,})\n.*?\n\1$", "", markdown, flags=re.M | re.S)
    # A span ends at the next run of exactly as many backticks; a backslash spares one outside.
    return re.sub(r"(?<![`\\])(`+)(?!`)(.+?)(?<!`)\1(?!`)", "", left, flags=re.S)


def signature(text: str) -> dict:
    decision = {
        "temperature": 1.0, "goal": "f1", "at_least": None, "positive": text,
        "thresholds": {text: 0.5},
        "validation": {"notice": text, "figures": {text: {"before": 0.1, "after": 0.2}}},
    }
    takes = {"inputs": {"text": {}}, "outputs": {"label": {}}}
    return {
        "name": text, "kind": "single", "modality": "text", "labels": [text, "b", text],
        "versions": {"keras": "3"}, "decision": decision, "signatures": {"serving_default": takes},
    }


@pytest.mark.parametrize("text", HOSTILE)
def test_nothing_in_a_card_is_html(text, tmp_path):
    about = {
        "backbone": text, "started": text, "command": f"kerasft train data.path={text}",
        "data": {"source": {"path": text, text: "x"}, "examples": {text: 3}},
        "metrics": {text: {text: 0.5}},
    }
    written = card.write(tmp_path, signature(text), None, about, licence=None, limits=None)
    left = outside_of_code(written.read_text("utf-8"))
    assert "<" not in left
    assert not re.search(r"(?<!\\)\[", left), "no link"
    if text in ("", "`", "``", "\\"):
        assert "## Use" in left, "no code without an end"


def test_labels_are_shown_as_they_are(tmp_path):
    written = card.write(tmp_path, signature("a`b"), None, {}, licence=None, limits=None)
    assert "Classes: ``a`b``, `b`, ``a`b``." in written.read_text("utf-8")
