"""Run folders and exports with pieces missing, damaged, or from elsewhere."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path

import pytest

COMMANDS = {
    "predict": "predict run 'a film'",
    "evaluate": "evaluate run",
    "export": "export run",
    "resume": "resume run",
    "again": "train --from run",
    "other": "train output_dir=run resume=auto name=other",
}


def damage(file: str, content: str | bytes | None):
    """Return a function that writes over a file of a run, or removes it."""

    def act(run: Path) -> None:
        path = run / file
        if path.is_dir():
            shutil.rmtree(path)
        elif content is None:
            path.unlink()
        else:
            path.write_bytes(content.encode() if isinstance(content, str) else content)

    return act


def change(file: str, old: str, new: str):
    def act(run: Path) -> None:
        text = (run / file).read_text("utf-8")
        assert old in text
        (run / file).write_text(text.replace(old, new), "utf-8")

    return act


def cut(file: str, part: float = 0.5):
    def act(run: Path) -> None:
        content = (run / file).read_bytes()
        (run / file).write_bytes(content[: int(len(content) * part)])

    return act


def flip(file: str):
    """Change bytes in the middle of a file."""

    def act(run: Path) -> None:
        content = bytearray((run / file).read_bytes())
        middle = len(content) // 2
        for place in range(middle, min(middle + 64, len(content))):
            content[place] ^= 0xFF
        (run / file).write_bytes(content)

    return act


def set_json(file: str, **values):
    def act(run: Path) -> None:
        found = json.loads((run / file).read_text("utf-8"))
        (run / file).write_text(json.dumps(found | values), "utf-8")

    return act


def hostile_network(run: Path) -> None:
    """A `.keras` file whose only layer is a Lambda that would write a file."""
    config = {
        "module": "keras", "class_name": "Sequential", "registered_name": "Sequential",
        "config": {"name": "x", "layers": [
            {"module": "keras.layers", "class_name": "Lambda", "registered_name": None,
             "config": {"name": "l", "function": {
                 "class_name": "__lambda__", "config": {"code": "4wAAAA==", "defaults": None,
                                                        "closure": None}}}}]},
    }  # fmt: skip
    with zipfile.ZipFile(run / "checkpoints/best.keras", "w") as file:
        file.writestr("config.json", json.dumps(config))
        file.writestr("metadata.json", json.dumps({"keras_version": "3.0.0"}))
        file.writestr("model.weights.h5", b"")


def not_done(run: Path) -> None:
    set_json("run.json", status="failed", reason="the disk was full")(run)
    (run / "checkpoints/best.keras").unlink()


def damaged_states(run: Path) -> None:
    set_json("run.json", status="stopped")(run)
    (run / "checkpoints/states").mkdir()
    for number in (1, 2):
        (run / f"checkpoints/states/step-{number:08d}.npz").write_bytes(b"PK\3\4 half a checkpoint")


BEST = "checkpoints/best.keras"

# name: (what happens to a run on texts, the commands that meet it, what they say)
RUNS = {
    "no config": (damage("config.yaml", None), "predict evaluate export resume again",
                  "config.yaml"),
    "an empty config": (damage("config.yaml", ""), "evaluate again", "config.yaml"),
    "half a config": (cut("config.yaml", 0.3), "evaluate again", "config.yaml"),
    "a config that is no YAML": (damage("config.yaml", "a: [1\n\tb"), "evaluate resume again",
                                 "config.yaml' cannot be read"),
    "a config that is a list": (damage("config.yaml", "- 1\n"), "evaluate again", "config.yaml"),
    "a config of zeros": (damage("config.yaml", bytes(200)), "evaluate again", "config.yaml"),
    "a config in another encoding": (damage("config.yaml", "naïve: 1".encode("latin-1")),
                                     "evaluate again", "config.yaml"),
    "a config of a later version": (damage("config.yaml", "version: 9\nnetwork: {}\n"),
                                    "evaluate again", "config.yaml", "another version"),
    "a config that calls others": (change("config.yaml", "kerasft.data.sources.table.table",
                                          "os.system"),
                                   "evaluate again", "os.system", "refused"),
    "a config that unfolds": (
        damage("config.yaml", "a: &a [1,1,1,1,1,1,1,1,1,1]\n" + "".join(
            f"{b}: &{b} [{','.join([f'*{a}'] * 10)}]\n" for a, b in zip("abcdefg", "bcdefgh",
                                                                        strict=True))),
        "evaluate again", "config.yaml unfolds to"),
    "a config nested too deeply": (damage("config.yaml", "a: " + "[" * 5000), "evaluate again",
                                   "config.yaml", "nested too deeply"),
    "no network": (damage(BEST, None), "predict evaluate export", BEST, "--from run"),
    "an empty network": (damage(BEST, b""), "predict evaluate", BEST),
    "half a network": (cut(BEST), "predict", BEST),
    "a changed network": (flip(BEST), "predict", BEST),
    "a network that is a text": (damage(BEST, "weights"), "predict export", BEST),
    "a network that runs code": (hostile_network, "predict evaluate", BEST, "arbitrary code"),
    "no labels": (damage("labels.json", None), "predict", "labels.json"),
    "labels that are no JSON": (damage("labels.json", "{"), "predict", "labels.json"),
    "labels that are a list": (damage("labels.json", "[1]"), "predict", "labels.json"),
    "labels too many": (set_json("labels.json", names=["a", "b", "c"]), "predict evaluate",
                        "labels.json"),
    "labels without names": (damage("labels.json", '{"kind": "single"}'), "predict", "labels.json"),
    "no task": (damage("task.json", None), "predict", "task.json"),
    "a task that is no JSON": (damage("task.json", "\0\0\0"), "predict", "task.json"),
    "a task that is a list": (damage("task.json", "[]"), "predict", "task.json"),
    "a task of nothing": (damage("task.json", "{}"), "predict", "task.json"),
    "a task that calls others": (set_json("task.json", **{"class": "os.system"}), "predict",
                                 "os.system"),
    "a task that writes files": (
        damage("task.json",
               '{"class": "kerasft.system.files.write_json", "path": "x.json", "value": 1}'),
        "predict", "task.json", "is no task"),
    "no preprocessing": (damage("preprocess", None), "predict", "preprocess"),
    "preprocessing that is no JSON": (damage("preprocess/preprocess.json", "x"), "predict",
                                      "preprocess.json"),
    "preprocessing of nothing": (damage("preprocess/preprocess.json", "{}"), "predict",
                                 "preprocess.json"),
    "preprocessing that is a list": (damage("preprocess/preprocess.json", "[]"), "predict",
                                     "preprocess.json"),
    "a run that has ended": (lambda run: None, "resume", "has ended", "--from run"),
    "a run that did not end": (not_done, "predict evaluate export", BEST, "'failed'"),
    "a run that never finished": (
        lambda run: (not_done(run), set_json("run.json", status="stopped")(run)), "export predict",
        "'stopped'", "kerasft resume run"),
    "a run of another config": (set_json("run.json", status="stopped"), "other",
                                "began with another config", "Take these back"),
    "damaged checkpoints": (damaged_states, "resume", "No checkpoint", "step-00000002.npz"),
    "run.json that is no JSON": (damage("run.json", "x"), "resume", "run.json"),
    "run.json that is a list": (damage("run.json", "[]"), "resume", "run.json"),
    "a broken manifest": (damage("manifest.json", "{"), "evaluate", "manifest.json"),
    "a manifest that is a list": (damage("manifest.json", "[]"), "evaluate", "manifest.json"),
    "data that has gone": (change("config.yaml", "texts.csv", "gone.csv"), "evaluate",
                           "gone.csv"),
    "broken evidence": (damage("evidence.npz", "PK"), "export", "evidence.npz' is damaged"),
    "no evidence": (damage("evidence.npz", None), "export", "has no evidence.npz"),
}  # fmt: skip


@pytest.mark.every(12)
@pytest.mark.parametrize(
    ("name", "command"),
    [pytest.param(name, command, id=f"{name}, {command}")
     for name, (_, commands, *_) in RUNS.items() for command in commands.split()],
)  # fmt: skip
def test_a_broken_run_gets_one_message(name, command, text_run, refuses):
    act, _, *said = RUNS[name]
    act(text_run)
    # A run that is taken up writes down that it was, and how that ended.
    record = {"run/run.json", "run/config.yaml", "run/manifest.json", "run/manifest.arrow"}
    kept = "prepared" if name == "damaged checkpoints" else "/"
    refuses(COMMANDS[command], *said, kept=kept, rewritten=record if kept != "/" else set())
    if kept != "/":
        assert json.loads((text_run / "run.json").read_text("utf-8"))["status"] == "failed"


# Commands on a sound run; of images where the name says so: (command, said)
WRONG = {
    "no such split": ("evaluate run split=dev", "split=train", "'split=dev'"),
    "another override": ("evaluate run epochs=3", "split=train"),
    "an export of another group": ("export run head=mlp", "export group alone"),
    "an export that is none": ("export run export=onxx", "export", "saved_model"),
    "an unknown key of an export": ("export run export.saved_model.verion=2", "verion",
                                    "Did you mean 'version'?"),
    "a file of texts that is not there": ("predict run @no.txt", "'no.txt'"),
    "a file of texts that is a folder": ("predict run @cache", "'cache'"),
    "a file of texts in another encoding": ("predict run @latin.txt", "'latin.txt'"),
    "an empty file of texts": ("predict run @empty.txt", "nothing to predict"),
    "an answer of another format": ("predict run a --output a.txt", ".csv, .jsonl or .parquet"),
    "an answer below a file": ("predict run a --output empty.txt/a.csv", "empty.txt/a.csv"),
    "a run repeated with another part": ("train --from run head=mlp", "head keeps its part"),
    "a run repeated with a typo": ("train --from run epoch=3", "epoch"),
    "a run repeated with a word for a number": ("train --from run epochs=three", "epochs"),
    "a run repeated into itself": ("train --from run output_dir=run", "new or empty folder"),
    "a new run into its folder": ("train output_dir=run", "new or empty folder", "config.yaml"),
    "a metric that is none": ("leaderboard . --metric f2", "--metric must be a metric", "'f2'"),
    "a leaderboard of another format": ("leaderboard . --output a.txt", ".csv, .json or .html"),
    "a leaderboard of nothing": ("leaderboard cache", "There is no run below"),
    "a leaderboard of no folder": ("leaderboard no", "There is no folder 'no'"),
}  # fmt: skip


@pytest.mark.every(3)
@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_command_on_a_sound_run(name, text_run, put, refuses):
    put({"latin.txt": b"caf\xe9\n", "empty.txt": b""})
    command, *said = WRONG[name]
    refuses(command, *said)


IMAGES = {
    "an image that is not there": ("predict run no.png", "no image 'no.png'"),
    "a text for an image": ("predict run text.png", "text.png"),
    "an empty image": ("predict run empty.png", "empty.png"),
    "a folder without images": ("predict run cache", "no image in the folder 'cache'"),
    "a list of images that are not there": ("predict run @list.txt", "no image"),
    "a bomb of pixels": ("predict run bomb.png", "bomb.png"),
}  # fmt: skip


@pytest.mark.every(3)
@pytest.mark.parametrize("name", IMAGES)
def test_a_wrong_image_for_a_sound_run(name, image_run, put, refuses):
    import struct
    import zlib

    def chunk(kind: bytes, content: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + check

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0))
    bomb = b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(bytes(10**6)))
    put({"text.png": "text", "empty.png": b"", "list.txt": "no.png\n", "bomb.png": bomb})
    command, *said = IMAGES[name]
    refuses(command, *said)


SIGNATURE = json.dumps(
    {"modality": "text", "labels": ["a", "b"],
     "signatures": {"serving_default": {"inputs": {"text": {}}, "outputs": {}}}}
)
# name: (files below export/, what `predict` says)
EXPORTS = {
    "an empty folder": ({}, "saved_model.pb is missing"),
    "no signature": ({"1/saved_model.pb": b"x"}, "signature.json is missing"),
    "no model": ({"1/assets.extra/signature.json": SIGNATURE}, "saved_model.pb is missing"),
    "a signature that is no JSON": (
        {"1/saved_model.pb": b"x", "1/assets.extra/signature.json": "{"}, "signature.json"),
    "a signature of nothing": (
        {"1/saved_model.pb": b"x", "1/assets.extra/signature.json": "{}"}, "it lacks modality"),
    "a signature of no function": (
        {"1/saved_model.pb": b"x", "1/assets.extra/signature.json": SIGNATURE.replace(
            "serving_default", "other")}, "lists no signature 'serving_default'"),
    "a signature that is a list": (
        {"1/saved_model.pb": b"x", "1/assets.extra/signature.json": "[]"}, "one JSON object"),
    "a model that is none": ({"1/saved_model.pb": b"not a graph",
                              "1/assets.extra/signature.json": SIGNATURE}, "export/1"),
    "an empty model": ({"1/saved_model.pb": b"", "1/assets.extra/signature.json": SIGNATURE},
                       "export/1"),
}  # fmt: skip


@pytest.mark.parametrize("name", EXPORTS)
def test_a_broken_export_gets_one_message(name, put, refuses):
    files, *said = EXPORTS[name]
    put({"export/": ""} | {f"export/{file}": content for file, content in files.items()})
    refuses("predict export 'a film'", *said)
