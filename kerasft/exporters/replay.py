"""Runs a SavedModel as a server does: a script by itself, with TensorFlow and NumPy alone.

    python -I replay.py EXPORT REQUEST RESPONSE

EXPORT is the folder of a SavedModel. REQUEST is a JSON file with the raw `inputs` (name to a list
of base64 strings), how many of them to send one by one (`singly`) and how many at once
(`batch`). RESPONSE is the .npz file to write, with the outputs under `batched/NAME` and
`singly/NAME`.

It loads the artifact through a session, as the C++ loader does: artifacts are known that load with
`tf.saved_model.load` and fail there. Keras and kerasft are barred from this process, since a server
has neither.
"""

from __future__ import annotations

import base64
import importlib.util
import json
import os
import sys
from pathlib import Path

import numpy as np

BARRED = ("keras", "keras_hub", "tf_keras", "kerasft")


class Bar:
    """Finds every package but those that a server does not have, as if they weren't installed."""

    def __init__(self, finders):
        self.finders = list(finders)

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in BARRED:
            return None
        found = (finder.find_spec(name, path, target) for finder in self.finders)
        return next((spec for spec in found if spec is not None), None)


def register_text_ops() -> None:
    """Register TensorFlow Text's ops, as a server does: its Python package would import Keras."""
    import tensorflow as tf

    found = importlib.util.find_spec("tensorflow_text")
    if found is None or not found.submodule_search_locations:
        return
    ops = Path(found.submodule_search_locations[0], "python", "ops")
    for library in sorted(ops.glob("_*.so")):
        tf.load_op_library(str(library))


def main(export: str, request: str, response: str) -> None:
    sys.meta_path[:] = [Bar(sys.meta_path)]
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import tensorflow as tf

    register_text_ops()
    with open(request, encoding="utf-8") as file:
        asked = json.load(file)
    inputs = {
        name: np.array([base64.b64decode(value) for value in values] + [None], object)[:-1]
        for name, values in asked["inputs"].items()
    }
    count = len(next(iter(inputs.values())))
    v1 = tf.compat.v1
    with v1.Session(graph=tf.Graph()) as session:
        loaded = v1.saved_model.load(session, [v1.saved_model.tag_constants.SERVING], export)
        signature = loaded.signature_def["serving_default"]
        outputs = {name: tensor.name for name, tensor in signature.outputs.items()}

        def ask(start: int, stop: int) -> dict[str, np.ndarray]:
            feed = {signature.inputs[name].name: inputs[name][start:stop] for name in inputs}
            return session.run(outputs, feed)

        size = asked["batch"]
        answers = {
            "batched": [ask(i, min(i + size, count)) for i in range(0, count, size)],
            "singly": [ask(i, i + 1) for i in range(min(asked["singly"], count))],
        }
    present = sorted({name.partition(".")[0] for name in sys.modules} & set(BARRED))
    if present:
        raise SystemExit(f"This process has imported {', '.join(present)}: it proves nothing.")
    arrays = {}
    for way, parts in answers.items():
        for name in outputs:
            value = np.concatenate([part[name] for part in parts])
            arrays[f"{way}/{name}"] = value.astype("S") if value.dtype == object else value
    arrays["tensorflow"] = np.array(tf.__version__)
    np.savez(response, **arrays)  # type: ignore[arg-type]


if __name__ == "__main__":
    main(*sys.argv[1:])
