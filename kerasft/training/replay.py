"""The last steps of a run done again, and their outcome compared with the first one."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from kerasft.errors import UserError
from kerasft.training.checkpoint import Position, State


class Replay:
    """Compares the state of a run with the one that an earlier process wrote at the same place.

    Args:
        wanted: What was written.
        say: Prints a line.
    """

    def __init__(self, wanted: State, say: Callable[[str], None]):
        self.wanted, self.say, self.done = wanted, say, False

    def ends_at(self, position: Position) -> bool:
        """Whether this is the place."""
        return position == self.wanted.position

    def compare(self, found: State) -> None:
        """Compare, to the last bit.

        Raises:
            UserError: If anything differs, with what and by how much.
        """
        self.done = True
        if apart := differences(found, self.wanted):
            more = f" and {len(apart) - 3} more" if len(apart) > 3 else ""
            raise UserError(
                f"The steps before the last checkpoint, done again, gave another state: "
                f"{'; '.join(apart[:3])}{more}. Something differs from when they ran first: the "
                "machine, a version, the number of threads, or a callback that is not "
                "repeatable. `kerasft resume` without --verify goes on all the same."
            )
        self.say(
            f"verified: the steps before the last checkpoint, done again, gave the same "
            f"{len(found.arrays):,} arrays and the same log to the last bit"
        )

    def require_done(self) -> None:
        """See that the run came by the place.

        Raises:
            UserError: If it did not: it went another way.
        """
        if not self.done:
            at = self.wanted.position
            raise UserError(
                "The steps before the last checkpoint, done again, led elsewhere: the run did not "
                f"come by epoch {at.epoch}, step {at.step} of stage {at.stage!r}. `kerasft resume` "
                "without --verify goes on all the same."
            )


def differences(found: State, wanted: State) -> list[str]:
    """Say what differs between two states, but for times and faults.

    Args:
        found: A state.
        wanted: Another.

    Returns:
        A phrase for each thing.
    """
    said = [
        f"{name} is {'missing' if name in wanted.arrays else 'new'}"
        for name in sorted({*found.arrays} ^ {*wanted.arrays})
    ]
    for name in found.arrays.keys() & wanted.arrays.keys():
        one, other = found.arrays[name], wanted.arrays[name]
        if one.shape != other.shape or one.dtype != other.dtype:
            said.append(f"{name} has another shape or type")
        elif one.tobytes() != other.tobytes():
            # Bits, since -0 and NaN are values too; counted where the numbers differ.
            count = int(np.sum(one != other))
            far = float(np.max(np.abs(one.astype("float64") - other.astype("float64"))))
            said.append(f"{name} differs in {count:,} of {one.size:,} numbers, by up to {far:.3g}")
    now, then = dict(_leaves(found.plain)), dict(_leaves(wanted.plain))
    return said + [
        f"{name} is {now.get(name, 'nothing')}, and was {then.get(name, 'nothing')}"
        for name in sorted({*now, *then}) if now.get(name) != then.get(name)
    ]


def _leaves(value: object, path: str = "") -> Iterator[tuple[str, str]]:
    """Yield what a plain value holds, without times; `repr` makes numbers that are none equal."""
    if isinstance(value, dict):
        for key, one in value.items():
            # Keras' callbacks hold times under such names. And what faults came later, a state
            # that they went back to knows.
            if key not in ("seconds", "watch") and "time" not in key:
                yield from _leaves(one, f"{path}/{key}" if path else key)
    elif isinstance(value, list | tuple):
        for place, one in enumerate(value):
            yield from _leaves(one, f"{path}/{place}")
    elif value is not None:  # what Keras' callbacks set when they first need it
        yield path, repr(value)
