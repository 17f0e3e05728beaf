"""Files of PyTorch are read as they were written; what is in them besides tensors is not run."""

import functools
import os
import pickle
import pickletools
import zipfile
from collections import OrderedDict
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from torch_files import torch_file

from kerasft.errors import UserError
from kerasft.model import torch_file as module
from kerasft.model.torch_file import read_tensors

RANDOM = np.random.default_rng(0)
TENSORS = {
    "conv.weight": RANDOM.normal(size=(4, 3, 2, 2)).astype("float32"),
    # As the convolutions of a network that came from TensorFlow lie in memory.
    "turned.weight": RANDOM.normal(size=(2, 2, 3, 4)).astype("float32").transpose(3, 2, 0, 1),
    "count": np.array(7, "int64"),
    "half": RANDOM.normal(size=5).astype("float16"),
    "double": RANDOM.normal(size=(2, 3)),
    "whole": np.arange(3, dtype="int32"),
}


def refusal(path):
    with pytest.raises(UserError) as caught:
        read_tensors(Path(path), "backbone.weights")
    said = str(caught.value)
    assert said.startswith("backbone.weights")
    assert "\n" not in said
    return said


@pytest.mark.parametrize("zipped", [False, True], ids=["plain", "zip"])
def test_tensors_come_back_as_they_were(zipped, tmp_path):
    found = read_tensors(torch_file(tmp_path / "w.pth", TENSORS, zipped=zipped), "backbone.weights")
    assert list(found) == list(TENSORS)
    for name, value in TENSORS.items():
        np.testing.assert_array_equal(found[name], value)
        assert (found[name].dtype, found[name].shape) == (value.dtype, value.shape)
        assert found[name].flags.owndata


# --- hostile files -------------------------------------------------------------------------------


class Calls:
    """Calls a function when Python's own unpickler meets it."""

    def __init__(self, function, *given):
        self.call = function, given

    def __reduce__(self):
        return self.call


