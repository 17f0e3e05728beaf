"""Versions appear whole, under a number of their own, and nothing else is touched."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time

import pytest

from kerasft.artifact.layout import EXTRA, SIGNATURE, find_export, versions
from kerasft.errors import UserError
from kerasft.exporters.versions import PART, new_version


def put(place, text="x"):
    place.part.mkdir()
    (place.part / "saved_model.pb").write_text(text)


def test_numbers_go_up(tmp_path):
    for number in (1, 2):
        with new_version(tmp_path) as place:
            put(place)
        assert place.final == tmp_path / str(number)
    with new_version(tmp_path, 7) as place:
        put(place)
    with new_version(tmp_path) as place:
        put(place)
    assert versions(tmp_path) == [1, 2, 7, 8]
    with pytest.raises(UserError, match=r"free number.*Received: 7, which is there already"), \
            new_version(tmp_path, 7):
        pass
    for number in (-1, 2**63):
        with pytest.raises(UserError, match=f"from 0 to {2**63 - 1}. Received: {number}"), \
                new_version(tmp_path, number):
            pass


def test_no_version_comes_after_the_last_that_servers_know(tmp_path):
    with new_version(tmp_path, 2**63 - 1) as place:
        place.part.mkdir()
        (place.part / "saved_model.pb").touch()
    with pytest.raises(UserError, match=f"No number comes after version {2**63 - 1}"), \
            new_version(tmp_path) as place:
        pytest.fail("it is said before the export is made")
    assert versions(tmp_path) == [2**63 - 1]
    with new_version(tmp_path, 3) as place:
        place.part.mkdir()
        (place.part / "saved_model.pb").touch()


def test_other_names_are_no_versions(tmp_path):
    for name in ("²", "٣", "07", "+8", "1_0", "-5", " 9", "1.0", str(2**63), "9" * 200):
        (tmp_path / name).mkdir()
    (tmp_path / "50").symlink_to(tmp_path / "nowhere")
    (tmp_path / "51").symlink_to(tmp_path / "51")
    (tmp_path / "52").write_text("a file")
    assert versions(tmp_path) == versions(tmp_path / "52") == versions(tmp_path / "none") == []
    for number in (0, 3, 2**63 - 1):
        extra = tmp_path / str(number) / EXTRA
        extra.mkdir(parents=True)
        (extra / SIGNATURE).write_text("{}")
        (extra.parent / "saved_model.pb").write_text("")
    assert versions(tmp_path) == [0, 3, 2**63 - 1]
    assert find_export(tmp_path) == tmp_path / str(2**63 - 1)
    with pytest.raises(UserError, match=r"holds .*07"), new_version(tmp_path):
        pass


def test_a_number_that_is_taken_meanwhile_is_not_replaced(tmp_path):
    with new_version(tmp_path) as first:
        put(first, "first")
        with new_version(tmp_path) as second:
            put(second, "second")
    assert (tmp_path / "1" / "saved_model.pb").read_text() == "second"
    assert (tmp_path / "2" / "saved_model.pb").read_text() == "first"


RACER = """
import sys
from pathlib import Path
from kerasft.exporters.versions import new_version
for i in range(40):
    with new_version(sys.argv[1]) as place:
        place.part.mkdir()
        (place.part / "saved_model.pb").write_text(sys.argv[2])
"""


def test_two_processes_share_the_numbers(tmp_path):
    both = [subprocess.Popen([sys.executable, "-c", RACER, str(tmp_path), name]) for name in "ab"]
    assert [process.wait(timeout=120) for process in both] == [0, 0]
    assert versions(tmp_path) == list(range(1, 81))
    written = [(tmp_path / str(n) / "saved_model.pb").read_text() for n in range(1, 81)]
    assert sorted(written) == ["a"] * 40 + ["b"] * 40


def test_what_fails_leaves_nothing(tmp_path):
    with pytest.raises(ZeroDivisionError), new_version(tmp_path / "x") as place:
        put(place)
        _ = 1 / 0
    with pytest.raises(UserError, match=r"cannot be written.*No space left"), \
            new_version(tmp_path / "x") as place:
        put(place)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert not (tmp_path / "x").exists()


def test_what_a_killed_export_left_is_cleared_after_a_day(tmp_path):
    old, young = tmp_path / f"{PART}1-1", tmp_path / f"{PART}2-2"
    for folder in (old, young):
        folder.mkdir()
    long_ago = time.time() - 2 * 24 * 3600
    os.utime(old, (long_ago, long_ago))
    with new_version(tmp_path) as place:
        put(place)
    assert not old.exists()
    assert young.exists()


@pytest.mark.parametrize("name", ["notes.txt", "2019", "config.yaml"])
def test_a_folder_of_something_else_is_refused(tmp_path, name):
    (tmp_path / name).mkdir()
    with pytest.raises(UserError, match=f"hold versions of a model.*which holds {name}"), \
            new_version(tmp_path):
        pass
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(UserError, match="which is a file"), new_version(file):
        pass
    with pytest.raises(UserError, match=r"cannot be written to .*Not a directory"), \
            new_version(file / "deeper"):
        pass
