"""tf.data's threads: fixed numbers instead of its autotuning."""

from __future__ import annotations

import os
from typing import Any

# Batches that wait, made, for the step.
AHEAD = 8


def cores() -> int:
    """Return how many processor cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def untuned(dataset: Any) -> Any:
    """Return a dataset without the thread that tunes it.

    That thread looks at the dataset after 10 ms, 20 ms, 40 ms and so on, and whoever lets go of an
    iterator may wait for its next look: TensorFlow 2.21 misses to wake it, now and then. A
    validation of 2.6 s then takes 5.1 s, and a fit of a few minutes ends a minute late.

    Args:
        dataset: A `tf.data.Dataset` whose steps have fixed numbers of threads.

    Returns:
        The dataset with tuning off.
    """
    import tensorflow as tf

    options = tf.data.Options()
    options.autotune.enabled = False
    return dataset.with_options(options)
