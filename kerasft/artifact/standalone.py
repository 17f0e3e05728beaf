"""Runs a SavedModel as a server does: a script with TensorFlow and NumPy alone.

    python -P replay.py EXPORT REQUESTS ANSWERS

EXPORT is the folder of a SavedModel. REQUESTS is an `.npz` file that `pack` wrote: calls of its
signatures, in order. ANSWERS is the one to write: for each call its outputs, or the error that it
ended with, and the seconds that it took.

It loads the artifact through a session, as the C++ loader does: artifacts are known that load with
`tf.saved_model.load` and fail there. Keras and kerasft are barred from this process, since a server
has neither.
"""

from __future__ import annotations

import gc
import importlib.util
import json
import os
import resource
import sys
import time
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


def text_libraries() -> list[str]:
    """Return the files that hold TensorFlow Text's ops."""
    found = importlib.util.find_spec("tensorflow_text")
    if found is None or not found.submodule_search_locations:
        return []
    return sorted(map(str, Path(found.submodule_search_locations[0], "python/ops").glob("_*.so")))


def register_text_ops() -> None:
    """Register TensorFlow Text's ops, as a server does: its Python package would import Keras."""
    import tensorflow as tf

    for library in text_libraries():
        tf.load_op_library(library)


def pack(path: str | Path, facts: dict, tables: list[dict[str, np.ndarray]]) -> None:
    """Write plain facts and tables of named arrays to an `.npz` file, without pickles.

    Args:
        path: The file.
        facts: Whatever JSON holds.
        tables: Name to array, strings as objects of bytes.
    """
    arrays: dict[str, np.ndarray] = {}
    shapes: list[dict[str, list[int] | None]] = []
    for i, table in enumerate(tables):
        shapes.append({})
        for name, value in table.items():
            array, is_text = np.asarray(value), np.asarray(value).dtype.kind in "OSU"
            shapes[-1][name] = list(array.shape) if is_text else None
            if is_text:
                flat = [v.encode() if isinstance(v, str) else v for v in array.ravel().tolist()]
                arrays[f"{i}/{name}/lengths"] = np.array([len(v) for v in flat], np.int64)
                array = np.frombuffer(b"".join(flat), np.uint8)
            arrays[f"{i}/{name}"] = array
    told = json.dumps({"facts": facts, "tables": shapes}).encode()
    with open(path, "wb") as file:
        np.savez(file, told=np.frombuffer(told, np.uint8), **arrays)  # type: ignore[arg-type]


def unpack(path: str | Path) -> tuple[dict, list[dict[str, np.ndarray]]]:
    """Return what `pack` wrote."""
    # NumPy leaves a file open that it cannot read.
    with open(path, "rb") as opened, np.load(opened, allow_pickle=False) as file:
        told = json.loads(bytes(file["told"]))
        tables: list[dict[str, np.ndarray]] = []
        for i, shapes in enumerate(told["tables"]):
            tables.append({})
            for name, shape in shapes.items():
                array = file[f"{i}/{name}"]
                if shape is not None:
                    array = _texts(bytes(array), file[f"{i}/{name}/lengths"]).reshape(shape)
                tables[-1][name] = array
        return told["facts"], tables


def _texts(data: bytes, lengths: np.ndarray) -> np.ndarray:
    ends = np.cumsum(lengths)
    texts = np.empty(len(lengths), object)
    texts[:] = [data[end - length : end] for end, length in zip(ends, lengths, strict=True)]
    return texts


def main(export: str, requests: str, answers: str) -> None:
    sys.meta_path[:] = [Bar(sys.meta_path)]
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    gc.disable()  # a fifth of the import goes into looks at objects that all stay
    import tensorflow as tf

    gc.enable()
    register_text_ops()
    facts, tables = unpack(requests)
    v1 = tf.compat.v1
    errors, seconds, outputs = [], [], []
    memory = [_memory()]
    began = time.perf_counter()
    with v1.Session(graph=tf.Graph()) as session:
        loaded = v1.saved_model.load(session, [v1.saved_model.tag_constants.SERVING], export)
        load_seconds = time.perf_counter() - began
        memory.append(_memory())
        for name, inputs in zip(facts["signatures"], tables, strict=True):
            if name not in loaded.signature_def:  # asking a message's map for a key would make it
                raise SystemExit(f"It has no signature {name!r}.")
            signature = loaded.signature_def[name]
            fetch = {key: tensor.name for key, tensor in signature.outputs.items()}
            feed = {signature.inputs[key].name: value for key, value in inputs.items()}
            taken = []
            error, made = None, {}
            for _ in range(facts["repeats"]):
                began = time.perf_counter()
                try:
                    made = session.run(fetch, feed)
                except (tf.errors.OpError, ValueError) as raised:
                    error = str(getattr(raised, "message", raised))
                taken.append(time.perf_counter() - began)
            errors.append(error)
            seconds.append(taken)
            outputs.append(made)
    memory.append(_memory())
    present = sorted({name.partition(".")[0] for name in sys.modules} & set(BARRED))
    if present:
        raise SystemExit(f"This process has imported {', '.join(present)}: it proves nothing.")
    pack(answers, {
        "errors": errors, "seconds": seconds, "load_seconds": load_seconds, "memory": memory,
        "tensorflow": tf.__version__,
    }, outputs)  # fmt: skip


def _memory() -> int:
    """Return the bytes that this process holds; the most that it has held where none tells."""
    now = Path("/proc/self/statm")
    if now.exists():
        return int(now.read_text("ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
    size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return size if sys.platform == "darwin" else size * 1024


if __name__ == "__main__":
    main(*sys.argv[1:])
