"""What was read once is found again, and never where anything has changed."""

from __future__ import annotations

import os

import numpy as np
import pytest

from kerasft.data import kept_splits, late_texts
from kerasft.data.fingerprint import fingerprints
from kerasft.data.late_texts import Chosen, LateTexts, read_texts, write_texts
from kerasft.data.manifest import diff_manifest, read_manifest, write_manifest
from kerasft.data.sources.table import table
from kerasft.system.cache import Cache

ROWS = [f"আমার film {i},{'ab'[i % 2]},{i / 2},second {i % 7}" for i in range(40)]
ROWS[7] = ROWS[5]


@pytest.fixture
def kept(tmp_path, monkeypatch):
    """Return a function that reads a table as a run does; it counts in `kept.read`."""
    monkeypatch.setattr(kept_splits, "FEWEST", 20)
    path = tmp_path / "a.csv"
    path.write_text("\n".join(["text,label,number,other", *ROWS]), "utf-8")

    def read(**changed):
        settings = {"path": str(path), "text": "text", "label": "label", "kind": "single",
                    "seed": 0, **changed}  # fmt: skip

        def build():
            read.count += 1
            return table(**settings)

        return kept_splits.read(table, "table", settings, Cache(tmp_path / "cache"), build)

    read.count, read.path = 0, path
    return read


@pytest.mark.parametrize("changed", [
    {}, {"text_pair": "other"}, {"kind": "multi"}, {"kind": "number", "label": "number"},
    {"test": 0, "limit": 20},
])  # fmt: skip
def test_what_is_found_again_is_what_was_read(kept, changed, tmp_path):
    fresh = table(str(kept.path), **{
        "text": "text", "label": "label", "kind": "single", "seed": 0, **changed})  # fmt: skip
    for count in (1, 1):
        found = kept(**changed)
        assert kept.count == count
        assert isinstance(found.train.inputs, LateTexts)
        assert (found.labels, found.notices, found.copies) == (
            fresh.labels, fresh.notices, fresh.copies)
        for name, part in fresh.parts.items():
            mine = found.parts[name]
            assert list(mine.inputs) == list(part.inputs) == mine.inputs[:]
            assert tuple(mine.ids) == part.ids
            assert mine.labels.dtype == part.labels.dtype
            np.testing.assert_array_equal(mine.labels, part.labels)
            np.testing.assert_array_equal(fingerprints(mine), fingerprints(part))
            assert mine.take([2, 0]).inputs[:] == [part.inputs[2], part.inputs[0]]
    whole, again = (write_manifest(one, tmp_path / f"{i}.json") for i, one in
                    enumerate((fresh, found)))  # fmt: skip
    assert whole.read_bytes() == again.read_bytes()
    assert diff_manifest(read_manifest(whole), found) == []


def test_whatever_has_changed_is_read_anew(kept):
    first = kept()
    assert kept(seed=1).train.ids[:3] != first.train.ids[:3] and kept.count == 2
    stat = kept.path.stat()
    text = kept.path.read_text("utf-8")
    kept.path.write_text(text.replace("second 3", "second 4"), "utf-8")
    os.utime(kept.path, ns=(stat.st_atime_ns, stat.st_mtime_ns))  # as if nothing had happened
    assert kept.path.stat().st_size == stat.st_size
    kept()
    assert kept.count == 3
    kept.path.write_text(text + "\none more,a,1,second", "utf-8")
    assert sum(map(len, kept().parts.values())) == 41 and kept.count == 4


def test_a_file_of_class_names_is_looked_at_too(kept, tmp_path):
    names = tmp_path / "names.txt"
    names.write_text("b\na\n", "utf-8")
    for _ in range(2):
        assert kept(label_names=str(names)).labels.names == ("b", "a") and kept.count == 1
    names.write_text("a\nb\nc\n", "utf-8")
    assert kept(label_names=str(names)).labels.names == ("a", "b", "c") and kept.count == 2


def test_a_file_that_is_written_meanwhile_is_not_kept(kept, tmp_path):
    settings = {"path": str(kept.path), "text": "text", "label": "label", "kind": "single",
                "seed": 0}  # fmt: skip

    def build():
        made = table(**settings)
        kept.path.write_text(kept.path.read_text("utf-8") + "\none more,b,1,second", "utf-8")
        return made

    for _ in range(2):
        made = kept_splits.read(table, "table", settings, Cache(tmp_path / "cache"), build)
        assert isinstance(made.train.inputs, list)
    assert not Cache(tmp_path / "cache").entries()


def test_small_tables_and_images_are_not_kept(kept, monkeypatch):
    monkeypatch.setattr(kept_splits, "FEWEST", 41)
    assert isinstance(kept().train.inputs, list)
    assert kept_splits._key(table, "table", {"path": str(kept.path), "image": "text"}) is None
    assert kept_splits._key(print, "print", {}) is None


def test_an_entry_that_is_damaged_is_made_again(kept, tmp_path):
    kept()
    (entry,) = Cache(tmp_path / "cache").entries("sources")
    (entry.path / "train-inputs.bin").write_bytes(b"spoilt")
    assert len(kept().train.inputs[0]) > 5 and kept.count == 2


def test_texts_that_are_read_late(tmp_path, monkeypatch):
    monkeypatch.setattr(late_texts, "AT_ONCE", 2)
    texts = ["", "a", "আমার", "", "last"]
    write_texts(tmp_path, "one", texts)
    made = read_texts(tmp_path, "one")
    assert list(made) == made[:] == texts and made[-1] == "last" and made[1:4:2] == ["a", ""]
    assert list(made.choose([4, 0, 2]).choose([2, 0])) == ["আমার", "last"]
    with pytest.raises(IndexError):
        made[5]
    joined = Chosen([made, ["x", "y"]], np.array([6, 2, 5]))
    assert list(joined) == ["y", "আমার", "x"] and joined[1:] == ["আমার", "x"]
