"""Nothing that is loaded runs code that came with it. Each example would leave a mark if it did.

Archives, bombs of pixels and of YAML are in tests/bad_input and tests/data.
"""

from __future__ import annotations

import json
import pickle
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from omegaconf import OmegaConf
from torch_files import torch_file

from kerasft.errors import UserError
from kerasft.runs import evidence
from kerasft.runs.run_folder import RunFolder
from kerasft.system.cache import Cache
from kerasft.system.cache_entry import close
from kerasft.system.console import printable, table
from kerasft.training import checkpoint
from kerasft.training.checkpoint import Damaged

EVIL = "import pathlib\n\npathlib.Path({!r}).touch()\n\n\ndef call(*given, **named):\n    pass\n"


@pytest.fixture
def mark(tmp_path, monkeypatch):
    """A file that hostile code would make; and a module that makes it when it is imported."""
    folder = tmp_path / "python"
    folder.mkdir()
    path = tmp_path / "mark"
    (folder / "evil.py").write_text(EVIL.format(str(path)))
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setenv("EVIL", "os.system")
    monkeypatch.setenv("EVIL_NODE", "{_target_: evil.call}")
    yield path
    assert not path.exists(), "code that came with the input has run"


def call(mark: Path) -> dict:
    return {"_target_": "os.system", "command": f"touch {mark}"}


def reloading(mark: Path) -> dict:
    """A call of what kerasft's own exports are loaded with, on a folder that holds a module."""
    request = mark.with_name("request.json")
    request.write_text(json.dumps({"modules": ["evil_export"], "raw": []}))
    folder = mark.with_name("export")
    folder.mkdir(exist_ok=True)
    (folder / "evil_export.py").write_text(EVIL.format(str(mark)))
    return {
        "_target_": "kerasft.exporters.reload.main", "folder": str(folder),
        "request": str(request), "answers": str(mark),
    }


