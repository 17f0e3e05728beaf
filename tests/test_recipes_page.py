"""The page of everyday jobs says what kerasft says: its mistakes, and its notebook."""

from __future__ import annotations

import csv
import re
import shlex
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[1] / "docs" / "recipes.md").read_text("utf-8")
# What is left out of what a command says.
LEFT_OUT = "[...]"


def section(title: str) -> str:
    """Return the text below a heading that ends with a title."""
    return re.split(r"^## ", PAGE.split(f". {title}\n", 1)[1], maxsplit=1, flags=re.M)[0]


def mistakes() -> list[tuple[str, str]]:
    """Return the rows of the table: what was typed, and what it says."""
    rows = re.findall(r"^\| `([^`]+)`.*? \| (.*) \|$", section("Twenty mistakes"), re.M)
    return [(typed, said) for typed, said in rows]


def table() -> list[str]:
    """Return what the word TABLE stands for."""
    meant = re.search(r"`TABLE` stands for `([^`]+)`", PAGE)
    assert meant
    return shlex.split(meant[1])


@pytest.fixture
def data():
    """What the page speaks of: a table whose last row has no label, and images."""
    rows = [(f"a film, number {i}", i % 5 + 1) for i in range(1501)]
    with open("REVIEWS.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("review", "stars"), *rows, ("a film without", "")])
    Path("PHOTOS").mkdir()


def test_there_are_twenty():
    assert len(mistakes()) == len(dict(mistakes())) == 20
    assert "`kerasft train TABLE` with" in PAGE  # one that only reading finds


@pytest.mark.parametrize(("typed", "said"), mistakes(), ids=[typed[:50] for typed, _ in mistakes()])
def test_a_mistake_says_what_the_page_says(typed, said, data, kerasft_cli):
    words = [one for word in shlex.split(typed) for one in (table() if word == "TABLE" else [word])]
    words = words[1:] if words[0] == "kerasft" else ["check", *words]
    ended = kerasft_cli(*words)
    assert ended.code == 2
    rest = ended.err
    parts = [part.strip() for part in said.split(LEFT_OUT)]
    assert max(map(len, parts)) > 10
    for part in filter(None, parts):
        _, found, rest = rest.partition(part)
        assert found == part, ended.err


def blocks() -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", section("A notebook"), re.M | re.S)


def test_the_notebook_has_two_blocks():
    frame, rows = blocks()
    assert "pandas" in frame and "pandas" not in rows


@pytest.mark.slow
@pytest.mark.parametrize("number", [0, 1])
def test_the_notebook_runs(number, data):
    if "pandas" in blocks()[number]:
        pytest.importorskip("pandas")
    names: dict = {}
    exec(compile(blocks()[number], "recipes.md", "exec"), names)
    assert sorted(names["result"].metrics) == ["test", "validation"]
    if number:
        answers = re.search(r"^(result\.finetuned.*?)  # (.*)$", blocks()[number], re.M)
        assert answers
        assert list(eval(answers[1], names)) == eval(answers[2])
