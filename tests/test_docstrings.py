"""The examples in docstrings run and give what they say."""

from __future__ import annotations

import doctest
import importlib
import io
from pathlib import Path

import pytest

import kerasft

PACKAGE = Path(kerasft.__file__).parent
# Their examples train networks.
LONG = ("kerasft.run", "kerasft.steps.advice.lr_finder", "kerasft.steps.advice.probe")
MODULES = [
    pytest.param(name, marks=[pytest.mark.slow] if name in LONG else [])
    for name in (
        ".".join(("kerasft", *file.relative_to(PACKAGE).with_suffix("").parts))
        for file in sorted(PACKAGE.rglob("*.py"))
        if ">>>" in file.read_text("utf-8")
    )
]


def test_there_are_examples():
    assert len(MODULES) > 30


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_a_module_run(name, tmp_path, monkeypatch):
    import keras
    import numpy as np
    import tensorflow as tf

    monkeypatch.chdir(tmp_path)
    module = importlib.import_module(name)
    known = vars(module) | {"keras": keras, "np": np, "tf": tf}
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    said = io.StringIO()
    for example in doctest.DocTestFinder(exclude_empty=True).find(module, name, globs=known):
        runner.run(example, out=said.write)
    assert runner.failures == 0, said.getvalue()
