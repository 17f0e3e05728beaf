"""Tensors out of a file that PyTorch wrote, without PyTorch and without running anything in it.

Such a file is a pickle: a small program that, run by Python's own unpickler, may call any function.
Here it is read by an interpreter that knows only the opcodes that a state dict, a table of tensors,
needs. It calls nothing, whatever the file refers to.
"""

from __future__ import annotations

import io
import math
import pickletools
import zipfile
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from kerasft.errors import UserError, shown
from kerasft.system.enclosure import require_size

# Of a file, and of the tensors in it; the networks that are read from such files have 20 MB.
MOST_BYTES = 2**28
# Opcodes of a pickle; a network of 300 tensors has 11,000.
MOST_OPCODES = 1_000_000
MOST_SIDES = 8
# What a file without a zip archive around it begins with, and the version that follows.
_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001

_DTYPES = {
    "torch FloatStorage": "<f4", "torch DoubleStorage": "<f8", "torch HalfStorage": "<f2",
    "torch LongStorage": "<i8", "torch IntStorage": "<i4",
}  # fmt: skip
_TABLE = "collections OrderedDict"
_TENSOR = "torch._utils _rebuild_tensor_v2"
_PARAMETER = "torch._utils _rebuild_parameter"
_NAMES = frozenset((*_DTYPES, _TABLE, _TENSOR, _PARAMETER))

_VALUES = frozenset(("BINUNICODE", "BININT", "BININT1", "BININT2", "LONG1"))
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


class _Name(NamedTuple):
    """A class or function that the file refers to, and Python's unpickler would import."""

    name: str


class _Storage(NamedTuple):
    """The numbers of one or several tensors, which come later in the file."""

    dtype: str
    key: str
    length: int


class _Tensor(NamedTuple):
    """A view of a storage."""

    storage: _Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


class _Refused(Exception):
    """Why a file is not read, as the end of a sentence."""

    def __init__(self, reason: str = "it holds something else than a state dict"):
        super().__init__(reason)


def read_tensors(file: Path, key: str) -> dict[str, np.ndarray]:
    """Read the tensors of a file that `torch.save(model.state_dict(), file)` wrote.

    Both of PyTorch's formats are read, the zip archive and the plain pickle before it. Nothing in
    the file is run; see `docs/security.md`.

    Args:
        file: The file, of at most 256 MiB.
        key: The config key that names it, for the message.

    Returns:
        An array for each name, in the order of the file.

    Raises:
        UserError: If there is no such file, or it holds anything but a state dict.
    """
    require_size(file, MOST_BYTES)
    try:
        content = file.read_bytes()
    except OSError as error:
        raise UserError(
            f"{key}: {str(file)!r} cannot be read: {error.strerror or error}."
        ) from error
    try:
        table, data = (_zipped if content[:2] == b"PK" else _plain)(content)
        return _arrays(table, data)
    except _Refused as error:
        reason = str(error)
    except (ValueError, TypeError, KeyError, IndexError, EOFError, NotImplementedError,
            RuntimeError, OverflowError, zipfile.BadZipFile, zlib.error):  # fmt: skip
        reason = "it is damaged, cut off, or something else"
    raise UserError(
        f"{key} must be a file that PyTorch wrote with torch.save(model.state_dict(), FILE). "
        f"Received: {str(file)!r}, which is not read: {reason}."
    )


def _plain(content: bytes) -> tuple[Any, dict[str, np.ndarray]]:
    """Read the format before PyTorch 1.6: five pickles, then the storages one after the other."""
    stream = io.BytesIO(content)
    storages: dict[str, _Storage] = {}
    if _unpickled(stream, storages) != _MAGIC or _unpickled(stream, storages) != _PROTOCOL:
        raise _Refused("it begins with something else")
    if _require(_unpickled(stream, storages), dict).get("little_endian") is not True:
        raise _Refused("it was written on a big-endian machine")
    table = _unpickled(stream, storages)
    data = {}
    for key in _require(_unpickled(stream, storages), list):
        storage = storages[key]
        if int.from_bytes(stream.read(8), "little") != storage.length:
            raise _Refused("the length of a storage contradicts its tensors")
        data[key] = np.frombuffer(content, storage.dtype, storage.length, stream.tell())
        stream.seek(data[key].nbytes, io.SEEK_CUR)
    return table, data


def _zipped(content: bytes) -> tuple[Any, dict[str, np.ndarray]]:
    """Read the format since PyTorch 1.6: a zip archive of a pickle and a file for each storage."""
    with zipfile.ZipFile(io.BytesIO(content)) as pack:
        members = {info.filename: info for info in pack.infolist()}
        # PyTorch never packs them: what unpacks to more is no file of its.
        if any(info.compress_type != zipfile.ZIP_STORED for info in members.values()) or (
            sum(info.file_size for info in members.values()) > MOST_BYTES
        ):
            raise _Refused("its members are compressed, or too large")
        (pickle,) = (name for name in members if name.endswith("/data.pkl"))
        root = pickle.removesuffix("data.pkl")
        if f"{root}byteorder" in members and pack.read(f"{root}byteorder") != b"little":
            raise _Refused("it was written on a big-endian machine")
        storages: dict[str, _Storage] = {}
        table = _unpickled(io.BytesIO(pack.read(pickle)), storages)
        data = {
            key: np.frombuffer(pack.read(f"{root}data/{key}"), storage.dtype, storage.length)
            for key, storage in storages.items()
        }
    return table, data


