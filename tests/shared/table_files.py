"""Small tables of texts, written and read, for the tests of what reads them."""

import csv

import pytest

from kerasft.data.sources.table import table
from kerasft.errors import UserError

TEXTS = [f"text number {i}, \"quoted\" 'so'" for i in range(40)]
ROWS = [(text, "ab"[i % 2]) for i, text in enumerate(TEXTS)]


def ask(path, **settings):
    settings = {"kind": "single", "seed": 0, "text": "text", "label": "label", **settings}
    return table(str(path), **settings)


def write(path, rows=ROWS, header=("text", "label"), encoding="utf-8", **settings):
    with open(path, "w", newline="", encoding=encoding) as file:
        writer = csv.writer(file, **settings)
        writer.writerows([header, *rows] if header else rows)
    return path


def everything(splits):
    return {i: t for p in splits.parts.values() for i, t in zip(p.ids, p.inputs, strict=True)}


def fails(path, **settings):
    with pytest.raises(UserError) as caught:
        ask(path, **settings)
    return " ".join(caught.value.problems)
