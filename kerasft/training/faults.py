"""Training faults: what is done when the loss is NaN, infinite, or blows up."""

from __future__ import annotations

import json
import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import keras
import numpy as np

from kerasft.errors import UserError, epochs_and_steps
from kerasft.system.console import listing
from kerasft.system.files import appending
from kerasft.training.checkpoint import State
from kerasft.training.lagging import lag_of

ACTIONS = ("stop", "skip", "rollback")
MEMORY = ("stop", "halve")
# Of so many losses the usual one is the median; fewer than those say nothing yet.
RECENT, FEW = 50, 10


class Policy:
    """What a run does about what goes wrong while it trains.

    Args:
        action: What follows on a loss that is no number: `"stop"` ends the run; `"skip"` goes back
            to the last good step that was noted, and on without the batch; `"rollback"` goes back
            there, and on with a lower learning rate.
        limit: The most faults of a run; one more ends it.
        lower: What each rollback multiplies the learning rate with.
        blow_up: A loss beyond so many times the usual one (the median of the last 50 steps or of
            the first 10, whichever is larger) is a fault too; `null` for none.
        every: Every how many steps a good one is noted, which copies weights and optimizer in
            memory; at the start of an epoch too. Nothing is noted with `"stop"`.
        stall_minutes: After how many minutes without a step the run says where it stands; `null`
            for never.
        memory: What follows when memory runs out: `"stop"`, or `"halve"` to restart
            with half of the batch and twice as many `optimizer.gradient_accumulation_steps`.
        lag: After how many further steps the loss of one is looked at; `null` for one where a GPU
            trains alone, so that it need not wait for Python, and none elsewhere. What follows is
            the same: nothing is noted, written or validated before it was looked at.

    Raises:
        UserError: If a value is none of these.

    Example:
        >>> Policy(action="rollback", lower=0.5, blow_up=20).limit
        3
    """

    def __init__(
        self, *, action: Literal["stop", "skip", "rollback"] = "stop", limit: int = 3,
        lower: float = 0.5, blow_up: float | None = None, every: int = 100,
        stall_minutes: float | None = 10, memory: Literal["stop", "halve"] = "stop",
        lag: int | None = None,
    ):
        if action not in ACTIONS or memory not in MEMORY:
            raise UserError(
                f"faults.action must be one of {', '.join(ACTIONS)}, and faults.memory one of "
                f"{', '.join(MEMORY)}. Received: action={action!r}, memory={memory!r}."
            )
        if limit < 1 or every < 1 or not 0 < lower < 1:
            raise UserError(
                "faults.limit and faults.every must be at least 1, and faults.lower between 0 and "
                f"1. Received: limit={limit}, every={every}, lower={lower}."
            )
        if (blow_up is not None and not blow_up > 1) or (
            stall_minutes is not None and not stall_minutes > 0
        ):
            raise UserError(
                "faults.blow_up must be above 1 and faults.stall_minutes above 0, or null. "
                f"Received: blow_up={blow_up}, stall_minutes={stall_minutes}."
            )
        self.action, self.limit, self.lower, self.blow_up = action, limit, lower, blow_up
        if lag is not None and lag < 0:
            raise UserError(f"faults.lag must not be negative, or null. Received: lag={lag}.")
        self.every, self.stall_minutes, self.memory = every, stall_minutes, memory
        self.lag = lag


class Fault(Exception):
    """A step had a loss that a run does not go on from.

    Args:
        loss: The loss.
        epoch: The epoch, counted from 0.
        first: The first step of the execution.
        last: Its last one.
    """

    def __init__(self, loss: float, epoch: int, first: int, last: int):
        super().__init__(f"the loss was {loss} at step {last + 1} of epoch {epoch + 1}")
        self.loss, self.epoch, self.first, self.last = loss, epoch, first, last


