"""Exports of a finished run."""

from __future__ import annotations

import builtins
import io
import json
import os
from pathlib import Path

import pytest

import kerasft
from kerasft.config.composition import load
from kerasft.exporters.served import Served
from kerasft.runs import run_folder


def test_the_config_of_a_run_is_read_once(tiny_text_run, monkeypatch):
    read, original = [], run_folder.load
    monkeypatch.setattr(run_folder, "load", lambda file: read.append(file) or original(file))
    assert kerasft.export(str(tiny_text_run), ["export=none"]) == {}
    assert read == [tiny_text_run / "config.yaml"]


@pytest.mark.slow
def test_an_export_reads_the_config_once_and_parity_computes_its_answers_once(
    tiny_text_run, monkeypatch, tmp_path
):
    import tensorflow as tf

    config, opened, answered = tiny_text_run / "config.yaml", [], []
    plain, answers = builtins.open, Served.answers

    def opening(file, *how, **given):
        if not isinstance(file, int) and Path(os.fsdecode(file)).absolute() == config:
            opened.append(file)
        return plain(file, *how, **given)

    def answering(served, outputs):
        if tf.executing_eagerly():  # and no signature is traced
            answered.append(len(outputs))
        return answers(served, outputs)

    for module in (builtins, io):  # `pathlib` opens with that of `io`
        monkeypatch.setattr(module, "open", opening)
    monkeypatch.setattr(Served, "answers", answering)
    load(config)
    once = len(opened)
    opened.clear()
    made = kerasft.export(str(tiny_text_run), [f"export.saved_model.directory={tmp_path / 'out'}"])
    assert len(opened) == once > 0
    parity = json.loads((made["saved_model"] / "assets.extra" / "parity.json").read_text("utf-8"))
    # The network in memory answers each example once, however many signatures there are.
    assert len(parity["signatures"]) > 1
    assert sum(answered) == parity["examples"]
