from __future__ import annotations

import errno
import json
import multiprocessing
import os
import shutil
import time

import pytest

from kerasft.errors import UserError
from kerasft.system import cache_entry as entry_module
from kerasft.system.cache import Cache, CacheError, digest_code, digest_folder, temporary

PARTS = {"examples": "abc", "size": 3}


def put(cache: Cache, parts=PARTS, content=b"x" * 1000, kind="texts") -> bytes:
    """Get an entry whose one file holds `content` where it has to be made."""
    return cache.get(
        kind, parts, about="some texts",
        write=lambda folder: (folder / "data.bin").write_bytes(content),
        read=lambda folder: (folder / "data.bin").read_bytes(),
    )  # fmt: skip


def names(cache: Cache) -> list[str]:
    return sorted(p.name for p in cache.directory.rglob("*") if not p.name.endswith(".lock"))


@pytest.fixture
def cache(tmp_path):
    return Cache(tmp_path / "cache")


def test_what_was_made_once_is_read_again(cache):
    assert not cache.has("texts", PARTS)
    assert put(cache, content=b"first") == b"first"
    assert cache.has("texts", PARTS)
    assert put(cache, content=b"second") == b"first"
    assert put(Cache(cache.directory), content=b"third") == b"first"


@pytest.mark.parametrize("other", [{"examples": "abd", "size": 3}, {"examples": "abc", "size": 4},
                                   {"examples": "abc"}, {**PARTS, "more": None}])
def test_other_parts_make_another_entry(cache, other):
    put(cache, content=b"first")
    assert put(cache, other, content=b"second") == b"second"
    assert put(cache, PARTS, content=b"third", kind="images") == b"third"
    assert len(cache.entries()) == 3


def test_entries_say_what_they_are(cache):
    put(cache)
    (entry,) = cache.entries()
    assert (entry.kind, entry.about, entry.size) == ("texts", "some texts", 1000)
    assert time.time() - entry.used < 60
    assert entry.path == cache.directory / "texts" / entry.key


def test_a_failed_writer_leaves_nothing(cache):
    def write(folder):
        (folder / "data.bin").write_bytes(b"half")
        raise RuntimeError("the tokenizer broke")

    with pytest.raises(RuntimeError, match="the tokenizer broke"):
        cache.get("texts", PARTS, write=write, read=lambda folder: None, about="")
    assert not cache.has("texts", PARTS)
    assert "data.bin" not in names(cache)
    assert put(cache, content=b"whole") == b"whole"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_a_cache_error_and_leaves_nothing(cache, number):
    def write(folder):
        (folder / "data.bin").write_bytes(b"half")
        raise OSError(number, os.strerror(number))

    with pytest.raises(CacheError, match="no space is left"):
        cache.get("texts", PARTS, write=write, read=lambda folder: None, about="")
    assert "data.bin" not in names(cache)


@pytest.mark.parametrize("harm", [
    lambda file: file.unlink(), lambda file: file.write_bytes(b"cut"),
])  # fmt: skip
def test_an_entry_that_lost_something_is_made_anew(cache, harm):
    put(cache, content=b"first")
    (entry,) = cache.entries()
    harm(entry.path / "data.bin")
    assert not cache.entries()
    assert put(cache, content=b"second") == b"second"


def flip(file, place: int, bit: int = 0) -> None:
    content = bytearray(file.read_bytes())
    content[place] ^= 1 << bit
    file.write_bytes(content)


@pytest.mark.parametrize("place", [0, 17, 499, 999])
def test_a_flipped_bit_is_found_and_the_entry_made_again(cache, place, capsys):
    put(cache, content=b"a" * 1000)
    (entry,) = cache.entries()
    flip(entry.path / "data.bin", place, bit=place % 8)
    again = Cache(cache.directory)
    assert not again.has("texts", PARTS)
    assert put(again, content=b"second") == b"second"
    said = capsys.readouterr().err
    assert said == (
        f"warning: cache: {str(entry.path)!r} is damaged (the checksum of data.bin differs) and is "
        "made again\n"
    )
    assert put(Cache(cache.directory), content=b"third") == b"second"
    assert capsys.readouterr().err == ""


def test_the_checksums_themselves_are_protected(cache):
    """No byte of the file that holds them can change and have something else be read."""
    put(cache, content=b"first")
    (entry,) = cache.entries()
    file = entry.path / "entry.json"
    whole = file.read_bytes()
    for place in range(len(whole)):
        flip(file, place, bit=place % 8)
        if Cache(cache.directory).has("texts", PARTS):  # white space became other white space
            assert json.loads(file.read_text()) == json.loads(whole)
        file.write_bytes(whole)
    assert Cache(cache.directory).has("texts", PARTS)


