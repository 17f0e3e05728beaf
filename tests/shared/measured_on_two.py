"""Measures a network on one device and on two, and prints what came out, as JSON.

A process of its own, since a processor is parted into two devices before TensorFlow does anything.
"""

import json

import tensorflow as tf

tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)

import numpy as np  # noqa: E402

from kerasft.distributed import group  # noqa: E402
from kerasft.distributed.cluster import Cluster  # noqa: E402
from tests.distributed.test_shared_measuring import (  # noqa: E402
    examples,
    measured,
    network,
    tagged,
    tagger,
)


def main():
    """Print whether both agree, and on which device each weight was read."""
    two = group.form("mirrored")
    store, targets = examples(11)
    with two.scope():
        model, words = network(), tagger()
    alone, _ = measured(store, targets, model=model)
    both, _ = measured(store, targets, two, model)
    step = vars(model)["_kerasft_measure"][-1][1]
    read = sorted(
        tensor.device.rpartition("device:")[2]
        for trace in step._list_all_concrete_functions() for tensor in trace.captured_inputs
        if tensor.dtype == tf.resource
    )
    # Of two processes with two devices each what one has to say counts once.
    of_two = group.Group(two.strategy, Cluster(("a:1", "b:2"), 1, "a test"), 4)
    print(json.dumps({
        "said": two.said, "devices": list(two.devices), "read": read,
        "loss": [alone.loss, both.loss],
        "words": [tagged(words, loss=4, most=4).loss,
                  tagged(words, loss=4, most=2, group=two).loss],
        "same": all(
            np.array_equal(alone.rows.row(i)[name], both.rows.row(i)[name])
            for i in range(11) for name in alone.rows.columns
        ),
        "summed": of_two._summed(np.array([7, 2**31 - 1, -5], "int32")).tolist(),
    }))  # fmt: skip


if __name__ == "__main__":
    main()
