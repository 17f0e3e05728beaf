"""A run that is stopped anywhere and resumed ends as one that is not, to the last bit."""

from __future__ import annotations

import csv
import gc
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
from omegaconf import OmegaConf

import kerasft
from kerasft.data import kept_splits, preprocessing
from kerasft.errors import Stopped, UserError
from kerasft.runs import repetition
from kerasft.runs.finetuned import FineTuned
from kerasft.system import tf_data
from kerasft.training import checkpoint
from kerasft.training.checkpoint import Position
from kerasft.training.recorder import Recorder
from kerasft.training.replay import differences

AUGMENT = (
    "+augment.flip._target_=keras.layers.RandomFlip", "+augment.flip.mode=horizontal",
    "+augment.mix._target_=keras.layers.MixUp",
)  # fmt: skip
# Keras' own scale of the loss would grow after 2,000 steps.
SCALED = '''
import keras


def adam(*, learning_rate):
    inner = keras.optimizers.Adam(learning_rate)
    return keras.optimizers.LossScaleOptimizer(inner, dynamic_growth_steps=4)
'''
ACCUMULATED = (
    "precision=mixed_bfloat16", "optimizer.gradient_accumulation_steps=3",
    "+optimizer.use_ema=true", "+optimizer.ema_momentum=0.9",
)  # fmt: skip
# A policy for losses that blow up, on images at a rate at which they soon do.
ROLLED_BACK = (
    "optimizer._target_=keras.optimizers.SGD", "~optimizer.weight_decay",
    "~optimizer.global_clipnorm", "optimizer.learning_rate=1e4", "schedule=constant",
    "batch_size=5", "epochs=3", "faults=rollback", "faults.lower=1e-2", "faults.every=4",
)  # fmt: skip

# The first stage on images of another size.
SMALL_FIRST = ("finetune=two_phase", "finetune.head.image_size=[16,24]", "batch_size=10")


def amid(recorder: Recorder, position: Position) -> bool:
    """Whether the last stage is in the middle of its second epoch."""
    return position.epoch > position.began and bool(position.step) and position.stage != "head"


def waits(recorder: Recorder, position: Position) -> bool:
    """Whether an epoch was no better, and the next one is on its way."""
    return bool(position.step) and recorder.callbacks["own/early_stopping"].wait > 0


def scales(recorder: Recorder, position: Position) -> bool:
    """Whether the loss is scaled otherwise than at first, in the middle of an epoch."""
    scale = float(recorder.model.optimizer.dynamic_scale)
    return bool(position.step) and scale != recorder.model.optimizer.initial_scale


