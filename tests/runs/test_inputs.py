"""What `kerasft predict` is given: encodings, lines, names of files, folders with odd images."""

from __future__ import annotations

import dataclasses
import io
import os
import sys

import pytest

from kerasft.errors import UserError
from kerasft.model.text.generation import Generation
from kerasft.runs.inputs import SETTINGS, inputs, settings


@pytest.fixture
def from_standard_input(monkeypatch):
    def give(content: bytes) -> None:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))

    return give


LINES = {
    b"a\nb\n": ["a", "b"], b"a\r\nb": ["a", "b"], b"\xef\xbb\xbfa\n": ["a"], b"": [],
    "a\u2028b\nc\x0cd\ne\x85f\nx\rz\n".encode(): ["a\u2028b", "c\x0cd", "e\x85f", "x\rz"],
    b"@a\n\n-\n": ["@a", "", "-"],
}  # fmt: skip


@pytest.mark.parametrize("content", LINES)
def test_lines_are_the_same_in_a_file_and_over_standard_input(
    content, tiny_text_run, tmp_path, from_standard_input
):
    (tmp_path / "in.txt").write_bytes(content)
    from_standard_input(content)
    assert inputs(str(tiny_text_run), ["@in.txt"]) == LINES[content]
    assert inputs(str(tiny_text_run), ["-"]) == LINES[content]


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"gut\ncaf\xe9\n", "0xe9 in line 2"), ("gut\n".encode("utf-16"), "UTF-16"),
     ("gute Texte\n".encode("utf-16-le"), "UTF-16"), (b"a\rb\r", "carriage returns"),
     (b"\x1f\x8b\x08\x00packed\x00text\x00\xff", "as no text has")],
)  # fmt: skip
def test_other_encodings_and_line_ends_are_refused(
    content, said, tiny_text_run, tmp_path, from_standard_input
):
    (tmp_path / "in.txt").write_bytes(content)
    from_standard_input(content)
    with pytest.raises(UserError, match=rf"file 'in\.txt'.*{said}"):
        inputs(str(tiny_text_run), ["@in.txt"])
    with pytest.raises(UserError, match=rf"Standard input.*{said}"):
        inputs(str(tiny_text_run), ["-"])


def test_words_of_the_command_line(tiny_text_run, tmp_path, capsys):
    run = str(tiny_text_run)
    assert inputs(run, ["@@anna", "a" * 5000]) == ["@anna", "a" * 5000]
    # Under LC_ALL=C without Python's UTF-8 mode the bytes come as surrogates.
    assert inputs(run, ["caf\udcc3\udca9"]) == ["caf\u00e9"]
    with pytest.raises(UserError, match="must be UTF-8"):
        inputs(run, ["caf\udce9"])
    with pytest.raises(UserError, match=r"'@@anna good'.*standard input"):
        inputs(run, ["@anna good"])
    (tmp_path / "new.csv").write_text("text\na\n")
    with pytest.raises(UserError, match=r"'new\.csv' is a file.*@FILE"):
        inputs(run, ["new.csv"])
    assert inputs(run, ["@new.csv"]) == ["text", "a"]
    assert "with its header" in capsys.readouterr().err
    (tmp_path / "good").mkdir()
    assert inputs(run, ["good", "old.csv"]) == ["good", "old.csv"]
    said = capsys.readouterr().err
    assert "file or folder of that name" in said and "no file of that name" in said


@pytest.fixture
def odd_folder(tmp_path):
    from PIL import Image

    folder = tmp_path / "q"
    folder.mkdir()
    image = Image.new("RGB", (20, 20), (200, 30, 30))
    for name, form in (("a.png", "PNG"), ("b.jfif", "JPEG"), ("c.mpo", "MPO"), ("d.tif", "TIFF")):
        image.save(folder / name, form)
    (folder / "cut.png").write_bytes((folder / "a.png").read_bytes()[:50])
    (folder / "._a.png").write_bytes(b"\0\5\x16\7")
    (folder / "e.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(50))
    (folder / "notes.txt").write_text("x")
    return folder


@pytest.mark.slow
def test_a_folder_is_answered_but_for_what_is_named(tiny_run, odd_folder, kerasft_cli):
    said = kerasft_cli("predict", str(tiny_run), "q", "none.png", "--json")
    assert said.code == 1
    names = [line.split('"')[3] for line in said.out.splitlines()]
    assert names == ["q/a.png", "q/b.jfif", "q/c.mpo"]
    for name in ("q/d.tif", "q/cut.png", "none.png", "q/e.heic", "1 .txt", "4 of 7 images"):
        assert name in said.err
    assert "._a" not in said.err
    alone = kerasft_cli("predict", str(tiny_run), "q/d.tif")
    assert alone.code == 2 and "q/d.tif" in alone.err and "TIFF" in alone.err


def test_lists_of_images_skip_empty_lines(tiny_run, odd_folder, tmp_path):
    (tmp_path / "list.txt").write_bytes(b"q/a.png\n\nq/c\xe9.png\n")
    assert inputs(str(tiny_run), ["@list.txt"]) == ["q/a.png", os.fsdecode(b"q/c\xe9.png")]


def test_answers_are_shown_where_the_encoding_lacks_their_signs(capsys, monkeypatch):
    from kerasft.runs.predictions import show
    from kerasft.system.console import show_whatever

    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    show_whatever()
    show([{"input": "caf\u00e9", "label": "\udce9"}], output=None, as_json=True)
    show([{"input": "caf\u00e9", "label": "a"}], output=None, as_json=False)
    sys.stdout.flush()
    assert raw.getvalue().startswith(b'{"input": "caf\\u00e9", "label": "\\udce9"}\n')
    assert rb"caf\xe9" in raw.getvalue()


def test_half_a_character_is_refused_by_the_function_too(tiny_text_run):
    import kerasft

    with pytest.raises(UserError, match="half a character"):
        kerasft.predict(str(tiny_text_run), ["a\ud800"])


def test_a_quoted_home_is_the_home(tiny_run, odd_folder, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert inputs(str(tiny_run), ["~/q/a.png"]) == [str(tmp_path / "q" / "a.png")]
    (tmp_path / "~").mkdir()
    (tmp_path / "~" / "b.png").write_bytes((tmp_path / "q" / "a.png").read_bytes())
    assert inputs(str(tiny_run), ["~/b.png"]) == ["~/b.png"]


@pytest.mark.parametrize("closed", ["none", "closed"])
def test_standard_input_that_is_closed_is_said(closed, tiny_text_run, monkeypatch):
    if closed == "none":
        monkeypatch.setattr(sys, "stdin", None)  # as Python has it after `<&-`
    else:
        stream = io.TextIOWrapper(io.BytesIO(b""))
        stream.close()
        monkeypatch.setattr(sys, "stdin", stream)
    with pytest.raises(UserError, match=r"Standard input cannot be read: .* @FILE"):
        inputs(str(tiny_text_run), ["-"])


@pytest.mark.parametrize("word", ["generate=foo", "generate.=3", "generate.top.p=1"])
def test_what_begins_as_a_setting_is_no_text(word):
    assert [one.name for one in dataclasses.fields(Generation)] == list(SETTINGS)
    with pytest.raises(UserError, match=r"generate\.KEY=VALUE. Allowed: generate\.max_new, "):
        settings(["Once upon", word])
    assert settings(["generate = a", "we generate=b"]) == ({}, ["generate = a", "we generate=b"])
