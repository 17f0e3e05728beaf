"""Checkpoints are whole or not used, and are written when they are due."""

from __future__ import annotations

import errno
import json
import os
import random
import signal
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest

from kerasft.errors import Stopped, UserError
from kerasft.training import checkpoint
from kerasft.training.checkpoint import Damaged, Policy, Position, Saver, State
from kerasft.training.randomness import capture_random
from kerasft.training.recorder import capture_callbacks, give_random, restore_callbacks
from kerasft.training.signals import Interrupted


def a_state(number: int = 1) -> State:
    return State(
        Position("full", 0, 1, number), {"note": "one", "nothing": None, "nan": float("nan")},
        {"model/0/kernel": np.arange(2000, dtype="float32").reshape(40, 50) + number,
         "model/1/a name with \u0928": np.array(7, "int64")},
    )  # fmt: skip


def assert_equal(one: State, other: State) -> None:
    assert one.position == other.position
    assert repr(one.plain) == repr(other.plain)  # not a number equals itself here
    assert list(one.arrays) == list(other.arrays)
    for name, value in other.arrays.items():
        np.testing.assert_array_equal(one.arrays[name], value)
        assert one.arrays[name].dtype == value.dtype


def test_what_is_written_is_read(tmp_path):
    checkpoint.write(tmp_path / "step-00000001.npz", a_state())
    assert_equal(checkpoint.read(tmp_path / "step-00000001.npz"), a_state())
    assert [p.name for p in tmp_path.iterdir()] == ["step-00000001.npz"]


def test_a_damaged_file_is_never_read_as_whole(tmp_path):
    path = tmp_path / "step-00000001.npz"
    checkpoint.write(path, a_state())
    whole = path.read_bytes()
    draw = random.Random(0)
    frame = [*range(400), *range(len(whole) - 700, len(whole))]
    places = [*frame, *(draw.randrange(len(whole)) for _ in range(300))]
    damaged = 0
    for number, place in enumerate(places):
        broken = bytearray(whole)
        if number % 4:
            broken[place] ^= 1 << draw.randrange(8)
        else:
            broken = broken[:place]
        path.write_bytes(broken)
        try:
            found = checkpoint.read(path)
        except Damaged as error:
            assert "step-00000001.npz is damaged" in str(error)
            damaged += 1
        else:
            assert_equal(found, a_state())  # a date, or another byte that nobody reads
    assert damaged > 1000


def test_another_format_is_told(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "FORMAT", 99)
        checkpoint.write(tmp_path / "a.npz", a_state())
    with pytest.raises(UserError, match="has the format 99, and this version of kerasft reads 1"):
        checkpoint.read(tmp_path / "a.npz")


def test_so_many_are_kept_and_the_newest_whole_one_is_found(tmp_path):
    said = []
    saver = Saver(Policy(keep=2), tmp_path, said.append)
    assert saver.newest() is None
    for number in (1, 2, 3):
        saver.save(a_state(number))
    saver.finish()
    names = sorted(p.name for p in tmp_path.iterdir())
    assert names == ["step-00000002.npz", "step-00000003.npz"]
    assert saver.newest().position.step == 3
    (tmp_path / names[1]).write_bytes(b"PK")
    assert saver.newest().position.step == 2
    assert said[0].startswith("warning: the checkpoint step-00000003.npz is damaged")
    # Another process goes on counting.
    other = Saver(Policy(), tmp_path, said.append)
    other.save(a_state(4))
    other.finish()
    assert (tmp_path / "step-00000004.npz").is_file()


def test_where_none_is_whole_the_run_does_not_begin_anew(tmp_path):
    said = []
    saver = Saver(Policy(), tmp_path, said.append)
    saver.save(a_state())
    saver.finish()
    (tmp_path / "step-00000001.npz").write_bytes(b"")
    with pytest.raises(UserError, match=r"No checkpoint in .* is whole: step-00000001.npz is dama"):
        saver.newest()


def test_one_that_cannot_be_opened_is_not_damaged(tmp_path):
    (tmp_path / "step-00000001.npz").mkdir()
    with pytest.raises(UserError, match=r"step-00000001.npz' cannot be read"):
        Saver(Policy(), tmp_path, print).newest()


