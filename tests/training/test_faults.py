"""What goes wrong while a run trains is named, and answered as the config says."""

from __future__ import annotations

import csv
import json
import math
import re
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from omegaconf import OmegaConf

import kerasft
from kerasft.data.store import Store
from kerasft.data.tables import readers
from kerasft.errors import UserError
from kerasft.training import faults
from kerasft.training.checkpoint import Position, State
from kerasft.training.faults import Fault, Policy, Watch
from kerasft.training.recorder import Recorder
from kerasft.training.watchdog import Watchdog

# A rate at which plain gradient descent soon has no numbers any more.
DIVERGING = (
    "optimizer._target_=keras.optimizers.SGD", "~optimizer.weight_decay",
    "~optimizer.global_clipnorm", "optimizer.learning_rate=1e4", "schedule=constant",
    "batch_size=5", "epochs=3",
)  # fmt: skip


@pytest.fixture
def prices(tiny_texts, tmp_path) -> tuple[str, ...]:
    """Overrides of a run on 120 texts with a number each, one of which has lost its comma."""
    rows = [(f"number {i} is {'good' if i % 2 else 'bad'}", i % 2 + i / 1000) for i in range(120)]
    rows[77] = ("the odd one", 1e9)
    with open(tmp_path / "prices.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("text", "label"), *rows])
    rest = [o for o in tiny_texts if not o.startswith(("data.path", "epochs"))]
    return (*rest, "data.path=prices.csv", "task=regression", "epochs=3", "callbacks=none")


def faults_of(run: str) -> list[dict]:
    return [json.loads(line) for line in Path(run, "logs", "faults.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_a_batch_that_blows_up_is_left_out(prices, capsys):
    result = kerasft.train([*prices, "faults=skip", "output_dir=run"])
    found = faults_of("run")
    # The first epoch has too few steps to know what is usual.
    assert [row["epoch"] for row in found] == [2, 3]
    assert all("prices.csv:79" in row["examples"] and len(row["examples"]) == 8 for row in found)
    assert [row["epoch"] for row in result.history.rows] == [1, 2, 3]
    assert result.history.rows[0]["loss"] > 0.5 > 10 * result.history.rows[2]["loss"]
    said = capsys.readouterr().out
    assert re.search(
        r"warning: The training loss blew up to [\d.]+ at step \d+ of epoch 2\. Its batch holds "
        r"[^;]+ and 5 more; faults\.jsonl names all of them\. It is left out; going on after 1 "
        r"epoch and 0 steps", said,
    )  # fmt: skip


@pytest.mark.slow
def test_without_a_policy_for_it_a_finite_loss_ends_no_run(prices):
    kerasft.train([*prices, "epochs=2", "output_dir=run"])
    assert not Path("run/logs/faults.jsonl").exists()


@pytest.mark.slow
def test_a_loss_that_blows_up_ends_a_run_where_that_is_asked_for(prices, kerasft_cli):
    ended = kerasft_cli("train", *prices, "faults=stop", "+faults.blow_up=20", "output_dir=run")
    assert ended.code == 2
    (found,) = faults_of("run")
    assert (found["epoch"], found["action"]) == (2, "stop")
    assert "prices.csv:79" in found["examples"]
    assert (
        f"error: The training loss blew up to {float(found['loss']):.4g} at step {found['step']} "
        "of epoch 2. Its batch holds " in ended.err
    )


def test_a_loss_that_is_no_number_ends_a_run_and_its_examples_are_named(
    tiny_images, kerasft_cli
):
    ended = kerasft_cli("train", *tiny_images, *DIVERGING, "output_dir=run")
    assert ended.code == 2
    (found,) = faults_of("run")
    assert found["loss"] in ("nan", "inf")
    assert len(found["examples"]) == 5
    assert (
        f"error: The training loss became {found['loss']} at step {found['step']} of epoch 1. Its "
        f"batch holds {', '.join(found['examples'][:3])} and 2 more; faults.jsonl names all of "
        "them. Lower optimizer.learning_rate" in ended.err
    )


@pytest.mark.slow
def test_a_rollback_lowers_the_rate_until_it_works(tiny_images):
    overrides = [*tiny_images, *DIVERGING, "faults=rollback", "faults.lower=1e-3"]
    result = kerasft.train([*overrides, "output_dir=run"])
    assert 1 <= len(faults_of("run")) <= 3
    assert all(math.isfinite(row["loss"]) for row in result.history.rows)
    rates = [row["learning_rate"] for row in result.history.rows]
    np.testing.assert_allclose(rates, 1e4 * 1e-3 ** len(faults_of("run")), rtol=1e-5)


@pytest.mark.slow
def test_a_run_has_so_many_faults_and_no_more(tiny_images):
    overrides = [*tiny_images, *DIVERGING, "faults=rollback", "faults.lower=0.99"]
    with pytest.raises(UserError, match=r"one fault more than faults\.limit=2 allows"):
        kerasft.train([*overrides, "faults.limit=2", "output_dir=run"])
    assert len(faults_of("run")) == 3


@pytest.mark.slow
def test_of_steps_that_run_together_the_one_at_fault_is_found(tiny_images):
    overrides = [
        *tiny_images, *DIVERGING, "optimizer.learning_rate=1e38", "cache.activations=always",
        "finetune=linear_probe", "cache.directory=cache", "batch_size=3", "faults.limit=1",
    ]  # fmt: skip
    with pytest.raises(UserError) as plain:
        kerasft.train([*overrides, "output_dir=plain"])
    (together,) = faults_of("plain")
    assert len(together["examples"]) == 30, "ten steps ran at once"
    assert "and 27 more" in str(plain.value)
    with pytest.raises(UserError, match=r"one fault more than faults\.limit=1 allows"):
        kerasft.train([*overrides, "faults=skip", "output_dir=run"])
    found = faults_of("run")
    assert [len(row["examples"]) for row in found] == [3, 3]
    assert found[0]["step"] < together["step"]


def noted(step: int, watch: Watch, kernel: float = 1.0) -> State:
    return State(
        Position("full", 0, 0, step), {"callbacks": {"watch": watch.get_state()}, "stopped": []},
        {"model/0/kernel": np.array([kernel], "float32")},
    )  # fmt: skip


def a_watch(action: str, **more) -> Watch:
    watch = Watch(Policy(action=action, every=10, **more), "abcdefgh", None, lambda line: None)
    order = SimpleNamespace(batch=lambda number: (0, [number % 8]))
    watch.begin(SimpleNamespace(order=order), lambda epoch, step: 100 * epoch + step, 1)
    return watch


def test_a_fault_at_the_same_place_goes_further_back():
    watch = a_watch("rollback")
    for step in (0, 10, 20):
        assert watch.wants(step)
        watch.note(noted(step, watch))
    assert not watch.wants(15)
    watch.note(noted(30, watch, math.nan))  # no state to go back to
    assert watch.lasting().position.step == 10
    assert watch.answer(Fault(math.nan, 0, 31, 31)).position.step == 20
    back = watch.answer(Fault(math.nan, 0, 31, 31))
    assert back.position.step == 10
    assert back.plain["callbacks"]["watch"]["rate"] == 0.25
    watch.note(noted(20, watch))
    assert watch.answer(Fault(math.nan, 0, 40, 40)).position.step == 20, "it came further"


def test_what_is_left_out_is_part_of_the_state():
    watch, again = a_watch("skip"), a_watch("skip")
    watch.note(noted(0, watch))
    back = watch.answer(Fault(math.inf, 2, 7, 7))
    again.set_state(json.loads(json.dumps(back.plain["callbacks"]["watch"])))
    assert (again.skipped, again.count, again.rate) == ({207}, 1, 1.0)
    assert again.get_state() == watch.get_state()


def test_what_is_usual_needs_some_steps_and_the_first_ones_count():
    watch = a_watch("skip", blow_up=10)
    watch.losses = [1.0] * (faults.FEW - 1)
    assert watch._usual() == math.inf
    watch.losses = [1.0] * faults.FEW + [0.001] * faults.RECENT
    assert watch._usual() == 1.0, "one hard example in an easy run is no fault"
    watch.losses = [1.0] * faults.FEW + [3.0] * faults.RECENT
    assert watch._usual() == 3.0


def test_a_stage_does_not_know_what_was_usual_in_the_one_before():
    watch = a_watch("rollback", blow_up=10)
    watch.note(noted(0, watch))
    watch.losses, watch.carefully, watch.rate = [1.0] * 60, True, 0.5
    watch.end()
    assert (watch.notes, watch.losses, watch.carefully, watch.rate) == ([], [], False, 0.5)
    assert watch.lasting() is None


@pytest.mark.parametrize("wrong", [
    {"action": "jump"}, {"memory": "none"}, {"limit": 0}, {"every": 0}, {"lower": 1.0},
    {"blow_up": 1}, {"blow_up": math.nan}, {"stall_minutes": 0},
])  # fmt: skip
def test_values_out_of_range_are_refused(wrong):
    (name,) = wrong
    with pytest.raises(UserError, match=rf"faults\.{name} .*Received: .*{name}="):
        Policy(**wrong)


ROOM_FOR_FOUR = '''
import keras
import numpy as np
import tensorflow as tf


@keras.saving.register_keras_serializable("cramped")
class Cramped(keras.layers.Layer):
    """A layer that finds memory for four examples."""

    def call(self, inputs):
        def take(values):
            if len(values) > 4:
                raise MemoryError(f"no room for {len(values)} examples")
            return values
        taken = tf.numpy_function(take, [inputs], inputs.dtype)
        return inputs + 0 * tf.reduce_sum(tf.ensure_shape(tf.stop_gradient(taken), inputs.shape))


def head(features, *, units):
    features = features.sequence[:, 0]
    return keras.layers.Dense(units)(Cramped()(features))
'''


@pytest.fixture
def cramped(tiny_texts, tmp_path, monkeypatch) -> list[str]:
    (tmp_path / "cramped.py").write_text(ROOM_FOR_FOUR)
    monkeypatch.syspath_prepend(str(tmp_path))
    return [
        *tiny_texts, "~head", "+head._target_=cramped.head", "batch_size=8", "eval_batch_size=4",
        "epochs=1", "callbacks=none",
    ]  # fmt: skip


@pytest.mark.slow
def test_too_little_memory_is_named_with_what_would_fit(cramped, kerasft_cli):
    ended = kerasft_cli("train", *cramped, "--trust", "cramped", "output_dir=run")
    assert ended.code == 2
    assert "error: Out of memory with batch_size=8 (" in ended.err
    assert "no room for 8 examples" in ended.err
    assert "What takes less: batch_size=4 optimizer.gradient_accumulation_steps=2" in ended.err


@pytest.mark.slow
def test_a_batch_is_halved_and_accumulated_where_that_is_asked_for(cramped, capsys):
    result = kerasft.train(
        [*cramped, "faults.memory=halve", "output_dir=run"], trusted=["cramped"]
    )  # fmt: skip
    said = capsys.readouterr()
    settings = "batch_size=4 optimizer.gradient_accumulation_steps=2"
    assert f"The run restarts with {settings}" in said.err
    cfg = OmegaConf.load("run/config.yaml")
    assert (cfg.batch_size, cfg.optimizer.gradient_accumulation_steps) == (4, 2)
    facts = json.loads(Path("run/run.json").read_text())
    assert facts["status"] == "done"
    # It is the run that this config gives.
    again = kerasft.train([
        *cramped, "batch_size=4", "eval_batch_size=2", "faults.memory=halve",
        "+optimizer.gradient_accumulation_steps=2", "output_dir=other",
    ], trusted=["cramped"])  # fmt: skip
    for one, other in zip(
        result.finetuned.model.get_weights(), again.finetuned.model.get_weights(), strict=True
    ):
        np.testing.assert_array_equal(one, other)


LIMITED = '''
import re
import resource
import sys

import keras_hub  # with the libraries of its own that it loads
import tensorflow

import kerasft.run
from kerasft.cli import main

held = int(re.search(r"VmSize:\\s+(\\d+) kB", open("/proc/self/status").read())[1]) * 1024
resource.setrlimit(resource.RLIMIT_AS, (held + 4_000_000_000,) * 2)
sys.exit(main(sys.argv[1:]))
'''
WIDE = '''
import keras


def head(features, *, units):
    """A head that takes 10^9 bytes for each example."""
    rows = keras.ops.repeat(features.sequence[:, :1], 8_000_000, axis=1)
    return keras.layers.Dense(units)(keras.ops.mean(rows, axis=1))
'''


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the limit is one of Linux")
@pytest.mark.timeout(600)
def test_memory_that_the_system_refuses_is_named(tiny_texts, tmp_path):
    (tmp_path / "limited.py").write_text(LIMITED)
    (tmp_path / "wide.py").write_text(WIDE)
    ended = subprocess.run(
        [sys.executable, "limited.py", "train", *tiny_texts, "~head", "+head._target_=wide.head",
         "epochs=1", "callbacks=none", "--trust", "wide", "output_dir=run"],
        capture_output=True, text=True,
    )  # fmt: skip
    assert ended.returncode == 2, ended.stderr[-2000:]
    # TensorFlow says what it wanted to allocate; Python, where it fails first, does not.
    told = r"error: Out of memory with batch_size=8( \(OOM when alloc.*\))?\. What takes less"
    assert re.search(told, ended.stderr), ended.stderr[-1500:]
    assert "What takes less: batch_size=4 optimizer.gradient_accumulation_steps=2" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.slow
def test_a_stalled_input_pipeline_is_told_with_where_it_stands(tiny_texts, monkeypatch, capsys):
    plain, slept = Store.gather, []

    def gather(store, indices, view=0):
        if np.max(view) == 5 and not slept:  # the first batch of the sixth epoch
            slept.append(view)
            time.sleep(2.0)
        return plain(store, indices, view)

    monkeypatch.setattr(Store, "gather", gather)
    kerasft.train([
        *tiny_texts, "epochs=6", "eval_batch_size=30", "callbacks=none",
        "faults.stall_minutes=0.01", "output_dir=run",
    ])  # fmt: skip
    said = capsys.readouterr().out
    assert re.search(
        r"warning: nothing has moved for \d s: the run stands in step \d+ of epoch \d; the input "
        r"pipeline is reading the examples texts\.csv:\d+, texts\.csv:\d+, texts\.csv:\d+ and 5 "
        r"more\. Look at the disk that holds cache\.directory\. What each thread is doing: "
        r"'run/logs/stalled.txt'\.", said,
    )  # fmt: skip
    stacks = Path("run/logs/stalled.txt").read_text()
    assert "in gather" in stacks
    assert "in step" in stacks.splitlines()[0] or "before" in stacks.splitlines()[0]
    assert not [t for t in threading.enumerate() if t.name == "kerasft-watchdog"]


@pytest.mark.slow
def test_a_disk_that_does_not_answer_before_training_is_told_with_what_is_read(
    tiny_texts, texts_csv, monkeypatch, capsys
):
    plain = readers.decode

    def decode(path, *more):
        time.sleep(2.0)
        return plain(path, *more)

    monkeypatch.setattr(readers, "decode", decode)
    overrides = [*tiny_texts, "faults.stall_minutes=0.005", "batch_size=100"]
    with pytest.raises(UserError, match="batch_size must not be larger"):
        kerasft.train([*overrides, "output_dir=run"])
    said = capsys.readouterr().out
    assert re.search(
        r"warning: nothing has moved for \d s: the run stands before training, where data and "
        rf"network are read and made ready; what it began to read last is '{texts_csv}'\. Look at "
        r"the disk that holds it\. What each thread is doing: 'run/logs/stalled.txt'\.", said,
    )  # fmt: skip
    assert "in decode" in Path("run/logs/stalled.txt").read_text()
    assert not [t for t in threading.enumerate() if t.name == "kerasft-watchdog"]


def test_a_watchdog_is_quiet_while_steps_end(tmp_path):
    said: list[str] = []
    dog = Watchdog(0.01, lambda: "", tmp_path, said.append)
    with dog.watching():
        dog.on_epoch_begin(0)
        for step in range(12):
            dog.on_train_batch_begin(step)
            time.sleep(0.1)
    assert not said


class Meanwhile:
    """Does something when a run has come so many executions far."""

    def __init__(self, monkeypatch, act, at: int = 4):
        self.count = 0
        plain = Recorder._at

        def counted(recorder, position):
            self.count += 1
            if self.count == at:
                act()
            plain(recorder, position)

        monkeypatch.setattr(Recorder, "_at", counted)


def weights_and_log(result) -> tuple:
    rows = [{k: v for k, v in row.items() if k != "seconds"} for row in result.history.rows]
    return [w.tobytes() for w in result.finetuned.model.get_weights()], rows, result.metrics


@pytest.mark.slow
def test_images_that_vanish_or_change_under_a_run_change_nothing(
    tmp_path, monkeypatch, tiny_images
):
    from kerasft.testing import tiny_splits

    folder = tmp_path / "images"
    splits = tiny_splits("images", size=16)
    for part in (splits.train, splits.validation):
        for name, image, label in zip(part.ids, part.inputs, part.labels, strict=True):
            place = folder / splits.labels.names[int(label)]
            place.mkdir(parents=True, exist_ok=True)
            (place / f"{Path(name).name}.png").write_bytes(image)
    overrides = [
        *[o for o in tiny_images if not o.startswith("data.")], "data=image_folder",
        "data.path=images", "batch_size=5", "cache=temporary",
    ]  # fmt: skip
    wanted = weights_and_log(kerasft.train([*overrides, "output_dir=whole"]))

    def harm():
        for number, path in enumerate(sorted(folder.rglob("*.png"))):
            if number % 2:
                path.unlink()
            else:
                path.write_bytes(b"no image")

    meanwhile = Meanwhile(monkeypatch, harm)
    assert weights_and_log(kerasft.train([*overrides, "output_dir=run"])) == wanted
    assert meanwhile.count > 4


@pytest.mark.slow
def test_a_clock_that_jumps_changes_nothing(tiny_texts, monkeypatch):
    overrides = [*tiny_texts, "checkpoint.steps=2", "callbacks=none"]
    wanted = weights_and_log(kerasft.train([*overrides, "output_dir=whole"]))
    real, jump = time.time, [0.0]
    monkeypatch.setattr(time, "time", lambda: real() + jump[0])
    Meanwhile(monkeypatch, lambda: jump.__setitem__(0, -1e8), at=3)
    Meanwhile(monkeypatch, lambda: jump.__setitem__(0, 1e8), at=6)
    assert weights_and_log(kerasft.train([*overrides, "output_dir=run"])) == wanted
    assert jump == [1e8]
