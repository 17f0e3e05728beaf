"""A folder of anybody: what is no file is not waited for, and no link leads a write elsewhere."""

from __future__ import annotations

import os
import shutil
import socket
from contextlib import chdir
from pathlib import Path

import pytest

import kerasft
from kerasft.config.yaml_limits import require_small
from kerasft.errors import UserError
from kerasft.runs import run_folder
from kerasft.system.enclosure import require_enclosed, require_readable, require_size
from kerasft.system.files import read_json


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "run"
    (made / "logs" / "deep").mkdir(parents=True)
    (made / "logs" / "a.log").write_text("a")
    return made


def _pipe(folder: Path) -> None:
    os.mkfifo(folder / "logs" / "deep" / "odd")


def _socket(folder: Path) -> None:
    with chdir(folder / "logs" / "deep"), socket.socket(socket.AF_UNIX) as opened:
        opened.bind("odd")  # the path of a socket is short


def _device(folder: Path) -> None:
    (folder / "logs" / "deep" / "odd").symlink_to("/dev/zero")


def _itself(folder: Path) -> None:
    (folder / "logs" / "deep" / "odd").symlink_to("odd")


def _each_other(folder: Path) -> None:
    (folder / "logs" / "deep" / "odd").symlink_to("even")
    (folder / "logs" / "deep" / "even").symlink_to("odd")


def _link_to_a_pipe(folder: Path) -> None:
    os.mkfifo(folder.parent / "pipe")
    (folder / "logs" / "deep" / "odd").symlink_to(folder.parent / "pipe")


@pytest.mark.parametrize("make", [_pipe, _socket, _device, _itself, _each_other, _link_to_a_pipe])
def test_what_is_no_file_is_named_and_not_opened(make, folder):
    require_readable(folder)
    make(folder)
    for see in (require_readable, require_enclosed):
        with pytest.raises(UserError, match=r"holds 'logs/deep/(odd|even)', which is"):
            see(folder)


@pytest.mark.parametrize("target", ["", "missing", "sub"])
def test_a_link_that_leads_out_is_refused_where_one_writes(target, folder):
    other = folder.parent / "run-other"  # its name begins with that of the folder
    (other / "sub").mkdir(parents=True)
    (folder / "logs" / "out").symlink_to(other / target)
    require_readable(folder)
    with pytest.raises(UserError, match=r"a link that leads out of it: 'logs/out' is"):
        require_enclosed(folder)


@pytest.mark.parametrize("target", ["a.log", "deep", "missing", "../logs/deep/../a.log"])
def test_a_link_that_stays_inside_is_none_of_our_business(target, folder):
    (folder / "logs" / "in").symlink_to(target)
    link = folder.parent / "last"
    link.symlink_to(folder)
    for place in (folder, link):
        require_enclosed(place)


def test_a_name_forges_no_line_of_the_message(folder):
    (folder / "a\nb").symlink_to("/")
    with pytest.raises(UserError, match=r"'a\\nb' is '/'"):
        require_enclosed(folder)


def test_files_that_never_end_are_not_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    with open(tmp_path / "large", "wb") as file:
        file.truncate(2**41)
    for name in ("pipe", "zero", "large"):
        for read in (read_json, require_small, lambda file: require_size(file, 1)):
            with pytest.raises(UserError, match=r"must be a file|bytes, and at most"):
                read(tmp_path / name)


@pytest.mark.parametrize("name", ["exports", "metrics.json", ".lock", "predictions/test.csv"])
def test_nothing_is_written_through_a_link_of_a_run(name, tiny_run, tmp_path):
    run, other = tmp_path / "run", tmp_path / "other"
    shutil.copytree(tiny_run, run)
    other.mkdir()
    place = run / name
    if place.is_dir():
        shutil.rmtree(place)
    place.unlink(missing_ok=True)
    place.parent.mkdir(exist_ok=True)
    place.symlink_to(other / "x" if place.suffix or name == ".lock" else other)
    for act in (kerasft.export, kerasft.evaluate, run_folder.unended):
        with pytest.raises(UserError, match="link that leads out of it"):
            act(str(run))
    cfg = run_folder.RunFolder(run).read_config()
    with pytest.raises(UserError, match="link that leads out of it"), \
            run_folder.RunFolder(run).recording(cfg):
        pass
    assert not list(other.iterdir())
    run_folder.open_run(run)  # whose answers may be asked for


def test_a_run_that_is_a_link_round_in_circles_is_no_run(tmp_path):
    (tmp_path / "a").symlink_to("a")
    with pytest.raises(UserError):
        run_folder.unended(str(tmp_path / "a"))
