"""Asks an artifact through TensorFlow's C API: the loader that TensorFlow Serving uses."""

from __future__ import annotations

import importlib.util
import os
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from kerasft.artifact.standalone import text_libraries
from kerasft.errors import UserError

SOURCE = Path(__file__).with_name("loader.c")
COMPILERS = ("cc", "gcc", "clang")
SECONDS = 600


class NotHere(Exception):
    """This machine lacks what the C API is asked with."""


def ask_by_c(
    directory: Path, definitions: Mapping[str, Any],
    calls: Sequence[tuple[str, Mapping[str, np.ndarray]]], *, text: bool,
) -> list[dict[str, np.ndarray]]:
    """Compile a small program against the installed TensorFlow, and let it answer.

    Args:
        directory: The folder of a version.
        definitions: The `SignatureDef` of each signature.
        calls: The name of a signature and its inputs by name, for each call.
        text: Whether TensorFlow Text's ops are needed.

    Returns:
        The outputs of each call by name.

    Raises:
        NotHere: If there is no compiler, or no library to link with.
        UserError: If it does not compile, load or run.
    """
    compiler = next((c for c in COMPILERS if shutil.which(c)), None)
    if compiler is None:
        raise NotHere(f"no C compiler ({', '.join(COMPILERS)})")
    home = _tensorflow()
    libraries = [home / name for name in ("libtensorflow_cc.so.2", "libtensorflow_framework.so.2")]
    if missing := [path.name for path in libraries if not path.is_file()]:
        raise NotHere(f"the installed TensorFlow has no {missing[0]}")
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        program, requests, answers = (place / n for n in ("loader", "requests", "answers"))
        _run("compile", [
            compiler, "-O1", "-o", str(program), str(SOURCE), f"-I{home / 'include'}",
            *map(str, libraries), f"-Wl,-rpath,{home}",
        ])  # fmt: skip
        wanted = _write_requests(requests, definitions, calls)
        more = text_libraries() if text else []
        _run("load and run", [str(program), *map(str, (directory, requests, answers)), *more])
        return _read_answers(answers, wanted)


def _tensorflow() -> Path:
    found = importlib.util.find_spec("tensorflow")
    if found is None or not found.submodule_search_locations:
        raise NotHere("TensorFlow is not installed as a package")
    return Path(next(iter(found.submodule_search_locations)))


def _run(what: str, command: list[str]) -> None:
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    try:
        done = subprocess.run(
            command, capture_output=True, env=environment, timeout=SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        raise UserError(f"The C API did not {what} within {SECONDS} s.") from None
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise UserError(
            f"The C API could not {what} it (exit status {done.returncode}): "
            + " ".join(said[-3:])
        )


def _write_requests(
    path: Path, definitions: Mapping[str, Any],
    calls: Sequence[tuple[str, Mapping[str, np.ndarray]]],
) -> list[list[str]]:
    """Write the calls, and return the names of the outputs of each."""
    wanted = []
    with open(path, "wb") as file:
        file.write(struct.pack("=I", len(calls)))
        for name, inputs in calls:
            definition = definitions[name]
            outputs = sorted(definition.outputs)
            file.write(struct.pack("=II", len(inputs), len(outputs)))
            for key, value in inputs.items():
                _write_name(file, definition.inputs[key].name)
                _write_tensor(file, value, definition.inputs[key].dtype)
            for key in outputs:
                _write_name(file, definition.outputs[key].name)
            wanted.append(outputs)
    return wanted


def _write_name(file: BinaryIO, name: str) -> None:
    file.write(struct.pack("=I", len(name.encode())) + name.encode())


def _write_tensor(file: BinaryIO, value: np.ndarray, dtype: int) -> None:
    array = np.ascontiguousarray(value)
    file.write(struct.pack(f"=II{array.ndim}Q", dtype, array.ndim, *array.shape))
    if array.dtype.kind != "O":
        file.write(struct.pack("=Q", array.nbytes) + array.tobytes())
        return
    texts = [bytes(one) for one in array.ravel().tolist()]
    file.write(struct.pack("=Q", sum(map(len, texts))))
    for text in texts:
        file.write(struct.pack("=Q", len(text)) + text)


def _read_answers(path: Path, wanted: Sequence[Sequence[str]]) -> list[dict[str, np.ndarray]]:
    with open(path, "rb") as file:
        (count,) = struct.unpack("=I", file.read(4))
        assert count == len(wanted)
        answers = []
        for names in wanted:
            file.read(4)
            answers.append({name: _read_tensor(file) for name in names})
    return answers


def _read_tensor(file: BinaryIO) -> np.ndarray:
    import tensorflow as tf

    dtype, dims = struct.unpack("=II", file.read(8))
    shape = struct.unpack(f"={dims}Q", file.read(8 * dims))
    (size,) = struct.unpack("=Q", file.read(8))
    kind = tf.as_dtype(dtype)
    if kind != tf.string:
        return np.frombuffer(file.read(size), kind.as_numpy_dtype).reshape(shape)
    total = int(np.prod(shape, dtype=np.int64))
    made = np.empty(total, object)
    for i in range(total):
        (length,) = struct.unpack("=Q", file.read(8))
        made[i] = file.read(length)
    return made.reshape(shape)
