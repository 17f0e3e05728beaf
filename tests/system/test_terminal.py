"""What a terminal is shown: one line that is written over, colours, sentences that are wrapped."""

from __future__ import annotations

import contextlib
import io
import os
import re
import sys
import time

import pytest

import kerasft
from kerasft.system import console, terminal
from kerasft.system.terminal import Status, Styled, styled, wrapped


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def screen(monkeypatch):
    """A terminal of 40 columns with colours."""
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    return Terminal()


def left(stream: io.StringIO) -> list[str]:
    """Return the lines that stay on the screen."""
    lines = stream.getvalue().split("\n")
    return [re.sub(r"\x1b\[\d*m", "", line.split("\r\x1b[K")[-1]) for line in lines]


def test_a_status_leaves_no_trace_and_is_not_glued_to_what_is_printed(screen, monkeypatch):
    monkeypatch.setattr(sys, "stdout", screen)
    status = Status()
    monkeypatch.setattr(console, "status", status)
    with status.showing("reading " + "a" * 100):
        assert len(screen.getvalue()) == 37  # cut off, so that it is not wrapped, nor with a ^C
        console.say("data: 50 train")
        assert screen.getvalue().endswith("data: 50 train\nreading " + "a" * 29)
    console.say("done")
    assert left(screen) == ["data: 50 train", "done", ""]


def test_a_status_in_another_comes_back(screen, monkeypatch):
    monkeypatch.setattr(sys, "stdout", screen)
    status = Status()
    with status.showing("outer"):
        with pytest.raises(KeyError), status.showing("inner"):
            raise KeyError
        assert left(screen) == ["outer"]
    assert left(screen) == [""]


@pytest.mark.parametrize("variable", [("TERM", "dumb"), None])
def test_only_a_terminal_that_can_is_drawn_on(variable, screen, monkeypatch):
    if variable is None:
        screen = io.StringIO()
    else:
        monkeypatch.setenv(*variable)
    monkeypatch.setattr(sys, "stdout", screen)
    status = Status()
    status.show("reading")
    console.say(Styled.of(("bold", "bold"), " and a sentence of more than forty characters"))
    assert screen.getvalue() == "bold and a sentence of more than forty characters\n"


def test_a_status_that_is_wanted_is_drawn_elsewhere_without_escapes(monkeypatch):
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    status = Status()
    status.wanted = True
    status.show("reading")
    status.show("")
    assert sys.stdout.getvalue() == "reading\r       \r"


def test_colours_are_left_out_where_nobody_wants_them(screen, monkeypatch):
    line = Styled.of(("warning:", "yellow"), " odd\x1b[2J")
    assert line == "warning: odd\x1b[2J"
    assert line.shown_on(screen) == "\x1b[33mwarning:\x1b[0m odd\\x1b[2J"
    monkeypatch.setenv("NO_COLOR", "1")
    assert line.shown_on(screen) == "warning: odd\\x1b[2J" == styled(line, "bold", screen)


def test_sentences_are_wrapped_between_words_and_tables_stay(screen):
    path = "/a/path/that/is/longer/than/the/terminal/is/wide"
    assert wrapped(f"run folder: {path} is there", screen) == (
        f"run folder:\n  {path}\n  is there"
    )
    table = "name           value            another one"
    assert wrapped(table, screen) == table
    line = Styled.of(("stage full:", "bold"), " 12 steps, learning rate up to 0.001, all train")
    assert line.shown_on(screen) == (
        "\x1b[1mstage full:\x1b[0m 12 steps, learning rate up\n  to 0.001, all train"
    )


def test_errors_are_wrapped_with_their_list(screen, monkeypatch):
    monkeypatch.setattr(sys, "stderr", screen)
    console.complain(["a key that is unknown to the whole of kerasft", "another"])
    assert left(screen) == [
        "error: 2 problems", "  - a key that is unknown to the whole", "    of kerasft",
        "  - another", "",
    ]  # fmt: skip


def test_chatter_is_kept_off_the_error_stream_and_all_else_passes(capfd):
    chatter = (
        "WARNING: All log messages before absl::InitializeLog() is called are written to STDERR\n"
        "E0000 00:00:1.1  3 cuda_platform.cc:52] failed call to cuInit\n"
        "E0000 00:00:1.1  3 meta_optimizer.cc:967] remapper failed\n"
    )
    with console.without_chatter():
        with console.without_chatter():  # one command may call another
            os.write(2, chatter.encode())
        os.write(2, b"E0000 00:00:1.1  3 other.cc:1] worth reading\nhalf a li")
        os.write(2, b"ne\nE0000 00:00:1.1  3 port.cc:153] oneDNN\nend")
    assert capfd.readouterr().err == (
        "E0000 00:00:1.1  3 other.cc:1] worth reading\nhalf a line\nend"
    )


def test_a_bar_on_the_error_stream_is_seen_while_it_grows(capfd):
    with console.without_chatter():
        os.write(2, b"\rdownloading 10 %")
        end = time.monotonic() + 20
        while not (found := capfd.readouterr().err) and time.monotonic() < end:
            time.sleep(0.01)
    assert found == "\rdownloading 10 %"


def test_times_and_bars():
    assert [terminal.duration(s) for s in (0.2, 59.7, 3599.6)] == ["0:00", "1:00", "1:00:00"]
    assert terminal.bar(0, 0, 4) == "────" and terminal.bar(4, 4, 4) == "━━━━"


def test_a_command_behind_a_sentence_is_not_broken(screen):
    said, last = "It has stopped.", "To go on: kerasft resume run"
    assert terminal.together(said, last, io.StringIO()) == f"{said} {last}"
    assert terminal.together(said, last, screen) == f"{said}\n{last}"
    assert terminal.together(said, "Go on.", screen) == f"{said} Go on."


def test_a_run_of_a_command_counts_since_its_process_began_and_one_in_python_since_its_call():
    clock = console.Clock()
    clock.began -= 100
    clock.of_command = True  # as the command line says
    clock.begin()
    assert clock.seconds() > 100
    clock.begin()  # the next run of a grid
    assert clock.seconds() < 50
    clock = console.Clock()
    clock.began -= 100  # imported long ago
    clock.begin()
    assert clock.seconds() < 50


def test_whatever_python_calls_keeps_the_chatter_away():
    """TensorFlow is imported by the first of them, whichever that is."""
    light = {"UserError", "compose", "explain", "leaderboard", "models", "__version__"}
    for name in set(kerasft.__all__) - light:
        wrapper = getattr(kerasft, name)
        assert wrapper.__wrapped__.__globals__["without_chatter"] is console.without_chatter, name
        assert wrapper.__code__.co_filename == contextlib.__file__, name