def _unpickled(stream: io.BytesIO, storages: dict[str, _Storage]) -> Any:
    """Return what a pickle describes, and note the storages that it speaks of."""
    stack: list[Any] = []
    marks: list[int] = []
    memo: dict[int, Any] = {}
    given: Any

    def since_mark() -> list[Any]:
        place = marks.pop()
        values = stack[place:]
        del stack[place:]
        return values

    for count, (opcode, given, _) in enumerate(pickletools.genops(stream)):
        name = opcode.name
        if count == MOST_OPCODES:
            raise _Refused("it holds more than a state dict")
        if name in _VALUES:
            stack.append(given)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name in ("BINPUT", "LONG_BINPUT"):
            memo[given] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(memo[given])
        elif name == "MARK":
            marks.append(len(stack))
        elif name == "TUPLE":
            stack.append(tuple(since_mark()))
        elif name in _TUPLES:
            stack[-_TUPLES[name]:] = [tuple(stack[-_TUPLES[name]:])]
        elif name == "EMPTY_DICT":
            stack.append({})
        elif name == "EMPTY_LIST":
            stack.append([])
        elif name in ("SETITEM", "SETITEMS"):
            values = [stack.pop(-2), stack.pop()] if name == "SETITEM" else since_mark()
            _fill(stack[-1], values)
        elif name in ("APPEND", "APPENDS"):
            values = [stack.pop()] if name == "APPEND" else since_mark()
            _require(stack[-1], list).extend(values)
        elif name == "GLOBAL":
            if given not in _NAMES:
                what = shown(given.replace(" ", "."))
                raise _Refused(f"it refers to {what}, and may to tensors only")
            stack.append(_Name(given))
        elif name == "BINPERSID":
            stack.append(_storage(stack.pop(), storages))
        elif name == "REDUCE":
            arguments = _require(stack.pop(), tuple)
            stack.append(_made(_require(stack.pop(), _Name).name, arguments))
        elif name == "BUILD":
            stack.pop()  # the versions of the modules, which a table of PyTorch has besides
            _require(stack[-1], dict)
        elif name == "STOP":
            return stack.pop()
        elif name != "PROTO":
            raise _Refused(f"it has the pickle opcode {name}, which no state dict needs")
    raise _Refused("it is cut off")


def _require(value: Any, kind: Any) -> Any:
    # Exactly: a storage is a tuple as well.
    if type(value) is not kind:
        raise _Refused
    return value


def _fill(table: Any, values: list[Any]) -> None:
    # Only text: the hash of nested tuples may take for ever.
    _require(table, dict).update(
        (_require(name, str), value)
        for name, value in zip(values[::2], values[1::2], strict=True)
    )


def _storage(reference: Any, storages: dict[str, _Storage]) -> _Storage:
    word, kind, key, _, count, *view = _require(reference, tuple)
    name = _require(kind, _Name).name
    if word != "storage" or name not in _DTYPES or any(one is not None for one in view):
        raise _Refused
    found = _Storage(_DTYPES[name], _require(key, str), _natural(count))
    if storages.setdefault(found.key, found) != found:
        raise _Refused("it says different things of one storage")
    return found


def _made(name: str, values: tuple) -> Any:
    """Return what the call of an allowed name stands for."""
    if name == _TABLE and not values:
        return {}
    if name == _PARAMETER:
        return _require(values[0], _Tensor)
    if name != _TENSOR:
        raise _Refused
    storage, offset, size, stride = values[:4]
    # The product of many sides could take for ever.
    if not len(_require(size, tuple)) == len(_require(stride, tuple)) <= MOST_SIDES:
        raise _Refused("a tensor has an impossible shape")
    return _Tensor(
        _require(storage, _Storage), _natural(offset),
        tuple(map(_natural, size)), tuple(map(_natural, stride)),
    )  # fmt: skip


def _natural(value: Any) -> int:
    if _require(value, int) < 0:
        raise _Refused
    return value


def _arrays(table: Any, data: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the tensors as arrays of their own."""
    tensors = {name: _require(one, _Tensor) for name, one in _require(table, dict).items()}
    if not tensors:
        raise _Refused("there are no tensors in it")
    # Tensors may share a storage, and be longer together than the file.
    sizes = (math.prod(one.size) * int(one.storage.dtype[-1]) for one in tensors.values())
    if sum(sizes) > MOST_BYTES:
        raise _Refused("its tensors are too large together")
    return {name: _array(one, data[one.storage.key]) for name, one in tensors.items()}


def _array(tensor: _Tensor, numbers: np.ndarray) -> np.ndarray:
    size, stride = tensor.size, tensor.stride
    last = tensor.offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if 0 in size or last >= len(numbers) or math.prod(size) > len(numbers):
        raise _Refused("a tensor is empty, or larger than its storage")
    view = np.lib.stride_tricks.as_strided(
        numbers[tensor.offset:], size, [step * numbers.itemsize for step in stride]
    )
    return np.array(view, numbers.dtype.newbyteorder("="))