def test_an_entry_of_a_version_without_checksums_is_made_again(cache, capsys):
    put(cache, content=b"first")
    (entry,) = cache.entries()
    file = entry.path / "entry.json"
    about = json.loads(file.read_text())
    file.write_text(json.dumps({key: about[key] for key in ("about", "files", "made")}))
    assert put(Cache(cache.directory), content=b"second") == b"second"
    assert "kept by a version that made no checksums" in capsys.readouterr().err


def test_what_can_no_more_be_read_leaves_the_disk(cache, capsys):
    for i in range(3):
        put(cache, {"i": i})
    for entry in cache.entries()[:2]:
        flip(entry.path / "entry.json", 3)
    put(cache, {"i": 3})
    assert len(cache.entries()) == 2
    assert len([name for name in names(cache) if len(name) == 32]) == 2
    said = capsys.readouterr().err
    assert said.startswith("warning: cache: removed what is damaged in ")
    assert said.count("entry.json") == 2 and said.count("\n") == 1


def test_an_entry_is_compared_once_by_each_that_opens_it(cache, monkeypatch):
    looked_at = []
    original = entry_module.require_whole
    monkeypatch.setattr(
        entry_module, "require_whole",
        lambda file, *more: (looked_at.append(file.name), original(file, *more)),
    )  # fmt: skip
    put(cache)
    again = Cache(cache.directory)
    assert again.has("texts", PARTS) and again.has("texts", PARTS)
    put(again)
    assert looked_at == ["data.bin"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_in_place_of_a_file_is_not_opened(cache):
    put(cache, content=b"")
    (entry,) = cache.entries()
    (entry.path / "data.bin").unlink()
    os.mkfifo(entry.path / "data.bin")
    assert put(Cache(cache.directory), content=b"second") == b"second"


@pytest.mark.parametrize("moment", ["while it is made", "before it is opened"])
def test_a_cache_that_is_removed_under_a_run_is_a_cache_error(cache, moment, monkeypatch):
    def write(folder):
        (folder / "data.bin").write_bytes(b"mine")
        if moment == "while it is made":
            shutil.rmtree(cache.directory)

    if moment == "before it is opened":
        monkeypatch.setattr(cache, "_evict", lambda keep: shutil.rmtree(cache.directory))
    with pytest.raises(CacheError, match=r"cannot be used: |could not be written|was removed"):
        cache.get("texts", PARTS, about="", write=write,
                  read=lambda folder: (folder / "data.bin").read_bytes())  # fmt: skip
    monkeypatch.undo()
    assert put(cache, content=b"second") == b"second"


def test_two_that_make_one_entry_without_its_lock_do_not_mix(cache):
    """Whoever removes a cache removes its locks."""
    def write(folder):
        (folder / "a.bin").write_bytes(b"first")
        shutil.rmtree(cache.directory)
        assert put(Cache(cache.directory), content=b"second") == b"second"
        (folder / "b.bin").write_bytes(b"first")

    with pytest.raises(CacheError):
        cache.get("texts", PARTS, about="", write=write, read=lambda folder: None)
    (entry,) = cache.entries()
    assert [file.name for file in sorted(entry.path.iterdir())] == ["data.bin", "entry.json"]


def test_entries_from_the_future_age_too(tmp_path):
    """A clock that was set back must not have what was used just now go first."""
    cache = Cache(tmp_path / "cache", limit_gb=2.5e-6)
    for i in range(2):
        put(cache, {"i": i})
    for entry in cache.entries():
        os.utime(entry.path / "entry.json", (4e9, 4e9))
    for i in (2, 3):
        time.sleep(0.01)
        put(cache, {"i": i})
    assert cache.has("texts", {"i": 2}) and cache.has("texts", {"i": 3})


def _never_ends(directory):
    Cache(directory).get(
        "texts", PARTS, about="", read=lambda folder: None,
        write=lambda folder: ((folder / "data.bin").write_bytes(b"half"), time.sleep(600)),
    )  # fmt: skip


def test_what_a_killed_process_left_is_never_read_and_swept_away(cache):
    process = multiprocessing.get_context("spawn").Process(
        target=_never_ends, args=(cache.directory,)
    )
    process.start()
    deadline = time.time() + 60
    while "data.bin" not in names(cache):
        assert time.time() < deadline
        time.sleep(0.05)
    process.kill()
    process.join()
    assert not cache.has("texts", PARTS) and not cache.entries()
    assert put(cache, {"other": 1}, content=b"one") == b"one"
    assert [n for n in names(cache) if n.endswith(".part")] == []
    assert put(cache, content=b"whole") == b"whole"


def _waits(directory, place):
    place.touch()
    assert put(Cache(directory), content=b"whole") == b"whole"


def test_who_waits_for_a_process_that_is_killed_makes_it(cache, tmp_path):
    context = multiprocessing.get_context("spawn")
    first = context.Process(target=_never_ends, args=(cache.directory,))
    second = context.Process(target=_waits, args=(cache.directory, tmp_path / "began"))
    first.start()
    deadline = time.time() + 60
    while "data.bin" not in names(cache):
        assert time.time() < deadline
        time.sleep(0.05)
    second.start()
    while not (tmp_path / "began").exists():
        assert time.time() < deadline
        time.sleep(0.05)
    first.kill()
    first.join()
    second.join(60)
    assert second.exitcode == 0
    assert [name for name in names(cache) if name.endswith(".part")] == []


def _together(directory, place):
    def write(folder):
        with open(place, "a") as file:
            file.write("made\n")
        time.sleep(0.5)
        (folder / "data.bin").write_bytes(b"y" * 5000)

    found = Cache(directory).get(
        "texts", PARTS, about="", write=write,
        read=lambda folder: (folder / "data.bin").read_bytes(),
    )  # fmt: skip
    assert found == b"y" * 5000


def test_processes_that_want_the_same_make_it_once(cache, tmp_path):
    context = multiprocessing.get_context("spawn")
    all_of_them = [
        context.Process(target=_together, args=(cache.directory, tmp_path / "log"))
        for _ in range(3)
    ]
    for one in all_of_them:
        one.start()
    for one in all_of_them:
        one.join(60)
    assert [one.exitcode for one in all_of_them] == [0, 0, 0]
    assert (tmp_path / "log").read_text() == "made\n"


def test_the_limit_removes_what_was_not_used_for_the_longest(tmp_path):
    cache = Cache(tmp_path / "cache", limit_gb=2.5e-6)
    for i in range(2):
        put(cache, {"i": i})
        (entry,) = [e for e in cache.entries() if time.time() - e.used < 60]
        os.utime(entry.path / "entry.json", (1000 + i, 1000 + i))
    put(cache, {"i": 0})  # used now
    put(cache, {"i": 2})
    assert cache.has("texts", {"i": 0}) and cache.has("texts", {"i": 2})
    assert not cache.has("texts", {"i": 1})


def test_an_entry_in_use_is_not_removed(cache):
    def read(folder):
        assert cache.clear() == []
        assert Cache(cache.directory).clear() == []
        return (folder / "data.bin").read_bytes()

    found = cache.get(
        "texts", PARTS, about="", read=read,
        write=lambda folder: (folder / "data.bin").write_bytes(b"mine"),
    )  # fmt: skip
    assert found == b"mine"


def test_what_would_never_be_removed_is_not_kept(cache):
    with pytest.raises(ValueError, match="'shapes' is not in `KINDS`, whose entries alone"):
        put(cache, kind="shapes")


def test_clear_removes_all_or_one_kind(cache):
    put(cache)
    put(cache, kind="images")
    assert [e.kind for e in cache.clear("images")] == ["images"]
    assert [e.kind for e in cache.entries()] == ["texts"]
    assert len(cache.clear()) == 1
    assert cache.entries() == []


def test_a_folder_that_cannot_be_written_is_a_cache_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CacheError, match="cannot be used: Not a directory"):
        put(Cache(tmp_path / "file" / "cache"))


