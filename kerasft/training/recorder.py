"""Capture and restore of all that a training step depends on, for checkpoints."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from kerasft.errors import UserError
from kerasft.system.console import listing
from kerasft.system.variables import capture_variables, names_of
from kerasft.training.checkpoint import Position, Saver, State
from kerasft.training.faults import Watch
from kerasft.training.randomness import capture_random, restore_random
from kerasft.training.replay import Replay

# The callbacks that go through all stages.
OURS = ("best", "log", "watch", "updates")


@dataclass(frozen=True)
class AtStage:
    """The stage that a recorder is of.

    Args:
        name: Its name.
        began: The epoch that it began with.
        steps_per_execution: Steps of an execution.
        facts: What else is written, to be compared by who goes on.
    """

    name: str
    began: int
    steps_per_execution: int
    facts: Mapping[str, Any]


@dataclass(frozen=True)
class Remarks:
    """What a recorder tells the user, once.

    Args:
        say: Says a sentence.
        warned: The callbacks of which it was said that not all of them is kept.
    """

    say: Callable[[str], None]
    warned: set[str]


class Recorder:
    """Captures and restores the training state, and decides when to write a checkpoint.

    Args:
        model: The compiled model.
        saver: Decides and writes; `None` for a run without checkpoints.
        callbacks: Those that have a state, by name; `best`, `log`, `watch` and `updates` among
            them.
        watch: Knows which states a fault would go back to.
        replay: Compares with what an earlier process had, and nothing is written before; `None`
            where nothing is to be compared.
        stage: The stage.
        stopped: The stages that ended early.
        remarks: What the user is told.
    """

    def __init__(
        self, model: keras.Model, saver: Saver | None, callbacks: Mapping[str, Any], *,
        watch: Watch, replay: Replay | None, stage: AtStage, stopped: list[str], remarks: Remarks,
    ):
        self.model, self.saver, self.callbacks = model, saver, callbacks
        self.watch, self.replay = watch, replay
        self.stage, self.stopped, self.remarks = stage, stopped, remarks
        self.made_with = {name: words(one) for name, one in callbacks.items()}
        # Looked at after each step, so reckoned once.
        variables = [*model.variables, *model.optimizer.variables]
        self.size = sum(int(np.prod(v.shape)) * 4 for v in variables)
        if saver is not None:
            saver.begin(self.size)

    def begin(self, position: Position, resumed: State | None) -> None:
        """Note the state that the stage is taken up with."""
        if self.watch.wants(0):
            self.watch.note(resumed or self._state(position))

    def at(self, epoch: int, step: int) -> None:
        """Write a checkpoint if one is due, and stop if that was asked for.

        Args:
            epoch: Epochs that are done, of all stages.
            step: Steps of the next one that are done.
        """
        position = Position(self.stage.name, self.stage.began, epoch, step)
        if self.watch.wants(step):
            self.watch.note(self._state(position))
        self._at(position)

    def close(self, following: str, epoch: int) -> None:
        """The same at the end of the stage, whose optimizer and callbacks nobody needs any more.

        Args:
            following: The next stage; `""` after the last one.
            epoch: Epochs that are done.
        """
        self.callbacks = {name: self.callbacks[name] for name in OURS}
        self.watch.end()
        self._at(Position(following, epoch, epoch, 0))

    def _at(self, position: Position) -> None:
        if self.saver is None:
            return
        if self.replay is not None and not self.replay.done:
            self._compare(position)
        elif self.saver.due(self.stage.steps_per_execution, self.size):
            self._warn()
            self.saver.save(self.watch.lasting() or self._state(position))
        self.saver.stop_if_asked(position)

    def compare(self, epoch: int, step: int) -> None:
        """Compare before a validation, where a run that was stopped in it stands; see `at`."""
        self._compare(Position(self.stage.name, self.stage.began, epoch, step))

    def _compare(self, position: Position) -> None:
        replay = self.replay
        if replay is not None and not replay.done and replay.ends_at(position):
            replay.compare(self._state(position))

    def _warn(self) -> None:
        """Say once of each of the user's callbacks what of it a checkpoint does not hold."""
        for name, callback in self.callbacks.items():
            shown = name.removeprefix("own/")
            if shown == name or name in self.remarks.warned or hasattr(callback, "get_state"):
                continue
            if lost := dropped(callback, self.made_with[name]):
                self.remarks.warned.add(name)
                self.remarks.say(
                    f"warning: callbacks.{shown}: checkpoints do not hold its {listing(lost)}. "
                    "Give it get_state and set_state, or a run that goes on has it as it was made."
                )

    def _state(self, position: Position) -> State:
        plain, arrays = capture_callbacks(self.callbacks)
        arrays |= capture_variables("model", self.model.variables)
        if position.epoch > position.began or position.step:
            arrays |= capture_variables("optimizer", self.model.optimizer.variables)
            arrays |= capture_variables("metrics", self.model.metrics_variables)
        drawn, more = capture_random()
        held = {"callbacks": plain, "stopped": list(self.stopped), "random": drawn,
                **self.stage.facts}
        return State(position, held, arrays | more)

    def restore(self, state: State) -> None:
        """Give model, optimizer, metrics and callbacks back what they were."""
        restore_variables("model", self.model.variables, state)
        restore_variables("optimizer", self.model.optimizer.variables, state)
        restore_variables("metrics", self.model.metrics_variables, state)
        restore_callbacks(self.callbacks, state)
        give_random(state)


