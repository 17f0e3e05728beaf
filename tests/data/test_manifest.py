import json
from pathlib import Path

import numpy as np
import pytest

from kerasft.data import manifest, manifest_rows
from kerasft.data.annotations.plain import counts, identified
from kerasft.data.fingerprint import digest, fingerprint
from kerasft.data.manifest import (
    diff_manifest,
    digest_of,
    is_written,
    read_manifest,
    write_manifest,
)
from kerasft.data.sources.digits import digits
from kerasft.data.sources.table import table
from kerasft.errors import UserError


def make(folder, rows, **settings):
    path = folder / "a.csv"
    path.write_text("\n".join(["text,label", *rows]), "utf-8")
    return table(str(path), **{
        "kind": "single", "seed": 0, "text": "text", "label": "label", **settings,
    })  # fmt: skip


ROWS = [f"আমার {i},{'ab'[i % 2]}" for i in range(20)]


def test_written_and_read(tmp_path):
    splits = make(tmp_path, ROWS)
    path = write_manifest(splits, tmp_path / "data.json")
    manifest = read_manifest(path)
    told = json.loads(path.read_text("utf-8"))
    assert {**manifest, "splits": told["splits"]} == told
    assert manifest["names"] == ["a", "b"]
    assert manifest["counts"]["train"] == {"examples": 12, "label a": 6, "label b": 6}
    assert manifest["source"]["files"] == {"train": str(tmp_path / "a.csv")}
    name, label, mark = manifest["splits"]["test"][0]
    where = splits.test.ids.index(name)
    assert label == splits.labels.names[splits.test.labels[where]]
    assert mark == fingerprint(splits.test.inputs[where], "text")
    assert diff_manifest(manifest, splits) == []
    rows = manifest["splits"]["train"]
    assert len(rows) == told["splits"]["train"]["examples"] == 12
    assert list(rows) == rows[:] == [rows[i] for i in range(12)] and rows[-1] == rows[11]
    assert manifest["fingerprint"] == as_it_was(splits)["fingerprint"]
    for name in splits.parts:  # runs of either format are compared with each other
        assert digest_of(told, name) == digest_of(as_it_was(splits), name)


def as_it_was(splits):
    """Return the manifest of older versions, which had all rows in the JSON file."""
    rows = {
        name: [list(row) for row in zip(
            part.ids, identified(part, splits.labels),
            [fingerprint(value, part.modality) for value in part.inputs], strict=True,
        )] for name, part in splits.parts.items()
    }  # fmt: skip
    told = [json.dumps(sorted(part, key=lambda row: row[0]), ensure_ascii=False)
            for part in rows.values()]  # fmt: skip
    return {
        "format": 1, "fingerprint": digest(*told), **splits.labels.to_dict(),
        "source": dict(splits.source), "notices": [],
        "counts": {name: counts(part, splits.labels) for name, part in splits.parts.items()},
        "splits": rows,
    }


@pytest.mark.parametrize("kind", ["single", "multi", "number"])
def test_manifests_of_older_versions_are_read(tmp_path, kind):
    rows = [f"text {i},{i % 2}" for i in range(20)]
    splits = make(tmp_path, rows, kind=kind)
    path = tmp_path / "data.json"
    path.write_text(json.dumps(as_it_was(splits)), "utf-8")
    old = read_manifest(path)
    assert diff_manifest(old, splits) == []
    changed = make(tmp_path, ["other words,0", *rows[1:]], kind=kind)
    said = diff_manifest(old, changed)
    assert said == diff_manifest(read_manifest(write_manifest(splits, path)), changed)
    assert "Examples that hold something else: 1 (a.csv:2)." in said


def test_rows_that_are_written_in_pieces(tmp_path, monkeypatch):
    splits = make(tmp_path, ROWS)
    whole = read_manifest(write_manifest(splits, tmp_path / "whole.json"))
    monkeypatch.setattr(manifest_rows, "AT_ONCE", 5)
    path = write_manifest(splits, tmp_path / "pieces.json")
    pieces = read_manifest(path)
    assert {n: list(r) for n, r in pieces.pop("splits").items()} == {
        n: list(r) for n, r in whole.pop("splits").items()}
    assert pieces == whole and diff_manifest(read_manifest(path), splits) == []


class Killed(BaseException):
    """What ends a process in the middle."""


@pytest.mark.parametrize("at", ["data.json", "data.new.arrow"])
def test_a_kill_while_it_is_written_leaves_a_whole_manifest(tmp_path, monkeypatch, at):
    before, after = make(tmp_path, ROWS), make(tmp_path, [*ROWS[:-1], "new,b"])
    path = write_manifest(before, tmp_path / "data.json")
    whole = contents(path)
    monkeypatch.setattr(manifest, "written_whole", killed_at(manifest.written_whole, at))
    rename = Path.replace
    monkeypatch.setattr(Path, "replace", lambda own, to: killed_at(rename, at)(own, to))
    with pytest.raises(Killed):
        write_manifest(after, path)
    monkeypatch.undo()
    assert (tmp_path / "data.new.arrow").is_file()
    held = before if at == "data.json" else after
    assert diff_manifest(read_manifest(path), held) == []
    assert is_written(held, path) == (at == "data.json")
    if at == "data.json":
        assert contents(path) == whole
    said = diff_manifest(read_manifest(path), after if held is before else before)
    assert said[-1] == "Examples that hold something else: 1 (a.csv:21)."
    write_manifest(after, path)
    assert diff_manifest(read_manifest(path), after) == [] and is_written(after, path)
    assert not (tmp_path / "data.new.arrow").exists()