def test_a_temporary_cache_goes_with_its_holder():
    made = temporary()
    folder = made.directory
    assert put(made, content=b"mine") == b"mine"
    del made
    assert not folder.exists()


@pytest.mark.parametrize(("wrong", "message"), [
    ({"activations": "sometimes"}, "cache.activations must be"),
    ({"views": 0}, "cache.views must be at least 1"), ({"limit_gb": 0}, "cache.limit_gb above 0"),
    ({"limit_gb": float("nan")}, "cache.limit_gb above 0"),
])  # fmt: skip
def test_mistakes_are_named(wrong, message, tmp_path):
    with pytest.raises(UserError, match=message):
        Cache(tmp_path, **wrong)


def test_the_digest_of_a_folder_leaves_out_the_names_that_keras_counts(tmp_path):
    def digest(name, size=3):
        (tmp_path / "config.json").write_text(
            f'{{"config": [{{"name": "layer_{name}", "size": {size}}}]}}'
        )
        return digest_folder(tmp_path)

    assert digest(1) == digest(2)
    assert digest(1) != digest(1, size=4)
    before = digest(1)
    (tmp_path / "vocabulary.txt").write_text("a")
    assert digest(1) != before


def test_no_limit_is_a_limit_too(tmp_path):
    assert Cache(tmp_path, limit_gb=float("inf")).free_space() > 0


