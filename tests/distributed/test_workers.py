"""Runs of two processes: killed, stopped, and started with what does not fit together."""

import csv
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
import zipfile

import h5py
import numpy as np
import pytest

from kerasft.distributed.launching import free_ports

pytestmark = [pytest.mark.slow, pytest.mark.enable_socket]

WORDS = [
    "data=table", "data.text=text", "data.label=label", "backbone=tiny_bert", "finetune=full",
    "epochs=3", "batch_size=4", "optimizer.learning_rate=1e-3", "floor=none",
    "checkpoint.steps=2", "training_sample=0", "eval_batch_size=2",
]  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("workers")
    write_csv(folder / "texts.csv", texts())
    return folder


def texts():
    """Return 60 short texts, each with its label."""
    words = {"pos": ("good", "fine", "warm"), "neg": ("bad", "dull", "cold")}
    return [(f"a {word} film, number {i}", label) for i in range(10)
            for label, some in words.items() for word in some]  # fmt: skip


def write_csv(path, rows):
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("text", "label"), *rows])
    return path


def started(place, name, *more, words=WORDS, workers=2):
    """Start a run of two processes, and return its launcher and its run folder."""
    out = place / name
    given = [*words, f"output_dir={out}", f"cache.directory={place / 'cache'}", *more]
    if words is WORDS:
        given.append(f"data.path={place / 'texts.csv'}")
    launch = ["launch", "-n", str(workers), "--"]
    launcher = subprocess.Popen(
        [sys.executable, "-m", "kerasft", *launch, "train", *given],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=place,
    )
    return launcher, out


def pids(launcher):
    """Return the processes of the workers, once they are told."""
    line = launcher.stdout.readline()
    return [int(n) for n in re.search(r"processes (\d+), (\d+)", line).groups()]


def wait_for_epoch(out, count=1, timeout=120):
    """Wait until so many epochs are done."""
    log, began = out / "logs" / "epochs.jsonl", time.monotonic()
    while time.monotonic() < began + timeout:
        if log.is_file() and len(log.read_text().splitlines()) >= count:
            return
        time.sleep(0.02)
    raise AssertionError(f"no {count} epochs within {timeout} s")


def weights(out):
    found = {}
    for name in ("last", "best"):
        with zipfile.ZipFile(out / "checkpoints" / f"{name}.keras") as pack:
            file = h5py.File(io.BytesIO(pack.read("model.weights.h5")), "r")

            def note(path, value, name=name):
                if isinstance(value, h5py.Dataset):
                    found[f"{name}/{path}"] = value[()]

            file.visititems(note)
    return found