# Data, overrides, and where the run is stopped: after which shares of its executions, or where
# something holds for the first time.
CASES = {
    "texts": ("tiny_texts", ("epochs=3",), (1.0,)),
    "texts, bfloat16, accumulation and averages": (
        "tiny_texts", ("epochs=3", *ACCUMULATED), (0.6,),
    ),
    "texts, stops early": (
        "tiny_texts", ("epochs=12", "callbacks.early_stopping.patience=2", "batch_size=30"),
        (waits,),
    ),
    "images, two stages, kept activations": (
        "tiny_images", ("finetune=two_phase", "cache.activations=always", "augment=light"),
        (0.7,),
    ),
    "images, two stages, augmented and mixed": (
        "tiny_images",
        ("finetune=two_phase", "finetune.head.epochs=1", "batch_size=10", *AUGMENT), (amid,),
    ),
    "images, an epoch of kept activations": (
        "tiny_images",
        ("finetune=linear_probe", "cache.activations=always", "data.train_per_class=7",
         "batch_size=2"),
        (amid,),
    ),
    "images, mixed, float16": (
        "tiny_images",
        ("batch_size=5", "precision=mixed_float16", "optimizer._target_=scaled.adam",
         "~optimizer.weight_decay", "~optimizer.global_clipnorm", *AUGMENT),
        (scales,),
    ),
    "images, small first": (
        "tiny_images", (*SMALL_FIRST, "finetune.head.train=all", "augment=light"),
        (0.2, 0.5, amid),
    ),
    "images, small first, kept activations": (
        "tiny_images", (*SMALL_FIRST, "cache.activations=always", "augment=light"), (0.3, 0.8),
    ),
    "images, small between, averages of weights": (
        "tiny_images",
        ("finetune=two_phase", "finetune.head.train=all", "finetune.all.image_size=24",
         "+finetune.last._target_=kerasft.training.stages.Stage", "batch_size=10", *ACCUMULATED,
         *AUGMENT), (0.2, 0.5, 0.8),
    ),
    "texts, rates by depth, accumulation and averages": (
        "tiny_texts",
        ("epochs=3", "finetune.full.layer_decay=0.5", "finetune.full.rates.head_=3", *ACCUMULATED),
        (0.6,),
    ),
    "texts, SWA and soup, accumulation": (
        "tiny_texts",
        ("finetune=two_phase", "finetune.head.epochs=2", "epochs=4", "average=[swa,soup]",
         "average.swa.start=0.3", "optimizer.gradient_accumulation_steps=2", "batch_size=10"),
        (0.2, 0.8, 1.0),
    ),
    "images, average of weights, mixed": (
        "tiny_images", ("average=ema", "average.ema.decay=0.7", "batch_size=10", *AUGMENT), (amid,),
    ),
    "texts, a head that is computed": (
        "tiny_texts", ("finetune=solved", "epochs=2", "batch_size=10"), (0.1, 0.6),
    ),
    "images, gradually": ("tiny_images", ("finetune=gradual", "batch_size=10"), (0.3, amid)),
    "images, rolled back": ("tiny_images", ROLLED_BACK, (0.3, 0.6)),
    # A checkpoint holds both factors of each update as they are, never what they add up to.
    "texts, adapters above kept activations, bfloat16": (
        "tiny_texts",
        ("batch_size=1", "backbone.layers=2", "adapt=lora", "adapt.lora.rank=2",
         "adapt.lora.dropout=0.1", "adapt.lora.layers=0.2", "cache.activations=always",
         "precision=mixed_bfloat16"), (amid,),
    ),
    "texts, two stages, adapters on int8": (
        "tiny_texts",
        ("finetune=two_phase", "finetune.head.epochs=1", "adapt=lora", "adapt.lora.rank=2",
         "adapt.lora.base=int8"), (0.2, amid),
    ),
    "texts, changed and balanced": (
        "rare_texts",
        ("epochs=3", "augment=text", "augment.swap.stop=-1", "sampling=balanced",
         "batch_tokens=64", "task.class_weight=auto"), (0.4, 0.8),
    ),
    "images, mixed up to the last epochs": (
        "tiny_images",
        ("finetune=two_phase", "finetune.head.epochs=2", "batch_size=10", "augment=mixup",
         "augment.mixup.stop=-2", "task.class_weight={3: 2.0}"), (0.3, 0.6, amid),
    ),
    "texts, regularizers of the network": (
        "tiny_texts",
        ("epochs=3", "regularize=[l1,l2_sp,stochastic_depth,embedding_noise,r_drop]",
         "regularize.stochastic_depth.rate=0.5", "task.class_weight=balanced", *ACCUMULATED),
        (0.6,),
    ),
    "texts, regularizers of the network above kept activations": (
        "tiny_texts",
        ("finetune=two_phase", "finetune.head.epochs=1", "finetune.all.train=0.4",
         "backbone.layers=3", "cache.activations=always",
         "regularize=[stochastic_depth,embedding_noise,r_drop]"), (0.2, 0.6),
    ),
    "images, small first, regularizers of the network": (
        "tiny_images",
        (*SMALL_FIRST, "finetune.head.train=all", "regularize=[l2_sp,stochastic_depth,r_drop]",
         "regularize.stochastic_depth.rate=0.5", "head.dropout=0.1"), (0.2, amid),
    ),
    "images, norms": ("tiny_images", ("adapt=norm", "batch_size=10"), (amid,)),
    "texts, kept as they were read": ("tiny_texts", ("epochs=3",), (0.2, 1.0)),
    "images, decoded late": (
        "tiny_images", ("cache.limit_gb=1e-9", "augment=light", "batch_size=10"), (0.3, amid),
    ),
}  # fmt: skip
# What is kept or decoded late where there is much of it, and here of little.
MUCH = {
    "texts, kept as they were read": (kept_splits, "FEWEST"),
    "images, decoded late": (preprocessing, "MEMORY_LIMIT"),
}
# These come in each run of the tests, as does a run on augmented images of test_new_kind.py.
DEFAULT = ("texts",)


