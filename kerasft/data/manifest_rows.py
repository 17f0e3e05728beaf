"""The rows of a manifest: name, label and fingerprint of each example, in a mapped Arrow file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from json.encoder import encode_basestring, encode_basestring_ascii
from pathlib import Path
from typing import Any

import numpy as np

from kerasft.data.annotations.plain import has_one_class, identified
from kerasft.data.fingerprint import fingerprints, hexed
from kerasft.data.late_columns import LateIds
from kerasft.errors import UserError
from kerasft.spec import Examples, Labels
from kerasft.system.files import written_whole

# Rows that are made or written in one go.
AT_ONCE = 1 << 16
# Under this key the schema names the manifest.
_OF = b"manifest"


class PartRows(Sequence):
    """The rows of a split, `[id, label, fingerprint]` each.

    Args:
        table: A `pyarrow.Table` with the columns `id`, `label` (as JSON) and `fingerprint`.
    """

    def __init__(self, table: Any) -> None:
        self.table = table

    def __len__(self) -> int:
        return self.table.num_rows

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            start, stop, step = index.indices(len(self))
            return list(self._of(self.table.slice(start, max(stop - start, 0))))[::step]
        return next(self._of(self.table.slice(range(len(self))[index], 1)))

    def __iter__(self) -> Iterator[list[Any]]:
        for start in range(0, len(self), AT_ONCE):
            yield from self._of(self.table.slice(start, AT_ONCE))

    def is_of(self, part: Examples, labels: Labels) -> bool:
        """Whether these are the rows of examples, in their order."""
        if len(part) != len(self):
            return False
        return all(
            self.table.slice(start, len(piece)).combine_chunks().equals(piece)
            for start, piece in _pieces(part, labels)
        )

    def digest(self) -> str:
        """Return what `digest_rows` does."""
        together = hashlib.sha256(b"[")
        for number, row in enumerate(self):
            together.update((", " * bool(number) + _json(row, plain=False)).encode())
        together.update(b"]")
        return together.hexdigest()

    @staticmethod
    def _of(table: Any) -> Iterator[list[Any]]:
        read: dict[str, Any] = {}
        columns = (table[name].to_pylist() for name in ("id", "label", "fingerprint"))
        for name, label, digest in zip(*columns, strict=True):
            # Lists and dicts are read anew each time: nobody shares them.
            value = read.get(label)
            if value is None:
                value = json.loads(label)
                if isinstance(value, str):
                    read[label] = value
            yield [name, value, digest.hex()]


def write_rows(parts: Mapping[str, Examples], labels: Labels, path: Path, *, of: str) -> None:
    """Write the rows of all splits into an Arrow file, one split behind the other.

    Args:
        parts: The splits.
        labels: What their labels mean.
        path: The file.
        of: Which manifest they belong to.
    """
    import pyarrow as pa

    with written_whole(path) as part, pa.OSFile(str(part), "wb") as file:
        writer = None
        for one in parts.values():
            for _, table in _pieces(one, labels):
                writer = writer or pa.ipc.new_file(file, table.schema.with_metadata({_OF: of}))
                writer.write_table(table)
        if writer is not None:
            writer.close()


def belongs_to(path: Path) -> str:
    """Return which manifest the rows in a file belong to; `""` where it does not say."""
    import pyarrow as pa

    try:
        with pa.memory_map(str(path)) as file:
            metadata = pa.ipc.open_file(file).schema.metadata or {}
    except (pa.ArrowException, OSError):  # told where it is read
        return ""
    return metadata.get(_OF, b"").decode("ascii", "replace")


def read_rows(path: Path, counts: Mapping[str, int]) -> dict[str, PartRows]:
    """Return the rows of each split; they are read from the disk as they are looked at.

    Args:
        path: What `write_rows` wrote.
        counts: How many each split has.

    Raises:
        UserError: If it is missing or damaged.
    """
    import pyarrow as pa

    if not path.is_file():
        raise UserError(f"The file {str(path)!r} is missing: the run folder is not whole.")
    try:
        table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
        table.validate(full=True)
        wrong = [n for n in ("id", "label", "fingerprint") if n not in table.column_names]
        if wrong or table.num_rows != sum(counts.values()):
            raise ValueError(
                f"it lacks {', '.join(wrong)}" if wrong else
                f"it has {table.num_rows:,} rows and should have {sum(counts.values()):,}"
            )
    except (pa.ArrowException, OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"The file {str(path)!r} is damaged: {reason}.") from error
    made, start = {}, 0
    for name, count in counts.items():
        made[name] = PartRows(table.slice(start, count))
        start += count
    return made


def digest_rows(
    part: Examples, labels: Labels, order: Sequence[int] | np.ndarray | None = None, *,
    plain: bool = False,
) -> str:
    """Return the SHA-256 of the rows of a split, written as JSON.

    Args:
        part: The split.
        labels: What its labels mean.
        order: The order of the rows; by default that of the split.
        plain: Whether characters beyond ASCII are written as they are.
    """
    together = hashlib.sha256(b"[")
    numbers = range(len(part)) if order is None else order
    written = encode_basestring if plain else encode_basestring_ascii
    ids: Any = part.ids
    if order is not None and not isinstance(ids, LateIds):
        ids = list(ids)
    spelled = _spelled(part, labels, plain=plain)
    digests = fingerprints(part)
    for start in range(0, len(numbers), AT_ONCE):
        rows = np.asarray(numbers[start : start + AT_ONCE])
        if order is None:
            here = ids[start : start + AT_ONCE]
        else:
            here = ids.at(rows) if isinstance(ids, LateIds) else [ids[i] for i in rows.tolist()]
        names = map(written, here)
        lines = [f'[{name}, {label}, "{digest}"]' for name, label, digest in zip(
            names, spelled(rows), hexed(digests[rows]), strict=True)]  # fmt: skip
        together.update((", " * bool(start) + ", ".join(lines)).encode())
    together.update(b"]")
    return together.hexdigest()


def _spelled(part: Examples, labels: Labels, *, plain: bool) -> Any:
    """Return a function from rows to their labels as JSON."""
    if has_one_class(part, labels):
        names = [_json(name, plain=plain) for name in labels.names]
        codes = part.labels
        return lambda rows: [names[i] for i in codes[rows].tolist()]
    found = [_json(one, plain=plain) for one in identified(part, labels)]
    return lambda rows: [found[i] for i in rows.tolist()]


def _pieces(part: Examples, labels: Labels) -> Iterator[tuple[int, Any]]:
    """Return the first row and the `pyarrow.Table` of each piece of a split."""
    import pyarrow as pa

    spelled = None if has_one_class(part, labels) else _spelled(part, labels, plain=True)
    names = pa.array([_json(name, plain=True) for name in labels.names], pa.string())
    digests = np.ascontiguousarray(fingerprints(part))
    for start in range(0, len(part), AT_ONCE):
        rows = np.arange(start, min(start + AT_ONCE, len(part)))
        if spelled is None:
            label = pa.DictionaryArray.from_arrays(part.labels[rows].astype("int32"), names)
        else:
            label = pa.array(spelled(rows), pa.string())
        digest = pa.FixedSizeBinaryArray.from_buffers(
            pa.binary(32), len(rows), [None, pa.py_buffer(digests[rows].tobytes())]
        )
        ids = pa.array(part.ids[start : start + AT_ONCE], pa.string())
        yield start, pa.table({"id": ids, "label": label, "fingerprint": digest})


def _json(value: object, *, plain: bool = True) -> str:
    return json.dumps(value, ensure_ascii=not plain, allow_nan=False)
