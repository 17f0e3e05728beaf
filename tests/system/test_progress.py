"""How far a work is, on a terminal and in a log."""

from __future__ import annotations

import io
import os
import sys

import pytest

from kerasft.system import console, progress, terminal
from kerasft.system.progress import Counted, Pace, line


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def screen(monkeypatch):
    """A terminal of 60 columns."""
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setenv("TERM", "xterm")
    return Terminal()


def test_a_line_fits_and_leaves_out_what_matters_least(screen):
    notes = ["loss 0.1234", "accuracy 0.5000", "f1 0.4000"]
    made = line("epoch 1/2", 5, 10, notes, "0:10 left")
    assert len(made) < 60 and "loss" in made and "f1" not in made
    assert made.endswith("  0:10 left")
    assert "━" not in line("e" * 50, 5, 10)


def test_the_time_between_epochs_is_no_part_of_a_step():
    pace = Pace()
    pace.after(1, 0.0)
    pace.after(3, 1.0)
    pace.restart()
    pace.after(1, 100.0)
    assert pace.seconds == 0.5


def test_rows_on_a_terminal_leave_no_trace(screen, monkeypatch, capsys):
    monkeypatch.setattr(progress, "status", status := terminal.Status())
    counted = Counted("answering", 3000)
    with status.drawn_on(screen):
        counted.pace.seconds = 0.01
        monkeypatch.setattr(counted.pace, "after", lambda done: None)
        for _ in range(3):
            counted.add(1000)
    assert "answering  1,000/3,000  ━━━━━━━───────────────  0:20 left" in screen.getvalue()
    assert screen.getvalue().endswith("\r\x1b[K")
    assert capsys.readouterr().out == ""


def test_a_log_has_a_line_now_and_then(monkeypatch, capsys):
    monkeypatch.setattr(progress, "EVERY", 0.0)
    counted = Counted("answering", 300)
    counted.add(100)
    counted.pace.seconds = 0.1
    monkeypatch.setattr(counted.pace, "after", lambda done: None)
    counted.add(100)
    counted.add(100)
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == "answering  100/300\nanswering  200/300  0:10 left\n"


@pytest.mark.skipif(sys.platform == "win32", reason="no such terminals")
def test_data_on_standard_output_stays_clean(monkeypatch, capsys):
    """The line is on the error stream, behind the filter of TensorFlow's lines."""
    monkeypatch.setenv("TERM", "xterm")
    outer, inner = os.openpty()
    kept = os.dup(2)
    os.dup2(inner, 2)
    try:
        with console.without_chatter(), console.beside_output():
            assert terminal.status.is_live
            terminal.status.show("answering")
    finally:
        os.dup2(kept, 2)
        os.close(kept)
    assert os.read(outer, 100).startswith(b"answering\r")
    os.close(outer)
    os.close(inner)
    assert not terminal.status.is_live and capsys.readouterr().out == ""