def rows(out):
    lines = (out / "logs" / "epochs.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k != "seconds"} for line in lines]


def require_same(one, other):
    mine, theirs = weights(one), weights(other)
    assert mine.keys() == theirs.keys()
    assert len(mine) > 20
    for name in mine:
        np.testing.assert_array_equal(mine[name], theirs[name], err_msg=name)
    assert rows(one) == rows(other)


@pytest.fixture(scope="module")
def alone(place):
    launcher, out = started(place, "alone")
    said, _ = launcher.communicate(timeout=300)
    assert launcher.returncode == 0, said[-3000:]
    assert "devices: 2 workers on 127.0.0.1 (TF_CONFIG); this is rank 0" in said
    return out


def test_only_the_first_worker_writes_and_speaks(alone):
    log = (alone / "logs" / "worker-1.log").read_text()
    assert "epoch 3" in log
    assert json.loads((alone / "run.json").read_text())["status"] == "done"
    assert json.loads((alone / "metrics.json").read_text())["test"]
    assert len(rows(alone)) == 3


def test_shared_out_validation_has_the_figures_of_one_process(alone):
    """The first worker measures the best weights once more, alone."""
    kept = json.loads((alone / "metrics.json").read_text())["validation"]
    best = max(rows(alone), key=lambda row: row["val_accuracy"])
    shared = [name for name in kept if f"val_{name}" in best]
    assert {"accuracy", "log_loss"} <= set(shared)
    assert {name: best[f"val_{name}"] for name in shared} == {name: kept[name] for name in shared}


@pytest.mark.parametrize("victim", [0, 1])
def test_a_worker_that_is_killed_costs_nothing(place, alone, victim):
    launcher, out = started(place, f"killed-{victim}")
    workers = pids(launcher)
    wait_for_epoch(out)
    os.kill(workers[victim], signal.SIGKILL)
    said, _ = launcher.communicate(timeout=400)
    assert launcher.returncode == 0, said[-3000:]
    assert f"worker {victim} was ended by SIGKILL; all 2 start again" in said
    if victim == 1:
        assert re.search(r"worker 1 \(127\.0\.0\.1:\d+\) is gone: stopped", said)
    assert "going on after" in said
    assert "Traceback" not in said
    require_same(out, alone)


def test_a_signal_to_one_worker_stops_all_at_one_step(place, alone):
    launcher, out = started(place, "stopped")
    workers = pids(launcher)
    wait_for_epoch(out)
    os.kill(workers[1], signal.SIGTERM)
    said, _ = launcher.communicate(timeout=300)
    assert launcher.returncode == 143, said[-3000:]
    assert "Traceback" not in said
    assert json.loads((out / "run.json").read_text())["status"] == "stopped"
    again, _ = started(place, "stopped")
    said, _ = again.communicate(timeout=300)
    assert again.returncode == 0, said[-3000:]
    require_same(out, alone)


# Nothing in it draws random numbers while it trains, or makes much of rounding: the variance of one
# small image is nearly 0, and an update of Adam is as large for tiny gradients as for others.
WITHOUT_DROPOUT = [
    "data=digits", "data.test_per_class=2", "backbone=tiny_resnet", "head.dropout=0",
    "finetune=full", "epochs=3", "batch_size=7", "floor=none", "checkpoint.steps=2",
    "training_sample=0", "eval_batch_size=20", "optimizer=sgd", "optimizer.learning_rate=0.01",
    "+finetune.full.batch_norm=frozen",
]  # fmt: skip


@pytest.fixture(scope="module")
def without_dropout(place):
    launcher, out = started(place, "without-dropout", words=WITHOUT_DROPOUT, workers=1)
    said, _ = launcher.communicate(timeout=300)
    assert launcher.returncode == 0, said[-3000:]
    return out


@pytest.mark.parametrize(("before", "after"), [(2, 1), (1, 2)])
def test_another_number_of_workers_goes_on_equal_to_rounding(
    place, without_dropout, before, after
):
    name = f"from-{before}-to-{after}"
    launcher, out = started(place, name, words=WITHOUT_DROPOUT, workers=before)
    launcher.stdout.readline()
    wait_for_epoch(out)
    launcher.send_signal(signal.SIGTERM)
    said, _ = launcher.communicate(timeout=300)
    assert launcher.returncode == 143, said[-3000:]
    again, _ = started(place, name, words=WITHOUT_DROPOUT, workers=after)
    said, _ = again.communicate(timeout=300)
    assert again.returncode == 0, said[-3000:]
    warned = "warning: the stage is resumed under other settings; results may differ by rounding"
    assert f"{warned}: workers was {before}, now {after}" in said
    draws = "and dropout draws other random numbers"
    assert f"{warned}, {draws}: replicas was {before}, now {after}" in said
    mine, theirs = weights(out), weights(without_dropout)
    assert mine.keys() == theirs.keys()
    for one in mine:
        np.testing.assert_allclose(mine[one], theirs[one], rtol=0, atol=1e-5, err_msg=one)
    for row, other in zip(rows(out), rows(without_dropout), strict=True):
        assert row["epoch"] == other["epoch"]
        for name in ("loss", "val_loss"):
            assert row[name] == pytest.approx(other[name], rel=1e-5)


def test_of_three_workers_one_that_is_killed_ends_the_others_to_be_started_again(place):
    addresses = [f"127.0.0.1:{port}" for port in free_ports(3)]
    out, made = place / "three", []
    for rank in range(3):
        task = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": rank}}
        made.append(subprocess.Popen(
            [sys.executable, "-m", "kerasft", "train", *WORDS, "distribute=auto", "resume=auto",
             f"data.path={place / 'texts.csv'}", f"output_dir={out}", "epochs=50",
             f"cache.directory={place / 'cache'}"],
            env={**os.environ, "TF_CONFIG": json.dumps(task)}, cwd=place,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        ))  # fmt: skip
    wait_for_epoch(out)
    made[1].kill()
    began = time.monotonic()
    for rank, one in enumerate(made):
        said = "".join(one.communicate(timeout=200))
        assert one.returncode == (-signal.SIGKILL if rank == 1 else 75), said
        if rank != 1:
            assert "Traceback" not in said
            assert f"worker 1 ({addresses[1]}) is gone: stopped" in said
        if rank == 0:
            assert "3 workers on 127.0.0.1" in said
    # That of rank 0, which is no neighbour of rank 1, would miss it after a minute by itself.
    assert time.monotonic() - began < 40


def pair(place, commands):
    """Start two workers with commands of their own; return status and errors of each."""
    addresses = [f"127.0.0.1:{port}" for port in free_ports(2)]
    made = []
    for rank, words in enumerate(commands):
        task = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": rank}}
        made.append(subprocess.Popen(
            [sys.executable, "-m", "kerasft", "train", *WORDS, "distribute=auto",
             f"cache.directory={place / 'cache'}", *words],
            env={**os.environ, "TF_CONFIG": json.dumps(task), "TF_USE_LEGACY_KERAS": "1"},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=place,
        ))  # fmt: skip
    return [(one.communicate(timeout=200)[1], one.returncode) for one in made]


def test_other_configs_are_refused_with_the_difference(place):
    both = [f"data.path={place / 'texts.csv'}", f"output_dir={place / 'other'}"]
    for said, code in pair(place, [both, [*both, "seed=1"]]):
        assert code == 2, said
        assert re.search(r"same config: worker 0 \(.*\) has seed=0, and worker 1 \(.*\) seed=1",
                         said)  # fmt: skip


def test_other_data_is_refused(place):
    fewer = write_csv(place / "fewer.csv", texts()[:-3])
    # The same command, where another file stands.
    first, second = place / "one", place / "two"
    for folder, source in ((first, place / "texts.csv"), (second, fewer)):
        folder.mkdir(exist_ok=True)
        (folder / "data.csv").write_bytes(source.read_bytes())
    addresses = [f"127.0.0.1:{port}" for port in free_ports(2)]
    made = []
    for rank, folder in enumerate((first, second)):
        task = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": rank}}
        made.append(subprocess.Popen(
            [sys.executable, "-m", "kerasft", "train", *WORDS, "distribute=auto",
             "data.path=data.csv", f"output_dir={place / 'apart'}",
             f"cache.directory={place / 'cache'}"],
            env={**os.environ, "TF_CONFIG": json.dumps(task)}, cwd=folder,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        ))  # fmt: skip
    for one in made:
        _, said = one.communicate(timeout=200)
        assert one.returncode == 2, said
        assert "Workers of one run must have the same data: worker 0" in said