def test_what_unpacks_to_more_than_it_holds_is_refused(tmp_path):
    np.savez_compressed(tmp_path / "bomb.npz", head=np.zeros(10**6, "uint8"))
    with pytest.raises(Damaged, match="it unpacks to more than it holds"):
        checkpoint.read(tmp_path / "bomb.npz")
    np.savez(tmp_path / "objects.npz", head=np.array([print], object), allow_pickle=True)
    with pytest.raises(Damaged, match="Object arrays cannot be loaded"):
        checkpoint.read(tmp_path / "objects.npz")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_costs_a_checkpoint_and_not_the_run(tmp_path, monkeypatch, number):
    said = []
    saver = Saver(Policy(keep=1), tmp_path, said.append)
    saver.save(a_state(1))
    saver.finish()

    def full(handle):
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        saver.save(a_state(2))
        saver.finish()
    assert said == [
        f"warning: no checkpoint was written: '{tmp_path}/step-00000002.npz' could not be written: "
        f"{os.strerror(number)}."
    ]
    assert [p.name for p in tmp_path.iterdir()] == ["step-00000001.npz"]
    saver.save(a_state(3))
    saver.finish()
    assert saver.newest().position.step == 3


@pytest.fixture
def hands(monkeypatch):
    """A clock that is set by hand."""
    now = SimpleNamespace(seconds=1000.0)
    monkeypatch.setattr(checkpoint.time, "monotonic", lambda: now.seconds)
    return now


def test_they_are_due_by_time_by_steps_and_by_cost(tmp_path, hands):
    saver = Saver(Policy(minutes=1), tmp_path, print)
    assert not saver.due(1, 1000)
    hands.seconds += 59
    assert not saver.due(1, 1000)
    hands.seconds += 2
    assert saver.due(1, 1000)
    # 2 GB take about 10 s: not before 500 s.
    assert not saver.due(1, int(2e9))
    hands.seconds += 450
    assert saver.due(1, int(2e9))
    by_steps = Saver(Policy(minutes=None, steps=3), tmp_path, print)
    assert [by_steps.due(1, 10) for _ in range(3)] == [False, False, True]
    never = Saver(Policy(minutes=None), tmp_path, print)
    hands.seconds += 1e6
    assert not never.due(1, 10)


def test_the_end_of_the_time_breaks_a_validation_off(tmp_path):
    saver = Saver(Policy(), tmp_path, print, left=0.4)
    saver.begin(1000)
    before = signal.getsignal(signal.SIGTERM)
    began = time.monotonic()
    with saver.attending():
        with pytest.raises(Interrupted), saver.interrupting():
            for _ in range(1000):
                time.sleep(0.01)
        assert 0.3 < time.monotonic() - began < 5
        with pytest.raises(Stopped) as stopped:
            saver.stop_if_asked(Position("full", 0, 0, 6))
        assert (stopped.value.reason, stopped.value.code) == ("max_time", 75)
        with pytest.raises(Interrupted), saver.interrupting():
            pytest.fail("there is no time left")
    assert signal.getsignal(signal.SIGTERM) is before
    longer = Saver(Policy(), tmp_path, print, left=100)
    with longer.attending(), longer.interrupting():
        pass
    assert longer.signals.stop is None
    assert not [t for t in threading.enumerate() if isinstance(t, threading.Timer)]


def test_a_limit_leaves_time_for_the_longest_step_and_for_writing(tmp_path, hands):
    saver = Saver(Policy(), tmp_path, print, left=100)
    hands.seconds += 20  # before the first question there was no step
    assert not saver.due(1, int(2e8))
    hands.seconds += 10
    assert not saver.due(1, int(2e8))
    while not saver.signals.stop:
        hands.seconds += 1
        saver.due(1, int(2e8))
    assert hands.seconds == 1000 + 100 - 10 - 2
    assert saver.signals.stop == ("max_time", 75)


@pytest.mark.parametrize("wrong", [{"minutes": 0}, {"steps": 0}, {"keep": 0}])
def test_values_out_of_range_are_refused(wrong):
    with pytest.raises(UserError, match=r"checkpoint\.minutes must be above 0"):
        Policy(**wrong)


