"""The lines of an epoch, at work and done, fit the terminal."""

from __future__ import annotations

import io
import sys
from types import SimpleNamespace

import pytest

from kerasft.training import progress
from kerasft.training.epoch_log import EpochLog
from kerasft.training.progress import EpochBar

SHOWN = ("loss", "val_loss", "accuracy", "val_accuracy")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def shown(monkeypatch):
    """What the bar shows, one text after the other."""
    texts: list[str] = []
    monkeypatch.setattr(
        progress, "status", SimpleNamespace(show=texts.append, is_due=lambda: True)
    )
    monkeypatch.setenv("COLUMNS", "80")
    return texts


@pytest.fixture
def ticking(monkeypatch):
    """A clock that says what it is told."""
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(progress.time, "perf_counter", lambda: clock.now)
    return clock


def test_an_epoch_at_work(shown, ticking):
    bar = EpochBar("full", lambda: 3, 3, 10, ("loss", "accuracy"))
    bar.on_epoch_begin(0)
    assert shown[-1] == "epoch 1/3 [full]  compiling the training step ..."
    logs = {"loss": 2.5, "accuracy": 0.125, "other": 1.0}
    ticking.now = 20.0
    bar.on_train_batch_end(0, logs)
    assert "left" not in shown[-1]  # the first step compiled, and says nothing of the others
    ticking.now = 22.0
    bar.on_train_batch_end(1, logs)
    # 28 steps of two seconds are to come
    assert shown[-1].endswith("  loss 2.5000  accuracy 0.1250  0:56 left")
    assert shown[-1].startswith("epoch 1/3 [full]  2/10  ━━") and len(shown[-1]) < 80

    def validate(model):
        ticking.now += 5.0
        assert shown[-1] == "epoch 1/3 [full]  validating ..."
        return {"accuracy": 0.5}

    assert bar.validating(validate)(None) == {"accuracy": 0.5}
    assert shown[-1] == ""
    bar.on_epoch_begin(1)
    bar.on_train_batch_end(0, logs)
    assert shown[-1].endswith("0:48 left")  # 19 steps of two seconds, two validations of five


def test_the_time_is_that_of_the_stage_where_others_follow(shown, ticking):
    bar = EpochBar("head", lambda: 9, 2, 4, ("loss",), is_last=False, done=1)
    with bar.drawn():
        bar.on_epoch_begin(0)
        for step in (1, 2):
            ticking.now += 1.0
            bar.on_train_batch_end(step, {"loss": 1.0})
        assert shown[-1].endswith("0:05 left in head")
    assert shown[-1] == ""


@pytest.mark.parametrize("width", [30, 44, 60, 80, 140])
def test_a_bar_fits(width, shown, ticking, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(width))
    bar = EpochBar("full", lambda: 100, 100, 12_345, ("loss", "accuracy", "f1"))
    bar.on_epoch_begin(99)
    for step in range(2):
        ticking.now += 1.0
        bar.on_train_batch_end(step, {"loss": 2.5, "accuracy": 0.125, "f1": 0.5})
    assert shown[-1].startswith("epoch 100/100 [full]  2/12,345")
    assert ("f1" in shown[-1]) == (width == 140) and ("loss" in shown[-1]) == (width >= 80)
    if width >= 60:
        assert len(shown[-1]) < width and "──" in shown[-1]


def line(monkeypatch, width: int | None, best: int = 0) -> str:
    """Return the line of the ninth of ten epochs, on a terminal or elsewhere."""
    monkeypatch.setattr(sys, "stdout", io.StringIO() if width is None else Terminal())
    monkeypatch.setenv("COLUMNS", str(width or 80))
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    lines: list = []
    log = EpochLog(None, lines.append, SHOWN, monitor="val_accuracy", best=lambda: best)
    log.stage, log.epochs = "full", 10
    log.set_model(SimpleNamespace(optimizer=SimpleNamespace(learning_rate=0.1)))
    log.on_epoch_begin(8)
    figures = {"accuracy": 1.0, "loss": 0.0663, "val_loss": 0.3127, "val_accuracy": 0.935}
    log.on_epoch_end(8, figures | {"val_f1_macro": 0.9})
    assert log.running == ("loss", "accuracy")
    assert log.rows[0]["val_f1_macro"] == 0.9
    return lines[0] if width is None else lines[0].shown_on(Terminal())


def test_the_line_of_an_epoch_holds_what_the_terminal_has_room_for(monkeypatch):
    whole = line(monkeypatch, None)
    assert whole == (
        "epoch 9/10 [full]   accuracy 1.0000  loss 0.0663  val_loss 0.3127  val_accuracy 0.9350"
        "  (0.0 s)"
    )
    assert whole in line(monkeypatch, 140).replace("\x1b[2m", "").replace("\x1b[0m", "")
    assert "accuracy 1.0000" not in line(monkeypatch, 80)
    assert "val_loss 0.3127  val_accuracy 0.9350" in line(monkeypatch, 80)
    assert "loss" not in line(monkeypatch, 50) and "val_accuracy" in line(monkeypatch, 50)


def test_the_best_epoch_so_far_is_marked(monkeypatch):
    assert "\x1b[32m  val_accuracy 0.9350\x1b[0m" in line(monkeypatch, 80, best=9)
    assert "\x1b[32m" not in line(monkeypatch, 80, best=8)