def restore_variables(kind: str, variables: Sequence[Any], state: State) -> None:
    """Give variables the values that `capture_variables` took.

    Raises:
        UserError: If they are others: the state is of another network or optimizer.
    """
    wanted = names_of(kind, variables)
    there = [name for name in state.arrays if name.split("/")[0] == kind]
    if wanted != there or any(
        tuple(v.shape) != state.arrays[n].shape for n, v in zip(wanted, variables, strict=True)
    ):
        apart = sorted(set(wanted).symmetric_difference(there))[:3]
        raise UserError(
            f"The checkpoint does not fit: its {kind} has other variables than that of this run "
            f"({', '.join(apart) or 'of other shapes'}). The config or a version has changed."
        )
    for name, variable in zip(wanted, variables, strict=True):
        variable.assign(state.arrays[name])


def capture_callbacks(callbacks: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Return the states of callbacks as plain values, and the arrays taken out of them."""
    arrays: dict[str, np.ndarray] = {}
    plain = {}
    for name, callback in callbacks.items():
        state = _state_of(callback)
        if not _is_plain(state):
            raise UserError(
                f"callbacks.{name.removeprefix('own/')}: get_state must give numbers, words, "
                "arrays, and lists and dicts (with words as keys) of them. Received: "
                f"{str(state)[:100]}."
            )
        plain[name] = _taken_out(state, f"callbacks/{name}", arrays)
    return plain, arrays


def restore_callbacks(callbacks: Mapping[str, Any], state: State) -> None:
    """Give callbacks the states that `capture_callbacks` took."""
    for name, callback in callbacks.items():
        with _belonging(f"callbacks.{name.removeprefix('own/')}"):
            held = _put_back(state.plain.get("callbacks", {}).get(name), state.arrays)
            if held is None:
                continue
            if hasattr(callback, "set_state"):
                callback.set_state(held)
            else:
                vars(callback).update(_admissible(callback, held))


def _admissible(callback: keras.callbacks.Callback, held: Mapping[str, Any]) -> dict[str, Any]:
    """Return of a state what `_state_of` takes down, and no more.

    A checkpoint may come from anywhere; it must not turn the path that a callback writes to, nor
    put something else in the place of a method. What a callback of Keras has not got when it is
    made is none of its state; one of the user's own may get it later.
    """
    now, ours = vars(callback), _is_known(callback)
    found = {}
    for name, value in held.items():
        if name in _KERAS_OWN or _is_of_the_class(callback, name) or isinstance(value, str):
            continue
        if name not in now:
            if not ours:
                found[name] = value
        elif _is_plain(now[name]) and (
            _kind(value) == _kind(now[name]) or now[name] is None or (value is None and not ours)
        ):
            found[name] = tuple(value) if isinstance(now[name], tuple) and value else value
    return found


# What Keras itself sets in each callback.
_KERAS_OWN = ("params", "_model")


def _is_known(callback: keras.callbacks.Callback) -> bool:
    """Whether a callback is one of Keras or kerasft, of which it is known what they hold."""
    return type(callback).__module__.partition(".")[0] in ("keras", "kerasft")


def _is_of_the_class(callback: keras.callbacks.Callback, name: str) -> bool:
    """Whether a name is that of a method or property, and no default of an attribute."""
    found = getattr(type(callback), name, None)
    return callable(found) or hasattr(found, "__get__")


def _kind(value: object) -> str:
    """Return what a plain value is: a word, a number, a list, a mapping, an array."""
    if isinstance(value, np.ndarray) and value.ndim:
        return "array"
    if isinstance(value, np.generic | np.ndarray):
        return "number" if value.dtype.kind in "biuf" else "word"
    kinds = {str: "word", list: "list", tuple: "list", dict: "mapping", type(None): "nothing"}
    return kinds.get(type(value), "number")


@contextmanager
def _belonging(what: str) -> Iterator[None]:
    """Say in words that a state is none of what it is given to."""
    try:
        yield
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise UserError(
            f"The checkpoint does not fit: its state of {what} cannot be given back "
            f"({type(error).__name__}: {error}). The config or a version has changed, or it is "
            "damaged."
        ) from error


def give_random(state: State) -> None:
    """Have the random numbers of Python and NumPy go on where the state found them."""
    with _belonging("the random numbers"):  # checkpoints of earlier versions have none
        restore_random(state.plain.get("random", {}), state.arrays)


def words(callback: keras.callbacks.Callback) -> dict[str, str]:
    """Return the attributes of a callback that are words or paths, as text."""
    return {n: str(v) for n, v in vars(callback).items() if isinstance(v, str | os.PathLike)}


def dropped(callback: keras.callbacks.Callback, made_with: Mapping[str, str]) -> list[str]:
    """Name the attributes of a user's callback that are its state, maybe, and that nobody keeps.

    Args:
        callback: The callback; of Keras' own it is known what they forget.
        made_with: Its words when it was made. Only those that have changed since are its state.

    Example:
        >>> seen = keras.callbacks.LambdaCallback()
        >>> dropped(seen, {})
        []
    """
    if _is_known(callback):
        return []
    now, usual = words(callback), {*vars(keras.callbacks.Callback()), "params"}
    stateless = (type, keras.Layer, *map(type, (dropped, len, random.seed)))
    return [
        name for name, value in vars(callback).items()
        if name not in usual and not isinstance(value, stateless) and (
            now[name] != made_with.get(name) if name in now else not _is_plain(value)
        )
    ]


def _state_of(callback: keras.callbacks.Callback) -> Any:
    """Return what `get_state` gives, or all attributes that are plain values or arrays.

    Not words: they are what the callback was made with, paths among them, and may have changed.
    """
    if hasattr(callback, "get_state"):
        return callback.get_state()
    return {
        name: value for name, value in vars(callback).items()
        if name != "params" and not isinstance(value, str) and _is_plain(value)
    }


def _is_plain(value: object) -> bool:
    if isinstance(value, dict):
        return all(isinstance(key, str) and _is_plain(one) for key, one in value.items())
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, bool | int | float | str | np.generic | np.ndarray)


def _taken_out(value: object, path: str, arrays: dict[str, np.ndarray]) -> Any:
    if isinstance(value, dict):
        return {key: _taken_out(one, f"{path}/{key}", arrays) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_taken_out(one, f"{path}/{place}", arrays) for place, one in enumerate(value)]
    if isinstance(value, np.ndarray | np.generic):
        # It is written while the run goes on. Ours are replaced, never written into; a copy of the
        # best weights would take as much memory again.
        arrays[path] = np.array(value) if path.startswith("callbacks/own/") else np.asarray(value)
        return {"array": path}
    return value


def _put_back(value: object, arrays: Mapping[str, np.ndarray]) -> Any:
    if isinstance(value, dict):
        if list(value) == ["array"]:
            return arrays[value["array"]]
        return {key: _put_back(one, arrays) for key, one in value.items()}
    if isinstance(value, list):
        return [_put_back(one, arrays) for one in value]
    return value