def test_callbacks_come_back_with_what_they_counted():
    import keras

    early = keras.callbacks.EarlyStopping("val_loss", restore_best_weights=True)
    early.on_train_begin()
    early.best, early.wait, early.best_weights = 0.25, 3, [np.ones(2), np.zeros(3)]

    class Own(keras.callbacks.Callback):
        seen = ()

        def get_state(self):
            return {"seen": np.array([1, 2])}

        def set_state(self, state):
            self.seen = tuple(state["seen"])

    plain, arrays = capture_callbacks({"early": early, "own": Own()})
    assert "monitor" not in plain["early"], "what it was made with is no state"
    state = State(Position("full", 0, 0, 1), {"callbacks": plain}, arrays)
    again, own = keras.callbacks.EarlyStopping("val_loss", restore_best_weights=True), Own()
    again.on_train_begin()
    restore_callbacks({"early": again, "own": own, "new": keras.callbacks.Callback()}, state)
    assert (again.best, again.wait) == (0.25, 3)
    np.testing.assert_array_equal(again.best_weights[0], np.ones(2))
    assert own.seen == (1, 2)


def test_a_state_turns_no_path_of_a_callback_and_no_state_is_none(tmp_path):
    import keras

    def given(state):
        held = {"callbacks": {"own/log": state}}
        restore_callbacks({"own/log": log}, State(Position("full", 0, 0, 1), held, {}))

    log = keras.callbacks.CSVLogger(str(tmp_path / "mine.csv"), append=True)
    before = dict(vars(log))
    given({"filename": "other.csv", "sep": 5, "params": {}, "append_header": False})
    assert (log.filename, log.sep) == (before["filename"], before["sep"])
    assert log.append_header is False
    for state in (5, "x", ["x"]):
        with pytest.raises(UserError, match=r"its state of callbacks\.log cannot be given back"):
            given(state)


@pytest.mark.parametrize("change", [
    {"position": {"stage": 5, "began": 0, "epoch": 0, "step": 0}}, {"position": [1]},
    {"position": {"stage": "a", "began": "x", "epoch": -1, "step": 0}}, {"plain": {"stopped": 5}},
    {"plain": {"callbacks": []}}, {"plain": {"random": 5}}, {"plain": 5}, {"arrays": None},
])  # fmt: skip
def test_a_head_that_says_something_else_is_damage(tmp_path, change):
    path = tmp_path / "step-00000001.npz"
    checkpoint.write(path, a_state())
    with np.load(path) as file:
        held = {name: file[name] for name in file.files}
    head = json.loads(held["head"].tobytes()) | change
    held["head"] = np.frombuffer(json.dumps(head).encode(), "uint8")
    np.savez(path, **held)
    with pytest.raises(Damaged, match=r"step-00000001\.npz is damaged"):
        checkpoint.read(path)


def test_a_state_that_cannot_be_kept_is_told():
    import keras

    class Own(keras.callbacks.Callback):
        def get_state(self):
            return {"seen": {1, 2}}

    with pytest.raises(UserError, match=r"callbacks\.mine: get_state must give .*Received: "):
        capture_callbacks({"own/mine": Own()})


def test_a_limit_removes_old_ones_and_never_the_last_whole_one(tmp_path):
    said = []
    states = tmp_path / "states"
    (tmp_path / "best.keras").write_bytes(b"x" * 20_000)
    saver = Saver(Policy(keep=3, limit_gb=40e-6), states, said.append)  # 8 KB each
    for number in (1, 2, 3):
        saver.save(a_state(number))
    saver.finish()
    assert sorted(p.name for p in states.iterdir()) == ["step-00000002.npz", "step-00000003.npz"]
    (tmp_path / "best.keras").write_bytes(b"x" * 30_000)
    saver.save(a_state(4))
    saver.finish()
    assert [p.name for p in states.iterdir()] == ["step-00000003.npz"]
    assert said == [
        f"warning: no checkpoint was written: '{tmp_path}' holds 0 MB, and one more of 0 MB would "
        "be beyond checkpoint.limit_gb=4e-05. Set it higher, or checkpoint.keep or checkpoint.top "
        "lower."
    ]


def test_a_file_with_two_names_counts_once(tmp_path):
    (tmp_path / "a").write_bytes(b"x" * 100)
    (tmp_path / "folder").mkdir()
    os.link(tmp_path / "a", tmp_path / "folder" / "b")
    (tmp_path / "c").write_bytes(b"x" * 10)
    assert checkpoint.size_of(tmp_path) == 110