class Interruption:
    """Sends a signal to this process when a run has come so many executions far.

    Or where `when` first holds. `last` is the whole state at the end of the last stage, before what
    is of it alone is dropped.
    """

    def __init__(self, monkeypatch, number: int = signal.SIGTERM):
        self.count, self.at, self.when, self.last = 0, None, None, None
        plain, close = Recorder._at, Recorder.close

        def at(recorder, position):
            self.count += 1
            if self.count == self.at or (self.when and self.when(recorder, position)):
                self.when = None
                os.kill(os.getpid(), number)
            plain(recorder, position)

        def closed(recorder, following, epoch):
            here = Position(recorder.stage.name, recorder.stage.began, epoch, 0)
            self.last = recorder._state(here)
            close(recorder, following, epoch)

        monkeypatch.setattr(Recorder, "_at", at)
        monkeypatch.setattr(Recorder, "close", closed)


@pytest.fixture
def rare_texts(tiny_texts, tmp_path):
    """Overrides as `tiny_texts`, with one class five times as frequent as the other."""
    rows = [(f"a good film, number {i}", "pos") for i in range(50)]
    rows += [(f"a bad film, number {i}", "neg") for i in range(10)]
    with open(tmp_path / "rare.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("text", "label"), *rows])
    return (*tiny_texts, f"data.path={tmp_path}/rare.csv")


def outcome(result) -> tuple:
    """Return all that a run comes to: weights, logs, metrics."""
    logs = result.output_dir / "logs"
    log = (logs / "epochs.jsonl").read_text("utf-8").splitlines()
    rows = [{k: v for k, v in json.loads(line).items() if k != "seconds"} for line in log]
    # A head that is computed takes no steps.
    trained = [row for row in rows if "loss" in row]
    assert len((logs / "updates.jsonl").read_text("utf-8").splitlines()) == len(trained)
    told = [(logs / name).read_text("utf-8") for name in ("updates.jsonl", "training_sample.json")]
    return result.finetuned.model.get_weights(), rows, [result.metrics, *told]


def assert_same(found: tuple, wanted: tuple) -> None:
    assert found[1] == wanted[1]
    assert found[2] == wanted[2]
    for one, other in zip(found[0], wanted[0], strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("case", [
    case if case in DEFAULT else pytest.param(case, marks=pytest.mark.slow) for case in CASES
])  # fmt: skip
def test_a_stopped_run_ends_as_one_that_was_not(case, request, monkeypatch, tmp_path):
    fixture, more, places = CASES[case]
    if case in MUCH:
        monkeypatch.setattr(*MUCH[case], 1)
    (tmp_path / "scaled.py").write_text(SCALED)
    monkeypatch.syspath_prepend(str(tmp_path))
    trusted = ["scaled"]
    overrides = [*request.getfixturevalue(fixture), *more, "cache.directory=cache"]
    interruption = Interruption(monkeypatch)
    wanted = outcome(kerasft.train([*overrides, "output_dir=whole"], trusted=trusted))
    executions, last = interruption.count, interruption.last
    assert any(name.startswith("optimizer/") for name in last.arrays)
    for number, place in enumerate(places):
        run = f"stopped-{number}"
        interruption.count = 0
        if callable(place):
            interruption.when = place
        else:
            interruption.at = max(round(place * executions), 1)
        with pytest.raises(Stopped) as stopped:
            kerasft.train([*overrides, f"output_dir={run}"], trusted=trusted)
        assert (stopped.value.reason, stopped.value.code) == ("SIGTERM", 143)
        interruption.at = interruption.when = interruption.last = None
        assert_same(outcome(kerasft.resume(run, trusted=trusted)), wanted)
        # Averages, accumulated gradients, the scale of the loss, metrics, random numbers.
        if place == 1.0:  # no step was left to do
            assert interruption.last is None
        else:
            assert differences(interruption.last, last) == []
        assert not Path(run, "checkpoints", "states").exists()


def stopped_run(overrides, monkeypatch, *, at: int = 3, run: str = "run", trusted=()) -> None:
    with monkeypatch.context() as patch:
        Interruption(patch).at = at
        with pytest.raises(Stopped):
            kerasft.train([*overrides, f"output_dir={run}"], trusted=trusted)


@pytest.mark.slow
def test_the_command_line_stops_and_goes_on(tiny_texts, kerasft_cli, monkeypatch):
    with monkeypatch.context() as patch:
        Interruption(patch, signal.SIGINT).at = 8
        ended = kerasft_cli("train", *tiny_texts, "output_dir=a run")
    assert ended.code == 130
    assert ended.err == (
        "SIGINT: stopped after 1 epoch and 2 steps. To go on: kerasft resume 'a run'\n"
    )
    facts = json.loads(Path("a run/run.json").read_text())
    assert facts["status"] == "stopped"
    assert facts["reason"] == "SIGINT: stopped after 1 epoch and 2 steps"
    again = kerasft_cli("resume", "a run")
    assert again.code == 0
    assert "going on after 1 epoch and 2 of 6 steps" in again.out
    facts = json.loads(Path("a run/run.json").read_text())
    assert facts["status"] == "done"
    assert len(facts["resumed"]) == 1
    ended = kerasft_cli("resume", "a run")
    assert ended.code == 2
    assert "has ended; there is nothing to go on with" in ended.err
    again = kerasft_cli("train", *tiny_texts, "resume=auto", "output_dir=a run")
    assert (again.code, again.out) == (0, "The run in 'a run' has ended; there is nothing to do.\n")


def test_sigterm_outside_of_training_ends_at_once_and_leaves_nothing_behind(
    tiny_texts, kerasft_cli, monkeypatch, tmp_path
):
    from kerasft.steps.preparing import prepare

    def ended(*given):
        assert list(Path(tempfile.gettempdir()).glob("kerasft-*"))
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(10)

    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    monkeypatch.setattr(prepare, "load_backbone", ended)
    before = signal.getsignal(signal.SIGTERM)
    assert kerasft_cli("train", *tiny_texts, "cache=temporary", "output_dir=run").code == 143
    assert signal.getsignal(signal.SIGTERM) is before
    assert json.loads(Path("run/run.json").read_text())["status"] == "stopped"
    gc.collect()  # the traceback held it
    assert not list(Path(tempfile.gettempdir()).glob("kerasft-*"))


@pytest.mark.slow
def test_a_signal_in_a_validation_does_not_wait_for_its_end(tiny_texts, monkeypatch, capsys):
    overrides = [*tiny_texts, "epochs=3", "checkpoint.steps=2", "cache.directory=cache"]
    wanted = outcome(kerasft.train([*overrides, "output_dir=whole"]))
    plain, calls = FineTuned.measure, []

    def measure(self, examples, *further, **more):
        calls.append(len(examples))
        if len(calls) == 2:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(30)
        return plain(self, examples, *further, **more)

    began = time.monotonic()
    with monkeypatch.context() as patch, pytest.raises(Stopped, match="after 1 epoch and 6 steps"):
        patch.setattr(FineTuned, "measure", measure)
        kerasft.train([*overrides, "output_dir=run"])
    assert time.monotonic() - began < 30
    # What was written there is compared there, too.
    found = outcome(kerasft.resume("run", verify=True))
    assert "verified: the steps before the last checkpoint" in capsys.readouterr().out
    assert_same(found, wanted)


@pytest.mark.slow
def test_a_second_signal_ends_a_run_at_once(tiny_texts, kerasft_cli, monkeypatch):
    plain = Recorder._at

    def at(recorder, position):
        plain(recorder, position)
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(Recorder, "_at", at)
    assert kerasft_cli("train", *tiny_texts, "output_dir=run").code == 130
    assert json.loads(Path("run/run.json").read_text())["status"] == "stopped"
    assert not Path("run/checkpoints/states").exists()


@pytest.mark.slow
def test_sigusr1_saves_and_goes_on(tiny_texts, monkeypatch):
    plain, asked, found = Recorder._at, iter(range(1000)), []

    def at(recorder, position):
        number = next(asked)
        if number == 3:
            os.kill(os.getpid(), signal.SIGUSR1)
        plain(recorder, position)
        if number == 3:
            recorder.saver.finish()
            found.extend(recorder.saver.directory.glob("*.npz"))
            state = checkpoint.read(found[0])
            assert (state.position.epoch, state.position.step) == (0, 4)
            for name, value in recorder._state(position).arrays.items():
                np.testing.assert_array_equal(value, state.arrays[name])

    monkeypatch.setattr(Recorder, "_at", at)
    kerasft.train([*tiny_texts, "output_dir=run"])
    assert len(found) == 1
    assert json.loads(Path("run/run.json").read_text())["status"] == "done"


@pytest.mark.slow
def test_sigusr1_outside_of_training_ends_nothing(tiny_texts, kerasft_cli, monkeypatch):
    from kerasft.steps.measuring import measure
    from kerasft.steps.preparing import prepare

    sent = []

    def signalled(plain):
        def after(*given, **named):
            sent.append(plain.__name__)
            os.kill(os.getpid(), signal.SIGUSR1)
            return plain(*given, **named)
        return after

    monkeypatch.setattr(prepare, "load_backbone", signalled(prepare.load_backbone))
    monkeypatch.setattr(measure, "measure", signalled(measure.measure))
    before = signal.getsignal(signal.SIGUSR1)
    ended = kerasft_cli("train", *tiny_texts, "epochs=1", "output_dir=run")
    assert ended.code == 0, ended.err
    assert sent == ["load_backbone", "measure"]
    assert signal.getsignal(signal.SIGUSR1) is before
    assert json.loads(Path("run/run.json").read_text())["status"] == "done"


@pytest.mark.slow  # tests/test_faults_script.py kills one in each run of the tests
def test_a_run_that_was_killed_goes_on_from_its_last_checkpoint(tiny_texts):
    overrides = [*tiny_texts, "epochs=15", "checkpoint.steps=1", "cache.directory=cache"]
    command = [sys.executable, "-m", "kerasft", "train", *overrides, "output_dir=run"]
    states = Path("run/checkpoints/states")
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        deadline = time.monotonic() + 120
        while len(list(states.glob("*.npz"))) < 2:
            assert process.poll() is None, process.stdout.read().decode()
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.kill()
    assert json.loads(Path("run/run.json").read_text())["status"] == "running"
    found = outcome(kerasft.resume("run"))
    assert_same(found, outcome(kerasft.train([*overrides, "output_dir=whole"])))


@pytest.mark.slow
def test_the_same_command_goes_on(tiny_texts, monkeypatch, capsys):
    overrides = [*tiny_texts, "resume=auto"]
    stopped_run(overrides, monkeypatch)
    with pytest.raises(UserError, match="began with another config: batch_size was 8, now 4"):
        kerasft.train([*overrides, "output_dir=run", "batch_size=4"])
    (Path("run") / "run.json").write_text(
        (Path("run") / "run.json").read_text().replace(kerasft.__version__, "0.0.1")
    )
    result = kerasft.train([*overrides, "output_dir=run", "checkpoint.steps=2"])
    assert len(result.history.rows) == 2
    assert "other versions, not to the last bit: kerasft 0.0.1 -> " in capsys.readouterr().err
    again = kerasft.train(repetition.recorded_config("run", ["epochs=1"]))
    assert again.output_dir != result.output_dir
    with pytest.raises(UserError, match="must be a new or empty folder"):
        kerasft.train([*tiny_texts, "output_dir=run"])
    with pytest.raises(UserError, match=r"resume=auto finds the run .*: set output_dir"):
        kerasft.train(overrides)


@pytest.mark.slow
def test_changed_data_is_refused(tiny_texts, texts_csv, tmp_path, monkeypatch):
    lines = texts_csv.read_text().splitlines()
    own = tmp_path / "own.csv"
    own.write_text("\n".join(lines))
    stopped_run([*tiny_texts, f"data.path={own}"], monkeypatch)
    own.write_text("\n".join([*lines, "a late film,pos"]))
    with pytest.raises(UserError, match=r"The data has changed since the run began: .* are new: 1"):
        kerasft.resume("run")
    own.write_text("\n".join(lines))
    assert len(kerasft.resume("run").history.rows) == 2


@pytest.mark.slow
def test_changed_data_and_a_changed_config_are_accepted_on_request(
    tiny_texts, texts_csv, tmp_path, monkeypatch, kerasft_cli
):
    lines = texts_csv.read_text().splitlines()
    own = tmp_path / "own.csv"
    own.write_text("\n".join(lines))
    overrides = [*tiny_texts, f"data.path={own}"]
    stopped_run(overrides, monkeypatch, at=8)
    own.write_text("\n".join([*lines, *(f"a late film {i},pos" for i in range(8))]))
    more = kerasft_cli("resume", "run", "--accept", "--verify")
    assert more.code == 2, "other data give another state"
    assert "The data has changed since the run began: Examples that are new: 8" in more.err
    more = kerasft_cli(
        "train", *overrides, "output_dir=run", "resume=accept", "epochs=4", "batch_size=4"
    )
    assert more.code == 0, more.err
    assert "began with another config: batch_size was 8, now 4; epochs was 2, now 4" in more.err
    assert "the number of steps in an epoch has changed; the current epoch is restarted" in more.out
    assert "going on after 1 epoch and 0 of 12 steps" in more.out
    log = Path("run/logs/epochs.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in log] == [1, 2, 3, 4]
    assert OmegaConf.load("run/config.yaml").batch_size == 4
    refused = kerasft_cli("train", *overrides, "output_dir=other", "resume=always")
    assert "resume must be null, 'auto' or 'accept'. Received: 'always'." in refused.err


@pytest.mark.slow
def test_what_goes_on_otherwise_than_before_is_said(tiny_images, monkeypatch, capsys):
    overrides = [*tiny_images, "finetune=linear_probe", "cache.directory=cache"]
    stopped_run([*overrides, "cache.activations=always"], monkeypatch, at=1)
    facts = json.loads(Path("run/run.json").read_text())
    facts["machine"] |= {"processor": "abacus", "cores": 99}
    Path("run/run.json").write_text(json.dumps(facts))
    for path in Path("run/checkpoints/states").glob("*.npz"):
        state = checkpoint.read(path)
        state.plain["form"] |= {"precision": "mixed_float16", "devices": "gpu:0, gpu:1"}
        checkpoint.write(path, state)
    config = OmegaConf.load("run/config.yaml")
    config.cache.activations = "never"
    OmegaConf.save(config, "run/config.yaml")
    changed = "began with another config: cache.activations was always, now never"
    with pytest.raises(UserError, match=f"{changed}. Take these back in its config.yaml"):
        kerasft.resume("run")
    capsys.readouterr()
    kerasft.resume("run", accept=True)
    said = capsys.readouterr()
    assert f"{changed}. It goes on with the new one." in said.err
    assert (
        "the run goes on another machine, maybe not to the last bit: cores 99 -> "
        f"{tf_data.cores()}, processor abacus ->" in said.err
    )
    for difference in ("activations was kept, now computed",
                       "precision was mixed_float16, now float32",
                       "devices was gpu:0, gpu:1, now cpu:0"):
        assert (
            "warning: the stage is resumed under other settings; results may differ by "
            f"rounding: {difference}"
            in said.out
        )


def test_two_processes_on_one_run_folder_are_refused(tiny_texts, monkeypatch):
    from filelock import FileLock

    stopped_run(tiny_texts, monkeypatch)
    with FileLock("run/.lock"), pytest.raises(UserError, match="Another process works in"):
        kerasft.resume("run")


@pytest.mark.slow
def test_a_run_ends_in_time(tiny_texts):
    overrides = [*tiny_texts, "epochs=100000", "callbacks=none", "schedule=constant"]
    began = time.monotonic()
    with pytest.raises(Stopped) as stopped:
        kerasft.train([*overrides, "output_dir=run", "max_time=0.2"])
    assert (stopped.value.reason, stopped.value.code) == ("max_time", 75)
    assert time.monotonic() - began < 15
    assert stopped.value.epoch > 0


@pytest.mark.slow
def test_a_run_that_died_before_its_first_checkpoint_begins_anew(tiny_texts, monkeypatch):
    plain = Recorder._at

    def at(recorder, position):
        plain(recorder, position)
        if position.epoch == 1:
            raise RuntimeError("died")

    with monkeypatch.context() as patch:
        patch.setattr(Recorder, "_at", at)
        with pytest.raises(RuntimeError, match="died"):
            kerasft.train([*tiny_texts, "output_dir=run"])
    _, rows, _ = outcome(kerasft.resume("run"))
    assert [row["epoch"] for row in rows] == [1, 2]


@pytest.mark.slow
def test_callbacks_of_any_name_and_with_hidden_state_go_on(tiny_texts, monkeypatch):
    overrides = [
        *tiny_texts, "cache.directory=cache", "+optimizer.use_ema=true",
        "+callbacks.best._target_=keras.callbacks.SwapEMAWeights",
        "+callbacks.best.swap_on_epoch=true", "epochs=3",
        "+callbacks.log._target_=keras.callbacks.TerminateOnNaN",
    ]  # fmt: skip
    stopped_run(overrides, monkeypatch, at=6)  # at the end of an epoch
    found = outcome(kerasft.resume("run"))
    assert_same(found, outcome(kerasft.train([*overrides, "output_dir=whole"])))


NOISE = '''
import random

import keras
import numpy as np


class Noise(keras.callbacks.Callback):
    """Moves a weight by random numbers of Python and NumPy, and keeps some books."""

    def __init__(self, name):
        super().__init__()
        self.name, self.last, self.seen, self.sums = name, "none", set(), [0.0]

    def on_train_batch_end(self, batch, logs=None):
        moved = random.gauss(0, 1e-3) + np.random.normal(0, 1e-3)
        self.model.trainable_variables[-1].assign_add([moved, -moved])
        self.sums[0] += moved
        self.seen.add(batch)
        self.last = str(batch)
'''


@pytest.mark.slow
def test_random_numbers_of_callbacks_go_on_and_what_is_not_kept_is_named(
    tiny_texts, tmp_path, monkeypatch, capsys
):
    (tmp_path / "noise.py").write_text(NOISE)
    monkeypatch.syspath_prepend(str(tmp_path))
    overrides = [
        *tiny_texts, "cache.directory=cache", "+callbacks.noise._target_=noise.Noise",
        "+callbacks.noise.name=mine", "callbacks.early_stopping.patience=9",
    ]  # fmt: skip
    wanted = outcome(kerasft.train([*overrides, "output_dir=whole"], trusted=["noise"]))
    capsys.readouterr()
    stopped_run(overrides, monkeypatch, at=8, trusted=["noise"])
    assert capsys.readouterr().out.count(
        "warning: callbacks.noise: checkpoints do not hold its last, seen. Give it get_state"
    ) == 1
    assert_same(outcome(kerasft.resume("run", trusted=["noise"])), wanted)


@pytest.mark.slow
def test_an_epoch_goes_on_with_other_executions(tiny_images, monkeypatch):
    from kerasft.training import stage_run

    overrides = [*tiny_images, "batch_size=5", "epochs=3", "cache.directory=cache"]
    wanted = outcome(kerasft.train([*overrides, "output_dir=whole"]))
    stopped_run(overrides, monkeypatch, at=4)
    monkeypatch.setattr(stage_run, "together", lambda most, steps: 3)
    _, rows, _ = outcome(kerasft.resume("run"))
    assert [row["loss"] for row in rows] == pytest.approx([r["loss"] for r in wanted[1]], rel=1e-4)


def test_a_run_from_before_a_group_was_there_can_be_used(tiny_text_run, tmp_path):
    run = shutil.copytree(tiny_text_run, tmp_path / "old")
    cfg = run / "config.yaml"
    text = cfg.read_text()
    start = text.index("checkpoint:")
    cfg.write_text(text[:start] + text[text.index("cache:", start):])
    assert kerasft.evaluate(str(run), split="test", say=lambda line: None)["test"]["accuracy"] >= 0


@pytest.mark.slow
def test_damaged_checkpoints_are_named_and_passed_over(tiny_texts, monkeypatch, capsys):
    overrides = [*tiny_texts, "checkpoint.steps=1", "cache.directory=cache"]
    stopped_run(overrides, monkeypatch, at=5)
    newest = sorted(Path("run/checkpoints/states").glob("*.npz"))[-1]
    newest.write_bytes(newest.read_bytes()[:-1000])
    found = outcome(kerasft.resume("run"))
    said = capsys.readouterr().out
    assert f"warning: the checkpoint {newest.name} is damaged" in said
    assert "going on after 0 epochs and 4 of 6 steps" in said
    assert_same(found, outcome(kerasft.train([*overrides, "output_dir=whole"])))


@pytest.mark.slow
def test_the_last_steps_are_done_again_and_compared(tiny_texts, monkeypatch, kerasft_cli):
    overrides = [*tiny_texts, "epochs=3", "checkpoint.steps=2", "cache.directory=cache"]
    wanted = outcome(kerasft.train([*overrides, "output_dir=whole"]))
    stopped_run(overrides, monkeypatch, at=9)
    again = kerasft_cli("resume", "run", "--verify")
    assert again.code == 0, again.err
    assert "going on after 1 epoch and 2 of 6 steps" in again.out
    assert "verified: the steps before the last checkpoint, done again, gave the same" in again.out
    log = Path("run/logs/epochs.jsonl").read_text().splitlines()
    rows = [{k: v for k, v in json.loads(line).items() if k != "seconds"} for line in log]
    assert rows == wanted[1]
    assert json.loads(Path("run/metrics.json").read_text()) == json.loads(
        Path("whole/metrics.json").read_text()
    )


@pytest.mark.slow
def test_a_replay_that_comes_out_otherwise_is_refused_and_nothing_is_lost(
    tiny_texts, monkeypatch, kerasft_cli
):
    overrides = [*tiny_texts, "epochs=3", "checkpoint.steps=2", "cache.directory=cache"]
    stopped_run(overrides, monkeypatch, at=9)
    older, newest = sorted(Path("run/checkpoints/states").glob("*.npz"))
    state = checkpoint.read(older)
    kernel = next(name for name in state.arrays if name.startswith("model/") and "kernel" in name)
    state.arrays[kernel][0, 0] += 1e-3
    checkpoint.write(older, state)
    before = newest.read_bytes()
    refused = kerasft_cli("resume", "run", "--verify")
    assert refused.code == 2
    assert "The steps before the last checkpoint, done again, gave another state: " in refused.err
    assert "numbers, by up to" in refused.err
    assert newest.read_bytes() == before
    assert kerasft_cli("resume", "run").code == 0
    nothing = kerasft_cli("train", *overrides, "output_dir=other", "max_time=1e-9")
    assert nothing.code == 75


@pytest.mark.slow
def test_without_an_older_checkpoint_the_replay_begins_at_the_beginning(
    tiny_texts, monkeypatch, capsys
):
    stopped_run([*tiny_texts, "cache.directory=cache"], monkeypatch, at=8)
    assert len(list(Path("run/checkpoints/states").glob("*.npz"))) == 1
    kerasft.resume("run", verify=True)
    said = capsys.readouterr().out
    assert "going on after" not in said
    assert "verified: " in said


@pytest.mark.slow
def test_what_has_no_checkpoint_cannot_be_verified(tiny_texts, monkeypatch, kerasft_cli):
    stopped_run(tiny_texts, monkeypatch)
    shutil.rmtree("run/checkpoints/states")
    ended = kerasft_cli("resume", "run", "--verify")
    assert ended.code == 2
    assert "run/checkpoints/states' to be verified. Go on without --verify." in ended.err


@pytest.mark.slow
def test_the_models_of_the_best_epochs_stay(tiny_texts, monkeypatch):
    overrides = [*tiny_texts, "epochs=5", "checkpoint.top=2", "cache.directory=cache"]
    result = kerasft.train([*overrides, "output_dir=whole"])
    rows = sorted(  # of equal ones that with the lower loss is the better one
        result.history.rows, key=lambda row: (-row["val_accuracy"], row["val_loss"], row["epoch"])
    )
    best = [row["epoch"] for row in rows[:2]]
    folder = Path("whole/checkpoints")
    names = {f"epoch-{epoch:04d}.keras" for epoch in best}
    assert {p.name for p in folder.glob("epoch-*.keras")} == names
    whole = {p.name: weights_in(p) for p in folder.glob("*.keras")}
    assert whole["best.keras"] == whole[f"epoch-{best[0]:04d}.keras"]
    stopped_run(overrides, monkeypatch, at=15)
    kerasft.resume("run")
    assert {p.name: weights_in(p) for p in Path("run/checkpoints").glob("*.keras")} == whole


def weights_in(model: Path) -> bytes:
    import keras

    weights = keras.saving.load_model(model, compile=False).get_weights()
    return b"".join(value.tobytes() for value in weights)
