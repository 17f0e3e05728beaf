"""The end of a step told without waiting for it: a GPU goes on while Python reads the step before.

A GPU takes orders and carries them out later. Who reads a loss waits until it is computed, and the
GPU then waits in its turn until Python has ordered the next step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np

from kerasft.distributed.group import current
from kerasft.system.accelerators import gpus


def lag_of(wanted: int | None) -> int:
    """Return after how many further executions the loss of one is read.

    Args:
        wanted: What the config says; `None` for one where a GPU trains alone, else none: on a
            processor the loss is there when the step is done, and the processes of a group must
            not differ.
    """
    if wanted is not None:
        return wanted
    return 1 if gpus() and current().strategy is None else 0


def end_of_step(listed: keras.callbacks.CallbackList) -> Callable[[int, Mapping[str, Any]], None]:
    """Return what tells callbacks the end of a step, and reads no metrics for those of kerasft.

    `CallbackList` makes numbers of all metrics first, even where nobody looks at them.

    Args:
        listed: The callbacks. Those of others get numbers, as ever; so one of them that listens to
            each step has the GPU wait after all.

    Returns:
        A function of the step and the metrics.
    """
    listening = [one for one in listed.callbacks if _listens(one)]

    def tell(step: int, logs: Mapping[str, Any]) -> None:
        numbers = None
        for one in listening:
            if type(one).__module__.startswith("kerasft."):
                one.on_train_batch_end(step, logs)
                continue
            if numbers is None:
                numbers = {name: float(np.asarray(value)) for name, value in logs.items()}
            one.on_train_batch_end(step, numbers)

    return tell


def _listens(callback: keras.callbacks.Callback) -> bool:
    return any(
        getattr(getattr(callback, name), "__func__", None)
        is not getattr(keras.callbacks.Callback, name)
        for name in ("on_train_batch_end", "on_batch_end")
    )
