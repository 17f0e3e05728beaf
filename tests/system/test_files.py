"""Files are written whole, and no link leads a write to another file."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import kerasft
from kerasft.errors import UserError
from kerasft.runs import output_dir, run_folder
from kerasft.system.files import appending, write_json, written_whole
from kerasft.training.checkpoint import Position, State, write


@pytest.fixture
def victim(tmp_path):
    """A file elsewhere that holds the same after the test."""
    file = tmp_path / "victim" / "bashrc"
    file.parent.mkdir()
    file.write_text("precious")
    yield file
    assert [one.name for one in file.parent.iterdir()] == ["bashrc"]
    assert file.read_text() == "precious"


PARTS = {
    ".config.part.yaml": lambda: _write_text("run/config.yaml"),
    ".run.part.json": lambda: write_json("run/run.json", {"a": 1}),
    f".run-{os.getpid()}.part.json": lambda: write_json("run/run.json", {"a": 1}, own=True),
    ".step-00000001.part.npz": lambda: write(
        Path("run/step-00000001.npz"), State(Position("all", 0, 0, 1))),
}  # fmt: skip


def _write_text(path):
    with written_whole(path) as part:
        part.write_text("a: 1")


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.replace(str(os.getpid()), "PID"))
@pytest.mark.parametrize("kind", ["link", "dangling link", "second name", "leftover"])
def test_what_lies_where_a_file_is_written_first_is_no_way_out(victim, part, kind):
    Path("run").mkdir()
    if kind == "second name":
        os.link(victim, Path("run") / part)
    elif kind == "leftover":
        (Path("run") / part).write_text("half of it")
    else:
        target = victim if kind == "link" else victim.with_name("new")
        (Path("run") / part).symlink_to(target)
    PARTS[part]()
    (written,) = Path("run").iterdir()
    assert written.name == part.replace(".part", "").replace(f"-{os.getpid()}", "").lstrip(".")
    assert not written.is_symlink() and written.stat().st_size


@pytest.mark.parametrize("kind", ["link", "dangling link", "pipe"])
def test_a_log_is_not_continued_elsewhere(victim, kind):
    log = Path("logs/epochs.jsonl")
    log.parent.mkdir()
    if kind == "pipe":
        os.mkfifo(log)
    else:
        log.symlink_to(victim if kind == "link" else victim.with_name("new"))
    with pytest.raises(UserError, match="link, a pipe or a device"):
        appending(log)


def test_a_log_grows_in_a_folder_of_its_own():
    for line in ("one\n", "two\n"):
        with appending(Path("new/logs/a.txt")) as file:
            file.write(line)
    assert Path("new/logs/a.txt").read_text() == "one\ntwo\n"


def test_the_probe_of_a_new_run_folder_follows_no_link(victim):
    Path("run").mkdir()
    Path("run/.writable").symlink_to(victim.with_name("new"))
    with pytest.raises(UserError, match=r"a link that leads out of it: '\.writable'"):
        output_dir.new_folder(kerasft.compose(["output_dir=run"]))
    Path("run/.writable").unlink()
    assert output_dir.new_folder(kerasft.compose(["output_dir=run"])) == Path("run")


def test_a_lock_follows_no_link(victim):
    Path("run").mkdir()
    Path("run/.lock").symlink_to(victim)
    cfg = kerasft.compose(["output_dir=run"])
    with (
        pytest.raises(UserError, match="a link that leads out"),
        run_folder.create(cfg).recording(cfg),
    ):
        raise AssertionError("it began")
