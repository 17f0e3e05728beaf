import json

import numpy as np
import pytest

from kerasft.data.fingerprint import fingerprint
from kerasft.data.manifest import diff_manifest, read_manifest, write_manifest
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
    assert manifest == json.loads(path.read_text("utf-8"))
    assert manifest["names"] == ["a", "b"]
    assert manifest["counts"]["train"] == {"examples": 12, "label a": 6, "label b": 6}
    assert manifest["source"]["files"] == {"train": str(tmp_path / "a.csv")}
    name, label, mark = manifest["splits"]["test"][0]
    where = splits.test.ids.index(name)
    assert label == splits.labels.names[splits.test.labels[where]]
    assert mark == fingerprint(splits.test.inputs[where], "text")
    assert diff_manifest(manifest, splits) == []
    assert sum(line.startswith("   [") for line in path.read_text("utf-8").splitlines()) == 20


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
    old = read_manifest(write_manifest(splits, tmp_path / "manifest.json"))
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


def test_fingerprints(tmp_path):
    (tmp_path / "x").write_bytes(b"image")
    assert fingerprint(str(tmp_path / "x"), "images") == fingerprint(b"image", "images")
    (tmp_path / "x").write_bytes(b"another")
    assert fingerprint(str(tmp_path / "x"), "images") == fingerprint(b"another", "images")
    assert fingerprint(("ab", "c"), "text") != fingerprint(("a", "bc"), "text")