def killed_at(act, name):
    """Return what does the same, and is killed before it writes or renames a file of this name."""

    def until(path, *others):
        if path.name == name:
            raise Killed
        return act(path, *others)

    return until


def contents(path):
    return [one.read_bytes() for one in (path, path.with_suffix(".arrow"))]


@pytest.mark.parametrize("older", [False, True])
def test_rows_of_another_manifest_are_told(tmp_path, monkeypatch, older):
    if older:  # which did not say what their rows belong to
        monkeypatch.setattr(manifest_rows, "_OF", b"other")
    one = write_manifest(make(tmp_path, ROWS), tmp_path / "one.json")
    other = write_manifest(make(tmp_path, [*ROWS[:-1], "new,b"]), tmp_path / "other.json")
    monkeypatch.undo()
    assert list(read_manifest(one)["splits"]) == ["train", "validation", "test"]
    other.with_suffix(".arrow").replace(one.with_suffix(".arrow"))
    with pytest.raises(UserError, match=r"are of two manifests: .* remove both to go on with"):
        read_manifest(one)


def test_written_the_same_each_time(tmp_path):
    for name in ("a.json", "b.json"):
        write_manifest(digits(kind="single", seed=3), tmp_path / name)
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()


def test_differences(tmp_path):
    old = read_manifest(write_manifest(make(tmp_path, ROWS), tmp_path / "data.json"))
    said = diff_manifest(old, make(tmp_path, [*ROWS, "new,a"]))
    assert any(s.startswith("Examples that are new: 1 (a.csv:22)") for s in said)
    changed = ["other words,a", *ROWS[1:]]
    said = diff_manifest(old, make(tmp_path, changed))
    assert any(s.startswith("Examples that hold something else: 1 (a.csv:2)") for s in said)
    said = diff_manifest(old, make(tmp_path, ROWS, seed=1))
    assert any(s.startswith("Examples that stand in another split") for s in said)
    said = diff_manifest(old, make(tmp_path, [row.replace(",b", ",c") for row in ROWS]))
    assert said[0] == "The classes were a, b; now they are a, c."
    assert any(s.startswith("Examples that carry another label: 10") for s in said)
    said = diff_manifest(old, make(tmp_path, ROWS, kind="multi"))
    assert said[0] == "The kind of labels was 'single'; now it is 'multi'."


def test_numbers_and_several_labels(tmp_path):
    splits = make(tmp_path, [f"t{i},{i}.5" for i in range(20)], kind="number")
    assert read_manifest(write_manifest(splits, tmp_path / "x"))["splits"]["train"][0][1] == 0.5
    splits = make(tmp_path, [f't{i},"a,b"' for i in range(20)], kind="multi")
    assert read_manifest(write_manifest(splits, tmp_path / "x"))["splits"]["train"][0][1] == [
        "a", "b",
    ]  # fmt: skip


def test_numbers_that_were_written_in_float32_are_the_same(tmp_path):
    rows = [f"text {i},{i / 10}" for i in range(20)]
    splits = make(tmp_path, rows, kind="number")
    old = as_it_was(splits)
    for part in old["splits"].values():
        for row in part:
            row[1] = float(np.float32(row[1]))
    assert diff_manifest(old, splits) == []
    old["splits"]["train"][0][1] += 0.1
    assert "another label" in diff_manifest(old, splits)[0]


def test_bad_manifests(tmp_path):
    with pytest.raises(UserError, match="is missing"):
        read_manifest(tmp_path / "none.json")
    (tmp_path / "x.json").write_text("{")
    with pytest.raises(UserError, match="cannot be read"):
        read_manifest(tmp_path / "x.json")
    (tmp_path / "x.json").write_text("{}")
    with pytest.raises(UserError, match="no data manifest"):
        read_manifest(tmp_path / "x.json")
    file = write_manifest(make(tmp_path, ROWS), tmp_path / "y.json")
    whole = file.with_suffix(".arrow").read_bytes()
    for bad in (b"", whole[:-200], whole.replace(b"fingerprint", b"fingerprunt")):
        file.with_suffix(".arrow").write_bytes(bad)
        with pytest.raises(UserError, match=r"y\.arrow' is damaged"):
            read_manifest(file)
    file.with_suffix(".arrow").unlink()
    with pytest.raises(UserError, match=r"y\.arrow' is missing"):
        read_manifest(file)


def test_fingerprints(tmp_path):
    (tmp_path / "x").write_bytes(b"image")
    assert fingerprint(str(tmp_path / "x"), "images") == fingerprint(b"image", "images")
    (tmp_path / "x").write_bytes(b"another")
    assert fingerprint(str(tmp_path / "x"), "images") == fingerprint(b"another", "images")
    assert fingerprint(("ab", "c"), "text") != fingerprint(("a", "bc"), "text")
