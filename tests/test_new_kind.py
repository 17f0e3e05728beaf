"""A task of a new kind, all in this file: how many pixels of each quarter of an image are dark.

Its labels are no class and no number, its network puts out several tensors of unlike widths, and
what it keeps of an example has a length of its own. Nothing in kerasft knows of it.
"""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from interruption import require_equal, stopped

import kerasft
from kerasft.artifact.comparison import Output
from kerasft.errors import UserError
from kerasft.model.vision import geometry
from kerasft.rows import Column, Rows
from kerasft.spec import Decision, Examples, Labels, Splits
from kerasft.tasks import shared

HERE = Path(__file__)
QUARTERS = ("upper left", "upper right", "lower left", "lower right")
SIZE = 8


@dataclass(frozen=True)
class CountDark:
    """Count the dark pixels of each quarter, and of the whole."""

    monitor: str = "val_mae"

    kind: ClassVar[str] = "dark pixels"
    mode: ClassVar[str] = "min"
    follows_pixels: ClassVar[bool] = False
    headlines: ClassVar[tuple[str, ...]] = ("mae", "darkest_found")
    each_epoch: ClassVar[tuple[str, ...]] = ("val_darkest_found",)

    def head(self, labels: Labels) -> dict[str, Any]:
        return {"widths": {"quarters": len(labels.names), "whole": 1}}

    def adapt(self, annotations: Rows) -> CountDark:
        return self

    def targets(self, annotations: Rows, labels: Labels, *, training: bool = False) -> Rows:
        shares = annotations["dark"].astype("float32") / (SIZE * SIZE / 4)
        return Rows.of({"quarters": shares, "whole": shares.mean(axis=1, keepdims=True)})

    def batch(self, inputs: Any, targets: Mapping[str, Any], labels: Labels) -> tuple[Any, Any]:
        return {name: targets[name] for name in ("quarters", "whole")}, None

    def compile(self) -> dict[str, Any]:
        return {"loss": {"quarters": "mse", "whole": "mse"}}

    def keep(self, outputs: Any, inputs: Any, targets: Mapping[str, Any]) -> dict[str, Any]:
        import tensorflow as tf

        quarters = tf.cast(outputs["quarters"], tf.float32)
        above = quarters >= tf.reduce_mean(quarters, axis=1, keepdims=True)
        places = tf.where(above)[:, 1]
        counts = tf.reduce_sum(tf.cast(above, tf.int64), axis=1)
        return {
            "quarters": quarters,
            "dark_ones": tf.RaggedTensor.from_row_lengths(tf.cast(places, tf.int32), counts),
        }

    def answers(
        self, outputs: Any, labels: Labels, decision: Decision | None = None
    ) -> dict[str, Any]:
        import tensorflow as tf

        quarters = tf.cast(outputs["quarters"], tf.float32) * (SIZE * SIZE / 4)
        place, half = tf.argmax(quarters, axis=1), SIZE / 2
        corners = [[x * half, y * half, x * half + half, y * half + half]
                   for y in (0, 1) for x in (0, 1)]  # fmt: skip
        return {
            "darkest": tf.gather(tf.constant(labels.names), place),
            "box": tf.gather(tf.constant(corners), place),
            "pixels": quarters,
            "share": tf.cast(outputs["whole"], tf.float32)[:, 0],
        }

    def in_image(self, answers: Mapping[str, Any], frames: Any, labels: Labels) -> dict[str, Any]:
        boxes = geometry.to_image(answers["box"][:, None], frames)
        return {**answers, "box": boxes[:, 0]}

    def outputs(self, labels: Labels, decision: Decision | None = None) -> dict[str, Output]:
        decided = Output("decided", by="pixels", largest=True)
        return {"darkest": decided, "box": decided, "pixels": Output(each=True)}

    def statistics(
        self, annotations: Rows, kept: Rows, labels: Labels, decision: Decision | None = None
    ) -> dict[str, np.ndarray]:
        true, found = annotations["dark"], kept["quarters"] * (SIZE * SIZE / 4)
        # What is ragged counts, too: the darkest quarter must be among those above the mean.
        among = [true[i].argmax() in kept.row(i)["dark_ones"] for i in range(len(kept))]
        return {
            "error": np.abs(true - found).mean(axis=1), "among": np.array(among),
            "found": true.argmax(axis=1) == found.argmax(axis=1),
        }  # fmt: skip

    def figures(self, statistics: Mapping[str, np.ndarray], labels: Labels) -> dict[str, Any]:
        return {
            "mae": float(statistics["error"].mean()),
            "darkest_found": float(statistics["found"].mean()),
            "darkest_among": float(statistics["among"].mean()),
        }

    def draw(
        self, statistics: Mapping[str, np.ndarray], labels: Labels, directory: Path, *, split: str
    ) -> list[Path]:
        return []

    def to_dict(self) -> dict[str, Any]:
        return shared.to_dict(self)


