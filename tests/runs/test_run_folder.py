"""What a run leaves behind."""

from __future__ import annotations

import csv
import errno
import json
import os
import re
import shutil
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

import kerasft
from kerasft.config import composition
from kerasft.data.annotations.plain import each_plain, plain
from kerasft.data.preprocessing import prepare
from kerasft.data.sources.digits import digits
from kerasft.errors import UserError
from kerasft.runs import finetuned as finetuned_module
from kerasft.runs import output_dir, records, repetition, run_folder
from kerasft.steps.measuring.reopening import reopen
from kerasft.system import provenance, tf_data
from kerasft.system.files import disk_space_in, read_json, write_json, written_whole

FILES = (
    "config.yaml", "run.json", "manifest.json", "manifest.arrow", "metrics.json", "labels.json",
    "task.json",
    "checkpoints/best.keras", "checkpoints/last.keras", "logs/epochs.csv", "logs/epochs.jsonl",
    "preprocess/preprocess.json", "predictions/validation.csv", "predictions/test.csv",
    "plots/learning_curves.png", "plots/test_confusion_matrix.png",
)  # fmt: skip


@pytest.mark.parametrize("which", ["tiny_run", "tiny_text_run"])
def test_the_folder_of_a_run_holds(request, which):
    run = request.getfixturevalue(which)
    for name in FILES:
        assert (run / name).stat().st_size > 0, name
    assert list((run / "logs" / "tensorboard").rglob("events*"))
    assert not [p for p in run.rglob("*") if ".part" in p.name]


def test_the_config_is_resolved_and_composes_again(tiny_run):
    text = (tiny_run / "config.yaml").read_text("utf-8")
    assert "${" not in text
    cfg = composition.load(tiny_run / "config.yaml")
    kerasft.check(cfg)
    assert cfg.finetune.full.epochs == cfg.epochs == 2


def test_facts_of_a_run(tiny_run):
    facts = read_json(tiny_run / "run.json")
    assert facts["status"] == "done"
    assert facts["started"] <= facts["finished"]
    assert facts["command"]
    assert facts["versions"]["kerasft"] == kerasft.__version__
    assert {"python", "tensorflow", "keras", "keras-hub", "numpy"} <= set(facts["versions"])
    assert facts["machine"]["cores"] == tf_data.cores()


def test_fewer_processors_on_the_same_machine_are_another(monkeypatch):
    monkeypatch.delenv("TF_NUM_INTRAOP_THREADS", raising=False)
    before = provenance.machine()
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(77)), raising=False)
    monkeypatch.setenv("TF_NUM_INTRAOP_THREADS", "3")
    assert provenance.changed(before, provenance.machine()) == (
        f"TF_NUM_INTRAOP_THREADS missing -> 3, cores {before['cores']} -> 77"
    )


def test_devices_have_their_drivers_names(tmp_path):
    for number, name in enumerate(("NVIDIA A", "NVIDIA B")):
        (tmp_path / str(number)).mkdir()
        about = f"Model: \t\t {name} 80GB\nIRQ:   1\n"
        (tmp_path / str(number) / "information").write_text(about)
    assert provenance._gpus(tmp_path) == ["NVIDIA A 80GB", "NVIDIA B 80GB"]


