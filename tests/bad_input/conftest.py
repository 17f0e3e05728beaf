"""What every case of bad input must fulfil: one message, status 2, and a disk as it was."""

from __future__ import annotations

import hashlib
import json
import re
import shlex
import shutil
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest

# What a user should never read: it speaks of our code or of Python, not of what he did.
_INTERNALS = re.compile(
    r"Traceback|<class |<[\w.]+ object at |\bsite-packages\b|\[Errno"
    r"|\b[A-Z]\w+(?:Error|Exception)\b|/kerasft/\w+/\w+\.py|\bNoneType\b|\bself\."
)
# What a run that failed may have left in its folder by then.
_RECORD = {".lock", ".config.yaml", "config.yaml", "run.json", "manifest.json",
           "manifest.arrow"}


def _facts(path: Path) -> tuple:
    if path.is_symlink():
        return ("link", str(path.readlink()))
    if path.is_dir():
        return ("folder", path.stat().st_mode)
    found = path.stat()
    # The time too: what is written again with the same content could have been lost.
    with open(path, "rb") as file:
        content = hashlib.file_digest(file, "sha256").hexdigest()
    return ("file", found.st_mode, found.st_size, found.st_mtime_ns, content)


def _snapshot(root: Path) -> dict[str, tuple]:
    return {str(path.relative_to(root)): _facts(path) for path in sorted(root.rglob("*"))}


@pytest.fixture(autouse=True)
def everything_here(tmp_path, monkeypatch):
    """Have the cache and what is temporary where the snapshot sees them."""
    for name in ("cache", "temporary"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("KERASFT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))


@pytest.fixture
def put(tmp_path):
    """Return a function that writes files, from texts, bytes, or functions of their paths."""

    def write(files) -> None:
        for name, content in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if callable(content):
                content(path)
            elif name.endswith("/"):
                path.mkdir(exist_ok=True)
            else:
                path.write_bytes(content.encode() if isinstance(content, str) else content)

    return write


@pytest.fixture
def refuses(kerasft_cli, tmp_path):
    """Return a function that runs a command which must be refused, and looks at what it left.

    The command ends with status 2 and one message, in which each of `said` stands, and nothing
    that was on the disk is touched. What is new is nothing (`started=False`), or one run folder
    that says of itself, with the same message, that it failed. `problems` is how many there are
    in the message; files below `kept` in the cache may be new, and
    `rewritten` are files that may be others, `made` folders that may be there, and empty.
    """

    def check(
        command, *said: str, started: bool = False, problems: int = 1, kept: str = "/",
        rewritten: set[str] = frozenset(), made: set[str] = frozenset(),
    ) -> SimpleNamespace:
        argv = shlex.split(command) if isinstance(command, str) else [str(word) for word in command]
        before = _snapshot(tmp_path)
        ended = kerasft_cli(*argv)
        after = _snapshot(tmp_path)
        print(ended.err)  # shown where a test fails

        # The message.
        assert ended.code == 2, ended.err
        heads = re.findall(r"^(?:kerasft(?: \w+)?: )?error: .*", ended.err, re.MULTILINE)
        assert len(heads) == 1, ended.err
        message = ended.err[ended.err.index(heads[0]) :].partition("error: ")[2].rstrip("\n")
        told = re.match(r"(\d+) problems\n", message)
        assert (int(told[1]) if told else 1) == problems
        if problems > 1:
            assert message.startswith(f"{problems} problems\n")
            assert len(re.findall("^  - ", message, re.MULTILINE)) == problems, message
        for part in said:
            assert part in message
        assert not (odd := _INTERNALS.search(ended.err)), f"{odd.group()}: {ended.err}"
        assert len(max(message.splitlines(), key=len)) < 1500

        # The disk.
        harmed = {name for name in before if before[name] != after.get(name)}
        harmed -= rewritten
        assert not harmed, f"changed or gone: {sorted(harmed)}"
        new = {name for name in after if name not in before}
        new -= {name for name in new if f"{name}/".startswith(f"cache/{kept}")}
        new -= made
        if rewritten:  # a run was taken up again
            new -= {name for name in new if Path(name).name == ".config.yaml"}
        new -= {"cache/prepared"} if kept != "/" else set()
        assert not {name for name in new if ".part" in name or ".writable" in name}
        if not started:
            assert not new, f"left behind: {sorted(new)}"
            return ended
        records = [tmp_path / name for name in new if Path(name).name == "run.json"]
        assert len(records) == 1, f"no run folder, or several: {sorted(new)}"
        folder = records[0].parent
        facts = json.loads(records[0].read_text("utf-8"))
        assert facts["status"] == "failed"
        assert facts["reason"] in message.replace("  - ", "")
        inside = {path.name for path in folder.iterdir()}
        assert inside <= _RECORD, f"left in the run folder: {sorted(inside - _RECORD)}"
        around = {str(parent.relative_to(tmp_path)) for parent in folder.parents
                  if parent.is_relative_to(tmp_path)}  # fmt: skip
        beside = {name for name in new if not (tmp_path / name).is_relative_to(folder)}
        assert beside <= {*around, "outputs/last"}, f"left behind: {sorted(beside)}"
        return ended

    return check


def _copy(run: Path, to: Path) -> Path:
    return Path(shutil.copytree(run, to, symlinks=True))


@pytest.fixture
def image_run(tiny_run, tmp_path) -> Path:
    """A copy of a finished run on images, to be broken."""
    return _copy(tiny_run, tmp_path / "run")


@pytest.fixture
def text_run(tiny_text_run, tmp_path) -> Path:
    """A copy of a finished run on texts, to be broken."""
    return _copy(tiny_text_run, tmp_path / "run")