@dataclass(frozen=True)
class HalfATask:
    """Something that is none."""

    kind: str = "dark pixels"


def head(features: Any, *, widths: Mapping[str, int]) -> dict[str, Any]:
    """Put out a tensor for each name."""
    import keras

    pooled = keras.layers.Flatten(name="head_flat")(features.sequence)
    return {name: keras.layers.Dense(units, name=f"head_{name}")(pooled)
            for name, units in widths.items()}  # fmt: skip


def images(*, kind: str, seed: int, count: int = 40, slices: Sequence[str] = ()) -> Splits:
    """Draw noise of which each quarter has a brightness of its own; each other image is `odd`."""
    from PIL import Image

    random = np.random.default_rng(seed)

    def part(name: str, length: int) -> Examples:
        inputs, dark, places = [], [], []
        for _ in range(length):
            light = np.kron(random.uniform(0.1, 0.9, (2, 2)), np.ones((SIZE // 2, SIZE // 2)))
            black = random.random((SIZE, SIZE)) > light
            file = io.BytesIO()
            # Twice as large as the network sees it.
            grey = np.kron(np.where(black, 20, 235), np.ones((2, 2))).astype("uint8")
            Image.fromarray(np.repeat(grey[..., None], 3, -1)).save(file, "PNG")
            inputs.append(file.getvalue())
            dark.append(black.reshape(2, SIZE // 2, 2, SIZE // 2).sum(axis=(1, 3)).ravel())
            places.append(np.argwhere(black).astype("int32"))
        rows = Rows.of({
            "dark": np.array(dark, "int64"),
            "places": Column.ragged(places, group="pixels", dtype="int32", shape=(2,)),
        })  # fmt: skip
        sliced = Rows.of({"place": np.arange(length) % 2}) if "place" in slices else None
        ids = tuple(f"{name} {i}" for i in range(length))
        return Examples("images", inputs, rows, ids, sliced)

    return Splits(
        part("train", count), part("validation", count // 2), part("test", count // 2),
        Labels(kind, QUARTERS), {"source": "noise", "seed": seed, "count": count},
        slices={"place": ("even", "odd")} if "place" in slices else {},
    )


# --- from here on it is used as any part of one's own is


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    monkeypatch.syspath_prepend(str(HERE.parent))
    before = os.environ.get("PYTHONPATH")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, (str(HERE.parent), before))))
    yield
    sys.modules.pop(HERE.stem, None)


TRUSTED = [HERE.stem]
WORDS = (
    "~data", f"+data._target_={HERE.stem}.images", "~head", f"+head._target_={HERE.stem}.head",
    "~task", f"+task._target_={HERE.stem}.CountDark", "backbone=tiny_resnet",
    f"backbone.image_size={SIZE}", "batch_size=8", "epochs=3", "baseline=null", "progress=false",
    "callbacks=none",
)  # fmt: skip
# Kept activations of three augmented views; brightness moves no dark pixel to another quarter.
KEPT = (
    "finetune=linear_probe", "cache.activations=always", "cache.views=3", "augment=none",
    "+augment.light._target_=keras.layers.RandomBrightness", "+augment.light.factor=0.05",
    "optimizer.learning_rate=0.01",
)  # fmt: skip


def box_of(quarter: str, side: int) -> list[float]:
    """Return where a quarter is in an image whose quarters have sides of so many pixels."""
    y, x = divmod(QUARTERS.index(quarter), 2)
    return [x * side, y * side, x * side + side, y * side + side]


def outcome(run: Path) -> tuple[list, dict]:
    log = (run / "logs" / "epochs.jsonl").read_text("utf-8").splitlines()
    rows = [{k: v for k, v in json.loads(line).items() if k != "seconds"} for line in log]
    return rows, json.loads((run / "metrics.json").read_text("utf-8"))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a run of the new task, augmented, from kept activations."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(HERE.parent))
        folder = tmp_path_factory.mktemp("kind") / "run"
        kerasft.train([*WORDS, *KEPT, f"output_dir={folder}"], trusted=TRUSTED)
        sys.modules.pop(HERE.stem, None)
        yield folder


def test_it_trains_and_what_it_came_to_is_written(run, capsys):
    rows, metrics = outcome(run)
    assert len(rows) == 3 and {"val_mae", "val_loss", "val_darkest_found"} <= set(rows[0])
    assert rows[-1]["val_loss"] < rows[0]["val_loss"]
    assert set(metrics["test"]) == {"mae", "darkest_found", "darkest_among"}
    lines = (run / "predictions" / "test.jsonl").read_text("utf-8").splitlines()
    records = [json.loads(line) for line in lines]
    assert len(records) == 20 and records[0]["id"] == "test 0"
    assert set(records[0]["true"]) == {"dark", "places"}
    assert len(records[0]["true"]["places"]) == sum(records[0]["true"]["dark"])
    predicted = records[0]["predicted"]
    assert set(predicted["pixels"]) == set(QUARTERS)
    assert predicted["darkest"] == max(QUARTERS, key=predicted["pixels"].__getitem__)
    assert predicted["box"] == box_of(predicted["darkest"], SIZE)
    # Structured truths have no flat table.
    assert not (run / "predictions" / "test.csv").exists()
    assert kerasft.evaluate(str(run), trusted=TRUSTED) == metrics


def test_it_is_measured_by_slices(run, capsys):
    found = kerasft.evaluate(str(run), split="train", slices=["place"], trusted=TRUSTED)["train"]
    (worst, one), (_, other) = found["slices"]["place"].items()
    assert {worst} < {"even", "odd"} and one["mae"] > found["mae"] > other["mae"]
    assert (one["mae"] + other["mae"]) / 2 == pytest.approx(found["mae"])
    low, high = one["interval"]["mae"]
    assert low < one["mae"] < high
    assert "train by place, the worst mae first:" in capsys.readouterr().out
    with pytest.raises(UserError, match=r"reads no columns.*Received: clinic"):
        kerasft.evaluate(str(run), slices=["clinic"], trusted=TRUSTED)


@pytest.mark.slow
def test_what_was_kept_is_what_the_network_computes(tmp_path):
    words = [*WORDS, *KEPT, "cache.views=1", "~augment.light"]
    for name, kept in (("kept", "always"), ("whole", "never")):
        kerasft.train([*words, f"cache.activations={kept}", f"output_dir={name}"], trusted=TRUSTED)
    (one, figures), (other, same) = outcome(Path("kept")), outcome(Path("whole"))
    for row, again in zip(one, other, strict=True):
        assert row["val_loss"] == pytest.approx(again["val_loss"], rel=1e-3)
    assert figures["test"] == pytest.approx(same["test"], rel=1e-3)


@pytest.mark.slow
def test_a_run_that_is_stopped_ends_as_one_that_was_not(run, monkeypatch, tmp_path):
    words = [*WORDS, *KEPT, "checkpoint.steps=2", "output_dir=again"]
    stopped(words, monkeypatch, 1, trusted=TRUSTED)
    kerasft.resume("again", trusted=TRUSTED)
    assert outcome(Path("again")) == outcome(run)
    require_equal(Path("again"), run, trusted=TRUSTED)


KILLED = """
import os, signal, sys
from kerasft.cli import main
from kerasft.training.recorder import Recorder

plain, count = Recorder._at, iter(range(100))

def at(recorder, position):
    if next(count) == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    plain(recorder, position)

Recorder._at = at
sys.exit(main(["train", *sys.argv[1:]]))
"""


@pytest.mark.slow
def test_a_process_that_is_killed_loses_nothing(run, tmp_path, capsys):
    words = [*WORDS, *KEPT, "checkpoint.steps=1", "output_dir=killed", "--trust", *TRUSTED]
    shared = HERE.parent / "shared"  # which this file imports from
    ended = subprocess.run(
        [sys.executable, "-c", KILLED, *words], capture_output=True, check=False,
        env={**os.environ, "PYTHONPATH": f"{os.environ['PYTHONPATH']}{os.pathsep}{shared}"},
    )  # fmt: skip
    assert ended.returncode == -signal.SIGKILL, ended.stderr.decode()
    assert not (tmp_path / "killed" / "metrics.json").exists()
    capsys.readouterr()
    kerasft.resume("killed", trusted=TRUSTED)
    assert "going on after" in capsys.readouterr().out
    assert outcome(Path("killed")) == outcome(run)
    require_equal(Path("killed"), run, trusted=TRUSTED)


def test_runs_are_compared_with_intervals_without_predicting_again(run, tmp_path, monkeypatch):
    for name in ("a", "b"):
        shutil.copytree(run, tmp_path / "runs" / name)
    config = tmp_path / "runs" / "b" / "config.yaml"
    config.write_text(config.read_text("utf-8").replace("learning_rate: 0.01", "learning_rate: 1"))
    from kerasft.runs import finetuned

    monkeypatch.setattr(finetuned, "load", None)
    rows = kerasft.leaderboard("runs", metric="mae", trusted=TRUSTED)
    assert len(rows) == 2
    low, high = rows[0]["interval"]
    assert low < rows[0]["validation"] < high
    assert [row["setting"]["p"] for row in rows] == [1.0, 1.0]


@pytest.fixture(scope="module")
def exported(run, tmp_path_factory):
    """A copy of the run with its export, and what the command said."""
    folder = tmp_path_factory.mktemp("exported") / "run"
    shutil.copytree(run, folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(HERE.parent))
        kerasft.export(str(folder), trusted=TRUSTED)
        sys.modules.pop(HERE.stem, None)
    return folder


@pytest.mark.slow
def test_it_is_exported_proved_and_verified(exported, kerasft_cli):
    export = exported / "exports" / "saved_model"
    extra = export / "1" / "assets.extra"
    parity = json.loads((extra / "parity.json").read_text("utf-8"))
    assert parity["passed"] and set(parity["signatures"]) == {"serving_default", "tensors"}
    assert parity["run"]["largest_difference"] < 1e-4
    signature = json.loads((extra / "signature.json").read_text("utf-8"))
    assert signature["compare"] == {
        "box": {"rule": "decided", "by": "pixels", "largest": True},
        "darkest": {"rule": "decided", "by": "pixels", "largest": True},
        "pixels": {"rule": "close", "each": True},
    }
    assert signature["positions"] == {"serving_default": "image", "tensors": "network"}
    drawn_on = images(kind="dark pixels", seed=7).test.inputs[:3]
    here = kerasft.predict(str(exported), drawn_on, trusted=TRUSTED)
    there = kerasft.predict(str(export), drawn_on)
    for one, other in zip(here, there, strict=True):
        assert one["darkest"] == other["darkest"]
        # In the pixels of the image that was sent, whatever the network's are.
        assert one["box"] == other["box"] == box_of(one["darkest"], SIZE)
        assert one["pixels"] == pytest.approx(other["pixels"], rel=1e-3, abs=1e-3)
    verified = kerasft_cli("verify", str(export))
    assert verified.code == 0, verified.out + verified.err


@pytest.mark.slow
@pytest.mark.enable_socket
def test_its_export_is_served(exported):
    pytest.importorskip("aiohttp")
    target = exported / "exports" / "saved_model"
    golden = json.loads((target / "1" / "assets.extra" / "golden.json").read_text("utf-8"))
    process = subprocess.Popen(
        [sys.executable, "-m", "kerasft", "serve", str(target), "--rest-port", "0",
         "--grpc-port", "0"],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    try:
        told = ""
        for line in process.stdout:
            told += line
            if line.startswith("ready"):
                break
        address = re.search(r"(http://\S+):predict", told)[1]
        for request in golden["requests"]:
            body = json.dumps(request).encode()
            asked = urllib.request.Request(f"{address}:predict", body)
            with urllib.request.urlopen(asked, timeout=60) as answer:
                found = json.load(answer)["outputs"]
            assert set(found) == {"darkest", "box", "pixels", "share"}
            side = SIZE / 2 if request["signature_name"] == "tensors" else SIZE
            assert found["box"][0] == box_of(found["darkest"][0], side)
            assert np.allclose(found["pixels"], request["outputs"]["pixels"], atol=1e-3)
            assert found["darkest"] == request["outputs"]["darkest"]
    finally:
        process.kill()
        process.communicate()


def test_a_task_that_is_none_is_told(kerasft_cli):
    words = [word.replace("CountDark", "HalfATask") for word in WORDS]
    ended = kerasft_cli("train", *words, "--trust", HERE.stem)
    assert ended.code == 2
    assert f"task: {HERE.stem}.HalfATask is no task: it lacks monitor, mode, " in ended.err
