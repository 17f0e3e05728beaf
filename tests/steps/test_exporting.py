"""Exports of a finished run."""

from __future__ import annotations

import kerasft
from kerasft.runs import run_folder


def test_the_config_of_a_run_is_read_once(tiny_text_run, monkeypatch):
    read, original = [], run_folder.load
    monkeypatch.setattr(run_folder, "load", lambda file: read.append(file) or original(file))
    assert kerasft.export(str(tiny_text_run), ["export=none"]) == {}
    assert read == [tiny_text_run / "config.yaml"]
