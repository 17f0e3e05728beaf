"""What a run wrote down, read back: no file of a run folder can end a command in a traceback."""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path

import pytest

from kerasft.data.manifest import read_manifest
from kerasft.errors import UserError
from kerasft.runs import finetuned, run_folder
from kerasft.system.folders import folders_of
from kerasft.system.provenance import changed
from kerasft.system.recorded import fits, read_figures, read_labels

HUGE = 10**400
VALUES = (None, True, -1, 1.5, float("nan"), float("inf"), HUGE, "", "x", [], [None], [[]], {},
          {"x": 1})  # fmt: skip


@pytest.mark.parametrize(("value", "wanted", "does"), [
    (1, int, True), (True, int, False), (1.5, int, False), (1, float, True), (HUGE, float, False),
    (float("nan"), float, False), (None, float | None, True), ("a", str | None, True),
    (["a"], list[str], True), (["a", 1], list[str], False), ("ab", list[str], False),
    ({"a": 1.5}, dict[str, float], True), ({"a": "x"}, dict[str, float], False),
    (["a"], tuple[str, ...], True), (5, dict, False), (object(), object, True),
])  # fmt: skip
def test_values_are_held_to_annotations(value, wanted, does):
    assert fits(value, wanted) is does


@pytest.fixture
def file(tmp_path):
    def write(value):
        (tmp_path / "file.json").write_text(json.dumps(value), "utf-8")
        return tmp_path / "file.json"

    return write


@pytest.mark.parametrize(("saved", "said"), [
    ({"kind": "single"}, "lacks names"), ({"kind": 3, "names": []}, "kind must be a text"),
    ({"kind": ["single"], "names": []}, "kind must be"), ([], "one JSON object"),
    *(({"kind": "single", "names": names}, "names must be a list of texts") for names in
      (None, 5, "ab", {"a": 1}, [1], ["a", None], [["a"]])),
    ({"kind": "single", "names": ["a", "a"]}, "a class is in it twice"),
])  # fmt: skip
def test_labels_that_are_none_are_told(file, saved, said):
    with pytest.raises(UserError, match=said) as raised:
        read_labels(file(saved))
    assert "file.json" in str(raised.value)


@pytest.mark.parametrize("figures", [
    *VALUES[:-2], *({"accuracy": value} for value in (True, "x", HUGE, float("nan"))),
])  # fmt: skip
def test_figures_that_are_none_are_told(file, figures):
    with pytest.raises(UserError, match=r"is damaged: validation"):
        read_figures(file({"validation": figures}))
    whole = {"validation": {"accuracy": 0.5, "auc": None, "per_class": {"a": {}}}}
    assert read_figures(file(whole)) == whole


def places(value, path=()):
    yield path
    if isinstance(value, dict):
        for key in list(value)[:8]:
            yield from places(value[key], (*path, key))
    elif isinstance(value, list) and value:
        yield from places(value[0], (*path, 0))


def replaced(value, path, new):
    if not path:
        return new
    value = copy.deepcopy(value)
    inner = value
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = new
    return value


@pytest.fixture(scope="module")
def copied(tiny_text_run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("damaged") / "run"
    shutil.copytree(tiny_text_run, folder)
    return folder


def answer(folder: Path) -> None:
    from kerasft.model import preprocess
    from kerasft.system.files import read_json
    from kerasft.tasks import shared

    run = run_folder.RunFolder(folder)
    preprocess.load(run.preprocess)
    labels = read_labels(run.labels)
    shared.load(read_json(run.task, "class"), file=run.task).head(labels)


def look_up(folder: Path) -> None:
    run = run_folder.RunFolder(folder)
    facts = run.facts()
    folders_of(facts, folder)
    for key in ("versions", "machine"):
        changed(facts.get(key, {}), {"kerasft": "0"})
    assert {**facts, "resumed": [*facts.get("resumed", [])]}


READERS = {
    "run.json": look_up, "labels.json": answer, "task.json": answer,
    "preprocess/preprocess.json": answer,
    "metrics.json": lambda folder: read_figures(folder / "metrics.json"),
    "manifest.json": lambda folder: read_manifest(folder / "manifest.json"),
}  # fmt: skip


@pytest.mark.every(3)
@pytest.mark.parametrize("name", READERS)
def test_a_file_of_any_kind_is_read_or_told(copied, name):
    whole, act = (copied / name).read_text("utf-8"), READERS[name]
    value = json.loads(whole)
    tried = 0
    try:
        for path in places(value):
            for new in VALUES:
                (copied / name).write_text(json.dumps(replaced(value, path, new)))
                tried += 1
                try:
                    act(copied)
                except UserError as error:
                    assert "\n" not in str(error)
        for text in ("", "{", "[" * 100_000, "null", "[1]"):
            (copied / name).write_text(text)
            with pytest.raises(UserError):
                act(copied)
    finally:
        (copied / name).write_text(whole, "utf-8")
    act(copied)
    assert tried > 20


def test_files_of_another_run_are_told_by_name(copied, tiny_run):
    for name, said in {
        "labels.json": "is of another run: the network has 2 outputs, and it lists 10 labels",
        "preprocess": "is of another run: it makes",
    }.items():
        kept, other = copied.parent / "kept", tiny_run / name
        shutil.move(copied / name, kept)
        (shutil.copytree if other.is_dir() else shutil.copy)(other, copied / name)
        with pytest.raises(UserError, match=said):
            finetuned.load(*run_folder.open_run(copied))
        (shutil.rmtree if other.is_dir() else Path.unlink)(copied / name)
        shutil.move(kept, copied / name)
    saved = json.loads((copied / "labels.json").read_text("utf-8"))
    (copied / "labels.json").write_text(json.dumps(saved | {"kind": "multi"}), "utf-8")
    with pytest.raises(UserError, match="its labels are of the kind 'multi'"):
        finetuned.load(*run_folder.open_run(copied))
    (copied / "labels.json").write_text(json.dumps(saved), "utf-8")
    assert finetuned.load(*run_folder.open_run(copied)).labels.names == tuple(saved["names"])


def test_an_evidence_of_broken_bytes_is_told(copied):
    from kerasft.runs import evidence

    raw = (copied / "evidence.npz").read_bytes()
    # The version that a member of the archive wants: none that there is.
    mark = raw.index(b"PK\x01\x02")
    for broken in (raw[: mark + 6] + b"\xff" + raw[mark + 7:], raw[:200], b"", b"x" * 300):
        (copied / "evidence.npz").write_bytes(broken)
        with pytest.raises(UserError, match=r"evidence\.npz' is damaged"):
            evidence.read(run_folder.open_run(copied)[0])
    (copied / "evidence.npz").write_bytes(raw)