# Where in a config a call may hide.
HIDDEN = {
    "a part": lambda mark: {"head": call(mark)},
    "a part, partial": lambda mark: {"head": call(mark) | {"_partial_": True}},
    "a value": lambda mark: {"head": {"activation": call(mark)}},
    "deep in lists": lambda mark: {"augment": {"all": {
        "_target_": "keras.layers.Pipeline", "layers": [{"more": [call(mark)]}],
    }}},
    "deep in dicts": lambda mark: {"optimizer": {"name": {"a": {"b": {"c": call(mark)}}}}},
    "positional": lambda mark: {"head": {"_target_": "os.system", "_args_": [f"touch {mark}"]}},
    "a reference": lambda mark: {"name": "os.system", "head": {
        "_target_": "${name}", "command": f"touch {mark}",
    }},
    "the environment": lambda mark: {"head": call(mark) | {"_target_": "${oc.env:EVIL}"}},
    "made by a resolver": lambda mark: {"head": "${oc.create:{_target_:os.system,command:ls}}"},
    "made in a list": lambda mark: {"augment": {"all": {
        "_target_": "keras.layers.Pipeline",
        "layers": ["${oc.create:{_target_:evil.call}}"],
    }}},
    "made in a dict": lambda mark: {"head": {"extra": {"a": {
        "b": "${oc.decode:'{_target_:evil.call}'}",
    }}}},
    "made of a dict's values": lambda mark: {"augment": {"all": {
        "_target_": "keras.layers.Pipeline", "layers": "${oc.dict.values:augment.more}",
    }, "more": {"x": call(mark)}}},
    "made of the environment": lambda mark: {"augment": {"all": {
        "_target_": "keras.layers.Pipeline", "layers": ["${oc.create:${oc.env:EVIL_NODE}}"],
    }}},
    "escaped once": lambda mark: {"augment": {"all": {
        "_target_": "keras.layers.Pipeline",
        "layers": [r"\${oc.create:{_target_:evil.call}}"],
    }}},
    "escaped in a node's name": lambda mark: {"head": {
        "_target_": r"\${oc.env:EVIL}", "command": f"touch {mark}",
    }},
    "in itself": lambda mark: {"head": {"_target_": "evil.call", "x": "${head}"}},
    "hydra itself": lambda mark: {"head": {
        "_target_": "hydra.utils.instantiate", "config": call(mark),
    }},
    "a module that is imported": lambda mark: {"head": {"_target_": "evil.call"}},
    "through an imported name": lambda mark: {"head": {
        "_target_": "kerasft.system.cache.os.system", "command": f"touch {mark}",
    }},
    "a private name": lambda mark: {"head": {"_target_": "keras.layers.__loader__.load_module"}},
    "code of a layer": lambda mark: {"head": {"_target_": "keras.layers.Lambda", "function": "x"}},
    "a graph": lambda mark: {"head": {"_target_": "keras.layers.TFSMLayer", "filepath": "x"}},
    "code of a callback": lambda mark: {"callbacks": {"own": {
        "_target_": "keras.callbacks.LambdaCallback",
    }}},
    "whatever it is told": lambda mark: {"head": {
        "_target_": "keras.layers.deserialize", "config": {"module": "evil", "class_name": "call"},
    }},
    "safety switched off": lambda mark: {"head": {
        "_target_": "keras.config.enable_unsafe_deserialization",
    }},
    "another loader": lambda mark: {"head": {
        "_target_": "keras.saving.load_model", "filepath": "x.keras", "safe_mode": False,
    }},
    "a download": lambda mark: {"head": {
        "_target_": "keras.utils.get_file", "fname": "x", "origin": "http://localhost/x",
    }},
    "a helper that imports from a folder": lambda mark: {"augment": {"x": reloading(mark)}},
    "a helper that imports": lambda mark: {"augment": {"x": {
        "_target_": "kerasft.exporters.tensors.require", "module": "evil", "extra": "x",
    }}},
    "a helper that writes": lambda mark: {"callbacks": {"x": {
        "_target_": "kerasft.training.checkpoint.write", "path": str(mark), "state": {
            "_target_": "kerasft.training.checkpoint.State", "position": {
                "_target_": "kerasft.training.checkpoint.Position", "stage": "", "began": 0,
                "epoch": 0, "step": 0,
            },
        },
    }}},
    "a helper that loads": lambda mark: {"task": {
        "_target_": "kerasft.tasks.shared.load", "saved": {"class": "evil.call"},
        "trusted": ["evil"],
    }},
    "a helper that unpacks": lambda mark: {"augment": {"x": {
        "_target_": "kerasft.data.images.archive.unpack", "path": "x.zip",
    }}},
    "a helper that makes folders": lambda mark: {"augment": {"x": {
        "_target_": "kerasft.exporters.deployment.write", "directory": str(mark),
        "_partial_": True,
    }}},
    "a helper that fetches": lambda mark: {"augment": {"x": {
        "_target_": "kerasft.model.hub.fetch", "_partial_": True,
    }}},
    "a helper that stores": lambda mark: {"augment": {"x": {
        "_target_": "kerasft.data.store.write", "_partial_": True,
    }}},
}  # fmt: skip


@pytest.mark.every(6)
@pytest.mark.parametrize("where", HIDDEN)
def test_a_config_calls_only_what_is_trusted(where, mark, tmp_path, kerasft_cli):
    folder = tmp_path / "configs" / "experiment"
    folder.mkdir(parents=True)
    hostile = OmegaConf.to_yaml(OmegaConf.create(HIDDEN[where](mark)))
    (folder / "hostile.yaml").write_text(f"# @package _global_\n{hostile}")
    for command in ("check", "train"):
        ended = kerasft_cli(
            command, "experiment=hostile", "--config-dir", str(folder.parent),
            *(["output_dir=run"] if command == "train" else []),
        )
        assert ended.code == 2, ended.out
        assert "error: " in ended.err
        words = ("refused", "unknown", "must", "leads nowhere", "may not hold", "interpolation")
        assert any(word in ended.err for word in words), ended.err
    assert not Path("run").exists()


