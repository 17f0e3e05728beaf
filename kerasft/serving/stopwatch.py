"""Times one engine: a script by itself, which takes orders line by line.

    python -P stopwatch.py ENGINE MODEL INPUTS OUTPUTS THREADS

ENGINE is `session`, for the folder of a SavedModel, or `onnx`, for a file of that kind. INPUTS is
an `.npz` file with arrays named `BATCH/NAME`, where NAME is what the engine calls an input;
OUTPUTS the names of the outputs, with commas between. THREADS is how many an operation may take, 0
for all cores. It says `ready` and the seconds that loading took; then each line of its input is
`BATCH SECONDS`, and it answers how many seconds each run took in that time, as a JSON list.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

import numpy as np

from kerasft.system import heap


def session(model: str, outputs: list[str], threads: int):
    """Return what runs a SavedModel, as a server loads it."""
    import importlib.util

    import tensorflow as tf

    found = importlib.util.find_spec("tensorflow_text")
    if found is not None and found.submodule_search_locations:
        ops = Path(found.submodule_search_locations[0], "python", "ops")
        for library in sorted(ops.glob("_*.so")):
            tf.load_op_library(str(library))
    v1 = tf.compat.v1
    config = v1.ConfigProto(
        intra_op_parallelism_threads=threads, inter_op_parallelism_threads=threads
    )
    made = v1.Session(graph=tf.Graph(), config=config)
    v1.saved_model.load(made, [v1.saved_model.tag_constants.SERVING], model)

    def runner(inputs):
        # Made once: a server does not look names up for each request either.
        call = made.make_callable(outputs, feed_list=list(inputs))
        values = list(inputs.values())
        return lambda: call(*values)

    return runner


def onnx(model: str, outputs: list[str], threads: int):
    """Return what runs an ONNX file."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    made = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return lambda inputs: lambda: made.run(outputs, inputs)


def main(engine: str, model: str, inputs: str, outputs: str, threads: str) -> None:
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
    heap.keep()  # as `kerasft serve` does
    began = time.perf_counter()
    runner = {"session": session, "onnx": onnx}[engine](model, outputs.split(","), int(threads))
    print("ready", time.perf_counter() - began, flush=True)
    batches: dict[str, dict[str, np.ndarray]] = {}
    with np.load(inputs, allow_pickle=False) as file:
        for key in file.files:
            size, _, name = key.partition("/")
            value = file[key]
            # Texts come as arrays of bytes, and go in as objects.
            batches.setdefault(size, {})[name] = (
                value.astype(object) if value.dtype.kind == "S" else value
            )
    runs = {size: runner(given) for size, given in batches.items()}
    for run in runs.values():
        run()  # the first run of a shape makes its buffers
    for line in sys.stdin:
        size, seconds = line.split()
        run, end = runs[size], time.perf_counter() + float(seconds)
        taken: list[float] = []
        while not taken or time.perf_counter() < end:
            began = time.perf_counter()
            run()
            taken.append(time.perf_counter() - began)
        print(json.dumps(taken), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
