"""Files as PyTorch writes them, made without PyTorch."""

import io
import pickle
import struct
import sys
import zipfile
from collections import OrderedDict
from types import ModuleType

import numpy as np

KINDS = {"f4": "FloatStorage", "f8": "DoubleStorage", "f2": "HalfStorage", "i8": "LongStorage",
         "i4": "IntStorage"}  # fmt: skip


class Storage:
    """Numbers that the pickle names, and that stand elsewhere in the file."""

    def __init__(self, key, numbers):
        self.key, self.numbers = key, numbers


def torch_file(path, tensors, *, zipped=False, **changes):
    """Write `torch.save(OrderedDict(tensors), path)`, or what `changes` make of it."""
    modules = {name: ModuleType(name) for name in ("torch", "torch._utils")}

    def named(name, module="torch"):
        made = type(name, (), {"__module__": module})
        setattr(modules[module], name, made)
        return made

    rebuild = named("_rebuild_tensor_v2", "torch._utils")
    kinds = {kind: named(name) for kind, name in KINDS.items()}
    storages = []

    class Tensor:
        def __init__(self, array):
            # As PyTorch does: the numbers as they lie, and how to step through them.
            numbers = array.ravel(order="K")
            self.storage = Storage(str(100 + len(storages)), numbers)
            storages.append(self.storage)
            self.stride = tuple(step // array.itemsize for step in array.strides)
            self.size = array.shape

        def __reduce__(self):
            given = (self.storage, 0, self.size, self.stride, False, OrderedDict())
            return rebuild, given

    class Pickler(pickle.Pickler):
        def persistent_id(self, value):
            if not isinstance(value, Storage):
                return None
            kind = kinds[value.numbers.dtype.str[1:]]
            view = () if zipped else (None,)
            return "storage", kind, value.key, "cpu", value.numbers.size, *view

    def pickled(value):
        out = io.BytesIO()
        Pickler(out, 2).dump(value)
        return out.getvalue()

    table = OrderedDict(
        (name, Tensor(one) if isinstance(one, np.ndarray) else one) for name, one in tensors.items()
    )
    # State dicts carry the versions of their modules as an attribute.
    table._metadata = OrderedDict({"": {"version": 1}})
    before = {name: sys.modules.get(name) for name in modules}
    sys.modules.update(modules)
    try:
        table = pickled(table)
    finally:
        for name, module in before.items():
            sys.modules.pop(name) if module is None else sys.modules.update({name: module})
    if zipped:
        with zipfile.ZipFile(path, "w", changes.get("compression", zipfile.ZIP_STORED)) as pack:
            pack.writestr("archive/data.pkl", changes.get("table", table))
            pack.writestr("archive/byteorder", changes.get("byteorder", "little"))
            for storage in storages:
                pack.writestr(f"archive/data/{storage.key}", storage.numbers.tobytes())
            pack.writestr("archive/version", "3\n")
        return path
    system = {"protocol_version": 1001, "little_endian": changes.get("byteorder") != "big"}
    parts = [pickled(changes.get("magic", 0x1950A86A20F9469CFC6C)), pickled(1001), pickled(system),
             changes.get("table", table), pickled([one.key for one in storages])]  # fmt: skip
    for storage in storages:
        parts += [struct.pack("<q", storage.numbers.size), storage.numbers.tobytes()]
    path.write_bytes(b"".join(parts))
    return path