@pytest.mark.parametrize("command", [
    "evaluate run", "predict run words", "export run", "train --from run", "resume run",
])  # fmt: skip
def test_the_config_of_a_run_calls_only_what_is_trusted(
    command, mark, tmp_path, tiny_text_run, kerasft_cli
):
    shutil.copytree(tiny_text_run, "run")
    cfg = OmegaConf.load("run/config.yaml")
    for group in ("data", "head", "task", "backbone", "optimizer", "cache", "checkpoint", "faults"):
        cfg[group] = call(mark)
    OmegaConf.save(cfg, "run/config.yaml")
    facts = json.loads(Path("run/run.json").read_text())
    Path("run/run.json").write_text(json.dumps(facts | {"status": "stopped"}))
    ended = kerasft_cli(*command.split())
    if command != "predict run words":  # which needs none of these
        assert ended.code == 2
        assert "_target_ is refused" in ended.err


def test_the_task_of_a_run_is_one_of_ours(mark, tiny_text_run, kerasft_cli):
    shutil.copytree(tiny_text_run, "run")
    for target in ("os.system", "evil.call", "kerasft.system.files.write_json"):
        Path("run/task.json").write_text(json.dumps(call(mark) | {"_target_": target}))
        assert kerasft_cli("predict", "run", "words").code == 2


def with_lambda(mark: Path, path: Path) -> Path:
    """Write a network with a layer whose code is in the file."""
    import keras

    code = f"lambda x: (__import__('pathlib').Path({str(mark)!r}).touch(), x)[1]"
    inputs = keras.Input((4,))
    outputs = keras.layers.Lambda(eval(code), output_shape=(4,))(inputs)
    keras.Model(inputs, outputs).save(path)
    mark.unlink(missing_ok=True)  # it ran while the network was made
    return path


def changed(path: Path, old: str, new: str) -> None:
    """Change the config inside a `.keras` file."""
    with zipfile.ZipFile(path) as pack:
        members = {name: pack.read(name) for name in pack.namelist()}
    assert old.encode() in members["config.json"]
    members["config.json"] = members["config.json"].replace(old.encode(), new.encode())
    with zipfile.ZipFile(path, "w") as pack:
        for name, content in members.items():
            pack.writestr(name, content)


def test_a_network_with_code_in_it_is_not_loaded(mark, tmp_path, tiny_text_run, kerasft_cli):
    network = with_lambda(mark, tmp_path / "network.keras")
    shutil.copytree(tiny_text_run, "run")
    shutil.copy(network, "run/checkpoints/best.keras")
    ended = kerasft_cli("predict", "run", "words")
    assert ended.code == 2
    assert "safe_mode=False" not in ended.err, "no advice to load it all the same"
    ended = kerasft_cli("train", "backbone=keras_file", f"backbone.path={network}")
    assert ended.code == 2
    assert "could not be loaded" in ended.err


@pytest.mark.parametrize(("old", "new"), [
    ('"class_name": "InputLayer"', '"class_name": "call"'),
    ('"module": "keras.layers"', '"module": "evil"'),
    ('"class_name": "Dense"', '"class_name": "call", "registered_name": "evil>call"'),
])  # fmt: skip
def test_a_network_of_foreign_classes_is_not_loaded(old, new, mark, tmp_path, kerasft_cli):
    import keras

    path = tmp_path / "network.keras"
    keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)]).save(path)
    changed(path, old, new)
    ended = kerasft_cli("train", "backbone=keras_file", f"backbone.path={path}")
    assert ended.code == 2
    assert "could not be loaded" in ended.err