@pytest.mark.parametrize("act", ["evict", "clear"])
def test_another_users_entry_is_let_be(tmp_path, monkeypatch, act):
    """A lock that may not be opened is no reason to lose what was just made."""
    import filelock

    cache = Cache(tmp_path / "cache", limit_gb=1.5e-6)
    put(cache, {"i": 0})
    (theirs,) = cache.entries()
    acquire = filelock.FileLock.acquire

    def refused(lock, *arguments, **more):
        if theirs.key in str(lock.lock_file):
            raise PermissionError(errno.EACCES, "Permission denied")
        return acquire(lock, *arguments, **more)

    monkeypatch.setattr(filelock.FileLock, "acquire", refused)
    if act == "clear":
        assert cache.clear() == []
    else:
        assert put(cache, {"i": 1}, content=b"mine") == b"mine"
    assert theirs.path in [entry.path for entry in cache.entries()]


def test_an_entry_that_goes_while_it_is_listed_is_none(cache, monkeypatch):
    put(cache, {"i": 0})
    put(cache, {"i": 1})
    gone = cache.entries()[0].path
    read = type(gone).read_text

    def vanishing(path, *arguments, **more):
        text = read(path, *arguments, **more)
        if path.parent == gone:
            (gone / "data.bin").unlink()
        return text

    monkeypatch.setattr(type(gone), "read_text", vanishing)
    assert [entry.path != gone for entry in cache.entries()] == [True]


def test_room_below_a_closed_folder_is_no_traceback(cache, monkeypatch):
    from pathlib import Path

    def closed(path, **more):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "stat", closed)
    assert cache.free_space() > 0
    monkeypatch.setattr("shutil.disk_usage", closed)
    with pytest.raises(CacheError, match="cannot be used: Permission denied"):
        cache.free_space()


@pytest.mark.parametrize("number", [errno.EDQUOT, errno.ENOSPC, errno.EIO])
@pytest.mark.parametrize("place", ["data.bin", "entry.json"])
def test_a_disk_that_fails_at_any_file_is_a_cache_error(cache, monkeypatch, number, place):
    from pathlib import Path

    for method in ("write_bytes", "write_text"):
        original = getattr(Path, method)

        def failing(path, *arguments, original=original, **more):
            if path.stem.strip(".").startswith(place.split(".")[0]):
                raise OSError(number, os.strerror(number))
            return original(path, *arguments, **more)

        monkeypatch.setattr(Path, method, failing)
    with pytest.raises(CacheError, match=r"no space is left in|cannot be used: |be written: Input"):
        put(cache)
    assert cache.entries() == [] and "data.bin" not in names(cache)


def test_what_is_forgotten_is_made_anew(cache):
    put(cache, content=b"first")
    cache.forget("texts", PARTS)
    assert not cache.has("texts", PARTS)
    cache.forget("texts", PARTS)
    assert put(cache, content=b"second") == b"second"


def test_who_waits_says_so(cache, monkeypatch, capsys):
    import threading

    monkeypatch.setattr("kerasft.system.cache.PATIENCE", 0.05)
    begun = threading.Event()

    def slowly(folder):
        begun.set()
        time.sleep(0.5)
        (folder / "data.bin").write_bytes(b"theirs")

    def make():
        Cache(cache.directory).get("texts", PARTS, about="", write=slowly, read=lambda folder: None)

    other = threading.Thread(target=make)
    other.start()
    begun.wait()
    assert put(cache) == b"theirs"
    other.join()
    assert "another process makes what this one needs; waiting for" in capsys.readouterr().out


