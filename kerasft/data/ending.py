"""When a step of augmentation ends: the same setting, `stop`, for every step that has one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Self

from kerasft.system.recorded import is_number


def problem(stop: object) -> str:
    """Say what is wrong with a `stop`, or return `""`.

    Args:
        stop: The share of all epochs after which a step is left out, above 0 and at most 1, which
            is never; or a negative whole number, of the last epochs that are without it.

    Example:
        >>> problem(0.9), problem(-5), problem(2)[-11:]
        ('', '', 'Received: 2')
    """
    if is_number(stop) and (
        0 < stop <= 1 or (stop < 0 and stop == int(stop))
    ):
        return ""
    return (
        "stop must be a share of the epochs, above 0 and at most 1 (1 never stops), or a negative "
        f"whole number: -5 leaves the last five epochs without. Received: {stop}"
    )


def check(stop: object) -> None:
    """Raise `ValueError` unless `stop` is one, see `problem`."""
    if said := problem(stop):
        raise ValueError(said)


def until(stop: float, epochs: int) -> int:
    """Return the epoch, counted from 0, from which on a step is left out.

    A share is rounded down, so that at least the last epoch is without.

    Args:
        stop: See `problem`.
        epochs: How many there are, of all stages together.

    Example:
        >>> until(0.9, 20), until(0.9, 3), until(-2, 20), until(1.0, 20), until(-9, 3)
        (18, 2, 18, 20, 0)
    """
    if stop < 0:
        return max(epochs + int(stop), 0)
    return int(stop * epochs + 1e-6)


def ends(steps: Mapping[str, Any], epochs: int | None) -> dict[str, int]:
    """Return from which epoch on each step is left out, of those that are at all.

    Args:
        steps: Steps of augmentation by name.
        epochs: The epochs that are planned, of all stages together; `None` where that is not
            known, and none ends.
    """
    if epochs is None:
        return {}
    found = {name: until(getattr(step, "stop", 1.0), epochs) for name, step in steps.items()}
    return {name: epoch for name, epoch in found.items() if epoch < epochs}


class Ending:
    """What is changed by steps, each of which may end: a dataclass with `steps` and `epochs`."""

    steps: Mapping[str, Any]
    epochs: int | None

    @property
    def ends(self) -> dict[str, int]:
        """From which epoch on each step is left out, of those that end."""
        return ends(self.steps, self.epochs)

    def planned(self, epochs: int) -> Self:
        """Return the same for a run that ends before an epoch."""
        return replace(self, epochs=epochs)  # type: ignore[type-var]