class Watch(keras.callbacks.Callback):
    """Looks at the loss of each step, and knows what is to be done about a bad one.

    Args:
        policy: What is done.
        ids: The names of the training examples, in order.
        directory: Where `faults.jsonl` is written; `None` writes none.
        say: Says a sentence to the user.
    """

    def __init__(
        self, policy: Policy, ids: Sequence[str], directory: Path | None,
        say: Callable[[str], None],
    ):
        super().__init__()
        self.policy, self.ids, self.directory, self.say = policy, ids, directory, say
        self.rate, self.skipped, self.count = 1.0, set[int](), 0
        self.carefully = False  # one step at a time, to find the one at fault
        self.notes: list[State] = []  # good states, the newest last
        self.reached = (0, -1)  # epoch and step of the last fault
        self.losses: list[float] = []  # the first and the last ones of the stage
        self.lag = 0
        # Last step, loss and sums of executions that were not looked at, as tensors.
        self.late: deque[tuple[int, Any, Any]] = deque()
        self.before: tuple[float, float] | None = None
        self.batches: Any = None
        self.place: Callable[[int, int], int] = lambda epoch, step: step
        self.steps_per_execution, self.epoch = 1, 0

    def begin(
        self, batches: Any, place: Callable[[int, int], int], steps_per_execution: int
    ) -> None:
        """Take up a stage, or go on with it.

        Args:
            batches: Its batches.
            place: Gives the number of the batch that an epoch has at a step.
            steps_per_execution: Steps of an execution.
        """
        self.batches, self.place, self.steps_per_execution = batches, place, steps_per_execution
        self.lag = lag_of(self.policy.lag)
        self.late.clear()

    def end(self) -> None:
        """Forget what is of the stage alone."""
        self.notes.clear()
        self.losses.clear()
        self.carefully = False

    def get_state(self) -> dict[str, Any]:
        """Return what decides how the run goes on."""
        return {
            "rate": self.rate, "skipped": sorted(self.skipped), "count": self.count,
            "carefully": self.carefully, "reached": list(self.reached),
            "losses": list(self.losses),
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Go on from what `get_state` gave."""
        self.rate, self.count, self.carefully = state["rate"], state["count"], state["carefully"]
        self.skipped, self.losses = set(state["skipped"]), list(state["losses"])
        self.reached = tuple(state["reached"])

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch, self.before = epoch, None

    def on_train_batch_begin(self, batch, logs=None):
        if self.policy.blow_up is not None and self.before is None:
            self.before = self._sums()

    def on_epoch_end(self, epoch, logs=None):
        self.settle()

    def on_train_batch_end(self, batch, logs=None):
        loss = (logs or {}).get("loss")
        if loss is None:
            return
        if not self.lag:
            self._look(batch, loss)
            return
        import tensorflow as tf

        # A tensor keeps what the variable was: the next step adds to a copy.
        unread = None if self.policy.blow_up is None else tuple(
            tf.convert_to_tensor(one.value) for one in self._tracked()
        )
        self.late.append((batch, loss, unread))
        if len(self.late) > self.lag:
            self._look(*self.late.popleft())

    def settle(self) -> None:
        """Look at all steps that were not looked at yet.

        To be called before the state of the run is kept or shown: it is a good one then.

        Raises:
            Fault: If one of them was bad.
        """
        while self.late:
            self._look(*self.late.popleft())

    def _look(self, batch: int, loss: Any, unread: Any = None) -> None:
        """Look at the loss of an execution that ended with a step."""
        loss = float(loss)
        if math.isfinite(loss) and self.policy.blow_up is not None:
            (total, count), now = self.before or (0.0, 0.0), self._sums(unread)
            self.before = now
            loss = (now[0] - total) / max(now[1] - count, 1e-9)
            if math.isfinite(loss) and loss <= self.policy.blow_up * self._usual():
                self.losses.append(loss)
                if len(self.losses) > FEW + RECENT:
                    del self.losses[FEW]
                return
        elif math.isfinite(loss):
            return
        self.late.clear()  # they come after it
        raise Fault(loss, self.epoch, batch + 1 - self.steps_per_execution, batch)

    def _sums(self, unread: Any = None) -> tuple[float, float]:
        """Return the loss of all examples of the epoch so far, and how many they are."""
        total, count = unread or self._tracked()
        return float(total), float(count)

    def _tracked(self) -> tuple[Any, Any]:
        tracker = self.model._loss_tracker
        return tracker.total, tracker.count

    def _usual(self) -> float:
        """Return the usual loss; without limit as long as there is none."""
        if len(self.losses) < FEW:
            return math.inf
        usual = max(float(np.median(part)) for part in (self.losses[:FEW], self.losses[-RECENT:]))
        return usual if usual > 0 else math.inf

    def wants(self, steps: int) -> bool:
        """Whether the state after so many steps of an epoch is to be noted."""
        executions = -(-self.policy.every // self.steps_per_execution)
        span = executions * self.steps_per_execution
        return self.policy.action != "stop" and steps % span == 0

    def note(self, state: State) -> None:
        """Hold a state to go back to, unless its weights are no numbers already."""
        if all(np.isfinite(a).all() for n, a in state.arrays.items() if n.startswith("model/")):
            if self.notes and self.notes[-1].position == state.position:
                self.notes.pop()
            self.notes = [*self.notes[-1:], state]

    def lasting(self) -> State | None:
        """Return the state to be written instead of the present one, if any.

        Where a rollback leads depends on the states that it can go back to, and a run that goes on
        must go back to the same.
        """
        return self.notes[0] if self.policy.action == "rollback" and self.notes else None

    def answer(self, fault: Fault) -> State:
        """Return the state to go back to, having changed what shall be otherwise from there.

        Args:
            fault: What happened.

        Raises:
            UserError: If the run shall end.
        """
        where = f"step {fault.last + 1} of epoch {fault.epoch + 1}"
        what = "became" if not math.isfinite(fault.loss) else "blew up to"
        if self.notes and fault.last > fault.first:
            self.carefully = True
            return self._changed()
        examples = self._examples(fault)
        self._write(fault, examples)
        message = (
            f"The training loss {what} {fault.loss:.4g} at {where}. Its batch holds "
            f"{listing(examples, 3)}; faults.jsonl names all of them. "
        )
        if not self.notes:
            raise UserError(
                f"{message}Lower optimizer.learning_rate (a tenth is a good try), set "
                "precision=float32, or have such batches left out (faults=skip) or the rate "
                "lowered where it happens (faults=rollback)."
            )
        self.count += 1
        if self.count > self.policy.limit:
            raise UserError(
                f"{message}This is one fault more than faults.limit={self.policy.limit} allows. "
                "Lower optimizer.learning_rate, or look at these examples."
            )
        reached, self.reached = self.reached, (fault.epoch, fault.last)
        if self.policy.action == "rollback" and self.reached <= reached:
            # What was noted last was bad already, though its numbers were some.
            del self.notes[1:]
        at = self.notes[-1].position
        going = f"going on after {epochs_and_steps(at.epoch, at.step)}"
        if self.policy.action == "skip":
            self.skipped.add(self.place(fault.epoch, fault.last))
            self.say(f"warning: {message}It is left out; {going}")
        else:
            self.rate *= self.policy.lower
            self.say(f"warning: {message}The learning rate is multiplied by {self.rate:g}; {going}")
        return self._changed()

    def _changed(self) -> State:
        """Return the last noted state, all of them with what shall be otherwise from there."""
        for place, noted in enumerate(self.notes):
            callbacks = dict(noted.plain["callbacks"])
            then = callbacks["watch"]["losses"]
            callbacks["watch"] = self.get_state() | {"losses": then}
            self.notes[place] = replace(noted, plain=noted.plain | {"callbacks": callbacks})
        return self.notes[-1]

    def _examples(self, fault: Fault) -> list[str]:
        places = [self.place(fault.epoch, n) for n in range(fault.first, fault.last + 1)]
        return [self.ids[i] for n in places for i in self.batches.order.batch(n)[1]]

    def _write(self, fault: Fault, examples: list[str]) -> None:
        if self.directory is None:
            return
        row = {
            "epoch": fault.epoch + 1, "step": fault.last + 1, "loss": str(fault.loss),
            "action": self.policy.action, "examples": examples,
        }
        with appending(self.directory / "faults.jsonl") as file:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