class Hostile:
    """An object whose pickle makes a file when it is read."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_a_checkpoint_with_objects_in_it_is_damaged(mark, tmp_path):
    path = tmp_path / "step-00000001.npz"
    np.savez(path, head=np.array([Hostile(mark)], object), allow_pickle=True)
    with pytest.raises(Damaged):
        checkpoint.read(path)


def test_evidence_with_objects_in_it_is_damaged(mark, tiny_text_run, kerasft_cli):
    shutil.copytree(tiny_text_run, "run")
    with np.load("run/evidence.npz") as file:
        honest = dict(file)
    for name in honest:
        hostile = honest | {name: np.array([Hostile(mark)], object)}
        np.savez("run/evidence.npz", allow_pickle=True, **hostile)
        with pytest.raises(UserError, match="damaged"):
            evidence.read(RunFolder(Path("run")))
    ended = kerasft_cli("export", "run", "export=saved_model")
    assert ended.code == 2
    assert "evidence.npz' is damaged" in ended.err


@pytest.mark.slow
def test_a_kept_entry_with_objects_in_it_is_made_anew(mark, tmp_path, tiny_texts, kerasft_cli):
    overrides = [*tiny_texts, "epochs=1", "cache.directory=cache", "max_steps=1", "callbacks=none"]
    assert kerasft_cli("train", *overrides, "output_dir=one").code == 0
    (entry,) = Cache("cache").entries("texts")
    np.save(entry.path / "lengths.npy", np.array([Hostile(mark)], object), allow_pickle=True)
    (entry.path / "entry.json").unlink()
    close(entry.path, entry.about)  # whoever plants it can count its checksums, too
    assert kerasft_cli("train", *overrides, "output_dir=two").code == 0
    np.load(entry.path / "lengths.npy", allow_pickle=False)


def test_pickled_weights_are_not_read(mark, tmp_path, kerasft_cli):
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": "bert", "hidden_size": 8}))
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Hostile(mark)))
    ended = kerasft_cli("train", f"backbone.preset={folder}")
    assert ended.code == 2


@pytest.mark.parametrize("zipped", [False, True], ids=["plain", "zip"])
def test_a_file_of_pytorch_runs_nothing(zipped, mark, tmp_path, kerasft_cli):
    hostile = {"_conv_stem.weight": np.zeros(4, "f4"), "_bn0.weight": Hostile(mark)}
    file = torch_file(tmp_path / "lite0.pth", hostile, zipped=zipped)
    ended = kerasft_cli("train", "backbone=efficientnet_lite0", f"backbone.weights={file}")
    assert ended.code == 2
    assert "and may to tensors only" in ended.err


def test_a_preset_names_no_foreign_class(mark, tmp_path, kerasft_cli):
    for module, name in (("evil", "evil>call"), ("keras_hub", "evil>call"), ("evil.call", "call")):
        folder = tmp_path / f"preset {module}"
        folder.mkdir()
        config = {"module": module, "class_name": "call", "config": {}, "registered_name": name}
        (folder / "config.json").write_text(json.dumps(config))
        (folder / "metadata.json").write_text(json.dumps({"keras_hub_version": "0.32"}))
        ended = kerasft_cli("train", f"backbone.preset={folder}")
        assert ended.code == 2


@pytest.mark.slow
def test_what_is_printed_holds_no_terminal_codes(tmp_path, tiny_texts, kerasft_cli):
    assert printable("a\x1b]0;title\x07b\x9bc\r\td\ne\x00é") == (
        "a\\x1b]0;title\\x07b\\x9bc\\r\td\ne\\x00é"
    )
    assert "\x1b" not in table([["\x1b[2J"]], ["name"])
    rows = "".join(f"text {i},{'pos' if i % 2 else chr(27) + '[31mneg'}\n" for i in range(60))
    Path("own.csv").write_text("text,label\n" + rows)
    ended = kerasft_cli(
        "train", *tiny_texts, "data.path=own.csv", "epochs=1", "max_steps=1", "output_dir=run"
    )
    assert ended.code == 0
    assert "\\x1b[31mneg" in ended.out
    assert "\x1b" not in ended.out + ended.err
    ended = kerasft_cli("predict", "\x1b[2Jrun", "words")
    assert "\x1b" not in ended.err
    assert "\\x1b[2Jrun" in ended.err
