"""Where relative paths lead: in the current folder, and in that of a run's command."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

import kerasft
from kerasft.data.paths import find_path
from kerasft.errors import UserError
from kerasft.runs import repetition
from kerasft.runs.run_folder import RunFolder
from kerasft.system.files import read_json
from kerasft.system.folders import candidates, folders_of, located, looked_up_in, origin


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
    return tmp_path


def test_the_current_folder_alone_changes_no_path(here):
    with looked_up_in([Path.cwd()]):
        assert candidates("a.csv") == [Path("a.csv")] and located("a.csv") == Path("a.csv")


def test_the_first_folder_that_has_it_is_meant(here):
    (here / "there/a.csv").touch()
    with looked_up_in([here / "here", here / "there"]):
        assert located("a.csv") == find_path("a.csv", "data.path") == here / "there/a.csv"
        (here / "here/a.csv").touch()
        assert located("a.csv") == find_path("a.csv", "data.path") == here / "here/a.csv"
        assert located("b.csv") == Path("b.csv")
        absolute = str(here / "there/a.csv")
        assert find_path(absolute, "data.path") == Path(absolute)
    with pytest.raises(UserError):
        find_path("a.csv", "data.path")


def test_a_file_beside_the_data_comes_before_one_of_that_name_elsewhere(here):
    for name in ("here/v.csv", "there/data/v.csv"):
        (here / name).parent.mkdir(exist_ok=True)
        (here / name).touch()
    beside = here / "there/data"
    for folders in ([here / "there", here / "here"], [here / "here", here / "there"]):
        with looked_up_in(folders):
            assert find_path("v.csv", "data.validation", beside=beside) == beside / "v.csv"
    (here / "there/v.csv").touch()
    with looked_up_in([here / "here", here / "there"]):
        assert find_path("v.csv", "data.validation", beside=beside) == here / "there/v.csv"


def test_what_is_nowhere_is_told_with_every_place(here):
    (here / "here/data").mkdir()
    (here / "here/data/films.csv").touch()
    with looked_up_in([here / "there", here / "here"]), pytest.raises(UserError) as raised:
        find_path("data/film.csv", "data.path")
    said = str(raised.value)
    assert f"Looked for: '{here}/there/data/film.csv', '{here}/here/data/film.csv'." in said
    assert "Did you mean 'films.csv'" in said


def test_a_pattern_of_files_is_looked_up_like_a_name(here):
    from kerasft.data.sources.tfrecord import _files

    (here / "there/train-0").touch()
    with looked_up_in([here / "here", here / "there"]):
        assert _files("train-*", "data.path") == [here / "there/train-0"]
        with pytest.raises(UserError, match=r"fits the pattern.*Looked for: '.*here/test-\*'"):
            _files("test-*", "data.path")


def test_a_run_knows_where_it_was_started_and_where_that_is_after_a_move(here):
    run = here / "here/outputs/run"
    run.mkdir(parents=True)
    os.chdir("here")
    facts = json.loads(json.dumps(origin(run)))
    os.chdir(here)
    assert folders_of(facts, run) == [here / "here", here]
    shutil.move("here", "there/moved")
    moved = here / "there/moved"
    assert folders_of(facts, moved / "outputs/run") == [moved, here / "here", here]


@pytest.mark.parametrize("facts", [
    {}, *({"folders": value} for value in (None, 5, "x", {"a": 1}, [], [5, None, {}, []])),
    *({"folders": [value]} for value in ("", "relative", "\x00", "/a\x00b", "/a\nb")),
])  # fmt: skip
def test_notes_that_make_no_sense_count_as_none(here, facts):
    assert folders_of(facts, here) == []


@pytest.mark.parametrize("place", [None, 5, "", "x", "/a\x00b", ["/"], "/" + "x" * 5000])
def test_folders_that_nobody_can_look_in_hold_nothing(here, place):
    facts = {"folders": ["/" + "x" * 5000, str(here)], "place": place}
    (here / "a.csv").touch()
    with looked_up_in(folders_of(facts, here / "run")):
        assert find_path("a.csv", "data.path") == here / "a.csv"
        with pytest.raises(UserError, match="no file or folder"):
            find_path("b.csv", "data.path")


def test_a_command_that_repeats_a_run_looks_here_first(here):
    (here / "run").mkdir()
    facts = {"folders": [str(here / "there")], "place": str(here / "run")}
    (here / "run/run.json").write_text(json.dumps(facts))
    (here / "there/a.csv").touch()
    os.chdir("here")
    with repetition.repeating("../run"):
        assert find_path("a.csv", "data.path") == here / "there/a.csv"
        Path("a.csv").touch()
        assert find_path("a.csv", "data.path") == here / "here/a.csv"
        noted = origin(here / "new")["folders"]
    assert noted == [str(here / "here"), str(here / "there")]
    with repetition.repeating(None):
        assert candidates("a.csv") == [Path("a.csv")]


@pytest.mark.slow
def test_a_run_is_measured_repeated_and_taken_up_from_anywhere(here, texts_csv, kerasft_cli):
    lines = texts_csv.read_text("utf-8").splitlines(keepends=True)
    Path("here/data").mkdir()
    Path("here/data/a.csv").write_text("".join(lines[:-12]), "utf-8")
    Path("here/data/held.csv").write_text(lines[0] + "".join(lines[-12:]), "utf-8")
    os.chdir("here")
    made = kerasft.train([
        "data=table", "data.text=text", "data.label=label", "data.path=data/a.csv",
        "data.validation=held.csv", "data.test=0", "backbone=tiny_bert",
        "backbone.sequence_length=24", "epochs=1", "max_steps=2", "batch_size=8", "baseline=null",
        "progress=false", "cache.directory=kept", "output_dir=out/run",
    ])  # fmt: skip
    assert read_json("out/run/run.json")["folders"] == [str(here / "here")]
    wanted = made.metrics["validation"]["log_loss"]
    os.chdir(here / "there")
    Path("held.csv").write_text("text,label\nother,neg\n")  # a file of that name that is not meant
    again = kerasft.evaluate("../here/out/run")
    assert again["validation"]["log_loss"] == pytest.approx(wanted, abs=1e-6)
    assert not Path("kept").exists()
    said = kerasft_cli("train", "--from", "../here/out/run", "max_steps=1", "output_dir=again")
    assert said.code == 0, said.err
    # Moved with its data, and then without it.
    shutil.move("../here", "moved")
    again = kerasft.evaluate("moved/out/run")
    assert again["validation"]["log_loss"] == pytest.approx(wanted, abs=1e-6)
    facts = read_json("moved/out/run/run.json")
    facts["status"] = "stopped"
    Path("moved/out/run/run.json").write_text(json.dumps(facts))
    resumed = kerasft.resume("moved/out/run")
    assert resumed.metrics["validation"]["log_loss"] == pytest.approx(wanted, abs=1e-6)
    assert RunFolder(Path("moved/out/run")).facts()["folders"] == [str(here / "here")]
    shutil.move("moved/out/run", "alone")
    assert kerasft.predict("alone", ["good"])[0]["label"] in ("neg", "pos")
    said = kerasft_cli("evaluate", "alone")
    assert said.code == 2 and "Looked for: " in said.err
    assert f"{here}/here/data/a.csv" in said.err


@pytest.mark.slow
def test_a_current_folder_that_is_gone_is_said_in_one_line(tmp_path, kerasft_cli, monkeypatch):
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    # What reads and writes nothing there goes on.
    assert kerasft_cli("check").code == 0
    elsewhere = f"output_dir={tmp_path / 'run'}"
    assert kerasft_cli("train", "max_steps=1", "baseline=null", elsewhere).code == 0
    for words in (["train", "debug=quick"], ["train", "-m", "seed=1,2"],
                  ["train", "--trust", "mine", "epochs=1"], ["resume", "x"], ["evaluate", "x"],
                  ["train", "--from", "outputs/last"]):  # fmt: skip
        ended = kerasft_cli(*words)
        assert ended.code == 2, words
        assert ended.err.count("error: ") == 1 and "Traceback" not in ended.err
    ended = kerasft_cli("train", "debug=quick")
    assert "The current folder is not there any more" in ended.err
    with looked_up_in([Path("/data")]):
        assert candidates("a.csv") == [Path("/data/a.csv")]
    assert folders_of({"folders": ["/data"], "place": "/runs/a"}, Path("/runs/a")) == [
        Path("/data")
    ]


def rows(file, word: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    lines = [f"{word} {i},{'yes' if i % 2 else 'no'}" for i in range(40)]
    file.write_text("\n".join(["text,label", *lines]))


@pytest.mark.parametrize("first", ["here", "there"])
def test_of_files_of_one_name_those_are_read_that_the_run_saw(here, first, capsys):
    from kerasft.data.manifest import write_manifest
    from kerasft.steps.preparing.prepare import read_splits

    rows(here / "here/a.csv", "ours")
    rows(here / "there/a.csv", "theirs")
    cfg = kerasft.compose(["data=table", "data.path=a.csv", "data.text=text", "data.label=label"])
    with looked_up_in([here / "here"]):
        splits, differences = read_splits(cfg, "single", None)
    assert differences == []
    manifest = here / "manifest.json"
    write_manifest(splits, manifest)
    last = {"here": "there", "there": "here"}[first]
    with looked_up_in([here / first, here / last]):
        again, differences = read_splits(cfg, "single", manifest)
        assert differences == [] and again.train.inputs == splits.train.inputs
        assert ("is what the run saw" in capsys.readouterr().out) == (first == "there")
        rows(here / "here/a.csv", "changed")
        _, differences = read_splits(cfg, "single", manifest)
    said = " ".join(differences)
    assert f"'{here / first}/a.csv' was read, and there is '{here / last}/a.csv' too." in said