def test_metrics_and_predictions_agree(tiny_run):
    metrics = read_json(tiny_run / "metrics.json")
    assert list(metrics) == ["validation", "test"]
    assert 0 <= metrics["test"]["accuracy"] <= 1
    with open(tiny_run / "predictions" / "test.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    right = sum(row["true"] == row["predicted_label"] for row in rows)
    assert right / len(rows) == pytest.approx(metrics["test"]["accuracy"])
    table = metrics["test"]["confusion_matrix"]
    assert sum(map(sum, table)) == len(rows)


@pytest.fixture(scope="module")
def opened(tiny_run):
    return reopen(str(tiny_run))[1]


@pytest.mark.parametrize("known", [True, False])
def test_answers_that_come_in_pieces_are_those_that_come_together(
    opened, monkeypatch, tmp_path, known
):
    part = digits(kind="single", seed=0).test.take(range(21))
    monkeypatch.setattr(finetuned_module, "AT_ONCE", 5)
    finetuned = replace(opened, batch_size=4)
    store = prepare(part, finetuned.preprocess)
    kept = finetuned.measure(store).rows if known else None
    whole = finetuned.answers(store, kept, inputs=part.inputs)
    pieces = list(finetuned.each_answer(store, kept, inputs=part.inputs))
    assert [len(piece["label"]) for piece in pieces] == [8, 8, 5]
    for name, value in whole.items():
        np.testing.assert_array_equal(np.concatenate([piece[name] for piece in pieces]), value)
    labels, rules = finetuned.labels, finetuned.rules
    for folder, answers, truths in (
        ("whole", records.records(whole, labels.names, rules), plain(part, labels)),
        ("pieces", records.of_pieces(pieces, labels.names, rules), each_plain(part, labels)),
    ):
        records.write(tmp_path / folder, "test", part.ids, truths, answers)
    for name in ("test.jsonl", "test.csv"):
        made = [(tmp_path / folder / name).read_bytes() for folder in ("whole", "pieces")]
        assert made[0] == made[1] and made[0].count(b"\n") >= 21
    assert not records.hold_objects(tmp_path / "pieces", "test")
    assert not records.hold_objects(tmp_path, "test")


def test_the_log_has_a_row_an_epoch(tiny_run):
    lines = [json.loads(x) for x in (tiny_run / "logs/epochs.jsonl").read_text().splitlines()]
    with open(tiny_run / "logs" / "epochs.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in lines] == [1, 2]
    assert [int(row["epoch"]) for row in rows] == [1, 2]
    assert {"loss", "val_loss", "val_accuracy", "learning_rate", "stage"} <= set(lines[0])


def test_images_are_images(tiny_run):
    from PIL import Image

    found = sorted((tiny_run / "plots").glob("*.png"))
    assert len(found) >= 3
    for file in found:
        with Image.open(file) as image:
            assert min(image.size) > 100


# --- making the folder -------------------------------------------------------------------------


def test_folders_have_names_of_their_own_and_last_points_to_the_newest(tmp_path):
    made = [run_folder.create(kerasft.compose(["name=small"])) for _ in range(3)]
    assert len({folder.path for folder in made}) == 3
    assert all(folder.path.parent == Path("outputs/small") for folder in made)
    assert (tmp_path / "outputs/last").resolve() == made[-1].path.resolve()
    assert not list((tmp_path / "outputs").glob(".last*"))


def test_a_chosen_folder_leaves_last_alone(tmp_path):
    cfg = kerasft.compose(["output_dir=here/it/is"])
    assert run_folder.create(cfg).path == Path("here/it/is")
    assert not (tmp_path / "outputs").exists()


def test_a_folder_that_holds_something_is_refused(tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").touch()
    with pytest.raises(UserError, match=r"new or empty folder.*thesis\.txt"):
        run_folder.create(kerasft.compose(["output_dir=full"]))
    assert (tmp_path / "full" / "thesis.txt").exists()


@pytest.mark.slow
def test_a_run_that_failed_before_it_trained_makes_room(tiny_images):
    words = [*tiny_images, "epochs=1", "callbacks=none", "output_dir=mine"]
    with pytest.raises(UserError, match="train_per_class"):
        kerasft.train([*words, "data.train_per_class=100000"])
    assert Path("mine/run.json").is_file()
    assert kerasft.train(words).output_dir == Path("mine")
    with pytest.raises(UserError, match="new or empty folder"):
        kerasft.train(words)


@pytest.mark.parametrize("change", [
    {"run.json": '{"status": "stopped"}'}, {"run.json": "{"}, {"notes.txt": "mine"},
])  # fmt: skip
def test_all_else_stays_where_it_is(tmp_path, change):
    folder = tmp_path / "mine"
    folder.mkdir()
    files = {"config.yaml": "a: 1", "run.json": '{"status": "failed"}', **change}
    for name, text in files.items():
        (folder / name).write_text(text)
    with pytest.raises(UserError, match="new or empty folder"):
        run_folder.create(kerasft.compose(["output_dir=mine"]))
    assert {file.name: file.read_text() for file in folder.iterdir()} == files


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written"):
        run_folder.create(kerasft.compose(["output_dir=file/run"]))
    with pytest.raises(UserError, match="cannot be written"):
        run_folder.create(kerasft.compose(["output_dir=/proc/run"]))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_a_full_disk_is_told(tmp_path):
    full = pytest.raises(UserError, match=r"'a\.json' could not be written: No space left")
    with full, written_whole("a.json"), open("/dev/full", "w") as file:
        file.write("{}")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("error", [
    OSError(errno.ENOSPC, "No space left on device"), OSError(errno.EROFS, "Read-only file system"),
    tf.errors.UnknownError(None, None, "events.out.v2; No space left on device"),
])  # fmt: skip
def test_what_a_library_cannot_write_is_told_as_well(error):
    cfg = kerasft.compose(["output_dir=run"])
    folder = run_folder.create(cfg)
    told = pytest.raises(UserError, match=r"'run' could not be written: .*Free some space")
    with told, folder.recording(cfg):
        raise error
    assert "could not be written" in read_json("run/run.json")["reason"]
    with pytest.raises(FileNotFoundError), folder.recording(cfg):
        raise FileNotFoundError(errno.ENOENT, "no such file")  # no matter of room: a fault of ours


def test_nothing_half_written_is_left(tmp_path):
    (tmp_path / "a.txt").write_text("before")
    with pytest.raises(RuntimeError), written_whole("a.txt") as part:
        part.write_text("half")
        raise RuntimeError
    assert (tmp_path / "a.txt").read_text() == "before"
    assert len(list(tmp_path.iterdir())) == 1


def test_numbers_that_json_has_no_word_for(tmp_path):
    import numpy as np

    write_json("a.json", {"a": float("nan"), "b": np.float32(0.5), "c": np.arange(2), 3: (1,)})
    assert read_json("a.json") == {"a": None, "b": 0.5, "c": [0, 1], "3": [1]}


# --- how a run ended ---------------------------------------------------------------------------


def test_a_run_that_failed_says_why(tmp_path):
    cfg = kerasft.compose(["output_dir=run"])
    folder = run_folder.create(cfg)
    with pytest.raises(UserError), folder.recording(cfg):
        assert read_json("run/run.json")["status"] == "running"
        raise UserError("the data is gone")
    facts = read_json("run/run.json")
    assert facts["status"] == "failed"
    assert facts["reason"] == "the data is gone"
    with pytest.raises(UserError, match=r"not whole.*labels\.json.*status is 'failed'"):
        run_folder.open_run("run")


def test_a_run_that_was_interrupted_says_so():
    cfg = kerasft.compose(["output_dir=run"])
    folder = run_folder.create(cfg)
    with pytest.raises(KeyboardInterrupt), folder.recording(cfg):
        raise KeyboardInterrupt
    facts = read_json("run/run.json")
    assert facts["status"] == "stopped"
    assert "KeyboardInterrupt" in facts["reason"]


def test_the_revision_of_the_folder_one_works_in(tmp_path):
    assert provenance.git_revision() is None
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b.c"]
    for words in (["init", "-q"], ["commit", "-q", "--allow-empty", "-m", "first"]):
        subprocess.run([*git, *words], check=True, cwd=tmp_path, capture_output=True)
    clean = provenance.git_revision()
    assert clean and len(clean) == 40
    (tmp_path / "a").write_text("a")
    subprocess.run([*git, "add", "a"], check=True, cwd=tmp_path)
    assert provenance.git_revision() == f"{clean}+changes"


def _init(folder, *settings):
    folder.mkdir()
    (folder / "a").write_text("a")
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b.c"]
    for words in (["init", "-q"], ["add", "a"], ["commit", "-q", "-m", "first"]):
        subprocess.run([*git, *words], check=True, cwd=folder, capture_output=True)
    for key, value in settings:
        subprocess.run(["git", "config", key, value], check=True, cwd=folder)


RUNNING = {
    "the monitor of files": [("core.fsmonitor", "{}; false")],
    "a filter": [("filter.x.clean", "{}; cat")],
    "a filter that goes on": [("filter.x.process", "{}; false"), ("filter.x.required", "true")],
    "a hook": [("core.hooksPath", "hooks")],
    "a hook where hooks are": [],
    "another file of settings": [("include.path", "../more")],
    "a submodule": [],
    "what is fetched when it is missing": [
        ("extensions.partialClone", "o"), ("remote.o.url", "ext::sh -c {}"),
        ("protocol.ext.allow", "always"), ("remote.o.promisor", "true")],
}  # fmt: skip


@pytest.mark.parametrize("case", RUNNING)
def test_a_repository_of_anybody_runs_nothing(case, tmp_path, monkeypatch):
    mark = tmp_path / "mark"
    call = f"touch {mark}"
    folder = tmp_path / "r"
    _init(folder, *((key, value.format(call)) for key, value in RUNNING[case]))
    (folder / ".gitattributes").write_text("* filter=x\n")
    (folder / "more").write_text(f'[core]\n\tfsmonitor = "{call}; false"\n')
    for place in (folder / "hooks", folder / ".git" / "hooks"):
        place.mkdir(exist_ok=True)
        (place / "post-index-change").write_text(f"#!/bin/sh\n{call}\n")
        (place / "post-index-change").chmod(0o755)
    if case == "a submodule":
        _init(folder / "sub", ("core.fsmonitor", f"{call}; false"))
        subprocess.run(["git", "add", "sub"], check=True, cwd=folder, capture_output=True)
        mark.unlink(missing_ok=True)
    if case.startswith("what is fetched"):
        objects = folder / ".git" / "objects"
        for file in objects.glob("??/*"):
            file.unlink()
    (folder / "a").write_text("b")
    os.utime(folder / "a", (1, 1))
    mark.unlink(missing_ok=True)
    monkeypatch.chdir(folder)
    revision = provenance.git_revision()
    assert revision and re.fullmatch(r"[0-9a-f]{40}\+(changes|unchecked)", revision)
    assert not mark.exists()


def test_settings_that_run_nothing_keep_nobody_from_looking(tmp_path, monkeypatch):
    _init(tmp_path / "r", ("remote.origin.url", "https://x/y"), ("user.name", "a"),
          ("branch.main.remote", "origin"), ("alias.st", "status"))  # fmt: skip
    monkeypatch.chdir(tmp_path / "r")
    assert len(provenance.git_revision()) == 40
    (tmp_path / "r" / "a").write_text("other")
    assert provenance.git_revision().endswith("+changes")


def test_the_command_is_kept(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/usr/bin/kerasft", "train", "data.path=a b"])
    cfg = kerasft.compose(["output_dir=run"])
    with run_folder.create(cfg).recording(cfg):
        pass
    assert read_json("run/run.json")["command"] == "kerasft train 'data.path=a b'"


def test_a_run_that_ended_while_one_waited_is_not_done_again(tmp_path):
    """Its state was read before the other process, which held the lock then, came to its end."""
    cfg = kerasft.compose(["output_dir=run"])
    folder = run_folder.create(cfg)
    with pytest.raises(KeyboardInterrupt), folder.recording(cfg):
        raise KeyboardInterrupt
    waiting, same = run_folder.reopen("run")
    with folder.recording(cfg):
        pass
    whole = {path: path.read_bytes() for path in Path("run").rglob("*") if path.is_file()}
    with pytest.raises(UserError, match="has ended"), waiting.recording(same):
        raise AssertionError("it began")
    assert {path: path.read_bytes() for path in Path("run").rglob("*") if path.is_file()} == whole


@pytest.mark.parametrize("error", [errno.EROFS, errno.EACCES])
def test_a_run_folder_that_became_read_only_is_told(error, monkeypatch):
    cfg = kerasft.compose(["output_dir=run"])
    folder = run_folder.create(cfg)
    with pytest.raises(KeyboardInterrupt), folder.recording(cfg):
        raise KeyboardInterrupt
    before = Path("run/run.json").read_bytes()
    plain = os.open

    def refusing(path, flags, *given, **named):
        if str(path).endswith(".lock"):
            raise OSError(error, os.strerror(error), path)
        return plain(path, flags, *given, **named)

    monkeypatch.setattr(os, "open", refusing)
    told = pytest.raises(UserError, match=f"cannot be written: {os.strerror(error)}")
    with told, folder.recording(cfg):
        raise AssertionError("it began")
    assert Path("run/run.json").read_bytes() == before


def test_what_is_written_whole_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    done = []

    def fsync(handle):
        kind = "folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else "file"
        done.append((kind, (tmp_path / "a.json").exists()))

    monkeypatch.setattr(os, "fsync", fsync)
    write_json(tmp_path / "a.json", {"a": 1})
    assert done == [("file", False), ("folder", True)]


# --- a folder that is not whole ----------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["checkpoints/best.keras", "labels.json", "task.json", "preprocess/preprocess.json"],
)
def test_a_missing_file_is_named(tiny_text_run, tmp_path, name):
    shutil.copytree(tiny_text_run, tmp_path / "copy")
    (tmp_path / "copy" / name).unlink()
    with pytest.raises(UserError) as caught:
        kerasft.predict("copy", ["a text"])
    assert name in str(caught.value)
    assert "kerasft train --from copy" in str(caught.value)


def test_a_missing_tokenizer_is_named(tiny_text_run, tmp_path):
    shutil.copytree(tiny_text_run, tmp_path / "copy")
    shutil.rmtree(tmp_path / "copy" / "preprocess" / "tokenizer")
    with pytest.raises(UserError, match="tokenizer"):
        kerasft.predict("copy", ["a text"])


@pytest.mark.parametrize(
    "name", ["checkpoints/best.keras", "labels.json", "task.json", "config.yaml"]
)
def test_a_broken_file_is_named(tiny_text_run, tmp_path, name):
    shutil.copytree(tiny_text_run, tmp_path / "copy")
    (tmp_path / "copy" / name).write_text("{ nonsense [")
    with pytest.raises(UserError) as caught:
        kerasft.predict("copy", ["a text"])
    assert name.split("/")[-1] in str(caught.value)


def test_without_its_config_it_is_no_run(tiny_text_run, tmp_path):
    shutil.copytree(tiny_text_run, tmp_path / "copy")
    (tmp_path / "copy" / "config.yaml").unlink()
    with pytest.raises(UserError, match=r"no config\.yaml"):
        kerasft.evaluate("copy")


@pytest.mark.slow
def test_a_run_can_be_moved(tiny_text_run, tmp_path):
    shutil.copytree(tiny_text_run, tmp_path / "elsewhere" / "run")
    assert kerasft.predict("elsewhere/run", ["a good film"])[0]["label"] in ("pos", "neg")


def test_a_run_folder_may_not_call_what_is_not_trusted(tiny_text_run, tmp_path):
    shutil.copytree(tiny_text_run, tmp_path / "copy")
    file = tmp_path / "copy" / "config.yaml"
    config = file.read_text("utf-8")
    file.write_text(config.replace("kerasft.data.sources.table.table", "os.system"))
    with pytest.raises(UserError, match="is refused"):
        kerasft.evaluate("copy")


# --- repeating a run ---------------------------------------------------------------------------


def test_overrides_onto_a_recorded_config(tiny_run):
    cfg = repetition.recorded_config(str(tiny_run), ["epochs=7", "head.dropout=0.4"])
    assert (cfg.epochs, cfg.head.dropout, cfg.output_dir) == (7, 0.4, None)
    with pytest.raises(UserError) as caught:
        repetition.recorded_config(str(tiny_run), ["epochs=x", "head=mlp", "~augment"])
    assert len(caught.value.problems) == 3


@pytest.mark.parametrize(("error", "where"), [
    (OSError(errno.EIO, "Input/output error", "/data/a.jpg"), "/data/a.jpg"),
    (tf.errors.UnknownError(None, None, "/run/logs/x; Input/output error"), "run"),
])  # fmt: skip
def test_a_disk_that_fails_is_told(error, where):
    with pytest.raises(UserError, match=rf"'{where}' could not be read or written: Input/output"), (
        disk_space_in("run")
    ):
        raise error


def test_what_is_no_fault_of_a_disk_passes():
    with pytest.raises(ZeroDivisionError), disk_space_in("run"):
        raise ZeroDivisionError


def test_last_is_a_run_below_outputs_however_it_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b"):
        (tmp_path / "outputs" / name).mkdir(parents=True)
    last = tmp_path / "outputs/last"
    output_dir.point_last(Path("outputs/a"))
    assert last.resolve() == (tmp_path / "outputs/a").resolve()
    output_dir.point_last(tmp_path / "outputs" / "b")
    assert last.resolve() == (tmp_path / "outputs/b").resolve()
    for elsewhere in (Path("runs/c"), tmp_path.parent / "outputs" / "d"):
        output_dir.point_last(elsewhere)
        assert last.resolve() == (tmp_path / "outputs/b").resolve()
