"""Running a network over a data set."""

from __future__ import annotations

from typing import Any

import numpy as np


def predict(model: Any, dataset: Any, order: np.ndarray) -> np.ndarray:
    """Return the network's outputs for a whole data set, in the order of its examples.

    Args:
        model: A Keras model.
        dataset: A `tf.data.Dataset` of inputs, in batches.
        order: `int64[N]`, the index of each example as it comes.

    Returns:
        `float32[N, units]`.
    """
    outputs = np.asarray(model.predict(dataset, verbose=0), "float32")
    back = np.empty_like(outputs)
    back[order] = outputs
    return back