def test_writing_does_not_hold_training_up(tmp_path, monkeypatch):
    saver = Saver(Policy(), tmp_path, print)
    going_on = threading.Event()
    plain = os.fsync

    def slow(handle):
        assert going_on.wait(10), "save waited for the disk"
        plain(handle)

    monkeypatch.setattr(os, "fsync", slow)
    saver.save(a_state())
    going_on.set()
    saver.finish()
    assert saver.newest().position.step == 1


def test_what_fails_otherwise_is_not_swallowed(tmp_path, monkeypatch):
    saver = Saver(Policy(), tmp_path, print)
    monkeypatch.setattr(np, "savez", lambda *given, **named: 1 / 0)
    saver.save(a_state())
    with pytest.raises(ZeroDivisionError):
        saver.finish()


def test_differences_between_states_are_named():
    from kerasft.training.replay import differences

    one, other = a_state(), a_state()
    assert differences(one, other) == []
    other.arrays["model/0/kernel"][3, 7] += 0.5
    other.arrays["new"] = np.zeros(1)
    other.plain["note"] = "two"
    assert differences(one, other) == [
        "new is missing", "model/0/kernel differs in 1 of 2,000 numbers, by up to 0.5",
        "note is 'one', and was 'two'",
    ]  # fmt: skip
    minus, plus = a_state(), a_state()
    minus.arrays["model/0/kernel"][0, 0], plus.arrays["model/0/kernel"][0, 0] = -0.0, 0.0
    assert len(differences(minus, plus)) == 1, "bits count"
    timed = [State(one.position, {"log": [{"loss": 1.0, "seconds": s}]}) for s in (1.0, 2.0)]
    assert differences(*timed) == []


def test_an_array_that_a_callback_goes_on_writing_into_is_copied():
    import keras

    class Own(keras.callbacks.Callback):
        counts = np.zeros(3)

        def get_state(self):
            return {"counts": self.counts}

    _, arrays = capture_callbacks({"own/mine": Own()})
    Own.counts += 1
    assert arrays["callbacks/own/mine/counts"].tolist() == [0, 0, 0]


def with_random(**changes) -> State:
    plain, arrays = capture_random()
    for name, change in changes.items():
        if "/" in name:
            arrays[name] = change(arrays[name])
        else:
            plain[name] = change(plain[name])
    return State(Position("full", 0, 0, 1), {"random": plain}, arrays)


def test_random_numbers_go_on(tmp_path):
    path = tmp_path / "step-00000001.npz"
    for draws in (0, 1, 623, 624, 625):
        random.seed(1)
        np.random.seed(1)
        [random.gauss(0, 1) for _ in range(draws)]
        np.random.standard_normal(draws)
        checkpoint.write(path, with_random())
        wanted = random.random(), random.gauss(0, 1), np.random.rand(), np.random.standard_normal()
        give_random(checkpoint.read(path))
        found = random.random(), random.gauss(0, 1), np.random.rand(), np.random.standard_normal()
        assert found == wanted


def at(place, value):
    def change(now):
        changed = now.copy()
        changed[place] = value
        return changed

    return change


@pytest.mark.parametrize("change", [
    *({"numpy": at(0, value)} for value in (625, 10**6, 2**31, 2**40, -1, 0.5, True, "1", None)),
    *({"numpy": at(1, value)} for value in (2, -1, None, "0", 0.0, True)),
    *({"numpy": at(2, value)} for value in (float("nan"), float("inf"), "0", None, [1])),
    *({"numpy": lambda now, cut=cut: now[:cut]} for cut in (0, 2)), {"numpy": lambda now: {}},
    *({"python": at(0, value)} for value in (2, 4, "3", None)),
    *({"python": at(1, value)} for value in (float("nan"), "0", [1])),
    {"python": lambda now: now[:1]}, {"python": lambda now: None},
    *({"random/python": at(624, value)} for value in (625, 2**32 - 1)),
    *({name: change} for name in ("random/python", "random/numpy") for change in (
        lambda now: now[:-1], lambda now: now.astype("int64"), lambda now: now.astype("float64"),
        lambda now: now.reshape(1, -1), lambda now: now.astype(">u4"), lambda now: now[:0],
    )),
])  # fmt: skip
def test_random_numbers_that_would_be_drawn_from_elsewhere_are_damage(tmp_path, change):
    """NumPy reads at any position that it is given: far behind its numbers the process ends."""
    path = tmp_path / "step-00000001.npz"
    checkpoint.write(path, with_random(**change))
    with pytest.raises(Damaged, match=r"it has no random numbers of (Python|NumPy)"):
        checkpoint.read(path)
    before = random.getstate(), np.random.get_state()[1].tolist()
    with pytest.raises(UserError, match="its state of the random numbers cannot be given back"):
        give_random(with_random(**change))
    assert before == (random.getstate(), np.random.get_state()[1].tolist())