class Filled:
    """Has a state that is set when Python's own unpickler meets it."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return Filled, (None,), {"state": Calls(Path.touch, self.mark)}


TOUCH = "__import__('pathlib').Path({!r}).touch()"
# Each makes the mark in the hands of `pickle`, by another opcode.
HOSTILE = {
    "a function": lambda mark: pickle.dumps(Calls(os.system, f"touch {mark}"), 2),
    "a later protocol": lambda mark: pickle.dumps(Calls(os.system, f"touch {mark}"), 4),
    "a method": lambda mark: pickle.dumps(Calls(Path.touch, mark), 2),
    "Python's eval": lambda mark: pickle.dumps(Calls(eval, TOUCH.format(str(mark))), 2),
    "a partial": lambda mark: pickle.dumps(Calls(functools.partial(os.system, f"touch {mark}")), 2),
    "a state": lambda mark: pickle.dumps(Filled(mark), 2),
    "a value of a table": lambda mark: pickle.dumps(
        OrderedDict(a=Calls(os.system, f"touch {mark}")), 2),
    "an instance": lambda mark: f"(S'touch {mark}'\nios\nsystem\n.".encode(),
    "an object": lambda mark: f"(cos\nsystem\nS'touch {mark}'\no.".encode(),
    "a table's own call": lambda mark: b"\x80\x02ccollections\nOrderedDict\n(cos\nsystem\nX"
        + len(f"touch {mark}").to_bytes(4, "little") + f"touch {mark}".encode() + b"\x85RtR.",
}  # fmt: skip


@pytest.mark.parametrize("zipped", [False, True], ids=["plain", "zip"])
@pytest.mark.parametrize("kind", HOSTILE)
def test_nothing_in_a_file_is_run(kind, zipped, tmp_path):
    mark = tmp_path / "mark"
    hostile = HOSTILE[kind](mark)
    file = torch_file(tmp_path / "w.pth", TENSORS, zipped=zipped, table=hostile)
    said = refusal(file)
    assert "it refers to" in said or "opcode" in said
    assert not mark.exists()
    # A hostile pickle all alone, without the frame of a file of PyTorch.
    file.write_bytes(hostile)
    refusal(file)
    assert not mark.exists()
    with suppress(TypeError, AttributeError):  # what comes after the call may make no sense
        pickle.loads(hostile)
    assert mark.exists()


@pytest.mark.parametrize("name", [
    "torch._utils _rebuild_tensor", "torch.storage _load_from_bytes", "torch hub.load",
    "torch.jit load", "collections namedtuple", "builtins getattr", "kerasft.run train",
])  # fmt: skip
def test_only_the_names_of_tensors_are_known(name, tmp_path):
    table = b"\x80\x02c" + name.replace(" ", "\n").encode() + b"\n)R."
    said = refusal(torch_file(tmp_path / "w.pth", {}, table=table))
    assert repr(name.replace(" ", ".")) in said


TENSOR = b"\x80\x02}X\x01\0\0\0actorch._utils\n_rebuild_tensor_v2\n("
STORAGE = b"(X\x07\0\0\0storagectorch\nFloatStorage\nX\x03\0\0\x00100X\x03\0\0\0cpu%stQ"
BOMBS = {
    # What Python's unpickler would give 32 GB to.
    "an index of its memory": b"\x80\x02}r\xff\xff\xff\x7f.",
    # Whose hash would take 2^100 steps.
    "a name of nested tuples": b"\x80\x02}))" + 100 * b"\x86q\0h\0" + b"\x86Ns.",
    "endless opcodes": b"\x80\x02" + 20_000 * b"}" + b".",
    "many sides": TENSOR + STORAGE % b"K\x04" + b"K\0(" + 200 * b"K\x02" + b"t("
        + 200 * b"K\0" + b"tNNtRs.",
    "a huge side": TENSOR + STORAGE % b"K\x04" + b"K\0(\x8a\x10" + 15 * b"\xff"
        + b"\x7ft(K\0tNNtRs.",
    "steps backwards": TENSOR + STORAGE % b"K\x04" + b"K\x03(K\x04t(J\xff\xff\xff\xfftNNtRs.",
    "an offset beyond": TENSOR + STORAGE % b"K\x04" + b"K\x09(K\x01t(K\x01tNNtRs.",
    "one number as many": TENSOR + STORAGE % b"K\x04" + b"K\0(J\0\0\0\x10t(K\0tNNtRs.",
    "another length": TENSOR + STORAGE % b"K\x09" + b"K\0(K\x04t(K\x01tNNtRs.",
    "nothing to take": b"\x80\x020.", "no mark": b"\x80\x02t.", "no end": b"\x80\x02}",
    "a table in itself": b"\x80\x02}q\0X\x01\0\0\0ah\0s.",
}  # fmt: skip


@pytest.mark.parametrize("zipped", [False, True], ids=["plain", "zip"])
@pytest.mark.parametrize("kind", BOMBS)
def test_what_grows_beyond_its_file_is_refused(kind, zipped, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "MOST_OPCODES", 15_000)
    refusal(torch_file(tmp_path / "w.pth", {"a": np.zeros(4, "f4")}, zipped=zipped,
                       table=BOMBS[kind]))  # fmt: skip


def test_tensors_that_share_a_storage_are_bounded_together(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "MOST_BYTES", 4000)
    tensor = TENSOR[3:].replace(b"X\x01\0\0\0a", b"X\x01\0\0\0%c") + (
        STORAGE.replace(b"%s", b"K\x64") + b"K\0(K\x64t(K\x01tNNtRs")
    table = b"\x80\x02}" + b"".join(tensor % name for name in b"abcdefghijkl") + b"."
    file = torch_file(tmp_path / "w.pth", {"a": np.zeros(100, "f4")}, table=table)
    assert "too large together" in refusal(file)
    monkeypatch.setattr(module, "MOST_BYTES", 5000)
    assert list(read_tensors(file, "x")) == list("abcdefghijkl")


@pytest.mark.parametrize(("changes", "said"), [
    ({"byteorder": "big"}, "big-endian"),
    ({"byteorder": "big", "zipped": True}, "big-endian"),
    ({"compression": zipfile.ZIP_DEFLATED, "zipped": True}, "compressed"),
    ({"magic": 5}, "begins with something else"),
    ({"table": pickle.dumps({}, 2)}, "no tensors in it"),
    ({"table": pickle.dumps({"a": 1}, 2)}, "something else than a state dict"),
    ({"table": pickle.dumps([1, 2], 2)}, "something else than a state dict"),
])  # fmt: skip
def test_other_files_say_what_they_are(changes, said, tmp_path):
    tensors = {} if "table" in changes else TENSORS
    assert said in refusal(torch_file(tmp_path / "w.pth", tensors, **changes))


def test_what_is_no_such_file(tmp_path):
    file = tmp_path / "w.pth"
    for content in (b"", b"text", b"PK", b"PK\x03\x04" + bytes(60), bytes(100)):
        file.write_bytes(content)
        assert "torch.save(model.state_dict(), FILE)" in refusal(file)
    with pytest.raises(UserError, match="is a device, a pipe or a socket"):
        read_tensors(Path("/dev/zero"), "backbone.weights")
    assert "cannot be read" in refusal(tmp_path)


@pytest.mark.parametrize("zipped", [False, True], ids=["plain", "zip"])
def test_a_damaged_file_is_refused_or_read(zipped, tmp_path):
    """Whichever byte is another one (every third is tried), and wherever the file ends."""
    tensors = {"a": np.arange(4, dtype="f4").reshape(2, 2), "b": np.array(3, "i8")}
    file = torch_file(tmp_path / "w.pth", tensors, zipped=zipped)
    content = file.read_bytes()
    read = 0
    for place in range(0, len(content), 3):
        changed = bytes([content[place] ^ 0x55])
        for damaged in (content[:place], content[:place] + changed + content[place + 1:]):
            file.write_bytes(damaged)
            try:
                found = read_tensors(file, "backbone.weights")
            except UserError:
                continue
            read += 1
            assert all(isinstance(one, np.ndarray) for one in found.values())
    assert 0 < read < len(content)


def test_the_opcodes_are_those_of_protocol_2():
    """A misspelt opcode would never be met."""
    known = {one.name for one in pickletools.opcodes if one.proto <= 2}
    assert {*module._VALUES, *module._CONSTANTS, *module._TUPLES} <= known
