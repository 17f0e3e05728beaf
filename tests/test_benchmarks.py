"""Benchmarks take their settings from what they measure."""

import importlib.util
from pathlib import Path

import pytest
from masked_rectangles import SIZE, words_of

import kerasft

FOLDER = Path(kerasft.__file__).parents[1] / "benchmarks"


def script(name):
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_the_step_of_masks_is_that_of_the_config(masked_rectangles, capsys):
    if not FOLDER.is_dir():
        pytest.skip("not in a checkout")
    measure = script("drawn").measure
    words = [*words_of(masked_rectangles), "finetune.full.batch_norm=train"]
    measure(words, steps=1, rounds=1)
    first, *lines = capsys.readouterr().out.splitlines()[-5:]
    assert f"{SIZE[0]} x {SIZE[1]} pixels, batches of 6" in first
    counted = first.rpartition("of 6, ")[2].split()
    assert counted[0] == counted[2] != "0", first
    assert [line.partition(":")[0].strip() for line in lines] == [
        "all", "without the batches", "forward, backward and optimizer", "share beyond the last",
    ]  # fmt: skip
    measure([*words[:-1], "finetune.full.batch_norm=frozen"], steps=1, rounds=1)
    assert ", 0 of " in capsys.readouterr().out