def test_random_numbers_without_their_array_are_damage(tmp_path):
    path = tmp_path / "step-00000001.npz"
    for name in ("random/python", "random/numpy"):
        state = with_random()
        del state.arrays[name]
        checkpoint.write(path, state)
        with pytest.raises(Damaged):
            checkpoint.read(path)


def test_a_state_puts_nothing_in_the_place_of_methods_or_other_kinds():
    import keras

    class Own(keras.callbacks.Callback):
        usual = 0

        def __init__(self):
            super().__init__()
            self.seen, self.best, self.pair = 0, None, (1, 2)

    def given(callback, state):
        before = dict(vars(callback))
        held = {"callbacks": {"own/one": state}}
        restore_callbacks({"own/one": callback}, State(Position("full", 0, 0, 1), held, {}))
        return {n: v for n, v in vars(callback).items() if n not in before or v != before[n]}

    early = keras.callbacks.EarlyStopping("val_loss", patience=3)
    early.on_train_begin()
    assert given(early, {
        "on_epoch_end": 1, "evil": [1], "patience": {"a": "b"}, "wait": [1], "verbose": None,
        "model": 1, "_model": 1, "__class__": 1, "set_params": 1, "best_epoch": "x",
    }) == {}  # fmt: skip
    assert given(early, {"wait": 2, "best": 0.5, "stopped_epoch": 1}) == {
        "wait": 2, "best": 0.5, "stopped_epoch": 1,
    }  # fmt: skip
    assert given(Own(), {
        "on_epoch_end": 1, "seen": {"a": 1}, "pair": 5, "_model": 5, "_is_graph_network": "x",
    }) == {}  # fmt: skip
    new = {"seen": 0.5, "best": [1.0], "pair": [3, 4], "usual": 3, "came_later": [1, 2]}
    assert given(Own(), new) == {**new, "pair": (3, 4)}


@pytest.mark.parametrize("change", [
    {"best": "x"}, {"best": [1]}, {"epoch": "x"}, {"stage": 5}, {"seen": None}, {"tops": [[1]]},
    {"tops": [["x", 1]]}, {"tops": 5}, {"weights": 5}, {"weights": [np.ones(3)]},
    {"weights": [np.ones((9, 9)), None]}, {"weights": [np.array(["x"]), None]},
    {"weights": ["x", None]},
])  # fmt: skip
def test_a_best_epoch_that_is_none_is_said_at_once_not_at_the_end(change):
    import keras

    from kerasft.training.keep_best import KeepBest

    keep = KeepBest("val_loss", "min", None)
    keep.set_model(keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)]))
    keep.on_epoch_end(0, {"val_loss": 0.5})
    state = keep.get_state()
    keep.set_state(state)
    assert keep.best == 0.5
    held = {"callbacks": {"best": state | change}}
    with pytest.raises(UserError, match=r"its state of callbacks\.best cannot be given back"):
        restore_callbacks({"best": keep}, State(Position("full", 0, 0, 1), held, {}))


@pytest.mark.parametrize("change", [
    {"rows": 5}, {"rows": [5]}, {"rows": [{"epoch": 1, "loss": [1]}]}, {"epochs": [1]},
])  # fmt: skip
def test_a_log_of_something_else_is_said(change):
    from kerasft.training.epoch_log import EpochLog

    log = EpochLog(None, None)
    held = {"callbacks": {"log": {"rows": [{"epoch": 1, "stage": "all", "loss": 0.5}],
                                  "epochs": 1} | change}}  # fmt: skip
    with pytest.raises(UserError, match=r"its state of callbacks\.log cannot be given back"):
        restore_callbacks({"log": log}, State(Position("full", 0, 0, 1), held, {}))