def test_the_digest_of_code_is_that_of_its_file(tmp_path, monkeypatch):
    import importlib
    import sys

    import keras

    def digest(text):
        (tmp_path / "own_part.py").write_text(text)
        sys.modules.pop("own_part", None)
        importlib.invalidate_caches()
        return digest_code([keras.layers.Dense, importlib.import_module("own_part").Part])

    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    first = digest("class Part: size = 1")
    assert digest("class Part: size = 1") == first != digest("class Part: size = 2")
    assert digest_code([keras.layers.Dense]) == digest_code([])


def tree(folder) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


KEY = "0123456789abcdef" * 2


@pytest.mark.parametrize("file", [
    "projects/thesis/entry.json", "projects/.download.part/x.bin", "projects/.old.gone/x.bin",
    "texts/thesis/entry.json", "texts/.novel.part/x.bin", "texts/.novel.gone/x.bin",
    f"projects/{KEY}/entry.json", f"texts/{KEY}/entry.json", f"texts/{KEY.upper()}/entry.json",
    f"texts/{KEY}0/entry.json", f"texts/.{KEY}.gone/x.bin", f"texts/.{KEY}.12-34.part/x.bin",
])  # fmt: skip
@pytest.mark.parametrize("beside", ["data.bin", "chapter1.tex", "deeper/data.bin"])
def test_what_is_not_the_caches_own_is_left_alone(tmp_path, file, beside):
    """A stranger's config may name any folder as the cache."""
    foreign = (tmp_path / file).parent
    (foreign / beside).parent.mkdir(parents=True)
    (tmp_path / file).write_text('{"title": "my diary"}')
    (foreign / beside).write_text("years of work")
    (tmp_path / "letters.txt").write_text("there is more in this folder")
    before = tree(tmp_path)
    cache = Cache(tmp_path, limit_gb=1e-9)
    put(cache)
    put(cache, {"i": 1})
    cache.clear()
    after = tree(tmp_path)
    assert {name: after.get(name) for name in before} == before
    theirs = foreign.parent.glob(".*.lock") if foreign.parent.name != "texts" else ()
    assert list(theirs) == []


@pytest.mark.parametrize("beside", ["chapter1.tex", "deeper/data.bin"])
def test_even_in_a_cache_what_does_not_look_like_an_entry_stays(cache, beside):
    put(cache)
    for name in (KEY, f".{KEY}.1-2.part", f".{KEY}.gone"):
        file = cache.directory / "texts" / name / beside
        file.parent.mkdir(parents=True)
        file.write_text("years of work")
        (cache.directory / "texts" / name / "entry.json").write_text("{}")
    put(cache, {"i": 1})
    cache.clear()
    assert len([name for name in tree(cache.directory) if name.endswith(beside)]) == 3


def test_links_in_a_cache_lead_to_nothing_that_is_removed(cache, tmp_path):
    put(cache)
    (tmp_path / "victim" / KEY).mkdir(parents=True)
    (tmp_path / "victim" / KEY / "entry.json").write_text("{}")
    (tmp_path / "victim" / KEY / "data.bin").write_text("years of work")
    (cache.directory / "images").symlink_to(tmp_path / "victim")
    (cache.directory / "texts" / KEY).symlink_to(tmp_path / "victim" / KEY)
    (cache.directory / "texts" / f".{KEY}.gone").symlink_to(tmp_path / "victim" / KEY)
    before = tree(tmp_path / "victim")
    put(cache, {"i": 1})
    put(cache, kind="images")
    cache.clear()
    after = tree(tmp_path / "victim")
    assert {name: after.get(name) for name in before} == before


def of_earlier_version(cache: Cache, key: str) -> None:
    """Keep an entry as a version without checksums did."""
    place = cache.directory / "texts" / key
    place.mkdir(parents=True)
    (place / "data.bin").write_bytes(b"x" * 1000)
    (place / "entry.json").write_text(
        json.dumps({"about": "old texts", "files": {"data.bin": 1000}, "made": 1.5})
    )
    os.utime(place / "entry.json", (1000, 1000))


def test_entries_of_earlier_versions_are_listed_and_go_first(tmp_path, capsys):
    cache = Cache(tmp_path / "cache", limit_gb=2.5e-6)
    of_earlier_version(cache, KEY)
    put(cache)
    assert [one.about for one in cache.entries()] == ["some texts", "old texts"]
    put(cache, {"i": 1})
    assert [one.about for one in cache.entries()] == ["some texts", "some texts"]
    of_earlier_version(cache, KEY)
    assert len(cache.clear()) == 3 and cache.entries() == []
    assert capsys.readouterr().err == ""
