"""tf.data as it is used here: fixed numbers of threads, functions traced as they are written."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import tensorflow as tf

# Batches that wait, made, for the step.
AHEAD = 8


def cores() -> int:
    """Return how many processor cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def untuned(dataset: tf.data.Dataset) -> Any:
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


def mapped(dataset: tf.data.Dataset, function: Callable, **settings: Any) -> Any:
    """Return a dataset mapped by a function that is traced as it is written.

    `Dataset.map` has AutoGraph translate a function and all that it calls, for the sake of Python's
    `if` and `for` on tensors. Ours use TensorFlow's own, and decoding images was traced in 4 s
    instead of 1.

    Args:
        dataset: A `tf.data.Dataset`.
        function: A function in TensorFlow ops alone.
        settings: For `Dataset.map`.

    Returns:
        The mapped dataset.
    """
    import tensorflow as tf

    return dataset.map(tf.autograph.experimental.do_not_convert(function), **settings)


def prefetched(dataset: tf.data.Dataset, device: str) -> Any:
    """Return a dataset whose elements are copied to a device before they are asked for.

    Args:
        dataset: A `tf.data.Dataset` of numbers: texts cannot lie on a GPU.
        device: Such as `"/GPU:0"`.

    Returns:
        The dataset; nothing can be put behind it any more.
    """
    import tensorflow as tf

    # Two: the step at work has one, and the next is there when it ends.
    return dataset.apply(tf.data.experimental.prefetch_to_device(device, buffer_size=2))
