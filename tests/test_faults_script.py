"""scripts/faults.py: a short version of what it does in an hour."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "scripts" / "faults.py"


needs_a_compiler = pytest.mark.skipif(
    not sys.platform.startswith("linux") or not shutil.which("cc"),
    reason="letting writes fail needs Linux and a C compiler",
)


@pytest.fixture(scope="module")
def script():
    sys.path.insert(0, str(SCRIPT.parent))  # what it is made of lies beside it
    spec = importlib.util.spec_from_file_location("faults_script", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    sys.path.remove(str(SCRIPT.parent))
    return module


@pytest.mark.slow
@needs_a_compiler
@pytest.mark.timeout(300)
def test_runs_that_are_killed_or_cannot_write_are_resumed_and_lose_nothing(tiny_texts):
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--fault", "torn,kill,ENOSPC", "--rounds", "3",
         *tiny_texts, "epochs=1", "callbacks=none", "checkpoint.steps=3"],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    writes = int(re.search(r"^left alone: .* s, (\d+) writes$", done.stdout, re.MULTILINE)[1])
    assert writes > 300
    assert re.findall(r"^(\w+) (?:at|after) .*: the same$", done.stdout, re.MULTILINE) == [
        "torn", "kill", "ENOSPC",
    ]  # fmt: skip
    assert re.search(r"^[23] faults, .* 3 runs ended, 0 lost$", done.stdout, re.MULTILINE)


def test_what_ends_in_another_way_than_in_one_line_is_a_finding(script):
    tried = script.Tried(2, "error: the disk is full\n", 9, "write a")
    assert script.wrong_end(tried, "ENOSPC") == ""
    assert script.wrong_end(tried._replace(code=1), "ENOSPC").startswith("it ended with 1 and 1")
    assert "a traceback: OSError" in script.wrong_end(
        tried._replace(said="Traceback (most recent call last):\nOSError"), "EIO"
    )
    assert script.wrong_end(tried, "torn").startswith("it ended with 2: ")
    assert script.wrong_end(tried._replace(code=-9), "two", killed=True) == ""
    for kind in ("clock", "removed", "two"):
        assert script.wrong_end(tried._replace(code=0, said=""), kind) == ""
        assert script.wrong_end(tried, kind).startswith("it ended with 2 and 1 errors")


@pytest.fixture
def exporting(script, tmp_path):
    subject = script.Exporting("saved_model", tmp_path, [], None)
    write_version(subject.first / "1")
    subject.files, subject.answer = {"saved_model.pb", "variables/a"}, ""
    subject.ask = lambda place: ""
    subject.lay_out(tmp_path / "run")
    return subject


def write_version(place: Path, *without: str) -> None:
    for name in ("saved_model.pb", "variables/a"):
        if name not in without:
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            (place / name).write_text(name)


def test_half_an_export_or_a_changed_one_is_a_finding(exporting, tmp_path):
    run = tmp_path / "run"
    write_version(run / ".part-1", "variables/a")
    assert exporting.look(run) == ""
    write_version(run / "2")
    assert exporting.look(run) == ""
    write_version(run / "3", "variables/a")
    assert exporting.look(run) == "half an export: version 3"
    (run / "1" / "variables" / "a").write_text("other")
    assert exporting.look(run) == "version 1 is not what it was"
    shutil.rmtree(run)
    assert exporting.look(run) == "the export that was there is gone"


def test_half_an_entry_of_the_cache_is_a_finding(script, tmp_path):
    from kerasft.system.cache import Cache

    filling = script.Filling(tmp_path, [], None)
    cache = Cache(filling.cache(tmp_path))
    cache.get("texts", {}, about="", read=lambda folder: None,
              write=lambda folder: (folder / "a.bin").write_bytes(b"whole"))  # fmt: skip
    (cache.directory / "texts" / ".other.part").mkdir()
    assert filling.look(tmp_path) == ""
    (entry,) = cache.entries()
    (entry.path / "a.bin").write_bytes(b"wrong")
    assert filling.look(tmp_path).startswith(f"half an entry: {entry.key}, the checksum of a.bin")


@needs_a_compiler
@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(("during", "faults"), [
    ("export", "torn,kill,two"), ("evaluate", "torn,kill,removed"),
    ("cache", "torn,two,removed,clock,EROFS"), ("train", "clock,removed,EROFS"),
])  # fmt: skip
def test_other_commands_and_other_faults_lose_nothing(tiny_texts, during, faults):
    rounds = faults.count(",") + 1
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--during", during, "--fault", faults, "--rounds",
         str(rounds), *tiny_texts, "epochs=1", "callbacks=none"],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert f" {rounds} runs ended, 0 lost" in done.stdout
