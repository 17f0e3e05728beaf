"""Texts of others forge no line, no command and no formula."""

from __future__ import annotations

import subprocess

import pytest

from kerasft.sweeps.text import cell, command, one_line

BREAKING = ["\n", "\r", "\x85", "\u2028", "\u2029", "\x1b", "\u202e", "\t"]


@pytest.mark.parametrize("breaking", BREAKING)
def test_what_breaks_a_line_is_spelled_out(breaking):
    told = one_line(f"run{breaking}9")
    assert len(told.splitlines()) == 1 and breaking not in told
    assert told.startswith("run\\") and told.endswith("9")


def test_letters_of_all_languages_stay_as_they_are():
    assert one_line("é ß 漢字 emoji 🙂") == "é ß 漢字 emoji 🙂"


@pytest.mark.parametrize("word", [
    "plain", "a b", "a\nb", "it's\n\\", "é\u2028", "\x1b[2J", "\x85x"])  # fmt: skip
def test_a_command_is_one_line_and_means_the_same(word):
    line = command(["printf", "%s", word])
    assert len(line.splitlines()) == 1
    told = subprocess.run(["bash", "-c", line], capture_output=True, check=True,
                          env={"LC_ALL": "C.UTF-8"})  # fmt: skip
    assert told.stdout.decode() == word


@pytest.mark.parametrize("text", [
    "=1+1", "+cmd|' /C calc'!A0", "-x", "@SUM(A1)", "\t=1", "\r=1", "\n=1", " =1", "＝1",
    "-1+cmd", "--1",
])  # fmt: skip
def test_a_text_is_no_formula(text):
    assert cell(text) == f"'{text}"


@pytest.mark.parametrize("value", [1, -1.5, 1e-9, True, None, "-0.5", "+1e-5", "-3", "a=b", "mlp"])
def test_numbers_and_plain_words_stay(value):
    assert cell(value) == value
