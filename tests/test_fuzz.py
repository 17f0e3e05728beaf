"""scripts/fuzz.py, as far as it goes without atheris."""

from __future__ import annotations

import importlib.util
import sys
from argparse import Namespace
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "scripts" / "fuzz.py"


@pytest.fixture(scope="module")
def fuzz():
    spec = importlib.util.spec_from_file_location("fuzz", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("target", ["table", "config"])
def test_what_a_search_begins_with_is_read_or_refused(fuzz, target, tmp_path):
    read = fuzz.TARGETS[target](tmp_path)
    seeds = fuzz.seeds(target)
    assert len(seeds) == len(set(seeds)) >= 8
    for data in seeds:
        read(data)
    read(b"")


def test_the_modules_that_lead_the_search_are_there(fuzz):
    for names in fuzz.WATCHED.values():
        assert all(importlib.util.find_spec(name) for name in names)


def test_without_atheris_the_command_that_installs_it_is_told(fuzz, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["fuzz.py", "table", "--seconds", "1", "corpus"])
    monkeypatch.setitem(sys.modules, "atheris", None)
    with pytest.raises(SystemExit) as ended:
        fuzz.main()
    assert ended.value.code == 2
    assert capsys.readouterr().err == "error: the fuzzer is not installed: pip install atheris\n"


def test_a_finding_of_each_kind_is_kept_and_replayed(fuzz, monkeypatch, capsys, tmp_path):
    def broken(data):
        if data.startswith(b"x"):
            raise KeyError(data)

    options = Namespace(target="table", findings=tmp_path, seconds=60)
    watch = fuzz.Watch(broken, options, tmp_path)
    for data in (b"good", b"x1", b"x2"):
        watch(data)
    (kept,) = tmp_path.iterdir()
    assert kept.read_bytes() == b"x1"
    assert f"FINDING KeyError: \"b'x1'\" at {__file__}" in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", ["fuzz.py", "table", "--replay", str(kept)])
    monkeypatch.setitem(fuzz.TARGETS, "table", lambda folder: broken)
    with pytest.raises(KeyError):
        fuzz.main()
