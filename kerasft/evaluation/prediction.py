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
    # Several batches at once, which short training steps may ask for, would be a graph for each
    # number of them.
    at_once, model.steps_per_execution = model.steps_per_execution, 1
    try:
        if not model.predict_function:
            model.make_predict_function()
            # One trace for batches of any size and width, before Keras makes some for the first.
            model.predict_function.get_concrete_function([dataset.element_spec])
        outputs = np.asarray(model.predict(dataset, verbose=0), "float32")
    finally:
        model.steps_per_execution = at_once
    back = np.empty_like(outputs)
    back[order] = outputs
    return back
